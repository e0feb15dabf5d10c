/* SPDX-License-Identifier: Apache-2.0 */
/* What a trained network is worth on samples that nothing was chosen by. */
#ifndef SL_TOOLS_OUTCOME_H
#define SL_TOOLS_OUTCOME_H

#include "samples.h"

enum { OUTCOME_K = 20 };
typedef struct outcome {
	double loss, accuracy; /* NaN: the loss has none */
	double rmse;           /* of numbers and ratings; else NaN */
	double recall, ndcg;   /* of the first OUTCOME_K, of implicit ratings; else NaN */
} outcome;

/* By the test samples. */
sl_status find_outcome(outcome *o, sl_context *context, sl_model *model, const sample_files *files);
void print_outcome(const outcome *o);

#endif
