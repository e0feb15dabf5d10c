/* SPDX-License-Identifier: Apache-2.0 */
/* Layers and losses against central finite differences in double, and the promises of layer.h. */
#include "support/check.h"

#include <pthread.h>

enum { IN = 19, OUT = 11, BATCH = 13 };

static sl_layer *make(sl_context *context, sl_activation activation, bool dense, sl_dtype dtype) {
	sl_layer *layer = NULL;
	sl_linear_options options = {SL_LINEAR_DEFAULTS,
								 .in_features = IN,
								 .out_features = OUT,
								 .density = dense ? 0 : 0.3,
								 .dense = dense,
								 .bias = true,
								 .activation = activation,
								 .activation_parameter = activation == SL_CLIPPED_RELU ? 0.7 : 0,
								 .dtype = dtype};
	CHECK_OK(context, sl_linear_create(&layer, context, &options));
	sl_parameter bias = {.struct_size = sizeof bias};
	CHECK_OK(context, sl_layer_parameter(context, layer, 1, &bias));
	sl_test_fill(bias.value, dtype, OUT, 77);
	return layer;
}

/* sum of weights * Y */
static double objective(sl_context *context, const sl_layer *layer, const double *x, const double *g) {
	double y[BATCH * OUT], sum = 0;
	sl_dense X = sl_dense_view(x, SL_F64, BATCH, IN), Y = sl_dense_view(y, SL_F64, BATCH, OUT);
	CHECK_OK(context, sl_layer_forward(context, layer, &X, &Y, NULL));
	for (int i = 0; i < BATCH * OUT; i++)
		sum += y[i] * g[i];
	return sum;
}

/* Error of a central difference: h^2 * third derivative + eps / h * |f|. No kink lies within h of a
 * sum here, which the fixed seed makes sure of. */
static void check_difference(sl_context *context, const sl_layer *layer, const double *x, const double *g, double *at,
							 double got) {
	double h = 1e-5, keep = *at;
	*at = keep + h;
	double up = objective(context, layer, x, g);
	*at = keep - h;
	double down = objective(context, layer, x, g);
	*at = keep;
	CHECK_NEAR(got, (up - down) / (2 * h), 1e-7);
}

static void check_gradients(sl_activation activation, bool dense) {
	sl_context *context = sl_test_context();
	sl_layer *layer = make(context, activation, dense, SL_F64);
	double x[BATCH * IN], g[BATCH * OUT], y[BATCH * OUT], dx[BATCH * IN];
	sl_test_fill(x, SL_F64, BATCH * IN, 3);
	sl_test_fill(g, SL_F64, BATCH * OUT, 4);
	for (int i = 0; i < BATCH * IN; i++)
		x[i] += 0.0012345 * (i % 7); /* off the grid, hence off the kinks */
	sl_dense X = sl_dense_view(x, SL_F64, BATCH, IN), Y = sl_dense_view(y, SL_F64, BATCH, OUT);
	sl_dense G = sl_dense_view(g, SL_F64, BATCH, OUT), DX = sl_dense_view(dx, SL_F64, BATCH, IN);
	sl_saved *saved = NULL;
	CHECK_OK(context, sl_saved_create(&saved, context, layer, BATCH));
	CHECK_OK(context, sl_layer_forward(context, layer, &X, &Y, saved));
	CHECK_OK(context, sl_layer_backward(context, layer, saved, &G, &DX, SL_OVERWRITE));
	for (int p = 0; p < sl_layer_parameter_count(layer); p++) {
		sl_parameter parameter = {.struct_size = sizeof parameter};
		CHECK_OK(context, sl_layer_parameter(context, layer, p, &parameter));
		CHECK(parameter.gradient != NULL);
		for (int64_t i = 0; i < parameter.count; i++)
			check_difference(context, layer, x, g, (double *)parameter.value + i, ((double *)parameter.gradient)[i]);
	}
	for (int i = 0; i < BATCH * IN; i++)
		check_difference(context, layer, x, g, x + i, dx[i]);
	/* Accumulating the same again doubles the gradient, exactly. */
	sl_parameter weight = {.struct_size = sizeof weight};
	CHECK_OK(context, sl_layer_parameter(context, layer, 0, &weight));
	double first = ((double *)weight.gradient)[0];
	CHECK_OK(context, sl_layer_backward(context, layer, saved, &G, NULL, SL_ACCUMULATE));
	CHECK_NEAR(((double *)weight.gradient)[0], 2 * first, 1e-14);
	CHECK_OK(context, sl_layer_backward(context, layer, saved, &G, NULL, SL_OVERWRITE));
	CHECK(((double *)weight.gradient)[0] == first);
	sl_saved_destroy(saved);
	sl_layer_destroy(layer);
	sl_context_destroy(context);
}

