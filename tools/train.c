/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "command.h"
#include "outcome.h"
#include "ranks.h"
#include "report.h"
#include "samples.h"
#include "sparse_method.h"
#include "streaming.h"

enum { MOST_HIDDEN = 64 };

typedef struct options {
	common common;
	const char *data, *test, *output, *resume, *log, *report;
	int64_t hidden[MOST_HIDDEN], epochs, batch, accumulate, warmup, step_interval;
	int64_t patience;
	int layers;
	double held_out, validation, density, learning_rate, l1, l1_proximal, l2, weight_decay, clip_norm;
	sl_distribution distribution;
	sl_activation activation;
	sl_init init;
	sl_optimizer_kind optimizer;
	sl_schedule_kind schedule;
	sparse_method sparse;
	ranks_options ranks;
	uint64_t seed;
	sl_label_kind labels;
	bool balanced, implicit, sparse_output, deterministic, rate_given, durable_steps;
} options;

static const char *activation_name(int i) {
	return sl_activation_name((sl_activation)i);
}
static const char *init_name(int i) {
	return sl_init_name((sl_init)i);
}
static const char *kind_name(int i) {
	return sl_optimizer_kind_name((sl_optimizer_kind)i);
}
static const char *schedule_name(int i) {
	static const char *const names[] = {"constant", "step", "cosine"};
	return i < 3 ? names[i] : "unknown";
}
static const char *durability_name(int i) {
	static const char *const names[] = {"step", "checkpoint"};
	return i < 2 ? names[i] : "unknown";
}
static const char *label_name(int i) {
	static const char *const names[] = {"classes", "numbers", "sets"};
	return i < 3 ? names[i] : "unknown";
}
static const char *weights_name(int i) {
	static const char *const names[] = {"none", "balanced"};
	return i < 2 ? names[i] : "unknown";
}
static const char *distribution_name(int i) {
	static const char *const names[] = {"uniform", "er", "erk"};
	return i < 3 ? names[i] : "unknown";
}

static void parse_hidden(options *o, const char *text, struct argp_state *state) {
	char *end;
	o->layers = 0;
	for (const char *at = text;; at = end + 1) {
		errno = 0;
		long long n = strtoll(at, &end, 10);
		if (end == at || errno || n < 1 || n > INT32_MAX || o->layers == MOST_HIDDEN || (*end && *end != ',')) {
			argp_error(state, "--hidden is \"%s\"; up to %d sizes with commas between are needed, as in 1024,1024",
					   text, MOST_HIDDEN);
			return;
		}
		o->hidden[o->layers++] = n;
		if (!*end)
			return;
	}
}

enum {
	KEY_DISTRIBUTION = 300,
	KEY_ACTIVATION,
	KEY_INIT,
	KEY_SCHEDULE,
	KEY_WARMUP,
	KEY_INTERVAL,
	KEY_L1,
	KEY_PROXIMAL,
	KEY_L2,
	KEY_DECAY,
	KEY_CLIP,
	KEY_ACCUMULATE,
	KEY_SEED,
	KEY_SPARSE,
	KEY_DETERMINISTIC,
	KEY_LOG,
	KEY_TEST,
	KEY_HELD_OUT,
	KEY_VALIDATION,
	KEY_PATIENCE,
	KEY_WEIGHTS,
	KEY_LABELS,
	KEY_IMPLICIT,
	KEY_REPORT,
	KEY_DURABILITY,
	KEY_HIDDEN
};

