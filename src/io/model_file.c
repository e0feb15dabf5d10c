/* SPDX-License-Identifier: Apache-2.0 */
/* Models and training states. What is no tensor is JSON in the metadata: "layers", and where there is
 * an optimizer "training", and a schedule of patterns "sparsity". Doubles are written with 17 digits, so they come back
 * as they were. */
#include <stdio.h>
#include <stdlib.h>

#include "core/checked.h"
#include "io/model_file.h"
#include "io/sparsity_text.h"
#include "io/streamed_model.h"
#include "layers/model.h"
#include "train/step.h"

static const char *const state_names[SL_MAX_STATES] = {"m", "v"};
static const char *const parameter_names[SL_MAX_PARAMETERS] = {"weight", "bias"};

/* A value of an enumeration by its name; -1: unknown. */
#define NAMED(function, type)                                                                                          \
	static int type##_named(const char *text) {                                                                        \
		for (int i = 0; text && strcmp(function((type)i), "unknown"); i++)                                             \
			if (!strcmp(function((type)i), text))                                                                      \
				return i;                                                                                              \
		return -1;                                                                                                     \
	}
NAMED(sl_activation_name, sl_activation)
NAMED(sl_loss_name, sl_loss)
NAMED(sl_optimizer_kind_name, sl_optimizer_kind)

/* ---- Saving ---- */

static json_t *describe_layer(const sl_layer *l) {
	return json_pack("{s:s,s:I,s:I,s:b,s:b,s:s,s:f,s:s,s:b,s:[s,s,s]}", "name", l->name, "in_features",
					 (json_int_t)l->in_features, "out_features", (json_int_t)l->out_features, "dense", (int)l->dense,
					 "bias", (int)l->has_bias, "activation", sl_activation_name(l->activation), "activation_parameter",
					 l->activation_parameter, "dtype", sl_dtype_name(l->dtype), "sparse_inputs", (int)l->sparse_inputs,
					 "plans", sli_layer_candidate(l, 0), sli_layer_candidate(l, 1), sli_layer_candidate(l, 2));
}

static json_t *describe_training(const sl_optimizer *optimizer, int64_t steps) {
	const sl_optimizer_options *o = &optimizer->options;
	const sl_schedule *s = &o->schedule;
	return json_pack(
		"{s:s,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:{s:i,s:I,s:I,s:f,s:I,s:f},s:I,s:b}", "optimizer",
		sl_optimizer_kind_name(o->kind), "learning_rate", o->learning_rate, "momentum", o->momentum, "beta1", o->beta1,
		"beta2", o->beta2, "epsilon", o->epsilon, "weight_decay", o->weight_decay, "l1", o->l1, "l1_proximal",
		o->l1_proximal, "l2", o->l2, "clip_norm", o->clip_norm, "clip_value", o->clip_value, "schedule", "kind",
		(int)s->kind, "warmup", (json_int_t)s->warmup, "interval", (json_int_t)s->interval, "gamma", s->gamma, "total",
		(json_int_t)s->total, "final_ratio", s->final_ratio, "steps", (json_int_t)steps, "lazy", (int)o->lazy);
}

static json_t *describe_checkpoint(const sl_checkpoint *c) {
	char seed[24];
	snprintf(seed, sizeof seed, "%llu", (unsigned long long)c->seed); /* JSON's numbers end at 2^63 - 1 */
	return json_pack("{s:I,s:I,s:I,s:I,s:s,s:s}", "epochs_done", (json_int_t)c->epochs_done, "samples_done",
					 (json_int_t)c->samples_done, "batch", (json_int_t)c->batch, "accumulate",
					 (json_int_t)c->accumulate, "loss", sl_loss_name(c->loss), "seed", seed);
}

/* JSON as a text of the metadata, whose values are texts. Takes `value` over. */
static bool put_text(json_t *metadata, const char *key, json_t *value) {
	char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
	json_decref(value);
	bool ok = text && json_object_set_new(metadata, key, json_string(text)) == 0;
	free(text);
	return ok;
}

