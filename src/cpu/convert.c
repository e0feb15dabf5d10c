/* SPDX-License-Identifier: Apache-2.0 */
/* Copies between orders and dtypes. */
#include "cpu/products.h"

enum { BLOCK = 16, STRIP = 64 };

typedef struct job {
	sl_cpu *cpu;
	const sl_dense *from, *to;
	sl_transpose_tile transpose; /* of BLOCK x BLOCK floats; NULL: in a loop */
} job;

/* Distance in elements between neighbouring rows and columns inside one panel. */
static void strides(const sl_dense *m, int64_t *row, int64_t *col) {
	bool across = m->order == SL_ROW_MAJOR || m->order == SL_COL_PANELS;
	*row = across ? m->ld : 1;
	*col = across ? 1 : m->ld;
}

/* The first index behind `i` at which a panel of `m` ends, at most `limit`. */
static int64_t panel_end(const sl_dense *m, sl_order order, int64_t i, int64_t limit) {
	if (m->order != order)
		return limit;
	int64_t end = (i / m->ld + 1) * m->ld;
	return end < limit ? end : limit;
}

/* Between f32 and 16 bits, along the lines of the matrix in 16 bits: converted together, spread one by one. */
static void copy_half(const sl_cpu *cpu, const sl_dense *from, const sl_dense *to, int64_t r0, int64_t r1, int64_t c0,
					  int64_t c1) {
	bool widen = to->dtype == SL_F32;
	const sl_dense *half = widen ? from : to, *whole = widen ? to : from;
	const sl_kernel *k = sli_cpu_half(cpu, half->dtype);
	int64_t hr, hc, wr, wc, h0 = sli_at(half, r0, c0), w0 = sli_at(whole, r0, c0), rows = r1 - r0, cols = c1 - c0;
	strides(half, &hr, &hc);
	strides(whole, &wr, &wc);
	bool across = hc == 1;
	int64_t lines = across ? rows : cols, n = across ? cols : rows, step = across ? wc : wr;
	float line[BLOCK];
	for (int64_t l = 0; l < lines; l++) {
		uint16_t *h = (uint16_t *)half->data + h0 + l * (across ? hr : hc);
		float *w = (float *)whole->data + w0 + l * (across ? wr : wc), *together = step == 1 ? w : line;
		for (int64_t i = 0; i < n && !widen && step != 1; i++)
			line[i] = w[i * step];
		if (widen)
			k->to_f32(h, together, n);
		else
			k->from_f32(together, h, n);
		for (int64_t i = 0; i < n && widen && step != 1; i++)
			w[i * step] = line[i];
	}
}

static void copy_block(const job *j, int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
	const sl_dense *from = j->from, *to = j->to;
	int64_t fr, fc, tr, tc, f0 = sli_at(from, r0, c0), t0 = sli_at(to, r0, c0);
	strides(from, &fr, &fc);
	strides(to, &tr, &tc);
	if (from->dtype == to->dtype && from->dtype == SL_F32) {
		const float *f = (const float *)from->data + f0;
		float *t = (float *)to->data + t0;
		bool whole = j->transpose && r1 - r0 == BLOCK && c1 - c0 == BLOCK;
		if (whole && fr == 1 && tc == 1)
			j->transpose(f, fc, t, tr);
		else if (whole && fc == 1 && tr == 1)
			j->transpose(f, fr, t, tc);
		else
			for (int64_t r = 0; r < r1 - r0; r++)
				for (int64_t c = 0; c < c1 - c0; c++)
					t[r * tr + c * tc] = f[r * fr + c * fc];
		return;
	}
	if (from->dtype == to->dtype && sl_dtype_size(from->dtype) == 2) {
		/* As bits: going through a float would quiet a NaN. */
		const uint16_t *f = (const uint16_t *)from->data + f0;
		uint16_t *t = (uint16_t *)to->data + t0;
		for (int64_t r = 0; r < r1 - r0; r++)
			for (int64_t c = 0; c < c1 - c0; c++)
				t[r * tr + c * tc] = f[r * fr + c * fc];
		return;
	}
	if ((from->dtype == SL_F32 && sl_dtype_size(to->dtype) == 2) ||
		(to->dtype == SL_F32 && sl_dtype_size(from->dtype) == 2)) {
		copy_half(j->cpu, from, to, r0, r1, c0, c1);
		return;
	}
	for (int64_t r = 0; r < r1 - r0; r++)
		for (int64_t c = 0; c < c1 - c0; c++)
			sli_store(to->data, to->dtype, t0 + r * tr + c * tc,
					  sli_load(from->data, from->dtype, f0 + r * fr + c * fc));
}

/* Rows [r0, r1), within one panel, of the columns [begin, end). */
static void copy_strip(const job *j, int64_t r0, int64_t r1, int64_t begin, int64_t end) {
	for (int64_t c0 = begin, c1; c0 < end; c0 = c1) {
		c1 = c0 + BLOCK < end ? c0 + BLOCK : end;
		c1 = panel_end(j->from, SL_COL_PANELS, c0, c1);
		c1 = panel_end(j->to, SL_COL_PANELS, c0, c1);
		copy_block(j, r0, r1, c0, c1);
	}
}

/* 64 columns at a time, so that what is written or read across lies in few pages. */
static void copy_rows(void *argument, size_t index) {
	const job *j = argument;
	int64_t rows = j->from->rows, cols = j->from->cols;
	int64_t begin = (int64_t)index * 64, end = begin + 64 < rows ? begin + 64 : rows;
	for (int64_t strip = 0; strip < cols; strip += STRIP)
		for (int64_t r0 = begin, r1; r0 < end; r0 = r1) {
			r1 = r0 + BLOCK < end ? r0 + BLOCK : end;
			r1 = panel_end(j->from, SL_ROW_PANELS, r0, r1);
			r1 = panel_end(j->to, SL_ROW_PANELS, r0, r1);
			copy_strip(j, r0, r1, strip, strip + STRIP < cols ? strip + STRIP : cols);
		}
}

void sli_cpu_zero_padding(const sl_dense *m) {
	if (m->order != SL_COL_PANELS && m->order != SL_ROW_PANELS)
		return;
	int64_t lines = m->order == SL_COL_PANELS ? m->rows : m->cols;
	int64_t used = (m->order == SL_COL_PANELS ? m->cols : m->rows) % m->ld;
	int64_t panel = (m->order == SL_COL_PANELS ? m->cols : m->rows) / m->ld;
	size_t size = sl_dtype_size(m->dtype);
	if (!used || !lines)
		return;
	char *base = (char *)m->data + (size_t)(panel * lines * m->ld) * size;
	for (int64_t l = 0; l < lines; l++)
		memset(base + (size_t)(l * m->ld + used) * size, 0, (size_t)(m->ld - used) * size);
}

void sli_cpu_convert(sl_cpu *cpu, const sl_dense *from, const sl_dense *to) {
	job j = {cpu, from, to, NULL};
	if (!from->rows || !from->cols)
		return;
#if defined(__x86_64__)
	if (cpu->isa >= SL_ISA_AVX2)
		j.transpose = cpu->isa >= SL_ISA_AVX512 ? sli_transpose_f32_avx512 : sli_transpose_f32_avx2;
#endif
	cpu->host->parallel(cpu->host->user, (size_t)sli_ceil_div(from->rows, 64), copy_rows, &j);
	sli_cpu_zero_padding(to);
}