static const struct argp_option list[] = {
	{NULL, 0, NULL, 0, "Network", 1},
	{"hidden", KEY_HIDDEN, "N,N,...", 0, "Sizes of the hidden layers (default 1024,1024)", 1},
	{"density", 'd', "D", 0, "Share of the weights that exist, 1 for dense layers (default 0.1)", 1},
	{"distribution", KEY_DISTRIBUTION, "NAME", 0, "How the density is spread over layers: uniform (default), er or erk",
	 1},
	{"sparse-output", KEY_SPARSE, NULL, 0, "Make the last layer sparse too", 1},
	{"activation", KEY_ACTIVATION, "NAME", 0, "Of hidden layers: relu (default), gelu, tanh ...", 1},
	{"init", KEY_INIT, "NAME", 0, "he-uniform (default), glorot-uniform ...", 1},
	{NULL, 0, NULL, 0, "Training", 2},
	{"epochs", 'e', "N", 0, "In all, those before a --resume included (default 10)", 2},
	{"batch", 'b', "N", 0, "Samples a batch (default 256)", 2},
	{"accumulate", KEY_ACCUMULATE, "N", 0, "Batches a step (default 1)", 2},
	{"optimizer", 'p', "NAME", 0, "sgd, momentum, nesterov, adam (default) or adamw", 2},
	{"learning-rate", 'l', "R", 0, "Default: 0.0014 / sqrt(density) for adam and adamw, else 0.01", 2},
	{"schedule", KEY_SCHEDULE, "NAME", 0, "constant, step or cosine (default)", 2},
	{"warmup", KEY_WARMUP, "N", 0, "Steps of linear warm-up (default 0)", 2},
	{"step-interval", KEY_INTERVAL, "N", 0, "Steps between drops of the step schedule (default 1000)", 2},
	{"l1", KEY_L1, "X", 0, "L1 penalty", 2},
	{"l1-proximal", KEY_PROXIMAL, "X", 0, "L1 by soft threshold, which makes exact zeros", 2},
	{"l2", KEY_L2, "X", 0, "L2 penalty", 2},
	{"weight-decay", KEY_DECAY, "X", 0, "Of adamw (default 0.01)", 2},
	{"clip-norm", KEY_CLIP, "X", 0, "Bound on the norm of all gradients", 2},
	{"patience", KEY_PATIENCE, "N", 0,
	 "Stop after N epochs in a row whose loss on the --validation samples (else the test samples) was not the best, "
	 "and "
	 "keep the best epoch's parameters; while patterns change the last one's",
	 2},
	{"class-weights", KEY_WEIGHTS, "NAME", 0,
	 "none (default), or balanced: classes count alike in the loss, however many samples they have", 2},
	{"seed", KEY_SEED, "N", 0, "Of every random choice (default 1)", 2},
	{"deterministic", KEY_DETERMINISTIC, NULL, 0, "Plan without measuring", 2},
	{"durability", KEY_DURABILITY, "NAME", 0,
	 "When such a model is on disk for good: checkpoint (default: after each epoch, and when interrupted) or step", 2},
	{NULL, 0, NULL, 0, "Files", 3},
	{"data", 'D', "DIR|FILE", 0,
	 "Folder of IDX files (default: the package dataset-fashion-mnist's); svmlight text: a file that ends in .svm, "
	 ".svmlight or .libsvm; or ratings, lines of user, item and rating: .data, .dat or .csv",
	 3},
	{"labels", KEY_LABELS, "NAME", 0,
	 "What svmlight text begins its lines with: classes (default), sets of classes, or numbers to predict", 3},
	{"implicit", KEY_IMPLICIT, NULL, 0, "Ratings: that there is one is all that counts (default: how high it is)", 3},
	{"test", KEY_TEST, "FILE", 0, "svmlight text to test with (default: a part of --data)", 3},
	{"held-out", KEY_HELD_OUT, "SHARE", 0, "That part, of each class or user (default 0.1)", 3},
	{"validation", KEY_VALIDATION, "SHARE", 0,
	 "A part of the other samples that is watched after each epoch, and stopped by; the test samples are then used "
	 "once, "
	 "in the end (default 0)",
	 3},
	{"output", 'o', "FILE", 0, "Model and training state, written after each epoch (default model.safetensors)", 3},
	{"resume", 'r', "FILE", 0,
	 "Go on from a file that train wrote; options of the network, optimizer, batch and seed come from it", 3},
	{"log", KEY_LOG, "FILE", 0, "Write a line of JSON an epoch", 3},
	{"report", KEY_REPORT, "FILE", 0, "Write what happened, with pictures, as one HTML file at the end", 3},
	{0}};

