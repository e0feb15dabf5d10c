/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix Market (Boisvert, Pozo and Remington, NISTIR 5935): coordinate and array; real, integer and
 * pattern; general, symmetric and skew-symmetric. Values are read as f64, entries that come twice are
 * added up, as SciPy does. */
#include <stdio.h>
#include <strings.h>

#include "core/checked.h"
#include "core/half.h"
#include "io/convert.h"

typedef struct header {
	bool array, pattern, symmetric, skew;
	int64_t rows, cols, lines; /* entries in the file */
} header;

static sl_status read_banner(sl_text *t, header *h) {
	static const char *const known[] = {"%%matrixmarket", "matrix"};
	for (int i = 0; i < 2; i++) {
		SL_TRY(sli_text_token(t, false));
		if (strcasecmp(t->token, known[i]))
			return sli_text_fail(t, SL_ERR_FORMAT, "\"%.40s\" where \"%%%%MatrixMarket matrix\" is needed", t->token);
	}
	SL_TRY(sli_text_token(t, false));
	h->array = !strcasecmp(t->token, "array");
	if (!h->array && strcasecmp(t->token, "coordinate"))
		return sli_text_fail(t, SL_ERR_FORMAT, "\"%.40s\" is no layout; coordinate or array is", t->token);
	SL_TRY(sli_text_token(t, false));
	h->pattern = !strcasecmp(t->token, "pattern");
	if (!h->pattern && strcasecmp(t->token, "real") && strcasecmp(t->token, "integer") &&
		strcasecmp(t->token, "double"))
		return sli_text_fail(t, SL_ERR_UNSUPPORTED,
							 "values of kind \"%.40s\" are not read; real, integer and pattern are", t->token);
	SL_TRY(sli_text_token(t, false));
	h->skew = !strcasecmp(t->token, "skew-symmetric");
	h->symmetric = h->skew || !strcasecmp(t->token, "symmetric");
	if (!h->symmetric && strcasecmp(t->token, "general"))
		return sli_text_fail(t, SL_ERR_UNSUPPORTED,
							 "symmetry \"%.40s\" is not read; general, symmetric and skew-symmetric are", t->token);
	if (h->array && (h->pattern || h->symmetric))
		return sli_text_fail(t, SL_ERR_UNSUPPORTED, "an array that is pattern or symmetric is not read");
	return SL_OK;
}

static void skip_line(sl_text *t) {
	for (int c = sli_text_next(t, true); c >= 0 && c != '\n';)
		c = sli_text_next(t, true);
}

static sl_status read_header(sl_text *t, const sl_read_limits *limits, header *h) {
	SL_TRY(read_banner(t, h));
	skip_line(t);
	int c;
	while ((c = sli_text_next(t, false)) == '%' || c == '\n')
		skip_line(t);
	SL_TRY(sli_text_integer(t, true, "the number of rows", 0, INT64_MAX / 16, &h->rows));
	SL_TRY(sli_text_integer(t, false, "the number of columns", 0, INT32_MAX, &h->cols));
	if (h->array && !sli_mul(h->rows, h->cols, &h->lines))
		return sli_text_fail(t, SL_ERR_LIMIT, "%lld x %lld values", (long long)h->rows, (long long)h->cols);
	if (!h->array)
		SL_TRY(sli_text_integer(t, false, "the number of entries", 0, INT64_MAX / 16, &h->lines));
	SL_TRY(sli_check_nonzeros(t->context, t->path, limits, h->symmetric ? 2 * h->lines : h->lines));
	/* The shortest line is "1 1" and its end, or "0" and its end. */
	if (h->lines > (t->size + 1) / (h->array ? 2 : 4))
		return sli_text_fail(t, SL_ERR_FORMAT, "%lld entries are declared; a file of %lld bytes cannot hold them",
							 (long long)h->lines, (long long)t->size);
	if (h->rows > limits->max_bytes / 8)
		return sli_text_fail(t, SL_ERR_LIMIT, "%lld rows are more than max_bytes = %lld allows", (long long)h->rows,
							 (long long)limits->max_bytes);
	if (h->symmetric && h->rows != h->cols)
		return sli_text_fail(t, SL_ERR_FORMAT, "a symmetric matrix of %lld x %lld", (long long)h->rows,
							 (long long)h->cols);
	return SL_OK;
}

/* Where entries go, one after the other. */
typedef struct target {
	sl_entry_sink put;
	void *user;
} target;

static sl_status put(const target *to, int64_t row, int64_t col, double value) {
	return to->put(to->user, row, col, value);
}

