/* SPDX-License-Identifier: Apache-2.0 */
/* Elementwise ops, reductions and updates. Work is cut into fixed chunks whose partial
 * results are folded in order, so results do not depend on the threads. */
#include <math.h>
#include <stdio.h>

#include "cpu/activation.h"
#include "cpu/products.h"

enum { CHUNK = 16384 };

typedef struct job {
	sl_cpu *cpu;
	const sl_op_desc *desc;
	const sl_op_args *args;
	double *partial;
	sl_update_kernel update;
} job;

sl_status sli_cpu_vector_plan(sl_cpu *cpu, const sl_op_desc *desc, sl_op_plan *plan) {
	static const char *const names[] = {"activation", "activation gradient", "reduction", "elementwise", "loss",
										"update"};
	const char *name = names[desc->kind - SL_OP_ACTIVATION];
	sl_dtype dtype = desc->a.dtype;
	if (desc->kind == SL_OP_UPDATE)
		plan->kernel = sli_cpu_choose(cpu, desc->kind, dtype, desc->kernel);
	if (desc->kernel && !plan->kernel)
		return cpu->host->fail(cpu->host->user, SL_ERR_UNSUPPORTED, "cpu: %s has no kernel %s", name, desc->kernel);
	bool half = dtype == SL_BF16 || dtype == SL_F16;
	bool half_runs =
		desc->kind == SL_OP_ACTIVATION || desc->kind == SL_OP_ACTIVATION_GRAD || desc->kind == SL_OP_REDUCE;
	if (dtype != SL_F32 && dtype != SL_F64 && !(half && half_runs))
		return cpu->host->fail(cpu->host->user, SL_ERR_UNSUPPORTED, "cpu: %s runs in f32 and f64, not in %s", name,
							   sl_dtype_name(dtype));
	if (desc->kind == SL_OP_REDUCE && desc->variant != SL_REDUCE_ROW_SUMS)
		plan->workspace = sli_align64((size_t)sli_ceil_div(desc->count, CHUNK) * sizeof(double));
	if (desc->kind == SL_OP_LOSS)
		plan->workspace = sli_cpu_loss_workspace(desc);
	snprintf(plan->text, sizeof plan->text, "%s of %s", name, sl_dtype_name(dtype));
	return SL_OK;
}

/* One element, by the same functions as many, so that the bits do not depend on the layout. */
static double activate(const job *j, sl_dtype dtype, double x) {
	const sl_op_desc *desc = j->desc;
	if (dtype == SL_F64)
		return sli_act_f64(desc->activation, desc->activation_parameter, x);
	float y = (float)x;
	j->cpu->math->activate(desc->activation, (float)desc->activation_parameter, &y, &y, 1);
	return y;
}

static double backward(const job *j, sl_dtype dtype, double saved, double dy) {
	const sl_op_desc *desc = j->desc;
	if (dtype == SL_F64)
		return sli_act_back_f64(desc->activation, desc->activation_parameter, saved, dy);
	float s = (float)saved, y = (float)dy;
	j->cpu->math->activate_back(desc->activation, (float)desc->activation_parameter, &s, &y, &y, 1);
	return y;
}

static bool same_rows(const sl_dense *a, const sl_dense *b) {
	return a->order == b->order && (a->order == SL_ROW_MAJOR || (a->order == SL_COL_PANELS && a->ld == b->ld));
}

static double add_bias_gradient(const job *j, int64_t r, double sum) {
	void *to = j->args->bias_gradient;
	sl_dtype dtype = j->args->c.dtype == SL_F64 ? SL_F64 : SL_F32;
	double old = j->args->beta == 0 ? 0 : j->args->beta * sli_load(to, dtype, r);
	sli_store(to, dtype, r, old + sum);
	return old + sum;
}

/* A fixed tree over eight running sums: the same order for every thread count, and vectorisable. */
static double sum_f32(const float *x, int64_t n) {
	float s[8] = {0};
	int64_t i = 0;
	for (; i + 8 <= n; i += 8)
		for (int l = 0; l < 8; l++)
			s[l] += x[i + l];
	double total = 0;
	for (int l = 0; l < 8; l++)
		total += s[l];
	for (; i < n; i++)
		total += x[i];
	return total;
}

/* n neighbours from `at` of each matrix: an activation; derivatives run by whole rows. */
static void activation_piece_f32(const job *j, const int64_t at[3], int64_t n) {
	const sl_op_desc *desc = j->desc;
	j->cpu->math->activate(desc->activation, (float)desc->activation_parameter, (const float *)j->args->a.data + at[0],
						   (float *)j->args->c.data + at[2], n);
}

