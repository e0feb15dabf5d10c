/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "core/half.h"
#include "sparse/sparse.h"

static sl_status check_dtype(sl_context *context, sl_dtype dtype) {
	if (!sl_dtype_size(dtype) || dtype >= SL_I32)
		return sli_fail(context, SL_ERR_DTYPE, "values of dtype %s: f32, f64, bf16 or f16 is needed", sl_dtype_name(dtype));
	return SL_OK;
}

static sl_status new_csr(sl_csr **matrix, sl_context *context, sl_pattern *pattern, sl_dtype dtype) {
	sl_csr *m;
	if (!matrix || !pattern || !context)
		return sli_fail(context, SL_ERR_NULL, "%s is null", pattern ? "matrix" : "pattern");
	*matrix = NULL;
	SL_TRY(check_dtype(context, dtype));
	SL_TRY(sli_allocate_zeroed(context, sizeof *m, "a matrix", (void **)&m));
	m->self_heap = sli_heap_retain(sli_heap(context));
	m->pattern = sl_pattern_retain(pattern);
	m->dtype = dtype;
	*matrix = m;
	return SL_OK;
}

static size_t value_bytes(const sl_csr *m) {
	return (size_t)sli_pattern_arrays(m->pattern).nnz * sl_dtype_size(m->dtype);
}

sl_status sl_csr_create_pattern(sl_csr **matrix, sl_context *context, sl_pattern *pattern, sl_dtype dtype) {
	SL_TRY(new_csr(matrix, context, pattern, dtype));
	sl_csr *m = *matrix;
	sl_status status = sli_allocate_zeroed(context, value_bytes(m), "the values of a matrix", &m->values);
	if (status != SL_OK) {
		sl_csr_destroy(m);
		*matrix = NULL;
		return status;
	}
	m->heap = sli_heap_retain(sli_heap(context));
	return SL_OK;
}

sl_status sl_csr_wrap(sl_csr **matrix, sl_context *context, sl_pattern *pattern, void *values, sl_dtype dtype,
                      sl_release_callback release, void *user) {
	if (pattern && sli_pattern_arrays(pattern).nnz && !values)
		return sli_fail(context, SL_ERR_NULL, "values is null");
	SL_TRY(new_csr(matrix, context, pattern, dtype));
	(*matrix)->values = values;
	(*matrix)->release = release;
	(*matrix)->release_user = user;
	return SL_OK;
}

void sl_csr_destroy(sl_csr *m) {
	if (!m)
		return;
	if (m->heap) {
		sli_heap_free(m->heap, m->values, value_bytes(m));
		sli_heap_release(m->heap);
	} else if (m->release) {
		m->release(m->release_user);
	}
	sl_pattern_release(m->pattern);
	sl_heap *heap = m->self_heap;
	sli_heap_free(heap, m, sizeof *m);
	sli_heap_release(heap);
}

sl_status sl_csr_convert(sl_csr **result, sl_context *context, const sl_csr *matrix, sl_dtype dtype) {
	if (!matrix)
		return sli_fail(context, SL_ERR_NULL, "matrix is null");
	SL_TRY(sl_csr_create_pattern(result, context, matrix->pattern, dtype));
	for (int64_t k = 0; k < sli_pattern_arrays(matrix->pattern).nnz; k++)
		sli_store((*result)->values, dtype, k, sli_load(matrix->values, matrix->dtype, k));
	return SL_OK;
}

sl_pattern *sl_csr_pattern(const sl_csr *matrix) {
	return matrix ? matrix->pattern : NULL;
}

void *sl_csr_values(const sl_csr *matrix) {
	return matrix && sli_pattern_arrays(matrix->pattern).nnz ? matrix->values : NULL;
}

sl_dtype sl_csr_dtype(const sl_csr *matrix) {
	return matrix ? matrix->dtype : 0;
}

/* Element (r, c) of a view. */
static int64_t place(const sl_dense *m, int64_t r, int64_t c) {
	switch (m->order) {
	case SL_ROW_MAJOR:
		return r * m->ld + c;
	case SL_COL_MAJOR:
		return c * m->ld + r;
	case SL_COL_PANELS:
		return (c / m->ld) * m->rows * m->ld + r * m->ld + c % m->ld;
	default:
		return (r / m->ld) * m->cols * m->ld + c * m->ld + r % m->ld;
	}
}

sl_status sl_csr_to_dense(sl_context *context, const sl_csr *matrix, sl_dense *dense) {
	if (!matrix)
		return sli_fail(context, SL_ERR_NULL, "matrix is null");
	SL_TRY(sl_dense_check(context, dense));
	sl_pattern_arrays a = sli_pattern_arrays(matrix->pattern);
	if (dense->rows != a.rows || dense->cols != a.cols)
		return sli_fail(context, SL_ERR_SHAPE, "the dense matrix is %lld x %lld; the sparse one is %lld x %lld",
		                (long long)dense->rows, (long long)dense->cols, (long long)a.rows, (long long)a.cols);
	for (int64_t r = 0; r < a.rows; r++) {
		for (int64_t c = 0; c < a.cols; c++)
			sli_store(dense->data, dense->dtype, place(dense, r, c), 0);
		for (int64_t k = sli_index(a.row_offsets, a.offset_dtype, r); k < sli_index(a.row_offsets, a.offset_dtype, r + 1);
		     k++)
			sli_store(dense->data, dense->dtype, place(dense, r, a.col_indices[k]),
			          sli_load(matrix->values, matrix->dtype, k));
	}
	return SL_OK;
}
