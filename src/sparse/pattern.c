/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns: lifetime, the cached transpose, the hash. */
#include "sparse/pattern.h"

#include "core/checked.h"
#include "core/host.h"
#include "sparse/device.h"

static size_t offset_bytes(int64_t rows, sl_dtype dtype) {
	return (size_t)(rows + 1) * sl_dtype_size(dtype);
}

sl_status sli_pattern_new(sl_pattern **pattern, sl_context *context, const sl_pattern_arrays *arrays) {
	sl_pattern *p = NULL;
	*pattern = NULL;
	SL_TRY(sli_allocate_zeroed(context, sizeof *p, "a pattern", (void **)&p));
	p->arrays = *arrays;
	p->references = 1;
	p->heap = sli_heap_retain(sli_heap(context));
	pthread_mutex_init(&p->lock, NULL);
	*pattern = p;
	return SL_OK;
}

sl_status sli_pattern_new_device(sl_pattern **pattern, sl_context *context, const sl_pattern_arrays *given,
								 bool trusted) {
	sl_device_state *state = sli_device(context);
	const sl_backend *b = state->backend;
	sl_pattern_arrays hidden = {given->rows, given->cols, given->nnz, NULL, given->offset_dtype, NULL};
	SL_TRY(b->check(state->device, given->row_offsets, sl_dtype_size(given->offset_dtype), "row_offsets"));
	if (given->nnz)
		SL_TRY(b->check(state->device, given->col_indices, sizeof(int32_t), "col_indices"));
	if (!trusted)
		SL_TRY(sli_pattern_validate_device(context, given));
	SL_TRY(sli_pattern_new(pattern, context, &hidden));
	(*pattern)->device = sli_device_retain(state);
	(*pattern)->given = *given;
	return SL_OK;
}

sl_status sli_pattern_adopt(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, int64_t nnz,
							void *row_offsets, int32_t *col_indices) {
	sl_pattern_arrays arrays = {rows, cols, nnz, row_offsets, sli_offset_dtype(nnz), col_indices};
	sl_status status = sli_pattern_new(pattern, context, &arrays);
	if (status != SL_OK) {
		sli_heap_free(sli_heap(context), row_offsets, offset_bytes(rows, arrays.offset_dtype));
		sli_heap_free(sli_heap(context), col_indices, (size_t)nnz * 4);
		return status;
	}
	(*pattern)->owned = true;
	return SL_OK;
}

sl_pattern *sl_pattern_retain(sl_pattern *pattern) {
	if (pattern)
		__atomic_fetch_add(&pattern->references, 1, __ATOMIC_RELAXED);
	return pattern;
}

static void free_arrays(sl_heap *heap, const sl_pattern_arrays *a) {
	sli_heap_free(heap, (void *)(uintptr_t)a->row_offsets, offset_bytes(a->rows, a->offset_dtype));
	sli_heap_free(heap, (void *)(uintptr_t)a->col_indices, (size_t)a->nnz * 4);
}

void sl_pattern_release(sl_pattern *p) {
	if (!p || __atomic_fetch_sub(&p->references, 1, __ATOMIC_ACQ_REL) != 1)
		return;
	sl_heap *heap = p->heap;
	sli_pattern_drop_mirrors(p);
	sli_pattern_drop_choices(p);
	if (p->has_transpose) {
		free_arrays(heap, &p->transposed);
		sli_heap_free(heap, p->permutation, (size_t)p->arrays.nnz * sl_dtype_size(p->permutation_dtype));
	}
	if (p->owned || (p->device && p->arrays.row_offsets))
		free_arrays(heap, &p->arrays);
	if (p->device)
		sli_device_release(p->device);
	if (!p->owned && p->release)
		p->release(p->release_user);
	pthread_mutex_destroy(&p->lock);
	sli_heap_free(heap, p, sizeof *p);
	sli_heap_release(heap);
}

sl_pattern_arrays sli_pattern_arrays(const sl_pattern *pattern) {
	sl_pattern *p = (sl_pattern *)(uintptr_t)pattern;
	if (!p->device)
		return p->arrays;
	pthread_mutex_lock(&p->lock);
	sl_pattern_arrays arrays = p->arrays;
	pthread_mutex_unlock(&p->lock);
	return arrays;
}

