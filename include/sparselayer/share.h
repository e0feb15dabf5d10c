/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file share.h
 * Data sets of which each rank reads its share: the bytes of its rows, and no more where the format allows it. The rows
 * of a file are divided into `parts`, whatever the number of ranks, and each rank has consecutive parts; a batch takes
 * the same number of rows from each part. So any number of ranks up to that of parts trains on the same batches.
 *
 * These calls are collective, and fail on every rank where one fails.
 */
#ifndef SPARSELAYER_SHARE_H
#define SPARSELAYER_SHARE_H

#include "comm.h"
#include "data.h"

SL_BEGIN_DECLS

/** Which rows of a file this rank has. Zero means the default that is named. */
typedef struct sl_share {
	size_t struct_size; /**< sizeof(sl_share) */
	sl_comm *comm;      /**< the ranks that read together, which are those of sl_parallel_create(); borrowed */
	/** Nearly equal parts that the rows are divided into, in order: sl_comm_share(total, part, parts). Rank r of R has
	 * the parts that sl_comm_share(parts, r, R) tells. At least as many as ranks; default 8, which is the number of
	 * shards in a deterministic context */
	int64_t parts;
	int64_t total; /**< filled in: rows of the file */
	int64_t first; /**< filled in: the first of this rank's */
	int64_t count; /**< filled in: how many those are; the data set's or matrix's rows */
} sl_share;
/** Begins an initializer of #sl_share. */
#define SL_SHARE_DEFAULTS .struct_size = sizeof(sl_share)

/**
 * sl_dataset_read_svmlight() by ranks. Each counts the lines of an equal part of the file's bytes, then reads its own
 * rows. Base, features, classes and class values are those of the whole file. Lines in messages are the file's.
 * @param share comm and parts given; the rest is filled in
 * @return also #SL_ERR_ARGUMENT (fewer parts than ranks), #SL_ERR_DISAGREE (other parts or options on some rank),
 *         #SL_ERR_COMM
 */
SL_API sl_status sl_dataset_read_svmlight_share(sl_dataset **dataset, sl_context *context, const char *path,
												const sl_svmlight_options *options, const sl_read_limits *limits,
												sl_share *share);
/**
 * sl_dataset_read_ratings() by ranks. Each reads an equal part of the file's lines; ratings then go to the rank that
 * has their user's row. Rows are the users of the whole file in increasing order, columns its items; `row_ids` are of
 * this rank's rows. Options with `like` are refused.
 * @return also as above; #SL_ERR_UNSUPPORTED (`like`)
 */
SL_API sl_status sl_dataset_read_ratings_share(sl_dataset **dataset, sl_context *context, const char *path,
											   const sl_ratings_options *options, const sl_read_limits *limits,
											   sl_share *share);
/**
 * sl_dataset_read_mnist() by ranks: pixels and labels of this rank's rows are kept. A plain file is read from its first
 * row on; a compressed one is decompressed up to its last.
 * @return also as above
 */
SL_API sl_status sl_dataset_read_mnist_share(sl_dataset **dataset, sl_context *context, const char *directory,
											 bool train, sl_share *share);
/**
 * Rows of one sparse matrix: of safetensors (its bytes alone are read), of SciPy's `.npz` in the csr layout (members
 * are decompressed up to the last row), of IDX, and the features of svmlight text.
 * @return also as sl_csr_read(); #SL_ERR_UNSUPPORTED for other formats and layouts: convert them once
 */
SL_API sl_status sl_csr_read_share(sl_csr **matrix, sl_context *context, const char *path, sl_format format,
								   const sl_read_limits *limits, sl_share *share);

SL_END_DECLS
#endif
