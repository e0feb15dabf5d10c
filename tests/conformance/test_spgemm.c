/* SPDX-License-Identifier: Apache-2.0 */
/* Sparse times sparse against a reference in double: patterns, values, gradients. */
#include "support/check.h"
#include "support/views.h"

enum { M = 67, K = 53, N = 71 };

static double values_of(const sl_csr *matrix, int64_t k) {
	return view_element(sl_csr_values(matrix), sl_csr_dtype(matrix), k);
}

static sl_csr *make(sl_context *context, int64_t rows, int64_t cols, double density, uint64_t seed, sl_dtype dtype) {
	sl_pattern *pattern = NULL;
	sl_csr *matrix = NULL;
	CHECK_OK(context, sl_pattern_random(&pattern, context, rows, cols, density, seed));
	CHECK_OK(context, sl_csr_create_pattern(&matrix, context, pattern, dtype));
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_get(context, pattern, &a));
	if (a.nnz)
		sl_test_fill(sl_csr_values(matrix), dtype, a.nnz, seed + 9);
	sl_pattern_release(pattern);
	return matrix;
}

/* Row by row in double, with where entries are stored and the sums of magnitudes. */
typedef struct full {
	double *value;
	bool *stored;
	int64_t rows, cols;
} full;

static full expand(sl_context *context, const sl_csr *matrix) {
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(matrix), &a));
	full f = {calloc((size_t)(a.rows * a.cols) + 1, sizeof(double)),
			  calloc((size_t)(a.rows * a.cols) + 1, sizeof(bool)), a.rows, a.cols};
	for (int64_t r = 0; r < a.rows; r++)
		for (int64_t k = ((const int32_t *)a.row_offsets)[r]; k < ((const int32_t *)a.row_offsets)[r + 1]; k++) {
			f.value[r * a.cols + a.col_indices[k]] = values_of(matrix, k);
			f.stored[r * a.cols + a.col_indices[k]] = true;
		}
	return f;
}

static void drop(full *f) {
	free(f->value);
	free(f->stored);
}

/* sum over k of a(i, k) b(k, j), either transposed; the magnitudes' sum too. */
static double product(const full *a, bool ta, const full *b, bool tb, int64_t i, int64_t j, double *size, bool *any) {
	int64_t inner = ta ? a->rows : a->cols;
	double sum = 0;
	*size = 0;
	*any = false;
	for (int64_t k = 0; k < inner; k++) {
		int64_t at = ta ? k * a->cols + i : i * a->cols + k, bt = tb ? j * b->cols + k : k * b->cols + j;
		sum += a->value[at] * b->value[bt];
		*size += fabs(a->value[at] * b->value[bt]);
		*any |= a->stored[at] && b->stored[bt];
	}
	return sum;
}

/* got = alpha * (a b at got's pattern) + beta * before. */
static void check_values(const full *got, const full *a, bool ta, const full *b, bool tb, double alpha, double beta,
						 double before, sl_dtype dtype) {
	double size, eps = dtype == SL_F64 ? 0x1p-52 : 0x1p-23;
	bool any;
	for (int64_t i = 0; i < got->rows; i++)
		for (int64_t j = 0; j < got->cols; j++) {
			if (!got->stored[i * got->cols + j])
				continue;
			double sum = product(a, ta, b, tb, i, j, &size, &any);
			double old = beta == 0 ? 0 : beta * before; /* what is there may be NaN */
			CHECK_NEAR(got->value[i * got->cols + j], alpha * sum + old, 64 * eps * (fabs(alpha) * size + fabs(old)));
		}
}

static void fill(sl_csr *matrix, sl_context *context, double value) {
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(matrix), &a));
	for (int64_t k = 0; k < a.nnz; k++)
		view_set(sl_csr_values(matrix), sl_csr_dtype(matrix), k, value);
}

