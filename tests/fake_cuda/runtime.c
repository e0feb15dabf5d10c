/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA runtime. */
#include "state.h"

#include <stdio.h>
#include <string.h>

static struct {
	int count, current;
	cudaError_t last;
} runtime = {.count = 2};

void fake_cuda_devices(int count) {
	runtime.count = count;
}

int fake_cuda_last_error(void) {
	return (int)runtime.last;
}

int fake_current_device(void) {
	return runtime.current;
}

cudaError_t fake_report(cudaError_t error) {
	if (error != cudaSuccess)
		runtime.last = error;
	return error;
}

/* Leave the calling function if it is the one to fail. */
#define TAKE(name)                                                                                                     \
	do {                                                                                                               \
		if (fake_take(name))                                                                                           \
			return fake_report(cudaErrorUnknown);                                                                      \
	} while (0)

/* Destroy, and fail afterwards if this is the call to fail. */
static cudaError_t destroy(const char *call, fake_kind kind, const void *id) {
	bool failing = fake_take(call);
	if (!fake_remove(kind, id)) {
		fake_fault(call, "what is to be destroyed does not exist");
		return fake_report(cudaErrorInvalidValue);
	}
	return fake_report(failing ? cudaErrorUnknown : cudaSuccess);
}

const char *CUDARTAPI cudaGetErrorString(cudaError_t error) {
	return error == cudaErrorMemoryAllocation ? "out of memory" : "an error of the fake runtime";
}

cudaError_t CUDARTAPI cudaGetLastError(void) {
	cudaError_t last = runtime.last;
	runtime.last = cudaSuccess;
	return last;
}

cudaError_t CUDARTAPI cudaGetDeviceCount(int *count) {
	TAKE("cudaGetDeviceCount");
	if (!runtime.count)
		return fake_report(cudaErrorNoDevice); /* the count stays as it was */
	*count = runtime.count;
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device) {
	TAKE("cudaGetDeviceProperties");
	if (device < 0 || device >= runtime.count)
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
	TAKE("cudaGetDevice");
	*device = runtime.current;
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaSetDevice(int device) {
	TAKE("cudaSetDevice");
	if (device < 0 || device >= runtime.count)
		return fake_report(cudaErrorInvalidDevice);
	runtime.current = device;
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
	TAKE("cudaStreamCreateWithFlags");
	(void)flags;
	fake_object *o = fake_create(FAKE_STREAM);
	*stream = o ? (cudaStream_t)o->id : NULL;
	return fake_report(o ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t CUDARTAPI cudaStreamDestroy(cudaStream_t stream) {
	return destroy("cudaStreamDestroy", FAKE_STREAM, stream);
}

cudaError_t CUDARTAPI cudaStreamSynchronize(cudaStream_t stream) {
	TAKE("cudaStreamSynchronize");
	return fake_report(fake_stream("cudaStreamSynchronize", stream) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t CUDARTAPI cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
	TAKE("cudaEventCreateWithFlags");
	(void)flags;
	fake_object *o = fake_create(FAKE_EVENT);
	*event = o ? (cudaEvent_t)o->id : NULL;
	return fake_report(o ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t CUDARTAPI cudaEventDestroy(cudaEvent_t event) {
	return destroy("cudaEventDestroy", FAKE_EVENT, event);
}

static fake_object *find_event(const char *call, cudaEvent_t event) {
	fake_object *o = fake_find(FAKE_EVENT, event);
	if (!o)
		fake_fault(call, "the event does not exist");
	return o;
}

cudaError_t CUDARTAPI cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
	TAKE("cudaEventRecord");
	fake_object *o = find_event("cudaEventRecord", event);
	if (!o || !fake_stream("cudaEventRecord", stream))
		return fake_report(cudaErrorInvalidResourceHandle);
	if (o->device != runtime.current) {
		fake_fault("cudaEventRecord", "the event belongs to GPU %d", o->device);
		return fake_report(cudaErrorInvalidResourceHandle);
	}
	o->recorded = true;
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaEventSynchronize(cudaEvent_t event) {
	TAKE("cudaEventSynchronize");
	return fake_report(find_event("cudaEventSynchronize", event) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t CUDARTAPI cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
	TAKE("cudaStreamWaitEvent");
	bool good = !flags && find_event("cudaStreamWaitEvent", event) && fake_stream("cudaStreamWaitEvent", stream);
	return fake_report(good ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t CUDARTAPI cudaFree(void *pointer) {
	return destroy("cudaFree", FAKE_DEVICE_MEMORY, pointer);
}

cudaError_t CUDARTAPI cudaFreeHost(void *pointer) {
	return destroy("cudaFreeHost", FAKE_PINNED_MEMORY, pointer);
}

cudaError_t CUDARTAPI cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
									  cudaStream_t stream) {
	static const char call[] = "cudaMemcpyAsync";
	TAKE(call);
	bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
	bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
	if (!fake_stream(call, stream))
		return fake_report(cudaErrorInvalidResourceHandle);
	if (!(from_device ? fake_on_device : fake_on_host)(call, "the source", from, bytes) ||
		!(to_device ? fake_on_device : fake_on_host)(call, "the destination", to, bytes))
		return fake_report(cudaErrorInvalidValue);
	fake_map();
	memcpy(to, from, bytes);
	fake_unmap();
	return cudaSuccess;
}

static cudaError_t set_lines(const char *call, void *to, size_t pitch, int byte, size_t width, size_t lines,
							 cudaStream_t stream) {
	if (!fake_stream(call, stream))
		return fake_report(cudaErrorInvalidResourceHandle);
	if (width > pitch || pitch > INT32_MAX || !fake_on_device(call, "the destination", to, (lines - 1) * pitch + width))
		return fake_report(cudaErrorInvalidValue);
	fake_map();
	for (size_t i = 0; i < lines; i++)
		memset((char *)to + i * pitch, byte, width);
	fake_unmap();
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t stream) {
	TAKE("cudaMemsetAsync");
	return set_lines("cudaMemsetAsync", to, bytes, byte, bytes, 1, stream);
}

cudaError_t CUDARTAPI cudaMemset2DAsync(void *to, size_t pitch, int byte, size_t width, size_t lines,
										cudaStream_t stream) {
	TAKE("cudaMemset2DAsync");
	if (!width || !lines)
		return cudaSuccess;
	return set_lines("cudaMemset2DAsync", to, pitch, byte, width, lines, stream);
}
