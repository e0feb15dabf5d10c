/* SPDX-License-Identifier: Apache-2.0 */
#define NAME(function) function##_f32_avx2
#include "cpu/vector_math.inc"
