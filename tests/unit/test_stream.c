/* SPDX-License-Identifier: Apache-2.0 */
/* Streamed products over random chunkings: the bits of the products in memory. */
#include <unistd.h>

#include "core/context.h"
#include "stream/stream.h"
#include "support/views.h"

static uint64_t state = 1;
static int64_t draw(int64_t least, int64_t most) {
	state = state * 6364136223846793005u + 1442695040888963407u;
	return least + (int64_t)((state >> 33) % (uint64_t)(most - least + 1));
}

static sl_context *with_budget(size_t budget, int threads) {
	sl_context *context = NULL;
	sl_context_options o = {SL_CONTEXT_DEFAULTS,     .device = SL_DEVICE_CPU,     .threads = threads,   .seed = 1,
							.memory_budget = budget, .plan_mode = SL_PLAN_SPARSE, .deterministic = true};
	CHECK(sl_context_create(&context, &o) == SL_OK);
	return context;
}

/* A matrix with empty rows, long rows and rows between. */
static sl_csr *make_matrix(sl_context *context, int64_t rows, int64_t cols, double density, sl_dtype dtype) {
	sl_pattern *pattern;
	sl_csr *matrix;
	CHECK_OK(context, sl_pattern_random(&pattern, context, rows, cols, density, (uint64_t)draw(0, 1 << 20)));
	CHECK_OK(context, sl_csr_create_pattern(&matrix, context, pattern, dtype));
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_get(context, pattern, &a));
	if (a.nnz)
		sl_test_fill(sl_csr_values(matrix), dtype, a.nnz, (uint64_t)draw(0, 1 << 20));
	sl_pattern_release(pattern);
	return matrix;
}

static char folder[64];
static const sl_csr *written; /* what the file holds */
static const char *file_path(const char *name) {
	static char text[128];
	if (!folder[0]) {
		snprintf(folder, sizeof folder, "/tmp/sparselayer-stream-XXXXXX");
		CHECK(mkdtemp(folder) != NULL);
	}
	snprintf(text, sizeof text, "%s/%s", folder, name);
	return text;
}
static void remove_files(void) {
	if (folder[0]) {
		unlink(file_path("matrix.safetensors"));
		rmdir(folder);
	}
	written = NULL;
	folder[0] = 0;
}

/* The callback's matrix. */
typedef struct rows_of {
	sl_pattern_arrays a;
	const char *values;
	size_t size;
	int64_t fail_at;
} rows_of;

static int64_t give_rows(void *user, int64_t first, int64_t max_rows, int64_t max_entries, int32_t *offsets,
						 int32_t *columns, void *values) {
	const rows_of *m = user;
	const int32_t *all = m->a.row_offsets;
	int64_t rows = 0;
	if (m->fail_at >= 0 && first >= m->fail_at)
		return -7;
	offsets[0] = 0;
	while (rows < max_rows && all[first + rows + 1] - all[first] <= max_entries) {
		rows++;
		offsets[rows] = all[first + rows] - all[first];
	}
	if (!offsets[rows])
		return rows;
	memcpy(columns, m->a.col_indices + all[first], (size_t)offsets[rows] * 4);
	if (values)
		memcpy(values, m->values + (size_t)all[first] * m->size, (size_t)offsets[rows] * m->size);
	return rows;
}

enum { MEMORY, FILE_, CALLBACK };

static sl_source *make_source(sl_context *context, sl_csr *matrix, int kind, rows_of *rows) {
	sl_source *source = NULL;
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(matrix), &a));
	if (kind == MEMORY) {
		CHECK_OK(context, sl_source_create_csr(&source, context, matrix));
	} else if (kind == FILE_) {
		const char *path = file_path("matrix.safetensors");
		if (written != matrix) /* once for each matrix: writing waits for the disk */
			CHECK_OK(context, sl_csr_write(context, matrix, path, SL_FORMAT_SAFETENSORS));
		written = matrix;
		CHECK_OK(context, sl_source_open(&source, context, path, NULL));
	} else {
		*rows = (rows_of){a, sl_csr_values(matrix), sl_dtype_size(sl_csr_dtype(matrix)), -1};
		CHECK_OK(context, sl_source_create_callback(&source, context, a.rows, a.cols, a.nnz, sl_csr_dtype(matrix),
													give_rows, rows));
	}
	return source;
}

