/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of patterns and matrices. */
#ifndef SL_SPARSE_SPARSE_H
#define SL_SPARSE_SPARSE_H

#include "core/context.h"

/* One element of an index array (I32 or I64). */
static inline int64_t sli_index(const void *indices, sl_dtype dtype, int64_t i) {
	return dtype == SL_I64 ? ((const int64_t *)indices)[i] : ((const int32_t *)indices)[i];
}
static inline void sli_index_set(void *indices, sl_dtype dtype, int64_t i, int64_t value) {
	if (dtype == SL_I64)
		((int64_t *)indices)[i] = value;
	else
		((int32_t *)indices)[i] = (int32_t)value;
}
/* The narrowest offset dtype for nnz entries. */
static inline sl_dtype sli_offset_dtype(int64_t nnz) {
	return nnz <= INT32_MAX ? SL_I32 : SL_I64;
}

struct sl_csr {
	sl_pattern *pattern; /* retained */
	void *values;        /* nnz elements, of host memory unless `device` says otherwise */
	sl_device device;    /* SL_DEVICE_CPU: the host */
	int device_index;
	sl_buffer buffer; /* owns `values` that are on a device; else empty */
	sl_dtype dtype;
	sl_heap *heap; /* owns `values`; NULL when wrapped */
	sl_release_callback release;
	void *release_user;
	sl_heap *self_heap; /* owns this struct */
};

/* A matrix without values yet; the pattern is retained. */
sl_status sli_csr_new(sl_csr **matrix, sl_context *context, sl_pattern *pattern, sl_dtype dtype);
/* A matrix over a pattern and values of the context's heap, both taken over (also on failure). */
sl_status sli_csr_adopt(sl_csr **matrix, sl_context *context, sl_pattern *pattern, void *values, sl_dtype dtype);
/* Bytes of its values. */
size_t sli_csr_bytes(const sl_csr *matrix);
/* Zeroed values in host memory, whatever the context's device: for who writes them. */
sl_status sli_csr_create_host(sl_csr **matrix, sl_context *context, sl_pattern *pattern, sl_dtype dtype);
/* Move the values to the context's device, if they are not there. */
sl_status sli_csr_upload(sl_context *context, sl_csr *matrix);
/* Whether the values are where the context computes; `name` goes into the message. */
sl_status sli_csr_check_place(sl_context *context, const sl_csr *matrix, const char *name);
/* The matrix with values that the host can read: itself, or with a copy of them, which release() frees. */
sl_status sli_csr_on_host(sl_context *context, const sl_csr *matrix, sl_csr *host);
void sli_csr_release_host(sl_context *context, sl_csr *host);

/* The pattern as the context's backend wants it: on the CPU the host arrays; on another device a
 * mirror that is made once and kept in the pattern. With `transpose` also the transpose. Thread-safe. */
sl_status sli_pattern_view(sl_context *context, sl_pattern *pattern, bool transpose, sl_sparse_view *view);
/* Host arrays, no context needed; without pointers where they are on a device and nobody has called make_host(). */
sl_pattern_arrays sli_pattern_arrays(const sl_pattern *pattern);
/* For who reads the arrays on the host: a copy of those that are on a device, made once. Thread-safe. */
sl_status sli_pattern_make_host(sl_context *context, const sl_pattern *pattern);
/* A pattern over arrays allocated from the context's heap, which it takes over (also on failure).
 * Offsets are of sli_offset_dtype(nnz); the structure is trusted: the caller built it valid. */
sl_status sli_pattern_adopt(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
							void *row_offsets, int32_t *col_indices);
/* count + 1 offsets that begin at 0, do not decrease and end at nnz; `name` goes into the message. */
sl_status sli_check_offsets(sl_context *context, const char *name, const void *offsets, sl_dtype dtype, int64_t count,
							int64_t nnz);
/* What is wrong with offset `i` of `count` + 1, `before` being the one before it; with the column of an entry, `last`
 * being the one before it in its row, or -1. */
sl_status sli_fail_offset(sl_context *context, const char *name, int64_t i, int64_t before, int64_t now, int64_t count,
						  int64_t nnz);
sl_status sli_fail_column(sl_context *context, int64_t row, int64_t entry, int64_t column, int64_t last, int64_t cols);
/* Find the first fault of a structure whose columns must increase within each row. */
sl_status sli_pattern_validate(sl_context *context, const sl_pattern_arrays *arrays);
/* The value that the k-th largest (from 0) of `keys` has. Reorders them; O(n) on average. */
double sli_nth_largest(double *keys, int64_t count, int64_t k);

#endif
