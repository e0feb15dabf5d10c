/* SPDX-License-Identifier: Apache-2.0 */
#define _DEFAULT_SOURCE /* madvise */
#include "core/heap.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

struct sl_heap {
	sl_allocator allocator;
	size_t budget;
	atomic_int references;
	atomic_size_t current, peak;
	atomic_llong allocations;
	atomic_bool refused;
};

static void *default_allocate(void *user, size_t bytes, size_t alignment, sl_memory kind) {
	enum { HUGE_PAGE = 2 << 20, LARGE = 2 << 20 };
	(void)user, (void)kind;
	/* Rows of a large matrix are read in any order: with pages of 4 KiB each read would wait for its address first. */
	if (bytes >= LARGE)
		alignment = HUGE_PAGE;
	void *pointer = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
#ifdef MADV_HUGEPAGE
	if (pointer && bytes >= LARGE)
		(void)madvise(pointer, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* a wish */
#endif
	return pointer;
}

static void default_release(void *user, void *pointer, size_t bytes, sl_memory kind) {
	(void)user, (void)bytes, (void)kind;
	free(pointer);
}

sl_status sli_heap_create(sl_heap **heap, const sl_allocator *allocator, size_t budget) {
	sl_allocator hooks = {NULL, default_allocate, default_release};
	if (allocator && allocator->allocate)
		hooks = *allocator;
	sl_heap *created = hooks.allocate(hooks.user, sizeof *created, 64, SL_MEMORY_HOST);
	*heap = created;
	if (!created)
		return SL_ERR_MEMORY;
	created->allocator = hooks;
	created->budget = budget;
	atomic_init(&created->references, 1);
	atomic_init(&created->current, 0);
	atomic_init(&created->peak, 0);
	atomic_init(&created->allocations, 0);
	atomic_init(&created->refused, false);
	return SL_OK;
}

sl_heap *sli_heap_retain(sl_heap *heap) {
	atomic_fetch_add_explicit(&heap->references, 1, memory_order_relaxed);
	return heap;
}

void sli_heap_release(sl_heap *heap) {
	if (!heap || atomic_fetch_sub_explicit(&heap->references, 1, memory_order_acq_rel) != 1)
		return;
	sl_allocator hooks = heap->allocator;
	hooks.release(hooks.user, heap, sizeof *heap, SL_MEMORY_HOST);
}

bool sli_heap_reserve(sl_heap *heap, size_t bytes) {
	size_t now = atomic_load(&heap->current);
	do {
		if (now + bytes < now || (heap->budget && now + bytes > heap->budget)) {
			atomic_store(&heap->refused, true);
			return false;
		}
	} while (!atomic_compare_exchange_weak(&heap->current, &now, now + bytes));
	size_t high = now + bytes, peak = atomic_load(&heap->peak);
	while (high > peak && !atomic_compare_exchange_weak(&heap->peak, &peak, high)) {
	}
	return true;
}

void sli_heap_unreserve(sl_heap *heap, size_t bytes) {
	atomic_fetch_sub(&heap->current, bytes);
}

void *sli_heap_allocate(sl_heap *heap, size_t bytes) {
	/* One byte at least, so that an empty array has an address. */
	if (bytes > PTRDIFF_MAX - 64 || !sli_heap_reserve(heap, bytes))
		return NULL;
	void *pointer = heap->allocator.allocate(heap->allocator.user, bytes ? bytes : 1, 64, SL_MEMORY_HOST);
	if (!pointer)
		sli_heap_unreserve(heap, bytes);
	else
		atomic_fetch_add_explicit(&heap->allocations, 1, memory_order_relaxed);
	return pointer;
}

void sli_heap_free(sl_heap *heap, void *pointer, size_t bytes) {
	if (!pointer)
		return;
	heap->allocator.release(heap->allocator.user, pointer, bytes ? bytes : 1, SL_MEMORY_HOST);
	sli_heap_unreserve(heap, bytes);
}

bool sli_heap_refused(const sl_heap *heap) {
	return atomic_load(&((sl_heap *)(uintptr_t)heap)->refused);
}

void sli_heap_usage(const sl_heap *heap, sl_memory_usage *usage) {
	sl_heap *h = (sl_heap *)(uintptr_t)heap;
	usage->current = atomic_load(&h->current);
	usage->peak = atomic_load(&h->peak);
	usage->budget = h->budget;
	usage->allocations = atomic_load(&h->allocations);
}
