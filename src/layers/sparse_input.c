/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of sparse inputs: forward, backward and the row-sparse gradient. W is [in, out]. Matrices over the batch are
 * [batch, out] and row-major here, unlike in the other layers: an entry of X adds a row of W to a row of Y. */
#include "layers/linear.h"

#include "core/checked.h"
#include "sparse/view.h"

sl_status sli_check_layer_input(sl_context *context, const sl_layer *layer, const sl_sparse *x, const char *name) {
	if (!layer->sparse_inputs)
		return sli_fail(context, SL_ERR_STATE, "layer \"%s\" takes dense inputs; make it with sparse_inputs",
						layer->name);
	SL_TRY(sli_check_sparse(context, x, name, layer->dtype));
	if (x->cols != layer->in_features)
		return sli_fail(context, SL_ERR_SHAPE, "%s has %lld columns; layer \"%s\" has %lld inputs", name,
						(long long)x->cols, layer->name, (long long)layer->in_features);
	return SL_OK;
}

static sl_pattern *pattern_of(const sl_layer *layer) {
	return layer->dense ? NULL : layer->weights->pattern;
}

/* W as the ops take it. */
static sl_dense weights_of(sl_context *context, const sl_layer *layer) {
	sl_dense w = sli_panels(context, layer->dense ? layer->dense_weights.data : NULL, layer->dtype, layer->in_features,
							layer->out_features, layer->out_features > 0 ? layer->out_features : 1);
	w.order = SL_ROW_MAJOR;
	return w;
}

static sl_dense row_major(sl_context *context, void *data, const sl_layer *layer, int64_t batch) {
	sl_dense view = sli_panels(context, data, layer->dtype, batch, layer->out_features,
							   layer->out_features > 0 ? layer->out_features : 1);
	view.order = SL_ROW_MAJOR;
	return view;
}

