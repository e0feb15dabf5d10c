/* SPDX-License-Identifier: Apache-2.0 */
/* Planning and running the sparse products, conversion and gather. */
#include "cpu/products.h"

#include <stdio.h>

#include "cpu/activation.h"
#include "cpu/blocks.h"
#include "cpu/densify.h"

static bool rowlike(sl_order order) {
	return order == SL_ROW_MAJOR || order == SL_COL_PANELS;
}

/* The panel width the product runs in: C's where it has panels, else B's, else 64. */
static int64_t run_width(const sl_op_desc *desc) {
	if (desc->c.order == SL_COL_PANELS)
		return desc->c.ld;
	return desc->b.order == SL_COL_PANELS ? desc->b.ld : 64;
}

static bool b_direct(const sl_op_desc *desc) {
	return desc->b.order == SL_ROW_MAJOR || (desc->b.order == SL_COL_PANELS && desc->b.ld == run_width(desc));
}

static sl_status plan_spmm(sl_cpu *cpu, sl_op_plan *plan) {
	const sl_op_desc *desc = &plan->desc;
	const sl_pattern_arrays *s = sli_cpu_structure(desc);
	int64_t width = run_width(desc);
	if (desc->transpose)
		plan->workspace += sli_align64((size_t)s->nnz * sl_dtype_size(desc->b.dtype));
	if (!b_direct(desc))
		plan->workspace += sli_cpu_panel_bytes(desc->b.rows, desc->b.cols, width, desc->b.dtype);
	if (!rowlike(desc->c.order))
		plan->workspace += sli_cpu_panel_bytes(desc->c.rows, desc->c.cols, width, desc->c.dtype);
	plan->state =
		sli_cpu_schedule(cpu, s, width < 64 ? width : 64, desc->b.dtype, desc->transpose ? &desc->sparse : NULL);
	return plan->state ? SL_OK : SL_ERR_MEMORY;
}

/* The panel width of an SDDMM: A's, where the vector kernels have that width, else 64. */
static int64_t sample_width(const sl_op_desc *desc) {
	int64_t ld = desc->a.ld;
	bool fits = ld == 8 || ld == 16 || ld == 32 || ld == 64;
	return desc->a.order == SL_COL_PANELS && fits ? ld : 64;
}

static bool a_packed(const sl_op_desc *desc) {
	return desc->a.order != SL_COL_PANELS || desc->a.ld != sample_width(desc);
}

static sl_status plan_sddmm(sl_cpu *cpu, sl_op_plan *plan) {
	const sl_op_desc *desc = &plan->desc;
	int64_t width = sample_width(desc);
	if (a_packed(desc))
		plan->workspace += sli_cpu_panel_bytes(desc->a.rows, desc->a.cols, width, desc->a.dtype);
	if (desc->b.order != SL_ROW_PANELS || desc->b.ld != width)
		plan->workspace += sli_cpu_panel_bytes(desc->b.cols, desc->b.rows, width, desc->b.dtype);
	plan->state = sli_cpu_schedule(cpu, &desc->sparse.arrays, width, desc->b.dtype, NULL);
	return plan->state ? SL_OK : SL_ERR_MEMORY;
}

/* How a sparse product runs. */
typedef enum way { DENSE_TILES, SMALL_BATCH, BLOCKS, ROWS } way;

static sl_status choose_way(sl_cpu *cpu, const sl_op_desc *desc, way *how, const sl_kernel **kernel) {
	*kernel = NULL;
	*how = DENSE_TILES;
	if (sli_cpu_wants_dense(desc))
		return sli_cpu_densify_supports(cpu, desc);
	*how = SMALL_BATCH;
	*kernel = sli_cpu_choose_small(cpu, desc);
	if (*kernel)
		return SL_OK;
	*how = BLOCKS;
	*kernel = sli_cpu_choose_blocked(cpu, desc);
	if (*kernel)
		return SL_OK;
	*how = ROWS;
	*kernel = sli_cpu_choose(cpu, desc->kind, desc->b.dtype, desc->kernel);
	if (*kernel)
		return SL_OK;
	return cpu->host->fail(cpu->host->user, SL_ERR_UNSUPPORTED, "cpu: no kernel %s for %s of %s",
						   desc->kernel ? desc->kernel : "", desc->kind == SL_OP_SPMM ? "spmm" : "sddmm",
						   sl_dtype_name(desc->b.dtype));
}

