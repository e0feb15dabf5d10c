/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts: threads, forks, the caller's parallel-for, allocator hooks, budget, callbacks, options. */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "core/context.h"
#include "support/check.h"

enum { IN = 40, HIDDEN = 70, OUT = 5, SAMPLES = 150, RESULTS = 4096 };

static sl_context_options cpu_options(int threads) {
	sl_context_options options;
	SL_OPTIONS_INIT(options);
	options.device = SL_DEVICE_CPU;
	options.threads = threads;
	options.seed = 1;
	return options;
}

static sl_context *create(const sl_context_options *options) {
	sl_context *context = NULL;
	CHECK_OK(NULL, sl_context_create(&context, options));
	return context;
}

/* What a piece of work computed, for comparing bit by bit. */
typedef struct outcome {
	sl_status status;
	double loss, norm;
	int count;
	float values[RESULTS];
} outcome;

static sl_status add_layer(sl_context *context, sl_model *model, int64_t in, int64_t out, double density,
						   uint64_t stream) {
	sl_layer *layer = NULL;
	sl_linear_options options;
	SL_OPTIONS_INIT(options);
	options.in_features = in;
	options.out_features = out;
	options.density = density;
	options.dense = density == 1;
	options.bias = true;
	options.activation = density == 1 ? SL_IDENTITY : SL_TANH;
	options.stream = stream;
	SL_TRY(sl_linear_create(&layer, context, &options));
	sl_status status = sl_model_add(context, model, layer);
	if (status != SL_OK)
		sl_layer_destroy(layer);
	return status;
}

static sl_status keep_weights(sl_context *context, sl_model *model, outcome *out) {
	for (int l = 0; l < sl_model_layer_count(model); l++)
		for (int p = 0; p < 2; p++) {
			sl_parameter parameter;
			SL_OPTIONS_INIT(parameter);
			SL_TRY(sl_layer_parameter(context, sl_model_layer(model, l), p, &parameter));
			for (int64_t i = 0; i < parameter.count && out->count < RESULTS; i++)
				out->values[out->count++] = ((float *)parameter.value)[i];
			double norm;
			SL_TRY(sl_norm2(context, parameter.value, SL_F32, parameter.count, &norm));
			out->norm += norm;
		}
	return SL_OK;
}

static sl_status fit(sl_context *context, sl_model *model, sl_optimizer *optimizer, uint64_t seed, outcome *out) {
	float x[SAMPLES * IN];
	int32_t labels[SAMPLES];
	sl_test_fill(x, SL_F32, SAMPLES * IN, seed);
	for (int i = 0; i < SAMPLES; i++)
		labels[i] = (x[i * IN] > 0) + 2 * (x[i * IN + 1] > 0);
	SL_TRY(add_layer(context, model, IN, HIDDEN, 0.2, 1));
	SL_TRY(add_layer(context, model, HIDDEN, OUT, 1, 2));
	SL_TRY(sl_model_add_to_optimizer(context, model, optimizer));
	sl_samples samples;
	SL_OPTIONS_INIT(samples);
	samples.inputs = sl_dense_view(x, SL_F32, SAMPLES, IN);
	samples.labels = labels;
	sl_fit_options options;
	SL_OPTIONS_INIT(options);
	options.epochs = 3;
	options.batch = 67;
	SL_TRY(sl_model_fit(context, model, optimizer, &samples, &options));
	double accuracy;
	SL_TRY(sl_model_evaluate(context, model, SL_SOFTMAX_CROSS_ENTROPY, &samples, 0, &out->loss, &accuracy));
	return keep_weights(context, model, out);
}

/* Train a small network: it goes through nearly every op. */
static void train(sl_context *context, uint64_t seed, outcome *out) {
	sl_model *model = NULL;
	sl_optimizer *optimizer = NULL;
	sl_optimizer_options options;
	SL_OPTIONS_INIT(options);
	options.kind = SL_ADAM;
	options.learning_rate = 0.01;
	options.clip_norm = 1;
	memset(out, 0, sizeof *out);
	out->status = sl_model_create(&model, context);
	if (out->status == SL_OK)
		out->status = sl_optimizer_create(&optimizer, context, &options);
	if (out->status == SL_OK)
		out->status = fit(context, model, optimizer, seed, out);
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
}

