/* SPDX-License-Identifier: Apache-2.0 */
/* What readers by share have in common: whose rows are whose, where they begin in a text, and keys of all ranks. */
#include "io/share.h"

void sli_share_rows(const sl_share *share, int rank, int64_t total, int64_t *first, int64_t *count) {
	int64_t part, parts, last, more;
	sl_comm_share(share->parts, rank, sl_comm_size(share->comm), &part, &parts);
	sl_comm_share(total, (int)part, (int)share->parts, first, &more);
	sl_comm_share(total, (int)(part + parts - 1), (int)share->parts, &last, &more);
	*count = last + more - *first;
}

void sli_share_take(sl_share *share, int64_t total) {
	share->total = total;
	sli_share_rows(share, sl_comm_rank(share->comm), total, &share->first, &share->count);
}

sl_status sli_share_max(sl_context *context, sl_comm *comm, int64_t *values, int64_t count) {
	sl_comm_call call = {SL_CALL_ALL_REDUCE, values, values, count, SL_I64, SL_COMM_MAX, 0, true, false};
	return sli_comm_call(context, comm, &call, NULL);
}

/* `size` lists, each `room` elements behind its length: their content without gaps. Returns how many. */
static int64_t compact(int64_t *lists, int64_t room, int size) {
	int64_t n = 0;
	for (int r = 0; r < size; r++) {
		int64_t *from = lists + r * (room + 1), length = *from;
		memmove(lists + n, from + 1, (size_t)length * sizeof *lists);
		n += length;
	}
	return n;
}

sl_status sli_share_keys(sl_context *context, sl_comm *comm, sl_status mine, uint64_t **keys, int64_t *count) {
	sl_heap *heap = sli_heap(context);
	int size = sl_comm_size(comm);
	int64_t most = *count, stranger, *own = NULL;
	int32_t *index = NULL;
	uint64_t *all = NULL;
	SL_TRY(sli_comm_settle(context, comm, mine));
	SL_TRY(sli_share_max(context, comm, &most, 1));
	if (most >= INT64_MAX / 16 / size)
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld labels or ids of each of %d ranks do not fit in memory",
						(long long)most, size);
	size_t own_bytes = (size_t)(most + 1) * sizeof *own, list_bytes = own_bytes * (size_t)size;
	size_t index_bytes = (size_t)most * (size_t)size * sizeof *index;
	int64_t *lists = NULL, n = 0, found = 0;
	sl_status status = sli_allocate_zeroed(context, own_bytes, "the ranks' labels or ids", (void **)&own);
	if (status == SL_OK)
		status = sli_allocate(context, list_bytes, "the ranks' labels or ids", (void **)&lists);
	if (status == SL_OK)
		status = sli_allocate(context, index_bytes, "the ranks' labels or ids", (void **)&index);
	status = sli_comm_settle(context, comm, status);
	if (status == SL_OK) {
		own[0] = *count;
		if (*count)
			memcpy(own + 1, *keys, (size_t)*count * sizeof *own);
		status = sli_comm_gather(context, comm, own, lists, most + 1, SL_I64);
	}
	if (status == SL_OK) {
		n = compact(lists, most, size);
		status = sli_distinct(context, (const uint64_t *)lists, n, NULL, &all, &found, index, &stranger);
		status = sli_comm_settle(context, comm, status);
	}
	sli_heap_free(heap, index, index ? index_bytes : 0);
	sli_heap_free(heap, lists, lists ? list_bytes : 0);
	sli_heap_free(heap, own, own ? own_bytes : 0);
	if (status != SL_OK) {
		sli_heap_free(heap, all, all ? (size_t)found * sizeof *all : 0);
		return status;
	}
	sli_heap_free(heap, *keys, *keys ? (size_t)*count * sizeof **keys : 0);
	*keys = all;
	*count = found;
	return SL_OK;
}

/* A piece of the file, and what all ranks' pieces hold. */
typedef struct counting {
	sl_lines lines;
	bool open;
	int64_t *counts; /* of each rank: rows, lines */
	int64_t *edges;  /* of each rank's rows: byte, lines before */
	int64_t rows_before, rows;
} counting;

