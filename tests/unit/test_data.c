/* SPDX-License-Identifier: Apache-2.0 */
/* Data sets: svmlight text and ratings against a reader in this file that is as plain as can be, and what is
 * wrong with its line and column. */
#include <unistd.h>

#include "support/check.h"

static char folder[64];

static const char *scratch(const char *name) {
	static char paths[4][128];
	static int turn;
	if (!folder[0]) {
		strcpy(folder, "/tmp/sparselayer-data-XXXXXX");
		if (!mkdtemp(folder))
			sl_test_fail(__FILE__, __LINE__, "no scratch folder");
	}
	char *path = paths[turn++ % 4];
	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

static void clean(void) {
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	if (folder[0] && system(command))
		fprintf(stderr, "%s was left behind\n", folder);
	folder[0] = 0;
}

static const char *write_text(const char *name, const char *text) {
	const char *path = scratch(name);
	FILE *f = fopen(path, "wb");
	CHECK(f && fwrite(text, 1, strlen(text), f) == strlen(text) && !fclose(f));
	return path;
}

static sl_dataset_content content_of(sl_context *context, const sl_dataset *d) {
	sl_dataset_content c = {.struct_size = sizeof c};
	CHECK_OK(context, sl_dataset_get(context, d, &c));
	return c;
}

/* An entry of a matrix, NaN where there is none. */
static double entry(sl_context *context, const sl_csr *m, int64_t row, int64_t col) {
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(m), &a));
	CHECK_EQ(a.offset_dtype, SL_I32);
	const int32_t *offsets = a.row_offsets;
	for (int32_t k = offsets[row]; k < offsets[row + 1]; k++)
		if (a.col_indices[k] == col)
			return sl_csr_dtype(m) == SL_F64 ? ((double *)sl_csr_values(m))[k] : (double)((float *)sl_csr_values(m))[k];
	return NAN;
}

static int64_t nonzeros(sl_context *context, const sl_csr *m) {
	sl_pattern_arrays a;
	CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(m), &a));
	return a.nnz;
}

static sl_dataset *read_svmlight(sl_context *context, const char *text, const sl_svmlight_options *o) {
	sl_dataset *d;
	CHECK_OK(context, sl_dataset_read_svmlight(&d, context, write_text("x.svm", text), o, NULL));
	return d;
}

SL_TEST(data, svmlight_is_read_as_written) {
	sl_context *context = sl_test_context();
	sl_dataset *d = read_svmlight(context,
								  "# a heading\n"
								  "+1 3:0.5 1:-2e1\t7:+.25   # comment with 9:9\r\n"
								  "\n"
								  "-1 qid:12 2:1.  \n"
								  "   \t\n"
								  "1e0\n"
								  "-1.0 qid:3 7:0.1#x\n"
								  "-1 4:0",
								  &(sl_svmlight_options){SL_SVMLIGHT_DEFAULTS, .dtype = SL_F64});
	sl_dataset_content c = content_of(context, d);
	CHECK_EQ(c.samples, 5);
	CHECK_EQ(c.features, 7);
	CHECK_EQ(c.classes, 2);
	CHECK_EQ(nonzeros(context, c.inputs), 6);
	CHECK(entry(context, c.inputs, 0, 0) == -20 && entry(context, c.inputs, 0, 2) == 0.5);
	CHECK(entry(context, c.inputs, 0, 6) == 0.25 && entry(context, c.inputs, 1, 1) == 1);
	CHECK(entry(context, c.inputs, 3, 6) == 0.1 && entry(context, c.inputs, 4, 3) == 0);
	const int32_t labels[] = {1, 0, 1, 0, 0};
	const int64_t groups[] = {0, 12, 0, 3, 0};
	for (int i = 0; i < 5; i++) {
		CHECK_EQ(c.labels[i], labels[i]);
		CHECK_EQ(c.groups[i], groups[i]);
		CHECK(c.numbers[i] == (labels[i] ? 1 : -1));
	}
	CHECK(c.class_values[0] == -1 && c.class_values[1] == 1);
	sl_dataset_destroy(d);
	sl_context_destroy(context);
	clean();
}

