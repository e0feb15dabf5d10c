/* SPDX-License-Identifier: Apache-2.0 */
/* The layer as a function of the caller's arrays, against sums in double over the dense matrix. */
#include <math.h>
#include <stdlib.h>

#include "support/activations.h"
#include "support/check.h"
#include "support/views.h"

typedef struct fixture {
	sl_context *context;
	sl_pattern *pattern;
	sl_function *function;
	sl_pattern_arrays at;
	sl_activation activation;
	int64_t batch;
	double eps; /* of 16 bits: relative to the magnitude */
	float *values, *bias, *x, *y, *dy, *dx, *dw, *db;
} fixture;

static float *numbers(int64_t count, uint64_t seed) {
	float *p = malloc((size_t)(count + 1) * sizeof *p);
	sl_test_fill(p, SL_F32, count, seed);
	return p;
}

static void open_fixture(fixture *f, int64_t rows, int64_t cols, double density, int64_t batch,
						 sl_activation activation, bool bias) {
	*f = (fixture){.context = sl_test_context(), .activation = activation, .batch = batch};
	CHECK_OK(f->context, sl_pattern_random(&f->pattern, f->context, rows, cols, density, 5));
	sl_function_options o = {SL_FUNCTION_DEFAULTS, .pattern = f->pattern, .bias = bias, .activation = activation,
							 .activation_parameter = activation == SL_CLIPPED_RELU ? 0.7 : 0};
	CHECK_OK(f->context, sl_function_create(&f->function, f->context, &o));
	CHECK(sl_function_pattern(f->function) == f->pattern);
	CHECK_OK(f->context, sl_pattern_get(f->context, f->pattern, &f->at));
	f->values = numbers(f->at.nnz, 1);
	f->bias = bias ? numbers(rows, 2) : NULL;
	f->x = numbers(batch * cols, 3);
	f->dy = numbers(batch * rows, 4);
	f->y = numbers(batch * rows, 6);
	f->dx = numbers(batch * cols, 7);
	f->dw = numbers(f->at.nnz, 8);
	f->db = numbers(rows, 9);
}

static void close_fixture(fixture *f) {
	float *all[] = {f->values, f->bias, f->x, f->y, f->dy, f->dx, f->dw, f->db};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
	sl_function_destroy(f->function);
	sl_pattern_release(f->pattern);
	sl_context_destroy(f->context);
}

static int64_t offset(const sl_pattern_arrays *at, int64_t row) {
	return at->offset_dtype == SL_I32 ? ((const int32_t *)at->row_offsets)[row]
									  : ((const int64_t *)at->row_offsets)[row];
}

static double parameter_of(sl_activation a) {
	return a == SL_CLIPPED_RELU ? 0.7 : 0.01;
}

/* By the output, as the library does it: the kinks are where both round alike. */
static double slope(sl_activation a, double y) {
	return sl_test_slope(a, a == SL_CLIPPED_RELU ? (double)0.7f : parameter_of(a), y);
}

/* c eps sum |a||b|: c grows as a sum of n terms in any order, and the activations' own few roundings. */
static double bound(double magnitude, int64_t terms) {
	return (double)(terms + 8) * 0x1p-24 * magnitude + 1e-6 * (magnitude > 1 ? magnitude : 1) + 1e-30;
}

static void check_forward(const fixture *f) {
	for (int64_t b = 0; b < f->batch; b++)
		for (int64_t r = 0; r < f->at.rows; r++) {
			double sum = f->bias ? (double)f->bias[r] : 0, size = fabs(sum);
			for (int64_t k = offset(&f->at, r); k < offset(&f->at, r + 1); k++) {
				double term = (double)f->values[k] * (double)f->x[b * f->at.cols + f->at.col_indices[k]];
				sum += term;
				size += fabs(term);
			}
			CHECK_NEAR(f->y[b * f->at.rows + r], sl_test_activate(f->activation, parameter_of(f->activation), sum),
					   bound(size, f->at.cols) + f->eps * size);
		}
}

