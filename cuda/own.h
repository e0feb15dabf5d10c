/* SPDX-License-Identifier: Apache-2.0 */
/* What ops by own kernels share: operands of any order, brought into the one that a kernel takes. */
#ifndef SL_CUDA_OWN_H
#define SL_CUDA_OWN_H

#include "kernels/kernels.h"
#include "products.h"

/* rows.c: how a pattern's rows are shared out. */
typedef struct sl_row_order {
	sl_row_task *tasks;
	sl_row_fold *folds;
	size_t task_bytes, fold_bytes;
	int64_t task_count, fold_count, slots;
} sl_row_order;
sl_status sli_row_order_create(sl_cuda *cuda, const sl_pattern_arrays *pattern, sl_row_order **order);
void sli_row_order_destroy(void *device, void *order);
/* A pattern as kernels take it; `order` NULL: a row is a task. */
sl_rows sli_rows(const sl_pattern_arrays *pattern, const sl_row_order *order);

/* A matrix as kernels and cuBLAS take it: row by row. In place where it lies so, else in the workspace. */
typedef struct sl_place {
	bool moved;
	size_t at, bytes; /* in the workspace */
	int64_t ld;
} sl_place;

/* Room for a matrix of `rows` x `cols` behind `*end` in the workspace; rows begin at multiples of 16 bytes. */
static inline sl_place sli_take_place(int64_t rows, int64_t cols, sl_dtype dtype, size_t *end) {
	size_t size = sli_size_of(dtype), each = 16 / size;
	sl_place p = {.moved = true, .at = *end, .ld = (cols + (int64_t)each - 1) / (int64_t)each * (int64_t)each};
	p.bytes = sli_align256((size_t)rows * (size_t)p.ld * size);
	*end += p.bytes;
	return p;
}

/* `across`: rows are to lie together, else columns. */
static inline sl_place sli_place(const sl_matrix_desc *m, bool across, size_t *end) {
	if (across ? sli_row_major(m) : sli_col_major(m))
		return (sl_place){.ld = m->ld};
	return across ? sli_take_place(m->rows, m->cols, m->dtype, end) : sli_take_place(m->cols, m->rows, m->dtype, end);
}

/* The view of a placed matrix, of the size that a call's has. */
static inline sl_dense sli_placed(const sl_place *p, const sl_dense *m, bool across, void *workspace) {
	sl_dense view = *m;
	if (!p->moved)
		return view;
	view.data = (char *)workspace + p->at;
	view.order = across ? SL_ROW_MAJOR : SL_COL_MAJOR;
	view.ld = p->ld;
	return view;
}

/* Columns of a result in place that are written, with the padding of its panel. */
static inline int64_t sli_written(const sl_dense *m) {
	return m->order == SL_COL_PANELS ? m->ld : m->cols;
}

#endif
