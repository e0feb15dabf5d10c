/* SPDX-License-Identifier: Apache-2.0 */
/* Which rank has which rows, and what ranks tell one another of their blocks. */
#include "layers/divided.h"

#include <stdio.h>

#include "core/checked.h"

void sli_divide_rows(const void *offsets, sl_dtype dtype, int64_t rows, int64_t blocks, int64_t *starts) {
	int64_t row = 0, nnz = offsets ? sli_index(offsets, dtype, rows) : 0, first, count;
	for (int64_t b = 0; b < blocks; b++) {
		if (!nnz) {
			sl_comm_share(rows, (int)b, (int)blocks, &first, &count);
			starts[b] = first;
			continue;
		}
		/* The row where the nonzeros before it are nearest to b's share. */
		double wanted = (double)nnz * (double)b / (double)blocks;
		while (row < rows &&
			   (double)sli_index(offsets, dtype, row + 1) - wanted < wanted - (double)sli_index(offsets, dtype, row))
			row++;
		starts[b] = row;
	}
	starts[blocks] = rows;
}

static void free_room(struct sl_divided *d) {
	for (int i = 0; i < d->own_count; i++)
		sli_buffer_destroy(&d->own[i]);
	for (int i = 0; i < d->node_count; i++)
		sli_buffer_destroy(&d->nodes[i]);
	sli_heap_free(d->heap, d->own, (size_t)d->own_count * sizeof *d->own);
	sli_heap_free(d->heap, d->nodes, (size_t)d->node_count * sizeof *d->nodes);
	sli_buffer_destroy(&d->part);
	sli_buffer_destroy(&d->wire);
	sli_buffer_destroy(&d->sums);
	d->own = d->nodes = NULL;
	d->own_count = d->node_count = 0;
}

void sli_divided_destroy(struct sl_divided *d) {
	if (!d)
		return;
	sl_heap *heap = d->heap;
	free_room(d);
	for (int i = 0; i < d->count; i++)
		sli_heap_free(heap, d->stages[i].rows, (size_t)(d->stages[i].tree.leaves + 1) * sizeof(int64_t));
	sli_heap_free(heap, d->stages, (size_t)d->capacity * sizeof *d->stages);
	sli_heap_free(heap, d, sizeof *d);
	sli_heap_release(heap);
}

sl_status sli_divided_begin(sl_context *context, sl_model *model, sl_comm *comm) {
	void *memory;
	if (model->divided)
		return SL_OK;
	SL_TRY(sli_allocate_zeroed(context, sizeof(struct sl_divided), "a model's division", &memory));
	struct sl_divided *d = memory;
	d->heap = sli_heap_retain(sli_heap(context));
	d->comm = comm;
	model->divided = d;
	sl_status status = SL_OK;
	for (int i = 0; i < model->count && status == SL_OK; i++)
		status = sli_divided_add(context, model, i, false);
	if (status != SL_OK) {
		sli_divided_destroy(d);
		model->divided = NULL;
	}
	return status;
}

/* What one rank says of its blocks. */
typedef struct saying {
	int64_t blocks, in_features, dtype, activation, bias, status;
} saying;
enum { WORDS = sizeof(saying) / sizeof(int64_t) };

static sl_status compare(sl_context *context, const saying *all, int size) {
	const char *const names[] = {"blocks", "in_features", "dtype", "activation", "bias"};
	for (int w = 1; w < 5; w++)
		for (int r = 1; r < size; r++)
			if (((const int64_t *)&all[r])[w] != ((const int64_t *)&all[0])[w])
				return sli_fail(
					context, SL_ERR_DISAGREE, "rank %d of %d has blocks of other %s than rank 0: %lld, and not %lld", r,
					size, names[w], (long long)((const int64_t *)&all[r])[w], (long long)((const int64_t *)&all[0])[w]);
	return SL_OK;
}

/* How many blocks there are, and that ranks have their shares of them. */
static sl_status count_blocks(sl_context *context, const sl_comm *comm, const saying *all, int64_t *blocks) {
	int64_t first, count;
	*blocks = 0;
	for (int r = 0; r < comm->info.size; r++)
		*blocks += all[r].blocks;
	for (int r = 0; r < comm->info.size; r++) {
		sl_comm_share(*blocks, r, comm->info.size, &first, &count);
		if (all[r].blocks != count || !count)
			return sli_fail(
				context, SL_ERR_DISAGREE,
				"rank %d of %d has %lld blocks; of %lld it must have %lld, and at least one, which may have no "
				"rows",
				r, comm->info.size, (long long)all[r].blocks, (long long)*blocks, (long long)count);
	}
	return SL_OK;
}

