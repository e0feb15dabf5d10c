/* SPDX-License-Identifier: Apache-2.0 */
#include "samples.h"

#include <stdlib.h>
#include <strings.h>

/* Streams of draws, so that one division does not follow from the other. */
enum { TEST_STREAM = 0, VALIDATION_STREAM = 1 };

sample_form form_of(const char *path) {
	static const struct {
		const char *ending;
		sample_form form;
	} endings[] = {{".svm", TEXT},     {".svmlight", TEXT}, {".libsvm", TEXT},
				   {".data", RATINGS}, {".dat", RATINGS},   {".csv", RATINGS}};
	size_t length = path ? strlen(path) : 0;
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
		size_t n = strlen(endings[i].ending);
		if (length > n && !strcasecmp(path + length - n, endings[i].ending))
			return endings[i].form;
	}
	return PICTURES;
}

void *hold_memory(sample_files *f, size_t bytes) {
	void *memory = f->held < (int)(sizeof f->memory / sizeof *f->memory) ? malloc(bytes + 1) : NULL;
	if (memory)
		f->memory[f->held++] = memory;
	return memory;
}

/* The numbers of samples: those to train with, those to watch, those to test with. */
typedef struct division {
	int64_t *rows, begin[PARTS + 1];
} division;

/* A part of each class is set aside, drawn from the seed, so that a resumed run sets aside the same. */
static sl_status set_aside(sl_context *context, const division *d, const int32_t *labels, double share, uint64_t stream,
						   int64_t count, int64_t *kept) {
	size_t n = (size_t)count;
	int64_t *chosen = malloc(n * sizeof *chosen + 1), *old = malloc(n * sizeof *old + 1);
	int32_t *own = calloc(n + 1, sizeof *own);
	sl_status status = chosen && old && own ? SL_OK : SL_ERR_MEMORY;
	for (int64_t i = 0; status == SL_OK && i < count; i++) {
		old[i] = d->rows[i];
		own[i] = labels ? labels[d->rows[i]] : 0;
	}
	if (status == SL_OK)
		status = sl_split(context, count, labels ? own : NULL, share, stream, chosen, kept);
	for (int64_t i = 0; status == SL_OK && i < count; i++)
		d->rows[i] = old[chosen[i]];
	free(chosen);
	free(old);
	free(own);
	return status;
}

/* `test`: a part of these samples is to test with. */
static sl_status divide(sample_files *f, sl_context *context, int64_t count, const int32_t *labels, bool test,
						division *d) {
	d->rows = hold_memory(f, (size_t)count * sizeof *d->rows);
	if (!d->rows)
		return SL_ERR_MEMORY;
	for (int64_t i = 0; i < count; i++)
		d->rows[i] = i;
	d->begin[0] = 0;
	d->begin[1] = d->begin[2] = d->begin[3] = count;
	if (test)
		SL_TRY(set_aside(context, d, labels, f->held_out, TEST_STREAM, count, &d->begin[2]));
	d->begin[1] = d->begin[2];
	if (f->validation > 0)
		SL_TRY(set_aside(context, d, labels, f->validation, VALIDATION_STREAM, d->begin[2], &d->begin[1]));
	return SL_OK;
}

/* Pictures lie as they are to be read: parts of them are copied, and the whole is given back. */
static sl_status copy_pictures(sample_files *f, sl_context *context) {
	sl_dense all = f->part[TRAIN_PART].inputs;
	const int32_t *labels = f->part[TRAIN_PART].labels;
	division d;
	SL_TRY(divide(f, context, all.rows, labels, false, &d));
	float *pixels = hold_memory(f, (size_t)(all.rows * all.cols) * sizeof *pixels);
	int32_t *own = hold_memory(f, (size_t)all.rows * sizeof *own);
	if (!pixels || !own)
		return SL_ERR_MEMORY;
	for (int64_t i = 0; i < all.rows; i++) {
		memcpy(pixels + i * all.cols, (const float *)all.data + d.rows[i] * all.ld, (size_t)all.cols * sizeof *pixels);
		own[i] = labels[d.rows[i]];
	}
	for (int p = TRAIN_PART; p <= WATCHED_PART; p++) {
		f->part[p].inputs =
			sl_dense_view(pixels + d.begin[p] * all.cols, SL_F32, d.begin[p + 1] - d.begin[p], all.cols);
		f->part[p].labels = own + d.begin[p];
	}
	sl_dataset_destroy(f->train_set);
	f->train_set = NULL;
	return SL_OK;
}

static sl_status read_pictures(sample_files *f, sl_context *context) {
	int classes;
	SL_TRY(sl_dataset_read_mnist(&f->train_set, context, f->data, true));
	SL_TRY(sl_dataset_read_mnist(&f->test_set, context, f->data, false));
	SL_TRY(sl_dataset_samples(context, f->train_set, &f->part[TRAIN_PART], &classes));
	SL_TRY(sl_dataset_samples(context, f->test_set, &f->part[TEST_PART], NULL));
	f->features = f->part[TRAIN_PART].inputs.cols;
	f->classes = classes;
	if (f->validation > 0)
		SL_TRY(copy_pictures(f, context));
	f->count = f->part[TRAIN_PART].inputs.rows;
	return SL_OK;
}

