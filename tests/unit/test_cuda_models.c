/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole models on the (fake) GPU beside the same ones on the CPU: fit, evaluate, predict, edits and files. In double
 * both sum in double, each in an order of its own: what they come to differs by less than 1e-9 of the largest value.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cuda_runtime_api.h>

#include "core/context.h"
#include "fake_cuda.h"
#include "support/check.h"

enum { SAMPLES = 53, IN = 12, HIDDEN = 17, OUT = 5, MOST = 4096 };
#define BOUND 1e-9

/* One way to train, and what it came to. */
typedef struct way {
	sl_loss loss;
	sl_optimizer_options optimizer;
	sl_fit_options fit;
	sl_sparsity_options sparsity;
	bool sparse_targets, ignore_zeros, weights, validation;
} way;

typedef struct outcome {
	double epochs[16], loss, accuracy, outputs[SAMPLES * OUT], parameters[MOST];
	int64_t columns[MOST], count, entries;
	int done;
} outcome;

static double inputs[SAMPLES * IN], targets[SAMPLES * OUT], values[SAMPLES * 2];
static int32_t labels[SAMPLES], columns[SAMPLES * 2];
static int64_t offsets[SAMPLES + 1];

static void fill_data(void) {
	sl_test_fill(inputs, SL_F64, SAMPLES * IN, 3);
	sl_test_fill(targets, SL_F64, SAMPLES * OUT, 4);
	for (int i = 0; i < SAMPLES; i++) {
		labels[i] = (inputs[i * IN] > 0) + 2 * (inputs[i * IN + 1] > 0.1);
		for (int k = 0; k < OUT; k++)
			targets[i * OUT + k] = fabs(targets[i * OUT + k]);
		offsets[i + 1] = offsets[i] + i % 3;
		for (int64_t k = offsets[i]; k < offsets[i + 1]; k++) {
			columns[k] = (int32_t)(i % 3 + (k - offsets[i]));
			values[k] = 0.25 + 0.5 * (double)(k - offsets[i]);
		}
	}
}

static sl_context *open_on(sl_device device) {
	return sl_test_context_of(
		(sl_context_options){SL_CONTEXT_DEFAULTS, .device = device, .seed = 7, .deterministic = true});
}

static sl_status add_layer(sl_context *context, sl_model *model, const sl_linear_options *o) {
	sl_layer *layer;
	SL_TRY(sl_linear_create(&layer, context, o));
	sl_status status = sl_model_add(context, model, layer);
	if (status != SL_OK)
		sl_layer_destroy(layer);
	return status;
}

static sl_status make_model(sl_context *context, sl_model **model, sl_dtype dtype) {
	SL_TRY(sl_model_create(model, context));
	sl_linear_options first = {SL_LINEAR_DEFAULTS, .in_features = IN, .out_features = HIDDEN,     .density = 0.5,
							   .bias = true,       .dtype = dtype,    .activation = SL_LEAKY_RELU};
	sl_linear_options second = {SL_LINEAR_DEFAULTS, .in_features = HIDDEN, .out_features = HIDDEN, .density = 0.4,
								.bias = true,       .dtype = dtype,        .activation = SL_GELU};
	sl_linear_options third = {SL_LINEAR_DEFAULTS, .in_features = HIDDEN, .out_features = OUT,
							   .dense = true,      .bias = true,          .dtype = dtype};
	SL_TRY(add_layer(context, *model, &first));
	SL_TRY(add_layer(context, *model, &second));
	return add_layer(context, *model, &third);
}

static bool note(void *user, const sl_epoch *epoch) {
	outcome *o = user;
	o->epochs[o->done++] = epoch->loss;
	if (!isnan(epoch->validation_loss))
		o->epochs[o->done++] = epoch->validation_loss;
	return true;
}

