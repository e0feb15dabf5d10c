/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting rows into blocks of columns, sixteen entries at a time. */
#include "cpu/chunk.h"

#include <immintrin.h>

static inline __mmask16 first_of(int64_t count) {
	return count >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << count) - 1);
}

/* The quotients of columns by the width: floats err by less than one below 2^21. */
static inline __m512i divide(__m512i c, __m512 inverse, __m512i width) {
	__m512i q = _mm512_cvttps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(c), inverse)), one = _mm512_set1_epi32(1);
	__m512i rest = _mm512_sub_epi32(c, _mm512_mullo_epi32(q, width));
	q = _mm512_mask_add_epi32(q, _mm512_cmpge_epi32_mask(rest, width), q, one);
	return _mm512_mask_sub_epi32(q, _mm512_cmplt_epi32_mask(rest, _mm512_setzero_si512()), q, one);
}

int64_t sli_cut_runs_avx512(const sl_cut_task *t, int32_t from, int32_t to, int32_t *block, int32_t *begin) {
	if (t->blocks >= 1 << 20)
		return sli_cut_runs_scalar(t, from, to, block, begin);
	const __m512i width = _mm512_set1_epi32(t->width);
	const __m512 inverse = _mm512_set1_ps(1.0f / (float)t->width);
	__m512i before = _mm512_set1_epi32(-1);
	__m512i at = _mm512_add_epi32(_mm512_set1_epi32(from),
								  _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
	int64_t n = 0;
	for (int64_t k = from; k < to; k += 16, at = _mm512_add_epi32(at, _mm512_set1_epi32(16))) {
		__mmask16 there = first_of(to - k);
		__m512i now = divide(_mm512_maskz_loadu_epi32(there, t->columns + k), inverse, width);
		__mmask16 starts = _mm512_mask_cmpneq_epi32_mask(there, now, _mm512_alignr_epi32(now, before, 15));
		_mm512_storeu_si512(block + n, _mm512_maskz_compress_epi32(starts, now));
		_mm512_storeu_si512(begin + n, _mm512_maskz_compress_epi32(starts, at));
		n += __builtin_popcount(starts);
		before = now;
	}
	return n;
}

void sli_cut_offsets_avx512(const sl_cut_task *t, int32_t base, const int32_t *columns, int32_t length, void *to) {
	const __m512i first = _mm512_set1_epi32(base), stride = _mm512_set1_epi32(t->stride);
	for (int32_t e = 0; e < length; e += 16) {
		__mmask16 there = first_of(length - e);
		__m512i c = _mm512_maskz_loadu_epi32(there, columns + e);
		c = _mm512_mullo_epi32(_mm512_sub_epi32(c, first), stride);
		if (t->wide)
			_mm512_mask_storeu_epi32((uint32_t *)to + e, there, c);
		else
			_mm256_mask_storeu_epi16((uint16_t *)to + e, there, _mm512_cvtepi32_epi16(c));
	}
}

void sli_cut_sort_avx512(const sl_cut_task *t, const sl_chunk_record *record, int64_t count, const void *from, void *to,
						 int64_t *places) {
	if (t->wide) {
		sli_cut_sort_scalar(t, record, count, from, to, places);
		return;
	}
	const uint16_t *at = from;
	for (int64_t i = 0; i < count; i++) {
		int32_t length = record[i].end - record[i].begin;
		uint16_t *out = (uint16_t *)to + places[length];
		for (int32_t e = 0; e < length; e += 16) {
			__mmask16 there = first_of(length - e);
			_mm256_mask_storeu_epi16(out + e, there, _mm256_maskz_loadu_epi16(there, at + e));
		}
		places[length] += length;
		at += length;
	}
}
