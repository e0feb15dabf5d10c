/* SPDX-License-Identifier: Apache-2.0 */
/* Who is timed when. */
#ifndef SL_BENCH_TURNS_H
#define SL_BENCH_TURNS_H

#include "contender.h"

/* What one contender took for a case: its best variant's figures. `repetitions` 0: has no such product, or gave a
 * wrong result (`wrong`). */
typedef struct timing {
	int variant, repetitions;
	double median, low, high, cold;
	bool wrong;
} timing;

/*
 * Each contender's product is checked; then all are timed in rounds, in each of which they take turns in blocks of
 * repetitions, after the threads of the one before have gone to sleep. After the first round, variants that are far
 * from their contender's best, and dense libraries far from the fastest, are timed no more. `budget`: seconds for each
 * contender. Then the products of this library and of the fastest dense one with cold caches.
 */
void turns_measure(contender *list, int count, const operands *o, double budget, timing *timings);

#endif
