/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors (huggingface.co/docs/safetensors): eight bytes with the header's length, a header in
 * JSON, and the tensors one after another without gaps. JSON is jansson's.
 */
#ifndef SL_IO_SAFETENSORS_H
#define SL_IO_SAFETENSORS_H

#include <jansson.h>

#include "io/io.h"

enum { SL_TENSOR_DIMENSIONS = 4 };

typedef struct sl_tensor {
	sl_dtype dtype;
	int dimensions;
	int64_t shape[SL_TENSOR_DIMENSIONS], count;
	int64_t at; /* in the file */
	size_t bytes;
} sl_tensor;

/* An open file whose header has been checked as a whole: every tensor lies inside it, none overlap. */
typedef struct sl_safetensors {
	sl_context *context;
	const char *path;
	int fd;
	json_t *header, *metadata; /* metadata is borrowed; NULL: none */
	int64_t data;              /* where tensors begin */
} sl_safetensors;
sl_status sli_safetensors_open(sl_safetensors *file, sl_context *context, const char *path,
							   const sl_read_limits *limits);
void sli_safetensors_close(sl_safetensors *file);
bool sli_safetensors_has(const sl_safetensors *file, const char *name);
/* A tensor of this dtype (0: any) and number of dimensions. */
sl_status sli_safetensors_find(sl_safetensors *file, const char *name, sl_dtype dtype, int dimensions,
							   sl_tensor *tensor);
sl_status sli_safetensors_load(sl_safetensors *file, const sl_tensor *tensor, void *to);
/* The same into the memory of the context's device. */
sl_status sli_safetensors_place(sl_safetensors *file, const sl_tensor *tensor, void *to);
/* A text of the metadata, or NULL. */
const char *sli_safetensors_text(const sl_safetensors *file, const char *key);
/* Row offsets and columns under `prefix`, checked as a pattern. */
sl_status sli_safetensors_pattern(sl_safetensors *file, const char *prefix, int64_t rows, int64_t cols,
								  const sl_read_limits *limits, sl_pattern **pattern);

/* Where the arrays of a file's one matrix lie. Only the header has been checked. */
typedef struct sl_csr_places {
	int64_t rows, cols;
	sl_tensor offsets, columns, values;
} sl_csr_places;
sl_status sli_safetensors_places(sl_context *context, const char *path, const sl_read_limits *limits,
								 sl_csr_places *places);

/* What will be written: tensors are borrowed until then. */
typedef struct sl_tensor_source {
	char name[96];
	sl_dtype dtype;
	int64_t shape[2];
	int dimensions;
	const void *data;
	bool placed; /* in the memory of the context's device, else the host's */
	struct sl_store *store; /* not NULL: read from there, piece by piece, instead of from `data` */
	int array;              /* of the store */
} sl_tensor_source;
/* `metadata` maps names to texts; it is taken over. */
sl_status sli_safetensors_write(sl_context *context, const char *path, json_t *metadata,
								const sl_tensor_source *tensors, int count);
/* The text of a header, malloc()ed; NULL: no memory. `metadata` is taken over. */
char *sli_safetensors_header(json_t *metadata, const sl_tensor_source *tensors, int count);
/* What the file of one matrix says of it. */
json_t *sli_csr_metadata(int64_t rows, int64_t cols);
/* Row offsets and columns as tensors named after `prefix`. */
void sli_safetensors_put_pattern(sl_tensor_source tensors[2], const char *prefix, const sl_pattern *pattern);

#endif
