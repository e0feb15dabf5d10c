/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Edits of patterns: what is dropped and grown is compared with dense references in double, what stays with a copy
 * of what was; schedules with their formulas; a resumed run with one that was not interrupted.
 */
#include <unistd.h>

#include "sparse/edit.h"
#include "sparse/random.h"
#include "sparse/rank.h"
#include "support/check.h"

enum { MOST = 20000 };

/* ---- Ranking ---- */

static double number(const void *data, sl_dtype dtype, int64_t i) {
	return dtype == SL_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

/* Element i is marked if fewer than `wanted` elements are smaller or equal and later. */
static void check_marks(const sl_ranked *arrays, int count, int64_t wanted) {
	int64_t marked = 0;
	double largest_marked = -1, smallest_kept = INFINITY;
	bool kept_behind = false; /* among equals of the threshold: a kept one behind a marked one */
	for (int a = 0; a < count; a++)
		for (int64_t i = 0; i < arrays[a].count; i++) {
			double size = fabs(number(arrays[a].values, arrays[a].dtype, i));
			CHECK(arrays[a].marks[i] <= 1);
			marked += arrays[a].marks[i];
			if (arrays[a].marks[i])
				largest_marked = size > largest_marked ? size : largest_marked;
			else
				smallest_kept = size < smallest_kept ? size : smallest_kept;
		}
	CHECK_EQ(marked, wanted);
	CHECK(largest_marked <= smallest_kept);
	bool seen = false;
	for (int a = 0; a < count && largest_marked == smallest_kept; a++)
		for (int64_t i = 0; i < arrays[a].count; i++)
			if (fabs(number(arrays[a].values, arrays[a].dtype, i)) == largest_marked) {
				seen |= arrays[a].marks[i];
				kept_behind |= seen && !arrays[a].marks[i];
			}
	CHECK(!kept_behind);
}

SL_TEST(topology, the_smallest_are_marked) {
	sl_context *context = sl_test_context();
	static double data[3][MOST];
	static uint8_t marks[3][MOST];
	const int64_t sizes[][3] = {{0, 0, 0}, {1, 0, 0}, {5, 1, 7}, {MOST, 0, 3}, {16384, 16385, 1}, {300, 2000, MOST}};
	for (int dtype = SL_F32; dtype <= SL_F64; dtype++)
		for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
			for (int kind = 0; kind < 3; kind++) {
				int64_t total = 0;
				sl_ranked r[3];
				for (int a = 0; a < 3; a++) {
					sl_test_fill(data[a], (sl_dtype)dtype, sizes[s][a], 7 * s + (uint64_t)a);
					for (int64_t i = 0; i < sizes[s][a] && kind; i++) { /* many equal, or all */
						double x =
							kind == 2 ? (i % 2 ? 0.0 : -0.0) : floor(8 * number(data[a], (sl_dtype)dtype, i)) / 8;
						if (dtype == SL_F32)
							((float *)data[a])[i] = (float)x;
						else
							data[a][i] = x;
					}
					r[a] = (sl_ranked){"w", data[a], (sl_dtype)dtype, sizes[s][a], marks[a]};
					total += sizes[s][a];
				}
				const int64_t wanted[] = {0, 1, total / 3, total - 1, total};
				for (int w = 0; w < 5; w++)
					if (wanted[w] >= 0 && wanted[w] <= total) {
						CHECK_OK(context, sli_mark_smallest(context, r, 3, wanted[w]));
						check_marks(r, 3, wanted[w]);
					}
			}
	((float *)data[0])[3] = NAN;
	sl_ranked bad = {"first", data[0], SL_F32, 5, marks[0]};
	CHECK_STATUS(context, sli_mark_smallest(context, &bad, 1, 2), SL_ERR_NONFINITE, "entry 3 of \"first\"");
	CHECK_STATUS(context, sli_mark_smallest(context, &bad, 1, 0), SL_ERR_NONFINITE, "entry 3 of \"first\"");
	sl_context_destroy(context);
}

SL_TEST(topology, draws_are_distinct_and_even) {
	sl_context *context = sl_test_context();
	const int64_t totals[] = {1, 2, 10, 1000, 70000, INT64_C(1) << 40};
	static int64_t numbers[MOST], again[MOST];
	for (size_t t = 0; t < sizeof totals / sizeof *totals; t++)
		for (int part = 0; part <= 4; part++) {
			int64_t count = totals[t] < MOST ? totals[t] * part / 4 : MOST * part / 4;
			CHECK_OK(context, sli_draw_distinct(context, numbers, count, totals[t], 5));
			for (int64_t i = 0; i < count; i++)
				CHECK(numbers[i] >= 0 && numbers[i] < totals[t] && (!i || numbers[i] > numbers[i - 1]));
			CHECK_OK(context, sli_draw_distinct(context, again, count, totals[t], 5));
			CHECK(!memcmp(numbers, again, (size_t)count * sizeof *numbers));
		}
	/* Each number as often as any other: 2000 draws of 30 out of 100, and of 70. */
	for (int few = 30; few <= 70; few += 40) {
		int hits[100] = {0};
		for (uint64_t stream = 0; stream < 2000; stream++) {
			CHECK_OK(context, sli_draw_distinct(context, numbers, few, 100, stream));
			for (int i = 0; i < few; i++)
				hits[numbers[i]]++;
		}
		for (int i = 0; i < 100; i++) /* 6 sigma of a binomial */
			CHECK_NEAR(hits[i], 20 * few, 6 * sqrt(2000 * 0.3 * 0.7));
	}
	sl_context_destroy(context);
}

/* ---- Merging ---- */

/* A cell of the merged: 0 nothing, 1 old and stays, 2 old and goes, 3 new. */
typedef struct board {
	int64_t rows, cols;
	uint8_t *cell;
} board;

/* Kinds: 0 even, 1 what goes is in the first rows and what comes in the last, 2 the other way, 3 one row is full, 4
 * all goes, 5 nothing goes. */
static board draw_board(int64_t rows, int64_t cols, int kind, double density, uint64_t *state) {
	board b = {rows, cols, malloc((size_t)(rows * cols) + 1)};
	for (int64_t i = 0; i < rows * cols; i++) {
		*state = *state * 6364136223846793005u + 1442695040888963407u;
		double x = (double)(*state >> 40) / 16777216, where = (double)i / (double)(rows * cols);
		bool old = x < density || (kind == 3 && i / cols == rows / 2);
		double goes = kind == 1 ? where < 0.3 : kind == 2 ? where > 0.7 : kind == 4 ? 1 : kind == 5 ? 0 : 0.3;
		double comes = kind == 1 ? where > 0.8 : kind == 2 ? where < 0.2 : 0.3 * density;
		double y = (double)(*state >> 16 & 0xffffff) / 16777216;
		b.cell[i] = old ? 1 + (y < goes) : y < comes ? 3 : 0;
	}
	return b;
}

static void check_carried(sl_context *context, const board *b, const sl_edit_map *map, int64_t old, int64_t now,
						  sl_dtype dtype, bool in_place) {
	enum { ARRAYS = 3 };
	int64_t most = old > now ? old : now;
	void *from[ARRAYS], *to[ARRAYS], *scratch = NULL, *copy = malloc((size_t)most * 8 + 8);
	sl_carried arrays[ARRAYS];
	size_t bytes;
	for (int a = 0; a < ARRAYS; a++) {
		from[a] = malloc((size_t)most * 8 + 8);
		to[a] = in_place ? from[a] : malloc((size_t)most * 8 + 8);
		sl_test_fill(from[a], dtype, old, (uint64_t)a + 1);
		arrays[a] = (sl_carried){from[a], to[a], a};
	}
	CHECK(sli_carry_scratch(map, ARRAYS, dtype, &bytes));
	scratch = malloc(bytes + 1);
	memset(scratch, 0x5a, bytes + 1);
	sli_carry(context, map, arrays, ARRAYS, dtype, in_place ? scratch : NULL);
	CHECK(((char *)scratch)[bytes] == 0x5a);
	for (int a = 0; a < ARRAYS; a++) {
		sl_test_fill(copy, dtype, old, (uint64_t)a + 1);
		for (int64_t i = 0, k = 0, n = 0; i < b->rows * b->cols; i++) {
			if (b->cell[i] == 1 || b->cell[i] == 3)
				CHECK(number(to[a], dtype, n++) == (b->cell[i] == 3 ? a : number(copy, dtype, k)));
			k += b->cell[i] == 1 || b->cell[i] == 2;
		}
		if (!in_place)
			free(to[a]);
		free(from[a]);
	}
	free(scratch);
	free(copy);
}

static void merge_and_check(sl_context *context, const board *b, bool ranks, int64_t first) {
	int64_t cells = b->rows * b->cols, old = 0, dropped = 0, grown = 0, missing = first, now = 0;
	int32_t *offsets = calloc((size_t)b->rows + 1, sizeof *offsets), *columns = malloc((size_t)cells * 4 + 4);
	int64_t *come = malloc((size_t)cells * 8 + 8);
	uint8_t *marks = malloc((size_t)cells + 1);
	for (int64_t i = 0; i < cells; i++) {
		if (b->cell[i] == 1 || b->cell[i] == 2) {
			marks[old] = b->cell[i] == 2;
			dropped += marks[old];
			columns[old++] = (int32_t)(i % b->cols);
		} else {
			if (b->cell[i] == 3)
				come[grown++] = ranks ? missing : i;
			missing++;
		}
		offsets[i / b->cols + 1] = (int32_t)old;
	}
	sl_pattern *from = NULL, *to = NULL;
	sl_edit_map map;
	CHECK_OK(context, sl_pattern_create(&from, context, b->rows, b->cols, old, offsets, SL_I32, columns, SL_I32));
	sl_pattern_edit edit = {.from = from,
							.marks = dropped ? marks : NULL,
							.dropped = dropped,
							.cells = come,
							.grown = grown,
							.first = first,
							.ranks = ranks};
	sl_arena_mark mark = sli_arena_mark(context);
	CHECK_OK(context, sli_pattern_apply(&to, &map, context, &edit));
	sl_pattern_arrays a = sli_pattern_arrays(to);
	CHECK(a.rows == b->rows && a.cols == b->cols && a.nnz == old - dropped + grown);
	for (int64_t i = 0; i < cells; i++) {
		if (b->cell[i] == 1 || b->cell[i] == 3)
			CHECK_EQ(a.col_indices[now++], i % b->cols);
		if (i % b->cols == b->cols - 1)
			CHECK_EQ(((const int32_t *)a.row_offsets)[i / b->cols + 1], now);
	}
	for (int dtype = SL_F32; dtype <= SL_F64; dtype++) {
		check_carried(context, b, &map, old, now, (sl_dtype)dtype, false);
		check_carried(context, b, &map, old, now, (sl_dtype)dtype, true);
	}
	sli_arena_reset(context, mark);
	sl_pattern_release(from);
	sl_pattern_release(to);
	free(offsets);
	free(columns);
	free(come);
	free(marks);
}

SL_TEST(topology, patterns_are_merged_and_values_carried) {
	static const int64_t sizes[][2] = {{1, 1}, {3, 7}, {1, 255}, {2, 256}, {5, 600}, {9, 5000}, {3000, 3}, {70, 300}};
	static const double densities[] = {0, 0.05, 0.5, 1};
	uint64_t state = 1;
	for (int threads = 1; threads <= 3; threads += 2) {
		sl_context *context = NULL;
		CHECK(sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU,
																.threads = threads}) == SL_OK);
		for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
			for (int kind = 0; kind < (threads > 1 ? 3 : 6); kind++)
				for (int d = threads > 1; d < (threads > 1 ? 3 : 4); d++) {
					board b = draw_board(sizes[s][0], sizes[s][1], kind, densities[d], &state);
					merge_and_check(context, &b, false, 0);
					merge_and_check(context, &b, true, d ? 1000 * d : 0);
					free(b.cell);
				}
		sl_context_destroy(context);
	}
}

