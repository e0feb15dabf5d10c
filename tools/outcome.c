/* SPDX-License-Identifier: Apache-2.0 */
#include "outcome.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* How well the hidden ones are found among all that a user has not rated yet. */
static sl_status rank(outcome *o, sl_context *context, sl_model *model, const sample_files *f) {
	enum { BATCH = 256 };
	const sl_samples *test = &f->part[TEST_PART];
	sl_rank_metrics m = {SL_RANK_METRICS_DEFAULTS};
	float *scores = malloc((size_t)(BATCH * f->classes) * sizeof *scores + 1);
	sl_status status = scores ? SL_OK : SL_ERR_MEMORY;
	for (int64_t first = 0; status == SL_OK && first < f->count; first += BATCH) {
		int64_t count = f->count - first < BATCH ? f->count - first : BATCH;
		sl_sparse known = sl_sparse_slice(*test->sparse_inputs, first, count);
		sl_sparse wanted = sl_sparse_slice(*test->sparse_targets, first, count);
		sl_dense out = sl_dense_view(scores, SL_F32, count, f->classes);
		status = sl_model_predict_sparse(context, model, &known, &out, BATCH);
		if (status == SL_OK)
			status = sl_metrics_ranking(context, &out, &wanted, &known, OUTCOME_K, &m);
	}
	free(scores);
	o->recall = m.rows ? m.recall : NAN;
	o->ndcg = m.rows ? m.ndcg : NAN;
	return status;
}

sl_status find_outcome(outcome *o, sl_context *context, sl_model *model, const sample_files *f) {
	*o = (outcome){NAN, NAN, NAN, NAN, NAN};
	SL_TRY(sl_model_evaluate(context, model, f->loss, &f->part[TEST_PART], 0, &o->loss, &o->accuracy));
	if (f->loss == SL_MEAN_SQUARED_ERROR)
		o->rmse = sqrt(o->loss);
	return f->form == RATINGS && f->implicit ? rank(o, context, model, f) : SL_OK;
}

void print_outcome(const outcome *o) {
	printf("in the end  test loss %.4f", o->loss);
	if (isfinite(o->accuracy))
		printf("  test accuracy %.2f%%", 100 * o->accuracy);
	if (isfinite(o->rmse))
		printf("  RMSE %.4f", o->rmse);
	if (isfinite(o->recall))
		printf("  recall@%d %.4f  nDCG@%d %.4f", OUTCOME_K, o->recall, OUTCOME_K, o->ndcg);
	printf("\n");
}
