/* SPDX-License-Identifier: Apache-2.0 */
/* Copies, activations, reductions and what is done element by element. */
#include "kernels.h"
#include "view.cuh"

namespace {

enum { THREADS = 256, TILE = 32, TILE_ROWS = 8, CHUNK = 16384 };

/* Values of one type are moved as they are: going through a float would quiet a NaN. */
template <class F, class T> struct conversion {
	SL_DEVICE_MEMBER T of(F x) {
		return sl_narrow<T>::of(sl_widen(x));
	}
};
template <class T> struct conversion<T, T> {
	SL_DEVICE_MEMBER T of(T x) {
		return x;
	}
};

/* Tiles of 32 x 32, through shared memory where the two views run in different directions. */
template <class F, class T>
__global__ void __launch_bounds__(TILE *TILE_ROWS) convert(sl_dense from, sl_dense to, int64_t rows, int64_t cols) {
	SL_SHARED(T, tile, TILE * (TILE + 1));
	int64_t tiles = (cols + TILE - 1) / TILE, r0 = blockIdx.x / tiles * TILE, c0 = blockIdx.x % tiles * TILE;
	bool read_across = sl_across(from), write_across = sl_across(to), turn = read_across != write_across;
	int x = threadIdx.x;
	for (int y = threadIdx.y; y < TILE; y += TILE_ROWS) {
		int i = read_across ? y : x, j = read_across ? x : y;
		int64_t r = r0 + i, c = c0 + j;
		T value = conversion<float, T>::of(0.0f);
		if (r < from.rows && c < from.cols)
			value = conversion<F, T>::of(((const F *)from.data)[sl_at(from, r, c)]);
		if (turn)
			tile[i * (TILE + 1) + j] = value;
		else if (r < rows && c < cols)
			((T *)to.data)[sl_at(to, r, c)] = value;
	}
	if (!turn)
		return;
	__syncthreads();
	for (int y = threadIdx.y; y < TILE; y += TILE_ROWS) {
		int i = write_across ? y : x, j = write_across ? x : y;
		if (r0 + i < rows && c0 + j < cols)
			((T *)to.data)[sl_at(to, r0 + i, c0 + j)] = tile[i * (TILE + 1) + j];
	}
}

template <class E, class I>
__global__ void __launch_bounds__(THREADS) gather(const E *from, const I *permutation, E *to, int64_t count) {
	int64_t step = (int64_t)gridDim.x * THREADS;
	for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += step)
		to[i] = from[permutation[i]];
}

template <class T>
SL_DEVICE T activated(int kind, typename sl_wide<T>::type p, const sl_dense &a, const sl_dense &b, int64_t at_a,
					  int64_t at_b) {
	typedef typename sl_wide<T>::type A;
	A x = sl_widen(((const T *)a.data)[at_a]);
	return sl_narrow<T>::of(b.data ? sl_activate_back_one<A>(kind, p, x, sl_widen(((const T *)b.data)[at_b]))
								   : sl_activate_one<A>(kind, p, x));
}

/* All three lie as one line of `count` elements. */
template <class T>
__global__ void __launch_bounds__(THREADS)
	activate_line(int kind, double parameter, sl_dense a, sl_dense b, sl_dense c, int64_t count) {
	int64_t step = (int64_t)gridDim.x * THREADS;
	for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += step)
		((T *)c.data)[i] = activated<T>(kind, (typename sl_wide<T>::type)parameter, a, b, i, i);
}

/* A block a row, so that the sum of the row needs no second pass. */
template <class T>
__global__ void __launch_bounds__(THREADS) activate_rows(int kind, double parameter, sl_dense a, sl_dense b, sl_dense c,
														 double beta, typename sl_wide<T>::type *sums, int64_t cols) {
	typedef typename sl_wide<T>::type A;
	int64_t r = blockIdx.x;
	A sum = 0;
	for (int64_t col = threadIdx.x; col < cols; col += THREADS) {
		T value = sl_narrow<T>::of(0.0f);
		if (r < c.rows && col < c.cols)
			value = activated<T>(kind, (A)parameter, a, b, sl_at(a, r, col), b.data ? sl_at(b, r, col) : 0);
		((T *)c.data)[sl_at(c, r, col)] = value;
		sum += sl_widen(value); /* of what was stored */
	}
	if (!sums || r >= c.rows)
		return;
	double total = sl_block_sum<double>(sum);
	if (threadIdx.x == 0)
		sums[r] = (A)(beta == 0 ? total : beta * sums[r] + total);
}

