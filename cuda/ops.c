/* SPDX-License-Identifier: Apache-2.0 */
/* The seam's calls for ops: each goes to the file that implements the op. */
#include "own.h"

sl_status sli_cuda_supports(void *device, const sl_op_desc *desc) {
	sl_op_plan plan;
	if (sli_cuda_is_vector(desc->kind))
		return sli_cuda_vector_plan(device, desc, &plan);
	if (desc->kind == SL_OP_PATTERN)
		return sli_pattern_plan(device, desc, &plan);
	if (sli_own_runs(desc))
		return sli_own_supports(device, desc);
	return sli_dense_runs(desc) ? sli_dense_supports(device, desc) : sli_cuda_product_supports(device, desc);
}

sl_status sli_cuda_plan(void *device, const sl_op_desc *desc, sl_op_plan *plan) {
	if (sli_cuda_is_vector(desc->kind))
		return sli_cuda_vector_plan(device, desc, plan);
	if (desc->kind == SL_OP_PATTERN)
		return sli_pattern_plan(device, desc, plan);
	if (sli_own_runs(desc))
		return sli_own_plan(device, desc, plan);
	return sli_dense_runs(desc) ? sli_dense_plan(device, desc, plan) : sli_cuda_product_plan(device, desc, plan);
}

size_t sli_cuda_workspace(void *device, const sl_op_plan *plan) {
	(void)device;
	return plan->workspace;
}

sl_status sli_cuda_execute(void *device, const sl_op_plan *plan, const sl_op_args *args) {
	if (sli_cuda_is_vector(plan->desc.kind))
		return sli_cuda_vector_execute(device, plan, args);
	if (plan->desc.kind == SL_OP_PATTERN)
		return sli_pattern_execute(device, plan, args);
	if (sli_own_runs(&plan->desc))
		return sli_own_execute(device, plan, args);
	return sli_dense_runs(&plan->desc) ? sli_dense_execute(device, plan, args)
									   : sli_cuda_product_execute(device, plan, args);
}

void sli_cuda_destroy(void *device, sl_op_plan *plan) {
	if (sli_own_runs(&plan->desc))
		sli_own_destroy(device, plan);
	else if (plan->desc.kind != SL_OP_PATTERN && !sli_cuda_is_vector(plan->desc.kind) && !sli_dense_runs(&plan->desc))
		sli_cuda_product_destroy(device, plan);
}

/* The libraries where they take the product, and own kernels, which run in all cases. */
int sli_cuda_candidates(void *device, const sl_op_desc *desc, sl_candidate *out, int capacity) {
	bool sparse = desc->kind == SL_OP_SPMM || desc->kind == SL_OP_SDDMM;
	int count = 0;
	if (sparse && sli_libraries_take(desc))
		count = sli_cuda_product_candidates(device, desc, out, capacity);
	if (count < capacity)
		out[count] = (sl_candidate){.name = sparse ? "own" : "default"};
	count++;
	/* Its sums are rounded by rules that are not written down: a deterministic context leaves it out. */
	if (!sparse || ((sl_cuda *)device)->host->deterministic || !sli_tensor_offered(device, desc))
		return count;
	if (count < capacity)
		out[count] = (sl_candidate){.name = "own-tensor"};
	return count + 1;
}
