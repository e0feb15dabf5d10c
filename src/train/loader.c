/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches as views: of each row where it begins and ends. A ring of slots holds them; one slot is the
 * caller's, the others are filled ahead by a thread of the loader's own where that is asked for. In a forked
 * child there is no such thread: slots are filled by the call.
 */
#include "train/loader.h"

#include <pthread.h>
#include <unistd.h>

#include "core/checked.h"
#include "train/order.h"

typedef struct slot {
	int64_t *rows, *begins, *ends, *target_begins, *target_ends;
	int32_t *labels;
	float *weights; /* of the labels */
	int64_t epoch, first, count, total;
} slot;

struct sl_loader {
	sl_heap *heap; /* retained */
	uint64_t seed, stream;
	sl_sparse inputs, targets;
	bool has_targets, keep_order, drop_last;
	const int32_t *all_labels;
	int64_t batch, samples, classes; /* samples: those that are here */
	int64_t total;                   /* and those of all ranks */
	bool shared;
	sl_share share;
	int64_t *subset, *order;
	double *class_weights; /* or NULL */
	int64_t ordered_epoch; /* whose order `order` is; -1: none */
	/* The next slot to be filled, and what goes into it. */
	int64_t epoch, first;
	int64_t served_epoch, served_first; /* what comes after the last batch handed out */
	slot *slots;
	size_t slot_count, block_bytes;
	void *block; /* memory of all slots */

	bool threaded;
	pid_t owner;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t filled, freed;
	size_t head, ready; /* the oldest filled slot, and how many are filled; the caller's is the one before */
	bool stop;
	unsigned char touched; /* keeps reading ahead from being optimised away */
};

static void next_place(sl_loader *l) {
	int64_t left = l->total - l->first;
	/* The end of an epoch is a batch of none. */
	if (left <= 0 || (l->drop_last && left < l->batch)) {
		l->epoch++;
		l->first = 0;
	} else {
		l->first += left < l->batch ? left : l->batch;
	}
}

static void make_order(sl_loader *l, int64_t epoch) {
	if (l->ordered_epoch == epoch || (l->keep_order && l->ordered_epoch >= 0))
		return;
	for (int64_t i = 0; i < l->samples; i++)
		l->order[i] = i;
	if (!l->keep_order && l->shared)
		sli_shuffle_share(l->seed, l->stream, epoch, &l->share, l->order);
	else if (!l->keep_order)
		sli_shuffle(l->seed, l->stream, epoch, l->order, l->samples);
	for (int64_t i = 0; l->subset && i < l->samples; i++)
		l->order[i] = l->subset[l->order[i]];
	l->ordered_epoch = epoch;
}

static void row_range(const sl_sparse *v, int64_t row, int64_t *begin, int64_t *end) {
	*begin = sli_index(v->offsets, v->offset_dtype, row);
	*end = v->ends ? sli_index(v->ends, v->offset_dtype, row) : sli_index(v->offsets, v->offset_dtype, row + 1);
}

/* The rows of the next batch that are here. */
static void choose_rows(sl_loader *l, slot *s) {
	int64_t part, parts;
	make_order(l, l->epoch);
	if (!l->shared) {
		s->count = s->total;
		memcpy(s->rows, l->order + l->first, (size_t)s->count * sizeof *s->rows);
		return;
	}
	sl_comm_share(l->share.parts, sl_comm_rank(l->share.comm), sl_comm_size(l->share.comm), &part, &parts);
	s->count = sli_share_batch(&l->share, part, parts, l->first, s->total, l->order, s->rows);
}

static void fill(sl_loader *l, slot *s) {
	int64_t left = l->total - l->first;
	s->epoch = l->epoch;
	s->first = l->first;
	s->count = 0;
	s->total = left < l->batch ? left : l->batch;
	if (l->drop_last && s->total < l->batch)
		s->total = 0;
	if (s->total)
		choose_rows(l, s);
	for (int64_t i = 0; i < s->count; i++) {
		int64_t row = s->rows[i];
		row_range(&l->inputs, row, &s->begins[i], &s->ends[i]);
		if (l->all_labels)
			s->labels[i] = l->all_labels[row];
		if (l->has_targets)
			row_range(&l->targets, row, &s->target_begins[i], &s->target_ends[i]);
		if (l->class_weights) {
			s->weights[i] = (float)l->class_weights[s->labels[i]];
			s->target_begins[i] = i;
			s->target_ends[i] = i + 1;
		}
	}
	next_place(l);
}

/* One byte a cache line: the rest comes with it. */
static unsigned char touch(const void *array, size_t size, int64_t begin, int64_t end) {
	const volatile unsigned char *bytes = array;
	unsigned char sum = 0;
	if (!array || begin == end)
		return 0;
	for (size_t at = (size_t)begin * size; at < (size_t)end * size; at += 64)
		sum ^= bytes[at];
	return sum ^ bytes[(size_t)end * size - 1];
}

