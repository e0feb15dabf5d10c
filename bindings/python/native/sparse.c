/* SPDX-License-Identifier: Apache-2.0 */
/* Calls on sparse batches: entries as frameworks list them, brought to rows. */
#include "inside.h"

static inline int64_t at(const void *indices, sl_dtype dtype, int64_t i) {
	return dtype == SL_I64 ? ((const int64_t *)indices)[i] : ((const int32_t *)indices)[i];
}

static void *scratch(slb_function *f, size_t bytes) {
	if (f->scratch_bytes < bytes) {
		free(f->scratch);
		f->scratch_bytes = 0;
		f->scratch = malloc(bytes + bytes / 4);
		if (f->scratch)
			f->scratch_bytes = bytes + bytes / 4;
	}
	return f->scratch;
}

/* Whether each entry is inside, and whether rows come in order; counts them by row. */
static sl_status count_rows(const slb_function *f, const slb_entries *x, int64_t *offsets, bool *as_listed) {
	int64_t in = f->shape.in_features, last = 0;
	*as_listed = true;
	memset(offsets, 0, (size_t)(x->batch + 1) * sizeof *offsets);
	for (int64_t i = 0; i < x->count; i++) {
		int64_t r = at(x->rows, x->index_dtype, i * x->stride), c = at(x->columns, x->index_dtype, i * x->stride);
		if (r < 0 || r >= x->batch || c < 0 || c >= in) {
			if (!x->padded)
				return slb_fail(SL_ERR_STRUCTURE, "entry %lld of x is (%lld, %lld); x is %lld x %lld", (long long)i,
								(long long)r, (long long)c, (long long)x->batch, (long long)in);
			*as_listed = false;
			continue;
		}
		*as_listed &= r >= last;
		last = r;
		offsets[r + 1]++;
	}
	for (int64_t r = 0; r < x->batch; r++)
		offsets[r + 1] += offsets[r];
	return SL_OK;
}

static void move_value(const slb_function *f, const slb_entries *x, void *values, int64_t to, int64_t from) {
	if (f->shape.dtype == SL_F64)
		((double *)values)[to] = ((const double *)x->values)[from];
	else
		((float *)values)[to] = ((const float *)x->values)[from];
}

/* By rows, in their order within a row; `next` begins as the offsets. */
static void sort_by_row(const slb_function *f, const slb_entries *x, int64_t *next, int32_t *columns, void *values) {
	int64_t in = f->shape.in_features;
	for (int64_t i = 0; i < x->count; i++) {
		int64_t r = at(x->rows, x->index_dtype, i * x->stride), c = at(x->columns, x->index_dtype, i * x->stride);
		if (r < 0 || r >= x->batch || c < 0 || c >= in)
			continue;
		int64_t to = next[r]++;
		columns[to] = (int32_t)c;
		move_value(f, x, values, to, i);
	}
}

/* Entries as CSR with int32 columns, in the function's scratch; their values are borrowed where rows come in order. */
static sl_status by_rows(slb_function *f, const slb_entries *x, sl_sparse *view) {
	size_t offsets_bytes = (size_t)(x->batch + 1) * sizeof(int64_t), value = sl_dtype_size(f->shape.dtype);
	if (x->batch < 0 || x->count < 0 || x->count > INT64_MAX / 64)
		return slb_fail(SL_ERR_ARGUMENT, "x has %lld rows and %lld entries", (long long)x->batch, (long long)x->count);
	char *memory = scratch(f, 2 * offsets_bytes + (size_t)x->count * (value + sizeof(int32_t)));
	if (!memory)
		return slb_fail(SL_ERR_MEMORY, "no memory for a batch of %lld entries", (long long)x->count);
	int64_t *offsets = (int64_t *)memory, *next = offsets + x->batch + 1;
	void *values = next + x->batch + 1;
	int32_t *columns = (int32_t *)((char *)values + (size_t)x->count * value);
	bool as_listed;
	SL_TRY(count_rows(f, x, offsets, &as_listed));
	if (as_listed) {
		for (int64_t i = 0; i < x->count; i++)
			columns[i] = (int32_t)at(x->columns, x->index_dtype, i * x->stride);
	} else {
		memcpy(next, offsets, offsets_bytes);
		sort_by_row(f, x, next, columns, values);
	}
	*view = (sl_sparse){.offsets = offsets,
						.offset_dtype = SL_I64,
						.nnz = offsets[x->batch],
						.col_indices = columns,
						.index_dtype = SL_I32,
						.values = as_listed ? x->values : values};
	return SL_OK;
}

