/* SPDX-License-Identifier: Apache-2.0 */
/* Products with a chunk of a streamed matrix. Nothing is planned or packed for a chunk but where each row's blocks of
 * columns begin, which takes a walk over its columns, and that walk checks them too. Rows are cut as the
 * whole matrix would be, so that no row depends on the chunk that it is in. */
#include "cpu/products.h"

#include <stdatomic.h>
#include <stdio.h>

enum { GROUPS = 32, LEAST_ROWS = 128, PARTS = 16, SLICES = 8 };

typedef struct chunk_job {
	sl_cpu *cpu;
	const sl_op_desc *desc;
	const sl_op_args *args;
	const sl_kernel *kernel, *scatter;
	const sl_pattern_arrays *s;
	int64_t width;          /* of panels */
	int64_t columns, parts; /* of what rows are cut into; parts 1: not cut */
	bool cut;               /* whether the products run block by block, as the whole matrix's would */
	int32_t *starts;        /* parts + 1 times rows */
	int groups;
	int64_t begin[GROUPS + 1];
	atomic_llong bad_row; /* first row of the chunk that is not valid, or -1 */
} chunk_job;

/* Columns of a block: so few that their rows of the panel stay in L1, so many that a row has entries enough in it to be
 * worth another visit; or, where the panel outgrows L2, the same for L2. 0: rows are not cut. */
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

static int64_t whole_block_columns(const sl_op_desc *desc) {
	sl_pattern_arrays whole = desc->sparse.arrays;
	whole.rows = desc->whole_rows;
	whole.nnz = desc->whole_nnz;
	return block_columns(&whole, desc->cut_width < 64 ? desc->cut_width : 64, desc->b.dtype);
}

/* Into what rows are cut: blocks of the product, or for the transposed product of rows that are not cut, parts that
 * threads share. */
static void cut_width(const sl_op_desc *desc, int64_t *columns, int64_t *parts, bool *cut) {
	int64_t cols = desc->sparse.arrays.cols;
	*columns = whole_block_columns(desc);
	*cut = *columns > 0;
	if (!*cut)
		*columns = desc->kind == SL_OP_CHUNK_BACKWARD && desc->c.rows ? sli_ceil_div(cols ? cols : 1, PARTS) : cols;
	*parts = *columns > 0 ? sli_ceil_div(cols, *columns) : 1;
	if (*parts < 1)
		*parts = 1;
}

sl_status sli_cpu_chunk_plan(sl_cpu *cpu, const sl_op_desc *desc, sl_op_plan *plan) {
	const sl_host *host = cpu->host;
	bool forward = desc->kind == SL_OP_CHUNK_SPMM;
	const sl_pattern_arrays *s = &desc->sparse.arrays;
	int64_t width = desc->b.ld, columns, parts;
	bool cut;
	if (desc->b.order != SL_COL_PANELS || (forward ? desc->c : desc->a).order != SL_COL_PANELS ||
		(forward ? desc->c : desc->a).ld != width || (!forward && desc->c.rows && desc->c.ld != width))
		return host->fail(host->user, SL_ERR_UNSUPPORTED, "cpu: streamed products take panels of one width");
	if (width != 8 && width != 16 && width != 32 && width != 64)
		return host->fail(host->user, SL_ERR_UNSUPPORTED, "cpu: streamed products take panels of 8, 16, 32 or 64");
	plan->kernel = sli_cpu_choose(cpu, forward ? SL_OP_SPMM : SL_OP_SDDMM, desc->b.dtype, desc->kernel);
	if (!plan->kernel)
		return host->fail(host->user, SL_ERR_UNSUPPORTED, "cpu: no kernel for streamed products of %s",
						  sl_dtype_name(desc->b.dtype));
	cut_width(desc, &columns, &parts, &cut);
	plan->workspace = sli_align64((size_t)(parts + 1) * (size_t)s->rows * sizeof(int32_t));
	snprintf(plan->text, sizeof plan->text, "streamed %s %lldx%lld nnz %lld: %s, %lld blocks",
			 forward ? "spmm" : "backward", (long long)desc->whole_rows, (long long)s->cols, (long long)desc->whole_nnz,
			 ((const sl_kernel *)plan->kernel)->name, (long long)(cut ? parts : 1));
	return SL_OK;
}

