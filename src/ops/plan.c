/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: made once, kept, and asked whether they fit a call. */
#include "core/profile.h"
#include "ops/ops.h"

/* A description complete with its pattern, checked and supported. */
static sl_status complete(sl_context *context, sl_op_desc *desc, sl_pattern *pattern) {
	sl_device_state *state = sli_device(context);
	SL_TRY(sli_check_dtypes(context, desc));
	if (pattern)
		SL_TRY(sli_pattern_view(context, pattern, desc->transpose, &desc->sparse));
	return state->backend->supports(state->device, desc);
}

/* One candidate, planned, with room for its workspace if it is a dense one: a run must not find out. */
static sl_status plan_candidate(sl_context *context, const sl_op_desc *desc, const sl_candidate *candidate,
								sl_plan *plan) {
	sl_device_state *state = sli_device(context);
	sl_op_desc own = *desc;
	if (candidate)
		own.candidate = candidate->name;
	SL_TRY(state->backend->plan(state->device, &own, &plan->op));
	if (!candidate || !candidate->dense)
		return SL_OK;
	sl_status status = sli_arena_reserve(context, plan->op.workspace);
	if (status != SL_OK)
		state->backend->destroy(state->device, &plan->op);
	plan->dense = status == SL_OK;
	return status;
}

/* Put the candidate of a name first. It is of a file: there may be no such any more. */
static void prefer(sl_context *context, const char *name, sl_choice *choice) {
	for (int i = 0; i < choice->count; i++)
		if (!strcmp(choice->list[i].name, name)) {
			sl_candidate found = choice->list[i];
			memmove(choice->list + 1, choice->list, (size_t)i * sizeof found);
			choice->list[0] = found;
			return;
		}
	sli_log(context, SL_LOG_INFO, "no candidate \"%s\" to plan with as before", name);
}

/* The best candidate that there is memory for; `wanted` (may be NULL) before all others, where the mode leaves it to
 * us. */
static sl_status plan_best(sl_context *context, sl_pattern *pattern, const sl_op_desc *desc, const char *wanted,
						   sl_plan *plan) {
	if (desc->kernel || (desc->kind != SL_OP_SPMM && desc->kind != SL_OP_SDDMM))
		return plan_candidate(context, desc, NULL, plan);
	sl_choice choice;
	sl_plan_mode mode = sli_plan_mode(context);
	bool pinned = wanted && (mode == SL_PLAN_AUTO || mode == SL_PLAN_MEASURE);
	sli_choose(context, pattern, desc, pinned, &choice);
	if (pinned)
		prefer(context, wanted, &choice);
	sl_status status = SL_ERR_INTERNAL;
	for (int i = 0; i < choice.count; i++) {
		status = plan_candidate(context, desc, &choice.list[i], plan);
		if (status == SL_OK) {
			sli_choice_text(&choice, choice.list[i].name, plan->why, sizeof plan->why);
			break;
		}
		if (!sli_no_room(status))
			break;
		sli_log(context, SL_LOG_WARNING, "no room to run %s: %s", choice.list[i].name, sl_context_message(context));
	}
	return status;
}

sl_status sli_plan_create(sl_plan **result, sl_context *context, const sl_op_desc *desc, sl_pattern *pattern) {
	*result = NULL;
	sl_op_desc full = *desc;
	full.candidate = NULL; /* the plan keeps the backend's own name of it */
	SL_TRY(complete(context, &full, pattern));
	void *memory;
	SL_TRY(sli_allocate_zeroed(context, sizeof(sl_plan), "a plan", &memory));
	sl_plan *plan = memory;
	sl_status status = plan_best(context, pattern, &full, desc->candidate, plan);
	if (status != SL_OK) {
		sli_heap_free(sli_heap(context), plan, sizeof *plan);
		return status;
	}
	plan->heap = sli_heap_retain(sli_heap(context));
	plan->device = sli_device_retain(sli_device(context));
	plan->pattern = pattern ? sl_pattern_retain(pattern) : NULL;
	sli_log(context, SL_LOG_DEBUG, "plan: %s%s%s", plan->op.text, *plan->why ? "; " : "", plan->why);
	*result = plan;
	return SL_OK;
}

