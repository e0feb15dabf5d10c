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
	/* Of totals below 2^31, sorted on all threads. */
	uint32_t *drawn, *sorted;
	int64_t *places;   /* by piece and group: how many, then where they go */
	int64_t pieces;    /* of the draws */
	int64_t *distinct; /* by group */
	int shift;         /* from a number to its group */
} draws;

/* Neighbouring numbers are sorted by one task, a group each: few, so that two threads seldom write into one line. */
enum { DRAWS = 2048, AHEAD = 256, GROUPS = 32, DIGIT = 8, DIGITS = 1 << DIGIT };

/* Multiply and shift; what would favour some numbers is drawn again (Lemire 2019). */
static int64_t draw_wide(sl_rng *rng, uint64_t total) {
	unsigned __int128 product = (unsigned __int128)sli_rng_u64(rng) * total;
	if ((uint64_t)product < total)
		while ((uint64_t)product < -total % total)
			product = (unsigned __int128)sli_rng_u64(rng) * total;
	return (int64_t)(product >> 64);
}

static sl_rng rng_of(const draws *d, size_t piece) {
	sl_rng rng = sli_rng(d->seed, d->stream);
	rng.counter = (uint64_t)d->round << 56 ^ (uint64_t)piece << 20;
	return rng;
}

/* The same of totals below 2^31, from half the bits. */
static void draw_narrow(sl_rng *rng, uint32_t total, uint32_t *numbers, int64_t count) {
	uint32_t ahead[AHEAD];
	int at = AHEAD;
	for (int64_t i = 0; i < count; at++) {
		if (at == AHEAD) {
			sli_rng_fill(rng, ahead, AHEAD);
			at = 0;
		}
		uint64_t product = (uint64_t)ahead[at] * total;
		if ((uint32_t)product >= total || (uint32_t)product >= -total % total)
			numbers[i++] = (uint32_t)(product >> 32);
	}
}

static void draw_piece(void *argument, size_t index) {
	const draws *d = argument;
	int64_t begin = (int64_t)index * DRAWS, end = begin + DRAWS < d->count ? begin + DRAWS : d->count;
	sl_rng rng = rng_of(d, index);
	if (d->total > INT32_MAX) {
		for (int64_t i = begin; i < end; i++)
			d->numbers[i] = draw_wide(&rng, d->total);
		return;
	}
	int64_t *places = d->places + (int64_t)index * GROUPS;
	draw_narrow(&rng, (uint32_t)d->total, d->drawn + begin, end - begin);
	memset(places, 0, GROUPS * sizeof *places);
	for (int64_t i = begin; i < end; i++)
		places[d->drawn[i] >> d->shift]++;
}

/* Each piece's numbers to the groups, behind those of the pieces before it. */
static void place_numbers(const draws *d) {
	int64_t sum = 0;
	for (int64_t g = 0; g < GROUPS; g++)
		for (int64_t p = 0; p < d->pieces; p++) {
			int64_t *place = &d->places[p * GROUPS + g], here = *place;
			*place = sum;
			sum += here;
		}
}

static void scatter_piece(void *argument, size_t index) {
	const draws *d = argument;
	int64_t begin = (int64_t)index * DRAWS, end = begin + DRAWS < d->count ? begin + DRAWS : d->count;
	int64_t *places = d->places + (int64_t)index * GROUPS;
	for (int64_t i = begin; i < end; i++)
		d->sorted[places[d->drawn[i] >> d->shift]++] = d->drawn[i];
}

/* Where a group ends: the places have moved on to there. */
static int64_t group_end(const draws *d, int64_t group) {
	return group < 0 ? 0 : d->places[(d->pieces - 1) * GROUPS + group];
}

/* Digit by digit from the last, between two arrays. Returns the one that holds the result. */
static const uint32_t *sort_numbers(uint32_t *from, uint32_t *to, int64_t count, int bits) {
	for (int shift = 0; shift < bits; shift += DIGIT) {
		int64_t at[DIGITS] = {0}, sum = 0;
		for (int64_t i = 0; i < count; i++)
			at[from[i] >> shift & (DIGITS - 1)]++;
		for (int d = 0; d < DIGITS; d++) {
			int64_t here = at[d];
			at[d] = sum;
			sum += here;
		}
		for (int64_t i = 0; i < count; i++)
			to[at[from[i] >> shift & (DIGITS - 1)]++] = from[i];
		uint32_t *other = from;
		from = to;
		to = other;
	}
	return from;
}

