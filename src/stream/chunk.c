/* SPDX-License-Identifier: Apache-2.0 */
/* Where chunks begin and end, and filling and emptying their slots. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "stream/ring.h"

sl_status sli_trouble(sl_trouble *trouble, sl_status status, const char *format, ...) {
	va_list list;
	va_start(list, format);
	vsnprintf(trouble->text, sizeof trouble->text, format, list);
	va_end(list);
	return trouble->status = status;
}

static const char *name_of(const sl_source *source) {
	return source->path ? source->path : "the source";
}

static sl_status read_failed(sl_ring *ring, const sl_source *source, const char *what, int64_t at, int error) {
	return sli_trouble(&ring->reader, SL_ERR_IO, "%s: reading %s at byte %lld failed: %s", name_of(source), what,
					   (long long)at, strerror(error));
}

/* Transfers of less are not worth a thread. */
enum { THREAD_BYTES = 64 << 10 };

/* A read that another thread makes, so that the disk has the arrays of a chunk to work on at once. */
typedef struct early_read {
	const sl_disk *disk;
	void *file;
	char *buffer, *data;
	size_t bytes, missing;
	int64_t at;
	int error;
	bool begun;
	pthread_t thread;
} early_read;

static void *read_early(void *argument) {
	early_read *r = argument;
	r->error = sli_disk_read_blocks(r->disk, r->file, r->buffer, r->bytes, r->at, &r->data, &r->missing);
	return NULL;
}

/* Without a thread it is made when it is asked for. */
static void begin_read(early_read *r, const sl_pass *pass, const sl_slot *slot, int a) {
	const sl_stream_array *array = &pass->array[a];
	if (array->from.memory || !array->from.file || !slot->entries)
		return;
	r->disk = pass->disk;
	r->file = array->from.file;
	r->buffer = slot->buffer[a];
	r->bytes = (size_t)slot->entries * array->size;
	r->at = array->from.at + slot->first_entry * (int64_t)array->size;
	r->begun = r->bytes >= THREAD_BYTES && !pthread_create(&r->thread, NULL, read_early, r);
}

/* Bytes [at, at + bytes) of an array into a buffer that begins at a block; `early` (may be NULL) may have begun that.
 */
static sl_status read_place(sl_pass *pass, sl_ring *ring, const sl_place *place, char *buffer, int64_t at, size_t bytes,
							char **data, early_read *early) {
	size_t missing;
	int error;
	if (early && early->begun) {
		pthread_join(early->thread, NULL);
		early->begun = false;
		error = early->error;
		missing = early->missing;
		*data = early->data;
	} else {
		error = sli_disk_read_blocks(pass->disk, place->file, buffer, bytes, place->at + at, data, &missing);
	}
	if (error)
		return read_failed(ring, pass->source, place->name, place->at + at, error);
	if (missing)
		return sli_trouble(&ring->reader, SL_ERR_FORMAT, "%s: ends at byte %lld, inside of %s: it was truncated",
						   name_of(pass->source), (long long)(place->at + at + (int64_t)bytes - (int64_t)missing),
						   place->name);
	ring->bytes_read += (int64_t)bytes;
	return SL_OK;
}

/* Offset i, 0 to rows. */
static sl_status offset_at(sl_pass *pass, sl_ring *ring, int64_t i, int64_t *offset) {
	const sl_source *s = pass->source;
	size_t size = sl_dtype_size(s->offset_dtype);
	sl_window *w = &ring->window;
	if (!s->offsets.memory && (i < w->first || i >= w->first + w->count)) {
		char *data;
		w->first = i;
		w->count = s->rows + 1 - i < SL_WINDOW_OFFSETS ? s->rows + 1 - i : SL_WINDOW_OFFSETS;
		SL_TRY(read_place(pass, ring, &s->offsets, w->buffer, i * (int64_t)size, (size_t)w->count * size, &data, NULL));
		w->data = data;
	}
	int64_t value;
	const char *at = s->offsets.memory ? (const char *)s->offsets.memory + i * (int64_t)size
									   : w->data + (i - w->first) * (int64_t)size;
	if (s->offset_dtype == SL_I64) {
		memcpy(&value, at, sizeof value);
	} else {
		int32_t narrow;
		memcpy(&narrow, at, sizeof narrow);
		value = narrow;
	}
	*offset = value;
	if (value < 0 || value > s->nnz || (i == 0 && value) || (i == s->rows && value != s->nnz))
		return sli_trouble(&ring->reader, SL_ERR_STRUCTURE, "%s: row offset %lld is %lld; the matrix has %lld entries",
						   name_of(s), (long long)i, (long long)value, (long long)s->nnz);
	return SL_OK;
}

