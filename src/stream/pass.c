/* SPDX-License-Identifier: Apache-2.0 */
/* One pass over a matrix: slots, threads, and the order of things. */
#include <stdio.h>

#include "core/host.h"
#include "core/profile.h"
#include "stream/ring.h"

void sli_stream_event(const sl_stream_options *options, sl_stream_report *report, sl_stream_stage stage, int64_t chunk,
					  double begin, double end, int64_t bytes) {
	if (!options->events)
		return;
	int64_t at = __atomic_fetch_add(&report->events, 1, __ATOMIC_RELAXED);
	if (at < options->event_capacity)
		options->events[at] = (sl_stream_event){stage, chunk, begin, end, bytes};
}

size_t sli_stream_available(sl_context *context, const sl_stream_options *options) {
	sl_memory_usage usage = {.struct_size = sizeof usage};
	sli_arena_trim(context); /* the workspace of a call before */
	sli_heap_usage(sli_heap(context), &usage);
	size_t left = usage.budget ? (usage.budget > usage.current ? usage.budget - usage.current : 1) : 0;
	if (options->host_budget && (!left || options->host_budget < left))
		left = options->host_budget;
	return left;
}

static bool on_host(const sl_pass *pass) {
	return sli_on_host(sli_device(pass->context));
}

/* Whether anything has to be read: else chunks are views into host arrays, and there is no thread. */
static bool reads(const sl_pass *pass) {
	if (pass->writes || pass->source->read || !pass->source->offsets.memory)
		return true;
	for (int a = 0; a < pass->arrays; a++)
		if (!pass->array[a].from.memory)
			return true;
	return false;
}

static size_t array_room(const sl_pass *pass, int a) {
	return (size_t)sli_block_ceil((int64_t)((size_t)pass->sizes.entries * pass->array[a].size)) + 2 * SL_BLOCK;
}

/* Lay the slots out in the block; with memory NULL, say how large it must be. */
static size_t lay_out(sl_pass *pass, sl_ring *ring, char *memory, char *device, size_t *device_bytes) {
	size_t used = 0, on_device = 0;
	char *base = memory ? (char *)(((uintptr_t)memory + SL_BLOCK - 1) & ~(uintptr_t)(SL_BLOCK - 1)) : NULL;
	bool buffers = reads(pass);
	for (int i = 0; i < pass->sizes.slots; i++) {
		sl_slot *slot = &ring->slot[i];
		for (int a = 0; a < pass->arrays; a++) {
			bool own = buffers && !pass->array[a].from.memory;
			slot->buffer[a] = base && own ? base + used : NULL;
			slot->device[a] = device ? device + on_device : NULL;
			used += own ? array_room(pass, a) : 0;
			on_device += ((size_t)pass->sizes.entries * pass->array[a].size + 63) / 64 * 64;
		}
	}
	size_t offsets = (((size_t)pass->sizes.rows + 1) * sizeof(int32_t) + 63) / 64 * 64;
	for (int i = 0; i < pass->sizes.slots; i++) {
		ring->slot[i].offsets = base ? (int32_t *)(void *)(base + used) : NULL;
		ring->slot[i].device_offsets = device ? (int32_t *)(void *)(device + on_device) : NULL;
		used += offsets;
		on_device += offsets;
	}
	used = (size_t)sli_block_ceil((int64_t)used);
	if (!pass->source->offsets.memory && !pass->source->read) {
		size_t size = sl_dtype_size(pass->source->offset_dtype);
		int64_t count = pass->source->rows + 1 < SL_WINDOW_OFFSETS ? pass->source->rows + 1 : SL_WINDOW_OFFSETS;
		ring->window.buffer = base ? base + used : NULL;
		used += (size_t)sli_block_ceil(count * (int64_t)size) + 2 * SL_BLOCK;
	}
	for (int a = 0; a < pass->arrays && pass->writes; a++, used += SL_BLOCK)
		ring->carry[a] = base ? base + used : NULL;
	*device_bytes = on_device;
	return used + SL_BLOCK;
}

static sl_status take_memory(sl_pass *pass) {
	sl_device_state *state = sli_device(pass->context);
	sl_memory kind = on_host(pass) ? SL_MEMORY_HOST : SL_MEMORY_PINNED;
	pass->memory_bytes = lay_out(pass, pass->ring, NULL, NULL, &pass->device_bytes);
	SL_TRY(state->backend->allocate(state->device, pass->memory_bytes, kind, (void **)&pass->memory));
	if (on_host(pass))
		return SL_OK;
	sl_status status =
		state->backend->allocate(state->device, pass->device_bytes, SL_MEMORY_DEVICE, (void **)&pass->device_memory);
	if (status != SL_OK) {
		state->backend->release(state->device, pass->memory, pass->memory_bytes, kind);
		pass->memory = NULL;
	}
	return status;
}

