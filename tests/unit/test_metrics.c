/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics against scikit-learn's values (tests/data/sklearn_values.py), and against definitions written out
 * where scikit-learn has none: equal scores, columns that are known, rows with nothing to find. */
#include "support/check.h"

enum { MOST = 70 * 30 };

static double read_number(FILE *f) {
	double v = NAN;
	CHECK(fscanf(f, "%lf", &v) == 1);
	return v;
}

/* A CSR view of what is not zero, in arrays of the test's. */
typedef struct holder {
	int64_t offsets[71];
	int32_t cols[MOST];
	double values[MOST];
	float narrow[MOST];
} holder;

static sl_sparse view_of(holder *h, const double *dense, int64_t rows, int64_t cols, sl_dtype dtype) {
	int64_t n = 0;
	for (int64_t r = 0; r < rows; r++) {
		h->offsets[r] = n;
		for (int64_t c = cols - 1; c >= 0; c--) /* in any order */
			if (dense[r * cols + c] != 0) {
				h->cols[n] = (int32_t)c;
				h->narrow[n] = (float)dense[r * cols + c];
				h->values[n++] = dense[r * cols + c];
			}
	}
	h->offsets[rows] = n;
	return (sl_sparse){.rows = rows,
					   .cols = cols,
					   .nnz = n,
					   .offsets = h->offsets,
					   .offset_dtype = SL_I64,
					   .col_indices = h->cols,
					   .index_dtype = SL_I32,
					   .values = dtype == SL_F64 ? (void *)h->values : h->narrow,
					   .dtype = dtype};
}

static void check_classes(sl_context *context, const double *scores, const double *truth, int64_t rows, int64_t cols,
						  const double *wanted) {
	int32_t labels[70];
	float narrow[MOST];
	double chances[MOST];
	for (int64_t i = 0; i < rows; i++) {
		labels[i] = (int32_t)truth[i];
		double sum = 0;
		for (int64_t c = 0; c < cols; c++)
			sum += chances[i * cols + c] = exp(scores[i * cols + c]);
		for (int64_t c = 0; c < cols; c++)
			chances[i * cols + c] /= sum;
	}
	for (int64_t i = 0; i < rows * cols; i++)
		narrow[i] = (float)scores[i];
	const sl_dense views[] = {sl_dense_view(scores, SL_F64, rows, cols), sl_dense_view(narrow, SL_F32, rows, cols),
							  sl_dense_view(chances, SL_F64, rows, cols)};
	for (int i = 0; i < 3; i++) {
		/* In two batches. */
		sl_class_metrics m = {SL_CLASS_METRICS_DEFAULTS};
		sl_dense part = views[i];
		part.rows = rows / 3;
		CHECK_OK(context, sl_metrics_classes(context, &part, i < 2, labels, &m));
		part.rows = rows - rows / 3;
		part.data = (char *)part.data + (size_t)(rows / 3 * cols) * sl_dtype_size(part.dtype);
		CHECK_OK(context, sl_metrics_classes(context, &part, i < 2, labels + rows / 3, &m));
		CHECK_EQ(m.rows, rows);
		CHECK_NEAR(m.accuracy, wanted[0], 1e-14);
		CHECK_NEAR(m.log_loss, wanted[1], i == 1 ? 1e-6 : 1e-12);
	}
}

static void check_ranking(sl_context *context, const double *scores, const double *grades, int64_t rows, int64_t cols,
						  int64_t k, const double *wanted) {
	static holder h;
	sl_dense all = sl_dense_view(scores, SL_F64, rows, cols);
	sl_sparse relevant = view_of(&h, grades, rows, cols, k % 2 ? SL_F64 : SL_F32);
	sl_rank_metrics m = {SL_RANK_METRICS_DEFAULTS};
	for (int64_t first = 0, n; first < rows; first += n) {
		n = rows - first < 4 ? rows - first : 4;
		sl_dense part = all;
		part.rows = n;
		part.data = (char *)all.data + (size_t)(first * cols) * sizeof(double);
		sl_sparse slice = sl_sparse_slice(relevant, first, n);
		CHECK_OK(context, sl_metrics_ranking(context, &part, &slice, NULL, k, &m));
	}
	CHECK_EQ(m.rows, rows);
	CHECK_NEAR(m.precision, wanted[0], 1e-13);
	CHECK_NEAR(m.recall, wanted[1], 1e-13);
	CHECK_NEAR(m.ndcg, wanted[2], 1e-13);
}

static void check_auc(sl_context *context, const double *scores, const double *truth, int64_t rows, int64_t cols,
					  const double *wanted) {
	static holder h;
	sl_dense all = sl_dense_view(scores, SL_F64, rows, cols);
	sl_sparse relevant = view_of(&h, truth, rows, cols, SL_F64);
	for (int average = 0; average < 3; average++) {
		double area;
		CHECK_OK(context, sl_metrics_auc(context, &all, &relevant, (sl_average)average, &area));
		if (wanted[average] < 0)
			CHECK(isnan(area));
		else
			CHECK_NEAR(area, wanted[average], 1e-13);
	}
}

