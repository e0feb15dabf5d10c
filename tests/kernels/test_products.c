/* SPDX-License-Identifier: Apache-2.0 */
/* Every row of kernels.def against a double reference. Bound: (count + 4) * eps * sum |a||b|, plus
 * one rounding to storage. Rows whose instructions this machine lacks are named. */
#include "support/check.h"

#include "cpu/cpu.h"

extern const int test_simde;
void test_spmm_f32_simde(const sl_spmm_task *t);
void test_sddmm_f32_simde(const sl_sddmm_task *t);

enum { ROWS = 9, COLS = 70, GUARD = 64 };

/* Entries: `full` all of them, else about one in three; row 4 is always empty, row 5 has one. */
static int64_t build(int64_t *offsets, int32_t *columns, bool full) {
	int64_t n = 0;
	for (int r = 0; r < ROWS; r++) {
		offsets[r] = n;
		for (int c = 0; c < COLS; c++)
			if (r == 5 ? c == 69 : r != 4 && (full || (r * 31 + c * 17) % 3 == 0))
				columns[n++] = c;
	}
	return offsets[ROWS] = n;
}

static double epsilon(sl_dtype dtype) {
	return dtype == SL_F64 ? 2.3e-16 : 1.2e-7;
}

static double storage(sl_dtype dtype) {
	return dtype == SL_BF16 ? 4e-3 : dtype == SL_F16 ? 5e-4 : 0;
}

/* With a guard behind it. */
static void *guarded(size_t bytes) {
	char *p = malloc(bytes + GUARD);
	CHECK(p);
	memset(p, 0x5a, bytes + GUARD);
	return p;
}

static void check_guard(const void *data, size_t bytes) {
	for (size_t i = 0; i < GUARD; i++)
		CHECK_EQ(((const unsigned char *)data)[bytes + i], 0x5a);
}

static void try_spmm(const sl_kernel *k, int64_t width, bool full, double alpha, double beta) {
	int64_t offsets[ROWS + 1], ldx = width + 3, ldy = width + 5;
	static int32_t columns[ROWS * COLS];
	int64_t nnz = build(offsets, columns, full);
	size_t size = sl_dtype_size(k->dtype), bytes = (size_t)(ROWS * ldy) * size;
	char *values = malloc((size_t)nnz * size), *x = malloc((size_t)(COLS * ldx) * size), *before = malloc(bytes);
	char *y = guarded(bytes);
	CHECK(values && x && before);
	sl_test_fill(values, k->dtype, nnz, 1);
	sl_test_fill(x, k->dtype, COLS * ldx, 2);
	sl_test_fill(y, k->dtype, ROWS * ldy, 3);
	if (beta == 0) /* the old content must not be read */
		memset(y, 0xff, bytes);
	memcpy(before, y, bytes);
	sl_spmm_task t = {.offsets = offsets, .offset_dtype = SL_I64, .columns = columns, .values = values, .x = x, .y = y,
	                  .ldx = ldx, .ldy = ldy, .begin = 1, .end = ROWS, .width = width, .alpha = alpha, .beta = beta};
	k->spmm(&t);
	for (int64_t r = 0; r < ROWS; r++)
		for (int64_t c = 0; c < ldy; c++) {
			size_t at = (size_t)(r * ldy + c);
			if (r == 0 || c >= width) {
				CHECK(!memcmp(y + at * size, before + at * size, size));
				continue;
			}
			double sum = 0, mass = 0;
			for (int64_t e = offsets[r]; e < offsets[r + 1]; e++) {
				double p = sli_load(values, k->dtype, e) * sli_load(x, k->dtype, columns[e] * ldx + c);
				sum += p;
				mass += fabs(p);
			}
			double old = beta == 0 ? 0 : beta * sli_load(before, k->dtype, (int64_t)at);
			double count = (double)(offsets[r + 1] - offsets[r]), want = alpha * sum + old;
			CHECK_NEAR(sli_load(y, k->dtype, (int64_t)at), want,
			           (count + 4) * epsilon(k->dtype) * (fabs(alpha) * mass + fabs(old)) +
			               storage(k->dtype) * fabs(want) + (k->dtype == SL_F16 ? 6e-8 : 0));
		}
	check_guard(y, bytes);
	free(values);
	free(x);
	free(before);
	free(y);
}

