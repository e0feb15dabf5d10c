/* SPDX-License-Identifier: Apache-2.0 */
/* Linear layers: forward, backward, and the parts of them that edits replace. All matrices here are
 * in op orientation, [features, batch]. */
#include "layers/linear.h"

#include "core/checked.h"

void sli_layer_drop_plans(sl_layer *layer) {
	sli_plan_destroy(layer->forward_plan);
	sli_plan_destroy(layer->dx_plan);
	sli_plan_destroy(layer->dw_plan);
	layer->forward_plan = layer->dx_plan = layer->dw_plan = NULL;
	layer->planned_batch = layer->planned_width = 0;
	layer->plannings++;
}

void sli_layer_replace_weights(sl_layer *layer, sl_csr *weights, sl_buffer gradient) {
	sli_layer_drop_plans(layer);
	sl_csr_destroy(layer->weights);
	sli_buffer_destroy(&layer->dense_weights);
	memset(&layer->dense_weights, 0, sizeof layer->dense_weights);
	sli_buffer_destroy(&layer->gradient);
	layer->weights = weights;
	layer->gradient = gradient;
	sli_layer_drop_rows(layer);
	layer->dense = false;
	layer->edition++;
	memset(layer->pinned, 0, sizeof layer->pinned);
}

const char *sli_layer_candidate(const sl_layer *layer, int plan) {
	const sl_plan *plans[SL_LAYER_PLANS] = {layer->forward_plan, layer->dx_plan, layer->dw_plan};
	if (layer->dw_plan && plans[plan] && plans[plan]->op.desc.candidate)
		return plans[plan]->op.desc.candidate;
	return layer->pinned[plan];
}

void sli_layer_replace_pattern(sl_layer *layer, sl_pattern *pattern) {
	sli_layer_drop_plans(layer);
	sl_pattern_retain(pattern);
	sl_pattern_release(layer->weights->pattern);
	layer->weights->pattern = pattern;
	layer->edition++;
}

sl_status sli_layer_in_memory(sl_context *context, const sl_layer *layer, const char *what) {
	return !layer->streamed ? SL_OK
							: sli_fail(context, SL_ERR_UNSUPPORTED,
									   "layer \"%s\" is streamed: %s needs its weights in memory", layer->name, what);
}

sl_status sli_layer_make_gradients(sl_context *context, sl_layer *layer) {
	sl_buffer weights = {0}, bias = {0};
	size_t size = sl_dtype_size(layer->dtype);
	/* Row-sparse gradients begin without rows. */
	bool whole = !layer->gradient.device && !layer->sparse_inputs && !layer->streamed;
	if (whole)
		SL_TRY(sli_buffer_create(&weights, context, (size_t)sli_layer_nnz(layer) * size, true, "weight gradients"));
	if (layer->has_bias && !layer->bias_gradient.device) {
		sl_status status =
			sli_buffer_create(&bias, context, (size_t)layer->out_features * size, true, "bias gradients");
		if (status != SL_OK) {
			sli_buffer_destroy(&weights);
			return status;
		}
		layer->bias_gradient = bias;
	}
	if (whole)
		layer->gradient = weights;
	return SL_OK;
}

int64_t sli_layer_width(sl_context *context, const sl_layer *layer, int64_t batch) {
	sl_device_state *state = sli_device(context);
	return state->backend->panel_width(state->device, layer->dtype, batch, !layer->dense);
}

