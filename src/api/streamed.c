/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/checks.h"
#include "core/checked.h"
#include "io/io.h"
#include "layers/layer.h"

/* A new folder in `folder`, named after the layer. */
static sl_status make_folder(sl_context *context, const char *folder, const char *name, char path[PATH_MAX]) {
	char plain[64];
	size_t n = 0;
	for (; name[n] && n + 1 < sizeof plain; n++)
		plain[n] = isalnum((unsigned char)name[n]) || (n && strchr("-_", name[n])) ? name[n] : '_';
	plain[n] = 0;
	for (int k = 0; k < 1000000; k++) {
		int length = snprintf(path, PATH_MAX, "%s/%s.%d", folder, plain, k);
		if (length < 0 || length > PATH_MAX - 16)
			return sli_fail(context, SL_ERR_ARGUMENT, "folder is too long a path");
		if (!mkdir(path, 0777))
			return SL_OK;
		if (errno != EEXIST)
			break;
	}
	return sli_fail(context, errno == ENOENT || errno == ENOTDIR ? SL_ERR_NOT_FOUND : SL_ERR_IO,
					"making a store in %s failed: %s", folder, strerror(errno));
}

/* Weights as sl_linear_create() draws them, for a pattern that is in memory. */
typedef struct drawn {
	sl_pattern_arrays a;
	sl_init_run run;
	int32_t *others;
	size_t others_bytes;
} drawn;

static int64_t draw_rows(void *user, int64_t first_row, int64_t max_rows, int64_t max_entries, int32_t *offsets,
						 int32_t *columns, void *values) {
	drawn *d = user;
	int64_t rows = 0, used = 0;
	size_t size = sl_dtype_size(d->run.options->dtype);
	offsets[0] = 0;
	for (; rows < max_rows; rows++) {
		int64_t begin = sli_index(d->a.row_offsets, d->a.offset_dtype, first_row + rows);
		int64_t count = sli_index(d->a.row_offsets, d->a.offset_dtype, first_row + rows + 1) - begin;
		if (used + count > max_entries)
			break;
		if (count)
			memcpy(columns + used, d->a.col_indices + begin, (size_t)count * sizeof *columns);
		sli_init_row(&d->run, columns + used, count, (char *)values + (size_t)used * size);
		used += count;
		offsets[rows + 1] = (int32_t)used;
	}
	return rows ? rows : -1;
}

