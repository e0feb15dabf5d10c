/* SPDX-License-Identifier: Apache-2.0 */
/* The fake GPU itself: what tests of the module rest on. Order, captures and memory, as CUDA's manual has them. */
#include <cuda_runtime_api.h>

#include "fake_cuda.h"
#include "support/check.h"

static void need_fake(void) {
	if (!fake_cuda_present())
		sl_test_skip("only on the fake runtime");
	fake_cuda_discard();
}

#define CUDA(call) CHECK_EQ((int)(call), (int)cudaSuccess)

typedef struct addition {
	int *at, by;
} addition;

/* x = 2 x + by: the order of two of them shows. */
static void add(void *argument) {
	const addition *a = argument;
	*a->at = 2 * *a->at + a->by;
}

static cudaError_t launch(cudaStream_t stream, int *at, int by) {
	addition a = {at, by};
	return (cudaError_t)fake_cuda_launch("add", stream, add, &a, sizeof a);
}

static int read_back(const int *at, cudaStream_t stream) {
	int value;
	CUDA(cudaMemcpyAsync(&value, at, sizeof value, cudaMemcpyDeviceToHost, stream));
	CHECK(value != 0 && value != 1 && value != 4 && value != 5); /* not there before somebody waits */
	CUDA(cudaStreamSynchronize(stream));
	return value;
}

/* x = 0, then +1 on one stream and +2 on another: 4 in this order, 5 in the other. */
static int race(unsigned seed, bool event) {
	cudaStream_t one, two;
	cudaEvent_t done;
	int *x;
	fake_cuda_seed(seed);
	CUDA(cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking));
	CUDA(cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking));
	CUDA(cudaEventCreateWithFlags(&done, cudaEventDisableTiming));
	CUDA(cudaMalloc((void **)&x, sizeof *x));
	CUDA(cudaMemsetAsync(x, 0, sizeof *x, one));
	CUDA(cudaStreamSynchronize(one));
	CUDA(launch(one, x, 1));
	CUDA(cudaEventRecord(done, one));
	if (event)
		CUDA(cudaStreamWaitEvent(two, done, 0));
	CUDA(launch(two, x, 2));
	CUDA(cudaDeviceSynchronize());
	int value = read_back(x, two);
	CUDA(cudaFree(x));
	CUDA(cudaEventDestroy(done));
	CUDA(cudaStreamDestroy(one));
	CUDA(cudaStreamDestroy(two));
	return value;
}

SL_TEST(fake_cuda, streams_take_turns_and_events_order_them) {
	int seen[2] = {0};
	need_fake();
	for (unsigned seed = 0; seed < 32; seed++) {
		CHECK_EQ(race(seed, true), 4);
		int value = race(seed, false);
		CHECK(value == 4 || value == 5);
		seen[value - 4]++;
	}
	CHECK(seen[0] && seen[1]);
	CHECK_EQ(fake_cuda_live(), 0);
	CHECK(!*fake_cuda_fault());
}

SL_TEST(fake_cuda, nothing_runs_before_somebody_waits) {
	cudaStream_t stream;
	int *x, *pinned, first = 1;
	need_fake();
	CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	CUDA(cudaMalloc((void **)&x, sizeof *x));
	CUDA(cudaMallocHost((void **)&pinned, sizeof *pinned));
	*pinned = 0;
	CUDA(cudaMemcpyAsync(x, pinned, sizeof *x, cudaMemcpyHostToDevice, stream));
	*pinned = 1; /* too early: it is this that is copied */
	CUDA(launch(stream, x, 2));
	CHECK_EQ(read_back(x, stream), 4);
	CUDA(cudaMemcpyAsync(x, &first, sizeof *x, cudaMemcpyHostToDevice, stream));
	first = 7; /* pageable memory is read at once */
	CUDA(launch(stream, x, 2));
	CHECK_EQ(read_back(x, stream), 4);
	CUDA(cudaFree(x));
	CUDA(cudaFreeHost(pinned));
	CUDA(cudaStreamDestroy(stream));
	CHECK(!*fake_cuda_fault() && fake_cuda_live() == 0);
}