/* Rows of every block, in order: each rank puts in its own. */
static sl_status gather_rows(sl_context *context, const sl_model *model, sl_stage *s) {
	const struct sl_divided *d = model->divided;
	void *memory;
	SL_TRY(sli_allocate_zeroed(context, (size_t)(s->tree.leaves + 1) * sizeof *s->rows, "rows by rank", &memory));
	s->rows = memory;
	for (int i = 0; i < s->count; i++)
		s->rows[1 + s->tree.first + i] = model->layers[s->first + i]->out_features;
	SL_TRY(sli_comm_sum(context, d->comm, s->rows + 1, s->tree.leaves, SL_I64, NULL));
	for (int64_t b = 0; b < s->tree.leaves; b++)
		if (!sli_add(s->rows[b], s->rows[b + 1], &s->rows[b + 1]))
			return sli_fail(context, SL_ERR_OVERFLOW, "the blocks have more rows than 64 bits count");
	s->out_features = s->rows[s->tree.leaves];
	for (int r = 0; r < d->comm->info.size; r++) {
		int64_t first, count;
		sl_comm_share(s->tree.leaves, r, d->comm->info.size, &first, &count);
		int64_t rows = s->rows[first + count] - s->rows[first];
		s->most_rows = rows > s->most_rows ? rows : s->most_rows;
	}
	return SL_OK;
}

static sl_status meet(sl_context *context, sl_model *model, sl_stage *s, saying *all) {
	struct sl_divided *d = model->divided;
	const sl_layer *one = s->count ? model->layers[s->first] : NULL;
	int64_t blocks = 0;
	saying own = {.blocks = s->count};
	if (one) {
		double parameter = one->activation_parameter;
		int64_t bits;
		memcpy(&bits, &parameter, sizeof bits);
		own.in_features = one->in_features;
		own.dtype = one->dtype;
		own.activation = one->activation ^ bits;
		own.bias = one->has_bias;
	}
	SL_TRY(sli_comm_gather(context, d->comm, &own, all, WORDS, SL_I64));
	SL_TRY(count_blocks(context, d->comm, all, &blocks));
	SL_TRY(compare(context, all, d->comm->info.size));
	sli_tree_init(&s->tree, blocks, d->comm->info.rank, d->comm->info.size);
	SL_TRY(gather_rows(context, model, s));
	for (int i = 0; i < s->count; i++)
		model->layers[s->first + i]->place = 1 + s->first_leaf + s->tree.first + i;
	return SL_OK;
}

sl_status sli_divided_add(sl_context *context, sl_model *model, int first, bool divided) {
	struct sl_divided *d = model->divided;
	void *all = NULL;
	size_t bytes = (size_t)d->comm->info.size * sizeof(saying);
	const sl_stage *before = d->count ? &d->stages[d->count - 1] : NULL;
	sl_stage s = {.first = first, .count = model->count - first, .divided = divided};
	s.first_leaf = before ? before->first_leaf + (before->divided ? before->tree.leaves : 1) : 0;
	s.count = divided ? s.count : 1;
	sl_status status = sli_grow(context, d->heap, (void **)&d->stages, &d->capacity, d->count + 1, sizeof *d->stages,
								"a model's stages");
	if (divided && status == SL_OK)
		status = sli_allocate(context, bytes, "what ranks say of their blocks", &all);
	if (divided) {
		status = sli_comm_settle(context, d->comm, status);
		if (status == SL_OK)
			status = meet(context, model, &s, all);
		sli_heap_free(sli_heap(context), all, all ? bytes : 0);
	} else if (status == SL_OK) {
		s.out_features = model->layers[first]->out_features;
		model->layers[first]->place = 1 + s.first_leaf;
	}
	if (status != SL_OK) {
		sli_heap_free(d->heap, s.rows, s.rows ? (size_t)(s.tree.leaves + 1) * sizeof *s.rows : 0);
		return status;
	}
	s.in_features = model->layers[first]->in_features;
	d->stages[d->count++] = s;
	return SL_OK;
}