static sl_status fetch_arrays(sl_context *context, sl_pattern *p) {
	const sl_pattern_arrays *a = &p->given;
	size_t nob = offset_bytes(a->rows, a->offset_dtype), nib = (size_t)a->nnz * 4;
	void *offsets = sli_heap_allocate(p->heap, nob), *columns = sli_heap_allocate(p->heap, nib);
	sl_status status = offsets && columns ? sli_fetch(p->device, offsets, a->row_offsets, nob)
										  : sli_fail_memory(context, nob + nib, "a pattern on the host");
	if (status == SL_OK)
		status = sli_fetch(p->device, columns, a->col_indices, nib);
	if (status != SL_OK) {
		sli_heap_free(p->heap, offsets, nob);
		sli_heap_free(p->heap, columns, nib);
		return status;
	}
	p->arrays.row_offsets = offsets;
	p->arrays.col_indices = columns;
	return SL_OK;
}

sl_status sli_pattern_make_host(sl_context *context, const sl_pattern *pattern) {
	sl_pattern *p = (sl_pattern *)(uintptr_t)pattern;
	if (!p->device)
		return SL_OK;
	pthread_mutex_lock(&p->lock);
	sl_status status = p->arrays.row_offsets ? SL_OK : fetch_arrays(context, p);
	pthread_mutex_unlock(&p->lock);
	return status;
}

size_t sl_pattern_bytes(const sl_pattern *pattern) {
	if (!pattern)
		return 0;
	sl_pattern *p = (sl_pattern *)(uintptr_t)pattern;
	const sl_pattern_arrays *a = &p->arrays;
	pthread_mutex_lock(&p->lock);
	size_t bytes = a->row_offsets ? offset_bytes(a->rows, a->offset_dtype) + (size_t)a->nnz * 4 : 0;
	if (p->has_transpose)
		bytes += offset_bytes(a->cols, p->transposed.offset_dtype) + (size_t)a->nnz * 4 +
				 (size_t)a->nnz * sl_dtype_size(p->permutation_dtype);
	bytes += sli_pattern_mirror_bytes(p);
	pthread_mutex_unlock(&p->lock);
	return bytes;
}

static int64_t first_of(const sl_pattern_arrays *a, int64_t row) {
	return sli_index(a->row_offsets, a->offset_dtype, row);
}

/*
 * A counting sort by column: stable, so rows increase within each column, however the rows are cut into pieces. Each
 * piece counts its own entries of a column, and writes behind those of the pieces before it.
 */
typedef struct turning {
	const sl_pattern_arrays *a;
	int64_t pieces;
	void *places; /* by piece and column, of the offsets' dtype */
	int32_t *indices;
	void *permutation;
	sl_dtype dtype;
} turning;

static void piece_of(const turning *t, size_t index, int64_t *begin, int64_t *end) {
	*begin = t->a->rows / t->pieces * (int64_t)index;
	*end = (int64_t)index + 1 == t->pieces ? t->a->rows : *begin + t->a->rows / t->pieces;
}

#define TURN(type)                                                                                                     \
	static void count_##type(void *argument, size_t index) {                                                           \
		const turning *t = argument;                                                                                   \
		const sl_pattern_arrays *a = t->a;                                                                             \
		type *places = (type *)t->places + (int64_t)index * a->cols;                                                   \
		int64_t begin, end;                                                                                            \
		piece_of(t, index, &begin, &end);                                                                              \
		memset(places, 0, (size_t)a->cols * sizeof *places);                                                           \
		for (int64_t k = first_of(a, begin), stop = first_of(a, end); k < stop; k++)                                   \
			places[a->col_indices[k]]++;                                                                               \
	}                                                                                                                  \
	static void turn_##type(void *argument, size_t index) {                                                            \
		const turning *t = argument;                                                                                   \
		const sl_pattern_arrays *a = t->a;                                                                             \
		type *places = (type *)t->places + (int64_t)index * a->cols, *order = t->permutation;                          \
		int64_t begin, end;                                                                                            \
		piece_of(t, index, &begin, &end);                                                                              \
		for (int64_t r = begin; r < end; r++)                                                                          \
			for (type k = (type)first_of(a, r), stop = (type)first_of(a, r + 1); k < stop; k++) {                      \
				type at = places[a->col_indices[k]]++;                                                                 \
				t->indices[at] = (int32_t)r;                                                                           \
				order[at] = k;                                                                                         \
			}                                                                                                          \
	}                                                                                                                  \
	static void place_##type(const turning *t, type *offsets) {                                                        \
		type *places = t->places, sum = 0;                                                                             \
		for (int64_t c = 0; c < t->a->cols; c++) {                                                                     \
			offsets[c] = sum;                                                                                          \
			for (int64_t p = 0; p < t->pieces; p++) {                                                                  \
				type here = places[p * t->a->cols + c];                                                                \
				places[p * t->a->cols + c] = sum;                                                                      \
				sum += here;                                                                                           \
			}                                                                                                          \
		}                                                                                                              \
		offsets[t->a->cols] = sum;                                                                                     \
	}
