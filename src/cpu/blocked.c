/* SPDX-License-Identifier: Apache-2.0 */
/* Planning and running the products over blocks (blocks.h). */
#include "cpu/blocks.h"

#include <stdio.h>

#include "cpu/products.h"

/* What is multiplied by the block: b, or for a sample the transposed b. What stands beside it: c, or a. */
static sl_matrix_desc beside(const sl_op_desc *desc) {
	return desc->kind == SL_OP_SPMM ? desc->c : desc->a;
}

static bool block_width(int64_t width) {
	return width == 16 || width == 32 || width == 64;
}

int64_t sli_cpu_blocked_width(const sl_op_desc *desc) {
	sl_matrix_desc m = beside(desc);
	bool b_panels = desc->b.order == (desc->kind == SL_OP_SPMM ? SL_COL_PANELS : SL_ROW_PANELS);
	if (m.order == SL_COL_PANELS && block_width(m.ld))
		return m.ld;
	return b_panels && block_width(desc->b.ld) ? desc->b.ld : 64;
}

static int64_t batch_of(const sl_op_desc *desc) {
	return beside(desc).cols;
}

static bool in_panels(const sl_matrix_desc *m, sl_order order, int64_t width) {
	return m->order == order && m->ld == width;
}

const sl_kernel *sli_cpu_choose_blocked(const sl_cpu *cpu, const sl_op_desc *desc) {
	const sl_pattern_arrays *s = sli_cpu_structure(desc);
	if ((desc->kind != SL_OP_SPMM && desc->kind != SL_OP_SDDMM) || desc->b.dtype != SL_F32 || s->nnz > INT32_MAX ||
		s->rows > INT32_MAX - 64 || s->cols > INT32_MAX - 64)
		return NULL;
	int count;
	const sl_kernel *all = sli_cpu_kernels(&count), *found = NULL;
	for (int i = 0; i < count; i++)
		if (all[i].blocked && all[i].kind == desc->kind && all[i].dtype == desc->b.dtype &&
			(desc->kernel ? !strcmp(desc->kernel, all[i].name) && sli_cpu_has(all[i].isa) : all[i].isa <= cpu->isa))
			found = &all[i];
	return found;
}

static bool b_in_panels(const sl_op_desc *desc, int64_t width) {
	return in_panels(&desc->b, desc->kind == SL_OP_SDDMM ? SL_ROW_PANELS : SL_COL_PANELS, width);
}

static bool beside_in_panels(const sl_op_desc *desc, int64_t width) {
	sl_matrix_desc m = beside(desc);
	return in_panels(&m, SL_COL_PANELS, width);
}

/* What the copies in panels take, where the caller's are not. */
static size_t b_bytes(const sl_op_desc *desc, int64_t width) {
	bool samples = desc->kind == SL_OP_SDDMM;
	if (b_in_panels(desc, width))
		return 0;
	return samples ? sli_cpu_panel_bytes(desc->b.cols, desc->b.rows, width, SL_F32)
				   : sli_cpu_panel_bytes(desc->b.rows, desc->b.cols, width, SL_F32);
}

static size_t beside_bytes(const sl_op_desc *desc, int64_t width) {
	sl_matrix_desc m = beside(desc);
	return beside_in_panels(desc, width) ? 0 : sli_cpu_panel_bytes(m.rows, m.cols, width, SL_F32);
}

/* Of the values in the order of the blocks. */
static size_t gathered_bytes(const sl_blocks *b) {
	if (!b->gather)
		return 0;
	if (!b->by_cell)
		return sli_align64((size_t)b->nnz * sizeof(float));
	return (size_t)b->groups * sli_align64((size_t)b->largest_cell * sizeof(float));
}

sl_status sli_cpu_blocked_plan(sl_cpu *cpu, const sl_kernel *kernel, sl_op_plan *plan) {
	const sl_op_desc *desc = &plan->desc;
	const sl_pattern_arrays *s = sli_cpu_structure(desc);
	int64_t width = sli_cpu_blocked_width(desc);
	sl_blocks *b = sli_blocks_create(cpu, s, desc->transpose ? desc->sparse.permutation : NULL,
									 desc->sparse.permutation_dtype, width, batch_of(desc), kernel);
	if (!b)
		return SL_ERR_MEMORY;
	plan->kernel = kernel;
	plan->state = b;
	plan->workspace = b_bytes(desc, width) + beside_bytes(desc, width);
	plan->workspace += gathered_bytes(b);
	snprintf(plan->text, sizeof plan->text,
			 "%s%s %lldx%lld nnz %lld batch %lld: %s, panels of %lld, tiles of %d, %lld blocks of %lld columns (%s)",
			 desc->kind == SL_OP_SPMM ? "spmm" : "sddmm", desc->transpose ? " transposed" : "",
			 (long long)desc->sparse.arrays.rows, (long long)desc->sparse.arrays.cols, (long long)s->nnz,
			 (long long)batch_of(desc), kernel->name, (long long)width, b->vectors * SL_VECTOR, (long long)b->blocks,
			 (long long)(b->columns < s->cols ? b->columns : s->cols), b->wide ? "L2" : "L1");
	return SL_OK;
}

