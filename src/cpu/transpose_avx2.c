/* SPDX-License-Identifier: Apache-2.0 */
/* Transposing 16 x 16 floats as four squares of 8. */
#include <immintrin.h>

#include "cpu/products.h"

static void transpose8(const float *from, int64_t ldf, float *to, int64_t ldt) {
	__m256 a[8], b[8];
	for (int i = 0; i < 8; i++)
		a[i] = _mm256_loadu_ps(from + i * ldf);
	for (int i = 0; i < 8; i += 2) {
		b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
		b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
	}
	for (int i = 0; i < 8; i += 4)
		for (int j = 0; j < 2; j++) {
			__m256d low = _mm256_castps_pd(b[i + j]), high = _mm256_castps_pd(b[i + j + 2]);
			a[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
			a[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, high));
		}
	for (int j = 0; j < 4; j++) {
		_mm256_storeu_ps(to + j * ldt, _mm256_permute2f128_ps(a[j], a[j + 4], 0x20));
		_mm256_storeu_ps(to + (j + 4) * ldt, _mm256_permute2f128_ps(a[j], a[j + 4], 0x31));
	}
}

void sli_transpose_f32_avx2(const float *from, int64_t ldf, float *to, int64_t ldt) {
	for (int i = 0; i < 16; i += 8)
		for (int j = 0; j < 16; j += 8)
			transpose8(from + i * ldf + j, ldf, to + j * ldt + i, ldt);
}