static error_t parse(int key, char *text, struct argp_state *state) {
	options *o = state->input;
	const int64_t most = INT64_C(1) << 40;
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		state->child_inputs[1] = &o->sparse;
		state->child_inputs[2] = &o->ranks;
		return 0;
	case KEY_HIDDEN:
		parse_hidden(o, text, state);
		return 0;
	case 'd':
		o->density = number_option(state, "density", text, 1e-9, 1);
		return 0;
	case KEY_DISTRIBUTION:
		o->distribution = (sl_distribution)named_option(state, "distribution", text, distribution_name);
		return 0;
	case KEY_SPARSE:
		o->sparse_output = true;
		return 0;
	case KEY_ACTIVATION:
		o->activation = (sl_activation)named_option(state, "activation", text, activation_name);
		return 0;
	case KEY_INIT:
		o->init = (sl_init)named_option(state, "init", text, init_name);
		return 0;
	case 'e':
		o->epochs = integer_option(state, "epochs", text, 1, most);
		return 0;
	case 'b':
		o->batch = integer_option(state, "batch", text, 1, 1 << 24);
		return 0;
	case KEY_ACCUMULATE:
		o->accumulate = integer_option(state, "accumulate", text, 1, 1 << 24);
		return 0;
	case 'p':
		o->optimizer = (sl_optimizer_kind)named_option(state, "optimizer", text, kind_name);
		return 0;
	case 'l':
		o->learning_rate = number_option(state, "learning-rate", text, 1e-300, 1e300);
		o->rate_given = true;
		return 0;
	case KEY_SCHEDULE:
		o->schedule = (sl_schedule_kind)named_option(state, "schedule", text, schedule_name);
		return 0;
	case KEY_WARMUP:
		o->warmup = integer_option(state, "warmup", text, 0, most);
		return 0;
	case KEY_INTERVAL:
		o->step_interval = integer_option(state, "step-interval", text, 1, most);
		return 0;
	case KEY_L1:
		o->l1 = number_option(state, "l1", text, 0, 1e300);
		return 0;
	case KEY_PROXIMAL:
		o->l1_proximal = number_option(state, "l1-proximal", text, 0, 1e300);
		return 0;
	case KEY_L2:
		o->l2 = number_option(state, "l2", text, 0, 1e300);
		return 0;
	case KEY_DECAY:
		o->weight_decay = number_option(state, "weight-decay", text, 0, 1e300);
		o->weight_decay = o->weight_decay > 0 ? o->weight_decay : -1;
		return 0;
	case KEY_CLIP:
		o->clip_norm = number_option(state, "clip-norm", text, 0, 1e300);
		return 0;
	case KEY_SEED:
		o->seed = (uint64_t)integer_option(state, "seed", text, 0, INT64_MAX);
		return 0;
	case KEY_DETERMINISTIC:
		o->deterministic = true;
		return 0;
	case 'D':
		o->data = text;
		return 0;
	case 'o':
		o->output = text;
		return 0;
	case 'r':
		o->resume = text;
		return 0;
	case KEY_TEST:
		o->test = text;
		return 0;
	case KEY_HELD_OUT:
		o->held_out = number_option(state, "held-out", text, 0, 1);
		return 0;
	case KEY_VALIDATION:
		o->validation = number_option(state, "validation", text, 0, 0.9);
		return 0;
	case KEY_PATIENCE:
		o->patience = integer_option(state, "patience", text, 1, most);
		return 0;
	case KEY_WEIGHTS:
		o->balanced = named_option(state, "class-weights", text, weights_name) != 0;
		return 0;
	case KEY_LABELS:
		o->labels = (sl_label_kind)named_option(state, "labels", text, label_name);
		return 0;
	case KEY_IMPLICIT:
		o->implicit = true;
		return 0;
	case KEY_DURABILITY:
		o->durable_steps = named_option(state, "durability", text, durability_name) == SL_DURABLE_STEP;
		return 0;
	case KEY_LOG:
		o->log = text;
		return 0;
	case KEY_REPORT:
		o->report = text;
		return 0;
	case ARGP_KEY_END:
		if (o->test && !is_svmlight(o->data))
			argp_error(state, "--test goes with a --data that is svmlight text");
		if (o->labels != SL_LABELS_CLASSES && !is_svmlight(o->data))
			argp_error(state, "--labels goes with a --data that is svmlight text");
		if (o->ranks.share_data && (o->balanced || o->validation > 0 || o->labels != SL_LABELS_CLASSES ||
									form_of(o->data) == RATINGS))
			argp_error(state, "--share-data goes with samples of one class each, unweighted, without --validation");
		if (o->balanced && (o->labels != SL_LABELS_CLASSES || form_of(o->data) == RATINGS))
			argp_error(state, "--class-weights goes with samples of one class each");
		if (o->implicit && form_of(o->data) != RATINGS)
			argp_error(state, "--implicit goes with a --data that is ratings");
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "\"%s\": train takes no arguments", text);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* One training run. */
typedef struct run {
	options *o;
	sl_context *context;
	sl_comm *comm;
	sl_parallel *parallel; /* NULL: this process alone */
	sl_model *model;
	sl_optimizer *optimizer;
	sample_files files;
	sl_checkpoint checkpoint;
	FILE *log;
	double *class_weights; /* NULL: none */
	report *report;
	bool save_failed;
	streaming streaming;
} run;

