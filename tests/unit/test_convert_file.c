/* SPDX-License-Identifier: Apache-2.0 */
/* Conversions a piece at a time: the matrices that reading whole gives, whatever the order of entries and the memory.
 */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/context.h"
#include "io/convert.h"
#include "support/check.h"

static uint64_t state = 1;
static int64_t draw(int64_t least, int64_t most) {
	state = state * 6364136223846793005u + 1442695040888963407u;
	return least + (int64_t)((state >> 33) % (uint64_t)(most - least + 1));
}

static sl_context *with_budget(size_t budget) {
	sl_context *context = NULL;
	sl_context_options o = {SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = 2, .seed = 1,
							.memory_budget = budget};
	CHECK(sl_context_create(&context, &o) == SL_OK);
	return context;
}

static char folder[64];
static const char *scratch(const char *name) {
	static char paths[4][128];
	static int turn;
	if (!folder[0]) {
		strcpy(folder, "/tmp/sparselayer-convert-XXXXXX");
		CHECK(mkdtemp(folder) != NULL);
	}
	char *path = paths[turn++ % 4];
	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}
static void clean(void) {
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	CHECK(!system(command));
	folder[0] = 0;
}
static int files_in_folder(void) {
	char command[128], text[32] = "";
	snprintf(command, sizeof command, "ls -A '%s' | wc -l", folder);
	FILE *f = popen(command, "r");
	CHECK(f && fgets(text, sizeof text, f));
	pclose(f);
	return atoi(text);
}

static void check_same(sl_context *context, const char *from, const char *to, sl_dtype dtype) {
	sl_csr *whole, *pieces;
	sl_pattern_arrays a, b;
	CHECK_OK(context, sl_csr_read(&whole, context, from, SL_FORMAT_AUTO, NULL));
	CHECK_OK(context, sl_csr_read(&pieces, context, to, SL_FORMAT_SAFETENSORS, NULL));
	if (dtype && sl_csr_dtype(whole) != dtype) {
		sl_csr *other;
		CHECK_OK(context, sl_csr_convert(&other, context, whole, dtype));
		sl_csr_destroy(whole);
		whole = other;
	}
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(whole), &a));
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(pieces), &b));
	CHECK_EQ(b.rows, a.rows);
	CHECK_EQ(b.cols, a.cols);
	CHECK_EQ(b.nnz, a.nnz);
	CHECK_EQ(sl_csr_dtype(pieces), sl_csr_dtype(whole));
	CHECK(a.offset_dtype == b.offset_dtype &&
		  !memcmp(a.row_offsets, b.row_offsets, (size_t)(a.rows + 1) * sl_dtype_size(a.offset_dtype)));
	if (a.nnz) {
		CHECK(!memcmp(a.col_indices, b.col_indices, (size_t)a.nnz * 4));
		CHECK(!memcmp(sl_csr_values(whole), sl_csr_values(pieces), (size_t)a.nnz * sl_dtype_size(sl_csr_dtype(whole))));
	}
	sl_csr_destroy(whole);
	sl_csr_destroy(pieces);
}

/* ---- the sorter ---- */

typedef struct given {
	int64_t count, row, col, *rows, *cols;
	double *values;
} given;

static sl_status take(void *user, int64_t row, int64_t col, double value) {
	given *g = user;
	CHECK(row > g->row || (row == g->row && col > g->col));
	g->row = row;
	g->col = col;
	g->rows[g->count] = row;
	g->cols[g->count] = col;
	g->values[g->count++] = value;
	return SL_OK;
}

