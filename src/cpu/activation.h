/* SPDX-License-Identifier: Apache-2.0 */
/* Activations and their derivatives, element by element. */
#ifndef SL_CPU_ACTIVATION_H
#define SL_CPU_ACTIVATION_H

#include <math.h>
#include <sparselayer/ops.h>

#define SL_ACTIVATION_FUNCTIONS(T, suffix, EXP, TANH, ERF)                                                             \
	static inline T sli_act_##suffix(sl_activation kind, T p, T x) {                                                   \
		switch (kind) {                                                                                                \
		case SL_RELU:                                                                                                  \
			return x < 0 ? (T)0 : x; /* NaN stays */                                                                   \
		case SL_CLIPPED_RELU:                                                                                          \
			return x < 0 ? (T)0 : x > p ? p : x;                                                                       \
		case SL_LEAKY_RELU:                                                                                            \
			return x < 0 ? p * x : x;                                                                                  \
		case SL_SIGMOID:                                                                                               \
			return x >= 0 ? 1 / (1 + EXP(-x)) : EXP(x) / (1 + EXP(x));                                                 \
		case SL_TANH:                                                                                                  \
			return TANH(x);                                                                                            \
		case SL_GELU:                                                                                                  \
			return x * (T)0.5 * (1 + ERF(x * (T)0.70710678118654752440));                                              \
		case SL_IDENTITY:                                                                                              \
			break;                                                                                                     \
		}                                                                                                              \
		return x;                                                                                                      \
	}                                                                                                                  \
	/* `s`: the output; for GELU the input. */                                                                         \
	static inline T sli_act_grad_##suffix(sl_activation kind, T p, T s) {                                              \
		switch (kind) {                                                                                                \
		case SL_RELU:                                                                                                  \
			return s > 0 ? (T)1 : (T)0;                                                                                \
		case SL_CLIPPED_RELU:                                                                                          \
			return s > 0 && s < p ? (T)1 : (T)0;                                                                       \
		case SL_LEAKY_RELU: /* with p < 0 the output is positive on both sides */                                      \
			return s > 0 || p < 0 ? (T)1 : p;                                                                          \
		case SL_SIGMOID:                                                                                               \
			return s * (1 - s);                                                                                        \
		case SL_TANH:                                                                                                  \
			return 1 - s * s;                                                                                          \
		case SL_GELU:                                                                                                  \
			return (T)0.5 * (1 + ERF(s * (T)0.70710678118654752440)) +                                                 \
			       s * EXP(-s * s / 2) * (T)0.39894228040143267794;                                                    \
		case SL_IDENTITY:                                                                                              \
			break;                                                                                                     \
		}                                                                                                              \
		return 1;                                                                                                      \
	}
SL_ACTIVATION_FUNCTIONS(float, f32, expf, tanhf, erff)
SL_ACTIVATION_FUNCTIONS(double, f64, exp, tanh, erf)

#endif
