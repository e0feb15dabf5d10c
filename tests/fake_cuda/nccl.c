/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NCCL on the fake GPU: the entry points that comm/nccl.c calls, ranks being processes of this machine that meet in
 * shared memory by their unique id. A call is work of its stream: it is taken up when the stream comes to it, waits
 * there for the other ranks' calls, and holds up what is behind it, as on a GPU. What ranks hand over must be alike
 * (kind, count, type, root); buffers must be memory of the communicator's GPU. A rank that does not come within
 * FAKE_NCCL_SECONDS (default 20) is a remote error of the communicator, which the real one tells when its peer's
 * process ends.
 */
#include <fcntl.h>
#include <nccl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fake_nccl.h"
#include "state.h"

enum { MOST_RANKS = 8, AREA = 1 << 22 };

typedef enum kind { ALL_REDUCE = 1, ALL_GATHER, REDUCE_SCATTER, BROADCAST, EXCHANGE } kind;

/* What a rank hands over: its call, and `bytes` of its area. */
typedef struct hand {
	_Atomic long arrived, departed; /* calls so far */
	long kind, count, type, op, root;
	long offsets[MOST_RANKS + 1]; /* of an exchange: what goes to whom */
	int color, key;
} hand;

typedef struct meeting {
	_Atomic int joined, split[2];
	hand hands[MOST_RANKS];
	char areas[MOST_RANKS][AREA];
} meeting;

struct ncclComm {
	meeting *m;
	int rank, size, device, splits;
	long queued; /* calls */
	ncclResult_t async;
	char name[64];
};

/* A call on its stream. The communicator may be gone when its turn comes. */
typedef struct work {
	struct ncclComm *comm;
	kind kind;
	const void *send, *sends[MOST_RANKS];
	void *recv, *recvs[MOST_RANKS];
	size_t count, lengths[MOST_RANKS];
	ncclDataType_t type;
	ncclRedOp_t op;
	int root;
	long number;
	double began; /* to wait; the queue has the one copy of this */
} work;

static long live;
static struct {
	int depth;
	bool used;
	work work;
	cudaStream_t stream;
} group;

