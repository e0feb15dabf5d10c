/* SPDX-License-Identifier: Apache-2.0 */
/* What docs/guide.md quotes about layers and training. Run by the tests. */
#include <sparselayer/sparselayer.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SAMPLES = 512, IN = 64, OUT = 4 };
static float inputs[SAMPLES * IN];
static int32_t labels[SAMPLES];

/* The class is the quarter of the features with the largest sum. */
static void make_samples(void) {
	srand(1);
	for (int s = 0; s < SAMPLES; s++) {
		float sum[OUT] = {0};
		for (int f = 0; f < IN; f++) {
			inputs[s * IN + f] = (float)rand() / (float)RAND_MAX;
			sum[f / (IN / OUT)] += inputs[s * IN + f];
		}
		for (int c = 1; c < OUT; c++)
			if (sum[c] > sum[labels[s]])
				labels[s] = c;
	}
}

static sl_status add(sl_context *context, sl_model *model, const sl_linear_options *options) {
	sl_layer *layer = NULL;
	SL_TRY(sl_linear_create(&layer, context, options));
	sl_status status = sl_model_add(context, model, layer);
	if (status != SL_OK)
		sl_layer_destroy(layer);
	return status;
}

static sl_status make_model(sl_model **model, sl_context *context) {
	SL_TRY(sl_model_create(model, context));
	SL_TRY(add(context, *model,
			   &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = IN, .out_features = 128, .density = 0.1,
									.init = SL_INIT_HE_UNIFORM, .bias = true, .activation = SL_RELU, .stream = 1}));
	SL_TRY(add(context, *model,
			   &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = 128, .out_features = OUT, .dense = true,
									.bias = true, .stream = 2, .name = "head"}));
	return SL_OK;
}

static bool after_epoch(void *user, const sl_epoch *epoch) {
	(void)user;
	printf("epoch %lld: loss %.4f, accuracy %.1f%%\n", (long long)epoch->epoch + 1, epoch->loss, 100 * epoch->accuracy);
	return true; /* false stops */
}

static sl_status fit(sl_context *context, sl_model *model, sl_optimizer **optimizer) {
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(inputs, SL_F32, SAMPLES, IN), .labels = labels};
	int64_t steps_per_epoch = SAMPLES / 32, epochs = 8;
	SL_TRY(sl_optimizer_create(optimizer, context,
							   &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 0.01,
													   .l2 = 1e-5, .clip_norm = 5,
													   .schedule = {.kind = SL_SCHEDULE_COSINE,
																	.warmup = 10,
																	.total = steps_per_epoch * epochs - 10,
																	.final_ratio = 0.1}}));
	SL_TRY(sl_model_add_to_optimizer(context, model, *optimizer));
	SL_TRY(sl_model_fit(context, model, *optimizer, &samples,
						&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = epochs, .batch = 32, .on_epoch = after_epoch}));
	double loss, accuracy;
	SL_TRY(sl_model_evaluate(context, model, SL_SOFTMAX_CROSS_ENTROPY, &samples, 0, &loss, &accuracy));
	return accuracy > 0.4 ? SL_OK : SL_ERR_INTERNAL;
}

/* The same by hand: two batches a step. */
static sl_status own_loop(sl_context *context, sl_model *model, sl_optimizer *optimizer) {
	enum { BATCH = 32 };
	for (int64_t first = 0; first < SAMPLES; first += 2 * BATCH) {
		for (int part = 0; part < 2; part++) {
			int64_t at = first + part * BATCH;
			sl_dense x = sl_dense_view(inputs + at * IN, SL_F32, BATCH, IN);
			sl_loss_result result;
			SL_TRY(sl_model_train_batch(context, model, SL_SOFTMAX_CROSS_ENTROPY, &x,
										&(sl_targets){.labels = labels + at}, part ? SL_ACCUMULATE : SL_OVERWRITE,
										&result));
		}
		SL_TRY(sl_optimizer_scale_gradients(context, optimizer, 0.5));
		SL_TRY(sl_optimizer_step(context, optimizer));
	}
	return SL_OK;
}

static sl_status regrow(sl_context *context, sl_layer *layer, sl_saved *saved, const sl_dense *dY);

