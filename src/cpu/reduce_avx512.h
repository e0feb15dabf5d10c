/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of several vectors at once: transposes that add as they go. For the AVX-512 files alone, behind their
 * intrinsics. */
#ifndef SL_CPU_REDUCE_AVX512_H
#define SL_CPU_REDUCE_AVX512_H

#ifdef SL_TEST_SIMDE
#define REDUCE_INLINE inline
#else
#define REDUCE_INLINE inline __attribute__((always_inline))
#endif

/* Four sums, once in each 128-bit lane: that lane's share of them. */
static REDUCE_INLINE __m512 reduce4(const __m512 s[4]) {
	__m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(s[0], s[1]), _mm512_unpackhi_ps(s[0], s[1]));
	__m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(s[2], s[3]), _mm512_unpackhi_ps(s[2], s[3]));
	return _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
}

/* Sums of 16 vectors, one a lane. */
static REDUCE_INLINE __m512 reduce16(const __m512 s[16]) {
	__m512 a = reduce4(s), b = reduce4(s + 4), c = reduce4(s + 8), d = reduce4(s + 12);
	__m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
	__m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x88), _mm512_shuffle_f32x4(c, d, 0xdd));
	return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
}

/* The same for four: lanes 0 to 3. */
static REDUCE_INLINE __m512 fold4(const __m512 s[4]) {
	__m512 quad = reduce4(s);
	quad = _mm512_add_ps(quad, _mm512_shuffle_f32x4(quad, quad, 0x4e));
	return _mm512_add_ps(quad, _mm512_shuffle_f32x4(quad, quad, 0xb1));
}

#endif
