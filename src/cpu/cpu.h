/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the CPU backend. */
#ifndef SL_CPU_CPU_H
#define SL_CPU_CPU_H

#include "backend/backend.h"
#include "core/checked.h"
#include "core/half.h"
#include "core/place.h"

typedef enum sl_isa { SL_ISA_SCALAR = 0, SL_ISA_AVX2 = 1, SL_ISA_AVX512 = 2 } sl_isa;

/* cost.h. The edition grows with every change of kernels or terms that makes measured costs stale. */
enum { SL_COST_TERMS = 6, SL_COST_WIDTHS = 5, SL_COST_ROWS = 6, SL_COST_EDITION = 4 };
/* Seconds a unit of each term, by row of the list of candidates and class of panel widths: kernels differ by both. */
typedef struct sl_costs {
	double seconds[SL_COST_ROWS][SL_COST_WIDTHS][SL_COST_TERMS];
} sl_costs;

typedef struct sl_kernel sl_kernel;
typedef struct sl_cpu {
	const sl_host *host;
	sl_isa isa;     /* the best this machine has, or what SPARSELAYER_CPU asked for */
	sl_costs costs; /* what predictions rest on */
	/* The rows of kernels.def for vectors of f32, and to and from it. */
	const sl_kernel *math, *bf16, *f16;
} sl_cpu;

/* cpuid.c */
sl_isa sli_cpu_detect(const sl_host *host);
bool sli_cpu_has(sl_isa isa);
const char *sli_isa_name(sl_isa isa);
void sli_cpu_model(char *text, size_t size);

/*
 * Rows of a sparse matrix times one panel: for rows [begin, end),
 *   Y(r, 0..width) = alpha * sum over entries of value * X(column, 0..width) + beta * Y(r, .)
 * `width` is at most the kernel's tile. ldx and ldy in elements.
 */
typedef struct sl_spmm_task {
	const void *starts, *ends; /* row r's entries are [starts[r], ends[r]) */
	sl_dtype offset_dtype;
	const int32_t *columns;
	const void *values;
	const void *x;
	void *y;
	int64_t ldx, ldy, begin, end, width;
	double alpha, beta;
	bool cut;  /* rows are cut into blocks, so that the next row's entries are not the next in memory */
	bool wide; /* bf16 and f16: y is float32, so that an epilogue sees the sum before it is rounded */
} sl_spmm_task;
typedef void (*sl_spmm_kernel)(const sl_spmm_task *task);

/*
 * Entries of rows [begin, end): out[k] = alpha * sum over panels and their columns of
 * A(row, .) * B(column, .) + beta * out[k]. A and B are col-panels of one width (ld), n columns.
 */
typedef struct sl_sddmm_task {
	const void *starts, *ends;
	sl_dtype offset_dtype;
	const int32_t *columns;
	void *values;
	const void *a, *b;
	int64_t a_rows, b_rows, ld, n, begin, end;
	double alpha, beta;
	bool cut; /* as in sl_spmm_task */
} sl_sddmm_task;
typedef void (*sl_sddmm_kernel)(const sl_sddmm_task *task);

/* blocks.h */
typedef struct sl_block_task sl_block_task;
typedef void (*sl_block_kernel)(const sl_block_task *task);

/*
 * For i in [begin, end) and entries [starts[i], ends[i]) of row rows[i], or i: C(column, .) += alpha * value *
 * A(row, .), `width` elements, one entry after the other. No product is fused with a sum, so every instruction set
 * gives the same bits.
 */
typedef struct sl_scatter_task {
	const int32_t *rows; /* NULL: i */
	int64_t stride;      /* of rows, starts and ends */
	const int32_t *starts, *ends, *columns;
	const void *values, *a;
	void *c;
	int64_t lda, ldc, begin, end, width;
	double alpha;
} sl_scatter_task;
typedef void (*sl_scatter_kernel)(const sl_scatter_task *task);

