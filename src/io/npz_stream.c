/* SPDX-License-Identifier: Apache-2.0 */
/* A .npz entry by entry: its arrays are read side by side, a piece of each at a time. */
#include <stdio.h>
#include <stdlib.h>

#include "core/checked.h"
#include "core/half.h"
#include "io/npz.h"

enum { PIECE_BYTES = 1 << 16 };

/* An array on its way; elements are taken one after the other. */
typedef struct flow {
	const char *name;
	sl_npz_array array;
	zip_file_t *file;
	int64_t left;   /* elements not yet in the piece */
	int64_t at, in; /* elements of the piece: the next, and how many */
	char *piece;
} flow;

static sl_status open_flow(sl_npz *a, flow *f, const char *name, char *piece) {
	f->name = name;
	f->piece = piece;
	SL_TRY(sli_npz_member(a, name, &f->file, &f->array));
	f->left = f->array.count;
	return SL_OK;
}

/* The next element's place in the piece. */
static sl_status take(sl_npz *a, flow *f, const char **element) {
	if (f->at == f->in) {
		int64_t most = PIECE_BYTES / f->array.size, n = f->left < most ? f->left : most;
		if (!n)
			return sli_npz_fail(a, f->name, SL_ERR_FORMAT, "ends early");
		SL_TRY(sli_npz_bytes(a, f->name, f->file, f->piece, (size_t)n * (size_t)f->array.size));
		f->left -= n;
		f->at = 0;
		f->in = n;
	}
	*element = f->piece + f->at++ * f->array.size;
	return SL_OK;
}

static sl_status take_integer(sl_npz *a, flow *f, int64_t *value) {
	const char *element = NULL;
	SL_TRY(take(a, f, &element));
	sl_npz_array one = f->array;
	one.data = (char *)(uintptr_t)element;
	*value = sli_npz_integer(&one, 0);
	return SL_OK;
}

static sl_status take_value(sl_npz *a, flow *f, double *value) {
	const char *element = NULL;
	int64_t whole;
	if (f->array.kind != 'f') {
		SL_TRY(take_integer(a, f, &whole));
		*value = f->array.kind == 'u' && f->array.size == 8 ? (double)(uint64_t)whole : (double)whole;
		return SL_OK;
	}
	SL_TRY(take(a, f, &element));
	*value = sli_load(element, f->array.size == 2 ? SL_F16 : f->array.size == 4 ? SL_F32 : SL_F64, 0);
	return SL_OK;
}

typedef struct reading {
	sl_npz archive;
	char format[4];
	int64_t shape[2];
	flow first, second, data; /* offsets and indices, or rows and columns */
	char pieces[3][PIECE_BYTES];
} reading;

static sl_status open_flows(reading *r, const sl_read_limits *limits) {
	sl_npz *a = &r->archive;
	sl_dtype dtype, other;
	SL_TRY(sli_npz_format(a, r->format));
	SL_TRY(sli_npz_shape(a, r->shape));
	bool coo = !strcmp(r->format, "coo");
	SL_TRY(open_flow(a, &r->first, coo ? "row" : "indptr", r->pieces[0]));
	SL_TRY(open_flow(a, &r->second, coo ? "col" : "indices", r->pieces[1]));
	SL_TRY(open_flow(a, &r->data, "data", r->pieces[2]));
	SL_TRY(sli_check_nonzeros(a->context, a->path, limits, r->data.array.count));
	SL_TRY(sli_npz_index(a, r->first.name, &r->first.array, &dtype));
	SL_TRY(sli_npz_index(a, r->second.name, &r->second.array, &other));
	if (r->data.array.kind == 'S' || r->data.array.kind == 'U')
		return sli_npz_fail(a, "data", SL_ERR_DTYPE, "holds text");
	int64_t lines = strcmp(r->format, "csc") ? r->shape[0] : r->shape[1], entries = r->data.array.count;
	if (r->shape[0] < 0 || r->shape[1] < 0 || r->shape[1] > INT32_MAX || r->second.array.count != entries ||
		(coo ? r->first.array.count != entries : r->first.array.count - 1 != lines))
		return sli_fail(a->context, SL_ERR_FORMAT,
						"%s: %lld values with %lld and %lld indices do not make a %s matrix of %lld x %lld", a->path,
						(long long)entries, (long long)r->first.array.count, (long long)r->second.array.count,
						r->format, (long long)r->shape[0], (long long)r->shape[1]);
	return SL_OK;
}

static sl_status check_index(reading *r, const flow *f, int64_t value, int64_t bound, int64_t entry) {
	if (value >= 0 && value < bound)
		return SL_OK;
	return sli_fail(r->archive.context, SL_ERR_STRUCTURE, "%s: %s.npy has %lld at entry %lld, outside [0, %lld)",
					r->archive.path, f->name, (long long)value, (long long)entry, (long long)bound);
}

