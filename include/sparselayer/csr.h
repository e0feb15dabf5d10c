/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file csr.h
 * A CSR matrix: a pattern and one array of values.
 */
#ifndef SPARSELAYER_CSR_H
#define SPARSELAYER_CSR_H

#include "pattern.h"

SL_BEGIN_DECLS

/** Opaque; made by the calls below, freed by sl_csr_destroy(). One thread at a time may write its values. */
typedef struct sl_csr sl_csr;

/** What to do with entries that name the same row and column. */
typedef enum sl_duplicates {
	SL_DUPLICATES_REFUSE = 0, /**< #SL_ERR_STRUCTURE */
	SL_DUPLICATES_SUM = 1,    /**< added in the order given, in double, rounded once */
	SL_DUPLICATES_FIRST = 2,  /**< the first one given is kept */
	SL_DUPLICATES_LAST = 3    /**< the last one given is kept */
} sl_duplicates;

/** How a matrix is built. Zero means the default that is named. */
typedef struct sl_build_options {
	size_t struct_size;       /**< sizeof(sl_build_options) */
	sl_duplicates duplicates; /**< default: refuse */
	bool refuse_nonfinite;    /**< default: NaN and infinity are kept; true: #SL_ERR_NONFINITE with the entry */
	bool drop_zeros;          /**< default: explicit zeros are kept */
	sl_dtype dtype;           /**< of the result's values; default: that of the input */
} sl_build_options;
/** Begins an initializer of #sl_build_options. */
#define SL_BUILD_DEFAULTS .struct_size = sizeof(sl_build_options)

/**
 * Copy a CSR matrix. Unsorted columns are sorted together with their values.
 * `values` may be NULL: all zero, of options->dtype (default f32).
 * @return as sl_pattern_create(), and #SL_ERR_NONFINITE, #SL_ERR_DTYPE
 */
SL_API sl_status sl_csr_create(sl_csr **matrix, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
							   const void *row_offsets, sl_dtype offset_dtype, const void *col_indices,
							   sl_dtype index_dtype, const void *values, sl_dtype value_dtype,
							   const sl_build_options *options);
/** Copy a CSC matrix: `col_offsets` has cols + 1 elements, `row_indices` and `values` nnz. @return as sl_csr_create()
 */
SL_API sl_status sl_csr_create_csc(sl_csr **matrix, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
								   const void *col_offsets, sl_dtype offset_dtype, const void *row_indices,
								   sl_dtype index_dtype, const void *values, sl_dtype value_dtype,
								   const sl_build_options *options);
/** Copy a COO matrix: three arrays of nnz elements in any order. Errors name the entry. @return as sl_csr_create() */
SL_API sl_status sl_csr_create_coo(sl_csr **matrix, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
								   const void *row_indices, const void *col_indices, sl_dtype index_dtype,
								   const void *values, sl_dtype value_dtype, const sl_build_options *options);
/**
 * The entries of a dense matrix with |value| > threshold (NaN counts as above).
 * @param threshold >= 0
 * @return #SL_ERR_ARGUMENT (threshold), #SL_ERR_OVERFLOW (cols > 2^31 - 1), #SL_ERR_UNSUPPORTED (not in host memory),
 *         #SL_ERR_NONFINITE, #SL_ERR_DTYPE, #SL_ERR_LAYOUT, #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_csr_create_dense(sl_csr **matrix, sl_context *context, const sl_dense *dense, double threshold,
									 const sl_build_options *options);
/**
 * The `k` entries of largest magnitude of a dense matrix; ties go to the lower row, then column.
 * @param k in [0, rows * cols]
 * @return as sl_csr_create_dense(); #SL_ERR_NONFINITE for any NaN, which has no rank
 */
SL_API sl_status sl_csr_create_top_k(sl_csr **matrix, sl_context *context, const sl_dense *dense, int64_t k,
									 const sl_build_options *options);
