/* SPDX-License-Identifier: Apache-2.0 */
#include "train/sparsity.h"

const char *sl_sparse_method_name(sl_sparse_method method) {
	static const char *const names[] = {"static", "set", "rigl", "gmp", "l1"};
	return method >= SL_SPARSE_STATIC && method <= SL_SPARSE_L1 ? names[method] : "unknown";
}

static sl_status need(sl_context *context, const sl_model *model) {
	if (!context)
		return SL_ERR_NULL;
	if (!model)
		return sli_fail(context, SL_ERR_NULL, "model is null");
	if (!model->count)
		return sli_fail(context, SL_ERR_STATE, "the model has no layers");
	return SL_OK;
}

sl_status sl_model_set_sparsity(sl_context *context, sl_model *model, const sl_sparsity_options *options) {
	sl_sparsity_options given, o;
	SL_TRY(need(context, model));
	if (!options) {
		sli_sparsity_drop(model);
		return SL_OK;
	}
	SL_TRY(sli_take_struct(context, &given, sizeof given, options, "options"));
	SL_TRY(sli_sparsity_resolve(context, model, &given, &o));
	if (sl_context_device(context) != SL_DEVICE_CPU)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "patterns are edited on the CPU alone so far");
	return sli_sparsity_set(context, model, &o);
}

/* The optimizer has every governed layer as it is now. */
static sl_status check_optimizer(sl_context *context, const sl_model *model, const sl_optimizer *optimizer) {
	const sl_sparsity *s = model->sparsity;
	for (int i = 0; optimizer && i < s->count; i++) {
		const sl_layer *layer = model->layers[s->layers[i].index];
		const sl_optimizer_entry *entry = sli_optimizer_find(optimizer, layer);
		if (!entry)
			return sli_fail(context, SL_ERR_ARGUMENT, "layer \"%s\" has not been added to this optimizer", layer->name);
		if (entry->edition != layer->edition)
			return sli_fail(context, SL_ERR_STATE, "layer \"%s\" was edited without this optimizer", layer->name);
	}
	return SL_OK;
}

sl_status sl_model_sparsity_step(sl_context *context, sl_model *model, sl_optimizer *optimizer,
								 sl_sparsity_edit *edit) {
	sl_sparsity_edit done = {.struct_size = sizeof done};
	SL_TRY(need(context, model));
	if (!model->sparsity)
		return sli_fail(context, SL_ERR_STATE, "the model has no schedule: see sl_model_set_sparsity()");
	SL_TRY(check_optimizer(context, model, optimizer));
	SL_TRY(sli_sparsity_step(context, model, optimizer, &done));
	return edit ? sli_give_struct(context, edit, &done, sizeof done, "edit") : SL_OK;
}

static int64_t next_edit(const sl_sparsity *s) {
	const sl_sparsity_options *o = &s->options;
	int64_t past = s->steps > o->begin ? s->steps - o->begin : 0,
			next = o->begin + (past / o->interval + 1) * o->interval;
	return sli_sparsity_due(s, next) ? next : -1;
}

sl_status sl_model_get_sparsity(sl_context *context, const sl_model *model, sl_sparsity_info *info) {
	sl_sparsity_info full = {.struct_size = sizeof full, .next_edit = -1};
	SL_TRY(need(context, model));
	const sl_sparsity *s = model->sparsity;
	if (s) {
		full.method = s->options.method;
		full.steps = s->steps;
		full.edits = s->edits;
		full.next_edit = next_edit(s);
		full.layers = s->count;
		if (full.next_edit >= 0 && (full.method == SL_SPARSE_SET || full.method == SL_SPARSE_RIGL))
			full.drop = sli_sparsity_fraction(s, full.next_edit);
		for (int i = 0; i < s->count; i++) {
			const sl_layer *layer = model->layers[s->layers[i].index];
			full.nonzeros += sli_sparsity_entries(layer);
			full.dense_weights += layer->in_features * layer->out_features;
		}
	}
	return sli_give_struct(context, info, &full, sizeof full, "info");
}
