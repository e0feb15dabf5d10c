/* SPDX-License-Identifier: Apache-2.0 */
/* Products with a chunk of a streamed matrix (chunk.h). Nothing is planned for a chunk but where each row's blocks of
 * columns begin, which takes a walk over its columns, and that walk checks them too. */
#include "cpu/chunk.h"
#include "cpu/products.h"

#include <stdio.h>

enum { GROUPS = 32, GROUP_ROWS = 128, PARTS = 16, SLICES = 8, FEW_TILES = 2 };

typedef struct chunk_job {
	sl_cpu *cpu;
	const sl_op_desc *desc;
	const sl_op_args *args;
	const sl_chunk_way *way;
	const sl_kernel *scatter;
	const sl_pattern_arrays *s;
	int32_t *starts; /* ROWS, SMALL: parts + 1 times rows */
	int groups;
	int64_t begin[GROUPS + 1];
	atomic_llong bad_row; /* first row of the chunk that is not valid, or -1 */
	sl_chunk_blocks blocks;
	sl_blocked_job blocked;
} chunk_job;

/* Columns of a block, as schedule.c chooses them: so few that their rows of the panel stay in L1, so many that a row
 * has entries enough in it to be worth another visit; or, where the panel outgrows L2, the same for L2. 0: rows are not
 * cut.
 */
static int64_t block_columns(const sl_pattern_arrays *s, int64_t width, sl_dtype dtype) {
	enum { L1 = 32 << 10, L2 = 256 << 10, ENTRIES_L1 = 12, ENTRIES_L2 = 4, FEW_ROWS = 64 };
	int64_t line = width * (int64_t)sl_dtype_size(dtype), fit1 = L1 / line, fit2 = L2 / line;
	if (s->cols <= 2 * fit1 || s->rows < FEW_ROWS)
		return 0;
	double spacing = (double)s->rows * (double)s->cols / (double)(s->nnz ? s->nnz : 1); /* columns an entry */
	if (ENTRIES_L1 * spacing <= (double)fit1)
		return fit1;
	return s->cols > 2 * fit2 && ENTRIES_L2 * spacing <= (double)fit2 ? fit2 : 0;
}

static bool usual(int64_t width) {
	return width == 8 || width == 16 || width == 32 || width == 64;
}

/* The panels that products.c runs in, and what it cuts rows for. */
static int64_t rows_width(const sl_op_desc *desc, int64_t *cut_width, bool *unpadded) {
	if (desc->kind == SL_OP_CHUNK_BACKWARD)
		return *cut_width = desc->a.order == SL_COL_PANELS && usual(desc->a.ld) ? desc->a.ld : 64;
	const sl_matrix_desc *b = &desc->b, *c = &desc->c;
	*cut_width = c->order == SL_COL_PANELS ? c->ld : b->order == SL_COL_PANELS ? b->ld : 64;
	*unpadded = b->order == SL_ROW_MAJOR || c->order == SL_ROW_MAJOR;
	int64_t n = c->cols, natural = n <= 8 ? 8 : n <= 16 ? 16 : n <= 32 ? 32 : 64;
	bool panels = c->order == SL_COL_PANELS || b->order == SL_COL_PANELS;
	int64_t width = *unpadded && !panels ? natural : *cut_width;
	return usual(width) ? width : 64;
}

/* Into what rows are cut: blocks of the product, or for the transposed product of rows that are not cut, parts that
 * threads share. */
static void cut_rows_for(const sl_pattern_arrays *whole, const sl_op_desc *desc, int64_t width, sl_chunk_way *way) {
	int64_t cols = whole->cols;
	way->columns = way->how == SL_CHUNK_ROWS ? block_columns(whole, width < 64 ? width : 64, desc->b.dtype) : 0;
	way->cut = way->columns > 0;
	if (!way->cut)
		way->columns = desc->kind == SL_OP_CHUNK_BACKWARD && desc->c.rows ? sli_ceil_div(cols ? cols : 1, PARTS) : cols;
	way->parts = way->columns > 0 ? sli_ceil_div(cols, way->columns) : 1;
	way->parts = way->parts < 1 ? 1 : way->parts;
}

