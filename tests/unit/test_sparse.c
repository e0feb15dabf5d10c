/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns and CSR matrices against a plain dense map, and every fault in what is handed over. */
#include "support/check.h"

enum { R = 37, C = 23, N = 200 };

/* N entries with random places, duplicates among them, and the dense matrix that they add up to. */
typedef struct heap {
	int64_t rows[N], cols[N];
	double values[N], sum[R][C], first[R][C], last[R][C];
	bool there[R][C];
} heap;

static uint64_t next(uint64_t *state) {
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

static heap *make_heap(uint64_t seed) {
	heap *h = calloc(1, sizeof *h);
	uint64_t state = seed;
	sl_test_fill(h->values, SL_F64, N, seed);
	for (int i = 0; i < N; i++) {
		int64_t r = h->rows[i] = (int64_t)(next(&state) % R), c = h->cols[i] = (int64_t)(next(&state) % C);
		h->sum[r][c] += h->values[i];
		h->first[r][c] = h->there[r][c] ? h->first[r][c] : h->values[i];
		h->last[r][c] = h->values[i];
		h->there[r][c] = true;
	}
	return h;
}

static sl_build_options rule(sl_duplicates duplicates) {
	sl_build_options options;
	SL_OPTIONS_INIT(options);
	options.duplicates = duplicates;
	return options;
}

/* The matrix holds exactly the places of `there` with the values of `wanted`. */
static void check_is(sl_context *context, const sl_csr *m, bool (*there)[C], double (*wanted)[C]) {
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(m), &a));
	const int32_t *offsets = a.row_offsets;
	const double *values = sl_csr_values(m);
	int64_t k = 0;
	CHECK(a.offset_dtype == SL_I32 && a.rows == R && a.cols == C);
	for (int r = 0; r < R; r++) {
		CHECK_EQ(offsets[r], k);
		for (int c = 0; c < C; c++)
			if (there[r][c]) {
				CHECK_EQ(a.col_indices[k], c);
				CHECK(values[k] == wanted[r][c]);
				k++;
			}
	}
	CHECK_EQ(a.nnz, k);
	CHECK_EQ(offsets[R], k);
}

SL_TEST(sparse, coo_with_each_rule_for_duplicates) {
	sl_context *context = sl_test_context();
	sl_csr *m;
	for (uint64_t seed = 1; seed <= 5; seed++) {
		heap *h = make_heap(seed);
		double(*wanted[])[C] = {NULL, h->sum, h->first, h->last};
		for (int d = SL_DUPLICATES_SUM; d <= SL_DUPLICATES_LAST; d++) {
			sl_build_options o = rule((sl_duplicates)d);
			CHECK_OK(context, sl_csr_create_coo(&m, context, R, C, N, h->rows, h->cols, SL_I64, h->values, SL_F64, &o));
			check_is(context, m, h->there, wanted[d]);
			sl_csr_destroy(m);
		}
		CHECK_STATUS(context,
					 sl_csr_create_coo(&m, context, R, C, N, h->rows, h->cols, SL_I64, h->values, SL_F64, NULL),
					 SL_ERR_STRUCTURE, "occurs twice in row");
		CHECK(!m);
		free(h);
	}
	sl_context_destroy(context);
}

/* A matrix without duplicates, from COO. */
static sl_csr *make(sl_context *context, heap **h, uint64_t seed) {
	sl_csr *m;
	sl_build_options o = rule(SL_DUPLICATES_SUM);
	*h = make_heap(seed);
	CHECK_OK(context,
			 sl_csr_create_coo(&m, context, R, C, N, (*h)->rows, (*h)->cols, SL_I64, (*h)->values, SL_F64, &o));
	return m;
}

