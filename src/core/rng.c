/* SPDX-License-Identifier: Apache-2.0 */
#include "core/rng.h"

#include <math.h>

static void philox(uint32_t x[4], uint32_t k0, uint32_t k1) {
	for (int round = 0; round < 10; round++) {
		uint64_t a = (uint64_t)0xD2511F53u * x[0], b = (uint64_t)0xCD9E8D57u * x[2];
		uint32_t y0 = (uint32_t)(b >> 32) ^ x[1] ^ k0, y2 = (uint32_t)(a >> 32) ^ x[3] ^ k1;
		x[0] = y0;
		x[1] = (uint32_t)b;
		x[2] = y2;
		x[3] = (uint32_t)a;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
}

sl_rng sli_rng(uint64_t seed, uint64_t stream) {
	return (sl_rng){.seed = seed, .stream = stream};
}

uint32_t sli_rng_u32(sl_rng *rng) {
	if (!rng->left) {
		rng->block[0] = (uint32_t)rng->counter;
		rng->block[1] = (uint32_t)(rng->counter >> 32);
		rng->block[2] = (uint32_t)rng->stream;
		rng->block[3] = (uint32_t)(rng->stream >> 32);
		philox(rng->block, (uint32_t)rng->seed, (uint32_t)(rng->seed >> 32));
		rng->counter++;
		rng->left = 4;
	}
	return rng->block[4 - rng->left--];
}

void sli_rng_fill(sl_rng *rng, uint32_t *numbers, int count) {
	uint32_t low = (uint32_t)rng->stream, high = (uint32_t)(rng->stream >> 32);
	int whole = count / 4 * 4;
	for (int i = 0; i < whole; i += 4, rng->counter++) {
		uint32_t x[4] = {(uint32_t)rng->counter, (uint32_t)(rng->counter >> 32), low, high};
		philox(x, (uint32_t)rng->seed, (uint32_t)(rng->seed >> 32));
		for (int j = 0; j < 4; j++)
			numbers[i + j] = x[j];
	}
	for (int i = whole; i < count; i++)
		numbers[i] = sli_rng_u32(rng);
}

uint64_t sli_rng_u64(sl_rng *rng) {
	uint64_t low = sli_rng_u32(rng);
	return low | (uint64_t)sli_rng_u32(rng) << 32;
}

uint64_t sli_rng_below(sl_rng *rng, uint64_t bound) {
	uint64_t reject = -bound % bound, value;
	do
		value = sli_rng_u64(rng);
	while (value < reject);
	return value % bound;
}

double sli_rng_uniform(sl_rng *rng) {
	return (double)(sli_rng_u64(rng) >> 11) * 0x1p-53;
}

double sli_rng_normal(sl_rng *rng) {
	double u = 1.0 - sli_rng_uniform(rng), v = sli_rng_uniform(rng);
	return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v);
}