SL_TEST(data, svmlight_bases) {
	sl_context *context = sl_test_context();
	const struct {
		const char *text;
		sl_index_base base;
		int64_t features, given;
	} cases[] = {{"1 0:1 4:2\n", SL_INDEX_AUTO, 5, 0},
				 {"1 1:1 4:2\n", SL_INDEX_AUTO, 4, 0},
				 {"1 1:1 4:2\n", SL_INDEX_ZERO, 5, 0},
				 {"1 1:1 4:2\n", SL_INDEX_ONE, 4, 0},
				 {"1 1:1 4:2\n", SL_INDEX_AUTO, 9, 9},
				 {"1 0:1 4:2\n", SL_INDEX_AUTO, 5, 5},
				 {"1 2147483647:2\n", SL_INDEX_AUTO, INT32_MAX, 0},
				 {"1 2147483646:2\n", SL_INDEX_ZERO, INT32_MAX, 0},
				 {"1\n", SL_INDEX_AUTO, 0, 0},
				 {"", SL_INDEX_AUTO, 0, 0}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		sl_dataset *d = read_svmlight(
			context, cases[i].text,
			&(sl_svmlight_options){SL_SVMLIGHT_DEFAULTS, .base = cases[i].base, .features = cases[i].given});
		CHECK_EQ(content_of(context, d).features, cases[i].features);
		sl_dataset_destroy(d);
	}
	sl_context_destroy(context);
	clean();
}

SL_TEST(data, svmlight_sets_of_labels) {
	sl_context *context = sl_test_context();
	sl_dataset *d = read_svmlight(context, "3,1 1:1\n 2:1\n1:7\n0\n5,2,4 qid:1 3:1\n",
								  &(sl_svmlight_options){SL_SVMLIGHT_DEFAULTS, .labels = SL_LABELS_SETS});
	sl_dataset_content c = content_of(context, d);
	CHECK_EQ(c.samples, 5);
	CHECK_EQ(c.classes, 6);
	CHECK(!c.labels && !c.numbers && !c.class_values);
	CHECK_EQ(nonzeros(context, c.targets), 6);
	const int entries[][2] = {{0, 1}, {0, 3}, {3, 0}, {4, 2}, {4, 4}, {4, 5}};
	for (int i = 0; i < 6; i++)
		CHECK(entry(context, c.targets, entries[i][0], entries[i][1]) == 1);
	CHECK(entry(context, c.inputs, 2, 0) == 7);
	sl_dataset_destroy(d);
	d = read_svmlight(context, "1 1:1\n",
					  &(sl_svmlight_options){SL_SVMLIGHT_DEFAULTS, .labels = SL_LABELS_SETS, .classes = 9});
	CHECK_EQ(content_of(context, d).classes, 9);
	sl_dataset_destroy(d);
	sl_context_destroy(context);
	clean();
}

SL_TEST(data, svmlight_like_another) {
	sl_context *context = sl_test_context();
	sl_dataset *test, *train = read_svmlight(context, "7 0:1 9:1\n-3 1:2\n", NULL);
	sl_svmlight_options like = {SL_SVMLIGHT_DEFAULTS, .like = train};
	test = read_svmlight(context, "-3 1:5\n7 3:1\n", &like);
	sl_dataset_content c = content_of(context, test);
	CHECK_EQ(c.features, 10);
	CHECK(c.labels[0] == 0 && c.labels[1] == 1);
	CHECK(entry(context, c.inputs, 0, 1) == 5);
	sl_dataset_destroy(test);
	CHECK_EQ(sl_dataset_read_svmlight(&test, context, write_text("y.svm", "8 1:5\n"), &like, NULL), SL_ERR_SHAPE);
	CHECK(!test && strstr(sl_context_message(context), "sample 0 has label 8"));
	CHECK_EQ(sl_dataset_read_svmlight(&test, context, write_text("y.svm", "7 10:5\n"), &like, NULL), SL_ERR_SHAPE);
	CHECK(strstr(sl_context_message(context), "line 1, column 3: index 10; it must be between 0 and 9"));
	sl_dataset_destroy(train);
	sl_context_destroy(context);
	clean();
}

