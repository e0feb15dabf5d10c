/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products of 1 to 17 columns through the public interface against loops in double: patterns large enough that plans
 * narrow the columns and cut dX into parts, rows longer than any buffer, all orders, the same bits whatever the
 * threads and whether planned or not.
 */
#include <float.h>

#include "support/views.h"

typedef struct shape {
	int64_t rows, cols;
	double density;
	bool long_row; /* row 7 is full */
} shape;

static sl_csr *make_matrix(sl_context *context, const shape *s) {
	sl_pattern *pattern = NULL;
	sl_csr *A = NULL;
	if (s->long_row) {
		int64_t *offsets = calloc((size_t)s->rows + 1, sizeof *offsets), nnz = 0;
		int32_t *columns = malloc((size_t)(s->cols + 4 * s->rows) * sizeof *columns);
		CHECK(offsets && columns);
		for (int64_t r = 0; r < s->rows; r++) {
			int64_t wanted = r == 7 ? s->cols : r % 4;
			for (int64_t i = 0; i < wanted; i++)
				columns[nnz++] = (int32_t)(r == 7 ? i : r % 50 + 11 * i);
			offsets[r + 1] = nnz;
		}
		CHECK_OK(context,
				 sl_pattern_create(&pattern, context, s->rows, s->cols, nnz, offsets, SL_I64, columns, SL_I32));
		free(offsets);
		free(columns);
	} else {
		CHECK_OK(context, sl_pattern_random(&pattern, context, s->rows, s->cols, s->density, 3));
	}
	CHECK_OK(context, sl_csr_create_pattern(&A, context, pattern, SL_F32));
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_get(context, pattern, &a));
	if (a.nnz)
		sl_test_fill(sl_csr_values(A), SL_F32, a.nnz, 5);
	for (int64_t i = 0; i < a.nnz; i++) /* so that sums are rounded, and their order shows */
		((float *)sl_csr_values(A))[i] /= 3;
	sl_pattern_release(pattern);
	return A;
}

static int64_t width_of(int64_t n) {
	return n <= 1 ? 1 : n <= 8 ? 8 : n <= 16 ? 16 : 32;
}

/* A matrix of some order in new memory; padding of panels is zero. */
static sl_dense make_dense(sl_order order, int64_t rows, int64_t cols, uint64_t seed) {
	int64_t wide = width_of(cols);
	int64_t ld = order == SL_ROW_MAJOR ? cols + 1 : order == SL_COL_MAJOR ? rows + 2 : wide;
	int64_t count = (rows + 32) * (cols + 32) + 64;
	sl_dense v = sl_dense_view(calloc((size_t)count, sizeof(float)), SL_F32, rows, cols);
	float *values = malloc((size_t)(rows * cols) * sizeof *values + 1);
	CHECK(v.data && values);
	v.order = order;
	v.ld = ld;
	sl_test_fill(values, SL_F32, rows * cols, seed);
	for (int64_t r = 0; r < rows; r++)
		for (int64_t c = 0; c < cols; c++)
			((float *)v.data)[view_at(&v, r, c)] = values[r * cols + c];
	free(values);
	return v;
}

static bool compared = true; /* with double; else only run */

typedef struct small_case {
	shape s;
	int64_t n;
	sl_order b, c;
	bool transpose, epilogue;
	double alpha, beta;
} small_case;

/* Want and the sums of magnitudes, [rows, n]. */
static void reference(const small_case *k, const sl_pattern_arrays *a, const float *values, const sl_dense *B,
					  const sl_dense *C, const float *bias, double *want, double *mass) {
	for (int64_t r = 0; r < C->rows; r++)
		for (int64_t j = 0; j < k->n; j++) {
			double old = k->beta == 0 ? 0 : k->beta * view_load(C, r, j), add = k->epilogue ? (double)bias[r] : 0;
			want[r * k->n + j] = old + add;
			mass[r * k->n + j] = fabs(old) + fabs(add);
		}
	for (int64_t r = 0; r < a->rows; r++)
		for (int64_t e = ((const int32_t *)a->row_offsets)[r]; e < ((const int32_t *)a->row_offsets)[r + 1]; e++)
			for (int64_t j = 0; j < k->n; j++) {
				int64_t c = a->col_indices[e], to = (k->transpose ? c : r) * k->n + j;
				double p = k->alpha * values[e] * view_load(B, k->transpose ? r : c, j);
				want[to] += p;
				mass[to] += fabs(p);
			}
}

static void check_panel_padding(const sl_dense *m) {
	if (m->order == SL_COL_PANELS)
		for (int64_t r = 0; r < m->rows; r++)
			for (int64_t c = m->cols; c < (m->cols + m->ld - 1) / m->ld * m->ld; c++)
				CHECK(((const float *)m->data)[view_at(m, r, c)] == 0);
}

