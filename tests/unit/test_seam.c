/* SPDX-License-Identifier: Apache-2.0 */
/* The core and the CPU backend through the seam: products, losses and updates against references
 * in double. Bounds are c * eps * sum |a||b| with c = 8. */
#include <float.h>

#include "core/context.h"
#include "core/half.h"
#include "core/rng.h"
#include "support/check.h"

static double at(const void *data, int64_t i) {
	return ((const float *)data)[i];
}

SL_TEST(core, philox_known_answer) {
	/* Random123's own test vector: counter 0, key 0. */
	sl_rng rng = sli_rng(0, 0);
	CHECK(sli_rng_u32(&rng) == 0x6627e8d5u);
	CHECK(sli_rng_u32(&rng) == 0xe169c58du);
	CHECK(sli_rng_u32(&rng) == 0xbc57ac4cu);
	CHECK(sli_rng_u32(&rng) == 0x9b00dbd8u);
}

SL_TEST(core, halves_round_trip) {
	for (uint32_t bits = 0; bits < 65536; bits++) {
		float f = sli_f16_to_f32((uint16_t)bits), b = sli_bf16_to_f32((uint16_t)bits);
		CHECK(isnan(f) ? isnan(sli_f16_to_f32(sli_f32_to_f16(f))) : sli_f32_to_f16(f) == bits);
		CHECK(isnan(b) ? isnan(sli_bf16_to_f32(sli_f32_to_bf16(b))) : sli_f32_to_bf16(b) == bits);
	}
	CHECK_EQ(sli_f32_to_f16(65520.0f), 0x7c00); /* halfway to 65536: to even, which is infinity */
	CHECK_EQ(sli_f32_to_f16(0x1p-25f), 0);      /* halfway to the least subnormal: to even */
	CHECK_EQ(sli_f32_to_f16(0x1.8p-25f), 1);
	CHECK_EQ(sli_f32_to_bf16(1.00390625f), 0x3f80); /* halfway: to even */
}

SL_TEST(core, budget_and_options) {
	sl_context *context = NULL;
	char error[128];
	sl_context_options options;
	SL_OPTIONS_INIT(options);
	options.device = SL_DEVICE_CPU;
	options.error = error;
	options.error_size = sizeof error;
	options.threads = -1;
	CHECK(sl_context_create(&context, &options) == SL_ERR_ARGUMENT && !context);
	CHECK(strstr(error, "threads"));
	options.threads = 1;
	options.memory_budget = 100000;
	CHECK(sl_context_create(&context, &options) == SL_OK);
	void *p;
	CHECK_STATUS(context, sli_allocate(context, 100000, "a test", &p), SL_ERR_BUDGET, "memory_budget");
	CHECK_OK(context, sli_allocate(context, 1000, "a test", &p));
	sli_heap_free(sli_heap(context), p, 1000);
	sl_context_destroy(context);
}

SL_TEST(core, arena_does_not_allocate_twice) {
	sl_context *context = sl_test_context();
	sl_memory_usage usage = {.struct_size = sizeof usage};
	int64_t before = 0;
	for (int round = 0; round < 3; round++) {
		sl_arena_mark mark = sli_arena_mark(context);
		void *p, *q;
		CHECK_OK(context, sli_arena_take(context, 100000, &p));
		CHECK_OK(context, sli_arena_take(context, 300000, &q));
		memset(p, 1, 100000);
		memset(q, 2, 300000);
		CHECK_EQ(((char *)p)[99999], 1);
		CHECK_EQ((uintptr_t)q % 64, 0);
		sli_arena_reset(context, mark);
		sl_context_memory(context, &usage);
		if (round == 1)
			before = usage.allocations;
	}
	CHECK_EQ(usage.allocations, before);
	sl_context_destroy(context);
}

