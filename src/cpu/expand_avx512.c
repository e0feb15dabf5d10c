/* SPDX-License-Identifier: Apache-2.0 */
/* Between a row of values and a dense row, 16 columns an instruction. */
#include "cpu/densify.h"

#ifdef SL_TEST_SIMDE
#include "kernels/simde_expand.h"
#define sli_expand_avx512   test_expand_simde
#define sli_compress_avx512 test_compress_simde
void test_expand_simde(const float *from, const uint16_t *mask, int64_t n, float *to);
void test_compress_simde(const float *from, const uint16_t *mask, int64_t n, float beta, float *to);
#else
#include <immintrin.h>
#endif

static __mmask16 lowest(int count) {
	return (__mmask16)((1u << count) - 1u);
}

void sli_expand_avx512(const float *from, const uint16_t *mask, int64_t n, float *to) {
	for (int64_t i = 0; i < n; i += 16, mask++) {
		int count = __builtin_popcount(*mask);
		/* The load is masked, as there may be no memory behind the last value. */
		__m512 values = _mm512_maskz_loadu_ps(lowest(count), from);
		_mm512_storeu_ps(to + i, _mm512_maskz_expand_ps(*mask, values));
		from += count;
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
