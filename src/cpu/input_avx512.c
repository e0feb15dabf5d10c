/* SPDX-License-Identifier: Apache-2.0 */
#define SL_INPUT(name) sli_##name##_avx512
#include "cpu/input.inc"
