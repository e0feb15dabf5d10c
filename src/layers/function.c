/* SPDX-License-Identifier: Apache-2.0 */
/* The linear layer over arrays of the caller's: the layer's own forward and backward, with its arrays
 * exchanged for the call. */
#include "layers/function.h"

#include "core/checked.h"

static sl_layer *layer_for(sl_context *context, sl_function *function, int64_t batch) {
	int64_t width = sli_layer_width(context, &function->layers[0], batch);
	int at = 0;
	while (at < SL_FUNCTION_WIDTHS - 1 && function->layers[at].planned_width &&
		   function->layers[at].planned_width != width)
		at++;
	return &function->layers[at];
}

static size_t rounded(size_t bytes) {
	return (bytes + 63) & ~(size_t)63;
}

bool sli_function_kept(sl_context *context, const sl_function *function, int64_t batch, size_t *input, size_t *output) {
	const sl_layer *layer = &function->layers[0];
	int64_t width = sli_layer_width(context, layer, batch);
	*output = 0;
	if (!sli_panel_bytes(layer->in_features, batch, width, layer->dtype, input) ||
		(layer->activation != SL_IDENTITY &&
		 !sli_panel_bytes(layer->out_features, batch, width, layer->dtype, output)) ||
		*input > PTRDIFF_MAX / 4 || *output > PTRDIFF_MAX / 4)
		return false;
	*input = rounded(*input);
	*output = rounded(*output);
	return true;
}

/* A row of values. */
static sl_dense row(sl_context *context, const void *data, sl_dtype dtype, int64_t count) {
	sl_dense view = sli_panels(context, (void *)data, dtype, 1, count, count > 0 ? count : 1);
	view.order = SL_ROW_MAJOR;
	return view;
}

static int64_t entries_of(const sl_layer *layer) {
	return sli_pattern_arrays(layer->weights->pattern).nnz;
}

static bool is_half(const sl_layer *layer) {
	return sli_bias_dtype(layer->dtype) != layer->dtype;
}

/* The caller's weights, rounded to the layer's 16 bits where it has them. */
static sl_status take_values(sl_context *context, const sl_layer *layer, const void *values) {
	int64_t count = entries_of(layer);
	layer->weights->values = (void *)values;
	if (!is_half(layer) || !count)
		return SL_OK;
	sl_dense wide = row(context, values, SL_F32, count), narrow = row(context, NULL, layer->dtype, count);
	SL_TRY(sli_arena_take(context, (size_t)count * sl_dtype_size(layer->dtype), &narrow.data));
	layer->weights->values = narrow.data;
	return sli_convert(context, &wide, &narrow);
}

/* Plans for the batch, and the call's parameters in their places; the arena's mark is the caller's. */
static sl_status enter(sl_context *context, sl_function *function, const sl_function_call *call, int64_t batch,
					   sl_mode mode, sl_layer **result) {
	sl_layer *layer = layer_for(context, function, batch);
	*result = layer;
	SL_TRY(take_values(context, layer, call->values));
	layer->bias.data = (void *)call->bias;
	/* So that nobody makes gradients where the caller's go. */
	layer->gradient.device = layer->bias_gradient.device = sli_device(context);
	int64_t width = sli_layer_width(context, layer, batch);
	bool planned = layer->forward_plan && layer->planned_width == width && layer->planned_batch >= batch &&
				   layer->forward_plan->device == sli_device(context) && (layer->dw_plan || mode == SL_MODE_INFERENCE);
	if (batch < 1 || planned)
		return SL_OK;
	return sli_layer_prepare_width(context, layer, batch, width, mode, true);
}

static void leave(sl_layer *layer) {
	layer->weights->values = layer->bias.data = NULL;
	layer->gradient = layer->bias_gradient = (sl_buffer){0};
}

static sl_status too_large(sl_context *context, int64_t batch) {
	return sli_fail(context, SL_ERR_OVERFLOW, "a batch of %lld rows does not fit in memory", (long long)batch);
}

sl_status sli_function_forward(sl_context *context, sl_function *function, sl_function_call *call) {
	sl_layer *layer;
	size_t input, output;
	int64_t batch = call->x.cols;
	if (!sli_function_kept(context, function, batch, &input, &output))
		return too_large(context, batch);
	sl_arena_mark mark = sli_arena_mark(context);
	/* Training has forwards that keep nothing, so what was planned for it serves both. */
	sl_status status = enter(context, function, call, batch, call->kept ? SL_MODE_TRAINING : SL_MODE_INFERENCE, &layer);
	if (status == SL_OK && call->kept) {
		sl_device_state *device = sli_device(context);
		sl_saved saved = {.max_batch = batch,
						  .input = {device, call->kept, input},
						  .output = {device, (char *)call->kept + input, output}};
		status = sli_layer_forward(context, layer, &call->x, &call->y, &saved);
	} else if (status == SL_OK) {
		status = sli_layer_forward(context, layer, &call->x, &call->y, NULL);
	}
	leave(layer);
	sli_arena_reset(context, mark);
	return status;
}

