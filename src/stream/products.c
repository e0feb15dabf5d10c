/* SPDX-License-Identifier: Apache-2.0 */
/* Products with a streamed matrix: operands packed, chunks run through the backend's ops, results put where they go. */
#include <string.h>

#include "core/checked.h"
#include "core/host.h"
#include "core/profile.h"
#include "stream/ring.h"

/* One product under way. Views are in op orientation. */
typedef struct job {
	sl_context *context;
	sl_source *source;
	sl_op_plan plan;
	sl_op_args args;
	bool planned;
	int64_t width, n; /* columns of the batch that this pass works on */
	size_t size;
	/* Forward: where the result goes, and panels of a chunk for a C that has none. */
	sl_dense c, d;
	bool c_panels;
	double beta;
	const char *bias;
	char *scratch, *scratch_d;
	/* Backward. */
	const sl_stream_backward *what;
	sl_dense dz;
	bool dz_panels;
	char *gradient;
} job;

static bool usual(int64_t width) {
	return width == 1 || width == 8 || width == 16 || width == 32 || width == 64;
}

static bool in_panels(const sl_dense *view, int64_t width) {
	return view->order == SL_COL_PANELS && view->ld == width;
}

/* Rows [first, first + rows) and columns [from, from + cols) of a row- or column-major view. */
static sl_dense part(const sl_dense *view, int64_t first, int64_t rows, int64_t from, int64_t cols) {
	sl_dense p = *view;
	int64_t at = view->order == SL_ROW_MAJOR ? first * view->ld + from : from * view->ld + first;
	p.data = (char *)view->data + (size_t)at * sl_dtype_size(view->dtype);
	p.rows = rows;
	p.cols = cols;
	return p;
}

/* Panels of the whole matrix, seen from a row on: see SL_OP_CHUNK_SPMM. */
static sl_dense shifted(const sl_dense *view, int64_t row) {
	sl_dense p = *view;
	p.data = (char *)view->data + (size_t)(row * view->ld) * sl_dtype_size(view->dtype);
	return p;
}

static size_t panel_span(int64_t rows, int64_t n, int64_t width, size_t size) {
	return (size_t)(sli_ceil_div(n, width) * width * rows) * size;
}

/* Rows of a whole view to panels of a chunk, or back. Panels of two widths meet in stretches of the smaller one. */
static sl_status convert_rows(job *j, const sl_dense *whole, int64_t first, sl_dense *panels, bool back) {
	sl_device_state *state = sli_device(j->context);
	if (whole->order != SL_COL_PANELS) {
		sl_dense rows = part(whole, first, panels->rows, 0, panels->cols);
		return back ? sli_convert(j->context, panels, &rows) : sli_convert(j->context, &rows, panels);
	}
	int64_t wide = panels->ld, narrow = whole->ld, step = wide < narrow ? wide : narrow;
	if (!back && panels->cols % wide)
		SL_TRY(state->backend->fill(state->device, panels->data, 0,
									panel_span(panels->rows, panels->cols, wide, j->size)));
	for (int64_t c = 0; c < panels->cols; c += step) {
		sl_dense from = {.dtype = whole->dtype,
						 .order = SL_ROW_MAJOR,
						 .device = whole->device,
						 .rows = panels->rows,
						 .cols = panels->cols - c < step ? panels->cols - c : step};
		sl_dense to = from;
		from.ld = narrow;
		from.data = (char *)whole->data + (size_t)((c / narrow * whole->rows + first) * narrow + c % narrow) * j->size;
		to.ld = wide;
		to.data = (char *)panels->data + (size_t)(c / wide * panels->rows * wide + c % wide) * j->size;
		SL_TRY(back ? sli_convert(j->context, &to, &from) : sli_convert(j->context, &from, &to));
	}
	return SL_OK;
}