static void check_spmm(sl_context *context, const sl_csr *A, const small_case *k, bool planned, float *result) {
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(A), &a));
	CHECK(a.offset_dtype == SL_I32);
	int64_t in = k->transpose ? k->s.rows : k->s.cols, out = k->transpose ? k->s.cols : k->s.rows;
	sl_dense B = make_dense(k->b, in, k->n, 1), C = make_dense(k->c, out, k->n, 2), D = make_dense(k->c, out, k->n, 3);
	float *bias = malloc((size_t)out * sizeof *bias);
	double *want = malloc((size_t)(out * k->n) * 2 * sizeof *want), *mass = want + out * k->n;
	CHECK(bias && want);
	sl_test_fill(bias, SL_F32, out, 4);
	if (compared)
		reference(k, &a, sl_csr_values((sl_csr *)A), &B, &C, bias, want, mass);
	sl_epilogue epilogue = {SL_EPILOGUE_DEFAULTS, .bias = bias, .activation = SL_RELU, .pre_activation = &D};
	sl_epilogue *e = k->epilogue ? &epilogue : NULL;
	sl_transpose t = k->transpose ? SL_TRANSPOSE : SL_NO_TRANSPOSE;
	if (planned) {
		sl_plan *plan = NULL;
		CHECK_OK(context, sl_plan_spmm(&plan, context, t, A, &B, &C, e));
		CHECK_OK(context, sl_plan_run_spmm(context, plan, k->alpha, A, &B, k->beta, &C, e));
		sl_plan_destroy(plan);
	} else {
		CHECK_OK(context, sl_spmm(context, t, k->alpha, A, &B, k->beta, &C, e));
	}
	for (int64_t r = 0; r < out; r++)
		for (int64_t j = 0; j < k->n; j++) {
			/* Sums of at most 6000, in at least four, in float32: well within 400 eps of their magnitudes. */
			double w = want[r * k->n + j], bound = 400 * FLT_EPSILON * mass[r * k->n + j];
			if (compared && k->epilogue)
				CHECK_NEAR(view_load(&D, r, j), w, bound);
			if (compared)
				CHECK_NEAR(view_load(&C, r, j), k->epilogue && w < 0 ? 0 : w, bound);
			result[r * k->n + j] = (float)view_load(&C, r, j);
		}
	check_panel_padding(&C);
	free(B.data), free(C.data), free(D.data);
	free(bias), free(want);
}

static void check_sddmm(sl_context *context, const sl_csr *A, const small_case *k, bool planned, float *result) {
	sl_pattern_arrays a;
	sl_csr *S = NULL;
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(A), &a));
	CHECK_OK(context, sl_csr_convert(&S, context, A, SL_F32));
	sl_dense X = make_dense(k->c, k->s.rows, k->n, 6), Z = make_dense(k->b, k->s.cols, k->n, 7);
	sl_dense turned = sl_dense_transposed(Z);
	if (planned) {
		sl_plan *plan = NULL;
		CHECK_OK(context, sl_plan_sddmm(&plan, context, &X, &turned, S));
		CHECK_OK(context, sl_plan_run_sddmm(context, plan, k->alpha, &X, &turned, k->beta, S));
		sl_plan_destroy(plan);
	} else {
		CHECK_OK(context, sl_sddmm(context, k->alpha, &X, &turned, k->beta, S));
	}
	const float *before = sl_csr_values((sl_csr *)A), *got = sl_csr_values(S);
	for (int64_t r = 0; r < a.rows && compared; r++)
		for (int64_t e = ((const int32_t *)a.row_offsets)[r]; e < ((const int32_t *)a.row_offsets)[r + 1]; e++) {
			double want = k->beta * before[e], mass = fabs(want);
			for (int64_t j = 0; j < k->n; j++) {
				double p = k->alpha * view_load(&X, r, j) * view_load(&Z, a.col_indices[e], j);
				want += p;
				mass += fabs(p);
			}
			CHECK_NEAR(got[e], want, 40 * FLT_EPSILON * mass);
		}
	if (a.nnz)
		memcpy(result, got, (size_t)a.nnz * sizeof *result);
	free(X.data), free(Z.data);
	sl_csr_destroy(S);
}

#ifdef SL_TESTS_ON_CUDA_H /* on fibers, whose kernels part rows at 512 entries */
static const shape shapes[] = {{60, 56, 0.5, false}, {30, 1200, 0, true}, {30, 20, 0.3, false},
							   {5, 3, 0.5, false},   {1, 1, 1, false},    {40, 1, 0.5, false}};
#else
static const shape shapes[] = {{600, 560, 0.5, false}, {2500, 6000, 0, true}, {300, 200, 0.3, false},
							   {5, 3, 0.5, false},     {1, 1, 1, false},      {40, 1, 0.5, false}};
