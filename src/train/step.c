/* SPDX-License-Identifier: Apache-2.0 */
#include "train/step.h"

#include <math.h>
#include <stddef.h>

#include "ops/ops.h"

static bool capturing(const sl_device_state *state) {
	return state->backend->capturing && state->backend->capturing(state->device);
}

static bool here(sl_context *context, const sl_optimizer *optimizer) {
	return optimizer->step.device == sli_device(context);
}

sl_status sli_step_now(const sl_optimizer *optimizer, int64_t *steps, int64_t *skipped, double *norm) {
	sl_step now = {.steps = optimizer->steps, .norm = optimizer->gradient_norm};
	if (optimizer->step.device && !optimizer->stale)
		SL_TRY(sli_fetch(optimizer->step.device, &now, optimizer->step.data, sizeof now));
	*steps = now.steps;
	*skipped = now.skipped;
	*norm = now.norm;
	return SL_OK;
}

sl_status sli_step_upload(sl_context *context, sl_optimizer *optimizer, bool all) {
	if (sli_on_host(sli_device(context)))
		return SL_OK;
	if (!here(context, optimizer)) {
		/* What another context's device counted goes along. */
		int64_t skipped;
		SL_TRY(sli_step_now(optimizer, &optimizer->steps, &skipped, &optimizer->gradient_norm));
		sl_buffer step;
		sl_staging read;
		SL_TRY(sli_buffer_create(&step, context, sizeof(sl_step), true, "an optimizer's step"));
		sl_status status = sli_stage_open(&read, sli_device(context), sizeof(sl_step));
		if (status != SL_OK) {
			sli_buffer_destroy(&step);
			return status;
		}
		sli_buffer_destroy(&optimizer->step);
		sli_stage_close(&optimizer->read);
		optimizer->step = step;
		optimizer->read = read;
		all = true;
	}
	sl_step now = {.rules = optimizer->options, .steps = optimizer->steps, .norm = NAN};
	SL_TRY(sli_put(sli_device(context), optimizer->step.data, &now, all ? sizeof now : offsetof(sl_step, steps)));
	if (all)
		optimizer->stale = false;
	return SL_OK;
}

sl_status sli_step_reserve(sl_context *context, const sl_optimizer *optimizer, const sl_parameter *parameter) {
	size_t bytes = 0;
	sl_op_desc desc = {.kind = SL_OP_REDUCE, .variant = SL_REDUCE_SUM_SQUARES, .count = parameter->count};
	desc.a.dtype = parameter->dtype;
	if (sli_on_host(sli_device(context)) || !(optimizer->options.clip_norm > 0))
		return SL_OK;
	SL_TRY(sli_workspace(context, &desc, &bytes));
	return sli_arena_reserve(context, bytes + 64);
}

/* Whether the step that was just made changes anything. Only clipping by norm looks at what gradients are. */
static sl_status look(sl_context *context, sl_optimizer *optimizer) {
	SL_TRY(sli_stage_fetch(&optimizer->read, optimizer->step.data, sizeof(sl_step)));
	const sl_step *now = optimizer->read.data;
	optimizer->gradient_norm = now->norm;
	if (now->numbers[0].skip != 0)
		return sli_fail(context, SL_ERR_NONFINITE, "the gradients' norm is not finite; nothing was updated");
	return SL_OK;
}

sl_status sli_step_advance(sl_context *context, sl_optimizer *optimizer) {
	sl_op_desc desc = {.kind = SL_OP_ADVANCE, .a = {.dtype = SL_F64}};
	sl_op_args args = {.step = optimizer->step.data};
	bool recorded = capturing(sli_device(context));
	SL_TRY(sli_run(context, &desc, &args));
	if (recorded)
		return SL_OK;
	if (optimizer->options.clip_norm > 0)
		SL_TRY(look(context, optimizer));
	optimizer->steps++;
	return SL_OK;
}
