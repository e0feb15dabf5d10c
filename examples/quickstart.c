/* SPDX-License-Identifier: Apache-2.0 */
/* The README's example: one sparse layer, trained for a few steps to follow a random dense map. */
#include <sparselayer/sparselayer.h>

#include <stdio.h>
#include <stdlib.h>

static sl_status train(sl_context *context, sl_model *model, sl_optimizer **optimizer) {
	static float pixels[256 * 784], wanted[256 * 32];
	for (int i = 0; i < 256 * 784; i++)
		pixels[i] = (float)rand() / (float)RAND_MAX - 0.5f;
	for (int i = 0; i < 256 * 32; i++)
		wanted[i] = pixels[i / 32 * 784 + i % 32] > 0;

	sl_layer *layer = NULL;
	SL_TRY(sl_linear_create(&layer, context,
							&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = 784, .out_features = 32,
												 .density = 0.2, .bias = true}));
	SL_TRY(sl_model_add(context, model, layer));
	SL_TRY(sl_optimizer_create(optimizer, context, &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM}));
	SL_TRY(sl_model_add_to_optimizer(context, model, *optimizer));

	sl_dense inputs = sl_dense_view(pixels, SL_F32, 256, 784), targets = sl_dense_view(wanted, SL_F32, 256, 32);
	for (int step = 0; step < 200; step++) {
		sl_loss_result result;
		SL_TRY(sl_model_train_batch(context, model, SL_MEAN_SQUARED_ERROR, &inputs, &(sl_targets){.dense = &targets},
									SL_OVERWRITE, &result));
		SL_TRY(sl_optimizer_step(context, *optimizer));
		if (step % 50 == 0 || step == 199)
			printf("step %3d: loss %.4f\n", step, result.loss);
	}
	return SL_OK;
}

int main(void) {
	sl_context *context = NULL;
	sl_model *model = NULL;
	sl_optimizer *optimizer = NULL;
	sl_status status = sl_context_create(&context, NULL);
	if (status == SL_OK)
		status = sl_model_create(&model, context);
	if (status == SL_OK)
		status = train(context, model, &optimizer);
	if (status != SL_OK)
		fprintf(stderr, "%s: %s\n", sl_status_text(status), sl_context_message(context));
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	sl_context_destroy(context);
	return status != SL_OK;
}
