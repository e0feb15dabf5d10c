/* SPDX-License-Identifier: Apache-2.0 */
/* One density over several layers. */
#include "sparse/density.h"

static double weights(const int64_t shape[2], const int64_t kernel[2]) {
	return (double)shape[0] * (double)shape[1] * (kernel ? (double)kernel[0] * (double)kernel[1] : 1);
}

static const int64_t *kernel_of(const int64_t (*kernels)[2], int i) {
	return kernels && kernels[i][0] && kernels[i][1] ? kernels[i] : NULL;
}

/* What a layer's density is proportional to. */
static double share(sl_distribution distribution, const int64_t shape[2], const int64_t kernel[2]) {
	double size = weights(shape, kernel), sides = (double)shape[0] + (double)shape[1];
	if (distribution == SL_UNIFORM || !(size > 0))
		return 1;
	if (distribution == SL_ERDOS_RENYI || !kernel)
		return sides / ((double)shape[0] * (double)shape[1]);
	return (sides + (double)kernel[0] + (double)kernel[1]) / size;
}

void sli_density_distribute(sl_distribution distribution, double density, int count, const int64_t (*shapes)[2],
							const int64_t (*kernels)[2], double *densities) {
	double all = 0;
	for (int i = 0; i < count; i++) {
		all += weights(shapes[i], kernel_of(kernels, i));
		densities[i] = -1;
	}
	/* Each round fixes the layers that would exceed 1, so there are at most `count` + 1. */
	for (bool again = true; again;) {
		double left = density * all, parts = 0;
		again = false;
		for (int i = 0; i < count; i++) {
			double size = weights(shapes[i], kernel_of(kernels, i));
			if (densities[i] == 1)
				left -= size;
			else
				parts += share(distribution, shapes[i], kernel_of(kernels, i)) * size;
		}
		double scale = parts > 0 && left > 0 ? left / parts : 0;
		for (int i = 0; i < count; i++) {
			if (densities[i] == 1)
				continue;
			densities[i] = scale * share(distribution, shapes[i], kernel_of(kernels, i));
			if (densities[i] >= 1) {
				again = densities[i] > 1 || again;
				densities[i] = 1;
			}
		}
	}
}
