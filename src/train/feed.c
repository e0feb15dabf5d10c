/* SPDX-License-Identifier: Apache-2.0 */
#include "train/feed.h"

#include "sparse/sparse.h"
#include "sparse/view.h"

sl_status sli_feed_open(sl_feed *feed, sl_context *context, size_t bytes) {
	sl_device_state *device = sli_device(context);
	*feed = (sl_feed){.device = device};
	sl_status status = sli_buffer_create(&feed->block, context, bytes, false, "a batch on the device");
	for (int i = 0; i < 2 && status == SL_OK; i++) {
		status = sli_stage_open(&feed->slot[i].stage, device, bytes);
		if (status == SL_OK)
			status = device->backend->event_create(device->device, &feed->slot[i].event);
	}
	if (status != SL_OK)
		sli_feed_close(feed);
	return status;
}

void sli_feed_close(sl_feed *feed) {
	if (!feed->device)
		return;
	for (int i = 0; i < 2; i++) {
		if (feed->slot[i].event)
			feed->device->backend->event_destroy(feed->device->device, feed->slot[i].event);
		sli_stage_close(&feed->slot[i].stage);
	}
	sli_buffer_destroy(&feed->block);
	*feed = (sl_feed){0};
}

sl_status sli_feed_begin(sl_feed *feed) {
	feed->turn = 1 - feed->turn;
	feed->used = 0;
	if (!feed->slot[feed->turn].sent)
		return SL_OK;
	return feed->device->backend->event_wait(feed->device->device, feed->slot[feed->turn].event, true);
}

void *sli_feed_room(sl_feed *feed, size_t bytes) {
	void *room = (char *)feed->slot[feed->turn].stage.data + feed->used;
	feed->used += sli_feed_bytes(bytes);
	return room;
}

sl_status sli_feed_send(sl_feed *feed, const void *room, size_t bytes, void **to) {
	if (!*to)
		*to = (char *)feed->block.data + ((const char *)room - (const char *)feed->slot[feed->turn].stage.data);
	return feed->device->backend->copy(feed->device->device, *to, SL_MEMORY_DEVICE, room, SL_MEMORY_PINNED, bytes);
}

sl_status sli_feed_end(sl_feed *feed) {
	SL_TRY(feed->device->backend->event_record(feed->device->device, feed->slot[feed->turn].event));
	feed->slot[feed->turn].sent = true;
	return SL_OK;
}

sl_status sli_feed_copy(sl_feed *feed, const void *from, size_t bytes, void **to) {
	void *room = sli_feed_room(feed, bytes);
	*to = NULL;
	if (bytes)
		memcpy(room, from, bytes);
	return sli_feed_send(feed, room, bytes, to);
}

sl_status sli_feed_sparse(sl_feed *feed, const sl_sparse_batch *from, size_t size, sl_sparse_batch *to) {
	int64_t *offsets = sli_feed_room(feed, (size_t)(from->rows + 1) * sizeof *offsets);
	int32_t *columns = sli_feed_room(feed, (size_t)from->nnz * sizeof *columns);
	char *values = from->values ? sli_feed_room(feed, (size_t)from->nnz * size) : NULL;
	void *on_device[3] = {NULL, NULL, NULL};
	offsets[0] = 0;
	for (int64_t i = 0; i < from->rows; i++) {
		int64_t begin = sli_index(from->begins, from->offset_dtype, i);
		int64_t n = sli_index(from->ends, from->offset_dtype, i) - begin, at = offsets[i];
		offsets[i + 1] = at + n;
		if (n)
			memcpy(columns + at, from->columns + begin, (size_t)n * sizeof *columns);
		if (n && values)
			memcpy(values + (size_t)at * size, (const char *)from->values + (size_t)begin * size, (size_t)n * size);
	}
	SL_TRY(sli_feed_send(feed, offsets, (size_t)(from->rows + 1) * sizeof *offsets, &on_device[0]));
	SL_TRY(sli_feed_send(feed, columns, (size_t)from->nnz * sizeof *columns, &on_device[1]));
	if (values)
		SL_TRY(sli_feed_send(feed, values, (size_t)from->nnz * size, &on_device[2]));
	*to = *from;
	to->begins = on_device[0];
	to->ends = (int64_t *)on_device[0] + 1;
	to->offset_dtype = SL_I64;
	to->columns = on_device[1];
	to->values = on_device[2];
	return SL_OK;
}

size_t sli_feed_sparse_bytes(const sl_sparse *from, int64_t batch, size_t size) {
	sl_sparse_batch all;
	int64_t longest = 0, rows = from->rows < batch ? from->rows : batch;
	sli_sparse_batch(from, sli_sparse_entries(from), NULL, &all);
	for (int64_t i = 0; i < from->rows; i++) {
		int64_t n = sli_index(all.ends, all.offset_dtype, i) - sli_index(all.begins, all.offset_dtype, i);
		longest = n > longest ? n : longest;
	}
	size_t most = (size_t)(longest <= all.nnz / (rows ? rows : 1) ? longest * rows : all.nnz);
	return sli_feed_bytes((size_t)(rows + 1) * 8) + sli_feed_bytes(most * 4) + sli_feed_bytes(most * size);
}
