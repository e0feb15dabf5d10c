/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file loader.h
 * Batches of sparse samples for training loops of one's own: shuffled, without copying an entry. The order
 * follows from the context's seed, the epoch and nothing else; with default options it is that of
 * sl_model_fit().
 */
#ifndef SPARSELAYER_LOADER_H
#define SPARSELAYER_LOADER_H

#include "sparse.h"

SL_BEGIN_DECLS

/** Opaque; made by sl_loader_create(), freed by sl_loader_destroy(). */
typedef struct sl_loader sl_loader;

/** Options of sl_loader_create(). Zero means the default that is named. */
typedef struct sl_loader_options {
	size_t struct_size;          /**< sizeof(sl_loader_options) */
	int64_t batch;               /**< samples a batch; default 32; the last batch of an epoch may be smaller */
	bool drop_last;              /**< leave out that smaller batch; default: it is handed out */
	bool keep_order;             /**< default: the order is drawn anew each epoch */
	const int64_t *subset;       /**< which samples; copied; NULL: all */
	int64_t subset_count;        /**< of them */
	const int32_t *labels;       /**< one a sample, borrowed; NULL: none */
	const sl_sparse *targets;    /**< [samples, classes] CSR, its arrays borrowed; NULL: none */
	const double *class_weights; /**< one a class of `labels`, copied: batches then have targets too, the label's
								  * column holding its weight, which softmax cross-entropy takes. NULL: none */
	int64_t classes;             /**< of `class_weights`: how many */
	int64_t prefetch; /**< batches that a thread of the loader's own has ready ahead, their entries brought into
					   * the cache, or into memory where they are mapped from a file; default 0: no thread */
	uint64_t stream;  /**< distinguishes the orders of several loaders of one context */
	/** The samples are this rank's share, as a call of share.h filled it in: batches are those of all ranks, `batch`
	 * (a multiple of its parts, or at least its total) their samples, and each rank gets its rows of them, in the order
	 * that sl_parallel_train_batch_sparse() takes. Read during the call; its communicator must live as long as the
	 * loader. Not with `subset`. NULL: these are all samples */
	const struct sl_share *share;
} sl_loader_options;
/** Begins an initializer of #sl_loader_options. */
#define SL_LOADER_DEFAULTS .struct_size = sizeof(sl_loader_options)

/**
 * Create a loader at the beginning of epoch 0.
 * @param inputs [samples, features] CSR; its arrays are borrowed while the loader lives
 * @return #SL_ERR_ARGUMENT (an option or a row of `subset` out of range, a label without weight), #SL_ERR_SHAPE,
 *         #SL_ERR_LAYOUT (not CSR), #SL_ERR_STRUCTURE, #SL_ERR_MEMORY (a thread that could not be made included),
 *         #SL_ERR_BUDGET
 */
SL_API sl_status sl_loader_create(sl_loader **loader, sl_context *context, const sl_sparse *inputs,
								  const sl_loader_options *options);
/** Destroy. NULL is allowed. */
SL_API void sl_loader_destroy(sl_loader *loader);

/** One batch: views and arrays that are valid until the loader's next call. */
typedef struct sl_batch {
	size_t struct_size;    /**< sizeof(sl_batch); set it before the call */
	int64_t epoch;         /**< counted from 0 */
	int64_t first;         /**< samples of the epoch before this batch */
	int64_t count;         /**< samples in it, of a share those that are here; 0: see `total` */
	const int64_t *rows;   /**< which samples they are */
	sl_sparse inputs;      /**< [count, features] */
	const int32_t *labels; /**< one a sample, or NULL */
	sl_sparse targets;     /**< [count, classes] where there are targets or class weights; else of 0 x 0 */
	int64_t total;         /**< samples in it, of all ranks; 0: the epoch is over, and the next call begins another */
} sl_batch;
/** The next batch of the epoch, or an empty one where it is over. Allocates nothing. */
SL_API sl_status sl_loader_next(sl_context *context, sl_loader *loader, sl_batch *batch);
/**
 * Go to a place: the next batch begins with sample `first` of `epoch`. A run that noted epoch and
 * first + count of its last batch goes on from there with the same batches.
 * @param first a multiple of the batch size within the epoch
 * @return #SL_ERR_ARGUMENT
 */
SL_API sl_status sl_loader_seek(sl_context *context, sl_loader *loader, int64_t epoch, int64_t first);

/**
 * Split samples at random into two parts.
 * @param labels one a sample: each class is split in the same proportion, as nearly as whole numbers allow; NULL:
 *        they do not count
 * @param fraction of the second part, in [0, 1]: round(fraction * count) samples
 * @param stream distinguishes the splits of one context
 * @param rows receives `count` sample numbers: the first part, increasing, then the second, increasing
 * @param first_count receives the number of samples in the first part
 * @return #SL_ERR_ARGUMENT (fraction, a negative label), #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_split(sl_context *context, int64_t count, const int32_t *labels, double fraction, uint64_t stream,
						  int64_t *rows, int64_t *first_count);

/**
 * Weights that make classes count alike: samples / (classes that occur * samples of the class), so that the mean over
 * all samples is 1 (King and Zeng 2001; scikit-learn's class_weight="balanced"). A class without samples gets 0.
 * @param labels `count` classes in [0, classes)
 * @param weights receives `classes` numbers
 * @return #SL_ERR_ARGUMENT (a label out of range)
 */
SL_API sl_status sl_class_weights(sl_context *context, const int32_t *labels, int64_t count, int64_t classes,
								  double *weights);

SL_END_DECLS
#endif
