/* SPDX-License-Identifier: Apache-2.0 */
/* What the product ops share. */
#ifndef SL_CPU_PRODUCTS_H
#define SL_CPU_PRODUCTS_H

#include "cpu/cpu.h"

/* Chunks of rows with about the same number of entries, and the blocks of columns whose part of a panel
 * stays in L1 or L2; both depend on the pattern and the panels' width alone. */
enum { SL_CHUNKS = 32 };
typedef struct sl_schedule_of_rows {
	int64_t begin[SL_CHUNKS + 1];
	int group;      /* chunks a task: a block is read once for all their rows */
	int64_t blocks; /* 1: rows are not cut */
	int64_t rows, nnz;
	/* Where the entries of each row begin, block after block: blocks + 1 times rows in the pattern's order,
	 * or packed, where one begins where the one before ends. NULL: 1 block. */
	int32_t *starts;
	/* Packed, nnz each: columns, and where each entry's value comes from. The transpose's values are
	 * gathered for every product, so they may as well be gathered in this order, which reads the rows of
	 * one block of the weights at a time. NULL: the pattern's order. */
	int32_t *columns, *permutation;
} sl_schedule_of_rows;
/* `transposed` (may be NULL): the structure is its transpose, whose permutation is to be packed. NULL with a
 * message: no memory. */
sl_schedule_of_rows *sli_cpu_schedule(sl_cpu *cpu, const sl_pattern_arrays *structure, int64_t width, sl_dtype dtype,
									  const sl_sparse_view *transposed);
void sli_cpu_schedule_destroy(sl_cpu *cpu, sl_schedule_of_rows *schedule);
/* Row r's entries of a block are [starts[r], ends[r]): int32 where rows are cut, else of the structure's dtype. */
void sli_cpu_block(const sl_schedule_of_rows *schedule, const sl_pattern_arrays *structure, int64_t block,
				   const void **starts, const void **ends);

static inline size_t sli_align64(size_t bytes) {
	return (bytes + 63) & ~(size_t)63;
}
/* Panels of `width` over n columns. */
static inline size_t sli_cpu_panel_bytes(int64_t rows, int64_t n, int64_t width, sl_dtype dtype) {
	return sli_align64((size_t)(rows * sli_ceil_div(n, width) * width) * sl_dtype_size(dtype));
}
static inline sl_dense sli_cpu_panels(void *data, sl_dtype dtype, int64_t rows, int64_t cols, int64_t width) {
	return (sl_dense){.data = data,
					  .dtype = dtype,
					  .order = SL_COL_PANELS,
					  .device = SL_DEVICE_CPU,
					  .rows = rows,
					  .cols = cols,
					  .ld = width};
}
/* The matrix that is multiplied with: the pattern's, or its transpose. */
static inline const sl_pattern_arrays *sli_cpu_structure(const sl_op_desc *desc) {
	return desc->transpose ? &desc->sparse.transposed : &desc->sparse.arrays;
}
/* The columns of a row, of panels or row-major, that lie together from column c on. */
static inline int64_t sli_cpu_together(const sl_dense *m, int64_t c) {
	int64_t end = m->order == SL_COL_PANELS ? (c / m->ld + 1) * m->ld : m->cols;
	return (end < m->cols ? end : m->cols) - c;
}
/* Take from the workspace. */
static inline void *sli_carve(void **at, size_t bytes) {
	void *taken = *at;
	*at = (char *)*at + bytes;
	return taken;
}

/* to[c * ldt + r] = from[r * ldf + c] for 16 x 16 floats. */
typedef void (*sl_transpose_tile)(const float *from, int64_t ldf, float *to, int64_t ldt);
void sli_transpose_f32_avx2(const float *from, int64_t ldf, float *to, int64_t ldt);
void sli_transpose_f32_avx512(const float *from, int64_t ldf, float *to, int64_t ldt);

void sli_cpu_convert(sl_cpu *cpu, const sl_dense *from, const sl_dense *to);
/* to[i] = from[permutation[i]] for i < count, elements of `size` bytes. */
void sli_cpu_gather(sl_cpu *cpu, const void *from, void *to, const void *permutation, sl_dtype index_dtype, size_t size,
					int64_t count);
void sli_cpu_gather_words(const void *from, void *to, const int32_t *permutation, int64_t count);
void sli_cpu_zero_padding(const sl_dense *m);
/* C = activation(C + bias), pre-activation to D, for rows [begin, end) and columns [c0, c1). */
void sli_cpu_epilogue(const sl_op_desc *desc, const sl_op_args *args, const sl_dense *c, int64_t begin, int64_t end,
					  int64_t c0, int64_t c1);
/* The epilogue of one element from its sum, which has not been rounded to storage; stores it. */
void sli_cpu_finish(const sl_op_desc *desc, const sl_op_args *args, const sl_dense *c, int64_t r, int64_t j,
					double sum);
static inline bool sli_has_epilogue(const sl_op_desc *desc) {
	return desc->bias || desc->pre_activation || desc->activation != SL_IDENTITY;
}
sl_status sli_cpu_gemm_plan(sl_cpu *cpu, sl_op_plan *plan);
sl_status sli_cpu_gemm(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args);

#endif
