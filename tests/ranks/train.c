/* SPDX-License-Identifier: Apache-2.0 */
/* A network on made-up samples, trained as the arguments say (name=value); rank 0 prints its figures as hexadecimal
 * numbers, and sums over its weights. */
#include <unistd.h>

#include "ranks.h"

enum { IN = 40, HIDDEN = 96, OUT = 5, SAMPLES = 331, HELD = 64 };

/* Whether this rank is the one that does something else than the others. */
static bool odd(const char *what) {
	return given("odd") && rank == size - 1 && !strcmp(given("odd"), what);
}

static void add(sl_model *model, int64_t in, int64_t out, double density, sl_activation activation, uint64_t stream) {
	sl_layer *layer;
	OK(sl_linear_create(&layer, context,
						&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = in, .out_features = out,
											 .density = density, .dense = density == 1, .init = SL_INIT_HE_UNIFORM,
											 .bias = true, .activation = activation,
											 .stream = stream + (odd("pattern") ? 10 : 0)}));
	OK(sl_model_add(context, model, layer));
}

/* With divide=N the layers are divided over groups of N ranks, and each batch over the groups. */
static sl_comm *group, *others;

static void add_divided(sl_model *model, int64_t in, int64_t out, double density, sl_activation activation,
						uint64_t stream) {
	OK(sl_model_add_divided(context, model, group,
							&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = in, .out_features = out,
												 .density = density, .init = SL_INIT_GLOROT_UNIFORM, .bias = true,
												 .activation = activation, .stream = stream},
							number("blocks", 6)));
}

/* A layer as add() makes it, cut into blocks. */
static void divide_whole(sl_model *model, int64_t in, int64_t out, double density, sl_activation activation,
						 uint64_t stream) {
	sl_layer *layer;
	sl_linear_options o = {SL_LINEAR_DEFAULTS,         .in_features = in, .out_features = out,      .density = density,
						   .init = SL_INIT_HE_UNIFORM, .bias = true,      .activation = activation, .stream = stream};
	OK(sl_linear_create(&layer, context, &o));
	o.weights = sl_layer_weights(layer);
	OK(sl_model_add_divided(context, model, group, &o, number("blocks", 6)));
	sl_layer_destroy(layer);
}

static void make(sl_model **model, sl_optimizer **optimizer) {
	const char *method = given("method");
	OK(sl_model_create(model, context));
	if (group && number("whole", 0)) {
		divide_whole(*model, IN, HIDDEN, 0.2, SL_RELU, 1);
		divide_whole(*model, HIDDEN, HIDDEN, 0.1, SL_TANH, 2);
		add(*model, HIDDEN, OUT, 1, SL_IDENTITY, 3);
	} else if (group) {
		add_divided(*model, IN, HIDDEN, 0.2, SL_GELU, 1);
		add_divided(*model, HIDDEN, HIDDEN, 0.1, SL_TANH, 2);
		if (number("tail", 0)) /* a layer that every rank has, between divided ones */
			add(*model, HIDDEN, HIDDEN, 0.1, odd("weights") ? SL_TANH : SL_RELU, 4);
		add_divided(*model, HIDDEN, OUT, 0.5, SL_IDENTITY, 3);
	} else {
		add(*model, IN, HIDDEN, 0.2, odd("shape") ? SL_GELU : SL_RELU, 1);
		add(*model, HIDDEN, HIDDEN, 0.1, SL_TANH, 2);
		add(*model, HIDDEN, OUT, 1, SL_IDENTITY, 3);
	}
	sl_sparsity_options schedule = {.struct_size = sizeof schedule, .interval = number("interval", 2), .end = 100000};
	if (method) {
		while (strcmp(sl_sparse_method_name(schedule.method), method))
			schedule.method++;
		if (schedule.method == SL_SPARSE_GMP)
			schedule.density = 0.05;
		schedule.budget = number("global", 0) ? SL_BUDGET_GLOBAL : SL_BUDGET_LAYER;
		schedule.end = number("end", 100000);
		OK(sl_model_set_sparsity(context, *model, &schedule));
	}
	OK(sl_optimizer_create(optimizer, context,
						   &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS,
												   .kind = (sl_optimizer_kind)number("optimizer", SL_ADAM),
												   .learning_rate = odd("rate") ? 0.02 : 0.01,
												   .clip_norm = (double)number("clip", 0) / 100}));
	OK(sl_model_add_to_optimizer(context, *model, *optimizer));
}

static float inputs[SAMPLES + HELD][IN];
static int32_t labels[SAMPLES + HELD];

static void make_samples(void) {
	for (int i = 0; i < SAMPLES + HELD; i++) {
		double best = -100;
		for (int f = 0; f < IN; f++)
			inputs[i][f] = (float)signed_value(1, (uint64_t)(i * IN + f));
		for (int c = 0; c < OUT; c++) {
			double score = 0;
			for (int f = 0; f < IN; f++)
				score += inputs[i][f] * signed_value(2, (uint64_t)(c * IN + f));
			if (score > best) {
				best = score;
				labels[i] = c;
			}
		}
	}
}

typedef struct state {
	sl_model *model;
	sl_optimizer *optimizer;
	sl_parallel *parallel;
	sl_checkpoint done;
} state;

static bool after_epoch(void *user, const sl_epoch *e) {
	state *s = user;
	if (rank == 0) {
		printf("%lld %a %a %a %a\n", (long long)e->epoch, e->loss, e->accuracy, e->validation_loss,
			   e->validation_accuracy);
		fflush(stdout);
	}
	s->done.epochs_done = e->epoch + 1;
	if (given("save") && group && !s->parallel)
		OK(sl_model_save_divided(context, s->model, s->optimizer, &s->done, given("save")));
	if (given("save") && s->parallel)
		OK(sl_parallel_save(context, s->parallel, &s->done, given("save")));
	if (given("pause")) /* for whoever kills ranks */
		usleep((useconds_t)number("pause", 0) * 1000);
	return true;
}

