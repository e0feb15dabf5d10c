/* SPDX-License-Identifier: Apache-2.0 */
/* One way in for every layout: entries are grouped by row with a counting sort, each row is sorted
 * by column, duplicates are merged, and what is left is copied out. */
#include "sparse/build.h"

#include <math.h>
#include <stdlib.h>

#include "core/checked.h"
#include "core/half.h"
#include "core/place.h"
#include "sparse/random.h"

typedef struct cell {
	int64_t entry; /* as given: breaks ties, so that sorting is stable */
	double value;
	int32_t col;
} cell;

static sl_status check_index(sl_context *context, const char *what, const char *other, int64_t value, int64_t bound,
							 int64_t line, int64_t entry) {
	if (value >= 0 && value < bound)
		return SL_OK;
	if (line < 0)
		return sli_fail(context, SL_ERR_STRUCTURE, "%s %lld (entry %lld) is outside [0, %lld)", what, (long long)value,
						(long long)entry, (long long)bound);
	return sli_fail(context, SL_ERR_STRUCTURE, "%s %lld in %s %lld (entry %lld) is outside [0, %lld)", what,
					(long long)value, other, (long long)line, (long long)entry, (long long)bound);
}

static sl_status check_content(sl_context *context, const sl_entries *e) {
	int64_t line = 0;
	if (e->offsets)
		SL_TRY(sli_check_offsets(context, e->by_column ? "col_offsets" : "row_offsets", e->offsets, e->offset_dtype,
								 e->by_column ? e->cols : e->rows, e->nnz));
	for (int64_t k = 0; k < e->nnz; k++) {
		if (e->offsets)
			while (sli_index(e->offsets, e->offset_dtype, line + 1) <= k)
				line++;
		if (e->row_indices)
			SL_TRY(check_index(context, "row", "column", sli_index(e->row_indices, e->index_dtype, k), e->rows,
							   e->offsets ? line : -1, k));
		if (e->col_indices)
			SL_TRY(check_index(context, "column", "row", sli_index(e->col_indices, e->index_dtype, k), e->cols,
							   e->offsets ? line : sli_index(e->row_indices, e->index_dtype, k), k));
	}
	return SL_OK;
}

/* Cells grouped by row in the order given; begins[r] is where row r's begin. `begins` has rows + 2
 * zeroed elements. */
static void group(const sl_entries *e, int64_t *begins, cell *cells) {
	int64_t line = 0;
	if (e->row_indices) {
		for (int64_t k = 0; k < e->nnz; k++)
			begins[sli_index(e->row_indices, e->index_dtype, k) + 2]++;
		for (int64_t r = 0; r < e->rows; r++)
			begins[r + 2] += begins[r + 1];
	} else {
		for (int64_t r = 0; r <= e->rows; r++)
			begins[r + 1] = sli_index(e->offsets, e->offset_dtype, r);
	}
	/* begins[r + 1] is a cursor into row r; once all are placed it is where row r + 1 begins. */
	for (int64_t k = 0; k < e->nnz; k++) {
		if (e->offsets)
			while (sli_index(e->offsets, e->offset_dtype, line + 1) <= k)
				line++;
		int64_t row = e->row_indices ? sli_index(e->row_indices, e->index_dtype, k) : line;
		int64_t col = e->col_indices ? sli_index(e->col_indices, e->index_dtype, k) : line;
		cells[begins[row + 1]++] = (cell){k, e->values ? sli_load(e->values, e->value_dtype, k) : 0, (int32_t)col};
	}
}

static int by_column(const void *a, const void *b) {
	const cell *x = a, *y = b;
	return x->col != y->col ? (x->col > y->col) - (x->col < y->col) : (x->entry > y->entry) - (x->entry < y->entry);
}

static void sort_row(cell *cells, int64_t count) {
	for (int64_t i = 1; i < count; i++)
		if (cells[i - 1].col > cells[i].col) {
			qsort(cells, (size_t)count, sizeof *cells, by_column);
			return;
		}
}