/* ---- Single edits ---- */

typedef struct copy {
	int64_t rows, cols, nnz;
	double *value, *moment, *gradient; /* dense, NaN where there is no entry */
} copy;

static double *spread(sl_context *context, const sl_pattern_arrays *a, const void *values, sl_dtype dtype) {
	(void)context;
	double *dense = malloc((size_t)(a->rows * a->cols) * sizeof *dense);
	for (int64_t i = 0; i < a->rows * a->cols; i++)
		dense[i] = NAN;
	for (int64_t r = 0; r < a->rows; r++)
		for (int64_t k = ((const int32_t *)a->row_offsets)[r]; k < ((const int32_t *)a->row_offsets)[r + 1]; k++)
			dense[r * a->cols + a->col_indices[k]] = values ? number(values, dtype, k) : 0;
	return dense;
}

static copy take_copy(sl_context *context, const sl_layer *layer, const sl_optimizer *optimizer) {
	sl_parameter p = {.struct_size = sizeof p};
	sl_pattern_arrays a;
	void *moment = NULL;
	CHECK_OK(context, sl_layer_parameter(context, layer, 0, &p));
	CHECK_OK(context, sl_pattern_get(context, p.pattern, &a));
	CHECK_OK(context, sl_optimizer_state(context, optimizer, layer, 0, 0, &moment));
	for (int64_t r = 0; r < a.rows; r++)
		for (int64_t k = ((const int32_t *)a.row_offsets)[r] + 1; k < ((const int32_t *)a.row_offsets)[r + 1]; k++)
			CHECK(a.col_indices[k] > a.col_indices[k - 1]);
	return (copy){a.rows,
				  a.cols,
				  a.nnz,
				  spread(context, &a, p.value, p.dtype),
				  spread(context, &a, moment, p.dtype),
				  spread(context, &a, p.gradient, p.dtype)};
}