/* One product over a random pattern and one dense product. */
static void multiply(sl_context *context, uint64_t seed, outcome *out) {
	static __thread float values[60 * 50], x[50 * 30], dense[60 * 50];
	sl_pattern *pattern = NULL;
	sl_csr *matrix = NULL;
	memset(out, 0, sizeof *out);
	sl_test_fill(values, SL_F32, 60 * 50, seed);
	sl_test_fill(x, SL_F32, 50 * 30, seed + 1);
	sl_test_fill(dense, SL_F32, 60 * 50, seed + 2);
	sl_dense A = sl_dense_view(dense, SL_F32, 60, 50), B = sl_dense_view(x, SL_F32, 50, 30);
	sl_dense C = sl_dense_view(out->values, SL_F32, 60, 30), D = sl_dense_view(out->values + 1800, SL_F32, 60, 30);
	out->count = 3600;
	out->status = sl_pattern_random(&pattern, context, 60, 50, 0.3, seed);
	if (out->status == SL_OK)
		out->status = sl_csr_wrap(&matrix, context, pattern, values, SL_F32, NULL, NULL);
	if (out->status == SL_OK)
		out->status = sl_spmm(context, SL_NO_TRANSPOSE, 1, matrix, &B, 0, &C, NULL);
	if (out->status == SL_OK)
		out->status = sl_gemm(context, 1, &A, &B, 0, &D, NULL);
	sl_csr_destroy(matrix);
	sl_pattern_release(pattern);
}

static bool same(const outcome *a, const outcome *b) {
	return a->status == SL_OK && b->status == SL_OK && a->count == b->count && a->count && a->loss == b->loss &&
		   a->norm == b->norm && !memcmp(a->values, b->values, (size_t)a->count * sizeof *a->values);
}

/* Two contexts, two threads. */

typedef struct worker {
	pthread_barrier_t *start;
	uint64_t seed;
	sl_status created;
	outcome trained, multiplied;
} worker;

static void *work(void *argument) {
	worker *w = argument;
	sl_context_options options = cpu_options(2);
	sl_context *context = NULL;
	if (w->start)
		pthread_barrier_wait(w->start);
	w->created = sl_context_create(&context, &options);
	if (context) {
		train(context, w->seed, &w->trained);
		multiply(context, w->seed, &w->multiplied);
	}
	sl_context_destroy(context);
	return NULL;
}

SL_TEST(contexts, two_threads_do_not_meet) {
	static worker alone[2], together[2];
	for (int i = 0; i < 2; i++) {
		alone[i] = (worker){.seed = (uint64_t)i + 3};
		work(&alone[i]);
		CHECK_OK(NULL, alone[i].created);
		CHECK_OK(NULL, alone[i].trained.status);
	}
	CHECK(!same(&alone[0].trained, &alone[1].trained));
	for (int round = 0; round < 5; round++) {
		pthread_barrier_t start;
		pthread_t threads[2];
		CHECK(!pthread_barrier_init(&start, NULL, 2));
		for (int i = 0; i < 2; i++) {
			together[i] = (worker){.start = &start, .seed = (uint64_t)i + 3};
			CHECK(!pthread_create(&threads[i], NULL, work, &together[i]));
		}
		for (int i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
		pthread_barrier_destroy(&start);
		for (int i = 0; i < 2; i++) {
			CHECK(same(&alone[i].trained, &together[i].trained));
			CHECK(same(&alone[i].multiplied, &together[i].multiplied));
		}
	}
}

/* Forks. */

enum { CHILD_SECONDS = 60 };

/* In the child: 0 when all is well, else what went wrong. Nothing here may leave by a longjmp. */
static int child(sl_context *inherited, const outcome *multiplied, const outcome *trained, int generations) {
	static outcome got;
	alarm(CHILD_SECONDS);
	multiply(inherited, 5, &got);
	if (!same(&got, multiplied))
		return 1;
	train(inherited, 5, &got);
	if (!same(&got, trained))
		return 2;
	sl_context *own = NULL;
	sl_context_options options = cpu_options(2);
	if (sl_context_create(&own, &options) != SL_OK)
		return 3;
	multiply(own, 5, &got);
	if (!same(&got, multiplied))
		return 4;
	if (generations > 1) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(child(inherited, multiplied, trained, generations - 1));
		int status;
		if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status))
			return 5;
	}
	sl_context_destroy(own);
	sl_context_destroy(inherited);
	return 0;
}

