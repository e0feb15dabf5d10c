/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole training step (forward, loss, backward, Adam) of batches of 256: sparse networks of this library against the
 * dense one of PyTorch, which runs in a process of its own, and of this library. They take turns in one run; a ratio is
 * taken within each round, and its median over rounds is the result.
 * Then what the planner makes of other densities, against all sparse and all dense.
 * Usage: bench-step [THREADS [ROUNDS [small|large|all [eager]]]]; eager: PyTorch is not compiled
 */
#include <sparselayer/sparselayer.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "contender.h"
#include "process.h"

enum { BATCH = 256, NETWORKS = 4, MOST_ROUNDS = 100, MOST_STEPS = 200 };
static const double BLOCK = 0.25; /* seconds of each turn */

typedef struct shape {
	const char *name;
	int64_t sizes[4];
	bool dense_head; /* the last layer is dense whatever the density */
} shape;
static const shape shapes[] = {{"small", {784, 1024, 1024, 10}, true}, {"large", {3072, 4096, 4096, 1000}, false}};

typedef struct network {
	const char *key;
	double density;
	sl_model *model;
	sl_optimizer *optimizer;
	double seconds[MOST_ROUNDS], ratio[MOST_ROUNDS];
} network;

static sl_context *context;
static float *inputs;
static int32_t labels[BATCH];

static void must(sl_status status) {
	bench_need(status == SL_OK, sl_status_text(status), context ? sl_context_message(context) : "");
}

static void make(const shape *s, network *n, sl_plan_mode mode) {
	must(sl_context_set_plan_mode(context, mode));
	must(sl_model_create(&n->model, context));
	for (int i = 0; i < 3; i++) {
		sl_layer *layer;
		bool dense = n->density == 1 || (i == 2 && s->dense_head);
		must(sl_linear_create(
			&layer, context,
			&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = s->sizes[i], .out_features = s->sizes[i + 1],
								 .dense = dense, .density = dense ? 1 : n->density, .bias = true,
								 .init = SL_INIT_HE_UNIFORM, .activation = i < 2 ? SL_RELU : SL_IDENTITY,
								 .stream = (uint64_t)i}));
		must(sl_model_add(context, n->model, layer));
	}
	must(sl_optimizer_create(
		&n->optimizer, context,
		&(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 1e-4 / sqrt(n->density)}));
	must(sl_model_add_to_optimizer(context, n->model, n->optimizer));
	must(sl_model_prepare(context, n->model, BATCH, SL_MODE_TRAINING));
}

static void unmake(network *n) {
	sl_optimizer_destroy(n->optimizer);
	sl_model_destroy(n->model);
}

static double step(const shape *s, network *n) {
	sl_dense x = sl_dense_view(inputs, SL_F32, BATCH, s->sizes[0]);
	sl_loss_result result;
	must(sl_model_train_batch(context, n->model, SL_SOFTMAX_CROSS_ENTROPY, &x, &(sl_targets){.labels = labels},
							  SL_OVERWRITE, &result));
	must(sl_optimizer_step(context, n->optimizer));
	return result.loss;
}

/* The median of a block's steps, warm. */
static double block(const shape *s, network *n) {
	double seconds[MOST_STEPS];
	int count = 0;
	bench_settle();
	step(s, n);
	step(s, n);
	for (double start = bench_seconds(); count < MOST_STEPS && (count < 3 || bench_seconds() - start < BLOCK);) {
		double began = bench_seconds();
		step(s, n);
		seconds[count++] = bench_seconds() - began;
	}
	return bench_quantile(seconds, count, 0.5);
}

static void make_data(const shape *s) {
	srand(1);
	inputs = bench_floats(BATCH * s->sizes[0]);
	for (int64_t i = 0; i < BATCH * s->sizes[0]; i++) /* half of a picture's pixels are dark */
		inputs[i] = rand() % 2 ? (float)rand() / (float)RAND_MAX : 0;
	for (int i = 0; i < BATCH; i++)
		labels[i] = rand() % (int)s->sizes[3];
}