/** Zero values over a pattern, which is retained. @return #SL_ERR_DTYPE, #SL_ERR_MEMORY, #SL_ERR_BUDGET */
SL_API sl_status sl_csr_create_pattern(sl_csr **matrix, sl_context *context, sl_pattern *pattern, sl_dtype dtype);
/**
 * Borrow values over a pattern (retained). `values` holds nnz elements of the context's device and must live until
 * `release` (may be NULL) is called. @return also #SL_ERR_DEVICE (memory of another device), #SL_ERR_LAYOUT (alignment)
 */
SL_API sl_status sl_csr_wrap(sl_csr **matrix, sl_context *context, sl_pattern *pattern, void *values, sl_dtype dtype,
							 sl_release_callback release, void *user);
/** A copy with values of another dtype, rounded to nearest even, in memory of the context's device, wherever `matrix`'s
 * are; the pattern is shared. So it also copies between the host and GPUs. @return as sl_csr_create_pattern() */
SL_API sl_status sl_csr_convert(sl_csr **result, sl_context *context, const sl_csr *matrix, sl_dtype dtype);
/** Where a matrix's values are: #SL_DEVICE_CPU or #SL_DEVICE_CUDA. @param device_index which GPU; may be NULL */
SL_API sl_status sl_csr_place(sl_context *context, const sl_csr *matrix, sl_device *device, int *device_index);
/** The transpose as a matrix of its own. @return #SL_ERR_OVERFLOW (rows > 2^31 - 1), #SL_ERR_MEMORY, #SL_ERR_BUDGET */
SL_API sl_status sl_csr_transpose(sl_csr **result, sl_context *context, const sl_csr *matrix);
/** Destroy a matrix. NULL is allowed. */
SL_API void sl_csr_destroy(sl_csr *matrix);

/** The pattern, borrowed. NULL for NULL. */
SL_API sl_pattern *sl_csr_pattern(const sl_csr *matrix);
/** nnz values in the pattern's order, in memory of the device that sl_csr_place() names; writable. NULL for NULL or when
 * nnz is 0. */
SL_API void *sl_csr_values(const sl_csr *matrix);
/** The values' dtype. */
SL_API sl_dtype sl_csr_dtype(const sl_csr *matrix);
/** Check the values: #SL_ERR_NONFINITE names row, column and entry of the first NaN or infinity. */
SL_API sl_status sl_csr_check_finite(sl_context *context, const sl_csr *matrix);

/** Write a matrix into a dense one of the same shape (any order, any dtype), zeros included. @return #SL_ERR_SHAPE, and
 * as sl_dense_check() */
SL_API sl_status sl_csr_to_dense(sl_context *context, const sl_csr *matrix, sl_dense *dense);
/** Copy out as CSR: rows + 1 offsets, nnz columns, nnz values (NULL: not wanted) of the matrix's dtype. @return
 * #SL_ERR_OVERFLOW (offsets do not fit int32), #SL_ERR_DTYPE */
SL_API sl_status sl_csr_to_csr(sl_context *context, const sl_csr *matrix, void *row_offsets, sl_dtype offset_dtype,
							   void *col_indices, sl_dtype index_dtype, void *values);
/** Copy out as CSC: cols + 1 offsets, nnz rows, nnz values (NULL: not wanted). Makes the pattern's transpose. @return
 * also #SL_ERR_MEMORY, #SL_ERR_BUDGET */
SL_API sl_status sl_csr_to_csc(sl_context *context, const sl_csr *matrix, void *col_offsets, sl_dtype offset_dtype,
							   void *row_indices, sl_dtype index_dtype, void *values);
/** Copy out as COO, row by row: nnz rows, nnz columns, nnz values (NULL: not wanted). */
SL_API sl_status sl_csr_to_coo(sl_context *context, const sl_csr *matrix, void *row_indices, void *col_indices,
							   sl_dtype index_dtype, void *values);

SL_END_DECLS
#endif
