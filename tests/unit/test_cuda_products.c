/* SPDX-License-Identifier: Apache-2.0 */
/* Products of the CUDA module beyond plain SpMM: samples, 16 bits, candidates, and matrices in parts. */
#include "device.h"
#include "support/module_data.h"

enum { FLOATS = 4 };
static const sl_dtype dtypes[FLOATS] = {SL_F32, SL_F64, SL_F16, SL_BF16};

/* Values of S before and after, beside a reference. */
static void check_sddmm(test_host *h, void *device, sl_dtype dtype, int64_t rows, int64_t cols, int64_t n,
						double density, sl_order ao, sl_order bo, double alpha, double beta) {
	matrix s = make_matrix(dtype, rows, cols, density, 7);
	view_block a = make_view(dtype, ao, rows, n), b = make_view(dtype, bo, n, cols);
	mirror ma = {0}, mb = {0};
	view_fill(&a, 3, 1), view_fill(&b, 4, 1);
	if (beta == 0)
		for (int64_t k = 0; k < s.nnz; k++)
			view_set(s.typed, dtype, k, NAN);
	GOOD(h, matrix_up(device, &s));
	GOOD(h, mirror_up(device, &a, &ma));
	GOOD(h, mirror_up(device, &b, &mb));
	sl_op_desc desc = spmm_desc(&s, false, &mb.view, &ma.view);
	desc.kind = SL_OP_SDDMM;
	desc.a = describe(&ma.view);
	desc.c = (sl_matrix_desc){.rows = rows, .cols = cols, .dtype = dtype};
	sl_op_args args = {.alpha = alpha, .beta = beta, .a = ma.view, .b = mb.view};
	args.values_out = s.nnz ? s.on_device[5] : NULL;
	GOOD(h, run_planned(device, &desc, &args));
	GOOD(h, backend()->copy(device, s.typed, SL_MEMORY_HOST, s.on_device[5], SL_MEMORY_DEVICE, s.bytes[5]));
	GOOD(h, backend()->synchronize(device));
	for (int64_t r = 0; r < rows; r++)
		for (int64_t k = s.offsets[r]; k < s.offsets[r + 1]; k++) {
			sum want = {0};
			if (beta != 0)
				add(&want, beta * s.values[k]);
			for (int64_t i = 0; i < n; i++)
				add(&want, alpha * view_load(&a.view, r, i) * view_load(&b.view, i, s.columns[k]));
			sl_dense line = sl_dense_view(s.typed, dtype, 1, s.nnz);
			CHECK_NEAR(view_load(&line, 0, k), want.value, 8 * view_eps(dtype) * want.size);
		}
	drop_matrix(device, &s), mirror_free(device, &ma), mirror_free(device, &mb);
	free_matrix(&s), view_free(&a), view_free(&b);
}

SL_TEST(cuda_products, sddmm) {
	static const struct {
		int64_t rows, cols, n;
		double density;
	} shapes[] = {{9, 13, 5, 0.4}, {1, 7, 4, 1}, {7, 1, 4, 1}, {1, 1, 1, 1}, {6, 5, 1, 1},
				  {0, 4, 3, 1},    {4, 0, 3, 1}, {5, 6, 0, 1}, {5, 6, 7, 0}, {33, 40, 17, 0.1}};
	test_host h;
	init_host(&h);
	void *device = open_module(&h);
	for (int t = 0; t < 3; t++) /* cuSPARSE has no bf16 */
		for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
			for (int o = 0; o < ORDERS * ORDERS; o++)
				for (int f = 0; f < FACTORS; f++)
					check_sddmm(&h, device, dtypes[t], shapes[i].rows, shapes[i].cols, shapes[i].n, shapes[i].density,
								orders[o / ORDERS], orders[o % ORDERS], factors[f][0], factors[f][1]);
	close_module(&h, device);
}

