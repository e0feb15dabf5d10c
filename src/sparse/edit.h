/* SPDX-License-Identifier: Apache-2.0 */
/* From a pattern to the next: entries that go, cells that come. */
#ifndef SL_SPARSE_EDIT_H
#define SL_SPARSE_EDIT_H

#include "sparse/sparse.h"

typedef struct sl_pattern_edit {
	sl_pattern *from;
	const uint8_t *marks; /* by entry: 1 goes; NULL: none */
	int64_t dropped;
	const int64_t *cells; /* row * cols + column, increasing, none of them in `from` */
	int64_t grown;
} sl_pattern_edit;

/* The next pattern and, in `map` (room for its entries), the old entry that each of its entries was, or -1. */
sl_status sli_pattern_apply(sl_pattern **to, int64_t *map, sl_context *context, const sl_pattern_edit *edit);

/* An array of the old entries and one of the new. */
typedef struct sl_carried {
	const void *from;
	void *to;
	double fill; /* of new entries */
} sl_carried;
/* to[i] = from[map[i]], or `fill` for -1; f32 or f64. */
void sli_carry(sl_context *context, const sl_carried *arrays, int count, sl_dtype dtype, const int64_t *map,
			   int64_t nnz);
/* The mean of an array, summed in double in a fixed order. */
double sli_mean(const void *values, sl_dtype dtype, int64_t count);

#endif
