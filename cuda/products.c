/* SPDX-License-Identifier: Apache-2.0 */
/* Products by the vendor's libraries: what they take, which of them runs, and those of dense matrices. */
#include "products.h"

#include <stdio.h>

#include "kernels/kernels.h"

/* cuSPARSE's ALG1 returned zeros without a word past 65,535 x 16 columns (cupy#9850): more are given to it in turns.
 * The turns begin at fixed columns, so that results do not depend on how a caller cuts. Matrices past 2^31 entries
 * failed inside before 12.7.9 (cupy#9490), and int64 offsets are refused beside int32 columns: rows are given to it in
 * parts. */
void sli_cuda_limits(sl_cuda *cuda) {
	cuda->most_columns = (int64_t)65535 * 16;
	cuda->most_entries = INT32_MAX;
}

static const char *const op_names[SL_OP_COUNT] = {"convert",
												  "spmm",
												  "sddmm",
												  "gemm",
												  "gather",
												  "activation",
												  "activation gradient",
												  "reduction",
												  "elementwise",
												  "loss",
												  "update",
												  [SL_OP_PATTERN] = "pattern"};

sl_status sli_cuda_refuse(const sl_cuda *cuda, const sl_op_desc *desc, const char *why) {
	const char *name = (unsigned)desc->kind < SL_OP_COUNT && op_names[desc->kind] ? op_names[desc->kind] : "this op";
	return cuda->host->fail(cuda->host->user, SL_ERR_UNSUPPORTED, "cuda: %s %s", name, why);
}

sl_status sli_cuda_not_null(const sl_cuda *cuda, const sl_op_desc *desc, const void *const *pointers,
							const char *const *names, int count) {
	for (int i = 0; i < count; i++)
		if (!pointers[i])
			return cuda->host->fail(cuda->host->user, SL_ERR_NULL, "cuda: %s: %s are null", op_names[desc->kind],
									names[i]);
	return SL_OK;
}

static bool laid_out(const sl_matrix_desc *m) {
	return sli_row_major(m) || sli_col_major(m);
}

static bool is_value(sl_dtype dtype) {
	return dtype == SL_F32 || dtype == SL_F64 || dtype == SL_BF16 || dtype == SL_F16;
}

static bool has_epilogue(const sl_op_desc *desc) {
	return desc->bias || desc->pre_activation || desc->activation != SL_IDENTITY;
}

sl_status sli_cuda_product_supports(sl_cuda *cuda, const sl_op_desc *desc) {
	if (desc->kind != SL_OP_SPMM && desc->kind != SL_OP_SDDMM && desc->kind != SL_OP_GEMM)
		return sli_cuda_refuse(cuda, desc, "is not available on CUDA yet; use a CPU context");
	if (!is_value(desc->c.dtype))
		return sli_cuda_refuse(cuda, desc, "runs in f32, f64, bf16 and f16");
	if (desc->b.dtype != desc->c.dtype || desc->a.dtype != desc->c.dtype)
		return sli_cuda_refuse(cuda, desc, "needs one dtype for all its matrices");
	/* The libraries round to 16 bits before an epilogue could run; it is to be the other way round. */
	if (has_epilogue(desc) && desc->c.dtype != SL_F32 && desc->c.dtype != SL_F64)
		return sli_cuda_refuse(cuda, desc, "has a bias or activation in f32 and f64 alone in cuSPARSE and cuBLAS");
	if (desc->kernel)
		return sli_cuda_refuse(cuda, desc, "has no kernels to choose by name in cuSPARSE and cuBLAS");
	if (desc->kind != SL_OP_SDDMM && !laid_out(&desc->c))
		return sli_cuda_refuse(cuda, desc, "needs C row- or column-major, or in one panel");
	if (!laid_out(&desc->b))
		return sli_cuda_refuse(cuda, desc, "needs B row- or column-major, or in one panel");
	if (desc->kind != SL_OP_SPMM && !laid_out(&desc->a))
		return sli_cuda_refuse(cuda, desc, "needs A row- or column-major, or in one panel");
	return desc->kind == SL_OP_GEMM ? SL_OK : sli_cusparse_supports(cuda, desc);
}

/* cuBLAS would allocate its own with the first product, in a capture too. */
sl_status sli_cublas_prepare(sl_cuda *cuda) {
	if (cuda->cublas_workspace)
		return SL_OK;
	size_t bytes = (size_t)(cuda->major >= 9 ? 32 : 4) << 20; /* what its manual asks for */
	int previous;
	SL_TRY(sli_cuda_allocate(cuda, bytes, SL_MEMORY_DEVICE, &cuda->cublas_workspace));
	cuda->cublas_bytes = bytes;
	sl_status status = sli_cuda_enter(cuda, &previous);
	if (status == SL_OK) {
		status = sli_cublas_check(cuda, cublasSetWorkspace(cuda->cublas, cuda->cublas_workspace, bytes),
								  "cublasSetWorkspace");
		sli_cuda_leave(previous);
	}
	if (status != SL_OK) {
		sli_cuda_release(cuda, cuda->cublas_workspace, bytes, SL_MEMORY_DEVICE);
		cuda->cublas_workspace = NULL;
	}
	return status;
}

