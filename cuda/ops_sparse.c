/* SPDX-License-Identifier: Apache-2.0 */
/* SpMM and SDDMM by own kernels: rows shared out at planning, operands of any order brought row by row. */
#include "own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rows of more entries than this, and than a few mean ones, are walked through in parts. */
enum { LEAST_PART = 512, MEANS = 4 };

/* What a plan keeps: how rows are shared out, on the GPU. */
typedef struct own_state {
	sl_row_task *tasks;
	sl_row_fold *folds;
	size_t task_bytes, fold_bytes;
	int64_t task_count, fold_count, slots;
} own_state;

static bool laid_out(const sl_matrix_desc *m) {
	return sli_row_major(m) || sli_col_major(m);
}

bool sli_libraries_take(const sl_op_desc *desc) {
	bool epilogue = desc->bias || desc->pre_activation || desc->activation != SL_IDENTITY;
	bool half = desc->c.dtype == SL_BF16 || desc->c.dtype == SL_F16;
	if ((epilogue && half) || (desc->kind == SL_OP_SDDMM && desc->c.dtype == SL_BF16))
		return false;
	return laid_out(desc->kind == SL_OP_SPMM ? &desc->c : &desc->a) && laid_out(&desc->b);
}

bool sli_own_runs(const sl_op_desc *desc) {
	if (desc->kind != SL_OP_SPMM && desc->kind != SL_OP_SDDMM)
		return false;
	return desc->candidate ? !strcmp(desc->candidate, "own") : !sli_libraries_take(desc);
}

static const sl_pattern_arrays *structure(const sl_op_desc *desc) {
	return desc->transpose ? &desc->sparse.transposed : &desc->sparse.arrays;
}

/* SpMM: the permuted values of a transpose, B, C and D, sums of parts. SDDMM: A and B. */
typedef struct places {
	size_t values;
	sl_place a, b, c, d;
	size_t partials, end;
} places;

static places place(const sl_op_desc *desc, const own_state *state) {
	places p = {0};
	const sl_pattern_arrays *s = structure(desc);
	if (desc->kind == SL_OP_SDDMM) {
		p.a = sli_place(&desc->a, true, &p.end);
		p.b = sli_place(&desc->b, false, &p.end);
		return p;
	}
	if (desc->transpose)
		p.end += sli_align256((size_t)s->nnz * sli_size_of(desc->c.dtype));
	p.b = sli_place(&desc->b, true, &p.end);
	p.c = sli_place(&desc->c, true, &p.end);
	if (desc->pre_activation)
		p.d = sli_place(&desc->c, true, &p.end);
	p.partials = p.end;
	if (state)
		p.end += sli_align256((size_t)state->slots * (size_t)desc->c.cols * (desc->c.dtype == SL_F64 ? 8 : 4));
	return p;
}

sl_status sli_own_supports(sl_cuda *cuda, const sl_op_desc *desc) {
	const sl_pattern_arrays *s = structure(desc);
	if (desc->kernel)
		return sli_cuda_refuse(cuda, desc, "has no kernels to choose by name on CUDA");
	if (desc->b.dtype != desc->c.dtype || desc->a.dtype != desc->c.dtype)
		return sli_cuda_refuse(cuda, desc, "needs one dtype for all its matrices");
	if (s->rows > INT32_MAX || s->cols > INT32_MAX)
		return sli_cuda_refuse(cuda, desc, "takes at most 2147483647 rows and columns of a sparse matrix on CUDA");
	return SL_OK;
}

static int64_t offset(const sl_pattern_arrays *s, int64_t row) {
	return s->offset_dtype == SL_I64 ? ((const int64_t *)s->row_offsets)[row] : ((const int32_t *)s->row_offsets)[row];
}

/* Long ones first, so that none is left over at the end; equal ones as they come. */
static int longer(const void *left, const void *right) {
	const sl_row_task *a = left, *b = right;
	int64_t x = a->end - a->begin, y = b->end - b->begin;
	if (x != y)
		return x > y ? -1 : 1;
	return a->row != b->row ? (a->row > b->row) - (a->row < b->row) : (a->begin > b->begin) - (a->begin < b->begin);
}

typedef struct sharing {
	sl_row_task *tasks;
	sl_row_fold *folds;
	int64_t task_count, fold_count, slots;
} sharing;

/* Parts of a row of `length` entries. */
static int64_t parts_of(int64_t length, int64_t most) {
	return length > most ? (length + most - 1) / most : 1;
}