static bool same(const view_block *a, const view_block *b) {
	for (int64_t r = 0; r < a->view.rows; r++)
		for (int64_t c = 0; c < a->view.cols; c++) {
			double x = view_load(&a->view, r, c), y = view_load(&b->view, r, c);
			if (memcmp(&x, &y, sizeof x))
				return false;
		}
	return true;
}

static sl_order any_order(void) {
	static const sl_order orders[] = {SL_ROW_MAJOR, SL_COL_MAJOR, SL_COL_PANELS};
	return orders[draw(0, 2)];
}

/* One matrix and batch; several ways to stream it. */
typedef struct trial {
	sl_context *memory;
	sl_csr *matrix;
	int64_t rows, cols, n, nnz;
	sl_dtype dtype;
	view_block x, dz, y, want_y, dx, first_dx, w, want_dx;
	void *dw, *want_dw, *first_dw;
	float bias[700];
	bool has_dx, has_dw;
} trial;

static void begin_sized(trial *t, int64_t rows, int64_t cols, int64_t n, double density) {
	static const int64_t widths[] = {8, 16, 32, 64};
	memset(t, 0, sizeof *t);
	t->memory = with_budget(0, draw(0, 7) ? 1 : 2);
	t->dtype = draw(0, 3) ? SL_F32 : SL_F64;
	t->rows = rows;
	t->cols = cols;
	t->n = n;
	t->matrix = make_matrix(t->memory, t->rows, t->cols, density, t->dtype);
	sl_pattern_arrays a;
	CHECK_OK(t->memory, sl_pattern_get(t->memory, sl_csr_pattern(t->matrix), &a));
	t->nnz = a.nnz;
	int64_t width = widths[draw(0, 3)];
	t->x = view_create(t->dtype, any_order(), t->cols, t->n, width);
	t->dz = view_create(t->dtype, any_order(), t->rows, t->n, width);
	sl_order order = any_order();
	t->y = view_create(t->dtype, order, t->rows, t->n, width);
	t->want_y = view_create(t->dtype, order, t->rows, t->n, width);
	order = any_order();
	t->dx = view_create(t->dtype, order, t->cols, t->n, width);
	t->first_dx = view_create(t->dtype, order, t->cols, t->n, width);
	t->want_dx = view_create(t->dtype, order, t->cols, t->n, width);
	view_fill(&t->x, (uint64_t)draw(0, 1 << 20), 1);
	view_fill(&t->dz, (uint64_t)draw(0, 1 << 20), 1);
	t->dw = calloc((size_t)t->nnz + 1, sl_dtype_size(t->dtype));
	t->first_dw = calloc((size_t)t->nnz + 1, sl_dtype_size(t->dtype));
	t->want_dw = calloc((size_t)t->nnz + 1, sl_dtype_size(t->dtype));
}

static void begin_trial(trial *t) {
	int64_t rows = draw(1, 160), cols = draw(1, 280), n = draw(1, 3) == 1 ? draw(1, 90) : draw(1, 24);
	begin_sized(t, rows, cols, n, draw(0, 3) ? 0.05 * (double)draw(1, 4) : 0.005);
}

static void end_trial(trial *t) {
	view_block *blocks[] = {&t->x, &t->dz, &t->y, &t->want_y, &t->dx, &t->first_dx, &t->want_dx};
	for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
		view_free(blocks[i]);
	written = NULL; /* another matrix may get its address */
	free(t->dw);
	free(t->first_dw);
	free(t->want_dw);
	sl_csr_destroy(t->matrix);
	sl_context_destroy(t->memory);
}

