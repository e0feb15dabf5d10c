/* SPDX-License-Identifier: Apache-2.0 */
/* The best cells of a stream of scores, in bounded memory. */
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "core/checked.h"
#include "sparse/best.h"
#include "sparse/quickselect.h"

enum { GROUP = 8, BLOCK = 16, PARTS = 8, LANES = 64, TAKEN = 128 };

static sl_status make_room(sl_context *context, sl_selection *s, int64_t capacity, int64_t want) {
	size_t bytes;
	if (!sli_bytes(capacity, sizeof *s->items, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld candidates do not fit in memory", (long long)want);
	if (!s->items || s->capacity < capacity) {
		sli_selection_free(s);
		SL_TRY(sli_allocate(context, bytes, "candidates for growth", (void **)&s->items));
		s->capacity = capacity;
		s->heap = sli_heap_retain(sli_heap(context));
	}
	s->have = 0;
	s->want = want;
	s->row_limit = s->width = s->keep = 0;
	s->full = want == 0;
	s->least = want == 0 ? UINT64_MAX : 0;
	memset(s->counts, 0, sizeof s->counts);
	return SL_OK;
}

sl_status sli_selection_begin(sl_context *context, sl_selection *s, int64_t want, int64_t row_limit, int64_t cols,
							  sl_dtype dtype) {
	int64_t spare = 2 * want > cols ? 2 * want : cols, capacity;
	if (!sli_add(want, spare, &capacity))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld candidates do not fit in memory", (long long)want);
	SL_TRY(make_room(context, s, capacity, want));
	s->row_limit = row_limit;
	s->dtype = dtype;
	return SL_OK;
}

sl_status sli_selection_begin_groups(sl_context *context, sl_selection *s, int64_t most, int64_t width, int64_t keep,
									 sl_dtype dtype) {
	SL_TRY(make_room(context, s, most, most));
	s->width = width;
	s->keep = keep;
	s->dtype = dtype;
	return SL_OK;
}

void sli_selection_free(sl_selection *s) {
	if (s->items) {
		sli_heap_free(s->heap, s->items, (size_t)s->capacity * sizeof *s->items);
		sli_heap_release(s->heap);
	}
	*s = (sl_selection){0};
}

#define LARGER(a, b) (*(a) > *(b))
SL_QUICKSELECT(largest_first, uint64_t, LARGER)

static void count_items(sl_selection *s, int64_t begin) {
	for (int64_t i = begin; i < s->have; i++)
		s->counts[s->items[i].key >> SL_KEY_SHIFT]++;
}

/* The digit in which the want-th best lies, and how many are above it. Only where there are as many. */
static uint64_t digit_of_worst(const int64_t *counts, int64_t want, int64_t *above) {
	uint64_t digit = SL_KEY_DIGITS - 1;
	for (*above = 0; *above + counts[digit] < want; digit--)
		*above += counts[digit];
	return digit;
}

/* Keys below the digit of the worst cannot win any more. */
static void raise_least(sl_selection *s, const int64_t *counts) {
	int64_t above;
	uint64_t edge = digit_of_worst(counts, s->want, &above) << SL_KEY_SHIFT;
	if (!edge || (s->full && s->least >= edge - 1))
		return;
	s->full = true;
	s->least = edge - 1;
}

/* The key of the want-th best, and how many of that key are among them. The keys of its digit are put where `room` is.
 * The counts of digits leave little for comparisons. */
static uint64_t find_worst(const sl_selection *s, uint64_t *room, int64_t *equal) {
	int64_t above, used = 0;
	uint64_t digit = digit_of_worst(s->counts, s->want, &above);
	for (int64_t i = 0; i < s->have; i++)
		if (s->items[i].key >> SL_KEY_SHIFT == digit)
			room[used++] = s->items[i].key;
	int64_t wanted = s->want - above;
	largest_first(room, used, wanted - 1);
	uint64_t worst = room[wanted - 1];
	for (int64_t i = *equal = 0; i < wanted; i++)
		*equal += room[i] == worst;
	return worst;
}

/* Keep the best `want`, in their order, which is that of cells: of equal keys the lower cell is better. */
static sl_status compact(sl_context *context, sl_selection *s) {
	int64_t used = 0, equal;
	void *room;
	if (s->have <= s->want)
		return SL_OK;
	sl_arena_mark mark = sli_arena_mark(context);
	SL_TRY(sli_arena_take(context, (size_t)s->have * sizeof(uint64_t), &room));
	uint64_t worst = find_worst(s, room, &equal);
	sli_arena_reset(context, mark);
	for (int64_t i = 0; i < s->have; i++) {
		sl_scored_cell c = s->items[i];
		bool is = c.key == worst;
		s->items[used] = c;
		used += c.key > worst || (is && equal > 0);
		equal -= is;
	}
	s->have = used;
	s->full = true;
	s->least = worst;
	memset(s->counts, 0, sizeof s->counts);
	count_items(s, 0);
	return SL_OK;
}

typedef struct offer {
	const sl_pattern_arrays *pattern;
	const sl_dense *tile;
	sl_selection *selection;
	int64_t base, row;
	const int32_t *listed;  /* which rows the tile's are; NULL: `row` and on */
	int64_t *count, *place; /* by row of the tile */
	int64_t *digits;        /* PARTS rows of SL_KEY_DIGITS */
	char *rows;             /* GROUPS' worth of one row, where rows are limited */
	sl_scored_cell *best;   /* `most` a row, where these were found without another look at the row */
	int64_t most;
} offer;

static int32_t least32(const sl_selection *s) {
	return s->full ? (int32_t)(s->least >> 32) : -1;
}
static int64_t least64(const sl_selection *s) {
	return s->full ? (int64_t)(s->least & INT64_MAX) : -1;
}

static int64_t row_of(const offer *o, int64_t r) {
	return o->listed ? o->listed[r] : o->row + r;
}

static uint32_t above_in_tail(const int32_t *bits, int64_t count, int32_t least) {
	uint32_t mask = 0;
	for (int64_t i = 0; i < count; i++)
		mask |= (uint32_t)(bits[i] > least) << i;
	return mask;
}

/* Which of BLOCK numbers are greater: few are, and a branch for each would be missed as often. */
static uint32_t above_in_block(const int32_t *bits, int32_t least) {
#if defined(__SSE2__)
	const __m128i *from = (const __m128i *)bits;
	__m128i bound = _mm_set1_epi32(least);
	__m128i a = _mm_cmpgt_epi32(_mm_loadu_si128(from), bound), b = _mm_cmpgt_epi32(_mm_loadu_si128(from + 1), bound);
	__m128i c = _mm_cmpgt_epi32(_mm_loadu_si128(from + 2), bound),
			d = _mm_cmpgt_epi32(_mm_loadu_si128(from + 3), bound);
	return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d)));
