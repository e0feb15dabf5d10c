/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Launchers of the module's own kernels, for C. Each returns a cudaError_t of its launches as an int, 0 being success;
 * all pointers are device pointers unless a comment says "host"; `stream` is a cudaStream_t. Launchers allocate
 * nothing and wait for nothing. Sums are made in a fixed order: the same inputs give the same bits.
 */
#ifndef SL_CUDA_KERNELS_H
#define SL_CUDA_KERNELS_H

#include "backend/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* vector.cuh */

/* to = from in any orders and dtypes; padding of panels becomes zero. */
int sl_kernel_convert(const sl_dense *from, const sl_dense *to, void *stream);
/* to[i] = from[permutation[i]]; elements of 2, 4 or 8 bytes, indices I32 or I64. */
int sl_kernel_gather(const void *from, const void *permutation, sl_dtype index, void *to, int64_t count, size_t size,
					 void *stream);
/* c = activation(a), or with b: b * activation'(a). bias_gradient (may be NULL): beta * it + row sums of c, of f64 for
 * f64 and of f32 otherwise. */
int sl_kernel_activation(sl_activation kind, double parameter, const sl_dense *a, const sl_dense *b, const sl_dense *c,
						 double beta, void *bias_gradient, void *stream);
/* sums[r] = beta * sums[r] + sum over columns of a(r, .) */
int sl_kernel_row_sums(const sl_dense *a, double beta, void *sums, void *stream);
/* Partial results that the two reductions below want room for, of 8 bytes each. */
int64_t sl_kernel_partials(int64_t count);
/* *result += sum of (scale * x clamped to +-limit)^2; NaN stays. */
int sl_kernel_sum_squares(const void *x, sl_dtype dtype, int64_t count, double scale, double limit, double *partials,
						  double *result, void *stream);
/* *result = index of the first NaN or infinity, or -1 */
int sl_kernel_nonfinite(const void *x, sl_dtype dtype, int64_t count, int64_t *partials, int64_t *result, void *stream);
/* `variant` is the seam's sl_elementwise: scale, fill, clamp, axpy; f32 and f64. */
int sl_kernel_elementwise(int variant, sl_dtype dtype, double alpha, void *x, void *y, int64_t count, void *stream);

/* epilogue.cuh */

/* c = activation(c + bias); c + bias to d first (may be NULL). bias (may be NULL): c.rows elements. f32 and f64;
 * padding of panels is not touched. */
int sl_kernel_epilogue(sl_activation kind, double parameter, const void *bias, const sl_dense *c, const sl_dense *d,
					   void *stream);
/* spmm.cuh, sddmm.cuh */

/* A part of a row, which a group of threads walks through: entries [begin, end). */
typedef struct sl_row_task {
	int64_t begin, end;
	int32_t row;
	int32_t slot; /* where its sum goes, as a row of `partials`; -1: it is the whole row */
} sl_row_task;
/* A row in parts: the sums of slots [slot, slot + count), in this order. */
typedef struct sl_row_fold {
	int32_t row, slot, count, unused;
} sl_row_fold;
/* A CSR matrix, and how its rows are shared out; tasks NULL: a row is a task. */
typedef struct sl_rows {
	int64_t rows, nnz;
	const void *offsets;
	sl_dtype offset_dtype;
	const int32_t *columns;
	const sl_row_task *tasks;
	int64_t task_count;
	const sl_row_fold *folds;
	int64_t fold_count, slots;
} sl_rows;

/* z = alpha * S * b + beta * c + bias; d = z; c = activation(z). b, c and d lie row by row with their `ld`, whatever
 * `order` says. Columns [n, padded) of c and d become zero. bias: f32 beside bf16 and f16. */
typedef struct sl_spmm_call {
	sl_dtype dtype;
	sl_rows s;
	const void *values;
	const void *b;
	void *c, *d;      /* d may be NULL */
	const void *bias; /* may be NULL */
	void *partials;   /* s.slots x n of f64 for f64, else f32 */
	int64_t n, padded, ldb, ldc, ldd;
	double alpha, beta, parameter;
	sl_activation activation;
	bool tf32; /* tensor cores may round f32 operands */
} sl_spmm_call;
int sl_kernel_spmm(const sl_spmm_call *call, void *stream);
/* The same on tensor cores (tensor.cuh), f32, f16 and bf16; S has `inner` columns, and its order of rows is not read.
 */
