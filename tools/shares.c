/* SPDX-License-Identifier: Apache-2.0 */
/* Samples of which each rank reads a share. */
#include <math.h>
#include <stdlib.h>

#include "samples.h"

/* Figures of all ranks, and what a fit is told of them. */
static sl_status end_shares(sample_files *f) {
	f->part[TRAIN_PART].share = &f->share[TRAIN_PART];
	f->part[TEST_PART].share = &f->share[TEST_PART];
	f->count = f->share[TRAIN_PART].total;
	return SL_OK;
}

static void begin_shares(sample_files *f) {
	for (int p = 0; p < PARTS; p++)
		f->share[p] = (sl_share){SL_SHARE_DEFAULTS, .comm = f->comm, .parts = f->parts};
}

sl_status read_shared_pictures(sample_files *f, sl_context *context) {
	int classes;
	begin_shares(f);
	SL_TRY(sl_dataset_read_mnist_share(&f->train_set, context, f->data, true, &f->share[TRAIN_PART]));
	SL_TRY(sl_dataset_read_mnist_share(&f->test_set, context, f->data, false, &f->share[TEST_PART]));
	SL_TRY(sl_dataset_samples(context, f->train_set, &f->part[TRAIN_PART], &classes));
	SL_TRY(sl_dataset_samples(context, f->test_set, &f->part[TEST_PART], NULL));
	f->features = f->part[TRAIN_PART].inputs.cols;
	f->classes = classes;
	return end_shares(f);
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
static sl_status choose_rows(sample_files *f, sl_context *context, const sl_dataset_content *all, int64_t *rows) {
	const sl_share whole = f->share[TRAIN_PART];
	int64_t *part_rows = malloc((size_t)all->samples * sizeof *part_rows + 1), kept = 0, held;
	sl_status status = part_rows ? SL_OK : SL_ERR_MEMORY;
	divide_share(&whole, f->held_out, &f->share[TRAIN_PART], &f->share[TEST_PART]);
	held = f->share[TRAIN_PART].count;
	for (int64_t part = 0; part < whole.parts && status == SL_OK; part++) {
		int64_t first, count, n = 0;
		sl_comm_share(whole.total, (int)part, (int)whole.parts, &first, &count);
		int64_t at = first - whole.first;
		if (at < 0 || at >= whole.count)
			continue;
		status = sl_split(context, count, all->labels + at, f->held_out, (uint64_t)part, part_rows, &n);
		for (int64_t i = 0; i < count && status == SL_OK; i++)
			rows[i < n ? kept++ : held++] = at + part_rows[i];
	}
	free(part_rows);
	return status;
}

/* A part of each class is held out, drawn from the seed, so that a resumed run holds out the same. */
static sl_status hold_out(sample_files *f, sl_context *context, const sl_dataset_content *all) {
	size_t count = (size_t)all->samples;
	sl_sparse inputs = sl_sparse_from_csr(all->inputs);
	int64_t *rows = hold_memory(f, count * sizeof *rows), *begins = hold_memory(f, count * sizeof *begins);
	int64_t *ends = hold_memory(f, count * sizeof *ends);
	int32_t *labels = hold_memory(f, count * sizeof *labels);
	if (!rows || !begins || !ends || !labels)
		return SL_ERR_MEMORY;
	SL_TRY(choose_rows(f, context, all, rows));
	int64_t kept = f->share[TRAIN_PART].count, rest = all->samples - kept;
	SL_TRY(sl_sparse_select(context, &inputs, rows, kept, begins, ends, &f->rows[TRAIN_PART]));
	SL_TRY(sl_sparse_select(context, &inputs, rows + kept, rest, begins + kept, ends + kept, &f->rows[TEST_PART]));
	for (size_t i = 0; i < count; i++)
		labels[i] = all->labels[rows[i]];
	f->part[TRAIN_PART].labels = labels;
	f->part[TEST_PART].labels = labels + kept;
	return SL_OK;
}

sl_status read_shared_text(sample_files *f, sl_context *context, int64_t features) {
	sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .features = features};
	sl_dataset_content all = {.struct_size = sizeof all}, test = all;
	begin_shares(f);
	SL_TRY(sl_dataset_read_svmlight_share(&f->train_set, context, f->data, &o, NULL, &f->share[TRAIN_PART]));
	SL_TRY(sl_dataset_get(context, f->train_set, &all));
	f->features = all.features;
	f->classes = all.classes;
	f->part[TRAIN_PART].sparse_inputs = &f->rows[TRAIN_PART];
	f->part[TEST_PART].sparse_inputs = &f->rows[TEST_PART];
	if (!f->test) {
		SL_TRY(hold_out(f, context, &all));
		return end_shares(f);
	}
	o.like = f->train_set;
	SL_TRY(sl_dataset_read_svmlight_share(&f->test_set, context, f->test, &o, NULL, &f->share[TEST_PART]));
	SL_TRY(sl_dataset_get(context, f->test_set, &test));
	f->rows[TRAIN_PART] = sl_sparse_from_csr(all.inputs);
	f->rows[TEST_PART] = sl_sparse_from_csr(test.inputs);
	f->part[TRAIN_PART].labels = all.labels;
	f->part[TEST_PART].labels = test.labels;
	return end_shares(f);
}
