/* SPDX-License-Identifier: Apache-2.0 */
/* Merging an old pattern with what comes, row by row on all threads. */
#include "sparse/edit.h"

#include "core/checked.h"
#include "sparse/random.h"

enum { ROWS = 32, CARRIED = 16384 };

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

static void count_rows(void *argument, size_t index) {
	merge *m = argument;
	int64_t begin = (int64_t)index * ROWS, end = begin + ROWS < m->a.rows ? begin + ROWS : m->a.rows;
	int64_t cell = cell_from(m, begin);
	for (int64_t r = begin; r < end; r++) {
		int64_t k1 = offset(m, r + 1), count = k1 - offset(m, r), next = (r + 1) * m->a.cols;
		for (int64_t k = offset(m, r); m->edit->marks && k < k1; k++)
			count -= m->edit->marks[k];
		for (; cell < m->edit->grown && m->edit->cells[cell] < next; cell++)
			count++;
		m->begins[r + 1] = count;
	}
}

static void merge_rows(void *argument, size_t index) {
	merge *m = argument;
	int64_t begin = (int64_t)index * ROWS, end = begin + ROWS < m->a.rows ? begin + ROWS : m->a.rows;
	int64_t cell = cell_from(m, begin), at = m->begins[begin];
	for (int64_t r = begin; r < end; r++) {
		int64_t first = r * m->a.cols, next = first + m->a.cols;
		for (int64_t k = offset(m, r); k < offset(m, r + 1); k++) {
			int32_t column = m->a.col_indices[k];
			for (; cell < m->edit->grown && m->edit->cells[cell] < first + column; cell++, at++) {
				m->columns[at] = (int32_t)(m->edit->cells[cell] - first);
				m->map[at] = -1;
			}
			if (m->edit->marks && m->edit->marks[k])
				continue;
			m->columns[at] = column;
			m->map[at++] = k;
		}
		for (; cell < m->edit->grown && m->edit->cells[cell] < next; cell++, at++) {
			m->columns[at] = (int32_t)(m->edit->cells[cell] - first);
			m->map[at] = -1;
		}
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
	sl_dtype dtype;
	const int64_t *map;
	int64_t nnz, pieces;
} carrying;

static void carry_piece(void *argument, size_t index) {
	const carrying *c = argument;
	const sl_carried *array = &c->arrays[(int64_t)index / c->pieces];
	int64_t begin = (int64_t)index % c->pieces * CARRIED, end = begin + CARRIED < c->nnz ? begin + CARRIED : c->nnz;
	const int64_t *map = c->map;
	if (c->dtype == SL_F32) {
		const float *from = array->from;
		float *to = array->to, fill = (float)array->fill;
		for (int64_t i = begin; i < end; i++) { /* new entries come at random: no branches */
			float old = from[map[i] & ~(map[i] >> 63)];
			to[i] = map[i] < 0 ? fill : old;
		}
	} else {
		const double *from = array->from;
		double *to = array->to;
		for (int64_t i = begin; i < end; i++) {
			double old = from[map[i] & ~(map[i] >> 63)];
			to[i] = map[i] < 0 ? array->fill : old;
		}
	}
}

void sli_carry(sl_context *context, const sl_carried *arrays, int count, sl_dtype dtype, const int64_t *map,
			   int64_t nnz) {
	carrying c = {arrays, dtype, map, nnz, sli_ceil_div(nnz, CARRIED)};
	sli_parallel(context, (size_t)(c.pieces * count), carry_piece, &c);
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
