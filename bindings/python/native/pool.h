/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads for a process that is full of other threads. Two things differ from a plain pool: a region whose first
 * task shows that little work is left wakes nobody, and the caller never waits for a thread that the system has not
 * scheduled yet, only for tasks that were begun. docs/decisions/python-threads.md has the measurements.
 */
#ifndef SL_PYTHON_POOL_H
#define SL_PYTHON_POOL_H

#include <stddef.h>

typedef struct slb_pool slb_pool;

/* `threads` counts the caller's; the others start with the first region that wants them. NULL: no memory. */
slb_pool *slb_pool_create(int threads);
void slb_pool_destroy(slb_pool *pool);
/* An sl_parallel_for's run; `user` is the pool. One caller at a time. Survives a fork. */
void slb_pool_run(void *user, size_t count, void (*task)(void *argument, size_t index), void *argument);

#endif