/* `plan` with NULL lists counts; else fills. */
static void share(const sl_pattern_arrays *s, int64_t most, sharing *plan) {
	plan->task_count = plan->fold_count = plan->slots = 0;
	for (int64_t r = 0; r < s->rows; r++) {
		int64_t begin = offset(s, r), end = offset(s, r + 1), parts = parts_of(end - begin, most);
		if (parts > 1) {
			if (plan->folds)
				plan->folds[plan->fold_count] = (sl_row_fold){(int32_t)r, (int32_t)plan->slots, (int32_t)parts, 0};
			plan->fold_count++;
		}
		for (int64_t i = 0; i < parts; i++) {
			int64_t to = i + 1 < parts ? begin + most : end;
			if (plan->tasks)
				plan->tasks[plan->task_count] =
					(sl_row_task){begin, to, (int32_t)r, parts > 1 ? (int32_t)plan->slots : -1};
			plan->task_count++;
			plan->slots += parts > 1;
			begin = to;
		}
	}
}

static sl_status upload(sl_cuda *cuda, const void *from, size_t bytes, void **to) {
	SL_TRY(sli_cuda_allocate(cuda, bytes, SL_MEMORY_DEVICE, to));
	return sli_cuda_copy(cuda, *to, SL_MEMORY_DEVICE, from, SL_MEMORY_HOST, bytes);
}

static sl_status fill_state(sl_cuda *cuda, const sl_pattern_arrays *s, int64_t most, own_state *state) {
	const sl_host *h = cuda->host;
	sharing plan = {0};
	share(s, most, &plan);
	if (plan.slots > INT32_MAX)
		return h->fail(h->user, SL_ERR_UNSUPPORTED, "cuda: a matrix in %lld parts of rows", (long long)plan.slots);
	state->task_bytes = (size_t)plan.task_count * sizeof *plan.tasks;
	state->fold_bytes = (size_t)plan.fold_count * sizeof *plan.folds;
	plan.tasks = h->allocate(h->user, state->task_bytes + state->fold_bytes);
	if (!plan.tasks)
		return h->fail(h->user, SL_ERR_MEMORY, "no host memory to share out %lld rows", (long long)s->rows);
	plan.folds = (sl_row_fold *)(plan.tasks + plan.task_count);
	share(s, most, &plan);
	qsort(plan.tasks, (size_t)plan.task_count, sizeof *plan.tasks, longer);
	void *tasks = NULL, *folds = NULL;
	sl_status status = upload(cuda, plan.tasks, state->task_bytes, &tasks);
	state->tasks = tasks;
	if (status == SL_OK && plan.fold_count)
		status = upload(cuda, plan.folds, state->fold_bytes, &folds);
	state->folds = folds;
	if (status == SL_OK) /* the lists may be read until then */
		status = sli_cuda_synchronize(cuda);
	state->task_count = plan.task_count, state->fold_count = plan.fold_count, state->slots = plan.slots;
	h->release(h->user, plan.tasks, state->task_bytes + state->fold_bytes);
	return status;
}

static void free_state(sl_cuda *cuda, own_state *state) {
	if (state->tasks)
		sli_cuda_release(cuda, state->tasks, state->task_bytes, SL_MEMORY_DEVICE);
	if (state->folds)
		sli_cuda_release(cuda, state->folds, state->fold_bytes, SL_MEMORY_DEVICE);
	cuda->host->release(cuda->host->user, state, sizeof *state);
}

/* A plan that is kept shares rows out; one that runs once takes them as they come. */
static sl_status make_state(sl_cuda *cuda, sl_op_plan *plan) {
	const sl_op_desc *desc = &plan->desc;
	const sl_pattern_arrays *s = desc->transpose ? &desc->sparse.host_transposed : &desc->sparse.host;
	if (desc->once || !s->row_offsets || !s->nnz || sli_cuda_capturing(cuda))
		return SL_OK;
	int64_t most = s->nnz / s->rows * MEANS;
	most = ((most > LEAST_PART ? most : LEAST_PART) + 3) / 4 * 4;
	own_state *state = cuda->host->allocate(cuda->host->user, sizeof *state);
	if (!state)
		return cuda->host->fail(cuda->host->user, SL_ERR_MEMORY, "no host memory for a plan");
	*state = (own_state){0};
	sl_status status = fill_state(cuda, s, most, state);
	if (status == SL_OK)
		plan->state = state;
	else
		free_state(cuda, state);
	return status;
}

sl_status sli_own_plan(sl_cuda *cuda, const sl_op_desc *desc, sl_op_plan *plan) {
	SL_TRY(sli_own_supports(cuda, desc));
	*plan = (sl_op_plan){.desc = *desc};
	SL_TRY(make_state(cuda, plan));
	const own_state *state = plan->state;
	plan->workspace = place(desc, state).end;
	int n =
		snprintf(plan->text, sizeof plan->text, "%s of %s: own kernel%s", desc->kind == SL_OP_SPMM ? "spmm" : "sddmm",
				 sli_name_of(desc->c.dtype), desc->transpose ? ", cached transpose" : "");
	if (state && n > 0 && (size_t)n < sizeof plan->text)
		snprintf(plan->text + n, sizeof plan->text - (size_t)n, ", %lld tasks, %lld rows in parts",
				 (long long)state->task_count, (long long)state->fold_count);
	return SL_OK;
}

