/* SPDX-License-Identifier: Apache-2.0 */
/* Sparse targets: checked, and as the loss takes them. */
#include "core/checked.h"
#include "ops/ops.h"
#include "sparse/view.h"

static sl_status check_increasing(sl_context *context, const sl_sparse *view) {
	sl_sparse_batch b;
	sli_sparse_batch(view, 0, NULL, &b);
	for (int64_t r = 0; r < view->rows; r++) {
		int64_t end = sli_index(b.ends, b.offset_dtype, r);
		for (int64_t k = sli_index(b.begins, b.offset_dtype, r) + 1; k < end; k++)
			if (b.columns[k] <= b.columns[k - 1])
				return sli_fail(context, SL_ERR_STRUCTURE,
								"targets.sparse: column %d follows %d in row %lld (entry %lld); columns must increase",
								(int)b.columns[k], (int)b.columns[k - 1], (long long)r, (long long)k);
	}
	return SL_OK;
}

sl_status sli_check_sparse_targets(sl_context *context, sl_loss loss, const sl_sparse *view, bool ignore_zeros,
								   sl_dtype dtype, int64_t rows, int64_t cols) {
	if (ignore_zeros && loss == SL_SOFTMAX_CROSS_ENTROPY)
		return sli_fail(context, SL_ERR_ARGUMENT,
						"ignore_zeros is set, but softmax cross-entropy is over all outputs: it needs every target");
	SL_TRY(sli_check_sparse(context, view, "targets.sparse", dtype));
	if (!sli_sparse_in_place(view))
		return sli_fail(context, SL_ERR_LAYOUT, "targets.sparse must be CSR with int32 columns");
	if (view->rows != rows || view->cols != cols)
		return sli_fail(context, SL_ERR_SHAPE, "targets.sparse is %lldx%lld, outputs %lldx%lld; they must be the same",
						(long long)view->rows, (long long)view->cols, (long long)rows, (long long)cols);
	return check_increasing(context, view);
}

void sli_sparse_targets(const sl_sparse *view, sl_sparse_batch *batch) {
	sli_sparse_batch(view, sli_sparse_entries(view), NULL, batch);
}
