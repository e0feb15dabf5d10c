/* SPDX-License-Identifier: Apache-2.0 */
/* Streams as queues, events, and graphs of captured work. */
#include "state.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GPUS = 8, COSTS = 32 };

static struct {
	fake_object defaults[GPUS]; /* the default streams */
	bool running;
	uint64_t random;
	double clock;
	struct {
		char call[48];
		double microseconds;
	} costs[COSTS];
	int cost_count;
} gpu = {.random = 1};

bool fake_running(void) {
	return gpu.running;
}

void fake_cuda_seed(unsigned seed) {
	gpu.random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
}

void fake_cuda_cost(const char *call, double microseconds) {
	if (!call) {
		gpu.cost_count = 0;
		return;
	}
	int at = 0;
	while (at < gpu.cost_count && strcmp(gpu.costs[at].call, call) != 0)
		at++;
	if (at == COSTS)
		return;
	snprintf(gpu.costs[at].call, sizeof gpu.costs[at].call, "%s", call);
	gpu.costs[at].microseconds = microseconds;
	gpu.cost_count = at < gpu.cost_count ? gpu.cost_count : at + 1;
}

static double cost(const char *call) {
	for (int i = 0; i < gpu.cost_count; i++)
		if (!strcmp(gpu.costs[i].call, call))
			return gpu.costs[i].microseconds * 1e-6;
	return 1e-6;
}

