/* SPDX-License-Identifier: Apache-2.0 */
/* The module as a guest: memory that is not its own, the caller's GPU and errors, losses, forks and captures. */
#include <sys/wait.h>
#include <unistd.h>

#include "support/module.h"

/* An allocator of the caller's that counts. */
typedef struct counting {
	long live, calls;
	void *stream;
	bool refuse;
	int wrong; /* calls with another GPU current */
} counting;

static void *give(void *user, size_t bytes, sl_memory kind, void *stream) {
	counting *c = user;
	void *p = NULL;
	int current = -1;
	c->calls++;
	c->stream = stream;
	c->wrong += cudaGetDevice(&current) != cudaSuccess || current != 1;
	if (c->refuse || (kind == SL_MEMORY_PINNED ? cudaMallocHost(&p, bytes) : cudaMalloc(&p, bytes)) != cudaSuccess)
		return NULL;
	c->live++;
	return p;
}

static void take(void *user, void *pointer, size_t bytes, sl_memory kind, void *stream) {
	counting *c = user;
	(void)bytes, (void)stream;
	c->live--;
	CHECK((kind == SL_MEMORY_PINNED ? cudaFreeHost(pointer) : cudaFree(pointer)) == cudaSuccess);
}

SL_TEST(cuda_guest, memory_of_the_callers) {
	counting c = {0};
	test_host h;
	init_host(&h);
	need_fake();
	h.host.device_index = 1;
	h.host.device_allocator = (sl_device_allocator){&c, give, take};
	void *device = NULL, *p, *q;
	const sl_backend *b = backend();
	GOOD(&h, b->open(&h.host, &device));
	GOOD(&h, b->allocate(device, 100, SL_MEMORY_DEVICE, &p));
	GOOD(&h, b->allocate(device, 100, SL_MEMORY_PINNED, &q));
	CHECK(c.live == 2 && c.calls == 2 && c.stream && c.wrong == 0);
	CHECK_EQ(fake_cuda_count("cudaMemPoolCreate"), 0);
	c.refuse = true;
	void *r;
	REFUSED(&h, b->allocate(device, 100, SL_MEMORY_DEVICE, &r), SL_ERR_MEMORY, "device_allocator gave nothing");
	CHECK(!r && h.reserved == 200);
	b->release(device, p, 100, SL_MEMORY_DEVICE);
	b->release(device, q, 100, SL_MEMORY_PINNED);
	CHECK_EQ(c.live, 0);
	close_module(&h, device);
}

SL_TEST(cuda_guest, pools_and_what_is_without_them) {
	test_host h;
	init_host(&h);
	need_fake();
	for (int pools = 1; pools >= 0; pools--) {
		void *device = NULL, *p;
		const sl_backend *b = backend();
		fake_cuda_discard();
		fake_cuda_pools(pools);
		GOOD(&h, b->open(&h.host, &device));
		GOOD(&h, b->allocate(device, 100, SL_MEMORY_DEVICE, &p));
		GOOD(&h, b->fill(device, p, 0, 100));
		b->release(device, p, 100, SL_MEMORY_DEVICE);
		CHECK_EQ(fake_cuda_count("cudaMallocFromPoolAsync"), pools);
		CHECK_EQ(fake_cuda_count("cudaMalloc"), !pools);
		GOOD(&h, b->trim(device));
		CHECK_EQ(fake_cuda_count("cudaMemPoolTrimTo"), pools);
		CHECK(pools || strstr(h.logged, "no memory pools"));
		close_module(&h, device);
	}
}

SL_TEST(cuda_guest, pointers_are_looked_at) {
	test_host h;
	init_host(&h);
	void *device = open_module(&h), *p, *pinned, *other;
	const sl_backend *b = backend();
	float host[4];
	int gpus = 0;
	GOOD(&h, b->allocate(device, 64, SL_MEMORY_DEVICE, &p));
	GOOD(&h, b->allocate(device, 64, SL_MEMORY_PINNED, &pinned));
	GOOD(&h, b->check(device, p, 4, "X"));
	GOOD(&h, b->check(device, (char *)p + 4, 4, "X")); /* any element is aligned enough */
	REFUSED(&h, b->check(device, (char *)p + 2, 4, "X"), SL_ERR_LAYOUT, "X is at");
	REFUSED(&h, b->check(device, host, 4, "Y"), SL_ERR_DEVICE, "Y is not memory that CUDA allocated");
	REFUSED(&h, b->check(device, pinned, 4, "Y"), SL_ERR_DEVICE, "Y is pinned memory of the host");
	if (cudaGetDeviceCount(&gpus) == cudaSuccess && gpus > 1) {
		CHECK(cudaSetDevice(1) == cudaSuccess && cudaMalloc(&other, 64) == cudaSuccess);
		REFUSED(&h, b->check(device, other, 4, "Z"), SL_ERR_DEVICE, "Z is memory of GPU 1; the context runs on GPU 0");
		CHECK(cudaFree(other) == cudaSuccess && cudaSetDevice(0) == cudaSuccess);
	}
	b->release(device, p, 64, SL_MEMORY_DEVICE);
	b->release(device, pinned, 64, SL_MEMORY_PINNED);
	close_module(&h, device);
}

