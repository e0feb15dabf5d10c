/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011). The same
 * (seed, stream) gives the same sequence on every machine, and nothing has to be saved to resume
 * but the three numbers.
 */
#ifndef SL_CORE_RNG_H
#define SL_CORE_RNG_H

#include <stdint.h>

typedef struct sl_rng {
	uint64_t seed, stream, counter;
	uint32_t block[4];
	int left; /* unused words of `block` */
} sl_rng;

sl_rng sli_rng(uint64_t seed, uint64_t stream);
uint32_t sli_rng_u32(sl_rng *rng);
/* The next `count` of sli_rng_u32(), from a generator none of whose blocks is begun. */
void sli_rng_fill(sl_rng *rng, uint32_t *numbers, int count);
uint64_t sli_rng_u64(sl_rng *rng);
/* Uniform in [0, bound) without bias; bound > 0. */
uint64_t sli_rng_below(sl_rng *rng, uint64_t bound);
/* Uniform in [0, 1) with 53 bits. */
double sli_rng_uniform(sl_rng *rng);
/* Standard normal (Box and Muller). */
double sli_rng_normal(sl_rng *rng);

#endif
