/* SPDX-License-Identifier: Apache-2.0 */
/* The weights of a layer that are not in memory: in a store, which is trained, or in a file, which is read. */
#ifndef SL_STREAM_WEIGHTS_H
#define SL_STREAM_WEIGHTS_H

#include "stream/store.h"

typedef enum sl_streamed_state {
	SL_STREAMED_IDLE = 0,
	SL_STREAMED_STAGED, /* a backward has written the next generation; the optimizer's step takes it over */
	SL_STREAMED_KEPT,   /* a backward has kept its operands: the step waits for the norm of all gradients */
	SL_STREAMED_LOST    /* a step in place failed: what is on disk is older than the rest of the model */
} sl_streamed_state;

typedef struct sl_streamed {
	sl_heap *heap;     /* owns this struct; retained */
	sl_store *store;   /* NULL: only read */
	sl_source *source; /* the store's, or own */
	sl_stream_options options;
	sl_streamed_state state;
	/* What the next step does: its optimizer says so, ahead. */
	bool trains, by_norm; /* by_norm: not before the norm is known */
	sl_update update;
	int kind;
	/* Of a backward whose step waits. */
	double squares;
	sl_buffer x_room, dz_room;
	sl_dense x, dz;
	int64_t planned;
	int64_t bytes_read, bytes_written; /* by all passes so far */
	double seconds;                    /* likewise */
} sl_streamed;

/* Takes `store` or `source` over, whether it succeeds or not. */
sl_status sli_streamed_create(sl_streamed **streamed, sl_context *context, sl_store *store, sl_source *source,
							  const sl_stream_options *options);
void sli_streamed_destroy(sl_streamed *streamed);

/* Views in op orientation, [features, batch]; `planned` as in sli_stream_spmm(). */
sl_status sli_streamed_forward(sl_context *context, sl_streamed *streamed, const sl_dense *x, const sl_dense *y,
							   const sl_epilogue *epilogue, int64_t planned);
/* dx (may be NULL) and, where an optimizer has the layer, the update with it, in one pass. */
sl_status sli_streamed_backward(sl_context *context, sl_streamed *streamed, const sl_dense *dz, const sl_dense *x,
								const sl_dense *dx, int64_t planned);
/* The most that either takes with the smallest chunks; `batch` in panels of `width`. */
sl_status sli_streamed_least(sl_context *context, const sl_streamed *streamed, int64_t batch, int64_t width,
							 bool training, bool dx, size_t *bytes);

/* An optimizer's step: set what the next one does; make what waited for the norm, by a factor on the gradient; take all
 * over. Where one layer fails all are to be abandoned. */
void sli_streamed_arm(sl_streamed *streamed, const sl_update *update, int kind, bool by_norm);
sl_status sli_streamed_finish(sl_context *context, sl_streamed *streamed, double factor);
void sli_streamed_adopt(sl_streamed *streamed);
void sli_streamed_abandon(sl_streamed *streamed);

#endif
