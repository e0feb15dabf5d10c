/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums of arrays that are read and written from front to back: one for each segment of so many bytes. They are
 * XXH3's (libxxhash), 64 bits. */
#ifndef SL_STREAM_SUMS_H
#define SL_STREAM_SUMS_H

#define XXH_INLINE_ALL /* the state's layout is that of the header we were compiled with */
#include <xxhash.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sl_sums {
	uint64_t *sum;
	int64_t count;
	int64_t segment; /* bytes */
} sl_sums;

/* One array on its way. */
typedef struct sl_sum_run {
	XXH3_state_t state;
	int64_t at, total; /* bytes */
} sl_sum_run;

static inline int64_t sli_sums_of(int64_t bytes, int64_t segment) {
	return bytes / segment + (bytes % segment != 0);
}
void sli_sum_begin(sl_sum_run *run, int64_t total);
/* Keep the sums of what passes. */
void sli_sum_keep(sl_sum_run *run, sl_sums *sums, int64_t first, const void *data, size_t bytes);
/* Compare them: the first byte of the segment that differs, or -1. */
int64_t sli_sum_check(sl_sum_run *run, const sl_sums *sums, int64_t first, const void *data, size_t bytes);

#endif
