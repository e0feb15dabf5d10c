/* SPDX-License-Identifier: Apache-2.0 */
#include "core/checked.h"
#include "ops/spgemm.h"

static sl_status check_dtype(sl_context *context, const sl_csr *matrix, const char *name, sl_dtype dtype) {
	if (matrix->dtype != SL_F32 && matrix->dtype != SL_F64)
		return sli_fail(context, SL_ERR_DTYPE, "spgemm: %s is %s; it takes f32 or f64", name,
						sl_dtype_name(matrix->dtype));
	if (matrix->dtype != dtype)
		return sli_fail(context, SL_ERR_DTYPE, "spgemm: %s is %s beside %s; all operands must have one dtype", name,
						sl_dtype_name(matrix->dtype), sl_dtype_name(dtype));
	return SL_OK;
}

static sl_status check_factors(sl_context *context, const sl_csr *A, const sl_csr *B) {
	if (!A || !B)
		return sli_fail(context, SL_ERR_NULL, "%s is null", A ? "B" : "A");
	if (sl_context_device(context) != SL_DEVICE_CPU)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "spgemm runs on the cpu so far");
	SL_TRY(sli_pattern_make_host(context, A->pattern));
	SL_TRY(sli_pattern_make_host(context, B->pattern));
	sl_pattern_arrays a = sli_pattern_arrays(A->pattern), b = sli_pattern_arrays(B->pattern);
	if (a.cols != b.rows)
		return sli_fail(context, SL_ERR_SHAPE, "A is %lldx%lld, so B must have %lld rows, not %lld", (long long)a.rows,
						(long long)a.cols, (long long)a.cols, (long long)b.rows);
	SL_TRY(check_dtype(context, A, "A", A->dtype));
	return check_dtype(context, B, "B", A->dtype);
}

static sl_status check_shape(sl_context *context, const sl_csr *A, const sl_csr *B, int64_t rows, int64_t cols,
							 const char *name) {
	sl_pattern_arrays a = sli_pattern_arrays(A->pattern), b = sli_pattern_arrays(B->pattern);
	if (rows != a.rows || cols != b.cols)
		return sli_fail(context, SL_ERR_SHAPE, "%s is %lldx%lld; A * B is %lldx%lld", name, (long long)rows,
						(long long)cols, (long long)a.rows, (long long)b.cols);
	return SL_OK;
}

static sl_status check_matrix(sl_context *context, const sl_csr *A, const sl_csr *B, const sl_csr *C,
							  const char *name) {
	if (!C)
		return sli_fail(context, SL_ERR_NULL, "%s is null", name);
	SL_TRY(sli_pattern_make_host(context, C->pattern));
	sl_pattern_arrays c = sli_pattern_arrays(C->pattern);
	SL_TRY(check_shape(context, A, B, c.rows, c.cols, name));
	return check_dtype(context, C, name, A->dtype);
}

static sl_status check_dense(sl_context *context, const sl_csr *A, const sl_csr *B, const sl_dense *C,
							 const char *name) {
	SL_TRY(sli_check_dense(context, C, name));
	if (C->dtype != A->dtype)
		return sli_fail(context, SL_ERR_DTYPE, "spgemm: %s is %s beside %s; all operands must have one dtype", name,
						sl_dtype_name(C->dtype), sl_dtype_name(A->dtype));
	return check_shape(context, A, B, C->rows, C->cols, name);
}

/* Values that are written must be nobody else's. */
static sl_status check_apart(sl_context *context, const void *values, int64_t count, const sl_csr *other,
							 const char *name, const char *other_name) {
	if (!other)
		return SL_OK;
	sl_dense a = sl_dense_view(values, other->dtype, 1, count);
	sl_dense b = sl_dense_view(other->values, other->dtype, 1, sli_pattern_arrays(other->pattern).nnz);
	if (sli_overlap(&a, &b))
		return sli_fail(context, SL_ERR_ALIAS, "%s's values overlap %s's", name, other_name);
	return SL_OK;
}

static int64_t count_of(const sl_csr *matrix) {
	return sli_pattern_arrays(matrix->pattern).nnz;
}

SL_API sl_status sl_spgemm(sl_csr **C, sl_context *context, double alpha, const sl_csr *A, const sl_csr *B) {
	if (C)
		*C = NULL;
	if (!context)
		return SL_ERR_NULL;
	if (!C)
		return sli_fail(context, SL_ERR_NULL, "C is null");
	SL_TRY(check_factors(context, A, B));
	return sli_spgemm(C, context, alpha, A, B);
}

