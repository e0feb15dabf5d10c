/* SPDX-License-Identifier: Apache-2.0 */
/* Data-parallel training by one rank whose batches are divided: against one whole batch. Several ranks: tests/ranks. */
#include "support/check.h"

enum { IN = 24, HIDDEN = 40, OUT = 4, SAMPLES = 90 };

static float inputs[SAMPLES * IN];
static int32_t labels[SAMPLES];

typedef struct net {
	sl_context *context;
	sl_comm *comm;
	sl_model *model;
	sl_optimizer *optimizer;
} net;

static void open_net(net *n, sl_optimizer_kind kind, const sl_sparsity_options *schedule) {
	n->context = sl_test_context();
	sl_test_fill(inputs, SL_F32, SAMPLES * IN, 3);
	for (int i = 0; i < SAMPLES; i++)
		labels[i] = i % OUT;
	CHECK_OK(n->context,
			 sl_comm_create(&n->comm, n->context, &(sl_comm_options){SL_COMM_DEFAULTS, .kind = SL_COMM_SELF}));
	CHECK_OK(n->context, sl_model_create(&n->model, n->context));
	for (int i = 0; i < 3; i++) {
		sl_layer *layer;
		CHECK_OK(n->context, sl_linear_create(&layer, n->context,
											  &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = i ? HIDDEN : IN,
																   .out_features = i == 2 ? OUT : HIDDEN,
																   .density = i == 2 ? 0 : 0.3, .dense = i == 2,
																   .bias = i != 1, .stream = (uint64_t)i + 1,
																   .activation = i == 2 ? SL_IDENTITY : SL_RELU}));
		CHECK_OK(n->context, sl_model_add(n->context, n->model, layer));
	}
	if (schedule)
		CHECK_OK(n->context, sl_model_set_sparsity(n->context, n->model, schedule));
	CHECK_OK(n->context, sl_optimizer_create(&n->optimizer, n->context,
											 &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = kind,
																	 .learning_rate = 0.01, .clip_norm = 0.5}));
	CHECK_OK(n->context, sl_model_add_to_optimizer(n->context, n->model, n->optimizer));
}

static void close_net(net *n) {
	sl_optimizer_destroy(n->optimizer);
	sl_model_destroy(n->model);
	sl_comm_destroy(n->comm);
	sl_context_destroy(n->context);
}

static bool keep_loss(void *user, const sl_epoch *e) {
	((double *)user)[e->epoch] = e->loss;
	return true;
}

enum { EPOCHS = 4 };

/* shards 0: without ranks. */
static void train(net *n, int64_t shards, bool sharded, int64_t batch, double *losses) {
	sl_parallel *parallel = NULL;
	if (shards)
		CHECK_OK(n->context, sl_parallel_create(&parallel, n->context, n->comm, n->model, n->optimizer,
												&(sl_parallel_options){SL_PARALLEL_DEFAULTS, .bucket_bytes = 800,
																	   .shards = shards, .shard_state = sharded}));
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .inputs = sl_dense_view(inputs, SL_F32, SAMPLES, IN), .labels = labels};
	CHECK_OK(n->context, sl_model_fit(n->context, n->model, n->optimizer, &samples,
									  &(sl_fit_options){SL_FIT_DEFAULTS, .epochs = EPOCHS, .batch = batch,
														.on_epoch = keep_loss, .user = losses, .parallel = parallel}));
	sl_parallel_destroy(parallel);
}

static void compare(sl_optimizer_kind kind, const sl_sparsity_options *schedule, int64_t shards, bool sharded,
					int64_t batch) {
	net whole, parts;
	double a[EPOCHS], b[EPOCHS];
	open_net(&whole, kind, schedule);
	open_net(&parts, kind, schedule);
	train(&whole, 0, false, batch, a);
	train(&parts, shards, sharded, batch, b);
	for (int e = 0; e < EPOCHS; e++)
		CHECK_NEAR(b[e], a[e], 1e-5 * fabs(a[e])); /* a few hundred roundings of 2^-24, amplified by a few steps */
	close_net(&whole);
	close_net(&parts);
}

SL_TEST(parallel, as_one_batch) {
	compare(SL_ADAM, NULL, 1, false, 32);
	compare(SL_ADAM, NULL, 5, false, 32);
	compare(SL_SGD, NULL, 8, false, 5); /* some parts are empty */
	compare(SL_NESTEROV, NULL, 4, true, 32);
	compare(SL_ADAMW, NULL, 3, true, 40);
}

SL_TEST(parallel, patterns_change) {
	sl_sparsity_options schedule = {
		.struct_size = sizeof schedule, .method = SL_SPARSE_RIGL, .interval = 2, .end = 1000};
	compare(SL_ADAM, &schedule, 4, false, 32);
	compare(SL_ADAM, &schedule, 3, true, 32);
	schedule.budget = SL_BUDGET_GLOBAL;
	compare(SL_MOMENTUM, &schedule, 2, false, 32);
	schedule = (sl_sparsity_options){
		.struct_size = sizeof schedule, .method = SL_SPARSE_GMP, .interval = 2, .end = 10, .density = 0.1};
	compare(SL_ADAM, &schedule, 4, true, 32);
}

