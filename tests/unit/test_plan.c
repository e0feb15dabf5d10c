/* SPDX-License-Identifier: Apache-2.0 */
/* Plan modes, dense tiles, the cost model and its calibration. */
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cpu/cost.h"
#include "cpu/densify.h"
#include "layers/layer.h"
#include "support/views.h"

#ifdef SL_WITH_ONEDNN
enum { DENSE_RUNS = 1 };
#else
enum { DENSE_RUNS = 0 };
#endif

typedef struct logged {
	char text[4096];
} logged;

static void keep_line(void *user, sl_log_level level, const char *line) {
	logged *log = user;
	size_t at = strlen(log->text);
	(void)level;
	snprintf(log->text + at, sizeof log->text - at, "%s\n", line);
}

static sl_context *context_with(sl_plan_mode mode, int threads, const char *calibration, bool deterministic,
								logged *log) {
	sl_context *context = NULL;
	sl_context_options o = {SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU,    .threads = threads,
							.plan_mode = mode,   .calibration = calibration, .deterministic = deterministic};
	if (log) {
		log->text[0] = 0;
		o.log = keep_line;
		o.log_user = log;
	}
	if (sl_context_create(&context, &o) != SL_OK)
		sl_test_fail(__FILE__, __LINE__, "no context");
	return context;
}

/* W, its dense form, and the sum over its entries that bounds errors. */
typedef struct weights {
	sl_csr *csr;
	float *full;
	int64_t rows, cols;
} weights;

static weights draw(sl_context *context, int64_t rows, int64_t cols, double density) {
	weights w = {.rows = rows, .cols = cols};
	sl_pattern *pattern = NULL;
	CHECK_OK(context, sl_pattern_random(&pattern, context, rows, cols, density, 17));
	CHECK_OK(context, sl_csr_create_pattern(&w.csr, context, pattern, SL_F32));
	sl_test_fill(sl_csr_values(w.csr), SL_F32, sli_pattern_arrays(pattern).nnz, 3);
	w.full = calloc((size_t)(rows * cols) + 1, sizeof *w.full);
	sl_dense view = sl_dense_view(w.full, SL_F32, rows, cols);
	CHECK_OK(context, sl_csr_to_dense(context, w.csr, &view));
	sl_pattern_release(pattern);
	return w;
}

static void done(weights *w) {
	sl_csr_destroy(w->csr);
	free(w->full);
}

static double at(const weights *w, bool transposed, int64_t r, int64_t c) {
	return (double)(transposed ? w->full[c * w->cols + r] : w->full[r * w->cols + c]);
}

/* relu(0.75 op(W) X + beta Y + bias) in double, compared within 8 eps (k + 2) sum |a||b|. */
static void check_spmm(sl_context *context, bool must_be_dense, int64_t rows, int64_t cols, double density,
					   int64_t batch, sl_order order, int64_t width, bool transposed) {
	weights w = draw(context, rows, cols, density);
	int64_t m = transposed ? cols : rows, k = transposed ? rows : cols;
	for (int beta = 0; beta < 2; beta++) {
		view_block x = view_create(SL_F32, order, k, batch, width), y = view_output(SL_F32, order, m, batch, width),
				   pre = view_output(SL_F32, order, m, batch, width);
		view_fill(&x, 5, 1);
		double *before = calloc((size_t)(m * batch), sizeof *before);
		if (beta) {
			view_free(&y);
			y = view_create(SL_F32, order, m, batch, width);
			view_fill(&y, 6, 1);
			for (int64_t i = 0; i < m * batch; i++)
				before[i] = view_load(&y.view, i / batch, i % batch);
		}
		float *bias = calloc((size_t)m, sizeof *bias);
		sl_test_fill(bias, SL_F32, m, 7);
		sl_epilogue epilogue = {SL_EPILOGUE_DEFAULTS, .bias = bias, .activation = SL_RELU, .pre_activation = &pre.view};
		sl_plan *plan = NULL;
		CHECK_OK(context, sl_plan_spmm(&plan, context, transposed ? SL_TRANSPOSE : SL_NO_TRANSPOSE, w.csr, &x.view,
									   &y.view, &epilogue));
		CHECK(!must_be_dense || sl_plan_is_dense(plan) || !DENSE_RUNS || !sli_pattern_arrays(w.csr->pattern).nnz);
		CHECK_OK(context, sl_plan_run_spmm(context, plan, 0.75, w.csr, &x.view, beta ? -0.5 : 0, &y.view, &epilogue));
		CHECK(view_intact(&y) && view_intact(&pre));
		for (int64_t r = 0; r < m; r++)
			for (int64_t c = 0; c < batch; c++) {
				double sum = 0, size = 1 + fabs(before[r * batch + c]);
				for (int64_t i = 0; i < k; i++) {
					double term = at(&w, transposed, r, i) * view_load(&x.view, i, c);
					sum += term;
					size += fabs(term);
				}
				sum = 0.75 * sum - 0.5 * before[r * batch + c] + (double)bias[r];
				double bound = 8 * 0x1p-24 * size + (double)k * 0x1p-24 * 0x1p-4 * size;
				CHECK_NEAR(view_load(&pre.view, r, c), sum, bound);
				CHECK_NEAR(view_load(&y.view, r, c), sum > 0 ? sum : 0, bound);
			}
		sl_plan_destroy(plan);
		view_free(&x);
		view_free(&y);
		view_free(&pre);
		free(before);
		free(bias);
	}
	done(&w);
}

