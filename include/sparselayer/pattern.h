/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file pattern.h
 * A pattern is the structure of a sparse matrix: row offsets and column indices. It is immutable
 * and reference-counted, and keeps what is derived from it (its transpose, tile index, hash).
 * Several value arrays (weights, gradient, moments) share one pattern.
 *
 * Offsets are int32 or int64; column indices int32 (int64 input is narrowed with a check). Within
 * a row columns strictly increase.
 */
#ifndef SPARSELAYER_PATTERN_H
#define SPARSELAYER_PATTERN_H

#include "dense.h"

SL_BEGIN_DECLS

/** Opaque, immutable, reference-counted: sl_pattern_retain(), sl_pattern_release(). Threads may share it. */
typedef struct sl_pattern sl_pattern;

/** Borrowed arrays of a pattern; valid while a reference to it is held. */
typedef struct sl_pattern_arrays {
	int64_t rows;               /**< of the matrix */
	int64_t cols;               /**< of the matrix, at most 2^31 - 1 */
	int64_t nnz;                /**< entries */
	const void *row_offsets;    /**< rows + 1 elements of `offset_dtype`; the first 0, the last nnz */
	sl_dtype offset_dtype;      /**< #SL_I32 or #SL_I64 */
	const int32_t *col_indices; /**< nnz elements */
} sl_pattern_arrays;

/** Called once when wrapped memory is no longer needed, from any thread. */
typedef void (*sl_release_callback)(void *user);

/**
 * Copy a CSR structure. Columns of a row may come in any order: they are sorted.
 * @param row_offsets rows + 1 elements of `offset_dtype` (#SL_I32 or #SL_I64)
 * @param col_indices elements of `index_dtype` (#SL_I32 or #SL_I64)
 * @return #SL_ERR_STRUCTURE (decreasing offsets, column out of range, duplicate; the message names
 *         row and entry), #SL_ERR_OVERFLOW (cols > 2^31 - 1), #SL_ERR_ARGUMENT, #SL_ERR_NULL,
 *         #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_pattern_create(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
								   const void *row_offsets, sl_dtype offset_dtype, const void *col_indices,
								   sl_dtype index_dtype);
/**
 * Borrow a CSR structure without copying; it must not change until `release` (which may be NULL)
 * is called. Columns must be int32 and strictly increase within a row. Checked like
 * sl_pattern_create(); on failure `release` is not called.
 */
SL_API sl_status sl_pattern_wrap(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
								 const void *row_offsets, sl_dtype offset_dtype, const int32_t *col_indices,
								 sl_release_callback release, void *user);
/**
 * The same over arrays in memory of the context's device, which the host does not read: the check and the transpose are
 * made there, and products run without a copy on the host. One is made, and kept, for calls that read the structure on
 * the host: sl_pattern_get(), files, layers. In a context on the CPU this is sl_pattern_wrap().
 * @param trusted true: the arrays are known to be good and are not looked at; columns out of range are then read and
 *        written out of bounds
 * @return as sl_pattern_wrap(), #SL_ERR_DEVICE (memory of another device), #SL_ERR_LAYOUT (alignment), #SL_ERR_STATE
 * (the stream captures a graph), #SL_ERR_UNSUPPORTED (more than 2^31 - 1 rows on a GPU)
 */
SL_API sl_status sl_pattern_wrap_device(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols,
										int64_t nnz, const void *row_offsets, sl_dtype offset_dtype,
										const int32_t *col_indices, bool trusted, sl_release_callback release,
										void *user);
/**
 * round(density * rows * cols) entries drawn uniformly without replacement (an Erdős–Rényi graph
 * with a fixed number of edges), from the context's seed and `stream`. The same arguments give the
 * same pattern.
 * @param density in [0, 1]
 * @return #SL_ERR_ARGUMENT, #SL_ERR_OVERFLOW (cols > 2^31 - 1), #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_pattern_random(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols,
								   double density, uint64_t stream);
/**
 * N:M structure: of each group of `m` consecutive columns `n` are kept, drawn at random. A last
 * group of fewer than m columns keeps min(n, its width).
 * @param n in [0, m]
 * @param m > 0
 * @return as sl_pattern_random()
 */
SL_API sl_status sl_pattern_n_m(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, int n, int m,
								uint64_t stream);
/** All rows * cols entries. @return as sl_pattern_random() */
SL_API sl_status sl_pattern_full(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols);

/** How sl_density_distribute() spreads one density over layers. */
typedef enum sl_distribution {
	SL_UNIFORM = 0,     /**< the same density in every layer */
	SL_ERDOS_RENYI = 1, /**< density of a layer proportional to (out + in) / (out * in) (Mocanu et al. 2018) */
	SL_ERDOS_RENYI_KERNEL =
		2 /**< ERK (Evci et al. 2020): as above over all dimensions of the kernel; equal to it for linear layers */
} sl_distribution;
/**
 * Densities of `count` layers such that together they hold `density` of all weights. Layers whose
 * share would exceed 1 are dense and the rest is spread over the others.
 * @param shapes count pairs (out, in)
 * @param kernels count pairs (height, width) of the layers' kernels, for ERK; NULL: linear layers. A
 *        pair with a zero is a linear layer
 * @param densities receives count values in [0, 1]
 */
SL_API sl_status sl_density_distribute(sl_context *context, sl_distribution distribution, double density, int count,
									   const int64_t (*shapes)[2], const int64_t (*kernels)[2], double *densities);

/** Take another reference. Thread-safe. Returns `pattern`. */
SL_API sl_pattern *sl_pattern_retain(sl_pattern *pattern);
/** Drop a reference. NULL is allowed. Thread-safe. */
SL_API void sl_pattern_release(sl_pattern *pattern);
/** The arrays, on the host; of a pattern over a device's memory a copy, made once and kept by the pattern. */
SL_API sl_status sl_pattern_get(sl_context *context, const sl_pattern *pattern, sl_pattern_arrays *arrays);
/**
 * The transpose's structure and where each of its entries comes from: entry k of the transpose is
 * entry permutation[k] of the pattern. Computed once and cached; thread-safe.
 * @param permutation receives a pointer to nnz elements of `*permutation_dtype` (#SL_I32 while nnz < 2^31)
 */
SL_API sl_status sl_pattern_transpose(sl_context *context, sl_pattern *pattern, sl_pattern_arrays *arrays,
									  const void **permutation, sl_dtype *permutation_dtype);
/** 64-bit hash of shape and structure, the same on every machine and offset width. */
SL_API sl_status sl_pattern_hash(sl_context *context, const sl_pattern *pattern, uint64_t *hash);
/** Bytes the pattern holds now: its own arrays and what was derived from them. */
SL_API size_t sl_pattern_bytes(const sl_pattern *pattern);

SL_END_DECLS
#endif
