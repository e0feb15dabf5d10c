/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to a product that a library has left without it: bias, pre-activation, activation. */
#include "kernels.h"
#include "view.cuh"

namespace {

enum { THREADS = 256 };

/* Neighbouring threads take neighbours in memory. */
template <class T>
__global__ void __launch_bounds__(THREADS)
	epilogue(int kind, double parameter, const T *bias, sl_dense c, sl_dense d, int64_t count) {
	int64_t step = (int64_t)gridDim.x * THREADS;
	bool across = sl_across(c);
	int64_t length = across ? c.cols : c.rows;
	for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += step) {
		int64_t line = i / length, along = i % length;
		int64_t row = across ? line : along, col = across ? along : line, at = sl_at(c, row, col);
		T z = ((const T *)c.data)[at];
		if (bias)
			z += bias[row];
		if (d.data)
			((T *)d.data)[sl_at(d, row, col)] = z;
		((T *)c.data)[at] = sl_activate_one<T>(kind, (T)parameter, z);
	}
}

template <class T>
int run_epilogue(sl_activation kind, double parameter, const void *bias, const sl_dense *c, const sl_dense *d,
				 void *stream) {
	int64_t count = c->rows * c->cols;
	sl_dense none = {};
	if (!count)
		return 0;
	return SL_LAUNCH((epilogue<T>), sl_strided_blocks(count, THREADS), THREADS, stream, (int)kind, parameter,
					 (const T *)bias, *c, d ? *d : none, count);
}

} // namespace

extern "C" int sl_kernel_epilogue(sl_activation kind, double parameter, const void *bias, const sl_dense *c,
								  const sl_dense *d, void *stream) {
	return c->dtype == SL_F64 ? run_epilogue<double>(kind, parameter, bias, c, d, stream)
							  : run_epilogue<float>(kind, parameter, bias, c, d, stream);
}