static void check_sddmm(sl_context *context, bool must_be_dense, int64_t rows, int64_t cols, double density,
						int64_t batch, sl_order order, int64_t width) {
	weights w = draw(context, rows, cols, density);
	int64_t nnz = sli_pattern_arrays(w.csr->pattern).nnz;
	view_block a = view_create(SL_F32, order, rows, batch, width), x = view_create(SL_F32, order, cols, batch, width);
	view_fill(&a, 8, 1);
	view_fill(&x, 9, 1);
	sl_dense b = sl_dense_transposed(x.view);
	sl_plan *plan = NULL;
	CHECK_OK(context, sl_plan_sddmm(&plan, context, &a.view, &b, w.csr));
	CHECK(!must_be_dense || sl_plan_is_dense(plan) || !DENSE_RUNS || !nnz);
	for (int beta = 0; beta < 2; beta++) {
		if (!beta)
			for (int64_t i = 0; i < nnz; i++) /* must not be read */
				((float *)sl_csr_values(w.csr))[i] = NAN;
		else
			sl_test_fill(sl_csr_values(w.csr), SL_F32, nnz, 3);
		CHECK_OK(context, sl_plan_run_sddmm(context, plan, 0.5, &a.view, &b, beta ? 2 : 0, w.csr));
		sl_dense got = sl_dense_view(calloc((size_t)(rows * cols), sizeof(float)), SL_F32, rows, cols);
		CHECK_OK(context, sl_csr_to_dense(context, w.csr, &got));
		sl_pattern_arrays arrays = sli_pattern_arrays(w.csr->pattern);
		for (int64_t r = 0; r < rows; r++)
			for (int64_t k = sli_index(arrays.row_offsets, arrays.offset_dtype, r);
				 k < sli_index(arrays.row_offsets, arrays.offset_dtype, r + 1); k++) {
				int64_t c = arrays.col_indices[k];
				double sum = 0, size = 1;
				for (int64_t i = 0; i < batch; i++) {
					double term = view_load(&a.view, r, i) * view_load(&x.view, c, i);
					sum += term;
					size += fabs(term);
				}
				sum = 0.5 * sum + (beta ? 2 * (double)w.full[r * cols + c] : 0);
				CHECK_NEAR(((float *)got.data)[r * cols + c], sum, 8 * 0x1p-24 * size + (double)batch * 0x1p-28 * size);
			}
		free(got.data);
	}
	sl_plan_destroy(plan);
	view_free(&a);
	view_free(&x);
	done(&w);
}

static const struct shape {
	int64_t rows, cols;
	double density;
} shapes[] = {{1, 1, 1},   {1, 40, 0.5},    {40, 1, 0.5},    {33, 70, 0},      {33, 70, 0.3},  {31, 64, 0.7},
			  {64, 65, 1}, {130, 530, 0.2}, {20, 2100, 0.3}, {1100, 130, 0.1}, {515, 17, 0.6}, {17, 515, 0.6}};

