/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which debtags a Debian package has, several of about 500, from the words of its name and description: a network
 * of sparse inputs, beside the most frequent tags and the tags of the nearest packages.
 *
 *   tags DIR [EPOCHS]     DIR: tags.train.svm and tags.test.svm of packages.py
 */
#include <stdio.h>
#include <stdlib.h>

#include "common.h"

enum { HIDDEN = 256, BATCH = 128, K = 10 };

typedef struct task {
	sl_context *context;
	sl_dataset *train_set, *test_set;
	sl_dataset_content train, test;
	sl_sparse words, relevant; /* of the test packages: what they are given by, what is to be found */
	sl_model *model;
	sl_optimizer *optimizer;
	sl_loader *loader;
	int64_t epochs;
	float *scores, *targets; /* [test samples, tags]; [batch, tags] */
} task;

static sl_status read_files(task *t, const char *folder) {
	sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .labels = SL_LABELS_SETS};
	SL_TRY(sl_dataset_read_svmlight(&t->train_set, t->context, path_of(folder, "tags.train.svm"), &o, NULL));
	o.like = t->train_set;
	SL_TRY(sl_dataset_read_svmlight(&t->test_set, t->context, path_of(folder, "tags.test.svm"), &o, NULL));
	SL_TRY(content_of(t->context, t->train_set, &t->train));
	SL_TRY(content_of(t->context, t->test_set, &t->test));
	t->words = sl_sparse_from_csr(t->test.inputs);
	t->relevant = sl_sparse_from_csr(t->test.targets);
	t->scores = malloc((size_t)(t->test.samples * t->test.classes) * sizeof(float));
	t->targets = malloc((size_t)(BATCH * t->test.classes) * sizeof(float));
	return t->scores && t->targets ? SL_OK : SL_ERR_MEMORY;
}

static sl_status show(task *t, const char *name, const char *result) {
	sl_dense scores = sl_dense_view(t->scores, SL_F32, t->test.samples, t->test.classes);
	sl_rank_metrics five = {SL_RANK_METRICS_DEFAULTS}, ten = five;
	double area;
	SL_TRY(sl_metrics_ranking(t->context, &scores, &t->relevant, NULL, 5, &five));
	SL_TRY(sl_metrics_ranking(t->context, &scores, &t->relevant, NULL, K, &ten));
	SL_TRY(sl_metrics_auc(t->context, &scores, &t->relevant, SL_AVERAGE_MICRO, &area));
	printf("%-24s precision@5 %.4f  recall@10 %.4f  nDCG@10 %.4f  AUC %.4f\n", name, five.precision, ten.recall,
		   ten.ndcg, area);
	printf("RESULT packages.tags.%s.ndcg10 %.4f\n", result, ten.ndcg);
	return SL_OK;
}

static sl_status baselines(task *t) {
	int64_t tags = t->test.classes;
	SL_TRY(popularity(t->context, t->train.targets, tags, t->scores));
	for (int64_t i = 1; i < t->test.samples; i++)
		memcpy(t->scores + i * tags, t->scores, (size_t)tags * sizeof(float));
	SL_TRY(show(t, "most frequent tags", "popularity"));
	neighbours n;
	sl_status status = neighbours_create(&n, t->context, t->train.inputs, t->train.targets, NULL, false);
	const int ks[] = {5, 20, 50};
	for (int i = 0; i < 3 && status == SL_OK; i++) {
		char name[32], result[32];
		snprintf(name, sizeof name, "%d nearest packages", ks[i]);
		snprintf(result, sizeof result, "nearest%d", ks[i]);
		neighbours_scores(&n, &t->words, 0, t->test.samples, ks[i], t->scores);
		status = show(t, name, result);
	}
	neighbours_destroy(&n);
	return status;
}

static sl_status make(task *t) {
	sl_sparse words = sl_sparse_from_csr(t->train.inputs), tags = sl_sparse_from_csr(t->train.targets);
	SL_TRY(sl_model_create(&t->model, t->context));
	SL_TRY(add_layer(t->context, t->model,
					 &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = t->train.features, .out_features = HIDDEN,
										  .dense = true, .bias = true, .activation = SL_RELU, .sparse_inputs = true,
										  .stream = 1}));
	SL_TRY(add_layer(t->context, t->model,
					 &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = HIDDEN, .out_features = t->train.classes,
										  .dense = true, .bias = true, .stream = 2}));
	int64_t steps = (t->train.samples + BATCH - 1) / BATCH * t->epochs;
	SL_TRY(sl_optimizer_create(&t->optimizer, t->context,
							   &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 0.004,
													   .lazy = true,
													   .schedule = {.kind = SL_SCHEDULE_COSINE, .total = steps}}));
	SL_TRY(sl_model_add_to_optimizer(t->context, t->model, t->optimizer));
	return sl_loader_create(&t->loader, t->context, &words,
							&(sl_loader_options){SL_LOADER_DEFAULTS, .batch = BATCH, .targets = &tags, .prefetch = 2});
}

/* Softmax cross-entropy against equal chances ranks a package's tags. */
static sl_status take_step(void *of, const sl_batch *batch, sl_loss_result *result) {
	task *t = of;
	sl_dense targets = chances(&batch->targets, batch->targets.col_indices, batch->targets.cols, t->targets);
	return sl_model_train_batch_sparse(t->context, t->model, SL_SOFTMAX_CROSS_ENTROPY, &batch->inputs,
									   &(sl_targets){.dense = &targets}, SL_OVERWRITE, result);
}

static sl_status run(task *t, const char *folder) {
	SL_TRY(read_files(t, folder));
	printf("%lld packages to train, %lld to test, %lld words, %lld tags\n", (long long)t->train.samples,
		   (long long)t->test.samples, (long long)t->train.features, (long long)t->train.classes);
	SL_TRY(baselines(t));
	SL_TRY(make(t));
	SL_TRY(train(t->context, t->loader, t->optimizer, t->epochs, t->train.samples, take_step, t));
	sl_dense scores = sl_dense_view(t->scores, SL_F32, t->test.samples, t->test.classes);
	SL_TRY(sl_model_predict_sparse(t->context, t->model, &t->words, &scores, 0));
	return show(t, "network", "network");
}

int main(int argc, char **argv) {
	task t = {.epochs = argc > 2 ? atoll(argv[2]) : 5};
	int code;
	t.context = begin(argc, "tags DIR [EPOCHS]", &code);
	if (!t.context)
		return code;
	code = finish(t.context, run(&t, argv[1]));
	free(t.scores);
	free(t.targets);
	sl_loader_destroy(t.loader);
	sl_optimizer_destroy(t.optimizer);
	sl_model_destroy(t.model);
	sl_dataset_destroy(t.train_set);
	sl_dataset_destroy(t.test_set);
	sl_context_destroy(t.context);
	return code;
}
