/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a context, and what the rest of the runtime takes from it. */
#ifndef SL_CORE_CONTEXT_H
#define SL_CORE_CONTEXT_H

#include "backend/backend.h"
#include "core/heap.h"

/* Backend state of one context. Plans and buffers hold a reference, so they may be released after
 * their context. */
typedef struct sl_device_state sl_device_state;

struct sl_device_state {
	const sl_backend *backend;
	void *device; /* backend's */
	sl_heap *heap;
	sl_host host;
	void *module; /* of sli_backend_load() */
};
sl_device_state *sli_device_retain(sl_device_state *state);
void sli_device_release(sl_device_state *state);

/* The device state of a context: never NULL. */
sl_device_state *sli_device(sl_context *context);
/* Its host heap. */
sl_heap *sli_heap(sl_context *context);
uint64_t sli_seed(const sl_context *context);
bool sli_deterministic(const sl_context *context);
sl_plan_mode sli_plan_mode(const sl_context *context);
/* Sets the mode; returns the one before. */
sl_plan_mode sli_set_plan_mode(sl_context *context, sl_plan_mode mode);
/* The option `calibration` (NULL: not given), and whether the file was looked for already. */
const char *sli_calibration_option(const sl_context *context);
bool *sli_calibration_tried(sl_context *context);

/* Keep a message and return `status`. `context` may be NULL (only the status is returned). */
sl_status sli_fail(sl_context *context, sl_status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* SL_ERR_MEMORY or, where the budget was what failed, SL_ERR_BUDGET, with a message naming `what`. */
sl_status sli_fail_memory(sl_context *context, size_t bytes, const char *what);
void sli_log(sl_context *context, sl_log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* False: cancel. */
bool sli_progress(sl_context *context, const sl_progress *progress);
/* The same of bytes that were moved since `began`. */
bool sli_progress_bytes(sl_context *context, const char *what, int64_t done, int64_t total, double began);
bool sli_has_progress(const sl_context *context);

/* Host memory of the context's heap, with a message on failure; zeroed by the second. */
sl_status sli_allocate(sl_context *context, size_t bytes, const char *what, void **pointer);
sl_status sli_allocate_zeroed(sl_context *context, size_t bytes, const char *what, void **pointer);
/* Room for `wanted` elements of `size` bytes in a list of `heap`, which has room for *capacity and grows by doubling.
 */
sl_status sli_grow(sl_context *context, sl_heap *heap, void **list, int *capacity, int wanted, size_t size,
				   const char *what);

/* Run on the context's threads: task(argument, i) for i in [0, count). Survives a fork; honours
 * flush_to_zero. */
void sli_parallel(sl_context *context, size_t count, void (*task)(void *argument, size_t index), void *argument);

/*
 * Scratch memory of the context's device, as a stack: take what a call needs, give all back at
 * once. Pointers stay valid until the reset, and 64-byte aligned. Growing counts as an allocation
 * and bumps the generation; when the stack is empty it is merged into one block, so that a second
 * identical call allocates nothing.
 */
typedef struct sl_arena_mark {
	size_t block, used;
} sl_arena_mark;
sl_arena_mark sli_arena_mark(sl_context *context);
sl_status sli_arena_take(sl_context *context, size_t bytes, void **pointer);
void sli_arena_reset(sl_context *context, sl_arena_mark mark);
/* Make sure `bytes` can be taken from an empty arena without allocating. */
sl_status sli_arena_reserve(sl_context *context, size_t bytes);
/* Give back what is not in use. */
void sli_arena_trim(sl_context *context);
size_t sli_arena_bytes(const sl_context *context);
uint64_t sli_generation(const sl_context *context);

/* A buffer in the device's memory, owned by an object and released with or without a context. */
typedef struct sl_buffer {
	sl_device_state *device; /* NULL: empty */
	void *data;
	size_t bytes;
} sl_buffer;
sl_status sli_buffer_create(sl_buffer *buffer, sl_context *context, size_t bytes, bool zero, const char *what);
void sli_buffer_destroy(sl_buffer *buffer);

#endif
