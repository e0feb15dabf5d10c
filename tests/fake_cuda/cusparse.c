/* SPDX-License-Identifier: Apache-2.0 */
/* cuSPARSE: CSR times dense, sampled products, and gather. */
#include "state.h"

#include <stdlib.h>
#include <string.h>

static long long widest;
static int computed_in = -1;
static bool falling;
static int version = 120603;
static long long entries = INT32_MAX;

void fake_cuda_cusparse_version(int now) {
	version = now;
}

void fake_cuda_cusparse_entries(long long most) {
	entries = most;
}

/* Whether the fault of large matrices is in this version (cupy#9490). */
static bool too_many(const fake_object *a) {
	return version < 120709 && a->nnz > entries;
}

void fake_cuda_falling_buffers(bool on) {
	falling = on;
}

int fake_cuda_sparse_compute_type(void) {
	return computed_in;
}

long long fake_cuda_widest(void) {
	return widest;
}

void fake_forget_widest(void) {
	widest = 0;
}

static cusparseStatus_t destroy(const char *call, fake_kind kind, const void *id) {
	bool failing = fake_take(call);
	if (!fake_remove(kind, id)) {
		fake_fault(call, "what is to be destroyed does not exist");
		return CUSPARSE_STATUS_INVALID_VALUE;
	}
	return failing ? CUSPARSE_STATUS_INTERNAL_ERROR : CUSPARSE_STATUS_SUCCESS;
}

/* On the handle's stream. */
static cusparseStatus_t enqueue(const char *call, cusparseHandle_t handle, void (*run)(void *), const void *argument,
								size_t bytes) {
	void *stream = fake_find(FAKE_CUSPARSE, handle)->stream;
	return fake_enqueue(call, stream, run, argument, bytes) == cudaSuccess ? CUSPARSE_STATUS_SUCCESS
																		   : CUSPARSE_STATUS_ALLOC_FAILED;
}

const char *CUSPARSEAPI cusparseGetErrorString(cusparseStatus_t status) {
	return status == CUSPARSE_STATUS_ALLOC_FAILED ? "resource allocation failed" : "an error of the fake cuSPARSE";
}

cusparseStatus_t CUSPARSEAPI cusparseCreate(cusparseHandle_t *handle) {
	TAKE("cusparseCreate", CUSPARSE_STATUS_ALLOC_FAILED);
	if (fake_breaks_capture("cusparseCreate"))
		return CUSPARSE_STATUS_INTERNAL_ERROR;
	fake_object *o = fake_create(FAKE_CUSPARSE);
	*handle = o ? (cusparseHandle_t)o->id : NULL;
	return o ? CUSPARSE_STATUS_SUCCESS : CUSPARSE_STATUS_ALLOC_FAILED;
}

cusparseStatus_t CUSPARSEAPI cusparseDestroy(cusparseHandle_t handle) {
	return destroy("cusparseDestroy", FAKE_CUSPARSE, handle);
}

