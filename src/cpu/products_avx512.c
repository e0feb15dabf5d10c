/* SPDX-License-Identifier: Apache-2.0 */
/* f32 products for AVX-512F. Compiled with -mavx512f, reached only where the CPU has it. The tests
 * compile this file a second time against SIMDe, so that its logic is run on any machine. */
#include "cpu/cpu.h"

#ifdef SL_TEST_SIMDE
#include "kernels/simde.h"
#else
#include <immintrin.h>
#endif
#include "cpu/reduce_avx512.h"

/* What is specialised by a constant argument must be inlined to be so. */
#ifdef SL_TEST_SIMDE
#define ALWAYS_INLINE inline
#else
#define ALWAYS_INLINE inline __attribute__((always_inline))
#endif

/* Every loop over vectors is unrolled: an array that is indexed by a loop's counter lives in memory. */
#define UNROLLED _Pragma("GCC unroll 16")

/* A row times 16 * VECTORS columns, of which the last vector has `mask`. FLIGHT entries are under
 * way at once, so that there are sums enough to hide the FMA's latency. */
#define SPMM_TILE(name, VECTORS, FLIGHT)                                                                               \
	static ALWAYS_INLINE void name(const float *values, const int32_t *columns, int64_t count, const float *x,         \
								   int64_t ldx, __m512 alpha, float beta, float *y, __mmask16 mask) {                  \
		__m512 sum[FLIGHT][VECTORS];                                                                                   \
		UNROLLED for (int f = 0; f < FLIGHT; f++) UNROLLED for (int v = 0; v < VECTORS; v++) sum[f][v] =               \
			_mm512_setzero_ps();                                                                                       \
		int64_t k = 0;                                                                                                 \
		for (; k + FLIGHT <= count; k += FLIGHT)                                                                       \
			UNROLLED for (int f = 0; f < FLIGHT; f++) {                                                                \
				const float *row = x + columns[k + f] * ldx;                                                           \
				__m512 value = _mm512_set1_ps(values[k + f]);                                                          \
				UNROLLED for (int v = 0; v < VECTORS - 1; v++) sum[f][v] =                                             \
					_mm512_fmadd_ps(value, _mm512_loadu_ps(row + 16 * v), sum[f][v]);                                  \
				sum[f][VECTORS - 1] = _mm512_fmadd_ps(value, _mm512_maskz_loadu_ps(mask, row + 16 * (VECTORS - 1)),    \
													  sum[f][VECTORS - 1]);                                            \
			}                                                                                                          \
		for (; k < count; k++) {                                                                                       \
			const float *row = x + columns[k] * ldx;                                                                   \
			__m512 value = _mm512_set1_ps(values[k]);                                                                  \
			UNROLLED for (int v = 0; v < VECTORS; v++) sum[0][v] = _mm512_fmadd_ps(                                    \
				value, _mm512_maskz_loadu_ps(v == VECTORS - 1 ? mask : 0xffff, row + 16 * v), sum[0][v]);              \
		}                                                                                                              \
		UNROLLED for (int v = 0; v < VECTORS; v++) {                                                                   \
			__mmask16 m = v == VECTORS - 1 ? mask : 0xffff;                                                            \
			__m512 total = sum[0][v];                                                                                  \
			UNROLLED for (int f = 1; f < FLIGHT; f++) total = _mm512_add_ps(total, sum[f][v]);                         \
			total = _mm512_mul_ps(alpha, total);                                                                       \
			if (beta != 0)                                                                                             \
				total = _mm512_fmadd_ps(_mm512_set1_ps(beta), _mm512_maskz_loadu_ps(m, y + 16 * v), total);            \
			_mm512_mask_storeu_ps(y + 16 * v, m, total);                                                               \
		}                                                                                                              \
	}
SPMM_TILE(tile64, 4, 2)
SPMM_TILE(tile48, 3, 3)
SPMM_TILE(tile32, 2, 4)
SPMM_TILE(tile16, 1, 4)

void sli_spmm_f32_avx512(const sl_spmm_task *t) {
	__m512 alpha = _mm512_set1_ps((float)t->alpha);
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
		if (t->ldx == 64 && t->width == 64) { /* a whole panel: the compiler knows the stride */
			tile64(values, columns, count, x, 64, alpha, beta, y, 0xffff);
			continue;
		}
		for (; j + 64 <= t->width; j += 64)
			tile64(values, columns, count, x + j, t->ldx, alpha, beta, y + j, 0xffff);
		int64_t left = t->width - j;
		if (left <= 0)
			continue;
		__mmask16 mask = (__mmask16)(left % 16 ? (1u << left % 16) - 1 : 0xffffu);
		if (left > 48)
			tile64(values, columns, count, x + j, t->ldx, alpha, beta, y + j, mask);
		else if (left > 32)
			tile48(values, columns, count, x + j, t->ldx, alpha, beta, y + j, mask);
		else if (left > 16)
			tile32(values, columns, count, x + j, t->ldx, alpha, beta, y + j, mask);
		else
			tile16(values, columns, count, x + j, t->ldx, alpha, beta, y + j, mask);
	}
}

