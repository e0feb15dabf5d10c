/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include <sparselayer/share.h>

#include "core/checked.h"
#include "layers/divided.h"
#include "layers/linear.h"
#include "api/checks.h"
#include "train/fit.h"
#include "train/parallel.h"

sl_status sl_model_create(sl_model **result, sl_context *context) {
	void *memory;
	if (!context || !result)
		return sli_fail(context, SL_ERR_NULL, "model is null");
	*result = NULL;
	SL_TRY(sli_allocate_zeroed(context, sizeof(sl_model), "a model", &memory));
	sl_model *model = memory;
	model->heap = sli_heap_retain(sli_heap(context));
	model->batch = -1;
	*result = model;
	return SL_OK;
}

void sl_model_destroy(sl_model *model) {
	if (!model)
		return;
	sli_model_forget(model);
	if (model->sparsity)
		model->sparsity_destroy(model->sparsity);
	for (int i = 0; i < model->count; i++)
		sl_layer_destroy(model->layers[i]);
	sli_divided_destroy(model->divided);
	sl_heap *heap = model->heap;
	sli_heap_free(heap, model->layers, (size_t)model->capacity * sizeof *model->layers);
	sli_heap_free(heap, model, sizeof *model);
	sli_heap_release(heap);
}

sl_status sli_model_check_layer(sl_context *context, const sl_model *model, const sl_layer *layer) {
	for (int i = 0; i < model->count; i++)
		if (model->layers[i] == layer)
			return sli_fail(context, SL_ERR_ARGUMENT, "layer \"%s\" is in the model already", layer->name);
	if (!model->count)
		return SL_OK;
	const sl_layer *last = model->layers[model->count - 1];
	int64_t features = sli_model_features(model, sli_model_outputs(model));
	if (features != layer->in_features)
		return sli_fail(context, SL_ERR_SHAPE,
						"layer \"%s\" takes %lld features; the layer before it, \"%s\", gives %lld", layer->name,
						(long long)layer->in_features, last->name, (long long)features);
	if (layer->sparse_inputs)
		return sli_fail(context, SL_ERR_ARGUMENT,
						"layer \"%s\" takes sparse inputs: it can only be the first of a model", layer->name);
	if (last->dtype != layer->dtype)
		return sli_fail(context, SL_ERR_DTYPE, "layer \"%s\" is %s, the model %s", layer->name,
						sl_dtype_name(layer->dtype), sl_dtype_name(last->dtype));
	return SL_OK;
}

sl_status sli_model_room_for(sl_context *context, sl_model *model, int more) {
	return sli_grow(context, model->heap, (void **)&model->layers, &model->capacity, model->count + more,
					sizeof *model->layers, "a model's list of layers");
}

sl_status sl_model_add(sl_context *context, sl_model *model, sl_layer *layer) {
	if (!context)
		return SL_ERR_NULL;
	if (!model || !layer)
		return sli_fail(context, SL_ERR_NULL, "%s is null", model ? "layer" : "model");
	SL_TRY(sli_model_check_layer(context, model, layer));
	SL_TRY(sli_model_room_for(context, model, 1));
	sli_model_forget(model);
	model->layers[model->count++] = layer;
	sl_status status = model->divided ? sli_divided_add(context, model, model->count - 1, false) : SL_OK;
	model->count -= status != SL_OK;
	return status;
}

int sl_model_layer_count(const sl_model *model) {
	return model ? model->count : 0;
}

sl_layer *sl_model_layer(const sl_model *model, int index) {
	return model && index >= 0 && index < model->count ? model->layers[index] : NULL;
}

sl_status sli_check_model(sl_context *context, const sl_model *model) {
	if (!context)
		return SL_ERR_NULL;
	if (!model)
		return sli_fail(context, SL_ERR_NULL, "model is null");
	if (!model->count)
		return sli_fail(context, SL_ERR_STATE, "the model has no layers: add some with sl_model_add()");
	return SL_OK;
}

