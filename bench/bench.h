/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmarks share: a clock, quantiles, the RESULT line, failing early. */
#ifndef SL_BENCH_H
#define SL_BENCH_H

#include <stddef.h>

/* What the planner's costs are measured into, anew for each run. */
#define CALIBRATION "build/bench.calibration"

/* Seconds of a clock that never jumps. */
double bench_seconds(void);
/* The q-quantile (0.5: the median) of `count` numbers, which are sorted. */
double bench_quantile(double *numbers, int count, double q);
/* "RESULT <name> <number>". */
void bench_result(const char *name, double number);
/* End the program with a message unless `ok`. */
void bench_need(int ok, const char *what, const char *message);

/* The widest vectors this CPU has and the run is allowed: 512, 2 (AVX2) or 0; SPARSELAYER_CPU=avx2 is obeyed. */
int bench_isa(void);
/* To be called first in main(): sets what the libraries read once, when they are loaded (threads, no binding by
 * OpenMP, instruction set), keeps the process to its first `threads` cores, and starts it again if that changed
 * anything. */
void bench_environment(char **argv, int threads);
/* Waits until no thread of this process runs: OpenMP's and others' spin for a while after a product, on cores that the
 * next contender is given. */
void bench_settle(void);
/* Ties the calling thread to the first core, and threads that were not there at the last call to the others in turn. */
void bench_pin_new_threads(int threads);

/* Intel's MKL, loaded once for all its contenders; NULL with the reason in `detail`. */
void *bench_mkl(char *detail, size_t size, int threads);

#endif
