/* SPDX-License-Identifier: Apache-2.0 */
/* One sparse matrix, of which each rank reads its rows. */
#include <unistd.h>

#include "io/safetensors.h"
#include "io/share.h"
#include "sparse/sparse.h"

/* This rank's rows of the arrays of a file. */
typedef struct piece {
	int64_t *offsets;
	int32_t *columns;
	void *values;
	size_t offset_bytes, column_bytes, value_bytes;
	int64_t nnz;
} piece;

static sl_status read_offsets(sl_context *context, int fd, const char *path, const sl_csr_places *p,
							  const sl_share *share, piece *own) {
	size_t size = sl_dtype_size(p->offsets.dtype), bytes = (size_t)(share->count + 1) * size;
	void *raw;
	own->offset_bytes = (size_t)(share->count + 1) * sizeof *own->offsets;
	SL_TRY(sli_allocate(context, own->offset_bytes, "row offsets", (void **)&own->offsets));
	SL_TRY(sli_allocate(context, bytes, "row offsets", &raw));
	sl_status status = sli_read_at(context, fd, path, p->offsets.at + share->first * (int64_t)size, raw, bytes);
	for (int64_t i = 0; i <= share->count && status == SL_OK; i++) {
		int64_t value = sli_index(raw, p->offsets.dtype, i);
		if (value < 0 || value > p->columns.count || (i && value < own->offsets[i - 1]))
			status = sli_fail(context, SL_ERR_STRUCTURE, "%s: row_offsets[%lld] is %lld; there are %lld entries", path,
							  (long long)(share->first + i), (long long)value, (long long)p->columns.count);
		own->offsets[i] = value;
	}
	sli_heap_free(sli_heap(context), raw, bytes);
	return status;
}

static sl_status read_entries(sl_context *context, int fd, const char *path, const sl_csr_places *p,
							  const sl_share *share, piece *own) {
	int64_t begin = own->offsets[0];
	size_t size = sl_dtype_size(p->values.dtype);
	own->nnz = own->offsets[share->count] - begin;
	own->column_bytes = (size_t)own->nnz * sizeof *own->columns;
	own->value_bytes = (size_t)own->nnz * size;
	for (int64_t i = 0; i <= share->count; i++)
		own->offsets[i] -= begin;
	SL_TRY(sli_allocate(context, own->column_bytes, "column indices", (void **)&own->columns));
	SL_TRY(sli_allocate(context, own->value_bytes, "values", &own->values));
	SL_TRY(sli_read_at(context, fd, path, p->columns.at + begin * (int64_t)sizeof *own->columns, own->columns,
					   own->column_bytes));
	return sli_read_at(context, fd, path, p->values.at + begin * (int64_t)size, own->values, own->value_bytes);
}

static sl_status read_safetensors(sl_csr **matrix, sl_context *context, const char *path, const sl_read_limits *limits,
								  sl_share *share) {
	sl_csr_places places;
	piece own = {.nnz = 0};
	int fd;
	int64_t size;
	SL_TRY(sli_safetensors_places(context, path, limits, &places));
	if (places.values.dtype >= SL_I32)
		return sli_fail(context, SL_ERR_DTYPE, "%s: the values are %s", path, sl_dtype_name(places.values.dtype));
	sli_share_take(share, places.rows);
	SL_TRY(sli_open_read(context, path, &fd, &size));
	sl_status status = read_offsets(context, fd, path, &places, share, &own);
	if (status == SL_OK)
		status = read_entries(context, fd, path, &places, share, &own);
	close(fd);
	if (status == SL_OK)
		status = sl_csr_create(matrix, context, share->count, places.cols, own.nnz, own.offsets, SL_I64, own.columns,
							   SL_I32, own.values, places.values.dtype, NULL);
	sl_heap *heap = sli_heap(context);
	sli_heap_free(heap, own.offsets, own.offset_bytes);
	sli_heap_free(heap, own.columns, own.column_bytes);
	sli_heap_free(heap, own.values, own.value_bytes);
	return status;
}

static sl_status read_idx(sl_csr **matrix, sl_context *context, const char *path, const sl_read_limits *limits,
						  sl_share *share) {
	sl_idx x;
	SL_TRY(sli_idx_read_share(context, path, limits, share, &x));
	int64_t row = 1;
	for (int i = 1; i < x.dimensions; i++)
		row *= x.shape[i];
	sl_dense view = sl_dense_view(x.values, SL_F32, x.shape[0], row);
	sl_status status = sl_csr_create_dense(matrix, context, &view, 0, NULL);
	sli_idx_free(sli_heap(context), &x);
	return status;
}

static sl_status read_rows(sl_csr **matrix, sl_context *context, const char *path, sl_format format,
						   const sl_read_limits *limits, sl_share *share) {
	switch (format) {
	case SL_FORMAT_SAFETENSORS:
		return read_safetensors(matrix, context, path, limits, share);
	case SL_FORMAT_NPZ:
		return sli_npz_read_share(matrix, context, path, limits, share);
	case SL_FORMAT_IDX:
		return read_idx(matrix, context, path, limits, share);
	default:
		return sli_fail(context, SL_ERR_UNSUPPORTED,
						"%s: rows are read by share from safetensors, .npz, IDX and svmlight: convert it first", path);
	}
}

/* The features of svmlight text, whatever its labels are. */
static sl_status read_svmlight(sl_csr **matrix, sl_context *context, const char *path, const sl_read_limits *limits,
							   sl_share *share) {
	sl_dataset *d;
	sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .labels = (sl_label_kind)SLI_LABELS_SKIPPED, .dtype = SL_F32};
	SL_TRY(sli_svmlight_read_share(&d, context, path, &o, limits, share));
	*matrix = d->inputs;
	d->inputs = NULL;
	sl_dataset_destroy(d);
	return SL_OK;
}

sl_status sli_csr_read_share(sl_csr **matrix, sl_context *context, const char *path, sl_format format,
							 const sl_read_limits *limits, sl_share *share) {
	sl_comm *comm = share->comm;
	*matrix = NULL;
	sl_status status = format == SL_FORMAT_AUTO ? sli_detect(context, path, true, &format) : SL_OK;
	SL_TRY(sli_comm_settle(context, comm, status));
	SL_TRY(sli_comm_agree(context, comm, "the format of the file", (uint64_t)format));
	if (format == SL_FORMAT_SVMLIGHT) {
		SL_TRY(read_svmlight(matrix, context, path, limits, share));
	} else {
		status = sli_comm_settle(context, comm, read_rows(matrix, context, path, format, limits, share));
		if (status == SL_OK)
			status = sli_comm_agree(context, comm, "the number of rows in the file", (uint64_t)share->total);
	}
	if (status == SL_OK)
		status = sli_comm_settle(context, comm, sli_csr_upload(context, *matrix));
	if (status != SL_OK) {
		sl_csr_destroy(*matrix);
		*matrix = NULL;
	}
	return status;
}
