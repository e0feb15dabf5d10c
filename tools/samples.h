/* SPDX-License-Identifier: Apache-2.0 */
/* What `train` trains on, watches and tests with, whatever files it comes from. */
#ifndef SL_TOOLS_SAMPLES_H
#define SL_TOOLS_SAMPLES_H

#include "command.h"

typedef enum sample_form { PICTURES, TEXT, RATINGS } sample_form;
enum { TRAIN_PART, WATCHED_PART, TEST_PART, PARTS };

typedef struct sample_files {
	const char *data, *test; /* as given; NULL: the default folder, a part of `data` */
	double held_out;         /* which part, where `test` is not given */
	double validation;       /* the part of the rest that is watched instead of the test samples; 0: none */
	sl_label_kind labels;    /* of text */
	bool implicit;           /* ratings: that there is one is all that counts */
	sl_comm *comm;           /* not NULL: each of these ranks reads its share, in so many parts */
	int64_t parts;

	sample_form form;
	sl_dataset *train_set, *test_set;
	sl_samples part[PARTS]; /* of the second none without `validation` */
	sl_loss loss;
	sl_share share[PARTS]; /* with `comm` */
	int64_t count, features, classes; /* of the training samples, those of all ranks; `classes`: outputs */
	bool sparse;
	/* What the samples point at where parts of one file were chosen. */
	sl_sparse rows[PARTS], targets[PARTS];
	sl_dense numbers[PARTS];
	void *memory[24];
	int held;
} sample_files;

/* `features`: of the model that goes on; 0: as the file has. `loss`: of that model, which tells what labels are. */
sl_status read_samples(sample_files *files, sl_context *context, int64_t features, const sl_loss *loss);
void free_samples(sample_files *files);
/* Memory that is freed with the files; NULL: none. */
void *hold_memory(sample_files *files, size_t bytes);
/* ratings.c: each user's ratings are divided. */
sl_status read_ratings(sample_files *files, sl_context *context);
/* shares.c: each rank reads its share, of pictures or text that names a class. */
sl_status read_shared_pictures(sample_files *files, sl_context *context);
sl_status read_shared_text(sample_files *files, sl_context *context, int64_t features);
/* What a path is, by its ending. */
sample_form form_of(const char *path);
static inline bool is_svmlight(const char *path) {
	return form_of(path) == TEXT;
}
/* The samples that are looked at after each epoch, and what they are called. */
static inline const sl_samples *watched_samples(const sample_files *f) {
	return &f->part[f->validation > 0 ? WATCHED_PART : TEST_PART];
}

#endif
