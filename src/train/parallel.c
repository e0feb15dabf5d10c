/* SPDX-License-Identifier: Apache-2.0 */
/* Data-parallel steps: what ranks must agree on, the wire, and a global batch's way through it. */
#include "train/parallel.h"

#include <math.h>
#include <stdio.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/checked.h"
#include "layers/divided.h"

enum { FIGURES = 4 };

static uint64_t hash(const void *data, size_t bytes, uint64_t seed) {
	return XXH3_64bits_withSeed(data, bytes, seed);
}

static uint64_t hash_number(double number, uint64_t seed) {
	return hash(&number, sizeof number, seed);
}

static uint64_t hash_pattern(const sl_layer *layer, uint64_t seed) {
	if (layer->dense)
		return seed;
	sl_pattern_arrays a = sli_pattern_arrays(layer->weights->pattern);
	seed = hash(a.row_offsets, (size_t)(a.rows + 1) * sl_dtype_size(a.offset_dtype), seed);
	return hash(a.col_indices, (size_t)a.nnz * sizeof(int32_t), seed);
}

static int64_t weight_count(const sl_layer *layer) {
	return sli_layer_nnz(layer);
}

static uint64_t hash_values(const sl_layer *layer, uint64_t seed) {
	size_t size = sl_dtype_size(layer->dtype);
	seed = hash(layer->dense ? layer->dense_weights.data : layer->weights->values, (size_t)weight_count(layer) * size,
				seed);
	return layer->has_bias ? hash(layer->bias.data, (size_t)layer->out_features * size, seed) : seed;
}

static uint64_t hash_shape(const sl_layer *layer, uint64_t seed) {
	const int64_t all[] = {layer->in_features, layer->out_features, layer->dtype,
						   layer->dense,       layer->has_bias,     layer->activation};
	return hash_number(layer->activation_parameter, hash(all, sizeof all, seed));
}

static uint64_t hash_optimizer(const sl_optimizer *optimizer) {
	const sl_optimizer_options *o = &optimizer->options;
	const double all[] = {o->kind,
						  o->learning_rate,
						  o->momentum,
						  o->beta1,
						  o->beta2,
						  o->epsilon,
						  o->weight_decay,
						  o->l1,
						  o->l1_proximal,
						  o->l2,
						  o->clip_norm,
						  o->clip_value,
						  o->schedule.kind,
						  (double)o->schedule.warmup,
						  (double)o->schedule.interval,
						  o->schedule.gamma,
						  (double)o->schedule.total,
						  o->schedule.final_ratio,
						  o->lazy,
						  (double)optimizer->steps};
	return hash(all, sizeof all, 0);
}

static uint64_t hash_schedule(const sl_sparsity *s) {
	if (!s)
		return 0;
	const sl_sparsity_options *o = &s->options;
	const double all[] = {o->method, (double)o->interval, (double)o->begin,  (double)o->end,   o->drop,  o->decay,
						  o->budget, o->density,          (double)o->stream, (double)s->steps, o->spread};
	return hash(all, sizeof all, 1);
}

/* Patterns and weights, the words of the message telling which layer. */
static sl_status agree_on_layers(sl_context *context, sl_parallel *p, bool values) {
	char what[160];
	for (int i = 0; i < p->model->count; i++) {
		const sl_layer *layer = p->model->layers[i];
		snprintf(what, sizeof what, "the pattern of layer \"%.80s\"", layer->name);
		SL_TRY(sli_comm_agree(context, p->comm, what, hash_pattern(layer, 0)));
		if (!values)
			continue;
		snprintf(what, sizeof what, "the weights of layer \"%.80s\"", layer->name);
		SL_TRY(sli_comm_agree(context, p->comm, what, hash_values(layer, 0)));
	}
	return SL_OK;
}

sl_status sli_parallel_verify(sl_context *context, sl_parallel *p, bool values) {
	/* One number for all; which it is that differs is asked only where something does. */
	uint64_t all = (uint64_t)p->optimizer->steps;
	for (int i = 0; i < p->model->count; i++) {
		all = hash_pattern(p->model->layers[i], all);
		if (values)
			all = hash_values(p->model->layers[i], all);
	}
	sl_status status = sli_comm_agree(context, p->comm, "the model", all);
	return status == SL_ERR_DISAGREE && agree_on_layers(context, p, values) != SL_OK ? SL_ERR_DISAGREE : status;
}

