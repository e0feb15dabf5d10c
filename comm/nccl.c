/* SPDX-License-Identifier: Apache-2.0 */
/* Communicators over NCCL: device buffers, on the stream that the caller gave its context or on an own one. */
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "backend/comm.h"

typedef struct nccl_link {
	ncclComm_t comm;
	cudaStream_t stream;
	cudaEvent_t done;
	void *word; /* what a barrier sums */
	bool own_comm, own_stream;
	int rank, size, device;
	double timeout;
	sl_carrier_options host;
} nccl_link;

static sl_status fail_nccl(const sl_carrier_options *h, ncclResult_t error, const char *what) {
	if (error == ncclSuccess)
		return SL_OK;
	return h->fail(h->user, error == ncclRemoteError || error == ncclSystemError ? SL_ERR_COMM : SL_ERR_BACKEND,
				   "%s: %s", what, ncclGetErrorString(error));
}

static sl_status fail_cuda(const sl_carrier_options *h, cudaError_t error, const char *what) {
	if (error == cudaSuccess)
		return SL_OK;
	cudaGetLastError(); /* not for the caller's next call to find */
	return h->fail(h->user, SL_ERR_BACKEND, "%s: %s", what, cudaGetErrorString(error));
}

static sl_status nccl_unique_id(const sl_carrier_options *options, void *id) {
	ncclUniqueId made;
	_Static_assert(sizeof made == SL_COMM_ID_BYTES, "NCCL's ids have another size");
	SL_TRY(fail_nccl(options, ncclGetUniqueId(&made), "ncclGetUniqueId"));
	memcpy(id, &made, sizeof made);
	return SL_OK;
}

static sl_status join(nccl_link *link, const sl_comm_options *o) {
	const sl_carrier_options *h = &link->host;
	ncclUniqueId id;
	if (o->nccl_comm) {
		link->comm = o->nccl_comm;
		SL_TRY(fail_nccl(h, ncclCommUserRank(link->comm, &link->rank), "ncclCommUserRank"));
		return fail_nccl(h, ncclCommCount(link->comm, &link->size), "ncclCommCount");
	}
	memcpy(&id, o->unique_id, sizeof id);
	link->rank = o->rank;
	link->size = o->size;
	SL_TRY(fail_nccl(h, ncclCommInitRank(&link->comm, link->size, id, link->rank), "ncclCommInitRank"));
	link->own_comm = true;
	return SL_OK;
}

static void nccl_close(void *opaque, bool failed) {
	nccl_link *link = opaque;
	int previous;
	bool entered = cudaGetDevice(&previous) == cudaSuccess && cudaSetDevice(link->device) == cudaSuccess;
	if (link->own_comm) {
		if (failed)
			ncclCommAbort(link->comm);
		else
			ncclCommDestroy(link->comm);
	}
	if (link->done)
		cudaEventDestroy(link->done);
	if (link->word && (!failed || link->own_comm || !link->comm)) /* freeing waits for the GPU, which may be stuck */
		cudaFree(link->word);
	if (link->own_stream)
		cudaStreamDestroy(link->stream);
	if (entered)
		cudaSetDevice(previous);
	free(link);
}

static sl_status open_streams(nccl_link *link) {
	const sl_carrier_options *h = &link->host;
	if (!link->stream) {
		SL_TRY(fail_cuda(h, cudaStreamCreateWithFlags(&link->stream, cudaStreamNonBlocking), "cudaStreamCreate"));
		link->own_stream = true;
	}
	SL_TRY(fail_cuda(h, cudaMalloc(&link->word, sizeof(int32_t)), "cudaMalloc"));
	return fail_cuda(h, cudaEventCreateWithFlags(&link->done, cudaEventDisableTiming), "cudaEventCreate");
}

static nccl_link *make_link(const sl_carrier_options *o, double timeout) {
	nccl_link *link = calloc(1, sizeof *link);
	if (!link)
		return NULL;
	link->host = *o;
	link->timeout = timeout;
	link->device = o->device_index;
	link->stream = o->stream;
	return link;
}

static sl_status enter(const nccl_link *link, int *previous) {
	SL_TRY(fail_cuda(&link->host, cudaGetDevice(previous), "cudaGetDevice"));
	return fail_cuda(&link->host, cudaSetDevice(link->device), "cudaSetDevice");
}