cusparseStatus_t CUSPARSEAPI cusparseSetStream(cusparseHandle_t handle, cudaStream_t stream) {
	TAKE("cusparseSetStream", CUSPARSE_STATUS_INTERNAL_ERROR);
	fake_object *o = fake_find(FAKE_CUSPARSE, handle);
	REFUSE_IF(!o, "cusparseSetStream", CUSPARSE_STATUS_NOT_INITIALIZED);
	REFUSE_IF(!fake_stream("cusparseSetStream", stream), "cusparseSetStream", CUSPARSE_STATUS_INVALID_VALUE);
	o->stream = stream;
	return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t CUSPARSEAPI cusparseGetVersion(cusparseHandle_t handle, int *result) {
	TAKE("cusparseGetVersion", CUSPARSE_STATUS_INTERNAL_ERROR);
	REFUSE_IF(!fake_find(FAKE_CUSPARSE, handle), "cusparseGetVersion", CUSPARSE_STATUS_NOT_INITIALIZED);
	*result = version;
	return CUSPARSE_STATUS_SUCCESS;
}

/* A handle that lives, of the current GPU, whose stream lives. */
static bool good_handle(const char *call, cusparseHandle_t handle) {
	const fake_object *o = fake_find(FAKE_CUSPARSE, handle);
	if (!o)
		fake_fault(call, "the handle does not exist");
	else if (o->device != fake_current_device())
		fake_fault(call, "the handle belongs to GPU %d; %d is current", o->device, fake_current_device());
	return o && o->device == fake_current_device() && fake_stream(call, o->stream);
}

cusparseStatus_t CUSPARSEAPI cusparseCreateCsr(cusparseSpMatDescr_t *matrix, int64_t rows, int64_t cols, int64_t nnz,
											   void *offsets, void *indices, void *values,
											   cusparseIndexType_t offset_type, cusparseIndexType_t index_type,
											   cusparseIndexBase_t base, cudaDataType type) {
	static const char call[] = "cusparseCreateCsr";
	TAKE(call, CUSPARSE_STATUS_ALLOC_FAILED);
	REFUSE_IF(!matrix || rows < 0 || cols < 0 || nnz < 0, call, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(rows * cols < nnz, call, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(!offsets || !indices || !values, call, CUSPARSE_STATUS_INVALID_VALUE); /* with no nonzeros as well */
	REFUSE_IF(offset_type != index_type, call, CUSPARSE_STATUS_NOT_SUPPORTED);       /* the real one's 10 */
	REFUSE_IF(offset_type != CUSPARSE_INDEX_32I || base != CUSPARSE_INDEX_BASE_ZERO, call,
			  CUSPARSE_STATUS_NOT_SUPPORTED);
	REFUSE_IF(nnz > INT32_MAX, call, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(!fake_is_value(type), call, CUSPARSE_STATUS_NOT_SUPPORTED);
	fake_object *o = fake_create(FAKE_SPARSE_MATRIX);
	if (!o)
		return CUSPARSE_STATUS_ALLOC_FAILED;
	o->rows = rows, o->cols = cols, o->nnz = nnz;
	o->offsets = offsets, o->indices = indices, o->values = values;
	o->type = type;
	*matrix = (cusparseSpMatDescr_t)o->id;
	return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t CUSPARSEAPI cusparseDestroySpMat(cusparseConstSpMatDescr_t matrix) {
	return destroy("cusparseDestroySpMat", FAKE_SPARSE_MATRIX, matrix);
}

/* The structure, and what was preprocessed of it, stay. */
cusparseStatus_t CUSPARSEAPI cusparseSpMatSetValues(cusparseSpMatDescr_t matrix, void *values) {
	TAKE("cusparseSpMatSetValues", CUSPARSE_STATUS_INTERNAL_ERROR);
	fake_object *o = fake_find(FAKE_SPARSE_MATRIX, matrix);
	REFUSE_IF(!o || !values, "cusparseSpMatSetValues", CUSPARSE_STATUS_INVALID_VALUE);
	o->values = values;
	return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t CUSPARSEAPI cusparseCreateDnMat(cusparseDnMatDescr_t *matrix, int64_t rows, int64_t cols, int64_t ld,
												 void *values, cudaDataType type, cusparseOrder_t order) {
	static const char call[] = "cusparseCreateDnMat";
	TAKE(call, CUSPARSE_STATUS_ALLOC_FAILED);
	REFUSE_IF(!matrix || !values || rows < 0 || cols < 0, call, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(ld < 1 || ld < (order == CUSPARSE_ORDER_ROW ? cols : rows), call, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(!fake_is_value(type), call, CUSPARSE_STATUS_NOT_SUPPORTED);
	fake_object *o = fake_create(FAKE_DENSE_MATRIX);
	if (!o)
		return CUSPARSE_STATUS_ALLOC_FAILED;
	o->rows = rows, o->cols = cols, o->ld = ld;
	o->values = values;
	o->type = type, o->order = order;
	*matrix = (cusparseDnMatDescr_t)o->id;
	return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t CUSPARSEAPI cusparseDestroyDnMat(cusparseConstDnMatDescr_t matrix) {
	return destroy("cusparseDestroyDnMat", FAKE_DENSE_MATRIX, matrix);
}

/* A product as it was asked for. The descriptors are copied: they may be gone when it runs. */
typedef struct product {
	fake_object a, b, c;
	bool transpose_a, transpose_b;
	int64_t m, n, k; /* of op(A) op(B) */
	double alpha, beta;
	cudaDataType compute;
	cusparseSpMMAlg_t algorithm;
	void *buffer;
	bool preprocessing;
} product;

static bool good_types(const product *p, cudaDataType compute) {
	cudaDataType type = p->a.type;
	return p->b.type == type && p->c.type == type && compute == (type == CUDA_R_64F ? CUDA_R_64F : CUDA_R_32F);
}

static cusparseStatus_t take_factors(const char *call, const void *alpha, const void *beta, cudaDataType compute,
									 product *p) {
	size_t size = fake_size(compute);
	REFUSE_IF(!fake_on_host(call, "alpha", alpha, size) || !fake_on_host(call, "beta", beta, size), call,
			  CUSPARSE_STATUS_INVALID_VALUE);
	p->alpha = fake_load(alpha, compute, 0);
	p->beta = fake_load(beta, compute, 0);
	p->compute = compute;
	computed_in = (int)compute;
	return CUSPARSE_STATUS_SUCCESS;
}

static cusparseStatus_t take_product(const char *call, cusparseHandle_t handle, cusparseOperation_t op_a,
									 cusparseOperation_t op_b, const void *alpha, cusparseConstSpMatDescr_t a,
									 cusparseConstDnMatDescr_t b, const void *beta, cusparseConstDnMatDescr_t c,
									 cudaDataType type, cusparseSpMMAlg_t algorithm, product *p) {
	REFUSE_IF(!good_handle(call, handle), call, CUSPARSE_STATUS_NOT_INITIALIZED);
	const fake_object *of_a = fake_find(FAKE_SPARSE_MATRIX, a), *of_b = fake_find(FAKE_DENSE_MATRIX, b);
	const fake_object *of_c = fake_find(FAKE_DENSE_MATRIX, c);
	REFUSE_IF(!of_a || !of_b || !of_c, call, CUSPARSE_STATUS_INVALID_VALUE);
	*p = (product){.a = *of_a, .b = *of_b, .c = *of_c, .algorithm = algorithm};
	p->transpose_a = op_a != CUSPARSE_OPERATION_NON_TRANSPOSE;
	p->transpose_b = op_b != CUSPARSE_OPERATION_NON_TRANSPOSE;
	p->m = p->transpose_a ? p->a.cols : p->a.rows;
	p->k = p->transpose_a ? p->a.rows : p->a.cols;
	p->n = p->transpose_b ? p->b.rows : p->b.cols;
	REFUSE_IF(p->k != (p->transpose_b ? p->b.cols : p->b.rows), call, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(p->m != p->c.rows || p->n != p->c.cols, call, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(!good_types(p, type), call, CUSPARSE_STATUS_NOT_SUPPORTED);
	REFUSE_IF(algorithm != CUSPARSE_SPMM_CSR_ALG1 && algorithm != CUSPARSE_SPMM_CSR_ALG2 &&
				  algorithm != CUSPARSE_SPMM_CSR_ALG3,
			  call, CUSPARSE_STATUS_NOT_SUPPORTED);
	REFUSE_IF(algorithm == CUSPARSE_SPMM_CSR_ALG3 && p->transpose_a, call, CUSPARSE_STATUS_NOT_SUPPORTED);
	return take_factors(call, alpha, beta, type, p);
}

static size_t buffer_bytes(const product *p) {
	size_t columns = (size_t)p->n;
	if (falling)
		columns = columns < 64 ? 1024 * (64 - columns) : 0;
	return 16 + 8 * (size_t)p->m + columns;
}

cusparseStatus_t CUSPARSEAPI cusparseSpMM_bufferSize(cusparseHandle_t handle, cusparseOperation_t op_a,
													 cusparseOperation_t op_b, const void *alpha,
													 cusparseConstSpMatDescr_t a, cusparseConstDnMatDescr_t b,
													 const void *beta, cusparseDnMatDescr_t c, cudaDataType type,
													 cusparseSpMMAlg_t algorithm, size_t *bytes) {
	static const char call[] = "cusparseSpMM_bufferSize";
	product p;
	TAKE(call, CUSPARSE_STATUS_INTERNAL_ERROR);
	cusparseStatus_t status = take_product(call, handle, op_a, op_b, alpha, a, b, beta, c, type, algorithm, &p);
	if (status != CUSPARSE_STATUS_SUCCESS)
		return status;
	REFUSE_IF(p.alpha != 1, call, CUSPARSE_STATUS_INVALID_VALUE); /* read in the type of the computation? */
	*bytes = buffer_bytes(&p);
	return CUSPARSE_STATUS_SUCCESS;
}

static int64_t element(const fake_object *m, int64_t r, int64_t c) {
	return m->order == CUSPARSE_ORDER_ROW ? r * m->ld + c : c * m->ld + r;
}

static bool dense_on_device(const char *call, const char *what, const fake_object *m) {
	bool rows = m->order == CUSPARSE_ORDER_ROW;
	size_t span = fake_span(rows ? m->rows : m->cols, rows ? m->cols : m->rows, m->ld);
	return fake_on_device(call, what, m->values, span * fake_size(m->type));
}

static bool sparse_on_device(const char *call, const fake_object *a) {
	return fake_on_device(call, "the row offsets", a->offsets, (size_t)(a->rows + 1) * 4) &&
		   fake_on_device(call, "the column indices", a->indices, (size_t)a->nnz * 4) &&
		   fake_on_device(call, "the values", a->values, (size_t)a->nnz * fake_size(a->type));
}

static bool good_structure(const char *call, const fake_object *a) {
	const int32_t *offsets = a->offsets, *indices = a->indices;
	bool good = offsets[0] == 0 && offsets[a->rows] == a->nnz;
	for (int64_t r = 0; r < a->rows && good; r++)
		good = offsets[r] <= offsets[r + 1] && offsets[r + 1] <= a->nnz;
	for (int64_t k = 0; k < a->nnz && good; k++)
		good = indices[k] >= 0 && indices[k] < a->cols;
	if (!good)
		fake_fault(call, "the structure of the sparse matrix is not valid");
	return good;
}

/* C = beta C, then C += alpha A B one entry of A at a time, summed in double. */
static void multiply(const product *p, bool silent_zeros) {
	const fake_object *a = &p->a, *b = &p->b, *c = &p->c;
	double *sums = calloc((size_t)(p->m * p->n) + 1, sizeof *sums);
	const int32_t *offsets = a->offsets, *indices = a->indices;
	if (!sums)
		abort();
	for (int64_t r = 0; r < a->rows && !silent_zeros; r++)
		for (int64_t k = offsets[r]; k < offsets[r + 1]; k++) {
			int64_t row = p->transpose_a ? indices[k] : r, inner = p->transpose_a ? r : indices[k];
			double value = p->alpha * fake_load(a->values, a->type, k);
			for (int64_t j = 0; j < p->n; j++)
				sums[row * p->n + j] +=
					value * fake_load(b->values, b->type, p->transpose_b ? element(b, j, inner) : element(b, inner, j));
		}
	for (int64_t r = 0; r < p->m; r++)
		for (int64_t j = 0; j < p->n; j++) {
			int64_t i = element(c, r, j);
			double old = p->beta != 0 && !silent_zeros ? p->beta * fake_load(c->values, c->type, i) : 0;
			fake_store(c->values, c->type, i, old + sums[r * p->n + j]);
		}
	free(sums);
}

static const char spmm[] = "cusparseSpMM", preprocess[] = "cusparseSpMM_preprocess";

static bool all_on_device(const product *p) {
	const char *call = p->preprocessing ? preprocess : spmm;
	return sparse_on_device(call, &p->a) && fake_on_device(call, "the buffer", p->buffer, buffer_bytes(p)) &&
		   (p->preprocessing || (dense_on_device(call, "B", &p->b) && dense_on_device(call, "C", &p->c)));
}

/* What a preprocessing leaves in its buffer. */
static unsigned char mark_of(const product *p) {
	return (unsigned char)(0x40 + p->algorithm);
}

static void run_product(void *argument) {
	const product *p = argument;
	if (!all_on_device(p) || !good_structure(p->preprocessing ? preprocess : spmm, &p->a))
		return;
	unsigned char *buffer = p->buffer;
	size_t bytes = buffer_bytes(p);
	if (p->preprocessing) {
		memset(buffer, mark_of(p), bytes);
		return;
	}
	if (p->a.preprocessed && (buffer[0] != mark_of(p) || buffer[bytes - 1] != mark_of(p)))
		fake_fault(spmm, "the preprocessed buffer was overwritten, or is another algorithm's");
	if (!p->a.preprocessed)
		memset(buffer, 0xff, bytes);
	multiply(p, p->algorithm == CUSPARSE_SPMM_CSR_ALG1 && p->n > (int64_t)65535 * 16);
}

cusparseStatus_t CUSPARSEAPI cusparseSpMM_preprocess(cusparseHandle_t handle, cusparseOperation_t op_a,
													 cusparseOperation_t op_b, const void *alpha,
													 cusparseConstSpMatDescr_t a, cusparseConstDnMatDescr_t b,
													 const void *beta, cusparseDnMatDescr_t c, cudaDataType type,
													 cusparseSpMMAlg_t algorithm, void *buffer) {
	product p;
	TAKE(preprocess, CUSPARSE_STATUS_EXECUTION_FAILED);
	cusparseStatus_t status = take_product(preprocess, handle, op_a, op_b, alpha, a, b, beta, c, type, algorithm, &p);
	if (status != CUSPARSE_STATUS_SUCCESS)
		return status;
	fake_object *matrix = fake_find(FAKE_SPARSE_MATRIX, a);
	p.buffer = buffer;
	p.preprocessing = true;
	if (too_many(&p.a))
		return CUSPARSE_STATUS_INTERNAL_ERROR;
	if (!all_on_device(&p))
		return CUSPARSE_STATUS_EXECUTION_FAILED;
	void *stream = fake_find(FAKE_CUSPARSE, handle)->stream;
	/* What it does besides is not known to be capturable. */
	if (fake_captures(stream)) {
		fake_fault(preprocess, "called in a capture");
		return CUSPARSE_STATUS_NOT_SUPPORTED;
	}
	matrix->preprocessed = (int)algorithm + 1;
	matrix->buffer = buffer;
	return enqueue(preprocess, handle, run_product, &p, sizeof p);
}

/* The names that costs are kept by, which differ by algorithm. */
static const char *name_of(cusparseSpMMAlg_t algorithm) {
	return algorithm == CUSPARSE_SPMM_CSR_ALG2   ? "cusparseSpMM ALG2"
		   : algorithm == CUSPARSE_SPMM_CSR_ALG3 ? "cusparseSpMM ALG3"
												 : "cusparseSpMM ALG1";
}

cusparseStatus_t CUSPARSEAPI cusparseSpMM(cusparseHandle_t handle, cusparseOperation_t op_a, cusparseOperation_t op_b,
										  const void *alpha, cusparseConstSpMatDescr_t a, cusparseConstDnMatDescr_t b,
										  const void *beta, cusparseDnMatDescr_t c, cudaDataType type,
										  cusparseSpMMAlg_t algorithm, void *buffer) {
	product p;
	TAKE(spmm, CUSPARSE_STATUS_EXECUTION_FAILED);
	cusparseStatus_t status = take_product(spmm, handle, op_a, op_b, alpha, a, b, beta, c, type, algorithm, &p);
	if (status != CUSPARSE_STATUS_SUCCESS)
		return status;
	p.buffer = buffer;
	REFUSE_IF(p.a.preprocessed && p.a.preprocessed != (int)algorithm + 1, spmm, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(p.a.preprocessed && p.a.buffer != buffer, spmm, CUSPARSE_STATUS_INVALID_VALUE);
	if (too_many(&p.a))
		return CUSPARSE_STATUS_INTERNAL_ERROR;
	if (!all_on_device(&p))
		return CUSPARSE_STATUS_EXECUTION_FAILED;
	widest = p.n > widest ? p.n : widest;
	return enqueue(name_of(algorithm), handle, run_product, &p, sizeof p);
}

static const char sddmm[] = "cusparseSDDMM";

/* c: sparse; a and b dense. Mixed precision is f16 in, and f16 or f32 out; bf16 is refused as the real one does. */
static cusparseStatus_t take_sampled(const char *call, cusparseHandle_t handle, cusparseOperation_t op_a,
									 cusparseOperation_t op_b, const void *alpha, cusparseConstDnMatDescr_t a,
									 cusparseConstDnMatDescr_t b, const void *beta, cusparseSpMatDescr_t c,
									 cudaDataType type, cusparseSDDMMAlg_t algorithm, product *p) {
	REFUSE_IF(!good_handle(call, handle), call, CUSPARSE_STATUS_NOT_INITIALIZED);
	const fake_object *of_a = fake_find(FAKE_DENSE_MATRIX, a), *of_b = fake_find(FAKE_DENSE_MATRIX, b);
	const fake_object *of_c = fake_find(FAKE_SPARSE_MATRIX, c);
	REFUSE_IF(!of_a || !of_b || !of_c, call, CUSPARSE_STATUS_INVALID_VALUE);
	*p = (product){.a = *of_a, .b = *of_b, .c = *of_c};
	REFUSE_IF(op_a != CUSPARSE_OPERATION_NON_TRANSPOSE || op_b != CUSPARSE_OPERATION_NON_TRANSPOSE, call,
			  CUSPARSE_STATUS_NOT_SUPPORTED);
	REFUSE_IF(algorithm != CUSPARSE_SDDMM_ALG_DEFAULT, call, CUSPARSE_STATUS_NOT_SUPPORTED);
	REFUSE_IF(p->a.rows != p->c.rows || p->b.cols != p->c.cols || p->a.cols != p->b.rows, call,
			  CUSPARSE_STATUS_INVALID_VALUE);
	p->m = p->c.rows, p->n = p->c.cols, p->k = p->a.cols;
	REFUSE_IF(p->a.type == CUDA_R_16BF, call, CUSPARSE_STATUS_NOT_SUPPORTED);
	REFUSE_IF(!good_types(p, type), call, CUSPARSE_STATUS_NOT_SUPPORTED);
	return take_factors(call, alpha, beta, type, p);
}

static size_t sampled_bytes(const product *p) {
	return 32 + 4 * (size_t)p->m;
}

static bool sampled_on_device(const product *p) {
	return sparse_on_device(sddmm, &p->c) && dense_on_device(sddmm, "A", &p->a) && dense_on_device(sddmm, "B", &p->b) &&
		   fake_on_device(sddmm, "the buffer", p->buffer, sampled_bytes(p));
}

static void run_sampled(void *argument) {
	const product *p = argument;
	if (!sampled_on_device(p) || !good_structure(sddmm, &p->c))
		return;
	const int32_t *offsets = p->c.offsets, *indices = p->c.indices;
	memset(p->buffer, 0xff, sampled_bytes(p));
	for (int64_t r = 0; r < p->m; r++)
		for (int64_t e = offsets[r]; e < offsets[r + 1]; e++) {
			double sum = p->beta != 0 ? p->beta * fake_load(p->c.values, p->c.type, e) : 0;
			for (int64_t i = 0; i < p->k; i++)
				sum += p->alpha * fake_load(p->a.values, p->a.type, element(&p->a, r, i)) *
					   fake_load(p->b.values, p->b.type, element(&p->b, i, indices[e]));
			fake_store(p->c.values, p->c.type, e, sum);
		}
}

cusparseStatus_t CUSPARSEAPI cusparseSDDMM_bufferSize(cusparseHandle_t handle, cusparseOperation_t op_a,
													  cusparseOperation_t op_b, const void *alpha,
													  cusparseConstDnMatDescr_t a, cusparseConstDnMatDescr_t b,
													  const void *beta, cusparseSpMatDescr_t c, cudaDataType type,
													  cusparseSDDMMAlg_t algorithm, size_t *bytes) {
	static const char call[] = "cusparseSDDMM_bufferSize";
	product p;
	TAKE(call, CUSPARSE_STATUS_INTERNAL_ERROR);
	cusparseStatus_t status = take_sampled(call, handle, op_a, op_b, alpha, a, b, beta, c, type, algorithm, &p);
	if (status == CUSPARSE_STATUS_SUCCESS)
		*bytes = sampled_bytes(&p);
	return status;
}

cusparseStatus_t CUSPARSEAPI cusparseSDDMM(cusparseHandle_t handle, cusparseOperation_t op_a, cusparseOperation_t op_b,
										   const void *alpha, cusparseConstDnMatDescr_t a, cusparseConstDnMatDescr_t b,
										   const void *beta, cusparseSpMatDescr_t c, cudaDataType type,
										   cusparseSDDMMAlg_t algorithm, void *buffer) {
	product p;
	TAKE(sddmm, CUSPARSE_STATUS_EXECUTION_FAILED);
	cusparseStatus_t status = take_sampled(sddmm, handle, op_a, op_b, alpha, a, b, beta, c, type, algorithm, &p);
	if (status != CUSPARSE_STATUS_SUCCESS)
		return status;
	p.buffer = buffer;
	if (too_many(&p.c))
		return CUSPARSE_STATUS_INTERNAL_ERROR;
	if (!sampled_on_device(&p))
		return CUSPARSE_STATUS_EXECUTION_FAILED;
	return enqueue(sddmm, handle, run_sampled, &p, sizeof p);
}

static const char to_dense[] = "cusparseSparseToDense";

/* a: sparse; b: dense. */
static cusparseStatus_t take_dense(const char *call, cusparseHandle_t handle, cusparseConstSpMatDescr_t a,
								   cusparseDnMatDescr_t b, product *p) {
	REFUSE_IF(!good_handle(call, handle), call, CUSPARSE_STATUS_NOT_INITIALIZED);
	const fake_object *of_a = fake_find(FAKE_SPARSE_MATRIX, a), *of_b = fake_find(FAKE_DENSE_MATRIX, b);
	REFUSE_IF(!of_a || !of_b, call, CUSPARSE_STATUS_INVALID_VALUE);
	*p = (product){.a = *of_a, .b = *of_b};
	REFUSE_IF(p->a.rows != p->b.rows || p->a.cols != p->b.cols || p->a.type != p->b.type, call,
			  CUSPARSE_STATUS_INVALID_VALUE);
	return CUSPARSE_STATUS_SUCCESS;
}

static bool written_on_device(const product *p) {
	return sparse_on_device(to_dense, &p->a) && dense_on_device(to_dense, "B", &p->b) &&
		   fake_on_device(to_dense, "the buffer", p->buffer, 64);
}

static void run_to_dense(void *argument) {
	const product *p = argument;
	if (!written_on_device(p) || !good_structure(to_dense, &p->a))
		return;
	const int32_t *offsets = p->a.offsets, *indices = p->a.indices;
	memset(p->buffer, 0xff, 64);
	for (int64_t r = 0; r < p->a.rows; r++) {
		for (int64_t c = 0; c < p->a.cols; c++)
			fake_store(p->b.values, p->b.type, element(&p->b, r, c), 0);
		for (int64_t k = offsets[r]; k < offsets[r + 1]; k++)
			fake_store(p->b.values, p->b.type, element(&p->b, r, indices[k]), fake_load(p->a.values, p->a.type, k));
	}
}

cusparseStatus_t CUSPARSEAPI cusparseSparseToDense_bufferSize(cusparseHandle_t handle, cusparseConstSpMatDescr_t a,
															  cusparseDnMatDescr_t b,
															  cusparseSparseToDenseAlg_t algorithm, size_t *bytes) {
	static const char call[] = "cusparseSparseToDense_bufferSize";
	product p;
	TAKE(call, CUSPARSE_STATUS_INTERNAL_ERROR);
	(void)algorithm;
	*bytes = 64;
	return take_dense(call, handle, a, b, &p);
}

cusparseStatus_t CUSPARSEAPI cusparseSparseToDense(cusparseHandle_t handle, cusparseConstSpMatDescr_t a,
												   cusparseDnMatDescr_t b, cusparseSparseToDenseAlg_t algorithm,
												   void *buffer) {
	product p;
	TAKE(to_dense, CUSPARSE_STATUS_EXECUTION_FAILED);
	(void)algorithm;
	cusparseStatus_t status = take_dense(to_dense, handle, a, b, &p);
	if (status != CUSPARSE_STATUS_SUCCESS)
		return status;
	p.buffer = buffer;
	if (!written_on_device(&p))
		return CUSPARSE_STATUS_EXECUTION_FAILED;
	return enqueue(to_dense, handle, run_to_dense, &p, sizeof p);
}

cusparseStatus_t CUSPARSEAPI cusparseCreateDnVec(cusparseDnVecDescr_t *vector, int64_t size, void *values,
												 cudaDataType type) {
	static const char call[] = "cusparseCreateDnVec";
	TAKE(call, CUSPARSE_STATUS_ALLOC_FAILED);
	REFUSE_IF(!vector || size < 0 || !values, call, CUSPARSE_STATUS_INVALID_VALUE);
	fake_object *o = fake_create(FAKE_DENSE_VECTOR);
	if (!o)
		return CUSPARSE_STATUS_ALLOC_FAILED;
	o->rows = size, o->values = values, o->type = type;
	*vector = (cusparseDnVecDescr_t)o->id;
	return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t CUSPARSEAPI cusparseDestroyDnVec(cusparseConstDnVecDescr_t vector) {
	return destroy("cusparseDestroyDnVec", FAKE_DENSE_VECTOR, vector);
}

cusparseStatus_t CUSPARSEAPI cusparseCreateSpVec(cusparseSpVecDescr_t *vector, int64_t size, int64_t nnz, void *indices,
												 void *values, cusparseIndexType_t index_type, cusparseIndexBase_t base,
												 cudaDataType type) {
	static const char call[] = "cusparseCreateSpVec";
	TAKE(call, CUSPARSE_STATUS_ALLOC_FAILED);
	REFUSE_IF(!vector || size < 0 || nnz < 0 || nnz > size, call, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(!indices || !values, call, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(base != CUSPARSE_INDEX_BASE_ZERO, call, CUSPARSE_STATUS_NOT_SUPPORTED);
	fake_object *o = fake_create(FAKE_SPARSE_VECTOR);
	if (!o)
		return CUSPARSE_STATUS_ALLOC_FAILED;
	o->rows = size, o->nnz = nnz, o->indices = indices, o->values = values, o->type = type;
	o->index_type = index_type;
	*vector = (cusparseSpVecDescr_t)o->id;
	return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t CUSPARSEAPI cusparseDestroySpVec(cusparseConstSpVecDescr_t vector) {
	return destroy("cusparseDestroySpVec", FAKE_SPARSE_VECTOR, vector);
}

typedef struct gathering {
	fake_object from, to;
} gathering;

static const char gather[] = "cusparseGather";

static bool gathered_on_device(const gathering *g) {
	size_t size = fake_size(g->to.type), index = g->to.index_type == CUSPARSE_INDEX_64I ? 8 : 4;
	return fake_on_device(gather, "the indices", g->to.indices, (size_t)g->to.nnz * index) &&
		   fake_on_device(gather, "what is gathered", g->from.values, (size_t)g->from.rows * size) &&
		   fake_on_device(gather, "the result", g->to.values, (size_t)g->to.nnz * size);
}

static void run_gather(void *argument) {
	const gathering *g = argument;
	if (!gathered_on_device(g))
		return;
	for (int64_t i = 0; i < g->to.nnz; i++) {
		int64_t index = g->to.index_type == CUSPARSE_INDEX_64I ? ((const int64_t *)g->to.indices)[i]
															   : ((const int32_t *)g->to.indices)[i];
		if (index < 0 || index >= g->from.rows) {
			fake_fault(gather, "index %lld of %lld", (long long)index, (long long)g->from.rows);
			return;
		}
		fake_store(g->to.values, g->to.type, i, fake_load(g->from.values, g->from.type, index));
	}
}

cusparseStatus_t CUSPARSEAPI cusparseGather(cusparseHandle_t handle, cusparseConstDnVecDescr_t from,
											cusparseSpVecDescr_t to) {
	TAKE(gather, CUSPARSE_STATUS_EXECUTION_FAILED);
	REFUSE_IF(!good_handle(gather, handle), gather, CUSPARSE_STATUS_NOT_INITIALIZED);
	const fake_object *y = fake_find(FAKE_DENSE_VECTOR, from), *x = fake_find(FAKE_SPARSE_VECTOR, to);
	REFUSE_IF(!x || !y, gather, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(x->rows != y->rows || x->type != y->type, gather, CUSPARSE_STATUS_INVALID_VALUE);
	gathering g = {*y, *x};
	if (!gathered_on_device(&g))
		return CUSPARSE_STATUS_EXECUTION_FAILED;
	return enqueue(gather, handle, run_gather, &g, sizeof g);
}
