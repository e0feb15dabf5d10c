/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a store, steps, and the header that names the newer generation. */
#include "stream/store.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "core/host.h"

const char *const sli_store_files[SL_STORE_FILES] = {"pattern", "values.0", "values.1", "header"};

void sli_store_remove(const char *path) {
	char file[4096];
	for (int i = 0; i < SL_STORE_FILES - 1; i++) {
		int n = snprintf(file, sizeof file, "%s/%s", path, sli_store_files[i]);
		if (n > 0 && n < (int)sizeof file)
			unlink(file);
	}
	rmdir(path);
}

static const char *name_of(const sl_store *s) {
	return s->source->path;
}

static sl_status failed(sl_context *context, const sl_store *s, const char *what, int error) {
	bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
	return sli_fail(context, full ? SL_ERR_NO_SPACE : SL_ERR_IO, "%s: %s failed: %s", name_of(s), what,
					strerror(error));
}

static sl_status damaged(sl_context *context, const sl_store *s, const char *what) {
	return sli_fail(context, SL_ERR_FORMAT, "%s: %s", name_of(s), what);
}

static sl_place array_place(const sl_store *s, unsigned generation, int array) {
	static const char *const names[] = {"values", "first moments", "second moments"};
	return (sl_place){.file = s->file[1 + generation], .at = s->pattern.array_at[array], .name = names[array]};
}

/* What the source reads follows the generation. */
static void point(sl_store *s) {
	s->source->values = array_place(s, s->now.generation, 0);
}

static int read_all(const sl_store *s, int file, void *to, size_t bytes, int64_t at, bool *whole) {
	size_t done;
	int error = sli_disk_read(s->disk, s->file[file], to, bytes, at, &done);
	*whole = done == bytes;
	return error;
}

static bool header_is_whole(const sl_store_header *h) {
	return !memcmp(h->magic, "SLHEAD", 7) && h->generation < 2 && h->steps >= 0 &&
		   h->hash == XXH3_64bits(h, offsetof(sl_store_header, hash));
}

static sl_status read_header(sl_context *context, sl_store *s) {
	bool found = false, whole;
	for (int i = 0; i < 2; i++) {
		sl_store_header h;
		int error = read_all(s, 3, s->block, SL_BLOCK, i * SL_BLOCK, &whole);
		if (error)
			return failed(context, s, "reading the header", error);
		memcpy(&h, s->block, sizeof h);
		if (whole && header_is_whole(&h) && (!found || h.sequence > s->durable.sequence)) {
			s->durable = h;
			found = true;
		}
	}
	if (!found)
		return damaged(context, s, "neither block of the header is whole");
	s->now = s->durable;
	return SL_OK;
}

static bool sizes_make_sense(const sl_store_pattern *p, int64_t pattern_bytes, int64_t value_bytes) {
	int64_t size = (int64_t)sl_dtype_size((sl_dtype)p->dtype);
	if ((p->dtype != SL_F32 && p->dtype != SL_F64) || p->states > 2 || p->rows < 0 || p->cols < 0 || p->nnz < 0 ||
		p->cols > INT32_MAX || p->rows > pattern_bytes / 8 || p->nnz > pattern_bytes / 4 || p->segment < 64 ||
		p->segment > INT64_MAX >> 8)
		return false;
	int64_t array = sli_block_ceil(p->nnz * size);
	for (int i = 0; i <= (int)p->states; i++)
		if (p->array_at[i] != i * array)
			return false;
	return p->offsets_at == SL_BLOCK && p->columns_at == p->offsets_at + sli_block_ceil((p->rows + 1) * 8) &&
		   p->sums_at == p->columns_at + sli_block_ceil(p->nnz * 4) && p->sums_at <= pattern_bytes &&
		   p->value_sums_at == (1 + (int64_t)p->states) * array && p->value_bytes <= value_bytes &&
		   p->value_bytes >= p->value_sums_at;
}