static void check_mode(sl_plan_mode mode) {
	sl_context *context = context_with(mode, 2, "off", false, NULL);
	static const struct {
		sl_order order;
		int64_t width, batch;
	} layouts[] = {{SL_ROW_MAJOR, 0, 37},   {SL_COL_MAJOR, 0, 37},  {SL_COL_PANELS, 8, 5},
				   {SL_COL_PANELS, 16, 33}, {SL_COL_PANELS, 64, 1}, {SL_COL_PANELS, 64, 130}};
	for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
		for (size_t l = 0; l < sizeof layouts / sizeof layouts[0]; l++) {
			const struct shape *p = &shapes[s];
			if (mode != SL_PLAN_DENSE && (s + l) % 3)
				continue;
			bool dense = mode == SL_PLAN_DENSE;
			for (int t = 0; t < 2; t++)
				check_spmm(context, dense, p->rows, p->cols, p->density, layouts[l].batch, layouts[l].order,
						   layouts[l].width, t);
			check_sddmm(context, dense, p->rows, p->cols, p->density, layouts[l].batch, layouts[l].order,
						layouts[l].width);
		}
	sl_context_destroy(context);
}

SL_TEST(plan, dense_is_right) {
	check_mode(SL_PLAN_DENSE);
}
SL_TEST(plan, sparse_is_right) {
	check_mode(SL_PLAN_SPARSE);
}
SL_TEST(plan, auto_is_right) {
	check_mode(SL_PLAN_AUTO);
}
SL_TEST(plan, measured_is_right) {
	check_mode(SL_PLAN_MEASURE);
}

/* One product over panels; the outputs' bytes. */
static float *run_once(sl_context *context, int op, sl_plan **kept) {
	enum { M = 150, K = 210, N = 70, W = 64 };
	weights w = draw(context, M, K, 0.6);
	int64_t in = op == 1 ? M : K, out = op == 1 ? K : M, nnz = sli_pattern_arrays(w.csr->pattern).nnz;
	view_block x = view_create(SL_F32, SL_COL_PANELS, in, N, W), y = view_create(SL_F32, SL_COL_PANELS, out, N, W);
	view_fill(&x, 1, 1);
	view_fill(&y, 2, 1);
	float *result = calloc((size_t)(K * 2 * W + nnz), sizeof *result);
	if (op < 2) {
		sl_transpose t = op ? SL_TRANSPOSE : SL_NO_TRANSPOSE;
		CHECK_OK(context, sl_plan_spmm(kept, context, t, w.csr, &x.view, &y.view, NULL));
		CHECK_OK(context, sl_plan_run_spmm(context, *kept, 1, w.csr, &x.view, 1, &y.view, NULL));
		memcpy(result, y.view.data, (size_t)y.elements * sizeof *result);
	} else {
		sl_dense b = sl_dense_transposed(x.view);
		CHECK_OK(context, sl_plan_sddmm(kept, context, &y.view, &b, w.csr));
		CHECK_OK(context, sl_plan_run_sddmm(context, *kept, 1, &y.view, &b, 1, w.csr));
		memcpy(result, sl_csr_values(w.csr), (size_t)nnz * sizeof *result);
	}
	view_free(&x);
	view_free(&y);
	done(&w);
	return result;
}

SL_TEST(plan, threads_do_not_change_bits) {
	static const int threads[] = {1, 2, 4, 7};
	for (int op = 0; op < 3; op++) {
		float *first = NULL;
		for (int i = 0; i < 4; i++) {
			sl_context *context = context_with(SL_PLAN_DENSE, threads[i], "off", false, NULL);
			sl_plan *plan = NULL;
			float *got = run_once(context, op, &plan);
			CHECK(sl_plan_is_dense(plan) == DENSE_RUNS);
			if (first)
				CHECK(!memcmp(first, got, 1000 * sizeof *got));
			sl_plan_destroy(plan);
			if (i)
				free(got);
			else
				first = got;
			sl_context_destroy(context);
		}
		free(first);
	}
}

SL_TEST(plan, says_what_it_chose) {
	char text[400];
	static const struct {
		sl_plan_mode mode;
		const char *has, *has_not;
	} cases[] = {{SL_PLAN_AUTO, " us predicted", "measured"},
				 {SL_PLAN_MEASURE, " us measured", "predicted"},
				 {SL_PLAN_DENSE, "dense tiles of", "measured"},
				 {SL_PLAN_SPARSE, "panels of 64", "dense"}};
	for (int i = 0; i < 4; i++) {
		sl_context *context = context_with(cases[i].mode, 1, "off", false, NULL);
		sl_plan *plan = NULL;
		free(run_once(context, 0, &plan));
		CHECK_OK(context, sl_plan_describe(context, plan, text, sizeof text));
		CHECK(strstr(text, "spmm 150x210 nnz "));
		CHECK(!DENSE_RUNS || strstr(text, cases[i].has));
		CHECK(!strstr(text, cases[i].has_not));
		sl_plan_destroy(plan);
		sl_context_destroy(context);
	}
}