static sl_status hand_over(nccl_link *link, sl_status status, void **result, sl_carrier_info *info) {
	int version = 0;
	if (status != SL_OK) {
		nccl_close(link, true);
		return status;
	}
	ncclGetVersion(&version);
	*info = (sl_carrier_info){.rank = link->rank,
							  .size = link->size,
							  .device_buffers = true,
							  .sixteen_bits = true,
							  .unordered = link->own_stream,
							  .stops = link->own_comm};
	snprintf(info->text, sizeof info->text, "NCCL %d, GPU %d", version, link->device);
	*result = link;
	return SL_OK;
}

static sl_status nccl_open(const sl_carrier_options *o, void **result, sl_carrier_info *info) {
	nccl_link *link = make_link(o, o->options.timeout);
	if (!link)
		return o->fail(o->user, SL_ERR_MEMORY, "no memory for an NCCL communicator");
	int previous = 0;
	sl_status status = enter(link, &previous);
	if (status == SL_OK) {
		status = open_streams(link);
		if (status == SL_OK)
			status = join(link, &o->options);
		cudaSetDevice(previous);
	}
	return hand_over(link, status, result, info);
}

#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 18, 1)
static sl_status split_on_device(nccl_link *link, ncclComm_t from, int color, int key) {
	const sl_carrier_options *h = &link->host;
	SL_TRY(open_streams(link));
	SL_TRY(fail_nccl(h, ncclCommSplit(from, color, key, &link->comm, NULL), "ncclCommSplit"));
	link->own_comm = true;
	SL_TRY(fail_nccl(h, ncclCommUserRank(link->comm, &link->rank), "ncclCommUserRank"));
	return fail_nccl(h, ncclCommCount(link->comm, &link->size), "ncclCommCount");
}

static sl_status nccl_split(void *opaque, const sl_carrier_options *o, int color, int key, void **result,
							sl_carrier_info *info) {
	const nccl_link *from = opaque;
	nccl_link *link = make_link(o, from->timeout);
	if (!link)
		return o->fail(o->user, SL_ERR_MEMORY, "no memory for an NCCL communicator");
	int previous = 0;
	sl_status status = enter(link, &previous);
	if (status == SL_OK) {
		status = split_on_device(link, from->comm, color, key);
		cudaSetDevice(previous);
	}
	return hand_over(link, status, result, info);
}
#else
static sl_status nccl_split(void *opaque, const sl_carrier_options *o, int color, int key, void **result,
							sl_carrier_info *info) {
	(void)opaque, (void)color, (void)key, (void)result, (void)info;
	return o->fail(o->user, SL_ERR_UNSUPPORTED, "NCCL before 2.18 cannot divide a communicator");
}
#endif

static ncclDataType_t type_of(sl_dtype dtype) {
	switch (dtype) {
	case SL_F32:
		return ncclFloat32;
	case SL_F64:
		return ncclFloat64;
	case SL_BF16:
		return ncclBfloat16;
	case SL_F16:
		return ncclFloat16;
	case SL_I32:
		return ncclInt32;
	default:
		return ncclInt64;
	}
}

static size_t element_bytes(sl_dtype dtype) {
	return dtype == SL_F64 || dtype == SL_I64 ? 8 : dtype == SL_F32 || dtype == SL_I32 ? 4 : 2;
}

static ncclResult_t exchange(nccl_link *link, const sl_comm_call *c) {
	size_t block = (size_t)c->count * element_bytes(c->dtype);
	ncclResult_t error = ncclGroupStart(), end;
	for (int r = 0; r < link->size && error == ncclSuccess; r++) {
		error = ncclSend((const char *)c->send + (size_t)r * block, (size_t)c->count, type_of(c->dtype), r, link->comm,
						 link->stream);
		if (error == ncclSuccess)
			error = ncclRecv((char *)c->recv + (size_t)r * block, (size_t)c->count, type_of(c->dtype), r, link->comm,
							 link->stream);
	}
	end = ncclGroupEnd();
	return error == ncclSuccess ? end : error;
}

