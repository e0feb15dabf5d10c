/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of four IDX files, as MNIST has them. */
#include "io/dataset.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "io/share.h"
#include "sparse/sparse.h"

#define DEBIAN_DIRECTORY "/usr/share/datasets/fashion-mnist"

static sl_status read_one(sl_context *context, const char *directory, const char *name, sl_share *share,
						  sl_idx *array) {
	char path[PATH_MAX];
	sl_read_limits limits;
	SL_TRY(sli_read_limits(context, NULL, &limits));
	for (int zipped = 1; zipped >= 0; zipped--) {
		int n = snprintf(path, sizeof path, "%s/%s%s", directory, name, zipped ? ".gz" : "");
		if (n < 0 || (size_t)n >= sizeof path)
			return sli_fail(context, SL_ERR_ARGUMENT, "the directory's name is too long");
		if (access(path, F_OK) == 0)
			return sli_idx_read_share(context, path, &limits, share, array);
	}
	return sli_fail(context, SL_ERR_NOT_FOUND,
					"%s[.gz] does not exist; the package dataset-fashion-mnist has it: apt-get install "
					"dataset-fashion-mnist",
					path);
}

static sl_status take_labels(sl_context *context, const sl_idx *labels, sl_dataset *d) {
	if (labels->dimensions != 1 || d->images.dimensions < 2 || labels->count != d->images.shape[0])
		return sli_fail(context, SL_ERR_SHAPE, "%lld labels do not go with %lld images", (long long)labels->count,
						(long long)d->images.shape[0]);
	d->samples = labels->count;
	SL_TRY(sli_allocate(context, (size_t)labels->count * sizeof *d->labels, "labels", (void **)&d->labels));
	for (int64_t i = 0; i < labels->count; i++) {
		float value = labels->values[i];
		if (!(value >= 0 && value < 65536) || value != floorf(value))
			return sli_fail(context, SL_ERR_FORMAT, "label %lld is %g; class numbers from 0 are needed", (long long)i,
							value);
		d->labels[i] = (int32_t)value;
		if (d->labels[i] >= d->classes)
			d->classes = d->labels[i] + 1;
	}
	return SL_OK;
}

sl_status sli_dataset_new(sl_dataset **result, sl_context *context) {
	void *memory;
	*result = NULL;
	SL_TRY(sli_allocate_zeroed(context, sizeof(sl_dataset), "a data set", &memory));
	*result = memory;
	(*result)->heap = sli_heap_retain(sli_heap(context));
	return SL_OK;
}

/* share NULL: all rows. */
static sl_status read_pictures(sl_context *context, const char *directory, bool train, sl_share *share, sl_dataset *d) {
	sl_idx labels = {0};
	const char *from = directory ? directory : DEBIAN_DIRECTORY;
	int64_t images = 0;
	SL_TRY(read_one(context, from, train ? "train-images-idx3-ubyte" : "t10k-images-idx3-ubyte", share, &d->images));
	images = share ? share->total : 0;
	SL_TRY(read_one(context, from, train ? "train-labels-idx1-ubyte" : "t10k-labels-idx1-ubyte", share, &labels));
	sl_status status = SL_OK;
	if (share && share->total != images)
		status = sli_fail(context, SL_ERR_SHAPE, "%lld labels do not go with %lld images", (long long)share->total,
						  (long long)images);
	if (status == SL_OK)
		status = take_labels(context, &labels, d);
	for (int64_t i = 0; status == SL_OK && i < d->images.count; i++)
		d->images.values[i] /= 255.0f;
	sli_idx_free(sli_heap(context), &labels);
	return status;
}

sl_status sli_dataset_read(sl_dataset **result, sl_context *context, const char *directory, bool train) {
	*result = NULL;
	SL_TRY(sli_dataset_new(result, context));
	sl_status status = read_pictures(context, directory, train, NULL, *result);
	if (status != SL_OK) {
		sl_dataset_destroy(*result);
		*result = NULL;
	}
	return status;
}

sl_status sli_dataset_read_share(sl_dataset **result, sl_context *context, const char *directory, bool train,
								 sl_share *share) {
	sl_comm *comm = share->comm;
	*result = NULL;
	sl_status status = sli_dataset_new(result, context);
	if (status == SL_OK)
		status = read_pictures(context, directory, train, share, *result);
	status = sli_comm_settle(context, comm, status);
	if (status == SL_OK)
		status = sli_comm_agree(context, comm, "the number of rows in the file", (uint64_t)share->total);
	if (status == SL_OK)
		status = sli_share_max(context, comm, &(*result)->classes, 1);
	if (status != SL_OK) {
		sl_dataset_destroy(*result);
		*result = NULL;
	}
	return status;
}

void sl_dataset_destroy(sl_dataset *d) {
	if (!d)
		return;
	sl_heap *heap = d->heap;
	size_t samples = (size_t)d->samples;
	int64_t items = d->inputs ? sli_pattern_arrays(d->inputs->pattern).cols : 0;
	sli_heap_free(heap, d->labels, samples * sizeof *d->labels);
	sli_heap_free(heap, d->numbers, samples * sizeof *d->numbers);
	sli_heap_free(heap, d->groups, samples * sizeof *d->groups);
	sli_heap_free(heap, d->row_ids, samples * sizeof *d->row_ids);
	sli_heap_free(heap, d->col_ids, (size_t)items * sizeof *d->col_ids);
	sli_heap_free(heap, d->class_values, (size_t)d->classes * sizeof *d->class_values);
	sl_csr_destroy(d->inputs);
	sl_csr_destroy(d->targets);
	sli_idx_free(heap, &d->images);
	sli_heap_free(heap, d, sizeof *d);
	sli_heap_release(heap);
}