static sl_stream_demand demand_of(const sl_source *source, const sl_stream_options *options, bool host, int64_t batch,
								  int arrays, size_t entry_bytes, bool writes) {
	/* A larger batch keeps a chunk busy for several times as long as the next one takes to read. */
	enum { FEW = 512 };
	sl_stream_demand d = {.rows = source->rows,
						  .cols = source->cols,
						  .nnz = source->nnz,
						  .piece = source->piece,
						  .arrays = arrays,
						  .slots = options->slots ? options->slots
								   : writes       ? 4
								   : batch > FEW  ? 2
												  : 3};
	/* A chunk reads the whole dense operand, so with a large batch, which keeps a chunk busy, large ones pay; with a
	 * small one the first and the last, which nothing overlaps, should be short. Four arrays share a step's slot. */
	size_t most = options->slot_bytes       ? options->slot_bytes
				  : batch <= 128 && !writes ? (size_t)32 << 20
				  : batch > FEW && !writes  ? (size_t)128 << 20
											: (size_t)64 << 20;
	bool memory = source->offsets.memory && !writes;
	d.most_entries = (int64_t)(most / entry_bytes) + 1;
	d.entry_bytes = memory && host ? 0 : entry_bytes;
	d.slots = memory && host ? 2 : d.slots;
	d.fixed = 80 << 10; /* the arena's least, the ring and odd bytes */
	if (!memory) {
		int64_t offsets = source->rows + 1 < SL_WINDOW_OFFSETS ? source->rows + 1 : SL_WINDOW_OFFSETS;
		d.fixed += (size_t)offsets * 8 + (size_t)(5 + arrays) * SL_BLOCK;
	}
	return d;
}

/* The workspace of a chunk's op. */
typedef struct asked {
	sl_context *context;
	sl_op_desc *desc;
	sl_op_plan plan;
} asked;

static sl_status ask(asked *a, int64_t rows, int64_t entries) {
	sl_device_state *state = sli_device(a->context);
	a->desc->sparse.arrays.rows = rows;
	a->desc->sparse.arrays.nnz = entries;
	SL_TRY(state->backend->plan(state->device, a->desc, &a->plan));
	state->backend->destroy(state->device, &a->plan);
	return SL_OK;
}

static size_t workspace_of(void *user, int64_t rows, int64_t entries) {
	asked *a = user;
	return ask(a, rows, entries) == SL_OK ? a->plan.workspace : SIZE_MAX / 4;
}

static sl_status plan_job(job *j, sl_op_desc *desc, const sl_stream_sizes *sizes) {
	sl_device_state *state = sli_device(j->context);
	desc->sparse.arrays.rows = sizes->rows;
	desc->sparse.arrays.nnz = sizes->entries;
	SL_TRY(state->backend->plan(state->device, desc, &j->plan));
	j->planned = true;
	return j->plan.workspace ? sli_arena_take(j->context, j->plan.workspace, &j->args.workspace) : SL_OK;
}

static void drop_plan(job *j) {
	sl_device_state *state = sli_device(j->context);
	if (j->planned)
		state->backend->destroy(state->device, &j->plan);
	j->planned = false;
}

static sl_status execute(job *j) {
	sl_device_state *state = sli_device(j->context);
	return state->backend->execute(state->device, &j->plan, &j->args);
}

/* ---- forward ---- */

static sl_status forward_chunk(sl_pass *pass, sl_slot *slot, const sl_chunk *chunk) {
	job *j = pass->user;
	bool pre = j->plan.desc.pre_activation, out = chunk->ends && pre;
	j->args.chunk = chunk;
	j->args.beta = slot->begins ? j->beta : 1;
	j->args.bias = j->bias ? j->bias + (size_t)slot->first_row * j->size : NULL;
	if (j->c_panels) {
		j->args.c = shifted(&j->c, slot->first_row);
		if (pre)
			j->args.d = shifted(&j->d, slot->first_row);
		return execute(j);
	}
	j->args.c = sli_panels(j->context, j->scratch, j->c.dtype, slot->rows, j->n, j->width);
	if (j->args.beta != 0)
		SL_TRY(convert_rows(j, &j->c, slot->first_row, &j->args.c, false));
	if (pre)
		j->args.d = sli_panels(j->context, j->scratch_d, j->d.dtype, slot->rows, j->n, j->width);
	SL_TRY(execute(j));
	if (out)
		SL_TRY(convert_rows(j, &j->d, slot->first_row, &j->args.d, true));
	return convert_rows(j, &j->c, slot->first_row, &j->args.c, true);
}

