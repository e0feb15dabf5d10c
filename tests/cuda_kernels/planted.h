/* SPDX-License-Identifier: Apache-2.0 */
/* Launchers of the kernels in planted.cuh. */
#ifndef SL_TESTS_PLANTED_H
#define SL_TESTS_PLANTED_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
int planted_block_reduce(const float *in, float *out, int missing);
int planted_warp_reverse(const float *in, float *out, bool synchronise);
int planted_shuffle_is_no_barrier(const float *in, float *out);
int planted_divergent_barrier(float *out);
int planted_barrier_after_exit(float *out);
int planted_divergent_shuffle(float *out);
int planted_mask_without_oneself(float *out);
int planted_shuffle_from_outside(float *out);
int planted_shared_overrun(float *out, int at);
int planted_shared_left_over(float *out);
int planted_global_overrun(float *out, int64_t at);
int planted_crooked_vector(const float *in, float *out);
int planted_arrivals(int *next, int *order);
int planted_group_sums(const float *in, float *out);
int planted_too_many_threads(float *out);
#ifdef __cplusplus
}
#endif
#endif