#else
	return above_in_tail(bits, BLOCK, least);
#endif
}

/*
 * All but the `keep` largest of a row become -1, and their number is returned; of equal ones the first stay. The
 * maximum of each lane is an element, so the keep-th largest of those is a bound that little is above.
 */
#define KEEP_BEST(suffix, type, list_from)                                                                             \
	static void select_##suffix(type *list, int64_t n, int64_t k) {                                                    \
		int64_t low = 0, high = n - 1;                                                                                 \
		while (low < high) {                                                                                           \
			type pivot = list[low + (high - low) / 2];                                                                 \
			int64_t i = low, j = high;                                                                                 \
			while (i <= j) {                                                                                           \
				while (list[i] > pivot)                                                                                \
					i++;                                                                                               \
				while (pivot > list[j])                                                                                \
					j--;                                                                                               \
				if (i <= j) {                                                                                          \
					type other = list[i];                                                                              \
					list[i++] = list[j];                                                                               \
					list[j--] = other;                                                                                 \
				}                                                                                                      \
			}                                                                                                          \
			if (k <= j)                                                                                                \
				high = j;                                                                                              \
			else if (k >= i)                                                                                           \
				low = i;                                                                                               \
			else                                                                                                       \
				return;                                                                                                \
		}                                                                                                              \
	}                                                                                                                  \
	static type bound_##suffix(const type *bits, int64_t cols, int64_t keep) {                                         \
		type most[LANES];                                                                                              \
		int64_t whole = cols / LANES * LANES;                                                                          \
		if (keep > LANES / 2 || whole < 2 * LANES)                                                                     \
			return 0;                                                                                                  \
		memcpy(most, bits, sizeof most);                                                                               \
		for (int64_t c = LANES; c < whole; c += LANES)                                                                 \
			for (int j = 0; j < LANES; j++)                                                                            \
				most[j] = bits[c + j] > most[j] ? bits[c + j] : most[j];                                               \
		select_##suffix(most, LANES, keep - 1);                                                                        \
		return most[keep - 1] > 0 ? most[keep - 1] : 0;                                                                \
	}                                                                                                                  \
	static void keep_best_##suffix(type *bits, int64_t cols, int64_t keep, type *list) {                               \
		type least = bound_##suffix(bits, cols, keep);                                                                 \
		int64_t n = list_from(bits, cols, least, list), above = 0, equal = 0;                                          \
		if (n > keep) {                                                                                                \
			select_##suffix(list, n, keep - 1);                                                                        \
			least = list[keep - 1];                                                                                    \
		}                                                                                                              \
		for (int64_t i = 0; i < n; i++) {                                                                              \
			above += list[i] > least;                                                                                  \
			equal += list[i] == least;                                                                                 \
		}                                                                                                              \
		for (int64_t c = 0; c < cols; c++)                                                                             \
			bits[c] = bits[c] >= least ? bits[c] : -1;                                                                 \
		for (int64_t c = 0, left = keep - above; c < cols && equal > keep - above; c++)                                \
			if (bits[c] == least && left-- <= 0)                                                                       \
				bits[c] = -1;                                                                                          \
	}