/* One layer alone, with buffers of one's own. */
static sl_status one_layer(sl_context *context) {
	static float x[16 * IN], y[16 * 8], dy[16 * 8], dx[16 * IN];
	sl_layer *layer = NULL;
	sl_saved *saved = NULL;
	SL_TRY(sl_linear_create(&layer, context,
							&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = IN, .out_features = 8,
												 .density = 0.25, .bias = true, .activation = SL_GELU}));
	SL_TRY(sl_layer_prepare(context, layer, 16, SL_MODE_TRAINING)); /* from here on calls allocate nothing */
	SL_TRY(sl_saved_create(&saved, context, layer, 16));

	sl_dense X = sl_dense_view(x, SL_F32, 16, IN), Y = sl_dense_view(y, SL_F32, 16, 8);
	sl_dense dY = sl_dense_view(dy, SL_F32, 16, 8), dX = sl_dense_view(dx, SL_F32, 16, IN);
	SL_TRY(sl_layer_forward(context, layer, &X, &Y, saved)); /* saved NULL: inference */
	SL_TRY(sl_layer_backward(context, layer, saved, &dY, &dX, SL_OVERWRITE));

	sl_parameter weight = {.struct_size = sizeof weight};
	SL_TRY(sl_layer_parameter(context, layer, 0, &weight)); /* value and gradient: one element a nonzero */
	printf("%lld weights of %lld\n", (long long)weight.count, (long long)(weight.rows * weight.cols));
	sl_status status = regrow(context, layer, saved, &dY);
	sl_saved_destroy(saved);
	sl_layer_destroy(layer);
	return status;
}

static sl_status shrink(sl_context *context, sl_model *model, sl_optimizer *optimizer) {
	sl_compaction done = {.struct_size = sizeof done};
	/* The largest tenth of all layers together; then neurons go that have no connection left on one side. */
	SL_TRY(sl_model_prune(context, model,
	                      &(sl_prune_options){SL_PRUNE_DEFAULTS, .density = 0.1, .budget = SL_BUDGET_GLOBAL}, optimizer,
	                      NULL));
	SL_TRY(sl_model_compact(context, model, optimizer, &done));
	return own_loop(context, model, optimizer);
}

static sl_status prune(sl_context *context, sl_model *model, sl_optimizer *optimizer) {
	/* The head becomes sparse; moments and gradients of the weights that stay come along. */
	SL_TRY(sl_layer_prune(context, sl_model_layer(model, 1), 0.5, optimizer));
	/* Optional: plan and allocate now, and not in the next step. */
	SL_TRY(sl_model_prepare(context, model, 32, SL_MODE_TRAINING));
	SL_TRY(own_loop(context, model, optimizer));
	return shrink(context, model, optimizer);
}

/* A schedule of the model's, which fit follows; then the same step by step. */
static sl_status evolve(sl_context *context, sl_model *model, sl_optimizer *optimizer) {
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(inputs, SL_F32, SAMPLES, IN), .labels = labels};
	int64_t steps = SAMPLES / 32 * 4;
	SL_TRY(sl_model_set_sparsity(
		context, model,
		&(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = SL_SPARSE_RIGL, .interval = 5, .end = steps * 3 / 4}));
	SL_TRY(sl_model_fit(context, model, optimizer, &samples,
						&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = 4, .batch = 32}));

	SL_TRY(sl_model_set_sparsity(context, model,
								 &(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = SL_SPARSE_GMP, .interval = 2,
														.end = SAMPLES / 32, .density = 0.05}));
	for (int64_t first = 0; first + 32 <= SAMPLES; first += 32) {
		sl_dense x = sl_dense_view(inputs + first * IN, SL_F32, 32, IN);
		sl_loss_result result;
		sl_sparsity_edit edit = {.struct_size = sizeof edit};
		SL_TRY(sl_model_train_batch(context, model, SL_SOFTMAX_CROSS_ENTROPY, &x,
									&(sl_targets){.labels = labels + first}, SL_OVERWRITE, &result));
		SL_TRY(sl_optimizer_step(context, optimizer));
		SL_TRY(sl_model_sparsity_step(context, model, optimizer, &edit));
		if (edit.edited)
			printf("%lld dropped, %lld stay\n", (long long)edit.dropped, (long long)edit.nonzeros);
	}
	return SL_OK;
}

