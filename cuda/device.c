/* SPDX-License-Identifier: Apache-2.0 */
/* Discovery, memory, streams and events. */
#include "device.h"

#include <stdio.h>

/* Calls that have nobody to tell about a failure still take the runtime's last error back. */
static void forget(cudaError_t error) {
	if (error != cudaSuccess)
		(void)cudaGetLastError();
}

/* `*previous`: the GPU to go back to, or -1. */
static cudaError_t make_current(int index, int *previous) {
	int current = -1;
	*previous = -1;
	cudaError_t error = cudaGetDevice(&current);
	if (error != cudaSuccess || current == index)
		return error;
	error = cudaSetDevice(index);
	if (error == cudaSuccess)
		*previous = current;
	return error;
}

sl_status sli_cuda_enter(const sl_cuda *cuda, int *previous) {
	return sli_cuda_check(cuda, make_current(cuda->index, previous), "cudaGetDevice or cudaSetDevice");
}

void sli_cuda_leave(int previous) {
	if (previous >= 0)
		forget(cudaSetDevice(previous));
}

sl_status sli_cuda_check(const sl_cuda *cuda, cudaError_t error, const char *what) {
	if (error == cudaSuccess)
		return SL_OK;
	sl_status status = error == cudaErrorMemoryAllocation ? SL_ERR_MEMORY : SL_ERR_BACKEND;
	switch (error) {
	case cudaErrorIllegalAddress:
	case cudaErrorLaunchFailure:
	case cudaErrorHardwareStackError:
	case cudaErrorECCUncorrectable:
		status = SL_ERR_DEVICE_LOST; /* sticky: nothing works in this process's CUDA context any more */
		break;
	default:
		break;
	}
	(void)cudaGetLastError();
	return cuda->host->fail(cuda->host->user, status, "%s: %s (CUDA error %d)", what, cudaGetErrorString(error),
							(int)error);
}

sl_status sli_cusparse_check(const sl_cuda *cuda, cusparseStatus_t status, const char *what) {
	if (status == CUSPARSE_STATUS_SUCCESS)
		return SL_OK;
	bool memory = status == CUSPARSE_STATUS_ALLOC_FAILED || status == CUSPARSE_STATUS_INSUFFICIENT_RESOURCES;
	(void)cudaGetLastError();
	return cuda->host->fail(cuda->host->user, memory ? SL_ERR_MEMORY : SL_ERR_BACKEND, "%s: %s (cuSPARSE status %d)",
							what, cusparseGetErrorString(status), (int)status);
}

sl_status sli_cublas_check(const sl_cuda *cuda, cublasStatus_t status, const char *what) {
	if (status == CUBLAS_STATUS_SUCCESS)
		return SL_OK;
	(void)cudaGetLastError();
	return cuda->host->fail(cuda->host->user, status == CUBLAS_STATUS_ALLOC_FAILED ? SL_ERR_MEMORY : SL_ERR_BACKEND,
							"%s: %s (cuBLAS status %d)", what, cublasGetStatusString(status), (int)status);
}

static void describe_device(sl_device_info *info, int index) {
	struct cudaDeviceProp prop;
	info->device = SL_DEVICE_CUDA;
	info->index = index;
	cudaError_t error = cudaGetDeviceProperties(&prop, index);
	info->usable = error == cudaSuccess;
	if (!info->usable) {
		snprintf(info->name, sizeof info->name, "GPU %d", index);
		snprintf(info->detail, sizeof info->detail, "%s (CUDA error %d)", cudaGetErrorString(error), (int)error);
		(void)cudaGetLastError();
		return;
	}
	snprintf(info->name, sizeof info->name, "%.95s", prop.name);
	snprintf(info->detail, sizeof info->detail, "compute capability %d.%d", prop.major, prop.minor);
	info->memory = prop.totalGlobalMem;
	info->units = prop.multiProcessorCount;
}

int sli_cuda_devices(sl_device_info *devices, int capacity) {
	int count = 0; /* left unset by the runtime where there is no driver */
	cudaError_t error = cudaGetDeviceCount(&count);
	if (error == cudaSuccess && count > 0) {
		for (int i = 0; i < count && i < capacity; i++)
			describe_device(&devices[i], i);
		return count;
	}
	forget(error);
	if (capacity > 0) {
		devices[0].device = SL_DEVICE_CUDA;
		devices[0].index = 0;
		devices[0].usable = false;
		snprintf(devices[0].name, sizeof devices[0].name, "no GPU");
		snprintf(devices[0].detail, sizeof devices[0].detail, "%s",
				 error == cudaSuccess ? "the driver lists no device" : cudaGetErrorString(error));
	}
	return 1;
}