void sli_plan_destroy(sl_plan *plan) {
	if (!plan)
		return;
	sl_device_state *state = plan->device;
	sl_heap *heap = plan->heap;
	state->backend->destroy(state->device, &plan->op);
	sl_pattern_release(plan->pattern);
	sli_heap_free(heap, plan, sizeof *plan);
	sli_device_release(state);
	sli_heap_release(heap);
}

static bool same_layout(const sl_matrix_desc *planned, const sl_matrix_desc *wanted) {
	return planned->order == wanted->order && planned->ld == wanted->ld && planned->dtype == wanted->dtype &&
		   wanted->rows <= planned->rows && wanted->cols <= planned->cols;
}

bool sli_plan_fits(sl_context *context, const sl_plan *plan, const sl_op_desc *desc, const sl_pattern *pattern) {
	if (!plan || plan->device->backend != sli_device(context)->backend ||
		plan->device->host.device_index != sli_device(context)->host.device_index)
		return false;
	const sl_op_desc *planned = &plan->op.desc;
	if (planned->kind != desc->kind || planned->variant != desc->variant || plan->pattern != pattern ||
		planned->transpose != desc->transpose || planned->activation != desc->activation ||
		planned->activation_parameter != desc->activation_parameter || planned->bias != desc->bias ||
		planned->pre_activation != desc->pre_activation)
		return false;
	/* What is summed over in a weight gradient is the batch, which may be smaller too. */
	return same_layout(&planned->a, &desc->a) && same_layout(&planned->b, &desc->b) &&
		   same_layout(&planned->c, &desc->c);
}

sl_status sli_op_run(sl_context *context, const sl_op_plan *plan, sl_op_args *args) {
	sl_device_state *state = sli_device(context);
	sl_arena_mark mark = sli_arena_mark(context);
	args->workspace = NULL;
	sl_status status = SL_OK;
	if (plan->workspace)
		status = sli_arena_take(context, plan->workspace, &args->workspace);
	double began = sli_profile_begin(context);
	if (status == SL_OK)
		status = state->backend->execute(state->device, plan, args);
	sli_profile_end(context, plan->desc.transpose ? SL_PROFILE_TRANSPOSED : (int)plan->desc.kind, began);
	sli_arena_reset(context, mark);
	return status;
}

sl_status sli_plan_run(sl_context *context, const sl_plan *plan, sl_op_args *args) {
	return sli_op_run(context, &plan->op, args);
}

static sl_status plan_and_run(sl_context *context, const sl_op_desc *desc, sl_op_args *args) {
	sl_device_state *state = sli_device(context);
	sl_op_plan own;
	memset(&own, 0, sizeof own);
	SL_TRY(state->backend->plan(state->device, desc, &own));
	sl_status status = sli_op_run(context, &own, args);
	state->backend->destroy(state->device, &own);
	return status;
}

sl_status sli_run_sparse(sl_context *context, const sl_plan *plan, sl_op_desc *desc, sl_pattern *pattern,
						 sl_op_args *args) {
	if (sli_plan_fits(context, plan, desc, pattern))
		return sli_plan_run(context, plan, args);
	desc->once = true;
	SL_TRY(complete(context, desc, pattern));
	if (!pattern || desc->kernel || desc->candidate)
		return plan_and_run(context, desc, args);
	sl_choice choice;
	sli_choose(context, pattern, desc, true, &choice);
	sl_status status = SL_ERR_INTERNAL;
	for (int i = 0; i < choice.count; i++) {
		desc->candidate = choice.list[i].name;
		status = plan_and_run(context, desc, args);
		if (!sli_no_room(status))
			break;
	}
	return status;
}

sl_status sli_workspace(sl_context *context, const sl_op_desc *desc, size_t *bytes) {
	sl_device_state *state = sli_device(context);
	sl_op_desc full = *desc;
	sl_op_plan own;
	memset(&own, 0, sizeof own);
	SL_TRY(complete(context, &full, NULL));
	SL_TRY(state->backend->plan(state->device, &full, &own));
	*bytes = own.workspace;
	state->backend->destroy(state->device, &own);
	return SL_OK;
}
