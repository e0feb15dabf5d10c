/* SPDX-License-Identifier: Apache-2.0 */
/* Sparse products of f32 panels, block by block. The columns of the matrix are cut into blocks whose rows of the
 * panel fit the first-level cache, where they are copied to; within a block the rows are sorted by how many entries
 * they have in it, so that loops end where the branch predictor expects it. */
#ifndef SL_CPU_BLOCKS_H
#define SL_CPU_BLOCKS_H

#include "cpu/cpu.h"

/* A vector here is 16 columns of the batch. */
enum { SL_VECTOR = 16, SL_LEAST_GROUP_ROWS = 64 };

/* A row of y, and where the values of its entries begin. SL_ROWS_AHEAD more than there are can be read. */
typedef struct sl_block_row {
	int32_t row, start;
} sl_block_row;
enum { SL_ROWS_AHEAD = 12 };

/* Rows of one length, one after the other. */
typedef struct sl_row_class {
	int32_t length, rows;
} sl_row_class;

/* One block of one group of rows. By the kernel:
 *   spmm   y(row, .) = alpha * sum of value * x(column, .) + beta * y(row, .), then bias and ReLU where wanted
 *   sddmm  values[k] = alpha * sum over the vectors of y(row, .) * x(column, .) + beta * values[k]
 */
struct sl_block_task {
	const char *x; /* the block's rows; a row is where its entry's offset says */
	/* Where they are to be copied from first, to `copy`; NULL: they lie well where they are. As y: vectors of one
	 * panel are neighbours, the fifth is in the next. */
	const float *from;
	int64_t from_rows, from_ld, from_panel;
	float *copy;
	int64_t stride;      /* of its rows, in vectors */
	const void *offsets; /* bytes, uint16_t or (wide) uint32_t, entry after entry in the order of `rows` */
	bool wide;
	bool by_start; /* else: a row's from the element on that its `start` says, and `skew` times its number */
	int64_t skew;
	float *values;            /* spmm only reads them */
	const sl_block_row *rows; /* in the order of the classes */
	const sl_row_class *classes, *classes_end;
	float *y; /* vectors of one panel are neighbours; the fifth is in the next panel */
	int64_t ldy, y_panel;
	int vectors; /* 1 to 4; with AVX-512 to 8 */
	float alpha, beta;
	const float *bias; /* by row; NULL: none. With the last block only */
	bool relu;
};

/* The matrix, cut. */
typedef struct sl_blocks {
	int64_t rows, nnz, columns;        /* `columns` a block */
	int64_t groups, blocks, row_count; /* of `row` */
	int vectors;                       /* of a tile, and of the stride of a block's rows */
	bool wide, by_start;               /* as in the task */
	int64_t skew;
	int64_t *group; /* first row of each group, and the end */
	/* By group and block, and the end: where offsets, rows and classes begin. */
	int64_t *first_offset, *first_row, *first_class;
	void *offsets;
	sl_block_row *row;
	sl_row_class *classes;
	int64_t class_count, largest_cell; /* entries */
	int32_t *gather; /* where each entry's value comes from, in order; NULL: starts point into the matrix' own */
	bool by_cell;    /* a cell's values are gathered when its turn comes, for all tiles, of which there are few */
} sl_blocks;

/* How a pattern would be cut, in `columns`, `blocks`, `vectors` and `wide`; it costs nothing to ask. */
void sli_blocks_shape(sl_blocks *b, const sl_pattern_arrays *structure, int64_t width, int64_t n, sl_op_kind kind,
					  sl_isa isa);
/* Rows of a group: their part of the output stays in L2. */
int64_t sli_blocks_group_rows(const sl_blocks *b);
/* At least `groups`, so many that their tasks, `tiles` each, split evenly among the threads where the rows allow it. */
int64_t sli_blocks_even_groups(int64_t groups, int64_t rows, int64_t tiles, int64_t threads);
/* `permutation` (may be NULL) is gathered through: `structure` is a transpose. `n` columns of the batch are planned,
 * in panels of `width`. NULL with a message: no memory. */
sl_blocks *sli_blocks_create(sl_cpu *cpu, const sl_pattern_arrays *structure, const void *permutation,
							 sl_dtype permutation_dtype, int64_t width, int64_t n, const sl_kernel *kernel);
void sli_blocks_destroy(sl_cpu *cpu, sl_blocks *blocks);

/* blocked.c. NULL: this product cannot run so. */
const sl_kernel *sli_cpu_choose_blocked(const sl_cpu *cpu, const sl_op_desc *desc);
sl_status sli_cpu_blocked_plan(sl_cpu *cpu, const sl_kernel *kernel, sl_op_plan *plan);
void sli_cpu_blocked_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args);
void sli_cpu_blocked_destroy(sl_cpu *cpu, sl_op_plan *plan);
/* The panel width that the product runs in. */
int64_t sli_cpu_blocked_width(const sl_op_desc *desc);

/* A product under way. */
typedef struct sl_blocked_job {
	const sl_op_desc *desc;
	const sl_op_args *args;
	const sl_kernel *kernel;
	const sl_blocks *blocks;
	sl_dense x, y; /* panels of one width: what is multiplied, what stands beside it */
	float *values;
	float *gathered; /* a transpose's, cell by cell: where a group's begin */
	bool fused;      /* the epilogue is the kernel's */
} sl_blocked_job;
/* One tile of one group of rows; all tiles of one group. */
void sli_cpu_blocked_spmm(const sl_blocked_job *job, int64_t tile, int64_t group);
void sli_cpu_blocked_sddmm(const sl_blocked_job *job, int64_t group);
int64_t sli_cpu_blocked_tiles(const sl_blocked_job *job);

#endif
