/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of four IDX files, as MNIST has them. */
#include "io/dataset.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#define DEBIAN_DIRECTORY "/usr/share/datasets/fashion-mnist"

static sl_status read_one(sl_context *context, const char *directory, const char *name, sl_idx *array) {
	char path[PATH_MAX];
	sl_read_limits limits;
	SL_TRY(sli_read_limits(context, NULL, &limits));
	for (int zipped = 1; zipped >= 0; zipped--) {
		int n = snprintf(path, sizeof path, "%s/%s%s", directory, name, zipped ? ".gz" : "");
		if (n < 0 || (size_t)n >= sizeof path)
			return sli_fail(context, SL_ERR_ARGUMENT, "the directory's name is too long");
		if (access(path, F_OK) == 0)
			return sli_idx_read(context, path, &limits, array);
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

sl_status sli_dataset_read(sl_dataset **result, sl_context *context, const char *directory, bool train) {
	void *memory;
	sl_idx labels = {0};
	const char *from = directory ? directory : DEBIAN_DIRECTORY;
	*result = NULL;
	SL_TRY(sli_allocate_zeroed(context, sizeof(sl_dataset), "a data set", &memory));
	sl_dataset *d = memory;
	d->heap = sli_heap_retain(sli_heap(context));
	sl_status status =
		read_one(context, from, train ? "train-images-idx3-ubyte" : "t10k-images-idx3-ubyte", &d->images);
	if (status == SL_OK)
		status = read_one(context, from, train ? "train-labels-idx1-ubyte" : "t10k-labels-idx1-ubyte", &labels);
	if (status == SL_OK)
		status = take_labels(context, &labels, d);
	for (int64_t i = 0; status == SL_OK && i < d->images.count; i++)
		d->images.values[i] /= 255.0f;
	sli_idx_free(sli_heap(context), &labels);
	if (status != SL_OK) {
		sl_dataset_destroy(d);
		return status;
	}
	*result = d;
	return SL_OK;
}

void sl_dataset_destroy(sl_dataset *d) {
	if (!d)
		return;
	sl_heap *heap = d->heap;
	sli_heap_free(heap, d->labels, d->images.values ? (size_t)d->images.shape[0] * sizeof *d->labels : 0);
	sli_idx_free(heap, &d->images);
	sli_heap_free(heap, d, sizeof *d);
	sli_heap_release(heap);
}
