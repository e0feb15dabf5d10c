/* SPDX-License-Identifier: Apache-2.0 */
/* What benchmarks share: a clock, medians, and lines that a program can read. */
#ifndef SL_BENCH_BENCH_H
#define SL_BENCH_BENCH_H

#include <stddef.h>

double bench_seconds(void);
/* The q-quantile (0.5: the median) of `count` numbers, which are sorted. */
double bench_quantile(double *numbers, int count, double q);
/* "RESULT <name> <number>". */
void bench_result(const char *name, double number);
/* End the program with a message unless `ok`. */
void bench_need(int ok, const char *what, const char *message);

#endif
