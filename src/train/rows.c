/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Row-sparse gradients of ranks. A layer of sparse inputs has gradients for the rows of W that its batch touches, which
 * are others in each part of a batch. The parts' gradients are kept until the last one's backward; then ranks tell one
 * another which rows they have, and what is summed is the rows that any of them has. A row that a part lacks is zero
 * in its sum, so that bits do not depend on who had it.
 */
#include "core/checked.h"
#include "layers/linear.h"
#include "train/parallel.h"

enum { NO_ROW = -1, PIECE_ROWS = 64 };

/* Room for at least so many, in a list that stays. */
static sl_status room(sl_context *context, sl_heap *heap, void **list, size_t *have, size_t bytes) {
	void *memory;
	if (*list && *have >= bytes)
		return SL_OK;
	bytes += bytes / 4; /* batches differ */
	SL_TRY(sli_allocate(context, bytes, "a row-sparse gradient", &memory));
	sli_heap_free(heap, *list, *have);
	*list = memory;
	*have = bytes;
	return SL_OK;
}

static sl_status rows_room(sl_context *context, sl_heap *heap, sl_rows *r, int64_t count, int64_t elements,
						   size_t size) {
	SL_TRY(room(context, heap, (void **)&r->columns, &r->column_bytes, (size_t)count * sizeof *r->columns));
	SL_TRY(room(context, heap, (void **)&r->starts, &r->start_bytes, (size_t)(count + 1) * sizeof *r->starts));
	return room(context, heap, &r->values, &r->value_bytes, (size_t)elements * size);
}

static void rows_free(sl_heap *heap, sl_rows *r) {
	sli_heap_free(heap, r->columns, r->column_bytes);
	sli_heap_free(heap, r->starts, r->start_bytes);
	sli_heap_free(heap, r->values, r->value_bytes);
}

sl_status sli_rows_open(sl_context *context, sl_parallel *p) {
	void *memory;
	if (!sli_model_sparse(p->model))
		return SL_OK;
	SL_TRY(sli_allocate_zeroed(context, sizeof(sl_row_sums), "row-sparse sums", &memory));
	p->rows = memory;
	SL_TRY(sli_allocate_zeroed(context, (size_t)p->tree.count * sizeof *p->rows->leaves, "row-sparse sums", &memory));
	p->rows->leaves = memory;
	SL_TRY(sli_allocate_zeroed(context, (size_t)p->depth * sizeof *p->rows->nodes, "row-sparse sums", &memory));
	p->rows->nodes = memory;
	return SL_OK;
}

void sli_rows_close(sl_parallel *p) {
	sl_row_sums *s = p->rows;
	if (!s)
		return;
	for (int64_t i = 0; s->leaves && i < p->tree.count; i++)
		rows_free(p->heap, &s->leaves[i]);
	for (int i = 0; s->nodes && i < p->depth; i++)
		sli_heap_free(p->heap, s->nodes[i], s->node_bytes);
	rows_free(p->heap, &s->held);
	rows_free(p->heap, &s->all);
	sli_heap_free(p->heap, s->leaves, (size_t)p->tree.count * sizeof *s->leaves);
	sli_heap_free(p->heap, s->nodes, (size_t)p->depth * sizeof *s->nodes);
	sli_heap_free(p->heap, s->room, s->room_bytes);
	for (int i = 0; i < 2; i++) {
		sli_heap_free(p->heap, s->own[i], s->own_bytes[i]);
		sli_heap_free(p->heap, s->lists[i], s->list_bytes[i]);
	}
	sli_heap_free(p->heap, s, sizeof *s);
	p->rows = NULL;
}

static void scale(void *to, const void *from, int64_t count, double factor, sl_dtype dtype) {
	if (dtype == SL_F32)
		for (int64_t i = 0; i < count; i++)
			((float *)to)[i] = (float)factor * ((const float *)from)[i];
	else
		for (int64_t i = 0; i < count; i++)
			((double *)to)[i] = factor * ((const double *)from)[i];
}

/* The layer's gradient, scaled, where it stays until it is summed. */
static sl_status copy(sl_context *context, const sl_parallel *p, sl_rows *to, double factor) {
	const sl_layer *layer = p->model->layers[0];
	const int64_t *starts = layer->rows.starts.data;
	int64_t count = layer->rows.count, elements = count ? starts[count] : 0;
	to->count = 0;
	SL_TRY(rows_room(context, p->heap, to, count, elements, sl_dtype_size(p->dtype)));
	to->starts[0] = 0;
	if (count) {
		memcpy(to->columns, layer->rows.columns.data, (size_t)count * sizeof *to->columns);
		memcpy(to->starts, starts, (size_t)(count + 1) * sizeof *to->starts);
		scale(to->values, layer->gradient.data, elements, factor, p->dtype);
	}
	to->count = count;
	return SL_OK;
}

