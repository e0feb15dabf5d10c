/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: pages that are there only while the "GPU" runs, pools, copies. */
#define _GNU_SOURCE
#include "state.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(p, n)   ASAN_POISON_MEMORY_REGION(p, n)
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define POISON(p, n)   (void)(p), (void)(n)
#define UNPOISON(p, n) (void)(p), (void)(n)
#endif

/* Address space for device memory, handed out once, from below; and what one GPU has. */
#define REGION ((size_t)64 << 30)
#define GPU    ((size_t)1 << 30)
#define PAGE   ((size_t)4096)

static struct {
	unsigned char *region;
	size_t used;
	bool mapped, pools;
} memory = {.pools = true};

void fake_cuda_pools(bool on) {
	memory.pools = on;
}

/* Leave the calling function if it is the one to fail. */
#define TAKE_MEMORY(name)                                                                                              \
	do {                                                                                                               \
		if (fake_take(name))                                                                                           \
			return fake_report(fake_lost() ? fake_failure() : cudaErrorMemoryAllocation);                              \
		if (fake_breaks_capture(name))                                                                                 \
			return fake_report(cudaErrorStreamCaptureUnsupported);                                                     \
	} while (0)

static void protect(void *from, size_t bytes, int access) {
	if (bytes && mprotect(from, bytes, access) != 0)
		abort();
}

/* NaN in every type of float; of large memory its beginning and its end, for the sake of time. */
static void fill_new(const fake_object *o) {
	enum { MOST = 1 << 20 };
	unsigned char *at = (unsigned char *)o->id;
	memset(at, 0xff, o->mapped < MOST ? o->mapped : MOST);
	if (o->mapped > MOST)
		memset(at + o->mapped - 2 * PAGE, 0xff, 2 * PAGE);
}

/* The memory of all objects that live. What was freed is out of reach at all times; walking over it would cost most of
 * the time of tests that allocate a lot. */
static void protect_all(int access) {
	for (fake_object *o = fake_first(); o; o = o->next)
		if (o->kind == FAKE_DEVICE_MEMORY)
			protect((void *)o->id, o->mapped, access);
}

void fake_map(void) {
	if (memory.mapped)
		abort(); /* the fake's own fault */
	memory.mapped = true;
	protect_all(PROT_READ | PROT_WRITE);
	for (fake_object *o = fake_first(); o; o = o->next)
		if (o->kind == FAKE_DEVICE_MEMORY) {
			if (!o->filled) {
				UNPOISON((void *)o->id, o->mapped);
				fill_new(o);
				POISON((void *)o->id, o->mapped);
			}
			o->filled = true;
			UNPOISON((void *)o->id, o->bytes);
		}
}

void fake_unmap(void) {
	memory.mapped = false;
	for (fake_object *o = fake_first(); o; o = o->next)
		if (o->kind == FAKE_DEVICE_MEMORY)
			POISON((void *)o->id, o->bytes);
	protect_all(PROT_NONE);
}

/* What lies behind an allocation's end, up to its page's, must be as it was. */
void fake_unmap_object(const fake_object *o) {
	unsigned char *from = (unsigned char *)o->id;
	if (!o->filled) {
		protect(from, o->mapped, PROT_NONE);
		return;
	}
	if (!memory.mapped)
		protect(from, o->mapped, PROT_READ | PROT_WRITE);
	UNPOISON(from, o->mapped);
	for (size_t i = o->bytes; i < o->mapped; i++)
		if (from[i] != 0xff) {
			fake_fault("cudaFree", "byte %zu behind an allocation of %zu bytes was written", i - o->bytes, o->bytes);
			break;
		}
	(void)madvise(from, o->mapped, MADV_DONTNEED);
	POISON(from, o->mapped);
	protect(from, o->mapped, PROT_NONE);
}

static size_t held(void) {
	size_t bytes = 0;
	for (fake_object *o = fake_first(); o; o = o->next)
		if (o->kind == FAKE_DEVICE_MEMORY && o->device == fake_current_device())
			bytes += o->mapped;
	return bytes;
}