static void free_copy(copy *c) {
	free(c->value);
	free(c->moment);
	free(c->gradient);
}

typedef struct one_layer {
	sl_context *context;
	sl_layer *layer;
	sl_optimizer *optimizer;
	sl_saved *saved;
	void *x, *y, *dy;
	int64_t in, out, batch;
	sl_dtype dtype;
	sl_dense X, Y, dY;
} one_layer;

/* A layer that has made a step of momentum, so that its moments and gradients are something. */
static one_layer make(int64_t in, int64_t out, int64_t batch, double density, sl_dtype dtype, sl_activation act) {
	one_layer l = {.context = sl_test_context(), .in = in, .out = out, .batch = batch, .dtype = dtype};
	size_t size = sl_dtype_size(dtype);
	l.x = malloc((size_t)(in * batch) * size);
	l.y = malloc((size_t)(out * batch) * size);
	l.dy = malloc((size_t)(out * batch) * size);
	sl_test_fill(l.x, dtype, in * batch, 11);
	sl_test_fill(l.dy, dtype, out * batch, 12);
	l.X = sl_dense_view(l.x, dtype, batch, in);
	l.Y = sl_dense_view(l.y, dtype, batch, out);
	l.dY = sl_dense_view(l.dy, dtype, batch, out);
	CHECK_OK(l.context, sl_linear_create(&l.layer, l.context,
										 &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = in,
															  .out_features = out, .density = density, .dtype = dtype,
															  .bias = true, .activation = act, .stream = 4}));
	CHECK_OK(l.context, sl_optimizer_create(&l.optimizer, l.context,
											&(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_MOMENTUM}));
	CHECK_OK(l.context, sl_optimizer_add(l.context, l.optimizer, l.layer));
	CHECK_OK(l.context, sl_saved_create(&l.saved, l.context, l.layer, batch));
	CHECK_OK(l.context, sl_layer_forward(l.context, l.layer, &l.X, &l.Y, l.saved));
	CHECK_OK(l.context, sl_layer_backward(l.context, l.layer, l.saved, &l.dY, NULL, SL_OVERWRITE));
	CHECK_OK(l.context, sl_optimizer_step(l.context, l.optimizer));
	CHECK_OK(l.context, sl_layer_forward(l.context, l.layer, &l.X, &l.Y, l.saved));
	CHECK_OK(l.context, sl_layer_backward(l.context, l.layer, l.saved, &l.dY, NULL, SL_OVERWRITE));
	return l;
}

static void destroy(one_layer *l) {
	sl_saved_destroy(l->saved);
	sl_optimizer_destroy(l->optimizer);
	sl_layer_destroy(l->layer);
	sl_context_destroy(l->context);
	free(l->x);
	free(l->y);
	free(l->dy);
}

static int descending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x < y) - (x > y);
}

/* |dL/dW| in double. ReLU's derivative is read off the outputs. */
static double *dense_gradient(const one_layer *l, bool relu) {
	double *g = calloc((size_t)(l->out * l->in + 1), sizeof *g);
	for (int64_t b = 0; b < l->batch; b++)
		for (int64_t o = 0; o < l->out; o++) {
			double dz = number(l->dy, l->dtype, b * l->out + o);
			if (relu && !(number(l->y, l->dtype, b * l->out + o) > 0))
				dz = 0;
			for (int64_t i = 0; i < l->in; i++)
				g[o * l->in + i] += dz * number(l->x, l->dtype, b * l->in + i);
		}
	for (int64_t i = 0; i < l->out * l->in; i++)
		g[i] = fabs(g[i]);
	return g;
}

