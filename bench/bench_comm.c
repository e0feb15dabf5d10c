/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data-parallel steps on several ranks: what they send, how much of that is hidden behind backward, and what the cost
 * model of docs/scale-out.md says of them. Started by mpirun: bench-comm NAME [DENSITY [BATCH]]; bench/comm_link.sh
 * starts it on two ranks with a link of a given rate between them. NAME is part of the names of the results.
 */
#include <sparselayer/sparselayer.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

enum { LAYERS = 4, ROUNDS = 15, BUCKET = 256 << 10, MOST_BUCKETS = 16 };
static const int64_t widths[LAYERS + 1] = {1024, 2048, 2048, 2048, 16};

static sl_context *context;
static sl_comm *comm, *alone;
static int rank, size;

#define OK(call)                                                                                                       \
	do {                                                                                                               \
		if ((call) != SL_OK) {                                                                                         \
			fprintf(stderr, "rank %d: %s: %s\n", rank, #call, sl_context_message(context));                            \
			sl_comm_abort(comm, 1);                                                                                    \
		}                                                                                                              \
	} while (0)

typedef struct network {
	sl_model *model;
	sl_optimizer *optimizer;
	sl_parallel *parallel;
} network;

static network make(sl_comm *over, double density) {
	network n;
	OK(sl_model_create(&n.model, context));
	for (int i = 0; i < LAYERS; i++) {
		sl_layer *layer;
		OK(sl_linear_create(&layer, context,
							&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = widths[i],
												 .out_features = widths[i + 1], .density = density,
												 .dense = density == 1, .bias = true, .stream = (uint64_t)i + 1,
												 .activation = i < LAYERS - 1 ? SL_RELU : SL_IDENTITY}));
		OK(sl_model_add(context, n.model, layer));
	}
	OK(sl_optimizer_create(&n.optimizer, context,
						   &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_MOMENTUM, .learning_rate = 1e-3}));
	OK(sl_model_add_to_optimizer(context, n.model, n.optimizer));
	OK(sl_parallel_create(&n.parallel, context, over, n.model, n.optimizer,
						  &(sl_parallel_options){SL_PARALLEL_DEFAULTS, .bucket_bytes = BUCKET}));
	return n;
}

static void destroy(network *n) {
	sl_parallel_destroy(n->parallel);
	sl_optimizer_destroy(n->optimizer);
	sl_model_destroy(n->model);
}

static float *inputs;
static int32_t *labels;

static void make_samples(int64_t rows) {
	inputs = malloc((size_t)(rows * widths[0]) * sizeof *inputs);
	labels = malloc((size_t)rows * sizeof *labels);
	if (!inputs || !labels)
		sl_comm_abort(comm, 1);
	srand(1 + (unsigned)rank);
	for (int64_t i = 0; i < rows * widths[0]; i++)
		inputs[i] = (float)rand() / (float)RAND_MAX - 0.5f;
	for (int64_t i = 0; i < rows; i++)
		labels[i] = (int32_t)(rand() % widths[LAYERS]);
}

/* A step with `rows` of this rank's own. */
static void step(const network *n, int64_t rows, int ranks) {
	sl_loss_result result;
	sl_dense x = sl_dense_view(inputs, SL_F32, rows, widths[0]);
	OK(sl_parallel_train_batch(context, n->parallel, SL_SOFTMAX_CROSS_ENTROPY, rows * ranks, &x,
							   &(sl_targets){.labels = labels}, SL_OVERWRITE, &result));
	OK(sl_parallel_step(context, n->parallel, NULL));
}

/* The sums of one step as the parallel makes them, the last layer's first. */
static int cut(const network *n, int64_t *counts) {
	int64_t at = 0;
	int buckets = 0;
	for (int i = LAYERS - 1; i >= 0; i--) {
		sl_layer_info info = {.struct_size = sizeof info};
		OK(sl_layer_get_info(context, sl_model_layer(n->model, i), &info));
		at += info.parameters;
		if (i && at * 4 < BUCKET)
			continue;
		counts[buckets++] = at;
		at = 0;
	}
	return buckets;
}