/* Parameters and patterns of a model of a CPU context. */
static void take_parameters(sl_context *context, const sl_model *model, const sl_optimizer *optimizer, outcome *o) {
	o->count = o->entries = 0;
	for (int i = 0; i < sl_model_parameter_count(model); i++) {
		sl_parameter p = {.struct_size = sizeof p};
		int layer;
		CHECK_OK(context, sl_model_parameter(context, model, i, &layer, &p));
		void *arrays[3] = {p.value, NULL, NULL};
		sl_optimizer_info info = {.struct_size = sizeof info};
		if (optimizer)
			CHECK_OK(context, sl_optimizer_get_info(context, optimizer, &info));
		for (int s = 0; s < info.states_per_parameter; s++)
			CHECK_OK(context, sl_optimizer_state(context, optimizer, sl_model_layer(model, layer),
												 p.pattern ? 0 : i % 2, s, &arrays[1 + s]));
		for (int a = 0; a < 1 + info.states_per_parameter; a++)
			for (int64_t k = 0; k < p.count; k++) {
				CHECK(o->count < MOST);
				o->parameters[o->count++] =
					p.dtype == SL_F64 ? ((const double *)arrays[a])[k] : (double)((const float *)arrays[a])[k];
			}
		if (p.pattern) {
			sl_pattern_arrays arrays_of;
			CHECK_OK(context, sl_pattern_get(context, p.pattern, &arrays_of));
			for (int64_t k = 0; k < arrays_of.nnz; k++)
				o->columns[o->entries++] = arrays_of.col_indices[k];
		}
	}
}

/* By way of a file, from whichever device. */
static sl_status take_by_file(sl_context *context, const sl_model *model, const sl_optimizer *optimizer, outcome *o) {
	char path[64] = "/tmp/sparselayer-model-XXXXXX";
	int fd = mkstemp(path);
	sl_context *cpu = open_on(SL_DEVICE_CPU);
	sl_model *loaded;
	sl_optimizer *with = NULL;
	CHECK(fd >= 0);
	close(fd);
	sl_checkpoint c = {SL_CHECKPOINT_DEFAULTS, .epochs_done = 2, .seed = 7};
	sl_status status = sl_model_save(context, model, optimizer, &c, path);
	if (status == SL_OK) {
		CHECK_OK(cpu, sl_model_load(&loaded, &with, NULL, cpu, path, NULL));
		take_parameters(cpu, loaded, with, o);
		sl_optimizer_destroy(with);
		sl_model_destroy(loaded);
	}
	unlink(path);
	sl_context_destroy(cpu);
	return status;
}

static sl_status train(sl_context *context, const way *w, sl_model *model, sl_optimizer *optimizer, outcome *o) {
	sl_dense wanted = sl_dense_view(targets, SL_F64, SAMPLES, OUT);
	sl_sparse sparse = {.format = SL_SPARSE_CSR,
						.rows = SAMPLES,
						.cols = OUT,
						.nnz = offsets[SAMPLES],
						.offsets = offsets,
						.offset_dtype = SL_I64,
						.col_indices = columns,
						.index_dtype = SL_I32,
						.values = values,
						.dtype = SL_F64};
	static const double class_weights[OUT] = {1, 0.5, 2, 0.25, 1};
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(inputs, SL_F64, SAMPLES, IN)};
	if (w->sparse_targets)
		samples.sparse_targets = &sparse;
	else if (w->loss == SL_SOFTMAX_CROSS_ENTROPY)
		samples.labels = labels;
	else
		samples.targets = &wanted;
	samples.ignore_zeros = w->ignore_zeros;
	sl_fit_options fit = w->fit;
	fit.struct_size = sizeof fit;
	fit.loss = w->loss;
	fit.on_epoch = note;
	fit.user = o;
	fit.class_weights = w->weights ? class_weights : NULL;
	fit.validation = w->validation ? &samples : NULL;
	if (w->sparsity.method != SL_SPARSE_STATIC)
		SL_TRY(sl_model_set_sparsity(context, model, &w->sparsity));
	SL_TRY(sl_model_fit(context, model, optimizer, &samples, &fit));
	SL_TRY(sl_model_evaluate(context, model, w->loss, &samples, 10, &o->loss, &o->accuracy));
	sl_dense out = sl_dense_view(o->outputs, SL_F64, SAMPLES, OUT);
	return sl_model_predict(context, model, &samples.inputs, &out, 9);
}

static sl_status run(sl_context *context, const way *w, outcome *o) {
	sl_model *model = NULL;
	sl_optimizer *optimizer = NULL;
	memset(o, 0, sizeof *o);
	sl_status status = make_model(context, &model, SL_F64);
	if (status == SL_OK)
		status = sl_optimizer_create(&optimizer, context, &w->optimizer);
	if (status == SL_OK)
		status = sl_model_add_to_optimizer(context, model, optimizer);
	if (status == SL_OK)
		status = train(context, w, model, optimizer, o);
	if (status == SL_OK)
		status = take_by_file(context, model, optimizer, o);
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	return status;
}

