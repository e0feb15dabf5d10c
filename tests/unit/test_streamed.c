/* SPDX-License-Identifier: Apache-2.0 */
/* Models with streamed layers: against the same models in memory, across commits, kills and cancellations. */
#define _GNU_SOURCE
#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/context.h"
#include "support/check.h"

enum { FEATURES = 90, HIDDEN = 70, CLASSES = 5, SAMPLES = 64, BATCH = 16, LAYERS = 3, EPOCHS = 3 };

typedef struct run {
	char folder[64], path[96];
	sl_context *context;
	sl_model *model;
	sl_optimizer *optimizer;
	float inputs[SAMPLES * FEATURES];
	int32_t labels[SAMPLES];
	sl_samples samples;
} run;

static void fill(run *r) {
	uint64_t random = 99;
	for (int i = 0; i < SAMPLES * FEATURES; i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		r->inputs[i] = (float)((double)(random >> 33) / 0x1p31 - 0.5) * 2;
	}
	for (int i = 0; i < SAMPLES; i++)
		r->labels[i] = r->inputs[i * FEATURES] > 0 ? (r->inputs[i * FEATURES + 3] > 0 ? 1 : 2) : i % CLASSES;
	r->samples = (sl_samples){SL_SAMPLES_DEFAULTS, .labels = r->labels};
	r->samples.inputs = sl_dense_view(r->inputs, SL_F32, SAMPLES, FEATURES);
}

/* Of contexts made from then on. ThreadSanitizer takes no fork of a process that has threads. */
static int threads = 2;

/* Bit i of `streamed`: layer i is. */
static void begin(run *r, unsigned streamed, sl_activation activation, const sl_optimizer_options *o, size_t budget) {
	memset(r, 0, sizeof *r);
	/* What is tested needs no disk that is slow to flush. */
	strcpy(r->folder,
		   access("/dev/shm", W_OK) ? "/tmp/sparselayer-streamed-XXXXXX" : "/dev/shm/sparselayer-streamed-XXXXXX");
	CHECK(mkdtemp(r->folder) != NULL);
	snprintf(r->path, sizeof r->path, "%s/model.safetensors", r->folder);
	fill(r);
	CHECK_OK(NULL, sl_context_create(&r->context,
									 &(sl_context_options){SL_CONTEXT_DEFAULTS, .threads = threads, .seed = 5,
														   .plan_mode = SL_PLAN_SPARSE, .memory_budget = budget}));
	CHECK_OK(r->context, sl_model_create(&r->model, r->context));
	int64_t sizes[LAYERS + 1] = {FEATURES, HIDDEN, HIDDEN, CLASSES};
	for (int i = 0; i < LAYERS; i++) {
		sl_layer *layer;
		char name[24];
		snprintf(name, sizeof name, "linear%d", i);
		sl_linear_options l = {SL_LINEAR_DEFAULTS,
							   .in_features = sizes[i],
							   .out_features = sizes[i + 1],
							   .density = 0.3,
							   .bias = true,
							   .stream = (uint64_t)i + 1,
							   .name = name,
							   .init = SL_INIT_HE_UNIFORM,
							   .activation = i + 1 < LAYERS ? activation : SL_IDENTITY};
		if (streamed >> i & 1)
			CHECK_OK(r->context,
					 sl_linear_create_streamed(
						 &layer, r->context, &l,
						 &(sl_streamed_options){SL_STREAMED_DEFAULTS, .folder = r->folder, .optimizer = o->kind,
												.stream = {SL_STREAM_DEFAULTS, .slot_bytes = 4000}}));
		else
			CHECK_OK(r->context, sl_linear_create(&layer, r->context, &l));
		CHECK_OK(r->context, sl_model_add(r->context, r->model, layer));
	}
	CHECK_OK(r->context, sl_optimizer_create(&r->optimizer, r->context, o));
	CHECK_OK(r->context, sl_model_add_to_optimizer(r->context, r->model, r->optimizer));
}

