/* SPDX-License-Identifier: Apache-2.0 */
#include "api/products.h"

SL_API bool sl_activation_saves_input(sl_activation activation) {
	return activation == SL_GELU;
}

static sl_status same_shape(sl_context *context, const sl_dense *a, const char *name_a, const sl_dense *b,
							const char *name_b) {
	if (a->rows != b->rows || a->cols != b->cols)
		return sli_fail(context, SL_ERR_SHAPE, "%s is %lldx%lld, but %s is %lldx%lld; they must be the same", name_a,
						(long long)a->rows, (long long)a->cols, name_b, (long long)b->rows, (long long)b->cols);
	return SL_OK;
}

/* The output may be the input itself, element for element, but not overlap it otherwise. */
static sl_status check_in_place(sl_context *context, const sl_dense *in, const char *name_in, const sl_dense *out,
								const char *name_out) {
	bool same = in->data == out->data && in->order == out->order && in->ld == out->ld && in->dtype == out->dtype;
	if (!same && sli_overlap(in, out))
		return sli_fail(context, SL_ERR_ALIAS, "%s overlaps %s without being it", name_out, name_in);
	return SL_OK;
}

sl_status sli_check_epilogue(sl_context *context, const sl_epilogue *given, const sl_dense *C, const sl_dense *B,
							 sl_epilogue *epilogue, bool with_data) {
	memset(epilogue, 0, sizeof *epilogue);
	if (!given)
		return SL_OK;
	SL_TRY(sli_take_struct(context, epilogue, sizeof *epilogue, given, "epilogue"));
	SL_TRY(sli_check_activation(context, epilogue->activation, epilogue->parameter));
	const sl_dense *d = epilogue->pre_activation;
	if (!d)
		return SL_OK;
	if (with_data)
		SL_TRY(sli_check_dense(context, d, "pre_activation"));
	SL_TRY(same_shape(context, d, "pre_activation", C, "C"));
	if (d->dtype != C->dtype)
		return sli_fail(context, SL_ERR_DTYPE, "pre_activation is %s, but C is %s", sl_dtype_name(d->dtype),
						sl_dtype_name(C->dtype));
	if (d->order != C->order || d->ld != C->ld)
		return sli_fail(context, SL_ERR_LAYOUT, "pre_activation has order %d and ld %lld; C's are %d and %lld",
						(int)d->order, (long long)d->ld, (int)C->order, (long long)C->ld);
	if (with_data && (sli_overlap(d, C) || sli_overlap(d, B)))
		return sli_fail(context, SL_ERR_ALIAS, "pre_activation overlaps B or C");
	return SL_OK;
}

static sl_status meet(sl_context *context, int64_t m, int64_t k, const sl_dense *B, const sl_dense *C) {
	if (B->rows != k)
		return sli_fail(context, SL_ERR_SHAPE, "A is %lldx%lld, so B must have %lld rows, not %lld", (long long)m,
						(long long)k, (long long)k, (long long)B->rows);
	if (C->rows != m || C->cols != B->cols)
		return sli_fail(context, SL_ERR_SHAPE, "C is %lldx%lld; A * B is %lldx%lld", (long long)C->rows,
						(long long)C->cols, (long long)m, (long long)B->cols);
	return SL_OK;
}

/* The values of a matrix, as a view whose overlap can be asked for. */
static sl_dense values_view(const sl_csr *matrix) {
	return sl_dense_view(matrix->values, matrix->dtype, 1, sli_pattern_arrays(matrix->pattern).nnz);
}

static void apply_epilogue(sl_op_desc *desc, sl_op_args *args, const sl_epilogue *epilogue) {
	desc->activation = epilogue->activation;
	desc->activation_parameter = epilogue->parameter;
	desc->bias = epilogue->bias != NULL;
	desc->pre_activation = epilogue->pre_activation != NULL;
	if (args) {
		args->bias = epilogue->bias;
		if (epilogue->pre_activation)
			args->d = *epilogue->pre_activation;
	}
}

/* Data may be missing where a call only plans: stand in for it. */
static sl_status check_planned(sl_context *context, const sl_dense *view, const char *name, bool with_data) {
	if (!view)
		return sli_fail(context, SL_ERR_NULL, "%s is null", name);
	sl_dense copy = *view;
	if (!with_data && !copy.data)
		copy.data = &copy;
	return with_data ? sli_check_dense(context, &copy, name) : sli_check_view(context, &copy, name);
}