static sl_status read_pattern(sl_context *context, sl_store *s) {
	bool whole;
	int64_t pattern_bytes = 0, value_bytes = 0;
	int error = read_all(s, 0, s->block, SL_BLOCK, 0, &whole);
	if (!error)
		error = s->disk->size(s->disk->user, s->file[0], &pattern_bytes);
	if (!error)
		error = s->disk->size(s->disk->user, s->file[1 + s->now.generation], &value_bytes);
	if (error)
		return failed(context, s, "reading the pattern", error);
	memcpy(&s->pattern, s->block, sizeof s->pattern);
	sl_store_pattern *p = &s->pattern;
	if (!whole || memcmp(p->magic, "SLSTORE", 8) || p->version != 1 ||
		p->hash != XXH3_64bits(p, offsetof(sl_store_pattern, hash)))
		return damaged(context, s, "the pattern's first block is damaged, or of another version");
	if (p->hash != s->now.pattern_hash)
		return damaged(context, s, "header and pattern do not belong together");
	return sizes_make_sense(p, pattern_bytes, value_bytes) ? SL_OK : damaged(context, s, "its files are too short");
}

/* A table of checksums, which has one itself. */
static sl_status read_sums(sl_context *context, sl_store *s, int file, int64_t at, uint64_t hash, sl_sums *sums) {
	bool whole;
	size_t bytes = (size_t)sums->count * 8;
	int error = read_all(s, file, sums->sum, bytes, at, &whole);
	if (error)
		return failed(context, s, "reading checksums", error);
	if (!whole || XXH3_64bits(sums->sum, bytes) != hash)
		return damaged(context, s, "a table of checksums is damaged");
	return SL_OK;
}

static sl_status open_files(sl_context *context, sl_store *s, const sl_store_header *given) {
	char path[4096];
	for (int i = 0; i < (given ? SL_STORE_FILES - 1 : SL_STORE_FILES); i++) {
		snprintf(path, sizeof path, "%s/%s", name_of(s), sli_store_files[i]);
		int error = s->disk->open(s->disk->user, path, i ? SL_OPEN_WRITE : SL_OPEN_READ, true, &s->file[i]);
		if (error)
			return sli_fail(context, error == ENOENT || error == ENOTDIR ? SL_ERR_NOT_FOUND : SL_ERR_IO,
							"%s could not be opened: %s", path, strerror(error));
	}
	return SL_OK;
}

/* `given`: the header, from elsewhere. */
static sl_status load(sl_context *context, sl_store *s, const sl_store_header *given) {
	SL_TRY(open_files(context, s, given));
	if (!given)
		SL_TRY(read_header(context, s));
	else if (!header_is_whole(given))
		return damaged(context, s, "the model's record of it is damaged");
	else
		s->now = s->durable = *given;
	SL_TRY(read_pattern(context, s));
	const sl_store_pattern *p = &s->pattern;
	int64_t size = (int64_t)sl_dtype_size((sl_dtype)p->dtype);
	s->pattern_sums.count = sli_sums_of((p->rows + 1) * 8, p->segment) + sli_sums_of(p->nnz * 4, p->segment);
	s->sums.count = s->next.count = (1 + (int64_t)p->states) * sli_sums_of(p->nnz * size, p->segment);
	s->pattern_sums.segment = s->sums.segment = s->next.segment = p->segment;
	sl_sums *tables[] = {&s->pattern_sums, &s->sums, &s->next};
	for (int i = 0; i < 3; i++)
		SL_TRY(sli_allocate_zeroed(context, (size_t)tables[i]->count * 8, "checksums", (void **)&tables[i]->sum));
	SL_TRY(read_sums(context, s, 0, p->sums_at, p->sums_hash, &s->pattern_sums));
	SL_TRY(read_sums(context, s, 1 + (int)s->now.generation, p->value_sums_at, s->now.sums_hash, &s->sums));
	sl_source *source = s->source;
	source->disk = s->disk;
	source->rows = p->rows;
	source->cols = p->cols;
	source->nnz = p->nnz;
	source->dtype = (sl_dtype)p->dtype;
	source->offset_dtype = SL_I64;
	source->offsets = (sl_place){.file = s->file[0], .at = p->offsets_at, .name = "row offsets"};
	source->columns = (sl_place){.file = s->file[0], .at = p->columns_at, .name = "columns"};
	source->column_sums = &s->pattern_sums;
	source->first_column_sum = (int)sli_sums_of((p->rows + 1) * 8, p->segment);
	source->value_sums = &s->sums;
	point(s);
	return SL_OK;
}

