/* SPDX-License-Identifier: Apache-2.0 */
/* Options, state and the update of all parameters. */
#include "train/optimizer.h"

#include <math.h>

#include "backend/step.h"
#include "layers/divided.h"
#include "train/step.h"

int sli_optimizer_states(sl_optimizer_kind kind) {
	return kind == SL_SGD ? 0 : kind == SL_MOMENTUM || kind == SL_NESTEROV ? 1 : 2;
}

static double or_default(double value, double fallback) {
	return value == 0 ? fallback : value;
}

static sl_status in_range(sl_context *context, const char *name, double value, bool ok, const char *range) {
	if (!ok || !isfinite(value))
		return sli_fail(context, SL_ERR_ARGUMENT, "%s is %g; it must be %s", name, value, range);
	return SL_OK;
}

static sl_status check_schedule(sl_context *context, const sl_schedule *s) {
	if (s->kind < SL_SCHEDULE_CONSTANT || s->kind > SL_SCHEDULE_COSINE)
		return sli_fail(context, SL_ERR_ARGUMENT, "schedule.kind %d is unknown", (int)s->kind);
	if (s->warmup < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "schedule.warmup is %lld; it must not be negative",
						(long long)s->warmup);
	if (s->kind == SL_SCHEDULE_STEP && s->interval <= 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "schedule.interval is %lld; a step schedule needs it positive",
						(long long)s->interval);
	if (s->kind == SL_SCHEDULE_COSINE && s->total <= 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "schedule.total is %lld; a cosine schedule needs it positive",
						(long long)s->total);
	SL_TRY(in_range(context, "schedule.gamma", s->gamma, s->gamma >= 0, "at least 0"));
	return in_range(context, "schedule.final_ratio", s->final_ratio, s->final_ratio >= 0, "at least 0");
}

sl_status sli_optimizer_resolve(sl_context *context, const sl_optimizer_options *given, sl_optimizer_options *options) {
	sl_optimizer_options o = *given;
	if (o.kind < SL_SGD || o.kind > SL_ADAMW)
		return sli_fail(context, SL_ERR_ARGUMENT, "optimizer kind %d is unknown", (int)o.kind);
	bool adam = o.kind >= SL_ADAM;
	o.learning_rate = or_default(o.learning_rate, adam ? 0.001 : 0.01);
	if (!adam && o.kind != SL_SGD)
		o.momentum = or_default(o.momentum, 0.9);
	o.beta1 = or_default(o.beta1, 0.9);
	o.beta2 = or_default(o.beta2, 0.999);
	o.epsilon = or_default(o.epsilon, 1e-8);
	if (o.kind == SL_ADAMW)
		o.weight_decay = or_default(o.weight_decay, 0.01);
	SL_TRY(in_range(context, "learning_rate", o.learning_rate, o.learning_rate > 0, "positive"));
	SL_TRY(in_range(context, "momentum", o.momentum, o.momentum >= 0 && o.momentum < 1, "in [0, 1)"));
	SL_TRY(in_range(context, "beta1", o.beta1, o.beta1 > 0 && o.beta1 < 1, "in (0, 1)"));
	SL_TRY(in_range(context, "beta2", o.beta2, o.beta2 > 0 && o.beta2 < 1, "in (0, 1)"));
	SL_TRY(in_range(context, "epsilon", o.epsilon, o.epsilon > 0, "positive"));
	SL_TRY(in_range(context, "weight_decay", o.weight_decay, true, "finite"));
	SL_TRY(in_range(context, "l1", o.l1, o.l1 >= 0, "at least 0"));
	SL_TRY(in_range(context, "l1_proximal", o.l1_proximal, o.l1_proximal >= 0, "at least 0"));
	SL_TRY(in_range(context, "l2", o.l2, o.l2 >= 0, "at least 0"));
	SL_TRY(in_range(context, "clip_norm", o.clip_norm, o.clip_norm >= 0, "at least 0"));
	SL_TRY(in_range(context, "clip_value", o.clip_value, o.clip_value >= 0, "at least 0"));
	SL_TRY(check_schedule(context, &o.schedule));
	*options = o;
	return SL_OK;
}

