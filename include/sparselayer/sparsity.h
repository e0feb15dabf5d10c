/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file sparsity.h
 * A schedule by which the patterns of a model change while it trains: dynamic sparse training and gradual
 * pruning. The model keeps it, sl_model_fit() follows it, and a loop of one's own calls
 * sl_model_sparsity_step() after each step of the optimizer. It is saved and loaded with the model.
 */
#ifndef SPARSELAYER_SPARSITY_H
#define SPARSELAYER_SPARSITY_H

#include "model.h"

SL_BEGIN_DECLS

/** What an edit of the patterns does. */
typedef enum sl_sparse_method {
	SL_SPARSE_STATIC = 0, /**< nothing: patterns stay as they are */
	SL_SPARSE_SET = 1,    /**< drop the smallest weights, grow as many at random (SET, Mocanu et al. 2018; dropped by
							 magnitude) */
	SL_SPARSE_RIGL = 2,   /**< drop the smallest weights, grow where the missing weights' gradients are largest (RigL,
							 Evci et al. 2020). What is dropped does not come back in the same edit */
	SL_SPARSE_GMP = 3,    /**< drop until the density follows a cubic curve down to its end (Zhu and Gupta 2018) */
	SL_SPARSE_L1 = 4      /**< drop weights that are exactly zero, as sl_optimizer_options.l1_proximal makes them, but
							 not below the final density */
} sl_sparse_method;

/** "static", "set", "rigl", "gmp", "l1"; "unknown" otherwise. Static. */
SL_API const char *sl_sparse_method_name(sl_sparse_method method);

/** Where the number of weights is kept. */
typedef enum sl_budget {
	SL_BUDGET_LAYER = 0, /**< in each layer: weights compete with those of their layer */
	SL_BUDGET_GLOBAL = 1 /**< in the layers together: layers may become sparser or denser than each other */
} sl_budget;

/** How the fraction that SET and RigL drop changes with the steps, from `drop` at step 0. */
typedef enum sl_drop_decay {
	SL_DECAY_COSINE = 0,   /**< drop / 2 * (1 + cos(pi * step / end)), as in RigL */
	SL_DECAY_CONSTANT = 1, /**< drop */
	SL_DECAY_LINEAR = 2    /**< drop * (1 - step / end) */
} sl_drop_decay;

/** Options of sl_model_set_sparsity(). Zero means the default that is named. */
typedef struct sl_sparsity_options {
	size_t struct_size;      /**< sizeof(sl_sparsity_options) */
	sl_sparse_method method; /**< default #SL_SPARSE_STATIC */
	sl_budget budget;        /**< default #SL_BUDGET_LAYER */
	int64_t interval;        /**< steps between edits; default 100 */
	int64_t begin;           /**< the first edit follows step begin + interval; default 0 */
	int64_t end;             /**< no edit follows a later step; must be > begin unless static. RigL's authors take three
								quarters of the training */
	double drop;             /**< SET, RigL: fraction of the weights, in (0, 1]; default 0.3 */
	sl_drop_decay decay;     /**< SET, RigL; default #SL_DECAY_COSINE */
	double density;          /**< GMP, L1: of all pruned layers together at the end, in [0, 1] */
	sl_distribution distribution; /**< GMP, L1: over the layers; default #SL_UNIFORM. Not with `densities` */
	const double *densities; /**< GMP, L1: at the end, one a layer of the model, 0: the layer is left alone. Copied.
								NULL: from `density` */
	bool keep_last;          /**< GMP, L1: leave the last layer alone */
	uint64_t stream;         /**< SET: distinguishes the draws of models of one context */
	double spread; /**< RigL: a neuron gains at most ceil(spread * m) weights in an edit, m being the mean of its
					  layer (of all governed layers with #SL_BUDGET_GLOBAL); at least 1, default 1. Without a
					  limit (INFINITY, as RigL is published) adaptive optimizers (Adam) let a few neurons with
					  large gradients gain nearly all: their candidates are correlated and say the same. Where
					  neurons are nearly full, fewer weights are moved than `drop` says */
	int n;         /**< N:M structure: of each `m` consecutive columns of a layer's pattern at most `n` hold weights, as
					  sl_pattern_n_m() makes it; 0: no such structure. SET, RigL: the patterns must have it; a group grows
					  as many as it drops, so it keeps its number, and `spread` has no meaning. GMP, L1: no group falls
					  below `n` (or its width), which is where GMP ends; `density` must be 0. In [0, m] */
	int m;         /**< with `n`; 0 without */
} sl_sparsity_options;
/** Begins an initializer of #sl_sparsity_options. */
#define SL_SPARSITY_DEFAULTS .struct_size = sizeof(sl_sparsity_options)

/**
 * Give a model a schedule, from step 0 on. SET and RigL govern the layers that are sparse now (RigL with `n`
 * those of them that take dense inputs); GMP and L1 all layers, dense ones too, which become sparse. Layers that are added later are not
 * governed.
 * @param options copied; NULL: take the schedule away
 * @return #SL_ERR_ARGUMENT (an option out of range, which the message names), #SL_ERR_STATE (no layers, or none that
 *         the method can govern; SET, RigL: a group of a pattern has more than `n`), #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_model_set_sparsity(sl_context *context, sl_model *model, const sl_sparsity_options *options);

/** What one call of sl_model_sparsity_step() did. */
typedef struct sl_sparsity_edit {
	size_t struct_size; /**< sizeof(sl_sparsity_edit); set it before the call */
	bool edited;        /**< false: no edit was due, the rest is 0 */
	int64_t dropped;    /**< weights */
	int64_t grown;      /**< weights; they begin at 0, and so do their moments */
	int64_t nonzeros;   /**< weights of the governed layers after the edit */
} sl_sparsity_edit;

