/* SPDX-License-Identifier: Apache-2.0 */
/* expand_avx512.c over SIMDe's emulation, under other names, as simde_avx512.c has the products. */
#if defined(__has_include)
#if __has_include(<simde/x86/avx512.h>)
#define SL_TEST_SIMDE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include "cpu/expand_avx512.c"
const int test_simde_expand = 1;
#define SL_HAVE 1
#endif
#endif
#ifndef SL_HAVE
#include <stdbool.h>
#include <stdint.h>
bool test_finite_simde(const float *x, int64_t n);
bool test_finite_simde(const float *x, int64_t n) {
	(void)x, (void)n;
	return false;
}
const int test_simde_expand = 0;
void test_expand_simde(const float *from, int64_t count, const uint16_t *mask, int64_t n, float *to);
void test_compress_simde(const float *from, const uint16_t *mask, int64_t n, float beta, float *to);
void test_expand_simde(const float *from, int64_t count, const uint16_t *mask, int64_t n, float *to) {
	(void)from, (void)count, (void)mask, (void)n, (void)to;
}
void test_compress_simde(const float *from, const uint16_t *mask, int64_t n, float beta, float *to) {
	(void)from, (void)mask, (void)n, (void)beta, (void)to;
}
#endif
