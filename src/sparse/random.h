/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SL_SPARSE_RANDOM_H
#define SL_SPARSE_RANDOM_H

#include "sparse/sparse.h"

/* Offsets (zeroed) and columns for a pattern that is to be adopted. */
sl_status sli_pattern_take(sl_context *context, int64_t rows, int64_t nnz, void **offsets, int32_t **columns);
/* nnz of total = rows * cols cells. */
sl_status sli_pattern_random(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, int64_t total,
							 int64_t nnz, uint64_t stream);

/* Of each m consecutive columns n. */
sl_status sli_pattern_n_m(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, int n, int m,
						  uint64_t stream);

/* `count` distinct numbers of [0, total), sorted, each set as likely as any other, from the context's seed and
 * `stream`. Draws on all threads; the numbers do not depend on how many. */
sl_status sli_draw_distinct(sl_context *context, int64_t *numbers, int64_t count, int64_t total, uint64_t stream);

#endif