static int64_t list_i32(const int32_t *bits, int64_t cols, int32_t least, int32_t *list) {
	int64_t n = 0;
	for (int64_t c0 = 0; c0 < cols; c0 += BLOCK) {
		uint32_t few =
			c0 + BLOCK <= cols ? above_in_block(bits + c0, least - 1) : above_in_tail(bits + c0, cols - c0, least - 1);
		for (; few; few &= few - 1)
			list[n++] = bits[c0 + __builtin_ctz(few)];
	}
	return n;
}

static int64_t list_i64(const int64_t *bits, int64_t cols, int64_t least, int64_t *list) {
	int64_t n = 0;
	for (int64_t c = 0; c < cols; c++)
		if (bits[c] >= least)
			list[n++] = bits[c];
	return n;
}

KEEP_BEST(i32, int32_t, list_i32)
KEEP_BEST(i64, int64_t, list_i64)

/* Magnitudes of a row in place of its scores, -1 where the pattern has entries. */
static void prepare_row(const offer *o, int64_t r) {
	const sl_pattern_arrays *a = o->pattern;
	int64_t begin = sli_index(a->row_offsets, a->offset_dtype, row_of(o, r)), cols = o->tile->cols;
	int64_t end = sli_index(a->row_offsets, a->offset_dtype, row_of(o, r) + 1);
	if (o->tile->dtype == SL_F32) {
		int32_t *bits = (int32_t *)o->tile->data + r * o->tile->ld;
		for (int64_t c = 0; c < cols; c++)
			bits[c] &= 0x7fffffff;
		for (int64_t k = begin; k < end; k++)
			bits[a->col_indices[k]] = -1;
	} else {
		int64_t *bits = (int64_t *)o->tile->data + r * o->tile->ld;
		for (int64_t c = 0; c < cols; c++)
			bits[c] &= INT64_MAX;
		for (int64_t k = begin; k < end; k++)
			bits[a->col_indices[k]] = -1;
	}
}

