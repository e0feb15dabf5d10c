/* SPDX-License-Identifier: Apache-2.0 */
/* Small products through ptx.cuh alone, for the test of its twin; on a GPU, of the instructions. */
#include "ptx.cuh"

#include "ptx_probe.h"

namespace {

/* One warp: d = a b + c, a [16, K], b [K, 8], c and d [16, 8], all row by row. Fragments as ptx.cuh lists them. */
template <class T> __global__ void halves(const T *a, const T *b, const float *c, float *d) {
	int g = threadIdx.x / 4, t = threadIdx.x % 4;
	unsigned left[4], right[2];
	float sum[4];
	for (int i = 0; i < 4; i++) {
		const T *at = a + (g + 8 * (i % 2)) * 16 + 2 * t + 8 * (i / 2);
		left[i] = (unsigned)at[0].bits | (unsigned)at[1].bits << 16;
		sum[i] = c[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2];
	}
	for (int i = 0; i < 2; i++)
		right[i] = (unsigned)b[(2 * t + 8 * i) * 8 + g].bits | (unsigned)b[(2 * t + 8 * i + 1) * 8 + g].bits << 16;
	sl_mma<T>::add(sum, left, right);
	for (int i = 0; i < 4; i++)
		d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = sum[i];
}

__global__ void floats(const float *a, const float *b, const float *c, float *d) {
	int g = threadIdx.x / 4, t = threadIdx.x % 4;
	unsigned left[4], right[2];
	float sum[4];
	for (int i = 0; i < 4; i++) {
		left[i] = sl_bits(sl_to_tf32(a[(g + 8 * (i % 2)) * 8 + t + 4 * (i / 2)]));
		sum[i] = c[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2];
	}
	for (int i = 0; i < 2; i++)
		right[i] = sl_bits(sl_to_tf32(b[(t + 4 * i) * 8 + g]));
	sl_mma<float>::add(sum, left, right);
	for (int i = 0; i < 4; i++)
		d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = sum[i];
}

/* Four matrices of 8 x 8, one behind the other; out[lane][matrix]. */
__global__ void matrices(const sl_f16 *in, unsigned *out, bool turned) {
	SL_SHARED(sl_f16, tile, 4 * 64);
	unsigned got[4];
	for (int i = 0; i < 8; i++)
		tile[threadIdx.x * 8 + i] = in[threadIdx.x * 8 + i];
	__syncwarp(SL_WARP_MASK);
	if (turned)
		sl_load_matrices<true, sl_f16>(tile, threadIdx.x * 8, got);
	else
		sl_load_matrices<false, sl_f16>(tile, threadIdx.x * 8, got);
	for (int m = 0; m < 4; m++)
		out[threadIdx.x * 4 + m] = got[m];
}

} // namespace

extern "C" int ptx_probe_mma(sl_dtype dtype, const void *a, const void *b, const float *c, float *d, void *stream) {
	if (dtype == SL_F16)
		return SL_LAUNCH((halves<sl_f16>), 1, 32, stream, (const sl_f16 *)a, (const sl_f16 *)b, c, d);
	if (dtype == SL_BF16)
		return SL_LAUNCH((halves<sl_bf16>), 1, 32, stream, (const sl_bf16 *)a, (const sl_bf16 *)b, c, d);
	return SL_LAUNCH((floats), 1, 32, stream, (const float *)a, (const float *)b, c, d);
}

extern "C" int ptx_probe_matrices(const void *in, unsigned *out, bool turned, void *stream) {
	return SL_LAUNCH((matrices), 1, 32, stream, (const sl_f16 *)in, out, turned);
}