/* Where the line ends that entry k is in, which begins there or before. */
static sl_status next_line(reading *r, int64_t k, int64_t *line, int64_t *end) {
	while (*end <= k) {
		int64_t before = *end;
		SL_TRY(take_integer(&r->archive, &r->first, end));
		++*line;
		if (*end < before || *end > r->data.array.count)
			return sli_fail(r->archive.context, SL_ERR_STRUCTURE,
							"%s: indptr.npy goes from %lld to %lld at line %lld; the matrix has %lld entries",
							r->archive.path, (long long)before, (long long)*end, (long long)*line,
							(long long)r->data.array.count);
	}
	return SL_OK;
}

static sl_status begin_lines(reading *r, int64_t *end) {
	SL_TRY(take_integer(&r->archive, &r->first, end));
	if (*end)
		return sli_fail(r->archive.context, SL_ERR_STRUCTURE, "%s: indptr.npy begins with %lld", r->archive.path,
						(long long)*end);
	return SL_OK;
}

/* The offsets behind the last entry: all the same, and as many as there are lines. */
static sl_status end_lines(reading *r, int64_t end) {
	while (r->first.left || r->first.at < r->first.in) {
		int64_t now;
		SL_TRY(take_integer(&r->archive, &r->first, &now));
		if (now != r->data.array.count)
			end = now;
	}
	if (end != r->data.array.count)
		return sli_fail(r->archive.context, SL_ERR_STRUCTURE, "%s: indptr.npy ends with %lld; there are %lld entries",
						r->archive.path, (long long)end, (long long)r->data.array.count);
	return SL_OK;
}

static sl_status give_entries(reading *r, sl_entry_reading *to) {
	enum { OFTEN = 1 << 18 };
	sl_npz *a = &r->archive;
	bool coo = !strcmp(r->format, "coo"), csc = !strcmp(r->format, "csc");
	int64_t entries = r->data.array.count, line = -1, end = 0, size = r->second.array.size + r->data.array.size;
	if (!coo)
		SL_TRY(begin_lines(r, &end));
	for (int64_t k = 0; k < entries; k++) {
		int64_t first = 0, second;
		double value;
		if (coo)
			SL_TRY(take_integer(a, &r->first, &first));
		else
			SL_TRY(next_line(r, k, &line, &end));
		SL_TRY(take_integer(a, &r->second, &second));
		SL_TRY(take_value(a, &r->data, &value));
		if (!coo)
			first = line;
		SL_TRY(check_index(r, &r->first, first, csc ? r->shape[1] : r->shape[0], k));
		SL_TRY(check_index(r, &r->second, second, csc ? r->shape[0] : r->shape[1], k));
		SL_TRY(to->put(to->user, csc ? second : first, csc ? first : second, value));
		if (k % OFTEN == OFTEN - 1 && !to->progress(to->user, k * size, entries * size))
			return SL_ERR_CANCELLED;
	}
	if (!coo)
		SL_TRY(end_lines(r, end));
	SL_TRY(sli_npz_end(a, r->first.name, r->first.file));
	SL_TRY(sli_npz_end(a, r->second.name, r->second.file));
	return sli_npz_end(a, "data", r->data.file);
}

static sl_status stream(reading *r, const sl_read_limits *limits, sl_entry_reading *to) {
	SL_TRY(open_flows(r, limits));
	int size = r->data.array.kind == 'f' ? r->data.array.size : 8;
	const sl_matrix_outline outline = {.rows = r->shape[0],
									   .cols = r->shape[1],
									   .most = r->data.array.count,
									   .dtype = size == 2   ? SL_F16
												: size == 4 ? SL_F32
															: SL_F64};
	SL_TRY(to->begin(to->user, &outline));
	return give_entries(r, to);
}

sl_status sli_npz_stream(sl_context *context, const char *path, const sl_read_limits *limits, sl_entry_reading *to) {
	void *memory;
	SL_TRY(sli_allocate_zeroed(context, sizeof(reading), "reading a matrix", &memory));
	reading *r = memory;
	sl_status status = sli_npz_open(&r->archive, context, path, limits);
	if (status == SL_OK) {
		status = stream(r, limits, to);
		zip_file_t *files[] = {r->first.file, r->second.file, r->data.file};
		for (int i = 0; i < 3; i++)
			if (files[i])
				zip_fclose(files[i]);
		zip_discard(r->archive.zip);
	}
	sli_heap_free(sli_heap(context), r, sizeof *r);
	return status;
}
