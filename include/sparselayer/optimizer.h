/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file optimizer.h
 * Optimizers update parameters from their gradients; their state covers the nonzeros only.
 */
#ifndef SPARSELAYER_OPTIMIZER_H
#define SPARSELAYER_OPTIMIZER_H

#include "loss.h"

SL_BEGIN_DECLS

/** Opaque: options, the number of steps, and the moments of the layers added. */
typedef struct sl_optimizer sl_optimizer;

/** How a parameter w follows its gradient g; lr is the learning rate after the schedule. */
typedef enum sl_optimizer_kind {
	SL_SGD = 0,      /**< w -= lr * g */
	SL_MOMENTUM = 1, /**< v = momentum * v + g; w -= lr * v (Polyak 1964) */
	SL_NESTEROV =
		2,       /**< v = momentum * v + g; w -= lr * (g + momentum * v) (Nesterov 1983, as in Sutskever et al. 2013) */
	SL_ADAM = 3, /**< Kingma and Ba 2015, with bias correction; eps added to the root */
	SL_ADAMW = 4 /**< Loshchilov and Hutter 2019: Adam with decoupled weight decay, w -= lr * weight_decay * w */
} sl_optimizer_kind;

/** "sgd", "momentum", "nesterov", "adam", "adamw"; "unknown" otherwise. Static. */
SL_API const char *sl_optimizer_kind_name(sl_optimizer_kind kind);

/** How the learning rate changes over the steps. */
typedef enum sl_schedule_kind {
	SL_SCHEDULE_CONSTANT = 0, /**< not at all */
	SL_SCHEDULE_STEP = 1,     /**< times `gamma` every `interval` steps */
	SL_SCHEDULE_COSINE =
		2 /**< from 1 to `final_ratio` over `total` steps, then constant (Loshchilov and Hutter 2017, one period) */
} sl_schedule_kind;

/**
 * A factor on the learning rate by step (counted from 0). With warm-up the factor first rises
 * linearly: (step + 1) / warmup over `warmup` steps; the schedule starts after it.
 */
typedef struct sl_schedule {
	sl_schedule_kind kind; /**< default #SL_SCHEDULE_CONSTANT */
	int64_t warmup;        /**< steps; default 0 */
	int64_t interval;      /**< STEP; > 0 */
	double gamma;          /**< STEP; default 0.1 */
	int64_t total;         /**< COSINE; steps after warm-up; > 0 */
	double final_ratio;    /**< COSINE; default 0 */
} sl_schedule;
/** The schedule's factor at a step. Pure; 1 for NULL. */
SL_API double sl_schedule_factor(const sl_schedule *schedule, int64_t step);

/** Options of sl_optimizer_create(). Zero means the default that is named. */
typedef struct sl_optimizer_options {
	size_t struct_size;     /**< sizeof(sl_optimizer_options) */
	sl_optimizer_kind kind; /**< default #SL_SGD */
	double learning_rate;   /**< default 0.01 (SGD family), 0.001 (Adam family) */
	double momentum;        /**< default 0.9 for MOMENTUM and NESTEROV */
	double beta1;           /**< default 0.9 */
	double beta2;           /**< default 0.999 */
	double epsilon;         /**< default 1e-8 */
	double weight_decay;    /**< ADAMW; default 0.01 (give a negative value for none) */
	double l1;              /**< penalty l1 * |w|: l1 * sign(w) is added to the gradient (sign(0) = 0) */
	double l1_proximal; /**< soft threshold by lr * l1_proximal after the update: makes exact zeros (as in ISTA: Beck
						   and Teboulle 2009) */
	double l2;          /**< penalty l2 / 2 * w^2: l2 * w is added to the gradient */
	double
		clip_norm; /**< scale all gradients so that their global 2-norm is at most this (Pascanu et al. 2013); 0: off */
	double clip_value;    /**< clamp each gradient element to [-clip_value, clip_value], before clip_norm; 0: off */
	sl_schedule schedule; /**< default: constant, without warm-up */
	/** Row-sparse gradients (layers of sparse inputs): moments, penalties and weight decay concern only the rows that a
	 * gradient lists, when it lists them, as PyTorch's SparseAdam does it; a step then costs what the batch's entries
	 * cost. Default: the update is that of a dense gradient, to the bit, zeros and all; all of W is walked, unless it
	 * is SGD without penalties, where nothing would change. */
	bool lazy;
} sl_optimizer_options;
/** Begins an initializer of #sl_optimizer_options. */
#define SL_OPTIMIZER_DEFAULTS .struct_size = sizeof(sl_optimizer_options)