#endif
static const int64_t batches[] = {1, 2, 8, 9, 16, 17};

SL_TEST(small, products_against_double) {
	static const sl_order orders[][2] = {{SL_COL_PANELS, SL_COL_PANELS},
										 {SL_ROW_MAJOR, SL_COL_MAJOR},
										 {SL_COL_MAJOR, SL_ROW_PANELS},
										 {SL_ROW_PANELS, SL_ROW_MAJOR}};
	sl_context *context = sl_test_context();
	float *result = malloc(6000 * 560 * sizeof *result);
	CHECK(result);
	for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
		sl_csr *A = make_matrix(context, &shapes[s]);
		for (size_t n = 0; n < sizeof batches / sizeof *batches; n++)
			for (int o = 0; o < 4; o++) {
				small_case k = {shapes[s], batches[n], orders[o][0], orders[o][1], o & 1, o > 1, 0.75, o & 1 ? 0.5 : 0};
				for (int planned = 0; planned < 2; planned++) {
					if (s == 0 && planned != (o & 1)) /* the large one takes its time */
						continue;
					k.transpose = false;
					check_spmm(context, A, &k, planned, result);
					k.transpose = true;
					check_spmm(context, A, &k, planned, result);
					check_sddmm(context, A, &k, planned, result);
				}
			}
		sl_csr_destroy(A);
	}
	free(result);
	sl_context_destroy(context);
}

SL_TEST(small, same_bits_for_all_threads_and_plans) {
	static const int threads[] = {1, 2, 4, 7};
	float *first = malloc(6000 * 560 * sizeof *first), *again = malloc(6000 * 560 * sizeof *again);
	CHECK(first && again);
	compared = false;
	for (int s = 0; s < 2; s++)
		for (size_t n = 0; n < sizeof batches / sizeof *batches; n += 2)
			for (int op = 0; op < 3; op++)
				for (int t = 0; t < 4; t++) {
					sl_context *context = NULL;
					CHECK_OK(context, sl_context_create(
										  &context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU,
																		  .threads = threads[t], .seed = 1,
																		  .plan_mode = SL_PLAN_SPARSE}));
					sl_csr *A = make_matrix(context, &shapes[s]);
					small_case k = {shapes[s], batches[n], SL_COL_PANELS, SL_COL_PANELS, op == 1, false, 1, 0};
					sl_pattern_arrays a;
					CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(A), &a));
					int64_t count = op == 2 ? a.nnz : k.n * (op ? k.s.cols : k.s.rows);
					for (int planned = 0; planned < 2; planned++) {
						float *to = t || planned ? again : first;
						if (op == 2)
							check_sddmm(context, A, &k, planned, to);
						else
							check_spmm(context, A, &k, planned, to);
						CHECK(to == first || !memcmp(first, again, (size_t)count * sizeof *first));
					}
					sl_csr_destroy(A);
					sl_context_destroy(context);
				}
	compared = true;
	free(first);
	free(again);
}

/* What is not stored is absent: a NaN or infinity reaches the rows that have an entry for it, and no other. */
SL_TEST(small, nan_reaches_only_its_rows) {
	sl_context *context = sl_test_context();
	for (size_t n = 0; n < sizeof batches / sizeof *batches; n++)
		for (int op = 0; op < 2; op++)
			for (int s = 0; s < 3; s++) {
				sl_csr *A = make_matrix(context, &shapes[s]);
				sl_pattern_arrays a;
				CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(A), &a));
				int64_t in = op ? a.rows : a.cols, out = op ? a.cols : a.rows, bad = in - 2;
				sl_dense B = make_dense(SL_COL_PANELS, in, batches[n], 1);
				sl_dense C = make_dense(SL_COL_PANELS, out, batches[n], 2);
				char *reached = calloc((size_t)out, 1);
				CHECK(reached);
				((float *)B.data)[view_at(&B, bad, 0)] = NAN;
				for (int64_t r = 0; r < a.rows; r++)
					for (int64_t e = ((const int32_t *)a.row_offsets)[r]; e < ((const int32_t *)a.row_offsets)[r + 1];
						 e++)
						if ((op ? r : a.col_indices[e]) == bad)
							reached[op ? a.col_indices[e] : r] = 1;
				CHECK_OK(context, sl_spmm(context, op ? SL_TRANSPOSE : SL_NO_TRANSPOSE, 1, A, &B, 0, &C, NULL));
				for (int64_t r = 0; r < out; r++)
					for (int64_t j = 0; j < batches[n]; j++)
						CHECK(!isnan(view_load(&C, r, j)) == !(reached[r] && j == 0));
				free(reached);
				free(B.data), free(C.data);
				sl_csr_destroy(A);
			}
	sl_context_destroy(context);
}