/* The dropped are the smallest, the rest and their moments are what they were, the grown are zero. */
static void check_regrown(const copy *before, const copy *after, int64_t moved) {
	int64_t dropped = 0, grown = 0;
	double largest_dropped = 0, smallest_kept = INFINITY;
	CHECK_EQ(after->nnz, before->nnz);
	for (int64_t i = 0; i < before->rows * before->cols; i++) {
		bool was = !isnan(before->value[i]), is = !isnan(after->value[i]);
		double size = fabs(before->value[i]);
		if (was && is) {
			CHECK(after->value[i] == before->value[i] && after->moment[i] == before->moment[i] &&
				  after->gradient[i] == before->gradient[i]);
			smallest_kept = size < smallest_kept ? size : smallest_kept;
		} else if (was) {
			dropped++;
			largest_dropped = size > largest_dropped ? size : largest_dropped;
		} else if (is) {
			grown++;
			CHECK(after->value[i] == 0 && after->moment[i] == 0 && after->gradient[i] == 0);
		}
	}
	CHECK_EQ(dropped, moved);
	CHECK_EQ(grown, moved);
	CHECK(largest_dropped <= smallest_kept);
}

static const struct {
	int64_t in, out, batch;
	double density;
} shapes[] = {{1, 1, 1, 1},       {7, 1, 3, 0.5},      {1, 9, 2, 0.4},       {33, 40, 17, 0.02},
			  {130, 70, 64, 0.1}, {300, 257, 33, 0.3}, {1000, 300, 70, 0.9}, {64, 64, 8, 0}};

/* What may be grown where a row gains at most `limit`: the best of each row, then of all, best first. `rows` receives
 * the least of each row that may; returns how many there are. */
static int64_t best_missing(const one_layer *l, const copy *before, const double *g, int64_t limit, double *best,
							double *rows) {
	int64_t count = 0;
	for (int64_t o = 0; o < l->out; o++) {
		int64_t first = count;
		for (int64_t i = o * l->in; i < (o + 1) * l->in; i++)
			if (isnan(before->value[i]))
				best[count++] = g[i];
		qsort(best + first, (size_t)(count - first), sizeof *best, descending);
		count = count - first > limit ? first + limit : count;
		rows[o] = count > first ? best[count - 1] : INFINITY;
	}
	qsort(best, (size_t)count, sizeof *best, descending);
	return count;
}

static void regrow_and_check(one_layer *l, double drop, double spread) {
	double *g = dense_gradient(l, true), *best = malloc((size_t)(l->in * l->out + 1) * sizeof *g);
	double *rows = malloc((size_t)l->out * sizeof *rows);
	copy before = take_copy(l->context, l->layer, l->optimizer);
	int64_t moved, wanted = llround(drop * (double)before.nnz), limit = l->in;
	int64_t missing = l->in * l->out - before.nnz;
	wanted = wanted < missing ? wanted : missing;
	if (isfinite(spread))
		limit = (int64_t)ceil((spread != 0 ? spread : 1) * (double)wanted / (double)l->out);
	const void *place = sl_csr_values(sl_layer_weights(l->layer));
	CHECK_OK(l->context, sl_layer_regrow(l->context, l->layer,
										 &(sl_regrow_options){SL_REGROW_DEFAULTS, .drop = drop, .saved = l->saved,
															  .dY = &l->dY, .spread = spread},
										 l->optimizer, &moved));
	copy after = take_copy(l->context, l->layer, l->optimizer);
	CHECK(place == sl_csr_values(sl_layer_weights(l->layer))); /* in place */
	check_regrown(&before, &after, moved);
	int64_t count = best_missing(l, &before, g, limit, best, rows);
	CHECK_EQ(moved, wanted < count ? wanted : count);
	/* Scores of the library are within batch * eps * sum |dZ||X| <= batch^2 eps of the exact. */
	double bound = 2 * (double)(l->batch * l->batch) * (l->dtype == SL_F32 ? 0x1p-24 : 0x1p-53);
	for (int64_t o = 0; o < l->out; o++) {
		int64_t gained = 0;
		for (int64_t i = o * l->in; i < (o + 1) * l->in; i++)
			if (isnan(before.value[i]) && !isnan(after.value[i])) {
				CHECK(g[i] >= best[moved - 1] - bound && g[i] >= rows[o] - bound);
				gained++;
			}
		CHECK(gained <= limit);
	}
	free_copy(&before);
	free_copy(&after);
	free(g);
	free(best);
	free(rows);
	/* And it still trains, in its new pattern. */
	CHECK_STATUS(l->context, sl_layer_backward(l->context, l->layer, l->saved, &l->dY, NULL, SL_OVERWRITE),
				 moved ? SL_ERR_STATE : SL_OK, moved ? "edited" : "");
	CHECK_OK(l->context, sl_layer_forward(l->context, l->layer, &l->X, &l->Y, l->saved));
	CHECK_OK(l->context, sl_layer_backward(l->context, l->layer, l->saved, &l->dY, NULL, SL_OVERWRITE));
	CHECK_OK(l->context, sl_optimizer_step(l->context, l->optimizer));
}

