/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a new store. */
#include <errno.h>
#include <stdio.h>

#include "core/profile.h"
#include "core/checked.h"
#include "stream/store.h"

/* An array written from front to back through a buffer of whole blocks. */
typedef struct lane {
	const sl_disk *disk;
	void *file;
	int64_t at; /* of the buffer, in the file */
	char *buffer;
	size_t used;
	sl_sum_run run;
	sl_sums *sums;
	int64_t first;
	int error;
} lane;
enum { LANES = 3, LANE_BYTES = 1 << 18 };

typedef struct creation {
	sl_context *context;
	const sl_disk *disk;
	const char *path;
	void *file[SL_STORE_FILES];
	sl_store_pattern p;
	lane lane[LANES]; /* offsets, columns, values */
	char *memory;
	sl_sums pattern_sums, value_sums;
	uint64_t *sums;
	size_t sums_bytes;
	sl_store_header *made;
} creation;

static sl_status failed(sl_context *context, const char *path, const char *what, int error) {
	bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
	return sli_fail(context, full ? SL_ERR_NO_SPACE : SL_ERR_IO, "%s: %s failed: %s", path, what, strerror(error));
}

static void put(lane *l, const void *data, size_t bytes) {
	const char *from = data;
	sli_sum_keep(&l->run, l->sums, l->first, data, bytes);
	while (bytes && !l->error) {
		size_t n = LANE_BYTES - l->used < bytes ? LANE_BYTES - l->used : bytes;
		memcpy(l->buffer + l->used, from, n);
		l->used += n;
		from += n;
		bytes -= n;
		if (l->used == LANE_BYTES) {
			l->error = sli_disk_write(l->disk, l->file, l->buffer, LANE_BYTES, l->at);
			l->at += LANE_BYTES;
			l->used = 0;
		}
	}
}

static void finish(lane *l) {
	size_t whole = (size_t)sli_block_ceil((int64_t)l->used);
	memset(l->buffer + l->used, 0, whole - l->used);
	if (!l->error && whole)
		l->error = sli_disk_write(l->disk, l->file, l->buffer, whole, l->at);
}

static sl_status copy_chunk(sl_pass *pass, sl_slot *slot, const sl_chunk *chunk) {
	creation *c = pass->user;
	(void)chunk;
	if (slot->begins)
		for (int64_t r = 0; r < slot->rows; r++) {
			int64_t offset = slot->first_entry + slot->offsets[r];
			put(&c->lane[0], &offset, sizeof offset);
		}
	put(&c->lane[1], slot->data[0], (size_t)slot->entries * sizeof(int32_t));
	put(&c->lane[2], slot->data[1], (size_t)slot->entries * sl_dtype_size(pass->source->dtype));
	for (int i = 0; i < LANES; i++)
		if (c->lane[i].error)
			return failed(pass->context, c->path, "writing the new store", c->lane[i].error);
	return SL_OK;
}

static void lay_out(creation *c, const sl_source *s, int states, int64_t segment) {
	sl_store_pattern *p = &c->p;
	int64_t size = (int64_t)sl_dtype_size(s->dtype), offsets = (s->rows + 1) * 8, columns = s->nnz * 4;
	*p = (sl_store_pattern){.magic = "SLSTORE",
							.version = 1,
							.dtype = (uint32_t)s->dtype,
							.states = (uint32_t)states,
							.rows = s->rows,
							.cols = s->cols,
							.nnz = s->nnz,
							.segment = segment};
	p->offsets_at = SL_BLOCK;
	p->columns_at = p->offsets_at + sli_block_ceil(offsets);
	p->sums_at = p->columns_at + sli_block_ceil(columns);
	for (int i = 0; i < 3; i++)
		p->array_at[i] = (i <= states ? i : states) * sli_block_ceil(s->nnz * size);
	p->value_sums_at = (1 + states) * sli_block_ceil(s->nnz * size);
	c->pattern_sums.count = sli_sums_of(offsets, segment) + sli_sums_of(columns, segment);
	c->value_sums.count = (1 + states) * sli_sums_of(s->nnz * size, segment);
	c->pattern_sums.segment = c->value_sums.segment = segment;
	p->value_bytes = p->value_sums_at + sli_block_ceil(c->value_sums.count * 8);
}