sl_status sli_rows_keep(sl_context *context, sl_parallel *p) {
	p->rows->leaves[p->part].count = 0;
	return p->factor > 0 ? copy(context, p, &p->rows->leaves[p->part], p->factor) : SL_OK;
}

sl_status sli_rows_hold(sl_context *context, sl_parallel *p) {
	return copy(context, p, &p->rows->held, 1);
}

/* Two increasing lists as one, each element once. */
static int64_t merge(const int32_t *a, int64_t n, const int32_t *b, int64_t m, int32_t *to) {
	int64_t i = 0, k = 0, at = 0;
	while (i < n || k < m) {
		int32_t next = i < n && (k == m || a[i] <= b[k]) ? a[i] : b[k];
		i += i < n && a[i] == next;
		k += k < m && b[k] == next;
		to[at++] = next;
	}
	return at;
}

static int64_t length(const int32_t *list, int64_t most) {
	int64_t n = 0;
	while (n < most && list[n] != NO_ROW)
		n++;
	return n;
}

/* `count` lists of up to `width` elements, ended by NO_ROW where they are shorter, as one in lists[0]: neighbours are
 * merged until one is left. */
static int64_t merge_all(int32_t *lists[2], int64_t count, int64_t width) {
	for (; count > 1; count = (count + 1) / 2, width *= 2) {
		for (int64_t i = 0; i < count; i += 2) {
			const int32_t *a = lists[0] + i * width, *b = a + width;
			int32_t *to = lists[1] + i * width;
			int64_t n = merge(a, length(a, width), b, i + 1 < count ? length(b, width) : 0, to);
			if (n < 2 * width)
				to[n] = NO_ROW;
		}
		int32_t *other = lists[0];
		lists[0] = lists[1];
		lists[1] = other;
	}
	return length(lists[0], width);
}

