/* SPDX-License-Identifier: Apache-2.0 */
/* A chunk of a streamed matrix, cut into blocks of columns for blocked.c as the whole matrix would be. It is done anew
 * for each chunk of each pass, so a group of rows takes two walks over its columns and all groups run at once;
 * blocks.c, which cuts a matrix once for many products, looks at each row in each block. */
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

/* A group's: cells of blocks.h and of the records, counts, and rows by length. */
static size_t scratch_size(const sl_chunk_way *way, int64_t cols) {
	int64_t lengths = (way->shape.columns < cols ? way->shape.columns : cols) + 2;
	return sli_align64(((size_t)(way->shape.blocks + 1) * 6 + 2 * (size_t)lengths) * sizeof(int64_t));
}

typedef struct sizes {
	size_t group, bases, record, runs, offsets, classes, scratch;
} sizes;

static sizes sizes_of(const sl_cpu *cpu, const sl_chunk_way *way, int64_t rows, int64_t entries, int64_t cols) {
	int64_t groups = most_groups(cpu, way, rows), records = most_records(way, rows, entries) + groups * SL_CUT_MORE;
	return (sizes){.group = sli_align64((size_t)groups * sizeof(sl_chunk_group)),
				   .bases = sli_align64((size_t)(groups + 1) * sizeof(int64_t)),
				   .record = sli_align64((size_t)records * sizeof(sl_chunk_record)),
				   .runs = sli_align64((size_t)records * sizeof(sl_block_row)),
				   .offsets = sli_align64((size_t)(entries + groups * SL_CUT_MORE) * offset_size(way)),
				   .classes = sli_align64((size_t)most_classes(way, groups, entries) * sizeof(sl_row_class)),
				   .scratch = (size_t)groups * scratch_size(way, cols)};
}

