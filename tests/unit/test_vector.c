/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Elementwise ops, sums, norms, copies and losses through the public interface, against libm in
 * double and finite differences, in every dtype and storage order.
 */
#include "support/activations.h"
#include "support/views.h"

enum { ACTIVATIONS = SL_GELU + 1, ROWS = 19, COLS = 37, WIDTH = 16 };

static const sl_dtype dtypes[] = {SL_F32, SL_F64, SL_BF16, SL_F16};

/* What float32 accumulation rounds to; float64 for f64. */
static double eps_of(sl_dtype dtype) {
	return view_eps(dtype == SL_F64 ? SL_F64 : SL_F32);
}

/* Half the distance between a dtype's subnormals. */
static double floor_of(sl_dtype dtype) {
	return dtype == SL_F64 ? 0x1p-1074 : dtype == SL_F32 ? 0x1p-150 : dtype == SL_BF16 ? 0x1p-134 : 0x1p-25;
}

static double parameter_of(int activation) {
	return activation == SL_CLIPPED_RELU ? 1.25 : activation == SL_LEAKY_RELU ? 0.0625 : 0;
}

/* Contexts that must agree bit by bit: 1, 2, 3 threads, and a parallel-for that runs backwards. */

enum { WAYS = 4 };

static void run_backwards(void *user, size_t count, void (*task)(void *argument, size_t index), void *argument) {
	(void)user;
	for (size_t i = count; i-- > 0;)
		task(argument, i);
}

static sl_context *way_context(int way) {
	sl_context_options options;
	sl_context *context = NULL;
	SL_OPTIONS_INIT(options);
	options.device = SL_DEVICE_CPU;
	options.threads = way + 1;
	if (way == 3)
		options.parallel_for = (sl_parallel_for){.threads = 5, .run = run_backwards};
	CHECK_OK(NULL, sl_context_create(&context, &options));
	return context;
}

/* Activations. */

static void put(view_block *b, int64_t r, int64_t c, double x) {
	view_set(b->view.data, b->view.dtype, view_at(&b->view, r, c), view_round(b->view.dtype, x));
}

static view_block activation_input(sl_dtype dtype, int order) {
	static const double special[] = {0, -0.0, 20, -20, 1.25, 60000, -60000, 1e-3, -1e-3, 0x1p-14, -0x1p-24, 100, -100};
	view_block x = view_create(dtype, (sl_order)order, ROWS, COLS, WIDTH);
	view_fill(&x, 11, 6);
	for (int i = 0; i < (int)(sizeof special / sizeof *special); i++)
		put(&x, i, 2 * i, special[i]);
	return x;
}

static void check_activation(sl_context *context, int activation, const sl_dense *x, const view_block *y) {
	sl_dtype dtype = y->view.dtype;
	for (int64_t r = 0; r < ROWS; r++)
		for (int64_t c = 0; c < COLS; c++) {
			double in = view_load(x, r, c), want = sl_test_activate(activation, parameter_of(activation), in);
			/* 1 + erf cancels below zero, to within an eps of the input. */
			double size = fabs(want) + (activation == SL_GELU ? fabs(in) : 0);
			CHECK_NEAR(view_load(&y->view, r, c), want,
					   view_eps(dtype) * fabs(want) + 6 * eps_of(dtype) * size + floor_of(dtype));
		}
	CHECK(view_intact(y));
	(void)context;
}

SL_TEST(elementwise, activations_against_libm) {
	sl_context *context = sl_test_context();
	for (int a = 0; a < ACTIVATIONS; a++)
		for (int t = 0; t < 4; t++)
			for (int from = 0; from < 4; from++) {
				view_block x = activation_input(dtypes[t], from), kept = activation_input(dtypes[t], from);
				for (int to = 0; to < 4; to++) {
					view_block y = view_output(dtypes[t], (sl_order)to, ROWS, COLS, to == from ? WIDTH : 5);
					CHECK_OK(context, sl_activate(context, (sl_activation)a, parameter_of(a), &x.view, &y.view));
					check_activation(context, a, &x.view, &y);
					view_free(&y);
				}
				CHECK(!memcmp(x.view.data, kept.view.data, (size_t)x.elements * sl_dtype_size(dtypes[t])));
				CHECK_OK(context, sl_activate(context, (sl_activation)a, parameter_of(a), &x.view, &x.view));
				check_activation(context, a, &kept.view, &x);
				view_free(&x);
				view_free(&kept);
			}
	sl_context_destroy(context);
}

SL_TEST(elementwise, derivatives_by_finite_differences) {
	sl_context *context = sl_test_context();
	const double h = 1e-6;
	for (int a = 0; a < ACTIVATIONS; a++) {
		double x[400], up[400], down[400], saved[400], dy[400], dx[400];
		int n = 0;
		for (int i = 0; i < 400; i++) {
			double at = (i - 200) * 0.0201 + 0.003;
			if (fabs(at) > 1e-4 && fabs(at - parameter_of(a)) > 1e-4)
				x[n++] = at;
		}
		sl_test_fill(dy, SL_F64, n, 4);
		for (int i = 0; i < n; i++) {
			up[i] = x[i] + h;
			down[i] = x[i] - h;
		}
		sl_dense X = sl_dense_view(x, SL_F64, 1, n), U = sl_dense_view(up, SL_F64, 1, n),
				 D = sl_dense_view(down, SL_F64, 1, n);
		sl_dense S = sl_dense_view(saved, SL_F64, 1, n), dY = sl_dense_view(dy, SL_F64, 1, n),
				 dX = sl_dense_view(dx, SL_F64, 1, n);
		double p = parameter_of(a);
		CHECK_OK(context, sl_activate(context, (sl_activation)a, p, &U, &U));
		CHECK_OK(context, sl_activate(context, (sl_activation)a, p, &D, &D));
		CHECK_OK(context, sl_activate(context, (sl_activation)a, p, &X, &S));
		bool input = sl_activation_saves_input((sl_activation)a);
		CHECK_EQ(input, a == SL_GELU);
		CHECK_OK(context, sl_activate_backward(context, (sl_activation)a, p, input ? &X : &S, &dY, &dX));
		for (int i = 0; i < n; i++)
			CHECK_NEAR(dx[i], dy[i] * (up[i] - down[i]) / (2 * h), 1e-9);
	}
	sl_context_destroy(context);
}

