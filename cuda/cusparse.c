/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products over a pattern through cuSPARSE: SpMM and SDDMM, in parts where a matrix has more entries or columns than it
 * can be given at once; and SpMM by way of a dense copy and cuBLAS.
 */
#include "products.h"

#include <stdio.h>
#include <string.h>

/* Rows that are multiplied at once, with offsets that begin at 0. */
typedef struct part {
	int64_t row, rows, entry, entries;
	void *offsets; /* on the GPU; its own, where there are several parts */
	size_t bytes;
} part;

/* What a plan keeps. A preprocessed matrix is cuSPARSE's own, with the buffer that belongs to it. */
typedef struct product_state {
	int parts;
	size_t bytes; /* of this struct */
	cusparseSpMatDescr_t matrix;
	void *buffer;
	size_t buffer_bytes;
	int64_t cols; /* that it was preprocessed for */
	part part[];
} product_state;

static const sl_pattern_arrays *structure(const sl_op_desc *desc) {
	return desc->transpose ? &desc->sparse.transposed : &desc->sparse.arrays;
}

static const sl_pattern_arrays *host_structure(const sl_op_desc *desc) {
	return desc->transpose ? &desc->sparse.host_transposed : &desc->sparse.host;
}

/* Whether it fits into one call. */
static bool whole(const sl_cuda *cuda, const sl_op_desc *desc) {
	return structure(desc)->nnz <= cuda->most_entries && structure(desc)->offset_dtype == SL_I32;
}

static bool densifies(const sl_op_desc *desc) {
	return desc->candidate && !strcmp(desc->candidate, "cublas");
}

static bool known(const char *candidate) {
	return !candidate || densifies(&(sl_op_desc){.candidate = candidate}) || !strncmp(candidate, "cusparse", 8) ||
		   !strcmp(candidate, "default");
}

sl_status sli_cusparse_supports(const sl_cuda *cuda, const sl_op_desc *desc) {
	const sl_pattern_arrays *s = &desc->sparse.arrays;
	if (!known(desc->candidate))
		return sli_cuda_refuse(cuda, desc, "is asked for by a candidate that cuSPARSE and cuBLAS are not");
	if (desc->kind == SL_OP_SDDMM && desc->c.dtype == SL_BF16)
		return sli_cuda_refuse(cuda, desc, "has no bf16 in cuSPARSE");
	if (s->rows >= INT32_MAX || s->cols >= INT32_MAX)
		return sli_cuda_refuse(cuda, desc, "takes fewer than 2147483647 rows and columns of a sparse matrix on CUDA");
	if (whole(cuda, desc))
		return SL_OK;
	const sl_pattern_arrays *host = host_structure(desc);
	if (!host->row_offsets)
		return sli_cuda_refuse(cuda, desc, "needs the row offsets on the host too, to split so many entries by rows");
	if (densifies(desc))
		return sli_cuda_refuse(cuda, desc, "runs dense only where cuSPARSE takes the matrix at once");
	return SL_OK;
}

static int64_t offset(const sl_pattern_arrays *s, int64_t row) {
	return s->offset_dtype == SL_I64 ? ((const int64_t *)s->row_offsets)[row] : ((const int32_t *)s->row_offsets)[row];
}

/* The row behind the last that fits beside `row`; -1: not even that one does. */
static int64_t part_end(const sl_cuda *cuda, const sl_pattern_arrays *host, int64_t row) {
	int64_t low = row, high = host->rows, first = offset(host, row);
	while (low < high) { /* the last row whose end is near enough */
		int64_t middle = low + (high - low + 1) / 2;
		if (offset(host, middle) - first <= cuda->most_entries)
			low = middle;
		else
			high = middle - 1;
	}
	return low > row ? low : -1;
}

static int count_parts(const sl_cuda *cuda, const sl_pattern_arrays *host) {
	int parts = 0;
	for (int64_t row = 0; row < host->rows; parts++) {
		row = part_end(cuda, host, row);
		if (row < 0)
			return -1;
	}
	return parts;
}