static sl_status check_rows(sl_context *context, const sl_dense *view, const char *name) {
	if (view->order == SL_ROW_MAJOR || view->order == SL_COL_MAJOR || (view->order == SL_COL_PANELS && usual(view->ld)))
		return SL_OK;
	return sli_fail(context, SL_ERR_LAYOUT,
					"%s is in panels of %lld %s; a streamed product takes row- or column-major, or panels of 1, 8, "
					"16, 32 or 64 columns",
					name, (long long)view->ld, view->order == SL_COL_PANELS ? "columns" : "rows");
}

static int64_t pass_bytes(const sl_source *source, int arrays) {
	return source->nnz * (int64_t)(sizeof(int32_t) + (size_t)(arrays - 1) * sl_dtype_size(source->dtype));
}

/* Columns [from, from + n) of the batch. */
static sl_status forward_part(job *j, sl_pass *pass, sl_op_desc *desc, const sl_dense *B, const sl_dense *C,
							  const sl_epilogue *epilogue, int64_t from, int64_t n, char *packed) {
	bool all = n == B->cols;
	j->n = n;
	j->c = j->c_panels || all ? *C : part(C, 0, C->rows, from, n);
	if (epilogue->pre_activation)
		j->d = j->c_panels || all ? *epilogue->pre_activation : part(epilogue->pre_activation, 0, C->rows, from, n);
	j->args.b = *B;
	if (packed) {
		sl_dense source = all ? *B : part(B, 0, B->rows, from, n);
		j->args.b = sli_panels(j->context, packed, B->dtype, B->rows, n, j->width);
		SL_TRY(sli_convert(j->context, &source, &j->args.b));
	}
	if (j->c_panels && !all) { /* panels of the result lie one behind the other */
		size_t at = (size_t)(from / j->width * j->width * C->rows) * j->size;
		j->c.data = (char *)C->data + at;
		j->c.cols = n;
		if (epilogue->pre_activation) {
			j->d.data = (char *)epilogue->pre_activation->data + at;
			j->d.cols = n;
		}
	}
	sl_arena_mark mark = sli_arena_mark(j->context);
	sl_status status = plan_job(j, desc, &pass->sizes);
	size_t scratch = panel_span(pass->sizes.rows, n, j->width, j->size);
	if (status == SL_OK && !j->c_panels)
		status = sli_arena_take(j->context, scratch, (void **)&j->scratch);
	if (status == SL_OK && !j->c_panels && epilogue->pre_activation)
		status = sli_arena_take(j->context, scratch, (void **)&j->scratch_d);
	if (status == SL_OK)
		status = sli_pass_run(pass);
	drop_plan(j);
	sli_arena_reset(j->context, mark);
	return status;
}

