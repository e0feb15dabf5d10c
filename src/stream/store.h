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
	sl_store_header staged; /* of the generation that a pass has written; see sli_store_stage() */
	sl_durability durability;
	bool unsure;                      /* a header may or may not be on disk */
	sl_sums pattern_sums, sums, next; /* of the pattern, of the generation that is, and of the one that is written */
	char *block;                      /* for headers, aligned */
	char *block_memory;
};

/* The names of a store's files in its folder; the last is the header. */
extern const char *const sli_store_files[SL_STORE_FILES];
/* Removes the files of a store whose header is kept elsewhere, and its folder if nothing else is in it. */
void sli_store_remove(const char *path);
/* `made` NULL: with a header. Else the header is told, not written: who keeps it commits the store. */
sl_status sli_store_create(sl_context *context, const sl_disk *disk, const char *path, sl_source *matrix, int states,
						   int64_t segment, sl_store_header *made);
/* `header` NULL: the store's own. */
sl_status sli_store_open(sl_store **store, sl_context *context, const sl_disk *disk, const char *path,
						 sl_durability durability, const sl_store_header *header);
void sli_store_close(sl_store *store);
/* dz and x in op orientation. clip_norm above 0: a pass before tells the norm. */
sl_status sli_store_step(sl_context *context, sl_store *store, const sl_update *update, int kind, double clip_norm,
						 const sl_dense *dz, const sl_dense *x, const sl_dense *dx, const sl_stream_options *options,
						 sl_stream_report *report);
/* A step in two parts: the pass that writes the next generation, and taking it over, which cannot fail. What was staged
 * and is not taken over is gone with the next stage; of a generation that was written in place nothing is left but the
 * durable one then. */
sl_status sli_store_stage(sl_context *context, sl_store *store, const sl_update *update, int kind, const sl_dense *dz,
						  const sl_dense *x, const sl_dense *dx, int64_t planned, const sl_stream_options *options,
						  sl_stream_report *report);
void sli_store_adopt(sl_store *store);
static inline bool sli_store_in_place(const sl_store *store) {
	return store->now.steps != store->durable.steps;
}
/* The sum of the squares of the gradient, with dx (may be NULL) in the same pass. */
sl_status sli_stream_squares(sl_context *context, sl_source *source, const sl_dense *dz, const sl_dense *x,
							 const sl_dense *dx, int64_t planned, double clip_value, const sl_stream_options *options,
							 sl_stream_report *report, double *squares);
/* Commit in two parts, for stores whose header is kept elsewhere: put the generation on disk, and note that the header
 * is. Between them neither generation may be written. */
sl_status sli_store_seal(sl_context *context, sl_store *store, sl_store_header *sealed);
void sli_store_sealed(sl_store *store, const sl_store_header *sealed);
sl_status sli_store_commit(sl_context *context, sl_store *store);
/* An array from front to back, compared with its checksums: values and moments from 0. `narrowed`: offsets as int32. */
enum { SL_STORE_OFFSETS = -2, SL_STORE_COLUMNS = -1 };
sl_status sli_store_gather(sl_context *context, sl_store *store, int array, bool narrowed,
						   sl_status (*put)(void *user, const void *data, size_t bytes), void *user);
sl_status sli_store_read(sl_context *context, sl_store *store, int array, int64_t first, int64_t count, void *to);

#endif
