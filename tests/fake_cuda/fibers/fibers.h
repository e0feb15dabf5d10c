/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels on the host: the control of the harness, for tests in C. docs/decisions/kernels-on-fibers.md says what it
 * shows and what it cannot. Everything runs on the thread that launches.
 */
#ifndef SL_TESTS_FIBERS_H
#define SL_TESTS_FIBERS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The order of threads and blocks from now on. 0: as they are numbered. */
void sl_fibers_seed(uint64_t seed);
/* The first fault since the reset ("" if none), with its kernel, block, thread and line. The launch that had it was
 * abandoned there. */
const char *sl_fibers_fault(void);
void sl_fibers_reset(void);
/* Launches since the reset, and switches between threads. */
long sl_fibers_launches(void);
long sl_fibers_switches(void);

/*
 * Two functions that whoever links the harness brings along: now.c runs a launch at once, the fake runtime queues it.
 *
 * submit(): run(argument) executes a launch whole, on the GPU's stream, once or (replayed) often; `argument` may be
 * copied, `bytes`. Returns a cudaError_t. faulted(): a launch ended in a fault.
 */
int sl_fibers_submit(const char *kernel, void *stream, void (*run)(void *argument), const void *argument,
					 uint64_t bytes);
void sl_fibers_faulted(const char *kernel, const char *fault);

#ifdef __cplusplus
}
#endif
#endif
