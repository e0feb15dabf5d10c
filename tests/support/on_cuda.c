/* SPDX-License-Identifier: Apache-2.0 */
#include "support/on_cuda.h"

/* Here they are themselves. */
#undef sl_spmm
#undef sl_sddmm
#undef sl_gemm
#undef sl_dense_copy
#undef sl_activate
#undef sl_activate_backward
#undef sl_sum_columns
#undef sl_norm2
#undef sl_plan_spmm
#undef sl_plan_sddmm
#undef sl_plan_run_spmm
#undef sl_plan_run_sddmm

#include "core/context.h"
#include "ops/ops.h"
#include "support/check.h"

/* The one context of the process. */
static sl_context *gpu;

static sl_context *cuda(void) {
	char error[256] = "";
	sl_context_options options;
	if (gpu)
		return gpu;
	SL_OPTIONS_INIT(options);
	options.device = SL_DEVICE_CUDA;
	options.error = error;
	options.error_size = sizeof error;
	if (sl_context_create(&gpu, &options) != SL_OK)
		sl_test_skip("no GPU: %s", error);
	return gpu;
}

__attribute__((destructor)) static void close_context(void) {
	sl_context_destroy(gpu);
}

/* A host view's twin on the GPU. */
typedef struct twin {
	sl_dense view;
	const sl_dense *of;
	size_t bytes;
} twin;

static sl_status memory(size_t bytes, const void *from, void **to) {
	sl_device_state *state = sli_device(cuda());
	SL_TRY(state->backend->allocate(state->device, bytes, SL_MEMORY_DEVICE, to));
	return bytes ? state->backend->copy(state->device, *to, SL_MEMORY_DEVICE, from, SL_MEMORY_HOST, bytes) : SL_OK;
}

static void give_back(void *pointer, size_t bytes) {
	sl_device_state *state = sli_device(cuda());
	state->backend->release(state->device, pointer, bytes, SL_MEMORY_DEVICE);
}

static sl_status back(void *to, const void *from, size_t bytes) {
	sl_device_state *state = sli_device(cuda());
	if (!bytes)
		return SL_OK;
	SL_TRY(state->backend->copy(state->device, to, SL_MEMORY_HOST, from, SL_MEMORY_DEVICE, bytes));
	return state->backend->synchronize(state->device);
}

/* What cannot be copied is handed on as it is: the op refuses it. */
static sl_status up(twin *t, const sl_dense *of) {
	*t = (twin){0};
	if (!of)
		return SL_OK;
	t->view = *of;
	t->of = of;
	if (of->device != SL_DEVICE_CPU && of->device != SL_DEVICE_AUTO)
		return SL_OK;
	t->view.device = SL_DEVICE_CUDA;
	t->view.device_index = 0;
	if (!of->data || sl_dense_check(cuda(), of) != SL_OK || !sli_span(of, &t->bytes) || !t->bytes)
		return SL_OK;
	return memory(t->bytes, of->data, &t->view.data);
}

static sl_status down(twin *t, bool written) {
	sl_status status = written && t->bytes ? back(t->of->data, t->view.data, t->bytes) : SL_OK;
	if (t->bytes)
		give_back(t->view.data, t->bytes);
	return status;
}

static sl_dense *of(twin *t) {
	return t->of ? &t->view : NULL;
}

/* The caller's context gets the message. */
static sl_status told(sl_context *context, sl_status status) {
	return status == SL_OK ? SL_OK : sli_fail(context, status, "%s", sl_context_message(cuda()));
}

/* Bias and pre-activation of an epilogue. */
typedef struct finish {
	sl_epilogue own;
	twin pre;
	size_t bias_bytes;
	bool any;
} finish;

static sl_status finish_up(finish *f, const sl_epilogue *given, const sl_dense *C) {
	*f = (finish){0};
	if (!given || !C)
		return SL_OK;
	f->any = true;
	f->own = *given;
	if (given->bias && C->rows > 0) {
		void *bias;
		f->bias_bytes = (size_t)C->rows * (C->dtype == SL_F64 ? 8 : 4);
		SL_TRY(memory(f->bias_bytes, given->bias, &bias));
		f->own.bias = bias;
	}
	SL_TRY(up(&f->pre, given->pre_activation));
	f->own.pre_activation = of(&f->pre);
	return SL_OK;
}

static sl_status finish_down(finish *f, bool written) {
	if (f->bias_bytes)
		give_back((void *)(uintptr_t)f->own.bias, f->bias_bytes);
	return down(&f->pre, written);
}

