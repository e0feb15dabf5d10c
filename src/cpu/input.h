/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of sparse inputs share. */
#ifndef SL_CPU_INPUT_H
#define SL_CPU_INPUT_H

#include "cpu/products.h"

/* Entries of a batch by column, by a stable radix sort. */
size_t sli_cpu_group_workspace(int64_t rows, int64_t nnz);
void sli_cpu_group(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args);

#endif