static void remove_all(const char *folder) {
	DIR *dir = opendir(folder);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		char path[512];
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
		if (unlink(path))
			remove_all(path);
	}
	if (dir)
		closedir(dir);
	rmdir(folder);
}

static void end(run *r) {
	sl_optimizer_destroy(r->optimizer);
	sl_model_destroy(r->model);
	sl_context_destroy(r->context);
	remove_all(r->folder);
}

static sl_status fit_to(run *r, int64_t from, int64_t to) {
	return sl_model_fit(r->context, r->model, r->optimizer, &r->samples,
						&(sl_fit_options){SL_FIT_DEFAULTS, .batch = BATCH, .first_epoch = from, .epochs = to});
}

/* All parameters and moments of a saved model, one after the other. */
typedef struct state {
	float *values;
	size_t count;
	int64_t steps;
} state;

static state load_state(sl_context *context, const char *path) {
	sl_model *model;
	sl_optimizer *optimizer;
	state s = {0};
	CHECK_OK(context, sl_model_load(&model, &optimizer, NULL, context, path, NULL));
	sl_optimizer_info info = {.struct_size = sizeof info};
	CHECK_OK(context, sl_optimizer_get_info(context, optimizer, &info));
	s.steps = info.steps;
	for (int i = 0; i < sl_model_parameter_count(model); i++) {
		sl_parameter p = {.struct_size = sizeof p};
		int layer;
		CHECK_OK(context, sl_model_parameter(context, model, i, &layer, &p));
		for (int k = -1; k < info.states_per_parameter; k++) {
			void *data = p.value;
			if (k >= 0)
				CHECK_OK(context, sl_optimizer_state(context, optimizer, sl_model_layer(model, layer),
													 strcmp(p.name, "bias") == 0, k, &data));
			s.values = realloc(s.values, (s.count + (size_t)p.count) * sizeof(float));
			memcpy(s.values + s.count, data, (size_t)p.count * sizeof(float));
			s.count += (size_t)p.count;
		}
	}
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	return s;
}

/* By way of an ordinary file, gathered from the stores. */
static state state_of(run *r) {
	char path[128];
	snprintf(path, sizeof path, "%s/gathered.safetensors", r->folder);
	CHECK_OK(r->context, sl_model_save(r->context, r->model, r->optimizer, NULL, path));
	state s = load_state(r->context, path);
	unlink(path);
	return s;
}

static bool same(const state *a, const state *b) {
	return a->count == b->count && a->steps == b->steps && !memcmp(a->values, b->values, a->count * sizeof(float));
}

static double furthest(const state *a, const state *b) {
	double most = 0;
	CHECK(a->count == b->count && a->steps == b->steps);
	for (size_t i = 0; i < a->count; i++) {
		double d = fabs((double)a->values[i] - (double)b->values[i]);
		most = d > most || isnan(d) ? d : most;
	}
	return most;
}

static const sl_optimizer_options kinds[] = {
	{SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 0.01, .l2 = 1e-3},
	{SL_OPTIMIZER_DEFAULTS, .kind = SL_SGD, .learning_rate = 0.1, .l1_proximal = 1e-3},
	{SL_OPTIMIZER_DEFAULTS, .kind = SL_NESTEROV, .learning_rate = 0.05, .clip_value = 0.01},
	{SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAMW, .learning_rate = 0.01,
	 .schedule = {.kind = SL_SCHEDULE_COSINE, .total = 12}}};

