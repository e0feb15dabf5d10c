/* SPDX-License-Identifier: Apache-2.0 */
/* cuBLAS: dense products, and sums of two matrices. All is column-major. */
#include "state.h"

static int math_mode = -1, computed_in = -1;

int fake_cuda_math_mode(void) {
	return math_mode;
}

int fake_cuda_compute_type(void) {
	return computed_in;
}

const char *CUBLASWINAPI cublasGetStatusString(cublasStatus_t status) {
	return status == CUBLAS_STATUS_ALLOC_FAILED ? "resource allocation failed" : "an error of the fake cuBLAS";
}

cublasStatus_t CUBLASWINAPI cublasCreate(cublasHandle_t *handle) {
	TAKE("cublasCreate", CUBLAS_STATUS_ALLOC_FAILED);
	if (fake_breaks_capture("cublasCreate"))
		return CUBLAS_STATUS_INTERNAL_ERROR;
	fake_object *o = fake_create(FAKE_CUBLAS);
	*handle = o ? (cublasHandle_t)o->id : NULL;
	return o ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t CUBLASWINAPI cublasDestroy(cublasHandle_t handle) {
	bool failing = fake_take("cublasDestroy");
	if (!fake_remove(FAKE_CUBLAS, handle)) {
		fake_fault("cublasDestroy", "the handle does not exist");
		return CUBLAS_STATUS_NOT_INITIALIZED;
	}
	return failing ? CUBLAS_STATUS_INTERNAL_ERROR : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
	TAKE("cublasSetStream", CUBLAS_STATUS_INTERNAL_ERROR);
	fake_object *o = fake_find(FAKE_CUBLAS, handle);
	REFUSE_IF(!o, "cublasSetStream", CUBLAS_STATUS_NOT_INITIALIZED);
	REFUSE_IF(!fake_stream("cublasSetStream", stream), "cublasSetStream", CUBLAS_STATUS_INVALID_VALUE);
	o->stream = stream;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
	TAKE("cublasSetMathMode", CUBLAS_STATUS_INTERNAL_ERROR);
	REFUSE_IF(!fake_find(FAKE_CUBLAS, handle), "cublasSetMathMode", CUBLAS_STATUS_NOT_INITIALIZED);
	/* Flags go with a mode; sums of halves in 16 bits are nothing to ask for. */
	unsigned plain = (unsigned)mode & ~(unsigned)CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
	REFUSE_IF(plain != CUBLAS_DEFAULT_MATH && plain != CUBLAS_TF32_TENSOR_OP_MATH && plain != CUBLAS_PEDANTIC_MATH,
			  "cublasSetMathMode", CUBLAS_STATUS_INVALID_VALUE);
	math_mode = (int)mode;
	return CUBLAS_STATUS_SUCCESS;
}

/* Memory of the caller's, so that none is allocated while a stream captures. */
cublasStatus_t CUBLASWINAPI cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t bytes) {
	TAKE("cublasSetWorkspace", CUBLAS_STATUS_INTERNAL_ERROR);
	fake_object *o = fake_find(FAKE_CUBLAS, handle);
	REFUSE_IF(!o, "cublasSetWorkspace", CUBLAS_STATUS_NOT_INITIALIZED);
	REFUSE_IF((uintptr_t)workspace % 256, "cublasSetWorkspace", CUBLAS_STATUS_INVALID_VALUE);
	o->buffer = workspace;
	o->bytes = bytes;
	return CUBLAS_STATUS_SUCCESS;
}

static bool good_handle(const char *call, cublasHandle_t handle) {
	const fake_object *o = fake_find(FAKE_CUBLAS, handle);
	if (!o)
		fake_fault(call, "the handle does not exist");
	else if (o->device != fake_current_device())
		fake_fault(call, "the handle belongs to GPU %d; %d is current", o->device, fake_current_device());
	return o && o->device == fake_current_device() && fake_stream(call, o->stream);
}

/* A matrix as it lies: op(it) is rows x cols. */
typedef struct operand {
	const void *data;
	bool transpose;
	int64_t rows, cols, ld;
} operand;

static operand make_operand(const void *data, cublasOperation_t op, int64_t rows, int64_t cols, int64_t ld) {
	return (operand){data, op != CUBLAS_OP_N, rows, cols, ld};
}

static bool good_ld(const operand *o) {
	int64_t least = o->transpose ? o->cols : o->rows;
	return o->ld >= (least > 1 ? least : 1);
}

static bool on_device(const char *call, const char *what, const operand *o, cudaDataType type) {
	size_t span = o->transpose ? fake_span(o->rows, o->cols, o->ld) : fake_span(o->cols, o->rows, o->ld);
	return !span || fake_on_device(call, what, o->data, span * fake_size(type));
}

