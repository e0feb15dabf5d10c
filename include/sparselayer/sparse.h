/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file sparse.h
 * Views of sparse matrices that belong to somebody else: what layers take as sparse inputs and losses as
 * sparse targets. A view owns nothing and nothing is copied; rows are samples.
 */
#ifndef SPARSELAYER_SPARSE_H
#define SPARSELAYER_SPARSE_H

#include "ops.h"

SL_BEGIN_DECLS

/** How the entries of a view are listed. */
typedef enum sl_sparse_format {
	SL_SPARSE_CSR = 0, /**< by row: `offsets` over rows, `col_indices` */
	SL_SPARSE_CSC = 1, /**< by column: `offsets` over columns, `row_indices` */
	SL_SPARSE_COO = 2  /**< in any order: `row_indices`, `col_indices` */
} sl_sparse_format;

/**
 * A borrowed sparse matrix. Entries of a row or column may come in any order; one that comes twice
 * counts twice, which for a linear layer is their sum. Checked by the call it is given to. CSR with
 * int32 columns is read where it lies; the other forms are brought to it in workspace.
 */
typedef struct sl_sparse {
	sl_sparse_format format; /**< which of the arrays below are there */
	int64_t rows;            /**< samples, >= 0 */
	int64_t cols;            /**< features, in [0, 2^31 - 1] */
	/** Elements of the index arrays and of `values`: no offset exceeds it. In COO all are entries; in CSR and CSC
	 * those that the offsets name, so that a view of some rows borrows the arrays of the whole. */
	int64_t nnz;
	const void *offsets;     /**< CSR: where each row begins; CSC: where each column does. Without `ends` one more than
								there are rows (columns), not decreasing; the first need not be 0. COO: NULL */
	const void *ends;        /**< where each row (column) ends, one element each; NULL: at the next one's begin */
	sl_dtype offset_dtype;   /**< #SL_I32 or #SL_I64, of `offsets` and `ends` */
	const void *row_indices; /**< CSC and COO */
	const void *col_indices; /**< CSR and COO */
	sl_dtype index_dtype;    /**< #SL_I32 or #SL_I64, of the index arrays */
	const void *values;      /**< NULL: every entry is 1 */
	sl_dtype dtype;          /**< of `values`: #SL_F32 or #SL_F64; unread where they are NULL */
} sl_sparse;

/** A view of a matrix; valid while the matrix is. Zero for NULL, and for a pattern over a device's memory that
 * sl_pattern_get() was never called for. */
SL_API sl_sparse sl_sparse_from_csr(const sl_csr *matrix);
/** Rows [first, first + count) of a CSR view, without copying; a view of 0 x 0 for another format or rows that are not
 * there. */
SL_API sl_sparse sl_sparse_slice(sl_sparse view, int64_t first, int64_t count);
/**
 * Chosen rows of a CSR view, in the order given, without copying entries: what a shuffled batch is.
 * @param rows `count` row numbers, each in [0, view.rows)
 * @param offsets receives `count` elements: where the chosen rows begin. Must live as long as the result
 * @param ends receives `count` elements: where they end. Likewise
 * @param chosen receives the view
 * @return #SL_ERR_ARGUMENT (a row out of range, negative count), #SL_ERR_LAYOUT (not CSR), #SL_ERR_NULL
 */
SL_API sl_status sl_sparse_select(sl_context *context, const sl_sparse *view, const int64_t *rows, int64_t count,
								  int64_t *offsets, int64_t *ends, sl_sparse *chosen);
/**
 * Check a view as the calls that take it do: sizes, offsets, every index.
 * @return #SL_ERR_NULL, #SL_ERR_ARGUMENT, #SL_ERR_DTYPE, #SL_ERR_OVERFLOW, #SL_ERR_STRUCTURE (the message names row,
 * column or entry)
 */
SL_API sl_status sl_sparse_check(sl_context *context, const sl_sparse *view);

SL_END_DECLS
#endif
