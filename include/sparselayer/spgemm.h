/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file spgemm.h
 * Products of two sparse matrices, and their backward. Values are f32 or f64, of one dtype in a call; sums are kept in
 * it and run over A's entries of a row in their order, so results do not depend on the threads. CPU only.
 */
#ifndef SPARSELAYER_SPGEMM_H
#define SPARSELAYER_SPGEMM_H

#include "ops.h"

SL_BEGIN_DECLS

/**
 * C = alpha * A * B, made with the pattern that the product has: (i, j) is stored where some k has A(i, k) and B(k, j),
 * whatever their values add up to. Counts first, then fills (after Gustavson 1978; rows are gathered in hash tables as
 * in Nagasaka et al. 2018), so that memory is that of C and a table a task.
 * @param C receives the matrix [m, n], the caller's; a new one of the same patterns: see sl_spgemm_values()
 * @param A [m, k]
 * @param B [k, n]
 * @return #SL_ERR_SHAPE, #SL_ERR_DTYPE, #SL_ERR_UNSUPPORTED (not on the CPU), #SL_ERR_OVERFLOW, #SL_ERR_MEMORY,
 *         #SL_ERR_BUDGET
 */
SL_API sl_status sl_spgemm(sl_csr **C, sl_context *context, double alpha, const sl_csr *A, const sl_csr *B);
/**
 * C.values = alpha * (A * B at C's pattern) + beta * C.values. Nothing outside the pattern is computed: with the
 * pattern that sl_spgemm() gave it is the whole product anew, for other values of A and B.
 * @return as sl_spgemm(), and #SL_ERR_ALIAS (C's values overlap those of A or B)
 */
SL_API sl_status sl_spgemm_values(sl_context *context, double alpha, const sl_csr *A, const sl_csr *B, double beta,
								  sl_csr *C);
/**
 * C = alpha * A * B + beta * C, C dense. Row-major is written where it lies; other orders go through workspace of C's
 * size.
 * @param C [m, n]
 * @return as sl_spgemm_values(), and #SL_ERR_LAYOUT
 */
SL_API sl_status sl_spgemm_dense(sl_context *context, double alpha, const sl_csr *A, const sl_csr *B, double beta,
								 sl_dense *C);
/**
 * Gradients of C = A * B for the stored values of A and B:
 * dA.values = alpha * (dC * Bᵀ at A's pattern) + beta * dA.values,
 * dB.values = alpha * (Aᵀ * dC at B's pattern) + beta * dB.values.
 * Takes no workspace, but makes the transpose of A's pattern once.
 * @param dC [m, n], any pattern: what it does not store is 0
 * @param dA over A's pattern (the same object); NULL: not wanted
 * @param dB over B's pattern; NULL: not wanted
 * @return #SL_ERR_ARGUMENT (dA or dB over another pattern), and as sl_spgemm_values()
 */
SL_API sl_status sl_spgemm_backward(sl_context *context, double alpha, const sl_csr *A, const sl_csr *B,
									const sl_csr *dC, double beta, sl_csr *dA, sl_csr *dB);
/** The same for a dense dC, of sl_spgemm_dense(). Orders but row-major go through workspace. */
SL_API sl_status sl_spgemm_dense_backward(sl_context *context, double alpha, const sl_csr *A, const sl_csr *B,
										  const sl_dense *dC, double beta, sl_csr *dA, sl_csr *dB);

SL_END_DECLS
#endif