static void merge_into(cell *kept, const cell *next, sl_duplicates rule) {
	if (rule == SL_DUPLICATES_SUM)
		kept->value += next->value;
	else if (rule == SL_DUPLICATES_LAST)
		kept->value = next->value;
}

/* Sort and merge each row; begins[r] becomes where row r's merged cells begin, packed from 0. */
static sl_status merge(sl_context *context, const sl_entries *e, int64_t *begins, cell *cells,
					   const sl_build_options *o) {
	int64_t used = 0;
	for (int64_t r = 0; r < e->rows; r++) {
		int64_t begin = begins[r], end = begins[r + 1], first = used;
		sort_row(cells + begin, end - begin);
		begins[r] = first;
		for (int64_t k = begin; k < end; k++) {
			cell now = cells[k];
			if (o->refuse_nonfinite && !isfinite(now.value))
				return sli_fail(context, SL_ERR_NONFINITE,
								"entry %lld (row %lld, column %d) is %g; finite values are asked for",
								(long long)now.entry, (long long)r, (int)now.col, now.value);
			if (used > first && cells[used - 1].col == now.col) {
				if (o->duplicates == SL_DUPLICATES_REFUSE)
					return sli_fail(
						context, SL_ERR_STRUCTURE,
						"column %d occurs twice in row %lld (entries %lld and %lld); duplicates are refused",
						(int)now.col, (long long)r, (long long)cells[used - 1].entry, (long long)now.entry);
				merge_into(&cells[used - 1], &now, o->duplicates);
			} else {
				cells[used++] = now;
			}
		}
		int64_t kept = first;
		for (int64_t k = first; o->drop_zeros && k < used; k++)
			if (cells[k].value != 0)
				cells[kept++] = cells[k];
		used = o->drop_zeros ? kept : used;
	}
	begins[e->rows] = used;
	return SL_OK;
}

static sl_status copy_out(sl_pattern **pattern, void **values, sl_dtype dtype, sl_context *context, const sl_entries *e,
						  const int64_t *begins, const cell *cells) {
	void *offsets;
	int32_t *columns;
	int64_t nnz = begins[e->rows];
	size_t value_bytes = values ? (size_t)nnz * sl_dtype_size(dtype) : 0;
	if (values)
		SL_TRY(sli_allocate(context, value_bytes, "the values of a matrix", values));
	sl_status status = sli_pattern_take(context, e->rows, nnz, &offsets, &columns);
	if (status == SL_OK) {
		for (int64_t r = 0; r <= e->rows; r++)
			sli_index_set(offsets, sli_offset_dtype(nnz), r, begins[r]);
		for (int64_t k = 0; k < nnz; k++) {
			columns[k] = cells[k].col;
			if (values)
				sli_store(*values, dtype, k, cells[k].value);
		}
		status = sli_pattern_adopt(pattern, context, e->rows, e->cols, nnz, offsets, columns);
	}
	if (status != SL_OK && values) {
		sli_heap_free(sli_heap(context), *values, value_bytes);
		*values = NULL;
	}
	return status;
}

