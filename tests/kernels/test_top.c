/* SPDX-License-Identifier: Apache-2.0 */
/* The largest of rows of scores: every kernel that the machine can run, and the AVX-512 one emulated, beside a sort;
 * then the op as a whole beside a product in double. */
#include "core/context.h"
#include "cpu/top.h"
#include "ops/ops.h"
#include "support/check.h"

extern const int test_simde_top;
int64_t test_top_simde(const sl_top_task *task);

enum { GUARD = 64 };

static uint32_t next(uint64_t *state) {
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 32);
}

/* Scores of a kind: 0 like sums, 1 many equal, 2 nearly all zero, 3 with NaN and infinity, 4 all equal, 5 rising. */
static float score(int kind, int64_t c, uint64_t *state) {
	float sum = 0;
	for (int i = 0; i < 8; i++)
		sum += (float)(next(state) % 2001) / 1000 - 1;
	switch (kind) {
	case 1:
		return (float)(int)sum;
	case 2:
		return next(state) % 40 ? 0.0f : sum;
	case 3:
		return next(state) % 50 == 0 ? (next(state) % 2 ? NAN : -INFINITY) : sum;
	case 4:
		return -2;
	case 5:
		return (float)c;
	default:
		return sum;
	}
}

static int32_t bits_of(float x) {
	int32_t bits;
	memcpy(&bits, &x, sizeof bits);
	return bits & INT32_MAX;
}

/* Of how many a column has fewer than `keep` before it. */
static bool among(const int32_t *bits, const bool *taken, int64_t cols, int64_t keep, int32_t least, int64_t c) {
	int64_t before = 0;
	if (taken[c] || bits[c] <= least)
		return false;
	for (int64_t i = 0; i < cols; i++)
		before += !taken[i] && (bits[i] > bits[c] || (bits[i] == bits[c] && i < c));
	return before < keep;
}

static void check_row(sl_top_kernel top, int64_t cols, int64_t keep, int kind, double density, int32_t least,
					  uint64_t *state) {
	float *scores = malloc((size_t)cols * sizeof *scores);
	int32_t *bits = malloc((size_t)cols * sizeof *bits), *listed = malloc((size_t)cols * sizeof *listed);
	bool *taken = malloc((size_t)cols * sizeof *taken);
	int32_t *values = malloc((size_t)(cols + SL_TOP_SPARE) * 4 + GUARD);
	int32_t *columns = malloc((size_t)(cols + SL_TOP_SPARE) * 4 + GUARD);
	memset((char *)values + (cols + SL_TOP_SPARE) * 4, 0x5a, GUARD);
	memset((char *)columns + (cols + SL_TOP_SPARE) * 4, 0x5a, GUARD);
	int64_t count = 0, n = 0;
	for (int64_t c = 0; c < cols; c++) {
		scores[c] = score(kind, c, state);
		bits[c] = bits_of(scores[c]);
		taken[c] = next(state) < density * 4294967295.0;
		if (taken[c])
			listed[count++] = (int32_t)c;
	}
	sl_top_task task = {.scores = scores,
						.cols = cols,
						.taken_count = count,
						.keep = keep,
						.taken = listed,
						.least = least,
						.values = values,
						.columns = columns};
	int64_t got = top(&task);
	for (int64_t c = 0; c < cols; c++)
		if (among(bits, taken, cols, keep, least, c)) {
			CHECK(n < got && columns[n] == c && values[n] == bits[c]);
			n++;
		}
	CHECK_EQ(got, n);
	for (int i = 0; i < GUARD; i++)
		CHECK(((char *)values)[(cols + SL_TOP_SPARE) * 4 + i] == 0x5a &&
			  ((char *)columns)[(cols + SL_TOP_SPARE) * 4 + i] == 0x5a);
	free(scores);
	free(bits);
	free(listed);
	free(taken);
	free(values);
	free(columns);
}

static void check_kernel(sl_top_kernel top) {
	static const int64_t widths[] = {128, 129, 143, 144, 191, 192, 200, 784, 1024};
	static const int64_t keeps[] = {1, 2, 12, 31, 32};
	static const double densities[] = {0, 0.05, 0.5, 0.97, 1};
	uint64_t state = 5;
	for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
		for (size_t k = 0; k < sizeof keeps / sizeof *keeps; k++)
			for (int kind = 0; kind < 6; kind++)
				for (size_t d = 0; d < sizeof densities / sizeof *densities; d++) {
					check_row(top, widths[w], keeps[k], kind, densities[d], -1, &state);
					check_row(top, widths[w], keeps[k], kind, densities[d], bits_of(2.5f), &state);
				}
}

