/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "bench.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double bench_seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double bench_quantile(double *numbers, int count, double q) {
	qsort(numbers, (size_t)count, sizeof *numbers, ascending);
	double at = q * (count - 1);
	int low = (int)at;
	return low + 1 < count ? numbers[low] + (at - low) * (numbers[low + 1] - numbers[low]) : numbers[low];
}

void bench_result(const char *name, double number) {
	printf("RESULT %s %.4g\n", name, number);
}

void bench_need(int ok, const char *what, const char *message) {
	if (ok)
		return;
	fflush(stdout);
	fprintf(stderr, "%s: %s\n", what, message);
	exit(1);
}

int bench_isa(void) {
#if defined(__x86_64__)
	const char *asked = getenv("SPARSELAYER_CPU");
	if (asked && !strcmp(asked, "scalar"))
		return 0;
	if (__builtin_cpu_supports("avx512bw") && !(asked && !strcmp(asked, "avx2")))
		return 512;
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return 2;
#endif
	return 0;
}

static int first_cores(cpu_set_t *set, int threads) {
	cpu_set_t all;
	CPU_ZERO(set);
	if (sched_getaffinity(0, sizeof all, &all))
		return 0;
	int have = 0;
	for (int cpu = 0; cpu < CPU_SETSIZE && have < threads; cpu++)
		if (CPU_ISSET(cpu, &all)) {
			CPU_SET(cpu, set);
			have++;
		}
	return have;
}

void bench_environment(char **argv, int threads) {
	cpu_set_t cores;
	char count[16];
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (getenv("SL_BENCH_READY"))
		return;
	bench_need(first_cores(&cores, threads) == threads, "threads", "more than there are cores");
	sched_setaffinity(0, sizeof cores, &cores);
	snprintf(count, sizeof count, "%d", threads);
	setenv("SL_BENCH_READY", "1", 1);
	static const char *const counts[] = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"};
	for (int i = 0; i < 3; i++)
		setenv(counts[i], count, 1);
	/* Whoever asked for one core type cannot know the libraries of this run. */
	static const char *const strays[] = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OMP_WAIT_POLICY", "OMP_PROC_BIND",
										 "GOMP_CPU_AFFINITY", "KMP_AFFINITY",     "MKL_DYNAMIC"};
	for (size_t i = 0; i < sizeof strays / sizeof *strays; i++)
		unsetenv(strays[i]);
	setenv("MKL_DYNAMIC", "FALSE", 1);
	setenv("KMP_BLOCKTIME", "20", 1);           /* ms that Intel's OpenMP spins; others spin as long by themselves */
	setenv("OPENBLAS_THREAD_TIMEOUT", "24", 1); /* 2^24 cycles */
#if defined(__x86_64__)
	if (!__builtin_cpu_is("intel") && !getenv("LD_PRELOAD"))
		setenv("LD_PRELOAD", SL_BENCH_INTEL, 1);
#endif
	if (bench_isa() == 2) {
		setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);
		setenv("MKL_ENABLE_INSTRUCTIONS", "AVX2", 1);
	}
	execv("/proc/self/exe", argv);
	bench_need(0, "/proc/self/exe", "cannot be started again");
}

static double process_seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void bench_settle(void) {
	struct timespec pause = {0, 2000000};
	for (int i = 0; i < 200; i++) {
		double before = process_seconds();
		nanosleep(&pause, NULL);
		if (process_seconds() - before < 0.0003)
			return;
	}
}

void bench_pin_new_threads(int threads) {
	static int known[512], count, next;
	cpu_set_t cores, one;
	int numbers[512], have = 0;
	static cpu_set_t all;
	if (!count) {
		first_cores(&all, threads);
	}
	cores = all;
	for (int cpu = 0; cpu < CPU_SETSIZE && have < threads; cpu++)
		if (CPU_ISSET(cpu, &cores))
			numbers[have++] = cpu;
	DIR *tasks = opendir("/proc/self/task");
	if (!tasks || threads < 2 || have < threads) {
		if (tasks)
			closedir(tasks);
		return;
	}
	for (struct dirent *entry; (entry = readdir(tasks));) {
		int id = atoi(entry->d_name), seen = id == 0;
		for (int i = 0; i < count; i++)
			seen |= known[i] == id;
		if (seen || count == 512)
			continue;
		known[count++] = id;
		CPU_ZERO(&one);
		CPU_SET(id == getpid() ? numbers[0] : numbers[1 + next++ % (threads - 1)], &one);
		sched_setaffinity(id, sizeof one, &one);
	}
	closedir(tasks);
}