static int64_t count_row(const offer *o, int64_t r) {
	int64_t cols = o->tile->cols, count = 0;
	if (o->tile->dtype == SL_F32) {
		const int32_t *bits = (const int32_t *)o->tile->data + r * o->tile->ld;
		int32_t least = least32(o->selection), few = 0;
		for (int64_t c = 0; c < cols; c++)
			few += bits[c] > least;
		return few;
	}
	const int64_t *bits = (const int64_t *)o->tile->data + r * o->tile->ld;
	int64_t least = least64(o->selection);
	for (int64_t c = 0; c < cols; c++)
		count += bits[c] > least;
	return count;
}

typedef void (*by_row)(const offer *o, int64_t r);

static void limit_rows(const offer *o, size_t index) {
	int64_t begin = (int64_t)index * GROUP, end = begin + GROUP < o->tile->rows ? begin + GROUP : o->tile->rows;
	int64_t cols = o->tile->cols, keep = o->selection->row_limit;
	for (int64_t r = begin; r < end; r++) {
		prepare_row(o, r);
		char *row = (char *)o->tile->data + (size_t)(r * o->tile->ld) * sl_dtype_size(o->tile->dtype);
		void *list = o->rows + index * (size_t)cols * sl_dtype_size(o->tile->dtype);
		if (o->tile->dtype == SL_F32)
			keep_best_i32((int32_t *)(void *)row, cols, keep, list);
		else
			keep_best_i64((int64_t *)(void *)row, cols, keep, list);
		o->count[r] = count_row(o, r);
	}
}

static sl_score_row score_row(const offer *o, int64_t r) {
	const sl_pattern_arrays *a = o->pattern;
	int64_t begin = sli_index(a->row_offsets, a->offset_dtype, row_of(o, r));
	int64_t end = sli_index(a->row_offsets, a->offset_dtype, row_of(o, r) + 1);
	char *scores = (char *)o->tile->data + (size_t)(r * o->tile->ld) * sl_dtype_size(o->tile->dtype);
	return (sl_score_row){.scores = scores,
						  .dtype = o->tile->dtype,
						  .cols = o->tile->cols,
						  .first = o->base + row_of(o, r) * o->tile->cols,
						  .taken = a->col_indices + begin,
						  .taken_count = end - begin};
}

static void best_of_rows(const offer *o, size_t index) {
	int64_t begin = (int64_t)index * GROUP, end = begin + GROUP < o->tile->rows ? begin + GROUP : o->tile->rows;
	const sl_selection *s = o->selection;
	int32_t *list = s->width ? NULL : (int32_t *)(void *)o->rows + (int64_t)index * sli_best_list(o->tile->cols);
	for (int64_t r = begin; r < end; r++) {
		sl_score_row row = score_row(o, r);
		if (s->width) {
			o->count[r] = sli_best_of_groups(&row, s->width, s->keep, o->best + r * o->most);
			continue;
		}
		o->count[r] = sli_best_of_row(&row, o->most, least32(o->selection), list, o->best + r * o->most);
	}
}

/* The list of a row back to the row, where it has to be looked through again. */
static void put_back(const offer *o, int64_t r) {
	int32_t *bits = (int32_t *)o->tile->data + r * o->tile->ld;
	const sl_scored_cell *best = o->best + r * o->most;
	int64_t first = o->base + row_of(o, r) * o->tile->cols;
	memset(bits, -1, (size_t)o->tile->cols * sizeof *bits);
	for (int64_t i = 0; i < o->count[r]; i++)
		bits[best[i].cell - first] = (int32_t)(best[i].key >> 32);
}

