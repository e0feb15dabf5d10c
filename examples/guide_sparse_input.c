/* SPDX-License-Identifier: Apache-2.0 */
/* What docs/guide.md quotes about sparse inputs, sparse targets and sparse products. Run by the tests. */
#include <sparselayer/sparselayer.h>

#include <stdio.h>
#include <stdlib.h>

/* Bags of words: a text of class c has mostly words whose number ends in c. */
enum { TEXTS = 600, WORDS = 50000, EACH = 40, CLASSES = 10, HIDDEN = 32 };
static int64_t row_offsets[TEXTS + 1], class_offsets[TEXTS + 1];
static int32_t words[TEXTS * EACH], labels[TEXTS], classes[2 * TEXTS];

static void make_texts(void) {
	srand(1);
	for (int t = 0; t < TEXTS; t++) {
		labels[t] = t % CLASSES;
		classes[2 * t] = labels[t] / 2; /* and for several labels a text: its class halved, and whether it is odd */
		classes[2 * t + 1] = CLASSES / 2 + labels[t] % 2;
		class_offsets[t + 1] = 2 * (t + 1);
		for (int i = 0; i < EACH; i++) {
			int word = rand() % (WORDS / CLASSES) * CLASSES;
			words[t * EACH + i] = word + (i % 2 ? rand() % CLASSES : labels[t]);
		}
		row_offsets[t + 1] = (t + 1) * EACH;
	}
}

static sl_status add(sl_context *context, sl_model *model, const sl_linear_options *options) {
	sl_layer *layer = NULL;
	SL_TRY(sl_linear_create(&layer, context, options));
	sl_status status = sl_model_add(context, model, layer);
	if (status != SL_OK)
		sl_layer_destroy(layer);
	return status;
}

static sl_status make_model(sl_model **model, sl_optimizer **optimizer, sl_context *context, int outputs) {
	SL_TRY(sl_model_create(model, context));
	/* The first layer alone can take sparse inputs. */
	SL_TRY(add(context, *model,
			   &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = WORDS, .out_features = HIDDEN, .dense = true,
									.sparse_inputs = true, .init = SL_INIT_UNIFORM, .bias = true, .activation = SL_RELU,
									.stream = 1}));
	SL_TRY(add(context, *model,
			   &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = HIDDEN, .out_features = outputs, .dense = true,
									.bias = true, .stream = 2}));
	SL_TRY(sl_optimizer_create(
		optimizer, context,
		&(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 0.01, .lazy = true}));
	return sl_model_add_to_optimizer(context, *model, *optimizer);
}

static sl_status classify(sl_context *context, sl_model **model, sl_optimizer **optimizer) {
	SL_TRY(make_model(model, optimizer, context, CLASSES));
	/* Rows are texts; without values every entry is 1, and a word that comes twice counts twice. */
	sl_sparse texts = {.format = SL_SPARSE_CSR,
					   .rows = TEXTS,
					   .cols = WORDS,
					   .nnz = TEXTS * EACH,
					   .offsets = row_offsets,
					   .offset_dtype = SL_I64,
					   .col_indices = words,
					   .index_dtype = SL_I32};
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .sparse_inputs = &texts, .labels = labels};
	SL_TRY(sl_model_fit(context, *model, *optimizer, &samples,
						&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = 5, .batch = 50}));
	double loss, accuracy;
	SL_TRY(sl_model_evaluate(context, *model, SL_SOFTMAX_CROSS_ENTROPY, &samples, 0, &loss, &accuracy));
	printf("loss %.4f, accuracy %.1f%%\n", loss, 100 * accuracy);

	/* The same with a loop of one's own: batches are views of rows that lie where they are. */
	for (int64_t first = 0; first + 50 <= TEXTS; first += 50) {
		sl_sparse batch = sl_sparse_slice(texts, first, 50);
		sl_loss_result result;
		SL_TRY(sl_model_train_batch_sparse(context, *model, SL_SOFTMAX_CROSS_ENTROPY, &batch,
										   &(sl_targets){.labels = labels + first}, SL_OVERWRITE, &result));
		SL_TRY(sl_optimizer_step(context, *optimizer));
	}
	return accuracy > 0.9 ? SL_OK : SL_ERR_INTERNAL;
}