static sl_status add_layers(run *r) {
	const options *o = r->o;
	int count = o->layers + 1, sparse = o->layers + (o->sparse_output ? 1 : 0);
	int64_t shapes[MOST_HIDDEN + 1][2];
	double densities[MOST_HIDDEN + 1];
	for (int i = 0; i < count; i++) {
		shapes[i][1] = i ? o->hidden[i - 1] : r->files.features;
		shapes[i][0] = i < o->layers ? o->hidden[i] : r->files.classes;
	}
	SL_TRY(sl_density_distribute(r->context, o->distribution, o->density, sparse, (const int64_t(*)[2])shapes, NULL,
								 densities));
	if (o->common.memory_budget) {
		SL_TRY(choose_streamed(&r->streaming, r->context, o->common.memory_budget, (const int64_t(*)[2])shapes,
							   densities, count, sparse, o->batch, o->optimizer));
		if (r->files.sparse) /* such a layer is in memory or not at all */
			r->streaming.layer[0] = false;
		SL_TRY(open_streaming(&r->streaming, r->context, o->output));
	}
	for (int i = 0; i < count; i++) {
		sl_layer *layer;
		bool dense = i >= sparse || o->density == 1 || begins_dense(&o->sparse);
		sl_pattern *pattern = NULL;
		char name[24];
		snprintf(name, sizeof name, "linear%d", i);
		if (!dense && o->sparse.n)
			SL_TRY(sl_pattern_n_m(&pattern, r->context, shapes[i][0], shapes[i][1], o->sparse.n, o->sparse.m,
								  (uint64_t)i + 1));
		sl_status status = create_layer(
			&layer, r->context, &r->streaming, i,
			&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = shapes[i][1], .out_features = shapes[i][0],
								 .dense = dense, .pattern = pattern, .density = dense ? 1 : densities[i],
								 .init = o->init, .bias = true, .sparse_inputs = i == 0 && r->files.sparse,
								 .activation = i < o->layers ? o->activation : SL_IDENTITY, .stream = (uint64_t)i + 1,
								 .name = name});
		sl_pattern_release(pattern);
		SL_TRY(status);
		status = sl_model_add(r->context, r->model, layer);
		if (status != SL_OK) {
			sl_layer_destroy(layer);
			return status;
		}
	}
	return SL_OK;
}

static sl_status make(run *r) {
	const options *o = r->o;
	int64_t per_epoch = (r->files.count + o->batch - 1) / o->batch;
	int64_t steps = o->epochs * ((per_epoch + o->accumulate - 1) / o->accumulate) - o->warmup;
	bool adam = o->optimizer >= SL_ADAM;
	sl_optimizer_options oo = {
		SL_OPTIMIZER_DEFAULTS, .kind = o->optimizer,
		.learning_rate = o->rate_given ? o->learning_rate
						 : adam        ? 0.0014 / sqrt(o->density)
									   : 0.01,
		.weight_decay = o->weight_decay, .l1 = o->l1, .l1_proximal = o->l1_proximal, .l2 = o->l2,
		.clip_norm = o->clip_norm,
		/* A step of wide inputs costs what its entries cost. */
		.lazy = r->files.sparse,
		.schedule = {
			.kind = o->schedule, .warmup = o->warmup, .interval = o->step_interval, .total = steps > 0 ? steps : 1}};
	r->checkpoint.batch = o->batch;
	r->checkpoint.accumulate = o->accumulate;
	r->checkpoint.loss = r->files.loss;
	SL_TRY(sl_model_create(&r->model, r->context));
	SL_TRY(add_layers(r));
	SL_TRY(set_sparse_method(r->context, r->model, &o->sparse, o->density, o->distribution, !o->sparse_output,
							 steps + o->warmup));
	SL_TRY(sl_optimizer_create(&r->optimizer, r->context, &oo));
	return sl_model_add_to_optimizer(r->context, r->model, r->optimizer);
}

static sl_status save(run *r) {
	if (r->streaming.any)
		return sl_model_commit(r->context, r->model, r->optimizer, &r->checkpoint, r->streaming.path);
	return r->parallel ? sl_parallel_save(r->context, r->parallel, &r->checkpoint, r->o->output)
					   : sl_model_save(r->context, r->model, r->optimizer, &r->checkpoint, r->o->output);
}

