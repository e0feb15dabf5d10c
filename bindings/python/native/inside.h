/* SPDX-License-Identifier: Apache-2.0 */
/* What the bridge's files share: runtimes and functions from inside. */
#ifndef SL_PYTHON_INSIDE_H
#define SL_PYTHON_INSIDE_H

#include "bridge.h"
#include "pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct slb_runtime {
	sl_context *context;
	pthread_mutex_t lock;
	int references; /* the creator's and one a function; under `table` */
	slb_pool *pool;
	void *openmp;
	void (*gomp_parallel)(void (*work)(void *), void *data, unsigned threads, unsigned flags);
	int threads;
};

/* The functions of the process. */
typedef struct slb_function {
	int64_t number;
	slb_runtime *runtime;
	sl_function *function;
	slb_shape shape;
	sl_activation activation;
	int64_t chunk;
	bool capture;
	void *captured; /* X, Y, dY one after the other */
	int64_t captured_batch;
	void *scratch; /* for sparse batches */
	size_t scratch_bytes;
	int users; /* calls in progress; under `table` */
	bool dropped;
} slb_function;

/* Keeps the message for slb_message(); returns `status`. */
sl_status slb_fail(sl_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The function of a number, its runtime locked; NULL, with a message, where there is none. */
slb_function *slb_enter(int64_t number);
/* The end of a call: unlocks; a status that is not SL_OK takes the context's message. */
sl_status slb_leave(slb_function *f, sl_status status);
/* The same where the message is kept already. */
sl_status slb_abandon(slb_function *f, sl_status status);
/* A matrix of the function's dtype on its device; ld 0: its rows lie close together. */
sl_dense slb_view(const slb_function *f, const void *data, int64_t rows, int64_t cols, int64_t ld);
/* Where a row begins; NULL for NULL. */
const void *slb_at_row(const slb_function *f, const void *data, int64_t row, int64_t ld);
/* Rows that are worked on at a time. */
int64_t slb_step(const slb_function *f, int64_t batch);
/* Memory for copies of X, Y and dY of `rows` rows at f->captured, zeros; false, and no capture, where there is none.
 * The three begin at captured[0], [1] and [2]. */
bool slb_capture_room(slb_function *f, int64_t rows, char *captured[3]);

#endif
