/* SPDX-License-Identifier: Apache-2.0 */
/* From a sparse matrix to a dense one and back, and what follows a dense product. */
#include "rows.cuh"

namespace {

enum { DENSE_THREADS = 128, DENSE_ROWS = DENSE_THREADS / 32 };

/* A warp a row. */
template <class T>
__global__ void __launch_bounds__(DENSE_THREADS)
	scatter(sl_rows s, const T *values, int64_t first, int64_t count, T *dense, int64_t ld) {
	int64_t r = (int64_t)blockIdx.x * DENSE_ROWS + threadIdx.x / 32;
	if (r >= count)
		return;
	int64_t end = sl_offset(s, first + r + 1);
	for (int64_t e = sl_offset(s, first + r) + threadIdx.x % 32; e < end; e += 32)
		dense[r * ld + s.columns[e]] = values[e];
}

template <class T>
__global__ void __launch_bounds__(DENSE_THREADS)
	sample(sl_rows s, const typename sl_wide<T>::type *dense, int64_t ld, int64_t first, int64_t count, double alpha,
		   double beta, T *values) {
	typedef typename sl_wide<T>::type A;
	int64_t r = (int64_t)blockIdx.x * DENSE_ROWS + threadIdx.x / 32;
	if (r >= count)
		return;
	int64_t end = sl_offset(s, first + r + 1);
	for (int64_t e = sl_offset(s, first + r) + threadIdx.x % 32; e < end; e += 32) {
		A z = (A)alpha * dense[r * ld + s.columns[e]];
		if (beta != 0)
			z += (A)beta * sl_widen(values[e]);
		values[e] = sl_narrow<T>::of(z);
	}
}

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

int sl_kernel_scatter(const sl_rows *s, sl_dtype dtype, const void *values, int64_t first, int64_t count, void *dense,
					  int64_t ld, void *stream) {
	if (count <= 0)
		return 0;
#define GO(T)                                                                                                          \
	return SL_LAUNCH((scatter<T>), sl_blocks(count, DENSE_ROWS), DENSE_THREADS, stream, *s, (const T *)values, first,  \
					 count, (T *)dense, ld)
	SL_BY_DTYPE(dtype, GO, return 1)
#undef GO
}

int sl_kernel_sample(const sl_rows *s, sl_dtype dtype, const void *dense, int64_t ld, int64_t first, int64_t count,
					 double alpha, double beta, void *values, void *stream) {
	if (count <= 0)
		return 0;
#define GO(T)                                                                                                          \
	return SL_LAUNCH((sample<T>), sl_blocks(count, DENSE_ROWS), DENSE_THREADS, stream, *s,                             \
					 (const sl_wide<T>::type *)dense, ld, first, count, alpha, beta, (T *)values)
	SL_BY_DTYPE(dtype, GO, return 1)
#undef GO
}

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
