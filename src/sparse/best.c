/* SPDX-License-Identifier: Apache-2.0 */
#include "sparse/best.h"

#include "sparse/quickselect.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum { LANES = 64, WORD = 64 };

bool sli_best_serves(sl_dtype dtype, int64_t cols, int64_t keep) {
	return dtype == SL_F32 && keep <= LANES / 2 && cols >= 2 * LANES;
}

int64_t sli_best_list(int64_t cols) {
	return 3 * cols;
}

/* Magnitudes in place, and the largest of each lane: they are ordered as their bits are. */
static void magnitudes(int32_t *bits, int64_t cols, int32_t *most) {
	int64_t c = 0;
	memset(most, 0, LANES * sizeof *most);
#if defined(__SSE2__)
	/* As numbers, for which SSE2 has a maximum; NaN does not count, which makes a lower bound. */
	__m128 sign = _mm_castsi128_ps(_mm_set1_epi32(INT32_MAX));
	for (; c + LANES <= cols; c += LANES)
		for (int j = 0; j < LANES; j += 4) {
			__m128 x = _mm_and_ps(_mm_loadu_ps((const float *)(bits + c + j)), sign);
			_mm_storeu_ps((float *)(bits + c + j), x);
			_mm_storeu_ps((float *)(most + j), _mm_max_ps(x, _mm_loadu_ps((const float *)(most + j))));
		}
#else
	for (; c + LANES <= cols; c += LANES)
		for (int j = 0; j < LANES; j++) {
			bits[c + j] &= INT32_MAX;
			most[j] = bits[c + j] > most[j] ? bits[c + j] : most[j];
		}
#endif
	for (; c < cols; c++)
		bits[c] &= INT32_MAX;
}

#define LARGER(a, b) (*(a) > *(b))
SL_QUICKSELECT(largest_first, int32_t, LARGER)

/* A number that at least `keep` of LANES reach, and hardly more than that: by halving, which takes no branches. */
static int32_t reached_by(const int32_t *most, int64_t keep) {
	enum { OCTAVES = 4, FINE = 8, COARSE = 30 };
	int32_t high = 0;
	for (int j = 0; j < LANES; j++)
		high = most[j] > high ? most[j] : high;
	/* Nearly always it is within some octaves of the largest. */
	int32_t low = high > OCTAVES << 23 ? high - (OCTAVES << 23) : 0;
	int steps = FINE;
	for (int turn = 0; turn <= steps; turn++) {
		int32_t at = turn ? low + (high - low) / 2 : low, count = 0;
		for (int j = 0; j < LANES; j++)
			count += most[j] >= at;
		if (!turn && count < keep) {
			high = low;
			low = 0;
			steps = COARSE;
		} else {
			low = count >= keep ? at : low;
			high = count >= keep ? high : at;
		}
	}
	return low;
}

/* Of a short list the places of the `keep` largest, of equal ones the first. Returns their number. */
static int64_t keep_few(const int32_t *values, int64_t n, int64_t keep, int32_t *columns) {
	int64_t used = 0;
	for (int64_t i = 0; i < n; i++) {
		int32_t better = 0;
		for (int64_t j = 0; j < n; j++)
			better += (values[j] > values[i]) | ((values[j] == values[i]) & (j < i));
		columns[used] = columns[i];
		used += better < keep;
	}
	return used;
}

static int64_t keep_many(const int32_t *values, int64_t n, int64_t keep, int32_t *columns, int32_t *scratch) {
	memcpy(scratch, values, (size_t)n * sizeof *scratch);
	largest_first(scratch, n, keep - 1);
	int32_t bound = scratch[keep - 1];
	int64_t used = 0, equal = keep;
	for (int64_t i = 0; i < n; i++)
		equal -= values[i] > bound;
	for (int64_t i = 0; i < n; i++) {
		columns[used] = columns[i];
		used += values[i] > bound || (values[i] == bound && equal-- > 0);
	}
	return used;
}