void sli_cpu_blocked_destroy(sl_cpu *cpu, sl_op_plan *plan) {
	sli_blocks_destroy(cpu, plan->state);
	plan->state = NULL;
}

static const float *vector_of(const sl_dense *m, int64_t row, int64_t vector) {
	int64_t per = m->ld / SL_VECTOR;
	return (const float *)m->data + vector / per * m->rows * m->ld + row * m->ld + vector % per * SL_VECTOR;
}

/* Where the entry of `start` 0 would lie. */
static float *gather_cell(const sl_blocked_job *j, int64_t group, int64_t cell) {
	const sl_blocks *b = j->blocks;
	int64_t first = b->first_offset[cell], count = b->first_offset[cell + 1] - first;
	float *to = j->gathered + group * (int64_t)(sli_align64((size_t)b->largest_cell * sizeof(float)) / sizeof(float));
	sli_cpu_gather_words(j->args->values, to, b->gather + first, count);
	return (float *)((uintptr_t)to - (uintptr_t)first * sizeof(float));
}

/* `vectors` columns of the batch in one block of a group. `beta` is for what the first block finds. */
static void run_cell(const sl_blocked_job *j, int64_t group, int64_t block, float *values, int64_t first, int vectors,
					 float beta) {
	enum { MOST = 40 << 10 };
	_Alignas(64) float copy[MOST / sizeof(float)];
	const sl_blocks *b = j->blocks;
	int64_t cell = group * b->blocks + block;
	bool samples = j->desc->kind == SL_OP_SDDMM, last = block == b->blocks - 1;
	size_t size = b->wide ? sizeof(uint32_t) : sizeof(uint16_t);
	if (b->first_row[cell] == b->first_row[cell + 1])
		return;
	sl_block_task task = {.x = (const char *)copy,
						  .offsets =
							  (const char *)b->offsets + (b->by_start ? 0 : (size_t)b->first_offset[cell] * size),
						  .wide = b->wide,
						  .by_start = b->by_start,
						  .skew = b->skew,
						  .values = values,
						  .rows = b->row + b->first_row[cell],
						  .classes = b->classes + b->first_class[cell],
						  .classes_end = b->classes + b->first_class[cell + 1],
						  .y = (float *)vector_of(&j->y, 0, first),
						  .ldy = j->y.ld,
						  .y_panel = j->y.rows * j->y.ld,
						  .vectors = vectors,
						  .alpha = (float)j->args->alpha,
						  .beta = block && !samples ? 1 : beta,
						  .bias = j->fused && last && j->desc->bias ? j->args->bias : NULL,
						  .relu = j->fused && last && j->desc->activation == SL_RELU};
	const float *from = vector_of(&j->x, block * b->columns, first);
	if (b->wide) {
		task.x = (const char *)from;
	} else {
		int64_t left = j->x.rows - block * b->columns;
		task.from = from;
		task.from_rows = left < b->columns ? left : b->columns;
		task.from_ld = j->x.ld;
		task.from_panel = j->x.rows * j->x.ld;
		task.copy = copy;
		task.stride = b->vectors;
	}
	j->kernel->blocked(&task);
}

/* Vectors from `first` on that one call takes: a tile, or what is left of it. */
static int step_of(const sl_blocked_job *j, int64_t first, int64_t end) {
	int64_t left = end - first;
	return (int)(left < j->blocks->vectors ? left : j->blocks->vectors);
}

static int64_t vector_count(const sl_blocked_job *j) {
	return sli_ceil_div(j->y.cols, SL_VECTOR);
}

/* The columns [begin, end) of the batch, in vectors, of one block of a group. */
static void run_tiles(const sl_blocked_job *j, int64_t group, int64_t block, float *values, int64_t begin,
					  int64_t end) {
	for (int64_t v = begin; v < end;) {
		int step = step_of(j, v, end);
		run_cell(j, group, block, values, v, step, (float)j->args->beta);
		v += step;
	}
}

int64_t sli_cpu_blocked_tiles(const sl_blocked_job *j) {
	return j->blocks->by_cell ? 1 : sli_ceil_div(vector_count(j), j->blocks->vectors);
}