SL_TEST(data, svmlight_says_where_it_is_wrong) {
	sl_context *context = sl_test_context();
	const struct {
		const char *text, *message;
		sl_status status;
		sl_svmlight_options o;
	} cases[] = {
		{"1 1:1\n1 1:2 3:x\n", "line 2, column 9: a value is \"x\"", SL_ERR_FORMAT, {0}},
		{"1 1:1\n\n# no\n1 2:3 2:4\n", "line 4, column 7: index 2 is there twice", SL_ERR_STRUCTURE, {0}},
		{"1 5:1 3:1 5:2\n", "line 1, column 11: index 5 is there twice", SL_ERR_STRUCTURE, {0}},
		{"1,2 3:4\n", "line 1, column 2: \"1,2\" is a set", SL_ERR_FORMAT, {0}},
		{"x 1:1\n", "line 1, column 1: the label is \"x\"", SL_ERR_FORMAT, {0}},
		{"nan 1:1\n", "column 1: the label is \"nan\"", SL_ERR_FORMAT, {0}},
		{"1 1:2 junk\n", "column 7: \"junk\" where index:value is needed", SL_ERR_FORMAT, {0}},
		{"1:2 3:4\n", "column 1: \"1:2\" where the label should be", SL_ERR_FORMAT, {0}},
		{"1 99999999999:1\n", "column 3: index 99999999999; it must be between 0 and 2147483647", SL_ERR_FORMAT, {0}},
		{"1 99999999999999999999999:1\n", "column 3: index 99999999999999999999999;", SL_ERR_FORMAT, {0}},
		{"1 1:0x10\n", "column 5: a value is \"0x10\"", SL_ERR_FORMAT, {0}},
		{"1 1:1,5\n", "column 5: a value is \"1,5\"", SL_ERR_FORMAT, {0}},
		{"1 -3:1\n", "column 3: \"-3:1\" where", SL_ERR_FORMAT, {0}},
		{"1 3: 4\n", "column 5: a value is \"\"", SL_ERR_FORMAT, {0}},
		{"1 3:", "column 5: a value is \"\"", SL_ERR_FORMAT, {0}},
		{"1 1:2:3\n", "column 5: a value is \"2:3\"", SL_ERR_FORMAT, {0}},
		{"1 qid:x 1:1\n", "column 7: qid is \"x\"", SL_ERR_FORMAT, {0}},
		{"1 qid:1x 1:1\n", "column 8: \"x\" behind qid", SL_ERR_FORMAT, {0}},
		{"1 1:1 qid:1\n", "column 7: \"qid:1\" where", SL_ERR_FORMAT, {0}},
		{"1 0:1\n", "column 3: index 0; it must be between 1 and", SL_ERR_FORMAT, {.base = SL_INDEX_ONE}},
		{"1 3:1\n", "column 3: index 3; it must be between 0 and 2", SL_ERR_SHAPE, {.features = 2}},
		{"1 0:1 2:1\n", "index 0 occurs, so that index 2 is the last of 3 features", SL_ERR_SHAPE, {.features = 2}},
		{"1 0:1 2147483647:1\n", "more than a matrix has columns", SL_ERR_OVERFLOW, {0}},
		{"1,1 1:1\n", "column 3: label 1 is there twice", SL_ERR_STRUCTURE, {.labels = SL_LABELS_SETS}},
		{"1,,2 1:1\n", "column 3: a label is \",2\"", SL_ERR_FORMAT, {.labels = SL_LABELS_SETS}},
		{"-1 1:1\n", "column 1: a label is \"-1\"", SL_ERR_FORMAT, {.labels = SL_LABELS_SETS}},
		{"1.5 1:1\n", "column 2: \".5\" behind a label", SL_ERR_FORMAT, {.labels = SL_LABELS_SETS}},
		{"9 1:1\n", "column 1: a label is 9; the most is 4", SL_ERR_FORMAT, {.labels = SL_LABELS_SETS, .classes = 5}},
		{"\x1f\x8b\x08", "is compressed", SL_ERR_FORMAT, {0}},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		sl_svmlight_options o = cases[i].o;
		sl_dataset *d;
		o.struct_size = sizeof o;
		sl_status status = sl_dataset_read_svmlight(&d, context, write_text("bad.svm", cases[i].text), &o, NULL);
		if (d || status != cases[i].status || !strstr(sl_context_message(context), cases[i].message))
			sl_test_fail(__FILE__, __LINE__, "case %zu: %s: %s; wanted \"%s\"", i, sl_status_name(status),
						 sl_context_message(context), cases[i].message);
	}
	sl_dataset *d;
	sl_read_limits few = {SL_READ_LIMITS_DEFAULTS, .max_nonzeros = 2},
				   small = {SL_READ_LIMITS_DEFAULTS, .max_bytes = 5};
	const char *path = write_text("x.svm", "1 1:1 2:1 3:1\n");
	CHECK_EQ(sl_dataset_read_svmlight(&d, context, path, NULL, &few), SL_ERR_LIMIT);
	CHECK_EQ(sl_dataset_read_svmlight(&d, context, path, NULL, &small), SL_ERR_LIMIT);
	CHECK_EQ(sl_dataset_read_svmlight(&d, context, "/nonexistent/x.svm", NULL, NULL), SL_ERR_NOT_FOUND);
	sl_context_destroy(context);
	clean();
}

