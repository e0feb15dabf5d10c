/* SPDX-License-Identifier: Apache-2.0 */
/* Sparse times sparse. Rows of a product are gathered in hash tables that are as large as the longest row can be
 * (Nagasaka et al. 2018); gradients walk two sorted rows beside each other. Rows are cut by the work in them alone, and
 * each is one thread's, whose sums follow the entries, so results do not depend on the threads. */
#include <stdio.h>
#include <stdlib.h>

#include "cpu/products.h"

/* Keys are columns, -1: free. `used` lists the slots taken, so that clearing costs what was used. */
typedef struct table {
	int32_t *keys, *used;
	void *sums;
	int64_t size, count;
} table;

/* Half empty, a power of two. */
static int64_t table_size(int64_t most) {
	int64_t size = 16;
	while (size < 2 * most)
		size *= 2;
	return size;
}

static size_t table_bytes(int64_t size, sl_dtype dtype) {
	return sli_align64((size_t)size * sizeof(int32_t)) + sli_align64((size_t)size / 2 * sizeof(int32_t)) +
		   sli_align64((size_t)size * sl_dtype_size(dtype));
}

sl_status sli_cpu_spgemm_plan(sl_cpu *cpu, const sl_op_desc *desc, sl_op_plan *plan) {
	static const char *const names[] = {"count", "fill", "values", "dense result", "gradient of A", "gradient of B"};
	(void)cpu;
	if (desc->variant == SL_SPGEMM_COUNT || desc->variant == SL_SPGEMM_FILL)
		plan->workspace = SL_SPGEMM_TASKS * table_bytes(table_size(desc->count), desc->a.dtype);
	snprintf(plan->text, sizeof plan->text, "spgemm of %s, %s", sl_dtype_name(desc->a.dtype), names[desc->variant]);
	return SL_OK;
}

typedef struct job {
	const sl_op_desc *desc;
	const sl_op_args *args;
	const sl_spgemm_args *s;
} job;

static int64_t begin_of(const sl_pattern_arrays *p, int64_t row) {
	return sli_cpu_offset(p->row_offsets, p->offset_dtype, row);
}

static table task_table(const job *j, size_t index) {
	int64_t size = table_size(j->desc->count);
	size_t bytes = table_bytes(size, j->desc->a.dtype);
	char *at = (char *)j->args->workspace + index * bytes;
	table t = {.size = size, .keys = (int32_t *)at};
	t.used = (int32_t *)(at + sli_align64((size_t)size * sizeof(int32_t)));
	t.sums = (char *)t.used + sli_align64((size_t)size / 2 * sizeof(int32_t));
	memset(t.keys, 0xff, (size_t)size * sizeof *t.keys);
	return t;
}

static void clear(table *t) {
	for (int64_t i = 0; i < t->count; i++)
		t->keys[t->used[i]] = -1;
	t->count = 0;
}

/* The slot of a column. `fresh`: it was not there. */
static int64_t slot_of(table *t, int32_t column, bool *fresh) {
	uint32_t mask = (uint32_t)(t->size - 1), at = (uint32_t)column * 2654435761u & mask;
	while (t->keys[at] != column && t->keys[at] >= 0)
		at = (at + 1) & mask;
	*fresh = t->keys[at] < 0;
	if (*fresh) {
		t->keys[at] = column;
		t->used[t->count++] = (int32_t)at;
	}
	return at;
}

static int ascending(const void *a, const void *b) {
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
	return (x > y) - (x < y);
}

static void sort_columns(int32_t *columns, int64_t count) {
	if (count > 32) {
		qsort(columns, (size_t)count, sizeof *columns, ascending);
		return;
	}
	for (int64_t i = 1; i < count; i++) {
		int32_t column = columns[i];
		int64_t k = i;
		for (; k > 0 && columns[k - 1] > column; k--)
			columns[k] = columns[k - 1];
		columns[k] = column;
	}
}

static void count_task(void *argument, size_t index) {
	const job *j = argument;
	const sl_spgemm_args *s = j->s;
	table t = task_table(j, index);
	for (int64_t i = s->starts[index]; i < s->starts[index + 1]; i++) {
		for (int64_t p = begin_of(&s->a, i); p < begin_of(&s->a, i + 1); p++) {
			int64_t k = s->a.col_indices[p], end = begin_of(&s->b, k + 1);
			bool fresh;
			for (int64_t q = begin_of(&s->b, k); q < end; q++)
				slot_of(&t, s->b.col_indices[q], &fresh);
		}
		s->counts[i] = t.count;
		clear(&t);
	}
}

/* The first entry from `at` on whose column is not below `column`: by steps that double, then by halves. */
static int64_t seek(const int32_t *columns, int64_t at, int64_t end, int32_t column) {
	int64_t step = 1;
	while (at + step < end && columns[at + step] < column) {
		at += step;
		step *= 2;
	}
	int64_t high = at + step < end ? at + step : end;
	while (at < high) {
		int64_t middle = at + (high - at) / 2;
		if (columns[middle] < column)
			at = middle + 1;
		else
			high = middle;
	}
	return at;
}