/* A row whose matrices lie alike; returns its sum. */
static double back_row_f32(const job *j, int64_t r) {
	const sl_op_args *args = j->args;
	bool panels = args->c.order == SL_COL_PANELS;
	sl_back_row row = {.saved = (const float *)args->a.data + r * args->a.ld,
					   .dy = (const float *)args->b.data + r * args->b.ld,
					   .out = (float *)args->c.data + r * args->c.ld,
					   .saved_panel = args->a.rows * args->a.ld,
					   .dy_panel = args->b.rows * args->b.ld,
					   .out_panel = args->c.rows * args->c.ld,
					   .width = panels ? args->c.ld : args->c.cols,
					   .n = args->c.cols};
	return j->cpu->math->activate_back_row(j->desc->activation, (float)j->desc->activation_parameter, &row,
										   args->bias_gradient != NULL);
}

static double activation_piece_half(const job *j, const int64_t at[3], int64_t n) {
	enum { SOME = 256 };
	const sl_op_desc *desc = j->desc;
	const sl_kernel *half = sli_cpu_half(j->cpu, j->args->c.dtype), *math = j->cpu->math;
	float p = (float)desc->activation_parameter, x[SOME], dy[SOME];
	double sum = 0;
	for (int64_t i = 0, some; i < n; i += some) {
		uint16_t *to = (uint16_t *)j->args->c.data + at[2] + i;
		some = n - i < SOME ? n - i : SOME;
		half->to_f32((const uint16_t *)j->args->a.data + at[0] + i, x, some);
		if (desc->kind == SL_OP_ACTIVATION) {
			math->activate(desc->activation, p, x, x, some);
		} else {
			half->to_f32((const uint16_t *)j->args->b.data + at[1] + i, dy, some);
			math->activate_back(desc->activation, p, x, dy, x, some);
		}
		half->from_f32(x, to, some);
		if (j->args->bias_gradient) { /* of what was stored */
			half->to_f32(to, x, some);
			sum += sum_f32(x, some);
		}
	}
	return sum;
}

static double sum_half(const job *j, const uint16_t *x, int64_t n) {
	enum { SOME = 256 };
	float part[SOME];
	double sum = 0;
	for (int64_t i = 0, some; i < n; i += some) {
		some = n - i < SOME ? n - i : SOME;
		sli_cpu_half(j->cpu, j->args->a.dtype)->to_f32(x + i, part, some);
		sum += sum_f32(part, some);
	}
	return sum;
}

/* A row in pieces that lie together, or an element at a time; returns its sum. */
static double activation_row(const job *j, int64_t r, bool fast) {
	const sl_dense *a = &j->args->a, *b = &j->args->b, *c = &j->args->c;
	bool gradient = j->desc->kind == SL_OP_ACTIVATION_GRAD, f32 = c->dtype == SL_F32;
	double sum = 0;
	for (int64_t col = 0, n; col < c->cols; col += n) {
		n = fast ? sli_cpu_together(c, col) : 1;
		if (fast) {
			int64_t at[3] = {sli_at(a, r, col), gradient ? sli_at(b, r, col) : 0, sli_at(c, r, col)};
			if (f32)
				activation_piece_f32(j, at, n);
			else
				sum += activation_piece_half(j, at, n);
			continue;
		}
		double x = sli_load(a->data, a->dtype, sli_at(a, r, col));
		double y = gradient ? backward(j, c->dtype, x, sli_load(b->data, b->dtype, sli_at(b, r, col)))
							: activate(j, c->dtype, x);
		sli_store(c->data, c->dtype, sli_at(c, r, col), y);
		sum += sli_load(c->data, c->dtype, sli_at(c, r, col));
	}
	return sum;
}

static void activation_rows(void *argument, size_t index) {
	const job *j = argument;
	const sl_dense *a = &j->args->a, *b = &j->args->b, *c = &j->args->c;
	bool gradient = j->desc->kind == SL_OP_ACTIVATION_GRAD;
	bool fast = c->dtype != SL_F64 && same_rows(a, c) && (!gradient || same_rows(b, c));
	bool whole = fast && gradient && c->dtype == SL_F32 && c->cols > 0;
	int64_t begin = (int64_t)index * 16, end = begin + 16 < c->rows ? begin + 16 : c->rows;
	for (int64_t r = begin; r < end; r++) {
		double sum = whole ? back_row_f32(j, r) : activation_row(j, r, fast);
		if (j->args->bias_gradient)
			add_bias_gradient(j, r, sum);
	}
}

static void row_sums(void *argument, size_t index) {
	const job *j = argument;
	const sl_dense *a = &j->args->a;
	sl_dtype dtype = a->dtype == SL_F64 ? SL_F64 : SL_F32;
	int64_t begin = (int64_t)index * 16, end = begin + 16 < a->rows ? begin + 16 : a->rows;
	bool f32 = a->dtype == SL_F32, fast = a->dtype != SL_F64 && (a->order == SL_ROW_MAJOR || a->order == SL_COL_PANELS);
	for (int64_t r = begin; r < end; r++) {
		double sum = 0;
		for (int64_t col = 0, n; col < a->cols; col += n) {
			n = fast ? sli_cpu_together(a, col) : 1;
			int64_t at = sli_at(a, r, col);
			sum += !fast ? sli_load(a->data, a->dtype, at)
				   : f32 ? sum_f32((const float *)a->data + at, n)
						 : sum_half(j, (const uint16_t *)a->data + at, n);
		}
		double old = j->args->beta == 0 ? 0 : j->args->beta * sli_load(j->args->vector[0], dtype, r);
		sli_store(j->args->vector[0], dtype, r, old + sum);
	}
}

