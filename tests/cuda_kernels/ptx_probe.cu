/* SPDX-License-Identifier: Apache-2.0 */
#include "ptx_probe.cuh"
