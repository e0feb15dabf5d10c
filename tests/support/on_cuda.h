/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Included before a conformance suite, which is written for the CPU: each op that it calls runs on a CUDA context, over
 * copies of its operands, and what it wrote comes back. So every case of the suite is a case of the CUDA backend too.
 */
#ifndef SL_TESTS_ON_CUDA_H
#define SL_TESTS_ON_CUDA_H

#include <sparselayer/sparselayer.h>

sl_status on_cuda_spmm(sl_context *context, sl_transpose transpose, double alpha, const sl_csr *A, const sl_dense *B,
					   double beta, sl_dense *C, const sl_epilogue *epilogue);
sl_status on_cuda_sddmm(sl_context *context, double alpha, const sl_dense *A, const sl_dense *B, double beta,
						sl_csr *S);
sl_status on_cuda_gemm(sl_context *context, double alpha, const sl_dense *A, const sl_dense *B, double beta,
					   sl_dense *C, const sl_epilogue *epilogue);
sl_status on_cuda_copy(sl_context *context, const sl_dense *source, sl_dense *destination);
sl_status on_cuda_activate(sl_context *context, sl_activation activation, double parameter, const sl_dense *X,
						   sl_dense *Y);
sl_status on_cuda_activate_backward(sl_context *context, sl_activation activation, double parameter,
									const sl_dense *saved, const sl_dense *dY, sl_dense *dX);
sl_status on_cuda_sum_columns(sl_context *context, const sl_dense *A, double beta, void *sums);
sl_status on_cuda_norm2(sl_context *context, const void *values, sl_dtype dtype, int64_t count, double *norm);
sl_status on_cuda_plan_spmm(sl_plan **plan, sl_context *context, sl_transpose transpose, const sl_csr *A,
							const sl_dense *B, const sl_dense *C, const sl_epilogue *epilogue);
sl_status on_cuda_plan_sddmm(sl_plan **plan, sl_context *context, const sl_dense *A, const sl_dense *B,
							 const sl_csr *S);
sl_status on_cuda_plan_run_spmm(sl_context *context, const sl_plan *plan, double alpha, const sl_csr *A,
								const sl_dense *B, double beta, sl_dense *C, const sl_epilogue *epilogue);
sl_status on_cuda_plan_run_sddmm(sl_context *context, const sl_plan *plan, double alpha, const sl_dense *A,
								 const sl_dense *B, double beta, sl_csr *S);

#define sl_spmm              on_cuda_spmm
#define sl_sddmm             on_cuda_sddmm
#define sl_gemm              on_cuda_gemm
#define sl_dense_copy        on_cuda_copy
#define sl_activate          on_cuda_activate
#define sl_activate_backward on_cuda_activate_backward
#define sl_sum_columns       on_cuda_sum_columns
#define sl_norm2             on_cuda_norm2
#define sl_plan_spmm         on_cuda_plan_spmm
#define sl_plan_sddmm        on_cuda_plan_sddmm
#define sl_plan_run_spmm     on_cuda_plan_run_spmm
#define sl_plan_run_sddmm    on_cuda_plan_run_sddmm

#endif
