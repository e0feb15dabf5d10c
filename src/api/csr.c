/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "core/checked.h"
#include "core/half.h"
#include "ops/ops.h"
#include "sparse/build.h"
#include "sparse/convert.h"
#include "sparse/pattern.h"

static sl_status check_dtype(sl_context *context, sl_dtype dtype) {
	if (!sl_dtype_size(dtype) || dtype >= SL_I32)
		return sli_fail(context, SL_ERR_DTYPE, "values of dtype %s: f32, f64, bf16 or f16 is needed",
						sl_dtype_name(dtype));
	return SL_OK;
}

/* What was made on the host, brought to the context's device. */
static sl_status placed(sl_csr **matrix, sl_context *context, sl_status status) {
	if (status == SL_OK)
		status = sli_csr_upload(context, *matrix);
	if (status != SL_OK) {
		sl_csr_destroy(*matrix);
		*matrix = NULL;
	}
	return status;
}

sl_status sl_csr_create_pattern(sl_csr **matrix, sl_context *context, sl_pattern *pattern, sl_dtype dtype) {
	if (!matrix || !pattern || !context)
		return sli_fail(context, SL_ERR_NULL, "%s is null", pattern ? "matrix" : "pattern");
	*matrix = NULL;
	SL_TRY(check_dtype(context, dtype));
	return placed(matrix, context, sli_csr_create_host(matrix, context, pattern, dtype));
}

sl_status sl_csr_wrap(sl_csr **matrix, sl_context *context, sl_pattern *pattern, void *values, sl_dtype dtype,
					  sl_release_callback release, void *user) {
	if (!matrix || !pattern || !context)
		return sli_fail(context, SL_ERR_NULL, "%s is null", pattern ? "matrix" : "pattern");
	*matrix = NULL;
	if (sli_pattern_arrays(pattern).nnz && !values)
		return sli_fail(context, SL_ERR_NULL, "values is null");
	SL_TRY(check_dtype(context, dtype));
	const sl_device_state *state = sli_device(context);
	if (state->backend->check && values)
		SL_TRY(state->backend->check(state->device, values, sl_dtype_size(dtype), "values"));
	SL_TRY(sli_csr_new(matrix, context, pattern, dtype));
	(*matrix)->values = values;
	(*matrix)->device = state->backend->device;
	(*matrix)->device_index = state->host.device_index;
	(*matrix)->release = release;
	(*matrix)->release_user = user;
	return SL_OK;
}

sl_status sl_csr_convert(sl_csr **result, sl_context *context, const sl_csr *matrix, sl_dtype dtype) {
	if (!matrix)
		return sli_fail(context, SL_ERR_NULL, "matrix is null");
	if (!result || !context)
		return sli_fail(context, SL_ERR_NULL, "result is null");
	*result = NULL;
	SL_TRY(check_dtype(context, dtype));
	sl_csr host;
	SL_TRY(sli_csr_on_host(context, matrix, &host));
	sl_status status = sli_csr_create_host(result, context, matrix->pattern, dtype);
	for (int64_t k = 0; status == SL_OK && k < sli_pattern_arrays(matrix->pattern).nnz; k++)
		sli_store((*result)->values, dtype, k, sli_load(host.values, matrix->dtype, k));
	sli_csr_release_host(context, &host);
	return placed(result, context, status);
}

sl_status sl_csr_place(sl_context *context, const sl_csr *matrix, sl_device *device, int *device_index) {
	if (!matrix || !device)
		return sli_fail(context, SL_ERR_NULL, "%s is null", matrix ? "device" : "matrix");
	*device = matrix->device;
	if (device_index)
		*device_index = matrix->device_index;
	return SL_OK;
}

sl_pattern *sl_csr_pattern(const sl_csr *matrix) {
	return matrix ? matrix->pattern : NULL;
}

void *sl_csr_values(const sl_csr *matrix) {
	return matrix && sli_pattern_arrays(matrix->pattern).nnz ? matrix->values : NULL;
}

sl_dtype sl_csr_dtype(const sl_csr *matrix) {
	return matrix ? matrix->dtype : 0;
}

sl_status sl_csr_to_dense(sl_context *context, const sl_csr *matrix, sl_dense *dense) {
	if (!matrix)
		return sli_fail(context, SL_ERR_NULL, "matrix is null");
	SL_TRY(sl_dense_check(context, dense));
	sl_pattern_arrays a = sli_pattern_arrays(matrix->pattern);
	if (dense->rows != a.rows || dense->cols != a.cols)
		return sli_fail(context, SL_ERR_SHAPE, "the dense matrix is %lld x %lld; the sparse one is %lld x %lld",
						(long long)dense->rows, (long long)dense->cols, (long long)a.rows, (long long)a.cols);
	if (dense->device == SL_DEVICE_CUDA)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "a matrix is written out into host memory");
	sl_csr host;
	SL_TRY(sli_pattern_make_host(context, matrix->pattern));
	SL_TRY(sli_csr_on_host(context, matrix, &host));
	sli_csr_to_dense(&host, dense);
	sli_csr_release_host(context, &host);
	return SL_OK;
}

