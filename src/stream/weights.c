/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/weights.h"

sl_status sli_streamed_create(sl_streamed **streamed, sl_context *context, sl_store *store, sl_source *source,
							  const sl_stream_options *options) {
	void *memory;
	*streamed = NULL;
	sl_status status = sli_allocate_zeroed(context, sizeof(sl_streamed), "streamed weights", &memory);
	if (status != SL_OK) {
		sli_store_close(store);
		sli_source_free(source);
		return status;
	}
	sl_streamed *s = memory;
	s->heap = sli_heap_retain(sli_heap(context));
	s->store = store;
	s->source = store ? store->source : source;
	s->options = *options;
	*streamed = s;
	return SL_OK;
}

void sli_streamed_destroy(sl_streamed *s) {
	if (!s)
		return;
	sl_heap *heap = s->heap;
	if (s->store)
		sli_store_close(s->store);
	else
		sli_source_free(s->source);
	sli_buffer_destroy(&s->x_room);
	sli_buffer_destroy(&s->dz_room);
	sli_heap_free(heap, s, sizeof *s);
	sli_heap_release(heap);
}

static void count(sl_streamed *s, const sl_stream_report *report) {
	s->bytes_read += report->bytes_read;
	s->bytes_written += report->bytes_written;
	s->seconds += report->seconds;
}

/* Which states a call is not for. */
static sl_status check_state(sl_context *context, const sl_streamed *s) {
	if (s->state == SL_STREAMED_LOST)
		return sli_fail(context, SL_ERR_STATE,
						"%s: a step that was made in place failed, and the steps since the last commit are lost: load "
						"the model again from its last commit",
						s->source->path);
	if (s->state != SL_STREAMED_IDLE)
		return sli_fail(context, SL_ERR_STATE,
						"%s: a backward has begun a step of these weights, which sl_optimizer_step() is to end first",
						s->source->path);
	return SL_OK;
}

sl_status sli_streamed_forward(sl_context *context, sl_streamed *s, const sl_dense *x, const sl_dense *y,
							   const sl_epilogue *epilogue, int64_t planned) {
	sl_stream_report report = {.struct_size = sizeof report};
	SL_TRY(check_state(context, s));
	SL_TRY(sli_stream_spmm(context, 1, s->source, x, 0, y, epilogue, planned, &s->options, &report));
	count(s, &report);
	return SL_OK;
}

/* A copy of panels, which the caller's may be gone before the step. */
static sl_status keep(sl_context *context, sl_buffer *room, const sl_dense *from, sl_dense *to) {
	size_t bytes;
	if (!sli_panel_bytes(from->rows, from->cols, from->ld, from->dtype, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld x %lld do not fit in memory", (long long)from->rows,
						(long long)from->cols);
	if (room->bytes < bytes) {
		sli_buffer_destroy(room);
		*room = (sl_buffer){0};
		SL_TRY(sli_buffer_create(room, context, bytes, false, "a step that waits for the gradients' norm"));
	}
	*to = sli_panels(context, room->data, from->dtype, from->rows, from->cols, from->ld);
	memcpy(room->data, from->data, bytes);
	return SL_OK;
}

/* A stage that failed left the store as it is durable. */
static sl_status stage(sl_context *context, sl_streamed *s, const sl_update *update, const sl_dense *dz,
					   const sl_dense *x, const sl_dense *dx, int64_t planned) {
	sl_stream_report report = {.struct_size = sizeof report};
	bool in_place = sli_store_in_place(s->store);
	sl_status status = sli_store_stage(context, s->store, update, s->kind, dz, x, dx, planned, &s->options, &report);
	count(s, &report);
	if (status == SL_OK)
		s->state = SL_STREAMED_STAGED;
	else
		s->state = in_place ? SL_STREAMED_LOST : SL_STREAMED_IDLE;
	return status;
}

sl_status sli_streamed_backward(sl_context *context, sl_streamed *s, const sl_dense *dz, const sl_dense *x,
								const sl_dense *dx, int64_t planned) {
	sl_stream_report report = {.struct_size = sizeof report};
	SL_TRY(check_state(context, s));
	if (s->trains && !s->by_norm)
		return stage(context, s, &s->update, dz, x, dx, planned);
	sl_status status = SL_OK;
	if (s->trains) {
		s->planned = planned;
		SL_TRY(keep(context, &s->x_room, x, &s->x));
		SL_TRY(keep(context, &s->dz_room, dz, &s->dz));
		status = sli_stream_squares(context, s->source, dz, x, dx, planned, s->update.clip_value, &s->options, &report,
									&s->squares);
	} else if (dx) {
		sl_stream_backward what = {.alpha = 1, .planned = planned, .dz = *dz, .dx = *dx};
		status = sli_stream_backward(context, s->source, &what, &s->options, &report);
	}
	count(s, &report);
	if (status == SL_OK && s->trains)
		s->state = SL_STREAMED_KEPT;
	return status;
}

sl_status sli_streamed_least(sl_context *context, const sl_streamed *s, int64_t batch, int64_t width, bool training,
							 bool dx, size_t *bytes) {
	static char somewhere; /* stands for data that is not looked at */
	const sl_source *w = s->source;
	sl_dense x = sli_panels(context, &somewhere, w->dtype, w->cols, batch, width);
	sl_dense y = sli_panels(context, &somewhere, w->dtype, w->rows, batch, width);
	sl_epilogue none = {SL_EPILOGUE_DEFAULTS};
	sl_update update = {.learning_rate = 0};
	size_t back = 0;
	SL_TRY(sli_stream_spmm_least(context, s->source, &x, &y, &none, &s->options, bytes));
	sl_stream_backward what = {.alpha = 1, .dz = y, .x = x};
	if (dx)
		what.dx = x;
	if (s->store) {
		what.update = &update;
		what.states = (int)s->store->pattern.states;
		for (int i = 0; i <= what.states; i++)
			what.from[i] = what.to[i] = w->values;
	}
	if (training && (dx || s->store))
		SL_TRY(sli_stream_backward_least(context, s->source, &what, &s->options, &back));
	*bytes = back > *bytes ? back : *bytes;
	return SL_OK;
}

void sli_streamed_arm(sl_streamed *s, const sl_update *update, int kind, bool by_norm) {
	s->trains = s->store != NULL;
	s->update = *update;
	s->kind = kind;
	s->by_norm = by_norm;
}

sl_status sli_streamed_finish(sl_context *context, sl_streamed *s, double factor) {
	if (s->state == SL_STREAMED_STAGED)
		return SL_OK;
	if (s->state == SL_STREAMED_LOST)
		return check_state(context, s);
	if (s->state == SL_STREAMED_IDLE)
		return sli_fail(context, SL_ERR_STATE, "%s: there was no backward since the last step", s->source->path);
	sl_update update = s->update;
	update.gradient_factor = factor;
	return stage(context, s, &update, &s->dz, &s->x, NULL, s->planned);
}

void sli_streamed_adopt(sl_streamed *s) {
	sli_store_adopt(s->store);
	s->state = SL_STREAMED_IDLE;
}

void sli_streamed_abandon(sl_streamed *s) {
	if (s->state == SL_STREAMED_STAGED && sli_store_in_place(s->store))
		s->state = SL_STREAMED_LOST;
	else if (s->state != SL_STREAMED_LOST)
		s->state = SL_STREAMED_IDLE;
}
