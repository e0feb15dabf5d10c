/* SPDX-License-Identifier: Apache-2.0 */
/* The table of kernels and the choice from it. */
#include "cpu/cpu.h"

static const sl_kernel kernels[] = {
#define KERNEL_SPMM(dtype_, isa_, tile_, function)                                                                     \
	{.kind = SL_OP_SPMM, .dtype = dtype_, .isa = isa_, .tile = tile_, .name = &#function[4], .spmm = function},
#define KERNEL_SDDMM(dtype_, isa_, tile_, function)                                                                    \
	{.kind = SL_OP_SDDMM, .dtype = dtype_, .isa = isa_, .tile = tile_, .name = &#function[4], .sddmm = function},
#define KERNEL_INPUT(dtype_, isa_, function, gradient)                                                                 \
	{.kind = SL_OP_INPUT,                                                                                              \
	 .dtype = dtype_,                                                                                                  \
	 .isa = isa_,                                                                                                      \
	 .name = &#function[4],                                                                                            \
	 .input = function,                                                                                                \
	 .input_grad = gradient},
#define KERNEL_UPDATE(dtype_, isa_, function)                                                                          \
	{.kind = SL_OP_UPDATE, .dtype = dtype_, .isa = isa_, .name = &#function[4], .update = function},
#define KERNEL_BLOCKED(kind_, dtype_, isa_, function)                                                                  \
	{.kind = kind_, .dtype = dtype_, .isa = isa_, .name = &#function[4], .blocked = function},
#define KERNEL_SMALL(op, turned, type, set, columns, function)                                                         \
	{.kind = op,                                                                                                       \
	 .dtype = type,                                                                                                    \
	 .isa = set,                                                                                                       \
	 .name = &#function[4],                                                                                            \
	 .tile = columns,                                                                                                  \
	 .small = function,                                                                                                \
	 .transposed = turned},
#define KERNEL_MASKED(op, turned, type, set, function)                                                                 \
	{.kind = op,                                                                                                       \
	 .dtype = type,                                                                                                    \
	 .isa = set,                                                                                                       \
	 .name = &#function[4],                                                                                            \
	 .tile = 1,                                                                                                        \
	 .small = function,                                                                                                \
	 .masked = true,                                                                                                   \
	 .transposed = turned},
#define KERNEL_MATH(set, suffix)                                                                                       \
	{.kind = SL_OP_ACTIVATION,                                                                                         \
	 .dtype = SL_F32,                                                                                                  \
	 .isa = set,                                                                                                       \
	 .name = "math_f32_" #suffix,                                                                                      \
	 .activate = sli_activate_f32_##suffix,                                                                            \
	 .activate_back = sli_activate_back_f32_##suffix,                                                                  \
	 .activate_back_row = sli_activate_back_row_f32_##suffix,                                                          \
	 .sum_squares = sli_sum_squares_f32_##suffix,                                                                      \
	 .softmax = sli_softmax_f32_##suffix,                                                                              \
	 .sigmoids = sli_sigmoids_f32_##suffix},
#define KERNEL_HALF(type, set, suffix)                                                                                 \
	{.kind = SL_OP_CONVERT,                                                                                            \
	 .dtype = type,                                                                                                    \
	 .isa = set,                                                                                                       \
	 .name = "half_" #suffix,                                                                                          \
	 .to_f32 = sli_half_to_f32_##suffix,                                                                               \
	 .from_f32 = sli_half_from_f32_##suffix},
#define KERNEL_SCATTER(dtype_, isa_, function)                                                                         \
	{.kind = SL_OP_CHUNK_BACKWARD, .dtype = dtype_, .isa = isa_, .name = &#function[4], .scatter = function},
#define KERNEL_CUT(set, suffix)                                                                                        \
	{.kind = SL_OP_CHUNK_SPMM, .dtype = SL_F32, .isa = set, .name = "cut_" #suffix, .cut_row = sli_cut_row_##suffix},
#define KERNEL_TOP(dtype_, isa_, function)                                                                             \
	{.kind = SL_OP_TOP, .dtype = dtype_, .isa = isa_, .name = &#function[4], .top = function},
#include "cpu/kernels.def"
};
enum { KERNELS = sizeof kernels / sizeof *kernels };

const sl_kernel *sli_cpu_kernels(int *count) {
	*count = KERNELS;
	return kernels;
}

const sl_kernel *sli_cpu_choose(const sl_cpu *cpu, sl_op_kind kind, sl_dtype dtype, const char *name) {
	const sl_kernel *found = NULL;
	for (int i = 0; i < KERNELS; i++) {
		const sl_kernel *k = &kernels[i];
		if (k->kind != kind || k->dtype != dtype || k->blocked || k->small)
			continue;
		if (name ? !strcmp(name, k->name) && sli_cpu_has(k->isa) : k->isa <= cpu->isa)
			found = k;
	}
	return found;
}
