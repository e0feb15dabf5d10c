/* SPDX-License-Identifier: Apache-2.0 */
#include "sort.cuh"

namespace {

size_t aligned(int64_t count) {
	return ((size_t)count * sizeof(int32_t) + 255) & ~(size_t)255;
}

} // namespace

extern "C" size_t sl_kernel_sort_bytes(int64_t count) {
	return 2 * aligned(count) + (size_t)SORT_BLOCKS * DIGITS * sizeof(int32_t);
}

extern "C" int sl_kernel_sort(const int32_t *keys, int64_t count, int64_t bound, int32_t *sorted, int32_t *order,
							  void *room, void *stream) {
	int32_t *counts = (int32_t *)((char *)room + 2 * aligned(count));
	int32_t *key_of[2] = {(int32_t *)room, sorted}, *order_of[2] = {(int32_t *)((char *)room + aligned(count)), order};
	int64_t chunk = (count + SORT_BLOCKS - 1) / SORT_BLOCKS;
	chunk = (chunk + SORT_THREADS - 1) / SORT_THREADS * SORT_THREADS;
	int passes = 1;
	while (passes < 4 && bound > (int64_t)1 << 8 * passes)
		passes++;
	if (!count)
		return 0;
	int blocks = (int)((count + chunk - 1) / chunk), error = 0;
	/* From one pair of arrays to the other, such that the last pass writes the result. */
	for (int pass = 0; pass < passes && !error; pass++) {
		int to = (passes - pass) % 2;
		const int32_t *from = pass ? key_of[1 - to] : keys, *from_order = pass ? order_of[1 - to] : NULL;
		error = SL_LAUNCH((sort_count), blocks, SORT_THREADS, stream, from, count, chunk, 8 * pass, counts);
		if (!error)
			error = SL_LAUNCH((sort_places), 1, SORT_THREADS, stream, counts, blocks);
		if (!error)
			error = SL_LAUNCH((sort_scatter), blocks, SORT_THREADS, stream, from, from_order, count, chunk, 8 * pass,
							  counts, key_of[to], order_of[to]);
	}
	return error;
}
