/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scores for growth by gradient (Evci et al. 2020): |dL/dW| = |dZ X^T| where there is no weight yet. The dense
 * gradient never exists: rows of it are made a tile at a time, and what is not among the best so far is forgotten.
 */
#include <math.h>

#include "core/checked.h"
#include "core/host.h"
#include "layers/linear.h"
#include "ops/ops.h"
#include "train/edit.h"

enum { TILE = 1 << 17, LEAST_ROWS = 16 };

int64_t sli_growth_limit(double spread, int64_t count, int64_t neurons) {
	double limit = neurons ? ceil(spread * (double)count / (double)neurons) : 0;
	return limit < (double)INT64_MAX ? (int64_t)limit : 0;
}

static sl_status whole(sl_context *context, const sl_dense *panels, sl_dense *rows) {
	size_t bytes;
	int64_t count;
	void *data;
	if (!sli_mul(panels->rows, panels->cols, &count) || !sli_bytes(count, sl_dtype_size(panels->dtype), &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld features of a batch of %lld do not fit in memory",
						(long long)panels->rows, (long long)panels->cols);
	SL_TRY(sli_arena_take(context, bytes, &data));
	*rows = *panels;
	rows->data = data;
	rows->order = SL_ROW_MAJOR;
	rows->ld = panels->cols ? panels->cols : 1;
	return sli_convert(context, panels, rows);
}

sl_status sli_gradient_tile(sl_context *context, const sl_dense *dz, const sl_dense *x, int64_t row, sl_dense *tile) {
	sl_dense part = *dz, b = sl_dense_transposed(*x);
	part.rows = tile->rows;
	part.data = (char *)dz->data + (size_t)(row * dz->ld) * sl_dtype_size(dz->dtype);
	sl_op_desc desc = {.kind = SL_OP_GEMM, .a = sli_desc(&part), .b = sli_desc(&b), .c = sli_desc(tile)};
	sl_op_args args = {.alpha = 1, .a = part, .b = b, .c = *tile};
	return sli_run(context, &desc, &args);
}

static sl_status own_tile(void *self, sl_context *context, const sl_layer *layer, int64_t row, sl_dense *tile) {
	const sl_dense *both = self;
	(void)layer;
	return sli_gradient_tile(context, &both[0], &both[1], row, tile);
}

/* Rows [row, row + rows), where the backend finds the best of each itself. */
static sl_status offer_best(sl_context *context, const sl_dense *both, const sl_pattern_arrays *pattern, int64_t row,
							int64_t rows, sl_selection *selection, int64_t base) {
	sl_dense a = both[0], b = sl_dense_transposed(both[1]);
	int64_t most = selection->row_limit;
	void *memory;
	a.rows = rows;
	a.data = (char *)a.data + (size_t)(row * a.ld) * sl_dtype_size(a.dtype);
	SL_TRY(sli_arena_take(context, (size_t)(rows * (1 + 2 * most)) * sizeof(int32_t), &memory));
	int32_t *count = memory;
	sl_op_desc desc = {.kind = SL_OP_TOP, .a = sli_desc(&a), .b = sli_desc(&b), .count = most};
	desc.sparse.arrays = *pattern;
	desc.sparse.arrays.row_offsets =
		(const char *)pattern->row_offsets + (size_t)row * sl_dtype_size(pattern->offset_dtype);
	sl_op_args args = {.a = a,
					   .b = b,
					   .count = sli_selection_least(selection),
					   .vector = {count, count + rows, count + rows * (1 + most)}};
	SL_TRY(sli_run(context, &desc, &args));
	return sli_selection_take(context, selection, base,
							  &(sl_row_bests){row, rows, b.cols, most, count, args.vector[1], args.vector[2]});
}

/* Whether the backend does so. */
static bool finds_best(sl_context *context, const sl_dense *both, const sl_selection *selection) {
	sl_device_state *state = sli_device(context);
	sl_dense b = sl_dense_transposed(both[1]);
	sl_op_desc desc = {.kind = SL_OP_TOP, .a = sli_desc(&both[0]), .b = sli_desc(&b), .count = selection->row_limit};
	sl_candidate one;
	return !selection->width && selection->row_limit > 0 &&
		   state->backend->candidates(state->device, &desc, &one, 1) > 0;
}

static sl_status offer_own(sl_context *context, const sl_layer *layer, const sl_dense *both, sl_selection *selection,
						   int64_t base) {
	int64_t out = layer->out_features, rows = sli_selection_rows(selection, selection->row_limit);
	sl_pattern_arrays pattern = sli_pattern_arrays(layer->weights->pattern);
	for (int64_t r = 0; r < out; r += rows) {
		sl_arena_mark mark = sli_arena_mark(context);
		sl_status status = offer_best(context, both, &pattern, r, out - r < rows ? out - r : rows, selection, base);
		sli_arena_reset(context, mark);
		SL_TRY(status);
	}
	return SL_OK;
}

static sl_status offer(sl_context *context, const sl_layer *layer, const sl_tiles *tiles, sl_selection *selection,
					   int64_t base) {
	int64_t out = layer->out_features, in = layer->in_features, rows = TILE / (in ? in : 1) / LEAST_ROWS * LEAST_ROWS;
	sl_pattern_arrays pattern = sli_pattern_arrays(layer->weights->pattern);
	void *data;
	rows = rows < LEAST_ROWS ? LEAST_ROWS : rows > out ? out : rows;
	SL_TRY(sli_arena_take(context, (size_t)(rows * in) * sl_dtype_size(layer->dtype), &data));
	for (int64_t r = 0; r < out; r += rows) {
		sl_dense tile = sl_dense_view(data, layer->dtype, out - r < rows ? out - r : rows, in);
		SL_TRY(tiles->make(tiles->self, context, layer, r, &tile));
		SL_TRY(sli_selection_offer(context, selection, &pattern, base, r, &tile));
	}
	return SL_OK;
}

sl_status sli_offer_tiles(sl_context *context, const sl_layer *layer, const sl_tiles *tiles, sl_selection *selection,
						  int64_t base) {
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = offer(context, layer, tiles, selection, base);
	sli_arena_reset(context, mark);
	return status;
}

/* A copy of panels in the host's arena, where they are a device's. */
static sl_status bring(sl_context *context, sl_context *host, const sl_dense *panels, sl_dense *brought) {
	size_t bytes;
	void *data;
	*brought = *panels;
	if (host == context)
		return SL_OK;
	if (!sli_span(panels, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "a batch of %lld does not fit in memory", (long long)panels->cols);
	SL_TRY(sli_arena_take(host, bytes, &data));
	brought->data = data;
	brought->device = SL_DEVICE_CPU;
	brought->device_index = 0;
	return sli_fetch(sli_device(context), data, panels->data, bytes);
}

static sl_status offer_brought(sl_context *context, sl_context *host, const sl_layer *layer, const sl_dense *dz,
							   const sl_dense *x, sl_selection *selection, int64_t base) {
	sl_dense both[2], own[2];
	SL_TRY(bring(context, host, dz, &own[0]));
	SL_TRY(bring(context, host, x, &own[1]));
	SL_TRY(whole(host, &own[0], &both[0]));
	SL_TRY(whole(host, &own[1], &both[1]));
	if (finds_best(host, both, selection))
		return offer_own(host, layer, both, selection, base);
	return offer(host, layer, &(sl_tiles){both, own_tile}, selection, base);
}

sl_status sli_offer_gradient(sl_context *context, const sl_layer *layer, const sl_dense *dz, const sl_dense *x,
							 sl_selection *selection, int64_t base) {
	sl_context *host;
	SL_TRY(sli_host_context(context, &host));
	sl_arena_mark mark = sli_arena_mark(host);
	sl_status status = offer_brought(context, host, layer, dz, x, selection, base);
	sli_arena_reset(host, mark);
	return status;
}
