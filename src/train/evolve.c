/* SPDX-License-Identifier: Apache-2.0 */
/* The edits of a schedule: which weights of which layers go, and what comes for them. */
#include <math.h>

#include "core/checked.h"
#include "core/profile.h"
#include "sparse/random.h"
#include "train/neighbours.h"
#include "train/sparsity.h"
#include "train/visit.h"

/* One edit on its way; arrays by governed layer. */
typedef struct evolution {
	sl_context *context;
	sl_model *model;
	sl_sparsity *s;
	int64_t step;
	sl_layer_edit *edits;
	sl_ranked *ranked;
} evolution;

static bool together(const evolution *e) {
	return e->s->options.budget == SL_BUDGET_GLOBAL;
}

static sl_layer *layer_of(const evolution *e, int i) {
	return e->model->layers[e->s->layers[i].index];
}

static void count_dropped(sl_layer_edit *edit) {
	int64_t dropped = 0;
	for (int64_t k = 0; k < edit->ranked.count; k++)
		dropped += edit->ranked.marks[k];
	edit->change.dropped = dropped;
}

/* Mark the smallest weights: wanted[i] of each layer, or their sum of all. */
static sl_status drop_smallest(evolution *e, const int64_t *wanted) {
	int64_t sum = 0;
	for (int i = 0; i < e->s->count; i++) {
		sum += wanted[i];
		e->edits[i].change.dropped = wanted[i];
		if (!together(e))
			SL_TRY(sli_mark_smallest(e->context, &e->ranked[i], 1, wanted[i]));
	}
	if (!together(e))
		return SL_OK;
	SL_TRY(sli_mark_smallest(e->context, e->ranked, e->s->count, sum));
	for (int i = 0; i < e->s->count; i++)
		count_dropped(&e->edits[i]);
	return SL_OK;
}

/* Draws of edits, layers and schedules do not meet those of patterns or weights. */
static uint64_t stream_of(const evolution *e, int layer) {
	return UINT64_C(0x2000000000000000) ^ (e->s->options.stream << 52) ^ (uint64_t)e->step << 12 ^ (uint64_t)layer;
}

static int64_t missing_of(const sl_layer_edit *edit) {
	sl_pattern_arrays a = sli_pattern_arrays(edit->change.from);
	return a.rows * a.cols - a.nnz;
}

static sl_status take_cells(evolution *e, int64_t count, int64_t **cells) {
	size_t bytes;
	void *memory;
	if (!sli_bytes(count, sizeof **cells, &bytes))
		return sli_fail(e->context, SL_ERR_OVERFLOW, "%lld entries to grow", (long long)count);
	SL_TRY(sli_arena_take(e->context, bytes, &memory));
	*cells = memory;
	return SL_OK;
}

static sl_status grow_random(evolution *e, const int64_t *moves) {
	int64_t *cells = NULL, missing = 0, before = 0, at = 0, sum = 0;
	for (int i = 0; i < e->s->count; i++) {
		missing += missing_of(&e->edits[i]);
		sum += moves[i];
	}
	SL_TRY(take_cells(e, sum, &cells));
	if (together(e))
		SL_TRY(sli_draw_distinct(e->context, cells, sum, missing, stream_of(e, 0)));
	for (int i = 0; i < e->s->count; i++) {
		sl_pattern_edit *change = &e->edits[i].change;
		int64_t here = missing_of(&e->edits[i]), n = together(e) ? 0 : moves[i];
		if (together(e))
			while (at + n < sum && cells[at + n] < before + here)
				n++;
		else
			SL_TRY(sli_draw_distinct(e->context, cells + at, n, here,
									 stream_of(e, e->model->divided ? (int)layer_of(e, i)->place - 1 : i)));
		change->ranks = true;
		change->first = together(e) ? before : 0;
		change->cells = cells + at;
		change->grown = n;
		at += n;
		before += here;
	}
	return SL_OK;
}

static sl_status check_seen(const evolution *e, int i) {
	const sl_governed *g = &e->s->layers[i];
	const sl_layer *layer = layer_of(e, i);
	if (g->seen == e->s->steps && g->edition == layer->edition)
		return SL_OK;
	return sli_fail(e->context, SL_ERR_STATE,
					"no gradient of layer \"%s\" was seen in this step: run sl_model_train_batch() or "
					"sl_model_backward() before it",
					layer->name);
}

static sl_governed *holder_of(const evolution *e, int i) {
	return &e->s->layers[together(e) ? e->s->count - 1 : i];
}

