/* SPDX-License-Identifier: Apache-2.0 */
/* A sparse matrix cut into blocks of columns and groups of rows (blocks.h). */
#include "cpu/blocks.h"

#include "cpu/products.h"

enum {
	NARROW_BYTES_AVX512 = 40 << 10, /* of a block's rows of the panel, in L1 */
	NARROW_BYTES_AVX2 = 28 << 10,
	WIDE_BYTES = 512 << 10, /* the same in L2, where rows are too short to be cut further */
	GROUP_BYTES = 256 << 10 /* of a group's rows of the output, in L2 */
};

static void *take(sl_cpu *cpu, int64_t count, size_t size) {
	return cpu->host->allocate(cpu->host->user, (size_t)(count ? count : 1) * size);
}

static void give(sl_cpu *cpu, void *data, int64_t count, size_t size) {
	if (data)
		cpu->host->release(cpu->host->user, data, (size_t)(count ? count : 1) * size);
}

static size_t offset_size(const sl_blocks *b) {
	return b->wide ? sizeof(uint32_t) : sizeof(uint16_t);
}

void sli_blocks_destroy(sl_cpu *cpu, sl_blocks *b) {
	if (!b)
		return;
	int64_t cells = b->groups * b->blocks + 1;
	give(cpu, b->group, b->groups + 1, sizeof *b->group);
	give(cpu, b->first_offset, cells, sizeof *b->first_offset);
	give(cpu, b->first_row, cells, sizeof *b->first_row);
	give(cpu, b->first_class, cells, sizeof *b->first_class);
	give(cpu, b->offsets, b->nnz, offset_size(b));
	give(cpu, b->row, b->row_count + SL_ROWS_AHEAD, sizeof *b->row);
	give(cpu, b->classes, b->class_count, sizeof *b->classes);
	give(cpu, b->gather, b->nnz, sizeof *b->gather);
	cpu->host->release(cpu->host->user, b, sizeof *b);
}

/* Only the pattern, the planned batch and the kernel decide: the bits depend on it. */
void sli_blocks_shape(sl_blocks *b, const sl_pattern_arrays *s, int64_t width, int64_t n, sl_op_kind kind, sl_isa isa) {
	/* Below so many entries of a row in a block, blocks of L2: a sample reads no output a block, but reduces more. */
	enum { ENTRIES_SPMM = 5, ENTRIES_SDDMM = 12 };
	double density = s->rows && s->cols ? (double)s->nnz / (double)s->rows / (double)s->cols : 0;
	bool avx512 = isa == SL_ISA_AVX512;
	int64_t bytes = avx512 ? NARROW_BYTES_AVX512 : NARROW_BYTES_AVX2;
	bool samples = kind == SL_OP_SDDMM;
	b->vectors = (int)(width / SL_VECTOR);
	int64_t vectors = sli_ceil_div(n, SL_VECTOR);
	/* Tiles of up to two panels, where rows have so many entries that fewer of them a block do not matter. */
	if (avx512 && b->vectors == 4 && vectors > 4 && (vectors <= 8 || vectors >= 16) &&
		density >= (samples ? 0.1 : 0.28))
		b->vectors = (int)(vectors < 8 ? vectors : 8);
	int64_t stride = b->vectors * SL_VECTOR * (int64_t)sizeof(float);
	b->columns = bytes / stride;
	b->wide = density * (double)b->columns < (samples ? ENTRIES_SDDMM : ENTRIES_SPMM) && s->cols > b->columns &&
			  b->vectors * SL_VECTOR == width;
	if (b->wide)
		b->columns = WIDE_BYTES / stride;
	b->blocks = s->cols ? sli_ceil_div(s->cols, b->columns) : 1;
}

int64_t sli_blocks_group_rows(const sl_blocks *b) {
	return GROUP_BYTES / (b->vectors * SL_VECTOR * (int64_t)sizeof(float));
}

int64_t sli_blocks_even_groups(int64_t groups, int64_t rows, int64_t tiles, int64_t threads) {
	while (threads > 1 && tiles * groups % threads && tiles * groups < 4 * threads &&
		   rows / (groups + 1) >= SL_LEAST_GROUP_ROWS)
		groups++;
	return groups;
}