SL_TEST(parallel, steps_allocate_nothing) {
	net n;
	sl_parallel *parallel;
	sl_loss_result result;
	open_net(&n, SL_ADAM, NULL);
	CHECK_OK(n.context, sl_parallel_create(&parallel, n.context, n.comm, n.model, n.optimizer,
										   &(sl_parallel_options){SL_PARALLEL_DEFAULTS, .shards = 4}));
	sl_memory_usage before = {.struct_size = sizeof before}, after = before;
	sl_dense x = sl_dense_view(inputs, SL_F32, SAMPLES, IN);
	for (int step = 0; step < 4; step++) {
		CHECK_OK(n.context, sl_parallel_train_batch(n.context, parallel, SL_SOFTMAX_CROSS_ENTROPY, SAMPLES, &x,
													&(sl_targets){.labels = labels}, SL_OVERWRITE, &result));
		CHECK_OK(n.context, sl_parallel_step(n.context, parallel, NULL));
		if (step == 1)
			CHECK_OK(n.context, sl_context_memory(n.context, &before));
	}
	CHECK_OK(n.context, sl_context_memory(n.context, &after));
	CHECK_EQ(after.allocations, before.allocations);
	sl_parallel_info info = {.struct_size = sizeof info};
	CHECK_OK(n.context, sl_parallel_get_info(n.context, parallel, &info));
	CHECK_EQ(info.elements, llround(0.3 * IN * HIDDEN) + HIDDEN + llround(0.3 * HIDDEN * HIDDEN) + HIDDEN * OUT + OUT);
	CHECK_EQ(info.shards, 4);
	CHECK(info.buckets > 0 && info.state_bytes == 0);
	sl_parallel_destroy(parallel);
	close_net(&n);
}

SL_TEST(parallel, refused) {
	net n;
	sl_parallel *parallel = NULL;
	sl_loss_result result;
	open_net(&n, SL_ADAM, NULL);
	CHECK_STATUS(n.context,
				 sl_parallel_create(&parallel, n.context, n.comm, n.model, n.optimizer,
									&(sl_parallel_options){SL_PARALLEL_DEFAULTS, .shards = -1}),
				 SL_ERR_ARGUMENT, "shards");
	CHECK(!parallel);
	CHECK_STATUS(n.context, sl_parallel_create(&parallel, n.context, NULL, n.model, n.optimizer, NULL), SL_ERR_NULL,
				 "comm is null");
	sl_optimizer *other = NULL;
	CHECK_OK(n.context, sl_optimizer_create(&other, n.context, NULL));
	CHECK_STATUS(n.context, sl_parallel_create(&parallel, n.context, n.comm, n.model, other, NULL), SL_ERR_ARGUMENT,
				 "has not been added");
	sl_optimizer_destroy(other);
	CHECK_OK(n.context, sl_parallel_create(&parallel, n.context, n.comm, n.model, n.optimizer,
										   &(sl_parallel_options){SL_PARALLEL_DEFAULTS, .shard_state = true}));
	/* The moments are not where the optimizer would look for them. */
	CHECK_STATUS(n.context, sl_optimizer_step(n.context, n.optimizer), SL_ERR_STATE, "sl_parallel_step");
	CHECK_STATUS(n.context, sl_model_save(n.context, n.model, n.optimizer, NULL, "never.safetensors"), SL_ERR_STATE,
				 "sl_parallel_save");
	sl_dense x = sl_dense_view(inputs, SL_F32, 7, IN);
	sl_targets targets = {.labels = labels};
	CHECK_STATUS(
		n.context,
		sl_parallel_train_batch(n.context, parallel, SL_SOFTMAX_CROSS_ENTROPY, 8, &x, &targets, SL_OVERWRITE, &result),
		SL_ERR_SHAPE, "share of the batch is 8");
	CHECK_STATUS(
		n.context,
		sl_parallel_train_batch(n.context, parallel, SL_SOFTMAX_CROSS_ENTROPY, 7, &x, &targets, SL_ACCUMULATE, &result),
		SL_ERR_UNSUPPORTED, "accumulated");
	labels[5] = OUT;
	CHECK_STATUS(
		n.context,
		sl_parallel_train_batch(n.context, parallel, SL_SOFTMAX_CROSS_ENTROPY, 7, &x, &targets, SL_OVERWRITE, &result),
		SL_ERR_ARGUMENT, "rank 0 of 1: label 5");
	sl_parallel_destroy(parallel);
	close_net(&n);
}

SL_TEST(parallel, saved_whole) {
	net n;
	sl_parallel *parallel;
	sl_loss_result result;
	const char *path = "test_parallel.safetensors";
	open_net(&n, SL_ADAM, NULL);
	CHECK_OK(n.context, sl_parallel_create(&parallel, n.context, n.comm, n.model, n.optimizer,
										   &(sl_parallel_options){SL_PARALLEL_DEFAULTS, .shard_state = true}));
	sl_dense x = sl_dense_view(inputs, SL_F32, SAMPLES, IN);
	CHECK_OK(n.context, sl_parallel_train_batch(n.context, parallel, SL_SOFTMAX_CROSS_ENTROPY, SAMPLES, &x,
												&(sl_targets){.labels = labels}, SL_OVERWRITE, &result));
	CHECK_OK(n.context, sl_parallel_step(n.context, parallel, NULL));
	CHECK_OK(n.context, sl_parallel_save(n.context, parallel, NULL, path));
	CHECK_STATUS(n.context, sl_parallel_save(n.context, parallel, NULL, "no/such/folder"), SL_ERR_NOT_FOUND, "rank 0");
	sl_model *again;
	sl_optimizer *state;
	CHECK_OK(n.context, sl_model_load(&again, &state, NULL, n.context, path, NULL));
	void *moments;
	double sum = 0;
	CHECK_OK(n.context, sl_optimizer_state(n.context, state, sl_model_layer(again, 0), 0, 1, &moments));
	for (int64_t i = 0; i < llround(0.3 * IN * HIDDEN); i++)
		sum += ((const float *)moments)[i];
	CHECK(sum > 0);
	remove(path);
	sl_optimizer_destroy(state);
	sl_model_destroy(again);
	sl_parallel_destroy(parallel);
	close_net(&n);
}
