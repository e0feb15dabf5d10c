/* SPDX-License-Identifier: Apache-2.0 */
/* Early stopping of sl_model_fit(): when it stops, and what it puts back. */
#include "support/check.h"

enum { SAMPLES = 64, IN = 8, OUT = 3 };
static float inputs[SAMPLES * IN];
static int32_t labels[SAMPLES];

typedef struct watch {
	sl_context *context;
	sl_model *model;
	int64_t epochs, best;
	double values[64], best_value;
	bool by_accuracy;
	sl_optimizer *optimizer;
	float kept[64][IN * OUT];
} watch;

static sl_parameter weights_of(const watch *w) {
	sl_parameter p = {.struct_size = sizeof p};
	CHECK_OK(w->context, sl_model_parameter(w->context, w->model, 0, NULL, &p));
	return p;
}

/* Notes each epoch, and each epoch's weights. */
static bool note(void *user, const sl_epoch *e) {
	watch *w = user;
	sl_parameter p = weights_of(w);
	double value = w->by_accuracy ? e->validation_accuracy : -e->validation_loss;
	w->values[w->epochs] = value;
	memcpy(w->kept[w->epochs], p.value, (size_t)p.count * sizeof(float));
	if (w->epochs == 0 || value > w->best_value) {
		w->best = w->epochs;
		w->best_value = value;
	}
	w->epochs++;
	return true;
}

static void make(watch *w, sl_optimizer **optimizer, double rate) {
	sl_layer *layer;
	sl_linear_options o = {SL_LINEAR_DEFAULTS, .in_features = IN, .out_features = OUT, .density = 0.8};
	w->context = sl_test_context();
	sl_test_fill(inputs, SL_F32, SAMPLES * IN, 11);
	for (int i = 0; i < SAMPLES; i++)
		labels[i] = (inputs[i * IN] > 0) + (inputs[i * IN + 1] > 0.2f);
	CHECK_OK(w->context, sl_model_create(&w->model, w->context));
	CHECK_OK(w->context, sl_linear_create(&layer, w->context, &o));
	CHECK_OK(w->context, sl_model_add(w->context, w->model, layer));
	CHECK_OK(w->context, sl_optimizer_create(
							 optimizer, w->context,
							 &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = rate}));
	CHECK_OK(w->context, sl_model_add_to_optimizer(w->context, w->model, *optimizer));
}

static void drop(watch *w, sl_optimizer *optimizer) {
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(w->model);
	sl_context_destroy(w->context);
}

SL_TEST(fit, stops_when_patience_is_over_and_puts_the_best_back) {
	int stopped = 0;
	for (int patience = 1; patience <= 3; patience++)
		for (int kind = 0; kind < 4; kind++) {
			static watch w;
			sl_optimizer *optimizer;
			memset(&w, 0, sizeof w);
			w.by_accuracy = kind & 1;
			make(&w, &optimizer, 0.3); /* so large that it soon gets worse */
			sl_samples train = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(inputs, SL_F32, SAMPLES / 4, IN),
								.labels = labels};
			sl_samples test = {SL_SAMPLES_DEFAULTS,
							   .inputs = sl_dense_view(inputs + SAMPLES / 4 * IN, SL_F32, SAMPLES / 4 * 3, IN),
							   .labels = labels + SAMPLES / 4};
			sl_fit_options o = {SL_FIT_DEFAULTS,      .epochs = 60, .batch = 4,           .validation = &test,
								.on_epoch = note,     .user = &w,   .patience = patience, .stop_on_accuracy = kind & 1,
								.keep_last = kind > 1};
			CHECK_OK(w.context, sl_model_fit(w.context, w.model, optimizer, &train, &o));
			/* It stopped at the first place where `patience` epochs in a row were not the best. */
			double best = w.values[0];
			int64_t waited = 0, expected = 1;
			for (; expected < 60 && waited < patience; expected++) {
				waited = w.values[expected] > best ? 0 : waited + 1;
				best = w.values[expected] > best ? w.values[expected] : best;
			}
			CHECK_EQ(w.epochs, expected);
			stopped += w.epochs < 60;
			sl_parameter p = weights_of(&w);
			CHECK(!memcmp(p.value, w.kept[kind > 1 ? w.epochs - 1 : w.best], (size_t)p.count * sizeof(float)));
			if (kind < 2) {
				double loss, accuracy;
				CHECK_OK(w.context,
						 sl_model_evaluate(w.context, w.model, SL_SOFTMAX_CROSS_ENTROPY, &test, 4, &loss, &accuracy));
				CHECK(w.best_value == (kind & 1 ? accuracy : -loss));
			}
			drop(&w, optimizer);
		}
	CHECK(stopped > 6);
}

