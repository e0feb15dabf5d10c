/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Address space for device memory, handed out once, from below. */
#define REGION ((size_t)1 << 30)
#define PAGE   ((size_t)4096)

static struct {
	fake_object *objects;
	uintptr_t ids;
	unsigned char *region;
	size_t used;
	long calls, until, live;
	char failed[64];
	char fault[256];
} fake = {.until = -1};

bool fake_cuda_present(void) {
	return true;
}

void fake_cuda_fail_at(long k) {
	fake.until = k;
	fake.failed[0] = 0;
}

const char *fake_cuda_failed(void) {
	return fake.failed;
}

long fake_cuda_calls(void) {
	return fake.calls;
}

long fake_cuda_live(void) {
	return fake.live;
}

const char *fake_cuda_fault(void) {
	return fake.fault;
}

bool fake_cuda_take(const char *name) {
	return fake_take(name);
}

void fake_cuda_reset(void) {
	fake.calls = 0;
	fake.until = -1;
	fake.failed[0] = fake.fault[0] = 0;
	(void)cudaGetLastError();
	fake_forget_widest();
}

void fake_cuda_discard(void) {
	while (fake.objects)
		(void)fake_remove(fake.objects->kind, (void *)fake.objects->id);
	fake_cuda_reset();
	(void)cudaSetDevice(0);
	fake_cuda_devices(2);
	fake_cuda_falling_buffers(false);
	fake.calls = 0;
}

bool fake_take(const char *call) {
	fake.calls++;
	if (fake.until < 0 || fake.until-- > 0)
		return false;
	snprintf(fake.failed, sizeof fake.failed, "%s", call);
	return true;
}

void fake_fault(const char *call, const char *format, ...) {
	if (fake.fault[0])
		return;
	int n = snprintf(fake.fault, sizeof fake.fault, "%s: ", call);
	va_list list;
	va_start(list, format);
	vsnprintf(fake.fault + n, sizeof fake.fault - (size_t)n, format, list);
	va_end(list);
}

fake_object *fake_create(fake_kind kind) {
	fake_object *object = calloc(1, sizeof *object);
	if (!object)
		return NULL;
	object->kind = kind;
	object->device = fake_current_device();
	object->id = 0x10 + 0x10 * ++fake.ids; /* in no process's memory */
	object->next = fake.objects;
	fake.objects = object;
	fake.live++;
	return object;
}

fake_object *fake_find(fake_kind kind, const void *id) {
	for (fake_object *o = fake.objects; o; o = o->next)
		if (o->kind == kind && o->id == (uintptr_t)id)
			return o;
	return NULL;
}

bool fake_remove(fake_kind kind, const void *id) {
	for (fake_object **at = &fake.objects; *at; at = &(*at)->next) {
		fake_object *o = *at;
		if (o->kind != kind || o->id != (uintptr_t)id)
			continue;
		if (kind == FAKE_DEVICE_MEMORY)
			(void)madvise((void *)o->id, o->mapped, MADV_DONTNEED);
		if (kind == FAKE_PINNED_MEMORY)
			free((void *)o->id);
		*at = o->next;
		free(o);
		fake.live--;
		return true;
	}
	return false;
}

static void protect(const fake_object *o, int access) {
	if (mprotect((void *)o->id, o->mapped, access) != 0)
		abort();
}

static void protect_all(int access) {
	for (fake_object *o = fake.objects; o; o = o->next)
		if (o->kind == FAKE_DEVICE_MEMORY)
			protect(o, access);
}

void fake_map(void) {
	protect_all(PROT_READ | PROT_WRITE);
}

void fake_unmap(void) {
	protect_all(PROT_NONE);
}