sl_status sl_model_add_to_optimizer(sl_context *context, sl_model *model, sl_optimizer *optimizer) {
	SL_TRY(sli_check_model(context, model));
	for (int i = 0; i < model->count; i++)
		SL_TRY(sl_optimizer_add(context, optimizer, model->layers[i]));
	optimizer->divided = model->divided ? model : NULL;
	return SL_OK;
}

sl_status sl_model_prepare(sl_context *context, sl_model *model, int64_t max_batch, sl_mode mode) {
	SL_TRY(sli_check_model(context, model));
	if (max_batch <= 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "max_batch is %lld; it must be positive", (long long)max_batch);
	if (mode != SL_MODE_INFERENCE && mode != SL_MODE_TRAINING)
		return sli_fail(context, SL_ERR_ARGUMENT, "mode %d is unknown", (int)mode);
	return sli_model_prepare(context, model, max_batch, mode);
}

uint64_t sl_model_generation(const sl_context *context, const sl_model *model) {
	uint64_t sum = context && model ? sli_generation(context) + model->rooms + (uint64_t)model->count : 0;
	for (int i = 0; sum && i < model->count; i++)
		sum += model->layers[i]->edition + model->layers[i]->plannings;
	return sum;
}

static int64_t features_in(const sl_model *model) {
	return model->layers[0]->in_features;
}

static int64_t features_out(const sl_model *model) {
	return sli_model_features(model, sli_model_outputs(model));
}

/* A [batch, features] argument; batch < 0: any. */
static sl_status check_matrix(sl_context *context, const sl_model *model, const sl_dense *view, const char *name,
							  int64_t batch, int64_t features) {
	SL_TRY(sli_check_dense(context, view, name));
	if (view->dtype != model->layers[0]->dtype)
		return sli_fail(context, SL_ERR_DTYPE, "%s is %s; the model is %s", name, sl_dtype_name(view->dtype),
						sl_dtype_name(model->layers[0]->dtype));
	if (view->cols != features || (batch >= 0 && view->rows != batch))
		return sli_fail(context, SL_ERR_SHAPE, "%s is %lld x %lld; it must be %lld x %lld", name, (long long)view->rows,
						(long long)view->cols, (long long)(batch >= 0 ? batch : view->rows), (long long)features);
	return SL_OK;
}

/* Inputs of either kind: one of the two is there. */
typedef struct any_inputs {
	const sl_dense *dense;
	const sl_sparse *sparse;
} any_inputs;

/* What the first layer takes, and how many samples there are. */
static sl_status check_inputs(sl_context *context, const sl_model *model, any_inputs inputs, const char *name,
							  int64_t *batch) {
	if (inputs.sparse) {
		SL_TRY(sli_check_layer_input(context, model->layers[0], inputs.sparse, name));
		*batch = inputs.sparse->rows;
		return SL_OK;
	}
	if (sli_model_sparse(model))
		return sli_fail(context, SL_ERR_STATE, "layer \"%s\" takes sparse inputs: use the calls for them",
						model->layers[0]->name);
	SL_TRY(check_matrix(context, model, inputs.dense, name, -1, features_in(model)));
	*batch = inputs.dense->rows;
	return SL_OK;
}

/* Samples and what is predicted of them are the host's, wherever the model is. */
static sl_status check_host_matrix(sl_context *context, const sl_model *model, const sl_dense *view, const char *name,
								   int64_t batch, int64_t features) {
	sl_context *host;
	if (view && view->device != SL_DEVICE_CPU && view->device != SL_DEVICE_AUTO)
		return sli_fail(context, SL_ERR_DEVICE, "%s must be in the host's memory: batches are copied from and to it",
						name);
	SL_TRY(sli_host_context(context, &host));
	return check_matrix(host, model, view, name, batch, features);
}