static void check_backward(sl_context *context, int a, sl_dtype dtype, const int orders[3]) {
	view_block s = view_create(dtype, (sl_order)orders[0], ROWS, COLS, WIDTH);
	view_block dy = view_create(dtype, (sl_order)orders[1], ROWS, COLS, WIDTH);
	view_block dx = view_output(dtype, (sl_order)orders[2], ROWS, COLS, orders[2] == orders[0] ? WIDTH : 7);
	view_fill(&s, 5, a == SL_SIGMOID || a == SL_TANH ? 1 : 3);
	put(&s, 0, 0, 0);
	put(&s, 1, 1, 1.25);
	view_fill(&dy, 6, 2);
	CHECK_OK(context, sl_activate_backward(context, (sl_activation)a, parameter_of(a), &s.view, &dy.view, &dx.view));
	CHECK(view_intact(&dx) && view_intact(&dy) && view_intact(&s));
	for (int64_t r = 0; r < ROWS; r++)
		for (int64_t c = 0; c < COLS; c++) {
			double g = view_load(&dy.view, r, c), in = view_load(&s.view, r, c),
				   want = g * sl_test_slope(a, parameter_of(a), in);
			CHECK_NEAR(view_load(&dx.view, r, c), want,
					   view_eps(dtype) * fabs(want) + 8 * eps_of(dtype) * fabs(g) * (1 + fabs(in)) + floor_of(dtype));
		}
	/* In place gives the same. */
	CHECK_OK(context, sl_activate_backward(context, (sl_activation)a, parameter_of(a), &s.view, &dy.view, &dy.view));
	CHECK(view_intact(&dy));
	for (int64_t r = 0; r < ROWS; r++)
		for (int64_t c = 0; c < COLS; c++)
			CHECK(view_load(&dy.view, r, c) == view_load(&dx.view, r, c));
	view_free(&s);
	view_free(&dy);
	view_free(&dx);
}

SL_TEST(elementwise, backward_in_all_orders_and_dtypes) {
	sl_context *context = sl_test_context();
	for (int a = 0; a < ACTIVATIONS; a++)
		for (int t = 0; t < 4; t++)
			for (int o = 0; o < 64; o++)
				check_backward(context, a, dtypes[t], (int[3]){o & 3, o >> 2 & 3, o >> 4});
	sl_context_destroy(context);
}

SL_TEST(elementwise, nan_propagates) {
	sl_context *context = sl_test_context();
	for (int a = 0; a < ACTIVATIONS; a++)
		for (int t = 0; t < 4; t++)
			for (int o = 0; o < 16; o++) {
				sl_dtype dtype = dtypes[t];
				double p = parameter_of(a);
				view_block x = view_create(dtype, (sl_order)(o & 3), 3, 20, WIDTH),
						   y = view_create(dtype, (sl_order)(o >> 2), 3, 20, WIDTH);
				view_block g = view_create(dtype, (sl_order)(o >> 2), 3, 20, WIDTH);
				view_fill(&x, 1, 0.5);
				view_fill(&g, 2, 0.5);
				put(&x, 1, 4, NAN);
				CHECK_OK(context, sl_activate(context, (sl_activation)a, p, &x.view, &y.view));
				for (int i = 0; i < 60; i++)
					CHECK(isnan(view_load(&y.view, i / 20, i % 20)) == (i == 24));
				/* Saved NaN; NaN and infinity in dY where the value passed, and where ReLU held it back. */
				put(&x, 0, 0, 0.5);
				put(&x, 0, 1, a == SL_CLIPPED_RELU ? 1.25 : 0);
				put(&x, 0, 2, 0);
				put(&g, 0, 0, NAN);
				put(&g, 0, 1, NAN);
				put(&g, 0, 2, INFINITY);
				CHECK_OK(context, sl_activate_backward(context, (sl_activation)a, p, &x.view, &g.view, &y.view));
				CHECK(isnan(view_load(&y.view, 0, 0)));
				CHECK(isnan(view_load(&y.view, 1, 4)) == (a != SL_IDENTITY));
				bool holds = a == SL_RELU || a == SL_CLIPPED_RELU;
				CHECK(holds ? view_load(&y.view, 0, 1) == 0 : isnan(view_load(&y.view, 0, 1)));
				CHECK(holds ? view_load(&y.view, 0, 2) == 0 : !isfinite(view_load(&y.view, 0, 2)) || a == SL_SIGMOID);
				view_free(&x);
				view_free(&y);
				view_free(&g);
			}
	sl_context_destroy(context);
}

