/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sparse matrix times a dense one that lies row by row.
 *
 * Wide: a group of lanes takes a task and a tile of columns, keeps the tile's sums in registers, and walks through the
 * entries, which are staged in shared memory four at a time by 128-bit loads from a start rounded down (Gale et al.,
 * Sputnik, SC20). Long rows are cut into parts whose sums are folded in order, so that no group works longer than
 * others (after the regular and residual rows of RoDe, PPoPP24, without its atomics: results are the same every time).
 *
 * Narrow, for at most 8 columns: a warp takes a task, its lanes the entries; sums are added by shuffles.
 */
#include "finish.cuh"

namespace {

enum { SPMM_THREADS = 128 };

/* VEC columns from c on; those beyond n are not touched. */
template <class T, int VEC>
SL_DEVICE void load_columns(const T *from, int64_t c, int64_t n, typename sl_wide<T>::type *to) {
	if (c + VEC <= n) {
		sl_vector<T, VEC> v = sl_load_vector<VEC>(from + c);
		for (int i = 0; i < VEC; i++)
			to[i] = sl_widen(v.at[i]);
		return;
	}
	for (int i = 0; i < VEC; i++)
		to[i] = c + i < n ? sl_widen(from[c + i]) : 0;
}

/* E entries: all loads before the sums, so that they are on their way together. */
template <class T, int VEC, int LANES, int TILES, int E>
SL_DEVICE void add_entries(const sl_spmm_call &call, const T *b, const int32_t *columns,
						   const typename sl_wide<T>::type *values, int64_t c, typename sl_wide<T>::type (*sum)[VEC]) {
	typename sl_wide<T>::type x[E][TILES][VEC];
	for (int e = 0; e < E; e++)
		for (int t = 0; t < TILES; t++)
			load_columns<T, VEC>(b + columns[e] * call.ldb, c + t * LANES * VEC, call.n, x[e][t]);
	for (int e = 0; e < E; e++)
		for (int t = 0; t < TILES; t++)
			for (int i = 0; i < VEC; i++)
				sum[t][i] += values[e] * x[e][t][i];
}

template <class T, int VEC, int LANES, int TILES>
__global__ void __launch_bounds__(SPMM_THREADS) spmm_wide(sl_spmm_call call, int64_t tasks, bool aligned) {
	typedef typename sl_wide<T>::type A;
	typedef sl_vector<int32_t, 4> columns4;
	typedef sl_vector<A, 4> values4;
	SL_SHARED(columns4, columns, SPMM_THREADS);
	SL_SHARED(values4, values, SPMM_THREADS);
	const int stage = 4 * LANES, lane = threadIdx.x % LANES, group = threadIdx.x / LANES, base = group * LANES;
	const unsigned mask = sl_group_mask<LANES>();
	int64_t index = (int64_t)blockIdx.x * (SPMM_THREADS / LANES) + group;
	if (index >= tasks)
		return;
	const sl_row_task task = sl_task(call.s, index);
	const T *b = (const T *)call.b, *w = (const T *)call.values;
	const int64_t step = (int64_t)gridDim.y * LANES * VEC * TILES;
	for (int64_t c0 = (int64_t)blockIdx.y * LANES * VEC * TILES + lane * VEC; c0 - lane * VEC < call.padded;
		 c0 += step) {
		A sum[TILES][VEC];
		for (int t = 0; t < TILES; t++)
			for (int i = 0; i < VEC; i++)
				sum[t][i] = 0;
		int64_t k0 = task.begin & ~(int64_t)3;
		sl_quad<A> next = sl_load_quad(call.s, w, k0 + 4 * lane, task.begin, task.end, aligned);
		for (; k0 < task.end; k0 += stage) {
			__syncwarp(mask); /* nobody reads what was there any more */
			columns[base + lane] = next.columns;
			values[base + lane] = next.values;
			__syncwarp(mask);
			if (k0 + stage < task.end)
				next = sl_load_quad(call.s, w, k0 + stage + 4 * lane, task.begin, task.end, aligned);
			int quads = (int)((task.end - k0 < stage ? task.end - k0 : stage) + 3) / 4;
			for (int q = 0; q < quads; q++) {
				const columns4 at = columns[base + q];
				const values4 v = values[base + q];
				if (at.at[0] >= 0 && at.at[3] >= 0)
					add_entries<T, VEC, LANES, TILES, 4>(call, b, at.at, v.at, c0, sum);
				else /* before the first, or behind the last */
					for (int e = 0; e < 4; e++)
						if (at.at[e] >= 0)
							add_entries<T, VEC, LANES, TILES, 1>(call, b, at.at + e, v.at + e, c0, sum);
			}
		}
		for (int t = 0; t < TILES; t++) {
			int64_t c = c0 + t * LANES * VEC;
			if (task.slot >= 0) {
				for (int i = 0; i < VEC; i++)
					if (c + i < call.n)
						((A *)call.partials)[task.slot * call.n + c + i] = sum[t][i];
			} else if (VEC > 1 && c + VEC <= call.n) {
				finish_vector<T, VEC>(call, task.row, c, sum[t]);
			} else {
				for (int i = 0; i < VEC; i++) {
					if (c + i < call.n)
						finish<T>(call, task.row, c + i, sum[t][i]);
					else if (c + i < call.padded)
						clear<T>(call, task.row, c + i);
				}
			}
		}
	}
}

/* N: at least n; PACKED: a row of b is exactly N columns that one load takes. */
template <class T, int N, bool PACKED>
__global__ void __launch_bounds__(SPMM_THREADS) spmm_narrow(sl_spmm_call call, int64_t tasks, bool aligned) {
	typedef typename sl_wide<T>::type A;
	const int lane = threadIdx.x % 32;
	int64_t index = (int64_t)blockIdx.x * (SPMM_THREADS / 32) + threadIdx.x / 32;
	if (index >= tasks)
		return;
	const sl_row_task task = sl_task(call.s, index);
	const T *b = (const T *)call.b, *w = (const T *)call.values;
	A sum[N];
	for (int i = 0; i < N; i++)
		sum[i] = 0;
	for (int64_t k = (task.begin & ~(int64_t)3) + 4 * lane; k < task.end; k += 128) {
		const sl_quad<A> q = sl_load_quad(call.s, w, k, task.begin, task.end, aligned);
		for (int e = 0; e < 4; e++) {
			if (q.columns.at[e] < 0)
				continue;
			const T *x = b + q.columns.at[e] * call.ldb;
			if (PACKED) {
				const sl_vector<T, N> v = sl_load_vector<N>(x);
				for (int i = 0; i < N; i++)
					sum[i] += q.values.at[e] * sl_widen(v.at[i]);
			} else {
				for (int i = 0; i < N; i++)
					if (i < call.n)
						sum[i] += q.values.at[e] * sl_widen(x[i]);
			}
		}
	}
	for (int i = 0; i < N; i++)
		for (int by = 16; by; by /= 2)
			sum[i] += __shfl_xor_sync(SL_WARP_MASK, sum[i], by, 32);
	for (int i = 0; i < N; i++) {
		if (lane != i || i >= call.n)
			continue;
		if (task.slot >= 0)
			((A *)call.partials)[task.slot * call.n + i] = sum[i];
		else
			finish<T>(call, task.row, i, sum[i]);
	}
	if (task.slot < 0)
		for (int64_t c = call.n + lane; c < call.padded; c += 32)
			clear<T>(call, task.row, c);
}

/* Rows in parts: the parts' sums in order, and the epilogue. */
template <class T> __global__ void __launch_bounds__(SPMM_THREADS) spmm_fold(sl_spmm_call call) {
	typedef typename sl_wide<T>::type A;
	const sl_row_fold fold = call.s.folds[blockIdx.x];
	const int64_t step = (int64_t)gridDim.y * SPMM_THREADS;
	for (int64_t c = (int64_t)blockIdx.y * SPMM_THREADS + threadIdx.x; c < call.padded; c += step) {
		A sum = 0;
		if (c >= call.n) {
			clear<T>(call, fold.row, c);
			continue;
		}
		for (int i = 0; i < fold.count; i++)
			sum += ((const A *)call.partials)[(int64_t)(fold.slot + i) * call.n + c];
		finish<T>(call, fold.row, c, sum);
	}
}

unsigned column_blocks(int64_t columns, int64_t each) {
	int64_t blocks = (columns + each - 1) / each;
	return (unsigned)(blocks < 1 ? 1 : blocks > 65535 ? 65535 : blocks);
}

/* Whether all rows of the dense matrices begin at multiples of `bytes`. */
bool rows_aligned(const sl_spmm_call *call, size_t size, size_t bytes) {
	return (uintptr_t)call->b % bytes == 0 && (uintptr_t)call->c % bytes == 0 && (uintptr_t)call->d % bytes == 0 &&
		   (size_t)call->ldb * size % bytes == 0 && (size_t)call->ldc * size % bytes == 0 &&
		   (!call->d || (size_t)call->ldd * size % bytes == 0);
}

template <class T, int VEC, int LANES, int TILES>
int launch_wide(const sl_spmm_call *call, int64_t tasks, bool aligned, void *stream) {
	dim3 grid(sl_blocks(tasks, SPMM_THREADS / LANES), column_blocks(call->padded, LANES * VEC * TILES));
	return SL_LAUNCH((spmm_wide<T, VEC, LANES, TILES>), grid, SPMM_THREADS, stream, *call, tasks, aligned);
}

template <class T, int N> int launch_narrow(const sl_spmm_call *call, int64_t tasks, bool aligned, void *stream) {
	dim3 grid = sl_blocks(tasks, SPMM_THREADS / 32);
	bool packed = call->n == N && (uintptr_t)call->b % (N * sizeof(T)) == 0 && call->ldb % N == 0;
	if (packed)
		return SL_LAUNCH((spmm_narrow<T, N, true>), grid, SPMM_THREADS, stream, *call, tasks, aligned);
	return SL_LAUNCH((spmm_narrow<T, N, false>), grid, SPMM_THREADS, stream, *call, tasks, aligned);
}

template <class T> int spmm_of(const sl_spmm_call *call, void *stream) {
	enum { VEC = 16 / sizeof(T) };
	int64_t tasks = sl_task_count(&call->s), n = call->n;
	bool aligned = sl_quads_aligned(call->s.columns, (const T *)call->values);
	bool vectors = rows_aligned(call, sizeof(T), 16);
	int error = 0;
	if (tasks && n <= 8)
		error = n == 1   ? launch_narrow<T, 1>(call, tasks, aligned, stream)
				: n == 2 ? launch_narrow<T, 2>(call, tasks, aligned, stream)
				: n <= 4 ? launch_narrow<T, 4>(call, tasks, aligned, stream)
						 : launch_narrow<T, 8>(call, tasks, aligned, stream);
	else if (tasks && n <= 64)
		error = vectors ? launch_wide<T, VEC, 8, 1>(call, tasks, aligned, stream)
						: launch_wide<T, 1, 32, 2>(call, tasks, aligned, stream);
	else if (tasks)
		error = vectors && n > 32 * VEC ? launch_wide<T, VEC, 32, 2>(call, tasks, aligned, stream)
				: vectors               ? launch_wide<T, VEC, 32, 1>(call, tasks, aligned, stream)
										: launch_wide<T, 1, 32, 2>(call, tasks, aligned, stream);
	if (error || !call->s.fold_count)
		return error;
	dim3 grid(sl_blocks(call->s.fold_count, 1), column_blocks(call->padded, SPMM_THREADS));
	return SL_LAUNCH((spmm_fold<T>), grid, SPMM_THREADS, stream, *call);
}

} // namespace

extern "C" int sl_kernel_spmm(const sl_spmm_call *call, void *stream) {
#define GO(T) return spmm_of<T>(call, stream)
	SL_BY_DTYPE(call->dtype, GO, return 1)
#undef GO
}