/* `least` not NULL: only tell how many bytes the smallest chunks take. */
static sl_status spmm(sl_context *context, double alpha, sl_source *source, const sl_dense *B, double beta,
					  const sl_dense *C, const sl_epilogue *epilogue, int64_t planned, const sl_stream_options *options,
					  sl_stream_report *report, size_t *least) {
	bool host = sli_on_host(sli_device(context));
	size_t size = sl_dtype_size(B->dtype);
	job j = {.context = context, .source = source, .args = {.alpha = alpha}, .beta = beta, .size = size};
	sl_op_desc desc = {.kind = SL_OP_CHUNK_SPMM,
					   .a = {.rows = source->rows, .cols = source->cols, .dtype = source->dtype},
					   .b = sli_desc(B),
					   .c = sli_desc(C),
					   .activation = epilogue->activation,
					   .activation_parameter = epilogue->parameter,
					   .bias = epilogue->bias != NULL,
					   .pre_activation = epilogue->pre_activation != NULL,
					   .whole_rows = source->rows,
					   .whole_nnz = source->nnz};
	asked a = {.context = context, .desc = &desc};
	if (planned > B->cols)
		desc.b.cols = desc.c.cols = planned;
	SL_TRY(check_rows(context, C, "C"));
	desc.sparse.arrays.cols = source->cols;
	SL_TRY(sli_check_dtypes(context, &desc));
	SL_TRY(ask(&a, 1, 1));
	j.width = a.plan.desc.chunk_width;
	j.bias = epilogue->bias;
	j.c_panels = in_panels(C, j.width);
	if (!B->cols || !C->rows)
		return SL_OK;
	/* The batch is done in parts of whole panels, or of as many as the product takes together. */
	int64_t step = a.plan.desc.chunk_batch, parts = sli_ceil_div(B->cols, step);
	bool pack = !in_panels(B, j.width);
	sl_stream_demand d = demand_of(source, options, host, B->cols, 2, sizeof(int32_t) + size, false);
	size_t for_row = j.c_panels ? 0 : (size_t)step * size * (desc.pre_activation ? 2 : 1), available;
	d.workspace = workspace_of;
	d.user = &a;
	d.row_bytes = for_row * (size_t)parts;
	d.panels = parts;
	d.panel_bytes = pack ? (size_t)(B->rows * step) * size : 0;
	d.all_panels =
		!pack || (B->order != SL_ROW_MAJOR && B->order != SL_COL_MAJOR) || (C->order == SL_COL_PANELS && !j.c_panels);
	available = sli_stream_available(context, options);
	sl_pass pass = {.context = context,
					.source = source,
					.disk = source->disk,
					.array = {{.from = source->columns,
							   .size = sizeof(int32_t),
							   .sums_from = source->column_sums,
							   .first_sum = source->first_column_sum},
							  {.from = source->values, .size = size, .sums_from = source->value_sums}},
					.arrays = 2,
					.report = report,
					.options = options,
					.compute = forward_chunk,
					.user = &j,
					.began = sli_seconds()};
	/* A part of the batch needs less room for its results: look again. */
	(void)sli_stream_size(&d, least ? 1 : available, &pass.sizes);
	if (least) {
		*least = pass.sizes.bytes;
		return SL_OK;
	}
	d.row_bytes = for_row * (size_t)pass.sizes.panels;
	d.panels = d.all_panels ? parts : pass.sizes.panels;
	d.all_panels = true;
	sl_buffer packed = {0};
	sl_status status = sli_pass_open(&pass, &d, available);
	int64_t held = d.panels;
	if (status == SL_OK && pack)
		status = sli_buffer_create(&packed, context, (size_t)held * d.panel_bytes, false, "the packed operand");
	pass.cut_columns = a.plan.desc.chunk_columns;
	pass.total_bytes = sli_ceil_div(parts, held) * pass_bytes(source, 2);
	for (int64_t p = 0; p < parts && status == SL_OK; p += held) {
		int64_t from = p * step, end = (p + held) * step;
		status =
			forward_part(&j, &pass, &desc, B, C, epilogue, from, (end < B->cols ? end : B->cols) - from, packed.data);
	}
	sli_buffer_destroy(&packed);
	sli_pass_close(&pass);
	report->seconds += sli_seconds() - pass.began;
	return status;
}

sl_status sli_stream_spmm(sl_context *context, double alpha, sl_source *source, const sl_dense *B, double beta,
						  const sl_dense *C, const sl_epilogue *epilogue, int64_t planned,
						  const sl_stream_options *options, sl_stream_report *report) {
	return spmm(context, alpha, source, B, beta, C, epilogue, planned, options, report, NULL);
}

sl_status sli_stream_spmm_least(sl_context *context, sl_source *source, const sl_dense *B, const sl_dense *C,
								const sl_epilogue *epilogue, const sl_stream_options *options, size_t *least) {
	return spmm(context, 1, source, B, 0, C, epilogue, 0, options, NULL, least);
}

/* ---- backward ---- */

static sl_status update_chunk(job *j, const sl_slot *slot, char *const *data) {
	const sl_stream_backward *w = j->what;
	sl_op_desc desc = {.kind = SL_OP_UPDATE, .variant = w->kind, .a.dtype = j->source->dtype, .count = slot->entries};
	sl_op_args args = {.vector = {data[1], j->gradient, w->states > 0 ? data[2] : NULL, w->states > 1 ? data[3] : NULL},
					   .count = slot->entries,
					   .update = w->update};
	return slot->entries ? sli_run(j->context, &desc, &args) : SL_OK;
}

static sl_status add_squares(job *j, const sl_slot *slot) {
	sl_op_desc desc = {
		.kind = SL_OP_REDUCE, .variant = SL_REDUCE_SUM_SQUARES, .a.dtype = j->source->dtype, .count = slot->entries};
	sl_op_args args = {
		.beta = j->what->clip_value, .vector = {j->gradient}, .count = slot->entries, .result = j->what->squares};
	return slot->entries ? sli_run(j->context, &desc, &args) : SL_OK;
}