SL_TEST(elementwise, parameters_are_checked) {
	sl_context *context = sl_test_context();
	float x[4] = {-2, -1, 1, 2}, y[4], z[4];
	sl_dense X = sl_dense_view(x, SL_F32, 2, 2), Y = sl_dense_view(y, SL_F32, 2, 2), Z = sl_dense_view(z, SL_F32, 2, 2);
	const double clips[] = {0, -1, NAN, -INFINITY}, leaks[] = {-0.01, -1e-300, NAN, INFINITY, -INFINITY};
	for (int i = 0; i < 4; i++) {
		CHECK_STATUS(context, sl_activate(context, SL_CLIPPED_RELU, clips[i], &X, &Y), SL_ERR_ARGUMENT, "clipped ReLU");
		CHECK_STATUS(context, sl_activate_backward(context, SL_CLIPPED_RELU, clips[i], &X, &Y, &Z), SL_ERR_ARGUMENT,
					 "clipped ReLU");
	}
	for (int i = 0; i < 5; i++) {
		CHECK_STATUS(context, sl_activate(context, SL_LEAKY_RELU, leaks[i], &X, &Y), SL_ERR_ARGUMENT, "leaky ReLU");
		CHECK_STATUS(context, sl_activate_backward(context, SL_LEAKY_RELU, leaks[i], &X, &Y, &Z), SL_ERR_ARGUMENT,
					 "leaky ReLU");
		sl_epilogue epilogue = {SL_EPILOGUE_DEFAULTS, .activation = SL_LEAKY_RELU, .parameter = leaks[i]};
		CHECK_STATUS(context, sl_gemm(context, 1, &X, &Y, 0, &Z, &epilogue), SL_ERR_ARGUMENT, "leaky ReLU");
		sl_linear_options options = {SL_LINEAR_DEFAULTS, .in_features = 3, .out_features = 2,
									 .activation = SL_LEAKY_RELU, .activation_parameter = leaks[i]};
		sl_layer *layer = NULL;
		CHECK_STATUS(context, sl_linear_create(&layer, context, &options), SL_ERR_ARGUMENT, "leaky ReLU");
		CHECK(!layer);
	}
	CHECK_STATUS(context, sl_activate(context, (sl_activation)7, 0, &X, &Y), SL_ERR_ARGUMENT, "activation 7");
	CHECK_STATUS(context, sl_activate(context, (sl_activation)-1, 0, &X, &Y), SL_ERR_ARGUMENT, "activation -1");
	/* At its limits: 0 is ReLU, above 1 is steeper below zero. */
	CHECK_OK(context, sl_activate(context, SL_LEAKY_RELU, 0, &X, &Y));
	CHECK(y[0] == 0 && y[1] == 0 && y[2] == 1 && y[3] == 2);
	CHECK_OK(context, sl_activate(context, SL_LEAKY_RELU, 3, &X, &Y));
	CHECK(y[0] == -6 && y[1] == -3 && y[2] == 1 && y[3] == 2);
	for (int i = 0; i < 4; i++)
		z[i] = 1;
	CHECK_OK(context, sl_activate_backward(context, SL_LEAKY_RELU, 3, &Y, &Z, &Z));
	CHECK(z[0] == 3 && z[1] == 3 && z[2] == 1 && z[3] == 1);
	CHECK_OK(context, sl_activate(context, SL_CLIPPED_RELU, INFINITY, &X, &Y));
	CHECK(y[0] == 0 && y[3] == 2);
	/* Shapes, overlaps, dtypes. */
	sl_dense bad = sl_dense_view(y, SL_F32, 1, 4);
	CHECK_STATUS(context, sl_activate(context, SL_RELU, 0, &X, &bad), SL_ERR_SHAPE, "Y is 1x4");
	CHECK_STATUS(context, sl_activate_backward(context, SL_RELU, 0, &X, &Y, &bad), SL_ERR_SHAPE, "dX is 1x4");
	bad = sl_dense_transposed(X);
	CHECK_STATUS(context, sl_activate(context, SL_RELU, 0, &X, &bad), SL_ERR_ALIAS, "Y overlaps X");
	CHECK_STATUS(context, sl_activate_backward(context, SL_RELU, 0, &X, &Y, &X), SL_ERR_ALIAS, "dX overlaps saved");
	bad = Y;
	bad.dtype = SL_BF16;
	CHECK_STATUS(context, sl_activate(context, SL_RELU, 0, &X, &bad), SL_ERR_DTYPE, "bf16");
	CHECK_STATUS(context, sl_activate_backward(context, SL_RELU, 0, &X, &bad, &Z), SL_ERR_DTYPE, "bf16");
	/* Nothing to do. */
	for (int o = 0; o < 4; o++) {
		sl_dense none = {.dtype = SL_F32, .order = (sl_order)o, .rows = 0, .cols = 5, .ld = 5};
		CHECK_OK(context, sl_activate(context, SL_RELU, 0, &none, &none));
		none = sl_dense_transposed(none);
		CHECK_OK(context, sl_activate_backward(context, SL_RELU, 0, &none, &none, &none));
	}
	sl_context_destroy(context);
}

/* Sums. */

