/* SPDX-License-Identifier: Apache-2.0 */
/* SpMM and SDDMM by own kernels: rows shared out at planning, operands of any order brought row by row. */
#include "own.h"

#include <stdio.h>
#include <string.h>

/* What a plan keeps: the order of rows, its own or (`borrowed`) the pattern's. */
typedef struct own_state {
	sl_row_order *order;
	bool borrowed;
} own_state;

static const sl_pattern_arrays *structure(const sl_op_desc *desc) {
	return desc->transpose ? &desc->sparse.transposed : &desc->sparse.arrays;
}

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

static bool tensor(const sl_op_desc *desc) {
	return desc->candidate && !strcmp(desc->candidate, "own-tensor");
}

bool sli_own_runs(const sl_op_desc *desc) {
	if (desc->kind != SL_OP_SPMM && desc->kind != SL_OP_SDDMM)
		return false;
	return desc->candidate ? !strcmp(desc->candidate, "own") || tensor(desc) : !sli_libraries_take(desc);
}

/* Worth timing where a tile of 64 x 16 or 32 is not mostly zeros, and a fragment's 8 columns not mostly padding. */
bool sli_tensor_offered(const sl_cuda *cuda, const sl_op_desc *desc) {
	const sl_pattern_arrays *s = structure(desc);
	return desc->kind == SL_OP_SPMM && desc->c.dtype != SL_F64 && cuda->major >= 8 && desc->c.cols >= 8 &&
		   (double)s->nnz >= 0.05 * (double)s->rows * (double)s->cols && s->nnz;
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
		p.end += sli_align256((size_t)state->order->slots * (size_t)desc->c.cols * (desc->c.dtype == SL_F64 ? 8 : 4));
	return p;
}

sl_status sli_own_supports(sl_cuda *cuda, const sl_op_desc *desc) {
	const sl_pattern_arrays *s = structure(desc);
	if (desc->kernel)
		return sli_cuda_refuse(cuda, desc, "has no kernels to choose by name on CUDA");
	if (tensor(desc) && (desc->kind != SL_OP_SPMM || desc->c.dtype == SL_F64))
		return sli_cuda_refuse(cuda, desc, "runs on tensor cores as a product with a dense matrix, not in f64");
	if (tensor(desc) && cuda->major < 8)
		return sli_cuda_refuse(cuda, desc, "runs on tensor cores from compute capability 8.0 on");
	if (desc->b.dtype != desc->c.dtype || desc->a.dtype != desc->c.dtype)
		return sli_cuda_refuse(cuda, desc, "needs one dtype for all its matrices");
	if (s->rows > INT32_MAX || s->cols > INT32_MAX)
		return sli_cuda_refuse(cuda, desc, "takes at most 2147483647 rows and columns of a sparse matrix on CUDA");
	return SL_OK;
}

/* A plan that is kept shares rows out, once for all plans of a pattern in a context where it keeps what is derived
 * from it; a plan that runs once takes rows as they come, unless that was done before. */
static sl_status make_state(sl_cuda *cuda, sl_op_plan *plan) {
	const sl_op_desc *desc = &plan->desc;
	const sl_pattern_arrays *s = structure(desc);
	sl_derived *derived = desc->sparse.derived;
	sl_row_order *order = derived ? derived->data[desc->transpose] : NULL;
	if (tensor(desc) || (!order && (desc->once || !s->row_offsets || !s->nnz || sli_cuda_capturing(cuda))))
		return SL_OK;
	own_state *state = cuda->host->allocate(cuda->host->user, sizeof *state);
	if (!state)
		return cuda->host->fail(cuda->host->user, SL_ERR_MEMORY, "no host memory for a plan");
	sl_status status = order ? SL_OK : sli_row_order_create(cuda, s, &order);
	if (status != SL_OK) {
		cuda->host->release(cuda->host->user, state, sizeof *state);
		return status;
	}
	*state = (own_state){order, derived != NULL};
	if (derived) {
		derived->data[desc->transpose] = order;
		derived->bytes[desc->transpose] = order->task_bytes + order->fold_bytes;
		derived->destroy = sli_row_order_destroy;
	}
	plan->state = state;
	return SL_OK;
}

static void free_state(sl_cuda *cuda, own_state *state) {
	if (!state->borrowed)
		sli_row_order_destroy(cuda, state->order);
	cuda->host->release(cuda->host->user, state, sizeof *state);
}

sl_status sli_own_plan(sl_cuda *cuda, const sl_op_desc *desc, sl_op_plan *plan) {
	SL_TRY(sli_own_supports(cuda, desc));
	*plan = (sl_op_plan){.desc = *desc};
	SL_TRY(make_state(cuda, plan));
	const own_state *state = plan->state;
	plan->workspace = place(desc, state).end;
	int n = snprintf(plan->text, sizeof plan->text, "%s of %s: own kernel%s%s",
					 desc->kind == SL_OP_SPMM ? "spmm" : "sddmm", sli_name_of(desc->c.dtype),
					 tensor(desc) ? " on tensor cores" : "", desc->transpose ? ", cached transpose" : "");
	if (state && n > 0 && (size_t)n < sizeof plan->text)
		snprintf(plan->text + n, sizeof plan->text - (size_t)n, ", %lld tasks, %lld rows in parts",
				 (long long)state->order->task_count, (long long)state->order->fold_count);
	return SL_OK;
}

void sli_own_destroy(sl_cuda *cuda, sl_op_plan *plan) {
	if (plan->state)
		free_state(cuda, plan->state);
	plan->state = NULL;
}

static sl_rows rows_of(const sl_op_desc *desc, const own_state *state) {
	return sli_rows(structure(desc), state ? state->order : NULL);
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
						 .activation = desc->activation,
						 .tf32 = cuda->host->tf32};
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
		error = tensor(desc) ? sl_kernel_spmm_tensor(&call, structure(desc)->cols, cuda->stream)
							 : sl_kernel_spmm(&call, cuda->stream);
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