sl_optimizer_entry *sli_optimizer_find(const sl_optimizer *optimizer, const sl_layer *layer) {
	for (int i = 0; i < optimizer->count; i++)
		if (optimizer->entries[i].layer == layer)
			return &optimizer->entries[i];
	return NULL;
}

void sli_optimizer_free_states(sl_optimizer_entry *entry) {
	for (int p = 0; p < SL_MAX_PARAMETERS; p++)
		for (int s = 0; s < SL_MAX_STATES; s++)
			sli_buffer_destroy(&entry->state[p][s]);
}

sl_status sli_optimizer_add(sl_context *context, sl_optimizer *optimizer, sl_layer *layer) {
	if (sli_optimizer_find(optimizer, layer))
		return sli_fail(context, SL_ERR_ARGUMENT, "layer \"%s\" has been added to this optimizer already", layer->name);
	SL_TRY(sli_grow(context, optimizer->heap, (void **)&optimizer->entries, &optimizer->capacity, optimizer->count + 1,
					sizeof *optimizer->entries, "the optimizer's list of layers"));
	SL_TRY(sli_layer_make_gradients(context, layer));
	sl_optimizer_entry entry = {.layer = layer, .edition = layer->edition};
	int states = sli_optimizer_states(optimizer->options.kind);
	if (layer->streamed && layer->streamed->store && (int)layer->streamed->store->pattern.states != states)
		return sli_fail(context, SL_ERR_ARGUMENT,
						"%s keeps %d moments for each value; the store of layer \"%s\" has %d",
						sl_optimizer_kind_name(optimizer->options.kind), states, layer->name,
						(int)layer->streamed->store->pattern.states);
	for (int p = layer->streamed ? 1 : 0; p < sl_layer_parameter_count(layer); p++) {
		sl_parameter parameter = {.struct_size = sizeof parameter};
		sl_status status = sl_layer_parameter(context, layer, p, &parameter);
		size_t bytes = (size_t)parameter.count * sl_dtype_size(parameter.dtype);
		for (int s = 0; s < states && status == SL_OK; s++)
			status = sli_buffer_create(&entry.state[p][s], context, bytes, true, "optimizer state");
		if (status == SL_OK)
			status = sli_step_reserve(context, optimizer, &parameter);
		if (status == SL_OK && p == 0)
			status = sli_step_upload(context, optimizer, optimizer->stale);
		if (status != SL_OK) {
			sli_optimizer_free_states(&entry);
			return status;
		}
	}
	optimizer->entries[optimizer->count++] = entry;
	sli_optimizer_arm(optimizer);
	return SL_OK;
}

void sl_optimizer_destroy(sl_optimizer *optimizer) {
	if (!optimizer)
		return;
	for (int i = 0; i < optimizer->count; i++)
		sli_optimizer_free_states(&optimizer->entries[i]);
	sli_buffer_destroy(&optimizer->step);
	sli_stage_close(&optimizer->read);
	sl_heap *heap = optimizer->heap;
	sli_heap_free(heap, optimizer->entries, (size_t)optimizer->capacity * sizeof *optimizer->entries);
	sli_heap_free(heap, optimizer, sizeof *optimizer);
	sli_heap_release(heap);
}

/* Streamed layers update in their backward, so they are told ahead how. */
void sli_optimizer_arm(const sl_optimizer *optimizer) {
	sl_update numbers;
	sl_step_numbers(&optimizer->options, optimizer->steps, &numbers);
	for (int i = 0; i < optimizer->count; i++)
		if (optimizer->entries[i].layer->streamed)
			sli_streamed_arm(optimizer->entries[i].layer->streamed, &numbers, optimizer->options.kind,
							 optimizer->options.clip_norm > 0);
}

