/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ops that are no products, on the CUDA module and on the CPU: every order, dtype and a shape around each tile. Copies
 * agree to the bit; functions within a few units of float32's roundoff, whose libraries may differ.
 */
#include "both.h"

static const sl_dtype dtypes[] = {SL_F32, SL_F64, SL_BF16, SL_F16};
/* Around the tiles of copies, and around the threads that share a row. */
static const int64_t sizes[][2] = {{1, 1}, {31, 33}, {32, 32}, {33, 65}, {5, 0}, {0, 3}, {3, 300}, {70, 2}};
static const int64_t lines[][2] = {{1, 1}, {2, 255}, {3, 256}, {2, 257}, {5, 0}, {0, 3}, {9, 2}};
enum { SIZES = sizeof sizes / sizeof *sizes, LINES = sizeof lines / sizeof *lines };

static double eps(sl_dtype dtype) {
	return view_eps(dtype);
}

SL_TEST(cuda_vector, copies_between_all_orders_and_dtypes) {
	both *t = both_open();
	for (int f = 0; f < 16; f++)
		for (int o = 0; o < 16; o++)
			for (int s = 0; s < SIZES; s++) {
				/* Orders or dtypes in full, not their product. */
				if (f % 5 && o % 5 && (f + o + s) % 7)
					continue;
				int64_t rows = sizes[s][0], cols = sizes[s][1];
				view_block a = view_create(dtypes[f & 3], (sl_order)(o & 3), rows, cols, 16),
						   c = view_output(dtypes[f >> 2], (sl_order)(o >> 2), rows, cols, 8);
				view_fill(&a, (uint64_t)(s + 1), 3);
				both_view(t, &a);
				both_view(t, &c);
				sl_op_desc desc = {.kind = SL_OP_CONVERT, .a = both_desc(&a.view), .c = both_desc(&c.view)};
				sl_op_args args = {.a = a.view, .c = c.view};
				both_run(t, &desc, &args);
				both_compare(t, &a, 0, 0);
				both_compare(t, &c, 0, 0);
				both_forget(t);
				view_free(&a);
				view_free(&c);
			}
	both_close(t);
}

SL_TEST(cuda_vector, gather) {
	both *t = both_open();
	enum { N = 1000 };
	static double from[N], to[N];
	static int64_t wide[N];
	static int32_t narrow[N];
	for (int i = 0; i < N; i++) {
		from[i] = i * 1.5;
		narrow[i] = (int32_t)(wide[i] = i * 7 % N);
	}
	for (int k = 0; k < 8; k++) {
		sl_op_desc desc = {.kind = SL_OP_GATHER, .index_dtype = k & 1 ? SL_I64 : SL_I32, .count = N};
		desc.a.dtype = dtypes[k >> 1];
		sl_op_args args = {.vector = {from, to, k & 1 ? (void *)wide : narrow}, .count = N};
		both_block(t, from, sizeof from);
		both_block(t, to, sizeof to);
		both_block(t, wide, sizeof wide);
		both_block(t, narrow, sizeof narrow);
		both_run(t, &desc, &args);
		CHECK(!memcmp(both_cpu(t, to), both_gpu(t, to), sizeof to));
		both_forget(t);
	}
	both_close(t);
}