sl_status sli_divided_sum(sl_context *context, const sl_model *model, const double *numbers, double *sum) {
	const struct sl_divided *d = model->divided;
	const sl_stage *last = &d->stages[d->count - 1];
	int64_t all = last->first_leaf + (last->divided ? last->tree.leaves : 1);
	sl_arena_mark mark = sli_arena_mark(context);
	double *list = NULL;
	SL_TRY(sli_arena_take(context, (size_t)all * sizeof *list, (void **)&list));
	memset(list, 0, (size_t)all * sizeof *list);
	/* One rank speaks for what all have. */
	for (int i = 0; i < d->count; i++)
		for (int k = 0; k < d->stages[i].count; k++)
			if (d->stages[i].divided || d->comm->info.rank == 0)
				list[model->layers[d->stages[i].first + k]->place - 1] = numbers[d->stages[i].first + k];
	sl_status status = sli_comm_sum(context, d->comm, list, all, SL_F64, NULL);
	*sum = 0;
	for (int64_t i = 0; i < all; i++)
		*sum += list[i];
	sli_arena_reset(context, mark);
	return status;
}

static sl_status grow(sl_context *context, sl_buffer *buffer, int64_t elements, sl_dtype dtype, const char *what) {
	size_t bytes;
	if (elements < 0 || !sli_bytes(elements, sl_dtype_size(dtype), &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%s of a divided layer do not fit in memory", what);
	return sli_buffer_create(buffer, context, bytes, true, what);
}

/* Rows by columns padded to whole panels, times how often; -1: too many. */
static int64_t elements(const sl_model_room *room, int64_t rows, int64_t times) {
	int64_t n = sli_ceil_div(room->max_batch, room->width) * room->width;
	return sli_mul(n, rows, &n) && sli_mul(n, times, &n) ? n : -1;
}

static int64_t part_rows(const struct sl_divided *d, int boundary) {
	if (boundary && d->stages[boundary - 1].divided)
		return d->stages[boundary - 1].most_rows;
	int64_t features = boundary ? d->stages[boundary - 1].out_features : d->stages[0].in_features;
	return sli_ceil_div(features, d->comm->info.size);
}

static sl_status fill_room(sl_context *context, const sl_model *model, const sl_model_room *room) {
	struct sl_divided *d = model->divided;
	sl_dtype dtype = model->layers[0]->dtype;
	int64_t most = 0, below = 0, sums = 0, size = d->comm->info.size;
	int depth = 0;
	void *memory;
	SL_TRY(sli_allocate_zeroed(context, (size_t)d->count * sizeof *d->own, "blocks' outputs", &memory));
	d->own = memory;
	d->own_count = d->count;
	for (int i = 0; i < d->count; i++) {
		const sl_stage *s = &d->stages[i];
		int64_t rows = part_rows(d, i);
		most = rows > most ? rows : most;
		if (!s->divided)
			continue;
		most = s->most_rows > most ? s->most_rows : most;
		SL_TRY(grow(context, &d->own[i], elements(room, s->most_rows, 1), dtype, "blocks' outputs"));
		below = rows > below ? rows : below;
		int own_depth = sli_tree_depth(&s->tree);
		depth = own_depth > depth ? own_depth : depth;
		int64_t each = (2 * (int64_t)s->tree.most_nodes + 1) * size * rows;
		sums = each > sums ? each : sums;
	}
	SL_TRY(grow(context, &d->wire, elements(room, most, size), dtype, "gathered activations"));
	if (!room->training)
		return SL_OK;
	SL_TRY(grow(context, &d->part, elements(room, most, 1), dtype, "gradients of outputs"));
	SL_TRY(grow(context, &d->sums, elements(room, sums, 1), dtype, "sums of gradients"));
	SL_TRY(sli_allocate_zeroed(context, (size_t)depth * sizeof *d->nodes, "sums of gradients", &memory));
	d->nodes = memory;
	d->node_count = depth;
	for (int i = 0; i < depth; i++)
		SL_TRY(grow(context, &d->nodes[i], elements(room, below, size), dtype, "sums of gradients"));
	return SL_OK;
}

sl_status sli_divided_room(sl_context *context, sl_model *model, const sl_model_room *room) {
	free_room(model->divided);
	sl_status status = fill_room(context, model, room);
	if (status != SL_OK)
		free_room(model->divided);
	return status;
}