/* The choice of products.c for the whole matrix. */
static bool find_way(const sl_cpu *cpu, const sl_op_desc *desc, sl_chunk_way *way) {
	bool forward = desc->kind == SL_OP_CHUNK_SPMM;
	sl_pattern_arrays all = desc->sparse.arrays;
	all.rows = desc->whole_rows;
	all.nnz = desc->whole_nnz;
	sl_op_desc whole = *desc;
	whole.kind = forward ? SL_OP_SPMM : SL_OP_SDDMM;
	whole.sparse.arrays = all;
	if (!forward)
		whole.c = (sl_matrix_desc){0};
	/* What a plan in memory could not count is blocked all the same. */
	whole.sparse.arrays.nnz = all.nnz < INT32_MAX ? all.nnz : INT32_MAX;
	whole.sparse.arrays.rows = all.rows < INT32_MAX / 2 ? all.rows : INT32_MAX / 2;
	*way = (sl_chunk_way){.sampled = !forward && desc->variant};
	const sl_kernel *small = sli_cpu_choose_small(cpu, &whole), *blocked = sli_cpu_choose_blocked(cpu, &whole);
	if (small && (forward || way->sampled)) {
		way->how = SL_CHUNK_SMALL;
		way->kernel = small;
		way->width = small->tile;
		cut_rows_for(&all, desc, way->width, way);
	} else if (blocked) {
		way->how = SL_CHUNK_BLOCKS;
		way->kernel = blocked;
		way->width = sli_cpu_blocked_width(&whole);
		if (!forward && !way->sampled && way->width != desc->a.ld) /* no bits of another product to keep */
			way->width = desc->a.cols <= 16 ? 16 : desc->a.cols <= 32 ? 32 : 64;
		int64_t batch = forward ? desc->c.cols : desc->a.cols;
		sli_blocks_shape(&way->shape, &all, way->width, batch, blocked->kind, blocked->isa);
		way->ordered = (forward || way->sampled) && batch > FEW_TILES * way->shape.vectors * SL_VECTOR;
	} else {
		int64_t cut_width;
		way->kernel = sli_cpu_choose(cpu, whole.kind, desc->b.dtype, desc->kernel);
		way->width = rows_width(desc, &cut_width, &way->unpadded);
		cut_rows_for(&all, desc, cut_width, way);
	}
	return way->kernel;
}

sl_status sli_cpu_chunk_plan(sl_cpu *cpu, const sl_op_desc *desc, sl_op_plan *plan) {
	const sl_host *host = cpu->host;
	const sl_pattern_arrays *s = &desc->sparse.arrays;
	sl_chunk_way way;
	if (!find_way(cpu, desc, &way))
		return host->fail(host->user, SL_ERR_UNSUPPORTED, "cpu: no kernel for streamed products of %s",
						  sl_dtype_name(desc->b.dtype));
	bool blocks = way.how == SL_CHUNK_BLOCKS;
	plan->kernel = way.kernel;
	plan->desc.chunk_width = way.width;
	/* Whole tiles, whole panels. */
	plan->desc.chunk_batch = blocks ? sli_ceil_div(way.shape.vectors * SL_VECTOR, way.width) * way.width : way.width;
	plan->desc.chunk_columns = blocks ? way.shape.columns : way.cut ? way.columns : 0;
	plan->workspace = blocks ? sli_chunk_blocks_bytes(cpu, &way, s->rows, s->nnz)
							 : sli_align64((size_t)(way.parts + 1) * (size_t)s->rows * sizeof(int32_t));
	snprintf(plan->text, sizeof plan->text, "streamed %s %lldx%lld nnz %lld: %s, panels of %lld, %lld blocks",
			 desc->kind == SL_OP_CHUNK_SPMM ? "spmm" : "backward", (long long)desc->whole_rows, (long long)s->cols,
			 (long long)desc->whole_nnz, way.kernel->name, (long long)way.width,
			 (long long)(blocks    ? way.shape.blocks
						 : way.cut ? way.parts
								   : 1));
	return SL_OK;
}

static sl_status not_valid(const chunk_job *j, long long row) {
	const sl_host *host = j->cpu->host;
	return host->fail(host->user, SL_ERR_STRUCTURE,
					  "row %lld of a chunk has columns that do not increase or are outside [0, %lld)", row,
					  (long long)j->s->cols);
}

/* ---- rows ---- */

static void cut_rows(void *argument, size_t index) {
	chunk_job *j = argument;
	const int32_t *offsets = j->s->row_offsets, *columns = j->s->col_indices;
	int64_t rows = j->s->rows, parts = j->way->parts;
	for (int64_t r = j->begin[index]; r < j->begin[index + 1]; r++) {
		int64_t k = offsets[r], end = offsets[r + 1];
		if (!sli_row_valid(columns + k, end - k, j->s->cols)) {
			long long none = -1;
			atomic_compare_exchange_strong(&j->bad_row, &none, r);
			return;
		}
		if (parts == 1)
			continue;
		int32_t *starts = j->starts + r;
		*starts = (int32_t)k;
		for (int64_t b = 1; b < parts; b++) {
			int64_t limit = b * j->way->columns;
			while (k < end && columns[k] < limit)
				k++;
			starts[b * rows] = (int32_t)k;
		}
		starts[parts * rows] = (int32_t)end;
	}
}

