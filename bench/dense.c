/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef SL_WITH_ONEDNN
#include <dnnl.h>
void omp_set_num_threads(int threads);
#endif

#include "bench.h"
#include "contender.h"

/*
 * Dense libraries through sgemm: C[m, n] = op(A) op(B), row-major. Variants are the layouts there are to keep
 * activations and weights in: [features, batch] or [batch, features], and W as it is or turned ahead of time.
 */
typedef void (*sgemm)(void *how, bool turn_a, bool turn_b, int64_t m, int64_t n, int64_t k, const float *a,
					  const float *b, float *c);
typedef struct dense {
	sgemm gemm;
	void *how;
	const operands *o;
	float *c;
	struct product {
		bool turn_a, turn_b;
		int64_t m, n, k;
		const float *a, *b;
		bool turned; /* the result is [batch, features], or dW turned */
	} variants[MOST_VARIANTS];
} dense;

static dense *dense_state(contender *self, sgemm gemm, void *how) {
	dense *d = self->state = calloc(1, sizeof *d);
	bench_need(d != NULL, "memory", "too little");
	d->gemm = gemm, d->how = how;
	return d;
}

static int dense_prepare(contender *self, const operands *o) {
	dense *d = self->state;
	int64_t out = o->c.out, in = o->c.in, batch = o->c.batch;
	int count;
	d->o = o;
	if (o->c.op == FORWARD) {
		d->variants[0] = (struct product){false, false, out, batch, in, o->w, o->x, false};
		d->variants[1] = (struct product){false, true, batch, out, in, o->turned_x, o->w, true};
		d->variants[2] = (struct product){false, false, batch, out, in, o->turned_x, o->turned_w, true};
		count = 3;
	} else if (o->c.op == DX) {
		d->variants[0] = (struct product){true, false, in, batch, out, o->w, o->y, false};
		d->variants[1] = (struct product){false, false, in, batch, out, o->turned_w, o->y, false};
		d->variants[2] = (struct product){false, false, batch, in, out, o->turned_y, o->w, true};
		count = 3;
	} else {
		d->variants[0] = (struct product){false, true, out, in, batch, o->y, o->x, false};
		d->variants[1] = (struct product){true, false, out, in, batch, o->turned_y, o->turned_x, false};
		d->variants[2] = (struct product){false, false, out, in, batch, o->y, o->turned_x, false};
		count = 3;
	}
	for (int v = 0; v < count; v++) {
		static const char *const labels[] = {"NN", "NT", "TN", "TT"};
		self->labels[v] = labels[2 * d->variants[v].turn_a + d->variants[v].turn_b];
	}
	d->c = bench_floats(o->c.op == DW ? out * in : (out > in ? out : in) * batch);
	return count;
}

static void dense_run(contender *self, int variant) {
	dense *d = self->state;
	const struct product *p = &d->variants[variant];
	d->gemm(d->how, p->turn_a, p->turn_b, p->m, p->n, p->k, p->a, p->b, d->c);
}

static void dense_result(contender *self, int variant, float *result) {
	dense *d = self->state;
	const struct product *p = &d->variants[variant];
	if (d->o->c.op == DW) {
		for (int64_t r = 0; r < d->o->c.out; r++)
			for (int64_t k = d->o->offsets[r]; k < d->o->offsets[r + 1]; k++)
				result[k] = d->c[r * d->o->c.in + d->o->columns[k]];
	} else if (p->turned) {
		bench_turn(d->c, p->m, p->n, result);
	} else {
		memcpy(result, d->c, (size_t)(p->m * p->n) * sizeof *result);
	}
}

static void dense_finish(contender *self) {
	free(((dense *)self->state)->c);
}

static void dense_close(contender *self) {
	free(self->state);
}

static void dense_contender(contender *c, const char *name, bool (*open)(contender *)) {
	*c = (contender){.name = name,
					 .role = DENSE,
					 .open = open,
					 .prepare = dense_prepare,
					 .run = dense_run,
					 .result = dense_result,
					 .finish = dense_finish,
					 .close = dense_close};
}

#ifdef SL_WITH_ONEDNN
static void onednn_sgemm(void *how, bool turn_a, bool turn_b, int64_t m, int64_t n, int64_t k, const float *a,
						 const float *b, float *c) {
	(void)how;
	dnnl_sgemm(turn_a ? 'T' : 'N', turn_b ? 'T' : 'N', m, n, k, 1, a, turn_a ? m : k, b, turn_b ? k : n, 0, c, n);
}
#endif

