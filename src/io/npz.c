/* SPDX-License-Identifier: Apache-2.0 */
/* What scipy.sparse.save_npz() writes: a zip of .npy arrays (format.npy, shape.npy, data.npy and the
 * indices). Pickled objects are never read. zip and deflate are libzip's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/checked.h"
#include "core/half.h"
#include "io/npz.h"

typedef sl_npz archive;
typedef sl_npz_array array;

sl_status sli_npz_fail(archive *a, const char *name, sl_status status, const char *text) {
	return sli_fail(a->context, status, "%s: %s.npy %s", a->path, name, text);
}

sl_status sli_npz_bytes(archive *a, const char *name, zip_file_t *file, void *to, size_t bytes) {
	size_t have = 0;
	while (have < bytes) {
		zip_int64_t got = zip_fread(file, (char *)to + have, bytes - have);
		if (got < 0)
			return sli_fail(a->context, SL_ERR_FORMAT, "%s: %s.npy is damaged near byte %zu: %s", a->path, name, have,
							zip_file_strerror(file));
		if (got == 0)
			return sli_fail(a->context, SL_ERR_FORMAT, "%s: %s.npy ends %zu bytes early", a->path, name, bytes - have);
		have += (size_t)got;
	}
	return SL_OK;
}

/* The value after 'key': in the header, which is a Python dictionary literal. */
static const char *find_key(const char *header, const char *key) {
	char quoted[32];
	snprintf(quoted, sizeof quoted, "'%s':", key);
	const char *at = strstr(header, quoted);
	if (!at)
		return NULL;
	at += strlen(quoted);
	while (*at == ' ')
		at++;
	return at;
}

static sl_status parse_descr(archive *a, const char *name, const char *header, array *out) {
	const char *at = find_key(header, "descr");
	char order, rest;
	if (!at)
		return sli_npz_fail(a, name, SL_ERR_FORMAT, "has a header without 'descr'");
	if (strncmp(at, "'|O'", 4) == 0 || strncmp(at, "'O'", 3) == 0)
		return sli_npz_fail(a, name, SL_ERR_FORMAT, "holds pickled objects, which are refused: they can run code");
	if (sscanf(at, "'%c%c%d%c", &order, &out->kind, &out->size, &rest) != 4 || rest != '\'')
		return sli_npz_fail(a, name, SL_ERR_UNSUPPORTED, "has a 'descr' that is not read");
	if (order == '>')
		return sli_npz_fail(a, name, SL_ERR_UNSUPPORTED, "is big-endian, which is not read");
	if (order != '<' && order != '|' && order != '=')
		return sli_npz_fail(a, name, SL_ERR_FORMAT, "has a 'descr' without byte order");
	bool number = strchr("fiu", out->kind) && (out->size == 1 || out->size == 2 || out->size == 4 || out->size == 8);
	bool text = strchr("SU", out->kind) && out->size >= 0 && out->size <= 64;
	if (!(number && !(out->kind == 'f' && out->size == 1)) && !(out->kind == 'b' && out->size == 1) && !text)
		return sli_npz_fail(a, name, SL_ERR_DTYPE, "has a dtype that is not read; integers and f2, f4, f8 are");
	if (out->kind == 'U')
		out->size *= 4;
	return SL_OK;
}

static sl_status parse_shape(archive *a, const char *name, const char *header, array *out) {
	const char *at = find_key(header, "shape");
	int dimensions = 0;
	if (!at || *at != '(')
		return sli_npz_fail(a, name, SL_ERR_FORMAT, "has a header without 'shape'");
	out->count = 1;
	for (at++; *at && *at != ')';) {
		char *end;
		errno = 0;
		long long n = strtoll(at, &end, 10);
		if (end == at || errno || n < 0 || ++dimensions > 8 || !sli_mul(out->count, n, &out->count))
			return sli_npz_fail(a, name, SL_ERR_FORMAT, "has a shape that is not valid");
		for (at = end; *at == ',' || *at == ' ';)
			at++;
	}
	return SL_OK;
}