/* A zero of the tile times an infinity of B must not reach a row without an entry there. */
SL_TEST(plan, absent_is_not_zero) {
	for (int t = 0; t < 2; t++)
		for (int bad = 0; bad < 3; bad++) {
			float *got[2];
			for (int dense = 0; dense < 2; dense++) {
				sl_context *context = context_with(dense ? SL_PLAN_DENSE : SL_PLAN_SPARSE, 2, "off", false, NULL);
				weights w = draw(context, 40, 40, 0.5);
				view_block x = view_create(SL_F32, SL_COL_PANELS, 40, 20, 16),
						   y = view_create(SL_F32, SL_COL_PANELS, 40, 20, 16);
				view_fill(&x, 1, 1);
				((float *)x.view.data)[view_at(&x.view, 39, 19)] = bad == 0 ? NAN : bad == 1 ? INFINITY : -INFINITY;
				sl_plan *plan = NULL;
				sl_transpose transpose = t ? SL_TRANSPOSE : SL_NO_TRANSPOSE;
				CHECK_OK(context, sl_plan_spmm(&plan, context, transpose, w.csr, &x.view, &y.view, NULL));
				CHECK_OK(context, sl_plan_run_spmm(context, plan, 1, w.csr, &x.view, 0, &y.view, NULL));
				got[dense] = calloc(40 * 20, sizeof(float));
				for (int i = 0; i < 40 * 20; i++)
					got[dense][i] = (float)view_load(&y.view, i / 20, i % 20);
				sl_plan_destroy(plan);
				view_free(&x);
				view_free(&y);
				done(&w);
				sl_context_destroy(context);
			}
			int strange = 0;
			for (int i = 0; i < 40 * 20; i++) {
				CHECK(isfinite(got[0][i]) == isfinite(got[1][i]) && isnan(got[0][i]) == isnan(got[1][i]));
				if (isfinite(got[0][i]))
					CHECK_NEAR(got[0][i], got[1][i], 40 * 0x1p-24 * 4);
				else
					strange++;
			}
			CHECK(strange > 5 && strange < 40);
			free(got[0]);
			free(got[1]);
		}
}

SL_TEST(plan, sparse_takes_no_dense_memory) {
	size_t workspace[2];
	for (int dense = 0; dense < 2; dense++) {
		sl_context *context = context_with(dense ? SL_PLAN_DENSE : SL_PLAN_SPARSE, 1, "off", false, NULL);
		sl_plan *plan = NULL;
		free(run_once(context, 0, &plan));
		workspace[dense] = sl_plan_workspace(plan);
		CHECK(sl_plan_is_dense(plan) == (dense && DENSE_RUNS));
		sl_plan_destroy(plan);
		sl_context_destroy(context);
	}
	CHECK_EQ(workspace[0], 0); /* panels in, panels out */
	CHECK(!DENSE_RUNS || workspace[1] >= 32 * 210 * sizeof(float));
}

/* A layer whose tiles do not fit the budget is planned sparse, and says so. */
SL_TEST(plan, no_room_is_sparse) {
	if (!DENSE_RUNS)
		sl_test_skip("built without oneDNN");
	enum { IN = 2048, OUT = 300, BATCH = 64 };
	size_t needed[2] = {0};
	for (int round = 0; round < 4; round++) { /* sparse and dense without a limit, then dense with two limits */
		static logged log;
		log.text[0] = 0;
		sl_context *context = NULL;
		/* The second limit is of the whole, so that planning itself has room and something after it has not. */
		size_t budget = round < 2 ? 0 : round == 2 ? needed[0] + 1024 : (needed[0] + needed[1]) / 2;
		CHECK_OK(context, sl_context_create(&context, &(sl_context_options){
														  SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = 1,
														  .memory_budget = budget, .calibration = "off",
														  .log = keep_line, .log_user = &log}));
		sl_layer *layer = NULL;
		CHECK_OK(context, sl_linear_create(&layer, context,
										   &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = IN,
																.out_features = OUT, .density = 0.02}));
		CHECK_OK(context, sl_context_set_plan_mode(context, round ? SL_PLAN_DENSE : SL_PLAN_SPARSE));
		CHECK_OK(context, sl_layer_prepare(context, layer, BATCH, SL_MODE_TRAINING));
		int dense = layer->forward_plan->dense + layer->dx_plan->dense + layer->dw_plan->dense;
		CHECK(round == 0 ? dense == 0 : round == 1 ? dense == 3 : dense < 3);
		sl_memory_usage usage = {.struct_size = sizeof usage};
		CHECK_OK(context, sl_context_memory(context, &usage));
		if (round < 2)
			needed[round] = usage.peak;
		else
			CHECK(usage.peak <= budget && strstr(log.text, "room"));
		sl_layer_destroy(layer);
		sl_context_destroy(context);
	}
	CHECK(needed[1] > needed[0] + 4096);
}

