/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "contender.h"

#ifdef SL_WITH_ONEDNN
#include <dnnl.h>

/*
 * oneDNN's matmul primitive in layouts of its own choice, made ahead of time: of the weights alone, or of all three
 * matrices, as a chain of its primitives would keep them.
 */
typedef struct product {
	dnnl_primitive_t primitive;
	dnnl_memory_t memory[3]; /* source, weights, destination */
} product;

typedef struct matmul {
	dnnl_engine_t engine;
	dnnl_stream_t stream;
	const operands *o;
	product products[2];
	int count;
	dnnl_dims_t dims[3];
} matmul;

static void must(dnnl_status_t status, const char *what) {
	char text[32];
	snprintf(text, sizeof text, "status %d", (int)status);
	bench_need(status == dnnl_success, what, text);
}

static bool matmul_open(contender *self) {
	matmul *m = self->state = calloc(1, sizeof *m);
	bench_need(m != NULL, "memory", "too little");
	must(dnnl_engine_create(&m->engine, dnnl_cpu, 0), "dnnl_engine_create");
	must(dnnl_stream_create(&m->stream, m->engine, dnnl_stream_default_flags), "dnnl_stream_create");
	const dnnl_version_t *v = dnnl_version();
	snprintf(self->detail, sizeof self->detail, "oneDNN %d.%d.%d, matmul in layouts of its own", v->major, v->minor,
			 v->patch);
	return true;
}

/* Copies between a plain matrix and a memory of any layout. */
static void reorder(matmul *m, dnnl_memory_t memory, const dnnl_memory_desc_t *desc, float *plain,
					const dnnl_memory_desc_t *plain_desc, bool into_memory) {
	dnnl_memory_t other;
	dnnl_primitive_desc_t how;
	dnnl_primitive_t primitive;
	must(dnnl_memory_create(&other, plain_desc, m->engine, plain), "dnnl_memory_create");
	must(dnnl_reorder_primitive_desc_create(&how, into_memory ? plain_desc : desc, m->engine,
											into_memory ? desc : plain_desc, m->engine, NULL),
		 "dnnl_reorder_primitive_desc_create");
	must(dnnl_primitive_create(&primitive, how), "dnnl_primitive_create");
	dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, into_memory ? other : memory},
							  {DNNL_ARG_TO, into_memory ? memory : other}};
	must(dnnl_primitive_execute(primitive, m->stream, 2, args), "reorder");
	must(dnnl_stream_wait(m->stream), "dnnl_stream_wait");
	dnnl_primitive_destroy(primitive);
	dnnl_primitive_desc_destroy(how);
	dnnl_memory_destroy(other);
}

static void plain_desc(const matmul *m, int which, dnnl_memory_desc_t *desc, bool any) {
	must(dnnl_memory_desc_init_by_tag(desc, 2, m->dims[which], dnnl_f32, any ? dnnl_format_tag_any : dnnl_ab),
		 "dnnl_memory_desc_init_by_tag");
}

static void make_product(matmul *m, product *p, const bool *any, const float *source, const float *weights) {
	static const dnnl_query_t queries[] = {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md};
	const float *from[] = {source, weights, NULL};
	dnnl_memory_desc_t desc[3];
	dnnl_matmul_desc_t op;
	dnnl_primitive_desc_t how;
	for (int i = 0; i < 3; i++)
		plain_desc(m, i, &desc[i], any[i]);
	must(dnnl_matmul_desc_init(&op, &desc[0], &desc[1], NULL, &desc[2]), "dnnl_matmul_desc_init");
	must(dnnl_primitive_desc_create(&how, &op, NULL, m->engine, NULL), "dnnl_primitive_desc_create");
	for (int i = 0; i < 3; i++) {
		const dnnl_memory_desc_t *chosen = dnnl_primitive_desc_query_md(how, queries[i], 0);
		dnnl_memory_desc_t plain;
		must(dnnl_memory_create(&p->memory[i], chosen, m->engine, DNNL_MEMORY_ALLOCATE), "dnnl_memory_create");
		plain_desc(m, i, &plain, false);
		if (from[i])
			reorder(m, p->memory[i], chosen, (float *)from[i], &plain, true);
	}
	must(dnnl_primitive_create(&p->primitive, how), "dnnl_primitive_create");
	dnnl_primitive_desc_destroy(how);
}

