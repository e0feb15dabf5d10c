/* SPDX-License-Identifier: Apache-2.0 */
/* A pattern as a backend sees it: the host's arrays, or copies in a device's memory, kept in the pattern. */
#include "core/host.h"
#include "sparse/device.h"
#include "sparse/pattern.h"

/* One a context: what is freed is freed in the order of its stream, so others must not read it. */
typedef struct sl_pattern_mirror {
	struct sl_pattern_mirror *next;
	sl_device_state *device;                                       /* the buffers hold it */
	sl_buffer offsets, columns, t_offsets, t_columns, permutation; /* empty: borrowed */
	sl_pattern_arrays arrays, transposed;
	bool has_transpose;
	sl_derived derived;
} mirror;

static void free_mirror(sl_heap *heap, mirror *m) {
	sl_buffer *all[] = {&m->offsets, &m->columns, &m->t_offsets, &m->t_columns, &m->permutation};
	for (int i = 0; i < 2; i++)
		if (m->derived.data[i])
			m->derived.destroy(m->device->device, m->derived.data[i]);
	for (int i = 0; i < 5; i++)
		sli_buffer_destroy(all[i]);
	sli_device_release(m->device);
	sli_heap_free(heap, m, sizeof *m);
}

void sli_pattern_drop_mirrors(sl_pattern *pattern) {
	while (pattern->mirrors) {
		mirror *m = pattern->mirrors;
		pattern->mirrors = m->next;
		free_mirror(pattern->heap, m);
	}
}

size_t sli_pattern_mirror_bytes(const sl_pattern *pattern) {
	size_t bytes = 0;
	for (const mirror *m = pattern->mirrors; m; m = m->next)
		bytes += m->offsets.bytes + m->columns.bytes + m->t_offsets.bytes + m->t_columns.bytes + m->permutation.bytes +
				 m->derived.bytes[0] + m->derived.bytes[1];
	return bytes;
}

static sl_status upload(sl_context *context, sl_buffer *buffer, const void *from, size_t bytes) {
	sl_device_state *state = sli_device(context);
	SL_TRY(sli_buffer_create(buffer, context, bytes, false, "a pattern on the device"));
	return sli_put(state, buffer->data, from, bytes);
}

/* Offsets as narrow as their number of entries allows, whatever the caller's are. */
static sl_status upload_offsets(sl_context *context, sl_buffer *buffer, const sl_pattern_arrays *a) {
	size_t bytes = (size_t)(a->rows + 1) * sizeof(int32_t);
	void *memory;
	if (sli_offset_dtype(a->nnz) == a->offset_dtype)
		return upload(context, buffer, a->row_offsets, (size_t)(a->rows + 1) * sl_dtype_size(a->offset_dtype));
	SL_TRY(sli_allocate(context, bytes, "offsets of a pattern", &memory));
	for (int64_t i = 0; i <= a->rows; i++)
		((int32_t *)memory)[i] = (int32_t)sli_index(a->row_offsets, a->offset_dtype, i);
	sl_status status = upload(context, buffer, memory, bytes);
	sli_heap_free(sli_heap(context), memory, bytes);
	return status;
}

static sl_pattern_arrays on_device(const sl_pattern_arrays *a, const sl_buffer *offsets, const sl_buffer *columns) {
	return (sl_pattern_arrays){a->rows, a->cols, a->nnz, offsets->data, sli_offset_dtype(a->nnz), columns->data};
}

/* Arrays of the context's own device: borrowed, but for offsets that can be narrower. */
static sl_status borrow(sl_context *context, const sl_pattern_arrays *a, mirror *m) {
	m->arrays = *a;
	if (a->offset_dtype == sli_offset_dtype(a->nnz))
		return SL_OK;
	SL_TRY(sli_buffer_create(&m->offsets, context, (size_t)(a->rows + 1) * sizeof(int32_t), false,
							 "offsets of a pattern"));
	m->arrays.row_offsets = m->offsets.data;
	m->arrays.offset_dtype = SL_I32;
	return sli_pattern_step(context, SL_PATTERN_NARROW, a, &(sl_op_args){.vector = {m->offsets.data}});
}

static sl_status fill(sl_context *context, const sl_pattern *p, mirror *m) {
	if (p->device == sli_device(context))
		return borrow(context, &p->given, m);
	SL_TRY(upload_offsets(context, &m->offsets, &p->arrays));
	SL_TRY(upload(context, &m->columns, p->arrays.col_indices, (size_t)p->arrays.nnz * 4));
	m->arrays = on_device(&p->arrays, &m->offsets, &m->columns);
	return SL_OK;
}

/* Whether the device makes the transpose itself: its sort counts in int32. */
static bool transposes(const sl_pattern *p) {
	return p->arrays.nnz <= INT32_MAX && p->arrays.rows <= INT32_MAX;
}

