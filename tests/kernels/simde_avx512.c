/* SPDX-License-Identifier: Apache-2.0 */
/* The AVX-512 products over SIMDe's emulation, under other names, so that their logic is tested on
 * machines without the instructions. */
#if defined(__has_include)
#if __has_include(<simde/x86/avx512.h>)
#define SL_TEST_SIMDE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include "cpu/products_avx512.c"
const int test_simde = 1;
#define SL_HAVE 1
#endif
#endif
#ifndef SL_HAVE
#include "cpu/cpu.h"
const int test_simde = 0;
void test_spmm_f32_simde(const sl_spmm_task *t);
void test_sddmm_f32_simde(const sl_sddmm_task *t);
void test_spmm_f32_simde(const sl_spmm_task *t) {
	(void)t;
}
void test_sddmm_f32_simde(const sl_sddmm_task *t) {
	(void)t;
}
#endif