SL_TEST(contexts, fork_is_survived) {
#if defined(__SANITIZE_THREAD__)
	sl_test_skip("TSan refuses new threads behind a fork");
#endif
	for (int threads = 1; threads <= 3; threads++) {
		static outcome multiplied, trained, again;
		sl_context_options options = cpu_options(threads);
		sl_context *context = create(&options);
		multiply(context, 5, &multiplied);
		train(context, 5, &trained);
		CHECK_OK(context, multiplied.status);
		CHECK_OK(context, trained.status);
		fflush(NULL);
		pid_t pid = fork();
		if (pid == 0)
			_exit(child(context, &multiplied, &trained, 2));
		CHECK(pid > 0);
		int status;
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK(!WIFSIGNALED(status)); /* SIGALRM: it hung */
		CHECK(WIFEXITED(status));
		CHECK_EQ(WEXITSTATUS(status), 0);
		/* The parent goes on. */
		multiply(context, 5, &again);
		CHECK(same(&multiplied, &again));
		sl_context_destroy(context);
	}
}

SL_TEST(contexts, destroyed_in_a_child_unused) {
	sl_context_options options = cpu_options(2);
	sl_context *context = create(&options);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(CHILD_SECONDS);
		sl_context_destroy(context);
		_exit(0);
	}
	int status;
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	sl_context_destroy(context);
}

/* The caller's own parallel-for: threads made for each region, indices strided, last first. */

typedef struct region {
	size_t count;
	void (*task)(void *argument, size_t index);
	void *argument;
	size_t first, stride;
	bool mode_kept;
} region;

static unsigned mode(void) {
#if defined(__x86_64__)
	return _mm_getcsr() & ~0x3fu; /* all but the sticky flags */
#else
	return 0;
#endif
}

static void *run_region(void *argument) {
	region *r = argument;
	unsigned before = mode();
	for (size_t i = r->count; i-- > 0;)
		if (i % r->stride == r->first)
			r->task(r->argument, i);
	r->mode_kept = before == mode();
	return NULL;
}

typedef struct own_threads {
	int threads, regions;
	bool mode_kept;
} own_threads;

static void run_own(void *user, size_t count, void (*task)(void *argument, size_t index), void *argument) {
	own_threads *own = user;
	pthread_t ids[8];
	region regions[8];
	own->regions++;
	for (int t = 0; t < own->threads; t++) {
		regions[t] = (region){count, task, argument, (size_t)t, (size_t)own->threads, false};
		if (pthread_create(&ids[t], NULL, run_region, &regions[t]))
			abort();
	}
	for (int t = 0; t < own->threads; t++) {
		pthread_join(ids[t], NULL);
		own->mode_kept &= regions[t].mode_kept;
	}
}

SL_TEST(contexts, threads_and_parallel_for_give_the_same_bits) {
	static outcome trained[7], multiplied[7];
	for (int way = 0; way < 7; way++) {
		/* 1, 2, 3 threads of the pool, then 1, 2, 3, 5 of our own. */
		sl_context_options options = cpu_options(way < 3 ? way + 1 : 1);
		own_threads own = {way < 6 ? way - 2 : 5, 0, true};
		if (way >= 3)
			options.parallel_for = (sl_parallel_for){&own, own.threads, run_own};
		sl_context *context = create(&options);
		CHECK_EQ(sl_context_threads(context), way < 3 ? way + 1 : own.threads);
		train(context, 9, &trained[way]);
		multiply(context, 9, &multiplied[way]);
		CHECK_OK(context, trained[way].status);
		CHECK(same(&trained[0], &trained[way]));
		CHECK(same(&multiplied[0], &multiplied[way]));
		if (way >= 3)
			CHECK(own.regions > 10 && own.mode_kept);
		sl_context_destroy(context);
	}
}

SL_TEST(contexts, deterministic_gives_the_same_bits) {
	static outcome first, second;
	sl_context_options options = cpu_options(2);
	options.deterministic = true;
	for (int i = 0; i < 2; i++) {
		sl_context *context = create(&options);
		CHECK(sli_deterministic(context) && sli_device(context)->host.deterministic);
		train(context, 2, i ? &second : &first);
		sl_context_destroy(context);
	}
	CHECK(same(&first, &second));
}

