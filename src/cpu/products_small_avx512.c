/* SPDX-License-Identifier: Apache-2.0 */
/* f32 products of one column and of 16 for AVX-512; panels of 8 are AVX2's. The tests compile this file a second time
 * against SIMDe. */
#include "cpu/cpu.h"

#ifdef SL_TEST_SIMDE
#include "kernels/simde.h"
#define ALWAYS_INLINE inline
#else
#include <immintrin.h>
#define ALWAYS_INLINE inline __attribute__((always_inline))
#endif
#define NAME(function) function##_f32_avx512
#define UNROLLED       _Pragma("GCC unroll 16")

static ALWAYS_INLINE float sum_row(const float *p, int64_t count) {
	__m512 sum = _mm512_setzero_ps();
	for (; count > 0; count -= 16, p += 16)
		sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps((__mmask16)(count < 16 ? (1u << count) - 1 : 0xffffu), p));
	__m512 half = _mm512_add_ps(sum, _mm512_shuffle_f32x4(sum, sum, 0x4e));
	__m128 quarter = _mm512_castps512_ps128(_mm512_add_ps(half, _mm512_shuffle_f32x4(half, half, 0xb1)));
	quarter = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
	return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_shuffle_ps(quarter, quarter, 1)));
}

static ALWAYS_INLINE __m512 run(const float *p, int64_t count) {
	return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
}

static ALWAYS_INLINE __m128 sum_four(const float *p, int64_t n0, int64_t n1, int64_t n2, int64_t n3) {
	__m512 a = run(p, n0), b = run(p + n0, n1), c = run(p + n0 + n1, n2), d = run(p + n0 + n1 + n2, n3);
	__m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
	__m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
	__m512 quad = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
	quad = _mm512_add_ps(quad, _mm512_shuffle_f32x4(quad, quad, 0x4e));
	return _mm512_castps512_ps128(_mm512_add_ps(quad, _mm512_shuffle_f32x4(quad, quad, 0xb1)));
}
#include "cpu/products_small.inc"

/* Values are loaded sixteen at a time and spread by permutations, which leaves the load ports to the panel. */
static ALWAYS_INLINE void gather16(const sl_small_task *t, const uint16_t *narrow, const int32_t *wide) {
	const float *values = t->values, *x = t->x;
	__m512i lane[16];
	UNROLLED for (int e = 0; e < 16; e++) lane[e] = _mm512_set1_epi32(e);
	int64_t k = sli_cpu_offset(t->offsets, t->offset_dtype, t->begin);
	for (int64_t r = t->begin; r < t->end; r++) {
		int64_t end = sli_cpu_offset(t->offsets, t->offset_dtype, r + 1);
		__m512 sum[4];
		UNROLLED for (int f = 0; f < 4; f++) sum[f] = _mm512_setzero_ps();
		for (; k + 16 <= end; k += 16) {
			__m512 many = _mm512_loadu_ps(values + k);
			UNROLLED for (int e = 0; e < 16; e++) {
				const float *row = x + (narrow ? (int64_t)narrow[k + e] : (int64_t)wide[k + e]) * 16;
				sum[e % 4] = _mm512_fmadd_ps(_mm512_permutexvar_ps(lane[e], many), _mm512_loadu_ps(row), sum[e % 4]);
			}
		}
		for (; k < end; k++) {
			const float *row = x + (narrow ? (int64_t)narrow[k] : (int64_t)wide[k]) * 16;
			sum[0] = _mm512_fmadd_ps(_mm512_set1_ps(values[k]), _mm512_loadu_ps(row), sum[0]);
		}
		float *y = t->y + r * 16;
		__m512 total = _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3]));
		total = _mm512_mul_ps(_mm512_set1_ps(t->alpha), total);
		if (t->beta != 0)
			total = _mm512_fmadd_ps(_mm512_set1_ps(t->beta), _mm512_loadu_ps(y), total);
		_mm512_storeu_ps(y, total);
	}
}

static ALWAYS_INLINE void scatter16(const sl_small_task *t, const uint16_t *narrow, const int32_t *wide) {
	const float *values = t->values;
	int64_t k = sli_cpu_offset(t->offsets, t->offset_dtype, t->begin);
	for (int64_t r = t->begin; r < t->end; r++) {
		int64_t end = sli_cpu_offset(t->offsets, t->offset_dtype, r + 1);
		__m512 held = _mm512_mul_ps(_mm512_set1_ps(t->alpha), _mm512_loadu_ps(t->x + r * 16));
		for (; k < end; k++) {
			float *row = t->y + (narrow ? (int64_t)narrow[k] : (int64_t)wide[k]) * 16;
			_mm512_storeu_ps(row, _mm512_fmadd_ps(_mm512_set1_ps(values[k]), held, _mm512_loadu_ps(row)));
		}
	}
}

void sli_small_spmm16_f32_avx512(const sl_small_task *t) {
	if (t->begin < t->end)
		t->narrow ? gather16(t, t->narrow, NULL) : gather16(t, NULL, t->columns);
}

void sli_small_dx16_f32_avx512(const sl_small_task *t) {
	if (t->begin < t->end)
		t->narrow ? scatter16(t, t->narrow, NULL) : scatter16(t, NULL, t->columns);
}
