/* SPDX-License-Identifier: Apache-2.0 */
/* The largest elements of a product's rows, of which no more than a tile exists at a time. */
#ifndef SL_CPU_TOP_H
#define SL_CPU_TOP_H

#include "cpu/cpu.h"

/* The `keep` (at most SL_TOP_MOST) of largest magnitude in a row of at least SL_TOP_COLS scores, of equal ones the
 * first, but for `taken` columns (increasing) and what is not above `least`. */
enum { SL_TOP_MOST = 32, SL_TOP_COLS = 128, SL_TOP_SPARE = 16 };
struct sl_top_task {
	float *scores; /* overwritten */
	int64_t cols, taken_count, keep;
	const int32_t *taken;
	int32_t least;             /* bits of a magnitude; -1: all */
	int32_t *values, *columns; /* cols + SL_TOP_SPARE each; the first of them receive the result, by column */
};

sl_status sli_cpu_top_plan(sl_cpu *cpu, sl_op_plan *plan);
sl_status sli_cpu_top_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args);
/* Whether it runs here, and is worth it. */
bool sli_cpu_top_serves(const sl_cpu *cpu, const sl_op_desc *desc);

#endif
