/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "contender.h"

/*
 * MKL's inspector-executor: the matrix is hinted and optimized ahead of time, for W and, so that dX has its best
 * too, for W turned (whose values a training loop would have to refresh each step; that is not counted). Declared
 * here as in mkl_spblas.h (LP64), so that no header is needed.
 */
typedef struct descr {
	int type, mode, diag;
} descr;
enum { NO_TRANSPOSE = 10, TRANSPOSE = 11, GENERAL = 20, ROW_MAJOR = 101, COLUMN_MAJOR = 102, AGGRESSIVE = 81 };
enum { CALLS = 100000 };

static struct {
	int (*create)(void **, int, int, int, const int *, const int *, const int *, const float *);
	int (*set_mm_hint)(void *, int, descr, int, int, int);
	int (*set_mv_hint)(void *, int, descr, int);
	int (*set_memory_hint)(void *, int);
	int (*optimize)(void *);
	int (*mm)(int, float, void *, descr, int, const float *, int, int, float, float *, int);
	int (*mv)(int, float, void *, descr, const float *, float, float *);
	int (*destroy)(void *);
} mkl;

void *bench_mkl(char *detail, size_t size, int threads) {
	static const char *const openmp[] = {"libiomp5.so", NULL}, *const names[] = {"libmkl_rt.so.3", "libmkl_rt.so.2",
																				 NULL};
	static void *library;
	if (!library && bench_library("lib", openmp))
		library = bench_library("lib", names);
	if (!library) {
		snprintf(detail, size, "missing: bench/peers/install.sh");
		return NULL;
	}
	void (*set_threads)(int);
	void (*version)(char *, int);
	void (*blocktime)(int);
	*(void **)&set_threads = dlsym(library, "MKL_Set_Num_Threads");
	*(void **)&version = dlsym(library, "MKL_Get_Version_String");
	*(void **)&blocktime = dlsym(RTLD_DEFAULT, "kmp_set_blocktime");
	if (set_threads)
		set_threads(threads);
	char text[200] = "MKL";
	if (version)
		version(text, sizeof text - 1);
	for (size_t i = strlen(text); i > 0 && text[i - 1] == ' ';)
		text[--i] = 0;
	snprintf(detail, size, "%s", text);
	return library;
}

typedef struct sparse {
	const operands *o;
	void *matrices[MOST_VARIANTS]; /* a handle a variant, hinted for it */
	float *result;
} sparse;

static const descr general = {GENERAL, 0, 0};

static bool mkl_open(contender *self) {
	void *library = bench_mkl(self->detail, sizeof self->detail, self->threads);
	if (!library)
		return false;
	*(void **)&mkl.create = dlsym(library, "mkl_sparse_s_create_csr");
	*(void **)&mkl.set_mm_hint = dlsym(library, "mkl_sparse_set_mm_hint");
	*(void **)&mkl.set_mv_hint = dlsym(library, "mkl_sparse_set_mv_hint");
	*(void **)&mkl.set_memory_hint = dlsym(library, "mkl_sparse_set_memory_hint");
	*(void **)&mkl.optimize = dlsym(library, "mkl_sparse_optimize");
	*(void **)&mkl.mm = dlsym(library, "mkl_sparse_s_mm");
	*(void **)&mkl.mv = dlsym(library, "mkl_sparse_s_mv");
	*(void **)&mkl.destroy = dlsym(library, "mkl_sparse_destroy");
	if (!mkl.create || !mkl.set_mm_hint || !mkl.set_mv_hint || !mkl.set_memory_hint || !mkl.optimize || !mkl.mm ||
		!mkl.mv || !mkl.destroy) {
		snprintf(self->detail, sizeof self->detail, "missing: an MKL without inspector-executor routines");
		return false;
	}
	self->state = calloc(1, sizeof(sparse));
	return self->state != NULL;
}

static void must(int status, const char *what) {
	char text[32];
	snprintf(text, sizeof text, "status %d", status);
	bench_need(status == 0, what, text);
}