static void activation(both *t, sl_activation kind, sl_dtype dtype, int64_t rows, int64_t cols, int oa, int oc,
					   int gradient, double beta) {
	view_block a = view_create(dtype, (sl_order)oa, rows, cols, 16),
			   b = view_create(dtype, (sl_order)oc, rows, cols, 8);
	view_block c = view_output(dtype, (sl_order)oc, rows, cols, 8);
	view_block sums = view_create(dtype == SL_F64 ? SL_F64 : SL_F32, SL_ROW_MAJOR, 1, rows, 0);
	view_fill(&a, 1, 4);
	view_fill(&b, 2, 1);
	view_fill(&sums, 3, 1);
	if (rows > 2 && cols > 2 && kind != SL_GELU) { /* what is no number stays none, what is held back is 0 */
		view_set(a.view.data, dtype, view_at(&a.view, 1, 1), NAN);
		view_set(a.view.data, dtype, view_at(&a.view, 2, 0), -INFINITY);
		view_set(a.view.data, dtype, view_at(&a.view, 2, 1), INFINITY);
		view_set(b.view.data, dtype, view_at(&b.view, 2, 0), INFINITY);
	}
	both_view(t, &a);
	both_view(t, &b);
	both_view(t, &c);
	both_view(t, &sums);
	sl_op_desc desc = {.kind = gradient ? SL_OP_ACTIVATION_GRAD : SL_OP_ACTIVATION,
					   .a = both_desc(&a.view),
					   .c = both_desc(&c.view),
					   .activation = kind,
					   .activation_parameter = 0.3,
					   .bias = gradient == 2};
	sl_op_args args = {.beta = beta, .a = a.view, .c = c.view};
	if (gradient) {
		desc.b = both_desc(&b.view);
		args.b = b.view;
		args.bias_gradient = gradient == 2 ? sums.view.data : NULL;
	}
	both_run(t, &desc, &args);
	double wide = dtype == SL_F64 ? DBL_EPSILON : FLT_EPSILON;
	both_compare(t, &c, 2 * eps(dtype) + 32 * wide, 24 * wide);
	both_compare(t, &sums, 64 * wide, (double)(cols + 1) * (2 * eps(dtype) + 32 * wide));
	both_forget(t);
	view_free(&a), view_free(&b), view_free(&c), view_free(&sums);
}

SL_TEST(cuda_vector, activations_and_their_gradients) {
	both *t = both_open();
	for (int kind = SL_IDENTITY; kind <= SL_GELU; kind++)
		for (int d = 0; d < 4; d++)
			for (int o = 0; o < 16; o++)
				for (int gradient = 0; gradient < 3; gradient++) {
					int s = (kind + o + gradient) % LINES;
					if ((o + d + kind) % 3 == 0) /* a third of the products of orders, dtypes and functions */
						activation(t, (sl_activation)kind, dtypes[d], lines[s][0], lines[s][1], o & 3, o >> 2, gradient,
								   o & 1 ? 0.5 : 0);
				}
	both_close(t);
}

SL_TEST(cuda_vector, one_line_without_gaps) {
	both *t = both_open();
	for (int gradient = 0; gradient < 2; gradient++) {
		static float x[40 * 64], dy[40 * 64], y[40 * 64];
		sl_test_fill(x, SL_F32, 40 * 64, 1);
		sl_test_fill(dy, SL_F32, 40 * 64, 2);
		both_block(t, x, sizeof x);
		both_block(t, dy, sizeof dy);
		both_block(t, y, sizeof y);
		sl_dense a = sl_dense_view(x, SL_F32, 40, 64), b = sl_dense_view(dy, SL_F32, 40, 64),
				 c = sl_dense_view(y, SL_F32, 40, 64);
		sl_op_desc desc = {.kind = gradient ? SL_OP_ACTIVATION_GRAD : SL_OP_ACTIVATION,
						   .a = both_desc(&a),
						   .b = both_desc(&b),
						   .c = both_desc(&c),
						   .activation = SL_RELU};
		sl_op_args args = {.a = a, .b = b, .c = c};
		both_run(t, &desc, &args);
		CHECK(!memcmp(both_cpu(t, y), both_gpu(t, y), sizeof y));
		both_forget(t);
	}
	both_close(t);
}