sl_status sli_cpu_sparse_supports(sl_cpu *cpu, const sl_op_desc *desc) {
	way how;
	const sl_kernel *kernel;
	return choose_way(cpu, desc, &how, &kernel);
}

static sl_status plan_rows(sl_cpu *cpu, const sl_kernel *kernel, sl_op_plan *plan) {
	const sl_op_desc *desc = &plan->desc;
	const sl_pattern_arrays *s = &desc->sparse.arrays;
	plan->kernel = kernel;
	snprintf(plan->text, sizeof plan->text, "%s%s %lldx%lld nnz %lld batch %lld: %s, panels of %lld",
			 desc->kind == SL_OP_SPMM ? "spmm" : "sddmm", desc->transpose ? " transposed" : "", (long long)s->rows,
			 (long long)s->cols, (long long)s->nnz, (long long)(desc->kind == SL_OP_SPMM ? desc->c.cols : desc->a.cols),
			 kernel->name, (long long)(desc->kind == SL_OP_SPMM ? run_width(desc) : sample_width(desc)));
	return desc->kind == SL_OP_SPMM ? plan_spmm(cpu, plan) : plan_sddmm(cpu, plan);
}

sl_status sli_cpu_product_plan(sl_cpu *cpu, const sl_op_desc *desc, sl_op_plan *plan) {
	way how;
	const sl_kernel *kernel;
	if (desc->kind == SL_OP_GEMM)
		return sli_cpu_gemm_plan(cpu, plan);
	if (desc->kind == SL_OP_CONVERT || desc->kind == SL_OP_GATHER) {
		snprintf(plan->text, sizeof plan->text, "%s", desc->kind == SL_OP_CONVERT ? "convert" : "gather");
		return SL_OK;
	}
	SL_TRY(choose_way(cpu, desc, &how, &kernel));
	switch (how) {
	case DENSE_TILES:
		return sli_cpu_densify_plan(cpu, plan);
	case SMALL_BATCH:
		return sli_cpu_small_plan(cpu, kernel, plan);
	case BLOCKS:
		return sli_cpu_blocked_plan(cpu, kernel, plan);
	default:
		return plan_rows(cpu, kernel, plan);
	}
}

static bool blocked(const sl_op_plan *plan) {
	return plan->kernel && ((const sl_kernel *)plan->kernel)->blocked;
}

void sli_cpu_product_destroy(sl_cpu *cpu, sl_op_plan *plan) {
	if (sli_cpu_is_densified(plan)) {
		sli_cpu_densify_destroy(cpu, plan);
		return;
	}
	if (blocked(plan)) {
		sli_cpu_blocked_destroy(cpu, plan);
		return;
	}
	if (plan->kernel && ((const sl_kernel *)plan->kernel)->small) {
		sli_cpu_small_destroy(cpu, plan);
		return;
	}
	sli_cpu_schedule_destroy(cpu, plan->state);
	plan->state = NULL;
}

typedef struct spmm_job {
	const sl_op_desc *desc;
	const sl_op_args *args;
	const sl_kernel *kernel;
	const sl_schedule_of_rows *schedule;
	const void *values;
	sl_dense b, c;
	int64_t width;
} spmm_job;

static bool by_rows(const spmm_job *j) {
	return sl_dtype_size(j->c.dtype) == 2 && sli_has_epilogue(j->desc);
}

