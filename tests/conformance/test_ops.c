/* SPDX-License-Identifier: Apache-2.0 */
/* Every op through the public interface against loops in double, and every refusal. */
#include "support/views.h"

enum { ROOM = 40 * 48 };

/* A matrix of the order in `store`, filled; padding of panels is zero. */
static sl_dense matrix(void *store, sl_dtype dtype, sl_order order, int64_t rows, int64_t cols, uint64_t seed) {
	sl_dense v = sl_dense_view(store, dtype, rows, cols);
	v.order = order;
	v.ld = order == SL_ROW_MAJOR ? cols + 3 : order == SL_COL_MAJOR ? rows + 2 : 16;
	memset(store, 0, ROOM * sl_dtype_size(dtype));
	double values[ROOM];
	sl_test_fill(values, SL_F64, ROOM, seed);
	for (int64_t r = 0; r < rows; r++)
		for (int64_t c = 0; c < cols; c++) {
			double x = values[r * cols + c];
			if (dtype == SL_F64)
				((double *)store)[view_at(&v, r, c)] = x;
			else
				((float *)store)[view_at(&v, r, c)] = (float)x;
		}
	return v;
}

static double a[ROOM], b[ROOM], c[ROOM], d[ROOM], s[ROOM];

/* Within 4 eps of sum |a||b| + |beta c| + |bias|: each at most 1, k at most 33. */
static double bound(sl_dtype dtype, int64_t k) {
	return 4 * (dtype == SL_F64 ? 2.3e-16 : 1.2e-7) * (double)(k + 2) * 2;
}

static void check_products(sl_context *context, sl_dtype dtype, int64_t m, int64_t k, int64_t n, sl_order bo,
						   sl_order co) {
	sl_pattern *pattern = NULL;
	sl_csr *A = NULL;
	CHECK_OK(context, sl_pattern_random(&pattern, context, m, k, 0.4, (uint64_t)(m + k)));
	CHECK_OK(context, sl_csr_create_pattern(&A, context, pattern, dtype));
	sl_pattern_arrays arrays;
	CHECK_OK(context, sl_pattern_get(context, pattern, &arrays));
	if (arrays.nnz)
		sl_test_fill(sl_csr_values(A), dtype, arrays.nnz, 5);
	sl_dense full = sl_dense_view(a, dtype, m, k);
	CHECK_OK(context, sl_csr_to_dense(context, A, &full));
	float bias32[64];
	double bias64[64];
	sl_test_fill(bias32, SL_F32, 64, 6);
	sl_test_fill(bias64, SL_F64, 64, 6);
	for (int sparse = 0; sparse < 2; sparse++)
		for (int zero = 0; zero < 2; zero++) {
			sl_dense B = matrix(b, dtype, bo, k, n, 7), C = matrix(c, dtype, co, m, n, 8), D = C;
			double before[ROOM];
			for (int64_t r = 0; r < m; r++)
				for (int64_t j = 0; j < n; j++)
					before[r * n + j] = view_load(&C, r, j);
			if (zero) /* must not be read */
				for (int64_t r = 0; r < m; r++)
					for (int64_t j = 0; j < n; j++) {
						if (dtype == SL_F64)
							c[view_at(&C, r, j)] = NAN;
						else
							((float *)c)[view_at(&C, r, j)] = NAN;
					}
			D.data = d;
			memset(d, 0, sizeof d);
			double beta = zero ? 0 : 0.5;
			sl_epilogue epilogue = {SL_EPILOGUE_DEFAULTS, .bias = dtype == SL_F64 ? (void *)bias64 : bias32,
									.activation = SL_RELU, .pre_activation = &D};
			if (sparse)
				CHECK_OK(context, sl_spmm(context, SL_NO_TRANSPOSE, 0.75, A, &B, beta, &C, &epilogue));
			else
				CHECK_OK(context, sl_gemm(context, 0.75, &full, &B, beta, &C, &epilogue));
			for (int64_t r = 0; r < m; r++)
				for (int64_t j = 0; j < n; j++) {
					double sum = 0;
					for (int64_t i = 0; i < k; i++)
						sum += view_load(&full, r, i) * view_load(&B, i, j);
					sum = 0.75 * sum + (zero ? 0 : beta * before[r * n + j]) + bias64[r];
					CHECK_NEAR(view_load(&D, r, j), sum, bound(dtype, k));
					CHECK_NEAR(view_load(&C, r, j), sum > 0 ? sum : 0, bound(dtype, k));
				}
		}
	/* A^T, planned for more columns than are run. */
	sl_dense B = matrix(b, dtype, bo, m, n, 9), C = matrix(c, dtype, co, k, n, 10);
	sl_plan *plan = NULL;
	CHECK_OK(context, sl_plan_spmm(&plan, context, SL_TRANSPOSE, A, &B, &C, NULL));
	CHECK_OK(context, sl_plan_run_spmm(context, plan, 1, A, &B, 0, &C, NULL));
	for (int64_t r = 0; r < k; r++)
		for (int64_t j = 0; j < n; j++) {
			double sum = 0;
			for (int64_t i = 0; i < m; i++)
				sum += view_load(&full, i, r) * view_load(&B, i, j);
			CHECK_NEAR(view_load(&C, r, j), sum, bound(dtype, m));
		}
	char text[200];
	CHECK_OK(context, sl_plan_describe(context, plan, text, sizeof text));
	sl_plan_destroy(plan);
	/* S = X Y^T sampled, over what S held. */
	sl_dense X = matrix(b, dtype, bo, m, n, 11), Y = matrix(c, dtype, co, n, k, 12);
	sl_csr *S = NULL;
	CHECK_OK(context, sl_csr_convert(&S, context, A, dtype));
	CHECK_OK(context, sl_sddmm(context, 0.5, &X, &Y, 1, S));
	sl_dense sampled = sl_dense_view(s, dtype, m, k);
	CHECK_OK(context, sl_csr_to_dense(context, S, &sampled));
	for (int64_t r = 0; r < m; r++)
		for (int64_t j = 0; j < k; j++) {
			double old = view_load(&full, r, j), sum = 0;
			for (int64_t i = 0; i < n; i++)
				sum += view_load(&X, r, i) * view_load(&Y, i, j);
			double got = view_load(&sampled, r, j);
			if (got != 0 || old != 0)
				CHECK_NEAR(got, 0.5 * sum + old, bound(dtype, n));
		}
	sl_csr_destroy(S);
	sl_csr_destroy(A);
	sl_pattern_release(pattern);
}

