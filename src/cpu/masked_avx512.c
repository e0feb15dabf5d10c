/* SPDX-License-Identifier: Apache-2.0 */
/* f32 products of one column with a matrix of which every sixteen columns have a word that says which are there: their
 * values are spread by one instruction, so that the time goes by columns and not by entries. What is not there is left
 * out of every sum, so that infinities beside it do no harm. The tests compile this file a second time against SIMDe.
 */
#include "cpu/cpu.h"

#ifdef SL_TEST_SIMDE
#include "kernels/simde_expand.h"
#define MASKED_INLINE inline
#define APART(v)
#else
#include <immintrin.h>
#define MASKED_INLINE inline __attribute__((always_inline))
/* Keeps the compiler from making one instruction of a load and an expansion, or of a blend and a store: with a mask in
 * memory's way either takes several times as long. */
#define APART(v)      __asm__("" : "+v"(v))
#endif

enum { WORD = 16, FOUR = 4 * WORD };

static MASKED_INLINE __mmask16 lowest(int64_t count) {
	return (__mmask16)((1u << count) - 1u);
}

/* The next values to the columns of `mask`; `left` of them can be read. */
static MASKED_INLINE __m512 spread(const float *values, int64_t left, unsigned mask) {
	__m512 v = left >= WORD ? _mm512_loadu_ps(values) : _mm512_maskz_loadu_ps(lowest(left), values);
	APART(v);
	return _mm512_maskz_expand_ps((__mmask16)mask, v);
}

static MASKED_INLINE __m512 spread_whole(const float *values, unsigned mask) {
	__m512 v = _mm512_loadu_ps(values);
	APART(v);
	return _mm512_maskz_expand_ps((__mmask16)mask, v);
}

static MASKED_INLINE void add_word(float *y, __m512 scale, __m512 w, unsigned mask) {
	__m512 sum = _mm512_mask3_fmadd_ps(scale, w, _mm512_loadu_ps(y), (__mmask16)mask);
	APART(sum);
	_mm512_storeu_ps(y, sum);
}

/* Where the four words that are read as one begin in the values: counted from the one word, not each from the one
 * before. */
#define FOUR_WORDS(mask, values)                                                                                       \
	uint64_t word_;                                                                                                    \
	memcpy(&word_, mask, sizeof word_);                                                                                \
	const float *at[4] = {values, (values) + __builtin_popcountll(word_ & 0xffff),                                     \
						  (values) + __builtin_popcountll(word_ & 0xffffffff),                                         \
						  (values) + __builtin_popcountll(word_ & 0xffffffffffff)};                                    \
	const int64_t taken_ = __builtin_popcountll(word_);                                                                \
	const unsigned bits[4] = {(unsigned)word_ & 0xffff, (unsigned)(word_ >> 16) & 0xffff,                              \
							  (unsigned)(word_ >> 32) & 0xffff, (unsigned)(word_ >> 48)};

/* y += scale * a row. */
static MASKED_INLINE void add_row(const float *values, int64_t left, const uint16_t *mask, __m512 scale, float *y,
								  int64_t cols) {
	int64_t c = 0;
	for (; c + FOUR <= cols && left >= FOUR; c += FOUR, mask += 4) {
		FOUR_WORDS(mask, values)
		_Pragma("GCC unroll 4") for (int i = 0; i < 4; i++)
			add_word(y + c + i * WORD, scale, spread_whole(at[i], bits[i]), bits[i]);
		values += taken_;
		left -= taken_;
	}
	for (; c < cols; c += WORD, mask++) {
		__m512 w = spread(values, left, *mask);
		if (cols - c >= WORD)
			add_word(y + c, scale, w, *mask);
		else
			_mm512_mask_storeu_ps(
				y + c, lowest(cols - c),
				_mm512_mask3_fmadd_ps(scale, w, _mm512_maskz_loadu_ps(lowest(cols - c), y + c), (__mmask16)*mask));
		values += __builtin_popcount(*mask);
		left -= __builtin_popcount(*mask);
	}
}

void sli_masked_dx1_f32_avx512(const sl_small_task *t) {
	for (int64_t r = t->begin; r < t->end; r++) {
		int64_t first = sli_cpu_offset(t->offsets, t->offset_dtype, r);
		add_row((const float *)t->values + first, t->nnz - first, t->masks + r * t->words,
				_mm512_set1_ps(t->alpha * t->x[r]), t->y, t->cols);
	}
}

/* What lies behind a word's values is written anew by the next word, as long as it is the task's own. */
void sli_masked_sddmm1_f32_avx512(const sl_small_task *t) {
	float *out = t->values_out;
	int64_t k = sli_cpu_offset(t->offsets, t->offset_dtype, t->begin);
	const int64_t end = sli_cpu_offset(t->offsets, t->offset_dtype, t->end);
	for (int64_t r = t->begin; r < t->end; r++) {
		__m512 scale = _mm512_set1_ps(t->alpha * t->y[r]);
		const uint16_t *mask = t->masks + r * t->words;
		for (int64_t c = 0; c < t->cols; c += WORD, mask++) {
			int count = __builtin_popcount(*mask);
			__m512 x =
				t->cols - c >= WORD ? _mm512_loadu_ps(t->x + c) : _mm512_maskz_loadu_ps(lowest(t->cols - c), t->x + c);
			__m512 v = _mm512_maskz_compress_ps((__mmask16)*mask, _mm512_mul_ps(scale, x));
			if (t->beta != 0)
				v = _mm512_fmadd_ps(_mm512_set1_ps(t->beta), _mm512_maskz_loadu_ps(lowest(count), out + k), v);
			if (t->beta == 0 && k + WORD <= end)
				_mm512_storeu_ps(out + k, v);
			else
				_mm512_mask_storeu_ps(out + k, lowest(count), v);
			k += count;
		}
	}
}
