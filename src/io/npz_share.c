/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of SciPy's csr, of which each rank reads its share: members are gone through up to its last row. */
#include "core/checked.h"
#include "io/npz.h"
#include "io/share.h"

typedef sl_npz archive;
typedef sl_npz_array array;

/* Some of a member's elements. */
typedef struct range {
	int64_t from, count;
} range;

static bool is_stored(archive *a, const char *name) {
	char full[64];
	zip_stat_t info;
	snprintf(full, sizeof full, "%s.npy", name);
	return !zip_stat(a->zip, full, 0, &info) && info.valid & ZIP_STAT_COMP_METHOD && info.comp_method == ZIP_CM_STORE;
}

static sl_status skip(archive *a, const char *name, zip_file_t *file, int64_t bytes) {
	char piece[1 << 14];
	if (is_stored(a, name)) {
		if (zip_fseek(file, bytes, SEEK_CUR))
			return sli_fail(a->context, SL_ERR_FORMAT, "%s: %s.npy: %s", a->path, name, zip_file_strerror(file));
		return SL_OK;
	}
	for (int64_t left = bytes; left > 0; left -= (int64_t)sizeof piece)
		SL_TRY(sli_npz_bytes(a, name, file, piece, left < (int64_t)sizeof piece ? (size_t)left : sizeof piece));
	return SL_OK;
}

static sl_status read_elements(archive *a, const char *name, zip_file_t *file, range r, array *out) {
	if (r.from < 0 || r.count < 0 || r.from > out->count - r.count)
		return sli_fail(a->context, SL_ERR_FORMAT, "%s: %s.npy has %lld elements; %lld from %lld on are asked for",
						a->path, name, (long long)out->count, (long long)r.count, (long long)r.from);
	SL_TRY(skip(a, name, file, r.from * out->size));
	out->count = r.count;
	size_t bytes = (size_t)(r.count * out->size);
	SL_TRY(sli_allocate(a->context, bytes, "reading a matrix", &out->data));
	out->bytes = bytes;
	return sli_npz_bytes(a, name, file, out->data, bytes);
}

/* *all: how many the member has. */
static sl_status read_range(archive *a, const char *name, range r, array *out, int64_t *all) {
	zip_file_t *file;
	sl_status status = sli_npz_member(a, name, &file, out);
	*all = out->count;
	out->bytes = 0; /* of memory that is taken */
	if (status == SL_OK)
		status = read_elements(a, name, file, r, out);
	if (file)
		zip_fclose(file);
	return status;
}

static void free_array(archive *a, array *x) {
	sli_heap_free(sli_heap(a->context), x->data, x->bytes);
	memset(x, 0, sizeof *x);
}

typedef struct rows {
	array offsets, columns, values;
	sl_dtype column_dtype, value_dtype;
	int64_t shape[2];
} rows;

/* Offsets as int64, from 0 on. One that leaves the share's entries is refused when the matrix is built. */
static sl_status rebase(archive *a, array *offsets, range own) {
	array wide = {.kind = 'i', .size = 8, .count = offsets->count, .bytes = (size_t)offsets->count * 8};
	SL_TRY(sli_allocate(a->context, wide.bytes, "reading a matrix", &wide.data));
	for (int64_t i = 0; i < offsets->count; i++) {
		int64_t value = sli_npz_integer(offsets, i);
		bool inside = value >= own.from && value <= own.from + own.count;
		((int64_t *)wide.data)[i] = inside ? value - own.from : own.count + 1;
	}
	free_array(a, offsets);
	*offsets = wide;
	return SL_OK;
}

static sl_status read_rows(archive *a, const sl_read_limits *limits, sl_share *share, rows *r) {
	char format[4];
	sl_dtype dtype;
	int64_t all;
	SL_TRY(sli_npz_format(a, format));
	SL_TRY(sli_npz_shape(a, r->shape));
	if (strcmp(format, "csr"))
		return sli_fail(a->context, SL_ERR_UNSUPPORTED,
						"%s: a matrix in the layout \"%s\"; rows are read by share from csr", a->path, format);
	if (r->shape[0] < 0 || r->shape[1] < 0 || r->shape[0] > limits->max_bytes / 8)
		return sli_fail(a->context, SL_ERR_FORMAT, "%s: a matrix of %lld x %lld", a->path, (long long)r->shape[0],
						(long long)r->shape[1]);
	sli_share_take(share, r->shape[0]);
	SL_TRY(read_range(a, "indptr", (range){share->first, share->count + 1}, &r->offsets, &all));
	SL_TRY(sli_npz_index(a, "indptr", &r->offsets, &dtype));
	if (all != r->shape[0] + 1)
		return sli_npz_fail(a, "indptr", SL_ERR_FORMAT, "does not have one element more than there are rows");
	range own = {sli_npz_integer(&r->offsets, 0), sli_npz_integer(&r->offsets, share->count)};
	own.count -= own.from > own.count ? own.count + 1 : own.from; /* decreasing: -1, which read_elements() refuses */
	SL_TRY(sli_check_nonzeros(a->context, a->path, limits, own.count));
	SL_TRY(read_range(a, "indices", own, &r->columns, &all));
	SL_TRY(read_range(a, "data", own, &r->values, &all));
	SL_TRY(rebase(a, &r->offsets, own));
	SL_TRY(sli_npz_index(a, "indices", &r->columns, &r->column_dtype));
	return sli_npz_values(a, &r->values, &r->value_dtype);
}

sl_status sli_npz_read_share(sl_csr **matrix, sl_context *context, const char *path, const sl_read_limits *limits,
							 sl_share *share) {
	archive a;
	rows r = {.shape = {0, 0}};
	SL_TRY(sli_npz_open(&a, context, path, limits));
	sl_status status = read_rows(&a, limits, share, &r);
	zip_discard(a.zip);
	if (status == SL_OK)
		status = sl_csr_create(matrix, context, share->count, r.shape[1], r.values.count, r.offsets.data, SL_I64,
							   r.columns.data, r.column_dtype, r.values.data, r.value_dtype,
							   &(sl_build_options){SL_BUILD_DEFAULTS, .duplicates = SL_DUPLICATES_SUM});
	free_array(&a, &r.offsets);
	free_array(&a, &r.columns);
	free_array(&a, &r.values);
	return status;
}