static sl_status open_files(creation *c) {
	char path[4096];
	int files = c->made ? SL_STORE_FILES - 1 : SL_STORE_FILES;
	int64_t bytes[SL_STORE_FILES] = {c->p.sums_at + sli_block_ceil(c->pattern_sums.count * 8), c->p.value_bytes,
									 c->p.value_bytes, 2 * SL_BLOCK};
	void *old = NULL;
	int error = c->disk->make_folder(c->disk->user, c->path);
	if (error)
		return failed(c->context, c->path, "making the folder", error);
	snprintf(path, sizeof path, "%s/header", c->path);
	if (!c->disk->open(c->disk->user, path, SL_OPEN_READ, false, &old)) {
		c->disk->close(c->disk->user, old);
		return sli_fail(c->context, SL_ERR_STATE, "%s holds a store already", c->path);
	}
	for (int i = 0; i < files; i++) {
		snprintf(path, sizeof path, "%s/%s", c->path, sli_store_files[i]);
		error = c->disk->open(c->disk->user, path, SL_OPEN_CREATE, true, &c->file[i]);
		if (!error)
			error = c->disk->reserve(c->disk->user, c->file[i], bytes[i]);
		if (error)
			return failed(c->context, path, "making the file", error);
	}
	return SL_OK;
}

static sl_status take_memory(creation *c) {
	size_t all = (size_t)LANES * LANE_BYTES + SL_BLOCK;
	c->sums_bytes = (size_t)(c->pattern_sums.count + c->value_sums.count) * 8;
	SL_TRY(sli_allocate_zeroed(c->context, c->sums_bytes, "checksums", (void **)&c->sums));
	SL_TRY(sli_allocate(c->context, all, "writing a store", (void **)&c->memory));
	c->pattern_sums.sum = c->sums;
	c->value_sums.sum = c->sums + c->pattern_sums.count;
	char *base = (char *)(((uintptr_t)c->memory + SL_BLOCK - 1) & ~(uintptr_t)(SL_BLOCK - 1));
	const struct {
		int file;
		int64_t at, total;
		sl_sums *sums;
		int64_t first;
	} what[LANES] = {
		{0, c->p.offsets_at, (c->p.rows + 1) * 8, &c->pattern_sums, 0},
		{0, c->p.columns_at, c->p.nnz * 4, &c->pattern_sums, sli_sums_of((c->p.rows + 1) * 8, c->p.segment)},
		{1, 0, c->p.nnz * (int64_t)sl_dtype_size((sl_dtype)c->p.dtype), &c->value_sums, 0}};
	for (int i = 0; i < LANES; i++) {
		c->lane[i] = (lane){.disk = c->disk,
							.file = c->file[what[i].file],
							.at = what[i].at,
							.buffer = base + i * LANE_BYTES,
							.sums = what[i].sums,
							.first = what[i].first};
		sli_sum_begin(&c->lane[i].run, what[i].total);
	}
	return SL_OK;
}

static sl_status copy_matrix(creation *c, sl_source *s) {
	sl_stream_options options = {SL_STREAM_DEFAULTS};
	sl_stream_report report = {.struct_size = sizeof report};
	size_t size = sl_dtype_size(s->dtype);
	sl_pass pass = {.context = c->context,
					.source = s,
					.disk = s->disk,
					.array = {{.from = s->columns, .size = sizeof(int32_t)}, {.from = s->values, .size = size}},
					.arrays = 2,
					.report = &report,
					.options = &options,
					.compute = copy_chunk,
					.user = c,
					.total_bytes = s->nnz * (int64_t)(sizeof(int32_t) + size),
					.began = sli_seconds()};
	sl_stream_demand d = {.rows = s->rows,
						  .cols = s->cols,
						  .nnz = s->nnz,
						  .piece = s->piece,
						  .arrays = 2,
						  .entry_bytes = sizeof(int32_t) + size,
						  .slots = 2,
						  .fixed = 256 << 10,
						  .most_entries = 1 << 20};
	sl_status status = sli_pass_open(&pass, &d, sli_stream_available(c->context, &options));
	if (status == SL_OK)
		status = sli_pass_run(&pass);
	sli_pass_close(&pass);
	return status;
}