SL_TEST(topology, regrow_by_gradient_takes_the_largest) {
	static const double drops[] = {0.4, 1}, spreads[] = {INFINITY, 0, 1.5, 7};
	for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
		/* Half of them for the large ones, which take long. */
		for (size_t k = 0; k < 8 && shapes[s].density != 0; k += shapes[s].in >= 300 ? 3 : 1) {
			sl_dtype dtype = (s + k) % 2 ? SL_F32 : SL_F64;
			one_layer l = make(shapes[s].in, shapes[s].out, shapes[s].batch, shapes[s].density, dtype, SL_RELU);
			regrow_and_check(&l, drops[k / 4], spreads[k % 4]);
			destroy(&l);
		}
	for (int dtype = SL_F32; dtype <= SL_F64; dtype++) {
		one_layer l = make(130, 70, 64, 0.1, (sl_dtype)dtype, SL_RELU);
		regrow_and_check(&l, 0.3, 1);
		destroy(&l);
	}
}

SL_TEST(topology, regrow_at_random) {
	for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
		if (shapes[s].density == 0)
			continue;
		one_layer l = make(shapes[s].in, shapes[s].out, shapes[s].batch, shapes[s].density, SL_F32, SL_TANH);
		copy before = take_copy(l.context, l.layer, l.optimizer);
		int64_t moved;
		CHECK_OK(l.context, sl_layer_regrow(l.context, l.layer, NULL, l.optimizer, &moved));
		copy after = take_copy(l.context, l.layer, l.optimizer);
		check_regrown(&before, &after, moved);
		free_copy(&before);
		free_copy(&after);
		destroy(&l);
	}
}

/* Zero gradients everywhere: ties go to the lower cell, however many there are. */
SL_TEST(topology, ties_go_to_the_lower_cell) {
	one_layer l = make(3000, 60, 4, 0.05, SL_F32, SL_IDENTITY);
	memset(l.dy, 0, (size_t)(l.out * l.batch) * 4);
	copy before = take_copy(l.context, l.layer, l.optimizer);
	int64_t moved, left;
	CHECK_OK(l.context, sl_layer_regrow(l.context, l.layer,
										&(sl_regrow_options){SL_REGROW_DEFAULTS, .drop = 1, .saved = l.saved,
															 .dY = &l.dY, .spread = INFINITY},
										l.optimizer, &moved));
	copy after = take_copy(l.context, l.layer, l.optimizer);
	check_regrown(&before, &after, moved);
	left = moved;
	for (int64_t i = 0; i < l.in * l.out; i++)
		if (isnan(before.value[i]))
			CHECK(isnan(after.value[i]) == (left-- <= 0));
	free_copy(&before);
	free_copy(&after);
	((float *)l.dy)[1] = NAN;
	CHECK_OK(l.context, sl_layer_forward(l.context, l.layer, &l.X, &l.Y, l.saved));
	CHECK_STATUS(l.context,
				 sl_layer_regrow(l.context, l.layer,
								 &(sl_regrow_options){SL_REGROW_DEFAULTS, .saved = l.saved, .dY = &l.dY}, l.optimizer,
								 NULL),
				 SL_ERR_NONFINITE, "is NaN");
	destroy(&l);
}

SL_TEST(topology, regrow_refuses) {
	one_layer l = make(20, 10, 4, 0.3, SL_F32, SL_RELU), other = make(20, 10, 4, 0.3, SL_F32, SL_RELU);
	sl_regrow_options o = {SL_REGROW_DEFAULTS, .drop = 1.5};
	CHECK(sl_layer_regrow(NULL, l.layer, NULL, NULL, NULL) == SL_ERR_NULL);
	CHECK_STATUS(l.context, sl_layer_regrow(l.context, NULL, NULL, NULL, NULL), SL_ERR_NULL, "layer");
	CHECK_STATUS(l.context, sl_layer_regrow(l.context, l.layer, &o, NULL, NULL), SL_ERR_ARGUMENT, "drop is 1.5");
	o.drop = NAN;
	CHECK_STATUS(l.context, sl_layer_regrow(l.context, l.layer, &o, NULL, NULL), SL_ERR_ARGUMENT, "drop is");
	o = (sl_regrow_options){SL_REGROW_DEFAULTS, .spread = 0.5};
	CHECK_STATUS(l.context, sl_layer_regrow(l.context, l.layer, &o, NULL, NULL), SL_ERR_ARGUMENT, "spread is 0.5");
	o = (sl_regrow_options){SL_REGROW_DEFAULTS, .saved = l.saved};
	CHECK_STATUS(l.context, sl_layer_regrow(l.context, l.layer, &o, NULL, NULL), SL_ERR_NULL, "dY");
	o.saved = other.saved;
	o.dY = &l.dY;
	CHECK_STATUS(l.context, sl_layer_regrow(l.context, l.layer, &o, NULL, NULL), SL_ERR_STATE, "no forward");
	sl_dense wrong = sl_dense_view(l.dy, SL_F32, 3, 10);
	o.saved = l.saved;
	o.dY = &wrong;
	CHECK_STATUS(l.context, sl_layer_regrow(l.context, l.layer, &o, NULL, NULL), SL_ERR_SHAPE, "dY is 3 x 10");
	wrong = sl_dense_view(l.dy, SL_F64, 4, 10);
	CHECK_STATUS(l.context, sl_layer_regrow(l.context, l.layer, &o, NULL, NULL), SL_ERR_DTYPE, "dY is f64");
	CHECK_STATUS(l.context, sl_layer_regrow(l.context, l.layer, NULL, other.optimizer, NULL), SL_ERR_ARGUMENT,
				 "not been added");
	CHECK_OK(l.context, sl_layer_regrow(l.context, l.layer, NULL, NULL, NULL));
	CHECK_STATUS(l.context, sl_layer_regrow(l.context, l.layer, NULL, l.optimizer, NULL), SL_ERR_STATE,
				 "without this optimizer");
	sl_layer *dense;
	CHECK_OK(l.context, sl_linear_create(&dense, l.context,
										 &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = 3, .out_features = 3,
															  .dense = true}));
	CHECK_STATUS(l.context, sl_layer_regrow(l.context, dense, NULL, NULL, NULL), SL_ERR_STATE, "dense");
	sl_layer_destroy(dense);
	destroy(&l);
	destroy(&other);
}

