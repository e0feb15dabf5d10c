/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "train/optimizer.h"

sl_status sl_layer_prune(sl_context *context, sl_layer *layer, double density, sl_optimizer *optimizer) {
	if (!context)
		return SL_ERR_NULL;
	if (!layer)
		return sli_fail(context, SL_ERR_NULL, "layer is null");
	if (!(density >= 0 && density <= 1))
		return sli_fail(context, SL_ERR_ARGUMENT, "density is %g; it must be in [0, 1]", density);
	if (sl_context_device(context) != SL_DEVICE_CPU)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "pruning runs on the CPU so far");
	const sl_optimizer_entry *entry = optimizer ? sli_optimizer_find(optimizer, layer) : NULL;
	if (optimizer && !entry)
		return sli_fail(context, SL_ERR_ARGUMENT, "layer \"%s\" has not been added to this optimizer", layer->name);
	if (entry && entry->edition != layer->edition)
		return sli_fail(context, SL_ERR_STATE, "layer \"%s\" was edited without this optimizer", layer->name);
	int64_t all = layer->in_features * layer->out_features;
	int64_t have = layer->dense ? all : sli_pattern_arrays(layer->weights->pattern).nnz;
	int64_t keep = density == 1 ? all : (int64_t)llround(density * (double)all);
	if (keep > have)
		return sli_fail(context, SL_ERR_ARGUMENT, "density %g means %lld weights; layer \"%s\" has %lld", density,
						(long long)keep, layer->name, (long long)have);
	return sli_layer_prune(context, layer, keep, optimizer);
}
