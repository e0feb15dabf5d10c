/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/ops.h"

static sl_status check_targets(sl_context *context, sl_loss loss, const sl_dense *outputs, const sl_targets *targets) {
	const sl_dense *dense = targets->dense;
	if (!outputs->rows)
		return SL_OK;
	if ((targets->labels != NULL) + (dense != NULL) + (targets->sparse != NULL) > 1)
		return sli_fail(context, SL_ERR_ARGUMENT, "targets has several of labels, dense and sparse; give one of them");
	if (!targets->labels && !dense && !targets->sparse)
		return sli_fail(context, SL_ERR_NULL, "targets has neither labels nor dense nor sparse");
	if (targets->ignore_zeros && !targets->sparse)
		return sli_fail(context, SL_ERR_ARGUMENT, "targets.ignore_zeros is set without targets.sparse");
	if (targets->sparse)
		return sli_check_sparse_targets(context, loss, targets->sparse, targets->ignore_zeros, outputs->dtype,
										outputs->rows, outputs->cols);
	if (targets->labels)
		return loss == SL_SOFTMAX_CROSS_ENTROPY
				   ? SL_OK
				   : sli_fail(context, SL_ERR_ARGUMENT,
							  "labels are for softmax cross-entropy; this loss takes dense targets");
	SL_TRY(sli_check_dense(context, dense, "targets.dense"));
	if (dense->rows != outputs->rows || dense->cols != outputs->cols)
		return sli_fail(context, SL_ERR_SHAPE, "targets.dense is %lldx%lld, outputs %lldx%lld; they must be the same",
						(long long)dense->rows, (long long)dense->cols, (long long)outputs->rows,
						(long long)outputs->cols);
	if (dense->dtype != outputs->dtype)
		return sli_fail(context, SL_ERR_DTYPE, "targets.dense is %s, outputs are %s", sl_dtype_name(dense->dtype),
						sl_dtype_name(outputs->dtype));
	return SL_OK;
}

static sl_status check_gradient(sl_context *context, const sl_dense *outputs, const sl_targets *targets,
								const sl_dense *gradient) {
	if (!gradient)
		return SL_OK;
	SL_TRY(sli_check_dense(context, gradient, "gradient"));
	if (gradient->rows != outputs->rows || gradient->cols != outputs->cols)
		return sli_fail(context, SL_ERR_SHAPE, "gradient is %lldx%lld, outputs %lldx%lld; they must be the same",
						(long long)gradient->rows, (long long)gradient->cols, (long long)outputs->rows,
						(long long)outputs->cols);
	if (gradient->dtype != outputs->dtype)
		return sli_fail(context, SL_ERR_DTYPE, "gradient is %s, outputs are %s", sl_dtype_name(gradient->dtype),
						sl_dtype_name(outputs->dtype));
	bool same = gradient->data == outputs->data && gradient->order == outputs->order && gradient->ld == outputs->ld;
	if (!same && sli_overlap(gradient, outputs))
		return sli_fail(context, SL_ERR_ALIAS, "gradient overlaps outputs without being them");
	if (targets->dense && sli_overlap(gradient, targets->dense))
		return sli_fail(context, SL_ERR_ALIAS, "gradient overlaps targets.dense");
	return SL_OK;
}

static sl_status run_loss(sl_context *context, sl_loss loss, const sl_dense *outputs, const sl_targets *targets,
						  const sl_dense *gradient, void *device_sums, sl_loss_sums *sums) {
	sl_device_state *state = sli_device(context);
	const sl_backend *backend = state->backend;
	sl_op_args args = {
		.alpha = 1, .a = sl_dense_transposed(*outputs), .labels = targets->labels, .result = device_sums};
	sl_op_desc desc = {.kind = SL_OP_LOSS, .variant = (int)loss, .a = sli_desc(&args.a)};
	sl_sparse_batch batch;
	if (targets->sparse) {
		sli_sparse_targets(targets->sparse, &batch);
		args.batch = &batch;
		desc.stored_only = targets->ignore_zeros;
	} else if (!targets->labels) {
		args.b = sl_dense_transposed(*targets->dense);
		desc.b = sli_desc(&args.b);
	}
	if (gradient) {
		args.c = sl_dense_transposed(*gradient);
		desc.c = sli_desc(&args.c);
	}
	SL_TRY(backend->copy(state->device, device_sums, SL_MEMORY_DEVICE, sums, SL_MEMORY_HOST, sizeof *sums));
	SL_TRY(sli_run(context, &desc, &args));
	SL_TRY(backend->copy(state->device, sums, SL_MEMORY_HOST, device_sums, SL_MEMORY_DEVICE, sizeof *sums));
	return backend->synchronize(state->device);
}

SL_API sl_status sl_loss_evaluate(sl_context *context, sl_loss loss, const sl_dense *outputs, const sl_targets *targets,
								  sl_dense *gradient, sl_loss_result *result) {
	if (!context)
		return SL_ERR_NULL;
	if (!targets || !result)
		return sli_fail(context, SL_ERR_NULL, "%s is null", targets ? "result" : "targets");
	if ((int)loss < SL_SOFTMAX_CROSS_ENTROPY || loss > SL_MEAN_SQUARED_ERROR)
		return sli_fail(context, SL_ERR_ARGUMENT, "loss %d is unknown; it goes from 0 to %d", (int)loss,
						SL_MEAN_SQUARED_ERROR);
	memset(result, 0, sizeof *result);
	SL_TRY(sli_check_dense(context, outputs, "outputs"));
	SL_TRY(check_targets(context, loss, outputs, targets));
	SL_TRY(check_gradient(context, outputs, targets, gradient));
	if (!outputs->rows)
		return SL_OK;
	sl_loss_sums sums = {.bad_row = -1};
	void *device_sums;
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = sli_arena_take(context, sizeof sums, &device_sums);
	if (status == SL_OK)
		status = run_loss(context, loss, outputs, targets, gradient, device_sums, &sums);
	sli_arena_reset(context, mark);
	if (status != SL_OK)
		return status;
	if (sums.bad_row >= 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "labels[%lld] is outside [0, %lld), the number of outputs",
						(long long)sums.bad_row, (long long)outputs->cols);
	result->loss = sums.rows ? sums.loss / (double)sums.rows : 0;
	result->correct = sums.correct;
	result->counted = sums.counted;
	return SL_OK;
}
