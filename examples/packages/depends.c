/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What else does a Debian package depend on? A tenth of each package's dependencies is hidden; a sparse denoising
 * autoencoder (Vincent et al. 2008, with the multinomial likelihood of Liang et al. 2018) ranks all packages by the
 * others, beside the most needed packages and those that the nearest packages need.
 *
 *   depends DIR [EPOCHS]     DIR: depends.svm of packages.py
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common.h"

enum { HIDDEN = 512, BATCH = 256, K = 20, TEST_BATCH = 512 };
static const double DENSITY = 0.25, KEPT = 0.6;

typedef struct task {
	sl_context *context;
	sl_dataset *data;
	sl_dataset_content content;
	sl_sparse visible, hidden; /* [packages, items] both */
	sl_model *model;
	sl_optimizer *optimizer;
	sl_loader *loader;
	int64_t epochs, items;
	int32_t *columns;        /* of the visible entries: training reorders them within rows */
	int64_t ends[BATCH];     /* where the rows of a batch end, some entries left out */
	float *scores, *targets; /* [TEST_BATCH, items], [BATCH, items] */
	neighbours near;
	uint64_t dice;
} task;

/* Both sides have a number for every package: as many features as classes. */
static sl_status read_file(task *t, const char *folder) {
	sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .labels = SL_LABELS_SETS, .base = SL_INDEX_ONE};
	for (int pass = 0; pass < 2; pass++) {
		sl_dataset_destroy(t->data);
		SL_TRY(sl_dataset_read_svmlight(&t->data, t->context, path_of(folder, "depends.svm"), &o, NULL));
		SL_TRY(content_of(t->context, t->data, &t->content));
		t->items = t->content.features > t->content.classes ? t->content.features : t->content.classes;
		o.features = o.classes = t->items;
	}
	t->visible = sl_sparse_from_csr(t->content.inputs);
	t->hidden = sl_sparse_from_csr(t->content.targets);
	size_t batch = (size_t)t->items * sizeof(float);
	t->scores = malloc(TEST_BATCH * batch);
	t->targets = malloc(BATCH * batch);
	t->columns = malloc((size_t)t->visible.nnz * sizeof(int32_t));
	if (!t->scores || !t->targets || !t->columns)
		return SL_ERR_MEMORY;
	memcpy(t->columns, t->visible.col_indices, (size_t)t->visible.nnz * sizeof(int32_t));
	return SL_OK;
}

/* Scores of packages [first, first + count) into t->scores. */
typedef sl_status (*scorer)(task *t, int64_t first, int64_t count, int argument);

static sl_status by_popularity(task *t, int64_t first, int64_t count, int argument) {
	(void)first, (void)argument;
	SL_TRY(popularity(t->context, t->content.inputs, t->items, t->scores));
	for (int64_t i = 1; i < count; i++)
		memcpy(t->scores + i * t->items, t->scores, (size_t)t->items * sizeof(float));
	return SL_OK;
}
static sl_status by_neighbours(task *t, int64_t first, int64_t count, int k) {
	neighbours_scores(&t->near, &t->visible, first, count, k, t->scores);
	return SL_OK;
}
static sl_status by_network(task *t, int64_t first, int64_t count, int argument) {
	(void)argument;
	sl_sparse rows = sl_sparse_slice(t->visible, first, count);
	sl_dense scores = sl_dense_view(t->scores, SL_F32, count, t->items);
	return sl_model_predict_sparse(t->context, t->model, &rows, &scores, TEST_BATCH);
}

/* How well the hidden ones are found among all that are not visible. */
static sl_status show(task *t, const char *name, const char *result, scorer score, int argument) {
	sl_rank_metrics m = {SL_RANK_METRICS_DEFAULTS};
	for (int64_t first = 0, count; first < t->visible.rows; first += count) {
		count = t->visible.rows - first < TEST_BATCH ? t->visible.rows - first : TEST_BATCH;
		SL_TRY(score(t, first, count, argument));
		sl_dense scores = sl_dense_view(t->scores, SL_F32, count, t->items);
		sl_sparse wanted = sl_sparse_slice(t->hidden, first, count), known = sl_sparse_slice(t->visible, first, count);
		SL_TRY(sl_metrics_ranking(t->context, &scores, &wanted, &known, K, &m));
	}
	printf("%-24s recall@20 %.4f  nDCG@20 %.4f\nRESULT packages.depends.%s.recall20 %.4f\n", name, m.recall, m.ndcg,
		   result, m.recall);
	return SL_OK;
}

