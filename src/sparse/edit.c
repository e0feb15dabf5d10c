/* SPDX-License-Identifier: Apache-2.0 */
/* Merging an old pattern with what comes, row by row on all threads. */
#include "sparse/edit.h"

#include "core/checked.h"
#include "sparse/random.h"

enum { PIECE = 4096, PIECE_ROWS = 1024, SHORT = 256 };

typedef struct merge {
	const sl_pattern_edit *edit;
	sl_pattern_arrays a;
	void *offsets;
	sl_dtype dtype;
	int64_t *begins; /* rows + 1 */
	int32_t *columns;
	sl_edit_map *map;
} merge;

static int64_t offset(const merge *m, int64_t row) {
	return sli_index(m->a.row_offsets, m->a.offset_dtype, row);
}

/* What the cells of a row are counted from. */
static int64_t cell_of(const merge *m, int64_t row) {
	return m->edit->ranks ? m->edit->first + row * m->a.cols - offset(m, row) : row * m->a.cols;
}

/* The first cell of a row or behind it. */
static int64_t cell_from(const merge *m, int64_t row) {
	int64_t low = 0, high = m->edit->grown, wanted = cell_of(m, row);
	while (low < high) {
		int64_t middle = low + (high - low) / 2;
		if (m->edit->cells[middle] < wanted)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Pieces of about PIECE entries; a longer row is one of its own. Without `pieces` only their number. */
static int64_t cut(const merge *m, sl_edit_piece *pieces) {
	int64_t count = 0, begin = 0, first = 0;
	for (int64_t r = 0; r < m->a.rows; r++) {
		int64_t end = offset(m, r + 1);
		bool last = r + 1 == m->a.rows || r + 1 - begin == PIECE_ROWS;
		if (!last && (end - first) + (offset(m, r + 2) - end) <= PIECE)
			continue;
		if (pieces)
			pieces[count] = (sl_edit_piece){.row = begin, .old = first};
		count++;
		begin = r + 1;
		first = end;
	}
	if (pieces)
		pieces[count] = (sl_edit_piece){.row = m->a.rows, .old = m->a.nnz};
	return count;
}

/* Of marks, which are 0 or 1: eight at a time, summed in the uppermost byte of a product. */
static int64_t count_marks(const uint8_t *marks, int64_t begin, int64_t end) {
	int64_t count = 0, k = begin;
	for (; k + 8 <= end; k += 8) {
		uint64_t eight;
		memcpy(&eight, marks + k, sizeof eight);
		count += (int64_t)(eight * UINT64_C(0x0101010101010101) >> 56);
	}
	for (; k < end; k++)
		count += marks[k];
	return count;
}

/* The cells of a row from `cell` on; returns the first behind them. */
static int64_t row_end(const merge *m, int64_t row, int64_t cell) {
	int64_t next = cell_of(m, row + 1);
	while (cell < m->edit->grown && m->edit->cells[cell] < next)
		cell++;
	return cell;
}

static void count_rows(void *argument, size_t index) {
	const merge *m = argument;
	const sl_edit_piece *p = m->map->pieces + index;
	int64_t cell = cell_from(m, p->row);
	for (int64_t r = p->row; r < p[1].row; r++) {
		int64_t k1 = offset(m, r + 1), count = k1 - offset(m, r), next = row_end(m, r, cell);
		if (m->edit->marks)
			count -= count_marks(m->edit->marks, offset(m, r), k1);
		m->begins[r + 1] = count + next - cell;
		cell = next;
	}
}

/* A row on its way. Each step takes the smaller of the next old and the next new; which is as good as random, so there
 * are no branches, and what goes is written over. Ranks are compared with columns less the old entries before them. */
typedef struct lane {
	int32_t old[SHORT + 1], fresh[SHORT + 1], columns[2 * SHORT + 1], from[2 * SHORT + 1];
	uint8_t marks[SHORT + 1];
	int64_t steps, row, number; /* `number`: of its first old entry in the piece */
} lane;

static void open_lane(const merge *m, const sl_edit_piece *p, int64_t row, int64_t cell, int64_t stop, lane *l) {
	int64_t first = offset(m, row), count = offset(m, row + 1) - first, base = cell_of(m, row);
	const int32_t *columns = m->a.col_indices + first;
	if (m->edit->ranks)
		for (int32_t k = 0; k < (int32_t)count; k++)
			l->old[k] = columns[k] - k;
	else
		memcpy(l->old, columns, (size_t)count * sizeof *columns);
	for (int64_t i = 0; i < stop - cell; i++)
		l->fresh[i] = (int32_t)(m->edit->cells[cell + i] - base);
	l->old[count] = l->fresh[stop - cell] = INT32_MAX;
	if (m->edit->marks)
		memcpy(l->marks, m->edit->marks + first, (size_t)count);
	else
		memset(l->marks, 0, (size_t)count);
	l->marks[count] = 0;
	l->steps = count + stop - cell;
	l->row = row;
	l->number = first - p->old;
}

/* Step s of a lane of which k old entries are behind it, and so s - k new. */
#define STEP(l, s, k, at, ranks)                                                                                       \
	do {                                                                                                               \
		int32_t one = (l)->old[k], other = (l)->fresh[(s) - (k)];                                                      \
		int64_t is_old = one <= other;                                                                                 \
		(l)->columns[at] = (one <= other ? one : other) + ((ranks) ? (int32_t)(k) : 0);                                \
		(l)->from[at] = one <= other ? (int32_t)(k) + number_##l : 0;                                                  \
		at += 1 - (is_old & (l)->marks[k]);                                                                            \
		k += is_old;                                                                                                   \
	} while (0)

/* Two rows at a time, as each step waits for the one before it in its row. */
#define RUN(name, ranks)                                                                                               \
	static void name(lane *a, lane *b) {                                                                               \
		int64_t both = a->steps < b->steps ? a->steps : b->steps, ka = 0, kb = 0, na = 0, nb = 0;                      \
		int32_t number_a = (int32_t)a->number + 1, number_b = (int32_t)b->number + 1;                                  \
		for (int64_t s = 0; s < both; s++) {                                                                           \
			STEP(a, s, ka, na, ranks);                                                                                 \
			STEP(b, s, kb, nb, ranks);                                                                                 \
		}                                                                                                              \
		for (int64_t s = both; s < a->steps; s++)                                                                      \
			STEP(a, s, ka, na, ranks);                                                                                 \
		for (int64_t s = both; s < b->steps; s++)                                                                      \
			STEP(b, s, kb, nb, ranks);                                                                                 \
	}
RUN(run_cells, false)
RUN(run_ranks, true)

static void close_lane(const merge *m, const lane *l) {
	int64_t at = m->begins[l->row], count = m->begins[l->row + 1] - at;
	memcpy(m->columns + at, l->columns, (size_t)count * sizeof *l->columns);
	memcpy(m->map->from + at, l->from, (size_t)count * sizeof *l->from);
}

static void merge_two(const merge *m, lane *a, lane *b) {
	if (m->edit->ranks)
		run_ranks(a, b);
	else
		run_cells(a, b);
	close_lane(m, a);
	if (b->row >= 0)
		close_lane(m, b);
}

static void merge_long(const merge *m, const sl_edit_piece *p, int64_t row, int64_t cell, int64_t stop) {
	int64_t first = offset(m, row), end = offset(m, row + 1), base = cell_of(m, row), at = m->begins[row];
	for (int64_t k = first; k < end || cell < stop;) {
		int64_t before = m->edit->ranks ? k - first : 0;
		int64_t one = k < end ? m->a.col_indices[k] - before : INT64_MAX;
		int64_t other = cell < stop ? m->edit->cells[cell] - base : INT64_MAX;
		bool is_old = one <= other;
		if (!is_old || !m->edit->marks || !m->edit->marks[k]) {
			m->columns[at] = (int32_t)((is_old ? one : other) + before);
			m->map->from[at++] = is_old ? (int32_t)(k - p->old + 1) : 0;
		}
		k += is_old;
		cell += !is_old;
	}
}

static void merge_rows(void *argument, size_t index) {
	const merge *m = argument;
	const sl_edit_piece *p = m->map->pieces + index;
	lane lanes[2];
	int waiting = 0;
	for (int64_t r = p->row, cell = cell_from(m, r), stop; r < p[1].row; r++, cell = stop) {
		stop = row_end(m, r, cell);
		sli_index_set(m->offsets, m->dtype, r + 1, m->begins[r + 1]);
		if (offset(m, r + 1) - offset(m, r) > SHORT || stop - cell > SHORT) {
			merge_long(m, p, r, cell, stop);
			continue;
		}
		open_lane(m, p, r, cell, stop, &lanes[waiting]);
		if (waiting)
			merge_two(m, &lanes[0], &lanes[1]);
		waiting = 1 - waiting;
	}
	if (waiting) {
		lanes[1].steps = lanes[1].number = 0;
		lanes[1].row = -1;
		merge_two(m, &lanes[0], &lanes[1]);
	}
}

/* Where the rows begin, and what of each piece's old entries the pieces beside it will write over. */
static void place(const merge *m) {
	sl_edit_piece *p = m->map->pieces;
	int64_t saved = 0;
	m->begins[0] = 0;
	for (int64_t r = 0; r < m->a.rows; r++)
		m->begins[r + 1] += m->begins[r];
	for (int64_t i = 0; i <= m->map->count; i++)
		p[i].now = m->begins[p[i].row];
	for (int64_t i = 0; i < m->map->count; i++) {
		int64_t old = p[i + 1].old - p[i].old, low = p[i].old > p[i].now ? p[i].old : p[i].now;
		int64_t high = p[i + 1].old < p[i + 1].now ? p[i + 1].old : p[i + 1].now;
		p[i].saved = saved;
		/* What does not fit a task's own memory is saved as a whole. */
		saved += old > PIECE ? old : old - (high > low ? high - low : 0);
	}
	p[m->map->count].saved = saved;
}

static sl_status make(sl_context *context, merge *m, int64_t nnz, sl_pattern **to) {
	void *memory;
	sl_arena_mark mark = sli_arena_mark(context);
	SL_TRY(sli_arena_take(context, (size_t)(m->a.rows + 1) * sizeof *m->begins, &memory));
	m->begins = memory;
	sl_status status = sli_pattern_take(context, m->a.rows, nnz, &m->offsets, &m->columns);
	if (status == SL_OK) {
		sli_parallel(context, (size_t)m->map->count, count_rows, m);
		place(m);
		sli_parallel(context, (size_t)m->map->count, merge_rows, m);
		status = sli_pattern_adopt(to, context, m->a.rows, m->a.cols, nnz, m->offsets, m->columns);
	}
	sli_arena_reset(context, mark);
	return status;
}

sl_status sli_pattern_apply(sl_pattern **to, sl_edit_map *map, sl_context *context, const sl_pattern_edit *edit) {
	merge m = {.edit = edit, .a = sli_pattern_arrays(edit->from), .map = map};
	int64_t nnz = m.a.nnz - edit->dropped + edit->grown;
	size_t bytes;
	void *memory;
	*to = NULL;
	*map = (sl_edit_map){.count = cut(&m, NULL)};
	m.dtype = sli_offset_dtype(nnz);
	if (!sli_bytes(nnz, sizeof *map->from, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld entries", (long long)nnz);
	SL_TRY(sli_arena_take(context, bytes, &memory));
	map->from = memory;
	SL_TRY(sli_arena_take(context, (size_t)(map->count + 1) * sizeof *map->pieces, &memory));
	map->pieces = memory;
	cut(&m, map->pieces);
	return make(context, &m, nnz, to);
}
