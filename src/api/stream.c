/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "core/profile.h"
#include "api/products.h"
#include "io/convert.h"
#include "io/safetensors.h"
#include "stream/stream.h"

static sl_status check_dtype(sl_context *context, sl_dtype dtype, const char *what) {
	if (dtype != SL_F32 && dtype != SL_F64)
		return sli_fail(context, SL_ERR_DTYPE, "%s is %s; streamed matrices are f32 or f64", what,
						sl_dtype_name(dtype));
	return SL_OK;
}

static sl_status open_file(sl_source *s, sl_context *context, const sl_csr_places *p) {
	int error = s->disk->open(s->disk->user, s->path, SL_OPEN_READ, true, &s->files[0]);
	if (error)
		return sli_fail(context, SL_ERR_IO, "%s could not be opened: %s", s->path, strerror(error));
	s->rows = p->rows;
	s->cols = p->cols;
	s->nnz = p->columns.count;
	s->dtype = p->values.dtype;
	s->offset_dtype = p->offsets.dtype;
	s->offsets = (sl_place){.file = s->files[0], .at = p->offsets.at, .name = "row offsets"};
	s->columns = (sl_place){.file = s->files[0], .at = p->columns.at, .name = "columns"};
	s->values = (sl_place){.file = s->files[0], .at = p->values.at, .name = "values"};
	return SL_OK;
}

sl_status sl_source_open(sl_source **source, sl_context *context, const char *path, const sl_read_limits *limits) {
	sl_read_limits full;
	sl_format format;
	sl_csr_places places = {0};
	if (!context)
		return SL_ERR_NULL;
	if (!source || !path)
		return sli_fail(context, SL_ERR_NULL, "%s is null", source ? "path" : "source");
	*source = NULL;
	SL_TRY(sli_read_limits(context, limits, &full));
	SL_TRY(sli_detect(context, path, true, &format));
	if (format != SL_FORMAT_SAFETENSORS)
		return sli_fail(context, SL_ERR_UNSUPPORTED,
						"%s: only safetensors is read where it lies; convert it once: sl_convert_file(), or "
						"sparselayer convert",
						path);
	SL_TRY(sli_safetensors_places(context, path, &full, &places));
	SL_TRY(check_dtype(context, places.values.dtype, path));
	SL_TRY(sli_source_new(source, context, path));
	sl_status status = open_file(*source, context, &places);
	if (status != SL_OK) {
		sli_source_free(*source);
		*source = NULL;
	}
	return status;
}

sl_status sl_source_create_csr(sl_source **source, sl_context *context, sl_csr *matrix) {
	if (!context)
		return SL_ERR_NULL;
	if (!source || !matrix)
		return sli_fail(context, SL_ERR_NULL, "%s is null", source ? "matrix" : "source");
	*source = NULL;
	SL_TRY(check_dtype(context, matrix->dtype, "matrix"));
	SL_TRY(sli_pattern_make_host(context, matrix->pattern));
	SL_TRY(sli_source_new(source, context, NULL));
	sl_source *s = *source;
	sl_pattern_arrays a = sli_pattern_arrays(matrix->pattern);
	s->matrix = matrix;
	sl_pattern_retain(matrix->pattern);
	s->rows = a.rows;
	s->cols = a.cols;
	s->nnz = a.nnz;
	s->dtype = matrix->dtype;
	s->offset_dtype = a.offset_dtype;
	/* An empty matrix has no arrays, but is in memory all the same. */
	s->offsets = (sl_place){.memory = a.row_offsets, .name = "row offsets"};
	s->columns = (sl_place){.memory = a.nnz ? (const void *)a.col_indices : a.row_offsets, .name = "columns"};
	s->values = (sl_place){.memory = a.nnz ? matrix->values : a.row_offsets, .name = "values"};
	return SL_OK;
}