SL_TEST(plan, expands_and_samples) {
	extern const int test_simde_expand;
	void test_expand_simde(const float *from, int64_t count, const uint16_t *mask, int64_t n, float *to);
	void test_compress_simde(const float *from, const uint16_t *mask, int64_t n, float beta, float *to);
	for (int native = 0; native < 2; native++) {
#if defined(__x86_64__)
		if (native ? !sli_cpu_has(SL_ISA_AVX512) : !test_simde_expand)
			continue;
#else
		if (native || !test_simde_expand)
			continue;
#endif
		for (int64_t n = 0; n < 150; n++) {
			uint16_t mask[10] = {0};
			float *dense = malloc(160 * sizeof *dense), full[160] = {0};
			int64_t count = 0;
			for (int64_t i = 0; i < n; i++)
				if ((i * 2654435761u + (uint32_t)n * 40503u) >> 13 & 1)
					mask[i / 16] |= (uint16_t)(1u << i % 16);
			for (int64_t i = 0; i < n; i++)
				count += mask[i / 16] >> i % 16 & 1;
			/* As large as it must be: reading or writing beyond is what a sanitizer sees. */
			float *values = malloc((size_t)(count ? count : 1) * sizeof *values);
			sl_test_fill(values, SL_F32, count, (uint64_t)n);
			for (int64_t i = 0, k = 0; i < n; i++)
				full[i] = mask[i / 16] >> i % 16 & 1 ? values[k++] : 0;
#if defined(__x86_64__)
			if (native)
				sli_expand_avx512(values, count, mask, n, dense);
			else
#endif
				test_expand_simde(values, count, mask, n, dense);
			for (int64_t i = 0; i < n; i++)
				CHECK(dense[i] == full[i]);
			float *back = malloc((size_t)(count ? count : 1) * sizeof *back);
			for (int64_t k = 0; k < count; k++)
				back[k] = 2;
			for (int beta = 0; beta < 2; beta++) {
				float *use = malloc(160 * sizeof *use);
				for (int i = 0; i < 160; i++)
					use[i] = full[i] + 1;
#if defined(__x86_64__)
				if (native)
					sli_compress_avx512(use, mask, n, beta ? 0.5f : 0, back);
				else
#endif
					test_compress_simde(use, mask, n, beta ? 0.5f : 0, back);
				for (int64_t k = 0; k < count; k++)
					CHECK_NEAR(back[k], (double)values[k] + 1 + (beta ? 0.5 * ((double)values[k] + 1) : 0), 4e-7);
				free(use);
			}
			free(values);
			free(dense);
			free(back);
		}
	}
}

SL_TEST(plan, sees_what_is_not_finite) {
	extern const int test_simde_expand;
	bool test_finite_simde(const float *x, int64_t n);
	static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
	for (int native = 0; native < 2; native++) {
#if defined(__x86_64__)
		bool (*finite_in)(const float *, int64_t) = native ? sli_finite_avx512 : test_finite_simde;
		if (native ? !sli_cpu_has(SL_ISA_AVX512) : !test_simde_expand)
			continue;
#else
		bool (*finite_in)(const float *, int64_t) = test_finite_simde;
		if (native || !test_simde_expand)
			continue;
#endif
		for (int64_t n = 0; n < 140; n++) {
			float *x = malloc((size_t)(n ? n : 1) * sizeof *x);
			for (int64_t i = 0; i < n; i++)
				x[i] = i % 3 ? 3e38f : i % 2 ? -1e-40f : 0;
			CHECK(finite_in(x, n));
			for (int64_t i = 0; i < n; i++) {
				float kept = x[i];
				x[i] = bad[i % 4];
				CHECK(!finite_in(x, n));
				x[i] = kept;
			}
			free(x);
		}
	}
}

