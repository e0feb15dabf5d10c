/* SPDX-License-Identifier: Apache-2.0 */
/* What top_avx512.c needs, emulated where Debian 12's SIMDe has it, else lane by lane. */
#ifndef SL_TESTS_SIMDE_TOP_H
#define SL_TESTS_SIMDE_TOP_H
#include <simde/x86/avx512.h>
#include <string.h>

#define __mmask16 simde__mmask16

typedef struct test_lanes {
	int32_t lane[16];
} test_lanes;
static inline test_lanes test_lanes_of(__m512i v) {
	test_lanes l;
	memcpy(&l, &v, sizeof l);
	return l;
}
static inline __m512i test_vector_of(test_lanes l) {
	__m512i v;
	memcpy(&v, &l, sizeof v);
	return v;
}
#define TEST_COMPARE(name, op)                                                                                         \
	static inline simde__mmask16 name(simde__mmask16 mask, __m512i a, __m512i b) {                                     \
		test_lanes x = test_lanes_of(a), y = test_lanes_of(b);                                                         \
		unsigned out = 0;                                                                                              \
		for (int i = 0; i < 16; i++)                                                                                   \
			out |= (unsigned)(x.lane[i] op y.lane[i]) << i;                                                            \
		return (simde__mmask16)(out & mask);                                                                           \
	}
TEST_COMPARE(test_ge, >=)
TEST_COMPARE(test_gt, >)
TEST_COMPARE(test_eq, ==)
static inline __m512i test_compress(simde__mmask16 mask, __m512i v) {
	test_lanes x = test_lanes_of(v), out = {{0}};
	for (int i = 0, k = 0; i < 16; i++)
		if (mask >> i & 1)
			out.lane[k++] = x.lane[i];
	return test_vector_of(out);
}
static inline int32_t test_reduce_max(__m512i v) {
	test_lanes x = test_lanes_of(v);
	int32_t most = x.lane[0];
	for (int i = 1; i < 16; i++)
		most = x.lane[i] > most ? x.lane[i] : most;
	return most;
}
#undef _mm512_cmpge_epi32_mask
#undef _mm512_cmpgt_epi32_mask
#undef _mm512_mask_cmpge_epi32_mask
#undef _mm512_mask_cmpgt_epi32_mask
#undef _mm512_mask_cmpeq_epi32_mask
#undef _mm512_maskz_compress_epi32
#undef _mm512_reduce_max_epi32
#define _mm512_cmpge_epi32_mask(a, b)         test_ge((simde__mmask16)0xffff, a, b)
#define _mm512_cmpgt_epi32_mask(a, b)         test_gt((simde__mmask16)0xffff, a, b)
#define _mm512_mask_cmpge_epi32_mask(m, a, b) test_ge(m, a, b)
#define _mm512_mask_cmpgt_epi32_mask(m, a, b) test_gt(m, a, b)
#define _mm512_mask_cmpeq_epi32_mask(m, a, b) test_eq(m, a, b)
#define _mm512_maskz_compress_epi32(m, v)     test_compress(m, v)
#define _mm512_reduce_max_epi32(v)            test_reduce_max(v)
#endif