/* Call `visit` for every parameter in memory, in order. */
typedef sl_status (*visitor)(sl_context *context, const sl_optimizer *optimizer, const sl_optimizer_entry *entry,
							 int index, const sl_parameter *parameter, void *argument);

static sl_status each(sl_context *context, const sl_optimizer *optimizer, visitor visit, void *argument) {
	for (int i = 0; i < optimizer->count; i++) {
		const sl_optimizer_entry *entry = &optimizer->entries[i];
		for (int p = 0; p < sl_layer_parameter_count(entry->layer); p++) {
			sl_parameter parameter = {.struct_size = sizeof parameter};
			SL_TRY(sl_layer_parameter(context, entry->layer, p, &parameter));
			if (parameter.count && !parameter.streamed)
				SL_TRY(visit(context, optimizer, entry, p, &parameter, argument));
		}
	}
	return SL_OK;
}

static sl_status elementwise(sl_context *context, sl_elementwise what, const sl_parameter *parameter, double alpha) {
	sl_op_desc desc = {.kind = SL_OP_ELEMENTWISE, .variant = what, .count = parameter->gradient_count};
	sl_op_args args = {.alpha = alpha, .vector = {parameter->gradient}, .count = parameter->gradient_count};
	desc.a.dtype = parameter->dtype;
	return sli_run(context, &desc, &args);
}

static sl_status scale(sl_context *context, const sl_optimizer *optimizer, const sl_optimizer_entry *entry, int index,
					   const sl_parameter *parameter, void *argument) {
	(void)optimizer, (void)entry, (void)index;
	return elementwise(context, SL_ELEMENTWISE_SCALE, parameter, *(const double *)argument);
}

static sl_status add_squares(sl_context *context, const sl_optimizer *optimizer, const sl_optimizer_entry *entry,
							 int index, const sl_parameter *parameter, void *argument) {
	(void)entry, (void)index;
	sl_op_desc desc = {.kind = SL_OP_REDUCE, .variant = SL_REDUCE_SUM_SQUARES, .count = parameter->gradient_count};
	sl_op_args args = {.beta = optimizer->options.clip_value, /* the norm is of the clamped gradients */
					   .vector = {parameter->gradient},
					   .count = parameter->gradient_count,
					   .result = argument};
	desc.a.dtype = parameter->dtype;
	return sli_run(context, &desc, &args);
}

static sl_status global_norm(sl_context *context, const sl_optimizer *optimizer, double *norm) {
	sl_device_state *state = sli_device(context);
	sl_arena_mark mark = sli_arena_mark(context);
	void *sum;
	double total = 0;
	sl_status status = sli_arena_take(context, sizeof total, &sum);
	if (status == SL_OK)
		status = state->backend->fill(state->device, sum, 0, sizeof total);
	if (status == SL_OK)
		status = each(context, optimizer, add_squares, sum);
	if (status == SL_OK)
		status = sli_fetch(state, &total, sum, sizeof total);
	sli_arena_reset(context, mark);
	for (int i = 0; i < optimizer->count; i++)
		if (optimizer->entries[i].layer->streamed)
			total += optimizer->entries[i].layer->streamed->squares;
	*norm = sqrt(total);
	return status;
}