SL_TEST(sparse, out_and_in_again_through_every_layout) {
	sl_context *context = sl_test_context();
	heap *h;
	sl_csr *m = make(context, &h, 9), *again, *t;
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(m), &a));
	int64_t offsets[R + 1], first[N], second[N];
	int32_t narrow[N], narrow_offsets[R + 1];
	double values[N];
	CHECK_OK(context, sl_csr_to_csr(context, m, offsets, SL_I64, narrow, SL_I32, values));
	CHECK_OK(context,
			 sl_csr_create(&again, context, R, C, a.nnz, offsets, SL_I64, narrow, SL_I32, values, SL_F64, NULL));
	check_is(context, again, h->there, h->sum);
	sl_csr_destroy(again);
	CHECK_OK(context, sl_csr_to_csc(context, m, narrow_offsets, SL_I32, first, SL_I64, values));
	CHECK_OK(context, sl_csr_create_csc(&again, context, R, C, a.nnz, narrow_offsets, SL_I32, first, SL_I64, values,
										SL_F64, NULL));
	check_is(context, again, h->there, h->sum);
	sl_csr_destroy(again);
	CHECK_OK(context, sl_csr_to_coo(context, m, first, second, SL_I64, values));
	CHECK_OK(context, sl_csr_create_coo(&again, context, R, C, a.nnz, first, second, SL_I64, values, SL_F64, NULL));
	check_is(context, again, h->there, h->sum);
	sl_csr_destroy(again);
	/* Dense in all four orders, with entries that happen to sum to zero dropped on both sides. */
	for (int r = 0; r < R; r++)
		for (int c = 0; c < C; c++)
			h->there[r][c] = h->there[r][c] && h->sum[r][c] != 0;
	static double dense[64 * 64];
	for (int order = SL_ROW_MAJOR; order <= SL_ROW_PANELS; order++) {
		sl_dense view = {dense, SL_F64, (sl_order)order, SL_DEVICE_CPU, 0, R, C, order < 2 ? 40 : 8};
		CHECK_OK(context, sl_csr_to_dense(context, m, &view));
		CHECK_OK(context, sl_csr_create_dense(&again, context, &view, 0, NULL));
		check_is(context, again, h->there, h->sum);
		sl_csr_destroy(again);
	}
	/* Twice transposed is the same. */
	CHECK_OK(context, sl_csr_transpose(&t, context, m));
	CHECK_OK(context, sl_csr_transpose(&again, context, t));
	uint64_t hash[3];
	CHECK_OK(context, sl_pattern_hash(context, sl_csr_pattern(m), &hash[0]));
	CHECK_OK(context, sl_pattern_hash(context, sl_csr_pattern(t), &hash[1]));
	CHECK_OK(context, sl_pattern_hash(context, sl_csr_pattern(again), &hash[2]));
	CHECK(hash[0] == hash[2] && hash[0] != hash[1]);
	CHECK(!memcmp(sl_csr_values(again), sl_csr_values(m), (size_t)a.nnz * sizeof(double)));
	sl_csr_destroy(t), sl_csr_destroy(again), sl_csr_destroy(m), free(h);
	sl_context_destroy(context);
}

SL_TEST(sparse, threshold_and_top_k) {
	sl_context *context = sl_test_context();
	float x[6] = {0.5f, -2, 2, 0, -0.5f, 3};
	sl_dense view = sl_dense_view(x, SL_F32, 2, 3);
	sl_csr *m;
	sl_pattern_arrays a;
	CHECK_OK(context, sl_csr_create_dense(&m, context, &view, 0.5, NULL));
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(m), &a));
	CHECK_EQ(a.nnz, 3);
	CHECK(((float *)sl_csr_values(m))[0] == -2 && a.col_indices[2] == 2);
	sl_csr_destroy(m);
	static const int64_t first_of[] = {0, 2, 1, 1, 0};
	for (int64_t k = 0; k <= 6; k++) {
		CHECK_OK(context, sl_csr_create_top_k(&m, context, &view, k, NULL));
		CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(m), &a));
		CHECK_EQ(a.nnz, k);
		if (k > 0 && k < 5) /* ties go to the lower row, then column */
			CHECK_EQ(a.col_indices[0], first_of[k]);
		sl_csr_destroy(m);
	}
	CHECK_STATUS(context, sl_csr_create_top_k(&m, context, &view, 7, NULL), SL_ERR_ARGUMENT, "has 6 entries");
	CHECK_STATUS(context, sl_csr_create_dense(&m, context, &view, -1, NULL), SL_ERR_ARGUMENT, "threshold");
	x[4] = NAN;
	CHECK_STATUS(context, sl_csr_create_top_k(&m, context, &view, 2, NULL), SL_ERR_NONFINITE, "row 1, column 1");
	CHECK_OK(context, sl_csr_create_dense(&m, context, &view, 1, NULL));
	CHECK_STATUS(context, sl_csr_check_finite(context, m), SL_ERR_NONFINITE, "row 1, column 1");
	sl_csr_destroy(m);
	sl_build_options o = rule(SL_DUPLICATES_REFUSE);
	o.refuse_nonfinite = true;
	CHECK_STATUS(context, sl_csr_create_dense(&m, context, &view, 1, &o), SL_ERR_NONFINITE, "row 1, column 1");
	sl_context_destroy(context);
}