/* Offsets of a part, made on the host and uploaded. */
static sl_status make_offsets(sl_cuda *cuda, const sl_pattern_arrays *host, part *p) {
	const sl_host *h = cuda->host;
	p->bytes = (size_t)(p->rows + 1) * sizeof(int32_t);
	int32_t *offsets = h->allocate(h->user, p->bytes);
	if (!offsets)
		return h->fail(h->user, SL_ERR_MEMORY, "no host memory for the offsets of %lld rows", (long long)p->rows);
	for (int64_t i = 0; i <= p->rows; i++)
		offsets[i] = (int32_t)(offset(host, p->row + i) - p->entry);
	sl_status status = sli_cuda_allocate(cuda, p->bytes, SL_MEMORY_DEVICE, &p->offsets);
	if (status == SL_OK)
		status = sli_cuda_copy(cuda, p->offsets, SL_MEMORY_DEVICE, offsets, SL_MEMORY_HOST, p->bytes);
	if (status == SL_OK) /* `offsets` is pageable: it is read before this returns, but let nothing rest on it */
		status = sli_cuda_synchronize(cuda);
	h->release(h->user, offsets, p->bytes);
	return status;
}

static sl_status split(sl_cuda *cuda, const sl_op_desc *desc, product_state *state) {
	const sl_pattern_arrays *host = host_structure(desc);
	int64_t row = 0;
	for (int i = 0; i < state->parts; i++) {
		int64_t end = part_end(cuda, host, row);
		part *p = &state->part[i];
		*p = (part){.row = row, .rows = end - row, .entry = offset(host, row)};
		p->entries = offset(host, end) - p->entry;
		SL_TRY(make_offsets(cuda, host, p));
		row = end;
	}
	return SL_OK;
}

static sl_status make_state(sl_cuda *cuda, const sl_op_desc *desc, product_state **result) {
	const sl_host *h = cuda->host;
	int parts = whole(cuda, desc) ? 1 : count_parts(cuda, host_structure(desc));
	*result = NULL;
	if (parts < 0)
		return sli_cuda_refuse(cuda, desc, "has a row of more entries than cuSPARSE takes at once");
	size_t bytes = sizeof(product_state) + (size_t)parts * sizeof(part);
	product_state *state = h->allocate(h->user, bytes);
	if (!state)
		return h->fail(h->user, SL_ERR_MEMORY, "no memory for a plan's state");
	memset(state, 0, bytes);
	state->bytes = bytes;
	state->parts = parts;
	const sl_pattern_arrays *s = structure(desc);
	sl_status status = SL_OK;
	if (whole(cuda, desc))
		state->part[0] = (part){.rows = s->rows, .entries = s->nnz, .offsets = (void *)(uintptr_t)s->row_offsets};
	else
		status = split(cuda, desc, state);
	*result = state;
	return status;
}

static void free_state(sl_cuda *cuda, product_state *state) {
	if (!state)
		return;
	if (state->matrix)
		(void)cusparseDestroySpMat(state->matrix);
	sli_cuda_release(cuda, state->buffer, state->buffer_bytes, SL_MEMORY_DEVICE);
	for (int i = 0; i < state->parts; i++)
		if (state->part[i].bytes)
			sli_cuda_release(cuda, state->part[i].offsets, state->part[i].bytes, SL_MEMORY_DEVICE);
	cuda->host->release(cuda->host->user, state, state->bytes);
}

void sli_cusparse_destroy(sl_cuda *cuda, sl_op_plan *plan) {
	free_state(cuda, plan->state);
	plan->state = NULL;
}

typedef struct descriptors {
	cusparseSpMatDescr_t sparse;
	bool borrowed; /* the plan's */
	cusparseDnMatDescr_t a, b, c;
} descriptors;

