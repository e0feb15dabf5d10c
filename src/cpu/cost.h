/* SPDX-License-Identifier: Apache-2.0 */
/* How long a product takes, by a few terms a candidate. */
#ifndef SL_CPU_COST_H
#define SL_CPU_COST_H

#include "cpu/cpu.h"

/* The class of a product's panels: of 1, to 8, to 16, to 32, and more columns. */
int sli_cost_width(const sl_op_desc *desc);

/* One way to run a product. Of the rows of one kind and transposition, the first is the default. */
typedef struct sl_cost_row {
	const char *name;
	sl_op_kind kind;
	bool transpose, dense;
	/* How many units of each term a description has; unused terms stay 0. */
	void (*terms)(const sl_op_desc *desc, sl_isa isa, double term[SL_COST_TERMS]);
} sl_cost_row;
extern const sl_cost_row sli_cost_rows[SL_COST_ROWS];

/* What is used until a measurement was adopted, and always in deterministic contexts. */
const sl_costs *sli_cost_defaults(sl_isa isa);
double sli_cost_predict(const sl_costs *costs, sl_isa isa, int row, const sl_op_desc *desc);
/* The seam's candidates(). */
int sli_cpu_candidates(sl_cpu *cpu, const sl_op_desc *desc, sl_candidate *out, int capacity);

/* calibrate.c: time a small designed set of products on this thread alone and fit the terms. `constants` has
 * SL_COST_ROWS * SL_COST_WIDTHS * SL_COST_TERMS elements. */
sl_status sli_cpu_calibrate(sl_cpu *cpu, double *constants);
/* Least squares with factors that are not negative, each observation weighted by 1 / its time. */
void sli_cost_fit(const double (*terms)[SL_COST_TERMS], const double *seconds, int count, double factor[SL_COST_TERMS]);

#endif
