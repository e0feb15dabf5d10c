/* SPDX-License-Identifier: Apache-2.0 */
#include "samples.h"

#include <math.h>
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
	SL_TRY(f->comm ? sl_dataset_read_mnist_share(&f->train_set, context, f->data, true, &f->train_share)
				   : sl_dataset_read_mnist(&f->train_set, context, f->data, true));
	SL_TRY(f->comm ? sl_dataset_read_mnist_share(&f->test_set, context, f->data, false, &f->test_share)
				   : sl_dataset_read_mnist(&f->test_set, context, f->data, false));
	SL_TRY(sl_dataset_samples(context, f->train_set, &f->train_samples, &f->classes));
	SL_TRY(sl_dataset_samples(context, f->test_set, &f->test_samples, NULL));
	f->count = f->train_samples.inputs.rows;
	f->features = f->train_samples.inputs.cols;
	return SL_OK;
}

/* Shares of what is kept and of what is held out, each part by itself, so that it does not matter who has it. Parts
 * then still differ by one sample at most, the larger ones first. */
static void divide_share(const sl_share *all, double fraction, sl_share *kept, sl_share *held) {
	*kept = *held = *all;
	kept->total = kept->first = kept->count = held->total = held->first = held->count = 0;
	for (int64_t part = 0; part < all->parts; part++) {
		int64_t first, count;
		sl_comm_share(all->total, (int)part, (int)all->parts, &first, &count);
		int64_t n = llround(fraction * (double)count), own = first >= all->first && first < all->first + all->count;
		kept->first += first < all->first ? count - n : 0;
		held->first += first < all->first ? n : 0;
		kept->count += own * (count - n);
		held->count += own * n;
		kept->total += count - n;
		held->total += n;
	}
}

/* Rows to keep, then rows to hold out, of which there are the rest. */
static sl_status choose_rows(sample_files *f, sl_context *context, const sl_dataset_content *all) {
	if (!f->comm)
		return sl_split(context, all->samples, all->labels, f->held_out, 0, f->rows, &f->count);
	const sl_share whole = f->train_share;
	int64_t *part_rows = malloc((size_t)all->samples * sizeof *part_rows + 1), kept = 0, held;
	sl_status status = part_rows ? SL_OK : SL_ERR_MEMORY;
	divide_share(&whole, f->held_out, &f->train_share, &f->test_share);
	f->count = held = f->train_share.count;
	for (int64_t part = 0; part < whole.parts && status == SL_OK; part++) {
		int64_t first, count, n = 0;
		sl_comm_share(whole.total, (int)part, (int)whole.parts, &first, &count);
		int64_t at = first - whole.first;
		if (at < 0 || at >= whole.count)
			continue;
		status = sl_split(context, count, all->labels + at, f->held_out, (uint64_t)part, part_rows, &n);
		for (int64_t i = 0; i < count && status == SL_OK; i++)
			f->rows[i < n ? kept++ : held++] = at + part_rows[i];
	}
	free(part_rows);
	return status;
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
	SL_TRY(choose_rows(f, context, all));
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

static sl_status read_svmlight(const sample_files *f, sl_dataset **set, sl_context *context, const char *path,
							   const sl_svmlight_options *o, sl_share *share) {
	return f->comm ? sl_dataset_read_svmlight_share(set, context, path, o, NULL, share)
				   : sl_dataset_read_svmlight(set, context, path, o, NULL);
}

static sl_status read_text(sample_files *f, sl_context *context, int64_t features) {
	sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .features = features};
	sl_dataset_content all = {.struct_size = sizeof all}, test = all;
	SL_TRY(read_svmlight(f, &f->train_set, context, f->data, &o, &f->train_share));
	SL_TRY(sl_dataset_get(context, f->train_set, &all));
	f->features = all.features;
	f->classes = (int)all.classes;
	f->train_samples.sparse_inputs = &f->train_rows;
	f->test_samples.sparse_inputs = &f->test_rows;
	if (!f->test)
		return hold_out(f, context, &all);
	o.like = f->train_set;
	SL_TRY(read_svmlight(f, &f->test_set, context, f->test, &o, &f->test_share));
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
	f->train_share = f->test_share = (sl_share){SL_SHARE_DEFAULTS, .comm = f->comm, .parts = f->parts};
	f->sparse = is_svmlight(f->data);
	SL_TRY(f->sparse ? read_text(f, context, features) : read_pictures(f, context));
	if (f->comm) {
		f->train_samples.share = &f->train_share;
		f->test_samples.share = &f->test_share;
		f->count = f->train_share.total;
	}
	return SL_OK;
}

void free_samples(sample_files *f) {
	sl_dataset_destroy(f->train_set);
	sl_dataset_destroy(f->test_set);
	free(f->rows);
	free(f->begins);
	free(f->ends);
	free(f->labels);
}
