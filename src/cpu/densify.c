/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products over dense tiles: a tile of W is written out with its zeros, small enough to stay in the second-level
 * cache, and handed to the dense library; a gradient's tile is computed whole and sampled. The weights change from
 * step to step, so nothing of their values is kept between calls: the tiles are workspace.
 *
 * A task is a slot of that workspace, not a tile: it takes tiles until there are none left. What a tile computes
 * does not depend on who computes it.
 */
#include "cpu/densify.h"

#include <stdio.h>

typedef struct densified {
	sl_cut cut;
	int64_t tile; /* rows of W in a tile; its columns are the cut's block */
	int slots;
	size_t slot_bytes;
} densified;

/* What plan.kernel is: a kernel by its name alone. */
static const sl_kernel marker = {.name = "dense"};

bool sli_cpu_is_densified(const sl_op_plan *plan) {
	return plan->kernel == &marker;
}

bool sli_cpu_wants_dense(const sl_op_desc *desc) {
	return desc->candidate && !strcmp(desc->candidate, "dense");
}

bool sli_cpu_can_densify(const sl_op_desc *desc) {
#ifdef SL_WITH_ONEDNN
	const sl_pattern_arrays *s = &desc->sparse.arrays;
	if (desc->b.dtype != SL_F32 || desc->kernel || !s->nnz || s->nnz >= INT32_MAX)
		return false;
	if (desc->kind == SL_OP_SPMM)
		return desc->b.order != SL_ROW_PANELS;
	return desc->kind == SL_OP_SDDMM && desc->a.order != SL_ROW_PANELS && desc->b.order != SL_COL_PANELS;
#else
	(void)desc;
	return false;
#endif
}

static int64_t at_most(int64_t a, int64_t b) {
	return a < b ? a : b;
}

/* A quarter of `n`, whole vectors, within bounds: enough tiles to share out, each worth a call of the library. */
static int64_t quarter(int64_t n, int64_t least, int64_t most) {
	int64_t part = sli_ceil_div(sli_ceil_div(n, 4), 16) * 16;
	return part < least ? least : at_most(part, most);
}

void sli_cpu_tile(const sl_op_desc *desc, int64_t *rows, int64_t *cols) {
	enum { FLOATS = 128 << 10 }; /* half of a usual second-level cache */
	const sl_pattern_arrays *s = &desc->sparse.arrays;
	int64_t all = sli_ceil_div(s->cols, 16) * 16;
	if (desc->transpose) { /* summed over rows */
		*cols = at_most(all, quarter(s->cols, 64, 128));
		*rows = at_most(s->rows, FLOATS / *cols);
	} else {
		*cols = at_most(all, desc->kind == SL_OP_SPMM ? 2048 : 512);
		*rows = quarter(s->rows, 32, at_most(128, FLOATS / *cols));
	}
}

#ifdef SL_WITH_ONEDNN
static bool rowlike(sl_order order) {
	return order == SL_ROW_MAJOR || order == SL_COL_PANELS;
}

static size_t whole_bytes(const sl_matrix_desc *m) {
	return sli_align64((size_t)(m->rows * m->cols) * sizeof(float));
}

static size_t starts_bytes(const sl_cut *cut) {
	return (size_t)(cut->rows * cut->blocks + 1) * sizeof *cut->starts;
}

static size_t mask_bytes(const sl_cut *cut) {
	return (size_t)(cut->rows * cut->words) * sizeof *cut->masks;
}

static void fill_cut(const sl_pattern_arrays *s, sl_cut *cut) {
	if (cut->masks)
		memset(cut->masks, 0, mask_bytes(cut));
	for (int64_t r = 0; r < s->rows; r++) {
		int64_t k = sli_cpu_offset(s->row_offsets, s->offset_dtype, r);
		int64_t end = sli_cpu_offset(s->row_offsets, s->offset_dtype, r + 1);
		for (int64_t b = 0; b < cut->blocks; b++) {
			cut->starts[r * cut->blocks + b] = (int32_t)k;
			for (; k < end && s->col_indices[k] < (b + 1) * cut->block; k++)
				if (cut->masks)
					cut->masks[r * cut->words + s->col_indices[k] / 16] |= (uint16_t)(1u << s->col_indices[k] % 16);
		}
	}
	cut->starts[s->rows * cut->blocks] = (int32_t)s->nnz;
}

