/* SPDX-License-Identifier: Apache-2.0 */
/* spmm through cuSPARSE, gemm through cuBLAS. Other ops are refused with a message. */
#include "device.h"

#include <stdio.h>

/* cuSPARSE's ALG1 returned zeros without a word past this many columns (cupy#9850). */
#define MAX_COLUMNS ((int64_t)65535 * 16)

static const char *const op_names[SL_OP_COUNT] = {
	"convert", "spmm",   "sddmm",       "gemm", "gather", "activation",
	"activation gradient", "reduction", "elementwise", "loss", "update"};

/* A matrix as row-major with one leading dimension; a single panel is one. False: it is not. */
static bool row_major(const sl_matrix_desc *m) {
	return m->order == SL_ROW_MAJOR || (m->order == SL_COL_PANELS && m->cols <= m->ld);
}

static bool col_major(const sl_matrix_desc *m) {
	return m->order == SL_COL_MAJOR || (m->order == SL_ROW_PANELS && m->rows <= m->ld);
}

static sl_status refuse(const sl_cuda *cuda, const sl_op_desc *desc, const char *why) {
	const char *name = (unsigned)desc->kind < SL_OP_COUNT ? op_names[desc->kind] : "?";
	return cuda->host->fail(cuda->host->user, SL_ERR_UNSUPPORTED, "cuda: %s %s", name, why);
}

sl_status sli_cuda_supports(void *device, const sl_op_desc *desc) {
	const sl_cuda *cuda = device;
	if (desc->kind != SL_OP_SPMM && desc->kind != SL_OP_GEMM)
		return refuse(cuda, desc, "is not available on CUDA yet; use a CPU context");
	if (desc->c.dtype != SL_F32 && desc->c.dtype != SL_F64)
		return refuse(cuda, desc, "runs in f32 and f64 on CUDA so far");
	if (desc->bias || desc->pre_activation || desc->activation != SL_IDENTITY)
		return refuse(cuda, desc, "has no fused bias or activation on CUDA yet");
	if (desc->kernel)
		return refuse(cuda, desc, "has no kernels to choose by name on CUDA");
	if (!row_major(&desc->c) && !col_major(&desc->c))
		return refuse(cuda, desc, "needs C row- or column-major, or in one panel");
	if (!row_major(&desc->b) && !col_major(&desc->b))
		return refuse(cuda, desc, "needs B row- or column-major, or in one panel");
	if (desc->kind == SL_OP_GEMM) {
		if (!row_major(&desc->a) && !col_major(&desc->a))
			return refuse(cuda, desc, "needs A row- or column-major, or in one panel");
		return SL_OK;
	}
	if (desc->sparse.arrays.offset_dtype != SL_I32)
		return refuse(cuda, desc, "needs int32 offsets (cuSPARSE refuses int64 offsets with int32 columns)");
	if (desc->transpose && desc->sparse.permutation_dtype != SL_I32)
		return refuse(cuda, desc, "needs an int32 permutation for the transpose");
	if (desc->b.cols > MAX_COLUMNS)
		return refuse(cuda, desc, "takes at most 1048560 columns at once");
	return SL_OK;
}

static cudaDataType data_type(sl_dtype dtype) {
	return dtype == SL_F64 ? CUDA_R_64F : CUDA_R_32F;
}

typedef struct descriptors {
	cusparseSpMatDescr_t a;
	cusparseDnMatDescr_t b, c;
} descriptors;

static void destroy_descriptors(descriptors *d) {
	if (d->a)
		(void)cusparseDestroySpMat(d->a);
	if (d->b)
		(void)cusparseDestroyDnMat(d->b);
	if (d->c)
		(void)cusparseDestroyDnMat(d->c);
}

static cusparseOrder_t order_of(const sl_matrix_desc *m) {
	return row_major(m) ? CUSPARSE_ORDER_ROW : CUSPARSE_ORDER_COL;
}