static fake_object *device_memory(size_t bytes) {
	size_t mapped = (bytes + PAGE - 1) / PAGE * PAGE;
	if (!fake.region) {
		void *region = mmap(NULL, REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (region == MAP_FAILED)
			return NULL;
		fake.region = region;
	}
	if (bytes > REGION || mapped > REGION - fake.used)
		return NULL;
	fake_object *o = fake_create(FAKE_DEVICE_MEMORY);
	if (!o)
		return NULL;
	o->id = (uintptr_t)(fake.region + fake.used);
	o->bytes = bytes;
	o->mapped = mapped;
	fake.used += mapped;
	protect(o, PROT_READ | PROT_WRITE);
	memset((void *)o->id, 0xff, mapped); /* NaN in every type of float */
	protect(o, PROT_NONE);
	return o;
}

static bool in_region(const void *pointer, size_t bytes) {
	uintptr_t p = (uintptr_t)pointer, r = (uintptr_t)fake.region;
	return fake.region && p < r + REGION && p + bytes > r;
}

bool fake_on_device(const char *call, const char *what, const void *pointer, size_t bytes) {
	uintptr_t p = (uintptr_t)pointer;
	for (fake_object *o = fake.objects; o; o = o->next) {
		if (o->kind != FAKE_DEVICE_MEMORY || p < o->id || p >= o->id + o->mapped)
			continue;
		if (p - o->id > o->bytes || bytes > o->bytes - (p - o->id)) {
			fake_fault(call, "%s: %zu bytes at offset %zu of an allocation of %zu", what, bytes, (size_t)(p - o->id),
					   o->bytes);
			return false;
		}
		if (o->device != fake_current_device())
			fake_fault(call, "%s is memory of GPU %d; %d is current", what, o->device, fake_current_device());
		return o->device == fake_current_device();
	}
	fake_fault(call,
			   !pointer                ? "%s is null"
			   : in_region(pointer, 1) ? "%s is device memory that was freed"
									   : "%s is not device memory",
			   what);
	return false;
}

bool fake_on_host(const char *call, const char *what, const void *pointer, size_t bytes) {
	if (pointer && !in_region(pointer, bytes))
		return true;
	fake_fault(call, pointer ? "%s is not host memory" : "%s is null", what);
	return false;
}

bool fake_stream(const char *call, const void *stream) {
	if (!stream)
		return true;
	const fake_object *o = fake_find(FAKE_STREAM, stream);
	if (!o)
		fake_fault(call, "the stream does not exist");
	else if (o->device != fake_current_device())
		fake_fault(call, "the stream belongs to GPU %d; %d is current", o->device, fake_current_device());
	return o && o->device == fake_current_device();
}

size_t fake_span(int64_t lines, int64_t length, int64_t ld) {
	return lines && length ? (size_t)((lines - 1) * ld + length) : 0;
}

size_t fake_size(cudaDataType type) {
	return type == CUDA_R_64F ? 8 : 4;
}

double fake_load(const void *data, cudaDataType type, int64_t i) {
	return type == CUDA_R_64F ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

void fake_store(void *data, cudaDataType type, int64_t i, double value) {
	if (type == CUDA_R_64F)
		((double *)data)[i] = value;
	else
		((float *)data)[i] = (float)value;
}

/* Memory, kept here beside its region. */
cudaError_t CUDARTAPI cudaMalloc(void **pointer, size_t bytes) {
	if (fake_take("cudaMalloc"))
		return fake_report(cudaErrorMemoryAllocation);
	if (!pointer)
		return fake_report(cudaErrorInvalidValue);
	fake_object *o = bytes ? device_memory(bytes) : NULL;
	*pointer = o ? (void *)o->id : NULL;
	return bytes && !o ? fake_report(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t CUDARTAPI cudaMallocHost(void **pointer, size_t bytes) {
	if (fake_take("cudaMallocHost"))
		return fake_report(cudaErrorMemoryAllocation);
	void *memory = malloc(bytes ? bytes : 1);
	fake_object *o = memory ? fake_create(FAKE_PINNED_MEMORY) : NULL;
	if (!o) {
		free(memory);
		return fake_report(cudaErrorMemoryAllocation);
	}
	memset(memory, 0xff, bytes);
	o->id = (uintptr_t)memory;
	o->bytes = bytes;
	*pointer = memory;
	return cudaSuccess;
}
