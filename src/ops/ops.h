/* SPDX-License-Identifier: Apache-2.0 */
/* How the runtime runs ops: check, plan, take workspace, execute. Layers and training call these. */
#ifndef SL_OPS_OPS_H
#define SL_OPS_OPS_H

#include "core/context.h"
#include "sparse/sparse.h"

struct sl_plan {
	sl_device_state *device; /* retained */
	sl_pattern *pattern;     /* retained; NULL for dense ops */
	sl_heap *heap;           /* owns this struct */
	sl_op_plan op;
};

/* The one table of legal dtype combinations, by op. SL_OK or SL_ERR_DTYPE with a message. */
sl_status sli_check_dtypes(sl_context *context, const sl_op_desc *desc);
sl_matrix_desc sli_desc(const sl_dense *view);
/* The dtype of biases and row sums beside matrices of a dtype. */
static inline sl_dtype sli_bias_dtype(sl_dtype dtype) {
	return dtype == SL_BF16 || dtype == SL_F16 ? SL_F32 : dtype;
}

/* Plan an op and keep the plan. `pattern` (retained) and desc->sparse belong together:
 * desc->sparse is filled in here, desc->transpose being read. */
sl_status sli_plan_create(sl_plan **plan, sl_context *context, const sl_op_desc *desc, sl_pattern *pattern);
/* Take workspace, execute, give it back. Fills in args->workspace. */
sl_status sli_plan_run(sl_context *context, const sl_plan *plan, sl_op_args *args);
void sli_plan_destroy(sl_plan *plan);

/* Plan on the stack, run, forget: for ops without state, which allocate nothing. */
sl_status sli_run(sl_context *context, const sl_op_desc *desc, sl_op_args *args);

/* Whether the memory of two views overlaps. */
bool sli_overlap(const sl_dense *a, const sl_dense *b);
/* A check on one matrix argument: sl_dense_check(), device of the context; `name` goes into the message. */
sl_status sli_check_dense(sl_context *context, const sl_dense *view, const char *name);
/* Bytes of `rows` x `cols` in panels of `width` columns. False on overflow. */
bool sli_panel_bytes(int64_t rows, int64_t cols, int64_t width, sl_dtype dtype, size_t *bytes);
/* A view of panels: SL_COL_PANELS, [rows, cols], on the context's device. */
sl_dense sli_panels(sl_context *context, void *data, sl_dtype dtype, int64_t rows, int64_t cols, int64_t width);
/* c = a, any orders and dtypes (SL_OP_CONVERT). */
sl_status sli_convert(sl_context *context, const sl_dense *source, sl_dense *destination);

#endif