/* `n` columns of B and C; the pointers may be anything valid while only sizes are asked for. */
static sl_status make_descriptors(const sl_cuda *cuda, const sl_op_desc *desc, int64_t n, void *values, void *b,
                                  void *c, descriptors *d) {
	const sl_pattern_arrays *s = desc->transpose ? &desc->sparse.transposed : &desc->sparse.arrays;
	cudaDataType type = data_type(desc->c.dtype);
	SL_TRY(sli_cusparse_check(cuda,
	                          cusparseCreateCsr(&d->a, s->rows, s->cols, s->nnz, (void *)(uintptr_t)s->row_offsets,
	                                            (void *)(uintptr_t)s->col_indices, values, CUSPARSE_INDEX_32I,
	                                            CUSPARSE_INDEX_32I, CUSPARSE_INDEX_BASE_ZERO, type),
	                          "cusparseCreateCsr"));
	SL_TRY(sli_cusparse_check(
		cuda, cusparseCreateDnMat(&d->b, desc->b.rows, n, desc->b.ld, b, type, order_of(&desc->b)),
		"cusparseCreateDnMat for B"));
	return sli_cusparse_check(
		cuda, cusparseCreateDnMat(&d->c, desc->c.rows, n, desc->c.ld, c, type, order_of(&desc->c)),
		"cusparseCreateDnMat for C");
}

static cusparseSpMMAlg_t algorithm(const sl_cuda *cuda, const sl_op_desc *desc) {
	if (cuda->host->deterministic)
		return CUSPARSE_SPMM_CSR_ALG3;
	return row_major(&desc->b) ? CUSPARSE_SPMM_CSR_ALG2 : CUSPARSE_SPMM_CSR_ALG1;
}

static size_t align64(size_t bytes) {
	return (bytes + 255) & ~(size_t)255;
}

/* Bytes at the start of the workspace that hold the permuted values of a transposed product. */
static size_t permuted_bytes(const sl_op_desc *desc) {
	return desc->transpose ? align64((size_t)desc->sparse.arrays.nnz * sl_dtype_size(desc->c.dtype)) : 0;
}

static bool empty(const sl_op_desc *desc) {
	return !desc->c.rows || !desc->c.cols;
}

sl_status sli_cuda_plan(void *device, const sl_op_desc *desc, sl_op_plan *plan) {
	sl_cuda *cuda = device;
	SL_TRY(sli_cuda_supports(device, desc));
	*plan = (sl_op_plan){.desc = *desc};
	if (desc->kind == SL_OP_GEMM) {
		snprintf(plan->text, sizeof plan->text, "gemm: cuBLAS");
		return SL_OK;
	}
	snprintf(plan->text, sizeof plan->text, "spmm: cuSPARSE CSR_ALG%s%s",
	         cuda->host->deterministic ? "3" : row_major(&desc->b) ? "2" : "1",
	         desc->transpose ? ", cached transpose" : "");
	if (empty(desc) || !desc->sparse.arrays.nnz)
		return SL_OK;
	double one = 1;
	descriptors d = {0};
	size_t bytes = 0;
	int previous = sli_cuda_enter(cuda);
	/* Sizes only: the indices stand in for the data, which is not read. */
	void *any = (void *)(uintptr_t)desc->sparse.arrays.col_indices;
	sl_status status = make_descriptors(cuda, desc, desc->c.cols, any, any, any, &d);
	if (status == SL_OK)
		status = sli_cusparse_check(cuda,
		                            cusparseSpMM_bufferSize(cuda->cusparse, CUSPARSE_OPERATION_NON_TRANSPOSE,
		                                                    CUSPARSE_OPERATION_NON_TRANSPOSE, &one, d.a, d.b, &one,
		                                                    d.c, data_type(desc->c.dtype), algorithm(cuda, desc),
		                                                    &bytes),
		                            "cusparseSpMM_bufferSize");
	destroy_descriptors(&d);
	sli_cuda_leave(previous);
	plan->workspace = permuted_bytes(desc) + align64(bytes);
	return status;
}

size_t sli_cuda_workspace(void *device, const sl_op_plan *plan) {
	(void)device;
	return plan->workspace;
}

void sli_cuda_destroy(void *device, sl_op_plan *plan) {
	(void)device;
	plan->state = NULL;
}

