/* SPDX-License-Identifier: Apache-2.0 */
/* All planning and allocating of a layer, ahead of its calls. */
#include "layers/linear.h"

/* Views of the planned shapes, without data. */
typedef struct shapes {
	sl_dense x, y;
	size_t x_bytes, y_bytes;
} shapes;

typedef struct plans {
	sl_plan *forward, *dx, *dw;
} plans;

static void destroy_plans(plans *p) {
	sli_plan_destroy(p->forward);
	sli_plan_destroy(p->dx);
	sli_plan_destroy(p->dw);
}

static void pin(const sl_layer *layer, int plan, sl_op_desc *desc) {
	if (!layer->dense && layer->pinned[plan][0])
		desc->candidate = layer->pinned[plan];
}

static sl_status make_plans(sl_context *context, sl_layer *layer, const shapes *s, sl_mode mode, bool dx, plans *made) {
	sl_pattern *pattern = layer->dense ? NULL : layer->weights->pattern;
	bool training = mode == SL_MODE_TRAINING;
	sl_op_desc desc;
	sli_layer_describe_forward(context, layer, &s->x, &s->y, training && sl_activation_saves_input(layer->activation),
							   &desc);
	if (!training)
		return sli_plan_create(&made->forward, context, &desc, pattern);
	pin(layer, 0, &desc);
	SL_TRY(sli_plan_create(&made->forward, context, &desc, pattern));
	sli_layer_describe_dw(context, layer, &s->y, &s->x, &desc);
	pin(layer, 2, &desc);
	SL_TRY(sli_plan_create(&made->dw, context, &desc, pattern));
	if (!dx)
		return SL_OK;
	sli_layer_describe_dx(context, layer, &s->y, &s->x, &desc);
	pin(layer, 1, &desc);
	return sli_plan_create(&made->dx, context, &desc, pattern);
}

static void raise(size_t *most, size_t bytes) {
	if (bytes > *most)
		*most = bytes;
}

/* The most that any op of the layer takes besides its panels. */
static sl_status op_workspace(sl_context *context, const sl_layer *layer, const shapes *s, const plans *p,
							  size_t *most) {
	size_t bytes = 0;
	*most = p->forward->op.workspace;
	if (p->dw) {
		raise(most, p->dw->op.workspace);
		if (p->dx)
			raise(most, p->dx->op.workspace);
		sl_op_desc sums = {
			.kind = SL_OP_REDUCE, .variant = SL_REDUCE_ROW_SUMS, .a = sli_desc(&s->y), .count = s->y.rows};
		sl_op_desc gradient = {.kind = SL_OP_ACTIVATION_GRAD,
							   .a = sli_desc(&s->y),
							   .b = sli_desc(&s->y),
							   .c = sli_desc(&s->y),
							   .activation = layer->activation,
							   .activation_parameter = layer->activation_parameter,
							   .bias = layer->has_bias};
		SL_TRY(sli_workspace(context, layer->activation == SL_IDENTITY ? &sums : &gradient, &bytes));
		raise(most, bytes);
	}
	const sl_dense *panels[] = {&s->x, &s->y};
	for (int i = 0; i < 2; i++) {
		sl_dense outside = *panels[i];
		outside.order = SL_COL_MAJOR; /* what a batch-major caller hands over */
		outside.ld = outside.rows ? outside.rows : 1;
		sl_op_desc in = {.kind = SL_OP_CONVERT, .a = sli_desc(&outside), .c = sli_desc(panels[i])};
		sl_op_desc out = {.kind = SL_OP_CONVERT, .a = sli_desc(panels[i]), .c = sli_desc(&outside)};
		SL_TRY(sli_workspace(context, &in, &bytes));
		raise(most, bytes);
		SL_TRY(sli_workspace(context, &out, &bytes));
		raise(most, bytes);
	}
	return SL_OK;
}

static size_t rounded(size_t bytes) {
	return (bytes + 127) / 64 * 64;
}

/* Inference: x, y and, where a training plan serves, the pre-activation. Backward: dz or dy, both
 * when dy is not ours, and dx. */
static sl_status reserve(sl_context *context, const sl_layer *layer, const shapes *s, const plans *p) {
	size_t most;
	SL_TRY(op_workspace(context, layer, s, p, &most));
	bool two = sl_activation_saves_input(layer->activation) || p->dw;
	size_t panels = rounded(s->x_bytes) + (two ? 2 : 1) * rounded(s->y_bytes);
	return sli_arena_reserve(context, panels + rounded(most) + 256);
}

static bool already(sl_context *context, const sl_layer *layer, int64_t max_batch, int64_t width, sl_mode mode,
					bool dx) {
	if (!layer->forward_plan || layer->planned_width != width || layer->planned_batch < max_batch ||
		layer->forward_plan->device != sli_device(context))
		return false;
	return mode == SL_MODE_INFERENCE || (layer->dw_plan && layer->gradient.device && (layer->dx_plan || !dx));
}

