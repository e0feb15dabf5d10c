/* SPDX-License-Identifier: Apache-2.0 */
#define NAME(function) function##_f32_avx512
#include "cpu/vector_math.inc"