static void check_product(sl_context *context, int64_t m, int64_t k, int64_t n, double da, double db, sl_dtype dtype) {
	sl_csr *A = make(context, m, k, da, 1, dtype), *B = make(context, k, n, db, 2, dtype), *C = NULL;
	sl_csr *G = make(context, m, n, 0.3, 3, dtype), *dA = NULL, *dB = NULL;
	full a = expand(context, A), b = expand(context, B), g = expand(context, G);
	CHECK_OK(context, sl_spgemm(&C, context, -1.5, A, B));
	full c = expand(context, C);
	CHECK(c.rows == m && c.cols == n);
	for (int64_t i = 0; i < m; i++)
		for (int64_t j = 0; j < n; j++) {
			double size;
			bool any;
			product(&a, false, &b, false, i, j, &size, &any);
			CHECK(c.stored[i * n + j] == any);
		}
	check_values(&c, &a, false, &b, false, -1.5, 0, 0, dtype);
	sl_pattern_arrays arrays; /* columns increase, so the pattern is what any other is */
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(C), &arrays));
	sl_pattern *again = NULL;
	CHECK_OK(context, sl_pattern_wrap(&again, context, m, n, arrays.nnz, arrays.row_offsets, arrays.offset_dtype,
									  arrays.col_indices, NULL, NULL));
	sl_pattern_release(again);
	CHECK_OK(context, sl_csr_create_pattern(&dA, context, sl_csr_pattern(A), dtype));
	CHECK_OK(context, sl_csr_create_pattern(&dB, context, sl_csr_pattern(B), dtype));
	for (int with_beta = 0; with_beta < 2; with_beta++) {
		double beta = with_beta ? 0.5 : 0, before = with_beta ? 2 : NAN;
		/* At its own pattern and at another. */
		sl_csr *at[] = {C, G};
		for (int i = 0; i < 2; i++) {
			fill(at[i], context, before);
			CHECK_OK(context, sl_spgemm_values(context, 2, A, B, beta, at[i]));
			full v = expand(context, at[i]);
			check_values(&v, &a, false, &b, false, 2, beta, before, dtype);
			drop(&v);
		}
		const sl_order orders[] = {SL_ROW_MAJOR, SL_COL_MAJOR, SL_COL_PANELS, SL_ROW_PANELS};
		for (int o = 0; o < 4; o++) {
			view_block D = view_output(dtype, orders[o], m, n, o >= 2 ? 8 : 0);
			for (int64_t i = 0; i < m && with_beta; i++)
				for (int64_t j = 0; j < n; j++)
					view_set(D.view.data, dtype, view_at(&D.view, i, j), before);
			CHECK_OK(context, sl_spgemm_dense(context, 2, A, B, beta, &D.view));
			full d = {calloc((size_t)(m * n) + 1, sizeof(double)), calloc((size_t)(m * n) + 1, sizeof(bool)), m, n};
			for (int64_t i = 0; i < m; i++)
				for (int64_t j = 0; j < n; j++) {
					d.value[i * n + j] = view_element(D.view.data, dtype, view_at(&D.view, i, j));
					d.stored[i * n + j] = true;
				}
			check_values(&d, &a, false, &b, false, 2, beta, before, dtype);
			CHECK(view_intact(&D));
			/* Its backward, from the same view. */
			fill(dA, context, before);
			fill(dB, context, before);
			CHECK_OK(context, sl_spgemm_dense_backward(context, 3, A, B, &D.view, beta, dA, dB));
			full ga = expand(context, dA), gb = expand(context, dB);
			check_values(&ga, &d, false, &b, true, 3, beta, before, dtype);
			check_values(&gb, &a, true, &d, false, 3, beta, before, dtype);
			drop(&ga);
			drop(&gb);
			drop(&d);
			view_free(&D);
		}
	}
	sl_test_fill(sl_csr_values(G), dtype, 0, 0);
	drop(&g);
	g = expand(context, G); /* what the products left in it */
	CHECK_OK(context, sl_spgemm_backward(context, 1, A, B, G, 0, dA, NULL));
	CHECK_OK(context, sl_spgemm_backward(context, 1, A, B, G, 0, NULL, dB));
	full ga = expand(context, dA), gb = expand(context, dB);
	check_values(&ga, &g, false, &b, true, 1, 0, 0, dtype);
	check_values(&gb, &a, true, &g, false, 1, 0, 0, dtype);
	drop(&ga);
	drop(&gb);
	drop(&a);
	drop(&b);
	drop(&c);
	drop(&g);
	sl_csr *all[] = {A, B, C, G, dA, dB};
	for (int i = 0; i < 6; i++)
		sl_csr_destroy(all[i]);
}

SL_TEST(spgemm, against_the_reference) {
	sl_context *context = sl_test_context();
	for (int d = 0; d < 2; d++) {
		sl_dtype dtype = d ? SL_F64 : SL_F32;
		check_product(context, M, K, N, 0.1, 0.15, dtype);
		check_product(context, M, K, N, 0.02, 0.02, dtype); /* empty rows */
		check_product(context, M, K, N, 0, 0.2, dtype);
		check_product(context, M, K, N, 0.2, 0, dtype);
		check_product(context, M, K, N, 1, 1, dtype);
		check_product(context, 1, K, N, 0.5, 0.3, dtype);
		check_product(context, M, 1, N, 0.5, 0.5, dtype);
		check_product(context, M, K, 1, 0.5, 0.5, dtype);
		check_product(context, 3, 300, 2000, 0.4, 0.05, dtype); /* long rows, sorted otherwise */
		check_product(context, 0, K, N, 1, 0.5, dtype);
		check_product(context, M, 0, N, 1, 1, dtype);
		check_product(context, M, K, 0, 0.5, 1, dtype);
	}
	sl_context_destroy(context);
}

