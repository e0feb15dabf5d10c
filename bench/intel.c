/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MKL (to 2024, and in PyTorch 2.15) asks this function whether the CPU is Intel's, and takes slow kernels where it is
 * not: on a Zen 5 core sgemm of 63 instead of 252 GF/s, in PyTorch of 110 instead of 248. Loaded ahead of MKL
 * (LD_PRELOAD) by the benchmarks, so that MKL and PyTorch, which brings it along, are compared at their best on any
 * CPU.
 */
int mkl_serv_intel_cpu_true(void);
__attribute__((visibility("default"))) int mkl_serv_intel_cpu_true(void) {
	return 1;
}
