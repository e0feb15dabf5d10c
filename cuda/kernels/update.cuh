/* SPDX-License-Identifier: Apache-2.0 */
/* One step of an optimizer over an array of parameters; the formulas of src/cpu/update.inc. */
#include "backend/step.h"
#include "kernels.h"
#include "numbers.cuh"

namespace {

enum { UPDATE_THREADS = 256 };

/* A step's numbers in the type of the parameters. */
template <class T> struct factors {
	T rate, clip, factor, l1, l2, threshold, momentum, beta1, beta2, rest1, rest2, step, root, epsilon, keep;
	bool skip;
};

template <class T> SL_DEVICE factors<T> make_factors(const sl_update *u, int kind) {
	factors<T> f;
	f.rate = (T)u->learning_rate;
	f.skip = u->skip != 0;
	f.clip = u->clip_value > 0 ? (T)u->clip_value : (T)INFINITY;
	f.factor = (T)u->gradient_factor;
	f.l1 = (T)u->l1;
	f.l2 = (T)u->l2;
	f.threshold = (T)(u->learning_rate * u->l1_proximal);
	f.momentum = (T)u->momentum;
	f.beta1 = (T)u->beta1;
	f.beta2 = (T)u->beta2;
	f.rest1 = (T)(1 - u->beta1);
	f.rest2 = (T)(1 - u->beta2);
	f.step = (T)(u->learning_rate / u->correction1);
	f.root = (T)(1 / sqrt(u->correction2));
	f.epsilon = (T)u->epsilon;
	f.keep = kind == SL_ADAMW ? (T)(1 - u->learning_rate * u->weight_decay) : (T)1;
	return f;
}

template <class T> SL_DEVICE void update_one(int kind, const factors<T> &f, T *w, T g, T *m, T *v) {
	T old = *w, x = g;
	x = x > f.clip ? f.clip : x;
	x = x < -f.clip ? -f.clip : x;
	x = x * f.factor + (old > 0 ? f.l1 : old < 0 ? -f.l1 : (T)0) + f.l2 * old;
	if (kind == SL_SGD) {
		old -= f.rate * x;
	} else if (kind == SL_MOMENTUM) {
		*m = f.momentum * *m + x;
		old -= f.rate * *m;
	} else if (kind == SL_NESTEROV) {
		*m = f.momentum * *m + x;
		old -= f.rate * (x + f.momentum * *m);
	} else {
		*m = f.beta1 * *m + f.rest1 * x;
		*v = f.beta2 * *v + f.rest2 * x * x;
		old = f.keep * old - f.step * *m / (sl_sqrt(*v) * f.root + f.epsilon);
	}
	T shrunk = old > 0 ? old - f.threshold : old + f.threshold;
	*w = (old < 0 ? -old : old) <= f.threshold ? (T)0 : shrunk;
}

/* N elements at a time. */
template <class T, int N>
__global__ void __launch_bounds__(UPDATE_THREADS)
	update_all(int kind, const sl_update *u, T *w, const T *g, T *m, T *v, int64_t count) {
	SL_SHARED(factors<T>, shared, 1);
	if (threadIdx.x == 0)
		shared[0] = make_factors<T>(u, kind);
	__syncthreads();
	const factors<T> f = shared[0];
	if (f.skip)
		return;
	const bool first = kind != SL_SGD, second = kind == SL_ADAM || kind == SL_ADAMW;
	int64_t step = (int64_t)gridDim.x * UPDATE_THREADS * N;
	for (int64_t i = ((int64_t)blockIdx.x * UPDATE_THREADS + threadIdx.x) * N; i < count; i += step) {
		if (N > 1 && i + N <= count) {
			sl_vector<T, N> ws = sl_load_vector<N>(w + i), gs = sl_load_vector<N>(g + i), ms = {}, vs = {};
			if (first)
				ms = sl_load_vector<N>(m + i);
			if (second)
				vs = sl_load_vector<N>(v + i);
			for (int k = 0; k < N; k++)
				update_one(kind, f, &ws.at[k], gs.at[k], &ms.at[k], &vs.at[k]);
			sl_store_vector<N>(w + i, ws);
			if (first)
				sl_store_vector<N>(m + i, ms);
			if (second)
				sl_store_vector<N>(v + i, vs);
			continue;
		}
		for (int64_t k = i; k < i + N && k < count; k++) {
			T none = 0;
			update_one(kind, f, w + k, g[k], first ? m + k : &none, second ? v + k : &none);
		}
	}
}

template <class T> int update_of(int kind, const sl_op_args *args, void *stream) {
	enum { N = 16 / sizeof(T) };
	uintptr_t together = 0;
	for (int i = 0; i < 4; i++)
		together |= (uintptr_t)args->vector[i];
	T *const *vector = (T *const *)args->vector;
	if (together % 16 == 0)
		return SL_LAUNCH((update_all<T, N>), sl_strided_blocks(args->count, UPDATE_THREADS * N), UPDATE_THREADS, stream,
						 kind, args->update, vector[0], vector[1], vector[2], vector[3], args->count);
	return SL_LAUNCH((update_all<T, 1>), sl_strided_blocks(args->count, UPDATE_THREADS), UPDATE_THREADS, stream, kind,
					 args->update, vector[0], vector[1], vector[2], vector[3], args->count);
}

__global__ void advance(sl_step *step) {
	if (threadIdx.x == 0)
		sl_step_advance(step);
}

} // namespace

extern "C" int sl_kernel_advance(sl_step *step, void *stream) {
	return SL_LAUNCH((advance), 1, 32, stream, step);
}

extern "C" int sl_kernel_update(sl_optimizer_kind kind, sl_dtype dtype, const sl_op_args *args, void *stream) {
	if (args->count <= 0)
		return 0;
	return dtype == SL_F64 ? update_of<double>(kind, args, stream) : update_of<float>(kind, args, stream);
}
