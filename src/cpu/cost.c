/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The candidates for a product and their cost model: seconds = sum of factor x term, the terms being counts that
 * follow from pattern, shape and panels alone. The number of threads is not among them: all candidates share out
 * their work over all of them, so that it moves the times and hardly the order, and a plan that does not depend on it
 * gives the same bits on any number of them.
 */
#include "cpu/cost.h"

#include "cpu/blocks.h"
#include "cpu/densify.h"

/* What a factor is the cost of. */
enum {
	CALL,    /* 1 */
	ENTRY,   /* an entry, or dense element, times a vector of 16 columns */
	ROW,     /* a row, or tile, times a panel */
	FAR,     /* as ENTRY, for what does not fit the first-level cache; dense: what the library packs */
	FARTHER, /* as ENTRY, for what does not fit the second; dense: outputs */
	ONCE,    /* what is gone through once a product, or rows visited once a block */
};

/* The part of `bytes` that a cache does not hold. */
static double outside(double bytes, double cache) {
	return bytes > cache ? 1 - cache / bytes : 0;
}

static double ceiling(double a, double b) {
	double whole = (double)(int64_t)(a / b);
	return whole * b < a ? whole + 1 : whole;
}

typedef struct sizes {
	double rows, cols, nnz; /* of W */
	double batch, width;    /* of panels; the batch where there are none */
	double panels, vectors;
} sizes;

static sizes measure(const sl_op_desc *desc) {
	const sl_matrix_desc *x = desc->kind == SL_OP_SPMM ? &desc->c : &desc->a;
	sizes s = {.rows = (double)desc->sparse.arrays.rows,
			   .cols = (double)desc->sparse.arrays.cols,
			   .nnz = (double)desc->sparse.arrays.nnz,
			   .batch = (double)x->cols};
	s.width = x->order == SL_COL_PANELS ? (double)x->ld : s.batch;
	if (s.width > s.batch && s.batch > 0)
		s.width = s.batch;
	s.panels = s.width > 0 ? ceiling(s.batch, s.width) : 0;
	s.vectors = s.panels * ceiling(s.width, 16);
	return s;
}

/* Products over blocks (blocks.h): of each tile, an entry takes as long as a vector more than there are; then come the
 * visits of rows to blocks, the output's vectors that each of them moves, and what is gone through once. */
static void blocked_terms(const sl_op_desc *desc, sl_isa isa, double width, double term[SL_COST_TERMS]) {
	sizes s = measure(desc);
	sl_pattern_arrays turned = {
		.rows = desc->sparse.arrays.cols, .cols = desc->sparse.arrays.rows, .nnz = desc->sparse.arrays.nnz};
	const sl_pattern_arrays *pattern = desc->transpose ? &turned : &desc->sparse.arrays;
	sl_blocks b = {0};
	sli_blocks_shape(&b, pattern, width > 32 ? 64 : 32, (int64_t)s.batch, desc->kind, isa);
	double vectors = ceiling(s.batch, SL_VECTOR), tiles = ceiling(vectors, b.vectors);
	double visits = (double)pattern->rows * (double)b.blocks;
	term[CALL] = 1;
	term[ENTRY] = s.nnz * (vectors + tiles);
	term[ROW] = visits * tiles;
	term[FAR] = b.wide ? s.nnz * vectors : 0;
	term[FARTHER] = visits * vectors;
	term[ONCE] = desc->kind == SL_OP_SDDMM ? s.nnz * tiles : desc->transpose ? s.nnz : 0;
}

/* Sparse products run in panels of at most 64 columns, whatever they are given. */
static void sparse_terms(const sl_op_desc *desc, sl_isa isa, double term[SL_COST_TERMS]) {
	enum { L1 = 32 << 10, L2 = 512 << 10 };
	sizes s = measure(desc);
	double width = s.width < 64 ? s.width : 64, panels = width > 0 ? ceiling(s.batch, width) : 0;
	if (width > SL_VECTOR && desc->b.dtype == SL_F32 && isa >= SL_ISA_AVX2) {
		blocked_terms(desc, isa, width, term);
		return;
	}
	if (s.batch <= 1 && isa >= SL_ISA_AVX512 && desc->transpose && s.nnz > 0.4 * s.rows * s.cols) /* masked_avx512.c */
		s.nnz = 0.4 * s.rows * s.cols;
	double vectors = panels * ceiling(width, SL_VECTOR);
	double in = desc->transpose ? s.rows : s.cols, out = desc->transpose ? s.cols : s.rows;
	double panel = in * width * 4;
	term[CALL] = 1;
	term[ENTRY] = s.nnz * vectors;
	term[ROW] = out * panels;
	term[FAR] = s.nnz * vectors * outside(panel, L1);
	term[FARTHER] = s.nnz * vectors * outside(panel, L2);
	/* Values of a transpose are gathered once; another product visits its rows once a block. */
	term[ONCE] = desc->transpose ? s.nnz : out * panels * outside(panel, L1);
}