SL_TEST(sparse, bad_structures_are_named) {
	sl_context *context = sl_test_context();
	sl_csr *m = NULL;
	sl_pattern *p = NULL;
	int32_t good[] = {0, 2, 3}, cols[] = {0, 2, 1}, falls[] = {0, 3, 2}, beyond[] = {0, 2, 4}, starts[] = {1, 2, 3},
			ends[] = {0, 1, 2}, outside[] = {0, 3, 1}, negative[] = {0, -1, 1}, twice[] = {2, 2, 1},
			unsorted[] = {2, 0, 1};
	float v[] = {1, NAN, 3};
#define CREATE(offsets, columns) sl_csr_create(&m, context, 2, 3, 3, offsets, SL_I32, columns, SL_I32, v, SL_F32, NULL)
	CHECK_STATUS(context, CREATE(falls, cols), SL_ERR_STRUCTURE, "row_offsets[2] is 2");
	CHECK_STATUS(context, CREATE(beyond, cols), SL_ERR_STRUCTURE, "nnz = 3");
	CHECK_STATUS(context, CREATE(starts, cols), SL_ERR_STRUCTURE, "row_offsets[0] is 1");
	CHECK_STATUS(context, CREATE(ends, cols), SL_ERR_STRUCTURE, "must be nnz = 3");
	CHECK_STATUS(context, CREATE(good, outside), SL_ERR_STRUCTURE, "column 3 in row 0 (entry 1)");
	CHECK_STATUS(context, CREATE(good, negative), SL_ERR_STRUCTURE, "column -1 in row 0 (entry 1)");
	CHECK_STATUS(context, CREATE(good, twice), SL_ERR_STRUCTURE, "column 2 occurs twice in row 0 (entries 0 and 1)");
	CHECK_STATUS(context, CREATE(NULL, cols), SL_ERR_NULL, "row_offsets");
	CHECK_STATUS(context, CREATE(good, NULL), SL_ERR_NULL, "col_indices");
	CHECK(!m);
	CHECK_OK(context, CREATE(good, unsorted)); /* sorted together with their values */
	CHECK(((float *)sl_csr_values(m))[1] == 1 && isnan(((float *)sl_csr_values(m))[0]));
	sl_csr_destroy(m);
	sl_build_options o = rule(SL_DUPLICATES_REFUSE);
	o.refuse_nonfinite = true;
	CHECK_STATUS(context, sl_csr_create(&m, context, 2, 3, 3, good, SL_I32, cols, SL_I32, v, SL_F32, &o),
				 SL_ERR_NONFINITE, "entry 1 (row 0, column 2)");
	CHECK_STATUS(context, sl_csr_create(&m, context, -1, 3, 3, good, SL_I32, cols, SL_I32, v, SL_F32, NULL),
				 SL_ERR_ARGUMENT, "negative");
	CHECK_STATUS(context,
				 sl_csr_create(&m, context, 2, INT64_C(1) << 31, 3, good, SL_I32, cols, SL_I32, v, SL_F32, NULL),
				 SL_ERR_OVERFLOW, "int32");
	CHECK_STATUS(
		context,
		sl_csr_create(&m, context, INT64_C(1) << 40, INT64_C(1) << 30, 3, good, SL_I32, cols, SL_I32, v, SL_F32, NULL),
		SL_ERR_OVERFLOW, "too large");
	CHECK_STATUS(context, sl_csr_create(&m, context, 2, 3, 3, good, SL_F32, cols, SL_I32, v, SL_F32, NULL),
				 SL_ERR_DTYPE, "row_offsets");
	CHECK_STATUS(context, sl_csr_create(&m, context, 2, 3, 3, good, SL_I32, cols, SL_I32, v, SL_I32, NULL),
				 SL_ERR_DTYPE, "f32, f64");
	o.duplicates = (sl_duplicates)9;
	CHECK_STATUS(context, sl_csr_create(&m, context, 2, 3, 3, good, SL_I32, cols, SL_I32, v, SL_F32, &o),
				 SL_ERR_ARGUMENT, "duplicates");
	CHECK_STATUS(context, sl_csr_create_csc(&m, context, 3, 2, 3, good, SL_I32, outside, SL_I32, v, SL_F32, NULL),
				 SL_ERR_STRUCTURE, "row 3 in column 0 (entry 1)");
	CHECK_STATUS(context, sl_csr_create_coo(&m, context, 3, 2, 3, outside, good, SL_I32, v, SL_F32, NULL),
				 SL_ERR_STRUCTURE, "row 3 (entry 1)");
	/* Borrowed structures must be sorted already. */
	CHECK_STATUS(context, sl_pattern_wrap(&p, context, 2, 3, 3, good, SL_I32, unsorted, NULL, NULL), SL_ERR_STRUCTURE,
				 "not sorted");
	CHECK_STATUS(context, sl_pattern_wrap(&p, context, 2, 3, 3, good, SL_I32, twice, NULL, NULL), SL_ERR_STRUCTURE,
				 "occurs twice");
	CHECK(!p);
	sl_context_destroy(context);
}

