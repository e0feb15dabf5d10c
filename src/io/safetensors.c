/* SPDX-License-Identifier: Apache-2.0 */
#include "io/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/checked.h"
#include "core/host.h"
#include "core/profile.h"
#include "sparse/pattern.h"
#include "sparse/random.h"
#include "stream/store.h"

static const struct {
	const char *name;
	sl_dtype dtype;
	int size;
} dtypes[] = {{"F32", SL_F32, 4}, {"F64", SL_F64, 8}, {"BF16", SL_BF16, 2}, {"F16", SL_F16, 2}, {"I32", SL_I32, 4},
			  {"I64", SL_I64, 8}, {"U8", 0, 1},       {"I8", 0, 1},         {"I16", 0, 2},      {"U16", 0, 2},
			  {"U32", 0, 4},      {"U64", 0, 8},      {"BOOL", 0, 1},       {"F8_E5M2", 0, 1},  {"F8_E4M3", 0, 1}};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

static sl_status bad(sl_safetensors *f, const char *name, const char *what) {
	return sli_fail(f->context, SL_ERR_FORMAT, "%s: tensor \"%.60s\" %s", f->path, name, what);
}

/* The dtype's row in the table, or -1. */
static int dtype_row(const json_t *tensor) {
	const char *text = json_string_value(json_object_get(tensor, "dtype"));
	for (int i = 0; text && i < DTYPES; i++)
		if (!strcmp(text, dtypes[i].name))
			return i;
	return -1;
}

static sl_status parse_tensor(sl_safetensors *f, const char *name, const json_t *json, int64_t data_bytes,
							  sl_tensor *t) {
	int row = dtype_row(json);
	const json_t *shape = json_object_get(json, "shape"), *offsets = json_object_get(json, "data_offsets");
	if (row < 0)
		return bad(f, name, "has no dtype that is known");
	if (!json_is_array(shape) || json_array_size(offsets) != 2 || !json_is_integer(json_array_get(offsets, 0)) ||
		!json_is_integer(json_array_get(offsets, 1)))
		return bad(f, name, "lacks a shape or two data_offsets");
	int64_t begin = json_integer_value(json_array_get(offsets, 0)),
			end = json_integer_value(json_array_get(offsets, 1));
	t->dtype = dtypes[row].dtype;
	t->dimensions = (int)json_array_size(shape);
	t->count = 1;
	for (size_t i = 0; i < json_array_size(shape); i++) {
		const json_t *side = json_array_get(shape, i);
		if (!json_is_integer(side) || !sli_mul(t->count, json_integer_value(side), &t->count))
			return bad(f, name, "has a shape that is not valid");
		if (i < SL_TENSOR_DIMENSIONS)
			t->shape[i] = json_integer_value(side);
	}
	int64_t bytes = 0;
	if (!sli_mul(t->count, dtypes[row].size, &bytes) || begin < 0 || end < begin || end > data_bytes ||
		end - begin != bytes)
		return sli_fail(f->context, SL_ERR_FORMAT,
						"%s: tensor \"%.60s\" lies at bytes %lld to %lld of %lld; its shape takes %lld bytes", f->path,
						name, (long long)begin, (long long)end, (long long)data_bytes, (long long)bytes);
	t->at = f->data + begin;
	t->bytes = (size_t)bytes;
	return SL_OK;
}

typedef struct range {
	int64_t begin, end;
} range;

static int by_begin(const void *a, const void *b) {
	const range *x = a, *y = b;
	return x->begin != y->begin ? (x->begin > y->begin) - (x->begin < y->begin) : (x->end > y->end) - (x->end < y->end);
}

/* Tensors must fill the file from the header's end to its own, without gaps. */
static sl_status check_layout(sl_safetensors *f, range *ranges, size_t count, int64_t data_bytes) {
	int64_t at = 0;
	qsort(ranges, count, sizeof *ranges, by_begin);
	for (size_t i = 0; i < count; i++) {
		if (ranges[i].begin != at)
			return sli_fail(f->context, SL_ERR_FORMAT, "%s: tensors %s at byte %lld of the data", f->path,
							ranges[i].begin < at ? "overlap" : "leave a gap", (long long)at);
		at = ranges[i].end;
	}
	if (at != data_bytes)
		return sli_fail(f->context, SL_ERR_FORMAT, "%s: the tensors end at byte %lld of %lld", f->path, (long long)at,
						(long long)data_bytes);
	return SL_OK;
}

