/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "core/checked.h"
#include "sparse/pattern.h"
#include "sparse/random.h"

static sl_status check_shape(sl_context *context, void *out, int64_t rows, int64_t cols, int64_t *total) {
	if (!context || !out)
		return sli_fail(context, SL_ERR_NULL, "the result's pointer or the context is null");
	if (rows < 0 || cols < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "%lld x %lld: sizes must not be negative", (long long)rows,
		                (long long)cols);
	if (cols > INT32_MAX)
		return sli_fail(context, SL_ERR_OVERFLOW, "cols is %lld; column indices are int32, so at most 2147483647",
		                (long long)cols);
	if (!sli_mul(rows, cols, total) || rows > INT64_MAX / 16)
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld x %lld entries do not fit int64", (long long)rows, (long long)cols);
	return SL_OK;
}

static sl_status check_arrays(sl_context *context, const sl_pattern_arrays *a, sl_dtype index_dtype,
                              const void *col_indices) {
	if (a->nnz < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "nnz is %lld; it must not be negative", (long long)a->nnz);
	if ((a->offset_dtype != SL_I32 && a->offset_dtype != SL_I64) || (index_dtype != SL_I32 && index_dtype != SL_I64))
		return sli_fail(context, SL_ERR_DTYPE, "offset and index dtypes must be SL_I32 or SL_I64");
	if (!a->row_offsets || (a->nnz && !col_indices))
		return sli_fail(context, SL_ERR_NULL, "%s is null", a->row_offsets ? "col_indices" : "row_offsets");
	return SL_OK;
}

sl_status sl_pattern_wrap(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
                          const void *row_offsets, sl_dtype offset_dtype, const int32_t *col_indices,
                          sl_release_callback release, void *user) {
	int64_t total = 0;
	sl_pattern_arrays arrays = {rows, cols, nnz, row_offsets, offset_dtype, col_indices};
	if (pattern)
		*pattern = NULL;
	SL_TRY(check_shape(context, pattern, rows, cols, &total));
	SL_TRY(check_arrays(context, &arrays, SL_I32, col_indices));
	SL_TRY(sli_pattern_validate(context, &arrays, SL_I32, col_indices, true));
	SL_TRY(sli_pattern_new(pattern, context, &arrays));
	(*pattern)->release = release;
	(*pattern)->release_user = user;
	return SL_OK;
}

static void sort_row(int32_t *columns, int64_t count) {
	for (int64_t i = 1; i < count; i++) /* rows are short, or sorted already */
		for (int64_t j = i; j > 0 && columns[j - 1] > columns[j]; j--) {
			int32_t other = columns[j];
			columns[j] = columns[j - 1];
			columns[j - 1] = other;
		}
}

sl_status sl_pattern_create(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
                            const void *row_offsets, sl_dtype offset_dtype, const void *col_indices,
                            sl_dtype index_dtype) {
	int64_t total = 0;
	void *offsets;
	int32_t *columns;
	sl_pattern_arrays given = {rows, cols, nnz, row_offsets, offset_dtype, NULL};
	if (pattern)
		*pattern = NULL;
	SL_TRY(check_shape(context, pattern, rows, cols, &total));
	SL_TRY(check_arrays(context, &given, index_dtype, col_indices));
	SL_TRY(sli_pattern_validate(context, &given, index_dtype, col_indices, false));
	SL_TRY(sli_pattern_take(context, rows, nnz, &offsets, &columns));
	sl_dtype dtype = sli_offset_dtype(nnz);
	for (int64_t r = 0; r < rows; r++) {
		int64_t begin = sli_index(row_offsets, offset_dtype, r), end = sli_index(row_offsets, offset_dtype, r + 1);
		for (int64_t k = begin; k < end; k++)
			columns[k] = (int32_t)sli_index(col_indices, index_dtype, k);
		sort_row(columns + begin, end - begin);
		sli_index_set(offsets, dtype, r + 1, end);
	}
	sl_pattern_arrays made = {rows, cols, nnz, offsets, dtype, columns};
	sl_status status = sli_pattern_validate(context, &made, SL_I32, columns, true);
	if (status != SL_OK) {
		sli_heap_free(sli_heap(context), offsets, (size_t)(rows + 1) * sl_dtype_size(dtype));
		sli_heap_free(sli_heap(context), columns, (size_t)nnz * 4);
		return status;
	}
	return sli_pattern_adopt(pattern, context, rows, cols, nnz, offsets, columns);
}

sl_status sl_pattern_random(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, double density,
                            uint64_t stream) {
	int64_t total = 0;
	if (pattern)
		*pattern = NULL;
	SL_TRY(check_shape(context, pattern, rows, cols, &total));
	if (!(density >= 0 && density <= 1))
		return sli_fail(context, SL_ERR_ARGUMENT, "density is %g; it must be in [0, 1]", density);
	int64_t nnz = density == 1 ? total : (int64_t)llround(density * (double)total);
	return sli_pattern_random(pattern, context, rows, cols, total, nnz < total ? nnz : total, stream);
}

sl_status sl_pattern_full(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols) {
	return sl_pattern_random(pattern, context, rows, cols, 1, 0);
}

sl_status sl_pattern_get(sl_context *context, const sl_pattern *pattern, sl_pattern_arrays *arrays) {
	if (!pattern || !arrays)
		return sli_fail(context, SL_ERR_NULL, "%s is null", pattern ? "arrays" : "pattern");
	*arrays = pattern->arrays;
	return SL_OK;
}

sl_status sl_pattern_transpose(sl_context *context, sl_pattern *pattern, sl_pattern_arrays *arrays,
                               const void **permutation, sl_dtype *permutation_dtype) {
	if (!pattern || !arrays || !permutation || !permutation_dtype)
		return sli_fail(context, SL_ERR_NULL, "an argument is null");
	SL_TRY(sli_pattern_make_transpose(context, pattern));
	*arrays = pattern->transposed;
	*permutation = pattern->permutation;
	*permutation_dtype = pattern->permutation_dtype;
	return SL_OK;
}