sl_status sli_store_open(sl_store **store, sl_context *context, const sl_disk *disk, const char *path,
						 sl_durability durability, const sl_store_header *header) {
	void *memory;
	*store = NULL;
	SL_TRY(sli_allocate_zeroed(context, sizeof(sl_store), "a store", &memory));
	sl_store *s = memory;
	s->heap = sli_heap_retain(sli_heap(context));
	s->disk = disk;
	s->durability = durability;
	sl_status status = sli_source_new(&s->source, context, path);
	if (status == SL_OK)
		status = sli_allocate(context, 2 * SL_BLOCK, "a store's header", (void **)&s->block_memory);
	if (status == SL_OK) {
		s->block = (char *)(((uintptr_t)s->block_memory + SL_BLOCK - 1) & ~(uintptr_t)(SL_BLOCK - 1));
		status = load(context, s, header);
	}
	if (status != SL_OK) {
		sli_store_close(s);
		return status;
	}
	*store = s;
	return SL_OK;
}

void sli_store_close(sl_store *s) {
	if (!s)
		return;
	sl_heap *heap = s->heap;
	for (int i = 0; i < SL_STORE_FILES; i++)
		if (s->file[i])
			s->disk->close(s->disk->user, s->file[i]);
	sl_sums *tables[] = {&s->pattern_sums, &s->sums, &s->next};
	for (int i = 0; i < 3; i++)
		if (tables[i]->sum)
			sli_heap_free(heap, tables[i]->sum, (size_t)tables[i]->count * 8);
	if (s->block_memory)
		sli_heap_free(heap, s->block_memory, 2 * SL_BLOCK);
	sli_source_free(s->source);
	sli_heap_free(heap, s, sizeof *s);
	sli_heap_release(heap);
}

sl_status sli_store_seal(sl_context *context, sl_store *s, sl_store_header *sealed) {
	if (s->unsure)
		return sli_fail(context, SL_ERR_STATE, "%s: writing its header failed before; open the store anew", name_of(s));
	*sealed = s->now;
	if (s->now.steps == s->durable.steps)
		return SL_OK;
	sealed->sequence = s->durable.sequence + 1;
	sealed->sums_hash = XXH3_64bits(s->sums.sum, (size_t)s->sums.count * 8);
	sealed->hash = XXH3_64bits(sealed, offsetof(sl_store_header, hash));
	void *values = s->file[1 + sealed->generation];
	int error = sli_disk_write(s->disk, values, s->sums.sum, (size_t)s->sums.count * 8, s->pattern.value_sums_at);
	if (!error)
		error = s->disk->flush(s->disk->user, values);
	return error ? failed(context, s, "committing a step", error) : SL_OK;
}

void sli_store_sealed(sl_store *s, const sl_store_header *sealed) {
	s->durable = s->now = *sealed;
}

sl_status sli_store_commit(sl_context *context, sl_store *s) {
	sl_store_header h;
	SL_TRY(sli_store_seal(context, s, &h));
	if (h.sequence == s->durable.sequence)
		return SL_OK;
	memset(s->block, 0, SL_BLOCK);
	memcpy(s->block, &h, sizeof h);
	/* Until this has ended well nobody knows which generation the disk holds for the newer: neither may be written. */
	s->unsure = true;
	/* The block that the newest header is not in. */
	int error = sli_disk_write(s->disk, s->file[3], s->block, SL_BLOCK, (int64_t)(h.sequence % 2) * SL_BLOCK);
	if (!error)
		error = s->disk->flush(s->disk->user, s->file[3]);
	if (error)
		return failed(context, s, "committing a step", error);
	s->unsure = false;
	sli_store_sealed(s, &h);
	return SL_OK;
}

/* After a step that failed: the generation that was written is not whole, the durable one is. */
static sl_status go_back(sl_context *context, sl_store *s, sl_status status) {
	char text[400];
	snprintf(text, sizeof text, "%s", sl_context_message(context));
	int64_t lost = s->now.steps - s->durable.steps;
	if (lost) {
		s->now = s->durable;
		point(s);
		sl_status again =
			read_sums(context, s, 1 + (int)s->now.generation, s->pattern.value_sums_at, s->now.sums_hash, &s->sums);
		if (again != SL_OK)
			return again;
		return sli_fail(context, status, "%s; the store is as of its commit of step %lld", text,
						(long long)s->now.steps);
	}
	return sli_fail(context, status, "%s", text);
}