static sl_status check_header(sl_safetensors *f, int64_t data_bytes) {
	size_t room = json_object_size(f->header), used = 0;
	range *ranges;
	const char *name, *key;
	json_t *json, *text;
	f->metadata = json_object_get(f->header, "__metadata__");
	if (f->metadata && !json_is_object(f->metadata))
		return sli_fail(f->context, SL_ERR_FORMAT, "%s: __metadata__ is no object", f->path);
	json_object_foreach(f->metadata, key, text) if (!json_is_string(text)) return sli_fail(
		f->context, SL_ERR_FORMAT, "%s: metadata \"%.60s\" is no text", f->path, key);
	SL_TRY(sli_allocate(f->context, room * sizeof *ranges, "reading a header", (void **)&ranges));
	sl_status status = SL_OK;
	json_object_foreach(f->header, name, json) {
		sl_tensor t;
		if (json == f->metadata)
			continue;
		status = parse_tensor(f, name, json, data_bytes, &t);
		if (status != SL_OK)
			break;
		ranges[used++] = (range){t.at - f->data, t.at - f->data + (int64_t)t.bytes};
	}
	if (status == SL_OK)
		status = check_layout(f, ranges, used, data_bytes);
	sli_heap_free(sli_heap(f->context), ranges, room * sizeof *ranges);
	return status;
}

static sl_status read_header(sl_safetensors *f, int64_t size, const sl_read_limits *limits) {
	unsigned char bytes[8];
	uint64_t length = 0;
	char *text;
	json_error_t error;
	SL_TRY(sli_read_at(f->context, f->fd, f->path, 0, bytes, 8));
	for (int i = 7; i >= 0; i--)
		length = length << 8 | bytes[i];
	if (length > (uint64_t)size - 8)
		return sli_fail(f->context, SL_ERR_FORMAT, "%s: declares a header of %llu bytes; the file has %lld", f->path,
						(unsigned long long)length, (long long)size);
	if (length > (uint64_t)limits->max_header)
		return sli_fail(f->context, SL_ERR_LIMIT, "%s: a header of %llu bytes, more than max_header = %lld allows",
						f->path, (unsigned long long)length, (long long)limits->max_header);
	if (size > limits->max_bytes)
		return sli_fail(f->context, SL_ERR_LIMIT, "%s: %lld bytes, more than max_bytes = %lld allows", f->path,
						(long long)size, (long long)limits->max_bytes);
	SL_TRY(sli_allocate(f->context, (size_t)length, "reading a header", (void **)&text));
	sl_status status = sli_read_at(f->context, f->fd, f->path, 8, text, (size_t)length);
	if (status == SL_OK) {
		f->header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &error);
		if (!json_is_object(f->header))
			status = sli_fail(f->context, SL_ERR_FORMAT, "%s: the header is no JSON object: %s at byte %d", f->path,
							  f->header ? "another value" : error.text, f->header ? 8 : error.position + 8);
	}
	sli_heap_free(sli_heap(f->context), text, (size_t)length);
	f->data = 8 + (int64_t)length;
	return status == SL_OK ? check_header(f, size - f->data) : status;
}

sl_status sli_safetensors_open(sl_safetensors *f, sl_context *context, const char *path, const sl_read_limits *limits) {
	int64_t size;
	*f = (sl_safetensors){.context = context, .path = path};
	SL_TRY(sli_open_read(context, path, &f->fd, &size));
	sl_status status =
		size < 8 ? sli_fail(context, SL_ERR_FORMAT, "%s: %lld bytes are no safetensors file", path, (long long)size)
				 : read_header(f, size, limits);
	if (status != SL_OK)
		sli_safetensors_close(f);
	return status;
}

