/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA runtime, cuSPARSE and cuBLAS on host memory: the entry points that cuda/ calls and no others,
 * with real results from plain loops and stricter arguments than the real ones. For tests on machines
 * without a GPU; what is fast or asynchronous about CUDA is not here.
 *
 * Device memory may not be touched but by these calls (it is unmapped between them, so that reading it
 * from the host crashes as it does on a GPU), is filled with NaNs, lies within exact bounds and is never
 * handed out twice. Handles, streams, events and descriptors are numbers that are never handed out twice.
 * There is no lock: use it from one thread.
 */
#ifndef SL_TESTS_FAKE_CUDA_H
#define SL_TESTS_FAKE_CUDA_H

#include <stdbool.h>

/* False: the test is linked with the real libraries (real.c), and the controls below do nothing. */
bool fake_cuda_present(void);

/* Forget counts, faults, the last error and the plan to fail. What is live stays so. */
void fake_cuda_reset(void);
/* Destroy what is live and reset: what an earlier test that failed left behind. */
void fake_cuda_discard(void);
/* How many GPUs there are from now on (2 at first). */
void fake_cuda_devices(int count);

/* Whether cusparseSpMM() wants a larger buffer for fewer columns, which its manual does not rule out. */
void fake_cuda_falling_buffers(bool on);

/* Fail call `k` after this one, counted from 0, and no other; negative: none. A call that frees or
 * destroys does so and reports failure all the same, as CUDA does with errors of earlier work. */
void fake_cuda_fail_at(long k);
/* Whether that call has come, and which it was ("" if not). */
const char *fake_cuda_failed(void);
/* Calls since the reset. Those that only ask for the last error or a text are not counted. */
long fake_cuda_calls(void);
/* Count a call of the test's own; true: it is the one to fail. */
bool fake_cuda_take(const char *name);

/* Allocations, streams, events, handles and descriptors that were made and not destroyed. */
long fake_cuda_live(void);
/* The first misuse since the reset ("" if none): freed memory, a host pointer, a wrong bound ... The call
 * that did it has failed as well. */
const char *fake_cuda_fault(void);
/* The runtime's last error, which the next cudaGetLastError() would take. */
int fake_cuda_last_error(void);
/* The widest B that cusparseSpMM() has been given since the reset. */
long long fake_cuda_widest(void);

#endif
