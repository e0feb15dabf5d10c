/* SPDX-License-Identifier: Apache-2.0 */
/* Checks that single calls and plans share. */
#ifndef SL_API_PRODUCTS_H
#define SL_API_PRODUCTS_H

#include "ops/ops.h"

/* Check the arguments of a product and describe it. Without data only shapes, orders and dtypes
 * count, and `args` may be NULL. */
sl_status sli_describe_spmm(sl_context *context, sl_transpose transpose, const sl_csr *A, const sl_dense *B,
							const sl_dense *C, const sl_epilogue *epilogue, bool with_data, sl_op_desc *desc,
							sl_op_args *args);
sl_status sli_describe_sddmm(sl_context *context, const sl_dense *A, const sl_dense *B, const sl_csr *S, bool with_data,
							 sl_op_desc *desc, sl_op_args *args);
sl_status sli_check_epilogue(sl_context *context, const sl_epilogue *given, const sl_dense *C, const sl_dense *B,
							 sl_epilogue *epilogue, bool with_data);

#endif
