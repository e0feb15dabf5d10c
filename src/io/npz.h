/* SPDX-License-Identifier: Apache-2.0 */
/* The members of a .npz: arrays of NumPy's in a zip file. */
#ifndef SL_IO_NPZ_H
#define SL_IO_NPZ_H

#include <zip.h>

#include "io/convert.h"

typedef struct sl_npz_array {
	char kind; /* NumPy's letter: f, i, u, b, S or U */
	int size;  /* bytes an element */
	int64_t count;
	void *data; /* NULL: not read as a whole */
	size_t bytes;
} sl_npz_array;

typedef struct sl_npz {
	sl_context *context;
	const char *path;
	zip_t *zip;
	int64_t left; /* bytes that may still be taken */
} sl_npz;

/* To be closed by zip_discard(). */
sl_status sli_npz_open(sl_npz *archive, sl_context *context, const char *path, const sl_read_limits *limits);
/* An array's header, and its file, which begins at the elements; to be closed by zip_fclose() unless NULL, also after
 * a failure. */
sl_status sli_npz_member(sl_npz *archive, const char *name, zip_file_t **file, sl_npz_array *array);
sl_status sli_npz_bytes(sl_npz *archive, const char *name, zip_file_t *file, void *to, size_t bytes);
/* That nothing follows, and the checksum. */
sl_status sli_npz_end(sl_npz *archive, const char *name, zip_file_t *file);
/* The three letters of format.npy, and shape.npy. */
sl_status sli_npz_format(sl_npz *archive, char format[4]);
sl_status sli_npz_shape(sl_npz *archive, int64_t shape[2]);
sl_status sli_npz_index(sl_npz *archive, const char *name, const sl_npz_array *array, sl_dtype *dtype);
/* Values that were read: floats stay as they are, other numbers become f64. */
sl_status sli_npz_values(sl_npz *archive, sl_npz_array *array, sl_dtype *dtype);
sl_status sli_npz_fail(sl_npz *archive, const char *name, sl_status status, const char *text);

static inline int64_t sli_npz_integer(const sl_npz_array *x, int64_t i) {
	const char *p = (const char *)x->data + i * x->size;
	int64_t value = 0;
	memcpy(&value, p, (size_t)x->size); /* little-endian, as this machine is */
	int unused = 64 - 8 * x->size;
	return x->kind == 'i' ? (int64_t)((uint64_t)value << unused) >> unused : value;
}

#endif
