/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products on the CUDA module by each candidate, against a reference in double: every order of the dense matrices,
 * every dtype, batches and rows around each tile, rows in parts. Bounds as on the CPU: u(storage) * |result| +
 * 8 * u(accumulator) * sum |a||b|. With numbers whose sums are exact there is one right answer, rounded once.
 */
#include "both.h"

static const sl_dtype dtypes[] = {SL_F32, SL_F64, SL_BF16, SL_F16};

static double accumulator(sl_dtype dtype) {
	return view_eps(dtype == SL_F64 ? SL_F64 : SL_F32);
}

static double least(sl_dtype dtype) {
	return dtype == SL_F16 ? 0x1p-25 : 0;
}

/* A sparse matrix and its transpose, in exact blocks of memory. */
typedef struct matrix {
	int64_t rows, cols, nnz;
	sl_sparse_view view;
	view_block values;
} matrix;

static size_t offset_bytes(const sl_pattern_arrays *a) {
	return (size_t)(a->rows + 1) * sl_dtype_size(a->offset_dtype);
}

static void fill(view_block *b, uint64_t seed, bool exact) {
	view_fill(b, seed, 1);
	for (int64_t r = 0; r < b->view.rows && exact; r++)
		for (int64_t c = 0; c < b->view.cols; c++) {
			int64_t at = view_at(&b->view, r, c);
			view_set(b->view.data, b->view.dtype, at, rint(view_element(b->view.data, b->view.dtype, at) * 127) / 128);
		}
}

/* The transpose, by counting. */
static void turn(sl_sparse_view *v) {
	const sl_pattern_arrays *a = &v->arrays;
	const int32_t *offsets = a->row_offsets;
	int32_t *begins = calloc((size_t)a->cols + 2, 4), *rows = malloc((size_t)a->nnz * 4 + 4);
	int32_t *from = malloc((size_t)a->nnz * 4 + 4);
	for (int64_t e = 0; e < a->nnz; e++)
		begins[a->col_indices[e] + 2]++;
	for (int64_t c = 0; c < a->cols; c++)
		begins[c + 2] += begins[c + 1];
	for (int32_t r = 0; r < a->rows; r++)
		for (int32_t e = offsets[r]; e < offsets[r + 1]; e++) {
			int32_t to = begins[a->col_indices[e] + 1]++;
			rows[to] = r;
			from[to] = e;
		}
	v->transposed = v->host_transposed = (sl_pattern_arrays){a->cols, a->rows, a->nnz, begins, SL_I32, rows};
	v->permutation = from;
	v->permutation_dtype = SL_I32;
}

/* Rows of all lengths: row r has about density * (2 r / rows) of the columns; every fifth is empty. */
static matrix make_matrix(both *t, sl_dtype dtype, int64_t rows, int64_t cols, double density, bool exact) {
	matrix m = {.rows = rows, .cols = cols};
	int64_t most = rows * cols + 1;
	int32_t *columns = malloc((size_t)most * 4), *offsets = calloc((size_t)rows + 1, 4);
	uint64_t state = (uint64_t)(rows * 31 + cols);
	for (int64_t r = 0; r < rows; r++) {
		double wanted = density >= 1 ? 1 : r % 5 == 3 ? 0 : density * 2 * (double)(r + 1) / (double)rows;
		for (int64_t c = 0; c < cols; c++) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			if ((double)(state >> 11) * 0x1p-53 < wanted)
				columns[m.nnz++] = (int32_t)c;
		}
		offsets[r + 1] = (int32_t)m.nnz;
	}
	(void)t;
	m.view.arrays = m.view.host = (sl_pattern_arrays){rows, cols, m.nnz, offsets, SL_I32, columns};
	turn(&m.view);
	m.values = view_create(dtype, SL_ROW_MAJOR, 1, m.nnz, 0);
	fill(&m.values, 17, exact);
	return m;
}

static void free_matrix(matrix *m) {
	const sl_pattern_arrays *all[] = {&m->view.arrays, &m->view.transposed};
	for (int i = 0; i < 2; i++) {
		free((void *)(uintptr_t)all[i]->row_offsets);
		free((void *)(uintptr_t)all[i]->col_indices);
	}
	free((void *)(uintptr_t)m->view.permutation);
	view_free(&m->values);
}