/* `headers`: of streamed layers' stores, one a layer; NULL: their weights are in the file. */
static json_t *make_metadata(const sl_model *model, const sl_optimizer *optimizer, int64_t steps,
							 const sl_checkpoint *checkpoint, const sl_store_header *headers) {
	json_t *metadata = json_pack("{s:s,s:s}", "format", "sparselayer.model", "version", "1");
	json_t *layers = json_array();
	bool ok = metadata && layers;
	for (int i = 0; i < model->count && ok; i++) {
		json_t *layer = describe_layer(model->layers[i]);
		if (headers && model->layers[i]->streamed)
			json_object_set_new(layer, "store",
								sli_store_record(model->layers[i]->streamed->source->path, &headers[i]));
		ok = json_array_append_new(layers, layer) == 0;
	}
	if (!ok)
		json_decref(layers);
	ok = ok && put_text(metadata, "layers", layers);
	ok = ok && (!optimizer || put_text(metadata, "training", describe_training(optimizer, steps)));
	ok = ok && (!model->sparsity || put_text(metadata, "sparsity", sli_sparsity_describe(model->sparsity)));
	ok = ok && put_text(metadata, "checkpoint", describe_checkpoint(checkpoint));
	if (ok)
		return metadata;
	json_decref(metadata);
	return NULL;
}

static void put_array(sl_tensor_source *t, const sl_parameter *p, int layer, int index, const char *ending,
					  const void *data) {
	bool matrix = index == 0 && !p->pattern;
	*t = (sl_tensor_source){.dtype = p->dtype, .dimensions = matrix ? 2 : 1, .data = data, .placed = true};
	t->shape[0] = matrix ? p->rows : p->count;
	t->shape[1] = matrix ? p->cols : 0;
	snprintf(t->name, sizeof t->name, "layers.%d.%s%s%s", layer, parameter_names[index], *ending ? "." : "", ending);
}

/* Pattern, values and moments of a streamed layer. */
static void put_stored(const sl_streamed *streamed, const sl_parameter *p, int layer, int states,
					   sl_tensor_source *tensors, int *count) {
	int64_t rows = streamed->source->rows, nnz = streamed->source->nnz;
	for (int a = SL_STORE_OFFSETS; a <= states; a++) {
		sl_tensor_source *t = &tensors[(*count)++];
		put_array(t, p, layer, 0,
				  a == SL_STORE_OFFSETS   ? "row_offsets"
				  : a == SL_STORE_COLUMNS ? "col_indices"
				  : a                     ? state_names[a - 1]
										  : "values",
				  NULL);
		t->dimensions = 1;
		t->shape[0] = a == SL_STORE_OFFSETS ? rows + 1 : nnz;
		t->dtype = a == SL_STORE_OFFSETS ? sli_offset_dtype(nnz) : a == SL_STORE_COLUMNS ? SL_I32 : p->dtype;
		t->store = streamed->store;
		t->array = a;
	}
}

/* `gather`: weights of streamed layers too. */
static sl_status put_layer(sl_context *context, const sl_model *model, const sl_optimizer *optimizer, int i,
						   bool gather, sl_tensor_source *tensors, int *count) {
	const sl_layer *layer = model->layers[i];
	const sl_optimizer_entry *entry = optimizer ? sli_optimizer_find(optimizer, layer) : NULL;
	if (entry && entry->edition != layer->edition)
		return sli_fail(context, SL_ERR_STATE,
						"layer \"%s\" was edited without its optimizer, whose state no longer fits", layer->name);
	for (int p = 0; p < sl_layer_parameter_count(layer); p++) {
		sl_parameter parameter = {.struct_size = sizeof parameter};
		SL_TRY(sl_layer_parameter(context, layer, p, &parameter));
		char prefix[64];
		if (parameter.streamed) {
			if (gather)
				put_stored(layer->streamed, &parameter, i,
						   optimizer ? sli_optimizer_states(optimizer->options.kind) : 0, tensors, count);
			continue;
		}
		snprintf(prefix, sizeof prefix, "layers.%d.%s", i, parameter_names[p]);
		if (parameter.pattern) {
			sli_safetensors_put_pattern(tensors + *count, prefix, parameter.pattern);
			*count += 2;
		}
		put_array(&tensors[(*count)++], &parameter, i, p, parameter.pattern ? "values" : "", parameter.value);
		for (int s = 0; optimizer && s < sli_optimizer_states(optimizer->options.kind); s++) {
			void *values;
			SL_TRY(sl_optimizer_state(context, optimizer, layer, p, s, &values));
			put_array(&tensors[(*count)++], &parameter, i, p, state_names[s], values);
		}
	}
	return SL_OK;
}