SL_TEST(core, dense_views) {
	sl_context *context = sl_test_context();
	float data[64];
	sl_dense view = sl_dense_view(data, SL_F32, 4, 8);
	size_t bytes;
	CHECK_OK(context, sl_dense_bytes(context, &view, &bytes));
	CHECK_EQ(bytes, 128);
	view.ld = 7;
	CHECK_STATUS(context, sl_dense_check(context, &view), SL_ERR_LAYOUT, "at least 8");
	view.ld = INT64_MAX;
	CHECK_STATUS(context, sl_dense_check(context, &view), SL_ERR_OVERFLOW, "too large");
	view = sl_dense_view(NULL, SL_F32, 4, 8);
	CHECK_STATUS(context, sl_dense_check(context, &view), SL_ERR_NULL, "null");
	view = sl_dense_view(NULL, SL_F32, 0, 8);
	CHECK_OK(context, sl_dense_check(context, &view));
	struct DLManagedTensor *tensor;
	sl_dense back;
	view = sl_dense_transposed(sl_dense_view(data, SL_F32, 4, 8));
	CHECK_OK(context, sl_dense_to_dlpack(context, &view, &tensor));
	CHECK_OK(context, sl_dense_from_dlpack(context, tensor, &back));
	CHECK(back.data == data && back.rows == 8 && back.cols == 4 && back.order == SL_COL_MAJOR && back.ld == 8);
	free(tensor); /* what its deleter does */
	sl_context_destroy(context);
}

/* A CSR structure with about `density` of its entries, a first row that is empty. */
typedef struct matrix {
	int32_t offsets[200], columns[200 * 400];
	float values[200 * 400];
	int64_t rows, cols, nnz;
} matrix;

static matrix *make_matrix(int64_t rows, int64_t cols, double density, uint64_t seed) {
	matrix *m = calloc(1, sizeof *m);
	sl_rng rng = sli_rng(seed, 0);
	m->rows = rows;
	m->cols = cols;
	for (int64_t r = 0; r < rows; r++) {
		for (int64_t c = 0; c < cols; c++)
			if ((r || density == 1) && sli_rng_uniform(&rng) < density)
				m->columns[m->nnz++] = (int32_t)c;
		m->offsets[r + 1] = (int32_t)m->nnz;
	}
	sl_test_fill(m->values, SL_F32, m->nnz, seed);
	return m;
}

static sl_matrix_desc matrix_desc(const sl_dense *m) {
	return (sl_matrix_desc){m->rows, m->cols, m->ld, m->dtype, m->order};
}

static void run(sl_context *context, const sl_op_desc *desc, sl_op_args *args) {
	sl_device_state *d = sli_device(context);
	sl_op_plan plan;
	CHECK_OK(context, d->backend->plan(d->device, desc, &plan));
	void *workspace = aligned_alloc(64, plan.workspace + 64);
	args->workspace = workspace;
	CHECK_OK(context, d->backend->execute(d->device, &plan, args));
	d->backend->destroy(d->device, &plan);
	free(workspace);
}