static const sl_epilogue *epilogue_of(const finish *f) {
	return f->any ? &f->own : NULL;
}

static sl_status matrix(sl_csr **twin_of, const sl_csr *A) {
	*twin_of = NULL;
	return A ? sl_csr_convert(twin_of, cuda(), A, sl_csr_dtype(A)) : SL_OK;
}

static sl_status product(const sl_plan *plan, sl_transpose transpose, double alpha, const sl_csr *A,
						 const sl_dense *dense, const sl_dense *B, double beta, sl_dense *C,
						 const sl_epilogue *epilogue) {
	twin a, b, c;
	finish f;
	sl_csr *S;
	SL_TRY(up(&a, dense));
	SL_TRY(up(&b, B));
	SL_TRY(up(&c, C));
	SL_TRY(finish_up(&f, epilogue, C));
	SL_TRY(matrix(&S, A));
	sl_status status = dense  ? sl_gemm(cuda(), alpha, of(&a), of(&b), beta, of(&c), epilogue_of(&f))
					   : plan ? sl_plan_run_spmm(cuda(), plan, alpha, S, of(&b), beta, of(&c), epilogue_of(&f))
							  : sl_spmm(cuda(), transpose, alpha, S, of(&b), beta, of(&c), epilogue_of(&f));
	bool good = status == SL_OK;
	sl_status parts[] = {down(&a, false), down(&b, false), down(&c, good), finish_down(&f, good)};
	sl_csr_destroy(S);
	for (int i = 0; i < 4 && status == SL_OK; i++)
		status = parts[i];
	return status;
}

sl_status on_cuda_spmm(sl_context *context, sl_transpose transpose, double alpha, const sl_csr *A, const sl_dense *B,
					   double beta, sl_dense *C, const sl_epilogue *epilogue) {
	return told(context, product(NULL, transpose, alpha, A, NULL, B, beta, C, epilogue));
}

sl_status on_cuda_gemm(sl_context *context, double alpha, const sl_dense *A, const sl_dense *B, double beta,
					   sl_dense *C, const sl_epilogue *epilogue) {
	if (!A)
		return told(context, sl_gemm(cuda(), alpha, NULL, B, beta, C, epilogue));
	return told(context, product(NULL, SL_NO_TRANSPOSE, alpha, NULL, A, B, beta, C, epilogue));
}

sl_status on_cuda_plan_run_spmm(sl_context *context, const sl_plan *plan, double alpha, const sl_csr *A,
								const sl_dense *B, double beta, sl_dense *C, const sl_epilogue *epilogue) {
	return told(context, product(plan, SL_NO_TRANSPOSE, alpha, A, NULL, B, beta, C, epilogue));
}

static sl_status sampled(const sl_plan *plan, double alpha, const sl_dense *A, const sl_dense *B, double beta,
						 sl_csr *S) {
	twin a, b;
	sl_csr *own;
	SL_TRY(up(&a, A));
	SL_TRY(up(&b, B));
	SL_TRY(matrix(&own, S));
	sl_status status = plan ? sl_plan_run_sddmm(cuda(), plan, alpha, of(&a), of(&b), beta, own)
							: sl_sddmm(cuda(), alpha, of(&a), of(&b), beta, own);
	if (status == SL_OK && sl_csr_values(own))
		status = back(sl_csr_values(S), sl_csr_values(own), sli_csr_bytes(own));
	sl_csr_destroy(own);
	sl_status parts[] = {down(&a, false), down(&b, false)};
	return status != SL_OK ? status : parts[0] != SL_OK ? parts[0] : parts[1];
}

sl_status on_cuda_sddmm(sl_context *context, double alpha, const sl_dense *A, const sl_dense *B, double beta,
						sl_csr *S) {
	return told(context, sampled(NULL, alpha, A, B, beta, S));
}

sl_status on_cuda_plan_run_sddmm(sl_context *context, const sl_plan *plan, double alpha, const sl_dense *A,
								 const sl_dense *B, double beta, sl_csr *S) {
	return told(context, sampled(plan, alpha, A, B, beta, S));
}

/* A plan reads shapes alone. */
static sl_dense shape(const sl_dense *v) {
	sl_dense s = v ? *v : (sl_dense){0};
	s.data = NULL;
	s.device = SL_DEVICE_CUDA;
	s.device_index = 0;
	return s;
}