static void each_row(const offer *o, size_t index, by_row work) {
	int64_t begin = (int64_t)index * GROUP, end = begin + GROUP < o->tile->rows ? begin + GROUP : o->tile->rows;
	for (int64_t r = begin; r < end; r++)
		work(o, r);
}

static void prepare_and_count(const offer *o, int64_t r) {
	prepare_row(o, r);
	o->count[r] = count_row(o, r);
}

static void count_again(const offer *o, int64_t r) {
	o->count[r] = count_row(o, r);
}

static void prepare_rows(void *argument, size_t index) {
	const offer *o = argument;
	if (o->best)
		best_of_rows(o, index);
	else if (o->rows)
		limit_rows(o, index);
	else
		each_row(o, index, prepare_and_count);
}

static void count_rows(void *argument, size_t index) {
	each_row(argument, index, count_again);
}

/* What beats the least, by digit, in a row of counts a piece of the tile. */
static void count_digits(void *argument, size_t index) {
	const offer *o = argument;
	int64_t part = sli_ceil_div(o->tile->rows, PARTS), begin = (int64_t)index * part;
	int64_t end = begin + part < o->tile->rows ? begin + part : o->tile->rows, cols = o->tile->cols;
	int64_t *counts = o->digits + index * SL_KEY_DIGITS;
	memset(counts, 0, SL_KEY_DIGITS * sizeof *counts);
	for (int64_t r = begin; r < end; r++)
		if (o->tile->dtype == SL_F32) {
			const int32_t *bits = (const int32_t *)o->tile->data + r * o->tile->ld;
			int32_t least = least32(o->selection);
			for (int64_t c = 0; c < cols; c++)
				if (bits[c] > least)
					counts[bits[c] >> (SL_KEY_SHIFT - 32)]++;
		} else {
			const int64_t *bits = (const int64_t *)o->tile->data + r * o->tile->ld;
			int64_t least = least64(o->selection);
			for (int64_t c = 0; c < cols; c++)
				if (bits[c] > least)
					counts[bits[c] >> SL_KEY_SHIFT]++;
		}
}

/* Candidates of a row that beat the least, to items[at] and on. */
static int64_t take_row(const offer *o, int64_t r, int64_t at) {
	int64_t first = o->base + row_of(o, r) * o->tile->cols, cols = o->tile->cols;
	sl_scored_cell *items = o->selection->items;
	if (o->tile->dtype == SL_F32) {
		const int32_t *bits = (const int32_t *)o->tile->data + r * o->tile->ld;
		int32_t least = least32(o->selection);
		for (int64_t c0 = 0; c0 < cols; c0 += BLOCK) {
			uint32_t few =
				c0 + BLOCK <= cols ? above_in_block(bits + c0, least) : above_in_tail(bits + c0, cols - c0, least);
			for (; few; few &= few - 1) {
				int64_t c = c0 + __builtin_ctz(few);
				items[at++] = (sl_scored_cell){sli_key32((uint32_t)bits[c]), first + c};
			}
		}
		return at;
	}
	const int64_t *bits = (const int64_t *)o->tile->data + r * o->tile->ld;
	int64_t least = least64(o->selection);
	for (int64_t c = 0; c < cols; c++)
		if (bits[c] > least)
			items[at++] = (sl_scored_cell){(uint64_t)bits[c], first + c};
	return at;
}

static void take_rows(void *argument, size_t index) {
	const offer *o = argument;
	int64_t begin = (int64_t)index * GROUP, end = begin + GROUP < o->tile->rows ? begin + GROUP : o->tile->rows;
	for (int64_t r = begin; r < end; r++)
		if (o->best)
			memcpy(o->selection->items + o->place[r], o->best + r * o->most, (size_t)o->count[r] * sizeof *o->best);
		else if (o->count[r])
			take_row(o, r, o->place[r]);
}

static void put_back_rows(void *argument, size_t index) {
	each_row(argument, index, put_back);
}

static int64_t places(const offer *o, int64_t at) {
	for (int64_t r = 0; r < o->tile->rows; r++) {
		o->place[r] = at;
		at += o->count[r];
	}
	return at;
}