static void add_matrix(both *t, const matrix *m) {
	const sl_pattern_arrays *both_of[] = {&m->view.arrays, &m->view.transposed};
	for (int i = 0; i < 2; i++) {
		both_block(t, (void *)(uintptr_t)both_of[i]->row_offsets, offset_bytes(both_of[i]));
		both_block(t, (void *)(uintptr_t)both_of[i]->col_indices, (size_t)m->nnz * 4);
	}
	both_block(t, (void *)(uintptr_t)m->view.permutation, (size_t)m->nnz * sl_dtype_size(m->view.permutation_dtype));
	both_view(t, &m->values);
}

typedef struct product_case {
	int64_t m, k, n;
	double density;
	int kind; /* 0: S B, 1: S^T B, 2: A B */
	sl_dtype dtype;
	int a, b, c;
	double beta;
	sl_activation activation;
	bool bias, pre, exact, once;
	const char *candidate;
} product_case;

static double activated(sl_activation kind, double z) {
	return kind == SL_RELU ? (z > 0 ? z : 0) : kind == SL_TANH ? tanh(z) : z;
}

static void check_product(both *t, product_case p) {
	bool dense = p.kind == 2, turned = p.kind == 1;
	matrix s = {0};
	view_block a = {0};
	if (dense) {
		a = view_create(p.dtype, (sl_order)p.a, p.m, p.k, 16);
		fill(&a, 17, p.exact);
		both_view(t, &a);
	} else {
		s = make_matrix(t, p.dtype, turned ? p.k : p.m, turned ? p.m : p.k, p.density, p.exact);
		add_matrix(t, &s);
	}
	int64_t width = p.c >= 2 && (p.n & 1) ? 8 : 16;
	view_block b = view_create(p.dtype, (sl_order)p.b, p.k, p.n, p.n <= 16 ? 16 : width);
	view_block c = view_output(p.dtype, (sl_order)p.c, p.m, p.n, p.a & 1 && p.n <= 100 ? 100 : width);
	view_block d = view_output(p.dtype, (sl_order)p.c, p.m, p.n, c.view.ld),
			   old = view_create(p.dtype, SL_ROW_MAJOR, p.m, p.n, 0);
	view_block bias = view_create(p.dtype == SL_F64 ? SL_F64 : SL_F32, SL_ROW_MAJOR, 1, p.m, 0);
	fill(&b, 3, p.exact), fill(&old, 4, p.exact), fill(&bias, 5, p.exact);
	for (int64_t r = 0; r < p.m; r++)
		for (int64_t j = 0; j < p.n; j++)
			view_set(c.view.data, p.dtype, view_at(&c.view, r, j), p.beta == 0 ? NAN : view_load(&old.view, r, j));
	both_view(t, &b), both_view(t, &c), both_view(t, &d), both_view(t, &bias);
	sl_op_desc desc = {.kind = dense ? SL_OP_GEMM : SL_OP_SPMM,
					   .a = {.dtype = p.dtype},
					   .b = both_desc(&b.view),
					   .c = both_desc(&c.view),
					   .transpose = turned,
					   .activation = p.activation,
					   .bias = p.bias,
					   .pre_activation = p.pre,
					   .candidate = p.candidate || dense ? p.candidate : "own",
					   .once = p.once};
	sl_op_args args = {.alpha = p.exact ? 0.5 : 0.7, .beta = p.beta, .b = b.view, .c = c.view};
	if (dense) {
		desc.a = both_desc(&a.view);
		args.a = a.view;
	} else {
		desc.sparse = s.view;
		if (!turned)
			desc.sparse.transposed = (sl_pattern_arrays){0};
		args.values = s.values.view.data;
	}
	args.bias = p.bias ? bias.view.data : NULL;
	if (p.pre)
		args.d = d.view;
	both_run_gpu(t, &desc, &args);
	view_block got = c, pre = d;
	got.bytes = both_gpu(t, c.bytes), got.view.data = both_gpu(t, c.view.data);
	pre.bytes = both_gpu(t, d.bytes), pre.view.data = both_gpu(t, d.view.data);
	CHECK(view_intact(&got));
	CHECK(!p.pre || view_intact(&pre));
	double *z = calloc((size_t)(p.m * p.n) + 1, 8), *size = calloc((size_t)(p.m * p.n) + 1, 8);
	for (int64_t r = 0; dense && r < p.m; r++)
		for (int64_t i = 0; i < p.k; i++)
			for (int64_t j = 0; j < p.n; j++) {
				double x = args.alpha * view_load(&a.view, r, i) * view_load(&b.view, i, j);
				z[r * p.n + j] += x, size[r * p.n + j] += fabs(x);
			}
	for (int64_t r = 0; !dense && r < s.rows; r++)
		for (int64_t e = ((const int32_t *)s.view.arrays.row_offsets)[r];
			 e < ((const int32_t *)s.view.arrays.row_offsets)[r + 1]; e++)
			for (int64_t j = 0; j < p.n; j++) {
				int64_t col = s.view.arrays.col_indices[e], row = turned ? col : r;
				double x = args.alpha * view_load(&s.values.view, 0, e) * view_load(&b.view, turned ? r : col, j);
				z[row * p.n + j] += x, size[row * p.n + j] += fabs(x);
			}
	for (int64_t r = 0; r < p.m; r++)
		for (int64_t j = 0; j < p.n; j++) {
			double sum = z[r * p.n + j], sizes = size[r * p.n + j], y, u = accumulator(p.dtype);
			if (p.beta != 0)
				sum += p.beta * view_load(&old.view, r, j), sizes += fabs(p.beta * view_load(&old.view, r, j));
			if (p.bias)
				sum += view_load(&bias.view, 0, r), sizes += fabs(view_load(&bias.view, 0, r));
			y = activated(p.activation, sum);
			double slack = 8 * u * sizes + least(p.dtype) + (p.activation ? 4 * u * (fabs(sum) + fabs(y)) : 0);
			if (p.exact) {
				CHECK(view_load(&got.view, r, j) == view_round(p.dtype, y));
				CHECK(!p.pre || view_load(&pre.view, r, j) == view_round(p.dtype, sum));
				continue;
			}
			CHECK_NEAR(view_load(&got.view, r, j), y, view_eps(p.dtype) * fabs(y) + slack);
			if (p.pre)
				CHECK_NEAR(view_load(&pre.view, r, j), sum, view_eps(p.dtype) * fabs(sum) + slack);
		}
	free(z), free(size);
	both_forget(t);
	view_free(&b), view_free(&c), view_free(&d), view_free(&old), view_free(&bias);
	if (dense)
		view_free(&a);
	else
		free_matrix(&s);
}

