/* SPDX-License-Identifier: Apache-2.0 */
/* Merging an old pattern with what comes, row by row on all threads. */
#include "sparse/edit.h"

#include "core/checked.h"
#include "sparse/random.h"

enum { ROWS = 32, RUN = 64, CARRIED = 4096 };

typedef struct merge {
	const sl_pattern_edit *edit;
	sl_pattern_arrays a;
	void *offsets;
	sl_dtype dtype;
	int64_t *begins; /* rows + 1 */
	int32_t *columns;
	int64_t *map;
} merge;

/* The first cell of a row or behind it. */
static int64_t cell_from(const merge *m, int64_t row) {
	int64_t low = 0, high = m->edit->grown, wanted = row * m->a.cols;
	while (low < high) {
		int64_t middle = low + (high - low) / 2;
		if (m->edit->cells[middle] < wanted)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int64_t offset(const merge *m, int64_t row) {
	return sli_index(m->a.row_offsets, m->a.offset_dtype, row);
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

static void count_rows(void *argument, size_t index) {
	merge *m = argument;
	int64_t begin = (int64_t)index * ROWS, end = begin + ROWS < m->a.rows ? begin + ROWS : m->a.rows;
	int64_t cell = cell_from(m, begin);
	for (int64_t r = begin; r < end; r++) {
		int64_t k1 = offset(m, r + 1), count = k1 - offset(m, r), next = (r + 1) * m->a.cols;
		if (m->edit->marks)
			count -= count_marks(m->edit->marks, offset(m, r), k1);
		for (; cell < m->edit->grown && m->edit->cells[cell] < next; cell++)
			count++;
		m->begins[r + 1] = count;
	}
}

/* A run of a row's entries without those that go. Which go is as good as random: no branches. */
typedef struct kept {
	int32_t columns[RUN + 1];
	int64_t entries[RUN + 1], count;
} kept;

static void keep(const merge *m, int64_t k, int64_t end, kept *to) {
	const uint8_t *marks = m->edit->marks;
	int64_t n = 0;
	for (; k < end; k++) {
		to->columns[n] = m->a.col_indices[k];
		to->entries[n] = k;
		n += !marks || !marks[k];
	}
	to->count = n;
}

static int64_t put_new(const merge *m, int64_t at, int64_t column) {
	m->columns[at] = (int32_t)column;
	m->map[at] = -1;
	return at + 1;
}

/* The new entries of a row from `cell` on that come before what is kept, and that; `first` is the row's first cell.
 * Returns the next cell. */
static int64_t merge_run(const merge *m, const kept *run, int64_t cell, int64_t stop, int64_t first, int64_t *place) {
	int64_t i = 0, at = *place;
	while (i < run->count && cell < stop) {
		int64_t next = m->edit->cells[cell] - first;
		bool old = run->columns[i] < next;
		m->columns[at] = old ? run->columns[i] : (int32_t)next;
		m->map[at++] = old ? run->entries[i] : -1;
		i += old;
		cell += !old;
	}
	memcpy(m->columns + at, run->columns + i, (size_t)(run->count - i) * sizeof *run->columns);
	memcpy(m->map + at, run->entries + i, (size_t)(run->count - i) * sizeof *run->entries);
	*place = at + run->count - i;
	return cell;
}

static void merge_rows(void *argument, size_t index) {
	merge *m = argument;
	int64_t begin = (int64_t)index * ROWS, end = begin + ROWS < m->a.rows ? begin + ROWS : m->a.rows;
	int64_t cell = cell_from(m, begin), at = m->begins[begin];
	kept run;
	for (int64_t r = begin; r < end; r++) {
		int64_t first = r * m->a.cols, stop = cell, k1 = offset(m, r + 1);
		while (stop < m->edit->grown && m->edit->cells[stop] < first + m->a.cols)
			stop++;
		for (int64_t k = offset(m, r); k < k1; k += RUN) {
			keep(m, k, k + RUN < k1 ? k + RUN : k1, &run);
			cell = merge_run(m, &run, cell, stop, first, &at);
		}
		for (; cell < stop; cell++)
			at = put_new(m, at, m->edit->cells[cell] - first);
		sli_index_set(m->offsets, m->dtype, r + 1, at);
	}
}

sl_status sli_pattern_apply(sl_pattern **to, int64_t *map, sl_context *context, const sl_pattern_edit *edit) {
	merge m = {.edit = edit, .a = sli_pattern_arrays(edit->from), .map = map};
	int64_t nnz = m.a.nnz - edit->dropped + edit->grown;
	size_t tasks = (size_t)sli_ceil_div(m.a.rows, ROWS);
	void *memory;
	*to = NULL;
	m.dtype = sli_offset_dtype(nnz);
	sl_arena_mark mark = sli_arena_mark(context);
	SL_TRY(sli_arena_take(context, (size_t)(m.a.rows + 1) * sizeof *m.begins, &memory));
	m.begins = memory;
	sl_status status = sli_pattern_take(context, m.a.rows, nnz, &m.offsets, &m.columns);
	if (status == SL_OK) {
		sli_parallel(context, tasks, count_rows, &m);
		m.begins[0] = 0;
		for (int64_t r = 0; r < m.a.rows; r++)
			m.begins[r + 1] += m.begins[r];
		sli_parallel(context, tasks, merge_rows, &m);
		status = sli_pattern_adopt(to, context, m.a.rows, m.a.cols, nnz, m.offsets, m.columns);
	}
	sli_arena_reset(context, mark);
	return status;
}

typedef struct carrying {
	const sl_carried *arrays;
	int count;
	sl_dtype dtype;
	const int64_t *map;
	int64_t nnz;
} carrying;

/* One array. New entries come at random: no branches. */
#define CARRY(type)                                                                                                    \
	static void carry_one_##type(const sl_carried *array, const int64_t *map, int64_t begin, int64_t end) {            \
		const type *from = array->from;                                                                                \
		type *to = array->to, fill = (type)array->fill;                                                                \
		for (int64_t i = begin; i < end; i++) {                                                                        \
			type old = from[map[i] & ~(map[i] >> 63)];                                                                 \
			to[i] = map[i] < 0 ? fill : old;                                                                           \
		}                                                                                                              \
	}                                                                                                                  \
	/* Two arrays: the map is looked at once for both. */                                                              \
	static void carry_two_##type(const sl_carried *array, const int64_t *map, int64_t begin, int64_t end) {            \
		const type *from = array[0].from, *from2 = array[1].from, fill = (type)array[0].fill,                          \
				   fill2 = (type)array[1].fill;                                                                        \
		type *restrict to = array[0].to, *restrict to2 = array[1].to;                                                  \
		for (int64_t i = begin; i < end; i++) {                                                                        \
			int64_t at = map[i] & ~(map[i] >> 63);                                                                     \
			type old = from[at], old2 = from2[at];                                                                     \
			to[i] = map[i] < 0 ? fill : old;                                                                           \
			to2[i] = map[i] < 0 ? fill2 : old2;                                                                        \
		}                                                                                                              \
	}
CARRY(float)
CARRY(double)

/* A stretch of the map for all arrays, while it is in the nearest cache. */
static void carry_piece(void *argument, size_t index) {
	const carrying *c = argument;
	int64_t begin = (int64_t)index * CARRIED, end = begin + CARRIED < c->nnz ? begin + CARRIED : c->nnz;
	bool f32 = c->dtype == SL_F32;
	int a = 0;
	for (; a + 2 <= c->count; a += 2)
		(f32 ? carry_two_float : carry_two_double)(&c->arrays[a], c->map, begin, end);
	if (a < c->count)
		(f32 ? carry_one_float : carry_one_double)(&c->arrays[a], c->map, begin, end);
}

void sli_carry(sl_context *context, const sl_carried *arrays, int count, sl_dtype dtype, const int64_t *map,
			   int64_t nnz) {
	carrying c = {arrays, count, dtype, map, nnz};
	sli_parallel(context, (size_t)sli_ceil_div(nnz, CARRIED), carry_piece, &c);
}

enum { SUMS = 8 };

double sli_mean(const void *values, sl_dtype dtype, int64_t count) {
	double sums[SUMS] = {0}, sum = 0;
	int64_t whole = count / SUMS * SUMS;
	for (int64_t i = 0; i < whole; i += SUMS)
		for (int s = 0; s < SUMS; s++)
			sums[s] += dtype == SL_F32 ? (double)((const float *)values)[i + s] : ((const double *)values)[i + s];
	for (int64_t i = whole; i < count; i++)
		sum += dtype == SL_F32 ? (double)((const float *)values)[i] : ((const double *)values)[i];
	for (int s = 0; s < SUMS; s++)
		sum += sums[s];
	return count ? sum / (double)count : 0;
}
