/* SPDX-License-Identifier: Apache-2.0 */
#define SL_SCATTER(dtype) sli_scatter_##dtype##_scalar
#include "cpu/scatter.inc"
