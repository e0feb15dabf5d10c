/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a linear layer. */
#ifndef SL_LAYERS_LAYER_H
#define SL_LAYERS_LAYER_H

#include "ops/ops.h"

struct sl_layer {
	sl_heap *heap; /* owns this struct and `name`; retained */
	char *name;
	int64_t in_features, out_features;
	sl_dtype dtype;
	bool dense, has_bias;
	sl_activation activation;
	double activation_parameter;
	sl_csr *weights;        /* sparse layers; else NULL */
	sl_buffer dense_weights; /* dense layers: [out, in] row-major */
	sl_buffer gradient;      /* of the weights' values; empty until wanted */
	sl_buffer bias, bias_gradient;
	uint64_t edition;        /* bumped by every edit, so that stale saved forwards are noticed */
	/* Plans of sl_layer_prepare(); NULL until then. A call whose batch or orders they do not fit
	 * plans for itself. */
	sl_plan *forward_plan, *dx_plan, *dw_plan;
	int64_t planned_batch, planned_width; /* panels */
};

/* Put other weights of the same shape and dtype into a layer, which takes `weights` over; a dense
 * layer becomes sparse. `gradient` (taken over) replaces the gradient's values, an empty buffer
 * drops it. Plans are dropped and the edition is bumped. Cannot fail. */
void sli_layer_replace_weights(sl_layer *layer, sl_csr *weights, sl_buffer gradient);
/* Allocate gradients if there are none. Zeroed. */
sl_status sli_layer_make_gradients(sl_context *context, sl_layer *layer);

#endif
