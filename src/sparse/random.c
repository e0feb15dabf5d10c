/* SPDX-License-Identifier: Apache-2.0 */
/* Random structures. */
#include "sparse/random.h"

#include <stdlib.h>

#include "core/checked.h"
#include "core/rng.h"
#include "sparse/rank.h"

static int ascending(const void *a, const void *b) {
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* `count` distinct cells of [0, total), sorted. Drawing until enough differ is drawing without
 * replacement: what is thrown away is only what came twice. */
static void draw_cells(sl_rng *rng, uint64_t *cells, int64_t count, uint64_t total) {
	int64_t have = 0;
	while (have < count) {
		for (int64_t i = have; i < count; i++)
			cells[i] = sli_rng_below(rng, total);
		qsort(cells, (size_t)count, sizeof *cells, ascending);
		have = 0;
		for (int64_t i = 0; i < count; i++)
			if (!have || cells[i] != cells[have - 1])
				cells[have++] = cells[i];
	}
}

sl_status sli_pattern_take(sl_context *context, int64_t rows, int64_t nnz, void **offsets, int32_t **columns) {
	size_t nob = (size_t)(rows + 1) * sl_dtype_size(sli_offset_dtype(nnz));
	SL_TRY(sli_allocate_zeroed(context, nob, "row offsets", offsets));
	sl_status status = sli_allocate(context, (size_t)nnz * 4, "column indices", (void **)columns);
	if (status != SL_OK)
		sli_heap_free(sli_heap(context), *offsets, nob);
	return status;
}

sl_status sli_pattern_random(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, int64_t total,
							 int64_t nnz, uint64_t stream) {
	/* Beyond a half it is cheaper to draw what is left out. */
	bool inverted = nnz > total / 2;
	int64_t count = inverted ? total - nnz : nnz, at = 0, used = 0;
	sl_dtype dtype = sli_offset_dtype(nnz);
	uint64_t *cells;
	void *offsets;
	int32_t *columns;
	sl_rng rng = sli_rng(sli_seed(context), stream);
	SL_TRY(sli_allocate(context, (size_t)count * sizeof *cells, "drawing a pattern", (void **)&cells));
	sl_status status = sli_pattern_take(context, rows, nnz, &offsets, &columns);
	if (status == SL_OK) {
		draw_cells(&rng, cells, count, (uint64_t)total);
		for (int64_t r = 0; r < rows; r++) {
			int64_t begin = r * cols, end = begin + cols;
			for (int64_t cell = inverted ? begin : end; inverted && cell < end; cell++) {
				if (at < count && cells[at] == (uint64_t)cell)
					at++;
				else
					columns[used++] = (int32_t)(cell - begin);
			}
			for (; !inverted && at < count && cells[at] < (uint64_t)end; at++)
				columns[used++] = (int32_t)(cells[at] - (uint64_t)begin);
			sli_index_set(offsets, dtype, r + 1, used);
		}
		status = sli_pattern_adopt(pattern, context, rows, cols, nnz, offsets, columns);
	}
	sli_heap_free(sli_heap(context), cells, (size_t)count * sizeof *cells);
	return status;
}

sl_status sli_pattern_n_m(sl_pattern **pattern, sl_context *context, int64_t rows, int64_t cols, int n, int m,
						  uint64_t stream) {
	int64_t last = cols % m, per_row = cols / m * n + (last < n ? last : n), used = 0;
	void *offsets;
	int32_t *columns;
	sl_rng rng = sli_rng(sli_seed(context), stream);
	SL_TRY(sli_pattern_take(context, rows, rows * per_row, &offsets, &columns));
	for (int64_t r = 0; r < rows; r++) {
		for (int64_t begin = 0; begin < cols; begin += m) {
			int64_t width = cols - begin < m ? cols - begin : m, need = width < n ? width : n;
			/* Selection sampling: a column is taken with probability need / columns left. */
			for (int64_t c = 0; c < width && need; c++)
				if ((int64_t)sli_rng_below(&rng, (uint64_t)(width - c)) < need) {
					columns[used++] = (int32_t)(begin + c);
					need--;
				}
		}
		sli_index_set(offsets, sli_offset_dtype(rows * per_row), r + 1, used);
	}
	return sli_pattern_adopt(pattern, context, rows, cols, used, offsets, columns);
}

/* A piece of the draws has counters of its own, so that pieces can be drawn at the same time. */
typedef struct draws {
	uint64_t seed, stream, total;
	int64_t *numbers, count, round;
} draws;

enum { DRAWS = 2048 };

/* Multiply and shift; what would favour some numbers is drawn again (Lemire 2019). Small totals take half the bits. */
static int64_t draw_below(sl_rng *rng, uint64_t total) {
	if (total <= INT32_MAX) {
		uint32_t few = (uint32_t)total;
		uint64_t product = (uint64_t)sli_rng_u32(rng) * few;
		if ((uint32_t)product < few)
			while ((uint32_t)product < -few % few)
				product = (uint64_t)sli_rng_u32(rng) * few;
		return (int64_t)(product >> 32);
	}
	unsigned __int128 product = (unsigned __int128)sli_rng_u64(rng) * total;
	if ((uint64_t)product < total)
		while ((uint64_t)product < -total % total)
			product = (unsigned __int128)sli_rng_u64(rng) * total;
	return (int64_t)(product >> 64);
}

static void draw_piece(void *argument, size_t index) {
	const draws *d = argument;
	int64_t begin = (int64_t)index * DRAWS, end = begin + DRAWS < d->count ? begin + DRAWS : d->count;
	sl_rng rng = sli_rng(d->seed, d->stream);
	rng.counter = (uint64_t)d->round << 56 ^ (uint64_t)index << 20;
	for (int64_t i = begin; i < end; i++)
		d->numbers[i] = draw_below(&rng, d->total);
}

/* A sorted list without what comes again. Returns its length. */
static int64_t unite(int64_t *numbers, int64_t count) {
	int64_t used = count > 0;
	for (int64_t i = 1; i < count; i++) {
		numbers[used] = numbers[i];
		used += numbers[i] != numbers[i - 1];
	}
	return used;
}

/* The first of a sorted list that is not below `wanted`. */
static int64_t first_from(const int64_t *numbers, int64_t count, int64_t wanted) {
	int64_t low = 0, high = count;
	while (low < high) {
		int64_t middle = low + (high - low) / 2;
		if (numbers[middle] < wanted)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* A few sorted numbers into many, from the end; what is there already is left out. Returns the length. */
static int64_t insert(int64_t *numbers, int64_t have, int64_t *fresh, int64_t count) {
	int64_t used = 0;
	for (int64_t i = 0; i < count; i++) {
		int64_t at = first_from(numbers, have, fresh[i]);
		fresh[used] = fresh[i];
		used += at == have || numbers[at] != fresh[i];
	}
	int64_t end = have;
	for (int64_t i = used; i-- > 0;) {
		int64_t at = first_from(numbers, end, fresh[i]);
		memmove(numbers + at + i + 1, numbers + at, (size_t)(end - at) * sizeof *numbers);
		numbers[at + i] = fresh[i];
		end = at;
	}
	return have + used;
}

/* What is drawn twice is drawn again: at most half of the numbers are taken, so few rounds do. */
static void draw_few(sl_context *context, int64_t *numbers, int64_t count, int64_t total, uint64_t stream,
					 int64_t *fresh, int64_t *scratch) {
	draws d = {.seed = sli_seed(context), .stream = stream, .total = (uint64_t)total};
	for (int64_t have = 0; have < count; d.round++) {
		d.numbers = have ? fresh : numbers;
		d.count = count - have;
		sli_parallel(context, (size_t)sli_ceil_div(d.count, DRAWS), draw_piece, &d);
		sli_sort_cells(d.numbers, scratch, d.count, total - 1);
		int64_t distinct = unite(d.numbers, d.count);
		have = have ? insert(numbers, have, fresh, distinct) : distinct;
	}
}

sl_status sli_draw_distinct(sl_context *context, int64_t *numbers, int64_t count, int64_t total, uint64_t stream) {
	void *memory;
	bool inverted = count > total / 2;
	int64_t few = inverted ? total - count : count, at = 0, used = 0;
	size_t bytes;
	if (!sli_bytes(few, 3 * sizeof(int64_t), &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld draws do not fit in memory", (long long)count);
	sl_arena_mark mark = sli_arena_mark(context);
	SL_TRY(sli_arena_take(context, bytes, &memory));
	int64_t *left_out = memory, *fresh = left_out + few;
	draw_few(context, inverted ? left_out : numbers, few, total, stream, fresh, fresh + few);
	for (int64_t n = 0; inverted && n < total; n++) {
		if (at < few && left_out[at] == n)
			at++;
		else
			numbers[used++] = n;
	}
	sli_arena_reset(context, mark);
	return SL_OK;
}

typedef struct placing {
	const sl_pattern_arrays *a;
	int64_t *numbers, count, first, base;
} placing;

/* The missing cells before a row, counted from `first`. */
static int64_t missing_before(const placing *p, int64_t row) {
	return p->first + row * p->a->cols - sli_index(p->a->row_offsets, p->a->offset_dtype, row);
}

static void place_rows(const placing *p, int64_t row, int64_t end, int64_t i, int64_t last) {
	const sl_pattern_arrays *a = p->a;
	for (int64_t r = row; r < end && i < last; r++) {
		int64_t k = sli_index(a->row_offsets, a->offset_dtype, r), begin = k, missing = missing_before(p, r);
		int64_t stop = sli_index(a->row_offsets, a->offset_dtype, r + 1), next = missing_before(p, r + 1);
		for (; i < last && p->numbers[i] < next; i++) {
			int64_t rank = p->numbers[i] - missing;
			while (k < stop && a->col_indices[k] - (k - begin) <= rank)
				k++;
			p->numbers[i] = p->base + r * a->cols + rank + (k - begin);
		}
	}
}

enum { PIECES = 16 };

typedef struct placing_pieces {
	placing *p;
	int64_t rows[PIECES + 1], begins[PIECES + 1];
} placing_pieces;

static void place_piece(void *argument, size_t index) {
	const placing_pieces *all = argument;
	place_rows(all->p, all->rows[index], all->rows[index + 1], all->begins[index], all->begins[index + 1]);
}

void sli_missing_cells(sl_context *context, const sl_pattern_arrays *a, int64_t *numbers, int64_t count, int64_t first,
					   int64_t base) {
	placing p = {a, numbers, count, first, base};
	placing_pieces all = {.p = &p};
	for (int i = 0; i <= PIECES; i++) {
		all.rows[i] = a->rows / PIECES * i + (i == PIECES ? a->rows % PIECES : 0);
		all.begins[i] = first_from(numbers, count, missing_before(&p, all.rows[i]));
	}
	sli_parallel(context, PIECES, place_piece, &all);
}