void sli_safetensors_close(sl_safetensors *f) {
	json_decref(f->header);
	f->header = NULL;
	close(f->fd);
}

bool sli_safetensors_has(const sl_safetensors *f, const char *name) {
	return json_object_get(f->header, name) != NULL;
}

sl_status sli_safetensors_find(sl_safetensors *f, const char *name, sl_dtype dtype, int dimensions, sl_tensor *t) {
	const json_t *json = json_object_get(f->header, name);
	if (!json)
		return bad(f, name, "is not in the file");
	SL_TRY(parse_tensor(f, name, json, INT64_MAX, t)); /* its place was checked when the file was opened */
	if (!t->dtype || (dtype && t->dtype != dtype))
		return sli_fail(f->context, SL_ERR_DTYPE, "%s: tensor \"%.60s\" has dtype %.10s, not %s", f->path, name,
						json_string_value(json_object_get(json, "dtype")), sl_dtype_name(dtype));
	if (t->dimensions != dimensions)
		return sli_fail(f->context, SL_ERR_FORMAT, "%s: tensor \"%.60s\" has %d dimensions, not %d", f->path, name,
						t->dimensions, dimensions);
	return SL_OK;
}

sl_status sli_safetensors_load(sl_safetensors *f, const sl_tensor *t, void *to) {
	return sli_read_at(f->context, f->fd, f->path, t->at, to, t->bytes);
}

sl_status sli_safetensors_place(sl_safetensors *f, const sl_tensor *t, void *to) {
	sl_device_state *device = sli_device(f->context);
	sl_staging stage;
	size_t bytes = (size_t)t->bytes;
	if (sli_on_host(device) || !bytes)
		return sli_safetensors_load(f, t, to);
	SL_TRY(sli_stage_open(&stage, device, sli_stage_piece(bytes)));
	sl_status status = SL_OK;
	for (size_t at = 0; at < bytes && status == SL_OK; at += stage.bytes) {
		size_t n = bytes - at < stage.bytes ? bytes - at : stage.bytes;
		status = sli_read_at(f->context, f->fd, f->path, t->at + (int64_t)at, stage.data, n);
		if (status == SL_OK)
			status = sli_stage_put(&stage, (char *)to + at, n);
	}
	sli_stage_close(&stage);
	return status;
}

const char *sli_safetensors_text(const sl_safetensors *f, const char *key) {
	return json_string_value(json_object_get(f->metadata, key));
}

/* Offsets as they are stored, in the narrowest dtype. */
static sl_status load_offsets(sl_safetensors *f, const sl_tensor *t, int64_t nnz, void *offsets) {
	sl_dtype wanted = sli_offset_dtype(nnz);
	void *raw;
	if (t->dtype == wanted)
		return sli_safetensors_load(f, t, offsets);
	SL_TRY(sli_allocate(f->context, t->bytes, "row offsets", &raw));
	sl_status status = sli_safetensors_load(f, t, raw);
	for (int64_t i = 0; i < t->count && status == SL_OK; i++) {
		int64_t value = sli_index(raw, t->dtype, i);
		if (value < 0 || value > nnz)
			status = sli_fail(f->context, SL_ERR_STRUCTURE, "%s: row_offsets[%lld] is %lld; there are %lld entries",
							  f->path, (long long)i, (long long)value, (long long)nnz);
		else
			sli_index_set(offsets, wanted, i, value);
	}
	sli_heap_free(sli_heap(f->context), raw, t->bytes);
	return status;
}