static uint64_t state;
static uint64_t draw(void) {
	state += 0x9E3779B97F4A7C15u;
	uint64_t z = state;
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

/* Numbers of all kinds: strtod() is asked what they are. */
static void print_number(char *text, size_t size) {
	static const char *const formats[] = {"%.17g", "%.6g", "%.3f", "%.0f", "%.20e", "%+.9f", "%.25g"};
	double v = (double)(int64_t)draw() * exp2(-(double)(draw() % 70));
	if (draw() % 20 == 0)
		v *= exp((double)(int64_t)draw() * 7e-17);
	snprintf(text, size, formats[draw() % 7], v);
}

typedef struct wanted {
	int64_t rows, nnz;
	int64_t *offsets;
	int32_t *cols;
	double *values, *labels;
	int64_t *groups;
} wanted;

/* A file of several blocks: short and long lines (one of more than a block), comments, blank lines, qids. */
static const char *write_large(const char *name, wanted *w, uint64_t seed) {
	enum { ROWS = 6000, MOST = 400000 };
	const char *path = scratch(name);
	FILE *f = fopen(path, "wb");
	*w = (wanted){0, 0, malloc((ROWS + 1) * 8), malloc(MOST * 4), malloc(MOST * 8), malloc(ROWS * 8), malloc(ROWS * 8)};
	CHECK(f && w->offsets && w->cols && w->values && w->labels && w->groups);
	state = seed;
	w->offsets[0] = 0;
	for (; w->rows < ROWS; w->rows++) {
		char text[400];
		uint64_t kind = draw() % 16;
		if (kind == 0)
			fprintf(f, "# 3:4 \"%d\"\n", (int)draw());
		if (kind == 1)
			fprintf(f, " \t\r\n");
		w->labels[w->rows] = (double)(int)(draw() % 7) - 3;
		w->groups[w->rows] = kind == 2 ? (int64_t)(draw() >> 8) % 1000000 : 0;
		fprintf(f, "%s%.1f", kind == 5 ? " " : "", w->labels[w->rows]);
		if (kind == 2)
			fprintf(f, " qid:%lld", (long long)w->groups[w->rows]);
		int64_t col = 0, n = w->rows == 2000 ? 90000 : (int64_t)(draw() % 60);
		for (int64_t i = 0; i < n; i++) {
			col += 1 + (int64_t)(draw() % 1000);
			print_number(text, sizeof text);
			w->cols[w->nnz] = (int32_t)col - 1;
			w->values[w->nnz++] = strtod(text, NULL);
			fprintf(f, "%s%lld:%s", draw() % 30 ? " " : "\t ", (long long)col, text);
		}
		fprintf(f, "%s%s\n", kind == 3 ? "  # 5:6 qid:1" : "", kind == 4 ? "\r" : "");
		w->offsets[w->rows + 1] = w->nnz;
	}
	CHECK(!fclose(f));
	return path;
}

SL_TEST(data, svmlight_in_blocks_is_what_a_plain_reader_reads) {
	printf("seed 5\n");
	wanted w;
	const char *path = write_large("large.svm", &w, 5);
	for (int threads = 1; threads <= 3; threads += 2)
		for (int wide = 0; wide < 2; wide++) {
			sl_context *context;
			sl_context_options o = {SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = threads};
			CHECK_EQ(sl_context_create(&context, &o), SL_OK);
			sl_dataset *d;
			CHECK_OK(context, sl_dataset_read_svmlight(
								  &d, context, path,
								  &(sl_svmlight_options){SL_SVMLIGHT_DEFAULTS, .dtype = wide ? SL_F64 : SL_F32}, NULL));
			sl_dataset_content c = content_of(context, d);
			sl_pattern_arrays a;
			CHECK_OK(context, sl_pattern_get(context, sl_csr_pattern(c.inputs), &a));
			CHECK_EQ(a.rows, w.rows);
			CHECK_EQ(a.nnz, w.nnz);
			CHECK_EQ(a.offset_dtype, SL_I32);
			for (int64_t r = 0; r < w.rows; r++) {
				CHECK_EQ(((const int32_t *)a.row_offsets)[r + 1], w.offsets[r + 1]);
				CHECK(c.numbers[r] == w.labels[r]);
				CHECK_EQ(c.labels[r], (int)w.labels[r] + 3);
				CHECK_EQ(c.groups[r], w.groups[r]);
			}
			for (int64_t k = 0; k < w.nnz; k++) {
				CHECK_EQ(a.col_indices[k], w.cols[k]);
				double got =
					wide ? ((double *)sl_csr_values(c.inputs))[k] : (double)((float *)sl_csr_values(c.inputs))[k];
				CHECK(got == (wide ? w.values[k] : (double)(float)w.values[k]));
			}
			sl_dataset_destroy(d);
			sl_context_destroy(context);
		}
	/* A fault far down is found at its line, and of two the first. */
	FILE *f = fopen(path, "ab");
	CHECK(f && fputs("1 2:3\n1 2;3\n", f) >= 0);
	for (int i = 0; i < 200000; i++)
		CHECK(fputs("1 2:3\n", f) >= 0);
	CHECK(fputs("1 x\n", f) >= 0 && !fclose(f));
	int64_t lines = 1;
	f = fopen(path, "rb");
	for (int c, last = 0; (c = fgetc(f)) != EOF; last = c)
		if (c == ';' && last == '2')
			break;
		else
			lines += c == '\n';
	fclose(f);
	sl_context *context = sl_test_context();
	sl_dataset *d;
	CHECK_EQ(sl_dataset_read_svmlight(&d, context, path, NULL, NULL), SL_ERR_FORMAT);
	char message[64];
	snprintf(message, sizeof message, "line %lld, column 3: \"2;3\"", (long long)lines);
	if (!strstr(sl_context_message(context), message))
		sl_test_fail(__FILE__, __LINE__, "%s; wanted %s", sl_context_message(context), message);
	sl_context_destroy(context);
	free(w.offsets);
	free(w.cols);
	free(w.values);
	free(w.labels);
	free(w.groups);
	clean();
}

SL_TEST(data, svmlight_written_comes_back) {
	sl_context *context = sl_test_context();
	for (int wide = 0; wide < 2; wide++) {
		enum { ROWS = 40, COLS = 300 };
		sl_dtype dtype = wide ? SL_F64 : SL_F32;
		sl_pattern *pattern;
		sl_csr *m;
		CHECK_OK(context, sl_pattern_random(&pattern, context, ROWS, COLS, 0.1, 1));
		CHECK_OK(context, sl_csr_create_pattern(&m, context, pattern, dtype));
		int64_t nnz = nonzeros(context, m);
		state = 9;
		for (int64_t i = 0; i < nnz; i++)
			if (wide)
				((double *)sl_csr_values(m))[i] = (double)(int64_t)draw() / 3e11;
			else
				((float *)sl_csr_values(m))[i] = (float)(int64_t)draw() / 3e11f;
		double labels[ROWS];
		for (int i = 0; i < ROWS; i++)
			labels[i] = (double)(int64_t)draw() / 7;
		const char *path = scratch("back.svm");
		CHECK_OK(context, sl_svmlight_write(context, m, labels, NULL, path));
		sl_dataset *d;
		sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .labels = SL_LABELS_NUMBERS, .features = COLS, .dtype = dtype};
		CHECK_OK(context, sl_dataset_read_svmlight(&d, context, path, &o, NULL));
		sl_dataset_content c = content_of(context, d);
		CHECK(!c.labels && !memcmp(c.numbers, labels, sizeof labels));
		uint64_t before, after;
		CHECK_OK(context, sl_pattern_hash(context, pattern, &before));
		CHECK_OK(context, sl_pattern_hash(context, sl_csr_pattern(c.inputs), &after));
		CHECK(before == after);
		CHECK(!memcmp(sl_csr_values(m), sl_csr_values(c.inputs), (size_t)nnz * sl_dtype_size(dtype)));
		sl_dataset_destroy(d);
		/* As sets: the matrix is its own targets. */
		CHECK_OK(context, sl_svmlight_write(context, m, NULL, m, path));
		o.labels = SL_LABELS_SETS;
		o.classes = COLS;
		CHECK_OK(context, sl_dataset_read_svmlight(&d, context, path, &o, NULL));
		CHECK_OK(context, sl_pattern_hash(context, sl_csr_pattern(content_of(context, d).targets), &after));
		CHECK(before == after);
		sl_dataset_destroy(d);
		sl_csr_destroy(m);
		sl_pattern_release(pattern);
	}
	sl_context_destroy(context);
	clean();
}

