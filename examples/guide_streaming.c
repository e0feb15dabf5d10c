/* SPDX-License-Identifier: Apache-2.0 */
/* What docs/guide.md quotes about layers larger than memory. Run by the tests. */
#define _GNU_SOURCE /* mkdtemp */
#include <sparselayer/sparselayer.h>

#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES = 64, IN = 4096, HIDDEN = 2048, OUT = 4 };
static float inputs[SAMPLES * IN];
static int32_t labels[SAMPLES];

static sl_status make_model(sl_context *context, const char *folder, sl_model *model, sl_optimizer *optimizer) {
	sl_layer *large = NULL, *head = NULL;
	SL_TRY(sl_linear_create_streamed(
		&large, context,
		&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = IN, .out_features = HIDDEN, .density = 0.05,
							 .bias = true, .activation = SL_RELU, .stream = 1, .name = "large"},
		&(sl_streamed_options){SL_STREAMED_DEFAULTS, .folder = folder, .optimizer = SL_ADAM}));
	SL_TRY(sl_model_add(context, model, large));
	SL_TRY(sl_linear_create(&head, context,
							&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = HIDDEN, .out_features = OUT,
												 .bias = true, .stream = 2, .name = "head"}));
	SL_TRY(sl_model_add(context, model, head));
	return sl_model_add_to_optimizer(context, model, optimizer);
}

static sl_status train(sl_context *context, const char *folder, sl_model *model, sl_optimizer *optimizer) {
	char committed[256], whole[256];
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .labels = labels};
	samples.inputs = sl_dense_view(inputs, SL_F32, SAMPLES, IN);
	snprintf(committed, sizeof committed, "%s/model.safetensors", folder);
	snprintf(whole, sizeof whole, "%s/whole.safetensors", folder);
	SL_TRY(make_model(context, folder, model, optimizer));
	SL_TRY(sl_model_fit(context, model, optimizer, &samples,
						&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = 2, .batch = 32}));
	/* On disk for good, in place: sl_model_load() opens it, and training goes on. */
	SL_TRY(sl_model_commit(context, model, optimizer, NULL, committed));
	/* And as an ordinary model file, which is written without holding the weights. */
	SL_TRY(sl_model_save(context, model, NULL, NULL, whole));

	/* Inference from that file, its large layers left where they are. */
	sl_model *reader = NULL;
	double loss, accuracy;
	SL_TRY(sl_model_load_streamed(&reader, NULL, context, whole, 100000, NULL, NULL));
	sl_status status = sl_model_evaluate(context, reader, SL_SOFTMAX_CROSS_ENTROPY, &samples, 32, &loss, &accuracy);
	sl_model_destroy(reader);
	if (status == SL_OK)
		printf("loss %.3f\n", loss);
	return status;
}

int main(void) {
	char folder[] = "/tmp/sparselayer-streaming-XXXXXX", command[128];
	sl_context *context = NULL;
	sl_model *model = NULL;
	sl_optimizer *optimizer = NULL;
	for (int i = 0; i < SAMPLES * IN; i++)
		inputs[i] = (float)(rand() % 100) / 100;
	for (int i = 0; i < SAMPLES; i++)
		labels[i] = i % OUT;
	if (!mkdtemp(folder))
		return 1;
	sl_status status =
		sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .seed = 1, .memory_budget = 16 << 20});
	if (status == SL_OK)
		status = sl_model_create(&model, context);
	if (status == SL_OK)
		status =
			sl_optimizer_create(&optimizer, context, &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM});
	if (status == SL_OK)
		status = train(context, folder, model, optimizer);
	if (status != SL_OK)
		fprintf(stderr, "%s: %s\n", sl_status_text(status), sl_context_message(context));
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	sl_context_destroy(context);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command) || status != SL_OK;
}