static void count_release(void *user) {
	++*(int *)user;
}

SL_TEST(sparse, borrowed_arrays_stay_where_they_are) {
	sl_context *context = sl_test_context();
	int64_t offsets[] = {0, 1, 1, 3};
	int32_t cols[] = {1, 0, 2};
	double values[] = {1, 2, 3};
	int released = 0;
	sl_pattern *p;
	sl_csr *m;
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_wrap(&p, context, 3, 3, 3, offsets, SL_I64, cols, count_release, &released));
	CHECK_OK(context, sl_csr_wrap(&m, context, p, values, SL_F64, count_release, &released));
	CHECK_OK(context, sl_pattern_get(context, p, &a));
	CHECK(a.row_offsets == offsets && a.col_indices == cols && sl_csr_values(m) == values);
	sl_pattern_release(p);
	CHECK_EQ(released, 0);
	sl_context_destroy(context); /* objects outlive their context */
	sl_csr_destroy(m);
	CHECK_EQ(released, 2);
}

SL_TEST(sparse, transpose_permutation) {
	sl_context *context = sl_test_context();
	sl_pattern *p;
	sl_pattern_arrays a, t;
	const void *permutation;
	sl_dtype dtype;
	CHECK_OK(context, sl_pattern_random(&p, context, 50, 70, 0.1, 3));
	CHECK_OK(context, sl_pattern_get(context, p, &a));
	CHECK_OK(context, sl_pattern_transpose(context, p, &t, &permutation, &dtype));
	CHECK(t.rows == 70 && t.cols == 50 && t.nnz == 350 && dtype == SL_I32);
	const int32_t *from = permutation, *rows = a.row_offsets, *offsets = t.row_offsets;
	for (int c = 0; c < 70; c++)
		for (int k = offsets[c]; k < offsets[c + 1]; k++) {
			CHECK_EQ(a.col_indices[from[k]], c);
			CHECK(rows[t.col_indices[k]] <= from[k] && from[k] < rows[t.col_indices[k] + 1]);
			CHECK(k == offsets[c] || t.col_indices[k] > t.col_indices[k - 1]);
		}
	sl_pattern_release(p);
	sl_context_destroy(context);
}