#if defined(__x86_64__)
/* Products and sums whose results are subnormal, on several rows, so that several threads see them. */
static void subnormals(sl_context *context, float *results) {
	enum { ROWS = 128 };
	static float values[ROWS], x[1], a[ROWS], y[ROWS];
	static int32_t offsets[ROWS + 1], columns[ROWS];
	sl_csr *matrix = NULL;
	x[0] = 1e-10f;
	for (int i = 0; i < ROWS; i++) {
		values[i] = a[i] = 1e-30f;
		offsets[i + 1] = i + 1;
	}
	sl_pattern *pattern = NULL;
	CHECK_OK(context, sl_pattern_create(&pattern, context, ROWS, 1, ROWS, offsets, SL_I32, columns, SL_I32));
	CHECK_OK(context, sl_csr_wrap(&matrix, context, pattern, values, SL_F32, NULL, NULL));
	sl_dense A = sl_dense_view(a, SL_F32, ROWS, 1), X = sl_dense_view(x, SL_F32, 1, 1),
			 Y = sl_dense_view(y, SL_F32, ROWS, 1);
	unsigned before = mode();
	CHECK_OK(context, sl_spmm(context, SL_NO_TRANSPOSE, 1, matrix, &X, 0, &Y, NULL));
	CHECK(mode() == before);
	memcpy(results, y, sizeof y);
	CHECK_OK(context, sl_gemm(context, 1, &A, &X, 0, &Y, NULL));
	CHECK(mode() == before);
	memcpy(results + ROWS, y, sizeof y);
	CHECK_OK(context, sl_activate_backward(context, SL_TANH, 0, &A, &Y, &Y));
	CHECK_OK(context, sl_sum_columns(context, &Y, 0, results + 2 * ROWS));
	CHECK(mode() == before);
	sl_csr_destroy(matrix);
	sl_pattern_release(pattern);
}

SL_TEST(contexts, flush_to_zero_inside_and_restored) {
	unsigned original = _mm_getcsr();
	for (int flush = 0; flush < 2; flush++)
		for (int way = 0; way < 4; way++)
			for (int caller = 0; caller < 2; caller++) {
				float results[3 * 128];
				own_threads own = {3, 0, true};
				sl_context_options options = cpu_options(way < 3 ? way + 1 : 1);
				options.flush_to_zero = flush;
				if (way == 3)
					options.parallel_for = (sl_parallel_for){&own, own.threads, run_own};
				sl_context *context = create(&options);
				/* A caller may itself flush: the context's option counts all the same. */
				_mm_setcsr(caller ? original | 0x8040u : original & ~0x8040u);
				subnormals(context, results);
				_mm_setcsr(original & ~0x8040u);
				CHECK(own.mode_kept);
				for (int i = 0; i < 3 * 128; i++)
					if (flush)
						CHECK(results[i] == 0);
					else
						CHECK_NEAR(results[i], 1e-40, 3e-45);
				sl_context_destroy(context);
			}
	_mm_setcsr(original);
}
#endif

/* Allocator hooks. */

typedef struct tracker {
	pthread_mutex_t lock;
	struct {
		void *pointer;
		size_t bytes;
	} live[4096];
	int count, calls, wrong;
	size_t bytes;
	int fail_at; /* the call that fails; -1: none */
} tracker;

static void *track_allocate(void *user, size_t bytes, size_t alignment, sl_memory kind) {
	tracker *t = user;
	void *pointer = NULL;
	pthread_mutex_lock(&t->lock);
	if (!bytes || alignment < sizeof(void *) || alignment > 4096 || (alignment & (alignment - 1)) ||
		kind != SL_MEMORY_HOST || t->count == 4096)
		t->wrong++;
	/* Offset by the alignment alone, so that whoever counts on more finds out. */
	else if (t->calls++ != t->fail_at && !posix_memalign(&pointer, 2 * alignment, bytes + alignment)) {
		pointer = (char *)pointer + alignment;
		memset(pointer, 0xee, bytes);
		t->live[t->count].pointer = pointer;
		t->live[t->count++].bytes = bytes;
		t->bytes += bytes;
	}
	pthread_mutex_unlock(&t->lock);
	return pointer;
}