static void check_sums(sl_dtype dtype, int order, int64_t rows, int64_t cols, double beta) {
	view_block a = view_create(dtype, (sl_order)order, rows, cols, WIDTH);
	view_fill(&a, (uint64_t)(rows + cols), 1);
	sl_dtype kind = dtype == SL_F64 ? SL_F64 : SL_F32;
	double first[64];
	for (int way = 0; way < WAYS; way++) {
		view_block sums = view_create(kind, SL_COL_MAJOR, rows, 1, 0);
		view_fill(&sums, 3, 1);
		view_block old = view_create(kind, SL_COL_MAJOR, rows, 1, 0);
		view_fill(&old, 3, 1);
		for (int64_t r = 0; r < rows && beta == 0; r++)
			put(&sums, r, 0, NAN);
		sl_context *context = way_context(way);
		CHECK_OK(context, sl_sum_columns(context, &a.view, beta, sums.view.data));
		CHECK(view_intact(&sums));
		for (int64_t r = 0; r < rows; r++) {
			double want = beta == 0 ? 0 : beta * view_load(&old.view, r, 0), size = fabs(want);
			for (int64_t c = 0; c < cols; c++) {
				want += view_load(&a.view, r, c);
				size += fabs(view_load(&a.view, r, c));
			}
			double got = view_load(&sums.view, r, 0);
			/* Eight running sums: an addition in eight is rounded. */
			CHECK_NEAR(got, want, eps_of(dtype) * (dtype == SL_F64 ? (double)cols + 2 : (double)cols / 8 + 3) * size);
			if (!way)
				first[r] = got;
			CHECK(got == first[r]);
		}
		view_free(&sums);
		view_free(&old);
		sl_context_destroy(context);
	}
	view_free(&a);
}

SL_TEST(elementwise, sums_of_columns) {
	static const int64_t sizes[][2] = {{0, 5}, {5, 0}, {1, 1}, {1, 7}, {17, 8}, {16, 9}, {33, 16}, {50, 17}, {3, 1000}};
	for (int t = 0; t < 4; t++)
		for (int o = 0; o < 4; o++)
			for (int i = 0; i < 9; i++)
				for (int b = 0; b < 2; b++)
					check_sums(dtypes[t], o, sizes[i][0], sizes[i][1], b ? 0.75 : 0);
	sl_context *context = sl_test_context();
	float a[6] = {0};
	sl_dense A = sl_dense_view(a, SL_F32, 2, 3);
	CHECK_STATUS(context, sl_sum_columns(context, &A, 0, NULL), SL_ERR_NULL, "sums");
	CHECK_STATUS(context, sl_sum_columns(context, &A, 0, a + 5), SL_ERR_ALIAS, "sums");
	CHECK_STATUS(context, sl_sum_columns(context, NULL, 0, a), SL_ERR_NULL, "A is null");
	CHECK_EQ(sl_sum_columns(NULL, &A, 0, a), SL_ERR_NULL);
	sl_context_destroy(context);
}

SL_TEST(elementwise, norm_of_any_length) {
	static const int64_t counts[] = {0, 1, 3, 16383, 16384, 16385, 70001};
	static double x64[70001];
	static float x32[70001];
	sl_test_fill(x64, SL_F64, 70001, 8);
	for (int i = 0; i < 70001; i++)
		x32[i] = (float)(x64[i] *= 1 + i * 0x1p-40);
	for (int i = 0; i < 7; i++) {
		double first[2];
		for (int way = 0; way < WAYS; way++) {
			sl_context *context = way_context(way);
			double norm[2], want64 = 0, want32 = 0;
			CHECK_OK(context, sl_norm2(context, x64, SL_F64, counts[i], &norm[0]));
			CHECK_OK(context, sl_norm2(context, x32, SL_F32, counts[i], &norm[1]));
			for (int64_t k = 0; k < counts[i]; k++) {
				want64 += x64[k] * x64[k];
				want32 += (double)x32[k] * (double)x32[k];
			}
			CHECK_NEAR(norm[0], sqrt(want64), 1e-12 * sqrt(want64));
			CHECK_NEAR(norm[1], sqrt(want32), 1e-12 * sqrt(want32));
			if (!way)
				memcpy(first, norm, sizeof first);
			CHECK(!memcmp(first, norm, sizeof first));
			sl_context_destroy(context);
		}
	}
}

SL_TEST(elementwise, norm_keeps_its_range) {
	sl_context *context = sl_test_context();
	static const double scales[] = {1e-323, 0x1p-1074, 1e-300,  1e-160, 0x1p-512, 1e-140,
									1,      1e140,     0x1p511, 1e160,  1e300,    0x1p1021};
	for (int i = 0; i < 12; i++) {
		double x[2] = {3 * scales[i], -4 * scales[i]}, norm;
		CHECK_OK(context, sl_norm2(context, x, SL_F64, 2, &norm));
		CHECK_NEAR(norm, 5 * scales[i], 4e-16 * 5 * scales[i]);
		/* A great one beside a small one. */
		double mixed[3] = {1e-5 * scales[i], scales[i], 0};
		CHECK_OK(context, sl_norm2(context, mixed, SL_F64, 3, &norm));
		CHECK_NEAR(norm, scales[i], 4e-10 * scales[i]);
	}
	double norm, x[3] = {0x1.8p1023, 0x1.8p1023, 1};
	CHECK_OK(context, sl_norm2(context, x, SL_F64, 3, &norm));
	CHECK(isinf(norm)); /* so it is */
	x[1] = NAN;
	CHECK_OK(context, sl_norm2(context, x, SL_F64, 3, &norm));
	CHECK(isnan(norm));
	x[1] = -INFINITY;
	CHECK_OK(context, sl_norm2(context, x, SL_F64, 3, &norm));
	CHECK(isinf(norm) && norm > 0);
	float f[2] = {3e38f, -3e38f}, tiny[2] = {3e-45f, -4e-45f};
	CHECK_OK(context, sl_norm2(context, f, SL_F32, 2, &norm));
	CHECK_NEAR(norm, 3e38 * sqrt(2), 3e31 * 2);
	CHECK_OK(context, sl_norm2(context, tiny, SL_F32, 2, &norm));
	CHECK_NEAR(norm, hypot((double)tiny[0], (double)tiny[1]), 1e-58);
	CHECK_STATUS(context, sl_norm2(context, x, SL_BF16, 3, &norm), SL_ERR_DTYPE, "bf16");
	CHECK_STATUS(context, sl_norm2(context, x, SL_F64, -1, &norm), SL_ERR_ARGUMENT, "count");
	CHECK_STATUS(context, sl_norm2(context, NULL, SL_F64, 1, &norm), SL_ERR_NULL, "values");
	CHECK_STATUS(context, sl_norm2(context, x, SL_F64, 1, NULL), SL_ERR_NULL, "norm");
	sl_context_destroy(context);
}