/* Wanted: the products in memory. */
static void in_memory(trial *t, const sl_epilogue *epilogue, double alpha, double beta) {
	sl_dense xt = sl_dense_transposed(t->x.view);
	sl_csr *dw;
	view_fill(&t->want_y, 7, 1);
	CHECK_OK(t->memory,
			 sl_spmm(t->memory, SL_NO_TRANSPOSE, alpha, t->matrix, &t->x.view, beta, &t->want_y.view, epilogue));
	CHECK_OK(t->memory, sl_csr_wrap(&dw, t->memory, sl_csr_pattern(t->matrix), t->want_dw, t->dtype, NULL, NULL));
	CHECK_OK(t->memory, sl_sddmm(t->memory, alpha, &t->dz.view, &xt, 0, dw));
	CHECK_OK(t->memory, sl_spmm(t->memory, SL_TRANSPOSE, alpha, t->matrix, &t->dz.view, 0, &t->want_dx.view, NULL));
	sl_csr_destroy(dw);
}

/* |streamed - in memory| <= c eps sum |a||b|, for each is off by at most half of that. */
static void check_dx(const trial *t, double alpha) {
	sl_csr *transposed;
	sl_pattern_arrays a;
	CHECK_OK(t->memory, sl_csr_transpose(&transposed, t->memory, t->matrix));
	CHECK_OK(t->memory, sl_pattern_get(t->memory, sl_csr_pattern(transposed), &a));
	const int32_t *offsets = a.row_offsets;
	for (int64_t c = 0; c < t->cols; c++)
		for (int64_t j = 0; j < t->n; j++) {
			double sum = 0, bound = 0;
			for (int64_t k = offsets[c]; k < offsets[c + 1]; k++) {
				double p = alpha * view_element(sl_csr_values(transposed), t->dtype, k) *
						   view_load(&t->dz.view, a.col_indices[k], j);
				sum += p;
				bound += fabs(p);
			}
			CHECK_NEAR(view_load(&t->dx.view, c, j), sum, 16 * view_eps(t->dtype) * bound);
			CHECK_NEAR(view_load(&t->want_dx.view, c, j), sum, 16 * view_eps(t->dtype) * bound);
		}
	sl_csr_destroy(transposed);
}

static void stream_once(trial *t, const sl_epilogue *epilogue, double alpha, double beta, int64_t piece) {
	int kind = (int)draw(0, 2), threads = draw(0, 7) ? 1 : 2;
	size_t size = sl_dtype_size(t->dtype);
	sl_context *context = with_budget(draw(0, 1) ? (size_t)draw(400000, 4000000) : 0, threads);
	rows_of rows;
	sl_stream_options o = {SL_STREAM_DEFAULTS, .slots = (int)draw(2, 6),
						   .slot_bytes = (size_t)draw(t->nnz * 8 / 12, t->nnz * 8) + 1};
	sl_stream_report report = {.struct_size = sizeof report};
	/* Made in the context without a budget: what streaming holds is what is bounded. */
	sl_source *source = make_source(t->memory, t->matrix, kind, &rows);
	if (kind != CALLBACK)
		source->piece = piece;
	view_fill(&t->y, 7, 1);
	sl_status status =
		sl_stream_spmm(context, SL_NO_TRANSPOSE, alpha, source, &t->x.view, beta, &t->y.view, epilogue, &o, &report);
	if (status == SL_ERR_BUDGET) {
		CHECK(strstr(sl_context_message(context), "at least"));
	} else {
		CHECK_OK(context, status);
		CHECK(view_intact(&t->y));
		if (piece >= t->cols || kind == CALLBACK)
			CHECK(same(&t->y, &t->want_y));
	}
	sl_dense xt = sl_dense_transposed(t->x.view);
	memset(t->dw, 0x55, (size_t)t->nnz * size);
	status = sl_stream_sddmm(context, alpha, &t->dz.view, &xt, source, t->dw, &o, &report);
	if (status != SL_ERR_BUDGET) {
		CHECK_OK(context, status);
		/* Kernels take a row's entries in groups, which pieces cut anew. */
		bool whole = piece >= t->cols || kind == CALLBACK;
		if (!whole && !t->has_dw)
			memcpy(t->first_dw, t->dw, (size_t)t->nnz * size);
		t->has_dw |= !whole;
		CHECK(!memcmp(t->dw, whole ? t->want_dw : t->first_dw, (size_t)t->nnz * size));
		for (int64_t k = 0; k < t->nnz; k++)
			CHECK_NEAR(view_element(t->dw, t->dtype, k), view_element(t->want_dw, t->dtype, k),
					   16 * view_eps(t->dtype) * (double)t->n);
	}
	view_fill(&t->dx, 9, 1);
	status = sl_stream_spmm(context, SL_TRANSPOSE, alpha, source, &t->dz.view, 0, &t->dx.view, NULL, &o, &report);
	if (status != SL_ERR_BUDGET) {
		CHECK_OK(context, status);
		CHECK(view_intact(&t->dx));
		if (!t->has_dx) {
			check_dx(t, alpha);
			memcpy(t->first_dx.view.data, t->dx.view.data, (size_t)t->dx.elements * size);
			t->has_dx = true;
		}
		CHECK(same(&t->dx, &t->first_dx));
	}
	sl_memory_usage usage = {.struct_size = sizeof usage};
	CHECK_OK(context, sl_context_memory(context, &usage));
	CHECK(!usage.budget || usage.peak <= usage.budget);
	sl_source_destroy(source);
	sl_context_destroy(context);
}

