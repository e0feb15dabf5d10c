/* SPDX-License-Identifier: Apache-2.0 */
#include "train/neighbours.h"

#include <math.h>

#include "core/checked.h"
#include "core/rng.h"

sl_status sli_n_m_check(sl_context *context, int n, int m) {
	if (n < 0 || n > m || (n == 0 && m != 0))
		return sli_fail(context, SL_ERR_ARGUMENT, "n:m is %d:%d; n must be in [1, m], or both 0", n, m);
	return SL_OK;
}

int64_t sli_n_m_entries(int64_t rows, int64_t cols, int n, int m) {
	int64_t last = cols % m;
	return rows * (cols / m * n + (last < n ? last : n));
}

int64_t sli_n_m_candidates(int n, int m) {
	return n < m / 2 ? n : m / 2;
}

/* Groups of a pattern, one after the other. */
typedef struct walk {
	const sl_pattern_arrays *a;
	int m;
	int64_t row, begin, end; /* columns */
	int64_t first, stop;     /* entries */
} walk;

static bool next_group(walk *w) {
	const sl_pattern_arrays *a = w->a;
	if (w->end >= a->cols) {
		w->row++;
		w->end = 0;
	}
	if (w->row >= a->rows || !a->cols)
		return false;
	w->begin = w->end;
	w->end = w->begin + w->m < a->cols ? w->begin + w->m : a->cols;
	w->first = w->begin ? w->stop : sli_index(a->row_offsets, a->offset_dtype, w->row);
	int64_t last = sli_index(a->row_offsets, a->offset_dtype, w->row + 1);
	for (w->stop = w->first; w->stop < last && a->col_indices[w->stop] < w->end;)
		w->stop++;
	return true;
}

static walk groups_of(const sl_pattern_arrays *a, int m) {
	return (walk){.a = a, .m = m};
}

int64_t sli_n_m_excess(const sl_pattern_arrays *pattern, int n, int m, int64_t *count) {
	walk w = groups_of(pattern, m);
	for (int64_t group = 0; next_group(&w); group++)
		if (w.stop - w.first > n) {
			*count = w.stop - w.first;
			return group;
		}
	return -1;
}

static double magnitude(const sl_ranked *r, int64_t k) {
	return r->dtype == SL_F32 ? fabs((double)((const float *)r->values)[k]) : fabs(((const double *)r->values)[k]);
}

/* A weight stays if fewer than `stay` of its group are larger, or equal and before it. NaN stays NaN, and is found. */
static bool stays(const sl_ranked *r, const walk *w, int64_t k, int64_t stay) {
	double own = magnitude(r, k);
	int64_t before = 0;
	for (int64_t j = w->first; j < w->stop; j++) {
		double other = magnitude(r, j);
		before += other > own || (other == own && j < k);
	}
	return before < stay && own == own;
}

sl_status sli_n_m_protect(sl_context *context, const sl_layer_edit *edit, int n, int m, sl_ranked *ranked,
						  int64_t *free) {
	sl_pattern_arrays a = sli_pattern_arrays(edit->change.from);
	size_t bytes;
	void *copy;
	*ranked = edit->ranked;
	*free = 0;
	if (!sli_bytes(a.nnz, sl_dtype_size(ranked->dtype), &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld weights to rank", (long long)a.nnz);
	SL_TRY(sli_arena_take(context, bytes, &copy));
	if (a.nnz)
		memcpy(copy, ranked->values, bytes);
	for (walk w = groups_of(&a, m); next_group(&w);) {
		int64_t count = w.stop - w.first, room = w.end - w.begin - count;
		int64_t stay = n >= 0 ? n : count - room;
		stay = stay < 0 ? 0 : stay > count ? count : stay;
		*free += count - stay;
		for (int64_t k = w.first; k < w.stop && stay; k++)
			if (stays(&edit->ranked, &w, k, stay)) {
				if (ranked->dtype == SL_F32)
					((float *)copy)[k] = INFINITY;
				else
					((double *)copy)[k] = (double)INFINITY;
			}
	}
	ranked->values = copy;
	return SL_OK;
}

static int64_t marked(const sl_layer_edit *edit, const walk *w) {
	int64_t count = 0;
	for (int64_t k = w->first; k < w->stop; k++)
		count += edit->change.marks[k];
	return count;
}

/* Room for what grows: as much as was dropped. */
static sl_status take_cells(sl_context *context, sl_layer_edit *edit, int64_t **cells) {
	void *memory;
	SL_TRY(sli_arena_take(context, (size_t)edit->change.dropped * sizeof **cells, &memory));
	*cells = memory;
	edit->change.cells = memory;
	edit->change.grown = 0;
	return SL_OK;
}

/* `need` of a group's missing cells, each choice as likely as any other: a cell is taken with probability need / cells
 * left. */
static int64_t draw(sl_rng *rng, const walk *w, int64_t need, int64_t *cells) {
	int64_t left = w->end - w->begin - (w->stop - w->first), k = w->first, n = 0;
	for (int64_t c = w->begin; c < w->end && n < need; c++) {
		if (k < w->stop && w->a->col_indices[k] == c) {
			k++;
			continue;
		}
		if ((int64_t)sli_rng_below(rng, (uint64_t)left--) < need - n)
			cells[n++] = w->row * w->a->cols + c;
	}
	return n;
}

sl_status sli_n_m_grow_random(sl_context *context, sl_layer_edit *edit, int m, uint64_t stream) {
	sl_pattern_arrays a = sli_pattern_arrays(edit->change.from);
	int64_t *cells;
	SL_TRY(take_cells(context, edit, &cells));
	for (walk w = groups_of(&a, m); next_group(&w);) {
		int64_t need = marked(edit, &w);
		if (!need)
			continue;
		/* A group's numbers are its own: four a count, of which no group uses as many as it is wide. */
		sl_rng rng = sli_rng(sli_seed(context), stream);
		rng.counter = (uint64_t)(w.row * a.cols + w.begin);
		edit->change.grown += draw(&rng, &w, need, cells + edit->change.grown);
	}
	return SL_OK;
}

static void sort_few(int64_t *cells, int64_t count) {
	for (int64_t i = 1; i < count; i++) {
		int64_t cell = cells[i], at = i;
		for (; at > 0 && cells[at - 1] > cell; at--)
			cells[at] = cells[at - 1];
		cells[at] = cell;
	}
}

sl_status sli_n_m_grow_best(sl_context *context, sl_layer_edit *edit, int m, const sl_selection *selection,
							int64_t base) {
	sl_pattern_arrays a = sli_pattern_arrays(edit->change.from);
	const sl_scored_cell *item = selection->items, *end = item + selection->have;
	int64_t *cells;
	SL_TRY(take_cells(context, edit, &cells));
	while (item < end && item->cell < base)
		item++;
	for (walk w = groups_of(&a, m); next_group(&w);) {
		int64_t need = marked(edit, &w), n = 0, *to = cells + edit->change.grown;
		int64_t stop = base + w.row * a.cols + w.end;
		for (; item < end && item->cell < stop; item++) {
			if (item->key > sli_key_infinity(selection->dtype))
				return sli_fail(context, SL_ERR_NONFINITE, "the gradient of cell %lld of layer \"%s\" is NaN",
								(long long)(item->cell - base), edit->layer->name);
			if (n < need)
				to[n++] = item->cell - base;
		}
		sort_few(to, n);
		edit->change.grown += n;
	}
	return SL_OK;
}