static void track_release(void *user, void *pointer, size_t bytes, sl_memory kind) {
	tracker *t = user;
	pthread_mutex_lock(&t->lock);
	int i = 0;
	while (i < t->count && t->live[i].pointer != pointer)
		i++;
	if (i == t->count || t->live[i].bytes != bytes || kind != SL_MEMORY_HOST) {
		t->wrong++;
	} else {
		t->bytes -= bytes;
		t->live[i] = t->live[--t->count];
		/* Every hook call asks for 64 bytes, as the first test checks. */
		free((char *)pointer - 64);
	}
	pthread_mutex_unlock(&t->lock);
}

static tracker hooks;

static sl_context_options hooked(int fail_at) {
	sl_context_options options = cpu_options(2);
	memset(&hooks, 0, sizeof hooks);
	pthread_mutex_init(&hooks.lock, NULL);
	hooks.fail_at = fail_at;
	options.allocator = (sl_allocator){&hooks, track_allocate, track_release};
	return options;
}

static size_t asked_alignment;

static void *note_alignment(void *user, size_t bytes, size_t alignment, sl_memory kind) {
	(void)user, (void)kind;
	if (!asked_alignment || asked_alignment == alignment)
		asked_alignment = alignment;
	else
		asked_alignment = 1;
	void *pointer = NULL;
	return posix_memalign(&pointer, alignment, bytes) ? NULL : pointer;
}

static void give_back(void *user, void *pointer, size_t bytes, sl_memory kind) {
	(void)user, (void)bytes, (void)kind;
	free(pointer);
}

SL_TEST(contexts, allocator_is_asked_for_cache_lines) {
	static outcome out;
	asked_alignment = 0;
	sl_context_options options = cpu_options(1);
	options.allocator = (sl_allocator){NULL, note_alignment, give_back};
	sl_context *context = create(&options);
	train(context, 1, &out);
	CHECK_OK(context, out.status);
	sl_context_destroy(context);
	CHECK_EQ(asked_alignment, 64);
}

SL_TEST(contexts, allocator_sizes_balance) {
	static outcome plain, out;
	sl_context *context = sl_test_context();
	train(context, 1, &plain);
	sl_context_destroy(context);
	sl_context_options options = hooked(-1);
	context = create(&options);
	train(context, 1, &out);
	CHECK(same(&plain, &out));
	multiply(context, 1, &out);
	sl_memory_usage usage;
	SL_OPTIONS_INIT(usage);
	CHECK_OK(context, sl_context_memory(context, &usage));
	/* All that is counted came through the hooks; the counters' own block is not counted. */
	CHECK(usage.current <= hooks.bytes && hooks.bytes - usage.current < 512);
	CHECK(usage.peak >= usage.current && usage.allocations > 10 && !usage.budget);
	/* Objects outlive their context. */
	sl_pattern *pattern;
	sl_csr *matrix;
	CHECK_OK(context, sl_pattern_random(&pattern, context, 30, 20, 0.5, 1));
	CHECK_OK(context, sl_csr_create_pattern(&matrix, context, pattern, SL_F32));
	sl_context_destroy(context);
	CHECK(hooks.count > 0);
	CHECK(memcmp(sl_csr_values(matrix), "\0\0\0", 4) == 0);
	sl_csr_destroy(matrix);
	sl_pattern_release(pattern);
	CHECK_EQ(hooks.count, 0);
	CHECK_EQ(hooks.wrong, 0);
}

SL_TEST(contexts, creation_survives_each_failing_allocation) {
	int failed = 0;
	for (;; failed++) {
		char error[128] = "";
		sl_context_options options = hooked(failed);
		options.error = error;
		options.error_size = sizeof error;
		sl_context *context = (sl_context *)&hooks;
		sl_status status = sl_context_create(&context, &options);
		if (status == SL_OK) {
			sl_context_destroy(context);
			break;
		}
		CHECK_EQ(status, SL_ERR_MEMORY);
		CHECK(!context && strlen(error) > 5);
		CHECK_EQ(hooks.count, 0);
		CHECK_EQ(hooks.wrong, 0);
	}
	CHECK(failed >= 4);
	CHECK_EQ(hooks.count, 0);
}

