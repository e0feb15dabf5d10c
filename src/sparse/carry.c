/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of an old pattern's entries to those of the next, in place where the memory is the same. A piece of rows
 * (edit.c) reads its old values into memory of the task's own and writes the new. What pieces beside it write over is
 * saved before: a few elements, for pieces move by as much as the rows before them have gained or lost.
 */
#include "core/checked.h"
#include "sparse/edit.h"

enum { PIECE = 4096, SUMS = 8, SUMMED = 8192 };

typedef struct carrying {
	const sl_edit_map *map;
	const sl_carried *arrays;
	int count;
	size_t size;
	char *scratch; /* of each array in turn */
} carrying;

static bool in_place(const sl_carried *a) {
	return a->from == a->to;
}

static char *saved_of(const carrying *c, int array, const sl_edit_piece *p) {
	size_t one = (size_t)c->map->pieces[c->map->count].saved * c->size;
	return c->scratch + (size_t)array * one + (size_t)p->saved * c->size;
}

/* The old entries of a piece that it writes over itself: [low, high), which may be none. The others are saved, in
 * order. */
static void own_range(const sl_edit_piece *p, int64_t *low, int64_t *high) {
	*low = p->old > p->now ? p->old : p->now;
	*high = p[1].old < p[1].now ? p[1].old : p[1].now;
	if (p[1].old - p->old > PIECE || *low > *high)
		*low = *high = p[1].old;
}

bool sli_carry_scratch(const sl_edit_map *map, int count, sl_dtype dtype, size_t *bytes) {
	size_t one;
	if (!sli_bytes(map->pieces[map->count].saved, sl_dtype_size(dtype), &one) || one > SIZE_MAX / (size_t)(count + 1))
		return false;
	*bytes = one * (size_t)count;
	return true;
}

static void save_piece(void *argument, size_t index) {
	const carrying *c = argument;
	const sl_edit_piece *p = c->map->pieces + index;
	int64_t low, high;
	own_range(p, &low, &high);
	for (int a = 0; a < c->count; a++) {
		if (!in_place(&c->arrays[a]))
			continue;
		const char *from = c->arrays[a].from;
		char *to = saved_of(c, a, p);
		size_t before = (size_t)(low - p->old) * c->size;
		if (before)
			memcpy(to, from + (size_t)p->old * c->size, before);
		if (p[1].old > high)
			memcpy(to + before, from + (size_t)high * c->size, (size_t)(p[1].old - high) * c->size);
	}
}

#define CARRY(type)                                                                                                    \
	/* `old` has the fill before its first element. */                                                                 \
	static void carry_near_##type(const type *old, const int32_t *from, int64_t n, type *to) {                         \
		for (int64_t i = 0; i < n; i++)                                                                                \
			to[i] = old[from[i]];                                                                                      \
	}                                                                                                                  \
	static void carry_far_##type(const type *old, const int32_t *from, int64_t n, type fill, type *to) {               \
		for (int64_t i = 0; i < n; i++)                                                                                \
			to[i] = from[i] ? old[from[i] - 1] : fill;                                                                 \
	}                                                                                                                  \
	static void carry_piece_##type(void *argument, size_t index) {                                                     \
		const carrying *c = argument;                                                                                  \
		const sl_edit_piece *p = c->map->pieces + index;                                                               \
		const int32_t *from = c->map->from + p->now;                                                                   \
		int64_t n = p[1].now - p->now, count = p[1].old - p->old, low, high;                                           \
		type near[PIECE + 1];                                                                                          \
		own_range(p, &low, &high);                                                                                     \
		for (int a = 0; a < c->count; a++) {                                                                           \
			const type *old = (const type *)c->arrays[a].from + p->old;                                                \
			type fill = (type)c->arrays[a].fill, *to = (type *)c->arrays[a].to + p->now;                               \
			const type *saved = in_place(&c->arrays[a]) ? (const type *)(void *)saved_of(c, a, p) : NULL;              \
			if (count > PIECE) {                                                                                       \
				carry_far_##type(saved ? saved : old, from, n, fill, to);                                              \
				continue;                                                                                              \
			}                                                                                                          \
			int64_t before = saved ? low - p->old : 0, own = saved ? high - low : count;                               \
			near[0] = fill;                                                                                            \
			if (before)                                                                                                \
				memcpy(near + 1, saved, (size_t)before * sizeof *near);                                                \
			memcpy(near + 1 + before, old + before, (size_t)own * sizeof *near);                                       \
			if (before + own < count)                                                                                  \
				memcpy(near + 1 + before + own, saved + before, (size_t)(count - before - own) * sizeof *near);        \
			carry_near_##type(near, from, n, to);                                                                      \
		}                                                                                                              \
	}
CARRY(float)
CARRY(double)

void sli_carry(sl_context *context, const sl_edit_map *map, const sl_carried *arrays, int count, sl_dtype dtype,
			   void *scratch) {
	carrying c = {map, arrays, count, sl_dtype_size(dtype), scratch};
	bool any = false;
	for (int a = 0; a < count; a++)
		any |= in_place(&arrays[a]);
	if (any)
		sli_parallel(context, (size_t)map->count, save_piece, &c);
	sli_parallel(context, (size_t)map->count, dtype == SL_F32 ? carry_piece_float : carry_piece_double, &c);
}

typedef struct summing {
	const void *values;
	sl_dtype dtype;
	int64_t count;
	double *sums; /* by block */
} summing;

static void sum_block(void *argument, size_t index) {
	const summing *s = argument;
	int64_t begin = (int64_t)index * SUMMED, end = begin + SUMMED < s->count ? begin + SUMMED : s->count;
	int64_t whole = begin + (end - begin) / SUMS * SUMS;
	double sums[SUMS] = {0}, sum = 0;
	const float *f32 = s->values;
	const double *f64 = s->values;
	for (int64_t i = begin; i < whole && s->dtype == SL_F32; i += SUMS)
		for (int k = 0; k < SUMS; k++)
			sums[k] += (double)f32[i + k];
	for (int64_t i = begin; i < whole && s->dtype != SL_F32; i += SUMS)
		for (int k = 0; k < SUMS; k++)
			sums[k] += f64[i + k];
	for (int64_t i = whole; i < end; i++)
		sum += s->dtype == SL_F32 ? (double)f32[i] : f64[i];
	for (int k = 0; k < SUMS; k++)
		sum += sums[k];
	s->sums[index] = sum;
}

sl_status sli_mean(sl_context *context, const void *values, sl_dtype dtype, int64_t count, double *mean) {
	int64_t blocks = sli_ceil_div(count, SUMMED);
	void *memory;
	double sum = 0;
	sl_arena_mark mark = sli_arena_mark(context);
	SL_TRY(sli_arena_take(context, (size_t)blocks * sizeof(double), &memory));
	summing s = {values, dtype, count, memory};
	sli_parallel(context, (size_t)blocks, sum_block, &s);
	for (int64_t i = 0; i < blocks; i++)
		sum += s.sums[i];
	sli_arena_reset(context, mark);
	*mean = count ? sum / (double)count : 0;
	return SL_OK;
}
