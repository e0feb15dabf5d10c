/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "backend/registry.h"
#include "core/context_struct.h"

static sl_status refuse(const sl_context_options *options, sl_status status, const char *why) {
	if (options->error && options->error_size)
		snprintf(options->error, options->error_size, "%s", why);
	return status;
}

static const char *wrong(const sl_context_options *o) {
	if (o->device < SL_DEVICE_AUTO || o->device > SL_DEVICE_CUDA)
		return "device must be SL_DEVICE_AUTO, SL_DEVICE_CPU or SL_DEVICE_CUDA";
	if (o->device_index < 0)
		return "device_index must not be negative";
	if (o->threads < 0 || o->threads > 4096)
		return "threads must be in [0, 4096]";
	if (!o->allocator.allocate != !o->allocator.release)
		return "allocator needs both allocate and release, or neither";
	if (!o->device_allocator.allocate != !o->device_allocator.release)
		return "device_allocator needs both allocate and release, or neither";
	if (!o->parallel_for.run && (o->parallel_for.user || o->parallel_for.threads))
		return "parallel_for.run is null";
	if (o->parallel_for.threads < 0)
		return "parallel_for.threads must not be negative";
	if (o->log_level < 0 || o->log_level > SL_LOG_DEBUG)
		return "log_level is not a level";
	if ((int)o->plan_mode < SL_PLAN_AUTO || o->plan_mode > SL_PLAN_DENSE)
		return "plan_mode is not one of SL_PLAN_...";
	if (o->calibration && !*o->calibration)
		return "calibration is \"\"; give a path, \"off\", or NULL";
	return NULL;
}

sl_status sl_context_create(sl_context **context, const sl_context_options *options) {
	sl_context_options full;
	if (!context)
		return SL_ERR_NULL;
	*context = NULL;
	SL_OPTIONS_INIT(full);
	if (options) {
		/* An older caller's struct is shorter; what it lacks keeps its default. */
		if (options->struct_size < offsetof(sl_context_options, device_index))
			return SL_ERR_ARGUMENT;
		if (options->struct_size > sizeof full)
			return refuse(options, SL_ERR_ARGUMENT, "struct_size is larger than this library's sl_context_options");
		memcpy(&full, options, options->struct_size);
		full.struct_size = sizeof full;
	}
	if (full.error && full.error_size)
		full.error[0] = 0;
	const char *why = wrong(&full);
	if (why)
		return refuse(&full, SL_ERR_ARGUMENT, why);
	sl_status status = sli_context_open(context, &full);
	if (status != SL_OK && full.error && full.error_size && !full.error[0])
		return refuse(&full, status, sl_status_text(status));
	return status;
}

void sl_context_destroy(sl_context *context) {
	sli_context_close(context);
}

const char *sl_context_message(const sl_context *context) {
	return context ? context->message : "";
}

sl_device sl_context_device(const sl_context *context) {
	return context ? context->device->backend->device : SL_DEVICE_CPU;
}

int sl_context_threads(const sl_context *context) {
	return context ? sli_team_threads(context->team) : 0;
}

const char *sl_context_describe(const sl_context *context) {
	return context ? context->description : "";
}

sl_status sl_context_memory(const sl_context *context, sl_memory_usage *usage) {
	if (!context || !usage)
		return SL_ERR_NULL;
	if (usage->struct_size < sizeof *usage)
		return SL_ERR_ARGUMENT;
	sli_heap_usage(context->heap, usage);
	return SL_OK;
}

sl_status sl_context_set_log(sl_context *context, sl_log_callback log, sl_log_level level, void *user) {
	if (!context)
		return SL_ERR_NULL;
	if (level < 0 || level > SL_LOG_DEBUG)
		return sli_fail(context, SL_ERR_ARGUMENT, "level %d is no log level", (int)level);
	context->options.log = log;
	context->options.log_level = level ? level : SL_LOG_INFO;
	context->options.log_user = user;
	return SL_OK;
}

sl_status sl_context_set_progress(sl_context *context, sl_progress_callback progress, void *user) {
	if (!context)
		return SL_ERR_NULL;
	context->options.progress = progress;
	context->options.progress_user = user;
	return SL_OK;
}

sl_status sl_context_set_plan_mode(sl_context *context, sl_plan_mode mode) {
	if (!context)
		return SL_ERR_NULL;
	if ((int)mode < SL_PLAN_AUTO || mode > SL_PLAN_DENSE)
		return sli_fail(context, SL_ERR_ARGUMENT, "mode %d is no plan mode; they go from 0 to %d", (int)mode,
						(int)SL_PLAN_DENSE);
	sli_set_plan_mode(context, mode);
	return SL_OK;
}

sl_status sl_context_synchronize(sl_context *context) {
	if (!context)
		return SL_ERR_NULL;
	return context->device->backend->synchronize(context->device->device);
}

sl_status sl_context_trim(sl_context *context) {
	if (!context)
		return SL_ERR_NULL;
	const sl_backend *backend = context->device->backend;
	if (backend->capturing && backend->capturing(context->device->device))
		return sli_fail(context, SL_ERR_STATE, "the stream captures a graph: memory is given back after it");
	sli_arena_trim(context);
	return backend->trim ? backend->trim(context->device->device) : SL_OK;
}

static int list(const sl_backend *backend, sl_device_info *found, int capacity) {
	memset(found, 0, sizeof *found * (size_t)capacity);
	return backend->devices(found, capacity);
}

sl_status sl_devices(sl_device_info *devices, int *count) {
	enum { MOST = 64 };
	sl_device_info found[MOST];
	char why[192] = "";
	void *handle = NULL;
	if (!count || (!devices && *count > 0))
		return SL_ERR_NULL;
	int capacity = *count, total = 1;
	list(sli_backend_load(SL_DEVICE_CPU, &handle, why, sizeof why), found, 1);
	const sl_backend *cuda = sli_backend_load(SL_DEVICE_CUDA, &handle, why, sizeof why);
	if (cuda) {
		int gpus = list(cuda, found + 1, MOST - 1);
		total += gpus < MOST - 1 ? gpus : MOST - 1;
	} else {
		found[1] = (sl_device_info){.device = SL_DEVICE_CUDA, .name = "no GPU"};
		snprintf(found[1].detail, sizeof found[1].detail, "%s", why);
		total++;
	}
	sli_backend_unload(handle);
	for (int i = 0; i < total && i < capacity; i++) {
		size_t size = devices[i].struct_size;
		if (size < sizeof size || size > sizeof found[i])
			return SL_ERR_ARGUMENT;
		memcpy(&devices[i], &found[i], size);
		devices[i].struct_size = size;
	}
	*count = total;
	return SL_OK;
}
