/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/cpu.h"

#define T        float
#define ACC      float
#define LOAD(v)  (v)
#define STORE(v) (v)
#define NAME     f32_scalar
#include "cpu/products_scalar.inc"

#define T        double
#define ACC      double
#define LOAD(v)  (v)
#define STORE(v) (v)
#define NAME     f64_scalar
#include "cpu/products_scalar.inc"

#define HALF
#define T        uint16_t
#define ACC      float
#define LOAD(v)  sli_bf16_to_f32(v)
#define STORE(v) sli_f32_to_bf16(v)
#define NAME     bf16_scalar
#include "cpu/products_scalar.inc"

#define T        uint16_t
#define ACC      float
#define LOAD(v)  sli_f16_to_f32(v)
#define STORE(v) sli_f32_to_f16(v)
#define NAME     f16_scalar
#include "cpu/products_scalar.inc"
