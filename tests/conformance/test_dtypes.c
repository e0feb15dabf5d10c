/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products in every dtype and storage order. The reference is in double, from the inputs as they
 * are stored. A result is rounded to storage once, so with u the unit roundoff of a dtype and
 * S = sum |a||b| + |beta c| + |bias| it lies within u(storage) * |result| + 8 * u(accumulator) * S.
 */
#include "ops/ops.h"
#include "support/views.h"

static const sl_dtype dtypes[] = {SL_F32, SL_F64, SL_BF16, SL_F16};

enum { SPMM, SPMM_TRANSPOSED, GEMM, PRODUCTS, MOST = 80 };

static double accumulator(sl_dtype dtype) {
	return view_eps(dtype == SL_F64 ? SL_F64 : SL_F32);
}

/* f16's subnormals are within reach of a result; nothing else's are. */
static double least(sl_dtype dtype) {
	return dtype == SL_F16 ? 0x1p-25 : 0;
}

/* A matrix that can be dense or sparse: [m, k], its dense twin holding zeros off the pattern. */
typedef struct operand {
	sl_pattern *pattern;
	sl_csr *csr;       /* [m, k], or [k, m] where it is used transposed */
	view_block values; /* of csr */
	view_block dense;  /* [m, k] */
	double at[MOST][MOST];
} operand;

static void fill(view_block *b, uint64_t seed, bool exact) {
	if (!exact) {
		view_fill(b, seed, 1);
		return;
	}
	/* Multiples of 1/128 below 1: sums of their products are exact in float32. */
	double x[MOST * MOST];
	sl_test_fill(x, SL_F64, MOST * MOST, seed);
	for (int64_t r = 0; r < b->view.rows; r++)
		for (int64_t c = 0; c < b->view.cols; c++)
			view_set(b->view.data, b->view.dtype, view_at(&b->view, r, c), x[r * b->view.cols + c]);
}

static operand *make_operand(sl_context *context, sl_dtype dtype, int64_t m, int64_t k, int product, int order,
							 bool exact) {
	operand *o = calloc(1, sizeof *o);
	bool turned = product == SPMM_TRANSPOSED;
	o->dense = view_create(dtype, (sl_order)order, m, k, 16);
	fill(&o->dense, (uint64_t)(m * 31 + k), exact);
	for (int64_t r = 0; r < m; r++)
		for (int64_t c = 0; c < k && product == GEMM; c++)
			o->at[r][c] = view_load(&o->dense.view, r, c);
	if (product == GEMM)
		return o;
	sl_pattern_arrays arrays;
	CHECK_OK(context, sl_pattern_random(&o->pattern, context, turned ? k : m, turned ? m : k, 0.4, (uint64_t)(m + k)));
	CHECK_OK(context, sl_pattern_get(context, o->pattern, &arrays));
	o->values = view_create(dtype, SL_ROW_MAJOR, 1, arrays.nnz, 0);
	fill(&o->values, 17, exact);
	for (int64_t r = 0; r < arrays.rows; r++) {
		bool wide = arrays.offset_dtype == SL_I64;
		int64_t first = wide ? ((const int64_t *)arrays.row_offsets)[r] : ((const int32_t *)arrays.row_offsets)[r];
		int64_t last =
			wide ? ((const int64_t *)arrays.row_offsets)[r + 1] : ((const int32_t *)arrays.row_offsets)[r + 1];
		for (int64_t i = first; i < last; i++) {
			int32_t c = arrays.col_indices[i];
			double x = view_load(&o->values.view, 0, i);
			o->at[turned ? c : r][turned ? r : c] = x;
		}
	}
	CHECK_OK(context, sl_csr_wrap(&o->csr, context, o->pattern, o->values.view.data, dtype, NULL, NULL));
	return o;
}

static void free_operand(operand *o) {
	sl_csr_destroy(o->csr);
	sl_pattern_release(o->pattern);
	view_free(&o->values);
	view_free(&o->dense);
	free(o);
}

static sl_status run(sl_context *context, int product, const operand *a, double alpha, const sl_dense *B, double beta,
					 sl_dense *C, const sl_epilogue *epilogue) {
	if (product == GEMM)
		return sl_gemm(context, alpha, &a->dense.view, B, beta, C, epilogue);
	return sl_spmm(context, product == SPMM ? SL_NO_TRANSPOSE : SL_TRANSPOSE, alpha, a->csr, B, beta, C, epilogue);
}