static bool make_cut(sl_cpu *cpu, const sl_pattern_arrays *s, int64_t block, sl_cut *cut) {
	const sl_host *host = cpu->host;
	*cut = (sl_cut){.rows = s->rows,
					.cols = s->cols,
					.block = block,
					.blocks = sli_ceil_div(s->cols, block),
					.words = sli_ceil_div(s->cols, 16)};
	cut->starts = host->allocate(host->user, starts_bytes(cut));
	if (cut->starts && cpu->isa >= SL_ISA_AVX512 && !(cut->masks = host->allocate(host->user, mask_bytes(cut)))) {
		host->release(host->user, cut->starts, starts_bytes(cut));
		cut->starts = NULL;
	}
	if (!cut->starts)
		return false;
	fill_cut(s, cut);
	return true;
}

void sli_cpu_densify_destroy(sl_cpu *cpu, sl_op_plan *plan) {
	const sl_host *host = cpu->host;
	densified *d = plan->state;
	if (!d)
		return;
	if (d->cut.masks)
		host->release(host->user, d->cut.masks, mask_bytes(&d->cut));
	host->release(host->user, d->cut.starts, starts_bytes(&d->cut));
	host->release(host->user, d, sizeof *d);
	plan->state = NULL;
}

sl_status sli_cpu_densify_supports(sl_cpu *cpu, const sl_op_desc *desc) {
	return sli_cpu_can_densify(desc)
			   ? SL_OK
			   : cpu->host->fail(cpu->host->user, SL_ERR_UNSUPPORTED, "cpu: this product does not run dense");
}

sl_status sli_cpu_densify_plan(sl_cpu *cpu, sl_op_plan *plan) {
	const sl_op_desc *desc = &plan->desc;
	const sl_host *host = cpu->host;
	const sl_pattern_arrays *s = &desc->sparse.arrays;
	bool spmm = desc->kind == SL_OP_SPMM;
	densified *d = host->allocate(host->user, sizeof *d);
	if (!d)
		return host->fail(host->user, SL_ERR_MEMORY, "no memory for the product's plan");
	*d = (densified){0};
	int64_t block;
	sli_cpu_tile(desc, &d->tile, &block);
	if (!make_cut(cpu, s, block, &d->cut)) {
		host->release(host->user, d, sizeof *d);
		return host->fail(host->user, SL_ERR_MEMORY, "no memory for the product's plan");
	}
	int64_t tiles = desc->transpose ? d->cut.blocks : sli_ceil_div(s->rows, d->tile);
	d->slots = (int)at_most(host->threads > 0 ? host->threads : 1, tiles);
	d->slot_bytes = sli_align64((size_t)(d->tile * block) * sizeof(float));
	plan->workspace = (size_t)d->slots * d->slot_bytes;
	if (spmm && !rowlike(desc->c.order))
		plan->workspace += whole_bytes(&desc->c);
	plan->kernel = &marker;
	plan->state = d;
	snprintf(plan->text, sizeof plan->text, "%s%s %lldx%lld nnz %lld batch %lld: dense tiles of %lldx%lld, oneDNN",
			 spmm ? "spmm" : "sddmm", desc->transpose ? " transposed" : "", (long long)s->rows, (long long)s->cols,
			 (long long)s->nnz, (long long)(spmm ? desc->c.cols : desc->a.cols), (long long)d->tile, (long long)block);
	return SL_OK;
}

typedef struct dense_job {
	const sl_op_desc *desc;
	const sl_op_args *args;
	const densified *d;
	sl_dense c;
	char *scratch;
	int64_t tiles;
	int64_t next;   /* atomic: the next tile */
	int failed;     /* atomic */
	int not_finite; /* atomic */
} dense_job;