static sl_status output_bytes(sl_context *context, const sl_layer *layer, int64_t batch, size_t *bytes) {
	int64_t count;
	if (!sli_mul(batch, layer->out_features, &count) || !sli_bytes(count, sl_dtype_size(layer->dtype), bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld outputs of a batch of %lld do not fit in memory",
						(long long)layer->out_features, (long long)batch);
	return SL_OK;
}

/* [batch, out] in scratch. */
static sl_status take_rows(sl_context *context, const sl_layer *layer, int64_t batch, sl_dense *view) {
	size_t bytes = 0;
	void *data;
	SL_TRY(output_bytes(context, layer, batch, &bytes));
	SL_TRY(sli_arena_take(context, bytes, &data));
	*view = row_major(context, data, layer, batch);
	return SL_OK;
}

static sl_status keep_rows(sl_context *context, const sl_layer *layer, int64_t batch, sl_saved *saved, sl_dense *view) {
	size_t bytes = 0;
	SL_TRY(output_bytes(context, layer, batch, &bytes));
	SL_TRY(sli_saved_room(context, &saved->output, bytes));
	*view = row_major(context, saved->output.data, layer, batch);
	return SL_OK;
}

/* X as rows: borrowed, or in `saved`, or in scratch. */
static sl_status take_batch(sl_context *context, const sl_sparse *x, sl_saved *saved, sl_sparse_batch *batch) {
	size_t bytes = 0;
	void *memory = NULL;
	int64_t entries = sli_sparse_entries(x);
	if (!sli_sparse_batch_bytes(x, entries, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld entries of X do not fit in memory", (long long)entries);
	if (bytes && saved) {
		SL_TRY(sli_saved_room(context, &saved->input, bytes));
		memory = saved->input.data;
	} else if (bytes) {
		SL_TRY(sli_arena_take(context, bytes, &memory));
	}
	sli_sparse_batch(x, entries, memory, batch);
	return SL_OK;
}

void sli_layer_describe_input(sl_context *context, const sl_layer *layer, int64_t batch, sl_op_desc *desc) {
	sl_dense w = weights_of(context, layer), y = row_major(context, NULL, layer, batch);
	*desc = (sl_op_desc){.kind = SL_OP_INPUT,
						 .a = {.rows = batch, .cols = layer->in_features, .dtype = layer->dtype},
						 .b = sli_desc(&w),
						 .c = sli_desc(&y),
						 .activation = layer->activation,
						 .activation_parameter = layer->activation_parameter,
						 .bias = layer->has_bias};
}

static sl_status product(sl_context *context, const sl_layer *layer, const sl_sparse_batch *batch, const sl_dense *out,
						 const sl_dense *pre) {
	sl_op_desc desc;
	sl_op_args args = {.alpha = 1,
					   .b = weights_of(context, layer),
					   .c = *out,
					   .bias = layer->has_bias ? layer->bias.data : NULL,
					   .batch = batch};
	sli_layer_describe_input(context, layer, batch->rows, &desc);
	if (pre->rows) {
		args.d = *pre;
		desc.pre_activation = true;
	}
	if (!layer->dense)
		args.values = layer->weights->values;
	return sli_run_sparse(context, NULL, &desc, pattern_of(layer), &args);
}

static sl_status forward(sl_context *context, const sl_layer *layer, const sl_sparse *x, sl_dense *y, sl_saved *saved) {
	sl_sparse_batch batch;
	sl_dense out = *y, pre = {0};
	bool keeps = saved && layer->activation != SL_IDENTITY, input = sl_activation_saves_input(layer->activation);
	SL_TRY(take_batch(context, x, saved, &batch));
	if (keeps && input)
		SL_TRY(keep_rows(context, layer, x->rows, saved, &pre));
	if (keeps && !input)
		SL_TRY(keep_rows(context, layer, x->rows, saved, &out));
	else if (y->order != SL_ROW_MAJOR)
		SL_TRY(take_rows(context, layer, x->rows, &out));
	SL_TRY(product(context, layer, &batch, &out, &pre));
	if (out.data != y->data)
		SL_TRY(sli_convert(context, &out, y));
	if (saved) {
		saved->batch = batch;
		saved->x = (sl_dense){.rows = layer->in_features, .cols = x->rows, .ld = 1};
		saved->kept = !keeps ? (sl_dense){0} : input ? pre : out;
		saved->layer = layer;
		saved->edition = layer->edition;
	}
	return SL_OK;
}

sl_status sli_layer_forward_sparse(sl_context *context, const sl_layer *layer, const sl_sparse *x, sl_dense *y,
								   sl_saved *saved) {
	sl_arena_mark mark = sli_arena_mark(context);
	if (saved)
		saved->layer = NULL;
	sl_status status = forward(context, layer, x, y, saved);
	sli_arena_reset(context, mark);
	return status;
}

/* dZ = dY * act'(kept), [batch, out] row-major. */
static sl_status activation_gradient(sl_context *context, const sl_layer *layer, const sl_saved *saved,
									 const sl_dense *dy, sl_dense *dz) {
	sl_dense rows = *dy;
	if (dy->order != SL_ROW_MAJOR) {
		SL_TRY(take_rows(context, layer, dy->rows, &rows));
		SL_TRY(sli_convert(context, dy, &rows));
	}
	*dz = rows;
	if (layer->activation == SL_IDENTITY)
		return SL_OK;
	if (rows.data == dy->data) /* dy is not ours to change */
		SL_TRY(take_rows(context, layer, dy->rows, dz));
	sl_op_desc desc = {.kind = SL_OP_ACTIVATION_GRAD,
					   .a = sli_desc(&saved->kept),
					   .b = sli_desc(&rows),
					   .c = sli_desc(dz),
					   .activation = layer->activation,
					   .activation_parameter = layer->activation_parameter};
	sl_op_args args = {.a = saved->kept, .b = rows, .c = *dz};
	return sli_run(context, &desc, &args);
}

static sl_status take_groups(sl_context *context, int64_t nnz, sl_sparse_groups *g) {
	size_t narrow = (size_t)nnz * sizeof(int32_t), wide = (size_t)(nnz + 1) * sizeof(int64_t);
	*g = (sl_sparse_groups){0};
	SL_TRY(sli_arena_take(context, narrow, (void **)&g->columns));
	SL_TRY(sli_arena_take(context, wide, (void **)&g->row_starts));
	SL_TRY(sli_arena_take(context, wide, (void **)&g->starts));
	SL_TRY(sli_arena_take(context, narrow, (void **)&g->samples));
	return sli_arena_take(context, wide, &g->values);
}

static sl_status group(sl_context *context, const sl_layer *layer, const sl_sparse_batch *batch, sl_sparse_groups *g) {
	sl_dense w = weights_of(context, layer);
	sl_op_desc desc = {.kind = SL_OP_INPUT_GROUP,
					   .a = {.rows = batch->rows, .cols = batch->cols, .dtype = layer->dtype},
					   .b = sli_desc(&w),
					   .count = batch->nnz};
	sl_op_args args = {.batch = batch, .groups = g};
	return sli_run_sparse(context, NULL, &desc, pattern_of(layer), &args);
}

/* Room that grows by a little more than is asked for, since batches differ. */
static sl_status grow(sl_context *context, sl_buffer *buffer, size_t bytes) {
	return buffer->device && buffer->bytes >= bytes ? SL_OK : sli_saved_room(context, buffer, bytes + bytes / 8);
}

static sl_status room_for_rows(sl_context *context, sl_row_gradient *rows, sl_buffer *values, int64_t count,
							   int64_t elements, sl_dtype dtype) {
	SL_TRY(grow(context, &rows->columns, (size_t)count * sizeof(int32_t)));
	SL_TRY(grow(context, &rows->starts, (size_t)(count + 1) * sizeof(int64_t)));
	return grow(context, values, (size_t)elements * sl_dtype_size(dtype));
}

/* The rows of two gradients, and a task's share of copying the one that is there. */
typedef struct merge {
	const sl_layer *layer;
	sl_row_gradient *to;
	char *values;
	const int64_t *from; /* for each row of `to` where it begins in the layer's gradient; -1: not there */
	size_t size;
} merge;

enum { MERGED_ROWS = 64 };

static void merge_rows(void *argument, size_t index) {
	const merge *m = argument;
	const int64_t *starts = m->to->starts.data;
	int64_t begin = (int64_t)index * MERGED_ROWS, end = begin + MERGED_ROWS;
	for (int64_t i = begin; i < end && i < m->to->count; i++) {
		size_t bytes = (size_t)(starts[i + 1] - starts[i]) * m->size;
		char *to = m->values + (size_t)starts[i] * m->size;
		if (m->from[i] < 0)
			memset(to, 0, bytes);
		else
			memcpy(to, (const char *)m->layer->gradient.data + (size_t)m->from[i] * m->size, bytes);
	}
}

/* List the rows of both: in to's arrays, from[] as above; g's row_starts become where its rows are in the result. */
static int64_t list_both(const sl_row_gradient *old, sl_sparse_groups *g, int32_t *columns, int64_t *starts,
						 int64_t *from) {
	const int32_t *a = old->columns.data;
	const int64_t *a_starts = old->starts.data;
	int64_t i = 0, k = 0, n = 0, at = 0, g_next = g->row_starts[0];
	while (i < old->count || k < g->count) {
		bool has_old = i < old->count && (k == g->count || a[i] <= g->columns[k]);
		bool has_new = k < g->count && (i == old->count || g->columns[k] <= a[i]);
		int64_t length = 0;
		columns[n] = has_old ? a[i] : g->columns[k];
		starts[n] = at;
		from[n] = has_old ? a_starts[i] : -1;
		if (has_old) {
			length = a_starts[i + 1] - a_starts[i];
			i++;
		}
		if (has_new) {
			int64_t begin = g_next;
			g_next = g->row_starts[k + 1];
			length = g_next - begin;
			g->row_starts[k++] = at;
		}
		at += length;
		n++;
	}
	starts[n] = at;
	return n;
}

/* The layer's gradient with rows for g's columns as well, zero where it had none. */
static sl_status add_rows(sl_context *context, sl_layer *layer, sl_sparse_groups *g) {
	int64_t most = layer->rows.count + g->count, *from;
	int64_t elements = ((const int64_t *)layer->rows.starts.data)[layer->rows.count] + g->row_starts[g->count];
	SL_TRY(room_for_rows(context, &layer->spare_rows, &layer->spare_gradient, most, elements, layer->dtype));
	SL_TRY(sli_arena_take(context, (size_t)most * sizeof *from, (void **)&from));
	sl_row_gradient *to = &layer->spare_rows;
	to->count = list_both(&layer->rows, g, to->columns.data, to->starts.data, from);
	merge m = {layer, to, layer->spare_gradient.data, from, sl_dtype_size(layer->dtype)};
	sli_parallel(context, (size_t)sli_ceil_div(to->count, MERGED_ROWS), merge_rows, &m);
	sl_row_gradient rows = layer->rows;
	sl_buffer gradient = layer->gradient;
	layer->rows = *to;
	layer->gradient = layer->spare_gradient;
	layer->spare_rows = rows;
	layer->spare_gradient = gradient;
	return SL_OK;
}

sl_status sli_layer_set_rows(sl_context *context, sl_layer *layer, int64_t count, const int32_t *columns,
							 const int64_t *starts) {
	layer->rows.count = 0;
	SL_TRY(room_for_rows(context, &layer->rows, &layer->gradient, count, starts[count], layer->dtype));
	if (count)
		memcpy(layer->rows.columns.data, columns, (size_t)count * sizeof *columns);
	memcpy(layer->rows.starts.data, starts, (size_t)(count + 1) * sizeof *starts);
	layer->rows.count = count;
	return SL_OK;
}

static sl_status new_rows(sl_context *context, sl_layer *layer, const sl_sparse_groups *g) {
	return sli_layer_set_rows(context, layer, g->count, g->columns, g->row_starts);
}

static sl_status parameter_gradients(sl_context *context, sl_layer *layer, const sl_dense *dz, sl_sparse_groups *g,
									 bool add_weights, double beta) {
	sl_dense w = weights_of(context, layer);
	sl_op_desc desc = {
		.kind = SL_OP_INPUT_GRAD, .a = sli_desc(dz), .b = sli_desc(&w), .bias = layer->has_bias, .count = g->count};
	sl_op_args args = {.alpha = add_weights ? 1 : 0,
					   .beta = beta,
					   .a = *dz,
					   .values_out = layer->gradient.data,
					   .bias_gradient = layer->has_bias ? layer->bias_gradient.data : NULL,
					   .groups = g};
	return sli_run_sparse(context, NULL, &desc, pattern_of(layer), &args);
}

static sl_status backward(sl_context *context, sl_layer *layer, const sl_saved *saved, const sl_dense *dy,
						  sl_write write, const sl_gradient_watch *watch) {
	sl_dense dz;
	sl_sparse_groups g;
	SL_TRY(activation_gradient(context, layer, saved, dy, &dz));
	if (watch)
		SL_TRY(watch->see_sparse(watch->self, context, layer, &dz, &saved->batch));
	SL_TRY(take_groups(context, saved->batch.nnz, &g));
	SL_TRY(group(context, layer, &saved->batch, &g));
	bool add = write == SL_ACCUMULATE && layer->rows.count;
	SL_TRY(add ? add_rows(context, layer, &g) : new_rows(context, layer, &g));
	return parameter_gradients(context, layer, &dz, &g, add, write == SL_ACCUMULATE ? 1 : 0);
}

sl_status sli_layer_backward_sparse(sl_context *context, sl_layer *layer, sl_saved *saved, const sl_dense *dy,
									sl_write write, const sl_gradient_watch *watch) {
	SL_TRY(sli_layer_make_gradients(context, layer));
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = backward(context, layer, saved, dy, write, watch);
	sli_arena_reset(context, mark);
	return status;
}

sl_status sli_layer_watch_sparse(sl_context *context, const sl_layer *layer, const sl_saved *saved, const sl_dense *dy,
								 const sl_gradient_watch *watch) {
	sl_dense dz;
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = activation_gradient(context, layer, saved, dy, &dz);
	if (status == SL_OK)
		status = watch->see_sparse(watch->self, context, layer, &dz, &saved->batch);
	sli_arena_reset(context, mark);
	return status;
}

void sli_layer_drop_rows(sl_layer *layer) {
	sl_buffer *buffers[] = {&layer->rows.columns, &layer->rows.starts, &layer->spare_rows.columns,
							&layer->spare_rows.starts, &layer->spare_gradient};
	for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
		sli_buffer_destroy(buffers[i]);
	layer->rows.count = layer->spare_rows.count = 0;
}
