/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A divided model as one file a rank, and a manifest. The ranks' files get names that none of the last save has; when
 * all are on the disk, the manifest is renamed over the old one, and only then the old files go. A kill leaves the old
 * manifest with its files, or the new one with its.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/checked.h"
#include "io/model_file.h"
#include "layers/divided.h"

enum { MOST_BYTES = 1 << 20, MOST_LAYERS = 1 << 12, MOST_BLOCKS = 1 << 20 };

/* `blocks` of each layer, 0: every rank has it. */
typedef struct manifest {
	int64_t tag;
	int ranks, layers;
	int64_t blocks[MOST_LAYERS], rows[MOST_LAYERS];
} manifest;

static sl_status bad(sl_context *context, const char *path, const char *what) {
	return sli_fail(context, SL_ERR_FORMAT, "%s: a manifest of a divided model %s", path, what);
}

static int64_t integer(const json_t *object, const char *key) {
	const json_t *value = json_object_get(object, key);
	return json_is_integer(value) ? json_integer_value(value) : -1;
}

static sl_status parse(sl_context *context, const char *path, const json_t *json, manifest *m) {
	const char *format = json_string_value(json_object_get(json, "format"));
	const json_t *layers = json_object_get(json, "layers");
	int64_t ranks = integer(json, "ranks");
	if (!format || strcmp(format, "sparselayer.divided"))
		return bad(context, path, "has the format \"sparselayer.divided\", which is missing");
	if (integer(json, "version") != 1)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "%s: written in version %lld of the format; 1 is read", path,
						(long long)integer(json, "version"));
	m->tag = integer(json, "tag");
	if (m->tag < 0 || m->tag == INT64_MAX || ranks < 1 || ranks > MOST_BLOCKS || !json_is_array(layers) ||
		!json_array_size(layers) || json_array_size(layers) > MOST_LAYERS)
		return bad(context, path, "has a tag, ranks and layers, of which one is missing or out of range");
	m->ranks = (int)ranks;
	m->layers = (int)json_array_size(layers);
	for (int i = 0; i < m->layers; i++) {
		m->blocks[i] = integer(json_array_get(layers, (size_t)i), "blocks");
		m->rows[i] = integer(json_array_get(layers, (size_t)i), "rows");
		if (m->rows[i] < 0 || m->blocks[i] < 0 || m->blocks[i] > MOST_BLOCKS ||
			(m->blocks[i] && m->blocks[i] < m->ranks))
			return bad(context, path, "has rows, and no more ranks than blocks, of each layer");
	}
	return SL_OK;
}

static sl_status read_manifest(sl_context *context, const char *path, manifest *m) {
	int fd;
	int64_t size;
	char *text = NULL;
	SL_TRY(sli_open_read(context, path, &fd, &size));
	sl_status status =
		size <= MOST_BYTES
			? sli_allocate(context, (size_t)size + 1, "a manifest", (void **)&text)
			: sli_fail(context, SL_ERR_LIMIT, "%s: %lld bytes are too many for a manifest", path, (long long)size);
	if (status == SL_OK)
		status = sli_read_at(context, fd, path, 0, text, (size_t)size);
	close(fd);
	if (status == SL_OK) {
		json_t *json = json_loadb(text, (size_t)size, JSON_REJECT_DUPLICATES, NULL);
		status = json ? parse(context, path, json, m) : bad(context, path, "is JSON, which this is not");
		json_decref(json);
	}
	sli_heap_free(sli_heap(context), text, text ? (size_t)size + 1 : 0);
	return status;
}

static sl_status file_of(sl_context *context, const char *path, int64_t tag, int rank, int ranks, char *name) {
	int length = snprintf(name, PATH_MAX, "%s.%lld.%d-of-%d", path, (long long)tag, rank + 1, ranks);
	return length < PATH_MAX ? SL_OK : sli_fail(context, SL_ERR_ARGUMENT, "path is too long: %d characters", length);
}

static sl_status write_manifest(sl_context *context, const sl_model *model, const char *path, int64_t tag) {
	const struct sl_divided *d = model->divided;
	sl_writer *w;
	SL_TRY(sli_writer_open(&w, context, path));
	sli_print(w, "{\"format\": \"sparselayer.divided\", \"version\": 1, \"tag\": %lld, \"ranks\": %d,\n\"layers\": [",
			  (long long)tag, d->comm->info.size);
	for (int i = 0; i < d->count; i++)
		sli_print(w, "%s{\"blocks\": %lld, \"rows\": %lld}", i ? ", " : "",
				  d->stages[i].divided ? (long long)d->stages[i].tree.leaves : 0LL,
				  (long long)d->stages[i].out_features);
	sli_print(w, "]}\n");
	return sli_writer_close(w, SL_OK);
}

