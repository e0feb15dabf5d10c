/* SPDX-License-Identifier: Apache-2.0 */
/* Dense products: oneDNN for f32, own loops for the rest. */
#ifdef SL_WITH_ONEDNN
#include <dnnl.h>
#include <omp.h>
#endif
#include <stdio.h>

#include "cpu/densify.h"

/* A matrix stored whole: row-major (plain) or column-major (turned). */
typedef struct operand {
	const float *data;
	int64_t ld;
	bool turned;
} operand;

static bool whole(const sl_matrix_desc *m) {
	return m->order == SL_ROW_MAJOR || m->order == SL_COL_MAJOR || (m->order == SL_COL_PANELS && m->cols <= m->ld) ||
		   (m->order == SL_ROW_PANELS && m->rows <= m->ld);
}

static bool turned(sl_order order) {
	return order == SL_COL_MAJOR || order == SL_ROW_PANELS;
}

static size_t dense_bytes(const sl_matrix_desc *m) {
	return sli_align64((size_t)(m->rows * m->cols) * sizeof(float));
}

static bool by_library(const sl_op_desc *desc) {
#ifdef SL_WITH_ONEDNN
	return desc->c.dtype == SL_F32;
#else
	(void)desc;
	return false;
#endif
}

/* B and C in panels of the same columns: a product a panel. */
static bool by_columns(const sl_op_desc *desc) {
	return desc->b.order == SL_COL_PANELS && desc->c.order == SL_COL_PANELS && desc->b.ld == desc->c.ld &&
		   !whole(&desc->b);
}

/* A and B in panels of the same depth: a sum of products. */
static bool by_depth(const sl_op_desc *desc) {
	return desc->a.order == SL_COL_PANELS && desc->b.order == SL_ROW_PANELS && desc->a.ld == desc->b.ld &&
		   !whole(&desc->a) && whole(&desc->c) && !turned(desc->c.order);
}

sl_status sli_cpu_gemm_plan(sl_cpu *cpu, sl_op_plan *plan) {
	const sl_op_desc *desc = &plan->desc;
	if (desc->kernel)
		return cpu->host->fail(cpu->host->user, SL_ERR_UNSUPPORTED, "cpu: gemm has no kernel %s", desc->kernel);
	if (by_library(desc)) {
		/* A turned A is copied: oneDNN runs that case at less than half its speed. */
		bool columns = by_columns(desc), depth = by_depth(desc);
		if (!depth && (!whole(&desc->a) || turned(desc->a.order)))
			plan->workspace += dense_bytes(&desc->a);
		if (!columns && !depth && !whole(&desc->b))
			plan->workspace += dense_bytes(&desc->b);
		if (!columns && (!whole(&desc->c) || turned(desc->c.order)))
			plan->workspace += dense_bytes(&desc->c);
	}
	snprintf(plan->text, sizeof plan->text, "gemm %lldx%lldx%lld: %s", (long long)desc->c.rows, (long long)desc->c.cols,
			 (long long)desc->a.cols, by_library(desc) ? "oneDNN" : "own loops");
	return SL_OK;
}

typedef struct gemm_job {
	sl_cpu *cpu;
	const sl_op_desc *desc;
	const sl_op_args *args;
	operand a, b;
	sl_dense c;
	int64_t k, tile_rows, tile_cols, row_tiles;
	int64_t columns, depth; /* of a panel, where products go by them; else all */
	int failed;             /* atomic */
} gemm_job;

static void own_rows(void *argument, size_t index) {
	const gemm_job *j = argument;
	const sl_dense *a = &j->args->a, *b = &j->args->b, *c = &j->c;
	int64_t begin = (int64_t)index * 16, end = begin + 16 < c->rows ? begin + 16 : c->rows;
	bool wide = c->dtype == SL_F64;
	for (int64_t r = begin; r < end; r++)
		for (int64_t col = 0; col < c->cols; col++) {
			double sum = 0;
			float sum32 = 0;
			for (int64_t k = 0; k < j->k; k++) {
				double x = sli_load(a->data, a->dtype, sli_at(a, r, k)),
					   y = sli_load(b->data, b->dtype, sli_at(b, k, col));
				if (wide)
					sum += x * y;
				else
					sum32 += (float)x * (float)y;
			}
			int64_t at = sli_at(c, r, col);
			double old = j->args->beta == 0 ? 0 : j->args->beta * sli_load(c->data, c->dtype, at);
			sli_cpu_finish(j->desc, j->args, c, r, col, j->args->alpha * (wide ? sum : (double)sum32) + old);
		}
}

