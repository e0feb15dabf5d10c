/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/streamed_model.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *last_part(const char *path) {
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

json_t *sli_store_record(const char *path, const sl_store_header *header) {
	char text[2 * sizeof *header + 1];
	const unsigned char *bytes = (const unsigned char *)header;
	for (size_t i = 0; i < sizeof *header; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return json_pack("{s:s,s:s}", "folder", last_part(path), "header", text);
}

static bool parse_header(const char *text, sl_store_header *header) {
	unsigned char *bytes = (unsigned char *)header;
	if (!text || strlen(text) != 2 * sizeof *header || strspn(text, "0123456789abcdef") != 2 * sizeof *header)
		return false;
	for (size_t i = 0; i < sizeof *header; i++) {
		char two[3] = {text[2 * i], text[2 * i + 1], 0};
		bytes[i] = (unsigned char)strtoul(two, NULL, 16);
	}
	return true;
}

/* A path in the folder of a file; false: too long. */
static bool beside(char path[PATH_MAX], const char *file, const char *name) {
	char copy[PATH_MAX];
	if (strlen(file) >= sizeof copy)
		return false;
	int n = snprintf(path, PATH_MAX, "%s/%s", dirname(strcpy(copy, file)), name);
	return n > 0 && n < PATH_MAX;
}

sl_status sli_store_recorded(sl_safetensors *f, const json_t *layer, sl_streamed **streamed) {
	const json_t *record = json_object_get(layer, "store");
	const char *folder = json_string_value(json_object_get(record, "folder"));
	sl_store_header header;
	char path[PATH_MAX];
	sl_store *store;
	*streamed = NULL;
	if (!record)
		return SL_OK;
	/* Nothing but a name beside the file is followed. */
	if (!folder || !*folder || strchr(folder, '/') || folder[0] == '.' ||
		!parse_header(json_string_value(json_object_get(record, "header")), &header) || !beside(path, f->path, folder))
		return sli_fail(f->context, SL_ERR_FORMAT, "%s: a layer's \"store\" is not valid", f->path);
	SL_TRY(sli_store_open(&store, f->context, &sli_disk, path, SL_DURABLE_CHECKPOINT, &header));
	return sli_streamed_create(streamed, f->context, store, NULL, &(sl_stream_options){SL_STREAM_DEFAULTS});
}

sl_status sli_weights_in_file(sl_safetensors *f, int index, const sl_linear_options *o, const sl_read_limits *limits,
							  const sl_model_reading *how, sl_streamed **streamed) {
	static const char *const names[] = {"row_offsets", "col_indices", "values"};
	sl_dtype dtypes[] = {0, SL_I32, o->dtype};
	sl_tensor t[3];
	char name[64];
	sl_source *s;
	*streamed = NULL;
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof name, "layers.%d.weight.%s", index, names[i]);
		SL_TRY(sli_safetensors_find(f, name, dtypes[i], 1, &t[i]));
	}
	if (t[1].count <= how->above)
		return SL_OK;
	SL_TRY(sli_check_nonzeros(f->context, f->path, limits, t[1].count));
	if ((t[0].dtype != SL_I32 && t[0].dtype != SL_I64) || t[0].count - 1 != o->out_features || t[2].count != t[1].count)
		return sli_fail(f->context, SL_ERR_FORMAT, "%s: the weights of layer %d are no matrix of %lld rows", f->path,
						index, (long long)o->out_features);
	SL_TRY(sli_source_new(&s, f->context, f->path));
	int error = s->disk->open(s->disk->user, f->path, SL_OPEN_READ, !how->stream.buffered, &s->files[0]);
	if (error) {
		sli_source_free(s);
		return sli_fail(f->context, SL_ERR_IO, "%s could not be opened: %s", f->path, strerror(error));
	}
	s->rows = o->out_features;
	s->cols = o->in_features;
	s->nnz = t[1].count;
	s->dtype = o->dtype;
	s->offset_dtype = t[0].dtype;
	s->offsets = (sl_place){.file = s->files[0], .at = t[0].at, .name = "row offsets"};
	s->columns = (sl_place){.file = s->files[0], .at = t[1].at, .name = "columns"};
	s->values = (sl_place){.file = s->files[0], .at = t[2].at, .name = "values"};
	return sli_streamed_create(streamed, f->context, NULL, s, &how->stream);
}

json_t *sli_stores_of(sl_context *context, const char *path) {
	sl_safetensors f;
	sl_read_limits limits;
	json_t *names = NULL;
	if (access(path, F_OK) || sli_read_limits(context, NULL, &limits) != SL_OK ||
		sli_safetensors_open(&f, context, path, &limits) != SL_OK)
		return NULL;
	const char *format = sli_safetensors_text(&f, "format"), *text = sli_safetensors_text(&f, "layers");
	json_t *layers = format && text && !strcmp(format, "sparselayer.model") ? json_loads(text, 0, NULL) : NULL;
	names = json_array();
	for (size_t i = 0; names && i < json_array_size(layers); i++) {
		json_t *folder = json_object_get(json_object_get(json_array_get(layers, i), "store"), "folder");
		if (json_is_string(folder))
			json_array_append(names, folder);
	}
	json_decref(layers);
	sli_safetensors_close(&f);
	return names;
}

void sli_remove_stores(const json_t *before, const sl_model *model, const char *path) {
	for (size_t i = 0; i < json_array_size(before); i++) {
		const char *name = json_string_value(json_array_get(before, i));
		char store[PATH_MAX];
		bool used = !name || !*name || strchr(name, '/') || name[0] == '.' || !beside(store, path, name);
		for (int l = 0; l < model->count && !used; l++)
			used = model->layers[l]->streamed && !strcmp(last_part(model->layers[l]->streamed->source->path), name);
		if (!used)
			sli_store_remove(store);
	}
}
