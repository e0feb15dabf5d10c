/* SPDX-License-Identifier: Apache-2.0 */
/* Models, optimizers and pruning through the public API. */
#include "support/check.h"

enum { IN = 20, HIDDEN = 33, OUT = 4, SAMPLES = 300 };

static sl_layer *make_layer(sl_context *context, int64_t in, int64_t out, double density, sl_activation activation,
							sl_dtype dtype, uint64_t stream) {
	sl_layer *layer;
	sl_linear_options options;
	SL_OPTIONS_INIT(options);
	options.in_features = in;
	options.out_features = out;
	options.density = density;
	options.dense = density == 1;
	options.activation = activation;
	options.bias = true;
	options.dtype = dtype;
	options.stream = stream;
	CHECK_OK(context, sl_linear_create(&layer, context, &options));
	return layer;
}

static sl_model *make_model(sl_context *context, double density, sl_dtype dtype) {
	sl_model *model;
	CHECK_OK(context, sl_model_create(&model, context));
	CHECK_OK(context, sl_model_add(context, model, make_layer(context, IN, HIDDEN, density, SL_TANH, dtype, 1)));
	CHECK_OK(context, sl_model_add(context, model, make_layer(context, HIDDEN, HIDDEN, density, SL_GELU, dtype, 2)));
	CHECK_OK(context, sl_model_add(context, model, make_layer(context, HIDDEN, OUT, 1, SL_IDENTITY, dtype, 3)));
	return model;
}

static sl_optimizer *make_optimizer(sl_context *context, sl_model *model, sl_optimizer_options *options) {
	sl_optimizer *optimizer;
	CHECK_OK(context, sl_optimizer_create(&optimizer, context, options));
	CHECK_OK(context, sl_model_add_to_optimizer(context, model, optimizer));
	return optimizer;
}

/* Class = the quadrant of two fixed projections: learnable, not linear. */
static void make_samples(float *x, int32_t *labels) {
	sl_test_fill(x, SL_F32, SAMPLES * IN, 5);
	for (int i = 0; i < SAMPLES; i++)
		labels[i] = (x[i * IN] + x[i * IN + 1] > 0) + 2 * (x[i * IN + 2] - x[i * IN + 3] > 0);
}

static sl_samples samples_of(const float *x, const int32_t *labels) {
	sl_samples samples;
	SL_OPTIONS_INIT(samples);
	samples.inputs = sl_dense_view(x, SL_F32, SAMPLES, IN);
	samples.labels = labels;
	return samples;
}

SL_TEST(model, gradient_by_finite_differences) {
	sl_context *context = sl_test_context();
	static double x[7 * IN];
	int32_t labels[7] = {0, 3, 1, 2, 2, 0, 1};
	sl_test_fill(x, SL_F64, 7 * IN, 3);
	for (double density = 0.3; density <= 1; density += 0.7) {
		sl_model *model = make_model(context, density, SL_F64);
		sl_dense inputs = sl_dense_view(x, SL_F64, 7, IN);
		sl_targets targets = {.labels = labels};
		sl_loss_result result;
		CHECK_OK(context, sl_model_prepare(context, model, 7, SL_MODE_TRAINING));
		for (int l = 0; l < 3; l++)
			for (int p = 0; p < 2; p++) {
				sl_parameter parameter;
				SL_OPTIONS_INIT(parameter);
				CHECK_OK(context, sl_layer_parameter(context, sl_model_layer(model, l), p, &parameter));
				/* The differences below end with a weight moved: gradients at the point itself. */
				CHECK_OK(context, sl_model_train_batch(context, model, SL_SOFTMAX_CROSS_ENTROPY, &inputs, &targets,
													   SL_OVERWRITE, &result));
				double *w = parameter.value, kept[3000];
				memcpy(kept, parameter.gradient, (size_t)parameter.count * sizeof *kept);
				for (int64_t i = 0; i < parameter.count; i += 7) {
					double old = w[i], side[2];
					for (int s = 0; s < 2; s++) {
						w[i] = old + (s ? 1e-5 : -1e-5);
						CHECK_OK(context, sl_model_train_batch(context, model, SL_SOFTMAX_CROSS_ENTROPY, &inputs,
															   &targets, SL_OVERWRITE, &result));
						side[s] = result.loss;
					}
					w[i] = old;
					CHECK_NEAR(kept[i], (side[1] - side[0]) / 2e-5, 1e-8);
				}
			}
		sl_model_destroy(model);
	}
	sl_context_destroy(context);
}

static float x_data[SAMPLES * IN];
static int32_t y_data[SAMPLES];