static sl_status read_header(archive *a, const char *name, zip_file_t *file, array *out, int64_t *taken) {
	unsigned char start[12];
	char header[4096];
	SL_TRY(sli_npz_bytes(a, name, file, start, 10));
	if (memcmp(start, "\x93NUMPY", 6) || start[6] < 1 || start[6] > 3)
		return sli_npz_fail(a, name, SL_ERR_FORMAT, "is no NumPy array");
	if (start[6] > 1)
		SL_TRY(sli_npz_bytes(a, name, file, start + 10, 2));
	size_t length = (size_t)start[8] | (size_t)start[9] << 8;
	if (start[6] > 1)
		length |= (size_t)start[10] << 16 | (size_t)start[11] << 24;
	if (length >= sizeof header)
		return sli_npz_fail(a, name, SL_ERR_LIMIT, "has a header of more than 4095 bytes");
	SL_TRY(sli_npz_bytes(a, name, file, header, length));
	header[length] = 0;
	*taken = (int64_t)length + (start[6] > 1 ? 12 : 10);
	SL_TRY(parse_descr(a, name, header, out));
	return parse_shape(a, name, header, out);
}

/* Behind the last element: also where the checksum is looked at. */
sl_status sli_npz_end(archive *a, const char *name, zip_file_t *file) {
	char after;
	return zip_fread(file, &after, 1) == 0
			   ? SL_OK
			   : sli_npz_fail(a, name, SL_ERR_FORMAT, "is damaged: its checksum or length is wrong");
}

static sl_status check_member(archive *a, const char *name, zip_file_t *file, int64_t declared, array *out) {
	int64_t header, bytes;
	SL_TRY(read_header(a, name, file, out, &header));
	if (!sli_mul(out->count, out->size, &bytes) || bytes != declared - header)
		return sli_fail(a->context, SL_ERR_FORMAT, "%s: %s.npy declares %lld elements of %d bytes in %lld bytes",
						a->path, name, (long long)out->count, out->size, (long long)(declared - header));
	out->bytes = (size_t)bytes;
	return SL_OK;
}

sl_status sli_npz_member(archive *a, const char *name, zip_file_t **file, array *out) {
	char full[64];
	zip_stat_t info;
	*file = NULL;
	snprintf(full, sizeof full, "%s.npy", name);
	if (zip_stat(a->zip, full, 0, &info) || !(info.valid & ZIP_STAT_SIZE) || !(info.valid & ZIP_STAT_COMP_SIZE))
		return sli_npz_fail(a, name, SL_ERR_FORMAT, "is not in the file; scipy.sparse.save_npz() writes it");
	if (info.size > (zip_uint64_t)a->left)
		return sli_fail(a->context, SL_ERR_LIMIT, "%s: %s would take the file over max_bytes", a->path, full);
	if (info.size / SL_MOST_COMPRESSION > info.comp_size)
		return sli_npz_fail(a, name, SL_ERR_FORMAT, "declares more than its compressed bytes can hold");
	a->left -= (int64_t)info.size;
	*file = zip_fopen_index(a->zip, info.index, 0);
	if (!*file)
		return sli_fail(a->context, SL_ERR_FORMAT, "%s: %s: %s", a->path, full, zip_strerror(a->zip));
	return check_member(a, name, *file, (int64_t)info.size, out);
}

static sl_status read_array(archive *a, const char *name, array *out) {
	zip_file_t *file;
	sl_status status = sli_npz_member(a, name, &file, out);
	size_t bytes = out->bytes;
	out->bytes = 0; /* of memory that is taken */
	if (status == SL_OK)
		status = sli_allocate(a->context, bytes, "reading a matrix", &out->data);
	if (status == SL_OK) {
		out->bytes = bytes;
		status = sli_npz_bytes(a, name, file, out->data, bytes);
	}
	if (status == SL_OK)
		status = sli_npz_end(a, name, file);
	if (file)
		zip_fclose(file);
	return status;
}

static void free_array(archive *a, array *x) {
	sli_heap_free(sli_heap(a->context), x->data, x->bytes);
	memset(x, 0, sizeof *x);
}