static void check_products(const char *spmm, const char *sddmm, int64_t rows, int64_t cols, int64_t n, int64_t width,
						   double density) {
	sl_context *context = sl_test_context();
	matrix *m = make_matrix(rows, cols, density, 7);
	int64_t padded = (n + width - 1) / width * width;
	float *x = calloc((size_t)(cols * padded + 1), 4), *y = calloc((size_t)(rows * padded + 1), 4);
	float *bias = calloc((size_t)rows + 1, 4), *s = calloc((size_t)m->nnz + 1, 4);
	sl_dense B = {x, SL_F32, SL_COL_PANELS, SL_DEVICE_CPU, 0, cols, n, width};
	sl_dense C = {y, SL_F32, SL_COL_PANELS, SL_DEVICE_CPU, 0, rows, n, width};
#define X(c, j) x[((j) / width) * cols * width + (c)*width + (j) % width]
#define Y(r, j) y[((j) / width) * rows * width + (r)*width + (j) % width]
	sl_rng rng = sli_rng(3, 3);
	for (int64_t j = 0; j < n; j++)
		for (int64_t c = 0; c < cols; c++)
			X(c, j) = (float)(sli_rng_uniform(&rng) * 2 - 1);
	sl_test_fill(bias, SL_F32, rows, 5);
	sl_op_desc desc = {.kind = SL_OP_SPMM,
					   .b = matrix_desc(&B),
					   .c = matrix_desc(&C),
					   .activation = SL_RELU,
					   .bias = true,
					   .kernel = spmm};
	desc.sparse.arrays = (sl_pattern_arrays){rows, cols, m->nnz, m->offsets, SL_I32, m->columns};
	desc.sparse.host = desc.sparse.arrays;
	sl_op_args args = {.alpha = 1, .b = B, .c = C, .values = m->values, .bias = bias};
	run(context, &desc, &args);
	for (int64_t r = 0; r < rows; r++)
		for (int64_t j = 0; j < padded; j++) {
			double sum = at(bias, r), size = fabs(sum);
			for (int64_t k = m->offsets[r]; k < m->offsets[r + 1] && j < n; k++) {
				sum += at(m->values, k) * X(m->columns[k], j);
				size += fabs(at(m->values, k) * X(m->columns[k], j));
			}
			CHECK_NEAR(Y(r, j), j < n && sum > 0 ? sum : 0, 8 * FLT_EPSILON * size);
		}
	/* The gradient of the weights: Y as dY. */
	sl_dense Bt = sl_dense_transposed(B);
	sl_op_desc sampled = {.kind = SL_OP_SDDMM, .a = matrix_desc(&C), .b = matrix_desc(&Bt), .kernel = sddmm};
	sampled.sparse = desc.sparse;
	sl_op_args sampled_args = {.alpha = 0.5, .beta = 0, .a = C, .b = Bt, .values_out = s};
	run(context, &sampled, &sampled_args);
	for (int64_t r = 0; r < rows; r++)
		for (int64_t k = m->offsets[r]; k < m->offsets[r + 1]; k++) {
			double sum = 0, size = 0;
			for (int64_t j = 0; j < n; j++) {
				sum += 0.5 * Y(r, j) * X(m->columns[k], j);
				size += fabs(0.5 * Y(r, j) * X(m->columns[k], j));
			}
			CHECK_NEAR(s[k], sum, 8 * FLT_EPSILON * size);
		}
	CHECK(s[m->nnz] == 0 && x[cols * padded] == 0 && y[rows * padded] == 0);
	free(x), free(y), free(bias), free(s), free(m);
	sl_context_destroy(context);
}

static void all_shapes(const char *spmm, const char *sddmm) {
	static const int64_t batches[] = {1, 7, 8, 31, 32, 33, 63, 64, 65, 130};
	for (size_t i = 0; i < sizeof batches / sizeof *batches; i++)
		for (int64_t width = 8; width <= 64; width *= 2) {
			check_products(spmm, sddmm, 33, 50, batches[i], width, 0.3);
			check_products(spmm, sddmm, 1, 1, batches[i], width, 1);
		}
	check_products(spmm, sddmm, 199, 150, 70, 64, 0.02);
	check_products(spmm, sddmm, 40, 60, 64, 64, 1);
	check_products(spmm, sddmm, 100, 400, 65, 64, 0.5); /* rows are cut into blocks of columns */
	check_products(spmm, sddmm, 5, 6, 10, 8, 0);
}

SL_TEST(products, scalar) {
	all_shapes("spmm_f32_scalar", "sddmm_f32_scalar");
}

SL_TEST(products, avx2) {
#if defined(__x86_64__)
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
		sl_test_skip("this machine has no AVX2");
	all_shapes("spmm_f32_avx2", "sddmm_f32_avx2");
#else
	sl_test_skip("not x86-64");
#endif
}

SL_TEST(products, avx512) {
#if defined(__x86_64__)
	if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512vl"))
		sl_test_skip("this machine has no AVX-512: spmm_f32_avx512 and sddmm_f32_avx512 were not run");
	all_shapes("spmm_f32_avx512", "sddmm_f32_avx512");
#else
	sl_test_skip("not x86-64");
#endif
}

