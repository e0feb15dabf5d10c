/* SPDX-License-Identifier: Apache-2.0 */
/* What a forward keeps for its backward. */
#include "layers/layer.h"

sl_status sli_saved_room(sl_context *context, sl_buffer *buffer, size_t bytes) {
	if (buffer->device == sli_device(context) && buffer->bytes >= bytes)
		return SL_OK;
	if (buffer->data && buffer->bytes >= bytes && buffer->device->backend == sli_device(context)->backend &&
		buffer->device->host.device_index == sli_device(context)->host.device_index)
		return SL_OK;
	sl_buffer grown = {0};
	SL_TRY(sli_buffer_create(&grown, context, bytes, true, "activations kept for backward"));
	sli_buffer_destroy(buffer);
	*buffer = grown;
	return SL_OK;
}

static sl_status room_for(sl_context *context, sl_buffer *buffer, int64_t rows, int64_t batch, int64_t width,
						  sl_dtype dtype) {
	size_t bytes;
	if (!sli_panel_bytes(rows, batch, width, dtype, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld features of a batch of %lld do not fit in memory",
						(long long)rows, (long long)batch);
	return sli_saved_room(context, buffer, bytes);
}

sl_status sli_saved_create_width(sl_saved **result, sl_context *context, const sl_layer *layer, int64_t max_batch,
								 int64_t width, bool borrows_input, bool borrows_output) {
	void *memory;
	*result = NULL;
	SL_TRY(sli_allocate_zeroed(context, sizeof(sl_saved), "a saved forward", &memory));
	sl_saved *saved = memory;
	saved->heap = sli_heap_retain(sli_heap(context));
	saved->max_batch = max_batch;
	sl_status status = SL_OK;
	if (!borrows_input && !layer->sparse_inputs)
		status = room_for(context, &saved->input, layer->in_features, max_batch, width, layer->dtype);
	/* The identity keeps nothing; GELU keeps its input, which is never the caller's. */
	bool keeps = layer->activation != SL_IDENTITY;
	if (status == SL_OK && keeps &&
		(!borrows_output || layer->sparse_inputs || sl_activation_saves_input(layer->activation)))
		status = room_for(context, &saved->output, layer->out_features, max_batch, width, layer->dtype);
	if (status != SL_OK) {
		sl_saved_destroy(saved);
		return status;
	}
	*result = saved;
	return SL_OK;
}

void sl_saved_destroy(sl_saved *saved) {
	if (!saved)
		return;
	sl_heap *heap = saved->heap;
	sli_buffer_destroy(&saved->input);
	sli_buffer_destroy(&saved->output);
	sli_heap_free(heap, saved, sizeof *saved);
	sli_heap_release(heap);
}