static sl_status row_length(sl_pass *pass, sl_ring *ring, int64_t row, int64_t begin, int64_t *end) {
	SL_TRY(offset_at(pass, ring, row + 1, end));
	if (*end < begin)
		return sli_trouble(&ring->reader, SL_ERR_STRUCTURE, "%s: row offsets decrease at row %lld, from %lld to %lld",
						   name_of(pass->source), (long long)row, (long long)begin, (long long)*end);
	if (*end - begin > pass->source->cols)
		return sli_trouble(&ring->reader, SL_ERR_STRUCTURE, "%s: row %lld has %lld entries in %lld columns",
						   name_of(pass->source), (long long)row, (long long)(*end - begin),
						   (long long)pass->source->cols);
	return SL_OK;
}

/* As many whole rows as fit, or one piece of a row that is longer than a piece. */
static sl_status cut(sl_pass *pass, sl_ring *ring, sl_slot *slot) {
	const sl_source *s = pass->source;
	int64_t begin, end, piece = s->piece;
	SL_TRY(offset_at(pass, ring, ring->row, &begin));
	slot->first_row = ring->row;
	slot->first_entry = begin + ring->in_row;
	slot->begins = ring->in_row == 0;
	slot->ends = true;
	slot->rows = slot->entries = 0;
	slot->offsets[0] = 0;
	SL_TRY(row_length(pass, ring, ring->row, begin, &end));
	if (end - begin > piece) {
		int64_t left = end - slot->first_entry;
		slot->rows = 1;
		slot->entries = left < piece ? left : piece;
		slot->offsets[1] = (int32_t)slot->entries;
		slot->ends = slot->entries == left;
		ring->in_row = slot->ends ? 0 : ring->in_row + slot->entries;
		ring->row += slot->ends;
		return SL_OK;
	}
	while (ring->row < s->rows && slot->rows < pass->sizes.rows) {
		SL_TRY(row_length(pass, ring, ring->row, begin, &end));
		if (end - begin > piece || end - slot->first_entry > pass->sizes.entries)
			break;
		slot->offsets[++slot->rows] = (int32_t)(end - slot->first_entry);
		begin = end;
		ring->row++;
	}
	slot->entries = slot->offsets[slot->rows];
	return SL_OK;
}

/* Elements that do not lie at a multiple of their size in the file do not in the slot either: move them. */
static char *aligned(char *buffer, char *data, size_t bytes, size_t size) {
	if ((uintptr_t)data % size == 0)
		return data;
	memmove(buffer, data, bytes);
	return buffer;
}

/* A piece that does not end its row goes up to where a block of columns begins; what it leaves is read again. How many
 * entries it has then. */
static size_t trim_piece(const sl_pass *pass, sl_ring *ring, sl_slot *slot) {
	int64_t entries = slot->entries;
	int32_t column;
	if (slot->ends || !pass->cut_columns)
		return (size_t)entries;
	memcpy(&column, slot->data[0] + (entries - 1) * (int64_t)sizeof column, sizeof column);
	int64_t block = column / pass->cut_columns * pass->cut_columns;
	while (entries > 0 && column >= block)
		if (--entries > 0)
			memcpy(&column, slot->data[0] + (entries - 1) * (int64_t)sizeof column, sizeof column);
	if (entries > 0) {
		ring->in_row -= slot->entries - entries;
		slot->entries = entries;
		slot->offsets[1] = (int32_t)entries;
	}
	return (size_t)slot->entries;
}

