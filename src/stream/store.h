/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a store. */
#ifndef SL_STREAM_STORE_H
#define SL_STREAM_STORE_H

#include <sparselayer/store.h>

#include "stream/stream.h"
#include "stream/sums.h"

enum { SL_STORE_FILES = 4, SL_STORE_SEGMENT = 1 << 20 };

/* Block 0 of the file "pattern". All numbers are little-endian, as the machines we run on are. */
typedef struct sl_store_pattern {
	char magic[8];
	uint32_t version, dtype, states, reserved;
	int64_t rows, cols, nnz, segment;
	int64_t offsets_at, columns_at, sums_at;         /* in this file; offsets are int64 */
	int64_t array_at[3], value_sums_at, value_bytes; /* in both files of values */
	uint64_t sums_hash;                              /* of this file's table */
	uint64_t hash;                                   /* of all before */
} sl_store_pattern;

/* A block of the file "header": two of them are written in turn. */
typedef struct sl_store_header {
	char magic[8];
	uint64_t sequence;
	int64_t steps;
	uint32_t generation, fresh; /* fresh: moments were never written, and are zero */
	uint64_t pattern_hash, sums_hash;
	uint64_t hash; /* of all before */
} sl_store_header;

struct sl_store {
	sl_heap *heap;
	const sl_disk *disk;
	sl_source *source; /* its path is the store's */
	void *file[SL_STORE_FILES];
	sl_store_pattern pattern;
	sl_store_header durable; /* the newest header on disk */
	sl_store_header now;
	sl_durability durability;
	bool unsure;                      /* a header may or may not be on disk */
	sl_sums pattern_sums, sums, next; /* of the pattern, of the generation that is, and of the one that is written */
	char *block;                      /* for headers, aligned */
	char *block_memory;
};

sl_status sli_store_create(sl_context *context, const sl_disk *disk, const char *path, sl_source *matrix, int states,
						   int64_t segment);
sl_status sli_store_open(sl_store **store, sl_context *context, const sl_disk *disk, const char *path,
						 sl_durability durability);
void sli_store_close(sl_store *store);
/* dz and x in op orientation. clip_norm above 0: a pass before tells the norm. */
sl_status sli_store_step(sl_context *context, sl_store *store, const sl_update *update, int kind, double clip_norm,
						 const sl_dense *dz, const sl_dense *x, const sl_dense *dx, const sl_stream_options *options,
						 sl_stream_report *report);
sl_status sli_store_commit(sl_context *context, sl_store *store);
sl_status sli_store_read(sl_context *context, sl_store *store, int array, int64_t first, int64_t count, void *to);

#endif
