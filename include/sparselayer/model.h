/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file model.h
 * A sequence of layers, its training loop, and the single calls under it for loops of one's own.
 * Between layers activations stay in the device's own layout: only the model's input and output
 * are converted.
 */
#ifndef SPARSELAYER_MODEL_H
#define SPARSELAYER_MODEL_H

#include "topology.h"

SL_BEGIN_DECLS

/** Opaque: a chain of layers and their activations. Freed, layers included, by sl_model_destroy(). */
typedef struct sl_model sl_model;

/** Create a model without layers. */
SL_API sl_status sl_model_create(sl_model **model, sl_context *context);
/** Destroy a model and its layers. NULL is allowed. */
SL_API void sl_model_destroy(sl_model *model);
/** Append a layer, which the model owns from then on (on failure the caller still does). Its in_features must equal the
 * last layer's out_features, its dtype the model's. @return #SL_ERR_SHAPE, #SL_ERR_DTYPE, #SL_ERR_ARGUMENT (it is in
 * the model already) */
SL_API sl_status sl_model_add(sl_context *context, sl_model *model, sl_layer *layer);
/** How many layers there are. 0 for NULL. */
SL_API int sl_model_layer_count(const sl_model *model);
/** A layer, from 0; borrowed. NULL when out of range. */
SL_API sl_layer *sl_model_layer(const sl_model *model, int index);
/** How many parameters (weights and biases) the layers have together. 0 for NULL. */
SL_API int sl_model_parameter_count(const sl_model *model);
/**
 * A parameter and its gradient, numbered through all layers in order.
 * @param index from 0
 * @param layer receives the number of the layer it belongs to; may be NULL
 * @return #SL_ERR_ARGUMENT (index out of range), #SL_ERR_NULL
 */
SL_API sl_status sl_model_parameter(sl_context *context, const sl_model *model, int index, int *layer,
									sl_parameter *parameter);
/** Add every layer to an optimizer. @return as sl_optimizer_add() */
SL_API sl_status sl_model_add_to_optimizer(sl_context *context, sl_model *model, sl_optimizer *optimizer);

/** Plan and allocate for batches of up to `max_batch`, so that the calls below do neither. Called by them where it was
 * not; call it again after an edit to keep steps free of allocation. */
SL_API sl_status sl_model_prepare(sl_context *context, sl_model *model, int64_t max_batch, sl_mode mode);
/** As sl_layer_generation(), of all layers and of the activations between them. */
SL_API uint64_t sl_model_generation(const sl_context *context, const sl_model *model);
/** Outputs for inputs [batch, in] into [batch, out]. In #SL_MODE_TRAINING what backward needs is kept. @return
 * #SL_ERR_STATE (no layers), #SL_ERR_SHAPE, #SL_ERR_DTYPE, #SL_ERR_ALIAS */
SL_API sl_status sl_model_forward(sl_context *context, sl_model *model, const sl_dense *inputs, sl_dense *outputs,
								  sl_mode mode);
/** Gradients from the gradient of the outputs of the last training forward. `d_inputs` may be NULL. @return
 * #SL_ERR_STATE (no such forward, or a layer was edited since), #SL_ERR_SHAPE, #SL_ERR_DTYPE */
SL_API sl_status sl_model_backward(sl_context *context, sl_model *model, const sl_dense *d_outputs, sl_dense *d_inputs,
								   sl_write write);
/**
 * Forward, loss and backward of one batch; activations stay packed throughout. Update with sl_optimizer_step().
 * @param inputs [batch, in]
 * @param targets of the batch; on a GPU in its memory, and not sparse
 * @param result NULL: the figures are added to those of sl_model_take_loss(), and on a GPU nothing waits: with
 * sl_optimizer_step() this is a training step that can be captured in a CUDA graph, once the model is prepared. The
 * graph is stale when sl_model_generation() has changed
 * @return #SL_ERR_STATE (no layers), #SL_ERR_SHAPE, #SL_ERR_DTYPE, #SL_ERR_ARGUMENT (a label out of range),
 * #SL_ERR_UNSUPPORTED (sparse targets on a GPU). A loss that is not finite is no error here
 */
SL_API sl_status sl_model_train_batch(sl_context *context, sl_model *model, sl_loss loss, const sl_dense *inputs,
									  const sl_targets *targets, sl_write write, sl_loss_result *result);