static sl_status save(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
					  const sl_checkpoint *checkpoint, const sl_store_header *headers, const char *path) {
	enum { MOST_PER_LAYER = 3 + 1 + SL_MAX_PARAMETERS * SL_MAX_STATES };
	sl_tensor_source *tensors;
	int count = 0;
	int64_t steps = 0, skipped;
	double norm;
	if (optimizer)
		SL_TRY(sli_step_now(optimizer, &steps, &skipped, &norm));
	size_t bytes = (size_t)model->count * MOST_PER_LAYER * sizeof *tensors;
	SL_TRY(sli_allocate(context, bytes, "a file's header", (void **)&tensors));
	sl_status status = SL_OK;
	for (int i = 0; i < model->count && status == SL_OK; i++)
		status = put_layer(context, model, optimizer, i, !headers, tensors, &count);
	if (status == SL_OK)
		status = sli_safetensors_write(context, path, make_metadata(model, optimizer, steps, checkpoint, headers),
									   tensors, count);
	sli_heap_free(sli_heap(context), tensors, bytes);
	return status;
}

/* Streamed layers that are between two steps, and have a store. */
static sl_status check_streamed(sl_context *context, const sl_model *model) {
	for (int i = 0; i < model->count; i++) {
		const sl_streamed *s = model->layers[i]->streamed;
		if (s && !s->store)
			return sli_fail(context, SL_ERR_UNSUPPORTED, "layer \"%s\" is read from %s and cannot be saved",
							model->layers[i]->name, s->source->path);
		if (s && s->state != SL_STREAMED_IDLE)
			return sli_fail(context, SL_ERR_STATE, "layer \"%s\" %s", model->layers[i]->name,
							s->state == SL_STREAMED_LOST ? "lost its steps since the last commit"
														 : "is in the middle of a step: sl_optimizer_step() ends it");
	}
	return SL_OK;
}

sl_status sli_model_save(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
						 const sl_checkpoint *checkpoint, const char *path) {
	SL_TRY(check_streamed(context, model));
	return save(context, model, optimizer, checkpoint, NULL, path);
}

sl_status sli_model_commit(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
						   const sl_checkpoint *checkpoint, const char *path) {
	sl_store_header *headers;
	size_t bytes = (size_t)model->count * sizeof *headers;
	SL_TRY(check_streamed(context, model));
	SL_TRY(sli_allocate_zeroed(context, bytes, "a model's stores", (void **)&headers));
	json_t *before = sli_stores_of(context, path);
	sl_status status = SL_OK;
	/* All of it is on disk before the file that names it is. */
	for (int i = 0; i < model->count && status == SL_OK; i++)
		if (model->layers[i]->streamed)
			status = sli_store_seal(context, model->layers[i]->streamed->store, &headers[i]);
	if (status == SL_OK)
		status = save(context, model, optimizer, checkpoint, headers, path);
	for (int i = 0; i < model->count && status == SL_OK; i++)
		if (model->layers[i]->streamed)
			sli_store_sealed(model->layers[i]->streamed->store, &headers[i]);
	if (status == SL_OK)
		sli_remove_stores(before, model, path);
	json_decref(before);
	sli_heap_free(sli_heap(context), headers, bytes);
	return status;
}

/* ---- Loading ---- */

static sl_status bad(sl_safetensors *f, const char *what) {
	return sli_fail(f->context, SL_ERR_FORMAT, "%s: the metadata's %s", f->path, what);
}

/* JSON out of a text of the metadata; NULL with a message. */
static sl_status parse_text(sl_safetensors *f, const char *key, json_t **value) {
	const char *text = sli_safetensors_text(f, key);
	*value = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
	return *value ? SL_OK
				  : sli_fail(f->context, SL_ERR_FORMAT, "%s: the metadata's \"%s\" is %s", f->path, key,
							 text ? "no JSON" : "missing");
}

static int64_t integer_of(const json_t *object, const char *key) {
	const json_t *value = json_object_get(object, key);
	return json_is_integer(value) ? json_integer_value(value) : -1;
}

static double number_of(const json_t *object, const char *key) {
	return json_number_value(json_object_get(object, key));
}

static sl_dtype dtype_named(const char *text) {
	return text && !strcmp(text, "f32") ? SL_F32 : text && !strcmp(text, "f64") ? SL_F64 : 0;
}