SL_TEST(cuda_vector, row_sums) {
	both *t = both_open();
	for (int d = 0; d < 4; d++)
		for (int o = 0; o < 4; o++)
			for (int s = 0; s < LINES; s++) {
				int64_t rows = lines[s][0], cols = lines[s][1];
				view_block a = view_create(dtypes[d], (sl_order)o, rows, cols, 16),
						   sums = view_create(dtypes[d] == SL_F64 ? SL_F64 : SL_F32, SL_ROW_MAJOR, 1, rows, 0);
				view_fill(&a, 1, 1);
				view_fill(&sums, 2, 1);
				both_view(t, &a);
				both_view(t, &sums);
				sl_op_desc desc = {
					.kind = SL_OP_REDUCE, .variant = SL_REDUCE_ROW_SUMS, .a = both_desc(&a.view), .count = rows};
				sl_op_args args = {.beta = s & 1 ? 0.5 : 0, .a = a.view, .vector = {sums.view.data}, .count = rows};
				both_run(t, &desc, &args);
				double wide = dtypes[d] == SL_F64 ? DBL_EPSILON : FLT_EPSILON;
				both_compare(t, &sums, 0, wide * (double)(cols + 2));
				both_forget(t);
				view_free(&a), view_free(&sums);
			}
	both_close(t);
}

SL_TEST(cuda_vector, sums_of_squares_and_what_is_not_finite) {
	both *t = both_open();
	static const int64_t counts[] = {0, 1, 16383, 16384, 16385, 50000};
	static double data[50000];
	for (int d = 0; d < 4; d++)
		for (int k = 0; k < 6; k++)
			for (int variant = 0; variant < 4; variant++) {
				union {
					double sum;
					int64_t index;
				} result = {.sum = 1.5};
				int64_t n = counts[k];
				sl_test_fill(data, dtypes[d], n, 5);
				if (variant == 2 && n) /* the first of two */
					view_set(data, dtypes[d], n - 1, INFINITY), view_set(data, dtypes[d], n / 2, NAN);
				bool squares = variant < 2;
				sl_op_desc desc = {
					.kind = SL_OP_REDUCE, .variant = squares ? SL_REDUCE_SUM_SQUARES : SL_REDUCE_NONFINITE, .count = n};
				desc.a.dtype = dtypes[d];
				sl_op_args args = {
					.alpha = 0.5, .beta = variant == 1 ? 0.25 : 0, .vector = {data}, .count = n, .result = &result};
				both_block(t, data, sizeof data);
				both_block(t, &result, sizeof result);
				both_run(t, &desc, &args);
				double *cpu = both_cpu(t, &result), *gpu = both_gpu(t, &result);
				if (squares)
					CHECK_NEAR(*gpu, *cpu, 1e-13 * *cpu);
				else
					CHECK_EQ(*(int64_t *)gpu, n && variant == 2 ? n / 2 : -1);
				both_forget(t);
			}
	both_close(t);
}

SL_TEST(cuda_vector, elementwise) {
	both *t = both_open();
	static double x[700], y[700];
	for (int d = 0; d < 2; d++)
		for (int variant = SL_ELEMENTWISE_SCALE; variant <= SL_ELEMENTWISE_AXPY; variant++) {
			sl_test_fill(x, dtypes[d], 700, 1);
			sl_test_fill(y, dtypes[d], 700, 2);
			view_set(x, dtypes[d], 3, variant == SL_ELEMENTWISE_CLAMP ? NAN : 1);
			sl_op_desc desc = {.kind = SL_OP_ELEMENTWISE, .variant = variant, .count = 699};
			desc.a.dtype = dtypes[d];
			sl_op_args args = {.alpha = 0.3, .vector = {x, y}, .count = 699};
			both_block(t, x, sizeof x);
			both_block(t, y, sizeof y);
			both_run(t, &desc, &args);
			double *cx = both_cpu(t, x), *gx = both_gpu(t, x), *cy = both_cpu(t, y), *gy = both_gpu(t, y);
			for (int i = 0; i < 700; i++) {
				double a = view_element(cx, dtypes[d], i), b = view_element(gx, dtypes[d], i);
				CHECK(isnan(a) ? isnan(b) : a == b);
				CHECK_NEAR(view_element(gy, dtypes[d], i), view_element(cy, dtypes[d], i), 2 * view_eps(dtypes[d]));
			}
			both_forget(t);
		}
	both_close(t);
}
