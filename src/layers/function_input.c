/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A function of sparse inputs: the layer of sparse inputs over the pattern's transpose. Its weights are gathered
 * from the caller's for a call, and its row-sparse gradient is scattered into the caller's array.
 */
#include "core/checked.h"
#include "layers/function.h"
#include "sparse/view.h"

enum { MOVED = 1 << 14, SCATTERED_ROWS = 64 };

void sli_function_drop_input(sl_function *function) {
	sl_function_input *in = &function->input;
	sl_layer *layer = &in->layer;
	layer->bias = layer->bias_gradient = (sl_buffer){0};
	sli_layer_drop_rows(layer);
	sli_buffer_destroy(&layer->gradient);
	sl_pattern_release(in->weights.pattern);
	*in = (sl_function_input){0};
}

/* Once for a pattern: its transpose as a pattern of its own. */
static sl_status make_input(sl_context *context, sl_function *function) {
	sl_function_input *in = &function->input;
	sl_pattern_arrays a;
	if (in->weights.pattern)
		return SL_OK;
	SL_TRY(sl_pattern_transpose(context, function->weights[0].pattern, &a, &in->from, &in->from_dtype));
	SL_TRY(sl_pattern_wrap(&in->weights.pattern, context, a.rows, a.cols, a.nnz, a.row_offsets, a.offset_dtype,
						   a.col_indices, NULL, NULL));
	const sl_layer *model = &function->layers[0];
	in->weights.dtype = model->dtype;
	in->layer = (sl_layer){.heap = function->heap,
						   .name = model->name,
						   .in_features = model->in_features,
						   .out_features = model->out_features,
						   .dtype = model->dtype,
						   .has_bias = model->has_bias,
						   .sparse_inputs = true,
						   .activation = model->activation,
						   .activation_parameter = model->activation_parameter,
						   .weights = &in->weights};
	return SL_OK;
}

static inline int64_t place(const sl_function_input *in, int64_t k) {
	return sli_index(in->from, in->from_dtype, k);
}

typedef struct gathering {
	const sl_function_input *in;
	const void *from;
	void *to;
	int64_t count;
} gathering;

static void gather(void *argument, size_t index) {
	const gathering *g = argument;
	int64_t begin = (int64_t)index * MOVED, end = begin + MOVED < g->count ? begin + MOVED : g->count;
	if (g->in->weights.dtype == SL_F64)
		for (int64_t k = begin; k < end; k++)
			((double *)g->to)[k] = ((const double *)g->from)[place(g->in, k)];
	else
		for (int64_t k = begin; k < end; k++)
			((float *)g->to)[k] = ((const float *)g->from)[place(g->in, k)];
}

static int64_t entries_of(const sl_function_input *in) {
	return sli_pattern_arrays(in->weights.pattern).nnz;
}

static sl_status weights_of(sl_context *context, sl_function_input *in, const void *values) {
	gathering g = {in, values, NULL, entries_of(in)};
	SL_TRY(sli_arena_take(context, (size_t)g.count * sl_dtype_size(in->weights.dtype), &g.to));
	sli_parallel(context, (size_t)sli_ceil_div(g.count, MOVED), gather, &g);
	in->weights.values = g.to;
	return SL_OK;
}

static sl_status forward(sl_context *context, sl_function *function, sl_function_call *call, const sl_sparse *x) {
	SL_TRY(make_input(context, function));
	sl_function_input *in = &function->input;
	SL_TRY(weights_of(context, in, call->values));
	in->layer.bias.data = (void *)call->bias;
	sl_status status = sli_layer_forward_sparse(context, &in->layer, x, &call->y, NULL);
	in->layer.bias.data = in->weights.values = NULL;
	return status;
}

sl_status sli_function_forward_sparse(sl_context *context, sl_function *function, sl_function_call *call,
									  const sl_sparse *x) {
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = forward(context, function, call, x);
	sli_arena_reset(context, mark);
	return status;
}

/* A task's share of the rows that the batch has a gradient for. */
typedef struct scattering {
	const sl_function_input *in;
	sl_pattern_arrays a;
	void *to;
	bool add;
} scattering;

