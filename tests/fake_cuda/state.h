/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the fake: objects, bounds and planned failures. */
#ifndef SL_TESTS_FAKE_CUDA_STATE_H
#define SL_TESTS_FAKE_CUDA_STATE_H

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusparse.h>

#include <stdint.h>

#include "fake_cuda.h"

typedef enum fake_kind {
	FAKE_NONE = 0,
	FAKE_DEVICE_MEMORY,
	FAKE_PINNED_MEMORY,
	FAKE_STREAM,
	FAKE_EVENT,
	FAKE_CUSPARSE,
	FAKE_CUBLAS,
	FAKE_SPARSE_MATRIX,
	FAKE_DENSE_MATRIX,
	FAKE_SPARSE_VECTOR,
	FAKE_DENSE_VECTOR
} fake_kind;

/* Anything that is made and destroyed. Descriptors use the lower fields. */
typedef struct fake_object {
	struct fake_object *next;
	fake_kind kind;
	uintptr_t id; /* the address of memory; else a number that looks like no address */
	size_t bytes, mapped;
	int device;
	void *stream;  /* of a library handle */
	bool recorded; /* an event */
	int64_t rows, cols, nnz, ld;
	void *offsets, *indices, *values;
	cudaDataType type;
	cusparseOrder_t order;
} fake_object;

/* NULL: no memory. */
fake_object *fake_create(fake_kind kind);
fake_object *fake_find(fake_kind kind, const void *id);
/* False: there is none such. */
bool fake_remove(fake_kind kind, const void *id);
int fake_current_device(void);

/* Keep the first fault's words. */
void fake_fault(const char *call, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Count a call: true when it is the one to fail. */
bool fake_take(const char *call);

/* Whether [pointer, pointer + bytes) lies in live memory of the current GPU; a fault if not. */
bool fake_on_device(const char *call, const char *what, const void *pointer, size_t bytes);
/* Whether it touches no device memory at all. */
bool fake_on_host(const char *call, const char *what, const void *pointer, size_t bytes);
/* A stream that lives, on the current GPU (NULL is the default stream). */
bool fake_stream(const char *call, const void *stream);

/* Device memory may be touched between these. */
void fake_map(void);
void fake_unmap(void);

/* Elements from the first to behind the last of `lines` lines. */
size_t fake_span(int64_t lines, int64_t length, int64_t ld);
size_t fake_size(cudaDataType type);
double fake_load(const void *data, cudaDataType type, int64_t i);
void fake_store(void *data, cudaDataType type, int64_t i, double value);

void fake_forget_widest(void);

/* The last error as the runtime keeps it; returns `error`. */
cudaError_t fake_report(cudaError_t error);

#endif
