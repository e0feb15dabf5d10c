/* SPDX-License-Identifier: Apache-2.0 */
/*
 * graph-challenge [NEURONS LAYERS INPUTS [BATCH [cpu|cuda]]]: edges a second, with and without taking dead inputs out,
 * beside the mean share of inputs that live. Sees the inside, as it runs through the seam.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "challenge.h"
#include "core/context.h"

static void need(bool ok, const char *why) {
	if (ok)
		return;
	fprintf(stderr, "graph-challenge: %s\n", why);
	exit(1);
}

static void report(const challenge *net, const char *what, double number) {
	printf("RESULT graph_challenge.%lldx%lld.%s %.6g\n", (long long)net->neurons, (long long)net->layers, what, number);
}

int main(int argc, char **argv) {
	int64_t neurons = argc > 1 ? atoll(argv[1]) : 1024, layers = argc > 2 ? atoll(argv[2]) : 120;
	int64_t inputs = argc > 3 ? atoll(argv[3]) : 1000, batch = argc > 4 ? atoll(argv[4]) : 256;
	char error[512] = "";
	sl_context_options options;
	sl_context *context = NULL;
	challenge net;
	challenge_result whole, compacted;
	SL_OPTIONS_INIT(options);
	options.device = argc > 5 && !strcmp(argv[5], "cuda") ? SL_DEVICE_CUDA : SL_DEVICE_CPU;
	options.error = error;
	options.error_size = sizeof error;
	need(sl_context_create(&context, &options) == SL_OK, error);
	need(challenge_make(&net, neurons, layers), "no network of so many neurons with 32 connections each, or no memory");
	float *pictures = challenge_inputs(NULL, neurons, inputs, error, sizeof error);
	need(pictures != NULL, error);
	printf("# %s; %lld neurons, %lld layers (%d patterns), %lld inputs, %lld at a time\n", sl_context_describe(context),
		   (long long)neurons, (long long)layers, net.period, (long long)inputs, (long long)batch);
	const sl_device_state *state = sli_device(context);
	need(challenge_run(&net, state->backend, state->device, NULL, pictures, inputs, batch, 0, NULL, &whole) == SL_OK &&
			 challenge_run(&net, state->backend, state->device, NULL, pictures, inputs, batch, 4, NULL, &compacted) ==
				 SL_OK,
		 sl_context_message(context));
	need(whole.positive == compacted.positive, "compaction changed the categories");
	report(&net, "teraedges", whole.edges / whole.seconds * 1e-12);
	report(&net, "compacted_teraedges", compacted.edges / compacted.seconds * 1e-12);
	report(&net, "live_share", compacted.live);
	report(&net, "categories", (double)whole.positive);
	free(pictures);
	challenge_free(&net);
	sl_context_destroy(context);
	return 0;
}
