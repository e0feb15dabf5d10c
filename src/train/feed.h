/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches on their way to a device that has memory of its own: two slots of pinned memory, filled in turns, so that the
 * host puts the next batch together while the device computes. What is sent lies in one block of the device's, which
 * the next batch takes over in the order of the stream.
 */
#ifndef SL_TRAIN_FEED_H
#define SL_TRAIN_FEED_H

#include "core/host.h"

typedef struct sl_feed {
	sl_device_state *device; /* NULL: closed */
	struct {
		sl_staging stage;
		void *event;
		bool sent;
	} slot[2];
	int turn;
	size_t used;
	sl_buffer block;
} sl_feed;

/* Bytes that something takes in a slot. */
static inline size_t sli_feed_bytes(size_t bytes) {
	return (bytes + 255) & ~(size_t)255;
}
/* `bytes`: of a batch, each part rounded by sli_feed_bytes(). */
sl_status sli_feed_open(sl_feed *feed, sl_context *context, size_t bytes);
void sli_feed_close(sl_feed *feed);

/* Take the next slot, once its last batch has left it. */
sl_status sli_feed_begin(sl_feed *feed);
/* Room in the slot, to be filled. */
void *sli_feed_room(sl_feed *feed, size_t bytes);
/* Send what was put at `room` to the device: to `to`, or (*to NULL) into the block, whose address *to receives. */
sl_status sli_feed_send(sl_feed *feed, const void *room, size_t bytes, void **to);
/* All of the batch was sent. */
sl_status sli_feed_end(sl_feed *feed);

/* A copy of memory of the host in the block. */
sl_status sli_feed_copy(sl_feed *feed, const void *from, size_t bytes, void **to);
/* Rows with values of `size` bytes, packed. */
sl_status sli_feed_sparse(sl_feed *feed, const sl_sparse_batch *from, size_t size, sl_sparse_batch *to);
/* What sli_feed_sparse() takes at most of `batch` rows out of `from`. */
size_t sli_feed_sparse_bytes(const sl_sparse *from, int64_t batch, size_t size);

#endif
