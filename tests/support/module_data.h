/* SPDX-License-Identifier: Apache-2.0 */
/* Matrices and views with twins on the GPU, and references in double. Bounds are c * eps * sum |a||b| with c = 8. */
#ifndef SL_TESTS_MODULE_DATA_H
#define SL_TESTS_MODULE_DATA_H

#include "support/module.h"
#include "support/views.h"

/* Memory of the module with a copy of `data` in it. */
static inline sl_status upload(void *device, const void *data, size_t bytes, void **pointer) {
	const sl_backend *b = backend();
	SL_TRY(b->allocate(device, bytes, SL_MEMORY_DEVICE, pointer));
	return b->copy(device, *pointer, SL_MEMORY_DEVICE, data, SL_MEMORY_HOST, bytes);
}

static inline size_t block_bytes(const view_block *v) {
	return (size_t)v->elements * sl_dtype_size(v->view.dtype);
}

/* A view's twin on the GPU, guards and padding included. */
typedef struct mirror {
	void *base;
	size_t bytes;
	sl_dense view;
} mirror;

static inline sl_status mirror_up(void *device, const view_block *v, mirror *m) {
	m->bytes = block_bytes(v) + 2 * VIEW_GUARD;
	m->view = v->view;
	m->view.device = SL_DEVICE_CUDA;
	SL_TRY(upload(device, v->bytes, m->bytes, &m->base));
	m->view.data = (char *)m->base + VIEW_GUARD;
	return SL_OK;
}

static inline sl_status mirror_down(void *device, const view_block *v, const mirror *m) {
	SL_TRY(backend()->copy(device, v->bytes, SL_MEMORY_HOST, m->base, SL_MEMORY_DEVICE, m->bytes));
	return backend()->synchronize(device);
}

static inline void mirror_free(void *device, mirror *m) {
	backend()->release(device, m->base, m->bytes, SL_MEMORY_DEVICE);
	m->base = NULL;
}

/* A sparse matrix on the host, its transpose, and both on the GPU. */
typedef struct matrix {
	int64_t rows, cols, nnz;
	int32_t *offsets, *columns, *t_offsets, *t_columns, *permutation;
	double *values; /* of either dtype's precision */
	void *typed;
	sl_dtype dtype;
	void *on_device[6]; /* in the order above, values last */
	size_t bytes[6];
} matrix;

