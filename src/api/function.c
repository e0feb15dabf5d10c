/* SPDX-License-Identifier: Apache-2.0 */
#include "layers/function.h"
#include "sparse/view.h"

static sl_status check_options(sl_context *context, const sl_function_options *given, sl_linear_options *o,
							   sl_dtype *dtype) {
	sl_function_options options;
	SL_TRY(sli_take_struct(context, &options, sizeof options, given, "options"));
	if (!options.pattern)
		return sli_fail(context, SL_ERR_NULL, "options.pattern is null");
	if (sl_activation_saves_input(options.activation))
		return sli_fail(context, SL_ERR_UNSUPPORTED,
						"activation %s needs its input in backward, which a function does not keep; apply it outside",
						sl_activation_name(options.activation));
	*dtype = options.dtype ? options.dtype : SL_F32;
	if (sli_bias_dtype(*dtype) != *dtype && sl_context_device(context) != SL_DEVICE_CPU)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "functions of %s are computed on the CPU alone so far",
						sl_dtype_name(*dtype));
	sl_pattern_arrays arrays;
	SL_TRY(sl_pattern_get(context, options.pattern, &arrays));
	*o = (sl_linear_options){SL_LINEAR_DEFAULTS,
							 .in_features = arrays.cols,
							 .out_features = arrays.rows,
							 .pattern = options.pattern,
							 .bias = options.bias,
							 .init = SL_INIT_ZERO,
							 .activation = options.activation,
							 .activation_parameter = options.activation_parameter,
							 .dtype = sli_bias_dtype(options.dtype), /* layers know no halves, functions do */
							 .name = "function"};
	return SL_OK;
}

SL_API sl_status sl_function_create(sl_function **result, sl_context *context, const sl_function_options *options) {
	if (result)
		*result = NULL;
	if (!context)
		return SL_ERR_NULL;
	if (!result)
		return sli_fail(context, SL_ERR_NULL, "function is null");
	sl_linear_options o;
	sl_layer *model;
	void *memory;
	sl_dtype dtype = 0;
	SL_TRY(check_options(context, options, &o, &dtype));
	/* A layer like this one has all its options checked and its defaults filled in. */
	SL_TRY(sl_linear_create(&model, context, &o));
	sl_status status = sli_allocate_zeroed(context, sizeof(sl_function), "a function", &memory);
	if (status != SL_OK) {
		sl_layer_destroy(model);
		return status;
	}
	sl_function *function = memory;
	function->heap = sli_heap_retain(sli_heap(context));
	for (int i = 0; i < SL_FUNCTION_WIDTHS; i++) {
		sl_layer *layer = &function->layers[i];
		*layer = *model;
		layer->heap = function->heap;
		layer->name = "function";
		layer->weights = &function->weights[i];
		layer->weights->pattern = sl_pattern_retain(model->weights->pattern);
		layer->dtype = layer->weights->dtype = dtype;
		layer->bias = (sl_buffer){0};
	}
	sl_layer_destroy(model);
	*result = function;
	return SL_OK;
}

SL_API void sl_function_destroy(sl_function *function) {
	if (!function)
		return;
	sl_heap *heap = function->heap;
	sli_function_drop_input(function);
	for (int i = 0; i < SL_FUNCTION_WIDTHS; i++) {
		sli_layer_drop_plans(&function->layers[i]);
		sl_pattern_release(function->weights[i].pattern);
	}
	sli_heap_free(heap, function, sizeof *function);
	sli_heap_release(heap);
}

SL_API sl_pattern *sl_function_pattern(const sl_function *function) {
	return function ? function->weights[0].pattern : NULL;
}

SL_API sl_status sl_function_set_pattern(sl_context *context, sl_function *function, sl_pattern *pattern) {
	if (!context)
		return SL_ERR_NULL;
	if (!function || !pattern)
		return sli_fail(context, SL_ERR_NULL, "%s is null", function ? "pattern" : "function");
	sl_pattern_arrays arrays;
	SL_TRY(sl_pattern_get(context, pattern, &arrays));
	const sl_layer *layer = &function->layers[0];
	if (arrays.rows != layer->out_features || arrays.cols != layer->in_features)
		return sli_fail(context, SL_ERR_SHAPE, "pattern is %lldx%lld; the function's is %lldx%lld",
						(long long)arrays.rows, (long long)arrays.cols, (long long)layer->out_features,
						(long long)layer->in_features);
	sli_function_drop_input(function);
	for (int i = 0; i < SL_FUNCTION_WIDTHS; i++) {
		sli_layer_drop_plans(&function->layers[i]);
		sl_pattern *old = function->weights[i].pattern;
		function->weights[i].pattern = sl_pattern_retain(pattern);
		sl_pattern_release(old);
	}
	return SL_OK;
}