/* Rows and columns of these sizes, of which few or many are hit; up to 40 levels of memory too small. */
SL_TEST(convert_file, entries_are_sorted_whatever_the_memory) {
	static const struct {
		int64_t rows, cols, count, hit;
	} cases[] = {{1000, 1000, 30000, 1000},
				 {INT64_C(1) << 40, INT32_MAX, 20000, INT64_C(1) << 40},
				 {1, INT32_MAX, 20000, 1},
				 {5, 7, 20000, 5},
				 {1, 1, 9000, 1},
				 {INT64_C(1) << 40, 3, 20000, 4},
				 {1 << 20, 1 << 20, 0, 1},
				 {300, 1, 700, 300},
				 {INT64_C(1) << 35, 2000, 20000, 2},
				 {70000, 70000, 1, 1}};
	sl_context *context = with_budget(0);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (int memory = 0; memory < 2; memory++) {
			int64_t n = cases[i].count;
			sl_sorter s;
			given g = {.row = -1, .col = -1};
			g.rows = calloc((size_t)n + 1, 8);
			g.cols = calloc((size_t)n + 1, 8);
			g.values = calloc((size_t)n + 1, 8);
			int64_t *rows = calloc((size_t)n + 1, 8), *cols = calloc((size_t)n + 1, 8);
			double *values = calloc((size_t)n + 1, 8);
			state = 77 + i;
			CHECK_OK(context, sli_sorter_open(&s, context, scratch("sorted"), memory ? 4 << 20 : SL_SORTER_LEAST));
			for (int64_t k = 0; k < n; k++) {
				rows[k] = draw(0, cases[i].hit - 1) * (cases[i].rows / cases[i].hit);
				cols[k] = draw(0, cases[i].cols - 1);
				values[k] = (double)draw(-1000, 1000) / 7;
				CHECK_OK(context, sli_sorter_add(&s, rows[k], cols[k], values[k]));
			}
			CHECK_OK(context, sli_sorter_give(&s, cases[i].rows, cases[i].cols, take, &g));
			if (!memory && n > 2000)
				CHECK(s.fd >= 0 && s.written >= n * 24);
			sli_sorter_close(&s);
			/* Each entry's sum, in the order in which they came. */
			double *want = calloc((size_t)n + 1, 8);
			bool *seen = calloc((size_t)n + 1, 1);
			for (int64_t k = 0; k < n; k++) {
				int64_t low = 0, high = g.count;
				while (low < high) {
					int64_t m = (low + high) / 2;
					if (g.rows[m] < rows[k] || (g.rows[m] == rows[k] && g.cols[m] < cols[k]))
						low = m + 1;
					else
						high = m;
				}
				CHECK(low < g.count && g.rows[low] == rows[k] && g.cols[low] == cols[k]);
				want[low] = seen[low] ? want[low] + values[k] : values[k];
				seen[low] = true;
			}
			for (int64_t k = 0; k < g.count; k++)
				CHECK(seen[k] && g.values[k] == want[k]);
			void *all[] = {g.rows, g.cols, g.values, rows, cols, values, want, seen};
			for (size_t f = 0; f < sizeof all / sizeof *all; f++)
				free(all[f]);
		}
	CHECK_EQ(files_in_folder(), 0);
	sl_context_destroy(context);
	clean();
}

/* ---- files ---- */

static void write_mtx(const char *path, int64_t rows, int64_t cols, int64_t lines, const char *kind, bool sorted) {
	FILE *f = fopen(path, "w");
	bool lower = strstr(kind, "symmetric") != NULL;
	CHECK(f);
	fprintf(f, "%%%%MatrixMarket matrix coordinate %s\n%% a comment\n%lld %lld %lld\n", kind, (long long)rows,
			(long long)cols, (long long)lines);
	for (int64_t k = 0; k < lines; k++) {
		int64_t row = sorted ? k * rows / lines : draw(0, rows - 1), col = sorted ? k % cols : draw(0, cols - 1);
		if (lower && col >= row) {
			int64_t other = row;
			row = col + 1 < rows ? col + 1 : rows - 1;
			col = other < row ? other : row - 1;
		}
		fprintf(f, "%lld %lld", (long long)row + 1, (long long)col + 1);
		if (!strstr(kind, "pattern"))
			fprintf(f, strstr(kind, "integer") ? " %.0f" : " %.17g", (double)draw(-1000, 1000) / 8);
		fprintf(f, "\n");
	}
	CHECK(!fclose(f));
}

