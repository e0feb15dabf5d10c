/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products of two dense matrices at the entries of a pattern, straight into the values of a CSR matrix. Both lie with
 * what is summed over together: [rows, k] and [cols, k].
 *
 * Wide: a group of lanes takes a task and its entries eight at a time, lanes run over k, and the eight sums are added
 * by nine shuffles that halve how many sums a lane holds. Narrow, for k up to 16: a lane an entry.
 */
#include "rows.cuh"

namespace {

enum { SDDMM_THREADS = 128, ENTRIES = 8, NARROW_K = 16 };

template <class T> SL_DEVICE void store(const sl_sddmm_call &call, int64_t e, typename sl_wide<T>::type sum) {
	typedef typename sl_wide<T>::type A;
	T *out = (T *)call.values + e;
	A z = (A)call.alpha * sum;
	if (call.beta != 0)
		z += (A)call.beta * sl_widen(*out);
	*out = sl_narrow<T>::of(z);
}

template <class T, int VEC, int LANES>
__global__ void __launch_bounds__(SDDMM_THREADS) sddmm_wide(sl_sddmm_call call, int64_t tasks) {
	typedef typename sl_wide<T>::type A;
	const int lane = threadIdx.x % LANES, group = threadIdx.x / LANES;
	const unsigned mask = sl_group_mask<LANES>();
	int64_t index = (int64_t)blockIdx.x * (SDDMM_THREADS / LANES) + group;
	if (index >= tasks)
		return;
	const sl_row_task task = sl_task(call.s, index);
	const T *a = (const T *)call.a + task.row * call.lda, *b = (const T *)call.b;
	const int64_t whole = call.k / VEC * VEC;
	for (int64_t e0 = task.begin; e0 < task.end; e0 += ENTRIES) {
		const T *x[ENTRIES];
		A sum[ENTRIES];
		for (int e = 0; e < ENTRIES; e++) { /* behind the last: the last again, for nothing */
			int64_t at = e0 + e < task.end ? e0 + e : task.end - 1;
			x[e] = b + call.s.columns[at] * call.ldb;
			sum[e] = 0;
		}
		for (int64_t c = lane * VEC; c < whole; c += LANES * VEC) {
			const sl_vector<T, VEC> left = sl_load_vector<VEC>(a + c);
			for (int e = 0; e < ENTRIES; e++) {
				const sl_vector<T, VEC> right = sl_load_vector<VEC>(x[e] + c);
				for (int i = 0; i < VEC; i++)
					sum[e] += sl_widen(left.at[i]) * sl_widen(right.at[i]);
			}
		}
		if (whole + lane < call.k)
			for (int e = 0; e < ENTRIES; e++)
				sum[e] += sl_widen(a[whole + lane]) * sl_widen(x[e][whole + lane]);
		/* Lanes whose bit is set go on with the upper half of the sums, the others with the lower. */
		int entry = 0, by = LANES / 2;
		for (int half = ENTRIES / 2; half; half /= 2, by /= 2) {
			bool upper = lane & by;
			for (int i = 0; i < half; i++) {
				A other = __shfl_xor_sync(mask, upper ? sum[i] : sum[i + half], by, LANES);
				sum[i] = (upper ? sum[i + half] : sum[i]) + other;
			}
			entry += upper ? half : 0;
		}
		int copies = LANES / ENTRIES;
		for (; by; by /= 2)
			sum[0] += __shfl_xor_sync(mask, sum[0], by, LANES);
		if (lane % copies == 0 && e0 + entry < task.end)
			store<T>(call, e0 + entry, sum[0]);
	}
}

template <class T> __global__ void __launch_bounds__(SDDMM_THREADS) sddmm_narrow(sl_sddmm_call call, int64_t tasks) {
	typedef typename sl_wide<T>::type A;
	int64_t index = (int64_t)blockIdx.x * (SDDMM_THREADS / 32) + threadIdx.x / 32;
	if (index >= tasks)
		return;
	const sl_row_task task = sl_task(call.s, index);
	const T *a = (const T *)call.a + task.row * call.lda;
	for (int64_t e = task.begin + threadIdx.x % 32; e < task.end; e += 32) {
		const T *x = (const T *)call.b + call.s.columns[e] * call.ldb;
		A sum = 0;
		for (int i = 0; i < call.k; i++)
			sum += sl_widen(a[i]) * sl_widen(x[i]);
		store<T>(call, e, sum);
	}
}

template <class T, int VEC, int LANES> int sddmm_launch(const sl_sddmm_call *call, int64_t tasks, void *stream) {
	dim3 grid = sl_blocks(tasks, SDDMM_THREADS / LANES);
	return SL_LAUNCH((sddmm_wide<T, VEC, LANES>), grid, SDDMM_THREADS, stream, *call, tasks);
}

template <class T> int sddmm_of(const sl_sddmm_call *call, void *stream) {
	enum { VEC = 16 / sizeof(T) };
	int64_t tasks = sl_task_count(&call->s);
	bool vectors =
		(uintptr_t)call->a % 16 == 0 && (uintptr_t)call->b % 16 == 0 && call->lda % VEC == 0 && call->ldb % VEC == 0;
	if (!tasks || !call->s.nnz)
		return 0;
	if (call->k <= NARROW_K) {
		dim3 grid = sl_blocks(tasks, SDDMM_THREADS / 32);
		return SL_LAUNCH((sddmm_narrow<T>), grid, SDDMM_THREADS, stream, *call, tasks);
	}
	if (!vectors)
		return sddmm_launch<T, 1, 32>(call, tasks, stream);
	return call->k <= 16 * VEC ? sddmm_launch<T, VEC, 8>(call, tasks, stream)
							   : sddmm_launch<T, VEC, 32>(call, tasks, stream);
}

} // namespace

extern "C" int sl_kernel_sddmm(const sl_sddmm_call *call, void *stream) {
#define GO(T) return sddmm_of<T>(call, stream)
	SL_BY_DTYPE(call->dtype, GO, return 1)
#undef GO
}