/* Rows [begin, end) of a block of W, from its values. */
static void expand(const dense_job *j, int64_t begin, int64_t end, int64_t block, float *to) {
	const sl_cut *cut = &j->d->cut;
	const int32_t *columns = j->desc->sparse.arrays.col_indices;
	int64_t c0 = block * cut->block, n = at_most(cut->block, cut->cols - c0);
	const float *values = j->args->values;
	for (int64_t r = begin; r < end; r++, to += cut->block) {
		int64_t from = cut->starts[r * cut->blocks + block], past = cut->starts[r * cut->blocks + block + 1];
		if (cut->masks) {
#if defined(__x86_64__)
			sli_expand_avx512(values + from, j->desc->sparse.arrays.nnz - from, cut->masks + r * cut->words + c0 / 16,
							  n, to);
#endif
			continue;
		}
		memset(to, 0, (size_t)n * sizeof *to);
		for (int64_t k = from; k < past; k++)
			to[columns[k] - c0] = values[k];
	}
}

static void sample(const dense_job *j, int64_t begin, int64_t end, int64_t block, const float *tile) {
	const sl_cut *cut = &j->d->cut;
	const int32_t *columns = j->desc->sparse.arrays.col_indices;
	int64_t c0 = block * cut->block, n = at_most(cut->block, cut->cols - c0);
	float *values = j->args->values_out, beta = (float)j->args->beta;
	for (int64_t r = begin; r < end; r++, tile += cut->block) {
		int64_t from = cut->starts[r * cut->blocks + block], past = cut->starts[r * cut->blocks + block + 1];
		if (cut->masks) {
#if defined(__x86_64__)
			sli_compress_avx512(tile, cut->masks + r * cut->words + c0 / 16, n, beta, values + from);
#endif
			continue;
		}
		for (int64_t k = from; k < past; k++)
			values[k] = tile[columns[k] - c0] + (beta == 0 ? 0 : beta * values[k]);
	}
}

static int64_t next_tile(dense_job *j) {
	return __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED);
}

/* Where columns from `c` on stop being one matrix. */
static int64_t panel_end(const sl_dense *m, int64_t c, int64_t limit) {
	return m->order == SL_COL_PANELS ? at_most((c / m->ld + 1) * m->ld, limit) : limit;
}

/* Rows [r0, r1) of C += a tile of W, over rows [k0, k0 + k) of B, for all columns. */
static void multiply(dense_job *j, const float *tile, int64_t r0, int64_t r1, int64_t k0, int64_t k, bool last) {
	const sl_dense *b = &j->args->b, *c = &j->c;
	float beta = k0 ? 1.0f : (float)j->args->beta;
	for (int64_t c0 = 0, c1; c0 < c->cols; c0 = c1) {
		c1 = panel_end(b, c0, panel_end(c, c0, c->cols));
		int status =
			sli_cpu_sgemm(j->desc->transpose, b->order == SL_COL_MAJOR, r1 - r0, c1 - c0, k, (float)j->args->alpha,
						  tile, j->d->cut.block, (const float *)b->data + sli_at(b, k0, c0), b->ld, beta,
						  (float *)c->data + sli_at(c, r0, c0), c->ld);
		if (status)
			__atomic_store_n(&j->failed, status, __ATOMIC_RELAXED);
		if (last)
			sli_cpu_epilogue(j->desc, j->args, c, r0, r1, c0, c1);
	}
}

static void spmm_slot(void *argument, size_t slot) {
	dense_job *j = argument;
	const sl_cut *cut = &j->d->cut;
	float *tile = (float *)(void *)(j->scratch + slot * j->d->slot_bytes);
	for (int64_t i = next_tile(j); i < j->tiles; i = next_tile(j)) {
		if (j->desc->transpose) {
			int64_t c0 = i * cut->block, c1 = at_most(c0 + cut->block, cut->cols);
			for (int64_t k0 = 0, k1; k0 < cut->rows; k0 = k1) {
				k1 = at_most(k0 + j->d->tile, cut->rows);
				expand(j, k0, k1, i, tile);
				multiply(j, tile, c0, c1, k0, k1 - k0, k1 == cut->rows);
			}
			continue;
		}
		int64_t r0 = i * j->d->tile, r1 = at_most(r0 + j->d->tile, cut->rows);
		for (int64_t b = 0; b < cut->blocks; b++) {
			int64_t k0 = b * cut->block;
			expand(j, r0, r1, b, tile);
			multiply(j, tile, r0, r1, k0, at_most(cut->block, cut->cols - k0), b + 1 == cut->blocks);
		}
	}
}

