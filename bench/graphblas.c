/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "contender.h"

#ifdef SL_WITH_GRAPHBLAS
#include <GraphBLAS.h>

/*
 * SuiteSparse:GraphBLAS. Forward and dX: C = A B, and C += A B on a full C, which has a kernel of its own; dW: A B^T
 * under W's structure as the mask.
 */
typedef struct graphblas {
	const operands *o;
	GrB_Matrix w, a, b, c;
	int64_t rows;
} graphblas;

static void must(GrB_Info info, const char *what) {
	char text[32];
	snprintf(text, sizeof text, "status %d", (int)info);
	bench_need(info == GrB_SUCCESS, what, text);
}

static bool graphblas_open(contender *self) {
	static bool begun;
	int number[3] = {0};
	if (!begun)
		must(GrB_init(GrB_BLOCKING), "GrB_init");
	begun = true;
	must(GxB_Global_Option_set(GxB_NTHREADS, self->threads), "GxB_NTHREADS");
	must(GxB_Global_Option_set(GxB_FORMAT, GxB_BY_ROW), "GxB_FORMAT");
	must(GxB_Global_Option_get(GxB_LIBRARY_VERSION, number), "GxB_LIBRARY_VERSION");
	snprintf(self->detail, sizeof self->detail, "SuiteSparse:GraphBLAS %d.%d.%d", number[0], number[1], number[2]);
	self->state = calloc(1, sizeof(graphblas));
	return self->state != NULL;
}

static GrB_Matrix full(const float *data, int64_t rows, int64_t cols) {
	GrB_Matrix m;
	size_t bytes = (size_t)(rows * cols) * sizeof *data;
	void *copy = malloc(bytes);
	bench_need(copy != NULL, "memory", "too little");
	if (data)
		memcpy(copy, data, bytes);
	else
		memset(copy, 0, bytes);
	must(GrB_Matrix_new(&m, GrB_FP32, (GrB_Index)rows, (GrB_Index)cols), "GrB_Matrix_new");
	must(GxB_Matrix_pack_FullR(m, &copy, bytes, false, NULL), "GxB_Matrix_pack_FullR");
	return m;
}

static GrB_Matrix csr(const int32_t *offsets, const int32_t *columns, const float *values, int64_t rows, int64_t cols) {
	GrB_Matrix m;
	GrB_Index nnz = (GrB_Index)offsets[rows];
	GrB_Index *wide_offsets = malloc(((size_t)rows + 1) * sizeof *wide_offsets);
	GrB_Index *wide_columns = malloc(((size_t)nnz + 1) * sizeof *wide_columns);
	bench_need(wide_offsets && wide_columns, "memory", "too little");
	for (int64_t r = 0; r <= rows; r++)
		wide_offsets[r] = (GrB_Index)offsets[r];
	for (GrB_Index k = 0; k < nnz; k++)
		wide_columns[k] = (GrB_Index)columns[k];
	must(GrB_Matrix_import_FP32(&m, GrB_FP32, (GrB_Index)rows, (GrB_Index)cols, wide_offsets, wide_columns, values,
								(GrB_Index)rows + 1, nnz, nnz, GrB_CSR_FORMAT),
		 "GrB_Matrix_import_FP32");
	must(GrB_wait(m, GrB_MATERIALIZE), "GrB_wait");
	free(wide_offsets), free(wide_columns);
	return m;
}

static int graphblas_prepare(contender *self, const operands *o) {
	graphblas *g = self->state;
	const bench_case *c = &o->c;
	g->o = o;
	if (c->op == DX)
		g->w = csr(o->turned_offsets, o->turned_columns, o->turned_values, c->in, c->out);
	else
		g->w = csr(o->offsets, o->columns, o->values, c->out, c->in);
	g->a = c->op == DW ? full(o->y, c->out, c->batch) : NULL;
	g->b = c->op == DX ? full(o->y, c->out, c->batch) : full(o->x, c->in, c->batch);
	g->rows = c->op == DX ? c->in : c->out;
	if (c->op == DW)
		must(GrB_Matrix_new(&g->c, GrB_FP32, (GrB_Index)c->out, (GrB_Index)c->in), "GrB_Matrix_new");
	else
		g->c = full(NULL, g->rows, c->batch);
	self->labels[0] = c->op == DW ? "mask" : "replace", self->labels[1] = "add";
	return c->op == DW ? 1 : 2;
}

static void graphblas_run(contender *self, int variant) {
	graphblas *g = self->state;
	GrB_Semiring times = GrB_PLUS_TIMES_SEMIRING_FP32;
	if (g->o->c.op == DW) {
		must(GrB_mxm(g->c, g->w, NULL, times, g->a, g->b, GrB_DESC_RST1), "GrB_mxm");
	} else if (variant == 0) {
		must(GrB_mxm(g->c, NULL, NULL, times, g->w, g->b, NULL), "GrB_mxm");
	} else {
		must(GrB_assign(g->c, NULL, NULL, 0.0f, GrB_ALL, (GrB_Index)g->rows, GrB_ALL, (GrB_Index)g->o->c.batch, NULL),
			 "GrB_assign");
		must(GrB_mxm(g->c, NULL, GrB_PLUS_FP32, times, g->w, g->b, NULL), "GrB_mxm");
	}
}

static void graphblas_result(contender *self, int variant, float *result) {
	graphblas *g = self->state;
	const operands *o = g->o;
	(void)variant;
	if (o->c.op == DW) {
		for (int64_t r = 0; r < o->c.out; r++)
			for (int64_t k = o->offsets[r]; k < o->offsets[r + 1]; k++)
				if (GrB_Matrix_extractElement(&result[k], g->c, (GrB_Index)r, (GrB_Index)o->columns[k]) != GrB_SUCCESS)
					result[k] = 0;
		return;
	}
	for (int64_t r = 0; r < g->rows; r++)
		for (int64_t j = 0; j < o->c.batch; j++)
			if (GrB_Matrix_extractElement(&result[r * o->c.batch + j], g->c, (GrB_Index)r, (GrB_Index)j) != GrB_SUCCESS)
				result[r * o->c.batch + j] = 0; /* a row without entries */
}

static void graphblas_finish(contender *self) {
	graphblas *g = self->state;
	GrB_Matrix_free(&g->w);
	GrB_Matrix_free(&g->a);
	GrB_Matrix_free(&g->b);
	GrB_Matrix_free(&g->c);
}

static void graphblas_close(contender *self) {
	free(self->state);
}

void contender_graphblas(contender *c) {
	*c = (contender){.name = "graphblas",
					 .role = SPARSE,
					 .open = graphblas_open,
					 .prepare = graphblas_prepare,
					 .run = graphblas_run,
					 .result = graphblas_result,
					 .finish = graphblas_finish,
					 .close = graphblas_close};
}

#else

static bool graphblas_open(contender *self) {
	snprintf(self->detail, sizeof self->detail, "missing: libgraphblas-dev was not there when this was built");
	return false;
}

void contender_graphblas(contender *c) {
	*c = (contender){.name = "graphblas", .role = SPARSE, .open = graphblas_open};
}

#endif