SL_TEST(contexts, budget_is_kept_and_named) {
	char error[128];
	sl_context_options options = cpu_options(1);
	options.error = error;
	options.error_size = sizeof error;
	sl_context *context = NULL;
	/* Up to the least that a context can live with. */
	for (options.memory_budget = 1; options.memory_budget < 100000; options.memory_budget += 97) {
		sl_status status = sl_context_create(&context, &options);
		if (status == SL_OK)
			break;
		CHECK_EQ(status, SL_ERR_BUDGET);
		CHECK(!context && strstr(error, "budget"));
	}
	CHECK(context && options.memory_budget > 500);
	sl_context_destroy(context);
	options.memory_budget = 600000;
	context = create(&options);
	sl_pattern *pattern;
	sl_csr *matrix = NULL, *other = NULL;
	CHECK_OK(context, sl_pattern_random(&pattern, context, 300, 300, 0.5, 1));
	CHECK_OK(context, sl_csr_create_pattern(&matrix, context, pattern, SL_F32));
	CHECK_STATUS(context, sl_csr_create_pattern(&other, context, pattern, SL_F64), SL_ERR_BUDGET, "memory_budget");
	CHECK(!other);
	/* What fits still works, and nothing was lost. */
	CHECK_OK(context, sl_csr_create_pattern(&other, context, pattern, SL_F16));
	sl_csr_destroy(other);
	sl_memory_usage usage;
	SL_OPTIONS_INIT(usage);
	CHECK_OK(context, sl_context_memory(context, &usage));
	CHECK(usage.budget == 600000 && usage.peak <= usage.budget && usage.current > 300 * 300 * 2);
	sl_csr_destroy(matrix);
	sl_pattern_release(pattern);
	usage.struct_size = 8;
	CHECK_EQ(sl_context_memory(context, &usage), SL_ERR_ARGUMENT);
	CHECK_EQ(sl_context_memory(context, NULL), SL_ERR_NULL);
	sl_context_destroy(context);
}

/* Callbacks. */

typedef struct lines {
	int count;
	sl_log_level level;
	char last[512];
} lines;

static void on_log(void *user, sl_log_level level, const char *line) {
	lines *l = user;
	l->count++;
	l->level = level;
	snprintf(l->last, sizeof l->last, "%s", line);
}

SL_TEST(contexts, log_reaches_the_callback_by_level) {
	sl_context *context = sl_test_context();
	lines seen = {0};
	sli_log(context, SL_LOG_ERROR, "nobody listens");
	for (int most = 0; most <= SL_LOG_DEBUG; most++) {
		CHECK_OK(context, sl_context_set_log(context, on_log, (sl_log_level)most, &seen));
		for (int level = SL_LOG_ERROR; level <= SL_LOG_DEBUG; level++) {
			seen.count = 0;
			sli_log(context, (sl_log_level)level, "line %d", level);
			CHECK_EQ(seen.count, level <= (most ? most : SL_LOG_INFO));
			if (seen.count)
				CHECK(seen.level == (sl_log_level)level && seen.last[5] == '0' + level && !strchr(seen.last, '\n'));
		}
	}
	CHECK_STATUS(context, sl_context_set_log(context, on_log, (sl_log_level)5, &seen), SL_ERR_ARGUMENT, "level 5");
	CHECK_OK(context, sl_context_set_log(context, NULL, SL_LOG_DEBUG, NULL));
	seen.count = 0;
	sli_log(context, SL_LOG_ERROR, "off");
	CHECK_EQ(seen.count, 0);
	sl_context_destroy(context);
}

SL_TEST(contexts, instruction_set_override_is_logged_and_described) {
	static const struct {
		const char *value, *in_log, *described;
		sl_log_level level;
	} cases[] = {{"scalar", "SPARSELAYER_CPU=scalar: used", "cpu (scalar, 2 threads, ", SL_LOG_INFO},
				 {"neon9", "neon9", "cpu (", SL_LOG_WARNING}};
	char *old = getenv("SPARSELAYER_CPU") ? strdup(getenv("SPARSELAYER_CPU")) : NULL;
	for (int i = 0; i < 2; i++) {
		lines seen = {0};
		sl_context_options options = cpu_options(2);
		options.log = on_log;
		options.log_user = &seen;
		setenv("SPARSELAYER_CPU", cases[i].value, 1);
		sl_context *context = create(&options);
		CHECK_EQ(seen.count, 1);
		CHECK(strstr(seen.last, cases[i].in_log) && seen.level == cases[i].level);
		const char *text = sl_context_describe(context);
		CHECK(!strncmp(text, cases[i].described, strlen(cases[i].described)));
		CHECK(strstr(text, "2 threads") && text[strlen(text) - 1] == ')');
		CHECK(text == sl_context_describe(context));
		sl_context_destroy(context);
	}
	if (old)
		setenv("SPARSELAYER_CPU", old, 1);
	else
		unsetenv("SPARSELAYER_CPU");
	free(old);
}