static void sums(float *data, const int64_t *counts, int buckets) {
	sl_comm_request requests[MOST_BUCKETS];
	double board[16] = {0};
	OK(sl_comm_all_reduce(context, comm, board, board, 16, SL_F64, SL_COMM_SUM, SL_COMM_ON_HOST, NULL));
	for (int i = 0; i < buckets; data += counts[i++])
		OK(sl_comm_all_reduce(context, comm, data, data, counts[i], SL_F32, SL_COMM_SUM, SL_COMM_ON_HOST,
							  &requests[i]));
	for (int i = 0; i < buckets; i++)
		OK(sl_comm_wait(context, comm, &requests[i]));
}

/* The slowest rank's time: the others wait for it. */
static double of_all(double seconds) {
	OK(sl_comm_all_reduce(context, comm, &seconds, &seconds, 1, SL_F64, SL_COMM_MAX, SL_COMM_ON_HOST, NULL));
	return seconds;
}

/* The link as a sum sees it: seconds of a small one, and bytes a second of a large one on top of that. */
static void measure_link(float *data, int64_t most, double *latency, double *rate) {
	double small[ROUNDS], large[ROUNDS];
	for (int i = 0; i < ROUNDS; i++) {
		OK(sl_comm_barrier(context, comm));
		double began = bench_seconds();
		OK(sl_comm_all_reduce(context, comm, data, data, 16, SL_F32, SL_COMM_SUM, SL_COMM_ON_HOST, NULL));
		small[i] = of_all(bench_seconds() - began);
		OK(sl_comm_barrier(context, comm));
		began = bench_seconds();
		OK(sl_comm_all_reduce(context, comm, data, data, most, SL_F32, SL_COMM_SUM, SL_COMM_ON_HOST, NULL));
		large[i] = of_all(bench_seconds() - began);
	}
	*latency = bench_quantile(small, ROUNDS, 0.5);
	double bytes = 2.0 * (size - 1) / size * 4 * (double)most;
	*rate = bytes / (bench_quantile(large, ROUNDS, 0.5) - *latency);
}

/* The model of docs/scale-out.md: sums go one after the other, each once backward has brought it. */
static double model_step(const double *backward, double forward, double update, const int64_t *counts, int buckets,
						 double latency, double rate) {
	double ready = forward + latency, free_at = 0; /* the figures of the batch are summed before backward */
	for (int i = 0; i < buckets; i++) {
		ready += backward[i];
		double begin = ready > free_at ? ready : free_at;
		free_at = begin + latency + 2.0 * (size - 1) / size * 4 * (double)counts[i] / rate;
	}
	return (free_at > ready ? free_at : ready) + update;
}

/* Bytes that a step hands to the carrier. */
static double bytes_of_step(double density, int64_t rows) {
	network n = make(comm, density);
	step(&n, rows, size);
	int64_t before = sl_comm_bytes_sent(comm);
	step(&n, rows, size);
	double bytes = (double)(sl_comm_bytes_sent(comm) - before);
	destroy(&n);
	return bytes;
}

