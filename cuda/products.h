/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the products share. */
#ifndef SL_CUDA_PRODUCTS_H
#define SL_CUDA_PRODUCTS_H

#include "device.h"

/* A matrix as row-major with one leading dimension; a single panel is one. False: it is not. */
static inline bool sli_row_major(const sl_matrix_desc *m) {
	return m->order == SL_ROW_MAJOR || (m->order == SL_COL_PANELS && m->cols <= m->ld);
}
static inline bool sli_col_major(const sl_matrix_desc *m) {
	return m->order == SL_COL_MAJOR || (m->order == SL_ROW_PANELS && m->rows <= m->ld);
}

static inline cudaDataType sli_data_type(sl_dtype dtype) {
	return dtype == SL_F64 ? CUDA_R_64F : dtype == SL_F16 ? CUDA_R_16F : dtype == SL_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}
/* What sums are kept in. */
static inline cudaDataType sli_sum_type(sl_dtype dtype) {
	return dtype == SL_F64 ? CUDA_R_64F : CUDA_R_32F;
}

static inline size_t sli_align256(size_t bytes) {
	return (bytes + 255) & ~(size_t)255;
}

/* The address of row `row` and column `col`. */
static inline void *sli_cell(const sl_matrix_desc *m, const void *data, int64_t row, int64_t col) {
	int64_t at = sli_row_major(m) ? row * m->ld + col : col * m->ld + row;
	return (char *)(uintptr_t)data + (size_t)at * sli_size_of(m->dtype);
}

/* A factor in the type of the computation, which cuSPARSE and cuBLAS read it in. */
typedef struct sl_factor {
	float narrow;
	double wide;
} sl_factor;
static inline sl_factor sli_factor(double value) {
	return (sl_factor){(float)value, value};
}
static inline const void *sli_factor_of(const sl_factor *f, sl_dtype dtype) {
	return dtype == SL_F64 ? (const void *)&f->wide : (const void *)&f->narrow;
}

/* "cuda: spmm <why>", SL_ERR_UNSUPPORTED. */
sl_status sli_cuda_refuse(const sl_cuda *cuda, const sl_op_desc *desc, const char *why);
/* cuSPARSE prints what it refuses: say it first. */
sl_status sli_cuda_not_null(const sl_cuda *cuda, const sl_op_desc *desc, const void *const *pointers,
							const char *const *names, int count);
/* C = beta C: all of a product that has nothing to sum. What beta 0 replaces is not read, it may be NaN. */
sl_status sli_cuda_scale(const sl_cuda *cuda, const sl_matrix_desc *desc, const sl_dense *c, double beta);
/* cuBLAS: c = alpha a b + beta c, of the planned layouts. */
sl_status sli_cublas_product(sl_cuda *cuda, const sl_op_desc *desc, const sl_dense *a, const sl_dense *b,
							 const sl_op_args *args);
/* Its workspace, once a context. */
sl_status sli_cublas_prepare(sl_cuda *cuda);

/* cusparse.c: products over a pattern. The GPU is current in execute(). */
sl_status sli_cusparse_supports(const sl_cuda *cuda, const sl_op_desc *desc);
sl_status sli_cusparse_plan(sl_cuda *cuda, sl_op_plan *plan);
sl_status sli_cusparse_execute(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args);
void sli_cusparse_destroy(sl_cuda *cuda, sl_op_plan *plan);

#endif
