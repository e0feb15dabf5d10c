/* SPDX-License-Identifier: Apache-2.0 */
/* In which order samples come, and which part they belong to: from the seed alone. */
#ifndef SL_TRAIN_ORDER_H
#define SL_TRAIN_ORDER_H

#include "core/context.h"

/* Fisher and Yates, from the seed, the stream and the epoch's number. `order` is a permutation to begin with. */
void sli_shuffle(uint64_t seed, uint64_t stream, int64_t epoch, int64_t *order, int64_t count);
sl_status sli_split(sl_context *context, int64_t count, const int32_t *labels, double fraction, uint64_t stream,
					int64_t *rows, int64_t *first_count);

#endif
