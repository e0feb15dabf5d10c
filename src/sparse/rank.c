/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest of arrays, by counting digits of their keys from the top. */
#include "sparse/rank.h"

#include "core/checked.h"

enum { DIGIT = 11, DIGITS = 1 << DIGIT, LEAST_PIECE = 16384, PIECES = 32, TOP = 52 };

typedef struct piece {
	const sl_ranked *array;
	int64_t begin, end, equal_before;
	bool bad;
} piece;

typedef struct ranking {
	piece *pieces;
	int64_t (*counts)[DIGITS]; /* a row a piece */
	int shift;
	uint64_t prefix, threshold; /* digits above the current one */
	int64_t kept_equal;
} ranking;

/* The last digit is what 11 bits at a time leave over. */
static int width_at(int shift) {
	return shift ? DIGIT : 8;
}

#define COUNT_KEYS(type, key_of)                                                                                       \
	do {                                                                                                               \
		const type *bits = a->values;                                                                                  \
		for (int64_t i = p->begin; i < p->end; i++) {                                                                  \
			uint64_t key = key_of(bits[i]);                                                                            \
			bad |= key > infinity;                                                                                     \
			if (key >> shift >> width == prefix)                                                                       \
				counts[key >> shift & mask]++;                                                                         \
		}                                                                                                              \
	} while (0)

static void count_piece(void *argument, size_t index) {
	ranking *r = argument;
	piece *p = &r->pieces[index];
	const sl_ranked *a = p->array;
	int64_t *counts = r->counts[index];
	int shift = r->shift, width = width_at(shift);
	uint64_t prefix = r->prefix, mask = (UINT64_C(1) << width) - 1, infinity = sli_key_infinity(a->dtype);
	bool bad = false;
	memset(counts, 0, sizeof *r->counts);
	if (a->dtype == SL_F32)
		COUNT_KEYS(uint32_t, sli_key32);
	else
		COUNT_KEYS(uint64_t, sli_key64);
	p->bad = bad;
}

#define MARK_KEYS(type, key_of)                                                                                        \
	do {                                                                                                               \
		const type *bits = a->values;                                                                                  \
		for (int64_t i = p->begin; i < p->end; i++) {                                                                  \
			uint64_t key = key_of(bits[i]);                                                                            \
			bool smaller = key < r->threshold;                                                                         \
			if (key == r->threshold)                                                                                   \
				smaller = equal++ >= r->kept_equal;                                                                    \
			a->marks[i] = smaller;                                                                                     \
		}                                                                                                              \
	} while (0)

static void mark_piece(void *argument, size_t index) {
	const ranking *r = argument;
	const piece *p = &r->pieces[index];
	const sl_ranked *a = p->array;
	int64_t equal = p->equal_before;
	if (a->dtype == SL_F32)
		MARK_KEYS(uint32_t, sli_key32);
	else
		MARK_KEYS(uint64_t, sli_key64);
}

static sl_status name_nan(sl_context *context, const sl_ranked *arrays, int count) {
	for (int a = 0; a < count; a++)
		for (int64_t i = 0; i < arrays[a].count; i++) {
			uint64_t key = arrays[a].dtype == SL_F32 ? sli_key32(((const uint32_t *)arrays[a].values)[i])
													 : sli_key64(((const uint64_t *)arrays[a].values)[i]);
			if (key > sli_key_infinity(arrays[a].dtype))
				return sli_fail(context, SL_ERR_NONFINITE, "entry %lld of \"%s\" is NaN: it has no rank", (long long)i,
								arrays[a].name);
		}
	return SL_OK;
}

/* Pieces depend on the counts alone. */
static int64_t cut(const sl_ranked *arrays, int count, piece *pieces) {
	int64_t total = 0, used = 0;
	for (int a = 0; a < count; a++)
		total += arrays[a].count;
	int64_t size = sli_ceil_div(total, PIECES) > LEAST_PIECE ? sli_ceil_div(total, PIECES) : LEAST_PIECE;
	for (int a = 0; a < count; a++)
		for (int64_t begin = 0; begin < arrays[a].count; begin += size, used++)
			if (pieces)
				pieces[used] = (piece){&arrays[a], begin,
									   begin + size < arrays[a].count ? begin + size : arrays[a].count, 0, false};
	return used;
}

/* The digit in which the wanted-th smallest lies; what is below it is taken off *wanted. */
static uint64_t find_digit(const ranking *r, int64_t pieces, int64_t *wanted) {
	for (uint64_t digit = 0;; digit++) {
		int64_t here = 0;
		for (int64_t p = 0; p < pieces; p++)
			here += r->counts[p][digit];
		if (here >= *wanted)
			return digit;
		*wanted -= here;
	}
}

static sl_status mark(sl_context *context, const sl_ranked *arrays, int count, int64_t wanted, ranking *r,
					  int64_t pieces) {
	/* A f32 has no digits below bit 32. */
	int last = arrays[0].dtype == SL_F32 ? 30 : 0;
	uint64_t digit = 0;
	for (r->shift = TOP;; r->shift = r->shift > DIGIT ? r->shift - DIGIT : 0) {
		sli_parallel(context, (size_t)pieces, count_piece, r);
		for (int64_t p = 0; p < pieces; p++)
			if (r->pieces[p].bad)
				return name_nan(context, arrays, count);
		digit = find_digit(r, pieces, &wanted);
		r->prefix = r->prefix << width_at(r->shift) | digit;
		if (r->shift == last)
			break;
	}
	r->threshold = r->prefix << last;
	/* `wanted` of those that equal the threshold go: the last of them. */
	int64_t equal = 0;
	for (int64_t p = 0; p < pieces; p++) {
		r->pieces[p].equal_before = equal;
		equal += r->counts[p][digit];
	}
	r->kept_equal = equal - wanted;
	sli_parallel(context, (size_t)pieces, mark_piece, r);
	return SL_OK;
}

sl_status sli_mark_smallest(sl_context *context, const sl_ranked *arrays, int count, int64_t wanted) {
	int64_t pieces = cut(arrays, count, NULL);
	if (!pieces)
		return SL_OK;
	if (wanted <= 0) {
		for (int a = 0; a < count; a++)
			memset(arrays[a].marks, 0, (size_t)arrays[a].count);
		return name_nan(context, arrays, count);
	}
	ranking r = {0};
	void *memory;
	sl_arena_mark place = sli_arena_mark(context);
	SL_TRY(sli_arena_take(context, (size_t)pieces * (sizeof *r.counts + sizeof *r.pieces), &memory));
	r.counts = memory;
	r.pieces = (piece *)(r.counts + pieces);
	cut(arrays, count, r.pieces);
	sl_status status = mark(context, arrays, count, wanted, &r, pieces);
	sli_arena_reset(context, place);
	return status;
}

void sli_sort_cells(int64_t *cells, int64_t *scratch, int64_t count, int64_t most) {
	int64_t *from = cells, *to = scratch;
	for (int shift = 0; shift < 63 && most >> shift; shift += DIGIT) {
		int64_t at[DIGITS] = {0}, sum = 0;
		for (int64_t i = 0; i < count; i++)
			at[from[i] >> shift & (DIGITS - 1)]++;
		for (int d = 0; d < DIGITS; d++) {
			int64_t here = at[d];
			at[d] = sum;
			sum += here;
		}
		for (int64_t i = 0; i < count; i++)
			to[at[from[i] >> shift & (DIGITS - 1)]++] = from[i];
		int64_t *other = from;
		from = to;
		to = other;
	}
	if (from != cells)
		memcpy(cells, from, (size_t)count * sizeof *cells);
}
