/* SPDX-License-Identifier: Apache-2.0 */
/* expand_avx512.c over SIMDe's emulation, under other names, as simde_avx512.c has the products. */
#if defined(__has_include)
#if __has_include(<simde/x86/avx512.h>)
#define SL_TEST_SIMDE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include "kernels/simde.h"
/* Missing in Debian 12's SIMDe. */
#define _mm512_maskz_expand_ps   test_maskz_expand_ps
static inline __m512 test_maskz_expand_ps(simde__mmask16 mask, __m512 v) {
	float lanes[16], out[16] = {0};
	_mm512_storeu_ps(lanes, v);
	for (int i = 0, k = 0; i < 16; i++)
		if (mask >> i & 1)
			out[i] = lanes[k++];
	return _mm512_loadu_ps(out);
}
#include "cpu/expand_avx512.c"
const int test_simde_expand = 1;
#define SL_HAVE 1
#endif
#endif
#ifndef SL_HAVE
#include <stdint.h>
const int test_simde_expand = 0;
void test_expand_simde(const float *from, const uint16_t *mask, int64_t n, float *to);
void test_compress_simde(const float *from, const uint16_t *mask, int64_t n, float beta, float *to);
void test_expand_simde(const float *from, const uint16_t *mask, int64_t n, float *to) {
	(void)from, (void)mask, (void)n, (void)to;
}
void test_compress_simde(const float *from, const uint16_t *mask, int64_t n, float beta, float *to) {
	(void)from, (void)mask, (void)n, (void)beta, (void)to;
}
#endif