static void check_backward(const fixture *f, double times) {
	int64_t rows = f->at.rows, cols = f->at.cols;
	double *dx = calloc((size_t)(f->batch * cols + 1), sizeof *dx), *size = calloc((size_t)(f->batch * cols + 1), 8);
	for (int64_t r = 0; r < rows; r++) {
		double db = 0, db_size = 0;
		for (int64_t b = 0; b < f->batch; b++) {
			double dz = (double)f->dy[b * rows + r] * slope(f->activation, (double)f->y[b * rows + r]);
			db += dz;
			db_size += fabs(dz);
			for (int64_t k = offset(&f->at, r); k < offset(&f->at, r + 1); k++) {
				dx[b * cols + f->at.col_indices[k]] += dz * (double)f->values[k];
				size[b * cols + f->at.col_indices[k]] += fabs(dz * (double)f->values[k]);
			}
		}
		if (f->bias)
			CHECK_NEAR(f->db[r], times * db, times * (bound(db_size, f->batch) + f->eps * db_size));
		for (int64_t k = offset(&f->at, r); k < offset(&f->at, r + 1); k++) {
			double dw = 0, dw_size = 0;
			for (int64_t b = 0; b < f->batch; b++) {
				double term = (double)f->dy[b * rows + r] * slope(f->activation, (double)f->y[b * rows + r]) *
							  (double)f->x[b * cols + f->at.col_indices[k]];
				dw += term;
				dw_size += fabs(term);
			}
			CHECK_NEAR(f->dw[k], times * dw, times * (bound(dw_size, f->batch) + f->eps * dw_size));
		}
	}
	for (int64_t i = 0; i < f->batch * cols; i++)
		CHECK_NEAR(f->dx[i], dx[i], bound(size[i], rows) + f->eps * size[i]);
	free(dx);
	free(size);
}

static sl_function_gradients gradients(fixture *f, sl_dense views[4], void *kept) {
	views[0] = sl_dense_view(f->x, SL_F32, f->batch, f->at.cols);
	views[1] = sl_dense_view(f->y, SL_F32, f->batch, f->at.rows);
	views[2] = sl_dense_view(f->dy, SL_F32, f->batch, f->at.rows);
	views[3] = sl_dense_view(f->dx, SL_F32, f->batch, f->at.cols);
	return (sl_function_gradients){SL_FUNCTION_GRADIENTS,
								   .values = f->values,
								   .X = kept ? NULL : &views[0],
								   .Y = kept || f->activation == SL_IDENTITY ? NULL : &views[1],
								   .kept = kept,
								   .dY = &views[2],
								   .dX = &views[3],
								   .value_gradient = f->dw,
								   .bias_gradient = f->bias ? f->db : NULL};
}

/* What was kept are X and Y, where sl_function_kept_layout() says. */
static void check_kept(fixture *f, char *kept) {
	int64_t width;
	size_t input;
	CHECK_OK(f->context, sl_function_kept_layout(f->context, f->function, f->batch, &width, &input));
	sl_dense x = sl_dense_view(kept, SL_F32, f->batch, f->at.cols), y = x;
	x.order = y.order = SL_ROW_PANELS;
	x.ld = y.ld = width;
	y.cols = f->at.rows;
	y.data = kept + input;
	for (int64_t b = 0; b < f->batch; b++) {
		for (int64_t c = 0; c < f->at.cols; c++)
			CHECK(view_load(&x, b, c) == (double)f->x[b * f->at.cols + c]);
		for (int64_t r = 0; r < f->at.rows && f->activation != SL_IDENTITY; r++)
			CHECK(view_load(&y, b, r) == (double)f->y[b * f->at.rows + r]);
	}
}

/* One forward and backward, kept and not. */
static void check_case(fixture *f) {
	sl_dense v[4];
	size_t bytes;
	CHECK_OK(f->context, sl_function_kept_bytes(f->context, f->function, f->batch, &bytes));
	char *block = aligned_alloc(64, bytes + 128);
	memset(block, 0x5a, bytes + 128);
	for (int keep = 0; keep < 2; keep++) {
		void *kept = keep ? block : NULL;
		sl_function_gradients g = gradients(f, v, kept);
		CHECK_OK(f->context, sl_function_forward(f->context, f->function, f->values, f->bias, &v[0], &v[1], kept));
		check_forward(f);
		if (keep)
			check_kept(f, block);
		CHECK_OK(f->context, sl_function_backward(f->context, f->function, &g));
		check_backward(f, 1);
		g.write = SL_ACCUMULATE;
		CHECK_OK(f->context, sl_function_backward(f->context, f->function, &g));
		check_backward(f, 2);
		g.dX = NULL;
		g.value_gradient = g.bias_gradient = NULL;
		CHECK_OK(f->context, sl_function_backward(f->context, f->function, &g));
	}
	for (size_t i = bytes; i < bytes + 128; i++)
		CHECK_EQ(block[i], 0x5a);
	free(block);
}

