/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bridge from C, as the frameworks' handlers call it: products and gradients of dense and sparse batches against
 * sums in double, what edits give, what errors say, and calls of many threads while functions come and go. Under the
 * sanitizers' presets this is the run that no Python can disturb.
 */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bridge.h"

static int faults;

#define CHECK(condition)                                                                                               \
	do {                                                                                                               \
		if (!(condition)) {                                                                                            \
			printf("%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, slb_message());                                 \
			__atomic_fetch_add(&faults, 1, __ATOMIC_RELAXED);                                                          \
		}                                                                                                              \
	} while (0)

static uint64_t seed = 1;

static double draw(void) { /* in [-1, 1) */
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (double)(int64_t)(seed >> 11 << 11) * 0x1p-63;
}

static double get(const void *data, sl_dtype dtype, int64_t i) {
	if (dtype == SL_F64)
		return ((const double *)data)[i];
	if (dtype == SL_F32)
		return ((const float *)data)[i];
	uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16; /* bf16 */
	float f;
	memcpy(&f, &bits, sizeof f);
	return f;
}

static void put(void *data, sl_dtype dtype, int64_t i, double value) {
	float f = (float)value;
	uint32_t bits;
	memcpy(&bits, &f, sizeof bits);
	if (dtype == SL_F64)
		((double *)data)[i] = value;
	else if (dtype == SL_F32)
		((float *)data)[i] = f;
	else
		((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
}

static void *room(int64_t count, sl_dtype dtype, bool random) {
	size_t bytes = ((size_t)count * sl_dtype_size(dtype) + 127) / 64 * 64;
	char *data = aligned_alloc(64, bytes);
	memset(data, 0xa5, bytes); /* results are written, not added to */
	for (int64_t i = 0; random && i < count; i++)
		put(data, dtype, i, draw());
	return data;
}

/* A layer of random weights, its batch and its results. */
typedef struct layer {
	int64_t number, in, out, nnz, batch;
	sl_dtype dtype, value_dtype;
	sl_pattern *pattern;
	sl_pattern_arrays a;
	void *x, *values, *bias, *y, *dy, *dx, *dvalues, *dbias, *kept;
} layer;

enum { TAIL = 5 }; /* elements of the values' vector behind the pattern's */

static layer make(slb_runtime *runtime, int64_t out, int64_t in, double density, int64_t batch, sl_dtype dtype,
				  int64_t chunk) {
	layer l = {.in = in, .out = out, .batch = batch, .dtype = dtype, .value_dtype = dtype == SL_F64 ? SL_F64 : SL_F32};
	sl_context *context = slb_runtime_context(runtime);
	slb_lock(runtime);
	CHECK(sl_pattern_random(&l.pattern, context, out, in, density, 7) == SL_OK);
	CHECK(sl_pattern_get(context, l.pattern, &l.a) == SL_OK);
	slb_unlock(runtime);
	l.nnz = l.a.nnz;
	CHECK(slb_function_create(&l.number, runtime, l.pattern, 1, SL_RELU, 0, dtype, chunk) == SL_OK);
	l.x = room(batch * in, dtype, true);
	l.values = room(l.nnz + TAIL, l.value_dtype, true);
	l.bias = room(out, l.value_dtype, true);
	l.y = room(batch * out, dtype, false);
	l.dy = room(batch * out, dtype, true);
	l.dx = room(batch * in, dtype, false);
	l.dvalues = room(l.nnz + TAIL, l.value_dtype, false);
	l.dbias = room(out, l.value_dtype, false);
	int64_t bytes = -1;
	CHECK(slb_kept_bytes(l.number, batch, &bytes) == SL_OK && bytes >= 0 && (!chunk || !bytes));
	l.kept = bytes ? room((bytes + 7) / 8, SL_F64, false) : NULL;
	return l;
}

static void drop(layer *l) {
	slb_function_destroy(l->number);
	sl_pattern_release(l->pattern);
	void *all[] = {l->x, l->values, l->bias, l->y, l->dy, l->dx, l->dvalues, l->dbias, l->kept};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
}

static int64_t row_end(const layer *l, int64_t row) {
	return l->a.offset_dtype == SL_I64 ? ((const int64_t *)l->a.row_offsets)[row]
									   : ((const int32_t *)l->a.row_offsets)[row];
}

static bool within(const layer *l, double got, double want, double size, int64_t terms) {
	double eps = l->dtype == SL_F64 ? 0x1p-53 : 0x1p-24;
	return fabs(got - want) <= (double)(terms + 8) * eps * size + (l->dtype == SL_BF16 ? 4 * 0x1p-8 * size : 0);
}

static void check_forward(const layer *l) {
	for (int64_t r = 0; r < l->batch; r++)
		for (int64_t o = 0; o < l->out; o++) {
			double sum = get(l->bias, l->value_dtype, o), size = fabs(sum);
			for (int64_t k = row_end(l, o); k < row_end(l, o + 1); k++) {
				double term = get(l->values, l->value_dtype, k) * get(l->x, l->dtype, r * l->in + l->a.col_indices[k]);
				sum += term;
				size += fabs(term);
			}
			CHECK(within(l, get(l->y, l->dtype, r * l->out + o), sum > 0 ? sum : 0, size, l->in));
		}
}

/* dZ: what relu lets through, as its output says. */
static double slope(const layer *l, int64_t r, int64_t o) {
	return get(l->y, l->dtype, r * l->out + o) > 0 ? get(l->dy, l->dtype, r * l->out + o) : 0;
}

static void check_backward(const layer *l, bool dense) {
	double *dx = calloc((size_t)(l->batch * l->in + 1), sizeof *dx),
		   *size = calloc((size_t)(l->batch * l->in + 1), sizeof *size);
	for (int64_t o = 0; o < l->out; o++) {
		double sum = 0, sizes = 0;
		for (int64_t r = 0; r < l->batch; r++) {
			sum += slope(l, r, o);
			sizes += fabs(slope(l, r, o));
		}
		CHECK(within(l, get(l->dbias, l->value_dtype, o), sum, sizes, l->batch));
		for (int64_t k = row_end(l, o); k < row_end(l, o + 1); k++) {
			sum = sizes = 0;
			for (int64_t r = 0; r < l->batch; r++) {
				int64_t cell = r * l->in + l->a.col_indices[k];
				double dz = slope(l, r, o), term = dz * get(l->x, l->dtype, cell),
					   down = dz * get(l->values, l->value_dtype, k);
				sum += term;
				sizes += fabs(term);
				dx[cell] += down;
				size[cell] += fabs(down);
			}
			CHECK(within(l, get(l->dvalues, l->value_dtype, k), sum, sizes, l->batch));
		}
	}
	for (int64_t i = 0; i < TAIL; i++)
		CHECK(get(l->dvalues, l->value_dtype, l->nnz + i) == 0);
	for (int64_t i = 0; dense && i < l->batch * l->in; i++)
		CHECK(within(l, get(l->dx, l->dtype, i), dx[i], size[i], l->out));
	free(dx);
	free(size);
}

static sl_status forward(const layer *l) {
	return slb_forward(l->number, l->batch, l->x, 0, l->values, l->bias, l->y, 0, l->kept);
}

/* `from_kept`: without x and y, as the forward's copies stand for them. */
static sl_status backward(const layer *l, bool from_kept) {
	return slb_backward(l->number, l->batch, from_kept ? NULL : l->x, 0, from_kept ? NULL : l->y,
						from_kept ? l->kept : NULL, l->dy, 0, l->values, l->dx, l->dvalues, l->nnz + TAIL, l->dbias);
}

static void test_dense(slb_runtime *runtime) {
	static const int64_t batches[] = {0, 1, 5, 64, 70};
	static const sl_dtype dtypes[] = {SL_F32, SL_F64, SL_BF16};
	for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++)
		for (size_t b = 0; b < sizeof batches / sizeof *batches; b++)
			for (int64_t chunk = 0; chunk <= 7; chunk += 7) {
				layer l = make(runtime, 33, 41, 0.3, batches[b], dtypes[d], chunk);
				CHECK(forward(&l) == SL_OK);
				check_forward(&l);
				CHECK(backward(&l, false) == SL_OK);
				check_backward(&l, true);
				if (l.kept) {
					CHECK(backward(&l, true) == SL_OK);
					check_backward(&l, true);
				}
				drop(&l);
			}
}

/* The entries of l.x as COO in an order of their own, with padding; returns how many. */
static int64_t list_entries(const layer *l, int64_t *indices, void *values) {
	int64_t count = 0, cells = l->batch * l->in;
	for (int64_t i = 0; i < cells; i++) {
		int64_t cell = i * 7919 % cells; /* a prime that divides no size here */
		if (i % 10 == 0) {
			indices[2 * count] = l->batch + 3;
			indices[2 * count + 1] = 2;
			put(values, l->dtype, count++, 1e30);
		}
		if (get(l->x, l->dtype, cell) == 0)
			continue;
		indices[2 * count] = cell / l->in;
		indices[2 * count + 1] = cell % l->in;
		put(values, l->dtype, count++, get(l->x, l->dtype, cell));
	}
	return count;
}

static void test_sparse(slb_runtime *runtime) {
	for (int64_t chunk = 0; chunk <= 7; chunk += 7)
		for (int wide = 0; wide <= 1; wide++) {
			layer l = make(runtime, 33, 41, 0.3, 20, wide ? SL_F64 : SL_F32, chunk);
			for (int64_t i = 0; i < l.batch * l.in; i++)
				if (draw() < 0.6)
					put(l.x, l.dtype, i, 0);
			int64_t *indices = malloc(sizeof *indices * (size_t)(4 * l.batch * l.in));
			void *values = room(2 * l.batch * l.in, l.dtype, false);
			slb_entries x = {.batch = l.batch,
							 .count = list_entries(&l, indices, values),
							 .rows = indices,
							 .columns = indices + 1,
							 .index_dtype = SL_I64,
							 .stride = 2,
							 .values = values,
							 .padded = 1};
			CHECK(slb_forward_sparse(l.number, &x, l.values, l.bias, l.y) == SL_OK);
			check_forward(&l);
			CHECK(slb_capture(l.number, 1) == SL_OK);
			CHECK(slb_backward_sparse(l.number, &x, l.y, l.dy, l.dvalues, l.nnz + TAIL, l.dbias) == SL_OK);
			check_backward(&l, false);
			x.padded = 0;
			CHECK(slb_forward_sparse(l.number, &x, l.values, l.bias, l.y) == SL_ERR_STRUCTURE);
			CHECK(strstr(slb_message(), "entry 0 of x is (23, 2)"));
			drop(&l);
			free(indices);
			free(values);
		}
}

static void test_capture_and_edits(slb_runtime *runtime) {
	layer l = make(runtime, 33, 41, 0.3, 20, SL_F32, 0);
	int64_t batch;
	const void *x, *y, *dy;
	CHECK(slb_captured(l.number, &batch, &x, &y, &dy) == SL_OK && !x);
	CHECK(forward(&l) == SL_OK && slb_capture(l.number, 1) == SL_OK && backward(&l, true) == SL_OK);
	CHECK(slb_captured(l.number, &batch, &x, &y, &dy) == SL_OK && batch == 20 && x && y && dy);
	CHECK(!memcmp(x, l.x, (size_t)(20 * l.in) * sizeof(float)) &&
		  !memcmp(y, l.y, (size_t)(20 * l.out) * sizeof(float)) &&
		  !memcmp(dy, l.dy, (size_t)(20 * l.out) * sizeof(float)));
	sl_dense gradient = sl_dense_view(dy, SL_F32, 20, l.out), input = sl_dense_view(x, SL_F32, 20, l.in);
	const slb_edit edits[] = {
		{.values = l.values, .dtype = SL_F32, .keep = l.nnz / 2},
		{.values = l.values, .dtype = SL_F32, .keep = -1, .exchange = 30, .stream = 3},
		{.values = l.values, .dtype = SL_F32, .keep = -1, .exchange = 30, .spread = 1, .x = &input, .dz = &gradient}};
	for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
		sl_pattern *edited;
		sl_pattern_arrays a;
		CHECK(slb_pattern_edit(&edited, runtime, l.pattern, &edits[i]) == SL_OK);
		CHECK(sl_pattern_get(slb_runtime_context(runtime), edited, &a) == SL_OK && a.nnz == (i ? l.nnz : l.nnz / 2));
		int64_t map[33 * 41], fresh = 0;
		CHECK(slb_map(runtime, l.pattern, edited, map) == SL_OK);
		for (int64_t k = 0; k < a.nnz; k++) {
			fresh += map[k] < 0;
			CHECK(map[k] < 0 || l.a.col_indices[map[k]] == a.col_indices[k]);
		}
		CHECK(fresh == (i ? 30 : 0));
		CHECK(slb_function_set_pattern(l.number, edited) == SL_OK);
		CHECK(forward(&l) == SL_OK);
		sl_pattern_release(edited);
	}
	((float *)l.values)[4] = NAN;
	sl_pattern *none;
	CHECK(slb_pattern_edit(&none, runtime, l.pattern, &edits[1]) == SL_ERR_NONFINITE && !none && slb_message()[0]);
	CHECK(slb_capture(l.number, 0) == SL_OK && slb_captured(l.number, &batch, &x, &y, &dy) == SL_OK && !x);
	drop(&l);
}

static void test_errors(slb_runtime *runtime) {
	slb_shape shape;
	slb_runtime *none;
	CHECK(slb_function_shape(0, &shape) == SL_ERR_STATE && slb_function_shape(-5, &shape) == SL_ERR_STATE);
	CHECK(slb_function_shape(INT64_MAX, &shape) == SL_ERR_STATE && strstr(slb_message(), "does not exist"));
	CHECK(slb_runtime_create(&none, SL_DEVICE_CPU, 0, 2, 0, "libnotloaded.so.1") == SL_ERR_NOT_FOUND && !none);
	CHECK(strstr(slb_message(), "libnotloaded.so.1"));
	layer l = make(runtime, 9, 8, 0.5, 3, SL_F32, 0);
	CHECK(slb_forward(l.number, 3, NULL, 0, l.values, l.bias, l.y, 0, NULL) != SL_OK && slb_message()[0]);
	CHECK(slb_forward(l.number, 3, l.x, 0, l.values, NULL, l.y, 0, NULL) != SL_OK);
	CHECK(forward(&l) == SL_OK); /* a failed call leaves nothing behind */
	slb_function_destroy(l.number);
	slb_function_destroy(l.number);
	CHECK(forward(&l) == SL_ERR_STATE);
	drop(&l);
}

typedef struct caller {
	slb_runtime *runtime;
	const layer *shared;
} caller;

/* Forwards on the one function and runtime of all, and functions of its own that come and go. */
static void *call(void *argument) {
	const caller *c = argument;
	const layer *l = c->shared;
	float *y = room(l->batch * l->out, SL_F32, false);
	for (int i = 0; i < 60; i++) {
		CHECK(slb_forward(l->number, l->batch, l->x, 0, l->values, l->bias, y, 0, NULL) == SL_OK);
		CHECK(!memcmp(y, l->y, (size_t)(l->batch * l->out) * sizeof *y));
		int64_t own;
		CHECK(slb_function_create(&own, c->runtime, l->pattern, 1, SL_RELU, 0, SL_F32, 0) == SL_OK);
		CHECK(slb_forward(own, l->batch, l->x, 0, l->values, l->bias, y, 0, NULL) == SL_OK);
		slb_function_destroy(own);
		CHECK(slb_function_set_pattern(l->number, l->pattern) == SL_OK);
	}
	free(y);
	return NULL;
}

static void test_threads(slb_runtime *runtime) {
	enum { CALLERS = 4 };
	pthread_t threads[CALLERS];
	caller callers[CALLERS];
	layer l = make(runtime, 200, 150, 0.2, 32, SL_F32, 0);
	CHECK(slb_forward(l.number, l.batch, l.x, 0, l.values, l.bias, l.y, 0, NULL) == SL_OK);
	for (int i = 0; i < CALLERS; i++) {
		callers[i] = (caller){.runtime = runtime, .shared = &l};
		CHECK(pthread_create(&threads[i], NULL, call, &callers[i]) == 0);
	}
	for (int i = 0; i < CALLERS; i++)
		pthread_join(threads[i], NULL);
	drop(&l);
}

static void test_fork(slb_runtime *runtime) {
#if !defined(__SANITIZE_THREAD__) /* TSan does not follow a fork of threads into threads */
	layer l = make(runtime, 200, 150, 0.2, 32, SL_F32, 0);
	CHECK(forward(&l) == SL_OK);
	slb_lock(runtime);
	pid_t child = fork();
	if (!child) {
		slb_unlock_in_child(runtime);
		CHECK(forward(&l) == SL_OK);
		check_forward(&l);
		_exit(faults ? 1 : 0);
	}
	slb_unlock(runtime);
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	drop(&l);
#else
	(void)runtime;
#endif
}

int main(void) {
	printf("seed %llu\n", (unsigned long long)seed);
	CHECK(slb_library_path()[0]);
	for (int threads = 1; threads <= 3; threads += 2) {
		slb_runtime *runtime;
		CHECK(slb_runtime_create(&runtime, SL_DEVICE_CPU, 0, threads, 1, NULL) == SL_OK);
		test_dense(runtime);
		test_sparse(runtime);
		test_capture_and_edits(runtime);
		test_errors(runtime);
		test_threads(runtime);
		test_fork(runtime);
		layer last = make(runtime, 9, 8, 0.5, 3, SL_F32, 0);
		slb_runtime_destroy(runtime); /* a function keeps its runtime */
		CHECK(forward(&last) == SL_OK);
		check_forward(&last);
		drop(&last);
	}
	slb_runtime_destroy(NULL);
	printf("%d passed, %d failed\n", faults ? 0 : 1, faults ? 1 : 0);
	return faults != 0;
}
