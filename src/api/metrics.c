/* SPDX-License-Identifier: Apache-2.0 */
#include <sparselayer/metrics.h>

#include "core/host.h"
#include "ops/ops.h"
#include "train/metrics.h"

static sl_status check_scores(sl_context *context, const sl_dense *scores) {
	if (!context)
		return SL_ERR_NULL;
	if (!scores)
		return sli_fail(context, SL_ERR_NULL, "scores is null");
	SL_TRY(sl_dense_check(context, scores));
	if (scores->dtype != SL_F32 && scores->dtype != SL_F64)
		return sli_fail(context, SL_ERR_DTYPE, "scores are %s; f32 and f64 are taken", sl_dtype_name(scores->dtype));
	if (scores->order != SL_ROW_MAJOR)
		return sli_fail(context, SL_ERR_LAYOUT, "scores must be row-major");
	if (scores->device == SL_DEVICE_CUDA)
		return sli_fail(context, SL_ERR_DEVICE, "scores are on a GPU; metrics are computed on the CPU");
	return SL_OK;
}

static sl_status check_view(sl_context *context, const sl_dense *scores, const sl_sparse *view, const char *name) {
	SL_TRY(sli_check_sparse(context, view, name, 0));
	if (view->format != SL_SPARSE_CSR)
		return sli_fail(context, SL_ERR_LAYOUT, "%s must be CSR", name);
	if (view->rows != scores->rows || view->cols != scores->cols)
		return sli_fail(context, SL_ERR_SHAPE, "%s is %lld x %lld, scores %lld x %lld", name, (long long)view->rows,
						(long long)view->cols, (long long)scores->rows, (long long)scores->cols);
	return SL_OK;
}

sl_status sl_metrics_classes(sl_context *context, const sl_dense *scores, bool logits, const int32_t *labels,
							 sl_class_metrics *metrics) {
	sl_class_metrics own = {.struct_size = sizeof own};
	SL_TRY(check_scores(context, scores));
	SL_TRY(sli_host_context(context, &context));
	if (!metrics || (!labels && scores->rows))
		return sli_fail(context, SL_ERR_NULL, "%s is null", metrics ? "labels" : "metrics");
	SL_TRY(sli_take_struct(context, &own, sizeof own, metrics, "metrics"));
	SL_TRY(sli_metrics_classes(context, scores, logits, labels, &own));
	return sli_give_struct(context, metrics, &own, sizeof own, "metrics");
}

sl_status sl_metrics_ranking(sl_context *context, const sl_dense *scores, const sl_sparse *relevant,
							 const sl_sparse *known, int64_t k, sl_rank_metrics *metrics) {
	sl_rank_metrics own = {.struct_size = sizeof own};
	SL_TRY(check_scores(context, scores));
	SL_TRY(sli_host_context(context, &context));
	SL_TRY(check_view(context, scores, relevant, "relevant"));
	if (known)
		SL_TRY(check_view(context, scores, known, "known"));
	if (!metrics)
		return sli_fail(context, SL_ERR_NULL, "metrics is null");
	if (k < 1)
		return sli_fail(context, SL_ERR_ARGUMENT, "k is %lld; it must be at least 1", (long long)k);
	SL_TRY(sli_take_struct(context, &own, sizeof own, metrics, "metrics"));
	SL_TRY(sli_metrics_ranking(context, scores, relevant, known, k, &own));
	return sli_give_struct(context, metrics, &own, sizeof own, "metrics");
}

sl_status sl_metrics_auc(sl_context *context, const sl_dense *scores, const sl_sparse *relevant, sl_average average,
						 double *area) {
	SL_TRY(check_scores(context, scores));
	SL_TRY(sli_host_context(context, &context));
	SL_TRY(check_view(context, scores, relevant, "relevant"));
	if (!area)
		return sli_fail(context, SL_ERR_NULL, "area is null");
	if (average < SL_AVERAGE_MICRO || average > SL_AVERAGE_SAMPLES)
		return sli_fail(context, SL_ERR_ARGUMENT, "average is %d; it is 0, 1 or 2", (int)average);
	return sli_metrics_auc(context, scores, relevant, average, area);
}