static void compare(const double *gpu, const double *cpu, int64_t count, const char *what) {
	double most = 0;
	for (int64_t i = 0; i < count; i++)
		most = fabs(cpu[i]) > most ? fabs(cpu[i]) : most;
	for (int64_t i = 0; i < count; i++)
		if (!(fabs(gpu[i] - cpu[i]) <= BOUND * (1 + most)) && !(isnan(gpu[i]) && isnan(cpu[i])))
			sl_test_fail(__FILE__, __LINE__, "%s %lld: %.17g, on the CPU %.17g", what, (long long)i, gpu[i], cpu[i]);
}

static void compare_outcomes(const outcome *gpu, const outcome *cpu) {
	CHECK_EQ(gpu->done, cpu->done);
	CHECK_EQ(gpu->count, cpu->count);
	CHECK_EQ(gpu->entries, cpu->entries);
	CHECK(!memcmp(gpu->columns, cpu->columns, (size_t)cpu->entries * sizeof *cpu->columns));
	compare(gpu->epochs, cpu->epochs, cpu->done, "loss of epoch");
	compare(&gpu->loss, &cpu->loss, 1, "mean loss");
	compare(&gpu->accuracy, &cpu->accuracy, 1, "accuracy");
	compare(gpu->outputs, cpu->outputs, SAMPLES * OUT, "output");
	compare(gpu->parameters, cpu->parameters, cpu->count, "parameter or moment");
}

static void close_gpu(sl_context *gpu) {
	sl_context_destroy(gpu);
	if (*fake_cuda_fault())
		sl_test_fail(__FILE__, __LINE__, "%s", fake_cuda_fault());
	CHECK_EQ(fake_cuda_live(), 0);
}

static void check_way(const way *w) {
	static outcome on_gpu, on_cpu;
	fake_cuda_discard();
	fill_data();
	sl_context *gpu = open_on(SL_DEVICE_CUDA), *cpu = open_on(SL_DEVICE_CPU);
	CHECK_OK(cpu, run(cpu, w, &on_cpu));
	CHECK_OK(gpu, run(gpu, w, &on_gpu));
	compare_outcomes(&on_gpu, &on_cpu);
	sl_context_destroy(cpu);
	close_gpu(gpu);
}

