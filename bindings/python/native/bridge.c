/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* dladdr */
#include "bridge.h"
#include "pool.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static __thread char message[768];

const char *slb_message(void) {
	return message;
}

const char *slb_library_path(void) {
	Dl_info info;
	return dladdr((const void *)(uintptr_t)sl_version_string, &info) && info.dli_fname ? info.dli_fname : "";
}

static sl_status fail(sl_status status, const char *format, ...) {
	va_list list;
	va_start(list, format);
	vsnprintf(message, sizeof message, format, list);
	va_end(list);
	return status;
}

struct slb_runtime {
	sl_context *context;
	pthread_mutex_t lock;
	int references; /* the creator's and one a function; under `table` */
	slb_pool *pool;
	void *openmp;
	void (*gomp_parallel)(void (*work)(void *), void *data, unsigned threads, unsigned flags);
	int threads;
};

/* OpenMP's threads as the context's. GOMP_parallel() is what compilers emit calls of; libgomp has it, and LLVM's and
 * Intel's runtimes too. */
typedef struct openmp_job {
	size_t count, next; /* next: atomic */
	void (*task)(void *argument, size_t index);
	void *argument;
} openmp_job;

static void openmp_work(void *data) {
	openmp_job *job = data;
	for (;;) {
		size_t i = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
		if (i >= job->count)
			return;
		job->task(job->argument, i);
	}
}

static void openmp_run(void *user, size_t count, void (*task)(void *argument, size_t index), void *argument) {
	slb_runtime *r = user;
	openmp_job job = {count, 0, task, argument};
	r->gomp_parallel(openmp_work, &job, (unsigned)r->threads, 0);
}

static int threads_of(int threads) {
	if (threads > 0)
		return threads;
	sl_context *context; /* asks the library how many cores this process may use */
	if (sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU}) != SL_OK)
		return 1;
	threads = sl_context_threads(context);
	sl_context_destroy(context);
	return threads;
}

static sl_status use_pool(slb_runtime *r, int threads, sl_context_options *options) {
	threads = threads_of(threads);
	r->pool = slb_pool_create(threads);
	if (!r->pool)
		return fail(SL_ERR_MEMORY, "no memory for threads");
	options->parallel_for = (sl_parallel_for){r->pool, threads, slb_pool_run};
	return SL_OK;
}

static sl_status use_openmp(slb_runtime *r, const char *path, int threads, sl_context_options *options) {
	r->openmp = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
	if (!r->openmp)
		return fail(SL_ERR_NOT_FOUND, "the OpenMP runtime %s is not loaded in this process", path);
	*(void **)&r->gomp_parallel = dlsym(r->openmp, "GOMP_parallel");
	if (!r->gomp_parallel)
		return fail(SL_ERR_NOT_FOUND, "%s has no GOMP_parallel", path);
	r->threads = threads_of(threads);
	options->parallel_for = (sl_parallel_for){r, r->threads, openmp_run};
	return SL_OK;
}

static void free_runtime(slb_runtime *r) {
	sl_context_destroy(r->context);
	slb_pool_destroy(r->pool);
	if (r->openmp)
		dlclose(r->openmp);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

sl_status slb_runtime_create(slb_runtime **runtime, sl_device device, int device_index, int threads, uint64_t seed,
							 const char *openmp) {
	*runtime = NULL;
	slb_runtime *r = calloc(1, sizeof *r);
	if (!r)
		return fail(SL_ERR_MEMORY, "no memory for a runtime");
	slb_unlock_in_child(r);
	r->references = 1;
	sl_context_options options = {SL_CONTEXT_DEFAULTS,         .device = device, .device_index = device_index,
								  .threads = threads,          .seed = seed,     .error = message,
								  .error_size = sizeof message};
	sl_status status = openmp ? use_openmp(r, openmp, threads, &options) : use_pool(r, threads, &options);
	if (status == SL_OK)
		status = sl_context_create(&r->context, &options);
	if (status != SL_OK) {
		free_runtime(r);
		return status;
	}
	*runtime = r;
	return SL_OK;
}

void slb_unlock_in_child(slb_runtime *runtime) {
	pthread_mutexattr_t recursive;
	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&runtime->lock, &recursive);
	pthread_mutexattr_destroy(&recursive);
}

sl_context *slb_runtime_context(slb_runtime *runtime) {
	return runtime->context;
}

