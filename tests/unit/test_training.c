/* SPDX-License-Identifier: Apache-2.0 */
/* What training is made of: schedules, initial weights, accumulation, clipping, regularizers. */
#include "support/check.h"

SL_TEST(training, schedules) {
	sl_schedule s = {.kind = SL_SCHEDULE_CONSTANT};
	CHECK(sl_schedule_factor(NULL, 7) == 1 && sl_schedule_factor(&s, 1000000) == 1);
	s.warmup = 4;
	for (int step = 0; step < 4; step++)
		CHECK_NEAR(sl_schedule_factor(&s, step), (step + 1) / 4.0, 1e-15);
	CHECK(sl_schedule_factor(&s, 4) == 1);
	s = (sl_schedule){.kind = SL_SCHEDULE_STEP, .interval = 10, .gamma = 0.5, .warmup = 3};
	CHECK(sl_schedule_factor(&s, 12) == 1 && sl_schedule_factor(&s, 13) == 0.5 && sl_schedule_factor(&s, 33) == 0.125);
	s.gamma = 0;
	CHECK_NEAR(sl_schedule_factor(&s, 13), 0.1, 1e-15); /* the default */
	s = (sl_schedule){.kind = SL_SCHEDULE_COSINE, .total = 100, .final_ratio = 0.1};
	CHECK(sl_schedule_factor(&s, 0) == 1);
	CHECK_NEAR(sl_schedule_factor(&s, 50), 0.55, 1e-12);
	CHECK_NEAR(sl_schedule_factor(&s, 100), 0.1, 1e-12);
	CHECK_NEAR(sl_schedule_factor(&s, 1 << 30), 0.1, 1e-12);
	for (int step = 1; step < 100; step++)
		CHECK(sl_schedule_factor(&s, step) < sl_schedule_factor(&s, step - 1));
}

/* Rows of very different length: each neuron's weights have the variance that its own fans ask for. */
SL_TEST(training, initial_weights_follow_the_actual_fans) {
	enum { ROWS = 300, COLS = 400 };
	sl_context *context = sl_test_context();
	static int32_t offsets[ROWS + 1], columns[ROWS * COLS];
	static int fan_out[COLS];
	sl_pattern *pattern;
	for (int r = 0; r < ROWS; r++) {
		int stride = r % 3 == 0 ? 1 : r % 3 == 1 ? 4 : 20, k = offsets[r];
		for (int c = r % stride; c < COLS; c += stride)
			columns[k++] = c;
		offsets[r + 1] = k;
	}
	for (int k = 0; k < offsets[ROWS]; k++)
		fan_out[columns[k]]++;
	CHECK_OK(context,
			 sl_pattern_create(&pattern, context, ROWS, COLS, offsets[ROWS], offsets, SL_I32, columns, SL_I32));
	for (int init = SL_INIT_GLOROT_UNIFORM; init <= SL_INIT_ZERO; init++)
		for (int dense = 0; dense < 2; dense++) {
			sl_linear_options o;
			sl_layer *layer;
			sl_parameter w;
			SL_OPTIONS_INIT(o);
			SL_OPTIONS_INIT(w);
			o.in_features = COLS;
			o.out_features = ROWS;
			o.dense = dense;
			o.pattern = dense ? NULL : pattern;
			o.init = (sl_init)init;
			o.dtype = SL_F64;
			o.stream = 3;
			CHECK_OK(context, sl_linear_create(&layer, context, &o));
			CHECK_OK(context, sl_layer_parameter(context, layer, 0, &w));
			const double *x = w.value;
			for (int group = 0; group < 3; group++) { /* of rows of the same length */
				double sum = 0, squares = 0, wanted = 0, count = 0;
				for (int r = group; r < ROWS; r += 3) {
					int begin = dense ? r * COLS : offsets[r], end = dense ? begin + COLS : offsets[r + 1];
					for (int k = begin; k < end; k++) {
						double in = end - begin, out = dense ? ROWS : fan_out[columns[k]];
						double variance = init <= SL_INIT_GLOROT_NORMAL ? 2 / (in + out)
										  : init <= SL_INIT_HE_NORMAL   ? 2 / in
																		: 0.05 * 0.05 / 3;
						variance = init == SL_INIT_ZERO ? 0 : variance;
						if (init == SL_INIT_GLOROT_UNIFORM || init == SL_INIT_HE_UNIFORM || init == SL_INIT_UNIFORM)
							CHECK(fabs(x[k]) <= sqrt(3 * variance) * (1 + 1e-12));
						sum += x[k];
						squares += x[k] * x[k];
						wanted += variance;
						count++;
					}
				}
				/* A mean of `count` squares scatters by at most sqrt(2 / count) of itself; 6 sigma. */
				CHECK_NEAR(squares, wanted, 6 * sqrt(2 / count) * wanted);
				CHECK_NEAR(sum, 0, 6 * sqrt(wanted) + 1e-300);
			}
			sl_layer_destroy(layer);
		}
	sl_pattern_release(pattern);
	sl_context_destroy(context);
}

