/* SPDX-License-Identifier: Apache-2.0 */
/* A safetensors file of one matrix, entry by entry: the three arrays grow at once, each where it will be. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/checked.h"
#include "core/half.h"
#include "io/convert.h"
#include "io/safetensors.h"

enum { OFFSETS = 0, COLUMNS, VALUES, LANES, LANE_BYTES = SL_CSR_FILE_BYTES / LANES };

static size_t size_of(const sl_csr_file *f, int lane) {
	return lane == OFFSETS ? sl_dtype_size(f->offset_dtype) : lane == COLUMNS ? 4 : sl_dtype_size(f->dtype);
}

/* Length and text of the header; `most` entries are declared. */
static sl_status make_header(sl_csr_file *f, int64_t cols, int64_t entries, char **text) {
	sl_tensor_source t[LANES] = {
		{.name = "matrix.row_offsets", .dtype = f->offset_dtype, .shape = {f->rows + 1}, .dimensions = 1},
		{.name = "matrix.col_indices", .dtype = SL_I32, .shape = {entries}, .dimensions = 1},
		{.name = "matrix.values", .dtype = f->dtype, .shape = {entries}, .dimensions = 1}};
	*text = sli_safetensors_header(sli_csr_metadata(f->rows, cols), t, LANES);
	return *text ? SL_OK : sli_fail_memory(f->context, 0, "a file's header");
}

static void put_at(sl_csr_file *f, const char *data, size_t bytes, int64_t at) {
	sl_writer *w = f->writer;
	while (bytes && w->status == SL_OK) {
		ssize_t put = pwrite(w->fd, data, bytes < (size_t)1 << 30 ? bytes : (size_t)1 << 30, at);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0) {
			bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
			w->status = sli_fail(f->context, full ? SL_ERR_NO_SPACE : SL_ERR_IO, "%s: writing failed: %s", w->path,
								 strerror(errno));
			return;
		}
		data += put;
		at += put;
		bytes -= (size_t)put;
	}
}

static void flush(sl_csr_file *f, int lane) {
	sl_csr_lane *l = &f->lane[lane];
	put_at(f, l->buffer, l->used, l->at);
	l->at += (int64_t)l->used;
	l->used = 0;
}

/* Where the next element of a lane is to be stored. */
static char *next(sl_csr_file *f, int lane) {
	sl_csr_lane *l = &f->lane[lane];
	if (l->used == LANE_BYTES)
		flush(f, lane);
	char *at = l->buffer + l->used;
	l->used += size_of(f, lane);
	return at;
}

/* Where the header ends that is written last: the number of columns may not be known before. */
static sl_status place_lanes(sl_csr_file *f) {
	char *text;
	int64_t offsets, columns, values;
	SL_TRY(make_header(f, INT32_MAX, f->most, &text));
	int64_t at = 8 + ((int64_t)strlen(text) + 7) / 8 * 8;
	free(text);
	if (!sli_mul(f->rows + 1, (int64_t)size_of(f, OFFSETS), &offsets) || !sli_mul(f->most, 4, &columns) ||
		!sli_mul(f->most, (int64_t)size_of(f, VALUES), &values) || offsets > INT64_MAX / 4 || columns > INT64_MAX / 4 ||
		values > INT64_MAX / 4)
		return sli_fail(f->context, SL_ERR_OVERFLOW, "%lld entries in %lld rows do not fit in a file",
						(long long)f->most, (long long)f->rows);
	f->begin[OFFSETS] = at;
	f->begin[COLUMNS] = at + offsets;
	f->begin[VALUES] = at + offsets + columns;
	for (int i = 0; i < LANES; i++)
		f->lane[i] = (sl_csr_lane){.buffer = f->memory + i * LANE_BYTES, .at = f->begin[i]};
	return SL_OK;
}

static void put_offset(sl_csr_file *f) {
	sli_index_set(next(f, OFFSETS), f->offset_dtype, 0, f->nnz);
}

sl_status sli_csr_file_open(sl_csr_file *f, sl_context *context, const char *path, int64_t rows, int64_t most,
							sl_dtype dtype) {
	*f = (sl_csr_file){
		.context = context, .rows = rows, .most = most, .dtype = dtype, .offset_dtype = sli_offset_dtype(most)};
	SL_TRY(sli_allocate(context, SL_CSR_FILE_BYTES, "writing a matrix", (void **)&f->memory));
	sl_status status = place_lanes(f);
	if (status == SL_OK)
		status = sli_writer_open(&f->writer, context, path);
	if (status == SL_OK)
		put_offset(f);
	else
		sli_heap_free(sli_heap(context), f->memory, SL_CSR_FILE_BYTES);
	return status;
}

sl_status sli_csr_file_put(sl_csr_file *f, int64_t row, int64_t col, double value) {
	for (; f->row < row; f->row++)
		put_offset(f);
	int32_t column = (int32_t)col;
	memcpy(next(f, COLUMNS), &column, sizeof column);
	sli_store(next(f, VALUES), f->dtype, 0, value);
	f->nnz++;
	return f->writer->status;
}

/* Values behind the columns there are, and not behind those there might have been. */
static void close_gap(sl_csr_file *f) {
	size_t size = size_of(f, VALUES);
	int64_t from = f->begin[VALUES], to = f->begin[COLUMNS] + f->nnz * 4, left = f->nnz * (int64_t)size;
	while (left && f->writer->status == SL_OK) {
		size_t n = left < LANE_BYTES ? (size_t)left : LANE_BYTES;
		sl_status status = sli_read_at(f->context, f->writer->fd, f->writer->path, from, f->memory, n);
		if (status != SL_OK) {
			f->writer->status = status;
			return;
		}
		put_at(f, f->memory, n, to);
		from += (int64_t)n;
		to += (int64_t)n;
		left -= (int64_t)n;
	}
}

static sl_status finish(sl_csr_file *f, int64_t cols) {
	sl_writer *w = f->writer;
	char *text, spaces[64];
	for (; f->row < f->rows; f->row++)
		put_offset(f);
	for (int i = 0; i < LANES; i++)
		flush(f, i);
	if (f->nnz < f->most)
		close_gap(f);
	SL_TRY(make_header(f, cols, f->nnz, &text));
	/* Spaces fill it up to where the arrays begin. */
	int64_t room = f->begin[OFFSETS] - 8, length = (int64_t)strlen(text), at = 8 + length;
	unsigned char bytes[8];
	for (int i = 0; i < 8; i++)
		bytes[i] = (unsigned char)((uint64_t)room >> 8 * i);
	memset(spaces, ' ', sizeof spaces);
	put_at(f, (const char *)bytes, 8, 0);
	put_at(f, text, (size_t)length, 8);
	for (; at < 8 + room; at += (int64_t)sizeof spaces)
		put_at(f, spaces, (size_t)(8 + room - at < (int64_t)sizeof spaces ? 8 + room - at : (int64_t)sizeof spaces),
			   at);
	free(text);
	int64_t end = f->begin[COLUMNS] + f->nnz * (int64_t)(4 + size_of(f, VALUES));
	if (w->status == SL_OK && ftruncate(w->fd, end))
		w->status = sli_fail(f->context, SL_ERR_IO, "%s: shortening failed: %s", w->path, strerror(errno));
	return w->status;
}

sl_status sli_csr_file_close(sl_csr_file *f, int64_t cols, sl_status status) {
	if (status == SL_OK)
		status = finish(f, cols);
	status = sli_writer_close(f->writer, status);
	sli_heap_free(sli_heap(f->context), f->memory, SL_CSR_FILE_BYTES);
	return status;
}
