/* SPDX-License-Identifier: Apache-2.0 */
/* Moments spread over the ranks: each updates its part of every bucket, and receives the others' weights. */
#include <math.h>

#include "backend/step.h"
#include "core/checked.h"
#include "layers/divided.h"
#include "train/parallel.h"

/* A run of elements that are one parameter's and lie in this rank's part of a bucket. */
typedef struct piece {
	sl_optimizer_entry *entry;
	int parameter;
	char *value;     /* in the layer */
	int64_t at;      /* of it in the parameter */
	int64_t in_part; /* and in the rank's part */
	int64_t count;
	bool decays;
} piece;

typedef sl_status (*piece_visitor)(sl_context *context, sl_parallel *p, sl_bucket *b, const piece *one, void *argument);

static void *value_of(const sl_layer *layer, int parameter) {
	return parameter ? layer->bias.data : layer->dense ? layer->dense_weights.data : layer->weights->values;
}

/* The pieces of rank `rank`'s part of a bucket. */
static sl_status each_piece(sl_context *context, sl_parallel *p, sl_bucket *b, int rank, piece_visitor visit,
							void *argument) {
	size_t size = sl_dtype_size(p->dtype);
	int64_t lo = b->offset + rank * b->part, hi = lo + b->part;
	hi = hi < b->offset + b->count ? hi : b->offset + b->count;
	for (int i = p->model_layers - 1; i >= 0; i--) {
		sl_layer *layer = p->model->layers[i];
		int64_t counts[2] = {sli_layer_nnz(layer), layer->has_bias ? layer->out_features : 0};
		for (int k = 0, at = 0; k < 2; at = 1, k++) {
			int64_t start = p->starts[i] + (at ? counts[0] : 0), end = start + counts[k];
			int64_t from = start > lo ? start : lo, to = end < hi ? end : hi;
			if (from >= to)
				continue;
			piece one = {.entry = sli_optimizer_find(p->optimizer, layer),
						 .parameter = k,
						 .value = (char *)value_of(layer, k) + (size_t)(from - start) * size,
						 .at = from - start,
						 .in_part = from - lo,
						 .count = to - from,
						 .decays = k == 0};
			SL_TRY(visit(context, p, b, &one, argument));
		}
	}
	return SL_OK;
}

static sl_status each_own_piece(sl_context *context, sl_parallel *p, piece_visitor visit, void *argument) {
	for (int i = 0; i < p->bucket_count; i++)
		SL_TRY(each_piece(context, p, &p->buckets[i], p->tree.rank, visit, argument));
	return SL_OK;
}

void sli_shard_drop(sl_parallel *p) {
	for (int s = 0; s < SL_MAX_STATES; s++) {
		sli_heap_free(p->heap, p->state[s], p->state_bytes);
		p->state[s] = NULL;
	}
	p->state_bytes = 0;
	if (p->optimizer)
		p->optimizer->sharded = false;
}

static char *state_at(const sl_parallel *p, const sl_bucket *b, int state, int64_t in_part) {
	return p->state[state] + (size_t)(b->state + in_part) * sl_dtype_size(p->dtype);
}

static sl_status take_piece(sl_context *context, sl_parallel *p, sl_bucket *b, const piece *one, void *argument) {
	size_t size = sl_dtype_size(p->dtype);
	(void)context, (void)argument;
	for (int s = 0; s < sli_optimizer_states(p->optimizer->options.kind); s++)
		if (one->entry->state[one->parameter][s].device)
			memcpy(state_at(p, b, s, one->in_part),
				   (const char *)one->entry->state[one->parameter][s].data + (size_t)one->at * size,
				   (size_t)one->count * size);
	return SL_OK;
}

