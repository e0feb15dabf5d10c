/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting rows into blocks of columns, sixteen entries at a time. */
#include "cpu/chunk.h"

#include <immintrin.h>

static inline __mmask16 first_of(int64_t count) {
	return count >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << count) - 1);
}

/* The quotients of columns by the width, and the rests: floats err by less than one below 2^21. */
static inline __m512i divide(__m512i c, __m512 inverse, __m512i width, __m512i *rest) {
	__m512i q = _mm512_cvttps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(c), inverse)), one = _mm512_set1_epi32(1);
	__m512i r = _mm512_sub_epi32(c, _mm512_mullo_epi32(q, width));
	__mmask16 over = _mm512_cmpge_epi32_mask(r, width), under = _mm512_cmplt_epi32_mask(r, _mm512_setzero_si512());
	q = _mm512_mask_add_epi32(q, over, q, one);
	r = _mm512_mask_sub_epi32(r, over, r, width);
	*rest = _mm512_mask_add_epi32(r, under, r, width);
	return _mm512_mask_sub_epi32(q, under, q, one);
}

int64_t sli_cut_row_avx512(const sl_cut_task *t, int32_t from, int32_t to, int32_t *block, int32_t *begin,
						   void *offsets) {
	if (t->blocks >= 1 << 20)
		return sli_cut_row_scalar(t, from, to, block, begin, offsets);
	const __m512i width = _mm512_set1_epi32(t->width), stride = _mm512_set1_epi32(t->stride);
	const __m512i cols = _mm512_set1_epi32((int32_t)t->cols);
	const __m512 inverse = _mm512_set1_ps(1.0f / (float)t->width);
	__m512i before = _mm512_set1_epi32(-1), last = before;
	__m512i at = _mm512_add_epi32(_mm512_set1_epi32(from),
								  _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
	int64_t n = 0;
	for (int64_t k = from; k < to; k += 16, at = _mm512_add_epi32(at, _mm512_set1_epi32(16))) {
		__mmask16 there = first_of(to - k);
		__m512i c = _mm512_maskz_loadu_epi32(there, t->columns + k), rest;
		/* Before anything is written: rows that are not valid may have more runs than there is room for. */
		if (_mm512_mask_cmple_epi32_mask(there, c, _mm512_alignr_epi32(c, last, 15)) |
			_mm512_mask_cmpge_epi32_mask(there, c, cols))
			return -1;
		__m512i now = divide(c, inverse, width, &rest);
		__mmask16 starts = _mm512_mask_cmpneq_epi32_mask(there, now, _mm512_alignr_epi32(now, before, 15));
		_mm512_storeu_si512(block + n, _mm512_maskz_compress_epi32(starts, now));
		_mm512_storeu_si512(begin + n, _mm512_maskz_compress_epi32(starts, at));
		rest = _mm512_mullo_epi32(rest, stride);
		if (t->wide)
			_mm512_storeu_si512((uint32_t *)offsets + (k - from), rest);
		else
			_mm256_storeu_si256((__m256i *)(void *)((uint16_t *)offsets + (k - from)), _mm512_cvtepi32_epi16(rest));
		n += __builtin_popcount(starts);
		before = now;
		last = c;
	}
	return n;
}
