/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include <dlpack/dlpack.h>

#include "core/checked.h"
#include "core/context.h"

sl_dense sl_dense_view(const void *data, sl_dtype dtype, int64_t rows, int64_t cols) {
	return (sl_dense){.data = (void *)(uintptr_t)data,
					  .dtype = dtype,
					  .order = SL_ROW_MAJOR,
					  .device = SL_DEVICE_CPU,
					  .rows = rows,
					  .cols = cols,
					  .ld = cols > 0 ? cols : 1};
}

sl_dense sl_dense_transposed(sl_dense view) {
	static const sl_order flipped[] = {SL_COL_MAJOR, SL_ROW_MAJOR, SL_ROW_PANELS, SL_COL_PANELS};
	int64_t rows = view.rows;
	view.rows = view.cols;
	view.cols = rows;
	if (view.order >= SL_ROW_MAJOR && view.order <= SL_ROW_PANELS)
		view.order = flipped[view.order];
	return view;
}

/* Elements spanned. False on overflow. */
static bool elements(const sl_dense *v, int64_t *count) {
	bool across = v->order == SL_ROW_MAJOR || v->order == SL_COL_PANELS;
	int64_t major = across ? v->rows : v->cols, minor = across ? v->cols : v->rows, lines;
	*count = 0;
	if (!v->rows || !v->cols)
		return true;
	if (v->order == SL_COL_PANELS || v->order == SL_ROW_PANELS)
		return sli_mul(sli_ceil_div(minor, v->ld), v->ld, &lines) && sli_mul(lines, major, count);
	return sli_mul(major - 1, v->ld, &lines) && sli_add(lines, minor, count);
}

