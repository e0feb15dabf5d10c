/* SPDX-License-Identifier: Apache-2.0 */
/* Ops that are planned anew in each call. */
#include "ops/ops.h"

sl_status sli_run(sl_context *context, const sl_op_desc *desc, sl_op_args *args) {
	sl_op_desc own = *desc;
	return sli_run_sparse(context, NULL, &own, NULL, args);
}

sl_status sli_convert(sl_context *context, const sl_dense *source, sl_dense *destination) {
	sl_op_desc desc = {.kind = SL_OP_CONVERT, .a = sli_desc(source), .c = sli_desc(destination)};
	sl_op_args args = {.a = *source, .c = *destination};
	return sli_run(context, &desc, &args);
}
