/* SPDX-License-Identifier: Apache-2.0 */
/* Pruning of whole models, and neurons that go once their last connection died: against twins that keep them. */
#include <math.h>
#include <stdlib.h>

#include "support/check.h"

enum { SAMPLES = 40, MOST = 64 };

typedef struct net {
	sl_context *context;
	sl_model *model;
	sl_optimizer *optimizer;
} net;

static double inputs[SAMPLES * MOST];
static int32_t labels[SAMPLES];

static const int64_t sizes[] = {33, 40, 17, 26, 5};
enum { LAYERS = 4, OUT = 5 };

static net make(sl_dtype dtype, sl_activation activation, double density, bool bias, bool sparse_inputs, int dense) {
	net n = {.context = sl_test_context()};
	CHECK_OK(n.context, sl_model_create(&n.model, n.context));
	for (int i = 0; i < LAYERS; i++) {
		sl_layer *layer;
		CHECK_OK(n.context,
				 sl_linear_create(&layer, n.context,
								  &(sl_linear_options){
									  SL_LINEAR_DEFAULTS, .in_features = sizes[i], .out_features = sizes[i + 1],
									  .dtype = dtype, .dense = i == dense, .density = i == dense ? 1 : density,
									  .bias = bias, .sparse_inputs = sparse_inputs && i == 0,
									  .activation = i + 1 < LAYERS ? activation : SL_IDENTITY, .stream = (uint64_t)i}));
		CHECK_OK(n.context, sl_model_add(n.context, n.model, layer));
	}
	CHECK_OK(n.context, sl_optimizer_create(&n.optimizer, n.context,
											&(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM}));
	CHECK_OK(n.context, sl_model_add_to_optimizer(n.context, n.model, n.optimizer));
	for (int i = 0; i < SAMPLES; i++)
		labels[i] = i % OUT;
	sl_test_fill(inputs, dtype, SAMPLES * sizes[0], 5);
	return n;
}

static void destroy(net *n) {
	sl_optimizer_destroy(n->optimizer);
	sl_model_destroy(n->model);
	sl_context_destroy(n->context);
}

