/* SPDX-License-Identifier: Apache-2.0 */
/* Sparse products by way of dense tiles: the candidate "dense". */
#ifndef SL_CPU_DENSIFY_H
#define SL_CPU_DENSIFY_H

#include "cpu/products.h"

/*
 * A pattern cut into blocks of columns. starts[r * blocks + b] is the first entry of row r in block b, and
 * rows * blocks + 1 of them are kept; a bit of `masks` says whether an entry is there, `words` of 16 columns a row.
 */
typedef struct sl_cut {
	int64_t rows, cols, block, blocks, words;
	int32_t *starts;
	uint16_t *masks; /* NULL where there is no instruction that expands */
} sl_cut;

/* Columns [0, n) of one row of a block: values from `from` on to where the mask has bits, zeros elsewhere; up to
 * 15 elements beyond n are zeroed. There are `count` values to read, at least as many as bits. */
void sli_expand_avx512(const float *from, int64_t count, const uint16_t *mask, int64_t n, float *to);
/* The inverse: to[i] = beta * to[i] + the i-th element whose bit is set. Reads up to 15 elements of `from` beyond n,
 * writes those of the bits alone. */
void sli_compress_avx512(const float *from, const uint16_t *mask, int64_t n, float beta, float *to);

/* Whether all are numbers, neither NaN nor infinite. */
bool sli_finite_avx512(const float *x, int64_t n);

/* Rows and columns of W in a tile; for a transpose columns are what tiles are shared out by. */
void sli_cpu_tile(const sl_op_desc *desc, int64_t *rows, int64_t *cols);
/* Whether a description can run dense, and whether it asks to. */
bool sli_cpu_can_densify(const sl_op_desc *desc);
bool sli_cpu_wants_dense(const sl_op_desc *desc);
sl_status sli_cpu_densify_supports(sl_cpu *cpu, const sl_op_desc *desc);
/* Whether a plan was made by the next call. */
bool sli_cpu_is_densified(const sl_op_plan *plan);
sl_status sli_cpu_densify_plan(sl_cpu *cpu, sl_op_plan *plan);
sl_status sli_cpu_densify_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args);
void sli_cpu_densify_destroy(sl_cpu *cpu, sl_op_plan *plan);

/* gemm.c: C[m,n] = alpha * op(A) * op(B) + beta * C, row-major, on this thread alone; 0: done. */
int sli_cpu_sgemm(bool turned_a, bool turned_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
				  int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

#endif