SL_TEST(fake_cuda, captured_work_runs_when_it_is_launched) {
	cudaStream_t stream;
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	enum cudaStreamCaptureStatus status;
	int *x, host = 0;
	need_fake();
	CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	CUDA(cudaMalloc((void **)&x, sizeof *x));
	CUDA(cudaMemsetAsync(x, 0, sizeof *x, stream));
	CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
	CUDA(cudaStreamIsCapturing(stream, &status));
	CHECK_EQ(status, cudaStreamCaptureStatusActive);
	CUDA(launch(stream, x, 1));
	CUDA(cudaStreamEndCapture(stream, &graph));
	CUDA(cudaGraphInstantiate(&exec, graph, 0));
	CUDA(cudaGraphDestroy(graph));
	for (int i = 0; i < 3; i++)
		CUDA(cudaGraphLaunch(exec, stream));
	CHECK_EQ(read_back(x, stream), 7);
	CUDA(cudaGraphExecDestroy(exec));
	CHECK(!*fake_cuda_fault());
	/* What breaks a capture. */
	void *p = NULL;
#define BREAKS(call, text)                                                                                             \
	do {                                                                                                               \
		CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));                                        \
		CHECK((call) != cudaSuccess);                                                                                  \
		CHECK(strstr(fake_cuda_fault(), text));                                                                        \
		if (cudaStreamEndCapture(stream, &graph) == cudaSuccess)                                                       \
			CUDA(cudaGraphDestroy(graph));                                                                             \
		fake_cuda_reset();                                                                                             \
	} while (0)
	BREAKS(cudaMalloc(&p, 10), "captures");
	BREAKS(cudaStreamSynchronize(stream), "captures");
	BREAKS(cudaFree(x), "captures");
	BREAKS(cudaMemcpyAsync(x, &host, sizeof host, cudaMemcpyHostToDevice, stream), "pageable");
	BREAKS(cudaMemcpyAsync(&host, x, sizeof host, cudaMemcpyDeviceToHost, stream), "pageable");
	CUDA(cudaFree(x));
	CUDA(cudaStreamDestroy(stream));
	CHECK_EQ(fake_cuda_live(), 0);
}

SL_TEST(fake_cuda, pools_are_ordered_by_their_stream) {
	cudaStream_t one, two;
	cudaMemPool_t pool;
	struct cudaMemPoolProps props = {.allocType = cudaMemAllocationTypePinned,
									 .location = {.type = cudaMemLocationTypeDevice}};
	bool seen = false;
	need_fake();
	CUDA(cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking));
	CUDA(cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking));
	CUDA(cudaMemPoolCreate(&pool, &props));
	for (unsigned seed = 0; seed < 16; seed++) {
		void *p;
		fake_cuda_seed(seed);
		CUDA(cudaMallocFromPoolAsync(&p, 100, pool, one));
		CUDA(cudaMemsetAsync(p, 0, 100, one));
		CUDA(cudaFreeAsync(p, one));
		CUDA(cudaStreamSynchronize(one));
		CHECK(!*fake_cuda_fault());
		CUDA(cudaMallocFromPoolAsync(&p, 100, pool, one));
		CUDA(cudaMemsetAsync(p, 0, 100, two)); /* no event */
		CUDA(cudaDeviceSynchronize());
		seen |= strstr(fake_cuda_fault(), "another stream") != NULL;
		CUDA(cudaFreeAsync(p, one));
		CUDA(cudaDeviceSynchronize());
		fake_cuda_reset();
	}
	CHECK(seen);
	CUDA(cudaMemPoolDestroy(pool));
	CUDA(cudaStreamDestroy(one));
	CUDA(cudaStreamDestroy(two));
	CHECK_EQ(fake_cuda_live(), 0);
}

SL_TEST(fake_cuda, a_lost_gpu_stays_lost) {
	cudaStream_t stream;
	int *x;
	need_fake();
	CUDA(cudaMalloc((void **)&x, sizeof *x));
	CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	fake_cuda_lose_at(1);
	CUDA(cudaMemsetAsync(x, 0, sizeof *x, stream));
	CHECK_EQ(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
	CHECK_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
	CHECK_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
	CHECK_EQ(cudaMemsetAsync(x, 0, sizeof *x, stream), cudaErrorIllegalAddress);
	CHECK_EQ(cudaFree(x), cudaErrorIllegalAddress);
	CHECK_EQ(cudaStreamDestroy(stream), cudaErrorIllegalAddress);
	CHECK_EQ(fake_cuda_live(), 0);
	fake_cuda_reset();
}

static void write_behind(void *argument) {
	const addition *a = argument;
	a->at[a->by] = 1;
}

/* Without ASan, which sees it at once. */
SL_TEST(fake_cuda, what_was_written_behind_an_allocation_is_seen) {
#ifndef __SANITIZE_ADDRESS__
	addition a = {.by = 10};
	need_fake();
	CUDA(cudaMalloc((void **)&a.at, 40));
	CUDA((cudaError_t)fake_cuda_launch("write_behind", NULL, write_behind, &a, sizeof a));
	CUDA(cudaFree(a.at));
	CHECK(strstr(fake_cuda_fault(), "byte 0 behind an allocation of 40 bytes"));
	fake_cuda_reset();
#else
	(void)write_behind;
#endif
}
