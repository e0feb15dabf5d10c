/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dense products that cuBLAS alone does not make: with bias, activation or pre-activation, of panels, or rounded to 16
 * bits behind all that. cuBLAS multiplies, an own kernel does the rest; operands are brought row by row.
 */
#include "own.h"

#include <stdio.h>

static bool laid_out(const sl_matrix_desc *m) {
	return sli_row_major(m) || sli_col_major(m);
}

/* Sums are of this type, and are rounded behind the epilogue. */
static sl_dtype wide(sl_dtype dtype) {
	return dtype == SL_F64 ? SL_F64 : SL_F32;
}

bool sli_dense_runs(const sl_op_desc *desc) {
	return desc->kind == SL_OP_GEMM &&
		   (desc->bias || desc->pre_activation || desc->activation != SL_IDENTITY || !laid_out(&desc->a) ||
			!laid_out(&desc->b) || !laid_out(&desc->c) || wide(desc->c.dtype) != desc->c.dtype);
}

typedef struct places {
	sl_place a, b, c, d, product;
	size_t end;
} places;

static places place(const sl_op_desc *desc) {
	places p = {0};
	p.a = laid_out(&desc->a) ? (sl_place){.ld = desc->a.ld} : sli_place(&desc->a, true, &p.end);
	p.b = laid_out(&desc->b) ? (sl_place){.ld = desc->b.ld} : sli_place(&desc->b, true, &p.end);
	p.c = sli_place(&desc->c, true, &p.end);
	if (desc->pre_activation)
		p.d = sli_place(&desc->c, true, &p.end);
	if (wide(desc->c.dtype) != desc->c.dtype)
		p.product = sli_take_place(desc->c.rows, desc->c.cols, SL_F32, &p.end);
	return p;
}

sl_status sli_dense_supports(sl_cuda *cuda, const sl_op_desc *desc) {
	if (desc->b.dtype != desc->c.dtype || desc->a.dtype != desc->c.dtype)
		return sli_cuda_refuse(cuda, desc, "needs one dtype for all its matrices");
	if (desc->kernel)
		return sli_cuda_refuse(cuda, desc, "has no kernels to choose by name on CUDA");
	return SL_OK;
}

sl_status sli_dense_plan(sl_cuda *cuda, const sl_op_desc *desc, sl_op_plan *plan) {
	SL_TRY(sli_dense_supports(cuda, desc));
	*plan = (sl_op_plan){.desc = *desc, .workspace = place(desc).end};
	snprintf(plan->text, sizeof plan->text, "gemm of %s: cuBLAS, own epilogue", sli_name_of(desc->c.dtype));
	return sli_cublas_prepare(cuda);
}

/* product = alpha * a * b, plus beta * itself. */
static sl_status multiply(sl_cuda *cuda, const sl_dense *a, const sl_dense *b, double alpha, double beta,
						  sl_dense *product) {
	sl_op_desc desc = {.kind = SL_OP_GEMM,
					   .c = {product->rows, product->cols, product->ld, product->dtype, SL_ROW_MAJOR}};
	sl_op_args args = {.alpha = alpha, .beta = beta, .c = *product};
	if (!a->cols)
		return sli_cuda_scale(cuda, &desc.c, product, beta);
	return sli_cublas_product(cuda, &desc, a, b, &args);
}

static sl_status run(sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args) {
	places p = place(desc);
	void *room = args->workspace;
	sl_dense a = sli_placed(&p.a, &args->a, true, room), b = sli_placed(&p.b, &args->b, true, room);
	sl_dense c = sli_placed(&p.c, &args->c, true, room), d = c, product = c;
	bool apart = p.product.moved; /* the product has memory of its own, and c its old content */
	if (p.a.moved)
		SL_TRY(sli_cuda_check(cuda, (cudaError_t)sl_kernel_convert(&args->a, &a, cuda->stream), "the copy kernel"));
	if (p.b.moved)
		SL_TRY(sli_cuda_check(cuda, (cudaError_t)sl_kernel_convert(&args->b, &b, cuda->stream), "the copy kernel"));
	if (p.c.moved && args->beta != 0)
		SL_TRY(sli_cuda_check(cuda, (cudaError_t)sl_kernel_convert(&args->c, &c, cuda->stream), "the copy kernel"));
	if (apart) {
		product = sli_placed(&p.product, &args->c, true, room);
		product.dtype = SL_F32;
	}
	SL_TRY(multiply(cuda, &a, &b, args->alpha, apart ? 0 : args->beta, &product));
	sl_epilogue_call call = {.dtype = desc->c.dtype,
							 .product = product.data,
							 .c = c.data,
							 .bias = args->bias,
							 .rows = c.rows,
							 .cols = c.cols,
							 .padded = sli_written(&c),
							 .ldp = product.ld,
							 .ldc = c.ld,
							 .beta = apart ? args->beta : 0,
							 .parameter = desc->activation_parameter,
							 .activation = desc->activation};
	if (desc->pre_activation) {
		d = sli_placed(&p.d, &args->d, true, room);
		call.d = d.data;
		call.ldd = d.ld;
	}
	int error = sl_kernel_dense_epilogue(&call, cuda->stream);
	if (!error && p.c.moved)
		error = sl_kernel_convert(&c, &args->c, cuda->stream);
	if (!error && desc->pre_activation && p.d.moved)
		error = sl_kernel_convert(&d, &args->d, cuda->stream);
	return sli_cuda_check(cuda, (cudaError_t)error, "the epilogue kernel");
}

sl_status sli_dense_execute(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args) {
	int previous;
	if (!args->c.rows || !args->c.cols)
		return SL_OK;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	sl_status status = run(cuda, &plan->desc, args);
	sli_cuda_leave(previous);
	return status;
}
