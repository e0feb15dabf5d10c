/* SPDX-License-Identifier: Apache-2.0 */
/* A file of results: a line a contender and case, tab-separated, appended as it is measured, so that a long run can be
 * interrupted and resumed. */
#ifndef SL_BENCH_RESULTS_H
#define SL_BENCH_RESULTS_H

#include <stdio.h>

#include "cases.h"

typedef struct result {
	char isa[8]; /* "best", or the one that was forced on all */
	int threads;
	bench_case c;
	int64_t nnz;
	char contender[24], role[8], variant[24]; /* role: ours, planned, dense, sparse */
	double median, low, high;                 /* seconds, quartiles */
	int repetitions;
	double cold;              /* seconds after the caches were emptied; 0: not measured */
	double arithmetic, bytes; /* seconds, the two floors */
} result;

typedef struct results {
	result *list;
	int count, room;
	FILE *file; /* NULL: kept nowhere */
} results;

/* Reads what is in `path`, if anything, and appends from then on. A file of another machine or version, which its first
 * line tells, ends the program. `path` NULL: memory only. */
void results_open(results *r, const char *path, const char *machine);
void results_add(results *r, const result *one);
/* Whether a contender has the case already. */
bool results_have(const results *r, const char *isa, int threads, const bench_case *c, const char *contender);
void results_close(results *r);

/* RESULT lines of what is there of one setting. Names end in ".tN" for N threads above 1. */
void results_summary(const results *r, const char *isa, int threads);

#endif
