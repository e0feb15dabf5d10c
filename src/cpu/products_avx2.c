/* SPDX-License-Identifier: Apache-2.0 */
/* f32 products for AVX2 with FMA. Compiled with -mavx2 -mfma, reached only where the CPU has both. */
#include "cpu/cpu.h"

#include <immintrin.h>

/* Every loop over vectors is unrolled: an array that is indexed by a loop's counter lives in memory. */
#define UNROLLED _Pragma("GCC unroll 8")

/* A row times 8 * VECTORS columns, the sums staying in registers over the row's entries. Narrow
 * tiles keep two entries in flight, so that there are sums enough to hide the FMA's latency. */
#define SPMM_TILE(name, VECTORS, FLIGHT)                                                                               \
	static inline void name(const float *values, const int32_t *columns, int64_t count, const float *x, int64_t ldx,   \
							__m256 alpha, float beta, float *y) {                                                      \
		__m256 sum[FLIGHT][VECTORS];                                                                                   \
		UNROLLED for (int f = 0; f < FLIGHT; f++) UNROLLED for (int v = 0; v < VECTORS; v++) sum[f][v] =               \
			_mm256_setzero_ps();                                                                                       \
		int64_t k = 0;                                                                                                 \
		for (; k + FLIGHT <= count; k += FLIGHT)                                                                       \
			UNROLLED for (int f = 0; f < FLIGHT; f++) {                                                                \
				const float *row = x + columns[k + f] * ldx;                                                           \
				__m256 value = _mm256_broadcast_ss(values + k + f);                                                    \
				UNROLLED for (int v = 0; v < VECTORS; v++) sum[f][v] =                                                 \
					_mm256_fmadd_ps(value, _mm256_loadu_ps(row + 8 * v), sum[f][v]);                                   \
			}                                                                                                          \
		for (; k < count; k++) {                                                                                       \
			const float *row = x + columns[k] * ldx;                                                                   \
			__m256 value = _mm256_broadcast_ss(values + k);                                                            \
			UNROLLED for (int v = 0; v < VECTORS; v++) sum[0][v] =                                                     \
				_mm256_fmadd_ps(value, _mm256_loadu_ps(row + 8 * v), sum[0][v]);                                       \
		}                                                                                                              \
		UNROLLED for (int v = 0; v < VECTORS; v++) {                                                                   \
			__m256 total = sum[0][v];                                                                                  \
			UNROLLED for (int f = 1; f < FLIGHT; f++) total = _mm256_add_ps(total, sum[f][v]);                         \
			total = _mm256_mul_ps(alpha, total);                                                                       \
			if (beta != 0)                                                                                             \
				total = _mm256_fmadd_ps(_mm256_set1_ps(beta), _mm256_loadu_ps(y + 8 * v), total);                      \
			_mm256_storeu_ps(y + 8 * v, total);                                                                        \
		}                                                                                                              \
	}
SPMM_TILE(tile64, 8, 1)
SPMM_TILE(tile32, 4, 2)
SPMM_TILE(tile16, 2, 4)
SPMM_TILE(tile8, 1, 4)

void sli_spmm_f32_avx2(const sl_spmm_task *t) {
	__m256 alpha = _mm256_set1_ps((float)t->alpha);
	float beta = (float)t->beta;
	for (int64_t r = t->begin; r < t->end; r++) {
		int64_t first = sli_cpu_offset(t->starts, t->offset_dtype, r);
		if (t->cut && r + 3 < t->end)
			sli_cpu_prefetch_row(t->values, sizeof(float), t->columns,
								 sli_cpu_offset(t->starts, t->offset_dtype, r + 3));
		int64_t count = sli_cpu_offset(t->ends, t->offset_dtype, r) - first, j = 0;
		const float *values = (const float *)t->values + first, *x = t->x;
		const int32_t *columns = t->columns + first;
		float *y = (float *)t->y + r * t->ldy;
		for (; j + 64 <= t->width; j += 64)
			tile64(values, columns, count, x + j, t->ldx, alpha, beta, y + j);
		for (; j + 32 <= t->width; j += 32)
			tile32(values, columns, count, x + j, t->ldx, alpha, beta, y + j);
		for (; j + 16 <= t->width; j += 16)
			tile16(values, columns, count, x + j, t->ldx, alpha, beta, y + j);
		for (; j + 8 <= t->width; j += 8)
			tile8(values, columns, count, x + j, t->ldx, alpha, beta, y + j);
		for (; j < t->width; j++) {
			float sum = 0;
			for (int64_t k = 0; k < count; k++)
				sum += values[k] * x[columns[k] * t->ldx + j];
			y[j] = (float)t->alpha * sum + (beta != 0 ? beta * y[j] : 0);
		}
	}
}

