/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bf16 and f16 products for AVX2 with FMA and F16C, sums in f32. Compiled with -mavx2 -mfma -mf16c, reached only where
 * the CPU has all three. A unit of 16 numbers becomes two vectors of f32: f16 by vcvtph2ps, first half and second;
 * bf16 by a shift and a mask, even and odd, which costs no shuffle and is undone where the sums are stored.
 */
#include "cpu/cpu.h"

#include <immintrin.h>

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define UNROLLED      _Pragma("GCC unroll 8")

enum { UNIT = 16, BLOCK = 64 };
typedef struct unit {
	__m256 a, b;
} unit;

/* The first `count` of a unit, the others zero. There are no masks for 16 bits: a part goes through memory. */
static ALWAYS_INLINE __m256i load(const uint16_t *p, int64_t count) {
	if (count >= UNIT)
		return _mm256_loadu_si256((const __m256i *)(const void *)p);
	if (count == 8)
		return _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)p));
	uint16_t part[UNIT] = {0};
	memcpy(part, p, (size_t)count * sizeof *part);
	return _mm256_loadu_si256((const __m256i *)(const void *)part);
}
static ALWAYS_INLINE void store(uint16_t *p, int64_t count, __m256i bits) {
	if (count >= UNIT) {
		_mm256_storeu_si256((__m256i *)(void *)p, bits);
		return;
	}
	uint16_t part[UNIT];
	_mm256_storeu_si256((__m256i *)(void *)part, bits);
	memcpy(p, part, (size_t)count * sizeof *part);
}

static ALWAYS_INLINE unit unit_bf16(__m256i bits) {
	return (unit){_mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)),
				  _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32((int)0xffff0000u)))};
}
static ALWAYS_INLINE unit unit_f16(__m256i bits) {
	return (unit){_mm256_cvtph_ps(_mm256_castsi256_si128(bits)), _mm256_cvtph_ps(_mm256_extracti128_si256(bits, 1))};
}

/* To nearest even in the upper half; a NaN stays one. */
static ALWAYS_INLINE __m256i round_bf16(__m256 x) {
	__m256i bits = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
	__m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
	__m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
	return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}
static ALWAYS_INLINE __m256i bits_bf16(unit u) {
	return _mm256_or_si256(_mm256_srli_epi32(round_bf16(u.a), 16),
						   _mm256_and_si256(round_bf16(u.b), _mm256_set1_epi32((int)0xffff0000u)));
}
static ALWAYS_INLINE __m256i bits_f16(unit u) {
	return _mm256_set_m128i(_mm256_cvtps_ph(u.b, _MM_FROUND_TO_NEAREST_INT),
							_mm256_cvtps_ph(u.a, _MM_FROUND_TO_NEAREST_INT));
}

/* A unit's numbers in their order, and back. */
static ALWAYS_INLINE unit order_bf16(unit u) {
	__m256 low = _mm256_unpacklo_ps(u.a, u.b), high = _mm256_unpackhi_ps(u.a, u.b);
	return (unit){_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31)};
}
static ALWAYS_INLINE unit disorder_bf16(unit u) {
	__m256 low = _mm256_permute2f128_ps(u.a, u.b, 0x20), high = _mm256_permute2f128_ps(u.a, u.b, 0x31);
	return (unit){_mm256_shuffle_ps(low, high, 0x88), _mm256_shuffle_ps(low, high, 0xdd)};
}
static ALWAYS_INLINE unit order_f16(unit u) {
	return u;
}
static ALWAYS_INLINE unit disorder_f16(unit u) {
	return u;
}