SL_TEST(plan, fit_finds_the_factors) {
	double terms[40][SL_COST_TERMS], seconds[40], factor[SL_COST_TERMS];
	const double known[SL_COST_TERMS] = {1e-6, 2e-10, 0, 3e-11, 5e-9, 0};
	for (int o = 0; o < 40; o++) {
		seconds[o] = 0;
		for (int i = 0; i < SL_COST_TERMS; i++) {
			terms[o][i] = i ? (double)((o * 7919 + i * 104729) % 1000 + 1) * (i < 4 ? 1000 : 10) : 1;
			seconds[o] += known[i] * terms[o][i];
		}
	}
	sli_cost_fit((const double(*)[SL_COST_TERMS])terms, seconds, 40, factor);
	for (int i = 0; i < SL_COST_TERMS; i++)
		CHECK_NEAR(factor[i], known[i], known[i] > 0 ? 1e-3 * known[i] : 1e-12);
}

/* --- the calibration's file --- */

static char folder[64], file[128];

static void make_folder(void) {
	snprintf(folder, sizeof folder, "/tmp/sl_plan_XXXXXX");
	CHECK(mkdtemp(folder));
	snprintf(file, sizeof file, "%s/deep/costs", folder);
}

static void drop_folder(void) {
	char path[600], inner[200];
	snprintf(inner, sizeof inner, "%s/deep", folder);
	DIR *d = opendir(inner);
	for (struct dirent *e; d && (e = readdir(d));) {
		snprintf(path, sizeof path, "%s/%s", inner, e->d_name);
		unlink(path);
	}
	if (d)
		closedir(d);
	rmdir(inner);
	CHECK(!rmdir(folder));
}

static int mkdir_of(const char *path) {
	char inner[200];
	snprintf(inner, sizeof inner, "%.*s", (int)(strrchr(path, '/') - path), path);
	return mkdir(inner, 0700);
}

static size_t slurp(char *text, size_t size) {
	FILE *f = fopen(file, "rb");
	CHECK(f);
	size_t n = fread(text, 1, size, f);
	fclose(f);
	return n;
}

static void spill(const char *text, size_t n) {
	FILE *f = fopen(file, "wb");
	CHECK(f && fwrite(text, 1, n, f) == n);
	fclose(f);
	chmod(file, 0600);
}

/* A checksum of the test's own. */
static uint64_t hash_of(const char *text, size_t n) {
	uint64_t h = 14695981039346656037u;
	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)text[i]) * 1099511628211u;
	return h;
}

static size_t sign(char *text, size_t n) {
	return n + (size_t)sprintf(text + n, "checksum %016llx\n", (unsigned long long)hash_of(text, n));
}

SL_TEST(calibration, is_kept_and_read) {
	static logged log;
	static char text[65536];
	struct stat info, again;
	make_folder();
	sl_context *context = context_with(SL_PLAN_AUTO, 1, file, false, &log);
	CHECK_OK(context, sl_calibrate(context));
	CHECK(!stat(file, &info) && (info.st_mode & 0777) == 0600);
	size_t n = slurp(text, sizeof text);
	CHECK(n > 200 && !memcmp(text, "sparselayer calibration 1\n", 26));
	CHECK(hash_of(text, n - 26) == strtoull(text + n - 17, NULL, 16));
	/* Another context finds it and measures nothing. */
	sl_context *other = context_with(SL_PLAN_AUTO, 1, file, false, &log);
	sl_plan *plan = NULL;
	free(run_once(other, 0, &plan));
	CHECK(!log.text[0]);
	CHECK(!stat(file, &again) && again.st_ino == info.st_ino);
	CHECK(!memcmp(&((sl_cpu *)sli_device(context)->device)->costs, &((sl_cpu *)sli_device(other)->device)->costs,
				  sizeof(sl_costs)));
	sl_plan_destroy(plan);
	sl_context_destroy(other);
	sl_context_destroy(context);
	drop_folder();
}

