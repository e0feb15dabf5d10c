/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products of at most 16 columns: online inference. Operands are one panel of exactly the kernel's width, so an entry
 * is one vector, or with one column one number. dX adds W's rows where their columns say instead of gathering W's
 * values for the transpose first; parts of the rows, whose number follows from the pattern, add into panels of
 * their own, which are then added in order. With one column and many weights, dX and dW read a bit for every place of W
 * instead of columns (masked_avx512.c). The bits do not depend on it.
 */
#include <stdio.h>

#include "cpu/products.h"

enum { MOST_PARTS = 4, FOLD = 8192 };

typedef struct small_plan {
	int64_t begin[SL_CHUNKS + 1];
	int chunks; /* for dX: the parts */
	int64_t nnz;
	bool short_rows;
	uint16_t *narrow; /* columns in 16 bits; NULL: as they are */
	uint16_t *masks;  /* of kernels with masks */
	int64_t words;
} small_plan;

static int64_t columns_of(const sl_op_desc *desc) {
	return desc->kind == SL_OP_SDDMM ? desc->a.cols : desc->c.cols;
}

/* From which density on a bit for every place is less work than an entry's column. */
static bool worth_masks(const sl_op_desc *desc) {
	enum { LEAST = 4096 };
	const sl_pattern_arrays *s = &desc->sparse.arrays;
	double from = desc->kind == SL_OP_SDDMM ? 0.4 : 0.35;
	return !desc->once && s->nnz >= LEAST && (double)s->nnz >= from * (double)s->rows * (double)s->cols;
}

const sl_kernel *sli_cpu_choose_small(const sl_cpu *cpu, const sl_op_desc *desc) {
	int count;
	const sl_kernel *k = sli_cpu_kernels(&count), *found = NULL;
	int64_t n = columns_of(desc), width = n <= 1 ? 1 : n <= 8 ? 8 : 16;
	const sl_matrix_desc *y = &desc->c;
	if ((desc->kind != SL_OP_SPMM && desc->kind != SL_OP_SDDMM) || desc->b.dtype != SL_F32 || n < 1 || n > 16)
		return NULL;
	bool masks = worth_masks(desc);
	/* Panels that were made for a larger batch stay as they are. */
	if (width > 1 && y->order == SL_COL_PANELS && y->ld != width)
		return NULL;
	for (int i = 0; i < count; i++)
		if (k[i].small && k[i].kind == desc->kind && k[i].transposed == desc->transpose && k[i].tile == width &&
			(masks || !k[i].masked || desc->kernel) &&
			(desc->kernel ? !strcmp(desc->kernel, k[i].name) && sli_cpu_has(k[i].isa) : k[i].isa <= cpu->isa))
			found = &k[i];
	return found;
}

/* Whether a matrix is one panel as the kernel reads it, with no more than its columns to write. */
static bool direct(const sl_matrix_desc *m, int64_t width) {
	if (m->order == SL_COL_PANELS)
		return m->ld == width;
	return width == 1 && (m->order == SL_ROW_MAJOR ? m->ld == 1 : m->order == SL_COL_MAJOR);
}

static sl_matrix_desc desc_of(const sl_dense *m) {
	return (sl_matrix_desc){m->rows, m->cols, m->ld, m->dtype, m->order};
}

static void share_out(const sl_pattern_arrays *s, small_plan *made) {
	int64_t row = 0;
	for (int i = 0; i < made->chunks; i++) {
		double share = ((double)s->nnz + 4.0 * (double)s->rows) * (i + 1) / made->chunks;
		made->begin[i] = row;
		while (row < s->rows &&
			   (double)sli_cpu_offset(s->row_offsets, s->offset_dtype, row + 1) + 4.0 * (double)(row + 1) <= share)
			row++;
	}
	made->begin[made->chunks] = s->rows;
}

