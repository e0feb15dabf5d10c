/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Losses of outputs [features, batch] and their gradients, in double as on the CPU. A block takes 32 samples, each of
 * its 8 warps every eighth feature of them; what the warps found is put together in their order.
 */
#include "kernels.h"
#include "view.cuh"

namespace {

enum { SAMPLES = 32, SLICES = 8, LOSS_THREADS = SAMPLES * SLICES };

struct loss_call {
	int loss;
	sl_dense a, b, c;
	const int32_t *labels;
	bool sparse, stored_only;
	sl_sparse_batch batch;
	double scale; /* of the gradient */
	const int64_t *bad;
	double *partials;
};

SL_DEVICE int64_t batch_offset(const void *offsets, sl_dtype dtype, int64_t i) {
	return dtype == SL_I64 ? ((const int64_t *)offsets)[i] : ((const int32_t *)offsets)[i];
}

struct sample {
	int64_t col, begin, end; /* of its targets */
};

/* The entry of row r among a sample's targets, or -1; columns increase. */
SL_DEVICE int64_t find(const loss_call &call, const sample &s, int64_t r) {
	int64_t low = s.begin, high = s.end;
	while (low < high) {
		int64_t middle = (low + high) / 2;
		if (call.batch.columns[middle] < r)
			low = middle + 1;
		else
			high = middle;
	}
	return low < s.end && call.batch.columns[low] == r ? low : -1;
}

/* `known`: whether it is stored, where only that counts. */
template <class T> SL_DEVICE double target(const loss_call &call, const sample &s, int64_t r, bool *known) {
	*known = true;
	if (call.sparse) {
		int64_t at = find(call, s, r);
		*known = at >= 0 || !call.stored_only;
		return at < 0 ? 0 : call.batch.values ? (double)((const T *)call.batch.values)[at] : 1;
	}
	if (call.labels)
		return call.labels[s.col] == r;
	return sl_get<T>(call.b, r, s.col);
}

template <class T> SL_DEVICE void put(const loss_call &call, const sample &s, int64_t r, double value) {
	if (call.c.data)
		((T *)call.c.data)[sl_at(call.c, r, s.col)] = (T)(value * call.scale);
}

/* The sum over the slices of a sample, in every thread. */
SL_DEVICE double slice_sum(SL_SHARED_ARRAY(double) room, double value) {
	int x = threadIdx.x % SAMPLES, y = threadIdx.x / SAMPLES;
	__syncthreads();
	room[y * SAMPLES + x] = value;
	__syncthreads();
	double sum = 0;
	for (int i = 0; i < SLICES; i++)
		sum += room[i * SAMPLES + x];
	return sum;
}

template <class T> SL_DEVICE double softmax(const loss_call &call, const sample &s, bool real, double *correct) {
	SL_SHARED(double, most_of, LOSS_THREADS);
	SL_SHARED(double, wanted_of, LOSS_THREADS);
	SL_SHARED(double, best_target_of, LOSS_THREADS);
	SL_SHARED(int64_t, best_of, LOSS_THREADS);
	SL_SHARED(int64_t, label_of, LOSS_THREADS);
	SL_SHARED(double, room, LOSS_THREADS);
	const int x = threadIdx.x % SAMPLES, y = threadIdx.x / SAMPLES;
	double most = -INFINITY, wanted = -INFINITY, best_target = 0, total = 0, nan = 0;
	int64_t best = INT64_MAX, label = INT64_MAX, features = real ? call.a.rows : 0;
	bool known;
	for (int64_t r = y; r < features; r += SLICES) {
		double value = sl_get<T>(call.a, r, s.col), t = target<T>(call, s, r, &known);
		nan += value != value;
		total += t;
		if (value > most) {
			most = value;
			best = r;
			best_target = t;
		}
		if (t > wanted) {
			wanted = t;
			label = r;
		}
	}
	most_of[threadIdx.x] = most, best_of[threadIdx.x] = best, best_target_of[threadIdx.x] = best_target;
	wanted_of[threadIdx.x] = wanted, label_of[threadIdx.x] = label;
	total = slice_sum(room, total);
	nan = slice_sum(room, nan);
	/* The largest, and of equal ones the first. */
	most = wanted = -INFINITY, best = label = INT64_MAX;
	for (int i = 0; i < SLICES; i++) {
		double m = most_of[i * SAMPLES + x], w = wanted_of[i * SAMPLES + x];
		int64_t b = best_of[i * SAMPLES + x], l = label_of[i * SAMPLES + x];
		if (m > most || (m == most && b < best)) {
			most = m;
			best = b;
			best_target = best_target_of[i * SAMPLES + x];
		}
		if (w > wanted || (w == wanted && l < label)) {
			wanted = w;
			label = l;
		}
	}
	double sum = 0, loss = 0;
	for (int64_t r = y; r < features; r += SLICES)
		sum += exp((double)sl_get<T>(call.a, r, s.col) - most);
	sum = slice_sum(room, sum);
	double log_sum = most + log(sum);
	if (!call.sparse)
		total = 1; /* dense rows add up to 1, or are taken as if they did */
	for (int64_t r = y; r < features; r += SLICES) {
		double value = sl_get<T>(call.a, r, s.col), t = target<T>(call, s, r, &known);
		if (t != 0)
			loss += t * (log_sum - value);
		put<T>(call, s, r, total * exp(value - log_sum) - t);
	}
	loss = slice_sum(room, loss);
	*correct = real && (call.sparse ? best_target > 0 : best == label) && nan == 0;
	return nan != 0 ? NAN : real ? loss : 0;
}

/* Binary cross-entropy and squared error, which go element by element. */
template <class T> SL_DEVICE double elements(const loss_call &call, const sample &s, bool real, double *correct) {
	SL_SHARED(double, room, LOSS_THREADS);
	int64_t features = real ? call.a.rows : 0;
	double loss = 0, right = 0;
	bool known;
	for (int64_t r = threadIdx.x / SAMPLES; r < features; r += SLICES) {
		double value = sl_get<T>(call.a, r, s.col), t = target<T>(call, s, r, &known);
		if (!known) {
			put<T>(call, s, r, 0);
		} else if (call.loss == SL_BINARY_CROSS_ENTROPY) {
			double e = exp(-fabs(value));
			loss += (value > 0 ? value : 0) - value * t + log1p(e);
			right += value == value && (value > 0) == (t > 0.5);
			put<T>(call, s, r, (value < 0 ? e : 1) / (1 + e) - t);
		} else {
			double d = value - t;
			loss += d * d;
			put<T>(call, s, r, 2 * d);
		}
	}
	*correct = slice_sum(room, right);
	return slice_sum(room, loss);
}

template <class T> __global__ void __launch_bounds__(LOSS_THREADS) loss_samples(loss_call call, int64_t rows) {
	SL_SHARED(double, losses, SAMPLES);
	SL_SHARED(double, corrects, SAMPLES);
	if (call.bad && *call.bad >= 0)
		return;
	const int x = threadIdx.x % SAMPLES, y = threadIdx.x / SAMPLES;
	sample s = {(int64_t)blockIdx.x * SAMPLES + x, 0, 0};
	bool real = s.col < call.a.cols;
	double correct = 0, loss;
	if (real && call.sparse) {
		s.begin = batch_offset(call.batch.begins, call.batch.offset_dtype, s.col);
		s.end = batch_offset(call.batch.ends, call.batch.offset_dtype, s.col);
	}
	loss = call.loss == SL_SOFTMAX_CROSS_ENTROPY ? softmax<T>(call, s, real, &correct)
												 : elements<T>(call, s, real, &correct);
	/* The padding of panels: columns behind the batch, and rows behind the features. */
	if (call.c.data && s.col < sl_padded_cols(call.c))
		for (int64_t r = (real ? call.c.rows : 0) + y; r < rows; r += SLICES)
			((T *)call.c.data)[sl_at(call.c, r, s.col)] = 0;
	if (y == 0) {
		losses[x] = loss;
		corrects[x] = correct;
	}
	__syncthreads();
	if (threadIdx.x == 0) {
		loss = correct = 0;
		for (int i = 0; i < SAMPLES; i++) {
			loss += losses[i];
			correct += corrects[i];
		}
		call.partials[2 * blockIdx.x] = loss;
		call.partials[2 * blockIdx.x + 1] = correct;
	}
}

__global__ void __launch_bounds__(LOSS_THREADS)
	check_labels(const int32_t *labels, int64_t count, int64_t features, int64_t *bad) {
	int64_t first = INT64_MAX;
	for (int64_t i = threadIdx.x; i < count; i += LOSS_THREADS)
		if ((labels[i] < 0 || labels[i] >= features) && i < first)
			first = i;
	first = sl_block_least(first);
	if (threadIdx.x == 0)
		*bad = first == INT64_MAX ? -1 : first;
}

__global__ void __launch_bounds__(LOSS_THREADS)
	fold_loss(const double *partials, int64_t count, const int64_t *bad, double factor, int64_t rows, int64_t counted,
			  sl_loss_sums *sums) {
	if (bad && *bad >= 0) {
		if (threadIdx.x == 0)
			sums->bad_row = *bad;
		return;
	}
	double loss = 0, correct = 0;
	for (int64_t i = threadIdx.x; i < count; i += LOSS_THREADS) {
		loss += partials[2 * i];
		correct += partials[2 * i + 1];
	}
	loss = sl_block_sum<double>(loss);
	correct = sl_block_sum<double>(correct);
	if (threadIdx.x == 0) {
		sums->loss += loss * factor;
		sums->rows += rows;
		sums->correct += (int64_t)correct;
		sums->counted += counted;
	}
}

} // namespace