/**
 * Count a step of the optimizer and, where an edit is due after it, edit. Call it after each sl_optimizer_step();
 * sl_model_fit() does so itself. RigL takes the gradients of the last sl_model_train_batch() or sl_model_backward(),
 * which collects them on the way; nothing is computed twice, and the dense gradient does not exist. In a layer of sparse
 * inputs the candidates are of the features that the batch has. Moments and
 * gradients of what stays come along, and the memory stays where it is while the number of weights does.
 * Plans are made anew by the next forward, or by sl_model_prepare().
 * @param optimizer that has the layers; NULL: none
 * @param edit receives what was done; may be NULL
 * @return #SL_ERR_STATE (no schedule; RigL without a backward since the last step; a layer edited without the
 *         optimizer), #SL_ERR_ARGUMENT (an optimizer that lacks a layer), #SL_ERR_NONFINITE (a weight or gradient is
 *         NaN), #SL_ERR_MEMORY, #SL_ERR_BUDGET. On failure nothing has changed and the step is not counted
 */
SL_API sl_status sl_model_sparsity_step(sl_context *context, sl_model *model, sl_optimizer *optimizer,
										sl_sparsity_edit *edit);

/** Where a schedule stands. */
typedef struct sl_sparsity_info {
	size_t struct_size;      /**< sizeof(sl_sparsity_info); set it before the call */
	sl_sparse_method method; /**< #SL_SPARSE_STATIC for a model without a schedule */
	int64_t steps;           /**< counted so far */
	int64_t edits;           /**< made so far */
	int64_t next_edit;       /**< the step after which the next edit is due; -1: none */
	double drop;             /**< SET, RigL: the fraction that edit will drop */
	int layers;              /**< governed */
	int64_t nonzeros;        /**< weights of the governed layers */
	int64_t dense_weights;   /**< that they would have were they dense */
} sl_sparsity_info;
/** Fill in `info`. */
SL_API sl_status sl_model_get_sparsity(sl_context *context, const sl_model *model, sl_sparsity_info *info);

/** Options of sl_model_prune(). Zero means the default that is named. */
typedef struct sl_prune_options {
	size_t struct_size; /**< sizeof(sl_prune_options) */
	double density;     /**< that the pruned layers end with, in [0, 1] */
	sl_budget budget;   /**< #SL_BUDGET_LAYER: in each layer; #SL_BUDGET_GLOBAL: in all of them together */
	bool keep_last;     /**< leave the last layer alone */
	int n, m; /**< instead of a density and a budget: keep the `n` largest of each `m` consecutive columns of a
				 layer's pattern (N:M structure), n in [1, m]; 0: no such structure */
} sl_prune_options;
/** Begins an initializer of #sl_prune_options. */
#define SL_PRUNE_DEFAULTS .struct_size = sizeof(sl_prune_options)

/**
 * Keep the weights of largest magnitude and drop the rest, in one call for all layers (ties: the earlier layer, lower
 * row, then column). Dense layers become sparse; else as sl_layer_prune(). On failure nothing has changed.
 * @param optimizer whose moments come along; NULL: none
 * @param dropped receives how many weights went, of what dense layers had; may be NULL
 * @return as sl_layer_prune(), and #SL_ERR_STATE (no layers)
 */
SL_API sl_status sl_model_prune(sl_context *context, sl_model *model, const sl_prune_options *options,
								sl_optimizer *optimizer, int64_t *dropped);

/** What sl_model_compact() removed. */
typedef struct sl_compaction {
	size_t struct_size; /**< sizeof(sl_compaction); set it before the call */
	int64_t dead;       /**< neurons that nothing reads */
	int64_t constant;   /**< neurons without inputs, which put out act(bias) whatever the sample */
	int64_t weights;    /**< of both, on both sides */
} sl_compaction;

/**
 * Remove neurons whose last connection died, between the first inputs and the last outputs: row j of a layer goes
 * together with column j of the next. Neurons that nothing reads go, and neurons without inputs, whose constant output
 * the next layer's bias takes over (where that layer has none, only those that put out 0 go); what fed on them alone
 * goes too, until nothing more does. One neuron of each layer stays in any case. The model computes what it did, but
 * for the rounding of what was added to biases; weights, gradients and moments of what stays come along. Layers shrink:
 * saved forwards and plans of them become stale, and so do pointers to their parameters. On failure nothing has
 * changed.
 * @param optimizer whose moments come along; NULL: none
 * @param done may be NULL
 * @return #SL_ERR_STATE (no layers; a layer edited without the optimizer), #SL_ERR_ARGUMENT (an optimizer that lacks a
 *         layer), #SL_ERR_UNSUPPORTED (moments spread over ranks), #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_model_compact(sl_context *context, sl_model *model, sl_optimizer *optimizer, sl_compaction *done);

SL_END_DECLS
#endif