/* values in the transpose's order, into the workspace */
static sl_status permute_values(const sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args) {
	int64_t nnz = desc->sparse.arrays.nnz;
	cusparseDnVecDescr_t from = NULL;
	cusparseSpVecDescr_t to = NULL;
	cudaDataType type = data_type(desc->c.dtype);
	sl_status status =
		sli_cusparse_check(cuda, cusparseCreateDnVec(&from, nnz, (void *)(uintptr_t)args->values, type),
	                       "cusparseCreateDnVec");
	if (status == SL_OK)
		status = sli_cusparse_check(cuda,
		                            cusparseCreateSpVec(&to, nnz, nnz, (void *)(uintptr_t)desc->sparse.permutation,
		                                                args->workspace, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_BASE_ZERO,
		                                                type),
		                            "cusparseCreateSpVec");
	if (status == SL_OK)
		status = sli_cusparse_check(cuda, cusparseGather(cuda->cusparse, from, to), "cusparseGather");
	if (from)
		(void)cusparseDestroyDnVec(from);
	if (to)
		(void)cusparseDestroySpVec(to);
	return status;
}

static sl_status run_spmm(const sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args) {
	descriptors d = {0};
	float alpha32 = (float)args->alpha, beta32 = (float)args->beta;
	double alpha64 = args->alpha, beta64 = args->beta;
	bool wide = desc->c.dtype == SL_F64;
	void *values = (void *)(uintptr_t)args->values;
	if (desc->transpose && desc->sparse.arrays.nnz) {
		SL_TRY(permute_values(cuda, desc, args));
		values = args->workspace;
	}
	sl_status status = make_descriptors(cuda, desc, args->c.cols, values, args->b.data, args->c.data, &d);
	if (status == SL_OK)
		status = sli_cusparse_check(
			cuda,
			cusparseSpMM(cuda->cusparse, CUSPARSE_OPERATION_NON_TRANSPOSE, CUSPARSE_OPERATION_NON_TRANSPOSE,
		                 wide ? (void *)&alpha64 : (void *)&alpha32, d.a, d.b,
		                 wide ? (void *)&beta64 : (void *)&beta32, d.c, data_type(desc->c.dtype),
		                 algorithm(cuda, desc), (char *)args->workspace + permuted_bytes(desc)),
			"cusparseSpMM");
	destroy_descriptors(&d);
	return status;
}

/* cuBLAS is column-major: a row-major C is computed as its transpose, C' = B' A'. */
static sl_status run_gemm(const sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args) {
	bool flip = row_major(&desc->c);
	const sl_matrix_desc *left = flip ? &desc->b : &desc->a, *right = flip ? &desc->a : &desc->b;
	const void *left_data = flip ? args->b.data : args->a.data, *right_data = flip ? args->a.data : args->b.data;
	int64_t m = flip ? args->c.cols : args->c.rows, n = flip ? args->c.rows : args->c.cols, k = args->a.cols;
	cublasOperation_t left_op = row_major(left) == flip ? CUBLAS_OP_N : CUBLAS_OP_T;
	cublasOperation_t right_op = row_major(right) == flip ? CUBLAS_OP_N : CUBLAS_OP_T;
	if (desc->c.dtype == SL_F64) {
		double alpha = args->alpha, beta = args->beta;
		return sli_cublas_check(cuda,
		                        cublasDgemm_64(cuda->cublas, left_op, right_op, m, n, k, &alpha, left_data, left->ld,
		                                       right_data, right->ld, &beta, args->c.data, desc->c.ld),
		                        "cublasDgemm");
	}
	float alpha = (float)args->alpha, beta = (float)args->beta;
	return sli_cublas_check(cuda,
	                        cublasSgemm_64(cuda->cublas, left_op, right_op, m, n, k, &alpha, left_data, left->ld,
	                                       right_data, right->ld, &beta, args->c.data, desc->c.ld),
	                        "cublasSgemm");
}

sl_status sli_cuda_execute(void *device, const sl_op_plan *plan, const sl_op_args *args) {
	sl_cuda *cuda = device;
	if (!args->c.rows || !args->c.cols)
		return SL_OK;
	int previous = sli_cuda_enter(cuda);
	sl_status status = plan->desc.kind == SL_OP_GEMM ? run_gemm(cuda, &plan->desc, args)
	                                                 : run_spmm(cuda, &plan->desc, args);
	sli_cuda_leave(previous);
	return status;
}
