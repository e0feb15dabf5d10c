/* SPDX-License-Identifier: Apache-2.0 */
/* Carrying weights, gradient and moments from one pattern to the next. */
#include "train/edit.h"

#include "core/checked.h"

enum { ARRAYS = 2 + SL_MAX_STATES };

sl_status sli_edit_begin(sl_context *context, sl_layer_edit *e, sl_layer *layer, sl_optimizer *optimizer) {
	*e = (sl_layer_edit){.layer = layer, .entry = optimizer ? sli_optimizer_find(optimizer, layer) : NULL};
	if (layer->dense)
		SL_TRY(sl_pattern_full(&e->change.from, context,
							   layer->sparse_inputs ? layer->in_features : layer->out_features,
							   layer->sparse_inputs ? layer->out_features : layer->in_features));
	else
		e->change.from = sl_pattern_retain(layer->weights->pattern);
	int64_t nnz = sli_pattern_arrays(e->change.from).nnz;
	void *marks;
	SL_TRY(sli_arena_take(context, (size_t)nnz, &marks));
	e->ranked = (sl_ranked){.name = layer->name,
							.values = layer->dense ? layer->dense_weights.data : layer->weights->values,
							.dtype = layer->dtype,
							.count = nnz,
							.marks = marks};
	e->change.marks = marks;
	return SL_OK;
}

/* Arrays that are there, old and new; the same memory where the number of entries stays. */
static int arrays_of(const sl_layer_edit *e, sl_carried *arrays) {
	int count = 0;
	const sl_layer *layer = e->layer;
	bool same = !e->weights;
	const void *values = e->ranked.values;
	arrays[count++] = (sl_carried){values, same ? (void *)(uintptr_t)values : e->weights->values, 0};
	/* A row-sparse gradient is dropped: the next batch brings other rows. */
	if (layer->gradient.device && !layer->sparse_inputs)
		arrays[count++] = (sl_carried){layer->gradient.data, same ? layer->gradient.data : e->gradient.data, 0};
	for (int s = 0; e->entry && s < SL_MAX_STATES; s++) {
		void *state = e->entry->state[0][s].data;
		if (e->entry->state[0][s].device)
			arrays[count++] = (sl_carried){state, same ? state : e->state[s].data, s == 1 ? e->variance : 0};
	}
	return count;
}

static sl_status make_arrays(sl_context *context, sl_layer_edit *e) {
	size_t bytes = (size_t)e->nnz * sl_dtype_size(e->layer->dtype);
	static const char what[] = "values carried through an edit";
	SL_TRY(sl_csr_create_pattern(&e->weights, context, e->to, e->layer->dtype));
	if (e->layer->gradient.device && !e->layer->sparse_inputs)
		SL_TRY(sli_buffer_create(&e->gradient, context, bytes, false, what));
	for (int s = 0; e->entry && s < SL_MAX_STATES; s++)
		if (e->entry->state[0][s].device)
			SL_TRY(sli_buffer_create(&e->state[s], context, bytes, false, what));
	return SL_OK;
}

sl_status sli_edit_build(sl_context *context, sl_layer_edit *e) {
	int64_t old = sli_pattern_arrays(e->change.from).nnz;
	e->nnz = old - e->change.dropped + e->change.grown;
	if (e->change.grown && e->entry && e->entry->state[0][1].device)
		SL_TRY(sli_mean(context, e->entry->state[0][1].data, e->layer->dtype, old, &e->variance));
	SL_TRY(sli_pattern_apply(&e->to, &e->map, context, &e->change));
	bool same = e->nnz == old && !e->layer->dense && !e->layer->sparse_inputs;
	return same ? SL_OK : make_arrays(context, e);
}

sl_status sli_edits_scratch(sl_context *context, const sl_layer_edit *edits, int count, void **scratch) {
	size_t most = 0, one = 0;
	sl_carried arrays[ARRAYS];
	for (int i = 0; i < count; i++) {
		if (!edits[i].to || edits[i].weights)
			continue;
		if (!sli_carry_scratch(&edits[i].map, arrays_of(&edits[i], arrays), edits[i].layer->dtype, &one))
			return sli_fail(context, SL_ERR_OVERFLOW, "%lld entries", (long long)edits[i].nnz);
		most = one > most ? one : most;
	}
	return sli_arena_take(context, most, scratch);
}

/* The same number of entries: in the same memory. */
static void rewrite(sl_context *context, sl_layer_edit *e, void *scratch) {
	sl_carried arrays[ARRAYS];
	int count = arrays_of(e, arrays);
	sli_carry(context, &e->map, arrays, count, e->layer->dtype, scratch);
	sli_layer_replace_pattern(e->layer, e->to);
}

static void replace(sl_context *context, sl_layer_edit *e) {
	sl_carried arrays[ARRAYS];
	int count = arrays_of(e, arrays);
	sli_carry(context, &e->map, arrays, count, e->layer->dtype, NULL);
	sli_layer_replace_weights(e->layer, e->weights, e->gradient);
	e->weights = NULL;
	memset(&e->gradient, 0, sizeof e->gradient);
	for (int s = 0; e->entry && s < SL_MAX_STATES; s++) {
		sl_buffer old = e->entry->state[0][s];
		e->entry->state[0][s] = e->state[s];
		e->state[s] = old;
	}
}

void sli_edits_commit(sl_context *context, sl_layer_edit *edits, int count, void *scratch) {
	for (int i = 0; i < count; i++) {
		sl_layer_edit *e = &edits[i];
		if (!e->to)
			continue;
		if (e->weights)
			replace(context, e);
		else
			rewrite(context, e, scratch);
		if (e->entry)
			e->entry->edition = e->layer->edition;
	}
}

void sli_edit_end(sl_layer_edit *e) {
	sl_pattern_release(e->change.from);
	sl_pattern_release(e->to);
	sl_csr_destroy(e->weights);
	sli_buffer_destroy(&e->gradient);
	for (int s = 0; s < SL_MAX_STATES; s++)
		sli_buffer_destroy(&e->state[s]);
	*e = (sl_layer_edit){0};
}