/* 125 matrices, 8 ways each to cut and hold them. */
SL_TEST(stream, bits_do_not_depend_on_chunks) {
	uint64_t seed = getenv("SL_SEED") ? strtoull(getenv("SL_SEED"), NULL, 10) : 20240607;
	fprintf(stderr, "SL_SEED=%llu\n", (unsigned long long)seed);
	state = seed;
	for (int i = 0; i < 125; i++) {
		trial t;
		begin_trial(&t);
		double alpha = draw(0, 1) ? 1 : -0.75, beta = draw(0, 2) ? 0 : 0.5;
		double bias[700];
		for (int64_t r = 0; r < t.rows; r++) {
			bias[r] = (double)draw(-100, 100) / 64;
			t.bias[r] = (float)bias[r];
		}
		const void *biases = t.dtype == SL_F64 ? (const void *)bias : t.bias;
		sl_epilogue epilogue = {SL_EPILOGUE_DEFAULTS, .bias = draw(0, 1) ? biases : NULL,
								.activation = draw(0, 1) ? SL_RELU : SL_IDENTITY};
		view_fill(&t.want_y, 7, 1);
		in_memory(&t, &epilogue, alpha, beta);
		for (int way = 0; way < 8; way++)
			stream_once(&t, &epilogue, alpha, beta, t.cols);
		end_trial(&t);
	}
	remove_files();
}

/* Wide matrices, whose blocks are of L2; many rows; tiles of two panels; batches that are done in parts. */
static void larger_matrices(void) {
	static const struct {
		int64_t rows, cols, n;
		double density;
	} cases[] = {{300, 9000, 64, 0.01}, {200, 9000, 30, 0.01}, {2500, 700, 1, 0.01},
				 {200, 5000, 1, 0.05},  {90, 500, 300, 0.4},   {90, 300, 128, 0.5},
				 {200, 3000, 8, 0.02},  {200, 3000, 16, 0.02}, {300, 12000, 17, 0.001}};
	state = 5;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		trial t;
		begin_sized(&t, cases[i].rows, cases[i].cols, cases[i].n, cases[i].density);
		sl_epilogue epilogue = {SL_EPILOGUE_DEFAULTS, .activation = SL_GELU};
		view_fill(&t.want_y, 7, 1);
		in_memory(&t, &epilogue, 1, 0);
		for (int way = 0; way < 3; way++)
			stream_once(&t, &epilogue, 1, 0, t.cols);
		end_trial(&t);
	}
	remove_files();
}

SL_TEST(stream, bits_of_larger_matrices) {
	static const char *const sets[] = {NULL, "avx2", "scalar"};
	const char *had = getenv("SPARSELAYER_CPU");
	char *kept = had ? strdup(had) : NULL;
	for (int i = 0; i < 3; i++) { /* a set that the machine lacks is logged, and the best it has is used */
		if (sets[i])
			setenv("SPARSELAYER_CPU", sets[i], 1);
		larger_matrices();
	}
	if (kept)
		setenv("SPARSELAYER_CPU", kept, 1);
	else
		unsetenv("SPARSELAYER_CPU");
	free(kept);
}

