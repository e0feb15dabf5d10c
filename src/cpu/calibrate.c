/* SPDX-License-Identifier: Apache-2.0 */
/* Timing a designed set of products on the calling thread, and fitting the factors of cost.c to it. */
#include <time.h>

#include "cpu/cost.h"
#include "cpu/densify.h"

/* Patterns on either side of each cache, around the densities at which dense and sparse meet. */
static const struct design {
	int64_t rows, cols;
	double density;
} designs[] = {
	{64, 64, 0.5},    {256, 64, 0.7},    {256, 64, 0.2},     {256, 256, 0.4},  {512, 512, 0.7},
	{512, 512, 0.3},  {512, 512, 0.08},  {192, 1536, 0.6},   {192, 1536, 0.1}, {1536, 192, 0.6},
	{1536, 192, 0.1}, {1024, 1024, 0.5}, {1024, 1024, 0.02},
};
enum { DESIGNS = sizeof designs / sizeof designs[0], LARGEST = 1024, MOST_NNZ = LARGEST * LARGEST };
/* Batches, each with the panels a chain would have; and one matrix, which a dense chain has. */
static const struct shape {
	int64_t batch, width;
} shapes[] = {{1, 1}, {8, 8}, {16, 16}, {32, 32}, {64, 64}, {128, 64}, {128, 128}};
enum {
	SHAPES = sizeof shapes / sizeof shapes[0],
	OBSERVATIONS = DESIGNS * SHAPES,
	WIDEST_SIDE = 1536,
	MOST_BATCH = 128
};

/* One pattern with its transpose, values, and two activations; all in one piece of memory. */
typedef struct stage {
	int32_t offsets[WIDEST_SIDE + 1], turned_offsets[WIDEST_SIDE + 1], at[WIDEST_SIDE + 1];
	int32_t columns[MOST_NNZ], turned_columns[MOST_NNZ], permutation[MOST_NNZ];
	_Alignas(64) float values[MOST_NNZ];
	_Alignas(64) float x[WIDEST_SIDE * MOST_BATCH], y[WIDEST_SIDE * MOST_BATCH];
	double terms[SL_COST_ROWS][SL_COST_WIDTHS][OBSERVATIONS][SL_COST_TERMS];
	double seconds[SL_COST_ROWS][SL_COST_WIDTHS][OBSERVATIONS];
	int count[SL_COST_ROWS][SL_COST_WIDTHS];
} stage;

