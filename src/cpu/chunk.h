/* SPDX-License-Identifier: Apache-2.0 */
/* How chunks of a streamed matrix are computed: as the product in memory would compute the whole, so that its bits are
 * the same. Nothing here depends on the chunk but the memory that it takes. */
#ifndef SL_CPU_CHUNK_H
#define SL_CPU_CHUNK_H

#include <stdatomic.h>

#include "cpu/blocks.h"

typedef enum sl_chunk_how {
	SL_CHUNK_ROWS = 0, /* kernels over rows (products.c) */
	SL_CHUNK_SMALL,    /* small.c */
	SL_CHUNK_BLOCKS    /* blocked.c */
} sl_chunk_how;

typedef struct sl_chunk_way {
	sl_chunk_how how;
	const sl_kernel *kernel;
	int64_t width;          /* of panels */
	sl_blocks shape;        /* BLOCKS: how wide a tile and a block are */
	int64_t columns, parts; /* else: into what rows are cut; parts 1: not cut */
	bool cut;               /* ... and whether the product runs block by block, or only the transposed one */
	bool unpadded;          /* ROWS: a last panel that is not full is computed without its padding */
	bool sampled;           /* BACKWARD: values are wanted */
	bool ordered;           /* BLOCKS: offsets are put in the order of the rows, which pays where tiles share them */
} sl_chunk_way;

/* Rows of a chunk, cut into blocks for blocked.c. */
typedef struct sl_chunk_group {
	sl_blocks blocks;      /* of these rows alone */
	int64_t bounds[2];     /* blocks.group */
	int64_t *first_record; /* blocks + 1: where the records of each block begin */
} sl_chunk_group;

/* A row's entries in a block. */
typedef struct sl_chunk_record {
	int32_t row, begin, end;
} sl_chunk_record;

typedef struct sl_chunk_blocks {
	const sl_chunk_way *way;
	const sl_pattern_arrays *s;
	bool sorted; /* the blocks are wanted, not the records alone */
	int groups;
	sl_chunk_group *group;
	sl_chunk_record *record; /* block by block, and within one row after row */
	int64_t *bases;          /* by group, and the end: where its records may begin */
	char *
		offsets; /* entry after entry as in the chunk; rows are moved apart by `skew` elements, groups by SL_CUT_MORE */
	char *ordered; /* the same in the order of the blocks' rows; or NULL */
	int64_t skew;
	int32_t *runs; /* a group's blocks, and where each run begins; later its rows of the blocks */
	sl_row_class *classes;
	char *scratch;
	size_t scratch_bytes; /* a group's */
	const sl_kernel *cut;
	atomic_llong bad_row; /* first row that is not valid, or -1 */
} sl_chunk_blocks;

/* Rows that are cut into blocks of `width` columns. sl_cut_row may write up to SL_CUT_MORE elements beyond what it
 * says.
 */
enum { SL_CUT_MORE = 16 };
struct sl_cut_task {
	const int32_t *columns;
	int64_t cols; /* of the matrix */
	int32_t width;
	int64_t blocks;
	int32_t stride; /* an entry's offset is its column, counted from the block's first, times this */
	bool wide;
};

/* Bytes for chunks of so many rows and entries. */
size_t sli_chunk_blocks_bytes(const sl_cpu *cpu, const sl_chunk_way *way, int64_t rows, int64_t entries);
/* Check the chunk's columns and cut it; b->way, s and sorted are given. */
void sli_chunk_blocks_cut(sl_cpu *cpu, sl_chunk_blocks *b, int64_t n, void *workspace);

/* Columns increase within the row and lie inside the matrix. */
static inline bool sli_row_valid(const int32_t *columns, int64_t count, int64_t cols) {
	int bad = 0;
	if (!count)
		return true;
	for (int64_t k = 1; k < count; k++)
		bad |= columns[k] <= columns[k - 1];
	return !bad && columns[0] >= 0 && columns[count - 1] < cols;
}

/* bounds[0..groups]: rows of about the same number of entries, found in the offsets. */
void sli_chunk_share_out(const sl_pattern_arrays *s, int groups, int64_t *bounds);

#endif
