/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SL_SPARSE_DENSITY_H
#define SL_SPARSE_DENSITY_H

#include "sparse/sparse.h"

void sli_density_distribute(sl_distribution distribution, double density, int count, const int64_t (*shapes)[2],
							const int64_t (*kernels)[2], double *densities);

#endif
