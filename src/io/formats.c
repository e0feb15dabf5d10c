/* SPDX-License-Identifier: Apache-2.0 */
/* Which format, and off to its reader or writer. */
#include <strings.h>
#include <unistd.h>

#include "core/checked.h"
#include "io/dataset.h"

static bool ends_with(const char *path, const char *ending) {
	size_t n = strlen(path), m = strlen(ending);
	return n >= m && !strcasecmp(path + n - m, ending);
}

static sl_format by_name(const char *path) {
	static const struct {
		const char *ending;
		sl_format format;
	} endings[] = {{".safetensors", SL_FORMAT_SAFETENSORS},
				   {".npz", SL_FORMAT_NPZ},
				   {".mtx", SL_FORMAT_MATRIX_MARKET},
				   {".smtx", SL_FORMAT_SMTX},
				   {".svm", SL_FORMAT_SVMLIGHT},
				   {".svmlight", SL_FORMAT_SVMLIGHT},
				   {".libsvm", SL_FORMAT_SVMLIGHT},
				   {"-ubyte", SL_FORMAT_IDX},
				   {".idx", SL_FORMAT_IDX},
				   {".gz", SL_FORMAT_IDX}};
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
		if (ends_with(path, endings[i].ending))
			return endings[i].format;
	return SL_FORMAT_AUTO;
}

static sl_format by_content(const unsigned char *bytes, size_t count) {
	if (count >= 4 && !memcmp(bytes, "PK\3\4", 4))
		return SL_FORMAT_NPZ;
	if (count >= 14 && !strncasecmp((const char *)bytes, "%%MatrixMarket", 14))
		return SL_FORMAT_MATRIX_MARKET;
	if (count >= 9 && bytes[8] == '{' && !bytes[6] && !bytes[7])
		return SL_FORMAT_SAFETENSORS;
	if (count >= 4 &&
		((bytes[0] == 0x1f && bytes[1] == 0x8b) || (!bytes[0] && !bytes[1] && bytes[2] >= 8 && bytes[2] <= 14)))
		return SL_FORMAT_IDX;
	return SL_FORMAT_AUTO;
}

sl_status sli_detect(sl_context *context, const char *path, bool exists, sl_format *format) {
	unsigned char bytes[16] = {0};
	int fd;
	int64_t size = 0;
	*format = SL_FORMAT_AUTO;
	if (exists) {
		SL_TRY(sli_open_read(context, path, &fd, &size));
		size_t count = size < 16 ? (size_t)size : 16;
		sl_status status = sli_read_at(context, fd, path, 0, bytes, count);
		close(fd);
		SL_TRY(status);
		*format = by_content(bytes, count);
	}
	if (*format == SL_FORMAT_AUTO)
		*format = by_name(path);
	if (*format == SL_FORMAT_AUTO)
		return sli_fail(
			context, exists ? SL_ERR_FORMAT : SL_ERR_ARGUMENT,
			"%s: neither its content nor its name tells the format; name it, or end in .safetensors, .npz, .mtx, "
			".smtx or .svm",
			path);
	return SL_OK;
}

/* Rows of the first dimension, all others flattened; zeros are not stored. */
static sl_status read_idx(sl_csr **matrix, sl_context *context, const char *path, const sl_read_limits *limits) {
	sl_idx x;
	SL_TRY(sli_idx_read(context, path, limits, &x));
	int64_t rows = x.dimensions > 1 ? x.shape[0] : 1;
	sl_dense view = sl_dense_view(x.values, SL_F32, rows, rows ? x.count / rows : 0);
	sl_status status = sl_csr_create_dense(matrix, context, &view, 0, NULL);
	sli_idx_free(sli_heap(context), &x);
	if (status == SL_OK &&
		sli_check_nonzeros(context, path, limits, sli_pattern_arrays((*matrix)->pattern).nnz) != SL_OK) {
		sl_csr_destroy(*matrix);
		*matrix = NULL;
		return SL_ERR_LIMIT;
	}
	return status;
}

/* The features of an svmlight file, whatever its labels are. */
static sl_status read_svmlight(sl_csr **matrix, sl_context *context, const char *path, const sl_read_limits *limits) {
	sl_dataset *d;
	sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .labels = (sl_label_kind)SLI_LABELS_SKIPPED, .dtype = SL_F32};
	SL_TRY(sli_svmlight_read(&d, context, path, &o, limits));
	*matrix = d->inputs;
	d->inputs = NULL;
	sl_dataset_destroy(d);
	return SL_OK;
}

sl_status sli_csr_read(sl_csr **matrix, sl_context *context, const char *path, sl_format format,
					   const sl_read_limits *limits) {
	*matrix = NULL;
	if (format == SL_FORMAT_AUTO)
		SL_TRY(sli_detect(context, path, true, &format));
	switch (format) {
	case SL_FORMAT_SAFETENSORS:
		return sli_safetensors_read_csr(matrix, context, path, limits);
	case SL_FORMAT_NPZ:
		return sli_npz_read(matrix, context, path, limits);
	case SL_FORMAT_MATRIX_MARKET:
		return sli_mtx_read(matrix, context, path, limits);
	case SL_FORMAT_SMTX:
		return sli_smtx_read(matrix, context, path, limits);
	case SL_FORMAT_SVMLIGHT:
		return read_svmlight(matrix, context, path, limits);
	case SL_FORMAT_IDX:
		return read_idx(matrix, context, path, limits);
	default:
		return sli_fail(context, SL_ERR_ARGUMENT, "format %d is unknown", (int)format);
	}
}

sl_status sli_csr_write(sl_context *context, const sl_csr *matrix, const char *path, sl_format format) {
	if (format == SL_FORMAT_AUTO)
		SL_TRY(sli_detect(context, path, false, &format));
	switch (format) {
	case SL_FORMAT_SAFETENSORS:
		return sli_safetensors_write_csr(context, matrix, path);
	case SL_FORMAT_NPZ:
		return sli_npz_write(context, matrix, path);
	case SL_FORMAT_MATRIX_MARKET:
		return sli_mtx_write(context, matrix, path);
	case SL_FORMAT_SMTX:
		return sli_smtx_write(context, matrix, path);
	case SL_FORMAT_SVMLIGHT:
		if (matrix->dtype != SL_F32 && matrix->dtype != SL_F64)
			return sli_fail(context, SL_ERR_DTYPE, "%s: f32 and f64 are written as svmlight, not %s", path,
							sl_dtype_name(matrix->dtype));
		return sli_svmlight_write(context, matrix, NULL, NULL, path);
	case SL_FORMAT_IDX:
		return sli_fail(context, SL_ERR_UNSUPPORTED, "%s: IDX is read, not written", path);
	default:
		return sli_fail(context, SL_ERR_ARGUMENT, "format %d is unknown", (int)format);
	}
}