/* chunk.h: check a row's columns, write each entry's offset in its block, and find the runs of entries that lie in one
 * block, which and where they begin; how many there are, or -1: the columns are not valid. */
typedef struct sl_cut_task sl_cut_task;
typedef int64_t (*sl_cut_row)(const sl_cut_task *task, int32_t from, int32_t to, int32_t *block, int32_t *begin,
							  void *offsets);

/*
 * Rows [begin, end) with few columns, in one panel of exactly the kernel's tile, padding included. By the kernel:
 *   spmm   y(r, .) = alpha * sum over entries of value * x(column, .) + beta * y(r, .)
 *   dx     y(column, .) += value * alpha * x(r, .), entry by entry
 *   sddmm  values_out[k] = alpha * y(r) * x(column) + beta * values_out[k], for one column
 */
typedef struct sl_small_task {
	const void *offsets; /* of the pattern */
	sl_dtype offset_dtype;
	const int32_t *columns;
	const uint16_t *narrow; /* the same in 16 bits; NULL: read `columns` */
	const void *values;
	void *values_out;
	const float *x;
	float *y;
	int64_t begin, end;
	float alpha, beta;
	/* Kernels with masks: which of 16 columns are there, `words` of them a row, the last one's bits behind `cols` 0. */
	const uint16_t *masks;
	int64_t words, cols, nnz;
	bool short_rows; /* many and of few entries, so that a branch a row is often predicted wrongly */
} sl_small_task;
typedef void (*sl_small_kernel)(const sl_small_task *task);

/* top.h: the largest of a row of scores; returns their number. */
typedef struct sl_top_task sl_top_task;
typedef int64_t (*sl_top_kernel)(const sl_top_task *task);

/* Update n parameters of a dtype: w from g, the moments m and v (NULL where `kind` has none) in place. */
typedef void (*sl_update_kernel)(const sl_update *update, int kind, void *w, const void *g, void *m, void *v,
								 int64_t n);

/* Samples [begin, end) of y = x W, W by feature: dense, row j at j * ldw, or CSR. Nothing is added to. */
typedef struct sl_input_task {
	const sl_sparse_batch *x;
	const void *w;
	int64_t ldw;
	const void *offsets; /* NULL: dense */
	sl_dtype offset_dtype;
	const int32_t *columns;
	void *y;
	int64_t ldy, n, begin, end;
} sl_input_task;
typedef void (*sl_input_kernel)(const sl_input_task *task);

/* Rows of the gradient for groups [begin, end), from dz [batch, n]. */
typedef struct sl_input_grad_task {
	const sl_sparse_groups *groups;
	const void *dz;
	int64_t ldz, n;
	const void *offsets; /* as above */
	sl_dtype offset_dtype;
	const int32_t *columns;
	void *out;
	bool add;
	int64_t begin, end;
} sl_input_grad_task;
typedef void (*sl_input_grad_kernel)(const sl_input_grad_task *task);

/* y = activation(x), y = dy * activation'(saved) and a sum of squares, all f32; y may be what it is made from. */
typedef void (*sl_activate_kernel)(sl_activation kind, float p, const float *x, float *y, int64_t n);
typedef void (*sl_activate_back_kernel)(sl_activation kind, float p, const float *saved, const float *dy, float *y,
										int64_t n);
/* The latter for a row of `n` columns in panels of `width`, or row-major as one panel; returns the sum if it is wanted.
 */
typedef struct sl_back_row {
	const float *saved, *dy;
	float *out;
	int64_t saved_panel, dy_panel, out_panel; /* from one panel to the next */
	int64_t width, n;
} sl_back_row;
typedef double (*sl_back_row_kernel)(sl_activation kind, float p, const sl_back_row *row, bool sum);
typedef double (*sl_sum_squares_kernel)(const float *x, int64_t n, double scale, float limit);
/* Softmax or sigmoids of `n` samples that lie side by side, and their losses, for targets of nothing: what a target
 * adds is the caller's. The gradient may not lie where x does. */
