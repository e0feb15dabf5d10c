/* SPDX-License-Identifier: Apache-2.0 */
/* Random structures. */
#include "sparse/random.h"

#include <stdlib.h>

#include "core/checked.h"
#include "core/rng.h"

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