SL_TEST(function, batches) {
	const int64_t batches[] = {0, 1, 5, 16, 33, 64, 65, 200};
	for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
		fixture f;
		open_fixture(&f, 37, 53, 0.2, batches[i], SL_RELU, true);
		check_case(&f);
		close_fixture(&f);
	}
}

SL_TEST(function, activations) {
	for (int a = SL_IDENTITY; a < SL_GELU; a++)
		for (int bias = 0; bias < 2; bias++) {
			fixture f;
			open_fixture(&f, 20, 31, 0.3, 24, (sl_activation)a, bias);
			check_case(&f);
			close_fixture(&f);
		}
}

SL_TEST(function, shapes) {
	const struct {
		int64_t rows, cols;
		double density;
	} shapes[] = {{1, 1, 1}, {1, 70, 0.5}, {70, 1, 0.5}, {9, 9, 0}, {0, 5, 1}, {5, 0, 1}, {16, 16, 1}, {300, 17, 0.02}};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		fixture f;
		open_fixture(&f, shapes[i].rows, shapes[i].cols, shapes[i].density, 19, SL_TANH, true);
		check_case(&f);
		close_fixture(&f);
	}
}

/* Strided and column-major views; one function through batches of all widths and back. */
SL_TEST(function, views_and_changing_batches) {
	fixture f;
	open_fixture(&f, 24, 40, 0.25, 70, SL_LEAKY_RELU, true);
	const int64_t batches[] = {70, 3, 70, 9, 20, 40, 1, 64};
	for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
		f.batch = batches[i];
		check_case(&f);
	}
	f.batch = 30;
	view_block x = view_create(SL_F32, SL_COL_MAJOR, f.batch, f.at.cols, 0);
	view_block y = view_create(SL_F32, SL_ROW_MAJOR, f.batch, f.at.rows, 0);
	for (int64_t b = 0; b < f.batch; b++)
		for (int64_t c = 0; c < f.at.cols; c++)
			view_set(x.view.data, SL_F32, view_at(&x.view, b, c), (double)f.x[b * f.at.cols + c]);
	CHECK_OK(f.context, sl_function_forward(f.context, f.function, f.values, f.bias, &x.view, &y.view, NULL));
	for (int64_t b = 0; b < f.batch; b++)
		for (int64_t r = 0; r < f.at.rows; r++)
			f.y[b * f.at.rows + r] = (float)view_load(&y.view, b, r);
	check_forward(&f);
	free(x.bytes);
	free(y.bytes);
	close_fixture(&f);
}

SL_TEST(function, another_pattern) {
	fixture f;
	open_fixture(&f, 24, 40, 0.25, 20, SL_RELU, true);
	check_case(&f);
	sl_pattern *other;
	CHECK_OK(f.context, sl_pattern_random(&other, f.context, 24, 40, 0.25, 6));
	CHECK_OK(f.context, sl_function_set_pattern(f.context, f.function, other));
	sl_pattern_release(f.pattern);
	f.pattern = other;
	CHECK_OK(f.context, sl_pattern_get(f.context, other, &f.at));
	check_case(&f);
	sl_pattern *wide;
	CHECK_OK(f.context, sl_pattern_random(&wide, f.context, 24, 41, 0.25, 6));
	CHECK_STATUS(f.context, sl_function_set_pattern(f.context, f.function, wide), SL_ERR_SHAPE, "24x41");
	sl_pattern_release(wide);
	check_case(&f);
	close_fixture(&f);
}