/* JSON has no NaN: what is not known is left out. */
static void set_figure(json_t *line, const char *name, double value) {
	if (isfinite(value))
		json_object_set_new(line, name, json_real(value));
}

static void end_line(run *r, json_t *line) {
	json_dumpf(line, r->log, JSON_COMPACT | JSON_REAL_PRECISION(9));
	fputc('\n', r->log);
	fflush(r->log);
	json_decref(line);
}

static void write_log(run *r, const sl_epoch *e) {
	if (!r->log)
		return;
	json_t *line = json_pack("{s:I,s:f,s:f}", "epoch", (json_int_t)e->epoch + 1, "learning_rate", e->learning_rate,
							 "seconds", e->seconds);
	set_figure(line, "loss", e->loss);
	set_figure(line, "accuracy", e->accuracy);
	set_figure(line, "validation_loss", e->validation_loss);
	set_figure(line, "validation_accuracy", e->validation_accuracy);
	end_line(r, line);
}

static void print_figures(const char *what, double loss, double accuracy) {
	printf("  %sloss %.4f", what, loss);
	if (isfinite(accuracy))
		printf("  %saccuracy %.2f%%", what, 100 * accuracy);
}

static void print_epoch(const run *r, const sl_epoch *e) {
	printf("epoch %lld/%lld", (long long)e->epoch + 1, (long long)r->o->epochs);
	print_figures("", e->loss, e->accuracy);
	print_figures(r->files.validation > 0 ? "validation " : "test ", e->validation_loss, e->validation_accuracy);
	printf("  %.2f s\n", e->seconds);
}

static bool after_epoch(void *user, const sl_epoch *e) {
	run *r = user;
	end_progress();
	if (!r->o->common.quiet)
		print_epoch(r, e);
	fflush(stdout);
	write_log(r, e);
	if (r->report && !report_epoch(r->report, r->context, r->model, e)) {
		report_free(r->report); /* the report is not worth the training */
		r->report = NULL;
	}
	r->checkpoint.epochs_done = e->epoch + 1;
	r->checkpoint.samples_done = 0;
	r->save_failed = save(r) != SL_OK;
	return !r->save_failed && !interrupted;
}

static bool while_training(void *user, const sl_progress *p) {
	run *r = user;
	if (p->epoch >= 0 && p->epoch == r->checkpoint.epochs_done)
		r->checkpoint.samples_done = p->done < p->total ? p->done : 0;
	if (p->epoch < 0) /* validation: a whole epoch waits to be kept */
		return true;
	bool go_on = show_progress((void *)&r->o->common.quiet, p);
	if (r->o->durable_steps && r->streaming.any && p->done < p->total) {
		r->save_failed = save(r) != SL_OK;
		if (r->save_failed)
			return false;
	}
	/* The last batch of an epoch is followed by its end, where is stopped as well. */
	return go_on || p->done == p->total;
}

static sl_status weigh_classes(run *r) {
	const sl_samples *samples = &r->files.part[TRAIN_PART];
	if (!r->o->balanced)
		return SL_OK;
	r->class_weights = malloc((size_t)r->files.classes * sizeof *r->class_weights + 1);
	return r->class_weights
			   ? sl_class_weights(r->context, samples->labels, r->files.count, r->files.classes, r->class_weights)
			   : SL_ERR_MEMORY;
}

static bool patterns_change(const run *r) {
	sl_sparsity_info info = {.struct_size = sizeof info};
	return sl_model_get_sparsity(r->context, r->model, &info) == SL_OK && info.method != SL_SPARSE_STATIC;
}

/* Once, where the samples were not watched, or where there is more to say of them. */
static sl_status show_outcome(run *r) {
	outcome found;
	if (!(r->files.validation > 0) && r->files.form != RATINGS && !r->o->patience)
		return SL_OK;
	SL_TRY(find_outcome(&found, r->context, r->model, &r->files));
	end_progress();
	if (!r->o->common.quiet)
		print_outcome(&found);
	if (!r->log)
		return SL_OK;
	json_t *line = json_object();
	set_figure(line, "test_loss", found.loss);
	set_figure(line, "test_accuracy", found.accuracy);
	set_figure(line, "rmse", found.rmse);
	set_figure(line, "recall_at_20", found.recall);
	set_figure(line, "ndcg_at_20", found.ndcg);
	end_line(r, line);
	return SL_OK;
}

