/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts on the (fake) GPU, and memory there, for suites that use the public interface. */
#ifndef SL_TESTS_GPU_CONTEXT_H
#define SL_TESTS_GPU_CONTEXT_H

#include <cuda_runtime_api.h>

#include "core/context.h"
#include "fake_cuda.h"
#include "support/views.h"

static inline sl_context *open_with(sl_context_options *options) {
	sl_context *context = NULL;
	char error[256] = "";
	options->device = SL_DEVICE_CUDA;
	options->error = error;
	options->error_size = sizeof error;
	if (sl_context_create(&context, options) != SL_OK)
		sl_test_fail(__FILE__, __LINE__, "no context: %s", error);
	return context;
}

static inline sl_context *open_context(void) {
	sl_context_options options;
	fake_cuda_discard();
	SL_OPTIONS_INIT(options);
	options.seed = 1;
	return open_with(&options);
}

static inline void close_context(sl_context *context) {
	sl_context_destroy(context);
	CHECK(!*fake_cuda_fault());
	CHECK_EQ(fake_cuda_live(), 0);
}

/* Memory of the context's GPU with a copy of `from` (NULL: zero). */
static inline void *device_copy(sl_context *context, const void *from, size_t bytes) {
	sl_device_state *state = sli_device(context);
	void *to;
	CHECK_OK(context, state->backend->allocate(state->device, bytes, SL_MEMORY_DEVICE, &to));
	if (from)
		CHECK_OK(context, state->backend->copy(state->device, to, SL_MEMORY_DEVICE, from, SL_MEMORY_HOST, bytes));
	else
		CHECK_OK(context, state->backend->fill(state->device, to, 0, bytes));
	return to;
}

static inline void device_free(sl_context *context, void *pointer, size_t bytes) {
	sl_device_state *state = sli_device(context);
	state->backend->release(state->device, pointer, bytes, SL_MEMORY_DEVICE);
}

static inline void read_back(sl_context *context, void *to, const void *from, size_t bytes) {
	sl_device_state *state = sli_device(context);
	CHECK_OK(context, state->backend->copy(state->device, to, SL_MEMORY_HOST, from, SL_MEMORY_DEVICE, bytes));
	CHECK_OK(context, sl_context_synchronize(context));
}

static inline sl_dense on_device(void *data, int64_t rows, int64_t cols) {
	sl_dense v = sl_dense_view(data, SL_F32, rows, cols);
	v.device = SL_DEVICE_CUDA;
	return v;
}

#endif