static void destroy_descriptors(descriptors *d) {
	if (d->sparse && !d->borrowed)
		(void)cusparseDestroySpMat(d->sparse);
	cusparseDnMatDescr_t dense[] = {d->a, d->b, d->c};
	for (int i = 0; i < 3; i++)
		if (dense[i])
			(void)cusparseDestroyDnMat(dense[i]);
	*d = (descriptors){0};
}

static sl_status make_sparse(const sl_cuda *cuda, const sl_op_desc *desc, const part *p, void *values,
							 cusparseSpMatDescr_t *matrix) {
	const sl_pattern_arrays *s = structure(desc);
	return sli_cusparse_check(cuda,
							  cusparseCreateCsr(matrix, p->rows, s->cols, p->entries, p->offsets,
												(void *)(uintptr_t)(s->col_indices + p->entry),
												(char *)values + (size_t)p->entry * sli_size_of(desc->c.dtype),
												CUSPARSE_INDEX_32I, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_BASE_ZERO,
												sli_data_type(desc->c.dtype)),
							  "cusparseCreateCsr");
}

static sl_status make_dense(const sl_cuda *cuda, const sl_matrix_desc *m, int64_t rows, int64_t cols, void *data,
							cusparseDnMatDescr_t *matrix) {
	return sli_cusparse_check(cuda,
							  cusparseCreateDnMat(matrix, rows, cols, m->ld, data, sli_data_type(m->dtype),
												  sli_row_major(m) ? CUSPARSE_ORDER_ROW : CUSPARSE_ORDER_COL),
							  "cusparseCreateDnMat");
}

static cusparseSpMMAlg_t algorithm(const sl_cuda *cuda, const sl_op_desc *desc) {
	const char *name = desc->candidate;
	if (cuda->host->deterministic || (name && !strcmp(name, "cusparse-alg3")))
		return CUSPARSE_SPMM_CSR_ALG3;
	if (name && !strcmp(name, "cusparse-alg1"))
		return CUSPARSE_SPMM_CSR_ALG1;
	return sli_row_major(&desc->b) ? CUSPARSE_SPMM_CSR_ALG2 : CUSPARSE_SPMM_CSR_ALG1;
}

/* Bytes at the start of the workspace that hold the permuted values of a transposed product. */
static size_t permuted_bytes(const sl_op_desc *desc) {
	return desc->transpose && !densifies(desc)
			   ? sli_align256((size_t)desc->sparse.arrays.nnz * sli_size_of(desc->c.dtype))
			   : 0;
}

/* Bytes that cuSPARSE wants for `n` columns. Nothing is read: the indices stand in for the data. */
static sl_status spmm_bytes(const sl_cuda *cuda, const sl_op_desc *desc, const part *p, int64_t n, size_t *bytes) {
	descriptors d = {0};
	sl_factor one = sli_factor(1);
	const void *factor = sli_factor_of(&one, desc->c.dtype);
	void *any = (void *)(uintptr_t)structure(desc)->col_indices;
	sl_status status = make_sparse(cuda, desc, p, any, &d.sparse);
	if (status == SL_OK)
		status = make_dense(cuda, &desc->b, desc->b.rows, n, any, &d.b);
	if (status == SL_OK)
		status = make_dense(cuda, &desc->c, p->rows, n, any, &d.c);
	if (status == SL_OK)
		status =
			sli_cusparse_check(cuda,
							   cusparseSpMM_bufferSize(cuda->cusparse, CUSPARSE_OPERATION_NON_TRANSPOSE,
													   CUSPARSE_OPERATION_NON_TRANSPOSE, factor, d.sparse, d.b, factor,
													   d.c, sli_sum_type(desc->c.dtype), algorithm(cuda, desc), bytes),
							   "cusparseSpMM_bufferSize");
	destroy_descriptors(&d);
	return status;
}