static sl_status read_entry(sl_text *t, const header *h, int64_t i, const target *to) {
	int64_t row, col;
	double value = 1;
	if (h->array) {
		SL_TRY(sli_text_number(t, true, "a value of the array", &value));
		return value != 0 ? put(to, i % h->rows, i / h->rows, value) : SL_OK;
	}
	SL_TRY(sli_text_integer(t, true, "the row", 1, h->rows, &row));
	SL_TRY(sli_text_integer(t, false, "the column", 1, h->cols, &col));
	if (!h->pattern)
		SL_TRY(sli_text_number(t, false, "the value", &value));
	if (h->symmetric && col > row)
		return sli_text_fail(t, SL_ERR_FORMAT, "row %lld, column %lld of a symmetric matrix lies above its diagonal",
							 (long long)row, (long long)col);
	if (h->skew && row == col)
		return sli_text_fail(t, SL_ERR_FORMAT, "a skew-symmetric matrix has no diagonal");
	SL_TRY(put(to, row - 1, col - 1, value));
	return h->symmetric && row != col ? put(to, col - 1, row - 1, h->skew ? -value : value) : SL_OK;
}

static sl_status read_end(sl_text *t, const header *h) {
	SL_TRY(sli_text_token(t, true));
	if (t->token[0])
		return sli_text_fail(t, SL_ERR_FORMAT, "\"%.40s\" after the last of %lld entries", t->token,
							 (long long)h->lines);
	return SL_OK;
}

typedef struct entries {
	int64_t *rows, *cols, count;
	double *values;
} entries;

static sl_status keep(void *user, int64_t row, int64_t col, double value) {
	entries *e = user;
	e->rows[e->count] = row;
	e->cols[e->count] = col;
	e->values[e->count++] = value;
	return SL_OK;
}

static sl_status read_entries(sl_text *t, const header *h, entries *e) {
	const target to = {keep, e};
	for (int64_t i = 0; i < h->lines; i++)
		SL_TRY(read_entry(t, h, i, &to));
	return read_end(t, h);
}

sl_status sli_mtx_read(sl_csr **matrix, sl_context *context, const char *path, const sl_read_limits *limits) {
	sl_text *t;
	header h = {0};
	entries e = {0};
	void *memory = NULL;
	size_t bytes = 0;
	SL_TRY(sli_text_open(&t, context, path));
	sl_status status = read_header(t, limits, &h);
	int64_t room = h.symmetric ? 2 * h.lines : h.lines;
	if (status == SL_OK) {
		bytes = (size_t)room * 24;
		status = sli_allocate(context, bytes, "reading a matrix", &memory);
	}
	if (status == SL_OK) {
		e.rows = memory;
		e.cols = e.rows + room;
		e.values = (double *)(e.cols + room);
		status = read_entries(t, &h, &e);
	}
	sli_text_close(t);
	if (status == SL_OK)
		status = sl_csr_create_coo(matrix, context, h.rows, h.cols, e.count, e.rows, e.cols, SL_I64, e.values, SL_F64,
								   &(sl_build_options){SL_BUILD_DEFAULTS, .duplicates = SL_DUPLICATES_SUM});
	sli_heap_free(sli_heap(context), memory, bytes);
	return status;
}

static sl_status stream_entries(sl_text *t, const header *h, sl_entry_reading *to) {
	enum { OFTEN = 1 << 16 };
	const target sink = {to->put, to->user};
	const sl_matrix_outline outline = {
		.rows = h->rows, .cols = h->cols, .most = h->symmetric ? 2 * h->lines : h->lines, .dtype = SL_F64};
	SL_TRY(to->begin(to->user, &outline));
	for (int64_t i = 0; i < h->lines; i++) {
		SL_TRY(read_entry(t, h, i, &sink));
		if (i % OFTEN == OFTEN - 1 && !to->progress(to->user, sli_text_place(t), t->size))
			return SL_ERR_CANCELLED;
	}
	return read_end(t, h);
}

sl_status sli_mtx_stream(sl_context *context, const char *path, const sl_read_limits *limits, sl_entry_reading *to) {
	sl_text *t;
	header h = {0};
	SL_TRY(sli_text_open(&t, context, path));
	sl_status status = read_header(t, limits, &h);
	if (status == SL_OK)
		status = stream_entries(t, &h, to);
	sli_text_close(t);
	return status;
}

sl_status sli_mtx_write(sl_context *context, const sl_csr *matrix, const char *path) {
	sl_writer *w;
	sl_pattern_arrays a = sli_pattern_arrays(matrix->pattern);
	SL_TRY(sli_writer_open(&w, context, path));
	locale_t before = sli_locale_enter();
	sli_print(w, "%%%%MatrixMarket matrix coordinate real general\n%lld %lld %lld\n", (long long)a.rows,
			  (long long)a.cols, (long long)a.nnz);
	int digits = matrix->dtype == SL_F64 ? 17 : 9;
	for (int64_t r = 0; r < a.rows; r++)
		for (int64_t k = sli_index(a.row_offsets, a.offset_dtype, r);
			 k < sli_index(a.row_offsets, a.offset_dtype, r + 1); k++)
			sli_print(w, "%lld %d %.*g\n", (long long)r + 1, (int)a.col_indices[k] + 1, digits,
					  sli_load(matrix->values, matrix->dtype, k));
	sli_locale_leave(before);
	return sli_writer_close(w, SL_OK);
}
