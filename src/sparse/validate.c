/* SPDX-License-Identifier: Apache-2.0 */
#include "sparse/sparse.h"

sl_status sli_pattern_validate(sl_context *context, const sl_pattern_arrays *a, sl_dtype index_dtype,
							   const void *col_indices, bool strict) {
	int64_t before = 0;
	if (sli_index(a->row_offsets, a->offset_dtype, 0) != 0)
		return sli_fail(context, SL_ERR_STRUCTURE, "row_offsets[0] is %lld; it must be 0",
						(long long)sli_index(a->row_offsets, a->offset_dtype, 0));
	for (int64_t r = 0; r < a->rows; r++) {
		int64_t end = sli_index(a->row_offsets, a->offset_dtype, r + 1), last = -1;
		if (end < before || end > a->nnz)
			return sli_fail(context, SL_ERR_STRUCTURE,
							"row_offsets[%lld] is %lld; it must be between row_offsets[%lld] = %lld and nnz = %lld",
							(long long)r + 1, (long long)end, (long long)r, (long long)before, (long long)a->nnz);
		for (int64_t k = before; k < end; k++) {
			int64_t c = sli_index(col_indices, index_dtype, k);
			if (c < 0 || c >= a->cols)
				return sli_fail(context, SL_ERR_STRUCTURE, "column %lld in row %lld (entry %lld) is outside [0, %lld)",
								(long long)c, (long long)r, (long long)k, (long long)a->cols);
			if (strict && c == last)
				return sli_fail(context, SL_ERR_STRUCTURE, "column %lld occurs twice in row %lld (entry %lld)",
								(long long)c, (long long)r, (long long)k);
			if (strict && c < last)
				return sli_fail(context, SL_ERR_STRUCTURE,
								"columns of row %lld are not sorted: entry %lld has column %lld after %lld",
								(long long)r, (long long)k, (long long)c, (long long)last);
			last = c;
		}
		before = end;
	}
	if (before != a->nnz)
		return sli_fail(context, SL_ERR_STRUCTURE, "the last row offset is %lld; it must be nnz = %lld",
						(long long)before, (long long)a->nnz);
	return SL_OK;
}
