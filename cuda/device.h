/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the CUDA backend. */
#ifndef SL_CUDA_DEVICE_H
#define SL_CUDA_DEVICE_H

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusparse.h>

#include <pthread.h>
#include <sys/types.h>

#include "backend/backend.h"

typedef struct sl_cuda_block sl_cuda_block;

/* The library's own are not to be had: a module leans on nobody's symbols. */
static inline size_t sli_size_of(sl_dtype dtype) {
	return dtype == SL_F64 || dtype == SL_I64 ? 8 : dtype == SL_BF16 || dtype == SL_F16 ? 2 : 4;
}
static inline const char *sli_name_of(sl_dtype dtype) {
	return dtype == SL_F64 ? "f64" : dtype == SL_BF16 ? "bf16" : dtype == SL_F16 ? "f16" : "f32";
}

typedef struct sl_cuda {
	const sl_host *host;
	int index;
	bool own_stream;
	cudaStream_t stream;
	cusparseHandle_t cusparse;
	int cusparse_version;
	cublasHandle_t cublas;
	void *cublas_workspace; /* made with the first plan of a dense product */
	size_t cublas_bytes;
	char name[96];
	int major, minor, units;
	size_t memory;
	pid_t process;    /* that opened it */
	bool lost;        /* to an error that nothing recovers from */
	char reason[160]; /* which */
	bool pending;     /* the caller had an error of the runtime's pending when it called */
	cudaMemPool_t pool;
	pthread_mutex_t lock;     /* over the two: objects are released by any thread */
	sl_cuda_block *blocks;    /* memory that is in use */
	sl_cuda_block *leftovers; /* released when it could not be freed, as in a capture */
	/* What cuSPARSE is given at once: entries of a sparse matrix, columns of a dense one. */
	int64_t most_entries, most_columns;
} sl_cuda;

/* Make the context's GPU current; leave() gives the caller's back. Every entry point does both. Where
 * enter() fails nothing may be launched, as it would land on another GPU, and leave() is not called: the process was
 * forked, or the context is lost. */
sl_status sli_cuda_enter(const sl_cuda *cuda, int *previous);
void sli_cuda_leave(int previous);
/* Where there is nobody to tell. `*previous`: for leave(). */
cudaError_t sli_cuda_make_current(int index, int *previous);

/* A vendor's status as ours, with the vendor's text; `what` names the call. The runtime's last error is
 * taken back, so that the caller's own next cudaGetLastError() does not find it; unless the caller had one pending. */
sl_status sli_cuda_check(const sl_cuda *cuda, cudaError_t error, const char *what);
sl_status sli_cusparse_check(const sl_cuda *cuda, cusparseStatus_t status, const char *what);
sl_status sli_cublas_check(const sl_cuda *cuda, cublasStatus_t status, const char *what);

/* Errors that nobody is told about are taken back too. */
void sli_cuda_forget(const sl_cuda *cuda, cudaError_t error);
/* SL_ERR_STATE, saying what would be done, while the stream captures a graph. The GPU is current. */
sl_status sli_cuda_not_capturing(const sl_cuda *cuda, const char *what);

/* device.c: discovery, opening, errors. */
int sli_cuda_devices(sl_device_info *devices, int capacity);
sl_status sli_cuda_open(const sl_host *host, void **device);
void sli_cuda_close(void *device);
void sli_cuda_describe(void *device, char *text, size_t size);

/* memory.c */
sl_status sli_cuda_open_memory(sl_cuda *cuda);
void sli_cuda_close_memory(sl_cuda *cuda);
sl_status sli_cuda_check_pointer(void *device, const void *pointer, size_t alignment, const char *name);
sl_status sli_cuda_trim(void *device);
sl_status sli_cuda_allocate(void *device, size_t bytes, sl_memory kind, void **pointer);
void sli_cuda_release(void *device, void *pointer, size_t bytes, sl_memory kind);
sl_status sli_cuda_copy(void *device, void *to, sl_memory to_kind, const void *from, sl_memory from_kind, size_t bytes);
sl_status sli_cuda_fill(void *device, void *to, int byte, size_t bytes);

/* order.c: events, waiting, captures. */
bool sli_cuda_capturing(void *device);
sl_status sli_cuda_time(void *device, sl_status (*run)(void *argument), void *argument, double *seconds);
sl_status sli_cuda_event_create(void *device, void **event);
void sli_cuda_event_destroy(void *device, void *event);
sl_status sli_cuda_event_record(void *device, void *event);
sl_status sli_cuda_event_wait(void *device, void *event, bool on_host);
sl_status sli_cuda_synchronize(void *device);

/* ops.c: the seam's five calls, which go to where an op is implemented. */
sl_status sli_cuda_supports(void *device, const sl_op_desc *desc);
size_t sli_cuda_workspace(void *device, const sl_op_plan *plan);
sl_status sli_cuda_plan(void *device, const sl_op_desc *desc, sl_op_plan *plan);
sl_status sli_cuda_execute(void *device, const sl_op_plan *plan, const sl_op_args *args);
void sli_cuda_destroy(void *device, sl_op_plan *plan);
int sli_cuda_candidates(void *device, const sl_op_desc *desc, sl_candidate *out, int capacity);

/* ops_vector.c: what is no product, by own kernels. plan() is supports() as well. */
bool sli_cuda_is_vector(sl_op_kind kind);
sl_status sli_cuda_vector_plan(sl_cuda *cuda, const sl_op_desc *desc, sl_op_plan *plan);
sl_status sli_cuda_vector_execute(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args);

/* ops_sparse.c: SpMM and SDDMM by own kernels: where "own" is asked for, or cuSPARSE does not take the product. */
bool sli_libraries_take(const sl_op_desc *desc);
bool sli_own_runs(const sl_op_desc *desc);
bool sli_tensor_offered(const sl_cuda *cuda, const sl_op_desc *desc);
sl_status sli_own_supports(sl_cuda *cuda, const sl_op_desc *desc);
sl_status sli_own_plan(sl_cuda *cuda, const sl_op_desc *desc, sl_op_plan *plan);
sl_status sli_own_execute(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args);
void sli_own_destroy(sl_cuda *cuda, sl_op_plan *plan);

/* ops_pattern.c: SL_OP_PATTERN. */
sl_status sli_pattern_plan(sl_cuda *cuda, const sl_op_desc *desc, sl_op_plan *plan);
sl_status sli_pattern_execute(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args);

/* ops_dense.c: dense products with what cuBLAS does not do. */
bool sli_dense_runs(const sl_op_desc *desc);
sl_status sli_dense_supports(sl_cuda *cuda, const sl_op_desc *desc);
sl_status sli_dense_plan(sl_cuda *cuda, const sl_op_desc *desc, sl_op_plan *plan);
sl_status sli_dense_execute(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args);

/* What is known of the version of cuSPARSE that was found. */
void sli_cuda_limits(sl_cuda *cuda);
/* products.c: by cuSPARSE and cuBLAS. plan() calls supports(); execute() makes the GPU current. */
sl_status sli_cuda_product_supports(sl_cuda *cuda, const sl_op_desc *desc);
sl_status sli_cuda_product_plan(sl_cuda *cuda, const sl_op_desc *desc, sl_op_plan *plan);
sl_status sli_cuda_product_execute(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args);
void sli_cuda_product_destroy(sl_cuda *cuda, sl_op_plan *plan);
int sli_cuda_product_candidates(sl_cuda *cuda, const sl_op_desc *desc, sl_candidate *out, int capacity);

#endif