void slb_lock(slb_runtime *runtime) {
	pthread_mutex_lock(&runtime->lock);
}

void slb_unlock(slb_runtime *runtime) {
	pthread_mutex_unlock(&runtime->lock);
}

/* The functions of the process. */
typedef struct slb_function {
	int64_t number;
	slb_runtime *runtime;
	sl_function *function;
	slb_shape shape;
	sl_activation activation;
	int64_t chunk;
	bool capture;
	void *captured; /* X, Y, dY one after the other */
	int64_t captured_batch;
	int users; /* calls in progress; under `table` */
	bool dropped;
} slb_function;

enum { SLOTS_MIN = 64 };
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;
static slb_function **slots; /* by number % count */
static size_t slot_count;
static int64_t last_number;

static slb_function *find(int64_t number) {
	if (!slot_count || number < 1)
		return NULL;
	slb_function *f = slots[(size_t)number % slot_count];
	return f && f->number == number ? f : NULL;
}

/* Room for the next number: grow until its slot is free. Live functions are few, numbers are not. */
static bool make_room(int64_t number) {
	size_t count = slot_count ? slot_count : SLOTS_MIN;
	for (;; count *= 2) {
		slb_function **bigger = calloc(count, sizeof *bigger);
		if (!bigger)
			return false;
		bool clash = false;
		for (size_t i = 0; i < slot_count && !clash; i++) {
			if (!slots[i])
				continue;
			size_t at = (size_t)slots[i]->number % count;
			clash = bigger[at] != NULL;
			bigger[at] = slots[i];
		}
		if (clash || bigger[(size_t)number % count]) {
			free(bigger);
			continue;
		}
		free(slots);
		slots = bigger;
		slot_count = count;
		return true;
	}
}

static void drop_runtime(slb_runtime *r) {
	pthread_mutex_lock(&table);
	bool last = --r->references == 0;
	pthread_mutex_unlock(&table);
	if (last)
		free_runtime(r);
}

void slb_runtime_destroy(slb_runtime *runtime) {
	if (runtime)
		drop_runtime(runtime);
}

static void free_function(slb_function *f) {
	slb_lock(f->runtime);
	sl_function_destroy(f->function);
	free(f->captured);
	slb_unlock(f->runtime);
	drop_runtime(f->runtime);
	free(f);
}

static slb_function *enter(int64_t number) {
	pthread_mutex_lock(&table);
	slb_function *f = find(number);
	if (f)
		f->users++;
	pthread_mutex_unlock(&table);
	if (!f) {
		fail(SL_ERR_STATE,
			 "function %lld does not exist (any more): the layer it belongs to was freed, or it belongs to "
			 "another process",
			 (long long)number);
		return NULL;
	}
	slb_lock(f->runtime);
	return f;
}

static sl_status leave(slb_function *f, sl_status status) {
	if (status != SL_OK)
		fail(status, "%s", sl_context_message(f->runtime->context));
	slb_unlock(f->runtime);
	pthread_mutex_lock(&table);
	bool last = --f->users == 0 && f->dropped;
	pthread_mutex_unlock(&table);
	if (last)
		free_function(f);
	return status;
}

static void note_pattern(slb_function *f, sl_pattern *pattern) {
	sl_pattern_arrays a;
	if (sl_pattern_get(f->runtime->context, pattern, &a) != SL_OK)
		return;
	f->shape.in_features = a.cols;
	f->shape.out_features = a.rows;
	f->shape.nnz = a.nnz;
}

