/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dense matrices for tests: any dtype and order inside a guarded block, with reading, rounding and
 * indexing of the tests' own, so that the library's are compared with something else.
 */
#ifndef SL_TESTS_VIEWS_H
#define SL_TESTS_VIEWS_H

#include "support/check.h"

/* Element (r, c), in elements from data. */
static inline int64_t view_at(const sl_dense *v, int64_t r, int64_t c) {
	switch (v->order) {
	case SL_ROW_MAJOR:
		return r * v->ld + c;
	case SL_COL_MAJOR:
		return c * v->ld + r;
	case SL_COL_PANELS:
		return c / v->ld * v->rows * v->ld + r * v->ld + c % v->ld;
	default:
		return r / v->ld * v->cols * v->ld + c * v->ld + r % v->ld;
	}
}

/* The value of a 16-bit float with `fraction` bits of fraction. */
static inline double view_decode(uint16_t bits, int fraction) {
	int exponents = 15 - fraction, bias = (1 << (exponents - 1)) - 1;
	int exponent = bits >> fraction & ((1 << exponents) - 1), rest = bits & ((1 << fraction) - 1);
	double magnitude = exponent == (1 << exponents) - 1 ? (rest ? NAN : INFINITY)
					   : exponent                       ? ldexp(rest + (1 << fraction), exponent - bias - fraction)
														: ldexp(rest, 1 - bias - fraction);
	return bits & 0x8000 ? -magnitude : magnitude;
}

static inline double view_element(const void *data, sl_dtype dtype, int64_t i) {
	if (dtype == SL_F64)
		return ((const double *)data)[i];
	if (dtype == SL_F32)
		return (double)((const float *)data)[i];
	return view_decode(((const uint16_t *)data)[i], dtype == SL_BF16 ? 7 : 10);
}

static inline double view_load(const sl_dense *v, int64_t r, int64_t c) {
	return view_element(v->data, v->dtype, view_at(v, r, c));
}

/* The nearest number of a dtype, ties to even. */
static inline double view_round(sl_dtype dtype, double x) {
	if (dtype == SL_F64 || x == 0 || !isfinite(x))
		return x;
	if (dtype == SL_F32)
		return (double)(float)x;
	int digits = dtype == SL_BF16 ? 8 : 11, least = dtype == SL_BF16 ? -126 : -14, exponent;
	(void)frexp(x, &exponent);
	int unit = exponent - digits > least - digits + 1 ? exponent - digits : least - digits + 1;
	double rounded = ldexp(rint(ldexp(x, -unit)), unit);
	double most = dtype == SL_BF16 ? 0x1.fep127 : 65504;
	return fabs(rounded) > most ? copysign(INFINITY, x) : rounded;
}

/* Half the distance from 1 to the next number. */
static inline double view_eps(sl_dtype dtype) {
	return dtype == SL_F64 ? 0x1p-53 : dtype == SL_F32 ? 0x1p-24 : dtype == SL_BF16 ? 0x1p-8 : 0x1p-11;
}

/* Store a value that the dtype can hold (or a NaN). */
static inline void view_set(void *data, sl_dtype dtype, int64_t i, double x) {
	if (dtype == SL_F64) {
		((double *)data)[i] = x;
		return;
	}
	float f = (float)x;
	uint32_t bits;
	memcpy(&bits, &f, sizeof bits);
	if (dtype == SL_F32) {
		((float *)data)[i] = f;
	} else if (dtype == SL_BF16) {
		((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
	} else {
		uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
		double m = fabs(x);
		uint16_t rest = 0x7e00;
		if (isinf(x))
			rest = 0x7c00;
		else if (m < 0x1p-14)
			rest = (uint16_t)(m * 0x1p24);
		else if (!isnan(x))
			rest = (uint16_t)((bits & 0x7fffffffu) >> 13) - (112 << 10);
		((uint16_t *)data)[i] = sign | rest;
	}
}

enum { VIEW_GUARD = 64, VIEW_BYTE = 0xa5 };

/* A guarded block and the matrix in it. */
typedef struct view_block {
	sl_dense view;
	unsigned char *bytes;
	int64_t elements; /* from view.data, guards behind it left out */
} view_block;

/* Not filled: guard bytes everywhere but in the padding of panels, which is zero. */
static inline view_block view_create(sl_dtype dtype, sl_order order, int64_t rows, int64_t cols, int64_t width) {
	view_block b = {.view = sl_dense_view(NULL, dtype, rows, cols)};
	sl_dense *v = &b.view;
	v->order = order;
	v->ld = order == SL_ROW_MAJOR ? cols + 3 : order == SL_COL_MAJOR ? rows + 2 : width;
	int64_t lines = order == SL_COL_PANELS   ? (cols + width - 1) / width * rows * width
					: order == SL_ROW_PANELS ? (rows + width - 1) / width * cols * width
					: order == SL_ROW_MAJOR  ? rows * v->ld
											 : cols * v->ld;
	size_t size = sl_dtype_size(dtype), bytes = (size_t)lines * size;
	b.elements = lines;
	b.bytes = aligned_alloc(64, (2 * VIEW_GUARD + bytes + 63) / 64 * 64);
	memset(b.bytes, VIEW_BYTE, 2 * VIEW_GUARD + bytes);
	v->data = b.bytes + VIEW_GUARD;
	if (order == SL_COL_PANELS || order == SL_ROW_PANELS)
		memset(v->data, 0, bytes);
	return b;
}

/* The same with guard bytes in the padding of panels too, which whoever writes the matrix must zero. */
static inline view_block view_output(sl_dtype dtype, sl_order order, int64_t rows, int64_t cols, int64_t width) {
	view_block b = view_create(dtype, order, rows, cols, width);
	memset(b.view.data, VIEW_BYTE, (size_t)b.elements * sl_dtype_size(dtype));
	return b;
}

static inline void view_free(view_block *b) {
	free(b->bytes);
	b->bytes = NULL;
}

/* Signed values in [-1, 1) * scale of full precision, rounded to the dtype. */
static inline void view_fill(view_block *b, uint64_t seed, double scale) {
	uint64_t state = seed * 0x9E3779B97F4A7C15u + 12345;
	for (int64_t r = 0; r < b->view.rows; r++)
		for (int64_t c = 0; c < b->view.cols; c++) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			double x = ((double)(state >> 11) * 0x1p-52 - 1) * scale;
			view_set(b->view.data, b->view.dtype, view_at(&b->view, r, c), view_round(b->view.dtype, x));
		}
}

/* Whether nothing but elements was written, and the padding of panels is zero. */
static inline bool view_intact(const view_block *b) {
	const sl_dense *v = &b->view;
	size_t size = sl_dtype_size(v->dtype), bytes = (size_t)b->elements * size;
	bool panels = v->order == SL_COL_PANELS || v->order == SL_ROW_PANELS, good = true;
	unsigned char *used = calloc(1, (size_t)b->elements + 1);
	for (int64_t r = 0; r < v->rows; r++)
		for (int64_t c = 0; c < v->cols; c++)
			used[view_at(v, r, c)] = 1;
	for (int64_t i = 0; i < b->elements; i++)
		for (size_t k = 0; k < size && !used[i]; k++)
			good &= b->bytes[VIEW_GUARD + (size_t)i * size + k] == (panels ? 0 : VIEW_BYTE);
	for (size_t k = 0; k < VIEW_GUARD; k++)
		good &= b->bytes[k] == VIEW_BYTE && b->bytes[VIEW_GUARD + bytes + k] == VIEW_BYTE;
	free(used);
	return good;
}

#endif
