/* SPDX-License-Identifier: Apache-2.0 */
/* What is behind the sums of a product: alpha, the old content, bias, pre-activation, activation, rounding. */
#ifndef SL_CUDA_KERNELS_FINISH_CUH
#define SL_CUDA_KERNELS_FINISH_CUH

#include "rows.cuh"

namespace {

/* The sum of one element as it is stored. */
template <class T>
SL_DEVICE void finish(const sl_spmm_call &call, int64_t row, int64_t c, typename sl_wide<T>::type sum) {
	typedef typename sl_wide<T>::type A;
	T *out = (T *)call.c + row * call.ldc + c;
	A z = (A)call.alpha * sum;
	if (call.beta != 0)
		z += (A)call.beta * sl_widen(*out);
	if (call.bias)
		z += ((const A *)call.bias)[row];
	if (call.d)
		((T *)call.d)[row * call.ldd + c] = sl_narrow<T>::of(z);
	*out = sl_narrow<T>::of(sl_activate_one<A>(call.activation, (A)call.parameter, z));
}

template <class T, int VEC>
SL_DEVICE void finish_vector(const sl_spmm_call &call, int64_t row, int64_t c, const typename sl_wide<T>::type *sums) {
	typedef typename sl_wide<T>::type A;
	T *out = (T *)call.c + row * call.ldc + c;
	sl_vector<T, VEC> z_out, y_out, old = {};
	A bias = call.bias ? ((const A *)call.bias)[row] : (A)0;
	if (call.beta != 0)
		old = sl_load_vector<VEC>(out);
	for (int i = 0; i < VEC; i++) {
		A z = (A)call.alpha * sums[i];
		if (call.beta != 0)
			z += (A)call.beta * sl_widen(old.at[i]);
		z += bias;
		z_out.at[i] = sl_narrow<T>::of(z);
		y_out.at[i] = sl_narrow<T>::of(sl_activate_one<A>(call.activation, (A)call.parameter, z));
	}
	if (call.d)
		sl_store_vector<VEC>((T *)call.d + row * call.ldd + c, z_out);
	sl_store_vector<VEC>(out, y_out);
}

/* Columns behind the last one of a panel. */
template <class T> SL_DEVICE void clear(const sl_spmm_call &call, int64_t row, int64_t c) {
	((T *)call.c)[row * call.ldc + c] = sl_narrow<T>::of(0.0f);
	if (call.d)
		((T *)call.d)[row * call.ldd + c] = sl_narrow<T>::of(0.0f);
}

} // namespace

#endif