sl_status on_cuda_plan_spmm(sl_plan **plan, sl_context *context, sl_transpose transpose, const sl_csr *A,
							const sl_dense *B, const sl_dense *C, const sl_epilogue *epilogue) {
	sl_dense b = shape(B), c = shape(C), pre;
	sl_epilogue own;
	if (epilogue) {
		own = *epilogue;
		if (own.pre_activation) {
			pre = shape(own.pre_activation);
			own.pre_activation = &pre;
		}
	}
	return told(context,
				sl_plan_spmm(plan, cuda(), transpose, A, B ? &b : NULL, C ? &c : NULL, epilogue ? &own : NULL));
}

sl_status on_cuda_plan_sddmm(sl_plan **plan, sl_context *context, const sl_dense *A, const sl_dense *B,
							 const sl_csr *S) {
	sl_dense a = shape(A), b = shape(B);
	return told(context, sl_plan_sddmm(plan, cuda(), A ? &a : NULL, B ? &b : NULL, S));
}

typedef sl_status (*unary)(const sl_dense *x, const sl_dense *y, sl_dense *z, const void *argument);

/* z may be x or y. */
static sl_status apply(unary op, const sl_dense *X, const sl_dense *Y, sl_dense *Z, const void *argument) {
	twin x, y, z;
	SL_TRY(up(&x, X));
	SL_TRY(up(&y, Y));
	SL_TRY(up(&z, Z));
	bool over_x = Z && X && Z->data && Z->data == X->data, over_y = Z && Y && Z->data && Z->data == Y->data;
	sl_dense to = z.view;
	if (over_x && x.bytes == z.bytes)
		to.data = x.view.data;
	if (over_y && y.bytes == z.bytes)
		to.data = y.view.data;
	sl_status status = op(of(&x), of(&y), z.of ? &to : NULL, argument);
	if (status == SL_OK && z.bytes)
		status = back(Z->data, to.data, z.bytes);
	sl_status parts[] = {down(&x, false), down(&y, false), down(&z, false)};
	for (int i = 0; i < 3 && status == SL_OK; i++)
		status = parts[i];
	return status;
}

static sl_status run_copy(const sl_dense *x, const sl_dense *y, sl_dense *z, const void *argument) {
	(void)y, (void)argument;
	return sl_dense_copy(cuda(), x, z);
}

sl_status on_cuda_copy(sl_context *context, const sl_dense *source, sl_dense *destination) {
	return told(context, apply(run_copy, source, NULL, destination, NULL));
}

typedef struct function {
	sl_activation activation;
	double parameter;
} function;

static sl_status run_activate(const sl_dense *x, const sl_dense *y, sl_dense *z, const void *argument) {
	const function *f = argument;
	(void)y;
	return sl_activate(cuda(), f->activation, f->parameter, x, z);
}

static sl_status run_backward(const sl_dense *x, const sl_dense *y, sl_dense *z, const void *argument) {
	const function *f = argument;
	return sl_activate_backward(cuda(), f->activation, f->parameter, x, y, z);
}

sl_status on_cuda_activate(sl_context *context, sl_activation activation, double parameter, const sl_dense *X,
						   sl_dense *Y) {
	return told(context, apply(run_activate, X, NULL, Y, &(function){activation, parameter}));
}

sl_status on_cuda_activate_backward(sl_context *context, sl_activation activation, double parameter,
									const sl_dense *saved, const sl_dense *dY, sl_dense *dX) {
	return told(context, apply(run_backward, saved, dY, dX, &(function){activation, parameter}));
}

sl_status on_cuda_sum_columns(sl_context *context, const sl_dense *A, double beta, void *sums) {
	twin a;
	void *own = NULL;
	size_t bytes = A && sums && A->rows > 0 ? (size_t)A->rows * (A->dtype == SL_F64 ? 8 : 4) : 0;
	SL_TRY(up(&a, A));
	if (bytes)
		SL_TRY(memory(bytes, sums, &own));
	sl_status status = sl_sum_columns(cuda(), of(&a), beta, sums ? own : NULL);
	if (status == SL_OK)
		status = back(sums, own, bytes);
	if (bytes)
		give_back(own, bytes);
	sl_status rest = down(&a, false);
	return told(context, status == SL_OK ? rest : status);
}

sl_status on_cuda_norm2(sl_context *context, const void *values, sl_dtype dtype, int64_t count, double *norm) {
	void *own = NULL;
	size_t bytes = values && count > 0 && sl_dtype_size(dtype) ? (size_t)count * sl_dtype_size(dtype) : 0;
	if (bytes)
		SL_TRY(memory(bytes, values, &own));
	sl_status status = sl_norm2(cuda(), bytes ? own : values, dtype, count, norm);
	if (bytes)
		give_back(own, bytes);
	return told(context, status);
}