size_t sli_chunk_blocks_bytes(const sl_cpu *cpu, const sl_chunk_way *way, int64_t rows, int64_t entries) {
	sizes z = sizes_of(cpu, way, rows, entries, way->shape.blocks * way->shape.columns);
	return z.group + z.bases + z.runs + z.record + 2 * z.offsets + z.classes + z.scratch;
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

/* What a group works with: of each block, and the end, the cell of blocks.h, its records and entries; by length. */
typedef struct cell_memory {
	int64_t *offset, *row, *class, *record, *count, *entries;
	int64_t *lengths, *places;
} cell_memory;

static cell_memory memory_of(const sl_chunk_blocks *b, int64_t g) {
	int64_t cells = b->way->shape.blocks + 1, *at = (int64_t *)(void *)(b->scratch + (size_t)g * b->scratch_bytes);
	int64_t *lengths = at + 6 * cells;
	return (cell_memory){at,
						 at + cells,
						 at + 2 * cells,
						 at + 3 * cells,
						 at + 4 * cells,
						 at + 5 * cells,
						 lengths,
						 lengths + b->way->shape.columns + 2};
}

/* Of each row the runs of entries that lie in one block: which, and where they begin. The first and the last block have
 * a run of each row, which may be empty. -1: a row is not valid. */
static int64_t find_runs(sl_chunk_blocks *b, int64_t g, const sl_cut_task *task, const cell_memory *m) {
	const sl_pattern_arrays *s = b->s;
	const int32_t *offsets = s->row_offsets;
	int32_t *block = b->runs + 2 * b->bases[g], *begin = block + (b->bases[g + 1] - b->bases[g]),
			last = (int32_t)(task->blocks - 1);
	int64_t n = 0;
	for (int64_t r = b->group[g].bounds[0]; r < b->group[g].bounds[1]; r++) {
		int32_t from = offsets[r], to = offsets[r + 1];
		if (!sli_row_valid(task->columns + from, to - from, s->cols)) {
			long long none = -1;
			atomic_compare_exchange_strong(&b->bad_row, &none, (long long)r);
			return -1;
		}
		int64_t first = n;
		if (from == to || task->columns[from] >= task->width) {
			block[n] = 0;
			begin[n++] = from;
		}
		n += b->cut->cut_runs(task, from, to, block + n, begin + n);
		if (block[n - 1] != last) {
			block[n] = last;
			begin[n++] = to;
		}
		begin[n] = to;
		for (int64_t i = first; i < n; i++) {
			m->count[block[i]]++;
			m->entries[block[i]] += begin[i + 1] - begin[i];
		}
	}
	return n;
}

/* The runs by block, and where each block's begin. A run ends where the next begins. Entries are looked at for the last
 * time here, where they come row by row: later that would be a line of the cache for the few that a row has in a block.
 */
static void place_records(sl_chunk_blocks *b, int64_t g, const sl_cut_task *task, const cell_memory *m, int64_t runs) {
	int64_t blocks = task->blocks, base = b->bases[g], at = base, entry = m->offset[0];
	const int32_t *block = b->runs + 2 * base, *begin = block + (b->bases[g + 1] - base);
	size_t size = offset_size(b->way);
	for (int64_t i = 0; i < blocks; i++) {
		m->record[i] = at;
		at += m->count[i];
		m->count[i] = m->record[i];
		m->offset[i] = entry;
		entry += m->entries[i];
		m->entries[i] = m->offset[i];
	}
	m->record[blocks] = at;
	m->offset[blocks] = entry;
	int64_t row = b->group[g].bounds[0] - 1;
	for (int64_t i = 0; i < runs; i++) {
		int64_t to = block[i];
		int32_t from = begin[i], end = begin[i + 1];
		row += to == 0;
		b->record[m->count[to]++] = (sl_chunk_record){(int32_t)row, from, end};
		if (b->sorted)
			b->cut->cut_offsets(task, (int32_t)to * task->width, task->columns + from, end - from,
								b->unsorted + (size_t)m->entries[to] * size);
		m->entries[to] += end - from;
	}
}

/* One block of the group: its rows sorted by falling length, those of one length in order, as blocks.c does. */
static void sort_block(sl_chunk_blocks *b, int64_t block, const sl_cut_task *task, const cell_memory *m, int64_t *row,
					   int64_t *class) {
	const sl_chunk_record *record = b->record + m->record[block];
	int64_t count = m->record[block + 1] - m->record[block], at = *row, *lengths = m->lengths;
	sl_block_row *rows = (sl_block_row *)(void *)b->runs;
	int32_t most = 0;
	size_t size = offset_size(b->way), first = (size_t)m->offset[block] * size;
	for (int64_t i = 0; i < count; i++)
		most = record[i].end - record[i].begin > most ? record[i].end - record[i].begin : most;
	memset(lengths, 0, (size_t)(most + 1) * sizeof *lengths);
	for (int64_t i = 0; i < count; i++)
		lengths[record[i].end - record[i].begin]++;
	int64_t place = 0;
	for (int32_t l = most; l >= 0; l--) {
		int64_t same = lengths[l];
		if (same)
			b->classes[(*class)++] = (sl_row_class){l, (int32_t)same};
		lengths[l] = at;
		m->places[l] = place;
		at += same;
		place += same * l;
	}
	for (int64_t i = 0; i < count; i++) {
		int64_t to = lengths[record[i].end - record[i].begin]++;
		rows[to] = (sl_block_row){record[i].row, record[i].begin};
	}
	b->cut->cut_sort(task, record, count, b->unsorted + first, b->offsets + first, m->places);
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
						.width = (int32_t)shape->columns,
						.blocks = blocks,
						.stride = shape->vectors * SL_VECTOR * (int32_t)sizeof(float),
						.wide = shape->wide};
	memset(m.count, 0, 2 * (size_t)(blocks + 1) * sizeof *m.count); /* and entries */
	group->first_record = m.record;
	int64_t runs = find_runs(b, g, &task, &m);
	if (runs < 0)
		return;
	m.offset[0] = entry + g * SL_CUT_MORE;
	place_records(b, g, &task, &m, runs);
	if (!b->sorted)
		return;
	/* The rows overwrite the runs, which are done with. */
	int64_t row = b->bases[g], class = entry / 128 + g * (65 * blocks + 1);
	for (int64_t block = 0; block < blocks; block++) {
		m.row[block] = row;
		m.class[block] = class;
		sort_block(b, block, &task, &m, &row, &class);
	}
	m.row[blocks] = row;
	m.class[blocks] = class;
	group->blocks = (sl_blocks){.rows = b->s->rows,
								.nnz = b->s->nnz,
								.columns = shape->columns,
								.groups = 1,
								.blocks = blocks,
								.vectors = shape->vectors,
								.wide = shape->wide,
								.group = group->bounds,
								.first_offset = m.offset,
								.first_row = m.row,
								.first_class = m.class,
								.offsets = b->offsets,
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
	b->unsorted = sli_carve(&workspace, z.offsets);
	b->classes = sli_carve(&workspace, z.classes);
	b->scratch = sli_carve(&workspace, z.scratch);
	b->scratch_bytes = scratch_size(b->way, b->way->shape.blocks * b->way->shape.columns);
	b->cut = sli_cpu_choose(cpu, SL_OP_CHUNK_SPMM, SL_F32, NULL);
	b->groups = choose_groups(cpu, b->way, s->rows, n);
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
