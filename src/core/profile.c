/* SPDX-License-Identifier: Apache-2.0 */
#include "core/profile.h"

#include <time.h>

#include "core/context_struct.h"

double sli_seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double sli_profile_begin(const sl_context *context) {
	return context->profile.on ? sli_seconds() : 0;
}

void sli_profile_end(sl_context *context, int row, double began) {
	if (!context->profile.on || row < 0 || row >= SL_PROFILE_COUNT)
		return;
	context->profile.calls[row]++;
	context->profile.seconds[row] += sli_seconds() - began;
}

sl_profile *sli_profile(sl_context *context) {
	return &context->profile;
}

const char *sli_profile_name(int row) {
	switch (row) {
	case SL_OP_CONVERT:
		return "convert";
	case SL_OP_SPMM:
		return "spmm";
	case SL_OP_SDDMM:
		return "sddmm";
	case SL_OP_GEMM:
		return "gemm";
	case SL_OP_GATHER:
		return "gather";
	case SL_OP_ACTIVATION:
		return "activation";
	case SL_OP_ACTIVATION_GRAD:
		return "activation gradient";
	case SL_OP_REDUCE:
		return "reduce";
	case SL_OP_ELEMENTWISE:
		return "elementwise";
	case SL_OP_LOSS:
		return "loss";
	case SL_OP_UPDATE:
		return "update";
	case SL_OP_INPUT:
		return "sparse input";
	case SL_OP_INPUT_GROUP:
		return "sparse input grouping";
	case SL_OP_INPUT_GRAD:
		return "sparse input gradient";
	case SL_OP_UPDATE_ROWS:
		return "update of rows";
	case SL_OP_CHUNK_SPMM:
		return "chunk spmm";
	case SL_OP_CHUNK_BACKWARD:
		return "chunk backward";
	case SL_OP_SPGEMM:
		return "spgemm";
	case SL_OP_ADVANCE:
		return "advance";
	case SL_OP_PATTERN:
		return "pattern";
	case SL_OP_TOP:
		return "largest of a product";
	case SL_PROFILE_TRANSPOSED:
		return "spmm transposed";
	case SL_PROFILE_EDIT:
		return "edit";
	default:
		return "other";
	}
}
