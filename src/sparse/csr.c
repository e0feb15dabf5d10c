/* SPDX-License-Identifier: Apache-2.0 */
/* Matrices: lifetime. */
#include "core/host.h"
#include "sparse/sparse.h"

sl_status sli_csr_new(sl_csr **matrix, sl_context *context, sl_pattern *pattern, sl_dtype dtype) {
	sl_csr *m;
	*matrix = NULL;
	SL_TRY(sli_allocate_zeroed(context, sizeof *m, "a matrix", (void **)&m));
	m->self_heap = sli_heap_retain(sli_heap(context));
	m->pattern = sl_pattern_retain(pattern);
	m->dtype = dtype;
	m->device = SL_DEVICE_CPU;
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

sl_status sli_csr_create_host(sl_csr **matrix, sl_context *context, sl_pattern *pattern, sl_dtype dtype) {
	void *values;
	size_t bytes = (size_t)sli_pattern_arrays(pattern).nnz * sl_dtype_size(dtype);
	*matrix = NULL;
	SL_TRY(sli_allocate_zeroed(context, bytes, "the values of a matrix", &values));
	return sli_csr_adopt(matrix, context, sl_pattern_retain(pattern), values, dtype);
}

/* Values of a device's memory in place of what there was. */
static void move_to(sl_csr *m, sl_buffer buffer) {
	if (m->heap) {
		sli_heap_free(m->heap, m->values, sli_csr_bytes(m));
		sli_heap_release(m->heap);
	}
	m->heap = NULL;
	m->buffer = buffer;
	m->values = buffer.data;
	m->device = buffer.device->backend->device;
	m->device_index = buffer.device->host.device_index;
}

sl_status sli_csr_upload(sl_context *context, sl_csr *m) {
	sl_device_state *state = sli_device(context);
	sl_buffer buffer;
	size_t bytes = sli_csr_bytes(m);
	if (sli_on_host(state) || m->device != SL_DEVICE_CPU)
		return SL_OK;
	SL_TRY(sli_buffer_create(&buffer, context, bytes, false, "the values of a matrix"));
	sl_status status = sli_put(state, buffer.data, m->values, bytes);
	if (status != SL_OK) {
		sli_buffer_destroy(&buffer);
		return status;
	}
	move_to(m, buffer);
	return SL_OK;
}

sl_status sli_csr_check_place(sl_context *context, const sl_csr *m, const char *name) {
	const sl_device_state *state = sli_device(context);
	if (m->device == state->backend->device &&
		(m->device == SL_DEVICE_CPU || m->device_index == state->host.device_index))
		return SL_OK;
	return sli_fail(context, SL_ERR_DEVICE,
					"%s's values are on %s %d; the context computes on %s %d: copy the matrix with sl_csr_convert()",
					name, sl_device_name(m->device), m->device_index, sl_device_name(state->backend->device),
					state->host.device_index);
}

sl_status sli_csr_on_host(sl_context *context, const sl_csr *m, sl_csr *host) {
	*host = *m;
	host->heap = NULL;
	if (m->device == SL_DEVICE_CPU)
		return SL_OK;
	/* A wrapped one has no device of its own: the context's must be the same. */
	if (!m->buffer.device)
		SL_TRY(sli_csr_check_place(context, m, "the matrix"));
	sl_device_state *state = m->buffer.device ? m->buffer.device : sli_device(context);
	size_t bytes = sli_csr_bytes(m);
	SL_TRY(sli_allocate(context, bytes, "a copy of a matrix's values", &host->values));
	sl_status status = sli_fetch(state, host->values, m->values, bytes);
	if (status != SL_OK) {
		sli_heap_free(sli_heap(context), host->values, bytes);
		return status;
	}
	host->heap = sli_heap(context); /* a mark: the values are a copy */
	return SL_OK;
}

void sli_csr_release_host(sl_context *context, sl_csr *host) {
	if (host->heap)
		sli_heap_free(sli_heap(context), host->values, sli_csr_bytes(host));
}

void sl_csr_destroy(sl_csr *m) {
	if (!m)
		return;
	if (m->buffer.device) {
		sli_buffer_destroy(&m->buffer);
	} else if (m->heap) {
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