sl_status sli_divided_verify(sl_context *context, const sl_model *model, const sl_optimizer *optimizer) {
	const struct sl_divided *d = model->divided;
	char what[160];
	SL_TRY(sli_comm_agree(context, d->comm, "the options of the optimizer or its steps",
						  optimizer ? hash_optimizer(optimizer) : 0));
	SL_TRY(sli_comm_agree(context, d->comm, "the schedule of the patterns", hash_schedule(model->sparsity)));
	SL_TRY(sli_comm_agree(context, d->comm, "the seed", sli_seed(context)));
	SL_TRY(sli_comm_agree(context, d->comm, "the number of layers", (uint64_t)d->count));
	for (int i = 0; i < d->count; i++) {
		const sl_layer *layer = model->layers[d->stages[i].first];
		if (d->stages[i].divided)
			continue;
		snprintf(what, sizeof what, "layer \"%.80s\", which every rank has,", layer->name);
		SL_TRY(sli_comm_agree(context, d->comm, what, hash_values(layer, hash_pattern(layer, hash_shape(layer, 0)))));
	}
	return SL_OK;
}

static sl_status agree_on_all(sl_context *context, sl_parallel *p) {
	uint64_t shapes = (uint64_t)p->model->count;
	const double options[] = {(double)p->options.bucket_bytes, (double)p->options.shards, p->options.shard_state,
							  sli_deterministic(context), (double)p->options.parts};
	for (int i = 0; i < p->model->count; i++)
		shapes = hash_shape(p->model->layers[i], shapes);
	SL_TRY(sli_comm_agree(context, p->comm, "the shapes and dtypes of the layers", shapes));
	SL_TRY(sli_comm_agree(context, p->comm, "the options of the optimizer or its steps", hash_optimizer(p->optimizer)));
	SL_TRY(sli_comm_agree(context, p->comm, "the schedule of the patterns", hash_schedule(p->model->sparsity)));
	SL_TRY(sli_comm_agree(context, p->comm, "the seed", sli_seed(context)));
	SL_TRY(sli_comm_agree(context, p->comm, "the options of sl_parallel_create()", hash(options, sizeof options, 0)));
	return agree_on_layers(context, p, true);
}

sl_status sli_parallel_resolve(sl_context *context, const sl_comm *comm, sl_parallel_options *o) {
	int size = sl_comm_size(comm);
	if (o->bucket_bytes < 0 || o->shards < 0 || o->shards > 1 << 20)
		return sli_fail(context, SL_ERR_ARGUMENT, "bucket_bytes is %lld and shards %lld; neither may be negative",
						(long long)o->bucket_bytes, (long long)o->shards);
	o->bucket_bytes = o->bucket_bytes ? o->bucket_bytes : 1 << 20;
	if (!o->shards && sli_deterministic(context))
		o->shards = 8;
	if (o->shards && o->shards < size)
		return sli_fail(context, SL_ERR_ARGUMENT,
						"%d ranks are more than the %lld shards that each batch is divided into: raise shards", size,
						(long long)o->shards);
	if (o->parts < 0 || o->parts > 1 << 20 || (o->parts && o->parts < size) ||
		(o->parts && o->shards && o->parts != o->shards))
		return sli_fail(
			context, SL_ERR_ARGUMENT,
			"parts is %lld; at least as many as the %d ranks are needed, and as many as shards (%lld) where "
			"there are some",
			(long long)o->parts, size, (long long)o->shards);
	return SL_OK;
}

void sli_parallel_parts(const sl_parallel *p, int64_t leaf, int64_t *first, int64_t *count) {
	sl_comm_share(p->parts, (int)leaf, (int)p->tree.leaves, first, count);
}

void sli_parallel_rows(const sl_parallel *p, int64_t leaf, int64_t total, int64_t *first, int64_t *count) {
	int64_t part, parts, last, more;
	sli_parallel_parts(p, leaf, &part, &parts);
	sl_comm_share(total, (int)part, (int)p->parts, first, &more);
	sl_comm_share(total, (int)(part + parts - 1), (int)p->parts, &last, &more);
	*count = last + more - *first;
}