static sl_status open_handles(sl_cuda *cuda) {
	struct cudaDeviceProp prop;
	SL_TRY(sli_cuda_check(cuda, cudaGetDeviceProperties(&prop, cuda->index), "cudaGetDeviceProperties"));
	snprintf(cuda->name, sizeof cuda->name, "%.95s", prop.name);
	cuda->major = prop.major;
	cuda->minor = prop.minor;
	cuda->units = prop.multiProcessorCount;
	cuda->memory = prop.totalGlobalMem;
	cuda->stream = (cudaStream_t)cuda->host->stream;
	if (!cuda->stream) {
		SL_TRY(sli_cuda_check(cuda, cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking),
							  "cudaStreamCreateWithFlags"));
		cuda->own_stream = true;
	}
	SL_TRY(sli_cusparse_check(cuda, cusparseCreate(&cuda->cusparse), "cusparseCreate"));
	SL_TRY(sli_cusparse_check(cuda, cusparseSetStream(cuda->cusparse, cuda->stream), "cusparseSetStream"));
	SL_TRY(sli_cublas_check(cuda, cublasCreate(&cuda->cublas), "cublasCreate"));
	SL_TRY(sli_cublas_check(cuda, cublasSetStream(cuda->cublas, cuda->stream), "cublasSetStream"));
	/* Plain float32: TF32 only when it is asked for. */
	return sli_cublas_check(cuda, cublasSetMathMode(cuda->cublas, CUBLAS_PEDANTIC_MATH), "cublasSetMathMode");
}

sl_status sli_cuda_open(const sl_host *host, void **device) {
	int count = 0;
	cudaError_t error = cudaGetDeviceCount(&count);
	*device = NULL;
	/* cusparseCreate prints where there is no driver: never get that far. */
	if (error != cudaSuccess || count <= 0) {
		forget(error);
		return host->fail(host->user, SL_ERR_DEVICE, "no usable GPU: %s",
						  error == cudaSuccess ? "the driver lists no device" : cudaGetErrorString(error));
	}
	if (host->device_index < 0 || host->device_index >= count)
		return host->fail(host->user, SL_ERR_DEVICE, "device_index %d: there are %d GPUs, counted from 0",
						  host->device_index, count);
	sl_cuda *cuda = host->allocate(host->user, sizeof *cuda);
	if (!cuda)
		return host->fail(host->user, SL_ERR_MEMORY, "no memory for the CUDA backend's state");
	*cuda = (sl_cuda){.host = host, .index = host->device_index};
	int previous;
	sl_status status = sli_cuda_enter(cuda, &previous);
	if (status == SL_OK) {
		status = open_handles(cuda);
		sli_cuda_leave(previous);
	}
	if (status != SL_OK) {
		sli_cuda_close(cuda);
		return status;
	}
	*device = cuda;
	return SL_OK;
}

void sli_cuda_close(void *device) {
	sl_cuda *cuda = device;
	if (!cuda)
		return;
	int previous;
	/* No message from here on: it would hide the one that says why opening failed. */
	forget(make_current(cuda->index, &previous));
	if (cuda->cublas)
		(void)cublasDestroy(cuda->cublas);
	if (cuda->cusparse)
		(void)cusparseDestroy(cuda->cusparse);
	if (cuda->own_stream)
		forget(cudaStreamDestroy(cuda->stream));
	sli_cuda_leave(previous);
	cuda->host->release(cuda->host->user, cuda, sizeof *cuda);
}

void sli_cuda_describe(void *device, char *text, size_t size) {
	const sl_cuda *cuda = device;
	snprintf(text, size, "compute %d.%d, %d multiprocessors, %s", cuda->major, cuda->minor, cuda->units, cuda->name);
}