sl_status sli_describe_spmm(sl_context *context, sl_transpose transpose, const sl_csr *A, const sl_dense *B,
							const sl_dense *C, const sl_epilogue *given, bool with_data, sl_op_desc *desc,
							sl_op_args *args) {
	sl_epilogue epilogue;
	if (!A)
		return sli_fail(context, SL_ERR_NULL, "A is null");
	if (transpose != SL_NO_TRANSPOSE && transpose != SL_TRANSPOSE)
		return sli_fail(context, SL_ERR_ARGUMENT, "transpose is %d; it is 0 or 1", (int)transpose);
	SL_TRY(check_planned(context, B, "B", with_data));
	SL_TRY(check_planned(context, C, "C", with_data));
	sl_pattern_arrays arrays = sli_pattern_arrays(A->pattern);
	int64_t m = transpose ? arrays.cols : arrays.rows, k = transpose ? arrays.rows : arrays.cols;
	SL_TRY(meet(context, m, k, B, C));
	SL_TRY(sli_check_epilogue(context, given, C, B, &epilogue, with_data));
	memset(desc, 0, sizeof *desc);
	desc->kind = SL_OP_SPMM;
	desc->a = (sl_matrix_desc){.rows = arrays.rows, .cols = arrays.cols, .dtype = A->dtype};
	desc->b = sli_desc(B);
	desc->c = sli_desc(C);
	desc->transpose = transpose == SL_TRANSPOSE;
	apply_epilogue(desc, args, &epilogue);
	SL_TRY(sli_check_dtypes(context, desc));
	if (!with_data)
		return SL_OK;
	SL_TRY(sli_csr_check_place(context, A, "A"));
	if (C->rows)
		SL_TRY(sli_check_pointer(context, epilogue.bias, sli_bias_dtype(C->dtype), "bias"));
	sl_dense values = values_view(A);
	if (epilogue.pre_activation && sli_overlap(epilogue.pre_activation, &values))
		return sli_fail(context, SL_ERR_ALIAS, "pre_activation overlaps A's values");
	if (sli_overlap(C, B) || sli_overlap(C, &values))
		return sli_fail(context, SL_ERR_ALIAS, "C overlaps %s", sli_overlap(C, B) ? "B" : "A's values");
	args->b = *B;
	args->c = *C;
	args->values = A->values;
	return SL_OK;
}

SL_API sl_status sl_spmm(sl_context *context, sl_transpose transpose, double alpha, const sl_csr *A, const sl_dense *B,
						 double beta, sl_dense *C, const sl_epilogue *epilogue) {
	if (!context)
		return SL_ERR_NULL;
	sl_op_desc desc;
	sl_op_args args = {.alpha = alpha, .beta = beta};
	SL_TRY(sli_describe_spmm(context, transpose, A, B, C, epilogue, true, &desc, &args));
	return sli_run_sparse(context, NULL, &desc, A->pattern, &args);
}

sl_status sli_describe_sddmm(sl_context *context, const sl_dense *A, const sl_dense *B, const sl_csr *S, bool with_data,
							 sl_op_desc *desc, sl_op_args *args) {
	if (!S)
		return sli_fail(context, SL_ERR_NULL, "S is null");
	SL_TRY(check_planned(context, A, "A", with_data));
	SL_TRY(check_planned(context, B, "B", with_data));
	sl_pattern_arrays arrays = sli_pattern_arrays(S->pattern);
	if (A->cols != B->rows || A->rows != arrays.rows || B->cols != arrays.cols)
		return sli_fail(context, SL_ERR_SHAPE,
						"A is %lldx%lld, B %lldx%lld and S %lldx%lld; they must be [m, k], [k, n] and [m, n]",
						(long long)A->rows, (long long)A->cols, (long long)B->rows, (long long)B->cols,
						(long long)arrays.rows, (long long)arrays.cols);
	memset(desc, 0, sizeof *desc);
	desc->kind = SL_OP_SDDMM;
	desc->a = sli_desc(A);
	desc->b = sli_desc(B);
	desc->c = (sl_matrix_desc){.rows = arrays.rows, .cols = arrays.cols, .dtype = S->dtype};
	SL_TRY(sli_check_dtypes(context, desc));
	if (!with_data)
		return SL_OK;
	SL_TRY(sli_csr_check_place(context, S, "S"));
	sl_dense values = values_view(S);
	if (sli_overlap(&values, A) || sli_overlap(&values, B))
		return sli_fail(context, SL_ERR_ALIAS, "S's values overlap %s", sli_overlap(&values, A) ? "A" : "B");
	args->a = *A;
	args->b = *B;
	args->values_out = S->values;
	return SL_OK;
}