SL_TEST(ops, products) {
	sl_context *context = sl_test_context();
	const int64_t sizes[] = {0, 1, 15, 16, 17, 33};
	const sl_dtype dtypes[] = {SL_F32, SL_F64};
	for (int t = 0; t < 2; t++)
		for (int i = 0; i < 6; i++)
			for (int j = 0; j < 6; j++)
				for (int o = 0; o < 4; o++)
					check_products(context, dtypes[t], sizes[i], sizes[(i + j) % 6], sizes[j] < 33 ? sizes[j] : 32,
								   (sl_order)o, (sl_order)((o + j) % 4));
	sl_context_destroy(context);
}

SL_TEST(ops, copies_and_sums) {
	sl_context *context = sl_test_context();
	for (int from = 0; from < 4; from++)
		for (int to = 0; to < 4; to++) {
			sl_dense A = matrix(a, SL_F32, (sl_order)from, 17, 15, 3), C = matrix(c, SL_F64, (sl_order)to, 17, 15, 4);
			CHECK_OK(context, sl_dense_copy(context, &A, &C));
			float sums[17];
			for (int i = 0; i < 17; i++)
				sums[i] = NAN;
			CHECK_OK(context, sl_sum_columns(context, &A, 0, sums));
			for (int r = 0; r < 17; r++) {
				double sum = 0;
				for (int j = 0; j < 15; j++) {
					sum += view_load(&A, r, j);
					CHECK(view_load(&C, r, j) == view_load(&A, r, j));
				}
				CHECK_NEAR(sums[r], sum, 15 * 1.2e-7 * 15);
			}
		}
	const double values[] = {3, -4};
	double norm;
	CHECK_OK(context, sl_norm2(context, values, SL_F64, 2, &norm));
	CHECK_NEAR(norm, 5, 1e-15);
	CHECK_OK(context, sl_norm2(context, NULL, SL_F32, 0, &norm));
	CHECK(norm == 0);
	sl_context_destroy(context);
}

#ifndef SL_TESTS_ON_CUDA_H /* copies of operands do not overlap */
SL_TEST(ops, refusals) {
	sl_context *context = sl_test_context();
	sl_dense A = matrix(a, SL_F32, SL_ROW_MAJOR, 4, 5, 1), B = matrix(b, SL_F32, SL_ROW_MAJOR, 5, 6, 2);
	sl_dense C = matrix(c, SL_F32, SL_ROW_MAJOR, 4, 6, 3), bad = B;
	bad.dtype = SL_F64;
	CHECK_STATUS(context, sl_gemm(context, 1, &A, &bad, 0, &C, NULL), SL_ERR_DTYPE, "B is f64");
	bad = B;
	bad.rows = 4;
	CHECK_STATUS(context, sl_gemm(context, 1, &A, &bad, 0, &C, NULL), SL_ERR_SHAPE, "B must have 5 rows");
	bad = B;
	bad.ld = 2;
	CHECK_STATUS(context, sl_gemm(context, 1, &A, &bad, 0, &C, NULL), SL_ERR_LAYOUT, "B");
	bad = C;
	bad.data = (float *)a + 3;
	CHECK_STATUS(context, sl_gemm(context, 1, &A, &B, 0, &bad, NULL), SL_ERR_ALIAS, "C overlaps A");
	CHECK_STATUS(context, sl_gemm(context, 1, NULL, &B, 0, &C, NULL), SL_ERR_NULL, "A is null");
	bad = A;
	bad.device = SL_DEVICE_CUDA;
	CHECK_STATUS(context, sl_gemm(context, 1, &bad, &B, 0, &C, NULL), SL_ERR_DEVICE, "A is on cuda");
	bad = A;
	bad.data = (float *)a + 1;
	CHECK_STATUS(context, sl_activate(context, SL_RELU, 0, &A, &bad), SL_ERR_ALIAS, "Y overlaps X");
	CHECK_STATUS(context, sl_activate(context, SL_CLIPPED_RELU, 0, &A, &A), SL_ERR_ARGUMENT, "clipped");
	CHECK_STATUS(context, sl_spmm(context, SL_NO_TRANSPOSE, 1, NULL, &B, 0, &C, NULL), SL_ERR_NULL, "A is null");
	sl_epilogue unset = {0};
	CHECK_STATUS(context, sl_gemm(context, 1, &A, &B, 0, &C, &unset), SL_ERR_ARGUMENT, "struct_size");
	CHECK_OK(context, sl_activate(context, SL_RELU, 0, &A, &A));
	sl_context_destroy(context);
}
#endif