SL_TEST(spgemm, same_bits_whatever_the_threads) {
	unsigned char *first[3] = {NULL};
	for (int i = 0; i < 4; i++) {
		const int threads[] = {1, 2, 4, 7};
		sl_context *context = NULL;
		CHECK_EQ(sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU,
																   .threads = threads[i], .seed = 1}),
				 SL_OK);
		sl_csr *A = make(context, 500, 400, 0.02, 5, SL_F32), *B = make(context, 400, 600, 0.03, 6, SL_F32);
		sl_csr *C = NULL, *dA = NULL, *dB = NULL;
		CHECK_OK(context, sl_spgemm(&C, context, 1, A, B));
		CHECK_OK(context, sl_csr_create_pattern(&dA, context, sl_csr_pattern(A), SL_F32));
		CHECK_OK(context, sl_csr_create_pattern(&dB, context, sl_csr_pattern(B), SL_F32));
		CHECK_OK(context, sl_spgemm_backward(context, 1, A, B, C, 0, dA, dB));
		const sl_csr *results[] = {C, dA, dB};
		for (int k = 0; k < 3; k++) {
			sl_pattern_arrays a;
			CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(results[k]), &a));
			CHECK(a.nnz > 1000);
			size_t bytes = (size_t)a.nnz * sizeof(float);
			if (!first[k])
				first[k] = memcpy(malloc(bytes), sl_csr_values(results[k]), bytes);
			CHECK(!memcmp(first[k], sl_csr_values(results[k]), bytes));
		}
		sl_csr *all[] = {A, B, C, dA, dB};
		for (int k = 0; k < 5; k++)
			sl_csr_destroy(all[k]);
		sl_context_destroy(context);
	}
	for (int k = 0; k < 3; k++)
		free(first[k]);
}

SL_TEST(spgemm, misuse) {
	sl_context *context = sl_test_context();
	sl_csr *A = make(context, 4, 5, 0.5, 1, SL_F32), *B = make(context, 5, 3, 0.5, 2, SL_F32), *C = NULL;
	sl_csr *wide = make(context, 6, 3, 0.5, 2, SL_F32), *other = make(context, 4, 3, 0.5, 7, SL_F64);
	sl_csr *halves = make(context, 5, 3, 0.5, 2, SL_BF16), *at = make(context, 4, 3, 0.5, 8, SL_F32);
	CHECK_STATUS(context, sl_spgemm(&C, context, 1, NULL, B), SL_ERR_NULL, "A is null");
	CHECK_STATUS(context, sl_spgemm(NULL, context, 1, A, B), SL_ERR_NULL, "C is null");
	CHECK_STATUS(context, sl_spgemm(&C, context, 1, A, wide), SL_ERR_SHAPE, "B must have 5 rows, not 6");
	CHECK_STATUS(context, sl_spgemm(&C, context, 1, A, halves), SL_ERR_DTYPE, "f32 or f64");
	CHECK_STATUS(context, sl_spgemm_values(context, 1, A, B, 0, other), SL_ERR_DTYPE, "one dtype");
	CHECK_STATUS(context, sl_spgemm_values(context, 1, A, B, 0, wide), SL_ERR_SHAPE, "C is 6x3");
	CHECK_STATUS(context, sl_spgemm_values(context, 1, A, B, 0, NULL), SL_ERR_NULL, "C is null");
	CHECK_STATUS(context, sl_spgemm_backward(context, 1, A, B, at, 0, at, NULL), SL_ERR_ARGUMENT, "A's pattern");
	CHECK_STATUS(context, sl_spgemm_backward(context, 1, A, B, at, 0, A, NULL), SL_ERR_ALIAS,
				 "dA's values overlap A's");
	CHECK_STATUS(context, sl_spgemm_backward(context, 1, A, B, at, 0, NULL, B), SL_ERR_ALIAS,
				 "dB's values overlap B's");
	float y[12] = {0};
	sl_dense D = sl_dense_view(y, SL_F32, 3, 4);
	CHECK_STATUS(context, sl_spgemm_dense(context, 1, A, B, 0, &D), SL_ERR_SHAPE, "C is 3x4");
	D = sl_dense_view(sl_csr_values(A), SL_F32, 4, 3);
	CHECK_STATUS(context, sl_spgemm_dense(context, 1, A, B, 0, &D), SL_ERR_ALIAS, "A's values");
	sl_csr *all[] = {A, B, wide, other, halves, at};
	for (int k = 0; k < 6; k++)
		sl_csr_destroy(all[k]);
	sl_context_destroy(context);
}