/* As in tests/data/make.py. */
static double value(int i, int j) {
	if (i == 4 || (i * 7 + j * 13) % 5)
		return 0;
	double v = ((i * 31 + j * 17) % 19 - 9) / 4.0;
	return v != 0 ? v : 2.5;
}

SL_TEST(data, svmlight_of_sklearn) {
	sl_context *context = sl_test_context();
	for (int sets = 0; sets < 2; sets++) {
		enum { ROWS = 17, COLS = 11 };
		sl_dataset *d;
		sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .features = COLS, .dtype = SL_F64,
								 .labels = sets ? SL_LABELS_SETS : SL_LABELS_CLASSES};
		CHECK_OK(context,
				 sl_dataset_read_svmlight(
					 &d, context, sets ? SL_TEST_DATA "/sklearn_sets.svm" : SL_TEST_DATA "/sklearn.svm", &o, NULL));
		sl_dataset_content c = content_of(context, d);
		CHECK_EQ(c.samples, ROWS);
		int64_t nnz = 0;
		for (int i = 0; i < ROWS; i++) {
			for (int j = 0; j < COLS; j++) {
				nnz += value(i, j) != 0;
				CHECK(value(i, j) == 0 || entry(context, c.inputs, i, j) == value(i, j));
			}
			if (!sets)
				CHECK(c.numbers[i] == i % 3 - 1 && c.labels[i] == i % 3 && c.groups[i] == i / 4);
			for (int j = 0; j < 6 && sets; j++)
				CHECK((entry(context, c.targets, i, j) == 1) == ((i + j) % 4 == 0));
		}
		CHECK_EQ(nonzeros(context, c.inputs), nnz);
		sl_dataset_destroy(d);
	}
	sl_context_destroy(context);
}