/* Of all ranks' blocks, each counted once. On the CPU. */
static sl_status divided_norm(sl_context *context, const sl_optimizer *optimizer, double *norm) {
	const sl_model *model = optimizer->divided;
	sl_arena_mark mark = sli_arena_mark(context);
	double *squares = NULL, total = 0;
	SL_TRY(sli_arena_take(context, (size_t)model->count * sizeof *squares, (void **)&squares));
	sl_status status = SL_OK;
	for (int i = 0; i < model->count; i++) {
		const sl_optimizer_entry *entry = sli_optimizer_find(optimizer, model->layers[i]);
		squares[i] = 0;
		for (int k = 0; entry && status == SL_OK && k < sl_layer_parameter_count(entry->layer); k++) {
			sl_parameter parameter = {.struct_size = sizeof parameter};
			status = sl_layer_parameter(context, entry->layer, k, &parameter);
			if (status == SL_OK && parameter.count)
				status = add_squares(context, optimizer, entry, k, &parameter, &squares[i]);
		}
	}
	status = sli_comm_settle(context, model->divided->comm, status);
	if (status == SL_OK)
		status = sli_divided_sum(context, model, squares, &total);
	sli_arena_reset(context, mark);
	*norm = sqrt(total);
	return status;
}

/* Whether rows without a gradient change in a step. */
static bool walks_all(const sl_optimizer_options *o, const sl_update *numbers) {
	if (o->lazy)
		return false;
	return o->kind != SL_SGD || numbers->l1 != 0 || numbers->l2 != 0 || numbers->l1_proximal != 0;
}

static sl_status update_rows(sl_context *context, const sl_optimizer *optimizer, const sl_optimizer_entry *entry,
							 const sl_parameter *parameter, const sl_update *numbers) {
	sl_row_gradient *rows = &entry->layer->rows;
	sl_sparse_groups groups = {
		.count = parameter->gradient_row_count, .columns = rows->columns.data, .row_starts = rows->starts.data};
	sl_op_desc desc = {.kind = SL_OP_UPDATE_ROWS,
					   .variant = optimizer->options.kind,
					   .a = {.dtype = parameter->dtype},
					   .b = {.rows = parameter->rows, .cols = parameter->cols, .dtype = parameter->dtype}};
	sl_op_args args = {
		.vector = {parameter->value, parameter->gradient, entry->state[0][0].data, entry->state[0][1].data},
		.update = numbers,
		.groups = &groups};
	sl_pattern *pattern = parameter->pattern;
	if (pattern)
		SL_TRY(sli_pattern_view(context, pattern, false, &desc.sparse));
	desc.transpose = walks_all(&optimizer->options, numbers);
	return sli_run(context, &desc, &args);
}

static sl_status update(sl_context *context, const sl_optimizer *optimizer, const sl_optimizer_entry *entry, int index,
						const sl_parameter *parameter, void *argument) {
	sl_update numbers = *(const sl_update *)argument;
	if (!parameter->decays)
		sl_step_without_decay(&numbers);
	if (parameter->gradient_rows)
		return update_rows(context, optimizer, entry, parameter, &numbers);
	sl_op_desc desc = {.kind = SL_OP_UPDATE, .variant = optimizer->options.kind, .count = parameter->count};
	sl_op_args args = {
		.vector = {parameter->value, parameter->gradient, entry->state[index][0].data, entry->state[index][1].data},
		.count = parameter->count,
		.update = &numbers};
	desc.a.dtype = parameter->dtype;
	return sli_run(context, &desc, &args);
}

/* The same with numbers of the device's memory: one for parameters that decay, one for others. */
static sl_status update_placed(sl_context *context, const sl_optimizer *optimizer, const sl_optimizer_entry *entry,
							   int index, const sl_parameter *parameter, void *argument) {
	const sl_update *numbers = argument;
	sl_op_desc desc = {.kind = SL_OP_UPDATE, .variant = optimizer->options.kind, .count = parameter->count};
	sl_op_args args = {
		.vector = {parameter->value, parameter->gradient, entry->state[index][0].data, entry->state[index][1].data},
		.count = parameter->count,
		.update = numbers + (parameter->decays ? 0 : 1)};
	desc.a.dtype = parameter->dtype;
	return sli_run(context, &desc, &args);
}

double sli_optimizer_rate(const sl_optimizer *optimizer, int64_t steps) {
	return optimizer->options.learning_rate * sl_schedule_factor(&optimizer->options.schedule, steps);
}