/* Indices of 4 or 8 bytes go on as they are. */
sl_status sli_npz_index(archive *a, const char *name, const array *x, sl_dtype *dtype) {
	if (x->kind != 'i' || (x->size != 4 && x->size != 8))
		return sli_npz_fail(a, name, SL_ERR_DTYPE, "holds no i4 or i8 indices");
	*dtype = x->size == 4 ? SL_I32 : SL_I64;
	return SL_OK;
}

/* Floats go on as they are, other numbers become f64. */
sl_status sli_npz_values(archive *a, array *x, sl_dtype *dtype) {
	if (x->kind == 'f') {
		*dtype = x->size == 2 ? SL_F16 : x->size == 4 ? SL_F32 : SL_F64;
		return SL_OK;
	}
	if (x->kind == 'S' || x->kind == 'U')
		return sli_npz_fail(a, "data", SL_ERR_DTYPE, "holds text");
	array wide = {.kind = 'f', .size = 8, .count = x->count};
	if (!sli_bytes(x->count, 8, &wide.bytes))
		return sli_npz_fail(a, "data", SL_ERR_LIMIT, "is too large");
	SL_TRY(sli_allocate(a->context, wide.bytes, "reading a matrix", &wide.data));
	for (int64_t i = 0; i < x->count; i++) {
		int64_t value = sli_npz_integer(x, i);
		((double *)wide.data)[i] = x->kind == 'u' && x->size == 8 ? (double)(uint64_t)value : (double)value;
	}
	free_array(a, x);
	*x = wide;
	*dtype = SL_F64;
	return SL_OK;
}

/* The three letters of format.npy. */
sl_status sli_npz_format(archive *a, char format[4]) {
	array x = {0};
	sl_status status = read_array(a, "format", &x);
	memset(format, 0, 4);
	if (status == SL_OK && ((x.kind != 'S' && x.kind != 'U') || x.count != 1 || x.size < 3))
		status = sli_npz_fail(a, "format", SL_ERR_FORMAT, "is no text");
	for (int i = 0; status == SL_OK && i < 3; i++)
		format[i] = ((const char *)x.data)[x.kind == 'U' ? 4 * i : i];
	free_array(a, &x);
	if (status == SL_OK && strcmp(format, "csr") && strcmp(format, "csc") && strcmp(format, "coo"))
		status = sli_fail(a->context, SL_ERR_UNSUPPORTED,
						  "%s: a matrix in the layout \"%s\"; csr, csc and coo are read", a->path, format);
	return status;
}

sl_status sli_npz_shape(archive *a, int64_t shape[2]) {
	array x = {0};
	sl_status status = read_array(a, "shape", &x);
	if (status == SL_OK && ((x.kind != 'i' && x.kind != 'u') || x.count != 2))
		status = sli_npz_fail(a, "shape", SL_ERR_FORMAT, "is not two whole numbers");
	for (int i = 0; status == SL_OK && i < 2; i++)
		shape[i] = sli_npz_integer(&x, i);
	free_array(a, &x);
	return status;
}

typedef struct parts {
	array first, second, data; /* offsets and indices, or rows and columns */
	sl_dtype first_dtype, second_dtype, value_dtype;
	int64_t shape[2];
	char format[4];
} parts;

static sl_status read_parts(archive *a, const sl_read_limits *limits, parts *p) {
	SL_TRY(sli_npz_format(a, p->format));
	SL_TRY(sli_npz_shape(a, p->shape));
	bool coo = !strcmp(p->format, "coo");
	const char *first = coo ? "row" : "indptr", *second = coo ? "col" : "indices";
	SL_TRY(read_array(a, first, &p->first));
	SL_TRY(read_array(a, second, &p->second));
	SL_TRY(read_array(a, "data", &p->data));
	SL_TRY(sli_check_nonzeros(a->context, a->path, limits, p->data.count));
	SL_TRY(sli_npz_index(a, first, &p->first, &p->first_dtype));
	SL_TRY(sli_npz_index(a, second, &p->second, &p->second_dtype));
	SL_TRY(sli_npz_values(a, &p->data, &p->value_dtype));
	int64_t lines = strcmp(p->format, "csc") ? p->shape[0] : p->shape[1];
	if (p->second.count != p->data.count || p->shape[0] < 0 || p->shape[1] < 0 ||
		(coo ? p->first.count != p->data.count : p->first.count - 1 != lines))
		return sli_fail(a->context, SL_ERR_FORMAT,
						"%s: %lld values with %lld and %lld indices do not make a %s matrix of %lld x %lld", a->path,
						(long long)p->data.count, (long long)p->first.count, (long long)p->second.count, p->format,
						(long long)p->shape[0], (long long)p->shape[1]);
	if (coo && p->first_dtype != p->second_dtype)
		return sli_npz_fail(a, "row", SL_ERR_DTYPE, "and col.npy hold indices of different width");
	if (p->shape[0] > limits->max_bytes / 8)
		return sli_fail(a->context, SL_ERR_LIMIT, "%s: %lld rows are more than max_bytes allows", a->path,
						(long long)p->shape[0]);
	return SL_OK;
}

