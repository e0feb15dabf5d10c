/* SPDX-License-Identifier: Apache-2.0 */
/* Objects, counts, planned failures and elements. */
#include "state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES = 128 };

static struct {
	fake_object *objects;
	uintptr_t ids;
	long calls, until, live;
	bool losing, lost;
	char failed[64];
	char fault[256];
	struct {
		char name[48];
		long count;
	} counts[NAMES];
} fake = {.until = -1};

bool fake_cuda_present(void) {
	return true;
}

void fake_cuda_fail_at(long k) {
	fake.until = k;
	fake.losing = false;
	fake.failed[0] = 0;
}

void fake_cuda_lose_at(long k) {
	fake_cuda_fail_at(k);
	fake.losing = true;
}

const char *fake_cuda_failed(void) {
	return fake.failed;
}

long fake_cuda_calls(void) {
	return fake.calls;
}

long fake_cuda_live(void) {
	return fake.live;
}

const char *fake_cuda_fault(void) {
	return fake.fault;
}

bool fake_cuda_take(const char *name) {
	bool lost = fake.lost; /* the test's own calls go on */
	fake.lost = false;
	bool taken = fake_take(name);
	fake.lost |= lost;
	return taken;
}

void fake_cuda_reset(void) {
	fake.calls = 0;
	fake.until = -1;
	fake.lost = fake.losing = false;
	fake.failed[0] = fake.fault[0] = 0;
	memset(fake.counts, 0, sizeof fake.counts);
	(void)cudaGetLastError();
	fake_forget_widest();
}

static int from_environment(const char *name, int otherwise) {
	const char *text = getenv(name);
	return text && *text ? atoi(text) : otherwise;
}

void fake_cuda_discard(void) {
	fake.lost = false;
	for (fake_object *o = fake.objects; o; o = o->next)
		if (o->kind == FAKE_STREAM)
			o->capturing = false;
	fake_drain_all();
	while (fake.objects)
		(void)fake_remove(fake.objects->kind, (void *)fake.objects->id);
	fake_forget_memory();
	fake_cuda_reset();
	fake_set_current(0);
	fake_cuda_devices(from_environment("FAKE_CUDA_DEVICES", 2));
	fake_cuda_seed((unsigned)from_environment("FAKE_CUDA_SEED", 1));
	fake_cuda_falling_buffers(false);
	fake_cuda_cusparse_version(120603);
	fake_cuda_cusparse_entries(INT32_MAX);
	fake_cuda_pools(true);
	fake_cuda_cost(NULL, 0);
	fake.calls = 0;
}

static void count(const char *call) {
	for (int i = 0; i < NAMES; i++) {
		if (!fake.counts[i].name[0])
			snprintf(fake.counts[i].name, sizeof fake.counts[i].name, "%.47s", call);
		if (!strncmp(fake.counts[i].name, call, sizeof fake.counts[i].name - 1)) {
			fake.counts[i].count++;
			return;
		}
	}
}

long fake_cuda_count(const char *call) {
	for (int i = 0; i < NAMES; i++)
		if (!strcmp(fake.counts[i].name, call))
			return fake.counts[i].count;
	return 0;
}

bool fake_take(const char *call) {
	fake.calls++;
	count(call);
	if (fake.lost)
		return true;
	if (fake.until < 0 || fake.until-- > 0)
		return false;
	snprintf(fake.failed, sizeof fake.failed, "%s", call);
	fake.lost = fake.losing;
	return true;
}

bool fake_lost(void) {
	return fake.lost;
}

cudaError_t fake_failure(void) {
	return fake.lost ? cudaErrorIllegalAddress : cudaErrorUnknown;
}

void fake_cuda_misuse(const char *call, const char *format, ...) {
	if (fake.fault[0])
		return;
	int n = snprintf(fake.fault, sizeof fake.fault, "%s: ", call);
	va_list list;
	va_start(list, format);
	vsnprintf(fake.fault + n, sizeof fake.fault - (size_t)n, format, list);
	va_end(list);
}

fake_object *fake_first(void) {
	return fake.objects;
}

fake_object *fake_create(fake_kind kind) {
	fake_object *object = calloc(1, sizeof *object);
	if (!object)
		return NULL;
	object->kind = kind;
	object->device = fake_current_device();
	object->id = 0x10 + 0x10 * ++fake.ids; /* in no process's memory */
	object->queue.tail = &object->queue.head;
	object->captured.tail = &object->captured.head;
	object->next = fake.objects;
	fake.objects = object;
	fake.live++;
	return object;
}

fake_object *fake_find(fake_kind kind, const void *id) {
	for (fake_object *o = fake.objects; o; o = o->next)
		if (o->kind == kind && o->id == (uintptr_t)id)
			return o;
	return NULL;
}

bool fake_remove(fake_kind kind, const void *id) {
	for (fake_object **at = &fake.objects; *at; at = &(*at)->next) {
		fake_object *o = *at;
		if (o->kind != kind || o->id != (uintptr_t)id)
			continue;
		if (kind == FAKE_DEVICE_MEMORY)
			fake_unmap_object(o);
		if (kind == FAKE_PINNED_MEMORY)
			free((void *)o->id);
		fake_queue_free(&o->queue);
		fake_queue_free(&o->captured);
		*at = o->next;
		free(o);
		fake.live--;
		return true;
	}
	return false;
}

cudaError_t fake_destroyed(const char *call, bool failing, fake_kind kind, const void *id) {
	if (!fake_remove(kind, id)) {
		fake_fault(call, "what is to be destroyed does not exist");
		return fake_report(cudaErrorInvalidValue);
	}
	return fake_report(failing ? fake_failure() : cudaSuccess);
}

size_t fake_span(int64_t lines, int64_t length, int64_t ld) {
	return lines && length ? (size_t)((lines - 1) * ld + length) : 0;
}

bool fake_is_value(cudaDataType type) {
	return type == CUDA_R_32F || type == CUDA_R_64F || type == CUDA_R_16F || type == CUDA_R_16BF;
}

size_t fake_size(cudaDataType type) {
	return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2;
}

static float from_bf16(uint16_t half) {
	uint32_t bits = (uint32_t)half << 16;
	float value;
	memcpy(&value, &bits, 4);
	return value;
}

/* To nearest even; NaN stays one. */
static uint16_t to_bf16(float value) {
	uint32_t bits;
	memcpy(&bits, &value, 4);
	if (value != value)
		return (uint16_t)(bits >> 16 | 0x40);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

double fake_load(const void *data, cudaDataType type, int64_t i) {
	switch (type) {
	case CUDA_R_64F:
		return ((const double *)data)[i];
	case CUDA_R_16F:
		return (double)((const _Float16 *)data)[i];
	case CUDA_R_16BF:
		return (double)from_bf16(((const uint16_t *)data)[i]);
	default:
		return (double)((const float *)data)[i];
	}
}

/* 16 bits come from sums in float, as on the GPU. */
void fake_store(void *data, cudaDataType type, int64_t i, double value) {
	switch (type) {
	case CUDA_R_64F:
		((double *)data)[i] = value;
		break;
	case CUDA_R_16F:
		((_Float16 *)data)[i] = (_Float16)(float)value;
		break;
	case CUDA_R_16BF:
		((uint16_t *)data)[i] = to_bf16((float)value);
		break;
	default:
		((float *)data)[i] = (float)value;
	}
}