long fake_nccl_live(void) {
	return live;
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double patience(void) {
	const char *text = getenv("FAKE_NCCL_SECONDS");
	return text ? atof(text) : 20;
}

static size_t size_of(ncclDataType_t type) {
	switch (type) {
	case ncclFloat16:
	case ncclBfloat16:
		return 2;
	case ncclFloat32:
	case ncclInt32:
		return 4;
	case ncclFloat64:
	case ncclInt64:
		return 8;
	default:
		return 0;
	}
}

/* Sums are kept in double, and whole numbers as they are. */
static double load(const char *at, ncclDataType_t type, size_t i) {
	return type == ncclInt32   ? (double)((const int32_t *)(const void *)at)[i]
		   : type == ncclInt64 ? (double)((const int64_t *)(const void *)at)[i]
							   : fake_load(at,
										   type == ncclFloat32   ? CUDA_R_32F
										   : type == ncclFloat64 ? CUDA_R_64F
										   : type == ncclFloat16 ? CUDA_R_16F
																 : CUDA_R_16BF,
										   (int64_t)i);
}

static void store(char *at, ncclDataType_t type, size_t i, double value) {
	if (type == ncclInt32)
		((int32_t *)(void *)at)[i] = (int32_t)value;
	else if (type == ncclInt64)
		((int64_t *)(void *)at)[i] = (int64_t)value;
	else
		fake_store(at,
				   type == ncclFloat32   ? CUDA_R_32F
				   : type == ncclFloat64 ? CUDA_R_64F
				   : type == ncclFloat16 ? CUDA_R_16F
										 : CUDA_R_16BF,
				   (int64_t)i, value);
}

/* Bytes of what a rank sends. */
static size_t sent_bytes(const work *w) {
	size_t n = w->count * size_of(w->type), all = 0;
	switch (w->kind) {
	case REDUCE_SCATTER:
		return n * (size_t)w->comm->size;
	case BROADCAST:
		return w->comm->rank == w->root ? n : 0;
	case EXCHANGE:
		for (int r = 0; r < w->comm->size; r++)
			all += w->lengths[r];
		return all;
	default:
		return n;
	}
}

static bool everyone(const struct ncclComm *c, long number, bool departed) {
	for (int r = 0; r < c->size; r++)
		if (atomic_load(departed ? &c->m->hands[r].departed : &c->m->hands[r].arrived) < number)
			return false;
	return true;
}

static void hand_over(const work *w) {
	struct ncclComm *c = w->comm;
	hand *h = &c->m->hands[c->rank];
	char *area = c->m->areas[c->rank];
	h->kind = w->kind;
	h->count = (long)w->count;
	h->type = w->type;
	h->op = w->op;
	h->root = w->root;
	if (w->kind == EXCHANGE) {
		h->offsets[0] = 0;
		for (int r = 0; r < c->size; r++) {
			h->offsets[r + 1] = h->offsets[r] + (long)w->lengths[r];
			memcpy(area + h->offsets[r], w->sends[r], w->lengths[r]);
		}
	} else if (sent_bytes(w)) {
		memcpy(area, w->send, sent_bytes(w));
	}
	atomic_store(&h->arrived, w->number);
}

/* Whether the call may go on: everybody is there, or nobody will come any more. */
static bool ready(void *argument) {
	work *w = argument;
	struct ncclComm *c = w->comm;
	if (c->async != ncclSuccess)
		return true;
	if (atomic_load(&c->m->hands[c->rank].arrived) < w->number) {
		if (w->began == 0)
			w->began = now();
		if (everyone(c, w->number - 1, true))
			hand_over(w);
	}
	if (everyone(c, w->number, false))
		return true;
	if (now() - (w->began > 0 ? w->began : (w->began = now())) < patience())
		return false;
	c->async = ncclRemoteError;
	return true;
}

static void reduce(const work *w, size_t from) {
	const struct ncclComm *c = w->comm;
	size_t size = size_of(w->type);
	for (size_t i = 0; i < w->count; i++) {
		double all = load(c->m->areas[0] + from * size, w->type, i);
		for (int r = 1; r < c->size; r++) {
			double one = load(c->m->areas[r] + from * size, w->type, i);
			all = w->op == ncclSum ? all + one : w->op == ncclMax ? (one > all ? one : all) : (one < all ? one : all);
		}
		store(w->recv, w->type, i, all);
	}
}

static void receive(const work *w) {
	const struct ncclComm *c = w->comm;
	size_t n = w->count * size_of(w->type);
	switch (w->kind) {
	case ALL_REDUCE:
		reduce(w, 0);
		break;
	case REDUCE_SCATTER:
		reduce(w, (size_t)c->rank * w->count);
		break;
	case ALL_GATHER:
		for (int r = 0; r < c->size; r++)
			memcpy((char *)w->recv + (size_t)r * n, c->m->areas[r], n);
		break;
	case BROADCAST:
		memcpy(w->recv, c->m->areas[w->root], n);
		break;
	case EXCHANGE:
		for (int r = 0; r < c->size; r++)
			memcpy(w->recvs[r], c->m->areas[r] + c->m->hands[r].offsets[c->rank], w->lengths[r]);
	}
}

static void run(void *argument) {
	const work *w = argument;
	struct ncclComm *c = w->comm;
	if (c->async != ncclSuccess)
		return;
	const hand *own = &c->m->hands[c->rank];
	for (int r = 0; r < c->size; r++) {
		const hand *h = &c->m->hands[r];
		if (h->kind != own->kind || h->count != own->count || h->type != own->type || h->op != own->op ||
			h->root != own->root)
			fake_fault("NCCL", "rank %d is in another call than rank %d", r, c->rank);
	}
	receive(w);
	atomic_store(&c->m->hands[c->rank].departed, w->number);
}

static ncclResult_t queue(const char *call, work *w, cudaStream_t stream) {
	struct ncclComm *c = w->comm;
	if (c->async != ncclSuccess)
		return c->async;
	if (fake_current_device() != c->device || !fake_stream(call, stream)) {
		fake_fault(call, "GPU %d is current; the communicator's is %d", fake_current_device(), c->device);
		return ncclInvalidArgument;
	}
	if (!size_of(w->type) || sent_bytes(w) > AREA)
		return ncclInvalidArgument;
	w->number = ++c->queued;
	return fake_enqueue_when(call, stream, ready, run, w, sizeof *w) == cudaSuccess ? ncclSuccess
																					: ncclUnhandledCudaError;
}

#define TAKE_NCCL(call) TAKE(call, ncclSystemError)
#define ON_DEVICE(call, what, pointer, bytes)                                                                          \
	do {                                                                                                               \
		if ((bytes) > 0 && !fake_on_device(call, what, pointer, bytes))                                                \
			return ncclInvalidArgument;                                                                                \
	} while (0)

ncclResult_t ncclAllReduce(const void *send, void *recv, size_t count, ncclDataType_t type, ncclRedOp_t op,
						   ncclComm_t comm, cudaStream_t stream) {
	TAKE_NCCL("ncclAllReduce");
	ON_DEVICE("ncclAllReduce", "sendbuff", send, count * size_of(type));
	ON_DEVICE("ncclAllReduce", "recvbuff", recv, count * size_of(type));
	return queue(
		"ncclAllReduce",
		&(work){.comm = comm, .kind = ALL_REDUCE, .send = send, .recv = recv, .count = count, .type = type, .op = op},
		stream);
}

ncclResult_t ncclAllGather(const void *send, void *recv, size_t count, ncclDataType_t type, ncclComm_t comm,
						   cudaStream_t stream) {
	TAKE_NCCL("ncclAllGather");
	ON_DEVICE("ncclAllGather", "sendbuff", send, count * size_of(type));
	ON_DEVICE("ncclAllGather", "recvbuff", recv, count * size_of(type) * (size_t)comm->size);
	return queue("ncclAllGather",
				 &(work){.comm = comm, .kind = ALL_GATHER, .send = send, .recv = recv, .count = count, .type = type},
				 stream);
}

ncclResult_t ncclReduceScatter(const void *send, void *recv, size_t count, ncclDataType_t type, ncclRedOp_t op,
							   ncclComm_t comm, cudaStream_t stream) {
	TAKE_NCCL("ncclReduceScatter");
	ON_DEVICE("ncclReduceScatter", "sendbuff", send, count * size_of(type) * (size_t)comm->size);
	ON_DEVICE("ncclReduceScatter", "recvbuff", recv, count * size_of(type));
	return queue(
		"ncclReduceScatter",
		&(work){
			.comm = comm, .kind = REDUCE_SCATTER, .send = send, .recv = recv, .count = count, .type = type, .op = op},
		stream);
}

ncclResult_t ncclBroadcast(const void *send, void *recv, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
						   cudaStream_t stream) {
	TAKE_NCCL("ncclBroadcast");
	ON_DEVICE("ncclBroadcast", "recvbuff", recv, count * size_of(type));
	if (comm->rank == root)
		ON_DEVICE("ncclBroadcast", "sendbuff", send, count * size_of(type));
	return queue(
		"ncclBroadcast",
		&(work){
			.comm = comm, .kind = BROADCAST, .send = send, .recv = recv, .count = count, .type = type, .root = root},
		stream);
}

ncclResult_t ncclGroupStart(void) {
	TAKE_NCCL("ncclGroupStart");
	if (!group.depth++)
		group.work = (work){.kind = EXCHANGE, .type = ncclInt32};
	return ncclSuccess;
}

/* Of a group that exchanges, one message each way with each rank. */
static ncclResult_t add(const char *call, bool sends, void *data, size_t bytes, int peer, ncclComm_t comm,
						cudaStream_t stream) {
	if (!group.depth || peer < 0 || peer >= comm->size || (group.work.comm && group.work.comm != comm)) {
		fake_fault(call, "outside of a group, or to a rank that is none");
		return ncclInvalidUsage;
	}
	ON_DEVICE(call, "buffer", data, bytes);
	group.work.comm = comm;
	group.stream = stream;
	group.work.lengths[peer] = bytes;
	if (sends)
		group.work.sends[peer] = data;
	else
		group.work.recvs[peer] = data;
	return ncclSuccess;
}

ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
					  cudaStream_t stream) {
	TAKE_NCCL("ncclSend");
	return add("ncclSend", true, (void *)(uintptr_t)send, count * size_of(type), peer, comm, stream);
}