static void write_svmlight(const char *path, int64_t rows, int64_t cols, int least, bool groups) {
	FILE *f = fopen(path, "w");
	CHECK(f);
	for (int64_t r = 0; r < rows; r++) {
		fprintf(f, "%lld", (long long)(r % 3));
		if (groups)
			fprintf(f, " qid:%lld", (long long)(r / 10));
		for (int64_t c = draw(0, 9); c < cols; c += draw(1, 60))
			if (c >= least || (least == 0 && r == rows / 2))
				fprintf(f, " %lld:%.5g", (long long)c, (double)draw(-1000, 1000) / 8);
		fprintf(f, r % 7 ? "\n" : " # a comment\n");
		if (r % 100 == 0)
			fprintf(f, "# only a comment\n");
	}
	CHECK(!fclose(f));
}

/* In a budget that holds about `share` of what the matrix would take, and without any. */
static void convert_both(sl_context *context, const char *from, const char *to, sl_dtype dtype, size_t budget) {
	size_t budgets[] = {0, budget};
	for (int i = 0; i < 2; i++) {
		sl_context *small = with_budget(budgets[i]);
		sl_memory_usage usage = {.struct_size = sizeof usage};
		CHECK_OK(small, sl_convert_file(small, from, to, &(sl_convert_options){SL_CONVERT_DEFAULTS, .dtype = dtype}));
		CHECK_OK(small, sl_context_memory(small, &usage));
		CHECK(!usage.budget || usage.peak <= usage.budget);
		sl_context_destroy(small);
		check_same(context, from, to, dtype);
	}
}

SL_TEST(convert_file, matrix_market_in_any_order) {
	static const char *const kinds[] = {"real general",   "integer general",     "pattern general",
										"real symmetric", "real skew-symmetric", "pattern symmetric"};
	sl_context *context = with_budget(0);
	state = 5;
	for (int i = 0; i < 12; i++) {
		const char *from = scratch("a.mtx"), *to = scratch("a.safetensors");
		bool square = i % 6 > 2;
		write_mtx(from, 400, square ? 400 : 300, i < 6 ? 60000 : 200, kinds[i % 6], false);
		convert_both(context, from, to, i % 2 ? SL_F32 : 0, 5 << 20);
	}
	const char *from = scratch("b.mtx"), *to = scratch("b.safetensors");
	write_mtx(from, 3000, 3, 9000, "real general", true);
	convert_both(context, from, to, 0, 5 << 20);
	CHECK_EQ(files_in_folder(), 4);
	sl_context_destroy(context);
	clean();
}

SL_TEST(convert_file, svmlight_from_one_and_from_zero) {
	sl_context *context = with_budget(0);
	state = 6;
	for (int i = 0; i < 4; i++) {
		const char *from = scratch("a.svm"), *to = scratch("a.safetensors");
		write_svmlight(from, 20000, 900, i % 2, i > 1);
		convert_both(context, from, to, 0, 12 << 20);
	}
	sl_context_destroy(context);
	clean();
}

SL_TEST(convert_file, what_scipy_wrote) {
	static const char *const names[] = {"csr.npz",     "csc.npz",     "coo.npz",       "half.npz",
										"general.mtx", "skew.mtx",    "symmetric.mtx", "array.mtx",
										"pattern.mtx", "integer.mtx", "sklearn.svm",   "matrix.smtx"};
	sl_context *context = with_budget(0);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char from[512];
		const char *to = scratch("it.safetensors");
		snprintf(from, sizeof from, "%s/%s", SL_TEST_DATA, names[i]);
		CHECK_OK(context, sl_source_convert(context, from, SL_FORMAT_AUTO, NULL, to));
		check_same(context, from, to, strcmp(names[i], "half.npz") ? 0 : SL_F32);
	}
	sl_context_destroy(context);
	clean();
}

