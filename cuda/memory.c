/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the GPU: the caller's allocator, a pool ordered by the stream, or plain allocation. */
#include "device.h"

#include <stdio.h>
#include <unistd.h>

enum { PLAIN, POOLED, CALLERS };

/* One for each allocation, so that releasing needs no memory, even where it must wait. */
struct sl_cuda_block {
	sl_cuda_block *next;
	void *pointer;
	size_t bytes;
	sl_memory kind;
	int from;
};

static bool callers(const sl_cuda *cuda) {
	return cuda->host->device_allocator.allocate != NULL;
}

/* A pool of the context's own: the device's default pool is its program's. */
sl_status sli_cuda_open_memory(sl_cuda *cuda) {
	if (callers(cuda))
		return SL_OK;
	struct cudaMemPoolProps props = {.allocType = cudaMemAllocationTypePinned,
									 .location = {.type = cudaMemLocationTypeDevice, .id = cuda->index}};
	cudaError_t error = cudaMemPoolCreate(&cuda->pool, &props);
	if (error == cudaErrorNotSupported || error == cudaErrorCallRequiresNewerDriver) {
		sli_cuda_forget(cuda, error);
		cuda->pool = NULL;
		cuda->host->log(cuda->host->user, SL_LOG_INFO, "the driver has no memory pools: memory is allocated plainly");
		return SL_OK;
	}
	SL_TRY(sli_cuda_check(cuda, error, "cudaMemPoolCreate"));
	uint64_t keep = cuda->host->pool_keep ? cuda->host->pool_keep : UINT64_MAX;
	return sli_cuda_check(cuda, cudaMemPoolSetAttribute(cuda->pool, cudaMemPoolAttrReleaseThreshold, &keep),
						  "cudaMemPoolSetAttribute");
}

static void free_block(sl_cuda *cuda, sl_cuda_block *block) {
	const sl_device_allocator *hooks = &cuda->host->device_allocator;
	/* In a forked child the memory is the parent's. */
	if (getpid() == cuda->process) {
		if (block->from == CALLERS)
			hooks->release(hooks->user, block->pointer, block->bytes, block->kind, cuda->stream);
		else if (block->kind == SL_MEMORY_PINNED)
			sli_cuda_forget(cuda, cudaFreeHost(block->pointer));
		else
			sli_cuda_forget(cuda, block->from == POOLED ? cudaFreeAsync(block->pointer, cuda->stream)
														: cudaFree(block->pointer));
	}
	cuda->host->unreserve(cuda->host->user, block->bytes);
	cuda->host->release(cuda->host->user, block, sizeof *block);
}

static sl_cuda_block *take_list(sl_cuda *cuda, sl_cuda_block **list) {
	pthread_mutex_lock(&cuda->lock);
	sl_cuda_block *taken = *list;
	*list = NULL;
	pthread_mutex_unlock(&cuda->lock);
	return taken;
}

static void free_leftovers(sl_cuda *cuda) {
	sl_cuda_block *block = take_list(cuda, &cuda->leftovers);
	while (block) {
		sl_cuda_block *next = block->next;
		free_block(cuda, block);
		block = next;
	}
}

void sli_cuda_close_memory(sl_cuda *cuda) {
	sli_cuda_release(cuda, cuda->cublas_workspace, cuda->cublas_bytes, SL_MEMORY_DEVICE);
	free_leftovers(cuda);
	if (!cuda->pool || getpid() != cuda->process)
		return;
	/* What was freed in the order of the stream is given back before the pool is. */
	sli_cuda_forget(cuda, cudaStreamSynchronize(cuda->stream));
	sli_cuda_forget(cuda, cudaMemPoolDestroy(cuda->pool));
}

static sl_status take_memory(sl_cuda *cuda, sl_cuda_block *block) {
	const sl_device_allocator *hooks = &cuda->host->device_allocator;
	size_t wanted = block->bytes ? block->bytes : 1;
	char what[64];
	SL_TRY(sli_cuda_not_capturing(cuda, "allocate"));
	free_leftovers(cuda);
	if (callers(cuda)) {
		block->from = CALLERS;
		block->pointer = hooks->allocate(hooks->user, wanted, block->kind, cuda->stream);
		return block->pointer ? SL_OK
							  : cuda->host->fail(cuda->host->user, SL_ERR_MEMORY,
												 "device_allocator gave nothing for %zu bytes", wanted);
	}
	if (block->kind == SL_MEMORY_PINNED) {
		snprintf(what, sizeof what, "cudaMallocHost of %zu bytes", block->bytes);
		return sli_cuda_check(cuda, cudaMallocHost(&block->pointer, wanted), what);
	}
	block->from = cuda->pool ? POOLED : PLAIN;
	snprintf(what, sizeof what, "%s of %zu bytes", cuda->pool ? "cudaMallocFromPoolAsync" : "cudaMalloc", block->bytes);
	return sli_cuda_check(cuda,
						  cuda->pool ? cudaMallocFromPoolAsync(&block->pointer, wanted, cuda->pool, cuda->stream)
									 : cudaMalloc(&block->pointer, wanted),
						  what);
}

