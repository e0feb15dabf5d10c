/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
	WORTH_WAKING_NS = 15000, /* about what waking a sleeping thread takes */
	SPIN_NS = 30000,         /* how long a thread looks for the next region before it sleeps */
	KNOWN = 64               /* kinds of regions whose tasks' time is remembered */
};

/* Regions of one function and as many tasks: steps repeat them. */
typedef struct known_region {
	void (*task)(void *argument, size_t index);
	size_t count;
	int64_t task_ns; /* of one, the last time */
} known_region;

struct slb_pool {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t *workers;
	int threads, started; /* workers are threads - 1 */
	pid_t owner;
	/* The region. `next` and `inside` are what a worker that comes late cannot go wrong with: it counts itself in
	 * before it looks at the region, and the caller leaves only when all are out. */
	void (*task)(void *argument, size_t index);
	void *argument;
	size_t count;
	size_t next;         /* atomic; >= count: nothing left */
	int inside;          /* atomic: workers that may look at the region */
	bool open;           /* atomic */
	uint64_t generation; /* atomic: regions so far */
	int sleeping;        /* atomic */
	bool quit;           /* under lock */
	known_region known[KNOWN];
};

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void relax(void) {
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

/* Returns how many. */
static size_t take_tasks(slb_pool *pool) {
	size_t count = pool->count, taken = 0;
	for (;; taken++) {
		size_t i = __atomic_fetch_add(&pool->next, 1, __ATOMIC_RELAXED);
		if (i >= count)
			return taken;
		pool->task(pool->argument, i);
	}
}

/* Wait for a region after `seen`; false: the pool ends. */
static bool wait_for_region(slb_pool *pool, uint64_t *seen) {
	int64_t until = now() + SPIN_NS;
	do
		for (int i = 0; i < 64; i++) {
			if (__atomic_load_n(&pool->generation, __ATOMIC_ACQUIRE) != *seen)
				goto found;
			relax();
		}
	while (now() < until);
	pthread_mutex_lock(&pool->lock);
	__atomic_fetch_add(&pool->sleeping, 1, __ATOMIC_SEQ_CST);
	while (!pool->quit && __atomic_load_n(&pool->generation, __ATOMIC_SEQ_CST) == *seen)
		pthread_cond_wait(&pool->wake, &pool->lock);
	__atomic_fetch_sub(&pool->sleeping, 1, __ATOMIC_SEQ_CST);
	bool quit = pool->quit;
	pthread_mutex_unlock(&pool->lock);
	if (quit)
		return false;
found:
	*seen = __atomic_load_n(&pool->generation, __ATOMIC_ACQUIRE);
	return true;
}

static void *work(void *argument) {
	slb_pool *pool = argument;
	uint64_t seen = 0;
	while (wait_for_region(pool, &seen)) {
		__atomic_fetch_add(&pool->inside, 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&pool->open, __ATOMIC_SEQ_CST))
			take_tasks(pool);
		__atomic_fetch_sub(&pool->inside, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* Locks, and no workers yet. Also in a forked child, whose workers stayed behind. */
static void reset(slb_pool *pool) {
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wake, NULL);
	pool->started = pool->sleeping = pool->inside = 0;
	pool->generation = 0;
	pool->owner = getpid();
}

slb_pool *slb_pool_create(int threads) {
	slb_pool *pool = calloc(1, sizeof *pool);
	if (!pool)
		return NULL;
	pool->threads = threads;
	pool->workers = calloc((size_t)(threads > 1 ? threads : 1), sizeof *pool->workers);
	if (!pool->workers) {
		free(pool);
		return NULL;
	}
	reset(pool);
	return pool;
}

void slb_pool_destroy(slb_pool *pool) {
	if (!pool)
		return;
	if (pool->owner == getpid()) {
		pthread_mutex_lock(&pool->lock);
		pool->quit = true;
		/* Those that spin look at the generation. */
		pthread_cond_broadcast(&pool->wake);
		pthread_mutex_unlock(&pool->lock);
		for (int i = 0; i < pool->started; i++)
			pthread_join(pool->workers[i], NULL);
		pthread_cond_destroy(&pool->wake);
		pthread_mutex_destroy(&pool->lock);
	}
	free(pool->workers);
	free(pool);
}

static void start_workers(slb_pool *pool) {
	while (pool->started < pool->threads - 1 && pthread_create(&pool->workers[pool->started], NULL, work, pool) == 0)
		pool->started++;
}

static known_region *recall(slb_pool *pool, size_t count, void (*task)(void *argument, size_t index)) {
	uint64_t key = ((uint64_t)(uintptr_t)task ^ (uint64_t)count << 20) * UINT64_C(0x9e3779b97f4a7c15);
	known_region *region = &pool->known[key >> 58];
	if (region->task != task || region->count != count)
		*region = (known_region){task, count, 0};
	return region;
}

/* Wake workers for the tasks from `next` on, take part, and wait for those that were begun. Returns how many were
 * taken. */
static size_t share(slb_pool *pool, size_t next) {
	start_workers(pool);
	__atomic_store_n(&pool->next, next, __ATOMIC_RELAXED);
	__atomic_store_n(&pool->open, true, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&pool->generation, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&pool->sleeping, __ATOMIC_SEQ_CST)) {
		pthread_mutex_lock(&pool->lock);
		pthread_cond_broadcast(&pool->wake);
		pthread_mutex_unlock(&pool->lock);
	}
	size_t taken = take_tasks(pool);
	__atomic_store_n(&pool->open, false, __ATOMIC_SEQ_CST);
	for (int turn = 0; __atomic_load_n(&pool->inside, __ATOMIC_SEQ_CST); turn++) {
		if (turn < 2000)
			relax();
		else
			sched_yield();
	}
	return taken;
}

void slb_pool_run(void *user, size_t count, void (*task)(void *argument, size_t index), void *argument) {
	slb_pool *pool = user;
	if (pool->owner != getpid())
		reset(pool);
	known_region *region = recall(pool, count, task);
	int64_t began = now(), each = region->task_ns;
	size_t done = 0, own;
	/* Alone, while what is left is not worth a thread's waking: from the last such region it is known before the first
	 * task, which may be half of all there is to do. */
	while (done < count && (pool->threads < 2 || each * (int64_t)(count - done - 1) <= WORTH_WAKING_NS)) {
		task(argument, done++);
		each = (now() - began) / (int64_t)done;
	}
	own = done;
	if (done < count) {
		pool->task = task;
		pool->argument = argument;
		pool->count = count;
		int64_t shared = now();
		size_t taken = share(pool, done);
		own += taken;
		if (taken)
			each = (now() - shared) / (int64_t)taken;
	}
	if (own)
		region->task_ns = each;
}
