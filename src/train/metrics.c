/* SPDX-License-Identifier: Apache-2.0 */
/* Accuracy and log-loss. */
#include "train/metrics.h"

#include <float.h>
#include <math.h>

#include "core/checked.h"

typedef struct class_part {
	double loss;
	int64_t correct, bad_row; /* -1: none */
	bool nan;
} class_part;

typedef struct class_pass {
	const sl_dense *scores;
	bool logits;
	const int32_t *labels;
	class_part *parts;
} class_pass;

/* -log p(label) of a row. */
static double row_loss(const class_pass *p, int64_t row, double largest) {
	const sl_dense *m = p->scores;
	double sum = 0, at = sli_score(m, row, p->labels[row]);
	for (int64_t c = 0; c < m->cols; c++)
		sum += p->logits ? exp(sli_score(m, row, c) - largest) : sli_score(m, row, c);
	if (p->logits)
		return log(sum) - (at - largest);
	double least = m->dtype == SL_F64 ? DBL_EPSILON : (double)FLT_EPSILON, chance = at / sum;
	return -log(chance > least ? chance : least);
}

static void class_block(void *argument, size_t index) {
	const class_pass *p = argument;
	const sl_dense *m = p->scores;
	int64_t block = sli_metric_block(m->rows), first = (int64_t)index * block;
	int64_t end = first + block < m->rows ? first + block : m->rows;
	class_part part = {.bad_row = -1};
	for (int64_t row = first; row < end && part.bad_row < 0; row++) {
		double largest = -INFINITY;
		int64_t best = 0;
		for (int64_t c = 0; c < m->cols; c++) {
			double score = sli_score(m, row, c);
			part.nan = part.nan || score != score;
			if (score > largest) {
				largest = score;
				best = c;
			}
		}
		if (part.nan || p->labels[row] < 0 || p->labels[row] >= m->cols) {
			part.bad_row = row;
			break;
		}
		part.correct += best == p->labels[row];
		part.loss += row_loss(p, row, largest);
	}
	p->parts[index] = part;
}

sl_status sli_metrics_classes(sl_context *context, const sl_dense *scores, bool logits, const int32_t *labels,
							  sl_class_metrics *metrics) {
	class_pass p = {scores, logits, labels, NULL};
	size_t count = (size_t)sli_ceil_div(scores->rows, sli_metric_block(scores->rows));
	sl_arena_mark mark = sli_arena_mark(context);
	void *memory;
	SL_TRY(sli_arena_take(context, count * sizeof *p.parts, &memory));
	p.parts = memory;
	sli_parallel(context, count, class_block, &p);
	class_part all = {.bad_row = -1};
	for (size_t i = 0; i < count && all.bad_row < 0; i++) {
		all.loss += p.parts[i].loss;
		all.correct += p.parts[i].correct;
		all.bad_row = p.parts[i].bad_row;
		all.nan = p.parts[i].nan;
	}
	sli_arena_reset(context, mark);
	if (all.bad_row >= 0 && all.nan)
		return sli_fail(context, SL_ERR_NONFINITE, "row %lld of the scores has a NaN, which has no rank",
						(long long)all.bad_row);
	if (all.bad_row >= 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "labels[%lld] is %d; it must be in [0, %lld)", (long long)all.bad_row,
						(int)labels[all.bad_row], (long long)scores->cols);
	double before = (double)metrics->rows, rows = before + (double)scores->rows;
	if (scores->rows) {
		metrics->accuracy = (metrics->accuracy * before + (double)all.correct) / rows;
		metrics->log_loss = (metrics->log_loss * before + all.loss) / rows;
		metrics->rows += scores->rows;
	}
	return SL_OK;
}