static sl_status sddmm_bytes(const sl_cuda *cuda, const sl_op_desc *desc, const part *p, int64_t k, size_t *bytes) {
	descriptors d = {0};
	sl_factor one = sli_factor(1);
	const void *factor = sli_factor_of(&one, desc->c.dtype);
	void *any = (void *)(uintptr_t)structure(desc)->col_indices;
	sl_status status = make_sparse(cuda, desc, p, any, &d.sparse);
	if (status == SL_OK)
		status = make_dense(cuda, &desc->a, p->rows, k, any, &d.a);
	if (status == SL_OK)
		status = make_dense(cuda, &desc->b, k, desc->b.cols, any, &d.b);
	if (status == SL_OK)
		status = sli_cusparse_check(cuda,
									cusparseSDDMM_bufferSize(cuda->cusparse, CUSPARSE_OPERATION_NON_TRANSPOSE,
															 CUSPARSE_OPERATION_NON_TRANSPOSE, factor, d.a, d.b, factor,
															 d.sparse, sli_sum_type(desc->c.dtype),
															 CUSPARSE_SDDMM_ALG_DEFAULT, bytes),
									"cusparseSDDMM_bufferSize");
	destroy_descriptors(&d);
	return status;
}

static void raise(size_t *most, size_t bytes) {
	if (bytes > *most)
		*most = bytes;
}

/* The most that any turn wants, `cols` being C's columns, of SDDMM A's. */
static sl_status largest_buffer(const sl_cuda *cuda, const sl_op_desc *desc, const product_state *state, int64_t cols,
								size_t *most) {
	int64_t rest = cols % cuda->most_columns;
	*most = 0;
	for (int i = 0; i < state->parts; i++) {
		const part *p = &state->part[i];
		size_t bytes = 0;
		if (!p->entries)
			continue;
		if (desc->kind == SL_OP_SDDMM) {
			SL_TRY(sddmm_bytes(cuda, desc, p, cols, &bytes));
			raise(most, bytes);
			continue;
		}
		if (cols >= cuda->most_columns)
			SL_TRY(spmm_bytes(cuda, desc, p, cuda->most_columns, &bytes));
		raise(most, bytes);
		if (rest)
			SL_TRY(spmm_bytes(cuda, desc, p, rest, &bytes));
		raise(most, bytes);
	}
	return SL_OK;
}

static sl_status check_pattern(const sl_cuda *cuda, const sl_op_desc *desc) {
	const sl_pattern_arrays *s = &desc->sparse.arrays, *t = structure(desc);
	const void *pointers[] = {s->row_offsets, s->col_indices, t->row_offsets, t->col_indices,
							  desc->transpose ? desc->sparse.permutation : s->col_indices};
	static const char *const names[] = {"row offsets", "column indices", "the transpose's row offsets",
										"the transpose's column indices", "the transpose's permutation"};
	return sli_cuda_not_null(cuda, desc, pointers, names, 5);
}

static int64_t planned_cols(const sl_op_desc *desc) {
	return desc->kind == SL_OP_SDDMM ? desc->a.cols : desc->c.cols;
}

/* Whether there is anything to multiply; cuSPARSE is not asked about products without a nonzero. */
static bool has_products(const sl_op_desc *desc) {
	return desc->sparse.arrays.nnz && planned_cols(desc) && (desc->kind == SL_OP_SDDMM || desc->c.rows);
}

