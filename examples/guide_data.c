/* SPDX-License-Identifier: Apache-2.0 */
/* What the guide quotes about data sets, batches and metrics. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <sparselayer/sparselayer.h>

enum { ROWS = 600, WORDS = 200 };

/* Three classes, each with words of its own. */
static sl_status write_samples(const char *path, int seed) {
	FILE *f = fopen(path, "w");
	if (!f)
		return SL_ERR_IO;
	srand((unsigned)seed);
	for (int i = 0; i < ROWS; i++) {
		fprintf(f, "%d", i % 3 + 1);
		for (int word = rand() % 20; word < WORDS; word += 1 + rand() % 20)
			if (word % 3 == i % 3 || rand() % 3 == 0)
				fprintf(f, " %d:1", word + 1);
		fprintf(f, "\n");
	}
	return fclose(f) ? SL_ERR_IO : SL_OK;
}

static sl_status read_files(sl_context *context, const char *train_path, const char *test_path, sl_dataset **train,
							sl_dataset **test, sl_dataset_content *content) {
	SL_TRY(sl_dataset_read_svmlight(train, context, train_path, NULL, NULL));
	/* Features and classes as in the training file. */
	sl_svmlight_options like = {SL_SVMLIGHT_DEFAULTS, .like = *train};
	SL_TRY(sl_dataset_read_svmlight(test, context, test_path, &like, NULL));
	SL_TRY(sl_dataset_get(context, *train, content));
	return SL_OK;
}

static sl_status make(sl_context *context, int64_t features, int64_t classes, sl_model **model,
					  sl_optimizer **optimizer) {
	sl_layer *layer;
	SL_TRY(sl_model_create(model, context));
	SL_TRY(sl_linear_create(&layer, context,
							&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = features, .out_features = classes,
												 .dense = true, .bias = true, .sparse_inputs = true}));
	sl_status status = sl_model_add(context, *model, layer);
	if (status != SL_OK)
		sl_layer_destroy(layer);
	SL_TRY(status);
	SL_TRY(sl_optimizer_create(
		optimizer, context,
		&(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 0.02, .lazy = true}));
	return sl_model_add_to_optimizer(context, *model, *optimizer);
}

/* A tenth of the samples is held out, and training stops when their loss no longer falls. */
static sl_status fit(sl_context *context, const sl_dataset_content *data, sl_model *model, sl_optimizer *optimizer) {
	static int64_t rows[ROWS], begins[ROWS], ends[ROWS];
	static int32_t labels[ROWS];
	int64_t first;
	sl_sparse all = sl_sparse_from_csr(data->inputs), kept, held;
	SL_TRY(sl_split(context, data->samples, data->labels, 0.1, 1, rows, &first));
	SL_TRY(sl_sparse_select(context, &all, rows, first, begins, ends, &kept));
	SL_TRY(sl_sparse_select(context, &all, rows + first, data->samples - first, begins + first, ends + first, &held));
	for (int64_t i = 0; i < data->samples; i++)
		labels[i] = data->labels[rows[i]];
	sl_samples training = {SL_SAMPLES_DEFAULTS, .sparse_inputs = &kept, .labels = labels};
	sl_samples validation = {SL_SAMPLES_DEFAULTS, .sparse_inputs = &held, .labels = labels + first};
	return sl_model_fit(
		context, model, optimizer, &training,
		&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = 50, .batch = 32, .validation = &validation, .patience = 3});
}

/* An own loop: no entry is copied, and a thread reads two batches ahead. */
static sl_status loop(sl_context *context, const sl_dataset_content *data, sl_model *model, sl_optimizer *optimizer) {
	sl_loader *loader;
	sl_sparse inputs = sl_sparse_from_csr(data->inputs);
	sl_batch batch = {.struct_size = sizeof batch};
	sl_loss_result result;
	SL_TRY(
		sl_loader_create(&loader, context, &inputs,
						 &(sl_loader_options){SL_LOADER_DEFAULTS, .batch = 32, .labels = data->labels, .prefetch = 2}));
	sl_status status = sl_loader_next(context, loader, &batch);
	for (; status == SL_OK && batch.count > 0; status = sl_loader_next(context, loader, &batch)) {
		status = sl_model_train_batch_sparse(context, model, SL_SOFTMAX_CROSS_ENTROPY, &batch.inputs,
											 &(sl_targets){.labels = batch.labels}, SL_OVERWRITE, &result);
		if (status == SL_OK)
			status = sl_optimizer_step(context, optimizer);
		if (status != SL_OK)
			break;
	}
	sl_loader_destroy(loader);
	return status;
}

static sl_status judge(sl_context *context, const sl_dataset *test, sl_model *model) {
	static float scores[ROWS * 3];
	sl_dataset_content data = {.struct_size = sizeof data};
	SL_TRY(sl_dataset_get(context, test, &data));
	sl_sparse inputs = sl_sparse_from_csr(data.inputs);
	sl_dense outputs = sl_dense_view(scores, SL_F32, data.samples, data.classes);
	SL_TRY(sl_model_predict_sparse(context, model, &inputs, &outputs, 0));
	sl_class_metrics metrics = {SL_CLASS_METRICS_DEFAULTS};
	SL_TRY(sl_metrics_classes(context, &outputs, true, data.labels, &metrics));
	printf("accuracy %.3f, log-loss %.3f of %lld samples\n", metrics.accuracy, metrics.log_loss,
		   (long long)metrics.rows);
	return metrics.accuracy > 0.8 ? SL_OK : SL_ERR_INTERNAL;
}

int main(void) {
	sl_context *context = NULL;
	sl_dataset *train = NULL, *test = NULL;
	sl_model *model = NULL;
	sl_optimizer *optimizer = NULL;
	sl_dataset_content data = {.struct_size = sizeof data};
	char folder[] = "/tmp/sparselayer-guide-XXXXXX", train_path[64], test_path[64];
	if (!mkdtemp(folder))
		return 1;
	snprintf(train_path, sizeof train_path, "%s/train.svm", folder);
	snprintf(test_path, sizeof test_path, "%s/test.svm", folder);
	sl_status status =
		sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .seed = 1});
	if (status == SL_OK)
		status = write_samples(train_path, 1);
	if (status == SL_OK)
		status = write_samples(test_path, 2);
	if (status == SL_OK)
		status = read_files(context, train_path, test_path, &train, &test, &data);
	if (status == SL_OK)
		status = make(context, data.features, data.classes, &model, &optimizer);
	if (status == SL_OK)
		status = fit(context, &data, model, optimizer);
	if (status == SL_OK)
		status = loop(context, &data, model, optimizer);
	if (status == SL_OK)
		status = judge(context, test, model);
	if (status != SL_OK)
		fprintf(stderr, "%s: %s\n", sl_status_text(status), sl_context_message(context));
	unlink(train_path);
	unlink(test_path);
	rmdir(folder);
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	sl_dataset_destroy(train);
	sl_dataset_destroy(test);
	sl_context_destroy(context);
	return status != SL_OK;
}