static sl_status draw_store(sl_context *context, const sl_linear_options *o, sl_pattern *pattern, const char *path,
							int states, sl_store_header *made) {
	drawn d = {.a = sli_pattern_arrays(pattern)};
	sl_source *source = NULL;
	if (!sli_bytes(d.a.cols, sizeof(int32_t), &d.others_bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld columns", (long long)d.a.cols);
	SL_TRY(sli_allocate_zeroed(context, d.others_bytes, "counts of connections", (void **)&d.others));
	for (int64_t i = 0; i < d.a.nnz; i++)
		d.others[d.a.col_indices[i]]++;
	d.run = sli_init_run(context, o, d.others);
	sl_status status =
		sl_source_create_callback(&source, context, d.a.rows, d.a.cols, d.a.nnz, o->dtype, draw_rows, &d);
	if (status == SL_OK)
		status = sli_store_create(context, &sli_disk, path, source, states, SL_STORE_SEGMENT, made);
	sl_source_destroy(source);
	sli_heap_free(sli_heap(context), d.others, d.others_bytes);
	return status;
}

static sl_status fill_store(sl_context *context, const sl_linear_options *o, const sl_streamed_options *s,
							const char *path, sl_store_header *made) {
	int states = sli_optimizer_states(s->optimizer);
	sl_pattern *pattern = NULL;
	sl_source *source = s->weights;
	if (source)
		return sli_store_create(context, &sli_disk, path, source, states, SL_STORE_SEGMENT, made);
	if (o->weights) {
		SL_TRY(sl_source_create_csr(&source, context, (sl_csr *)(uintptr_t)o->weights));
		sl_status status = sli_store_create(context, &sli_disk, path, source, states, SL_STORE_SEGMENT, made);
		sl_source_destroy(source);
		return status;
	}
	if (o->pattern)
		SL_TRY(sli_pattern_make_host(context, o->pattern));
	if (o->pattern)
		pattern = sl_pattern_retain(o->pattern);
	else if (o->density == 0 || o->density == 1)
		SL_TRY(sl_pattern_full(&pattern, context, o->out_features, o->in_features));
	else
		SL_TRY(sl_pattern_random(&pattern, context, o->out_features, o->in_features, o->density, o->stream));
	sl_pattern_arrays a = sli_pattern_arrays(pattern);
	sl_status status =
		a.rows == o->out_features && a.cols == o->in_features
			? draw_store(context, o, pattern, path, states, made)
			: sli_fail(context, SL_ERR_SHAPE, "pattern is %lldx%lld; the layer needs %lldx%lld", (long long)a.rows,
					   (long long)a.cols, (long long)o->out_features, (long long)o->in_features);
	sl_pattern_release(pattern);
	return status;
}

static sl_status take_options(sl_context *context, const sl_linear_options *options,
							  const sl_streamed_options *streamed, sl_linear_options *o, sl_streamed_options *s) {
	SL_TRY(sli_take_struct(context, o, sizeof *o, options, "options"));
	SL_TRY(sli_take_struct(context, s, sizeof *s, streamed, "streamed"));
	if (!s->folder)
		return sli_fail(context, SL_ERR_NULL, "streamed.folder is null");
	if (sl_context_device(context) != SL_DEVICE_CPU)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "streamed layers run on the CPU so far");
	if (o->dense || o->sparse_inputs)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "a streamed layer cannot %s",
						o->dense ? "be dense" : "take sparse inputs");
	if ((o->pattern != NULL) + (o->weights != NULL) + (s->weights != NULL) > 1)
		return sli_fail(context, SL_ERR_ARGUMENT, "more than one of pattern, weights and streamed.weights is given");
	if (o->in_features < 0 || o->out_features < 0 || !(o->density >= 0 && o->density <= 1))
		return sli_fail(context, SL_ERR_ARGUMENT, "in_features, out_features or density is out of range");
	if (s->optimizer < SL_SGD || s->optimizer > SL_ADAMW)
		return sli_fail(context, SL_ERR_ARGUMENT, "optimizer %d is unknown", (int)s->optimizer);
	if (s->stream.slots && (s->stream.slots < 2 || s->stream.slots > SL_STREAM_SLOTS))
		return sli_fail(context, SL_ERR_ARGUMENT, "slots is %d; it is 2 to %d", s->stream.slots, SL_STREAM_SLOTS);
	if (!o->dtype)
		o->dtype = s->weights ? s->weights->dtype : o->weights ? o->weights->dtype : SL_F32;
	s->stream.events = NULL; /* of which call? */
	return SL_OK;
}

sl_status sl_linear_create_streamed(sl_layer **layer, sl_context *context, const sl_linear_options *options,
									const sl_streamed_options *streamed) {
	sl_linear_options o;
	sl_streamed_options s;
	sl_store_header header;
	sl_store *store;
	sl_streamed *weights = NULL;
	char path[PATH_MAX];
	if (layer)
		*layer = NULL;
	if (!context)
		return SL_ERR_NULL;
	if (!layer)
		return sli_fail(context, SL_ERR_NULL, "layer is null");
	SL_TRY(take_options(context, options, streamed, &o, &s));
	SL_TRY(make_folder(context, s.folder, o.name ? o.name : "linear", path));
	sl_status status = fill_store(context, &o, &s, path, &header);
	if (status == SL_OK)
		status = sli_store_open(&store, context, &sli_disk, path, SL_DURABLE_CHECKPOINT, &header);
	if (status == SL_OK)
		status = sli_streamed_create(&weights, context, store, NULL, &s.stream);
	o.pattern = NULL;
	o.weights = NULL;
	o.density = 0;
	if (status == SL_OK)
		status = sli_linear_create(layer, context, &o, weights);
	if (status != SL_OK) {
		sli_streamed_destroy(weights);
		sli_store_remove(path);
	}
	return status;
}

