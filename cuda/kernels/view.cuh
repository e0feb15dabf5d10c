/* SPDX-License-Identifier: Apache-2.0 */
/* Where elements of a view lie, in any order. */
#ifndef SL_CUDA_KERNELS_VIEW_CUH
#define SL_CUDA_KERNELS_VIEW_CUH

#include "numbers.cuh"

SL_DEVICE int64_t sl_at(const sl_dense &m, int64_t r, int64_t c) {
	switch (m.order) {
	case SL_ROW_MAJOR:
		return r * m.ld + c;
	case SL_COL_MAJOR:
		return c * m.ld + r;
	case SL_COL_PANELS:
		return c < m.ld ? r * m.ld + c : c / m.ld * (m.rows * m.ld) + r * m.ld + c % m.ld;
	default:
		return r < m.ld ? c * m.ld + r : r / m.ld * (m.cols * m.ld) + c * m.ld + r % m.ld;
	}
}

/* Whether neighbours in memory are neighbours in a row. */
SL_DEVICE bool sl_across(const sl_dense &m) {
	return m.order == SL_ROW_MAJOR || m.order == SL_COL_PANELS;
}

/* Rows and columns with the padding of panels, which who writes them zeroes. */
static __host__ __device__ inline int64_t sl_padded_rows(const sl_dense &m) {
	return m.order == SL_ROW_PANELS ? (m.rows + m.ld - 1) / m.ld * m.ld : m.rows;
}
static __host__ __device__ inline int64_t sl_padded_cols(const sl_dense &m) {
	return m.order == SL_COL_PANELS ? (m.cols + m.ld - 1) / m.ld * m.ld : m.cols;
}

template <class T> SL_DEVICE typename sl_wide<T>::type sl_get(const sl_dense &m, int64_t r, int64_t c) {
	return sl_widen(((const T *)m.data)[sl_at(m, r, c)]);
}

#endif