enum { IN = 10, OUT = 3, SAMPLES = 48 };

static sl_model *make_model(sl_context *context) {
	sl_model *model;
	CHECK_OK(context, sl_model_create(&model, context));
	for (int i = 0; i < 2; i++) {
		sl_linear_options o;
		sl_layer *layer;
		SL_OPTIONS_INIT(o);
		o.in_features = i ? 16 : IN;
		o.out_features = i ? OUT : 16;
		o.density = i ? 0 : 0.4;
		o.dense = i;
		o.bias = !i;
		o.activation = i ? SL_IDENTITY : SL_TANH;
		o.dtype = SL_F64;
		CHECK_OK(context, sl_linear_create(&layer, context, &o));
		CHECK_OK(context, sl_model_add(context, model, layer));
	}
	return model;
}

/* One epoch of batches of `batch`, `accumulate` a step. */
static void run(sl_context *context, sl_model *model, const sl_optimizer_options *o, int64_t batch,
				int64_t accumulate) {
	static double x[SAMPLES * IN];
	static int32_t y[SAMPLES];
	sl_optimizer *optimizer;
	sl_samples samples;
	sl_fit_options fit;
	SL_OPTIONS_INIT(samples);
	SL_OPTIONS_INIT(fit);
	sl_test_fill(x, SL_F64, SAMPLES * IN, 8);
	for (int i = 0; i < SAMPLES; i++)
		y[i] = i % OUT;
	samples.inputs = sl_dense_view(x, SL_F64, SAMPLES, IN);
	samples.labels = y;
	fit.batch = batch;
	fit.accumulate = accumulate;
	fit.epochs = 3;
	fit.keep_order = true;
	CHECK_OK(context, sl_optimizer_create(&optimizer, context, o));
	CHECK_OK(context, sl_model_add_to_optimizer(context, model, optimizer));
	CHECK_OK(context, sl_model_fit(context, model, optimizer, &samples, &fit));
	sl_optimizer_destroy(optimizer);
}

SL_TEST(training, accumulated_batches_are_one_large_batch) {
	sl_context *context = sl_test_context();
	for (int kind = SL_SGD; kind <= SL_ADAMW; kind++) {
		sl_model *large = make_model(context), *small = make_model(context);
		sl_optimizer_options o;
		SL_OPTIONS_INIT(o);
		o.kind = (sl_optimizer_kind)kind;
		o.clip_norm = 0.05;
		run(context, large, &o, 24, 1);
		run(context, small, &o, 8, 3);
		CHECK_EQ(sl_model_parameter_count(large), 3);
		for (int i = 0; i < 3; i++) {
			sl_parameter a, b;
			int layer;
			SL_OPTIONS_INIT(a);
			SL_OPTIONS_INIT(b);
			CHECK_OK(context, sl_model_parameter(context, large, i, &layer, &a));
			CHECK_OK(context, sl_model_parameter(context, small, i, NULL, &b));
			CHECK_EQ(layer, i == 2);
			CHECK(!strcmp(a.name, i == 1 ? "bias" : "weight"));
			for (int64_t k = 0; k < a.count; k++)
				CHECK_NEAR(((double *)a.value)[k], ((double *)b.value)[k], 1e-10);
		}
		sl_parameter p;
		SL_OPTIONS_INIT(p);
		CHECK_STATUS(context, sl_model_parameter(context, large, 3, NULL, &p), SL_ERR_ARGUMENT, "has 3 parameters");
		CHECK_STATUS(context, sl_model_parameter(context, large, -1, NULL, &p), SL_ERR_ARGUMENT, "index is -1");
		sl_model_destroy(large), sl_model_destroy(small);
	}
	sl_context_destroy(context);
}

SL_TEST(training, biases_do_not_decay) {
	sl_context *context = sl_test_context();
	sl_optimizer_options o;
	sl_optimizer *optimizer;
	sl_model *model = make_model(context);
	SL_OPTIONS_INIT(o);
	o.l1_proximal = 1000;
	o.learning_rate = 1;
	CHECK_OK(context, sl_optimizer_create(&optimizer, context, &o));
	CHECK_OK(context, sl_model_add_to_optimizer(context, model, optimizer));
	sl_parameter w, b;
	SL_OPTIONS_INIT(w);
	SL_OPTIONS_INIT(b);
	CHECK_OK(context, sl_model_parameter(context, model, 0, NULL, &w));
	CHECK_OK(context, sl_model_parameter(context, model, 1, NULL, &b));
	for (int i = 0; i < 16; i++)
		((double *)b.value)[i] = i + 1;
	CHECK_OK(context, sl_optimizer_step(context, optimizer));
	for (int64_t i = 0; i < w.count; i++)
		CHECK(((double *)w.value)[i] == 0);
	for (int i = 0; i < 16; i++)
		CHECK(((double *)b.value)[i] == i + 1);
	sl_optimizer_destroy(optimizer), sl_model_destroy(model);
	sl_context_destroy(context);
}

