/* SPDX-License-Identifier: Apache-2.0 */
/* Launchers of ptx_probe.cuh; device pointers, a cudaError_t. */
#ifndef SL_TESTS_PTX_PROBE_H
#define SL_TESTS_PTX_PROBE_H

#include <sparselayer/sparselayer.h>

#ifdef __cplusplus
extern "C" {
#endif
/* d = a b + c with one instruction: a [16, K], b [K, 8], K 16 for f16 and bf16, 8 for f32 as TF32. */
int ptx_probe_mma(sl_dtype dtype, const void *a, const void *b, const float *c, float *d, void *stream);
/* Four matrices of 8 x 8 of 16 bits; out[4 * lane + matrix]. */
int ptx_probe_matrices(const void *in, unsigned *out, bool turned, void *stream);
#ifdef __cplusplus
}
#endif
#endif
