/* SPDX-License-Identifier: Apache-2.0 */
/* Between a row of values and a dense row, 16 columns an instruction. */
#include "cpu/densify.h"

#ifdef SL_TEST_SIMDE
#include "kernels/simde_expand.h"
#define sli_expand_avx512   test_expand_simde
#define sli_compress_avx512 test_compress_simde
#define sli_finite_avx512   test_finite_simde
bool test_finite_simde(const float *x, int64_t n);
void test_expand_simde(const float *from, int64_t count, const uint16_t *mask, int64_t n, float *to);
void test_compress_simde(const float *from, const uint16_t *mask, int64_t n, float beta, float *to);
#else
#include <immintrin.h>
#endif

static __mmask16 lowest(int count) {
	return (__mmask16)((1u << count) - 1u);
}

void sli_expand_avx512(const float *from, int64_t count, const uint16_t *mask, int64_t n, float *to) {
	int64_t i = 0;
	/* Four at a time while there is memory behind the values: whole loads, whose places wait for counts of one word
	 * alone. What has no memory behind it is loaded with a mask, which takes twice as long to make as the rest. */
	for (; i + 64 <= n && count >= 64; i += 64, mask += 4) {
		uint64_t word;
		memcpy(&word, mask, sizeof word);
		const float *second = from + __builtin_popcountll(word & 0xffff);
		const float *third = second + __builtin_popcountll(word & 0xffff0000u);
		const float *fourth = third + __builtin_popcountll(word & 0xffff00000000u);
		const float *next = fourth + __builtin_popcountll(word >> 48);
		_mm512_storeu_ps(to + i, _mm512_maskz_expand_ps(mask[0], _mm512_loadu_ps(from)));
		_mm512_storeu_ps(to + i + 16, _mm512_maskz_expand_ps(mask[1], _mm512_loadu_ps(second)));
		_mm512_storeu_ps(to + i + 32, _mm512_maskz_expand_ps(mask[2], _mm512_loadu_ps(third)));
		_mm512_storeu_ps(to + i + 48, _mm512_maskz_expand_ps(mask[3], _mm512_loadu_ps(fourth)));
		count -= next - from;
		from = next;
	}
	for (; i < n; i += 16, mask++) {
		int taken = __builtin_popcount(*mask);
		_mm512_storeu_ps(to + i, _mm512_maskz_expand_ps(*mask, _mm512_maskz_loadu_ps(lowest(taken), from)));
		from += taken;
	}
}

void sli_compress_avx512(const float *from, const uint16_t *mask, int64_t n, float beta, float *to) {
	for (int64_t i = 0; i < n; i += 16, mask++) {
		int count = __builtin_popcount(*mask);
		__mmask16 kept = lowest(count);
		__m512 values = _mm512_maskz_compress_ps(*mask, _mm512_loadu_ps(from + i));
		if (beta != 0)
			values = _mm512_add_ps(values, _mm512_mul_ps(_mm512_set1_ps(beta), _mm512_maskz_loadu_ps(kept, to)));
		_mm512_mask_storeu_ps(to, kept, values);
		to += count;
	}
}

/* Zero times a number is zero, of anything else NaN, which sums keep. */
bool sli_finite_avx512(const float *x, int64_t n) {
	__m512 zero = _mm512_setzero_ps(), sum[4] = {zero, zero, zero, zero};
	float all[16];
	int64_t i = 0;
	for (; i + 64 <= n; i += 64) {
		sum[0] = _mm512_fmadd_ps(zero, _mm512_loadu_ps(x + i), sum[0]);
		sum[1] = _mm512_fmadd_ps(zero, _mm512_loadu_ps(x + i + 16), sum[1]);
		sum[2] = _mm512_fmadd_ps(zero, _mm512_loadu_ps(x + i + 32), sum[2]);
		sum[3] = _mm512_fmadd_ps(zero, _mm512_loadu_ps(x + i + 48), sum[3]);
	}
	for (; i < n; i += 16) {
		__mmask16 mask = n - i >= 16 ? (__mmask16)0xffff : lowest((int)(n - i));
		sum[0] = _mm512_fmadd_ps(zero, _mm512_maskz_loadu_ps(mask, x + i), sum[0]);
	}
	_mm512_storeu_ps(all, _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
	bool good = true;
	for (int k = 0; k < 16; k++)
		good &= all[k] == 0;
	return good;
}
