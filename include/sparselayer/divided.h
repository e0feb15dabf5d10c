/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file divided.h
 * Model parallel: layers that are larger than one machine. The rows of W are cut into blocks of about as many nonzeros,
 * and each rank of a communicator has some of them, with their biases, gradients and moments. Forward: every rank has
 * all inputs of a layer, computes its rows of the outputs, and all gather them. Backward: each rank has the gradient of
 * its rows, and the gradient of the inputs is added up over the ranks, each receiving the rows it has below.
 *
 * Such a model is an #sl_model whose layers, parameters and gradients are this rank's blocks. sl_model_forward(),
 * sl_model_backward(), sl_model_train_batch(), sl_model_fit(), sl_model_evaluate(), sl_model_predict() and the optimizer
 * take it as they take others, and are then collective: every rank calls them with the same inputs, and has all
 * outputs. Sums follow a fixed tree over the blocks: with as many blocks, any number of ranks gives the same bits, one
 * rank included.
 *
 * Ranks in a grid train such a model on parts of the data as well: sl_comm_split() makes the communicator of the ranks
 * that hold one model together, and one of the ranks that hold the same blocks, which sl_parallel_create() takes.
 */
#ifndef SPARSELAYER_DIVIDED_H
#define SPARSELAYER_DIVIDED_H

#include "comm.h"
#include "io.h"
#include "model.h"

SL_BEGIN_DECLS

/**
 * Append a layer that is divided over the ranks of `comm`; collective. No rank ever holds the whole of it, unless
 * `pattern` or `weights` hand it over.
 * @param comm of all divided layers of a model; borrowed by it
 * @param options of the whole layer, the same on every rank. `pattern` or `weights` (of the whole, on every rank) are cut
 *        where the nonzeros are divided evenly, and this rank's rows are copied; without them blocks have as many rows
 *        each, and each draws its own `density` of them. Initial weights are drawn block by block, with the fans that
 *        neurons and inputs have in the whole layer
 * @param blocks how many, at least as many as ranks; the largest number of ranks ever used is a good one. Default (0): 8
 *        in a deterministic context, else the number of ranks. With more blocks than rows some have none
 * @return #SL_ERR_UNSUPPORTED (not on the CPU; sparse inputs), #SL_ERR_ARGUMENT (fewer blocks than ranks; another
 *         communicator than the model's), #SL_ERR_DISAGREE naming the rank and what differs; as sl_linear_create(),
 *         sl_model_add() and collective calls
 */
SL_API sl_status sl_model_add_divided(sl_context *context, sl_model *model, sl_comm *comm,
									  const sl_linear_options *options, int64_t blocks);
/**
 * The same from blocks that each rank has made by itself, of sl_linear_create(): block b is rows of W, those of the
 * blocks before it being above. For W that no rank has as a whole, or that is cut in another way. The model owns them
 * then (on failure the caller does).
 * @param blocks this rank's, sl_comm_share() of all in order of ranks; a block may have no rows
 * @param count how many; at least 1
 * @return as above; #SL_ERR_DISAGREE where counts are not those shares, or a block of another rank has other inputs,
 *         dtype, activation or bias
 */
SL_API sl_status sl_model_add_blocks(sl_context *context, sl_model *model, sl_comm *comm, sl_layer *const *blocks,
									 int count);

/** Which part of which layer one of the model's layers is. */
typedef struct sl_block_info {
	size_t struct_size;   /**< sizeof(sl_block_info); set it before the call */
	int layer;            /**< of the whole network, from 0 */
	int layers;           /**< that the whole network has */
	int64_t block;        /**< of the layer, from 0 */
	int64_t blocks;       /**< that the layer has on all ranks; 0: the layer is not divided, every rank has it */
	int64_t first_row;    /**< of W: the block's rows are first_row + those of its own W */
	int64_t out_features; /**< of the whole layer */
} sl_block_info;
/** Fill in `info` for layer `index` of the model. Of a model that is not divided, too. @return #SL_ERR_ARGUMENT */
SL_API sl_status sl_model_get_block(sl_context *context, const sl_model *model, int index, sl_block_info *info);

/** Check that layers which every rank has, the optimizer's options and steps, and the schedule of the patterns are the
 * same on every rank of a divided model; collective. sl_model_fit() does so first. @return #SL_ERR_DISAGREE naming the
 * rank and what differs, #SL_ERR_STATE (the model is not divided) */
SL_API sl_status sl_model_verify_divided(sl_context *context, const sl_model *model, const sl_optimizer *optimizer);

/**
 * Save a divided model, one file a rank, on a file system that all ranks see; collective. Rank r of R writes
 * `<path>.<n>.<r + 1>-of-<R>`, a file of sl_model_save() with its blocks and the layers that every rank has; when all are
 * on the disk, rank 0 writes the manifest `path` beside the old one, renames it, and removes the files of the save
 * before. A kill at any moment leaves a manifest whose files are whole.
 * @return as sl_model_save(), on every rank; #SL_ERR_STATE (the model is not divided), #SL_ERR_COMM
 */
SL_API sl_status sl_model_save_divided(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
									   const sl_checkpoint *checkpoint, const char *path);
/**
 * Load it, on any number of ranks up to that of blocks: each reads its blocks from the files that have them; collective.
 * Training goes on bit for bit.
 * @param comm of the model from then on
 * @return as sl_model_load(), on every rank; #SL_ERR_ARGUMENT (more ranks than blocks), #SL_ERR_DISAGREE, #SL_ERR_COMM
 */
SL_API sl_status sl_model_load_divided(sl_model **model, sl_optimizer **optimizer, sl_checkpoint *checkpoint,
									   sl_context *context, sl_comm *comm, const char *path,
									   const sl_read_limits *limits);

SL_END_DECLS
#endif