static double number(const void *data, sl_dtype dtype, int64_t i) {
	return dtype == SL_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

/* Random biases, so that constants are not zero. */
static void set_biases(const net *n, sl_dtype dtype) {
	for (int i = 0; i < LAYERS; i++) {
		sl_parameter p = {.struct_size = sizeof p};
		CHECK_OK(n->context, sl_layer_parameter(n->context, sl_model_layer(n->model, i), 1, &p));
		sl_test_fill(p.value, dtype, p.count, (uint64_t)i + 30);
	}
}

/* The samples as CSR of all cells. */
static sl_sparse sparse_view(sl_dtype dtype) {
	static int64_t offsets[SAMPLES + 1];
	static int32_t columns[SAMPLES * MOST];
	for (int64_t i = 0; i <= SAMPLES; i++)
		offsets[i] = i * sizes[0];
	for (int64_t k = 0; k < SAMPLES * sizes[0]; k++)
		columns[k] = (int32_t)(k % sizes[0]);
	return (sl_sparse){.rows = SAMPLES,
					   .cols = sizes[0],
					   .nnz = SAMPLES * sizes[0],
					   .offsets = offsets,
					   .offset_dtype = SL_I64,
					   .col_indices = columns,
					   .index_dtype = SL_I32,
					   .values = inputs,
					   .dtype = dtype};
}

static void outputs_of(const net *n, sl_dtype dtype, bool sparse_inputs, double *to) {
	static double raw[SAMPLES * OUT];
	sl_dense x = sl_dense_view(inputs, dtype, SAMPLES, sizes[0]), y = sl_dense_view(raw, dtype, SAMPLES, OUT);
	sl_sparse s = sparse_view(dtype);
	if (sparse_inputs)
		CHECK_OK(n->context, sl_model_forward_sparse(n->context, n->model, &s, &y, SL_MODE_INFERENCE));
	else
		CHECK_OK(n->context, sl_model_forward(n->context, n->model, &x, &y, SL_MODE_INFERENCE));
	for (int i = 0; i < SAMPLES * OUT; i++)
		to[i] = number(raw, dtype, i);
}

static void step(const net *n, sl_dtype dtype, bool sparse_inputs) {
	sl_dense x = sl_dense_view(inputs, dtype, SAMPLES, sizes[0]);
	sl_sparse s = sparse_view(dtype);
	sl_targets targets = {.labels = labels};
	sl_loss_result result;
	if (sparse_inputs)
		CHECK_OK(n->context, sl_model_train_batch_sparse(n->context, n->model, SL_SOFTMAX_CROSS_ENTROPY, &s, &targets,
														 SL_OVERWRITE, &result));
	else
		CHECK_OK(n->context, sl_model_train_batch(n->context, n->model, SL_SOFTMAX_CROSS_ENTROPY, &x, &targets,
												  SL_OVERWRITE, &result));
	CHECK_OK(n->context, sl_optimizer_step(n->context, n->optimizer));
}

static void check_close(const double *a, const double *b, sl_dtype dtype) {
	/* Sums of at most 40 terms through four layers, of numbers of about 1. */
	double bound = (dtype == SL_F32 ? 0x1p-23 : 0x1p-52) * 2000;
	for (int i = 0; i < SAMPLES * OUT; i++)
		CHECK(fabs(a[i] - b[i]) <= bound * (1 + fabs(b[i])));
}

static int64_t offset(const sl_pattern_arrays *a, int64_t r) {
	return a->offset_dtype == SL_I32 ? ((const int32_t *)a->row_offsets)[r] : ((const int64_t *)a->row_offsets)[r];
}

/* No neuron between the layers is left without inputs or readers, but for the last of its kind. */
static void check_alive(const net *n, bool bias) {
	for (int i = 0; i + 1 < LAYERS; i++) {
		sl_layer *before = sl_model_layer(n->model, i), *after = sl_model_layer(n->model, i + 1);
		sl_parameter p = {.struct_size = sizeof p}, q = p;
		CHECK_OK(n->context, sl_layer_parameter(n->context, before, 0, &p));
		CHECK_OK(n->context, sl_layer_parameter(n->context, after, 0, &q));
		int64_t neurons = p.transposed ? p.cols : p.rows, read[MOST] = {0}, fed[MOST] = {0};
		CHECK_EQ(q.cols, neurons);
		for (int side = 0; side < 2; side++) {
			const sl_csr *w = sl_layer_weights(side ? after : before);
			int64_t *count = side ? read : fed;
			for (int64_t j = 0; !w && j < neurons; j++)
				count[j] = 1;
			sl_pattern_arrays a = {0};
			if (w)
				CHECK_OK(n->context, sl_pattern_get(n->context, sl_csr_pattern(w), &a));
			for (int64_t r = 0; r < a.rows; r++)
				for (int64_t k = offset(&a, r); k < offset(&a, r + 1); k++)
					count[side || p.transposed ? a.col_indices[k] : r]++;
		}
		for (int64_t j = 0; j < neurons && neurons > 1; j++)
			CHECK(read[j] && (fed[j] || !bias));
	}
}

SL_TEST(compact, computes_what_it_did_with_fewer_neurons) {
	static double before[SAMPLES * OUT], after[SAMPLES * OUT];
	static const sl_activation activations[] = {SL_RELU, SL_TANH, SL_SIGMOID};
	int64_t dead = 0, constant = 0;
	for (int run = 0; run < 24; run++) {
		sl_dtype dtype = run % 2 ? SL_F64 : SL_F32;
		bool sparse_inputs = run / 12, bias = run % 4 < 3;
		net n = make(dtype, activations[run % 3], 0.06, bias, sparse_inputs, run % 5);
		if (bias)
			set_biases(&n, dtype);
		outputs_of(&n, dtype, sparse_inputs, before);
		sl_compaction done = {.struct_size = sizeof done};
		sl_model_info was = {.struct_size = sizeof was}, is = was;
		CHECK_OK(n.context, sl_model_get_info(n.context, n.model, NULL, &was));
		CHECK_OK(n.context, sl_model_compact(n.context, n.model, n.optimizer, &done));
		CHECK_OK(n.context, sl_model_get_info(n.context, n.model, NULL, &is));
		CHECK_EQ(was.nonzeros - is.nonzeros, done.weights);
		int64_t neurons = 0;
		for (int i = 0; i + 1 < LAYERS; i++) {
			sl_layer_info info = {.struct_size = sizeof info};
			CHECK_OK(n.context, sl_layer_get_info(n.context, sl_model_layer(n.model, i), &info));
			neurons += sizes[i + 1] - info.out_features;
		}
		CHECK_EQ(neurons, done.dead + done.constant);
		dead += done.dead;
		constant += done.constant;
		outputs_of(&n, dtype, sparse_inputs, after);
		check_close(after, before, dtype);
		check_alive(&n, bias);
		step(&n, dtype, sparse_inputs); /* and it still trains */
		/* A second time there is nothing to do. */
		CHECK_OK(n.context, sl_model_compact(n.context, n.model, n.optimizer, &done));
		CHECK(!done.dead && !done.constant && !done.weights);
		destroy(&n);
	}
	CHECK(dead > 100 && constant > 30);
}

/* With ReLU and biases of 0 a neuron without inputs is 0 and stays so: twins that keep theirs learn the same. */
SL_TEST(compact, moments_come_along) {
	static double a[SAMPLES * OUT], b[SAMPLES * OUT];
	for (int run = 0; run < 4; run++) {
		sl_dtype dtype = run % 2 ? SL_F64 : SL_F32;
		net n = make(dtype, SL_RELU, 0.08, true, run / 2, 3), twin = make(dtype, SL_RELU, 0.08, true, run / 2, 3);
		sl_compaction done = {.struct_size = sizeof done};
		for (int k = 0; k < 6; k++) {
			step(&n, dtype, run / 2);
			step(&twin, dtype, run / 2);
			if (k == 2)
				CHECK_OK(n.context, sl_model_compact(n.context, n.model, n.optimizer, &done));
		}
		CHECK(done.dead + done.constant > 0);
		outputs_of(&n, dtype, run / 2, a);
		outputs_of(&twin, dtype, run / 2, b);
		check_close(a, b, dtype);
		destroy(&n);
		destroy(&twin);
	}
}

SL_TEST(compact, a_network_that_is_all_dead_keeps_a_neuron_a_layer) {
	static double before[SAMPLES * OUT], after[SAMPLES * OUT];
	net n = make(SL_F64, SL_TANH, 1e-9, true, false, -1);
	set_biases(&n, SL_F64);
	outputs_of(&n, SL_F64, false, before);
	CHECK_OK(n.context, sl_model_compact(n.context, n.model, NULL, NULL));
	for (int i = 0; i + 1 < LAYERS; i++) {
		sl_layer_info info = {.struct_size = sizeof info};
		CHECK_OK(n.context, sl_layer_get_info(n.context, sl_model_layer(n.model, i), &info));
		CHECK_EQ(info.out_features, 1);
	}
	outputs_of(&n, SL_F64, false, after);
	check_close(after, before, SL_F64);
	/* The optimizer was not told. */
	CHECK_STATUS(n.context, sl_model_compact(n.context, n.model, n.optimizer, NULL), SL_ERR_STATE,
				 "without this optimizer");
	sl_optimizer *empty;
	CHECK_OK(n.context, sl_optimizer_create(&empty, n.context, &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS}));
	CHECK_STATUS(n.context, sl_model_compact(n.context, n.model, empty, NULL), SL_ERR_ARGUMENT, "not been added");
	CHECK(sl_model_compact(NULL, n.model, NULL, NULL) == SL_ERR_NULL);
	CHECK_STATUS(n.context, sl_model_compact(n.context, NULL, NULL, NULL), SL_ERR_NULL, "model");
	sl_optimizer_destroy(empty);
	destroy(&n);
}