static sl_status check_host_inputs(sl_context *context, const sl_model *model, any_inputs inputs, const char *name,
								   int64_t *batch) {
	sl_context *host;
	SL_TRY(sli_host_context(context, &host));
	if (inputs.dense)
		SL_TRY(check_host_matrix(context, model, inputs.dense, name, -1, features_in(model)));
	return check_inputs(host, model, inputs, name, batch);
}

static sl_status null_sparse(sl_context *context, const sl_sparse *inputs) {
	return inputs ? SL_OK : sli_fail(context, SL_ERR_NULL, "inputs is null");
}

static sl_status pack_inputs(sl_context *context, sl_model *model, any_inputs inputs, int64_t batch, sl_mode mode) {
	SL_TRY(sli_model_prepare(context, model, batch, mode));
	if (inputs.sparse) {
		model->inputs = *inputs.sparse;
		return SL_OK;
	}
	sl_dense from = sl_dense_transposed(*inputs.dense), to = sli_model_activation(context, model, 0, batch);
	return sli_convert(context, &from, &to);
}

static sl_status model_forward(sl_context *context, sl_model *model, any_inputs inputs, sl_dense *outputs,
							   sl_mode mode) {
	int64_t batch = 0;
	SL_TRY(check_inputs(context, model, inputs, "inputs", &batch));
	SL_TRY(check_matrix(context, model, outputs, "outputs", batch, features_out(model)));
	if (inputs.dense && sli_overlap(inputs.dense, outputs))
		return sli_fail(context, SL_ERR_ALIAS, "outputs overlaps inputs");
	if (!batch)
		return SL_OK;
	SL_TRY(pack_inputs(context, model, inputs, batch, mode));
	SL_TRY(sli_model_run(context, model, batch, mode));
	sl_dense from = sl_dense_transposed(sli_model_activation(context, model, sli_model_outputs(model), batch));
	return sli_convert(context, &from, outputs);
}

sl_status sl_model_forward(sl_context *context, sl_model *model, const sl_dense *inputs, sl_dense *outputs,
						   sl_mode mode) {
	SL_TRY(sli_check_model(context, model));
	return model_forward(context, model, (any_inputs){.dense = inputs}, outputs, mode);
}

sl_status sl_model_forward_sparse(sl_context *context, sl_model *model, const sl_sparse *inputs, sl_dense *outputs,
								  sl_mode mode) {
	SL_TRY(sli_check_model(context, model));
	SL_TRY(null_sparse(context, inputs));
	return model_forward(context, model, (any_inputs){.sparse = inputs}, outputs, mode);
}

sl_status sl_model_backward(sl_context *context, sl_model *model, const sl_dense *d_outputs, sl_dense *d_inputs,
							sl_write write) {
	SL_TRY(sli_check_model(context, model));
	if (model->batch < 0)
		return sli_fail(context, SL_ERR_STATE, "there is no training forward to go back from");
	SL_TRY(check_matrix(context, model, d_outputs, "d_outputs", model->batch, features_out(model)));
	if (d_inputs && sli_model_sparse(model))
		return sli_fail(context, SL_ERR_ARGUMENT, "d_inputs must be null: sparse inputs have no gradient");
	if (d_inputs)
		SL_TRY(check_matrix(context, model, d_inputs, "d_inputs", model->batch, features_in(model)));
	for (int i = 0; i < model->count; i++)
		if (model->room.saved[i]->layer != model->layers[i] ||
			model->room.saved[i]->edition != model->layers[i]->edition)
			return sli_fail(context, SL_ERR_STATE, "layer \"%s\" was edited since the forward", model->layers[i]->name);
	/* Training alone never asks for it, so its plan was not made. */
	int first = model->divided ? model->divided->stages[0].count : 1;
	for (int i = 0; d_inputs && i < first; i++)
		SL_TRY(sli_layer_prepare_width(context, model->layers[i], model->room.max_batch, model->room.width,
									   SL_MODE_TRAINING, true));
	sl_dense from = sl_dense_transposed(*d_outputs);
	sl_dense to = sli_model_gradient(context, model, 0, from.rows, from.cols);
	SL_TRY(sli_convert(context, &from, &to));
	sl_dense dx = d_inputs ? sl_dense_transposed(*d_inputs) : (sl_dense){0};
	return sli_model_back(context, model, d_inputs ? &dx : NULL, write);
}

