/* SPDX-License-Identifier: Apache-2.0 */
/* Single edits of a layer: magnitude pruning, and dropping and growing. */
#include "layers/linear.h"
#include "sparse/random.h"
#include "core/checked.h"
#include "train/edit.h"
#include "train/neighbours.h"
#include "train/visit.h"

static sl_status finish(sl_context *context, sl_layer_edit *e) {
	void *scratch;
	SL_TRY(sli_edit_build(context, e));
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = sli_edits_scratch(context, e, 1, &scratch);
	if (status == SL_OK)
		sli_edits_commit(context, e, 1, scratch);
	sli_arena_reset(context, mark);
	return status;
}

static sl_status prune(sl_context *context, sl_layer_edit *e, int64_t keep) {
	e->change.dropped = e->ranked.count - keep;
	SL_TRY(sli_mark_smallest(context, &e->ranked, 1, e->change.dropped));
	return finish(context, e);
}

static sl_status prune_layer(sl_context *context, sl_layer *layer, int64_t keep, sl_optimizer *optimizer) {
	sl_layer_edit e;
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = sli_edit_begin(context, &e, layer, optimizer);
	if (status == SL_OK)
		status = prune(context, &e, keep);
	sli_edit_end(&e);
	sli_arena_reset(context, mark);
	return status;
}

sl_status sli_layer_prune(sl_context *context, sl_layer *layer, int64_t keep, sl_optimizer *optimizer) {
	sl_visit v;
	SL_TRY(sli_visit_begin(&v, context, &layer, 1, optimizer));
	return sli_visit_end(&v, prune_layer(v.host, layer, keep, optimizer));
}

static sl_status mark_layers(sl_context *context, sl_layer_edit *edits, sl_ranked *ranked, int count,
							 const sl_pruning *p) {
	for (int i = 0; i < count; i++) {
		int64_t free = 0;
		ranked[i] = edits[i].ranked;
		if (p->n)
			SL_TRY(sli_n_m_protect(context, &edits[i], p->n, p->m, &ranked[i], &free));
		if (p->n || p->wanted)
			SL_TRY(sli_mark_smallest(context, &ranked[i], 1, p->n ? free : p->wanted[i]));
	}
	if (!p->n && !p->wanted)
		SL_TRY(sli_mark_smallest(context, ranked, count, p->all));
	for (int i = 0; i < count; i++)
		for (int64_t k = 0; k < ranked[i].count; k++)
			edits[i].change.dropped += ranked[i].marks[k];
	return SL_OK;
}

static sl_status prune_layers(sl_context *context, sl_layer_edit *edits, int count, const sl_pruning *p) {
	void *memory, *scratch;
	SL_TRY(sli_arena_take(context, (size_t)count * sizeof(sl_ranked), &memory));
	SL_TRY(mark_layers(context, edits, memory, count, p));
	for (int i = 0; i < count; i++)
		if (edits[i].change.dropped)
			SL_TRY(sli_edit_build(context, &edits[i]));
	SL_TRY(sli_edits_scratch(context, edits, count, &scratch));
	sli_edits_commit(context, edits, count, scratch);
	return SL_OK;
}

static sl_status prune_model(sl_context *context, sl_model *model, int count, const sl_pruning *p,
							 sl_optimizer *optimizer) {
	void *memory;
	size_t bytes = (size_t)count * sizeof(sl_layer_edit);
	sl_arena_mark mark = sli_arena_mark(context);
	SL_TRY(sli_arena_take(context, bytes, &memory));
	sl_layer_edit *edits = memset(memory, 0, bytes);
	sl_status status = SL_OK;
	for (int i = 0; i < count && status == SL_OK; i++)
		status = sli_edit_begin(context, &edits[i], model->layers[i], optimizer);
	if (status == SL_OK)
		status = prune_layers(context, edits, count, p);
	for (int i = 0; i < count; i++)
		sli_edit_end(&edits[i]);
	sli_arena_reset(context, mark);
	return status;
}

sl_status sli_model_prune(sl_context *context, sl_model *model, int count, const sl_pruning *p,
						  sl_optimizer *optimizer) {
	sl_visit v;
	SL_TRY(sli_visit_begin(&v, context, model->layers, count, optimizer));
	return sli_visit_end(&v, prune_model(v.host, model, count, p, optimizer));
}

/* What sees the gradient of one layer. */
typedef struct offering {
	sl_selection *selection;
} offering;

