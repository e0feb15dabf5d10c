/* SPDX-License-Identifier: Apache-2.0 */
/* What docs/guide.md quotes about contexts: errors, memory, threads. Run by the tests. */
#include <sparselayer/sparselayer.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void to_stderr(void *user, sl_log_level level, const char *line) {
	(void)user;
	fprintf(stderr, "sparselayer[%d]: %s\n", (int)level, line);
}

static int errors(void) {
	char why[256];
	sl_context *context = NULL;
	sl_status status =
		sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .seed = 1,
														  .log = to_stderr, .error = why, .error_size = sizeof why});
	if (status != SL_OK) {
		fprintf(stderr, "%s: %s\n", sl_status_text(status), why);
		return 1;
	}
	printf("%s\n", sl_context_describe(context));

	int32_t offsets[] = {0, 1}, columns[] = {5};
	sl_pattern *pattern = NULL;
	status = sl_pattern_create(&pattern, context, 1, 3, 1, offsets, SL_I32, columns, SL_I32);
	if (status != SL_OK)
		printf("%s (%s): %s\n", sl_status_name(status), sl_status_text(status), sl_context_message(context));
	sl_context_destroy(context);
	return status == SL_ERR_STRUCTURE ? 0 : 1;
}

static int budget(void) {
	sl_context *context = NULL;
	sl_pattern *pattern = NULL;
	sl_status status = sl_context_create(
		&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .memory_budget = 1 << 20});
	if (status == SL_OK)
		status = sl_pattern_full(&pattern, context, 4096, 4096); /* 64 MiB of column indices */
	if (context)
		printf("%s: %s\n", sl_status_name(status), sl_context_message(context));

	sl_memory_usage usage = {.struct_size = sizeof usage};
	if (context && sl_context_memory(context, &usage) == SL_OK)
		printf("%zu bytes now, %zu at most, %lld allocations\n", usage.current, usage.peak,
			   (long long)usage.allocations);
	sl_context_destroy(context);
	return status == SL_ERR_BUDGET ? 0 : 1;
}

/* Hooks that count. */
typedef struct counter {
	size_t bytes;
} counter;

static void *take(void *user, size_t bytes, size_t alignment, sl_memory kind) {
	(void)kind; /* SL_MEMORY_HOST */
	void *pointer = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
	if (pointer)
		__atomic_fetch_add(&((counter *)user)->bytes, bytes, __ATOMIC_RELAXED);
	return pointer;
}

static void give(void *user, void *pointer, size_t bytes, sl_memory kind) {
	(void)kind;
	__atomic_fetch_sub(&((counter *)user)->bytes, bytes, __ATOMIC_RELAXED);
	free(pointer);
}

/* A parallel-for that the program brings along; here a plain loop. */
static void run(void *user, size_t count, void (*task)(void *argument, size_t index), void *argument) {
	(void)user;
	for (size_t i = 0; i < count; i++)
		task(argument, i);
}

static int hooks(void) {
	counter held = {0};
	sl_context *context = NULL;
	sl_pattern *pattern = NULL;
	sl_status status = sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU,
																		 .allocator = {&held, take, give},
																		 .parallel_for = {NULL, 1, run}});
	if (status == SL_OK)
		status = sl_pattern_random(&pattern, context, 100, 100, 0.1, 1);
	sl_context_destroy(context);
	sl_pattern_release(pattern); /* objects may outlive their context */
	return status == SL_OK && held.bytes == 0 ? 0 : 1;
}

/* A forked child may use the parent's context: it gets a pool of its own. */
static int forked(void) {
	static float x[256 * 64], y[256 * 64];
	sl_context *context = NULL;
	if (sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU}) != SL_OK)
		return 1;
	sl_dense from = sl_dense_view(x, SL_F32, 256, 64), to = sl_dense_view(y, SL_F32, 256, 64);
	sl_status status = sl_activate(context, SL_TANH, 0, &from, &to);
	fflush(NULL);
	pid_t child = fork();
	if (child == 0)
		_exit(sl_activate(context, SL_TANH, 0, &from, &to) == SL_OK ? 0 : 1);
	int ended = 1;
	waitpid(child, &ended, 0);
	sl_context_destroy(context);
	return status == SL_OK && ended == 0 ? 0 : 1;
}

int main(void) {
	int failed = errors() + budget() + hooks();
#if !defined(__SANITIZE_THREAD__) /* which refuses new threads behind a fork */
	failed += forked();
#endif
	return failed;
}