static bool onednn_open(contender *self) {
#ifdef SL_WITH_ONEDNN
	omp_set_num_threads(self->threads);
	const dnnl_version_t *v = dnnl_version();
	snprintf(self->detail, sizeof self->detail, "oneDNN %d.%d.%d of Debian, dnnl_sgemm", v->major, v->minor, v->patch);
	dense_state(self, onednn_sgemm, NULL);
	return true;
#else
	snprintf(self->detail, sizeof self->detail, "built without oneDNN");
	return false;
#endif
}

void contender_onednn(contender *c) {
	dense_contender(c, "onednn", onednn_open);
}

/* CBLAS of whom it may concern, found at run time, so that it is no dependency. */
typedef void (*cblas_sgemm)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *,
							int);
typedef struct cblas {
	cblas_sgemm sgemm;
} cblas;
enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };

static void cblas_run(void *how, bool turn_a, bool turn_b, int64_t m, int64_t n, int64_t k, const float *a,
					  const float *b, float *c) {
	((cblas *)how)
		->sgemm(ROW_MAJOR, turn_a ? TRANSPOSE : NO_TRANSPOSE, turn_b ? TRANSPOSE : NO_TRANSPOSE, (int)m, (int)n, (int)k,
				1, a, (int)(turn_a ? m : k), b, (int)(turn_b ? k : n), 0, c, (int)n);
}

static bool cblas_open(contender *self, cblas *how, void *library, const char *prefix, const char *suffix,
					   const char *from, const char *hint) {
	if (!library) {
		snprintf(self->detail, sizeof self->detail, "missing: %s", hint);
		return false;
	}
	char name[96];
	snprintf(name, sizeof name, "%scblas_sgemm%s", prefix, suffix);
	*(void **)&how->sgemm = dlsym(library, name);
	void (*set_threads)(int);
	snprintf(name, sizeof name, "%sopenblas_set_num_threads%s", prefix, suffix);
	*(void **)&set_threads = dlsym(library, name);
	char *(*config)(void), *(*core)(void);
	snprintf(name, sizeof name, "%sopenblas_get_config%s", prefix, suffix);
	*(void **)&config = dlsym(library, name);
	snprintf(name, sizeof name, "%sopenblas_get_corename%s", prefix, suffix);
	*(void **)&core = dlsym(library, name);
	if (!how->sgemm || !set_threads) {
		snprintf(self->detail, sizeof self->detail, "missing: a library without cblas_sgemm");
		return false;
	}
	set_threads(self->threads);
	snprintf(self->detail, sizeof self->detail, "%s, %s, kernels for %s", from, config ? config() : "OpenBLAS",
			 core ? core() : "?");
	dense_state(self, cblas_run, how);
	return true;
}

/* Debian's takes CPUs it does not know for SSE3 ones: it is told what this one is. */
static bool openblas_debian_open(contender *self) {
	static const char *const names[] = {"libopenblasp.so.0", "libopenblas.so.0",
										"/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblasp-r0.3.21.so", NULL};
	static cblas how;
	const char *core = bench_isa() == 512 ? "SkylakeX" : bench_isa() == 2 ? "Haswell" : NULL;
	if (core)
		setenv("OPENBLAS_CORETYPE", core, 1);
	void *library = bench_library("", names);
	unsetenv("OPENBLAS_CORETYPE");
	return cblas_open(self, &how, library, "", "", "Debian's", "apt-get install libopenblas0-pthread");
}

void contender_openblas_debian(contender *c) {
	dense_contender(c, "openblas-debian", openblas_debian_open);
}

/* The newer one, which SciPy's wheels are built with. */
static bool openblas_pypi_open(contender *self) {
	static const char *const names[] = {"scipy_openblas32/lib/libscipy_openblas.so", NULL};
	static cblas how;
	if (bench_isa() == 2)
		setenv("OPENBLAS_CORETYPE", "Haswell", 1);
	void *library = bench_library("lib/python3*/site-packages", names);
	unsetenv("OPENBLAS_CORETYPE");
	return cblas_open(self, &how, library, "scipy_", "", "PyPI's", "bench/peers/install.sh");
}

void contender_openblas_pypi(contender *c) {
	dense_contender(c, "openblas", openblas_pypi_open);
}

static bool mkl_open(contender *self) {
	static cblas how;
	void *library = bench_mkl(self->detail, sizeof self->detail, self->threads);
	if (!library)
		return false;
	*(void **)&how.sgemm = dlsym(library, "cblas_sgemm");
	dense_state(self, cblas_run, &how);
	return how.sgemm != NULL;
}

void contender_mkl_dense(contender *c) {
	dense_contender(c, "mkl-sgemm", mkl_open);
}
