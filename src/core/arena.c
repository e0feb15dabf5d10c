/* SPDX-License-Identifier: Apache-2.0 */
#include "core/context_struct.h"

static void drop(sl_context *context, size_t block) {
	sl_device_state *state = context->device;
	state->backend->release(state->device, context->arena[block].data, context->arena[block].bytes, SL_MEMORY_DEVICE);
}

static sl_status grow(sl_context *context, size_t bytes) {
	sl_device_state *state = context->device;
	void *data = NULL;
	if (context->blocks == SL_ARENA_BLOCKS)
		return sli_fail(context, SL_ERR_INTERNAL, "the workspace is in more than %d pieces", SL_ARENA_BLOCKS);
	if (state->backend->allocate(state->device, bytes, SL_MEMORY_DEVICE, &data) != SL_OK)
		return sli_fail_memory(context, bytes, "the workspace");
	context->arena[context->blocks].data = data;
	context->arena[context->blocks].bytes = bytes;
	context->arena[context->blocks].used = 0;
	context->blocks++;
	context->generation++;
	return SL_OK;
}

sl_arena_mark sli_arena_mark(sl_context *context) {
	if (!context->blocks)
		return (sl_arena_mark){0, 0};
	/* The last block in use; those behind it are empty. */
	size_t block = context->blocks - 1;
	while (block > 0 && !context->arena[block].used)
		block--;
	return (sl_arena_mark){block, context->arena[block].used};
}

sl_status sli_arena_take(sl_context *context, size_t bytes, void **pointer) {
	if (bytes > PTRDIFF_MAX - 64)
		return sli_fail_memory(context, bytes, "the workspace");
	bytes = (bytes + 63) & ~(size_t)63;
	size_t block = sli_arena_mark(context).block;
	while (block < context->blocks && context->arena[block].bytes - context->arena[block].used < bytes)
		block++;
	*pointer = NULL;
	if (block >= context->blocks) {
		SL_TRY(grow(context, bytes > 65536 ? bytes : 65536));
		block = context->blocks - 1;
	}
	*pointer = (char *)context->arena[block].data + context->arena[block].used;
	context->arena[block].used += bytes;
	return SL_OK;
}

void sli_arena_reset(sl_context *context, sl_arena_mark mark) {
	for (size_t block = mark.block; block < context->blocks; block++)
		context->arena[block].used = block == mark.block ? mark.used : 0;
	if (mark.block || mark.used || context->blocks < 2)
		return;
	/* Merge, so that the next identical call finds one block that holds it. */
	size_t bytes = sli_arena_bytes(context);
	while (context->blocks)
		drop(context, --context->blocks);
	/* Where the one block does not fit any more, the next call says so. */
	(void)grow(context, bytes);
}

void sli_arena_trim(sl_context *context) {
	sl_arena_mark mark = sli_arena_mark(context);
	if (!mark.block && !mark.used)
		while (context->blocks)
			drop(context, --context->blocks);
}

sl_status sli_arena_reserve(sl_context *context, size_t bytes) {
	if (bytes > PTRDIFF_MAX - 64)
		return sli_fail_memory(context, bytes, "the workspace");
	bytes = (bytes + 63) & ~(size_t)63;
	if (context->blocks && context->arena[0].bytes >= bytes)
		return SL_OK;
	size_t had = sli_arena_bytes(context);
	sl_arena_mark mark = sli_arena_mark(context);
	bool empty = !mark.block && !mark.used;
	if (empty)
		sli_arena_trim(context);
	sl_status status = grow(context, bytes);
	if (status != SL_OK && empty && had) /* as it was, more or less */
		(void)grow(context, had);
	return status;
}

size_t sli_arena_bytes(const sl_context *context) {
	size_t bytes = 0;
	for (size_t i = 0; i < context->blocks; i++)
		bytes += context->arena[i].bytes;
	return bytes;
}

uint64_t sli_generation(const sl_context *context) {
	return context->generation;
}
