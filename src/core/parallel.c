/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* CPU_COUNT */
#include "core/parallel.h"

#include <pthreadpool.h>
#include <sched.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* Debian's pthreadpool is not instrumented: without these, TSan does not see that a region's tasks
 * happen after the call and before its return. */
#if defined(__SANITIZE_THREAD__)
void __tsan_acquire(void *);
void __tsan_release(void *);
#define HAND_OVER(p) __tsan_release(p)
#define TAKE_OVER(p) __tsan_acquire(p)
#else
#define HAND_OVER(p) ((void)(p))
#define TAKE_OVER(p) ((void)(p))
#endif

struct sl_team {
	sl_heap *heap;
	pthreadpool_t pool; /* NULL: run on the caller's thread */
	pid_t owner;
	int threads;
	bool flush_to_zero;
	sl_parallel_for parallel_for;
};

typedef struct region {
	void (*task)(void *argument, size_t index);
	void *argument;
	bool flush_to_zero;
} region;

static void run_one(void *context, size_t index) {
	region *r = context;
	TAKE_OVER(r);
#if defined(__x86_64__)
	/* FTZ and DAZ as the context wants them on every thread: were the caller's own mode left standing,
	 * results would depend on which thread ran what. */
	unsigned saved = _mm_getcsr(), wanted = r->flush_to_zero ? saved | 0x8040u : saved & ~0x8040u;
	if (wanted != saved)
		_mm_setcsr(wanted);
#endif
	r->task(r->argument, index);
#if defined(__x86_64__)
	if (wanted != saved)
		_mm_setcsr(saved);
#endif
	HAND_OVER(r);
}

static int cores(void) {
	cpu_set_t set;
	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
		return CPU_COUNT(&set);
	return 1;
}

sl_status sli_team_create(sl_team **team, sl_heap *heap, int threads, const sl_parallel_for *parallel_for,
						  bool flush_to_zero) {
	sl_team *created = sli_heap_allocate(heap, sizeof *created);
	*team = NULL;
	if (!created)
		return SL_ERR_MEMORY;
	*created = (sl_team){.heap = heap, .owner = getpid(), .flush_to_zero = flush_to_zero};
	created->threads = threads > 0 ? threads : cores();
	if (parallel_for && parallel_for->run) {
		created->parallel_for = *parallel_for;
		created->threads = parallel_for->threads > 0 ? parallel_for->threads : 1;
	} else if (created->threads > 1) {
		created->pool = pthreadpool_create((size_t)created->threads);
		if (!created->pool) {
			sli_heap_free(heap, created, sizeof *created);
			return SL_ERR_MEMORY;
		}
	}
	*team = created;
	return SL_OK;
}

void sli_team_destroy(sl_team *team) {
	if (!team)
		return;
	/* In a forked child the pool's threads are gone, and joining them would wait for ever. */
	if (team->pool && team->owner == getpid())
		pthreadpool_destroy(team->pool);
	sli_heap_free(team->heap, team, sizeof *team);
}

int sli_team_threads(const sl_team *team) {
	return team->threads;
}

void sli_team_run(sl_team *team, size_t count, void (*task)(void *argument, size_t index), void *argument) {
	region r = {task, argument, team->flush_to_zero};
	if (team->pool && team->owner != getpid()) {
		team->pool = pthreadpool_create((size_t)team->threads); /* NULL: alone */
		team->owner = getpid();
	}
	HAND_OVER(&r);
	if (count > 1 && team->parallel_for.run)
		team->parallel_for.run(team->parallel_for.user, count, run_one, &r);
	else if (count > 1 && team->pool)
		pthreadpool_parallelize_1d(team->pool, run_one, &r, count, 0);
	else
		for (size_t i = 0; i < count; i++)
			run_one(&r, i);
	TAKE_OVER(&r);
}
