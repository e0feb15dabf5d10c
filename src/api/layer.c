/* SPDX-License-Identifier: Apache-2.0 */
#include "core/checked.h"
#include "core/host.h"
#include "layers/linear.h"

static sl_status check_shape(sl_context *context, const sl_linear_options *o, const sl_pattern *pattern,
							 const char *name) {
	SL_TRY(sli_pattern_make_host(context, pattern)); /* for initial weights, edits and files */
	sl_pattern_arrays arrays = sli_pattern_arrays(pattern);
	int64_t rows = o->sparse_inputs ? o->in_features : o->out_features;
	int64_t cols = o->sparse_inputs ? o->out_features : o->in_features;
	if (arrays.rows != rows || arrays.cols != cols)
		return sli_fail(context, SL_ERR_SHAPE,
						"%s is %lldx%lld; a layer of %lld outputs and %lld %sinputs needs %lldx%lld", name,
						(long long)arrays.rows, (long long)arrays.cols, (long long)o->out_features,
						(long long)o->in_features, o->sparse_inputs ? "sparse " : "", (long long)rows, (long long)cols);
	return SL_OK;
}

static sl_status check_structure(sl_context *context, const sl_linear_options *o) {
	if (o->pattern && o->weights)
		return sli_fail(context, SL_ERR_ARGUMENT, "pattern and weights are both given; weights bring their pattern");
	if (o->dense && (o->pattern || o->weights))
		return sli_fail(context, SL_ERR_ARGUMENT, "dense is set, but so is %s", o->pattern ? "pattern" : "weights");
	if (o->pattern)
		return check_shape(context, o, o->pattern, "pattern");
	if (o->weights)
		return check_shape(context, o, o->weights->pattern, "weights");
	if (!(o->density >= 0 && o->density <= 1))
		return sli_fail(context, SL_ERR_ARGUMENT, "density is %g; it lies in (0, 1]", o->density);
	if (o->dense && o->density != 0 && o->density != 1)
		return sli_fail(context, SL_ERR_ARGUMENT, "dense is set, but density is %g; leave it out", o->density);
	return SL_OK;
}

/* Check the options and put the defaults in. */
static sl_status check_options(sl_context *context, sl_linear_options *o) {
	if (o->in_features < 0 || o->out_features < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "%s_features is %lld; it must not be negative",
						o->in_features < 0 ? "in" : "out",
						(long long)(o->in_features < 0 ? o->in_features : o->out_features));
	if (o->in_features > INT32_MAX)
		return sli_fail(context, SL_ERR_OVERFLOW, "in_features is %lld; at most 2^31 - 1", (long long)o->in_features);
	if (o->sparse_inputs && o->out_features > INT32_MAX)
		return sli_fail(context, SL_ERR_OVERFLOW, "out_features is %lld; at most 2^31 - 1 beside sparse inputs",
						(long long)o->out_features);
	if (o->sparse_inputs && sl_context_device(context) != SL_DEVICE_CPU)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "sparse inputs run on the CPU so far: give a CPU context");
	int64_t count;
	size_t bytes;
	if (!sli_mul(o->in_features, o->out_features, &count) || (o->dense && !sli_bytes(count, 8, &bytes)) ||
		!sli_bytes(o->out_features, 8, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld x %lld weights do not fit in memory",
						(long long)o->out_features, (long long)o->in_features);
	if (!o->dtype)
		o->dtype = SL_F32;
	if (o->dtype != SL_F32 && o->dtype != SL_F64)
		return sli_fail(context, SL_ERR_DTYPE, "dtype is %s; layers are f32 or f64", sl_dtype_name(o->dtype));
	if ((int)o->init < 0 || o->init > SL_INIT_ZERO)
		return sli_fail(context, SL_ERR_ARGUMENT, "init %d is unknown; it goes from 0 to %d", (int)o->init,
						SL_INIT_ZERO);
	if (!(o->init_scale >= 0) || o->init_scale - o->init_scale != 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "init_scale is %g; it must be finite and not negative",
						o->init_scale);
	if (o->activation_parameter == 0)
		o->activation_parameter = o->activation == SL_LEAKY_RELU ? 0.01 : o->activation == SL_CLIPPED_RELU ? 6 : 0;
	SL_TRY(sli_check_activation(context, o->activation, o->activation_parameter));
	return check_structure(context, o);
}

