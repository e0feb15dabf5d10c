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
static sl_status choose_groups(sl_cpu *cpu, sl_blocks *b, const sl_pattern_arrays *s, int64_t n, bool samples) {
	enum { ROW_COST = 4 };
	/* A sample is summed over all tiles by one task, and so are tiles that share what is gathered. */
	bool one = samples || b->by_cell;
	int64_t threads = cpu->host->threads, tiles = one ? 1 : sli_ceil_div(n > 0 ? n : 1, b->vectors * SL_VECTOR);
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

/*
 * A group of rows is cut in three turns of all threads: pieces of rows at the ends of the blocks, then cell by cell the
 * rows sorted by length, then pieces of a cell's rows written. Each writes to places of its own that the turn before
 * fixed, so that the plan is the same however many there are.
 */
enum { CUT_ROWS = 64, WRITTEN_ROWS = 128, FEW_BLOCKS = 64, AT_ONCE = 8 };

typedef struct cutter {
	const sl_pattern_arrays *s;
	sl_blocks *b;
	const void *permutation;
	sl_dtype permutation_dtype;
	int32_t *cuts;    /* by block, and row of the largest group: where the block ends, from the row's begin */
	int32_t *buckets; /* by block, `lengths` each: rows by length, then where the rows of a length begin */
	int64_t *offsets; /* by block and piece of its rows: where the entries begin */
	int64_t most_rows, lengths, pieces;
	int64_t group, first, rows; /* the group at hand */
} cutter;

static int64_t row_begin(const cutter *c, int64_t row) {
	return sli_cpu_offset(c->s->row_offsets, c->s->offset_dtype, c->first + row);
}
static int64_t cut_before(const cutter *c, int64_t block, int64_t row) {
	return block ? c->cuts[(block - 1) * c->most_rows + row] : 0;
}
static int64_t length_of(const cutter *c, int64_t block, int64_t row) {
	return c->cuts[block * c->most_rows + row] - cut_before(c, block, row);
}

/* Of few blocks: each entry says where its block ends so far, without a branch an entry or a block. Columns are divided
 * by multiplying and shifting (Granlund and Montgomery 1994): rounding up is exact below 2^31 where the shift is 31 and
 * the divisor's bits. */
static void cut_few(const cutter *c, int64_t begin, int64_t end) {
	int32_t ends[FEW_BLOCKS] = {0};
	int64_t blocks = c->b->blocks, most = c->most_rows;
	int shift = 31;
	while (c->b->columns >> (shift - 31))
		shift++;
	uint64_t factor = ((UINT64_C(1) << shift) + (uint64_t)c->b->columns - 1) / (uint64_t)c->b->columns;
	for (int64_t r = begin; r < end; r++) {
		int64_t first = row_begin(c, r), count = row_begin(c, r + 1) - first;
		const int32_t *columns = c->s->col_indices + first;
		int32_t *cuts = c->cuts + r, stop = 0;
		for (int64_t k = 0; k < count && blocks > 1; k++)
			ends[(uint64_t)columns[k] * factor >> shift] = (int32_t)k + 1;
		ends[blocks - 1] = (int32_t)count;
		for (int64_t block = 0; block < blocks; block++) {
			stop = ends[block] > stop ? ends[block] : stop;
			ends[block] = 0;
			cuts[block * most] = stop;
		}
	}
}

static void cut_rows(void *argument, size_t index) {
	const cutter *c = argument;
	int64_t begin = (int64_t)index * CUT_ROWS, end = begin + CUT_ROWS < c->rows ? begin + CUT_ROWS : c->rows;
	if (c->b->blocks <= FEW_BLOCKS) {
		cut_few(c, begin, end);
		return;
	}
	for (int64_t r = begin; r < end; r++) {
		int64_t first = row_begin(c, r), count = row_begin(c, r + 1) - first, k = 0;
		const int32_t *columns = c->s->col_indices + first;
		for (int64_t block = 0; block < c->b->blocks - 1; block++) {
			int64_t stop = (block + 1) * c->b->columns;
			while (k < count && columns[k] < stop)
				k++;
			c->cuts[block * c->most_rows + r] = (int32_t)k;
		}
		c->cuts[(c->b->blocks - 1) * c->most_rows + r] = (int32_t)count;
	}
}

static bool keeps_empty(const sl_blocks *b, int64_t block) {
	return block == 0 || block == b->blocks - 1;
}

/* A cell's rows by length; returns the greatest. */
static int64_t count_lengths(const cutter *c, int64_t block, int32_t *buckets) {
	int64_t most = 0;
	memset(buckets, 0, (size_t)c->lengths * sizeof *buckets);
	for (int64_t r = 0; r < c->rows; r++) {
		int64_t length = length_of(c, block, r);
		buckets[length]++;
		most = length > most ? length : most;
	}
	return most;
}

/* What a cell will hold, to the places behind it in the arrays of beginnings. */
static void count_cell(void *argument, size_t index) {
	const cutter *c = argument;
	sl_blocks *b = c->b;
	int64_t block = (int64_t)index, cell = c->group * b->blocks + block, classes = 0, entries = 0;
	int32_t *buckets = c->buckets + block * c->lengths;
	int64_t most = count_lengths(c, block, buckets);
	for (int64_t l = most; l >= (keeps_empty(b, block) ? 0 : 1); l--)
		classes += buckets[l] != 0;
	for (int64_t l = 1; l <= most; l++)
		entries += l * buckets[l];
	b->first_offset[cell + 1] = entries;
	b->first_row[cell + 1] = keeps_empty(b, block) ? c->rows : c->rows - buckets[0];
	b->first_class[cell + 1] = classes;
}

/* Sort the rows of a cell by falling length (a counting sort, so rows of one length stay in order). */
static void sort_cell(void *argument, size_t index) {
	const cutter *c = argument;
	sl_blocks *b = c->b;
	int64_t block = (int64_t)index, cell = c->group * b->blocks + block, place = 0;
	int32_t *buckets = c->buckets + block * c->lengths;
	int64_t kept = b->first_row[cell + 1] - b->first_row[cell], offset = b->first_offset[cell];
	sl_block_row *rows = b->row + b->first_row[cell];
	sl_row_class *class = b->classes + b->first_class[cell];
	/* One group's are still there from when it was counted. */
	int64_t most = b->groups > 1 ? count_lengths(c, block, buckets) : c->lengths - 1;
	for (int64_t l = most; l >= 0; l--) {
		int32_t count = buckets[l];
		if (count && (l || keeps_empty(b, block)))
			*class ++ = (sl_row_class){(int32_t)l, count};
		buckets[l] = (int32_t)place;
		place += count;
	}
	for (int64_t r = 0; r < c->rows; r++) {
		int64_t at = buckets[length_of(c, block, r)]++;
		if (at < kept)
			rows[at] = (sl_block_row){(int32_t)r, 0};
	}
	for (int64_t i = 0; i < kept; i++) {
		int64_t r = rows[i].row;
		if (i % WRITTEN_ROWS == 0)
			c->offsets[block * c->pieces + i / WRITTEN_ROWS] = offset;
		rows[i] = (sl_block_row){(int32_t)(c->first + r),
								 (int32_t)(b->gather ? offset : row_begin(c, r) + cut_before(c, block, r))};
		offset += length_of(c, block, r);
	}
}

/* Offsets of `count` entries from `from` on, and where their values come from. */
static void write_wide(const cutter *c, int64_t from, int64_t count, int32_t base, int64_t offset) {
	uint32_t *to = (uint32_t *)c->b->offsets + offset, stride = c->b->vectors * SL_VECTOR * (uint32_t)sizeof(float);
	for (int64_t k = 0; k < count; k++)
		to[k] = (uint32_t)(c->s->col_indices[from + k] - base) * stride;
}

static void write_gather(const cutter *c, int64_t from, int64_t count, int64_t offset) {
	for (int64_t k = 0; k < count; k++)
		c->b->gather[offset + k] = (int32_t)sli_cpu_offset(c->permutation, c->permutation_dtype, from + k);
}

/* Few entries, as most rows have in a block: always AT_ONCE of them, as there is room, and what is too much is written
 * over by the row that follows. Offsets fit 16 bits, so they are computed in as many. */
static void write_few(const cutter *c, int64_t from, int32_t base, uint16_t *to, int32_t *gather) {
	uint16_t stride = (uint16_t)(c->b->vectors * SL_VECTOR * (int)sizeof(float));
	const int32_t *columns = c->s->col_indices + from;
	for (int k = 0; k < AT_ONCE; k++)
		to[k] = (uint16_t)((uint16_t)(columns[k] - base) * (unsigned)stride);
	if (gather)
		memcpy(gather, (const int32_t *)c->permutation + from, AT_ONCE * sizeof *gather);
}

static void write_narrow(const cutter *c, int64_t from, int64_t count, int32_t base, int64_t offset, int64_t room) {
	uint16_t *to = (uint16_t *)c->b->offsets + offset,
			 stride = (uint16_t)(c->b->vectors * SL_VECTOR * (int)sizeof(float));
	if (count <= AT_ONCE && room >= AT_ONCE && from + AT_ONCE <= c->s->nnz &&
		(!c->b->gather || c->permutation_dtype == SL_I32)) {
		write_few(c, from, base, to, c->b->gather ? c->b->gather + offset : NULL);
		return;
	}
	for (int64_t k = 0; k < count; k++)
		to[k] = (uint16_t)((unsigned)(c->s->col_indices[from + k] - base) * stride);
	if (c->b->gather)
		write_gather(c, from, count, offset);
}

static void write_entries(void *argument, size_t index) {
	const cutter *c = argument;
	sl_blocks *b = c->b;
	int64_t block = (int64_t)index / c->pieces, piece = (int64_t)index % c->pieces, cell = c->group * b->blocks + block;
	int64_t begin = b->first_row[cell] + piece * WRITTEN_ROWS, end = begin + WRITTEN_ROWS;
	int32_t base = (int32_t)(block * b->columns);
	bool last = end >= b->first_row[cell + 1];
	end = last ? b->first_row[cell + 1] : end;
	int64_t offset = begin < end ? c->offsets[index] : 0;
	int64_t stop = last ? b->first_offset[cell + 1] : c->offsets[index + 1];
	for (int64_t i = begin; i < end; i++) {
		int64_t r = b->row[i].row - c->first, from = row_begin(c, r) + cut_before(c, block, r);
		int64_t count = length_of(c, block, r);
		if (b->wide) {
			write_wide(c, from, count, base, offset);
			if (b->gather)
				write_gather(c, from, count, offset);
		} else {
			write_narrow(c, from, count, base, offset, stop - offset);
		}
		offset += count;
	}
}

static void each_group(sl_cpu *cpu, cutter *c, bool write) {
	const sl_host *host = cpu->host;
	sl_blocks *b = c->b;
	for (int64_t g = 0; g < b->groups; g++) {
		c->group = g;
		c->first = b->group[g];
		c->rows = b->group[g + 1] - b->group[g];
		if (!write || b->groups > 1) /* one group is still cut from when it was counted */
			host->parallel(host->user, (size_t)sli_ceil_div(c->rows, CUT_ROWS), cut_rows, c);
		host->parallel(host->user, (size_t)b->blocks, write ? sort_cell : count_cell, c);
		if (write)
			host->parallel(host->user, (size_t)(b->blocks * c->pieces), write_entries, c);
	}
}

/* Counts of cells to where they begin. */
static void place_cells(sl_blocks *b) {
	int64_t cells = b->groups * b->blocks;
	b->first_offset[0] = b->first_row[0] = b->first_class[0] = 0;
	for (int64_t i = 0; i < cells; i++) {
		b->largest_cell = b->first_offset[i + 1] > b->largest_cell ? b->first_offset[i + 1] : b->largest_cell;
		b->first_offset[i + 1] += b->first_offset[i];
		b->first_row[i + 1] += b->first_row[i];
		b->first_class[i + 1] += b->first_class[i];
	}
	b->row_count = b->first_row[cells];
	b->class_count = b->first_class[cells];
}

static bool build(sl_cpu *cpu, cutter *c) {
	sl_blocks *b = c->b;
	int64_t cells = b->groups * b->blocks + 1;
	b->first_offset = take(cpu, cells, sizeof *b->first_offset);
	b->first_row = b->first_offset ? take(cpu, cells, sizeof *b->first_row) : NULL;
	b->first_class = b->first_row ? take(cpu, cells, sizeof *b->first_class) : NULL;
	if (!b->first_class)
		return false;
	each_group(cpu, c, false);
	place_cells(b);
	b->offsets = take(cpu, b->nnz, offset_size(b));
	b->row = b->offsets ? take(cpu, b->row_count + SL_ROWS_AHEAD, sizeof *b->row) : NULL;
	b->classes = b->row ? take(cpu, b->class_count, sizeof *b->classes) : NULL;
	if (b->classes && c->permutation)
		b->gather = take(cpu, b->nnz, sizeof *b->gather);
	if (!b->classes || (c->permutation && !b->gather))
		return false;
	each_group(cpu, c, true);
	memset(b->row + b->row_count, 0, SL_ROWS_AHEAD * sizeof *b->row);
	return true;
}

/* With room for the largest group. */
static bool cut(sl_cpu *cpu, sl_blocks *b, const sl_pattern_arrays *s, const void *permutation,
				sl_dtype permutation_dtype) {
	cutter c = {.s = s, .b = b, .permutation = permutation, .permutation_dtype = permutation_dtype};
	for (int64_t g = 0; g < b->groups; g++)
		c.most_rows = b->group[g + 1] - b->group[g] > c.most_rows ? b->group[g + 1] - b->group[g] : c.most_rows;
	/* A row has at most as many entries in a block as the block has columns. */
	c.lengths = (b->columns < s->cols ? b->columns : s->cols) + 1;
	c.pieces = sli_ceil_div(c.most_rows ? c.most_rows : 1, WRITTEN_ROWS);
	c.cuts = take(cpu, b->blocks * c.most_rows, sizeof *c.cuts);
	c.buckets = c.cuts ? take(cpu, b->blocks * c.lengths, sizeof *c.buckets) : NULL;
	c.offsets = c.buckets ? take(cpu, b->blocks * c.pieces, sizeof *c.offsets) : NULL;
	bool built = c.offsets && build(cpu, &c);
	give(cpu, c.cuts, b->blocks * c.most_rows, sizeof *c.cuts);
	give(cpu, c.buckets, b->blocks * c.lengths, sizeof *c.buckets);
	give(cpu, c.offsets, b->blocks * c.pieces, sizeof *c.offsets);
	return built;
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
		built = choose_groups(cpu, b, s, n, kernel->kind == SL_OP_SDDMM) == SL_OK &&
				cut(cpu, b, s, permutation, permutation_dtype);
	}
	if (built)
		return b;
	sli_blocks_destroy(cpu, b);
	host->fail(host->user, SL_ERR_MEMORY, "no memory for the product's plan");
	return NULL;
}