static sl_status check_targets(sl_context *context, const sl_model *model, sl_loss loss, const sl_targets *targets,
							   int64_t batch) {
	if (loss < SL_SOFTMAX_CROSS_ENTROPY || loss > SL_MEAN_SQUARED_ERROR)
		return sli_fail(context, SL_ERR_ARGUMENT, "loss %d is unknown", (int)loss);
	int given = (targets->labels != NULL) + (targets->dense != NULL) + (targets->sparse != NULL);
	if (given != 1)
		return sli_fail(context, given ? SL_ERR_ARGUMENT : SL_ERR_NULL, "give %s of labels, dense and sparse targets",
						given ? "only one" : "one");
	if (targets->ignore_zeros && !targets->sparse)
		return sli_fail(context, SL_ERR_ARGUMENT, "ignore_zeros is set without sparse targets");
	if (targets->sparse)
		return sli_check_sparse_targets(context, loss, targets->sparse, targets->ignore_zeros, model->layers[0]->dtype,
										batch, features_out(model));
	if (targets->labels)
		return loss == SL_SOFTMAX_CROSS_ENTROPY
				   ? SL_OK
				   : sli_fail(context, SL_ERR_ARGUMENT,
							  "labels are for softmax cross-entropy; this loss takes dense targets");
	return check_matrix(context, model, targets->dense, "targets", batch, features_out(model));
}

sl_status sli_check_train_batch(sl_context *context, const sl_model *model, sl_loss loss, const sl_dense *inputs,
								const sl_sparse *sparse, const sl_targets *targets) {
	int64_t batch = 0;
	SL_TRY(check_inputs(context, model, (any_inputs){.dense = inputs, .sparse = sparse}, "inputs", &batch));
	return check_targets(context, model, loss, targets, batch);
}

static sl_status train_batch(sl_context *context, sl_model *model, sl_loss loss, any_inputs inputs,
							 const sl_targets *targets, sl_write write, sl_loss_result *result) {
	int64_t batch = 0;
	if (!targets)
		return sli_fail(context, SL_ERR_NULL, "targets is null");
	SL_TRY(check_inputs(context, model, inputs, "inputs", &batch));
	SL_TRY(check_targets(context, model, loss, targets, batch));
	if (targets->sparse && !sli_on_host(sli_device(context)))
		return sli_fail(
			context, SL_ERR_UNSUPPORTED,
			"sparse targets of a single batch are read on the CPU alone: sl_model_fit() sends them to a GPU");
	SL_TRY(sli_check_pointer(context, targets->labels, SL_I32, "targets.labels"));
	if (result)
		memset(result, 0, sizeof *result);
	if (!batch)
		return SL_OK;
	sl_loss_sums sums = {.bad_row = -1};
	SL_TRY(pack_inputs(context, model, inputs, batch, SL_MODE_TRAINING));
	SL_TRY(sli_model_run(context, model, batch, SL_MODE_TRAINING));
	SL_TRY(sli_model_loss(context, model, loss, batch, targets, true, result ? &sums : NULL));
	SL_TRY(sli_model_back(context, model, NULL, write));
	if (result)
		*result = (sl_loss_result){sums.loss / (double)sums.rows, sums.correct, sums.counted};
	return SL_OK;
}

sl_status sl_model_train_batch(sl_context *context, sl_model *model, sl_loss loss, const sl_dense *inputs,
							   const sl_targets *targets, sl_write write, sl_loss_result *result) {
	SL_TRY(sli_check_model(context, model));
	return train_batch(context, model, loss, (any_inputs){.dense = inputs}, targets, write, result);
}

