/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bf16 and f16 products for AVX-512 with sums in f32. Compiled with -mavx512bw, reached only where the CPU has it. A
 * unit of 32 numbers becomes two vectors of f32: f16 by vcvtph2ps, first half and second; bf16 by a shift and a mask,
 * even and odd, which costs no shuffle and is undone where the sums are stored.
 */
#include "cpu/cpu.h"

#ifdef SL_TEST_SIMDE
#include "kernels/simde.h"
#define ALWAYS_INLINE inline
#else
#include <immintrin.h>
#define ALWAYS_INLINE inline __attribute__((always_inline))
#endif
#include "cpu/reduce_avx512.h"
#define UNROLLED _Pragma("GCC unroll 16")

enum { UNIT = 32, BLOCK = 64 };
typedef struct unit {
	__m512 a, b;
} unit;

static ALWAYS_INLINE __mmask32 first(int64_t count) {
	return count >= UNIT ? 0xffffffffu : (__mmask32)((1u << count) - 1);
}

static ALWAYS_INLINE unit unit_bf16(__m512i bits) {
	return (unit){_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)),
				  _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32((int)0xffff0000u)))};
}
static ALWAYS_INLINE unit unit_f16(__m512i bits) {
	return (unit){_mm512_cvtph_ps(_mm512_castsi512_si256(bits)), _mm512_cvtph_ps(_mm512_extracti64x4_epi64(bits, 1))};
}

/* To nearest even in the upper half; a NaN stays one. */
static ALWAYS_INLINE __m512i round_bf16(__m512 x) {
	__m512i bits = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
	__m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
	__m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
	return _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet);
}
static ALWAYS_INLINE __m512i bits_bf16(unit u) {
	return _mm512_or_si512(_mm512_srli_epi32(round_bf16(u.a), 16),
						   _mm512_and_si512(round_bf16(u.b), _mm512_set1_epi32((int)0xffff0000u)));
}
static ALWAYS_INLINE __m512i bits_f16(unit u) {
	return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtps_ph(u.a, _MM_FROUND_TO_NEAREST_INT)),
							  _mm512_cvtps_ph(u.b, _MM_FROUND_TO_NEAREST_INT), 1);
}

/* A unit's numbers in their order, and back. */
static ALWAYS_INLINE unit order_bf16(unit u) {
	const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
	const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
	return (unit){_mm512_permutex2var_ps(u.a, low, u.b), _mm512_permutex2var_ps(u.a, high, u.b)};
}
static ALWAYS_INLINE unit disorder_bf16(unit u) {
	const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
	const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
	return (unit){_mm512_permutex2var_ps(u.a, even, u.b), _mm512_permutex2var_ps(u.a, odd, u.b)};
}
static ALWAYS_INLINE unit order_f16(unit u) {
	return u;
}
static ALWAYS_INLINE unit disorder_f16(unit u) {
	return u;
}

static ALWAYS_INLINE __m512i load(const uint16_t *p, __mmask32 mask) {
	return _mm512_maskz_loadu_epi16(mask, p);
}