static void check_spmm(test_host *h, void *device, sl_dtype dtype, bool transpose, int64_t n, sl_order bo, sl_order co,
					   double beta, const char *candidate, const char *text) {
	matrix a = make_matrix(dtype, 23, 17, 0.4, 7);
	int64_t m = transpose ? 17 : 23, k = transpose ? 23 : 17;
	view_block b = make_view(dtype, bo, k, n), c = make_output(dtype, co, m, n, beta, 5);
	mirror mb = {0}, mc = {0};
	view_fill(&b, 3, 1);
	sum *s = sparse_reference(&a, transpose, &b, &c, 0.75, beta);
	GOOD(h, matrix_up(device, &a));
	GOOD(h, mirror_up(device, &b, &mb));
	GOOD(h, mirror_up(device, &c, &mc));
	sl_op_desc desc = spmm_desc(&a, transpose, &mb.view, &mc.view);
	desc.sparse.host_transposed = (sl_pattern_arrays){17, 23, a.nnz, a.t_offsets, SL_I32, a.t_columns};
	desc.candidate = candidate ? candidate : "default";
	sl_op_args args = {.alpha = 0.75, .beta = beta, .b = mb.view, .c = mc.view, .values = a.on_device[5]};
	sl_op_plan plan = {0};
	GOOD(h, backend()->plan(device, &desc, &plan));
	if (!strstr(plan.text, text))
		sl_test_fail(__FILE__, __LINE__, "\"%s\" lacks \"%s\"", plan.text, text);
	backend()->destroy(device, &plan);
	GOOD(h, run_planned(device, &desc, &args));
	GOOD(h, mirror_down(device, &c, &mc));
	compare(&c, s, __LINE__);
	drop_matrix(device, &a), mirror_free(device, &mb), mirror_free(device, &mc);
	free_matrix(&a), view_free(&b), view_free(&c), free(s);
}

SL_TEST(cuda_products, every_candidate_in_every_dtype) {
	static const char *const names[][2] = {{"cusparse-alg1", "CSR_ALG1"},
										   {"cusparse-alg2", "CSR_ALG"},
										   {"cusparse-alg3", "CSR_ALG3"},
										   {"cublas", "written out, cuBLAS"},
										   {"default", "cuSPARSE"}};
	test_host h;
	init_host(&h);
	void *device = open_module(&h);
	for (int t = 0; t < FLOATS; t++)
		for (int i = 0; i < 5; i++)
			for (int o = 0; o < ORDERS * ORDERS; o++)
				for (int beta = 0; beta < 2; beta++)
					for (int transpose = 0; transpose < 2; transpose++)
						check_spmm(&h, device, dtypes[t], transpose, 6, orders[o / ORDERS], orders[o % ORDERS],
								   beta * 0.5, names[i][0], names[i][1]);
	close_module(&h, device);
}

SL_TEST(cuda_products, candidates_are_listed) {
	test_host h;
	init_host(&h);
	void *device = open_module(&h);
	sl_candidate list[8] = {{0}};
	sl_op_desc desc = {.kind = SL_OP_SPMM};
	int count = backend()->candidates(device, &desc, list, 8);
	CHECK(count >= 3);
	bool dense = false, sparse = false;
	for (int i = 0; i < count && i < 8; i++) {
		CHECK(list[i].name && *list[i].name);
		dense |= list[i].dense;
		sparse |= !list[i].dense;
	}
	CHECK(dense && sparse && !list[0].dense);
	CHECK_EQ(backend()->candidates(device, &desc, list, 0), count);
	close_module(&h, device);
}

/* Rows in parts of at most `entries`, columns in turns of at most `columns`: before, at and past each edge. The fake
 * fails inside, as cuSPARSE did, when it is given more at once. */
SL_TEST(cuda_products, past_what_cusparse_takes_at_once) {
	test_host h;
	init_host(&h);
	need_fake();
	void *device = open_module(&h);
	sl_cuda *cuda = device;
	matrix a = make_matrix(SL_F32, 23, 17, 0.4, 7);
	int64_t nnz = a.nnz;
	free_matrix(&a);
	const int64_t edges[] = {17, nnz / 3, nnz - 1, nnz, nnz + 1};
	const char *const texts[] = {" parts", " parts", "in 2 parts", "cuSPARSE", "cuSPARSE"};
	for (int i = 0; i < 5; i++)
		for (int transpose = 0; transpose < 2; transpose++)
			for (int o = 0; o < ORDERS; o++) {
				cuda->most_entries = edges[i] < 23 && transpose ? 23 : edges[i];
				fake_cuda_cusparse_version(120504);
				fake_cuda_cusparse_entries(cuda->most_entries);
				for (int64_t columns = 4; columns <= 8; columns += 2) {
					cuda->most_columns = columns;
					check_spmm(&h, device, SL_F32, transpose, 6, orders[o], orders[(o + 1) % ORDERS], 0.5, NULL,
							   texts[i]);
					CHECK_EQ(fake_cuda_widest(), columns < 6 ? columns : 6);
					fake_cuda_reset();
				}
				if (!transpose)
					check_sddmm(&h, device, SL_F32, 23, 17, 5, 0.4, orders[o], orders[(o + 2) % ORDERS], 0.5, -1);
			}
	/* A row that does not fit is refused. */
	cuda->most_entries = 2;
	a = make_matrix(SL_F32, 23, 17, 0.4, 7);
	GOOD(&h, matrix_up(device, &a));
	sl_dense b = {.data = a.on_device[5], .dtype = SL_F32, .rows = 17, .cols = 1, .ld = 1}, c = b;
	c.rows = 23;
	sl_op_desc desc = spmm_desc(&a, false, &b, &c);
	sl_op_plan plan;
	REFUSED(&h, backend()->plan(device, &desc, &plan), SL_ERR_UNSUPPORTED, "row of more entries");
	drop_matrix(device, &a);
	free_matrix(&a);
	close_module(&h, device);
}

