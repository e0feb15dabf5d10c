/* SPDX-License-Identifier: Apache-2.0 */
/* Transposing 16 x 16 floats: each line of 64 bytes is read and written once, whole. */
#include <immintrin.h>

#include "cpu/products.h"

/* Four rounds of interleaving: of floats, of pairs, of quarters and of halves. */
void sli_transpose_f32_avx512(const float *from, int64_t ldf, float *to, int64_t ldt) {
	__m512 a[16], b[16];
	for (int i = 0; i < 16; i++)
		a[i] = _mm512_loadu_ps(from + i * ldf);
	for (int i = 0; i < 16; i += 2) {
		b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
		b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
	}
	for (int i = 0; i < 16; i += 4)
		for (int j = 0; j < 2; j++) {
			__m512d low = _mm512_castps_pd(b[i + j]), high = _mm512_castps_pd(b[i + j + 2]);
			a[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
			a[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
		}
	/* a[4g + j] holds, in quarter q, column 4q + j of rows 4g .. 4g + 3. */
	for (int j = 0; j < 4; j++) {
		b[j] = _mm512_shuffle_f32x4(a[j], a[j + 4], 0x88);
		b[j + 4] = _mm512_shuffle_f32x4(a[j], a[j + 4], 0xdd);
		b[j + 8] = _mm512_shuffle_f32x4(a[j + 8], a[j + 12], 0x88);
		b[j + 12] = _mm512_shuffle_f32x4(a[j + 8], a[j + 12], 0xdd);
	}
	for (int j = 0; j < 4; j++) {
		_mm512_storeu_ps(to + j * ldt, _mm512_shuffle_f32x4(b[j], b[j + 8], 0x88));
		_mm512_storeu_ps(to + (j + 8) * ldt, _mm512_shuffle_f32x4(b[j], b[j + 8], 0xdd));
		_mm512_storeu_ps(to + (j + 4) * ldt, _mm512_shuffle_f32x4(b[j + 4], b[j + 12], 0x88));
		_mm512_storeu_ps(to + (j + 12) * ldt, _mm512_shuffle_f32x4(b[j + 4], b[j + 12], 0xdd));
	}
}
