/* SPDX-License-Identifier: Apache-2.0 */
/* The best cells of one row of scores. */
#ifndef SL_SPARSE_BEST_H
#define SL_SPARSE_BEST_H

#include "sparse/rank.h"

/* A row of scores, f32 or f64, which is overwritten; `taken` columns (increasing) do not count. */
typedef struct sl_score_row {
	void *scores;
	sl_dtype dtype;
	int64_t cols, first; /* `first`: the row's first cell */
	const int32_t *taken;
	int64_t taken_count;
} sl_score_row;

/* Whether sli_best_of_row() serves so wide a row and so few of it. */
bool sli_best_serves(sl_dtype dtype, int64_t cols, int64_t keep);
/* The `keep` of largest magnitude (of equal ones the first) whose keys are above `least` (-1: all), in the order of
 * columns. Returns their number. The row holds magnitudes after it, -1 where it is taken. */
int64_t sli_best_of_row(const sl_score_row *row, int64_t keep, int32_t least, int32_t *list, sl_scored_cell *to);
/* Numbers of `list`. */
int64_t sli_best_list(int64_t cols);

/* The `keep` of largest magnitude of each `width` neighbours (the last may be fewer), the best first, of equal ones the
 * first. Returns their number, at most `keep` for each. Overwrites nothing. */
int64_t sli_best_of_groups(const sl_score_row *row, int64_t width, int64_t keep, sl_scored_cell *to);

#endif