/* A row that is longer than a piece is cut where a block of columns begins, so that its bits stay. */
SL_TEST(stream, pieces_end_with_blocks) {
	sl_context *context = with_budget(0, 2);
	sl_csr *matrix = make_matrix(context, 66, 8000, 0.3, SL_F32);
	for (int n = 32; n <= 64; n += 32) {
		view_block x = view_create(SL_F32, SL_ROW_MAJOR, 8000, n, 64),
				   dz = view_create(SL_F32, SL_ROW_MAJOR, 66, n, 64);
		view_block want = view_create(SL_F32, SL_ROW_MAJOR, 66, n, 64),
				   y = view_create(SL_F32, SL_ROW_MAJOR, 66, n, 64);
		sl_dense xt = sl_dense_transposed(x.view);
		sl_pattern_arrays a;
		CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(matrix), &a));
		float *dw = calloc((size_t)a.nnz, sizeof *dw), *want_dw = calloc((size_t)a.nnz, sizeof *dw);
		sl_csr *gradient;
		view_fill(&x, 3, 1);
		view_fill(&dz, 4, 1);
		CHECK_OK(context, sl_spmm(context, SL_NO_TRANSPOSE, 1, matrix, &x.view, 0, &want.view, NULL));
		CHECK_OK(context, sl_csr_wrap(&gradient, context, sl_csr_pattern(matrix), want_dw, SL_F32, NULL, NULL));
		CHECK_OK(context, sl_sddmm(context, 1, &dz.view, &xt, 0, gradient));
		for (int kind = MEMORY; kind <= FILE_; kind++) {
			sl_source *source = make_source(context, matrix, kind, NULL);
			sl_stream_options o = {SL_STREAM_DEFAULTS, .slot_bytes = 10000};
			sl_stream_report report = {.struct_size = sizeof report};
			source->piece = 700;
			CHECK_OK(context,
					 sl_stream_spmm(context, SL_NO_TRANSPOSE, 1, source, &x.view, 0, &y.view, NULL, &o, &report));
			CHECK(report.chunks > 66);
			CHECK(same(&y, &want));
			CHECK_OK(context, sl_stream_sddmm(context, 1, &dz.view, &xt, source, dw, &o, NULL));
			CHECK(!memcmp(dw, want_dw, (size_t)a.nnz * sizeof *dw));
			sl_source_destroy(source);
		}
		sl_csr_destroy(gradient);
		free(dw);
		free(want_dw);
		view_free(&x);
		view_free(&dz);
		view_free(&y);
		view_free(&want);
	}
	sl_csr_destroy(matrix);
	sl_context_destroy(context);
	remove_files();
}

/* Rows longer than a piece: the same bits whatever the chunks, and within the bound of those in memory. */
SL_TEST(stream, rows_longer_than_a_piece) {
	state = 99;
	for (int i = 0; i < 8; i++) {
		trial t;
		begin_trial(&t);
		sl_epilogue epilogue = {SL_EPILOGUE_DEFAULTS, .activation = SL_RELU};
		in_memory(&t, &epilogue, 1, 0);
		view_block first = view_create(t.dtype, t.y.view.order, t.rows, t.n, t.y.view.ld);
		int64_t piece = draw(8, 40);
		for (int way = 0; way < 3; way++) {
			sl_context *context = with_budget(0, 1);
			sl_source *source = make_source(context, t.matrix, way % 2 ? FILE_ : MEMORY, NULL);
			sl_stream_options o = {SL_STREAM_DEFAULTS, .slots = (int)draw(2, 5),
								   .slot_bytes = (size_t)draw(400, 20000)};
			source->piece = piece;
			CHECK_OK(context,
					 sl_stream_spmm(context, SL_NO_TRANSPOSE, 1, source, &t.x.view, 0, &t.y.view, &epilogue, &o, NULL));
			if (!way)
				memcpy(first.view.data, t.y.view.data, (size_t)t.y.elements * sl_dtype_size(t.dtype));
			CHECK(same(&t.y, &first));
			for (int64_t r = 0; r < t.rows; r++)
				for (int64_t c = 0; c < t.n; c++)
					CHECK_NEAR(view_load(&t.y.view, r, c), view_load(&t.want_y.view, r, c),
							   16 * view_eps(t.dtype) * (double)t.cols);
			sl_source_destroy(source);
			sl_context_destroy(context);
			stream_once(&t, &epilogue, 1, 0, piece);
		}
		view_free(&first);
		end_trial(&t);
	}
	remove_files();
}

