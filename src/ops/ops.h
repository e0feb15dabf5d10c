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
	bool dense;    /* runs by way of a dense form */
	char why[160]; /* what it was chosen over; "" where there was no choice */
};

/* The one table of legal dtype combinations, by op. SL_OK or SL_ERR_DTYPE with a message. */
sl_status sli_check_dtypes(sl_context *context, const sl_op_desc *desc);
sl_matrix_desc sli_desc(const sl_dense *view);
/* The dtype of biases and row sums beside matrices of a dtype. */
static inline sl_dtype sli_bias_dtype(sl_dtype dtype) {
	return dtype == SL_BF16 || dtype == SL_F16 ? SL_F32 : dtype;
}

/* Plan an op and keep the plan. desc->candidate is what is tried first, if anything is. `pattern` (retained) and desc->sparse belong together:
 * desc->sparse is filled in here, desc->transpose being read. */
sl_status sli_plan_create(sl_plan **plan, sl_context *context, const sl_op_desc *desc, sl_pattern *pattern);
/*
 * choose.c: the candidates of a complete description, best first, by the context's mode, of which the first
 * `count` may be used. `once`: for one run, whose planning counts; nothing is measured then.
 */
enum { SL_MOST_CANDIDATES = 16 };
typedef struct sl_choice {
	sl_candidate list[SL_MOST_CANDIDATES];
	int count;
	bool measured;
} sl_choice;
void sli_choose(sl_context *context, sl_pattern *pattern, const sl_op_desc *desc, bool once, sl_choice *choice);
/* Time each candidate on scratch operands and put the fastest first. Where that cannot be done the order stays, with
 * a line in the log. */
void sli_measure(sl_context *context, const sl_op_desc *desc, sl_choice *choice);
/* "sparse 31 us, dense 180 us predicted" */
void sli_choice_text(const sl_choice *choice, const char *chosen, char *text, size_t size);
/* Whether a failed plan or run may be tried again in less memory. */
static inline bool sli_no_room(sl_status status) {
	return status == SL_ERR_MEMORY || status == SL_ERR_BUDGET;
}
/* Workspace, executed with. */
sl_status sli_op_run(sl_context *context, const sl_op_plan *plan, sl_op_args *args);

/* calibration.c: measured constants of the backend, from the file or by measuring, once a context, where it may. */
void sli_calibrate_once(sl_context *context);
/* Use what a file holds; false, with a line in the log unless there is none: it is not one for this machine. */
bool sli_calibration_load(sl_context *context, const char *path);
/* Measure, use and keep. */
sl_status sli_calibrate(sl_context *context);

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
/* The same but for where its data is: a call that only plans may have none. */
sl_status sli_check_view(sl_context *context, const sl_dense *view, const char *name);
/* Whether a pointer of the caller's, NULL excepted, is memory that the context computes on. */
sl_status sli_check_pointer(sl_context *context, const void *pointer, sl_dtype dtype, const char *name);
/* Bytes of `rows` x `cols` in panels of `width` columns. False on overflow. */
bool sli_panel_bytes(int64_t rows, int64_t cols, int64_t width, sl_dtype dtype, size_t *bytes);
/* A view of panels: SL_COL_PANELS, [rows, cols], on the context's device. */
sl_dense sli_panels(sl_context *context, void *data, sl_dtype dtype, int64_t rows, int64_t cols, int64_t width);
/* c = a, any orders and dtypes (SL_OP_CONVERT). */
sl_status sli_convert(sl_context *context, const sl_dense *source, sl_dense *destination);

/* Sparse targets of outputs [rows, cols]. */
sl_status sli_check_sparse_targets(sl_context *context, sl_loss loss, const sl_sparse *view, bool ignore_zeros,
								   sl_dtype dtype, int64_t rows, int64_t cols);
/* Checked ones as the loss takes them, borrowed. */
void sli_sparse_targets(const sl_sparse *view, sl_sparse_batch *batch);

#endif
