/* SPDX-License-Identifier: Apache-2.0 */
/* The k-th largest of an array. */
#include "core/rng.h"
#include "sparse/sparse.h"

double sli_nth_largest(double *keys, int64_t count, int64_t k) {
	int64_t low = 0, high = count - 1;
	sl_rng rng = sli_rng(0, 0); /* for pivots: the result does not depend on it */
	while (low < high) {
		double pivot = keys[low + (int64_t)sli_rng_below(&rng, (uint64_t)(high - low + 1))];
		int64_t i = low, j = high;
		while (i <= j) {
			while (keys[i] > pivot)
				i++;
			while (keys[j] < pivot)
				j--;
			if (i <= j) {
				double other = keys[i];
				keys[i++] = keys[j];
				keys[j--] = other;
			}
		}
		if (k <= j)
			high = j;
		else if (k >= i)
			low = i;
		else
			return pivot;
	}
	return keys[low];
}