static sl_status take(slb_function *f, const slb_entries *x, sl_sparse *view) {
	static const float none;
	if (x->offsets)
		*view = (sl_sparse){.offsets = x->offsets,
							.offset_dtype = x->offset_dtype,
							.nnz = x->count,
							.col_indices = x->columns,
							.index_dtype = x->index_dtype,
							.values = x->values};
	else
		SL_TRY(by_rows(f, x, view));
	if (!view->values)
		view->values = &none; /* NULL would mean ones; there are no entries */
	view->format = SL_SPARSE_CSR;
	view->rows = x->batch;
	view->cols = f->shape.in_features;
	view->dtype = f->shape.dtype;
	return SL_OK;
}

/* slb_enter() and the batch by rows, in parts of *step; NULL where *status says why not. */
static slb_function *enter_with(int64_t number, const slb_entries *x, sl_sparse *X, int64_t *step, sl_status *status) {
	slb_function *f = slb_enter(number);
	*status = f ? take(f, x, X) : SL_ERR_STATE;
	if (f && *status != SL_OK) {
		slb_abandon(f, *status);
		return NULL;
	}
	*step = f ? slb_step(f, X->rows) : 0;
	return f;
}

static sl_sparse part_of(sl_sparse X, int64_t row, int64_t step) {
	return sl_sparse_slice(X, row, X.rows - row < step ? X.rows - row : step);
}

sl_status slb_forward_sparse(int64_t number, const slb_entries *x, const void *values, const void *bias, void *y) {
	sl_sparse X;
	sl_status status;
	int64_t step, row = 0;
	slb_function *f = enter_with(number, x, &X, &step, &status);
	if (!f)
		return status;
	int64_t out = f->shape.out_features;
	do { /* a batch of no rows is checked too */
		sl_sparse part = part_of(X, row, step);
		sl_dense Y = slb_view(f, slb_at_row(f, y, row, out), part.rows, out, 0);
		status = sl_function_forward_sparse(f->runtime->context, f->function, values, bias, &part, &Y);
		row += step;
	} while (status == SL_OK && row < X.rows);
	return slb_leave(f, status);
}

/* For growth by gradient: the batch made dense, once. */
static void capture(slb_function *f, const sl_sparse *X, const sl_dense *Y, const sl_dense *dY) {
	char *to[3];
	size_t size = sl_dtype_size(f->shape.dtype), bytes = (size_t)(dY->rows * dY->cols) * size;
	if (!slb_capture_room(f, X->rows, to))
		return;
	for (int64_t r = 0; r < X->rows; r++)
		for (int64_t k = at(X->offsets, X->offset_dtype, r); k < at(X->offsets, X->offset_dtype, r + 1); k++) {
			int64_t cell = r * X->cols + at(X->col_indices, X->index_dtype, k);
			if (f->shape.dtype == SL_F64)
				((double *)to[0])[cell] += ((const double *)X->values)[k];
			else
				((float *)to[0])[cell] += ((const float *)X->values)[k];
		}
	if (Y->data && bytes)
		memcpy(to[1], Y->data, bytes);
	if (bytes)
		memcpy(to[2], dY->data, bytes);
}

sl_status slb_backward_sparse(int64_t number, const slb_entries *x, const void *y, const void *dy, void *dvalues,
							  int64_t values_count, void *dbias) {
	sl_sparse X;
	sl_status status;
	int64_t step, row = 0;
	slb_function *f = enter_with(number, x, &X, &step, &status);
	if (!f)
		return status;
	int64_t out = f->shape.out_features;
	size_t size = sl_dtype_size(f->shape.dtype);
	if (dvalues && values_count > f->shape.nnz)
		memset((char *)dvalues + (size_t)f->shape.nnz * size, 0, (size_t)(values_count - f->shape.nnz) * size);
	do {
		sl_sparse part = part_of(X, row, step);
		sl_dense Y = slb_view(f, slb_at_row(f, y, row, out), part.rows, out, 0);
		sl_dense dY = slb_view(f, slb_at_row(f, dy, row, out), part.rows, out, 0);
		sl_function_gradients g = {SL_FUNCTION_GRADIENTS,
								   .sparse_X = &part,
								   .Y = &Y,
								   .dY = &dY,
								   .value_gradient = dvalues,
								   .bias_gradient = dbias,
								   .write = row ? SL_ACCUMULATE : SL_OVERWRITE};
		status = sl_function_backward(f->runtime->context, f->function, &g);
		if (f->capture && status == SL_OK)
			capture(f, &part, &Y, &dY);
		row += step;
	} while (status == SL_OK && row < X.rows);
	return slb_leave(f, status);
}
