/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "api/checks.h"
#include "core/checked.h"
#include "core/host.h"
#include "train/compact.h"
#include "train/neighbours.h"
#include "train/sparsity.h"

const char *sl_sparse_method_name(sl_sparse_method method) {
	static const char *const names[] = {"static", "set", "rigl", "gmp", "l1"};
	return method >= SL_SPARSE_STATIC && method <= SL_SPARSE_L1 ? names[method] : "unknown";
}

sl_status sl_model_set_sparsity(sl_context *context, sl_model *model, const sl_sparsity_options *options) {
	sl_sparsity_options given, o;
	SL_TRY(sli_check_model(context, model));
	if (!options) {
		sli_sparsity_drop(model);
		return SL_OK;
	}
	SL_TRY(sli_take_struct(context, &given, sizeof given, options, "options"));
	SL_TRY(sli_sparsity_resolve(context, model, &given, &o));
	if (model->divided && ((o.method != SL_SPARSE_SET && o.method != SL_SPARSE_RIGL && o.method != SL_SPARSE_STATIC) ||
						   o.budget == SL_BUDGET_GLOBAL || o.n))
		return sli_fail(
			context, SL_ERR_UNSUPPORTED,
			"a model whose layers are divided over ranks edits each block by itself: by set or rigl, with a "
			"budget a layer and without n:m, whose groups the blocks would cut");
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
	SL_TRY(sli_check_model(context, model));
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
	SL_TRY(sli_check_model(context, model));
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
			full.nonzeros += sli_layer_nnz(layer);
			full.dense_weights += layer->in_features * layer->out_features;
		}
	}
	return sli_give_struct(context, info, &full, sizeof full, "info");
}

static sl_status check_edits(sl_context *context, const sl_model *model, const sl_optimizer *optimizer, int count) {
	for (int i = 0; i < count; i++)
		SL_TRY(sli_check_edit(context, model->layers[i], optimizer));
	return SL_OK;
}

/* How many weights of each layer, and of all, go. */
static sl_status count_pruned(sl_context *context, const sl_model *model, double density, int count, bool together,
							  int64_t *wanted, int64_t *all) {
	int64_t have = 0, cells = 0;
	for (int i = 0; i < count; i++) {
		const sl_layer *layer = model->layers[i];
		int64_t here = layer->in_features * layer->out_features, entries = sli_layer_nnz(layer);
		int64_t keep = (int64_t)llround(density * (double)here);
		wanted[i] = entries - keep;
		if (wanted[i] < 0 && !together)
			return sli_fail(context, SL_ERR_ARGUMENT, "density %g means %lld weights; layer \"%s\" has %lld", density,
							(long long)keep, layer->name, (long long)entries);
		have += entries;
		if (!sli_add(cells, here, &cells))
			return sli_fail(context, SL_ERR_OVERFLOW, "the layers up to \"%s\" have more than 2^63 cells", layer->name);
	}
	*all = have - (int64_t)llround(density * (double)cells);
	if (*all < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "density %g means %lld weights; the layers have %lld", density,
						(long long)(have - *all), (long long)have);
	return SL_OK;
}

static int64_t weights_of(const sl_model *model, int count) {
	int64_t sum = 0;
	for (int i = 0; i < count; i++)
		sum += sli_layer_nnz(model->layers[i]);
	return sum;
}

static sl_status refuse_divided(sl_context *context, const sl_model *model) {
	return model->divided ? sli_fail(context, SL_ERR_UNSUPPORTED, "the model's layers are divided over ranks") : SL_OK;
}

sl_status sl_model_prune(sl_context *context, sl_model *model, const sl_prune_options *options, sl_optimizer *optimizer,
						 int64_t *dropped) {
	sl_prune_options o;
	void *wanted;
	int64_t all = 0;
	SL_TRY(sli_check_model(context, model));
	SL_TRY(sli_take_struct(context, &o, sizeof o, options, "options"));
	if (!(o.density >= 0 && o.density <= 1))
		return sli_fail(context, SL_ERR_ARGUMENT, "density is %g; it must be in [0, 1]", o.density);
	if (o.budget < SL_BUDGET_LAYER || o.budget > SL_BUDGET_GLOBAL)
		return sli_fail(context, SL_ERR_ARGUMENT, "budget is %d; it must be one of sl_budget", (int)o.budget);
	SL_TRY(sli_n_m_check(context, o.n, o.m));
	if (o.n && (o.density != 0 || o.budget != SL_BUDGET_LAYER))
		return sli_fail(context, SL_ERR_ARGUMENT, "n:m %d:%d says what stays: give no density and no budget", o.n, o.m);
	int count = model->count - (o.keep_last ? 1 : 0);
	if (!count)
		return sli_fail(context, SL_ERR_STATE, "the model has no layer but the last, which keep_last leaves alone");
	SL_TRY(check_edits(context, model, optimizer, count));
	SL_TRY(refuse_divided(context, model));
	bool together = o.budget == SL_BUDGET_GLOBAL;
	int64_t before = weights_of(model, count);
	sl_context *host;
	SL_TRY(sli_host_context(context, &host));
	sl_arena_mark mark = sli_arena_mark(host);
	SL_TRY(sli_arena_take(host, (size_t)count * sizeof(int64_t), &wanted));
	sl_status status = o.n ? SL_OK : count_pruned(context, model, o.density, count, together, wanted, &all);
	if (status == SL_OK)
		status =
			sli_model_prune(context, model, count, &(sl_pruning){all, together ? NULL : wanted, o.n, o.m}, optimizer);
	sli_arena_reset(host, mark);
	if (status == SL_OK && dropped)
		*dropped = before - weights_of(model, count);
	return status;
}

sl_status sl_model_compact(sl_context *context, sl_model *model, sl_optimizer *optimizer, sl_compaction *done) {
	sl_compaction own = {.struct_size = sizeof own};
	SL_TRY(sli_check_model(context, model));
	SL_TRY(check_edits(context, model, optimizer, model->count));
	SL_TRY(refuse_divided(context, model));
	SL_TRY(sli_model_compact(context, model, optimizer, &own));
	return done ? sli_give_struct(context, done, &own, sizeof own, "done") : SL_OK;
}