sl_status sli_shard_take(sl_context *context, sl_parallel *p) {
	int states = sli_optimizer_states(p->optimizer->options.kind);
	int64_t own = 0;
	size_t bytes;
	void *memory[SL_MAX_STATES] = {NULL};
	for (int i = 0; i < p->bucket_count; i++) {
		p->buckets[i].state = own;
		own += p->buckets[i].part;
	}
	if (!sli_bytes(own, sl_dtype_size(p->dtype), &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld moments do not fit in memory", (long long)own);
	for (int s = 0; s < states; s++) {
		sl_status status = sli_allocate_zeroed(context, bytes, "a share of the moments", &memory[s]);
		if (status != SL_OK) {
			for (int k = 0; k < s; k++)
				sli_heap_free(p->heap, memory[k], bytes);
			return status;
		}
	}
	sli_shard_drop(p);
	for (int s = 0; s < states; s++)
		p->state[s] = memory[s];
	p->state_bytes = bytes;
	SL_TRY(each_own_piece(context, p, take_piece, NULL));
	for (int i = 0; i < p->optimizer->count; i++)
		for (int k = 0; k < SL_MAX_PARAMETERS; k++)
			for (int s = 0; s < SL_MAX_STATES; s++)
				sli_buffer_destroy(&p->optimizer->entries[i].state[k][s]);
	p->optimizer->sharded = true;
	return SL_OK;
}

static char *gradient_at(const sl_parallel *p, const sl_bucket *b, int64_t in_part) {
	size_t size = sl_dtype_size(p->dtype);
	char *segment = p->fixed ? b->segment : b->room + (size_t)(b->part * p->tree.size) * size;
	return segment + (size_t)in_part * size;
}

static bool is_block(const sl_model *model, const sl_layer *layer) {
	const struct sl_divided *d = model->divided;
	for (int i = 0; d && i < d->count; i++)
		for (int k = 0; k < d->stages[i].count; k++)
			if (model->layers[d->stages[i].first + k] == layer)
				return d->stages[i].divided;
	return false;
}

/* Of what every rank has, and of divided layers' blocks. */
static sl_status add_squares(sl_context *context, sl_parallel *p, sl_bucket *b, const piece *one, void *argument) {
	sl_op_desc desc = {.kind = SL_OP_REDUCE, .variant = SL_REDUCE_SUM_SQUARES, .count = one->count};
	sl_op_args args = {.beta = p->optimizer->options.clip_value,
					   .vector = {gradient_at(p, b, one->in_part)},
					   .count = one->count,
					   .result = (double *)argument + is_block(p->model, one->entry->layer)};
	desc.a.dtype = p->dtype;
	return sli_run(context, &desc, &args);
}

static sl_status update(sl_context *context, sl_parallel *p, sl_bucket *b, const piece *one, void *argument) {
	sl_update numbers = *(const sl_update *)argument;
	if (!one->decays)
		numbers.l1 = numbers.l2 = numbers.l1_proximal = numbers.weight_decay = 0;
	sl_op_desc desc = {.kind = SL_OP_UPDATE, .variant = p->optimizer->options.kind, .count = one->count};
	sl_op_args args = {.vector = {one->value, gradient_at(p, b, one->in_part),
								  p->state[0] ? state_at(p, b, 0, one->in_part) : NULL,
								  p->state[1] ? state_at(p, b, 1, one->in_part) : NULL},
					   .count = one->count,
					   .update = &numbers};
	desc.a.dtype = p->dtype;
	return sli_run(context, &desc, &args);
}

/* Weights or moments between the layers and the wire: `state` below 0 stands for weights. */
typedef struct carrying {
	char *wire; /* a rank's part */
	int state;
	bool out; /* to the wire */
} carrying;

static sl_status carry(sl_context *context, sl_parallel *p, sl_bucket *b, const piece *one, void *argument) {
	const carrying *c = argument;
	size_t size = sl_dtype_size(p->dtype), bytes = (size_t)one->count * size;
	char *wire = c->wire + (size_t)one->in_part * size;
	char *own =
		c->state < 0 ? one->value : (char *)one->entry->state[one->parameter][c->state].data + (size_t)one->at * size;
	(void)context, (void)b;
	memcpy(c->out ? wire : own, c->out ? own : wire, bytes);
	return SL_OK;
}

/* Everybody's part of a bucket to everybody, by way of the wire's own memory, whose gradients were used. */
static sl_status spread(sl_context *context, sl_parallel *p, sl_bucket *b, int state) {
	size_t size = sl_dtype_size(p->dtype), part = (size_t)b->part * size;
	char *own = b->room + (size_t)p->tree.rank * part;
	carrying c = {own, state, true};
	memset(own, 0, part);
	if (state < 0)
		SL_TRY(each_piece(context, p, b, p->tree.rank, carry, &c));
	else
		memcpy(own, state_at(p, b, state, 0), part);
	SL_TRY(sli_comm_gather(context, p->comm, own, b->room, b->part, p->dtype));
	c.out = false;
	for (int r = 0; r < p->tree.size; r++) {
		c.wire = b->room + (size_t)r * part;
		if (r != p->tree.rank || state >= 0)
			SL_TRY(each_piece(context, p, b, r, carry, &c));
	}
	return SL_OK;
}

sl_status sli_shard_step(sl_context *context, sl_parallel *p) {
	sl_optimizer *optimizer = p->optimizer;
	const sl_optimizer_options *o = &optimizer->options;
	double norm = NAN;
	sl_update numbers;
	sl_step_numbers(o, optimizer->steps, &numbers);
	if (o->clip_norm > 0) {
		double sums[2] = {0, 0};
		SL_TRY(each_own_piece(context, p, add_squares, sums));
		SL_TRY(sli_comm_sum(context, p->comm, sums, 2, SL_F64, NULL));
		if (p->model->divided) /* blocks of the ranks that hold the model together */
			SL_TRY(sli_comm_sum(context, p->model->divided->comm, &sums[1], 1, SL_F64, NULL));
		norm = sqrt(sums[0] + sums[1]);
		if (!isfinite(norm))
			return sli_fail(context, SL_ERR_NONFINITE, "the gradients' norm is not finite; nothing was updated");
		if (norm > o->clip_norm)
			numbers.gradient_factor = o->clip_norm / norm;
	}
	SL_TRY(each_own_piece(context, p, update, &numbers));
	for (int i = 0; i < p->bucket_count; i++)
		SL_TRY(spread(context, p, &p->buckets[i], -1));
	optimizer->gradient_norm = norm;
	optimizer->steps++;
	return SL_OK;
}

sl_status sli_shard_gather(sl_context *context, sl_parallel *p) {
	size_t size = sl_dtype_size(p->dtype);
	int states = sli_optimizer_states(p->optimizer->options.kind);
	sl_status status = SL_OK;
	for (int i = 0; i < p->optimizer->count && status == SL_OK; i++) {
		sl_optimizer_entry *entry = &p->optimizer->entries[i];
		for (int k = 0; k < sl_layer_parameter_count(entry->layer); k++)
			for (int s = 0; s < states && status == SL_OK; s++) {
				int64_t count = k ? entry->layer->out_features : sli_layer_nnz(entry->layer);
				if (!entry->state[k][s].device)
					status =
						sli_buffer_create(&entry->state[k][s], context, (size_t)count * size, true, "gathered moments");
			}
	}
	SL_TRY(sli_comm_settle(context, p->comm, status));
	for (int s = 0; s < states; s++)
		for (int i = 0; i < p->bucket_count; i++)
			SL_TRY(spread(context, p, &p->buckets[i], s));
	p->optimizer->sharded = false;
	return SL_OK;
}