/* What cuSPARSE finds out about a matrix once, for plans that are run again and again. */
static sl_status preprocess(sl_cuda *cuda, const sl_op_desc *desc, product_state *state) {
	descriptors d = {.borrowed = true};
	sl_factor one = sli_factor(1);
	const void *factor = sli_factor_of(&one, desc->c.dtype);
	size_t bytes = 0, values = (size_t)desc->sparse.arrays.nnz * sli_size_of(desc->c.dtype);
	void *scratch = NULL; /* values that nobody has given yet */
	SL_TRY(spmm_bytes(cuda, desc, &state->part[0], desc->c.cols, &bytes));
	state->buffer_bytes = bytes ? bytes : 1;
	SL_TRY(sli_cuda_allocate(cuda, state->buffer_bytes, SL_MEMORY_DEVICE, &state->buffer));
	sl_status status = sli_cuda_allocate(cuda, values, SL_MEMORY_DEVICE, &scratch);
	if (status == SL_OK)
		status = sli_cuda_fill(cuda, scratch, 0, values);
	if (status == SL_OK)
		status = make_sparse(cuda, desc, &state->part[0], scratch, &state->matrix);
	if (status == SL_OK)
		status = make_dense(cuda, &desc->b, desc->b.rows, desc->c.cols, scratch, &d.b);
	if (status == SL_OK)
		status = make_dense(cuda, &desc->c, desc->c.rows, desc->c.cols, scratch, &d.c);
	if (status == SL_OK)
		status = sli_cusparse_check(cuda,
									cusparseSpMM_preprocess(cuda->cusparse, CUSPARSE_OPERATION_NON_TRANSPOSE,
															CUSPARSE_OPERATION_NON_TRANSPOSE, factor, state->matrix,
															d.b, factor, d.c, sli_sum_type(desc->c.dtype),
															algorithm(cuda, desc), state->buffer),
									"cusparseSpMM_preprocess");
	destroy_descriptors(&d);
	sli_cuda_release(cuda, scratch, values, SL_MEMORY_DEVICE);
	state->cols = desc->c.cols;
	return status;
}

static void name_plan(const sl_cuda *cuda, const product_state *state, sl_op_plan *plan) {
	const sl_op_desc *desc = &plan->desc;
	const sl_pattern_arrays *s = &desc->sparse.arrays;
	char parts[32] = "";
	if (state && state->parts > 1)
		snprintf(parts, sizeof parts, " in %d parts", state->parts);
	snprintf(plan->text, sizeof plan->text, "%s%s %lldx%lld nnz %lld batch %lld of %s: %s%s%s",
			 desc->kind == SL_OP_SPMM ? "spmm" : "sddmm", desc->transpose ? " transposed" : "", (long long)s->rows,
			 (long long)s->cols, (long long)s->nnz, (long long)planned_cols(desc), sli_name_of(desc->c.dtype),
			 densifies(desc) ? "written out, cuBLAS" : "cuSPARSE",
			 densifies(desc) || desc->kind == SL_OP_SDDMM      ? ""
			 : algorithm(cuda, desc) == CUSPARSE_SPMM_CSR_ALG3 ? " CSR_ALG3"
			 : algorithm(cuda, desc) == CUSPARSE_SPMM_CSR_ALG2 ? " CSR_ALG2"
															   : " CSR_ALG1",
			 parts);
}

/* Bytes of W written out. */
static size_t dense_bytes(const sl_op_desc *desc) {
	const sl_pattern_arrays *s = &desc->sparse.arrays;
	return sli_align256((size_t)s->rows * (size_t)s->cols * sli_size_of(desc->c.dtype));
}

static sl_dense dense_view(const sl_op_desc *desc, void *data) {
	const sl_pattern_arrays *s = &desc->sparse.arrays;
	return (sl_dense){
		.data = data, .dtype = desc->c.dtype, .rows = s->rows, .cols = s->cols, .ld = s->cols ? s->cols : 1};
}

/* cuSPARSE's own way to write a matrix out; W itself, which cuBLAS transposes where that is asked for. */
static sl_status write_out(const sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args, void *data,
						   size_t *bytes) {
	sl_op_desc plain = *desc;
	plain.transpose = false;
	const sl_pattern_arrays *s = &desc->sparse.arrays;
	part all = {.rows = s->rows, .entries = s->nnz, .offsets = (void *)(uintptr_t)s->row_offsets};
	sl_dense w = dense_view(desc, data);
	sl_matrix_desc m = {w.rows, w.cols, w.ld, w.dtype, SL_ROW_MAJOR};
	descriptors d = {0};
	void *values = args ? (void *)(uintptr_t)args->values : data;
	sl_status status = make_sparse(cuda, &plain, &all, values, &d.sparse);
	if (status == SL_OK)
		status = make_dense(cuda, &m, w.rows, w.cols, data, &d.b);
	if (status == SL_OK && bytes)
		status = sli_cusparse_check(
			cuda,
			cusparseSparseToDense_bufferSize(cuda->cusparse, d.sparse, d.b, CUSPARSE_SPARSETODENSE_ALG_DEFAULT, bytes),
			"cusparseSparseToDense_bufferSize");
	if (status == SL_OK && args)
		status =
			sli_cusparse_check(cuda,
							   cusparseSparseToDense(cuda->cusparse, d.sparse, d.b, CUSPARSE_SPARSETODENSE_ALG_DEFAULT,
													 (char *)data + dense_bytes(desc)),
							   "cusparseSparseToDense");
	destroy_descriptors(&d);
	return status;
}

