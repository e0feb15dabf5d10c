/* SPDX-License-Identifier: Apache-2.0 */
/* Partial sorting (Hoare 1961), for a type and an order. */
#ifndef SL_SPARSE_QUICKSELECT_H
#define SL_SPARSE_QUICKSELECT_H

#include <stdint.h>

/* Defines name(items, n, k): what comes before item k, from 0, in the order goes before it. BEFORE(a, b) takes two
 * pointers. */
#define SL_QUICKSELECT(name, type, BEFORE)                                                                             \
	static void name(type *items, int64_t n, int64_t k) {                                                              \
		int64_t low = 0, high = n - 1;                                                                                 \
		while (low < high) {                                                                                           \
			type pivot = items[low + (high - low) / 2];                                                                \
			int64_t i = low, j = high;                                                                                 \
			while (i <= j) {                                                                                           \
				while (BEFORE(&items[i], &pivot))                                                                      \
					i++;                                                                                               \
				while (BEFORE(&pivot, &items[j]))                                                                      \
					j--;                                                                                               \
				if (i <= j) {                                                                                          \
					type other = items[i];                                                                             \
					items[i++] = items[j];                                                                             \
					items[j--] = other;                                                                                \
				}                                                                                                      \
			}                                                                                                          \
			if (k <= j)                                                                                                \
				high = j;                                                                                              \
			else if (k >= i)                                                                                           \
				low = i;                                                                                               \
			else                                                                                                       \
				return;                                                                                                \
		}                                                                                                              \
	}

#endif