sl_status sli_cuda_product_plan(sl_cuda *cuda, const sl_op_desc *desc, sl_op_plan *plan) {
	SL_TRY(sli_cuda_product_supports(cuda, desc));
	*plan = (sl_op_plan){.desc = *desc};
	if (desc->kind != SL_OP_GEMM)
		return sli_cusparse_plan(cuda, plan);
	snprintf(plan->text, sizeof plan->text, "gemm of %s: cuBLAS", sli_name_of(desc->c.dtype));
	return sli_cublas_prepare(cuda);
}

void sli_cuda_product_destroy(sl_cuda *cuda, sl_op_plan *plan) {
	if (plan->desc.kind != SL_OP_GEMM)
		sli_cusparse_destroy(cuda, plan);
	plan->state = NULL;
}

/* C's elements as lines of memory: `lines` of `length` elements, `ld` apart. */
typedef struct extent {
	int64_t lines, length, ld;
} extent;

static extent extent_of(const sl_matrix_desc *desc, const sl_dense *c) {
	bool rows = sli_row_major(desc);
	return (extent){rows ? c->rows : c->cols, rows ? c->cols : c->rows, desc->ld};
}

static sl_status zero_lines(const sl_cuda *cuda, void *data, const extent *e, size_t size) {
	size_t width = (size_t)e->length * size, pitch = (size_t)e->ld * size;
	/* One line, or lines without gaps: no pitch, whose size the runtime limits. */
	if (e->lines == 1 || width == pitch)
		return sli_cuda_check(cuda, cudaMemsetAsync(data, 0, width * (size_t)e->lines, cuda->stream),
							  "cudaMemsetAsync");
	return sli_cuda_check(cuda, cudaMemset2DAsync(data, pitch, 0, width, (size_t)e->lines, cuda->stream),
						  "cudaMemset2DAsync");
}

/* 16 bits, which cuBLAS adds no matrices of: a line at a time. */
static sl_status scale_lines(const sl_cuda *cuda, void *data, const extent *e, sl_dtype dtype, double beta) {
	sl_factor by = sli_factor(beta);
	bool whole = e->length == e->ld;
	int64_t lines = whole ? 1 : e->lines, length = whole ? e->lines * e->length : e->length;
	for (int64_t i = 0; i < lines; i++)
		SL_TRY(sli_cublas_check(cuda,
								cublasScalEx_64(cuda->cublas, length, &by.narrow, CUDA_R_32F,
												(char *)data + (size_t)(i * e->ld) * sli_size_of(dtype),
												sli_data_type(dtype), 1, CUDA_R_32F),
								"cublasScalEx"));
	return SL_OK;
}

sl_status sli_cuda_scale(const sl_cuda *cuda, const sl_matrix_desc *desc, const sl_dense *matrix, double beta) {
	extent e = extent_of(desc, matrix);
	void *c = matrix->data;
	if (beta == 0)
		return zero_lines(cuda, c, &e, sli_size_of(desc->dtype));
	if (beta == 1)
		return SL_OK;
	if (desc->dtype != SL_F32 && desc->dtype != SL_F64)
		return scale_lines(cuda, c, &e, desc->dtype, beta);
	sl_factor by = sli_factor(beta), none = sli_factor(0);
	cublasStatus_t status = desc->dtype == SL_F64
								? cublasDgeam_64(cuda->cublas, CUBLAS_OP_N, CUBLAS_OP_N, e.length, e.lines, &by.wide, c,
												 e.ld, &none.wide, c, e.ld, c, e.ld)
								: cublasSgeam_64(cuda->cublas, CUBLAS_OP_N, CUBLAS_OP_N, e.length, e.lines, &by.narrow,
												 c, e.ld, &none.narrow, c, e.ld, c, e.ld);
	return sli_cublas_check(cuda, status, desc->dtype == SL_F64 ? "cublasDgeam" : "cublasSgeam");
}

/* Who writes a panel zeroes its padding: there is some where fewer columns come than a panel has. */
static sl_status zero_padding(const sl_cuda *cuda, const sl_op_desc *desc, const sl_dense *c) {
	extent e = extent_of(&desc->c, c);
	if ((desc->c.order != SL_COL_PANELS && desc->c.order != SL_ROW_PANELS) || e.length == e.ld)
		return SL_OK;
	size_t size = sli_size_of(desc->c.dtype);
	char *padding = (char *)c->data + (size_t)e.length * size;
	extent rest = {e.lines, e.ld - e.length, e.ld};
	return zero_lines(cuda, padding, &rest, size);
}

