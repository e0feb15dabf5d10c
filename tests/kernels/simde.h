/* SPDX-License-Identifier: Apache-2.0 */
/* What products_avx512.c needs, emulated, and its functions renamed. */
#ifndef SL_TESTS_SIMDE_H
#define SL_TESTS_SIMDE_H
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>

#define sli_spmm_f32_avx512          test_spmm_f32_simde
#define sli_sddmm_f32_avx512         test_sddmm_f32_simde
#define __mmask16                    simde__mmask16
#define sli_small_spmm1_f32_avx512   test_small_spmm1_simde
#define sli_small_dx1_f32_avx512     test_small_dx1_simde
#define sli_small_sddmm1_f32_avx512  test_small_sddmm1_simde
#define sli_masked_dx1_f32_avx512    test_masked_dx1_simde
#define sli_masked_sddmm1_f32_avx512 test_masked_sddmm1_simde
void test_masked_dx1_simde(const sl_small_task *t);
void test_masked_sddmm1_simde(const sl_small_task *t);
#define sli_small_spmm16_f32_avx512 test_small_spmm16_simde
#define sli_small_dx16_f32_avx512   test_small_dx16_simde
void test_small_spmm1_simde(const sl_small_task *t);
void test_small_dx1_simde(const sl_small_task *t);
void test_small_sddmm1_simde(const sl_small_task *t);
void test_small_spmm16_simde(const sl_small_task *t);
void test_small_dx16_simde(const sl_small_task *t);

/* Missing in Debian 12's SIMDe. As the instructions do, they touch no lane that is masked off. */
#define _mm512_maskz_loadu_ps test_maskz_loadu_ps
#define _mm512_mask_storeu_ps test_mask_storeu_ps
static inline __m512 test_maskz_loadu_ps(simde__mmask16 mask, const float *p) {
	float lanes[16];
	for (int i = 0; i < 16; i++)
		lanes[i] = mask >> i & 1 ? p[i] : 0;
	return _mm512_loadu_ps(lanes);
}
static inline void test_mask_storeu_ps(float *p, simde__mmask16 mask, __m512 v) {
	float lanes[16];
	_mm512_storeu_ps(lanes, v);
	for (int i = 0; i < 16; i++)
		if (mask >> i & 1)
			p[i] = lanes[i];
}
#ifndef _mm512_mask3_fmadd_ps
#define _mm512_mask3_fmadd_ps(a, b, c, mask) _mm512_mask_mov_ps(c, mask, _mm512_fmadd_ps(a, b, c))
#endif
#define _mm512_shuffle_f32x4(a, b, imm)                                                                                \
	_mm512_castsi512_ps(_mm512_shuffle_i32x4(_mm512_castps_si512(a), _mm512_castps_si512(b), imm))
#endif