static sl_status train(run *r) {
	const options *o = r->o;
	sl_model_info info = {.struct_size = sizeof info};
	if (o->resume)
		SL_TRY(sl_model_get_info(r->context, r->model, NULL, &info));
	r->files.data = o->data;
	r->files.test = o->test;
	r->files.held_out = o->held_out;
	if (o->ranks.share_data) {
		r->files.comm = r->comm;
		r->files.parts = o->ranks.shards;
	}
	r->files.validation = o->validation;
	r->files.labels = o->labels;
	r->files.implicit = o->implicit;
	SL_TRY(
		read_samples(&r->files, r->context, o->resume ? info.in_features : 0, o->resume ? &r->checkpoint.loss : NULL));
	SL_TRY(weigh_classes(r));
	if (!o->resume)
		SL_TRY(make(r));
	info = (sl_model_info){.struct_size = sizeof info};
	SL_TRY(sl_model_get_info(r->context, r->model, r->optimizer, &info));
	if (o->resume)
		SL_TRY(find_streaming(&r->streaming, r->context, r->model, o->resume));
	if (!o->common.quiet && r->streaming.any)
		print_streaming(r->context, r->model, &r->streaming);
	if (!o->common.quiet)
		printf("%lld samples, %d layers, %lld of %lld weights, on %s\n", (long long)r->files.count, info.layers,
			   (long long)info.nonzeros, (long long)info.dense_weights, sl_context_describe(r->context));
	if (sl_comm_size(r->comm) > 1 || o->ranks.shards || o->ranks.shard_state || o->ranks.share_data)
		SL_TRY(sl_parallel_create(&r->parallel, r->context, r->comm, r->model, r->optimizer,
								  &(sl_parallel_options){SL_PARALLEL_DEFAULTS, .shards = o->ranks.shards,
														 .shard_state = o->ranks.shard_state}));
	if (sl_comm_size(r->comm) > 1 && !o->common.quiet)
		printf("%d ranks: %s\n", sl_comm_size(r->comm), sl_comm_describe(r->comm));
	if (o->report && sl_comm_rank(r->comm) == 0) {
		r->report = report_begin(r->context, r->model, r->files.validation > 0 ? "validation" : "test");
		SL_TRY(sl_context_set_profiling(r->context, true));
	}
	SL_TRY(sl_context_set_progress(r->context, while_training, r));
	sl_status status = sl_model_fit(
		r->context, r->model, r->optimizer, &r->files.part[TRAIN_PART],
		&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = o->epochs, .first_epoch = r->checkpoint.epochs_done,
						  .first_sample = r->checkpoint.samples_done, .batch = r->checkpoint.batch,
						  .accumulate = r->checkpoint.accumulate, .validation = watched_samples(&r->files),
						  .loss = r->checkpoint.loss, .patience = o->patience,
						  .keep_last = o->patience && patterns_change(r), .class_weights = r->class_weights,
						  .on_epoch = after_epoch, .user = r, .parallel = r->parallel});
	end_progress();
	if (r->save_failed)
		return save(r); /* once more, for its status and message */
	if (status == SL_ERR_CANCELLED) {
		SL_TRY(save(r));
		if (sl_comm_rank(r->comm) == 0)
			fprintf(stderr,
					"sparselayer: interrupted after %lld epochs and %lld samples; go on with: sparselayer train "
					"--resume %s\n",
					(long long)r->checkpoint.epochs_done, (long long)r->checkpoint.samples_done,
					r->streaming.any ? r->streaming.path : o->output);
	}
	if (status == SL_OK && o->patience) /* with the parameters of the best epoch */
		status = save(r);
	if (status == SL_OK)
		status = show_outcome(r);
	/* The whole as one ordinary file, by reading it once more. */
	if (status == SL_OK && r->streaming.any)
		status = sl_model_save(r->context, r->model, r->optimizer, &r->checkpoint, o->output);
	end_progress();
	return status;
}