/**
 * Create an optimizer without layers.
 * @param options NULL: all defaults
 * @return #SL_ERR_ARGUMENT for an option out of range, which the message names
 */
SL_API sl_status sl_optimizer_create(sl_optimizer **optimizer, sl_context *context,
									 const sl_optimizer_options *options);
/** Destroy. NULL is allowed. Layers added to it are not touched and may be gone already. */
SL_API void sl_optimizer_destroy(sl_optimizer *optimizer);
/**
 * Let the optimizer update a layer, allocating its state (zero). A layer is added once; it must
 * stay alive while steps are made. Its gradients are allocated if there are none yet.
 * @return #SL_ERR_ARGUMENT (added already), #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_optimizer_add(sl_context *context, sl_optimizer *optimizer, sl_layer *layer);
/**
 * Update every parameter of every layer added, from the gradients they hold now. Does not allocate once
 * the context's workspace is there.
 * @return #SL_ERR_STATE (a layer was edited without this optimizer), #SL_ERR_NONFINITE (clip_norm is on and
 *         the norm is not finite; no parameter was changed). On a GPU step count, learning rate, bias corrections and
 *         the clip factor are kept and advanced there, so that a step captured in a CUDA graph is the next step each
 *         time it is replayed. A captured step changes nothing where the norm is not finite: see
 *         sl_optimizer_info.skipped
 */
SL_API sl_status sl_optimizer_step(sl_context *context, sl_optimizer *optimizer);
/** Multiply every gradient by `factor`, for accumulation over several batches. @return #SL_ERR_ARGUMENT (not finite) */
SL_API sl_status sl_optimizer_scale_gradients(sl_context *context, sl_optimizer *optimizer, double factor);

/** Where an optimizer stands. */
typedef struct sl_optimizer_info {
	size_t struct_size;       /**< sizeof(sl_optimizer_info); set it before the call */
	sl_optimizer_kind kind;   /**< as created */
	int64_t steps;            /**< made so far */
	double learning_rate;     /**< that the next step will use */
	double gradient_norm;     /**< of the last step before clipping; NaN unless clip_norm is on */
	size_t state_bytes;       /**< moments */
	int states_per_parameter; /**< 0, 1 or 2 */
	int64_t skipped; /**< on a GPU: steps that changed nothing as the gradients' norm was not finite; on the CPU 0 */
} sl_optimizer_info;
/** Fill in `info`. On a GPU the count of steps is kept there, replays of captured graphs included: this waits for it. */
SL_API sl_status sl_optimizer_get_info(sl_context *context, const sl_optimizer *optimizer, sl_optimizer_info *info);
/**
 * The `state`-th moment array of a parameter, borrowed: same count and dtype as the parameter.
 * @param parameter as of sl_layer_parameter()
 * @param state 0: momentum or first moment; 1: second moment
 * @return #SL_ERR_ARGUMENT (a layer, parameter or state it does not have)
 */
SL_API sl_status sl_optimizer_state(sl_context *context, const sl_optimizer *optimizer, const sl_layer *layer,
									int parameter, int state, void **values);
/** Change the base learning rate, which the schedule's factor multiplies. @return #SL_ERR_ARGUMENT unless > 0 and
 * finite */
SL_API sl_status sl_optimizer_set_learning_rate(sl_context *context, sl_optimizer *optimizer, double learning_rate);

SL_END_DECLS
#endif
