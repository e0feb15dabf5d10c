/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns in a device's memory: checked, transposed and narrowed there, by the backend. */
#include "sparse/device.h"

#include "core/host.h"

sl_status sli_pattern_step(sl_context *context, sl_pattern_step step, const sl_pattern_arrays *arrays,
						   sl_op_args *args) {
	sl_device_state *state = sli_device(context);
	sl_op_desc desc = {.kind = SL_OP_PATTERN, .variant = step, .sparse.arrays = *arrays};
	sl_op_plan plan = {0};
	SL_TRY(state->backend->supports(state->device, &desc));
	SL_TRY(state->backend->plan(state->device, &desc, &plan));
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = plan.workspace ? sli_arena_take(context, plan.workspace, &args->workspace) : SL_OK;
	if (status == SL_OK)
		status = state->backend->execute(state->device, &plan, args);
	state->backend->destroy(state->device, &plan);
	sli_arena_reset(context, mark);
	return status;
}

/* Where the first fault is; INT64_MAX: nowhere. */
static sl_status find_fault(sl_context *context, sl_pattern_step step, const sl_pattern_arrays *a, void *result,
							int64_t *at) {
	sl_op_args args = {.result = result};
	SL_TRY(sli_pattern_step(context, step, a, &args));
	return sli_fetch(sli_device(context), at, result, sizeof *at);
}

static sl_status fetch_offset(sl_context *context, const sl_pattern_arrays *a, int64_t i, int64_t *offset) {
	int64_t wide = 0;
	int32_t narrow = 0;
	bool is_wide = a->offset_dtype == SL_I64;
	const char *from = (const char *)a->row_offsets + (size_t)i * (is_wide ? 8 : 4);
	SL_TRY(sli_fetch(sli_device(context), is_wide ? (void *)&wide : (void *)&narrow, from, is_wide ? 8 : 4));
	*offset = is_wide ? wide : narrow;
	return SL_OK;
}

static sl_status tell_offset(sl_context *context, const sl_pattern_arrays *a, int64_t i) {
	int64_t now, before = 0;
	SL_TRY(fetch_offset(context, a, i, &now));
	if (i)
		SL_TRY(fetch_offset(context, a, i - 1, &before));
	return sli_fail_offset(context, "row_offsets", i, before, now, a->rows, a->nnz);
}

static sl_status tell_column(sl_context *context, const sl_pattern_arrays *a, int64_t entry) {
	int64_t low = 0, high = a->rows - 1, begin = 0;
	int32_t column, last = -1;
	while (low < high) { /* the last row that begins at or before the entry and is not empty there */
		int64_t middle = low + (high - low) / 2;
		SL_TRY(fetch_offset(context, a, middle + 1, &begin));
		if (begin <= entry)
			low = middle + 1;
		else
			high = middle;
	}
	SL_TRY(fetch_offset(context, a, low, &begin));
	SL_TRY(sli_fetch(sli_device(context), &column, a->col_indices + entry, sizeof column));
	if (entry > begin)
		SL_TRY(sli_fetch(sli_device(context), &last, a->col_indices + entry - 1, sizeof last));
	return sli_fail_column(context, low, entry, column, last, a->cols);
}

static sl_status validate(sl_context *context, const sl_pattern_arrays *a, void *result) {
	int64_t at = 0;
	SL_TRY(find_fault(context, SL_PATTERN_OFFSETS, a, result, &at));
	if (at != INT64_MAX)
		return tell_offset(context, a, at);
	SL_TRY(find_fault(context, SL_PATTERN_COLUMNS, a, result, &at));
	return at == INT64_MAX ? SL_OK : tell_column(context, a, at);
}

sl_status sli_pattern_validate_device(sl_context *context, const sl_pattern_arrays *arrays) {
	sl_buffer result;
	SL_TRY(sli_buffer_create(&result, context, sizeof(int64_t), false, "what a check of a pattern finds"));
	sl_status status = validate(context, arrays, result.data);
	sli_buffer_destroy(&result);
	return status;
}