SL_TEST(top, kernels) {
	int count, ran = 0;
	const sl_kernel *all = sli_cpu_kernels(&count);
	for (int i = 0; i < count; i++)
		if (all[i].kind == SL_OP_TOP && sli_cpu_has(all[i].isa)) {
			check_kernel(all[i].top);
			ran++;
		}
	if (test_simde_top)
		check_kernel(test_top_simde);
	printf("# %d kernels, emulation %s\n", ran, test_simde_top ? "too" : "not there");
}

/* Rows of a product, some of whose cells are taken. */
SL_TEST(top, of_a_product) {
	enum { ROWS = 301, COLS = 261, DEPTH = 37, KEEP = 9 };
	static float a[ROWS * DEPTH], b[COLS * DEPTH];
	static int32_t count[ROWS], columns[ROWS * KEEP], values[ROWS * KEEP];
	sl_test_fill(a, SL_F32, ROWS * DEPTH, 1);
	sl_test_fill(b, SL_F32, COLS * DEPTH, 2);
	int32_t *before = NULL;
	for (int threads = 1; threads <= 3; threads++) {
		sl_context *context = NULL;
		sl_pattern *pattern = NULL;
		CHECK(sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .seed = 3,
																.threads = threads}) == SL_OK);
		CHECK_OK(context, sl_pattern_random(&pattern, context, ROWS, COLS, 0.1, 1));
		sl_dense A = sl_dense_view(a, SL_F32, ROWS, DEPTH), X = sl_dense_view(b, SL_F32, COLS, DEPTH);
		sl_dense B = sl_dense_transposed(X);
		sl_op_desc desc = {.kind = SL_OP_TOP, .a = sli_desc(&A), .b = sli_desc(&B), .count = KEEP};
		desc.sparse.arrays = sli_pattern_arrays(pattern);
		sl_op_args args = {.a = A, .b = B, .count = -1, .vector = {count, columns, values}};
		sl_candidate one;
		sl_device_state *device = sli_device(context);
		if (!device->backend->candidates(device->device, &desc, &one, 1)) {
			CHECK_STATUS(context, sli_run(context, &desc, &args), SL_ERR_UNSUPPORTED, "largest");
			sl_pattern_release(pattern);
			sl_context_destroy(context);
			continue;
		}
		CHECK_OK(context, sli_run(context, &desc, &args));
		const int32_t *offsets = desc.sparse.arrays.row_offsets, *listed = desc.sparse.arrays.col_indices;
		for (int r = 0; r < ROWS; r++) {
			double exact[COLS], least = INFINITY;
			bool chosen[COLS] = {false}, taken[COLS] = {false};
			for (int c = 0; c < COLS; c++) {
				exact[c] = 0;
				for (int k = 0; k < DEPTH; k++)
					exact[c] += (double)a[r * DEPTH + k] * (double)b[c * DEPTH + k];
			}
			for (int32_t k = offsets[r]; k < offsets[r + 1]; k++)
				taken[listed[k]] = true;
			CHECK_EQ(count[r], KEEP);
			for (int i = 0; i < KEEP; i++) {
				int32_t c = columns[r * KEEP + i];
				float value;
				memcpy(&value, &values[r * KEEP + i], sizeof value);
				CHECK(c >= 0 && c < COLS && !taken[c] && (!i || c > columns[r * KEEP + i - 1]));
				CHECK_NEAR(value, fabs(exact[c]), DEPTH * DEPTH * 0x1p-24);
				chosen[c] = true;
				least = fabs(exact[c]) < least ? fabs(exact[c]) : least;
			}
			for (int c = 0; c < COLS; c++)
				CHECK(chosen[c] || taken[c] || fabs(exact[c]) <= least + 2 * DEPTH * DEPTH * 0x1p-24);
		}
		if (before)
			CHECK(!memcmp(before, values, sizeof values)); /* whatever the threads */
		before = before ? before : malloc(sizeof values);
		memcpy(before, values, sizeof values);
		sl_pattern_release(pattern);
		sl_context_destroy(context);
	}
	free(before);
}
