/* SPDX-License-Identifier: Apache-2.0 */
/* The same from C++. */
#include <sparselayer/sparselayer.h>
#include <stdio.h>

static sl_status run(sl_context *context, sl_layer **layer, sl_saved **saved) {
	float x[2 * 8] = {1, -2, 3}, y[2 * 4], dy[2 * 4] = {1, 1}, dx[2 * 8];
	sl_linear_options options;
	sl_dense vx = sl_dense_view(x, SL_F32, 2, 8), vy = sl_dense_view(y, SL_F32, 2, 4);
	sl_dense vdy = sl_dense_view(dy, SL_F32, 2, 4), vdx = sl_dense_view(dx, SL_F32, 2, 8);
	SL_OPTIONS_INIT(options);
	options.in_features = 8;
	options.out_features = 4;
	options.density = 0.5;
	options.bias = true;
	options.activation = SL_RELU;
	SL_TRY(sl_linear_create(layer, context, &options));
	SL_TRY(sl_saved_create(saved, context, *layer, 2));
	SL_TRY(sl_layer_forward(context, *layer, &vx, &vy, *saved));
	return sl_layer_backward(context, *layer, *saved, &vdy, &vdx, SL_OVERWRITE);
}

int main(void) {
	sl_context *context = NULL;
	sl_layer *layer = NULL;
	sl_saved *saved = NULL;
	sl_status status = sl_context_create(&context, NULL);
	if (status == SL_OK)
		status = run(context, &layer, &saved);
	if (status != SL_OK || sl_version() != SL_VERSION)
		fprintf(stderr, "%s: %s\n", sl_status_name(status), context ? sl_context_message(context) : "");
	sl_saved_destroy(saved);
	sl_layer_destroy(layer);
	sl_context_destroy(context);
	return status != SL_OK || sl_version() != SL_VERSION;
}
