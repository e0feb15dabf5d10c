/* SPDX-License-Identifier: Apache-2.0 */
/* Ops that are no products, by own kernels. They keep no state: plans may be made on the stack. */
#include "device.h"

#include <math.h>
#include <stdio.h>

#include "kernels/kernels.h"

static const char *const names[SL_OP_COUNT] = {
	[SL_OP_CONVERT] = "convert",
	[SL_OP_GATHER] = "gather",
	[SL_OP_ACTIVATION] = "activation",
	[SL_OP_ACTIVATION_GRAD] = "activation gradient",
	[SL_OP_REDUCE] = "reduction",
	[SL_OP_ELEMENTWISE] = "elementwise",
	[SL_OP_LOSS] = "loss",
	[SL_OP_UPDATE] = "update",
	[SL_OP_ADVANCE] = "advance",
};

static sl_status refuse(const sl_cuda *cuda, const sl_op_desc *desc, const char *why) {
	return cuda->host->fail(cuda->host->user, SL_ERR_UNSUPPORTED, "cuda: %s %s", names[desc->kind], why);
}

bool sli_cuda_is_vector(sl_op_kind kind) {
	return (unsigned)kind < SL_OP_COUNT && names[kind];
}

static size_t partial_bytes(int64_t count) {
	return ((size_t)sl_kernel_partials(count) * sizeof(double) + 255) & ~(size_t)255;
}

sl_status sli_cuda_vector_plan(sl_cuda *cuda, const sl_op_desc *desc, sl_op_plan *plan) {
	bool half = desc->a.dtype == SL_BF16 || desc->a.dtype == SL_F16;
	if (desc->kernel)
		return refuse(cuda, desc, "has no kernels to choose by name on CUDA");
	if (half && desc->kind >= SL_OP_ELEMENTWISE)
		return refuse(cuda, desc, "runs in f32 and f64");
	*plan = (sl_op_plan){.desc = *desc};
	if (desc->kind == SL_OP_REDUCE && desc->variant != SL_REDUCE_ROW_SUMS)
		plan->workspace = partial_bytes(desc->count);
	if (desc->kind == SL_OP_LOSS)
		plan->workspace = (sl_kernel_loss_bytes(desc->a.cols) + 255) & ~(size_t)255;
	snprintf(plan->text, sizeof plan->text, "%s of %s: own kernel", names[desc->kind], sli_name_of(desc->a.dtype));
	return SL_OK;
}

static int reduce(const sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args) {
	double scale = args->alpha != 0 ? args->alpha : 1, limit = args->beta > 0 ? args->beta : HUGE_VAL;
	if (desc->variant == SL_REDUCE_ROW_SUMS)
		return sl_kernel_row_sums(&args->a, args->beta, args->vector[0], cuda->stream);
	if (desc->variant == SL_REDUCE_NONFINITE)
		return sl_kernel_nonfinite(args->vector[0], desc->a.dtype, args->count, args->workspace, args->result,
								   cuda->stream);
	return sl_kernel_sum_squares(args->vector[0], desc->a.dtype, args->count, scale, limit, args->workspace,
								 args->result, cuda->stream);
}

static int run(const sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args) {
	switch (desc->kind) {
	case SL_OP_CONVERT:
		return sl_kernel_convert(&args->a, &args->c, cuda->stream);
	case SL_OP_GATHER:
		return sl_kernel_gather(args->vector[0], args->vector[2], desc->index_dtype, args->vector[1], args->count,
								sli_size_of(desc->a.dtype), cuda->stream);
	case SL_OP_ACTIVATION:
		return sl_kernel_activation(desc->activation, desc->activation_parameter, &args->a, NULL, &args->c, 0, NULL,
									cuda->stream);
	case SL_OP_ACTIVATION_GRAD:
		return sl_kernel_activation(desc->activation, desc->activation_parameter, &args->a, &args->b, &args->c,
									args->beta, args->bias_gradient, cuda->stream);
	case SL_OP_REDUCE:
		return reduce(cuda, desc, args);
	case SL_OP_LOSS:
		return sl_kernel_loss(desc, args, cuda->stream);
	case SL_OP_UPDATE:
		return sl_kernel_update((sl_optimizer_kind)desc->variant, desc->a.dtype, args, cuda->stream);
	case SL_OP_ADVANCE:
		return sl_kernel_advance(args->step, cuda->stream);
	default:
		return sl_kernel_elementwise(desc->variant, desc->a.dtype, args->alpha, args->vector[0], args->vector[1],
									 args->count, cuda->stream);
	}
}

sl_status sli_cuda_vector_execute(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args) {
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	sl_status status = sli_cuda_check(cuda, (cudaError_t)run(cuda, &plan->desc, args), names[plan->desc.kind]);
	sli_cuda_leave(previous);
	return status;
}
