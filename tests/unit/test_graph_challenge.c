/* SPDX-License-Identifier: Apache-2.0 */
/* The Graph Challenge's network on the CPU and the (fake) GPU, with and without compaction, against doubles. */
#include "challenge.h"

#include <stdlib.h>

#include "core/context.h"
#include "fake_cuda.h"
#include "support/check.h"

/* Every neuron has 32 connections in and out, and with as many layers as there are digits reaches every other by the
 * same number of paths: RadiX-Net's two promises. */
static void check_structure(int64_t neurons) {
	challenge net;
	CHECK(challenge_make(&net, neurons, 3));
	int64_t *paths = calloc((size_t)neurons, sizeof *paths), *next = calloc((size_t)neurons, sizeof *next);
	int *out = calloc((size_t)neurons, sizeof *out);
	CHECK(paths && next && out);
	paths[neurons / 3] = 1;
	for (int l = 0; l < net.period; l++) {
		memset(out, 0, (size_t)neurons * sizeof *out);
		for (int64_t n = 0; n < neurons; n++) {
			const int32_t *row = net.columns[l] + n * CHALLENGE_DEGREE;
			next[n] = 0;
			for (int k = 0; k < CHALLENGE_DEGREE; k++) {
				CHECK(row[k] >= 0 && row[k] < neurons && (k == 0 || row[k] > row[k - 1]));
				out[row[k]]++;
				next[n] += paths[row[k]];
			}
		}
		for (int64_t n = 0; n < neurons; n++)
			CHECK_EQ(out[n], CHALLENGE_DEGREE);
		memcpy(paths, next, (size_t)neurons * sizeof *paths);
	}
	for (int64_t n = 0; n < neurons; n++)
		CHECK(paths[n] == paths[0] && paths[n] > 0);
	free(paths);
	free(next);
	free(out);
	challenge_free(&net);
}

SL_TEST(graph_challenge, networks_are_radix_nets) {
	check_structure(32);
	check_structure(1024);
	check_structure(4096);
	challenge net;
	CHECK(!challenge_make(&net, 1000, 3));
}

static sl_context *open_on(sl_device device) {
	sl_context *context = NULL;
	sl_context_options options;
	SL_OPTIONS_INIT(options);
	options.device = device;
	options.threads = 2;
	CHECK(sl_context_create(&context, &options) == SL_OK);
	return context;
}

static float *pictures(int64_t neurons, int64_t count) {
	char why[256];
	float *inputs = challenge_inputs(NULL, neurons, count, why, sizeof why);
	if (!inputs)
		sl_test_skip("%s", why);
	return inputs;
}

/* Sums of 32 products of numbers that f32 holds: each layer rounds a few times 2^-24 of 32. */
static void compare(const challenge *net, const float *inputs, const float *outputs, int64_t count, double bound) {
	double *values = malloc((size_t)net->neurons * sizeof *values),
		   *scratch = malloc((size_t)net->neurons * sizeof *scratch);
	CHECK(values && scratch);
	for (int64_t i = 0; i < count; i++) {
		for (int64_t n = 0; n < net->neurons; n++)
			values[n] = inputs[i * net->neurons + n];
		challenge_reference(net, values, scratch);
		for (int64_t n = 0; n < net->neurons; n++)
			CHECK_NEAR(outputs[i * net->neurons + n], values[n], bound);
	}
	free(values);
	free(scratch);
}

SL_TEST(graph_challenge, the_cpu_as_doubles) {
	enum { N = 1024, LAYERS = 120, COUNT = 1000 };
	challenge net;
	challenge_result whole, compacted;
	CHECK(challenge_make(&net, N, LAYERS));
	float *inputs = pictures(N, COUNT), *outputs = malloc((size_t)COUNT * N * sizeof *outputs);
	float *again = malloc((size_t)COUNT * N * sizeof *again);
	CHECK(outputs && again);
	sl_context *context = open_on(SL_DEVICE_CPU);
	const sl_device_state *state = sli_device(context);
	CHECK_OK(context, challenge_run(&net, state->backend, state->device, NULL, inputs, COUNT, 256, 0, outputs, &whole));
	CHECK_OK(context,
			 challenge_run(&net, state->backend, state->device, NULL, inputs, COUNT, 256, 4, again, &compacted));
	CHECK(!memcmp(outputs, again, (size_t)COUNT * N * sizeof *again));
	CHECK_EQ(whole.positive, compacted.positive);
	CHECK(whole.live == 1 && compacted.live > 0 && compacted.live < 1);
	CHECK(whole.edges == 1024.0 * 32 * 120 * 1000);
	/* Not only dead ones. */
	CHECK(whole.positive > 0 && whole.positive < COUNT);
	compare(&net, inputs, outputs, COUNT, 120 * 8 * 32 * 6e-8);
	sl_context_destroy(context);
	free(inputs);
	free(outputs);
	free(again);
	challenge_free(&net);
}

/* The first inputs of the challenge's: on fibers a thousand would take minutes. `whole`: by cuSPARSE too. */
static void check_gpu(int64_t N, int64_t LAYERS, int64_t COUNT, int64_t batch, bool whole) {
	challenge net;
	challenge_result on_cpu, on_gpu;
	float *outputs[3];
	for (int k = 0; k < 3; k++)
		CHECK((outputs[k] = calloc((size_t)(COUNT * N), sizeof **outputs)));
	fake_cuda_discard();
	CHECK(challenge_make(&net, N, LAYERS));
	float *inputs = pictures(N, COUNT);
	sl_context *cpu = open_on(SL_DEVICE_CPU), *gpu = open_on(SL_DEVICE_CUDA);
	const sl_device_state *c = sli_device(cpu), *g = sli_device(gpu);
	CHECK_OK(cpu, challenge_run(&net, c->backend, c->device, NULL, inputs, COUNT, batch, 0, outputs[0], &on_cpu));
	CHECK_OK(gpu, challenge_run(&net, g->backend, g->device, "own", inputs, COUNT, batch, whole ? 3 : 0, outputs[1],
								&on_gpu));
	CHECK_EQ(on_gpu.positive, on_cpu.positive);
	if (whole)
		CHECK_OK(gpu, challenge_run(&net, g->backend, g->device, "cusparse-alg2", inputs, COUNT, batch, 0, outputs[2],
									&on_gpu));
	CHECK_EQ(on_gpu.positive, on_cpu.positive);
	for (int k = 0; k < (whole ? 3 : 2); k++)
		compare(&net, inputs, outputs[k], COUNT, (double)LAYERS * 8 * 32 * 6e-8);
	sl_context_destroy(cpu);
	sl_context_destroy(gpu);
	CHECK(!*fake_cuda_fault());
	CHECK_EQ(fake_cuda_live(), 0);
	free(inputs);
	for (int k = 0; k < 3; k++)
		free(outputs[k]);
	challenge_free(&net);
}

SL_TEST(graph_challenge, the_gpu_as_the_cpu) {
	check_gpu(1024, 12, 20, 8, true);
	check_gpu(1024, 120, 12, 12, false);
	check_gpu(4096, 120, 12, 12, false);
}
