/* SPDX-License-Identifier: Apache-2.0 */
/* The blocked AVX-512 products over SIMDe's emulation, under other names. */
#if defined(__has_include)
#if __has_include(<simde/x86/avx512.h>)
#define SL_TEST_SIMDE
#define SIMDE_ENABLE_NATIVE_ALIASES
#define sli_blocks_spmm_f32_avx512  test_blocks_spmm_simde
#define sli_blocks_sddmm_f32_avx512 test_blocks_sddmm_simde
#include "cpu/blocks_avx512.c"
extern const int test_blocks_simde;
const int test_blocks_simde = 1;
#define SL_HAVE 1
#endif
#endif
#ifndef SL_HAVE
#include "cpu/blocks.h"
extern const int test_blocks_simde;
void test_blocks_spmm_simde(const sl_block_task *t);
void test_blocks_sddmm_simde(const sl_block_task *t);
const int test_blocks_simde = 0;
void test_blocks_spmm_simde(const sl_block_task *t) {
	(void)t;
}
void test_blocks_sddmm_simde(const sl_block_task *t) {
	(void)t;
}
#endif
