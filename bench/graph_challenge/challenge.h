/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Sparse DNN Graph Challenge (graphchallenge.mit.edu): a deep network of sparse layers, inference alone. Networks
 * are made by RadiX-Net's construction (Robinett and Kepner, arXiv 1905.00416), inputs are pictures of a real data set,
 * scaled to as many pixels as there are neurons and made black and white. Through the backends' seam, so that the same
 * code runs on the CPU, on the fake GPU and, without the library, on a real one.
 */
#ifndef SL_BENCH_CHALLENGE_H
#define SL_BENCH_CHALLENGE_H

#include "backend/backend.h"

enum { CHALLENGE_DEGREE = 32, CHALLENGE_PERIOD = 16 };

/* Layers repeat with the construction's period: as many patterns as the numeral system has digits. */
typedef struct challenge {
	int64_t neurons, layers;
	int period;
	float bias;
	int32_t *offsets[CHALLENGE_PERIOD], *columns[CHALLENGE_PERIOD];
	float *values; /* all 1/16 */
} challenge;

/* False: no numeral system gives every neuron 32 connections, or there is no memory. */
bool challenge_make(challenge *net, int64_t neurons, int64_t layers);
void challenge_free(challenge *net);

/* `count` pictures as rows of `neurons` numbers, 0 or 1; begun anew where the data set has fewer. `folder` NULL: where
 * Debian's package dataset-fashion-mnist puts it. NULL: `why` says so. */
float *challenge_inputs(const char *folder, int64_t neurons, int64_t count, char *why, size_t size);

/* What a run came to. */
typedef struct challenge_result {
	double seconds;   /* of the layers, and with compaction of that; inputs are in the device's memory before */
	double live;      /* mean share of inputs that are not dead yet, over the layers */
	int64_t positive; /* inputs with a nonzero output: the challenge's categories */
	double edges;     /* of the network times inputs, dead ones included */
} challenge_result;

/* Run `count` inputs, `batch` at a time. `candidate` (NULL: the backend's first) is how products run. `every` layers
 * (0: never) columns of zeros are taken out. `outputs` (may be NULL) receives rows of `neurons`. */
sl_status challenge_run(const challenge *net, const sl_backend *backend, void *device, const char *candidate,
						const float *inputs, int64_t count, int64_t batch, int64_t every, float *outputs,
						challenge_result *result);

/* One input in double, in place; `scratch` holds as many numbers. */
void challenge_reference(const challenge *net, double *values, double *scratch);

#endif