/* A context a GPU, taking turns: each call makes its own current and gives the caller's back. */
SL_TEST(cuda_guest, two_gpus_in_one_process) {
	test_host h[2];
	void *device[2], *p[2];
	const sl_backend *b = backend();
	need_fake();
	for (int i = 0; i < 2; i++) {
		init_host(&h[i]);
		h[i].host.device_index = i;
		GOOD(&h[i], b->open(&h[i].host, &device[i]));
	}
	for (int round = 0; round < 2; round++) {
		CHECK(cudaSetDevice(1 - round) == cudaSuccess);
		for (int i = 0; i < 2; i++) {
			GOOD(&h[i], b->allocate(device[i], 64, SL_MEMORY_DEVICE, &p[i]));
			GOOD(&h[i], b->fill(device[i], p[i], i, 64));
			GOOD(&h[i], b->synchronize(device[i]));
			b->release(device[i], p[i], 64, SL_MEMORY_DEVICE);
			int current = -1;
			CHECK(cudaGetDevice(&current) == cudaSuccess && current == 1 - round);
		}
	}
	b->close(device[0]);
	b->close(device[1]);
	CHECK(!*fake_cuda_fault() && fake_cuda_live() == 0);
	CHECK(cudaSetDevice(0) == cudaSuccess);
}

/* An error that the caller has not asked for yet is there when it does. */
SL_TEST(cuda_guest, a_pending_error_stays_pending) {
	test_host h;
	init_host(&h);
	void *device = open_module(&h), *p;
	const sl_backend *b = backend();
	if (!fake_cuda_present()) {
		close_module(&h, device);
		sl_test_skip("only on the fake runtime");
	}
	CHECK(cudaSetDevice(99) != cudaSuccess);
	GOOD(&h, b->allocate(device, 64, SL_MEMORY_DEVICE, &p));
	GOOD(&h, b->fill(device, p, 0, 64));
	b->release(device, p, 64, SL_MEMORY_DEVICE);
	CHECK_EQ(fake_cuda_last_error(), cudaErrorInvalidDevice);
	CHECK(b->allocate(device, (size_t)1 << 40, SL_MEMORY_DEVICE, &p) == SL_ERR_MEMORY);
	CHECK(fake_cuda_last_error() != 0);
	(void)cudaGetLastError();
	CHECK(b->allocate(device, (size_t)1 << 40, SL_MEMORY_DEVICE, &p) == SL_ERR_MEMORY);
	CHECK_EQ(fake_cuda_last_error(), 0);
	close_module(&h, device);
}

SL_TEST(cuda_guest, a_lost_context_says_so_and_can_be_destroyed) {
	test_host h;
	init_host(&h);
	void *device = open_module(&h), *p, *event;
	const sl_backend *b = backend();
	if (!fake_cuda_present()) {
		close_module(&h, device);
		sl_test_skip("only on the fake runtime");
	}
	GOOD(&h, b->allocate(device, 64, SL_MEMORY_DEVICE, &p));
	GOOD(&h, b->event_create(device, &event));
	fake_cuda_lose_at(2); /* after cudaGetDevice and cudaMemsetAsync's turn: what waits finds it */
	sl_status status = b->fill(device, p, 0, 64);
	if (status == SL_OK)
		status = b->synchronize(device);
	REFUSED(&h, status, SL_ERR_DEVICE_LOST, "illegal memory access");
	CHECK(strstr(h.logged, "illegal memory access"));
	h.logged[0] = 0;
	long calls = fake_cuda_calls();
	REFUSED(&h, b->fill(device, p, 0, 64), SL_ERR_DEVICE_LOST, "lost to an earlier error");
	REFUSED(&h, b->synchronize(device), SL_ERR_DEVICE_LOST, "lost to an earlier error");
	CHECK_EQ(fake_cuda_calls(), calls); /* CUDA is not asked again */
	CHECK(!h.logged[0]);                /* and it is logged once */
	b->event_destroy(device, event);
	b->release(device, p, 64, SL_MEMORY_DEVICE);
	b->close(device);
	CHECK(!*fake_cuda_fault());
	CHECK_EQ(fake_cuda_live(), 0);
	CHECK(h.allocations == 0 && h.reserved == 0);
	fake_cuda_reset();
}

