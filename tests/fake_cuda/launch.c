/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels of the module: queued as any work, run as fibers. */
#include "fake_cuda.h"
#include "fibers/fibers.h"

int sl_fibers_submit(const char *kernel, void *stream, void (*run)(void *argument), const void *argument,
					 uint64_t bytes) {
	return fake_cuda_launch(kernel, stream, run, argument, bytes);
}

void sl_fibers_faulted(const char *kernel, const char *fault) {
	(void)kernel;
	fake_cuda_misuse("kernel", "%s", fault);
	sl_fibers_reset();
}