#define HALF(T)                                                                                                        \
	void sli_half_to_f32_##T##_avx512(const uint16_t *from, float *to, int64_t n) {                                    \
		for (int64_t i = 0; i < n; i += UNIT) {                                                                        \
			unit u = order_##T(unit_##T(load(from + i, first(n - i))));                                                \
			_mm512_mask_storeu_ps(to + i, (__mmask16)first(n - i), u.a);                                               \
			if (n - i > 16)                                                                                            \
				_mm512_mask_storeu_ps(to + i + 16, (__mmask16)(first(n - i) >> 16), u.b);                              \
		}                                                                                                              \
	}                                                                                                                  \
	void sli_half_from_f32_##T##_avx512(const float *from, uint16_t *to, int64_t n) {                                  \
		for (int64_t i = 0; i < n; i += UNIT) {                                                                        \
			unit u = {_mm512_maskz_loadu_ps((__mmask16)first(n - i), from + i), _mm512_setzero_ps()};                  \
			if (n - i > 16)                                                                                            \
				u.b = _mm512_maskz_loadu_ps((__mmask16)(first(n - i) >> 16), from + i + 16);                           \
			_mm512_mask_storeu_epi16(to + i, first(n - i), bits_##T(disorder_##T(u)));                                 \
		}                                                                                                              \
	}                                                                                                                  \
                                                                                                                       \
	/* A row times UNITS units of columns, `mask` being the last one's. */                                             \
	static ALWAYS_INLINE void finish_##T(const sl_spmm_task *t, int64_t r, int64_t j, unit sum, __mmask32 mask) {      \
		__m512 alpha = _mm512_set1_ps((float)t->alpha), beta = _mm512_set1_ps((float)t->beta);                         \
		sum.a = _mm512_mul_ps(alpha, sum.a);                                                                           \
		sum.b = _mm512_mul_ps(alpha, sum.b);                                                                           \
		if (t->wide) {                                                                                                 \
			float *y = (float *)t->y + r * t->ldy + j;                                                                 \
			__mmask16 low = (__mmask16)mask, high = (__mmask16)(mask >> 16);                                           \
			sum = order_##T(sum);                                                                                      \
			if (t->beta != 0) {                                                                                        \
				sum.a = _mm512_fmadd_ps(beta, _mm512_maskz_loadu_ps(low, y), sum.a);                                   \
				if (high)                                                                                              \
					sum.b = _mm512_fmadd_ps(beta, _mm512_maskz_loadu_ps(high, y + 16), sum.b);                         \
			}                                                                                                          \
			_mm512_mask_storeu_ps(y, low, sum.a);                                                                      \
			if (high)                                                                                                  \
				_mm512_mask_storeu_ps(y + 16, high, sum.b);                                                            \
			return;                                                                                                    \
		}                                                                                                              \
		uint16_t *y = (uint16_t *)t->y + r * t->ldy + j;                                                               \
		if (t->beta != 0) {                                                                                            \
			unit old = unit_##T(load(y, mask));                                                                        \
			sum.a = _mm512_fmadd_ps(beta, old.a, sum.a);                                                               \
			sum.b = _mm512_fmadd_ps(beta, old.b, sum.b);                                                               \
		}                                                                                                              \
		_mm512_mask_storeu_epi16(y, mask, bits_##T(sum));                                                              \
	}                                                                                                                  \
	SPMM_TILE(T, 1, 4)                                                                                                 \
	SPMM_TILE(T, 2, 2)                                                                                                 \
	void sli_spmm_##T##_avx512(const sl_spmm_task *t) {                                                                \
		for (int64_t r = t->begin; r < t->end; r++) {                                                                  \
			int64_t begin = sli_cpu_offset(t->starts, t->offset_dtype, r);                                             \
			int64_t end = sli_cpu_offset(t->ends, t->offset_dtype, r);                                                 \
			for (int64_t j = 0; j < t->width; j += 2 * UNIT) {                                                         \
				int64_t left = t->width - j;                                                                           \
				if (left > UNIT)                                                                                       \
					tile2_##T(t, r, begin, end, j, first(left - UNIT));                                                \
				else                                                                                                   \
					tile1_##T(t, r, begin, end, j, first(left));                                                       \
			}                                                                                                          \
		}                                                                                                              \
	}                                                                                                                  \
                                                                                                                       \
	/* Up to 16 entries of a row. Their sums stay in registers over all panels and are reduced and rounded once. */    \
	static ALWAYS_INLINE void group_##T(const sl_sddmm_task *t, int64_t r, int64_t k, int64_t count) {                 \
		const int32_t *columns = t->columns + k;                                                                       \
		__m512 sum[16];                                                                                                \
		UNROLLED for (int e = 0; e < 16; e++) sum[e] = _mm512_setzero_ps();                                            \
		for (int64_t j = 0; j < t->n; j += t->ld) {                                                                    \
			const uint16_t *a = (const uint16_t *)t->a + j * t->a_rows + r * t->ld;                                    \
			const uint16_t *b = (const uint16_t *)t->b + j * t->b_rows;                                                \
			for (int64_t i = 0; i < t->ld; i += UNIT) {                                                                \
				__mmask32 mask = first(t->ld - i);                                                                     \
				unit held = unit_##T(load(a + i, mask));                                                               \
				UNROLLED for (int e = 0; e < 16; e++) {                                                                \
					unit u = unit_##T(load(b + columns[e < count ? e : count - 1] * t->ld + i, mask));                 \
					sum[e] = _mm512_fmadd_ps(held.a, u.a, sum[e]);                                                     \
					sum[e] = _mm512_fmadd_ps(held.b, u.b, sum[e]);                                                     \
				}                                                                                                      \
			}                                                                                                          \
		}                                                                                                              \
		float total[16], old[16];                                                                                      \
		__m512 all = _mm512_mul_ps(_mm512_set1_ps((float)t->alpha), reduce16(sum));                                    \
		if (t->beta != 0) {                                                                                            \
			sli_half_to_f32_##T##_avx512((const uint16_t *)t->values + k, old, count);                                 \
			all = _mm512_fmadd_ps(_mm512_set1_ps((float)t->beta), _mm512_maskz_loadu_ps((__mmask16)first(count), old), \
								  all);                                                                                \
		}                                                                                                              \
		_mm512_storeu_ps(total, all);                                                                                  \
		sli_half_from_f32_##T##_avx512(total, (uint16_t *)t->values + k, count);                                       \
	}                                                                                                                  \
	void sli_sddmm_##T##_avx512(const sl_sddmm_task *t) {                                                              \
		for (int64_t r = t->begin; r < t->end; r++) {                                                                  \
			int64_t k = sli_cpu_offset(t->starts, t->offset_dtype, r);                                                 \
			int64_t end = sli_cpu_offset(t->ends, t->offset_dtype, r);                                                 \
			for (; k + 16 <= end; k += 16)                                                                             \
				group_##T(t, r, k, 16);                                                                                \
			if (k < end)                                                                                               \
				group_##T(t, r, k, end - k);                                                                           \
		}                                                                                                              \
	}