SL_TEST(own_products, spmm_of_every_batch_and_dtype) {
	/* Around 8 lanes, 32 lanes and two tiles of vectors. */
	static const int64_t batches[] = {0, 1, 2, 3, 4, 5, 8, 9, 31, 32, 33, 64, 65, 128, 129, 257};
	both *t = both_open();
	for (int d = 0; d < 4; d++)
		for (int n = 0; n < 16; n++)
			for (int kind = 0; kind < 2; kind++)
				check_product(t, (product_case){.m = 9,
												.k = 40,
												.n = batches[n],
												.density = 0.3,
												.kind = kind,
												.dtype = dtypes[d],
												.b = n & 1 ? SL_ROW_MAJOR : SL_COL_PANELS,
												.c = n & 1 ? SL_COL_PANELS : SL_ROW_MAJOR,
												.a = n,
												.beta = n & 2 ? 0.5 : 0,
												.once = n & 4});
	both_close(t);
}

SL_TEST(own_products, spmm_of_every_order_with_epilogues) {
	both *t = both_open();
	for (int o = 0; o < 16; o++)
		for (int d = 0; d < 4; d++)
			for (int kind = 0; kind < 3; kind++) {
				product_case p = {.m = 17,
								  .k = 23,
								  .n = o & 1 ? 9 : 18,
								  .density = 0.4,
								  .kind = kind,
								  .dtype = dtypes[d],
								  .a = (o + d) & 3,
								  .b = o & 3,
								  .c = o >> 2,
								  .beta = 0.5,
								  .bias = true};
				check_product(t, p);
				p.beta = 0, p.bias = false, p.pre = true, p.activation = SL_TANH;
				check_product(t, p);
				p.bias = p.exact = true, p.activation = SL_RELU, p.beta = 0.5;
				check_product(t, p);
			}
	both_close(t);
}