/* ---- Schedules ---- */

enum { IN = 30, HIDDEN = 40, OUT = 5, SAMPLES = 96, BATCH = 8 };
static float pixels[SAMPLES * IN];
static int32_t labels[SAMPLES];

typedef struct net {
	sl_context *context;
	sl_model *model;
	sl_optimizer *optimizer;
} net;

static void fill_samples(void) {
	sl_test_fill(pixels, SL_F32, SAMPLES * IN, 3);
	for (int i = 0; i < SAMPLES; i++)
		labels[i] = (int32_t)(pixels[i * IN] > 0) + 2 * (int32_t)(pixels[i * IN + 1] > 0);
}

static net make_net(int threads, double density, double l1_proximal) {
	net n;
	const int64_t sizes[] = {IN, HIDDEN, HIDDEN, OUT};
	fill_samples();
	CHECK(sl_context_create(&n.context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .seed = 9,
															  .threads = threads}) == SL_OK);
	CHECK_OK(n.context, sl_model_create(&n.model, n.context));
	for (int i = 0; i < 3; i++) {
		sl_layer *layer;
		bool dense = i == 2 || density == 1;
		CHECK_OK(n.context,
				 sl_linear_create(
					 &layer, n.context,
					 &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = sizes[i], .out_features = sizes[i + 1],
										  .dense = dense, .density = dense ? 1 : density, .bias = true,
										  .activation = i < 2 ? SL_RELU : SL_IDENTITY, .stream = (uint64_t)i + 1}));
		CHECK_OK(n.context, sl_model_add(n.context, n.model, layer));
	}
	CHECK_OK(n.context, sl_optimizer_create(&n.optimizer, n.context,
											&(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM,
																	.l1_proximal = l1_proximal}));
	CHECK_OK(n.context, sl_model_add_to_optimizer(n.context, n.model, n.optimizer));
	return n;
}

static void destroy_net(net *n) {
	sl_optimizer_destroy(n->optimizer);
	sl_model_destroy(n->model);
	sl_context_destroy(n->context);
}

static uint64_t fingerprint(const net *n) {
	uint64_t sum = 0;
	for (int i = 0; i < sl_model_layer_count(n->model); i++)
		for (int p = 0; p < 2; p++) {
			sl_parameter w = {.struct_size = sizeof w};
			uint64_t hash = 1;
			CHECK_OK(n->context, sl_layer_parameter(n->context, sl_model_layer(n->model, i), p, &w));
			if (w.pattern)
				CHECK_OK(n->context, sl_pattern_hash(n->context, w.pattern, &hash));
			for (int64_t k = 0; k < w.count; k++)
				hash = (hash ^ ((const uint32_t *)w.value)[k]) * 0x100000001b3u;
			for (int s = 0; s < 2; s++) {
				void *state;
				CHECK_OK(n->context,
						 sl_optimizer_state(n->context, n->optimizer, sl_model_layer(n->model, i), p, s, &state));
				for (int64_t k = 0; k < w.count; k++)
					hash = (hash ^ ((const uint32_t *)state)[k]) * 0x100000001b3u;
			}
			sum = sum * 31 + hash;
		}
	return sum;
}

static sl_status fit(net *n, int64_t first_epoch, int64_t first_sample, int64_t epochs) {
	sl_samples s = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(pixels, SL_F32, SAMPLES, IN), .labels = labels};
	return sl_model_fit(n->context, n->model, n->optimizer, &s,
						&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = epochs, .first_epoch = first_epoch,
										  .first_sample = first_sample, .batch = BATCH});
}

static sl_sparsity_info info_of(const net *n) {
	sl_sparsity_info info = {.struct_size = sizeof info};
	CHECK_OK(n->context, sl_model_get_sparsity(n->context, n->model, &info));
	return info;
}

static int64_t nnz_of(const net *n, int layer) {
	sl_layer_info info = {.struct_size = sizeof info};
	CHECK_OK(n->context, sl_layer_get_info(n->context, sl_model_layer(n->model, layer), &info));
	return info.nnz;
}

SL_TEST(topology, schedules_edit_when_they_are_due_and_by_as_much_as_they_say) {
	const sl_sparse_method methods[] = {SL_SPARSE_SET, SL_SPARSE_RIGL};
	for (int m = 0; m < 2; m++)
		for (int budget = 0; budget < 2; budget++)
			for (int decay = SL_DECAY_COSINE; decay <= SL_DECAY_LINEAR; decay++) {
				net n = make_net(2, 0.2, 0);
				int64_t edits = 0, all = nnz_of(&n, 0) + nnz_of(&n, 1), each[] = {nnz_of(&n, 0), nnz_of(&n, 1)};
				CHECK_OK(n.context, sl_model_set_sparsity(
										n.context, n.model,
										&(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = methods[m],
															   .budget = (sl_budget)budget, .interval = 3, .begin = 2,
															   .end = 20, .drop = 0.5, .decay = (sl_drop_decay)decay}));
				for (int64_t step = 1; step <= 24; step++) {
					sl_loss_result result;
					sl_sparsity_edit edit = {.struct_size = sizeof edit};
					sl_dense x = sl_dense_view(pixels + (step % 4) * BATCH * IN, SL_F32, BATCH, IN);
					bool due = step > 2 && step <= 20 && (step - 2) % 3 == 0;
					int64_t next = step;
					while (next <= 20 && !(next > 2 && (next - 2) % 3 == 0))
						next++;
					CHECK_EQ(info_of(&n).next_edit, next <= 20 ? next : -1);
					CHECK_OK(n.context, sl_model_train_batch(n.context, n.model, SL_SOFTMAX_CROSS_ENTROPY, &x,
															 &(sl_targets){.labels = labels + (step % 4) * BATCH},
															 SL_OVERWRITE, &result));
					CHECK_OK(n.context, sl_optimizer_step(n.context, n.optimizer));
					CHECK_OK(n.context, sl_model_sparsity_step(n.context, n.model, n.optimizer, &edit));
					double done = (double)step / 20, f = decay == SL_DECAY_COSINE   ? 0.25 * (1 + cos(M_PI * done))
														 : decay == SL_DECAY_LINEAR ? 0.5 * (1 - done)
																					: 0.5;
					int64_t moves =
						budget ? llround(f * (double)all) : llround(f * (double)each[0]) + llround(f * (double)each[1]);
					CHECK_EQ(edit.edited, due);
					CHECK_EQ(edit.dropped, due ? moves : 0);
					CHECK_EQ(edit.grown, edit.dropped);
					CHECK_EQ(nnz_of(&n, 0) + nnz_of(&n, 1), all);
					if (!budget)
						CHECK_EQ(nnz_of(&n, 0), each[0]);
					edits += due;
					CHECK_EQ(info_of(&n).edits, edits);
				}
				CHECK_EQ(edits, 6);
				destroy_net(&n);
			}
}