sl_status sli_pass_open(sl_pass *pass, const sl_stream_demand *demand, size_t available) {
	void *memory;
	sl_stream_demand wanted = *demand;
	SL_TRY(sli_allocate_zeroed(pass->context, sizeof(sl_ring), "a ring of slots", &memory));
	pass->ring = memory;
	for (;;) {
		if (!sli_stream_size(&wanted, available, &pass->sizes))
			return sli_fail(pass->context, SL_ERR_BUDGET,
							"streaming a matrix of %lld columns takes at least %zu bytes; %zu are left of the budget: "
							"raise memory_budget (or host_budget) by %zu",
							(long long)demand->cols, pass->sizes.bytes, available, pass->sizes.bytes - available);
		sl_status status = take_memory(pass);
		if (status == SL_OK)
			break;
		int64_t floor = demand->nnz < demand->piece ? demand->nnz : demand->piece;
		floor = demand->cols < floor ? demand->cols : floor;
		if ((status != SL_ERR_MEMORY && status != SL_ERR_BUDGET) || pass->sizes.entries <= floor)
			return status == SL_ERR_MEMORY || status == SL_ERR_BUDGET
					   ? sli_fail_memory(pass->context, pass->memory_bytes, "the slots of a stream")
					   : status;
		wanted.most_entries = pass->sizes.entries / 2;
		sli_log(pass->context, SL_LOG_WARNING, "%zu bytes for streaming could not be had: going on with chunks of half",
				pass->memory_bytes);
	}
	lay_out(pass, pass->ring, pass->memory, pass->device_memory, &pass->device_bytes);
	return SL_OK;
}

void sli_pass_close(sl_pass *pass) {
	sl_device_state *state = sli_device(pass->context);
	if (pass->memory)
		state->backend->release(state->device, pass->memory, pass->memory_bytes,
								on_host(pass) ? SL_MEMORY_HOST : SL_MEMORY_PINNED);
	if (pass->device_memory)
		state->backend->release(state->device, pass->device_memory, pass->device_bytes, SL_MEMORY_DEVICE);
	if (pass->ring)
		sli_heap_free(sli_heap(pass->context), pass->ring, sizeof *pass->ring);
	pass->memory = pass->device_memory = NULL;
	pass->ring = NULL;
}

/* The slot's next state, told to who waits for it. */
static void set_state(sl_ring *ring, sl_slot *slot, sl_slot_state state) {
	pthread_mutex_lock(&ring->lock);
	slot->state = state;
	pthread_cond_broadcast(&ring->changed);
	pthread_mutex_unlock(&ring->lock);
}

static void *reader(void *argument) {
	sl_pass *pass = argument;
	sl_ring *ring = pass->ring;
	for (int64_t n = 0;; n++) {
		sl_slot *slot = &ring->slot[n % pass->sizes.slots];
		pthread_mutex_lock(&ring->lock);
		while (slot->state != SL_SLOT_FREE && !ring->stop)
			pthread_cond_wait(&ring->changed, &ring->lock);
		bool stop = ring->stop, end = false;
		pthread_mutex_unlock(&ring->lock);
		if (stop)
			return NULL;
		double begin = sli_seconds();
		int64_t before = ring->bytes_read;
		slot->number = n;
		sl_status status = sli_ring_fill(pass, ring, slot, &end);
		double done = sli_seconds();
		if (!end) {
			ring->read_seconds += done - begin;
			sli_stream_event(pass->options, pass->report, SL_STAGE_READ, n, begin - pass->began, done - pass->began,
							 ring->bytes_read - before);
		}
		pthread_mutex_lock(&ring->lock);
		if (status != SL_OK || end) {
			ring->read_all = true;
			ring->chunks = n;
		} else {
			slot->state = SL_SLOT_FULL;
		}
		pthread_cond_broadcast(&ring->changed);
		pthread_mutex_unlock(&ring->lock);
		if (status != SL_OK || end)
			return NULL;
	}
}