static sl_status parse_layer(sl_safetensors *f, const json_t *json, sl_linear_options *o) {
	int activation = sl_activation_named(json_string_value(json_object_get(json, "activation")));
	*o = (sl_linear_options){SL_LINEAR_DEFAULTS,
							 .in_features = integer_of(json, "in_features"),
							 .out_features = integer_of(json, "out_features"),
							 .dense = json_is_true(json_object_get(json, "dense")),
							 .bias = json_is_true(json_object_get(json, "bias")),
							 .activation = (sl_activation)activation,
							 .activation_parameter = number_of(json, "activation_parameter"),
							 .dtype = dtype_named(json_string_value(json_object_get(json, "dtype"))),
							 .name = json_string_value(json_object_get(json, "name")),
							 .sparse_inputs = json_is_true(json_object_get(json, "sparse_inputs")),
							 .init = SL_INIT_ZERO};
	if (o->in_features < 0 || o->out_features < 0 || activation < 0 || !o->dtype || !o->name)
		return bad(f, "\"layers\" has a layer whose sizes, activation, dtype or name are missing or unknown");
	return SL_OK;
}

/* An array of a known shape into memory that is there. */
static sl_status load_array(sl_safetensors *f, const char *name, const sl_parameter *p, int index, void *to) {
	sl_tensor t;
	bool matrix = index == 0 && !p->pattern;
	SL_TRY(sli_safetensors_find(f, name, p->dtype, matrix ? 2 : 1, &t));
	if (t.count != p->count || (matrix && t.shape[0] != p->rows))
		return sli_fail(f->context, SL_ERR_SHAPE, "%s: tensor \"%s\" has %lld elements; the layer has %lld there",
						f->path, name, (long long)t.count, (long long)p->count);
	return sli_safetensors_place(f, &t, to);
}

/* Sizes are compared with what is in the file before memory is taken for them. */
static sl_status check_dense(sl_safetensors *f, int i, const sl_linear_options *o) {
	char name[64];
	sl_tensor t;
	snprintf(name, sizeof name, "layers.%d.weight", i);
	SL_TRY(sli_safetensors_find(f, name, o->dtype, 2, &t));
	int64_t rows = o->sparse_inputs ? o->in_features : o->out_features;
	int64_t cols = o->sparse_inputs ? o->out_features : o->in_features;
	if (t.shape[0] != rows || t.shape[1] != cols)
		return sli_fail(f->context, SL_ERR_SHAPE, "%s: tensor \"%s\" is %lld x %lld; the layer is %lld x %lld", f->path,
						name, (long long)t.shape[0], (long long)t.shape[1], (long long)rows, (long long)cols);
	return SL_OK;
}

/* How it was planned. Files may lack it, and names may be of another version: then it is planned anew. */
static void take_plans(const json_t *json, sl_layer *layer) {
	const json_t *plans = json_object_get(json, "plans");
	for (size_t i = 0; i < SL_LAYER_PLANS && i < json_array_size(plans); i++) {
		const char *name = json_string_value(json_array_get(plans, i));
		if (name && strlen(name) < SL_PINNED)
			strcpy(layer->pinned[i], name);
	}
}

static sl_status make_layer(sl_safetensors *f, int i, const json_t *json, const sl_read_limits *limits,
							const sl_model_reading *how, sl_layer **layer) {
	sl_linear_options o;
	char name[64];
	sl_pattern *pattern = NULL;
	sl_streamed *streamed;
	SL_TRY(parse_layer(f, json, &o));
	SL_TRY(sli_store_recorded(f, json, &streamed));
	snprintf(name, sizeof name, "layers.%d.weight", i);
	if (!streamed && how && !o.dense && !o.sparse_inputs)
		SL_TRY(sli_weights_in_file(f, i, &o, limits, how, &streamed));
	if (o.dense)
		SL_TRY(check_dense(f, i, &o));
	else if (!streamed)
		SL_TRY(sli_safetensors_pattern(f, name, o.sparse_inputs ? o.in_features : o.out_features,
									   o.sparse_inputs ? o.out_features : o.in_features, limits, &pattern));
	o.pattern = pattern;
	sl_status status = sli_linear_create(layer, f->context, &o, streamed);
	sl_pattern_release(pattern);
	if (status != SL_OK)
		sli_streamed_destroy(streamed);
	if (status == SL_OK)
		take_plans(json, *layer);
	for (int p = 0; status == SL_OK && p < sl_layer_parameter_count(*layer); p++) {
		sl_parameter parameter = {.struct_size = sizeof parameter};
		status = sl_layer_parameter(f->context, *layer, p, &parameter);
		snprintf(name, sizeof name, "layers.%d.%s%s", i, parameter_names[p], parameter.pattern ? ".values" : "");
		if (status == SL_OK && !parameter.streamed)
			status = load_array(f, name, &parameter, p, parameter.value);
	}
	if (status != SL_OK) {
		sl_layer_destroy(*layer);
		*layer = NULL;
	}
	return status;
}