static int matmul_prepare(contender *self, const operands *o) {
	static const bool any[2][3] = {{false, true, false}, {true, true, true}};
	matmul *m = self->state;
	int64_t out = o->c.out, in = o->c.in, batch = o->c.batch;
	/* [batch, features] as source; for dW dY is the source and X the "weights". */
	int64_t rows = o->c.op == DW ? out : batch, inner = o->c.op == DW ? batch : o->c.op == DX ? out : in;
	int64_t cols = o->c.op == FORWARD ? out : in;
	const float *source = o->c.op == DW ? o->y : o->c.op == DX ? o->turned_y : o->turned_x;
	const float *weights = o->c.op == DW ? o->turned_x : o->c.op == DX ? o->w : o->turned_w;
	m->o = o;
	memcpy(m->dims[0], (dnnl_dims_t){rows, inner}, sizeof(dnnl_dims_t));
	memcpy(m->dims[1], (dnnl_dims_t){inner, cols}, sizeof(dnnl_dims_t));
	memcpy(m->dims[2], (dnnl_dims_t){rows, cols}, sizeof(dnnl_dims_t));
	for (int v = 0; v < 2; v++)
		make_product(m, &m->products[v], any[v], source, weights);
	self->labels[0] = "weights", self->labels[1] = "all";
	return 2;
}

static void matmul_run(contender *self, int variant) {
	matmul *m = self->state;
	product *p = &m->products[variant];
	dnnl_exec_arg_t args[] = {
		{DNNL_ARG_SRC, p->memory[0]}, {DNNL_ARG_WEIGHTS, p->memory[1]}, {DNNL_ARG_DST, p->memory[2]}};
	dnnl_primitive_execute(p->primitive, m->stream, 3, args);
	dnnl_stream_wait(m->stream);
}

static void matmul_result(contender *self, int variant, float *result) {
	matmul *m = self->state;
	product *p = &m->products[variant];
	const operands *o = m->o;
	const dnnl_memory_desc_t *desc;
	dnnl_memory_desc_t plain;
	float *whole = bench_floats(m->dims[2][0] * m->dims[2][1]);
	must(dnnl_memory_get_memory_desc(p->memory[2], &desc), "dnnl_memory_get_memory_desc");
	plain_desc(m, 2, &plain, false);
	reorder(m, p->memory[2], desc, whole, &plain, false);
	if (o->c.op == DW) {
		for (int64_t r = 0; r < o->c.out; r++)
			for (int64_t k = o->offsets[r]; k < o->offsets[r + 1]; k++)
				result[k] = whole[r * o->c.in + o->columns[k]];
	} else {
		bench_turn(whole, m->dims[2][0], m->dims[2][1], result);
	}
	free(whole);
}

static void matmul_finish(contender *self) {
	matmul *m = self->state;
	for (int v = 0; v < 2; v++) {
		dnnl_primitive_destroy(m->products[v].primitive);
		for (int i = 0; i < 3; i++)
			dnnl_memory_destroy(m->products[v].memory[i]);
	}
}

static void matmul_close(contender *self) {
	matmul *m = self->state;
	dnnl_stream_destroy(m->stream);
	dnnl_engine_destroy(m->engine);
	free(m);
}

void contender_onednn_matmul(contender *c) {
	*c = (contender){.name = "onednn-matmul",
					 .role = DENSE,
					 .open = matmul_open,
					 .prepare = matmul_prepare,
					 .run = matmul_run,
					 .result = matmul_result,
					 .finish = matmul_finish,
					 .close = matmul_close};
}

#else

static bool matmul_open(contender *self) {
	snprintf(self->detail, sizeof self->detail, "built without oneDNN");
	return false;
}

void contender_onednn_matmul(contender *c) {
	*c = (contender){.name = "onednn-matmul", .role = DENSE, .open = matmul_open};
}

#endif