SL_TEST(data, svmlight_is_a_format_of_matrices) {
	sl_context *context = sl_test_context();
	sl_csr *m;
	CHECK_OK(context, sl_csr_read(&m, context, write_text("x.libsvm", "1 2:3\n-1 4:5\n"), SL_FORMAT_AUTO, NULL));
	CHECK(entry(context, m, 0, 1) == 3 && entry(context, m, 1, 3) == 5);
	CHECK_OK(context, sl_csr_write(context, m, scratch("y.svm"), SL_FORMAT_AUTO));
	sl_csr_destroy(m);
	CHECK_OK(context, sl_csr_read(&m, context, scratch("y.svm"), SL_FORMAT_SVMLIGHT, NULL));
	CHECK(entry(context, m, 0, 1) == 3 && entry(context, m, 1, 3) == 5);
	sl_csr_destroy(m);
	/* Sets of labels are left alone as well. */
	CHECK_OK(context, sl_csr_read(&m, context, write_text("z.svm", "1,2 2:3\n"), SL_FORMAT_AUTO, NULL));
	CHECK(entry(context, m, 0, 1) == 3);
	sl_csr_destroy(m);
	sl_context_destroy(context);
	clean();
}

SL_TEST(data, ratings_of_all_forms) {
	sl_context *context = sl_test_context();
	static const char *const texts[] = {
		"196\t242\t3\t881250949\n-5\t302\t2.5\t0\n\n196\t7\t1\t0\n",
		"userId,movieId,rating,timestamp\r\n196,242,3.0,881250949\r\n-5,302,2.5,0\r\n196,7,1,0",
		"196::242::3::881250949\n-5::302::2.5::0\n196::7::1::0\n", "196 242 3\n -5  302 2.5\n196 7 1\n",
		"user;item;rating\n196;242;3\n-5;302;2.5\n196;7;1\n"};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		sl_dataset *d;
		CHECK_OK(context, sl_dataset_read_ratings(&d, context, write_text("r", texts[i]), NULL, NULL));
		sl_dataset_content c = content_of(context, d);
		CHECK_EQ(c.samples, 2);
		CHECK_EQ(c.features, 3);
		CHECK(c.row_ids[0] == -5 && c.row_ids[1] == 196);
		CHECK(c.col_ids[0] == 7 && c.col_ids[1] == 242 && c.col_ids[2] == 302);
		CHECK_EQ(nonzeros(context, c.inputs), 3);
		CHECK(entry(context, c.inputs, 1, 1) == 3 && entry(context, c.inputs, 0, 2) == 2.5);
		CHECK(entry(context, c.inputs, 1, 0) == 1);
		sl_dataset_destroy(d);
	}
	sl_dataset *train, *test;
	sl_ratings_options o = {SL_RATINGS_DEFAULTS, .min_rating = 2, .implicit = true};
	CHECK_OK(context, sl_dataset_read_ratings(&train, context, write_text("r", texts[0]), &o, NULL));
	sl_dataset_content c = content_of(context, train);
	CHECK_EQ(c.features, 2);
	CHECK(entry(context, c.inputs, 0, 1) == 1 && entry(context, c.inputs, 1, 0) == 1);
	o.like = train;
	const char *path = write_text("t", "196 302 5\n8 302 5\n196 9 5\n");
	CHECK_EQ(sl_dataset_read_ratings(&test, context, path, &o, NULL), SL_ERR_SHAPE);
	CHECK(strstr(sl_context_message(context), "user 8 is not in"));
	o.skip_unknown = true;
	CHECK_OK(context, sl_dataset_read_ratings(&test, context, path, &o, NULL));
	c = content_of(context, test);
	CHECK(c.samples == 2 && c.features == 2 && nonzeros(context, c.inputs) == 1);
	CHECK(entry(context, c.inputs, 1, 1) == 1);
	sl_dataset_destroy(test);
	sl_dataset_destroy(train);
	sl_context_destroy(context);
	clean();
}