/* The candidates of a layer out of a selection that may be shared. */
static sl_status grow_largest(evolution *e) {
	sl_sparsity *s = e->s;
	for (int i = s->count - 1; i >= 0; i--) {
		sl_governed *g = &s->layers[i], *holder = holder_of(e, i);
		const sl_layer *layer = layer_of(e, i);
		SL_TRY(check_seen(e, i));
		if (holder == g)
			SL_TRY(sli_selection_finish(e->context, &g->selection));
		int64_t base = together(e) ? g->base : 0, end = base + layer->in_features * layer->out_features, n = 0;
		int64_t *cells = NULL;
		SL_TRY(take_cells(e, holder->selection.have, &cells));
		for (int64_t k = 0; k < holder->selection.have; k++)
			if (holder->selection.items[k].cell >= base && holder->selection.items[k].cell < end)
				cells[n++] = holder->selection.items[k].cell - base;
		e->edits[i].change.cells = cells;
		e->edits[i].change.grown = n;
	}
	return SL_OK;
}

/* What each layer ranks; with N:M structure without what has to stay. Receives how many may go. */
static sl_status rank_layers(evolution *e, int64_t *most) {
	const sl_sparsity_options *o = &e->s->options;
	bool moves = o->method == SL_SPARSE_SET || o->method == SL_SPARSE_RIGL;
	for (int i = 0; i < e->s->count; i++) {
		e->ranked[i] = e->edits[i].ranked;
		most[i] = e->ranked[i].count;
		if (o->n)
			SL_TRY(sli_n_m_protect(e->context, &e->edits[i], moves ? -1 : o->n, o->m, &e->ranked[i], &most[i]));
	}
	return SL_OK;
}

/* Each group of neighbours grows what it drops: drops come first. */
static sl_status move_in_groups(evolution *e, int64_t *moves, const int64_t *most) {
	int64_t all = 0;
	for (int i = 0; i < e->s->count; i++)
		all += most[i];
	for (int i = 0; i < e->s->count; i++) {
		int64_t bound = together(e) ? all : most[i];
		moves[i] = moves[i] < bound ? moves[i] : bound;
	}
	SL_TRY(drop_smallest(e, moves));
	for (int i = 0; i < e->s->count; i++) {
		const sl_governed *g = &e->s->layers[i];
		if (e->s->options.method == SL_SPARSE_SET) {
			SL_TRY(sli_n_m_grow_random(e->context, &e->edits[i], e->s->options.m, stream_of(e, i)));
			continue;
		}
		SL_TRY(check_seen(e, i));
		SL_TRY(sli_n_m_grow_best(e->context, &e->edits[i], e->s->options.m, &holder_of(e, i)->selection,
								 together(e) ? g->base : 0));
	}
	return SL_OK;
}

static sl_status drop_and_grow(evolution *e, int64_t *moves, const int64_t *most) {
	sl_sparsity *s = e->s;
	for (int i = 0; i < s->count; i++)
		moves[i] = together(e) ? 0 : sli_sparsity_moves(s, layer_of(e, i), e->step);
	if (together(e))
		moves[0] = sli_sparsity_moves(s, NULL, e->step);
	if (s->options.n)
		return move_in_groups(e, moves, most);
	if (s->options.method != SL_SPARSE_RIGL) {
		SL_TRY(grow_random(e, moves));
		return drop_smallest(e, moves);
	}
	SL_TRY(grow_largest(e));
	/* Where neurons are nearly full there are fewer candidates than were wanted. */
	memset(moves, 0, (size_t)s->count * sizeof *moves);
	for (int i = 0; i < s->count; i++)
		moves[together(e) ? 0 : i] += e->edits[i].change.grown;
	return drop_smallest(e, moves);
}

/* s_t = s_f + (s_i - s_f) (1 - t)^3, in entries. */
static sl_status prune_gradually(evolution *e, int64_t *drops) {
	const sl_sparsity *s = e->s;
	int64_t span = sli_sparsity_last(s) - s->options.begin;
	double left = 1 - (double)(e->step - s->options.begin) / (double)span;
	for (int i = 0; i < s->count; i++) {
		const sl_governed *g = &s->layers[i];
		int64_t target = g->final + llround((double)(g->first - g->final) * left * left * left);
		int64_t have = e->edits[i].ranked.count;
		drops[i] = have > target ? have - target : 0;
	}
	return drop_smallest(e, drops);
}

