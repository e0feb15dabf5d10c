/* SPDX-License-Identifier: Apache-2.0 */
/* From entries in any order to a pattern and its values. */
#ifndef SL_SPARSE_BUILD_H
#define SL_SPARSE_BUILD_H

#include "sparse/sparse.h"

/* What the caller handed over; checked for nulls and dtypes, not for its content. COO has two index
 * arrays, CSR and CSC offsets along one side and the indices of the other. */
typedef struct sl_entries {
	int64_t rows, cols, nnz;
	const void *offsets; /* NULL: COO */
	sl_dtype offset_dtype;
	bool by_column; /* CSC: offsets run over columns */
	const void *row_indices, *col_indices;
	sl_dtype index_dtype;
	const void *values; /* NULL: all zero */
	sl_dtype value_dtype;
} sl_entries;

/* Check, sort, merge and copy. `values` (may be NULL: a structure only) receives nnz elements of
 * `dtype` from the context's heap. Errors name row, column and entry. */
sl_status sli_build(sl_pattern **pattern, void **values, sl_dtype dtype, sl_context *context, const sl_entries *entries,
					const sl_build_options *options);
/* Entries of a dense matrix with |value| > threshold; with `keep` >= 0 those, and of those equal to
 * the threshold the first until there are `keep`. */
sl_status sli_build_dense(sl_pattern **pattern, void **values, sl_dtype dtype, sl_context *context,
						  const sl_dense *dense, double threshold, int64_t keep, const sl_build_options *options);
/* The magnitude of the k-th largest element (from 1). NaN is refused. */
sl_status sli_dense_threshold(sl_context *context, const sl_dense *dense, int64_t k, double *threshold);

#endif
