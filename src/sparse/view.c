/* SPDX-License-Identifier: Apache-2.0 */
#include "sparse/view.h"

#include "core/checked.h"

static size_t align(size_t bytes) {
	return (bytes + 63) & ~(size_t)63;
}

/* Lines are what offsets run over. */
static int64_t lines(const sl_sparse *v) {
	return v->format == SL_SPARSE_COO ? 1 : v->format == SL_SPARSE_CSR ? v->rows : v->cols;
}

static int64_t line_begin(const sl_sparse *v, int64_t line) {
	return v->format == SL_SPARSE_COO ? 0 : sli_index(v->offsets, v->offset_dtype, line);
}

static int64_t line_end(const sl_sparse *v, int64_t line) {
	if (v->format == SL_SPARSE_COO)
		return v->nnz;
	return v->ends ? sli_index(v->ends, v->offset_dtype, line) : sli_index(v->offsets, v->offset_dtype, line + 1);
}

static sl_status check_index_dtype(sl_context *context, const char *name, const char *what, sl_dtype dtype) {
	if (dtype != SL_I32 && dtype != SL_I64)
		return sli_fail(context, SL_ERR_DTYPE, "%s.%s is %s; it must be i32 or i64", name, what, sl_dtype_name(dtype));
	return SL_OK;
}

static sl_status check_array(sl_context *context, const char *name, const char *what, const void *array, bool needed) {
	if (needed && !array)
		return sli_fail(context, SL_ERR_NULL, "%s.%s is null", name, what);
	return SL_OK;
}

static sl_status check_fields(sl_context *context, const sl_sparse *v, const char *name, sl_dtype dtype) {
	if ((int)v->format < SL_SPARSE_CSR || v->format > SL_SPARSE_COO)
		return sli_fail(context, SL_ERR_ARGUMENT, "%s.format is %d; it is 0 (csr), 1 (csc) or 2 (coo)", name,
						(int)v->format);
	if (v->rows < 0 || v->cols < 0 || v->nnz < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "%s is %lld x %lld with %lld entries; none may be negative", name,
						(long long)v->rows, (long long)v->cols, (long long)v->nnz);
	if (v->rows > INT32_MAX || v->cols > INT32_MAX)
		return sli_fail(context, SL_ERR_OVERFLOW, "%s is %lld x %lld; at most 2^31 - 1 rows and columns", name,
						(long long)v->rows, (long long)v->cols);
	bool offsets = v->format != SL_SPARSE_COO;
	if (offsets && lines(v)) {
		SL_TRY(check_array(context, name, "offsets", v->offsets, true));
		SL_TRY(check_index_dtype(context, name, "offset_dtype", v->offset_dtype));
	}
	SL_TRY(check_array(context, name, "col_indices", v->col_indices, v->nnz && v->format != SL_SPARSE_CSC));
	SL_TRY(check_array(context, name, "row_indices", v->row_indices, v->nnz && v->format != SL_SPARSE_CSR));
	if (v->nnz)
		SL_TRY(check_index_dtype(context, name, "index_dtype", v->index_dtype));
	if (v->values && v->dtype != SL_F32 && v->dtype != SL_F64)
		return sli_fail(context, SL_ERR_DTYPE, "%s has values of %s; f32 or f64 is needed", name,
						sl_dtype_name(v->dtype));
	if (v->values && dtype && v->dtype != dtype)
		return sli_fail(context, SL_ERR_DTYPE, "%s has values of %s; %s is needed", name, sl_dtype_name(v->dtype),
						sl_dtype_name(dtype));
	return SL_OK;
}

static sl_status check_lines(sl_context *context, const sl_sparse *v, const char *name) {
	const char *line = v->format == SL_SPARSE_CSR ? "row" : "column";
	for (int64_t i = 0; i < lines(v) && v->format != SL_SPARSE_COO; i++) {
		int64_t begin = line_begin(v, i), end = line_end(v, i);
		if (begin < 0 || end < begin || end > v->nnz)
			return sli_fail(context, SL_ERR_STRUCTURE,
							"%s: %s %lld has entries [%lld, %lld); they must not decrease and lie in [0, %lld]", name,
							line, (long long)i, (long long)begin, (long long)end, (long long)v->nnz);
	}
	return SL_OK;
}

/* Whether entries [begin, end) are within a bound; compilers vectorise the loop of int32. */
static bool within(const void *indices, sl_dtype dtype, int64_t begin, int64_t end, int64_t bound) {
	bool good = true;
	if (dtype == SL_I32) {
		const int32_t *index = indices;
		uint32_t most = 0;
		for (int64_t k = begin; k < end; k++)
			most = (uint32_t)index[k] > most ? (uint32_t)index[k] : most;
		return begin >= end || (int64_t)most < bound;
	}
	for (int64_t k = begin; k < end; k++)
		good &= ((const int64_t *)indices)[k] >= 0 && ((const int64_t *)indices)[k] < bound;
	return good;
}

