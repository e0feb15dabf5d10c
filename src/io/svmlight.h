/* SPDX-License-Identifier: Apache-2.0 */
/* svmlight text: what its two passes over the lines share with what is made of them. */
#ifndef SL_IO_SVMLIGHT_H
#define SL_IO_SVMLIGHT_H

#include "io/dataset.h"
#include "io/share.h"

/* What counts[] and kept[] of a block are; its flag: whether a row has a qid. */
enum { ROWS, ENTRIES, LABELS };
enum { LOWEST, HIGHEST, LARGEST_LABEL };

typedef struct sl_svmlight_reader {
	const sl_svmlight_options *o;
	sl_index_base base;
	locale_t c;
	int64_t features, classes; /* bounds; 0: none */
	sl_dtype offset_dtype, label_offset_dtype;
	/* The result. Columns are one less than the file says; where it counts from 0, that is mended after. */
	void *offsets, *label_offsets, *values;
	int32_t *cols, *label_cols;
	double *numbers;
	int64_t *groups;
	int64_t entries, label_entries;
	int64_t lowest, highest, largest_label; /* of all that was read; -1: none (lowest: INT64_MAX) */
	bool has_groups;
	sl_share *share; /* NULL: the whole file */
	int64_t before;  /* of a share: lines before it */
	bool told;       /* a failure that all ranks know of */
} sl_svmlight_reader;

/* gzip is not read. */
sl_status sli_svmlight_refuse_compressed(const sl_lines *lines);
/* The two passes: count, and then read into arrays of the sizes counted. */
void sli_svmlight_count(void *reader, sl_line_block *block, const char *text, const char *end);
void sli_svmlight_parse(void *reader, sl_line_block *block, const char *text, const char *end);

#endif
