/* SPDX-License-Identifier: Apache-2.0 */
/* A chunk of a streamed matrix, cut into blocks of columns for blocked.c as the whole matrix would be. It is done anew
 * for each chunk of each pass, so columns are walked over once, and all groups run at once; what is found for an entry
 * stays where the entry is, unless many tiles of the batch go over it. blocks.c, which cuts a matrix once for many
 * products, looks at each row in each block and puts entries in the order in which they are needed. */
#include "cpu/chunk.h"
#include "cpu/products.h"

enum { MOST_GROUPS = 4096 };

static int64_t most_groups(const sl_cpu *cpu, const sl_chunk_way *way, int64_t rows) {
	int64_t groups = sli_ceil_div(rows, sli_blocks_group_rows(&way->shape)) + 4 * cpu->host->threads;
	return groups < MOST_GROUPS ? groups : MOST_GROUPS;
}

/* A row has at most as many runs of entries in one block as it has entries, or as there are blocks; the first and the
 * last block have one of every row. */
static int64_t most_records(const sl_chunk_way *way, int64_t rows, int64_t entries) {
	int64_t all = rows * way->shape.blocks;
	return (all < entries ? all : entries) + 2 * rows;
}

/* Rows of one length are a class. A cell of e entries has at most 1 + sqrt(2 e) lengths, the cells of a group of E
 * entries together at most blocks + sqrt(2 E blocks) <= E / 128 + 65 blocks. */
static int64_t most_classes(const sl_chunk_way *way, int64_t groups, int64_t entries) {
	return entries / 128 + groups * (65 * way->shape.blocks + 1);
}

static size_t offset_size(const sl_chunk_way *way) {
	return way->shape.wide ? sizeof(uint32_t) : sizeof(uint16_t);
}

/* Rows of a power of two would lie on top of each other in the caches: a line between long ones. */
static int64_t skew_of(const sl_chunk_way *way, int64_t rows, int64_t entries) {
	enum { LONG = 256, LINE = 64 };
	return entries >= LONG * rows ? (int64_t)(LINE / offset_size(way)) : 0;
}

/* For all chunks of at most so many entries. */
static int64_t most_offsets(const sl_chunk_way *way, int64_t groups, int64_t entries) {
	return entries + (groups + 1) * SL_CUT_MORE + entries / 256 * skew_of(way, 0, 0);
}

/* A group's: cells of blocks.h and of the records, counts, and rows by length. */
static size_t scratch_size(const sl_chunk_way *way, int64_t cols) {
	int64_t lengths = (way->shape.columns < cols ? way->shape.columns : cols) + 2;
	return sli_align64(((size_t)(way->shape.blocks + 1) * 5 + 2 * (size_t)lengths) * sizeof(int64_t));
}

typedef struct sizes {
	size_t group, bases, record, runs, offsets, ordered, classes, scratch;
} sizes;

static sizes sizes_of(const sl_cpu *cpu, const sl_chunk_way *way, int64_t rows, int64_t entries, int64_t cols) {
	int64_t groups = most_groups(cpu, way, rows), records = most_records(way, rows, entries) + groups * SL_CUT_MORE;
	return (sizes){.group = sli_align64((size_t)groups * sizeof(sl_chunk_group)),
				   .bases = sli_align64((size_t)(groups + 1) * sizeof(int64_t)),
				   .record = sli_align64((size_t)records * sizeof(sl_chunk_record)),
				   .runs = sli_align64((size_t)records * sizeof(sl_block_row)),
				   .offsets = sli_align64((size_t)most_offsets(way, groups, entries) * offset_size(way)),
				   .ordered = way->ordered ? sli_align64((size_t)(entries + SL_CUT_MORE) * offset_size(way)) : 0,
				   .classes = sli_align64((size_t)most_classes(way, groups, entries) * sizeof(sl_row_class)),
				   .scratch = (size_t)groups * scratch_size(way, cols)};
}

size_t sli_chunk_blocks_bytes(const sl_cpu *cpu, const sl_chunk_way *way, int64_t rows, int64_t entries) {
	sizes z = sizes_of(cpu, way, rows, entries, way->shape.blocks * way->shape.columns);
	return z.group + z.bases + z.runs + z.record + z.offsets + z.ordered + z.classes + z.scratch;
}

void sli_chunk_share_out(const sl_pattern_arrays *s, int groups, int64_t *bounds) {
	const int32_t *offsets = s->row_offsets;
	for (int g = 0; g <= groups; g++) {
		int64_t low = g ? bounds[g - 1] : 0, high = s->rows, share = s->nnz * g / groups;
		if (g == groups)
			low = high;
		while (low < high) {
			int64_t middle = low + (high - low) / 2;
			if (offsets[middle] < share)
				low = middle + 1;
			else
				high = middle;
		}
		bounds[g] = low;
	}
	bounds[0] = 0;
}

