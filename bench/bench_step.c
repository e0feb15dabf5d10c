/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole training step (forward, loss, backward, Adam) of 784-1024-1024-10 networks with batches of 256:
 * dense and 90, 95 and 98 percent sparse, the last layer dense in all. Runs are interleaved; a ratio is
 * taken within each round, and its median over rounds is the result.
 * Usage: bench-step [ROUNDS [THREADS]]
 */
#include <sparselayer/sparselayer.h>

#include <stdio.h>
#include <stdlib.h>

#ifdef SL_WITH_ONEDNN
#include <dnnl.h>
int omp_get_max_threads(void);
void omp_set_num_threads(int threads);
#endif

#include "bench.h"

enum { IN = 784, HIDDEN = 1024, OUT = 10, BATCH = 256, STEPS = 10, NETWORKS = 4, MOST_ROUNDS = 1000 };

typedef struct network {
	const char *key;
	double density;
	sl_model *model;
	sl_optimizer *optimizer;
	double seconds[MOST_ROUNDS], ratio[MOST_ROUNDS];
} network;

static float pixels[BATCH * IN];
static int32_t labels[BATCH];

static void must(sl_context *context, sl_status status) {
	bench_need(status == SL_OK, sl_status_text(status), context ? sl_context_message(context) : "");
}

static void make(sl_context *context, network *n) {
	const int64_t sizes[] = {IN, HIDDEN, HIDDEN, OUT};
	must(context, sl_model_create(&n->model, context));
	for (int i = 0; i < 3; i++) {
		sl_layer *layer;
		double density = i == 2 ? 1 : n->density;
		must(context,
			 sl_linear_create(&layer, context,
							  &(sl_linear_options){
								  SL_LINEAR_DEFAULTS, .in_features = sizes[i], .out_features = sizes[i + 1],
								  .dense = density == 1, .density = density, .bias = true, .init = SL_INIT_HE_UNIFORM,
								  .activation = i < 2 ? SL_RELU : SL_IDENTITY, .stream = (uint64_t)i}));
		must(context, sl_model_add(context, n->model, layer));
	}
	must(context,
		 sl_optimizer_create(&n->optimizer, context,
							 &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 1e-4}));
	must(context, sl_model_add_to_optimizer(context, n->model, n->optimizer));
	must(context, sl_model_prepare(context, n->model, BATCH, SL_MODE_TRAINING));
}

static double step(sl_context *context, network *n, int count) {
	sl_dense inputs = sl_dense_view(pixels, SL_F32, BATCH, IN);
	sl_loss_result result;
	double began = bench_seconds();
	for (int i = 0; i < count; i++) {
		must(context, sl_model_train_batch(context, n->model, SL_SOFTMAX_CROSS_ENTROPY, &inputs,
										   &(sl_targets){.labels = labels}, SL_OVERWRITE, &result));
		must(context, sl_optimizer_step(context, n->optimizer));
	}
	return (bench_seconds() - began) / count;
}

#ifdef SL_WITH_ONEDNN
/* The dense library by itself, on as many threads. */
static double sgemm_rate(int threads) {
	enum { N = HIDDEN };
	static float a[N * N], b[N * BATCH], c[N * BATCH];
	for (int i = 0; i < N * N; i++)
		a[i] = (float)(i % 17) - 8;
	for (int i = 0; i < N * BATCH; i++)
		b[i] = (float)(i % 13) - 6;
	omp_set_num_threads(threads);
	double best = 1e9;
	for (int i = 0; i < 20; i++) {
		double began = bench_seconds();
		dnnl_sgemm('N', 'N', N, BATCH, N, 1, a, N, b, BATCH, 0, c, BATCH);
		double took = bench_seconds() - began;
		best = took < best ? took : best;
	}
	return 2.0 * N * N * BATCH / best / 1e9;
}
#endif

int main(int argc, char **argv) {
	int rounds = argc > 1 ? atoi(argv[1]) : 31, threads = argc > 2 ? atoi(argv[2]) : 0;
	network n[NETWORKS] = {{.key = "dense", .density = 1},
						   {.key = "d10", .density = 0.10},
						   {.key = "d05", .density = 0.05},
						   {.key = "d02", .density = 0.02}};
	sl_context *context;
	char error[256] = "";
	bench_need(rounds > 0 && rounds <= MOST_ROUNDS && threads >= 0, "usage", "bench-step [ROUNDS [THREADS]]");
	sl_status status = sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU,
																		 .seed = 1, .threads = threads, .error = error,
																		 .error_size = sizeof error});
	bench_need(status == SL_OK, sl_status_text(status), error);
	srand(1);
	for (int i = 0; i < BATCH * IN; i++) /* half of a picture's pixels are dark */
		pixels[i] = rand() % 2 ? (float)rand() / (float)RAND_MAX : 0;
	for (int i = 0; i < BATCH; i++)
		labels[i] = rand() % OUT;
	for (int i = 0; i < NETWORKS; i++) {
		make(context, &n[i]);
		step(context, &n[i], 3); /* warm */
	}
	for (int r = 0; r < rounds; r++)
		for (int i = 0; i < NETWORKS; i++) {
			n[i].seconds[r] = step(context, &n[i], STEPS);
			n[i].ratio[r] = n[0].seconds[r] / n[i].seconds[r];
		}
	double flops = 2.0 * BATCH * (2.0 * IN * HIDDEN + 3.0 * HIDDEN * HIDDEN + 3.0 * HIDDEN * OUT);
	double dense = bench_quantile(n[0].seconds, rounds, 0.5);
	printf("%s, a step of 784-1024-1024-10, batch %d, Adam, %d rounds of %d steps\n", sl_context_describe(context),
		   BATCH, rounds, STEPS);
	printf("dense step %.3f ms: products at %.0f GF/s if nothing else took time\n", 1e3 * dense, flops / dense / 1e9);
#ifdef SL_WITH_ONEDNN
	printf("dnnl_sgemm %dx%dx%d by itself %.0f GF/s\n", HIDDEN, BATCH, HIDDEN, sgemm_rate(sl_context_threads(context)));
#endif
	for (int i = 1; i < NETWORKS; i++) {
		double low = bench_quantile(n[i].ratio, rounds, 0.25), high = bench_quantile(n[i].ratio, rounds, 0.75);
		printf("%s step %.3f ms, %.2fx (quartiles %.2f to %.2f)\n", n[i].key,
			   1e3 * bench_quantile(n[i].seconds, rounds, 0.5), bench_quantile(n[i].ratio, rounds, 0.5), low, high);
	}
	for (int i = 1; i < NETWORKS; i++) {
		char name[64];
		snprintf(name, sizeof name, "step.speedup_vs_dense.%s", n[i].key);
		bench_result(name, bench_quantile(n[i].ratio, rounds, 0.5));
	}
	for (int i = 0; i < NETWORKS; i++) {
		sl_optimizer_destroy(n[i].optimizer);
		sl_model_destroy(n[i].model);
	}
	sl_context_destroy(context);
	return 0;
}