/* All of the layers' weights, largest first, and which of them are left. */
static int descending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x < y) - (x > y);
}

static int64_t magnitudes(const net *n, int count, sl_dtype dtype, double *to) {
	int64_t at = 0;
	for (int i = 0; i < count; i++) {
		sl_parameter p = {.struct_size = sizeof p};
		CHECK_OK(n->context, sl_layer_parameter(n->context, sl_model_layer(n->model, i), 0, &p));
		for (int64_t k = 0; k < p.count; k++)
			to[at++] = fabs(number(p.value, dtype, k));
	}
	qsort(to, (size_t)at, sizeof *to, descending);
	return at;
}

SL_TEST(compact, prune_of_a_model_keeps_the_largest_of_all) {
	static double before[LAYERS * MOST * MOST], after[LAYERS * MOST * MOST];
	for (int run = 0; run < 8; run++) {
		sl_dtype dtype = run % 2 ? SL_F64 : SL_F32;
		bool keep_last = run / 4;
		int count = LAYERS - keep_last;
		int64_t cells = 0, dropped;
		net n = make(dtype, SL_RELU, 0.5, true, run / 2 % 2, 1);
		step(&n, dtype, run / 2 % 2);
		for (int i = 0; i < count; i++)
			cells += sizes[i] * sizes[i + 1];
		int64_t had = magnitudes(&n, count, dtype, before), keep = llround(0.1 * (double)cells);
		CHECK_OK(n.context, sl_model_prune(n.context, n.model,
										   &(sl_prune_options){SL_PRUNE_DEFAULTS, .density = 0.1,
															   .budget = SL_BUDGET_GLOBAL, .keep_last = keep_last},
										   n.optimizer, &dropped));
		CHECK_EQ(dropped, had - keep);
		CHECK_EQ(magnitudes(&n, count, dtype, after), keep);
		CHECK(!memcmp(before, after, (size_t)keep * sizeof *before));
		step(&n, dtype, run / 2 % 2);
		/* And each layer by itself. */
		CHECK_OK(n.context, sl_model_prune(n.context, n.model, &(sl_prune_options){SL_PRUNE_DEFAULTS, .density = 0.001},
										   n.optimizer, NULL));
		for (int i = 0; i < LAYERS; i++) {
			sl_layer_info info = {.struct_size = sizeof info};
			CHECK_OK(n.context, sl_layer_get_info(n.context, sl_model_layer(n.model, i), &info));
			CHECK_EQ(info.nnz, llround(0.001 * (double)(sizes[i] * sizes[i + 1])));
		}
		CHECK_STATUS(n.context,
					 sl_model_prune(n.context, n.model, &(sl_prune_options){SL_PRUNE_DEFAULTS, .density = 0.5},
									n.optimizer, NULL),
					 SL_ERR_ARGUMENT, "density 0.5 means");
		CHECK_STATUS(
			n.context,
			sl_model_prune(n.context, n.model, &(sl_prune_options){SL_PRUNE_DEFAULTS, .density = 2}, NULL, NULL),
			SL_ERR_ARGUMENT, "density is 2");
		destroy(&n);
	}
}