static sl_status backward_chunk(sl_pass *pass, sl_slot *slot, const sl_chunk *chunk) {
	job *j = pass->user;
	const sl_stream_backward *w = j->what;
	sl_device_state *state = sli_device(j->context);
	bool host = sli_on_host(state);
	char *out = w->values_out ? (char *)w->values_out + (size_t)slot->first_entry * j->size : NULL;
	j->args.chunk = chunk;
	if (j->dz_panels) {
		j->args.a = shifted(&j->dz, slot->first_row);
	} else {
		j->args.a = sli_panels(j->context, j->scratch, j->dz.dtype, slot->rows, j->n, j->width);
		SL_TRY(convert_rows(j, &j->dz, slot->first_row, &j->args.a, false));
	}
	j->args.values_out = w->update || w->squares || (out && !host) ? j->gradient : out;
	SL_TRY(execute(j));
	if (out && !host)
		SL_TRY(state->backend->copy(state->device, out, SL_MEMORY_HOST, j->gradient, SL_MEMORY_DEVICE,
									(size_t)slot->entries * j->size));
	if (w->squares)
		SL_TRY(add_squares(j, slot));
	return w->update ? update_chunk(j, slot, host ? slot->data : slot->device) : SL_OK;
}

/* The accumulators of dX: its own panels, or others that are copied to it at the end. */
static sl_status begin_dx(job *j, double beta, const sl_dense *dx, char *own, size_t bytes) {
	sl_device_state *state = sli_device(j->context);
	j->args.c = own ? sli_panels(j->context, own, dx->dtype, dx->rows, dx->cols, j->width) : *dx;
	if (beta == 0)
		return state->backend->fill(state->device, j->args.c.data, 0, bytes);
	if (own)
		SL_TRY(sli_convert(j->context, dx, &j->args.c));
	sl_op_desc desc = {.kind = SL_OP_ELEMENTWISE, .variant = SL_ELEMENTWISE_SCALE, .a.dtype = dx->dtype};
	sl_op_args args = {.alpha = beta, .vector = {j->args.c.data}, .count = (int64_t)(bytes / j->size)};
	desc.count = args.count;
	return beta == 1 ? SL_OK : sli_run(j->context, &desc, &args);
}

static void describe_arrays(sl_pass *pass, const sl_source *source, const sl_stream_backward *w, size_t size) {
	pass->array[0] = (sl_stream_array){.from = source->columns,
									   .size = sizeof(int32_t),
									   .sums_from = source->column_sums,
									   .first_sum = source->first_column_sum};
	pass->arrays = 1;
	if (w->dx.data || w->update)
		pass->array[pass->arrays++] =
			(sl_stream_array){.from = source->values, .size = size, .sums_from = source->value_sums};
	if (!w->update)
		return;
	pass->writes = true;
	pass->arrays = 2 + w->states;
	for (int i = 0; i <= w->states; i++)
		pass->array[1 + i] = (sl_stream_array){.from = w->from[i],
											   .to = w->to[i],
											   .size = size,
											   .sums_from = w->from[i].file ? w->sums_from : NULL,
											   .sums_to = w->sums_to,
											   .first_sum = w->first_sum[i]};
}

static sl_status backward_pass(job *j, sl_pass *pass, sl_op_desc *desc, const sl_buffer *gradient) {
	sl_arena_mark mark = sli_arena_mark(j->context);
	j->gradient = gradient->data;
	sl_status status = plan_job(j, desc, &pass->sizes);
	if (status == SL_OK && !j->dz_panels)
		status =
			sli_arena_take(j->context, panel_span(pass->sizes.rows, j->n, j->width, j->size), (void **)&j->scratch);
	if (status == SL_OK)
		status = sli_pass_run(pass);
	drop_plan(j);
	sli_arena_reset(j->context, mark);
	return status;
}