SL_TEST(topology, gradual_pruning_follows_its_curve) {
	for (int budget = 0; budget < 2; budget++)
		for (int start = 0; start < 2; start++) { /* dense, sparse */
			net n = make_net(2, start ? 0.6 : 1, 0);
			int64_t first[] = {nnz_of(&n, 0), nnz_of(&n, 1)}, cells[] = {IN * HIDDEN, HIDDEN * HIDDEN};
			double densities[] = {0.1, 0.05, 0};
			CHECK_OK(n.context,
					 sl_model_set_sparsity(n.context, n.model,
										   &(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = SL_SPARSE_GMP,
																  .budget = (sl_budget)budget, .interval = 2, .end = 11,
																  .densities = densities}));
			for (int64_t epoch = 0; epoch < 1; epoch++)
				CHECK_OK(n.context, fit(&n, 0, 0, 1)); /* 12 steps, edits after 2, 4 ... 10 */
			int64_t sum = 0;
			for (int i = 0; i < 2; i++) {
				int64_t wanted = llround(densities[i] * (double)cells[i]);
				sum += wanted;
				if (!budget)
					CHECK_EQ(nnz_of(&n, i), wanted);
			}
			CHECK_EQ(nnz_of(&n, 0) + nnz_of(&n, 1), sum);
			CHECK_EQ(nnz_of(&n, 2), HIDDEN * OUT);
			CHECK_EQ(info_of(&n).edits, 5);
			(void)first;
			destroy_net(&n);
		}
	/* The curve itself: step by step, no gradients needed. */
	net n = make_net(1, 0.8, 0);
	int64_t first = nnz_of(&n, 0), final = llround(0.1 * IN * HIDDEN);
	CHECK_OK(n.context,
			 sl_model_set_sparsity(n.context, n.model,
								   &(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = SL_SPARSE_GMP, .interval = 10,
														  .begin = 20, .end = 70, .density = 0.1, .keep_last = true}));
	for (int64_t step = 1; step <= 80; step++) {
		CHECK_OK(n.context, sl_model_sparsity_step(n.context, n.model, n.optimizer, NULL));
		int64_t at = step < 30 ? 20 : step < 70 ? step / 10 * 10 : 70;
		double left = 1 - (double)(at - 20) / 50;
		CHECK_EQ(nnz_of(&n, 0), final + llround((double)(first - final) * left * left * left));
	}
	destroy_net(&n);
}

SL_TEST(topology, l1_drops_what_became_zero) {
	net n = make_net(2, 0.5, 2);
	int64_t before = nnz_of(&n, 0) + nnz_of(&n, 1);
	CHECK_OK(n.context,
			 sl_model_set_sparsity(n.context, n.model,
								   &(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = SL_SPARSE_L1, .interval = 12,
														  .end = 1000, .density = 0.05, .keep_last = true}));
	CHECK_OK(n.context, fit(&n, 0, 0, 4));
	int64_t zeros = 0;
	CHECK(nnz_of(&n, 0) + nnz_of(&n, 1) < before);
	for (int i = 0; i < 2; i++) {
		const float *w = sl_csr_values(sl_layer_weights(sl_model_layer(n.model, i)));
		for (int64_t k = 0; k < nnz_of(&n, i); k++)
			zeros += w[k] == 0;
		CHECK(nnz_of(&n, i) >= llround(0.05 * (i ? HIDDEN * HIDDEN : IN * HIDDEN)));
		if (nnz_of(&n, i) > llround(0.05 * (i ? HIDDEN * HIDDEN : IN * HIDDEN)))
			CHECK_EQ(zeros, 0);
	}
	destroy_net(&n);
}