int64_t sli_parallel_most_rows(const sl_parallel *p, int64_t total) {
	/* The first leaf has the most parts, and the first parts the most rows. */
	int64_t first, count;
	sli_parallel_rows(p, 0, total, &first, &count);
	return count;
}

void sl_parallel_destroy(sl_parallel *p) {
	if (!p)
		return;
	sl_heap *heap = p->heap;
	sli_parallel_forget(p);
	sli_rows_close(p);
	sli_shard_drop(p);
	for (int i = 0; p->nodes && i < p->depth; i++)
		sli_heap_free(heap, p->nodes[i], p->node_bytes);
	sli_heap_free(heap, p->nodes, (size_t)p->depth * sizeof *p->nodes);
	sli_heap_free(heap, p->starts, (size_t)p->model_layers * sizeof *p->starts);
	sli_heap_free(heap, p->buckets, (size_t)p->model_layers * sizeof *p->buckets);
	sli_heap_free(heap, p->rooms, p->room_bytes);
	sli_heap_free(heap, p->held, p->held_bytes);
	sli_heap_free(heap, p->board, p->board_bytes);
	sli_heap_free(heap, p->kept, (size_t)p->kept_capacity * sizeof *p->kept);
	sli_heap_free(heap, p, sizeof *p);
	sli_heap_release(heap);
}

static sl_status make_arrays(sl_context *context, sl_parallel *p) {
	size_t layers = (size_t)p->model_layers;
	p->board_bytes = (size_t)(p->tree.leaves * FIGURES + p->tree.size + 1) * sizeof *p->board;
	SL_TRY(sli_allocate_zeroed(context, (size_t)p->depth * sizeof *p->nodes, "the wire", (void **)&p->nodes));
	SL_TRY(sli_allocate_zeroed(context, layers * sizeof *p->starts, "the wire's layers", (void **)&p->starts));
	SL_TRY(sli_allocate_zeroed(context, layers * sizeof *p->buckets, "the wire's buckets", (void **)&p->buckets));
	return sli_allocate_zeroed(context, p->board_bytes, "the ranks' board", (void **)&p->board);
}

sl_status sli_parallel_open(sl_parallel **result, sl_context *context, sl_comm *comm, sl_model *model,
							sl_optimizer *optimizer, const sl_parallel_options *options) {
	void *memory;
	SL_TRY(sli_allocate_zeroed(context, sizeof(sl_parallel), "a parallel", &memory));
	sl_parallel *p = memory;
	*p = (sl_parallel){.heap = sli_heap_retain(sli_heap(context)),
					   .comm = comm,
					   .model = model,
					   .model_layers = model->count,
					   .optimizer = optimizer,
					   .options = *options,
					   .fixed = options->shards > 0,
					   .dtype = model->layers[0]->dtype};
	sli_tree_init(&p->tree, p->fixed ? options->shards : comm->info.size, comm->info.rank, comm->info.size);
	p->parts = options->parts ? options->parts : p->tree.leaves;
	p->depth = sli_tree_depth(&p->tree);
	sl_status status = make_arrays(context, p);
	if (status == SL_OK)
		status = sli_rows_open(context, p);
	for (int i = 0; i < model->count && status == SL_OK; i++)
		status = sli_layer_make_gradients(context, model->layers[i]);
	/* Who has failed so far tells the others, who would wait. */
	status = sli_comm_settle(context, comm, status);
	if (status == SL_OK)
		status = agree_on_all(context, p);
	if (status == SL_OK)
		status = sli_comm_settle(context, comm, sli_parallel_layout(context, p));
	if (status == SL_OK && options->shard_state)
		status = sli_comm_settle(context, comm, sli_shard_take(context, p));
	if (status != SL_OK) {
		sl_parallel_destroy(p);
		return status;
	}
	*result = p;
	return SL_OK;
}

/* On the wire; row-sparse gradients are not. */
static int64_t layer_elements(const sl_layer *layer) {
	return (layer->sparse_inputs ? 0 : weight_count(layer)) + (layer->has_bias ? layer->out_features : 0);
}

