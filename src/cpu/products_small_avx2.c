/* SPDX-License-Identifier: Apache-2.0 */
/* f32 products of at most 16 columns for AVX2 with FMA. Compiled with -mavx2 -mfma, reached only where the CPU has
 * both. */
#include "cpu/cpu.h"

#include <immintrin.h>

#define ALWAYS_INLINE  inline __attribute__((always_inline))
#define NAME(function) function##_f32_avx2
#define UNROLLED       _Pragma("GCC unroll 8")

static const int32_t masks[16] = {-1, -1, -1, -1, -1, -1, -1, -1};

static ALWAYS_INLINE float sum_row(const float *p, int64_t count) {
	__m256 sum = _mm256_setzero_ps();
	for (; count > 0; count -= 8, p += 8) {
		const int32_t *mask = masks + 8 - (count < 8 ? count : 8);
		sum = _mm256_add_ps(sum, _mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i *)mask)));
	}
	__m128 half = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
	half = _mm_add_ps(half, _mm_movehl_ps(half, half));
	return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

/* At most 16, the second eight added to the first. */
static ALWAYS_INLINE __m256 run(const float *p, int64_t count) {
	int64_t low = count < 8 ? count : 8, high = count - low;
	__m256 first = _mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i *)(masks + 8 - low)));
	return _mm256_add_ps(first, _mm256_maskload_ps(p + 8, _mm256_loadu_si256((const __m256i *)(masks + 8 - high))));
}

static ALWAYS_INLINE __m128 sum_four(const float *p, int64_t n0, int64_t n1, int64_t n2, int64_t n3) {
	__m256 a = run(p, n0), b = run(p + n0, n1), c = run(p + n0 + n1, n2), d = run(p + n0 + n1 + n2, n3);
	__m256 all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
	return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}
#include "cpu/products_small.inc"

/* A panel of 8 * VECTORS columns. Values are loaded eight at a time and spread by permutations, which leaves the load
 * ports, the limit here, to the panel. */
#define SMALL_PANEL(VECTORS, WIDTH)                                                                                    \
	static ALWAYS_INLINE void gather##WIDTH(const sl_small_task *t, const uint16_t *narrow, const int32_t *wide) {     \
		const float *values = t->values, *x = t->x;                                                                    \
		__m256i lane[8];                                                                                               \
		UNROLLED for (int e = 0; e < 8; e++) lane[e] = _mm256_set1_epi32(e);                                           \
		int64_t k = sli_cpu_offset(t->offsets, t->offset_dtype, t->begin);                                             \
		for (int64_t r = t->begin; r < t->end; r++) {                                                                  \
			int64_t end = sli_cpu_offset(t->offsets, t->offset_dtype, r + 1);                                          \
			__m256 sum[4][VECTORS];                                                                                    \
			UNROLLED for (int f = 0; f < 4; f++) UNROLLED for (int v = 0; v < VECTORS; v++) sum[f][v] =                \
				_mm256_setzero_ps();                                                                                   \
			for (; k + 8 <= end; k += 8) {                                                                             \
				__m256 eight = _mm256_loadu_ps(values + k);                                                            \
				UNROLLED for (int e = 0; e < 8; e++) {                                                                 \
					const float *row = x + (narrow ? (int64_t)narrow[k + e] : (int64_t)wide[k + e]) * WIDTH;           \
					__m256 value = _mm256_permutevar8x32_ps(eight, lane[e]);                                           \
					UNROLLED for (int v = 0; v < VECTORS; v++) sum[e % 4][v] =                                         \
						_mm256_fmadd_ps(value, _mm256_loadu_ps(row + 8 * v), sum[e % 4][v]);                           \
				}                                                                                                      \
			}                                                                                                          \
			for (; k < end; k++) {                                                                                     \
				const float *row = x + (narrow ? (int64_t)narrow[k] : (int64_t)wide[k]) * WIDTH;                       \
				__m256 value = _mm256_broadcast_ss(values + k);                                                        \
				UNROLLED for (int v = 0; v < VECTORS; v++) sum[0][v] =                                                 \
					_mm256_fmadd_ps(value, _mm256_loadu_ps(row + 8 * v), sum[0][v]);                                   \
			}                                                                                                          \
			float *y = t->y + r * WIDTH;                                                                               \
			UNROLLED for (int v = 0; v < VECTORS; v++) {                                                               \
				__m256 total =                                                                                         \
					_mm256_add_ps(_mm256_add_ps(sum[0][v], sum[1][v]), _mm256_add_ps(sum[2][v], sum[3][v]));           \
				total = _mm256_mul_ps(_mm256_set1_ps(t->alpha), total);                                                \
				if (t->beta != 0)                                                                                      \
					total = _mm256_fmadd_ps(_mm256_set1_ps(t->beta), _mm256_loadu_ps(y + 8 * v), total);               \
				_mm256_storeu_ps(y + 8 * v, total);                                                                    \
			}                                                                                                          \
		}                                                                                                              \
	}                                                                                                                  \
	static ALWAYS_INLINE void scatter##WIDTH(const sl_small_task *t, const uint16_t *narrow, const int32_t *wide) {    \
		const float *values = t->values;                                                                               \
		int64_t k = sli_cpu_offset(t->offsets, t->offset_dtype, t->begin);                                             \
		for (int64_t r = t->begin; r < t->end; r++) {                                                                  \
			int64_t end = sli_cpu_offset(t->offsets, t->offset_dtype, r + 1);                                          \
			__m256 held[VECTORS];                                                                                      \
			UNROLLED for (int v = 0; v < VECTORS; v++) held[v] =                                                       \
				_mm256_mul_ps(_mm256_set1_ps(t->alpha), _mm256_loadu_ps(t->x + r * WIDTH + 8 * v));                    \
			for (; k < end; k++) {                                                                                     \
				float *row = t->y + (narrow ? (int64_t)narrow[k] : (int64_t)wide[k]) * WIDTH;                          \
				__m256 value = _mm256_broadcast_ss(values + k);                                                        \
				UNROLLED for (int v = 0; v < VECTORS; v++)                                                             \
					_mm256_storeu_ps(row + 8 * v, _mm256_fmadd_ps(value, held[v], _mm256_loadu_ps(row + 8 * v)));      \
			}                                                                                                          \
		}                                                                                                              \
	}                                                                                                                  \
	void sli_small_spmm##WIDTH##_f32_avx2(const sl_small_task *t) {                                                    \
		if (t->begin < t->end)                                                                                         \
			t->narrow ? gather##WIDTH(t, t->narrow, NULL) : gather##WIDTH(t, NULL, t->columns);                        \
	}                                                                                                                  \
	void sli_small_dx##WIDTH##_f32_avx2(const sl_small_task *t) {                                                      \
		if (t->begin < t->end)                                                                                         \
			t->narrow ? scatter##WIDTH(t, t->narrow, NULL) : scatter##WIDTH(t, NULL, t->columns);                      \
	}
SMALL_PANEL(1, 8)
SMALL_PANEL(2, 16)
