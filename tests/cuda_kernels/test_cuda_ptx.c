/* SPDX-License-Identifier: Apache-2.0 */
/* The instructions of ptx.cuh one by one: on the host their twin, on a GPU themselves. */
#include "ptx_probe.h"
#include "support/module_data.h"

/* Small whole numbers, of which every sum is exact, whatever the order: one right answer. */
static double number(int i, int seed) {
	return (i * 37 + seed * 11) % 13 - 6;
}

static void put(void *to, sl_dtype dtype, int i, double x) {
	view_set(to, dtype, i, x);
}

SL_TEST(cuda_ptx, products_of_fragments) {
	static const sl_dtype dtypes[] = {SL_F16, SL_BF16, SL_F32};
	test_host h;
	init_host(&h);
	void *device = open_module(&h);
	for (int d = 0; d < 3; d++) {
		int depth = dtypes[d] == SL_F32 ? 8 : 16;
		size_t size = sl_dtype_size(dtypes[d]);
		_Alignas(16) unsigned char a[16 * 16 * 4], b[16 * 8 * 4];
		float c[16 * 8], got[16 * 8];
		void *on[4];
		for (int i = 0; i < 16 * depth; i++)
			put(a, dtypes[d], i, number(i, 1) / 8);
		for (int i = 0; i < depth * 8; i++)
			put(b, dtypes[d], i, number(i, 2) * 4);
		for (int i = 0; i < 16 * 8; i++)
			c[i] = (float)number(i, 3);
		GOOD(&h, upload(device, a, (size_t)(16 * depth) * size, &on[0]));
		GOOD(&h, upload(device, b, (size_t)(depth * 8) * size, &on[1]));
		GOOD(&h, upload(device, c, sizeof c, &on[2]));
		GOOD(&h, upload(device, c, sizeof c, &on[3]));
		GOOD(&h, backend()->synchronize(device));
		CHECK_EQ(ptx_probe_mma(dtypes[d], on[0], on[1], on[2], on[3], NULL), 0);
		CHECK(cudaDeviceSynchronize() == cudaSuccess);
		GOOD(&h, backend()->copy(device, got, SL_MEMORY_HOST, on[3], SL_MEMORY_DEVICE, sizeof got));
		GOOD(&h, backend()->synchronize(device));
		for (int r = 0; r < 16; r++)
			for (int n = 0; n < 8; n++) {
				double want = number(r * 8 + n, 3);
				for (int k = 0; k < depth; k++)
					want += number(r * depth + k, 1) / 8 * (number(k * 8 + n, 2) * 4);
				if (got[r * 8 + n] != want)
					sl_test_fail(__FILE__, __LINE__, "(%d, %d) of %s: %g, not %g", r, n, sl_dtype_name(dtypes[d]),
								 (double)got[r * 8 + n], want);
			}
		const size_t bytes[] = {(size_t)(16 * depth) * size, (size_t)(depth * 8) * size, sizeof c, sizeof c};
		for (int i = 0; i < 4; i++)
			backend()->release(device, on[i], bytes[i], SL_MEMORY_DEVICE);
	}
	close_module(&h, device);
}

/* TF32 keeps 10 bits of fraction, ties away from zero. */
SL_TEST(cuda_ptx, floats_are_rounded_to_tf32) {
	static const struct {
		float x, rounded;
	} cases[] = {{1, 1},
				 {1 + 0x1p-10f, 1 + 0x1p-10f},
				 {1 + 0x1p-11f, 1 + 0x1p-10f},
				 {1 + 0x1.fep-12f, 1},
				 {-1 - 0x1p-11f, -1 - 0x1p-10f},
				 {2 - 0x1p-20f, 2},
				 {-3, -3},
				 {0x1p-126f, 0x1p-126f}};
	test_host h;
	init_host(&h);
	void *device = open_module(&h);
	for (int k = 0; k < 8; k++) {
		/* a is x in its first column, b the unit matrix. */
		float a[16 * 8] = {0}, b[8 * 8] = {0}, c[16 * 8] = {0}, got[16 * 8];
		void *on[4];
		for (int i = 0; i < 8; i++)
			a[i * 8] = cases[k].x, b[i * 9] = 1;
		GOOD(&h, upload(device, a, sizeof a, &on[0]));
		GOOD(&h, upload(device, b, sizeof b, &on[1]));
		GOOD(&h, upload(device, c, sizeof c, &on[2]));
		GOOD(&h, upload(device, c, sizeof c, &on[3]));
		GOOD(&h, backend()->synchronize(device));
		CHECK_EQ(ptx_probe_mma(SL_F32, on[0], on[1], on[2], on[3], NULL), 0);
		CHECK(cudaDeviceSynchronize() == cudaSuccess);
		GOOD(&h, backend()->copy(device, got, SL_MEMORY_HOST, on[3], SL_MEMORY_DEVICE, sizeof got));
		GOOD(&h, backend()->synchronize(device));
		CHECK(got[0] == cases[k].rounded && got[7 * 8] == cases[k].rounded && got[1] == 0);
		const size_t bytes[] = {sizeof a, sizeof b, sizeof c, sizeof c};
		for (int i = 0; i < 4; i++)
			backend()->release(device, on[i], bytes[i], SL_MEMORY_DEVICE);
	}
	close_module(&h, device);
}

SL_TEST(cuda_ptx, matrices_from_shared_memory) {
	test_host h;
	init_host(&h);
	void *device = open_module(&h), *from, *to;
	uint16_t in[4 * 64];
	unsigned got[32 * 4];
	for (int i = 0; i < 256; i++)
		in[i] = (uint16_t)(i * 3 + 1);
	for (int turned = 0; turned < 2; turned++) {
		GOOD(&h, upload(device, in, sizeof in, &from));
		GOOD(&h, upload(device, got, sizeof got, &to));
		GOOD(&h, backend()->synchronize(device));
		CHECK_EQ(ptx_probe_matrices(from, to, turned, NULL), 0);
		CHECK(cudaDeviceSynchronize() == cudaSuccess);
		GOOD(&h, backend()->copy(device, got, SL_MEMORY_HOST, to, SL_MEMORY_DEVICE, sizeof got));
		GOOD(&h, backend()->synchronize(device));
		for (int lane = 0; lane < 32; lane++)
			for (int m = 0; m < 4; m++)
				for (int i = 0; i < 2; i++) {
					int r = turned ? lane % 4 * 2 + i : lane / 4, c = turned ? lane / 4 : lane % 4 * 2 + i;
					CHECK_EQ(got[lane * 4 + m] >> 16 * i & 0xffff, in[m * 64 + r * 8 + c]);
				}
		backend()->release(device, from, sizeof in, SL_MEMORY_DEVICE);
		backend()->release(device, to, sizeof got, SL_MEMORY_DEVICE);
	}
	close_module(&h, device);
}