SL_TEST(data, ratings_say_where_they_are_wrong) {
	sl_context *context = sl_test_context();
	const struct {
		const char *text, *message;
		sl_status status;
	} cases[] = {{"1 2 3\n1 x 3\n", "line 2, column 3: the item is \"x\"", SL_ERR_FORMAT},
				 {"1,2,3\n1 3,4\n", "line 2, column 3: \"3,4\" where an item and a \",\"", SL_ERR_FORMAT},
				 {"1::2::3\n1::2\n", "line 2, column 5: \"\" where a rating", SL_ERR_FORMAT},
				 {"1::2::3\n1::2:3\n", "line 2, column 4: the item is \"2:3\"", SL_ERR_FORMAT},
				 {"1 2 nan\n", "line 1, column 5: the rating is \"nan\"", SL_ERR_FORMAT},
				 {"1 2 3x\n", "line 1, column 5: the rating is \"3x\"", SL_ERR_FORMAT},
				 {"1 2\n", "line 1, column 4: the rating is \"\"", SL_ERR_FORMAT},
				 {"1 99999999999999999999 2\n", "line 1, column 3: the item is", SL_ERR_FORMAT},
				 {"h\n1 2 3\nh\n", "line 3, column 1: the user is \"h\"", SL_ERR_FORMAT},
				 {"1 2 3\n1 2 4\n", "twice", SL_ERR_STRUCTURE}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		sl_dataset *d;
		sl_status status = sl_dataset_read_ratings(&d, context, write_text("bad", cases[i].text), NULL, NULL);
		if (d || status != cases[i].status || !strstr(sl_context_message(context), cases[i].message))
			sl_test_fail(__FILE__, __LINE__, "case %zu: %s: %s; wanted \"%s\"", i, sl_status_name(status),
						 sl_context_message(context), cases[i].message);
	}
	sl_context_destroy(context);
	clean();
}