void sli_cpu_blocked_spmm(const sl_blocked_job *j, int64_t tile, int64_t group) {
	const sl_blocks *b = j->blocks;
	int64_t begin = 0, end = vector_count(j);
	if (!b->by_cell) {
		begin = tile * b->vectors;
		end = begin + b->vectors < end ? begin + b->vectors : end;
	}
	for (int64_t block = 0; block < b->blocks; block++) {
		float *values = b->by_cell ? gather_cell(j, group, group * b->blocks + block) : j->values;
		run_tiles(j, group, block, values, begin, end);
	}
	if (!j->fused) {
		int64_t c0 = begin * SL_VECTOR, c1 = end * SL_VECTOR < j->y.cols ? end * SL_VECTOR : j->y.cols;
		sli_cpu_epilogue(j->desc, j->args, &j->y, b->group[group], b->group[group + 1], c0, c1);
	}
}

/* index = tile * groups + group, so that neighbours share a panel. */
static void spmm_task(void *argument, size_t index) {
	const sl_blocked_job *j = argument;
	sli_cpu_blocked_spmm(j, (int64_t)index / j->blocks->groups, (int64_t)index % j->blocks->groups);
}

void sli_cpu_blocked_sddmm(const sl_blocked_job *j, int64_t group) {
	float beta = (float)j->args->beta;
	for (int64_t v = 0; v < vector_count(j);) {
		int step = step_of(j, v, vector_count(j));
		for (int64_t block = 0; block < j->blocks->blocks; block++)
			run_cell(j, group, block, j->values, v, step, beta);
		beta = 1;
		v += step;
	}
}

static void sddmm_task(void *argument, size_t index) {
	sli_cpu_blocked_sddmm(argument, (int64_t)index);
}

static void run_spmm(sl_cpu *cpu, sl_blocked_job *j, void *at, int64_t width) {
	const sl_op_desc *desc = j->desc;
	const sl_op_args *args = j->args;
	if (!args->c.rows || !args->c.cols)
		return;
	j->values = (float *)args->values;
	if (j->blocks->by_cell) {
		j->gathered = sli_carve(&at, gathered_bytes(j->blocks));
	} else if (j->blocks->gather) {
		j->values = sli_carve(&at, gathered_bytes(j->blocks));
		sli_cpu_gather(cpu, args->values, j->values, j->blocks->gather, SL_I32, sizeof(float), j->blocks->nnz);
	}
	j->x = args->b;
	j->y = args->c;
	if (!b_in_panels(desc, width)) {
		j->x = sli_cpu_panels(sli_carve(&at, b_bytes(desc, width)), SL_F32, args->b.rows, args->b.cols, width);
		sli_cpu_convert(cpu, &args->b, &j->x);
	}
	bool direct = beside_in_panels(desc, width);
	if (!direct) {
		j->y = sli_cpu_panels(sli_carve(&at, beside_bytes(desc, width)), SL_F32, args->c.rows, args->c.cols, width);
		if (args->beta != 0)
			sli_cpu_convert(cpu, &args->c, &j->y);
	}
	j->fused = !desc->pre_activation && (desc->activation == SL_IDENTITY || desc->activation == SL_RELU);
	int64_t tiles = sli_cpu_blocked_tiles(j);
	cpu->host->parallel(cpu->host->user, (size_t)(tiles * j->blocks->groups), spmm_task, j);
	sli_cpu_zero_padding(&j->y);
	if (desc->pre_activation)
		sli_cpu_zero_padding(&args->d);
	if (!direct)
		sli_cpu_convert(cpu, &j->y, &args->c);
}

static void run_sddmm(sl_cpu *cpu, sl_blocked_job *j, void *at, int64_t width) {
	const sl_op_args *args = j->args;
	j->values = args->values_out;
	j->x = sl_dense_transposed(args->b);
	j->y = args->a;
	if (!args->a.cols) { /* a sum of nothing */
		for (int64_t k = 0; k < j->blocks->nnz; k++)
			j->values[k] = args->beta == 0 ? 0 : (float)args->beta * j->values[k];
		return;
	}
	if (!b_in_panels(j->desc, width)) {
		sl_dense from = j->x;
		j->x = sli_cpu_panels(sli_carve(&at, b_bytes(j->desc, width)), SL_F32, from.rows, from.cols, width);
		sli_cpu_convert(cpu, &from, &j->x);
	}
	if (!beside_in_panels(j->desc, width)) {
		j->y = sli_cpu_panels(sli_carve(&at, beside_bytes(j->desc, width)), SL_F32, args->a.rows, args->a.cols, width);
		sli_cpu_convert(cpu, &args->a, &j->y);
	}
	cpu->host->parallel(cpu->host->user, (size_t)j->blocks->groups, sddmm_task, j);
}

void sli_cpu_blocked_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	sl_blocked_job j = {.desc = &plan->desc, .args = args, .kernel = plan->kernel, .blocks = plan->state};
	int64_t width = sli_cpu_blocked_width(&plan->desc);
	if (plan->desc.kind == SL_OP_SPMM)
		run_spmm(cpu, &j, args->workspace, width);
	else
		run_sddmm(cpu, &j, args->workspace, width);
}