static int open_torch(process *torch, const shape *s, bool eager) {
	char question[128], answer[128];
	snprintf(question, sizeof question, "case %lld,%lld,%lld,%lld %d%s\n", (long long)s->sizes[0],
			 (long long)s->sizes[1], (long long)s->sizes[2], (long long)s->sizes[3], BATCH, eager ? " eager" : "");
	if (!torch->id || !process_ask(torch, question, answer, sizeof answer))
		return 0;
	int variants = answer[0] != 0;
	for (const char *p = answer; *p; p++)
		variants += *p == ' ';
	printf("# PyTorch's dense network: %s\n", answer);
	return variants;
}

/* PyTorch's better way of the two that there are: the median of a block. */
static double torch_block(process *torch, int variants, int *best, int round) {
	double seconds[MOST_STEPS], fastest = INFINITY;
	bench_settle();
	for (int v = 0; v < variants; v++) {
		if (round > 0 && v != *best)
			continue;
		int count = process_time(torch, v, BLOCK, MOST_STEPS, seconds);
		bench_need(count > 0, "PyTorch", "its process has ended");
		double median = bench_quantile(seconds, count, 0.5);
		if (median < fastest)
			fastest = median, *best = v;
	}
	return fastest;
}

static void print(const char *name, const char *key, int threads, double number) {
	char text[64], suffix[16] = "";
	if (threads > 1)
		snprintf(suffix, sizeof suffix, ".t%d", threads);
	snprintf(text, sizeof text, "step.%s.%s%s", name, key, suffix);
	bench_result(text, number);
}

static void compare(const shape *s, process *torch, int rounds, int threads, bool eager) {
	network n[NETWORKS] = {{.key = "dense", .density = 1},
						   {.key = "d10", .density = 0.10},
						   {.key = "d05", .density = 0.05},
						   {.key = "d01", .density = 0.01}};
	double dense[MOST_ROUNDS];
	make_data(s);
	int variants = open_torch(torch, s, eager), best = 0;
	for (int i = 0; i < NETWORKS; i++) {
		make(s, &n[i], SL_PLAN_SPARSE);
		double first = step(s, &n[i]), last = first;
		for (int k = 0; k < 10; k++)
			last = step(s, &n[i]);
		bench_need(last < first, n[i].key, "does not learn");
	}
	bench_pin_new_threads(threads);
	for (int r = 0; r < rounds; r++) {
		dense[r] = variants ? torch_block(torch, variants, &best, r) : 0;
		for (int i = 0; i < NETWORKS; i++) {
			n[i].seconds[r] = block(s, &n[i]);
			n[i].ratio[r] = dense[r] / n[i].seconds[r];
		}
	}
	printf("# %s, %lld-%lld-%lld-%lld, batch %d, Adam, %d threads, %d rounds: ", s->name, (long long)s->sizes[0],
		   (long long)s->sizes[1], (long long)s->sizes[2], (long long)s->sizes[3], BATCH, threads, rounds);
	if (variants)
		printf("PyTorch dense %.2f ms a step (way %d)\n", 1e3 * bench_quantile(dense, rounds, 0.5), best);
	else
		printf("PyTorch is missing: bench/peers/install.sh\n");
	for (int i = 0; i < NETWORKS; i++) {
		printf("# %s: %.3f ms", n[i].key, 1e3 * bench_quantile(n[i].seconds, rounds, 0.5));
		if (variants)
			printf(", %.2fx (quartiles %.2f to %.2f)", bench_quantile(n[i].ratio, rounds, 0.5),
				   bench_quantile(n[i].ratio, rounds, 0.25), bench_quantile(n[i].ratio, rounds, 0.75));
		printf("\n");
	}
	for (int i = 0; i < NETWORKS && variants; i++)
		print(s->name, n[i].key, threads, bench_quantile(n[i].ratio, rounds, 0.5));
	fflush(stdout);
	for (int i = 0; i < NETWORKS; i++)
		unmake(&n[i]);
	free(inputs);
}