/* Cut the wire into buckets; returns the bytes that their sums need. */
static bool cut(sl_parallel *p, size_t *bytes) {
	int64_t at = 0, size = (int64_t)sl_dtype_size(p->dtype), begin = 0;
	*bytes = 0;
	p->bucket_count = 0;
	for (int i = p->model_layers - 1; i >= 0; i--) {
		p->starts[i] = at;
		at += layer_elements(p->model->layers[i]);
		if (at == begin || (i && (at - begin) * size < p->options.bucket_bytes))
			continue;
		sl_bucket *b = &p->buckets[p->bucket_count++];
		size_t room = 0;
		*b = (sl_bucket){.offset = begin, .count = at - begin, .part = sli_ceil_div(at - begin, p->tree.size)};
		if (p->fixed && !sli_tree_bytes(&p->tree, b->count, p->dtype, &room))
			return false;
		if (!p->fixed && p->options.shard_state)
			room = (size_t)(b->part * (p->tree.size + 1) * size);
		b->room = (char *)*bytes; /* a place, until the memory is there */
		*bytes += (room + 63) / 64 * 64;
		begin = at;
	}
	p->elements = at;
	return true;
}

static sl_status relayout(sl_context *context, sl_parallel *p, int64_t elements) {
	size_t bytes, node_bytes;
	if (!cut(p, &bytes) || !sli_bytes(p->elements, sl_dtype_size(p->dtype), &node_bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld gradients do not fit in memory", (long long)elements);
	if (!p->nodes[0] || node_bytes > p->node_bytes) {
		for (int i = 0; i < p->depth; i++) {
			sli_heap_free(p->heap, p->nodes[i], p->node_bytes);
			p->nodes[i] = NULL;
		}
		p->node_bytes = node_bytes;
		for (int i = 0; i < p->depth; i++)
			SL_TRY(sli_allocate(context, node_bytes, "gradients on their way", &p->nodes[i]));
	}
	if (bytes > p->room_bytes) {
		void *memory;
		sli_heap_free(p->heap, p->rooms, p->room_bytes);
		p->rooms = NULL;
		p->room_bytes = 0;
		SL_TRY(sli_allocate(context, bytes, "sums on their way", &memory));
		p->rooms = memory;
		p->room_bytes = bytes;
	}
	for (int i = 0; i < p->bucket_count; i++)
		p->buckets[i].room = p->rooms + (uintptr_t)p->buckets[i].room;
	return SL_OK;
}

sl_status sli_parallel_layout(sl_context *context, sl_parallel *p) {
	int64_t elements = 0;
	for (int i = 0; i < p->model_layers; i++)
		elements += layer_elements(p->model->layers[i]);
	bool same = p->nodes[0] && elements == p->elements;
	/* Layers may have changed places in one sum: where each begins is compared as well. */
	for (int i = p->model_layers - 1; same && i > 0; i--)
		same = p->starts[i - 1] - p->starts[i] == layer_elements(p->model->layers[i]);
	if (same)
		return SL_OK;
	sl_status status = relayout(context, p, elements);
	if (status != SL_OK)
		p->elements = -1; /* to be tried again */
	return status;
}

/* Figures and statuses of all parts and ranks. *sums receives those of the batch, in order of its parts. */
static sl_status exchange(sl_context *context, sl_parallel *p, sl_status mine, sl_loss_sums *sums, bool *stop) {
	double *statuses = p->board + p->tree.leaves * FIGURES;
	char message[384];
	snprintf(message, sizeof message, "%s", mine == SL_OK ? "" : sl_context_message(context));
	if (mine == SL_ERR_COMM)
		return mine;
	statuses[p->tree.rank] = mine;
	statuses[p->tree.size] = *stop;
	SL_TRY(sli_comm_sum(context, p->comm, p->board, p->tree.leaves * FIGURES + p->tree.size + 1, SL_F64, NULL));
	*stop = statuses[p->tree.size] > 0;
	for (int r = 0; r < p->tree.size; r++) {
		sl_status one = (sl_status)statuses[r];
		if (one != SL_OK && r == p->tree.rank)
			return sli_fail(context, one, "rank %d of %d: %s", r, p->tree.size, message);
		if (one != SL_OK)
			return sli_fail(context, one, "rank %d of %d failed: %s", r, p->tree.size, sl_status_text(one));
	}
	for (int64_t i = 0; i < p->tree.leaves; i++) {
		const double *f = p->board + i * FIGURES;
		sums->loss += f[0];
		sums->rows += (int64_t)f[1];
		sums->correct += (int64_t)f[2];
		sums->counted += (int64_t)f[3];
	}
	return SL_OK;
}

static sl_status forward(sl_parallel *p, sl_part_runner run, void *self, int64_t first, int64_t count) {
	sl_loss_sums one = {.bad_row = -1};
	double *f = p->board + (p->tree.first + p->part) * FIGURES;
	if (count)
		SL_TRY(run(self, first, count, &one));
	f[0] = one.loss;
	f[1] = (double)one.rows;
	f[2] = (double)one.correct;
	f[3] = (double)one.counted;
	return SL_OK;
}

static sl_status backward(sl_context *context, sl_parallel *p, int64_t count) {
	if (count)
		return sli_model_back(context, p->model, NULL, SL_OVERWRITE);
	for (int i = p->model->count - 1; i >= 0; i--)
		SL_TRY(sli_parallel_pack(p, context, i));
	return SL_OK;
}

static sl_status run_parts(sl_context *context, sl_parallel *p, sl_part_runner run, void *self, sl_loss_sums *sums,
						   bool *stop) {
	sl_status status = SL_OK;
	int64_t first, count;
	memset(p->board, 0, p->board_bytes);
	p->height = p->sent = 0;
	for (p->part = 0; p->part < p->tree.count; p->part++) {
		sli_parallel_rows(p, p->tree.first + p->part, p->total, &first, &count);
		p->factor = (double)count / (double)p->total;
		p->last = p->part == p->tree.count - 1;
		if (status == SL_OK)
			status = forward(p, run, self, first, count);
		if (p->last)
			SL_TRY(exchange(context, p, status, sums, stop));
		if (status == SL_OK)
			status = backward(context, p, count);
		p->height += 1 - sli_tree_merges(&p->tree, p->part);
	}
	return status;
}

sl_status sli_parallel_batch(sl_context *context, sl_parallel *p, int64_t total, sl_part_runner run, void *self,
							 sl_write write, sl_loss_sums *sums, bool *stop) {
	sl_model *model = p->model;
	sl_gradient_watch watch = model->watch;
	SL_TRY(sli_parallel_layout(context, p));
	if (watch.see)
		model->watch = (sl_gradient_watch){sli_parallel_keep, p, sli_parallel_keep_sparse};
	model->done = sli_parallel_pack;
	model->done_self = p;
	p->total = total;
	sl_status status = write == SL_ACCUMULATE ? sli_parallel_hold(context, p) : SL_OK;
	if (status == SL_OK)
		status = run_parts(context, p, run, self, sums, stop);
	if (status == SL_OK)
		status = sli_parallel_end_sums(context, p, write);
	if (status == SL_OK && watch.see)
		status = sli_parallel_offer(context, p);
	sli_parallel_forget(p);
	model->watch = watch;
	model->done = NULL;
	return status;
}

sl_status sli_parallel_step(sl_context *context, sl_parallel *p, sl_sparsity_edit *edit) {
	sl_sparsity_edit none;
	edit = edit ? edit : &none;
	edit->edited = false;
	sl_sparsity *s = p->model->sparsity;
	SL_TRY(p->options.shard_state ? sli_shard_step(context, p) : sli_optimizer_step(context, p->optimizer));
	if (!s)
		return SL_OK;
	bool due = sli_sparsity_due(s, s->steps + 1);
	if (due && p->options.shard_state)
		SL_TRY(sli_shard_gather(context, p));
	/* From here on each rank decides by itself, and all alike: the same weights, sums and seed. */
	SL_TRY(sli_sparsity_step(context, p->model, p->optimizer, edit));
	if (!due)
		return SL_OK;
	SL_TRY(sli_parallel_layout(context, p));
	if (p->options.shard_state)
		SL_TRY(sli_shard_take(context, p));
	return sli_parallel_verify(context, p, false);
}