static fake_object *device_memory(size_t bytes) {
	size_t mapped = bytes < GPU ? (bytes + PAGE - 1) / PAGE * PAGE : GPU + PAGE;
	if (!memory.region) {
		void *region = mmap(NULL, REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (region == MAP_FAILED)
			return NULL;
		memory.region = region;
	}
	if (mapped > GPU - held() || mapped > REGION - memory.used)
		return NULL;
	fake_object *o = fake_create(FAKE_DEVICE_MEMORY);
	if (!o)
		return NULL;
	o->id = (uintptr_t)(memory.region + memory.used);
	o->bytes = bytes;
	o->mapped = mapped;
	memory.used += mapped;
	return o;
}

void fake_forget_memory(void) {
	memory.used = 0;
}

static bool in_region(const void *pointer, size_t bytes) {
	uintptr_t p = (uintptr_t)pointer, r = (uintptr_t)memory.region;
	return memory.region && p < r + REGION && p + bytes > r;
}

static fake_object *around(const void *pointer) {
	uintptr_t p = (uintptr_t)pointer;
	for (fake_object *o = fake_first(); o; o = o->next)
		if (o->kind == FAKE_DEVICE_MEMORY && p >= o->id && p < o->id + o->mapped)
			return o;
	return NULL;
}

bool fake_on_device(const char *call, const char *what, const void *pointer, size_t bytes) {
	const fake_object *o = around(pointer);
	if (!o || (o->dying && !fake_running())) {
		fake_fault(call,
				   !pointer                ? "%s is null"
				   : in_region(pointer, 1) ? "%s is device memory that was freed"
										   : "%s is not device memory",
				   what);
		return false;
	}
	size_t at = (uintptr_t)pointer - o->id;
	if (at > o->bytes || bytes > o->bytes - at) {
		fake_fault(call, "%s: %zu bytes at offset %zu of an allocation of %zu", what, bytes, at, o->bytes);
		return false;
	}
	if (o->unborn && fake_running()) {
		fake_fault(call, "%s is memory whose allocation, on another stream, has not run yet", what);
		return false;
	}
	if (o->device != fake_current_device())
		fake_fault(call, "%s is memory of GPU %d; %d is current", what, o->device, fake_current_device());
	return o->device == fake_current_device();
}

bool fake_on_host(const char *call, const char *what, const void *pointer, size_t bytes) {
	if (pointer && !in_region(pointer, bytes))
		return true;
	fake_fault(call, pointer ? "%s is not host memory" : "%s is null", what);
	return false;
}

static bool is_pinned(const void *pointer, size_t bytes) {
	uintptr_t p = (uintptr_t)pointer;
	for (fake_object *o = fake_first(); o; o = o->next)
		if (o->kind == FAKE_PINNED_MEMORY && p >= o->id && p + bytes <= o->id + o->bytes)
			return true;
	return false;
}

cudaError_t CUDARTAPI cudaMalloc(void **pointer, size_t bytes) {
	TAKE_MEMORY("cudaMalloc");
	if (!pointer)
		return fake_report(cudaErrorInvalidValue);
	fake_object *o = bytes ? device_memory(bytes) : NULL;
	*pointer = o ? (void *)o->id : NULL;
	return bytes && !o ? fake_report(cudaErrorMemoryAllocation) : cudaSuccess;
}

/* Waits for all work, as the real one does. */
cudaError_t CUDARTAPI cudaFree(void *pointer) {
	bool failing = fake_take("cudaFree");
	if (fake_breaks_capture("cudaFree"))
		return fake_report(cudaErrorStreamCaptureUnsupported);
	fake_drain_all();
	return fake_destroyed("cudaFree", failing, FAKE_DEVICE_MEMORY, pointer);
}

cudaError_t CUDARTAPI cudaMallocHost(void **pointer, size_t bytes) {
	TAKE_MEMORY("cudaMallocHost");
	void *host = malloc(bytes ? bytes : 1);
	fake_object *o = host ? fake_create(FAKE_PINNED_MEMORY) : NULL;
	if (!o) {
		free(host);
		return fake_report(cudaErrorMemoryAllocation);
	}
	memset(host, 0xff, bytes);
	o->id = (uintptr_t)host;
	o->bytes = bytes;
	*pointer = host;
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaFreeHost(void *pointer) {
	bool failing = fake_take("cudaFreeHost");
	if (fake_breaks_capture("cudaFreeHost"))
		return fake_report(cudaErrorStreamCaptureUnsupported);
	fake_drain_all();
	return fake_destroyed("cudaFreeHost", failing, FAKE_PINNED_MEMORY, pointer);
}

cudaError_t CUDARTAPI cudaMemPoolCreate(cudaMemPool_t *pool, const struct cudaMemPoolProps *props) {
	TAKE_RUNTIME("cudaMemPoolCreate");
	if (!memory.pools)
		return fake_report(cudaErrorNotSupported);
	if (props->allocType != cudaMemAllocationTypePinned || props->location.type != cudaMemLocationTypeDevice ||
		props->location.id != fake_current_device())
		return fake_report(cudaErrorInvalidValue);
	fake_object *o = fake_create(FAKE_POOL);
	*pool = o ? (cudaMemPool_t)o->id : NULL;
	return fake_report(o ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t CUDARTAPI cudaMemPoolDestroy(cudaMemPool_t pool) {
	bool failing = fake_take("cudaMemPoolDestroy");
	return fake_destroyed("cudaMemPoolDestroy", failing, FAKE_POOL, pool);
}

static bool good_pool(const char *call, cudaMemPool_t pool) {
	const fake_object *o = fake_find(FAKE_POOL, pool);
	if (!o)
		fake_fault(call, "the pool does not exist");
	return o != NULL;
}

cudaError_t CUDARTAPI cudaMemPoolSetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value) {
	TAKE_RUNTIME("cudaMemPoolSetAttribute");
	bool good = good_pool("cudaMemPoolSetAttribute", pool) && attribute == cudaMemPoolAttrReleaseThreshold && value;
	return fake_report(good ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t CUDARTAPI cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes) {
	TAKE_RUNTIME("cudaMemPoolTrimTo");
	(void)bytes;
	return fake_report(good_pool("cudaMemPoolTrimTo", pool) ? cudaSuccess : cudaErrorInvalidValue);
}

static void be_born(void *argument) {
	fake_object *o = fake_find(FAKE_DEVICE_MEMORY, *(void **)argument);
	if (o)
		o->unborn = false;
}

static void die(void *argument) {
	(void)fake_remove(FAKE_DEVICE_MEMORY, *(void **)argument);
}

cudaError_t CUDARTAPI cudaMallocFromPoolAsync(void **pointer, size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
	static const char call[] = "cudaMallocFromPoolAsync";
	TAKE_MEMORY(call);
	if (!pointer || !bytes || !good_pool(call, pool) || !fake_stream(call, stream))
		return fake_report(cudaErrorInvalidValue);
	fake_object *o = device_memory(bytes);
	*pointer = o ? (void *)o->id : NULL;
	if (!o)
		return fake_report(cudaErrorMemoryAllocation);
	o->unborn = true;
	return fake_report(fake_enqueue(call, stream, be_born, pointer, sizeof *pointer));
}

cudaError_t CUDARTAPI cudaFreeAsync(void *pointer, cudaStream_t stream) {
	static const char call[] = "cudaFreeAsync";
	bool failing = fake_take(call);
	if (fake_breaks_capture(call)) /* it would become part of the graph */
		return fake_report(cudaErrorStreamCaptureUnsupported);
	fake_object *o = fake_find(FAKE_DEVICE_MEMORY, pointer);
	if (!o || o->dying || !fake_stream(call, stream)) {
		fake_fault(call, "what is to be destroyed does not exist");
		return fake_report(cudaErrorInvalidValue);
	}
	if (fake_lost()) { /* no queue runs any more */
		(void)fake_remove(FAKE_DEVICE_MEMORY, pointer);
		return fake_report(fake_failure());
	}
	o->dying = true;
	cudaError_t error = fake_enqueue(call, stream, die, &pointer, sizeof pointer);
	return fake_report(failing ? fake_failure() : error);
}

cudaError_t CUDARTAPI cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *pointer) {
	TAKE_RUNTIME("cudaPointerGetAttributes");
	const fake_object *o = around(pointer);
	memset(attributes, 0, sizeof *attributes);
	if (o && !o->dying) {
		attributes->type = cudaMemoryTypeDevice;
		attributes->device = o->device;
		attributes->devicePointer = (void *)(uintptr_t)pointer;
	} else if (is_pinned(pointer, 0)) {
		attributes->type = cudaMemoryTypeHost;
		attributes->hostPointer = (void *)(uintptr_t)pointer;
	}
	return cudaSuccess;
}

typedef struct copy {
	void *to;
	const void *from;
	size_t bytes;
	bool from_device, to_device;
} copy;

static bool good_copy(const copy *c) {
	static const char call[] = "cudaMemcpyAsync";
	return (c->from_device ? fake_on_device : fake_on_host)(call, "the source", c->from, c->bytes) &&
		   (c->to_device ? fake_on_device : fake_on_host)(call, "the destination", c->to, c->bytes);
}

static void run_copy(void *argument) {
	const copy *c = argument;
	if (good_copy(c))
		memmove(c->to, c->from, c->bytes);
}

/* A copy of what pageable memory held when it was asked for: what the real one reads before it returns. */
static void run_staged(void *argument) {
	copy *c = argument;
	c->from = c + 1;
	run_copy(c);
}

cudaError_t CUDARTAPI cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
									  cudaStream_t stream) {
	static const char call[] = "cudaMemcpyAsync";
	TAKE_RUNTIME(call);
	copy c = {to, from, bytes, kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice,
			  kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice};
	if (!fake_stream(call, stream))
		return fake_report(cudaErrorInvalidResourceHandle);
	if (!good_copy(&c))
		return fake_report(cudaErrorInvalidValue);
	if (fake_captures(stream) &&
		((!c.from_device && !is_pinned(from, bytes)) || (!c.to_device && !is_pinned(to, bytes)))) {
		fake_fault(call, "pageable memory in a capture: each replay would touch it");
		return fake_report(cudaErrorStreamCaptureUnsupported);
	}
	if (!c.from_device && !c.to_device && !fake_captures(stream)) { /* the host waits for it */
		fake_drain_stream(stream);
		run_copy(&c);
		return cudaSuccess;
	}
	if (!c.to_device && !fake_captures(stream))
		memset(to, 0xa5, bytes); /* what it holds before somebody waits */
	if (c.from_device || is_pinned(from, bytes))
		return fake_report(fake_enqueue(call, stream, run_copy, &c, sizeof c));
	copy *staged = malloc(sizeof c + bytes);
	if (!staged)
		return fake_report(cudaErrorMemoryAllocation);
	*staged = c;
	memcpy(staged + 1, from, bytes);
	cudaError_t error = fake_enqueue(call, stream, run_staged, staged, sizeof c + bytes);
	free(staged);
	return fake_report(error);
}

typedef struct fill {
	void *to;
	size_t pitch, width, lines;
	int byte;
} fill;

static bool good_fill(const fill *f) {
	return fake_on_device(f->lines > 1 ? "cudaMemset2DAsync" : "cudaMemsetAsync", "the destination", f->to,
						  (f->lines - 1) * f->pitch + f->width);
}

static void run_fill(void *argument) {
	const fill *f = argument;
	if (!good_fill(f))
		return;
	for (size_t i = 0; i < f->lines; i++)
		memset((char *)f->to + i * f->pitch, f->byte, f->width);
}

static cudaError_t set_lines(const char *call, const fill *f, cudaStream_t stream) {
	if (!fake_stream(call, stream))
		return fake_report(cudaErrorInvalidResourceHandle);
	if (f->width > f->pitch || f->pitch > INT32_MAX || !good_fill(f))
		return fake_report(cudaErrorInvalidValue);
	return fake_report(fake_enqueue(call, stream, run_fill, f, sizeof *f));
}

cudaError_t CUDARTAPI cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t stream) {
	TAKE_RUNTIME("cudaMemsetAsync");
	return set_lines("cudaMemsetAsync", &(fill){to, bytes, bytes, 1, byte}, stream);
}

cudaError_t CUDARTAPI cudaMemset2DAsync(void *to, size_t pitch, int byte, size_t width, size_t lines,
										cudaStream_t stream) {
	TAKE_RUNTIME("cudaMemset2DAsync");
	if (!width || !lines)
		return cudaSuccess;
	return set_lines("cudaMemset2DAsync", &(fill){to, pitch, width, lines, byte}, stream);
}