static int64_t tile_width(const spmm_job *j) {
	return j->width < j->kernel->tile ? j->width : j->kernel->tile;
}

/* A row's sums in float32, finished and rounded to 16 bits; false: its columns do not lie together. */
static bool finish_half_row(const spmm_job *j, int64_t r, int64_t c0, float *row, int64_t n) {
	const sl_op_desc *desc = j->desc;
	const sl_cpu *cpu = desc->device;
	const sl_kernel *half = sli_cpu_half(cpu, j->c.dtype);
	const sl_dense *c = &j->c, *pre = &j->args->d;
	if (!rowlike(c->order) || (desc->pre_activation && (pre->order != c->order || pre->ld != c->ld)))
		return false;
	if (desc->bias)
		for (int64_t i = 0; i < n; i++)
			row[i] += ((const float *)j->args->bias)[r];
	if (desc->pre_activation)
		half->from_f32(row, (uint16_t *)pre->data + sli_at(pre, r, c0), n);
	if (desc->activation != SL_IDENTITY)
		cpu->math->activate(desc->activation, (float)desc->activation_parameter, row, row, n);
	half->from_f32(row, (uint16_t *)c->data + sli_at(c, r, c0), n);
	return true;
}

/* Half types with an epilogue: a row at a time in float32, rounded once when the epilogue is done. */
static void spmm_tile_halves(const spmm_job *j, sl_spmm_task task, int64_t c0, int64_t n) {
	float row[64] = {0};
	const sl_dense *c = &j->c;
	int64_t end = task.end;
	task.y = row;
	task.ldy = 0;
	task.wide = true;
	task.width = n;
	for (int64_t r = task.begin; r < end; r++) {
		task.begin = r;
		task.end = r + 1;
		for (int64_t i = 0; i < n && task.beta != 0; i++)
			row[i] = (float)sli_load(c->data, c->dtype, sli_at(c, r, c0 + i));
		j->kernel->spmm(&task);
		if (finish_half_row(j, r, c0, row, n))
			continue;
		for (int64_t i = 0; i < n; i++)
			sli_cpu_finish(j->desc, j->args, c, r, c0 + i, row[i]);
	}
}

static int64_t groups(const sl_schedule_of_rows *schedule) {
	return SL_CHUNKS / schedule->group;
}

/* index = tile * groups + group, so that neighbours share a panel of B. */
static void spmm_tile(void *argument, size_t index) {
	const spmm_job *j = argument;
	const sl_pattern_arrays *s = sli_cpu_structure(j->desc);
	int64_t tile = tile_width(j);
	int64_t tiles = sli_ceil_div(j->width, tile), chunks = groups(j->schedule), at = (int64_t)index / chunks;
	int64_t chunk = (int64_t)index % chunks * j->schedule->group;
	int64_t panel = at / tiles, inner = at % tiles * tile;
	int64_t c0 = panel * j->width + inner;
	int64_t room = j->width - inner < tile ? j->width - inner : tile;
	int64_t left = j->c.cols - c0 < room ? j->c.cols - c0 : room;
	if (left <= 0)
		return;
	/* Where both sides have padding the kernel may run over it: zeros in, zeros out. */
	bool padded = j->b.order == SL_COL_PANELS && j->c.order == SL_COL_PANELS;
	size_t size = sl_dtype_size(j->b.dtype);
	sl_spmm_task task = {.offset_dtype = j->schedule->starts ? SL_I32 : s->offset_dtype,
						 .columns = j->schedule->columns ? j->schedule->columns : s->col_indices,
						 .values = j->values,
						 .x = (const char *)j->b.data + (size_t)sli_at(&j->b, 0, c0) * size,
						 .y = (char *)j->c.data + (size_t)sli_at(&j->c, 0, c0) * size,
						 .ldx = j->b.ld,
						 .ldy = j->c.ld,
						 .begin = j->schedule->begin[chunk],
						 .end = j->schedule->begin[chunk + j->schedule->group],
						 .width = padded ? room : left,
						 .alpha = j->args->alpha,
						 .beta = j->args->beta};
	/* Packed entries follow one another from row to row, so nothing has to be asked for ahead. */
	task.cut = j->schedule->starts && !j->schedule->columns;
	if (by_rows(j)) { /* halves are not cut: block 0 is all */
		sli_cpu_block(j->schedule, s, 0, &task.starts, &task.ends);
		spmm_tile_halves(j, task, c0, left);
		return;
	}
	for (int64_t b = 0; b < j->schedule->blocks; b++) {
		sli_cpu_block(j->schedule, s, b, &task.starts, &task.ends);
		j->kernel->spmm(&task);
		task.beta = 1; /* what the blocks before have left */
	}
	sli_cpu_epilogue(j->desc, j->args, &j->c, task.begin, task.end, c0, c0 + left);
}