extern "C" {

/* The first bad label, then two numbers a block. */
size_t sl_kernel_loss_bytes(int64_t batch) {
	return (size_t)(1 + 2 * ((batch + SAMPLES - 1) / SAMPLES)) * 8;
}

int sl_kernel_loss(const sl_op_desc *desc, const sl_op_args *args, void *stream) {
	const sl_dense *a = &args->a;
	bool softmax_loss = desc->variant == SL_SOFTMAX_CROSS_ENTROPY;
	double elements = (double)a->cols * (double)a->rows;
	double per = softmax_loss ? (double)a->cols : desc->stored_only ? (double)args->batch->nnz : elements;
	loss_call call = loss_call();
	call.loss = desc->variant;
	call.a = *a;
	call.b = args->b;
	call.c = args->c;
	call.labels = args->labels;
	call.sparse = args->batch != NULL;
	call.stored_only = desc->stored_only;
	if (args->batch)
		call.batch = *args->batch;
	call.scale = per > 0 ? args->alpha / per : 0;
	call.bad = args->labels ? (const int64_t *)args->workspace : NULL;
	call.partials = (double *)args->workspace + 1;
	int error = 0;
	if (args->labels && a->cols)
		error = SL_LAUNCH((check_labels), 1, LOSS_THREADS, stream, args->labels, a->cols, a->rows,
						  (int64_t *)args->workspace);
	if (error || !a->cols)
		return error;
	int64_t covered = (a->cols + SAMPLES - 1) / SAMPLES, blocks = covered;
	if (args->c.data && sl_padded_cols(args->c) > a->cols)
		blocks = (sl_padded_cols(args->c) + SAMPLES - 1) / SAMPLES;
	if (a->rows) {
#define GO(T)                                                                                                          \
	error = SL_LAUNCH((loss_samples<T>), sl_blocks(blocks, 1), LOSS_THREADS, stream, call, sl_padded_rows(args->c))
		if (a->dtype == SL_F64)
			GO(double);
		else
			GO(float);
#undef GO
	}
	if (error)
		return error;
	/* Sums of means times rows: softmax's mean is over rows, the others' over elements. */
	double factor = softmax_loss ? 1 : per > 0 ? (double)a->cols / per : 0;
	return SL_LAUNCH((fold_loss), 1, LOSS_THREADS, stream, call.partials, a->rows ? covered : 0, call.bad, factor,
					 a->rows ? a->cols : 0, a->rows && desc->variant != SL_MEAN_SQUARED_ERROR ? (int64_t)per : 0,
					 (sl_loss_sums *)args->result);
}
}