static sl_status backward(sl_context *context, sl_source *source, const sl_stream_backward *w,
						  const sl_stream_options *options, sl_stream_report *report, size_t *least) {
	sl_device_state *state = sli_device(context);
	bool host = sli_on_host(state), sampled = w->values_out || w->update || w->squares;
	size_t size = sl_dtype_size(source->dtype);
	int64_t n = w->dz.cols;
	job j = {.context = context, .source = source, .what = w, .dz = w->dz, .n = n, .size = size};
	sl_dense xt = sl_dense_transposed(w->x);
	sl_op_desc desc = {.kind = SL_OP_CHUNK_BACKWARD,
					   .variant = sampled,
					   .a = sli_desc(&w->dz),
					   .b = {n, source->cols, source->cols, source->dtype, SL_ROW_MAJOR},
					   .whole_rows = source->rows,
					   .whole_nnz = source->nnz};
	asked a = {.context = context, .desc = &desc};
	if (sampled)
		desc.b = sli_desc(&xt);
	if (w->dx.data)
		desc.c = sli_desc(&w->dx);
	if (w->planned > n)
		desc.a.cols = desc.b.rows = desc.c.cols = w->planned;
	if (!w->dx.data)
		desc.c = (sl_matrix_desc){0};
	desc.sparse.arrays.cols = source->cols;
	SL_TRY(check_rows(context, &w->dz, "dY"));
	SL_TRY(sli_check_dtypes(context, &desc));
	SL_TRY(ask(&a, 1, 1));
	j.width = a.plan.desc.chunk_width;
	j.dz_panels = in_panels(&w->dz, j.width);
	j.args.alpha = w->alpha;
	bool pack_x = sampled && !in_panels(&w->x, j.width), own_dx = w->dx.data && !in_panels(&w->dx, j.width);
	size_t x_bytes = panel_span(source->cols, n, j.width, size);
	sl_pass pass = {.context = context,
					.source = source,
					.disk = source->disk,
					.report = report,
					.options = options,
					.compute = backward_chunk,
					.user = &j,
					.began = sli_seconds()};
	describe_arrays(&pass, source, w, size);
	size_t entry = sizeof(int32_t) + (size_t)(pass.arrays - 1) * size,
		   available = sli_stream_available(context, options);
	sl_stream_demand d = demand_of(source, options, host, n, pass.arrays, entry, pass.writes);
	bool gradients = w->update || w->squares || (w->values_out && !host);
	d.work_bytes = gradients ? size : 0;
	d.workspace = workspace_of;
	d.user = &a;
	d.row_bytes = (j.dz_panels ? 0 : (size_t)(sli_ceil_div(n, j.width) * j.width) * size);
	d.fixed += (pack_x ? x_bytes : 0) + (own_dx ? x_bytes : 0);
	pass.cut_columns = a.plan.desc.chunk_columns;
	pass.total_bytes = pass_bytes(source, pass.arrays) * (pass.writes ? 2 : 1);
	if (least) {
		(void)sli_stream_size(&d, 1, &pass.sizes);
		*least = pass.sizes.bytes;
		return SL_OK;
	}
	sl_buffer x = {0}, dx = {0}, gradient = {0};
	sl_status status = sli_pass_open(&pass, &d, available);
	if (status == SL_OK && gradients)
		status = sli_buffer_create(&gradient, context, (size_t)pass.sizes.entries * size, false, "a chunk's gradient");
	j.args.b = w->x;
	if (status == SL_OK && pack_x) {
		status = sli_buffer_create(&x, context, x_bytes, false, "the packed inputs");
		j.args.b = sli_panels(context, x.data, source->dtype, source->cols, n, j.width);
		if (status == SL_OK)
			status = sli_convert(context, &w->x, &j.args.b);
	}
	if (status == SL_OK && own_dx)
		status = sli_buffer_create(&dx, context, x_bytes, false, "the input gradient");
	if (status == SL_OK && w->dx.data)
		status = begin_dx(&j, w->beta, &w->dx, dx.data, x_bytes);
	if (status == SL_OK)
		status = backward_pass(&j, &pass, &desc, &gradient);
	if (status == SL_OK && own_dx) {
		sl_dense to = w->dx;
		status = sli_convert(context, &j.args.c, &to);
	}
	sli_buffer_destroy(&gradient);
	sli_buffer_destroy(&x);
	sli_buffer_destroy(&dx);
	sli_pass_close(&pass);
	report->seconds += sli_seconds() - pass.began;
	return status;
}

sl_status sli_stream_backward(sl_context *context, sl_source *source, const sl_stream_backward *what,
							  const sl_stream_options *options, sl_stream_report *report) {
	return backward(context, source, what, options, report, NULL);
}

sl_status sli_stream_backward_least(sl_context *context, sl_source *source, const sl_stream_backward *what,
									const sl_stream_options *options, size_t *least) {
	return backward(context, source, what, options, NULL, least);
}