/** The mean loss and the figures of all batches since the last call, or since the model was prepared, whose results
 * were not asked for; 0 where there were none. Waits for them. @return #SL_ERR_STATE (no layers; the stream captures a
 * graph), #SL_ERR_ARGUMENT (a label was out of range; batches from there on were not counted) */
SL_API sl_status sl_model_take_loss(sl_context *context, sl_model *model, sl_loss_result *result);

/**
 * The same calls for a model whose first layer takes sparse inputs (sl_linear_options.sparse_inputs). `inputs` is
 * borrowed: after a training forward until its backward.
 * @return as theirs, and #SL_ERR_STATE (the first layer takes dense inputs), #SL_ERR_STRUCTURE (offsets or indices that
 *         are not valid)
 */
SL_API sl_status sl_model_forward_sparse(sl_context *context, sl_model *model, const sl_sparse *inputs,
										 sl_dense *outputs, sl_mode mode);
/** Likewise sl_model_train_batch(). */
SL_API sl_status sl_model_train_batch_sparse(sl_context *context, sl_model *model, sl_loss loss,
											 const sl_sparse *inputs, const sl_targets *targets, sl_write write,
											 sl_loss_result *result);

/** Samples held by the caller in the host's memory, wherever the model is: inputs [samples, features] row-major and
 * their targets. To a model on a GPU batches are copied by way of pinned memory, the next one while it computes. */
typedef struct sl_samples {
	size_t struct_size;      /**< sizeof(sl_samples) */
	sl_dense inputs;         /**< row-major, of the model's dtype */
	const int32_t *labels;   /**< one a sample, or NULL */
	const sl_dense *targets; /**< [samples, out] row-major, or NULL */
	/** [samples, features], CSR; then `inputs` is not read. Batches choose its rows where they lie */
	const sl_sparse *sparse_inputs;
	const sl_sparse *sparse_targets; /**< [samples, out], CSR, instead of labels or `targets`: see #sl_targets */
	bool ignore_zeros;               /**< with sparse targets: see #sl_targets */
	/** These are this rank's share of the samples, as one of the calls of share.h read and filled it in: for
	 * sl_model_fit() with `parallel` of the same ranks. NULL: these are all samples */
	const struct sl_share *share;
} sl_samples;
/** Begins an initializer of #sl_samples. */
#define SL_SAMPLES_DEFAULTS .struct_size = sizeof(sl_samples)

/** One epoch's figures. */
typedef struct sl_epoch {
	int64_t epoch;              /**< from 0 */
	double loss;                /**< mean over the epoch's samples while training */
	double accuracy;            /**< likewise, 0 to 1; NaN for a loss without one */
	double validation_loss;     /**< NaN without validation samples */
	double validation_accuracy; /**< likewise */
	double learning_rate;       /**< of the last step */
	double seconds;             /**< of training, validation excluded */
} sl_epoch;
/** Called after each epoch. Return false to stop cleanly (sl_model_fit() then returns #SL_ERR_CANCELLED). */
typedef bool (*sl_epoch_callback)(void *user, const sl_epoch *epoch);

/** Options of sl_model_fit(). Zero means the default that is named. */
typedef struct sl_fit_options {
	size_t struct_size;   /**< sizeof(sl_fit_options) */
	sl_loss loss;         /**< default #SL_SOFTMAX_CROSS_ENTROPY */
	int64_t epochs;       /**< default 1; counted from the first, so a resumed run gives the same total */
	int64_t first_epoch;  /**< where a resumed run goes on; default 0 */
	int64_t first_sample; /**< samples of that epoch that are done already: a multiple of batch * accumulate, as
							 sl_progress.done gave it when a run was cancelled; default 0 */
	int64_t batch;        /**< default 32; the last batch of an epoch may be smaller */
	int64_t accumulate;   /**< batches whose gradients are averaged before a step; default 1 */
	bool keep_order; /**< default: samples are shuffled anew each epoch, from the seed and the epoch's number alone */
	const sl_samples *validation; /**< evaluated after each epoch; NULL: none */
	sl_epoch_callback on_epoch;   /**< NULL: none */
	void *user;                   /**< handed to it */
	/** Stop early: after so many epochs in a row whose validation loss was not the best. At the end the parameters of
	 * the best epoch are put back; the optimizer stays as it is. The count begins anew in a resumed run. Default 0: all
	 * epochs are made */
	int64_t patience;
	double min_improvement; /**< by how much an epoch must be better than the best to count; default 0 */
	bool stop_on_accuracy;  /**< look at the validation accuracy, not the loss */
	bool keep_last;         /**< with `patience`: keep the last parameters, not the best */
	/** Train by several ranks (parallel.h): each has all samples, `batch` is the global batch, and figures are of all.
	 * Collective; any rank's cancelling ends all after the same step. NULL: this process alone */
	struct sl_parallel *parallel;
	/** How much a sample of each class counts in the training loss, one number an output of the model, not negative and
	 * finite, as sl_class_weights() makes them. With labels and softmax cross-entropy. Read during the call; validation
	 * is not weighted. NULL: all count 1 */
	const double *class_weights;
} sl_fit_options;
/** Begins an initializer of #sl_fit_options. */
#define SL_FIT_DEFAULTS .struct_size = sizeof(sl_fit_options)