SL_API sl_status sl_sddmm(sl_context *context, double alpha, const sl_dense *A, const sl_dense *B, double beta,
						  sl_csr *S) {
	if (!context)
		return SL_ERR_NULL;
	sl_op_desc desc;
	sl_op_args args = {.alpha = alpha, .beta = beta};
	SL_TRY(sli_describe_sddmm(context, A, B, S, true, &desc, &args));
	return sli_run_sparse(context, NULL, &desc, S->pattern, &args);
}

SL_API sl_status sl_gemm(sl_context *context, double alpha, const sl_dense *A, const sl_dense *B, double beta,
						 sl_dense *C, const sl_epilogue *given) {
	if (!context)
		return SL_ERR_NULL;
	SL_TRY(sli_check_dense(context, A, "A"));
	SL_TRY(sli_check_dense(context, B, "B"));
	SL_TRY(sli_check_dense(context, C, "C"));
	SL_TRY(meet(context, A->rows, A->cols, B, C));
	sl_epilogue epilogue;
	SL_TRY(sli_check_epilogue(context, given, C, B, &epilogue, true));
	if (C->rows)
		SL_TRY(sli_check_pointer(context, epilogue.bias, sli_bias_dtype(C->dtype), "bias"));
	if (sli_overlap(C, A) || sli_overlap(C, B))
		return sli_fail(context, SL_ERR_ALIAS, "C overlaps %s", sli_overlap(C, A) ? "A" : "B");
	if (epilogue.pre_activation && sli_overlap(epilogue.pre_activation, A))
		return sli_fail(context, SL_ERR_ALIAS, "pre_activation overlaps A");
	sl_op_desc desc = {.kind = SL_OP_GEMM, .a = sli_desc(A), .b = sli_desc(B), .c = sli_desc(C)};
	sl_op_args args = {.alpha = alpha, .beta = beta, .a = *A, .b = *B, .c = *C};
	apply_epilogue(&desc, &args, &epilogue);
	return sli_run(context, &desc, &args);
}

SL_API sl_status sl_dense_copy(sl_context *context, const sl_dense *source, sl_dense *destination) {
	if (!context)
		return SL_ERR_NULL;
	SL_TRY(sli_check_dense(context, source, "source"));
	SL_TRY(sli_check_dense(context, destination, "destination"));
	SL_TRY(same_shape(context, source, "source", destination, "destination"));
	if (sli_overlap(source, destination))
		return sli_fail(context, SL_ERR_ALIAS, "destination overlaps source");
	return sli_convert(context, source, destination);
}

SL_API sl_status sl_activate(sl_context *context, sl_activation activation, double parameter, const sl_dense *X,
							 sl_dense *Y) {
	if (!context)
		return SL_ERR_NULL;
	SL_TRY(sli_check_activation(context, activation, parameter));
	SL_TRY(sli_check_dense(context, X, "X"));
	SL_TRY(sli_check_dense(context, Y, "Y"));
	SL_TRY(same_shape(context, X, "X", Y, "Y"));
	SL_TRY(check_in_place(context, X, "X", Y, "Y"));
	sl_op_desc desc = {.kind = SL_OP_ACTIVATION,
					   .a = sli_desc(X),
					   .c = sli_desc(Y),
					   .activation = activation,
					   .activation_parameter = parameter};
	sl_op_args args = {.a = *X, .c = *Y};
	return sli_run(context, &desc, &args);
}