sl_status sl_model_take_loss(sl_context *context, sl_model *model, sl_loss_result *result) {
	sl_loss_sums sums;
	SL_TRY(sli_check_model(context, model));
	if (!result)
		return sli_fail(context, SL_ERR_NULL, "result is null");
	memset(result, 0, sizeof *result);
	SL_TRY(sli_model_take_loss(context, model, &sums));
	*result = (sl_loss_result){sums.rows ? sums.loss / (double)sums.rows : 0, sums.correct, sums.counted};
	return SL_OK;
}

sl_status sl_model_train_batch_sparse(sl_context *context, sl_model *model, sl_loss loss, const sl_sparse *inputs,
									  const sl_targets *targets, sl_write write, sl_loss_result *result) {
	SL_TRY(sli_check_model(context, model));
	SL_TRY(null_sparse(context, inputs));
	return train_batch(context, model, loss, (any_inputs){.sparse = inputs}, targets, write, result);
}

/* Samples of the caller's, copied in whatever version they come. */
static sl_status take_samples(sl_context *context, const sl_model *model, sl_loss loss, const sl_samples *given,
							  sl_samples *samples) {
	if (!given)
		return sli_fail(context, SL_ERR_NULL, "samples is null");
	SL_TRY(sli_take_struct(context, samples, sizeof *samples, given, "samples"));
	int64_t count = 0;
	any_inputs inputs = {.sparse = samples->sparse_inputs};
	if (!inputs.sparse)
		inputs.dense = &samples->inputs;
	SL_TRY(
		check_host_inputs(context, model, inputs, inputs.sparse ? "samples.sparse_inputs" : "samples.inputs", &count));
	if (inputs.sparse && inputs.sparse->format != SL_SPARSE_CSR)
		return sli_fail(context, SL_ERR_LAYOUT,
						"samples.sparse_inputs must be CSR, so that its rows can be chosen from");
	if ((inputs.dense && samples->inputs.order != SL_ROW_MAJOR) ||
		(samples->targets && samples->targets->order != SL_ROW_MAJOR))
		return sli_fail(context, SL_ERR_LAYOUT, "samples must be row-major");
	sl_targets targets = {.labels = samples->labels,
						  .dense = samples->targets,
						  .sparse = samples->sparse_targets,
						  .ignore_zeros = samples->ignore_zeros};
	sl_context *host;
	SL_TRY(sli_host_context(context, &host));
	return check_targets(host, model, loss, &targets, count);
}

static sl_status resolve_fit(sl_context *context, const sl_fit_options *given, sl_fit_options *o) {
	memset(o, 0, sizeof *o);
	o->struct_size = sizeof *o;
	if (given)
		SL_TRY(sli_take_struct(context, o, sizeof *o, given, "options"));
	if (o->epochs < 0 || o->first_epoch < 0 || o->batch < 0 || o->accumulate < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "epochs, first_epoch, batch and accumulate must not be negative");
	if (o->patience < 0 || !(o->min_improvement >= 0))
		return sli_fail(context, SL_ERR_ARGUMENT, "patience is %lld and min_improvement %g; neither may be negative",
						(long long)o->patience, o->min_improvement);
	if (o->patience && !o->validation)
		return sli_fail(context, SL_ERR_ARGUMENT, "patience is given without validation samples");
	o->epochs = o->epochs ? o->epochs : 1;
	o->batch = o->batch ? o->batch : 32;
	o->accumulate = o->accumulate ? o->accumulate : 1;
	int64_t stride;
	if (o->first_sample < 0 ||
		(o->first_sample && (!sli_mul(o->batch, o->accumulate, &stride) || o->first_sample % stride)))
		return sli_fail(context, SL_ERR_ARGUMENT, "first_sample is %lld; it must be a multiple of batch * accumulate",
						(long long)o->first_sample);
	return SL_OK;
}

