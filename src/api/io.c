/* SPDX-License-Identifier: Apache-2.0 */
#include "io/dataset.h"
#include "io/io.h"
#include "ops/ops.h"

sl_status sl_idx_read(sl_context *context, const char *path, const sl_read_limits *limits, sl_idx *array) {
	sl_read_limits full;
	sl_idx own = {0};
	if (!context)
		return SL_ERR_NULL;
	if (!path || !array)
		return sli_fail(context, SL_ERR_NULL, "%s is null", path ? "array" : "path");
	SL_TRY(sli_read_limits(context, limits, &full));
	SL_TRY(sli_idx_read(context, path, &full, &own));
	sl_status status = sli_give_struct(context, array, &own, sizeof own, "array");
	if (status != SL_OK)
		sli_idx_free(sli_heap(context), &own);
	return status;
}

void sl_idx_free(sl_context *context, sl_idx *array) {
	if (context && array)
		sli_idx_free(sli_heap(context), array);
}

sl_status sl_dataset_read_mnist(sl_dataset **dataset, sl_context *context, const char *directory, bool train) {
	if (!context || !dataset)
		return sli_fail(context, SL_ERR_NULL, "dataset is null");
	return sli_dataset_read(dataset, context, directory, train);
}

sl_status sl_dataset_samples(sl_context *context, const sl_dataset *dataset, sl_samples *samples, int *classes) {
	if (!context)
		return SL_ERR_NULL;
	if (!dataset)
		return sli_fail(context, SL_ERR_NULL, "dataset is null");
	int64_t count = dataset->images.shape[0];
	sl_samples own = {.struct_size = sizeof own, .labels = dataset->labels};
	own.inputs = sl_dense_view(dataset->images.values, SL_F32, count, count ? dataset->images.count / count : 0);
	if (classes)
		*classes = dataset->classes;
	return sli_give_struct(context, samples, &own, sizeof own, "samples");
}
