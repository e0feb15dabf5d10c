/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* dladdr */
#include "inside.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>

static __thread char message[768];

const char *slb_message(void) {
	return message;
}

const char *slb_library_path(void) {
	Dl_info info;
	return dladdr((const void *)(uintptr_t)sl_version_string, &info) && info.dli_fname ? info.dli_fname : "";
}

sl_status slb_fail(sl_status status, const char *format, ...) {
	va_list list;
	va_start(list, format);
	vsnprintf(message, sizeof message, format, list);
	va_end(list);
	return status;
}

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
		return slb_fail(SL_ERR_MEMORY, "no memory for threads");
	options->parallel_for = (sl_parallel_for){r->pool, threads, slb_pool_run};
	return SL_OK;
}

static sl_status use_openmp(slb_runtime *r, const char *path, int threads, sl_context_options *options) {
	r->openmp = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
	if (!r->openmp)
		return slb_fail(SL_ERR_NOT_FOUND, "the OpenMP runtime %s is not loaded in this process", path);
	*(void **)&r->gomp_parallel = dlsym(r->openmp, "GOMP_parallel");
	if (!r->gomp_parallel)
		return slb_fail(SL_ERR_NOT_FOUND, "%s has no GOMP_parallel", path);
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
		return slb_fail(SL_ERR_MEMORY, "no memory for a runtime");
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
	free(f->scratch);
	slb_unlock(f->runtime);
	drop_runtime(f->runtime);
	free(f);
}

slb_function *slb_enter(int64_t number) {
	pthread_mutex_lock(&table);
	slb_function *f = find(number);
	if (f)
		f->users++;
	pthread_mutex_unlock(&table);
	if (!f) {
		slb_fail(SL_ERR_STATE,
				 "function %lld does not exist (any more): the layer it belongs to was freed, or it belongs to "
				 "another process",
				 (long long)number);
		return NULL;
	}
	slb_lock(f->runtime);
	return f;
}

sl_status slb_leave(slb_function *f, sl_status status) {
	if (status != SL_OK)
		slb_fail(status, "%s", sl_context_message(f->runtime->context));
	return slb_abandon(f, status);
}

sl_status slb_abandon(slb_function *f, sl_status status) {
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
		return slb_fail(SL_ERR_MEMORY, "no memory for a function");
	*f = (slb_function){.runtime = runtime, .activation = activation, .chunk = chunk};
	f->shape.bias = bias != 0;
	f->shape.dtype = dtype;
	f->shape.value_dtype = dtype == SL_F64 ? SL_F64 : SL_F32;
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
		slb_fail(status, "%s", sl_context_message(runtime->context));
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
	return slb_fail(SL_ERR_MEMORY, "no memory for the table of functions");
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
	slb_function *f = slb_enter(number);
	if (!f)
		return SL_ERR_STATE;
	sl_status status = sl_function_set_pattern(f->runtime->context, f->function, pattern);
	if (status == SL_OK)
		note_pattern(f, pattern);
	return slb_leave(f, status);
}

sl_status slb_function_shape(int64_t number, slb_shape *shape) {
	slb_function *f = slb_enter(number);
	if (!f)
		return SL_ERR_STATE;
	*shape = f->shape;
	return slb_leave(f, SL_OK);
}