static ncclResult_t launch(nccl_link *link, const sl_comm_call *c) {
	ncclRedOp_t op = c->op == SL_COMM_SUM ? ncclSum : c->op == SL_COMM_MAX ? ncclMax : ncclMin;
	ncclDataType_t type = type_of(c->dtype);
	size_t n = (size_t)c->count;
	switch (c->kind) {
	case SL_CALL_ALL_REDUCE:
		return ncclAllReduce(c->send, c->recv, n, type, op, link->comm, link->stream);
	case SL_CALL_ALL_GATHER:
		return ncclAllGather(c->send, c->recv, n, type, link->comm, link->stream);
	case SL_CALL_REDUCE_SCATTER:
		return ncclReduceScatter(c->send, c->recv, n, type, op, link->comm, link->stream);
	case SL_CALL_ALL_TO_ALL:
		return exchange(link, c);
	case SL_CALL_BROADCAST:
		return ncclBroadcast(c->recv, c->recv, n, type, c->root, link->comm, link->stream);
	case SL_CALL_BARRIER: /* NCCL has none: a sum of nothing much is one */
		return ncclAllReduce(link->word, link->word, 1, ncclInt32, ncclMax, link->comm, link->stream);
	default:
		return ncclInvalidArgument;
	}
}

static sl_status nccl_start(void *opaque, const sl_comm_call *call, int64_t number, void **ticket) {
	nccl_link *link = opaque;
	int previous;
	(void)number;
	*ticket = NULL;
	SL_TRY(enter(link, &previous));
	sl_status status = fail_nccl(&link->host, launch(link, call), "an NCCL call could not be started");
	cudaSetDevice(previous);
	if (link->own_stream || call->host_waits || call->kind == SL_CALL_BARRIER)
		*ticket = link;
	return status;
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The host waits, on the communicator's GPU. */
static sl_status await(const nccl_link *link) {
	const sl_carrier_options *h = &link->host;
	ncclResult_t error = ncclSuccess;
	SL_TRY(fail_cuda(h, cudaEventRecord(link->done, link->stream), "cudaEventRecord"));
	double began = now();
	for (;;) {
		cudaError_t state = cudaEventQuery(link->done);
		if (state != cudaErrorNotReady)
			return fail_cuda(h, state, "an NCCL call failed");
		cudaGetLastError();
		SL_TRY(fail_nccl(h, ncclCommGetAsyncError(link->comm, &error), "ncclCommGetAsyncError"));
		SL_TRY(fail_nccl(h, error, "an NCCL call failed"));
		if (now() - began > link->timeout)
			return h->fail(h->user, SL_ERR_COMM, "rank %d of %d waited %g s for the others in vain", link->rank,
						   link->size, link->timeout);
		nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
	}
}

/* On the caller's stream what follows waits by itself, unless the host has to. */
static sl_status nccl_finish(void *opaque, void *ticket) {
	const nccl_link *link = opaque;
	const sl_carrier_options *h = &link->host;
	ncclResult_t error = ncclSuccess;
	int previous;
	SL_TRY(fail_nccl(h, ncclCommGetAsyncError(link->comm, &error), "ncclCommGetAsyncError"));
	SL_TRY(fail_nccl(h, error, "an NCCL call failed"));
	if (!ticket)
		return SL_OK;
	SL_TRY(enter(link, &previous));
	sl_status status = await(link);
	cudaSetDevice(previous);
	if (status != SL_OK)
		return status;
	SL_TRY(fail_nccl(h, ncclCommGetAsyncError(link->comm, &error), "ncclCommGetAsyncError"));
	return fail_nccl(h, error, "an NCCL call failed");
}

/* NCCL knows of no job: the launcher sees this process fail. */
static void nccl_abort(void *opaque, int exit_status) {
	nccl_link *link = opaque;
	ncclCommAbort(link->comm);
	_Exit(exit_status);
}

static const sl_carrier carrier = {.abi = SL_CARRIER_ABI,
								   .name = "nccl",
								   .open = nccl_open,
								   .close = nccl_close,
								   .start = nccl_start,
								   .finish = nccl_finish,
								   .abort = nccl_abort,
								   .unique_id = nccl_unique_id,
								   .split = nccl_split};

__attribute__((visibility("default"))) const sl_carrier *sparselayer_carrier(uint32_t abi) {
	return abi == SL_CARRIER_ABI ? &carrier : NULL;
}