/* Numbers in (-1, 1) without a pattern (Weyl's sequence). */
static float scattered(size_t i) {
	return (float)(int32_t)(uint32_t)(i * 2654435769u) * 0x1p-31f;
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void alone(void *user, size_t count, void (*task)(void *argument, size_t index), void *argument) {
	(void)user;
	for (size_t i = 0; i < count; i++)
		task(argument, i);
}

/* Entries at random, the same each time; their transpose by counting. */
static sl_sparse_view draw(stage *s, const struct design *d) {
	uint32_t state = 2463534242u; /* xorshift32 (Marsaglia 2003) */
	int32_t nnz = 0;
	memset(s->turned_offsets, 0, sizeof s->turned_offsets);
	for (int64_t r = 0; r < d->rows; r++) {
		s->offsets[r] = nnz;
		for (int32_t c = 0; c < d->cols; c++) {
			state ^= state << 13;
			state ^= state >> 17;
			state ^= state << 5;
			if (state < (uint32_t)(d->density * 4294967295.0)) {
				s->columns[nnz++] = c;
				s->turned_offsets[c + 1]++;
			}
		}
	}
	s->offsets[d->rows] = nnz;
	for (int64_t c = 0; c < d->cols; c++) {
		s->turned_offsets[c + 1] += s->turned_offsets[c];
		s->at[c] = s->turned_offsets[c];
	}
	for (int32_t r = 0; r < d->rows; r++)
		for (int32_t k = s->offsets[r]; k < s->offsets[r + 1]; k++) {
			int32_t to = s->at[s->columns[k]]++;
			s->turned_columns[to] = r;
			s->permutation[to] = k;
		}
	sl_sparse_view view = {.permutation = s->permutation, .permutation_dtype = SL_I32};
	view.arrays = (sl_pattern_arrays){.rows = d->rows,
									  .cols = d->cols,
									  .nnz = nnz,
									  .offset_dtype = SL_I32,
									  .row_offsets = s->offsets,
									  .col_indices = s->columns};
	view.transposed = (sl_pattern_arrays){.rows = d->cols,
										  .cols = d->rows,
										  .nnz = nnz,
										  .offset_dtype = SL_I32,
										  .row_offsets = s->turned_offsets,
										  .col_indices = s->turned_columns};
	view.host = view.arrays;
	return view;
}

static sl_dense panels(float *data, int64_t rows, const struct shape *shape) {
	return (sl_dense){.data = data,
					  .dtype = SL_F32,
					  .order = SL_COL_PANELS,
					  .device = SL_DEVICE_CPU,
					  .rows = rows,
					  .cols = shape->batch,
					  .ld = shape->width};
}

static sl_matrix_desc described(const sl_dense *m) {
	return (sl_matrix_desc){m->rows, m->cols, m->ld, m->dtype, m->order};
}

/* The op of a row over a pattern, as a layer would describe it. */
static void describe(stage *s, const sl_cost_row *row, const sl_sparse_view *view, const struct shape *shape,
					 sl_op_desc *desc, sl_op_args *args) {
	const sl_pattern_arrays *w = &view->arrays;
	*desc = (sl_op_desc){.kind = row->kind, .sparse = *view, .transpose = row->transpose, .candidate = row->name};
	*args = (sl_op_args){.alpha = 1, .values = s->values, .values_out = s->values};
	sl_matrix_desc weights = {.rows = w->rows, .cols = w->cols, .dtype = SL_F32};
	if (row->kind == SL_OP_SPMM) {
		args->b = panels(s->x, row->transpose ? w->rows : w->cols, shape);
		args->c = panels(s->y, row->transpose ? w->cols : w->rows, shape);
		desc->a = weights;
		desc->c = described(&args->c);
	} else {
		args->a = panels(s->x, w->rows, shape);
		args->b = sl_dense_transposed(panels(s->y, w->cols, shape));
		desc->a = described(&args->a);
		desc->c = weights;
	}
	desc->b = described(&args->b);
}

/* The least of a few runs: what else the machine does only adds. */
static sl_status time_product(sl_cpu *cpu, const sl_op_desc *desc, sl_op_args *args, double *least) {
	const sl_host *host = cpu->host;
	sl_op_plan plan = {.desc = *desc};
	SL_TRY(sli_cpu_product_plan(cpu, desc, &plan));
	size_t bytes = plan.workspace;
	args->workspace = bytes ? host->allocate(host->user, bytes) : NULL;
	sl_status status = bytes && !args->workspace
						   ? host->fail(host->user, SL_ERR_MEMORY, "no memory for a product to calibrate with")
						   : SL_OK;
	double spent = 0;
	*least = 0;
	for (int i = 0; i < 40 && status == SL_OK && (i < 3 || spent < 2e-4); i++) {
		double begin = now();
		status = sli_cpu_product_execute(cpu, &plan, args);
		double seconds = now() - begin;
		if (i == 0) /* the first touches what the others find */
			continue;
		spent += seconds;
		if (*least == 0 || seconds < *least)
			*least = seconds;
	}
	if (args->workspace)
		host->release(host->user, args->workspace, bytes);
	sli_cpu_product_destroy(cpu, &plan);
	return status;
}

static sl_status observe(sl_cpu *cpu, stage *s) {
	for (int d = 0; d < DESIGNS; d++) {
		sl_sparse_view view = draw(s, &designs[d]);
		for (int32_t k = 0; k < view.arrays.nnz; k++)
			s->values[k] = scattered((size_t)k);
		for (int shape = 0; shape < SHAPES; shape++)
			for (int row = 0; row < SL_COST_ROWS; row++) {
				sl_op_desc desc;
				sl_op_args args;
				double seconds = 0;
				/* Sparse products have panels of 64 columns at most, but for strays. */
				if (!sli_cost_rows[row].dense && shapes[shape].width > 64)
					continue;
				describe(s, &sli_cost_rows[row], &view, &shapes[shape], &desc, &args);
				if (sli_cost_rows[row].dense && !sli_cpu_can_densify(&desc))
					continue;
				SL_TRY(time_product(cpu, &desc, &args, &seconds));
				int width = sli_cost_width(&desc), at = s->count[row][width]++;
				sli_cost_rows[row].terms(&desc, cpu->isa, s->terms[row][width][at]);
				s->seconds[row][width][at] = seconds > 0 ? seconds : 1e-9;
			}
	}
	return SL_OK;
}

sl_status sli_cpu_calibrate(sl_cpu *cpu, double *constants) {
	sl_host host = *cpu->host;
	host.parallel = alone;
	host.threads = 1;
	sl_cpu single = *cpu;
	single.host = &host;
	stage *s = host.allocate(host.user, sizeof *s);
	if (!s)
		return host.fail(host.user, SL_ERR_MEMORY, "no memory to calibrate with (%zu bytes)", sizeof *s);
	memset(s, 0, sizeof *s);
	/* Signed and irregular: a multiplier of constants takes less power, and with it less time. */
	for (size_t i = 0; i < WIDEST_SIDE * MOST_BATCH; i++) {
		s->x[i] = scattered(i);
		s->y[i] = scattered(i + 7);
	}
	sl_status status = observe(&single, s);
	for (int row = 0; row < SL_COST_ROWS && status == SL_OK; row++)
		for (int width = 0; width < SL_COST_WIDTHS; width++, constants += SL_COST_TERMS)
			if (s->count[row][width])
				sli_cost_fit((const double(*)[SL_COST_TERMS])s->terms[row][width], s->seconds[row][width],
							 s->count[row][width], constants);
			else /* built without the dense library */
				memcpy(constants, sli_cost_defaults(cpu->isa)->seconds[row][width], SL_COST_TERMS * sizeof *constants);
	host.release(host.user, s, sizeof *s);
	return status;
}

/* Each term is scaled to the length 1, then one factor after the other takes its best value, not below 0, until none
 * moves (coordinate descent). */
void sli_cost_fit(const double (*terms)[SL_COST_TERMS], const double *seconds, int count,
				  double factor[SL_COST_TERMS]) {
	enum { ROUNDS = 4000 };
	double product[SL_COST_TERMS][SL_COST_TERMS] = {{0}}, right[SL_COST_TERMS] = {0}, scale[SL_COST_TERMS];
	for (int o = 0; o < count; o++)
		for (int i = 0; i < SL_COST_TERMS; i++) {
			double share = terms[o][i] / seconds[o];
			right[i] += share;
			for (int k = 0; k < SL_COST_TERMS; k++)
				product[i][k] += share * terms[o][k] / seconds[o];
		}
	for (int i = 0; i < SL_COST_TERMS; i++) {
		scale[i] = product[i][i] > 0 ? 1 / __builtin_sqrt(product[i][i]) : 0;
		factor[i] = 0;
	}
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < SL_COST_TERMS; i++) {
			double left = right[i] * scale[i];
			for (int k = 0; k < SL_COST_TERMS; k++)
				if (k != i)
					left -= scale[i] * product[i][k] * scale[k] * factor[k];
			factor[i] = scale[i] > 0 && left > 0 ? left : 0;
		}
	for (int i = 0; i < SL_COST_TERMS; i++)
		factor[i] *= scale[i];
}
