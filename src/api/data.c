/* SPDX-License-Identifier: Apache-2.0 */
#include <sparselayer/data.h>

#include "io/dataset.h"
#include "ops/ops.h"
#include "sparse/sparse.h"

/* What both readers of text are given: `options` (may be NULL) become `own`, of `size` bytes. */
static sl_status take_reading(sl_dataset **dataset, sl_context *context, const char *path, const void *options,
							  void *own, size_t size, const sl_read_limits *limits, sl_read_limits *full) {
	if (dataset)
		*dataset = NULL;
	if (!context)
		return SL_ERR_NULL;
	if (!dataset || !path)
		return sli_fail(context, SL_ERR_NULL, "%s is null", dataset ? "path" : "dataset");
	if (options)
		SL_TRY(sli_take_struct(context, own, size, options, "options"));
	return sli_read_limits(context, limits, full);
}

static sl_status take_dtype(sl_context *context, sl_dtype *dtype) {
	*dtype = *dtype ? *dtype : SL_F32;
	if (*dtype != SL_F32 && *dtype != SL_F64)
		return sli_fail(context, SL_ERR_DTYPE, "options.dtype is %s; f32 and f64 are read", sl_dtype_name(*dtype));
	return SL_OK;
}

static sl_status check_like(sl_context *context, const sl_dataset *like, sl_label_kind kind) {
	if (!like)
		return SL_OK;
	if (!like->inputs || (kind == SL_LABELS_CLASSES && !like->class_values) ||
		(kind == SL_LABELS_SETS && !like->targets))
		return sli_fail(context, SL_ERR_ARGUMENT,
						"options.like was not read from svmlight text with labels of this kind");
	return SL_OK;
}

sl_status sli_check_svmlight(sl_context *context, sl_svmlight_options *o) {
	if (o->labels < SL_LABELS_CLASSES || o->labels > SL_LABELS_SETS || o->base < SL_INDEX_AUTO ||
		o->base > SL_INDEX_ONE)
		return sli_fail(context, SL_ERR_ARGUMENT, "options.labels is %d and options.base %d; both are 0, 1 or 2",
						(int)o->labels, (int)o->base);
	if (o->features < 0 || o->features > INT32_MAX || o->classes < 0 || o->classes > INT32_MAX)
		return sli_fail(context, SL_ERR_ARGUMENT, "options.features is %lld and options.classes %lld; the most is %d",
						(long long)o->features, (long long)o->classes, INT32_MAX);
	SL_TRY(take_dtype(context, &o->dtype));
	return check_like(context, o->like, o->labels);
}

sl_status sli_check_ratings(sl_context *context, sl_ratings_options *o) {
	if (o->min_rating != o->min_rating)
		return sli_fail(context, SL_ERR_ARGUMENT, "options.min_rating is NaN");
	SL_TRY(take_dtype(context, &o->dtype));
	if (o->duplicates < SL_DUPLICATES_REFUSE || o->duplicates > SL_DUPLICATES_LAST)
		return sli_fail(context, SL_ERR_ARGUMENT, "options.duplicates is %d", (int)o->duplicates);
	if (o->like && (!o->like->row_ids || !o->like->col_ids))
		return sli_fail(context, SL_ERR_ARGUMENT, "options.like was not read from ratings");
	return SL_OK;
}

sl_status sl_dataset_read_svmlight(sl_dataset **dataset, sl_context *context, const char *path,
								   const sl_svmlight_options *options, const sl_read_limits *limits) {
	sl_svmlight_options o = {.struct_size = sizeof o};
	sl_read_limits full;
	SL_TRY(take_reading(dataset, context, path, options, &o, sizeof o, limits, &full));
	SL_TRY(sli_check_svmlight(context, &o));
	return sli_svmlight_read(dataset, context, path, &o, &full);
}

sl_status sl_dataset_read_ratings(sl_dataset **dataset, sl_context *context, const char *path,
								  const sl_ratings_options *options, const sl_read_limits *limits) {
	sl_ratings_options o = {.struct_size = sizeof o};
	sl_read_limits full;
	SL_TRY(take_reading(dataset, context, path, options, &o, sizeof o, limits, &full));
	SL_TRY(sli_check_ratings(context, &o));
	return sli_ratings_read(dataset, context, path, &o, &full);
}

sl_status sl_dataset_get(sl_context *context, const sl_dataset *dataset, sl_dataset_content *content) {
	if (!context)
		return SL_ERR_NULL;
	if (!dataset)
		return sli_fail(context, SL_ERR_NULL, "dataset is null");
	sl_dataset_content own = {.struct_size = sizeof own,
							  .samples = dataset->samples,
							  .inputs = dataset->inputs,
							  .labels = dataset->labels,
							  .targets = dataset->targets,
							  .numbers = dataset->numbers,
							  .classes = dataset->classes,
							  .class_values = dataset->class_values,
							  .groups = dataset->groups,
							  .row_ids = dataset->row_ids,
							  .col_ids = dataset->col_ids};
	if (dataset->inputs)
		own.features = sli_pattern_arrays(dataset->inputs->pattern).cols;
	else if (dataset->samples)
		own.features = dataset->images.count / dataset->samples;
	return sli_give_struct(context, content, &own, sizeof own, "content");
}

sl_status sl_svmlight_write(sl_context *context, const sl_csr *inputs, const double *labels, const sl_csr *targets,
							const char *path) {
	if (!context)
		return SL_ERR_NULL;
	if (!inputs || !path)
		return sli_fail(context, SL_ERR_NULL, "%s is null", inputs ? "path" : "inputs");
	if (inputs->dtype != SL_F32 && inputs->dtype != SL_F64)
		return sli_fail(context, SL_ERR_DTYPE, "inputs are %s; f32 and f64 are written", sl_dtype_name(inputs->dtype));
	if (labels && targets)
		return sli_fail(context, SL_ERR_ARGUMENT, "labels and targets are both given; a line has room for one");
	SL_TRY(sli_pattern_make_host(context, inputs->pattern));
	if (targets) {
		SL_TRY(sli_pattern_make_host(context, targets->pattern));
		int64_t rows = sli_pattern_arrays(inputs->pattern).rows, sets = sli_pattern_arrays(targets->pattern).rows;
		if (rows != sets)
			return sli_fail(context, SL_ERR_SHAPE, "targets have %lld rows, inputs %lld", (long long)sets,
							(long long)rows);
	}
	return sli_svmlight_write(context, inputs, labels, targets, path);
}
