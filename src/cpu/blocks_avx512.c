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

#include "cpu/reduce_avx512.h"

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

static BLOCK_INLINE void reduce_big(float *out, const __m512 s[16], const sl_block_task *t) {
	__m512 sums = _mm512_mul_ps(_mm512_set1_ps(t->alpha), reduce16(s));
	if (t->beta != 0)
		sums = _mm512_fmadd_ps(_mm512_set1_ps(t->beta), _mm512_loadu_ps(out), sums);
	_mm512_storeu_ps(out, sums);
}
static BLOCK_INLINE __m128 reduce_four(const __m512 s[4]) {
	return _mm512_castps512_ps128(fold4(s));
}

#include "cpu/blocks.inc"

BLOCK_ENTRY(sli_blocks_spmm_f32_avx512, spmm)
BLOCK_ENTRY(sli_blocks_sddmm_f32_avx512, sddmm)
