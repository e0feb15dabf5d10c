/* SPDX-License-Identifier: Apache-2.0 */
/* Sums over prefixes, of what a function object gives for each index. */
#ifndef SL_CUDA_KERNELS_SCAN_CUH
#define SL_CUDA_KERNELS_SCAN_CUH

#include "device.cuh"

namespace {

enum { SCAN_THREADS = 256, SCAN_BLOCKS = 1024 };

/* The sum of the threads before this one; *total: of all 256. */
SL_DEVICE int64_t sl_block_scan(int64_t value, int64_t *total) {
	SL_SHARED(int64_t, warps, SCAN_THREADS / 32);
	int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	int64_t sum = value, before = 0, all = 0;
	for (int by = 1; by < 32; by *= 2) {
		int64_t other = __shfl_up_sync(SL_WARP_MASK, sum, by, 32);
		sum += lane >= by ? other : 0;
	}
	__syncthreads(); /* of an earlier scan */
	if (lane == 31)
		warps[warp] = sum;
	__syncthreads();
	for (int i = 0; i < SCAN_THREADS / 32; i++) {
		int64_t w = warps[i];
		before += i < warp ? w : 0;
		all += w;
	}
	*total = all;
	return before + sum - value;
}

template <class F>
__global__ void __launch_bounds__(SCAN_THREADS) scan_sums(F value, int64_t count, int64_t chunk, int64_t *sums) {
	int64_t begin = (int64_t)blockIdx.x * chunk, end = begin + chunk < count ? begin + chunk : count, sum = 0, total;
	for (int64_t i = begin + threadIdx.x; i < end; i += SCAN_THREADS)
		sum += value(i);
	(void)sl_block_scan(sum, &total);
	if (threadIdx.x == 0)
		sums[blockIdx.x] = total;
}

__global__ void __launch_bounds__(SCAN_THREADS) scan_blocks(int64_t *sums, int blocks) {
	int64_t before = 0;
	for (int at = 0; at < blocks; at += SCAN_THREADS) {
		int i = at + (int)threadIdx.x;
		int64_t total, value = i < blocks ? sums[i] : 0, here = sl_block_scan(value, &total);
		if (i < blocks)
			sums[i] = before + here;
		before += total;
	}
}

template <class F>
__global__ void __launch_bounds__(SCAN_THREADS)
	scan_fill(F value, int64_t count, int64_t chunk, const int64_t *sums, int64_t *out) {
	int64_t begin = (int64_t)blockIdx.x * chunk, end = begin + chunk < count ? begin + chunk : count;
	int64_t before = sums[blockIdx.x];
	for (int64_t at = begin; at < end; at += SCAN_THREADS) {
		int64_t i = at + threadIdx.x, total, here = sl_block_scan(i < end ? value(i) : 0, &total);
		if (i < end)
			out[i] = before + here;
		before += total;
	}
	if (threadIdx.x == 0 && end == count)
		out[count] = before;
}

inline size_t sl_scan_bytes() {
	return SCAN_BLOCKS * sizeof(int64_t);
}

/* out[i] = the sum of value(0) to value(i - 1), i from 0 to count. `sums`: sl_scan_bytes(). */
template <class F> int sl_scan(F value, int64_t count, int64_t *out, int64_t *sums, void *stream) {
	int64_t chunk = (count + SCAN_BLOCKS - 1) / SCAN_BLOCKS;
	chunk = (chunk + SCAN_THREADS - 1) / SCAN_THREADS * SCAN_THREADS;
	int blocks = count ? (int)((count + chunk - 1) / chunk) : 1;
	int error = SL_LAUNCH((scan_sums<F>), blocks, SCAN_THREADS, stream, value, count, chunk, sums);
	if (!error)
		error = SL_LAUNCH((scan_blocks), 1, SCAN_THREADS, stream, sums, blocks);
	return error ? error : SL_LAUNCH((scan_fill<F>), blocks, SCAN_THREADS, stream, value, count, chunk, sums, out);
}

} // namespace

#endif