SL_API sl_status sl_activate_backward(sl_context *context, sl_activation activation, double parameter,
									  const sl_dense *saved, const sl_dense *dY, sl_dense *dX) {
	if (!context)
		return SL_ERR_NULL;
	SL_TRY(sli_check_activation(context, activation, parameter));
	SL_TRY(sli_check_dense(context, saved, "saved"));
	SL_TRY(sli_check_dense(context, dY, "dY"));
	SL_TRY(sli_check_dense(context, dX, "dX"));
	SL_TRY(same_shape(context, saved, "saved", dY, "dY"));
	SL_TRY(same_shape(context, dY, "dY", dX, "dX"));
	SL_TRY(check_in_place(context, dY, "dY", dX, "dX"));
	if (sli_overlap(saved, dX))
		return sli_fail(context, SL_ERR_ALIAS, "dX overlaps saved");
	sl_op_desc desc = {.kind = SL_OP_ACTIVATION_GRAD,
					   .a = sli_desc(saved),
					   .b = sli_desc(dY),
					   .c = sli_desc(dX),
					   .activation = activation,
					   .activation_parameter = parameter};
	sl_op_args args = {.a = *saved, .b = *dY, .c = *dX};
	return sli_run(context, &desc, &args);
}

SL_API sl_status sl_sum_columns(sl_context *context, const sl_dense *A, double beta, void *sums) {
	if (!context)
		return SL_ERR_NULL;
	SL_TRY(sli_check_dense(context, A, "A"));
	if (!sums && A->rows)
		return sli_fail(context, SL_ERR_NULL, "sums is null; it takes %lld elements", (long long)A->rows);
	SL_TRY(sli_check_pointer(context, sums, sli_bias_dtype(A->dtype), "sums"));
	sl_dense out = sl_dense_view(sums, sli_bias_dtype(A->dtype), 1, A->rows);
	if (sli_overlap(A, &out))
		return sli_fail(context, SL_ERR_ALIAS, "sums overlaps A");
	sl_op_desc desc = {.kind = SL_OP_REDUCE, .variant = SL_REDUCE_ROW_SUMS, .a = sli_desc(A), .count = A->rows};
	sl_op_args args = {.beta = beta, .a = *A, .vector = {sums}, .count = A->rows};
	return sli_run(context, &desc, &args);
}

/* The sum of (scale * x)^2, by way of the device's memory. */
static sl_status sum_squares(sl_context *context, const sl_dense *vector, double scale, double *result) {
	sl_device_state *state = sli_device(context);
	sl_arena_mark mark = sli_arena_mark(context);
	void *sum;
	sl_status status = sli_arena_take(context, sizeof *result, &sum);
	if (status == SL_OK)
		status = state->backend->fill(state->device, sum, 0, sizeof *result);
	if (status == SL_OK) {
		sl_op_desc desc = {
			.kind = SL_OP_REDUCE, .variant = SL_REDUCE_SUM_SQUARES, .a = sli_desc(vector), .count = vector->cols};
		sl_op_args args = {
			.alpha = scale, .a = *vector, .vector = {vector->data}, .count = vector->cols, .result = sum};
		status = sli_run(context, &desc, &args);
	}
	if (status == SL_OK)
		status = state->backend->copy(state->device, result, SL_MEMORY_HOST, sum, SL_MEMORY_DEVICE, sizeof *result);
	if (status == SL_OK)
		status = state->backend->synchronize(state->device);
	sli_arena_reset(context, mark);
	return status;
}

SL_API sl_status sl_norm2(sl_context *context, const void *values, sl_dtype dtype, int64_t count, double *norm) {
	if (!context)
		return SL_ERR_NULL;
	if (!norm)
		return sli_fail(context, SL_ERR_NULL, "norm is null");
	if (count < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "count is %lld; it must not be negative", (long long)count);
	if (!values && count)
		return sli_fail(context, SL_ERR_NULL, "values is null, but count is %lld", (long long)count);
	if (dtype != SL_F32 && dtype != SL_F64)
		return sli_fail(context, SL_ERR_DTYPE, "values are %s; the norm takes f32 or f64", sl_dtype_name(dtype));
	*norm = 0;
	if (!count)
		return SL_OK;
	sl_dense vector = sl_dense_view(values, dtype, 1, count);
	SL_TRY(sl_dense_check(context, &vector));
	SL_TRY(sli_check_pointer(context, values, dtype, "values"));
	double sum = 0, scale = 1;
	SL_TRY(sum_squares(context, &vector, scale, &sum));
	/* Squares of doubles beyond 2^511 or below 2^-511 leave the range: bring them to its middle. */
	if (dtype == SL_F64 && (sum > 0x1p1000 || sum < 0x1p-900)) {
		scale = sum > 1 ? 0x1p-600 : 0x1p600;
		SL_TRY(sum_squares(context, &vector, scale, &sum));
	}
	*norm = __builtin_sqrt(sum) / scale;
	return SL_OK;
}
