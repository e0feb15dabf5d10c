/* SPDX-License-Identifier: Apache-2.0 */
/* Which candidate runs: by prediction, or by the clock. */
#include <stdio.h>

#include "core/profile.h"
#include "ops/ops.h"
#include "sparse/choices.h"

/* What a candidate has to be better by: one that takes dense memory must be so by more than predictions err. */
static double cost(const sl_candidate *c, bool once, bool measured) {
	return (c->seconds + (once ? c->planning : 0)) * (c->dense && !measured ? 1.08 : 1);
}

static bool better(const sl_candidate *a, const sl_candidate *b, sl_plan_mode mode, bool once, bool measured) {
	if (mode == SL_PLAN_DENSE && a->dense != b->dense)
		return a->dense;
	/* Without a prediction the backend's order stands. */
	if (a->seconds <= 0 || b->seconds <= 0)
		return false;
	return cost(a, once, measured) < cost(b, once, measured);
}

/* Stable, so that equals keep the backend's order. */
static void sort(sl_choice *choice, sl_plan_mode mode, bool once) {
	for (int i = 1; i < choice->count; i++)
		for (int k = i; k > 0 && better(&choice->list[k], &choice->list[k - 1], mode, once, choice->measured); k--) {
			sl_candidate moved = choice->list[k];
			choice->list[k] = choice->list[k - 1];
			choice->list[k - 1] = moved;
		}
}

static int offers(sl_context *context, const sl_op_desc *desc, sl_choice *choice) {
	sl_device_state *state = sli_device(context);
	int count = state->backend->candidates(state->device, desc, choice->list, SL_MOST_CANDIDATES);
	return count < SL_MOST_CANDIDATES ? count : SL_MOST_CANDIDATES;
}

/* By the clock, or what the clock said when the same was asked before. */
static void measure(sl_context *context, sl_pattern *pattern, const sl_op_desc *desc, bool once, sl_choice *choice) {
	bool sparse_only = sli_plan_mode(context) == SL_PLAN_SPARSE;
	sl_candidate kept[SL_MOST_CANDIDATES];
	int count = sli_pattern_find_choice(context, pattern, desc, sparse_only, kept, SL_MOST_CANDIDATES);
	if (count) {
		memcpy(choice->list, kept, (size_t)count * sizeof *kept);
		choice->count = count;
		choice->measured = true;
	} else if (!once) {
		sli_measure(context, desc, choice);
		if (choice->measured)
			sli_pattern_keep_choice(context, pattern, desc, sparse_only, choice->list, choice->count);
	}
}

void sli_choose(sl_context *context, sl_pattern *pattern, const sl_op_desc *desc, bool once, sl_choice *choice) {
	sl_plan_mode mode = sli_plan_mode(context);
	*choice = (sl_choice){0};
	choice->count = offers(context, desc, choice);
	if (choice->count > 1 && !once && mode != SL_PLAN_DENSE) {
		sli_calibrate_once(context);
		choice->count = offers(context, desc, choice);
	}
	if (mode == SL_PLAN_SPARSE) {
		int kept = 0;
		for (int i = 0; i < choice->count; i++)
			if (!choice->list[i].dense)
				choice->list[kept++] = choice->list[i];
		choice->count = kept;
	}
	sort(choice, mode, once);
	/* Calls that plan for themselves use what a plan has measured, where nothing is predicted. */
	bool by_clock = mode != SL_PLAN_DENSE && sli_device(context)->backend->flags & SL_BACKEND_MEASURES;
	if ((by_clock || (mode == SL_PLAN_MEASURE && !once)) && choice->count > 1 && !sli_deterministic(context))
		measure(context, pattern, desc, once, choice);
}

void sli_choice_text(const sl_choice *choice, const char *chosen, char *text, size_t size) {
	size_t at = 0;
	text[0] = 0;
	if (choice->count < 2)
		return;
	for (int i = 0; i < choice->count && i < 3 && at < size; i++) {
		const sl_candidate *c = &choice->list[i];
		at += (size_t)snprintf(text + at, size - at, "%s%s %.4g us", i ? ", " : "", c->name, c->seconds * 1e6);
	}
	if (at < size)
		at += (size_t)snprintf(text + at, size - at, " %s", choice->measured ? "measured" : "predicted");
	if (at < size && strcmp(chosen, choice->list[0].name) != 0)
		snprintf(text + at, size - at, "; %s for want of memory", chosen);
}

/* Scratch operands of one op. */
typedef struct scratch {
	sl_buffer a, b, c, d, bias, values;
} scratch;

static void free_scratch(scratch *s) {
	sl_buffer *all[] = {&s->a, &s->b, &s->c, &s->d, &s->bias, &s->values};
	for (int i = 0; i < 6; i++)
		sli_buffer_destroy(all[i]);
}

/* A buffer of numbers that are small, of one sign and normal in every dtype. */
static sl_status numbers(sl_context *context, sl_buffer *buffer, size_t bytes) {
	sl_device_state *state = sli_device(context);
	SL_TRY(sli_buffer_create(buffer, context, bytes ? bytes : 64, false, "operands to time candidates with"));
	return state->backend->fill(state->device, buffer->data, 0x3c, buffer->bytes);
}