static inline uint64_t next_random(uint64_t *state) {
	*state += 0x9E3779B97F4A7C15u;
	uint64_t z = *state;
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

/* Every third row is empty unless the density is 1. */
static inline matrix make_matrix(sl_dtype dtype, int64_t rows, int64_t cols, double density, uint64_t seed) {
	matrix m = {.rows = rows, .cols = cols, .dtype = dtype};
	size_t most = (size_t)(rows * cols) + 1;
	m.offsets = calloc((size_t)rows + 1, 4), m.columns = calloc(most, 4);
	m.t_offsets = calloc((size_t)cols + 2, 4), m.t_columns = calloc(most, 4), m.permutation = calloc(most, 4);
	m.values = calloc(most, 8), m.typed = calloc(most, 8);
	uint64_t state = seed;
	for (int64_t r = 0; r < rows; r++) {
		for (int64_t c = 0; c < cols; c++)
			if (density == 1 || (r % 3 != 1 && (double)(next_random(&state) >> 11) * 0x1p-53 < density))
				m.columns[m.nnz++] = (int32_t)c;
		m.offsets[r + 1] = (int32_t)m.nnz;
	}
	for (int64_t k = 0; k < m.nnz; k++) {
		m.values[k] = view_round(dtype, (double)(next_random(&state) >> 11) * 0x1p-52 - 1);
		view_set(m.typed, dtype, k, m.values[k]);
		m.t_offsets[m.columns[k] + 2]++;
	}
	for (int64_t c = 0; c < cols; c++)
		m.t_offsets[c + 2] += m.t_offsets[c + 1];
	for (int64_t r = 0; r < rows; r++)
		for (int64_t k = m.offsets[r]; k < m.offsets[r + 1]; k++) {
			int32_t at = m.t_offsets[m.columns[k] + 1]++;
			m.t_columns[at] = (int32_t)r;
			m.permutation[at] = (int32_t)k;
		}
	m.bytes[0] = ((size_t)rows + 1) * 4, m.bytes[2] = ((size_t)cols + 1) * 4;
	m.bytes[1] = m.bytes[3] = m.bytes[4] = (size_t)m.nnz * 4;
	m.bytes[5] = (size_t)m.nnz * sl_dtype_size(dtype);
	return m;
}

static inline void drop_matrix(void *device, matrix *m) {
	for (int i = 0; i < 6; i++) {
		backend()->release(device, m->on_device[i], m->bytes[i], SL_MEMORY_DEVICE);
		m->on_device[i] = NULL;
	}
}

static inline void free_matrix(matrix *m) {
	free(m->offsets), free(m->columns), free(m->t_offsets), free(m->t_columns), free(m->permutation);
	free(m->values), free(m->typed);
}

static inline sl_status matrix_up(void *device, matrix *m) {
	const void *from[6] = {m->offsets, m->columns, m->t_offsets, m->t_columns, m->permutation, m->typed};
	for (int i = 0; i < 6; i++)
		SL_TRY(upload(device, from[i], m->bytes[i], &m->on_device[i]));
	return SL_OK;
}

static inline sl_matrix_desc describe(const sl_dense *v) {
	return (sl_matrix_desc){v->rows, v->cols, v->ld, v->dtype, v->order};
}

/* nnz = 0 comes without indices or values, as a caller's may. */
static inline sl_op_desc spmm_desc(const matrix *m, bool transpose, const sl_dense *b, const sl_dense *c) {
	sl_op_desc desc = {.kind = SL_OP_SPMM, .candidate = "default", .b = describe(b), .c = describe(c), .transpose = transpose};
	bool any = m->nnz > 0;
	desc.a.dtype = m->dtype;
	desc.sparse.host = (sl_pattern_arrays){m->rows, m->cols, m->nnz, m->offsets, SL_I32, m->columns};
	desc.sparse.arrays =
		(sl_pattern_arrays){m->rows, m->cols, m->nnz, m->on_device[0], SL_I32, any ? m->on_device[1] : NULL};
	if (transpose) {
		desc.sparse.transposed =
			(sl_pattern_arrays){m->cols, m->rows, m->nnz, m->on_device[2], SL_I32, any ? m->on_device[3] : NULL};
		desc.sparse.permutation = any ? m->on_device[4] : NULL;
		desc.sparse.permutation_dtype = SL_I32;
	}
	return desc;
}

/* Plan, run in a workspace of exactly the size asked for, and clean up whatever came of it. */
static inline sl_status run_planned(void *device, const sl_op_desc *desc, sl_op_args *args) {
	const sl_backend *b = backend();
	sl_op_plan plan = {0};
	SL_TRY(b->plan(device, desc, &plan));
	size_t bytes = b->workspace(device, &plan);
	sl_status status = bytes ? b->allocate(device, bytes, SL_MEMORY_DEVICE, &args->workspace) : SL_OK;
	if (status == SL_OK)
		status = b->execute(device, &plan, args);
	b->release(device, args->workspace, bytes, SL_MEMORY_DEVICE);
	args->workspace = NULL;
	b->destroy(device, &plan);
	return status;
}

/* One of the reference's elements and its bound. */
typedef struct sum {
	double value, size;
} sum;

static inline void add(sum *s, double product) {
	s->value += product;
	s->size += fabs(product);
}

static inline sum *sparse_reference(const matrix *m, bool transpose, const view_block *b, const view_block *c,
									double alpha, double beta) {
	int64_t n = c->view.cols;
	sum *s = calloc((size_t)(c->view.rows * n) + 1, sizeof *s);
	for (int64_t r = 0; r < m->rows; r++)
		for (int64_t k = m->offsets[r]; k < m->offsets[r + 1]; k++) {
			int64_t row = transpose ? m->columns[k] : r, inner = transpose ? r : m->columns[k];
			for (int64_t j = 0; j < n; j++)
				add(&s[row * n + j], alpha * m->values[k] * view_load(&b->view, inner, j));
		}
	for (int64_t r = 0; r < c->view.rows && beta != 0; r++)
		for (int64_t j = 0; j < n; j++)
			add(&s[r * n + j], beta * view_load(&c->view, r, j));
	return s;
}

static inline void compare(const view_block *c, const sum *s, int line) {
	for (int64_t r = 0; r < c->view.rows; r++)
		for (int64_t j = 0; j < c->view.cols; j++) {
			const sum *want = &s[r * c->view.cols + j];
			double got = view_load(&c->view, r, j);
			if (!(fabs(got - want->value) <= 8 * view_eps(c->view.dtype) * want->size))
				sl_test_fail(__FILE__, line, "C(%lld, %lld) is %.17g, not %.17g", (long long)r, (long long)j, got,
							 want->value);
		}
	if (!view_intact(c))
		sl_test_fail(__FILE__, line, "something beside C was written, or padding is not zero");
}

/* The panel's width: a few more columns than the matrix has, so that there is padding. */
static inline view_block make_view(sl_dtype dtype, sl_order order, int64_t rows, int64_t cols) {
	int64_t width = (order == SL_ROW_PANELS ? rows : cols) + 3;
	return view_create(dtype, order, rows, cols, width);
}

static inline view_block make_output(sl_dtype dtype, sl_order order, int64_t rows, int64_t cols, double beta,
									 uint64_t seed) {
	int64_t width = (order == SL_ROW_PANELS ? rows : cols) + 3;
	view_block v = view_output(dtype, order, rows, cols, width);
	if (beta != 0)
		view_fill(&v, seed, 1);
	else /* must not be read */
		for (int64_t r = 0; r < rows; r++)
			for (int64_t j = 0; j < cols; j++)
				view_set(v.view.data, dtype, view_at(&v.view, r, j), NAN);
	return v;
}

static const sl_order orders[] __attribute__((unused)) = {SL_ROW_MAJOR, SL_COL_MAJOR, SL_COL_PANELS, SL_ROW_PANELS};
enum { ORDERS = 4 };
static const double factors[][2] __attribute__((unused)) = {{1, 0}, {-0.75, 1}, {2, -0.5}, {0, 0.25}, {0, 0}};
enum { FACTORS = 5 };

#endif
