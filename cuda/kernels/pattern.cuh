/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is made of a pattern on the device: its check, its transpose, how its rows are shared out. Under them a stable
 * radix sort and sums over prefixes, which have one result however the threads run: blocks own ranges of the input, and
 * ranks within a block are counted by ballots, not by atomics.
 */
#include "rows.cuh"
#include "scan.cuh"

namespace {

enum { THREADS = 256 };

SL_DEVICE int64_t thread_of_grid() {
	return (int64_t)blockIdx.x * THREADS + threadIdx.x;
}

__global__ void __launch_bounds__(THREADS) nothing_found(int64_t *result) {
	if (threadIdx.x == 0)
		*result = INT64_MAX;
}

/* The first offset that is not between the one before it and nnz; the first must be 0, the last nnz. */
__global__ void __launch_bounds__(THREADS) check_offsets(sl_rows s, int64_t *result) {
	for (int64_t i = thread_of_grid(); i <= s.rows; i += (int64_t)gridDim.x * THREADS) {
		int64_t now = sl_offset(s, i), before = i ? sl_offset(s, i - 1) : 0;
		if (now < before || now > s.nnz || (i == 0 && now != 0) || (i == s.rows && now != s.nnz))
			sl_atomic_least(result, i);
	}
}

/* The first entry whose column is out of range, or not behind the one before it in its row; a warp a row. */
__global__ void __launch_bounds__(THREADS) check_columns(sl_rows s, int64_t cols, int64_t *result) {
	const int64_t step = (int64_t)gridDim.x * (THREADS / 32);
	for (int64_t r = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32; r < s.rows; r += step) {
		int64_t begin = sl_offset(s, r), end = sl_offset(s, r + 1);
		for (int64_t k = begin + threadIdx.x % 32; k < end; k += 32) {
			int32_t c = s.columns[k];
			if (c < 0 || c >= cols || (k > begin && c <= s.columns[k - 1]))
				sl_atomic_least(result, k);
		}
	}
}

__global__ void __launch_bounds__(THREADS) narrow(const int64_t *from, int32_t *to, int64_t count) {
	for (int64_t i = thread_of_grid(); i < count; i += (int64_t)gridDim.x * THREADS)
		to[i] = (int32_t)from[i];
}

/* Where each key begins in a sorted list: offsets[c] = how many are below c. */
__global__ void __launch_bounds__(THREADS)
	offsets_of(const int32_t *sorted, int64_t count, int32_t *offsets, int64_t cols) {
	for (int64_t c = thread_of_grid(); c <= cols; c += (int64_t)gridDim.x * THREADS) {
		int64_t low = 0, high = count;
		while (low < high) {
			int64_t middle = low + (high - low) / 2;
			if (sorted[middle] < c)
				low = middle + 1;
			else
				high = middle;
		}
		offsets[c] = (int32_t)low;
	}
}

/* rows_of[k] = the row of entry entries[k] */
__global__ void __launch_bounds__(THREADS) rows_of_entries(sl_rows s, const int32_t *entries, int32_t *rows_of) {
	for (int64_t k = thread_of_grid(); k < s.nnz; k += (int64_t)gridDim.x * THREADS)
		rows_of[k] = (int32_t)sl_row_of(s, entries[k]);
}

/* Rows in parts before a row in the upper half, their parts in the lower: both below 2^31. */
SL_DEVICE int64_t parts_of(int64_t length, int64_t most) {
	return length > most ? (length + most - 1) / most : 1;
}
struct count_parts {
	sl_rows s;
	int64_t most;
	__device__ int64_t operator()(int64_t r) const {
		int64_t parts = parts_of(sl_offset(s, r + 1) - sl_offset(s, r), most);
		return parts > 1 ? ((int64_t)1 << 32) + parts : 0;
	}
};

__global__ void __launch_bounds__(THREADS)
	list_tasks(sl_rows s, int64_t most, const int64_t *before, sl_row_task *tasks, sl_row_fold *folds, int32_t *keys) {
	for (int64_t r = thread_of_grid(); r < s.rows; r += (int64_t)gridDim.x * THREADS) {
		int64_t begin = sl_offset(s, r), end = sl_offset(s, r + 1), parts = parts_of(end - begin, most);
		int64_t fold = before[r] >> 32, slot = before[r] & 0xffffffff, at = r - fold + slot;
		if (parts > 1) {
			sl_row_fold f = {(int32_t)r, (int32_t)slot, (int32_t)parts, 0};
			folds[fold] = f;
		}
		for (int64_t i = 0; i < parts; i++, begin += most) {
			int64_t to = i + 1 < parts ? begin + most : end;
			sl_row_task task = {begin, to, (int32_t)r, parts > 1 ? (int32_t)(slot + i) : -1};
			tasks[at + i] = task;
			keys[at + i] = (int32_t)(most - (to - begin));
		}
	}
}

__global__ void __launch_bounds__(THREADS)
	order_tasks(const sl_row_task *from, const int32_t *order, sl_row_task *to, int64_t count) {
	for (int64_t i = thread_of_grid(); i < count; i += (int64_t)gridDim.x * THREADS)
		to[i] = from[order[i]];
}

unsigned grid_of(int64_t count) {
	return sl_strided_blocks(count, THREADS);
}

size_t aligned(int64_t bytes) {
	return ((size_t)bytes + 255) & ~(size_t)255;
}

} // namespace

