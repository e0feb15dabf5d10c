/* SPDX-License-Identifier: Apache-2.0 */
/* spmm through cuSPARSE, gemm through cuBLAS. Other ops are refused with a message. */
#include "device.h"

#include <stdio.h>

/* cuSPARSE's ALG1 returned zeros without a word past 65,535 x 16 columns (cupy#9850): more are given to it in turns.
 * The turns begin at fixed columns, so that results do not depend on how a caller cuts. */
void sli_cuda_limits(sl_cuda *cuda) {
	cuda->most_columns = (int64_t)65535 * 16;
	cuda->most_entries = INT32_MAX;
}

static const char *const op_names[SL_OP_COUNT] = {
	"convert",   "spmm",        "sddmm", "gemm",  "gather", "activation", "activation gradient",
	"reduction", "elementwise", "loss",  "update"};

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

static sl_status supports_pattern(const sl_cuda *cuda, const sl_op_desc *desc) {
	const sl_pattern_arrays *s = &desc->sparse.arrays;
	if (s->nnz > INT32_MAX)
		return refuse(cuda, desc, "takes at most 2147483647 nonzeros at once on CUDA: split the rows");
	if (s->rows >= INT32_MAX || s->cols >= INT32_MAX)
		return refuse(cuda, desc, "takes fewer than 2147483647 rows and columns of a sparse matrix on CUDA");
	if (s->offset_dtype != SL_I32 || (desc->transpose && desc->sparse.transposed.offset_dtype != SL_I32))
		return refuse(cuda, desc, "needs int32 offsets (cuSPARSE refuses int64 offsets with int32 columns)");
	if (desc->transpose && desc->sparse.permutation_dtype != SL_I32)
		return refuse(cuda, desc, "needs an int32 permutation for the transpose");
	return SL_OK;
}

sl_status sli_cuda_product_supports(sl_cuda *cuda, const sl_op_desc *desc) {
	if (desc->kind != SL_OP_SPMM && desc->kind != SL_OP_GEMM)
		return refuse(cuda, desc, "is not available on CUDA yet; use a CPU context");
	if (desc->c.dtype != SL_F32 && desc->c.dtype != SL_F64)
		return refuse(cuda, desc, "runs in f32 and f64 on CUDA so far");
	if (desc->b.dtype != desc->c.dtype || (desc->kind == SL_OP_GEMM && desc->a.dtype != desc->c.dtype))
		return refuse(cuda, desc, "needs one dtype for all its matrices");
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
	return supports_pattern(cuda, desc);
}

static cudaDataType data_type(sl_dtype dtype) {
	return dtype == SL_F64 ? CUDA_R_64F : CUDA_R_32F;
}

static size_t element_size(const sl_op_desc *desc) {
	return desc->c.dtype == SL_F64 ? sizeof(double) : sizeof(float);
}

/* The address of column `col`. */
static void *from_column(const sl_matrix_desc *m, const void *data, int64_t col, size_t size) {
	return (char *)(uintptr_t)data + (size_t)(row_major(m) ? col : col * m->ld) * size;
}

typedef struct descriptors {
	cusparseSpMatDescr_t a;
	cusparseDnMatDescr_t b, c;
} descriptors;

static void destroy_dense(descriptors *d) {
	if (d->b)
		(void)cusparseDestroyDnMat(d->b);
	if (d->c)
		(void)cusparseDestroyDnMat(d->c);
	d->b = d->c = NULL;
}

static void destroy_descriptors(descriptors *d) {
	if (d->a)
		(void)cusparseDestroySpMat(d->a);
	d->a = NULL;
	destroy_dense(d);
}

static cusparseOrder_t order_of(const sl_matrix_desc *m) {
	return row_major(m) ? CUSPARSE_ORDER_ROW : CUSPARSE_ORDER_COL;
}

static sl_status make_sparse(const sl_cuda *cuda, const sl_op_desc *desc, void *values, descriptors *d) {
	const sl_pattern_arrays *s = desc->transpose ? &desc->sparse.transposed : &desc->sparse.arrays;
	return sli_cusparse_check(cuda,
							  cusparseCreateCsr(&d->a, s->rows, s->cols, s->nnz, (void *)(uintptr_t)s->row_offsets,
												(void *)(uintptr_t)s->col_indices, values, CUSPARSE_INDEX_32I,
												CUSPARSE_INDEX_32I, CUSPARSE_INDEX_BASE_ZERO, data_type(desc->c.dtype)),
							  "cusparseCreateCsr");
}