/* Copies. */

static void check_copy(sl_context *context, sl_dtype from, sl_dtype to, int from_order, int to_order, int64_t rows,
					   int64_t cols) {
	/* Overflows, ties, what two roundings would get wrong, subnormals. */
	static const double special[] = {0,
									 -0.0,
									 1 + 0x1p-11 + 0x1p-40,
									 1 + 0x1p-11 - 0x1p-40,
									 1 + 0x1p-8 + 0x1p-40,
									 1 + 0x1p-8,
									 65519.9999,
									 65520,
									 -65520.001,
									 1e39,
									 -1e300,
									 0x1p-25,
									 0x1.000001p-25,
									 -0x1.8p-24,
									 0x1p-130,
									 0x1.01p-133,
									 1e-310,
									 0x1.ff7ffffp127,
									 0x1.fffffefp127};
	enum { SPECIAL = sizeof special / sizeof *special };
	view_block a = view_create(from, (sl_order)from_order, rows, cols, WIDTH),
			   b = view_output(to, (sl_order)to_order, rows, cols, 5);
	view_fill(&a, (uint64_t)(rows * cols + 1), 4);
	for (int64_t i = 0; i < SPECIAL && i < rows * cols; i++)
		put(&a, i / cols, i % cols, special[i]);
	if (rows * cols > SPECIAL + 3)
		for (int64_t i = 1; i <= 3; i++) {
			int64_t k = rows * cols - i;
			put(&a, k / cols, k % cols, i == 1 ? NAN : i == 2 ? INFINITY : -INFINITY);
		}
	CHECK_OK(context, sl_dense_copy(context, &a.view, &b.view));
	CHECK(view_intact(&a) && view_intact(&b));
	for (int64_t r = 0; r < rows; r++)
		for (int64_t c = 0; c < cols; c++) {
			double x = view_load(&a.view, r, c), want = view_round(to, x), got = view_load(&b.view, r, c);
			if (isnan(x) ? !isnan(got) : got != want || signbit(got) != signbit(want))
				sl_test_fail(__FILE__, __LINE__, "%s to %s: %.17g became %.17g, not %.17g", sl_dtype_name(from),
							 sl_dtype_name(to), x, got, want);
		}
	view_free(&a);
	view_free(&b);
}

SL_TEST(elementwise, copies_between_all_dtypes_and_orders) {
	sl_context *context = sl_test_context();
	static const int64_t sizes[][2] = {{0, 4}, {4, 0}, {1, 1}, {1, 40}, {40, 1}, {16, 16}, {67, 21}, {5, 130}};
	for (int t = 0; t < 16; t++)
		for (int o = 0; o < 16; o++)
			for (int i = 0; i < 8; i++)
				check_copy(context, dtypes[t & 3], dtypes[t >> 2], o & 3, o >> 2, sizes[i][0], sizes[i][1]);
	float x[6] = {0};
	sl_dense A = sl_dense_view(x, SL_F32, 2, 3), T = sl_dense_transposed(A);
	CHECK_STATUS(context, sl_dense_copy(context, &A, &T), SL_ERR_SHAPE, "destination is 3x2");
	CHECK_STATUS(context, sl_dense_copy(context, &A, &A), SL_ERR_ALIAS, "overlaps");
	CHECK_STATUS(context, sl_dense_copy(context, &A, NULL), SL_ERR_NULL, "destination");
	sl_context_destroy(context);
}

SL_TEST(elementwise, rounding_to_halves_is_to_nearest_even) {
	/* Many doubles near ties of each half type, one row. */
	sl_context *context = sl_test_context();
	enum { N = 20000 };
	static double x[N];
	static uint16_t y[N];
	for (int t = 2; t < 4; t++) {
		double unit = t == 2 ? 0x1p-8 : 0x1p-11;
		for (int i = 0; i < N; i++) {
			double nudge[] = {0, 0x1p-52, -0x1p-52, 0x1p-30, -0x1p-30};
			x[i] = ldexp(1 + unit * (2 * (i % 97) + 1) + nudge[i % 5], i % 60 - 30) * (i & 1 ? -1 : 1);
		}
		sl_dense X = sl_dense_view(x, SL_F64, 1, N), Y = sl_dense_view(y, dtypes[t], 1, N);
		CHECK_OK(context, sl_dense_copy(context, &X, &Y));
		for (int i = 0; i < N; i++)
			CHECK(view_load(&Y, 0, i) == view_round(dtypes[t], x[i]));
	}
	sl_context_destroy(context);
}