static bool all_finite(const dense_job *j, const float *x, int64_t n) {
#if defined(__x86_64__)
	if (j->d->cut.masks)
		return sli_finite_avx512(x, n);
#endif
	uint32_t bad = 0;
	for (int64_t k = 0; k < n; k++) { /* the exponent is all ones in NaN and infinity alone */
		uint32_t bits;
		memcpy(&bits, x + k, sizeof bits);
		bad |= (bits & 0x7f800000u) == 0x7f800000u;
	}
	return !bad;
}

/* Whether B has a NaN or infinity: a zero of the tile times one would reach sums it does not belong to. Padding is
 * zero. */
static void look(void *argument, size_t index) {
	dense_job *j = argument;
	const sl_dense *b = &j->args->b;
	enum { LINES = 16 };
	bool columns = b->order == SL_COL_MAJOR;
	int64_t lines = columns ? b->cols : b->rows, length = columns ? b->rows : b->cols;
	int64_t panels = 1;
	if (b->order == SL_COL_PANELS) {
		panels = sli_ceil_div(b->cols, b->ld);
		length = b->ld;
	}
	bool bad = false;
	int64_t end = at_most(((int64_t)index + 1) * LINES, lines * panels);
	for (int64_t i = (int64_t)index * LINES; i < end; i++)
		bad |= !all_finite(j, (const float *)b->data + i * b->ld, length);
	if (bad)
		__atomic_store_n(&j->not_finite, 1, __ATOMIC_RELAXED);
}

static void look_through(sl_cpu *cpu, dense_job *j) {
	const sl_dense *b = &j->args->b;
	int64_t lines = b->order == SL_COL_MAJOR ? b->cols : b->rows;
	if (b->order == SL_COL_PANELS)
		lines *= sli_ceil_div(b->cols, b->ld);
	cpu->host->parallel(cpu->host->user, (size_t)sli_ceil_div(lines, 16), look, j);
}

/* Entry by entry, for the columns of one task: slow, and right where B is not finite. */
static void by_entries(void *argument, size_t index) {
	dense_job *j = argument;
	const sl_pattern_arrays *s = &j->desc->sparse.arrays;
	const sl_dense *b = &j->args->b, *c = &j->c;
	const float *values = j->args->values, *x = b->data;
	float *y = c->data, alpha = (float)j->args->alpha, beta = (float)j->args->beta;
	int64_t c0 = (int64_t)index * 16, c1 = at_most(c0 + 16, c->cols);
	for (int64_t r = 0; r < c->rows; r++)
		for (int64_t col = c0; col < c1; col++)
			y[sli_at(c, r, col)] = beta == 0 ? 0 : beta * y[sli_at(c, r, col)];
	for (int64_t r = 0; r < s->rows; r++)
		for (int64_t k = sli_cpu_offset(s->row_offsets, s->offset_dtype, r),
					 end = sli_cpu_offset(s->row_offsets, s->offset_dtype, r + 1);
			 k < end; k++) {
			int64_t to = j->desc->transpose ? s->col_indices[k] : r, from = j->desc->transpose ? r : s->col_indices[k];
			for (int64_t col = c0; col < c1; col++)
				y[sli_at(c, to, col)] += alpha * values[k] * x[sli_at(b, from, col)];
		}
	sli_cpu_epilogue(j->desc, j->args, c, 0, c->rows, c0, c1);
}