static sl_status take_options(sl_context *context, const sl_build_options *given, sl_dtype input, sl_build_options *o) {
	memset(o, 0, sizeof *o);
	o->struct_size = sizeof *o;
	if (given)
		SL_TRY(sli_take_struct(context, o, sizeof *o, given, "options"));
	if (o->duplicates < SL_DUPLICATES_REFUSE || o->duplicates > SL_DUPLICATES_LAST)
		return sli_fail(context, SL_ERR_ARGUMENT, "options.duplicates is %d, which is no rule", (int)o->duplicates);
	o->dtype = o->dtype ? o->dtype : input;
	return check_dtype(context, o->dtype);
}

static sl_status check_index_dtype(sl_context *context, sl_dtype dtype, const char *what) {
	if (dtype != SL_I32 && dtype != SL_I64)
		return sli_fail(context, SL_ERR_DTYPE, "%s of dtype %s: i32 or i64 is needed", what, sl_dtype_name(dtype));
	return SL_OK;
}

/* Everything about entries but their content. */
static sl_status check_entries(sl_context *context, sl_csr **matrix, const sl_entries *e) {
	int64_t total;
	if (!context || !matrix)
		return sli_fail(context, SL_ERR_NULL, "matrix is null");
	*matrix = NULL;
	if (e->rows < 0 || e->cols < 0 || e->nnz < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "%lld x %lld with %lld entries: sizes must not be negative",
						(long long)e->rows, (long long)e->cols, (long long)e->nnz);
	if (e->cols > INT32_MAX || e->rows > INT64_MAX / 16 || !sli_mul(e->rows, e->cols, &total))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld x %lld is too large: column indices are int32",
						(long long)e->rows, (long long)e->cols);
	if (e->offset_dtype)
		SL_TRY(check_index_dtype(context, e->offset_dtype, e->by_column ? "col_offsets" : "row_offsets"));
	SL_TRY(check_index_dtype(context, e->index_dtype, "indices"));
	if (e->offset_dtype && !e->offsets)
		return sli_fail(context, SL_ERR_NULL, "%s is null", e->by_column ? "col_offsets" : "row_offsets");
	if (e->nnz && !e->row_indices && (e->by_column || !e->offset_dtype))
		return sli_fail(context, SL_ERR_NULL, "row_indices is null");
	if (e->nnz && !e->col_indices && !e->by_column)
		return sli_fail(context, SL_ERR_NULL, "col_indices is null");
	return e->values ? check_dtype(context, e->value_dtype) : SL_OK;
}

static sl_status build(sl_csr **matrix, sl_context *context, const sl_entries *e, const sl_build_options *options) {
	sl_build_options o;
	sl_pattern *pattern;
	void *values;
	SL_TRY(check_entries(context, matrix, e));
	SL_TRY(take_options(context, options, e->values ? e->value_dtype : SL_F32, &o));
	SL_TRY(sli_build(&pattern, &values, o.dtype, context, e, &o));
	return placed(matrix, context, sli_csr_adopt(matrix, context, pattern, values, o.dtype));
}

sl_status sl_csr_create(sl_csr **matrix, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
						const void *row_offsets, sl_dtype offset_dtype, const void *col_indices, sl_dtype index_dtype,
						const void *values, sl_dtype value_dtype, const sl_build_options *options) {
	sl_entries e = {.rows = rows,
					.cols = cols,
					.nnz = nnz,
					.offsets = row_offsets,
					.offset_dtype = offset_dtype ? offset_dtype : SL_F32,
					.col_indices = col_indices,
					.index_dtype = index_dtype,
					.values = values,
					.value_dtype = value_dtype};
	return build(matrix, context, &e, options);
}

sl_status sl_csr_create_csc(sl_csr **matrix, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
							const void *col_offsets, sl_dtype offset_dtype, const void *row_indices,
							sl_dtype index_dtype, const void *values, sl_dtype value_dtype,
							const sl_build_options *options) {
	sl_entries e = {.rows = rows,
					.cols = cols,
					.nnz = nnz,
					.offsets = col_offsets,
					.offset_dtype = offset_dtype ? offset_dtype : SL_F32,
					.by_column = true,
					.row_indices = row_indices,
					.index_dtype = index_dtype,
					.values = values,
					.value_dtype = value_dtype};
	return build(matrix, context, &e, options);
}