static void train(int threads, double density, int64_t epochs, double *loss, double *accuracy, float *weights) {
	sl_context *context;
	sl_context_options co;
	SL_OPTIONS_INIT(co);
	co.device = SL_DEVICE_CPU;
	co.threads = threads;
	co.seed = 4;
	CHECK(sl_context_create(&context, &co) == SL_OK);
	sl_model *model = make_model(context, density, SL_F32);
	sl_optimizer_options oo;
	SL_OPTIONS_INIT(oo);
	oo.kind = SL_ADAM;
	oo.learning_rate = 0.01;
	oo.clip_norm = 5;
	sl_optimizer *optimizer = make_optimizer(context, model, &oo);
	sl_samples samples = samples_of(x_data, y_data);
	sl_fit_options fo;
	SL_OPTIONS_INIT(fo);
	fo.epochs = epochs;
	fo.batch = 70; /* the last batch is smaller */
	CHECK_OK(context, sl_model_fit(context, model, optimizer, &samples, &fo));
	CHECK_OK(context, sl_model_evaluate(context, model, SL_SOFTMAX_CROSS_ENTROPY, &samples, 0, loss, accuracy));
	sl_parameter parameter;
	SL_OPTIONS_INIT(parameter);
	CHECK_OK(context, sl_layer_parameter(context, sl_model_layer(model, 1), 0, &parameter));
	memcpy(weights, parameter.value, 100 * sizeof *weights);
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	sl_context_destroy(context);
}

SL_TEST(model, learns_and_threads_give_the_same_bits) {
	float a[100], b[100];
	double loss, accuracy, other;
	make_samples(x_data, y_data);
	for (double density = 0.3; density <= 1; density += 0.7) {
		train(1, density, 60, &loss, &accuracy, a);
		CHECK(accuracy > 0.95);
		train(2, density, 60, &other, &accuracy, b);
		CHECK(!memcmp(a, b, sizeof a));
		CHECK(loss == other);
	}
}

SL_TEST(model, accumulation_equals_one_batch) {
	sl_context *context = sl_test_context();
	sl_model *model = make_model(context, 0.3, SL_F64);
	static double x[8 * IN];
	int32_t labels[8] = {0, 1, 2, 3, 3, 2, 1, 0};
	sl_test_fill(x, SL_F64, 8 * IN, 3);
	sl_loss_result result;
	sl_targets targets = {.labels = labels};
	sl_dense inputs = sl_dense_view(x, SL_F64, 8, IN);
	CHECK_OK(context,
			 sl_model_train_batch(context, model, SL_SOFTMAX_CROSS_ENTROPY, &inputs, &targets, SL_OVERWRITE, &result));
	sl_parameter parameter;
	SL_OPTIONS_INIT(parameter);
	CHECK_OK(context, sl_layer_parameter(context, sl_model_layer(model, 0), 0, &parameter));
	double whole[1000];
	memcpy(whole, parameter.gradient, (size_t)parameter.count * sizeof *whole);
	for (int half = 0; half < 2; half++) {
		targets.labels = labels + 4 * half;
		inputs = sl_dense_view(x + 4 * half * IN, SL_F64, 4, IN);
		CHECK_OK(context, sl_model_train_batch(context, model, SL_SOFTMAX_CROSS_ENTROPY, &inputs, &targets,
											   half ? SL_ACCUMULATE : SL_OVERWRITE, &result));
	}
	for (int64_t i = 0; i < parameter.count; i++)
		CHECK_NEAR(((double *)parameter.gradient)[i] / 2, whole[i], 1e-14);
	sl_model_destroy(model);
	sl_context_destroy(context);
}

SL_TEST(model, steps_do_not_allocate) {
	sl_context *context = sl_test_context();
	sl_model *model = make_model(context, 0.3, SL_F32);
	sl_optimizer_options oo;
	SL_OPTIONS_INIT(oo);
	oo.kind = SL_ADAMW;
	oo.clip_norm = 1;
	oo.clip_value = 0.5;
	sl_optimizer *optimizer = make_optimizer(context, model, &oo);
	make_samples(x_data, y_data);
	sl_dense inputs = sl_dense_view(x_data, SL_F32, 100, IN);
	sl_targets targets = {.labels = y_data};
	sl_loss_result result;
	sl_memory_usage before, after;
	SL_OPTIONS_INIT(before);
	SL_OPTIONS_INIT(after);
	CHECK_OK(context, sl_model_prepare(context, model, 100, SL_MODE_TRAINING));
	for (int step = 0; step < 4; step++) {
		CHECK_OK(context, sl_model_train_batch(context, model, SL_SOFTMAX_CROSS_ENTROPY, &inputs, &targets,
											   SL_OVERWRITE, &result));
		CHECK_OK(context, sl_optimizer_step(context, optimizer));
		inputs.rows = 100 - step;
		sl_context_memory(context, step ? &after : &before);
	}
	CHECK_EQ(after.allocations, before.allocations);
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	sl_context_destroy(context);
}

