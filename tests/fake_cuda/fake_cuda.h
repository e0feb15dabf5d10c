/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA runtime, cuSPARSE and cuBLAS on host memory: the entry points that cuda/ calls and no others,
 * with real results from plain loops and stricter arguments than the real ones. For tests on machines
 * without a GPU; what is fast, and the vendor's own behaviour, is not here.
 *
 * Device memory may not be touched but while the "GPU" runs (it is unmapped, and poisoned for ASan, at all other times,
 * so that reading it from the host crashes as it does on a GPU), is filled with NaNs, lies within exact bounds and is
 * never handed out twice. Handles, streams, events and descriptors are numbers that are never handed out twice.
 *
 * A stream is a queue. Nothing of it runs before somebody synchronises; then streams take turns in an order drawn from
 * a seed, so that a missing event or synchronisation shows. What is copied to the host is garbage until then. There is
 * no lock: use it from one thread.
 */
#ifndef SL_TESTS_FAKE_CUDA_H
#define SL_TESTS_FAKE_CUDA_H

#include <stdbool.h>
#include <stddef.h>

#define FAKE_API __attribute__((visibility("default")))

/* False: the test is linked with the real libraries (real.c), and the controls below do nothing. */
FAKE_API bool fake_cuda_present(void);

/* Forget counts, faults, the last error and the plan to fail. What is live stays so. */
FAKE_API void fake_cuda_reset(void);
/* Destroy what is live and reset: what an earlier test that failed left behind. */
FAKE_API void fake_cuda_discard(void);
/* How many GPUs there are from now on (2 at first, or what FAKE_CUDA_DEVICES says in the environment), at most 8. */
FAKE_API void fake_cuda_devices(int count);
/* The order that streams take turns in from now on (1 at first, or FAKE_CUDA_SEED). */
FAKE_API void fake_cuda_seed(unsigned seed);

/* Whether cusparseSpMM() wants a larger buffer for fewer columns, which its manual does not rule out. */
FAKE_API void fake_cuda_falling_buffers(bool on);
/* What cusparseGetVersion() says (120603 at first, which the headers' 12.6.3 is). Before 12.7.9 a matrix of more
 * entries than the next call's limit (2^31 - 1 at first) fails inside, as the real one did. */
FAKE_API void fake_cuda_cusparse_version(int version);
FAKE_API void fake_cuda_cusparse_entries(long long most);
/* What cublasSetMathMode() was told last, and what cublasGemmEx() was last asked to compute in; cusparseSpMM() and
 * cusparseSDDMM() likewise. -1: nothing yet. */
FAKE_API int fake_cuda_math_mode(void);
FAKE_API int fake_cuda_compute_type(void);
FAKE_API int fake_cuda_sparse_compute_type(void);
/* Whether there are memory pools (there are at first). */
FAKE_API void fake_cuda_pools(bool on);
/* What a call or kernel takes on the fake GPU's clock, which events read; 1 us unless told. NULL: all as at first. */
FAKE_API void fake_cuda_cost(const char *call, double microseconds);

/* Fail call `k` after this one, counted from 0, and no other; negative: none. A call that frees or
 * destroys does so and reports failure all the same, as CUDA does with errors of earlier work. */
FAKE_API void fake_cuda_fail_at(long k);
/* The same with an error that no later call of the process gets rid of: all fail. */
FAKE_API void fake_cuda_lose_at(long k);
/* Whether that call has come, and which it was ("" if not). */
FAKE_API const char *fake_cuda_failed(void);
/* Calls since the reset. Those that only ask for the last error or a text are not counted. */
FAKE_API long fake_cuda_calls(void);
/* Calls of that name since the reset, queued work included. */
FAKE_API long fake_cuda_count(const char *call);
/* Count a call of the test's own; true: it is the one to fail. */
FAKE_API bool fake_cuda_take(const char *name);

/* Allocations, streams, events, handles, pools, graphs and descriptors that were made and not destroyed. */
FAKE_API long fake_cuda_live(void);
/* The first misuse since the reset ("" if none): freed memory, a host pointer, a wrong bound ... The call
 * that did it has failed as well, or the work that it queued was left out. */
FAKE_API const char *fake_cuda_fault(void);
/* The runtime's last error, which the next cudaGetLastError() would take. */
FAKE_API int fake_cuda_last_error(void);
/* The widest B that cusparseSpMM() has been given since the reset. */
FAKE_API long long fake_cuda_widest(void);

/*
 * Launch a kernel: queue run(argument) on a stream, `argument` being copied (`bytes`). Device memory may be touched
 * while it runs. Returns a cudaError_t, and may be the call that fails.
 */
FAKE_API int fake_cuda_launch(const char *name, void *stream, void (*run)(void *argument), const void *argument,
							  size_t bytes);
/* Keep the words of a misuse, unless there was one before. */
FAKE_API void fake_cuda_misuse(const char *call, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
