/* SPDX-License-Identifier: Apache-2.0 */
#include "io/sparsity_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/host.h"

json_t *sli_sparsity_describe(const sl_sparsity *s) {
	const sl_sparsity_options *o = &s->options;
	char stream[24];
	snprintf(stream, sizeof stream, "%llu", (unsigned long long)o->stream); /* JSON's numbers end at 2^63 - 1 */
	json_t *layers = json_array();
	bool ok = layers != NULL;
	for (int i = 0; i < s->count && ok; i++)
		ok = json_array_append_new(layers, json_pack("{s:i,s:I,s:I}", "index", s->layers[i].index, "first",
													 (json_int_t)s->layers[i].first, "final",
													 (json_int_t)s->layers[i].final)) == 0;
	if (!ok) {
		json_decref(layers);
		return NULL;
	}
	/* JSON has no infinity: where there is no limit, none is written. */
	double spread = o->spread < HUGE_VAL ? o->spread : 0;
	return json_pack("{s:s,s:i,s:I,s:I,s:I,s:f,s:i,s:s,s:I,s:I,s:f,s:i,s:i,s:o}", "method",
					 sl_sparse_method_name(o->method), "budget", (int)o->budget, "interval", (json_int_t)o->interval,
					 "begin", (json_int_t)o->begin, "end", (json_int_t)o->end, "drop", o->drop, "decay", (int)o->decay,
					 "stream", stream, "steps", (json_int_t)s->steps, "edits", (json_int_t)s->edits, "spread", spread,
					 "n", o->n, "m", o->m, "layers", layers);
}

static int64_t integer(const json_t *object, const char *key) {
	const json_t *value = json_object_get(object, key);
	return json_is_integer(value) ? json_integer_value(value) : -1;
}

sl_status sli_sparsity_govern(sl_context *context, json_t *json, const sl_model *model) {
	json_t *layers = json_array();
	bool ok = layers != NULL;
	for (int i = 0; i < model->count && ok; i++) {
		json_int_t entries = (json_int_t)sli_layer_nnz(model->layers[i]);
		if (!model->layers[i]->dense && !model->layers[i]->sparse_inputs)
			ok = json_array_append_new(layers,
									   json_pack("{s:i,s:I,s:I}", "index", i, "first", entries, "final", entries)) == 0;
	}
	ok = ok && json_object_set(json, "layers", layers) == 0;
	json_decref(layers);
	return ok ? SL_OK : sli_fail(context, SL_ERR_MEMORY, "no memory for a schedule's layers");
}

static sl_status bad(sl_context *context, const char *path, const char *what) {
	return sli_fail(context, SL_ERR_FORMAT, "%s: the metadata's \"sparsity\" %s", path, what);
}

static sl_status parse_layers(sl_context *context, const char *path, const json_t *list, const sl_model *model,
							  const sl_sparsity_options *o, sl_governed *layers) {
	bool rigl = o->method == SL_SPARSE_RIGL, sparse = rigl || o->method == SL_SPARSE_SET;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *one = json_array_get(list, i);
		sl_governed *g = &layers[i];
		int64_t index = integer(one, "index");
		*g = (sl_governed){.first = integer(one, "first"), .final = integer(one, "final"), .seen = -1};
		if (index < (i ? layers[i - 1].index + 1 : 0) || index >= model->count || g->first < 0 || g->final < 0 ||
			g->final > g->first)
			return bad(context, path, "has a layer that the model lacks, out of order, or with a wrong count");
		g->index = (int)index;
		if (sparse && (model->layers[index]->dense || (rigl && o->n && model->layers[index]->sparse_inputs)))
			return bad(context, path, "governs a layer that its method cannot");
	}
	return SL_OK;
}

sl_status sli_sparsity_parse(sl_context *context, const char *path, const json_t *json, sl_model *model) {
	const char *method = json_string_value(json_object_get(json, "method"));
	const char *stream = json_string_value(json_object_get(json, "stream"));
	const json_t *list = json_object_get(json, "layers");
	sl_sparsity_options given = {SL_SPARSITY_DEFAULTS,
								 .method = (sl_sparse_method)-1,
								 .budget = (sl_budget)integer(json, "budget"),
								 .interval = integer(json, "interval"),
								 .begin = integer(json, "begin"),
								 .end = integer(json, "end"),
								 .drop = json_number_value(json_object_get(json, "drop")),
								 .decay = (sl_drop_decay)integer(json, "decay"),
								 .stream = stream ? strtoull(stream, NULL, 10) : 0},
						o;
	if (json_object_get(json, "n")) {
		int64_t n = integer(json, "n"), m = integer(json, "m");
		given.n = n >= 0 && n <= INT32_MAX ? (int)n : -1;
		given.m = m >= 0 && m <= INT32_MAX ? (int)m : -1;
	}
	/* A schedule of a file that knows of no limit had none. */
	given.spread = json_number_value(json_object_get(json, "spread"));
	given.spread = given.spread != 0 ? given.spread : HUGE_VAL;
	for (int m = SL_SPARSE_STATIC; method && m <= SL_SPARSE_L1; m++)
		if (!strcmp(method, sl_sparse_method_name((sl_sparse_method)m)))
			given.method = (sl_sparse_method)m;
	int64_t steps = integer(json, "steps"), edits = integer(json, "edits");
	if (steps < 0 || edits < 0 || !json_is_array(list) || json_array_size(list) > (size_t)model->count)
		return bad(context, path, "has no valid steps, edits or layers");
	if (sli_sparsity_resolve(context, model, &given, &o) != SL_OK)
		return bad(context, path, "has an option that is unknown or out of range");
	void *memory;
	size_t count = json_array_size(list);
	SL_TRY(sli_host_context(context, &context));
	sl_arena_mark mark = sli_arena_mark(context);
	SL_TRY(sli_arena_take(context, count * sizeof(sl_governed), &memory));
	sl_status status = parse_layers(context, path, list, model, &o, memory);
	if (status == SL_OK)
		status = sli_sparsity_adopt(context, model, &o, memory, (int)count, steps, edits);
	sli_arena_reset(context, mark);
	return status;
}
