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

static BLOCK_INLINE __m128 reduce_four(const __m256 s[4]) {
	__m256 quad = _mm256_hadd_ps(_mm256_hadd_ps(s[0], s[1]), _mm256_hadd_ps(s[2], s[3]));
	return _mm_add_ps(_mm256_castps256_ps128(quad), _mm256_extractf128_ps(quad, 1));
}
#define reduce_big(out, s, t) put_samples(out, reduce_four(s), 4, t)

#include "cpu/blocks.inc"

BLOCK_ENTRY(sli_blocks_spmm_f32_avx2, spmm)
BLOCK_ENTRY(sli_blocks_sddmm_f32_avx2, sddmm)
