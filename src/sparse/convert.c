/* SPDX-License-Identifier: Apache-2.0 */
#include "sparse/convert.h"

#include "core/half.h"
#include "core/place.h"
#include "sparse/pattern.h"
#include "sparse/random.h"

void sli_csr_to_dense(const sl_csr *matrix, const sl_dense *dense) {
	sl_pattern_arrays a = sli_pattern_arrays(matrix->pattern);
	for (int64_t r = 0; r < a.rows; r++) {
		for (int64_t c = 0; c < a.cols; c++)
			sli_store(dense->data, dense->dtype, sli_at(dense, r, c), 0);
		for (int64_t k = sli_index(a.row_offsets, a.offset_dtype, r);
			 k < sli_index(a.row_offsets, a.offset_dtype, r + 1); k++)
			sli_store(dense->data, dense->dtype, sli_at(dense, r, a.col_indices[k]),
					  sli_load(matrix->values, matrix->dtype, k));
	}
}

void sli_permute(void *to, const void *from, size_t size, const void *permutation, sl_dtype permutation_dtype,
				 int64_t count) {
	for (int64_t i = 0; i < count; i++)
		memcpy((char *)to + (size_t)i * size,
			   (const char *)from + (size_t)sli_index(permutation, permutation_dtype, i) * size, size);
}

void sli_copy_indices(void *to, sl_dtype to_dtype, const void *from, sl_dtype from_dtype, int64_t count) {
	if (to_dtype == from_dtype && count)
		memcpy(to, from, (size_t)count * sl_dtype_size(to_dtype));
	else
		for (int64_t i = 0; i < count; i++)
			sli_index_set(to, to_dtype, i, sli_index(from, from_dtype, i));
}

void sli_expand_rows(void *to, sl_dtype dtype, const sl_pattern_arrays *a) {
	for (int64_t r = 0; r < a->rows; r++)
		for (int64_t k = sli_index(a->row_offsets, a->offset_dtype, r);
			 k < sli_index(a->row_offsets, a->offset_dtype, r + 1); k++)
			sli_index_set(to, dtype, k, r);
}

sl_status sli_pattern_transposed_copy(sl_pattern **result, sl_context *context, sl_pattern *pattern) {
	void *offsets;
	int32_t *columns;
	*result = NULL;
	SL_TRY(sli_pattern_make_transpose(context, pattern));
	const sl_pattern_arrays *t = &pattern->transposed;
	SL_TRY(sli_pattern_take(context, t->rows, t->nnz, &offsets, &columns));
	sli_copy_indices(offsets, sli_offset_dtype(t->nnz), t->row_offsets, t->offset_dtype, t->rows + 1);
	sli_copy_indices(columns, SL_I32, t->col_indices, SL_I32, t->nnz);
	return sli_pattern_adopt(result, context, t->rows, t->cols, t->nnz, offsets, columns);
}
