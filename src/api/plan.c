/* SPDX-License-Identifier: Apache-2.0 */
#include "api/products.h"

#include <stdio.h>

SL_API sl_status sl_plan_spmm(sl_plan **plan, sl_context *context, sl_transpose transpose, const sl_csr *A,
							  const sl_dense *B, const sl_dense *C, const sl_epilogue *epilogue) {
	if (plan)
		*plan = NULL;
	if (!context)
		return SL_ERR_NULL;
	if (!plan)
		return sli_fail(context, SL_ERR_NULL, "plan is null");
	sl_op_desc desc;
	SL_TRY(sli_describe_spmm(context, transpose, A, B, C, epilogue, false, &desc, NULL));
	return sli_plan_create(plan, context, &desc, A->pattern);
}

SL_API sl_status sl_plan_sddmm(sl_plan **plan, sl_context *context, const sl_dense *A, const sl_dense *B,
							   const sl_csr *S) {
	if (plan)
		*plan = NULL;
	if (!context)
		return SL_ERR_NULL;
	if (!plan)
		return sli_fail(context, SL_ERR_NULL, "plan is null");
	sl_op_desc desc;
	SL_TRY(sli_describe_sddmm(context, A, B, S, false, &desc, NULL));
	return sli_plan_create(plan, context, &desc, S->pattern);
}

static sl_status check_plan(sl_context *context, const sl_plan *plan, sl_op_kind kind, const sl_csr *matrix,
							const char *name) {
	if (!plan)
		return sli_fail(context, SL_ERR_NULL, "plan is null");
	if (!matrix)
		return sli_fail(context, SL_ERR_NULL, "%s is null", name);
	if (plan->op.desc.kind != kind)
		return sli_fail(context, SL_ERR_ARGUMENT, "the plan is for another op: %s", plan->op.text);
	if (plan->pattern != matrix->pattern)
		return sli_fail(context, SL_ERR_ARGUMENT, "%s has another pattern than the one planned for", name);
	return SL_OK;
}

SL_API sl_status sl_plan_run_spmm(sl_context *context, const sl_plan *plan, double alpha, const sl_csr *A,
								  const sl_dense *B, double beta, sl_dense *C, const sl_epilogue *epilogue) {
	if (!context)
		return SL_ERR_NULL;
	SL_TRY(check_plan(context, plan, SL_OP_SPMM, A, "A"));
	sl_op_desc desc;
	sl_op_args args = {.alpha = alpha, .beta = beta};
	sl_transpose transpose = plan->op.desc.transpose ? SL_TRANSPOSE : SL_NO_TRANSPOSE;
	SL_TRY(sli_describe_spmm(context, transpose, A, B, C, epilogue, true, &desc, &args));
	if (C->cols > plan->op.desc.c.cols)
		return sli_fail(context, SL_ERR_SHAPE, "C has %lld columns; the plan is for at most %lld", (long long)C->cols,
						(long long)plan->op.desc.c.cols);
	/* Another layout or epilogue than planned still runs, planned anew. */
	return sli_run_sparse(context, plan, &desc, A->pattern, &args);
}

SL_API sl_status sl_plan_run_sddmm(sl_context *context, const sl_plan *plan, double alpha, const sl_dense *A,
								   const sl_dense *B, double beta, sl_csr *S) {
	if (!context)
		return SL_ERR_NULL;
	SL_TRY(check_plan(context, plan, SL_OP_SDDMM, S, "S"));
	sl_op_desc desc;
	sl_op_args args = {.alpha = alpha, .beta = beta};
	SL_TRY(sli_describe_sddmm(context, A, B, S, true, &desc, &args));
	return sli_run_sparse(context, plan, &desc, S->pattern, &args);
}

SL_API size_t sl_plan_workspace(const sl_plan *plan) {
	return plan ? plan->op.workspace : 0;
}

SL_API sl_status sl_plan_describe(sl_context *context, const sl_plan *plan, char *text, size_t size) {
	if (!context)
		return SL_ERR_NULL;
	if (!plan || !text)
		return sli_fail(context, SL_ERR_NULL, "%s is null", plan ? "text" : "plan");
	if (!size)
		return sli_fail(context, SL_ERR_ARGUMENT, "size is 0; there must be room for the terminating zero");
	snprintf(text, size, "%s%s%s", plan->op.text, *plan->why ? "; " : "", plan->why);
	return SL_OK;
}

SL_API bool sl_plan_is_dense(const sl_plan *plan) {
	return plan && plan->dense;
}

SL_API sl_status sl_calibrate(sl_context *context) {
	return context ? sli_calibrate(context) : SL_ERR_NULL;
}

SL_API void sl_plan_destroy(sl_plan *plan) {
	sli_plan_destroy(plan);
}
