/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the Python package, the XLA handlers and the TensorFlow kernels share: contexts with a lock, and
 * functions by number, over plain pointers. Any thread may call; calls on one runtime take turns, as they
 * would use the same cores anyway.
 */
#ifndef SL_PYTHON_BRIDGE_H
#define SL_PYTHON_BRIDGE_H

#include <sparselayer/sparselayer.h>

SL_BEGIN_DECLS

typedef struct slb_runtime slb_runtime;

/* The message of the last call of this thread that failed. */
SL_API const char *slb_message(void);

/* The file of libsparselayer, whose folder its CUDA module is looked for in; "" where that is not known. */
SL_API const char *slb_library_path(void);

/*
 * A context with a lock. `threads` 0: all cores. `openmp`: path or soname of an OpenMP runtime that is loaded
 * already, whose threads shall do the work (NULL: an own pool), so that two pools do not fight for the cores.
 */
SL_API sl_status slb_runtime_create(slb_runtime **runtime, sl_device device, int device_index, int threads,
									uint64_t seed, const char *openmp);
SL_API void slb_runtime_destroy(slb_runtime *runtime);
SL_API sl_context *slb_runtime_context(slb_runtime *runtime);
/* Recursive. Calls on the runtime's context outside slb_* go between these. */
SL_API void slb_lock(slb_runtime *runtime);
SL_API void slb_unlock(slb_runtime *runtime);
/* Instead of slb_unlock() in a forked child, whose thread has another id than the one that locked. */
SL_API void slb_unlock_in_child(slb_runtime *runtime);

/* A function of the runtime, as a number that is never used twice. `chunk` > 0: batches go through in pieces of at most
 * that many rows, so that the workspace does not grow with the batch. */
SL_API sl_status slb_function_create(int64_t *number, slb_runtime *runtime, sl_pattern *pattern, int bias,
									 sl_activation activation, double parameter, sl_dtype dtype, int64_t chunk);
/* Numbers that are unknown are allowed. */
SL_API void slb_function_destroy(int64_t number);
SL_API sl_status slb_function_set_pattern(int64_t number, sl_pattern *pattern);

/* Shape and element counts, for those who must check their arrays first. */
typedef struct slb_shape {
	int64_t in_features, out_features, nnz;
	sl_dtype dtype;       /* of x, y and their gradients */
	sl_dtype value_dtype; /* of values, bias and their gradients: f32 beside bf16 and f16 */
	int bias;
} slb_shape;
SL_API sl_status slb_function_shape(int64_t number, slb_shape *shape);

/* Bytes that a forward of `batch` rows keeps for its backward; 0 for a function of chunks. */
SL_API sl_status slb_kept_bytes(int64_t number, int64_t batch, int64_t *bytes);
/* Rows of X and Y `ldx` and `ldy` elements apart (0: close together). `values`: at least nnz elements. `kept`: NULL, or
 * slb_kept_bytes() bytes on a boundary of 64. */
SL_API sl_status slb_forward(int64_t number, int64_t batch, const void *x, int64_t ldx, const void *values,
							 const void *bias, void *y, int64_t ldy, void *kept);
/* `values_count` elements are at `dvalues`; those behind the pattern's nnz become zero. dx, dvalues, dbias may be NULL,
 * and x and y where `kept` is given. */
SL_API sl_status slb_backward(int64_t number, int64_t batch, const void *x, int64_t ldx, const void *y,
							  const void *kept, const void *dy, int64_t lddy, const void *values, void *dx,
							  void *dvalues, int64_t values_count, void *dbias);

/* A sparse batch: CSR (`offsets`, `columns`) or entries in any order, `stride` indices apart. */
typedef struct slb_entries {
	int64_t batch, count;
	const void *offsets; /* batch + 1; NULL: `rows` is there */
	sl_dtype offset_dtype;
	const void *rows, *columns; /* entry i's at [i * stride]; of CSR: stride 1 */
	sl_dtype index_dtype;
	int64_t stride;
	const void *values;
	int padded; /* entries outside the matrix are padding, as in JAX's BCOO; else they are an error */
} slb_entries;
/* slb_forward() and slb_backward() of sparse X, at the cost of its entries. There is no dX. */
SL_API sl_status slb_forward_sparse(int64_t number, const slb_entries *x, const void *values, const void *bias,
									void *y);
SL_API sl_status slb_backward_sparse(int64_t number, const slb_entries *x, const void *y, const void *dy, void *dvalues,
									 int64_t values_count, void *dbias);

/*
 * The next backward keeps copies, of the values' dtype, of its X, Y and dY, for growing a pattern by gradient; batches
 * of chunks: those of the first chunk. slb_captured() gives their size and pointers (NULL: there was no backward
 * since), valid until the next slb_capture() or slb_function_destroy(). slb_capture() with `on` 0 frees them.
 */
SL_API sl_status slb_capture(int64_t number, int on);
SL_API sl_status slb_captured(int64_t number, int64_t *batch, const void **x, const void **y, const void **dy);

/* An edit of a pattern by the values on it (topology.h). */
typedef struct slb_edit {
	const void *values; /* nnz, finite */
	sl_dtype dtype;
	int64_t keep;           /* prune to so many of largest magnitude; -1: exchange instead */
	int64_t exchange;       /* drop so many of smallest magnitude, and grow as many */
	double spread;          /* of growth by gradient, as in sl_sparsity_options; 0: its default */
	uint64_t stream;        /* of random growth */
	const sl_dense *x, *dz; /* grow where |dz^T x| is largest: [batch, cols] and [batch, rows]; NULL: at random */
} slb_edit;
SL_API sl_status slb_pattern_edit(sl_pattern **result, slb_runtime *runtime, sl_pattern *pattern, const slb_edit *edit);
/* For each entry of `to` its number in `from`, of the same shape, or -1. */
SL_API sl_status slb_map(slb_runtime *runtime, const sl_pattern *from, const sl_pattern *to, int64_t *map);

SL_END_DECLS
#endif
