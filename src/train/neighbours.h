/* SPDX-License-Identifier: Apache-2.0 */
/* N:M structure through edits: of each m consecutive columns of a pattern at most n hold weights. */
#ifndef SL_TRAIN_NEIGHBOURS_H
#define SL_TRAIN_NEIGHBOURS_H

#include "train/edit.h"

/* n and m as options give them: both 0 for none. */
sl_status sli_n_m_check(sl_context *context, int n, int m);
/* Entries of a pattern of that structure that is full. Sizes were checked. */
int64_t sli_n_m_entries(int64_t rows, int64_t cols, int n, int m);
/* The first group of more than n, or -1, and how many it has. */
int64_t sli_n_m_excess(const sl_pattern_arrays *pattern, int n, int m, int64_t *count);
/* Candidates for growth that a group may need at most. */
int64_t sli_n_m_candidates(int n, int m);

/* The values that an edit ranks, copied into the arena, infinite where a weight may not go: of each group the `n` of
 * largest magnitude (of equal ones the first) stay, or (n < 0, where as many come as go) so many that what goes finds
 * room. Receives how many may go. */
sl_status sli_n_m_protect(sl_context *context, const sl_layer_edit *edit, int n, int m, sl_ranked *ranked,
						  int64_t *free);

/* A cell for each that was marked, in the same group: change.cells, change.grown. At random, or the best of `items`
 * (group after group, best first; counted from `base`; what is of other layers is skipped). SL_ERR_NONFINITE: one of
 * these is NaN. */
sl_status sli_n_m_grow_random(sl_context *context, sl_layer_edit *edit, int m, uint64_t stream);
sl_status sli_n_m_grow_best(sl_context *context, sl_layer_edit *edit, int m, const sl_selection *selection,
							int64_t base);

#endif