static sl_status check_format(sl_safetensors *f) {
	const char *format = sli_safetensors_text(f, "format"), *version = sli_safetensors_text(f, "version");
	if (!format || strcmp(format, "sparselayer.model"))
		return sli_fail(f->context, SL_ERR_FORMAT, "%s: no model: its metadata's format is \"%.40s\"", f->path,
						format ? format : "");
	if (!version || strcmp(version, "1"))
		return sli_fail(f->context, SL_ERR_UNSUPPORTED, "%s: written in version \"%.20s\" of the format; 1 is read",
						f->path, version ? version : "");
	return SL_OK;
}

sl_status sli_model_file_layer(sl_safetensors *f, int index, const sl_read_limits *limits, sl_layer **layer) {
	json_t *layers;
	*layer = NULL;
	SL_TRY(check_format(f));
	SL_TRY(parse_text(f, "layers", &layers));
	sl_status status = json_is_array(layers) && (size_t)index < json_array_size(layers)
						   ? make_layer(f, index, json_array_get(layers, (size_t)index), limits, NULL, layer)
						   : bad(f, "\"layers\" lacks a layer");
	json_decref(layers);
	return status;
}

static sl_status load_layers(sl_safetensors *f, const sl_read_limits *limits, const sl_model_reading *how,
							 sl_model *model) {
	json_t *layers;
	SL_TRY(check_format(f));
	SL_TRY(parse_text(f, "layers", &layers));
	sl_status status = json_is_array(layers) ? SL_OK : bad(f, "\"layers\" is no list");
	for (size_t i = 0; i < json_array_size(layers) && status == SL_OK; i++) {
		sl_layer *layer;
		status = make_layer(f, (int)i, json_array_get(layers, i), limits, how, &layer);
		if (status != SL_OK)
			break;
		status = sl_model_add(f->context, model, layer);
		if (status != SL_OK)
			sl_layer_destroy(layer);
	}
	json_decref(layers);
	return status;
}

static sl_status parse_training(sl_safetensors *f, const json_t *json, sl_optimizer_options *o, int64_t *steps) {
	int kind = sl_optimizer_kind_named(json_string_value(json_object_get(json, "optimizer")));
	const json_t *schedule = json_object_get(json, "schedule");
	if (kind < 0 || !json_is_object(schedule))
		return bad(f, "\"training\" names no optimizer or schedule that is known");
	*steps = integer_of(json, "steps");
	if (*steps < 0)
		return bad(f, "\"training\" has no valid count of steps");
	*o = (sl_optimizer_options){SL_OPTIMIZER_DEFAULTS,
								.kind = (sl_optimizer_kind)kind,
								.learning_rate = number_of(json, "learning_rate"),
								.momentum = number_of(json, "momentum"),
								.beta1 = number_of(json, "beta1"),
								.beta2 = number_of(json, "beta2"),
								.epsilon = number_of(json, "epsilon"),
								.weight_decay = number_of(json, "weight_decay"),
								.l1 = number_of(json, "l1"),
								.l1_proximal = number_of(json, "l1_proximal"),
								.l2 = number_of(json, "l2"),
								.clip_norm = number_of(json, "clip_norm"),
								.clip_value = number_of(json, "clip_value"),
								.lazy = json_is_true(json_object_get(json, "lazy")),
								.schedule = {.kind = (sl_schedule_kind)integer_of(schedule, "kind"),
											 .warmup = integer_of(schedule, "warmup"),
											 .interval = integer_of(schedule, "interval"),
											 .gamma = number_of(schedule, "gamma"),
											 .total = integer_of(schedule, "total"),
											 .final_ratio = number_of(schedule, "final_ratio")}};
	return SL_OK;
}

sl_status sli_model_file_moments(sl_safetensors *f, int index, const sl_layer *layer, sl_optimizer *optimizer) {
	for (int p = 0; p < sl_layer_parameter_count(layer); p++)
		for (int s = 0; s < sli_optimizer_states(optimizer->options.kind); s++) {
			sl_parameter parameter = {.struct_size = sizeof parameter};
			char name[64];
			void *values;
			SL_TRY(sl_layer_parameter(f->context, layer, p, &parameter));
			if (parameter.streamed)
				continue;
			SL_TRY(sl_optimizer_state(f->context, optimizer, layer, p, s, &values));
			snprintf(name, sizeof name, "layers.%d.%s.%s", index, parameter_names[p], state_names[s]);
			SL_TRY(load_array(f, name, &parameter, p, values));
		}
	return SL_OK;
}