sl_status sli_safetensors_pattern(sl_safetensors *f, const char *prefix, int64_t rows, int64_t cols,
								  const sl_read_limits *limits, sl_pattern **pattern) {
	char name[96];
	sl_tensor row_offsets, col_indices;
	void *offsets;
	int32_t *columns;
	*pattern = NULL;
	snprintf(name, sizeof name, "%s.row_offsets", prefix);
	SL_TRY(sli_safetensors_find(f, name, 0, 1, &row_offsets));
	if (row_offsets.dtype != SL_I32 && row_offsets.dtype != SL_I64)
		return bad(f, name, "must be I32 or I64");
	if (rows < 0 || cols < 0 || cols > INT32_MAX || row_offsets.count - 1 != rows)
		return sli_fail(f->context, SL_ERR_FORMAT, "%s: tensor \"%.60s\" has %lld elements; %lld rows need one more",
						f->path, name, (long long)row_offsets.count, (long long)rows);
	snprintf(name, sizeof name, "%s.col_indices", prefix);
	SL_TRY(sli_safetensors_find(f, name, SL_I32, 1, &col_indices));
	int64_t nnz = col_indices.count;
	SL_TRY(sli_check_nonzeros(f->context, f->path, limits, nnz));
	SL_TRY(sli_pattern_take(f->context, rows, nnz, &offsets, &columns));
	sl_pattern_arrays arrays = {rows, cols, nnz, offsets, sli_offset_dtype(nnz), columns};
	sl_status status = load_offsets(f, &row_offsets, nnz, offsets);
	if (status == SL_OK)
		status = sli_safetensors_load(f, &col_indices, columns);
	if (status == SL_OK)
		status = sli_pattern_validate(f->context, &arrays);
	if (status == SL_OK)
		return sli_pattern_adopt(pattern, f->context, rows, cols, nnz, offsets, columns);
	sli_heap_free(sli_heap(f->context), offsets, (size_t)(rows + 1) * sl_dtype_size(arrays.offset_dtype));
	sli_heap_free(sli_heap(f->context), columns, (size_t)nnz * 4);
	return status;
}

void sli_safetensors_put_pattern(sl_tensor_source tensors[2], const char *prefix, const sl_pattern *pattern) {
	sl_pattern_arrays a = sli_pattern_arrays(pattern);
	tensors[0] =
		(sl_tensor_source){.dtype = a.offset_dtype, .shape = {a.rows + 1}, .dimensions = 1, .data = a.row_offsets};
	tensors[1] = (sl_tensor_source){.dtype = SL_I32, .shape = {a.nnz}, .dimensions = 1, .data = a.col_indices};
	snprintf(tensors[0].name, sizeof tensors[0].name, "%s.row_offsets", prefix);
	snprintf(tensors[1].name, sizeof tensors[1].name, "%s.col_indices", prefix);
}

static size_t source_bytes(const sl_tensor_source *t) {
	return (size_t)(t->shape[0] * (t->dimensions > 1 ? t->shape[1] : 1)) * sl_dtype_size(t->dtype);
}

static const char *source_dtype(const sl_tensor_source *t) {
	for (int i = 0; i < DTYPES; i++)
		if (dtypes[i].dtype == t->dtype)
			return dtypes[i].name;
	return "";
}

/* The header, or NULL for want of memory. `metadata` is taken over. */
static json_t *make_header(json_t *metadata, const sl_tensor_source *tensors, int count) {
	json_t *header = json_object();
	json_int_t at = 0;
	bool ok = header && json_object_set_new(header, "__metadata__", metadata) == 0;
	if (!header)
		json_decref(metadata);
	for (int i = 0; i < count && ok; i++) {
		json_int_t end = at + (json_int_t)source_bytes(&tensors[i]);
		json_t *shape = tensors[i].dimensions > 1
							? json_pack("[II]", (json_int_t)tensors[i].shape[0], (json_int_t)tensors[i].shape[1])
							: json_pack("[I]", (json_int_t)tensors[i].shape[0]);
		ok = json_object_set_new(header, tensors[i].name,
								 json_pack("{s:s,s:o,s:[II]}", "dtype", source_dtype(&tensors[i]), "shape", shape,
										   "data_offsets", at, end)) == 0;
		at = end;
	}
	if (ok)
		return header;
	json_decref(header);
	return NULL;
}