static double activated(sl_activation activation, double z) {
	return activation == SL_RELU   ? (z > 0 ? z : 0)
		   : activation == SL_TANH ? tanh(z)
		   : activation == SL_GELU ? 0.5 * z * erfc(-z * sqrt(0.5))
								   : z;
}

typedef struct shape {
	int64_t m, k, n;
} shape;

typedef struct layout {
	int a, b, c;
} layout;

typedef struct epilogue_case {
	sl_activation activation;
	bool bias, pre, exact;
} epilogue_case;

/* The epilogue's bias: f32 beside half types. */
static view_block make_bias(sl_dtype dtype, int64_t m, bool exact) {
	view_block bias = view_create(dtype == SL_F64 ? SL_F64 : SL_F32, SL_ROW_MAJOR, 1, m, 0);
	fill(&bias, 77, exact);
	return bias;
}

static void check_product(sl_context *context, int product, sl_dtype dtype, shape s, layout l, double beta,
						  epilogue_case e) {
	operand *a = make_operand(context, dtype, s.m, s.k, product, l.a, e.exact);
	view_block b = view_create(dtype, (sl_order)l.b, s.k, s.n, 16),
			   c = (beta == 0 ? view_output : view_create)(dtype, (sl_order)l.c, s.m, s.n, l.a & 1 ? 16 : 5);
	view_block old = view_create(dtype, (sl_order)l.c, s.m, s.n, 16),
			   d = (e.pre ? view_output : view_create)(dtype, (sl_order)l.c, s.m, s.n, c.view.ld);
	view_block bias = make_bias(dtype, s.m, e.exact);
	fill(&b, 3, e.exact);
	fill(&old, 4, e.exact);
	for (int64_t r = 0; r < s.m; r++)
		for (int64_t j = 0; j < s.n; j++)
			view_set(c.view.data, dtype, view_at(&c.view, r, j), beta == 0 ? NAN : view_load(&old.view, r, j));
	sl_epilogue epilogue = {SL_EPILOGUE_DEFAULTS, .bias = e.bias ? bias.view.data : NULL, .activation = e.activation,
							.pre_activation = e.pre ? &d.view : NULL};
	const double alpha = e.exact ? 0.5 : 0.7;
	bool plain = !e.bias && !e.pre && e.activation == SL_IDENTITY;
	static double right[MOST][MOST];
	for (int64_t i = 0; i < s.k; i++)
		for (int64_t j = 0; j < s.n; j++)
			right[i][j] = view_load(&b.view, i, j);
	CHECK_OK(context, run(context, product, a, alpha, &b.view, beta, &c.view, plain ? NULL : &epilogue));
	CHECK(view_intact(&b) && view_intact(&c) && view_intact(&d) && view_intact(&bias));
	CHECK(product == GEMM ? view_intact(&a->dense) : view_intact(&a->values));
	for (int64_t r = 0; r < s.m; r++)
		for (int64_t j = 0; j < s.n; j++) {
			double z = 0, size = 0, got = view_load(&c.view, r, j);
			for (int64_t i = 0; i < s.k; i++) {
				double x = a->at[r][i] * right[i][j];
				z += alpha * x;
				size += fabs(alpha * x);
			}
			if (beta != 0) {
				z += beta * view_load(&old.view, r, j);
				size += fabs(beta * view_load(&old.view, r, j));
			}
			if (e.bias) {
				z += view_load(&bias.view, 0, r);
				size += fabs(view_load(&bias.view, 0, r));
			}
			double y = activated(e.activation, z), slack = 8 * accumulator(dtype) * size + least(dtype);
			if (e.exact) {
				/* Nothing but storage rounds: one right answer. */
				if (got != view_round(dtype, y) || (e.pre && view_load(&d.view, r, j) != view_round(dtype, z)))
					sl_test_fail(__FILE__, __LINE__,
								 "product %d of %s, orders %d %d %d: %.17g (%.17g) for %.17g (%.17g)", product,
								 sl_dtype_name(dtype), l.a, l.b, l.c, got, e.pre ? view_load(&d.view, r, j) : NAN, y,
								 z);
				continue;
			}
			CHECK_NEAR(got, y,
					   view_eps(dtype) * fabs(y) + slack + (plain ? 0 : 4 * accumulator(dtype) * (fabs(z) + fabs(y))));
			if (e.pre)
				CHECK_NEAR(view_load(&d.view, r, j), z, view_eps(dtype) * fabs(z) + slack);
		}
	free_operand(a);
	view_free(&b);
	view_free(&c);
	view_free(&d);
	view_free(&old);
	view_free(&bias);
}

