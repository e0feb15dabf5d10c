/* SPDX-License-Identifier: Apache-2.0 */
/* Matrices: lifetime. */
#include "sparse/sparse.h"

sl_status sli_csr_new(sl_csr **matrix, sl_context *context, sl_pattern *pattern, sl_dtype dtype) {
	sl_csr *m;
	*matrix = NULL;
	SL_TRY(sli_allocate_zeroed(context, sizeof *m, "a matrix", (void **)&m));
	m->self_heap = sli_heap_retain(sli_heap(context));
	m->pattern = sl_pattern_retain(pattern);
	m->dtype = dtype;
	*matrix = m;
	return SL_OK;
}

sl_status sli_csr_adopt(sl_csr **matrix, sl_context *context, sl_pattern *pattern, void *values, sl_dtype dtype) {
	sl_status status = sli_csr_new(matrix, context, pattern, dtype);
	if (status == SL_OK) {
		(*matrix)->values = values;
		(*matrix)->heap = sli_heap_retain(sli_heap(context));
	} else {
		sli_heap_free(sli_heap(context), values, (size_t)sli_pattern_arrays(pattern).nnz * sl_dtype_size(dtype));
	}
	sl_pattern_release(pattern);
	return status;
}

size_t sli_csr_bytes(const sl_csr *m) {
	return (size_t)sli_pattern_arrays(m->pattern).nnz * sl_dtype_size(m->dtype);
}

void sl_csr_destroy(sl_csr *m) {
	if (!m)
		return;
	if (m->heap) {
		sli_heap_free(m->heap, m->values, sli_csr_bytes(m));
		sli_heap_release(m->heap);
	} else if (m->release) {
		m->release(m->release_user);
	}
	sl_pattern_release(m->pattern);
	sl_heap *heap = m->self_heap;
	sli_heap_free(heap, m, sizeof *m);
	sli_heap_release(heap);
}
