/* SPDX-License-Identifier: Apache-2.0 */
/* Sparse inputs: their product with W kept by feature, the row-sparse gradient, and the update of its rows. */
#include "cpu/input.h"

#include <stdio.h>

#include "cpu/activation.h"

enum { SAMPLES = 4, GROUPS = 64, COLUMNS = 64, ELEMENTS = 16384, ZEROS = 4096, UPDATED_AHEAD = 4 };

sl_status sli_cpu_input_plan(sl_cpu *cpu, const sl_op_desc *desc, sl_op_plan *plan) {
	static const char *const names[] = {"sparse inputs", "grouping of sparse inputs", "gradient of sparse inputs",
										"update of rows"};
	const char *name = names[desc->kind - SL_OP_INPUT];
	sl_dtype dtype = desc->kind == SL_OP_INPUT ? desc->c.dtype : desc->a.dtype;
	if (desc->kind == SL_OP_INPUT_GROUP) {
		plan->workspace = sli_cpu_group_workspace(desc->a.rows, desc->count);
	} else {
		/* The gradient's kernel is in the row of the forward's. */
		sl_op_kind kind = desc->kind == SL_OP_UPDATE_ROWS ? SL_OP_UPDATE : SL_OP_INPUT;
		plan->kernel = sli_cpu_choose(cpu, kind, dtype, desc->kernel);
		if (!plan->kernel)
			return cpu->host->fail(cpu->host->user, SL_ERR_UNSUPPORTED, "cpu: no kernel %s for %s of %s",
								   desc->kernel ? desc->kernel : "", name, sl_dtype_name(dtype));
	}
	const sl_kernel *kernel = plan->kernel;
	snprintf(plan->text, sizeof plan->text, "%s of %s%s%s", name, sl_dtype_name(dtype), kernel ? ": " : "",
			 kernel ? kernel->name : "");
	return SL_OK;
}

typedef struct job {
	const sl_op_desc *desc;
	const sl_op_args *args;
	const sl_kernel *kernel;
} job;

/* One sample's outputs. */
static void finish_f32(const sl_op_desc *desc, const float *bias, float *y, float *pre, int64_t n) {
	float p = (float)desc->activation_parameter;
	for (int64_t i = 0; i < n && bias; i++)
		y[i] += bias[i];
	if (pre)
		memcpy(pre, y, (size_t)n * sizeof *pre);
	if (desc->activation == SL_RELU)
		for (int64_t i = 0; i < n; i++)
			y[i] = y[i] < 0 ? 0 : y[i];
	else if (desc->activation != SL_IDENTITY)
		for (int64_t i = 0; i < n; i++)
			y[i] = sli_act_f32(desc->activation, p, y[i]);
}

static void finish_f64(const sl_op_desc *desc, const double *bias, double *y, double *pre, int64_t n) {
	for (int64_t i = 0; i < n && bias; i++)
		y[i] += bias[i];
	if (pre)
		memcpy(pre, y, (size_t)n * sizeof *pre);
	for (int64_t i = 0; i < n && desc->activation != SL_IDENTITY; i++)
		y[i] = sli_act_f64(desc->activation, desc->activation_parameter, y[i]);
}

static void input_chunk(void *argument, size_t index) {
	const job *j = argument;
	const sl_dense *c = &j->args->c;
	const sl_pattern_arrays *p = &j->desc->sparse.arrays;
	int64_t begin = (int64_t)index * SAMPLES, end = begin + SAMPLES < c->rows ? begin + SAMPLES : c->rows;
	sl_input_task task = {.x = j->args->batch,
						  .w = p->row_offsets ? j->args->values : j->args->b.data,
						  .ldw = j->args->b.ld,
						  .offsets = p->row_offsets,
						  .offset_dtype = p->offset_dtype,
						  .columns = p->col_indices,
						  .y = c->data,
						  .ldy = c->ld,
						  .n = c->cols,
						  .begin = begin,
						  .end = end};
	j->kernel->input(&task);
	bool keep = j->desc->pre_activation, f64 = c->dtype == SL_F64;
	for (int64_t r = begin; r < end && sli_has_epilogue(j->desc); r++) {
		size_t size = sl_dtype_size(c->dtype);
		void *y = (char *)c->data + (size_t)(r * c->ld) * size;
		void *pre = keep ? (char *)j->args->d.data + (size_t)(r * j->args->d.ld) * size : NULL;
		if (f64)
			finish_f64(j->desc, j->args->bias, y, pre, c->cols);
		else
			finish_f32(j->desc, j->args->bias, y, pre, c->cols);
	}
}

static void grad_chunk(void *argument, size_t index) {
	const job *j = argument;
	const sl_sparse_groups *g = j->args->groups;
	const sl_pattern_arrays *p = &j->desc->sparse.arrays;
	int64_t begin = (int64_t)index * GROUPS;
	sl_input_grad_task task = {.groups = g,
							   .dz = j->args->a.data,
							   .ldz = j->args->a.ld,
							   .n = j->args->a.cols,
							   .offsets = p->row_offsets,
							   .offset_dtype = p->offset_dtype,
							   .columns = p->col_indices,
							   .out = j->args->values_out,
							   .add = j->args->alpha != 0,
							   .begin = begin,
							   .end = begin + GROUPS < g->count ? begin + GROUPS : g->count};
	j->kernel->input_grad(&task);
}