/* Rows of a matrix as part `p`, where they lie. */
static sl_status select_rows(sample_files *f, sl_context *context, const sl_csr *from, const division *d, int p,
							 sl_sparse *part) {
	int64_t count = d->begin[p + 1] - d->begin[p];
	sl_sparse all = sl_sparse_from_csr(from);
	int64_t *begins = hold_memory(f, (size_t)count * sizeof *begins),
			*ends = hold_memory(f, (size_t)count * sizeof *ends);
	if (!begins || !ends)
		return SL_ERR_MEMORY;
	return sl_sparse_select(context, &all, d->rows + d->begin[p], count, begins, ends, part);
}

static sl_status fill_part(sample_files *f, sl_context *context, const sl_dataset_content *c, const division *d,
						   int from, int p) {
	int64_t begin = d->begin[from], count = d->begin[from + 1] - begin;
	division own = {d->rows, {0}};
	own.begin[p] = begin;
	own.begin[p + 1] = begin + count;
	SL_TRY(select_rows(f, context, c->inputs, &own, p, &f->rows[p]));
	f->part[p].sparse_inputs = &f->rows[p];
	if (c->targets) {
		SL_TRY(select_rows(f, context, c->targets, &own, p, &f->targets[p]));
		f->part[p].sparse_targets = &f->targets[p];
	} else if (c->labels) {
		int32_t *labels = hold_memory(f, (size_t)count * sizeof *labels);
		for (int64_t i = 0; labels && i < count; i++)
			labels[i] = c->labels[d->rows[begin + i]];
		f->part[p].labels = labels;
		return labels ? SL_OK : SL_ERR_MEMORY;
	} else {
		float *numbers = hold_memory(f, (size_t)count * sizeof *numbers);
		for (int64_t i = 0; numbers && i < count; i++)
			numbers[i] = (float)c->numbers[d->rows[begin + i]];
		f->numbers[p] = sl_dense_view(numbers, SL_F32, count, 1);
		f->part[p].targets = &f->numbers[p];
		return numbers ? SL_OK : SL_ERR_MEMORY;
	}
	return SL_OK;
}

static sl_status read_text(sample_files *f, sl_context *context, int64_t features) {
	sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .features = features, .labels = f->labels};
	sl_dataset_content all = {.struct_size = sizeof all}, test = all;
	division d;
	SL_TRY(sl_dataset_read_svmlight(&f->train_set, context, f->data, &o, NULL));
	SL_TRY(sl_dataset_get(context, f->train_set, &all));
	f->features = all.features;
	f->classes = f->labels == SL_LABELS_NUMBERS ? 1 : all.classes;
	SL_TRY(divide(f, context, all.samples, all.labels, !f->test, &d));
	f->count = d.begin[1];
	for (int p = 0; p < PARTS; p++)
		if (p == TEST_PART ? !f->test : p == TRAIN_PART || f->validation > 0)
			SL_TRY(fill_part(f, context, &all, &d, p, p));
	if (!f->test)
		return SL_OK;
	double validation = f->validation;
	o.like = f->train_set;
	SL_TRY(sl_dataset_read_svmlight(&f->test_set, context, f->test, &o, NULL));
	SL_TRY(sl_dataset_get(context, f->test_set, &test));
	f->validation = 0;
	SL_TRY(divide(f, context, test.samples, test.labels, false, &d));
	f->validation = validation;
	return fill_part(f, context, &test, &d, 0, TEST_PART);
}

static const sl_loss losses[] = {[SL_LABELS_CLASSES] = SL_SOFTMAX_CROSS_ENTROPY,
								 [SL_LABELS_NUMBERS] = SL_MEAN_SQUARED_ERROR,
								 [SL_LABELS_SETS] = SL_BINARY_CROSS_ENTROPY};

sl_status read_samples(sample_files *f, sl_context *context, int64_t features, const sl_loss *loss) {
	for (int p = 0; p < PARTS; p++)
		f->part[p] = (sl_samples){SL_SAMPLES_DEFAULTS};
	f->form = form_of(f->data);
	f->sparse = f->form != PICTURES;
	if (loss) {
		f->implicit = *loss == SL_SOFTMAX_CROSS_ENTROPY;
		for (int kind = SL_LABELS_CLASSES; kind <= SL_LABELS_SETS; kind++)
			if (losses[kind] == *loss)
				f->labels = (sl_label_kind)kind;
	}
	f->loss = f->form == TEXT                      ? losses[f->labels]
			  : f->form == RATINGS && !f->implicit ? SL_MEAN_SQUARED_ERROR
												   : SL_SOFTMAX_CROSS_ENTROPY;
	if (f->comm)
		return f->form == TEXT ? read_shared_text(f, context, features) : read_shared_pictures(f, context);
	return f->form == RATINGS ? read_ratings(f, context)
		   : f->form == TEXT  ? read_text(f, context, features)
							  : read_pictures(f, context);
}

void free_samples(sample_files *f) {
	sl_dataset_destroy(f->train_set);
	sl_dataset_destroy(f->test_set);
	while (f->held)
		free(f->memory[--f->held]);
}