/* What the manifest before this one had, from rank 0: its tag, and how many ranks' files. */
static sl_status look_back(sl_context *context, sl_comm *comm, const char *path, int64_t old[2]) {
	manifest *m = NULL;
	sl_status status = SL_OK;
	old[0] = old[1] = 0;
	if (comm->info.rank == 0 && access(path, F_OK) == 0) {
		status = sli_allocate(context, sizeof *m, "a manifest", (void **)&m);
		/* What is no manifest is replaced; its tag may be any. */
		sl_status found = status == SL_OK ? read_manifest(context, path, m) : status;
		if (found == SL_OK) {
			old[0] = m->tag;
			old[1] = m->ranks;
		} else if (found == SL_ERR_MEMORY || found == SL_ERR_BUDGET) {
			status = found;
		}
		sli_heap_free(sli_heap(context), m, m ? sizeof *m : 0);
	}
	SL_TRY(sli_comm_settle(context, comm, status));
	sl_comm_call call = {.kind = SL_CALL_BROADCAST, .recv = old, .count = 2, .dtype = SL_I64, .on_host = true};
	return sli_comm_call(context, comm, &call, NULL);
}

sl_status sli_divided_save(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
						   const sl_checkpoint *checkpoint, const char *path) {
	const struct sl_divided *d = model->divided;
	sl_comm *comm = d->comm;
	int rank = comm->info.rank, size = comm->info.size;
	int64_t old[2];
	char name[PATH_MAX];
	SL_TRY(look_back(context, comm, path, old));
	sl_status status = file_of(context, path, old[0] + 1, rank, size, name);
	if (status == SL_OK)
		status = sli_model_save(context, model, optimizer, checkpoint, name);
	SL_TRY(sli_comm_settle(context, comm, status));
	if (rank == 0)
		status = write_manifest(context, model, path, old[0] + 1);
	SL_TRY(sli_comm_settle(context, comm, status));
	for (int r = 0; rank == 0 && r < old[1]; r++)
		if (file_of(context, path, old[0], r, (int)old[1], name) == SL_OK)
			(void)unlink(name);
	return SL_OK;
}

/* A block, or a layer that all have, in the files of a manifest. */
typedef struct where {
	int file, index;
} where;

static where find(const manifest *m, int layer, int64_t block) {
	where w = {0, 0};
	int64_t first, count;
	for (; m->blocks[layer]; w.file++) {
		sl_comm_share(m->blocks[layer], w.file, m->ranks, &first, &count);
		if (block < first + count)
			break;
	}
	for (int i = 0; i < layer; i++) {
		sl_comm_share(m->blocks[i], w.file, m->ranks, &first, &count);
		w.index += m->blocks[i] ? (int)count : 1;
	}
	sl_comm_share(m->blocks[layer], w.file, m->ranks, &first, &count);
	w.index += m->blocks[layer] ? (int)(block - first) : 0;
	return w;
}

typedef struct loading {
	sl_context *context;
	sl_comm *comm;
	const char *path;
	const sl_read_limits *limits;
	manifest m;
	sl_model *model;
	sl_optimizer *optimizer;
	sl_checkpoint checkpoint;
} loading;

/* `name` must live as long as the file is open. */
static sl_status open_file(loading *l, int file, char *name, sl_safetensors *f) {
	SL_TRY(file_of(l->context, l->path, l->m.tag, file, l->m.ranks, name));
	return sli_safetensors_open(f, l->context, name, l->limits);
}

static sl_status load_one(loading *l, int layer, int64_t block, sl_layer **made) {
	where w = find(&l->m, layer, block);
	sl_safetensors f;
	char name[PATH_MAX];
	*made = NULL;
	SL_TRY(open_file(l, w.file, name, &f));
	sl_status status = sli_model_file_layer(&f, w.index, l->limits, made);
	sli_safetensors_close(&f);
	return status;
}

static sl_status load_whole(loading *l, int layer) {
	sl_layer *whole;
	sl_status status = load_one(l, layer, 0, &whole);
	if (status == SL_OK && (status = sl_model_add(l->context, l->model, whole)) != SL_OK)
		sl_layer_destroy(whole);
	return sli_comm_settle(l->context, l->comm, status);
}