static sl_status prepare(chunk_job *j) {
	j->starts = j->args->workspace;
	atomic_init(&j->bad_row, -1);
	int64_t groups = j->s->rows / GROUP_ROWS;
	j->groups = groups < 4 ? 4 : groups > GROUPS ? GROUPS : (int)groups;
	sli_chunk_share_out(j->s, j->groups, j->begin);
	j->cpu->host->parallel(j->cpu->host->user, (size_t)j->groups, cut_rows, j);
	long long bad = atomic_load(&j->bad_row);
	return bad < 0 ? SL_OK : not_valid(j, bad);
}

static void block_of(const chunk_job *j, int64_t block, const void **starts, const void **ends) {
	if (j->way->cut) {
		*starts = j->starts + block * j->s->rows;
		*ends = j->starts + (block + 1) * j->s->rows;
	} else {
		*starts = j->s->row_offsets;
		*ends = (const int32_t *)j->s->row_offsets + 1;
	}
}

/* Ask for a share of a block's part of the panel, which lies in one piece. */
static void prefetch_block(const chunk_job *j, const sl_spmm_task *task, int64_t block, int slice) {
	int64_t line = j->way->width * (int64_t)sl_dtype_size(j->desc->b.dtype), columns = j->way->columns;
	int64_t left = j->s->cols - block * columns, count = left < columns ? left : columns;
	const char *at = (const char *)task->x + block * columns * line;
	for (int64_t i = count * line * slice / SLICES / 64 * 64; i < count * line * (slice + 1) / SLICES; i += 64)
		__builtin_prefetch(at + i, 0, 2);
}

/* index = panel * groups + group. */
static void spmm_tile(void *argument, size_t index) {
	const chunk_job *j = argument;
	const sl_op_args *args = j->args;
	int64_t width = j->way->width;
	int64_t panel = (int64_t)index / j->groups, group = (int64_t)index % j->groups, c0 = panel * width;
	int64_t left = args->c.cols - c0 < width ? args->c.cols - c0 : width;
	size_t size = sl_dtype_size(j->desc->b.dtype);
	bool cut = j->way->cut;
	sl_spmm_task task = {.offset_dtype = SL_I32,
						 .columns = j->s->col_indices,
						 .values = args->chunk->values,
						 .x = (const char *)args->b.data + (size_t)(panel * args->b.rows * width) * size,
						 .y = (char *)args->c.data + (size_t)(panel * args->c.rows * width) * size,
						 .ldx = width,
						 .ldy = width,
						 .width = j->way->unpadded ? left : width,
						 .alpha = args->alpha,
						 .beta = args->beta,
						 .cut = cut};
	int64_t first = j->begin[group], end = j->begin[group + 1], blocks = cut ? j->way->parts : 1;
	for (int64_t b = 0; b < blocks; b++) {
		block_of(j, b, &task.starts, &task.ends);
		for (int slice = 0; slice < (cut ? SLICES : 1); slice++) {
			task.begin = first + (end - first) * slice / (cut ? SLICES : 1);
			task.end = first + (end - first) * (slice + 1) / (cut ? SLICES : 1);
			j->way->kernel->spmm(&task);
			if (b + 1 < blocks)
				prefetch_block(j, &task, b + 1, slice);
		}
		task.beta = 1; /* what the blocks before have left */
	}
	sli_cpu_epilogue(j->desc, args, &args->c, first, end, c0, c0 + left);
}

/* Padding of the chunk's rows of panels with `m->rows` rows. */
static void zero_padding(const sl_dense *m, int64_t rows) {
	int64_t used = m->cols % m->ld;
	size_t size = sl_dtype_size(m->dtype);
	char *base = (char *)m->data + (size_t)(m->cols / m->ld * m->rows * m->ld) * size;
	for (int64_t r = 0; used && r < rows; r++)
		memset(base + (size_t)(r * m->ld + used) * size, 0, (size_t)(m->ld - used) * size);
}