/* SET on a model whose first layer takes sparse inputs: as many weights as before, and others. */
SL_TEST(compact, set_grows_in_layers_of_sparse_inputs) {
	net n = make(SL_F32, SL_RELU, 0.2, true, true, -1);
	sl_sparsity_edit edit = {.struct_size = sizeof edit};
	CHECK_OK(n.context, sl_model_set_sparsity(n.context, n.model,
											  &(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = SL_SPARSE_SET,
																	 .interval = 1, .end = 10}));
	sl_sparsity_info info = {.struct_size = sizeof info};
	CHECK_OK(n.context, sl_model_get_sparsity(n.context, n.model, &info));
	CHECK_EQ(info.layers, LAYERS);
	uint64_t was, is;
	CHECK_OK(n.context, sl_pattern_hash(n.context, sl_csr_pattern(sl_layer_weights(sl_model_layer(n.model, 0))), &was));
	for (int k = 0; k < 3; k++) {
		step(&n, SL_F32, true);
		CHECK_OK(n.context, sl_model_sparsity_step(n.context, n.model, n.optimizer, &edit));
		CHECK(edit.edited && edit.dropped == edit.grown && edit.nonzeros == info.nonzeros);
	}
	CHECK_OK(n.context, sl_pattern_hash(n.context, sl_csr_pattern(sl_layer_weights(sl_model_layer(n.model, 0))), &is));
	CHECK(was != is);
	int64_t moved;
	CHECK_OK(n.context, sl_layer_regrow(n.context, sl_model_layer(n.model, 0), NULL, n.optimizer, &moved));
	CHECK(moved > 0);
	destroy(&n);
}
