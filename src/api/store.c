/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/step.h"
#include "ops/ops.h"
#include "stream/store.h"
#include "train/optimizer.h"

sl_status sl_store_create(sl_context *context, const char *path, sl_source *matrix, int states) {
	if (!context)
		return SL_ERR_NULL;
	if (!path || !matrix)
		return sli_fail(context, SL_ERR_NULL, "%s is null", path ? "matrix" : "path");
	if (states < 0 || states > 2)
		return sli_fail(context, SL_ERR_ARGUMENT, "states is %d; optimizers keep 0, 1 or 2 moments", states);
	return sli_store_create(context, &sli_disk, path, matrix, states, SL_STORE_SEGMENT, NULL);
}

sl_status sl_store_open(sl_store **store, sl_context *context, const char *path, sl_durability durability) {
	if (!context)
		return SL_ERR_NULL;
	if (!store || !path)
		return sli_fail(context, SL_ERR_NULL, "%s is null", store ? "path" : "store");
	*store = NULL;
	if (durability != SL_DURABLE_STEP && durability != SL_DURABLE_CHECKPOINT)
		return sli_fail(context, SL_ERR_ARGUMENT, "durability is %d; it is 0 or 1", (int)durability);
	return sli_store_open(store, context, &sli_disk, path, durability, NULL);
}

void sl_store_close(sl_store *store) {
	sli_store_close(store);
}

sl_source *sl_store_source(sl_store *store) {
	return store ? store->source : NULL;
}

static sl_status check_view(sl_context *context, const sl_dense *view, const char *name, int64_t rows, int64_t cols,
							sl_dtype dtype) {
	SL_TRY(sli_check_dense(context, view, name));
	if (view->rows != rows || view->cols != cols)
		return sli_fail(context, SL_ERR_SHAPE, "%s is %lldx%lld; it must be %lldx%lld", name, (long long)view->rows,
						(long long)view->cols, (long long)rows, (long long)cols);
	if (view->dtype != dtype)
		return sli_fail(context, SL_ERR_DTYPE, "%s is %s, the store %s", name, sl_dtype_name(view->dtype),
						sl_dtype_name(dtype));
	return SL_OK;
}

static sl_status numbers_of(sl_context *context, const sl_store *store, const sl_optimizer_options *given,
							sl_update *update, int *kind, double *clip_norm) {
	sl_optimizer_options o;
	SL_TRY(sli_take_struct(context, &o, sizeof o, given, "optimizer"));
	SL_TRY(sli_optimizer_resolve(context, &o, &o));
	if (sli_optimizer_states(o.kind) != (int)store->pattern.states)
		return sli_fail(context, SL_ERR_ARGUMENT, "%s keeps %d moments for each value; the store was made for %d",
						sl_optimizer_kind_name(o.kind), sli_optimizer_states(o.kind), (int)store->pattern.states);
	sl_step_numbers(&o, store->now.steps, update);
	*kind = (int)o.kind;
	*clip_norm = o.clip_norm;
	return SL_OK;
}

sl_status sl_store_step(sl_context *context, sl_store *store, const sl_optimizer_options *optimizer, const sl_dense *X,
						const sl_dense *dZ, sl_dense *dX, const sl_stream_options *options, sl_stream_report *report) {
	sl_stream_options o = {SL_STREAM_DEFAULTS};
	sl_stream_report own = {.struct_size = sizeof own};
	sl_update update;
	int kind = 0;
	double clip_norm = 0;
	if (!context)
		return SL_ERR_NULL;
	if (!store)
		return sli_fail(context, SL_ERR_NULL, "store is null");
	const sl_source *s = store->source;
	SL_TRY(numbers_of(context, store, optimizer, &update, &kind, &clip_norm));
	SL_TRY(sli_check_dense(context, X, "X"));
	SL_TRY(check_view(context, X, "X", X->rows, s->cols, s->dtype));
	SL_TRY(check_view(context, dZ, "dZ", X->rows, s->rows, s->dtype));
	if (dX) {
		SL_TRY(check_view(context, dX, "dX", X->rows, s->cols, s->dtype));
		if (sli_overlap(dX, X) || sli_overlap(dX, dZ))
			return sli_fail(context, SL_ERR_ALIAS, "dX overlaps %s", sli_overlap(dX, X) ? "X" : "dZ");
	}
	if (options)
		SL_TRY(sli_take_struct(context, &o, sizeof o, options, "options"));
	if (o.slots && (o.slots < 2 || o.slots > SL_STREAM_SLOTS))
		return sli_fail(context, SL_ERR_ARGUMENT, "slots is %d; it is 2 to %d", o.slots, SL_STREAM_SLOTS);
	sl_dense x = sl_dense_transposed(*X), dz = sl_dense_transposed(*dZ), dx = {0};
	if (dX)
		dx = sl_dense_transposed(*dX);
	SL_TRY(sli_store_step(context, store, &update, kind, clip_norm, &dz, &x, dX ? &dx : NULL, &o, &own));
	return report ? sli_give_struct(context, report, &own, sizeof own, "report") : SL_OK;
}

sl_status sl_store_commit(sl_context *context, sl_store *store) {
	if (!context)
		return SL_ERR_NULL;
	return store ? sli_store_commit(context, store) : sli_fail(context, SL_ERR_NULL, "store is null");
}

sl_status sl_store_read(sl_context *context, sl_store *store, int state, int64_t first, int64_t count, void *to) {
	if (!context)
		return SL_ERR_NULL;
	if (!store || (!to && count))
		return sli_fail(context, SL_ERR_NULL, "%s is null", store ? "to" : "store");
	if (state < -1 || state >= (int)store->pattern.states)
		return sli_fail(context, SL_ERR_ARGUMENT, "state is %d; the store has -1 (values) to %d", state,
						(int)store->pattern.states - 1);
	if (first < 0 || count < 0 || first > store->source->nnz - count)
		return sli_fail(context, SL_ERR_ARGUMENT, "entries %lld to %lld of %lld", (long long)first,
						(long long)(first + count), (long long)store->source->nnz);
	return sli_store_read(context, store, 1 + state, first, count, to);
}

sl_status sl_store_get_info(sl_context *context, const sl_store *store, sl_store_info *info) {
	if (!context)
		return SL_ERR_NULL;
	if (!store)
		return sli_fail(context, SL_ERR_NULL, "store is null");
	const sl_store_pattern *p = &store->pattern;
	int64_t size = (int64_t)sl_dtype_size((sl_dtype)p->dtype), arrays = 1 + (int64_t)p->states;
	sl_store_info own = {.rows = p->rows,
						 .cols = p->cols,
						 .nnz = p->nnz,
						 .dtype = (sl_dtype)p->dtype,
						 .states = (int)p->states,
						 .steps = store->now.steps,
						 .durable = store->durable.steps,
						 .bytes = p->sums_at + store->pattern_sums.count * 8 + 2 * p->value_bytes + 2 * SL_BLOCK,
						 .step_read = (p->rows + 1) * 8 + p->nnz * (4 + arrays * size),
						 .step_written = p->nnz * arrays * size};
	own.direct = store->disk->is_direct(store->disk->user, store->file[1]);
	return sli_give_struct(context, info, &own, sizeof own, "info");
}
