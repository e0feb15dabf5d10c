/* SPDX-License-Identifier: Apache-2.0 */
/* The AVX-512 products of few columns over SIMDe, as simde_avx512.c. */
#include "cpu/cpu.h"
#if defined(__has_include)
#if __has_include(<simde/x86/avx512.h>)
#define SL_TEST_SIMDE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include "cpu/masked_avx512.c"
#include "cpu/products_small_avx512.c"
#define SL_HAVE 1
#endif
#endif
#ifdef SL_HAVE
const sl_small_kernel test_small_simde[] = {test_small_spmm1_simde,  test_small_dx1_simde,  test_small_sddmm1_simde,
											test_small_spmm16_simde, test_small_dx16_simde, test_masked_dx1_simde,
											test_masked_sddmm1_simde};
#else
const sl_small_kernel test_small_simde[7];
#endif
