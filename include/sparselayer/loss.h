/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file loss.h
 * Losses: a mean over the batch and its gradient in one pass.
 */
#ifndef SPARSELAYER_LOSS_H
#define SPARSELAYER_LOSS_H

#include "layer.h"

SL_BEGIN_DECLS

/** Losses. */
typedef enum sl_loss {
	SL_SOFTMAX_CROSS_ENTROPY = 0, /**< mean over rows of -log softmax(logits)[label] */
	SL_BINARY_CROSS_ENTROPY = 1,  /**< with logits; mean over all elements, stable for large logits */
	SL_MEAN_SQUARED_ERROR = 2     /**< mean over all elements of (y - t)^2 */
} sl_loss;

/** "softmax-cross-entropy", "binary-cross-entropy", "mse"; "unknown" otherwise. Static. */
SL_API const char *sl_loss_name(sl_loss loss);

/** What the outputs should have been: class labels, dense or sparse targets; one of the three. */
typedef struct sl_targets {
	const int32_t *labels; /**< batch class indices; for softmax cross-entropy */
	const sl_dense *dense; /**< [batch, features], of the outputs' dtype; probabilities (rows adding up to 1) are
							  accepted by softmax cross-entropy too */
	/** [batch, features], CSR with columns that increase within each row: several labels a row, or what is known of it.
	 * Without values entries are 1. Where nothing is stored the target is 0. Softmax cross-entropy takes rows of any
	 * sum: it is the sum over entries of t * -log softmax (a multinomial likelihood), and `correct` counts rows whose
	 * largest output has a target above 0 */
	const sl_sparse *sparse;
	/** Binary cross-entropy and squared error: entries that `sparse` does not store are unknown, not 0. Only stored
	 * ones count, in the gradient too, and the mean is over them */
	bool ignore_zeros;
} sl_targets;

/** Results of a loss over one batch. */
typedef struct sl_loss_result {
	double loss;     /**< the mean */
	int64_t correct; /**< rows whose largest output is the label (ties: the lowest index); for BCE elements on the right
						side of 0; 0 for MSE */
	int64_t counted; /**< rows (BCE: elements) that `correct` is out of; 0 for MSE */
} sl_loss_result;

/**
 * Loss and, unless `gradient` is NULL, its gradient with respect to `outputs`. Sums are kept in double. Of f32 outputs in
 * panels or column-major, as models have them, exponentials are taken in f32: softmax is within (8 + |x - largest x|) eps of
 * its value, a sigmoid within 8 eps (eps: 2^-24).
 * @param outputs [batch, features]
 * @param gradient same shape and dtype; written; may be `outputs` itself
 * @return #SL_ERR_ARGUMENT for a label outside [0, features), with the row; #SL_ERR_SHAPE, #SL_ERR_NULL;
 *         #SL_ERR_STRUCTURE, #SL_ERR_LAYOUT (sparse targets that are not as above)
 */
SL_API sl_status sl_loss_evaluate(sl_context *context, sl_loss loss, const sl_dense *outputs, const sl_targets *targets,
								  sl_dense *gradient, sl_loss_result *result);

SL_END_DECLS
#endif
