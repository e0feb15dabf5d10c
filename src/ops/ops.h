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

/* The same for an op over a pattern (NULL: none); desc->sparse is filled in. Where `plan` is not NULL
 * and fits, it is used instead. */
sl_status sli_run_sparse(sl_context *context, const sl_plan *plan, sl_op_desc *desc, sl_pattern *pattern,
						 sl_op_args *args);
/* Whether an op of this description may run by a plan made for a larger or equal one. */
bool sli_plan_fits(sl_context *context, const sl_plan *plan, const sl_op_desc *desc, const sl_pattern *pattern);
/* The workspace that a stateless op will take. */
sl_status sli_workspace(sl_context *context, const sl_op_desc *desc, size_t *bytes);

/* Copy a struct with a struct_size, whatever version of the header it was compiled with. */
sl_status sli_take_struct(sl_context *context, void *to, size_t size, const void *from, const char *name);
/* Fill an output struct of the caller's, keeping its struct_size. */
sl_status sli_give_struct(sl_context *context, void *to, const void *from, size_t size, const char *name);
/* An activation and its parameter. */
sl_status sli_check_activation(sl_context *context, sl_activation activation, double parameter);
/* Bytes from a view's data to its last element, padding included. False on overflow. */
bool sli_span(const sl_dense *view, size_t *bytes);

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