static double load(const operand *o, cudaDataType type, int64_t r, int64_t c) {
	return fake_load(o->data, type, o->transpose ? r * o->ld + c : c * o->ld + r);
}

typedef struct sums {
	operand a, b, c;
	double alpha, beta;
	cudaDataType type, in; /* of C; of A and B */
	void *workspace;
	size_t workspace_bytes;
} sums;

static bool all_on_device(const char *call, const sums *s) {
	return on_device(call, "A", &s->a, s->in) && on_device(call, "B", &s->b, s->in) &&
		   on_device(call, "C", &s->c, s->type) &&
		   (!s->workspace || fake_on_device(call, "the workspace", s->workspace, s->workspace_bytes));
}

static void run_gemm(void *argument) {
	const sums *s = argument;
	if (!all_on_device("cublasGemm", s))
		return;
	for (int64_t j = 0; j < s->c.cols; j++)
		for (int64_t i = 0; i < s->c.rows; i++) {
			double sum = s->beta != 0 ? s->beta * load(&s->c, s->type, i, j) : 0;
			for (int64_t k = 0; k < s->a.cols; k++)
				sum += s->alpha * load(&s->a, s->in, i, k) * load(&s->b, s->in, k, j);
			fake_store((void *)(uintptr_t)s->c.data, s->type, j * s->c.ld + i, sum);
		}
}

static cublasStatus_t queue(const char *call, cublasHandle_t handle, void (*run)(void *), sums *s, const void *alpha_at,
							const void *beta_at) {
	cudaDataType compute = s->type == CUDA_R_64F ? CUDA_R_64F : CUDA_R_32F;
	size_t size = fake_size(compute);
	REFUSE_IF(!fake_on_host(call, "alpha", alpha_at, size) || !fake_on_host(call, "beta", beta_at, size), call,
			  CUBLAS_STATUS_INVALID_VALUE);
	s->alpha = fake_load(alpha_at, compute, 0), s->beta = fake_load(beta_at, compute, 0);
	const fake_object *o = fake_find(FAKE_CUBLAS, handle);
	if (fake_captures(o->stream) && !o->buffer) {
		fake_fault(call, "without cublasSetWorkspace() in a capture");
		return CUBLAS_STATUS_EXECUTION_FAILED;
	}
	s->workspace = o->buffer, s->workspace_bytes = o->bytes;
	if (!all_on_device(call, s))
		return CUBLAS_STATUS_EXECUTION_FAILED;
	return fake_enqueue(call, o->stream, run, s, sizeof *s) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
																		   : CUBLAS_STATUS_ALLOC_FAILED;
}

static cublasStatus_t gemm(const char *call, cudaDataType in, cudaDataType type, cublasHandle_t handle, operand a,
						   operand b, operand c, const void *alpha_at, const void *beta_at) {
	TAKE(call, CUBLAS_STATUS_EXECUTION_FAILED);
	REFUSE_IF(!good_handle(call, handle), call, CUBLAS_STATUS_NOT_INITIALIZED);
	/* What k = 0 does is not in the manual. */
	REFUSE_IF(c.rows < 0 || c.cols < 0 || a.cols < 1, call, CUBLAS_STATUS_INVALID_VALUE);
	REFUSE_IF(!good_ld(&a) || !good_ld(&b) || !good_ld(&c), call, CUBLAS_STATUS_INVALID_VALUE);
	sums s = {.a = a, .b = b, .c = c, .type = type, .in = in};
	return queue(call, handle, run_gemm, &s, alpha_at, beta_at);
}

/* One dtype for all, sums in float32: what the backend asks for. */
cublasStatus_t CUBLASWINAPI cublasGemmEx_64(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
											int64_t m, int64_t n, int64_t k, const void *alpha, const void *a,
											cudaDataType a_type, int64_t lda, const void *b, cudaDataType b_type,
											int64_t ldb, const void *beta, void *c, cudaDataType c_type, int64_t ldc,
											cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
	static const char call[] = "cublasGemmEx";
	bool half = a_type == CUDA_R_16F || a_type == CUDA_R_16BF;
	REFUSE_IF(a_type != b_type || (a_type != c_type && !(half && c_type == CUDA_R_32F)) || !fake_is_value(a_type), call,
			  CUBLAS_STATUS_NOT_SUPPORTED);
	REFUSE_IF(compute != (a_type == CUDA_R_64F ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F) &&
				  !(a_type == CUDA_R_32F && compute == CUBLAS_COMPUTE_32F_FAST_TF32),
			  call, CUBLAS_STATUS_NOT_SUPPORTED);
	REFUSE_IF(algorithm != CUBLAS_GEMM_DEFAULT, call, CUBLAS_STATUS_NOT_SUPPORTED);
	computed_in = (int)compute;
	return gemm(call, a_type, c_type, handle, make_operand(a, op_a, m, k, lda), make_operand(b, op_b, k, n, ldb),
				make_operand(c, CUBLAS_OP_N, m, n, ldc), alpha, beta);
}

