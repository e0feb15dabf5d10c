/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file plan.h
 * A plan is how one op will run for one pattern, shape and dtype: chosen once, printable, reused.
 * sl_spmm(), sl_sddmm() and sl_gemm() make one for each call; loops should keep theirs.
 *
 * A product with a sparse matrix can run in several ways, its candidates; one of them may write the matrix out with its
 * zeros, tile by tile, and run dense. #sl_plan_mode says how one is chosen. Predictions come from a cost model whose
 * constants are measured once a machine (sl_calibrate()), or built in. What runs dense takes workspace; where
 * the memory budget has no room for it, it runs sparse, which is logged. Results of candidates differ by rounding.
 */
#ifndef SPARSELAYER_PLAN_H
#define SPARSELAYER_PLAN_H

#include "ops.h"

SL_BEGIN_DECLS

/** Opaque; freed by sl_plan_destroy(). */
typedef struct sl_plan sl_plan;

/**
 * Plan C = epilogue(alpha * op(A) * B + beta * C). Only the shapes, orders and dtypes of `B` and
 * `C` are read, so their data may be NULL. The plan retains A's pattern. Running it with fewer
 * columns than planned is allowed.
 * @return as sl_spmm(), and #SL_ERR_UNSUPPORTED (not by this backend)
 */
SL_API sl_status sl_plan_spmm(sl_plan **plan, sl_context *context, sl_transpose transpose, const sl_csr *A,
							  const sl_dense *B, const sl_dense *C, const sl_epilogue *epilogue);
/** Plan sl_sddmm(). @return as sl_sddmm(), and #SL_ERR_UNSUPPORTED */
SL_API sl_status sl_plan_sddmm(sl_plan **plan, sl_context *context, const sl_dense *A, const sl_dense *B,
							   const sl_csr *S);

/**
 * Run a plan of sl_plan_spmm(). Does not allocate once the context's workspace has grown to sl_plan_workspace().
 * Operands of another order, or another epilogue, than planned are planned anew in the call.
 * @param A of the planned pattern; its values may have changed
 * @return as sl_spmm(); #SL_ERR_ARGUMENT (another pattern, or a plan of another op), #SL_ERR_SHAPE (more columns than
 * planned)
 */
SL_API sl_status sl_plan_run_spmm(sl_context *context, const sl_plan *plan, double alpha, const sl_csr *A,
								  const sl_dense *B, double beta, sl_dense *C, const sl_epilogue *epilogue);
/** Run a plan of sl_plan_sddmm(). @return as sl_sddmm(); #SL_ERR_ARGUMENT as sl_plan_run_spmm() */
SL_API sl_status sl_plan_run_sddmm(sl_context *context, const sl_plan *plan, double alpha, const sl_dense *A,
								   const sl_dense *B, double beta, sl_csr *S);

/** Bytes of workspace a run takes from the context. */
SL_API size_t sl_plan_workspace(const sl_plan *plan);
/**
 * Describe a plan in one line, with what the choice was between: "spmm 1024x784 nnz 80282 batch 256:
 * spmm_f32_avx2, panels of 64; sparse 310 us, dense 1800 us predicted". Times are of one thread where predicted.
 * Writes at most `size` bytes including the terminating zero.
 */
SL_API sl_status sl_plan_describe(sl_context *context, const sl_plan *plan, char *text, size_t size);
/** Whether a plan runs dense. False for NULL. */
SL_API bool sl_plan_is_dense(const sl_plan *plan);
/** Destroy a plan. NULL is allowed. Any context still alive may be current, but a plan must not outlive the one it was
 * made with. */
SL_API void sl_plan_destroy(sl_plan *plan);

/**
 * Measure what predictions rest on, use it in this context from now on, and keep it in the calibration file for
 * others. Takes well under a second, on the calling thread; best on an idle machine. Contexts do the same by
 * themselves when they first need a prediction and there is no file that fits the machine; a file that is damaged, of
 * another version, or not the user's own is logged and replaced. A file that cannot be written is logged, no error.
 * @return #SL_ERR_STATE (deterministic, or calibration "off"), #SL_ERR_UNSUPPORTED (the backend predicts nothing),
 *         #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_calibrate(sl_context *context);

SL_END_DECLS
#endif