static sl_status baselines(task *t) {
	SL_TRY(show(t, "most needed", "popularity", by_popularity, 0));
	/* A dependency that few packages have says more: the usual logarithm of that. */
	float *weights = malloc((size_t)t->items * sizeof(float));
	if (!weights)
		return SL_ERR_MEMORY;
	SL_TRY(popularity(t->context, t->content.inputs, t->items, weights));
	for (int64_t i = 0; i < t->items; i++)
		weights[i] = logf((float)t->visible.rows / (weights[i] + 1)) + 1;
	sl_status status = neighbours_create(&t->near, t->context, t->content.inputs, t->content.inputs, weights, true);
	free(weights);
	const int ks[] = {10, 50, 200};
	for (int i = 0; i < 3 && status == SL_OK; i++) {
		char name[32], result[32];
		snprintf(name, sizeof name, "%d nearest packages", ks[i]);
		snprintf(result, sizeof result, "nearest%d", ks[i]);
		status = show(t, name, result, by_neighbours, ks[i]);
	}
	neighbours_destroy(&t->near);
	return status;
}

static sl_status make(task *t) {
	SL_TRY(sl_model_create(&t->model, t->context));
	SL_TRY(add_layer(t->context, t->model,
					 &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = t->items, .out_features = HIDDEN,
										  .dense = true, .bias = true, .activation = SL_TANH, .sparse_inputs = true,
										  .stream = 1}));
	SL_TRY(add_layer(t->context, t->model,
					 &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = HIDDEN, .out_features = t->items,
										  .density = DENSITY, .bias = true, .stream = 2}));
	int64_t steps = (t->visible.rows + BATCH - 1) / BATCH * t->epochs;
	SL_TRY(sl_optimizer_create(&t->optimizer, t->context,
							   &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 0.012,
													   .lazy = true,
													   .schedule = {.kind = SL_SCHEDULE_COSINE, .total = steps}}));
	SL_TRY(sl_model_add_to_optimizer(t->context, t->model, t->optimizer));
	return sl_loader_create(&t->loader, t->context, &t->visible,
							&(sl_loader_options){SL_LOADER_DEFAULTS, .batch = BATCH, .prefetch = 2});
}

/* Knuth's generator: which entries are left out need not be better drawn. */
static uint32_t roll(task *t) {
	t->dice = t->dice * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(t->dice >> 32);
}

/* The batch with some entries of each row left out: those that matter are brought to the row's front, and the row is
 * said to end behind them. Nothing is copied. */
static sl_sparse corrupt(task *t, const sl_sparse *rows) {
	const int64_t *begins = rows->offsets, *ends = rows->ends;
	sl_sparse left = *rows;
	for (int64_t r = 0; r < rows->rows; r++) {
		int64_t end = begins[r];
		for (int64_t i = begins[r]; i < ends[r]; i++)
			if (roll(t) < KEPT * 4294967296.0) {
				int32_t kept = t->columns[i];
				t->columns[i] = t->columns[end];
				t->columns[end++] = kept;
			}
		t->ends[r] = end;
	}
	left.col_indices = t->columns;
	left.ends = t->ends;
	return left;
}

static sl_status take_step(void *of, const sl_batch *batch, sl_loss_result *result) {
	task *t = of;
	sl_sparse inputs = corrupt(t, &batch->inputs);
	sl_dense targets = chances(&batch->inputs, t->columns, t->items, t->targets); /* the whole rows */
	return sl_model_train_batch_sparse(t->context, t->model, SL_SOFTMAX_CROSS_ENTROPY, &inputs,
									   &(sl_targets){.dense = &targets}, SL_OVERWRITE, result);
}

static sl_status run(task *t, const char *folder) {
	SL_TRY(read_file(t, folder));
	printf("%lld packages, %lld that are depended on, %lld dependencies visible, %lld hidden\n",
		   (long long)t->visible.rows, (long long)t->items, (long long)t->visible.nnz, (long long)t->hidden.nnz);
	SL_TRY(baselines(t));
	SL_TRY(make(t));
	SL_TRY(train(t->context, t->loader, t->optimizer, t->epochs, t->visible.rows, take_step, t));
	return show(t, "sparse autoencoder", "network", by_network, 0);
}

int main(int argc, char **argv) {
	static task t;
	int code;
	t.epochs = argc > 2 ? atoll(argv[2]) : 10;
	t.dice = 1;
	t.context = begin(argc, "depends DIR [EPOCHS]", &code);
	if (!t.context)
		return code;
	code = finish(t.context, run(&t, argv[1]));
	free(t.scores);
	free(t.targets);
	free(t.columns);
	sl_loader_destroy(t.loader);
	sl_optimizer_destroy(t.optimizer);
	sl_model_destroy(t.model);
	sl_dataset_destroy(t.data);
	sl_context_destroy(t.context);
	return code;
}
