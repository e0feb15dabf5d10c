/* SPDX-License-Identifier: Apache-2.0 */
/* A store's arrays from front to back, as a model's file has them. */
#include <errno.h>
#include <stdio.h>

#include "stream/store.h"

/* Offsets of few entries are 32 bits wide in files. */
static size_t narrow(char *data, size_t bytes) {
	size_t count = bytes / sizeof(int64_t);
	for (size_t i = 0; i < count; i++) {
		int64_t wide;
		memcpy(&wide, data + i * sizeof wide, sizeof wide);
		int32_t few = (int32_t)wide;
		memcpy(data + i * sizeof few, &few, sizeof few);
	}
	return count * sizeof(int32_t);
}

/* Where an array is, and its checksums. */
typedef struct stretch {
	void *file;
	int64_t at, bytes;
	sl_sums *sums;
	int64_t first;
	const char *name;
} stretch;

static stretch find(sl_store *s, int array) {
	const sl_store_pattern *p = &s->pattern;
	int64_t size = (int64_t)sl_dtype_size((sl_dtype)p->dtype), offsets = (p->rows + 1) * 8;
	if (array == SL_STORE_OFFSETS)
		return (stretch){s->file[0], p->offsets_at, offsets, &s->pattern_sums, 0, "row offsets"};
	if (array == SL_STORE_COLUMNS)
		return (stretch){s->file[0], p->columns_at, p->nnz * 4, &s->pattern_sums, sli_sums_of(offsets, p->segment),
						 "columns"};
	return (stretch){s->file[1 + s->now.generation],
					 p->array_at[array],
					 p->nnz * size,
					 &s->sums,
					 array * sli_sums_of(p->nnz * size, p->segment),
					 array ? "moments" : "values"};
}

enum { PIECE = 1 << 20 };

static sl_status read_piece(sl_context *context, sl_store *s, const stretch *from, int64_t done, size_t bytes,
							char *buffer, sl_sum_run *run) {
	size_t got;
	int error =
		sli_disk_read(s->disk, from->file, buffer, (size_t)sli_block_ceil((int64_t)bytes), from->at + done, &got);
	if (error)
		return sli_fail(context, SL_ERR_IO, "%s: reading %s failed: %s", s->source->path, from->name, strerror(error));
	if (got < bytes)
		return sli_fail(context, SL_ERR_FORMAT, "%s: %s end early", s->source->path, from->name);
	int64_t bad = sli_sum_check(run, from->sums, from->first, buffer, bytes);
	if (bad >= 0)
		return sli_fail(context, SL_ERR_FORMAT, "%s: %s do not match their checksum from byte %lld on", s->source->path,
						from->name, (long long)(from->at + bad));
	return SL_OK;
}

sl_status sli_store_gather(sl_context *context, sl_store *s, int array, bool narrowed,
						   sl_status (*put)(void *user, const void *data, size_t bytes), void *user) {
	stretch from = find(s, array);
	bool zero = array > 0 && s->now.fresh;
	char *memory;
	sl_sum_run run;
	sli_sum_begin(&run, from.bytes);
	SL_TRY(sli_allocate_zeroed(context, PIECE + SL_BLOCK, "reading a store", (void **)&memory));
	char *buffer = (char *)(((uintptr_t)memory + SL_BLOCK - 1) & ~(uintptr_t)(SL_BLOCK - 1));
	sl_status status = SL_OK;
	for (int64_t done = 0; done < from.bytes && status == SL_OK; done += PIECE) {
		size_t bytes = from.bytes - done < PIECE ? (size_t)(from.bytes - done) : PIECE;
		if (!zero)
			status = read_piece(context, s, &from, done, bytes, buffer, &run);
		if (status == SL_OK)
			status = put(user, buffer, array == SL_STORE_OFFSETS && narrowed ? narrow(buffer, bytes) : bytes);
	}
	sli_heap_free(sli_heap(context), memory, PIECE + SL_BLOCK);
	return status;
}