static unsigned char read_ahead(const sl_loader *l, const slot *s) {
	unsigned char sum = 0;
	for (int64_t i = 0; i < s->count; i++) {
		sum ^= touch(l->inputs.col_indices, sl_dtype_size(l->inputs.index_dtype), s->begins[i], s->ends[i]);
		sum ^= touch(l->inputs.values, sl_dtype_size(l->inputs.dtype), s->begins[i], s->ends[i]);
		if (l->has_targets)
			sum ^= touch(l->targets.col_indices, sl_dtype_size(l->targets.index_dtype), s->target_begins[i],
						 s->target_ends[i]);
	}
	return sum;
}

/* Fills slots behind the ready ones, until told to stop. It alone fills slots, so that one it has filled stays as it
 * is while it reads ahead without the lock. */
static void *work(void *argument) {
	sl_loader *l = argument;
	unsigned char sum = 0;
	pthread_mutex_lock(&l->lock);
	while (!l->stop) {
		if (l->ready + 1 >= l->slot_count) {
			pthread_cond_wait(&l->freed, &l->lock);
			continue;
		}
		slot *s = &l->slots[(l->head + l->ready) % l->slot_count];
		fill(l, s);
		l->ready++;
		pthread_cond_signal(&l->filled);
		pthread_mutex_unlock(&l->lock);
		sum ^= read_ahead(l, s);
		pthread_mutex_lock(&l->lock);
	}
	l->touched = sum;
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

static sl_status start(sl_context *context, sl_loader *l) {
	if (pthread_mutex_init(&l->lock, NULL))
		return sli_fail(context, SL_ERR_MEMORY, "the loader's lock could not be made");
	pthread_cond_init(&l->filled, NULL);
	pthread_cond_init(&l->freed, NULL);
	l->owner = getpid();
	if (pthread_create(&l->thread, NULL, work, l)) {
		pthread_cond_destroy(&l->filled);
		pthread_cond_destroy(&l->freed);
		pthread_mutex_destroy(&l->lock);
		return sli_fail(context, SL_ERR_MEMORY, "the loader's thread could not be made");
	}
	l->threaded = true;
	return SL_OK;
}

/* In a forked child the thread is gone, and may have left anything: go on from what was handed out. */
static void notice_fork(sl_loader *l) {
	if (!l->threaded || l->owner == getpid())
		return;
	l->threaded = false;
	l->epoch = l->served_epoch;
	l->first = l->served_first;
	l->ordered_epoch = -1;
}

static slot *take_slot(sl_loader *l) {
	if (!l->threaded) {
		fill(l, l->slots);
		return l->slots;
	}
	pthread_mutex_lock(&l->lock);
	while (!l->ready)
		pthread_cond_wait(&l->filled, &l->lock);
	slot *s = &l->slots[l->head];
	l->head = (l->head + 1) % l->slot_count;
	l->ready--;
	pthread_cond_signal(&l->freed);
	pthread_mutex_unlock(&l->lock);
	return s;
}

static sl_sparse chosen(const sl_sparse *all, const slot *s, const int64_t *begins, const int64_t *ends) {
	sl_sparse view = *all;
	view.rows = s->count;
	view.offsets = begins;
	view.ends = ends;
	view.offset_dtype = SL_I64;
	return view;
}

void sli_loader_next(sl_loader *l, sl_batch *batch) {
	notice_fork(l);
	const slot *s = take_slot(l);
	*batch = (sl_batch){.struct_size = sizeof *batch,
						.epoch = s->epoch,
						.first = s->first,
						.count = s->count,
						.total = s->total,
						.rows = s->rows,
						.labels = l->all_labels ? s->labels : NULL};
	batch->inputs = chosen(&l->inputs, s, s->begins, s->ends);
	if (l->has_targets)
		batch->targets = chosen(&l->targets, s, s->target_begins, s->target_ends);
	if (l->class_weights)
		batch->targets = (sl_sparse){.rows = s->count,
									 .cols = l->classes,
									 .nnz = s->count,
									 .offsets = s->target_begins,
									 .ends = s->target_ends,
									 .offset_dtype = SL_I64,
									 .col_indices = s->labels,
									 .index_dtype = SL_I32,
									 .values = s->weights,
									 .dtype = SL_F32};
	l->served_epoch = s->total ? s->epoch : s->epoch + 1;
	l->served_first = s->total ? s->first + s->total : 0;
}

void sli_loader_seek(sl_loader *l, int64_t epoch, int64_t first) {
	notice_fork(l);
	if (l->threaded)
		pthread_mutex_lock(&l->lock);
	l->epoch = l->served_epoch = epoch;
	l->first = l->served_first = first;
	l->ready = 0;
	if (l->threaded) {
		pthread_cond_signal(&l->freed);
		pthread_mutex_unlock(&l->lock);
	}
}

int64_t sli_loader_batch(const sl_loader *l) {
	return l->batch;
}

int64_t sli_loader_samples(const sl_loader *l) {
	return l->total;
}

/* The arrays of each slot, one behind the other. */
static void lay_out(sl_loader *l) {
	char *at = l->block;
	size_t longs = (size_t)l->batch * sizeof(int64_t), shorts = (size_t)l->batch * 4;
	for (size_t i = 0; i < l->slot_count; i++) {
		int64_t **arrays[] = {&l->slots[i].rows, &l->slots[i].begins, &l->slots[i].ends, &l->slots[i].target_begins,
							  &l->slots[i].target_ends};
		for (int j = 0; j < 5; j++, at += longs)
			*arrays[j] = (int64_t *)at;
	}
	for (size_t i = 0; i < l->slot_count; i++, at += 2 * shorts) {
		l->slots[i].labels = (int32_t *)at;
		l->slots[i].weights = (float *)(at + shorts);
	}
}

static sl_status allocate(sl_context *context, sl_loader *l, const sl_loader_options *o) {
	int64_t elements;
	if (!sli_mul((int64_t)l->slot_count, l->batch, &elements) || !sli_bytes(elements, 48, &l->block_bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%zu batches of %lld samples", l->slot_count, (long long)l->batch);
	const char *what = "a loader";
	SL_TRY(sli_allocate(context, l->block_bytes, what, &l->block));
	SL_TRY(sli_allocate_zeroed(context, l->slot_count * sizeof *l->slots, what, (void **)&l->slots));
	SL_TRY(sli_allocate(context, (size_t)l->samples * sizeof *l->order, what, (void **)&l->order));
	if (o->subset) {
		SL_TRY(sli_allocate(context, (size_t)l->samples * sizeof *l->subset, what, (void **)&l->subset));
		if (l->samples)
			memcpy(l->subset, o->subset, (size_t)l->samples * sizeof *l->subset);
	}
	if (o->class_weights) {
		SL_TRY(sli_allocate(context, (size_t)l->classes * sizeof *l->class_weights, what, (void **)&l->class_weights));
		if (l->classes)
			memcpy(l->class_weights, o->class_weights, (size_t)l->classes * sizeof *l->class_weights);
	}
	lay_out(l);
	return SL_OK;
}

sl_status sli_loader_create(sl_loader **result, sl_context *context, const sl_sparse *inputs,
							const sl_loader_options *o) {
	sl_loader *l;
	*result = NULL;
	SL_TRY(sli_allocate_zeroed(context, sizeof *l, "a loader", (void **)&l));
	l->heap = sli_heap_retain(sli_heap(context));
	l->seed = sli_seed(context);
	l->stream = o->stream;
	l->inputs = *inputs;
	l->has_targets = o->targets != NULL;
	if (o->targets)
		l->targets = *o->targets;
	l->keep_order = o->keep_order;
	l->drop_last = o->drop_last;
	l->all_labels = o->labels;
	l->samples = o->subset ? o->subset_count : inputs->rows;
	l->shared = o->share != NULL;
	if (o->share)
		l->share = *o->share;
	l->total = o->share ? o->share->total : l->samples;
	/* A smaller batch holds all; dropped as well where only whole batches are wanted. */
	l->batch = o->batch < l->total || o->drop_last ? o->batch : l->total > 0 ? l->total : 1;
	l->classes = o->class_weights ? o->classes : 0;
	l->ordered_epoch = -1;
	l->slot_count = (size_t)o->prefetch + 1;
	sl_status status = allocate(context, l, o);
	if (status == SL_OK && o->prefetch)
		status = start(context, l);
	if (status == SL_OK)
		*result = l;
	else
		sl_loader_destroy(l);
	return status;
}

void sl_loader_destroy(sl_loader *l) {
	if (!l)
		return;
	if (l->threaded && l->owner == getpid()) {
		pthread_mutex_lock(&l->lock);
		l->stop = true;
		pthread_cond_signal(&l->freed);
		pthread_mutex_unlock(&l->lock);
		pthread_join(l->thread, NULL);
		pthread_cond_destroy(&l->filled);
		pthread_cond_destroy(&l->freed);
		pthread_mutex_destroy(&l->lock);
	}
	sl_heap *heap = l->heap;
	sli_heap_free(heap, l->block, l->block_bytes);
	sli_heap_free(heap, l->slots, l->slot_count * sizeof *l->slots);
	sli_heap_free(heap, l->order, (size_t)l->samples * sizeof *l->order);
	sli_heap_free(heap, l->subset, (size_t)l->samples * sizeof *l->subset);
	sli_heap_free(heap, l->class_weights, (size_t)l->classes * sizeof *l->class_weights);
	sli_heap_free(heap, l, sizeof *l);
	sli_heap_release(heap);
}