enum { SL_LOSS_COLUMNS = 64 };
typedef struct sl_loss_task {
	const float *x; /* feature r of sample i: x[r * ldx + i] */
	int64_t ldx, features, n;
	float *gradient; /* as x; scale times softmax or sigmoid. NULL: not wanted */
	int64_t ldg;
	float scale[SL_LOSS_COLUMNS];
	/* Softmax: the largest x and the first feature that has it, the sum of exp(x - most), whether an x is NaN. */
	float most[SL_LOSS_COLUMNS];
	int32_t best[SL_LOSS_COLUMNS], nan[SL_LOSS_COLUMNS];
	double sum[SL_LOSS_COLUMNS];      /* sigmoids: of log(1 + exp(x)) */
	int32_t correct[SL_LOSS_COLUMNS]; /* sigmoids: x that are at most 0 */
} sl_loss_task;
typedef void (*sl_loss_kernel)(sl_loss_task *task);
/* n numbers of a 16-bit dtype. */
typedef void (*sl_to_f32_kernel)(const uint16_t *from, float *to, int64_t n);
typedef void (*sl_from_f32_kernel)(const float *from, uint16_t *to, int64_t n);

/* One row of kernels.def. */
struct sl_kernel {
	sl_op_kind kind;
	sl_dtype dtype;
	sl_isa isa;
	int64_t tile; /* columns a call takes at most */
	const char *name;
	sl_spmm_kernel spmm;
	sl_sddmm_kernel sddmm;
	sl_update_kernel update;
	sl_input_kernel input;
	sl_input_grad_kernel input_grad;
	sl_block_kernel blocked;
	sl_small_kernel small; /* for a batch of at most `tile`, in panels of `tile` */
	bool masked;           /* small, and reads masks */
	bool transposed;       /* with the transpose of the matrix */
	sl_activate_kernel activate;
	sl_activate_back_kernel activate_back;
	sl_back_row_kernel activate_back_row;
	sl_sum_squares_kernel sum_squares;
	sl_loss_kernel softmax, sigmoids;
	sl_to_f32_kernel to_f32;
	sl_from_f32_kernel from_f32;
	sl_scatter_kernel scatter;
	sl_cut_row cut_row;
	sl_top_kernel top;
};
const sl_kernel *sli_cpu_kernels(int *count);
/* The best kernel for an op and dtype; `name` (may be NULL) asks for one. NULL: there is none. */
const sl_kernel *sli_cpu_choose(const sl_cpu *cpu, sl_op_kind kind, sl_dtype dtype, const char *name);

#define KERNEL_SPMM(dtype, isa, tile, function)  void function(const sl_spmm_task *task);
#define KERNEL_SDDMM(dtype, isa, tile, function) void function(const sl_sddmm_task *task);
#define KERNEL_INPUT(dtype, isa, function, gradient)                                                                   \
	void function(const sl_input_task *task);                                                                          \
	void gradient(const sl_input_grad_task *task);
#define KERNEL_SMALL(kind, transposed, dtype, isa, tile, function) void function(const sl_small_task *task);
#define KERNEL_MATH(isa, set)                                                                                          \
	void sli_activate_f32_##set(sl_activation kind, float p, const float *x, float *y, int64_t n);                     \
	void sli_activate_back_f32_##set(sl_activation kind, float p, const float *saved, const float *dy, float *y,       \
									 int64_t n);                                                                       \
	double sli_activate_back_row_f32_##set(sl_activation kind, float p, const sl_back_row *row, bool sum);             \
	double sli_sum_squares_f32_##set(const float *x, int64_t n, double scale, float limit);                            \
	void sli_softmax_f32_##set(sl_loss_task *task);                                                                    \
	void sli_sigmoids_f32_##set(sl_loss_task *task);