static sl_status make_sparse(sl_context *context, const sl_linear_options *o, sl_layer *layer) {
	if (o->weights)
		return sl_csr_convert(&layer->weights, context, o->weights, o->dtype);
	sl_pattern *pattern = NULL;
	int64_t rows = o->sparse_inputs ? o->in_features : o->out_features;
	int64_t cols = o->sparse_inputs ? o->out_features : o->in_features;
	double density = o->density == 0 ? 1 : o->density;
	if (o->pattern)
		pattern = sl_pattern_retain(o->pattern);
	else if (density == 1)
		SL_TRY(sl_pattern_full(&pattern, context, rows, cols));
	else
		SL_TRY(sl_pattern_random(&pattern, context, rows, cols, density, o->stream));
	sl_status status = sli_csr_create_host(&layer->weights, context, pattern, o->dtype);
	if (status == SL_OK)
		status = sli_layer_init(context, o, pattern, layer->weights->values);
	if (status == SL_OK)
		status = sli_csr_upload(context, layer->weights);
	sl_pattern_release(pattern);
	return status;
}

static sl_status make_dense(sl_context *context, const sl_linear_options *o, sl_layer *layer) {
	sl_device_state *state = sli_device(context);
	size_t bytes = (size_t)(o->in_features * o->out_features) * sl_dtype_size(o->dtype);
	SL_TRY(sli_buffer_create(&layer->dense_weights, context, bytes, true, "dense weights"));
	if (!bytes || o->init == SL_INIT_ZERO)
		return SL_OK;
	if (state->backend->device == SL_DEVICE_CPU)
		return sli_layer_init(context, o, NULL, layer->dense_weights.data);
	void *host;
	SL_TRY(sli_allocate(context, bytes, "initial weights", &host));
	sl_status status = sli_layer_init(context, o, NULL, host);
	if (status == SL_OK)
		status = sli_put(state, layer->dense_weights.data, host, bytes);
	sli_heap_free(sli_heap(context), host, bytes);
	return status;
}

/* Refuse a layer whose product the backend cannot run. */
static sl_status check_supported(sl_context *context, const sl_layer *layer) {
	sl_device_state *state = sli_device(context);
	int64_t width = sli_layer_width(context, layer, 32);
	sl_dense x = sli_panels(context, NULL, layer->dtype, layer->in_features, 32, width);
	sl_dense y = sli_panels(context, NULL, layer->dtype, layer->out_features, 32, width);
	sl_op_desc desc;
	if (layer->sparse_inputs)
		sli_layer_describe_input(context, layer, 32, &desc);
	else
		sli_layer_describe_forward(context, layer, &x, &y, false, &desc);
	if (!layer->dense)
		SL_TRY(sli_pattern_view(context, layer->weights->pattern, false, &desc.sparse));
	return state->backend->supports(state->device, &desc);
}

static sl_status fill_layer(sl_context *context, const sl_linear_options *o, sl_layer *layer) {
	const char *name = o->name ? o->name : "linear";
	void *copy;
	SL_TRY(sli_allocate(context, strlen(name) + 1, "a layer's name", &copy));
	layer->name = memcpy(copy, name, strlen(name) + 1);
	if (!layer->streamed)
		SL_TRY(o->dense ? make_dense(context, o, layer) : make_sparse(context, o, layer));
	if (o->bias)
		SL_TRY(sli_buffer_create(&layer->bias, context, (size_t)o->out_features * sl_dtype_size(o->dtype), true,
								 "biases"));
	return layer->streamed ? SL_OK : check_supported(context, layer);
}

SL_API sl_status sl_linear_create(sl_layer **result, sl_context *context, const sl_linear_options *options) {
	if (result)
		*result = NULL;
	if (!context)
		return SL_ERR_NULL;
	if (!result)
		return sli_fail(context, SL_ERR_NULL, "layer is null");
	return sli_linear_create(result, context, options, NULL);
}

/* What a layer of streamed weights cannot be. */
static sl_status check_streamed(sl_context *context, const sl_linear_options *o, const sl_streamed *streamed) {
	const sl_source *w = streamed->source;
	if (w->rows != o->out_features || w->cols != o->in_features)
		return sli_fail(context, SL_ERR_SHAPE,
						"the weights are %lldx%lld; a layer of %lld outputs and %lld inputs needs %lldx%lld",
						(long long)w->rows, (long long)w->cols, (long long)o->out_features, (long long)o->in_features,
						(long long)o->out_features, (long long)o->in_features);
	if (w->dtype != o->dtype)
		return sli_fail(context, SL_ERR_DTYPE, "the weights are %s, the layer %s", sl_dtype_name(w->dtype),
						sl_dtype_name(o->dtype));
	return SL_OK;
}

