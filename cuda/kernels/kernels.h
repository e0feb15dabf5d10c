/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Launchers of the module's own kernels, for C. Each returns a cudaError_t of its launches as an int, 0 being success;
 * all pointers are device pointers unless a comment says "host"; `stream` is a cudaStream_t. Launchers allocate
 * nothing and wait for nothing. Sums are made in a fixed order: the same inputs give the same bits.
 */
#ifndef SL_CUDA_KERNELS_H
#define SL_CUDA_KERNELS_H

#include <sparselayer/sparselayer.h>

#ifdef __cplusplus
extern "C" {
#endif

/* vector.cuh */

/* to = from in any orders and dtypes; padding of panels becomes zero. */
int sl_kernel_convert(const sl_dense *from, const sl_dense *to, void *stream);
/* to[i] = from[permutation[i]]; elements of 2, 4 or 8 bytes, indices I32 or I64. */
int sl_kernel_gather(const void *from, const void *permutation, sl_dtype index, void *to, int64_t count, size_t size,
					 void *stream);
/* c = activation(a), or with b: b * activation'(a). bias_gradient (may be NULL): beta * it + row sums of c, of f64 for
 * f64 and of f32 otherwise. */
int sl_kernel_activation(sl_activation kind, double parameter, const sl_dense *a, const sl_dense *b, const sl_dense *c,
						 double beta, void *bias_gradient, void *stream);
/* sums[r] = beta * sums[r] + sum over columns of a(r, .) */
int sl_kernel_row_sums(const sl_dense *a, double beta, void *sums, void *stream);
/* Partial results that the two reductions below want room for, of 8 bytes each. */
int64_t sl_kernel_partials(int64_t count);
/* *result += sum of (scale * x clamped to +-limit)^2; NaN stays. */
int sl_kernel_sum_squares(const void *x, sl_dtype dtype, int64_t count, double scale, double limit, double *partials,
						  double *result, void *stream);
/* *result = index of the first NaN or infinity, or -1 */
int sl_kernel_nonfinite(const void *x, sl_dtype dtype, int64_t count, int64_t *partials, int64_t *result, void *stream);
/* `variant` is the seam's sl_elementwise: scale, fill, clamp, axpy; f32 and f64. */
int sl_kernel_elementwise(int variant, sl_dtype dtype, double alpha, void *x, void *y, int64_t count, void *stream);

/* epilogue.cuh */

/* c = activation(c + bias); c + bias to d first (may be NULL). bias (may be NULL): c.rows elements. f32 and f64; padding of
 * panels is not touched. */
int sl_kernel_epilogue(sl_activation kind, double parameter, const void *bias, const sl_dense *c, const sl_dense *d,
					   void *stream);

#ifdef __cplusplus
}
#endif
#endif
