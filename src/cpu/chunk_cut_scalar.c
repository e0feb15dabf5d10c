/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting rows into blocks of columns, on any machine. */
#include "cpu/chunk.h"

__extension__ typedef unsigned __int128 wide_product;

int64_t sli_cut_runs_scalar(const sl_cut_task *t, int32_t from, int32_t to, int32_t *block, int32_t *begin) {
	const uint64_t reciprocal = UINT64_MAX / (uint64_t)t->width + 1; /* exact for 32 bits: Lemire et al. 2019 */
	int64_t n = -1;
	for (int32_t k = from, before = -1; k < to; k++) {
		int32_t now = (int32_t)((wide_product)reciprocal * (uint32_t)t->columns[k] >> 64);
		if (now != before) {
			block[++n] = now;
			begin[n] = k;
			before = now;
		}
	}
	return n + 1;
}

void sli_cut_offsets_scalar(const sl_cut_task *t, int32_t base, const int32_t *columns, int32_t length, void *to) {
	if (t->wide)
		for (int32_t e = 0; e < length; e++)
			((uint32_t *)to)[e] = (uint32_t)((columns[e] - base) * t->stride);
	else
		for (int32_t e = 0; e < length; e++)
			((uint16_t *)to)[e] = (uint16_t)((columns[e] - base) * t->stride);
}

void sli_cut_sort_scalar(const sl_cut_task *t, const sl_chunk_record *record, int64_t count, const void *from, void *to,
						 int64_t *places) {
	size_t size = t->wide ? sizeof(uint32_t) : sizeof(uint16_t);
	const char *at = from;
	for (int64_t i = 0; i < count; i++) {
		int32_t length = record[i].end - record[i].begin;
		memcpy((char *)to + (size_t)places[length] * size, at, (size_t)length * size);
		places[length] += length;
		at += (size_t)length * size;
	}
}
