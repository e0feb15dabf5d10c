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
	/* dY times the derivative. `s`: the output; for GELU the input. What ReLU held back takes nothing, */             \
	/* not even from an infinite dY; a NaN in `s` stays one. */                                                        \
	static inline T sli_act_back_##suffix(sl_activation kind, T p, T s, T dy) {                                        \
		switch (kind) {                                                                                                \
		case SL_RELU:                                                                                                  \
			return s > 0 ? dy : s <= 0 ? (T)0 : s;                                                                     \
		case SL_CLIPPED_RELU:                                                                                          \
			return s > 0 && s < p ? dy : s <= 0 || s >= p ? (T)0 : s;                                                  \
		case SL_LEAKY_RELU:                                                                                            \
			return s > 0 ? dy : s <= 0 ? p * dy : s;                                                                   \
		case SL_SIGMOID:                                                                                               \
			return dy * (s * (1 - s));                                                                                 \
		case SL_TANH:                                                                                                  \
			return dy * (1 - s * s);                                                                                   \
		case SL_GELU:                                                                                                  \
			return dy * ((T)0.5 * (1 + ERF(s * (T)0.70710678118654752440)) +                                           \
						 s * EXP(-s * s / 2) * (T)0.39894228040143267794);                                             \
		case SL_IDENTITY:                                                                                              \
			break;                                                                                                     \
		}                                                                                                              \
		return dy;                                                                                                     \
	}
SL_ACTIVATION_FUNCTIONS(float, f32, expf, tanhf, erff)
SL_ACTIVATION_FUNCTIONS(double, f64, exp, tanh, erf)

#endif