/* Variants: bit 0 the dense matrices' layout, bit 1 (dX alone) W turned ahead of time. Batch 1: 0 and 1 are
 * mkl_sparse_s_mv of W and of W turned. */
static int mkl_prepare(contender *self, const operands *o) {
	sparse *s = self->state;
	const bench_case *c = &o->c;
	if (c->op == DW)
		return 0;
	s->o = o;
	bool vector = c->batch == 1;
	int count = vector ? (c->op == DX ? 2 : 1) : c->op == DX ? 4 : 2;
	for (int v = 0; v < count; v++) {
		bool turned = c->op == DX && (vector ? v == 1 : v >= 2);
		int operation = c->op == DX && !turned ? TRANSPOSE : NO_TRANSPOSE;
		if (turned)
			must(mkl.create(&s->matrices[v], 0, (int)c->in, (int)c->out, o->turned_offsets, o->turned_offsets + 1,
							o->turned_columns, o->turned_values),
				 "mkl_sparse_s_create_csr");
		else
			must(mkl.create(&s->matrices[v], 0, (int)c->out, (int)c->in, o->offsets, o->offsets + 1, o->columns,
							o->values),
				 "mkl_sparse_s_create_csr");
		/* Some releases refuse a hint they have no use for; the product runs all the same. */
		if (vector)
			mkl.set_mv_hint(s->matrices[v], operation, general, CALLS);
		else
			mkl.set_mm_hint(s->matrices[v], operation, general, v & 1 ? COLUMN_MAJOR : ROW_MAJOR, (int)c->batch, CALLS);
		mkl.set_memory_hint(s->matrices[v], AGGRESSIVE);
		must(mkl.optimize(s->matrices[v]), "mkl_sparse_optimize");
		static const char *const wide[] = {"rows", "columns", "turned rows", "turned columns"};
		static const char *const narrow[] = {"mv", "turned mv"};
		self->labels[v] = vector ? narrow[v] : wide[v];
	}
	s->result = bench_floats((c->out > c->in ? c->out : c->in) * c->batch);
	return count;
}

static void mkl_run(contender *self, int variant) {
	sparse *s = self->state;
	const bench_case *c = &s->o->c;
	bool forward = c->op == FORWARD, vector = c->batch == 1;
	int operation = !forward && (vector ? variant == 0 : variant < 2) ? TRANSPOSE : NO_TRANSPOSE;
	if (vector) {
		mkl.mv(operation, 1, s->matrices[variant], general, forward ? s->o->x : s->o->y, 0, s->result);
	} else if (variant & 1) {
		mkl.mm(operation, 1, s->matrices[variant], general, COLUMN_MAJOR, forward ? s->o->turned_x : s->o->turned_y,
			   (int)c->batch, (int)(forward ? c->in : c->out), 0, s->result, (int)(forward ? c->out : c->in));
	} else {
		mkl.mm(operation, 1, s->matrices[variant], general, ROW_MAJOR, forward ? s->o->x : s->o->y, (int)c->batch,
			   (int)c->batch, 0, s->result, (int)c->batch);
	}
}

static void mkl_result(contender *self, int variant, float *result) {
	sparse *s = self->state;
	const bench_case *c = &s->o->c;
	int64_t rows = c->op == FORWARD ? c->out : c->in;
	if (c->batch > 1 && (variant & 1))
		bench_turn(s->result, c->batch, rows, result);
	else
		memcpy(result, s->result, (size_t)(rows * c->batch) * sizeof *result);
}

static void mkl_finish(contender *self) {
	sparse *s = self->state;
	for (int v = 0; v < MOST_VARIANTS; v++)
		if (s->matrices[v]) {
			mkl.destroy(s->matrices[v]);
			s->matrices[v] = NULL;
		}
	free(s->result);
}

static void mkl_close(contender *self) {
	free(self->state);
}

void contender_mkl_sparse(contender *c) {
	*c = (contender){.name = "mkl",
					 .role = SPARSE,
					 .open = mkl_open,
					 .prepare = mkl_prepare,
					 .run = mkl_run,
					 .result = mkl_result,
					 .finish = mkl_finish,
					 .close = mkl_close};
}