SL_TEST(metrics, are_what_sklearn_says) {
	sl_context *context = sl_test_context();
	static double scores[MOST], truth[MOST];
	FILE *f = fopen(SL_TEST_DATA "/metrics.txt", "r");
	char word[16];
	int cases = 0;
	CHECK(f);
	while (fgetc(f) != '\n') {
	}
	while (fscanf(f, "%15s", word) == 1) {
		bool classes = !strcmp(word, "classes"), ranking = !strcmp(word, "ranking");
		int64_t rows = (int64_t)read_number(f), cols = (int64_t)read_number(f);
		int64_t k = ranking ? (int64_t)read_number(f) : 0;
		double wanted[3];
		CHECK(rows <= 70 && rows * cols <= MOST);
		for (int64_t i = 0; i < rows * cols; i++)
			scores[i] = read_number(f);
		for (int64_t i = 0; i < (classes ? rows : rows * cols); i++)
			truth[i] = read_number(f);
		for (int i = 0; i < (classes ? 2 : 3); i++)
			wanted[i] = read_number(f);
		if (classes)
			check_classes(context, scores, truth, rows, cols, wanted);
		else if (ranking)
			check_ranking(context, scores, truth, rows, cols, k, wanted);
		else
			check_auc(context, scores, truth, rows, cols, wanted);
		cases++;
	}
	fclose(f);
	CHECK_EQ(cases, 9);
	sl_context_destroy(context);
}

/* The definitions written out: columns sorted by score, equal ones by number, known ones left out. */
static int compare_row(const double *scores, int a, int b) {
	return scores[a] != scores[b] ? (scores[a] < scores[b]) - (scores[a] > scores[b]) : a - b;
}

static void plain_ranking(const double *scores, const double *grades, const double *known, int rows, int cols, int k,
						  sl_rank_metrics *m) {
	*m = (sl_rank_metrics){SL_RANK_METRICS_DEFAULTS};
	for (int r = 0; r < rows; r++) {
		int order[30], ideal[30], n = 0;
		const double *s = scores + r * cols, *g = grades + r * cols;
		double wanted = 0, found = 0, gain = 0, best = 0;
		for (int c = 0; c < cols; c++)
			if (!known || known[r * cols + c] == 0) {
				wanted += g[c] > 0;
				order[n] = ideal[n] = c;
				n++;
			}
		for (int i = 1; i < n; i++)
			for (int j = i; j > 0; j--) {
				if (compare_row(s, order[j - 1], order[j]) > 0) {
					int o = order[j];
					order[j] = order[j - 1];
					order[j - 1] = o;
				}
				if (compare_row(g, ideal[j - 1], ideal[j]) > 0) {
					int o = ideal[j];
					ideal[j] = ideal[j - 1];
					ideal[j - 1] = o;
				}
			}
		if (wanted == 0)
			continue;
		for (int i = 0; i < n && i < k; i++) {
			found += g[order[i]] > 0;
			gain += (g[order[i]] > 0 ? g[order[i]] : 0) / log2(i + 2);
			best += (g[ideal[i]] > 0 ? g[ideal[i]] : 0) / log2(i + 2);
		}
		m->rows++;
		m->precision += found / k;
		m->recall += found / wanted;
		m->ndcg += gain / best;
		m->hit_rate += found > 0;
	}
	m->precision /= (double)m->rows;
	m->recall /= (double)m->rows;
	m->ndcg /= (double)m->rows;
	m->hit_rate /= (double)m->rows;
}

SL_TEST(metrics, equal_scores_known_columns_and_empty_rows) {
	static double scores[MOST], grades[MOST], known[MOST];
	static holder h, other;
	printf("seeds 1 to 12\n");
	for (int seed = 1; seed <= 12; seed++)
		for (int threads = 1; threads <= 2; threads++) {
			sl_context *context;
			sl_context_options o = {SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = threads};
			CHECK_EQ(sl_context_create(&context, &o), SL_OK);
			int rows = 1 + seed * 6 % 70, cols = 1 + seed * 7 % 30, k = 1 + seed * 5 % 34;
			sl_test_fill(scores, SL_F64, rows * cols, (uint64_t)seed);
			sl_test_fill(grades, SL_F64, rows * cols, (uint64_t)seed + 100);
			sl_test_fill(known, SL_F64, rows * cols, (uint64_t)seed + 200);
			for (int i = 0; i < rows * cols; i++) {
				scores[i] = round(scores[i] * 4) / 4;                                      /* many are equal */
				grades[i] = i / cols % 5 == 2 ? 0 : fabs(grades[i]) > 0.6 ? grades[i] : 0; /* negative: none */
				known[i] = known[i] > 0.5;
			}
			sl_dense view = sl_dense_view(scores, SL_F64, rows, cols);
			sl_sparse relevant = view_of(&h, grades, rows, cols, SL_F64),
					  left_out = view_of(&other, known, rows, cols, SL_F32);
			left_out.values = NULL;
			for (int with = 0; with < 2; with++) {
				sl_rank_metrics got = {SL_RANK_METRICS_DEFAULTS}, wanted;
				CHECK_OK(context, sl_metrics_ranking(context, &view, &relevant, with ? &left_out : NULL, k, &got));
				plain_ranking(scores, grades, with ? known : NULL, rows, cols, k, &wanted);
				CHECK_EQ(got.rows, wanted.rows);
				if (!got.rows)
					continue;
				CHECK_NEAR(got.precision, wanted.precision, 1e-13);
				CHECK_NEAR(got.recall, wanted.recall, 1e-13);
				CHECK_NEAR(got.ndcg, wanted.ndcg, 1e-13);
				CHECK_NEAR(got.hit_rate, wanted.hit_rate, 1e-13);
			}
			sl_context_destroy(context);
		}
}

