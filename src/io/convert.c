/* SPDX-License-Identifier: Apache-2.0 */
/* From any format to safetensors within the memory budget. A file whose entries come in order is written as it is read;
 * with the first entry that does not, it is begun anew by way of the sorter. */
#include <stdio.h>

#include "core/checked.h"
#include "core/profile.h"
#include "io/convert.h"
#include "stream/stream.h"

typedef struct conversion {
	sl_context *context;
	const char *from, *to;
	sl_dtype dtype; /* wanted; 0: as it is */
	sl_matrix_outline outline;
	sl_csr_file file;
	sl_sorter sorter;
	bool open, sorted, out_of_order, cancelled;
	int64_t row, col; /* of the entry before */
	int64_t done, total;
	double began;
} conversion;

/* Sources are f32 or f64. */
static sl_dtype dtype_of(const conversion *c, sl_dtype had) {
	return c->dtype ? c->dtype : had == SL_F64 ? SL_F64 : SL_F32;
}

/* A matrix that has to be sorted is read in the first half, and written in the second. */
static bool tell(conversion *c, int64_t done, int64_t total) {
	c->cancelled = !sli_progress_bytes(c->context, "convert", done, total, c->began);
	return !c->cancelled;
}

static bool progress(void *user, int64_t done, int64_t total) {
	conversion *c = user;
	c->total = total;
	return tell(c, done, c->sorted ? 2 * total : total);
}

static sl_status open_file(conversion *c) {
	SL_TRY(sli_csr_file_open(&c->file, c->context, c->to, c->outline.rows, c->outline.most,
							 dtype_of(c, c->outline.dtype)));
	c->open = true;
	return SL_OK;
}

/* What the budget leaves beside what is taken after this and while a file is read. */
static size_t room_for_sorting(const conversion *c) {
	enum { READER = 2 << 20, PLENTY = 256 << 20 };
	sl_stream_options options = {SL_STREAM_DEFAULTS};
	size_t left = sli_stream_available(c->context, &options), others = SL_CSR_FILE_BYTES + READER;
	size_t all = (size_t)c->outline.most < PLENTY / sizeof(sl_entry)
					 ? ((size_t)c->outline.most + 1) * 2 * sizeof(sl_entry)
					 : PLENTY;
	left = !left ? PLENTY : left > others ? left - others : 0;
	return left < all ? left : all;
}

static sl_status begin(void *user, const sl_matrix_outline *outline) {
	conversion *c = user;
	if (c->open) { /* begun anew by the reader itself */
		(void)sli_csr_file_close(&c->file, 0, SL_ERR_CANCELLED);
		c->open = false;
	}
	if (c->sorter.context)
		sli_sorter_close(&c->sorter);
	c->sorter.context = NULL;
	c->outline = *outline;
	c->row = c->col = -1;
	if (!c->sorted)
		return open_file(c);
	return sli_sorter_open(&c->sorter, c->context, c->to, room_for_sorting(c));
}

static sl_status put(void *user, int64_t row, int64_t col, double value) {
	conversion *c = user;
	if (c->sorted)
		return sli_sorter_add(&c->sorter, row, col, value);
	if (row < c->row || (row == c->row && col <= c->col)) {
		c->out_of_order = true;
		return SL_ERR_STRUCTURE;
	}
	c->row = row;
	c->col = col;
	return sli_csr_file_put(&c->file, row, col, value);
}

/* Out of the sorter. */
static sl_status put_sorted(void *user, int64_t row, int64_t col, double value) {
	enum { OFTEN = 1 << 18 };
	conversion *c = user;
	SL_TRY(sli_csr_file_put(&c->file, row, col, value));
	if (++c->done % OFTEN == 0) {
		double share = (double)c->done / (double)c->outline.most;
		if (!tell(c, c->total + (int64_t)((double)c->total * share), 2 * c->total))
			return SL_ERR_CANCELLED;
	}
	return SL_OK;
}

typedef sl_status (*sl_streamer)(sl_context *, const char *, const sl_read_limits *, sl_entry_reading *);

static sl_status run(conversion *c, sl_streamer read, const sl_read_limits *limits) {
	sl_entry_reading to = {.begin = begin, .put = put, .progress = progress, .user = c};
	sl_status status = read(c->context, c->from, limits, &to);
	int64_t cols = c->outline.cols < 0 ? to.cols : c->outline.cols;
	if (status == SL_OK && c->sorted)
		status = open_file(c);
	if (status == SL_OK && c->sorted)
		status = sli_sorter_give(&c->sorter, c->outline.rows, cols, put_sorted, c);
	if (status == SL_ERR_CANCELLED && c->cancelled)
		status = sli_fail(c->context, status, "cancelled; %s was not written", c->to);
	if (c->open)
		status = sli_csr_file_close(&c->file, cols, status);
	c->open = false;
	if (c->sorter.context)
		sli_sorter_close(&c->sorter);
	c->sorter.context = NULL;
	return status;
}

/* Formats that are small or seldom are read whole. */
static sl_status by_memory(conversion *c, sl_format format, const sl_read_limits *limits) {
	sl_csr *matrix, *other = NULL;
	SL_TRY(sli_csr_read(&matrix, c->context, c->from, format, limits));
	sl_status status = SL_OK;
	if (!tell(c, 0, 2))
		status = sli_fail(c->context, SL_ERR_CANCELLED, "cancelled before %s was written", c->to);
	sl_dtype dtype = dtype_of(c, matrix->dtype);
	if (status == SL_OK && dtype != matrix->dtype)
		status = sl_csr_convert(&other, c->context, matrix, dtype);
	if (status == SL_OK)
		status = sli_csr_write(c->context, other ? other : matrix, c->to, SL_FORMAT_SAFETENSORS);
	if (status == SL_OK)
		(void)tell(c, 2, 2);
	sl_csr_destroy(matrix);
	sl_csr_destroy(other);
	return status;
}

sl_status sli_convert_file(sl_context *context, const char *from, sl_format format, sl_dtype dtype,
						   const sl_read_limits *limits, const char *to) {
	conversion c = {.context = context, .from = from, .to = to, .dtype = dtype, .began = sli_seconds()};
	if (format == SL_FORMAT_AUTO)
		SL_TRY(sli_detect(context, from, true, &format));
	sl_streamer read = format == SL_FORMAT_NPZ             ? sli_npz_stream
					   : format == SL_FORMAT_MATRIX_MARKET ? sli_mtx_stream
					   : format == SL_FORMAT_SVMLIGHT      ? sli_svmlight_stream
														   : NULL;
	if (!read)
		return by_memory(&c, format, limits);
	sl_status status = run(&c, read, limits);
	if (c.out_of_order) {
		c.sorted = true;
		status = run(&c, read, limits);
	}
	if (status == SL_OK)
		(void)tell(&c, c.total, c.total);
	return status;
}
