/* SPDX-License-Identifier: Apache-2.0 */
/* What expand_avx512.c needs besides. */
#ifndef SL_TESTS_SIMDE_EXPAND_H
#define SL_TESTS_SIMDE_EXPAND_H

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

#endif