sl_status slb_function_create(int64_t *number, slb_runtime *runtime, sl_pattern *pattern, int bias,
							  sl_activation activation, double parameter, sl_dtype dtype, int64_t chunk) {
	*number = 0;
	slb_function *f = calloc(1, sizeof *f);
	if (!f)
		return fail(SL_ERR_MEMORY, "no memory for a function");
	*f = (slb_function){.runtime = runtime, .activation = activation, .chunk = chunk};
	f->shape.bias = bias != 0;
	f->shape.dtype = dtype;
	slb_lock(runtime);
	sl_function_options options = {SL_FUNCTION_DEFAULTS,
								   .pattern = pattern,
								   .bias = bias != 0,
								   .activation = activation,
								   .activation_parameter = parameter,
								   .dtype = dtype};
	sl_status status = sl_function_create(&f->function, runtime->context, &options);
	if (status == SL_OK)
		note_pattern(f, pattern);
	else
		fail(status, "%s", sl_context_message(runtime->context));
	slb_unlock(runtime);
	if (status != SL_OK) {
		free(f);
		return status;
	}
	pthread_mutex_lock(&table);
	f->number = last_number + 1;
	bool room = slot_count && !slots[(size_t)f->number % slot_count];
	if (room || make_room(f->number)) {
		slots[(size_t)f->number % slot_count] = f;
		runtime->references++;
		*number = last_number = f->number;
	}
	pthread_mutex_unlock(&table);
	if (*number)
		return SL_OK;
	sl_function_destroy(f->function);
	free(f);
	return fail(SL_ERR_MEMORY, "no memory for the table of functions");
}

void slb_function_destroy(int64_t number) {
	pthread_mutex_lock(&table);
	slb_function *f = find(number);
	bool free_now = false;
	if (f) {
		slots[(size_t)number % slot_count] = NULL;
		f->dropped = true;
		free_now = f->users == 0;
	}
	pthread_mutex_unlock(&table);
	if (free_now)
		free_function(f);
}

sl_status slb_function_set_pattern(int64_t number, sl_pattern *pattern) {
	slb_function *f = enter(number);
	if (!f)
		return SL_ERR_STATE;
	sl_status status = sl_function_set_pattern(f->runtime->context, f->function, pattern);
	if (status == SL_OK)
		note_pattern(f, pattern);
	return leave(f, status);
}

sl_status slb_function_shape(int64_t number, slb_shape *shape) {
	slb_function *f = enter(number);
	if (!f)
		return SL_ERR_STATE;
	*shape = f->shape;
	return leave(f, SL_OK);
}

static sl_dense view(const slb_function *f, const void *data, int64_t rows, int64_t cols, int64_t ld) {
	sl_dense v = sl_dense_view(data, f->shape.dtype, rows, cols);
	v.device = sl_context_device(f->runtime->context);
	if (ld > 0)
		v.ld = ld;
	return v;
}

static const void *at_row(const slb_function *f, const void *data, int64_t row, int64_t ld) {
	return data ? (const char *)data + (size_t)(row * ld) * sl_dtype_size(f->shape.dtype) : NULL;
}

static int64_t step_of(const slb_function *f, int64_t batch) {
	return f->chunk > 0 && f->chunk < batch ? f->chunk : batch > 0 ? batch : 1;
}

sl_status slb_kept_bytes(int64_t number, int64_t batch, int64_t *bytes) {
	slb_function *f = enter(number);
	size_t size = 0;
	if (!f)
		return SL_ERR_STATE;
	sl_status status = f->chunk > 0 ? SL_OK : sl_function_kept_bytes(f->runtime->context, f->function, batch, &size);
	*bytes = (int64_t)size;
	return leave(f, status);
}

sl_status slb_forward(int64_t number, int64_t batch, const void *x, int64_t ldx, const void *values, const void *bias,
					  void *y, int64_t ldy, void *kept) {
	slb_function *f = enter(number);
	if (!f)
		return SL_ERR_STATE;
	int64_t in = f->shape.in_features, out = f->shape.out_features, step = step_of(f, batch);
	ldx = ldx > 0 ? ldx : in;
	ldy = ldy > 0 ? ldy : out;
	sl_status status = SL_OK;
	for (int64_t row = 0; status == SL_OK && row < batch; row += step) {
		int64_t rows = batch - row < step ? batch - row : step;
		sl_dense X = view(f, at_row(f, x, row, ldx), rows, in, ldx);
		sl_dense Y = view(f, at_row(f, y, row, ldy), rows, out, ldy);
		status =
			sl_function_forward(f->runtime->context, f->function, values, bias, &X, &Y, f->chunk > 0 ? NULL : kept);
	}
	return leave(f, status);
}

static size_t captured_elements(const slb_function *f, int64_t batch, int part) {
	return (size_t)batch * (size_t)(part ? f->shape.out_features : f->shape.in_features);
}