/* Raise the least by what the tile will bring, before it is taken. */
static void raise_by_tile(sl_context *context, offer *o) {
	sl_selection *s = o->selection;
	sli_parallel(context, PARTS, count_digits, o);
	for (int p = 1; p < PARTS; p++)
		for (int d = 0; d < SL_KEY_DIGITS; d++)
			o->digits[d] += o->digits[p * SL_KEY_DIGITS + d];
	for (int d = 0; d < SL_KEY_DIGITS; d++)
		o->digits[d] += s->counts[d];
	raise_least(s, o->digits);
}

static sl_status take_tile(sl_context *context, offer *o) {
	sl_selection *s = o->selection;
	size_t groups = (size_t)sli_ceil_div(o->tile->rows, GROUP);
	int64_t before = s->have, end;
	sli_parallel(context, groups, prepare_rows, o);
	end = places(o, s->have);
	if (s->width) { /* there is room, and none of them is worth more than another's */
		sli_parallel(context, groups, take_rows, o);
		s->have = end;
		return SL_OK;
	}
	if (end > s->capacity) {
		if (o->best)
			sli_parallel(context, groups, put_back_rows, o);
		o->best = NULL;
		SL_TRY(compact(context, s));
		before = s->have;
		raise_by_tile(context, o);
		sli_parallel(context, groups, count_rows, o);
		end = places(o, s->have);
	}
	if (end <= s->capacity) {
		sli_parallel(context, groups, take_rows, o);
		s->have = end;
		count_items(s, before);
	} else {
		/* Too many of one digit: row by row, and the least rises on the way. */
		for (int64_t r = 0; r < o->tile->rows; r++) {
			if (s->have + o->tile->cols > s->capacity)
				SL_TRY(compact(context, s));
			before = s->have;
			s->have = take_row(o, r, s->have);
			count_items(s, before);
		}
	}
	if (s->have >= s->want)
		raise_least(s, s->counts);
	return SL_OK;
}

int32_t sli_selection_least(const sl_selection *s) {
	return least32(s);
}

int64_t sli_selection_rows(const sl_selection *s, int64_t most) {
	int64_t rows = (s->capacity - s->want) / most;
	return rows > 0 ? rows : 1;
}

typedef struct taking {
	const sl_row_bests *from;
	sl_selection *selection;
	int64_t base, *place; /* by row */
} taking;

static void take_bests(void *argument, size_t index) {
	const taking *t = argument;
	const sl_row_bests *b = t->from;
	int64_t begin = (int64_t)index * TAKEN, end = begin + TAKEN < b->rows ? begin + TAKEN : b->rows;
	for (int64_t r = begin; r < end; r++) {
		sl_scored_cell *to = t->selection->items + t->place[r];
		int64_t first = t->base + (b->row + r) * b->cols;
		for (int64_t i = 0; i < b->count[r]; i++)
			to[i] = (sl_scored_cell){sli_key32(b->magnitudes[r * b->most + i]), first + b->columns[r * b->most + i]};
	}
}

sl_status sli_selection_take(sl_context *context, sl_selection *s, int64_t base, const sl_row_bests *bests) {
	void *memory;
	int64_t before = 0, end;
	if (!s->want)
		return SL_OK;
	for (int64_t r = 0; r < bests->rows; r++)
		before += bests->count[r];
	if (s->have + before > s->capacity)
		SL_TRY(compact(context, s));
	sl_arena_mark mark = sli_arena_mark(context);
	SL_TRY(sli_arena_take(context, (size_t)bests->rows * sizeof(int64_t), &memory));
	taking t = {bests, s, base, memory};
	end = before = s->have;
	for (int64_t r = 0; r < bests->rows; r++) {
		t.place[r] = end;
		end += bests->count[r];
	}
	sli_parallel(context, (size_t)sli_ceil_div(bests->rows, TAKEN), take_bests, &t);
	s->have = end;
	count_items(s, before);
	if (s->have >= s->want)
		raise_least(s, s->counts);
	sli_arena_reset(context, mark);
	return SL_OK;
}

