/* SPDX-License-Identifier: Apache-2.0 */
/* Blocked f32 products for AVX-512F, reached only where the CPU has it. The tests compile this file a second time
 * against SIMDe, so that its logic is run on any machine. */
#include "cpu/blocks.h"

#ifdef SL_TEST_SIMDE
#include "kernels/simde.h"
#define BLOCK_INLINE inline
#else
#include <immintrin.h>
#define BLOCK_INLINE inline __attribute__((always_inline))
#endif

#define V            __m512
#define LANES        16
#define LOAD(p)      _mm512_loadu_ps(p)
#define LOADU(p)     _mm512_loadu_ps(p)
#define STOREU(p, x) _mm512_storeu_ps(p, x)
#define SET1(x)      _mm512_set1_ps(x)
#define FMADD        _mm512_fmadd_ps
#define ADD          _mm512_add_ps
#define MUL          _mm512_mul_ps
#define RELU(x)      _mm512_max_ps(_mm512_setzero_ps(), x) /* a NaN stays one */
/* Four values, once in each quarter. */
#define LOAD4(p)     _mm512_broadcast_f32x4(_mm_loadu_ps(p))
#define SPREAD(q, i) _mm512_shuffle_ps(q, q, (i)*0x55)
#define BLOCK_SETS2  4
#define BLOCK_SETS3  3
#define BLOCK_SETS4  2
#define BIG          16

/* Four sums, once in each 128-bit lane: that lane's share of them. */
static BLOCK_INLINE __m512 reduce4(const __m512 s[4]) {
	__m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(s[0], s[1]), _mm512_unpackhi_ps(s[0], s[1]));
	__m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(s[2], s[3]), _mm512_unpackhi_ps(s[2], s[3]));
	return _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
}

/* Sums of 16 vectors, one a lane: a transpose that adds as it goes. */
static BLOCK_INLINE void reduce_big(float *out, const __m512 s[16], int64_t count, __m512 alpha, __m512 beta,
									bool add) {
	__m512 a = reduce4(s), b = reduce4(s + 4), c = reduce4(s + 8), d = reduce4(s + 12);
	__m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
	__m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x88), _mm512_shuffle_f32x4(c, d, 0xdd));
	__m512 sums = _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
	sums = _mm512_mul_ps(alpha, sums);
	(void)count;
	if (add)
		sums = _mm512_fmadd_ps(beta, _mm512_loadu_ps(out), sums);
	_mm512_storeu_ps(out, sums);
}

/* The same of four vectors, of which the first `count` are wanted. */
static BLOCK_INLINE void reduce_four(float *out, const __m512 s[4], int64_t count, __m512 alpha, __m512 beta,
									 bool add) {
	__m512 quad = reduce4(s);
	quad = _mm512_add_ps(quad, _mm512_shuffle_f32x4(quad, quad, 0x4e));
	quad = _mm512_mul_ps(alpha, _mm512_add_ps(quad, _mm512_shuffle_f32x4(quad, quad, 0xb1)));
	__mmask16 mask = (__mmask16)((1u << count) - 1);
	if (add)
		quad = _mm512_fmadd_ps(beta, _mm512_maskz_loadu_ps(mask, out), quad);
	if (count == 4)
		_mm_storeu_ps(out, _mm512_castps512_ps128(quad));
	else
		_mm512_mask_storeu_ps(out, mask, quad);
}
#define REDUCE_BIG  reduce_big
#define REDUCE_FOUR reduce_four

#include "cpu/blocks.inc"

BLOCK_ENTRY(sli_blocks_spmm_f32_avx512, spmm)
BLOCK_ENTRY(sli_blocks_sddmm_f32_avx512, sddmm)
