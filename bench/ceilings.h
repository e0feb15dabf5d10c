/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine can do at most, measured in the run. */
#ifndef SL_BENCH_CEILINGS_H
#define SL_BENCH_CEILINGS_H

#include "cases.h"

typedef struct ceilings {
	double flops;               /* a second, f32 multiply-adds counted twice, all threads */
	double l1, l2, l3, memory;  /* bytes read a second, all threads */
	double size1, size2, size3; /* bytes of the caches, all threads' together */
} ceilings;

void ceilings_measure(ceilings *c, int threads);
/* Seconds that the case's multiply-adds take at the arithmetic ceiling. */
double ceilings_arithmetic(const ceilings *c, const operands *o);
/* Seconds that its operands (8 bytes a nonzero, X and Y once each) take, read once from the smallest cache that holds
 * them all. */
double ceilings_bytes(const ceilings *c, const operands *o);

#endif
