/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sparselayer/sparselayer.h>

#include "bench.h"
#include "contender.h"

/*
 * This library: activations in panels, as the layer before leaves them. Thrice: products that run sparse, products that
 * run dense from the same sparse matrix, and what its planner chooses after a calibration of its own.
 */
typedef struct ours {
	sl_context *context;
	const operands *o;
	sl_csr *w;
	sl_dense x, y;
	sl_plan *plan;
} ours;

static void must(ours *m, sl_status status) {
	bench_need(status == SL_OK, sl_status_text(status), sl_context_message(m->context));
}

static bool open_as(contender *self, sl_plan_mode mode) {
	ours *m = self->state = calloc(1, sizeof *m);
	char error[256] = "";
	bench_need(m != NULL, "memory", "too little");
	sl_status status = sl_context_create(
		&m->context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = self->threads,
										   .seed = 1, .plan_mode = mode, .calibration = CALIBRATION, .error = error,
										   .error_size = sizeof error});
	bench_need(status == SL_OK, sl_status_text(status), error);
	if (mode == SL_PLAN_AUTO)
		must(m, sl_calibrate(m->context));
	snprintf(self->detail, sizeof self->detail, "%s, %s", sl_version_string(), sl_context_describe(m->context));
	return true;
}

static bool ours_open(contender *self) {
	return open_as(self, SL_PLAN_SPARSE);
}

static bool auto_open(contender *self) {
	return open_as(self, SL_PLAN_AUTO);
}

static bool tiles_open(contender *self) {
	return open_as(self, SL_PLAN_DENSE);
}

static int64_t width_of(int64_t batch) {
	return batch <= 1 ? 1 : batch <= 8 ? 8 : batch <= 16 ? 16 : batch <= 32 ? 32 : 64;
}

static sl_dense panels(ours *m, const float *from, int64_t rows, int64_t batch) {
	sl_dense view = sl_dense_view(NULL, SL_F32, rows, batch), whole = sl_dense_view(from, SL_F32, rows, batch);
	view.order = SL_COL_PANELS;
	view.ld = width_of(batch);
	view.data = bench_floats(rows * ((batch + view.ld - 1) / view.ld * view.ld));
	must(m, sl_dense_copy(m->context, &whole, &view));
	return view;
}

static int ours_prepare(contender *self, const operands *o) {
	ours *m = self->state;
	const bench_case *c = &o->c;
	m->o = o;
	must(m, sl_csr_create(&m->w, m->context, c->out, c->in, o->nnz, o->offsets, SL_I32, o->columns, SL_I32, o->values,
						  SL_F32, NULL));
	m->x = panels(m, o->x, c->in, c->batch);
	m->y = panels(m, o->y, c->out, c->batch);
	sl_dense turned = sl_dense_transposed(m->x);
	if (c->op == DW)
		must(m, sl_plan_sddmm(&m->plan, m->context, &m->y, &turned, m->w));
	else
		must(m, sl_plan_spmm(&m->plan, m->context, c->op == DX ? SL_TRANSPOSE : SL_NO_TRANSPOSE, m->w,
							 c->op == DX ? &m->y : &m->x, c->op == DX ? &m->x : &m->y, NULL));
	self->labels[0] = sl_plan_is_dense(m->plan) ? "dense" : "sparse";
	return 1;
}

static void ours_run(contender *self, int variant) {
	ours *m = self->state;
	(void)variant;
	sl_dense turned = sl_dense_transposed(m->x);
	if (m->o->c.op == FORWARD)
		must(m, sl_plan_run_spmm(m->context, m->plan, 1, m->w, &m->x, 0, &m->y, NULL));
	else if (m->o->c.op == DX)
		must(m, sl_plan_run_spmm(m->context, m->plan, 1, m->w, &m->y, 0, &m->x, NULL));
	else
		must(m, sl_plan_run_sddmm(m->context, m->plan, 1, &m->y, &turned, 0, m->w));
}

static void ours_result(contender *self, int variant, float *result) {
	ours *m = self->state;
	(void)variant;
	if (m->o->c.op == DW) {
		memcpy(result, sl_csr_values(m->w), (size_t)m->o->nnz * sizeof *result);
		return;
	}
	sl_dense *from = m->o->c.op == DX ? &m->x : &m->y;
	sl_dense whole = sl_dense_view(result, SL_F32, from->rows, from->cols);
	must(m, sl_dense_copy(m->context, from, &whole));
}

static void ours_finish(contender *self) {
	ours *m = self->state;
	sl_plan_destroy(m->plan);
	sl_csr_destroy(m->w);
	free(m->x.data), free(m->y.data);
}

static void ours_close(contender *self) {
	ours *m = self->state;
	sl_context_destroy(m->context);
	free(m);
}

void contender_ours(contender *c) {
	*c = (contender){.name = "sparselayer",
					 .role = OURS,
					 .open = ours_open,
					 .prepare = ours_prepare,
					 .run = ours_run,
					 .result = ours_result,
					 .finish = ours_finish,
					 .close = ours_close};
}

void contender_auto(contender *c) {
	contender_ours(c);
	c->name = "auto", c->role = PLANNED, c->open = auto_open;
}

void contender_tiles(contender *c) {
	contender_ours(c);
	c->name = "auto-dense", c->role = PLANNED, c->open = tiles_open;
}