/* `n` columns of B and C. */
static sl_status make_dense(const sl_cuda *cuda, const sl_op_desc *desc, int64_t n, void *b, void *c, descriptors *d) {
	cudaDataType type = data_type(desc->c.dtype);
	SL_TRY(sli_cusparse_check(cuda,
							  cusparseCreateDnMat(&d->b, desc->b.rows, n, desc->b.ld, b, type, order_of(&desc->b)),
							  "cusparseCreateDnMat for B"));
	return sli_cusparse_check(cuda,
							  cusparseCreateDnMat(&d->c, desc->c.rows, n, desc->c.ld, c, type, order_of(&desc->c)),
							  "cusparseCreateDnMat for C");
}

/* A factor in the type of the computation, which cuSPARSE and cuBLAS read it in. */
typedef struct factor {
	float narrow;
	double wide;
} factor;

static factor make_factor(double value) {
	return (factor){(float)value, value};
}

static const void *factor_of(const factor *f, const sl_op_desc *desc) {
	return desc->c.dtype == SL_F64 ? (const void *)&f->wide : (const void *)&f->narrow;
}

static cusparseSpMMAlg_t algorithm(const sl_cuda *cuda, const sl_op_desc *desc) {
	if (cuda->host->deterministic)
		return CUSPARSE_SPMM_CSR_ALG3;
	return row_major(&desc->b) ? CUSPARSE_SPMM_CSR_ALG2 : CUSPARSE_SPMM_CSR_ALG1;
}

static size_t align256(size_t bytes) {
	return (bytes + 255) & ~(size_t)255;
}

/* Bytes at the start of the workspace that hold the permuted values of a transposed product. */
static size_t permuted_bytes(const sl_op_desc *desc) {
	return desc->transpose ? align256((size_t)desc->sparse.arrays.nnz * element_size(desc)) : 0;
}

/* Bytes that cuSPARSE wants for `n` columns. Nothing is read: the indices stand in for the data. */
static sl_status buffer_size(const sl_cuda *cuda, const sl_op_desc *desc, int64_t n, size_t *bytes) {
	descriptors d = {0};
	factor one = make_factor(1);
	void *any = (void *)(uintptr_t)desc->sparse.arrays.col_indices;
	sl_status status = make_sparse(cuda, desc, any, &d);
	if (status == SL_OK)
		status = make_dense(cuda, desc, n, any, any, &d);
	if (status == SL_OK)
		status = sli_cusparse_check(cuda,
									cusparseSpMM_bufferSize(cuda->cusparse, CUSPARSE_OPERATION_NON_TRANSPOSE,
															CUSPARSE_OPERATION_NON_TRANSPOSE, factor_of(&one, desc),
															d.a, d.b, factor_of(&one, desc), d.c,
															data_type(desc->c.dtype), algorithm(cuda, desc), bytes),
									"cusparseSpMM_bufferSize");
	destroy_descriptors(&d);
	return status;
}

/* The most that any turn over `cols` columns wants. */
static sl_status largest_buffer(const sl_cuda *cuda, const sl_op_desc *desc, int64_t cols, size_t *bytes) {
	int64_t rest = cols % cuda->most_columns;
	size_t full_bytes = 0, rest_bytes = 0;
	if (cols >= cuda->most_columns)
		SL_TRY(buffer_size(cuda, desc, cuda->most_columns, &full_bytes));
	if (rest)
		SL_TRY(buffer_size(cuda, desc, rest, &rest_bytes));
	*bytes = full_bytes > rest_bytes ? full_bytes : rest_bytes;
	return SL_OK;
}

/* cuSPARSE prints what it refuses: say it first. */
static sl_status check_pointers(const sl_cuda *cuda, const sl_op_desc *desc, const void *const *pointers,
								const char *const *names, int count) {
	for (int i = 0; i < count; i++)
		if (!pointers[i])
			return cuda->host->fail(cuda->host->user, SL_ERR_NULL, "cuda: %s: %s are null", op_names[desc->kind],
									names[i]);
	return SL_OK;
}

static sl_status check_pattern(const sl_cuda *cuda, const sl_op_desc *desc) {
	const sl_pattern_arrays *s = &desc->sparse.arrays, *t = desc->transpose ? &desc->sparse.transposed : s;
	const void *pointers[] = {s->row_offsets, s->col_indices, t->row_offsets, t->col_indices,
							  desc->transpose ? desc->sparse.permutation : s->col_indices};
	static const char *const names[] = {"row offsets", "column indices", "the transpose's row offsets",
										"the transpose's column indices", "the transpose's permutation"};
	return check_pointers(cuda, desc, pointers, names, 5);
}

