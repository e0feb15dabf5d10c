/* SPDX-License-Identifier: Apache-2.0 */
/* What is made of patterns that lie in the GPU's memory, which the host does not read. */
#include "own.h"

#include <stdio.h>

sl_status sli_pattern_plan(sl_cuda *cuda, const sl_op_desc *desc, sl_op_plan *plan) {
	static const char *const names[] = {"check of row offsets", "check of columns", "transpose", "narrower offsets"};
	const sl_pattern_arrays *s = &desc->sparse.arrays;
	if (desc->kernel)
		return sli_cuda_refuse(cuda, desc, "has no kernels to choose by name on CUDA");
	if (s->rows > INT32_MAX || s->cols > INT32_MAX)
		return sli_cuda_refuse(cuda, desc, "takes at most 2147483647 rows and columns on CUDA");
	if (desc->variant >= SL_PATTERN_TRANSPOSE && s->nnz > INT32_MAX)
		return sli_cuda_refuse(cuda, desc, "takes at most 2147483647 entries on CUDA");
	*plan = (sl_op_plan){.desc = *desc};
	if (desc->variant == SL_PATTERN_TRANSPOSE)
		plan->workspace = sli_align256(sl_kernel_transpose_bytes(s->nnz));
	snprintf(plan->text, sizeof plan->text, "pattern: %s, own kernels", names[desc->variant]);
	return SL_OK;
}

static int run(const sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args) {
	const sl_pattern_arrays *a = &desc->sparse.arrays;
	sl_rows s = sli_rows(a, NULL);
	switch (desc->variant) {
	case SL_PATTERN_OFFSETS:
		return sl_kernel_check_offsets(&s, args->result, cuda->stream);
	case SL_PATTERN_COLUMNS:
		return sl_kernel_check_columns(&s, a->cols, args->result, cuda->stream);
	case SL_PATTERN_TRANSPOSE:
		return sl_kernel_transpose(&s, a->cols, args->vector[0], args->vector[1], args->vector[2], args->workspace,
								   cuda->stream);
	default:
		return sl_kernel_narrow(a->row_offsets, args->vector[0], a->rows + 1, cuda->stream);
	}
}

sl_status sli_pattern_execute(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args) {
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	sl_status status = sli_cuda_check(cuda, (cudaError_t)run(cuda, &plan->desc, args), plan->text);
	sli_cuda_leave(previous);
	return status;
}