sl_status sli_selection_add(sl_context *context, sl_selection *s, const sl_scored_cell *items, int64_t count) {
	for (int64_t i = 0, n; i < count && s->want; i += n) {
		if (s->have == s->capacity)
			SL_TRY(compact(context, s));
		n = s->capacity - s->have < count - i ? s->capacity - s->have : count - i;
		memcpy(s->items + s->have, items + i, (size_t)n * sizeof *items);
		s->have += n;
		count_items(s, s->have - n);
	}
	if (s->have >= s->want && s->want)
		raise_least(s, s->counts);
	return SL_OK;
}

/* Room for the best of each row. */
static sl_status take_best(sl_context *context, offer *o, int64_t most) {
	void *memory;
	SL_TRY(sli_arena_take(context, (size_t)(o->tile->rows * most) * sizeof *o->best, &memory));
	o->best = memory;
	o->most = most;
	return SL_OK;
}

/* Room for what limits rows. */
static sl_status take_lists(sl_context *context, offer *o) {
	size_t groups = (size_t)sli_ceil_div(o->tile->rows, GROUP), bytes;
	int64_t cols = o->tile->cols, keep = o->selection->row_limit;
	void *memory;
	bool serves = sli_best_serves(o->tile->dtype, cols, keep);
	bytes = serves ? (size_t)sli_best_list(cols) * sizeof(int32_t) : (size_t)cols * sl_dtype_size(o->tile->dtype);
	SL_TRY(sli_arena_take(context, groups * bytes, &memory));
	o->rows = memory;
	return serves ? take_best(context, o, keep) : SL_OK;
}

static sl_status offer_tile(sl_context *context, sl_selection *s, const sl_pattern_arrays *pattern, int64_t base,
							int64_t row, const int32_t *listed, const sl_dense *tile) {
	void *memory;
	if (!s->want)
		return SL_OK;
	sl_arena_mark mark = sli_arena_mark(context);
	SL_TRY(sli_arena_take(context, ((size_t)tile->rows * 2 + PARTS * SL_KEY_DIGITS) * sizeof(int64_t), &memory));
	int64_t *counts = memory;
	offer o = {.pattern = pattern,
			   .tile = tile,
			   .selection = s,
			   .base = base,
			   .row = row,
			   .listed = listed,
			   .count = counts,
			   .place = counts + tile->rows,
			   .digits = counts + 2 * tile->rows};
	sl_status status = SL_OK;
	if (s->width)
		status = take_best(context, &o, sli_ceil_div(tile->cols, s->width) * s->keep);
	else if (s->row_limit > 0 && s->row_limit < tile->cols)
		status = take_lists(context, &o);
	if (status == SL_OK)
		status = take_tile(context, &o);
	sli_arena_reset(context, mark);
	return status;
}

sl_status sli_selection_offer(sl_context *context, sl_selection *s, const sl_pattern_arrays *pattern, int64_t base,
							  int64_t row, const sl_dense *tile) {
	return offer_tile(context, s, pattern, base, row, NULL, tile);
}

sl_status sli_selection_offer_rows(sl_context *context, sl_selection *s, const sl_pattern_arrays *pattern, int64_t base,
								   const int32_t *rows, const sl_dense *tile) {
	return offer_tile(context, s, pattern, base, 0, rows, tile);
}

sl_status sli_selection_finish(sl_context *context, sl_selection *s) {
	SL_TRY(compact(context, s));
	for (int64_t i = 0; i < s->have; i++)
		if (s->items[i].key > sli_key_infinity(s->dtype))
			return sli_fail(context, SL_ERR_NONFINITE, "the gradient of cell %lld is NaN: it has no rank",
							(long long)s->items[i].cell);
	return SL_OK;
}