template <class T>
__global__ void __launch_bounds__(THREADS) row_sums(sl_dense a, double beta, typename sl_wide<T>::type *sums) {
	typedef typename sl_wide<T>::type A;
	int64_t r = blockIdx.x;
	A sum = 0;
	for (int64_t col = threadIdx.x; col < a.cols; col += THREADS)
		sum += sl_get<T>(a, r, col);
	double total = sl_block_sum<double>(sum);
	if (threadIdx.x == 0)
		sums[r] = (A)(beta == 0 ? total : beta * sums[r] + total);
}

template <class T>
__global__ void __launch_bounds__(THREADS)
	sum_squares(const T *x, int64_t count, double scale, double limit, double *partials) {
	int64_t begin = (int64_t)blockIdx.x * CHUNK, end = begin + CHUNK < count ? begin + CHUNK : count;
	double sum = 0;
	for (int64_t i = begin + threadIdx.x; i < end; i += THREADS) {
		double v = sl_widen(x[i]);
		v = scale * (v > limit ? limit : v < -limit ? -limit : v);
		sum += v * v;
	}
	sum = sl_block_sum<double>(sum);
	if (threadIdx.x == 0)
		partials[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS) fold_sums(const double *partials, int64_t count, double *result) {
	double sum = 0;
	for (int64_t i = threadIdx.x; i < count; i += THREADS)
		sum += partials[i];
	sum = sl_block_sum<double>(sum);
	if (threadIdx.x == 0)
		*result += sum;
}

template <class T>
__global__ void __launch_bounds__(THREADS) first_nonfinite(const T *x, int64_t count, int64_t *partials) {
	int64_t begin = (int64_t)blockIdx.x * CHUNK, end = begin + CHUNK < count ? begin + CHUNK : count;
	int64_t first = INT64_MAX;
	for (int64_t i = begin + threadIdx.x; i < end; i += THREADS) {
		double v = sl_widen(x[i]);
		if (!(v - v == 0) && i < first)
			first = i;
	}
	first = sl_block_least(first);
	if (threadIdx.x == 0)
		partials[blockIdx.x] = first;
}

__global__ void __launch_bounds__(THREADS) fold_first(const int64_t *partials, int64_t count, int64_t *result) {
	int64_t first = INT64_MAX;
	for (int64_t i = threadIdx.x; i < count; i += THREADS)
		first = partials[i] < first ? partials[i] : first;
	first = sl_block_least(first);
	if (threadIdx.x == 0)
		*result = first == INT64_MAX ? -1 : first;
}

enum { SCALE, FILL, CLAMP, AXPY };

/* In double, as on the CPU. */
template <class T>
__global__ void __launch_bounds__(THREADS) elementwise(int variant, double a, T *x, T *y, int64_t count) {
	int64_t step = (int64_t)gridDim.x * THREADS;
	for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += step) {
		double v = variant == FILL ? a : (double)x[i];
		if (variant == SCALE)
			v = a * v;
		else if (variant == CLAMP)
			v = v > a ? a : v < -a ? -a : v;
		if (variant == AXPY)
			y[i] = (T)((double)y[i] + a * v);
		else
			x[i] = (T)v;
	}
}

template <class F> int convert_from(const sl_dense *from, const sl_dense *to, void *stream) {
	int64_t rows = sl_padded_rows(*to), cols = sl_padded_cols(*to);
	int64_t blocks = (rows + TILE - 1) / TILE * ((cols + TILE - 1) / TILE);
	dim3 block(TILE, TILE_ROWS);
	if (!blocks)
		return 0;
#define GO(T) return SL_LAUNCH((convert<F, T>), sl_blocks(blocks, 1), block, stream, *from, *to, rows, cols)
	SL_BY_DTYPE(to->dtype, GO, return 1)
#undef GO
}

template <class E>
int gather_of(const void *from, const void *permutation, sl_dtype index, void *to, int64_t count, void *stream) {
	dim3 grid = sl_strided_blocks(count, THREADS);
	if (index == SL_I64)
		return SL_LAUNCH((gather<E, int64_t>), grid, THREADS, stream, (const E *)from, (const int64_t *)permutation,
						 (E *)to, count);
	return SL_LAUNCH((gather<E, int32_t>), grid, THREADS, stream, (const E *)from, (const int32_t *)permutation,
					 (E *)to, count);
}