/* Scratch panels. */
static sl_status take_panels(sl_context *context, sl_dtype dtype, int64_t rows, int64_t batch, int64_t width,
							 sl_dense *view) {
	size_t bytes;
	void *data;
	if (!sli_panel_bytes(rows, batch, width, dtype, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld features of a batch of %lld do not fit in memory",
						(long long)rows, (long long)batch);
	SL_TRY(sli_arena_take(context, bytes, &data));
	*view = sli_panels(context, data, dtype, rows, batch, width);
	return SL_OK;
}

/* Panels in a buffer of `saved`. */
static sl_status keep_panels(sl_context *context, sl_buffer *buffer, sl_dtype dtype, int64_t rows, int64_t batch,
							 int64_t width, sl_dense *view) {
	size_t bytes;
	if (!sli_panel_bytes(rows, batch, width, dtype, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld features of a batch of %lld do not fit in memory",
						(long long)rows, (long long)batch);
	SL_TRY(sli_saved_room(context, buffer, bytes));
	*view = sli_panels(context, buffer->data, dtype, rows, batch, width);
	return SL_OK;
}

sl_dense sli_layer_dense_weights(sl_context *context, const sl_layer *layer) {
	sl_dense w = sli_panels(context, layer->dense_weights.data, layer->dtype, layer->out_features, layer->in_features,
							layer->in_features > 0 ? layer->in_features : 1);
	w.order = SL_ROW_MAJOR;
	return w;
}

/* The descriptions that plans and calls share. */
void sli_layer_describe_forward(sl_context *context, const sl_layer *layer, const sl_dense *x, const sl_dense *y,
								bool pre_activation, sl_op_desc *desc) {
	memset(desc, 0, sizeof *desc);
	desc->kind = layer->dense ? SL_OP_GEMM : SL_OP_SPMM;
	sl_dense w = sli_layer_dense_weights(context, layer);
	desc->a = sli_desc(&w);
	if (!layer->dense)
		desc->a.ld = 0;
	desc->b = sli_desc(x);
	desc->c = sli_desc(y);
	desc->activation = layer->activation;
	desc->activation_parameter = layer->activation_parameter;
	desc->bias = layer->has_bias;
	desc->pre_activation = pre_activation;
}

void sli_layer_describe_dx(sl_context *context, const sl_layer *layer, const sl_dense *dz, const sl_dense *dx,
						   sl_op_desc *desc) {
	memset(desc, 0, sizeof *desc);
	desc->kind = layer->dense ? SL_OP_GEMM : SL_OP_SPMM;
	sl_dense w = sli_layer_dense_weights(context, layer);
	desc->a = sli_desc(&w);
	if (layer->dense) {
		w = sl_dense_transposed(w);
		desc->a = sli_desc(&w);
	} else {
		desc->a.ld = 0;
		desc->transpose = true;
	}
	desc->b = sli_desc(dz);
	desc->c = sli_desc(dx);
}

void sli_layer_describe_dw(sl_context *context, const sl_layer *layer, const sl_dense *dz, const sl_dense *x,
						   sl_op_desc *desc) {
	memset(desc, 0, sizeof *desc);
	desc->kind = layer->dense ? SL_OP_GEMM : SL_OP_SDDMM;
	sl_dense w = sli_layer_dense_weights(context, layer), xt = sl_dense_transposed(*x);
	desc->a = sli_desc(dz);
	desc->b = sli_desc(&xt);
	desc->c = sli_desc(&w);
	if (!layer->dense)
		desc->c.ld = 0;
}

/* The batch that the layer was prepared for, whose kernels smaller ones run by too. */
static int64_t planned_for(const sl_layer *layer, const sl_dense *x) {
	return x->ld == layer->planned_width && x->cols <= layer->planned_batch ? layer->planned_batch : 0;
}

/* By reading the weights once. */
static sl_status streamed_product(sl_context *context, const sl_layer *layer, const sl_dense *x, const sl_dense *y,
								  const sl_dense *pre) {
	sl_dense kept = *pre;
	sl_epilogue epilogue = {SL_EPILOGUE_DEFAULTS, .bias = layer->has_bias ? layer->bias.data : NULL,
							.activation = layer->activation, .parameter = layer->activation_parameter,
							.pre_activation = pre->order == SL_COL_PANELS ? &kept : NULL};
	return sli_streamed_forward(context, layer->streamed, x, y, &epilogue, planned_for(layer, x));
}

static sl_pattern *pattern_of(const sl_layer *layer) {
	return layer->dense ? NULL : layer->weights->pattern;
}

/* y = act(W x + b); `pre` (data NULL: not wanted) receives W x + b. */
static sl_status product(sl_context *context, const sl_layer *layer, const sl_dense *x, const sl_dense *y,
						 const sl_dense *pre) {
	if (layer->streamed)
		return streamed_product(context, layer, x, y, pre);
	sl_op_desc desc;
	sl_op_args args = {.alpha = 1, .b = *x, .c = *y, .bias = layer->has_bias ? layer->bias.data : NULL};
	sli_layer_describe_forward(context, layer, x, y, pre->order == SL_COL_PANELS, &desc);
	args.d = *pre;
	if (layer->dense)
		args.a = sli_layer_dense_weights(context, layer);
	else
		args.values = layer->weights->values;
	return sli_run_sparse(context, layer->forward_plan, &desc, pattern_of(layer), &args);
}

static int64_t choose_width(sl_context *context, const sl_layer *layer, const sl_dense *x, const sl_dense *y) {
	if (x->order == SL_COL_PANELS)
		return x->ld;
	if (y->order == SL_COL_PANELS)
		return y->ld;
	if (layer->planned_width > 0 && x->cols <= layer->planned_batch)
		return layer->planned_width;
	return sli_layer_width(context, layer, x->cols);
}

static bool in_place(const sl_dense *view, int64_t width) {
	return view->order == SL_COL_PANELS && view->ld == width;
}

/* Where the product and its pre-activation go. */
static sl_status place_output(sl_context *context, const sl_layer *layer, const sl_dense *y, int64_t width,
							  sl_saved *saved, sl_dense *out, sl_dense *pre) {
	bool own_output = saved && layer->activation != SL_IDENTITY;
	int64_t rows = y->rows, batch = y->cols;
	memset(pre, 0, sizeof *pre);
	if (sl_activation_saves_input(layer->activation)) {
		own_output = false;
		if (saved)
			SL_TRY(keep_panels(context, &saved->output, layer->dtype, rows, batch, width, pre));
		else if (layer->forward_plan && layer->forward_plan->op.desc.pre_activation)
			/* Scratch, so that a plan made for training serves inference too. */
			SL_TRY(take_panels(context, layer->dtype, rows, batch, width, pre));
	}
	if (in_place(y, width)) {
		*out = *y;
		return SL_OK;
	}
	if (own_output)
		return keep_panels(context, &saved->output, layer->dtype, rows, batch, width, out);
	return take_panels(context, layer->dtype, rows, batch, width, out);
}

static sl_status forward(sl_context *context, const sl_layer *layer, const sl_dense *x, sl_dense *y, sl_saved *saved) {
	int64_t width = choose_width(context, layer, x, y);
	sl_dense packed = *x, out, pre;
	if (!in_place(x, width)) {
		if (saved)
			SL_TRY(keep_panels(context, &saved->input, layer->dtype, x->rows, x->cols, width, &packed));
		else
			SL_TRY(take_panels(context, layer->dtype, x->rows, x->cols, width, &packed));
		SL_TRY(sli_convert(context, x, &packed));
	}
	SL_TRY(place_output(context, layer, y, width, saved, &out, &pre));
	SL_TRY(product(context, layer, &packed, &out, &pre));
	if (!in_place(y, width))
		SL_TRY(sli_convert(context, &out, y));
	if (saved) {
		saved->x = packed;
		saved->kept = layer->activation == SL_IDENTITY               ? (sl_dense){0}
					  : sl_activation_saves_input(layer->activation) ? pre
																	 : out;
		saved->layer = layer;
		saved->edition = layer->edition;
	}
	return SL_OK;
}

sl_status sli_layer_forward(sl_context *context, const sl_layer *layer, const sl_dense *x, sl_dense *y,
							sl_saved *saved) {
	sl_arena_mark mark = sli_arena_mark(context);
	if (saved)
		saved->layer = NULL; /* a forward that fails leaves none behind */
	sl_status status = forward(context, layer, x, y, saved);
	sli_arena_reset(context, mark);
	return status;
}

static sl_status sum_bias(sl_context *context, const sl_layer *layer, const sl_dense *dz, double beta) {
	sl_op_desc desc = {.kind = SL_OP_REDUCE, .variant = SL_REDUCE_ROW_SUMS, .a = sli_desc(dz), .count = dz->rows};
	sl_op_args args = {.beta = beta, .a = *dz, .vector = {layer->bias_gradient.data}, .count = dz->rows};
	return sli_run(context, &desc, &args);
}

/* dz = dy * act'(kept) and, with `bias`, the gradient of the bias. */
static sl_status activation_gradient(sl_context *context, const sl_layer *layer, const sl_saved *saved,
									 const sl_dense *dy, int64_t width, bool bias, double beta, sl_dense *dz) {
	sl_dense packed = *dy;
	if (!in_place(dy, width)) {
		SL_TRY(take_panels(context, layer->dtype, dy->rows, dy->cols, width, &packed));
		SL_TRY(sli_convert(context, dy, &packed));
	}
	*dz = packed;
	if (layer->activation == SL_IDENTITY)
		return bias ? sum_bias(context, layer, dz, beta) : SL_OK;
	if (in_place(dy, width)) /* dy is not ours to change */
		SL_TRY(take_panels(context, layer->dtype, dy->rows, dy->cols, width, dz));
	sl_op_desc desc = {.kind = SL_OP_ACTIVATION_GRAD,
					   .a = sli_desc(&saved->kept),
					   .b = sli_desc(&packed),
					   .c = sli_desc(dz),
					   .activation = layer->activation,
					   .activation_parameter = layer->activation_parameter,
					   .bias = bias};
	sl_op_args args = {.beta = beta,
					   .a = saved->kept,
					   .b = packed,
					   .c = *dz,
					   .bias_gradient = bias ? layer->bias_gradient.data : NULL};
	return sli_run(context, &desc, &args);
}

static sl_status weight_gradient(sl_context *context, const sl_layer *layer, const sl_saved *saved, const sl_dense *dz,
								 double beta) {
	sl_op_desc desc;
	sli_layer_describe_dw(context, layer, dz, &saved->x, &desc);
	sl_op_args args = {.alpha = 1, .beta = beta, .a = *dz, .b = sl_dense_transposed(saved->x)};
	if (layer->dense) {
		args.c = sli_layer_dense_weights(context, layer);
		args.c.data = layer->gradient.data;
	} else {
		args.values_out = layer->gradient.data;
	}
	return sli_run_sparse(context, layer->dw_plan, &desc, pattern_of(layer), &args);
}

static sl_status input_gradient(sl_context *context, const sl_layer *layer, const sl_dense *dz, int64_t width,
								sl_dense *dx) {
	sl_dense out = *dx;
	if (!in_place(dx, width))
		SL_TRY(take_panels(context, layer->dtype, dx->rows, dx->cols, width, &out));
	sl_op_desc desc;
	sli_layer_describe_dx(context, layer, dz, &out, &desc);
	sl_op_args args = {.alpha = 1, .b = *dz, .c = out};
	if (layer->dense)
		args.a = sl_dense_transposed(sli_layer_dense_weights(context, layer));
	else
		args.values = layer->weights->values;
	SL_TRY(sli_run_sparse(context, layer->dx_plan, &desc, pattern_of(layer), &args));
	return in_place(dx, width) ? SL_OK : sli_convert(context, &out, dx);
}

/* What follows from dz, of weights in memory. */
static sl_status gradients(sl_context *context, const sl_layer *layer, const sl_saved *saved, const sl_dense *dz,
						   sl_dense *dx, double beta, const sl_gradient_watch *watch) {
	if (watch)
		SL_TRY(watch->see(watch->self, context, layer, dz, &saved->x));
	SL_TRY(weight_gradient(context, layer, saved, dz, beta));
	return dx ? input_gradient(context, layer, dz, saved->x.ld, dx) : SL_OK;
}

sl_status sli_layer_backward(sl_context *context, sl_layer *layer, sl_saved *saved, const sl_dense *dy, sl_dense *dx,
							 sl_write write) {
	return sli_layer_backward_watched(context, layer, saved, dy, dx, write, NULL);
}

sl_status sli_layer_backward_watched(sl_context *context, sl_layer *layer, sl_saved *saved, const sl_dense *dy,
									 sl_dense *dx, sl_write write, const sl_gradient_watch *watch) {
	SL_TRY(sli_layer_make_gradients(context, layer));
	if (layer->streamed && layer->streamed->trains && write == SL_ACCUMULATE)
		return sli_layer_in_memory(context, layer, "accumulating gradients");
	double beta = write == SL_ACCUMULATE ? 1 : 0;
	int64_t width = saved->x.ld;
	sl_dense dz;
	if (layer->streamed)
		sli_arena_trim(context); /* what a pass leaves there is none of the next one's budget */
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = activation_gradient(context, layer, saved, dy, width, layer->has_bias, beta, &dz);
	if (status == SL_OK)
		status = layer->streamed
					 ? sli_streamed_backward(context, layer->streamed, &dz, &saved->x, dx, planned_for(layer, &dz))
					 : gradients(context, layer, saved, &dz, dx, beta, watch);
	sli_arena_reset(context, mark);
	return status;
}

sl_status sli_layer_watch(sl_context *context, const sl_layer *layer, sl_saved *saved, const sl_dense *dy,
						  const sl_gradient_watch *watch) {
	sl_dense dz;
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = activation_gradient(context, layer, saved, dy, saved->x.ld, false, 0, &dz);
	if (status == SL_OK)
		status = watch->see(watch->self, context, layer, &dz, &saved->x);
	sli_arena_reset(context, mark);
	return status;
}
