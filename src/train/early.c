/* SPDX-License-Identifier: Apache-2.0 */
#include "train/early.h"

#include <math.h>

#include "core/host.h"

static sl_parameter parameter_of(const sl_early *e, int index, sl_status *status) {
	sl_parameter p = {.struct_size = sizeof p};
	if (*status == SL_OK)
		*status = sl_model_parameter(e->context, e->model, index, NULL, &p);
	return p;
}

static size_t size_of(const sl_parameter *p) {
	return (size_t)p->count * sl_dtype_size(p->dtype);
}

sl_status sli_early_open(sl_early *e, sl_context *context, sl_model *model, const sl_fit_options *o) {
	*e = (sl_early){.context = context, .model = model, .o = o};
	if (!o->patience || o->keep_last)
		return SL_OK;
	e->parameters = sl_model_parameter_count(model);
	return sli_allocate_zeroed(context, (size_t)e->parameters * sizeof *e->patterns, "early stopping",
							   (void **)&e->patterns);
}

/* A pattern may have been edited since the last time: the room is made anew where it is not enough. */
static sl_status keep(sl_early *e) {
	sl_status status = SL_OK;
	size_t bytes = 0, at = 0;
	for (int i = 0; i < e->parameters; i++) {
		sl_parameter p = parameter_of(e, i, &status);
		bytes += size_of(&p);
	}
	if (status == SL_OK && bytes != e->bytes) {
		sli_heap_free(sli_heap(e->context), e->copy, e->bytes);
		e->copy = NULL;
		e->bytes = 0;
		status = sli_allocate(e->context, bytes, "the parameters of the best epoch", (void **)&e->copy);
		e->bytes = status == SL_OK ? bytes : 0;
	}
	for (int i = 0; i < e->parameters && status == SL_OK; i++) {
		sl_parameter p = parameter_of(e, i, &status);
		if (p.pattern != e->patterns[i]) {
			sl_pattern_release(e->patterns[i]);
			e->patterns[i] = sl_pattern_retain(p.pattern);
		}
		if (status == SL_OK)
			status = sli_fetch(sli_device(e->context), e->copy + at, p.value, size_of(&p));
		at += size_of(&p);
	}
	return status;
}

sl_status sli_early_note(sl_early *e, const sl_epoch *epoch, bool *stop) {
	*stop = false;
	if (!e->o->patience)
		return SL_OK;
	double now = e->o->stop_on_accuracy ? epoch->validation_accuracy : -epoch->validation_loss;
	/* NaN is no improvement. */
	if (!e->any ? !isnan(now) : now > e->best + e->o->min_improvement) {
		e->any = true;
		e->best = now;
		e->waited = 0;
		return e->o->keep_last ? SL_OK : keep(e);
	}
	*stop = ++e->waited >= e->o->patience;
	return SL_OK;
}

static sl_status put_back(const sl_early *e) {
	sl_status status = SL_OK;
	for (int i = 0; i < e->parameters && status == SL_OK; i++) {
		sl_parameter p = parameter_of(e, i, &status);
		if (status == SL_OK && p.pattern != e->patterns[i])
			return sli_fail(
				e->context, SL_ERR_STATE,
				"a pattern was edited after the best epoch, whose weights cannot be put back: set keep_last, "
				"or edit no patterns while waiting");
	}
	size_t at = 0;
	for (int i = 0; i < e->parameters && status == SL_OK; i++) {
		sl_parameter p = parameter_of(e, i, &status);
		if (status == SL_OK)
			status = sli_put(sli_device(e->context), p.value, e->copy + at, size_of(&p));
		at += size_of(&p);
	}
	return status;
}

sl_status sli_early_close(sl_early *e, sl_status status) {
	/* Nothing has happened to the parameters since where the last epoch was the best. */
	if (status == SL_OK && e->any && e->patterns && e->waited)
		status = put_back(e);
	for (int i = 0; e->patterns && i < e->parameters; i++)
		sl_pattern_release(e->patterns[i]);
	sli_heap_free(sli_heap(e->context), e->patterns, (size_t)e->parameters * sizeof *e->patterns);
	sli_heap_free(sli_heap(e->context), e->copy, e->bytes);
	return status;
}