static void sddmm_group(void *argument, size_t index) {
	const chunk_job *j = argument;
	const sl_op_args *args = j->args;
	sl_sddmm_task task = {.offset_dtype = SL_I32,
						  .columns = j->s->col_indices,
						  .values = args->values_out,
						  .a = args->a.data,
						  .b = args->b.data,
						  .a_rows = args->a.rows,
						  .b_rows = args->b.rows,
						  .ld = j->way->width,
						  .n = args->a.cols,
						  .begin = j->begin[index],
						  .end = j->begin[index + 1],
						  .alpha = args->alpha,
						  .cut = j->way->cut};
	for (int64_t b = 0; b < (j->way->cut ? j->way->parts : 1); b++) {
		block_of(j, b, &task.starts, &task.ends);
		j->way->kernel->sddmm(&task);
	}
}

/* ---- small ---- */

static void small_group(void *argument, size_t index) {
	const chunk_job *j = argument;
	const sl_op_args *args = j->args;
	bool forward = j->desc->kind == SL_OP_SPMM;
	sl_small_task task = {.offsets = j->s->row_offsets,
						  .offset_dtype = SL_I32,
						  .columns = j->s->col_indices,
						  .values = args->chunk->values,
						  .values_out = args->values_out,
						  .x = args->b.data,
						  .y = forward ? args->c.data : args->a.data,
						  .begin = j->begin[index],
						  .end = j->begin[index + 1],
						  .alpha = (float)args->alpha,
						  .beta = forward ? (float)args->beta : 0};
	j->way->kernel->small(&task);
	if (forward)
		sli_cpu_epilogue(j->desc, args, &args->c, task.begin, task.end, 0, args->c.cols);
}

/* ---- blocks ---- */

static sl_status cut_blocks(chunk_job *j, bool sorted, int64_t n) {
	j->blocks = (sl_chunk_blocks){.way = j->way, .s = j->s, .sorted = sorted};
	sli_chunk_blocks_cut(j->cpu, &j->blocks, n, j->args->workspace);
	long long bad = atomic_load(&j->blocks.bad_row);
	j->blocked = (sl_blocked_job){.desc = j->desc, .args = j->args, .kernel = j->way->kernel};
	return bad < 0 ? SL_OK : not_valid(j, bad);
}

/* index = tile * groups + group. */
static void blocked_tile(void *argument, size_t index) {
	const chunk_job *j = argument;
	sl_blocked_job job = j->blocked;
	job.blocks = &j->blocks.group[(int64_t)index % j->blocks.groups].blocks;
	sli_cpu_blocked_spmm(&job, (int64_t)index / j->blocks.groups, 0);
}

static void blocked_sample(void *argument, size_t index) {
	const chunk_job *j = argument;
	sl_blocked_job job = j->blocked;
	job.blocks = &j->blocks.group[index].blocks;
	sli_cpu_blocked_sddmm(&job, 0);
}

static void run_blocked_spmm(chunk_job *j) {
	j->blocked.x = j->args->b;
	j->blocked.y = j->args->c;
	j->blocked.values = (float *)(uintptr_t)j->args->chunk->values;
	j->blocked.fused =
		!j->desc->pre_activation && (j->desc->activation == SL_IDENTITY || j->desc->activation == SL_RELU);
	j->blocked.blocks = &j->blocks.group[0].blocks;
	int64_t tiles = sli_cpu_blocked_tiles(&j->blocked);
	j->cpu->host->parallel(j->cpu->host->user, (size_t)(tiles * j->blocks.groups), blocked_tile, j);
}

static void run_blocked_sddmm(chunk_job *j) {
	float *out = j->args->values_out;
	j->blocked.x = j->args->b;
	j->blocked.y = j->args->a;
	j->blocked.values = out;
	if (!j->args->a.cols) /* a sum of nothing */
		memset(out, 0, (size_t)j->s->nnz * sizeof *out);
	else
		j->cpu->host->parallel(j->cpu->host->user, (size_t)j->blocks.groups, blocked_sample, j);
}

/* ---- the transposed product ---- */

/* As much of the panel's width as has columns. */
static int64_t used_width(const chunk_job *j, int64_t panel) {
	int64_t left = j->args->a.cols - panel * j->way->width, used = left <= 8    ? 8
																   : left <= 16 ? 16
																   : left <= 32 ? 32
																				: 64;
	return used < j->way->width ? used : j->way->width;
}