/* [batch, features] row-major out of a view, or, where it has no data, out of what the forward kept at `panels`. */
static sl_status copy_out(slb_function *f, void *to, const sl_dense *from, const char *panels, int64_t width) {
	sl_dense out = view(f, to, from->rows, from->cols, 0), in = *from;
	if (!in.data) {
		in.data = (void *)panels;
		in.order = SL_ROW_PANELS;
		in.ld = width;
	}
	return in.data ? sl_dense_copy(f->runtime->context, &in, &out) : SL_OK;
}

/* A failure to capture is not one of the backward: there is nothing to be had then. */
static void capture(slb_function *f, const void *kept, sl_dense *X, sl_dense *Y, const sl_dense *dY) {
	size_t size = sl_dtype_size(f->shape.dtype), x = captured_elements(f, X->rows, 0) * size;
	size_t y = captured_elements(f, X->rows, 1) * size, input = 0;
	int64_t width = 0;
	f->capture = false;
	free(f->captured);
	f->captured_batch = X->rows;
	f->captured = calloc(1, x + 2 * y + 1);
	if (!f->captured)
		return;
	if (kept) {
		X->data = Y->data = NULL;
		if (sl_function_kept_layout(f->runtime->context, f->function, X->rows, &width, &input) != SL_OK)
			return;
	}
	char *to = f->captured;
	bool fused = f->activation != SL_IDENTITY;
	if (copy_out(f, to, X, kept, width) != SL_OK ||
		(fused && copy_out(f, to + x, Y, kept ? (const char *)kept + input : NULL, width) != SL_OK) ||
		copy_out(f, to + x + y, dY, NULL, 0) != SL_OK) {
		free(f->captured);
		f->captured = NULL;
	}
}

sl_status slb_capture(int64_t number, int on) {
	slb_function *f = enter(number);
	if (!f)
		return SL_ERR_STATE;
	f->capture = on != 0;
	free(f->captured);
	f->captured = NULL;
	return leave(f, SL_OK);
}

sl_status slb_captured(int64_t number, int64_t *batch, const void **x, const void **y, const void **dy) {
	slb_function *f = enter(number);
	if (!f)
		return SL_ERR_STATE;
	size_t size = sl_dtype_size(f->shape.dtype);
	const char *at = f->captured;
	*batch = f->captured_batch;
	*x = at;
	*y = at ? at + captured_elements(f, *batch, 0) * size : NULL;
	*dy = at ? (const char *)*y + captured_elements(f, *batch, 1) * size : NULL;
	return leave(f, SL_OK);
}

sl_status slb_backward(int64_t number, int64_t batch, const void *x, int64_t ldx, const void *y, const void *kept,
					   const void *dy, int64_t lddy, const void *values, void *dx, void *dvalues, int64_t values_count,
					   void *dbias) {
	slb_function *f = enter(number);
	if (!f)
		return SL_ERR_STATE;
	int64_t in = f->shape.in_features, out = f->shape.out_features, step = step_of(f, batch);
	size_t size = sl_dtype_size(f->shape.dtype);
	ldx = ldx > 0 ? ldx : in;
	lddy = lddy > 0 ? lddy : out;
	if (dvalues && values_count > f->shape.nnz)
		memset((char *)dvalues + (size_t)f->shape.nnz * size, 0, (size_t)(values_count - f->shape.nnz) * size);
	sl_status status = SL_OK;
	int64_t row = 0;
	do { /* a batch of no rows has gradients too: zeros */
		int64_t rows = batch - row < step ? batch - row : step;
		sl_dense X = view(f, at_row(f, x, row, ldx), rows, in, ldx), Y = view(f, at_row(f, y, row, out), rows, out, 0);
		sl_dense dY = view(f, at_row(f, dy, row, lddy), rows, out, lddy),
				 dX = view(f, at_row(f, dx, row, in), rows, in, 0);
		sl_function_gradients g = {SL_FUNCTION_GRADIENTS,
								   .values = values,
								   .X = &X,
								   .Y = &Y,
								   .kept = f->chunk > 0 ? NULL : kept,
								   .dY = &dY,
								   .dX = dx ? &dX : NULL,
								   .value_gradient = dvalues,
								   .bias_gradient = dbias,
								   .write = row ? SL_ACCUMULATE : SL_OVERWRITE};
		status = sl_function_backward(f->runtime->context, f->function, &g);
		if (f->capture && status == SL_OK)
			capture(f, kept, &X, &Y, &dY);
		row += step;
	} while (status == SL_OK && row < batch);
	return leave(f, status);
}