typedef struct reports {
	int count, stop_at;
	bool odd;
	int64_t done, epoch;
} reports;

static bool on_progress(void *user, const sl_progress *p) {
	reports *r = user;
	r->count++;
	r->odd |= !p->what || p->done < 0 || (p->total && p->done > p->total) || !(p->seconds >= 0);
	if (!strcmp(p->what ? p->what : "", "train")) {
		r->odd |=
			p->epoch < r->epoch || p->epochs != 3 || p->total != SAMPLES || (p->epoch == r->epoch && p->done < r->done);
		r->epoch = p->epoch;
		r->done = p->done;
	}
	return r->count != r->stop_at;
}

SL_TEST(contexts, progress_reports_and_cancels) {
	static outcome out;
	sl_context *context = sl_test_context();
	reports seen = {0};
	CHECK_OK(context, sl_context_set_progress(context, on_progress, &seen));
	train(context, 1, &out);
	CHECK_OK(context, out.status);
	CHECK(seen.count >= 3 && seen.epoch == 2 && seen.done == SAMPLES && !seen.odd);
	for (int stop = 1; stop <= 3; stop++) {
		seen = (reports){.stop_at = stop};
		train(context, 1, &out);
		CHECK_EQ(out.status, SL_ERR_CANCELLED);
		CHECK_EQ(seen.count, stop);
	}
	CHECK_OK(context, sl_context_set_progress(context, NULL, NULL));
	seen = (reports){.stop_at = 1};
	train(context, 1, &out);
	CHECK(out.status == SL_OK && !seen.count);
	sl_context_destroy(context);
}

/* Lists and names. */

SL_TEST(contexts, devices_begin_with_the_cpu) {
	sl_device_info devices[64];
	int count = 0;
	CHECK_EQ(sl_devices(NULL, NULL), SL_ERR_NULL);
	CHECK_EQ(sl_devices(NULL, &count), SL_OK);
	CHECK(count >= 2 && count <= 64);
	int all = count;
	CHECK_EQ(sl_devices(NULL, &count), SL_ERR_NULL);
	for (int i = 0; i < 64; i++)
		SL_OPTIONS_INIT(devices[i]);
	count = 64;
	CHECK_EQ(sl_devices(devices, &count), SL_OK);
	CHECK_EQ(count, all);
	CHECK(devices[0].device == SL_DEVICE_CPU && devices[0].usable && devices[0].index == 0);
	CHECK(devices[0].name[0] && devices[0].detail[0] && devices[0].units >= 1 && devices[0].memory > 1 << 20);
	for (int i = 1; i < count; i++) {
		CHECK(devices[i].device == SL_DEVICE_CUDA && devices[i].struct_size == sizeof devices[i]);
		CHECK(devices[i].usable || devices[i].detail[0]); /* a reason */
	}
	CHECK(!devices[count].name[0]);
	/* Room for one: the rest is only counted. */
	SL_OPTIONS_INIT(devices[1]);
	count = 1;
	CHECK_EQ(sl_devices(devices, &count), SL_OK);
	CHECK(count == all && !devices[1].name[0]);
	devices[0].struct_size = 0;
	count = 1;
	CHECK_EQ(sl_devices(devices, &count), SL_ERR_ARGUMENT);
	/* An older caller's shorter struct is not overrun. */
	struct {
		sl_device_info info;
	} older[1];
	memset(older, 0x55, sizeof older);
	older[0].info.struct_size = offsetof(sl_device_info, memory);
	count = 1;
	CHECK_EQ(sl_devices(&older[0].info, &count), SL_OK);
	CHECK(older[0].info.usable && older[0].info.memory == 0x5555555555555555u && older[0].info.units == 0x55555555);
}

SL_TEST(contexts, every_status_has_name_and_text) {
	static const struct {
		sl_status status;
		const char *name, *text;
	} all[] = {
#define ROW(name, value, text) {name, #name, text},
		SL_STATUS_LIST(ROW)};
	int count = (int)(sizeof all / sizeof *all);
	CHECK(all[0].status == SL_OK && SL_OK == 0);
	for (int i = 0; i < count; i++) {
		CHECK(!strcmp(sl_status_name(all[i].status), all[i].name));
		CHECK(!strcmp(sl_status_text(all[i].status), all[i].text) && strlen(all[i].text) > 5);
		for (int j = 0; j < i; j++)
			CHECK(all[i].status > all[j].status && strcmp(all[i].text, all[j].text));
	}
	CHECK(strlen(sl_status_name((sl_status)12345)) && strlen(sl_status_text((sl_status)12345)));
	CHECK(strcmp(sl_status_name((sl_status)1), "SL_OK"));
}

