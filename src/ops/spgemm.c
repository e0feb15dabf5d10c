/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/spgemm.h"

#include "core/checked.h"
#include "sparse/random.h"

static int64_t length(const sl_pattern_arrays *p, int64_t row) {
	return sli_index(p->row_offsets, p->offset_dtype, row + 1) - sli_index(p->row_offsets, p->offset_dtype, row);
}

/* Products of entries that row i of A takes part in. */
static int64_t products(const sl_spgemm_args *s, int64_t i) {
	int64_t sum = 0, end = sli_index(s->a.row_offsets, s->a.offset_dtype, i + 1);
	for (int64_t p = sli_index(s->a.row_offsets, s->a.offset_dtype, i); p < end; p++)
		sum += length(&s->b, s->a.col_indices[p]);
	return sum;
}

/* The work of a row: of A, or of B where its gradient is wanted. */
static double work_of(const sl_spgemm_args *s, bool of_b, int64_t i) {
	if (of_b)
		return 1 + (double)length(&s->a_transposed, i) * (double)(1 + length(&s->b, i));
	return 1 + (double)products(s, i);
}

/* Cut rows into tasks of about the same work. Returns the most entries that a row of C can have. */
static int64_t share_out(sl_spgemm_args *s, bool of_b) {
	int64_t rows = of_b ? s->b.rows : s->a.rows, most = 0, task = 1;
	double total = 0, done = 0;
	for (int64_t i = 0; i < rows; i++) {
		total += work_of(s, of_b, i);
		int64_t count = of_b ? 0 : products(s, i);
		most = count > most ? count : most;
	}
	for (int64_t i = 0; i < rows; i++) {
		done += work_of(s, of_b, i);
		while (task < SL_SPGEMM_TASKS && done >= total * (double)task / SL_SPGEMM_TASKS)
			s->starts[task++] = i + 1;
	}
	while (task <= SL_SPGEMM_TASKS)
		s->starts[task++] = rows;
	s->starts[0] = 0;
	return most < s->b.cols ? most : s->b.cols;
}

static void operands(const sl_csr *A, const sl_csr *B, sl_spgemm_args *s) {
	*s = (sl_spgemm_args){.a = sli_pattern_arrays(A->pattern),
						  .b = sli_pattern_arrays(B->pattern),
						  .a_values = A->values,
						  .b_values = B->values};
}

static sl_status run(sl_context *context, sl_spgemm_step step, const sl_spgemm_args *s, sl_dtype dtype, int64_t most,
					 double alpha, double beta) {
	sl_op_desc desc = {.kind = SL_OP_SPGEMM,
					   .variant = (int)step,
					   .a = {.rows = s->a.rows, .cols = s->a.cols, .dtype = dtype},
					   .b = {.rows = s->b.rows, .cols = s->b.cols, .dtype = dtype},
					   .c = {.rows = s->a.rows, .cols = s->b.cols, .dtype = dtype},
					   .count = most};
	sl_op_args args = {.alpha = alpha, .beta = beta, .spgemm = s};
	return sli_run(context, &desc, &args);
}

/* Offsets from counts. */
static sl_status make_pattern(sl_context *context, const sl_spgemm_args *s, void **offsets, int32_t **columns) {
	int64_t nnz = 0;
	for (int64_t i = 0; i < s->a.rows; i++)
		if (!sli_add(nnz, s->counts[i], &nnz))
			return sli_fail(context, SL_ERR_OVERFLOW, "the product has more entries than memory can count");
	SL_TRY(sli_pattern_take(context, s->a.rows, nnz, offsets, columns));
	sl_dtype dtype = sli_offset_dtype(nnz);
	for (int64_t i = 0, at = 0; i <= s->a.rows; i++) {
		sli_index_set(*offsets, dtype, i, at);
		at += i < s->a.rows ? s->counts[i] : 0;
	}
	return SL_OK;
}

static sl_status fill(sl_csr **C, sl_context *context, double alpha, sl_spgemm_args *s, sl_dtype dtype, int64_t most) {
	void *offsets, *values;
	int32_t *columns;
	sl_pattern *pattern;
	SL_TRY(run(context, SL_SPGEMM_COUNT, s, dtype, most, alpha, 0));
	SL_TRY(make_pattern(context, s, &offsets, &columns));
	int64_t nnz = 0;
	for (int64_t i = 0; i < s->a.rows; i++)
		nnz += s->counts[i];
	SL_TRY(sli_pattern_adopt(&pattern, context, s->a.rows, s->b.cols, nnz, offsets, columns));
	size_t bytes = (size_t)nnz * sl_dtype_size(dtype);
	sl_status status = sli_allocate(context, bytes, "the values of a product", &values);
	if (status == SL_OK) {
		s->c = sli_pattern_arrays(pattern);
		s->columns = columns;
		s->values = values;
		status = run(context, SL_SPGEMM_FILL, s, dtype, most, alpha, 0);
		if (status == SL_OK)
			return sli_csr_adopt(C, context, pattern, values, dtype);
		sli_heap_free(sli_heap(context), values, bytes);
	}
	sl_pattern_release(pattern);
	return status;
}

sl_status sli_spgemm(sl_csr **C, sl_context *context, double alpha, const sl_csr *A, const sl_csr *B) {
	sl_spgemm_args s;
	operands(A, B, &s);
	int64_t most = share_out(&s, false);
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = sli_arena_take(context, (size_t)s.a.rows * sizeof *s.counts, (void **)&s.counts);
	if (status == SL_OK)
		status = fill(C, context, alpha, &s, A->dtype, most);
	sli_arena_reset(context, mark);
	return status;
}

sl_status sli_spgemm_values(sl_context *context, double alpha, const sl_csr *A, const sl_csr *B, double beta,
							sl_csr *C) {
	sl_spgemm_args s;
	operands(A, B, &s);
	share_out(&s, false);
	s.c = sli_pattern_arrays(C->pattern);
	s.values = C->values;
	return run(context, SL_SPGEMM_VALUES, &s, A->dtype, 0, alpha, beta);
}

sl_status sli_spgemm_dense(sl_context *context, double alpha, const sl_csr *A, const sl_csr *B, double beta,
						   sl_dense *C) {
	sl_spgemm_args s;
	operands(A, B, &s);
	share_out(&s, false);
	s.dense = *C;
	return run(context, SL_SPGEMM_DENSE, &s, A->dtype, 0, alpha, beta);
}

sl_status sli_spgemm_backward(sl_context *context, double alpha, const sl_csr *A, const sl_csr *B, const sl_csr *dC,
							  const sl_dense *dense, double beta, sl_csr *dA, sl_csr *dB) {
	sl_spgemm_args s;
	sl_sparse_view view;
	operands(A, B, &s);
	if (dC) {
		s.c = sli_pattern_arrays(dC->pattern);
		s.c_values = dC->values;
	} else {
		s.dense = *dense;
	}
	if (dA) {
		share_out(&s, false);
		s.values = dA->values;
		SL_TRY(run(context, SL_SPGEMM_GRAD_A, &s, A->dtype, 0, alpha, beta));
	}
	if (!dB)
		return SL_OK;
	SL_TRY(sli_pattern_view(context, A->pattern, true, &view));
	s.a_transposed = view.transposed;
	s.permutation = view.permutation;
	s.permutation_dtype = view.permutation_dtype;
	share_out(&s, true);
	s.values = dB->values;
	return run(context, SL_SPGEMM_GRAD_B, &s, A->dtype, 0, alpha, beta);
}
