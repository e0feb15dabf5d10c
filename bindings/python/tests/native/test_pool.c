/* SPDX-License-Identifier: Apache-2.0 */
/* The pool: each task runs once, whatever the sizes and whoever comes late; forks; nothing is left running. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pool.h"

enum { MOST = 3000 };
static int seen[MOST];
static int faults;

#define CHECK(condition)                                                                                               \
	do {                                                                                                               \
		if (!(condition)) {                                                                                            \
			printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                     \
			faults++;                                                                                                  \
		}                                                                                                              \
	} while (0)

typedef struct job {
	int *counts;
	long work;
} job;

static void task(void *argument, size_t index) {
	const job *j = argument;
	volatile double x = 1;
	for (long i = 0; i < j->work; i++)
		x = x * 1.0000001 + 1e-9;
	j->counts[index]++; /* each index has one task: no atomic needed, and TSan sees it if that is not so */
}

static void region(slb_pool *pool, size_t count, long work) {
	memset(seen, 0, sizeof seen);
	job j = {seen, work};
	slb_pool_run(pool, count, task, &j);
	for (size_t i = 0; i < MOST; i++)
		if (seen[i] != (i < count)) {
			CHECK(seen[i] == (i < count));
			return;
		}
}

int main(void) {
	for (int threads = 1; threads <= 5; threads += 2) {
		slb_pool *pool = slb_pool_create(threads);
		CHECK(pool);
		for (int i = 0; i < 3000; i++) {
			region(pool, (size_t)(i * 37 % 200), i % 7 == 0 ? 2000 : i % 3 == 0 ? 100 : 0);
			if (i % 100 == 0) /* long enough for the others to sleep */
				nanosleep(&(struct timespec){0, 200000}, NULL);
		}
		region(pool, MOST, 300);
#if !defined(__SANITIZE_THREAD__) /* TSan does not follow a fork of threads into threads */
		pid_t child = fork();
		if (!child) {
			for (int i = 0; i < 200; i++)
				region(pool, 100, 1000);
			slb_pool_destroy(pool);
			_exit(faults ? 1 : 0);
		}
		int status;
		CHECK(waitpid(child, &status, 0) == child && status == 0);
#endif
		region(pool, 100, 1000);
		slb_pool_destroy(pool);
	}
	slb_pool_destroy(NULL);
	printf("%d passed, %d failed\n", faults ? 0 : 1, faults ? 1 : 0);
	return faults != 0;
}
