/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streaming: products over a sparse matrix of which only some rows are in memory at a time. A reader thread fills a
 * ring of slots, the caller computes on them in order, and where values are written back a writer thread empties them.
 */
#ifndef SL_STREAM_STREAM_H
#define SL_STREAM_STREAM_H

#include <sparselayer/stream.h>

#include "ops/ops.h"
#include "stream/disk.h"

/* Columns and up to three arrays of elements: values and two moments. */
enum { SL_STREAM_ARRAYS = 4, SL_STREAM_SLOTS = 16 };
/* A row of more entries is read in pieces of so many, whatever the slots' size: sums over it do not depend on it. */
enum { SL_STREAM_PIECE = 1 << 20 };

/* Where an array of a matrix is. */
typedef struct sl_place {
	const void *memory; /* whole in the host's memory; else NULL */
	void *file;         /* the disk's; NULL with memory NULL: from the callback, or absent */
	int64_t at;         /* byte of the file */
	const char *name;   /* for messages */
} sl_place;

struct sl_source {
	sl_heap *heap; /* owns this struct and `path`; retained */
	char *path;
	size_t path_bytes;
	const sl_disk *disk;
	void *files[1];
	int64_t rows, cols, nnz;
	sl_dtype dtype, offset_dtype;
	sl_place offsets, columns, values;
	sl_csr_rows_callback read; /* NULL: not by callback */
	void *user;
	sl_csr *matrix; /* borrowed; its pattern is retained */
	int64_t piece;  /* SL_STREAM_PIECE, or less in tests */
	/* Of a store: checksums of columns (from `first_column_sum` on) and values; NULL: none. */
	struct sl_sums *column_sums, *value_sums;
	int first_column_sum;
};

/* What a pass over a matrix needs, and what it is given. */
typedef struct sl_stream_demand {
	int64_t rows, cols, nnz, piece;
	size_t entry_bytes; /* a slot's, for each entry */
	int arrays;         /* a slot's */
	size_t work_bytes;  /* once, for each entry of the largest chunk */
	size_t row_bytes;   /* once, for each of its rows */
	/* Once, for both: the products' workspace. NULL: none. Grows with both. */
	size_t (*workspace)(void *user, int64_t rows, int64_t entries);
	void *user;
	size_t fixed;       /* once */
	size_t panel_bytes; /* for each part of the dense operands that is held: whole panels */
	int64_t panels;     /* how many there are */
	bool all_panels;    /* they must all be held */
	int slots;
	int64_t most_entries; /* of a chunk */
} sl_stream_demand;
typedef struct sl_stream_sizes {
	int64_t entries, rows; /* of a chunk, at most */
	int64_t panels;        /* held at a time */
	int slots;
	size_t bytes; /* of everything */
} sl_stream_sizes;
/* The largest chunks that fit `available` bytes (0: no limit). False: not even the least fits; `sizes->bytes` is what
 * that takes. */
bool sli_stream_size(const sl_stream_demand *demand, size_t available, sl_stream_sizes *sizes);

typedef enum sl_slot_state { SL_SLOT_FREE = 0, SL_SLOT_FULL, SL_SLOT_COMPUTED } sl_slot_state;

typedef struct sl_slot {
	sl_slot_state state;
	int64_t number; /* of the chunk, from 0 */
	int64_t first_row, rows, first_entry, entries;
	bool begins, ends; /* as in sl_chunk */
	int32_t *offsets;
	char *buffer[SL_STREAM_ARRAYS]; /* begin at a block */
	char *data[SL_STREAM_ARRAYS];   /* columns, values, moments: in the buffer, or in host arrays */
	char *device[SL_STREAM_ARRAYS]; /* NULL: the backend computes on `data` */
	int32_t *device_offsets;
	void *event; /* the backend's: computed */
} sl_slot;

/* One array of a pass: read from `from`, and written to `to` where that has a file. */
typedef struct sl_stream_array {
	sl_place from, to;
	size_t size;                         /* of an element */
	struct sl_sums *sums_from, *sums_to; /* checksums of what is read and written; NULL: none */
	int first_sum;                       /* the array's first segment in them */
} sl_stream_array;

typedef struct sl_pass sl_pass;
struct sl_pass {
	/* Set by the caller. */
	sl_context *context;
	sl_source *source;
	const sl_disk *disk;
	sl_stream_array array[SL_STREAM_ARRAYS];
	int arrays;
	bool writes;
	sl_stream_sizes sizes;
	int64_t cut_columns; /* a row longer than a piece is cut at their multiples, so that its bits stay; 0: anywhere */
	sl_stream_report *report; /* added to */
	const sl_stream_options *options;
	sl_status (*compute)(sl_pass *pass, sl_slot *slot, const sl_chunk *chunk);
	void *user;
	int64_t total_bytes, done_bytes; /* for progress */
	double began;
	/* Own. */
	char *memory; /* of the slots */
	size_t memory_bytes;
	char *device_memory;
	size_t device_bytes;
	struct sl_ring *ring;
};
/* Memory for the slots, shrunk when it cannot be had: fewer entries, with a line in the log. */
sl_status sli_pass_open(sl_pass *pass, const sl_stream_demand *demand, size_t available);
sl_status sli_pass_run(sl_pass *pass);
void sli_pass_close(sl_pass *pass);

/* What may be held now: the budgets less what is held already. 0: no limit. */
size_t sli_stream_available(sl_context *context, const sl_stream_options *options);

/* Products. Checked by the caller; views in op orientation. `planned`: the batch that decides by which kernels, where
 * it is larger than this one, so that a plan's smaller batches have its bits. */
sl_status sli_stream_spmm(sl_context *context, double alpha, sl_source *source, const sl_dense *B, double beta,
						  const sl_dense *C, const sl_epilogue *epilogue, int64_t planned,
						  const sl_stream_options *options, sl_stream_report *report);

/* What the smallest chunks take; of the views only shapes and orders are read. */
sl_status sli_stream_spmm_least(sl_context *context, sl_source *source, const sl_dense *B, const sl_dense *C,
								const sl_epilogue *epilogue, const sl_stream_options *options, size_t *least);

/* What a backward over a streamed matrix does. Views in op orientation: dz [rows, batch], x [cols, batch]. */
typedef struct sl_stream_backward {
	double alpha, beta;
	int64_t planned;    /* as in sli_stream_spmm(); 0: this batch */
	sl_dense dz, x, dx; /* data NULL: without */
	void *values_out;   /* nnz elements in host memory, or NULL */
	double
		*squares; /* in backend memory: the sum of the squares of values_out is added, clamped to clip_value; or NULL */
	double clip_value;
	/* An update in the same pass: */
	const sl_update *update;
	int kind; /* sl_optimizer_kind */
	sl_place from[3], to[3];
	struct sl_sums *sums_from, *sums_to;
	int first_sum[3];
	int states;
} sl_stream_backward;
sl_status sli_stream_backward(sl_context *context, sl_source *source, const sl_stream_backward *what,
							  const sl_stream_options *options, sl_stream_report *report);
sl_status sli_stream_backward_least(sl_context *context, sl_source *source, const sl_stream_backward *what,
									const sl_stream_options *options, size_t *least);

/* Sources. */
sl_status sli_source_new(sl_source **source, sl_context *context, const char *path);
void sli_source_free(sl_source *source);

/* Record what a stage did, where the caller wants to know. */
void sli_stream_event(const sl_stream_options *options, sl_stream_report *report, sl_stream_stage stage, int64_t chunk,
					  double begin, double end, int64_t bytes);

#endif