/* Whatever byte is another: not used, and said. */
SL_TEST(calibration, is_not_used_when_damaged) {
	static logged log;
	static char text[65536], bad[65536];
	make_folder();
	sl_context *context = context_with(SL_PLAN_AUTO, 1, file, false, &log);
	CHECK_OK(context, sl_calibrate(context));
	size_t n = slurp(text, sizeof text);
	for (size_t i = 0; i < n; i++) {
		memcpy(bad, text, n);
		bad[i] = (char)(bad[i] ^ (1 << i % 8));
		spill(bad, n);
		log.text[0] = 0;
		CHECK(!sli_calibration_load(context, file));
		CHECK(strstr(log.text, "is not used"));
	}
	for (size_t i = 0; i < n; i++) { /* a missing tail, and the same signed again */
		memcpy(bad, text, n);
		spill(bad, i);
		CHECK(!sli_calibration_load(context, file));
		if (i < n - 26) {
			spill(bad, sign(bad, i));
			CHECK(!sli_calibration_load(context, file));
		}
	}
	spill(text, n);
	CHECK(sli_calibration_load(context, file));
	sl_context_destroy(context);
	drop_folder();
}

SL_TEST(calibration, is_not_used_when_foreign) {
	static logged log;
	static char text[65536], bad[65536];
	make_folder();
	sl_context *context = context_with(SL_PLAN_AUTO, 1, file, false, &log);
	CHECK_OK(context, sl_calibrate(context));
	size_t n = slurp(text, sizeof text) - 26;
	const char *rest = strchr(strchr(text, '\n') + 1, '\n'); /* behind the machine */
	static const struct {
		const char *head, *why;
		bool whole;
	} cases[] = {{"sparselayer calibration 2\n", "another version", false},
				 {"sparselayer calibration 1\ncpu avx512, another machine, costs 1", "another machine", true}};
	for (int i = 0; i < 2; i++) {
		const char *tail = cases[i].whole ? rest : strchr(text, '\n') + 1;
		int head = sprintf(bad, "%s", cases[i].head);
		memcpy(bad + head, tail, (size_t)(text + n - tail));
		spill(bad, sign(bad, (size_t)head + (size_t)(text + n - tail)));
		log.text[0] = 0;
		CHECK(!sli_calibration_load(context, file));
		CHECK(strstr(log.text, cases[i].why));
	}
	/* Constants that cannot be, well signed: negative, NaN, none of a kind. */
	static const char *const constants[] = {"bff0000000000000\n", "7ff8000000000000\n", "0000000000000000\n"};
	const char *first = strchr(rest + 1, '\n') + 1;
	for (int i = 0; i < 3; i++) {
		memcpy(bad, text, n);
		for (int k = 0; k < (i < 2 ? 1 : SL_COST_TERMS); k++)
			memcpy(bad + (first - text) + 17 * k, constants[i], 17);
		spill(bad, sign(bad, n));
		log.text[0] = 0;
		CHECK(!sli_calibration_load(context, file));
		CHECK(strstr(log.text, "cannot be"));
	}
	/* Others may write it; a link; a folder. */
	memcpy(bad, text, n);
	spill(bad, sign(bad, n));
	CHECK(sli_calibration_load(context, file));
	chmod(file, 0666);
	CHECK(!sli_calibration_load(context, file));
	chmod(file, 0600);
	char link_path[200];
	snprintf(link_path, sizeof link_path, "%s/deep/link", folder);
	CHECK(!symlink(file, link_path));
	CHECK(!sli_calibration_load(context, link_path));
	CHECK(!sli_calibration_load(context, folder));
	sl_context_destroy(context);
	/* A damaged one is made anew by whoever plans, and the next finds it good. */
	if (DENSE_RUNS) {
		spill("nonsense", 8);
		context = context_with(SL_PLAN_AUTO, 1, file, false, &log);
		sl_plan *plan = NULL;
		free(run_once(context, 0, &plan));
		CHECK(strstr(log.text, "is not used") && strstr(log.text, "measured the costs"));
		CHECK(sli_calibration_load(context, file));
		sl_plan_destroy(plan);
		sl_context_destroy(context);
	}
	drop_folder();
}