/* index = panel * parts + part. */
static void scatter_part(void *argument, size_t index) {
	const chunk_job *j = argument;
	const sl_op_args *args = j->args;
	bool blocks = j->way->how == SL_CHUNK_BLOCKS;
	int64_t parts = blocks ? j->way->shape.blocks : j->way->parts, width = j->way->width;
	int64_t panel = (int64_t)index / parts, part = (int64_t)index % parts, rows = j->s->rows;
	size_t size = sl_dtype_size(j->desc->b.dtype);
	sl_scatter_task task = {.columns = j->s->col_indices,
							.values = args->chunk->values,
							.a = (const char *)args->a.data + (size_t)(panel * args->a.rows * width) * size,
							.c = (char *)args->c.data + (size_t)(panel * args->c.rows * width) * size,
							.stride = 1,
							.lda = width,
							.ldc = width,
							.end = rows,
							.width = used_width(j, panel),
							.alpha = args->alpha};
	if (!blocks) {
		task.starts = parts > 1 ? j->starts + part * rows : j->s->row_offsets;
		task.ends = parts > 1 ? j->starts + (part + 1) * rows : (const int32_t *)j->s->row_offsets + 1;
		j->scatter->scatter(&task);
		return;
	}
	for (int g = 0; g < j->blocks.groups; g++) { /* in order: a column is summed row after row */
		const int64_t *first = j->blocks.group[g].first_record;
		task.rows = &j->blocks.record->row;
		task.starts = &j->blocks.record->begin;
		task.ends = &j->blocks.record->end;
		task.stride = sizeof *j->blocks.record / sizeof(int32_t);
		task.begin = first[part];
		task.end = first[part + 1];
		j->scatter->scatter(&task);
	}
}

static void run_transposed(chunk_job *j) {
	bool blocks = j->way->how == SL_CHUNK_BLOCKS;
	int64_t panels = sli_ceil_div(j->args->a.cols, j->way->width),
			parts = blocks ? j->way->shape.blocks : j->way->parts;
	j->scatter = sli_cpu_choose(j->cpu, SL_OP_CHUNK_BACKWARD, j->desc->b.dtype, NULL);
	j->cpu->host->parallel(j->cpu->host->user, (size_t)(panels * parts), scatter_part, j);
}

static sl_status run_backward(chunk_job *j) {
	bool blocks = j->way->how == SL_CHUNK_BLOCKS, samples = j->args->values_out != NULL;
	const sl_host *host = j->cpu->host;
	SL_TRY(blocks ? cut_blocks(j, samples, j->args->a.cols) : prepare(j));
	if (samples && blocks)
		run_blocked_sddmm(j);
	else if (samples)
		host->parallel(host->user, (size_t)j->groups, j->way->how == SL_CHUNK_SMALL ? small_group : sddmm_group, j);
	if (j->args->c.data)
		run_transposed(j);
	return SL_OK;
}

static sl_status run_forward(chunk_job *j) {
	const sl_host *host = j->cpu->host;
	int64_t panels = sli_ceil_div(j->args->c.cols, j->way->width);
	if (j->way->how == SL_CHUNK_BLOCKS) {
		SL_TRY(cut_blocks(j, true, j->args->c.cols));
		run_blocked_spmm(j);
	} else {
		SL_TRY(prepare(j));
		if (j->way->how == SL_CHUNK_SMALL) {
			host->parallel(host->user, (size_t)j->groups, small_group, j);
		} else {
			/* A panel is read once for a group: with panels enough to share out, all rows are one. */
			if (panels >= 8)
				sli_chunk_share_out(j->s, j->groups = 1, j->begin);
			host->parallel(host->user, (size_t)(panels * j->groups), spmm_tile, j);
		}
	}
	zero_padding(&j->args->c, j->s->rows);
	if (j->desc->pre_activation)
		zero_padding(&j->args->d, j->s->rows);
	return SL_OK;
}

sl_status sli_cpu_chunk_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	const sl_chunk *chunk = args->chunk;
	sl_chunk_way way;
	sl_op_desc desc = plan->desc;
	sl_op_args own = *args;
	if (!chunk->arrays.rows)
		return SL_OK;
	bool forward = desc.kind == SL_OP_CHUNK_SPMM;
	(void)find_way(cpu, &desc, &way);
	desc.kind = forward ? SL_OP_SPMM : SL_OP_SDDMM;           /* to those that run the products in memory too */
	own.beta = !forward ? 0 : chunk->begins ? args->beta : 1; /* 1: to what the pieces of the row before have left */
	if (!chunk->ends) {
		desc.bias = desc.pre_activation = false;
		desc.activation = SL_IDENTITY;
	}
	chunk_job j = {.cpu = cpu, .desc = &desc, .args = &own, .way = &way, .s = &chunk->arrays};
	return forward ? run_forward(&j) : run_backward(&j);
}
