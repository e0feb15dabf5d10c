/* SPDX-License-Identifier: Apache-2.0 */
/* What a context is to the CUDA module, for suites that call it through its own entry point. */
#ifndef SL_TESTS_MODULE_H
#define SL_TESTS_MODULE_H

#include <stdarg.h>

#include <cuda_runtime_api.h>

#include "backend/backend.h"
#include "fake_cuda.h"
#include "support/check.h"

SL_API const sl_backend *sl_backend_module(uint32_t abi);

/* What a context is to the module. Host memory and the budget are calls that can fail as well. */
typedef struct test_host {
	sl_host host;
	char message[512], logged[256];
	sl_status status;
	long allocations;
	size_t reserved, budget;
} test_host;

static inline sl_status host_fail(void *user, sl_status status, const char *format, ...) {
	test_host *h = user;
	va_list list;
	va_start(list, format);
	vsnprintf(h->message, sizeof h->message, format, list);
	va_end(list);
	return h->status = status;
}

static inline void host_log(void *user, sl_log_level level, const char *line) {
	(void)level;
	snprintf(((test_host *)user)->logged, sizeof((test_host *)user)->logged, "%s", line);
}

static inline void *host_allocate(void *user, size_t bytes) {
	test_host *h = user;
	if (fake_cuda_take("host memory"))
		return NULL;
	h->allocations++;
	return aligned_alloc(64, (bytes + 64) / 64 * 64);
}

static inline void host_release(void *user, void *pointer, size_t bytes) {
	test_host *h = user;
	(void)bytes;
	h->allocations -= pointer != NULL;
	free(pointer);
}

static inline bool host_reserve(void *user, size_t bytes) {
	test_host *h = user;
	if (fake_cuda_take("budget") || (h->budget && h->reserved + bytes > h->budget))
		return false;
	h->reserved += bytes;
	return true;
}

static inline void host_unreserve(void *user, size_t bytes) {
	((test_host *)user)->reserved -= bytes;
}

static inline const sl_backend *backend(void) {
	const sl_backend *b = sl_backend_module(SL_BACKEND_ABI);
	CHECK(b && b->abi == SL_BACKEND_ABI && b->device == SL_DEVICE_CUDA);
	return b;
}

static inline void init_host(test_host *h) {
	*h = (test_host){.host = {.abi = SL_BACKEND_ABI,
							  .fail = host_fail,
							  .allocate = host_allocate,
							  .release = host_release,
							  .reserve = host_reserve,
							  .unreserve = host_unreserve,
							  .log = host_log,
							  .threads = 1}};
	h->host.user = h;
}

static inline void check_good(const test_host *h, sl_status status, int line) {
	if (status != SL_OK)
		sl_test_fail(__FILE__, line, "%s: %s", sl_status_name(status), h->message);
	if (*fake_cuda_fault())
		sl_test_fail(__FILE__, line, "misuse: %s", fake_cuda_fault());
}
#define GOOD(host, call) check_good(host, call, __LINE__)

/* The call is refused with a status and words, and none of the libraries was asked. */
static inline void check_refused(test_host *h, sl_status status, sl_status wanted, const char *text, int line) {
	if (status != wanted || !strstr(h->message, text))
		sl_test_fail(__FILE__, line, "%s (%s), not %s (%s)", sl_status_name(status), h->message, sl_status_name(wanted),
					 text);
	if (*fake_cuda_fault())
		sl_test_fail(__FILE__, line, "misuse: %s", fake_cuda_fault());
}
#define REFUSED(host, call, status, text) check_refused(host, call, status, text, __LINE__)

static inline void need_fake(void) {
	if (!fake_cuda_present())
		sl_test_skip("only on the fake runtime");
	fake_cuda_discard();
}

static inline void *open_module(test_host *h) {
	void *device = NULL;
	int gpus = 0;
	fake_cuda_discard();
	if (!fake_cuda_present() && cudaGetDeviceCount(&gpus) != cudaSuccess)
		sl_test_skip("no GPU");
	GOOD(h, backend()->open(&h->host, &device));
	CHECK(device);
	return device;
}

static inline void close_module(test_host *h, void *device) {
	int current = -1;
	backend()->close(device);
	CHECK(!*fake_cuda_fault());
	CHECK_EQ(fake_cuda_live(), 0);
	CHECK_EQ(h->allocations, 0);
	CHECK_EQ(h->reserved, 0);
	CHECK_EQ(fake_cuda_last_error(), 0);
	CHECK(cudaGetDevice(&current) == cudaSuccess && current == 0);
}

#endif