/* Whatever the file says, a deterministic context and one without calibration plan alike. */
SL_TEST(calibration, deterministic_does_without) {
	static logged log;
	char text[2][400];
	make_folder();
	for (int i = 0; i < 2; i++) {
		sl_context *context = context_with(SL_PLAN_MEASURE, 1, i ? file : "off", i, &log);
		if (!i)
			CHECK_OK(context, sl_context_set_plan_mode(context, SL_PLAN_AUTO));
		CHECK_STATUS(context, sl_calibrate(context), SL_ERR_STATE, i ? "deterministic" : "off");
		sl_plan *plan = NULL;
		free(run_once(context, 0, &plan));
		CHECK_OK(context, sl_plan_describe(context, plan, text[i], sizeof text[i]));
		sl_plan_destroy(plan);
		sl_context_destroy(context);
		CHECK(access(file, F_OK) != 0);
	}
	CHECK(!strcmp(text[0], text[1]));
	CHECK(!rmdir(folder));
}

/* A folder that cannot be is no error. */
SL_TEST(calibration, goes_without_a_place) {
	static logged log;
	sl_context *context = context_with(SL_PLAN_AUTO, 1, "/dev/null/costs", false, &log);
	CHECK_OK(context, sl_calibrate(context));
	CHECK(strstr(log.text, "cannot be kept in /dev/null/costs"));
	sl_context_destroy(context);
}

SL_TEST(plan, options_are_checked) {
	char why[128];
	sl_context *context = NULL;
	sl_context_options o = {SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .error = why, .error_size = sizeof why};
	o.plan_mode = (sl_plan_mode)9;
	CHECK(sl_context_create(&context, &o) == SL_ERR_ARGUMENT && strstr(why, "plan_mode"));
	o.plan_mode = SL_PLAN_AUTO;
	o.calibration = "";
	CHECK(sl_context_create(&context, &o) == SL_ERR_ARGUMENT && strstr(why, "calibration"));
	context = context_with(SL_PLAN_AUTO, 1, "off", false, NULL);
	CHECK_STATUS(context, sl_context_set_plan_mode(context, (sl_plan_mode)-1), SL_ERR_ARGUMENT, "mode -1");
	CHECK(!sl_plan_is_dense(NULL) && sl_calibrate(NULL) == SL_ERR_NULL);
	sl_context_destroy(context);
}

/* A model that was saved while it trained is planned so again, whatever is predicted there; not for inference, nor
 * where the mode decides. */
SL_TEST(plan, is_saved_with_a_model) {
	if (!DENSE_RUNS)
		sl_test_skip("built without oneDNN");
	make_folder();
	CHECK(!mkdir_of(file));
	for (int way = 0; way < 2; way++) { /* what no prediction would choose */
		sl_context *context = context_with(way ? SL_PLAN_DENSE : SL_PLAN_SPARSE, 1, "off", false, NULL);
		sl_model *model = NULL;
		sl_layer *layer = NULL;
		CHECK_OK(context, sl_model_create(&model, context));
		CHECK_OK(context, sl_linear_create(&layer, context,
										   &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = 300,
																.out_features = 200, .density = way ? 0.02 : 0.99}));
		CHECK_OK(context, sl_model_add(context, model, layer));
		CHECK_OK(context, sl_layer_prepare(context, layer, 64, SL_MODE_TRAINING));
		CHECK(layer->forward_plan->dense == way && layer->dx_plan->dense == way && layer->dw_plan->dense == way);
		CHECK_OK(context, sl_model_save(context, model, NULL, NULL, file));
		sl_model_destroy(model);
		for (int mode = 0; mode < 4; mode++)
			for (int again = 0; again < 2; again++) {
				/* Saved again without having been planned: still there. */
				CHECK_OK(context, sl_context_set_plan_mode(context, (sl_plan_mode)mode));
				CHECK_OK(context, sl_model_load(&model, NULL, NULL, context, file, NULL));
				if (!again)
					CHECK_OK(context, sl_model_save(context, model, NULL, NULL, file));
				layer = sl_model_layer(model, 0);
				CHECK_OK(context, sl_layer_prepare(context, layer, 256, SL_MODE_INFERENCE)); /* clearly dense at 0.99 */
				CHECK(mode == SL_PLAN_MEASURE ||
					  layer->forward_plan->dense == (mode == SL_PLAN_AUTO ? !way : mode == 3));
				CHECK_OK(context, sl_layer_prepare(context, layer, 32, SL_MODE_TRAINING));
				bool dense = mode < SL_PLAN_SPARSE ? way : mode == SL_PLAN_DENSE;
				CHECK(layer->forward_plan->dense == dense && layer->dx_plan->dense == dense &&
					  layer->dw_plan->dense == dense);
				sl_model_destroy(model);
			}
		sl_context_destroy(context);
	}
	drop_folder();
}