static int64_t zeros_of(const sl_ranked *r) {
	int64_t zeros = 0;
	for (int64_t k = 0; k < r->count; k++)
		zeros += r->dtype == SL_F32 ? ((const float *)r->values)[k] == 0 : ((const double *)r->values)[k] == 0;
	return zeros;
}

static sl_status drop_zeros(evolution *e, int64_t *drops) {
	int64_t over = 0, zeros = 0;
	for (int i = 0; i < e->s->count; i++) {
		int64_t more = e->edits[i].ranked.count - e->s->layers[i].final;
		drops[i] = zeros_of(&e->ranked[i]);
		zeros += drops[i];
		over += more;
		if (!together(e) && drops[i] > more)
			drops[i] = more > 0 ? more : 0;
	}
	if (together(e)) {
		memset(drops, 0, (size_t)e->s->count * sizeof *drops);
		drops[0] = zeros < over ? zeros : over > 0 ? over : 0;
	}
	return drop_smallest(e, drops);
}

static sl_status decide(evolution *e, int64_t *counts, int64_t *most) {
	SL_TRY(rank_layers(e, most));
	switch (e->s->options.method) {
	case SL_SPARSE_GMP:
		return prune_gradually(e, counts);
	case SL_SPARSE_L1:
		return drop_zeros(e, counts);
	default:
		return drop_and_grow(e, counts, most);
	}
}

static sl_status evolve(evolution *e, sl_optimizer *optimizer, int64_t *counts, sl_sparsity_edit *done) {
	int n = e->s->count;
	void *scratch;
	for (int i = 0; i < n; i++)
		SL_TRY(sli_edit_begin(e->context, &e->edits[i], layer_of(e, i), optimizer));
	SL_TRY(decide(e, counts, counts + n));
	for (int i = 0; i < n; i++) {
		sl_pattern_edit *change = &e->edits[i].change;
		if (change->dropped || change->grown)
			SL_TRY(sli_edit_build(e->context, &e->edits[i]));
		done->dropped += change->dropped;
		done->grown += change->grown;
		done->nonzeros += e->edits[i].ranked.count - change->dropped + change->grown;
	}
	SL_TRY(sli_edits_scratch(e->context, e->edits, n, &scratch));
	sli_edits_commit(e->context, e->edits, n, scratch);
	done->edited = true;
	return SL_OK;
}

static sl_status edit_layers(sl_context *context, sl_model *model, sl_optimizer *optimizer, int64_t step,
							 sl_sparsity_edit *done) {
	evolution e = {.context = context, .model = model, .s = model->sparsity, .step = step};
	size_t n = (size_t)e.s->count;
	void *memory;
	sl_arena_mark mark = sli_arena_mark(context);
	SL_TRY(sli_arena_take(context, n * (sizeof *e.edits + sizeof *e.ranked + 2 * sizeof(int64_t)), &memory));
	memset(memory, 0, n * (sizeof *e.edits + sizeof *e.ranked + 2 * sizeof(int64_t)));
	e.edits = memory;
	e.ranked = (sl_ranked *)(e.edits + n);
	sl_status status = evolve(&e, optimizer, (int64_t *)(e.ranked + n), done);
	for (size_t i = 0; i < n; i++)
		sli_edit_end(&e.edits[i]);
	sli_arena_reset(context, mark);
	return status;
}

static sl_status edit(sl_context *context, sl_model *model, sl_optimizer *optimizer, int64_t step,
					  sl_sparsity_edit *done) {
	sl_visit v;
	SL_TRY(sli_visit_begin(&v, context, model->layers, model->count, optimizer));
	return sli_visit_end(&v, edit_layers(v.host, model, optimizer, step, done));
}

sl_status sli_sparsity_step(sl_context *context, sl_model *model, sl_optimizer *optimizer, sl_sparsity_edit *done) {
	sl_sparsity *s = model->sparsity;
	bool due = sli_sparsity_due(s, s->steps + 1);
	if (due) {
		double began = sli_profile_begin(context);
		SL_TRY(edit(context, model, optimizer, s->steps + 1, done));
		sli_profile_end(context, SL_PROFILE_EDIT, began);
	}
	s->steps++;
	s->edits += due;
	sli_sparsity_arm(model);
	/* Candidates take memory that will not be needed again. */
	for (int i = 0; due && s->steps + s->options.interval > s->options.end && i < s->count; i++)
		sli_selection_free(&s->layers[i].selection);
	return SL_OK;
}
