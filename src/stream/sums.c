/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/sums.h"

void sli_sum_begin(sl_sum_run *run, int64_t total) {
	XXH3_64bits_reset(&run->state);
	run->at = 0;
	run->total = total;
}

/* Feed up to the end of a segment. True: the segment is whole, *number is which and *sum its sum. */
static bool feed(sl_sum_run *run, int64_t segment, const char **data, size_t *bytes, int64_t *number, uint64_t *sum) {
	int64_t room = segment - run->at % segment;
	size_t n = (int64_t)*bytes < room ? *bytes : (size_t)room;
	XXH3_64bits_update(&run->state, *data, n);
	*number = run->at / segment;
	run->at += (int64_t)n;
	*data += n;
	*bytes -= n;
	if (run->at % segment && run->at != run->total)
		return false;
	*sum = XXH3_64bits_digest(&run->state);
	XXH3_64bits_reset(&run->state);
	return true;
}

void sli_sum_keep(sl_sum_run *run, sl_sums *sums, int64_t first, const void *data, size_t bytes) {
	const char *at = data;
	int64_t number;
	uint64_t sum;
	while (bytes)
		if (feed(run, sums->segment, &at, &bytes, &number, &sum))
			sums->sum[first + number] = sum;
}

int64_t sli_sum_check(sl_sum_run *run, const sl_sums *sums, int64_t first, const void *data, size_t bytes) {
	const char *at = data;
	int64_t number;
	uint64_t sum;
	while (bytes)
		if (feed(run, sums->segment, &at, &bytes, &number, &sum) && sums->sum[first + number] != sum)
			return number * sums->segment;
	return -1;
}