/* Tables, descriptor, flush; then the header, flush: before that there is no store. */
static int seal(creation *c) {
	sl_store_header h = {.magic = "SLHEAD", .sequence = 1, .fresh = 1};
	char *block = c->lane[0].buffer;
	for (int i = 0; i < LANES; i++)
		finish(&c->lane[i]);
	int error = c->lane[0].error | c->lane[1].error | c->lane[2].error;
	c->p.sums_hash = XXH3_64bits(c->pattern_sums.sum, (size_t)c->pattern_sums.count * 8);
	c->p.hash = XXH3_64bits(&c->p, offsetof(sl_store_pattern, hash));
	h.pattern_hash = c->p.hash;
	h.sums_hash = XXH3_64bits(c->value_sums.sum, (size_t)c->value_sums.count * 8);
	h.hash = XXH3_64bits(&h, offsetof(sl_store_header, hash));
	if (!error)
		error =
			sli_disk_write(c->disk, c->file[0], c->pattern_sums.sum, (size_t)c->pattern_sums.count * 8, c->p.sums_at);
	if (!error)
		error =
			sli_disk_write(c->disk, c->file[1], c->value_sums.sum, (size_t)c->value_sums.count * 8, c->p.value_sums_at);
	memset(block, 0, SL_BLOCK);
	memcpy(block, &c->p, sizeof c->p);
	if (!error)
		error = sli_disk_write(c->disk, c->file[0], block, SL_BLOCK, 0);
	for (int i = 0; i < 3 && !error; i++)
		error = c->disk->flush(c->disk->user, c->file[i]);
	if (c->made) {
		*c->made = h;
		return error ? error : c->disk->flush_folder(c->disk->user, c->path);
	}
	memset(block, 0, SL_BLOCK);
	memcpy(block, &h, sizeof h);
	if (!error)
		error = sli_disk_write(c->disk, c->file[3], block, SL_BLOCK, SL_BLOCK);
	if (!error)
		error = c->disk->flush(c->disk->user, c->file[3]);
	return error ? error : c->disk->flush_folder(c->disk->user, c->path);
}

sl_status sli_store_create(sl_context *context, const sl_disk *disk, const char *path, sl_source *matrix, int states,
						   int64_t segment, sl_store_header *made) {
	creation c = {.context = context, .disk = disk, .path = path, .made = made};
	if (matrix->rows > (INT64_MAX >> 5) || matrix->nnz > (INT64_MAX >> 6))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld entries do not fit in a file", (long long)matrix->nnz);
	lay_out(&c, matrix, states, segment);
	sl_status status = open_files(&c);
	if (status == SL_OK)
		status = take_memory(&c);
	if (status == SL_OK)
		status = copy_matrix(&c, matrix);
	if (status == SL_OK) {
		put(&c.lane[0], &matrix->nnz, sizeof matrix->nnz);
		int error = seal(&c);
		if (error)
			status = failed(context, path, "writing the new store", error);
	}
	for (int i = 0; i < SL_STORE_FILES; i++)
		if (c.file[i])
			disk->close(disk->user, c.file[i]);
	sli_heap_free(sli_heap(context), c.sums, c.sums_bytes);
	sli_heap_free(sli_heap(context), c.memory, (size_t)LANES * LANE_BYTES + SL_BLOCK);
	return status;
}
