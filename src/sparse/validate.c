/* SPDX-License-Identifier: Apache-2.0 */
#include "sparse/sparse.h"

sl_status sli_check_offsets(sl_context *context, const char *name, const void *offsets, sl_dtype dtype, int64_t count,
							int64_t nnz) {
	int64_t before = sli_index(offsets, dtype, 0);
	if (before != 0)
		return sli_fail(context, SL_ERR_STRUCTURE, "%s[0] is %lld; it must be 0", name, (long long)before);
	for (int64_t i = 1; i <= count; i++) {
		int64_t now = sli_index(offsets, dtype, i);
		if (now < before || now > nnz)
			return sli_fail(context, SL_ERR_STRUCTURE,
							"%s[%lld] is %lld; it must be between %s[%lld] = %lld and nnz = %lld", name, (long long)i,
							(long long)now, name, (long long)i - 1, (long long)before, (long long)nnz);
		before = now;
	}
	if (before != nnz)
		return sli_fail(context, SL_ERR_STRUCTURE, "the last of %s is %lld; it must be nnz = %lld", name,
						(long long)before, (long long)nnz);
	return SL_OK;
}

sl_status sli_pattern_validate(sl_context *context, const sl_pattern_arrays *a) {
	SL_TRY(sli_check_offsets(context, "row_offsets", a->row_offsets, a->offset_dtype, a->rows, a->nnz));
	for (int64_t r = 0; r < a->rows; r++) {
		int64_t end = sli_index(a->row_offsets, a->offset_dtype, r + 1), last = -1;
		for (int64_t k = sli_index(a->row_offsets, a->offset_dtype, r); k < end; k++) {
			int64_t c = a->col_indices[k];
			if (c < 0 || c >= a->cols)
				return sli_fail(context, SL_ERR_STRUCTURE, "column %lld in row %lld (entry %lld) is outside [0, %lld)",
								(long long)c, (long long)r, (long long)k, (long long)a->cols);
			if (c == last)
				return sli_fail(context, SL_ERR_STRUCTURE, "column %lld occurs twice in row %lld (entry %lld)",
								(long long)c, (long long)r, (long long)k);
			if (c < last)
				return sli_fail(context, SL_ERR_STRUCTURE,
								"columns of row %lld are not sorted: entry %lld has column %lld after %lld",
								(long long)r, (long long)k, (long long)c, (long long)last);
			last = c;
		}
	}
	return SL_OK;
}
