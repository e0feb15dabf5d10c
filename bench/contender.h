/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whoever takes part: this library, dense libraries, sparse libraries; in this process or, for Python's, in one
 * of its own. Each brings its variants (layouts, algorithms); its best one counts.
 */
#ifndef SL_BENCH_CONTENDER_H
#define SL_BENCH_CONTENDER_H

#include "cases.h"

/* OURS: this library, sparse. PLANNED: this library as its planner has it, or dense. DENSE: the baseline is the fastest
 * of them. SPARSE: whom to be compared with. */
typedef enum role { OURS, PLANNED, DENSE, SPARSE } role;
enum { MOST_VARIANTS = 8, MOST_CONTENDERS = 20 };

typedef struct contender contender;
struct contender {
	const char *name;
	role role;
	int threads;
	void *state;
	char detail[256]; /* version; or why it is missing */
	bool missing;
	const char *labels[MOST_VARIANTS]; /* set by prepare */
	/* Loads the library for `threads` threads; false where it cannot take part, with `detail` saying why. */
	bool (*open)(contender *self);
	/* Makes ready for one case. Returns how many variants there are; 0: has no such product. */
	int (*prepare)(contender *self, const operands *o);
	/* The product once. NULL: `time` does it in another process. */
	void (*run)(contender *self, int variant);
	/* A block of repetitions of `budget` seconds, at most `most`; returns how many. NULL: run() is timed. */
	int (*time)(contender *self, int variant, double budget, int most, double *seconds);
	/* What the last run of a variant gave, in the layout of operands_check(). Called once after one run. */
	void (*result)(contender *self, int variant, float *result);
	void (*finish)(contender *self); /* ends what prepare began */
	void (*close)(contender *self);
};

/* Who takes part beside this library. `planned`: it once more, as its planner has it and dense. */
typedef struct contender_choice {
	bool planned, dense, sparse, python;
} contender_choice;

/* Opens them in this order; those that are missing stay in the list. Returns how many. */
int contenders_open(contender *list, int threads, contender_choice choice);
void contenders_close(contender *list, int count);

/* Each fills in one of the list. */
void contender_ours(contender *c);
void contender_auto(contender *c);
void contender_tiles(contender *c);
void contender_onednn(contender *c);
void contender_onednn_matmul(contender *c);
void contender_openblas_debian(contender *c);
void contender_openblas_pypi(contender *c);
void contender_mkl_dense(contender *c);
void contender_mkl_sparse(contender *c);
void contender_graphblas(contender *c);
void contender_xsmm(contender *c);
void contender_python(contender *c, const char *name); /* peers/peer_NAME.py */

/* Where PyPI's libraries are: the environment variable SL_BENCH_VENV, else build/bench-venv. */
const char *bench_venv(void);
/* dlopen of the first of `names` below the venv's folder `under`, or of the system's for "" ; NULL: not there. */
void *bench_library(const char *under, const char *const *names);

#endif