static sl_status run_epilogue(const sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args) {
	const void *pointers[] = {desc->bias ? args->bias : args->c.data,
							  desc->pre_activation ? args->d.data : args->c.data};
	static const char *const names[] = {"biases", "the pre-activation's data"};
	if (!has_epilogue(desc))
		return SL_OK;
	SL_TRY(sli_cuda_not_null(cuda, desc, pointers, names, 2));
	sl_dense c = args->c, d = args->d;
	c.ld = desc->c.ld;
	int error = sl_kernel_epilogue(desc->activation, desc->activation_parameter, desc->bias ? args->bias : NULL, &c,
								   desc->pre_activation ? &d : NULL, cuda->stream);
	SL_TRY(sli_cuda_check(cuda, (cudaError_t)error, "the epilogue's launch"));
	return desc->pre_activation ? zero_padding(cuda, desc, &d) : SL_OK;
}

static sl_matrix_desc describe(const sl_dense *m) {
	return (sl_matrix_desc){m->rows, m->cols, m->ld, m->dtype, m->order};
}

static cublasComputeType_t compute_type(const sl_cuda *cuda, sl_dtype operands) {
	if (operands == SL_F64)
		return CUBLAS_COMPUTE_64F;
	return operands == SL_F32 && cuda->host->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

/* cuBLAS is column-major: a row-major C is computed as its transpose, C' = B' A'. */
sl_status sli_cublas_product(sl_cuda *cuda, const sl_op_desc *desc, const sl_dense *a, const sl_dense *b,
							 const sl_op_args *args) {
	sl_matrix_desc of_a = describe(a), of_b = describe(b);
	bool flip = sli_row_major(&desc->c);
	const sl_matrix_desc *left = flip ? &of_b : &of_a, *right = flip ? &of_a : &of_b;
	const void *left_data = flip ? b->data : a->data, *right_data = flip ? a->data : b->data;
	int64_t m = flip ? args->c.cols : args->c.rows, n = flip ? args->c.rows : args->c.cols, k = a->cols;
	cublasOperation_t left_op = sli_row_major(left) == flip ? CUBLAS_OP_N : CUBLAS_OP_T;
	cublasOperation_t right_op = sli_row_major(right) == flip ? CUBLAS_OP_N : CUBLAS_OP_T;
	sl_dtype dtype = desc->c.dtype;
	cudaDataType type = sli_data_type(dtype), of_operands = sli_data_type(a->dtype); /* 16 bits may be summed in f32 */
	sl_factor alpha = sli_factor(args->alpha), beta = sli_factor(args->beta);
	return sli_cublas_check(cuda,
							cublasGemmEx_64(cuda->cublas, left_op, right_op, m, n, k, sli_factor_of(&alpha, dtype),
											left_data, of_operands, left->ld, right_data, of_operands, right->ld,
											sli_factor_of(&beta, dtype), args->c.data, type, desc->c.ld,
											compute_type(cuda, a->dtype), CUBLAS_GEMM_DEFAULT),
							"cublasGemmEx");
}

static sl_status run_gemm(sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args) {
	const void *pointers[] = {args->c.data, args->a.cols ? args->a.data : args->c.data,
							  args->a.cols ? args->b.data : args->c.data};
	static const char *const names[] = {"C's data", "A's data", "B's data"};
	SL_TRY(sli_cuda_not_null(cuda, desc, pointers, names, 3));
	if (!args->a.cols)
		return sli_cuda_scale(cuda, &desc->c, &args->c, args->beta);
	return sli_cublas_product(cuda, desc, &args->a, &args->b, args);
}

sl_status sli_cuda_product_execute(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args) {
	const sl_op_desc *desc = &plan->desc;
	bool sampled = desc->kind == SL_OP_SDDMM;
	if (sampled ? !desc->sparse.arrays.nnz : !args->c.rows || !args->c.cols)
		return SL_OK;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	sl_status status = desc->kind == SL_OP_GEMM ? run_gemm(cuda, desc, args) : sli_cusparse_execute(cuda, plan, args);
	if (status == SL_OK && !sampled)
		status = zero_padding(cuda, desc, &args->c);
	if (status == SL_OK && !sampled)
		status = run_epilogue(cuda, desc, args);
	sli_cuda_leave(previous);
	return status;
}

int sli_cuda_product_candidates(sl_cuda *cuda, const sl_op_desc *desc, sl_candidate *out, int capacity) {
	static const char *const names[] = {"cusparse-alg1", "cusparse-alg2", "cusparse-alg3", "cublas"};
	int first = sli_row_major(&desc->b) ? 1 : 0, count = 0;
	if (desc->kind != SL_OP_SPMM || cuda->host->deterministic) {
		if (capacity > 0)
			out[0] = (sl_candidate){.name = desc->kind == SL_OP_SPMM ? names[2] : "cusparse"};
		return 1;
	}
	for (int i = first; i < 4; i++) {
		if (first == 0 && i == 1) /* ALG2 is for row-major matrices */
			continue;
		if (count < capacity)
			out[count] = (sl_candidate){.name = names[i], .dense = i == 3};
		count++;
	}
	return count;
}
