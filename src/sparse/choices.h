/* SPDX-License-Identifier: Apache-2.0 */
/* What was measured for products over a pattern, kept with it. */
#ifndef SL_SPARSE_CHOICES_H
#define SL_SPARSE_CHOICES_H

#include "sparse/sparse.h"

/* The candidates of a description, in the order that measuring found in this context; 0: nothing is kept. Descriptions
 * are the same where op, shapes, orders, leading dimensions, dtypes and epilogue are. `sparse_only`: dense candidates
 * were left out. Thread-safe. */
int sli_pattern_find_choice(sl_context *context, sl_pattern *pattern, const sl_op_desc *desc, bool sparse_only,
							sl_candidate *list, int capacity);
/* Keep them, where there is memory. Thread-safe. */
void sli_pattern_keep_choice(sl_context *context, sl_pattern *pattern, const sl_op_desc *desc, bool sparse_only,
							 const sl_candidate *list, int count);

#endif