static bool stop(void *user, const sl_progress *progress) {
	(void)user;
	return progress->done < 140;
}

SL_TEST(model, bad_input_and_cancel) {
	sl_context *context = sl_test_context();
	sl_model *model = make_model(context, 0.3, SL_F32);
	sl_optimizer_options oo;
	SL_OPTIONS_INIT(oo);
	sl_optimizer *optimizer = make_optimizer(context, model, &oo);
	make_samples(x_data, y_data);
	sl_samples samples = samples_of(x_data, y_data);
	sl_fit_options fo;
	SL_OPTIONS_INIT(fo);
	fo.batch = 70;
	sl_context_set_progress(context, stop, NULL);
	CHECK_STATUS(context, sl_model_fit(context, model, optimizer, &samples, &fo), SL_ERR_CANCELLED, "epoch 0");
	sl_context_set_progress(context, NULL, NULL);
	sl_optimizer_info info;
	SL_OPTIONS_INIT(info);
	CHECK_OK(context, sl_optimizer_get_info(context, optimizer, &info));
	CHECK_EQ(info.steps, 2);
	samples.inputs.cols = IN - 1;
	CHECK_STATUS(context, sl_model_fit(context, model, optimizer, &samples, &fo), SL_ERR_SHAPE, "samples.inputs");
	samples.inputs.cols = IN;
	y_data[9] = OUT;
	CHECK_STATUS(context, sl_model_evaluate(context, model, SL_SOFTMAX_CROSS_ENTROPY, &samples, 0, NULL, NULL),
				 SL_ERR_ARGUMENT, "label 9");
	y_data[9] = 0;
	x_data[71 * IN] = NAN;
	fo.keep_order = true;
	CHECK_STATUS(context, sl_model_fit(context, model, optimizer, &samples, &fo), SL_ERR_NONFINITE, "batch 1");
	sl_layer *wrong = make_layer(context, 3, 3, 1, SL_IDENTITY, SL_F32, 0);
	CHECK_STATUS(context, sl_model_add(context, model, wrong), SL_ERR_SHAPE, "3 features");
	sl_layer_destroy(wrong);
	CHECK_STATUS(context, sl_model_add_to_optimizer(context, model, optimizer), SL_ERR_ARGUMENT, "already");
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	sl_context_destroy(context);
}

SL_TEST(optimizer, each_kind_against_double) {
	sl_context *context = sl_test_context();
	for (int kind = SL_SGD; kind <= SL_ADAMW; kind++) {
		sl_layer *layer = make_layer(context, 40, 30, 0.2, SL_IDENTITY, SL_F32, 1);
		sl_optimizer *optimizer;
		sl_optimizer_options o;
		SL_OPTIONS_INIT(o);
		o.kind = (sl_optimizer_kind)kind;
		o.learning_rate = 0.05;
		o.l1 = 0.01;
		o.l2 = 0.02;
		o.l1_proximal = 1;
		o.weight_decay = 0.1;
		o.clip_value = 0.5;
		o.clip_norm = 2;
		o.schedule.kind = SL_SCHEDULE_STEP;
		o.schedule.interval = 2;
		o.schedule.gamma = 0.5;
		o.schedule.warmup = 1;
		CHECK_OK(context, sl_optimizer_create(&optimizer, context, &o));
		CHECK_OK(context, sl_optimizer_add(context, optimizer, layer));
		sl_parameter w, b;
		SL_OPTIONS_INIT(w);
		SL_OPTIONS_INIT(b);
		CHECK_OK(context, sl_layer_parameter(context, layer, 0, &w));
		CHECK_OK(context, sl_layer_parameter(context, layer, 1, &b));
		CHECK_EQ(w.count, 240);
		double ref[240], m[240] = {0}, v[240] = {0}, g[240];
		for (int i = 0; i < 240; i++)
			ref[i] = ((float *)w.value)[i];
		for (int step = 0; step < 6; step++) {
			sl_test_fill(w.gradient, SL_F32, w.count, (uint64_t)step + 1);
			memset(b.gradient, 0, (size_t)b.count * 4);
			double norm = 0, rate = 0.05 * (step < 1 ? 1 : pow(0.5, (step - 1) / 2)), t = step + 1;
			for (int i = 0; i < 240; i++) {
				g[i] = ((float *)w.gradient)[i];
				g[i] = g[i] > 0.5 ? 0.5 : g[i] < -0.5 ? -0.5 : g[i];
				norm += g[i] * g[i];
			}
			CHECK_OK(context, sl_optimizer_step(context, optimizer));
			for (int i = 0; i < 240; i++) {
				double old = ref[i], x = g[i] * 2 / sqrt(norm) + 0.01 * ((old > 0) - (old < 0)) + 0.02 * old;
				m[i] = kind >= SL_ADAM ? 0.9 * m[i] + 0.1 * x : 0.9 * m[i] + x;
				v[i] = 0.999 * v[i] + 0.001 * x * x;
				if (kind == SL_SGD)
					old -= rate * x;
				else if (kind == SL_MOMENTUM)
					old -= rate * m[i];
				else if (kind == SL_NESTEROV)
					old -= rate * (x + 0.9 * m[i]);
				else
					old = (kind == SL_ADAMW ? 1 - rate * 0.1 : 1) * old -
						  rate * (m[i] / (1 - pow(0.9, t))) / (sqrt(v[i] / (1 - pow(0.999, t))) + 1e-8);
				double cut = rate;
				ref[i] = fabs(old) <= cut ? 0 : old > 0 ? old - cut : old + cut;
			}
		}
		int zeros = 0;
		for (int i = 0; i < 240; i++) {
			CHECK_NEAR(((float *)w.value)[i], ref[i], 1e-5);
			zeros += ((float *)w.value)[i] == 0;
		}
		CHECK(zeros > 0); /* the proximal step makes exact zeros */
		sl_optimizer_destroy(optimizer);
		sl_layer_destroy(layer);
	}
	sl_context_destroy(context);
}

