/* SPDX-License-Identifier: Apache-2.0 */
/* What only src/core and the context's own calls may touch. */
#ifndef SL_CORE_CONTEXT_STRUCT_H
#define SL_CORE_CONTEXT_STRUCT_H

#include "core/context.h"
#include "core/parallel.h"
#include "core/profile.h"

#define SL_MESSAGE_SIZE 512
#define SL_ARENA_BLOCKS 64

struct sl_context {
	sl_heap *heap;
	sl_device_state *device;
	sl_team *team;
	sl_profile profile;
	sl_context_options options;
	char message[SL_MESSAGE_SIZE];
	char description[256];
	struct {
		void *data;
		size_t bytes, used;
	} arena[SL_ARENA_BLOCKS];
	size_t blocks;
	uint64_t generation;
	char *calibration; /* own copy of the option; NULL: not given */
	bool calibration_tried;
	sl_context *host; /* of sli_host_context(); NULL until then */
	sl_context *of;   /* whose `host` this is; it owns the team. NULL: nobody's */
};

sl_status sli_context_open(sl_context **context, const sl_context_options *options);
void sli_context_close(sl_context *context);

#endif