static sl_status kept(sl_context *context, const sl_function *function, int64_t batch, size_t *input, size_t *output) {
	if (batch < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "batch is %lld; it must not be negative", (long long)batch);
	if (!sli_function_kept(context, function, batch, input, output))
		return sli_fail(context, SL_ERR_OVERFLOW, "a batch of %lld rows does not fit in memory", (long long)batch);
	return SL_OK;
}

SL_API sl_status sl_function_kept_bytes(sl_context *context, const sl_function *function, int64_t batch,
										size_t *bytes) {
	size_t input, output;
	if (!context)
		return SL_ERR_NULL;
	if (!function || !bytes)
		return sli_fail(context, SL_ERR_NULL, "%s is null", function ? "bytes" : "function");
	*bytes = 0;
	SL_TRY(kept(context, function, batch, &input, &output));
	*bytes = input + output;
	return SL_OK;
}

SL_API sl_status sl_function_kept_layout(sl_context *context, const sl_function *function, int64_t batch,
										 int64_t *width, size_t *input_bytes) {
	size_t output;
	if (!context)
		return SL_ERR_NULL;
	if (!function || !width || !input_bytes)
		return sli_fail(context, SL_ERR_NULL, "%s is null", !function ? "function" : width ? "input_bytes" : "width");
	*width = 0;
	SL_TRY(kept(context, function, batch, input_bytes, &output));
	*width = sli_layer_width(context, &function->layers[0], batch);
	return SL_OK;
}

/* A [batch, features] argument, turned to [features, batch]. A negative batch: any. */
static sl_status turn(sl_context *context, const sl_function *function, const sl_dense *view, int64_t features,
					  int64_t batch, const char *name, sl_dense *turned) {
	const sl_layer *layer = &function->layers[0];
	SL_TRY(sli_check_dense(context, view, name));
	if (view->cols != features)
		return sli_fail(context, SL_ERR_SHAPE, "%s has %lld columns; a pattern of %lldx%lld has %lld %s there", name,
						(long long)view->cols, (long long)layer->out_features, (long long)layer->in_features,
						(long long)features, features == layer->in_features ? "inputs" : "outputs");
	if (batch >= 0 && view->rows != batch)
		return sli_fail(context, SL_ERR_SHAPE, "%s has %lld rows; the batch has %lld", name, (long long)view->rows,
						(long long)batch);
	if (view->dtype != layer->dtype)
		return sli_fail(context, SL_ERR_DTYPE, "%s is %s; the function is %s", name, sl_dtype_name(view->dtype),
						sl_dtype_name(layer->dtype));
	if (view->order == SL_COL_PANELS)
		return sli_fail(context, SL_ERR_LAYOUT, "%s is in column panels; [batch, features] panels are SL_ROW_PANELS",
						name);
	*turned = sl_dense_transposed(*view);
	return SL_OK;
}

static sl_status check_arrays(sl_context *context, const sl_function *function, const void *values, const void *bias,
							  const void *kept) {
	const sl_layer *layer = &function->layers[0];
	if (!values && sli_pattern_arrays(layer->weights->pattern).nnz)
		return sli_fail(context, SL_ERR_NULL, "values is null");
	if (!bias && layer->has_bias && layer->out_features)
		return sli_fail(context, SL_ERR_NULL, "bias is null; the function was made with one");
	if ((uintptr_t)kept % 64)
		return sli_fail(context, SL_ERR_LAYOUT, "kept is at %p; it must begin on a boundary of 64 bytes", kept);
	return SL_OK;
}

SL_API sl_status sl_function_forward(sl_context *context, sl_function *function, const void *values, const void *bias,
									 const sl_dense *X, sl_dense *Y, void *kept) {
	if (!context)
		return SL_ERR_NULL;
	if (!function)
		return sli_fail(context, SL_ERR_NULL, "function is null");
	const sl_layer *layer = &function->layers[0];
	SL_TRY(check_arrays(context, function, values, bias, kept));
	sl_function_call call = {.values = values, .bias = layer->has_bias ? bias : NULL, .kept = kept};
	SL_TRY(turn(context, function, X, layer->in_features, -1, "X", &call.x));
	SL_TRY(turn(context, function, Y, layer->out_features, X->rows, "Y", &call.y));
	if (sli_overlap(X, Y))
		return sli_fail(context, SL_ERR_ALIAS, "Y overlaps X");
	return sli_function_forward(context, function, &call);
}

