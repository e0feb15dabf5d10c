/* SPDX-License-Identifier: Apache-2.0 */
/* A chain of layers over panels. */
#include "layers/model.h"

#include "layers/divided.h"
#include "layers/linear.h"

static void free_room(sl_model_room *room) {
	if (!room->device)
		return;
	sl_heap *heap = room->device->heap;
	for (int i = 0; room->activations && i <= room->boundaries; i++)
		sli_buffer_destroy(&room->activations[i]);
	for (int i = 0; room->saved && i < room->layers; i++)
		sl_saved_destroy(room->saved[i]);
	for (int i = 0; i < 2; i++)
		sli_buffer_destroy(&room->gradient[i]);
	sli_buffer_destroy(&room->sums);
	sli_stage_close(&room->read);
	sli_heap_free(heap, room->activations, (size_t)(room->boundaries + 1) * sizeof *room->activations);
	sli_heap_free(heap, room->saved, (size_t)room->layers * sizeof *room->saved);
	sli_device_release(room->device);
	memset(room, 0, sizeof *room);
}

void sli_model_forget(sl_model *model) {
	free_room(&model->room);
	model->batch = -1;
}

int sli_model_outputs(const sl_model *model) {
	return model->divided ? model->divided->count : model->count;
}

int64_t sli_model_features(const sl_model *model, int boundary) {
	if (model->divided && boundary)
		return model->divided->stages[boundary - 1].out_features;
	return boundary ? model->layers[boundary - 1]->out_features : model->layers[0]->in_features;
}