SL_TEST(streamed, training_has_the_bits_of_memory_where_no_layer_above_is_streamed) {
	static const sl_activation activations[] = {SL_RELU, SL_GELU, SL_TANH, SL_IDENTITY};
	for (int k = 0; k < 4; k++) {
		run memory, disk;
		begin(&memory, 0, activations[k], &kinds[k], 0);
		begin(&disk, 1, activations[k], &kinds[k], 0);
		state before = state_of(&memory), drawn = state_of(&disk);
		CHECK(same(&before, &drawn));
		for (int e = 0; e < EPOCHS; e++) {
			double loss[2], accuracy[2];
			CHECK_OK(memory.context, fit_to(&memory, e, e + 1));
			CHECK_OK(disk.context, fit_to(&disk, e, e + 1));
			CHECK_OK(memory.context, sl_model_evaluate(memory.context, memory.model, SL_SOFTMAX_CROSS_ENTROPY,
													   &memory.samples, 10, &loss[0], &accuracy[0]));
			CHECK_OK(disk.context, sl_model_evaluate(disk.context, disk.model, SL_SOFTMAX_CROSS_ENTROPY, &disk.samples,
													 10, &loss[1], &accuracy[1]));
			CHECK(loss[0] == loss[1] && accuracy[0] == accuracy[1]);
			state a = state_of(&memory), b = state_of(&disk);
			CHECK(same(&a, &b) && !same(&a, &before));
			free(a.values);
			free(b.values);
			if (e == 1) /* what comes after is made on the other generation */
				CHECK_OK(disk.context, sl_model_commit(disk.context, disk.model, disk.optimizer, NULL, disk.path));
		}
		free(before.values);
		free(drawn.values);
		end(&memory);
		end(&disk);
	}
}

SL_TEST(streamed, all_layers_streamed_train_as_in_memory_but_for_rounding) {
	for (int k = 0; k < 3; k++) {
		sl_optimizer_options o = kinds[k];
		run memory, disk;
		o.clip_norm = k == 1 ? 0.2 : 0; /* two passes */
		begin(&memory, 0, SL_TANH, &o, 0);
		begin(&disk, 7, SL_TANH, &o, 0);
		CHECK_OK(memory.context, fit_to(&memory, 0, EPOCHS));
		CHECK_OK(disk.context, fit_to(&disk, 0, EPOCHS));
		state a = state_of(&memory), b = state_of(&disk);
		CHECK(furthest(&a, &b) < 2e-4);
		if (o.clip_norm > 0) {
			sl_optimizer_info x = {.struct_size = sizeof x}, y = x;
			CHECK_OK(memory.context, sl_optimizer_get_info(memory.context, memory.optimizer, &x));
			CHECK_OK(disk.context, sl_optimizer_get_info(disk.context, disk.optimizer, &y));
			CHECK_NEAR(x.gradient_norm, y.gradient_norm, 1e-5 * x.gradient_norm);
			CHECK(x.gradient_norm > o.clip_norm);
		}
		sl_streamed_info info = {.struct_size = sizeof info};
		CHECK_OK(disk.context, sl_layer_get_streamed(disk.context, sl_model_layer(disk.model, 1), &info));
		CHECK_EQ(info.steps, EPOCHS * SAMPLES / BATCH);
		CHECK(info.bytes_read > info.bytes_written && info.bytes_written > 0 && info.durable == 0);
		free(a.values);
		free(b.values);
		end(&memory);
		end(&disk);
	}
}