/* n columns in panels of ld, the padding zero. */
static char *panels(sl_dtype dtype, int64_t rows, int64_t n, int64_t ld, uint64_t seed) {
	int64_t count = (n + ld - 1) / ld * ld * rows;
	char *data = malloc((size_t)count * sl_dtype_size(dtype) + 1);
	CHECK(data);
	sl_test_fill(data, dtype, count, seed);
	for (int64_t r = 0; r < rows; r++)
		for (int64_t c = n; c < (n + ld - 1) / ld * ld; c++)
			sli_store(data, dtype, c / ld * rows * ld + r * ld + c % ld, 0);
	return data;
}

static void try_sddmm(const sl_kernel *k, int64_t n, int64_t ld, bool full, double alpha, double beta) {
	int64_t offsets[ROWS + 1];
	static int32_t columns[ROWS * COLS];
	int64_t nnz = build(offsets, columns, full);
	size_t size = sl_dtype_size(k->dtype), bytes = (size_t)nnz * size;
	char *a = panels(k->dtype, ROWS, n, ld, 4), *b = panels(k->dtype, COLS, n, ld, 5);
	char *out = guarded(bytes), *before = malloc(bytes);
	CHECK(before);
	sl_test_fill(out, k->dtype, nnz, 6);
	if (beta == 0)
		memset(out, 0xff, bytes);
	memcpy(before, out, bytes);
	sl_sddmm_task t = {.offsets = offsets, .offset_dtype = SL_I64, .columns = columns, .values = out, .a = a, .b = b,
	                   .a_rows = ROWS, .b_rows = COLS, .ld = ld, .n = n, .begin = 0, .end = ROWS - 1, .alpha = alpha,
	                   .beta = beta};
	k->sddmm(&t);
	for (int64_t r = 0; r < ROWS; r++)
		for (int64_t e = offsets[r]; e < offsets[r + 1]; e++) {
			if (r == ROWS - 1) {
				CHECK(!memcmp(out + (size_t)e * size, before + (size_t)e * size, size));
				continue;
			}
			double sum = 0, mass = 0;
			for (int64_t c = 0; c < n; c++) {
				double p = sli_load(a, k->dtype, c / ld * ROWS * ld + r * ld + c % ld) *
				           sli_load(b, k->dtype, c / ld * COLS * ld + columns[e] * ld + c % ld);
				sum += p;
				mass += fabs(p);
			}
			double old = beta == 0 ? 0 : beta * sli_load(before, k->dtype, e), want = alpha * sum + old;
			CHECK_NEAR(sli_load(out, k->dtype, e), want,
			           ((double)n + 4) * epsilon(k->dtype) * (fabs(alpha) * mass + fabs(old)) +
			               storage(k->dtype) * fabs(want) + (k->dtype == SL_F16 ? 6e-8 : 0));
		}
	check_guard(out, bytes);
	free(a);
	free(b);
	free(out);
	free(before);
}

static void try_kernel(const sl_kernel *k) {
	static const double scale[][2] = {{1, 0}, {1, 1}, {-0.5, 2}, {0, 1}};
	static const int64_t widths[] = {1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64};
	static const int64_t batches[] = {0, 1, 15, 16, 17, 63, 64, 65, 130}, lds[] = {8, 16, 32, 64, 5};
	for (int s = 0; s < 4; s++)
		for (int full = 0; full < 2; full++) {
			for (size_t w = 0; k->spmm && w < sizeof widths / sizeof *widths; w++)
				try_spmm(k, widths[w], full, scale[s][0], scale[s][1]);
			for (size_t n = 0; k->sddmm && n < sizeof batches / sizeof *batches; n++)
				for (size_t l = 0; l < sizeof lds / sizeof *lds; l++)
					try_sddmm(k, batches[n], lds[l], full, scale[s][0], scale[s][1]);
		}
}

SL_TEST(kernels, every_row_of_the_table) {
	int count = 0;
	const sl_kernel *k = sli_cpu_kernels(&count);
	CHECK(count > 0);
	for (int i = 0; i < count; i++)
		if (sli_cpu_has(k[i].isa))
			try_kernel(&k[i]);
		else
			fprintf(stderr, "skipped: %s, this machine has no %s\n", k[i].name, sli_isa_name(k[i].isa));
}

SL_TEST(kernels, avx512_emulated) {
	if (!test_simde)
		sl_test_skip("SIMDe (libsimde-dev) is not installed");
	sl_kernel spmm = {.dtype = SL_F32, .tile = 64, .name = "spmm_f32_simde", .spmm = test_spmm_f32_simde};
	sl_kernel sddmm = {.dtype = SL_F32, .name = "sddmm_f32_simde", .sddmm = test_sddmm_f32_simde};
	try_kernel(&spmm);
	try_kernel(&sddmm);
}