sl_status sli_optimizer_scale(sl_context *context, sl_optimizer *optimizer, double factor) {
	for (int i = 0; i < optimizer->count; i++)
		SL_TRY(sli_layer_in_memory(context, optimizer->entries[i].layer, "scaling its gradient"));
	return each(context, optimizer, scale, &factor);
}

/* The numbers are the device's: nothing comes back to the host, unless clipping has to look. */
static sl_status step_on_device(sl_context *context, sl_optimizer *optimizer) {
	if (optimizer->stale || optimizer->step.device != sli_device(context))
		SL_TRY(sli_step_upload(context, optimizer, true));
	sl_step *step = sli_step_of(optimizer);
	const sl_backend *backend = optimizer->step.device->backend;
	if (optimizer->options.clip_norm > 0) {
		SL_TRY(backend->fill(optimizer->step.device->device, &step->squares, 0, sizeof step->squares));
		SL_TRY(each(context, optimizer, add_squares, &step->squares));
	}
	SL_TRY(sli_step_advance(context, optimizer));
	return each(context, optimizer, update_placed, step->numbers);
}

/* What streamed layers have begun: finished by all, or given up by all. */
static sl_status finish_streamed(sl_context *context, sl_optimizer *optimizer, double factor) {
	sl_status status = SL_OK;
	for (int i = 0; i < optimizer->count && status == SL_OK; i++)
		if (optimizer->entries[i].layer->streamed)
			status = sli_streamed_finish(context, optimizer->entries[i].layer->streamed, factor);
	return status;
}

static void end_streamed(sl_optimizer *optimizer, bool adopt) {
	for (int i = 0; i < optimizer->count; i++) {
		sl_streamed *streamed = optimizer->entries[i].layer->streamed;
		if (streamed && adopt)
			sli_streamed_adopt(streamed);
		else if (streamed)
			sli_streamed_abandon(streamed);
	}
}

sl_status sli_optimizer_step(sl_context *context, sl_optimizer *optimizer) {
	const sl_optimizer_options *o = &optimizer->options;
	double norm = NAN;
	if (optimizer->sharded)
		return sli_fail(context, SL_ERR_STATE, "the optimizer's moments are spread over ranks: use sl_parallel_step()");
	for (int i = 0; i < optimizer->count; i++)
		if (optimizer->entries[i].edition != optimizer->entries[i].layer->edition)
			return sli_fail(context, SL_ERR_STATE,
							"layer \"%s\" was edited without this optimizer: give the optimizer to the edit",
							optimizer->entries[i].layer->name);
	if (!sli_on_host(sli_device(context)))
		return step_on_device(context, optimizer);
	sl_update numbers;
	sl_step_numbers(o, optimizer->steps, &numbers);
	if (o->clip_norm > 0) {
		SL_TRY(optimizer->divided ? divided_norm(context, optimizer, &norm) : global_norm(context, optimizer, &norm));
		if (!isfinite(norm)) {
			end_streamed(optimizer, false);
			return sli_fail(context, SL_ERR_NONFINITE, "the gradients' norm is not finite; nothing was updated");
		}
		if (norm > o->clip_norm)
			numbers.gradient_factor = o->clip_norm / norm;
	}
	sl_status status = finish_streamed(context, optimizer, numbers.gradient_factor);
	if (status == SL_OK)
		status = each(context, optimizer, update, &numbers);
	end_streamed(optimizer, status == SL_OK);
	SL_TRY(status);
	optimizer->gradient_norm = norm;
	optimizer->steps++;
	sli_optimizer_arm(optimizer);
	return SL_OK;
}

void sli_optimizer_set_steps(sl_optimizer *optimizer, int64_t steps) {
	optimizer->steps = steps;
	sli_optimizer_arm(optimizer);
	optimizer->stale = optimizer->step.device != NULL;
}
