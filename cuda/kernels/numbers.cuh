/* SPDX-License-Identifier: Apache-2.0 */
/* The types of elements, their conversions (rounded once, to nearest even), and activations. */
#ifndef SL_CUDA_KERNELS_NUMBERS_CUH
#define SL_CUDA_KERNELS_NUMBERS_CUH

#include <math.h>

#include "device.cuh"

struct sl_bf16 {
	unsigned short bits;
};
struct sl_f16 {
	unsigned short bits;
};
/* What elements of a type are summed in. */
template <class T> struct sl_wide { typedef float type; };
template <> struct sl_wide<double> { typedef double type; };

SL_DEVICE unsigned sl_bits(float x) {
	union {
		float f;
		unsigned u;
	} both;
	both.f = x;
	return both.u;
}
SL_DEVICE float sl_float_of(unsigned bits) {
	union {
		float f;
		unsigned u;
	} both;
	both.u = bits;
	return both.f;
}

SL_DEVICE float sl_widen(float x) {
	return x;
}
SL_DEVICE double sl_widen(double x) {
	return x;
}
SL_DEVICE float sl_widen(sl_bf16 x) {
	return sl_float_of((unsigned)x.bits << 16);
}
SL_DEVICE float sl_widen(sl_f16 x) {
#ifdef __CUDACC__
	return __half2float(__ushort_as_half(x.bits));
#else
	unsigned sign = (unsigned)(x.bits & 0x8000u) << 16, exponent = x.bits >> 10 & 31u, fraction = x.bits & 0x3ffu;
	if (exponent == 31)
		return sl_float_of(sign | 0x7f800000u | fraction << 13);
	if (exponent)
		return sl_float_of(sign | (exponent + 112) << 23 | fraction << 13);
	float magnitude = (float)fraction * 0x1p-24f;
	return sign ? -magnitude : magnitude;
#endif
}

template <class T> struct sl_narrow;
template <> struct sl_narrow<float> {
	SL_DEVICE_MEMBER float of(float x) {
		return x;
	}
	SL_DEVICE_MEMBER float of(double x) {
		return (float)x;
	}
};
template <> struct sl_narrow<double> {
	SL_DEVICE_MEMBER double of(double x) {
		return x;
	}
};
/* To float with an odd last bit where inexact, so that rounding on to 16 bits rounds only once. */
SL_DEVICE float sl_to_odd(double value) {
	float near = (float)value;
	unsigned bits = sl_bits(near);
	if ((double)near == value || value != value || (bits & 1u))
		return near;
	double magnitude = value < 0 ? -value : value;
	return sl_float_of((double)sl_float_of(bits & 0x7fffffffu) > magnitude ? bits - 1 : bits + 1);
}
template <> struct sl_narrow<sl_bf16> {
	SL_DEVICE_MEMBER sl_bf16 of(float x) {
		unsigned bits = sl_bits(x);
		unsigned rounded =
			(bits & 0x7fffffffu) > 0x7f800000u ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
		sl_bf16 out = {(unsigned short)rounded};
		return out;
	}
	SL_DEVICE_MEMBER sl_bf16 of(double x) {
		return of(sl_to_odd(x));
	}
};
template <> struct sl_narrow<sl_f16> {
	SL_DEVICE_MEMBER sl_f16 of(float x) {
#ifdef __CUDACC__
		sl_f16 out = {__half_as_ushort(__float2half_rn(x))};
#else
		unsigned bits = sl_bits(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu, rounded;
		if (magnitude > 0x7f800000u)
			rounded = 0x7fffu;
		else if (magnitude >= 0x477ff000u)
			rounded = 0x7c00u;
		else if (magnitude < 0x38800000u)
			rounded = sl_bits(sl_float_of(magnitude) + 0.5f) - 0x3f000000u;
		else
			rounded = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
		sl_f16 out = {(unsigned short)(sign | rounded)};
#endif
		return out;
	}
	SL_DEVICE_MEMBER sl_f16 of(double x) {
		return of(sl_to_odd(x));
	}
};

SL_DEVICE float sl_exp(float x) {
	return expf(x);
}
SL_DEVICE double sl_exp(double x) {
	return exp(x);
}
SL_DEVICE float sl_tanh(float x) {
	return tanhf(x);
}
SL_DEVICE double sl_tanh(double x) {
	return tanh(x);
}
SL_DEVICE float sl_erfc(float x) {
	return erfcf(x);
}
SL_DEVICE double sl_erfc(double x) {
	return erfc(x);
}
SL_DEVICE float sl_sqrt(float x) {
	return sqrtf(x);
}
SL_DEVICE double sl_sqrt(double x) {
	return sqrt(x);
}

/* An sl_activation; NaN stays. A is float or double. */
template <class A> SL_DEVICE A sl_activate_one(int kind, A p, A x) {
	switch (kind) {
	case SL_RELU:
		return x < 0 ? (A)0 : x;
	case SL_CLIPPED_RELU:
		return x < 0 ? (A)0 : x > p ? p : x;
	case SL_LEAKY_RELU:
		return x < 0 ? p * x : x;
	case SL_SIGMOID: {
		A e = sl_exp(x < 0 ? x : -x);
		return (x < 0 ? e : (A)1) / (1 + e);
	}
	case SL_TANH:
		return sl_tanh(x);
	case SL_GELU: /* -infinity times 0 is 0 */
		return x < (A)-40 ? (A)-0.0 : x * ((A)0.5 * sl_erfc(x * (A)-0.70710678118654752440));
	default:
		return x;
	}
}

/* dY times the derivative; `s`: the output, for GELU the input. What ReLU held back takes nothing. */
template <class A> SL_DEVICE A sl_activate_back_one(int kind, A p, A s, A dy) {
	switch (kind) {
	case SL_RELU:
		return s > 0 ? dy : s <= 0 ? (A)0 : s;
	case SL_CLIPPED_RELU:
		return s > 0 && s < p ? dy : s <= 0 || s >= p ? (A)0 : s;
	case SL_LEAKY_RELU:
		return s > 0 ? dy : s <= 0 ? p * dy : s;
	case SL_SIGMOID:
		return dy * (s * (1 - s));
	case SL_TANH:
		return dy * (1 - s * s);
	case SL_GELU: {
		A inside = s > 40 ? (A)40 : s < -40 ? (A)-40 : s; /* infinity times 0 is not wanted */
		return dy * ((A)0.5 * sl_erfc(s * (A)-0.70710678118654752440) +
					 inside * sl_exp(inside * inside * (A)-0.5) * (A)0.39894228040143267794);
	}
	default:
		return dy;
	}
}

/* Call MACRO(type) for a dtype; `otherwise` for one that is none. */
#define SL_BY_DTYPE(dtype, MACRO, otherwise)                                                                           \
	switch (dtype) {                                                                                                   \
	case SL_F32:                                                                                                       \
		MACRO(float);                                                                                                  \
		break;                                                                                                         \
	case SL_F64:                                                                                                       \
		MACRO(double);                                                                                                 \
		break;                                                                                                         \
	case SL_BF16:                                                                                                      \
		MACRO(sl_bf16);                                                                                                \
		break;                                                                                                         \
	case SL_F16:                                                                                                       \
		MACRO(sl_f16);                                                                                                 \
		break;                                                                                                         \
	default:                                                                                                           \
		otherwise;                                                                                                     \
	}

#endif