/* Enough groups for the threads to share, and tasks that split evenly. */
static int choose_groups(const sl_cpu *cpu, const sl_chunk_way *way, int64_t rows, int64_t n) {
	int64_t threads = cpu->host->threads, shared = rows / SL_LEAST_GROUP_ROWS;
	int64_t least = shared < threads ? shared : threads;
	int64_t groups = sli_ceil_div(rows, sli_blocks_group_rows(&way->shape));
	groups = sli_blocks_even_groups(groups > least ? groups : least, rows,
									sli_ceil_div(n > 0 ? n : 1, way->shape.vectors * SL_VECTOR), threads);
	return groups < 1 ? 1 : groups < MOST_GROUPS ? (int)groups : MOST_GROUPS;
}

/* What a group works with: of each block, and the end, the cell of blocks.h, its records, how many; by length. */
typedef struct cell_memory {
	int64_t *row, *class, *record, *count, *offset;
	int64_t *lengths, *places;
} cell_memory;

static cell_memory memory_of(const sl_chunk_blocks *b, int64_t g) {
	int64_t cells = b->way->shape.blocks + 1, *at = (int64_t *)(void *)(b->scratch + (size_t)g * b->scratch_bytes);
	int64_t *lengths = at + 5 * cells;
	return (cell_memory){
		at, at + cells, at + 2 * cells, at + 3 * cells, at + 4 * cells, lengths, lengths + b->way->shape.columns + 2};
}

/* Of each row the runs of entries that lie in one block: which, and where they begin. The first and the last block have
 * a run of each row, which may be empty. -1: a row is not valid. */
static int64_t find_runs(sl_chunk_blocks *b, int64_t g, const sl_cut_task *task, const cell_memory *m) {
	const int32_t *offsets = b->s->row_offsets;
	int32_t *block = b->runs + 2 * b->bases[g], *begin = block + (b->bases[g + 1] - b->bases[g]),
			last = (int32_t)(task->blocks - 1);
	size_t size = offset_size(b->way);
	char *out = b->offsets + (size_t)(g * SL_CUT_MORE) * size;
	int64_t n = 0;
	for (int64_t r = b->group[g].bounds[0]; r < b->group[g].bounds[1]; r++) {
		int32_t from = offsets[r], to = offsets[r + 1];
		int64_t first = n, had = from == to || task->columns[from] >= task->width;
		block[n] = 0;
		begin[n] = from;
		n += had;
		int64_t found =
			b->cut->cut_row(task, from, to, block + n, begin + n, out + (size_t)(from + r * b->skew) * size);
		if (found < 0) {
			long long none = -1;
			atomic_compare_exchange_strong(&b->bad_row, &none, (long long)r);
			return -1;
		}
		n += found;
		if (block[n - 1] != last) {
			block[n] = last;
			begin[n++] = to;
		}
		begin[n] = to;
		for (int64_t i = first; i < n; i++)
			m->count[block[i]]++;
	}
	return n;
}

/* The runs by block, and where each block's begin. A run ends where the next begins. */
static void place_records(sl_chunk_blocks *b, int64_t g, const sl_cut_task *task, const cell_memory *m, int64_t runs) {
	int64_t blocks = task->blocks, base = b->bases[g], at = base;
	const int32_t *block = b->runs + 2 * base, *begin = block + (b->bases[g + 1] - base);
	for (int64_t i = 0; i < blocks; i++) {
		m->record[i] = at;
		at += m->count[i];
		m->count[i] = m->record[i];
	}
	m->record[blocks] = at;
	int32_t row = (int32_t)b->group[g].bounds[0] - 1;
	for (int64_t i = 0; i < runs; i++) {
		int32_t to = block[i];
		row += to == 0;
		b->record[m->count[to]++] = (sl_chunk_record){row, begin[i], begin[i + 1]};
	}
}

/* The offsets of a block's rows to where those of their length go. */
static void order_offsets(const sl_chunk_blocks *b, int64_t g, const sl_chunk_record *record, int64_t count,
						  int64_t *places) {
	size_t size = offset_size(b->way);
	const char *from = b->offsets + (size_t)(g * SL_CUT_MORE) * size;
	for (int64_t i = 0; i < count; i++) {
		int32_t begin = record[i].begin, length = record[i].end - begin;
		memcpy(b->ordered + (size_t)places[length] * size, from + (size_t)(begin + record[i].row * b->skew) * size,
			   (size_t)length * size);
		places[length] += length;
	}
}

