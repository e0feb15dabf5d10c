/* SPDX-License-Identifier: Apache-2.0 */
#include "planted.h"

#include "planted.cuh"

int planted_block_reduce(const float *in, float *out, int missing) {
	return SL_LAUNCH((block_reduce), 2, 128, nullptr, in, out, missing);
}
int planted_warp_reverse(const float *in, float *out, bool synchronise) {
	return SL_LAUNCH((warp_reverse), 1, 64, nullptr, in, out, synchronise);
}
int planted_shuffle_is_no_barrier(const float *in, float *out) {
	return SL_LAUNCH((shuffle_is_no_barrier), 1, 32, nullptr, in, out);
}
int planted_divergent_barrier(float *out) {
	return SL_LAUNCH((divergent_barrier), 1, 64, nullptr, out);
}
int planted_barrier_after_exit(float *out) {
	return SL_LAUNCH((barrier_after_exit), 1, 64, nullptr, out);
}
int planted_divergent_shuffle(float *out) {
	return SL_LAUNCH((divergent_shuffle), 1, 32, nullptr, out);
}
int planted_mask_without_oneself(float *out) {
	return SL_LAUNCH((mask_without_oneself), 1, 32, nullptr, out);
}
int planted_shuffle_from_outside(float *out) {
	return SL_LAUNCH((shuffle_from_outside), 1, 32, nullptr, out);
}
int planted_shared_overrun(float *out, int at) {
	return SL_LAUNCH((shared_overrun), 1, 32, nullptr, out, at);
}
int planted_shared_left_over(float *out) {
	return SL_LAUNCH((shared_left_over), 2, 32, nullptr, out);
}
int planted_global_overrun(float *out, int64_t at) {
	return SL_LAUNCH((global_overrun), 1, 32, nullptr, out, at);
}
int planted_crooked_vector(const float *in, float *out) {
	return SL_LAUNCH((crooked_vector), 1, 2, nullptr, in, out);
}
int planted_arrivals(int *next, int *order) {
	return SL_LAUNCH((arrivals), 3, 32, nullptr, next, order);
}
int planted_group_sums(const float *in, float *out) {
	return SL_LAUNCH((group_sums), 1, 64, nullptr, in, out);
}
int planted_too_many_threads(float *out) {
	return SL_LAUNCH((divergent_shuffle), 1, 1025, nullptr, out);
}
