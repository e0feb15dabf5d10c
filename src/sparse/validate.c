/* SPDX-License-Identifier: Apache-2.0 */
#include "sparse/sparse.h"

sl_status sli_fail_offset(sl_context *context, const char *name, int64_t i, int64_t before, int64_t now, int64_t count,
						  int64_t nnz) {
	if (i == 0)
		return sli_fail(context, SL_ERR_STRUCTURE, "%s[0] is %lld; it must be 0", name, (long long)now);
	if (now < before || now > nnz || i < count)
		return sli_fail(context, SL_ERR_STRUCTURE,
						"%s[%lld] is %lld; it must be between %s[%lld] = %lld and nnz = %lld", name, (long long)i,
						(long long)now, name, (long long)i - 1, (long long)before, (long long)nnz);
	return sli_fail(context, SL_ERR_STRUCTURE, "the last of %s is %lld; it must be nnz = %lld", name, (long long)now,
					(long long)nnz);
}

sl_status sli_check_offsets(sl_context *context, const char *name, const void *offsets, sl_dtype dtype, int64_t count,
							int64_t nnz) {
	int64_t before = 0;
	for (int64_t i = 0; i <= count; i++) {
		int64_t now = sli_index(offsets, dtype, i);
		if (now < before || now > nnz || (i == 0 && now) || (i == count && now != nnz))
			return sli_fail_offset(context, name, i, before, now, count, nnz);
		before = now;
	}
	return SL_OK;
}

sl_status sli_fail_column(sl_context *context, int64_t row, int64_t entry, int64_t column, int64_t last, int64_t cols) {
	long long r = (long long)row, k = (long long)entry, c = (long long)column;
	if (column < 0 || column >= cols)
		return sli_fail(context, SL_ERR_STRUCTURE, "column %lld in row %lld (entry %lld) is outside [0, %lld)", c, r, k,
						(long long)cols);
	if (column == last)
		return sli_fail(context, SL_ERR_STRUCTURE, "column %lld occurs twice in row %lld (entry %lld)", c, r, k);
	return sli_fail(context, SL_ERR_STRUCTURE,
					"columns of row %lld are not sorted: entry %lld has column %lld after %lld", r, k, c,
					(long long)last);
}

sl_status sli_pattern_validate(sl_context *context, const sl_pattern_arrays *a) {
	SL_TRY(sli_check_offsets(context, "row_offsets", a->row_offsets, a->offset_dtype, a->rows, a->nnz));
	for (int64_t r = 0; r < a->rows; r++) {
		int64_t end = sli_index(a->row_offsets, a->offset_dtype, r + 1), last = -1;
		for (int64_t k = sli_index(a->row_offsets, a->offset_dtype, r); k < end; k++) {
			int64_t c = a->col_indices[k];
			if (c <= last || c >= a->cols)
				return sli_fail_column(context, r, k, c, last, a->cols);
			last = c;
		}
	}
	return SL_OK;
}