SL_TEST(function, steps_allocate_nothing) {
	fixture f;
	open_fixture(&f, 64, 80, 0.1, 48, SL_RELU, true);
	sl_dense v[4];
	sl_memory_usage before = {.struct_size = sizeof before}, after = before;
	for (int step = 0; step < 6; step++) {
		sl_function_gradients g = gradients(&f, v, NULL);
		CHECK_OK(f.context, sl_function_forward(f.context, f.function, f.values, f.bias, &v[0], &v[1], NULL));
		CHECK_OK(f.context, sl_function_backward(f.context, f.function, &g));
		if (step == 2)
			CHECK_OK(f.context, sl_context_memory(f.context, &before));
	}
	CHECK_OK(f.context, sl_context_memory(f.context, &after));
	CHECK_EQ(after.allocations, before.allocations);
	CHECK_EQ(after.current, before.current);
	close_fixture(&f);
}

/* A buffer of 16 bits with what 32 hold, which become what was stored. */
static sl_dense half_of(const fixture *f, float *data, int64_t rows, int64_t cols, sl_dtype dtype) {
	sl_dense wide = sl_dense_view(data, SL_F32, rows, cols), half = wide;
	half.data = calloc((size_t)(rows * cols) + 1, 2);
	half.dtype = dtype;
	CHECK_OK(f->context, sl_dense_copy(f->context, &wide, &half));
	CHECK_OK(f->context, sl_dense_copy(f->context, &half, &wide));
	return half;
}

static void half_case(sl_dtype dtype, sl_activation activation, int64_t batch, bool keep) {
	fixture f;
	open_fixture(&f, 37, 153, 0.2, batch, activation, true);
	sl_function_destroy(f.function);
	sl_function_options o = {SL_FUNCTION_DEFAULTS, .pattern = f.pattern, .bias = true, .activation = activation,
							 .dtype = dtype};
	CHECK_OK(f.context, sl_function_create(&f.function, f.context, &o));
	f.eps = dtype == SL_BF16 ? 0x1p-7 : 0x1p-9; /* a rounding of dz and one of the result */
	sl_dense v[4], x = half_of(&f, f.x, batch, f.at.cols, dtype), dy = half_of(&f, f.dy, batch, f.at.rows, dtype);
	sl_dense y = half_of(&f, f.y, batch, f.at.rows, dtype), dx = half_of(&f, f.dx, batch, f.at.cols, dtype);
	free(half_of(&f, f.values, 1, f.at.nnz, dtype).data);
	size_t bytes;
	CHECK_OK(f.context, sl_function_kept_bytes(f.context, f.function, batch, &bytes));
	void *kept = keep ? aligned_alloc(64, bytes + 64) : NULL;
	CHECK_OK(f.context, sl_function_forward(f.context, f.function, f.values, f.bias, &x, &y, kept));
	sl_function_gradients g = gradients(&f, v, kept);
	CHECK_OK(f.context, sl_dense_copy(f.context, &y, &v[1]));
	check_forward(&f);
	g.X = &x;
	g.Y = &y;
	g.dY = &dy;
	g.dX = &dx;
	for (int times = 1; times < 3; times++) {
		CHECK_OK(f.context, sl_function_backward(f.context, f.function, &g));
		CHECK_OK(f.context, sl_dense_copy(f.context, &dx, &v[3]));
		check_backward(&f, times);
		g.write = SL_ACCUMULATE;
	}
	void *all[] = {x.data, y.data, dy.data, dx.data, kept};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
	close_fixture(&f);
}

SL_TEST(function, halves) {
	const int64_t batches[] = {0, 1, 7, 70};
	for (size_t i = 0; i < sizeof batches / sizeof *batches; i++)
		for (int keep = 0; keep < 2; keep++) {
			half_case(SL_BF16, SL_RELU, batches[i], keep);
			half_case(SL_F16, SL_RELU, batches[i], keep);
			half_case(SL_BF16, SL_IDENTITY, batches[i], keep);
			half_case(SL_F16, SL_TANH, batches[i], keep);
		}
}