SL_TEST(streamed, a_committed_run_goes_on_with_the_same_bits) {
	run whole, r;
	sl_checkpoint checkpoint = {SL_CHECKPOINT_DEFAULTS, .epochs_done = 1, .batch = BATCH, .accumulate = 1};
	begin(&whole, 7, SL_RELU, &kinds[0], 0);
	CHECK_OK(whole.context, fit_to(&whole, 0, EPOCHS));
	begin(&r, 7, SL_RELU, &kinds[0], 0);
	CHECK_OK(r.context, fit_to(&r, 0, 1));
	CHECK_OK(r.context, sl_model_commit(r.context, r.model, r.optimizer, &checkpoint, r.path));
	/* Steps that nobody commits are not there afterwards. */
	CHECK_OK(r.context, fit_to(&r, 1, 2));
	sl_optimizer_destroy(r.optimizer);
	sl_model_destroy(r.model);
	sl_checkpoint found = {.struct_size = sizeof found};
	CHECK_OK(r.context, sl_model_load(&r.model, &r.optimizer, &found, r.context, r.path, NULL));
	CHECK_EQ(found.epochs_done, 1);
	CHECK_OK(r.context, fit_to(&r, 1, EPOCHS));
	state a = state_of(&whole), b = state_of(&r);
	CHECK(same(&a, &b));
	/* An ordinary file of it: read where it lies, the same outputs. */
	char path[128];
	float want[SAMPLES * CLASSES], got[SAMPLES * CLASSES];
	sl_dense W = sl_dense_view(want, SL_F32, SAMPLES, CLASSES), G = sl_dense_view(got, SL_F32, SAMPLES, CLASSES);
	snprintf(path, sizeof path, "%s/whole.safetensors", r.folder);
	CHECK_OK(r.context, sl_model_save(r.context, r.model, NULL, NULL, path));
	sl_model *loaded;
	CHECK_OK(r.context, sl_model_load(&loaded, NULL, NULL, r.context, path, NULL));
	CHECK_OK(r.context, sl_model_predict(r.context, loaded, &r.samples.inputs, &W, 7));
	sl_model_destroy(loaded);
	for (int64_t above = 0; above <= 2000; above += 1000) {
		sl_model *other;
		CHECK_OK(r.context, sl_model_load_streamed(&other, NULL, r.context, path, above, NULL, NULL));
		sl_model_info info = {.struct_size = sizeof info};
		CHECK_OK(r.context, sl_model_get_info(r.context, other, NULL, &info));
		CHECK((info.streamed_nonzeros == info.nonzeros) == (above == 0));
		CHECK_OK(r.context, sl_model_predict(r.context, other, &r.samples.inputs, &G, 7));
		CHECK(!memcmp(want, got, sizeof want));
		if (above == 0)
			CHECK_STATUS(r.context, sl_model_save(r.context, other, NULL, NULL, path), SL_ERR_UNSUPPORTED, "read from");
		sl_model_destroy(other);
	}
	free(a.values);
	free(b.values);
	end(&whole);
	end(&r);
}

static int folders_in(const char *folder) {
	int count = 0;
	DIR *dir = opendir(folder);
	for (struct dirent *e; dir && (e = readdir(dir));)
		count += e->d_type == DT_DIR && e->d_name[0] != '.';
	closedir(dir);
	return count;
}

SL_TEST(streamed, stores_that_no_commit_names_any_more_are_removed) {
	run r, other;
	begin(&r, 3, SL_RELU, &kinds[0], 0);
	CHECK_OK(r.context, sl_model_commit(r.context, r.model, r.optimizer, NULL, r.path));
	CHECK_EQ(folders_in(r.folder), 2);
	/* Another model in its place. */
	sl_model_destroy(r.model);
	sl_optimizer_destroy(r.optimizer);
	sl_layer *layer;
	CHECK_OK(r.context, sl_model_create(&r.model, r.context));
	CHECK_OK(r.context, sl_optimizer_create(&r.optimizer, r.context, &kinds[0]));
	CHECK_OK(r.context, sl_linear_create_streamed(
							&layer, r.context,
							&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = FEATURES, .out_features = CLASSES,
												 .density = 0.2, .name = "linear0"},
							&(sl_streamed_options){SL_STREAMED_DEFAULTS, .folder = r.folder, .optimizer = SL_ADAM}));
	CHECK_OK(r.context, sl_model_add(r.context, r.model, layer));
	CHECK_OK(r.context, sl_model_add_to_optimizer(r.context, r.model, r.optimizer));
	CHECK_EQ(folders_in(r.folder), 3);
	CHECK_OK(r.context, sl_model_commit(r.context, r.model, r.optimizer, NULL, r.path));
	CHECK_EQ(folders_in(r.folder), 1);
	CHECK_OK(r.context, fit_to(&r, 0, 1));
	begin(&other, 1, SL_RELU, &kinds[0], 0);
	CHECK_STATUS(r.context, sl_model_commit(r.context, r.model, r.optimizer, NULL, other.path), SL_ERR_ARGUMENT,
				 "folder");
	/* Destroyed, but still named by the file, a store stays. */
	sl_model_destroy(r.model);
	r.model = NULL;
	CHECK_EQ(folders_in(r.folder), 1);
	end(&other);
	end(&r);
}