static int parts_of_dx(const sl_pattern_arrays *s) {
	/* Adding a part costs as much as a few entries a column. */
	double a_column = (double)s->nnz / (double)(s->cols ? s->cols : 1);
	if (s->nnz < 16384 || a_column < 16)
		return 1;
	return a_column < 64 ? 2 : MOST_PARTS;
}

static size_t narrow_bytes(int64_t nnz) {
	return (size_t)nnz * sizeof(uint16_t);
}

static size_t mask_bytes(const small_plan *made, const sl_pattern_arrays *s) {
	return (size_t)(s->rows * made->words) * sizeof(uint16_t);
}

static bool make_masks(const sl_host *host, const sl_pattern_arrays *s, small_plan *made) {
	made->words = sli_ceil_div(s->cols, 16);
	made->masks = host->allocate(host->user, mask_bytes(made, s));
	if (!made->masks)
		return false;
	memset(made->masks, 0, mask_bytes(made, s));
	for (int64_t r = 0; r < s->rows; r++) {
		int64_t end = sli_cpu_offset(s->row_offsets, s->offset_dtype, r + 1);
		uint16_t *row = made->masks + r * made->words;
		for (int64_t k = sli_cpu_offset(s->row_offsets, s->offset_dtype, r); k < end; k++)
			row[s->col_indices[k] / 16] |= (uint16_t)(1u << s->col_indices[k] % 16);
	}
	return true;
}

/* 16-bit columns, where they can be had: what does not stay in L2 is read faster with fewer bytes. */
static bool make_narrow(const sl_host *host, const sl_pattern_arrays *s, small_plan *made) {
	enum { NARROW_FROM = 1 << 17 };
	if (s->cols > UINT16_MAX + 1 || s->nnz < NARROW_FROM)
		return true;
	made->narrow = host->allocate(host->user, narrow_bytes(s->nnz));
	if (!made->narrow)
		return false;
	for (int64_t k = 0; k < s->nnz; k++)
		made->narrow[k] = (uint16_t)s->col_indices[k];
	return true;
}

void sli_cpu_small_destroy(sl_cpu *cpu, sl_op_plan *plan) {
	small_plan *made = plan->state;
	const sl_host *host = cpu->host;
	plan->state = NULL;
	if (!made)
		return;
	if (made->narrow)
		host->release(host->user, made->narrow, narrow_bytes(made->nnz));
	if (made->masks)
		host->release(host->user, made->masks, mask_bytes(made, &plan->desc.sparse.arrays));
	host->release(host->user, made, sizeof *made);
}

static size_t panel_bytes(int64_t rows, int64_t width) {
	return sli_align64((size_t)(rows * width) * sizeof(float));
}

sl_status sli_cpu_small_plan(sl_cpu *cpu, const sl_kernel *kernel, sl_op_plan *plan) {
	enum { CHUNK = 8192 };
	const sl_op_desc *desc = &plan->desc;
	const sl_pattern_arrays *s = &desc->sparse.arrays;
	const sl_host *host = cpu->host;
	int64_t width = kernel->tile, chunks = (s->nnz + 4 * s->rows) / CHUNK;
	small_plan *made = host->allocate(host->user, sizeof *made);
	plan->kernel = kernel;
	plan->state = made;
	if (!made)
		return host->fail(host->user, SL_ERR_MEMORY, "no memory for the product's plan");
	*made = (small_plan){.nnz = s->nnz, .chunks = (int)(chunks < 1 ? 1 : chunks > SL_CHUNKS ? SL_CHUNKS : chunks)};
	/* Four rows at a time, which depends on where they begin: a streamed product does without. */
	made->short_rows = s->rows >= 2048 && s->nnz < 24 * s->rows && !host->deterministic;
	if (desc->transpose)
		made->chunks = parts_of_dx(s);
	share_out(s, made);
	if (kernel->masked ? !make_masks(host, s, made) : !desc->once && !make_narrow(host, s, made)) {
		sli_cpu_small_destroy(cpu, plan);
		return host->fail(host->user, SL_ERR_MEMORY, "no memory for the product's plan");
	}
	if (desc->kind == SL_OP_SDDMM) {
		plan->workspace = panel_bytes(desc->a.rows, width) + panel_bytes(desc->b.cols, width);
	} else {
		if (!direct(&desc->b, width))
			plan->workspace += panel_bytes(desc->b.rows, width);
		if (!direct(&desc->c, width))
			plan->workspace += panel_bytes(desc->c.rows, width);
		if (desc->transpose)
			plan->workspace += (size_t)(made->chunks - 1) * panel_bytes(desc->c.rows, width);
	}
	snprintf(plan->text, sizeof plan->text, "%s%s %lldx%lld nnz %lld batch %lld: %s%s",
			 desc->kind == SL_OP_SPMM ? "spmm" : "sddmm", desc->transpose ? " transposed" : "", (long long)s->rows,
			 (long long)s->cols, (long long)s->nnz, (long long)columns_of(desc), kernel->name,
			 made->narrow ? ", 16-bit columns" : "");
	return SL_OK;
}