SL_TEST(cuda_guest, a_forked_child_gets_a_status) {
	test_host h;
	init_host(&h);
	void *device = open_module(&h), *p;
	const sl_backend *b = backend();
	GOOD(&h, b->allocate(device, 64, SL_MEMORY_DEVICE, &p));
	pid_t child = fork();
	CHECK(child >= 0);
	if (!child) { /* says what was wrong by its exit code */
		void *q;
		int wrong = b->allocate(device, 10, SL_MEMORY_DEVICE, &q) != SL_ERR_FORKED || !strstr(h.message, "fork");
		long calls = fake_cuda_calls();
		wrong += 2 * (b->synchronize(device) != SL_ERR_FORKED);
		b->release(device, p, 64, SL_MEMORY_DEVICE);
		b->close(device);
		wrong += 4 * (fake_cuda_calls() != calls) + 8 * (h.allocations != 0 || h.reserved != 0);
		_exit(wrong);
	}
	int state = 0;
	CHECK(waitpid(child, &state, 0) == child);
	CHECK(WIFEXITED(state));
	CHECK_EQ(WEXITSTATUS(state), 0);
	GOOD(&h, b->fill(device, p, 0, 64));
	b->release(device, p, 64, SL_MEMORY_DEVICE);
	close_module(&h, device);
}

/* What would allocate, wait or read the host's memory is refused, and the capture stays whole. */
SL_TEST(cuda_guest, captures_are_not_broken) {
	test_host h;
	init_host(&h);
	cudaStream_t stream;
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	void *device = NULL, *p, *q;
	unsigned char host[64];
	int gpus = 0;
	const sl_backend *b = backend();
	fake_cuda_discard();
	if (!fake_cuda_present() && cudaGetDeviceCount(&gpus) != cudaSuccess)
		sl_test_skip("no GPU");
	CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
	h.host.stream = stream;
	GOOD(&h, b->open(&h.host, &device));
	GOOD(&h, b->allocate(device, 64, SL_MEMORY_DEVICE, &p));
	GOOD(&h, b->allocate(device, 64, SL_MEMORY_DEVICE, &q));
	GOOD(&h, b->fill(device, p, 7, 64));
	CHECK(!b->capturing(device));
	CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
	CHECK(b->capturing(device));
	void *r;
	REFUSED(&h, b->allocate(device, 64, SL_MEMORY_DEVICE, &r), SL_ERR_STATE, "this would allocate");
	REFUSED(&h, b->synchronize(device), SL_ERR_STATE, "this would wait");
	REFUSED(&h, b->copy(device, host, SL_MEMORY_HOST, p, SL_MEMORY_DEVICE, 64), SL_ERR_STATE, "this would copy");
	REFUSED(&h, b->trim(device), SL_ERR_STATE, "give back");
	GOOD(&h, b->fill(device, p, 1, 32));
	b->release(device, q, 64, SL_MEMORY_DEVICE); /* later */
	CHECK(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
	CHECK(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
	CHECK(cudaGraphDestroy(graph) == cudaSuccess);
	GOOD(&h, b->copy(device, host, SL_MEMORY_HOST, p, SL_MEMORY_DEVICE, 64));
	GOOD(&h, b->synchronize(device));
	CHECK(host[0] == 7 && host[63] == 7);
	CHECK(cudaGraphLaunch(exec, stream) == cudaSuccess);
	GOOD(&h, b->copy(device, host, SL_MEMORY_HOST, p, SL_MEMORY_DEVICE, 64));
	GOOD(&h, b->synchronize(device));
	CHECK(host[0] == 1 && host[31] == 1 && host[32] == 7);
	CHECK(cudaGraphExecDestroy(exec) == cudaSuccess);
	b->release(device, p, 64, SL_MEMORY_DEVICE);
	b->close(device);
	CHECK(cudaStreamDestroy(stream) == cudaSuccess);
	CHECK(!*fake_cuda_fault());
	CHECK_EQ(fake_cuda_live(), 0);
	CHECK(h.allocations == 0 && h.reserved == 0);
}

static sl_status queue_fill(void *argument) {
	void **at = argument;
	return backend()->fill(at[0], at[1], 0, 64);
}

SL_TEST(cuda_guest, time_is_the_devices) {
	test_host h;
	init_host(&h);
	void *device = open_module(&h), *p;
	const sl_backend *b = backend();
	double seconds = 0;
	GOOD(&h, b->allocate(device, 64, SL_MEMORY_DEVICE, &p));
	fake_cuda_cost("cudaMemsetAsync", 250);
	GOOD(&h, b->time(device, queue_fill, (void *[]){device, p}, &seconds));
	if (fake_cuda_present())
		CHECK_NEAR(seconds, 250e-6, 1e-9);
	CHECK(seconds > 0);
	b->release(device, p, 64, SL_MEMORY_DEVICE);
	close_module(&h, device);
}