/* Every truncation and many single-byte changes of a file: a status and a message, never a crash. */
SL_TEST(data, damaged_text_is_refused_or_read) {
	sl_context *context = sl_test_context();
	static const char text[] = "3,1 qid:4 1:0.5 7:-2e3 # c\n\n2 2:1.25\n 1:1 3:4\n";
	char damaged[sizeof text];
	state = 3;
	printf("seed 3\n");
	sl_memory_usage before = {.struct_size = sizeof before}, usage = before;
	CHECK_OK(context, sl_context_memory(context, &before));
	for (int i = 0; i < 2000; i++) {
		memcpy(damaged, text, sizeof text);
		if (i < (int)sizeof text)
			damaged[i] = 0;
		else
			for (int j = 0; j < 3; j++)
				damaged[draw() % (sizeof text - 1)] = "0123456789:,.-+eE#\n\t qidx\377\1"[draw() % 28];
		const char *path = write_text("d", damaged);
		for (int kind = 0; kind < 3; kind++) {
			sl_dataset *d;
			sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .labels = (sl_label_kind)kind};
			sl_status status = sl_dataset_read_svmlight(&d, context, path, &o, NULL);
			CHECK((status == SL_OK) == (d != NULL));
			CHECK(status == SL_OK || sl_context_message(context)[0]);
			sl_dataset_destroy(d);
		}
		sl_dataset *d;
		sl_status status = sl_dataset_read_ratings(&d, context, path, NULL, NULL);
		CHECK((status == SL_OK) == (d != NULL));
		sl_dataset_destroy(d);
	}
	CHECK_OK(context, sl_context_memory(context, &usage));
	CHECK_EQ(usage.current, before.current);
	sl_context_destroy(context);
	clean();
}
