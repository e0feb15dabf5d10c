/* SPDX-License-Identifier: Apache-2.0 */
/* The fake's controls where the libraries are the real ones: nothing fails on demand, nothing is counted. */
#include <cuda_runtime_api.h>

#include "fake_cuda.h"

bool fake_cuda_present(void) {
	return false;
}

void fake_cuda_reset(void) {
	(void)cudaGetLastError();
}

void fake_cuda_discard(void) {
	fake_cuda_reset();
}

void fake_cuda_devices(int count) {
	(void)count;
}

void fake_cuda_falling_buffers(bool on) {
	(void)on;
}

void fake_cuda_fail_at(long k) {
	(void)k;
}

const char *fake_cuda_failed(void) {
	return "";
}

long fake_cuda_calls(void) {
	return 0;
}

bool fake_cuda_take(const char *name) {
	(void)name;
	return false;
}

long fake_cuda_live(void) {
	return 0;
}

const char *fake_cuda_fault(void) {
	return "";
}

int fake_cuda_last_error(void) {
	return (int)cudaPeekAtLastError();
}

long long fake_cuda_widest(void) {
	return 0;
}

void fake_cuda_seed(unsigned seed) {
	(void)seed;
}

void fake_cuda_cusparse_version(int version) {
	(void)version;
}

void fake_cuda_cusparse_entries(long long most) {
	(void)most;
}

void fake_cuda_pools(bool on) {
	(void)on;
}

void fake_cuda_cost(const char *call, double microseconds) {
	(void)call, (void)microseconds;
}

void fake_cuda_lose_at(long k) {
	(void)k;
}

long fake_cuda_count(const char *call) {
	(void)call;
	return 0;
}

int fake_cuda_math_mode(void) {
	return -1;
}

int fake_cuda_compute_type(void) {
	return -1;
}

int fake_cuda_sparse_compute_type(void) {
	return -1;
}
