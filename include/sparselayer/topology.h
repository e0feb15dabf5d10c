/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file topology.h
 * Editing the pattern of a layer: pruning.
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
 *         #SL_ERR_UNSUPPORTED (not on the CPU), #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_layer_prune(sl_context *context, sl_layer *layer, double density, sl_optimizer *optimizer);

SL_END_DECLS
#endif
