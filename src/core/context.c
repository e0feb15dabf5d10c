/* SPDX-License-Identifier: Apache-2.0 */
#include "core/context_struct.h"

#include <stdarg.h>
#include <stdio.h>

#include "backend/registry.h"
#include "core/host.h"
#include "core/profile.h"

/* The message of a host's side is its context's too: callers know no other. */
static void keep_message(sl_context *context, const char *format, va_list list) {
	vsnprintf(context->message, SL_MESSAGE_SIZE, format, list);
	if (context->of)
		memcpy(context->of->message, context->message, SL_MESSAGE_SIZE);
}

/* Services for the backend. `user` is the device state's part that outlives the context. */
typedef struct device_record {
	sl_device_state state;
	int references;      /* atomic */
	sl_context *context; /* NULL once it is gone */
} device_record;

static sl_status host_fail(void *user, sl_status status, const char *format, ...) {
	device_record *record = user;
	if (record->context) {
		va_list list;
		va_start(list, format);
		keep_message(record->context, format, list);
		va_end(list);
	}
	return status;
}

static void host_log(void *user, sl_log_level level, const char *line) {
	device_record *record = user;
	if (record->context)
		sli_log(record->context, level, "%s", line);
}

static void *host_allocate(void *user, size_t bytes) {
	return sli_heap_allocate(((device_record *)user)->state.heap, bytes);
}

static void host_release(void *user, void *pointer, size_t bytes) {
	sli_heap_free(((device_record *)user)->state.heap, pointer, bytes);
}

static bool host_reserve(void *user, size_t bytes) {
	return sli_heap_reserve(((device_record *)user)->state.heap, bytes);
}

static void host_unreserve(void *user, size_t bytes) {
	sli_heap_unreserve(((device_record *)user)->state.heap, bytes);
}

static void host_parallel(void *user, size_t count, void (*task)(void *argument, size_t index), void *argument) {
	device_record *record = user;
	if (record->context && record->context->team)
		sli_team_run(record->context->team, count, task, argument);
	else
		for (size_t i = 0; i < count; i++)
			task(argument, i);
}

sl_device_state *sli_device_retain(sl_device_state *state) {
	__atomic_fetch_add(&((device_record *)state)->references, 1, __ATOMIC_RELAXED);
	return state;
}

void sli_device_release(sl_device_state *state) {
	device_record *record = (device_record *)state;
	if (!state || __atomic_fetch_sub(&record->references, 1, __ATOMIC_ACQ_REL) != 1)
		return;
	if (state->device)
		state->backend->close(state->device);
	sli_backend_unload(state->module);
	sl_heap *heap = state->heap;
	sli_heap_free(heap, record, sizeof *record);
	sli_heap_release(heap);
}

sl_device_state *sli_device(sl_context *context) {
	return context->device;
}

sl_heap *sli_heap(sl_context *context) {
	return context->heap;
}

uint64_t sli_seed(const sl_context *context) {
	return context->options.seed;
}

bool sli_deterministic(const sl_context *context) {
	return context->options.deterministic;
}

sl_plan_mode sli_plan_mode(const sl_context *context) {
	return context->options.plan_mode;
}

sl_plan_mode sli_set_plan_mode(sl_context *context, sl_plan_mode mode) {
	sl_plan_mode before = context->options.plan_mode;
	context->options.plan_mode = mode;
	return before;
}

const char *sli_calibration_option(const sl_context *context) {
	return context->calibration;
}

bool *sli_calibration_tried(sl_context *context) {
	return &context->calibration_tried;
}

sl_status sli_fail(sl_context *context, sl_status status, const char *format, ...) {
	if (context) {
		va_list list;
		va_start(list, format);
		keep_message(context, format, list);
		va_end(list);
	}
	return status;
}

sl_status sli_fail_memory(sl_context *context, size_t bytes, const char *what) {
	if (!context)
		return SL_ERR_MEMORY;
	sl_memory_usage usage = {.struct_size = sizeof usage};
	sli_heap_usage(context->heap, &usage);
	if (usage.budget && bytes > usage.budget - usage.current)
		return sli_fail(context, SL_ERR_BUDGET,
						"%s needs %zu bytes; the memory budget is %zu, of which %zu are in use: raise memory_budget",
						what, bytes, usage.budget, usage.current);
	return sli_fail(context, SL_ERR_MEMORY, "no memory for %s (%zu bytes)", what, bytes);
}

void sli_log(sl_context *context, sl_log_level level, const char *format, ...) {
	if (!context || !context->options.log || level > context->options.log_level)
		return;
	char line[512];
	va_list list;
	va_start(list, format);
	vsnprintf(line, sizeof line, format, list);
	va_end(list);
	context->options.log(context->options.log_user, level, line);
}

