/* SPDX-License-Identifier: Apache-2.0 */
/* Small kernels with and without a fault, which the harness must tell apart. */
#ifndef SL_TESTS_PLANTED_CUH
#define SL_TESTS_PLANTED_CUH

#include "device.cuh"

/* out[i] = the sum over the block of in, by shared memory; leave one barrier out. */
__global__ static void block_reduce(const float *in, float *out, int missing) {
	SL_SHARED(float, part, 128);
	int i = threadIdx.x;
	part[i] = in[blockIdx.x * 128 + i];
	if (missing != 0)
		__syncthreads();
	for (int by = 64; by; by /= 2) {
		if (i < by)
			part[i] = part[i] + part[i + by];
		if (missing != by)
			__syncthreads();
	}
	out[blockIdx.x * 128 + i] = part[0];
}

/* A warp turns its 32 values around through shared memory. */
__global__ static void warp_reverse(const float *in, float *out, bool synchronise) {
	SL_SHARED(float, part, 64);
	int i = threadIdx.x, base = i / 32 * 32;
	part[i] = in[i];
	if (synchronise)
		__syncwarp(SL_WARP_MASK);
	out[i] = part[base + 31 - i % 32];
}

/* A shuffle moves values but orders no memory. */
__global__ static void shuffle_is_no_barrier(const float *in, float *out) {
	SL_SHARED(float, part, 32);
	int i = threadIdx.x;
	part[i] = in[i];
	float other = __shfl_xor_sync(SL_WARP_MASK, in[i], 1, 32);
	out[i] = part[i ^ 1] - other;
}

__global__ static void divergent_barrier(float *out) {
	if (threadIdx.x < 32)
		__syncthreads();
	else
		__syncthreads();
	out[threadIdx.x] = 1;
}

__global__ static void barrier_after_exit(float *out) {
	if (threadIdx.x == 5)
		return;
	__syncthreads();
	out[threadIdx.x] = 1;
}

__global__ static void divergent_shuffle(float *out) {
	float x = 1;
	if (threadIdx.x % 2)
		x = __shfl_xor_sync(SL_WARP_MASK, x, 1, 32);
	out[threadIdx.x] = x;
}

__global__ static void mask_without_oneself(float *out) {
	out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 0, 32);
}

__global__ static void shuffle_from_outside(float *out) {
	if (threadIdx.x < 16)
		out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 20, 32);
}

__global__ static void shared_overrun(float *out, int at) {
	SL_SHARED(float, part, 32);
	part[threadIdx.x] = 1;
	__syncwarp(SL_WARP_MASK);
	out[threadIdx.x] = part[(int)threadIdx.x + at];
}

/* What an earlier block left in shared memory is no value. */
__global__ static void shared_left_over(float *out) {
	SL_SHARED(float, part, 1);
	if (blockIdx.x == 0 && threadIdx.x == 0)
		part[0] = 7;
	__syncthreads();
	out[blockIdx.x * 32 + threadIdx.x] = part[0];
}

__global__ static void global_overrun(float *out, int64_t at) {
	out[threadIdx.x + at] = 1;
}

__global__ static void crooked_vector(const float *in, float *out) {
	sl_store_vector<4>(out, sl_load_vector<4>(in + threadIdx.x));
}

/* The order in which threads came. */
__global__ static void arrivals(int *next, int *order) {
	order[blockIdx.x * 32 + threadIdx.x] = atomicAdd(next, 1);
}

/* Collectives of part of a warp, each group for itself. */
__global__ static void group_sums(const float *in, float *out) {
	unsigned lane = threadIdx.x % 32, mask = 0xffu << lane / 8 * 8;
	float x = in[threadIdx.x];
	for (unsigned turn = 0; turn <= lane / 8; turn++) /* as often as the group likes */
		for (int by = 4; by; by /= 2)
			x += __shfl_xor_sync(mask, x, by, 8);
	unsigned odd = __ballot_sync(mask, lane % 2);
	out[threadIdx.x] = odd == (mask & 0xaaaaaaaau) ? x : -1;
}

#endif
