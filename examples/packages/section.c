/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which section a Debian package is in, from the words of its name and description: a few small networks of
 * sparse inputs, whose probabilities are averaged.
 *
 *   section DIR [NETWORKS [EPOCHS]]     DIR: section.train.svm and section.test.svm of packages.py
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common.h"

enum { HIDDEN = 64, BATCH = 128 };

typedef struct task {
	sl_context *context;
	sl_dataset *train_set, *test_set;
	sl_dataset_content train, test;
	int64_t epochs;
	float *scores;  /* [test samples, classes] of one network */
	double *chance; /* the sum of all networks' probabilities */
} task;

static sl_status read_files(task *t, const char *folder) {
	sl_svmlight_options like = {SL_SVMLIGHT_DEFAULTS};
	SL_TRY(sl_dataset_read_svmlight(&t->train_set, t->context, path_of(folder, "section.train.svm"), NULL, NULL));
	like.like = t->train_set;
	SL_TRY(sl_dataset_read_svmlight(&t->test_set, t->context, path_of(folder, "section.test.svm"), &like, NULL));
	SL_TRY(content_of(t->context, t->train_set, &t->train));
	return content_of(t->context, t->test_set, &t->test);
}

static sl_status make(task *t, int network, sl_model **model, sl_optimizer **optimizer) {
	sl_context *context = t->context;
	SL_TRY(sl_model_create(model, context));
	SL_TRY(add_layer(context, *model,
					 &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = t->train.features, .out_features = HIDDEN,
										  .dense = true, .bias = true, .activation = SL_RELU, .sparse_inputs = true,
										  .stream = 2 * (uint64_t)network}));
	SL_TRY(add_layer(context, *model,
					 &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = HIDDEN, .out_features = t->train.classes,
										  .dense = true, .bias = true, .stream = 2 * (uint64_t)network + 1}));
	int64_t steps = (t->train.samples + BATCH - 1) / BATCH * t->epochs;
	/* Lazy: a step costs what the batch's words cost, not the vocabulary. */
	SL_TRY(sl_optimizer_create(optimizer, context,
							   &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 0.004,
													   .lazy = true,
													   .schedule = {.kind = SL_SCHEDULE_COSINE, .total = steps}}));
	return sl_model_add_to_optimizer(context, *model, *optimizer);
}

static sl_status train_network(task *t, int network, sl_model **model, sl_optimizer **optimizer) {
	sl_sparse words = sl_sparse_from_csr(t->train.inputs);
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .labels = t->train.labels, .sparse_inputs = &words};
	SL_TRY(make(t, network, model, optimizer));
	return sl_model_fit(t->context, *model, *optimizer, &samples,
						&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = t->epochs, .batch = BATCH});
}

/* Add this network's probabilities of the test samples. */
static sl_status predict(task *t, sl_model *model) {
	sl_sparse words = sl_sparse_from_csr(t->test.inputs);
	int64_t classes = t->test.classes;
	sl_dense scores = sl_dense_view(t->scores, SL_F32, t->test.samples, classes);
	SL_TRY(sl_model_predict_sparse(t->context, model, &words, &scores, 0));
	for (int64_t i = 0; i < t->test.samples; i++) {
		double sum = 0, largest = -INFINITY;
		for (int64_t c = 0; c < classes; c++)
			largest = fmax(largest, (double)t->scores[i * classes + c]);
		for (int64_t c = 0; c < classes; c++)
			sum += exp((double)t->scores[i * classes + c] - largest);
		for (int64_t c = 0; c < classes; c++)
			t->chance[i * classes + c] += exp((double)t->scores[i * classes + c] - largest) / sum;
	}
	return SL_OK;
}

static sl_status run(task *t, const char *folder, int networks) {
	double began = now();
	SL_TRY(read_files(t, folder));
	printf("%lld packages to train, %lld to test, %lld words, %lld sections, read in %.2f s\n",
		   (long long)t->train.samples, (long long)t->test.samples, (long long)t->train.features,
		   (long long)t->train.classes, now() - began);
	size_t count = (size_t)(t->test.samples * t->test.classes);
	t->scores = malloc(count * sizeof *t->scores);
	t->chance = calloc(count, sizeof *t->chance);
	if (!t->scores || !t->chance)
		return SL_ERR_MEMORY;
	began = now();
	sl_class_metrics metrics = {SL_CLASS_METRICS_DEFAULTS};
	for (int network = 0; network < networks; network++) {
		sl_model *model = NULL;
		sl_optimizer *optimizer = NULL;
		sl_status status = train_network(t, network, &model, &optimizer);
		if (status == SL_OK)
			status = predict(t, model);
		sl_optimizer_destroy(optimizer);
		sl_model_destroy(model);
		SL_TRY(status);
		sl_dense chance = sl_dense_view(t->chance, SL_F64, t->test.samples, t->test.classes);
		metrics = (sl_class_metrics){SL_CLASS_METRICS_DEFAULTS};
		SL_TRY(sl_metrics_classes(t->context, &chance, false, t->test.labels, &metrics));
		printf("%d network%s: accuracy %.2f%%, log-loss %.4f, after %.1f s\n", network + 1, network ? "s" : "",
			   100 * metrics.accuracy, metrics.log_loss, now() - began);
	}
	printf("RESULT packages.section.accuracy %.4f\nRESULT packages.section.seconds %.2f\n", metrics.accuracy,
		   now() - began);
	return SL_OK;
}

int main(int argc, char **argv) {
	task t = {.epochs = argc > 3 ? atoll(argv[3]) : 4};
	int code;
	t.context = begin(argc, "section DIR [NETWORKS [EPOCHS]]", &code);
	if (!t.context)
		return code;
	code = finish(t.context, run(&t, argv[1], argc > 2 ? atoi(argv[2]) : 3));
	free(t.scores);
	free(t.chance);
	sl_dataset_destroy(t.train_set);
	sl_dataset_destroy(t.test_set);
	sl_context_destroy(t.context);
	return code;
}
