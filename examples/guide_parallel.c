/* SPDX-License-Identifier: Apache-2.0 */
/* What docs/guide.md and docs/scale-out.md quote about several ranks. One process, or `mpirun -n 4 guide_parallel`. */
#include <sparselayer/sparselayer.h>

#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES = 512, IN = 64, OUT = 4, BATCH = 64 };
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

static sl_status make_model(sl_context *context, sl_model **model, sl_optimizer **optimizer) {
	SL_TRY(sl_model_create(model, context));
	for (int i = 0; i < 2; i++) {
		sl_layer *layer = NULL;
		SL_TRY(
			sl_linear_create(&layer, context,
							 &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = i ? 128 : IN,
												  .out_features = i ? OUT : 128, .density = i ? 1 : 0.1, .bias = true,
												  .activation = i ? SL_IDENTITY : SL_RELU, .stream = (uint64_t)i + 1}));
		sl_status status = sl_model_add(context, *model, layer);
		if (status != SL_OK) {
			sl_layer_destroy(layer);
			return status;
		}
	}
	SL_TRY(sl_optimizer_create(optimizer, context,
							   &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 0.01}));
	return sl_model_add_to_optimizer(context, *model, *optimizer);
}

/* The loop is the library's. */
static sl_status fit(sl_context *context, sl_comm *comm, sl_model *model, sl_optimizer *optimizer) {
	sl_parallel *parallel = NULL;
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(inputs, SL_F32, SAMPLES, IN), .labels = labels};
	SL_TRY(sl_parallel_create(&parallel, context, comm, model, optimizer, NULL));
	sl_status status =
		sl_model_fit(context, model, optimizer, &samples,
					 &(sl_fit_options){SL_FIT_DEFAULTS, .epochs = 2, .batch = BATCH, .parallel = parallel});
	sl_parallel_destroy(parallel);
	return status;
}

/* The loop is the program's: each rank takes its rows of every global batch. */
static sl_status own_loop(sl_context *context, sl_parallel *parallel, sl_loss_result *result) {
	for (int64_t at = 0; at < SAMPLES; at += BATCH) {
		int64_t first, count;
		sl_parallel_share(parallel, BATCH, &first, &count);
		sl_dense x = sl_dense_view(inputs + (at + first) * IN, SL_F32, count, IN);
		SL_TRY(sl_parallel_train_batch(context, parallel, SL_SOFTMAX_CROSS_ENTROPY, BATCH, &x,
									   &(sl_targets){.labels = labels + at + first}, SL_OVERWRITE, result));
		SL_TRY(sl_parallel_step(context, parallel, NULL));
	}
	return SL_OK;
}

static sl_status run(sl_context *context, sl_comm *comm) {
	sl_model *model = NULL;
	sl_optimizer *optimizer = NULL;
	sl_parallel *parallel = NULL;
	sl_loss_result result = {0};
	sl_status status = make_model(context, &model, &optimizer);
	if (status == SL_OK)
		status = fit(context, comm, model, optimizer);
	if (status == SL_OK)
		status = sl_parallel_create(&parallel, context, comm, model, optimizer,
									&(sl_parallel_options){SL_PARALLEL_DEFAULTS, .shards = 8, .shard_state = true});
	for (int epoch = 0; epoch < 25 && status == SL_OK; epoch++)
		status = own_loop(context, parallel, &result);
	if (status == SL_OK && sl_comm_rank(comm) == 0)
		printf("%s: loss of the last batch %.3f\n", sl_comm_describe(comm), result.loss);
	sl_parallel_destroy(parallel);
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	return status == SL_OK && !(result.loss < 0.7) ? SL_ERR_INTERNAL : status;
}

int main(void) {
	sl_context *context = NULL;
	sl_comm *comm = NULL;
	make_samples();
	/* One seed: every rank makes the same model. Ranks of one machine share its cores. */
	sl_status status = sl_context_create(
		&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = 1, .seed = 1});
	if (status == SL_OK)
		status = sl_comm_create(&comm, context, NULL);
	if (status == SL_OK)
		status = run(context, comm);
	if (status != SL_OK) {
		fprintf(stderr, "%s: %s\n", sl_status_text(status), context ? sl_context_message(context) : "");
		/* The other ranks may be waiting for this one. */
		sl_comm_abort(comm, 1);
	}
	sl_comm_destroy(comm);
	sl_context_destroy(context);
	return 0;
}