sl_status sl_source_create_callback(sl_source **source, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
									sl_dtype dtype, sl_csr_rows_callback read, void *user) {
	if (!context)
		return SL_ERR_NULL;
	if (!source || !read)
		return sli_fail(context, SL_ERR_NULL, "%s is null", source ? "read" : "source");
	*source = NULL;
	if (rows < 0 || cols < 0 || cols > INT32_MAX || nnz < 0)
		return sli_fail(context, SL_ERR_ARGUMENT,
						"rows %lld, cols %lld, nnz %lld: none may be negative, and cols at most 2^31 - 1",
						(long long)rows, (long long)cols, (long long)nnz);
	SL_TRY(check_dtype(context, dtype, "dtype"));
	SL_TRY(sli_source_new(source, context, NULL));
	sl_source *s = *source;
	s->rows = rows;
	s->cols = cols;
	s->nnz = nnz;
	s->dtype = dtype;
	s->offset_dtype = SL_I32;
	s->read = read;
	s->user = user;
	return SL_OK;
}

sl_status sl_convert_file(sl_context *context, const char *from, const char *to, const sl_convert_options *options) {
	sl_convert_options o = {SL_CONVERT_DEFAULTS};
	sl_read_limits limits;
	if (!context)
		return SL_ERR_NULL;
	if (!from || !to)
		return sli_fail(context, SL_ERR_NULL, "%s is null", from ? "to" : "from");
	if (options)
		SL_TRY(sli_take_struct(context, &o, sizeof o, options, "options"));
	if (o.dtype)
		SL_TRY(check_dtype(context, o.dtype, "options.dtype"));
	SL_TRY(sli_read_limits(context, o.limits, &limits));
	return sli_convert_file(context, from, o.format, o.dtype, &limits, to);
}

sl_status sl_source_convert(sl_context *context, const char *from, sl_format format, const sl_read_limits *limits,
							const char *to) {
	return sl_convert_file(context, from, to,
						   &(sl_convert_options){SL_CONVERT_DEFAULTS, .format = format, .limits = limits});
}

void sl_source_destroy(sl_source *source) {
	sli_source_free(source);
}

sl_status sl_source_get_info(sl_context *context, const sl_source *source, sl_source_info *info) {
	if (!context)
		return SL_ERR_NULL;
	if (!source)
		return sli_fail(context, SL_ERR_NULL, "source is null");
	sl_source_info own = {.rows = source->rows,
						  .cols = source->cols,
						  .nnz = source->nnz,
						  .dtype = source->dtype,
						  .in_memory = source->offsets.memory != NULL};
	own.direct = source->columns.file && source->disk->is_direct(source->disk->user, source->columns.file);
	return sli_give_struct(context, info, &own, sizeof own, "info");
}

static sl_status take_options(sl_context *context, const sl_stream_options *given, sl_stream_options *o,
							  sl_stream_report *report) {
	*o = (sl_stream_options){SL_STREAM_DEFAULTS};
	*report = (sl_stream_report){.struct_size = sizeof *report};
	if (given)
		SL_TRY(sli_take_struct(context, o, sizeof *o, given, "options"));
	if (o->slots && (o->slots < 2 || o->slots > SL_STREAM_SLOTS))
		return sli_fail(context, SL_ERR_ARGUMENT, "slots is %d; it is 2 to %d", o->slots, SL_STREAM_SLOTS);
	if (o->events && o->event_capacity < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "event_capacity is %lld; it must not be negative",
						(long long)o->event_capacity);
	return SL_OK;
}

static sl_status give_report(sl_context *context, sl_status status, sl_stream_report *report,
							 const sl_stream_report *own) {
	if (!report || status != SL_OK)
		return status;
	return sli_give_struct(context, report, own, sizeof *own, "report");
}