static sl_status load_moments(sl_safetensors *f, const sl_model *model, sl_optimizer *optimizer) {
	for (int i = 0; i < model->count; i++)
		SL_TRY(sli_model_file_moments(f, i, model->layers[i], optimizer));
	return SL_OK;
}

sl_status sli_model_file_optimizer(sl_safetensors *f, sl_model *model, sl_optimizer **optimizer) {
	json_t *training;
	sl_optimizer_options o;
	int64_t steps = 0;
	if (!sli_safetensors_text(f, "training"))
		return SL_OK;
	SL_TRY(parse_text(f, "training", &training));
	sl_status status = parse_training(f, training, &o, &steps);
	json_decref(training);
	SL_TRY(status);
	SL_TRY(sl_optimizer_create(optimizer, f->context, &o));
	sli_optimizer_set_steps(*optimizer, steps);
	return sl_model_add_to_optimizer(f->context, model, *optimizer);
}

static sl_status load_training(sl_safetensors *f, sl_model *model, sl_optimizer **optimizer) {
	SL_TRY(sli_model_file_optimizer(f, model, optimizer));
	return *optimizer ? load_moments(f, model, *optimizer) : SL_OK;
}

sl_status sli_model_file_sparsity(sl_safetensors *f, sl_model *model) {
	json_t *json;
	if (!sli_safetensors_text(f, "sparsity"))
		return SL_OK;
	SL_TRY(parse_text(f, "sparsity", &json));
	sl_status status = SL_OK;
	/* Blocks come from several files: those that are there now are governed. */
	if (model->divided && json_is_object(json))
		status = sli_sparsity_govern(f->context, json, model);
	if (status == SL_OK)
		status = sli_sparsity_parse(f->context, f->path, json, model);
	json_decref(json);
	return status;
}

sl_status sli_model_file_checkpoint(sl_safetensors *f, sl_checkpoint *c) {
	json_t *json;
	SL_TRY(parse_text(f, "checkpoint", &json));
	int loss = sl_loss_named(json_string_value(json_object_get(json, "loss")));
	const char *seed = json_string_value(json_object_get(json, "seed"));
	*c = (sl_checkpoint){.struct_size = sizeof *c,
						 .epochs_done = integer_of(json, "epochs_done"),
						 .samples_done = integer_of(json, "samples_done"),
						 .batch = integer_of(json, "batch"),
						 .accumulate = integer_of(json, "accumulate"),
						 .loss = (sl_loss)loss,
						 .seed = seed ? strtoull(seed, NULL, 10) : 0};
	json_decref(json);
	if (c->epochs_done < 0 || c->samples_done < 0 || c->batch < 0 || c->accumulate < 0 || loss < 0)
		return bad(f, "\"checkpoint\" is not valid");
	if (c->seed != sli_seed(f->context))
		sli_log(f->context, SL_LOG_WARNING,
				"%s was trained with seed %llu, this context has %llu: training goes on, but not bit for bit", f->path,
				(unsigned long long)c->seed, (unsigned long long)sli_seed(f->context));
	return SL_OK;
}

sl_status sli_model_load(sl_model **model, sl_optimizer **optimizer, sl_checkpoint *checkpoint, sl_context *context,
						 const char *path, const sl_read_limits *limits, const sl_model_reading *how) {
	sl_safetensors f;
	SL_TRY(sli_safetensors_open(&f, context, path, limits));
	sl_status status = sl_model_create(model, context);
	if (status == SL_OK)
		status = load_layers(&f, limits, how, *model);
	if (status == SL_OK && optimizer)
		status = load_training(&f, *model, optimizer);
	if (status == SL_OK && optimizer)
		status = sli_model_file_sparsity(&f, *model);
	if (status == SL_OK)
		status = sli_model_file_checkpoint(&f, checkpoint);
	sli_safetensors_close(&f);
	if (status != SL_OK) {
		sl_model_destroy(*model);
		*model = NULL;
		if (optimizer) {
			sl_optimizer_destroy(*optimizer);
			*optimizer = NULL;
		}
	}
	return status;
}
