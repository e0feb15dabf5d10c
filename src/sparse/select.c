/* SPDX-License-Identifier: Apache-2.0 */
/* Keeping the largest entries of a pattern. */
#include <math.h>

#include "core/half.h"
#include "core/rng.h"
#include "sparse/random.h"

double sli_nth_largest(double *keys, int64_t count, int64_t k) {
	int64_t low = 0, high = count - 1;
	sl_rng rng = sli_rng(0, 0); /* for pivots: the result does not depend on it */
	while (low < high) {
		double pivot = keys[low + (int64_t)sli_rng_below(&rng, (uint64_t)(high - low + 1))];
		int64_t i = low, j = high;
		while (i <= j) {
			while (keys[i] > pivot)
				i++;
			while (keys[j] < pivot)
				j--;
			if (i <= j) {
				double other = keys[i];
				keys[i++] = keys[j];
				keys[j--] = other;
			}
		}
		if (k <= j)
			high = j;
		else if (k >= i)
			low = i;
		else
			return pivot;
	}
	return keys[low];
}

/* Entries above the threshold, and the first of those that equal it. */
static int64_t choose(const double *magnitudes, int64_t nnz, double threshold, int64_t keep, int64_t *map) {
	int64_t above = 0, used = 0;
	for (int64_t k = 0; k < nnz; k++)
		above += magnitudes[k] > threshold;
	int64_t equal = keep - above;
	for (int64_t k = 0; k < nnz && used < keep; k++)
		if (magnitudes[k] > threshold || (magnitudes[k] == threshold && equal-- > 0))
			map[used++] = k;
	return used;
}

static sl_status subset(sl_pattern **result, sl_context *context, const sl_pattern_arrays *a, const int64_t *map,
						int64_t keep) {
	void *offsets;
	int32_t *columns;
	SL_TRY(sli_pattern_take(context, a->rows, keep, &offsets, &columns));
	sl_dtype dtype = sli_offset_dtype(keep);
	int64_t at = 0;
	for (int64_t r = 0; r < a->rows; r++) {
		for (; at < keep && map[at] < sli_index(a->row_offsets, a->offset_dtype, r + 1); at++)
			columns[at] = a->col_indices[map[at]];
		sli_index_set(offsets, dtype, r + 1, at);
	}
	return sli_pattern_adopt(result, context, a->rows, a->cols, keep, offsets, columns);
}

/* Magnitudes of the scores, twice: one to reorder, one to read. */
static sl_status magnitudes(sl_context *context, const sl_pattern_arrays *a, const void *scores, sl_dtype dtype,
							double *keys, double *kept) {
	for (int64_t k = 0; k < a->nnz; k++) {
		kept[k] = keys[k] = fabs(sli_load(scores, dtype, k));
		if (isnan(keys[k]))
			return sli_fail(context, SL_ERR_NONFINITE, "entry %lld (column %d) is NaN: it has no rank", (long long)k,
							(int)a->col_indices[k]);
	}
	return SL_OK;
}

sl_status sli_pattern_keep_largest(sl_pattern **result, int64_t **map, sl_context *context, sl_pattern *pattern,
								   const void *scores, sl_dtype dtype, int64_t keep) {
	sl_pattern_arrays a = sli_pattern_arrays(pattern);
	size_t key_bytes = (size_t)a.nnz * sizeof(double), map_bytes = (size_t)keep * sizeof(int64_t);
	double *keys, *kept;
	*result = NULL;
	*map = NULL;
	SL_TRY(sli_allocate(context, key_bytes, "ranking weights", (void **)&keys));
	sl_status status = sli_allocate(context, key_bytes, "ranking weights", (void **)&kept);
	if (status != SL_OK) {
		sli_heap_free(sli_heap(context), keys, key_bytes);
		return status;
	}
	status = magnitudes(context, &a, scores, dtype, keys, kept);
	if (status == SL_OK)
		status = sli_allocate(context, map_bytes, "ranking weights", (void **)map);
	if (status == SL_OK) {
		if (keep > 0)
			choose(kept, a.nnz, sli_nth_largest(keys, a.nnz, keep - 1), keep, *map);
		status = subset(result, context, &a, *map, keep);
	}
	if (status != SL_OK) {
		sli_heap_free(sli_heap(context), *map, map_bytes);
		*map = NULL;
	}
	sli_heap_free(sli_heap(context), keys, key_bytes);
	sli_heap_free(sli_heap(context), kept, key_bytes);
	return status;
}