/* On tensor cores: around a tile of 64 rows, of 64 and 128 columns, of 16 (f32) and 32 of what is summed over. */
static const sl_dtype tensor_dtypes[] = {SL_F32, SL_BF16, SL_F16};

SL_TEST(own_products, tensor_cores_at_every_edge) {
	static const int64_t rows[] = {1, 63, 64, 65}, inner[] = {0, 1, 15, 16, 17, 31, 32, 33, 70},
						 batches[] = {0, 1, 7, 8, 63, 64, 65, 127, 128, 129, 200};
	both *t = both_open();
	for (int d = 0; d < 3; d++)
		for (int i = 0; i < 22; i++)
			check_product(t, (product_case){.m = rows[i % 4],
											.k = inner[i % 9],
											.n = batches[i % 11],
											.density = i % 3 ? 0.5 : 1,
											.kind = i & 1,
											.dtype = tensor_dtypes[d],
											.a = i,
											.b = i & 3,
											.c = i >> 2 & 3,
											.beta = i & 2 ? 0.5 : 0,
											.bias = i & 4,
											.pre = i & 8,
											.activation = i % 5 ? SL_IDENTITY : SL_TANH,
											.exact = i % 5 && d && i & 1,
											.candidate = "own-tensor"});
	both_close(t);
}

/* What is not stored is absent, though the tile is written out: infinities and NaNs of the dense matrix, and stored
 * ones of the sparse, reach what the sparse product takes them to. */
SL_TEST(own_products, tensor_cores_keep_what_is_absent_absent) {
	static const double strange[] = {INFINITY, -INFINITY, NAN, 3.4e38};
	both *t = both_open();
	for (int d = 0; d < 3; d++)
		for (int k = 0; k < 4; k++)
			for (int stored = 0; stored < 2; stored++) {
				sl_dtype dtype = tensor_dtypes[d];
				matrix s = make_matrix(t, dtype, 70, 50, 0.4, false);
				view_block b = view_create(dtype, SL_ROW_MAJOR, 50, 20, 0),
						   c = view_create(dtype, SL_ROW_MAJOR, 70, 20, 0);
				view_fill(&b, 1, 1);
				if (stored)
					view_set(s.values.view.data, dtype, s.nnz / 2, view_round(dtype, strange[k]));
				else
					view_set(b.view.data, dtype, view_at(&b.view, 33, 7), view_round(dtype, strange[k]));
				add_matrix(t, &s);
				both_view(t, &b), both_view(t, &c);
				sl_op_desc desc = {.kind = SL_OP_SPMM,
								   .a = {.dtype = dtype},
								   .b = both_desc(&b.view),
								   .c = both_desc(&c.view),
								   .sparse = s.view,
								   .candidate = "own-tensor"};
				desc.sparse.transposed = (sl_pattern_arrays){0};
				sl_op_args args = {.alpha = 1, .b = b.view, .c = c.view, .values = s.values.view.data};
				both_run(t, &desc, &args);
				both_compare(t, &c, 4 * view_eps(dtype) + 1e-5, 1e-5);
				both_forget(t);
				free_matrix(&s);
				view_free(&b), view_free(&c);
			}
	both_close(t);
}

