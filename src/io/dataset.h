/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SL_IO_DATASET_H
#define SL_IO_DATASET_H

#include <sparselayer/data.h>

#include "io/io.h"

/* Pictures or sparse rows. Arrays are the heap's; a count of elements goes with each. */
struct sl_dataset {
	sl_heap *heap;  /* owns everything; retained */
	sl_idx images;  /* [samples, rows, cols], scaled to [0, 1]; or nothing */
	sl_csr *inputs; /* [samples, features]; or NULL */
	int64_t samples;
	int32_t *labels;
	sl_csr *targets;
	double *numbers;
	int64_t classes;
	double *class_values; /* `classes` of them, or NULL */
	int64_t *groups;
	sl_index_base base;
	int64_t *row_ids, *col_ids;
};

/* A label kind besides the public ones: whatever stands there is stepped over. */
enum { SLI_LABELS_SKIPPED = 100 };

/* Options of the two readers of text; defaults are filled in. */
sl_status sli_check_svmlight(sl_context *context, sl_svmlight_options *options);
sl_status sli_check_ratings(sl_context *context, sl_ratings_options *options);
sl_status sli_dataset_new(sl_dataset **dataset, sl_context *context);
sl_status sli_dataset_read(sl_dataset **dataset, sl_context *context, const char *directory, bool train);
sl_status sli_svmlight_read(sl_dataset **dataset, sl_context *context, const char *path,
							const sl_svmlight_options *options, const sl_read_limits *limits);
sl_status sli_ratings_read(sl_dataset **dataset, sl_context *context, const char *path,
						   const sl_ratings_options *options, const sl_read_limits *limits);
sl_status sli_svmlight_write(sl_context *context, const sl_csr *inputs, const double *labels, const sl_csr *targets,
							 const char *path);

/*
 * Distinct keys of an array, increasing, and for each element which of them it is. `found` and `index` are
 * the heap's: `*count` and `n` elements. With `known` (increasing, `*count` of them) those are the keys, and
 * the first element that is none of them is returned in *stranger, else -1.
 */
sl_status sli_distinct(sl_context *context, const uint64_t *keys, int64_t n, const uint64_t *known, uint64_t **found,
					   int64_t *count, int32_t *index, int64_t *stranger);
/* Numbers as keys of the same order, and back. -0 is 0. */
static inline uint64_t sli_key_of_double(double value) {
	uint64_t bits;
	value = value == 0 ? 0 : value;
	memcpy(&bits, &value, sizeof bits);
	return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}
static inline double sli_double_of_key(uint64_t key) {
	uint64_t bits = key >> 63 ? key & ~(UINT64_C(1) << 63) : ~key;
	double value;
	memcpy(&value, &bits, sizeof value);
	return value;
}
static inline uint64_t sli_key_of_integer(int64_t value) {
	return (uint64_t)value ^ UINT64_C(1) << 63;
}

#endif