sl_status sli_linear_create(sl_layer **result, sl_context *context, const sl_linear_options *options,
							sl_streamed *streamed) {
	sl_linear_options o;
	*result = NULL;
	SL_TRY(sli_take_struct(context, &o, sizeof o, options, "options"));
	SL_TRY(check_options(context, &o));
	if (streamed)
		SL_TRY(check_streamed(context, &o, streamed));
	void *memory;
	SL_TRY(sli_allocate_zeroed(context, sizeof(sl_layer), "a layer", &memory));
	sl_layer *layer = memory;
	layer->heap = sli_heap_retain(sli_heap(context));
	layer->in_features = o.in_features;
	layer->out_features = o.out_features;
	layer->dtype = o.dtype;
	layer->dense = o.dense;
	layer->sparse_inputs = o.sparse_inputs;
	layer->has_bias = o.bias;
	layer->activation = o.activation;
	layer->activation_parameter = o.activation_parameter;
	layer->streamed = streamed;
	sl_status status = fill_layer(context, &o, layer);
	if (status != SL_OK) {
		layer->streamed = NULL;
		sl_layer_destroy(layer);
		return status;
	}
	*result = layer;
	return SL_OK;
}

SL_API void sl_layer_destroy(sl_layer *layer) {
	if (!layer)
		return;
	sl_heap *heap = layer->heap;
	sli_layer_drop_plans(layer);
	sl_csr_destroy(layer->weights);
	sli_streamed_destroy(layer->streamed);
	sli_buffer_destroy(&layer->dense_weights);
	sli_buffer_destroy(&layer->gradient);
	sli_layer_drop_rows(layer);
	sli_buffer_destroy(&layer->bias);
	sli_buffer_destroy(&layer->bias_gradient);
	if (layer->name)
		sli_heap_free(heap, layer->name, strlen(layer->name) + 1);
	sli_heap_free(heap, layer, sizeof *layer);
	sli_heap_release(heap);
}

SL_API sl_status sl_layer_get_info(sl_context *context, const sl_layer *layer, sl_layer_info *info) {
	if (!context)
		return SL_ERR_NULL;
	if (!layer)
		return sli_fail(context, SL_ERR_NULL, "layer is null");
	double cells = (double)layer->in_features * (double)layer->out_features;
	sl_layer_info own = {.name = layer->name,
						 .in_features = layer->in_features,
						 .out_features = layer->out_features,
						 .dense = layer->dense,
						 .activation = layer->activation,
						 .activation_parameter = layer->activation_parameter,
						 .bias = layer->has_bias,
						 .dtype = layer->dtype,
						 .sparse_inputs = layer->sparse_inputs};
	if (layer->streamed) {
		own.nnz = sli_layer_nnz(layer);
		own.streamed = true;
		own.empty_rows = -1;
	} else if (layer->dense) {
		own.nnz = layer->in_features * layer->out_features;
		bool empty = !layer->in_features || !layer->out_features;
		own.empty_rows = !empty ? 0 : layer->sparse_inputs ? layer->in_features : layer->out_features;
	} else {
		sl_pattern_arrays arrays = sli_pattern_arrays(layer->weights->pattern);
		own.nnz = arrays.nnz;
		for (int64_t row = 0; row < arrays.rows; row++)
			own.empty_rows += sli_index(arrays.row_offsets, arrays.offset_dtype, row) ==
							  sli_index(arrays.row_offsets, arrays.offset_dtype, row + 1);
	}
	own.density = cells > 0 ? (double)own.nnz / cells : 0;
	own.parameters = own.nnz + (layer->has_bias ? layer->out_features : 0);
	return sli_give_struct(context, info, &own, sizeof own, "info");
}

SL_API int sl_layer_parameter_count(const sl_layer *layer) {
	return !layer ? 0 : layer->has_bias ? 2 : 1;
}

static void describe_rows(const sl_layer *layer, sl_parameter *own) {
	static const int64_t nothing[1];
	static const int32_t none[1];
	own->rows = layer->in_features;
	own->cols = layer->out_features;
	own->transposed = true;
	own->gradient_row_count = layer->rows.count;
	own->gradient_rows = layer->rows.count ? layer->rows.columns.data : none;
	own->gradient_starts = layer->rows.count ? layer->rows.starts.data : nothing;
	own->gradient_count = own->gradient_starts[layer->rows.count];
}