/* A matrix of the forward as panels: out of `kept`, or packed into the workspace. */
static sl_status panels(sl_context *context, const sl_layer *layer, sl_dense *view, int64_t rows, int64_t batch,
						void *kept, size_t bytes, sl_dense *packed) {
	int64_t width = layer->planned_width;
	*packed = sli_panels(context, kept, layer->dtype, rows, batch, width);
	if (kept)
		return SL_OK;
	if (view->order == SL_COL_PANELS && view->ld == width) {
		*packed = *view;
		return SL_OK;
	}
	SL_TRY(sli_arena_take(context, bytes, &packed->data));
	return sli_convert(context, view, packed);
}

typedef struct adding {
	const float *from;
	float *to;
	int64_t count;
} adding;

enum { ADDED = 1 << 14 };

static void add_piece(void *argument, size_t index) {
	const adding *a = argument;
	int64_t begin = (int64_t)index * ADDED, end = begin + ADDED < a->count ? begin + ADDED : a->count;
	for (int64_t i = begin; i < end; i++)
		a->to[i] += a->from[i];
}

/* A gradient of 16 bits to the caller's float32. */
static sl_status hand_out(sl_context *context, const sl_layer *layer, const sl_function_call *call) {
	int64_t count = entries_of(layer);
	sl_dense narrow = row(context, layer->gradient.data, layer->dtype, count);
	sl_dense wide = row(context, call->value_gradient, SL_F32, count);
	if (call->write != SL_ACCUMULATE)
		return sli_convert(context, &narrow, &wide);
	SL_TRY(sli_arena_take(context, (size_t)count * sizeof(float), &wide.data));
	SL_TRY(sli_convert(context, &narrow, &wide));
	adding a = {wide.data, call->value_gradient, count};
	sli_parallel(context, (size_t)sli_ceil_div(count, ADDED), add_piece, &a);
	return SL_OK;
}

static sl_status backward(sl_context *context, sl_layer *layer, sl_function_call *call, size_t input, size_t output) {
	int64_t batch = call->dy.cols;
	sl_saved saved = {.max_batch = batch, .layer = layer, .edition = layer->edition};
	char *kept = call->kept;
	SL_TRY(panels(context, layer, &call->x, layer->in_features, batch, kept, input, &saved.x));
	if (layer->activation != SL_IDENTITY)
		SL_TRY(panels(context, layer, &call->y, layer->out_features, batch, kept ? kept + input : NULL, output,
					  &saved.kept));
	bool half = is_half(layer);
	layer->gradient.data = half ? NULL : call->value_gradient;
	layer->bias_gradient.data = call->bias_gradient;
	size_t nnz = (size_t)entries_of(layer), bias = sl_dtype_size(sli_bias_dtype(layer->dtype));
	if (!layer->gradient.data && nnz)
		SL_TRY(sli_arena_take(context, nnz * sl_dtype_size(layer->dtype), &layer->gradient.data));
	if (half && nnz && call->write == SL_ACCUMULATE)
		memset(layer->gradient.data, 0, nnz * sl_dtype_size(layer->dtype));
	if (!layer->bias_gradient.data && layer->has_bias)
		SL_TRY(sli_arena_take(context, (size_t)layer->out_features * bias, &layer->bias_gradient.data));
	SL_TRY(sli_layer_backward(context, layer, &saved, &call->dy, call->dx, call->write));
	return half && nnz && call->value_gradient ? hand_out(context, layer, call) : SL_OK;
}

/* Gradients of no rows: zero. */
static void clear(const sl_layer *layer, const sl_function_call *call) {
	if (call->write == SL_ACCUMULATE)
		return;
	size_t size = sl_dtype_size(sli_bias_dtype(layer->dtype));
	if (call->value_gradient)
		memset(call->value_gradient, 0, (size_t)entries_of(layer) * size);
	if (call->bias_gradient)
		memset(call->bias_gradient, 0, (size_t)layer->out_features * size);
}

sl_status sli_function_backward(sl_context *context, sl_function *function, sl_function_call *call) {
	sl_layer *layer;
	size_t input, output;
	int64_t batch = call->dy.cols;
	if (!sli_function_kept(context, function, batch, &input, &output))
		return too_large(context, batch);
	if (!batch) {
		clear(&function->layers[0], call);
		return SL_OK;
	}
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = enter(context, function, call, batch, SL_MODE_TRAINING, &layer);
	if (status == SL_OK)
		status = backward(context, layer, call, input, output);
	sli_arena_reset(context, mark);
	leave(layer);
	return status;
}