static sl_status plan_products(sl_cuda *cuda, sl_op_plan *plan, product_state *state) {
	const sl_op_desc *desc = &plan->desc;
	size_t bytes = 0;
	if (densifies(desc)) {
		SL_TRY(write_out(cuda, desc, NULL, (void *)(uintptr_t)desc->sparse.arrays.col_indices, &bytes));
		plan->workspace = dense_bytes(desc) + sli_align256(bytes);
		return SL_OK;
	}
	SL_TRY(largest_buffer(cuda, desc, state, planned_cols(desc), &bytes));
	plan->workspace = permuted_bytes(desc) + sli_align256(bytes);
	bool again = desc->kind == SL_OP_SPMM && !desc->once && state->parts == 1 && desc->c.cols <= cuda->most_columns;
	return again ? preprocess(cuda, desc, state) : SL_OK;
}

sl_status sli_cusparse_plan(sl_cuda *cuda, sl_op_plan *plan) {
	const sl_op_desc *desc = &plan->desc;
	product_state *state = NULL;
	name_plan(cuda, NULL, plan);
	if (!has_products(desc))
		return SL_OK;
	SL_TRY(check_pattern(cuda, desc));
	int previous;
	if (densifies(desc))
		SL_TRY(sli_cublas_prepare(cuda));
	SL_TRY(sli_cuda_enter(cuda, &previous));
	sl_status status = make_state(cuda, desc, &state);
	if (status == SL_OK)
		status = plan_products(cuda, plan, state);
	if (status == SL_OK)
		name_plan(cuda, state, plan);
	else
		free_state(cuda, state);
	sli_cuda_leave(previous);
	plan->state = status == SL_OK ? state : NULL;
	return status;
}

/* values in the transpose's order, into the workspace */
static sl_status permute_values(const sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args) {
	int64_t nnz = desc->sparse.arrays.nnz;
	cusparseDnVecDescr_t from = NULL;
	cusparseSpVecDescr_t to = NULL;
	cudaDataType type = sli_data_type(desc->c.dtype);
	cusparseIndexType_t index = desc->sparse.permutation_dtype == SL_I64 ? CUSPARSE_INDEX_64I : CUSPARSE_INDEX_32I;
	sl_status status = sli_cusparse_check(cuda, cusparseCreateDnVec(&from, nnz, (void *)(uintptr_t)args->values, type),
										  "cusparseCreateDnVec");
	if (status == SL_OK)
		status = sli_cusparse_check(cuda,
									cusparseCreateSpVec(&to, nnz, nnz, (void *)(uintptr_t)desc->sparse.permutation,
														args->workspace, index, CUSPARSE_INDEX_BASE_ZERO, type),
									"cusparseCreateSpVec");
	if (status == SL_OK)
		status = sli_cusparse_check(cuda, cusparseGather(cuda->cusparse, from, to), "cusparseGather");
	if (from)
		(void)cusparseDestroyDnVec(from);
	if (to)
		(void)cusparseDestroySpVec(to);
	return status;
}

/* A caller with fewer columns than were planned has the planned workspace, which cuSPARSE never promised
 * to be enough for them. */