SL_API sl_status sl_layer_parameter(sl_context *context, const sl_layer *layer, int index, sl_parameter *parameter) {
	if (!context)
		return SL_ERR_NULL;
	if (!layer)
		return sli_fail(context, SL_ERR_NULL, "layer is null");
	if (index < 0 || index >= sl_layer_parameter_count(layer))
		return sli_fail(context, SL_ERR_ARGUMENT, "index is %d; the layer has %d parameters", index,
						sl_layer_parameter_count(layer));
	sl_parameter own = {
		.dtype = layer->dtype, .device = sli_device(context)->backend->device, .rows = layer->out_features};
	if (index == 1) {
		own.name = "bias";
		own.count = layer->out_features;
		own.cols = 1;
		own.value = layer->bias.data;
		own.gradient = layer->bias_gradient.data;
	} else {
		own.name = "weight";
		own.cols = layer->in_features;
		own.decays = true;
		own.gradient = layer->gradient.data;
		own.count = sli_layer_nnz(layer);
		own.value = layer->weights ? layer->weights->values : layer->dense_weights.data;
		own.pattern = layer->weights ? layer->weights->pattern : NULL;
		own.streamed = layer->streamed != NULL;
	}
	own.gradient_count = own.count;
	if (index == 0 && layer->sparse_inputs)
		describe_rows(layer, &own);
	return sli_give_struct(context, parameter, &own, sizeof own, "parameter");
}

SL_API sl_csr *sl_layer_weights(const sl_layer *layer) {
	return layer ? layer->weights : NULL;
}

static sl_status check_max_batch(sl_context *context, const sl_layer *layer, int64_t max_batch) {
	if (!layer)
		return sli_fail(context, SL_ERR_NULL, "layer is null");
	if (max_batch < 1)
		return sli_fail(context, SL_ERR_ARGUMENT, "max_batch is %lld; it must be at least 1", (long long)max_batch);
	return SL_OK;
}

SL_API sl_status sl_layer_prepare(sl_context *context, sl_layer *layer, int64_t max_batch, sl_mode mode) {
	if (!context)
		return SL_ERR_NULL;
	SL_TRY(check_max_batch(context, layer, max_batch));
	if (mode != SL_MODE_INFERENCE && mode != SL_MODE_TRAINING)
		return sli_fail(context, SL_ERR_ARGUMENT, "mode is %d; it is 0 (inference) or 1 (training)", (int)mode);
	return sli_layer_prepare_width(context, layer, max_batch, sli_layer_width(context, layer, max_batch), mode, true);
}

/* Each part only grows, so the sum changes when any of them does. */
SL_API uint64_t sl_layer_generation(const sl_context *context, const sl_layer *layer) {
	return context && layer ? sli_generation(context) + layer->edition + layer->plannings : 0;
}

SL_API sl_status sl_saved_create(sl_saved **saved, sl_context *context, const sl_layer *layer, int64_t max_batch) {
	if (saved)
		*saved = NULL;
	if (!context)
		return SL_ERR_NULL;
	if (!saved)
		return sli_fail(context, SL_ERR_NULL, "saved is null");
	SL_TRY(check_max_batch(context, layer, max_batch));
	bool planned = layer->planned_width > 0 && max_batch <= layer->planned_batch;
	int64_t width = planned ? layer->planned_width : sli_layer_width(context, layer, max_batch);
	return sli_saved_create_width(saved, context, layer, max_batch, width, false, false);
}

/* A [batch, features] argument of a layer, turned to [features, batch]. */
static sl_status check_activation_view(sl_context *context, const sl_layer *layer, const sl_dense *view,
									   int64_t features, const char *name, sl_dense *turned) {
	SL_TRY(sli_check_dense(context, view, name));
	if (view->cols != features)
		return sli_fail(context, SL_ERR_SHAPE, "%s has %lld columns; layer \"%s\" has %lld %s there", name,
						(long long)view->cols, layer->name, (long long)features,
						features == layer->in_features ? "inputs" : "outputs");
	if (view->dtype != layer->dtype)
		return sli_fail(context, SL_ERR_DTYPE, "%s is %s; layer \"%s\" is %s", name, sl_dtype_name(view->dtype),
						layer->name, sl_dtype_name(layer->dtype));
	if (view->order == SL_COL_PANELS)
		return sli_fail(context, SL_ERR_LAYOUT, "%s is in column panels; [batch, features] panels are SL_ROW_PANELS",
						name);
	*turned = sl_dense_transposed(*view);
	return SL_OK;
}