/* PANELS panels of 16 * VECTORS columns for one row, A's row in registers: 16 entries at a time, then 4; a
 * short last group computes its last entry again and stores under a mask. Two panels share the reduction,
 * whose shuffles take the ports of as many products. */
#define SDDMM_GROUP(PANELS, VECTORS, ENTRIES, GROUP, REDUCE)                                                           \
	{                                                                                                                  \
		const int64_t group = GROUP;                                                                                   \
		__m512 sum[ENTRIES];                                                                                           \
		UNROLLED for (int e = 0; e < ENTRIES; e++) {                                                                   \
			const float *row = b + (int64_t)columns[k + (e < group ? e : group - 1)] * (16 * VECTORS);                 \
			sum[e] = _mm512_mul_ps(held[0], _mm512_loadu_ps(row));                                                     \
			UNROLLED for (int p = 0; p < PANELS; p++) UNROLLED for (int v = p ? 0 : 1; v < VECTORS; v++) sum[e] =      \
				_mm512_fmadd_ps(held[p * VECTORS + v], _mm512_loadu_ps(row + p * b_panel + 16 * v), sum[e]);           \
		}                                                                                                              \
		__mmask16 mask = (__mmask16)((1u << group) - 1);                                                               \
		__m512 total = _mm512_mul_ps(alpha, REDUCE(sum));                                                              \
		if (beta != 0)                                                                                                 \
			total = _mm512_fmadd_ps(_mm512_set1_ps(beta), _mm512_maskz_loadu_ps(mask, out + k), total);                \
		_mm512_mask_storeu_ps(out + k, mask, total);                                                                   \
	}
#define SDDMM_ROW(name, PANELS, VECTORS)                                                                               \
	static inline void name(const int32_t *columns, int64_t count, const float *a, int64_t a_panel, const float *b,    \
							int64_t b_panel, __m512 alpha, float beta, float *out) {                                   \
		__m512 held[PANELS * VECTORS];                                                                                 \
		UNROLLED for (int p = 0; p < PANELS; p++) UNROLLED for (int v = 0; v < VECTORS; v++) held[p * VECTORS + v] =   \
			_mm512_loadu_ps(a + p * a_panel + 16 * v);                                                                 \
		int64_t k = 0;                                                                                                 \
		(void)b_panel;                                                                                                 \
		for (; k + 16 <= count; k += 16)                                                                               \
			SDDMM_GROUP(PANELS, VECTORS, 16, 16, reduce16)                                                             \
		for (; k + 4 <= count; k += 4)                                                                                 \
			SDDMM_GROUP(PANELS, VECTORS, 4, 4, fold4)                                                                  \
		if (k < count)                                                                                                 \
			SDDMM_GROUP(PANELS, VECTORS, 4, count - k, fold4)                                                          \
	}
SDDMM_ROW(row128, 2, 4)
SDDMM_ROW(row64, 1, 4)
SDDMM_ROW(row32, 1, 2)
SDDMM_ROW(row16, 1, 1)

void sli_sddmm_f32_avx512(const sl_sddmm_task *t) {
#ifndef SL_TEST_SIMDE
	if (t->ld == 8 && t->n > 0) { /* half a vector: no gain over AVX2 */
		sli_sddmm_f32_avx2(t);
		return;
	}
#endif
	if ((t->ld != 16 && t->ld != 32 && t->ld != 64) || t->n == 0) {
		sli_sddmm_f32_scalar(t);
		return;
	}
	__m512 alpha = _mm512_set1_ps((float)t->alpha);
	for (int64_t j = 0, next; j < t->n; j = next) {
		/* Padding is zero, so the last panel needs no mask. Rows that are cut keep one panel in L1. */
		bool two = t->ld == 64 && j + 64 < t->n && !t->cut;
		int64_t a_panel = t->a_rows * t->ld, b_panel = t->b_rows * t->ld;
		next = j + (two ? 2 : 1) * t->ld;
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
			if (two)
				row128(columns, count, a + r * 64, a_panel, b, b_panel, alpha, beta, out);
			else if (t->ld == 64)
				row64(columns, count, a + r * 64, a_panel, b, b_panel, alpha, beta, out);
			else if (t->ld == 32)
				row32(columns, count, a + r * 32, a_panel, b, b_panel, alpha, beta, out);
			else
				row16(columns, count, a + r * 16, a_panel, b, b_panel, alpha, beta, out);
		}
	}
}