static void scatter(void *argument, size_t index) {
	const scattering *s = argument;
	const sl_row_gradient *rows = &s->in->layer.rows;
	const int32_t *row = rows->columns.data;
	const int64_t *starts = rows->starts.data;
	const void *from = s->in->layer.gradient.data;
	int64_t first = (int64_t)index * SCATTERED_ROWS;
	for (int64_t i = first; i < first + SCATTERED_ROWS && i < rows->count; i++) {
		int64_t entry = sli_index(s->a.row_offsets, s->a.offset_dtype, row[i]);
		for (int64_t k = starts[i]; k < starts[i + 1]; k++, entry++) {
			int64_t at = place(s->in, entry);
			if (s->in->weights.dtype == SL_F64)
				((double *)s->to)[at] = ((const double *)from)[k] + (s->add ? ((double *)s->to)[at] : 0);
			else
				((float *)s->to)[at] = ((const float *)from)[k] + (s->add ? ((float *)s->to)[at] : 0);
		}
	}
}

static void clear_piece(void *argument, size_t index) {
	const gathering *g = argument;
	size_t size = sl_dtype_size(g->in->weights.dtype), begin = index * MOVED;
	size_t count = (size_t)g->count - begin < MOVED ? (size_t)g->count - begin : MOVED;
	memset((char *)g->to + begin * size, 0, count * size);
}

/* The layer's gradient, which lists the rows that the batch has entries for, to all of the caller's. */
static void hand_out(sl_context *context, const sl_function_input *in, const sl_function_call *call) {
	scattering s = {in, sli_pattern_arrays(in->weights.pattern), call->value_gradient, call->write == SL_ACCUMULATE};
	gathering whole = {in, NULL, call->value_gradient, s.a.nnz};
	if (!s.add)
		sli_parallel(context, (size_t)sli_ceil_div(s.a.nnz, MOVED), clear_piece, &whole);
	sli_parallel(context, (size_t)sli_ceil_div(in->layer.rows.count, SCATTERED_ROWS), scatter, &s);
}

/* The output as the layer would have kept it. */
static sl_status output_rows(sl_context *context, const sl_layer *layer, const sl_dense *y, sl_dense *rows) {
	size_t bytes;
	int64_t count;
	*rows = *y;
	if (layer->activation == SL_IDENTITY || y->order == SL_ROW_MAJOR)
		return SL_OK;
	if (!sli_mul(y->rows, y->cols, &count) || !sli_bytes(count, sl_dtype_size(y->dtype), &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "a batch of %lld rows does not fit in memory", (long long)y->rows);
	SL_TRY(sli_arena_take(context, bytes, &rows->data));
	rows->order = SL_ROW_MAJOR;
	rows->ld = y->cols > 0 ? y->cols : 1;
	return sli_convert(context, y, rows);
}

static sl_status backward(sl_context *context, sl_function *function, sl_function_call *call, const sl_sparse *x) {
	SL_TRY(make_input(context, function));
	sl_function_input *in = &function->input;
	sl_layer *layer = &in->layer;
	sl_saved saved = {.max_batch = x->rows, .layer = layer};
	size_t bytes = 0;
	void *memory = NULL;
	int64_t entries = sli_sparse_entries(x);
	if (!sli_sparse_batch_bytes(x, entries, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld entries of X do not fit in memory", (long long)entries);
	if (bytes)
		SL_TRY(sli_arena_take(context, bytes, &memory));
	sli_sparse_batch(x, entries, memory, &saved.batch);
	SL_TRY(output_rows(context, layer, &call->y, &saved.kept));
	layer->bias_gradient = (sl_buffer){.device = sli_device(context), .data = call->bias_gradient};
	if (!call->bias_gradient && layer->has_bias)
		SL_TRY(sli_arena_take(context, (size_t)layer->out_features * sl_dtype_size(layer->dtype),
							  &layer->bias_gradient.data));
	layer->rows.count = 0; /* of the weights only what this batch has; the bias is added to as `write` says */
	sl_status status = sli_layer_backward_sparse(context, layer, &saved, &call->dy, call->write, NULL);
	layer->bias_gradient = (sl_buffer){0};
	if (status == SL_OK && call->value_gradient)
		hand_out(context, in, call);
	return status;
}

sl_status sli_function_backward_sparse(sl_context *context, sl_function *function, sl_function_call *call,
									   const sl_sparse *x) {
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = backward(context, function, call, x);
	sli_arena_reset(context, mark);
	return status;
}