SL_TEST(products, gemm) {
	sl_context *context = sl_test_context();
	enum { M = 37, K = 41, N = 70 };
	static float a[M * K], b[K * 128], c[M * 128];
	sl_test_fill(a, SL_F32, M * K, 1);
	memset(b, 0, sizeof b);
	sl_test_fill(b, SL_F32, K * N, 2);
	for (int turn = 0; turn < 4; turn++) {
		sl_dense A = sl_dense_view(a, SL_F32, M, K), B = sl_dense_view(b, SL_F32, K, N),
				 C = sl_dense_view(c, SL_F32, M, N);
		if (turn & 1)
			A = sl_dense_transposed(sl_dense_view(a, SL_F32, K, M));
		if (turn & 2)
			B = sl_dense_transposed(sl_dense_view(b, SL_F32, N, K));
		sl_op_desc desc = {.kind = SL_OP_GEMM, .a = matrix_desc(&A), .b = matrix_desc(&B), .c = matrix_desc(&C)};
		sl_op_args args = {.alpha = 2, .beta = 0, .a = A, .b = B, .c = C};
		memset(c, 0xff, sizeof c); /* NaN: must not be read */
		run(context, &desc, &args);
		for (int r = 0; r < M; r++)
			for (int j = 0; j < N; j++) {
				double sum = 0, size = 0;
				for (int k = 0; k < K; k++) {
					double p = 2.0 * a[turn & 1 ? k * M + r : r * K + k] * b[turn & 2 ? j * K + k : k * N + j];
					sum += p;
					size += fabs(p);
				}
				CHECK_NEAR(c[r * N + j], sum, 8 * FLT_EPSILON * size);
			}
	}
	sl_context_destroy(context);
}

SL_TEST(vector, loss_gradient_by_finite_differences) {
	sl_context *context = sl_test_context();
	enum { F = 5, B = 9 };
	double x[F * B], g[F * B];
	int32_t labels[B] = {0, 4, 2, 1, 3, 3, 0, 2, 4};
	double dense[F * B];
	sl_test_fill(x, SL_F64, F * B, 11);
	sl_test_fill(dense, SL_F64, F * B, 12);
	for (int loss = SL_SOFTMAX_CROSS_ENTROPY; loss <= SL_MEAN_SQUARED_ERROR; loss++) {
		sl_dense X = sl_dense_view(x, SL_F64, F, B), T = sl_dense_view(dense, SL_F64, F, B);
		sl_op_desc desc = {
			.kind = SL_OP_LOSS, .variant = loss, .a = matrix_desc(&X), .b = matrix_desc(&T), .c = matrix_desc(&X)};
		sl_op_args args = {.alpha = 1, .a = X, .b = T, .c = sl_dense_view(g, SL_F64, F, B)};
		if (loss == SL_SOFTMAX_CROSS_ENTROPY)
			args.labels = labels;
		sl_loss_sums sums = {.bad_row = -1};
		args.result = &sums;
		run(context, &desc, &args);
		CHECK_EQ(sums.rows, B);
		for (int i = 0; i < F * B; i++) {
			double old = x[i], value[2];
			for (int side = 0; side < 2; side++) {
				x[i] = old + (side ? 1e-5 : -1e-5);
				sl_loss_sums probe = {.bad_row = -1};
				args.result = &probe;
				args.c.data = NULL;
				run(context, &desc, &args);
				value[side] = probe.loss / B;
			}
			args.c.data = g;
			x[i] = old;
			CHECK_NEAR(g[i], (value[1] - value[0]) / 2e-5, 1e-8);
		}
	}
	labels[3] = F;
	sl_dense X = sl_dense_view(x, SL_F64, F, B);
	sl_op_desc desc = {.kind = SL_OP_LOSS, .a = matrix_desc(&X), .c = matrix_desc(&X)};
	sl_loss_sums sums = {.bad_row = -1};
	sl_op_args args = {.alpha = 1, .a = X, .labels = labels, .result = &sums};
	run(context, &desc, &args);
	CHECK_EQ(sums.bad_row, 3);
	sl_context_destroy(context);
}