static sl_status offer(void *argument, sl_context *context, const sl_layer *layer, const sl_dense *dz,
					   const sl_dense *x) {
	return sli_offer_gradient(context, layer, dz, x, ((offering *)argument)->selection, 0);
}

static sl_status offer_sparse(void *argument, sl_context *context, const sl_layer *layer, const sl_dense *dz,
							  const sl_sparse_batch *batch) {
	return sli_offer_sparse_gradient(context, layer, dz, batch, ((offering *)argument)->selection, 0);
}

static sl_status candidates(sl_context *context, sl_layer *layer, int64_t count, const sl_regrowth *g,
							sl_selection *s) {
	offering o = {s};
	int64_t limit = sli_growth_limit(g->spread, count, layer->out_features);
	sl_context *host;
	SL_TRY(sli_host_context(context, &host));
	if (g->m) {
		int64_t keep = sli_n_m_candidates(g->m, g->m), groups = sli_ceil_div(layer->in_features, g->m);
		SL_TRY(sli_selection_begin_groups(host, s, layer->out_features * groups * keep, g->m, keep, layer->dtype));
	} else {
		int64_t cols = layer->sparse_inputs ? layer->out_features : layer->in_features;
		SL_TRY(sli_selection_begin(host, s, count, limit, cols, layer->dtype));
	}
	sl_gradient_watch watch = {offer, &o, offer_sparse};
	if (layer->sparse_inputs) {
		sl_dense rows = sl_dense_transposed(*g->dy);
		SL_TRY(sli_layer_watch_sparse(context, layer, g->saved, &rows, &watch));
	} else {
		SL_TRY(sli_layer_watch(context, layer, g->saved, g->dy, &watch));
	}
	return g->m ? SL_OK : sli_selection_finish(host, s);
}

/* Each group of neighbours grows what it drops. */
static sl_status regrow_groups(sl_context *context, sl_layer_edit *e, int64_t *moves, const sl_regrowth *g,
							   const sl_selection *s) {
	sl_ranked ranked;
	int64_t most;
	SL_TRY(sli_n_m_protect(context, e, -1, g->m, &ranked, &most));
	*moves = *moves < most ? *moves : most;
	SL_TRY(sli_mark_smallest(context, &ranked, 1, *moves));
	e->change.dropped = *moves;
	return g->saved ? sli_n_m_grow_best(context, e, g->m, s, 0) : sli_n_m_grow_random(context, e, g->m, g->stream);
}

static sl_status regrow_anywhere(sl_context *context, sl_layer_edit *e, int64_t count, const sl_regrowth *g,
								 const sl_selection *s) {
	void *memory;
	SL_TRY(sli_arena_take(context, (size_t)count * sizeof(int64_t), &memory));
	int64_t *cells = memory;
	sl_pattern_arrays a = sli_pattern_arrays(e->change.from);
	if (!g->saved) {
		SL_TRY(sli_draw_distinct(context, cells, count, a.rows * a.cols - a.nnz, g->stream));
		e->change.ranks = true;
	}
	for (int64_t i = 0; g->saved && i < count; i++)
		cells[i] = s->items[i].cell;
	e->change.cells = cells;
	e->change.grown = e->change.dropped = count;
	return sli_mark_smallest(context, &e->ranked, 1, count);
}

static sl_status regrow_layer(sl_context *context, sl_layer *layer, int64_t *moves, sl_optimizer *optimizer,
							  const sl_regrowth *g, const sl_selection *s) {
	sl_layer_edit e = {0};
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = sli_edit_begin(context, &e, layer, optimizer);
	if (status == SL_OK)
		status = g->m ? regrow_groups(context, &e, moves, g, s) : regrow_anywhere(context, &e, *moves, g, s);
	if (status == SL_OK)
		status = finish(context, &e);
	sli_edit_end(&e);
	sli_arena_reset(context, mark);
	return status;
}

sl_status sli_layer_regrow(sl_context *context, sl_layer *layer, int64_t *moves, sl_optimizer *optimizer,
						   const sl_regrowth *g) {
	sl_selection s = {0};
	sl_visit v;
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = g->saved ? candidates(context, layer, *moves, g, &s) : SL_OK;
	if (status == SL_OK && g->saved && !g->m)
		*moves = s.have;
	if (status == SL_OK)
		status = sli_visit_begin(&v, context, &layer, 1, optimizer);
	if (status == SL_OK)
		status = sli_visit_end(&v, regrow_layer(v.host, layer, moves, optimizer, g, &s));
	sli_selection_free(&s);
	sli_arena_reset(context, mark);
	return status;
}
