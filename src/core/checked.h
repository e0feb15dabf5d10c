/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic on sizes that cannot wrap unseen. */
#ifndef SL_CORE_CHECKED_H
#define SL_CORE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each returns false when the result does not fit (or an input is negative), leaving *out alone. */
static inline bool sli_add(int64_t a, int64_t b, int64_t *out) {
	int64_t r;
	if (a < 0 || b < 0 || __builtin_add_overflow(a, b, &r))
		return false;
	*out = r;
	return true;
}
static inline bool sli_mul(int64_t a, int64_t b, int64_t *out) {
	int64_t r;
	if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &r))
		return false;
	*out = r;
	return true;
}
/* count elements of `size` bytes; at most PTRDIFF_MAX. */
static inline bool sli_bytes(int64_t count, size_t size, size_t *out) {
	int64_t r;
	if (size > PTRDIFF_MAX || !sli_mul(count, (int64_t)size, &r))
		return false;
	*out = (size_t)r;
	return true;
}
static inline int64_t sli_ceil_div(int64_t a, int64_t b) {
	return a / b + (a % b != 0);
}

#endif
