/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growth by gradient where inputs are sparse: W is kept by feature, and of the dense gradient only the rows of the
 * batch's features are other than zero. They are made a tile at a time and forgotten, but for the best: what a neuron,
 * a column here, may gain is kept in a short list of its own.
 */
#include "core/checked.h"
#include "core/host.h"
#include "ops/ops.h"
#include "train/edit.h"

enum { TILE = 1 << 16, COLUMNS = 32, ROWS = 16 };

/* The best of a neuron so far: the worst of them is at `worst`. */
typedef struct bests {
	int64_t count, worst;
	uint64_t least; /* of a full list: the worst key */
} bests;

typedef struct growing {
	const sl_layer *layer;
	sl_pattern_arrays pattern; /* [in, out] */
	sl_sparse_groups groups;
	sl_dense dz; /* [batch, out] row-major */
	int64_t out, limit, tile_rows;
	void *tile;          /* rows of groups [first, first + rows) */
	int64_t *row_starts; /* of a tile's rows in it */
	int64_t first, rows;
	bests *column;         /* by neuron; NULL: any number, straight to the selection */
	sl_scored_cell *items; /* `limit` a neuron: cells are counted by group */
} growing;

/* Magnitudes in place of scores, those that the pattern has below all others. */
static void prepare(void *argument, size_t index) {
	const growing *g = argument;
	const sl_pattern_arrays *p = &g->pattern;
	int64_t begin = (int64_t)index * ROWS, end = begin + ROWS < g->rows ? begin + ROWS : g->rows;
	for (int64_t r = begin; r < end; r++) {
		int64_t feature = g->groups.columns[g->first + r], k = sli_index(p->row_offsets, p->offset_dtype, feature);
		int64_t stop = sli_index(p->row_offsets, p->offset_dtype, feature + 1);
		if (g->dz.dtype == SL_F32) {
			int32_t *row = (int32_t *)g->tile + r * g->out;
			for (int64_t c = 0; c < g->out; c++)
				row[c] &= INT32_MAX;
			for (; k < stop; k++)
				row[p->col_indices[k]] = -1;
		} else {
			int64_t *row = (int64_t *)g->tile + r * g->out;
			for (int64_t c = 0; c < g->out; c++)
				row[c] &= INT64_MAX;
			for (; k < stop; k++)
				row[p->col_indices[k]] = -1;
		}
	}
}

static void put(const growing *g, int64_t column, uint64_t key, int64_t group) {
	bests *b = &g->column[column];
	sl_scored_cell *list = g->items + column * g->limit;
	if (b->count < g->limit) {
		list[b->count++] = (sl_scored_cell){key, group};
		if (b->count < g->limit)
			return;
	} else {
		list[b->worst] = (sl_scored_cell){key, group};
	}
	b->worst = 0;
	for (int64_t i = 1; i < g->limit; i++)
		if (list[i].key < list[b->worst].key ||
			(list[i].key == list[b->worst].key && list[i].cell > list[b->worst].cell))
			b->worst = i;
	b->least = list[b->worst].key;
}

/* Groups come in increasing order, so of equal keys the first is there already. */
static void offer_columns(void *argument, size_t index) {
	const growing *g = argument;
	int64_t begin = (int64_t)index * COLUMNS, end = begin + COLUMNS < g->out ? begin + COLUMNS : g->out;
	bool f32 = g->dz.dtype == SL_F32;
	for (int64_t r = 0; r < g->rows; r++)
		for (int64_t c = begin; c < end; c++) {
			int64_t bits =
				f32 ? ((const int32_t *)g->tile)[r * g->out + c] : ((const int64_t *)g->tile)[r * g->out + c];
			uint64_t key = f32 ? (uint64_t)bits << 32 : (uint64_t)bits;
			if (bits >= 0 && (g->column[c].count < g->limit || key > g->column[c].least))
				put(g, c, key, g->first + r);
		}
}

static sl_status group_batch(sl_context *context, const sl_layer *layer, const sl_sparse_batch *batch,
							 sl_sparse_groups *g) {
	size_t narrow = (size_t)batch->nnz * sizeof(int32_t), wide = (size_t)(batch->nnz + 1) * sizeof(int64_t);
	SL_TRY(sli_arena_take(context, narrow, (void **)&g->columns));
	SL_TRY(sli_arena_take(context, wide, (void **)&g->row_starts));
	SL_TRY(sli_arena_take(context, wide, (void **)&g->starts));
	SL_TRY(sli_arena_take(context, narrow, (void **)&g->samples));
	SL_TRY(sli_arena_take(context, wide, &g->values));
	sl_op_desc desc = {.kind = SL_OP_INPUT_GROUP,
					   .a = {.rows = batch->rows, .cols = batch->cols, .dtype = layer->dtype},
					   .b = {.rows = layer->in_features, .cols = layer->out_features, .dtype = layer->dtype},
					   .count = batch->nnz};
	sl_op_args args = {.batch = batch, .groups = g};
	return sli_run(context, &desc, &args);
}