static sl_status operand(sl_context *context, const sl_matrix_desc *desc, sl_buffer *buffer, sl_dense *view) {
	size_t bytes;
	*view = sli_panels(context, NULL, desc->dtype, desc->rows, desc->cols, desc->ld);
	view->order = desc->order;
	if (!sli_span(view, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "an operand of %lld x %lld does not fit in memory",
						(long long)desc->rows, (long long)desc->cols);
	SL_TRY(numbers(context, buffer, bytes));
	view->data = buffer->data;
	return SL_OK;
}

static sl_status make_operands(sl_context *context, const sl_op_desc *desc, scratch *s, sl_op_args *args) {
	*args = (sl_op_args){.alpha = 1};
	bool spmm = desc->kind == SL_OP_SPMM;
	SL_TRY(operand(context, &desc->b, &s->b, &args->b));
	SL_TRY(spmm ? operand(context, &desc->c, &s->c, &args->c) : operand(context, &desc->a, &s->a, &args->a));
	SL_TRY(numbers(context, &s->values, (size_t)desc->sparse.arrays.nnz * sl_dtype_size(desc->b.dtype)));
	args->values = args->values_out = s->values.data;
	if (desc->bias) {
		SL_TRY(numbers(context, &s->bias, (size_t)desc->c.rows * sl_dtype_size(sli_bias_dtype(desc->c.dtype))));
		args->bias = s->bias.data;
	}
	return desc->pre_activation ? operand(context, &desc->c, &s->d, &args->d) : SL_OK;
}

typedef struct one_run {
	sl_context *context;
	const sl_op_plan *plan;
	sl_op_args *args;
} one_run;

static sl_status run_it(void *argument) {
	one_run *r = argument;
	return sli_op_run(r->context, r->plan, r->args);
}

static sl_status time_once(sl_context *context, const sl_op_plan *plan, sl_op_args *args, double *seconds) {
	sl_device_state *state = sli_device(context);
	one_run run = {context, plan, args};
	if (state->backend->time)
		return state->backend->time(state->device, run_it, &run, seconds);
	double begin = sli_seconds();
	SL_TRY(sli_op_run(context, plan, args));
	SL_TRY(state->backend->synchronize(state->device));
	*seconds = sli_seconds() - begin;
	return SL_OK;
}

/* Candidates take turns, so that what else the machine does meets all of them; the least of each counts. One that
 * there is no memory for is left out. */
static sl_status take_turns(sl_context *context, const sl_op_desc *desc, sl_op_args *args, sl_choice *choice) {
	enum { ROUNDS = 7 };
	sl_device_state *state = sli_device(context);
	sl_op_plan plans[SL_MOST_CANDIDATES];
	bool planned[SL_MOST_CANDIDATES] = {false};
	double least[SL_MOST_CANDIDATES], seconds = 0, most = 0.2, begin = sli_seconds();
	sl_status status = SL_OK;
	for (int i = 0; i < choice->count && status == SL_OK; i++) {
		sl_op_desc own = *desc;
		own.candidate = choice->list[i].name;
		memset(&plans[i], 0, sizeof plans[i]);
		status = state->backend->plan(state->device, &own, &plans[i]);
		planned[i] = status == SL_OK;
		least[i] = 0;
		if (status == SL_OK) /* a first time for what is touched and grown then */
			status = time_once(context, &plans[i], args, &seconds);
		if (sli_no_room(status)) {
			if (planned[i])
				state->backend->destroy(state->device, &plans[i]);
			planned[i] = false;
			status = SL_OK;
		}
	}
	for (int round = 0; round < ROUNDS && status == SL_OK && (round < 2 || sli_seconds() - begin < most); round++)
		for (int i = 0; i < choice->count && status == SL_OK; i++) {
			if (!planned[i])
				continue;
			status = time_once(context, &plans[i], args, &seconds);
			if (!round || seconds < least[i])
				least[i] = seconds;
		}
	int kept = 0;
	for (int i = 0; i < choice->count; i++) {
		if (!planned[i])
			continue;
		state->backend->destroy(state->device, &plans[i]);
		choice->list[kept] = choice->list[i];
		choice->list[kept++].seconds = least[i] > 0 ? least[i] : 1e-9;
	}
	if (status != SL_OK || !kept)
		return status == SL_OK ? SL_ERR_MEMORY : status;
	choice->count = kept;
	choice->measured = true;
	sort(choice, SL_PLAN_AUTO, false);
	return SL_OK;
}

void sli_measure(sl_context *context, const sl_op_desc *desc, sl_choice *choice) {
	scratch s = {0};
	sl_op_args args;
	sl_choice before = *choice;
	sl_status status = make_operands(context, desc, &s, &args);
	if (status == SL_OK)
		status = take_turns(context, desc, &args, choice);
	free_scratch(&s);
	if (status == SL_OK)
		return;
	*choice = before;
	sli_log(context, SL_LOG_WARNING, "candidates are not timed but predicted: %s", sl_context_message(context));
}
