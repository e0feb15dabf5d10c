/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in factors of the cost model, for src/cpu/costs.inc: calibrated three times on one thread for each instruction
 * set of this machine, of which the one in the middle is printed. Usage: bench-costs >src/cpu/costs.inc */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "core/context.h"
#include "cpu/cpu.h"

enum { COUNT = SL_COST_ROWS * SL_COST_WIDTHS * SL_COST_TERMS, TIMES = 3 };

/* What a calibration finds is consistent in itself, which medians of single factors are not: the one whose predictions
 * add up to the median is printed. */
static int middle(double all[TIMES][COUNT], int first) {
	double sum[TIMES];
	for (int i = 0; i < TIMES; i++) {
		const double units[SL_COST_TERMS] = {1, 1e5, 1e3, 1e5, 1e3, 1e4};
		sum[i] = 0;
		for (int t = 0; t < SL_COST_TERMS; t++)
			sum[i] += units[t] * all[i][first + t];
	}
	for (int i = 0; i < TIMES; i++) {
		int below = 0;
		for (int k = 0; k < TIMES; k++)
			below += sum[k] < sum[i] || (sum[k] == sum[i] && k < i);
		if (below == TIMES / 2)
			return i;
	}
	return 0;
}

static void print_costs(const char *isa) {
	static double all[TIMES][COUNT];
	setenv("SPARSELAYER_CPU", isa, 1);
	sl_context *context = NULL;
	sl_status status = sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .threads = 1});
	bench_need(status == SL_OK, isa, sl_status_text(status));
	sl_device_state *state = sli_device(context);
	for (int i = 0; i < TIMES; i++) {
		status = state->backend->calibrate(state->device, all[i]);
		bench_need(status == SL_OK, isa, sl_context_message(context));
	}
	printf("static const sl_costs costs_%s = {{\n", isa);
	for (int row = 0; row < SL_COST_ROWS; row++)
		for (int width = 0; width < SL_COST_WIDTHS; width++) {
			int first = (row * SL_COST_WIDTHS + width) * SL_COST_TERMS, i = middle(all, first);
			printf("\t%s{", width ? " " : "{");
			for (int t = 0; t < SL_COST_TERMS; t++)
				printf("%s%.3g", t ? ", " : "", all[i][first + t]);
			printf("}%s\n", width < SL_COST_WIDTHS - 1 ? "," : "},");
		}
	printf("}};\n");
	sl_context_destroy(context);
}

int main(void) {
	printf("/* SPDX-License-Identifier: Apache-2.0 */\n"
		   "/* Built-in factors, as calibrate.c fitted them on an AMD EPYC of the Zen 5 generation, one thread, kernels of "
		   "each\n   instruction set; the library's dense products chose their own. Rows as in cost.c, classes of widths, "
		   "terms.\n   Written by bench-costs. */\n");
	print_costs("avx512");
	print_costs("avx2");
	print_costs("scalar");
	return 0;
}
