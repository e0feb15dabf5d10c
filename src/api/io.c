/* SPDX-License-Identifier: Apache-2.0 */
#include "api/checks.h"
#include "io/dataset.h"
#include "io/io.h"
#include "io/model_file.h"
#include "layers/divided.h"
#include "layers/model.h"
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
	if (dataset->inputs)
		return sli_fail(context, SL_ERR_STATE, "the data set is sparse: see sl_dataset_get()");
	int64_t count = dataset->images.shape[0];
	sl_samples own = {.struct_size = sizeof own, .labels = dataset->labels};
	own.inputs = sl_dense_view(dataset->images.values, SL_F32, count, count ? dataset->images.count / count : 0);
	if (classes)
		*classes = (int)dataset->classes;
	return sli_give_struct(context, samples, &own, sizeof own, "samples");
}

sl_status sl_csr_read(sl_csr **matrix, sl_context *context, const char *path, sl_format format,
					  const sl_read_limits *limits) {
	sl_read_limits full;
	if (matrix)
		*matrix = NULL;
	if (!context)
		return SL_ERR_NULL;
	if (!matrix || !path)
		return sli_fail(context, SL_ERR_NULL, "%s is null", matrix ? "path" : "matrix");
	SL_TRY(sli_read_limits(context, limits, &full));
	SL_TRY(sli_csr_read(matrix, context, path, format, &full));
	sl_status status = sli_csr_upload(context, *matrix);
	if (status != SL_OK) {
		sl_csr_destroy(*matrix);
		*matrix = NULL;
	}
	return status;
}

sl_status sl_csr_write(sl_context *context, const sl_csr *matrix, const char *path, sl_format format) {
	if (!context)
		return SL_ERR_NULL;
	if (!matrix || !path)
		return sli_fail(context, SL_ERR_NULL, "%s is null", matrix ? "path" : "matrix");
	sl_csr host;
	SL_TRY(sli_pattern_make_host(context, matrix->pattern));
	SL_TRY(sli_csr_on_host(context, matrix, &host));
	sl_status status = sli_csr_write(context, &host, path, format);
	sli_csr_release_host(context, &host);
	return status;
}

sl_status sli_check_save(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
						 const sl_checkpoint *checkpoint, const char *path, sl_checkpoint *own) {
	*own = (sl_checkpoint){.struct_size = sizeof *own};
	if (!model || !path)
		return sli_fail(context, SL_ERR_NULL, "%s is null", model ? "path" : "model");
	if (checkpoint)
		SL_TRY(sli_take_struct(context, own, sizeof *own, checkpoint, "checkpoint"));
	if (own->epochs_done < 0 || own->samples_done < 0 || own->batch < 0 || own->accumulate < 0 ||
		own->loss < SL_SOFTMAX_CROSS_ENTROPY || own->loss > SL_MEAN_SQUARED_ERROR)
		return sli_fail(context, SL_ERR_ARGUMENT, "checkpoint has a negative count or an unknown loss");
	own->seed = sli_seed(context);
	if (optimizer && optimizer->sharded)
		return sli_fail(context, SL_ERR_STATE, "the optimizer's moments are spread over ranks: use sl_parallel_save()");
	return SL_OK;
}

sl_status sl_model_save(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
						const sl_checkpoint *checkpoint, const char *path) {
	sl_checkpoint own;
	if (!context)
		return SL_ERR_NULL;
	SL_TRY(sli_check_save(context, model, optimizer, checkpoint, path, &own));
	if (model->divided)
		return sli_fail(context, SL_ERR_UNSUPPORTED,
						"the model's layers are divided over ranks: save it by sl_model_save_divided()");
	return sli_model_save(context, model, optimizer, &own, path);
}

sl_status sl_model_save_divided(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
								const sl_checkpoint *checkpoint, const char *path) {
	sl_checkpoint own;
	if (!context)
		return SL_ERR_NULL;
	if (!model || !model->divided)
		return sli_fail(context, model ? SL_ERR_STATE : SL_ERR_NULL, "%s",
						model ? "the model is not divided" : "model is null");
	sl_status status = sli_check_save(context, model, optimizer, checkpoint, path, &own);
	SL_TRY(sli_comm_settle(context, model->divided->comm, status));
	return sli_divided_save(context, model, optimizer, &own, path);
}

sl_status sli_give_loaded(sl_context *context, sl_model **model, sl_optimizer **optimizer, const sl_checkpoint *found,
						  sl_checkpoint *checkpoint) {
	sl_status status = checkpoint ? sli_give_struct(context, checkpoint, found, sizeof *found, "checkpoint") : SL_OK;
	if (status == SL_OK)
		return SL_OK;
	if (optimizer) {
		sl_optimizer_destroy(*optimizer);
		*optimizer = NULL;
	}
	sl_model_destroy(*model);
	*model = NULL;
	return status;
}

sl_status sl_model_load(sl_model **model, sl_optimizer **optimizer, sl_checkpoint *checkpoint, sl_context *context,
						const char *path, const sl_read_limits *limits) {
	sl_read_limits full;
	sl_checkpoint own = {.struct_size = sizeof own};
	if (model)
		*model = NULL;
	if (optimizer)
		*optimizer = NULL;
	if (!context)
		return SL_ERR_NULL;
	if (!model || !path)
		return sli_fail(context, SL_ERR_NULL, "%s is null", model ? "path" : "model");
	SL_TRY(sli_read_limits(context, limits, &full));
	SL_TRY(sli_model_load(model, optimizer, &own, context, path, &full, NULL));
	return sli_give_loaded(context, model, optimizer, &own, checkpoint);
}

sl_status sl_model_load_divided(sl_model **model, sl_optimizer **optimizer, sl_checkpoint *checkpoint,
								sl_context *context, sl_comm *comm, const char *path, const sl_read_limits *limits) {
	sl_read_limits full;
	sl_checkpoint own = {.struct_size = sizeof own};
	if (model)
		*model = NULL;
	if (optimizer)
		*optimizer = NULL;
	if (!context)
		return SL_ERR_NULL;
	if (!model || !path || !comm)
		return sli_fail(context, SL_ERR_NULL, "%s is null", !path ? "path" : !model ? "model" : "comm");
	sl_status status = sli_read_limits(context, limits, &full);
	if (status == SL_OK && sl_context_device(context) != SL_DEVICE_CPU)
		status = sli_fail(context, SL_ERR_UNSUPPORTED, "divided layers run on the cpu so far");
	SL_TRY(sli_comm_settle(context, comm, status));
	SL_TRY(sli_divided_load(model, optimizer, &own, context, comm, path, &full));
	return sli_give_loaded(context, model, optimizer, &own, checkpoint);
}
