/* SPDX-License-Identifier: Apache-2.0 */
/* Magnitude pruning. Everything new is built first; the swap at the end cannot fail. */
#include "train/optimizer.h"

/* Elements map[i] of `from`, in a buffer of their own. */
static sl_status carry(sl_context *context, const sl_buffer *from, const int64_t *map, int64_t keep, size_t size,
					   sl_buffer *to) {
	memset(to, 0, sizeof *to);
	if (!from->device)
		return SL_OK;
	SL_TRY(sli_buffer_create(to, context, (size_t)keep * size, false, "values carried through pruning"));
	for (int64_t i = 0; i < keep; i++)
		memcpy((char *)to->data + (size_t)i * size, (const char *)from->data + (size_t)map[i] * size, size);
	return SL_OK;
}

typedef struct edit {
	sl_pattern *from, *to;
	int64_t *map;
	sl_csr *weights;
	sl_buffer gradient, state[SL_MAX_STATES];
} edit;

static void drop(sl_context *context, edit *e, int64_t keep) {
	sl_pattern_release(e->from);
	sl_pattern_release(e->to);
	sli_heap_free(sli_heap(context), e->map, (size_t)keep * sizeof *e->map);
	sl_csr_destroy(e->weights);
	sli_buffer_destroy(&e->gradient);
	for (int s = 0; s < SL_MAX_STATES; s++)
		sli_buffer_destroy(&e->state[s]);
}

static sl_status build(sl_context *context, const sl_layer *layer, int64_t keep, const sl_optimizer_entry *entry,
					   edit *e) {
	size_t size = sl_dtype_size(layer->dtype);
	const void *values = layer->dense ? layer->dense_weights.data : layer->weights->values;
	if (layer->dense)
		SL_TRY(sl_pattern_full(&e->from, context, layer->sparse_inputs ? layer->in_features : layer->out_features,
							   layer->sparse_inputs ? layer->out_features : layer->in_features));
	else
		e->from = sl_pattern_retain(layer->weights->pattern);
	SL_TRY(sli_pattern_keep_largest(&e->to, &e->map, context, e->from, values, layer->dtype, keep));
	SL_TRY(sl_csr_create_pattern(&e->weights, context, e->to, layer->dtype));
	for (int64_t i = 0; i < keep; i++)
		memcpy((char *)e->weights->values + (size_t)i * size, (const char *)values + (size_t)e->map[i] * size, size);
	/* A row-sparse gradient is dropped: the next batch brings other rows. */
	if (!layer->sparse_inputs)
		SL_TRY(carry(context, &layer->gradient, e->map, keep, size, &e->gradient));
	for (int s = 0; entry && s < SL_MAX_STATES; s++)
		SL_TRY(carry(context, &entry->state[0][s], e->map, keep, size, &e->state[s]));
	return SL_OK;
}

sl_status sli_layer_prune(sl_context *context, sl_layer *layer, int64_t keep, sl_optimizer *optimizer) {
	sl_optimizer_entry *entry = optimizer ? sli_optimizer_find(optimizer, layer) : NULL;
	edit e = {0};
	sl_status status = build(context, layer, keep, entry, &e);
	if (status == SL_OK) {
		sli_layer_replace_weights(layer, e.weights, e.gradient);
		e.weights = NULL;
		memset(&e.gradient, 0, sizeof e.gradient);
		for (int s = 0; entry && s < SL_MAX_STATES; s++) {
			sl_buffer old = entry->state[0][s];
			entry->state[0][s] = e.state[s];
			e.state[s] = old;
		}
		if (entry)
			entry->edition = layer->edition;
	}
	drop(context, &e, keep);
	return status;
}
