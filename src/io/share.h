/* SPDX-License-Identifier: Apache-2.0 */
/* Files that ranks read by share. Calls are collective: `mine` is what this rank came to so far, and all fail where one
 * has failed. */
#ifndef SL_IO_SHARE_H
#define SL_IO_SHARE_H

#include <sparselayer/share.h>

#include "comm/comm.h"
#include "io/lines.h"

/* Rows of so many that a rank has. */
void sli_share_rows(const sl_share *share, int rank, int64_t total, int64_t *first, int64_t *count);
/* Fill in the share: this rank's rows of `total`. */
void sli_share_take(sl_share *share, int64_t total);
/* The largest of each value over all ranks. */
sl_status sli_share_max(sl_context *context, sl_comm *comm, int64_t *values, int64_t count);
/* Increasing keys of all ranks, each once, in place of this one's: the heap's, *count of them. */
sl_status sli_share_keys(sl_context *context, sl_comm *comm, sl_status mine, uint64_t **keys, int64_t *count);
/*
 * The bytes of this rank's rows in a file of lines, a row being a line that `task` counts in counts[which]: each rank
 * counts the lines of an equal piece of the file. The share is filled in. `before`: lines of the file before them.
 */
sl_status sli_share_lines(sl_context *context, const char *path, const sl_read_limits *limits, sl_share *share,
						  sl_block_task task, void *user, int which, int64_t range[2], int64_t *before);

/* By share: `share` has comm and parts, and is filled in. */
sl_status sli_svmlight_read_share(sl_dataset **dataset, sl_context *context, const char *path,
								  const sl_svmlight_options *options, const sl_read_limits *limits, sl_share *share);
sl_status sli_ratings_read_share(sl_dataset **dataset, sl_context *context, const char *path,
								 const sl_ratings_options *options, const sl_read_limits *limits, sl_share *share);
sl_status sli_dataset_read_share(sl_dataset **dataset, sl_context *context, const char *directory, bool train,
								 sl_share *share);
/* These two are no collective calls; share NULL: all rows. */
sl_status sli_idx_read_share(sl_context *context, const char *path, const sl_read_limits *limits, sl_share *share,
							 sl_idx *array);
sl_status sli_npz_read_share(sl_csr **matrix, sl_context *context, const char *path, const sl_read_limits *limits,
							 sl_share *share);
sl_status sli_csr_read_share(sl_csr **matrix, sl_context *context, const char *path, sl_format format,
							 const sl_read_limits *limits, sl_share *share);

#endif