/* Of sparse inputs: X, and the matrices beside it, which are not turned. */
static sl_status check_sparse(sl_context *context, const sl_function *function, const sl_sparse *x,
							  const sl_dense *view, const char *name, sl_dense *taken) {
	const sl_layer *layer = &function->layers[0];
	if (sl_context_device(context) != SL_DEVICE_CPU)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "sparse inputs are computed on the CPU alone so far");
	if (sli_bias_dtype(layer->dtype) != layer->dtype)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "sparse inputs are computed in f32 and f64; the function is %s",
						sl_dtype_name(layer->dtype));
	SL_TRY(sli_check_sparse(context, x, "X", layer->dtype));
	if (x->cols != layer->in_features)
		return sli_fail(context, SL_ERR_SHAPE, "X has %lld columns; a pattern of %lldx%lld has %lld inputs",
						(long long)x->cols, (long long)layer->out_features, (long long)layer->in_features,
						(long long)layer->in_features);
	sl_dense turned;
	SL_TRY(turn(context, function, view, layer->out_features, x->rows, name, &turned));
	*taken = *view;
	return SL_OK;
}

SL_API sl_status sl_function_forward_sparse(sl_context *context, sl_function *function, const void *values,
											const void *bias, const sl_sparse *X, sl_dense *Y) {
	if (!context)
		return SL_ERR_NULL;
	if (!function)
		return sli_fail(context, SL_ERR_NULL, "function is null");
	SL_TRY(check_arrays(context, function, values, bias, NULL));
	sl_function_call call = {.values = values, .bias = function->layers[0].has_bias ? bias : NULL};
	SL_TRY(check_sparse(context, function, X, Y, "Y", &call.y));
	return sli_function_forward_sparse(context, function, &call, X);
}

static sl_status backward_sparse(sl_context *context, sl_function *function, const sl_function_gradients *g) {
	sl_function_call call = {.value_gradient = g->value_gradient, .bias_gradient = g->bias_gradient, .write = g->write};
	if (g->dX || g->kept)
		return sli_fail(context, SL_ERR_ARGUMENT, "%s is given; sparse inputs have none", g->dX ? "dX" : "kept");
	SL_TRY(check_sparse(context, function, g->sparse_X, g->dY, "dY", &call.dy));
	if (function->layers[0].activation != SL_IDENTITY)
		SL_TRY(check_sparse(context, function, g->sparse_X, g->Y, "Y", &call.y));
	return sli_function_backward_sparse(context, function, &call, g->sparse_X);
}

SL_API sl_status sl_function_backward(sl_context *context, sl_function *function, const sl_function_gradients *given) {
	if (!context)
		return SL_ERR_NULL;
	if (!function)
		return sli_fail(context, SL_ERR_NULL, "function is null");
	sl_function_gradients g;
	SL_TRY(sli_take_struct(context, &g, sizeof g, given, "gradients"));
	const sl_layer *layer = &function->layers[0];
	if (g.write != SL_OVERWRITE && g.write != SL_ACCUMULATE)
		return sli_fail(context, SL_ERR_ARGUMENT, "write is %d; it is 0 (overwrite) or 1 (accumulate)", (int)g.write);
	if (g.sparse_X)
		return backward_sparse(context, function, &g);
	static const char none = 0; /* backward reads no bias */
	SL_TRY(check_arrays(context, function, g.values, &none, g.kept));
	sl_function_call call = {.values = g.values,
							 .kept = (void *)g.kept,
							 .value_gradient = g.value_gradient,
							 .bias_gradient = g.bias_gradient,
							 .write = g.write};
	SL_TRY(turn(context, function, g.dY, layer->out_features, -1, "dY", &call.dy));
	int64_t batch = call.dy.cols;
	if (!g.kept) {
		SL_TRY(turn(context, function, g.X, layer->in_features, batch, "X", &call.x));
		if (layer->activation != SL_IDENTITY)
			SL_TRY(turn(context, function, g.Y, layer->out_features, batch, "Y", &call.y));
	}
	sl_dense dx;
	if (g.dX) {
		SL_TRY(turn(context, function, g.dX, layer->in_features, batch, "dX", &dx));
		if (sli_overlap(g.dX, g.dY) || (!g.kept && sli_overlap(g.dX, g.X)))
			return sli_fail(context, SL_ERR_ALIAS, "dX overlaps %s", sli_overlap(g.dX, g.dY) ? "dY" : "X");
		call.dx = &dx;
	}
	return sli_function_backward(context, function, &call);
}