static void timings(const char *name, double density, int64_t rows) {
	network own = make(alone, density), all = make(comm, density);
	int64_t counts[MOST_BUCKETS], elements = 0;
	double compute[ROUNDS], sent[ROUNDS], both[ROUNDS], f[ROUNDS], u[ROUNDS], backward[MOST_BUCKETS];
	double latency, rate;
	int buckets = cut(&all, counts);
	for (int i = 0; i < buckets; i++)
		elements += counts[i];
	float *data = calloc((size_t)elements, sizeof *data), *y = malloc((size_t)(rows * widths[LAYERS]) * sizeof *y);
	if (!data || !y)
		sl_comm_abort(comm, 1);
	sl_dense x = sl_dense_view(inputs, SL_F32, rows, widths[0]), out = sl_dense_view(y, SL_F32, rows, widths[LAYERS]);
	step(&own, rows, 1);
	step(&all, rows, size);
	measure_link(data, elements, &latency, &rate);
	for (int i = 0; i < ROUNDS; i++) {
		OK(sl_comm_barrier(context, comm));
		double began = bench_seconds();
		step(&own, rows, 1);
		compute[i] = of_all(bench_seconds() - began);
		OK(sl_comm_barrier(context, comm));
		began = bench_seconds();
		sums(data, counts, buckets);
		sent[i] = of_all(bench_seconds() - began);
		OK(sl_comm_barrier(context, comm));
		began = bench_seconds();
		step(&all, rows, size);
		both[i] = of_all(bench_seconds() - began);
		OK(sl_comm_barrier(context, comm));
		began = bench_seconds();
		OK(sl_model_forward(context, own.model, &x, &out, SL_MODE_TRAINING));
		f[i] = of_all(bench_seconds() - began);
		OK(sl_comm_barrier(context, comm));
		began = bench_seconds();
		OK(sl_optimizer_step(context, own.optimizer));
		u[i] = of_all(bench_seconds() - began);
	}
	double t_compute = bench_quantile(compute, ROUNDS, 0.5), t_sent = bench_quantile(sent, ROUNDS, 0.5),
		   t_both = bench_quantile(both, ROUNDS, 0.5);
	double forward = bench_quantile(f, ROUNDS, 0.5), update = bench_quantile(u, ROUNDS, 0.5),
		   left = t_compute - forward - update;
	/* A layer's backward goes with its nonzeros. */
	for (int i = 0; i < buckets; i++)
		backward[i] = left * (double)counts[i] / (double)elements;
	double predicted = model_step(backward, forward, update, counts, buckets, latency, rate);
	double hidden = 1 - (t_both - t_compute) / t_sent;
	if (rank == 0) {
		printf("# %s: %d ranks, density %g, %lld rows each, %d sums of %lld gradients; link %.2f ms, %.1f MB/s\n", name,
			   size, density, (long long)rows, buckets, (long long)elements, 1e3 * latency, 1e-6 * rate);
		printf("# %s: computing %.2f ms, sending %.2f ms, both %.2f ms; the model says %.2f ms\n", name,
			   1e3 * t_compute, 1e3 * t_sent, 1e3 * t_both, 1e3 * predicted);
		printf("RESULT comm.hidden.%s %.3f\n", name, hidden);
		printf("RESULT comm.model_over_measured.%s %.3f\n", name, predicted / t_both);
	}
	free(data);
	free(y);
	destroy(&own);
	destroy(&all);
}

int main(int argc, char **argv) {
	const char *name = argc > 1 ? argv[1] : "local";
	double density = argc > 2 ? atof(argv[2]) : 0.05;
	int64_t rows = argc > 3 ? atoll(argv[3]) : 128;
	if (sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = 1,
														  .seed = 1}) != SL_OK)
		return 1;
	if (sl_comm_create(&comm, context, &(sl_comm_options){SL_COMM_DEFAULTS, .timeout = 60}) != SL_OK ||
		sl_comm_create(&alone, context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_SELF}) != SL_OK) {
		fprintf(stderr, "%s\n", sl_context_message(context));
		return 1;
	}
	rank = sl_comm_rank(comm);
	size = sl_comm_size(comm);
	make_samples(rows);
	if (!strcmp(name, "bytes")) {
		double sparse = bytes_of_step(density, rows), dense = bytes_of_step(1, rows);
		if (rank == 0) {
			printf("# %d ranks: %.0f bytes a step and rank at density %g, %.0f dense\n", size, sparse, density, dense);
			printf("RESULT comm.bytes_over_dense.d%02d %.4f\n", (int)lround(100 * density), sparse / dense);
		}
	} else {
		timings(name, density, rows);
	}
	free(inputs);
	free(labels);
	sl_comm_destroy(alone);
	sl_comm_destroy(comm);
	sl_context_destroy(context);
	return 0;
}