SL_TEST(stream, what_goes_wrong_is_said) {
	sl_context *context = with_budget(0, 1);
	sl_csr *matrix = make_matrix(context, 40000, 300, 0.05, SL_F32);
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(matrix), &a));
	view_block x = view_create(SL_F32, SL_COL_MAJOR, 300, 4, 64), y = view_create(SL_F32, SL_COL_MAJOR, 40000, 4, 64);
	view_fill(&x, 3, 1);
	sl_stream_options o = {SL_STREAM_DEFAULTS, .slot_bytes = 65536};
	/* A file that shrinks while it is read: opened whole, cut before the product. */
	const char *path = file_path("shrinks.safetensors");
	sl_source *source;
	CHECK_OK(context, sl_csr_write(context, matrix, path, SL_FORMAT_SAFETENSORS));
	CHECK_OK(context, sl_source_open(&source, context, path, NULL));
	CHECK(truncate(path, 500000) == 0);
	CHECK_STATUS(context, sl_stream_spmm(context, SL_NO_TRANSPOSE, 1, source, &x.view, 0, &y.view, NULL, &o, NULL),
				 SL_ERR_FORMAT, "truncated");
	sl_source_destroy(source);
	/* Columns that are out of range, somewhere in the middle. */
	int32_t *columns = (int32_t *)(uintptr_t)a.col_indices, kept = columns[a.nnz / 2];
	columns[a.nnz / 2] = 300;
	CHECK_OK(context, sl_csr_write(context, matrix, path, SL_FORMAT_SAFETENSORS));
	CHECK_OK(context, sl_source_open(&source, context, path, NULL));
	CHECK_STATUS(context, sl_stream_spmm(context, SL_NO_TRANSPOSE, 1, source, &x.view, 0, &y.view, NULL, &o, NULL),
				 SL_ERR_STRUCTURE, "shrinks.safetensors");
	CHECK_STATUS(context, sl_stream_spmm(context, SL_TRANSPOSE, 1, source, &y.view, 0, &x.view, NULL, &o, NULL),
				 SL_ERR_STRUCTURE, "outside");
	sl_source_destroy(source);
	columns[a.nnz / 2] = kept;
	int32_t *offsets = (int32_t *)(uintptr_t)a.row_offsets, before = offsets[20000];
	offsets[20000] = offsets[20001] + 1;
	CHECK_OK(context, sl_csr_write(context, matrix, path, SL_FORMAT_SAFETENSORS));
	CHECK_OK(context, sl_source_open(&source, context, path, NULL));
	CHECK_STATUS(context, sl_stream_spmm(context, SL_NO_TRANSPOSE, 1, source, &x.view, 0, &y.view, NULL, &o, NULL),
				 SL_ERR_STRUCTURE, "decrease at row 20000");
	sl_source_destroy(source);
	offsets[20000] = before;
	unlink(path);
	/* A callback that fails. */
	rows_of rows;
	source = make_source(context, matrix, CALLBACK, &rows);
	rows.fail_at = 10000;
	CHECK_STATUS(context, sl_stream_spmm(context, SL_NO_TRANSPOSE, 1, source, &x.view, 0, &y.view, NULL, &o, NULL),
				 SL_ERR_IO, "callback failed at row");
	sl_source_destroy(source);
	sl_csr_destroy(matrix);
	view_free(&x);
	view_free(&y);
	sl_context_destroy(context);
	remove_files();
}

static bool stop_half_way(void *user, const sl_progress *p) {
	*(double *)user = (double)p->done / (double)p->total;
	return 2 * p->done < p->total;
}

