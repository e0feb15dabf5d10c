/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting rows into blocks of columns, on any machine. */
#include "cpu/chunk.h"

__extension__ typedef unsigned __int128 wide_product;

int64_t sli_cut_row_scalar(const sl_cut_task *t, int32_t from, int32_t to, int32_t *block, int32_t *begin,
						   void *offsets) {
	const uint64_t reciprocal = UINT64_MAX / (uint64_t)t->width + 1; /* exact for 32 bits: Lemire et al. 2019 */
	int32_t last = -1;
	int64_t n = -1;
	for (int32_t k = from, before = -1; k < to; k++) {
		int32_t column = t->columns[k];
		if (column <= last || column >= t->cols)
			return -1;
		last = column;
		int32_t now = (int32_t)((wide_product)reciprocal * (uint32_t)column >> 64);
		uint32_t offset = (uint32_t)(column - now * t->width) * (uint32_t)t->stride;
		if (t->wide)
			((uint32_t *)offsets)[k - from] = offset;
		else
			((uint16_t *)offsets)[k - from] = (uint16_t)offset;
		if (now != before) {
			block[++n] = now;
			begin[n] = k;
			before = now;
		}
	}
	return n + 1;
}
