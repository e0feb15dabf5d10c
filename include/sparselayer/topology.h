/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file topology.h
 * Single edits of the pattern of a layer: pruning, and dropping and growing. A schedule of them for a model is in
 * sparsity.h.
 */
#ifndef SPARSELAYER_TOPOLOGY_H
#define SPARSELAYER_TOPOLOGY_H

#include "optimizer.h"

SL_BEGIN_DECLS

/**
 * Keep the round(density * in * out) weights of largest magnitude (ties: lower row, then column)
 * and drop the rest (magnitude pruning: Han et al. 2015, a layer at a time). A dense layer becomes a sparse one. Bias,
 * gradient and, unless `optimizer` is NULL, the optimizer's moments are carried over for what stays. Saved forwards and
 * plans of the layer become stale. On failure nothing has changed.
 * @param density in [0, 1]
 * @return #SL_ERR_ARGUMENT (more weights asked for than there are, or an optimizer that does not have the layer),
 *         #SL_ERR_NONFINITE (a weight is NaN), #SL_ERR_STATE (the layer was edited without the optimizer),
 *         #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_layer_prune(sl_context *context, sl_layer *layer, double density, sl_optimizer *optimizer);

/** Options of sl_layer_regrow(). Zero means the default that is named. */
typedef struct sl_regrow_options {
	size_t struct_size; /**< sizeof(sl_regrow_options) */
	double drop;        /**< fraction of the weights, in (0, 1]; default 0.3; bounded by what there is room to grow */
	sl_saved *saved;    /**< of the layer's last forward: grow where |dL/dW| of the missing weights is largest (RigL,
						   Evci et al. 2020; ties: lower row, then column). NULL: at random (SET, Mocanu et al. 2018) */
	const sl_dense *dY; /**< [batch, out_features] gradient of that forward's output, with `saved` */
	uint64_t stream;    /**< at random: distinguishes the draws; give each call its own */
	double spread;      /**< with `saved`: as sl_sparsity_options.spread; not with `m` */
	int m;              /**< each `m` consecutive columns of the pattern (the last may be fewer) keep their number of
						   weights, as N:M structure wants it: a group grows what it drops. 0: anywhere */
} sl_regrow_options;
/** Begins an initializer of #sl_regrow_options. */
#define SL_REGROW_DEFAULTS .struct_size = sizeof(sl_regrow_options)

/**
 * Drop the weights of smallest magnitude (ties: higher row, then column) and grow as many where there were none. New
 * weights are 0, and so are their gradients and moments; those of the weights that stay come along in place. The
 * missing gradients are computed a tile of rows at a time and the best kept: O(drop * nnz) memory, no dense gradient. In a
 * layer of sparse inputs those of features that the batch does not have are 0, and do not grow.
 * Saved forwards and plans of the layer become stale. On failure nothing has changed.
 * @param options NULL: all defaults
 * @param optimizer whose moments are to come along; NULL: none
 * @param moved receives how many weights were dropped and grown; may be NULL
 * @return #SL_ERR_ARGUMENT (drop, an optimizer that does not have the layer), #SL_ERR_STATE (a dense layer; `saved`
 *         holds no forward of this layer; the layer was edited since, or without the optimizer), #SL_ERR_SHAPE,
 *         #SL_ERR_DTYPE or #SL_ERR_LAYOUT (dY), #SL_ERR_NONFINITE (a weight or gradient is NaN), #SL_ERR_UNSUPPORTED
 *         (a layer of sparse inputs with `saved` and `m`), #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_layer_regrow(sl_context *context, sl_layer *layer, const sl_regrow_options *options,
								 sl_optimizer *optimizer, int64_t *moved);

SL_END_DECLS
#endif