/* Cancelled in the middle of a pass: as before that step. */
static bool stop_at(void *user, const sl_progress *p) {
	int *left = user;
	return strcmp(p->what, "stream") || --*left > 0;
}

SL_TEST(streamed, a_step_that_is_cancelled_leaves_the_model_as_before) {
	for (int after = 1; after < 300; after += 37) {
		run r, other;
		int left = after;
		begin(&r, 7, SL_RELU, &kinds[0], 0);
		CHECK_OK(r.context, sl_model_commit(r.context, r.model, r.optimizer, NULL, r.path));
		CHECK_OK(r.context, sl_context_set_progress(r.context, stop_at, &left));
		sl_status status = fit_to(&r, 0, 1);
		CHECK_OK(r.context, sl_context_set_progress(r.context, NULL, NULL));
		CHECK(status == SL_OK || status == SL_ERR_CANCELLED);
		sl_optimizer_info info = {.struct_size = sizeof info};
		CHECK_OK(r.context, sl_optimizer_get_info(r.context, r.optimizer, &info));
		if (info.steps == 0) { /* nothing was made in place yet: the model is whole */
			begin(&other, 7, SL_RELU, &kinds[0], 0);
			state a = state_of(&r), b = state_of(&other);
			CHECK(same(&a, &b));
			CHECK_OK(r.context, fit_to(&r, 0, 1));
			CHECK_OK(other.context, fit_to(&other, 0, 1));
			free(a.values);
			free(b.values);
			a = state_of(&r), b = state_of(&other);
			CHECK(same(&a, &b));
			free(a.values);
			free(b.values);
			end(&other);
		}
		end(&r);
	}
}

static bool commit_each_step(void *user, const sl_progress *p) {
	run *r = user;
	if (p->epoch < 0)
		return true;
	sl_checkpoint c = {SL_CHECKPOINT_DEFAULTS, .epochs_done = p->epoch, .samples_done = p->done, .batch = BATCH,
					   .accumulate = 1};
	return sl_model_commit(r->context, r->model, r->optimizer, &c, r->path) == SL_OK;
}

enum { STEPS = EPOCHS * SAMPLES / BATCH };
typedef struct history {
	run r;
	state states[STEPS + 1];
} history;

static bool note_each_step(void *user, const sl_progress *p) {
	history *h = user;
	if (p->epoch >= 0)
		h->states[p->epoch * (SAMPLES / BATCH) + p->done / BATCH] = state_of(&h->r);
	return true;
}

