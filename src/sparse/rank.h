/* SPDX-License-Identifier: Apache-2.0 */
/* Ranking by magnitude. Magnitudes are compared as integers: the bits of a number without its sign. */
#ifndef SL_SPARSE_RANK_H
#define SL_SPARSE_RANK_H

#include "sparse/sparse.h"

/* Keys of both dtypes begin at bit 62, so that one set of digits serves both. */
static inline uint64_t sli_key32(uint32_t bits) {
	return (uint64_t)(bits & 0x7fffffffu) << 32;
}
static inline uint64_t sli_key64(uint64_t bits) {
	return bits & 0x7fffffffffffffffu;
}
/* Keys beyond this are NaN's. */
static inline uint64_t sli_key_infinity(sl_dtype dtype) {
	return dtype == SL_F32 ? UINT64_C(0x7f80000000000000) : UINT64_C(0x7ff0000000000000);
}

/* An array to be ranked together with others; f32 or f64, the same in all. */
typedef struct sl_ranked {
	const char *name; /* for messages */
	const void *values;
	sl_dtype dtype;
	int64_t count;
	uint8_t *marks; /* count; receives 1 where an element is among the smallest, else 0 */
} sl_ranked;

/* Mark the `wanted` elements of smallest magnitude in all arrays together; of equal ones the later. Takes workspace
 * from the arena. SL_ERR_NONFINITE names the first NaN. */
sl_status sli_mark_smallest(sl_context *context, const sl_ranked *arrays, int count, int64_t wanted);

enum { SL_KEY_DIGITS = 2048, SL_KEY_SHIFT = 52 }; /* the upper bits of keys, for counting */

/* A cell (row * cols + column, from some base) and the key of its score. */
typedef struct sl_scored_cell {
	uint64_t key;
	int64_t cell;
} sl_scored_cell;

/*
 * The `want` best of a stream of candidates: larger keys first, of equal keys the lower cell. Cells must come in
 * increasing order. Never holds more than `capacity` of them, however many come: when it is full, all but the best
 * `want` go, and what cannot beat the worst of those is not taken any more.
 */
typedef struct sl_selection {
	sl_scored_cell *items;
	int64_t want, have, capacity;
	int64_t row_limit;   /* no more than so many of a row; 0: any number */
	int64_t width, keep; /* of each `width` neighbours in a row the best `keep`, which all find room; 0: not so */
	uint64_t least;      /* keys up to this are not taken, once `full` */
	bool full;
	sl_dtype dtype;
	int64_t counts[SL_KEY_DIGITS]; /* of the items, by the upper bits of their keys */
	sl_heap *heap;
} sl_selection;

/* Room for `want` of rows of `cols` scores, at most `row_limit` (0: any number) of each row. Keeps the room that is
 * there where it is enough. */
sl_status sli_selection_begin(sl_context *context, sl_selection *selection, int64_t want, int64_t row_limit,
							  int64_t cols, sl_dtype dtype);
/* For the best `keep` of each `width` neighbours of a row, which are `most` in all: they lie group after group, the
 * best first, and no finish is needed. */
sl_status sli_selection_begin_groups(sl_context *context, sl_selection *selection, int64_t most, int64_t width,
									 int64_t keep, sl_dtype dtype);
void sli_selection_free(sl_selection *selection);
/* Offer rows [row, row + tile->rows) of scores [.., cols], row-major, f32 or f64, but for what is in `pattern`.
 * Cells are counted from `base`. Overwrites the tile. Takes workspace from the arena. */
sl_status sli_selection_offer(sl_context *context, sl_selection *selection, const sl_pattern_arrays *pattern,
							  int64_t base, int64_t row, const sl_dense *tile);
/* The same of rows rows[0], rows[1], ..., which increase. */
sl_status sli_selection_offer_rows(sl_context *context, sl_selection *selection, const sl_pattern_arrays *pattern,
								   int64_t base, const int32_t *rows, const sl_dense *tile);
/* Offer candidates one by one, whatever the limit of a row. */
sl_status sli_selection_add(sl_context *context, sl_selection *selection, const sl_scored_cell *items, int64_t count);
/* What a backend has found: the best of each of `rows` rows from `row` on, of which there are `most` places a row. */
typedef struct sl_row_bests {
	int64_t row, rows, cols, most;
	const int32_t *count, *columns;
	const uint32_t *magnitudes; /* f32 */
} sl_row_bests;
/* The key that a candidate must be above, as the bits of an f32; -1: any. */
int32_t sli_selection_least(const sl_selection *selection);
/* Rows that can be taken at once. */
int64_t sli_selection_rows(const sl_selection *selection, int64_t most);
/* Offer the best of rows that are not limited to fewer. Takes workspace from the arena. */
sl_status sli_selection_take(sl_context *context, sl_selection *selection, int64_t base, const sl_row_bests *bests);
/* The best, at most `want`, in increasing order of cells; their number is `have` from then on. SL_ERR_NONFINITE where
 * there was a NaN. */
sl_status sli_selection_finish(sl_context *context, sl_selection *selection);

/* Sort non-negative numbers up to `most`; `scratch` has room for as many. */
void sli_sort_cells(int64_t *cells, int64_t *scratch, int64_t count, int64_t most);

#endif