typedef struct small_job {
	const sl_op_desc *desc;
	const sl_op_args *args;
	const sl_kernel *kernel;
	const small_plan *plan;
	sl_small_task task;
	sl_dense c;   /* one panel */
	float *parts; /* the second and those behind it */
	int64_t part; /* floats from one to the next */
} small_job;

static void bias_and_activation(const small_job *j, int64_t begin, int64_t end) {
	const sl_op_desc *desc = j->desc;
	const sl_dense *pre = &j->args->d;
	bool straight = j->kernel->tile == 1 && (!desc->pre_activation || (pre->order == SL_COL_PANELS && pre->ld == 1));
	if (!sli_has_epilogue(desc))
		return;
	if (!straight) {
		sli_cpu_epilogue(desc, j->args, &j->c, begin, end, 0, j->c.cols);
		return;
	}
	float *y = j->c.data;
	if (desc->bias)
		for (int64_t r = begin; r < end; r++)
			y[r] += ((const float *)j->args->bias)[r];
	if (desc->pre_activation && end > begin)
		memcpy((float *)pre->data + begin, y + begin, (size_t)(end - begin) * sizeof *y);
	if (desc->activation != SL_IDENTITY)
		((const sl_cpu *)desc->device)
			->math->activate(desc->activation, (float)desc->activation_parameter, y + begin, y + begin, end - begin);
}

static void forward_chunk(void *argument, size_t index) {
	const small_job *j = argument;
	sl_small_task task = j->task;
	task.begin = j->plan->begin[index];
	task.end = j->plan->begin[index + 1];
	j->kernel->small(&task);
	if (j->desc->kind == SL_OP_SPMM)
		bias_and_activation(j, task.begin, task.end);
}

static void dx_part(void *argument, size_t index) {
	const small_job *j = argument;
	sl_small_task task = j->task;
	float beta = (float)j->args->beta;
	if (index)
		task.y = j->parts + (int64_t)(index - 1) * j->part;
	if (index || beta == 0)
		memset(task.y, 0, (size_t)(j->c.rows * j->c.ld) * sizeof *task.y);
	else if (beta != 1)
		for (int64_t i = 0; i < j->c.rows * j->c.ld; i++)
			task.y[i] *= beta;
	task.begin = j->plan->begin[index];
	task.end = j->plan->begin[index + 1];
	j->kernel->small(&task);
}

static void fold_parts(void *argument, size_t index) {
	const small_job *j = argument;
	int64_t step = FOLD / j->c.ld, begin = (int64_t)index * step;
	int64_t end = begin + step < j->c.rows ? begin + step : j->c.rows;
	float *y = j->c.data;
	for (int p = 1; p < j->plan->chunks; p++) {
		const float *part = j->parts + (p - 1) * j->part;
		for (int64_t i = begin * j->c.ld; i < end * j->c.ld; i++)
			y[i] += part[i];
	}
	bias_and_activation(j, begin, end);
}