/* One block of the group: its rows sorted by falling length, those of one length in order, as blocks.c does. */
static void sort_block(sl_chunk_blocks *b, int64_t g, int64_t block, const cell_memory *m, int64_t *row,
					   int64_t *class) {
	const sl_chunk_record *record = b->record + m->record[block];
	int64_t count = m->record[block + 1] - m->record[block], at = *row, *lengths = m->lengths;
	sl_block_row *rows = (sl_block_row *)(void *)b->runs;
	int32_t most = 0;
	for (int64_t i = 0; i < count; i++) {
		int32_t length = record[i].end - record[i].begin;
		for (; most < length; most++)
			lengths[most + 1] = 0;
		lengths[length]++;
	}
	int64_t place = m->offset[block];
	for (int32_t l = most; l >= 0; l--) {
		int64_t same = lengths[l];
		if (same)
			b->classes[(*class)++] = (sl_row_class){l, (int32_t)same};
		lengths[l] = at;
		m->places[l] = place;
		at += same;
		place += same * l;
	}
	m->offset[block + 1] = place;
	if (b->ordered)
		order_offsets(b, g, record, count, m->places);
	for (int64_t i = 0; i < count; i++)
		rows[lengths[record[i].end - record[i].begin]++] = (sl_block_row){record[i].row, record[i].begin};
	lengths[0] = 0; /* for the next */
	*row = at;
}

static void cut_group(void *argument, size_t index) {
	sl_chunk_blocks *b = argument;
	sl_chunk_group *group = &b->group[index];
	const sl_blocks *shape = &b->way->shape;
	int64_t g = (int64_t)index, blocks = shape->blocks;
	int64_t entry = ((const int32_t *)b->s->row_offsets)[group->bounds[0]];
	cell_memory m = memory_of(b, g);
	sl_cut_task task = {.columns = b->s->col_indices,
						.cols = b->s->cols,
						.width = (int32_t)shape->columns,
						.blocks = blocks,
						.stride = shape->vectors * SL_VECTOR * (int32_t)sizeof(float),
						.wide = shape->wide};
	memset(m.count, 0, (size_t)(blocks + 1) * sizeof *m.count);
	group->first_record = m.record;
	int64_t runs = find_runs(b, g, &task, &m);
	if (runs < 0)
		return;
	place_records(b, g, &task, &m, runs);
	if (!b->sorted)
		return;
	/* The rows overwrite the runs, which are done with. */
	int64_t row = b->bases[g], class = entry / 128 + g * (65 * blocks + 1);
	m.lengths[0] = 0;
	m.offset[0] = entry;
	for (int64_t block = 0; block < blocks; block++) {
		m.row[block] = row;
		m.class[block] = class;
		sort_block(b, g, block, &m, &row, &class);
	}
	m.row[blocks] = row;
	m.class[blocks] = class;
	group->blocks =
		(sl_blocks){.rows = b->s->rows,
					.nnz = b->s->nnz,
					.columns = shape->columns,
					.groups = 1,
					.blocks = blocks,
					.vectors = shape->vectors,
					.wide = shape->wide,
					.by_start = !b->ordered,
					.skew = b->skew,
					.group = group->bounds,
					.first_offset = m.offset,
					.first_row = m.row,
					.first_class = m.class,
					.offsets = b->ordered ? b->ordered : b->offsets + (size_t)(g * SL_CUT_MORE) * offset_size(b->way),
					.row = (sl_block_row *)(void *)b->runs,
					.classes = b->classes};
}

void sli_chunk_blocks_cut(sl_cpu *cpu, sl_chunk_blocks *b, int64_t n, void *workspace) {
	const sl_pattern_arrays *s = b->s;
	sizes z = sizes_of(cpu, b->way, s->rows, s->nnz, b->way->shape.blocks * b->way->shape.columns);
	b->group = sli_carve(&workspace, z.group);
	b->bases = sli_carve(&workspace, z.bases);
	b->record = sli_carve(&workspace, z.record);
	b->runs = sli_carve(&workspace, z.runs);
	b->offsets = sli_carve(&workspace, z.offsets);
	b->ordered = z.ordered ? sli_carve(&workspace, z.ordered) : NULL;
	b->classes = sli_carve(&workspace, z.classes);
	b->scratch = sli_carve(&workspace, z.scratch);
	b->scratch_bytes = scratch_size(b->way, b->way->shape.blocks * b->way->shape.columns);
	b->cut = sli_cpu_choose(cpu, SL_OP_CHUNK_SPMM, SL_F32, NULL);
	b->groups = choose_groups(cpu, b->way, s->rows, n);
	b->skew = skew_of(b->way, s->rows, s->nnz);
	atomic_init(&b->bad_row, -1);
	sli_chunk_share_out(s, b->groups, b->bases);
	int64_t begin = 0, records = 0;
	for (int g = 0; g < b->groups; g++) {
		int64_t end = b->bases[g + 1];
		b->group[g].bounds[0] = begin;
		b->group[g].bounds[1] = end;
		b->bases[g] = records;
		const int32_t *offsets = s->row_offsets;
		records += most_records(b->way, end - begin, offsets[end] - offsets[begin]) + SL_CUT_MORE;
		begin = end;
	}
	b->bases[b->groups] = records;
	cpu->host->parallel(cpu->host->user, (size_t)b->groups, cut_group, b);
}
