/* SPDX-License-Identifier: Apache-2.0 */
/* What `train` trains on and tests with, whatever files it comes from. */
#ifndef SL_TOOLS_SAMPLES_H
#define SL_TOOLS_SAMPLES_H

#include "command.h"

typedef struct sample_files {
	const char *data, *test; /* as given; NULL: the default folder, a part of `data` */
	double held_out;         /* which part, where `test` is not given */
	sl_comm *comm;           /* not NULL: each of these ranks reads its share, in so many parts */
	int64_t parts;

	sl_dataset *train_set, *test_set;
	sl_samples train_samples, test_samples;
	int64_t count, features; /* of the training samples, those of all ranks */
	int classes;
	bool sparse;                      /* svmlight text */
	sl_share train_share, test_share; /* with `comm` */
	/* What the samples point at where rows of one file were chosen. */
	sl_sparse train_rows, test_rows;
	int64_t *rows, *begins, *ends;
	int32_t *labels;
} sample_files;

/* `features`: of the model that goes on; 0: as the file has. */
sl_status read_samples(sample_files *files, sl_context *context, int64_t features);
void free_samples(sample_files *files);
/* Whether a path is a file of svmlight text, by its ending. */
bool is_svmlight(const char *path);

#endif
