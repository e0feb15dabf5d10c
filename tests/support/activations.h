/* SPDX-License-Identifier: Apache-2.0 */
/* Activations and their derivatives in double, `p` being the clip or the leak. */
#ifndef SL_TEST_ACTIVATIONS_H
#define SL_TEST_ACTIVATIONS_H

#include <math.h>
#include <sparselayer/sparselayer.h>

static inline double sl_test_activate(int activation, double p, double x) {
	switch (activation) {
	case SL_RELU:
		return x > 0 ? x : 0;
	case SL_CLIPPED_RELU:
		return x > p ? p : x > 0 ? x : 0;
	case SL_LEAKY_RELU:
		return x > 0 ? x : p * x;
	case SL_SIGMOID:
		return 1 / (1 + exp(-x));
	case SL_TANH:
		return tanh(x);
	case SL_GELU:
		return 0.5 * x * erfc(-x * sqrt(0.5));
	default:
		return x;
	}
}

/* The derivative from what is saved: the output, or GELU's input. */
static inline double sl_test_slope(int activation, double p, double s) {
	switch (activation) {
	case SL_RELU:
		return s > 0;
	case SL_CLIPPED_RELU:
		return s > 0 && s < p;
	case SL_LEAKY_RELU:
		return s > 0 ? 1 : p;
	case SL_SIGMOID:
		return s * (1 - s);
	case SL_TANH:
		return 1 - s * s;
	case SL_GELU:
		return 0.5 * erfc(-s * sqrt(0.5)) + s * exp(-s * s / 2) / sqrt(2 * 3.14159265358979323846);
	default:
		return 1;
	}
}

#endif