/* Column sums in double, a block of columns at a time, sample by sample. */
static void bias_block(void *argument, size_t index) {
	const job *j = argument;
	const sl_dense *a = &j->args->a;
	int64_t c0 = (int64_t)index * COLUMNS, n = a->cols - c0 < COLUMNS ? a->cols - c0 : COLUMNS;
	double sums[COLUMNS] = {0}, beta = j->args->beta;
	for (int64_t r = 0; r < a->rows; r++) {
		int64_t at = r * a->ld + c0;
		for (int64_t i = 0; i < n; i++)
			sums[i] +=
				a->dtype == SL_F64 ? ((const double *)a->data)[at + i] : (double)((const float *)a->data)[at + i];
	}
	for (int64_t i = 0; i < n; i++) {
		double old = beta == 0 ? 0 : beta * sli_load(j->args->bias_gradient, a->dtype, c0 + i);
		sli_store(j->args->bias_gradient, a->dtype, c0 + i, old + sums[i]);
	}
}

/* Where row r of the matrix begins. */
static int64_t row_at(const sl_op_desc *desc, int64_t r) {
	const sl_pattern_arrays *p = &desc->sparse.arrays;
	return p->row_offsets ? sli_cpu_offset(p->row_offsets, p->offset_dtype, r) : r * desc->b.cols;
}

static void update(const job *j, int64_t at, const void *gradient, int64_t n) {
	void *const *v = j->args->vector;
	size_t bytes = (size_t)at * sl_dtype_size(j->desc->a.dtype);
#define AT(i) (v[i] ? (char *)v[i] + bytes : NULL)
	j->kernel->update(j->args->update, j->desc->variant, AT(0), gradient, AT(2), AT(3), n);
#undef AT
}

static const void *gradient_row(const job *j, int64_t i) {
	return (const char *)j->args->vector[1] + (size_t)j->args->groups->row_starts[i] * sl_dtype_size(j->desc->a.dtype);
}

/* The row of a group that will be updated soon: what a processor guesses of it comes late. */
static void prefetch_row(const job *j, const sl_sparse_groups *g, int64_t i) {
	size_t size = sl_dtype_size(j->desc->a.dtype), bytes = (size_t)(g->row_starts[i + 1] - g->row_starts[i]) * size;
	size_t at = (size_t)row_at(j->desc, g->columns[i]) * size;
	for (int v = 0; v < 4; v++)
		for (size_t k = 0; k < bytes && v != 1 && j->args->vector[v]; k += 64)
			__builtin_prefetch((const char *)j->args->vector[v] + at + k, 1);
}

static void update_listed(void *argument, size_t index) {
	const job *j = argument;
	const sl_sparse_groups *g = j->args->groups;
	int64_t begin = (int64_t)index * GROUPS, end = begin + GROUPS < g->count ? begin + GROUPS : g->count;
	for (int64_t i = begin; i < begin + UPDATED_AHEAD && i < end; i++)
		prefetch_row(j, g, i);
	for (int64_t i = begin; i < end; i++) {
		if (i + UPDATED_AHEAD < end)
			prefetch_row(j, g, i + UPDATED_AHEAD);
		update(j, row_at(j->desc, g->columns[i]), gradient_row(j, i), g->row_starts[i + 1] - g->row_starts[i]);
	}
}

/* Elements without a gradient: it is zero. */
static void update_rest(const job *j, int64_t from, int64_t to) {
	static const double zeros[ZEROS]; /* of f32 as well */
	for (int64_t n; from < to; from += n) {
		n = to - from < ZEROS ? to - from : ZEROS;
		update(j, from, zeros, n);
	}
}

static int64_t rows_a_task(const sl_op_desc *desc) {
	int64_t all = row_at(desc, desc->b.rows), rows = desc->b.rows;
	return all > rows ? sli_ceil_div(ELEMENTS, sli_ceil_div(all, rows)) : ELEMENTS;
}

/* The first group of column `row` or behind it. */
static int64_t first_group(const sl_sparse_groups *g, int64_t row) {
	int64_t low = 0, high = g->count;
	while (low < high) {
		int64_t middle = (low + high) / 2;
		if (g->columns[middle] < row)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void update_all(void *argument, size_t index) {
	const job *j = argument;
	const sl_sparse_groups *g = j->args->groups;
	int64_t rows = rows_a_task(j->desc), begin = (int64_t)index * rows;
	int64_t end = begin + rows < j->desc->b.rows ? begin + rows : j->desc->b.rows, at = row_at(j->desc, begin);
	for (int64_t i = first_group(g, begin); i < g->count && g->columns[i] < end; i++) {
		int64_t row = row_at(j->desc, g->columns[i]), n = g->row_starts[i + 1] - g->row_starts[i];
		update_rest(j, at, row);
		update(j, row, gradient_row(j, i), n);
		at = row + n;
	}
	update_rest(j, at, row_at(j->desc, end));
}

sl_status sli_cpu_input_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	const sl_host *host = cpu->host;
	job j = {&plan->desc, args, plan->kernel};
	switch (plan->desc.kind) {
	case SL_OP_INPUT:
		host->parallel(host->user, (size_t)sli_ceil_div(args->c.rows, SAMPLES), input_chunk, &j);
		break;
	case SL_OP_INPUT_GROUP:
		sli_cpu_group(cpu, plan, args);
		break;
	case SL_OP_INPUT_GRAD:
		host->parallel(host->user, (size_t)sli_ceil_div(args->groups->count, GROUPS), grad_chunk, &j);
		if (args->bias_gradient)
			host->parallel(host->user, (size_t)sli_ceil_div(args->a.cols, COLUMNS), bias_block, &j);
		break;
	default:
		if (!plan->desc.transpose)
			host->parallel(host->user, (size_t)sli_ceil_div(args->groups->count, GROUPS), update_listed, &j);
		else if (plan->desc.b.rows)
			host->parallel(host->user, (size_t)sli_ceil_div(plan->desc.b.rows, rows_a_task(&plan->desc)), update_all,
						   &j);
	}
	return SL_OK;
}