/* TF32 by one product where it is allowed, by three where not: the bound of f32 tells them apart. */
SL_TEST(own_products, tensor_cores_in_tf32_only_when_asked) {
	for (int asked = 0; asked < 2; asked++) {
		both *t = both_open();
		matrix s = make_matrix(t, SL_F32, 40, 60, 0.5, false);
		view_block b = view_create(SL_F32, SL_ROW_MAJOR, 60, 24, 0), c = view_create(SL_F32, SL_ROW_MAJOR, 40, 24, 0);
		view_fill(&b, 1, 1);
		add_matrix(t, &s);
		both_view(t, &b), both_view(t, &c);
		t->host.tf32 = asked;
		sl_op_desc desc = {.kind = SL_OP_SPMM,
						   .a = {.dtype = SL_F32},
						   .b = both_desc(&b.view),
						   .c = both_desc(&c.view),
						   .sparse = s.view,
						   .candidate = "own-tensor"};
		desc.sparse.transposed = (sl_pattern_arrays){0};
		sl_op_args args = {.alpha = 1, .b = b.view, .c = c.view, .values = s.values.view.data};
		both_run_gpu(t, &desc, &args);
		view_block got = c;
		got.bytes = both_gpu(t, c.bytes), got.view.data = both_gpu(t, c.view.data);
		double worst = 0;
		for (int64_t r = 0; r < 40; r++)
			for (int64_t j = 0; j < 24; j++) {
				double z = 0, size = 0;
				for (int64_t e = ((const int32_t *)s.view.arrays.row_offsets)[r];
					 e < ((const int32_t *)s.view.arrays.row_offsets)[r + 1]; e++) {
					double x = view_load(&s.values.view, 0, e) * view_load(&b.view, s.view.arrays.col_indices[e], j);
					z += x, size += fabs(x);
				}
				if (size > 0)
					worst = fmax(worst, fabs(view_load(&got.view, r, j) - z) / size);
			}
		CHECK(asked ? worst > 0x1p-16 && worst < 0x1p-9 : worst < 0x1p-21);
		both_forget(t);
		free_matrix(&s);
		view_free(&b), view_free(&c);
		both_close(t);
	}
}

/* SL_OP_PATTERN: the transpose that the device makes, and that it finds nothing wrong with a sound pattern. */
SL_TEST(own_products, patterns_are_transposed_and_checked) {
	static const int64_t sizes[][2] = {{1, 1}, {7, 300}, {300, 7}, {40, 257}, {9, 70000}};
	both *t = both_open();
	for (int k = 0; k < 5; k++) {
		matrix s = make_matrix(t, SL_F32, sizes[k][0], sizes[k][1], k == 4 ? 0.005 : 0.4, false);
		size_t entries = (size_t)s.nnz * 4, lines = (size_t)(s.cols + 1) * 4;
		int32_t *out[3] = {calloc(1, lines), calloc(1, entries + 4), calloc(1, entries + 4)};
		int64_t found[2] = {0};
		for (int step = SL_PATTERN_OFFSETS; step <= SL_PATTERN_TRANSPOSE; step++) {
			add_matrix(t, &s);
			both_block(t, out[0], lines), both_block(t, out[1], entries + 4), both_block(t, out[2], entries + 4);
			both_block(t, found, sizeof found);
			sl_op_desc desc = {.kind = SL_OP_PATTERN, .variant = step, .sparse = s.view};
			sl_op_args args = {.vector = {out[0], out[1], out[2]}, .result = found};
			both_run_gpu(t, &desc, &args);
			if (step == SL_PATTERN_TRANSPOSE) {
				CHECK(!memcmp(both_gpu(t, out[0]), s.view.transposed.row_offsets, lines));
				CHECK(!memcmp(both_gpu(t, out[1]), s.view.transposed.col_indices, entries));
				CHECK(!memcmp(both_gpu(t, out[2]), s.view.permutation, entries));
			} else {
				CHECK(*(int64_t *)both_gpu(t, found) == INT64_MAX);
			}
			both_forget(t);
		}
		for (int i = 0; i < 3; i++)
			free(out[i]);
		free_matrix(&s);
	}
	both_close(t);
}

SL_TEST(own_products, empty_ones) {
	static const int64_t sizes[][3] = {{0, 4, 3}, {4, 0, 3}, {4, 3, 0}, {1, 1, 1}, {5, 0, 40}};
	both *t = both_open();
	for (int s = 0; s < 5; s++)
		for (int kind = 0; kind < 3; kind++)
			for (int beta = 0; beta < 2; beta++)
				check_product(t, (product_case){.m = sizes[s][0],
												.k = sizes[s][1],
												.n = sizes[s][2],
												.density = 0.6,
												.kind = kind,
												.dtype = dtypes[(s + kind) & 3],
												.beta = beta ? 0.5 : 0,
												.bias = s & 1});
	both_close(t);
}