static sl_status panel_buffer(sl_context *context, sl_buffer *buffer, const sl_model *model, const sl_model_room *room,
							  int64_t features, const char *what) {
	size_t bytes;
	if (!sli_panel_bytes(features, room->max_batch, room->width, model->layers[0]->dtype, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "a batch of %lld with %lld features does not fit in memory",
						(long long)room->max_batch, (long long)features);
	return sli_buffer_create(buffer, context, bytes, true, what);
}

/* Zero, but for no bad row. */
static sl_status clear_sums(const sl_device_state *state, sl_loss_sums *sums) {
	SL_TRY(state->backend->fill(state->device, sums, 0, sizeof *sums));
	return state->backend->fill(state->device, &sums->bad_row, 0xff, sizeof sums->bad_row);
}

static sl_status fill_room(sl_context *context, const sl_model *model, sl_model_room *room) {
	int64_t widest = 0;
	SL_TRY(sli_allocate_zeroed(context, (size_t)(room->boundaries + 1) * sizeof *room->activations,
							   "a model's activations", (void **)&room->activations));
	SL_TRY(sli_allocate_zeroed(context, (size_t)room->layers * sizeof *room->saved, "a model's saved forwards",
							   (void **)&room->saved));
	for (int i = sli_model_sparse(model) ? 1 : 0; i <= room->boundaries; i++) {
		SL_TRY(panel_buffer(context, &room->activations[i], model, room, sli_model_features(model, i), "activations"));
		if ((i || model->divided) && sli_model_features(model, i) > widest)
			widest = sli_model_features(model, i);
	}
	SL_TRY(sli_buffer_create(&room->sums, context, 2 * sizeof(sl_loss_sums), true, "a loss"));
	SL_TRY(clear_sums(room->device, (sl_loss_sums *)room->sums.data + 1));
	if (!sli_on_host(room->device))
		SL_TRY(sli_stage_open(&room->read, room->device, sizeof(sl_loss_sums)));
	if (!room->training)
		return SL_OK;
	for (int i = 0; i < room->layers; i++)
		SL_TRY(sli_saved_create_width(&room->saved[i], context, model->layers[i], room->max_batch, room->width, true,
									  true));
	for (int i = 0; i < 2; i++)
		SL_TRY(panel_buffer(context, &room->gradient[i], model, room, widest, "activation gradients"));
	return SL_OK;
}

static bool enough(sl_context *context, const sl_model *model, int64_t max_batch, sl_mode mode) {
	const sl_model_room *room = &model->room;
	return room->device == sli_device(context) && room->layers == model->count &&
		   room->boundaries == sli_model_outputs(model) && room->max_batch >= max_batch &&
		   (room->training || mode == SL_MODE_INFERENCE);
}

/* Plans follow every edit; what is planned already costs nothing. */
static sl_status prepare_layers(sl_context *context, sl_model *model, int64_t max_batch, int64_t width, bool training) {
	/* The first whose gradient of the inputs is asked for. */
	int lowest = model->divided ? model->divided->stages[0].count : 1;
	for (int i = 0; i < model->count; i++)
		if (model->layers[i]->sparse_inputs || model->layers[i]->streamed || !model->layers[i]->forward_plan ||
			model->layers[i]->planned_width != width || model->layers[i]->planned_batch < max_batch ||
			(training && !model->layers[i]->dw_plan))
			SL_TRY(sli_layer_prepare_width(context, model->layers[i], max_batch, width,
										   training ? SL_MODE_TRAINING : SL_MODE_INFERENCE, i >= lowest));
	return SL_OK;
}

static sl_status prepare(sl_context *context, sl_model *model, int64_t max_batch, sl_mode mode) {
	if (enough(context, model, max_batch, mode))
		return prepare_layers(context, model, model->room.max_batch, model->room.width, model->room.training);
	bool sparse = false;
	sl_device_state *state = sli_device(context);
	for (int i = 0; i < model->count; i++)
		sparse |= !model->layers[i]->dense && !model->layers[i]->sparse_inputs;
	sl_model_room room = {.max_batch = max_batch,
						  .layers = model->count,
						  .boundaries = sli_model_outputs(model),
						  .training = mode == SL_MODE_TRAINING};
	if (model->room.device == state) {
		if (model->room.max_batch > room.max_batch)
			room.max_batch = model->room.max_batch;
		room.training |= model->room.training;
	}
	room.width = state->backend->panel_width(state->device, model->layers[0]->dtype, room.max_batch, sparse);
	room.device = sli_device_retain(state);
	sl_status status = fill_room(context, model, &room);
	if (status == SL_OK && model->divided)
		status = sli_divided_room(context, model, &room);
	if (status == SL_OK)
		status = prepare_layers(context, model, room.max_batch, room.width, room.training);
	if (status != SL_OK) {
		free_room(&room);
		return status;
	}
	sli_model_forget(model);
	model->room = room;
	model->rooms++;
	return SL_OK;
}

/* Add what panels of so many features take. */
static bool add_panels(const sl_model *model, int64_t features, int64_t batch, int64_t width, size_t times,
					   size_t *bytes) {
	size_t one;
	return sli_panel_bytes(features, batch, width, model->layers[0]->dtype, &one) &&
		   !__builtin_mul_overflow(one + 128, times, &one) && !__builtin_add_overflow(*bytes, one, bytes);
}

/* Of a model with streamed layers that was refused memory: the least budget that would do. 0: not known. */
static size_t least_budget(sl_context *context, sl_model *model, int64_t batch, sl_mode mode) {
	sl_device_state *state = sli_device(context);
	bool training = mode == SL_MODE_TRAINING, known = true;
	int64_t width = state->backend->panel_width(state->device, model->layers[0]->dtype, batch, true), widest = 0;
	sl_memory_usage usage = {.struct_size = sizeof usage};
	size_t pass = 0, gradients = 0;
	sli_arena_trim(context);
	sli_heap_usage(sli_heap(context), &usage);
	size_t bytes = usage.current + 65536;
	for (int i = 0; i < model->count; i++) {
		const sl_layer *layer = model->layers[i];
		size_t own = 0;
		known &= add_panels(model, layer->out_features, batch, width, 1, &bytes);
		if (training && sl_activation_saves_input(layer->activation))
			known &= add_panels(model, layer->out_features, batch, width, 1, &bytes);
		widest = layer->out_features > widest ? layer->out_features : widest;
		if (training && !layer->streamed && !layer->gradient.device)
			gradients += (size_t)sli_layer_nnz(layer) * sl_dtype_size(layer->dtype);
		if (layer->streamed)
			known &= sli_streamed_least(context, layer->streamed, batch, width, training, i > 0, &own) == SL_OK;
		else
			known &= add_panels(model, layer->in_features, batch, width, 1, &own);
		known &= add_panels(model, layer->out_features, batch, width, 2, &own);
		pass = own > pass ? own : pass;
	}
	known &= add_panels(model, model->layers[0]->in_features, batch, width, 1, &bytes);
	known &= !training || add_panels(model, widest, batch, width, 2, &bytes);
	return known ? bytes + pass + gradients : 0;
}

/* Say what would do, rather than what was asked for last. */
static sl_status say_least(sl_context *context, sl_model *model, int64_t max_batch, sl_mode mode, sl_status status) {
	bool streamed = false;
	for (int i = 0; i < model->count; i++)
		streamed |= model->layers[i]->streamed != NULL;
	sl_memory_usage usage = {.struct_size = sizeof usage};
	sli_heap_usage(sli_heap(context), &usage);
	size_t least = streamed && status == SL_ERR_BUDGET ? least_budget(context, model, max_batch, mode) : 0;
	if (least <= usage.budget)
		return status;
	return sli_fail(
		context, status,
		"%s batches of %lld takes a memory_budget of at least %zu bytes; it is %zu, of which %zu are in use: "
		"raise it, or make the batch smaller",
		mode == SL_MODE_TRAINING ? "training this model by" : "running this model on", (long long)max_batch, least,
		usage.budget, usage.current);
}

static sl_status prepare_any(sl_context *context, sl_model *model, int64_t max_batch, sl_mode mode) {
	size_t had = sli_arena_bytes(context);
	sl_status status = prepare(context, model, max_batch, mode);
	if (!sli_no_room(status) || sli_plan_mode(context) == SL_PLAN_SPARSE)
		return status;
	/* A layer's dense workspace may have taken what the next needs to be planned at all. */
	bool dense = false;
	for (int i = 0; i < model->count; i++) {
		const sl_layer *layer = model->layers[i];
		const sl_plan *plans[] = {layer->forward_plan, layer->dx_plan, layer->dw_plan};
		for (int k = 0; k < 3; k++)
			dense |= plans[k] && plans[k]->dense;
	}
	if (!dense)
		return status;
	for (int i = 0; i < model->count; i++)
		sli_layer_drop_plans(model->layers[i]);
	sli_arena_trim(context);
	SL_TRY(sli_arena_reserve(context, had));
	sl_plan_mode before = sli_set_plan_mode(context, SL_PLAN_SPARSE);
	status = prepare(context, model, max_batch, mode);
	sli_set_plan_mode(context, before);
	return status;
}

sl_status sli_model_prepare(sl_context *context, sl_model *model, int64_t max_batch, sl_mode mode) {
	sl_status status = prepare_any(context, model, max_batch, mode);
	return status == SL_OK ? SL_OK : say_least(context, model, max_batch, mode, status);
}

sl_dense sli_model_activation(sl_context *context, const sl_model *model, int boundary, int64_t batch) {
	return sli_panels(context, model->room.activations[boundary].data, model->layers[0]->dtype,
					  sli_model_features(model, boundary), batch, model->room.width);
}

sl_dense sli_model_gradient(sl_context *context, const sl_model *model, int which, int64_t features, int64_t batch) {
	return sli_panels(context, model->room.gradient[which].data, model->layers[0]->dtype, features, batch,
					  model->room.width);
}

sl_status sli_model_run_layer(sl_context *context, sl_model *model, int layer, int boundary, int64_t batch,
							  bool training) {
	sl_layer *one = model->layers[layer];
	sl_saved *saved = training ? model->room.saved[layer] : NULL;
	sl_dense y = sli_model_activation(context, model, boundary + 1, batch);
	if (one->sparse_inputs) {
		sl_dense rows = sl_dense_transposed(y);
		return sli_layer_forward_sparse(context, one, &model->inputs, &rows, saved);
	}
	sl_dense x = sli_model_activation(context, model, boundary, batch);
	return sli_layer_forward(context, one, &x, &y, saved);
}

sl_status sli_model_run(sl_context *context, sl_model *model, int64_t batch, sl_mode mode) {
	bool training = mode == SL_MODE_TRAINING;
	model->batch = -1;
	if (model->divided)
		SL_TRY(sli_divided_run(context, model, batch, mode));
	for (int i = 0; i < model->count && !model->divided; i++)
		SL_TRY(sli_model_run_layer(context, model, i, i, batch, training));
	if (training)
		model->batch = batch;
	return SL_OK;
}

sl_status sli_model_back_layer(sl_context *context, sl_model *model, int layer, const sl_dense *dy, sl_dense *dx,
							   sl_write write) {
	sl_layer *one = model->layers[layer];
	if (one->sparse_inputs) {
		sl_dense rows = sl_dense_transposed(*dy);
		SL_TRY(sli_layer_backward_sparse(context, one, model->room.saved[layer], &rows, write,
										 model->watch.see ? &model->watch : NULL));
	} else {
		SL_TRY(sli_layer_backward_watched(context, one, model->room.saved[layer], dy, dx, write,
										  model->watch.see ? &model->watch : NULL));
	}
	return model->done ? model->done(model->done_self, context, layer) : SL_OK;
}

static sl_status back(sl_context *context, sl_model *model, sl_dense *dx, sl_write write) {
	int from = 0;
	if (model->divided)
		return sli_divided_back(context, model, dx, write);
	for (int i = model->count - 1; i >= 0; i--, from = 1 - from) {
		const sl_layer *layer = model->layers[i];
		sl_dense dy = sli_model_gradient(context, model, from, layer->out_features, model->batch);
		sl_dense below = sli_model_gradient(context, model, 1 - from, layer->in_features, model->batch);
		SL_TRY(sli_model_back_layer(context, model, i, &dy, i ? &below : dx, write));
	}
	return SL_OK;
}

sl_status sli_model_back(sl_context *context, sl_model *model, sl_dense *dx, sl_write write) {
	sl_status status = back(context, model, dx, write);
	/* What the layers above have begun belongs to no step. */
	for (int i = 0; i < model->count && status != SL_OK; i++)
		if (model->layers[i]->streamed)
			sli_streamed_abandon(model->layers[i]->streamed);
	return status;
}

static sl_status read_sums(const sl_model_room *room, const sl_loss_sums *from, sl_loss_sums *sums) {
	sl_staging through = room->read;
	if (!room->read.device)
		return sli_fetch(room->device, sums, from, sizeof *sums);
	SL_TRY(sli_stage_fetch(&through, from, sizeof *sums));
	memcpy(sums, through.data, sizeof *sums);
	return SL_OK;
}

static sl_status bad_label(sl_context *context, const sl_placed_targets *targets, int64_t row, int64_t classes) {
	int32_t label = 0;
	SL_TRY(sli_fetch(sli_device(context), &label, targets->labels + row, sizeof label));
	return sli_fail(context, SL_ERR_ARGUMENT, "label %lld is %d; it must be in [0, %lld)", (long long)row, (int)label,
					(long long)classes);
}

sl_status sli_model_loss_at(sl_context *context, sl_model *model, sl_loss loss, int64_t batch,
							const sl_placed_targets *targets, bool gradient, sl_loss_sums *sums) {
	sl_loss_sums fresh;
	sl_dense y = sli_model_activation(context, model, sli_model_outputs(model), batch);
	sl_op_args args = {
		.alpha = 1, .a = y, .labels = targets->labels, .batch = targets->sparse, .result = model->room.sums.data};
	sl_op_desc desc = {
		.kind = SL_OP_LOSS, .variant = (int)loss, .a = sli_desc(&y), .stored_only = targets->stored_only};
	if (targets->dense) {
		args.b = sl_dense_transposed(*targets->dense);
		desc.b = sli_desc(&args.b);
	}
	if (gradient) {
		args.c = sli_model_gradient(context, model, 0, y.rows, batch);
		desc.c = sli_desc(&args.c);
	}
	if (!sums) {
		args.result = (sl_loss_sums *)model->room.sums.data + 1;
		return sli_run(context, &desc, &args);
	}
	SL_TRY(clear_sums(model->room.device, args.result));
	SL_TRY(sli_run(context, &desc, &args));
	SL_TRY(read_sums(&model->room, args.result, &fresh));
	if (fresh.bad_row >= 0)
		return bad_label(context, targets, fresh.bad_row, y.rows);
	sums->loss += fresh.loss;
	sums->rows += fresh.rows;
	sums->correct += fresh.correct;
	sums->counted += fresh.counted;
	return SL_OK;
}

sl_status sli_model_take_loss(sl_context *context, sl_model *model, sl_loss_sums *sums) {
	*sums = (sl_loss_sums){.bad_row = -1};
	if (!model->room.device)
		return SL_OK;
	sl_loss_sums *from = (sl_loss_sums *)model->room.sums.data + 1;
	SL_TRY(read_sums(&model->room, from, sums));
	SL_TRY(clear_sums(model->room.device, from));
	if (sums->bad_row >= 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "label %lld of a batch is out of range; nothing was counted since",
						(long long)sums->bad_row);
	return SL_OK;
}

sl_status sli_model_loss(sl_context *context, sl_model *model, sl_loss loss, int64_t batch, const sl_targets *targets,
						 bool gradient, sl_loss_sums *sums) {
	sl_placed_targets placed = {.labels = targets->labels, .dense = targets->dense};
	sl_sparse_batch sparse;
	if (targets->sparse) {
		sli_sparse_targets(targets->sparse, &sparse);
		placed.sparse = &sparse;
		placed.stored_only = targets->ignore_zeros;
	}
	return sli_model_loss_at(context, model, loss, batch, &placed, gradient, sums);
}
