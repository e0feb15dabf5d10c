/* SPDX-License-Identifier: Apache-2.0 */
#define SL_UPDATE(dtype) sli_update_##dtype##_scalar
#include "cpu/update.inc"
