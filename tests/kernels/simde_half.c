/* SPDX-License-Identifier: Apache-2.0 */
/* The AVX-512 products of 16-bit floats over SIMDe, as simde_avx512.c. */
#include "cpu/cpu.h"
#if defined(__has_include)
#if __has_include(<simde/x86/avx512.h>)
#define SL_TEST_SIMDE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include "kernels/simde.h"

/* Missing in Debian 12's SIMDe. */
static inline __m512 test_cvtph_ps(__m256i half) {
	uint16_t from[16];
	float to[16];
	memcpy(from, &half, sizeof from);
	for (int i = 0; i < 16; i++)
		to[i] = sli_f16_to_f32(from[i]);
	return _mm512_loadu_ps(to);
}
static inline __m256i test_cvtps_ph(__m512 wide) {
	float from[16];
	uint16_t to[16];
	__m256i half;
	_mm512_storeu_ps(from, wide);
	for (int i = 0; i < 16; i++)
		to[i] = sli_f32_to_f16(from[i]);
	memcpy(&half, to, sizeof half);
	return half;
}
static inline __m512i test_maskz_loadu_epi16(uint32_t mask, const uint16_t *p) {
	uint16_t lanes[32];
	__m512i all;
	for (int i = 0; i < 32; i++)
		lanes[i] = mask >> i & 1 ? p[i] : 0;
	memcpy(&all, lanes, sizeof all);
	return all;
}
static inline void test_mask_storeu_epi16(uint16_t *p, uint32_t mask, __m512i all) {
	uint16_t lanes[32];
	memcpy(lanes, &all, sizeof lanes);
	for (int i = 0; i < 32; i++)
		if (mask >> i & 1)
			p[i] = lanes[i];
}
#define _mm512_cvtph_ps                 test_cvtph_ps
#define _mm512_cvtps_ph(wide, rounding) test_cvtps_ph(wide)
#define _mm512_maskz_loadu_epi16        test_maskz_loadu_epi16
#define _mm512_mask_storeu_epi16        test_mask_storeu_epi16
#define __mmask32                       uint32_t
#define sli_spmm_bf16_avx512            test_spmm_bf16_simde
#define sli_spmm_f16_avx512             test_spmm_f16_simde
#define sli_sddmm_bf16_avx512           test_sddmm_bf16_simde
#define sli_sddmm_f16_avx512            test_sddmm_f16_simde
#define sli_half_to_f32_bf16_avx512     test_to_f32_bf16_simde
#define sli_half_to_f32_f16_avx512      test_to_f32_f16_simde
#define sli_half_from_f32_bf16_avx512   test_from_f32_bf16_simde
#define sli_half_from_f32_f16_avx512    test_from_f32_f16_simde
void test_spmm_bf16_simde(const sl_spmm_task *t);
void test_sddmm_bf16_simde(const sl_sddmm_task *t);
void test_spmm_f16_simde(const sl_spmm_task *t);
void test_sddmm_f16_simde(const sl_sddmm_task *t);
void test_to_f32_bf16_simde(const uint16_t *from, float *to, int64_t n);
void test_from_f32_bf16_simde(const float *from, uint16_t *to, int64_t n);
void test_to_f32_f16_simde(const uint16_t *from, float *to, int64_t n);
void test_from_f32_f16_simde(const float *from, uint16_t *to, int64_t n);
#include "cpu/products_half_avx512.c"
#define SL_HAVE 1
#endif
#endif
#ifdef SL_HAVE
const sl_kernel test_half_simde[] = {
	{.kind = SL_OP_SPMM, .dtype = SL_BF16, .tile = 64, .name = "spmm_bf16_simde", .spmm = test_spmm_bf16_simde},
	{.kind = SL_OP_SPMM, .dtype = SL_F16, .tile = 64, .name = "spmm_f16_simde", .spmm = test_spmm_f16_simde},
	{.kind = SL_OP_SDDMM, .dtype = SL_BF16, .name = "sddmm_bf16_simde", .sddmm = test_sddmm_bf16_simde},
	{.kind = SL_OP_SDDMM, .dtype = SL_F16, .name = "sddmm_f16_simde", .sddmm = test_sddmm_f16_simde},
	{.kind = SL_OP_CONVERT,
	 .dtype = SL_BF16,
	 .name = "half_bf16_simde",
	 .to_f32 = test_to_f32_bf16_simde,
	 .from_f32 = test_from_f32_bf16_simde},
	{.kind = SL_OP_CONVERT,
	 .dtype = SL_F16,
	 .name = "half_f16_simde",
	 .to_f32 = test_to_f32_f16_simde,
	 .from_f32 = test_from_f32_f16_simde}};
#else
const sl_kernel test_half_simde[6];
#endif
