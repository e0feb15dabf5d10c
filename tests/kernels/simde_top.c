/* SPDX-License-Identifier: Apache-2.0 */
/* top_avx512.c over SIMDe's emulation, under another name, as simde_avx512.c has the products. */
#if defined(__has_include)
#if __has_include(<simde/x86/avx512.h>)
#define SL_TEST_SIMDE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include "cpu/top_avx512.c"
const int test_simde_top = 1;
#define SL_HAVE 1
#endif
#endif
#ifndef SL_HAVE
#include "cpu/top.h"
const int test_simde_top = 0;
int64_t test_top_simde(const sl_top_task *task);
int64_t test_top_simde(const sl_top_task *task) {
	(void)task;
	return 0;
}
#endif