static void dense_spmm_terms(const sl_op_desc *desc, sl_isa isa, double term[SL_COST_TERMS]) {
	(void)isa;
	sizes s = measure(desc);
	double out = desc->transpose ? s.cols : s.rows, in = desc->transpose ? s.rows : s.cols;
	int64_t rows, cols;
	sli_cpu_tile(desc, &rows, &cols);
	double tiles = ceiling(out, desc->transpose ? (double)cols : (double)rows);
	term[CALL] = 1;
	term[ENTRY] = s.rows * s.cols * s.vectors;
	term[ROW] = tiles * s.panels;
	term[FAR] = tiles * in * s.batch; /* the library packs the panel for each tile */
	term[FARTHER] = out * s.batch;
	term[ONCE] = s.rows * s.cols; /* written out */
}

static void dense_sddmm_terms(const sl_op_desc *desc, sl_isa isa, double term[SL_COST_TERMS]) {
	(void)isa;
	sizes s = measure(desc);
	int64_t rows, cols;
	sli_cpu_tile(desc, &rows, &cols);
	double tiles = ceiling(s.rows, (double)rows) * ceiling(s.cols, (double)cols);
	term[CALL] = 1;
	term[ENTRY] = s.rows * s.cols * s.vectors;
	term[ROW] = tiles * s.panels;
	term[FAR] = tiles * (s.cols < (double)cols ? s.cols : (double)cols) * s.batch;
	term[FARTHER] = s.rows * s.cols * s.panels; /* sums are read and written once a panel */
	term[ONCE] = s.rows * s.cols;
}

const sl_cost_row sli_cost_rows[SL_COST_ROWS] = {
	{"sparse", SL_OP_SPMM, false, false, sparse_terms},  {"dense", SL_OP_SPMM, false, true, dense_spmm_terms},
	{"sparse", SL_OP_SPMM, true, false, sparse_terms},   {"dense", SL_OP_SPMM, true, true, dense_spmm_terms},
	{"sparse", SL_OP_SDDMM, false, false, sparse_terms}, {"dense", SL_OP_SDDMM, false, true, dense_sddmm_terms},
};

#include "cpu/costs.inc"

const sl_costs *sli_cost_defaults(sl_isa isa) {
	return isa >= SL_ISA_AVX512 ? &costs_avx512 : isa == SL_ISA_AVX2 ? &costs_avx2 : &costs_scalar;
}

int sli_cost_width(const sl_op_desc *desc) {
	double width = measure(desc).width;
	return width <= 1 ? 0 : width <= 8 ? 1 : width <= 16 ? 2 : width <= 32 ? 3 : 4;
}

double sli_cost_predict(const sl_costs *costs, sl_isa isa, int row, const sl_op_desc *desc) {
	double term[SL_COST_TERMS] = {0}, seconds = 0;
	int width = sli_cost_width(desc);
	sli_cost_rows[row].terms(desc, isa, term);
	for (int i = 0; i < SL_COST_TERMS; i++)
		seconds += costs->seconds[row][width][i] * term[i];
	return seconds;
}

int sli_cpu_candidates(sl_cpu *cpu, const sl_op_desc *desc, sl_candidate *out, int capacity) {
	int count = 0;
	for (int row = 0; row < SL_COST_ROWS; row++) {
		const sl_cost_row *r = &sli_cost_rows[row];
		if (r->kind != desc->kind || r->transpose != desc->transpose || (r->dense && !sli_cpu_can_densify(desc)))
			continue;
		if (count < capacity)
			out[count] = (sl_candidate){.name = r->name,
										.dense = r->dense,
										.seconds = sli_cost_predict(&cpu->costs, cpu->isa, row, desc),
										/* one walk over the entries, and what is allocated is touched */
										.planning = r->dense ? 2e-9 * (double)desc->sparse.arrays.nnz : 0};
		count++;
	}
	return count;
}