SL_API sl_status sl_spgemm_values(sl_context *context, double alpha, const sl_csr *A, const sl_csr *B, double beta,
								  sl_csr *C) {
	if (!context)
		return SL_ERR_NULL;
	SL_TRY(check_factors(context, A, B));
	SL_TRY(check_matrix(context, A, B, C, "C"));
	SL_TRY(check_apart(context, C->values, count_of(C), A, "C", "A"));
	SL_TRY(check_apart(context, C->values, count_of(C), B, "C", "B"));
	return sli_spgemm_values(context, alpha, A, B, beta, C);
}

/* A view as row-major: itself, or scratch with its content where that is read. */
static sl_status row_major(sl_context *context, const sl_dense *view, bool read, sl_dense *rows) {
	*rows = *view;
	if (view->order == SL_ROW_MAJOR)
		return SL_OK;
	size_t bytes;
	*rows = sl_dense_view(NULL, view->dtype, view->rows, view->cols);
	if (!sli_span(rows, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lldx%lld does not fit in memory", (long long)view->rows,
						(long long)view->cols);
	SL_TRY(sli_arena_take(context, bytes, &rows->data));
	return read ? sli_convert(context, view, rows) : SL_OK;
}

SL_API sl_status sl_spgemm_dense(sl_context *context, double alpha, const sl_csr *A, const sl_csr *B, double beta,
								 sl_dense *C) {
	if (!context)
		return SL_ERR_NULL;
	SL_TRY(check_factors(context, A, B));
	SL_TRY(check_dense(context, A, B, C, "C"));
	sl_dense values[] = {sl_dense_view(A->values, A->dtype, 1, count_of(A)),
						 sl_dense_view(B->values, B->dtype, 1, count_of(B))};
	for (int i = 0; i < 2; i++)
		if (sli_overlap(C, &values[i]))
			return sli_fail(context, SL_ERR_ALIAS, "C overlaps %s's values", i ? "B" : "A");
	sl_dense rows;
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = row_major(context, C, beta != 0, &rows);
	if (status == SL_OK)
		status = sli_spgemm_dense(context, alpha, A, B, beta, &rows);
	if (status == SL_OK && C->order != SL_ROW_MAJOR)
		status = sli_convert(context, &rows, C);
	sli_arena_reset(context, mark);
	return status;
}

static sl_status check_gradient(sl_context *context, const sl_csr *of, const sl_csr *gradient, const char *name) {
	if (!gradient)
		return SL_OK;
	if (gradient->pattern != of->pattern)
		return sli_fail(context, SL_ERR_ARGUMENT, "d%s must share %s's pattern: make it with sl_csr_create_pattern()",
						name, name);
	return check_dtype(context, gradient, name, of->dtype);
}

static sl_status check_gradients(sl_context *context, const sl_csr *A, const sl_csr *B, const sl_csr *dC,
								 const sl_csr *dA, const sl_csr *dB) {
	SL_TRY(check_gradient(context, A, dA, "A"));
	SL_TRY(check_gradient(context, B, dB, "B"));
	const sl_csr *inputs[] = {A, B, dC, dB};
	static const char *const names[] = {"A", "B", "dC", "dB"};
	for (int i = 0; i < 4; i++) {
		if (dA)
			SL_TRY(check_apart(context, dA->values, count_of(dA), inputs[i], "dA", names[i]));
		if (dB && i < 3)
			SL_TRY(check_apart(context, dB->values, count_of(dB), inputs[i], "dB", names[i]));
	}
	return SL_OK;
}

SL_API sl_status sl_spgemm_backward(sl_context *context, double alpha, const sl_csr *A, const sl_csr *B,
									const sl_csr *dC, double beta, sl_csr *dA, sl_csr *dB) {
	if (!context)
		return SL_ERR_NULL;
	SL_TRY(check_factors(context, A, B));
	SL_TRY(check_matrix(context, A, B, dC, "dC"));
	SL_TRY(check_gradients(context, A, B, dC, dA, dB));
	return sli_spgemm_backward(context, alpha, A, B, dC, NULL, beta, dA, dB);
}

SL_API sl_status sl_spgemm_dense_backward(sl_context *context, double alpha, const sl_csr *A, const sl_csr *B,
										  const sl_dense *dC, double beta, sl_csr *dA, sl_csr *dB) {
	if (!context)
		return SL_ERR_NULL;
	SL_TRY(check_factors(context, A, B));
	SL_TRY(check_dense(context, A, B, dC, "dC"));
	SL_TRY(check_gradients(context, A, B, NULL, dA, dB));
	sl_dense rows;
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = row_major(context, dC, true, &rows);
	if (status == SL_OK)
		status = sli_spgemm_backward(context, alpha, A, B, NULL, &rows, beta, dA, dB);
	sli_arena_reset(context, mark);
	return status;
}