SL_TEST(sparse, random_patterns) {
	sl_context *context = sl_test_context();
	static const double densities[] = {0, 0.01, 0.3, 0.5, 0.7, 0.99, 1};
	for (size_t i = 0; i < sizeof densities / sizeof *densities; i++) {
		sl_pattern *p, *again, *other;
		uint64_t hash[3];
		sl_pattern_arrays a;
		CHECK_OK(context, sl_pattern_random(&p, context, 100, 90, densities[i], 5));
		CHECK_OK(context, sl_pattern_random(&again, context, 100, 90, densities[i], 5));
		CHECK_OK(context, sl_pattern_random(&other, context, 100, 90, densities[i], 6));
		CHECK_OK(context, sl_pattern_get(context, p, &a));
		CHECK_EQ(a.nnz, llround(densities[i] * 9000));
		CHECK_OK(context, sl_pattern_hash(context, p, &hash[0]));
		CHECK_OK(context, sl_pattern_hash(context, again, &hash[1]));
		CHECK_OK(context, sl_pattern_hash(context, other, &hash[2]));
		CHECK(hash[0] == hash[1]);
		CHECK((hash[0] != hash[2]) == (densities[i] > 0 && densities[i] < 1));
		/* Uniform: each column's count is binomial; 6 sigma. */
		int counts[90] = {0};
		for (int64_t k = 0; k < a.nnz; k++)
			counts[a.col_indices[k]]++;
		double sigma = sqrt(100 * densities[i] * (1 - densities[i]));
		for (int c = 0; c < 90; c++)
			CHECK_NEAR(counts[c], 100 * densities[i], 6 * sigma + 1e-9);
		/* What was handed out can be wrapped: it is valid. */
		sl_pattern *wrapped;
		CHECK_OK(context, sl_pattern_wrap(&wrapped, context, a.rows, a.cols, a.nnz, a.row_offsets, a.offset_dtype,
										  a.col_indices, NULL, NULL));
		sl_pattern_release(wrapped), sl_pattern_release(p), sl_pattern_release(again), sl_pattern_release(other);
	}
	sl_pattern *p;
	CHECK_STATUS(context, sl_pattern_random(&p, context, 3, 3, 1.5, 0), SL_ERR_ARGUMENT, "density");
	CHECK_STATUS(context, sl_pattern_random(&p, context, 3, 3, NAN, 0), SL_ERR_ARGUMENT, "density");
	CHECK_STATUS(context, sl_pattern_random(&p, context, INT64_C(1) << 33, INT64_C(1) << 30, 0.5, 0), SL_ERR_OVERFLOW,
				 "");
	CHECK_STATUS(context, sl_pattern_random(&p, context, 1 << 20, 1 << 30, 0.5, 0), SL_ERR_MEMORY, "");
	sl_context_destroy(context);
}

SL_TEST(sparse, n_of_m) {
	sl_context *context = sl_test_context();
	sl_pattern *p;
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_n_m(&p, context, 40, 30, 2, 4, 1)); /* 30 = 7 * 4 + 2 */
	CHECK_OK(context, sl_pattern_get(context, p, &a));
	CHECK_EQ(a.nnz, 40 * (7 * 2 + 2));
	const int32_t *offsets = a.row_offsets;
	int drawn[4] = {0};
	for (int r = 0; r < 40; r++) {
		int groups[8] = {0};
		for (int k = offsets[r]; k < offsets[r + 1]; k++) {
			groups[a.col_indices[k] / 4]++;
			drawn[a.col_indices[k] % 4] += a.col_indices[k] < 28;
		}
		for (int g = 0; g < 8; g++)
			CHECK_EQ(groups[g], 2);
	}
	for (int i = 0; i < 4; i++) /* 280 draws of probability a half; 6 sigma */
		CHECK_NEAR(drawn[i], 140, 6 * sqrt(280 * 0.25));
	sl_pattern_release(p);
	CHECK_OK(context, sl_pattern_n_m(&p, context, 3, 0, 1, 4, 1));
	sl_pattern_release(p);
	CHECK_STATUS(context, sl_pattern_n_m(&p, context, 4, 4, 5, 4, 1), SL_ERR_ARGUMENT, "5:4");
	sl_context_destroy(context);
}