/* Values are converted some at a time, so that each is then a broadcast load. */
#define SPMM_TILE(T, UNITS, FLIGHT)                                                                                    \
	static ALWAYS_INLINE void tile##UNITS##_##T(const sl_spmm_task *t, int64_t r, int64_t k, int64_t end, int64_t j,   \
												__mmask32 mask) {                                                      \
		float values[BLOCK];                                                                                           \
		const uint16_t *x = (const uint16_t *)t->x + j;                                                                \
		unit sum[FLIGHT][UNITS];                                                                                       \
		UNROLLED for (int f = 0; f < FLIGHT; f++) UNROLLED for (int v = 0; v < UNITS; v++) sum[f][v] =                 \
			(unit){_mm512_setzero_ps(), _mm512_setzero_ps()};                                                          \
		for (int64_t count; k < end; k += count) {                                                                     \
			count = end - k < BLOCK ? end - k : BLOCK;                                                                 \
			const int32_t *columns = t->columns + k;                                                                   \
			sli_half_to_f32_##T##_avx512((const uint16_t *)t->values + k, values, count);                              \
			int64_t i = 0;                                                                                             \
			for (; i + FLIGHT <= count; i += FLIGHT) {                                                                 \
				UNROLLED for (int f = 0; f < FLIGHT; f++) {                                                            \
					SPMM_ENTRY(T, UNITS, f, i + f)                                                                     \
				}                                                                                                      \
			}                                                                                                          \
			for (; i < count; i++) {                                                                                   \
				SPMM_ENTRY(T, UNITS, 0, i)                                                                             \
			}                                                                                                          \
		}                                                                                                              \
		UNROLLED for (int v = 0; v < UNITS; v++) {                                                                     \
			UNROLLED for (int f = 1; f < FLIGHT; f++) {                                                                \
				sum[0][v].a = _mm512_add_ps(sum[0][v].a, sum[f][v].a);                                                 \
				sum[0][v].b = _mm512_add_ps(sum[0][v].b, sum[f][v].b);                                                 \
			}                                                                                                          \
			finish_##T(t, r, j + v * UNIT, sum[0][v], v == UNITS - 1 ? mask : 0xffffffffu);                            \
		}                                                                                                              \
	}
#define SPMM_ENTRY(T, UNITS, f, i)                                                                                     \
	{                                                                                                                  \
		const uint16_t *row = x + columns[i] * t->ldx;                                                                 \
		__m512 value = _mm512_set1_ps(values[i]);                                                                      \
		UNROLLED for (int v = 0; v < UNITS; v++) {                                                                     \
			unit u = unit_##T(load(row + v * UNIT, v == UNITS - 1 ? mask : 0xffffffffu));                              \
			sum[f][v].a = _mm512_fmadd_ps(value, u.a, sum[f][v].a);                                                    \
			sum[f][v].b = _mm512_fmadd_ps(value, u.b, sum[f][v].b);                                                    \
		}                                                                                                              \
	}
HALF(bf16)
HALF(f16)
