/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file streamed.h
 * Models with layers that are larger than memory. The weights of a streamed layer and their moments are in a store on
 * disk (store.h), and every forward and backward reads them a range of rows at a time, within the context's
 * memory_budget. All else is as with other layers: sl_model_fit(), sl_model_evaluate(), sl_model_predict().
 *
 * A training backward updates a streamed layer while it reads it; sl_optimizer_step() completes the step, so that each
 * backward needs one. With clip_norm the weights are read twice. sl_model_commit() puts the whole model on disk at
 * once: a process that is killed leaves it as the last commit did.
 *
 * Weights, moments and gradients have the bits of the same model in memory (planned with #SL_PLAN_SPARSE), where no
 * layer above them is streamed; the gradient of a streamed layer's inputs differs from the one in memory by rounding.
 * Not for streamed layers: gradients that are accumulated, ranks, sparse inputs, views of weights and moments, putting
 * back the best epoch's parameters. Schedules of patterns (sparsity.h) leave them as they are. CPU only.
 */
#ifndef SPARSELAYER_STREAMED_H
#define SPARSELAYER_STREAMED_H

#include "model.h"
#include "store.h"

SL_BEGIN_DECLS

/** Where a streamed layer is. Zero means the default that is named. */
typedef struct sl_streamed_options {
	size_t struct_size;          /**< sizeof(sl_streamed_options) */
	const char *folder;          /**< that the model is committed to; exists. The store is a new folder in it */
	sl_optimizer_kind optimizer; /**< whose moments the store has room for; default #SL_SGD */
	sl_source *weights;          /**< copied into the store; default: drawn, the same as by sl_linear_create() */
	sl_stream_options stream;    /**< of every call; `events` is not used */
} sl_streamed_options;
/** Begins an initializer of #sl_streamed_options. */
#define SL_STREAMED_DEFAULTS .struct_size = sizeof(sl_streamed_options)

/**
 * Create a linear layer whose weights are on disk. The store belongs to no model until the first commit.
 * @param options as for sl_linear_create(), but neither `dense` nor `sparse_inputs`; without `pattern`, `weights` and
 *        streamed->weights the pattern is drawn in memory, 12 bytes a weight meanwhile
 * @return as sl_linear_create() and sl_store_create(); #SL_ERR_NOT_FOUND (the folder), #SL_ERR_UNSUPPORTED
 */
SL_API sl_status sl_linear_create_streamed(sl_layer **layer, sl_context *context, const sl_linear_options *options,
										   const sl_streamed_options *streamed);

/** What a streamed layer has read and written. */
typedef struct sl_streamed_info {
	size_t struct_size;    /**< sizeof(sl_streamed_info); set it before the call */
	int64_t nnz;           /**< weights */
	int64_t steps;         /**< made */
	int64_t durable;       /**< of them committed */
	int64_t bytes_read;    /**< by all passes since it was created or loaded */
	int64_t bytes_written; /**< likewise */
	double seconds;        /**< that these passes took */
	int64_t store_bytes;   /**< of all files; 0 for a layer that is only read */
} sl_streamed_info;
/** Fill in `info`. @return #SL_ERR_ARGUMENT (the layer is in memory) */
SL_API sl_status sl_layer_get_streamed(sl_context *context, const sl_layer *layer, sl_streamed_info *info);

/**
 * Commit a model with streamed layers, its optimizer and where training stands: stores are flushed, then the file at
 * `path` is replaced in one step. It holds what is in memory, and names the state of each store. Whatever happens, it
 * opens by sl_model_load() as the last commit that returned, or the one under way. Stores that the file before it
 * named, and this one does not, are removed.
 * @param optimizer NULL: without training state
 * @param checkpoint as for sl_model_save(); may be NULL
 * @param path a file in the folder of the stores
 * @return #SL_ERR_ARGUMENT (a store in another folder), #SL_ERR_STATE (a backward without its step), #SL_ERR_NO_SPACE,
 *         #SL_ERR_IO, #SL_ERR_MEMORY
 */
SL_API sl_status sl_model_commit(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
								 const sl_checkpoint *checkpoint, const char *path);

/**
 * Load a model that sl_model_save() wrote, for inference: sparse layers of more than `above` weights stay in the file,
 * which must not change meanwhile.
 * @param checkpoint filled in; may be NULL
 * @param options NULL: defaults
 * @param limits NULL: defaults
 * @return as sl_model_load()
 */
SL_API sl_status sl_model_load_streamed(sl_model **model, sl_checkpoint *checkpoint, sl_context *context,
										const char *path, int64_t above, const sl_stream_options *options,
										const sl_read_limits *limits);

SL_END_DECLS
#endif