/* One run; the same on another number of threads; the same, cut in the middle of an epoch at an edit and resumed. */
SL_TEST(topology, runs_are_the_same_whatever_the_threads_and_the_interruptions) {
	char path[] = "/tmp/sl-topology-XXXXXX";
	int file = mkstemp(path);
	CHECK(file >= 0);
	close(file);
	static const double spreads[] = {1.5, INFINITY};
	for (int method = SL_SPARSE_SET; method <= SL_SPARSE_L1; method++)
		for (int budget = 0; budget < 2; budget++) {
			uint64_t prints[3];
			for (int run = 0; run < 3; run++) {
				net n = make_net(run == 1 ? 1 : 2, 0.3, method == SL_SPARSE_L1 ? 0.5 : 0);
				bool prunes = method >= SL_SPARSE_GMP;
				CHECK_OK(n.context, sl_model_set_sparsity(
										n.context, n.model,
										&(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = (sl_sparse_method)method,
															   .budget = (sl_budget)budget, .interval = 5, .end = 33,
															   .density = prunes ? 0.1 : 0, .keep_last = prunes,
															   .stream = 3, .spread = spreads[budget]}));
				if (run == 2) {
					CHECK_OK(n.context, fit(&n, 0, 0, 2));
					sl_checkpoint c = {SL_CHECKPOINT_DEFAULTS, .epochs_done = 2, .batch = BATCH};
					CHECK_OK(n.context, sl_model_save(n.context, n.model, n.optimizer, &c, path));
					sl_sparsity_info was = info_of(&n);
					sl_optimizer_destroy(n.optimizer);
					sl_model_destroy(n.model);
					CHECK_OK(n.context, sl_model_load(&n.model, &n.optimizer, &c, n.context, path, NULL));
					sl_sparsity_info is = info_of(&n);
					CHECK(was.method == is.method && was.steps == is.steps && was.edits == is.edits &&
						  was.next_edit == is.next_edit && was.drop == is.drop && was.layers == is.layers);
					CHECK_OK(n.context, fit(&n, 2, 0, 4));
				} else {
					CHECK_OK(n.context, fit(&n, 0, 0, 4));
				}
				prints[run] = fingerprint(&n);
				destroy_net(&n);
			}
			CHECK(prints[0] == prints[1]);
			CHECK(prints[0] == prints[2]);
		}
	unlink(path);
}

SL_TEST(topology, schedules_refuse) {
	net n = make_net(1, 0.3, 0);
	sl_sparsity_options o = {SL_SPARSITY_DEFAULTS, .method = SL_SPARSE_RIGL, .end = 10, .interval = 1};
	sl_sparsity_options bad = o;
	CHECK(sl_model_set_sparsity(NULL, n.model, &o) == SL_ERR_NULL);
	CHECK_STATUS(n.context, sl_model_set_sparsity(n.context, NULL, &o), SL_ERR_NULL, "model");
	CHECK_STATUS(n.context, sl_model_sparsity_step(n.context, n.model, n.optimizer, NULL), SL_ERR_STATE, "no schedule");
#define REFUSED(field, value, text)                                                                                    \
	bad = o;                                                                                                           \
	bad.field = value;                                                                                                 \
	CHECK_STATUS(n.context, sl_model_set_sparsity(n.context, n.model, &bad), SL_ERR_ARGUMENT, text)
	REFUSED(method, (sl_sparse_method)9, "method is 9");
	REFUSED(budget, (sl_budget)9, "budget is 9");
	REFUSED(decay, (sl_drop_decay)9, "decay is 9");
	REFUSED(distribution, (sl_distribution)9, "distribution is 9");
	REFUSED(interval, -1, "interval is -1");
	REFUSED(begin, -1, "begin is -1");
	REFUSED(end, 0, "end is 0");
	REFUSED(drop, 1.5, "drop is 1.5");
	REFUSED(drop, NAN, "drop is");
	REFUSED(spread, 0.9, "spread is 0.9");
	REFUSED(density, -0.5, "density is -0.5");
	REFUSED(density, 0.5, "method rigl keeps");
	CHECK_OK(n.context, sl_model_set_sparsity(n.context, n.model, &o));
	CHECK_STATUS(n.context, sl_model_sparsity_step(n.context, n.model, n.optimizer, NULL), SL_ERR_STATE,
				 "no gradient of layer");
	CHECK_EQ(info_of(&n).steps, 0);
	CHECK_OK(n.context, sl_model_set_sparsity(n.context, n.model, NULL));
	CHECK_EQ(info_of(&n).method, SL_SPARSE_STATIC);
	net dense = make_net(1, 1, 0);
	CHECK_STATUS(dense.context, sl_model_set_sparsity(dense.context, dense.model, &o), SL_ERR_STATE, "no layer");
	destroy_net(&dense);
	destroy_net(&n);
}

SL_TEST(topology, time_is_counted_by_op_when_asked_for) {
	net n = make_net(2, 0.3, 0);
	sl_op_time t = {.struct_size = sizeof t};
	int seen = 0;
	CHECK_OK(n.context, sl_model_set_sparsity(n.context, n.model,
											  &(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = SL_SPARSE_SET,
																	 .interval = 4, .end = 100}));
	CHECK_OK(n.context, sl_context_set_profiling(n.context, true));
	CHECK_OK(n.context, fit(&n, 0, 0, 1)); /* 12 steps */
	for (int i = 0; i < sl_context_op_time_count(); i++) {
		CHECK_OK(n.context, sl_context_op_time(n.context, i, &t));
		CHECK(t.seconds >= 0 && (t.calls > 0 || t.seconds == 0) && strcmp(t.name, "other"));
		if (!strcmp(t.name, "edit"))
			CHECK_EQ(t.calls, 3);
		if (!strcmp(t.name, "loss"))
			CHECK_EQ(t.calls, 12);
		if (!strcmp(t.name, "update"))
			CHECK_EQ(t.calls, 12 * 6);
		seen += t.calls > 0;
	}
	CHECK(seen >= 5);
	CHECK_STATUS(n.context, sl_context_op_time(n.context, -1, &t), SL_ERR_ARGUMENT, "index is -1");
	CHECK_STATUS(n.context, sl_context_op_time(n.context, 99, &t), SL_ERR_ARGUMENT, "index is 99");
	CHECK(sl_context_set_profiling(NULL, true) == SL_ERR_NULL);
	CHECK_OK(n.context, sl_context_set_profiling(n.context, false));
	CHECK_OK(n.context, fit(&n, 1, 0, 2));
	for (int i = 0; i < sl_context_op_time_count(); i++) {
		CHECK_OK(n.context, sl_context_op_time(n.context, i, &t));
		CHECK_EQ(t.calls, 0);
	}
	destroy_net(&n);
}
