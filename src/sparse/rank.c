/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest of arrays, by counting digits of their keys from the top. */
#include "sparse/rank.h"

#include "core/checked.h"

enum { DIGIT = 11, DIGITS = 1 << DIGIT, LEAST_PIECE = 8192, PIECES = 32, PARTS = 2, TOP = 52 };

typedef struct piece {
	const sl_ranked *array;
	int64_t begin, end;
	uint64_t *keys; /* those with the threshold's first digit; as many as the piece is long */
	int64_t listed, equal, equal_before;
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

/* In the numbers' own width. Every other element is counted apart: neighbours often have the same first digit, and an
 * increment waits for the one before it in the same place. Beyond infinity the difference to it has a sign. */
#define COUNT_FIRST(type, magnitude, infinity, shift)                                                                  \
	do {                                                                                                               \
		const type *bits = a->values;                                                                                  \
		type beyond = 0;                                                                                               \
		int64_t i = p->begin;                                                                                          \
		for (; i + PARTS <= p->end; i += PARTS)                                                                        \
			for (int part = 0; part < PARTS; part++) {                                                                 \
				type key = bits[i + part] & (magnitude);                                                               \
				beyond |= (infinity)-key;                                                                              \
				counts[part][key >> (shift)]++;                                                                        \
			}                                                                                                          \
		for (; i < p->end; i++) {                                                                                      \
			type key = bits[i] & (magnitude);                                                                          \
			beyond |= (infinity)-key;                                                                                  \
			counts[0][key >> (shift)]++;                                                                               \
		}                                                                                                              \
		p->bad = beyond < 0;                                                                                           \
	} while (0)

static void count_first(void *argument, size_t index) {
	ranking *r = argument;
	piece *p = &r->pieces[index];
	const sl_ranked *a = p->array;
	int64_t *sums = r->counts[index];
	int32_t counts[PARTS][DIGITS] = {{0}}; /* of a piece, which memory holds: fewer than 2^31 */
	if (a->dtype == SL_F32)
		COUNT_FIRST(int32_t, INT32_MAX, (int32_t)(sli_key_infinity(SL_F32) >> 32), TOP - 32);
	else
		COUNT_FIRST(int64_t, INT64_MAX, (int64_t)sli_key_infinity(SL_F64), TOP);
	for (int d = 0; d < DIGITS; d++) {
		sums[d] = 0;
		for (int part = 0; part < PARTS; part++)
			sums[d] += counts[part][d];
	}
}

/* Which elements have the first digit is as good as random: no branches. */
#define LIST_KEYS(type, magnitude, shift, up)                                                                          \
	do {                                                                                                               \
		const type *bits = a->values;                                                                                  \
		for (int64_t i = p->begin; i < p->end; i++) {                                                                  \
			type key = bits[i] & (magnitude);                                                                          \
			to[used] = (uint64_t)key << (up);                                                                          \
			used += key >> (shift) == first;                                                                           \
		}                                                                                                              \
	} while (0)

/* The keys whose first digit is the threshold's: all that further digits are looked for in. */
static void list_piece(void *argument, size_t index) {
	const ranking *r = argument;
	piece *p = &r->pieces[index];
	const sl_ranked *a = p->array;
	uint64_t *to = p->keys;
	int32_t first = (int32_t)r->prefix;
	int64_t used = 0;
	if (a->dtype == SL_F32)
		LIST_KEYS(int32_t, INT32_MAX, TOP - 32, 32);
	else
		LIST_KEYS(int64_t, INT64_MAX, TOP, 0);
	p->listed = used;
}

static void count_listed(void *argument, size_t index) {
	ranking *r = argument;
	const piece *p = &r->pieces[index];
	int64_t *counts = r->counts[index];
	int shift = r->shift, width = width_at(shift);
	uint64_t prefix = r->prefix, mask = (UINT64_C(1) << width) - 1;
	memset(counts, 0, sizeof *r->counts);
	for (int64_t i = 0; i < p->listed; i++)
		if (p->keys[i] >> shift >> width == prefix)
			counts[p->keys[i] >> shift & mask]++;
}

/* Magnitudes as integers, of the numbers' own width: so a vector holds as many as it can. */
#define MARK_KEYS(type, magnitude)                                                                                     \
	do {                                                                                                               \
		const type *bits = a->values;                                                                                  \
		uint8_t *restrict marks = a->marks;                                                                            \
		for (int64_t i = p->begin; i < p->end; i++)                                                                    \
			marks[i] = (bits[i] & magnitude) < threshold;                                                              \
		/* Of what equals the threshold the first are kept. */                                                         \
		for (int64_t i = p->begin, equal = p->equal_before; equal < p->equal_before + p->equal; i++)                   \
			if ((bits[i] & magnitude) == threshold)                                                                    \
				marks[i] = equal++ >= r->kept_equal;                                                                   \
	} while (0)

static void mark_piece(void *argument, size_t index) {
	const ranking *r = argument;
	const piece *p = &r->pieces[index];
	const sl_ranked *a = p->array;
	if (a->dtype == SL_F32) {
		int32_t threshold = (int32_t)(r->threshold >> 32);
		MARK_KEYS(int32_t, INT32_MAX);
	} else {
		int64_t threshold = (int64_t)r->threshold;
		MARK_KEYS(int64_t, INT64_MAX);
	}
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

static int64_t total_of(const sl_ranked *arrays, int count) {
	int64_t total = 0;
	for (int a = 0; a < count; a++)
		total += arrays[a].count;
	return total;
}

/* Pieces depend on the counts alone. */
static int64_t cut(const sl_ranked *arrays, int count, piece *pieces, uint64_t *keys) {
	int64_t total = total_of(arrays, count), used = 0;
	int64_t size = sli_ceil_div(total, PIECES) > LEAST_PIECE ? sli_ceil_div(total, PIECES) : LEAST_PIECE;
	for (int a = 0; a < count; a++)
		for (int64_t begin = 0; begin < arrays[a].count; begin += size, used++) {
			int64_t end = begin + size < arrays[a].count ? begin + size : arrays[a].count;
			if (pieces) {
				pieces[used] = (piece){.array = &arrays[a], .begin = begin, .end = end, .keys = keys};
				keys += end - begin;
			}
		}
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
	sli_parallel(context, (size_t)pieces, count_first, r);
	for (int64_t p = 0; p < pieces; p++)
		if (r->pieces[p].bad)
			return name_nan(context, arrays, count);
	uint64_t digit = find_digit(r, pieces, &wanted);
	r->prefix = digit;
	sli_parallel(context, (size_t)pieces, list_piece, r);
	for (r->shift = TOP; r->shift != last;) {
		r->shift = r->shift > DIGIT ? r->shift - DIGIT : 0;
		sli_parallel(context, (size_t)pieces, count_listed, r);
		digit = find_digit(r, pieces, &wanted);
		r->prefix = r->prefix << width_at(r->shift) | digit;
	}
	r->threshold = r->prefix << last;
	/* `wanted` of those that equal the threshold go: the last of them. */
	int64_t equal = 0;
	for (int64_t p = 0; p < pieces; p++) {
		r->pieces[p].equal = r->counts[p][digit];
		r->pieces[p].equal_before = equal;
		equal += r->pieces[p].equal;
	}
	r->kept_equal = equal - wanted;
	sli_parallel(context, (size_t)pieces, mark_piece, r);
	return SL_OK;
}

/* Workspace: pieces, counts, a list of keys. */
static sl_status take_room(sl_context *context, int64_t pieces, int64_t total, ranking *r, uint64_t **keys) {
	size_t listed, fixed = (size_t)pieces * (sizeof *r->counts + sizeof *r->pieces);
	void *memory;
	if (!sli_bytes(total, sizeof **keys, &listed) || listed > SIZE_MAX - fixed)
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld weights to rank", (long long)total);
	SL_TRY(sli_arena_take(context, fixed + listed, &memory));
	r->counts = memory;
	r->pieces = (piece *)(r->counts + pieces);
	*keys = (uint64_t *)(r->pieces + pieces);
	return SL_OK;
}

sl_status sli_mark_smallest(sl_context *context, const sl_ranked *arrays, int count, int64_t wanted) {
	int64_t pieces = cut(arrays, count, NULL, NULL);
	if (!pieces)
		return SL_OK;
	if (wanted <= 0) {
		for (int a = 0; a < count; a++)
			memset(arrays[a].marks, 0, (size_t)arrays[a].count);
		return name_nan(context, arrays, count);
	}
	ranking r = {0};
	uint64_t *keys = NULL;
	sl_arena_mark place = sli_arena_mark(context);
	SL_TRY(take_room(context, pieces, total_of(arrays, count), &r, &keys));
	cut(arrays, count, r.pieces, keys);
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
