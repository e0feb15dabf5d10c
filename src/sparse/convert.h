/* SPDX-License-Identifier: Apache-2.0 */
/* From a matrix to the layouts of others. Arguments are checked by the caller. */
#ifndef SL_SPARSE_CONVERT_H
#define SL_SPARSE_CONVERT_H

#include "sparse/sparse.h"

void sli_csr_to_dense(const sl_csr *matrix, const sl_dense *dense);
/* values[i] = matrix's values[permutation[i]], any dtype. */
void sli_permute(void *to, const void *from, size_t size, const void *permutation, sl_dtype permutation_dtype,
				 int64_t count);
/* Copy `count` indices, widening or narrowing. */
void sli_copy_indices(void *to, sl_dtype to_dtype, const void *from, sl_dtype from_dtype, int64_t count);
/* Row of each entry. */
void sli_expand_rows(void *to, sl_dtype dtype, const sl_pattern_arrays *arrays);
/* The transpose's pattern as one of its own; its values come by sli_permute(). */
sl_status sli_pattern_transposed_copy(sl_pattern **result, sl_context *context, sl_pattern *pattern);

#endif