SL_TEST(sparse, densities_add_up) {
	sl_context *context = sl_test_context();
	int64_t shapes[][2] = {{1024, 784}, {1024, 1024}, {10, 1024}, {64, 3}};
	int64_t kernels[][2] = {{0, 0}, {1, 1}, {3, 3}, {7, 7}};
	for (int distribution = SL_UNIFORM; distribution <= SL_ERDOS_RENYI_KERNEL; distribution++)
		for (double density = 0; density <= 1; density += 0.125) {
			double d[4], held = 0, all = 0;
			CHECK_OK(context, sl_density_distribute(context, (sl_distribution)distribution, density, 4, shapes,
													distribution == SL_ERDOS_RENYI_KERNEL ? kernels : NULL, d));
			for (int i = 0; i < 4; i++) {
				double size = (double)(shapes[i][0] * shapes[i][1]);
				if (distribution == SL_ERDOS_RENYI_KERNEL && kernels[i][0])
					size *= (double)(kernels[i][0] * kernels[i][1]);
				CHECK(d[i] >= 0 && d[i] <= 1);
				held += d[i] * size;
				all += size;
			}
			CHECK_NEAR(held / all, density, 1e-12);
			if (distribution == SL_ERDOS_RENYI && d[0] > 0 && d[0] < 1 && d[1] < 1) /* the definition */
				CHECK_NEAR(d[0] / d[1], (1808.0 / (1024 * 784)) / (2048.0 / (1024 * 1024)), 1e-9);
		}
	sl_context_destroy(context);
}

SL_TEST(sparse, nothing_at_all) {
	sl_context *context = sl_test_context();
	int32_t zeros[4] = {0};
	sl_csr *m, *t;
	for (int64_t rows = 0; rows <= 3; rows += 3)
		for (int64_t cols = 0; cols <= 3; cols += 3) {
			CHECK_OK(context,
					 sl_csr_create(&m, context, rows, cols, 0, zeros, SL_I32, NULL, SL_I32, NULL, SL_F32, NULL));
			CHECK_OK(context, sl_csr_transpose(&t, context, m));
			CHECK(!sl_csr_values(m));
			float dense[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
			sl_dense view = sl_dense_view(dense, SL_F32, rows, cols);
			CHECK_OK(context, sl_csr_to_dense(context, m, &view));
			CHECK(rows * cols == 0 || dense[8] == 0);
			sl_csr_destroy(m), sl_csr_destroy(t);
			CHECK_OK(context, sl_csr_create_coo(&m, context, rows, cols, 0, NULL, NULL, SL_I32, NULL, SL_F32, NULL));
			sl_csr_destroy(m);
			CHECK_OK(context, sl_csr_create_top_k(&m, context, &view, 0, NULL));
			sl_csr_destroy(m);
		}
	sl_context_destroy(context);
}

SL_TEST(sparse, values_of_other_dtypes) {
	sl_context *context = sl_test_context();
	heap *h;
	sl_csr *m = make(context, &h, 4), *narrow, *back;
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(m), &a));
	static const sl_dtype dtypes[] = {SL_F32, SL_F64, SL_BF16, SL_F16};
	static const double bounds[] = {0x1p-24, 0, 0x1p-9, 0x1p-12};
	for (int i = 0; i < 4; i++) {
		CHECK_OK(context, sl_csr_convert(&narrow, context, m, dtypes[i]));
		CHECK(sl_csr_pattern(narrow) == sl_csr_pattern(m));
		CHECK_OK(context, sl_csr_convert(&back, context, narrow, SL_F64));
		for (int64_t k = 0; k < a.nnz; k++) {
			double v = ((double *)sl_csr_values(m))[k];
			CHECK_NEAR(((double *)sl_csr_values(back))[k], v, bounds[i] * fabs(v) + (i == 3 ? 0x1p-25 : 0));
		}
		sl_csr_destroy(narrow), sl_csr_destroy(back);
	}
	CHECK_STATUS(context, sl_csr_convert(&back, context, m, SL_I32), SL_ERR_DTYPE, "i32");
	sl_csr_destroy(m), free(h);
	sl_context_destroy(context);
}