#ifdef SL_WITH_ONEDNN
int sli_cpu_sgemm(bool turned_a, bool turned_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
				  int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
	int threads = omp_get_max_threads();
	omp_set_num_threads(1);
	dnnl_status_t status =
		dnnl_sgemm(turned_a ? 'T' : 'N', turned_b ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
	omp_set_num_threads(threads);
	return (int)status;
}

/* One tile of C, over all the depth. Where C goes by columns, a tile does not leave its panel. */
static void library_tile(void *argument, size_t index) {
	gemm_job *j = argument;
	int64_t r0 = (int64_t)index % j->row_tiles * j->tile_rows, c0 = (int64_t)index / j->row_tiles * j->tile_cols;
	int64_t m = j->c.rows - r0 < j->tile_rows ? j->c.rows - r0 : j->tile_rows;
	int64_t n = j->c.cols - c0 < j->tile_cols ? j->c.cols - c0 : j->tile_cols;
	int64_t panel = c0 / j->columns, inside = c0 % j->columns;
	const float *a = j->a.data + r0 * j->a.ld;
	const float *b = j->b.data + panel * j->k * j->b.ld + (j->b.turned ? inside * j->b.ld : inside);
	float *c = (float *)j->c.data + panel * j->c.rows * j->c.ld + r0 * j->c.ld + inside;
	float beta = (float)j->args->beta;
	dnnl_status_t status = dnnl_success;
	/* The pool is the parallelism; oneDNN's own team would fight it. */
	int threads = omp_get_max_threads();
	omp_set_num_threads(1);
	for (int64_t k = 0; k < j->k && status == dnnl_success; k += j->depth) {
		int64_t depth = j->k - k < j->depth ? j->k - k : j->depth;
		status = dnnl_sgemm('N', j->b.turned ? 'T' : 'N', m, n, depth, (float)j->args->alpha, a + k * j->c.rows,
							j->a.ld, b + k * j->c.cols, j->b.ld, k ? 1.0f : beta, c, j->c.ld);
	}
	omp_set_num_threads(threads);
	if (status != dnnl_success)
		__atomic_store_n(&j->failed, (int)status, __ATOMIC_RELAXED);
	sli_cpu_epilogue(j->desc, j->args, &j->c, r0, r0 + m, c0, c0 + n);
}

/* Tiles depend on the shape alone, so results do not depend on the threads. */
static void choose_tiles(gemm_job *j) {
	int64_t m = j->c.rows, n = j->c.cols;
	j->tile_rows = m;
	j->tile_cols = n;
	if (j->columns < n) {
		j->tile_cols = j->columns;
		j->tile_rows = m >= 512 ? 256 : m;
		j->row_tiles = sli_ceil_div(m, j->tile_rows);
		return;
	}
	if (m >= n)
		j->tile_rows = m >= 512   ? sli_ceil_div(sli_ceil_div(m, 4), 16) * 16
					   : m >= 128 ? sli_ceil_div(sli_ceil_div(m, 2), 16) * 16
								  : m;
	else
		j->tile_cols = n >= 512  ? sli_ceil_div(sli_ceil_div(n, 4), 16) * 16
					   : n >= 64 ? sli_ceil_div(sli_ceil_div(n, 2), 16) * 16
								 : n;
	j->row_tiles = sli_ceil_div(m, j->tile_rows);
}

static operand take(sl_cpu *cpu, const sl_dense *m, const sl_matrix_desc *desc, bool never_turned, void **at) {
	if (whole(desc) && !(never_turned && turned(desc->order)))
		return (operand){m->data, m->ld, turned(desc->order)};
	sl_dense copy = *m;
	copy.order = SL_ROW_MAJOR;
	copy.ld = m->cols;
	if (!never_turned && turned(desc->order)) {
		copy.order = SL_COL_MAJOR;
		copy.ld = m->rows;
	}
	copy.data = sli_carve(at, dense_bytes(desc));
	sli_cpu_convert(cpu, m, &copy);
	return (operand){copy.data, copy.ld, copy.order == SL_COL_MAJOR};
}

static sl_status run_library(gemm_job *j) {
	const sl_op_desc *desc = j->desc;
	void *at = j->args->workspace;
	bool columns = by_columns(desc), depth = by_depth(desc);
	j->columns = columns ? j->c.ld : j->c.cols;
	j->depth = depth ? j->args->a.ld : j->k;
	j->a = depth ? (operand){j->args->a.data, j->args->a.ld, false} : take(j->cpu, &j->args->a, &desc->a, true, &at);
	j->b = columns || depth ? (operand){j->args->b.data, j->args->b.ld, depth}
							: take(j->cpu, &j->args->b, &desc->b, false, &at);
	bool direct = columns || (whole(&desc->c) && !turned(desc->c.order));
	if (!direct) {
		j->c.order = SL_ROW_MAJOR;
		j->c.ld = j->c.cols;
		j->c.data = sli_carve(&at, dense_bytes(&desc->c));
		if (j->args->beta != 0)
			sli_cpu_convert(j->cpu, &j->args->c, &j->c);
	}
	choose_tiles(j);
	size_t tiles = (size_t)(j->row_tiles * sli_ceil_div(j->c.cols, j->tile_cols));
	j->cpu->host->parallel(j->cpu->host->user, tiles, library_tile, j);
	if (j->failed)
		return j->cpu->host->fail(j->cpu->host->user, SL_ERR_BACKEND, "oneDNN's sgemm returned status %d", j->failed);
	if (!direct)
		sli_cpu_convert(j->cpu, &j->c, &j->args->c);
	return SL_OK;
}
#endif

sl_status sli_cpu_gemm(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	gemm_job j = {.cpu = cpu, .desc = &plan->desc, .args = args, .c = args->c, .k = args->a.cols};
	if (!args->c.rows || !args->c.cols)
		return SL_OK;
#ifdef SL_WITH_ONEDNN
	if (by_library(&plan->desc) && j.k > 0) {
		SL_TRY(run_library(&j));
		sli_cpu_zero_padding(&args->c);
		if (plan->desc.pre_activation)
			sli_cpu_zero_padding(&args->d);
		return SL_OK;
	}
#endif
	cpu->host->parallel(cpu->host->user, (size_t)sli_ceil_div(args->c.rows, 16), own_rows, &j);
	sli_cpu_zero_padding(&args->c);
	if (plan->desc.pre_activation)
		sli_cpu_zero_padding(&args->d);
	return SL_OK;
}
