/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns in a device's memory. */
#ifndef SL_SPARSE_DEVICE_H
#define SL_SPARSE_DEVICE_H

#include "sparse/sparse.h"

/* SL_OP_PATTERN over arrays of the context's device; workspace is taken and given back. */
sl_status sli_pattern_step(sl_context *context, sl_pattern_step step, const sl_pattern_arrays *arrays,
						   sl_op_args *args);
/* As sli_pattern_validate(), with its messages; waits. */
sl_status sli_pattern_validate_device(sl_context *context, const sl_pattern_arrays *arrays);

#endif
