/* SPDX-License-Identifier: Apache-2.0 */
/* Chunk sizes from the budget. */
#include "stream/stream.h"

static int64_t most(int64_t a, int64_t b) {
	return a > b ? a : b;
}
static int64_t least(int64_t a, int64_t b) {
	return a < b ? a : b;
}

/* Rows that a chunk may have: somewhat more than its entries would make of them on average, so that it is mostly the
 * entries that end a chunk. */
static int64_t rows_for(const sl_stream_demand *d, int64_t entries) {
	double mean = (double)d->nnz / (double)most(d->rows, 1), rows = 1.25 * (double)entries / (mean > 0 ? mean : 1) + 64;
	return rows < (double)d->rows ? (int64_t)rows : most(d->rows, 1);
}

static size_t slot_bytes(const sl_stream_demand *d, int64_t entries, int64_t rows) {
	size_t offsets = ((size_t)rows + 1) * sizeof(int32_t) + 64;
	return (size_t)entries * d->entry_bytes + (size_t)d->arrays * (size_t)(3 * SL_BLOCK) + offsets;
}

static size_t total(const sl_stream_demand *d, int64_t entries, int64_t panels) {
	int64_t rows = rows_for(d, entries);
	return (size_t)d->slots * slot_bytes(d, entries, rows) + (size_t)entries * d->work_bytes +
		   (size_t)rows * d->row_bytes + (d->workspace ? d->workspace(d->user, rows, entries) : 0) + d->fixed +
		   (size_t)panels * d->panel_bytes;
}

bool sli_stream_size(const sl_stream_demand *d, size_t available, sl_stream_sizes *sizes) {
	int64_t floor = most(1, least(least(d->piece, d->cols), d->nnz)), panels = d->panels;
	*sizes = (sl_stream_sizes){.entries = floor, .rows = rows_for(d, floor), .slots = d->slots};
	sizes->panels = d->all_panels ? panels : least(panels, 1);
	sizes->bytes = total(d, floor, sizes->panels);
	if (available && sizes->bytes > available)
		return false;
	/* A pass over the matrix for each part of the panels: parts of one size, in at most two thirds of the memory. */
	if (!d->all_panels && panels > 1) {
		int64_t held = panels;
		while (held > 1 && available &&
			   ((size_t)held * d->panel_bytes > available / 3 * 2 || total(d, floor, held) > available))
			held--;
		int64_t passes = (panels + held - 1) / held;
		sizes->panels = (panels + passes - 1) / passes;
	}
	int64_t low = floor, high = most(floor, d->nnz);
	while (low < high) {
		int64_t middle = low + (high - low + 1) / 2;
		if ((available && total(d, middle, sizes->panels) > available) || middle > d->most_entries ||
			middle > INT32_MAX)
			high = middle - 1;
		else
			low = middle;
	}
	/* Two chunks at least for every slot, where that leaves them large: else nothing overlaps. */
	int64_t share = d->nnz / (2 * d->slots) + 1, large = 1 << 19;
	low = most(floor, least(low, most(share, large)));
	sizes->entries = low;
	sizes->rows = rows_for(d, low);
	sizes->bytes = total(d, low, sizes->panels);
	return true;
}
