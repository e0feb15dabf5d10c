/* SPDX-License-Identifier: Apache-2.0 */
/* Matrices from file to file, a piece at a time: entries come from a reader in whatever order the format has them,
 * are sorted where that is not the one of rows and columns, and go to a safetensors file. */
#ifndef SL_IO_CONVERT_H
#define SL_IO_CONVERT_H

#include "io/io.h"

/* One entry after the other. Anything but SL_OK ends the reading, without another message. */
typedef sl_status (*sl_entry_sink)(void *user, int64_t row, int64_t col, double value);
/* What a reader knows before its first entry. */
typedef struct sl_matrix_outline {
	int64_t rows, cols, most; /* most: entries, at most. cols -1: not before the end */
	sl_dtype dtype;           /* of the values as the format has them */
} sl_matrix_outline;
/* A reading under way: `begin` is told the outline before the first entry. */
typedef struct sl_entry_reading {
	sl_status (*begin)(void *user, const sl_matrix_outline *outline);
	sl_entry_sink put;
	/* Bytes of the file that were read; false: cancel. */
	bool (*progress)(void *user, int64_t done, int64_t total);
	void *user;
	int64_t cols; /* what the reader found out at the end where the outline did not say */
} sl_entry_reading;
sl_status sli_mtx_stream(sl_context *context, const char *path, const sl_read_limits *limits, sl_entry_reading *to);
sl_status sli_npz_stream(sl_context *context, const char *path, const sl_read_limits *limits, sl_entry_reading *to);
sl_status sli_svmlight_stream(sl_context *context, const char *path, const sl_read_limits *limits,
							  sl_entry_reading *to);

/* The order of entries, kept by way of a temporary file where they do not fit in `bytes`. */
typedef struct sl_entry {
	int64_t row;
	double value;
	int32_t col, unused;
} sl_entry;
typedef struct sl_sorter {
	sl_context *context;
	const char *path; /* beside which the temporary file is; for messages too */
	int64_t rows, cols;
	int fd; /* -1: none yet */
	int64_t capacity, held, filed, end;
	sl_entry *room, *scratch; /* `capacity` each, in one block */
	size_t bytes;
	int64_t written; /* bytes, to the temporary file, for progress and tests */
} sl_sorter;
sl_status sli_sorter_open(sl_sorter *sorter, sl_context *context, const char *path, size_t bytes);
sl_status sli_sorter_add(sl_sorter *sorter, int64_t row, int64_t col, double value);
/* All entries by row and column, those of one place added up in the order they came in. */
sl_status sli_sorter_give(sl_sorter *sorter, int64_t rows, int64_t cols, sl_entry_sink put, void *user);
void sli_sorter_close(sl_sorter *sorter);
enum { SL_SORTER_LEAST = 1 << 16 }; /* bytes */

/* A safetensors file of one matrix, written entry by entry in order. */
typedef struct sl_csr_lane {
	char *buffer;
	size_t used;
	int64_t at; /* of the buffer, in the file */
} sl_csr_lane;
typedef struct sl_csr_file {
	sl_context *context;
	sl_writer *writer;
	int64_t rows, most, nnz, row;
	sl_dtype dtype, offset_dtype;
	sl_csr_lane lane[3]; /* offsets, columns, values */
	int64_t begin[3];
	char *memory;
} sl_csr_file;
/* Room for at most `most` entries; where there are fewer, the file is shortened. */
sl_status sli_csr_file_open(sl_csr_file *file, sl_context *context, const char *path, int64_t rows, int64_t most,
							sl_dtype dtype);
sl_status sli_csr_file_put(sl_csr_file *file, int64_t row, int64_t col, double value);
/* Commits the file if `status` is SL_OK, else removes it. */
sl_status sli_csr_file_close(sl_csr_file *file, int64_t cols, sl_status status);
enum { SL_CSR_FILE_BYTES = 3 << 18 };

/* A whole conversion to safetensors; `dtype` 0: that of the values. */
sl_status sli_convert_file(sl_context *context, const char *from, sl_format format, sl_dtype dtype,
						   const sl_read_limits *limits, const char *to);

#endif
