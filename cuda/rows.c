/* SPDX-License-Identifier: Apache-2.0 */
/* How a pattern's rows are shared out to own kernels: long rows in parts, long tasks first. Made on the GPU. */
#include "own.h"

/* Rows of more entries than this, and than a few mean ones, are walked through in parts. */
enum { LEAST_PART = 512, MEANS = 4 };

static sl_rows rows_of(const sl_pattern_arrays *s) {
	return (sl_rows){.rows = s->rows,
					 .nnz = s->nnz,
					 .offsets = s->row_offsets,
					 .offset_dtype = s->offset_dtype,
					 .columns = s->col_indices};
}

void sli_row_order_destroy(void *device, void *data) {
	sl_cuda *cuda = device;
	sl_row_order *order = data;
	if (!order)
		return;
	sli_cuda_release(cuda, order->tasks, order->task_bytes, SL_MEMORY_DEVICE);
	sli_cuda_release(cuda, order->folds, order->fold_bytes, SL_MEMORY_DEVICE);
	cuda->host->release(cuda->host->user, order, sizeof *order);
}

static sl_status launched(const sl_cuda *cuda, int error, const char *what) {
	return sli_cuda_check(cuda, (cudaError_t)error, what);
}

/* How many there are, which the host has to know: it waits. */
static sl_status count(sl_cuda *cuda, const sl_rows *s, int64_t most, void *room, sl_row_order *order) {
	int64_t *on_gpu = NULL, packed = 0;
	int previous;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	sl_status status =
		launched(cuda, sl_kernel_count_parts(s, most, room, &on_gpu, cuda->stream), "the counting of rows in parts");
	sli_cuda_leave(previous);
	if (status == SL_OK)
		status = sli_cuda_copy(cuda, &packed, SL_MEMORY_HOST, on_gpu, SL_MEMORY_DEVICE, sizeof packed);
	if (status == SL_OK)
		status = sli_cuda_synchronize(cuda);
	order->fold_count = packed >> 32;
	order->slots = packed & 0xffffffff;
	order->task_count = s->rows - order->fold_count + order->slots;
	return status;
}

static sl_status fill(sl_cuda *cuda, const sl_rows *s, int64_t most, const void *counted, sl_row_order *order) {
	size_t bytes = sl_kernel_tasks_bytes(order->task_count);
	void *room = NULL, *tasks = NULL, *folds = NULL;
	int previous;
	order->task_bytes = (size_t)order->task_count * sizeof *order->tasks;
	order->fold_bytes = (size_t)order->fold_count * sizeof *order->folds;
	sl_status status = sli_cuda_allocate(cuda, order->task_bytes, SL_MEMORY_DEVICE, &tasks);
	order->tasks = tasks;
	if (status == SL_OK && order->fold_bytes)
		status = sli_cuda_allocate(cuda, order->fold_bytes, SL_MEMORY_DEVICE, &folds);
	order->folds = folds;
	if (status == SL_OK)
		status = sli_cuda_allocate(cuda, bytes, SL_MEMORY_DEVICE, &room);
	if (status == SL_OK)
		status = sli_cuda_enter(cuda, &previous);
	if (status == SL_OK) {
		status = launched(
			cuda,
			sl_kernel_list_tasks(s, most, counted, order->task_count, order->tasks, order->folds, room, cuda->stream),
			"the sharing out of rows");
		sli_cuda_leave(previous);
	}
	sli_cuda_release(cuda, room, bytes, SL_MEMORY_DEVICE);
	return status;
}

sl_status sli_row_order_create(sl_cuda *cuda, const sl_pattern_arrays *pattern, sl_row_order **result) {
	const sl_host *h = cuda->host;
	sl_rows s = rows_of(pattern);
	int64_t most = s.nnz / s.rows * MEANS;
	most = ((most > LEAST_PART ? most : LEAST_PART) + 3) / 4 * 4;
	size_t bytes = sl_kernel_count_bytes(s.rows);
	void *counted = NULL;
	*result = NULL;
	sl_row_order *order = h->allocate(h->user, sizeof *order);
	if (!order)
		return h->fail(h->user, SL_ERR_MEMORY, "no host memory for the order of %lld rows", (long long)s.rows);
	*order = (sl_row_order){0};
	sl_status status = sli_cuda_allocate(cuda, bytes, SL_MEMORY_DEVICE, &counted);
	if (status == SL_OK)
		status = count(cuda, &s, most, counted, order);
	if (status == SL_OK && order->task_count > INT32_MAX)
		status =
			h->fail(h->user, SL_ERR_UNSUPPORTED, "cuda: a matrix in %lld parts of rows", (long long)order->task_count);
	if (status == SL_OK)
		status = fill(cuda, &s, most, counted, order);
	sli_cuda_release(cuda, counted, bytes, SL_MEMORY_DEVICE);
	if (status != SL_OK)
		sli_row_order_destroy(cuda, order);
	else
		*result = order;
	return status;
}

sl_rows sli_rows(const sl_pattern_arrays *pattern, const sl_row_order *order) {
	sl_rows rows = rows_of(pattern);
	if (order) {
		rows.tasks = order->tasks, rows.task_count = order->task_count;
		rows.folds = order->folds, rows.fold_count = order->fold_count, rows.slots = order->slots;
	}
	return rows;
}