SL_TEST(vector, adam_against_a_reference) {
	sl_context *context = sl_test_context();
	enum { N = 1000 };
	static float w[N], g[N], m[N], v[N];
	static double rw[N], rm[N], rv[N];
	sl_test_fill(w, SL_F32, N, 1);
	for (int i = 0; i < N; i++)
		rw[i] = w[i];
	for (int t = 1; t <= 5; t++) {
		sl_test_fill(g, SL_F32, N, (uint64_t)t + 10);
		sl_update u = {.learning_rate = 0.01,
					   .beta1 = 0.9,
					   .beta2 = 0.999,
					   .epsilon = 1e-8,
					   .correction1 = 1 - pow(0.9, t),
					   .correction2 = 1 - pow(0.999, t),
					   .gradient_factor = 1,
					   .l2 = 0.1};
		sl_op_desc desc = {.kind = SL_OP_UPDATE, .variant = SL_ADAM, .count = N};
		desc.a.dtype = SL_F32;
		sl_op_args args = {.vector = {w, g, m, v}, .count = N, .update = &u};
		run(context, &desc, &args);
		for (int i = 0; i < N; i++) {
			double x = g[i] + 0.1 * rw[i];
			rm[i] = 0.9 * rm[i] + 0.1 * x;
			rv[i] = 0.999 * rv[i] + 0.001 * x * x;
			rw[i] -= 0.01 * (rm[i] / u.correction1) / (sqrt(rv[i] / u.correction2) + 1e-8);
		}
	}
	for (int i = 0; i < N; i++)
		CHECK_NEAR(w[i], rw[i], 2e-5);
	sl_context_destroy(context);
}

/* Rows cut into blocks of columns add to what was there, once; the bias comes after the last block. */
SL_TEST(products, blocks_with_beta) {
	enum { M = 100, K = 400, N = 64 };
	sl_context *context = sl_test_context();
	static float x[K * N], y[K * N], old[K * N];
	sl_pattern *pattern;
	sl_csr *A;
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_random(&pattern, context, M, K, 0.7, 1));
	CHECK_OK(context, sl_csr_create_pattern(&A, context, pattern, SL_F32));
	CHECK_OK(context, sl_pattern_get(context, pattern, &a));
	sl_test_fill(sl_csr_values(A), SL_F32, a.nnz, 1);
	sl_test_fill(x, SL_F32, K * N, 2);
	for (int transpose = 0; transpose < 2; transpose++) {
		int m = transpose ? K : M, k = transpose ? M : K;
		float bias[K];
		sl_epilogue e;
		SL_OPTIONS_INIT(e);
		e.bias = bias;
		sl_test_fill(bias, SL_F32, m, 5);
		sl_test_fill(y, SL_F32, m * N, 3);
		memcpy(old, y, sizeof old);
		sl_dense B = {x, SL_F32, SL_COL_PANELS, SL_DEVICE_CPU, 0, k, N, 64},
				 C = {y, SL_F32, SL_COL_PANELS, SL_DEVICE_CPU, 0, m, N, 64};
		CHECK_OK(context, sl_spmm(context, transpose ? SL_TRANSPOSE : SL_NO_TRANSPOSE, -0.5, A, &B, 0.25, &C, &e));
		static double sum[K * N], size[K * N];
		for (int i = 0; i < m * N; i++) {
			sum[i] = 0.25 * old[i] + bias[i / N];
			size[i] = fabs(0.25 * old[i]) + fabs(bias[i / N]);
		}
		const int32_t *offsets = a.row_offsets;
		const float *values = sl_csr_values(A);
		for (int r = 0; r < M; r++)
			for (int64_t e2 = offsets[r]; e2 < offsets[r + 1]; e2++)
				for (int j = 0; j < N; j++) {
					int c = a.col_indices[e2];
					double p = -0.5 * values[e2] * x[(transpose ? r : c) * N + j];
					sum[(transpose ? c : r) * N + j] += p;
					size[(transpose ? c : r) * N + j] += fabs(p);
				}
		for (int i = 0; i < m * N; i++)
			CHECK_NEAR(y[i], sum[i], 8 * FLT_EPSILON * size[i]);
	}
	sl_csr_destroy(A), sl_pattern_release(pattern);
	sl_context_destroy(context);
}
