/* SPDX-License-Identifier: Apache-2.0 */
/* From a pattern to the next: entries that go, cells that come. */
#ifndef SL_SPARSE_EDIT_H
#define SL_SPARSE_EDIT_H

#include "sparse/sparse.h"

typedef struct sl_pattern_edit {
	sl_pattern *from;
	const uint8_t *marks; /* by entry: 1 goes; NULL: none */
	int64_t dropped;
	/* row * cols + column, increasing, none of them in `from`; with `ranks` numbers of cells that `from` does not have,
	 * which are counted from `first` on. */
	const int64_t *cells;
	int64_t grown, first;
	bool ranks;
} sl_pattern_edit;

/* Rows that are edited together: where their entries begin, before and after. */
typedef struct sl_edit_piece {
	int64_t row, old, now;
	int64_t saved; /* elements of old entries before it that an edit in place has to save first */
} sl_edit_piece;
/* Where each new entry comes from: 0: it is new; else 1 + the old entry's number in its piece. */
typedef struct sl_edit_map {
	int32_t *from;
	sl_edit_piece *pieces; /* count + 1 */
	int64_t count;
} sl_edit_map;

/* The next pattern and how its entries follow from the old. The map is in the arena: the caller resets it. */
sl_status sli_pattern_apply(sl_pattern **to, sl_edit_map *map, sl_context *context, const sl_pattern_edit *edit);

/* An array of the old entries and one of the new, which may be the same memory. */
typedef struct sl_carried {
	const void *from;
	void *to;
	double fill; /* of new entries */
} sl_carried;
/* Bytes of scratch for `count` arrays that are edited in place. False: more than there are. */
bool sli_carry_scratch(const sl_edit_map *map, int count, sl_dtype dtype, size_t *bytes);
/* The values of the new entries, f32 or f64. `scratch` (may be NULL where no array is edited in place) as above. */
void sli_carry(sl_context *context, const sl_edit_map *map, const sl_carried *arrays, int count, sl_dtype dtype,
			   void *scratch);
/* The mean of an array, summed in double in a fixed order. Takes workspace from the arena. */
sl_status sli_mean(sl_context *context, const void *values, sl_dtype dtype, int64_t count, double *mean);

#endif
