/* SPDX-License-Identifier: Apache-2.0 */
#include "train/visit.h"

/* A layer as it is on the device, while its copy is edited. */
typedef struct sl_visited {
	sl_layer was;
	sl_optimizer_entry *entry, entry_was; /* NULL: not in the optimizer */
	bool there;
} visited;

enum { BUFFERS = 4 };

static void buffers_of(sl_layer *layer, sl_buffer *buffers[BUFFERS]) {
	buffers[0] = &layer->dense_weights;
	buffers[1] = &layer->gradient;
	buffers[2] = &layer->bias;
	buffers[3] = &layer->bias_gradient;
}

/* `to` receives a copy on the context's device of what `from` holds, wherever that is. */
static sl_status copy_buffer(sl_context *context, sl_buffer *to, const sl_buffer *from) {
	*to = (sl_buffer){0};
	if (!from->device)
		return SL_OK;
	SL_TRY(sli_buffer_create(to, context, from->bytes, false, "a layer's values during an edit"));
	return sli_on_host(from->device) ? sli_put(to->device, to->data, from->data, from->bytes)
									 : sli_fetch(from->device, to->data, from->data, from->bytes);
}

static void free_layer(sl_layer *layer) {
	sl_buffer *buffers[BUFFERS];
	buffers_of(layer, buffers);
	for (int i = 0; i < BUFFERS; i++)
		sli_buffer_destroy(buffers[i]);
	sl_csr_destroy(layer->weights);
	layer->weights = NULL;
	sli_layer_drop_plans(layer);
}

/* Copies of all that `from` holds into `to`, whose own are not there. Freed by the caller on failure too. */
static sl_status copy_layer(sl_context *context, sl_layer *to, sl_layer *from) {
	sl_buffer *target[BUFFERS], *source[BUFFERS];
	buffers_of(to, target);
	buffers_of(from, source);
	sl_status status = SL_OK;
	for (int i = 0; i < BUFFERS; i++)
		*target[i] = (sl_buffer){0};
	to->weights = NULL;
	to->forward_plan = to->dx_plan = to->dw_plan = NULL;
	to->planned_batch = to->planned_width = 0;
	for (int i = 0; i < BUFFERS && status == SL_OK; i++)
		status = copy_buffer(context, target[i], source[i]);
	if (status != SL_OK || !from->weights)
		return status;
	SL_TRY(sl_csr_create_pattern(&to->weights, context, from->weights->pattern, from->weights->dtype));
	const sl_csr *values = from->weights;
	size_t bytes = sli_csr_bytes(values);
	return values->device == SL_DEVICE_CPU
			   ? sli_put(sli_device(context), to->weights->values, values->values, bytes)
			   : sli_fetch(values->buffer.device, to->weights->values, values->values, bytes);
}

static sl_status copy_states(sl_context *context, sl_optimizer_entry *to, const sl_optimizer_entry *from) {
	memset(to->state, 0, sizeof to->state);
	for (int p = 0; p < SL_MAX_PARAMETERS; p++)
		for (int s = 0; s < SL_MAX_STATES; s++)
			SL_TRY(copy_buffer(context, &to->state[p][s], &from->state[p][s]));
	return SL_OK;
}

static sl_status take(sl_visit *v, int i) {
	sl_layer *layer = v->layers[i];
	visited *one = &v->of[i];
	*one = (visited){.was = *layer, .there = true};
	one->entry = v->optimizer ? sli_optimizer_find(v->optimizer, layer) : NULL;
	if (layer->weights && layer->weights->device != SL_DEVICE_CPU && !layer->weights->buffer.device)
		return sli_fail(v->context, SL_ERR_UNSUPPORTED, "layer \"%s\" has weights in borrowed memory", layer->name);
	SL_TRY(copy_layer(v->host, layer, &one->was));
	if (!one->entry)
		return SL_OK;
	one->entry_was = *one->entry;
	return copy_states(v->host, one->entry, &one->entry_was);
}

/* As it was. */
static void restore(sl_visit *v, int i) {
	visited *one = &v->of[i];
	if (!one->there)
		return;
	free_layer(v->layers[i]);
	*v->layers[i] = one->was;
	if (!one->entry || one->entry_was.layer == NULL)
		return;
	sli_optimizer_free_states(one->entry);
	*one->entry = one->entry_was;
}

typedef struct returning {
	sl_layer layer;
	sl_optimizer_entry entry;
} returning;

/* The device's copies of what was edited. */
static sl_status build(sl_visit *v, int i, returning *r) {
	r->layer = *v->layers[i];
	SL_TRY(copy_layer(v->context, &r->layer, v->layers[i]));
	if (!v->of[i].entry)
		return SL_OK;
	r->entry = *v->of[i].entry;
	return copy_states(v->context, &r->entry, v->of[i].entry);
}

static void commit(sl_visit *v, int i, const returning *r) {
	visited *one = &v->of[i];
	free_layer(v->layers[i]);
	free_layer(&one->was);
	uint64_t plannings = v->layers[i]->plannings + one->was.plannings;
	*v->layers[i] = r->layer;
	v->layers[i]->plannings = plannings;
	if (!one->entry)
		return;
	sli_optimizer_free_states(one->entry);
	sli_optimizer_free_states(&one->entry_was);
	*one->entry = r->entry;
}

static bool edited(const sl_visit *v, int i) {
	return v->layers[i]->edition != v->of[i].was.edition;
}

static sl_status bring_back(sl_visit *v) {
	void *memory;
	size_t bytes = (size_t)v->count * sizeof(returning);
	SL_TRY(sli_allocate_zeroed(v->context, bytes, "edits of layers", &memory));
	returning *r = memory;
	sl_status status = SL_OK;
	for (int i = 0; i < v->count && status == SL_OK; i++)
		if (edited(v, i))
			status = build(v, i, &r[i]);
	for (int i = 0; i < v->count; i++)
		if (status == SL_OK && edited(v, i)) {
			commit(v, i, &r[i]);
			v->of[i].there = false;
		} else if (r[i].layer.heap) {
			free_layer(&r[i].layer);
			sli_optimizer_free_states(&r[i].entry);
		}
	sli_heap_free(sli_heap(v->context), memory, bytes);
	return status;
}

static void restore_all(sl_visit *v) {
	for (int i = 0; i < v->count; i++)
		restore(v, i);
	sli_heap_free(sli_heap(v->context), v->of, (size_t)v->count * sizeof *v->of);
	v->of = NULL;
}

sl_status sli_visit_begin(sl_visit *v, sl_context *context, sl_layer *const *layers, int count,
						  sl_optimizer *optimizer) {
	void *memory;
	*v = (sl_visit){.context = context, .layers = layers, .count = count, .optimizer = optimizer};
	SL_TRY(sli_host_context(context, &v->host));
	if (v->host == context)
		return SL_OK;
	SL_TRY(sli_allocate_zeroed(context, (size_t)count * sizeof *v->of, "edits of layers", &memory));
	v->of = memory;
	sl_status status = SL_OK;
	for (int i = 0; i < count && status == SL_OK; i++)
		status = take(v, i);
	if (status != SL_OK)
		restore_all(v);
	return status;
}

sl_status sli_visit_end(sl_visit *v, sl_status status) {
	if (!v->of)
		return status;
	if (status == SL_OK)
		status = bring_back(v);
	restore_all(v);
	return status;
}