static sl_status load_blocks(loading *l, int layer) {
	sl_layer **blocks = NULL;
	int64_t first, count;
	sl_status status = SL_OK;
	sl_comm_share(l->m.blocks[layer], l->comm->info.rank, l->comm->info.size, &first, &count);
	if (l->m.blocks[layer] < l->comm->info.size)
		status = sli_fail(l->context, SL_ERR_ARGUMENT, "%s: layer %d has %lld blocks; that is not enough for %d ranks",
						  l->path, layer, (long long)l->m.blocks[layer], l->comm->info.size);
	else
		status = sli_allocate_zeroed(l->context, (size_t)count * sizeof *blocks, "blocks", (void **)&blocks);
	for (int64_t b = 0; b < count && status == SL_OK; b++)
		status = load_one(l, layer, first + b, &blocks[b]);
	status = sli_comm_settle(l->context, l->comm, status);
	if (status == SL_OK)
		status = sl_model_add_blocks(l->context, l->model, l->comm, blocks, (int)count);
	for (int64_t b = 0; blocks && b < count && status != SL_OK; b++)
		sl_layer_destroy(blocks[b]);
	sli_heap_free(sli_heap(l->context), blocks, blocks ? (size_t)count * sizeof *blocks : 0);
	return status;
}

static sl_status load_moments(loading *l) {
	const struct sl_divided *d = l->model->divided;
	for (int i = 0; i < d->count; i++)
		for (int k = 0; k < d->stages[i].count; k++) {
			where w = find(&l->m, i, d->stages[i].divided ? d->stages[i].tree.first + k : 0);
			sl_safetensors f;
			char name[PATH_MAX];
			SL_TRY(open_file(l, w.file, name, &f));
			const sl_layer *layer = l->model->layers[d->stages[i].first + k];
			sl_status status = sli_model_file_moments(&f, w.index, layer, l->optimizer);
			sli_safetensors_close(&f);
			SL_TRY(status);
		}
	return SL_OK;
}

/* What all files have alike, from the first. */
static sl_status load_training(loading *l, bool wanted) {
	sl_safetensors f;
	char name[PATH_MAX];
	SL_TRY(open_file(l, 0, name, &f));
	sl_status status = sli_model_file_checkpoint(&f, &l->checkpoint);
	if (status == SL_OK && wanted)
		status = sli_model_file_optimizer(&f, l->model, &l->optimizer);
	if (status == SL_OK && wanted)
		status = sli_model_file_sparsity(&f, l->model);
	sli_safetensors_close(&f);
	return status == SL_OK && l->optimizer ? load_moments(l) : status;
}

static sl_status load(loading *l, bool optimizer) {
	sl_status status = read_manifest(l->context, l->path, &l->m);
	if (status == SL_OK)
		status = sl_model_create(&l->model, l->context);
	SL_TRY(sli_comm_settle(l->context, l->comm, status));
	uint64_t seen = (uint64_t)l->m.tag << 32 ^ (uint64_t)l->m.ranks << 16 ^ (uint64_t)l->m.layers;
	SL_TRY(sli_comm_agree(l->context, l->comm, "the manifest", seen));
	for (int i = 0; i < l->m.layers; i++) {
		SL_TRY(l->m.blocks[i] ? load_blocks(l, i) : load_whole(l, i));
		if (sli_model_features(l->model, sli_model_outputs(l->model)) != l->m.rows[i])
			return bad(l->context, l->path, "says how many rows a layer has, which is not what its files have");
	}
	status = l->model->divided ? load_training(l, optimizer) : bad(l->context, l->path, "divides a layer at least");
	return sli_comm_settle(l->context, l->comm, status);
}

sl_status sli_divided_load(sl_model **model, sl_optimizer **optimizer, sl_checkpoint *checkpoint, sl_context *context,
						   sl_comm *comm, const char *path, const sl_read_limits *limits) {
	loading *l = NULL;
	sl_status status = sli_allocate_zeroed(context, sizeof *l, "loading a divided model", (void **)&l);
	status = sli_comm_settle(context, comm, status);
	if (status == SL_OK) {
		l->context = context;
		l->comm = comm;
		l->path = path;
		l->limits = limits;
		status = load(l, optimizer != NULL);
	}
	if (status == SL_OK) {
		*model = l->model;
		*checkpoint = l->checkpoint;
		if (optimizer)
			*optimizer = l->optimizer;
	} else if (l) {
		sl_optimizer_destroy(l->optimizer);
		sl_model_destroy(l->model);
	}
	sli_heap_free(sli_heap(context), l, l ? sizeof *l : 0);
	return status;
}