/* Whether a view is one line of memory without gaps, in the order of another. */
bool one_line(const sl_dense &m, const sl_dense &like) {
	bool across = m.order == SL_ROW_MAJOR || m.order == SL_COL_PANELS;
	bool alike = like.order == SL_ROW_MAJOR || like.order == SL_COL_PANELS;
	return across == alike && m.ld == (across ? m.cols : m.rows);
}

} // namespace

extern "C" {

int sl_kernel_convert(const sl_dense *from, const sl_dense *to, void *stream) {
#define GO(F) return convert_from<F>(from, to, stream)
	SL_BY_DTYPE(from->dtype, GO, return 1)
#undef GO
}

int sl_kernel_gather(const void *from, const void *permutation, sl_dtype index, void *to, int64_t count, size_t size,
					 void *stream) {
	if (count <= 0)
		return 0;
	return size == 2   ? gather_of<uint16_t>(from, permutation, index, to, count, stream)
		   : size == 4 ? gather_of<uint32_t>(from, permutation, index, to, count, stream)
					   : gather_of<uint64_t>(from, permutation, index, to, count, stream);
}

int sl_kernel_activation(sl_activation kind, double parameter, const sl_dense *a, const sl_dense *b, const sl_dense *c,
						 double beta, void *bias_gradient, void *stream) {
	sl_dense none = sl_dense(), second = b ? *b : none;
	int64_t rows = sl_padded_rows(*c), cols = sl_padded_cols(*c), count = c->rows * c->cols;
	bool line = !bias_gradient && one_line(*a, *c) && one_line(*c, *c) && (!b || one_line(*b, *c));
	if (!c->rows || (!c->cols && !bias_gradient))
		return 0;
#define GO(T)                                                                                                          \
	return line ? SL_LAUNCH((activate_line<T>), sl_strided_blocks(count, THREADS), THREADS, stream, kind, parameter,   \
							*a, second, *c, count)                                                                     \
				: SL_LAUNCH((activate_rows<T>), sl_blocks(rows, 1), THREADS, stream, kind, parameter, *a, second, *c,  \
							beta, (sl_wide<T>::type *)bias_gradient, cols)
	SL_BY_DTYPE(c->dtype, GO, return 1)
#undef GO
}

int sl_kernel_row_sums(const sl_dense *a, double beta, void *sums, void *stream) {
	if (!a->rows)
		return 0;
#define GO(T)                                                                                                          \
	return SL_LAUNCH((row_sums<T>), sl_blocks(a->rows, 1), THREADS, stream, *a, beta, (sl_wide<T>::type *)sums)
	SL_BY_DTYPE(a->dtype, GO, return 1)
#undef GO
}

int64_t sl_kernel_partials(int64_t count) {
	return count > 0 ? (count + CHUNK - 1) / CHUNK : 0;
}

int sl_kernel_sum_squares(const void *x, sl_dtype dtype, int64_t count, double scale, double limit, double *partials,
						  double *result, void *stream) {
	int64_t blocks = sl_kernel_partials(count);
	int error = 0;
	if (!blocks)
		return 0;
#define GO(T)                                                                                                          \
	error = SL_LAUNCH((sum_squares<T>), sl_blocks(blocks, 1), THREADS, stream, (const T *)x, count, scale, limit,      \
					  partials)
	SL_BY_DTYPE(dtype, GO, return 1)
#undef GO
	return error ? error : SL_LAUNCH((fold_sums), 1, THREADS, stream, partials, blocks, result);
}

int sl_kernel_nonfinite(const void *x, sl_dtype dtype, int64_t count, int64_t *partials, int64_t *result,
						void *stream) {
	int64_t blocks = sl_kernel_partials(count);
	int error = 0;
#define GO(T)                                                                                                          \
	if (blocks)                                                                                                        \
	error = SL_LAUNCH((first_nonfinite<T>), sl_blocks(blocks, 1), THREADS, stream, (const T *)x, count, partials)
	SL_BY_DTYPE(dtype, GO, return 1)
#undef GO
	return error ? error : SL_LAUNCH((fold_first), 1, THREADS, stream, partials, blocks, result);
}

int sl_kernel_elementwise(int variant, sl_dtype dtype, double alpha, void *x, void *y, int64_t count, void *stream) {
	if (count <= 0)
		return 0;
	dim3 grid = sl_strided_blocks(count, THREADS);
	if (dtype == SL_F64)
		return SL_LAUNCH((elementwise<double>), grid, THREADS, stream, variant, alpha, (double *)x, (double *)y, count);
	return SL_LAUNCH((elementwise<float>), grid, THREADS, stream, variant, alpha, (float *)x, (float *)y, count);
}
}