/* splitmix64 */
static uint64_t draw(void) {
	gpu.random += UINT64_C(0x9E3779B97F4A7C15);
	uint64_t z = gpu.random;
	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static fake_object *stream_of(const void *stream) {
	if (stream)
		return fake_find(FAKE_STREAM, stream);
	fake_object *o = &gpu.defaults[fake_current_device()];
	if (!o->queue.tail)
		*o = (fake_object){.kind = FAKE_STREAM, .device = fake_current_device(), .queue.tail = &o->queue.head};
	return o;
}

bool fake_stream(const char *call, const void *stream) {
	const fake_object *o = stream_of(stream);
	if (!o)
		fake_fault(call, "the stream does not exist");
	else if (o->device != fake_current_device())
		fake_fault(call, "the stream belongs to GPU %d; %d is current", o->device, fake_current_device());
	return o && o->device == fake_current_device();
}

bool fake_captures(const void *stream) {
	const fake_object *o = stream_of(stream);
	return o && o->capturing;
}

bool fake_breaks_capture(const char *call) {
	bool broken = false;
	for (fake_object *o = fake_first(); o; o = o->next)
		if (o->kind == FAKE_STREAM && o->capturing)
			broken = o->broken = true;
	if (broken)
		fake_fault(call, "called while a stream captures");
	return broken;
}

static void append(fake_queue *queue, fake_task *task) {
	*queue->tail = task;
	queue->tail = &task->next;
}

void fake_queue_free(fake_queue *queue) {
	while (queue->head) {
		fake_task *task = queue->head;
		queue->head = task->next;
		free(task->argument);
		free(task);
	}
	queue->tail = &queue->head;
}

static fake_task *copy_task(const fake_task *from) {
	fake_task *task = malloc(sizeof *task);
	if (!task)
		return NULL;
	*task = *from;
	task->next = NULL;
	task->argument = malloc(from->bytes ? from->bytes : 1);
	if (!task->argument) {
		free(task);
		return NULL;
	}
	if (from->bytes)
		memcpy(task->argument, from->argument, from->bytes);
	return task;
}

static cudaError_t push(void *stream, const fake_task *task) {
	fake_object *o = stream_of(stream);
	fake_task *own = copy_task(task);
	if (!own)
		return cudaErrorMemoryAllocation;
	append(o->capturing ? &o->captured : &o->queue, own);
	return cudaSuccess;
}

cudaError_t fake_enqueue(const char *call, void *stream, void (*run)(void *), const void *argument, size_t bytes) {
	return fake_enqueue_when(call, stream, NULL, run, argument, bytes);
}

cudaError_t fake_enqueue_when(const char *call, void *stream, bool (*ready)(void *), void (*run)(void *),
							  const void *argument, size_t bytes) {
	fake_task task = {.call = call,
					  .run = run,
					  .ready = ready,
					  .argument = (void *)(uintptr_t)argument,
					  .bytes = bytes,
					  .device = fake_current_device()};
	return push(stream, &task);
}

int fake_cuda_launch(const char *name, void *stream, void (*run)(void *argument), const void *argument, size_t bytes) {
	TAKE_RUNTIME(name);
	if (!fake_stream(name, stream))
		return fake_report(cudaErrorInvalidResourceHandle);
	return fake_report(fake_enqueue(name, stream, run, argument, bytes));
}

/* A wait for what was not recorded yet, or whose event is gone, is none. */
static bool blocked(const fake_task *task) {
	if (task->ready && !fake_lost())
		return !task->ready(task->argument);
	if (task->kind != FAKE_WAIT)
		return false;
	const fake_object *event = fake_find(FAKE_EVENT, (void *)task->event);
	return event && event->passed < task->version;
}

static void run_head(fake_object *stream) {
	fake_task *task = stream->queue.head;
	stream->queue.head = task->next;
	if (!task->next)
		stream->queue.tail = &stream->queue.head;
	int current = fake_current_device();
	fake_set_current(task->device);
	gpu.clock += task->kind == FAKE_RUN ? cost(task->call) : 0;
	if (task->kind == FAKE_RUN && !fake_lost())
		task->run(task->argument);
	fake_object *event = task->kind == FAKE_RECORD ? fake_find(FAKE_EVENT, (void *)task->event) : NULL;
	if (event) {
		event->passed = task->version;
		event->time = gpu.clock;
	}
	fake_set_current(current);
	free(task->argument);
	free(task);
}

/* One task of a stream that has any and may go on, drawn; false: there is none. */
static bool run_one(void) {
	fake_object *ready[64];
	uint64_t count = 0;
	for (int i = 0; i < GPUS; i++)
		if (gpu.defaults[i].queue.head && !blocked(gpu.defaults[i].queue.head))
			ready[count++] = &gpu.defaults[i];
	for (fake_object *o = fake_first(); o && count < 64; o = o->next)
		if (o->kind == FAKE_STREAM && o->queue.head && !blocked(o->queue.head))
			ready[count++] = o;
	if (!count)
		return false;
	run_head(ready[draw() % count]);
	return true;
}

static bool any_left(void) {
	for (int i = 0; i < GPUS; i++)
		if (gpu.defaults[i].queue.head)
			return true;
	for (fake_object *o = fake_first(); o; o = o->next)
		if (o->kind == FAKE_STREAM && o->queue.head)
			return true;
	return false;
}

/* Whether a stream waits for another process, after a moment for that. */
static bool others_may_come(void) {
	bool any = false;
	for (int i = 0; i < GPUS; i++)
		any = any || (gpu.defaults[i].queue.head && gpu.defaults[i].queue.head->ready);
	for (fake_object *o = fake_first(); o; o = o->next)
		any = any || (o->kind == FAKE_STREAM && o->queue.head && o->queue.head->ready);
	if (any)
		sched_yield();
	return any;
}

static void run_until(const fake_queue *queue, const fake_object *event, uint64_t version) {
	if (gpu.running || !any_left())
		return;
	fake_map();
	gpu.running = true;
	while ((event ? event->passed < version : queue ? queue->head != NULL : true) && (run_one() || others_may_come()))
		continue;
	gpu.running = false;
	fake_unmap();
}

void fake_drain_stream(void *stream) {
	fake_object *o = stream_of(stream);
	if (o && o->queue.head)
		run_until(&o->queue, NULL, 0);
}

void fake_drain_all(void) {
	run_until(NULL, NULL, 0);
}

cudaError_t CUDARTAPI cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
	TAKE_RUNTIME("cudaStreamCreateWithFlags");
	(void)flags;
	fake_object *o = fake_create(FAKE_STREAM);
	*stream = o ? (cudaStream_t)o->id : NULL;
	return fake_report(o ? cudaSuccess : cudaErrorMemoryAllocation);
}