/* Sums of 8 vectors, one a lane. */
static ALWAYS_INLINE __m256 reduce8(const __m256 s[8]) {
	__m256 ab = _mm256_hadd_ps(s[0], s[1]), cd = _mm256_hadd_ps(s[2], s[3]);
	__m256 ef = _mm256_hadd_ps(s[4], s[5]), gh = _mm256_hadd_ps(s[6], s[7]);
	__m256 low = _mm256_hadd_ps(ab, cd), high = _mm256_hadd_ps(ef, gh);
	return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

#define HALF(T)                                                                                                        \
	void sli_half_to_f32_##T##_avx2(const uint16_t *from, float *to, int64_t n) {                                      \
		for (int64_t i = 0; i < n; i += UNIT) {                                                                        \
			unit u = order_##T(unit_##T(load(from + i, n - i)));                                                       \
			if (n - i >= UNIT) {                                                                                       \
				_mm256_storeu_ps(to + i, u.a);                                                                         \
				_mm256_storeu_ps(to + i + 8, u.b);                                                                     \
				continue;                                                                                              \
			}                                                                                                          \
			float part[UNIT];                                                                                          \
			_mm256_storeu_ps(part, u.a);                                                                               \
			_mm256_storeu_ps(part + 8, u.b);                                                                           \
			memcpy(to + i, part, (size_t)(n - i) * sizeof *part);                                                      \
		}                                                                                                              \
	}                                                                                                                  \
	void sli_half_from_f32_##T##_avx2(const float *from, uint16_t *to, int64_t n) {                                    \
		for (int64_t i = 0; i < n; i += UNIT) {                                                                        \
			float part[UNIT] = {0};                                                                                    \
			const float *whole = from + i;                                                                             \
			if (n - i < UNIT)                                                                                          \
				whole = memcpy(part, whole, (size_t)(n - i) * sizeof *part);                                           \
			unit u = {_mm256_loadu_ps(whole), _mm256_loadu_ps(whole + 8)};                                             \
			store(to + i, n - i, bits_##T(disorder_##T(u)));                                                           \
		}                                                                                                              \
	}                                                                                                                  \
                                                                                                                       \
	static ALWAYS_INLINE void finish_##T(const sl_spmm_task *t, int64_t r, int64_t j, unit sum, int64_t count) {       \
		__m256 alpha = _mm256_set1_ps((float)t->alpha), beta = _mm256_set1_ps((float)t->beta);                         \
		sum.a = _mm256_mul_ps(alpha, sum.a);                                                                           \
		sum.b = _mm256_mul_ps(alpha, sum.b);                                                                           \
		count = count < UNIT ? count : UNIT;                                                                           \
		if (t->wide) {                                                                                                 \
			float *y = (float *)t->y + r * t->ldy + j, part[UNIT] = {0};                                               \
			sum = order_##T(sum);                                                                                      \
			if (t->beta != 0) {                                                                                        \
				memcpy(part, y, (size_t)count * sizeof *part);                                                         \
				sum.a = _mm256_fmadd_ps(beta, _mm256_loadu_ps(part), sum.a);                                           \
				sum.b = _mm256_fmadd_ps(beta, _mm256_loadu_ps(part + 8), sum.b);                                       \
			}                                                                                                          \
			_mm256_storeu_ps(part, sum.a);                                                                             \
			_mm256_storeu_ps(part + 8, sum.b);                                                                         \
			memcpy(y, part, (size_t)count * sizeof *part);                                                             \
			return;                                                                                                    \
		}                                                                                                              \
		uint16_t *y = (uint16_t *)t->y + r * t->ldy + j;                                                               \
		if (t->beta != 0) {                                                                                            \
			unit old = unit_##T(load(y, count));                                                                       \
			sum.a = _mm256_fmadd_ps(beta, old.a, sum.a);                                                               \
			sum.b = _mm256_fmadd_ps(beta, old.b, sum.b);                                                               \
		}                                                                                                              \
		store(y, count, bits_##T(sum));                                                                                \
	}                                                                                                                  \
	SPMM_TILE(T, 1, 4)                                                                                                 \
	SPMM_TILE(T, 2, 2)                                                                                                 \
	SPMM_TILE(T, 4, 1)                                                                                                 \
	void sli_spmm_##T##_avx2(const sl_spmm_task *t) {                                                                  \
		for (int64_t r = t->begin; r < t->end; r++) {                                                                  \
			int64_t k = sli_cpu_offset(t->starts, t->offset_dtype, r), j = 0;                                          \
			int64_t end = sli_cpu_offset(t->ends, t->offset_dtype, r);                                                 \
			for (; t->width - j >= 4 * UNIT; j += 4 * UNIT)                                                            \
				tile4_##T(t, r, k, end, j, UNIT);                                                                      \
			for (; t->width - j >= 2 * UNIT; j += 2 * UNIT)                                                            \
				tile2_##T(t, r, k, end, j, UNIT);                                                                      \
			for (; t->width - j >= UNIT; j += UNIT)                                                                    \
				tile1_##T(t, r, k, end, j, UNIT);                                                                      \
			if (t->width - j == 8)                                                                                     \
				tile1_##T(t, r, k, end, j, 8);                                                                         \
			else if (j < t->width)                                                                                     \
				tile1_##T(t, r, k, end, j, t->width - j);                                                              \
		}                                                                                                              \
	}                                                                                                                  \
                                                                                                                       \
	/* Up to 8 entries of a row. Their sums stay in registers over all panels and are reduced and rounded once. */     \
	static ALWAYS_INLINE void group_##T(const sl_sddmm_task *t, int64_t r, int64_t k, int64_t count) {                 \
		const int32_t *columns = t->columns + k;                                                                       \
		__m256 sum[8];                                                                                                 \
		UNROLLED for (int e = 0; e < 8; e++) sum[e] = _mm256_setzero_ps();                                             \
		for (int64_t j = 0; j < t->n; j += t->ld) {                                                                    \
			const uint16_t *a = (const uint16_t *)t->a + j * t->a_rows + r * t->ld;                                    \
			const uint16_t *b = (const uint16_t *)t->b + j * t->b_rows;                                                \
			for (int64_t i = 0; i < t->ld; i += UNIT) {                                                                \
				unit held = unit_##T(load(a + i, t->ld - i));                                                          \
				UNROLLED for (int e = 0; e < 8; e++) {                                                                 \
					unit u = unit_##T(load(b + columns[e < count ? e : count - 1] * t->ld + i, t->ld - i));            \
					sum[e] = _mm256_fmadd_ps(held.a, u.a, sum[e]);                                                     \
					sum[e] = _mm256_fmadd_ps(held.b, u.b, sum[e]);                                                     \
				}                                                                                                      \
			}                                                                                                          \
		}                                                                                                              \
		float total[8], old[8] = {0};                                                                                  \
		__m256 all = _mm256_mul_ps(_mm256_set1_ps((float)t->alpha), reduce8(sum));                                     \
		if (t->beta != 0) {                                                                                            \
			sli_half_to_f32_##T##_avx2((const uint16_t *)t->values + k, old, count);                                   \
			all = _mm256_fmadd_ps(_mm256_set1_ps((float)t->beta), _mm256_loadu_ps(old), all);                          \
		}                                                                                                              \
		_mm256_storeu_ps(total, all);                                                                                  \
		sli_half_from_f32_##T##_avx2(total, (uint16_t *)t->values + k, count);                                         \
	}                                                                                                                  \
	void sli_sddmm_##T##_avx2(const sl_sddmm_task *t) {                                                                \
		for (int64_t r = t->begin; r < t->end; r++) {                                                                  \
			int64_t k = sli_cpu_offset(t->starts, t->offset_dtype, r);                                                 \
			int64_t end = sli_cpu_offset(t->ends, t->offset_dtype, r);                                                 \
			for (; k + 8 <= end; k += 8)                                                                               \
				group_##T(t, r, k, 8);                                                                                 \
			if (k < end)                                                                                               \
				group_##T(t, r, k, end - k);                                                                           \
		}                                                                                                              \
	}

