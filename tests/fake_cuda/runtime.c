/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA runtime: devices and errors. */
#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GPUS = 8 };

static struct {
	int count, current;
	cudaError_t last;
	bool set;
} runtime;

void fake_cuda_devices(int count) {
	runtime.count = count < GPUS ? count : GPUS;
	runtime.set = true;
}

static int count_devices(void) {
	const char *text = getenv("FAKE_CUDA_DEVICES");
	if (!runtime.set)
		fake_cuda_devices(text && *text ? atoi(text) : 2);
	return runtime.count;
}

int fake_cuda_last_error(void) {
	return (int)runtime.last;
}

int fake_current_device(void) {
	return runtime.current;
}

void fake_set_current(int device) {
	runtime.current = device;
}

cudaError_t fake_report(cudaError_t error) {
	if (error != cudaSuccess)
		runtime.last = error;
	return error;
}

const char *CUDARTAPI cudaGetErrorString(cudaError_t error) {
	return error == cudaErrorMemoryAllocation ? "out of memory"
		   : error == cudaErrorIllegalAddress ? "an illegal memory access was encountered"
											  : "an error of the fake runtime";
}

/* A sticky error stays. */
cudaError_t CUDARTAPI cudaGetLastError(void) {
	cudaError_t last = fake_lost() ? cudaErrorIllegalAddress : runtime.last;
	runtime.last = cudaSuccess;
	return last;
}

cudaError_t CUDARTAPI cudaPeekAtLastError(void) {
	return fake_lost() ? cudaErrorIllegalAddress : runtime.last;
}

cudaError_t CUDARTAPI cudaGetDeviceCount(int *count) {
	TAKE_RUNTIME("cudaGetDeviceCount");
	if (!count_devices())
		return fake_report(cudaErrorNoDevice); /* the count stays as it was */
	*count = runtime.count;
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device) {
	TAKE_RUNTIME("cudaGetDeviceProperties");
	if (device < 0 || device >= count_devices())
		return fake_report(cudaErrorInvalidDevice);
	memset(prop, 0, sizeof *prop);
	snprintf(prop->name, sizeof prop->name, "fake GPU %d", device);
	prop->major = 9;
	prop->minor = device;
	prop->multiProcessorCount = 7;
	prop->totalGlobalMem = (size_t)1 << 30;
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGetDevice(int *device) {
	TAKE_RUNTIME("cudaGetDevice");
	*device = runtime.current;
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaSetDevice(int device) {
	TAKE_RUNTIME("cudaSetDevice");
	if (device < 0 || device >= count_devices())
		return fake_report(cudaErrorInvalidDevice);
	runtime.current = device;
	return cudaSuccess;
}
