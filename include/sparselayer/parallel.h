/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file parallel.h
 * Data-parallel training: every rank has the whole model and a share of each batch. Gradients of the nonzeros are
 * summed over the ranks while backward goes on; losses and norms are those of the whole batch, and patterns change on
 * all ranks alike.
 */
#ifndef SPARSELAYER_PARALLEL_H
#define SPARSELAYER_PARALLEL_H

#include "comm.h"
#include "io.h"
#include "sparsity.h"

SL_BEGIN_DECLS

/** Opaque: a model that is trained by several ranks. Borrows the communicator, the model and the optimizer. */
typedef struct sl_parallel sl_parallel;

/** Options of sl_parallel_create(). Zero means the default that is named. */
typedef struct sl_parallel_options {
	size_t struct_size;   /**< sizeof(sl_parallel_options) */
	int64_t bucket_bytes; /**< gradients are sent once so many bytes of them are there; default 1 MiB */
	/**
	 * Parts that each batch is divided into, whatever the number of ranks, which must not be larger. Each part's
	 * gradient is computed by itself and all are added up by a fixed tree, so that training has the same bits on any
	 * number of ranks, one included. Default: 8 in a deterministic context; else the batch is divided by ranks, and
	 * sums are in the order that MPI or NCCL chooses.
	 */
	int64_t shards;
	/** Each rank keeps moments for its share of the nonzeros, updates that, and receives the others' (Rajbhandari et
	 * al. 2020, ZeRO stage 1). The optimizer's own state arrays are given back until the parallel is destroyed. */
	bool shard_state;
	/** With samples of which each rank has its share alone (share.h): the parts that their file is divided into. A
	 * rank's rows of a batch are then those of its parts, each giving a nearly equal number; sl_parallel_share() tells.
	 * At least as many as ranks, and as many as shards where there are some. sl_model_fit() knows it from the samples.
	 * Default: as many as shards, else as ranks */
	int64_t parts;
} sl_parallel_options;
/** Begins an initializer of #sl_parallel_options. */
#define SL_PARALLEL_DEFAULTS .struct_size = sizeof(sl_parallel_options)

/**
 * Train `model` by all ranks of `comm`; collective. Model, optimizer and schedule of patterns must be the same on every
 * rank, as they are when all were made from one seed or loaded from one file.
 * @return #SL_ERR_DISAGREE naming the rank and what differs (version, shapes, dtypes, patterns, weights, options,
 * seed); #SL_ERR_ARGUMENT (more ranks than shards; an optimizer that lacks a layer), #SL_ERR_UNSUPPORTED (sparse
 *         inputs with `shard_state`; not on the CPU), #SL_ERR_COMM, #SL_ERR_MEMORY
 */
SL_API sl_status sl_parallel_create(sl_parallel **parallel, sl_context *context, sl_comm *comm, sl_model *model,
									sl_optimizer *optimizer, const sl_parallel_options *options);
/** Destroy; before the model and the optimizer. With `shard_state` the optimizer has no moments after it, unless they
 * were gathered. NULL is allowed. */
SL_API void sl_parallel_destroy(sl_parallel *parallel);
/** The rows [*first, *first + *count) of a global batch (or any list) of `total` that this rank has. */
SL_API void sl_parallel_share(const sl_parallel *parallel, int64_t total, int64_t *first, int64_t *count);

/**
 * Forward, loss and backward of a global batch, of which this rank has its share. The gradients of the model are those
 * of the whole batch afterwards. Collective.
 * @param total rows of the global batch
 * @param inputs this rank's rows, as sl_parallel_share() tells them
 * @param result of the whole batch
 * @return as sl_model_train_batch(), on every rank if on one; #SL_ERR_UNSUPPORTED (`ignore_zeros`), #SL_ERR_COMM
 */
SL_API sl_status sl_parallel_train_batch(sl_context *context, sl_parallel *parallel, sl_loss loss, int64_t total,
										 const sl_dense *inputs, const sl_targets *targets, sl_write write,
										 sl_loss_result *result);
/**
 * The same for a model whose first layer takes sparse inputs. Of its weights the rows are summed that the batch touches
 * on any rank: ranks tell one another which those are, and send no others.
 * @param inputs CSR; borrowed during the call
 */
SL_API sl_status sl_parallel_train_batch_sparse(sl_context *context, sl_parallel *parallel, sl_loss loss, int64_t total,
												const sl_sparse *inputs, const sl_targets *targets, sl_write write,
												sl_loss_result *result);
/**
 * Update, and edit the patterns where an edit is due: sl_optimizer_step() and sl_model_sparsity_step() for all ranks.
 * Collective.
 * @param edit may be NULL
 */
SL_API sl_status sl_parallel_step(sl_context *context, sl_parallel *parallel, sl_sparsity_edit *edit);

/** Check that model and optimizer are still the same on every rank, bit for bit; collective. sl_model_fit() does so
 * after each epoch. @return #SL_ERR_DISAGREE naming the rank */
SL_API sl_status sl_parallel_verify(sl_context *context, sl_parallel *parallel);
/**
 * sl_model_save() by rank 0, after moments that are spread over the ranks were gathered; collective. Any number of
 * ranks may load the file and go on. Every rank learns whether it was written. Of a divided model the ranks that have
 * the first share of a batch save, by sl_model_save_divided(), and all ranks call.
 * @return as sl_model_save(), on every rank; #SL_ERR_COMM
 */
SL_API sl_status sl_parallel_save(sl_context *context, sl_parallel *parallel, const sl_checkpoint *checkpoint,
								  const char *path);

/** What a parallel step moves. */
typedef struct sl_parallel_info {
	size_t struct_size;   /**< sizeof(sl_parallel_info); set it before the call */
	int64_t elements;     /**< gradients that a step sums */
	int buckets;          /**< sums a step */
	int64_t shards;       /**< parts of a batch */
	size_t bytes;         /**< held beside the model and the optimizer */
	size_t state_bytes;   /**< of this rank's share of the moments; 0 without `shard_state` */
	double communication; /**< seconds from the first sum's start to the last one's end, of the last step */
	double waited;        /**< seconds of these in which this rank did nothing else */
	int64_t rows;         /**< of a layer of sparse inputs: features that the last batch touched on any rank */
	int64_t row_elements; /**< weights of these, whose gradients were summed besides `elements` */
} sl_parallel_info;
/** Fill in `info`. */
SL_API sl_status sl_parallel_get_info(sl_context *context, const sl_parallel *parallel, sl_parallel_info *info);

SL_END_DECLS
#endif
