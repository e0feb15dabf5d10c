/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a CSR matrix as tasks, and their entries four at a time. */
#ifndef SL_CUDA_KERNELS_ROWS_CUH
#define SL_CUDA_KERNELS_ROWS_CUH

#include "kernels.h"
#include "numbers.cuh"

SL_DEVICE int64_t sl_offset(const sl_rows &s, int64_t row) {
	return s.offset_dtype == SL_I64 ? ((const int64_t *)s.offsets)[row] : ((const int32_t *)s.offsets)[row];
}

/* The row that entry k lies in; k < nnz. */
SL_DEVICE int64_t sl_row_of(const sl_rows &s, int64_t k) {
	int64_t low = 0, high = s.rows;
	while (low < high) { /* the first row that ends behind k */
		int64_t middle = low + (high - low) / 2;
		if (sl_offset(s, middle + 1) <= k)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

SL_DEVICE sl_row_task sl_task(const sl_rows &s, int64_t i) {
	if (s.tasks)
		return s.tasks[i];
	sl_row_task task = {sl_offset(s, i), sl_offset(s, i + 1), (int32_t)i, -1};
	return task;
}

static inline int64_t sl_task_count(const sl_rows *s) {
	return s->tasks ? s->task_count : s->rows;
}

/* The mask of a group of LANES neighbours in a warp. */
template <int LANES> SL_DEVICE unsigned sl_group_mask() {
	return LANES == 32 ? SL_WARP_MASK : ((1u << LANES % 32) - 1u) << (threadIdx.x % 32 / LANES * LANES);
}

template <class A> struct sl_quad {
	sl_vector<int32_t, 4> columns;
	sl_vector<A, 4> values;
};

/* Entries [k, k + 4), k a multiple of 4: in one load where all are the task's, else those that are. */
template <class T>
SL_DEVICE sl_quad<typename sl_wide<T>::type> sl_load_quad(const sl_rows &s, const T *values, int64_t k, int64_t begin,
														  int64_t end, bool aligned) {
	sl_quad<typename sl_wide<T>::type> q;
	if (aligned && k >= begin && k + 4 <= end) {
		q.columns = sl_load_vector<4>(s.columns + k);
		sl_vector<T, 4> v = sl_load_vector<4>(values + k);
		for (int i = 0; i < 4; i++)
			q.values.at[i] = sl_widen(v.at[i]);
		return q;
	}
	for (int i = 0; i < 4; i++) {
		bool own = k + i >= begin && k + i < end;
		q.columns.at[i] = own ? s.columns[k + i] : -1;
		q.values.at[i] = own ? sl_widen(values[k + i]) : 0;
	}
	return q;
}

/* Whether quads of columns and values may be loaded at once. */
template <class T> static inline bool sl_quads_aligned(const int32_t *columns, const T *values) {
	return (uintptr_t)columns % 16 == 0 && (uintptr_t)values % (4 * sizeof(T)) == 0;
}

#endif
