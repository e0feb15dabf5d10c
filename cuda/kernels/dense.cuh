/* SPDX-License-Identifier: Apache-2.0 */
/* What follows a dense product. */
#include "rows.cuh"

namespace {

enum { DENSE_THREADS = 128 };

/* A block some columns of a row. */
template <class T> __global__ void __launch_bounds__(DENSE_THREADS) epilogue(sl_epilogue_call call) {
	typedef typename sl_wide<T>::type A;
	int64_t r = blockIdx.x, step = (int64_t)gridDim.y * DENSE_THREADS;
	for (int64_t c = (int64_t)blockIdx.y * DENSE_THREADS + threadIdx.x; c < call.padded; c += step) {
		T *y = (T *)call.c + r * call.ldc + c;
		A z = 0;
		if (c < call.cols) {
			z = ((const A *)call.product)[r * call.ldp + c];
			if (call.beta != 0)
				z += (A)call.beta * sl_widen(*y);
			if (call.bias)
				z += ((const A *)call.bias)[r];
		}
		if (call.d)
			((T *)call.d)[r * call.ldd + c] = sl_narrow<T>::of(z);
		*y = sl_narrow<T>::of(c < call.cols ? sl_activate_one<A>(call.activation, (A)call.parameter, z) : (A)0);
	}
}

} // namespace

extern "C" {

int sl_kernel_dense_epilogue(const sl_epilogue_call *call, void *stream) {
	int64_t blocks = (call->padded + DENSE_THREADS - 1) / DENSE_THREADS;
	dim3 grid(sl_blocks(call->rows, 1), (unsigned)(blocks > 65535 ? 65535 : blocks));
	if (!call->rows || !blocks)
		return 0;
#define GO(T) return SL_LAUNCH((epilogue<T>), grid, DENSE_THREADS, stream, *call)
	SL_BY_DTYPE(call->dtype, GO, return 1)
#undef GO
}
}