SL_TEST(stream, cancelling_and_events) {
	sl_context *context = with_budget(0, 1);
	sl_csr *matrix = make_matrix(context, 4000, 300, 0.1, SL_F32);
	view_block x = view_create(SL_F32, SL_ROW_MAJOR, 300, 4, 64), y = view_create(SL_F32, SL_ROW_MAJOR, 4000, 4, 64);
	view_fill(&x, 3, 1);
	sl_source *source = make_source(context, matrix, FILE_, NULL);
	sl_stream_event events[100];
	sl_stream_options o = {SL_STREAM_DEFAULTS, .slot_bytes = 65536, .events = events, .event_capacity = 100};
	sl_stream_report report = {.struct_size = sizeof report};
	double share = 0;
	CHECK_OK(context, sl_context_set_progress(context, stop_half_way, &share));
	CHECK_STATUS(context, sl_stream_spmm(context, SL_NO_TRANSPOSE, 1, source, &x.view, 0, &y.view, NULL, &o, NULL),
				 SL_ERR_CANCELLED, "bytes");
	CHECK(share >= 0.5 && share < 1);
	CHECK_OK(context, sl_context_set_progress(context, NULL, NULL));
	CHECK_OK(context, sl_stream_spmm(context, SL_NO_TRANSPOSE, 1, source, &x.view, 0, &y.view, NULL, &o, &report));
	CHECK(report.chunks > 4 && report.events == 2 * report.chunks && report.passes == 1);
	CHECK(report.bytes_read >= 8 * 120000 && report.chunk_entries <= 65536 / 8 + 1);
	for (int64_t i = 0; i < report.events; i++)
		CHECK(events[i].begin >= 0 && events[i].end >= events[i].begin && events[i].end <= report.seconds);
	/* Chunks are computed after they were read, and in order. */
	for (int64_t i = 0; i < report.events; i++)
		for (int64_t k = 0; k < report.events; k++)
			if (events[i].stage == SL_STAGE_READ && events[k].stage == SL_STAGE_COMPUTE &&
				events[i].chunk == events[k].chunk)
				CHECK(events[k].begin >= events[i].end);
	sl_source_destroy(source);
	sl_csr_destroy(matrix);
	view_free(&x);
	view_free(&y);
	sl_context_destroy(context);
	remove_files();
}

SL_TEST(stream, too_small_a_budget_names_the_least) {
	sl_context *free_context = with_budget(0, 1);
	sl_csr *matrix = make_matrix(free_context, 5000, 3000, 0.05, SL_F32);
	view_block x = view_create(SL_F32, SL_COL_MAJOR, 3000, 64, 64), y = view_create(SL_F32, SL_COL_MAJOR, 5000, 64, 64);
	view_fill(&x, 3, 1);
	sl_context *context = with_budget(300000, 1);
	sl_source *source;
	CHECK_OK(free_context, sl_source_create_csr(&source, free_context, matrix));
	sl_source *file = make_source(free_context, matrix, FILE_, NULL);
	CHECK_STATUS(context, sl_stream_spmm(context, SL_NO_TRANSPOSE, 1, file, &x.view, 0, &y.view, NULL, NULL, NULL),
				 SL_ERR_BUDGET, "at least");
	/* What it says would do does. */
	size_t least = strtoull(strstr(sl_context_message(context), "at least ") + 9, NULL, 10);
	size_t left = strtoull(strstr(sl_context_message(context), "bytes; ") + 7, NULL, 10);
	sl_context *enough = with_budget(300000 - left + least, 1);
	CHECK_OK(enough, sl_stream_spmm(enough, SL_NO_TRANSPOSE, 1, file, &x.view, 0, &y.view, NULL, NULL, NULL));
	sl_context *scarce = with_budget(300000 - left + least - 4096, 1);
	CHECK_STATUS(scarce, sl_stream_spmm(scarce, SL_NO_TRANSPOSE, 1, file, &x.view, 0, &y.view, NULL, NULL, NULL),
				 SL_ERR_BUDGET, "at least");
	sl_stream_options o = {SL_STREAM_DEFAULTS, .host_budget = 1000};
	CHECK_STATUS(free_context,
				 sl_stream_spmm(free_context, SL_NO_TRANSPOSE, 1, file, &x.view, 0, &y.view, NULL, &o, NULL),
				 SL_ERR_BUDGET, "host_budget");
	sl_source_destroy(source);
	sl_source_destroy(file);
	sl_context_destroy(context);
	sl_context_destroy(enough);
	sl_context_destroy(scarce);
	sl_csr_destroy(matrix);
	view_free(&x);
	view_free(&y);
	sl_context_destroy(free_context);
	remove_files();
}
