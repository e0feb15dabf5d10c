/* SPDX-License-Identifier: Apache-2.0 */
/* The options of train that say how patterns change. */
#ifndef SL_TOOLS_SPARSE_METHOD_H
#define SL_TOOLS_SPARSE_METHOD_H

#include "command.h"

typedef struct sparse_method {
	sl_sparse_method method;
	sl_budget budget;
	sl_drop_decay decay;
	int64_t interval;
	double drop, until; /* until: share of the steps */
	int n, m;           /* N of each M; 0: no such structure */
} sparse_method;
/* argp hands the input of its parent over: a sparse_method. */
extern const struct argp sparse_method_argp;
#define SPARSE_METHOD_DEFAULTS                                                                                         \
	{ .interval = 100, .drop = 0.3, .until = 0.75 }

/* Whether training begins with a dense network, which becomes sparse. */
bool begins_dense(const sparse_method *s);
/* Give a model its schedule, for a run of `steps`. */
sl_status set_sparse_method(sl_context *context, sl_model *model, const sparse_method *s, double density,
							sl_distribution distribution, bool keep_last, int64_t steps);

#endif
