/* SPDX-License-Identifier: Apache-2.0 */
/* Losses and their gradients, a fixed number of samples at a time, whose sums are added in order. Softmax and sigmoids
 * of f32 whose samples lie side by side run in vectors, for targets of nothing; then come the few targets that are
 * something. */
#include <math.h>

#include "cpu/activation.h"
#include "cpu/products.h"

enum { SAMPLES = SL_LOSS_COLUMNS };

typedef struct job {
	sl_cpu *cpu;
	const sl_op_desc *desc;
	const sl_op_args *args;
	double *partial;
} job;

size_t sli_cpu_loss_workspace(const sl_op_desc *desc) {
	return sli_align64((size_t)sli_ceil_div(desc->a.cols, SAMPLES) * 2 * sizeof(double));
}

/* One sample of a batch. Writes its gradient and returns its loss, summed over features. */
typedef struct sample {
	const job *j;
	const sl_sparse_batch *batch; /* sparse targets; else NULL */
	int64_t begin, end, at;       /* its entries, and the next of them */
	int64_t col, features;
	double scale; /* of the gradient */
	bool gradient;
} sample;

static double output(const sample *s, int64_t r) {
	return sli_load(s->j->args->a.data, s->j->args->a.dtype, sli_at(&s->j->args->a, r, s->col));
}
/* Whether the target of r is stored; r increases from call to call. */
static bool stored(sample *s, int64_t r) {
	while (s->at < s->end && s->batch->columns[s->at] < r)
		s->at++;
	return s->at < s->end && s->batch->columns[s->at] == r;
}
static double target(sample *s, int64_t r) {
	if (s->batch) {
		if (!stored(s, r))
			return 0;
		return s->batch->values ? sli_load(s->batch->values, s->j->args->a.dtype, s->at) : 1;
	}
	if (s->j->args->labels)
		return s->j->args->labels[s->col] == r;
	return sli_load(s->j->args->b.data, s->j->args->b.dtype, sli_at(&s->j->args->b, r, s->col));
}
static void put(const sample *s, int64_t r, double value) {
	if (s->gradient)
		sli_store(s->j->args->c.data, s->j->args->c.dtype, sli_at(&s->j->args->c, r, s->col), value * s->scale);
}

static double softmax(sample *s, double *correct) {
	double most = -INFINITY, wanted = -INFINITY, sum = 0, loss = 0, total = 0, of_best = 0;
	int64_t best = 0, label = 0;
	bool nan = false;
	for (int64_t r = 0; r < s->features; r++) {
		double x = output(s, r), t = target(s, r);
		nan |= isnan(x);
		if (x > most) {
			most = x;
			best = r;
			of_best = t;
		}
		total += t;
		if (t > wanted) {
			wanted = t;
			label = r;
		}
	}
	for (int64_t r = 0; r < s->features; r++)
		sum += exp(output(s, r) - most);
	double log_sum = most + log(sum);
	/* Dense rows add up to 1, or are taken as if they did. */
	if (!s->batch)
		total = 1;
	s->at = s->begin;
	for (int64_t r = 0; r < s->features; r++) {
		double x = output(s, r), t = target(s, r);
		if (t != 0)
			loss += t * (log_sum - x);
		put(s, r, total * exp(x - log_sum) - t);
	}
	*correct += (s->batch ? of_best > 0 : best == label) && !nan;
	return nan ? NAN : loss;
}

/* Whether the target of r is unknown, and so the gradient nothing. */
static bool unknown(sample *s, int64_t r) {
	if (!s->j->desc->stored_only || stored(s, r))
		return false;
	put(s, r, 0);
	return true;
}

static double binary(sample *s, double *correct) {
	double loss = 0;
	for (int64_t r = 0; r < s->features; r++) {
		if (unknown(s, r))
			continue;
		double x = output(s, r), t = target(s, r);
		loss += (x > 0 ? x : 0) - x * t + log1p(exp(-fabs(x)));
		*correct += !isnan(x) && (x > 0) == (t > 0.5);
		put(s, r, sli_act_f64(SL_SIGMOID, 0, x) - t);
	}
	return loss;
}

