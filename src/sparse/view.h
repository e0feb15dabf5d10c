/* SPDX-License-Identifier: Apache-2.0 */
/* Borrowed sparse matrices: checked, and brought to rows with int32 columns. */
#ifndef SL_SPARSE_VIEW_H
#define SL_SPARSE_VIEW_H

#include "sparse/sparse.h"

/* Everything about a view, every index included; `name` goes into the message. `dtype` (0: any) is what its values
 * must be of. */
sl_status sli_check_sparse(sl_context *context, const sl_sparse *view, const char *name, sl_dtype dtype);
/* Entries that a checked view names. */
int64_t sli_sparse_entries(const sl_sparse *view);
/* Whether a view is read where it lies. */
bool sli_sparse_in_place(const sl_sparse *view);
/* Bytes that sli_sparse_batch() needs for a checked view of that many entries; 0 where it is read where it lies. False:
 * they overflow. */
bool sli_sparse_batch_bytes(const sl_sparse *view, int64_t entries, size_t *bytes);
/* A checked view as rows, in `memory` of as many bytes or borrowed. */
void sli_sparse_batch(const sl_sparse *view, int64_t entries, void *memory, sl_sparse_batch *batch);

#endif
