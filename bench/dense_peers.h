/* SPDX-License-Identifier: Apache-2.0 */
/* The dense libraries that a sparse product is compared with: the fastest is the baseline. */
#ifndef SL_BENCH_DENSE_PEERS_H
#define SL_BENCH_DENSE_PEERS_H

#include <stdbool.h>
#include <stdint.h>

/* C[m, n] = op(A) op(B), row-major f32, all of it packed. */
typedef void (*dense_gemm)(bool turn_a, bool turn_b, int64_t m, int64_t n, int64_t k, const float *a, const float *b,
						   float *c);
typedef struct dense_peer {
	const char *name;
	dense_gemm gemm; /* NULL: missing */
	char detail[128];
} dense_peer;

/* Opens what is there, on that many threads. Returns how many; those that are missing say so. */
int dense_peers_open(dense_peer *peers, int most, int threads);

#endif
