/* SPDX-License-Identifier: Apache-2.0 */
/* Discovery, opening and closing, and what becomes of the vendor's errors. */
#include "device.h"

#include <stdio.h>
#include <unistd.h>

void sli_cuda_forget(const sl_cuda *cuda, cudaError_t error) {
	if (error != cudaSuccess && !cuda->pending)
		(void)cudaGetLastError();
}

/* `*previous`: the GPU to go back to, or -1. */
cudaError_t sli_cuda_make_current(int index, int *previous) {
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

static bool forked(const sl_cuda *cuda) {
	return getpid() != cuda->process;
}

sl_status sli_cuda_enter(const sl_cuda *entered, int *previous) {
	sl_cuda *cuda = (sl_cuda *)(uintptr_t)entered;
	*previous = -1;
	if (forked(cuda))
		return cuda->host->fail(cuda->host->user, SL_ERR_FORKED,
								"the context was made by process %d, this is a child of it: CUDA does not survive a "
								"fork, make a context of its own",
								(int)cuda->process);
	if (cuda->lost)
		return cuda->host->fail(cuda->host->user, SL_ERR_DEVICE_LOST,
								"the context was lost to an earlier error: %s; start a new process", cuda->reason);
	cuda->pending = cudaPeekAtLastError() != cudaSuccess;
	return sli_cuda_check(cuda, sli_cuda_make_current(cuda->index, previous), "cudaGetDevice or cudaSetDevice");
}

void sli_cuda_leave(int previous) {
	bool pending = previous >= 0 && cudaPeekAtLastError() != cudaSuccess;
	if (previous >= 0 && cudaSetDevice(previous) != cudaSuccess && !pending)
		(void)cudaGetLastError();
}

/* Errors after which no call of the process works any more. */
static bool is_sticky(cudaError_t error) {
	switch (error) {
	case cudaErrorIllegalAddress:
	case cudaErrorMisalignedAddress:
	case cudaErrorInvalidAddressSpace:
	case cudaErrorInvalidPc:
	case cudaErrorIllegalInstruction:
	case cudaErrorLaunchFailure:
	case cudaErrorLaunchTimeout:
	case cudaErrorHardwareStackError:
	case cudaErrorAssert:
	case cudaErrorECCUncorrectable:
	case cudaErrorNvlinkUncorrectable:
	case cudaErrorContextIsDestroyed:
	case cudaErrorCudartUnloading:
		return true;
	default:
		return false;
	}
}

/* Said in full once; later calls only refer to it. */
static sl_status lose(const sl_cuda *entered, const char *what, cudaError_t error) {
	sl_cuda *cuda = (sl_cuda *)(uintptr_t)entered;
	snprintf(cuda->reason, sizeof cuda->reason, "%s: %s (CUDA error %d)", what, cudaGetErrorString(error), (int)error);
	if (!cuda->lost)
		cuda->host->log(cuda->host->user, SL_LOG_ERROR, cuda->reason);
	cuda->lost = true;
	return cuda->host->fail(cuda->host->user, SL_ERR_DEVICE_LOST, "%s", cuda->reason);
}

sl_status sli_cuda_check(const sl_cuda *cuda, cudaError_t error, const char *what) {
	if (error == cudaSuccess)
		return SL_OK;
	sli_cuda_forget(cuda, error);
	if (is_sticky(error))
		return lose(cuda, what, error);
	return cuda->host->fail(cuda->host->user, error == cudaErrorMemoryAllocation ? SL_ERR_MEMORY : SL_ERR_BACKEND,
							"%s: %s (CUDA error %d)", what, cudaGetErrorString(error), (int)error);
}

/* What a library reports as its own failure may be the GPU's. */
static bool lost_beneath(const sl_cuda *cuda, const char *what, sl_status *status) {
	cudaError_t beneath = cuda->pending ? cudaPeekAtLastError() : cudaGetLastError();
	if (!is_sticky(beneath))
		return false;
	*status = lose(cuda, what, beneath);
	return true;
}

sl_status sli_cusparse_check(const sl_cuda *cuda, cusparseStatus_t status, const char *what) {
	sl_status lost;
	if (status == CUSPARSE_STATUS_SUCCESS)
		return SL_OK;
	if (lost_beneath(cuda, what, &lost))
		return lost;
	bool memory = status == CUSPARSE_STATUS_ALLOC_FAILED || status == CUSPARSE_STATUS_INSUFFICIENT_RESOURCES;
	return cuda->host->fail(cuda->host->user, memory ? SL_ERR_MEMORY : SL_ERR_BACKEND, "%s: %s (cuSPARSE status %d)",
							what, cusparseGetErrorString(status), (int)status);
}

sl_status sli_cublas_check(const sl_cuda *cuda, cublasStatus_t status, const char *what) {
	sl_status lost;
	if (status == CUBLAS_STATUS_SUCCESS)
		return SL_OK;
	if (lost_beneath(cuda, what, &lost))
		return lost;
	return cuda->host->fail(cuda->host->user, status == CUBLAS_STATUS_ALLOC_FAILED ? SL_ERR_MEMORY : SL_ERR_BACKEND,
							"%s: %s (cuBLAS status %d)", what, cublasGetStatusString(status), (int)status);
}

/* Before there is a context: whether the caller has an error of its own pending. */
static void take_back(bool pending, cudaError_t error) {
	if (error != cudaSuccess && !pending)
		(void)cudaGetLastError();
}

static void describe_device(sl_device_info *info, int index) {
	struct cudaDeviceProp prop;
	bool pending = cudaPeekAtLastError() != cudaSuccess;
	info->device = SL_DEVICE_CUDA;
	info->index = index;
	cudaError_t error = cudaGetDeviceProperties(&prop, index);
	info->usable = error == cudaSuccess;
	if (!info->usable) {
		snprintf(info->name, sizeof info->name, "GPU %d", index);
		snprintf(info->detail, sizeof info->detail, "%s (CUDA error %d)", cudaGetErrorString(error), (int)error);
		take_back(pending, error);
		return;
	}
	snprintf(info->name, sizeof info->name, "%.95s", prop.name);
	snprintf(info->detail, sizeof info->detail, "compute capability %d.%d", prop.major, prop.minor);
	info->memory = prop.totalGlobalMem;
	info->units = prop.multiProcessorCount;
}

int sli_cuda_devices(sl_device_info *devices, int capacity) {
	int count = 0; /* left unset by the runtime where there is no driver */
	bool pending = cudaPeekAtLastError() != cudaSuccess;
	cudaError_t error = cudaGetDeviceCount(&count);
	if (error == cudaSuccess && count > 0) {
		for (int i = 0; i < count && i < capacity; i++)
			describe_device(&devices[i], i);
		return count;
	}
	take_back(pending, error);
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
	SL_TRY(sli_cuda_not_capturing(cuda, "make a context"));
	SL_TRY(sli_cuda_open_memory(cuda));
	SL_TRY(sli_cusparse_check(cuda, cusparseCreate(&cuda->cusparse), "cusparseCreate"));
	SL_TRY(sli_cusparse_check(cuda, cusparseSetStream(cuda->cusparse, cuda->stream), "cusparseSetStream"));
	SL_TRY(sli_cusparse_check(cuda, cusparseGetVersion(cuda->cusparse, &cuda->cusparse_version), "cusparseGetVersion"));
	sli_cuda_limits(cuda);
	SL_TRY(sli_cublas_check(cuda, cublasCreate(&cuda->cublas), "cublasCreate"));
	SL_TRY(sli_cublas_check(cuda, cublasSetStream(cuda->cublas, cuda->stream), "cublasSetStream"));
	/* f32 stays f32: TF32 only when it is asked for. Halves run on tensor cores, but are summed in f32 throughout. */
	unsigned mode = (cuda->host->tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH) |
					CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
	return sli_cublas_check(cuda, cublasSetMathMode(cuda->cublas, (cublasMath_t)mode), "cublasSetMathMode");
}

sl_status sli_cuda_open(const sl_host *host, void **device) {
	int count = 0;
	bool pending = cudaPeekAtLastError() != cudaSuccess;
	cudaError_t error = cudaGetDeviceCount(&count);
	*device = NULL;
	/* cusparseCreate prints where there is no driver: never get that far. */
	if (error != cudaSuccess || count <= 0) {
		take_back(pending, error);
		return host->fail(host->user, SL_ERR_DEVICE, "no usable GPU: %s",
						  error == cudaSuccess ? "the driver lists no device" : cudaGetErrorString(error));
	}
	if (host->device_index < 0 || host->device_index >= count)
		return host->fail(host->user, SL_ERR_DEVICE, "device_index %d: there are %d GPUs, counted from 0",
						  host->device_index, count);
	sl_cuda *cuda = host->allocate(host->user, sizeof *cuda);
	if (!cuda)
		return host->fail(host->user, SL_ERR_MEMORY, "no memory for the CUDA backend's state");
	*cuda = (sl_cuda){.host = host, .index = host->device_index, .process = getpid()};
	(void)pthread_mutex_init(&cuda->lock, NULL);
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
	/* After a fork CUDA must not be touched; what the parent has there is the parent's. */
	if (!forked(cuda)) {
		int previous;
		cuda->pending = cudaPeekAtLastError() != cudaSuccess;
		/* No message from here on: it would hide the one that says why opening failed. */
		if (sli_cuda_make_current(cuda->index, &previous) != cudaSuccess)
			sli_cuda_forget(cuda, sli_cuda_make_current(cuda->index, &previous));
		if (cuda->cublas)
			(void)cublasDestroy(cuda->cublas);
		if (cuda->cusparse)
			(void)cusparseDestroy(cuda->cusparse);
		sli_cuda_close_memory(cuda);
		if (cuda->own_stream)
			sli_cuda_forget(cuda, cudaStreamDestroy(cuda->stream));
		if (!cuda->pending) /* of the two libraries */
			(void)cudaGetLastError();
		sli_cuda_leave(previous);
	} else {
		sli_cuda_close_memory(cuda);
	}
	(void)pthread_mutex_destroy(&cuda->lock);
	cuda->host->release(cuda->host->user, cuda, sizeof *cuda);
}

void sli_cuda_describe(void *device, char *text, size_t size) {
	const sl_cuda *cuda = device;
	snprintf(text, size, "compute %d.%d, %d multiprocessors, %s", cuda->major, cuda->minor, cuda->units, cuda->name);
}