/* Chunks of rows of about the same number of entries, found in the offsets. */
static void share_out(chunk_job *j, int groups) {
	const int32_t *offsets = j->s->row_offsets;
	j->groups = groups;
	for (int g = 0; g <= groups; g++) {
		int64_t low = g ? j->begin[g - 1] : 0, high = j->s->rows, share = j->s->nnz * g / groups;
		if (g == groups)
			low = high;
		while (low < high) {
			int64_t middle = low + (high - low) / 2;
			if (offsets[middle] < share)
				low = middle + 1;
			else
				high = middle;
		}
		j->begin[g] = low;
	}
	j->begin[0] = 0;
}

/* Columns increase within the row and lie inside the matrix. */
static bool row_valid(const int32_t *columns, int64_t count, int64_t cols) {
	int bad = 0;
	if (!count)
		return true;
	for (int64_t k = 1; k < count; k++)
		bad |= columns[k] <= columns[k - 1];
	return !bad && columns[0] >= 0 && columns[count - 1] < cols;
}

static void cut_rows(void *argument, size_t index) {
	chunk_job *j = argument;
	const int32_t *offsets = j->s->row_offsets, *columns = j->s->col_indices;
	int64_t rows = j->s->rows;
	for (int64_t r = j->begin[index]; r < j->begin[index + 1]; r++) {
		int64_t k = offsets[r], end = offsets[r + 1];
		if (!row_valid(columns + k, end - k, j->s->cols)) {
			long long none = -1;
			atomic_compare_exchange_strong(&j->bad_row, &none, r);
			return;
		}
		if (j->parts == 1)
			continue;
		int32_t *starts = j->starts + r;
		*starts = (int32_t)k;
		for (int64_t b = 1; b < j->parts; b++) {
			int32_t limit = (int32_t)(b * j->columns);
			while (k < end && columns[k] < limit)
				k++;
			starts[b * rows] = (int32_t)k;
		}
		starts[j->parts * rows] = (int32_t)end;
	}
}

static sl_status prepare(chunk_job *j, sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	const sl_host *host = cpu->host;
	j->cpu = cpu;
	j->desc = &plan->desc;
	j->args = args;
	j->kernel = plan->kernel;
	j->s = &args->chunk->arrays;
	j->width = plan->desc.b.ld;
	j->starts = args->workspace;
	atomic_init(&j->bad_row, -1);
	cut_width(j->desc, &j->columns, &j->parts, &j->cut);
	int64_t groups = j->s->rows / LEAST_ROWS;
	share_out(j, groups < 4 ? 4 : groups > GROUPS ? GROUPS : (int)groups);
	host->parallel(host->user, (size_t)j->groups, cut_rows, j);
	long long bad = atomic_load(&j->bad_row);
	if (bad < 0)
		return SL_OK;
	return host->fail(host->user, SL_ERR_STRUCTURE,
					  "row %lld of a chunk has columns that do not increase or are outside [0, %lld)", bad,
					  (long long)j->s->cols);
}

static void block_of(const chunk_job *j, int64_t block, const void **starts, const void **ends) {
	if (j->cut) {
		*starts = j->starts + block * j->s->rows;
		*ends = j->starts + (block + 1) * j->s->rows;
	} else {
		*starts = j->s->row_offsets;
		*ends = (const int32_t *)j->s->row_offsets + 1;
	}
}

/* Ask for a share of a block's part of the panel, which lies in one piece. */
static void prefetch_block(const chunk_job *j, const sl_spmm_task *task, int64_t block, int slice) {
	int64_t line = j->width * (int64_t)sl_dtype_size(j->desc->b.dtype), columns = j->columns;
	int64_t left = j->s->cols - block * columns, count = left < columns ? left : columns;
	const char *at = (const char *)task->x + block * columns * line;
	for (int64_t i = count * line * slice / SLICES / 64 * 64; i < count * line * (slice + 1) / SLICES; i += 64)
		__builtin_prefetch(at + i, 0, 2);
}