/* Losses: [batch, features]. */

typedef struct problem {
	sl_loss loss;
	bool labels;
	view_block outputs, targets, gradient;
	int32_t label[200];
	int64_t batch, features;
} problem;

static problem make_problem(int kind, sl_dtype dtype, const int orders[3], int64_t batch, int64_t features) {
	problem p = {.loss = kind < 2 ? SL_SOFTMAX_CROSS_ENTROPY : (sl_loss)(kind - 1),
				 .labels = kind == 0,
				 .batch = batch,
				 .features = features};
	p.outputs = view_create(dtype, (sl_order)orders[0], batch, features, WIDTH);
	p.targets = view_create(dtype, (sl_order)orders[1], batch, features, WIDTH);
	p.gradient = view_output(dtype, (sl_order)orders[2], batch, features, 5);
	view_fill(&p.outputs, 21, 4);
	view_fill(&p.targets, 22, 1);
	for (int64_t i = 0; i < batch; i++) {
		p.label[i] = (int32_t)(i * 7 % features);
		double sum = 0;
		for (int64_t c = 0; c < features && kind != 3; c++)
			sum += fabs(view_load(&p.targets.view, i, c));
		for (int64_t c = 0; c < features && kind != 3; c++)
			put(&p.targets, i, c,
				kind == 1 ? fabs(view_load(&p.targets.view, i, c)) / sum : view_load(&p.targets.view, i, c) > 0);
	}
	return p;
}

static void free_problem(problem *p) {
	view_free(&p->outputs);
	view_free(&p->targets);
	view_free(&p->gradient);
}

static double target_of(const problem *p, int64_t r, int64_t c) {
	return p->labels ? p->label[r] == c : view_load(&p->targets.view, r, c);
}

/* The loss; element (r, c) of its gradient into *slope; the row's largest output into *best. */
static double reference(const problem *p, double *gradient, sl_loss_result *counts) {
	double loss = 0, count = (double)p->batch * (p->loss == SL_SOFTMAX_CROSS_ENTROPY ? 1 : (double)p->features);
	memset(counts, 0, sizeof *counts);
	for (int64_t r = 0; r < p->batch; r++) {
		double sum = 0, most = -INFINITY, wanted = -INFINITY, total = 0;
		int64_t best = 0, label = 0;
		for (int64_t c = 0; c < p->features; c++) {
			double x = view_load(&p->outputs.view, r, c), t = target_of(p, r, c);
			if (x > most)
				most = x, best = c;
			if (t > wanted)
				wanted = t, label = c;
			total += t;
		}
		for (int64_t c = 0; c < p->features; c++)
			sum += exp(view_load(&p->outputs.view, r, c) - most);
		for (int64_t c = 0; c < p->features; c++) {
			double x = view_load(&p->outputs.view, r, c), t = target_of(p, r, c), *g = &gradient[r * p->features + c];
			if (p->loss == SL_SOFTMAX_CROSS_ENTROPY) {
				loss -= t == 0 ? 0 : t * (x - most - log(sum));
				*g = (exp(x - most) / sum - t) / count;
			} else if (p->loss == SL_BINARY_CROSS_ENTROPY) {
				loss += t * log1p(exp(-x)) + (1 - t) * log1p(exp(x));
				*g = (1 / (1 + exp(-x)) - t) / count;
				counts->correct += (x > 0) == (t > 0.5);
			} else {
				loss += (x - t) * (x - t);
				*g = 2 * (x - t) / count;
			}
		}
		if (p->loss == SL_SOFTMAX_CROSS_ENTROPY)
			counts->correct += best == label;
		(void)total;
	}
	counts->counted = p->loss == SL_MEAN_SQUARED_ERROR ? 0 : (int64_t)count;
	return loss / count;
}

static sl_status evaluate(sl_context *context, const problem *p, sl_dense *gradient, sl_loss_result *result) {
	sl_targets targets = {.labels = p->labels ? p->label : NULL, .dense = p->labels ? NULL : &p->targets.view};
	return sl_loss_evaluate(context, p->loss, &p->outputs.view, &targets, gradient, result);
}

/* Exponentials of f32 are within (8 + |x|) eps of theirs, with |x| at most twice the largest output, which is 4; those
 * of f64 within a few of double's. */
static double exponential_eps(sl_dtype dtype) {
	return dtype == SL_F32 ? (8 + 8) * 0x1p-24 : 4e-15;
}

static void check_gradient(const problem *p, const sl_dense *got, const double *want) {
	double eps = exponential_eps(got->dtype) / (double)p->batch;
	for (int64_t r = 0; r < p->batch; r++)
		for (int64_t c = 0; c < p->features; c++) {
			double g = want[r * p->features + c];
			/* What is left of p - t has the rounding of both. */
			CHECK_NEAR(view_load(got, r, c), g,
					   view_eps(got->dtype) * fabs(g) +
						   eps * (fabs(g) * (double)p->batch + 2 * fabs(target_of(p, r, c))) +
						   4e-15 / (double)p->batch + floor_of(got->dtype));
		}
}

