/* SPDX-License-Identifier: Apache-2.0 */
/* The seam's calls for ops: each goes to the file that implements the op. */
#include "device.h"

sl_status sli_cuda_supports(void *device, const sl_op_desc *desc) {
	sl_op_plan plan;
	return sli_cuda_is_vector(desc->kind) ? sli_cuda_vector_plan(device, desc, &plan)
										  : sli_cuda_product_supports(device, desc);
}

sl_status sli_cuda_plan(void *device, const sl_op_desc *desc, sl_op_plan *plan) {
	return sli_cuda_is_vector(desc->kind) ? sli_cuda_vector_plan(device, desc, plan)
										  : sli_cuda_product_plan(device, desc, plan);
}

size_t sli_cuda_workspace(void *device, const sl_op_plan *plan) {
	(void)device;
	return plan->workspace;
}

sl_status sli_cuda_execute(void *device, const sl_op_plan *plan, const sl_op_args *args) {
	return sli_cuda_is_vector(plan->desc.kind) ? sli_cuda_vector_execute(device, plan, args)
											   : sli_cuda_product_execute(device, plan, args);
}

void sli_cuda_destroy(void *device, sl_op_plan *plan) {
	sli_cuda_product_destroy(device, plan);
}

int sli_cuda_candidates(void *device, const sl_op_desc *desc, sl_candidate *out, int capacity) {
	if (desc->kind == SL_OP_SPMM || desc->kind == SL_OP_SDDMM)
		return sli_cuda_product_candidates(device, desc, out, capacity);
	if (capacity > 0)
		out[0] = (sl_candidate){.name = "default"};
	return 1;
}