SL_TEST(own_products, long_rows_are_walked_through_in_parts) {
	both *t = both_open();
	for (int d = 0; d < 4; d++)
		for (int n = 0; n < 3; n++) {
			static const int64_t batches[] = {1, 7, 40};
			/* Rows of up to 1500 entries: whole, in two parts, in three. */
			check_product(t, (product_case){.m = 6,
											.k = 1500,
											.n = batches[n],
											.density = 0.7,
											.dtype = dtypes[d],
											.beta = 0.5,
											.bias = true,
											.pre = true,
											.activation = SL_RELU,
											.c = SL_COL_PANELS,
											.b = SL_COL_PANELS});
			check_product(t,
						  (product_case){
							  .m = 1, .k = 1500, .n = batches[n], .density = 1, .dtype = dtypes[d], .b = SL_ROW_MAJOR});
		}
	both_close(t);
}

SL_TEST(own_products, values_that_are_not_the_rows_own_are_not_read) {
	/* What lies before and behind a row's quads is infinite: 0 times it would show. */
	both *t = both_open();
	for (int n = 1; n <= 33; n += 8) {
		matrix s = make_matrix(t, SL_F32, 7, 30, 0.4, false);
		view_block b = view_create(SL_F32, SL_ROW_MAJOR, 30, n, 0), c = view_create(SL_F32, SL_ROW_MAJOR, 7, n, 0);
		view_fill(&b, 1, 1);
		for (int64_t j = 0; j < n; j++) /* column 0, which a filler would name */
			view_set(b.view.data, SL_F32, view_at(&b.view, 0, j), INFINITY);
		add_matrix(t, &s);
		both_view(t, &b), both_view(t, &c);
		sl_op_desc desc = {.kind = SL_OP_SPMM,
						   .a = {.dtype = SL_F32},
						   .b = both_desc(&b.view),
						   .c = both_desc(&c.view),
						   .sparse = s.view,
						   .candidate = "own"};
		desc.sparse.transposed = (sl_pattern_arrays){0};
		sl_op_args args = {.alpha = 1, .b = b.view, .c = c.view, .values = s.values.view.data};
		both_run(t, &desc, &args);
		both_compare(t, &c, 1e-5, 1e-6);
		both_forget(t);
		free_matrix(&s);
		view_free(&b), view_free(&c);
	}
	both_close(t);
}

static void check_sddmm(both *t, sl_dtype dtype, int64_t m, int64_t n, int64_t k, int ao, int bo, double beta,
						const char *candidate, bool once) {
	matrix s = make_matrix(t, dtype, m, n, 0.5, false);
	view_block a = view_create(dtype, (sl_order)ao, m, k, k <= 16 ? 16 : 8),
			   b = view_create(dtype, (sl_order)bo, k, n, k <= 40 ? 40 : 300);
	view_block old = view_create(dtype, SL_ROW_MAJOR, 1, s.nnz, 0);
	view_fill(&a, 1, 1), view_fill(&b, 2, 1), view_fill(&old, 3, 1);
	for (int64_t e = 0; e < s.nnz; e++)
		view_set(s.values.view.data, dtype, e, beta == 0 ? NAN : view_load(&old.view, 0, e));
	add_matrix(t, &s);
	both_view(t, &a), both_view(t, &b);
	sl_op_desc desc = {.kind = SL_OP_SDDMM,
					   .a = both_desc(&a.view),
					   .b = both_desc(&b.view),
					   .c = {.rows = m, .cols = n, .dtype = dtype},
					   .sparse = s.view,
					   .candidate = candidate ? candidate : "own",
					   .once = once};
	desc.sparse.transposed = (sl_pattern_arrays){0};
	sl_op_args args = {.alpha = 0.7, .beta = beta, .a = a.view, .b = b.view, .values_out = s.values.view.data};
	both_run_gpu(t, &desc, &args);
	view_block got = s.values;
	got.bytes = both_gpu(t, s.values.bytes), got.view.data = both_gpu(t, s.values.view.data);
	CHECK(view_intact(&got));
	for (int64_t r = 0; r < m; r++)
		for (int64_t e = ((const int32_t *)s.view.arrays.row_offsets)[r];
			 e < ((const int32_t *)s.view.arrays.row_offsets)[r + 1]; e++) {
			double z = beta == 0 ? 0 : beta * view_load(&old.view, 0, e), size = fabs(z);
			for (int64_t q = 0; q < k; q++) {
				double x = 0.7 * view_load(&a.view, r, q) * view_load(&b.view, q, s.view.arrays.col_indices[e]);
				z += x, size += fabs(x);
			}
			CHECK_NEAR(view_load(&got.view, 0, e), z,
					   view_eps(dtype) * fabs(z) + 8 * accumulator(dtype) * size + least(dtype));
		}
	both_forget(t);
	free_matrix(&s);
	view_free(&a), view_free(&b), view_free(&old);
}

