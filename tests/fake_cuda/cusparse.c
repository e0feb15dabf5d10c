/* SPDX-License-Identifier: Apache-2.0 */
/* cuSPARSE: CSR times dense, and gather. */
#include "state.h"

#include <stdlib.h>

#define TAKE(name, status)                                                                                             \
	do {                                                                                                               \
		if (fake_take(name))                                                                                           \
			return status;                                                                                             \
	} while (0)

/* Refused arguments are faults: the real one prints them, so that its caller should not get here. */
#define REFUSE_IF(condition, call, status)                                                                             \
	do {                                                                                                               \
		if (condition) {                                                                                               \
			fake_fault(call, "refused, as %s", #condition);                                                            \
			return status;                                                                                             \
		}                                                                                                              \
	} while (0)

static long long widest;
static bool falling;

void fake_cuda_falling_buffers(bool on) {
	falling = on;
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

const char *CUSPARSEAPI cusparseGetErrorString(cusparseStatus_t status) {
	return status == CUSPARSE_STATUS_ALLOC_FAILED ? "resource allocation failed" : "an error of the fake cuSPARSE";
}

cusparseStatus_t CUSPARSEAPI cusparseCreate(cusparseHandle_t *handle) {
	TAKE("cusparseCreate", CUSPARSE_STATUS_ALLOC_FAILED);
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
	REFUSE_IF(type != CUDA_R_32F && type != CUDA_R_64F, call, CUSPARSE_STATUS_NOT_SUPPORTED);
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

cusparseStatus_t CUSPARSEAPI cusparseCreateDnMat(cusparseDnMatDescr_t *matrix, int64_t rows, int64_t cols, int64_t ld,
												 void *values, cudaDataType type, cusparseOrder_t order) {
	static const char call[] = "cusparseCreateDnMat";
	TAKE(call, CUSPARSE_STATUS_ALLOC_FAILED);
	REFUSE_IF(!matrix || !values || rows < 0 || cols < 0, call, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(ld < 1 || ld < (order == CUSPARSE_ORDER_ROW ? cols : rows), call, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(type != CUDA_R_32F && type != CUDA_R_64F, call, CUSPARSE_STATUS_NOT_SUPPORTED);
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

/* A product as it was asked for. */
typedef struct product {
	const fake_object *a, *b, *c;
	bool transpose_a, transpose_b;
	int64_t m, n, k; /* of op(A) op(B) */
	double alpha, beta;
} product;

static cusparseStatus_t take_product(const char *call, cusparseHandle_t handle, cusparseOperation_t op_a,
									 cusparseOperation_t op_b, const void *alpha, cusparseConstSpMatDescr_t a,
									 cusparseConstDnMatDescr_t b, const void *beta, cusparseConstDnMatDescr_t c,
									 cudaDataType type, cusparseSpMMAlg_t algorithm, product *p) {
	REFUSE_IF(!good_handle(call, handle), call, CUSPARSE_STATUS_NOT_INITIALIZED);
	p->a = fake_find(FAKE_SPARSE_MATRIX, a);
	p->b = fake_find(FAKE_DENSE_MATRIX, b);
	p->c = fake_find(FAKE_DENSE_MATRIX, c);
	REFUSE_IF(!p->a || !p->b || !p->c, call, CUSPARSE_STATUS_INVALID_VALUE);
	p->transpose_a = op_a != CUSPARSE_OPERATION_NON_TRANSPOSE;
	p->transpose_b = op_b != CUSPARSE_OPERATION_NON_TRANSPOSE;
	p->m = p->transpose_a ? p->a->cols : p->a->rows;
	p->k = p->transpose_a ? p->a->rows : p->a->cols;
	p->n = p->transpose_b ? p->b->rows : p->b->cols;
	REFUSE_IF(p->k != (p->transpose_b ? p->b->cols : p->b->rows), call, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(p->m != p->c->rows || p->n != p->c->cols, call, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(p->a->type != type || p->b->type != type || p->c->type != type, call, CUSPARSE_STATUS_NOT_SUPPORTED);
	REFUSE_IF(algorithm != CUSPARSE_SPMM_CSR_ALG1 && algorithm != CUSPARSE_SPMM_CSR_ALG2 &&
				  algorithm != CUSPARSE_SPMM_CSR_ALG3,
			  call, CUSPARSE_STATUS_NOT_SUPPORTED);
	REFUSE_IF(algorithm == CUSPARSE_SPMM_CSR_ALG3 && p->transpose_a, call, CUSPARSE_STATUS_NOT_SUPPORTED);
	REFUSE_IF(!fake_on_host(call, "alpha", alpha, fake_size(type)) ||
				  !fake_on_host(call, "beta", beta, fake_size(type)),
			  call, CUSPARSE_STATUS_INVALID_VALUE);
	p->alpha = fake_load(alpha, type, 0);
	p->beta = fake_load(beta, type, 0);
	return CUSPARSE_STATUS_SUCCESS;
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

static bool good_structure(const fake_object *a) {
	const int32_t *offsets = a->offsets, *indices = a->indices;
	if (offsets[0] != 0 || offsets[a->rows] != a->nnz)
		return false;
	for (int64_t r = 0; r < a->rows; r++)
		if (offsets[r] > offsets[r + 1] || offsets[r + 1] > a->nnz)
			return false;
	for (int64_t k = 0; k < a->nnz; k++)
		if (indices[k] < 0 || indices[k] >= a->cols)
			return false;
	return true;
}

/* C = beta C, then C += alpha A B one entry of A at a time, summed in double. */
static bool multiply(const product *p, bool silent_zeros) {
	const fake_object *a = p->a, *b = p->b, *c = p->c;
	double *sums = calloc((size_t)(p->m * p->n) + 1, sizeof *sums);
	const int32_t *offsets = a->offsets, *indices = a->indices;
	if (!sums)
		return false;
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
	return true;
}

cusparseStatus_t CUSPARSEAPI cusparseSpMM(cusparseHandle_t handle, cusparseOperation_t op_a, cusparseOperation_t op_b,
										  const void *alpha, cusparseConstSpMatDescr_t a, cusparseConstDnMatDescr_t b,
										  const void *beta, cusparseDnMatDescr_t c, cudaDataType type,
										  cusparseSpMMAlg_t algorithm, void *buffer) {
	static const char call[] = "cusparseSpMM";
	product p;
	TAKE(call, CUSPARSE_STATUS_EXECUTION_FAILED);
	cusparseStatus_t status = take_product(call, handle, op_a, op_b, alpha, a, b, beta, c, type, algorithm, &p);
	if (status != CUSPARSE_STATUS_SUCCESS)
		return status;
	if (!sparse_on_device(call, p.a) || !dense_on_device(call, "B", p.b) || !dense_on_device(call, "C", p.c) ||
		!fake_on_device(call, "the buffer", buffer, buffer_bytes(&p)))
		return CUSPARSE_STATUS_EXECUTION_FAILED;
	widest = p.n > widest ? p.n : widest;
	fake_map();
	bool good = good_structure(p.a);
	if (good) {
		for (size_t i = 0; i < buffer_bytes(&p); i++)
			((unsigned char *)buffer)[i] = 0xff;
		good = multiply(&p, algorithm == CUSPARSE_SPMM_CSR_ALG1 && p.n > (int64_t)65535 * 16);
	} else {
		fake_fault(call, "the structure of A is not valid");
	}
	fake_unmap();
	return good ? CUSPARSE_STATUS_SUCCESS : CUSPARSE_STATUS_EXECUTION_FAILED;
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
	REFUSE_IF(index_type != CUSPARSE_INDEX_32I || base != CUSPARSE_INDEX_BASE_ZERO, call,
			  CUSPARSE_STATUS_NOT_SUPPORTED);
	fake_object *o = fake_create(FAKE_SPARSE_VECTOR);
	if (!o)
		return CUSPARSE_STATUS_ALLOC_FAILED;
	o->rows = size, o->nnz = nnz, o->indices = indices, o->values = values, o->type = type;
	*vector = (cusparseSpVecDescr_t)o->id;
	return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t CUSPARSEAPI cusparseDestroySpVec(cusparseConstSpVecDescr_t vector) {
	return destroy("cusparseDestroySpVec", FAKE_SPARSE_VECTOR, vector);
}

cusparseStatus_t CUSPARSEAPI cusparseGather(cusparseHandle_t handle, cusparseConstDnVecDescr_t from,
											cusparseSpVecDescr_t to) {
	static const char call[] = "cusparseGather";
	TAKE(call, CUSPARSE_STATUS_EXECUTION_FAILED);
	REFUSE_IF(!good_handle(call, handle), call, CUSPARSE_STATUS_NOT_INITIALIZED);
	const fake_object *y = fake_find(FAKE_DENSE_VECTOR, from), *x = fake_find(FAKE_SPARSE_VECTOR, to);
	REFUSE_IF(!x || !y, call, CUSPARSE_STATUS_INVALID_VALUE);
	REFUSE_IF(x->rows != y->rows || x->type != y->type, call, CUSPARSE_STATUS_INVALID_VALUE);
	size_t size = fake_size(x->type);
	if (!fake_on_device(call, "the indices", x->indices, (size_t)x->nnz * 4) ||
		!fake_on_device(call, "what is gathered", y->values, (size_t)y->rows * size) ||
		!fake_on_device(call, "the result", x->values, (size_t)x->nnz * size))
		return CUSPARSE_STATUS_EXECUTION_FAILED;
	bool good = true;
	fake_map();
	for (int64_t i = 0; i < x->nnz && good; i++) {
		int32_t index = ((const int32_t *)x->indices)[i];
		good = index >= 0 && index < y->rows;
		if (good)
			fake_store(x->values, x->type, i, fake_load(y->values, y->type, index));
		else
			fake_fault(call, "index %d of %lld", index, (long long)y->rows);
	}
	fake_unmap();
	return good ? CUSPARSE_STATUS_SUCCESS : CUSPARSE_STATUS_EXECUTION_FAILED;
}
