/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The products of a list of cases on 1, 2, 4 and 7 threads: the results must be the same, bit for bit.
 * Usage: bench-bits CASES
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "contender.h"

enum { MOST_CASES = 20000, WAYS = 4 };

static void product(contender *c, const operands *o, float *result) {
	bench_need(c->prepare(c, o) > 0, c->name, "has no such product");
	c->run(c, 0);
	c->result(c, 0, result);
	c->finish(c);
}

int main(int argc, char **argv) {
	static const int threads[WAYS] = {1, 2, 4, 7};
	static bench_case cases[MOST_CASES];
	contender list[WAYS];
	int differ = 0;
	bench_need(argc == 2, "usage", "bench-bits CASES");
	int count = cases_read(argv[1], cases, MOST_CASES);
	for (int t = 0; t < WAYS; t++) {
		contender_ours(&list[t]);
		list[t].threads = threads[t];
		list[t].open(&list[t]);
	}
	for (int i = 0; i < count; i++) {
		operands o;
		operands_make(&o, &cases[i]);
		int64_t size = operands_result(&o);
		float *first = bench_floats(size), *other = bench_floats(size);
		product(&list[0], &o, first);
		bench_need(operands_check(&o, first), "result", "is wrong");
		for (int t = 1; t < WAYS; t++) {
			product(&list[t], &o, other);
			if (memcmp(first, other, (size_t)size * sizeof *first)) {
				char name[96];
				case_name(&cases[i], name, sizeof name);
				printf("# %s: 1 and %d threads differ\n", name, threads[t]);
				differ++;
			}
		}
		free(first), free(other);
		operands_free(&o);
	}
	printf("# %d cases on 1, 2, 4 and 7 threads, %s\n", count, list[0].detail);
	bench_result("bits.differ", differ);
	contenders_close(list, WAYS);
	return differ > 0;
}
