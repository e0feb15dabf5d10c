/* SPDX-License-Identifier: Apache-2.0 */
/* A batch's entries by column: a stable radix sort, least digit first, over so many entries as there are; nothing is as
 * long as the matrix is wide. Being stable it has one result, however it is cut. */
#include "cpu/input.h"

enum { BLOCKS = 8, MOST_BITS = 11, SAMPLES = 32, CHUNK = 4096 };

typedef struct item {
	int32_t column, sample;
	int64_t entry; /* in the batch's arrays */
} item;

typedef struct sort {
	const sl_sparse_batch *batch;
	sl_sparse_groups *groups;
	size_t value_size;
	sl_dtype dtype;
	int64_t *places; /* rows + 1: where each sample's items begin */
	item *from, *to;
	int64_t *counts; /* BLOCKS times 1 << bits */
	int64_t n, blocks;
	int shift, bits;
} sort;

static size_t counts_bytes(void) {
	return (size_t)BLOCKS * ((size_t)1 << MOST_BITS) * sizeof(int64_t);
}

size_t sli_cpu_group_workspace(int64_t rows, int64_t nnz) {
	return sli_align64((size_t)(rows + 1) * sizeof(int64_t)) + 2 * sli_align64((size_t)nnz * sizeof(item)) +
		   counts_bytes();
}

static void list(void *argument, size_t index) {
	const sort *s = argument;
	const sl_sparse_batch *b = s->batch;
	int64_t begin = (int64_t)index * SAMPLES, end = begin + SAMPLES < b->rows ? begin + SAMPLES : b->rows;
	for (int64_t r = begin; r < end; r++) {
		int64_t first = sli_cpu_offset(b->begins, b->offset_dtype, r), count = s->places[r + 1] - s->places[r];
		item *to = s->from + s->places[r];
		for (int64_t i = 0; i < count; i++)
			to[i] = (item){b->columns[first + i], (int32_t)r, first + i};
	}
}

static int64_t digit(const sort *s, const item *i) {
	return (int64_t)((uint32_t)i->column >> s->shift) & (((int64_t)1 << s->bits) - 1);
}

static void block_of(const sort *s, size_t index, int64_t *begin, int64_t *end) {
	*begin = s->n * (int64_t)index / s->blocks;
	*end = s->n * ((int64_t)index + 1) / s->blocks;
}

static void count(void *argument, size_t index) {
	const sort *s = argument;
	int64_t begin, end, *counts = s->counts + (index << s->bits);
	memset(counts, 0, ((size_t)1 << s->bits) * sizeof *counts);
	block_of(s, index, &begin, &end);
	for (int64_t i = begin; i < end; i++)
		counts[digit(s, &s->from[i])]++;
}

/* Where each block puts its items of each digit. */
static void place(sort *s) {
	int64_t at = 0;
	for (int64_t d = 0; d < (int64_t)1 << s->bits; d++)
		for (int64_t b = 0; b < s->blocks; b++) {
			int64_t *c = s->counts + (b << s->bits) + d, here = *c;
			*c = at;
			at += here;
		}
}

static void scatter(void *argument, size_t index) {
	const sort *s = argument;
	int64_t begin, end, *counts = s->counts + (index << s->bits);
	block_of(s, index, &begin, &end);
	for (int64_t i = begin; i < end; i++)
		s->to[counts[digit(s, &s->from[i])]++] = s->from[i];
}

static void copy_out(void *argument, size_t index) {
	const sort *s = argument;
	const sl_sparse_batch *b = s->batch;
	int64_t begin = (int64_t)index * CHUNK, end = begin + CHUNK < s->n ? begin + CHUNK : s->n;
	for (int64_t i = begin; i < end; i++) {
		s->groups->samples[i] = s->from[i].sample;
		if (s->dtype == SL_F64)
			((double *)s->groups->values)[i] = b->values ? ((const double *)b->values)[s->from[i].entry] : 1;
		else
			((float *)s->groups->values)[i] = b->values ? ((const float *)b->values)[s->from[i].entry] : 1;
	}
}

/* A group for each column that occurs, and where its row of the gradient begins. */
static void group(const sort *s, const sl_op_desc *desc) {
	sl_sparse_groups *g = s->groups;
	const sl_pattern_arrays *p = &desc->sparse.arrays;
	int64_t at = 0;
	g->count = 0;
	for (int64_t i = 0; i < s->n; i++) {
		int32_t column = s->from[i].column;
		if (i && s->from[i - 1].column == column)
			continue;
		g->columns[g->count] = column;
		g->starts[g->count] = i;
		g->row_starts[g->count++] = at;
		at += p->row_offsets ? sli_cpu_offset(p->row_offsets, p->offset_dtype, column + 1) -
								   sli_cpu_offset(p->row_offsets, p->offset_dtype, column)
							 : desc->b.cols;
	}
	g->starts[g->count] = s->n;
	g->row_starts[g->count] = at;
}

static int bits_of(int64_t cols) {
	int bits = 1;
	while (cols > (int64_t)1 << bits)
		bits++;
	return bits;
}

void sli_cpu_group(sl_cpu *cpu, const sl_op_plan *plan, const sl_op_args *args) {
	const sl_host *host = cpu->host;
	const sl_sparse_batch *b = args->batch;
	void *at = args->workspace;
	sort s = {.batch = b, .groups = args->groups, .dtype = plan->desc.a.dtype, .n = b->nnz};
	s.places = sli_carve(&at, sli_align64((size_t)(b->rows + 1) * sizeof(int64_t)));
	s.from = sli_carve(&at, sli_align64((size_t)b->nnz * sizeof(item)));
	s.to = sli_carve(&at, sli_align64((size_t)b->nnz * sizeof(item)));
	s.counts = sli_carve(&at, counts_bytes());
	s.blocks = s.n < CHUNK ? 1 : BLOCKS;
	s.places[0] = 0;
	for (int64_t r = 0; r < b->rows; r++)
		s.places[r + 1] =
			s.places[r] + sli_cpu_offset(b->ends, b->offset_dtype, r) - sli_cpu_offset(b->begins, b->offset_dtype, r);
	host->parallel(host->user, (size_t)sli_ceil_div(b->rows, SAMPLES), list, &s);
	int bits = bits_of(b->cols), passes = (bits + MOST_BITS - 1) / MOST_BITS;
	s.bits = (bits + passes - 1) / passes;
	for (int pass = 0; pass < passes; pass++) {
		s.shift = pass * s.bits;
		host->parallel(host->user, (size_t)s.blocks, count, &s);
		place(&s);
		host->parallel(host->user, (size_t)s.blocks, scatter, &s);
		item *sorted = s.to;
		s.to = s.from;
		s.from = sorted;
	}
	group(&s, &plan->desc);
	host->parallel(host->user, (size_t)sli_ceil_div(s.n, CHUNK), copy_out, &s);
}
