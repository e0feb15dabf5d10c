/* SPDX-License-Identifier: Apache-2.0 */
#define SL_INPUT(name) sli_##name##_scalar
#include "cpu/input.inc"
