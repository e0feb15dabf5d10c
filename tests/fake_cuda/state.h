/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the fake: objects, bounds, queues and planned failures. */
#ifndef SL_TESTS_FAKE_CUDA_STATE_H
#define SL_TESTS_FAKE_CUDA_STATE_H

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusparse.h>

#include <stdint.h>

#include "fake_cuda.h"

#pragma GCC visibility push(default)

typedef enum fake_kind {
	FAKE_NONE = 0,
	FAKE_DEVICE_MEMORY,
	FAKE_PINNED_MEMORY,
	FAKE_POOL,
	FAKE_STREAM,
	FAKE_EVENT,
	FAKE_GRAPH,
	FAKE_GRAPH_EXEC,
	FAKE_CUSPARSE,
	FAKE_CUBLAS,
	FAKE_SPARSE_MATRIX,
	FAKE_DENSE_MATRIX,
	FAKE_SPARSE_VECTOR,
	FAKE_DENSE_VECTOR
} fake_kind;

/* Work of a stream. */
typedef struct fake_task {
	struct fake_task *next;
	const char *call; /* static */
	void (*run)(void *argument);
	bool (*ready)(void *argument); /* not NULL: other processes are waited for until it says so */
	void *argument;                /* own copy */
	size_t bytes;
	int device;
	enum { FAKE_RUN, FAKE_RECORD, FAKE_WAIT } kind;
	uintptr_t event; /* of RECORD and WAIT */
	uint64_t version;
} fake_task;

typedef struct fake_queue {
	fake_task *head, **tail;
} fake_queue;

/* Anything that is made and destroyed. Descriptors use the lower fields. */
typedef struct fake_object {
	struct fake_object *next;
	fake_kind kind;
	uintptr_t id; /* the address of memory; else a number that looks like no address */
	size_t bytes, mapped;
	int device;
	void *stream;       /* of a library handle */
	bool unborn, dying; /* memory: its allocation has not run yet; its release was asked for */
	bool filled;
	uint64_t recorded, passed; /* an event: records asked for, and done */
	double time;               /* of the last that was done, in seconds */
	fake_queue queue;          /* a stream, a graph */
	bool capturing, broken;    /* a stream */
	fake_queue captured;
	int64_t rows, cols, nnz, ld;
	void *offsets, *indices, *values;
	cusparseIndexType_t index_type;
	cudaDataType type;
	cusparseOrder_t order;
	int preprocessed; /* algorithm + 1 */
	void *buffer;     /* of the preprocessing */
} fake_object;

/* NULL: no memory. */
fake_object *fake_create(fake_kind kind);
fake_object *fake_find(fake_kind kind, const void *id);
/* False: there is none such. */
bool fake_remove(fake_kind kind, const void *id);
fake_object *fake_first(void);
int fake_current_device(void);
void fake_set_current(int device);

/* Keep the first fault's words. */
#define fake_fault fake_cuda_misuse

/* Count a call: true when it is the one to fail. */
bool fake_take(const char *call);
/* What a call of the runtime fails with on demand. */
cudaError_t fake_failure(void);
bool fake_lost(void);
/* The call fails with `status` when it is the one to; of the runtime with the error that is asked for. */
#define TAKE(call, status)                                                                                             \
	do {                                                                                                               \
		if (fake_take(call))                                                                                           \
			return status;                                                                                             \
	} while (0)
#define TAKE_RUNTIME(call) TAKE(call, fake_report(fake_failure()))
/* Refused arguments are faults: the real one prints them, so that its caller should not get here. */
#define REFUSE_IF(condition, call, status)                                                                             \
	do {                                                                                                               \
		if (condition) {                                                                                               \
			fake_fault(call, "refused, as %s", #condition);                                                            \
			return status;                                                                                             \
		}                                                                                                              \
	} while (0)
/* The end of a call of the runtime that destroys. `failing`: it is done, and fails all the same. */
cudaError_t fake_destroyed(const char *call, bool failing, fake_kind kind, const void *id);

/* memory.c: whether [pointer, pointer + bytes) lies in live memory of the current GPU; a fault if not. */
bool fake_on_device(const char *call, const char *what, const void *pointer, size_t bytes);
/* Whether it touches no device memory at all. */
bool fake_on_host(const char *call, const char *what, const void *pointer, size_t bytes);
/* Give back the pages of memory that is removed. */
void fake_unmap_object(const fake_object *object);
/* Addresses begin anew; there is no memory. */
void fake_forget_memory(void);
/* Device memory may be touched between these. */
void fake_map(void);
void fake_unmap(void);

/* queue.c: a stream that lives, on the current GPU (NULL is the default stream). */
bool fake_stream(const char *call, const void *stream);
/* Queue work on a stream that is one, copying the argument. */
cudaError_t fake_enqueue(const char *call, void *stream, void (*run)(void *), const void *argument, size_t bytes);
/* The same of work that holds its stream up until it is ready. */
cudaError_t fake_enqueue_when(const char *call, void *stream, bool (*ready)(void *), void (*run)(void *),
							  const void *argument, size_t bytes);
/* Run until a stream, or (NULL) all of them, have nothing left to do. */
void fake_drain_stream(void *stream);
void fake_drain_all(void);
void fake_queue_free(fake_queue *queue);
/* Whether work runs right now. */
bool fake_running(void);
/* A call that may not be made while a stream captures: it breaks the capture. */
bool fake_breaks_capture(const char *call);
bool fake_captures(const void *stream);
void fake_forget_clock(void);

/* Elements from the first to behind the last of `lines` lines. */
size_t fake_span(int64_t lines, int64_t length, int64_t ld);
size_t fake_size(cudaDataType type);
double fake_load(const void *data, cudaDataType type, int64_t i);
void fake_store(void *data, cudaDataType type, int64_t i, double value);
bool fake_is_value(cudaDataType type);

void fake_forget_widest(void);

/* The last error as the runtime keeps it; returns `error`. */
cudaError_t fake_report(cudaError_t error);

#pragma GCC visibility pop

#endif
