/* SPDX-License-Identifier: Apache-2.0 */
/* In which order samples come, and which part they belong to: from the seed alone. */
#ifndef SL_TRAIN_ORDER_H
#define SL_TRAIN_ORDER_H

#include <sparselayer/share.h>

#include "core/context.h"

/* Fisher and Yates, from the seed, the stream and the epoch's number. `order` is a permutation to begin with. */
void sli_shuffle(uint64_t seed, uint64_t stream, int64_t epoch, int64_t *order, int64_t count);
/* Of samples of which this rank has a share, each part within itself, by its number: the same whoever has it. `order`
 * has share->count elements. */
void sli_shuffle_share(uint64_t seed, uint64_t stream, int64_t epoch, const sl_share *share, int64_t *order);
/* Rows that `parts` own parts from `part` on give to the batch of `total` samples behind `from` others of the epoch,
 * each having given from / share->parts so far. Returns how many. */
int64_t sli_share_batch(const sl_share *share, int64_t part, int64_t parts, int64_t from, int64_t total,
						const int64_t *order, int64_t *rows);
sl_status sli_split(sl_context *context, int64_t count, const int32_t *labels, double fraction, uint64_t stream,
					int64_t *rows, int64_t *first_count);

#endif