ncclResult_t ncclRecv(void *recv, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
	TAKE_NCCL("ncclRecv");
	return add("ncclRecv", false, recv, count * size_of(type), peer, comm, stream);
}

ncclResult_t ncclGroupEnd(void) {
	bool failing = fake_take("ncclGroupEnd");
	if (!group.depth || --group.depth)
		return group.depth ? ncclSuccess : ncclInvalidUsage;
	work w = group.work;
	if (failing)
		return ncclSystemError;
	for (int r = 0; w.comm && r < w.comm->size; r++)
		if (!w.sends[r] || !w.recvs[r])
			return ncclInvalidUsage;
	return w.comm ? queue("ncclGroupEnd", &w, group.stream) : ncclSuccess;
}

/* Wait on the host until `counter` is at least `wanted`. */
static bool wait_for(_Atomic int *counter, int wanted) {
	for (double began = now(); atomic_load(counter) < wanted; sched_yield())
		if (now() - began > patience())
			return false;
	return true;
}

static ncclResult_t meet(ncclComm_t *result, const char *name, int size, int rank) {
	if (size < 1 || size > MOST_RANKS || rank < 0 || rank >= size)
		return ncclInvalidArgument;
	int fd = shm_open(name, O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(meeting))) {
		if (fd >= 0)
			close(fd);
		return ncclSystemError;
	}
	meeting *m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	struct ncclComm *c = calloc(1, sizeof *c);
	if (m == MAP_FAILED || !c) {
		free(c);
		return ncclSystemError;
	}
	*c = (struct ncclComm){.m = m, .rank = rank, .size = size, .device = fake_current_device()};
	snprintf(c->name, sizeof c->name, "%s", name);
	atomic_fetch_add(&m->joined, 1);
	bool all = wait_for(&m->joined, size);
	(void)shm_unlink(name); /* everybody has it, or it is given up */
	if (!all) {
		munmap(m, sizeof *m);
		free(c);
		return ncclRemoteError;
	}
	live++;
	*result = c;
	return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
	TAKE_NCCL("ncclGetUniqueId");
	memset(id, 0, sizeof *id);
	static int made;
	snprintf(id->internal, sizeof id->internal, "/sparselayer-fake-nccl-%d-%d", (int)getpid(), made++);
	return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int size, ncclUniqueId id, int rank) {
	TAKE_NCCL("ncclCommInitRank");
	id.internal[40] = 0;
	if (id.internal[0] != '/') {
		fake_fault("ncclCommInitRank", "the id is none that ncclGetUniqueId() made");
		return ncclInvalidArgument;
	}
	return meet(comm, id.internal, size, rank);
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *part, ncclConfig_t *config) {
	TAKE_NCCL("ncclCommSplit");
	meeting *m = comm->m;
	int before = 0, size = 0, turn = comm->splits++;
	(void)config;
	m->hands[comm->rank].color = color;
	m->hands[comm->rank].key = key;
	atomic_fetch_add(&m->split[0], 1);
	if (!wait_for(&m->split[0], (turn + 1) * comm->size))
		return ncclRemoteError;
	for (int r = 0; r < comm->size; r++) {
		const hand *h = &m->hands[r];
		bool mine = h->color == color;
		size += mine;
		before += mine && (h->key < key || (h->key == key && r < comm->rank));
	}
	/* Nobody changes what it gave before all have looked. */
	atomic_fetch_add(&m->split[1], 1);
	if (!wait_for(&m->split[1], (turn + 1) * comm->size))
		return ncclRemoteError;
	char name[96];
	snprintf(name, sizeof name, "%.60s.%d.%d", comm->name, turn, color);
	return meet(part, name, size, before);
}

static void leave(ncclComm_t comm) {
	/* Work that names it may still be queued. */
	fake_drain_all();
	munmap(comm->m, sizeof *comm->m);
	free(comm);
	live--;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
	bool failing = fake_take("ncclCommDestroy");
	leave(comm);
	return failing ? ncclSystemError : ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
	bool failing = fake_take("ncclCommAbort");
	comm->async = ncclInternalError; /* what waits is given up */
	leave(comm);
	return failing ? ncclSystemError : ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
	TAKE_NCCL("ncclCommGetAsyncError");
	*error = comm->async;
	return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count) {
	TAKE_NCCL("ncclCommCount");
	*count = comm->size;
	return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank) {
	TAKE_NCCL("ncclCommUserRank");
	*rank = comm->rank;
	return ncclSuccess;
}

ncclResult_t ncclGetVersion(int *version) {
	*version = NCCL_VERSION_CODE;
	return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
	return result == ncclRemoteError    ? "remote process exited or there was a network error"
		   : result == ncclSystemError  ? "unhandled system error"
		   : result == ncclInvalidUsage ? "invalid usage"
										: "an error of the fake NCCL";
}