/* Room for `count` lists to be merged: as if there were a power of two. */
static sl_status list_room(sl_context *context, sl_parallel *p, int32_t *lists[2], size_t have[2], int64_t count,
						   int64_t width) {
	int64_t slots = 1, all;
	size_t bytes;
	while (slots < count)
		slots *= 2;
	if (!sli_mul(slots, width, &all) || !sli_bytes(all, sizeof(int32_t), &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld lists of %lld rows do not fit in memory", (long long)count,
						(long long)width);
	for (int i = 0; i < 2; i++)
		SL_TRY(room(context, p->heap, (void **)&lists[i], &have[i], bytes));
	return SL_OK;
}

/* A list into one of `width` elements. */
static void put(int32_t *to, const int32_t *from, int64_t count, int64_t width) {
	if (count)
		memcpy(to, from, (size_t)count * sizeof *to);
	for (int64_t i = count; i < width; i++)
		to[i] = NO_ROW;
}

/* Rows that any own part has: *count of them in s->own[0]. */
static sl_status own_rows(sl_context *context, sl_parallel *p, int64_t *count) {
	sl_row_sums *s = p->rows;
	int64_t width = 1, n = p->tree.count;
	*count = 0;
	for (int64_t i = 0; i < n; i++)
		width = s->leaves[i].count > width ? s->leaves[i].count : width;
	SL_TRY(list_room(context, p, s->own, s->own_bytes, n, width));
	for (int64_t i = 0; i < n; i++)
		put(s->own[0] + i * width, s->leaves[i].columns, s->leaves[i].count, width);
	*count = merge_all(s->own, n, width);
	return SL_OK;
}

/* Room for what ranks with up to `width` rows tell. That is the same on all ranks, so that all make room, and learn
 * whether all have, or none does. */
static sl_status tell_room(sl_context *context, sl_parallel *p, int64_t width) {
	sl_row_sums *s = p->rows;
	int64_t all = 0;
	if (width <= s->most_width)
		return SL_OK;
	width += width / 4;
	sl_status status = list_room(context, p, s->lists, s->list_bytes, p->tree.size, width);
	if (status == SL_OK && !sli_mul(width, p->tree.size, &all))
		status = sli_fail(context, SL_ERR_OVERFLOW, "%lld rows do not fit in memory", (long long)width);
	if (status == SL_OK)
		status = rows_room(context, p->heap, &s->all, all, 0, 1);
	SL_TRY(sli_comm_settle(context, p->comm, status));
	s->most_width = width;
	return SL_OK;
}

/* Rows that any rank has, in s->all.columns. */
static sl_status all_rows(sl_context *context, sl_parallel *p) {
	sl_row_sums *s = p->rows;
	int64_t size = p->tree.size, count;
	sl_status status = own_rows(context, p, &count);
	int64_t longest[2] = {count, status != SL_OK};
	sl_comm_call call = {SL_CALL_ALL_REDUCE, longest, longest, 2, SL_I64, SL_COMM_MAX, 0, true, false};
	SL_TRY(sli_comm_call(context, p->comm, &call, NULL));
	if (longest[1])
		return sli_comm_settle(context, p->comm, status);
	s->all.count = 0;
	SL_TRY(tell_room(context, p, longest[0]));
	if (!longest[0])
		return SL_OK;
	put(s->lists[1], s->own[0], count, longest[0]);
	SL_TRY(sli_comm_gather(context, p->comm, s->lists[1], s->lists[0], longest[0], SL_I32));
	s->all.count = merge_all(s->lists, size, longest[0]);
	memcpy(s->all.columns, s->lists[0], (size_t)s->all.count * sizeof *s->all.columns);
	return SL_OK;
}

/* Where each row's values begin. */
static void lay_out(const sl_layer *layer, sl_rows *r) {
	int64_t at = 0;
	sl_pattern_arrays a = {0};
	if (!layer->dense)
		a = sli_pattern_arrays(layer->weights->pattern);
	for (int64_t i = 0; i < r->count; i++) {
		int64_t row = r->columns[i];
		r->starts[i] = at;
		at += layer->dense
				  ? layer->out_features
				  : sli_index(a.row_offsets, a.offset_dtype, row + 1) - sli_index(a.row_offsets, a.offset_dtype, row);
	}
	r->starts[r->count] = at;
}

/* Memory for the sums of all rows: the same on all ranks, so that all ask whether all have it, or none does. */
static sl_status sum_room(sl_context *context, sl_parallel *p) {
	sl_row_sums *s = p->rows;
	int64_t elements = s->elements;
	size_t bytes = 0, room_bytes = 0;
	sl_status status = SL_OK;
	if (elements <= s->most_elements)
		return SL_OK;
	elements += elements / 4;
	if (!sli_bytes(elements, sl_dtype_size(p->dtype), &bytes) ||
		(p->fixed && !sli_tree_bytes(&p->tree, elements, p->dtype, &room_bytes)))
		status = sli_fail(context, SL_ERR_OVERFLOW, "%lld gradients do not fit in memory", (long long)elements);
	s->most_elements = 0;
	for (int i = 0; i < p->depth && status == SL_OK; i++) {
		sli_heap_free(p->heap, s->nodes[i], s->node_bytes);
		s->nodes[i] = NULL;
	}
	s->node_bytes = status == SL_OK ? bytes : s->node_bytes;
	for (int i = 0; i < p->depth && status == SL_OK; i++)
		status = sli_allocate(context, bytes, "gradients on their way", &s->nodes[i]);
	if (status == SL_OK && room_bytes)
		status = room(context, p->heap, &s->room, &s->room_bytes, room_bytes);
	SL_TRY(sli_comm_settle(context, p->comm, status));
	s->most_elements = elements;
	return SL_OK;
}

/* from's rows added to, or put over, the rows of `to`, which has them all. */
typedef struct spreading {
	const sl_rows *from, *to;
	char *values; /* of `to` */
	const char *source;
	sl_dtype dtype;
} spreading;

static int64_t find(const sl_rows *r, int32_t column) {
	int64_t lo = 0, hi = r->count;
	while (lo < hi) {
		int64_t mid = lo + (hi - lo) / 2;
		if (r->columns[mid] < column)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void spread_piece(void *argument, size_t index) {
	const spreading *s = argument;
	int64_t begin = (int64_t)index * PIECE_ROWS, end = begin + PIECE_ROWS;
	size_t size = sl_dtype_size(s->dtype);
	end = end < s->from->count ? end : s->from->count;
	int64_t at = find(s->to, s->from->columns[begin]);
	for (int64_t i = begin; i < end; i++) {
		while (s->to->columns[at] != s->from->columns[i])
			at++;
		int64_t n = s->from->starts[i + 1] - s->from->starts[i];
		char *to = s->values + (size_t)s->to->starts[at] * size;
		const char *from = s->source + (size_t)s->from->starts[i] * size;
		if (s->dtype == SL_F32)
			for (int64_t k = 0; k < n; k++)
				((float *)(void *)to)[k] += ((const float *)(const void *)from)[k];
		else
			for (int64_t k = 0; k < n; k++)
				((double *)(void *)to)[k] += ((const double *)(const void *)from)[k];
	}
}

static void spread(sl_context *context, const sl_rows *from, const void *source, const sl_rows *to, void *values,
				   sl_dtype dtype) {
	spreading s = {from, to, values, source, dtype};
	sli_parallel(context, (size_t)sli_ceil_div(from->count, PIECE_ROWS), spread_piece, &s);
}

/* The own parts' gradients as nodes of the tree, added up as far as they make whole ones. */
static void make_nodes(sl_context *context, sl_parallel *p) {
	sl_row_sums *s = p->rows;
	int height = 0;
	for (int64_t i = 0; i < p->tree.count; i++) {
		memset(s->nodes[height], 0, (size_t)s->elements * sl_dtype_size(p->dtype));
		spread(context, &s->leaves[i], s->leaves[i].values, &s->all, s->nodes[height], p->dtype);
		int merges = sli_tree_merges(&p->tree, i);
		for (int m = 0; m < merges; m++)
			sli_add_vectors(context, s->nodes[height - m - 1], s->nodes[height - m], s->elements, p->dtype);
		height += 1 - merges;
	}
}

/* The sum of all ranks in nodes[0]. */
static sl_status sum(sl_context *context, sl_parallel *p) {
	sl_row_sums *s = p->rows;
	sl_tree_sum one;
	if (!p->fixed)
		return sli_comm_sum(context, p->comm, s->nodes[0], s->elements, p->dtype, NULL);
	SL_TRY(sli_tree_begin(context, p->comm, &p->tree, &one, s->nodes, 0, s->elements, p->dtype, s->room));
	SL_TRY(sli_tree_gather(context, p->comm, &p->tree, &one));
	return sli_tree_end(context, p->comm, &p->tree, &one);
}

/* The sum, and what it is added to, as the layer's gradient. */
static sl_status give(sl_context *context, sl_parallel *p, bool add) {
	sl_row_sums *s = p->rows;
	sl_layer *layer = p->model->layers[0];
	size_t size = sl_dtype_size(p->dtype);
	if (!add) {
		int64_t none = 0;
		SL_TRY(sli_layer_set_rows(context, layer, s->all.count, s->all.columns, s->all.count ? s->all.starts : &none));
		if (s->elements)
			memcpy(layer->gradient.data, s->nodes[0], (size_t)s->elements * size);
		return SL_OK;
	}
	int64_t most = s->all.count + s->held.count;
	sl_rows both = {0};
	sl_arena_mark mark = sli_arena_mark(context);
	SL_TRY(sli_arena_take(context, (size_t)most * sizeof *both.columns, (void **)&both.columns));
	sl_status status = sli_arena_take(context, (size_t)(most + 1) * sizeof *both.starts, (void **)&both.starts);
	if (status == SL_OK) {
		both.count = merge(s->all.columns, s->all.count, s->held.columns, s->held.count, both.columns);
		lay_out(layer, &both);
		status = sli_layer_set_rows(context, layer, both.count, both.columns, both.starts);
	}
	if (status == SL_OK && both.starts[both.count]) {
		memset(layer->gradient.data, 0, (size_t)both.starts[both.count] * size);
		spread(context, &s->held, s->held.values, &both, layer->gradient.data, p->dtype);
		spread(context, &s->all, s->nodes[0], &both, layer->gradient.data, p->dtype);
	}
	sli_arena_reset(context, mark);
	return status;
}

sl_status sli_rows_sum(sl_context *context, sl_parallel *p, sl_write write) {
	sl_row_sums *s = p->rows;
	SL_TRY(all_rows(context, p));
	s->elements = 0;
	if (s->all.count) {
		lay_out(p->model->layers[0], &s->all);
		s->elements = s->all.starts[s->all.count];
	}
	if (s->elements) {
		SL_TRY(sum_room(context, p));
		make_nodes(context, p);
		SL_TRY(sum(context, p));
	}
	return give(context, p, write == SL_ACCUMULATE);
}