static sl_status several_labels(sl_context *context, sl_model **model, sl_optimizer **optimizer) {
	SL_TRY(make_model(model, optimizer, context, CLASSES / 2 + 2));
	sl_sparse texts = {.format = SL_SPARSE_CSR,
					   .rows = TEXTS,
					   .cols = WORDS,
					   .nnz = TEXTS * EACH,
					   .offsets = row_offsets,
					   .offset_dtype = SL_I64,
					   .col_indices = words,
					   .index_dtype = SL_I32};
	/* Several labels a text: what is not stored is 0. */
	sl_sparse tags = {.format = SL_SPARSE_CSR,
					  .rows = TEXTS,
					  .cols = CLASSES / 2 + 2,
					  .nnz = 2 * TEXTS,
					  .offsets = class_offsets,
					  .offset_dtype = SL_I64,
					  .col_indices = classes,
					  .index_dtype = SL_I32};
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .sparse_inputs = &texts, .sparse_targets = &tags};
	return sl_model_fit(context, *model, *optimizer, &samples,
						&(sl_fit_options){SL_FIT_DEFAULTS, .loss = SL_BINARY_CROSS_ENTROPY, .epochs = 2, .batch = 50});
}

static sl_status products(sl_context *context, sl_csr **A, sl_csr **B, sl_csr **C, sl_csr **dA) {
	sl_pattern *patterns[2] = {NULL, NULL};
	sl_status status = sl_pattern_random(&patterns[0], context, 200, 300, 0.02, 5);
	if (status == SL_OK)
		status = sl_pattern_random(&patterns[1], context, 300, 100, 0.05, 6);
	if (status == SL_OK)
		status = sl_csr_create_pattern(A, context, patterns[0], SL_F32);
	if (status == SL_OK)
		status = sl_csr_create_pattern(B, context, patterns[1], SL_F32);
	sl_pattern_release(patterns[0]);
	sl_pattern_release(patterns[1]);
	SL_TRY(status);
	SL_TRY(sl_spgemm(C, context, 1, *A, *B));            /* the product and its pattern */
	SL_TRY(sl_spgemm_values(context, 1, *A, *B, 0, *C)); /* other values, the same patterns */
	/* The gradient of A's values, from that of C: here C's own values stand in for it. */
	SL_TRY(sl_csr_create_pattern(dA, context, sl_csr_pattern(*A), SL_F32));
	SL_TRY(sl_spgemm_backward(context, 1, *A, *B, *C, 0, *dA, NULL));
	return SL_OK;
}

int main(void) {
	sl_context *context = NULL;
	sl_model *models[2] = {NULL, NULL};
	sl_optimizer *optimizers[2] = {NULL, NULL};
	sl_csr *matrices[4] = {NULL, NULL, NULL, NULL};
	make_texts();
	if (sl_context_create(&context, NULL) != SL_OK)
		return 1;
	sl_status status = classify(context, &models[0], &optimizers[0]);
	if (status == SL_OK)
		status = several_labels(context, &models[1], &optimizers[1]);
	if (status == SL_OK)
		status = products(context, &matrices[0], &matrices[1], &matrices[2], &matrices[3]);
	if (status != SL_OK)
		fprintf(stderr, "%s: %s\n", sl_status_name(status), sl_context_message(context));
	for (int i = 0; i < 4; i++)
		sl_csr_destroy(matrices[i]);
	for (int i = 0; i < 2; i++) {
		sl_optimizer_destroy(optimizers[i]);
		sl_model_destroy(models[i]);
	}
	sl_context_destroy(context);
	return status != SL_OK;
}