static void *writer(void *argument) {
	sl_pass *pass = argument;
	sl_ring *ring = pass->ring;
	for (int64_t n = 0;; n++) {
		sl_slot *slot = &ring->slot[n % pass->sizes.slots];
		pthread_mutex_lock(&ring->lock);
		while (slot->state != SL_SLOT_COMPUTED && !ring->stop && !(ring->read_all && n >= ring->chunks))
			pthread_cond_wait(&ring->changed, &ring->lock);
		bool work = slot->state == SL_SLOT_COMPUTED && !ring->stop;
		pthread_mutex_unlock(&ring->lock);
		if (!work)
			return NULL;
		double begin = sli_seconds();
		int64_t before = ring->bytes_written;
		sl_status status = sli_ring_empty(pass, ring, slot);
		double done = sli_seconds();
		ring->write_seconds += done - begin;
		sli_stream_event(pass->options, pass->report, SL_STAGE_WRITE, n, begin - pass->began, done - pass->began,
						 ring->bytes_written - before);
		pthread_mutex_lock(&ring->lock);
		slot->state = SL_SLOT_FREE;
		ring->stop |= status != SL_OK;
		pthread_cond_broadcast(&ring->changed);
		pthread_mutex_unlock(&ring->lock);
		if (status != SL_OK)
			return NULL;
	}
}

static sl_status transfer(sl_pass *pass, sl_slot *slot) {
	sl_device_state *state = sli_device(pass->context);
	double begin = sli_seconds();
	size_t bytes = ((size_t)slot->rows + 1) * sizeof(int32_t);
	SL_TRY(state->backend->copy(state->device, slot->device_offsets, SL_MEMORY_DEVICE, slot->offsets, SL_MEMORY_PINNED,
								bytes));
	for (int a = 0; a < pass->arrays; a++) {
		sl_memory kind = slot->buffer[a] ? SL_MEMORY_PINNED : SL_MEMORY_HOST;
		size_t more = (size_t)slot->entries * pass->array[a].size;
		SL_TRY(state->backend->copy(state->device, slot->device[a], SL_MEMORY_DEVICE, slot->data[a], kind, more));
		bytes += more;
	}
	sli_stream_event(pass->options, pass->report, SL_STAGE_TRANSFER, slot->number, begin - pass->began,
					 sli_seconds() - pass->began, (int64_t)bytes);
	return SL_OK;
}

static sl_status transfer_back(sl_pass *pass, sl_slot *slot) {
	sl_device_state *state = sli_device(pass->context);
	for (int a = 1; a < pass->arrays; a++)
		if (pass->array[a].to.file)
			SL_TRY(state->backend->copy(state->device, slot->data[a], SL_MEMORY_PINNED, slot->device[a],
										SL_MEMORY_DEVICE, (size_t)slot->entries * pass->array[a].size));
	return state->backend->synchronize(state->device);
}

static sl_status compute(sl_pass *pass, sl_slot *slot) {
	const sl_source *s = pass->source;
	bool host = on_host(pass);
	if (!host)
		SL_TRY(transfer(pass, slot));
	char *const *data = host ? slot->data : slot->device;
	sl_chunk chunk = {.arrays = {.rows = slot->rows,
								 .cols = s->cols,
								 .nnz = slot->entries,
								 .row_offsets = host ? slot->offsets : slot->device_offsets,
								 .offset_dtype = SL_I32,
								 .col_indices = (const int32_t *)(const void *)data[0]},
					  .values = pass->arrays > 1 ? data[1] : NULL,
					  .begins = slot->begins,
					  .ends = slot->ends};
	double begin = sli_seconds();
	sl_status status = pass->compute(pass, slot, &chunk);
	if (status == SL_ERR_STRUCTURE) {
		char text[256];
		snprintf(text, sizeof text, "%s", sl_context_message(pass->context));
		status = sli_fail(pass->context, status, "%s: %s; the chunk begins with row %lld",
						  s->path ? s->path : "the source", text, (long long)slot->first_row);
	}
	if (status == SL_OK && !host)
		status = transfer_back(pass, slot);
	double end = sli_seconds();
	pass->report->compute_seconds += end - begin;
	sli_stream_event(pass->options, pass->report, SL_STAGE_COMPUTE, slot->number, begin - pass->began,
					 end - pass->began, slot->entries * (int64_t)(sizeof(int32_t) + sl_dtype_size(s->dtype)));
	return status;
}

/* Of `entries` more, which the caller took from the slot while it was his. */
static sl_status tell(sl_pass *pass, int64_t entries) {
	for (int a = 0; a < pass->arrays; a++)
		pass->done_bytes += entries * (int64_t)pass->array[a].size * (pass->array[a].to.file ? 2 : 1);
	if (!sli_has_progress(pass->context))
		return SL_OK;
	if (sli_progress_bytes(pass->context, "stream", pass->done_bytes, pass->total_bytes, pass->began))
		return SL_OK;
	return sli_fail(pass->context, SL_ERR_CANCELLED, "cancelled after %lld of %lld bytes", (long long)pass->done_bytes,
					(long long)pass->total_bytes);
}