sl_status sli_cuda_allocate(void *device, size_t bytes, sl_memory kind, void **pointer) {
	sl_cuda *cuda = device;
	*pointer = NULL;
	if (kind == SL_MEMORY_HOST) {
		*pointer = cuda->host->allocate(cuda->host->user, bytes);
		return *pointer ? SL_OK : cuda->host->fail(cuda->host->user, SL_ERR_MEMORY, "no host memory: %zu bytes", bytes);
	}
	if (!cuda->host->reserve(cuda->host->user, bytes))
		return cuda->host->fail(cuda->host->user, SL_ERR_BUDGET, "%zu bytes exceed the memory budget", bytes);
	size_t wanted = bytes ? bytes : 1;
	int previous;
	sl_status status = sli_cuda_enter(cuda, &previous);
	if (status == SL_OK) {
		bool pinned = kind == SL_MEMORY_PINNED;
		char what[64];
		snprintf(what, sizeof what, "%s of %zu bytes", pinned ? "cudaMallocHost" : "cudaMalloc", bytes);
		status = sli_cuda_check(cuda, pinned ? cudaMallocHost(pointer, wanted) : cudaMalloc(pointer, wanted), what);
		sli_cuda_leave(previous);
	}
	if (status != SL_OK) {
		cuda->host->unreserve(cuda->host->user, bytes);
		*pointer = NULL;
	}
	return status;
}

void sli_cuda_release(void *device, void *pointer, size_t bytes, sl_memory kind) {
	sl_cuda *cuda = device;
	if (!pointer)
		return;
	if (kind == SL_MEMORY_HOST) {
		cuda->host->release(cuda->host->user, pointer, bytes);
		return;
	}
	int previous;
	forget(make_current(cuda->index, &previous));
	forget(kind == SL_MEMORY_PINNED ? cudaFreeHost(pointer) : cudaFree(pointer));
	sli_cuda_leave(previous);
	cuda->host->unreserve(cuda->host->user, bytes);
}

sl_status sli_cuda_copy(void *device, void *to, sl_memory to_kind, const void *from, sl_memory from_kind,
						size_t bytes) {
	static const enum cudaMemcpyKind kinds[2][2] = {{cudaMemcpyHostToHost, cudaMemcpyHostToDevice},
													{cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice}};
	sl_cuda *cuda = device;
	if (!bytes)
		return SL_OK;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	cudaError_t error = cudaMemcpyAsync(
		to, from, bytes, kinds[from_kind == SL_MEMORY_DEVICE][to_kind == SL_MEMORY_DEVICE], cuda->stream);
	sli_cuda_leave(previous);
	return sli_cuda_check(cuda, error, "cudaMemcpyAsync");
}

sl_status sli_cuda_fill(void *device, void *to, int byte, size_t bytes) {
	sl_cuda *cuda = device;
	if (!bytes)
		return SL_OK;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	cudaError_t error = cudaMemsetAsync(to, byte, bytes, cuda->stream);
	sli_cuda_leave(previous);
	return sli_cuda_check(cuda, error, "cudaMemsetAsync");
}

sl_status sli_cuda_event_create(void *device, void **event) {
	sl_cuda *cuda = device;
	cudaEvent_t created = NULL;
	*event = NULL;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	cudaError_t error = cudaEventCreateWithFlags(&created, cudaEventDisableTiming);
	sli_cuda_leave(previous);
	*event = created;
	return sli_cuda_check(cuda, error, "cudaEventCreateWithFlags");
}

void sli_cuda_event_destroy(void *device, void *event) {
	(void)device;
	if (event)
		forget(cudaEventDestroy((cudaEvent_t)event));
}

sl_status sli_cuda_event_record(void *device, void *event) {
	sl_cuda *cuda = device;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	cudaError_t error = cudaEventRecord((cudaEvent_t)event, cuda->stream);
	sli_cuda_leave(previous);
	return sli_cuda_check(cuda, error, "cudaEventRecord");
}

sl_status sli_cuda_event_wait(void *device, void *event, bool on_host) {
	sl_cuda *cuda = device;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	cudaError_t error =
		on_host ? cudaEventSynchronize((cudaEvent_t)event) : cudaStreamWaitEvent(cuda->stream, (cudaEvent_t)event, 0);
	sli_cuda_leave(previous);
	return sli_cuda_check(cuda, error, on_host ? "cudaEventSynchronize" : "cudaStreamWaitEvent");
}

sl_status sli_cuda_synchronize(void *device) {
	sl_cuda *cuda = device;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	cudaError_t error = cudaStreamSynchronize(cuda->stream);
	sli_cuda_leave(previous);
	return sli_cuda_check(cuda, error, "cudaStreamSynchronize");
}
