/* SPDX-License-Identifier: Apache-2.0 */
/* How the rows of a sparse product are shared out and cut. */
#include "cpu/products.h"

static size_t starts_bytes(const sl_schedule_of_rows *s) {
	return (size_t)(s->columns ? s->blocks * s->rows + 1 : (s->blocks + 1) * s->rows) * sizeof *s->starts;
}

void sli_cpu_schedule_destroy(sl_cpu *cpu, sl_schedule_of_rows *s) {
	const sl_host *host = cpu->host;
	if (!s)
		return;
	if (s->starts)
		host->release(host->user, s->starts, starts_bytes(s));
	if (s->columns)
		host->release(host->user, s->columns, (size_t)s->nnz * sizeof *s->columns);
	if (s->permutation)
		host->release(host->user, s->permutation, (size_t)s->nnz * sizeof *s->permutation);
	host->release(host->user, s, sizeof *s);
}

/* Columns of a block: so few that their rows of the panel stay in L1, so many that a row has entries
 * enough in it to be worth another visit. Where there is no such number, but the panel outgrows L2, the
 * same for L2, whose misses cost more. 0: rows are not cut. */
static int64_t block_columns(const sl_pattern_arrays *s, int64_t width, sl_dtype dtype) {
	enum { L1 = 32 << 10, L2 = 256 << 10, ENTRIES_L1 = 12, ENTRIES_L2 = 4, LEAST_ROWS = 64 };
	int64_t line = width * (int64_t)sl_dtype_size(dtype), fit1 = L1 / line, fit2 = L2 / line;
	/* Halves are rounded once, behind the last entry. */
	if (sl_dtype_size(dtype) == 2 || s->cols <= 2 * fit1 || s->rows < LEAST_ROWS || s->nnz > INT32_MAX)
		return 0;
	double spacing = (double)s->rows * (double)s->cols / (double)(s->nnz ? s->nnz : 1); /* columns an entry */
	if (ENTRIES_L1 * spacing <= (double)fit1)
		return fit1;
	return s->cols > 2 * fit2 && ENTRIES_L2 * spacing <= (double)fit2 ? fit2 : 0;
}

static void share_out(const sl_pattern_arrays *s, sl_schedule_of_rows *schedule) {
	int64_t row = 0;
	for (int i = 0; i < SL_CHUNKS; i++) {
		schedule->begin[i] = row;
		/* An entry costs 1, a row as much as 4 entries: loading, storing and the epilogue. */
		double share = ((double)s->nnz + 4.0 * (double)s->rows) * (i + 1) / SL_CHUNKS;
		while (row < s->rows &&
			   (double)sli_cpu_offset(s->row_offsets, s->offset_dtype, row + 1) + 4.0 * (double)(row + 1) <= share)
			row++;
	}
	schedule->begin[SL_CHUNKS] = s->rows;
}

/* Where each block of each row begins. Columns increase within a row, so one walk finds them. */
static void cut_rows(const sl_pattern_arrays *s, int64_t columns, int64_t blocks, int32_t *starts) {
	for (int64_t r = 0; r < s->rows; r++) {
		int64_t k = sli_cpu_offset(s->row_offsets, s->offset_dtype, r);
		int64_t end = sli_cpu_offset(s->row_offsets, s->offset_dtype, r + 1);
		for (int64_t b = 0; b <= blocks; b++) {
			while (k < end && s->col_indices[k] < b * columns)
				k++;
			starts[b * s->rows + r] = (int32_t)(b == blocks ? end : k);
		}
	}
}

/* Entries block by block, and within a block row by row. `cut` is what cut_rows() found. */
static void pack(const sl_pattern_arrays *s, const sl_sparse_view *view, const int32_t *cut,
				 sl_schedule_of_rows *schedule) {
	int32_t at = 0;
	for (int64_t i = 0; i < schedule->blocks * s->rows; i++) {
		schedule->starts[i] = at;
		for (int32_t k = cut[i]; k < cut[i + s->rows]; k++, at++) {
			schedule->columns[at] = s->col_indices[k];
			schedule->permutation[at] = (int32_t)sli_cpu_offset(view->permutation, view->permutation_dtype, k);
		}
	}
	schedule->starts[schedule->blocks * s->rows] = at;
}

static bool cut_and_pack(sl_cpu *cpu, const sl_pattern_arrays *s, int64_t columns, const sl_sparse_view *transposed,
						 sl_schedule_of_rows *made) {
	const sl_host *host = cpu->host;
	size_t cut_bytes = (size_t)((made->blocks + 1) * s->rows) * sizeof(int32_t);
	int32_t *cut = host->allocate(host->user, cut_bytes);
	if (!cut)
		return false;
	cut_rows(s, columns, made->blocks, cut);
	if (!transposed) {
		made->starts = cut;
		return true;
	}
	made->columns = host->allocate(host->user, (size_t)s->nnz * sizeof *made->columns);
	made->permutation = made->columns ? host->allocate(host->user, (size_t)s->nnz * sizeof *made->permutation) : NULL;
	made->starts = made->permutation ? host->allocate(host->user, starts_bytes(made)) : NULL;
	if (made->starts)
		pack(s, transposed, cut, made);
	host->release(host->user, cut, cut_bytes);
	return made->starts != NULL;
}

sl_schedule_of_rows *sli_cpu_schedule(sl_cpu *cpu, const sl_pattern_arrays *s, int64_t width, sl_dtype dtype,
									  const sl_sparse_view *transposed) {
	enum { LEAST_ROWS = 128 };
	const sl_host *host = cpu->host;
	sl_schedule_of_rows *made = host->allocate(host->user, sizeof *made);
	int64_t columns = block_columns(s, width, dtype);
	if (made) {
		*made = (sl_schedule_of_rows){
			.group = 1, .blocks = columns ? sli_ceil_div(s->cols, columns) : 1, .rows = s->rows, .nnz = s->nnz};
		share_out(s, made);
	}
	if (!made || (columns && !cut_and_pack(cpu, s, columns, transposed, made))) {
		sli_cpu_schedule_destroy(cpu, made);
		host->fail(host->user, SL_ERR_MEMORY, "no memory for the product's plan");
		return NULL;
	}
	while (columns && made->group < 8 && s->rows / SL_CHUNKS * made->group < LEAST_ROWS)
		made->group *= 2;
	return made;
}

void sli_cpu_block(const sl_schedule_of_rows *schedule, const sl_pattern_arrays *s, int64_t block, const void **starts,
				   const void **ends) {
	if (schedule->starts) {
		*starts = schedule->starts + block * schedule->rows;
		*ends = schedule->starts + block * schedule->rows + (schedule->columns ? 1 : schedule->rows);
	} else {
		*starts = s->row_offsets;
		*ends = (const char *)s->row_offsets + sl_dtype_size(s->offset_dtype);
	}
}