SL_TEST(cuda_models, losses_and_targets) {
	static const struct {
		sl_loss loss;
		bool sparse, ignore, weights;
	} cases[] = {{SL_SOFTMAX_CROSS_ENTROPY, false, false, false}, {SL_SOFTMAX_CROSS_ENTROPY, true, false, false},
				 {SL_SOFTMAX_CROSS_ENTROPY, false, false, true},  {SL_BINARY_CROSS_ENTROPY, false, false, false},
				 {SL_BINARY_CROSS_ENTROPY, true, true, false},    {SL_MEAN_SQUARED_ERROR, false, false, false},
				 {SL_MEAN_SQUARED_ERROR, true, false, false}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		check_way(&(way){.loss = cases[i].loss,
						 .sparse_targets = cases[i].sparse,
						 .ignore_zeros = cases[i].ignore,
						 .weights = cases[i].weights,
						 .optimizer = {SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 0.01},
						 .fit = {.epochs = 2, .batch = 8}});
}

SL_TEST(cuda_models, optimizers_and_schedules) {
	for (sl_optimizer_kind kind = SL_SGD; kind <= SL_ADAMW; kind++)
		check_way(&(way){.loss = SL_SOFTMAX_CROSS_ENTROPY,
						 .optimizer = {SL_OPTIMIZER_DEFAULTS, .kind = kind, .learning_rate = 0.05, .l1 = 1e-3,
									   .l2 = 1e-3, .l1_proximal = 1e-4, .clip_norm = 0.3, .clip_value = 0.2,
									   .schedule = {.kind = SL_SCHEDULE_COSINE, .warmup = 3, .total = 9}},
						 .fit = {.epochs = 2, .batch = 7, .accumulate = kind == SL_ADAM ? 2 : 1},
						 .validation = true});
}

SL_TEST(cuda_models, early_stopping_puts_the_best_back) {
	check_way(&(way){.loss = SL_SOFTMAX_CROSS_ENTROPY,
					 .optimizer = {SL_OPTIMIZER_DEFAULTS, .kind = SL_SGD, .learning_rate = 3},
					 .fit = {.epochs = 6, .batch = 5, .patience = 2},
					 .validation = true});
}

/* Patterns that change as a model trains: edited on the host, copied back. */
SL_TEST(cuda_models, schedules_of_patterns) {
	static const sl_sparse_method methods[] = {SL_SPARSE_SET, SL_SPARSE_RIGL, SL_SPARSE_GMP, SL_SPARSE_L1};
	for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
		for (int together = 0; together < 2; together++)
			check_way(&(way){.loss = SL_SOFTMAX_CROSS_ENTROPY,
							 .optimizer = {SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 0.02,
										   .l1_proximal = methods[i] == SL_SPARSE_L1 ? 0.05 : 0},
							 .sparsity = {SL_SPARSITY_DEFAULTS, .method = methods[i], .interval = 3, .end = 12,
										  .density = i > 1 ? 0.25 : 0,
										  .budget = together ? SL_BUDGET_GLOBAL : SL_BUDGET_LAYER},
							 .fit = {.epochs = 2, .batch = 8}});
}

/* Edits that are called for, each on both, and the model goes on. */
static sl_status edit(sl_context *context, outcome *o) {
	sl_model *model;
	sl_optimizer *optimizer;
	static const sl_optimizer_options options = {SL_OPTIMIZER_DEFAULTS, .kind = SL_MOMENTUM, .learning_rate = 0.05};
	way w = {.loss = SL_SOFTMAX_CROSS_ENTROPY, .fit = {.epochs = 1, .batch = 8}};
	memset(o, 0, sizeof *o);
	SL_TRY(make_model(context, &model, SL_F64));
	SL_TRY(sl_optimizer_create(&optimizer, context, &options));
	SL_TRY(sl_model_add_to_optimizer(context, model, optimizer));
	SL_TRY(train(context, &w, model, optimizer, o));
	uint64_t before = sl_model_generation(context, model);
	SL_TRY(sl_layer_prune(context, sl_model_layer(model, 0), 0.2, optimizer));
	CHECK(sl_model_generation(context, model) != before);
	int64_t dropped = 0, moved = 0;
	SL_TRY(sl_layer_regrow(context, sl_model_layer(model, 1), &(sl_regrow_options){SL_REGROW_DEFAULTS, .drop = 0.3},
						   optimizer, &moved));
	CHECK(moved > 0);
	SL_TRY(train(context, &w, model, optimizer, o));
	SL_TRY(sl_model_prune(context, model,
						  &(sl_prune_options){SL_PRUNE_DEFAULTS, .density = 0.1, .budget = SL_BUDGET_GLOBAL}, optimizer,
						  &dropped));
	CHECK(dropped > 0);
	sl_compaction done = {.struct_size = sizeof done};
	SL_TRY(sl_model_compact(context, model, optimizer, &done));
	CHECK(done.dead + done.constant > 0);
	SL_TRY(train(context, &w, model, optimizer, o));
	SL_TRY(take_by_file(context, model, optimizer, o));
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	return SL_OK;
}

SL_TEST(cuda_models, edits) {
	static outcome on_gpu, on_cpu;
	fake_cuda_discard();
	fill_data();
	sl_context *gpu = open_on(SL_DEVICE_CUDA), *cpu = open_on(SL_DEVICE_CPU);
	CHECK_OK(cpu, edit(cpu, &on_cpu));
	CHECK_OK(gpu, edit(gpu, &on_gpu));
	compare_outcomes(&on_gpu, &on_cpu);
	sl_context_destroy(cpu);
	close_gpu(gpu);
}

/* A training state of the CPU goes on on the GPU. */
SL_TEST(cuda_models, resumes_what_the_cpu_saved) {
	static outcome on_gpu, on_cpu;
	char path[64] = "/tmp/sparselayer-state-XXXXXX";
	int fd = mkstemp(path);
	way w = {.loss = SL_SOFTMAX_CROSS_ENTROPY,
			 .optimizer = {SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 0.02},
			 .fit = {.epochs = 1, .batch = 8}};
	CHECK(fd >= 0);
	close(fd);
	fake_cuda_discard();
	fill_data();
	sl_context *gpu = open_on(SL_DEVICE_CUDA), *cpu = open_on(SL_DEVICE_CPU);
	sl_context *contexts[] = {cpu, gpu};
	outcome *outcomes[] = {&on_cpu, &on_gpu};
	sl_model *model;
	sl_optimizer *optimizer;
	CHECK_OK(cpu, make_model(cpu, &model, SL_F64));
	CHECK_OK(cpu, sl_optimizer_create(&optimizer, cpu, &w.optimizer));
	CHECK_OK(cpu, sl_model_add_to_optimizer(cpu, model, optimizer));
	memset(&on_cpu, 0, sizeof on_cpu);
	CHECK_OK(cpu, train(cpu, &w, model, optimizer, &on_cpu));
	sl_checkpoint c = {SL_CHECKPOINT_DEFAULTS, .epochs_done = 1, .seed = 7};
	CHECK_OK(cpu, sl_model_save(cpu, model, optimizer, &c, path));
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	w.fit.first_epoch = 1;
	w.fit.epochs = 3;
	for (int i = 0; i < 2; i++) {
		memset(outcomes[i], 0, sizeof *outcomes[i]);
		CHECK_OK(contexts[i], sl_model_load(&model, &optimizer, NULL, contexts[i], path, NULL));
		CHECK_OK(contexts[i], train(contexts[i], &w, model, optimizer, outcomes[i]));
		CHECK_OK(contexts[i], take_by_file(contexts[i], model, optimizer, outcomes[i]));
		sl_optimizer_destroy(optimizer);
		sl_model_destroy(model);
	}
	unlink(path);
	compare_outcomes(&on_gpu, &on_cpu);
	sl_context_destroy(cpu);
	close_gpu(gpu);
}

/* A model that trains from memory of the GPU, its stream the test's own. */
typedef struct stepper {
	cudaStream_t stream;
	sl_context *context;
	sl_model *model;
	sl_optimizer *optimizer;
	void *inputs, *labels;
} stepper;

enum { BATCH = 16 };

static void put(stepper *s, void *to, const void *from, size_t bytes) {
	sl_device_state *state = sli_device(s->context);
	CHECK_OK(s->context, state->backend->copy(state->device, to, SL_MEMORY_DEVICE, from, SL_MEMORY_HOST, bytes));
	CHECK_OK(s->context, sl_context_synchronize(s->context));
}

/* Other samples for each step. */
static void feed(stepper *s, int step) {
	put(s, s->inputs, inputs + step % 3 * BATCH * IN, BATCH * IN * sizeof *inputs);
	put(s, s->labels, labels + step % 3 * BATCH, BATCH * sizeof *labels);
}

static sl_status one_step(stepper *s) {
	sl_dense x = sl_dense_view(s->inputs, SL_F64, BATCH, IN);
	x.device = SL_DEVICE_CUDA;
	sl_targets wanted = {.labels = s->labels};
	SL_TRY(sl_model_train_batch(s->context, s->model, SL_SOFTMAX_CROSS_ENTROPY, &x, &wanted, SL_OVERWRITE, NULL));
	return sl_optimizer_step(s->context, s->optimizer);
}

static stepper open_stepper(void) {
	stepper s = {0};
	sl_context_options options;
	sl_optimizer_options o = {
		SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAMW, .learning_rate = 0.05,
		.clip_norm = 0.2,      .l1 = 1e-4,       .schedule = {.kind = SL_SCHEDULE_COSINE, .warmup = 2, .total = 8}};
	CHECK(cudaStreamCreateWithFlags(&s.stream, cudaStreamNonBlocking) == cudaSuccess);
	SL_OPTIONS_INIT(options);
	options.device = SL_DEVICE_CUDA;
	options.seed = 7;
	options.deterministic = true;
	options.stream = s.stream;
	CHECK(sl_context_create(&s.context, &options) == SL_OK);
	CHECK_OK(s.context, make_model(s.context, &s.model, SL_F64));
	CHECK_OK(s.context, sl_optimizer_create(&s.optimizer, s.context, &o));
	CHECK_OK(s.context, sl_model_add_to_optimizer(s.context, s.model, s.optimizer));
	CHECK_OK(s.context, sl_model_prepare(s.context, s.model, BATCH, SL_MODE_TRAINING));
	sl_device_state *state = sli_device(s.context);
	CHECK_OK(s.context,
			 state->backend->allocate(state->device, BATCH * IN * sizeof *inputs, SL_MEMORY_DEVICE, &s.inputs));
	CHECK_OK(s.context, state->backend->allocate(state->device, BATCH * sizeof *labels, SL_MEMORY_DEVICE, &s.labels));
	return s;
}

static void close_stepper(stepper *s) {
	sl_device_state *state = sli_device(s->context);
	state->backend->release(state->device, s->inputs, BATCH * IN * sizeof *inputs, SL_MEMORY_DEVICE);
	state->backend->release(state->device, s->labels, BATCH * sizeof *labels, SL_MEMORY_DEVICE);
	sl_optimizer_destroy(s->optimizer);
	sl_model_destroy(s->model);
	sl_context_destroy(s->context);
	CHECK(cudaStreamDestroy(s->stream) == cudaSuccess);
}

static void take_stepper(stepper *s, outcome *o, sl_optimizer_info *info) {
	sl_loss_result loss;
	memset(o, 0, sizeof *o);
	CHECK_OK(s->context, take_by_file(s->context, s->model, s->optimizer, o));
	CHECK_OK(s->context, sl_model_take_loss(s->context, s->model, &loss));
	o->loss = loss.loss;
	o->accuracy = (double)loss.correct / (double)loss.counted;
	*info = (sl_optimizer_info){.struct_size = sizeof *info};
	CHECK_OK(s->context, sl_optimizer_get_info(s->context, s->optimizer, info));
}

static void check_same(stepper *replayed, stepper *eager) {
	static outcome a, b;
	sl_optimizer_info x, y;
	take_stepper(replayed, &a, &x);
	take_stepper(eager, &b, &y);
	CHECK(!memcmp(&a, &b, sizeof a));
	CHECK_EQ(x.steps, y.steps);
	CHECK_EQ(x.skipped, y.skipped);
	CHECK(x.learning_rate == y.learning_rate && !memcmp(&x.gradient_norm, &y.gradient_norm, sizeof x.gradient_norm));
}

/* A whole step, captured once: step count, schedule, bias corrections, clip factor and loss go on by themselves. */
SL_TEST(cuda_models, a_step_in_a_graph) {
	enum { STEPS = 7 };
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	fake_cuda_discard();
	fill_data();
	stepper replayed = open_stepper(), eager = open_stepper();
	CHECK(cudaStreamBeginCapture(replayed.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
	CHECK_OK(replayed.context, one_step(&replayed));
	sl_loss_result loss;
	CHECK_STATUS(replayed.context, sl_model_take_loss(replayed.context, replayed.model, &loss), SL_ERR_STATE,
				 "captures");
	CHECK(cudaStreamEndCapture(replayed.stream, &graph) == cudaSuccess);
	CHECK(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
	CHECK(cudaGraphDestroy(graph) == cudaSuccess);
	uint64_t generation = sl_model_generation(replayed.context, replayed.model);
	for (int i = 0; i < STEPS; i++) {
		feed(&replayed, i);
		feed(&eager, i);
		CHECK(cudaGraphLaunch(exec, replayed.stream) == cudaSuccess);
		CHECK_OK(eager.context, one_step(&eager));
		if (i == STEPS / 2) {
			CHECK_OK(replayed.context, sl_optimizer_set_learning_rate(replayed.context, replayed.optimizer, 0.5));
			CHECK_OK(eager.context, sl_optimizer_set_learning_rate(eager.context, eager.optimizer, 0.5));
		}
	}
	check_same(&replayed, &eager);
	/* A gradient that is not finite changes nothing: eager steps say so, replays count it. */
	static outcome before, after;
	sl_optimizer_info info, then;
	double bad = NAN;
	take_stepper(&replayed, &before, &info);
	put(&replayed, replayed.inputs, &bad, sizeof bad);
	put(&eager, eager.inputs, &bad, sizeof bad);
	CHECK(cudaGraphLaunch(exec, replayed.stream) == cudaSuccess);
	CHECK_STATUS(eager.context, one_step(&eager), SL_ERR_NONFINITE, "nothing was updated");
	take_stepper(&replayed, &after, &then);
	CHECK(!memcmp(before.parameters, after.parameters, sizeof before.parameters));
	CHECK_EQ(then.steps, info.steps);
	CHECK_EQ(then.skipped, 1);
	CHECK(isnan(after.loss));
	CHECK_OK(eager.context, sl_model_take_loss(eager.context, eager.model, &loss));
	feed(&replayed, 1);
	feed(&eager, 1);
	CHECK(cudaGraphLaunch(exec, replayed.stream) == cudaSuccess);
	CHECK_OK(eager.context, one_step(&eager));
	check_same(&replayed, &eager);
	/* An edit of a pattern makes the graph stale. */
	CHECK_EQ(sl_model_generation(replayed.context, replayed.model), generation);
	CHECK_OK(replayed.context,
			 sl_layer_prune(replayed.context, sl_model_layer(replayed.model, 0), 0.2, replayed.optimizer));
	CHECK(sl_model_generation(replayed.context, replayed.model) != generation);
	CHECK(cudaGraphExecDestroy(exec) == cudaSuccess);
	close_stepper(&replayed);
	close_stepper(&eager);
	CHECK(!*fake_cuda_fault());
	CHECK_EQ(fake_cuda_live(), 0);
}

SL_TEST(cuda_models, what_is_wrong_is_said) {
	fake_cuda_discard();
	fill_data();
	sl_context *gpu = open_on(SL_DEVICE_CUDA);
	sl_model *model;
	sl_optimizer *optimizer;
	way w = {.optimizer = {SL_OPTIMIZER_DEFAULTS, .kind = SL_SGD}};
	CHECK_OK(gpu, make_model(gpu, &model, SL_F64));
	CHECK_OK(gpu, sl_optimizer_create(&optimizer, gpu, &w.optimizer));
	CHECK_OK(gpu, sl_model_add_to_optimizer(gpu, model, optimizer));
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(inputs, SL_F64, SAMPLES, IN), .labels = labels};
	labels[20] = OUT;
	CHECK_STATUS(gpu, sl_model_fit(gpu, model, optimizer, &samples, NULL), SL_ERR_ARGUMENT,
				 "is 5; it must be in [0, 5)");
	labels[20] = 0;
	inputs[5 * IN] = NAN;
	CHECK_STATUS(gpu, sl_model_fit(gpu, model, optimizer, &samples, NULL), SL_ERR_NONFINITE, "not finite in epoch 0");
	inputs[5 * IN] = 0;
	samples.inputs.device = SL_DEVICE_CUDA;
	CHECK_STATUS(gpu, sl_model_fit(gpu, model, optimizer, &samples, NULL), SL_ERR_DEVICE,
				 "must be in the host's memory");
	sl_layer *layer;
	sl_linear_options o = {SL_LINEAR_DEFAULTS, .in_features = IN, .out_features = OUT, .density = 0.5,
						   .sparse_inputs = true};
	CHECK_STATUS(gpu, sl_linear_create(&layer, gpu, &o), SL_ERR_UNSUPPORTED, "CPU context");
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	close_gpu(gpu);
}

/* Each call of CUDA failing in turn: a status, nothing leaked, and the model as it was or trained on. */
/* Past the first 60 a sample; all of them where SL_TEST_EVERY_CALL is in the environment, in some minutes. */
SL_TEST(cuda_models, every_call_may_fail) {
	static outcome o;
	way w = {.loss = SL_SOFTMAX_CROSS_ENTROPY,
			 .optimizer = {SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .clip_norm = 1},
			 .sparsity = {SL_SPARSITY_DEFAULTS, .method = SL_SPARSE_RIGL, .interval = 2, .end = 4},
			 .fit = {.epochs = 1, .batch = 27}};
	fake_cuda_discard();
	fill_data();
	long step = 1, at = 0, failed = 0;
	for (bool all = false; !all; at += step) {
		sl_context *gpu = NULL;
		sl_context_options options;
		SL_OPTIONS_INIT(options);
		options.device = SL_DEVICE_CUDA;
		options.deterministic = true;
		options.threads = 1;
		fake_cuda_reset();
		fake_cuda_fail_at(at);
		sl_status status = sl_context_create(&gpu, &options);
		if (status == SL_OK)
			status = run(gpu, &w, &o);
		all = !*fake_cuda_failed();
		CHECK(all ? status == SL_OK : true);
		failed += status != SL_OK;
		sl_context_destroy(gpu);
		if (*fake_cuda_fault())
			sl_test_fail(__FILE__, __LINE__, "call %ld: %s", at, fake_cuda_fault());
		if (fake_cuda_live())
			sl_test_fail(__FILE__, __LINE__, "call %ld (%s) left %ld behind", at, fake_cuda_failed(), fake_cuda_live());
		step = at < 60 || getenv("SL_TEST_EVERY_CALL") ? 1 : 17;
	}
	CHECK(failed > 40);
}
