/* SPDX-License-Identifier: Apache-2.0 */
/* What docs/scale-out.md quotes about layers that are larger than one machine. One process, or `mpirun -n 4
 * guide_divided`: two ranks hold the model together, two such pairs share each batch. */
#include <sparselayer/sparselayer.h>

#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES = 256, IN = 64, HIDDEN = 512, OUT = 4, BATCH = 64 };
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

/* Eight blocks of rows each: up to eight ranks may hold the model together, and compute the same bits. */
static sl_status make_model(sl_context *context, sl_comm *model_ranks, sl_model **model) {
	SL_TRY(sl_model_create(model, context));
	SL_TRY(sl_model_add_divided(context, *model, model_ranks,
								&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = IN, .out_features = HIDDEN,
													 .density = 0.05, .bias = true, .activation = SL_RELU, .stream = 1},
								8));
	return sl_model_add_divided(context, *model, model_ranks,
								&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = HIDDEN, .out_features = OUT,
													 .density = 0.5, .bias = true, .stream = 2},
								8);
}

static sl_status train(sl_context *context, sl_model *model, sl_optimizer *optimizer, sl_parallel *parallel,
					   double *loss) {
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(inputs, SL_F32, SAMPLES, IN), .labels = labels};
	SL_TRY(sl_model_fit(context, model, optimizer, &samples,
						&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = 30, .batch = BATCH, .parallel = parallel}));
	return sl_model_evaluate(context, model, SL_SOFTMAX_CROSS_ENTROPY, &samples, 0, loss, NULL);
}

static sl_status run(sl_context *context, sl_comm *comm) {
	sl_comm *model_ranks = NULL, *data_ranks = NULL;
	sl_model *model = NULL;
	sl_optimizer *optimizer = NULL;
	sl_parallel *parallel = NULL;
	double loss = 0;
	int rank = sl_comm_rank(comm);
	sl_status status = sl_comm_split(&model_ranks, context, comm, rank / 2, rank);
	if (status == SL_OK)
		status = sl_comm_split(&data_ranks, context, comm, rank % 2, rank);
	if (status == SL_OK)
		status = make_model(context, model_ranks, &model);
	if (status == SL_OK)
		status = sl_optimizer_create(
			&optimizer, context,
			&(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 0.01});
	if (status == SL_OK)
		status = sl_model_add_to_optimizer(context, model, optimizer);
	if (status == SL_OK)
		status = sl_parallel_create(&parallel, context, data_ranks, model, optimizer, NULL);
	if (status == SL_OK)
		status = train(context, model, optimizer, parallel, &loss);
	if (status == SL_OK && rank == 0)
		printf("%s: loss %.3f\n", sl_comm_describe(model_ranks), loss);
	sl_parallel_destroy(parallel);
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	sl_comm_destroy(data_ranks);
	sl_comm_destroy(model_ranks);
	return status == SL_OK && !(loss < 0.7) ? SL_ERR_INTERNAL : status;
}

int main(void) {
	sl_context *context = NULL;
	sl_comm *comm = NULL;
	make_samples();
	sl_status status = sl_context_create(
		&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = 1, .seed = 1});
	if (status == SL_OK)
		status = sl_comm_create(&comm, context, NULL);
	if (status == SL_OK)
		status = run(context, comm);
	if (status != SL_OK) {
		fprintf(stderr, "%s: %s\n", sl_status_text(status), context ? sl_context_message(context) : "");
		sl_comm_abort(comm, 1);
	}
	sl_comm_destroy(comm);
	sl_context_destroy(context);
	return 0;
}