/* The context needs the seed, which a file to resume holds: it is read twice. */
static int open_run(run *r) {
	const options *o = r->o;
	uint64_t seed = o->seed;
	for (int pass = o->resume ? 0 : 1; pass < 2; pass++) {
		int code = open_context(&r->context, &o->common, seed, o->deterministic);
		if (code != EXIT_OK)
			return code;
		if (!o->resume || pass == 1) {
			code = open_ranks(&r->comm, r->context, &o->ranks, &r->o->common);
			if (code != EXIT_OK || !o->resume)
				return code;
		}
		if (pass == 0)
			sl_context_set_log(r->context, NULL, SL_LOG_ERROR, NULL);
		sl_status status = sl_model_load(&r->model, &r->optimizer, &r->checkpoint, r->context, o->resume, NULL);
		if (status != SL_OK)
			return fail(r->context, status);
		if (!r->optimizer || !r->checkpoint.batch) {
			fprintf(stderr, "sparselayer: %s holds no training state to resume\n", o->resume);
			return EXIT_INPUT;
		}
		seed = r->checkpoint.seed;
		if (pass == 0) {
			sl_optimizer_destroy(r->optimizer);
			sl_model_destroy(r->model);
			sl_context_destroy(r->context);
		}
	}
	return EXIT_OK;
}

static int open_log(run *r) {
	if (!r->o->log || sl_comm_rank(r->comm) > 0)
		return EXIT_OK;
	r->log = fopen(r->o->log, r->o->resume ? "a" : "w");
	if (r->log)
		return EXIT_OK;
	fprintf(stderr, "sparselayer: %s could not be opened: %s\n", r->o->log, strerror(errno));
	return EXIT_FAILED;
}

/* After an interruption as well. */
static int write_report(run *r, int argc, char **argv) {
	if (!r->o->report || !r->model || sl_comm_rank(r->comm) > 0)
		return EXIT_OK;
	if (r->report && report_write(r->report, r->context, r->model, r->o->report, argc, argv))
		return EXIT_OK;
	fprintf(stderr, "sparselayer: the report %s could not be written: %s\n", r->o->report,
			r->report ? strerror(errno) : "no memory");
	return EXIT_FAILED;
}

int command_train(int argc, char **argv) {
	static const struct argp_child children[] = {
		{&common_argp, 0, "Running", 90}, {&sparse_method_argp, 0, NULL, 4}, {&ranks_argp, 0, NULL, 5}, {0}};
	static const struct argp argp = {
		list,
		parse,
		"",
		"Train a network of linear layers, sparse but for the last, to classify pictures or "
		"sparse samples; "
		"print a line an epoch and save model and training state.\vCtrl-C ends after the "
		"current step and saves; --resume goes on from there bit for bit. So does SIGUSR1, which mpirun and Slurm forward "
		"to all ranks.",
		children,
		NULL,
		NULL};
	options o = {.output = "model.safetensors",
				 .hidden = {1024, 1024},
				 .layers = 2,
				 .epochs = 10,
				 .batch = 256,
				 .held_out = 0.1,
				 .accumulate = 1,
				 .density = 0.1,
				 .activation = SL_RELU,
				 .init = SL_INIT_HE_UNIFORM,
				 .optimizer = SL_ADAM,
				 .schedule = SL_SCHEDULE_COSINE,
				 .seed = 1,
				 .step_interval = 1000,
				 .sparse = SPARSE_METHOD_DEFAULTS};
	run r = {.o = &o, .checkpoint = {SL_CHECKPOINT_DEFAULTS}};
	argp_parse(&argp, argc, argv, 0, NULL, &o);
	catch_signals();
	divide_cores(&o.common);
	sl_status status = SL_OK;
	int code = open_run(&r);
	if (code == EXIT_OK)
		code = open_log(&r);
	if (code == EXIT_OK) {
		status = train(&r);
		if (status == SL_ERR_CANCELLED)
			code = EXIT_INTERRUPTED;
		else if (status != SL_OK)
			code = fail(r.context, status);
		if (status == SL_OK || status == SL_ERR_CANCELLED) {
			int written = write_report(&r, argc - 1, argv + 1);
			code = written == EXIT_OK ? code : written;
		}
	}
	if (r.log && (ferror(r.log) | fclose(r.log)) && code == EXIT_OK) {
		fprintf(stderr, "sparselayer: %s could not be written whole\n", o.log);
		code = EXIT_FAILED;
	}
	report_free(r.report);
	sl_parallel_destroy(r.parallel);
	close_ranks(r.comm, code == EXIT_OK || status != SL_OK ? status : SL_ERR_IO, code);
	free_samples(&r.files);
	free(r.class_weights);
	sl_optimizer_destroy(r.optimizer);
	sl_model_destroy(r.model);
	sl_context_destroy(r.context);
	return code;
}