extern "C" int sl_kernel_check_offsets(const sl_rows *s, int64_t *result, void *stream) {
	int error = SL_LAUNCH((nothing_found), 1, THREADS, stream, result);
	return error ? error : SL_LAUNCH((check_offsets), grid_of(s->rows + 1), THREADS, stream, *s, result);
}

extern "C" int sl_kernel_check_columns(const sl_rows *s, int64_t cols, int64_t *result, void *stream) {
	int error = SL_LAUNCH((nothing_found), 1, THREADS, stream, result);
	if (error || !s->nnz)
		return error;
	return SL_LAUNCH((check_columns), sl_strided_blocks(s->rows, THREADS / 32), THREADS, stream, *s, cols, result);
}

extern "C" int sl_kernel_narrow(const int64_t *from, int32_t *to, int64_t count, void *stream) {
	return count ? SL_LAUNCH((narrow), grid_of(count), THREADS, stream, from, to, count) : 0;
}

/* Sorted columns, and what the sort wants. */
extern "C" size_t sl_kernel_transpose_bytes(int64_t nnz) {
	return aligned(nnz * 4) + sl_kernel_sort_bytes(nnz);
}

extern "C" int sl_kernel_transpose(const sl_rows *s, int64_t cols, int32_t *offsets, int32_t *columns,
								   int32_t *permutation, void *room, void *stream) {
	int32_t *sorted = (int32_t *)room;
	int error =
		sl_kernel_sort(s->columns, s->nnz, cols, sorted, permutation, (char *)room + aligned(s->nnz * 4), stream);
	if (!error)
		error = SL_LAUNCH((offsets_of), grid_of(cols + 1), THREADS, stream, sorted, s->nnz, offsets, cols);
	if (!error && s->nnz)
		error = SL_LAUNCH((rows_of_entries), grid_of(s->nnz), THREADS, stream, *s, permutation, columns);
	return error;
}

extern "C" size_t sl_kernel_count_bytes(int64_t rows) {
	return aligned((rows + 1) * 8) + sl_scan_bytes();
}

extern "C" int sl_kernel_count_parts(const sl_rows *s, int64_t most, void *room, int64_t **total, void *stream) {
	int64_t *before = (int64_t *)room;
	count_parts count = {*s, most};
	*total = before + s->rows;
	return sl_scan(count, s->rows, before, (int64_t *)((char *)room + aligned((s->rows + 1) * 8)), stream);
}

extern "C" size_t sl_kernel_tasks_bytes(int64_t tasks) {
	return aligned(tasks * (int64_t)sizeof(sl_row_task)) + 3 * aligned(tasks * 4) + sl_kernel_sort_bytes(tasks);
}

extern "C" int sl_kernel_list_tasks(const sl_rows *s, int64_t most, const void *counted, int64_t count,
									sl_row_task *tasks, sl_row_fold *folds, void *room, void *stream) {
	char *at = (char *)room;
	sl_row_task *unsorted = (sl_row_task *)at;
	at += aligned(count * (int64_t)sizeof(sl_row_task));
	int32_t *keys = (int32_t *)at, *sorted = (int32_t *)(at += aligned(count * 4));
	int32_t *order = (int32_t *)(at += aligned(count * 4));
	at += aligned(count * 4);
	if (!count)
		return 0;
	int error = SL_LAUNCH((list_tasks), grid_of(s->rows), THREADS, stream, *s, most, (const int64_t *)counted, unsorted,
						  folds, keys);
	if (!error)
		error = sl_kernel_sort(keys, count, most + 1, sorted, order, at, stream);
	return error ? error : SL_LAUNCH((order_tasks), grid_of(count), THREADS, stream, unsorted, order, tasks, count);
}