static void check_loss(sl_context *context, int kind, sl_dtype dtype, const int orders[3], int64_t batch,
					   int64_t features) {
	static double gradient[200 * 40];
	problem p = make_problem(kind, dtype, orders, batch, features);
	sl_loss_result want, got;
	double loss = reference(&p, gradient, &want);
	CHECK_OK(context, evaluate(context, &p, &p.gradient.view, &got));
	double bound = (1e-13 + exponential_eps(dtype)) * (1 + fabs(loss));
	CHECK_NEAR(got.loss, loss, bound);
	CHECK_EQ(got.correct, want.correct);
	CHECK_EQ(got.counted, want.counted);
	CHECK(view_intact(&p.outputs) && view_intact(&p.targets) && view_intact(&p.gradient));
	check_gradient(&p, &p.gradient.view, gradient);
	/* Without a gradient, and with it over the outputs. */
	sl_loss_result again;
	CHECK_OK(context, evaluate(context, &p, NULL, &again));
	CHECK_NEAR(again.loss, loss, bound);
	CHECK_EQ(again.correct, got.correct);
	CHECK_OK(context, evaluate(context, &p, &p.outputs.view, &again));
	CHECK_NEAR(again.loss, loss, bound);
	CHECK(view_intact(&p.outputs));
	check_gradient(&p, &p.outputs.view, gradient);
	free_problem(&p);
}

SL_TEST(elementwise, losses_in_all_orders) {
	sl_context *context = sl_test_context();
	for (int kind = 0; kind < 4; kind++)
		for (int t = 0; t < 2; t++)
			for (int o = 0; o < 64; o++) {
				const int orders[3] = {o & 3, o >> 2 & 3, o >> 4};
				check_loss(context, kind, dtypes[t], orders, 67, 10);
				check_loss(context, kind, dtypes[t], orders, 1, 1);
				check_loss(context, kind, dtypes[t], orders, 3, 33);
				check_loss(context, kind, dtypes[t], orders, 65, 31);
			}
	sl_context_destroy(context);
}

SL_TEST(elementwise, loss_gradients_by_finite_differences) {
	sl_context *context = sl_test_context();
	const double h = 1e-5;
	for (int kind = 0; kind < 4; kind++) {
		problem p = make_problem(kind, SL_F64, (int[3]){0, 1, 2}, 9, 7);
		sl_loss_result up, down;
		CHECK_OK(context, evaluate(context, &p, &p.gradient.view, &up));
		for (int64_t r = 0; r < 9; r++)
			for (int64_t c = 0; c < 7; c++) {
				double x = view_load(&p.outputs.view, r, c);
				put(&p.outputs, r, c, x + h);
				CHECK_OK(context, evaluate(context, &p, NULL, &up));
				put(&p.outputs, r, c, x - h);
				CHECK_OK(context, evaluate(context, &p, NULL, &down));
				put(&p.outputs, r, c, x);
				CHECK_NEAR(view_load(&p.gradient.view, r, c), (up.loss - down.loss) / (2 * h), 1e-9);
			}
		free_problem(&p);
	}
	sl_context_destroy(context);
}

SL_TEST(elementwise, losses_of_large_logits_are_finite) {
	sl_context *context = sl_test_context();
	for (int t = 0; t < 2; t++)
		for (int kind = 0; kind < 3; kind++) {
			problem p = make_problem(kind, dtypes[t], (int[3]){0, 0, 0}, 4, 3);
			/* Right and sure, wrong and sure, all alike. */
			static const double logits[4][3] = {
				{1e4, -1e4, -1e4}, {-1e4, 1e4, 1e4}, {1e4, 1e4, 1e4}, {-1e4, -1e4, -1e4}};
			for (int i = 0; i < 12; i++) {
				put(&p.outputs, i / 3, i % 3, logits[i / 3][i % 3]);
				put(&p.targets, i / 3, i % 3, i % 3 == 0);
				p.label[i / 3] = 0;
			}
			sl_loss_result result;
			CHECK_OK(context, evaluate(context, &p, &p.gradient.view, &result));
			/* Row by row: softmax 0, 2e4 + log 2, log 3, log 3; BCE of 12 elements, wrong ones 1e4 each. */
			double want = kind < 2 ? (2e4 + log(2) + 2 * log(3)) / 4 : (0 + 3e4 + 2e4 + 1e4) / 12;
			CHECK_NEAR(result.loss, want, 1e-12 * want);
			for (int i = 0; i < 12; i++) {
				double g = view_load(&p.gradient.view, i / 3, i % 3);
				CHECK(isfinite(g) && fabs(g) <= 0.25);
			}
			free_problem(&p);
		}
	sl_context_destroy(context);
}