SL_TEST(layers, gradients_sparse) {
	for (int activation = SL_IDENTITY; activation <= SL_GELU; activation++)
		check_gradients((sl_activation)activation, false);
}

SL_TEST(layers, gradients_dense) {
	for (int activation = SL_IDENTITY; activation <= SL_GELU; activation++)
		check_gradients((sl_activation)activation, true);
}

static void check_loss(sl_loss loss, bool labels) {
	sl_context *context = sl_test_context();
	double outputs[6 * 5], dense[6 * 5], gradient[6 * 5];
	int32_t classes[6] = {0, 4, 2, 2, 1, 3};
	sl_test_fill(outputs, SL_F64, 30, 9);
	for (int i = 0; i < 30; i++)
		dense[i] = loss == SL_SOFTMAX_CROSS_ENTROPY ? 0.2 : (i % 3) / 2.0;
	sl_dense O = sl_dense_view(outputs, SL_F64, 6, 5), T = sl_dense_view(dense, SL_F64, 6, 5);
	sl_dense G = sl_dense_view(gradient, SL_F64, 6, 5);
	sl_targets targets = {.labels = labels ? classes : NULL, .dense = labels ? NULL : &T};
	sl_loss_result result, up, down;
	CHECK_OK(context, sl_loss_evaluate(context, loss, &O, &targets, &G, &result));
	for (int i = 0; i < 30; i++) {
		double keep = outputs[i], h = 1e-5;
		outputs[i] = keep + h;
		CHECK_OK(context, sl_loss_evaluate(context, loss, &O, &targets, NULL, &up));
		outputs[i] = keep - h;
		CHECK_OK(context, sl_loss_evaluate(context, loss, &O, &targets, NULL, &down));
		outputs[i] = keep;
		CHECK_NEAR(gradient[i], (up.loss - down.loss) / (2 * h), 1e-8);
	}
	if (labels) {
		classes[3] = 5;
		CHECK_STATUS(context, sl_loss_evaluate(context, loss, &O, &targets, NULL, &up), SL_ERR_ARGUMENT, "labels[3]");
	}
	sl_context_destroy(context);
}

SL_TEST(layers, losses) {
	check_loss(SL_SOFTMAX_CROSS_ENTROPY, true);
	check_loss(SL_SOFTMAX_CROSS_ENTROPY, false);
	check_loss(SL_BINARY_CROSS_ENTROPY, false);
	check_loss(SL_MEAN_SQUARED_ERROR, false);
}

SL_TEST(layers, saved_misuse) {
	sl_context *context = sl_test_context();
	sl_layer *layer = make(context, SL_RELU, false, SL_F32), *other = make(context, SL_RELU, false, SL_F32);
	float x[BATCH * IN], y[BATCH * OUT];
	sl_test_fill(x, SL_F32, BATCH * IN, 3);
	sl_dense X = sl_dense_view(x, SL_F32, BATCH, IN), Y = sl_dense_view(y, SL_F32, BATCH, OUT);
	sl_saved *saved = NULL;
	CHECK_OK(context, sl_saved_create(&saved, context, layer, BATCH));
	CHECK_STATUS(context, sl_layer_backward(context, layer, saved, &Y, NULL, SL_OVERWRITE), SL_ERR_STATE, "no forward");
	CHECK_OK(context, sl_layer_forward(context, layer, &X, &Y, saved));
	CHECK_STATUS(context, sl_layer_backward(context, other, saved, &Y, NULL, SL_OVERWRITE), SL_ERR_STATE,
				 "another layer");
	sl_dense bad = sl_dense_view(x, SL_F32, BATCH, IN - 1);
	CHECK_STATUS(context, sl_layer_forward(context, layer, &bad, &Y, NULL), SL_ERR_SHAPE, "X has 18 columns");
	CHECK_STATUS(context, sl_layer_forward(context, layer, NULL, &Y, NULL), SL_ERR_NULL, "X is null");
	sl_saved_destroy(saved);
	sl_layer_destroy(layer);
	sl_layer_destroy(other);
	sl_context_destroy(context);
}

static void step(sl_context *context, sl_layer *layer, sl_saved *saved, const float *x, sl_order order, float *y,
				 float *dx) {
	sl_dense X = sl_dense_view(x, SL_F32, BATCH, IN), Y = sl_dense_view(y, SL_F32, BATCH, OUT);
	sl_dense DX = sl_dense_view(dx, SL_F32, BATCH, IN);
	float stored[32 * IN];
	sl_dense other = sl_dense_view(stored, SL_F32, BATCH, IN);
	if (order != SL_ROW_MAJOR) {
		other.order = order;
		other.ld = order == SL_COL_MAJOR ? BATCH : 16;
		CHECK_OK(context, sl_dense_copy(context, &X, &other));
		X = other;
	}
	CHECK_OK(context, sl_layer_forward(context, layer, &X, &Y, saved));
	CHECK_OK(context, sl_layer_backward(context, layer, saved, &Y, &DX, SL_OVERWRITE));
}