/* Values are converted some at a time, so that each is then a broadcast load. `count`: of the last unit. */
#define SPMM_TILE(T, UNITS, FLIGHT)                                                                                    \
	static ALWAYS_INLINE void tile##UNITS##_##T(const sl_spmm_task *t, int64_t r, int64_t k, int64_t end, int64_t j,   \
												int64_t count) {                                                       \
		float values[BLOCK];                                                                                           \
		const uint16_t *x = (const uint16_t *)t->x + j;                                                                \
		unit sum[FLIGHT][UNITS];                                                                                       \
		UNROLLED for (int f = 0; f < FLIGHT; f++) UNROLLED for (int v = 0; v < UNITS; v++) sum[f][v] =                 \
			(unit){_mm256_setzero_ps(), _mm256_setzero_ps()};                                                          \
		for (int64_t some; k < end; k += some) {                                                                       \
			some = end - k < BLOCK ? end - k : BLOCK;                                                                  \
			const int32_t *columns = t->columns + k;                                                                   \
			sli_half_to_f32_##T##_avx2((const uint16_t *)t->values + k, values, some);                                 \
			int64_t i = 0;                                                                                             \
			for (; i + FLIGHT <= some; i += FLIGHT) {                                                                  \
				UNROLLED for (int f = 0; f < FLIGHT; f++) {                                                            \
					SPMM_ENTRY(T, UNITS, f, i + f)                                                                     \
				}                                                                                                      \
			}                                                                                                          \
			for (; i < some; i++) {                                                                                    \
				SPMM_ENTRY(T, UNITS, 0, i)                                                                             \
			}                                                                                                          \
		}                                                                                                              \
		UNROLLED for (int v = 0; v < UNITS; v++) {                                                                     \
			UNROLLED for (int f = 1; f < FLIGHT; f++) {                                                                \
				sum[0][v].a = _mm256_add_ps(sum[0][v].a, sum[f][v].a);                                                 \
				sum[0][v].b = _mm256_add_ps(sum[0][v].b, sum[f][v].b);                                                 \
			}                                                                                                          \
			finish_##T(t, r, j + v * UNIT, sum[0][v], v == UNITS - 1 ? count : UNIT);                                  \
		}                                                                                                              \
	}
#define SPMM_ENTRY(T, UNITS, f, i)                                                                                     \
	{                                                                                                                  \
		const uint16_t *row = x + columns[i] * t->ldx;                                                                 \
		__m256 value = _mm256_broadcast_ss(values + i);                                                                \
		UNROLLED for (int v = 0; v < UNITS; v++) {                                                                     \
			unit u = unit_##T(load(row + v * UNIT, v == UNITS - 1 ? count : UNIT));                                    \
			sum[f][v].a = _mm256_fmadd_ps(value, u.a, sum[f][v].a);                                                    \
			sum[f][v].b = _mm256_fmadd_ps(value, u.b, sum[f][v].b);                                                    \
		}                                                                                                              \
	}
HALF(bf16)
HALF(f16)
