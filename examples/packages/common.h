/* SPDX-License-Identifier: Apache-2.0 */
/* What the three examples share: files, a clock, and the baselines that they are compared with. */
#ifndef EXAMPLES_PACKAGES_COMMON_H
#define EXAMPLES_PACKAGES_COMMON_H

#include <sparselayer/sparselayer.h>

double now(void);
/* Print what failed; the exit status. `context` may be NULL. */
int finish(sl_context *context, sl_status status);
/* FOLDER/NAME in a static buffer of its own for each call in turn. */
const char *path_of(const char *folder, const char *name);
sl_status content_of(sl_context *context, const sl_dataset *data, sl_dataset_content *content);
/* A layer at a model's end. */
sl_status add_layer(sl_context *context, sl_model *model, const sl_linear_options *options);

/* A context for a program that was given a folder, as `usage` says; NULL: it was said what is wrong, and `code` is the
 * exit status. */
sl_context *begin(int argc, const char *usage, int *code);
/* Train until the loader has gone through all `samples` as often as that: a step takes a batch's loss, and gradients.
 */
typedef sl_status (*step)(void *task, const sl_batch *batch, sl_loss_result *result);
sl_status train(sl_context *context, sl_loader *loader, sl_optimizer *optimizer, int64_t epochs, int64_t samples,
				step take, void *task);
/* targets [rows, cols] row-major: each row's columns as equal chances that add up to 1. Rows end at `ends`. */
sl_dense chances(const sl_sparse *rows, const int32_t *columns, int64_t cols, float *targets);

/* How often each column occurs, as scores of every row alike. */
sl_status popularity(sl_context *context, const sl_csr *targets, int64_t cols, float *scores);

/* The nearest rows by cosine: for each row of `queries` the k rows of `base` that point most nearly its way, and as
 * scores the sum of their targets' rows, each times its cosine. */
typedef struct neighbours {
	sl_sparse base, turned, targets; /* [rows, features], [features, rows], [rows, columns] */
	sl_csr *transpose;
	float *weights, *lengths, *sums; /* of features, of rows, of the query's rows */
	int32_t *touched;
	bool self; /* query i is row i, which is left out */
} neighbours;
/* `weights` (of features, NULL: 1) multiply both sides' values. */
sl_status neighbours_create(neighbours *n, sl_context *context, const sl_csr *base, const sl_csr *targets,
							const float *weights, bool self);
void neighbours_destroy(neighbours *n);
void neighbours_scores(neighbours *n, const sl_sparse *queries, int64_t first, int64_t count, int k, float *scores);

#endif