sl_status sl_csr_create_coo(sl_csr **matrix, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
							const void *row_indices, const void *col_indices, sl_dtype index_dtype, const void *values,
							sl_dtype value_dtype, const sl_build_options *options) {
	sl_entries e = {.rows = rows,
					.cols = cols,
					.nnz = nnz,
					.row_indices = row_indices,
					.col_indices = col_indices,
					.index_dtype = index_dtype,
					.values = values,
					.value_dtype = value_dtype};
	/* Without entries there is nothing to read a row from, and null is allowed. */
	static const int64_t none = 0;
	if (!nnz)
		e.row_indices = e.col_indices = &none;
	return build(matrix, context, &e, options);
}

static sl_status check_dense_input(sl_context *context, sl_csr **matrix, const sl_dense *dense) {
	if (!context || !matrix)
		return sli_fail(context, SL_ERR_NULL, "matrix is null");
	*matrix = NULL;
	SL_TRY(sl_dense_check(context, dense));
	if (dense->device == SL_DEVICE_CUDA)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "a sparse matrix is built from host memory; copy it there first");
	if (dense->cols > INT32_MAX)
		return sli_fail(context, SL_ERR_OVERFLOW, "cols is %lld; column indices are int32, so at most 2147483647",
						(long long)dense->cols);
	return SL_OK;
}

sl_status sl_csr_create_dense(sl_csr **matrix, sl_context *context, const sl_dense *dense, double threshold,
							  const sl_build_options *options) {
	sl_build_options o;
	sl_pattern *pattern;
	void *values;
	SL_TRY(check_dense_input(context, matrix, dense));
	SL_TRY(take_options(context, options, dense->dtype, &o));
	if (!(threshold >= 0))
		return sli_fail(context, SL_ERR_ARGUMENT, "threshold is %g; it must not be negative", threshold);
	SL_TRY(sli_build_dense(&pattern, &values, o.dtype, context, dense, threshold, -1, &o));
	return placed(matrix, context, sli_csr_adopt(matrix, context, pattern, values, o.dtype));
}

sl_status sl_csr_create_top_k(sl_csr **matrix, sl_context *context, const sl_dense *dense, int64_t k,
							  const sl_build_options *options) {
	sl_build_options o;
	sl_pattern *pattern;
	void *values;
	double threshold = INFINITY;
	SL_TRY(check_dense_input(context, matrix, dense));
	SL_TRY(take_options(context, options, dense->dtype, &o));
	if (k < 0 || k > dense->rows * dense->cols)
		return sli_fail(context, SL_ERR_ARGUMENT, "k is %lld; the matrix has %lld entries", (long long)k,
						(long long)(dense->rows * dense->cols));
	if (k)
		SL_TRY(sli_dense_threshold(context, dense, k, &threshold));
	SL_TRY(sli_build_dense(&pattern, &values, o.dtype, context, dense, threshold, k, &o));
	return placed(matrix, context, sli_csr_adopt(matrix, context, pattern, values, o.dtype));
}

static sl_status transpose_host(sl_csr **result, sl_context *context, const sl_csr *matrix) {
	sl_pattern *pattern;
	SL_TRY(sli_pattern_transposed_copy(&pattern, context, matrix->pattern));
	sl_status status = sli_csr_create_host(result, context, pattern, matrix->dtype);
	sl_pattern_release(pattern);
	if (status == SL_OK)
		sli_permute((*result)->values, matrix->values, sl_dtype_size(matrix->dtype), matrix->pattern->permutation,
					matrix->pattern->permutation_dtype, sli_pattern_arrays(pattern).nnz);
	return status;
}

sl_status sl_csr_transpose(sl_csr **result, sl_context *context, const sl_csr *matrix) {
	sl_csr host;
	if (!result || !matrix)
		return sli_fail(context, SL_ERR_NULL, "%s is null", result ? "matrix" : "result");
	*result = NULL;
	SL_TRY(sli_csr_on_host(context, matrix, &host));
	sl_status status = transpose_host(result, context, &host);
	sli_csr_release_host(context, &host);
	return placed(result, context, status);
}

static sl_status check_finite(sl_context *context, const sl_csr *matrix) {
	sl_pattern_arrays a = sli_pattern_arrays(matrix->pattern);
	for (int64_t r = 0; r < a.rows; r++)
		for (int64_t k = sli_index(a.row_offsets, a.offset_dtype, r);
			 k < sli_index(a.row_offsets, a.offset_dtype, r + 1); k++)
			if (!isfinite(sli_load(matrix->values, matrix->dtype, k)))
				return sli_fail(context, SL_ERR_NONFINITE, "entry %lld (row %lld, column %d) is %g", (long long)k,
								(long long)r, (int)a.col_indices[k], sli_load(matrix->values, matrix->dtype, k));
	return SL_OK;
}