static double squared(sample *s) {
	double loss = 0;
	for (int64_t r = 0; r < s->features; r++) {
		if (unknown(s, r))
			continue;
		double d = output(s, r) - target(s, r);
		loss += d * d;
		put(s, r, 2 * d);
	}
	return loss;
}

/* What a mean is over: rows for softmax, else elements. */
static double loss_count(const job *j) {
	const sl_dense *a = &j->args->a;
	if (j->desc->variant == SL_SOFTMAX_CROSS_ENTROPY)
		return (double)a->cols;
	return j->desc->stored_only ? (double)j->args->batch->nnz : (double)a->cols * (double)a->rows;
}

static sample sample_at(const job *j, int64_t col) {
	const sl_sparse_batch *batch = j->args->batch;
	double per = loss_count(j);
	sample s = {.j = j,
				.batch = batch,
				.col = col,
				.features = j->args->a.rows,
				.scale = per > 0 ? j->args->alpha / per : 0,
				.gradient = j->args->c.data != NULL};
	if (batch) {
		s.at = s.begin = sli_cpu_offset(batch->begins, batch->offset_dtype, col);
		s.end = sli_cpu_offset(batch->ends, batch->offset_dtype, col);
	}
	return s;
}

/* Samples from `col` on that lie side by side, at most to `end`; 0: what is wanted does not run in vectors. */
static int64_t side_by_side(const job *j, int64_t col, int64_t end) {
	const sl_dense *views[] = {&j->args->a, &j->args->c};
	bool few = j->args->labels || j->args->batch; /* targets are */
	if (!few || j->desc->stored_only || j->desc->variant == SL_MEAN_SQUARED_ERROR || j->args->a.data == j->args->c.data)
		return 0;
	for (int i = 0; i < 2; i++) {
		const sl_dense *m = views[i];
		if (i && !m->data)
			break;
		if (m->dtype != SL_F32 || (m->order != SL_ROW_MAJOR && m->order != SL_COL_PANELS))
			return 0;
		int64_t together = sli_cpu_together(m, col);
		end = col + together < end ? col + together : end;
	}
	return end - col;
}

/* Calls `see` for each target of a sample. */
typedef void (*see_target)(const sample *s, const sl_loss_task *task, int64_t i, int64_t r, double t, double sums[2]);
static void each_target(const sample *s, const sl_loss_task *task, int64_t i, see_target see, double sums[2]) {
	if (s->j->args->labels)
		see(s, task, i, s->j->args->labels[s->col], 1, sums);
	for (int64_t k = s->begin; k < s->end; k++)
		see(s, task, i, s->batch->columns[k], s->batch->values ? sli_load(s->batch->values, SL_F32, k) : 1, sums);
}
static void take_from_gradient(const sample *s, int64_t r, double t) {
	if (s->gradient)
		*((float *)s->j->args->c.data + sli_at(&s->j->args->c, r, s->col)) -= (float)(t * s->scale);
}

static void add_up(const sample *s, const sl_loss_task *task, int64_t i, int64_t r, double t, double sums[2]) {
	(void)s, (void)task, (void)i, (void)r;
	sums[0] += t;
}
static void correct_softmax(const sample *s, const sl_loss_task *task, int64_t i, int64_t r, double t, double sums[2]) {
	if (t != 0)
		sums[0] += t * (task->most[i] + log(task->sum[i]) - output(s, r));
	sums[1] += task->best[i] == r && t > 0;
	take_from_gradient(s, r, t);
}
static void correct_sigmoid(const sample *s, const sl_loss_task *task, int64_t i, int64_t r, double t, double sums[2]) {
	double x = output(s, r);
	(void)task, (void)i;
	sums[0] -= x * t;
	sums[1] += (double)(!isnan(x) && (x > 0) == (t > 0.5)) - (double)(x <= 0);
	take_from_gradient(s, r, t);
}