/* Through pinned memory, where it is a device's. */
static sl_status write_tensor(sl_context *context, sl_writer *w, const sl_tensor_source *t) {
	sl_device_state *device = sli_device(context);
	size_t bytes = source_bytes(t);
	sl_staging stage;
	if (!t->placed || sli_on_host(device) || !bytes) {
		sli_write(w, t->data, bytes);
		return SL_OK;
	}
	SL_TRY(sli_stage_open(&stage, device, sli_stage_piece(bytes)));
	sl_status status = SL_OK;
	for (size_t at = 0; at < bytes && status == SL_OK; at += stage.bytes) {
		size_t n = bytes - at < stage.bytes ? bytes - at : stage.bytes;
		status = sli_stage_fetch(&stage, (const char *)t->data + at, n);
		if (status == SL_OK)
			sli_write(w, stage.data, n);
	}
	sli_stage_close(&stage);
	return status;
}

/* Tensors of stores may be many gigabytes: with progress. */
typedef struct saving {
	sl_context *context;
	sl_writer *writer;
	int64_t done, total;
	double began;
} saving;

static sl_status put_piece(void *user, const void *data, size_t bytes) {
	saving *s = user;
	sli_write(s->writer, data, bytes);
	s->done += (int64_t)bytes;
	if (s->writer->status != SL_OK)
		return s->writer->status;
	return sli_progress_bytes(s->context, "save", s->done, s->total, s->began)
			   ? SL_OK
			   : sli_fail(s->context, SL_ERR_CANCELLED, "cancelled after %lld of %lld bytes; the old file is whole",
						  (long long)s->done, (long long)s->total);
}

char *sli_safetensors_header(json_t *metadata, const sl_tensor_source *tensors, int count) {
	json_t *header = metadata ? make_header(metadata, tensors, count) : NULL;
	char *text = header ? json_dumps(header, JSON_COMPACT) : NULL;
	json_decref(header);
	return text;
}

sl_status sli_safetensors_write(sl_context *context, const char *path, json_t *metadata,
								const sl_tensor_source *tensors, int count) {
	sl_writer *w;
	char *text = sli_safetensors_header(metadata, tensors, count);
	if (!text)
		return sli_fail_memory(context, 0, "a file's header");
	sl_status status = sli_writer_open(&w, context, path);
	if (status == SL_OK) {
		/* Spaces, so that tensors begin at a multiple of 8. */
		size_t length = strlen(text), padded = (length + 7) / 8 * 8;
		unsigned char bytes[8];
		for (int i = 0; i < 8; i++)
			bytes[i] = (unsigned char)(padded >> 8 * i);
		sli_write(w, bytes, 8);
		sli_write(w, text, length);
		sli_write(w, "        ", padded - length);
		saving s = {.context = context, .writer = w, .began = sli_seconds()};
		for (int i = 0; i < count; i++)
			s.total += (int64_t)source_bytes(&tensors[i]);
		for (int i = 0; i < count && status == SL_OK; i++)
			if (tensors[i].store)
				status = sli_store_gather(context, tensors[i].store, tensors[i].array, tensors[i].dtype == SL_I32,
										  put_piece, &s);
			else
				status = write_tensor(context, w, &tensors[i]);
		status = sli_writer_close(w, status);
	}
	free(text);
	return status;
}

json_t *sli_csr_metadata(int64_t rows, int64_t cols) {
	char text[2][32];
	snprintf(text[0], sizeof text[0], "%lld", (long long)rows);
	snprintf(text[1], sizeof text[1], "%lld", (long long)cols);
	return json_pack("{s:s,s:s,s:s,s:s}", "format", "sparselayer.csr", "version", "1", "rows", text[0], "cols",
					 text[1]);
}

sl_status sli_safetensors_write_csr(sl_context *context, const sl_csr *matrix, const char *path) {
	sl_tensor_source t[3];
	sl_pattern_arrays a = sli_pattern_arrays(matrix->pattern);
	sli_safetensors_put_pattern(t, "matrix", matrix->pattern);
	t[2] = (sl_tensor_source){
		.name = "matrix.values", .dtype = matrix->dtype, .shape = {a.nnz}, .dimensions = 1, .data = matrix->values};
	return sli_safetensors_write(context, path, sli_csr_metadata(a.rows, a.cols), t, 3);
}

