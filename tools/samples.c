/* SPDX-License-Identifier: Apache-2.0 */
#include "samples.h"

#include <stdlib.h>
#include <strings.h>

bool is_svmlight(const char *path) {
	static const char *const endings[] = {".svm", ".svmlight", ".libsvm"};
	size_t length = path ? strlen(path) : 0;
	for (int i = 0; i < 3; i++) {
		size_t n = strlen(endings[i]);
		if (length > n && !strcasecmp(path + length - n, endings[i]))
			return true;
	}
	return false;
}

static sl_status read_pictures(sample_files *f, sl_context *context) {
	SL_TRY(sl_dataset_read_mnist(&f->train_set, context, f->data, true));
	SL_TRY(sl_dataset_read_mnist(&f->test_set, context, f->data, false));
	SL_TRY(sl_dataset_samples(context, f->train_set, &f->train_samples, &f->classes));
	SL_TRY(sl_dataset_samples(context, f->test_set, &f->test_samples, NULL));
	f->count = f->train_samples.inputs.rows;
	f->features = f->train_samples.inputs.cols;
	return SL_OK;
}

/* A part of each class is held out, drawn from the seed, so that a resumed run holds out the same. */
static sl_status hold_out(sample_files *f, sl_context *context, const sl_dataset_content *all) {
	size_t count = (size_t)all->samples;
	sl_sparse inputs = sl_sparse_from_csr(all->inputs);
	f->rows = malloc(count * sizeof *f->rows + 1);
	f->begins = malloc(count * sizeof *f->begins + 1);
	f->ends = malloc(count * sizeof *f->ends + 1);
	f->labels = malloc(count * sizeof *f->labels + 1);
	if (!f->rows || !f->begins || !f->ends || !f->labels)
		return SL_ERR_MEMORY;
	SL_TRY(sl_split(context, all->samples, all->labels, f->held_out, 0, f->rows, &f->count));
	int64_t rest = all->samples - f->count;
	SL_TRY(sl_sparse_select(context, &inputs, f->rows, f->count, f->begins, f->ends, &f->train_rows));
	SL_TRY(sl_sparse_select(context, &inputs, f->rows + f->count, rest, f->begins + f->count, f->ends + f->count,
							&f->test_rows));
	for (size_t i = 0; i < count; i++)
		f->labels[i] = all->labels[f->rows[i]];
	f->train_samples.labels = f->labels;
	f->test_samples.labels = f->labels + f->count;
	return SL_OK;
}

static sl_status read_text(sample_files *f, sl_context *context, int64_t features) {
	sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .features = features};
	sl_dataset_content all = {.struct_size = sizeof all}, test = all;
	SL_TRY(sl_dataset_read_svmlight(&f->train_set, context, f->data, &o, NULL));
	SL_TRY(sl_dataset_get(context, f->train_set, &all));
	f->features = all.features;
	f->classes = (int)all.classes;
	f->train_samples.sparse_inputs = &f->train_rows;
	f->test_samples.sparse_inputs = &f->test_rows;
	if (!f->test)
		return hold_out(f, context, &all);
	o.like = f->train_set;
	SL_TRY(sl_dataset_read_svmlight(&f->test_set, context, f->test, &o, NULL));
	SL_TRY(sl_dataset_get(context, f->test_set, &test));
	f->count = all.samples;
	f->train_rows = sl_sparse_from_csr(all.inputs);
	f->test_rows = sl_sparse_from_csr(test.inputs);
	f->train_samples.labels = all.labels;
	f->test_samples.labels = test.labels;
	return SL_OK;
}

sl_status read_samples(sample_files *f, sl_context *context, int64_t features) {
	f->train_samples = f->test_samples = (sl_samples){SL_SAMPLES_DEFAULTS};
	f->sparse = is_svmlight(f->data);
	return f->sparse ? read_text(f, context, features) : read_pictures(f, context);
}

void free_samples(sample_files *f) {
	sl_dataset_destroy(f->train_set);
	sl_dataset_destroy(f->test_set);
	free(f->rows);
	free(f->begins);
	free(f->ends);
	free(f->labels);
}