/* Rows of the dense gradient for the tile's groups. */
static sl_status make_tile(sl_context *context, growing *g) {
	sl_sparse_groups part = g->groups;
	part.count = g->rows;
	part.columns += g->first;
	part.starts += g->first;
	part.row_starts = g->row_starts;
	sl_op_desc desc = {.kind = SL_OP_INPUT_GRAD,
					   .a = sli_desc(&g->dz),
					   .b = {.rows = g->layer->in_features, .cols = g->out, .dtype = g->dz.dtype},
					   .count = g->rows};
	sl_op_args args = {.a = g->dz, .values_out = g->tile, .groups = &part};
	return sli_run(context, &desc, &args);
}

static sl_status take_tiles(sl_context *context, growing *g, sl_selection *selection, int64_t base) {
	for (g->first = 0; g->first < g->groups.count; g->first += g->rows) {
		int64_t left = g->groups.count - g->first;
		g->rows = left < g->tile_rows ? left : g->tile_rows;
		SL_TRY(make_tile(context, g));
		if (g->column) {
			sli_parallel(context, (size_t)sli_ceil_div(g->rows, ROWS), prepare, g);
			sli_parallel(context, (size_t)sli_ceil_div(g->out, COLUMNS), offer_columns, g);
			continue;
		}
		sl_dense tile = sl_dense_view(g->tile, g->dz.dtype, g->rows, g->out);
		SL_TRY(sli_selection_offer_rows(context, selection, &g->pattern, base, g->groups.columns + g->first, &tile));
	}
	return SL_OK;
}

/* The neurons' lists by cell: a counting sort by group, neuron after neuron. */
static sl_status add_lists(sl_context *context, const growing *g, sl_selection *selection, int64_t base) {
	int64_t *begins, total = 0;
	sl_scored_cell *sorted;
	for (int64_t c = 0; c < g->out; c++)
		total += g->column[c].count;
	SL_TRY(sli_arena_take(context, (size_t)(g->groups.count + 1) * sizeof *begins, (void **)&begins));
	SL_TRY(sli_arena_take(context, (size_t)total * sizeof *sorted, (void **)&sorted));
	memset(begins, 0, (size_t)(g->groups.count + 1) * sizeof *begins);
	for (int64_t c = 0; c < g->out; c++)
		for (int64_t i = 0; i < g->column[c].count; i++)
			begins[g->items[c * g->limit + i].cell + 1]++;
	for (int64_t i = 0; i < g->groups.count; i++)
		begins[i + 1] += begins[i];
	for (int64_t c = 0; c < g->out; c++)
		for (int64_t i = 0; i < g->column[c].count; i++) {
			sl_scored_cell item = g->items[c * g->limit + i];
			int64_t at = begins[item.cell]++;
			sorted[at] = (sl_scored_cell){item.key, base + g->groups.columns[item.cell] * g->out + c};
		}
	return sli_selection_add(context, selection, sorted, total);
}

static sl_status offer(sl_context *context, growing *g, const sl_dense *dz, const sl_sparse_batch *batch,
					   sl_selection *selection, int64_t base) {
	int64_t cells;
	size_t bytes;
	SL_TRY(group_batch(context, g->layer, batch, &g->groups));
	g->tile_rows = TILE / (g->out ? g->out : 1);
	g->tile_rows = g->tile_rows < ROWS ? ROWS : g->tile_rows;
	g->dz = *dz;
	SL_TRY(sli_arena_take(context, (size_t)(g->tile_rows * g->out) * sl_dtype_size(dz->dtype), &g->tile));
	SL_TRY(sli_arena_take(context, (size_t)(g->tile_rows + 1) * sizeof(int64_t), (void **)&g->row_starts));
	for (int64_t r = 0; r <= g->tile_rows; r++)
		g->row_starts[r] = r * g->out;
	/* A neuron has no more candidates than there are features. */
	g->limit = selection->row_limit < g->groups.count ? selection->row_limit : g->groups.count;
	if (g->limit > 0) {
		if (!sli_mul(g->limit, g->out, &cells) || !sli_bytes(cells, sizeof *g->items, &bytes))
			return sli_fail(context, SL_ERR_OVERFLOW, "%lld candidates a neuron do not fit in memory",
							(long long)g->limit);
		SL_TRY(sli_arena_take(context, bytes, (void **)&g->items));
		SL_TRY(sli_arena_take(context, (size_t)g->out * sizeof *g->column, (void **)&g->column));
		memset(g->column, 0, (size_t)g->out * sizeof *g->column);
	}
	SL_TRY(take_tiles(context, g, selection, base));
	return g->column ? add_lists(context, g, selection, base) : SL_OK;
}

sl_status sli_offer_sparse_gradient(sl_context *context, const sl_layer *layer, const sl_dense *dz,
									const sl_sparse_batch *batch, sl_selection *selection, int64_t base) {
	growing g = {.layer = layer, .pattern = sli_pattern_arrays(layer->weights->pattern), .out = layer->out_features};
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = selection->want && batch->nnz ? offer(context, &g, dz, batch, selection, base) : SL_OK;
	sli_arena_reset(context, mark);
	return status;
}