static sl_status check_rows(sl_context *context, const sl_dense *view, const char *name, int64_t batch) {
	if (view->cols != batch)
		return sli_fail(context, SL_ERR_SHAPE, "%s has %lld rows; the batch has %lld", name, (long long)view->cols,
						(long long)batch);
	return SL_OK;
}

SL_API sl_status sl_layer_forward(sl_context *context, const sl_layer *layer, const sl_dense *X, sl_dense *Y,
								  sl_saved *saved) {
	if (!context)
		return SL_ERR_NULL;
	if (!layer)
		return sli_fail(context, SL_ERR_NULL, "layer is null");
	if (layer->sparse_inputs)
		return sli_fail(context, SL_ERR_STATE, "layer \"%s\" takes sparse inputs: use sl_layer_forward_sparse()",
						layer->name);
	sl_dense x, y;
	SL_TRY(check_activation_view(context, layer, X, layer->in_features, "X", &x));
	SL_TRY(check_activation_view(context, layer, Y, layer->out_features, "Y", &y));
	SL_TRY(check_rows(context, &y, "Y", x.cols));
	if (sli_overlap(&x, &y))
		return sli_fail(context, SL_ERR_ALIAS, "Y overlaps X");
	if (saved && x.cols > saved->max_batch)
		return sli_fail(context, SL_ERR_SHAPE, "X has %lld rows; saved was made for at most %lld", (long long)x.cols,
						(long long)saved->max_batch);
	return sli_layer_forward(context, layer, &x, &y, saved);
}

SL_API sl_status sl_layer_forward_sparse(sl_context *context, const sl_layer *layer, const sl_sparse *X, sl_dense *Y,
										 sl_saved *saved) {
	if (!context)
		return SL_ERR_NULL;
	if (!layer)
		return sli_fail(context, SL_ERR_NULL, "layer is null");
	SL_TRY(sli_check_layer_input(context, layer, X, "X"));
	sl_dense y;
	SL_TRY(check_activation_view(context, layer, Y, layer->out_features, "Y", &y));
	SL_TRY(check_rows(context, &y, "Y", X->rows));
	if (saved && X->rows > saved->max_batch)
		return sli_fail(context, SL_ERR_SHAPE, "X has %lld rows; saved was made for at most %lld", (long long)X->rows,
						(long long)saved->max_batch);
	return sli_layer_forward_sparse(context, layer, X, Y, saved);
}

SL_API sl_status sl_layer_backward(sl_context *context, sl_layer *layer, sl_saved *saved, const sl_dense *dY,
								   sl_dense *dX, sl_write write) {
	if (!context)
		return SL_ERR_NULL;
	if (!layer || !saved)
		return sli_fail(context, SL_ERR_NULL, "%s is null", layer ? "saved" : "layer");
	if (write != SL_OVERWRITE && write != SL_ACCUMULATE)
		return sli_fail(context, SL_ERR_ARGUMENT, "write is %d; it is 0 (overwrite) or 1 (accumulate)", (int)write);
	if (saved->layer != layer)
		return sli_fail(context, SL_ERR_STATE, "saved holds %s",
						saved->layer ? "a forward of another layer" : "no forward; run sl_layer_forward() with it");
	if (saved->edition != layer->edition)
		return sli_fail(context, SL_ERR_STATE, "layer \"%s\" was edited since the forward that saved holds",
						layer->name);
	sl_dense dy, dx = {0};
	SL_TRY(check_activation_view(context, layer, dY, layer->out_features, "dY", &dy));
	SL_TRY(check_rows(context, &dy, "dY", saved->x.cols));
	if (dX && layer->sparse_inputs)
		return sli_fail(context, SL_ERR_ARGUMENT, "dX must be null: sparse inputs have no gradient");
	if (layer->sparse_inputs)
		return sli_layer_backward_sparse(context, layer, saved, dY, write, NULL);
	if (dX) {
		SL_TRY(check_activation_view(context, layer, dX, layer->in_features, "dX", &dx));
		SL_TRY(check_rows(context, &dx, "dX", saved->x.cols));
		if (sli_overlap(&dx, &dy))
			return sli_fail(context, SL_ERR_ALIAS, "dX overlaps dY");
	}
	return sli_layer_backward(context, layer, saved, &dy, dX ? &dx : NULL, write);
}
