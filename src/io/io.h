/* SPDX-License-Identifier: Apache-2.0 */
/* What the formats share. */
#ifndef SL_IO_IO_H
#define SL_IO_IO_H

#include <locale.h>

#include <sparselayer/stream.h>

#include "core/context.h"
#include "train/optimizer.h"

/* Deflate cannot shrink more than this. */
enum { SL_MOST_COMPRESSION = 1032 };

/* Limits with defaults in place of zeros; `given` may be NULL. */
sl_status sli_read_limits(sl_context *context, const sl_read_limits *given, sl_read_limits *limits);
/* Open a file for reading: its descriptor and size. A directory or device is refused. */
sl_status sli_open_read(sl_context *context, const char *path, int *fd, int64_t *size);
/* Exactly `bytes` from `offset`; a file that ends before is SL_ERR_FORMAT. */
sl_status sli_read_at(sl_context *context, int fd, const char *path, int64_t offset, void *to, size_t bytes);
/* SL_ERR_LIMIT where a file declares more entries than allowed. */
sl_status sli_check_nonzeros(sl_context *context, const char *path, const sl_read_limits *limits, int64_t nnz);

/*
 * A file being written: bytes go to a temporary file beside it; a commit syncs it and renames it over
 * the old one, which until then stays as it is. Errors are kept: writing goes on doing nothing, and the
 * commit reports the first.
 */
typedef struct sl_writer {
	sl_context *context;
	char *path, *temporary; /* heap's */
	size_t path_bytes, temporary_bytes;
	int fd, mode; /* permissions of the old file; -1: there is none */
	sl_status status;
	size_t used;
	char buffer[1 << 15];
} sl_writer;
sl_status sli_writer_open(sl_writer **writer, sl_context *context, const char *path);
void sli_write(sl_writer *writer, const void *data, size_t bytes);
void sli_print(sl_writer *writer, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* After a library has put another file in the temporary file's place. */
sl_status sli_writer_reopen(sl_writer *writer);
/* Commit if `status` and everything before is SL_OK, else remove the temporary file. Frees the writer. */
sl_status sli_writer_close(sl_writer *writer, sl_status status);

/* The C locale for this thread, whatever the program's: numbers have a point. Leave with what enter
 * returned. */
locale_t sli_locale_enter(void);
void sli_locale_leave(locale_t before);

/* A text file, a token at a time, in the C locale. */
typedef struct sl_text {
	sl_context *context;
	const char *path;
	int fd;
	int64_t size, line; /* counted from 1 */
	int64_t passed; /* bytes before the buffer's */
	size_t at, filled;
	bool failed;
	locale_t number_locale; /* the caller's, put back on closing */
	char token[128];
	char buffer[1 << 14];
} sl_text;
/* Opens the file too; `text` is the heap's. */
sl_status sli_text_open(sl_text **text, sl_context *context, const char *path);
void sli_text_close(sl_text *text);
/* The next character, -1 at the end. `take`: step over it. */
int sli_text_next(sl_text *text, bool take);
/* Skip spaces, and line ends where `lines` says so; then a token up to the next space, comma or line
 * end. An empty token: there is none before the line's or file's end. */
sl_status sli_text_token(sl_text *text, bool lines);
/* A whole number within [least, most]; `what` goes into messages. */
sl_status sli_text_integer(sl_text *text, bool lines, const char *what, int64_t least, int64_t most, int64_t *value);
sl_status sli_text_number(sl_text *text, bool lines, const char *what, double *value);
/* The byte that the next character is. */
static inline int64_t sli_text_place(const sl_text *text) {
	return text->passed + (int64_t)text->at;
}
/* A message that names file and line. */
sl_status sli_text_fail(sl_text *text, sl_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The rest of the line. A line longer than `size` is refused. */
sl_status sli_text_line(sl_text *text, char *line, size_t size);

/* One function a format. */
sl_status sli_idx_read(sl_context *context, const char *path, const sl_read_limits *limits, sl_idx *array);
void sli_idx_free(sl_heap *heap, sl_idx *array);
sl_status sli_mtx_read(sl_csr **matrix, sl_context *context, const char *path, const sl_read_limits *limits);
sl_status sli_mtx_write(sl_context *context, const sl_csr *matrix, const char *path);
sl_status sli_smtx_read(sl_csr **matrix, sl_context *context, const char *path, const sl_read_limits *limits);
sl_status sli_smtx_write(sl_context *context, const sl_csr *matrix, const char *path);
sl_status sli_npz_read(sl_csr **matrix, sl_context *context, const char *path, const sl_read_limits *limits);
sl_status sli_npz_write(sl_context *context, const sl_csr *matrix, const char *path);
sl_status sli_safetensors_read_csr(sl_csr **matrix, sl_context *context, const char *path,
								   const sl_read_limits *limits);
sl_status sli_safetensors_write_csr(sl_context *context, const sl_csr *matrix, const char *path);

/* Which format a file is in: by its first bytes, else by its name. */
sl_status sli_detect(sl_context *context, const char *path, bool exists, sl_format *format);
sl_status sli_csr_read(sl_csr **matrix, sl_context *context, const char *path, sl_format format,
					   const sl_read_limits *limits);
sl_status sli_csr_write(sl_context *context, const sl_csr *matrix, const char *path, sl_format format);

/* Streamed layers are gathered from their stores. */
sl_status sli_model_save(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
						 const sl_checkpoint *checkpoint, const char *path);
/* Streamed layers stay where they are: the file names their stores. */
sl_status sli_model_commit(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
						   const sl_checkpoint *checkpoint, const char *path);
/* Layers of more than so many weights are left in the file. */
typedef struct sl_model_reading {
	int64_t above;
	sl_stream_options stream;
} sl_model_reading;
/* `how` NULL: all in memory. */
sl_status sli_model_load(sl_model **model, sl_optimizer **optimizer, sl_checkpoint *checkpoint, sl_context *context,
						 const char *path, const sl_read_limits *limits, const sl_model_reading *how);

#endif