/**
 * Train. Progress goes to the context's callback; returning false there ends after the current
 * step with #SL_ERR_CANCELLED, model and optimizer being whole.
 * @return #SL_ERR_SHAPE, #SL_ERR_DTYPE, #SL_ERR_ARGUMENT, #SL_ERR_LAYOUT (samples not row-major), #SL_ERR_STATE (a
 * layer the optimizer does not have), #SL_ERR_DEVICE (samples on a GPU), #SL_ERR_NONFINITE (the loss became NaN or
 *         infinite; the epoch and batch are named), #SL_ERR_CANCELLED, #SL_ERR_STATE also where a pattern was edited
 *         after the best epoch of a run that stops early, whose parameters are then those of the last
 */
SL_API sl_status sl_model_fit(sl_context *context, sl_model *model, sl_optimizer *optimizer, const sl_samples *samples,
							  const sl_fit_options *options);
/**
 * Mean loss and accuracy over samples, in batches of `batch` (0: 256).
 * @param mean_loss may be NULL
 * @param accuracy 0 to 1, NaN for a loss without one; may be NULL
 * @return as sl_model_fit(), but #SL_ERR_NONFINITE
 */
SL_API sl_status sl_model_evaluate(sl_context *context, sl_model *model, sl_loss loss, const sl_samples *samples,
								   int64_t batch, double *mean_loss, double *accuracy);
/** Outputs [samples, out] (row-major) of inputs [samples, in], in batches of `batch` (0: 256). @return #SL_ERR_SHAPE,
 * #SL_ERR_DTYPE, #SL_ERR_LAYOUT (not row-major), #SL_ERR_DEVICE (not in the host's memory) */
SL_API sl_status sl_model_predict(sl_context *context, sl_model *model, const sl_dense *inputs, sl_dense *outputs,
								  int64_t batch);

/** The same for sparse inputs, which must be CSR. */
SL_API sl_status sl_model_predict_sparse(sl_context *context, sl_model *model, const sl_sparse *inputs,
										 sl_dense *outputs, int64_t batch);

/** What a model costs. */
typedef struct sl_model_info {
	size_t struct_size;        /**< sizeof(sl_model_info); set it before the call */
	int layers;                /**< how many */
	int64_t in_features;       /**< of the first layer */
	int64_t out_features;      /**< of the last */
	int64_t nonzeros;          /**< weights stored */
	int64_t dense_weights;     /**< weights it would have were it dense */
	int64_t parameters;        /**< nonzeros + biases */
	size_t parameter_bytes;    /**< values of weights and biases */
	size_t pattern_bytes;      /**< offsets, columns, transposes and tile indices */
	size_t gradient_bytes;     /**< of weights and biases; 0 before the first backward */
	size_t optimizer_bytes;    /**< moments; 0 when no optimizer was given */
	size_t activation_bytes;   /**< activations, saved values and workspace of the prepared batch */
	int64_t streamed_nonzeros; /**< of the nonzeros those on disk: see streamed.h */
} sl_model_info;
/**
 * Fill in `info`.
 * @param optimizer may be NULL
 * @return #SL_ERR_STATE for a model without layers
 */
SL_API sl_status sl_model_get_info(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
								   sl_model_info *info);

SL_END_DECLS
#endif