/* What this library writes as .npz is CSR in order. */
SL_TEST(convert_file, npz_larger_than_the_budget) {
	sl_context *context = with_budget(0);
	sl_pattern *pattern;
	sl_csr *matrix;
	const char *from = scratch("a.npz"), *to = scratch("a.safetensors");
	CHECK_OK(context, sl_pattern_random(&pattern, context, 2000, 3000, 0.2, 3));
	CHECK_OK(context, sl_csr_create_pattern(&matrix, context, pattern, SL_F32));
	sl_test_fill(sl_csr_values(matrix), SL_F32, 1200000, 4);
	CHECK_OK(context, sl_csr_write(context, matrix, from, SL_FORMAT_NPZ));
	convert_both(context, from, to, 0, 2 << 20);
	convert_both(context, from, to, SL_F64, 2 << 20);
	sl_csr_destroy(matrix);
	sl_pattern_release(pattern);
	sl_context_destroy(context);
	clean();
}

static bool stop_at_share(void *user, const sl_progress *p) {
	double *share = user;
	CHECK(!strcmp(p->what, "convert") && p->done <= p->total);
	return p->total == 0 || (double)p->done < *share * (double)p->total;
}

SL_TEST(convert_file, what_goes_wrong_leaves_the_old_file) {
	sl_context *context = with_budget(0), *small = with_budget(4 << 20);
	const char *from = scratch("a.mtx"), *to = scratch("a.safetensors"), *good = scratch("b.mtx");
	state = 8;
	write_mtx(good, 30, 30, 100, "real general", false);
	CHECK_OK(context, sl_source_convert(context, good, SL_FORMAT_AUTO, NULL, to));
	write_mtx(from, 3000, 3000, 300000, "real general", false);
	/* Cancelled while it is read, and while what was sorted is written. */
	for (double share = 0.1; share < 1; share += 0.6) {
		CHECK_OK(small, sl_context_set_progress(small, stop_at_share, &share));
		CHECK_STATUS(small, sl_source_convert(small, from, SL_FORMAT_AUTO, NULL, to), SL_ERR_CANCELLED, "not written");
	}
	CHECK_OK(small, sl_context_set_progress(small, NULL, NULL));
	/* A file that ends early, and a budget that is none. */
	CHECK(truncate(from, 2000000) == 0);
	CHECK_STATUS(small, sl_source_convert(small, from, SL_FORMAT_AUTO, NULL, to), SL_ERR_FORMAT, "line");
	sl_context *least = with_budget(200000);
	CHECK_STATUS(least, sl_source_convert(least, from, SL_FORMAT_AUTO, NULL, to), SL_ERR_BUDGET, "");
	sl_context_destroy(least);
	CHECK_STATUS(context, sl_convert_file(context, from, NULL, NULL), SL_ERR_NULL, "to");
	CHECK_STATUS(context,
				 sl_convert_file(context, from, to, &(sl_convert_options){SL_CONVERT_DEFAULTS, .dtype = SL_BF16}),
				 SL_ERR_DTYPE, "bf16");
	/* A full disk: files may not grow beyond a limit. */
	write_mtx(from, 3000, 3000, 300000, "real general", false);
	struct rlimit before, tight;
	CHECK(!getrlimit(RLIMIT_FSIZE, &before));
	tight = before;
	signal(SIGXFSZ, SIG_IGN);
	for (rlim_t limit = 1 << 19; limit <= 3 << 20; limit += 5 << 18) {
		tight.rlim_cur = limit;
		CHECK(!setrlimit(RLIMIT_FSIZE, &tight));
		sl_status status = sl_source_convert(small, from, SL_FORMAT_AUTO, NULL, to);
		CHECK(!setrlimit(RLIMIT_FSIZE, &before));
		CHECK_EQ(status, SL_ERR_NO_SPACE);
	}
	signal(SIGXFSZ, SIG_DFL);
	check_same(context, good, to, 0);
	CHECK_EQ(files_in_folder(), 3);
	CHECK_OK(small, sl_source_convert(small, from, SL_FORMAT_AUTO, NULL, to));
	check_same(context, from, to, 0);
	sl_context_destroy(context);
	sl_context_destroy(small);
	clean();
}