sl_status sl_csr_check_finite(sl_context *context, const sl_csr *matrix) {
	sl_csr host;
	if (!matrix)
		return sli_fail(context, SL_ERR_NULL, "matrix is null");
	SL_TRY(sli_pattern_make_host(context, matrix->pattern));
	SL_TRY(sli_csr_on_host(context, matrix, &host));
	sl_status status = check_finite(context, &host);
	sli_csr_release_host(context, &host);
	return status;
}

/* Outputs of the three calls below. `largest`: the largest index that will be written. */
static sl_status check_out(sl_context *context, const sl_csr *matrix, const void *first, const char *first_name,
						   const void *second, const char *second_name, sl_dtype offset_dtype, sl_dtype index_dtype,
						   int64_t largest) {
	if (!matrix)
		return sli_fail(context, SL_ERR_NULL, "matrix is null");
	SL_TRY(sli_pattern_make_host(context, matrix->pattern));
	int64_t nnz = sli_pattern_arrays(matrix->pattern).nnz;
	SL_TRY(check_index_dtype(context, offset_dtype, first_name));
	SL_TRY(check_index_dtype(context, index_dtype, second_name));
	if (!first || (nnz && !second))
		return sli_fail(context, SL_ERR_NULL, "%s is null", first ? second_name : first_name);
	if ((offset_dtype == SL_I32 && nnz > INT32_MAX) || (index_dtype == SL_I32 && largest > INT32_MAX))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld does not fit int32; ask for i64",
						(long long)(largest > INT32_MAX ? largest : nnz));
	return SL_OK;
}

static sl_status copy_values(sl_context *context, void *to, const sl_csr *matrix) {
	size_t bytes = sli_csr_bytes(matrix);
	sl_csr host;
	if (!to || !bytes)
		return SL_OK;
	SL_TRY(sli_csr_on_host(context, matrix, &host));
	memcpy(to, host.values, bytes);
	sli_csr_release_host(context, &host);
	return SL_OK;
}

sl_status sl_csr_to_csr(sl_context *context, const sl_csr *matrix, void *row_offsets, sl_dtype offset_dtype,
						void *col_indices, sl_dtype index_dtype, void *values) {
	SL_TRY(check_out(context, matrix, row_offsets, "row_offsets", col_indices, "col_indices", offset_dtype, index_dtype,
					 0));
	sl_pattern_arrays a = sli_pattern_arrays(matrix->pattern);
	sli_copy_indices(row_offsets, offset_dtype, a.row_offsets, a.offset_dtype, a.rows + 1);
	sli_copy_indices(col_indices, index_dtype, a.col_indices, SL_I32, a.nnz);
	return copy_values(context, values, matrix);
}

sl_status sl_csr_to_csc(sl_context *context, const sl_csr *matrix, void *col_offsets, sl_dtype offset_dtype,
						void *row_indices, sl_dtype index_dtype, void *values) {
	SL_TRY(check_out(context, matrix, col_offsets, "col_offsets", row_indices, "row_indices", offset_dtype, index_dtype,
					 0));
	SL_TRY(sli_pattern_make_transpose(context, matrix->pattern));
	const sl_pattern_arrays *t = &matrix->pattern->transposed;
	sli_copy_indices(col_offsets, offset_dtype, t->row_offsets, t->offset_dtype, t->rows + 1);
	sli_copy_indices(row_indices, index_dtype, t->col_indices, SL_I32, t->nnz);
	sl_csr host;
	if (!values)
		return SL_OK;
	SL_TRY(sli_csr_on_host(context, matrix, &host));
	sli_permute(values, host.values, sl_dtype_size(matrix->dtype), matrix->pattern->permutation,
				matrix->pattern->permutation_dtype, t->nnz);
	sli_csr_release_host(context, &host);
	return SL_OK;
}

sl_status sl_csr_to_coo(sl_context *context, const sl_csr *matrix, void *row_indices, void *col_indices,
						sl_dtype index_dtype, void *values) {
	if (!matrix)
		return sli_fail(context, SL_ERR_NULL, "matrix is null");
	SL_TRY(sli_pattern_make_host(context, matrix->pattern));
	sl_pattern_arrays a = sli_pattern_arrays(matrix->pattern);
	SL_TRY(check_index_dtype(context, index_dtype, "indices"));
	if (a.nnz && (!row_indices || !col_indices))
		return sli_fail(context, SL_ERR_NULL, "%s is null", row_indices ? "col_indices" : "row_indices");
	if (index_dtype == SL_I32 && a.nnz && a.rows - 1 > INT32_MAX)
		return sli_fail(context, SL_ERR_OVERFLOW, "row indices of %lld rows do not fit int32; ask for i64",
						(long long)a.rows);
	sli_expand_rows(row_indices, index_dtype, &a);
	sli_copy_indices(col_indices, index_dtype, a.col_indices, SL_I32, a.nnz);
	return copy_values(context, values, matrix);
}