static sl_status fill_array(sl_pass *pass, sl_ring *ring, sl_slot *slot, int a, early_read *early) {
	const sl_stream_array *array = &pass->array[a];
	size_t bytes = (size_t)slot->entries * array->size;
	int64_t at = slot->first_entry * (int64_t)array->size;
	if (array->from.memory) {
		slot->data[a] = (char *)(uintptr_t)array->from.memory + at;
		if (a == 0)
			(void)trim_piece(pass, ring, slot);
		return SL_OK;
	}
	if (!array->from.file) { /* begins at zero */
		memset(slot->buffer[a], 0, bytes + 2 * SL_BLOCK);
		slot->data[a] = slot->buffer[a] + at % SL_BLOCK;
		return SL_OK;
	}
	SL_TRY(read_place(pass, ring, &array->from, slot->buffer[a], at, bytes, &slot->data[a], early));
	if (a == 0)
		bytes = trim_piece(pass, ring, slot) * array->size;
	if (array->sums_from) {
		int64_t bad = sli_sum_check(&ring->sum_read[a], array->sums_from, array->first_sum, slot->data[a], bytes);
		if (bad >= 0)
			return sli_trouble(&ring->reader, SL_ERR_FORMAT, "%s: %s do not match their checksum from byte %lld on",
							   name_of(pass->source), array->from.name, (long long)(array->from.at + bad));
	}
	slot->data[a] = aligned(slot->buffer[a], slot->data[a], bytes, array->size);
	return SL_OK;
}

/* A chunk from the caller's function. */
static sl_status fill_by_callback(sl_pass *pass, sl_ring *ring, sl_slot *slot) {
	const sl_source *s = pass->source;
	int64_t left = s->nnz - ring->entry, rows = s->rows - ring->row;
	int64_t most = pass->sizes.entries < left ? pass->sizes.entries : left;
	rows = rows < pass->sizes.rows ? rows : pass->sizes.rows;
	slot->first_row = ring->row;
	slot->first_entry = ring->entry;
	slot->begins = slot->ends = true;
	for (int a = 0; a < pass->arrays; a++)
		slot->data[a] = slot->buffer[a];
	int64_t got = s->read(s->user, ring->row, rows, most, slot->offsets, (int32_t *)slot->data[0],
						  pass->arrays > 1 ? slot->data[1] : NULL);
	if (got < 1)
		return sli_trouble(&ring->reader, SL_ERR_IO, "the source's callback failed at row %lld (it returned %lld)",
						   (long long)ring->row, (long long)got);
	bool good = got <= rows && slot->offsets[0] == 0;
	for (int64_t r = 0; r < got && good; r++)
		good = slot->offsets[r + 1] >= slot->offsets[r] && slot->offsets[r + 1] <= most;
	if (!good)
		return sli_trouble(&ring->reader, SL_ERR_STRUCTURE,
						   "the source's callback gave %lld rows from row %lld on whose offsets are not valid; it may "
						   "give %lld rows and %lld entries",
						   (long long)got, (long long)ring->row, (long long)rows, (long long)most);
	slot->rows = got;
	slot->entries = slot->offsets[got];
	ring->row += got;
	ring->entry += slot->entries;
	if (ring->row == s->rows && ring->entry != s->nnz)
		return sli_trouble(&ring->reader, SL_ERR_STRUCTURE, "the source's callback gave %lld entries, not %lld",
						   (long long)ring->entry, (long long)s->nnz);
	ring->bytes_read += slot->entries * (int64_t)(sizeof(int32_t) + sl_dtype_size(s->dtype));
	return SL_OK;
}

