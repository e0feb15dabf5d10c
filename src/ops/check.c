/* SPDX-License-Identifier: Apache-2.0 */
/* Checks on arguments, and arithmetic on views. */
#include "core/checked.h"
#include "ops/ops.h"

#include <stdio.h>

sl_matrix_desc sli_desc(const sl_dense *view) {
	return (sl_matrix_desc){view->rows, view->cols, view->ld, view->dtype, view->order};
}

sl_status sli_take_struct(sl_context *context, void *to, size_t size, const void *from, const char *name) {
	size_t given;
	if (!from)
		return sli_fail(context, SL_ERR_NULL, "%s is null", name);
	memcpy(&given, from, sizeof given);
	if (given < sizeof given)
		return sli_fail(context, SL_ERR_ARGUMENT,
						"%s: struct_size is %zu; begin it with its SL_..._DEFAULTS macro or SL_OPTIONS_INIT", name,
						given);
	memset(to, 0, size);
	memcpy(to, from, given < size ? given : size);
	return SL_OK;
}

sl_status sli_give_struct(sl_context *context, void *to, const void *from, size_t size, const char *name) {
	size_t given;
	if (!to)
		return sli_fail(context, SL_ERR_NULL, "%s is null", name);
	memcpy(&given, to, sizeof given);
	if (given < sizeof given)
		return sli_fail(context, SL_ERR_ARGUMENT, "%s: struct_size is %zu; set it to sizeof the struct", name, given);
	memcpy(to, from, given < size ? given : size);
	memcpy(to, &given, sizeof given);
	return SL_OK;
}

sl_status sli_check_activation(sl_context *context, sl_activation activation, double parameter) {
	if ((int)activation < SL_IDENTITY || activation > SL_GELU)
		return sli_fail(context, SL_ERR_ARGUMENT, "activation %d is unknown; it goes from 0 to %d", (int)activation,
						SL_GELU);
	if (activation == SL_CLIPPED_RELU && !(parameter > 0))
		return sli_fail(context, SL_ERR_ARGUMENT, "parameter of clipped ReLU is %g; it must be above 0", parameter);
	/* Backward sees only the output, whose sign tells the input's only where the slope is not negative. */
	if (activation == SL_LEAKY_RELU && !(parameter >= 0 && parameter - parameter == 0))
		return sli_fail(context, SL_ERR_ARGUMENT,
						"parameter of leaky ReLU is %g; it must be finite and not negative, as the output must tell on "
						"which side of 0 the input was",
						parameter);
	return SL_OK;
}

sl_status sli_check_view(sl_context *context, const sl_dense *view, const char *name) {
	if (!view)
		return sli_fail(context, SL_ERR_NULL, "%s is null", name);
	sl_status status = sl_dense_check(context, view);
	if (status != SL_OK) {
		char text[384];
		snprintf(text, sizeof text, "%s", sl_context_message(context));
		return sli_fail(context, status, "%s: %s", name, text);
	}
	const sl_device_state *state = sli_device(context);
	sl_device device = view->device == SL_DEVICE_AUTO ? SL_DEVICE_CPU : view->device;
	if (device != state->backend->device || (device != SL_DEVICE_CPU && view->device_index != state->host.device_index))
		return sli_fail(context, SL_ERR_DEVICE, "%s is on %s %d, but the context runs on %s %d", name,
						sl_device_name(device), view->device_index, sl_device_name(state->backend->device),
						state->host.device_index);
	return SL_OK;
}

sl_status sli_check_pointer(sl_context *context, const void *pointer, sl_dtype dtype, const char *name) {
	const sl_device_state *state = sli_device(context);
	return state->backend->check && pointer ? state->backend->check(state->device, pointer, sl_dtype_size(dtype), name)
											: SL_OK;
}

sl_status sli_check_dense(sl_context *context, const sl_dense *view, const char *name) {
	SL_TRY(sli_check_view(context, view, name));
	return view->rows && view->cols ? sli_check_pointer(context, view->data, view->dtype, name) : SL_OK;
}

bool sli_panel_bytes(int64_t rows, int64_t cols, int64_t width, sl_dtype dtype, size_t *bytes) {
	int64_t count;
	return width > 0 && cols >= 0 && sli_mul(sli_ceil_div(cols, width), width, &count) &&
		   sli_mul(count, rows, &count) && sli_bytes(count, sl_dtype_size(dtype), bytes);
}

sl_dense sli_panels(sl_context *context, void *data, sl_dtype dtype, int64_t rows, int64_t cols, int64_t width) {
	const sl_device_state *state = sli_device(context);
	return (sl_dense){.data = data,
					  .dtype = dtype,
					  .order = SL_COL_PANELS,
					  .device = state->backend->device,
					  .device_index = state->host.device_index,
					  .rows = rows,
					  .cols = cols,
					  .ld = width};
}

bool sli_span(const sl_dense *view, size_t *bytes) {
	*bytes = 0;
	if (!view->rows || !view->cols)
		return true;
	if (view->order == SL_COL_PANELS)
		return sli_panel_bytes(view->rows, view->cols, view->ld, view->dtype, bytes);
	if (view->order == SL_ROW_PANELS)
		return sli_panel_bytes(view->cols, view->rows, view->ld, view->dtype, bytes);
	int64_t lines = view->order == SL_ROW_MAJOR ? view->rows : view->cols;
	int64_t length = view->order == SL_ROW_MAJOR ? view->cols : view->rows;
	int64_t count;
	return sli_mul(lines - 1, view->ld, &count) && sli_add(count, length, &count) &&
		   sli_bytes(count, sl_dtype_size(view->dtype), bytes);
}

bool sli_overlap(const sl_dense *a, const sl_dense *b) {
	size_t size_a, size_b;
	if (!a->data || !b->data || !sli_span(a, &size_a) || !sli_span(b, &size_b) || !size_a || !size_b)
		return false;
	uintptr_t p = (uintptr_t)a->data, q = (uintptr_t)b->data;
	return p < q + size_b && q < p + size_a;
}
