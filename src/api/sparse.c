/* SPDX-License-Identifier: Apache-2.0 */
#include "core/checked.h"
#include "sparse/view.h"

SL_API sl_sparse sl_sparse_from_csr(const sl_csr *matrix) {
	if (!matrix)
		return (sl_sparse){0};
	sl_pattern_arrays a = sli_pattern_arrays(matrix->pattern);
	if (!a.row_offsets) /* on a device, and there is no context to copy with */
		return (sl_sparse){0};
	return (sl_sparse){.format = SL_SPARSE_CSR,
					   .rows = a.rows,
					   .cols = a.cols,
					   .nnz = a.nnz,
					   .offsets = a.row_offsets,
					   .offset_dtype = a.offset_dtype,
					   .col_indices = a.col_indices,
					   .index_dtype = SL_I32,
					   .values = matrix->values,
					   .dtype = matrix->dtype};
}

SL_API sl_sparse sl_sparse_slice(sl_sparse view, int64_t first, int64_t count) {
	if (view.format != SL_SPARSE_CSR || first < 0 || count < 0 || first > view.rows || count > view.rows - first)
		return (sl_sparse){0};
	size_t skip = (size_t)first * sl_dtype_size(view.offset_dtype);
	if (view.offsets)
		view.offsets = (const char *)view.offsets + skip;
	if (view.ends)
		view.ends = (const char *)view.ends + skip;
	view.rows = count;
	return view;
}

SL_API sl_status sl_sparse_select(sl_context *context, const sl_sparse *view, const int64_t *rows, int64_t count,
								  int64_t *offsets, int64_t *ends, sl_sparse *chosen) {
	if (!context)
		return SL_ERR_NULL;
	if (!view || !chosen)
		return sli_fail(context, SL_ERR_NULL, "%s is null", view ? "chosen" : "view");
	if (view->format != SL_SPARSE_CSR)
		return sli_fail(context, SL_ERR_LAYOUT, "view is not CSR, whose rows alone can be chosen without copying");
	if (count > 0 && (!rows || !offsets || !ends || (view->rows && !view->offsets)))
		return sli_fail(context, SL_ERR_NULL, "%s is null",
						!rows             ? "rows"
						: offsets && ends ? "view.offsets"
										  : "offsets or ends");
	if (view->offset_dtype != SL_I32 && view->offset_dtype != SL_I64)
		return sli_fail(context, SL_ERR_DTYPE, "view.offset_dtype is %s; it must be i32 or i64",
						sl_dtype_name(view->offset_dtype));
	if (count < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "count is %lld; it must not be negative", (long long)count);
	for (int64_t i = 0; i < count; i++) {
		if (rows[i] < 0 || rows[i] >= view->rows)
			return sli_fail(context, SL_ERR_ARGUMENT, "rows[%lld] is %lld; it must be in [0, %lld)", (long long)i,
							(long long)rows[i], (long long)view->rows);
		offsets[i] = sli_index(view->offsets, view->offset_dtype, rows[i]);
		ends[i] = view->ends ? sli_index(view->ends, view->offset_dtype, rows[i])
							 : sli_index(view->offsets, view->offset_dtype, rows[i] + 1);
	}
	sl_sparse made = *view;
	made.rows = count;
	made.offsets = offsets;
	made.ends = ends;
	made.offset_dtype = SL_I64;
	*chosen = made;
	return SL_OK;
}

SL_API sl_status sl_sparse_check(sl_context *context, const sl_sparse *view) {
	if (!context)
		return SL_ERR_NULL;
	return sli_check_sparse(context, view, "view", 0);
}