static sl_status run_spmm(sl_cpu *cpu, dense_job *j) {
	const sl_op_desc *desc = j->desc;
	if (!j->args->c.rows || !j->args->c.cols)
		return SL_OK;
	void *at = j->args->workspace;
	j->scratch = sli_carve(&at, (size_t)j->d->slots * j->d->slot_bytes);
	if (!rowlike(desc->c.order)) {
		j->c.order = SL_ROW_MAJOR;
		j->c.ld = j->c.cols;
		j->c.data = sli_carve(&at, whole_bytes(&desc->c));
		if (j->args->beta != 0)
			sli_cpu_convert(cpu, &j->args->c, &j->c);
	}
	look_through(cpu, j);
	if (j->not_finite)
		cpu->host->parallel(cpu->host->user, (size_t)sli_ceil_div(j->c.cols, 16), by_entries, j);
	else
		cpu->host->parallel(cpu->host->user, (size_t)j->d->slots, spmm_slot, j);
	sli_cpu_zero_padding(&j->c);
	if (desc->pre_activation)
		sli_cpu_zero_padding(&j->args->d);
	if (j->c.data != j->args->c.data)
		sli_cpu_convert(cpu, &j->c, &j->args->c);
	return SL_OK;
}

/* Where the depth from `k` on stops being one matrix, on either side. */
static int64_t depth_end(const sl_op_args *args, int64_t k) {
	int64_t end = panel_end(&args->a, k, args->a.cols);
	return args->b.order == SL_ROW_PANELS ? at_most((k / args->b.ld + 1) * args->b.ld, end) : end;
}

static void sddmm_slot(void *argument, size_t slot) {
	dense_job *j = argument;
	const sl_cut *cut = &j->d->cut;
	const sl_dense *a = &j->args->a, *b = &j->args->b;
	float *tile = (float *)(void *)(j->scratch + slot * j->d->slot_bytes);
	for (int64_t i = next_tile(j); i < j->tiles; i = next_tile(j)) {
		int64_t r0 = i * j->d->tile, r1 = at_most(r0 + j->d->tile, cut->rows);
		for (int64_t block = 0; block < cut->blocks; block++) {
			int64_t c0 = block * cut->block, n = at_most(cut->block, cut->cols - c0);
			if (!a->cols)
				memset(tile, 0, j->d->slot_bytes);
			for (int64_t k0 = 0, k1; k0 < a->cols; k0 = k1) {
				k1 = depth_end(j->args, k0);
				int status = sli_cpu_sgemm(a->order == SL_COL_MAJOR, b->order != SL_ROW_MAJOR, r1 - r0, n, k1 - k0,
										   (float)j->args->alpha, (const float *)a->data + sli_at(a, r0, k0), a->ld,
										   (const float *)b->data + sli_at(b, k0, c0), b->ld, k0 ? 1.0f : 0.0f, tile,
										   cut->block);
				if (status)
					__atomic_store_n(&j->failed, status, __ATOMIC_RELAXED);
			}
			sample(j, r0, r1, block, tile);
		}
	}
}

sl_status sli_cpu_densify_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	const densified *d = plan->state;
	dense_job j = {.desc = &plan->desc, .args = args, .d = d, .c = args->c, .scratch = args->workspace};
	j.tiles = plan->desc.transpose ? d->cut.blocks : sli_ceil_div(d->cut.rows, d->tile);
	if (plan->desc.kind == SL_OP_SPMM)
		SL_TRY(run_spmm(cpu, &j));
	else
		cpu->host->parallel(cpu->host->user, (size_t)d->slots, sddmm_slot, &j);
	if (j.failed)
		return cpu->host->fail(cpu->host->user, SL_ERR_BACKEND, "oneDNN's sgemm returned status %d", j.failed);
	return SL_OK;
}
#else
void sli_cpu_densify_destroy(sl_cpu *cpu, sl_op_plan *plan) {
	(void)cpu, (void)plan;
}
sl_status sli_cpu_densify_supports(sl_cpu *cpu, const sl_op_desc *desc) {
	(void)desc;
	return cpu->host->fail(cpu->host->user, SL_ERR_UNSUPPORTED, "cpu: built without oneDNN, nothing runs dense");
}
sl_status sli_cpu_densify_plan(sl_cpu *cpu, sl_op_plan *plan) {
	return sli_cpu_densify_supports(cpu, &plan->desc);
}
sl_status sli_cpu_densify_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	(void)args;
	return sli_cpu_densify_supports(cpu, &plan->desc);
}
#endif
