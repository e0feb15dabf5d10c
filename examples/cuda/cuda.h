/* SPDX-License-Identifier: Apache-2.0 */
/* What the CUDA examples share: checks that end the program, and views of memory of theirs on a GPU. */
#ifndef EXAMPLES_CUDA_H
#define EXAMPLES_CUDA_H

#include <stdio.h>
#include <stdlib.h>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <sparselayer/sparselayer.h>

enum { SKIPPED = 77 };

#define CUDA(call)                                                                                                     \
	do {                                                                                                               \
		cudaError_t cuda_ = (call);                                                                                    \
		if (cuda_ != cudaSuccess) {                                                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(cuda_));                             \
			exit(1);                                                                                                   \
		}                                                                                                              \
	} while (0)
#define BLAS(call)                                                                                                     \
	do {                                                                                                               \
		cublasStatus_t blas_ = (call);                                                                                 \
		if (blas_ != CUBLAS_STATUS_SUCCESS) {                                                                          \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, cublasGetStatusString(blas_));                          \
			exit(1);                                                                                                   \
		}                                                                                                              \
	} while (0)
#define SL(context, call)                                                                                              \
	do {                                                                                                               \
		if ((call) != SL_OK) {                                                                                         \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, sl_context_message(context));                           \
			exit(1);                                                                                                   \
		}                                                                                                              \
	} while (0)

/* How many GPUs there are; the program ends as skipped where there are fewer than it needs. */
static inline void need_gpus(int wanted) {
	int count = 0;
	if (cudaGetDeviceCount(&count) == cudaSuccess && count >= wanted)
		return;
	(void)cudaGetLastError();
	fprintf(stderr, "skipped: this needs %d GPU%s\n", wanted, wanted == 1 ? "" : "s");
	exit(SKIPPED);
}

/* A context that runs on the program's own stream. */
static inline sl_context *context_on(int gpu, cudaStream_t stream) {
	sl_context *context = NULL;
	char error[256] = "";
	sl_context_options options = {
		SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CUDA, .device_index = gpu,       .stream = stream,
		.seed = 1,           .error = error,           .error_size = sizeof error};
	if (sl_context_create(&context, &options) != SL_OK) {
		fprintf(stderr, "no context: %s\n", error);
		exit(1);
	}
	return context;
}

/* [rows, cols] of the program's memory on a GPU. */
static inline sl_dense on_gpu(int gpu, float *data, int64_t rows, int64_t cols) {
	sl_dense view = sl_dense_view(data, SL_F32, rows, cols);
	view.device = SL_DEVICE_CUDA;
	view.device_index = gpu;
	return view;
}

static inline float *gpu_floats(int64_t count) {
	void *data;
	CUDA(cudaMalloc(&data, (size_t)count * sizeof(float)));
	return data;
}

/* Numbers in [-1, 1) on a GPU, the same ones for the same seed. */
static inline void fill_random(float *to, int64_t count, unsigned seed, cudaStream_t stream) {
	float *host = malloc((size_t)count * sizeof *host);
	if (!host)
		exit(1);
	for (int64_t i = 0; i < count; i++) {
		seed = seed * 1664525u + 1013904223u;
		host[i] = (float)(seed >> 8) / 8388608.0f - 1;
	}
	CUDA(cudaMemcpyAsync(to, host, (size_t)count * sizeof *host, cudaMemcpyHostToDevice, stream));
	CUDA(cudaStreamSynchronize(stream));
	free(host);
}

/* The mean of the squares of an array on a GPU. */
static inline double mean_square(const float *from, int64_t count, cudaStream_t stream) {
	float *host = malloc((size_t)count * sizeof *host);
	double sum = 0;
	if (!host)
		exit(1);
	CUDA(cudaMemcpyAsync(host, from, (size_t)count * sizeof *host, cudaMemcpyDeviceToHost, stream));
	CUDA(cudaStreamSynchronize(stream));
	for (int64_t i = 0; i < count; i++)
		sum += (double)host[i] * host[i];
	free(host);
	return sum / (double)count;
}

#endif