static const shape shapes[] = {{1, 1, 1}, {17, 23, 9}, {16, 16, 16}, {5, 0, 6},
							   {0, 4, 3}, {4, 3, 0},   {33, 17, 18}, {9, 20, 70}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* GPU kernels run as fibers, which takes its time: each layout has a third of the shapes there, and each shape a third
 * of the layouts. */
#ifdef SL_TESTS_ON_CUDA_H
enum { EVERY = 3 };
#else
enum { EVERY = 1 };
#endif

/* All orders of A (where it is dense), B and C; a sparse A has none. */
static void all_layouts(int product, epilogue_case e, int first_shape) {
	sl_context *context = sl_test_context();
	for (int t = 0; t < 4; t++)
		for (int o = 0; o < 64; o++) {
			if (product != GEMM && o >= 32)
				break;
			layout l = {o >> 4, o & 3, o >> 2 & 3};
			for (int s = first_shape + (o + t) % EVERY % (SHAPES - first_shape); s < SHAPES; s += EVERY)
				for (int b = 0; b < 2; b++)
					check_product(context, product, dtypes[t], shapes[s], l, b ? 0.5 : 0, e);
		}
	sl_context_destroy(context);
}

SL_TEST(dtypes, spmm) {
	all_layouts(SPMM, (epilogue_case){0}, 0);
}

SL_TEST(dtypes, spmm_transposed) {
	all_layouts(SPMM_TRANSPOSED, (epilogue_case){0}, 0);
}

SL_TEST(dtypes, gemm) {
	all_layouts(GEMM, (epilogue_case){0}, 0);
}

static void epilogues(int product) {
	static const sl_activation activations[] = {SL_IDENTITY, SL_RELU, SL_TANH, SL_GELU};
	for (int a = 0; a < 4; a++)
		all_layouts(product, (epilogue_case){activations[a], a != 1, a != 2, false}, a == 3 ? 0 : SHAPES - 1);
}

SL_TEST(dtypes, spmm_with_epilogue) {
	epilogues(SPMM);
}

SL_TEST(dtypes, spmm_transposed_with_epilogue) {
	epilogues(SPMM_TRANSPOSED);
}

SL_TEST(dtypes, gemm_with_epilogue) {
	epilogues(GEMM);
}

SL_TEST(dtypes, results_are_rounded_once_behind_the_epilogue) {
	for (int product = 0; product < PRODUCTS; product++) {
		all_layouts(product, (epilogue_case){.exact = true}, 0);
		all_layouts(product, (epilogue_case){SL_IDENTITY, true, false, true}, SHAPES - 1);
		all_layouts(product, (epilogue_case){SL_RELU, true, true, true}, 0);
		all_layouts(product, (epilogue_case){SL_RELU, false, true, true}, SHAPES - 1);
	}
}

SL_TEST(dtypes, a_tie_decided_by_the_bias) {
	/* One half step above 1 is a tie that storage rounds down; the bias, smaller still, decides. */
	sl_context *context = sl_test_context();
	for (int t = 2; t < 4; t++) {
		double half = view_eps(dtypes[t]), x[2] = {1, half};
		static _Alignas(8) uint16_t a[16], b[16], c[16], d[16], ones[16];
		float bias = (float)(half / 2);
		for (int i = 0; i < 2; i++) {
			view_set(a, dtypes[t], i, x[i]);
			view_set(ones, dtypes[t], i, 1);
			view_set(b, dtypes[t], i, 1);
		}
		sl_dense A = sl_dense_view(a, dtypes[t], 1, 2), B = sl_dense_view(b, dtypes[t], 2, 1);
		sl_dense C = sl_dense_view(c, dtypes[t], 1, 1), D = sl_dense_view(d, dtypes[t], 1, 1);
		const int32_t offsets[] = {0, 2}, columns[] = {0, 1};
		sl_pattern *pattern;
		sl_csr *S;
		CHECK_OK(context, sl_pattern_create(&pattern, context, 1, 2, 2, offsets, SL_I32, columns, SL_I32));
		CHECK_OK(context, sl_csr_wrap(&S, context, pattern, a, dtypes[t], NULL, NULL));
		sl_epilogue epilogue = {SL_EPILOGUE_DEFAULTS, .bias = &bias, .pre_activation = &D};
		CHECK_OK(context, sl_gemm(context, 1, &A, &B, 0, &C, NULL));
		CHECK(view_load(&C, 0, 0) == 1);
		CHECK_OK(context, sl_gemm(context, 1, &A, &B, 0, &C, &epilogue));
		CHECK(view_load(&C, 0, 0) == 1 + 2 * half && view_load(&D, 0, 0) == 1 + 2 * half);
		c[0] = d[0] = 0;
		CHECK_OK(context, sl_spmm(context, SL_NO_TRANSPOSE, 1, S, &B, 0, &C, &epilogue));
		CHECK(view_load(&C, 0, 0) == 1 + 2 * half && view_load(&D, 0, 0) == 1 + 2 * half);
		/* Also where the old content takes part: 1 * C + products, not rounded between. */
		view_set(c, dtypes[t], 0, 1);
		A.data = b;
		view_set(b, dtypes[t], 0, half);
		view_set(b, dtypes[t], 1, 0);
		B.data = ones;
		CHECK_OK(context, sl_gemm(context, 1, &A, &B, 1, &C, &epilogue));
		CHECK(view_load(&C, 0, 0) == 1 + 2 * half);
		sl_csr_destroy(S);
		sl_pattern_release(pattern);
	}
	sl_context_destroy(context);
}

static void check_sddmm(sl_context *context, sl_dtype dtype, shape s, int ao, int bo, double beta) {
	view_block a = view_create(dtype, (sl_order)ao, s.m, s.k, ao == bo ? 8 : 5),
			   b = view_create(dtype, (sl_order)bo, s.k, s.n, 8);
	sl_pattern *pattern;
	sl_pattern_arrays arrays;
	sl_csr *S;
	CHECK_OK(context, sl_pattern_random(&pattern, context, s.m, s.n, 0.4, 5));
	CHECK_OK(context, sl_pattern_get(context, pattern, &arrays));
	view_block values = view_create(dtype, SL_ROW_MAJOR, 1, arrays.nnz, 0),
			   old = view_create(dtype, SL_ROW_MAJOR, 1, arrays.nnz, 0);
	view_fill(&a, 1, 1);
	view_fill(&b, 2, 1);
	view_fill(&old, 3, 1);
	for (int64_t i = 0; i < arrays.nnz; i++)
		view_set(values.view.data, dtype, i, beta == 0 ? NAN : view_load(&old.view, 0, i));
	CHECK_OK(context, sl_csr_wrap(&S, context, pattern, values.view.data, dtype, NULL, NULL));
	CHECK_OK(context, sl_sddmm(context, 0.7, &a.view, &b.view, beta, S));
	CHECK(view_intact(&a) && view_intact(&b) && view_intact(&values));
	int64_t i = 0;
	for (int64_t r = 0; r < s.m; r++) {
		bool wide = arrays.offset_dtype == SL_I64;
		int64_t last =
			wide ? ((const int64_t *)arrays.row_offsets)[r + 1] : ((const int32_t *)arrays.row_offsets)[r + 1];
		for (; i < last; i++) {
			double z = beta == 0 ? 0 : beta * view_load(&old.view, 0, i), size = fabs(z);
			for (int64_t q = 0; q < s.k; q++) {
				double x = 0.7 * view_load(&a.view, r, q) * view_load(&b.view, q, arrays.col_indices[i]);
				z += x;
				size += fabs(x);
			}
			CHECK_NEAR(view_load(&values.view, 0, i), z,
					   view_eps(dtype) * fabs(z) + 8 * accumulator(dtype) * size + least(dtype));
		}
	}
	CHECK_EQ(i, arrays.nnz);
	sl_csr_destroy(S);
	sl_pattern_release(pattern);
	view_free(&a);
	view_free(&b);
	view_free(&values);
	view_free(&old);
}

SL_TEST(dtypes, sddmm) {
	sl_context *context = sl_test_context();
	for (int t = 0; t < 4; t++)
		for (int o = 0; o < 16; o++)
			for (int s = (o + t) % EVERY; s < SHAPES; s += EVERY) {
				shape turned = {shapes[s].m, shapes[s].n, shapes[s].k};
				for (int b = 0; b < 2; b++) {
					check_sddmm(context, dtypes[t], shapes[s], o & 3, o >> 2, b ? 0.5 : 0);
					check_sddmm(context, dtypes[t], turned, o & 3, o >> 2, b ? 0.5 : 0);
				}
			}
	sl_context_destroy(context);
}

/* The same bits on 1, 2, 3 threads and a parallel-for that runs backwards. */

static void run_backwards(void *user, size_t count, void (*task)(void *argument, size_t index), void *argument) {
	(void)user;
	for (size_t i = count; i-- > 0;)
		task(argument, i);
}

static void products_of(int way, sl_dtype dtype, unsigned char *out) {
	enum { M = 70, K = 60, N = 75 };
	sl_context_options options;
	sl_context *context = NULL;
	SL_OPTIONS_INIT(options);
	options.device = SL_DEVICE_CPU;
	options.threads = way + 1;
	if (way == 3)
		options.parallel_for = (sl_parallel_for){.threads = 4, .run = run_backwards};
	CHECK_OK(NULL, sl_context_create(&context, &options));
	size_t size = sl_dtype_size(dtype);
	for (int product = 0; product < PRODUCTS; product++) {
		operand *a = make_operand(context, dtype, M, K, product, product, false);
		view_block b = view_create(dtype, SL_COL_PANELS, K, N, 16), bias = make_bias(dtype, M, false);
		view_fill(&b, 9, 1);
		sl_dense C = sl_dense_view(out, dtype, M, N);
		sl_epilogue epilogue = {SL_EPILOGUE_DEFAULTS, .bias = bias.view.data, .activation = SL_TANH};
		CHECK_OK(context, run(context, product, a, 1, &b.view, 0, &C, &epilogue));
		out += M * N * size;
		if (product == SPMM) {
			/* Its gradient: a dense [M, N] by [N, K] at the pattern. */
			sl_dense transposed = sl_dense_transposed(b.view);
			CHECK_OK(context, sl_sddmm(context, 1, &C, &transposed, 0, a->csr));
			memcpy(out, a->values.view.data, (size_t)a->values.view.cols * size);
			out += M * K * size;
		}
		free_operand(a);
		view_free(&b);
		view_free(&bias);
	}
	sl_context_destroy(context);
}

SL_TEST(dtypes, same_bits_on_any_threads) {
	static unsigned char first[4 * 80 * 80 * 8], other[sizeof first];
	for (int t = 0; t < 4; t++) {
		memset(first, 0, sizeof first);
		products_of(0, dtypes[t], first);
		for (int way = 1; way < 4; way++) {
			memset(other, 0, sizeof other);
			products_of(way, dtypes[t], other);
			CHECK(!memcmp(first, other, sizeof first));
		}
	}
}

/* What the table of dtypes does not list. */

static void refused(sl_context *context, sl_status status, bool legal, const char *what, int combination) {
	if (status != (legal ? SL_OK : SL_ERR_DTYPE))
		sl_test_fail(__FILE__, __LINE__, "%s, combination %d: %s: %s", what, combination, sl_status_name(status),
					 sl_context_message(context));
	if (!legal && !strchr(sl_context_message(context), '1') && !strchr(sl_context_message(context), '6') &&
		!strchr(sl_context_message(context), '3'))
		sl_test_fail(__FILE__, __LINE__, "%s: the message names no dtype: %s", what, sl_context_message(context));
}

SL_TEST(dtypes, mixed_operands_are_refused) {
	sl_context *context = sl_test_context();
	static double x[16], y[16], z[16];
	const int32_t offsets[] = {0, 1, 2}, columns[] = {0, 1};
	sl_pattern *pattern;
	sl_csr *matrices[4];
	CHECK_OK(context, sl_pattern_create(&pattern, context, 2, 2, 2, offsets, SL_I32, columns, SL_I32));
	for (int t = 0; t < 4; t++)
		CHECK_OK(context, sl_csr_create_pattern(&matrices[t], context, pattern, dtypes[t]));
	for (int i = 0; i < 64; i++) {
		int ta = i & 3, tb = i >> 2 & 3, tc = i >> 4;
		bool legal = ta == tb && tb == tc;
		sl_dense A = sl_dense_view(x, dtypes[ta], 2, 2), B = sl_dense_view(y, dtypes[tb], 2, 2),
				 C = sl_dense_view(z, dtypes[tc], 2, 2);
		sl_plan *plan = NULL;
		refused(context, sl_gemm(context, 1, &A, &B, 0, &C, NULL), legal, "gemm", i);
		refused(context, sl_spmm(context, SL_NO_TRANSPOSE, 1, matrices[ta], &B, 0, &C, NULL), legal, "spmm", i);
		refused(context, sl_spmm(context, SL_TRANSPOSE, 1, matrices[ta], &B, 0, &C, NULL), legal, "spmm transposed", i);
		refused(context, sl_sddmm(context, 1, &A, &B, 0, matrices[tc]), legal, "sddmm", i);
		refused(context, sl_activate_backward(context, SL_TANH, 0, &A, &B, &C), legal, "activation gradient", i);
		refused(context, sl_activate(context, SL_TANH, 0, &A, &C), ta == tc, "activation", i);
		refused(context, sl_dense_copy(context, &A, &C), true, "copy", i);
		refused(context, sl_plan_spmm(&plan, context, SL_NO_TRANSPOSE, matrices[ta], &B, &C, NULL), legal,
				"plan of spmm", i);
		CHECK(!plan == !legal);
		sl_plan_destroy(plan);
		plan = NULL;
		refused(context, sl_plan_sddmm(&plan, context, &A, &B, matrices[tc]), legal, "plan of sddmm", i);
		CHECK(!plan == !legal);
		sl_plan_destroy(plan);
		if (ta == tb) {
			static double pre[16];
			sl_dense D = sl_dense_view(pre, dtypes[tc], 2, 2), same = sl_dense_view(z, dtypes[ta], 2, 2);
			sl_epilogue epilogue = {SL_EPILOGUE_DEFAULTS, .pre_activation = &D};
			refused(context, sl_gemm(context, 1, &A, &B, 0, &same, &epilogue), legal, "pre-activation", i);
		}
	}
	/* No value dtypes at all. */
	const sl_dtype none[] = {SL_I32, SL_I64, (sl_dtype)0, (sl_dtype)99};
	for (int t = 0; t < 4; t++) {
		sl_dense A = sl_dense_view(x, SL_F32, 2, 2), bad = sl_dense_view(y, none[t], 2, 2),
				 C = sl_dense_view(z, SL_F32, 2, 2);
		sl_csr *matrix = NULL;
		CHECK_EQ(sl_gemm(context, 1, &bad, &A, 0, &C, NULL), SL_ERR_DTYPE);
		CHECK_EQ(sl_gemm(context, 1, &A, &A, 0, &bad, NULL), SL_ERR_DTYPE);
		CHECK_EQ(sl_spmm(context, SL_NO_TRANSPOSE, 1, matrices[0], &bad, 0, &C, NULL), SL_ERR_DTYPE);
		CHECK_EQ(sl_activate(context, SL_RELU, 0, &bad, &bad), SL_ERR_DTYPE);
		CHECK_EQ(sl_dense_copy(context, &A, &bad), SL_ERR_DTYPE);
		CHECK_EQ(sl_sum_columns(context, &bad, 0, z), SL_ERR_DTYPE);
		CHECK_EQ(sl_csr_create_pattern(&matrix, context, pattern, none[t]), SL_ERR_DTYPE);
		CHECK(!matrix);
	}
	for (int t = 0; t < 4; t++)
		sl_csr_destroy(matrices[t]);
	sl_pattern_release(pattern);
	sl_context_destroy(context);
}

SL_TEST(dtypes, the_table_says_what_each_op_takes) {
	sl_context *context = sl_test_context();
	for (int kind = 0; kind < SL_OP_COUNT; kind++)
		for (int t = 0; t < 4; t++) {
			sl_op_desc desc = {
				.kind = (sl_op_kind)kind, .a.dtype = dtypes[t], .b.dtype = dtypes[t], .c.dtype = dtypes[t]};
			bool floats =
				kind == SL_OP_ELEMENTWISE || kind == SL_OP_LOSS || kind == SL_OP_UPDATE || kind >= SL_OP_INPUT;
			CHECK_EQ(sli_check_dtypes(context, &desc), floats && t >= 2 ? SL_ERR_DTYPE : SL_OK);
			desc.a.dtype = SL_I32;
			CHECK_EQ(sli_check_dtypes(context, &desc), SL_ERR_DTYPE);
		}
	sl_op_desc unknown = {.kind = SL_OP_COUNT};
	CHECK_EQ(sli_check_dtypes(context, &unknown), SL_ERR_INTERNAL);
	/* Layers and losses run in f32 and f64. */
	for (int t = 0; t < 4; t++) {
		sl_linear_options options = {SL_LINEAR_DEFAULTS, .in_features = 3, .out_features = 2, .dtype = dtypes[t]};
		sl_layer *layer = NULL;
		CHECK_EQ(sl_linear_create(&layer, context, &options), t < 2 ? SL_OK : SL_ERR_DTYPE);
		sl_layer_destroy(layer);
	}
	sl_context_destroy(context);
}