bool sli_progress(sl_context *context, const sl_progress *progress) {
	if (!context->options.progress)
		return true;
	sl_progress full = *progress;
	double one = full.done > 0 ? full.seconds / (double)full.done : __builtin_nan("");
	int64_t epochs = full.epochs > full.epoch + 1 ? full.epochs - full.epoch - 1 : 0;
	full.seconds_left = full.total > 0 ? one * ((double)(full.total - full.done) + (double)epochs * (double)full.total)
									   : __builtin_nan("");
	return context->options.progress(context->options.progress_user, &full);
}

bool sli_progress_bytes(sl_context *context, const char *what, int64_t done, int64_t total, double began) {
	return sli_progress(context, &(sl_progress){.what = what,
												.done = done,
												.total = total,
												.epoch = -1,
												.loss = __builtin_nan(""),
												.accuracy = __builtin_nan(""),
												.seconds = sli_seconds() - began});
}

bool sli_has_progress(const sl_context *context) {
	return context->options.progress != NULL;
}

sl_status sli_allocate(sl_context *context, size_t bytes, const char *what, void **pointer) {
	*pointer = sli_heap_allocate(context->heap, bytes);
	return *pointer ? SL_OK : sli_fail_memory(context, bytes, what);
}

sl_status sli_allocate_zeroed(sl_context *context, size_t bytes, const char *what, void **pointer) {
	SL_TRY(sli_allocate(context, bytes, what, pointer));
	memset(*pointer, 0, bytes);
	return SL_OK;
}

sl_status sli_grow(sl_context *context, sl_heap *heap, void **list, int *capacity, int wanted, size_t size,
				   const char *what) {
	if (wanted <= *capacity)
		return SL_OK;
	int room = 2 * *capacity > 8 ? 2 * *capacity : 8;
	room = room > wanted ? room : wanted;
	void *grown = sli_heap_allocate(heap, (size_t)room * size);
	if (!grown)
		return sli_fail_memory(context, (size_t)room * size, what);
	size_t old = (size_t)*capacity * size;
	if (old)
		memcpy(grown, *list, old);
	sli_heap_free(heap, *list, old);
	*list = grown;
	*capacity = room;
	return SL_OK;
}

void sli_parallel(sl_context *context, size_t count, void (*task)(void *argument, size_t index), void *argument) {
	sli_team_run(context->team, count, task, argument);
}

sl_status sli_buffer_create(sl_buffer *buffer, sl_context *context, size_t bytes, bool zero, const char *what) {
	sl_device_state *state = context->device;
	void *data = NULL;
	*buffer = (sl_buffer){0};
	sl_status status = state->backend->allocate(state->device, bytes, SL_MEMORY_DEVICE, &data);
	if (status != SL_OK)
		return status == SL_ERR_MEMORY || status == SL_ERR_BUDGET ? sli_fail_memory(context, bytes, what) : status;
	if (zero)
		status = state->backend->fill(state->device, data, 0, bytes);
	if (status != SL_OK) {
		state->backend->release(state->device, data, bytes, SL_MEMORY_DEVICE);
		return status;
	}
	*buffer = (sl_buffer){sli_device_retain(state), data, bytes};
	return SL_OK;
}

void sli_buffer_destroy(sl_buffer *buffer) {
	if (buffer->device) {
		buffer->device->backend->release(buffer->device->device, buffer->data, buffer->bytes, SL_MEMORY_DEVICE);
		sli_device_release(buffer->device);
	}
	*buffer = (sl_buffer){0};
}

/* Open a backend for a context that has its heap and team. */
static sl_status open_device(sl_context *context, sl_device device) {
	char why[256] = "";
	device_record *record = sli_heap_allocate(context->heap, sizeof *record);
	if (!record)
		return sli_fail_memory(context, sizeof *record, "the device's state");
	*record = (device_record){.references = 1, .context = context};
	record->state.heap = sli_heap_retain(context->heap);
	record->state.backend = sli_backend_load(device, &record->state.module, why, sizeof why);
	record->state.host = (sl_host){.abi = SL_BACKEND_ABI,
								   .user = record,
								   .fail = host_fail,
								   .log = host_log,
								   .allocate = host_allocate,
								   .release = host_release,
								   .reserve = host_reserve,
								   .unreserve = host_unreserve,
								   .parallel = host_parallel,
								   .threads = sli_team_threads(context->team),
								   .deterministic = context->options.deterministic,
								   .stream = context->options.stream,
								   .device_index = context->options.device_index,
								   .device_allocator = context->options.device_allocator,
								   .pool_keep = context->options.pool_keep,
								   .tf32 = context->options.tf32};
	sl_status status = SL_OK;
	if (!record->state.backend)
		status = sli_fail(context, SL_ERR_DEVICE, "%s is not available: %s", sl_device_name(device), why);
	else if (device == SL_DEVICE_CUDA && context->options.device == SL_DEVICE_AUTO &&
			 (~record->state.backend->flags & (SL_BACKEND_TRAINS | SL_BACKEND_INPUTS)))
		status = sli_fail(context, SL_ERR_DEVICE, "the cuda module has no sparse inputs yet: ask for it by name");
	else
		status = record->state.backend->open(&record->state.host, &record->state.device);
	if (status != SL_OK) {
		sli_device_release(&record->state);
		return status;
	}
	context->device = &record->state;
	return SL_OK;
}