static sl_status count_piece(sl_context *context, const char *path, const sl_read_limits *limits, sl_comm *comm,
							 sl_block_task task, void *user, int which, counting *c, int64_t mine[2]) {
	int64_t totals[3];
	SL_TRY(sli_lines_open_piece(&c->lines, context, path, limits, comm->info.rank, comm->info.size));
	c->open = true;
	SL_TRY(sli_lines_run(&c->lines, task, user));
	sli_lines_sum(&c->lines, totals);
	mine[0] = totals[which];
	mine[1] = 0;
	for (size_t k = 0; k < c->lines.count; k++)
		mine[1] += c->lines.blocks[k].lines;
	return SL_OK;
}

static void sum_before(counting *c, int rank, int size, int64_t *total) {
	*total = 0;
	for (int r = 0; r < size; r++) {
		if (r < rank)
			c->lines.before += c->counts[2 * r + 1];
		if (r == rank) {
			c->rows_before = *total;
			c->rows = c->counts[2 * r];
		}
		*total += c->counts[2 * r];
	}
}

/* Of the ranks' first rows those that are in this rank's piece; zero elsewhere. */
static sl_status find_edges(counting *c, const sl_share *share, sl_block_task task, void *user, int which) {
	for (int r = 1; r < sl_comm_size(share->comm); r++) {
		int64_t first, count;
		sli_share_rows(share, r, share->total, &first, &count);
		int64_t inside = first - c->rows_before;
		if (inside >= 0 && inside < c->rows)
			SL_TRY(sli_lines_find(&c->lines, task, user, which, inside, &c->edges[2 * r], &c->edges[2 * r + 1]));
	}
	return SL_OK;
}

static sl_status divide(sl_context *context, sl_share *share, sl_block_task task, void *user, int which, counting *c,
						const int64_t mine[2]) {
	sl_comm *comm = share->comm;
	int rank = comm->info.rank, size = comm->info.size;
	int64_t total;
	SL_TRY(sli_comm_agree(context, comm, "the size of the file", (uint64_t)c->lines.size));
	SL_TRY(sli_comm_gather(context, comm, mine, c->counts, 2, SL_I64));
	sum_before(c, rank, size, &total);
	sli_share_take(share, total);
	SL_TRY(sli_comm_settle(context, comm, find_edges(c, share, task, user, which)));
	SL_TRY(sli_comm_sum(context, comm, c->edges, 2 * size, SL_I64, NULL));
	for (int r = 1; r < size; r++) {
		int64_t first, count;
		sli_share_rows(share, r, total, &first, &count);
		if (first == total) /* behind all rows */
			c->edges[2 * r] = c->lines.size;
	}
	return SL_OK;
}

sl_status sli_share_lines(sl_context *context, const char *path, const sl_read_limits *limits, sl_share *share,
						  sl_block_task task, void *user, int which, int64_t range[2], int64_t *before) {
	sl_comm *comm = share->comm;
	int rank = comm->info.rank, size = comm->info.size;
	size_t bytes = (size_t)size * 4 * sizeof(int64_t);
	int64_t mine[2] = {0, 0};
	counting c = {.open = false};
	sl_status status = sli_allocate_zeroed(context, bytes, "where the ranks' rows begin", (void **)&c.counts);
	c.edges = c.counts ? c.counts + 2 * size : NULL;
	if (status == SL_OK)
		status = count_piece(context, path, limits, comm, task, user, which, &c, mine);
	status = sli_comm_settle(context, comm, status);
	if (status == SL_OK)
		status = divide(context, share, task, user, which, &c, mine);
	if (status == SL_OK) {
		range[0] = c.edges[2 * rank];
		range[1] = rank + 1 < size ? c.edges[2 * rank + 2] : -1;
		*before = c.edges[2 * rank + 1];
	}
	if (c.open)
		sli_lines_close(&c.lines);
	sli_heap_free(sli_heap(context), c.counts, c.counts ? bytes : 0);
	return status;
}