/* Whether there is anything to multiply; cuSPARSE is not asked about products without a nonzero. */
static bool has_products(const sl_op_desc *desc) {
	return desc->sparse.arrays.nnz && desc->c.rows && desc->c.cols;
}

sl_status sli_cuda_product_plan(sl_cuda *cuda, const sl_op_desc *desc, sl_op_plan *plan) {
	SL_TRY(sli_cuda_product_supports(cuda, desc));
	*plan = (sl_op_plan){.desc = *desc};
	if (desc->kind == SL_OP_GEMM) {
		snprintf(plan->text, sizeof plan->text, "gemm: cuBLAS");
		return SL_OK;
	}
	snprintf(plan->text, sizeof plan->text, "spmm: cuSPARSE CSR_ALG%s%s",
			 cuda->host->deterministic ? "3"
			 : row_major(&desc->b)     ? "2"
									   : "1",
			 desc->transpose ? ", cached transpose" : "");
	if (!has_products(desc))
		return SL_OK;
	SL_TRY(check_pattern(cuda, desc));
	size_t bytes = 0;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	sl_status status = largest_buffer(cuda, desc, desc->c.cols, &bytes);
	sli_cuda_leave(previous);
	plan->workspace = permuted_bytes(desc) + align256(bytes);
	return status;
}

/* values in the transpose's order, into the workspace */
static sl_status permute_values(const sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args) {
	int64_t nnz = desc->sparse.arrays.nnz;
	cusparseDnVecDescr_t from = NULL;
	cusparseSpVecDescr_t to = NULL;
	cudaDataType type = data_type(desc->c.dtype);
	sl_status status = sli_cusparse_check(cuda, cusparseCreateDnVec(&from, nnz, (void *)(uintptr_t)args->values, type),
										  "cusparseCreateDnVec");
	if (status == SL_OK)
		status =
			sli_cusparse_check(cuda,
							   cusparseCreateSpVec(&to, nnz, nnz, (void *)(uintptr_t)desc->sparse.permutation,
												   args->workspace, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_BASE_ZERO, type),
							   "cusparseCreateSpVec");
	if (status == SL_OK)
		status = sli_cusparse_check(cuda, cusparseGather(cuda->cusparse, from, to), "cusparseGather");
	if (from)
		(void)cusparseDestroyDnVec(from);
	if (to)
		(void)cusparseDestroySpVec(to);
	return status;
}

/* A caller with fewer columns than were planned has the planned workspace, which cuSPARSE never promised
 * to be enough for them. */
static sl_status check_buffer(const sl_cuda *cuda, const sl_op_plan *plan, int64_t cols) {
	size_t bytes = 0, have = plan->workspace - permuted_bytes(&plan->desc);
	if (cols == plan->desc.c.cols)
		return SL_OK;
	SL_TRY(largest_buffer(cuda, &plan->desc, cols, &bytes));
	if (bytes > have)
		return cuda->host->fail(cuda->host->user, SL_ERR_BACKEND,
								"cuda: spmm: cuSPARSE wants %zu bytes for %lld columns, but %zu for the %lld planned",
								bytes, (long long)cols, have, (long long)plan->desc.c.cols);
	return SL_OK;
}

/* Columns [first, first + n) of C. */
static sl_status multiply_columns(const sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args, int64_t first,
								  int64_t n, descriptors *d) {
	const sl_op_desc *desc = &plan->desc;
	factor alpha = make_factor(args->alpha), beta = make_factor(args->beta);
	size_t size = element_size(desc);
	void *buffer = args->workspace ? (char *)args->workspace + permuted_bytes(desc) : NULL;
	sl_status status = make_dense(cuda, desc, n, from_column(&desc->b, args->b.data, first, size),
								  from_column(&desc->c, args->c.data, first, size), d);
	if (status == SL_OK)
		status = sli_cusparse_check(cuda,
									cusparseSpMM(cuda->cusparse, CUSPARSE_OPERATION_NON_TRANSPOSE,
												 CUSPARSE_OPERATION_NON_TRANSPOSE, factor_of(&alpha, desc), d->a, d->b,
												 factor_of(&beta, desc), d->c, data_type(desc->c.dtype),
												 algorithm(cuda, desc), buffer),
									"cusparseSpMM");
	destroy_dense(d);
	return status;
}

