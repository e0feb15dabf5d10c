/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forward and backward of a model whose layers are divided over ranks. Forward: each rank has all inputs, computes its
 * rows of the outputs, and all gather them. Backward: each rank has the gradient of its rows, and its share of the
 * gradient of the inputs is added up over the ranks, each receiving the rows it needs below.
 *
 * What moves is cut in pieces: the rows of a block below, or, where nothing is divided there, each rank's share of the
 * features. A piece is panels [rows, batch] by itself, and a rank's pieces lie behind one another.
 */
#include "core/checked.h"
#include "layers/divided.h"
#include "layers/linear.h"

/* The pieces of a boundary. */
typedef struct pieces {
	const int64_t *rows; /* before each piece; NULL: features divided evenly */
	int64_t features, count, size;
	int64_t columns; /* of the batch, padded to whole panels */
	int64_t width;
	int64_t part; /* elements of a rank, at most */
	sl_dtype dtype;
} pieces;

static pieces pieces_at(const sl_model *model, int boundary, int64_t batch) {
	const struct sl_divided *d = model->divided;
	const sl_stage *s = boundary ? &d->stages[boundary - 1] : NULL;
	int64_t width = model->room.width;
	pieces p = {.features = s ? s->out_features : d->stages[0].in_features,
				.count = d->comm->info.size,
				.size = d->comm->info.size,
				.columns = sli_ceil_div(batch, width) * width,
				.width = width,
				.dtype = model->layers[0]->dtype};
	int64_t most = sli_ceil_div(p.features, p.size);
	if (s && s->divided) {
		p.rows = s->rows;
		p.count = s->tree.leaves;
		most = s->most_rows;
	}
	p.part = most * p.columns;
	return p;
}

/* Where piece i lies: rows [first, first + count), in the part of `rank`, at `offset` of it. */
typedef struct place {
	int64_t first, count, offset;
	int rank;
} place;

static int owner(const pieces *p, int64_t piece) {
	int64_t first, count;
	int rank = (int)(piece * p->size / p->count); /* near */
	for (rank = rank > 0 ? rank - 1 : 0;; rank++) {
		sl_comm_share(p->count, rank, (int)p->size, &first, &count);
		if (piece < first + count)
			return rank;
	}
}

static place place_of(const pieces *p, int64_t piece) {
	place at = {.rank = owner(p, piece)};
	if (!p->rows) {
		sl_comm_share(p->features, (int)piece, (int)p->size, &at.first, &at.count);
		return at;
	}
	int64_t first, count;
	sl_comm_share(p->count, at.rank, (int)p->size, &first, &count);
	at.first = p->rows[piece];
	at.count = p->rows[piece + 1] - at.first;
	at.offset = (at.first - p->rows[first]) * p->columns;
	return at;
}

/* Between panels of all features and parts. */
typedef struct moving {
	const pieces *p;
	char *whole, *parts; /* parts: of all ranks */
	bool out;            /* to the parts */
} moving;

static void move_piece(void *argument, size_t index) {
	const moving *m = argument;
	const pieces *p = m->p;
	place at = place_of(p, (int64_t)index);
	size_t size = sl_dtype_size(p->dtype), bytes = (size_t)(at.count * p->width) * size;
	char *part = m->parts + (size_t)(at.rank * p->part + at.offset) * size;
	for (int64_t panel = 0; panel < p->columns / p->width; panel++, part += bytes) {
		char *whole = m->whole + (size_t)((panel * p->features + at.first) * p->width) * size;
		memcpy(m->out ? part : whole, m->out ? whole : part, bytes);
	}
}

static void move_all(sl_context *context, const pieces *p, void *whole, void *parts, bool out) {
	moving m = {p, whole, parts, out};
	sli_parallel(context, (size_t)p->count, move_piece, &m);
}

/* Everybody's parts to everybody, and into the panels of all features. */
static sl_status gather(sl_context *context, sl_model *model, const pieces *p, const void *part, void *whole) {
	struct sl_divided *d = model->divided;
	sl_comm_call call = {.kind = SL_CALL_ALL_GATHER,
						 .send = part,
						 .recv = d->wire.data,
						 .count = p->part,
						 .dtype = p->dtype,
						 .on_host = true};
	SL_TRY(sli_comm_call(context, d->comm, &call, NULL));
	move_all(context, p, whole, d->wire.data, false);
	return SL_OK;
}

/* Block i of this rank in a part of panels [rows, batch]. */
static sl_dense block_rows(sl_context *context, const sl_model *model, const sl_stage *s, int i, void *part,
						   int64_t batch) {
	int64_t before = s->rows[s->tree.first + i] - s->rows[s->tree.first], width = model->room.width;
	const sl_layer *layer = model->layers[s->first + i];
	size_t offset = (size_t)(before * sli_ceil_div(batch, width) * width) * sl_dtype_size(layer->dtype);
	return sli_panels(context, (char *)part + offset, layer->dtype, layer->out_features, batch, width);
}

static sl_status forward_blocks(sl_context *context, sl_model *model, int stage, int64_t batch, bool training) {
	struct sl_divided *d = model->divided;
	const sl_stage *s = &d->stages[stage];
	sl_dense x = sli_model_activation(context, model, stage, batch);
	sl_dense all = sli_model_activation(context, model, stage + 1, batch);
	for (int i = 0; i < s->count; i++) {
		sl_dense y = block_rows(context, model, s, i, d->own[stage].data, batch);
		SL_TRY(sli_layer_forward(context, model->layers[s->first + i], &x, &y,
								 training ? model->room.saved[s->first + i] : NULL));
	}
	pieces p = pieces_at(model, stage + 1, batch);
	return gather(context, model, &p, d->own[stage].data, all.data);
}

