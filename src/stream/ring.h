/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of slots and the threads that fill and empty it. */
#ifndef SL_STREAM_RING_H
#define SL_STREAM_RING_H

#include <pthread.h>

#include "stream/stream.h"
#include "stream/sums.h"

/* What went wrong on an I/O thread, which has no context to say it in. */
typedef struct sl_trouble {
	sl_status status;
	char text[384];
} sl_trouble;
sl_status sli_trouble(sl_trouble *trouble, sl_status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* A stretch of the row offsets as they are stored. */
typedef struct sl_window {
	char *buffer;
	size_t bytes;
	const char *data;
	int64_t first, count;
} sl_window;
enum { SL_WINDOW_OFFSETS = 16384 };

typedef struct sl_ring {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stop;     /* the pass has failed or was cancelled */
	bool read_all; /* `chunks` is known */
	int64_t chunks;
	sl_slot slot[SL_STREAM_SLOTS];
	sl_trouble reader, writer;
	/* The reader's. */
	int64_t row, in_row, entry; /* where the next chunk begins */
	sl_window window;
	double read_seconds, write_seconds;
	int64_t bytes_read, bytes_written;
	sl_sum_run sum_read[SL_STREAM_ARRAYS], sum_written[SL_STREAM_ARRAYS];
	char *carry[SL_STREAM_ARRAYS]; /* the writer's: the block that the next chunk goes on in */
} sl_ring;

/* Fill a slot with the next chunk; *end: there is none. */
sl_status sli_ring_fill(sl_pass *pass, sl_ring *ring, sl_slot *slot, bool *end);
/* Write a slot's arrays back. */
sl_status sli_ring_empty(sl_pass *pass, sl_ring *ring, const sl_slot *slot);

#endif