static void reduce_chunk(void *argument, size_t index) {
	const job *j = argument;
	sl_dtype dtype = j->desc->a.dtype;
	int64_t begin = (int64_t)index * CHUNK, end = begin + CHUNK < j->args->count ? begin + CHUNK : j->args->count;
	double sum = 0, first = -1, scale = j->args->alpha != 0 ? j->args->alpha : 1;
	double limit = j->args->beta > 0 ? j->args->beta : INFINITY;
	if (dtype == SL_F32 && j->desc->variant == SL_REDUCE_SUM_SQUARES) {
		const float *x = (const float *)j->args->vector[0] + begin;
		j->partial[index] = j->cpu->math->sum_squares(x, end - begin, scale, (float)limit);
		return;
	}
	for (int64_t i = begin; i < end; i++) {
		double x = sli_load(j->args->vector[0], dtype, i);
		if (j->desc->variant == SL_REDUCE_SUM_SQUARES)
			x = x > limit ? limit : x < -limit ? -limit : x;
		sum += (scale * x) * (scale * x);
		if (first < 0 && !isfinite(x))
			first = (double)i;
	}
	j->partial[index] = j->desc->variant == SL_REDUCE_SUM_SQUARES ? sum : first;
}

static void reduce(job *j) {
	int64_t chunks = sli_ceil_div(j->args->count, CHUNK);
	j->partial = j->args->workspace;
	j->cpu->host->parallel(j->cpu->host->user, (size_t)chunks, reduce_chunk, j);
	if (j->desc->variant == SL_REDUCE_SUM_SQUARES) {
		for (int64_t i = 0; i < chunks; i++)
			*(double *)j->args->result += j->partial[i];
		return;
	}
	*(int64_t *)j->args->result = -1;
	for (int64_t i = chunks; i-- > 0;)
		if (j->partial[i] >= 0)
			*(int64_t *)j->args->result = (int64_t)j->partial[i];
}

static void elementwise_chunk(void *argument, size_t index) {
	const job *j = argument;
	sl_dtype dtype = j->desc->a.dtype;
	double alpha = j->args->alpha;
	int64_t begin = (int64_t)index * CHUNK, end = begin + CHUNK < j->args->count ? begin + CHUNK : j->args->count;
	for (int64_t i = begin; i < end; i++) {
		double x = sli_load(j->args->vector[0], dtype, i);
		switch (j->desc->variant) {
		case SL_ELEMENTWISE_SCALE:
			sli_store(j->args->vector[0], dtype, i, alpha * x);
			break;
		case SL_ELEMENTWISE_FILL:
			sli_store(j->args->vector[0], dtype, i, alpha);
			break;
		case SL_ELEMENTWISE_CLAMP:
			sli_store(j->args->vector[0], dtype, i, x > alpha ? alpha : x < -alpha ? -alpha : x);
			break;
		default:
			sli_store(j->args->vector[1], dtype, i, sli_load(j->args->vector[1], dtype, i) + alpha * x);
		}
	}
}

static void update_chunk(void *argument, size_t index) {
	const job *j = argument;
	int64_t begin = (int64_t)index * CHUNK, n = j->args->count - begin < CHUNK ? j->args->count - begin : CHUNK;
	void *const *v = j->args->vector;
	size_t at = (size_t)begin * sl_dtype_size(j->desc->a.dtype);
#define AT(i) (v[i] ? (char *)v[i] + at : NULL)
	j->update(j->args->update, j->desc->variant, AT(0), AT(1), AT(2), AT(3), n);
#undef AT
}

sl_status sli_cpu_vector_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	const sl_kernel *kernel = plan->kernel;
	job j = {cpu, &plan->desc, args, NULL, kernel ? kernel->update : NULL};
	const sl_host *host = cpu->host;
	size_t chunks = (size_t)sli_ceil_div(args->count, CHUNK);
	switch (plan->desc.kind) {
	case SL_OP_ACTIVATION:
	case SL_OP_ACTIVATION_GRAD:
		host->parallel(host->user, (size_t)sli_ceil_div(args->c.rows, 16), activation_rows, &j);
		sli_cpu_zero_padding(&args->c);
		break;
	case SL_OP_REDUCE:
		if (plan->desc.variant == SL_REDUCE_ROW_SUMS)
			host->parallel(host->user, (size_t)sli_ceil_div(args->a.rows, 16), row_sums, &j);
		else
			reduce(&j);
		break;
	case SL_OP_ELEMENTWISE:
		host->parallel(host->user, chunks, elementwise_chunk, &j);
		break;
	case SL_OP_LOSS:
		sli_cpu_loss_execute(cpu, plan, args);
		break;
	default:
		if (args->update->skip == 0)
			host->parallel(host->user, chunks, update_chunk, &j);
	}
	return SL_OK;
}