static void run_scale(void *argument) {
	const sums *s = argument;
	if (!on_device("cublasScalEx", "X", &s->c, s->type))
		return;
	for (int64_t i = 0; i < s->c.rows; i++)
		fake_store((void *)(uintptr_t)s->c.data, s->type, i, s->alpha * fake_load(s->c.data, s->type, i));
}

cublasStatus_t CUBLASWINAPI cublasScalEx_64(cublasHandle_t handle, int64_t n, const void *alpha,
											cudaDataType alpha_type, void *x, cudaDataType x_type, int64_t step,
											cudaDataType compute) {
	static const char call[] = "cublasScalEx";
	TAKE(call, CUBLAS_STATUS_EXECUTION_FAILED);
	REFUSE_IF(!good_handle(call, handle), call, CUBLAS_STATUS_NOT_INITIALIZED);
	REFUSE_IF(n < 0 || step != 1 || alpha_type != CUDA_R_32F || compute != CUDA_R_32F, call,
			  CUBLAS_STATUS_NOT_SUPPORTED);
	REFUSE_IF(!fake_on_host(call, "alpha", alpha, 4), call, CUBLAS_STATUS_INVALID_VALUE);
	sums s = {.c = make_operand(x, CUBLAS_OP_N, n, 1, n ? n : 1),
			  .type = x_type,
			  .in = x_type,
			  .alpha = *(const float *)alpha};
	if (!on_device(call, "X", &s.c, x_type))
		return CUBLAS_STATUS_EXECUTION_FAILED;
	return fake_enqueue(call, fake_find(FAKE_CUBLAS, handle)->stream, run_scale, &s, sizeof s) == cudaSuccess
			   ? CUBLAS_STATUS_SUCCESS
			   : CUBLAS_STATUS_ALLOC_FAILED;
}

/* Whether C may lie where an operand does: not transposed, with the same leading dimension. */
static bool in_place(const operand *o, const operand *c) {
	return o->data != c->data || (!o->transpose && o->ld == c->ld);
}

static void run_geam(void *argument) {
	const sums *s = argument;
	if (!all_on_device("cublasGeam", s))
		return;
	for (int64_t j = 0; j < s->c.cols; j++)
		for (int64_t i = 0; i < s->c.rows; i++) {
			double sum = s->alpha != 0 ? s->alpha * load(&s->a, s->type, i, j) : 0;
			sum += s->beta != 0 ? s->beta * load(&s->b, s->type, i, j) : 0;
			fake_store((void *)(uintptr_t)s->c.data, s->type, j * s->c.ld + i, sum);
		}
}

static cublasStatus_t geam(const char *call, cudaDataType type, cublasHandle_t handle, operand a, operand b, operand c,
						   const void *alpha_at, const void *beta_at) {
	TAKE(call, CUBLAS_STATUS_EXECUTION_FAILED);
	REFUSE_IF(!good_handle(call, handle), call, CUBLAS_STATUS_NOT_INITIALIZED);
	REFUSE_IF(c.rows < 0 || c.cols < 0, call, CUBLAS_STATUS_INVALID_VALUE);
	REFUSE_IF(!good_ld(&a) || !good_ld(&b) || !good_ld(&c), call, CUBLAS_STATUS_INVALID_VALUE);
	REFUSE_IF(!in_place(&a, &c) || !in_place(&b, &c), call, CUBLAS_STATUS_INVALID_VALUE);
	sums s = {.a = a, .b = b, .c = c, .type = type, .in = type};
	return queue(call, handle, run_geam, &s, alpha_at, beta_at);
}

cublasStatus_t CUBLASWINAPI cublasSgeam_64(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
										   int64_t m, int64_t n, const float *alpha, const float *a, int64_t lda,
										   const float *beta, const float *b, int64_t ldb, float *c, int64_t ldc) {
	return geam("cublasSgeam", CUDA_R_32F, handle, make_operand(a, op_a, m, n, lda), make_operand(b, op_b, m, n, ldb),
				make_operand(c, CUBLAS_OP_N, m, n, ldc), alpha, beta);
}

cublasStatus_t CUBLASWINAPI cublasDgeam_64(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
										   int64_t m, int64_t n, const double *alpha, const double *a, int64_t lda,
										   const double *beta, const double *b, int64_t ldb, double *c, int64_t ldc) {
	return geam("cublasDgeam", CUDA_R_64F, handle, make_operand(a, op_a, m, n, lda), make_operand(b, op_b, m, n, ldb),
				make_operand(c, CUBLAS_OP_N, m, n, ldc), alpha, beta);
}