typedef struct gather_job {
	const char *from;
	char *to;
	const void *permutation;
	sl_dtype dtype;
	size_t size;
	int64_t count;
} gather_job;

/* Two indices a load and two words a store: the loads of the words themselves are what remains. */
void sli_cpu_gather_words(const void *from, void *to, const int32_t *permutation, int64_t count) {
	const uint32_t *words = from;
	char *out = to;
	int64_t i = 0;
	for (; i + 8 <= count; i += 8)
		for (int64_t k = i; k < i + 8; k += 2) {
			uint64_t two, both;
			memcpy(&two, permutation + k, sizeof two);
			__asm__("" : "+r"(two)); /* else the compiler would load them one by one again */
			both = words[(uint32_t)two] | (uint64_t)words[two >> 32] << 32;
			memcpy(out + 4 * k, &both, sizeof both);
		}
	for (; i < count; i++)
		memcpy(out + 4 * i, words + permutation[i], 4);
}

static void gather_chunk(void *argument, size_t index) {
	const gather_job *j = argument;
	int64_t begin = (int64_t)index * 16384, end = begin + 16384 < j->count ? begin + 16384 : j->count;
	if (j->size == 4 && j->dtype == SL_I32) { /* f32 of less than 2^31 entries: nearly always */
		sli_cpu_gather_words(j->from, j->to + begin * 4, (const int32_t *)j->permutation + begin, end - begin);
		return;
	}
	for (int64_t i = begin; i < end; i++)
		memcpy(j->to + (size_t)i * j->size, j->from + (size_t)sli_cpu_offset(j->permutation, j->dtype, i) * j->size,
			   j->size);
}

void sli_cpu_gather(sl_cpu *cpu, const void *from, void *to, const void *permutation, sl_dtype index_dtype, size_t size,
					int64_t count) {
	gather_job j = {from, to, permutation, index_dtype, size, count};
	cpu->host->parallel(cpu->host->user, (size_t)sli_ceil_div(count, 16384), gather_chunk, &j);
}