/* A process that trains is killed at random moments; SL_KILLS says how often. */
SL_TEST(streamed, killed_at_random_moments_the_model_is_as_after_a_whole_step) {
	int kills = getenv("SL_KILLS") ? atoi(getenv("SL_KILLS")) : 10, between = 0;
	double whole = 0;
	threads = 1;
	history h = {0};
	begin(&h.r, 7, SL_RELU, &kinds[0], 0);
	h.states[0] = state_of(&h.r);
	CHECK_OK(h.r.context, sl_context_set_progress(h.r.context, note_each_step, &h));
	CHECK_OK(h.r.context, fit_to(&h.r, 0, EPOCHS));
	uint64_t random = 4711;
	for (int i = 0; i < kills; i++) {
		run r;
		begin(&r, 7, SL_RELU, &kinds[0], 0);
		CHECK_OK(r.context, sl_model_commit(r.context, r.model, r.optimizer, NULL, r.path));
		pid_t child = fork();
		CHECK(child >= 0);
		if (!child) {
			(void)sl_context_set_progress(r.context, commit_each_step, &r);
			_exit(fit_to(&r, 0, EPOCHS) == SL_OK ? 0 : 1);
		}
		struct timespec from, to;
		clock_gettime(CLOCK_MONOTONIC, &from);
		random = random * 6364136223846793005u + 1442695040888963407u;
		if (i) {
			usleep((useconds_t)((double)(random >> 33) / 0x1p31 * whole));
			kill(child, SIGKILL);
		}
		int how;
		CHECK(waitpid(child, &how, 0) == child);
		CHECK(WIFSIGNALED(how) || WEXITSTATUS(how) == 0);
		clock_gettime(CLOCK_MONOTONIC, &to);
		if (!i) /* not killed: how long it takes */
			whole = (double)(to.tv_sec - from.tv_sec) * 1e6 + (double)(to.tv_nsec - from.tv_nsec) / 1e3;
		sl_model *model;
		sl_optimizer *optimizer;
		sl_checkpoint c = {.struct_size = sizeof c};
		CHECK_OK(r.context, sl_model_load(&model, &optimizer, &c, r.context, r.path, NULL));
		sl_model_destroy(r.model);
		sl_optimizer_destroy(r.optimizer);
		r.model = model;
		r.optimizer = optimizer;
		state got = state_of(&r);
		CHECK_EQ(got.steps, c.epochs_done * (SAMPLES / BATCH) + c.samples_done / BATCH);
		CHECK(same(&h.states[got.steps], &got));
		free(got.values);
		between += got.steps > 0 && got.steps < STEPS;
		/* And the run goes on to the end it would have had. */
		CHECK_OK(r.context,
				 sl_model_fit(r.context, r.model, r.optimizer, &r.samples,
							  &(sl_fit_options){SL_FIT_DEFAULTS, .batch = BATCH,
												.first_epoch = c.epochs_done + c.samples_done / SAMPLES,
												.first_sample = c.samples_done % SAMPLES, .epochs = EPOCHS}));
		got = state_of(&r);
		CHECK(same(&h.states[STEPS], &got));
		free(got.values);
		end(&r);
	}
	for (int s = 0; s <= STEPS; s++)
		free(h.states[s].values);
	end(&h.r);
	threads = 2;
	CHECK(between > 0 || kills < 10);
}

SL_TEST(streamed, the_least_budget_is_named_and_does) {
	run r;
	sl_optimizer_options o = kinds[0];
	begin(&r, 7, SL_RELU, &o, 0);
	CHECK_OK(r.context, sl_model_commit(r.context, r.model, r.optimizer, NULL, r.path));
	size_t budget = 100000;
	int tries = 0;
	for (;; tries++) {
		sl_context *small;
		sl_model *model;
		sl_optimizer *optimizer;
		CHECK(tries < 4);
		CHECK_OK(NULL, sl_context_create(&small,
										 &(sl_context_options){SL_CONTEXT_DEFAULTS, .threads = 2, .seed = 5,
															   .plan_mode = SL_PLAN_SPARSE, .memory_budget = budget}));
		sl_status status = sl_model_load(&model, &optimizer, NULL, small, r.path, NULL);
		if (status == SL_OK)
			status = sl_model_fit(small, model, optimizer, &r.samples,
								  &(sl_fit_options){SL_FIT_DEFAULTS, .batch = BATCH, .epochs = 1});
		size_t least = 0;
		const char *text = strstr(sl_context_message(small), "at least ");
		if (status != SL_OK) {
			CHECK_EQ(status, SL_ERR_BUDGET);
			CHECK(text && sscanf(text, "at least %zu", &least) == 1 && least > budget);
		} else {
			sl_memory_usage usage = {.struct_size = sizeof usage};
			CHECK_OK(small, sl_context_memory(small, &usage));
			CHECK(usage.peak <= budget && usage.peak > budget / 4);
		}
		sl_optimizer_destroy(optimizer);
		sl_model_destroy(model);
		sl_context_destroy(small);
		if (status == SL_OK)
			break;
		budget = least;
	}
	CHECK(tries > 0);
	end(&r);
}