static sl_status choose_device(sl_context *context) {
	sl_device wanted = context->options.device;
	if (wanted == SL_DEVICE_AUTO || wanted == SL_DEVICE_CUDA) {
		sl_status status = open_device(context, SL_DEVICE_CUDA);
		if (status == SL_OK || wanted == SL_DEVICE_CUDA)
			return status;
		sli_log(context, SL_LOG_INFO, "using the cpu; cuda: %s", context->message);
		context->message[0] = 0;
	}
	return open_device(context, SL_DEVICE_CPU);
}

void sli_context_close(sl_context *context) {
	if (!context)
		return;
	sli_context_close(context->host);
	if (context->device) {
		sl_device_state *state = context->device;
		while (context->blocks) {
			context->blocks--;
			state->backend->release(state->device, context->arena[context->blocks].data,
									context->arena[context->blocks].bytes, SL_MEMORY_DEVICE);
		}
		((device_record *)state)->context = NULL;
		/* What is left runs without threads. */
		state->host.threads = 1;
		sli_device_release(state);
	}
	if (!context->of)
		sli_team_destroy(context->team);
	sl_heap *heap = context->heap;
	if (context->calibration)
		sli_heap_free(heap, context->calibration, strlen(context->calibration) + 1);
	sli_heap_free(heap, context, sizeof *context);
	sli_heap_release(heap);
}

sl_status sli_host_context(sl_context *context, sl_context **host) {
	void *memory;
	*host = sli_on_host(context->device) ? context : context->host;
	if (*host)
		return SL_OK;
	SL_TRY(sli_allocate_zeroed(context, sizeof(sl_context), "the host's side of a context", &memory));
	sl_context *made = memory;
	made->heap = sli_heap_retain(context->heap);
	made->options = context->options;
	made->options.device = SL_DEVICE_CPU;
	made->options.stream = NULL;
	made->team = context->team;
	made->of = context;
	sl_status status = open_device(made, SL_DEVICE_CPU);
	if (status != SL_OK) {
		sli_context_close(made);
		return status;
	}
	*host = context->host = made;
	return SL_OK;
}

static sl_status keep_path(sl_context *context, const char *path) {
	if (!path)
		return SL_OK;
	size_t bytes = strlen(path) + 1;
	context->calibration = sli_heap_allocate(context->heap, bytes);
	if (!context->calibration)
		return SL_ERR_MEMORY;
	memcpy(context->calibration, path, bytes);
	return SL_OK;
}

sl_status sli_context_open(sl_context **result, const sl_context_options *options) {
	sl_heap *heap = NULL;
	if (sli_heap_create(&heap, &options->allocator, options->memory_budget) != SL_OK)
		return SL_ERR_MEMORY;
	sl_context *context = sli_heap_allocate(heap, sizeof *context);
	if (!context) {
		sl_status why = sli_heap_refused(heap) ? SL_ERR_BUDGET : SL_ERR_MEMORY;
		sli_heap_release(heap);
		return why;
	}
	memset(context, 0, sizeof *context);
	context->heap = heap;
	context->options = *options;
	context->options.error = NULL;
	if (!context->options.log_level)
		context->options.log_level = SL_LOG_INFO;
	context->options.calibration = NULL;
	sl_status status = keep_path(context, options->calibration);
	if (status == SL_OK)
		status =
			sli_team_create(&context->team, heap, options->threads, &options->parallel_for, options->flush_to_zero);
	if (status != SL_OK)
		sli_fail(context, status, "no memory for the thread pool or an option");
	else
		status = choose_device(context);
	if (status == SL_OK) {
		int n = snprintf(context->description, sizeof context->description, "%s (", context->device->backend->name);
		context->device->backend->describe(context->device->device, context->description + n,
										   sizeof context->description - (size_t)n - 1);
		strcat(context->description, ")");
		*result = context;
		return SL_OK;
	}
	if (status == SL_ERR_MEMORY && sli_heap_refused(heap))
		status = sli_fail(context, SL_ERR_BUDGET, "memory_budget of %zu bytes is too small for a context",
						  options->memory_budget);
	if (options->error && options->error_size)
		snprintf(options->error, options->error_size, "%s", context->message);
	sli_context_close(context);
	return status;
}