static void add_vectors(const job *j, int64_t col, int64_t n, double *loss, double *correct) {
	const sl_op_args *args = j->args;
	const sl_kernel *math = j->cpu->math;
	bool softmax_loss = j->desc->variant == SL_SOFTMAX_CROSS_ENTROPY;
	sl_loss_task task = {.x = (const float *)args->a.data + sli_at(&args->a, 0, col),
						 .ldx = args->a.ld,
						 .features = args->a.rows,
						 .n = n};
	if (args->c.data) {
		task.gradient = (float *)args->c.data + sli_at(&args->c, 0, col);
		task.ldg = args->c.ld;
	}
	for (int64_t i = 0; i < n; i++) {
		sample s = sample_at(j, col + i);
		double total[2] = {1};
		if (softmax_loss && s.batch) {
			total[0] = 0;
			each_target(&s, &task, i, add_up, total);
		}
		task.scale[i] = (float)(total[0] * s.scale);
	}
	(softmax_loss ? math->softmax : math->sigmoids)(&task);
	for (int64_t i = 0; i < n; i++) {
		sample s = sample_at(j, col + i);
		double sums[2] = {softmax_loss ? 0 : task.sum[i], softmax_loss ? 0 : task.correct[i]};
		each_target(&s, &task, i, softmax_loss ? correct_softmax : correct_sigmoid, sums);
		if (softmax_loss && task.nan[i])
			sums[0] = NAN, sums[1] = 0;
		*loss += sums[0];
		*correct += sums[1];
	}
}

static void loss_chunk(void *argument, size_t index) {
	const job *j = argument;
	const sl_dense *a = &j->args->a;
	int64_t begin = (int64_t)index * SAMPLES, end = begin + SAMPLES < a->cols ? begin + SAMPLES : a->cols;
	double loss = 0, correct = 0;
	for (int64_t col = begin, n; col < end; col += n ? n : 1) {
		n = side_by_side(j, col, end);
		if (n) {
			add_vectors(j, col, n, &loss, &correct);
			continue;
		}
		sample s = sample_at(j, col);
		if (j->desc->variant == SL_SOFTMAX_CROSS_ENTROPY)
			loss += softmax(&s, &correct);
		else
			loss += j->desc->variant == SL_BINARY_CROSS_ENTROPY ? binary(&s, &correct) : squared(&s);
	}
	j->partial[2 * index] = loss;
	j->partial[2 * index + 1] = correct;
}

void sli_cpu_loss_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	job run = {cpu, &plan->desc, args, args->workspace}, *j = &run;
	sl_loss_sums *sums = args->result;
	const sl_dense *a = &args->a;
	bool softmax_loss = plan->desc.variant == SL_SOFTMAX_CROSS_ENTROPY;
	if (j->args->labels)
		for (int64_t i = 0; i < a->cols; i++)
			if (j->args->labels[i] < 0 || j->args->labels[i] >= a->rows) {
				sums->bad_row = i;
				return;
			}
	if (!a->cols || !a->rows)
		return;
	int64_t chunks = sli_ceil_div(a->cols, SAMPLES);
	double loss = 0, correct = 0;
	cpu->host->parallel(cpu->host->user, (size_t)chunks, loss_chunk, j);
	for (int64_t i = 0; i < chunks; i++) {
		loss += j->partial[2 * i];
		correct += j->partial[2 * i + 1];
	}
	/* Sums of means times rows: softmax's mean is over rows, the others' over elements. */
	double per = loss_count(j);
	if (j->desc->stored_only)
		sums->loss += per > 0 ? loss / per * (double)a->cols : 0;
	else
		sums->loss += softmax_loss ? loss : loss / (double)a->rows;
	sums->rows += a->cols;
	sums->correct += (int64_t)correct;
	if (j->desc->variant != SL_MEAN_SQUARED_ERROR)
		sums->counted += (int64_t)per;
	if (j->args->c.data)
		sli_cpu_zero_padding(&j->args->c);
}
