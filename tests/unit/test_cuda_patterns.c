/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns on the (fake) GPU: checked, transposed and shared out there, over arrays that the host does not read. */
#include "fibers/fibers.h"
#include "own.h"
#include "sparse/pattern.h"
#include "support/gpu_context.h"

/* A structure on the host: rows of all lengths from a seed, or as a test changes it. */
typedef struct structure {
	int64_t rows, cols, nnz;
	int64_t *offsets;
	int32_t *columns;
} structure;

static uint64_t next_random(uint64_t *state) {
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

/* Each row takes every column with a chance of its own; `density` >= 1: all. */
static structure make_structure(int64_t rows, int64_t cols, double density, uint64_t seed) {
	structure s = {rows, cols, 0, calloc((size_t)rows + 1, 8), malloc((size_t)(rows * cols + 1) * 4)};
	CHECK(s.offsets && s.columns);
	for (int64_t r = 0; r < rows; r++) {
		double wanted = density >= 1 ? 1 : r % 7 == 5 ? 0 : density * (double)(r % 5) / 2;
		for (int64_t c = 0; c < cols; c++)
			if ((double)next_random(&seed) * 0x1p-31 < wanted)
				s.columns[s.nnz++] = (int32_t)c;
		s.offsets[r + 1] = s.nnz;
	}
	return s;
}

static void free_structure(structure *s) {
	free(s->offsets);
	free(s->columns);
}

/* The arrays on the GPU. */
typedef struct uploaded {
	void *offsets, *columns;
	size_t bytes[2];
} uploaded;

static uploaded upload(sl_context *gpu, const structure *s, sl_dtype dtype) {
	uploaded u = {.bytes = {(size_t)(s->rows + 1) * sl_dtype_size(dtype), (size_t)s->nnz * 4}};
	int32_t *narrow = malloc((size_t)(s->rows + 1) * 4);
	for (int64_t i = 0; i <= s->rows; i++)
		narrow[i] = (int32_t)s->offsets[i];
	u.offsets = device_copy(gpu, dtype == SL_I64 ? (void *)s->offsets : narrow, u.bytes[0]);
	u.columns = device_copy(gpu, s->columns, u.bytes[1]);
	CHECK_OK(gpu, sl_context_synchronize(gpu));
	free(narrow);
	return u;
}

static void free_uploaded(sl_context *gpu, uploaded *u) {
	device_free(gpu, u->offsets, u->bytes[0]);
	device_free(gpu, u->columns, u->bytes[1]);
}

static sl_status wrap(sl_pattern **p, sl_context *gpu, const structure *s, const uploaded *u, sl_dtype dtype) {
	return sl_pattern_wrap_device(p, gpu, s->rows, s->cols, s->nnz, u->offsets, dtype, u->columns, false, NULL, NULL);
}

/* Columns around a digit of the sort, one, two and three digits, entries around a block, none and one of everything. */
static const struct {
	int64_t rows, cols;
	double density;
} shapes[] = {{0, 0, 1},     {0, 5, 1},         {5, 0, 1},    {1, 1, 1},     {1, 1, 0},   {1, 300, 1},
			  {300, 1, 1},   {17, 15, 0.5},     {1, 255, 1},  {1, 256, 1},   {1, 257, 1}, {9, 257, 0.6},
			  {33, 64, 0.3}, {3, 70000, 0.004}, {40, 300, 1}, {700, 3, 0.7}, {2, 1500, 1}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* The transpose that the device makes is the host's, whatever the order of threads. */
SL_TEST(cuda_patterns, transposes_are_the_hosts) {
	sl_context *gpu = open_context(), *cpu = sl_test_context();
	for (int i = 0; i < SHAPES; i++)
		for (int seed = 0; seed < 2; seed++) {
			structure s = make_structure(shapes[i].rows, shapes[i].cols, shapes[i].density, (uint64_t)i);
			uploaded u = upload(gpu, &s, SL_I32);
			sl_pattern *on_gpu, *on_host;
			sl_sparse_view view, wanted;
			sl_fibers_seed((uint64_t)seed * 77);
			CHECK_OK(gpu, wrap(&on_gpu, gpu, &s, &u, SL_I32));
			CHECK_OK(cpu,
					 sl_pattern_wrap(&on_host, cpu, s.rows, s.cols, s.nnz, s.offsets, SL_I64, s.columns, NULL, NULL));
			CHECK_OK(gpu, sli_pattern_view(gpu, on_gpu, true, &view));
			CHECK_OK(cpu, sli_pattern_view(cpu, on_host, true, &wanted));
			int32_t *got = malloc((size_t)(s.cols + 1 + 2 * s.nnz) * 4), *at = got;
			CHECK(got && view.transposed.offset_dtype == SL_I32 && view.permutation_dtype == SL_I32);
			CHECK_EQ(view.transposed.rows, s.cols);
			CHECK_EQ(view.transposed.cols, s.rows);
			read_back(gpu, at, view.transposed.row_offsets, (size_t)(s.cols + 1) * 4);
			CHECK(!memcmp(at, wanted.transposed.row_offsets, (size_t)(s.cols + 1) * 4));
			read_back(gpu, at += s.cols + 1, view.transposed.col_indices, (size_t)s.nnz * 4);
			CHECK(!memcmp(at, wanted.transposed.col_indices, (size_t)s.nnz * 4));
			read_back(gpu, at += s.nnz, view.permutation, (size_t)s.nnz * 4);
			CHECK(!memcmp(at, wanted.permutation, (size_t)s.nnz * 4));
			CHECK(!sli_pattern_arrays(on_gpu).row_offsets); /* the host has not seen it */
			free(got);
			sl_pattern_release(on_gpu);
			sl_pattern_release(on_host);
			free_uploaded(gpu, &u);
			free_structure(&s);
		}
	sl_fibers_seed(0);
	sl_context_destroy(cpu);
	close_context(gpu);
}

static int longer(const void *left, const void *right) {
	const sl_row_task *a = left, *b = right;
	int64_t x = a->end - a->begin, y = b->end - b->begin;
	if (x != y)
		return x > y ? -1 : 1;
	return a->row != b->row ? (a->row > b->row) - (a->row < b->row) : (a->begin > b->begin) - (a->begin < b->begin);
}

/* Tasks and folds as loops over the rows make them. */
static void check_order(sl_context *gpu, const structure *s, const sl_row_order *order) {
	int64_t most = s->nnz / s->rows * 4, tasks = 0, folds = 0, slots = 0;
	most = ((most > 512 ? most : 512) + 3) / 4 * 4;
	sl_row_task *want = calloc((size_t)(s->rows + s->nnz), sizeof *want),
				*got = calloc((size_t)(s->rows + s->nnz), sizeof *got);
	sl_row_fold *fold = calloc((size_t)s->rows, sizeof *fold), *got_fold = calloc((size_t)s->rows, sizeof *fold);
	for (int64_t r = 0; r < s->rows; r++) {
		int64_t begin = s->offsets[r], end = s->offsets[r + 1], parts = (end - begin + most - 1) / most;
		if (parts > 1)
			fold[folds++] = (sl_row_fold){(int32_t)r, (int32_t)slots, (int32_t)parts, 0};
		for (int64_t i = 0; i < (parts > 1 ? parts : 1); i++) {
			int64_t to = begin + most < end ? begin + most : end;
			want[tasks++] = (sl_row_task){begin, to, (int32_t)r, parts > 1 ? (int32_t)slots++ : -1};
			begin = to;
		}
	}
	qsort(want, (size_t)tasks, sizeof *want, longer);
	CHECK_EQ(order->task_count, tasks);
	CHECK_EQ(order->fold_count, folds);
	CHECK_EQ(order->slots, slots);
	read_back(gpu, got, order->tasks, (size_t)tasks * sizeof *got);
	CHECK(!memcmp(got, want, (size_t)tasks * sizeof *got));
	if (folds)
		read_back(gpu, got_fold, order->folds, (size_t)folds * sizeof *fold);
	CHECK(!memcmp(got_fold, fold, (size_t)folds * sizeof *fold));
	free(want), free(got), free(fold), free(got_fold);
}

SL_TEST(cuda_patterns, rows_are_shared_out_once) {
	sl_context *gpu = open_context();
	for (int i = 0; i < SHAPES; i++) {
		structure s = make_structure(shapes[i].rows, shapes[i].cols, shapes[i].density, (uint64_t)i);
		sl_row_order *order;
		if (s.nnz) {
			uploaded u = upload(gpu, &s, i & 1 ? SL_I64 : SL_I32);
			sl_pattern_arrays a = {s.rows, s.cols, s.nnz, u.offsets, i & 1 ? SL_I64 : SL_I32, u.columns};
			CHECK_OK(gpu, sli_row_order_create(sli_device(gpu)->device, &a, &order));
			check_order(gpu, &s, order);
			sli_row_order_destroy(sli_device(gpu)->device, order);
			free_uploaded(gpu, &u);
		}
		free_structure(&s);
	}
	/* Plans of one pattern share it, and it counts among the pattern's bytes. */
	sl_pattern *pattern;
	sl_csr *a;
	sl_plan *plan[3];
	CHECK_OK(gpu, sl_pattern_random(&pattern, gpu, 30, 40, 0.5, 1));
	CHECK_OK(gpu, sl_csr_create_pattern(&a, gpu, pattern, SL_BF16));
	size_t bytes[3];
	long before = fake_cuda_count("(list_tasks)");
	for (int k = 0; k < 3; k++) {
		sl_dense X = on_device(NULL, 40, 8 + k), Y = on_device(NULL, 30, 8 + k);
		float bias[30];
		sl_epilogue own = {SL_EPILOGUE_DEFAULTS, .bias = bias}; /* which no library has in 16 bits */
		X.dtype = Y.dtype = SL_BF16;
		CHECK_OK(gpu, sl_plan_spmm(&plan[k], gpu, SL_NO_TRANSPOSE, a, &X, &Y, &own));
		bytes[k] = sl_pattern_bytes(pattern);
	}
	CHECK_EQ(fake_cuda_count("(list_tasks)"), before + 1);
	CHECK(bytes[0] == bytes[2]);
	for (int k = 0; k < 3; k++)
		sl_plan_destroy(plan[k]);
	sl_csr_destroy(a);
	sl_pattern_release(pattern);
	close_context(gpu);
}

/* The device finds what the host finds, and says it in the same words. */
static void check_hostile(sl_context *gpu, sl_context *cpu, structure *s, sl_dtype dtype) {
	sl_pattern *p = NULL;
	int32_t *narrow = malloc((size_t)(s->rows + 1) * 4);
	for (int64_t i = 0; i <= s->rows; i++)
		narrow[i] = (int32_t)s->offsets[i];
	uploaded u = upload(gpu, s, dtype);
	sl_status wanted = sl_pattern_wrap(&p, cpu, s->rows, s->cols, s->nnz, dtype == SL_I64 ? (void *)s->offsets : narrow,
									   dtype, s->columns, NULL, NULL);
	CHECK_EQ(wanted, SL_ERR_STRUCTURE);
	CHECK_STATUS(gpu, wrap(&p, gpu, s, &u, dtype), wanted, sl_context_message(cpu));
	CHECK(!p && !*fake_cuda_fault());
	free_uploaded(gpu, &u);
	free(narrow);
}

SL_TEST(cuda_patterns, hostile_ones_are_refused_in_the_hosts_words) {
	sl_context *gpu = open_context(), *cpu = sl_test_context();
	for (int wide = 0; wide < 2; wide++)
		for (int k = 0; k < 16; k++) {
			structure s = make_structure(40, 50, 0.5, 3);
			int64_t row = 11, begin = s.offsets[row], huge = wide ? (int64_t)1 << 40 : INT32_MAX;
			CHECK(s.offsets[row + 1] - begin > 3);
			switch (k) {
			case 0:
				s.offsets[0] = 1;
				break;
			case 1:
				s.offsets[0] = -1;
				break;
			case 2:
				s.offsets[row] = s.offsets[row + 1] + 1;
				break;
			case 3:
				s.offsets[row] = -huge;
				break;
			case 4:
				s.offsets[row] = huge;
				break;
			case 5:
				s.offsets[s.rows] = s.nnz - 1;
				break;
			case 6:
				s.offsets[s.rows] = s.nnz + 1;
				break;
			case 7:
				s.columns[begin + 2] = -1;
				break;
			case 8:
				s.columns[begin + 2] = 50;
				break;
			case 9:
				s.columns[begin + 2] = INT32_MIN;
				break;
			case 10:
				s.columns[begin + 2] = INT32_MAX;
				break;
			case 11:
				s.columns[begin + 2] = s.columns[begin + 1];
				break;
			case 12:
				s.columns[begin + 2] = 0;
				break;
			case 13:
				s.columns[s.nnz - 1] = 51;
				break;
			case 14:
				s.columns[0] = -7;
				break;
			default: /* several: the first counts */
				s.columns[begin + 1] = 99;
				s.columns[begin + 40] = -1;
				s.columns[s.nnz - 1] = -1;
			}
			check_hostile(gpu, cpu, &s, wide ? SL_I64 : SL_I32);
			free_structure(&s);
		}
	sl_context_destroy(cpu);
	close_context(gpu);
}

static void count_release(void *user) {
	++*(int *)user;
}

SL_TEST(cuda_patterns, pointers_and_trust) {
	sl_context *gpu = open_context(), *cpu = sl_test_context();
	structure s = make_structure(6, 5, 0.5, 1);
	uploaded u = upload(gpu, &s, SL_I32);
	sl_pattern *p = NULL;
	int released = 0;
	CHECK_STATUS(
		gpu,
		sl_pattern_wrap_device(&p, gpu, 6, 5, s.nnz, s.offsets, SL_I64, u.columns, false, count_release, &released),
		SL_ERR_DEVICE, "row_offsets is not memory that CUDA");
	CHECK_STATUS(
		gpu,
		sl_pattern_wrap_device(&p, gpu, 6, 5, s.nnz, u.offsets, SL_I32, s.columns, false, count_release, &released),
		SL_ERR_DEVICE, "col_indices");
	CHECK_STATUS(gpu,
				 sl_pattern_wrap_device(&p, gpu, 6, 5, s.nnz, (char *)u.offsets + 2, SL_I32, u.columns, false,
										count_release, &released),
				 SL_ERR_LAYOUT, "row_offsets");
	CHECK_STATUS(gpu,
				 sl_pattern_wrap_device(&p, gpu, 6, 5, s.nnz, NULL, SL_I32, u.columns, false, count_release, &released),
				 SL_ERR_NULL, "row_offsets");
	CHECK(!p && !released);
	/* Trusted: nothing runs, nothing is read. */
	fake_cuda_reset();
	CHECK_OK(gpu, sl_pattern_wrap_device(&p, gpu, 6, 5, s.nnz, u.offsets, SL_I32, u.columns, true, count_release,
										 &released));
	CHECK_EQ(fake_cuda_count("(check_columns)") + fake_cuda_count("cudaMemcpyAsync"), 0);
	/* Who asks for the arrays on the host gets copies, the same that a host's pattern has. */
	sl_pattern *host;
	sl_pattern_arrays a;
	uint64_t hash[2];
	CHECK_OK(cpu, sl_pattern_create(&host, cpu, 6, 5, s.nnz, s.offsets, SL_I64, s.columns, SL_I32));
	CHECK_OK(cpu, sl_pattern_hash(cpu, host, &hash[0]));
	CHECK_EQ(sl_pattern_bytes(p), 0);
	CHECK_OK(gpu, sl_pattern_hash(gpu, p, &hash[1]));
	CHECK(hash[0] == hash[1] && sl_pattern_bytes(p) == 7 * 4 + (size_t)s.nnz * 4);
	CHECK_OK(gpu, sl_pattern_get(gpu, p, &a));
	CHECK(!memcmp(a.col_indices, s.columns, (size_t)s.nnz * 4));
	sl_pattern_release(host);
	CHECK_EQ(released, 0);
	sl_pattern_release(p);
	CHECK_EQ(released, 1);
	/* On the CPU it is sl_pattern_wrap(). */
	CHECK_OK(cpu, sl_pattern_wrap_device(&p, cpu, 6, 5, s.nnz, s.offsets, SL_I64, s.columns, false, NULL, NULL));
	sl_pattern_release(p);
	s.columns[0] = 9;
	CHECK_STATUS(cpu, sl_pattern_wrap_device(&p, cpu, 6, 5, s.nnz, s.offsets, SL_I64, s.columns, false, NULL, NULL),
				 SL_ERR_STRUCTURE, "column 9");
	free_uploaded(gpu, &u);
	free_structure(&s);
	sl_context_destroy(cpu);
	close_context(gpu);
}

/* Products over wrapped memory of the device alone, against the same with a host's pattern. */
SL_TEST(cuda_patterns, products_end_to_end) {
	enum { M = 37, K = 29, N = 12 };
	sl_context *gpu = open_context();
	for (int wide = 0; wide < 2; wide++) {
		structure s = make_structure(M, K, 0.4, 5);
		sl_dtype dtype = wide ? SL_I64 : SL_I32;
		uploaded u = upload(gpu, &s, dtype);
		sl_pattern *pattern[2];
		float values[M * K], x[K * N], dy[M * N], y[2][M * N], dx[2][K * N], dw[2][M * K];
		sl_test_fill(values, SL_F32, s.nnz, 1);
		sl_test_fill(x, SL_F32, K * N, 2);
		sl_test_fill(dy, SL_F32, M * N, 3);
		CHECK_OK(gpu, wrap(&pattern[0], gpu, &s, &u, dtype));
		CHECK_OK(gpu, sl_pattern_create(&pattern[1], gpu, M, K, s.nnz, s.offsets, SL_I64, s.columns, SL_I32));
		for (int i = 0; i < 2; i++) {
			size_t nnz = (size_t)s.nnz * 4;
			void *px = device_copy(gpu, x, sizeof x), *pdy = device_copy(gpu, dy, sizeof dy);
			void *py = device_copy(gpu, NULL, sizeof y[0]), *pdx = device_copy(gpu, NULL, sizeof dx[0]);
			void *pw = device_copy(gpu, values, nnz), *pdw = device_copy(gpu, NULL, nnz);
			sl_dense X = on_device(px, K, N), Y = on_device(py, M, N), dY = on_device(pdy, M, N);
			sl_dense dX = on_device(pdx, K, N), Xt = sl_dense_transposed(X);
			sl_csr *w, *g;
			CHECK_OK(gpu, sl_csr_wrap(&w, gpu, pattern[i], pw, SL_F32, NULL, NULL));
			CHECK_OK(gpu, sl_csr_wrap(&g, gpu, pattern[i], pdw, SL_F32, NULL, NULL));
			CHECK_OK(gpu, sl_spmm(gpu, SL_NO_TRANSPOSE, 1, w, &X, 0, &Y, NULL));
			CHECK_OK(gpu, sl_spmm(gpu, SL_TRANSPOSE, 1, w, &dY, 0, &dX, NULL));
			CHECK_OK(gpu, sl_sddmm(gpu, 1, &dY, &Xt, 0, g));
			sl_plan *plan;
			CHECK_OK(gpu, sl_context_set_plan_mode(gpu, SL_PLAN_SPARSE));
			CHECK_OK(gpu, sl_plan_spmm(&plan, gpu, SL_TRANSPOSE, w, &dY, &dX, NULL));
			CHECK_OK(gpu, sl_plan_run_spmm(gpu, plan, 1, w, &dY, 0, &dX, NULL));
			sl_plan_destroy(plan);
			read_back(gpu, y[i], py, sizeof y[0]);
			read_back(gpu, dx[i], pdx, sizeof dx[0]);
			read_back(gpu, dw[i], pdw, nnz);
			CHECK(i || !sli_pattern_arrays(pattern[0]).row_offsets);
			sl_csr_destroy(w);
			sl_csr_destroy(g);
			void *all[] = {px, pdy, py, pdx, pw, pdw};
			const size_t bytes[] = {sizeof x, sizeof dy, sizeof y[0], sizeof dx[0], nnz, nnz};
			for (int k = 0; k < 6; k++)
				device_free(gpu, all[k], bytes[k]);
		}
		CHECK(!memcmp(y[0], y[1], sizeof y[0]));
		CHECK(!memcmp(dw[0], dw[1], (size_t)s.nnz * 4));
		for (int k = 0; k < K * N; k++)
			CHECK_NEAR(dx[0][k], dx[1][k], 1e-5);
		for (int r = 0; r < M; r++)
			for (int j = 0; j < N; j++) {
				double sum = 0, size = 0;
				for (int64_t e = s.offsets[r]; e < s.offsets[r + 1]; e++) {
					double p = (double)values[e] * x[s.columns[e] * N + j];
					sum += p, size += fabs(p);
				}
				CHECK_NEAR(y[0][r * N + j], sum, 8 * 6e-8 * size);
			}
		sl_pattern_release(pattern[0]);
		sl_pattern_release(pattern[1]);
		free_uploaded(gpu, &u);
		free_structure(&s);
	}
	close_context(gpu);
}

/* What the host needs for itself it fetches: matrices written out, layers, contexts on the CPU and on another GPU. */
SL_TEST(cuda_patterns, the_host_fetches_what_it_needs) {
	sl_context *gpu = open_context(), *cpu = sl_test_context(), *other;
	structure s = make_structure(9, 8, 0.6, 7);
	uploaded u = upload(gpu, &s, SL_I32);
	sl_context_options options;
	SL_OPTIONS_INIT(options);
	options.device_index = 1;
	other = open_with(&options);
	for (int k = 0; k < 4; k++) {
		sl_context *contexts[] = {gpu, gpu, cpu, other}, *context = contexts[k];
		sl_pattern *p;
		sl_csr *a;
		CHECK_OK(gpu, wrap(&p, gpu, &s, &u, SL_I32));
		CHECK_OK(context, sl_csr_create_pattern(&a, context, p, SL_F32));
		if (k == 0) {
			float dense[9 * 8];
			sl_dense view = sl_dense_view(dense, SL_F32, 9, 8);
			CHECK_OK(gpu, sl_csr_to_dense(gpu, a, &view));
			CHECK(dense[3] == 0);
		} else if (k == 1) {
			sl_layer *layer;
			sl_linear_options o = {SL_LINEAR_DEFAULTS, .in_features = 8, .out_features = 9, .pattern = p};
			CHECK_OK(gpu, sl_linear_create(&layer, gpu, &o));
			CHECK_OK(gpu, sl_layer_prepare(gpu, layer, 4, SL_MODE_TRAINING));
			sl_layer_destroy(layer);
		} else {
			float x[8 * 2] = {0}, y[9 * 2];
			void *px = k == 2 ? x : device_copy(other, x, sizeof x),
				 *py = k == 2 ? y : device_copy(other, NULL, sizeof y);
			sl_dense X = sl_dense_view(px, SL_F32, 8, 2), Y = sl_dense_view(py, SL_F32, 9, 2);
			X.device = Y.device = sl_context_device(context);
			X.device_index = Y.device_index = k == 2 ? 0 : 1;
			CHECK_OK(context, sl_spmm(context, SL_NO_TRANSPOSE, 1, a, &X, 0, &Y, NULL));
			CHECK_OK(context, sl_context_synchronize(context));
			if (k == 3) {
				device_free(other, px, sizeof x);
				device_free(other, py, sizeof y);
			}
		}
		CHECK(sli_pattern_arrays(p).row_offsets);
		sl_csr_destroy(a);
		sl_pattern_release(p);
	}
	free_uploaded(gpu, &u);
	free_structure(&s);
	sl_context_destroy(other);
	sl_context_destroy(cpu);
	close_context(gpu);
}

/* Each call of wrapping, planning and running fails in turn: a status, no misuse, nothing leaked. */
SL_TEST(cuda_patterns, every_call_may_fail) {
	sl_context *gpu = open_context();
	structure s = make_structure(20, 30, 0.5, 9);
	uploaded u = upload(gpu, &s, SL_I64);
	void *values = device_copy(gpu, NULL, (size_t)s.nnz * 4);
	void *x = device_copy(gpu, NULL, 20 * 4 * 4), *y = device_copy(gpu, NULL, 30 * 4 * 4);
	sl_dense X = on_device(x, 20, 4), Y = on_device(y, 30, 4);
	CHECK_OK(gpu, sl_context_set_plan_mode(gpu, SL_PLAN_SPARSE));
	CHECK_OK(gpu, sl_context_synchronize(gpu));
	long live = -1;
	int failed = 0;
	for (long k = -1;; k++) { /* once without a failure, for what the context keeps */
		sl_pattern *p = NULL;
		sl_csr *w = NULL;
		sl_plan *plan = NULL;
		fake_cuda_reset();
		fake_cuda_fail_at(k);
		sl_status status = wrap(&p, gpu, &s, &u, SL_I64);
		if (status == SL_OK)
			status = sl_csr_wrap(&w, gpu, p, values, SL_F32, NULL, NULL);
		if (status == SL_OK)
			status = sl_plan_spmm(&plan, gpu, SL_TRANSPOSE, w, &X, &Y, NULL);
		if (status == SL_OK)
			status = sl_plan_run_spmm(gpu, plan, 1, w, &X, 0, &Y, NULL);
		if (status == SL_OK)
			status = sl_context_synchronize(gpu);
		bool done = k >= 0 && !*fake_cuda_failed();
		fake_cuda_fail_at(-1);
		CHECK(!done || status == SL_OK);
		failed += status != SL_OK;
		sl_plan_destroy(plan);
		sl_csr_destroy(w);
		sl_pattern_release(p);
		CHECK_OK(gpu, sl_context_trim(gpu)); /* what could not be freed is freed now */
		CHECK(!*fake_cuda_fault());
		if (live < 0)
			live = fake_cuda_live();
		CHECK_EQ(fake_cuda_live(), live);
		if (done)
			break;
	}
	CHECK(failed > 30);
	device_free(gpu, values, (size_t)s.nnz * 4);
	device_free(gpu, x, 20 * 4 * 4);
	device_free(gpu, y, 30 * 4 * 4);
	free_uploaded(gpu, &u);
	free_structure(&s);
	close_context(gpu);
}