sl_status sl_dense_bytes(sl_context *context, const sl_dense *view, size_t *bytes) {
	int64_t count;
	if (!view || !bytes)
		return sli_fail(context, SL_ERR_NULL, "%s is null", view ? "bytes" : "view");
	if (sl_dtype_size(view->dtype) == 0 || view->dtype >= SL_I32)
		return sli_fail(context, SL_ERR_DTYPE, "dtype %d is not one of f32, f64, bf16, f16", (int)view->dtype);
	if (view->order < SL_ROW_MAJOR || view->order > SL_ROW_PANELS)
		return sli_fail(context, SL_ERR_LAYOUT, "order %d is no storage order", (int)view->order);
	if (view->rows < 0 || view->cols < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "a matrix of %lld x %lld: sizes must not be negative",
						(long long)view->rows, (long long)view->cols);
	int64_t least = view->order == SL_ROW_MAJOR ? view->cols : view->order == SL_COL_MAJOR ? view->rows : 1;
	if (view->ld < least || view->ld < 0)
		return sli_fail(context, SL_ERR_LAYOUT, "leading dimension %lld of a %lld x %lld matrix must be at least %lld",
						(long long)view->ld, (long long)view->rows, (long long)view->cols, (long long)least);
	if (!elements(view, &count) || !sli_bytes(count, sl_dtype_size(view->dtype), bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "a matrix of %lld x %lld with leading dimension %lld is too large",
						(long long)view->rows, (long long)view->cols, (long long)view->ld);
	return SL_OK;
}

sl_status sl_dense_check(sl_context *context, const sl_dense *view) {
	size_t bytes;
	SL_TRY(sl_dense_bytes(context, view, &bytes));
	if (bytes && !view->data)
		return sli_fail(context, SL_ERR_NULL, "the data of a %lld x %lld matrix is null", (long long)view->rows,
						(long long)view->cols);
	return SL_OK;
}

static sl_status dtype_of(sl_context *context, DLDataType type, sl_dtype *dtype) {
	*dtype = 0;
	if (type.lanes == 1 && type.code == kDLFloat)
		*dtype = type.bits == 32 ? SL_F32 : type.bits == 64 ? SL_F64 : type.bits == 16 ? SL_F16 : 0;
	if (type.lanes == 1 && type.code == kDLBfloat && type.bits == 16)
		*dtype = SL_BF16;
	if (!*dtype)
		return sli_fail(context, SL_ERR_DTYPE,
						"a DLPack tensor of type code %d, %d bits, %d lanes: f32, f64, f16 or bf16 is needed",
						type.code, type.bits, type.lanes);
	return SL_OK;
}

sl_status sl_dense_from_dlpack(sl_context *context, const struct DLManagedTensor *tensor, sl_dense *view) {
	if (!tensor || !view)
		return sli_fail(context, SL_ERR_NULL, "%s is null", tensor ? "view" : "tensor");
	const DLTensor *t = &tensor->dl_tensor;
	sl_dense out = {.rows = 1, .ld = 1};
	SL_TRY(dtype_of(context, t->dtype, &out.dtype));
	if (t->ndim < 1 || t->ndim > 2 || !t->shape)
		return sli_fail(context, SL_ERR_SHAPE, "a DLPack tensor of %d dimensions: 1 or 2 are needed", t->ndim);
	if (t->device.device_type == kDLCPU || t->device.device_type == kDLCUDAHost)
		out.device = SL_DEVICE_CPU;
	else if (t->device.device_type == kDLCUDA)
		out.device = SL_DEVICE_CUDA;
	else
		return sli_fail(context, SL_ERR_DEVICE, "a DLPack tensor on device type %d: CPU or CUDA is needed",
						(int)t->device.device_type);
	out.device_index = t->device.device_id;
	out.cols = t->shape[t->ndim - 1];
	if (t->ndim == 2)
		out.rows = t->shape[0];
	int64_t col_stride = t->strides ? t->strides[t->ndim - 1] : 1;
	int64_t row_stride = !t->strides ? out.cols : t->ndim == 2 ? t->strides[0] : out.cols;
	if (col_stride == 1 || out.cols <= 1) {
		out.order = SL_ROW_MAJOR;
		out.ld = out.rows <= 1 && row_stride < out.cols ? out.cols : row_stride;
		if (out.cols <= 1 && out.ld < 1)
			out.ld = 1;
	} else if (t->ndim == 2 && (row_stride == 1 || out.rows <= 1)) {
		out.order = SL_COL_MAJOR;
		out.ld = col_stride;
	} else {
		return sli_fail(context, SL_ERR_LAYOUT, "DLPack strides (%lld, %lld): one of them must be 1",
						(long long)row_stride, (long long)col_stride);
	}
	out.data = t->data ? (char *)t->data + t->byte_offset : NULL;
	SL_TRY(sl_dense_check(context, &out));
	*view = out;
	return SL_OK;
}

typedef struct exported {
	DLManagedTensor tensor;
	int64_t shape[2], strides[2];
} exported;

static void delete_exported(DLManagedTensor *tensor) {
	free(tensor);
}

sl_status sl_dense_to_dlpack(sl_context *context, const sl_dense *view, struct DLManagedTensor **tensor) {
	if (!tensor)
		return sli_fail(context, SL_ERR_NULL, "tensor is null");
	*tensor = NULL;
	SL_TRY(sl_dense_check(context, view));
	if (view->order != SL_ROW_MAJOR && view->order != SL_COL_MAJOR)
		return sli_fail(context, SL_ERR_LAYOUT, "panels have no strides: copy to row- or column-major first");
	/* The consumer frees it, possibly long after the context: the C library's memory. */
	exported *e = calloc(1, sizeof *e);
	if (!e)
		return sli_fail_memory(context, sizeof *e, "a DLPack tensor");
	bool across = view->order == SL_ROW_MAJOR;
	e->shape[0] = view->rows;
	e->shape[1] = view->cols;
	e->strides[0] = across ? view->ld : 1;
	e->strides[1] = across ? 1 : view->ld;
	DLTensor *t = &e->tensor.dl_tensor;
	t->data = view->data;
	t->device.device_type = view->device == SL_DEVICE_CUDA ? kDLCUDA : kDLCPU;
	t->device.device_id = view->device_index;
	t->ndim = 2;
	t->dtype.code = view->dtype == SL_BF16 ? kDLBfloat : kDLFloat;
	t->dtype.bits = (uint8_t)(8 * sl_dtype_size(view->dtype));
	t->dtype.lanes = 1;
	t->shape = e->shape;
	t->strides = e->strides;
	e->tensor.manager_ctx = e;
	e->tensor.deleter = delete_exported;
	*tensor = &e->tensor;
	return SL_OK;
}