/* Views, shapes and dtypes of a product op(A) B = C. */
static sl_status check_product(sl_context *context, int64_t m, int64_t k, sl_dtype dtype, const sl_dense *B,
							   const sl_dense *C) {
	SL_TRY(sli_check_dense(context, B, "B"));
	SL_TRY(sli_check_dense(context, C, "C"));
	if (B->rows != k || C->rows != m || B->cols != C->cols)
		return sli_fail(context, SL_ERR_SHAPE, "op(A) is %lldx%lld, B %lldx%lld and C %lldx%lld; they do not meet",
						(long long)m, (long long)k, (long long)B->rows, (long long)B->cols, (long long)C->rows,
						(long long)C->cols);
	if (B->dtype != dtype || C->dtype != dtype)
		return sli_fail(context, SL_ERR_DTYPE, "A is %s, B %s and C %s; they must be the same", sl_dtype_name(dtype),
						sl_dtype_name(B->dtype), sl_dtype_name(C->dtype));
	if (sli_overlap(B, C))
		return sli_fail(context, SL_ERR_ALIAS, "C overlaps B");
	return SL_OK;
}

sl_status sl_stream_spmm(sl_context *context, sl_transpose transpose, double alpha, sl_source *A, const sl_dense *B,
						 double beta, sl_dense *C, const sl_epilogue *given, const sl_stream_options *options,
						 sl_stream_report *report) {
	sl_stream_options o;
	sl_stream_report own;
	sl_epilogue epilogue;
	if (!context)
		return SL_ERR_NULL;
	if (!A)
		return sli_fail(context, SL_ERR_NULL, "A is null");
	if (transpose != SL_NO_TRANSPOSE && transpose != SL_TRANSPOSE)
		return sli_fail(context, SL_ERR_ARGUMENT, "transpose is %d; it is 0 or 1", (int)transpose);
	SL_TRY(take_options(context, options, &o, &own));
	SL_TRY(check_product(context, transpose ? A->cols : A->rows, transpose ? A->rows : A->cols, A->dtype, B, C));
	SL_TRY(sli_check_epilogue(context, given, C, B, &epilogue, true));
	sl_status status;
	if (!transpose) {
		status = sli_stream_spmm(context, alpha, A, B, beta, C, &epilogue, 0, &o, &own);
	} else {
		if (epilogue.bias || epilogue.activation != SL_IDENTITY || epilogue.pre_activation)
			return sli_fail(context, SL_ERR_UNSUPPORTED, "a transposed streamed product has no epilogue");
		sl_stream_backward what = {.alpha = alpha, .beta = beta, .dz = *B, .dx = *C};
		status = sli_stream_backward(context, A, &what, &o, &own);
	}
	return give_report(context, status, report, &own);
}

sl_status sl_stream_sddmm(sl_context *context, double alpha, const sl_dense *A, const sl_dense *B, sl_source *S,
						  void *values, const sl_stream_options *options, sl_stream_report *report) {
	sl_stream_options o;
	sl_stream_report own;
	if (!context)
		return SL_ERR_NULL;
	if (!S || (!values && S->nnz))
		return sli_fail(context, SL_ERR_NULL, "%s is null", S ? "values" : "S");
	SL_TRY(take_options(context, options, &o, &own));
	SL_TRY(sli_check_dense(context, A, "A"));
	SL_TRY(sli_check_dense(context, B, "B"));
	if (A->cols != B->rows || A->rows != S->rows || B->cols != S->cols)
		return sli_fail(context, SL_ERR_SHAPE,
						"A is %lldx%lld, B %lldx%lld and S %lldx%lld; they must be [m, k], [k, n] and [m, n]",
						(long long)A->rows, (long long)A->cols, (long long)B->rows, (long long)B->cols,
						(long long)S->rows, (long long)S->cols);
	if (A->dtype != S->dtype || B->dtype != S->dtype)
		return sli_fail(context, SL_ERR_DTYPE, "A is %s, B %s and S %s; they must be the same", sl_dtype_name(A->dtype),
						sl_dtype_name(B->dtype), sl_dtype_name(S->dtype));
	sl_stream_backward what = {.alpha = alpha, .dz = *A, .x = sl_dense_transposed(*B), .values_out = values};
	if (!S->nnz)
		return give_report(context, SL_OK, report, &own);
	sl_status status = sli_stream_backward(context, S, &what, &o, &own);
	return give_report(context, status, report, &own);
}