SL_TEST(contexts, wrong_options_are_named) {
	static void *const one = &hooks;
	for (int i = 0; i < 12; i++) {
		char error[128] = "";
		const char *named = NULL;
		sl_context *context = one;
		sl_context_options o = cpu_options(1);
		o.error = error;
		o.error_size = sizeof error;
		switch (i) {
		case 0:
			o.device = (sl_device)3, named = "device";
			break;
		case 1:
			o.device = (sl_device)-1, named = "device";
			break;
		case 2:
			o.device_index = -1, named = "device_index";
			break;
		case 3:
			o.threads = -1, named = "threads";
			break;
		case 4:
			o.threads = 1 << 20, named = "threads";
			break;
		case 5:
			o.allocator.allocate = track_allocate, named = "allocator";
			break;
		case 6:
			o.allocator.release = track_release, named = "allocator";
			break;
		case 7:
			o.parallel_for.threads = 2, named = "parallel_for";
			break;
		case 8:
			o.log_level = (sl_log_level)5, named = "log_level";
			break;
		case 9:
			o.log_level = (sl_log_level)-1, named = "log_level";
			break;
		case 10:
			o.struct_size = sizeof o + 8, named = "struct_size";
			break;
		default:
			o.parallel_for.run = run_own, o.parallel_for.threads = -1, named = "parallel_for";
		}
		sl_status status = sl_context_create(&context, &o);
		if (status != SL_ERR_ARGUMENT || context || !strstr(error, named))
			sl_test_fail(__FILE__, __LINE__, "case %d: %s, \"%s\" lacks \"%s\"", i, sl_status_name(status), error,
						 named);
		/* A short buffer is ended properly; none is fine too. */
		o.error_size = 4;
		memset(error, 'x', sizeof error);
		CHECK_EQ(sl_context_create(&context, &o), SL_ERR_ARGUMENT);
		CHECK(!error[3] && error[4] == 'x');
		o.error = NULL;
		CHECK_EQ(sl_context_create(&context, &o), SL_ERR_ARGUMENT);
	}
}

SL_TEST(contexts, null_and_short_structs) {
	sl_context *context = (sl_context *)&hooks;
	sl_context_options options;
	memset(&options, 0, sizeof options);
	CHECK_EQ(sl_context_create(NULL, NULL), SL_ERR_NULL);
	CHECK_EQ(sl_context_create(&context, &options), SL_ERR_ARGUMENT); /* struct_size forgotten */
	CHECK(!context);
	/* An older caller knows only the device: what lies behind its struct is not read. */
	memset(&options, 0xff, sizeof options);
	options.struct_size = offsetof(sl_context_options, device_index);
	options.device = SL_DEVICE_CPU;
	CHECK_EQ(sl_context_create(&context, &options), SL_OK);
	CHECK(sl_context_threads(context) >= 1 && sl_context_device(context) == SL_DEVICE_CPU);
	CHECK(!strcmp(sl_context_message(context), ""));
	CHECK_EQ(sl_context_synchronize(context), SL_OK);
	sl_context_destroy(context);
	CHECK_EQ(sl_context_create(&context, NULL), SL_OK);
	CHECK(sl_context_device(context) != SL_DEVICE_AUTO && strlen(sl_context_describe(context)) > 5);
	sl_context_destroy(context);
	sl_context_destroy(NULL);
	CHECK(!strcmp(sl_context_message(NULL), "") && !strcmp(sl_context_describe(NULL), ""));
	CHECK_EQ(sl_context_threads(NULL), 0);
	CHECK_EQ(sl_context_synchronize(NULL), SL_ERR_NULL);
	CHECK_EQ(sl_context_set_log(NULL, NULL, 0, NULL), SL_ERR_NULL);
	CHECK_EQ(sl_context_set_progress(NULL, NULL, NULL), SL_ERR_NULL);
	CHECK_EQ(sl_context_memory(NULL, NULL), SL_ERR_NULL);
}