/* Groups of rows with about the same work, enough of them for the threads, few enough to reuse a block. */
static sl_status choose_groups(sl_cpu *cpu, sl_blocks *b, const sl_pattern_arrays *s, int64_t n) {
	enum { ROW_COST = 4 };
	int64_t threads = cpu->host->threads, tiles = b->by_cell ? 1 : sli_ceil_div(n > 0 ? n : 1, b->vectors * SL_VECTOR);
	b->groups =
		sli_blocks_even_groups(sli_ceil_div(s->rows ? s->rows : 1, sli_blocks_group_rows(b)), s->rows, tiles, threads);
	b->group = take(cpu, b->groups + 1, sizeof *b->group);
	if (!b->group)
		return SL_ERR_MEMORY;
	double all = (double)s->nnz + (double)ROW_COST * (double)s->rows;
	int64_t row = 0;
	for (int64_t g = 0; g < b->groups; g++) {
		b->group[g] = row;
		while (row < s->rows &&
			   (double)sli_cpu_offset(s->row_offsets, s->offset_dtype, row) + (double)ROW_COST * (double)row <
				   all * (double)(g + 1) / (double)b->groups)
			row++;
	}
	b->group[b->groups] = s->rows;
	return SL_OK;
}

typedef struct cutter {
	const sl_pattern_arrays *s;
	sl_blocks *b;
	int64_t *at;      /* by row of the group: how far it was cut */
	int64_t *length;  /* by row of the group: entries in the block */
	int64_t *buckets; /* rows by length, then where the rows of a length begin */
	int32_t *order;
	int64_t offset, row, class;
} cutter;

/* Sort the rows of a cell by falling length (a counting sort, so rows of one length stay in order), append them. */
static void append_cell(cutter *c, int64_t g, int64_t block, bool keep_empty, bool count_only) {
	sl_blocks *b = c->b;
	int64_t rows = b->group[g + 1] - b->group[g], first = b->group[g], end = (block + 1) * b->columns;
	int64_t most = 0;
	for (int64_t r = 0; r < rows; r++) {
		int64_t limit = sli_cpu_offset(c->s->row_offsets, c->s->offset_dtype, first + r + 1), k = c->at[r];
		while (k < limit && c->s->col_indices[k] < end)
			k++;
		c->length[r] = k - c->at[r];
		most = c->length[r] > most ? c->length[r] : most;
		c->at[r] = k;
	}
	memset(c->buckets, 0, (size_t)(most + 2) * sizeof *c->buckets);
	for (int64_t r = 0; r < rows; r++)
		c->buckets[c->length[r]]++;
	int64_t kept = keep_empty ? rows : rows - c->buckets[0];
	for (int64_t l = most; l >= (keep_empty ? 0 : 1); l--)
		if (c->buckets[l]) {
			if (!count_only)
				b->classes[c->class] = (sl_row_class){(int32_t)l, (int32_t)c->buckets[l]};
			c->class ++;
		}
	if (count_only) {
		c->row += kept;
		return;
	}
	int64_t place = 0;
	for (int64_t l = most; l >= 0; l--) {
		int64_t count = c->buckets[l];
		c->buckets[l] = place;
		place += count;
	}
	for (int64_t r = 0; r < rows; r++)
		c->order[c->buckets[c->length[r]]++] = (int32_t)r;
	int64_t stride = b->vectors * SL_VECTOR * (int64_t)sizeof(float), base = block * b->columns;
	for (int64_t i = 0; i < kept; i++) {
		int64_t r = c->order[i], from = c->at[r] - c->length[r];
		b->row[c->row++] = (sl_block_row){(int32_t)(first + r), (int32_t)(b->gather ? c->offset : from)};
		for (int64_t k = from; k < c->at[r]; k++, c->offset++) {
			int64_t bytes = (c->s->col_indices[k] - base) * stride;
			if (b->wide)
				((uint32_t *)b->offsets)[c->offset] = (uint32_t)bytes;
			else
				((uint16_t *)b->offsets)[c->offset] = (uint16_t)bytes;
			if (b->gather)
				b->gather[c->offset] = (int32_t)k; /* of the structure; the permutation comes behind it */
		}
	}
}