SL_TEST(own_products, sddmm_of_every_batch_order_and_dtype) {
	static const int64_t batches[] = {0, 1, 15, 16, 17, 31, 33, 64, 65, 129, 260};
	both *t = both_open();
	for (int d = 0; d < 4; d++) {
		for (int k = 0; k < 11; k++) {
			check_sddmm(t, dtypes[d], 7, 21, batches[k], SL_ROW_MAJOR, SL_COL_MAJOR, k & 1 ? 0.5 : 0, NULL, k & 2);
			check_sddmm(t, dtypes[d], 5, 13, batches[k], SL_COL_PANELS, SL_ROW_PANELS, k & 1 ? 0 : 0.5, NULL, false);
		}
		for (int o = 0; o < 16; o++)
			check_sddmm(t, dtypes[d], 6, 19, 20, o & 3, o >> 2, 0.5, NULL, false);
	}
	check_sddmm(t, SL_F32, 0, 4, 5, SL_ROW_MAJOR, SL_COL_MAJOR, 0, NULL, false);
	check_sddmm(t, SL_F32, 1, 1, 1, SL_ROW_MAJOR, SL_COL_MAJOR, 0, NULL, false);
	both_close(t);
}

SL_TEST(own_products, every_candidate_agrees) {
	both *t = both_open();
	sl_candidate list[8];
	int seen = 0;
	for (int d = 0; d < 4; d++)
		for (int n = 1; n < 40; n += 19)
			for (int kind = 0; kind < 2; kind++) {
				sl_op_desc desc = {.kind = SL_OP_SPMM,
								   .b = {20, n, n + 3, dtypes[d], SL_ROW_MAJOR},
								   .c = {9, n, n + 3, dtypes[d], SL_ROW_MAJOR}};
				int count = t->gpu->candidates(t->device, &desc, list, 8);
				CHECK(count >= 2 && count <= 8 && !strcmp(list[count - 1].name, "own"));
				for (int i = 0; i < count; i++, seen++)
					check_product(t, (product_case){.m = 9,
													.k = 20,
													.n = n,
													.density = 0.4,
													.kind = kind,
													.dtype = dtypes[d],
													.candidate = list[i].name,
													.beta = 0.5,
													.c = SL_ROW_MAJOR});
			}
	CHECK(seen > 30);
	for (int d = 0; d < 4; d++) {
		sl_op_desc desc = {.kind = SL_OP_SDDMM,
						   .a = {9, 20, 20, dtypes[d], SL_ROW_MAJOR},
						   .b = {20, 9, 20, dtypes[d], SL_COL_MAJOR},
						   .c = {.dtype = dtypes[d]}};
		int count = t->gpu->candidates(t->device, &desc, list, 8);
		for (int i = 0; i < count; i++)
			check_sddmm(t, dtypes[d], 9, 12, 20, SL_ROW_MAJOR, SL_COL_MAJOR, 0.5, list[i].name, false);
	}
	both_close(t);
}