static sl_status build(sl_csr **matrix, sl_context *context, const parts *p) {
	sl_build_options o = {SL_BUILD_DEFAULTS, .duplicates = SL_DUPLICATES_SUM};
	int64_t rows = p->shape[0], cols = p->shape[1], nnz = p->data.count;
	if (!strcmp(p->format, "coo"))
		return sl_csr_create_coo(matrix, context, rows, cols, nnz, p->first.data, p->second.data, p->first_dtype,
								 p->data.data, p->value_dtype, &o);
	if (!strcmp(p->format, "csc"))
		return sl_csr_create_csc(matrix, context, rows, cols, nnz, p->first.data, p->first_dtype, p->second.data,
								 p->second_dtype, p->data.data, p->value_dtype, &o);
	return sl_csr_create(matrix, context, rows, cols, nnz, p->first.data, p->first_dtype, p->second.data,
						 p->second_dtype, p->data.data, p->value_dtype, &o);
}

sl_status sli_npz_open(archive *a, sl_context *context, const char *path, const sl_read_limits *limits) {
	int fd, error;
	int64_t size;
	*a = (archive){context, path, NULL, limits->max_bytes};
	SL_TRY(sli_open_read(context, path, &fd, &size));
	a->zip = zip_fdopen(fd, 0, &error);
	if (a->zip)
		return SL_OK;
	zip_error_t text;
	close(fd);
	zip_error_init_with_code(&text, error);
	sl_status status = error == ZIP_ER_MEMORY
						   ? sli_fail_memory(context, 0, "reading a zip file")
						   : sli_fail(context, SL_ERR_FORMAT, "%s: no zip file: %s", path, zip_error_strerror(&text));
	zip_error_fini(&text);
	return status;
}

sl_status sli_npz_read(sl_csr **matrix, sl_context *context, const char *path, const sl_read_limits *limits) {
	archive a;
	parts p = {.shape = {0, 0}};
	SL_TRY(sli_npz_open(&a, context, path, limits));
	sl_status status = read_parts(&a, limits, &p);
	zip_discard(a.zip);
	if (status == SL_OK)
		status = build(matrix, context, &p);
	free_array(&a, &p.first);
	free_array(&a, &p.second);
	free_array(&a, &p.data);
	return status;
}

/* A .npy header of version 1, padded so that the data begins at a multiple of 64. */
static size_t make_header(char *header, const char *descr, const char *shape) {
	int length = snprintf(header + 10, 118, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape);
	memset(header + 10 + length, ' ', 117 - (size_t)length);
	header[127] = '\n';
	memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
	return 128;
}

/* The zip library reads members when the archive is closed: each is a header and borrowed data. */
typedef struct member {
	char header[128];
	const void *data;
	size_t bytes, at;
} member;