static sl_status read_side(sl_safetensors *f, const char *key, int64_t *value) {
	const char *text = sli_safetensors_text(f, key);
	char *end = NULL;
	*value = text ? strtoll(text, &end, 10) : -1;
	if (!text || end == text || *end || *value < 0)
		return sli_fail(f->context, SL_ERR_FORMAT, "%s: metadata \"%s\" is %.40s; a number of %s is needed", f->path,
						key, text ? text : "missing", key);
	return SL_OK;
}

static sl_status read_csr(sl_safetensors *f, const sl_read_limits *limits, sl_csr **matrix) {
	int64_t rows, cols;
	sl_pattern *pattern;
	sl_tensor values;
	const char *format = sli_safetensors_text(f, "format");
	if (!format || strcmp(format, "sparselayer.csr"))
		return sli_fail(f->context, SL_ERR_FORMAT, "%s: holds no single matrix: its metadata's format is \"%.40s\"%s",
						f->path, format ? format : "",
						format && !strcmp(format, "sparselayer.model") ? "; it is a model" : "");
	SL_TRY(read_side(f, "rows", &rows));
	SL_TRY(read_side(f, "cols", &cols));
	SL_TRY(sli_safetensors_find(f, "matrix.values", 0, 1, &values));
	SL_TRY(sli_safetensors_pattern(f, "matrix", rows, cols, limits, &pattern));
	sl_status status = values.count == sli_pattern_arrays(pattern).nnz && values.dtype < SL_I32
						   ? sli_csr_create_host(matrix, f->context, pattern, values.dtype)
						   : bad(f, "matrix.values", "does not hold one value an entry");
	sl_pattern_release(pattern);
	if (status == SL_OK)
		status = sli_safetensors_load(f, &values, (*matrix)->values);
	return status;
}

static sl_status places_csr(sl_safetensors *f, const sl_read_limits *limits, sl_csr_places *p) {
	const char *format = sli_safetensors_text(f, "format");
	if (!format || strcmp(format, "sparselayer.csr"))
		return sli_fail(f->context, SL_ERR_FORMAT, "%s: holds no single matrix: its metadata's format is \"%.40s\"",
						f->path, format ? format : "");
	SL_TRY(read_side(f, "rows", &p->rows));
	SL_TRY(read_side(f, "cols", &p->cols));
	SL_TRY(sli_safetensors_find(f, "matrix.row_offsets", 0, 1, &p->offsets));
	SL_TRY(sli_safetensors_find(f, "matrix.col_indices", SL_I32, 1, &p->columns));
	SL_TRY(sli_safetensors_find(f, "matrix.values", 0, 1, &p->values));
	SL_TRY(sli_check_nonzeros(f->context, f->path, limits, p->columns.count));
	if (p->offsets.dtype != SL_I32 && p->offsets.dtype != SL_I64)
		return bad(f, "matrix.row_offsets", "must be I32 or I64");
	if (p->cols > INT32_MAX || p->offsets.count - 1 != p->rows)
		return sli_fail(f->context, SL_ERR_FORMAT, "%s: %lld row offsets for %lld rows and %lld columns", f->path,
						(long long)p->offsets.count, (long long)p->rows, (long long)p->cols);
	return p->values.count == p->columns.count ? SL_OK : bad(f, "matrix.values", "does not hold one value an entry");
}

sl_status sli_safetensors_places(sl_context *context, const char *path, const sl_read_limits *limits,
								 sl_csr_places *places) {
	sl_safetensors f;
	SL_TRY(sli_safetensors_open(&f, context, path, limits));
	sl_status status = places_csr(&f, limits, places);
	sli_safetensors_close(&f);
	return status;
}

sl_status sli_safetensors_read_csr(sl_csr **matrix, sl_context *context, const char *path,
								   const sl_read_limits *limits) {
	sl_safetensors f;
	*matrix = NULL;
	SL_TRY(sli_safetensors_open(&f, context, path, limits));
	sl_status status = read_csr(&f, limits, matrix);
	sli_safetensors_close(&f);
	if (status != SL_OK) {
		sl_csr_destroy(*matrix);
		*matrix = NULL;
	}
	return status;
}
