/* SPDX-License-Identifier: Apache-2.0 */
#include "core/host.h"

enum { PIECE = 4 << 20 };

size_t sli_stage_piece(size_t bytes) {
	return bytes < PIECE ? bytes : PIECE;
}

sl_status sli_stage_open(sl_staging *stage, sl_device_state *device, size_t bytes) {
	void *data;
	*stage = (sl_staging){0};
	SL_TRY(device->backend->allocate(device->device, bytes, SL_MEMORY_PINNED, &data));
	*stage = (sl_staging){sli_device_retain(device), data, bytes};
	return SL_OK;
}

void sli_stage_close(sl_staging *stage) {
	if (stage->device) {
		stage->device->backend->release(stage->device->device, stage->data, stage->bytes, SL_MEMORY_PINNED);
		sli_device_release(stage->device);
	}
	*stage = (sl_staging){0};
}

sl_status sli_stage_fetch(sl_staging *stage, const void *from, size_t bytes) {
	const sl_backend *b = stage->device->backend;
	SL_TRY(b->copy(stage->device->device, stage->data, SL_MEMORY_PINNED, from, SL_MEMORY_DEVICE, bytes));
	return b->synchronize(stage->device->device);
}

sl_status sli_stage_put(sl_staging *stage, void *to, size_t bytes) {
	const sl_backend *b = stage->device->backend;
	SL_TRY(b->copy(stage->device->device, to, SL_MEMORY_DEVICE, stage->data, SL_MEMORY_PINNED, bytes));
	return b->synchronize(stage->device->device);
}

static sl_status move(sl_device_state *device, char *to, const char *from, size_t bytes, bool fetch) {
	sl_staging stage;
	if (!bytes)
		return SL_OK;
	if (sli_on_host(device)) {
		memmove(to, from, bytes);
		return SL_OK;
	}
	SL_TRY(sli_stage_open(&stage, device, sli_stage_piece(bytes)));
	sl_status status = SL_OK;
	for (size_t at = 0; at < bytes && status == SL_OK; at += stage.bytes) {
		size_t n = bytes - at < stage.bytes ? bytes - at : stage.bytes;
		if (!fetch)
			memcpy(stage.data, from + at, n);
		status = fetch ? sli_stage_fetch(&stage, from + at, n) : sli_stage_put(&stage, to + at, n);
		if (fetch && status == SL_OK)
			memcpy(to + at, stage.data, n);
	}
	sli_stage_close(&stage);
	return status;
}

sl_status sli_fetch(sl_device_state *device, void *to, const void *from, size_t bytes) {
	return move(device, to, from, bytes, true);
}

sl_status sli_put(sl_device_state *device, void *to, const void *from, size_t bytes) {
	return move(device, to, from, bytes, false);
}