/* No plans; y, dy and dz in rows. What depends on a batch's entries grows with the first batches. */
static sl_status prepare_sparse(sl_context *context, sl_layer *layer, int64_t max_batch, sl_mode mode) {
	size_t bytes;
	if (!sli_panel_bytes(layer->out_features, max_batch, 1, layer->dtype, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "max_batch %lld of %lld features does not fit in memory",
						(long long)max_batch, (long long)layer->out_features);
	SL_TRY(sli_arena_reserve(context, 3 * rounded(bytes)));
	return mode == SL_MODE_TRAINING ? sli_layer_make_gradients(context, layer) : SL_OK;
}

static sl_status prepare(sl_context *context, sl_layer *layer, int64_t max_batch, int64_t width, sl_mode mode,
						 bool dx) {
	if (already(context, layer, max_batch, width, mode, dx)) {
		/* Another layer's smaller arena may be all there is. */
		plans kept = {layer->forward_plan, layer->dx_plan, layer->dw_plan};
		shapes own = {.x = sli_panels(context, NULL, layer->dtype, layer->in_features, layer->planned_batch, width),
					  .y = sli_panels(context, NULL, layer->dtype, layer->out_features, layer->planned_batch, width)};
		if (sli_panel_bytes(layer->in_features, layer->planned_batch, width, layer->dtype, &own.x_bytes) &&
			sli_panel_bytes(layer->out_features, layer->planned_batch, width, layer->dtype, &own.y_bytes))
			return reserve(context, layer, &own, &kept);
	}
	/* A layer that trains keeps its training plans when it is asked for inference. */
	if (layer->dw_plan)
		mode = SL_MODE_TRAINING;
	dx |= layer->dx_plan != NULL;
	shapes s = {.x = sli_panels(context, NULL, layer->dtype, layer->in_features, max_batch, width),
				.y = sli_panels(context, NULL, layer->dtype, layer->out_features, max_batch, width)};
	if (!sli_panel_bytes(layer->in_features, max_batch, width, layer->dtype, &s.x_bytes) ||
		!sli_panel_bytes(layer->out_features, max_batch, width, layer->dtype, &s.y_bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "max_batch %lld of %lld features does not fit in memory",
						(long long)max_batch, (long long)layer->in_features);
	plans made = {0};
	sl_status status = make_plans(context, layer, &s, mode, dx, &made);
	if (status == SL_OK)
		status = reserve(context, layer, &s, &made);
	if (status == SL_OK && mode == SL_MODE_TRAINING)
		status = sli_layer_make_gradients(context, layer);
	if (status != SL_OK) {
		destroy_plans(&made);
		return status;
	}
	sli_layer_drop_plans(layer);
	layer->forward_plan = made.forward;
	layer->dx_plan = made.dx;
	layer->dw_plan = made.dw;
	layer->planned_batch = max_batch;
	layer->plannings++;
	layer->planned_width = width;
	return SL_OK;
}

/* No plans. What a pass takes it takes from what is left of the budget then: enough must be. */
static sl_status prepare_streamed(sl_context *context, sl_layer *layer, int64_t max_batch, int64_t width, sl_mode mode,
								  bool dx) {
	size_t least, bytes;
	sl_memory_usage usage = {.struct_size = sizeof usage};
	bool training = mode == SL_MODE_TRAINING;
	if (training)
		SL_TRY(sli_layer_make_gradients(context, layer));
	if (!sli_panel_bytes(layer->out_features, max_batch, width, layer->dtype, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "max_batch %lld of %lld features does not fit in memory",
						(long long)max_batch, (long long)layer->out_features);
	SL_TRY(sli_streamed_least(context, layer->streamed, max_batch, width, training, dx, &least));
	sli_arena_trim(context);
	sli_heap_usage(sli_heap(context), &usage);
	least += training ? 2 * rounded(bytes) : 0; /* dZ */
	if (usage.budget && (usage.current > usage.budget || least > usage.budget - usage.current))
		return sli_fail(
			context, SL_ERR_BUDGET,
			"streaming layer \"%s\" takes at least %zu bytes beside %zu that are in use; the memory budget is "
			"%zu: raise memory_budget",
			layer->name, least, usage.current, usage.budget);
	layer->planned_batch = max_batch;
	layer->planned_width = width;
	return SL_OK;
}

sl_status sli_layer_prepare_width(sl_context *context, sl_layer *layer, int64_t max_batch, int64_t width, sl_mode mode,
								  bool dx) {
	if (layer->sparse_inputs)
		return prepare_sparse(context, layer, max_batch, mode);
	if (layer->streamed)
		return prepare_streamed(context, layer, max_batch, width, mode, dx);
	size_t had = sli_arena_bytes(context);
	sl_status status = prepare(context, layer, max_batch, width, mode, dx);
	if (!sli_no_room(status) || layer->dense || sli_plan_mode(context) == SL_PLAN_SPARSE)
		return status;
	/* What runs dense takes workspace that the rest may have needed. */
	sl_plan_mode before = sli_set_plan_mode(context, SL_PLAN_SPARSE);
	sli_arena_trim(context);
	status = sli_arena_reserve(context, had); /* others were promised that */
	if (status == SL_OK)
		status = prepare(context, layer, max_batch, width, mode, dx);
	sli_set_plan_mode(context, before);
	if (status == SL_OK)
		sli_log(context, SL_LOG_WARNING, "layer \"%s\" is planned sparse: there was no room for more", layer->name);
	return status;
}
