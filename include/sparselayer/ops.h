/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file ops.h
 * Ops on matrices. Outputs must not overlap inputs unless a call says so. dtypes of all operands
 * of one op are equal unless said otherwise; accumulation is in float32 (float64 for f64).
 * A zero size is valid everywhere. With beta = 0 the old content of an output is not read.
 */
#ifndef SPARSELAYER_OPS_H
#define SPARSELAYER_OPS_H

#include "csr.h"

SL_BEGIN_DECLS

/** Whether the sparse operand is transposed. */
typedef enum sl_transpose {
	SL_NO_TRANSPOSE = 0, /**< op(A) = A */
	SL_TRANSPOSE = 1     /**< op(A) = A^T; its structure is made once and kept in the pattern */
} sl_transpose;

/** Functions applied element by element. */
typedef enum sl_activation {
	SL_IDENTITY = 0,     /**< x */
	SL_RELU = 1,         /**< max(x, 0) */
	SL_CLIPPED_RELU = 2, /**< min(max(x, 0), parameter) */
	SL_LEAKY_RELU = 3,   /**< x > 0 ? x : parameter * x, parameter >= 0 */
	SL_SIGMOID = 4,      /**< 1 / (1 + exp(-x)) */
	SL_TANH = 5,         /**< tanh(x) */
	SL_GELU = 6          /**< x * Phi(x), the exact form with erf (Hendrycks and Gimpel 2016) */
} sl_activation;

/** What is done to a product before it is stored: C = activation(product + bias). */
typedef struct sl_epilogue {
	size_t struct_size;       /**< sizeof(sl_epilogue) */
	const void *bias;         /**< one element a row of C, of C's dtype (f32 when C is bf16 or f16); NULL: none */
	sl_activation activation; /**< default #SL_IDENTITY */
	double parameter;         /**< see #sl_activation; clipped ReLU needs > 0, leaky ReLU a finite value >= 0 */
	sl_dense *pre_activation; /**< receives product + bias, same shape, dtype and order as C; NULL: not kept */
} sl_epilogue;
/** Begins an initializer of #sl_epilogue. */
#define SL_EPILOGUE_DEFAULTS .struct_size = sizeof(sl_epilogue)

/**
 * C = epilogue(alpha * op(A) * B + beta * C), A sparse.
 * @param A [m, k], or [k, m] with #SL_TRANSPOSE
 * @param B [k, n] in any order
 * @param C [m, n] in any order
 * @param epilogue NULL: none
 * @return #SL_ERR_SHAPE, #SL_ERR_DTYPE, #SL_ERR_LAYOUT, #SL_ERR_ALIAS, #SL_ERR_NULL, #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_spmm(sl_context *context, sl_transpose transpose, double alpha, const sl_csr *A, const sl_dense *B,
						 double beta, sl_dense *C, const sl_epilogue *epilogue);
/**
 * S.values = alpha * (A * B at the entries of S's pattern) + beta * S.values. Nothing outside the
 * pattern is computed.
 * @param A [m, k]
 * @param B [k, n]; the transposed view of an [n, k] matrix is usual, see sl_dense_transposed()
 * @param S [m, n]
 * @return #SL_ERR_SHAPE, #SL_ERR_DTYPE, #SL_ERR_LAYOUT, #SL_ERR_ALIAS, #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_sddmm(sl_context *context, double alpha, const sl_dense *A, const sl_dense *B, double beta,
						  sl_csr *S);
/**
 * C = epilogue(alpha * A * B + beta * C), all dense. Transposition is a view's affair.
 * @param A [m, k]
 * @param B [k, n]
 * @param C [m, n]
 * @param epilogue NULL: none
 * @return as sl_spmm(), and #SL_ERR_BACKEND (the library for dense products failed)
 */
SL_API sl_status sl_gemm(sl_context *context, double alpha, const sl_dense *A, const sl_dense *B, double beta,
						 sl_dense *C, const sl_epilogue *epilogue);
/** Copy between orders and dtypes, rounding to nearest even. Same shape. A row-major destination of a column-major
 * source is a transpose of the storage. @return #SL_ERR_SHAPE, #SL_ERR_DTYPE, #SL_ERR_LAYOUT, #SL_ERR_ALIAS */
SL_API sl_status sl_dense_copy(sl_context *context, const sl_dense *source, sl_dense *destination);

/**
 * Y = activation(X), same shape; Y may be X. NaN stays NaN.
 * @param parameter clipped ReLU: above 0. Leaky ReLU: finite and not negative, for with a negative
 *        one the output, which is all that backward sees, would not tell the input's sign
 * @return #SL_ERR_ARGUMENT (activation or parameter), #SL_ERR_SHAPE, #SL_ERR_DTYPE, #SL_ERR_ALIAS (Y overlaps X
 *         without being it), #SL_ERR_NULL
 */
SL_API sl_status sl_activate(sl_context *context, sl_activation activation, double parameter, const sl_dense *X,
							 sl_dense *Y);
/**
 * dX = dY * activation'(.), elementwise; dX may be dY. Where ReLU or clipped ReLU held the value back dX is
 * 0 whatever dY is. At 0 their derivative is 0 and that of leaky ReLU `parameter`. NaN in `saved` gives NaN.
 * @param parameter as sl_activate(); a negative one of leaky ReLU is #SL_ERR_ARGUMENT
 * @param saved the activation's output; for #SL_GELU its input (see sl_activation_saves_input())
 */
SL_API sl_status sl_activate_backward(sl_context *context, sl_activation activation, double parameter,
									  const sl_dense *saved, const sl_dense *dY, sl_dense *dX);
/** "identity", "relu", "clipped-relu", "leaky-relu", "sigmoid", "tanh", "gelu"; "unknown" otherwise. Static. */
SL_API const char *sl_activation_name(sl_activation activation);
/** Whether an activation's backward needs its input (true) or its output (false). */
SL_API bool sl_activation_saves_input(sl_activation activation);

/** sums[r] = beta * sums[r] + sum over columns of A(r, .), in a fixed order. `sums`: rows elements of A's dtype (f32
 * for bf16 and f16). */
SL_API sl_status sl_sum_columns(sl_context *context, const sl_dense *A, double beta, void *sums);
/** Square root of the sum of squares of `count` elements of f32 or f64, in a fixed order, in double. Neither overflows
 * nor underflows where the norm itself does not. */
SL_API sl_status sl_norm2(sl_context *context, const void *values, sl_dtype dtype, int64_t count, double *norm);

SL_END_DECLS
#endif