int sl_kernel_spmm_tensor(const sl_spmm_call *call, int64_t inner, void *stream);

/* values[e] = alpha * sum over k of a(row, .) * b(column, .) + beta * values[e]; a [rows, k] and b [cols, k] row by
 * row. */
typedef struct sl_sddmm_call {
	sl_dtype dtype;
	sl_rows s; /* parts of rows need no folds */
	const void *a, *b;
	void *values;
	int64_t k, lda, ldb;
	double alpha, beta;
} sl_sddmm_call;
int sl_kernel_sddmm(const sl_sddmm_call *call, void *stream);

/* sort.cuh, pattern.cuh. Counts below 2^31. */

/* A stable sort of keys in [0, bound): order[i] is where the i-th came from. `room`: sl_kernel_sort_bytes(). */
size_t sl_kernel_sort_bytes(int64_t count);
int sl_kernel_sort(const int32_t *keys, int64_t count, int64_t bound, int32_t *sorted, int32_t *order, void *room,
				   void *stream);
/* *result = the first row offset, the first entry, that may not be so; INT64_MAX: all may. The columns are looked at
 * where the offsets are good. */
int sl_kernel_check_offsets(const sl_rows *s, int64_t *result, void *stream);
int sl_kernel_check_columns(const sl_rows *s, int64_t cols, int64_t *result, void *stream);
int sl_kernel_narrow(const int64_t *from, int32_t *to, int64_t count, void *stream);
/* The transpose: cols + 1 offsets, its columns, and permutation[k], the entry that its entry k is. */
size_t sl_kernel_transpose_bytes(int64_t nnz);
int sl_kernel_transpose(const sl_rows *s, int64_t cols, int32_t *offsets, int32_t *columns, int32_t *permutation,
						void *room, void *stream);
/* Rows of more than `most` entries in parts. count_parts(): **total becomes their number in the upper half, that of
 * their parts in the lower; `room` is what list_tasks() takes as `counted`. There are rows - their number + their parts
 * tasks, which list_tasks() lists long ones first, equal ones as they come. */
size_t sl_kernel_count_bytes(int64_t rows);
int sl_kernel_count_parts(const sl_rows *s, int64_t most, void *room, int64_t **total, void *stream);
size_t sl_kernel_tasks_bytes(int64_t tasks);
int sl_kernel_list_tasks(const sl_rows *s, int64_t most, const void *counted, int64_t count, sl_row_task *tasks,
						 sl_row_fold *folds, void *room, void *stream);

/* dense.cuh */

/* z = product + bias; d = z; c = activation(z): what is behind a dense product. product [rows, cols] is of f64 for f64,
 * else f32, and may be c. All row by row; `beta` times the old c is added. */
typedef struct sl_epilogue_call {
	sl_dtype dtype;
	const void *product;
	void *c, *d;
	const void *bias;
	int64_t rows, cols, padded, ldp, ldc, ldd;
	double beta, parameter;
	sl_activation activation;
} sl_epilogue_call;
int sl_kernel_dense_epilogue(const sl_epilogue_call *call, void *stream);

/* loss.cuh: the seam's SL_OP_LOSS. `args` and what it points at are the host's, but for the data. Workspace:
 * sl_kernel_loss_bytes(). */
size_t sl_kernel_loss_bytes(int64_t batch);
int sl_kernel_loss(const sl_op_desc *desc, const sl_op_args *args, void *stream);

/* update.cuh: the seam's SL_OP_UPDATE. What a step is made with is read from args->update, on the device. */
int sl_kernel_advance(sl_step *step, void *stream); /* SL_OP_ADVANCE */
int sl_kernel_update(sl_optimizer_kind kind, sl_dtype dtype, const sl_op_args *args, void *stream);

#ifdef __cplusplus
}
#endif
#endif