sl_status sli_divided_run(sl_context *context, sl_model *model, int64_t batch, sl_mode mode) {
	const struct sl_divided *d = model->divided;
	bool training = mode == SL_MODE_TRAINING;
	for (int i = 0; i < d->count; i++) {
		const sl_stage *s = &d->stages[i];
		SL_TRY(s->divided ? forward_blocks(context, model, i, batch, training)
						  : sli_model_run_layer(context, model, s->first, i, batch, training));
	}
	return SL_OK;
}

/* Where the gradient of a boundary is. */
typedef struct flow {
	int buffer;   /* panels of all features: a gradient buffer of the room */
	bool in_part; /* this rank's rows alone, in d->part */
} flow;

/* This rank's rows of a gradient that is there as a whole. */
static void take_part(const sl_model *model, const pieces *p, const void *whole) {
	struct sl_divided *d = model->divided;
	int64_t first, count;
	sl_comm_share(p->count, d->comm->info.rank, (int)p->size, &first, &count);
	moving m = {p, (char *)(uintptr_t)whole,
				(char *)d->part.data - (size_t)(d->comm->info.rank * p->part) * sl_dtype_size(p->dtype), true};
	for (int64_t i = first; i < first + count; i++)
		move_piece(&m, (size_t)i);
}

/* The blocks' gradients of their inputs, added up as far as this rank can: in d->nodes. */
static sl_status back_blocks(sl_context *context, sl_model *model, int stage, int scratch, bool wanted,
							 sl_write write) {
	struct sl_divided *d = model->divided;
	const sl_stage *s = &d->stages[stage];
	int64_t batch = model->batch;
	pieces below = pieces_at(model, stage, batch);
	int height = 0;
	for (int i = 0; i < s->count; i++) {
		sl_layer *layer = model->layers[s->first + i];
		sl_dense dy = block_rows(context, model, s, i, d->part.data, batch);
		sl_dense dx = sli_model_gradient(context, model, scratch, layer->in_features, batch);
		SL_TRY(sli_layer_backward_watched(context, layer, model->room.saved[s->first + i], &dy, wanted ? &dx : NULL,
										  write, model->watch.see ? &model->watch : NULL));
		if (!wanted)
			continue;
		move_all(context, &below, dx.data, d->nodes[height].data, true);
		int merges = sli_tree_merges(&s->tree, i);
		for (int m = 0; m < merges; m++)
			sli_add_vectors(context, d->nodes[height - m - 1].data, d->nodes[height - m].data, below.part * below.size,
							below.dtype);
		height += 1 - merges;
	}
	for (int i = s->count - 1; i >= 0 && model->done; i--)
		SL_TRY(model->done(model->done_self, context, s->first + i));
	return SL_OK;
}

/* The ranks' sums: this rank's part of it in d->part, or all of it in a gradient buffer. */
static sl_status sum_up(sl_context *context, sl_model *model, int stage, bool whole, void *to) {
	struct sl_divided *d = model->divided;
	const sl_stage *s = &d->stages[stage];
	pieces p = pieces_at(model, stage, model->batch);
	void *nodes[64], *part;
	sl_tree_sum sum;
	for (int i = 0; i < d->node_count; i++)
		nodes[i] = d->nodes[i].data;
	if (!p.part)
		return SL_OK;
	SL_TRY(sli_tree_begin(context, d->comm, &s->tree, &sum, nodes, 0, p.part * p.size, p.dtype, d->sums.data));
	SL_TRY(sli_tree_fold(context, d->comm, &s->tree, &sum, &part));
	if (whole)
		return gather(context, model, &p, part, to);
	memcpy(d->part.data, part, (size_t)p.part * sl_dtype_size(p.dtype));
	return SL_OK;
}

static sl_status back_stage(sl_context *context, sl_model *model, int stage, flow *f, sl_dense *dx, sl_write write) {
	const struct sl_divided *d = model->divided;
	const sl_stage *s = &d->stages[stage];
	int64_t batch = model->batch;
	sl_dense dy = sli_model_gradient(context, model, f->buffer, s->out_features, batch);
	sl_dense below = sli_model_gradient(context, model, 1 - f->buffer, s->in_features, batch);
	if (!s->divided) {
		SL_TRY(sli_model_back_layer(context, model, s->first, &dy, stage ? &below : dx, write));
		f->buffer = 1 - f->buffer;
		return SL_OK;
	}
	if (!f->in_part) {
		pieces own = pieces_at(model, stage + 1, batch);
		take_part(model, &own, dy.data);
	}
	SL_TRY(back_blocks(context, model, stage, 1 - f->buffer, stage || dx, write));
	if (!stage && !dx)
		return SL_OK;
	bool whole = !stage || !d->stages[stage - 1].divided;
	SL_TRY(sum_up(context, model, stage, whole, below.data));
	f->in_part = !whole;
	f->buffer = whole ? 1 - f->buffer : f->buffer;
	return stage ? SL_OK : sli_convert(context, &below, dx);
}

sl_status sli_divided_back(sl_context *context, sl_model *model, sl_dense *dx, sl_write write) {
	flow f = {0, false};
	for (int i = model->divided->count - 1; i >= 0; i--)
		SL_TRY(back_stage(context, model, i, &f, dx, write));
	return SL_OK;
}
