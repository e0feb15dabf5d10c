/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "contender.h"

#ifdef SL_WITH_LIBXSMM
#include <libxsmm.h>
#include <pthreadpool.h>

/*
 * LIBXSMM's SpMDM: a sparse matrix in blocks, cut ahead of time, times a dense one. It has no threads of its own: its
 * blocks are handed out by pthreadpool.
 */
typedef struct xsmm {
	const operands *o;
	libxsmm_spmdm_handle handle;
	libxsmm_CSR_sparseslice *slices;
	float *result;
	pthreadpool_t pool;
	int threads;
	const float *w, *b;
} xsmm;

static bool xsmm_open(contender *self) {
	xsmm *x = self->state = calloc(1, sizeof *x);
	bench_need(x != NULL, "memory", "too little");
	libxsmm_init();
	x->threads = self->threads;
	x->pool = self->threads > 1 ? pthreadpool_create((size_t)self->threads) : NULL;
	snprintf(self->detail, sizeof self->detail, "LIBXSMM %s, spmdm for %s", LIBXSMM_VERSION, libxsmm_get_target_arch());
	return true;
}

static int xsmm_prepare(contender *self, const operands *o) {
	xsmm *x = self->state;
	const bench_case *c = &o->c;
	if (c->op == DW)
		return 0;
	int rows = (int)(c->op == DX ? c->in : c->out), inner = (int)(c->op == DX ? c->out : c->in);
	x->o = o;
	x->w = c->op == DX ? o->turned_w : o->w;
	x->b = c->op == DX ? o->y : o->x;
	x->result = bench_floats((int64_t)rows * c->batch);
	libxsmm_spmdm_init(rows, (int)c->batch, inner, x->threads, &x->handle, &x->slices);
	for (int i = 0; i < libxsmm_spmdm_get_num_createSparseSlice_blocks(&x->handle); i++)
		libxsmm_spmdm_createSparseSlice_fp32_thread(&x->handle, 'N', x->w, x->slices, i, 0, 1);
	self->labels[0] = "spmdm";
	return 1;
}

static void part(void *argument, size_t thread) {
	xsmm *x = argument;
	const float one = 1, zero = 0;
	int blocks = libxsmm_spmdm_get_num_compute_blocks(&x->handle), threads = x->threads, t = (int)thread;
	for (int i = blocks * t / threads; i < blocks * (t + 1) / threads; i++)
		libxsmm_spmdm_compute_fp32_thread(&x->handle, 'N', 'N', &one, x->slices, x->b, 'N', &zero, x->result, i, t,
										  threads);
}

static void xsmm_run(contender *self, int variant) {
	xsmm *x = self->state;
	(void)variant;
	pthreadpool_parallelize_1d(x->pool, part, x, (size_t)x->threads, 0);
}

static void xsmm_result(contender *self, int variant, float *result) {
	xsmm *x = self->state;
	(void)variant;
	memcpy(result, x->result, (size_t)operands_result(x->o) * sizeof *result);
}

static void xsmm_finish(contender *self) {
	xsmm *x = self->state;
	libxsmm_spmdm_destroy(&x->handle);
	free(x->result);
}

static void xsmm_close(contender *self) {
	xsmm *x = self->state;
	pthreadpool_destroy(x->pool);
	free(x);
}

void contender_xsmm(contender *c) {
	*c = (contender){.name = "libxsmm",
					 .role = SPARSE,
					 .open = xsmm_open,
					 .prepare = xsmm_prepare,
					 .run = xsmm_run,
					 .result = xsmm_result,
					 .finish = xsmm_finish,
					 .close = xsmm_close};
}

#else

static bool xsmm_open(contender *self) {
	snprintf(self->detail, sizeof self->detail, "missing: libxsmm-dev was not there when this was built");
	return false;
}

void contender_xsmm(contender *c) {
	*c = (contender){.name = "libxsmm", .role = SPARSE, .open = xsmm_open};
}

#endif