/* Sums of eight vectors, one a lane. */
static inline __m256 reduce8(const __m256 s[8]) {
	__m256 a = _mm256_hadd_ps(_mm256_hadd_ps(s[0], s[1]), _mm256_hadd_ps(s[2], s[3]));
	__m256 b = _mm256_hadd_ps(_mm256_hadd_ps(s[4], s[5]), _mm256_hadd_ps(s[6], s[7]));
	return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

static inline float reduce1(__m256 s) {
	__m128 h = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
	h = _mm_add_ps(h, _mm_movehl_ps(h, h));
	return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}

/* One panel of 8 * VECTORS columns for one row: eight entries at a time, A's row in registers. The
 * panels' sums are added in the values array, in the order of the panels. */
#define SDDMM_ROW(name, VECTORS)                                                                                       \
	static inline void name(const int32_t *columns, int64_t count, const float *a, const float *b, __m256 alpha,       \
							float alpha1, float beta, float *out) {                                                    \
		__m256 held[VECTORS];                                                                                          \
		UNROLLED for (int v = 0; v < VECTORS; v++) held[v] = _mm256_loadu_ps(a + 8 * v);                               \
		int64_t k = 0;                                                                                                 \
		for (; k + 8 <= count; k += 8) {                                                                               \
			__m256 sum[8];                                                                                             \
			UNROLLED for (int e = 0; e < 8; e++) {                                                                     \
				const float *row = b + (int64_t)columns[k + e] * (8 * VECTORS);                                        \
				sum[e] = _mm256_mul_ps(held[0], _mm256_loadu_ps(row));                                                 \
				UNROLLED for (int v = 1; v < VECTORS; v++) sum[e] =                                                    \
					_mm256_fmadd_ps(held[v], _mm256_loadu_ps(row + 8 * v), sum[e]);                                    \
			}                                                                                                          \
			__m256 total = _mm256_mul_ps(alpha, reduce8(sum));                                                         \
			if (beta != 0)                                                                                             \
				total = _mm256_fmadd_ps(_mm256_set1_ps(beta), _mm256_loadu_ps(out + k), total);                        \
			_mm256_storeu_ps(out + k, total);                                                                          \
		}                                                                                                              \
		for (; k < count; k++) {                                                                                       \
			const float *row = b + (int64_t)columns[k] * (8 * VECTORS);                                                \
			__m256 sum = _mm256_mul_ps(held[0], _mm256_loadu_ps(row));                                                 \
			UNROLLED for (int v = 1; v < VECTORS; v++) sum =                                                           \
				_mm256_fmadd_ps(held[v], _mm256_loadu_ps(row + 8 * v), sum);                                           \
			out[k] = alpha1 * reduce1(sum) + (beta != 0 ? beta * out[k] : 0);                                          \
		}                                                                                                              \
	}
SDDMM_ROW(row64, 8)
SDDMM_ROW(row32, 4)
SDDMM_ROW(row16, 2)
SDDMM_ROW(row8, 1)

void sli_sddmm_f32_avx2(const sl_sddmm_task *t) {
	if (t->ld != 8 && t->ld != 16 && t->ld != 32 && t->ld != 64) {
		sli_sddmm_f32_scalar(t);
		return;
	}
	float alpha1 = (float)t->alpha;
	__m256 alpha = _mm256_set1_ps(alpha1);
	for (int64_t j = 0; j < t->n || j == 0; j += t->ld) {
		/* Padding is zero, so the last panel needs no mask. */
		float beta = j ? 1.0f : (float)t->beta;
		const float *a = (const float *)t->a + j * t->a_rows, *b = (const float *)t->b + j * t->b_rows;
		for (int64_t r = t->begin; r < t->end; r++) {
			int64_t first = sli_cpu_offset(t->starts, t->offset_dtype, r);
			if (t->cut && r + 3 < t->end)
				sli_cpu_prefetch_row(t->values, sizeof(float), t->columns,
									 sli_cpu_offset(t->starts, t->offset_dtype, r + 3));
			int64_t count = sli_cpu_offset(t->ends, t->offset_dtype, r) - first;
			float *out = (float *)t->values + first;
			const int32_t *columns = t->columns + first;
			if (t->n == 0)
				for (int64_t k = 0; k < count; k++)
					out[k] = beta != 0 ? beta * out[k] : 0;
			else if (t->ld == 64)
				row64(columns, count, a + r * 64, b, alpha, alpha1, beta, out);
			else if (t->ld == 32)
				row32(columns, count, a + r * 32, b, alpha, alpha1, beta, out);
			else if (t->ld == 16)
				row16(columns, count, a + r * 16, b, alpha, alpha1, beta, out);
			else
				row8(columns, count, a + r * 8, b, alpha, alpha1, beta, out);
		}
	}
}