SL_TEST(function, misuse) {
	fixture f;
	open_fixture(&f, 12, 10, 0.5, 4, SL_RELU, true);
	sl_function *none = NULL;
	sl_function_options gelu = {SL_FUNCTION_DEFAULTS, .pattern = f.pattern, .activation = SL_GELU};
	CHECK_STATUS(f.context, sl_function_create(&none, f.context, &gelu), SL_ERR_UNSUPPORTED, "gelu");
	gelu.activation = SL_RELU;
	gelu.dtype = SL_I32;
	CHECK_STATUS(f.context, sl_function_create(&none, f.context, &gelu), SL_ERR_DTYPE, "i32");
	gelu.pattern = NULL;
	CHECK_STATUS(f.context, sl_function_create(&none, f.context, &gelu), SL_ERR_NULL, "pattern");
	CHECK(!none);
	sl_dense v[4], bad = sl_dense_view(f.x, SL_F32, 4, 9);
	sl_function_gradients g = gradients(&f, v, NULL);
	CHECK_STATUS(f.context, sl_function_forward(f.context, f.function, f.values, f.bias, &bad, &v[1], NULL),
				 SL_ERR_SHAPE, "X has 9 columns");
	CHECK_STATUS(f.context, sl_function_forward(f.context, f.function, NULL, f.bias, &v[0], &v[1], NULL), SL_ERR_NULL,
				 "values");
	CHECK_STATUS(f.context, sl_function_forward(f.context, f.function, f.values, NULL, &v[0], &v[1], NULL), SL_ERR_NULL,
				 "bias");
	CHECK_STATUS(f.context, sl_function_forward(f.context, f.function, f.values, f.bias, &v[0], &v[1], (char *)64 + 4),
				 SL_ERR_LAYOUT, "64");
	sl_dense wide = v[0];
	wide.dtype = SL_F64;
	CHECK_STATUS(f.context, sl_function_forward(f.context, f.function, f.values, f.bias, &wide, &v[1], NULL),
				 SL_ERR_DTYPE, "f64");
	g.X = NULL;
	CHECK_STATUS(f.context, sl_function_backward(f.context, f.function, &g), SL_ERR_NULL, "X is null");
	g.X = &v[0];
	g.dX = &v[0];
	CHECK_STATUS(f.context, sl_function_backward(f.context, f.function, &g), SL_ERR_ALIAS, "X");
	size_t bytes;
	int64_t width;
	CHECK_STATUS(f.context, sl_function_kept_layout(f.context, f.function, -1, &width, &bytes), SL_ERR_ARGUMENT, "-1");
	CHECK_STATUS(f.context, sl_function_kept_bytes(f.context, f.function, -1, &bytes), SL_ERR_ARGUMENT, "-1");
	CHECK_STATUS(f.context, sl_function_kept_bytes(f.context, f.function, INT64_MAX / 4, &bytes), SL_ERR_OVERFLOW,
				 "does not fit");
	close_fixture(&f);
}

/* X with two of three entries gone, as COO of int64 in reverse or as CSR of int32. */
typedef struct sparse_x {
	sl_sparse view;
	int64_t *rows, *columns;
	int32_t *offsets, *narrow;
	float *values;
} sparse_x;

static sparse_x make_sparse(const fixture *f, bool coo) {
	int64_t cols = f->at.cols, cells = f->batch * cols, n = 0;
	sparse_x s = {.rows = malloc((size_t)(cells + 1) * 8),
				  .columns = malloc((size_t)(cells + 1) * 8),
				  .offsets = calloc((size_t)f->batch + 1, 4),
				  .narrow = malloc((size_t)(cells + 1) * 4),
				  .values = malloc((size_t)(cells + 1) * 4)};
	for (int64_t at = 0; at < cells; at++) {
		int64_t cell = coo ? cells - 1 - at : at;
		if ((cell * 7 + cell / cols) % 3) {
			f->x[cell] = 0;
			continue;
		}
		s.rows[n] = cell / cols;
		s.columns[n] = s.narrow[n] = (int32_t)(cell % cols);
		s.values[n++] = f->x[cell];
		s.offsets[cell / cols + 1]++;
	}
	for (int64_t r = 0; r < f->batch; r++)
		s.offsets[r + 1] += s.offsets[r];
	s.view = (sl_sparse){.format = coo ? SL_SPARSE_COO : SL_SPARSE_CSR,
						 .rows = f->batch,
						 .cols = cols,
						 .nnz = n,
						 .offsets = coo ? NULL : s.offsets,
						 .offset_dtype = SL_I32,
						 .row_indices = coo ? s.rows : NULL,
						 .col_indices = coo ? (void *)s.columns : (void *)s.narrow,
						 .index_dtype = coo ? SL_I64 : SL_I32,
						 .values = s.values,
						 .dtype = SL_F32};
	return s;
}

