/* SPDX-License-Identifier: Apache-2.0 */
/* Gradients from the layers to the wire, and their sums back. */

#include "core/checked.h"
#include "core/profile.h"
#include "train/parallel.h"

enum { PIECE = 1 << 14 };

/* to = factor * from, or to += from. */
typedef struct moving {
	void *to;
	const void *from;
	int64_t count;
	double factor;
	bool add, f32;
} moving;

static void move_piece(void *argument, size_t index) {
	const moving *m = argument;
	int64_t begin = (int64_t)index * PIECE, end = begin + PIECE < m->count ? begin + PIECE : m->count;
	if (m->f32) {
		float *to = m->to, factor = (float)m->factor;
		const float *from = m->from;
		for (int64_t i = begin; i < end; i++)
			to[i] = m->add ? to[i] + from[i] : factor * from[i];
	} else {
		double *to = m->to;
		const double *from = m->from;
		for (int64_t i = begin; i < end; i++)
			to[i] = m->add ? to[i] + from[i] : m->factor * from[i];
	}
}

static void move(sl_context *context, const sl_parallel *p, void *to, const void *from, int64_t count, double factor,
				 bool add) {
	moving m = {to, from, count, factor, add, p->dtype == SL_F32};
	sli_parallel(context, (size_t)sli_ceil_div(count, PIECE), move_piece, &m);
}

static char *at(const sl_parallel *p, int node, int64_t offset) {
	return (char *)p->nodes[node] + (size_t)offset * sl_dtype_size(p->dtype);
}

static int64_t layer_end(const sl_parallel *p, int layer) {
	return layer ? p->starts[layer - 1] : p->elements;
}

sl_status sli_parallel_pack(void *self, sl_context *context, int index) {
	sl_parallel *p = self;
	const sl_layer *layer = p->model->layers[index];
	int64_t start = p->starts[index], count = layer_end(p, index) - start;
	int64_t bias = layer->has_bias ? layer->out_features : 0;
	int top = p->height, merges = sli_tree_merges(&p->tree, p->part);
	if (p->factor > 0) {
		move(context, p, at(p, top, start), layer->gradient.data, count - bias, p->factor, false);
		move(context, p, at(p, top, start + count - bias), layer->bias_gradient.data, bias, p->factor, false);
	} else {
		memset(at(p, top, start), 0, (size_t)count * sl_dtype_size(p->dtype));
	}
	if (p->rows && !index)
		SL_TRY(sli_rows_keep(context, p));
	for (int m = 0; m < merges; m++)
		sli_add_vectors(context, at(p, top - m - 1, start), at(p, top - m, start), count, p->dtype);
	return p->last ? sli_parallel_begin_sums(context, p, start + count) : SL_OK;
}

static sl_status begin(sl_context *context, sl_parallel *p, sl_bucket *b) {
	if (p->fixed)
		return sli_tree_begin(context, p->comm, &p->tree, &b->sum, p->nodes, b->offset, b->count, p->dtype, b->room);
	if (!p->options.shard_state)
		return sli_comm_sum(context, p->comm, at(p, 0, b->offset), b->count, p->dtype, &b->request);
	size_t size = sl_dtype_size(p->dtype), bytes = (size_t)b->count * size;
	memcpy(b->room, at(p, 0, b->offset), bytes);
	memset(b->room + bytes, 0, (size_t)(b->part * p->tree.size) * size - bytes);
	sl_comm_call call = {.kind = SL_CALL_REDUCE_SCATTER,
						 .send = b->room,
						 .recv = b->room + (size_t)(b->part * p->tree.size) * size,
						 .count = b->part,
						 .dtype = p->dtype,
						 .on_host = true};
	return sli_comm_call(context, p->comm, &call, &b->request);
}

sl_status sli_parallel_begin_sums(sl_context *context, sl_parallel *p, int64_t up_to) {
	for (; p->sent < p->bucket_count; p->sent++) {
		sl_bucket *b = &p->buckets[p->sent];
		if (b->offset + b->count > up_to)
			break;
		if (!p->sent)
			p->began = sli_seconds();
		SL_TRY(begin(context, p, b));
	}
	return SL_OK;
}

/* Sums to the layers' gradients, or added to them. */
static void unpack(sl_context *context, sl_parallel *p, const void *from, bool add) {
	size_t size = sl_dtype_size(p->dtype);
	for (int i = 0; i < p->model->count; i++) {
		sl_layer *layer = p->model->layers[i];
		int64_t start = p->starts[i], count = layer_end(p, i) - start;
		int64_t bias = layer->has_bias ? layer->out_features : 0;
		const char *sums = (const char *)from + (size_t)start * size;
		move(context, p, layer->gradient.data, sums, count - bias, 1, add);
		move(context, p, layer->bias_gradient.data, sums + (size_t)(count - bias) * size, bias, 1, add);
	}
}

sl_status sli_parallel_hold(sl_context *context, sl_parallel *p) {
	size_t size = sl_dtype_size(p->dtype), bytes = (size_t)p->elements * size;
	if (bytes > p->held_bytes) {
		void *memory;
		SL_TRY(sli_allocate(context, bytes, "gradients that are added to", &memory));
		sli_heap_free(p->heap, p->held, p->held_bytes);
		p->held = memory;
		p->held_bytes = bytes;
	}
	for (int i = 0; i < p->model->count; i++) {
		const sl_layer *layer = p->model->layers[i];
		int64_t count = layer_end(p, i) - p->starts[i], bias = layer->has_bias ? layer->out_features : 0;
		char *to = (char *)p->held + (size_t)p->starts[i] * size;
		move(context, p, to, layer->gradient.data, count - bias, 1, false);
		move(context, p, to + (size_t)(count - bias) * size, layer->bias_gradient.data, bias, 1, false);
	}
	return p->rows ? sli_rows_hold(context, p) : SL_OK;
}

sl_status sli_parallel_end_sums(sl_context *context, sl_parallel *p, sl_write write) {
	double began = sli_seconds();
	/* All ranks begin the gathering calls in this order, after all of the others. */
	for (int i = 0; i < p->bucket_count; i++) {
		sl_bucket *b = &p->buckets[i];
		if (p->fixed && !p->options.shard_state)
			SL_TRY(sli_tree_gather(context, p->comm, &p->tree, &b->sum));
		else if (p->fixed)
			SL_TRY(sli_tree_fold(context, p->comm, &p->tree, &b->sum, &b->segment));
		else
			SL_TRY(sli_comm_wait(context, p->comm, &b->request));
	}
	for (int i = 0; p->fixed && !p->options.shard_state && i < p->bucket_count; i++)
		SL_TRY(sli_tree_end(context, p->comm, &p->tree, &p->buckets[i].sum));
	if (p->rows)
		SL_TRY(sli_rows_sum(context, p, write));
	p->ended = sli_seconds();
	p->waited = p->ended - began;
	if (p->options.shard_state)
		return SL_OK;
	if (write == SL_ACCUMULATE)
		unpack(context, p, p->held, false);
	unpack(context, p, p->nodes[0], write == SL_ACCUMULATE);
	return SL_OK;
}