static sl_status check_class_weights(sl_context *context, const sl_model *model, const sl_samples *samples,
									 const sl_fit_options *o) {
	if (!o->class_weights)
		return SL_OK;
	if (o->loss != SL_SOFTMAX_CROSS_ENTROPY || !samples->labels)
		return sli_fail(context, SL_ERR_ARGUMENT, "class_weights are given without labels and softmax cross-entropy");
	for (int64_t c = 0; c < features_out(model); c++)
		if (!(o->class_weights[c] >= 0) || !isfinite(o->class_weights[c]))
			return sli_fail(context, SL_ERR_ARGUMENT, "class_weights[%lld] is %g; it must be finite and not negative",
							(long long)c, o->class_weights[c]);
	return SL_OK;
}

/* Samples of which this rank has a share: `batch` 0 for validation. */
static sl_status check_share(sl_context *context, const sl_samples *samples, const sl_parallel *p, int64_t batch) {
	const sl_share *s = samples->share;
	if (!s)
		return SL_OK;
	if (!p)
		return sli_fail(context, SL_ERR_ARGUMENT,
						"samples.share is given without parallel, by whose ranks they are read");
	if (s->struct_size < sizeof *s || !s->comm || s->parts < 1)
		return sli_fail(context, SL_ERR_ARGUMENT, "samples.share was not filled in by a call of share.h");
	if (sl_comm_size(s->comm) != p->tree.size || sl_comm_rank(s->comm) != p->tree.rank)
		return sli_fail(context, SL_ERR_ARGUMENT, "samples.share is of rank %d of %d, parallel of rank %d of %d",
						sl_comm_rank(s->comm), sl_comm_size(s->comm), p->tree.rank, p->tree.size);
	if (s->count != sli_sample_count(samples))
		return sli_fail(context, SL_ERR_SHAPE, "samples has %lld rows; its share has %lld of %lld",
						(long long)sli_sample_count(samples), (long long)s->count, (long long)s->total);
	if (p->fixed && batch && s->parts != p->options.shards)
		return sli_fail(context, SL_ERR_ARGUMENT,
						"the samples are read in %lld parts, and batches are divided into %lld shards: give the same "
						"number of both",
						(long long)s->parts, (long long)p->options.shards);
	if (batch && batch < s->total && batch % s->parts)
		return sli_fail(context, SL_ERR_ARGUMENT,
						"batch is %lld; of samples read in %lld parts it must be a multiple of that, as %lld is",
						(long long)batch, (long long)s->parts, (long long)(batch / s->parts + 1) * s->parts);
	return SL_OK;
}

static sl_status check_fit(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
						   const sl_samples *samples, sl_fit_options *o, sl_samples *own, sl_samples *validation) {
	SL_TRY(take_samples(context, model, o->loss, samples, own));
	SL_TRY(check_class_weights(context, model, own, o));
	if (o->validation) {
		SL_TRY(take_samples(context, model, o->loss, o->validation, validation));
		o->validation = validation;
	}
	for (int i = 0; i < model->count; i++) {
		if (o->accumulate > 1)
			SL_TRY(sli_layer_in_memory(context, model->layers[i], "accumulating gradients"));
		if (o->patience && !o->keep_last)
			SL_TRY(sli_layer_in_memory(context, model->layers[i], "putting the best epoch's parameters back"));
	}
	for (int i = 0; i < model->count; i++)
		if (!sli_optimizer_find(optimizer, model->layers[i]))
			return sli_fail(context, SL_ERR_STATE,
							"layer \"%s\" has not been added to the optimizer: see sl_model_add_to_optimizer()",
							model->layers[i]->name);
	const sl_parallel *p = o->parallel;
	SL_TRY(check_share(context, own, p, o->batch));
	if (o->validation)
		SL_TRY(check_share(context, validation, p, 0));
	if (!p)
		return SL_OK;
	if (p->model != model || p->optimizer != optimizer)
		return sli_fail(context, SL_ERR_ARGUMENT, "parallel was made for another %s",
						p->model != model ? "model" : "optimizer");
	if (own->ignore_zeros)
		return sli_fail(context, SL_ERR_UNSUPPORTED,
						"ignore_zeros: how many entries count is known to each rank alone");
	if (o->accumulate > 1 && p->options.shard_state)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "gradients cannot be accumulated where moments are spread");
	return SL_OK;
}