SL_TEST(elementwise, losses_refuse_and_name) {
	sl_context *context = sl_test_context();
	problem p = make_problem(0, SL_F32, (int[3]){0, 0, 0}, 100, 5);
	sl_loss_result result;
	CHECK_OK(context, evaluate(context, &p, NULL, &result));
	p.label[83] = 5;
	CHECK_STATUS(context, evaluate(context, &p, &p.gradient.view, &result), SL_ERR_ARGUMENT, "labels[83]");
	p.label[70] = -1;
	CHECK_STATUS(context, evaluate(context, &p, NULL, &result), SL_ERR_ARGUMENT, "labels[70]");
	CHECK(strstr(sl_context_message(context), "[0, 5)") && result.loss == 0 && result.counted == 0);
	CHECK(view_intact(&p.gradient));
	p.label[70] = p.label[83] = 0;
	sl_targets both = {.labels = p.label, .dense = &p.targets.view}, none = {.labels = NULL},
			   labels = {.labels = p.label}, dense = {.dense = &p.targets.view};
	CHECK_STATUS(context, sl_loss_evaluate(context, p.loss, &p.outputs.view, &both, NULL, &result), SL_ERR_ARGUMENT,
				 "several of labels, dense and sparse");
	CHECK_STATUS(context, sl_loss_evaluate(context, p.loss, &p.outputs.view, &none, NULL, &result), SL_ERR_NULL,
				 "targets");
	CHECK_STATUS(context, sl_loss_evaluate(context, p.loss, &p.outputs.view, NULL, NULL, &result), SL_ERR_NULL,
				 "targets");
	CHECK_STATUS(context, sl_loss_evaluate(context, p.loss, &p.outputs.view, &labels, NULL, NULL), SL_ERR_NULL,
				 "result");
	CHECK_STATUS(context, sl_loss_evaluate(context, SL_MEAN_SQUARED_ERROR, &p.outputs.view, &labels, NULL, &result),
				 SL_ERR_ARGUMENT, "labels");
	CHECK_STATUS(context, sl_loss_evaluate(context, (sl_loss)3, &p.outputs.view, &labels, NULL, &result),
				 SL_ERR_ARGUMENT, "loss 3");
	sl_dense bad = p.targets.view;
	dense.dense = &bad;
	bad.rows = 99;
	CHECK_STATUS(context, sl_loss_evaluate(context, p.loss, &p.outputs.view, &dense, NULL, &result), SL_ERR_SHAPE,
				 "99x5");
	bad.rows = 100;
	bad.dtype = SL_F16;
	CHECK_STATUS(context, sl_loss_evaluate(context, p.loss, &p.outputs.view, &dense, NULL, &result), SL_ERR_DTYPE,
				 "f16");
	bad = p.gradient.view;
	bad.cols = 4;
	CHECK_STATUS(context, evaluate(context, &p, &bad, &result), SL_ERR_SHAPE, "gradient is 100x4");
	bad = p.outputs.view;
	bad.data = (float *)bad.data + 1;
	CHECK_STATUS(context, evaluate(context, &p, &bad, &result), SL_ERR_ALIAS, "gradient overlaps outputs");
	bad = p.outputs.view;
	bad.dtype = SL_BF16;
	CHECK_STATUS(context, sl_loss_evaluate(context, p.loss, &bad, &labels, NULL, &result), SL_ERR_DTYPE, "bf16");
	/* No rows, whatever the targets; no features. */
	for (int kind = 0; kind < 4; kind++) {
		problem empty = make_problem(kind, SL_F32, (int[3]){0, 0, 0}, 0, 5);
		result.loss = 7;
		CHECK_OK(context, evaluate(context, &empty, &empty.gradient.view, &result));
		CHECK(result.loss == 0 && result.correct == 0 && result.counted == 0 && view_intact(&empty.gradient));
		sl_dense nothing = {.dtype = SL_F32, .rows = 0, .cols = 5, .ld = 5};
		CHECK_OK(context, sl_loss_evaluate(context, empty.loss, &nothing, &none, &nothing, &result));
		CHECK(result.loss == 0 && result.counted == 0);
		free_problem(&empty);
	}
	free_problem(&p);
	sl_context_destroy(context);
}

SL_TEST(elementwise, a_nan_among_logits_is_not_correct) {
	sl_context *context = sl_test_context();
	problem p = make_problem(0, SL_F32, (int[3]){0, 0, 0}, 1, 3);
	sl_loss_result result;
	p.label[0] = 0;
	for (int c = 0; c < 3; c++)
		put(&p.outputs, 0, c, NAN);
	CHECK_OK(context, evaluate(context, &p, NULL, &result));
	CHECK(isnan(result.loss) && result.correct == 0 && result.counted == 1);
	free_problem(&p);
	/* Nor an output of binary cross-entropy. */
	float outputs[2] = {NAN, -1}, zeros[2] = {0, 0};
	sl_dense y = sl_dense_view(outputs, SL_F32, 1, 2), t = sl_dense_view(zeros, SL_F32, 1, 2);
	CHECK_OK(context,
			 sl_loss_evaluate(context, SL_BINARY_CROSS_ENTROPY, &y, &(sl_targets){.dense = &t}, NULL, &result));
	CHECK(isnan(result.loss) && result.correct == 1 && result.counted == 2);
	sl_context_destroy(context);
}

SL_TEST(elementwise, losses_give_the_same_bits_on_any_threads) {
	for (int kind = 0; kind < 4; kind++)
		for (int order = 0; order < 4; order++) {
			problem p = make_problem(kind, SL_F32, (int[3]){order, 3 - order, 0}, 200, 13);
			sl_loss_result first, result;
			static float kept[200 * 16];
			memset(&first, 0, sizeof first);
			for (int way = 0; way < WAYS; way++) {
				sl_context *context = way_context(way);
				CHECK_OK(context, evaluate(context, &p, &p.gradient.view, &result));
				if (!way) {
					first = result;
					memcpy(kept, p.gradient.view.data, sizeof kept);
				}
				CHECK(first.loss == result.loss && first.correct == result.correct);
				CHECK(!memcmp(kept, p.gradient.view.data, sizeof kept));
				sl_context_destroy(context);
			}
			free_problem(&p);
		}
}