/* The planner's step over the better of all sparse and all dense, medians over the rounds of one density. */
static double planned_ratio(const shape *s, network *dense, double density, int rounds) {
	network sparse = {.density = density}, planned = {.density = density};
	make(s, &sparse, SL_PLAN_SPARSE);
	make(s, &planned, SL_PLAN_AUTO);
	double ratio = INFINITY;
	for (int again = 0; again < 3 && ratio > 1.1; again++) { /* outliers are timed again */
		for (int r = 0; r < rounds; r++) {
			dense->seconds[r] = block(s, dense);
			sparse.seconds[r] = block(s, &sparse);
			planned.seconds[r] = block(s, &planned);
		}
		double best = fmin(bench_quantile(dense->seconds, rounds, 0.5), bench_quantile(sparse.seconds, rounds, 0.5));
		ratio = bench_quantile(planned.seconds, rounds, 0.5) / best;
	}
	printf("# %s, density %g: the planner's step takes %.3f of the better one's\n", s->name, density, ratio);
	unmake(&sparse);
	unmake(&planned);
	return ratio;
}

static int plans(const shape *s, int rounds, double *ratios) {
	static const double densities[] = {0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01};
	enum { COUNT = sizeof densities / sizeof *densities };
	network dense = {.density = 1};
	make_data(s);
	make(s, &dense, SL_PLAN_AUTO);
	for (int i = 0; i < COUNT; i++)
		ratios[i] = planned_ratio(s, &dense, densities[i], rounds);
	unmake(&dense);
	free(inputs);
	return COUNT;
}

static void print_plans(double *ratios, int count, int threads) {
	double sum = 0;
	for (int i = 0; i < count; i++)
		sum += log(ratios[i]);
	char name[64];
	snprintf(name, sizeof name, threads > 1 ? "auto.step.geomean.t%d" : "auto.step.geomean", threads);
	bench_result(name, exp(sum / count));
	snprintf(name, sizeof name, threads > 1 ? "auto.step.p99.t%d" : "auto.step.p99", threads);
	bench_result(name, bench_quantile(ratios, count, 0.99));
}

int main(int argc, char **argv) {
	int threads = argc > 1 ? atoi(argv[1]) : 1, rounds = argc > 2 ? atoi(argv[2]) : 7;
	const char *which = argc > 3 ? argv[3] : "all";
	process torch;
	char error[256] = "", detail[256];
	bench_need(threads > 0 && rounds > 0 && rounds <= MOST_ROUNDS, "usage",
			   "bench-step [THREADS [ROUNDS [small|large|all [eager]]]]");
	bench_environment(argv, threads);
	sl_status status =
		sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .seed = 1,
														  .calibration = CALIBRATION, .threads = threads,
														  .error = error, .error_size = sizeof error});
	bench_need(status == SL_OK, sl_status_text(status), error);
	must(sl_calibrate(context));
	process_start(&torch, "step", threads, detail, sizeof detail);
	printf("# sparselayer %s, %s; %s\n", sl_version_string(), sl_context_describe(context), detail);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		if (!strcmp(which, "all") || !strcmp(which, shapes[i].name))
			compare(&shapes[i], &torch, rounds, threads, argc > 4 && !strcmp(argv[4], "eager"));
	if (torch.id)
		process_stop(&torch);
	double ratios[64];
	int count = 0;
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		if (!strcmp(which, "all") || !strcmp(which, shapes[i].name))
			count += plans(&shapes[i], rounds < 3 ? rounds : 3, ratios + count);
	print_plans(ratios, count, threads);
	sl_context_destroy(context);
	return 0;
}