void sli_own_destroy(sl_cuda *cuda, sl_op_plan *plan) {
	if (plan->state)
		free_state(cuda, plan->state);
	plan->state = NULL;
}

static sl_rows rows_of(const sl_op_desc *desc, const own_state *state) {
	const sl_pattern_arrays *s = structure(desc);
	sl_rows rows = {.rows = s->rows,
					.nnz = s->nnz,
					.offsets = s->row_offsets,
					.offset_dtype = s->offset_dtype,
					.columns = s->col_indices};
	if (state) {
		rows.tasks = state->tasks, rows.task_count = state->task_count;
		rows.folds = state->folds, rows.fold_count = state->fold_count, rows.slots = state->slots;
	}
	return rows;
}

/* A copy in the place, of what is read. */
static int bring(const sl_cuda *cuda, const sl_place *p, const sl_dense *from, const sl_dense *to) {
	return p->moved ? sl_kernel_convert(from, to, cuda->stream) : 0;
}

static int run_spmm(const sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args) {
	const sl_op_desc *desc = &plan->desc;
	places p = place(desc, plan->state);
	sl_dense b = sli_placed(&p.b, &args->b, true, args->workspace);
	sl_dense c = sli_placed(&p.c, &args->c, true, args->workspace), d = {0};
	sl_spmm_call call = {.dtype = desc->c.dtype,
						 .s = rows_of(desc, plan->state),
						 .values = args->values,
						 .b = b.data,
						 .c = c.data,
						 .bias = args->bias,
						 .partials = (char *)args->workspace + p.partials,
						 .n = c.cols,
						 .padded = sli_written(&c),
						 .ldb = b.ld,
						 .ldc = c.ld,
						 .alpha = args->alpha,
						 .beta = args->beta,
						 .parameter = desc->activation_parameter,
						 .activation = desc->activation};
	int error = bring(cuda, &p.b, &args->b, &b);
	if (!error && args->beta != 0)
		error = bring(cuda, &p.c, &args->c, &c);
	if (desc->pre_activation) {
		d = sli_placed(&p.d, &args->d, true, args->workspace);
		call.d = d.data;
		call.ldd = d.ld;
	}
	if (!error && desc->transpose) {
		error =
			sl_kernel_gather(args->values, desc->sparse.permutation, desc->sparse.permutation_dtype,
							 (char *)args->workspace + p.values, call.s.nnz, sli_size_of(desc->c.dtype), cuda->stream);
		call.values = (char *)args->workspace + p.values;
	}
	if (!error)
		error = sl_kernel_spmm(&call, cuda->stream);
	if (!error && p.c.moved)
		error = sl_kernel_convert(&c, &args->c, cuda->stream);
	if (!error && desc->pre_activation && p.d.moved)
		error = sl_kernel_convert(&d, &args->d, cuda->stream);
	return error;
}

static int run_sddmm(const sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args) {
	const sl_op_desc *desc = &plan->desc;
	places p = place(desc, plan->state);
	sl_dense a = sli_placed(&p.a, &args->a, true, args->workspace);
	sl_dense b = sli_placed(&p.b, &args->b, false, args->workspace);
	sl_sddmm_call call = {.dtype = desc->c.dtype,
						  .s = rows_of(desc, plan->state),
						  .a = a.data,
						  .b = b.data,
						  .values = args->values_out,
						  .k = a.cols,
						  .lda = a.ld,
						  .ldb = b.ld,
						  .alpha = args->alpha,
						  .beta = args->beta};
	int error = bring(cuda, &p.a, &args->a, &a);
	if (!error)
		error = bring(cuda, &p.b, &args->b, &b);
	return error ? error : sl_kernel_sddmm(&call, cuda->stream);
}

sl_status sli_own_execute(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args) {
	bool spmm = plan->desc.kind == SL_OP_SPMM;
	int previous;
	if (spmm ? !args->c.rows || !args->c.cols : !plan->desc.sparse.arrays.nnz)
		return SL_OK;
	SL_TRY(sli_cuda_enter(cuda, &previous));
	int error = spmm ? run_spmm(cuda, plan, args) : run_sddmm(cuda, plan, args);
	sl_status status = sli_cuda_check(cuda, (cudaError_t)error, spmm ? "the SpMM kernel" : "the SDDMM kernel");
	sli_cuda_leave(previous);
	return status;
}