static sl_status check_buffer(const sl_cuda *cuda, const sl_op_plan *plan, int64_t cols) {
	const sl_op_desc *desc = &plan->desc;
	size_t bytes = 0, have = plan->workspace - permuted_bytes(desc);
	if (cols == planned_cols(desc))
		return SL_OK;
	SL_TRY(largest_buffer(cuda, desc, plan->state, cols, &bytes));
	if (bytes > have)
		return cuda->host->fail(cuda->host->user, SL_ERR_BACKEND,
								"cuda: %s: cuSPARSE wants %zu bytes for %lld columns, but %zu for the %lld planned",
								desc->kind == SL_OP_SDDMM ? "sddmm" : "spmm", bytes, (long long)cols, have,
								(long long)planned_cols(desc));
	return SL_OK;
}

/* Columns [first, first + n) of a part's rows of C. */
static sl_status multiply_columns(const sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args, const part *p,
								  int64_t first, int64_t n, void *buffer, descriptors *d) {
	const sl_op_desc *desc = &plan->desc;
	sl_factor alpha = sli_factor(args->alpha), beta = sli_factor(args->beta);
	sl_dtype dtype = desc->c.dtype;
	sl_status status = make_dense(cuda, &desc->b, desc->b.rows, n, sli_cell(&desc->b, args->b.data, 0, first), &d->b);
	if (status == SL_OK)
		status = make_dense(cuda, &desc->c, p->rows, n, sli_cell(&desc->c, args->c.data, p->row, first), &d->c);
	if (status == SL_OK)
		status = sli_cusparse_check(cuda,
									cusparseSpMM(cuda->cusparse, CUSPARSE_OPERATION_NON_TRANSPOSE,
												 CUSPARSE_OPERATION_NON_TRANSPOSE, sli_factor_of(&alpha, dtype),
												 d->sparse, d->b, sli_factor_of(&beta, dtype), d->c,
												 sli_sum_type(dtype), algorithm(cuda, desc), buffer),
									"cusparseSpMM");
	if (d->b)
		(void)cusparseDestroyDnMat(d->b);
	if (d->c)
		(void)cusparseDestroyDnMat(d->c);
	d->b = d->c = NULL;
	return status;
}

static sl_status scale_part(const sl_cuda *cuda, const sl_op_desc *desc, const sl_op_args *args, const part *p) {
	sl_dense c = args->c;
	c.data = sli_cell(&desc->c, args->c.data, p->row, 0);
	c.rows = p->rows;
	return sli_cuda_scale(cuda, &desc->c, &c, args->beta);
}

static sl_status multiply_part(const sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args, const part *p,
							   void *values) {
	const sl_op_desc *desc = &plan->desc;
	const product_state *state = plan->state;
	void *buffer = args->workspace ? (char *)args->workspace + permuted_bytes(desc) : NULL;
	descriptors d = {0};
	if (!p->entries)
		return scale_part(cuda, desc, args, p);
	if (state->matrix && args->c.cols == state->cols) {
		d.sparse = state->matrix;
		d.borrowed = true;
		buffer = state->buffer;
		SL_TRY(sli_cusparse_check(cuda, cusparseSpMatSetValues(d.sparse, values), "cusparseSpMatSetValues"));
	} else {
		SL_TRY(make_sparse(cuda, desc, p, values, &d.sparse));
	}
	sl_status status = SL_OK;
	for (int64_t first = 0; status == SL_OK && first < args->c.cols; first += cuda->most_columns) {
		int64_t left = args->c.cols - first, n = left < cuda->most_columns ? left : cuda->most_columns;
		status = multiply_columns(cuda, plan, args, p, first, n, buffer, &d);
	}
	destroy_descriptors(&d);
	return status;
}

static sl_status run_dense(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args) {
	const sl_op_desc *desc = &plan->desc;
	SL_TRY(write_out(cuda, desc, args, args->workspace, NULL));
	sl_dense w = dense_view(desc, args->workspace);
	if (desc->transpose)
		w = (sl_dense){
			.data = w.data, .dtype = w.dtype, .order = SL_COL_MAJOR, .rows = w.cols, .cols = w.rows, .ld = w.ld};
	return sli_cublas_product(cuda, desc, &w, &args->b, args);
}

