/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stable radix sort of indices, eight bits a pass, least first. A block owns a range of the input and walks through
 * it 256 keys at a time; equal digits are ranked by ballots within a warp, by a table in shared memory among warps, by
 * the counts of the pass before among blocks. Nothing depends on which thread comes first.
 */
#ifndef SL_CUDA_KERNELS_SORT_CUH
#define SL_CUDA_KERNELS_SORT_CUH

#include "device.cuh"
#include "kernels.h"

namespace {

enum { SORT_THREADS = 256, SORT_WARPS = SORT_THREADS / 32, DIGITS = 256, SORT_BLOCKS = 1024 };

/* The lanes whose digit is this lane's. Lanes without a key (`good` false) are nobody's. */
SL_DEVICE unsigned same_digit(int digit, bool good) {
	unsigned mask = __ballot_sync(SL_WARP_MASK, good);
	for (int bit = 0; bit < 8; bit++) {
		unsigned set = __ballot_sync(SL_WARP_MASK, digit >> bit & 1);
		mask &= digit >> bit & 1 ? set : ~set;
	}
	return good ? mask : 0;
}

/* counts[block][digit] */
__global__ void __launch_bounds__(SORT_THREADS)
	sort_count(const int32_t *keys, int64_t count, int64_t chunk, int shift, int32_t *counts) {
	SL_SHARED(int32_t, bins, SORT_WARPS * DIGITS);
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	int64_t begin = (int64_t)blockIdx.x * chunk, end = begin + chunk < count ? begin + chunk : count;
	for (int w = 0; w < SORT_WARPS; w++)
		bins[w * DIGITS + threadIdx.x] = 0;
	__syncthreads();
	for (int64_t at = begin; at < end; at += SORT_THREADS) {
		int64_t i = at + threadIdx.x;
		bool good = i < end;
		int digit = good ? keys[i] >> shift & (DIGITS - 1) : 0;
		unsigned same = same_digit(digit, good);
		if (good && (same & ((1u << lane) - 1)) == 0)
			bins[warp * DIGITS + digit] += sl_ones(same);
		__syncwarp(SL_WARP_MASK);
	}
	__syncthreads();
	int32_t sum = 0;
	for (int w = 0; w < SORT_WARPS; w++)
		sum += bins[w * DIGITS + threadIdx.x];
	counts[(int64_t)blockIdx.x * DIGITS + threadIdx.x] = sum;
}

/* Counts become places: of lower digits, then of earlier blocks. One block, a thread a digit. */
__global__ void __launch_bounds__(SORT_THREADS) sort_places(int32_t *counts, int blocks) {
	SL_SHARED(int32_t, totals, DIGITS);
	const int digit = threadIdx.x;
	int32_t sum = 0, before = 0;
	for (int b = 0; b < blocks; b++)
		sum += counts[(int64_t)b * DIGITS + digit];
	totals[digit] = sum;
	__syncthreads();
	for (int d = 0; d < digit; d++)
		before += totals[d];
	for (int b = 0; b < blocks; b++) {
		int32_t here = counts[(int64_t)b * DIGITS + digit];
		counts[(int64_t)b * DIGITS + digit] = before;
		before += here;
	}
}

/* `order` NULL: keys come in order. */
__global__ void __launch_bounds__(SORT_THREADS)
	sort_scatter(const int32_t *keys, const int32_t *order, int64_t count, int64_t chunk, int shift,
				 const int32_t *places, int32_t *keys_out, int32_t *order_out) {
	SL_SHARED(int32_t, bins, SORT_WARPS * DIGITS);
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	int64_t begin = (int64_t)blockIdx.x * chunk, end = begin + chunk < count ? begin + chunk : count;
	int32_t place = places[(int64_t)blockIdx.x * DIGITS + threadIdx.x]; /* of digit threadIdx.x */
	for (int64_t at = begin; at < end; at += SORT_THREADS) {
		int64_t i = at + threadIdx.x;
		bool good = i < end;
		int32_t key = good ? keys[i] : 0;
		int digit = key >> shift & (DIGITS - 1);
		unsigned same = same_digit(digit, good), earlier = same & ((1u << lane) - 1);
		for (int w = 0; w < SORT_WARPS; w++)
			bins[w * DIGITS + threadIdx.x] = 0;
		__syncthreads();
		if (good && earlier == 0)
			bins[warp * DIGITS + digit] = sl_ones(same);
		__syncthreads();
		for (int w = 0; w < SORT_WARPS; w++) {
			int32_t here = bins[w * DIGITS + threadIdx.x];
			bins[w * DIGITS + threadIdx.x] = place;
			place += here;
		}
		__syncthreads();
		if (good) {
			int64_t to = bins[warp * DIGITS + digit] + sl_ones(earlier);
			keys_out[to] = key;
			order_out[to] = order ? order[i] : (int32_t)i;
		}
		__syncthreads();
	}
}

} // namespace

#endif