static void run_spmm(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	const sl_op_desc *desc = &plan->desc;
	const sl_pattern_arrays *s = sli_cpu_structure(desc);
	void *at = args->workspace;
	spmm_job j = {.desc = desc, .args = args, .kernel = plan->kernel, .schedule = plan->state, .values = args->values};
	j.b = args->b;
	j.c = args->c;
	j.width = run_width(desc);
	if (!args->c.rows || !args->c.cols)
		return;
	if (desc->transpose) {
		void *permuted = sli_carve(&at, sli_align64((size_t)s->nnz * sl_dtype_size(desc->b.dtype)));
		const int32_t *packed = j.schedule->permutation;
		sli_cpu_gather(cpu, args->values, permuted, packed ? packed : desc->sparse.permutation,
					   packed ? SL_I32 : desc->sparse.permutation_dtype, sl_dtype_size(desc->b.dtype), s->nnz);
		j.values = permuted;
	}
	if (!b_direct(desc)) {
		void *data = sli_carve(&at, sli_cpu_panel_bytes(desc->b.rows, desc->b.cols, j.width, desc->b.dtype));
		j.b = sli_cpu_panels(data, desc->b.dtype, args->b.rows, args->b.cols, j.width);
		sli_cpu_convert(cpu, &args->b, &j.b);
	}
	if (!rowlike(desc->c.order)) {
		void *data = sli_carve(&at, sli_cpu_panel_bytes(desc->c.rows, desc->c.cols, j.width, desc->c.dtype));
		j.c = sli_cpu_panels(data, desc->c.dtype, args->c.rows, args->c.cols, j.width);
		if (args->beta != 0)
			sli_cpu_convert(cpu, &args->c, &j.c);
	}
	int64_t tiles = sli_ceil_div(j.c.cols, j.width) * sli_ceil_div(j.width, tile_width(&j));
	cpu->host->parallel(cpu->host->user, (size_t)(tiles * groups(j.schedule)), spmm_tile, &j);
	sli_cpu_zero_padding(&j.c);
	if (desc->pre_activation)
		sli_cpu_zero_padding(&args->d);
	if (j.c.data != args->c.data)
		sli_cpu_convert(cpu, &j.c, &args->c);
}

typedef struct sddmm_job {
	const sl_op_plan *plan;
	const sl_op_args *args;
	const sl_dense *a, *b; /* col-panels, b being [n, k] */
} sddmm_job;

static void sddmm_chunk(void *argument, size_t index) {
	const sddmm_job *j = argument;
	const sl_pattern_arrays *s = &j->plan->desc.sparse.arrays;
	const sl_schedule_of_rows *schedule = j->plan->state;
	size_t chunk = index * (size_t)schedule->group;
	sl_sddmm_task task = {.offset_dtype = schedule->starts ? SL_I32 : s->offset_dtype,
						  .columns = s->col_indices,
						  .values = j->args->values_out,
						  .a = j->a->data,
						  .b = j->b->data,
						  .a_rows = j->a->rows,
						  .b_rows = j->b->rows,
						  .ld = j->a->ld,
						  .n = j->a->cols,
						  .begin = schedule->begin[chunk],
						  .end = schedule->begin[chunk + (size_t)schedule->group],
						  .alpha = j->args->alpha,
						  .beta = j->args->beta};
	task.cut = schedule->starts != NULL;
	for (int64_t b = 0; b < schedule->blocks; b++) {
		sli_cpu_block(schedule, s, b, &task.starts, &task.ends);
		((const sl_kernel *)j->plan->kernel)->sddmm(&task);
	}
}

static void run_sddmm(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	const sl_op_desc *desc = &plan->desc;
	void *at = args->workspace;
	sl_dense a = args->a, b = sl_dense_transposed(args->b);
	int64_t width = sample_width(desc);
	if (a_packed(desc)) {
		void *data = sli_carve(&at, sli_cpu_panel_bytes(desc->a.rows, desc->a.cols, width, desc->a.dtype));
		a = sli_cpu_panels(data, desc->a.dtype, args->a.rows, args->a.cols, width);
		sli_cpu_convert(cpu, &args->a, &a);
	}
	if (desc->b.order != SL_ROW_PANELS || desc->b.ld != width) {
		sl_dense from = b;
		void *data = sli_carve(&at, sli_cpu_panel_bytes(desc->b.cols, desc->b.rows, width, desc->b.dtype));
		b = sli_cpu_panels(data, desc->b.dtype, from.rows, from.cols, width);
		sli_cpu_convert(cpu, &from, &b);
	}
	sddmm_job j = {plan, args, &a, &b};
	cpu->host->parallel(cpu->host->user, (size_t)groups(plan->state), sddmm_chunk, &j);
}

