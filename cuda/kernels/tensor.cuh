/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sparse matrix of moderate density times a dense one, on tensor cores: tiles of the sparse one are written out with
 * their zeros in shared memory only, "load sparse, compute dense" (Xia et al., Flash-LLM, VLDB 2024), straight from
 * CSR. 16-bit types are multiplied as they are. f32 goes as three products of TF32 parts, high by high and the two
 * mixed ones (Ootomo and Yokota, IJHPCA 2022), or as one where TF32 is allowed.
 *
 * A block takes 64 rows by TN columns, 4 warps two by two. Two threads decompress a row's entries of the next tile
 * while this one is multiplied. A tile with a number that is not finite is multiplied entry by entry, so that what is
 * not stored stays absent, not zero times infinity. Sums run over tiles in order: the same inputs give the same bits.
 */
#include "finish.cuh"
#include "ptx.cuh"

namespace {

enum { TENSOR_THREADS = 128, TM = 64, TENSOR_WARPS = TENSOR_THREADS / 32 };

/* K: columns of the sparse matrix in a tile. LDA: of a row of it in shared memory, such that fragments meet no bank
 * twice and rows begin at multiples of 16 bytes. */
template <class T> struct tensor_tile {
	enum { K = 32, LDA = 40, VEC = 8 };
};
template <> struct tensor_tile<float> {
	enum { K = 16, LDA = 20, VEC = 4 };
};

/* What the dense form would spread, or TF32 parts not hold. */
SL_DEVICE bool is_odd(sl_f16 x) {
	return (x.bits & 0x7c00) == 0x7c00;
}
SL_DEVICE bool is_odd(sl_bf16 x) {
	return (x.bits & 0x7f80) == 0x7f80;
}
SL_DEVICE bool is_odd(float x) {
	return (sl_bits(x) & 0x7fffffffu) >= 0x7f7ff000u;
}

/* Fragments of a tile in shared memory, `at` being its first element of the warp's part. */
template <class T> struct tensor_parts {
	enum { STEP = 16 };
	unsigned at[4];
	SL_DEVICE_MEMBER void load_a(SL_SHARED_ARRAY(T) a, int64_t at, int lane, tensor_parts *p) {
		sl_load_matrices<false, T>(a, at + (lane % 16) * tensor_tile<T>::LDA + lane / 16 * 8, p->at);
	}
	/* 16 columns: b fragments of two neighbours. */
	SL_DEVICE_MEMBER void load_b(SL_SHARED_ARRAY(T) b, int64_t at, int ldb, int lane, tensor_parts *p) {
		sl_load_matrices<true, T>(b, at + (lane % 16) * ldb + lane / 16 * 8, p->at);
	}
	SL_DEVICE_MEMBER void add(float (&c)[4], const tensor_parts &a, const tensor_parts &b, int which, bool) {
		const unsigned right[2] = {b.at[2 * which], b.at[2 * which + 1]};
		sl_mma<T>::add(c, a.at, right);
	}
};
template <> struct tensor_parts<float> {
	enum { STEP = 8 };
	unsigned high[4], low[4];
	SL_DEVICE_MEMBER void split(float x, unsigned *high, unsigned *low) {
		float h = sl_to_tf32(x);
		*high = sl_bits(h);
		*low = sl_bits(sl_to_tf32(x - h));
	}
	SL_DEVICE_MEMBER void load_a(SL_SHARED_ARRAY(float) a, int64_t at, int lane, tensor_parts *p) {
		SL_UNROLL
		for (int i = 0; i < 4; i++)
			split(a[at + (lane / 4 + 8 * (i % 2)) * tensor_tile<float>::LDA + lane % 4 + 4 * (i / 2)], &p->high[i],
				  &p->low[i]);
	}
	SL_DEVICE_MEMBER void load_b(SL_SHARED_ARRAY(float) b, int64_t at, int ldb, int lane, tensor_parts *p) {
		SL_UNROLL
		for (int i = 0; i < 4; i++)
			split(b[at + (lane % 4 + 4 * (i % 2)) * ldb + lane / 4 + 8 * (i / 2)], &p->high[i], &p->low[i]);
	}
	SL_DEVICE_MEMBER void add(float (&c)[4], const tensor_parts &a, const tensor_parts &b, int which, bool tf32) {
		const unsigned high[2] = {b.high[2 * which], b.high[2 * which + 1]};
		const unsigned low[2] = {b.low[2 * which], b.low[2 * which + 1]};
		if (!tf32) { /* small ones first */
			sl_mma<float>::add(c, a.low, high);
			sl_mma<float>::add(c, a.high, low);
		}
		sl_mma<float>::add(c, a.high, high);
	}
};

template <class T, int TN>
__global__ void __launch_bounds__(TENSOR_THREADS) spmm_tensor(sl_spmm_call call, int64_t inner, bool vectors) {
	typedef tensor_tile<T> tile;
	typedef tensor_parts<T> parts;
	enum {
		K = tile::K,
		LDA = tile::LDA,
		LDB = TN + 8,
		VEC = tile::VEC,
		LOADS = K * TN / (TENSOR_THREADS * VEC),
		NT = TN / 16 /* fragments of 8 columns that a warp has */
	};
	SL_SHARED(T, a, 2 * TM * LDA);
	SL_SHARED(T, b, 2 * K * LDB);
	SL_SHARED(int32_t, starts, 2 * TM);
	SL_SHARED(int32_t, odd, 2 * TENSOR_WARPS);
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, wm = warp / 2 * 32, wn = warp % 2 * (TN / 2);
	const int row = threadIdx.x / 2, half = threadIdx.x % 2;
	const int64_t r0 = (int64_t)blockIdx.x * TM, tiles = (inner + K - 1) / K;
	const bool mine = r0 + row < call.s.rows;
	const int64_t begin = mine ? sl_offset(call.s, r0 + row) : 0, end = mine ? sl_offset(call.s, r0 + row + 1) : 0;
	const T *w = (const T *)call.values, *x = (const T *)call.b;
	for (int64_t c0 = (int64_t)blockIdx.y * TN; c0 < call.padded; c0 += (int64_t)gridDim.y * TN) {
		float sum[2][NT][4];
		sl_vector<T, VEC> next[LOADS];
		int64_t at = begin; /* the row's first entry that is not decompressed yet */
		SL_UNROLL
		for (int m = 0; m < 2; m++)
			SL_UNROLL
		for (int n = 0; n < NT; n++)
			SL_UNROLL
		for (int i = 0; i < 4; i++)
			sum[m][n][i] = 0;
		/* One more turn than there are tiles: turn t brings tile t and multiplies tile t - 1. */
		for (int64_t t = 0; t <= tiles; t++) {
			const int to = (int)(t % 2), from = 1 - to;
			bool strange = false;
			if (t < tiles) {
				SL_UNROLL
				for (int l = 0; l < LOADS; l++) {
					int i = l * TENSOR_THREADS + (int)threadIdx.x, k = i / (TN / VEC), n = i % (TN / VEC) * VEC;
					const T *source = x + (t * K + k) * call.ldb + c0 + n;
					bool inside = t * K + k < inner;
					if (vectors && inside && c0 + n + VEC <= call.n) {
						next[l] = sl_load_vector<VEC>(source);
					} else {
						SL_UNROLL
						for (int e = 0; e < VEC; e++)
							next[l].at[e] = inside && c0 + n + e < call.n ? source[e] : sl_narrow<T>::of(0.0f);
					}
					SL_UNROLL
					for (int e = 0; e < VEC; e++)
						strange |= is_odd(next[l].at[e]);
				}
				for (int i = 0; i < K / 2; i++)
					a[(to * TM + row) * LDA + half * (K / 2) + i] = sl_narrow<T>::of(0.0f);
				if (half == 0)
					starts[to * TM + row] = (int32_t)(at - begin);
				__syncwarp(SL_WARP_MASK); /* the two threads of a row */
				int taken = 0;
				for (int64_t e = at + half; e < end; e += 2) {
					int64_t k = call.s.columns[e] - t * K;
					if (k >= K)
						break;
					const T value = w[e];
					strange |= is_odd(value);
					a[(to * TM + row) * LDA + k] = value;
					taken++;
				}
				at += taken + __shfl_xor_sync(SL_WARP_MASK, taken, 1, 32);
			}
			if (t > 0) {
				bool exact = false;
				for (int i = 0; i < TENSOR_WARPS; i++)
					exact |= odd[from * TENSOR_WARPS + i] != 0;
				if (!exact) {
					SL_UNROLL
					for (int k = 0; k < K; k += parts::STEP) {
						parts left[2], right;
						SL_UNROLL
						for (int m = 0; m < 2; m++)
							parts::load_a(a, (from * TM + wm + 16 * m) * LDA + k, lane, &left[m]);
						SL_UNROLL
						for (int n = 0; n < NT; n += 2) {
							parts::load_b(b, (from * K + k) * LDB + wn + 8 * n, LDB, lane, &right);
							SL_UNROLL
							for (int m = 0; m < 2; m++)
								SL_UNROLL
							for (int which = 0; which < 2; which++)
								parts::add(sum[m][n + which], left[m], right, which, call.tf32);
						}
					}
				} else {
					SL_UNROLL
					for (int m = 0; m < 2; m++)
						SL_UNROLL
					for (int h = 0; h < 2; h++) {
						int64_t r = wm + 16 * m + lane / 4 + 8 * h;
						if (r0 + r >= call.s.rows)
							continue;
						int64_t e = sl_offset(call.s, r0 + r) + starts[from * TM + r];
						int64_t last = sl_offset(call.s, r0 + r + 1);
						for (; e < last && call.s.columns[e] < t * K; e++) {
							int64_t k = call.s.columns[e] - (t - 1) * K;
							SL_UNROLL
							for (int n = 0; n < NT; n++)
								SL_UNROLL
							for (int i = 0; i < 2; i++) {
								const T right = b[(from * K + k) * LDB + wn + 8 * n + lane % 4 * 2 + i];
								sum[m][n][2 * h + i] += sl_widen(w[e]) * sl_widen(right);
							}
						}
					}
				}
			}
			if (t < tiles) {
				SL_UNROLL
				for (int l = 0; l < LOADS; l++) {
					int i = l * TENSOR_THREADS + (int)threadIdx.x, k = i / (TN / VEC), n = i % (TN / VEC) * VEC;
					sl_store_shared<VEC>(b, (to * K + k) * LDB + n, next[l]);
				}
				unsigned any = __ballot_sync(SL_WARP_MASK, strange);
				if (lane == 0)
					odd[to * TENSOR_WARPS + warp] = any != 0;
			}
			__syncthreads();
		}
		SL_UNROLL
		for (int m = 0; m < 2; m++)
			SL_UNROLL
		for (int n = 0; n < NT; n++)
			SL_UNROLL
		for (int i = 0; i < 4; i++) {
			int64_t r = r0 + wm + 16 * m + lane / 4 + 8 * (i / 2);
			int64_t c = c0 + wn + 8 * n + lane % 4 * 2 + i % 2;
			if (r >= call.s.rows)
				continue;
			if (c < call.n)
				finish<T>(call, r, c, sum[m][n][i]);
			else if (c < call.padded)
				clear<T>(call, r, c);
		}
	}
}

template <class T, int TN> int launch_tensor(const sl_spmm_call *call, int64_t inner, void *stream) {
	enum { VEC = tensor_tile<T>::VEC };
	int64_t columns = (call->padded + TN - 1) / TN;
	bool vectors = (uintptr_t)call->b % 16 == 0 && call->ldb % VEC == 0;
	dim3 grid(sl_blocks(call->s.rows, TM), (unsigned)(columns > 65535 ? 65535 : columns));
	if (!call->s.rows || !columns)
		return 0;
	return SL_LAUNCH((spmm_tensor<T, TN>), grid, TENSOR_THREADS, stream, *call, inner, vectors);
}

template <class T> int tensor_of(const sl_spmm_call *call, int64_t inner, void *stream) {
	return call->padded <= 64 ? launch_tensor<T, 64>(call, inner, stream) : launch_tensor<T, 128>(call, inner, stream);
}

} // namespace

extern "C" int sl_kernel_spmm_tensor(const sl_spmm_call *call, int64_t inner, void *stream) {
	switch (call->dtype) {
	case SL_F32:
		return tensor_of<float>(call, inner, stream);
	case SL_F16:
		return tensor_of<sl_f16>(call, inner, stream);
	case SL_BF16:
		return tensor_of<sl_bf16>(call, inner, stream);
	default:
		return 1;
	}
}