/* Chunks in order, as the reader delivers them. */
static sl_status consume(sl_pass *pass) {
	sl_ring *ring = pass->ring;
	for (int64_t n = 0;; n++) {
		sl_slot *slot = &ring->slot[n % pass->sizes.slots];
		double begin = sli_seconds();
		pthread_mutex_lock(&ring->lock);
		while (slot->state != SL_SLOT_FULL && !ring->stop && !(ring->read_all && n >= ring->chunks))
			pthread_cond_wait(&ring->changed, &ring->lock);
		bool work = slot->state == SL_SLOT_FULL && !ring->stop;
		pthread_mutex_unlock(&ring->lock);
		pass->report->wait_seconds += sli_seconds() - begin;
		if (!work)
			return SL_OK;
		int64_t entries = slot->entries;
		SL_TRY(compute(pass, slot));
		set_state(ring, slot, pass->writes ? SL_SLOT_COMPUTED : SL_SLOT_FREE);
		pass->report->chunks++;
		SL_TRY(tell(pass, entries));
	}
}

/* Host arrays: one slot, filled between the products. */
static sl_status run_alone(sl_pass *pass) {
	sl_ring *ring = pass->ring;
	sl_slot *slot = &ring->slot[0];
	for (int64_t n = 0;; n++) {
		bool end;
		slot->number = n;
		if (sli_ring_fill(pass, ring, slot, &end) != SL_OK)
			return sli_fail(pass->context, ring->reader.status, "%s", ring->reader.text);
		if (end)
			return SL_OK;
		for (int a = 0; a < pass->arrays; a++)
			ring->bytes_read += slot->entries * (int64_t)pass->array[a].size;
		SL_TRY(compute(pass, slot));
		pass->report->chunks++;
		SL_TRY(tell(pass, slot->entries));
	}
}

static sl_status run_threads(sl_pass *pass) {
	sl_ring *ring = pass->ring;
	pthread_t threads[2];
	pthread_mutex_init(&ring->lock, NULL);
	pthread_cond_init(&ring->changed, NULL);
	int started = pthread_create(&threads[0], NULL, reader, pass) == 0;
	if (started && pass->writes && pthread_create(&threads[1], NULL, writer, pass) == 0)
		started++;
	bool all = started == 1 + pass->writes;
	sl_status status = all ? consume(pass) : sli_fail(pass->context, SL_ERR_MEMORY, "no thread for reading");
	pthread_mutex_lock(&ring->lock);
	ring->stop |= status != SL_OK;
	pthread_cond_broadcast(&ring->changed);
	pthread_mutex_unlock(&ring->lock);
	for (int i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	pthread_cond_destroy(&ring->changed);
	pthread_mutex_destroy(&ring->lock);
	const sl_trouble *trouble = ring->reader.status != SL_OK ? &ring->reader : &ring->writer;
	if (status == SL_OK && trouble->status != SL_OK)
		status = sli_fail(pass->context, trouble->status, "%s", trouble->text);
	return status;
}

sl_status sli_pass_run(sl_pass *pass) {
	sl_ring *ring = pass->ring;
	sl_stream_report *report = pass->report;
	ring->row = ring->in_row = ring->entry = 0;
	ring->window.first = ring->window.count = 0;
	ring->stop = ring->read_all = false;
	ring->reader.status = ring->writer.status = SL_OK;
	ring->read_seconds = ring->write_seconds = 0;
	ring->bytes_read = ring->bytes_written = 0;
	for (int i = 0; i < pass->sizes.slots; i++)
		ring->slot[i].state = SL_SLOT_FREE;
	for (int a = 0; a < pass->arrays; a++) {
		sli_sum_begin(&ring->sum_read[a], pass->source->nnz * (int64_t)pass->array[a].size);
		sli_sum_begin(&ring->sum_written[a], pass->source->nnz * (int64_t)pass->array[a].size);
	}
	sl_status status = reads(pass) ? run_threads(pass) : run_alone(pass);
	report->passes++;
	report->read_seconds += ring->read_seconds;
	report->write_seconds += ring->write_seconds;
	report->bytes_read += ring->bytes_read;
	report->bytes_written += ring->bytes_written;
	if (pass->sizes.entries > report->chunk_entries)
		report->chunk_entries = pass->sizes.entries;
	if (pass->sizes.rows > report->chunk_rows)
		report->chunk_rows = pass->sizes.rows;
	report->slots = pass->sizes.slots;
	if (pass->sizes.bytes > report->bytes_held)
		report->bytes_held = pass->sizes.bytes;
	return status;
}