/* index = panel * groups + group. */
static void spmm_tile(void *argument, size_t index) {
	const chunk_job *j = argument;
	const sl_op_args *args = j->args;
	int64_t panel = (int64_t)index / j->groups, group = (int64_t)index % j->groups, c0 = panel * j->width;
	int64_t left = args->c.cols - c0 < j->width ? args->c.cols - c0 : j->width;
	size_t size = sl_dtype_size(j->desc->b.dtype);
	sl_spmm_task task = {.offset_dtype = SL_I32,
						 .columns = j->s->col_indices,
						 .values = args->chunk->values,
						 .x = (const char *)args->b.data + (size_t)(panel * args->b.rows * j->width) * size,
						 .y = (char *)args->c.data + (size_t)(panel * args->c.rows * j->width) * size,
						 .ldx = j->width,
						 .ldy = j->width,
						 .width = j->desc->unpadded ? left : j->width,
						 .alpha = args->alpha,
						 .beta = args->chunk->begins ? args->beta : 1,
						 .cut = j->cut};
	int64_t first = j->begin[group], end = j->begin[group + 1], blocks = j->cut ? j->parts : 1;
	for (int64_t b = 0; b < blocks; b++) {
		block_of(j, b, &task.starts, &task.ends);
		for (int slice = 0; slice < (j->cut ? SLICES : 1); slice++) {
			task.begin = first + (end - first) * slice / (j->cut ? SLICES : 1);
			task.end = first + (end - first) * (slice + 1) / (j->cut ? SLICES : 1);
			j->kernel->spmm(&task);
			if (b + 1 < blocks)
				prefetch_block(j, &task, b + 1, slice);
		}
		task.beta = 1; /* what the blocks before have left */
	}
	if (args->chunk->ends)
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

static sl_status run_spmm(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	chunk_job j;
	SL_TRY(prepare(&j, cpu, plan, args));
	int64_t panels = sli_ceil_div(args->c.cols, j.width);
	/* A panel is read once for a group: with panels enough to share out, all rows are one. */
	if (panels >= 8)
		share_out(&j, 1);
	cpu->host->parallel(cpu->host->user, (size_t)(panels * j.groups), spmm_tile, &j);
	zero_padding(&args->c, j.s->rows);
	if (j.desc->pre_activation)
		zero_padding(&args->d, j.s->rows);
	return SL_OK;
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
						  .ld = j->width,
						  .n = args->a.cols,
						  .begin = j->begin[index],
						  .end = j->begin[index + 1],
						  .alpha = args->alpha,
						  .cut = j->cut};
	for (int64_t b = 0; b < (j->cut ? j->parts : 1); b++) {
		block_of(j, b, &task.starts, &task.ends);
		j->kernel->sddmm(&task);
	}
}

/* index = panel * parts + part. */
static void scatter_part(void *argument, size_t index) {
	const chunk_job *j = argument;
	const sl_op_args *args = j->args;
	int64_t panel = (int64_t)index / j->parts, part = (int64_t)index % j->parts, rows = j->s->rows;
	size_t size = sl_dtype_size(j->desc->b.dtype);
	sl_scatter_task task = {.columns = j->s->col_indices,
							.values = args->chunk->values,
							.a = (const char *)args->a.data + (size_t)(panel * args->a.rows * j->width) * size,
							.c = (char *)args->c.data + (size_t)(panel * args->c.rows * j->width) * size,
							.lda = j->width,
							.ldc = j->width,
							.end = rows,
							.width = j->width,
							.alpha = args->alpha};
	task.starts = j->parts > 1 ? j->starts + part * rows : j->s->row_offsets;
	task.ends = j->parts > 1 ? j->starts + (part + 1) * rows : (const int32_t *)j->s->row_offsets + 1;
	j->scatter->scatter(&task);
}

static sl_status run_backward(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	chunk_job j;
	SL_TRY(prepare(&j, cpu, plan, args));
	if (args->values_out)
		cpu->host->parallel(cpu->host->user, (size_t)j.groups, sddmm_group, &j);
	if (!args->c.data)
		return SL_OK;
	j.scatter = sli_cpu_choose(cpu, SL_OP_CHUNK_BACKWARD, plan->desc.b.dtype, NULL);
	int64_t panels = sli_ceil_div(args->a.cols, j.width);
	cpu->host->parallel(cpu->host->user, (size_t)(panels * j.parts), scatter_part, &j);
	return SL_OK;
}

sl_status sli_cpu_chunk_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	if (!args->chunk->arrays.rows)
		return SL_OK;
	return plan->desc.kind == SL_OP_CHUNK_SPMM ? run_spmm(cpu, plan, args) : run_backward(cpu, plan, args);
}