TURN(int32_t)
TURN(int64_t)

/* As many pieces as there are threads, unless counting them would cost more than it saves. */
static int64_t pieces_for(sl_context *context, const sl_pattern_arrays *a) {
	enum { LEAST = 4096 };
	int64_t pieces = sli_device(context)->host.threads, most = a->nnz / ((a->cols > LEAST ? a->cols : LEAST) + 1);
	pieces = pieces < most ? pieces : most;
	pieces = pieces < a->rows ? pieces : a->rows;
	return pieces > 1 ? pieces : 1;
}

static sl_status fill_transpose(sl_context *context, const sl_pattern_arrays *a, void *offsets, sl_dtype dtype,
								int32_t *indices, void *permutation) {
	turning t = {
		.a = a, .pieces = pieces_for(context, a), .indices = indices, .permutation = permutation, .dtype = dtype};
	size_t bytes = (size_t)(t.pieces * a->cols) * sl_dtype_size(dtype);
	SL_TRY(sli_allocate(context, bytes, "the transpose of a pattern", &t.places));
	bool narrow = dtype == SL_I32;
	sli_parallel(context, (size_t)t.pieces, narrow ? count_int32_t : count_int64_t, &t);
	if (narrow)
		place_int32_t(&t, offsets);
	else
		place_int64_t(&t, offsets);
	sli_parallel(context, (size_t)t.pieces, narrow ? turn_int32_t : turn_int64_t, &t);
	sli_heap_free(sli_heap(context), t.places, bytes);
	return SL_OK;
}

static sl_status make_transpose(sl_context *context, sl_pattern *p) {
	const sl_pattern_arrays *a = &p->arrays;
	sl_dtype dtype = sli_offset_dtype(a->nnz);
	if (a->rows > INT32_MAX)
		return sli_fail(context, SL_ERR_OVERFLOW, "a pattern of %lld rows has no transpose with int32 columns",
						(long long)a->rows);
	size_t nob = offset_bytes(a->cols, dtype), nib = (size_t)a->nnz * 4, npb = (size_t)a->nnz * sl_dtype_size(dtype);
	void *offsets = sli_heap_allocate(p->heap, nob), *indices = sli_heap_allocate(p->heap, nib);
	void *permutation = sli_heap_allocate(p->heap, npb);
	sl_status status = offsets && indices && permutation
						   ? fill_transpose(context, a, offsets, dtype, indices, permutation)
						   : sli_fail_memory(context, nob + nib + npb, "the transpose of a pattern");
	if (status != SL_OK) {
		sli_heap_free(p->heap, offsets, nob);
		sli_heap_free(p->heap, indices, nib);
		sli_heap_free(p->heap, permutation, npb);
		return status;
	}
	p->transposed = (sl_pattern_arrays){a->cols, a->rows, a->nnz, offsets, dtype, indices};
	p->permutation = permutation;
	p->permutation_dtype = dtype;
	p->has_transpose = true;
	return SL_OK;
}

sl_status sli_pattern_make_transpose(sl_context *context, sl_pattern *p) {
	SL_TRY(sli_pattern_make_host(context, p));
	pthread_mutex_lock(&p->lock);
	sl_status status = p->has_transpose ? SL_OK : make_transpose(context, p);
	pthread_mutex_unlock(&p->lock);
	return status;
}

/* The finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014) over a running sum. */
static uint64_t mix(uint64_t hash, uint64_t value) {
	uint64_t z = (hash ^ value) + 0x9E3779B97F4A7C15u;
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

uint64_t sli_pattern_hash(const sl_pattern *pattern) {
	const sl_pattern_arrays own = sli_pattern_arrays(pattern), *a = &own;
	uint64_t hash = mix(mix(mix(0, (uint64_t)a->rows), (uint64_t)a->cols), (uint64_t)a->nnz);
	for (int64_t r = 1; r < a->rows; r++)
		hash = mix(hash, (uint64_t)sli_index(a->row_offsets, a->offset_dtype, r));
	for (int64_t k = 0; k < a->nnz; k++)
		hash = mix(hash, (uint64_t)a->col_indices[k]);
	return hash;
}
