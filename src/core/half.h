/* SPDX-License-Identifier: Apache-2.0 */
/* bfloat16 and IEEE binary16 storage, rounded to nearest even; portable C. */
#ifndef SL_CORE_HALF_H
#define SL_CORE_HALF_H

#include <stdint.h>
#include <sparselayer/base.h>

float sli_bf16_to_f32(uint16_t bits);
uint16_t sli_f32_to_bf16(float value);
float sli_f16_to_f32(uint16_t bits);
uint16_t sli_f32_to_f16(float value);
/* One element of any value dtype, through double. */
double sli_load(const void *data, sl_dtype dtype, int64_t index);
void sli_store(void *data, sl_dtype dtype, int64_t index, double value);

#endif