/* What all ranks must have been given alike, or they would wait for one another in different places. */
static sl_status agree_on_fit(sl_context *context, sl_comm *comm, const sl_fit_options *o, const sl_samples *own) {
	const int64_t all[] = {own->share ? own->share->total : sli_sample_count(own),
						   own->share ? own->share->parts : 0,
						   o->loss,
						   o->epochs,
						   o->first_epoch,
						   o->first_sample,
						   o->batch,
						   o->accumulate,
						   o->keep_order,
						   o->patience,
						   !o->validation         ? -1
						   : o->validation->share ? o->validation->share->total
												  : sli_sample_count(o->validation)};
	uint64_t sum = 14695981039346656037u;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		sum = (sum ^ (uint64_t)all[i]) * 1099511628211u;
	return sli_comm_agree(context, comm, "the number of samples or the options of sl_model_fit()", sum);
}

sl_status sl_model_fit(sl_context *context, sl_model *model, sl_optimizer *optimizer, const sl_samples *samples,
					   const sl_fit_options *options) {
	sl_fit_options o;
	sl_samples own, validation;
	SL_TRY(sli_check_model(context, model));
	if (!optimizer)
		return sli_fail(context, SL_ERR_NULL, "optimizer is null");
	SL_TRY(resolve_fit(context, options, &o));
	sl_status status = check_fit(context, model, optimizer, samples, &o, &own, &validation);
	sl_comm *comms[] = {model->divided ? model->divided->comm : NULL, o.parallel ? o.parallel->comm : NULL};
	for (int i = 0; i < 2; i++) {
		if (!comms[i])
			continue;
		status = sli_comm_settle(context, comms[i], status);
		if (status == SL_OK)
			status = agree_on_fit(context, comms[i], &o, &own);
	}
	if (status == SL_OK && model->divided)
		status = sli_divided_verify(context, model, optimizer);
	SL_TRY(status);
	if (!(own.share ? own.share->total : sli_sample_count(&own)))
		return SL_OK;
	return sli_model_fit(context, model, optimizer, &own, &o);
}

static sl_status check_batch(sl_context *context, int64_t *batch) {
	if (*batch < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "batch is %lld; it must not be negative", (long long)*batch);
	*batch = *batch ? *batch : 256;
	return SL_OK;
}

sl_status sl_model_evaluate(sl_context *context, sl_model *model, sl_loss loss, const sl_samples *samples,
							int64_t batch, double *mean_loss, double *accuracy) {
	sl_samples own;
	SL_TRY(sli_check_model(context, model));
	SL_TRY(check_batch(context, &batch));
	SL_TRY(take_samples(context, model, loss, samples, &own));
	own.share = NULL; /* each rank evaluates what it has */
	return sli_model_evaluate(context, model, loss, &own, batch, mean_loss, accuracy);
}

static sl_status model_predict(sl_context *context, sl_model *model, any_inputs inputs, sl_dense *outputs,
							   int64_t batch) {
	int64_t count = 0;
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .sparse_inputs = inputs.sparse};
	SL_TRY(check_host_inputs(context, model, inputs, "inputs", &count));
	SL_TRY(check_host_matrix(context, model, outputs, "outputs", count, features_out(model)));
	if ((inputs.dense && inputs.dense->order != SL_ROW_MAJOR) || outputs->order != SL_ROW_MAJOR)
		return sli_fail(context, SL_ERR_LAYOUT, "inputs and outputs must be row-major");
	if (inputs.sparse && inputs.sparse->format != SL_SPARSE_CSR)
		return sli_fail(context, SL_ERR_LAYOUT, "sparse inputs must be CSR, so that batches can be cut from them");
	if (inputs.dense)
		samples.inputs = *inputs.dense;
	return sli_model_predict(context, model, &samples, outputs, batch);
}