SL_TEST(layers, orders_and_threads_same_bits) {
	float x[BATCH * IN], y[4][BATCH * OUT], dx[4][BATCH * IN];
	sl_test_fill(x, SL_F32, BATCH * IN, 3);
	const sl_order orders[] = {SL_ROW_MAJOR, SL_COL_MAJOR, SL_ROW_PANELS, SL_ROW_MAJOR};
	for (int i = 0; i < 4; i++) {
		sl_context *context = NULL;
		CHECK_OK(NULL, sl_context_create(&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU,
																		 .threads = i == 3 ? 1 : 2, .seed = 1}));
		sl_layer *layer = make(context, SL_TANH, false, SL_F32);
		sl_saved *saved = NULL;
		CHECK_OK(context, sl_saved_create(&saved, context, layer, BATCH));
		step(context, layer, saved, x, orders[i], y[i], dx[i]);
		CHECK(!memcmp(y[0], y[i], sizeof y[0]));
		CHECK(!memcmp(dx[0], dx[i], sizeof dx[0]));
		sl_saved_destroy(saved);
		sl_layer_destroy(layer);
		sl_context_destroy(context);
	}
}

SL_TEST(layers, no_allocation_after_prepare) {
	for (int activation = SL_IDENTITY; activation <= SL_GELU; activation++) {
		for (int dense = 0; dense < 2; dense++) {
			sl_context *context = sl_test_context();
			sl_layer *layer = make(context, (sl_activation)activation, dense, SL_F32);
			sl_saved *saved = NULL;
			CHECK_OK(context, sl_layer_prepare(context, layer, BATCH, SL_MODE_TRAINING));
			CHECK_OK(context, sl_saved_create(&saved, context, layer, BATCH));
			float x[BATCH * IN], y[BATCH * OUT], dx[BATCH * IN];
			sl_test_fill(x, SL_F32, BATCH * IN, 3);
			sl_memory_usage before = {.struct_size = sizeof before}, after = before;
			CHECK_OK(context, sl_context_memory(context, &before));
			step(context, layer, saved, x, SL_ROW_MAJOR, y, dx);
			sl_dense X = sl_dense_view(x, SL_F32, BATCH - 6, IN), Y = sl_dense_view(y, SL_F32, BATCH - 6, OUT);
			CHECK_OK(context, sl_layer_forward(context, layer, &X, &Y, saved));
			CHECK_OK(context, sl_layer_backward(context, layer, saved, &Y, NULL, SL_ACCUMULATE));
			CHECK_OK(context, sl_layer_forward(context, layer, &X, &Y, NULL));
			CHECK_OK(context, sl_context_memory(context, &after));
			CHECK_EQ(after.allocations, before.allocations);
			sl_saved_destroy(saved);
			sl_layer_destroy(layer);
			sl_context_destroy(context);
		}
	}
}

typedef struct share {
	sl_layer *layer;
	const float *x;
	float y[BATCH * OUT];
	sl_status status;
} share;

static void *run_shared(void *argument) {
	share *s = argument;
	sl_context *context = NULL;
	s->status = sl_context_create(
		&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = 2, .seed = 1});
	sl_dense X = sl_dense_view(s->x, SL_F32, BATCH, IN), Y = sl_dense_view(s->y, SL_F32, BATCH, OUT);
	for (int i = 0; i < 50 && s->status == SL_OK; i++)
		s->status = sl_layer_forward(context, s->layer, &X, &Y, NULL);
	sl_context_destroy(context);
	return NULL;
}

SL_TEST(layers, shared_by_two_contexts) {
	sl_context *context = sl_test_context();
	float x[BATCH * IN];
	sl_test_fill(x, SL_F32, BATCH * IN, 3);
	share shares[2] = {{.x = x}, {.x = x}};
	shares[0].layer = shares[1].layer = make(context, SL_SIGMOID, false, SL_F32);
	CHECK_OK(context, sl_layer_prepare(context, shares[0].layer, BATCH, SL_MODE_INFERENCE));
	pthread_t thread;
	CHECK(!pthread_create(&thread, NULL, run_shared, &shares[1]));
	run_shared(&shares[0]);
	pthread_join(thread, NULL);
	CHECK_EQ(shares[0].status, SL_OK);
	CHECK_EQ(shares[1].status, SL_OK);
	CHECK(!memcmp(shares[0].y, shares[1].y, sizeof shares[0].y));
	sl_layer_destroy(shares[0].layer);
	sl_context_destroy(context);
}