sl_status sli_stream_squares(sl_context *context, sl_source *source, const sl_dense *dz, const sl_dense *x,
							 const sl_dense *dx, int64_t planned, double clip_value, const sl_stream_options *options,
							 sl_stream_report *report, double *squares) {
	sl_device_state *state = sli_device(context);
	sl_stream_backward what = {.alpha = 1, .planned = planned, .dz = *dz, .x = *x, .clip_value = clip_value};
	sl_arena_mark mark = sli_arena_mark(context);
	if (dx)
		what.dx = *dx;
	*squares = 0;
	sl_status status = sli_arena_take(context, sizeof *squares, (void **)&what.squares);
	if (status == SL_OK)
		status = state->backend->fill(state->device, what.squares, 0, sizeof *squares);
	if (status == SL_OK)
		status = sli_stream_backward(context, source, &what, options, report);
	if (status == SL_OK)
		status = sli_fetch(state, squares, what.squares, sizeof *squares);
	sli_arena_reset(context, mark);
	return status;
}

/* The gradient's norm, which the update waits for: a pass over the columns alone. */
static sl_status clip(sl_context *context, sl_store *s, sl_update *update, double clip_norm, const sl_dense *dz,
					  const sl_dense *x, const sl_stream_options *options, sl_stream_report *report) {
	double sum;
	SL_TRY(sli_stream_squares(context, s->source, dz, x, NULL, 0, update->clip_value, options, report, &sum));
	if (!isfinite(sum))
		return sli_fail(context, SL_ERR_NONFINITE, "the gradient's norm is not finite; nothing was updated");
	if (sqrt(sum) > clip_norm)
		update->gradient_factor = clip_norm / sqrt(sum);
	return SL_OK;
}

sl_status sli_store_stage(sl_context *context, sl_store *s, const sl_update *update, int kind, const sl_dense *dz,
						  const sl_dense *x, const sl_dense *dx, int64_t planned, const sl_stream_options *options,
						  sl_stream_report *report) {
	sl_store_header next = s->now;
	if (s->unsure)
		return sli_fail(context, SL_ERR_STATE, "%s: writing its header failed before; open the store anew", name_of(s));
	/* The durable generation is never written. Steps that follow one that is not durable are made in place. */
	next.generation = 1 - s->durable.generation;
	next.steps++;
	next.fresh = 0;
	sl_stream_backward what = {.alpha = 1,
							   .dz = *dz,
							   .x = *x,
							   .planned = planned,
							   .update = update,
							   .kind = kind,
							   .states = (int)s->pattern.states,
							   .sums_from = &s->sums,
							   .sums_to = &s->next};
	if (dx)
		what.dx = *dx;
	int64_t segments = s->sums.count / (1 + what.states);
	for (int i = 0; i <= what.states; i++) {
		what.from[i] = array_place(s, s->now.generation, i);
		what.to[i] = array_place(s, next.generation, i);
		what.first_sum[i] = (int)(i * segments);
		if (i && s->now.fresh)
			what.from[i].file = NULL;
	}
	sl_status status = sli_stream_backward(context, s->source, &what, options, report);
	if (status != SL_OK)
		return go_back(context, s, status);
	s->staged = next;
	return SL_OK;
}

void sli_store_adopt(sl_store *s) {
	sl_sums old = s->sums;
	s->sums = s->next;
	s->next = old;
	s->now = s->staged;
	point(s);
}

sl_status sli_store_step(sl_context *context, sl_store *s, const sl_update *given, int kind, double clip_norm,
						 const sl_dense *dz, const sl_dense *x, const sl_dense *dx, const sl_stream_options *options,
						 sl_stream_report *report) {
	sl_update update = *given;
	if (s->unsure)
		return sli_fail(context, SL_ERR_STATE, "%s: writing its header failed before; open the store anew", name_of(s));
	if (clip_norm > 0)
		SL_TRY(clip(context, s, &update, clip_norm, dz, x, options, report));
	SL_TRY(sli_store_stage(context, s, &update, kind, dz, x, dx, 0, options, report));
	sli_store_adopt(s);
	if (s->durability != SL_DURABLE_STEP)
		return SL_OK;
	sl_status status = sli_store_commit(context, s);
	return status == SL_OK ? SL_OK : go_back(context, s, status);
}

sl_status sli_store_read(sl_context *context, sl_store *s, int array, int64_t first, int64_t count, void *to) {
	size_t size = sl_dtype_size(s->source->dtype), bytes = (size_t)count * size, done = 0;
	sl_place place = array_place(s, s->now.generation, array);
	if (array && s->now.fresh) {
		memset(to, 0, bytes);
		return SL_OK;
	}
	int error = sli_disk_read(s->disk, place.file, to, bytes, place.at + first * (int64_t)size, &done);
	if (error)
		return failed(context, s, "reading values", error);
	return done == bytes ? SL_OK : damaged(context, s, "the values end early");
}