sl_status sl_model_predict(sl_context *context, sl_model *model, const sl_dense *inputs, sl_dense *outputs,
						   int64_t batch) {
	SL_TRY(sli_check_model(context, model));
	SL_TRY(check_batch(context, &batch));
	return model_predict(context, model, (any_inputs){.dense = inputs}, outputs, batch);
}

sl_status sl_model_predict_sparse(sl_context *context, sl_model *model, const sl_sparse *inputs, sl_dense *outputs,
								  int64_t batch) {
	SL_TRY(sli_check_model(context, model));
	SL_TRY(null_sparse(context, inputs));
	SL_TRY(check_batch(context, &batch));
	return model_predict(context, model, (any_inputs){.sparse = inputs}, outputs, batch);
}

static size_t buffer_bytes(const sl_buffer *buffer) {
	return buffer->device ? buffer->bytes : 0;
}

static void count_layer(const sl_layer *layer, sl_model_info *info) {
	size_t size = sl_dtype_size(layer->dtype);
	int64_t all = layer->in_features * layer->out_features;
	int64_t nnz = sli_layer_nnz(layer);
	if (layer->streamed) {
		size = 0; /* none of them is in memory */
		info->streamed_nonzeros += nnz;
	}
	info->nonzeros += nnz;
	info->dense_weights += all;
	info->parameters += nnz + (layer->has_bias ? layer->out_features : 0);
	info->parameter_bytes += (size_t)nnz * size + buffer_bytes(&layer->bias);
	info->pattern_bytes += !layer->weights ? 0 : sl_pattern_bytes(layer->weights->pattern);
	info->gradient_bytes += buffer_bytes(&layer->gradient) + buffer_bytes(&layer->bias_gradient);
}

sl_status sl_model_get_info(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
							sl_model_info *info) {
	SL_TRY(sli_check_model(context, model));
	sl_model_info full = {.struct_size = sizeof full,
						  .layers = model->count,
						  .in_features = features_in(model),
						  .out_features = features_out(model)};
	for (int i = 0; i < model->count; i++)
		count_layer(model->layers[i], &full);
	if (optimizer) {
		sl_optimizer_info own = {.struct_size = sizeof own};
		SL_TRY(sl_optimizer_get_info(context, optimizer, &own));
		full.optimizer_bytes = own.state_bytes;
	}
	const sl_model_room *room = &model->room;
	if (room->device) {
		full.activation_bytes =
			sli_arena_bytes(context) + buffer_bytes(&room->gradient[0]) + buffer_bytes(&room->gradient[1]);
		for (int i = 0; i <= room->boundaries; i++)
			full.activation_bytes += buffer_bytes(&room->activations[i]);
		for (int i = 0; i < room->layers; i++)
			if (room->saved[i])
				full.activation_bytes += buffer_bytes(&room->saved[i]->input) + buffer_bytes(&room->saved[i]->output);
	}
	return sli_give_struct(context, info, &full, sizeof full, "info");
}

int sl_model_parameter_count(const sl_model *model) {
	int count = 0;
	for (int i = 0; model && i < model->count; i++)
		count += sl_layer_parameter_count(model->layers[i]);
	return count;
}

sl_status sl_model_parameter(sl_context *context, const sl_model *model, int index, int *layer,
							 sl_parameter *parameter) {
	SL_TRY(sli_check_model(context, model));
	int first = 0;
	for (int i = 0; index >= 0 && i < model->count; i++) {
		int count = sl_layer_parameter_count(model->layers[i]);
		if (index < first + count) {
			if (layer)
				*layer = i;
			return sl_layer_parameter(context, model->layers[i], index - first, parameter);
		}
		first += count;
	}
	return sli_fail(context, SL_ERR_ARGUMENT, "index is %d; the model has %d parameters", index,
					sl_model_parameter_count(model));
}
