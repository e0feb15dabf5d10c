/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file store.h
 * A sparse weight matrix that is trained on disk. A folder holds its pattern, which does not change, and two files of
 * values and moments: a step reads one and writes the other, from front to back, and then says in a checksummed header
 * which is newer. There is no journal. Whatever happens, the store opens as the state before or after a whole step.
 */
#ifndef SPARSELAYER_STORE_H
#define SPARSELAYER_STORE_H

#include "stream.h"

SL_BEGIN_DECLS

/** Opaque. One process at a time has a store open, and one thread at a time uses it. */
typedef struct sl_store sl_store;

/** When a step is on disk for good. */
typedef enum sl_durability {
	SL_DURABLE_STEP = 0,      /**< when sl_store_step() returns */
	SL_DURABLE_CHECKPOINT = 1 /**< when sl_store_commit() returns; a store that was not closed opens as of then */
} sl_durability;

/**
 * Create a store from a matrix of any source, in a new folder. Moments are zero.
 * @param path of a folder that does not exist or holds no store
 * @param states moments for each value: 0 (SGD), 1 (momentum, Nesterov), 2 (Adam, AdamW)
 * @return #SL_ERR_STATE (the folder holds a store), #SL_ERR_ARGUMENT (states), #SL_ERR_NO_SPACE, #SL_ERR_IO, and as
 *         sl_stream_spmm()
 */
SL_API sl_status sl_store_create(sl_context *context, const char *path, sl_source *matrix, int states);
/**
 * Open a store.
 * @return #SL_ERR_NOT_FOUND, #SL_ERR_FORMAT (damaged, or no store), #SL_ERR_IO, #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_store_open(sl_store **store, sl_context *context, const char *path, sl_durability durability);
/** Close. Steps that were not committed are lost. NULL is allowed. */
SL_API void sl_store_close(sl_store *store);
/** The matrix as it is now, for sl_stream_spmm(); borrowed, valid until the store is closed. NULL for NULL. */
SL_API sl_source *sl_store_source(sl_store *store);
/**
 * One pass over the weights: the gradient of the inputs, that of the weights, and the update with it. Weights and
 * moments are read once and written once.
 * @param optimizer kind with as many moments as the store; learning rate, schedule and regularizers as in
 *        sl_optimizer_step(), the number of steps being the store's. clip_norm bounds the norm of this store's gradient;
 *        it takes a pass over the columns before, for the norm is not known before the last gradient is
 * @param X [batch, cols]: inputs of the forward
 * @param dZ [batch, rows]: gradient of X W^T
 * @param dX [batch, cols], overwritten with dZ W; NULL: not wanted
 * @param options NULL: defaults
 * @param report filled in unless NULL
 * @return as sl_stream_spmm(), #SL_ERR_NO_SPACE, #SL_ERR_NONFINITE (the norm). The store is then as before the step,
 *         or with #SL_DURABLE_CHECKPOINT as of the last commit; sl_store_get_info() tells
 */
SL_API sl_status sl_store_step(sl_context *context, sl_store *store, const sl_optimizer_options *optimizer,
							   const sl_dense *X, const sl_dense *dZ, sl_dense *dX, const sl_stream_options *options,
							   sl_stream_report *report);
/** Put all steps so far on disk for good. */
SL_API sl_status sl_store_commit(sl_context *context, sl_store *store);
/**
 * Copy values and moments [first, first + count) out, in the pattern's order; they are checked against nothing.
 * @param state -1: values; 0, 1: moments
 * @param to `count` elements of the store's dtype
 */
SL_API sl_status sl_store_read(sl_context *context, sl_store *store, int state, int64_t first, int64_t count, void *to);

/** Where a store stands. */
typedef struct sl_store_info {
	size_t struct_size;   /**< sizeof(sl_store_info); set it before the call */
	int64_t rows;         /**< of the matrix */
	int64_t cols;         /**< of the matrix */
	int64_t nnz;          /**< entries */
	sl_dtype dtype;       /**< of values and moments */
	int states;           /**< moments for each value */
	int64_t steps;        /**< made */
	int64_t durable;      /**< of them on disk for good */
	int64_t bytes;        /**< of all files */
	int64_t step_read;    /**< bytes that a step reads */
	int64_t step_written; /**< bytes that a step writes */
	bool direct;          /**< past the page cache */
} sl_store_info;
/** Fill in `info`. */
SL_API sl_status sl_store_get_info(sl_context *context, const sl_store *store, sl_store_info *info);

SL_END_DECLS
#endif