static void free_sparse(sparse_x *s) {
	void *all[] = {s->rows, s->columns, s->offsets, s->narrow, s->values};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
}

/* Against the same double sums as dense X. */
static void check_sparse_case(fixture *f, bool coo) {
	sl_dense v[4];
	sparse_x s = make_sparse(f, coo);
	sl_function_gradients g = gradients(f, v, NULL);
	CHECK_OK(f->context, sl_function_forward_sparse(f->context, f->function, f->values, f->bias, &s.view, &v[1]));
	check_forward(f);
	CHECK_OK(f->context, sl_function_backward(f->context, f->function, &g)); /* dX, which sparse inputs have none of */
	g.X = NULL;
	g.dX = NULL;
	g.sparse_X = &s.view;
	for (int64_t k = 0; k < f->at.nnz; k++)
		f->dw[k] = NAN;
	for (int64_t r = 0; r < f->at.rows; r++)
		f->db[r] = NAN;
	CHECK_OK(f->context, sl_function_backward(f->context, f->function, &g));
	check_backward(f, 1);
	g.write = SL_ACCUMULATE;
	CHECK_OK(f->context, sl_function_backward(f->context, f->function, &g));
	check_backward(f, 2);
	g.value_gradient = g.bias_gradient = NULL;
	CHECK_OK(f->context, sl_function_backward(f->context, f->function, &g));
	free_sparse(&s);
}

SL_TEST(function, sparse_inputs) {
	const int64_t batches[] = {0, 1, 33, 200};
	for (size_t i = 0; i < 2 * sizeof batches / sizeof *batches; i++) {
		fixture f;
		open_fixture(&f, 37, 153, 0.2, batches[i / 2], i % 2 ? SL_RELU : SL_IDENTITY, i % 3 != 0);
		check_sparse_case(&f, i % 2);
		close_fixture(&f);
	}
	const double densities[] = {0, 0.5, 1};
	for (size_t i = 0; i < sizeof densities / sizeof *densities; i++) {
		fixture f;
		open_fixture(&f, 9, 300, densities[i], 20, SL_TANH, true);
		check_sparse_case(&f, false);
		sl_pattern *other;
		CHECK_OK(f.context, sl_pattern_random(&other, f.context, 9, 300, densities[i], 6));
		CHECK_OK(f.context, sl_function_set_pattern(f.context, f.function, other));
		sl_pattern_release(f.pattern);
		f.pattern = other;
		CHECK_OK(f.context, sl_pattern_get(f.context, other, &f.at));
		check_sparse_case(&f, true);
		close_fixture(&f);
	}
}

SL_TEST(function, sparse_misuse) {
	fixture f;
	sl_dense v[4];
	open_fixture(&f, 12, 10, 0.5, 4, SL_RELU, true);
	sparse_x s = make_sparse(&f, false);
	sl_function_gradients g = gradients(&f, v, NULL);
	g.sparse_X = &s.view;
	CHECK_STATUS(f.context, sl_function_backward(f.context, f.function, &g), SL_ERR_ARGUMENT, "dX is given");
	s.narrow[2] = 10;
	CHECK_STATUS(f.context, sl_function_forward_sparse(f.context, f.function, f.values, f.bias, &s.view, &v[1]),
				 SL_ERR_STRUCTURE, "X: column 10");
	s.narrow[2] = 9;
	s.view.cols = 11;
	CHECK_STATUS(f.context, sl_function_forward_sparse(f.context, f.function, f.values, f.bias, &s.view, &v[1]),
				 SL_ERR_SHAPE, "11 columns");
	s.view.cols = 10;
	s.view.dtype = SL_F64;
	CHECK_STATUS(f.context, sl_function_forward_sparse(f.context, f.function, f.values, f.bias, &s.view, &v[1]),
				 SL_ERR_DTYPE, "f64");
	free_sparse(&s);
	close_fixture(&f);
}