sl_status sli_cpu_product_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	if (sli_cpu_is_densified(plan))
		return sli_cpu_densify_execute(cpu, plan, args);
	if (blocked(plan)) {
		sli_cpu_blocked_execute(cpu, plan, args);
		return SL_OK;
	}
	if (plan->kernel && ((const sl_kernel *)plan->kernel)->small)
		return sli_cpu_small_execute(cpu, plan, args);
	switch (plan->desc.kind) {
	case SL_OP_CONVERT:
		sli_cpu_convert(cpu, &args->a, &args->c);
		return SL_OK;
	case SL_OP_GATHER:
		sli_cpu_gather(cpu, args->vector[0], args->vector[1], args->vector[2], plan->desc.index_dtype,
					   sl_dtype_size(plan->desc.a.dtype), args->count);
		return SL_OK;
	case SL_OP_SPMM:
		run_spmm(cpu, plan, args);
		return SL_OK;
	case SL_OP_SDDMM:
		run_sddmm(cpu, plan, args);
		return SL_OK;
	default:
		return sli_cpu_gemm(cpu, plan, args);
	}
}

static double bias_of(const sl_op_args *args, sl_dtype dtype, int64_t row) {
	return dtype == SL_F64 ? ((const double *)args->bias)[row] : ((const float *)args->bias)[row];
}

/* f32, contiguous columns: the common case, written so that the compiler vectorises it. */
static void epilogue_f32(const sl_op_desc *desc, float bias, float *y, float *pre, int64_t n) {
	for (int64_t i = 0; i < n; i++)
		y[i] += bias;
	if (pre)
		memcpy(pre, y, (size_t)n * sizeof *pre);
	if (desc->activation != SL_IDENTITY)
		((const sl_cpu *)desc->device)->math->activate(desc->activation, (float)desc->activation_parameter, y, y, n);
}

/* Where the columns from `c` on stop being neighbours in memory. */
static int64_t run_end(const sl_dense *m, int64_t c, int64_t limit) {
	if (m->order != SL_COL_PANELS)
		return limit;
	int64_t end = (c / m->ld + 1) * m->ld;
	return end < limit ? end : limit;
}

void sli_cpu_finish(const sl_op_desc *desc, const sl_op_args *args, const sl_dense *c, int64_t r, int64_t j,
					double sum) {
	double z = desc->bias ? sum + bias_of(args, c->dtype, r) : sum, y;
	if (c->dtype == SL_F64) {
		y = sli_act_f64(desc->activation, desc->activation_parameter, z);
	} else {
		float x = (float)z;
		z = x;
		if (desc->activation != SL_IDENTITY)
			((const sl_cpu *)desc->device)
				->math->activate(desc->activation, (float)desc->activation_parameter, &x, &x, 1);
		y = x;
	}
	if (desc->pre_activation)
		sli_store(args->d.data, args->d.dtype, sli_at(&args->d, r, j), z);
	sli_store(c->data, c->dtype, sli_at(c, r, j), y);
}

void sli_cpu_epilogue(const sl_op_desc *desc, const sl_op_args *args, const sl_dense *c, int64_t begin, int64_t end,
					  int64_t c0, int64_t c1) {
	if (!sli_has_epilogue(desc))
		return;
	for (int64_t r = begin; r < end; r++) {
		if (c->dtype == SL_F32 && rowlike(c->order) && (!desc->pre_activation || rowlike(args->d.order))) {
			float bias = desc->bias ? (float)bias_of(args, c->dtype, r) : 0;
			for (int64_t from = c0, to; from < c1; from = to) {
				to = run_end(c, from, c1);
				if (desc->pre_activation)
					to = run_end(&args->d, from, to);
				float *pre = desc->pre_activation ? (float *)args->d.data + sli_at(&args->d, r, from) : NULL;
				epilogue_f32(desc, bias, (float *)c->data + sli_at(c, r, from), pre, to - from);
			}
			continue;
		}
		for (int64_t j = c0; j < c1; j++)
			sli_cpu_finish(desc, args, c, r, j, sli_load(c->data, c->dtype, sli_at(c, r, j)));
	}
}