#define SPGEMM(T, suffix)                                                                                              \
	static void fill_row_##suffix(const job *j, table *t, int64_t i) {                                                 \
		const sl_spgemm_args *s = j->s;                                                                                \
		const T *a = s->a_values, *b = s->b_values;                                                                    \
		T *sums = t->sums;                                                                                             \
		for (int64_t p = begin_of(&s->a, i); p < begin_of(&s->a, i + 1); p++) {                                        \
			int64_t k = s->a.col_indices[p], end = begin_of(&s->b, k + 1);                                             \
			T v = (T)j->args->alpha * a[p];                                                                            \
			for (int64_t q = begin_of(&s->b, k); q < end; q++) {                                                       \
				bool fresh;                                                                                            \
				int64_t at = slot_of(t, s->b.col_indices[q], &fresh);                                                  \
				sums[at] = fresh ? v * b[q] : sums[at] + v * b[q];                                                     \
			}                                                                                                          \
		}                                                                                                              \
		int64_t to = begin_of(&s->c, i);                                                                               \
		int32_t *columns = s->columns + to;                                                                            \
		for (int64_t n = 0; n < t->count; n++)                                                                         \
			columns[n] = t->keys[t->used[n]];                                                                          \
		sort_columns(columns, t->count);                                                                               \
		for (int64_t n = 0; n < t->count; n++) {                                                                       \
			bool fresh;                                                                                                \
			((T *)s->values)[to + n] = sums[slot_of(t, columns[n], &fresh)];                                           \
		}                                                                                                              \
		clear(t);                                                                                                      \
	}                                                                                                                  \
	static void fill_task_##suffix(void *argument, size_t index) {                                                     \
		const job *j = argument;                                                                                       \
		table t = task_table(j, index);                                                                                \
		for (int64_t i = j->s->starts[index]; i < j->s->starts[index + 1]; i++)                                        \
			fill_row_##suffix(j, &t, i);                                                                               \
	}                                                                                                                  \
	/* y = y * beta; what was there is not read for beta = 0. */                                                       \
	static void scale_##suffix(T *y, int64_t n, T beta) {                                                              \
		for (int64_t i = 0; i < n; i++)                                                                                \
			y[i] = beta == 0 ? 0 : beta * y[i];                                                                        \
	}                                                                                                                  \
	/* out[q] += v * from[.] where a column of [begin, end) of `p` is also one of [at, stop) of `r`. */                \
	static void add_common_##suffix(const sl_pattern_arrays *p, int64_t begin, int64_t end, T v, const T *from,        \
									const sl_pattern_arrays *r, int64_t at, int64_t stop, T *out) {                    \
		for (int64_t q = begin; q < end; q++) {                                                                        \
			at = seek(r->col_indices, at, stop, p->col_indices[q]);                                                    \
			if (at == stop)                                                                                            \
				return;                                                                                                \
			if (r->col_indices[at] == p->col_indices[q])                                                               \
				out[at] += v * from[q];                                                                                \
		}                                                                                                              \
	}                                                                                                                  \
	static void values_task_##suffix(void *argument, size_t index) {                                                   \
		const job *j = argument;                                                                                       \
		const sl_spgemm_args *s = j->s;                                                                                \
		for (int64_t i = s->starts[index]; i < s->starts[index + 1]; i++) {                                            \
			int64_t at = begin_of(&s->c, i), stop = begin_of(&s->c, i + 1);                                            \
			scale_##suffix((T *)s->values + at, stop - at, (T)j->args->beta);                                          \
			for (int64_t p = begin_of(&s->a, i); p < begin_of(&s->a, i + 1); p++) {                                    \
				int64_t k = s->a.col_indices[p];                                                                       \
				add_common_##suffix(&s->b, begin_of(&s->b, k), begin_of(&s->b, k + 1),                                 \
									(T)j->args->alpha *((const T *)s->a_values)[p], s->b_values, &s->c, at, stop,      \
									s->values);                                                                        \
			}                                                                                                          \
		}                                                                                                              \
	}                                                                                                                  \
	static void dense_task_##suffix(void *argument, size_t index) {                                                    \
		const job *j = argument;                                                                                       \
		const sl_spgemm_args *s = j->s;                                                                                \
		for (int64_t i = s->starts[index]; i < s->starts[index + 1]; i++) {                                            \
			T *y = (T *)s->dense.data + i * s->dense.ld;                                                               \
			scale_##suffix(y, s->dense.cols, (T)j->args->beta);                                                        \
			for (int64_t p = begin_of(&s->a, i); p < begin_of(&s->a, i + 1); p++) {                                    \
				int64_t k = s->a.col_indices[p], end = begin_of(&s->b, k + 1);                                         \
				T v = (T)j->args->alpha * ((const T *)s->a_values)[p];                                                 \
				for (int64_t q = begin_of(&s->b, k); q < end; q++)                                                     \
					y[s->b.col_indices[q]] += v * ((const T *)s->b_values)[q];                                         \
			}                                                                                                          \
		}                                                                                                              \
	}                                                                                                                  \
	/* Row i of dC times row k of B. */                                                                                \
	static T dot_##suffix(const sl_spgemm_args *s, int64_t i, int64_t k) {                                             \
		const T *b = s->b_values;                                                                                      \
		int64_t end = begin_of(&s->b, k + 1);                                                                          \
		T sum = 0;                                                                                                     \
		if (!s->c.row_offsets) {                                                                                       \
			const T *dc = (const T *)s->dense.data + i * s->dense.ld;                                                  \
			for (int64_t q = begin_of(&s->b, k); q < end; q++)                                                         \
				sum += dc[s->b.col_indices[q]] * b[q];                                                                 \
			return sum;                                                                                                \
		}                                                                                                              \
		int64_t at = begin_of(&s->c, i), stop = begin_of(&s->c, i + 1);                                                \
		for (int64_t q = begin_of(&s->b, k); q < end && at < stop; q++) {                                              \
			at = seek(s->c.col_indices, at, stop, s->b.col_indices[q]);                                                \
			if (at < stop && s->c.col_indices[at] == s->b.col_indices[q])                                              \
				sum += ((const T *)s->c_values)[at] * b[q];                                                            \
		}                                                                                                              \
		return sum;                                                                                                    \
	}                                                                                                                  \
	static void grad_a_task_##suffix(void *argument, size_t index) {                                                   \
		const job *j = argument;                                                                                       \
		const sl_spgemm_args *s = j->s;                                                                                \
		T alpha = (T)j->args->alpha, beta = (T)j->args->beta, *out = s->values;                                        \
		for (int64_t i = s->starts[index]; i < s->starts[index + 1]; i++)                                              \
			for (int64_t p = begin_of(&s->a, i); p < begin_of(&s->a, i + 1); p++) {                                    \
				T sum = alpha * dot_##suffix(s, i, s->a.col_indices[p]);                                               \
				out[p] = beta == 0 ? sum : beta * out[p] + sum;                                                        \
			}                                                                                                          \
	}                                                                                                                  \
	static void grad_b_task_##suffix(void *argument, size_t index) {                                                   \
		const job *j = argument;                                                                                       \
		const sl_spgemm_args *s = j->s;                                                                                \
		const sl_pattern_arrays *t = &s->a_transposed;                                                                 \
		T *out = s->values;                                                                                            \
		for (int64_t k = s->starts[index]; k < s->starts[index + 1]; k++) {                                            \
			int64_t begin = begin_of(&s->b, k), end = begin_of(&s->b, k + 1);                                          \
			scale_##suffix(out + begin, end - begin, (T)j->args->beta);                                                \
			for (int64_t p = begin_of(t, k); p < begin_of(t, k + 1); p++) {                                            \
				int64_t i = t->col_indices[p], from = sli_cpu_offset(s->permutation, s->permutation_dtype, p);         \
				T v = (T)j->args->alpha * ((const T *)s->a_values)[from];                                              \
				if (s->c.row_offsets) {                                                                                \
					int64_t at = begin_of(&s->c, i), stop = begin_of(&s->c, i + 1);                                    \
					for (int64_t q = begin; q < end && at < stop; q++) {                                               \
						at = seek(s->c.col_indices, at, stop, s->b.col_indices[q]);                                    \
						if (at < stop && s->c.col_indices[at] == s->b.col_indices[q])                                  \
							out[q] += v * ((const T *)s->c_values)[at];                                                \
					}                                                                                                  \
					continue;                                                                                          \
				}                                                                                                      \
				const T *dc = (const T *)s->dense.data + i * s->dense.ld;                                              \
				for (int64_t q = begin; q < end; q++)                                                                  \
					out[q] += v * dc[s->b.col_indices[q]];                                                             \
			}                                                                                                          \
		}                                                                                                              \
	}

SPGEMM(float, f32)
SPGEMM(double, f64)

sl_status sli_cpu_spgemm_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	static void (*const tasks[][2])(void *, size_t) = {
		{count_task, count_task},         {fill_task_f32, fill_task_f64},     {values_task_f32, values_task_f64},
		{dense_task_f32, dense_task_f64}, {grad_a_task_f32, grad_a_task_f64}, {grad_b_task_f32, grad_b_task_f64}};
	const sl_host *host = cpu->host;
	job j = {&plan->desc, args, args->spgemm};
	host->parallel(host->user, SL_SPGEMM_TASKS, tasks[plan->desc.variant][plan->desc.a.dtype == SL_F64], &j);
	return SL_OK;
}
