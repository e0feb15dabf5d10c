/* SPDX-License-Identifier: Apache-2.0 */
#include "train/order.h"

#include <math.h>
#include <stdlib.h>

#include "core/rng.h"

static void shuffle(sl_rng *rng, int64_t *order, int64_t count) {
	for (int64_t i = count - 1; i > 0; i--) {
		int64_t j = (int64_t)sli_rng_below(rng, (uint64_t)i + 1), other = order[i];
		order[i] = order[j];
		order[j] = other;
	}
}

void sli_shuffle(uint64_t seed, uint64_t stream, int64_t epoch, int64_t *order, int64_t count) {
	/* Streams are far apart: epochs count from there. */
	sl_rng rng = sli_rng(seed, ((0x5368756666ULL << 24) + stream * 0x9E3779B97F4A7C15u) ^ (uint64_t)epoch);
	shuffle(&rng, order, count);
}

void sli_shuffle_share(uint64_t seed, uint64_t stream, int64_t epoch, const sl_share *share, int64_t *order) {
	int64_t first, count;
	for (int64_t part = 0; part < share->parts; part++) {
		sl_comm_share(share->total, (int)part, (int)share->parts, &first, &count);
		int64_t at = first - share->first;
		if (at < 0 || at >= share->count)
			continue;
		for (int64_t i = 0; i < count; i++)
			order[at + i] = at + i;
		sli_shuffle(seed, stream + ((uint64_t)(part + 1) << 32), epoch, order + at, count);
	}
}

int64_t sli_share_batch(const sl_share *share, int64_t part, int64_t parts, int64_t from, int64_t total,
						const int64_t *order, int64_t *rows) {
	int64_t n = 0, first, all, before, count;
	for (int64_t end = part + parts; part < end; part++, n += count) {
		sl_comm_share(share->total, (int)part, (int)share->parts, &first, &all);
		sl_comm_share(total, (int)part, (int)share->parts, &before, &count);
		if (count)
			memcpy(rows + n, order + (first - share->first) + from / share->parts, (size_t)count * sizeof *rows);
	}
	return n;
}

static int compare(const void *a, const void *b) {
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

/* How many of each class go to the second part: the whole part of its share, and one more for those with the
 * largest rest until there are `wanted`; equal rests: the lower class. counts[c] becomes that number. */
static void share(int64_t *counts, double *rests, int64_t classes, double fraction, int64_t wanted) {
	int64_t given = 0;
	for (int64_t c = 0; c < classes; c++) {
		double exact = fraction * (double)counts[c], whole = floor(exact);
		rests[c] = exact - whole;
		counts[c] = (int64_t)whole;
		given += (int64_t)whole;
	}
	for (; given < wanted; given++) {
		int64_t most = 0;
		for (int64_t c = 1; c < classes; c++)
			if (rests[c] > rests[most])
				most = c;
		rests[most] = -1;
		counts[most]++;
	}
}

/* Of the samples in `order` those of each class first come go to the second part. */
static void take(const int32_t *labels, int64_t *left, const int64_t *order, int64_t count, int64_t *rows,
				 int64_t *first_count) {
	int64_t first = 0, second = count;
	*first_count = 0;
	if (!count)
		return;
	for (int64_t i = 0; i < count; i++) {
		int64_t *mine = left + (labels ? labels[order[i]] : 0);
		if (*mine > 0) {
			--*mine;
			rows[--second] = order[i];
		} else {
			rows[first++] = order[i];
		}
	}
	qsort(rows, (size_t)first, sizeof *rows, compare);
	qsort(rows + first, (size_t)(count - first), sizeof *rows, compare);
	*first_count = first;
}

sl_status sli_split(sl_context *context, int64_t count, const int32_t *labels, double fraction, uint64_t stream,
					int64_t *rows, int64_t *first_count) {
	int64_t classes = 1;
	for (int64_t i = 0; labels && i < count; i++) {
		if (labels[i] < 0)
			return sli_fail(context, SL_ERR_ARGUMENT, "labels[%lld] is %d; it must not be negative", (long long)i,
							(int)labels[i]);
		classes = labels[i] >= classes ? labels[i] + INT64_C(1) : classes;
	}
	size_t bytes = (size_t)classes * 16 + (size_t)count * 8;
	int64_t *counts, *order;
	SL_TRY(sli_allocate_zeroed(context, bytes, "a split", (void **)&counts));
	double *rests = (double *)(counts + classes);
	order = (int64_t *)(rests + classes);
	for (int64_t i = 0; i < count; i++) {
		counts[labels ? labels[i] : 0]++;
		order[i] = i;
	}
	share(counts, rests, classes, fraction, llround(fraction * (double)count));
	sl_rng rng = sli_rng(sli_seed(context), 0x53706c6974ULL << 24 ^ stream);
	shuffle(&rng, order, count);
	take(labels, counts, order, count, rows, first_count);
	sli_heap_free(sli_heap(context), counts, bytes);
	return SL_OK;
}
