/* SPDX-License-Identifier: Apache-2.0 */
/* What docs/scale-out.md quotes about data by share and sparse inputs. One process, or `mpirun -n 4 guide_share`. */
#include <sparselayer/sparselayer.h>

#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES = 600, FEATURES = 300, BATCH = 80 };
static const char *const path = "guide_share.svm";

/* Lines of text whose class is whether words of the first half prevail. */
static int write_samples(void) {
	FILE *file = fopen(path, "w");
	if (!file)
		return 0;
	srand(1);
	for (int s = 0; s < SAMPLES; s++) {
		int words[12], first = 0, side = rand() % 2;
		for (int w = 0; w < 12; w++) {
			words[w] = w * (FEATURES / 12) + 1 + rand() % (FEATURES / 12) * ((w < 6) == side || rand() % 4 == 0);
			first += words[w] % (FEATURES / 12) != 1 && w < 6 ? 1 : words[w] % (FEATURES / 12) != 1 ? -1 : 0;
		}
		fprintf(file, "%d", first > 0);
		for (int w = 0; w < 12; w++)
			if (words[w] % (FEATURES / 12) != 1)
				fprintf(file, " %d:1", words[w]);
		fprintf(file, "\n");
	}
	return fclose(file) == 0;
}

static sl_status make_model(sl_context *context, int64_t features, int64_t classes, sl_model **model,
							sl_optimizer **optimizer) {
	SL_TRY(sl_model_create(model, context));
	for (int i = 0; i < 2; i++) {
		sl_layer *layer = NULL;
		SL_TRY(sl_linear_create(
			&layer, context,
			&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = i ? 32 : features, .out_features = i ? classes : 32,
								 .density = 1, .dense = true, .bias = true, .sparse_inputs = i == 0,
								 .activation = i ? SL_IDENTITY : SL_RELU, .stream = (uint64_t)i + 1}));
		sl_status status = sl_model_add(context, *model, layer);
		if (status != SL_OK) {
			sl_layer_destroy(layer);
			return status;
		}
	}
	SL_TRY(sl_optimizer_create(
		optimizer, context,
		&(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 0.01, .lazy = true}));
	return sl_model_add_to_optimizer(context, *model, *optimizer);
}

/* The loop is the library's. */
static sl_status fit(sl_context *context, sl_parallel *parallel, sl_model *model, sl_optimizer *optimizer,
					 const sl_dataset_content *content, const sl_share *share) {
	sl_sparse rows = sl_sparse_from_csr(content->inputs);
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .sparse_inputs = &rows, .labels = content->labels, .share = share};
	return sl_model_fit(context, model, optimizer, &samples,
						&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = 5, .batch = BATCH, .parallel = parallel});
}

/* The loop is the program's: the loader hands out this rank's rows of each global batch. */
static sl_status own_loop(sl_context *context, sl_parallel *parallel, const sl_dataset_content *content,
						  const sl_share *share, sl_loss_result *result) {
	sl_loader *loader = NULL;
	sl_sparse rows = sl_sparse_from_csr(content->inputs);
	sl_batch batch = {.struct_size = sizeof batch};
	SL_TRY(sl_loader_create(
		&loader, context, &rows,
		&(sl_loader_options){SL_LOADER_DEFAULTS, .batch = BATCH, .labels = content->labels, .share = share}));
	sl_status status = sl_loader_next(context, loader, &batch);
	while (status == SL_OK && batch.total) {
		status = sl_parallel_train_batch_sparse(context, parallel, SL_SOFTMAX_CROSS_ENTROPY, batch.total, &batch.inputs,
												&(sl_targets){.labels = batch.labels}, SL_OVERWRITE, result);
		if (status == SL_OK)
			status = sl_parallel_step(context, parallel, NULL);
		if (status == SL_OK)
			status = sl_loader_next(context, loader, &batch);
	}
	sl_loader_destroy(loader);
	return status;
}

static sl_status train(sl_context *context, sl_comm *comm, const sl_dataset *dataset, const sl_share *share) {
	sl_model *model = NULL;
	sl_optimizer *optimizer = NULL;
	sl_parallel *parallel = NULL;
	sl_loss_result result = {0};
	sl_dataset_content content = {.struct_size = sizeof content};
	SL_TRY(sl_dataset_get(context, dataset, &content));
	sl_status status = make_model(context, content.features, content.classes, &model, &optimizer);
	if (status == SL_OK)
		status = sl_parallel_create(&parallel, context, comm, model, optimizer,
									&(sl_parallel_options){SL_PARALLEL_DEFAULTS, .shards = 8});
	if (status == SL_OK)
		status = fit(context, parallel, model, optimizer, &content, share);
	for (int epoch = 0; epoch < 20 && status == SL_OK; epoch++)
		status = own_loop(context, parallel, &content, share, &result);
	if (status == SL_OK && sl_comm_rank(comm) == 0)
		printf("%s: %lld of %lld rows, loss of the last batch %.3f\n", sl_comm_describe(comm), (long long)share->count,
			   (long long)share->total, result.loss);
	sl_parallel_destroy(parallel);
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	return status == SL_OK && !(result.loss < 0.4) ? SL_ERR_INTERNAL : status;
}

static sl_status run(sl_context *context, sl_comm *comm) {
	if (sl_comm_rank(comm) == 0 && !write_samples())
		return SL_ERR_IO;
	SL_TRY(sl_comm_barrier(context, comm));
	sl_dataset *dataset = NULL;
	sl_share share = {SL_SHARE_DEFAULTS, .comm = comm, .parts = 8};
	SL_TRY(sl_dataset_read_svmlight_share(&dataset, context, path, NULL, NULL, &share));
	sl_status status = train(context, comm, dataset, &share);
	sl_dataset_destroy(dataset);
	return status;
}

int main(void) {
	sl_context *context = NULL;
	sl_comm *comm = NULL;
	sl_status status = sl_context_create(
		&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = 1, .seed = 1});
	if (status == SL_OK)
		status = sl_comm_create(&comm, context, NULL);
	if (status == SL_OK)
		status = run(context, comm);
	if (status != SL_OK) {
		fprintf(stderr, "%s: %s\n", sl_status_text(status), context ? sl_context_message(context) : "");
		sl_comm_abort(comm, 1); /* the other ranks may be waiting for this one */
	}
	sl_comm_destroy(comm);
	sl_context_destroy(context);
	return 0;
}
