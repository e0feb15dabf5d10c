/* SPDX-License-Identifier: Apache-2.0 */
/* The table of kernels and the choice from it. */
#include "cpu/cpu.h"

static const sl_kernel kernels[] = {
#define KERNEL_SPMM(dtype, isa, tile, function)  {SL_OP_SPMM, dtype, isa, tile, &#function[4], function, NULL, NULL},
#define KERNEL_SDDMM(dtype, isa, tile, function) {SL_OP_SDDMM, dtype, isa, tile, &#function[4], NULL, function, NULL},
#define KERNEL_UPDATE(dtype, isa, function)      {SL_OP_UPDATE, dtype, isa, 0, &#function[4], NULL, NULL, function},
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
		if (k->kind != kind || k->dtype != dtype)
			continue;
		if (name ? !strcmp(name, k->name) && sli_cpu_has(k->isa) : k->isa <= cpu->isa)
			found = k;
	}
	return found;
}
