/* SPDX-License-Identifier: Apache-2.0 */
/* Blocked f32 products for AVX2 with FMA, reached only where the CPU has both. */
#include "cpu/blocks.h"

#include <immintrin.h>

#define BLOCK_INLINE inline __attribute__((always_inline))
#define V            __m256
#define LANES        8
#define LOAD(p)      _mm256_loadu_ps(p)
#define LOADU(p)     _mm256_loadu_ps(p)
#define STOREU(p, x) _mm256_storeu_ps(p, x)
#define SET1(x)      _mm256_set1_ps(x)
#define FMADD        _mm256_fmadd_ps
#define ADD          _mm256_add_ps
#define MUL          _mm256_mul_ps
#define RELU(x)      _mm256_max_ps(_mm256_setzero_ps(), x) /* a NaN stays one */
/* Four values, once in each half. */
#define LOAD4(p)     _mm256_broadcast_ps((const __m128 *)(p))
#define SPREAD(q, i) _mm256_permute_ps(q, (i)*0x55)
#define BLOCK_SETS2  2
#define BLOCK_SETS3  1
#define BLOCK_SETS4  1
#define BIG          4

/* Sums of four vectors, of which the first `count` are wanted. */
static BLOCK_INLINE void reduce_four(float *out, const __m256 s[4], int64_t count, const sl_block_task *t) {
	__m256 quad = _mm256_hadd_ps(_mm256_hadd_ps(s[0], s[1]), _mm256_hadd_ps(s[2], s[3]));
	__m128 sums = _mm_add_ps(_mm256_castps256_ps128(quad), _mm256_extractf128_ps(quad, 1));
	sums = _mm_mul_ps(_mm_set1_ps(t->alpha), sums);
	if (count == 4) {
		if (t->beta != 0)
			sums = _mm_fmadd_ps(_mm_set1_ps(t->beta), _mm_loadu_ps(out), sums);
		_mm_storeu_ps(out, sums);
		return;
	}
	__m128i mask = _mm_cmpgt_epi32(_mm_set1_epi32((int)count), _mm_setr_epi32(0, 1, 2, 3));
	if (t->beta != 0)
		sums = _mm_fmadd_ps(_mm_set1_ps(t->beta), _mm_maskload_ps(out, mask), sums);
	_mm_maskstore_ps(out, mask, sums);
}
#define REDUCE_BIG  reduce_four
#define REDUCE_FOUR reduce_four

#include "cpu/blocks.inc"

BLOCK_ENTRY(sli_blocks_spmm_f32_avx2, spmm)
BLOCK_ENTRY(sli_blocks_sddmm_f32_avx2, sddmm)