static sl_status allocate(sl_cuda *cuda, size_t bytes, sl_memory kind, void **pointer) {
	sl_cuda_block *block = cuda->host->allocate(cuda->host->user, sizeof *block);
	if (!block)
		return cuda->host->fail(cuda->host->user, SL_ERR_MEMORY, "no memory for the record of an allocation");
	*block = (sl_cuda_block){.bytes = bytes, .kind = kind};
	int previous;
	sl_status status = sli_cuda_enter(cuda, &previous);
	if (status == SL_OK) {
		status = take_memory(cuda, block);
		sli_cuda_leave(previous);
	}
	if (status != SL_OK) {
		cuda->host->release(cuda->host->user, block, sizeof *block);
		return status;
	}
	*pointer = block->pointer;
	pthread_mutex_lock(&cuda->lock);
	block->next = cuda->blocks;
	cuda->blocks = block;
	pthread_mutex_unlock(&cuda->lock);
	return SL_OK;
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
	sl_status status = allocate(cuda, bytes, kind, pointer);
	if (status != SL_OK)
		cuda->host->unreserve(cuda->host->user, bytes);
	return status;
}

static sl_cuda_block *find_block(sl_cuda *cuda, const void *pointer) {
	sl_cuda_block *found = NULL;
	pthread_mutex_lock(&cuda->lock);
	for (sl_cuda_block **at = &cuda->blocks; *at && !found; at = found ? at : &(*at)->next)
		if ((*at)->pointer == pointer) {
			found = *at;
			*at = found->next;
		}
	pthread_mutex_unlock(&cuda->lock);
	return found;
}

void sli_cuda_release(void *device, void *pointer, size_t bytes, sl_memory kind) {
	sl_cuda *cuda = device;
	if (!pointer)
		return;
	if (kind == SL_MEMORY_HOST) {
		cuda->host->release(cuda->host->user, pointer, bytes);
		return;
	}
	sl_cuda_block *block = find_block(cuda, pointer);
	if (!block)
		return;
	int previous = -1;
	bool later = false;
	if (getpid() == cuda->process) {
		/* What a capture has recorded may still use it, and freeing would become part of the graph. */
		later = sli_cuda_capturing(cuda) || sli_cuda_make_current(cuda->index, &previous) != cudaSuccess;
		if (later && !cuda->pending)
			(void)cudaGetLastError();
	}
	if (later) {
		pthread_mutex_lock(&cuda->lock);
		block->next = cuda->leftovers;
		cuda->leftovers = block;
		pthread_mutex_unlock(&cuda->lock);
		return;
	}
	free_block(cuda, block);
	sli_cuda_leave(previous);
}

sl_status sli_cuda_trim(void *device) {
	sl_cuda *cuda = device;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	sl_status status = sli_cuda_not_capturing(cuda, "give back memory");
	if (status == SL_OK) {
		free_leftovers(cuda);
		status = sli_cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "cudaStreamSynchronize");
	}
	if (status == SL_OK && cuda->pool)
		status = sli_cuda_check(cuda, cudaMemPoolTrimTo(cuda->pool, 0), "cudaMemPoolTrimTo");
	sli_cuda_leave(previous);
	return status;
}

static sl_status check_kind(const sl_cuda *cuda, const struct cudaPointerAttributes *at, const char *name) {
	const sl_host *host = cuda->host;
	if (at->type == cudaMemoryTypeManaged || (at->type == cudaMemoryTypeDevice && at->device == cuda->index))
		return SL_OK;
	if (at->type == cudaMemoryTypeDevice)
		return host->fail(host->user, SL_ERR_DEVICE, "%s is memory of GPU %d; the context runs on GPU %d", name,
						  at->device, cuda->index);
	return host->fail(host->user, SL_ERR_DEVICE, "%s is %s; the context runs on GPU %d and needs its memory", name,
					  at->type == cudaMemoryTypeHost ? "pinned memory of the host" : "not memory that CUDA allocated",
					  cuda->index);
}

sl_status sli_cuda_check_pointer(void *device, const void *pointer, size_t alignment, const char *name) {
	sl_cuda *cuda = device;
	struct cudaPointerAttributes at = {.type = cudaMemoryTypeUnregistered};
	if ((uintptr_t)pointer % alignment)
		return cuda->host->fail(cuda->host->user, SL_ERR_LAYOUT, "%s is at %p, which is no multiple of its %zu bytes",
								name, pointer, alignment);
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	cudaError_t error = cudaPointerGetAttributes(&at, pointer);
	sl_status status = SL_OK;
	if (error == cudaErrorInvalidValue) /* older runtimes say so of a host pointer */
		sli_cuda_forget(cuda, error);
	else
		status = sli_cuda_check(cuda, error, "cudaPointerGetAttributes");
	sli_cuda_leave(previous);
	return status == SL_OK ? check_kind(cuda, &at, name) : status;
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
	sl_status status = SL_OK;
	if (from_kind == SL_MEMORY_HOST || to_kind == SL_MEMORY_HOST)
		status = sli_cuda_not_capturing(cuda, "copy from or to memory of the host");
	if (status == SL_OK)
		status = sli_cuda_check(cuda,
								cudaMemcpyAsync(to, from, bytes,
												kinds[from_kind == SL_MEMORY_DEVICE][to_kind == SL_MEMORY_DEVICE],
												cuda->stream),
								"cudaMemcpyAsync");
	sli_cuda_leave(previous);
	return status;
}

sl_status sli_cuda_fill(void *device, void *to, int byte, size_t bytes) {
	sl_cuda *cuda = device;
	if (!bytes)
		return SL_OK;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	cudaError_t error = cudaMemsetAsync(to, byte, bytes, cuda->stream);
	sl_status status = sli_cuda_check(cuda, error, "cudaMemsetAsync");
	sli_cuda_leave(previous);
	return status;
}