#define KERNEL_HALF(dtype, isa, suffix)                                                                                \
	void sli_half_to_f32_##suffix(const uint16_t *from, float *to, int64_t n);                                         \
	void sli_half_from_f32_##suffix(const float *from, uint16_t *to, int64_t n);
#define KERNEL_UPDATE(dtype, isa, function)                                                                            \
	void function(const sl_update *update, int kind, void *w, const void *g, void *m, void *v, int64_t n);
#define KERNEL_BLOCKED(kind, dtype, isa, function) void function(const sl_block_task *task);
#define KERNEL_SCATTER(dtype, isa, function)       void function(const sl_scatter_task *task);
#define KERNEL_TOP(dtype, isa, function)           int64_t function(const sl_top_task *task);
#define KERNEL_CUT(isa, suffix)                                                                                        \
	int64_t sli_cut_row_##suffix(const sl_cut_task *task, int32_t from, int32_t to, int32_t *block, int32_t *begin,    \
								 void *offsets);
#include "cpu/kernels.def"

/* small.c: the same for products of at most 16 columns; NULL: there is none, or it is not worth it. */
const sl_kernel *sli_cpu_choose_small(const sl_cpu *cpu, const sl_op_desc *desc);
sl_status sli_cpu_small_plan(sl_cpu *cpu, const sl_kernel *kernel, sl_op_plan *plan);
sl_status sli_cpu_small_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args);
void sli_cpu_small_destroy(sl_cpu *cpu, sl_op_plan *plan);

/* The rows for a 16-bit dtype. */
static inline const sl_kernel *sli_cpu_half(const sl_cpu *cpu, sl_dtype dtype) {
	return dtype == SL_BF16 ? cpu->bf16 : cpu->f16;
}

/* products.c: SPMM, SDDMM, GEMM, CONVERT, GATHER; vector.c: the rest, but for loss.c. */
/* Whether a sparse product can be planned, which cuts the pattern. */
sl_status sli_cpu_sparse_supports(sl_cpu *cpu, const sl_op_desc *desc);
sl_status sli_cpu_product_plan(sl_cpu *cpu, const sl_op_desc *desc, sl_op_plan *plan);
sl_status sli_cpu_product_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args);
void sli_cpu_product_destroy(sl_cpu *cpu, sl_op_plan *plan);
/* chunk.c: products with a part of a streamed matrix */
sl_status sli_cpu_chunk_plan(sl_cpu *cpu, const sl_op_desc *desc, sl_op_plan *plan);
sl_status sli_cpu_chunk_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args);
sl_status sli_cpu_vector_plan(sl_cpu *cpu, const sl_op_desc *desc, sl_op_plan *plan);
sl_status sli_cpu_vector_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args);
size_t sli_cpu_loss_workspace(const sl_op_desc *desc);
void sli_cpu_loss_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args);

/* input.c: sparse inputs, and the update of rows. */
sl_status sli_cpu_input_plan(sl_cpu *cpu, const sl_op_desc *desc, sl_op_plan *plan);
sl_status sli_cpu_input_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args);
/* spgemm.c */
sl_status sli_cpu_spgemm_plan(sl_cpu *cpu, const sl_op_desc *desc, sl_op_plan *plan);
sl_status sli_cpu_spgemm_execute(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args);

static inline int64_t sli_cpu_offset(const void *offsets, sl_dtype dtype, int64_t i) {
	return dtype == SL_I64 ? ((const int64_t *)offsets)[i] : ((const int32_t *)offsets)[i];
}
/* Ask for the entries of a row that will be worked on soon: two lines of values and of columns. */
static inline void sli_cpu_prefetch_row(const void *values, size_t size, const int32_t *columns, int64_t entry) {
	const char *v = (const char *)values + (size_t)entry * size, *c = (const char *)(columns + entry);
	__builtin_prefetch(v);
	__builtin_prefetch(v + 64);
	__builtin_prefetch(c);
	__builtin_prefetch(c + 64);
}
#endif