/* A group's numbers sorted, without what comes again, where they were drawn to. */
static void sort_group(void *argument, size_t index) {
	const draws *d = argument;
	int64_t begin = group_end(d, (int64_t)index - 1), count = group_end(d, (int64_t)index) - begin, used = 0;
	uint32_t *to = d->drawn + begin;
	const uint32_t *sorted = sort_numbers(d->sorted + begin, to, count, d->shift);
	for (int64_t i = 0; i < count; i++) {
		uint32_t number = sorted[i];
		to[used] = number;
		used += i + 1 == count || number != sorted[i + 1];
	}
	d->distinct[index] = used;
}

static void copy_group(void *argument, size_t index) {
	const draws *d = argument;
	const uint32_t *from = d->drawn + group_end(d, (int64_t)index - 1);
	int64_t at = 0;
	for (size_t g = 0; g < index; g++)
		at += d->distinct[g];
	for (int64_t i = 0; i < d->distinct[index]; i++)
		d->numbers[at + i] = from[i];
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

/* A round of draws, sorted and distinct. Returns how many there are. */
static int64_t draw_wide_round(sl_context *context, draws *d, int64_t *scratch) {
	sli_parallel(context, (size_t)sli_ceil_div(d->count, DRAWS), draw_piece, d);
	sli_sort_cells(d->numbers, scratch, d->count, (int64_t)d->total - 1);
	return unite(d->numbers, d->count);
}

static int64_t draw_narrow_round(sl_context *context, draws *d) {
	int64_t distinct = 0;
	d->pieces = sli_ceil_div(d->count, DRAWS);
	sli_parallel(context, (size_t)d->pieces, draw_piece, d);
	place_numbers(d);
	sli_parallel(context, (size_t)d->pieces, scatter_piece, d);
	sli_parallel(context, GROUPS, sort_group, d);
	sli_parallel(context, GROUPS, copy_group, d);
	for (int g = 0; g < GROUPS; g++)
		distinct += d->distinct[g];
	return distinct;
}

/* Room for `count` draws of a total below 2^31. */
static sl_status take_narrow(sl_context *context, draws *d, int64_t count) {
	void *memory;
	size_t bytes = (size_t)sli_ceil_div(count, DRAWS) * GROUPS * sizeof *d->places;
	SL_TRY(sli_arena_take(context, bytes, &memory));
	d->places = memory;
	SL_TRY(sli_arena_take(context, (size_t)count * 2 * sizeof *d->drawn, &memory));
	d->drawn = memory;
	d->sorted = d->drawn + count;
	SL_TRY(sli_arena_take(context, GROUPS * sizeof *d->distinct, &memory));
	d->distinct = memory;
	while ((d->total - 1) >> d->shift >= GROUPS)
		d->shift++;
	return SL_OK;
}

/* What is drawn twice is drawn again: at most half of the numbers are taken, so few rounds do. */
static sl_status draw_few(sl_context *context, int64_t *numbers, int64_t count, int64_t total, uint64_t stream,
						  int64_t *fresh, int64_t *scratch) {
	draws d = {.seed = sli_seed(context), .stream = stream, .total = (uint64_t)total};
	if (count && total <= INT32_MAX)
		SL_TRY(take_narrow(context, &d, count));
	for (int64_t have = 0; have < count; d.round++) {
		d.numbers = have ? fresh : numbers;
		d.count = count - have;
		int64_t distinct = d.places ? draw_narrow_round(context, &d) : draw_wide_round(context, &d, scratch);
		have = have ? insert(numbers, have, fresh, distinct) : distinct;
	}
	return SL_OK;
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
	sl_status status = draw_few(context, inverted ? left_out : numbers, few, total, stream, fresh, fresh + few);
	for (int64_t n = 0; inverted && n < total && status == SL_OK; n++) {
		if (at < few && left_out[at] == n)
			at++;
		else
			numbers[used++] = n;
	}
	sli_arena_reset(context, mark);
	return status;
}