static sl_status make_transpose(sl_context *context, mirror *m) {
	const sl_pattern_arrays *a = &m->arrays;
	size_t bytes = (size_t)a->nnz * sizeof(int32_t);
	SL_TRY(sli_buffer_create(&m->t_offsets, context, (size_t)(a->cols + 1) * sizeof(int32_t), false,
							 "offsets of a pattern"));
	SL_TRY(sli_buffer_create(&m->t_columns, context, bytes, false, "the transpose of a pattern"));
	SL_TRY(sli_buffer_create(&m->permutation, context, bytes, false, "the transpose of a pattern"));
	m->transposed = (sl_pattern_arrays){a->cols, a->rows, a->nnz, m->t_offsets.data, SL_I32, m->t_columns.data};
	sl_op_args args = {.vector = {m->t_offsets.data, m->t_columns.data, m->permutation.data}};
	return sli_pattern_step(context, SL_PATTERN_TRANSPOSE, a, &args);
}

static sl_status fill_transpose(sl_context *context, const sl_pattern *p, mirror *m) {
	if (transposes(p))
		return make_transpose(context, m);
	SL_TRY(upload_offsets(context, &m->t_offsets, &p->transposed));
	SL_TRY(upload(context, &m->t_columns, p->transposed.col_indices, (size_t)p->arrays.nnz * 4));
	SL_TRY(
		upload(context, &m->permutation, p->permutation, (size_t)p->arrays.nnz * sl_dtype_size(p->permutation_dtype)));
	m->transposed = on_device(&p->transposed, &m->t_offsets, &m->t_columns);
	return SL_OK;
}

/* The context's mirror, made where there is none. The pattern is locked. */
static sl_status find_mirror(sl_context *context, sl_pattern *p, mirror **found) {
	for (mirror *m = p->mirrors; m; m = m->next)
		if (m->device == sli_device(context)) {
			*found = m;
			return SL_OK;
		}
	mirror *m = sli_heap_allocate(p->heap, sizeof *m);
	if (!m)
		return sli_fail_memory(context, sizeof *m, "a pattern on the device");
	*m = (mirror){.device = sli_device_retain(sli_device(context))};
	sl_status status = fill(context, p, m);
	if (status != SL_OK) {
		free_mirror(p->heap, m);
		return status;
	}
	m->next = p->mirrors;
	p->mirrors = *found = m;
	return SL_OK;
}

static sl_status find_transpose(sl_context *context, const sl_pattern *p, mirror *m) {
	if (m->has_transpose)
		return SL_OK;
	sl_status status = fill_transpose(context, p, m);
	if (status != SL_OK) {
		sli_buffer_destroy(&m->t_offsets);
		sli_buffer_destroy(&m->t_columns);
		sli_buffer_destroy(&m->permutation);
		return status;
	}
	m->has_transpose = true;
	return SL_OK;
}

/* What the host has to have before a mirror is made. */
static sl_status prepare_host(sl_context *context, sl_pattern *p, bool transpose) {
	if (transpose && !transposes(p))
		return sli_pattern_make_transpose(context, p);
	/* Past 2^31 - 1 entries products are split by offsets that the host reads. */
	bool own = p->device == sli_device(context) && p->given.nnz <= INT32_MAX;
	return own ? SL_OK : sli_pattern_make_host(context, p);
}

static sl_status mirror_view(sl_context *context, sl_pattern *pattern, bool transpose, sl_sparse_view *view) {
	mirror *m = NULL;
	SL_TRY(prepare_host(context, pattern, transpose));
	pthread_mutex_lock(&pattern->lock);
	sl_status status = find_mirror(context, pattern, &m);
	if (status == SL_OK && transpose)
		status = find_transpose(context, pattern, m);
	if (status == SL_OK) {
		*view = (sl_sparse_view){.arrays = m->arrays, .host = pattern->arrays, .derived = &m->derived};
		if (transpose) {
			view->transposed = m->transposed;
			view->host_transposed = pattern->transposed;
			view->permutation = m->permutation.data;
			view->permutation_dtype = sli_offset_dtype(pattern->arrays.nnz);
		}
	}
	pthread_mutex_unlock(&pattern->lock);
	return status;
}

sl_status sli_pattern_view(sl_context *context, sl_pattern *pattern, bool transpose, sl_sparse_view *view) {
	if (!sli_on_host(sli_device(context)))
		return mirror_view(context, pattern, transpose, view);
	SL_TRY(sli_pattern_make_host(context, pattern));
	view->arrays = sli_pattern_arrays(pattern);
	*view = (sl_sparse_view){.arrays = view->arrays, .host = view->arrays};
	if (!transpose)
		return SL_OK;
	SL_TRY(sli_pattern_make_transpose(context, pattern));
	view->transposed = view->host_transposed = pattern->transposed;
	view->permutation = pattern->permutation;
	view->permutation_dtype = pattern->permutation_dtype;
	return SL_OK;
}
