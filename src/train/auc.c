/* SPDX-License-Identifier: Apache-2.0 */
/* The area under the ROC curve, by sorting. */
#include <math.h>
#include <stdlib.h>

#include "core/checked.h"
#include "train/metrics.h"

typedef struct scored {
	double score;
	double relevant; /* 0 or 1 */
} scored;

static int by_score_down(const void *a, const void *b) {
	double x = ((const scored *)a)->score, y = ((const scored *)b)->score;
	return (x < y) - (x > y);
}

/* NaN where all are of one kind. */
static double area_of(scored *list, int64_t count) {
	double hits = 0, misses = 0, area = 0;
	qsort(list, (size_t)count, sizeof *list, by_score_down);
	for (int64_t i = 0; i < count;) {
		double hits_before = hits, misses_before = misses, score = list[i].score;
		for (; i < count && list[i].score == score; i++) {
			hits += list[i].relevant;
			misses += 1 - list[i].relevant;
		}
		area += (misses - misses_before) * (hits + hits_before) / 2;
	}
	return hits > 0 && misses > 0 ? area / (hits * misses) : NAN;
}

typedef struct elements {
	const sl_dense *scores;
	const unsigned char *relevant; /* a bit an element, by rows */
	scored *list;
} elements;

static void put(const elements *e, int64_t row, int64_t col, int64_t at) {
	int64_t bit = row * e->scores->cols + col;
	e->list[at] = (scored){sli_score(e->scores, row, col), e->relevant[bit / 8] >> bit % 8 & 1};
}

static double average_of(const elements *e, sl_average average) {
	int64_t rows = e->scores->rows, cols = e->scores->cols, counted = 0;
	double sum = 0;
	if (average == SL_AVERAGE_MICRO) {
		for (int64_t i = 0; i < rows * cols; i++)
			put(e, i / cols, i % cols, i);
		return area_of(e->list, rows * cols);
	}
	bool by_row = average == SL_AVERAGE_SAMPLES;
	for (int64_t i = 0; i < (by_row ? rows : cols); i++) {
		for (int64_t j = 0; j < (by_row ? cols : rows); j++)
			put(e, by_row ? i : j, by_row ? j : i, j);
		double one = area_of(e->list, by_row ? cols : rows);
		if (one == one) {
			sum += one;
			counted++;
		}
	}
	return counted ? sum / (double)counted : NAN;
}

sl_status sli_metrics_auc(sl_context *context, const sl_dense *scores, const sl_sparse *relevant, sl_average average,
						  double *area) {
	int64_t rows = scores->rows, cols = scores->cols, all;
	size_t bits, bytes;
	elements e = {.scores = scores};
	unsigned char *marks;
	if (!sli_mul(rows, cols, &all) || !sli_bytes(average == SL_AVERAGE_MICRO ? all
												 : rows > cols               ? rows
																			 : cols,
												 sizeof *e.list, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld x %lld scores", (long long)rows, (long long)cols);
	bits = (size_t)sli_ceil_div(all, 8);
	for (int64_t i = 0; i < all; i++)
		if (isnan(sli_score(scores, i / cols, i % cols)))
			return sli_fail(context, SL_ERR_NONFINITE, "row %lld of the scores has a NaN, which has no rank",
							(long long)(i / cols));
	SL_TRY(sli_allocate_zeroed(context, bits, "the area under a curve", (void **)&marks));
	sl_status status = sli_allocate(context, bytes, "the area under a curve", (void **)&e.list);
	for (int64_t row = 0; status == SL_OK && row < rows; row++) {
		int64_t begin, end;
		sli_view_row(relevant, row, &begin, &end);
		for (int64_t i = begin; i < end; i++)
			if (sli_view_value(relevant, i) > 0) {
				int64_t bit = row * cols + sli_index(relevant->col_indices, relevant->index_dtype, i);
				marks[bit / 8] |= (unsigned char)(1 << bit % 8);
			}
	}
	e.relevant = marks;
	if (status == SL_OK)
		*area = average_of(&e, average);
	sli_heap_free(sli_heap(context), marks, bits);
	if (status == SL_OK)
		sli_heap_free(sli_heap(context), e.list, bytes);
	return status;
}
