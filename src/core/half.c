/* SPDX-License-Identifier: Apache-2.0 */
#include "core/half.h"

#include <string.h>

static uint32_t bits_of(float value) {
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	return bits;
}

static float float_of(uint32_t bits) {
	float value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

float sli_bf16_to_f32(uint16_t bits) {
	return float_of((uint32_t)bits << 16);
}

uint16_t sli_f32_to_bf16(float value) {
	uint32_t bits = bits_of(value);
	if ((bits & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t)(bits >> 16 | 0x40u); /* a NaN stays one */
	return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

float sli_f16_to_f32(uint16_t half) {
	uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = half >> 10 & 0x1fu, fraction = half & 0x3ffu;
	if (exponent == 31)
		return float_of(sign | 0x7f800000u | fraction << 13);
	if (exponent)
		return float_of(sign | (exponent + 112) << 23 | fraction << 13);
	float magnitude = (float)fraction * 0x1p-24f;
	return sign ? -magnitude : magnitude;
}

uint16_t sli_f32_to_f16(float value) {
	uint32_t bits = bits_of(value);
	uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
	uint32_t magnitude = bits & 0x7fffffffu;
	if (magnitude > 0x7f800000u)
		return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
	if (magnitude >= 0x477ff000u) /* rounds to 65536 or more */
		return (uint16_t)(sign | 0x7c00u);
	if (magnitude < 0x38800000u) { /* below 2^-14: adding 0.5 lets the FPU round at 2^-24 */
		float shifted = float_of(magnitude) + 0.5f;
		return (uint16_t)(sign | (bits_of(shifted) - 0x3f000000u));
	}
	uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
	return (uint16_t)(sign | (rounded - 0x38000000u) >> 13);
}

/* To float32 with an odd last bit where inexact, so that rounding on to 16 bits rounds only once. */
static float to_odd(double value) {
	float near = (float)value;
	uint32_t bits = bits_of(near);
	if (near == value || value != value || bits & 1u)
		return near;
	double magnitude = value < 0 ? -value : value;
	return float_of(float_of(bits & 0x7fffffffu) > magnitude ? bits - 1 : bits + 1);
}

double sli_load(const void *data, sl_dtype dtype, int64_t index) {
	switch (dtype) {
	case SL_F32:
		return ((const float *)data)[index];
	case SL_F64:
		return ((const double *)data)[index];
	case SL_BF16:
		return sli_bf16_to_f32(((const uint16_t *)data)[index]);
	case SL_F16:
		return sli_f16_to_f32(((const uint16_t *)data)[index]);
	default:
		return 0;
	}
}

void sli_store(void *data, sl_dtype dtype, int64_t index, double value) {
	switch (dtype) {
	case SL_F32:
		((float *)data)[index] = (float)value;
		break;
	case SL_F64:
		((double *)data)[index] = value;
		break;
	case SL_BF16:
		((uint16_t *)data)[index] = sli_f32_to_bf16(to_odd(value));
		break;
	case SL_F16:
		((uint16_t *)data)[index] = sli_f32_to_f16(to_odd(value));
		break;
	default:
		break;
	}
}