sl_status sl_layer_get_streamed(sl_context *context, const sl_layer *layer, sl_streamed_info *info) {
	if (!context)
		return SL_ERR_NULL;
	if (!layer)
		return sli_fail(context, SL_ERR_NULL, "layer is null");
	if (!layer->streamed)
		return sli_fail(context, SL_ERR_ARGUMENT, "layer \"%s\" is in memory", layer->name);
	const sl_streamed *s = layer->streamed;
	sl_streamed_info own = {
		.nnz = s->source->nnz, .bytes_read = s->bytes_read, .bytes_written = s->bytes_written, .seconds = s->seconds};
	if (s->store) {
		sl_store_info store = {.struct_size = sizeof store};
		SL_TRY(sl_store_get_info(context, s->store, &store));
		own.steps = store.steps;
		own.durable = store.durable;
		own.store_bytes = store.bytes;
	}
	return sli_give_struct(context, info, &own, sizeof own, "info");
}

/* The file is to be in the folder of the stores, by the names of whose folders it finds them again. */
static sl_status check_folder(sl_context *context, const sl_model *model, const char *path) {
	char copy[PATH_MAX], here[PATH_MAX], there[PATH_MAX];
	if (strlen(path) >= sizeof copy)
		return sli_fail(context, SL_ERR_ARGUMENT, "path is too long");
	if (!realpath(dirname(strcpy(copy, path)), here))
		return sli_fail(context, SL_ERR_NOT_FOUND, "%s: the folder does not exist", path);
	for (int i = 0; i < model->count; i++) {
		const sl_streamed *s = model->layers[i]->streamed;
		if (!s || strlen(s->source->path) >= sizeof copy)
			continue;
		if (!realpath(dirname(strcpy(copy, s->source->path)), there) || strcmp(here, there))
			return sli_fail(context, SL_ERR_ARGUMENT, "%s is not in the folder of layer \"%s\"'s store, %s", path,
							model->layers[i]->name, s->source->path);
	}
	return SL_OK;
}

sl_status sl_model_commit(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
						  const sl_checkpoint *checkpoint, const char *path) {
	sl_checkpoint own;
	SL_TRY(sli_check_model(context, model));
	if (model->divided)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "the model's layers are divided over ranks, not streamed");
	SL_TRY(sli_check_save(context, model, optimizer, checkpoint, path, &own));
	SL_TRY(check_folder(context, model, path));
	return sli_model_commit(context, model, optimizer, &own, path);
}

sl_status sl_model_load_streamed(sl_model **model, sl_checkpoint *checkpoint, sl_context *context, const char *path,
								 int64_t above, const sl_stream_options *options, const sl_read_limits *limits) {
	sl_read_limits full;
	sl_model_reading how = {.above = above, .stream = {SL_STREAM_DEFAULTS}};
	sl_checkpoint found = {.struct_size = sizeof found};
	if (model)
		*model = NULL;
	if (!context)
		return SL_ERR_NULL;
	if (!model || !path)
		return sli_fail(context, SL_ERR_NULL, "%s is null", model ? "path" : "model");
	if (above < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "above is %lld; it must not be negative", (long long)above);
	if (options)
		SL_TRY(sli_take_struct(context, &how.stream, sizeof how.stream, options, "options"));
	if (sl_context_device(context) != SL_DEVICE_CPU)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "streamed layers run on the CPU so far");
	how.stream.events = NULL;
	SL_TRY(sli_read_limits(context, limits, &full));
	SL_TRY(sli_model_load(model, NULL, &found, context, path, &full, &how));
	return sli_give_loaded(context, model, NULL, &found, checkpoint);
}
