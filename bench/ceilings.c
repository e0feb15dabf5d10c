/* SPDX-License-Identifier: Apache-2.0 */
#include "ceilings.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

/* Ten independent sums hide a multiply-add's latency; the compiler must not fold them. */
#define FMA_LOOP(NAME, TARGET, VECTOR)                                                                                 \
	TARGET static double NAME(void *unused, int64_t rounds) {                                                          \
		VECTOR s0 = {0}, s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0, s8 = s0, s9 = s0, a, b;        \
		(void)unused;                                                                                                  \
		a = s0 + 1.0f, b = s0 + 0.5f;                                                                                  \
		for (int64_t i = 0; i < rounds; i++) {                                                                         \
			__asm__ volatile(                                                                                          \
				FMA("%0") FMA("%1") FMA("%2") FMA("%3") FMA("%4") FMA("%5") FMA("%6") FMA("%7") FMA("%8") FMA("%9")    \
				: "+v"(s0), "+v"(s1), "+v"(s2), "+v"(s3), "+v"(s4), "+v"(s5), "+v"(s6), "+v"(s7), "+v"(s8), "+v"(s9)   \
				: "v"(a), "v"(b));                                                                                     \
		}                                                                                                              \
		return (double)rounds * 10 * (double)(sizeof(VECTOR) / 4) * 2;                                                 \
	}
#define READ_LOOP(NAME, TARGET, VECTOR)                                                                                \
	TARGET static double NAME(void *buffer, int64_t bytes) {                                                           \
		const char *p = buffer;                                                                                        \
		for (int64_t i = 0; i < bytes; i += 8 * (int64_t)sizeof(VECTOR)) {                                             \
			VECTOR v0, v1, v2, v3, v4, v5, v6, v7;                                                                     \
			const VECTOR *q = (const VECTOR *)(p + i);                                                                 \
			__asm__ volatile("vmovaps %8, %0\n\tvmovaps %9, %1\n\tvmovaps %10, %2\n\tvmovaps %11, %3\n\t"              \
							 "vmovaps %12, %4\n\tvmovaps %13, %5\n\tvmovaps %14, %6\n\tvmovaps %15, %7"                \
							 : "=v"(v0), "=v"(v1), "=v"(v2), "=v"(v3), "=v"(v4), "=v"(v5), "=v"(v6), "=v"(v7)          \
							 : "m"(q[0]), "m"(q[1]), "m"(q[2]), "m"(q[3]), "m"(q[4]), "m"(q[5]), "m"(q[6]),            \
							   "m"(q[7]));                                                                             \
		}                                                                                                              \
		return (double)bytes;                                                                                          \
	}

typedef double (*loop)(void *buffer, int64_t count);
#if defined(__x86_64__)
typedef float wide __attribute__((vector_size(64)));
typedef float half_wide __attribute__((vector_size(32)));
#define FMA(R) "vfmadd231ps %10, %11, " R "\n\t"
FMA_LOOP(fma_512, __attribute__((target("avx512f"))), wide)
READ_LOOP(read_512, __attribute__((target("avx512f"))), wide)
FMA_LOOP(fma_256, __attribute__((target("avx2,fma"))), half_wide)
READ_LOOP(read_256, __attribute__((target("avx2,fma"))), half_wide)
#endif
static double fma_plain(void *unused, int64_t rounds) {
	volatile float a = 1;
	float s[8] = {0};
	(void)unused;
	for (int64_t i = 0; i < rounds; i++)
		for (int k = 0; k < 8; k++)
			s[k] += a * s[k];
	a = s[0];
	return 16.0 * (double)rounds;
}
static double read_plain(void *buffer, int64_t bytes) {
	const volatile uint64_t *p = buffer;
	for (int64_t i = 0; i < bytes / 8; i++)
		(void)p[i];
	return (double)bytes;
}

typedef struct job {
	loop run;
	int64_t bytes; /* 0: the multiply-adds */
	pthread_barrier_t *barrier;
	double rate; /* best of several */
} job;

enum { REPEATS = 25 };

static void *work(void *argument) {
	job *j = argument;
	void *buffer = NULL;
	if (j->bytes) {
		buffer = aligned_alloc(4096, (size_t)j->bytes);
		bench_need(buffer != NULL, "memory", "too little to measure its bandwidth");
		memset(buffer, 1, (size_t)j->bytes);
	}
	/* About a millisecond each, so that some fall between interruptions. */
	int64_t passes = j->bytes && j->bytes < 32 << 20 ? (32 << 20) / j->bytes : 1;
	for (int r = 0; r < (j->bytes > 32 << 20 ? 3 : REPEATS); r++) {
		pthread_barrier_wait(j->barrier);
		double began = bench_seconds(), done = 0;
		if (!j->bytes)
			done = j->run(NULL, 300000);
		for (int64_t p = 0; j->bytes && p < passes; p++)
			done += j->run(buffer, j->bytes);
		double rate = done / (bench_seconds() - began);
		j->rate = rate > j->rate ? rate : j->rate;
	}
	free(buffer);
	return NULL;
}

static double measure(loop run, int64_t bytes, int threads) {
	pthread_t ids[64];
	job jobs[64];
	pthread_barrier_t barrier;
	double sum = 0;
	bench_need(threads <= 64, "threads", "at most 64");
	pthread_barrier_init(&barrier, NULL, (unsigned)threads);
	for (int t = 0; t < threads; t++) {
		jobs[t] = (job){run, bytes, &barrier, 0};
		bench_need(!pthread_create(&ids[t], NULL, work, &jobs[t]), "thread", "cannot be created");
	}
	for (int t = 0; t < threads; t++) {
		pthread_join(ids[t], NULL);
		sum += jobs[t].rate;
	}
	pthread_barrier_destroy(&barrier);
	return sum;
}

static int64_t cache(int name, int64_t otherwise) {
	long size = sysconf(name);
	return size > 0 ? size : otherwise;
}

void ceilings_measure(ceilings *c, int threads) {
	loop fma = fma_plain, read = read_plain;
#if defined(__x86_64__)
	if (bench_isa() == 512)
		fma = fma_512, read = read_512;
	else if (bench_isa() == 2)
		fma = fma_256, read = read_256;
#endif
	int64_t l1 = cache(_SC_LEVEL1_DCACHE_SIZE, 32 << 10), l2 = cache(_SC_LEVEL2_CACHE_SIZE, 1 << 20),
			l3 = cache(_SC_LEVEL3_CACHE_SIZE, 16 << 20);
	*c = (ceilings){.size1 = (double)(l1 * threads), .size2 = (double)(l2 * threads), .size3 = (double)l3};
	c->flops = measure(fma, 0, threads);
	c->l1 = measure(read, l1 / 2 / 4096 * 4096, threads);
	c->l2 = measure(read, l2 / 2 / 4096 * 4096, threads);
	c->l3 = measure(read, l3 / 4 / threads / 4096 * 4096, threads);
	c->memory = measure(read, (l3 * 4 > 128 << 20 ? l3 * 4 : 128 << 20) / threads / 4096 * 4096, threads);
}

double ceilings_arithmetic(const ceilings *c, const operands *o) {
	return 2.0 * (double)o->nnz * (double)o->c.batch / c->flops;
}

double ceilings_bytes(const ceilings *c, const operands *o) {
	double bytes = 8.0 * (double)o->nnz + 4.0 * (double)((o->c.out + o->c.in) * o->c.batch);
	return bytes / (bytes <= c->size1 ? c->l1 : bytes <= c->size2 ? c->l2 : bytes <= c->size3 ? c->l3 : c->memory);
}
