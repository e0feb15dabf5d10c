/* SPDX-License-Identifier: Apache-2.0 */
/* Forward, backward, and what growth by gradient is made of. */
#include "inside.h"

sl_dense slb_view(const slb_function *f, const void *data, int64_t rows, int64_t cols, int64_t ld) {
	sl_dense v = sl_dense_view(data, f->shape.dtype, rows, cols);
	v.device = sl_context_device(f->runtime->context);
	if (ld > 0)
		v.ld = ld;
	return v;
}

const void *slb_at_row(const slb_function *f, const void *data, int64_t row, int64_t ld) {
	return data ? (const char *)data + (size_t)(row * ld) * sl_dtype_size(f->shape.dtype) : NULL;
}

int64_t slb_step(const slb_function *f, int64_t batch) {
	return f->chunk > 0 && f->chunk < batch ? f->chunk : batch > 0 ? batch : 1;
}

sl_status slb_kept_bytes(int64_t number, int64_t batch, int64_t *bytes) {
	slb_function *f = slb_enter(number);
	size_t size = 0;
	if (!f)
		return SL_ERR_STATE;
	sl_status status = f->chunk > 0 ? SL_OK : sl_function_kept_bytes(f->runtime->context, f->function, batch, &size);
	*bytes = (int64_t)size;
	return slb_leave(f, status);
}

sl_status slb_forward(int64_t number, int64_t batch, const void *x, int64_t ldx, const void *values, const void *bias,
					  void *y, int64_t ldy, void *kept) {
	slb_function *f = slb_enter(number);
	if (!f)
		return SL_ERR_STATE;
	int64_t in = f->shape.in_features, out = f->shape.out_features, step = slb_step(f, batch);
	ldx = ldx > 0 ? ldx : in;
	ldy = ldy > 0 ? ldy : out;
	sl_status status = SL_OK;
	for (int64_t row = 0; status == SL_OK && row < batch; row += step) {
		int64_t rows = batch - row < step ? batch - row : step;
		sl_dense X = slb_view(f, slb_at_row(f, x, row, ldx), rows, in, ldx);
		sl_dense Y = slb_view(f, slb_at_row(f, y, row, ldy), rows, out, ldy);
		status =
			sl_function_forward(f->runtime->context, f->function, values, bias, &X, &Y, f->chunk > 0 ? NULL : kept);
	}
	return slb_leave(f, status);
}

static size_t captured_elements(const slb_function *f, int64_t batch, int part) {
	return (size_t)batch * (size_t)(part ? f->shape.out_features : f->shape.in_features);
}

/* [batch, features] row-major out of a view, or, where it has no data, out of what the forward kept at `panels`. */
static sl_status copy_out(slb_function *f, void *to, const sl_dense *from, const char *panels, int64_t width) {
	sl_dense out = slb_view(f, to, from->rows, from->cols, 0), in = *from;
	out.dtype = f->shape.value_dtype;
	if (!in.data) {
		in.data = (void *)panels;
		in.order = SL_ROW_PANELS;
		in.ld = width;
	}
	return in.data ? sl_dense_copy(f->runtime->context, &in, &out) : SL_OK;
}

bool slb_capture_room(slb_function *f, int64_t rows, char *captured[3]) {
	size_t size = sl_dtype_size(f->shape.value_dtype), x = captured_elements(f, rows, 0) * size;
	size_t y = captured_elements(f, rows, 1) * size;
	f->capture = false;
	free(f->captured);
	f->captured_batch = rows;
	f->captured = calloc(1, x + 2 * y + 1);
	captured[0] = f->captured;
	captured[1] = captured[0] + x;
	captured[2] = captured[1] + y;
	return f->captured != NULL;
}

/* A failure to capture is not one of the backward: there is nothing to be had then. */
static void capture(slb_function *f, const void *kept, sl_dense *X, sl_dense *Y, const sl_dense *dY) {
	size_t input = 0;
	int64_t width = 0;
	char *to[3];
	if (!slb_capture_room(f, X->rows, to))
		return;
	if (kept) {
		X->data = Y->data = NULL;
		if (sl_function_kept_layout(f->runtime->context, f->function, X->rows, &width, &input) != SL_OK)
			return;
	}
	bool fused = f->activation != SL_IDENTITY;
	if (copy_out(f, to[0], X, kept, width) != SL_OK ||
		(fused && copy_out(f, to[1], Y, kept ? (const char *)kept + input : NULL, width) != SL_OK) ||
		copy_out(f, to[2], dY, NULL, 0) != SL_OK) {
		free(f->captured);
		f->captured = NULL;
	}
}

sl_status slb_capture(int64_t number, int on) {
	slb_function *f = slb_enter(number);
	if (!f)
		return SL_ERR_STATE;
	f->capture = on != 0;
	free(f->captured);
	f->captured = NULL;
	return slb_leave(f, SL_OK);
}

sl_status slb_captured(int64_t number, int64_t *batch, const void **x, const void **y, const void **dy) {
	slb_function *f = slb_enter(number);
	if (!f)
		return SL_ERR_STATE;
	size_t size = sl_dtype_size(f->shape.value_dtype);
	const char *at = f->captured;
	*batch = f->captured_batch;
	*x = at;
	*y = at ? at + captured_elements(f, *batch, 0) * size : NULL;
	*dy = at ? (const char *)*y + captured_elements(f, *batch, 1) * size : NULL;
	return slb_leave(f, SL_OK);
}

sl_status slb_backward(int64_t number, int64_t batch, const void *x, int64_t ldx, const void *y, const void *kept,
					   const void *dy, int64_t lddy, const void *values, void *dx, void *dvalues, int64_t values_count,
					   void *dbias) {
	slb_function *f = slb_enter(number);
	if (!f)
		return SL_ERR_STATE;
	int64_t in = f->shape.in_features, out = f->shape.out_features, step = slb_step(f, batch);
	size_t size = sl_dtype_size(f->shape.value_dtype);
	ldx = ldx > 0 ? ldx : in;
	lddy = lddy > 0 ? lddy : out;
	if (dvalues && values_count > f->shape.nnz)
		memset((char *)dvalues + (size_t)f->shape.nnz * size, 0, (size_t)(values_count - f->shape.nnz) * size);
	sl_status status = SL_OK;
	int64_t row = 0;
	do { /* a batch of no rows has gradients too: zeros */
		int64_t rows = batch - row < step ? batch - row : step;
		sl_dense X = slb_view(f, slb_at_row(f, x, row, ldx), rows, in, ldx),
				 Y = slb_view(f, slb_at_row(f, y, row, out), rows, out, 0);
		sl_dense dY = slb_view(f, slb_at_row(f, dy, row, lddy), rows, out, lddy),
				 dX = slb_view(f, slb_at_row(f, dx, row, in), rows, in, 0);
		sl_function_gradients g = {SL_FUNCTION_GRADIENTS,
								   .values = values,
								   .X = &X,
								   .Y = &Y,
								   .kept = f->chunk > 0 ? NULL : kept,
								   .dY = &dY,
								   .dX = dx ? &dX : NULL,
								   .value_gradient = dvalues,
								   .bias_gradient = dbias,
								   .write = row ? SL_ACCUMULATE : SL_OVERWRITE};
		status = sl_function_backward(f->runtime->context, f->function, &g);
		if (f->capture && status == SL_OK)
			capture(f, kept, &X, &Y, &dY);
		row += step;
	} while (status == SL_OK && row < batch);
	return slb_leave(f, status);
}