sl_status sli_ring_fill(sl_pass *pass, sl_ring *ring, sl_slot *slot, bool *end) {
	*end = ring->row >= pass->source->rows;
	if (*end)
		return SL_OK;
	if (pass->source->read)
		return fill_by_callback(pass, ring, slot);
	early_read early[SL_STREAM_ARRAYS] = {{0}};
	SL_TRY(cut(pass, ring, slot));
	for (int a = 1; a < pass->arrays && slot->ends; a++) /* a piece of a row may turn out shorter */
		begin_read(&early[a], pass, slot, a);
	sl_status status = SL_OK;
	for (int a = 0; a < pass->arrays && status == SL_OK; a++)
		status = fill_array(pass, ring, slot, a, &early[a]);
	for (int a = 0; a < pass->arrays; a++)
		if (early[a].begun)
			pthread_join(early[a].thread, NULL);
	return status;
}

/* A write of one array's blocks, by a thread of its own where one is to be had. */
typedef struct block_write {
	const sl_disk *disk;
	const sl_place *place;
	const char *block;
	size_t bytes;
	int64_t at;
	int error;
	bool begun;
	pthread_t thread;
} block_write;

static void *write_blocks(void *argument) {
	block_write *w = argument;
	w->error = w->bytes ? sli_disk_write(w->disk, w->place->file, w->block, w->bytes, w->at) : 0;
	return NULL;
}

/* Whole blocks go out at once; what is left of the last one waits for the next chunk. */
static block_write prepare_write(sl_pass *pass, sl_ring *ring, const sl_slot *slot, int a) {
	const sl_stream_array *array = &pass->array[a];
	bool last = slot->first_entry + slot->entries == pass->source->nnz;
	int64_t begin = slot->first_entry * (int64_t)array->size, end = begin + slot->entries * (int64_t)array->size;
	int64_t from = sli_block_floor(begin), to = last ? sli_block_ceil(end) : sli_block_floor(end);
	char *block = slot->data[a] - (begin - from);
	if (array->sums_to)
		sli_sum_keep(&ring->sum_written[a], array->sums_to, array->first_sum, slot->data[a], (size_t)(end - begin));
	memcpy(block, ring->carry[a], (size_t)(begin - from));
	memcpy(ring->carry[a], block + (sli_block_floor(end) - from), (size_t)(end - sli_block_floor(end)));
	if (last)
		memset(block + (end - from), 0, (size_t)(to - end));
	return (block_write){.disk = pass->disk,
						 .place = &array->to,
						 .block = block,
						 .bytes = to > from ? (size_t)(to - from) : 0,
						 .at = array->to.at + from};
}

/* The arrays of a slot at once. */
sl_status sli_ring_empty(sl_pass *pass, sl_ring *ring, const sl_slot *slot) {
	block_write writes[SL_STREAM_ARRAYS];
	int count = 0;
	for (int a = 0; a < pass->arrays; a++)
		if (pass->array[a].to.file) {
			block_write *w = &writes[count++];
			*w = prepare_write(pass, ring, slot, a);
			w->begun =
				a + 1 < pass->arrays && w->bytes >= THREAD_BYTES && !pthread_create(&w->thread, NULL, write_blocks, w);
		}
	for (int i = count - 1; i >= 0; i--) { /* the last one here, meanwhile */
		if (!writes[i].begun)
			write_blocks(&writes[i]);
		else
			pthread_join(writes[i].thread, NULL);
	}
	for (int i = 0; i < count; i++) {
		const block_write *w = &writes[i];
		if (w->error)
			return sli_trouble(&ring->writer,
							   w->error == ENOSPC || w->error == EDQUOT || w->error == EFBIG ? SL_ERR_NO_SPACE
																							 : SL_ERR_IO,
							   "%s: writing %s at byte %lld failed: %s", name_of(pass->source), w->place->name,
							   (long long)w->at, strerror(w->error));
		ring->bytes_written += (int64_t)w->bytes;
	}
	return SL_OK;
}