SL_TEST(streamed, what_needs_weights_in_memory_is_refused) {
	run r;
	begin(&r, 7, SL_RELU, &kinds[0], 0);
	sl_layer *layer = sl_model_layer(r.model, 0), *none;
	void *moments;
	sl_linear_options l = {SL_LINEAR_DEFAULTS, .in_features = 4, .out_features = 4, .density = 0.5};
	sl_streamed_options s = {SL_STREAMED_DEFAULTS, .folder = "/nonexistent/folder"};
	sl_samples v = r.samples;
	CHECK(!sl_layer_weights(layer));
	CHECK_STATUS(r.context, sl_layer_prune(r.context, layer, 0.1, r.optimizer), SL_ERR_UNSUPPORTED, "linear0");
	CHECK_STATUS(r.context, sl_optimizer_state(r.context, r.optimizer, layer, 0, 0, &moments), SL_ERR_UNSUPPORTED,
				 "streamed");
	CHECK_OK(r.context, sl_optimizer_state(r.context, r.optimizer, layer, 1, 0, &moments));
	CHECK_STATUS(r.context, sl_optimizer_scale_gradients(r.context, r.optimizer, 0.5), SL_ERR_UNSUPPORTED, "streamed");
	CHECK_STATUS(r.context,
				 sl_model_fit(r.context, r.model, r.optimizer, &r.samples,
							  &(sl_fit_options){SL_FIT_DEFAULTS, .batch = BATCH, .accumulate = 2}),
				 SL_ERR_UNSUPPORTED, "accumulating");
	CHECK_STATUS(r.context,
				 sl_model_fit(r.context, r.model, r.optimizer, &r.samples,
							  &(sl_fit_options){SL_FIT_DEFAULTS, .batch = BATCH, .validation = &v, .patience = 2}),
				 SL_ERR_UNSUPPORTED, "best");
	CHECK_STATUS(r.context, sl_linear_create_streamed(&none, r.context, &l, &s), SL_ERR_NOT_FOUND, "nonexistent");
	s.folder = r.folder;
	l.dense = true;
	CHECK_STATUS(r.context, sl_linear_create_streamed(&none, r.context, &l, &s), SL_ERR_UNSUPPORTED, "dense");
	l.dense = false;
	l.sparse_inputs = true;
	CHECK_STATUS(r.context, sl_linear_create_streamed(&none, r.context, &l, &s), SL_ERR_UNSUPPORTED, "sparse inputs");
	l.sparse_inputs = false;
	s.stream = (sl_stream_options){SL_STREAM_DEFAULTS, .slots = 99};
	CHECK_STATUS(r.context, sl_linear_create_streamed(&none, r.context, &l, &s), SL_ERR_ARGUMENT, "slots");
	CHECK_EQ(folders_in(r.folder), 3);
	/* A backward without its step, and a step without its backward. */
	sl_targets targets = {.labels = r.labels};
	sl_dense x = sl_dense_view(r.inputs, SL_F32, BATCH, FEATURES);
	sl_loss_result result;
	CHECK_STATUS(r.context, sl_optimizer_step(r.context, r.optimizer), SL_ERR_STATE, "no backward");
	CHECK_OK(r.context,
			 sl_model_train_batch(r.context, r.model, SL_SOFTMAX_CROSS_ENTROPY, &x, &targets, SL_OVERWRITE, &result));
	CHECK_STATUS(
		r.context,
		sl_model_train_batch(r.context, r.model, SL_SOFTMAX_CROSS_ENTROPY, &x, &targets, SL_OVERWRITE, &result),
		SL_ERR_STATE, "sl_optimizer_step");
	CHECK_STATUS(r.context, sl_model_commit(r.context, r.model, r.optimizer, NULL, r.path), SL_ERR_STATE, "step");
	CHECK_OK(r.context, sl_optimizer_step(r.context, r.optimizer));
	CHECK_OK(r.context, sl_model_commit(r.context, r.model, r.optimizer, NULL, r.path));
	/* Adam's moments do not fit in a store for SGD. */
	sl_optimizer *sgd;
	CHECK_OK(r.context, sl_optimizer_create(&sgd, r.context, NULL));
	CHECK_STATUS(r.context, sl_optimizer_add(r.context, sgd, layer), SL_ERR_ARGUMENT, "moments");
	sl_optimizer_destroy(sgd);
	end(&r);
}
