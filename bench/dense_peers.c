/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "dense_peers.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef SL_WITH_ONEDNN
#include <dnnl.h>
void omp_set_num_threads(int threads);

static void onednn(bool turn_a, bool turn_b, int64_t m, int64_t n, int64_t k, const float *a, const float *b,
				   float *c) {
	dnnl_sgemm(turn_a ? 'T' : 'N', turn_b ? 'T' : 'N', m, n, k, 1, a, turn_a ? m : k, b, turn_b ? k : n, 0, c, n);
}
#endif

/* CBLAS of OpenBLAS, found at run time so that it is no dependency. Debian's takes CPUs it does not know for
 * SSE3 ones: it is told what this one is, unless the caller told it. */
enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };
static void (*cblas_sgemm)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *,
						   int);

static void openblas(bool turn_a, bool turn_b, int64_t m, int64_t n, int64_t k, const float *a, const float *b,
					 float *c) {
	cblas_sgemm(ROW_MAJOR, turn_a ? TRANSPOSE : NO_TRANSPOSE, turn_b ? TRANSPOSE : NO_TRANSPOSE, (int)m, (int)n, (int)k,
				1, a, (int)(turn_a ? m : k), b, (int)(turn_b ? k : n), 0, c, (int)n);
}

static dense_gemm open_openblas(dense_peer *peer, int threads) {
	if (threads > 1) { /* its threads never sleep between products, and would take the others' time */
		snprintf(peer->detail, sizeof peer->detail, "not compared on more than one thread");
		return NULL;
	}
	if (!getenv("OPENBLAS_CORETYPE")) {
#if defined(__x86_64__)
		if (__builtin_cpu_supports("avx512bw"))
			setenv("OPENBLAS_CORETYPE", "SkylakeX", 1);
		else if (__builtin_cpu_supports("avx2"))
			setenv("OPENBLAS_CORETYPE", "Haswell", 1);
#endif
	}
	static const char *const names[] = {"libopenblas.so.0", "libopenblasp.so.0", "libopenblas.so"};
	void *library = NULL;
	for (int i = 0; i < 3 && !library; i++)
		library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		snprintf(peer->detail, sizeof peer->detail, "missing: apt-get install libopenblas0-pthread");
		return NULL;
	}
	*(void **)&cblas_sgemm = dlsym(library, "cblas_sgemm");
	void (*set_threads)(int);
	*(void **)&set_threads = dlsym(library, "openblas_set_num_threads");
	char *(*config)(void);
	*(void **)&config = dlsym(library, "openblas_get_config");
	if (set_threads)
		set_threads(threads);
	snprintf(peer->detail, sizeof peer->detail, "%s", config ? config() : "");
	return cblas_sgemm ? openblas : NULL;
}

int dense_peers_open(dense_peer *peers, int most, int threads) {
	int count = 0;
#ifdef SL_WITH_ONEDNN
	if (count < most) {
		omp_set_num_threads(threads);
		const dnnl_version_t *v = dnnl_version();
		peers[count] = (dense_peer){.name = "onednn", .gemm = onednn};
		snprintf(peers[count].detail, sizeof peers[count].detail, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
		count++;
	}
#endif
	if (count < most) {
		peers[count] = (dense_peer){.name = "openblas"};
		peers[count].gemm = open_openblas(&peers[count], threads);
		count++;
	}
	return count;
}
