/* SPDX-License-Identifier: Apache-2.0 */
#include "common.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int finish(sl_context *context, sl_status status) {
	if (status != SL_OK)
		fprintf(stderr, "%s: %s\n", sl_status_text(status), context ? sl_context_message(context) : "");
	return status == SL_OK ? 0 : 1;
}

const char *path_of(const char *folder, const char *name) {
	static char paths[4][512];
	static int turn;
	char *path = paths[turn++ % 4];
	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

sl_status content_of(sl_context *context, const sl_dataset *data, sl_dataset_content *content) {
	*content = (sl_dataset_content){.struct_size = sizeof *content};
	return sl_dataset_get(context, data, content);
}

sl_status add_layer(sl_context *context, sl_model *model, const sl_linear_options *options) {
	sl_layer *layer;
	SL_TRY(sl_linear_create(&layer, context, options));
	sl_status status = sl_model_add(context, model, layer);
	if (status != SL_OK)
		sl_layer_destroy(layer);
	return status;
}

static int64_t offset(const sl_sparse *v, int64_t row) {
	return v->offset_dtype == SL_I64 ? ((const int64_t *)v->offsets)[row] : ((const int32_t *)v->offsets)[row];
}
static int32_t column(const sl_sparse *v, int64_t entry) {
	return ((const int32_t *)v->col_indices)[entry];
}
static float value(const sl_sparse *v, int64_t entry) {
	return v->values ? ((const float *)v->values)[entry] : 1;
}

sl_context *begin(int argc, const char *usage, int *code) {
	sl_context *context = NULL;
	*code = 2;
	if (argc < 2) {
		fprintf(stderr, "usage: %s\n", usage);
		return NULL;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	sl_status status =
		sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .seed = 1});
	if (status != SL_OK)
		*code = finish(NULL, status);
	return context;
}

sl_status train(sl_context *context, sl_loader *loader, sl_optimizer *optimizer, int64_t epochs, int64_t samples,
				step take, void *task) {
	double began = now(), loss = 0;
	sl_batch batch = {.struct_size = sizeof batch};
	for (;;) {
		SL_TRY(sl_loader_next(context, loader, &batch));
		if (batch.count == 0) {
			printf("epoch %lld/%lld  loss %.4f  %.1f s\n", (long long)batch.epoch + 1, (long long)epochs,
				   loss / (double)samples, now() - began);
			loss = 0;
			if (batch.epoch + 1 == epochs)
				return SL_OK;
			continue;
		}
		sl_loss_result result;
		SL_TRY(take(task, &batch, &result));
		SL_TRY(sl_optimizer_step(context, optimizer));
		loss += result.loss * (double)batch.count;
	}
}

sl_dense chances(const sl_sparse *rows, const int32_t *columns, int64_t cols, float *targets) {
	const int64_t *begins = rows->offsets, *ends = rows->ends;
	memset(targets, 0, (size_t)(rows->rows * cols) * sizeof *targets);
	for (int64_t r = 0; r < rows->rows; r++)
		for (int64_t i = begins[r]; i < ends[r]; i++)
			targets[r * cols + columns[i]] = 1.0f / (float)(ends[r] - begins[r]);
	return sl_dense_view(targets, SL_F32, rows->rows, cols);
}

sl_status popularity(sl_context *context, const sl_csr *targets, int64_t cols, float *scores) {
	(void)context;
	sl_sparse t = sl_sparse_from_csr(targets);
	memset(scores, 0, (size_t)cols * sizeof *scores);
	for (int64_t i = 0; i < t.nnz; i++)
		scores[column(&t, i)] += 1;
	return SL_OK;
}

sl_status neighbours_create(neighbours *n, sl_context *context, const sl_csr *base, const sl_csr *targets,
							const float *weights, bool self) {
	*n = (neighbours){.base = sl_sparse_from_csr(base), .targets = sl_sparse_from_csr(targets), .self = self};
	SL_TRY(sl_csr_transpose(&n->transpose, context, base));
	n->turned = sl_sparse_from_csr(n->transpose);
	n->weights = malloc((size_t)n->base.cols * sizeof(float));
	n->lengths = calloc((size_t)n->base.rows, sizeof(float));
	n->sums = calloc((size_t)n->base.rows, sizeof(float));
	n->touched = malloc((size_t)n->base.rows * sizeof(int32_t));
	if (!n->weights || !n->lengths || !n->sums || !n->touched)
		return SL_ERR_MEMORY;
	for (int64_t f = 0; f < n->base.cols; f++)
		n->weights[f] = weights ? weights[f] : 1;
	for (int64_t r = 0; r < n->base.rows; r++) {
		for (int64_t i = offset(&n->base, r); i < offset(&n->base, r + 1); i++) {
			float v = value(&n->base, i) * n->weights[column(&n->base, i)];
			n->lengths[r] += v * v;
		}
		n->lengths[r] = sqrtf(n->lengths[r]);
	}
	return SL_OK;
}

void neighbours_destroy(neighbours *n) {
	free(n->weights);
	free(n->lengths);
	free(n->sums);
	free(n->touched);
	sl_csr_destroy(n->transpose);
}

/* sums[row] becomes the product of each row that shares a feature with the query; returns how many there are. */
static int64_t multiply(neighbours *n, const sl_sparse *queries, int64_t query) {
	int64_t count = 0;
	for (int64_t i = offset(queries, query); i < offset(queries, query + 1); i++) {
		int32_t f = column(queries, i);
		float v = value(queries, i) * n->weights[f] * n->weights[f];
		for (int64_t j = offset(&n->turned, f); j < offset(&n->turned, f + 1); j++) {
			int32_t row = column(&n->turned, j);
			if (n->sums[row] == 0)
				n->touched[count++] = row;
			n->sums[row] += v * value(&n->turned, j);
		}
	}
	return count;
}

void neighbours_scores(neighbours *n, const sl_sparse *queries, int64_t first, int64_t count, int k, float *scores) {
	memset(scores, 0, (size_t)(count * n->targets.cols) * sizeof *scores);
	float best[1024];
	int32_t rows[1024];
	for (int64_t q = 0; q < count; q++) {
		int64_t touched = multiply(n, queries, first + q);
		int kept = 0;
		for (int64_t i = 0; i < touched; i++) {
			int32_t row = n->touched[i];
			float cosine = n->lengths[row] > 0 ? n->sums[row] / n->lengths[row] : 0;
			n->sums[row] = 0;
			if ((n->self && row == first + q) || (kept == k && cosine <= best[k - 1]))
				continue;
			int at = kept < k ? kept++ : k - 1;
			for (; at > 0 && best[at - 1] < cosine; at--) {
				best[at] = best[at - 1];
				rows[at] = rows[at - 1];
			}
			best[at] = cosine;
			rows[at] = row;
		}
		float *mine = scores + q * n->targets.cols;
		for (int i = 0; i < kept; i++)
			for (int64_t j = offset(&n->targets, rows[i]); j < offset(&n->targets, rows[i] + 1); j++)
				mine[column(&n->targets, j)] += best[i];
	}
}
