/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What kernels are written in. nvcc compiles them for GPUs; the host compiler compiles the same source for the tests,
 * where tests/fake_cuda/fibers stands for the GPU (docs/decisions/kernels-on-fibers.md). So a kernel uses what is
 * here, barriers, shuffles and ballots with masks, and nothing that only nvcc knows: that belongs into ptx.cuh.
 */
#ifndef SL_CUDA_KERNELS_DEVICE_CUH
#define SL_CUDA_KERNELS_DEVICE_CUH

#include <stdint.h>

#include <sparselayer/sparselayer.h>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
/* Shared memory of a block. On the host every access to it is checked, so it is passed on as SL_SHARED_ARRAY(type)
 * and read and written by [] alone. */
#define SL_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define SL_SHARED_ARRAY(type)        type *
#define SL_CHECK_ALIGNMENT(V, address)
/* Before loops over arrays that are to stay in registers. */
#define SL_UNROLL _Pragma("unroll")
#else
#define SL_UNROLL
#include "fibers.hpp"
#endif

#define SL_DEVICE        static __device__ __forceinline__
#define SL_DEVICE_MEMBER static __device__ __forceinline__
#define SL_WARP_MASK     0xffffffffu

template <class T> struct sl_same { typedef T type; };

/* SL_LAUNCH((kernel<arguments>), grid, block, stream, parameters...): the launch's cudaError_t. */
#ifdef __CUDACC__
template <class... P>
static cudaError_t sl_launch(void (*kernel)(P...), dim3 grid, dim3 block, void *stream,
							 typename sl_same<P>::type... parameters) {
	void *pointers[] = {(void *)&parameters...};
	return cudaLaunchKernel((const void *)kernel, grid, block, pointers, 0, (cudaStream_t)stream);
}
#define SL_LAUNCH(kernel, grid, block, stream, ...) ((int)sl_launch(kernel, grid, block, stream, __VA_ARGS__))
#else
template <class... P>
static int sl_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, void *stream,
					 typename sl_same<P>::type... parameters) {
	return sl_fibers::launch(name, grid, block, stream, [=] { kernel(parameters...); });
}
#define SL_LAUNCH(kernel, grid, block, stream, ...) sl_launch(#kernel, kernel, grid, block, stream, __VA_ARGS__)
#endif

/* N neighbours that are moved in one instruction; the address is a multiple of their bytes. */
template <class T, int N> struct alignas(sizeof(T) * N) sl_vector { T at[N]; };
template <int N, class T> SL_DEVICE sl_vector<T, N> sl_load_vector(const T *from) {
	typedef sl_vector<T, N> vector;
	SL_CHECK_ALIGNMENT(vector, from);
	return *(const vector *)from;
}
template <int N, class T> SL_DEVICE void sl_store_vector(T *to, const sl_vector<T, N> &value) {
	typedef sl_vector<T, N> vector;
	SL_CHECK_ALIGNMENT(vector, to);
	*(vector *)to = value;
}

/* N neighbours to shared memory; the address is a multiple of their bytes. */
template <int N, class T>
SL_DEVICE void sl_store_shared(SL_SHARED_ARRAY(T) to, int64_t index, const sl_vector<T, N> &value) {
#ifdef __CUDACC__
	sl_store_vector<N>(to + index, value);
#else
	for (int i = 0; i < N; i++)
		to[index + i] = value.at[i];
#endif
}

static inline unsigned sl_blocks(int64_t count, int64_t each) {
	int64_t blocks = (count + each - 1) / each;
	return (unsigned)(blocks < 1 ? 1 : blocks > 0x7fffffff ? 0x7fffffff : blocks);
}
/* The same for kernels that walk on by the grid's size: some waves of a large GPU. */
static inline unsigned sl_strided_blocks(int64_t count, int64_t each) {
	int64_t blocks = (count + each - 1) / each;
	return (unsigned)(blocks < 1 ? 1 : blocks > 2048 ? 2048 : blocks);
}

/* How many bits are set. */
SL_DEVICE int sl_ones(unsigned bits) {
#ifdef __CUDACC__
	return __popc(bits);
#else
	return __builtin_popcount(bits);
#endif
}

/* *address = min(*address, value): the same whoever comes first. */
SL_DEVICE void sl_atomic_least(int64_t *address, int64_t value) {
#ifdef __CUDACC__
	atomicMin((long long *)address, (long long)value);
#else
	atomicMin(address, value);
#endif
}

/* The sum over a block of 256 threads, in a fixed order, in thread 0. */
template <class A> SL_DEVICE A sl_block_sum(A value) {
	SL_SHARED(A, warps, 8);
	unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	for (int by = 16; by; by /= 2)
		value += __shfl_down_sync(SL_WARP_MASK, value, by, 32);
	__syncthreads(); /* of an earlier sum */
	if (lane == 0)
		warps[warp] = value;
	__syncthreads();
	if (threadIdx.x == 0)
		for (int i = 1; i < 8; i++)
			value += warps[i];
	return value;
}

/* The least of a block of 256 threads; none: INT64_MAX. In thread 0. */
SL_DEVICE int64_t sl_block_least(int64_t value) {
	SL_SHARED(int64_t, warps, 8);
	for (int by = 16; by; by /= 2) {
		int64_t other = __shfl_down_sync(SL_WARP_MASK, value, by, 32);
		value = other < value ? other : value;
	}
	if (threadIdx.x % 32 == 0)
		warps[threadIdx.x / 32] = value;
	__syncthreads();
	if (threadIdx.x == 0)
		for (int i = 1; i < 8; i++) {
			int64_t other = warps[i];
			value = other < value ? other : value;
		}
	return value;
}

#endif
