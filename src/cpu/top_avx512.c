/* SPDX-License-Identifier: Apache-2.0 */
/* The largest of a row of scores, 16 an instruction. Magnitudes are ordered as their bits are. */
#include "cpu/top.h"

#ifdef SL_TEST_SIMDE
#include "kernels/simde_top.h"
#define sli_top_f32_avx512 test_top_simde
int64_t test_top_simde(const sl_top_task *task);
#else
#include <immintrin.h>
#endif

enum { LANES = 64, MOST_STEPS = 30 };

static __mmask16 lowest(int64_t count) {
	return count >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << count) - 1u);
}

static int count_mask(__mmask16 mask) {
	return __builtin_popcount(mask);
}

/* Magnitudes in place; the largest of each of 64 lanes. */
static void magnitudes(int32_t *bits, int64_t cols, __m512i most[4]) {
	__m512i magnitude = _mm512_set1_epi32(INT32_MAX);
	int64_t c = 0;
	for (int j = 0; j < 4; j++)
		most[j] = _mm512_setzero_si512();
	for (; c + LANES <= cols; c += LANES)
		for (int j = 0; j < 4; j++) {
			__m512i x = _mm512_and_si512(_mm512_loadu_si512(bits + c + 16 * j), magnitude);
			_mm512_storeu_si512(bits + c + 16 * j, x);
			most[j] = _mm512_max_epi32(most[j], x);
		}
	for (; c < cols; c++)
		bits[c] &= INT32_MAX;
}

static int reached(const __m512i most[4], int32_t at) {
	__m512i bound = _mm512_set1_epi32(at);
	uint64_t all = (uint64_t)_mm512_cmpge_epi32_mask(most[0], bound) |
				   (uint64_t)_mm512_cmpge_epi32_mask(most[1], bound) << 16 |
				   (uint64_t)_mm512_cmpge_epi32_mask(most[2], bound) << 32 |
				   (uint64_t)_mm512_cmpge_epi32_mask(most[3], bound) << 48;
	return __builtin_popcountll(all);
}

/* A number that at least `keep` of the lanes reach, and hardly more: by halving, which takes no branches. */
static int32_t reached_by(const __m512i most[4], int64_t keep) {
	enum { OCTAVES = 4, FINE = 8 };
	__m512i two = _mm512_max_epi32(_mm512_max_epi32(most[0], most[1]), _mm512_max_epi32(most[2], most[3]));
	int32_t high = _mm512_reduce_max_epi32(two), low = high > OCTAVES << 23 ? high - (OCTAVES << 23) : 0;
	int steps = FINE;
	/* Nearly always it is within some octaves of the largest. */
	if (reached(most, low) < keep) {
		high = low;
		low = 0;
		steps = MOST_STEPS;
	}
	for (int i = 0; i < steps; i++) {
		int32_t middle = low + (high - low) / 2;
		bool enough = reached(most, middle) >= keep;
		low = enough ? middle : low;
		high = enough ? high : middle;
	}
	return low;
}

/* What is greater than `least`, in order: no branches, for which are is as good as random. */
static int64_t list_above(const int32_t *bits, int64_t cols, int32_t least, int32_t *values, int32_t *columns) {
	__m512i bound = _mm512_set1_epi32(least), sixteen = _mm512_set1_epi32(16);
	__m512i at = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	int64_t n = 0, c = 0;
	for (; c + 16 <= cols; c += 16) {
		__m512i x = _mm512_loadu_si512(bits + c);
		__mmask16 mask = _mm512_cmpgt_epi32_mask(x, bound);
		_mm512_storeu_si512(values + n, _mm512_maskz_compress_epi32(mask, x));
		_mm512_storeu_si512(columns + n, _mm512_maskz_compress_epi32(mask, at));
		n += count_mask(mask);
		at = _mm512_add_epi32(at, sixteen);
	}
	for (; c < cols; c++) {
		values[n] = bits[c];
		columns[n] = (int32_t)c;
		n += bits[c] > least;
	}
	return n;
}

/* How many of the list come before item i: those that are larger, and the equal before it. */
static int64_t better(const int32_t *values, int64_t n, int64_t i) {
	__m512i own = _mm512_set1_epi32(values[i]);
	int64_t count = 0;
	for (int64_t j = 0; j < n; j += 16) {
		__m512i x = _mm512_loadu_si512(values + j);
		__mmask16 above = _mm512_mask_cmpgt_epi32_mask(lowest(n - j), x, own);
		__mmask16 equal = j < i ? _mm512_mask_cmpeq_epi32_mask(lowest(i - j), x, own) : 0;
		count += count_mask(above | equal);
	}
	return count;
}

/* The threshold of long lists, by halving over their values: what at least `keep` reach and, but for equal ones, no
 * more. */
static int32_t threshold(const int32_t *values, int64_t n, int64_t keep) {
	int32_t low = 0, high = INT32_MAX;
	while (low < high) {
		int32_t middle = low + (high - low) / 2 + ((high - low) & 1);
		__m512i bound = _mm512_set1_epi32(middle);
		int64_t count = 0;
		for (int64_t j = 0; j < n; j += 16)
			count += count_mask(_mm512_mask_cmpge_epi32_mask(lowest(n - j), _mm512_loadu_si512(values + j), bound));
		low = count >= keep ? middle : low;
		high = count >= keep ? high : middle - 1;
	}
	return low;
}

static int64_t keep_best(int32_t *values, int32_t *columns, int64_t n, int64_t keep) {
	enum { FEW = 64 };
	int64_t used = 0;
	if (n <= FEW) {
		uint64_t kept = 0;
		for (int64_t i = 0; i < n; i++)
			kept |= (uint64_t)(better(values, n, i) < keep) << i;
		for (int64_t i = 0; i < n; i++) {
			values[used] = values[i];
			columns[used] = columns[i];
			used += kept >> i & 1;
		}
		return used;
	}
	int32_t least = threshold(values, n, keep);
	int64_t equal = keep;
	for (int64_t i = 0; i < n; i++)
		equal -= values[i] > least;
	for (int64_t i = 0; i < n; i++) {
		bool kept = values[i] > least || (values[i] == least && equal-- > 0);
		values[used] = values[i];
		columns[used] = columns[i];
		used += kept;
	}
	return used;
}

int64_t sli_top_f32_avx512(const sl_top_task *t) {
	int32_t *bits = (int32_t *)(void *)t->scores;
	__m512i most[4];
	for (int64_t k = 0; k < t->taken_count; k++)
		bits[t->taken[k]] = 0;
	magnitudes(bits, t->cols, most);
	for (int64_t k = 0; k < t->taken_count; k++)
		bits[t->taken[k]] = -1;
	int32_t bound = reached_by(most, t->keep) - 1;
	int64_t n = list_above(bits, t->cols, bound > t->least ? bound : t->least, t->values, t->columns);
	return n > t->keep ? keep_best(t->values, t->columns, n, t->keep) : n;
}
