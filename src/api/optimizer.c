/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "train/optimizer.h"
#include "train/step.h"

static sl_status need(sl_context *context, const sl_optimizer *optimizer) {
	if (!context)
		return SL_ERR_NULL;
	return optimizer ? SL_OK : sli_fail(context, SL_ERR_NULL, "optimizer is null");
}

sl_status sl_optimizer_create(sl_optimizer **result, sl_context *context, const sl_optimizer_options *options) {
	sl_optimizer_options given, full;
	void *memory;
	if (!context || !result)
		return sli_fail(context, SL_ERR_NULL, "optimizer is null");
	*result = NULL;
	memset(&given, 0, sizeof given);
	given.struct_size = sizeof given;
	if (options)
		SL_TRY(sli_take_struct(context, &given, sizeof given, options, "options"));
	SL_TRY(sli_optimizer_resolve(context, &given, &full));
	SL_TRY(sli_allocate_zeroed(context, sizeof(sl_optimizer), "an optimizer", &memory));
	sl_optimizer *optimizer = memory;
	optimizer->heap = sli_heap_retain(sli_heap(context));
	optimizer->options = full;
	optimizer->gradient_norm = NAN;
	*result = optimizer;
	return SL_OK;
}

sl_status sl_optimizer_add(sl_context *context, sl_optimizer *optimizer, sl_layer *layer) {
	SL_TRY(need(context, optimizer));
	if (!layer)
		return sli_fail(context, SL_ERR_NULL, "layer is null");
	return sli_optimizer_add(context, optimizer, layer);
}

sl_status sl_optimizer_step(sl_context *context, sl_optimizer *optimizer) {
	SL_TRY(need(context, optimizer));
	return sli_optimizer_step(context, optimizer);
}

sl_status sl_optimizer_scale_gradients(sl_context *context, sl_optimizer *optimizer, double factor) {
	SL_TRY(need(context, optimizer));
	if (!isfinite(factor))
		return sli_fail(context, SL_ERR_ARGUMENT, "factor is %g; it must be finite", factor);
	return sli_optimizer_scale(context, optimizer, factor);
}

sl_status sl_optimizer_get_info(sl_context *context, const sl_optimizer *optimizer, sl_optimizer_info *info) {
	SL_TRY(need(context, optimizer));
	sl_optimizer_info full = {.struct_size = sizeof full,
							  .kind = optimizer->options.kind,
							  .states_per_parameter = sli_optimizer_states(optimizer->options.kind)};
	SL_TRY(sli_step_now(optimizer, &full.steps, &full.skipped, &full.gradient_norm));
	full.learning_rate = sli_optimizer_rate(optimizer, full.steps);
	for (int i = 0; i < optimizer->count; i++)
		for (int p = 0; p < SL_MAX_PARAMETERS; p++)
			for (int s = 0; s < SL_MAX_STATES; s++)
				full.state_bytes += optimizer->entries[i].state[p][s].bytes;
	return sli_give_struct(context, info, &full, sizeof full, "info");
}

sl_status sl_optimizer_state(sl_context *context, const sl_optimizer *optimizer, const sl_layer *layer, int parameter,
							 int state, void **values) {
	SL_TRY(need(context, optimizer));
	if (!layer || !values)
		return sli_fail(context, SL_ERR_NULL, "%s is null", layer ? "values" : "layer");
	const sl_optimizer_entry *entry = sli_optimizer_find(optimizer, layer);
	int states = sli_optimizer_states(optimizer->options.kind);
	if (!entry)
		return sli_fail(context, SL_ERR_ARGUMENT, "the layer has not been added to this optimizer");
	if (parameter < 0 || parameter >= sl_layer_parameter_count(layer))
		return sli_fail(context, SL_ERR_ARGUMENT, "parameter is %d; the layer has %d", parameter,
						sl_layer_parameter_count(layer));
	if (parameter == 0)
		SL_TRY(sli_layer_in_memory(context, layer, "a view of its moments"));
	if (state < 0 || state >= states)
		return sli_fail(context, SL_ERR_ARGUMENT, "state is %d; this optimizer keeps %d a parameter", state, states);
	*values = entry->state[parameter][state].data;
	return SL_OK;
}

sl_status sl_optimizer_set_learning_rate(sl_context *context, sl_optimizer *optimizer, double learning_rate) {
	SL_TRY(need(context, optimizer));
	if (!(learning_rate > 0) || !isfinite(learning_rate))
		return sli_fail(context, SL_ERR_ARGUMENT, "learning_rate is %g; it must be positive", learning_rate);
	optimizer->options.learning_rate = learning_rate;
	sli_optimizer_arm(optimizer);
	return optimizer->step.device ? sli_step_upload(context, optimizer, optimizer->stale) : SL_OK;
}