static zip_int64_t member_source(void *state, void *data, zip_uint64_t length, zip_source_cmd_t command) {
	member *m = state;
	size_t total = sizeof m->header + m->bytes;
	switch (command) {
	case ZIP_SOURCE_OPEN:
		m->at = 0;
		return 0;
	case ZIP_SOURCE_READ: {
		size_t n = total - m->at < length ? total - m->at : (size_t)length, head = 0;
		if (m->at < sizeof m->header) {
			head = sizeof m->header - m->at < n ? sizeof m->header - m->at : n;
			memcpy(data, m->header + m->at, head);
		}
		if (n > head)
			memcpy((char *)data + head, (const char *)m->data + (m->at + head - sizeof m->header), n - head);
		m->at += n;
		return (zip_int64_t)n;
	}
	case ZIP_SOURCE_STAT: {
		zip_stat_t *info = data;
		zip_stat_init(info);
		info->size = total;
		info->valid = ZIP_STAT_SIZE;
		return sizeof *info;
	}
	case ZIP_SOURCE_CLOSE:
	case ZIP_SOURCE_FREE:
		return 0;
	case ZIP_SOURCE_ERROR:
		return zip_error_to_data(&(zip_error_t){0}, data, length);
	case ZIP_SOURCE_SUPPORTS:
		return zip_source_make_command_bitmap(ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT,
											  ZIP_SOURCE_ERROR, ZIP_SOURCE_FREE, -1);
	default:
		return -1;
	}
}

static bool add(zip_t *zip, member *m, const char *name, const char *descr, int64_t count, const void *data,
				size_t bytes) {
	char shape[32];
	snprintf(shape, sizeof shape, count < 0 ? "()" : "(%lld,)", (long long)count);
	make_header(m->header, descr, shape);
	m->data = data;
	m->bytes = bytes;
	zip_source_t *source = zip_source_function(zip, member_source, m);
	if (!source)
		return false;
	if (zip_file_add(zip, name, source, ZIP_FL_ENC_UTF_8) >= 0)
		return true;
	zip_source_free(source);
	return false;
}

/* Into the writer's temporary file, which the zip library opens by its name. */
static sl_status write_archive(sl_writer *w, const sl_csr *matrix) {
	sl_pattern_arrays a = sli_pattern_arrays(matrix->pattern);
	int64_t shape[2] = {a.rows, a.cols};
	const char *descr = matrix->dtype == SL_F64 ? "<f8" : matrix->dtype == SL_F32 ? "<f4" : "<f2";
	size_t offset_size = sl_dtype_size(a.offset_dtype);
	member m[5];
	zip_error_t error;
	zip_error_init(&error);
	zip_source_t *file = zip_source_file_create(w->temporary, 0, -1, &error);
	zip_t *zip = file ? zip_open_from_source(file, ZIP_TRUNCATE, &error) : NULL;
	bool ok = zip && add(zip, &m[0], "indices.npy", "<i4", a.nnz, a.col_indices, (size_t)a.nnz * 4) &&
			  add(zip, &m[1], "indptr.npy", offset_size == 4 ? "<i4" : "<i8", a.rows + 1, a.row_offsets,
				  (size_t)(a.rows + 1) * offset_size) &&
			  add(zip, &m[2], "format.npy", "|S3", -1, "csr", 3) && add(zip, &m[3], "shape.npy", "<i8", 2, shape, 16) &&
			  add(zip, &m[4], "data.npy", descr, a.nnz, matrix->values, (size_t)a.nnz * sl_dtype_size(matrix->dtype));
	if (ok && zip_close(zip) == 0) {
		zip_error_fini(&error);
		return SL_OK;
	}
	int system = zip ? zip_error_code_system(zip_get_error(zip)) : zip_error_code_system(&error);
	sl_status status =
		sli_fail(w->context, system == ENOSPC || system == EDQUOT || system == EFBIG ? SL_ERR_NO_SPACE : SL_ERR_IO,
				 "%s: writing the zip file failed: %s", w->path, zip ? zip_strerror(zip) : zip_error_strerror(&error));
	if (zip)
		zip_discard(zip);
	else if (file)
		zip_source_free(file);
	zip_error_fini(&error);
	return status;
}

sl_status sli_npz_write(sl_context *context, const sl_csr *matrix, const char *path) {
	sl_writer *w;
	if (matrix->dtype == SL_BF16)
		return sli_fail(context, SL_ERR_DTYPE, "NumPy has no bf16: convert the matrix to f32 first");
	SL_TRY(sli_writer_open(&w, context, path));
	sl_status status = write_archive(w, matrix);
	/* The zip library may have put another file in the place of the one that was opened. */
	if (status == SL_OK)
		status = sli_writer_reopen(w);
	return sli_writer_close(w, status);
}
