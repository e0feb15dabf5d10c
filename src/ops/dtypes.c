/* SPDX-License-Identifier: Apache-2.0 */
/* The one table of legal combinations of dtypes. What is not in it is an error, not code. */
#include "ops/ops.h"

enum { F32 = 1, F64 = 2, BF16 = 4, F16 = 8, FLOATS = F32 | F64, VALUES = F32 | F64 | BF16 | F16 };
enum { A = 1, B = 2, C = 4, MIXED = 8 };

/* For each op: the dtypes its matrices may have, which of desc.a, b, c are used, and whether they may differ. */
static const struct {
	const char *name;
	unsigned dtypes, operands;
} table[SL_OP_COUNT] = {
	[SL_OP_CONVERT] = {"copy", VALUES, A | C | MIXED},
	[SL_OP_SPMM] = {"spmm", VALUES, A | B | C},   /* a: the sparse values */
	[SL_OP_SDDMM] = {"sddmm", VALUES, A | B | C}, /* c: the sparse values */
	[SL_OP_GEMM] = {"gemm", VALUES, A | B | C},
	[SL_OP_GATHER] = {"gather", VALUES, A},
	[SL_OP_ACTIVATION] = {"activation", VALUES, A | C},
	[SL_OP_ACTIVATION_GRAD] = {"activation gradient", VALUES, A | B | C},
	[SL_OP_REDUCE] = {"reduction", VALUES, A},
	[SL_OP_ELEMENTWISE] = {"elementwise", FLOATS, A},
	[SL_OP_LOSS] = {"loss", FLOATS, A},
	[SL_OP_UPDATE] = {"update", FLOATS, A},
	[SL_OP_INPUT] = {"sparse inputs", FLOATS, A | B | C},
	[SL_OP_INPUT_GROUP] = {"grouping of sparse inputs", FLOATS, A},
	[SL_OP_INPUT_GRAD] = {"gradient of sparse inputs", FLOATS, A},
	[SL_OP_UPDATE_ROWS] = {"update of rows", FLOATS, A},
	[SL_OP_SPGEMM] = {"spgemm", FLOATS, A | B | C},
	[SL_OP_CHUNK_SPMM] = {"streamed spmm", FLOATS, A | B | C}, /* a: the sparse values */
	[SL_OP_CHUNK_BACKWARD] = {"streamed backward", FLOATS, A | B},
	[SL_OP_ADVANCE] = {"advance", FLOATS, A},
	[SL_OP_PATTERN] = {"pattern", FLOATS, A}, /* a stands for itself: indices have no dtype of values */
	[SL_OP_TOP] = {"largest of a product", FLOATS, A | B},
};

static unsigned bit(sl_dtype dtype) {
	switch (dtype) {
	case SL_F32:
		return F32;
	case SL_F64:
		return F64;
	case SL_BF16:
		return BF16;
	case SL_F16:
		return F16;
	default:
		return 0;
	}
}

sl_status sli_check_dtypes(sl_context *context, const sl_op_desc *desc) {
	if ((unsigned)desc->kind >= SL_OP_COUNT)
		return sli_fail(context, SL_ERR_INTERNAL, "op %d is unknown", (int)desc->kind);
	const sl_matrix_desc *operands[] = {&desc->a, &desc->b, &desc->c};
	unsigned dtypes = table[desc->kind].dtypes, used = table[desc->kind].operands;
	const char *name = table[desc->kind].name;
	sl_dtype first = 0;
	for (unsigned i = 0; i < 3; i++) {
		if (!(used & (1u << i)))
			continue;
		sl_dtype dtype = operands[i]->dtype;
		if (!(bit(dtype) & dtypes))
			return sli_fail(context, SL_ERR_DTYPE, "%s: %c is %s (%d); it takes %s", name, "ABC"[i],
							sl_dtype_name(dtype), (int)dtype,
							dtypes == FLOATS ? "f32 or f64" : "f32, f64, bf16 or f16");
		if (!first)
			first = dtype;
		if (dtype != first && !(used & MIXED))
			return sli_fail(context, SL_ERR_DTYPE, "%s: %c is %s beside %s; all operands must have one dtype", name,
							"ABC"[i], sl_dtype_name(dtype), sl_dtype_name(first));
	}
	return SL_OK;
}
