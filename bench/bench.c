/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

double bench_seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double bench_quantile(double *numbers, int count, double q) {
	qsort(numbers, (size_t)count, sizeof *numbers, ascending);
	double at = q * (count - 1);
	int low = (int)at;
	return low + 1 < count ? numbers[low] + (at - low) * (numbers[low + 1] - numbers[low]) : numbers[low];
}

void bench_result(const char *name, double number) {
	printf("RESULT %s %.4g\n", name, number);
}

void bench_need(int ok, const char *what, const char *message) {
	if (ok)
		return;
	fprintf(stderr, "%s: %s\n", what, message);
	exit(1);
}