/* By 10 in accuracy nothing ever improves. */
SL_TEST(fit, small_improvements_do_not_count) {
	static watch w;
	sl_optimizer *optimizer;
	memset(&w, 0, sizeof w);
	make(&w, &optimizer, 0.001);
	sl_samples all = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(inputs, SL_F32, SAMPLES, IN), .labels = labels};
	sl_fit_options o = {SL_FIT_DEFAULTS, .epochs = 60,  .validation = &all,    .on_epoch = note,
						.user = &w,      .patience = 2, .min_improvement = 10, .stop_on_accuracy = true};
	CHECK_OK(w.context, sl_model_fit(w.context, w.model, optimizer, &all, &o));
	CHECK_EQ(w.epochs, 3);
	sl_parameter p = weights_of(&w);
	CHECK(!memcmp(p.value, w.kept[0], (size_t)p.count * sizeof(float)));
	o.min_improvement = -1;
	CHECK_EQ(sl_model_fit(w.context, w.model, optimizer, &all, &o), SL_ERR_ARGUMENT);
	o.min_improvement = 0;
	o.validation = NULL;
	CHECK_EQ(sl_model_fit(w.context, w.model, optimizer, &all, &o), SL_ERR_ARGUMENT);
	CHECK(strstr(sl_context_message(w.context), "without validation"));
	drop(&w, optimizer);
}

static bool prune_late(void *user, const sl_epoch *e) {
	watch *w = user;
	if (e->epoch == 2)
		CHECK_OK(w->context, sl_layer_prune(w->context, sl_model_layer(w->model, 0), 0.4, w->optimizer));
	return true;
}

SL_TEST(fit, an_edit_after_the_best_epoch_is_told) {
	static watch w;
	memset(&w, 0, sizeof w);
	make(&w, &w.optimizer, 0.001);
	sl_samples all = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(inputs, SL_F32, SAMPLES, IN), .labels = labels};
	sl_fit_options o = {SL_FIT_DEFAULTS, .epochs = 60,  .validation = &all,   .on_epoch = prune_late,
						.user = &w,      .patience = 4, .min_improvement = 10};
	CHECK_EQ(sl_model_fit(w.context, w.model, w.optimizer, &all, &o), SL_ERR_STATE);
	CHECK(strstr(sl_context_message(w.context), "edited after the best epoch"));
	o.keep_last = true;
	CHECK_OK(w.context, sl_model_fit(w.context, w.model, w.optimizer, &all, &o));
	drop(&w, w.optimizer);
}

/* One step of SGD on a batch is one on each sample's gradient times its weight: against train_batch() a sample at a
 * time. */
SL_TEST(fit, class_weights_scale_each_sample) {
	static watch w;
	static const double weights[OUT] = {0.25, 3, 0};
	double expected[IN * OUT] = {0};
	memset(&w, 0, sizeof w);
	make(&w, &w.optimizer, 0.001);
	sl_optimizer *sgd;
	CHECK_OK(w.context,
			 sl_optimizer_create(&sgd, w.context,
								 &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_SGD, .learning_rate = 0.5}));
	CHECK_OK(w.context, sl_model_add_to_optimizer(w.context, w.model, sgd));
	sl_parameter p = weights_of(&w);
	for (int64_t k = 0; k < p.count; k++)
		expected[k] = ((float *)p.value)[k];
	for (int i = 0; i < SAMPLES; i++) {
		sl_dense x = sl_dense_view(inputs + i * IN, SL_F32, 1, IN);
		sl_loss_result result = {.loss = 0};
		CHECK_OK(w.context, sl_model_train_batch(w.context, w.model, SL_SOFTMAX_CROSS_ENTROPY, &x,
												 &(sl_targets){.labels = labels + i}, SL_OVERWRITE, &result));
		for (int64_t k = 0; k < p.count; k++)
			expected[k] -= 0.5 / SAMPLES * weights[labels[i]] * ((float *)p.gradient)[k];
	}
	sl_samples all = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(inputs, SL_F32, SAMPLES, IN), .labels = labels};
	sl_fit_options o = {SL_FIT_DEFAULTS, .batch = SAMPLES, .class_weights = weights};
	CHECK_OK(w.context, sl_model_fit(w.context, w.model, sgd, &all, &o));
	p = weights_of(&w);
	for (int64_t k = 0; k < p.count; k++)
		CHECK(fabs(expected[k] - (double)((float *)p.value)[k]) <= 1e-5);
	/* A label without a weight, and weights that mean nothing. */
	int32_t last = labels[SAMPLES - 1];
	labels[SAMPLES - 1] = OUT;
	CHECK_STATUS(w.context, sl_model_fit(w.context, w.model, sgd, &all, &o), SL_ERR_ARGUMENT, "a label is 3");
	labels[SAMPLES - 1] = last;
	double bad[OUT] = {1, -1, 1};
	o.class_weights = bad;
	CHECK_STATUS(w.context, sl_model_fit(w.context, w.model, sgd, &all, &o), SL_ERR_ARGUMENT, "class_weights[1] is -1");
	bad[1] = INFINITY;
	CHECK_STATUS(w.context, sl_model_fit(w.context, w.model, sgd, &all, &o), SL_ERR_ARGUMENT,
				 "class_weights[1] is inf");
	o.loss = SL_MEAN_SQUARED_ERROR;
	CHECK_STATUS(w.context, sl_model_fit(w.context, w.model, sgd, &all, &o), SL_ERR_ARGUMENT, "");
	sl_optimizer_destroy(sgd);
	drop(&w, w.optimizer);
}