/* The area is the share of pairs in the right order. */
SL_TEST(metrics, area_is_the_share_of_pairs) {
	sl_context *context = sl_test_context();
	static holder h;
	double scores[60], truth[60], pairs = 0, right = 0, area;
	sl_test_fill(scores, SL_F64, 60, 4);
	for (int i = 0; i < 60; i++) {
		scores[i] = round(scores[i] * 5);
		truth[i] = i % 3 == 0;
	}
	for (int i = 0; i < 60; i++)
		for (int j = 0; j < 60; j++)
			if (truth[i] > truth[j]) {
				pairs++;
				right += scores[i] > scores[j] ? 1 : scores[i] == scores[j] ? 0.5 : 0;
			}
	sl_dense view = sl_dense_view(scores, SL_F64, 60, 1);
	sl_sparse relevant = view_of(&h, truth, 60, 1, SL_F64);
	CHECK_OK(context, sl_metrics_auc(context, &view, &relevant, SL_AVERAGE_MICRO, &area));
	CHECK_NEAR(area, right / pairs, 1e-14);
	sl_context_destroy(context);
}

SL_TEST(metrics, what_they_refuse) {
	sl_context *context = sl_test_context();
	static holder h;
	float scores[6] = {1, 2, 3, 4, NAN, 6};
	double truth[6] = {0, 1, 0, 1, 0, 1}, area;
	const int32_t labels[] = {0, 2}, wrong[] = {0, 3};
	sl_class_metrics c = {SL_CLASS_METRICS_DEFAULTS, .rows = 5, .accuracy = 0.5};
	sl_rank_metrics r = {SL_RANK_METRICS_DEFAULTS};
	sl_dense view = sl_dense_view(scores, SL_F32, 2, 3);
	sl_sparse relevant = view_of(&h, truth, 2, 3, SL_F32);
	CHECK_EQ(sl_metrics_classes(context, &view, true, labels, &c), SL_ERR_NONFINITE);
	CHECK(strstr(sl_context_message(context), "row 1"));
	CHECK_EQ(sl_metrics_ranking(context, &view, &relevant, NULL, 2, &r), SL_ERR_NONFINITE);
	CHECK_EQ(sl_metrics_auc(context, &view, &relevant, SL_AVERAGE_MICRO, &area), SL_ERR_NONFINITE);
	scores[4] = 5;
	CHECK_EQ(sl_metrics_classes(context, &view, true, wrong, &c), SL_ERR_ARGUMENT);
	CHECK(strstr(sl_context_message(context), "labels[1] is 3"));
	CHECK(c.rows == 5 && c.accuracy == 0.5);
	CHECK_EQ(sl_metrics_ranking(context, &view, &relevant, NULL, 0, &r), SL_ERR_ARGUMENT);
	CHECK_EQ(sl_metrics_auc(context, &view, &relevant, (sl_average)7, &area), SL_ERR_ARGUMENT);
	sl_dense turned = sl_dense_transposed(view), narrow = view;
	narrow.cols = 2;
	CHECK_EQ(sl_metrics_classes(context, &turned, true, labels, &c), SL_ERR_LAYOUT);
	CHECK_EQ(sl_metrics_ranking(context, &narrow, &relevant, NULL, 1, &r), SL_ERR_SHAPE);
	CHECK(strstr(sl_context_message(context), "relevant is 2 x 3, scores 2 x 2"));
	/* Nothing at all is no error. */
	view.rows = relevant.rows = 0;
	CHECK_OK(context, sl_metrics_classes(context, &view, true, labels, &c));
	CHECK_OK(context, sl_metrics_ranking(context, &view, &relevant, NULL, 1, &r));
	CHECK_OK(context, sl_metrics_auc(context, &view, &relevant, SL_AVERAGE_MACRO, &area));
	CHECK(isnan(area) && c.rows == 5 && r.rows == 0);
	sl_context_destroy(context);
}