/* One line a block, in order of layers and blocks; the ranks of a group come one after the other. */
static void print_sums(const state *s) {
	double sums[2 * 64] = {0}, all[2 * 64];
	for (int i = 0, layer; i < sl_model_parameter_count(s->model); i++) {
		sl_parameter parameter = {.struct_size = sizeof parameter};
		sl_block_info info = {.struct_size = sizeof info};
		OK(sl_model_parameter(context, s->model, i, &layer, &parameter));
		OK(sl_model_get_block(context, s->model, layer, &info));
		double *sum = &sums[(info.layer * 8 + info.block) * 2 + !parameter.decays];
		CHECK(info.layer < 8 && info.block < 8);
		if (!info.blocks && sl_comm_rank(group))
			continue;
		for (int64_t k = 0; k < parameter.count; k++)
			*sum += (double)((const float *)parameter.value)[k] * (double)(k % 97 + 1);
		*sum += 1e6 * (double)parameter.count;
	}
	if (group)
		OK(sl_comm_all_reduce(context, group, sums, all, 128, SL_F64, SL_COMM_SUM, SL_COMM_ON_HOST, NULL));
	else
		memcpy(all, sums, sizeof all);
	for (int i = 0; i < 128 && rank == 0; i++)
		if (all[i] != 0)
			printf("sum %d %a\n", i, all[i]);
}

/* The same batches through the calls for an own loop. */
static void own_loop(state *s, int64_t batch, int64_t epochs) {
	for (int64_t e = 0; e < epochs; e++) {
		double sum = 0;
		for (int64_t at = 0; at < SAMPLES; at += batch) {
			int64_t total = SAMPLES - at < batch ? SAMPLES - at : batch, first, count;
			sl_loss_result result;
			sl_parallel_share(s->parallel, total, &first, &count);
			sl_dense x = sl_dense_view(inputs[at + first], SL_F32, count, IN);
			OK(sl_parallel_train_batch(context, s->parallel, SL_SOFTMAX_CROSS_ENTROPY, total, &x,
									   &(sl_targets){.labels = labels + at + first}, SL_OVERWRITE, &result));
			OK(sl_parallel_step(context, s->parallel, NULL));
			sum += result.loss * (double)total;
		}
		if (rank == 0)
			printf("%lld %a\n", (long long)e, sum / SAMPLES);
	}
}

void test_train(int argc, char **argv) {
	take_arguments(argc, argv);
	make_samples();
	int64_t batch = number("batch", 50), epochs = number("epochs", 3);
	if (number("divide", 0)) {
		OK(sl_comm_split(&group, context, comm, rank / (int)number("divide", 1), 0));
		OK(sl_comm_split(&others, context, comm, rank % (int)number("divide", 1), 0));
	}
	state s = {.done = {SL_CHECKPOINT_DEFAULTS, .batch = batch}};
	if (given("resume") && group) {
		OK(sl_model_load_divided(&s.model, &s.optimizer, &s.done, context, group, given("resume"), NULL));
		CHECK(s.optimizer && s.done.epochs_done > 0);
	} else if (given("resume")) {
		OK(sl_model_load(&s.model, &s.optimizer, &s.done, context, given("resume"), NULL));
		CHECK(s.optimizer && s.done.epochs_done > 0);
	} else {
		make(&s.model, &s.optimizer);
	}
	if (odd("weights")) {
		sl_parameter parameter = {.struct_size = sizeof parameter};
		OK(sl_model_parameter(context, s.model, 2, NULL, &parameter));
		((float *)parameter.value)[3] += 1e-7f;
	}
	if (odd("calls"))
		OK(sl_comm_barrier(context, comm));
	if (odd("leaves"))
		exit(0);
	if (!number("plain", 0))
		OK(sl_parallel_create(&s.parallel, context, group ? others : comm, s.model, s.optimizer,
							  &(sl_parallel_options){SL_PARALLEL_DEFAULTS, .bucket_bytes = number("bucket", 1000),
													 .shards = number("shards", 0),
													 .shard_state = number("sharded", 0) != 0}));
	sl_samples held = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(inputs[SAMPLES], SL_F32, HELD, IN),
					   .labels = labels + SAMPLES};
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(inputs, SL_F32, SAMPLES - odd("samples"), IN),
						  .labels = labels};
	if (odd("label"))
		labels[70] = OUT;
	if (number("own", 0))
		own_loop(&s, batch, epochs);
	else
		OK(sl_model_fit(context, s.model, s.optimizer, &samples,
						&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = epochs, .batch = batch,
										  .first_epoch = s.done.epochs_done, .accumulate = number("accumulate", 1),
										  .keep_order = number("order", 0) != 0, .validation = &held,
										  .on_epoch = after_epoch, .user = &s, .parallel = s.parallel}));
	if (s.parallel)
		OK(sl_parallel_verify(context, s.parallel));
	sl_sparsity_info info = {.struct_size = sizeof info};
	OK(sl_model_get_sparsity(context, s.model, &info));
	print_sums(&s);
	if (rank == 0) {
		printf("edits %lld\n", (long long)info.edits);
	}
	sl_parallel_destroy(s.parallel);
	sl_optimizer_destroy(s.optimizer);
	sl_model_destroy(s.model);
	sl_comm_destroy(group);
	sl_comm_destroy(others);
}