/* Sizes past 2^31 are counted, not cut off. */
SL_TEST(cuda_products, sizes_past_two_to_the_31) {
	test_host h;
	init_host(&h);
	void *device = open_module(&h);
	int64_t offsets[] = {0, (int64_t)INT32_MAX - 1, (int64_t)INT32_MAX + 5};
	sl_dense b = {.dtype = SL_F32, .rows = INT32_MAX - 1, .cols = 1, .ld = 1},
			 c = {.dtype = SL_F32, .rows = 2, .cols = 1, .ld = 1};
	sl_op_desc desc = {.kind = SL_OP_SPMM, .b = describe(&b), .c = describe(&c), .candidate = "default"};
	desc.a.dtype = SL_F32;
	desc.sparse.arrays = (sl_pattern_arrays){2, INT32_MAX - 1, offsets[2], offsets, SL_I64, NULL};
	desc.sparse.host = desc.sparse.arrays;
	GOOD(&h, backend()->supports(device, &desc));
	sl_op_plan plan;
	REFUSED(&h, backend()->plan(device, &desc, &plan), SL_ERR_NULL, "column indices");
	desc.sparse.arrays.cols = (int64_t)INT32_MAX + 1;
	REFUSED(&h, backend()->supports(device, &desc), SL_ERR_UNSUPPORTED, "rows and columns");
	close_module(&h, device);
}

/* A plan that is run again has preprocessed; one for a single run has not. Values may change in between. */
SL_TEST(cuda_products, preprocessing_is_for_plans_that_are_kept) {
	test_host h;
	init_host(&h);
	need_fake();
	void *device = open_module(&h);
	for (int once = 0; once < 2; once++) {
		fake_cuda_reset();
		matrix a = make_matrix(SL_F32, 9, 8, 0.5, 7);
		view_block b = make_view(SL_F32, SL_ROW_MAJOR, 8, 4), c = make_output(SL_F32, SL_ROW_MAJOR, 9, 4, 0, 5);
		mirror mb = {0}, mc = {0};
		view_fill(&b, 3, 1);
		GOOD(&h, matrix_up(device, &a));
		GOOD(&h, mirror_up(device, &b, &mb));
		GOOD(&h, mirror_up(device, &c, &mc));
		sl_op_desc desc = spmm_desc(&a, false, &mb.view, &mc.view);
		desc.once = once;
		sl_op_plan plan;
		GOOD(&h, backend()->plan(device, &desc, &plan));
		sl_op_args args = {.alpha = 1, .b = mb.view, .c = mc.view, .values = a.on_device[5]};
		GOOD(&h, backend()->allocate(device, plan.workspace, SL_MEMORY_DEVICE, &args.workspace));
		for (int round = 0; round < 2; round++) {
			for (int64_t k = 0; k < a.nnz; k++)
				view_set(a.typed, SL_F32, k, a.values[k] = view_round(SL_F32, -a.values[k]));
			GOOD(&h, backend()->copy(device, a.on_device[5], SL_MEMORY_DEVICE, a.typed, SL_MEMORY_HOST, a.bytes[5]));
			sum *s = sparse_reference(&a, false, &b, &c, 1, 0);
			GOOD(&h, backend()->execute(device, &plan, &args));
			GOOD(&h, mirror_down(device, &c, &mc));
			compare(&c, s, __LINE__);
			free(s);
		}
		CHECK_EQ(fake_cuda_count("cusparseSpMM_preprocess"), !once);
		backend()->release(device, args.workspace, plan.workspace, SL_MEMORY_DEVICE);
		backend()->destroy(device, &plan);
		drop_matrix(device, &a), mirror_free(device, &mb), mirror_free(device, &mc);
		free_matrix(&a), view_free(&b), view_free(&c);
	}
	close_module(&h, device);
}
