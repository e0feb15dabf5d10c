/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an edit of the patterns costs, in training steps: 30 percent of every sparse layer of a 784-1024-1024-10
 * network of 5 percent density dropped and grown, batches of 256, Adam; new plans included. SET's edit is timed by
 * itself; RigL's is what a step with an edit takes more than one without, for it looks at the gradients on their way.
 * Steps and edits take turns; results are medians.
 * Usage: bench-topology [ROUNDS [THREADS]]
 */
#include <sparselayer/sparselayer.h>

#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

enum { IN = 784, HIDDEN = 1024, OUT = 10, BATCH = 256, MOST_ROUNDS = 1000, STEPS = 5 };

typedef struct network {
	sl_model *model;
	sl_optimizer *optimizer;
} network;

static float pixels[BATCH * IN];
static int32_t labels[BATCH];

static void must(sl_context *context, sl_status status) {
	bench_need(status == SL_OK, sl_status_text(status), context ? sl_context_message(context) : "");
}

static network make(sl_context *context, sl_sparse_method method) {
	const int64_t sizes[] = {IN, HIDDEN, HIDDEN, OUT};
	network n;
	must(context, sl_model_create(&n.model, context));
	for (int i = 0; i < 3; i++) {
		sl_layer *layer;
		must(context, sl_linear_create(&layer, context,
									   &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = sizes[i],
															.out_features = sizes[i + 1], .dense = i == 2,
															.density = i == 2 ? 1 : 0.05, .bias = true,
															.init = SL_INIT_HE_UNIFORM,
															.activation = i < 2 ? SL_RELU : SL_IDENTITY,
															.stream = (uint64_t)i}));
		must(context, sl_model_add(context, n.model, layer));
	}
	must(context,
		 sl_optimizer_create(&n.optimizer, context,
							 &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 1e-4}));
	must(context, sl_model_add_to_optimizer(context, n.model, n.optimizer));
	must(context, sl_model_prepare(context, n.model, BATCH, SL_MODE_TRAINING));
	must(context, sl_model_set_sparsity(context, n.model,
										&(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = method,
															   .interval = STEPS + 1, .end = 1 << 30, .drop = 0.3,
															   .decay = SL_DECAY_CONSTANT}));
	return n;
}

/* Forward, backward and update. */
static double step(sl_context *context, network *n) {
	sl_dense inputs = sl_dense_view(pixels, SL_F32, BATCH, IN);
	sl_loss_result result;
	double began = bench_seconds();
	must(context, sl_model_train_batch(context, n->model, SL_SOFTMAX_CROSS_ENTROPY, &inputs,
									   &(sl_targets){.labels = labels}, SL_OVERWRITE, &result));
	must(context, sl_optimizer_step(context, n->optimizer));
	return bench_seconds() - began;
}

/* What follows it: counting, and where it is due the edit and the plans. */
static double follow(sl_context *context, network *n, bool due, double *plans) {
	sl_sparsity_edit edit = {.struct_size = sizeof edit};
	double began = bench_seconds();
	must(context, sl_model_sparsity_step(context, n->model, n->optimizer, &edit));
	double edited = bench_seconds();
	must(context, sl_model_prepare(context, n->model, BATCH, SL_MODE_TRAINING));
	double ended = bench_seconds();
	bench_need(edit.edited == due, "an edit", "came at another step than expected");
	*plans = ended - edited;
	return ended - began;
}

int main(int argc, char **argv) {
	int rounds = argc > 1 ? atoi(argv[1]) : 101, threads = argc > 2 ? atoi(argv[2]) : 0;
	static double plain[MOST_ROUNDS], set[MOST_ROUNDS], rigl[MOST_ROUNDS], seen[MOST_ROUNDS], plans[MOST_ROUNDS];
	sl_context *context;
	char error[256] = "";
	bench_need(rounds > 0 && rounds <= MOST_ROUNDS && threads >= 0, "usage", "bench-topology [ROUNDS [THREADS]]");
	sl_status status = sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU,
																		 .seed = 1, .threads = threads, .error = error,
																		 .error_size = sizeof error});
	bench_need(status == SL_OK, sl_status_text(status), error);
	srand(1);
	for (int i = 0; i < BATCH * IN; i++)
		pixels[i] = rand() % 2 ? (float)rand() / (float)RAND_MAX : 0;
	for (int i = 0; i < BATCH; i++)
		labels[i] = rand() % OUT;
	network s = make(context, SL_SPARSE_SET), r = make(context, SL_SPARSE_RIGL);
	for (int round = -2; round < rounds; round++) { /* the first two are to warm up */
		int at = round < 0 ? 0 : round;
		double one[2 * STEPS], dummy;
		for (int i = 0; i < STEPS; i++) {
			one[2 * i] = step(context, &s);
			follow(context, &s, false, &dummy);
			one[2 * i + 1] = step(context, &r);
			follow(context, &r, false, &dummy);
		}
		plain[at] = bench_quantile(one, 2 * STEPS, 0.5);
		step(context, &s);
		set[at] = follow(context, &s, true, &plans[at]);
		seen[at] = step(context, &r) - plain[at];
		rigl[at] = seen[at] + follow(context, &r, true, &dummy);
	}
	double took = bench_quantile(plain, rounds, 0.5), for_set = bench_quantile(set, rounds, 0.5);
	double for_rigl = bench_quantile(rigl, rounds, 0.5), for_plans = bench_quantile(plans, rounds, 0.5);
	printf("%s, 784-1024-1024-10 at 5%%, batch %d, Adam, %d rounds\n", sl_context_describe(context), BATCH, rounds);
	printf("step %.3f ms; SET's edit %.3f ms, of it plans and transposes %.3f ms; RigL's %.3f ms, of it scores %.3f ms\n",
		   1e3 * took, 1e3 * for_set, 1e3 * for_plans, 1e3 * for_rigl, 1e3 * bench_quantile(seen, rounds, 0.5));
	bench_result("topology.set_over_step", for_set / took);
	bench_result("topology.rigl_over_step", for_rigl / took);
	bench_result("topology.rigl_percent_of_100_steps", 100 * for_rigl / (100 * took + for_rigl));
	for (int i = 0; i < 2; i++) {
		sl_optimizer_destroy(i ? s.optimizer : r.optimizer);
		sl_model_destroy(i ? s.model : r.model);
	}
	sl_context_destroy(context);
	return 0;
}
