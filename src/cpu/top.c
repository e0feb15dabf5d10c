/* SPDX-License-Identifier: Apache-2.0 */
/* SL_OP_TOP: a tile of rows of the product by the dense library, and their largest elements while it is in the cache. A
 * task is a slot of workspace, which takes tiles until there are none left, as in densify.c. */
#include "cpu/top.h"

#include <stdio.h>

#include "cpu/densify.h"

static const sl_kernel *kernel_for(const sl_cpu *cpu, const sl_op_desc *desc) {
	return sli_cpu_choose(cpu, SL_OP_TOP, desc->a.dtype, desc->kernel);
}

bool sli_cpu_top_serves(const sl_cpu *cpu, const sl_op_desc *desc) {
#ifdef SL_WITH_ONEDNN
	return desc->a.dtype == SL_F32 && desc->a.order == SL_ROW_MAJOR && desc->b.order == SL_COL_MAJOR &&
		   desc->count > 0 && desc->count <= SL_TOP_MOST && desc->b.cols >= SL_TOP_COLS && desc->b.cols <= INT32_MAX &&
		   kernel_for(cpu, desc);
#else
	(void)cpu, (void)desc;
	return false;
#endif
}

/* Rows of a tile: half of a usual second-level cache, or as many as make the library fast. */
static int64_t tile_rows(const sl_op_desc *desc) {
	enum { FLOATS = 128 << 10, LEAST = 32, MOST = 256 };
	int64_t rows = FLOATS / desc->b.cols / 16 * 16;
	rows = rows < LEAST ? LEAST : rows > MOST ? MOST : rows;
	return rows < desc->a.rows ? rows : desc->a.rows;
}

static size_t list_bytes(const sl_op_desc *desc) {
	return sli_align64((size_t)(desc->b.cols + SL_TOP_SPARE) * sizeof(int32_t));
}

static size_t slot_bytes(const sl_op_desc *desc) {
	return sli_align64((size_t)(tile_rows(desc) * desc->b.cols) * sizeof(float)) + 2 * list_bytes(desc);
}

static int64_t slots(const sl_cpu *cpu, const sl_op_desc *desc) {
	int64_t rows = tile_rows(desc), tiles = rows ? sli_ceil_div(desc->a.rows, rows) : 0;
	int64_t threads = cpu->host->threads > 0 ? cpu->host->threads : 1;
	return tiles < threads ? tiles : threads;
}

sl_status sli_cpu_top_plan(sl_cpu *cpu, sl_op_plan *plan) {
	const sl_op_desc *desc = &plan->desc;
	if (!sli_cpu_top_serves(cpu, desc))
		return cpu->host->fail(cpu->host->user, SL_ERR_UNSUPPORTED, "cpu: no kernel for the largest of a product");
	plan->kernel = kernel_for(cpu, desc);
	plan->workspace = (size_t)slots(cpu, desc) * slot_bytes(desc);
	snprintf(plan->text, sizeof plan->text, "largest %lld a row of %lldx%lldx%lld: %s, tiles of %lld rows, oneDNN",
			 (long long)desc->count, (long long)desc->a.rows, (long long)desc->b.cols, (long long)desc->a.cols,
			 ((const sl_kernel *)plan->kernel)->name, (long long)tile_rows(desc));
	return SL_OK;
}

#ifdef SL_WITH_ONEDNN
typedef struct top_job {
	const sl_op_desc *desc;
	const sl_op_args *args;
	const sl_kernel *kernel;
	int64_t rows, tiles;
	int64_t next; /* atomic: the next tile */
	int failed;   /* atomic */
} top_job;

static void pick(const top_job *j, float *tile, int64_t begin, int64_t end, int32_t *values, int32_t *columns) {
	const sl_pattern_arrays *p = &j->desc->sparse.arrays;
	int64_t cols = j->desc->b.cols, keep = j->desc->count;
	for (int64_t r = begin; r < end; r++, tile += cols) {
		int64_t first = sli_cpu_offset(p->row_offsets, p->offset_dtype, r);
		sl_top_task task = {.scores = tile,
							.cols = cols,
							.keep = keep,
							.taken = p->col_indices + first,
							.taken_count = sli_cpu_offset(p->row_offsets, p->offset_dtype, r + 1) - first,
							.least = (int32_t)j->args->count,
							.values = values,
							.columns = columns};
		int64_t n = j->kernel->top(&task);
		((int32_t *)j->args->vector[0])[r] = (int32_t)n;
		memcpy((int32_t *)j->args->vector[1] + r * keep, columns, (size_t)n * sizeof *columns);
		memcpy((int32_t *)j->args->vector[2] + r * keep, values, (size_t)n * sizeof *values);
	}
}

static void run_slot(void *argument, size_t slot) {
	top_job *j = argument;
	const sl_dense *a = &j->args->a, *b = &j->args->b;
	char *at = (char *)j->args->workspace + slot * slot_bytes(j->desc);
	int32_t *values = (int32_t *)(void *)at, *columns = (int32_t *)(void *)(at + list_bytes(j->desc));
	float *tile = (float *)(void *)(at + 2 * list_bytes(j->desc));
	for (int64_t i = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED); i < j->tiles;
		 i = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED)) {
		int64_t r0 = i * j->rows, r1 = r0 + j->rows < a->rows ? r0 + j->rows : a->rows;
		int status = 0;
		if (a->cols)
			status = sli_cpu_sgemm(false, true, r1 - r0, b->cols, a->cols, 1, (const float *)a->data + r0 * a->ld,
								   a->ld, b->data, b->ld, 0, tile, b->cols);
		else
			memset(tile, 0, (size_t)((r1 - r0) * b->cols) * sizeof *tile);
		if (status)
			__atomic_store_n(&j->failed, status, __ATOMIC_RELAXED);
		pick(j, tile, r0, r1, values, columns);
	}
}
#endif

sl_status sli_cpu_top_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
#ifdef SL_WITH_ONEDNN
	const sl_op_desc *desc = &plan->desc;
	top_job j = {.desc = desc, .args = args, .kernel = plan->kernel, .rows = tile_rows(desc)};
	if (!args->a.rows)
		return SL_OK;
	j.tiles = sli_ceil_div(args->a.rows, j.rows);
	cpu->host->parallel(cpu->host->user, (size_t)slots(cpu, desc), run_slot, &j);
	if (j.failed)
		return cpu->host->fail(cpu->host->user, SL_ERR_BACKEND, "oneDNN's sgemm returned status %d", j.failed);
	return SL_OK;
#else
	(void)plan, (void)args;
	return cpu->host->fail(cpu->host->user, SL_ERR_UNSUPPORTED, "cpu: no kernel for the largest of a product");
#endif
}