static sl_status run_spmm(const sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args) {
	const sl_op_desc *desc = &plan->desc;
	const void *pointers[] = {args->values, args->b.data, plan->workspace ? args->workspace : args->b.data};
	static const char *const names[] = {"values", "B's data", "workspace bytes"};
	SL_TRY(check_pointers(cuda, desc, pointers, names, 3));
	SL_TRY(check_buffer(cuda, plan, args->c.cols));
	void *values = (void *)(uintptr_t)args->values;
	if (desc->transpose) {
		SL_TRY(permute_values(cuda, desc, args));
		values = args->workspace;
	}
	descriptors d = {0};
	sl_status status = make_sparse(cuda, desc, values, &d);
	for (int64_t first = 0; status == SL_OK && first < args->c.cols; first += cuda->most_columns) {
		int64_t left = args->c.cols - first;
		status = multiply_columns(cuda, plan, args, first, left < cuda->most_columns ? left : cuda->most_columns, &d);
	}
	destroy_descriptors(&d);
	return status;
}

/* C's elements as lines of memory: `lines` of `length` elements, `ld` apart. */
typedef struct extent {
	int64_t lines, length, ld;
} extent;

static extent extent_of(const sl_op_desc *desc, const sl_op_args *args) {
	bool rows = row_major(&desc->c);
	return (extent){rows ? args->c.rows : args->c.cols, rows ? args->c.cols : args->c.rows, desc->c.ld};
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

/* C = beta C: all of a product that has nothing to sum. What beta 0 replaces is not read, it may be NaN. */
static sl_status run_scale(const sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args) {
	extent e = extent_of(desc, args);
	void *c = args->c.data;
	if (args->beta == 0)
		return zero_lines(cuda, c, &e, element_size(desc));
	if (args->beta == 1)
		return SL_OK;
	factor by = make_factor(args->beta), none = make_factor(0);
	cublasStatus_t status = desc->c.dtype == SL_F64
								? cublasDgeam_64(cuda->cublas, CUBLAS_OP_N, CUBLAS_OP_N, e.length, e.lines, &by.wide, c,
												 e.ld, &none.wide, c, e.ld, c, e.ld)
								: cublasSgeam_64(cuda->cublas, CUBLAS_OP_N, CUBLAS_OP_N, e.length, e.lines, &by.narrow,
												 c, e.ld, &none.narrow, c, e.ld, c, e.ld);
	return sli_cublas_check(cuda, status, desc->c.dtype == SL_F64 ? "cublasDgeam" : "cublasSgeam");
}

/* Who writes a panel zeroes its padding: there is some where fewer columns come than a panel has. */
static sl_status zero_padding(const sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args) {
	extent e = extent_of(desc, args);
	if ((desc->c.order != SL_COL_PANELS && desc->c.order != SL_ROW_PANELS) || e.length == e.ld)
		return SL_OK;
	size_t size = element_size(desc);
	char *padding = (char *)args->c.data + (size_t)e.length * size;
	extent rest = {e.lines, e.ld - e.length, e.ld};
	return zero_lines(cuda, padding, &rest, size);
}

/* cuBLAS is column-major: a row-major C is computed as its transpose, C' = B' A'. */
static sl_status run_gemm(const sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args) {
	const void *pointers[] = {args->a.data, args->b.data};
	static const char *const names[] = {"A's data", "B's data"};
	SL_TRY(check_pointers(cuda, desc, pointers, names, 2));
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

static sl_status run(const sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args) {
	const sl_op_desc *desc = &plan->desc;
	const void *pointers[] = {args->c.data};
	static const char *const names[] = {"C's data"};
	SL_TRY(check_pointers(cuda, desc, pointers, names, 1));
	bool gemm = desc->kind == SL_OP_GEMM;
	if (gemm ? !args->a.cols : !desc->sparse.arrays.nnz)
		SL_TRY(run_scale(cuda, desc, args));
	else
		SL_TRY(gemm ? run_gemm(cuda, desc, args) : run_spmm(cuda, plan, args));
	return zero_padding(cuda, desc, args);
}

sl_status sli_cuda_product_execute(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args) {
	if (!args->c.rows || !args->c.cols)
		return SL_OK;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	sl_status status = run(cuda, plan, args);
	sli_cuda_leave(previous);
	return status;
}
