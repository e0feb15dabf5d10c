/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network that Nerva publishes: 3072-1024-1024-10, batches of 100 of 50,000 samples of CIFAR-10's shape, SGD. The
 * hidden layers are of 5 percent density, or whatever is given, the last is dense. Seconds of an epoch, shuffling and
 * gathering of the batches included, beside the 2.6 s that Nerva's authors report for 12 threads (Nerva: a truly sparse
 * implementation of neural networks, arXiv 2407.17437); and beside a dense network of the same shape. Pixels are
 * random, since time does not depend on them. Usage: bench-nerva [EPOCHS [THREADS [DENSITY]]]
 */
#include <sparselayer/sparselayer.h>

#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

enum { SAMPLES = 50000, IN = 3072, HIDDEN = 1024, CLASSES = 10, BATCH = 100, MOST_EPOCHS = 50 };

static const double published = 2.6; /* seconds, 12 threads */

typedef struct times {
	double seconds[MOST_EPOCHS];
	int count;
} times;

static void must(sl_context *context, sl_status status) {
	bench_need(status == SL_OK, sl_status_text(status), context ? sl_context_message(context) : "");
}

static bool note(void *user, const sl_epoch *epoch) {
	times *t = user;
	t->seconds[t->count++] = epoch->seconds;
	return true;
}

/* Median seconds of an epoch, behind one that warms up. */
static double train(sl_context *context, const sl_samples *samples, double density, int epochs) {
	const int64_t sizes[] = {IN, HIDDEN, HIDDEN, CLASSES};
	sl_model *model;
	sl_optimizer *optimizer;
	times t = {.count = 0};
	must(context, sl_model_create(&model, context));
	for (int i = 0; i < 3; i++) {
		sl_layer *layer;
		bool dense = i == 2 || density == 1;
		must(context, sl_linear_create(&layer, context,
									   &(sl_linear_options){
										   SL_LINEAR_DEFAULTS, .in_features = sizes[i], .out_features = sizes[i + 1],
										   .dense = dense, .density = dense ? 1 : density, .bias = true,
										   .init = SL_INIT_GLOROT_UNIFORM, .activation = i < 2 ? SL_RELU : SL_IDENTITY,
										   .stream = (uint64_t)i}));
		must(context, sl_model_add(context, model, layer));
	}
	must(context,
		 sl_optimizer_create(&optimizer, context,
							 &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_SGD, .learning_rate = 0.01}));
	must(context, sl_model_add_to_optimizer(context, model, optimizer));
	must(context, sl_model_fit(context, model, optimizer, samples,
							   &(sl_fit_options){SL_FIT_DEFAULTS, .epochs = epochs + 1, .batch = BATCH,
												 .on_epoch = note, .user = &t}));
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	return bench_quantile(t.seconds + 1, epochs, 0.5);
}

int main(int argc, char **argv) {
	int epochs = argc > 1 ? atoi(argv[1]) : 3, threads = argc > 2 ? atoi(argv[2]) : 2;
	double density = argc > 3 ? atof(argv[3]) : 0.05;
	bench_need(epochs > 0 && epochs < MOST_EPOCHS && threads > 0 && density > 0 && density <= 1, "usage",
			   "bench-nerva [EPOCHS [THREADS [DENSITY]]]");
	sl_context *context;
	char error[256] = "";
	sl_status status = sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU,
																		 .seed = 1, .threads = threads, .error = error,
																		 .error_size = sizeof error});
	bench_need(status == SL_OK, sl_status_text(status), error);
	float *pixels = malloc((size_t)SAMPLES * IN * sizeof *pixels);
	int32_t *labels = malloc(SAMPLES * sizeof *labels);
	bench_need(pixels && labels, "memory", "614 MB are needed");
	uint64_t state = 1;
	for (int64_t i = 0; i < (int64_t)SAMPLES * IN; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		pixels[i] = (float)(state >> 56) / 255 - 0.5f;
	}
	for (int i = 0; i < SAMPLES; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		labels[i] = (int32_t)((state >> 33) % CLASSES);
	}
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(pixels, SL_F32, SAMPLES, IN), .labels = labels};
	printf("%s, 3072-1024-1024-10 at %g%%, batch %d, %d samples, SGD, %d epochs\n", sl_context_describe(context),
		   100 * density, BATCH, SAMPLES, epochs);
	double sparse = train(context, &samples, density, epochs), dense = train(context, &samples, 1, 1);
	bench_result("nerva.epoch_seconds", sparse);
	bench_result("nerva.dense_epoch_seconds", dense);
	bench_result("nerva.published_over_ours", published / sparse);
	free(pixels);
	free(labels);
	sl_context_destroy(context);
	return 0;
}