/* Drop and grow in one layer, with buffers of one's own. */
static sl_status regrow(sl_context *context, sl_layer *layer, sl_saved *saved, const sl_dense *dY) {
	int64_t moved;
	/* By the gradients of the last forward and its dY; without them at random. */
	SL_TRY(sl_layer_regrow(
		context, layer, &(sl_regrow_options){SL_REGROW_DEFAULTS, .drop = 0.2, .saved = saved, .dY = dY}, NULL, &moved));
	printf("%lld weights moved\n", (long long)moved);
	return SL_OK;
}

static sl_status parameters_differ(sl_context *context, const sl_model *a, const sl_model *b) {
	for (int i = 0; i < sl_model_layer_count(a); i++)
		for (int p = 0; p < sl_layer_parameter_count(sl_model_layer(a, i)); p++) {
			sl_parameter x = {.struct_size = sizeof x}, y = {.struct_size = sizeof y};
			SL_TRY(sl_layer_parameter(context, sl_model_layer(a, i), p, &x));
			SL_TRY(sl_layer_parameter(context, sl_model_layer(b, i), p, &y));
			if (x.count != y.count || memcmp(x.value, y.value, (size_t)x.count * sizeof(float)) != 0)
				return SL_ERR_INTERNAL;
		}
	return SL_OK;
}

static sl_status resume(sl_context *context, const char *path) {
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(inputs, SL_F32, SAMPLES, IN), .labels = labels};
	sl_model *model = NULL, *again = NULL;
	sl_optimizer *optimizer = NULL, *optimizer_again = NULL;
	SL_TRY(make_model(&model, context));
	SL_TRY(sl_optimizer_create(&optimizer, context, &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM}));
	SL_TRY(sl_model_add_to_optimizer(context, model, optimizer));

	/* Two epochs, and all that is needed to go on. */
	SL_TRY(sl_model_fit(context, model, optimizer, &samples,
						&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = 2, .batch = 32}));
	sl_checkpoint done = {SL_CHECKPOINT_DEFAULTS, .epochs_done = 2, .batch = 32, .loss = SL_SOFTMAX_CROSS_ENTROPY};
	SL_TRY(sl_model_save(context, model, optimizer, &done, path));

	/* Another day: the third epoch, in a context of the same seed. */
	sl_checkpoint from = {SL_CHECKPOINT_DEFAULTS};
	SL_TRY(sl_model_load(&again, &optimizer_again, &from, context, path, NULL));
	SL_TRY(sl_model_fit(context, again, optimizer_again, &samples,
						&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = 3, .first_epoch = from.epochs_done,
										  .first_sample = from.samples_done, .batch = from.batch, .loss = from.loss}));

	/* The run that was never interrupted ends with the same bits. */
	SL_TRY(sl_model_fit(context, model, optimizer, &samples,
						&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = 3, .first_epoch = 2, .batch = 32}));
	SL_TRY(parameters_differ(context, model, again));
	sl_optimizer_destroy(optimizer);
	sl_optimizer_destroy(optimizer_again);
	sl_model_destroy(model);
	sl_model_destroy(again);
	return SL_OK;
}

int main(void) {
	char folder[] = "/tmp/sparselayer-guide-XXXXXX", path[64];
	sl_context *context = NULL;
	sl_model *model = NULL;
	sl_optimizer *optimizer = NULL;
	make_samples();
	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof path, "%s/model.safetensors", folder);
	sl_status status = sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .seed = 1});
	if (status == SL_OK)
		status = make_model(&model, context);
	if (status == SL_OK)
		status = fit(context, model, &optimizer);
	if (status == SL_OK)
		status = own_loop(context, model, optimizer);
	if (status == SL_OK)
		status = prune(context, model, optimizer);
	if (status == SL_OK)
		status = evolve(context, model, optimizer);
	if (status == SL_OK)
		status = one_layer(context);
	if (status == SL_OK)
		status = resume(context, path);
	if (status != SL_OK)
		fprintf(stderr, "%s: %s\n", sl_status_text(status), sl_context_message(context));
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	unlink(path);
	rmdir(folder);
	sl_context_destroy(context);
	return status != SL_OK;
}
