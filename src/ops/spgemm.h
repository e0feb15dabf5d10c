/* SPDX-License-Identifier: Apache-2.0 */
/* Products of two sparse matrices. Arguments are checked by the caller; gradients may be NULL. */
#ifndef SL_OPS_SPGEMM_H
#define SL_OPS_SPGEMM_H

#include "ops/ops.h"

sl_status sli_spgemm(sl_csr **C, sl_context *context, double alpha, const sl_csr *A, const sl_csr *B);
sl_status sli_spgemm_values(sl_context *context, double alpha, const sl_csr *A, const sl_csr *B, double beta,
							sl_csr *C);
/* C: row-major. */
sl_status sli_spgemm_dense(sl_context *context, double alpha, const sl_csr *A, const sl_csr *B, double beta,
						   sl_dense *C);
/* Of sparse (dC not NULL) or dense, row-major gradients. */
sl_status sli_spgemm_backward(sl_context *context, double alpha, const sl_csr *A, const sl_csr *B, const sl_csr *dC,
							  const sl_dense *dense, double beta, sl_csr *dA, sl_csr *dB);

#endif
