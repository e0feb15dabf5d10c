/* SPDX-License-Identifier: Apache-2.0 */
/* The format of the Deep Learning Matrix Collection (Gale, Zaharia, Young and Elsen, SC 2020): a line of
 * rows, columns and nonzeros; a line of row offsets; a line of column indices. It has no values. */
#include "io/io.h"

typedef struct parts {
	int64_t rows, cols, nnz, *offsets, *columns;
} parts;

static sl_status read_sizes(sl_text *t, const sl_read_limits *limits, parts *p) {
	SL_TRY(sli_text_integer(t, false, "the number of rows", 0, INT64_MAX / 32, &p->rows));
	SL_TRY(sli_text_integer(t, false, "the number of columns", 0, INT32_MAX, &p->cols));
	SL_TRY(sli_text_integer(t, false, "the number of entries", 0, INT64_MAX / 32, &p->nnz));
	SL_TRY(sli_check_nonzeros(t->context, t->path, limits, p->nnz));
	/* Each number takes a digit and a space. */
	if (p->rows + p->nnz > t->size / 2)
		return sli_text_fail(t, SL_ERR_FORMAT,
							 "%lld rows and %lld entries are declared; a file of %lld bytes cannot hold them",
							 (long long)p->rows, (long long)p->nnz, (long long)t->size);
	return SL_OK;
}

static sl_status read_indices(sl_text *t, parts *p) {
	for (int64_t i = 0; i <= p->rows; i++)
		SL_TRY(sli_text_integer(t, true, "a row offset", 0, p->nnz, &p->offsets[i]));
	for (int64_t k = 0; k < p->nnz; k++)
		SL_TRY(sli_text_integer(t, true, "a column index", 0, p->cols - 1, &p->columns[k]));
	SL_TRY(sli_text_token(t, true));
	if (t->token[0])
		return sli_text_fail(t, SL_ERR_FORMAT, "\"%.40s\" after the last column index", t->token);
	return SL_OK;
}

static sl_status make(sl_csr **matrix, sl_context *context, const parts *p) {
	sl_pattern *pattern;
	SL_TRY(sl_pattern_create(&pattern, context, p->rows, p->cols, p->nnz, p->offsets, SL_I64, p->columns, SL_I64));
	sl_status status = sli_csr_create_host(matrix, context, pattern, SL_F32);
	sl_pattern_release(pattern);
	if (status == SL_OK)
		for (int64_t k = 0; k < p->nnz; k++)
			((float *)(*matrix)->values)[k] = 1;
	return status;
}

sl_status sli_smtx_read(sl_csr **matrix, sl_context *context, const char *path, const sl_read_limits *limits) {
	sl_text *t;
	parts p = {0};
	void *memory = NULL;
	size_t bytes = 0;
	SL_TRY(sli_text_open(&t, context, path));
	sl_status status = read_sizes(t, limits, &p);
	if (status == SL_OK) {
		bytes = (size_t)(p.rows + 1 + p.nnz) * sizeof(int64_t);
		status = sli_allocate(context, bytes, "reading a matrix", &memory);
	}
	if (status == SL_OK) {
		p.offsets = memory;
		p.columns = p.offsets + p.rows + 1;
		status = read_indices(t, &p);
	}
	sli_text_close(t);
	if (status == SL_OK)
		status = make(matrix, context, &p);
	sli_heap_free(sli_heap(context), memory, bytes);
	return status;
}

sl_status sli_smtx_write(sl_context *context, const sl_csr *matrix, const char *path) {
	sl_writer *w;
	sl_pattern_arrays a = sli_pattern_arrays(matrix->pattern);
	SL_TRY(sli_writer_open(&w, context, path));
	sli_print(w, "%lld, %lld, %lld\n", (long long)a.rows, (long long)a.cols, (long long)a.nnz);
	for (int64_t r = 0; r <= a.rows; r++)
		sli_print(w, r ? " %lld" : "%lld", (long long)sli_index(a.row_offsets, a.offset_dtype, r));
	sli_print(w, "\n");
	for (int64_t k = 0; k < a.nnz; k++)
		sli_print(w, k ? " %d" : "%d", (int)a.col_indices[k]);
	sli_print(w, "\n");
	return sli_writer_close(w, SL_OK);
}