sl_status sli_build(sl_pattern **pattern, void **values, sl_dtype dtype, sl_context *context, const sl_entries *e,
					const sl_build_options *options) {
	int64_t *begins;
	cell *cells;
	size_t begin_bytes, cell_bytes;
	SL_TRY(check_content(context, e));
	if (!sli_bytes(e->rows + 2, sizeof *begins, &begin_bytes) || !sli_bytes(e->nnz, sizeof *cells, &cell_bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld entries in %lld rows do not fit in memory", (long long)e->nnz,
						(long long)e->rows);
	SL_TRY(sli_allocate_zeroed(context, begin_bytes, "building a matrix", (void **)&begins));
	sl_status status = sli_allocate(context, cell_bytes, "building a matrix", (void **)&cells);
	if (status == SL_OK) {
		group(e, begins, cells);
		status = merge(context, e, begins, cells, options);
		if (status == SL_OK)
			status = copy_out(pattern, values, dtype, context, e, begins, cells);
		sli_heap_free(sli_heap(context), cells, cell_bytes);
	}
	sli_heap_free(sli_heap(context), begins, begin_bytes);
	return status;
}

sl_status sli_dense_threshold(sl_context *context, const sl_dense *dense, int64_t k, double *threshold) {
	double *keys;
	int64_t count = dense->rows * dense->cols, used = 0;
	SL_TRY(sli_allocate(context, (size_t)count * sizeof *keys, "ranking values", (void **)&keys));
	sl_status status = SL_OK;
	for (int64_t r = 0; r < dense->rows && status == SL_OK; r++)
		for (int64_t c = 0; c < dense->cols; c++) {
			keys[used] = fabs(sli_load(dense->data, dense->dtype, sli_at(dense, r, c)));
			if (isnan(keys[used++])) {
				status = sli_fail(context, SL_ERR_NONFINITE, "row %lld, column %lld is NaN: it has no rank",
								  (long long)r, (long long)c);
				break;
			}
		}
	if (status == SL_OK)
		*threshold = sli_nth_largest(keys, count, k - 1);
	sli_heap_free(sli_heap(context), keys, (size_t)count * sizeof *keys);
	return status;
}

/* Whether an element belongs; `ties` is how many that equal the threshold are still wanted. */
static bool wanted(double value, double threshold, bool drop_zeros, int64_t *ties) {
	double size = fabs(value);
	if (drop_zeros && size == 0)
		return false;
	return !(size <= threshold) || (size == threshold && (*ties)-- > 0);
}

sl_status sli_build_dense(sl_pattern **pattern, void **values, sl_dtype dtype, sl_context *context,
						  const sl_dense *dense, double threshold, int64_t keep, const sl_build_options *o) {
	int64_t nnz = 0, above = 0, used = 0;
	for (int64_t r = 0; r < dense->rows; r++)
		for (int64_t c = 0; c < dense->cols; c++) {
			double value = sli_load(dense->data, dense->dtype, sli_at(dense, r, c));
			if (o->refuse_nonfinite && !isfinite(value))
				return sli_fail(context, SL_ERR_NONFINITE, "row %lld, column %lld is %g; finite values are asked for",
								(long long)r, (long long)c, value);
			above += !(fabs(value) <= threshold);
		}
	int64_t ties = keep > above ? keep - above : 0, counted = ties;
	for (int64_t r = 0; r < dense->rows; r++)
		for (int64_t c = 0; c < dense->cols; c++)
			nnz += wanted(sli_load(dense->data, dense->dtype, sli_at(dense, r, c)), threshold, o->drop_zeros, &counted);
	void *offsets;
	int32_t *columns;
	size_t value_bytes = (size_t)nnz * sl_dtype_size(dtype);
	SL_TRY(sli_allocate(context, value_bytes, "the values of a matrix", values));
	sl_status status = sli_pattern_take(context, dense->rows, nnz, &offsets, &columns);
	if (status == SL_OK) {
		for (int64_t r = 0; r < dense->rows; r++) {
			for (int64_t c = 0; c < dense->cols; c++) {
				double value = sli_load(dense->data, dense->dtype, sli_at(dense, r, c));
				if (!wanted(value, threshold, o->drop_zeros, &ties))
					continue;
				columns[used] = (int32_t)c;
				sli_store(*values, dtype, used++, value);
			}
			sli_index_set(offsets, sli_offset_dtype(nnz), r + 1, used);
		}
		status = sli_pattern_adopt(pattern, context, dense->rows, dense->cols, nnz, offsets, columns);
	}
	if (status != SL_OK) {
		sli_heap_free(sli_heap(context), *values, value_bytes);
		*values = NULL;
	}
	return status;
}