/* `m` as one panel of the kernel's width: itself, or room for it taken from the workspace. */
static sl_dense as_panel(const sl_dense *m, int64_t width, void **at) {
	sl_dense panel = *m;
	sl_matrix_desc desc = desc_of(m);
	if (!direct(&desc, width))
		panel.data = sli_carve(at, panel_bytes(m->rows, width));
	panel.order = SL_COL_PANELS;
	panel.ld = width;
	return panel;
}

static float *packed(sl_cpu *cpu, const sl_dense *m, int64_t width, void **at) {
	sl_dense panel = as_panel(m, width, at);
	if (panel.data != m->data)
		sli_cpu_convert(cpu, m, &panel);
	return panel.data;
}

static void run_spmm(sl_cpu *cpu, small_job *j, void *at) {
	const sl_host *host = cpu->host;
	const sl_op_args *args = j->args;
	int64_t width = j->kernel->tile;
	j->task.x = packed(cpu, &args->b, width, &at);
	j->c = as_panel(&args->c, width, &at);
	if (j->c.data != args->c.data && args->beta != 0)
		sli_cpu_convert(cpu, &args->c, &j->c);
	j->task.y = j->c.data;
	if (j->desc->transpose) {
		j->parts = at;
		j->part = (int64_t)(panel_bytes(j->c.rows, width) / sizeof(float));
		host->parallel(host->user, (size_t)j->plan->chunks, dx_part, j);
		if (j->plan->chunks > 1 || sli_has_epilogue(j->desc))
			host->parallel(host->user, (size_t)sli_ceil_div(j->c.rows, FOLD / width), fold_parts, j);
	} else {
		host->parallel(host->user, (size_t)j->plan->chunks, forward_chunk, j);
	}
	sli_cpu_zero_padding(&j->c);
	if (j->desc->pre_activation)
		sli_cpu_zero_padding(&args->d);
	if (j->c.data != args->c.data)
		sli_cpu_convert(cpu, &j->c, &args->c);
}

static void run_sddmm(sl_cpu *cpu, small_job *j, void *at) {
	const sl_op_args *args = j->args;
	sl_dense b = sl_dense_transposed(args->b);
	float *out = args->values_out;
	if (args->a.cols == 0) { /* fewer columns than planned: nothing to add */
		for (int64_t k = 0; k < j->plan->nnz; k++)
			out[k] = args->beta == 0 ? 0 : (float)args->beta * out[k];
		return;
	}
	j->task.y = packed(cpu, &args->a, 1, &at);
	j->task.x = packed(cpu, &b, 1, &at);
	cpu->host->parallel(cpu->host->user, (size_t)j->plan->chunks, forward_chunk, j);
}

sl_status sli_cpu_small_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	const small_plan *made = plan->state;
	const sl_pattern_arrays *s = &plan->desc.sparse.arrays;
	small_job j = {.desc = &plan->desc, .args = args, .kernel = plan->kernel, .plan = made};
	j.task = (sl_small_task){.offsets = s->row_offsets,
							 .offset_dtype = s->offset_dtype,
							 .columns = s->col_indices,
							 .narrow = made->narrow,
							 .values = args->values,
							 .values_out = args->values_out,
							 .alpha = (float)args->alpha,
							 .beta = (float)args->beta,
							 .masks = made->masks,
							 .words = made->words,
							 .cols = s->cols,
							 .nnz = s->nnz,
							 .short_rows = made->short_rows};
	if (plan->desc.kind == SL_OP_SDDMM)
		run_sddmm(cpu, &j, args->workspace);
	else if (args->c.rows && args->c.cols)
		run_spmm(cpu, &j, args->workspace);
	return SL_OK;
}