/* Each call of a plan and a run in turn: a status, no misuse, nothing leaked. */
SL_TEST(own_products, every_call_may_fail) {
	if (!fake_cuda_present())
		sl_test_skip("only on the fake runtime");
	both *t = both_open();
	matrix s = make_matrix(t, SL_F32, 6, 1500, 0.7, false);
	view_block b = view_create(SL_F32, SL_ROW_PANELS, 1500, 3, 8), c = view_create(SL_F32, SL_COL_MAJOR, 6, 3, 8);
	sl_op_desc desc = {.kind = SL_OP_SPMM,
					   .a = {.dtype = SL_F32},
					   .b = both_desc(&b.view),
					   .c = both_desc(&c.view),
					   .pre_activation = true,
					   .candidate = "own"};
	void *at[6];
	size_t bytes[6] = {offset_bytes(&s.view.arrays), (size_t)s.nnz * 4,      (size_t)s.nnz * 4,
					   (size_t)b.elements * 4,       (size_t)c.elements * 4, (size_t)c.elements * 4};
	const void *from[6] = {s.view.arrays.row_offsets,
						   s.view.arrays.col_indices,
						   s.values.view.data,
						   b.view.data,
						   c.view.data,
						   c.view.data};
	for (int i = 0; i < 6; i++) {
		both_good(t, t->gpu->allocate(t->device, bytes[i], SL_MEMORY_DEVICE, &at[i]), "allocate");
		both_good(t, t->gpu->copy(t->device, at[i], SL_MEMORY_DEVICE, from[i], SL_MEMORY_HOST, bytes[i]), "copy");
	}
	both_good(t, t->gpu->synchronize(t->device), "copies");
	desc.sparse.host = desc.sparse.arrays = s.view.arrays;
	desc.sparse.arrays.row_offsets = at[0], desc.sparse.arrays.col_indices = at[1];
	sl_op_args args = {.alpha = 1, .beta = 0.5, .values = at[2], .b = b.view, .c = c.view, .d = c.view};
	args.b.data = at[3], args.c.data = at[4], args.d.data = at[5];
	long live = fake_cuda_live();
	int failed = 0;
	for (long k = 0;; k++) {
		sl_op_plan plan = {0};
		void *workspace = NULL;
		fake_cuda_reset();
		fake_cuda_fail_at(k);
		sl_status status = t->gpu->plan(t->device, &desc, &plan);
		bool planned = status == SL_OK;
		if (planned)
			status = t->gpu->allocate(t->device, plan.workspace, SL_MEMORY_DEVICE, &workspace);
		args.workspace = workspace;
		if (status == SL_OK)
			status = t->gpu->execute(t->device, &plan, &args);
		if (status == SL_OK)
			status = t->gpu->synchronize(t->device);
		char name[64];
		snprintf(name, sizeof name, "%s", fake_cuda_failed());
		fake_cuda_fail_at(-1);
		bool done = !*name;
		/* A question about captures that fails is answered by no; the caller's GPU is given back as well as may be, and
		 * memory that cannot be freed is freed later. */
		bool tolerated = strstr(name, "Capturing") || strstr(name, "cudaSetDevice") || strstr(name, "cudaGetDevice") ||
						 strstr(name, "cudaFree");
		if ((status == SL_OK) != done && !tolerated)
			sl_test_fail(__FILE__, __LINE__, "%s failed, status %s", name, sl_status_name(status));
		failed += status != SL_OK;
		(void)t->gpu->synchronize(t->device);
		t->gpu->release(t->device, workspace, plan.workspace, SL_MEMORY_DEVICE);
		if (planned)
			t->gpu->destroy(t->device, &plan);
		(void)t->gpu->synchronize(t->device);
		CHECK(!*fake_cuda_fault());
		CHECK_EQ(fake_cuda_live(), live);
		if (done)
			break;
	}
	CHECK(failed > 12);
	for (int i = 0; i < 6; i++)
		t->gpu->release(t->device, at[i], bytes[i], SL_MEMORY_DEVICE);
	free_matrix(&s);
	view_free(&b), view_free(&c);
	both_close(t);
}