SL_TEST(training, sparse_layers_learn_what_they_can) {
	/* A layer whose connections suffice follows a linear map to the end. */
	enum { N = 8, ROWS = 64 };
	sl_context *context = sl_test_context();
	static double x[ROWS * N], t[ROWS * N];
	sl_csr *truth;
	sl_pattern *pattern;
	CHECK_OK(context, sl_pattern_n_m(&pattern, context, N, N, 2, 4, 1));
	CHECK_OK(context, sl_csr_create_pattern(&truth, context, pattern, SL_F64));
	sl_test_fill(sl_csr_values(truth), SL_F64, 32, 2);
	sl_test_fill(x, SL_F64, ROWS * N, 3);
	sl_dense X = sl_dense_view(x, SL_F64, ROWS, N), T = sl_dense_view(t, SL_F64, ROWS, N);
	sl_dense Xt = sl_dense_transposed(X), Tt = sl_dense_transposed(T);
	CHECK_OK(context, sl_spmm(context, SL_NO_TRANSPOSE, 1, truth, &Xt, 0, &Tt, NULL));
	sl_linear_options lo;
	sl_optimizer_options oo;
	sl_layer *layer;
	sl_model *model;
	sl_optimizer *optimizer;
	sl_loss_result result;
	SL_OPTIONS_INIT(lo);
	SL_OPTIONS_INIT(oo);
	lo.in_features = lo.out_features = N;
	lo.pattern = pattern;
	lo.dtype = SL_F64;
	oo.kind = SL_NESTEROV;
	oo.learning_rate = 0.5;
	CHECK_OK(context, sl_linear_create(&layer, context, &lo));
	CHECK_OK(context, sl_model_create(&model, context));
	CHECK_OK(context, sl_model_add(context, model, layer));
	CHECK_OK(context, sl_optimizer_create(&optimizer, context, &oo));
	CHECK_OK(context, sl_model_add_to_optimizer(context, model, optimizer));
	for (int step = 0; step < 1000; step++) {
		CHECK_OK(context, sl_model_train_batch(context, model, SL_MEAN_SQUARED_ERROR, &X, &(sl_targets){.dense = &T},
											   SL_OVERWRITE, &result));
		CHECK_OK(context, sl_optimizer_step(context, optimizer));
	}
	CHECK(result.loss < 1e-20);
	const double *learned = sl_csr_values(sl_layer_weights(layer)), *wanted = sl_csr_values(truth);
	for (int i = 0; i < 32; i++)
		CHECK_NEAR(learned[i], wanted[i], 1e-8);
	sl_optimizer_destroy(optimizer), sl_model_destroy(model), sl_csr_destroy(truth), sl_pattern_release(pattern);
	sl_context_destroy(context);
}

/* The single calls under fit: the gradient of the inputs against differences, and nothing allocated after the
 * first backward that asks for it. */
SL_TEST(training, gradient_of_the_inputs) {
	enum { BATCH = 5 };
	sl_context *context = sl_test_context();
	sl_model *model = make_model(context);
	static double x[BATCH * IN], y[BATCH * OUT], weight[BATCH * OUT], dx[BATCH * IN];
	sl_memory_usage before, after;
	SL_OPTIONS_INIT(before);
	SL_OPTIONS_INIT(after);
	sl_test_fill(x, SL_F64, BATCH * IN, 4);
	sl_test_fill(weight, SL_F64, BATCH * OUT, 5);
	sl_dense X = sl_dense_view(x, SL_F64, BATCH, IN), Y = sl_dense_view(y, SL_F64, BATCH, OUT);
	sl_dense dY = sl_dense_view(weight, SL_F64, BATCH, OUT), dX = sl_dense_view(dx, SL_F64, BATCH, IN);
	CHECK_OK(context, sl_model_prepare(context, model, BATCH, SL_MODE_TRAINING));
	for (int round = 0; round < 3; round++) {
		CHECK_OK(context, sl_model_forward(context, model, &X, &Y, SL_MODE_TRAINING));
		CHECK_OK(context, sl_model_backward(context, model, &dY, &dX, round ? SL_ACCUMULATE : SL_OVERWRITE));
		sl_context_memory(context, round == 1 ? &before : &after);
	}
	CHECK_EQ(before.allocations, after.allocations);
	/* The loss is the sum of outputs times fixed weights. */
	for (int i = 0; i < BATCH * IN; i++) {
		double old = x[i], side[2] = {0};
		for (int s = 0; s < 2; s++) {
			x[i] = old + (s ? 1e-5 : -1e-5);
			CHECK_OK(context, sl_model_forward(context, model, &X, &Y, SL_MODE_INFERENCE));
			for (int k = 0; k < BATCH * OUT; k++)
				side[s] += weight[k] * y[k];
		}
		x[i] = old;
		CHECK_NEAR(dx[i], (side[1] - side[0]) / 2e-5, 1e-8);
	}
	sl_model_destroy(model);
	sl_context_destroy(context);
}