static sl_status check_indices(sl_context *context, const sl_sparse *v, const char *name, const void *indices,
							   int64_t bound, const char *what, const char *line) {
	for (int64_t i = 0; indices && i < lines(v); i++) {
		int64_t begin = line_begin(v, i), end = line_end(v, i), k = begin;
		if (within(indices, v->index_dtype, begin, end, bound))
			continue;
		while (within(indices, v->index_dtype, k, k + 1, bound))
			k++;
		if (v->format == SL_SPARSE_COO)
			return sli_fail(context, SL_ERR_STRUCTURE, "%s: %s %lld (entry %lld) is outside [0, %lld)", name, what,
							(long long)sli_index(indices, v->index_dtype, k), (long long)k, (long long)bound);
		return sli_fail(context, SL_ERR_STRUCTURE, "%s: %s %lld in %s %lld (entry %lld) is outside [0, %lld)", name,
						what, (long long)sli_index(indices, v->index_dtype, k), line, (long long)i, (long long)k,
						(long long)bound);
	}
	return SL_OK;
}

sl_status sli_check_sparse(sl_context *context, const sl_sparse *view, const char *name, sl_dtype dtype) {
	if (!view)
		return sli_fail(context, SL_ERR_NULL, "%s is null", name);
	SL_TRY(check_fields(context, view, name, dtype));
	SL_TRY(check_lines(context, view, name));
	if (view->format != SL_SPARSE_CSC)
		SL_TRY(check_indices(context, view, name, view->col_indices, view->cols, "column", "row"));
	if (view->format != SL_SPARSE_CSR)
		SL_TRY(check_indices(context, view, name, view->row_indices, view->rows, "row", "column"));
	return SL_OK;
}

int64_t sli_sparse_entries(const sl_sparse *view) {
	int64_t count = 0;
	for (int64_t i = 0; i < lines(view); i++)
		count += line_end(view, i) - line_begin(view, i);
	return count;
}

bool sli_sparse_in_place(const sl_sparse *view) {
	return view->format == SL_SPARSE_CSR && (view->index_dtype == SL_I32 || !view->nnz);
}

bool sli_sparse_batch_bytes(const sl_sparse *view, int64_t entries, size_t *bytes) {
	size_t offsets, columns, values;
	*bytes = 0;
	if (sli_sparse_in_place(view))
		return true;
	if (!sli_bytes(view->rows + 2, sizeof(int64_t), &offsets) || !sli_bytes(entries, 8, &values) ||
		!sli_bytes(entries, sizeof(int32_t), &columns) || values > PTRDIFF_MAX / 4 || offsets > PTRDIFF_MAX / 4)
		return false;
	*bytes = align(offsets) + align(columns) + align(values);
	return true;
}

/* Entries by row, in the order in which they are listed: a counting sort. begins[r + 1] is a cursor into row r, and
 * once all are placed where row r + 1 begins. */
static void by_row(const sl_sparse *v, int64_t *begins, int32_t *columns, char *values) {
	size_t size = sl_dtype_size(v->dtype);
	for (int pass = 0; pass < 2; pass++) {
		for (int64_t line = 0; line < lines(v); line++)
			for (int64_t k = line_begin(v, line); k < line_end(v, line); k++) {
				int64_t row = v->format == SL_SPARSE_CSR ? line : sli_index(v->row_indices, v->index_dtype, k);
				if (pass == 0) {
					begins[row + 2]++;
					continue;
				}
				int64_t to = begins[row + 1]++;
				columns[to] =
					(int32_t)(v->format == SL_SPARSE_CSC ? line : sli_index(v->col_indices, v->index_dtype, k));
				if (v->values)
					memcpy(values + (size_t)to * size, (const char *)v->values + (size_t)k * size, size);
			}
		for (int64_t r = 0; pass == 0 && r < v->rows; r++)
			begins[r + 2] += begins[r + 1];
	}
}

void sli_sparse_batch(const sl_sparse *v, int64_t entries, void *memory, sl_sparse_batch *batch) {
	static const int64_t nothing[2];
	*batch = (sl_sparse_batch){.rows = v->rows, .cols = v->cols, .nnz = entries};
	if (sli_sparse_in_place(v)) {
		batch->offset_dtype = v->offset_dtype;
		batch->begins = v->offsets ? v->offsets : nothing;
		batch->ends = v->ends ? v->ends : (const char *)batch->begins + sl_dtype_size(v->offset_dtype);
		batch->columns = v->col_indices;
		batch->values = v->values;
		return;
	}
	int64_t *begins = memory;
	int32_t *columns = (int32_t *)((char *)memory + align((size_t)(v->rows + 2) * sizeof *begins));
	char *values = (char *)columns + align((size_t)entries * sizeof *columns);
	memset(begins, 0, (size_t)(v->rows + 2) * sizeof *begins);
	by_row(v, begins, columns, values);
	batch->offset_dtype = SL_I64;
	batch->begins = begins;
	batch->ends = begins + 1;
	batch->columns = columns;
	batch->values = v->values ? values : NULL;
}