static sl_status run_spmm(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args) {
	const sl_op_desc *desc = &plan->desc;
	const product_state *state = plan->state;
	const void *pointers[] = {args->c.data, args->values, args->b.data,
							  plan->workspace ? args->workspace : args->b.data};
	static const char *const names[] = {"C's data", "values", "B's data", "workspace bytes"};
	SL_TRY(sli_cuda_not_null(cuda, desc, pointers, names, desc->sparse.arrays.nnz ? 4 : 1));
	if (!desc->sparse.arrays.nnz)
		return sli_cuda_scale(cuda, &desc->c, &args->c, args->beta);
	if (densifies(desc))
		return run_dense(cuda, plan, args);
	SL_TRY(check_buffer(cuda, plan, args->c.cols));
	void *values = (void *)(uintptr_t)args->values;
	if (desc->transpose) {
		SL_TRY(permute_values(cuda, desc, args));
		values = args->workspace;
	}
	for (int i = 0; i < state->parts; i++)
		SL_TRY(multiply_part(cuda, plan, args, &state->part[i], values));
	return SL_OK;
}

static sl_status sample_part(const sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args, const part *p) {
	const sl_op_desc *desc = &plan->desc;
	sl_factor alpha = sli_factor(args->alpha), beta = sli_factor(args->beta);
	sl_dtype dtype = desc->c.dtype;
	descriptors d = {0};
	if (!p->entries)
		return SL_OK;
	sl_status status = make_sparse(cuda, desc, p, args->values_out, &d.sparse);
	if (status == SL_OK)
		status = make_dense(cuda, &desc->a, p->rows, args->a.cols, sli_cell(&desc->a, args->a.data, p->row, 0), &d.a);
	if (status == SL_OK)
		status = make_dense(cuda, &desc->b, args->b.rows, args->b.cols, args->b.data, &d.b);
	if (status == SL_OK)
		status = sli_cusparse_check(cuda,
									cusparseSDDMM(cuda->cusparse, CUSPARSE_OPERATION_NON_TRANSPOSE,
												  CUSPARSE_OPERATION_NON_TRANSPOSE, sli_factor_of(&alpha, dtype), d.a,
												  d.b, sli_factor_of(&beta, dtype), d.sparse, sli_sum_type(dtype),
												  CUSPARSE_SDDMM_ALG_DEFAULT, args->workspace),
									"cusparseSDDMM");
	destroy_descriptors(&d);
	return status;
}

static sl_status run_sddmm(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args) {
	const sl_op_desc *desc = &plan->desc;
	const product_state *state = plan->state;
	bool any = args->a.cols > 0;
	const void *pointers[] = {args->values_out, any ? args->a.data : args->values_out,
							  any ? args->b.data : args->values_out,
							  any && plan->workspace ? args->workspace : args->values_out};
	static const char *const names[] = {"values", "A's data", "B's data", "workspace bytes"};
	SL_TRY(sli_cuda_not_null(cuda, desc, pointers, names, 4));
	if (!any) {
		int64_t nnz = desc->sparse.arrays.nnz;
		sl_dense line = {.data = args->values_out, .dtype = desc->c.dtype, .rows = 1, .cols = nnz, .ld = nnz};
		sl_matrix_desc of_line = {1, nnz, nnz, desc->c.dtype, SL_ROW_MAJOR};
		return sli_cuda_scale(cuda, &of_line, &line, args->beta);
	}
	SL_TRY(check_buffer(cuda, plan, args->a.cols));
	for (int i = 0; i < state->parts; i++)
		SL_TRY(sample_part(cuda, plan, args, &state->part[i]));
	return SL_OK;
}

sl_status sli_cusparse_execute(sl_cuda *cuda, const sl_op_plan *plan, const sl_op_args *args) {
	return plan->desc.kind == SL_OP_SDDMM ? run_sddmm(cuda, plan, args) : run_spmm(cuda, plan, args);
}