static void cut(cutter *c, bool count_only) {
	sl_blocks *b = c->b;
	c->offset = c->row = c->class = 0;
	for (int64_t g = 0; g < b->groups; g++) {
		for (int64_t r = b->group[g]; r < b->group[g + 1]; r++)
			c->at[r - b->group[g]] = sli_cpu_offset(c->s->row_offsets, c->s->offset_dtype, r);
		for (int64_t block = 0; block < b->blocks; block++) {
			int64_t cell = g * b->blocks + block;
			if (!count_only) {
				b->first_offset[cell] = c->offset;
				b->first_row[cell] = c->row;
				b->first_class[cell] = c->class;
			}
			int64_t before = c->offset;
			append_cell(c, g, block, block == 0 || block == b->blocks - 1, count_only);
			b->largest_cell = c->offset - before > b->largest_cell ? c->offset - before : b->largest_cell;
		}
	}
	if (!count_only) {
		int64_t cell = b->groups * b->blocks;
		b->first_offset[cell] = c->offset;
		b->first_row[cell] = c->row;
		b->first_class[cell] = c->class;
	}
}

static bool build(sl_cpu *cpu, cutter *c, const void *permutation, sl_dtype permutation_dtype) {
	sl_blocks *b = c->b;
	int64_t cells = b->groups * b->blocks + 1;
	cut(c, true);
	b->row_count = c->row;
	b->class_count = c->class;
	b->first_offset = take(cpu, cells, sizeof *b->first_offset);
	b->first_row = b->first_offset ? take(cpu, cells, sizeof *b->first_row) : NULL;
	b->first_class = b->first_row ? take(cpu, cells, sizeof *b->first_class) : NULL;
	b->offsets = b->first_class ? take(cpu, b->nnz, offset_size(b)) : NULL;
	b->row = b->offsets ? take(cpu, b->row_count + SL_ROWS_AHEAD, sizeof *b->row) : NULL;
	b->classes = b->row ? take(cpu, b->class_count, sizeof *b->classes) : NULL;
	if (!b->classes)
		return false;
	if (permutation) {
		b->gather = take(cpu, b->nnz, sizeof *b->gather);
		if (!b->gather)
			return false;
	}
	cut(c, false);
	memset(b->row + b->row_count, 0, SL_ROWS_AHEAD * sizeof *b->row);
	for (int64_t i = 0; permutation && i < b->nnz; i++)
		b->gather[i] = (int32_t)sli_cpu_offset(permutation, permutation_dtype, b->gather[i]);
	return true;
}

sl_blocks *sli_blocks_create(sl_cpu *cpu, const sl_pattern_arrays *s, const void *permutation,
							 sl_dtype permutation_dtype, int64_t width, int64_t n, const sl_kernel *kernel) {
	const sl_host *host = cpu->host;
	sl_blocks *b = host->allocate(host->user, sizeof *b);
	bool built = false;
	if (b) {
		*b = (sl_blocks){.rows = s->rows, .nnz = s->nnz};
		sli_blocks_shape(b, s, width, n, kernel->kind, kernel->isa);
		b->by_cell = permutation && n <= 2 * b->vectors * SL_VECTOR;
		if (choose_groups(cpu, b, s, n) == SL_OK) {
			int64_t rows = 0;
			for (int64_t g = 0; g < b->groups; g++)
				rows = b->group[g + 1] - b->group[g] > rows ? b->group[g + 1] - b->group[g] : rows;
			/* A row has at most as many entries in a block as the block has columns. */
			int64_t lengths = (b->columns < s->cols ? b->columns : s->cols) + 2;
			size_t bytes = (size_t)(2 * rows + lengths) * sizeof(int64_t) + (size_t)rows * sizeof(int32_t) + 64;
			int64_t *scratch = host->allocate(host->user, bytes);
			if (scratch) {
				cutter c = {.s = s, .b = b, .at = scratch, .length = scratch + rows, .buckets = scratch + 2 * rows};
				c.order = (int32_t *)(c.buckets + lengths);
				built = build(cpu, &c, permutation, permutation_dtype);
				host->release(host->user, scratch, bytes);
			}
		}
	}
	if (built)
		return b;
	sli_blocks_destroy(cpu, b);
	host->fail(host->user, SL_ERR_MEMORY, "no memory for the product's plan");
	return NULL;
}