/* Its work is done all the same. */
cudaError_t CUDARTAPI cudaStreamDestroy(cudaStream_t stream) {
	bool failing = fake_take("cudaStreamDestroy");
	if (fake_find(FAKE_STREAM, stream))
		fake_drain_stream(stream);
	return fake_destroyed("cudaStreamDestroy", failing, FAKE_STREAM, stream);
}

cudaError_t CUDARTAPI cudaStreamSynchronize(cudaStream_t stream) {
	TAKE_RUNTIME("cudaStreamSynchronize");
	if (!fake_stream("cudaStreamSynchronize", stream))
		return fake_report(cudaErrorInvalidResourceHandle);
	if (fake_captures(stream)) {
		(void)fake_breaks_capture("cudaStreamSynchronize");
		return fake_report(cudaErrorStreamCaptureUnsupported);
	}
	fake_drain_stream(stream);
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaDeviceSynchronize(void) {
	TAKE_RUNTIME("cudaDeviceSynchronize");
	if (fake_breaks_capture("cudaDeviceSynchronize"))
		return fake_report(cudaErrorStreamCaptureUnsupported);
	fake_drain_all();
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
	TAKE_RUNTIME("cudaEventCreateWithFlags");
	fake_object *o = fake_create(FAKE_EVENT);
	*event = o ? (cudaEvent_t)o->id : NULL;
	if (o)
		o->order = (cusparseOrder_t)(flags & cudaEventDisableTiming ? 1 : 0);
	return fake_report(o ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t CUDARTAPI cudaEventDestroy(cudaEvent_t event) {
	bool failing = fake_take("cudaEventDestroy");
	return fake_destroyed("cudaEventDestroy", failing, FAKE_EVENT, event);
}

static fake_object *find_event(const char *call, cudaEvent_t event) {
	fake_object *o = fake_find(FAKE_EVENT, event);
	if (!o)
		fake_fault(call, "the event does not exist");
	return o;
}

cudaError_t CUDARTAPI cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
	TAKE_RUNTIME("cudaEventRecord");
	fake_object *o = find_event("cudaEventRecord", event);
	if (!o || !fake_stream("cudaEventRecord", stream))
		return fake_report(cudaErrorInvalidResourceHandle);
	if (o->device != fake_current_device()) {
		fake_fault("cudaEventRecord", "the event belongs to GPU %d", o->device);
		return fake_report(cudaErrorInvalidResourceHandle);
	}
	if (fake_captures(stream)) {
		fake_fault("cudaEventRecord", "events in captures are not modelled");
		return fake_report(cudaErrorStreamCaptureUnsupported);
	}
	fake_task task = {.call = "cudaEventRecord",
					  .kind = FAKE_RECORD,
					  .event = o->id,
					  .version = ++o->recorded,
					  .device = fake_current_device()};
	return fake_report(push(stream, &task));
}

cudaError_t CUDARTAPI cudaEventSynchronize(cudaEvent_t event) {
	TAKE_RUNTIME("cudaEventSynchronize");
	fake_object *o = find_event("cudaEventSynchronize", event);
	if (!o)
		return fake_report(cudaErrorInvalidResourceHandle);
	run_until(NULL, o, o->recorded);
	return cudaSuccess;
}

/* Whatever can run without waiting for other processes has run when this is asked. */
cudaError_t CUDARTAPI cudaEventQuery(cudaEvent_t event) {
	TAKE_RUNTIME("cudaEventQuery");
	fake_object *o = find_event("cudaEventQuery", event);
	if (!o)
		return fake_report(cudaErrorInvalidResourceHandle);
	if (!gpu.running && o->passed < o->recorded) {
		fake_map();
		gpu.running = true;
		while (o->passed < o->recorded && run_one())
			continue;
		gpu.running = false;
		fake_unmap();
	}
	return o->passed < o->recorded ? fake_report(cudaErrorNotReady) : cudaSuccess;
}

cudaError_t CUDARTAPI cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end) {
	TAKE_RUNTIME("cudaEventElapsedTime");
	const fake_object *from = find_event("cudaEventElapsedTime", begin), *to = find_event("cudaEventElapsedTime", end);
	if (!from || !to || from->order || to->order)
		return fake_report(cudaErrorInvalidResourceHandle);
	if (!from->recorded || from->passed < from->recorded || to->passed < to->recorded)
		return fake_report(cudaErrorNotReady);
	*milliseconds = (float)((to->time - from->time) * 1e3);
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
	TAKE_RUNTIME("cudaStreamWaitEvent");
	fake_object *o = find_event("cudaStreamWaitEvent", event);
	if (flags || !o || !fake_stream("cudaStreamWaitEvent", stream) || fake_captures(stream))
		return fake_report(cudaErrorInvalidResourceHandle);
	fake_task task = {.call = "cudaStreamWaitEvent",
					  .kind = FAKE_WAIT,
					  .event = o->id,
					  .version = o->recorded,
					  .device = fake_current_device()};
	return fake_report(push(stream, &task));
}

cudaError_t CUDARTAPI cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
	TAKE_RUNTIME("cudaStreamBeginCapture");
	fake_object *o = stream ? fake_find(FAKE_STREAM, stream) : NULL;
	(void)mode;
	if (!o || o->capturing)
		return fake_report(cudaErrorStreamCaptureUnsupported);
	o->capturing = true;
	o->broken = false;
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
	TAKE_RUNTIME("cudaStreamIsCapturing");
	const fake_object *o = stream_of(stream);
	if (!o)
		return fake_report(cudaErrorInvalidResourceHandle);
	*status = !o->capturing ? cudaStreamCaptureStatusNone
			  : o->broken   ? cudaStreamCaptureStatusInvalidated
							: cudaStreamCaptureStatusActive;
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
	TAKE_RUNTIME("cudaStreamEndCapture");
	fake_object *o = stream ? fake_find(FAKE_STREAM, stream) : NULL;
	*graph = NULL;
	if (!o || !o->capturing)
		return fake_report(cudaErrorIllegalState);
	o->capturing = false;
	fake_object *made = o->broken ? NULL : fake_create(FAKE_GRAPH);
	if (!made) {
		fake_queue_free(&o->captured);
		return fake_report(cudaErrorStreamCaptureInvalidated);
	}
	if (o->captured.head)
		made->queue = o->captured;
	o->captured = (fake_queue){NULL, &o->captured.head};
	*graph = (cudaGraph_t)made->id;
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags) {
	TAKE_RUNTIME("cudaGraphInstantiate");
	fake_object *o = fake_find(FAKE_GRAPH, graph), *made;
	(void)flags;
	if (!o || !(made = fake_create(FAKE_GRAPH_EXEC)))
		return fake_report(cudaErrorInvalidValue);
	for (fake_task *task = o->queue.head; task; task = task->next) {
		fake_task *own = copy_task(task);
		if (!own)
			return fake_report(cudaErrorMemoryAllocation);
		append(&made->queue, own);
	}
	*exec = (cudaGraphExec_t)made->id;
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
	TAKE_RUNTIME("cudaGraphLaunch");
	fake_object *o = fake_find(FAKE_GRAPH_EXEC, exec);
	if (!o || !fake_stream("cudaGraphLaunch", stream))
		return fake_report(cudaErrorInvalidValue);
	for (fake_task *task = o->queue.head; task; task = task->next)
		if (push(stream, task) != cudaSuccess)
			return fake_report(cudaErrorMemoryAllocation);
	return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGraphDestroy(cudaGraph_t graph) {
	TAKE_RUNTIME("cudaGraphDestroy");
	return fake_report(fake_remove(FAKE_GRAPH, graph) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t CUDARTAPI cudaGraphExecDestroy(cudaGraphExec_t exec) {
	TAKE_RUNTIME("cudaGraphExecDestroy");
	return fake_report(fake_remove(FAKE_GRAPH_EXEC, exec) ? cudaSuccess : cudaErrorInvalidValue);
}
