/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host memory with the caller's hooks, a budget and counts. Reference-counted, so that an object
 * may outlive the context it was made through.
 */
#ifndef SL_CORE_HEAP_H
#define SL_CORE_HEAP_H

#include <sparselayer/context.h>

typedef struct sl_heap sl_heap;

sl_status sli_heap_create(sl_heap **heap, const sl_allocator *allocator, size_t budget);
sl_heap *sli_heap_retain(sl_heap *heap);
void sli_heap_release(sl_heap *heap);

/* 64-byte aligned, not cleared; NULL over the budget or out of memory. bytes 0: a valid pointer.
 * Thread-safe. The block remembers nothing: give the same size back. */
void *sli_heap_allocate(sl_heap *heap, size_t bytes);
void sli_heap_free(sl_heap *heap, void *pointer, size_t bytes); /* NULL is allowed */
/* Count memory that comes from elsewhere. */
bool sli_heap_reserve(sl_heap *heap, size_t bytes);
void sli_heap_unreserve(sl_heap *heap, size_t bytes);
/* Whether the budget ever was what a request failed by. */
bool sli_heap_refused(const sl_heap *heap);
void sli_heap_usage(const sl_heap *heap, sl_memory_usage *usage);

#endif