/* Which of WORD numbers are greater. */
static uint64_t above_in_word(const int32_t *bits, int32_t least) {
	uint64_t mask = 0;
#if defined(__SSE2__)
	__m128i bound = _mm_set1_epi32(least);
	for (int i = 0; i < WORD; i += 16) {
		const __m128i *from = (const __m128i *)(bits + i);
		__m128i a = _mm_cmpgt_epi32(_mm_loadu_si128(from), bound),
				b = _mm_cmpgt_epi32(_mm_loadu_si128(from + 1), bound);
		__m128i c = _mm_cmpgt_epi32(_mm_loadu_si128(from + 2), bound),
				d = _mm_cmpgt_epi32(_mm_loadu_si128(from + 3), bound);
		__m128i all = _mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
		mask |= (uint64_t)(uint32_t)_mm_movemask_epi8(all) << i;
	}
#else
	for (int i = 0; i < WORD; i++)
		mask |= (uint64_t)(bits[i] > least) << i;
#endif
	return mask;
}

/* Columns of what is greater, in order. */
static int64_t list_above(const int32_t *bits, int64_t cols, int32_t least, int32_t *columns) {
	int64_t n = 0, c = 0;
	for (; c + WORD <= cols; c += WORD)
		for (uint64_t few = above_in_word(bits + c, least); few; few &= few - 1)
			columns[n++] = (int32_t)(c + __builtin_ctzll(few));
	for (; c < cols; c++) {
		columns[n] = (int32_t)c;
		n += bits[c] > least;
	}
	return n;
}

/*
 * The maximum of each lane is an element, so the keep-th largest of those is a bound that little is above: two passes
 * over the row, and the rest is done with a short list.
 */
int64_t sli_best_of_row(const sl_score_row *row, int64_t keep, int32_t least, int32_t *list, sl_scored_cell *to) {
	enum { FEW = 64 };
	int32_t *bits = row->scores, *values = list, *columns = list + row->cols, *scratch = columns + row->cols;
	int32_t most[LANES];
	for (int64_t k = 0; k < row->taken_count; k++)
		bits[row->taken[k]] = 0;
	magnitudes(bits, row->cols, most);
	for (int64_t k = 0; k < row->taken_count; k++)
		bits[row->taken[k]] = -1;
	int32_t bound = reached_by(most, keep) - 1;
	int64_t n = list_above(bits, row->cols, bound > least ? bound : least, columns);
	for (int64_t i = 0; i < n; i++)
		values[i] = bits[columns[i]];
	if (n > keep)
		n = n <= FEW ? keep_few(values, n, keep, columns) : keep_many(values, n, keep, columns, scratch);
	for (int64_t i = 0; i < n; i++)
		to[i] = (sl_scored_cell){sli_key32((uint32_t)bits[columns[i]]), row->first + columns[i]};
	return n;
}

static uint64_t key_of(const sl_score_row *row, int64_t c) {
	return row->dtype == SL_F32 ? sli_key32(((const uint32_t *)row->scores)[c])
								: sli_key64(((const uint64_t *)row->scores)[c]);
}

int64_t sli_best_of_groups(const sl_score_row *row, int64_t width, int64_t keep, sl_scored_cell *to) {
	int64_t n = 0, k = 0;
	for (int64_t begin = 0; begin < row->cols; begin += width) {
		int64_t end = begin + width < row->cols ? begin + width : row->cols, first = n;
		for (int64_t c = begin; c < end; c++) {
			if (k < row->taken_count && row->taken[k] == c) {
				k++;
				continue;
			}
			/* Among the best so far, from the end; the worst of them goes over the edge. */
			uint64_t key = key_of(row, c);
			int64_t at = n < first + keep ? n++ : n;
			for (; at > first && to[at - 1].key < key; at--)
				if (at < n)
					to[at] = to[at - 1];
			if (at < n)
				to[at] = (sl_scored_cell){key, row->first + c};
		}
	}
	return n;
}