SL_TEST(topology, prune_keeps_the_largest_and_their_moments) {
	sl_context *context = sl_test_context();
	for (int dense = 0; dense < 2; dense++) {
		sl_layer *layer = make_layer(context, 40, 30, dense ? 1 : 0.5, SL_IDENTITY, SL_F32, 1);
		sl_optimizer *optimizer;
		sl_optimizer_options o;
		SL_OPTIONS_INIT(o);
		o.kind = SL_ADAM;
		CHECK_OK(context, sl_optimizer_create(&optimizer, context, &o));
		CHECK_OK(context, sl_optimizer_add(context, optimizer, layer));
		sl_parameter w;
		SL_OPTIONS_INIT(w);
		CHECK_OK(context, sl_layer_parameter(context, layer, 0, &w));
		sl_test_fill(w.gradient, SL_F32, w.count, 3);
		CHECK_OK(context, sl_optimizer_step(context, optimizer));
		float *m, before[1200], old_m[1200];
		CHECK_OK(context, sl_optimizer_state(context, optimizer, layer, 0, 0, (void **)&m));
		memcpy(before, w.value, (size_t)w.count * 4);
		memcpy(old_m, m, (size_t)w.count * 4);
		int64_t had = w.count;
		CHECK_STATUS(context, sl_layer_prune(context, layer, 2, optimizer), SL_ERR_ARGUMENT, "density");
		CHECK_OK(context, sl_layer_prune(context, layer, 0.1, optimizer));
		CHECK_OK(context, sl_layer_parameter(context, layer, 0, &w));
		CHECK_EQ(w.count, 120);
		CHECK(w.pattern != NULL);
		CHECK_OK(context, sl_optimizer_state(context, optimizer, layer, 0, 0, (void **)&m));
		double least = INFINITY;
		int64_t at = 0, larger = 0;
		for (int64_t i = 0; i < w.count; i++) {
			float value = ((float *)w.value)[i];
			while (at < had && before[at] != value)
				at++;
			CHECK(at < had); /* in the old order */
			CHECK(m[i] == old_m[at]);
			least = fmin(least, fabs((double)value));
		}
		for (int64_t i = 0; i < had; i++)
			larger += fabs((double)before[i]) > least;
		CHECK(larger < 120);
		CHECK_OK(context, sl_optimizer_step(context, optimizer));
		CHECK_STATUS(context, sl_layer_prune(context, layer, 0.5, optimizer), SL_ERR_ARGUMENT, "600");
		CHECK_OK(context, sl_layer_prune(context, layer, 0.05, NULL));
		CHECK_STATUS(context, sl_optimizer_step(context, optimizer), SL_ERR_STATE, "edited");
		sl_optimizer_destroy(optimizer);
		sl_layer_destroy(layer);
	}
	sl_context_destroy(context);
}
