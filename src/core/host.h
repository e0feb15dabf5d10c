/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of a context whose device has memory of its own. On the CPU all of it is the memory itself. */
#ifndef SL_CORE_HOST_H
#define SL_CORE_HOST_H

#include "core/context.h"

static inline bool sli_on_host(const sl_device_state *state) {
	return state->backend->flags & SL_BACKEND_HOST_MEMORY;
}

/* The context itself where its memory is the host's; else one on the CPU with its heap, threads, seed and message, made
 * once and destroyed with it: for work on copies. */
sl_status sli_host_context(sl_context *context, sl_context **host);

/* Pinned memory that copies go through: a failure leaves no copy on its way from or to memory that is not ours. */
typedef struct sl_staging {
	sl_device_state *device; /* retained; NULL: closed */
	void *data;
	size_t bytes;
} sl_staging;
sl_status sli_stage_open(sl_staging *stage, sl_device_state *device, size_t bytes);
void sli_stage_close(sl_staging *stage);
/* At most the stage's bytes from a device's memory into the stage; waits. */
sl_status sli_stage_fetch(sl_staging *stage, const void *from, size_t bytes);
/* From the stage into a device's memory; waits. */
sl_status sli_stage_put(sl_staging *stage, void *to, size_t bytes);
/* What a stage for `bytes` holds: a piece, where they are many. */
size_t sli_stage_piece(size_t bytes);

/* Between the host's memory and a device's, any number of bytes; waits. */
sl_status sli_fetch(sl_device_state *device, void *to, const void *from, size_t bytes);
sl_status sli_put(sl_device_state *device, void *to, const void *from, size_t bytes);

#endif
