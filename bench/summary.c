/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "results.h"

/* All contenders of one case, in one setting. */
typedef struct group {
	const result *ours, *dense, *sgemm; /* dense: the fastest */
	const result *all[32];
	int count;
} group;

static bool alike(const result *a, const result *b) {
	return a->threads == b->threads && !strcmp(a->isa, b->isa) && a->c.op == b->c.op && a->c.out == b->c.out &&
		   a->c.in == b->c.in && a->c.batch == b->c.batch && a->c.pattern == b->c.pattern &&
		   a->c.density == b->c.density;
}

/* Groups the results; what was measured again replaces what was. */
static int grouped(const results *r, group *groups) {
	int count = 0;
	for (int i = 0; i < r->count; i++) {
		const result *x = &r->list[i];
		int g = count - 1, k = 0;
		while (g >= 0 && !alike(groups[g].all[0], x))
			g--;
		if (!x->repetitions)
			continue;
		if (g < 0)
			groups[g = count++] = (group){0};
		while (k < groups[g].count && strcmp(groups[g].all[k]->contender, x->contender))
			k++;
		if (k == 32)
			continue;
		groups[g].all[k] = x;
		groups[g].count += k == groups[g].count;
	}
	for (int g = 0; g < count; g++)
		for (int k = 0; k < groups[g].count; k++) {
			const result *x = groups[g].all[k];
			if (!strcmp(x->contender, "sparselayer"))
				groups[g].ours = x;
			if (!strcmp(x->contender, "onednn"))
				groups[g].sgemm = x;
			if (!strcmp(x->role, "dense") && (!groups[g].dense || x->median < groups[g].dense->median))
				groups[g].dense = x;
		}
	return count;
}

typedef struct mean {
	double sum;
	int count;
} mean;

static void mean_add(mean *m, double ratio) {
	m->sum += log(ratio);
	m->count++;
}

static void mean_print(const mean *m, const char *format, const char *isa, int threads, const char *a, const char *b) {
	char name[128], suffix[16] = "";
	if (!m->count)
		return;
	int at = snprintf(name, sizeof name, format, strcmp(isa, "best") ? ".avx2" : "", a, b);
	if (threads > 1)
		snprintf(suffix, sizeof suffix, ".t%d", threads);
	snprintf(name + at, sizeof name - (size_t)at, "%s", suffix);
	bench_result(name, exp(m->sum / m->count));
}

static double real_density(const result *x) {
	return (double)x->nnz / ((double)x->c.out * (double)x->c.in);
}

/* Shapes of 512 and more on both sides, batches of 64 and more. */
static bool large(const bench_case *c) {
	return c->out >= 512 && c->in >= 512 && c->batch >= 64;
}

static void efficiencies(const group *groups, int count, const char *isa, int threads, bench_op op) {
	for (int d = 100; d > 0; d--) {
		mean e = {0}, speed = {0};
		char density[16];
		for (int g = 0; g < count; g++) {
			const result *x = groups[g].ours, *dense = groups[g].dense;
			if (!x || !dense || x->c.op != op || !large(&x->c) || lround(100 * x->c.density) != d ||
				x->threads != threads || strcmp(x->isa, isa))
				continue;
			mean_add(&e, real_density(x) * dense->median / x->median);
			mean_add(&speed, dense->median / x->median);
		}
		snprintf(density, sizeof density, "d%02d", d);
		mean_print(&e, "efficiency%s.%s.%s", isa, threads, op_names[op], density);
		mean_print(&speed, "speedup%s.%s.%s", isa, threads, op_names[op], density);
	}
}

/* Their time over ours: on batches above 1, and on single vectors. */
static void peers(const group *groups, int count, const char *isa, int threads, bench_op op, const char *name) {
	mean wide = {0}, single = {0};
	for (int g = 0; g < count; g++) {
		const result *x = groups[g].ours;
		if (!x || x->c.op != op || x->threads != threads || strcmp(x->isa, isa))
			continue;
		for (int k = 0; k < groups[g].count; k++)
			if (!strcmp(groups[g].all[k]->contender, name))
				mean_add(x->c.batch == 1 ? &single : &wide, groups[g].all[k]->median / x->median);
	}
	mean_print(&wide, "peer%s.%s.%s", isa, threads, name, op_names[op]);
	mean_print(&single, "peer%s.%s.%s.batch1", isa, threads, name, op_names[op]);
}

/* What the planner chose over the better of pure sparse and pure dense, be it written out tile by tile or there from
 * the start (dnnl_sgemm). One op, or with OPS all. */
static void plans(const group *groups, int count, const char *isa, int threads, bench_op op, double *ratios) {
	mean m = {0};
	for (int g = 0; g < count; g++) {
		const result *x = groups[g].ours, *planned = NULL;
		double best = x ? x->median : 0;
		if (!x || (op != OPS && x->c.op != op) || x->threads != threads || strcmp(x->isa, isa))
			continue;
		for (int k = 0; k < groups[g].count; k++) {
			const result *other = groups[g].all[k];
			if (!strcmp(other->contender, "auto"))
				planned = other;
			else if (!strcmp(other->contender, "auto-dense") || other == groups[g].sgemm)
				best = fmin(best, other->median);
		}
		if (!planned)
			continue;
		ratios[m.count] = planned->median / best;
		mean_add(&m, ratios[m.count]);
	}
	if (!m.count)
		return;
	mean p99 = {log(bench_quantile(ratios, m.count, 0.99)), 1};
	mean_print(&m, "auto%s.%s%s", isa, threads, op == OPS ? "" : op_names[op], op == OPS ? "geomean" : ".geomean");
	mean_print(&p99, "auto%s.%s%s", isa, threads, op == OPS ? "" : op_names[op], op == OPS ? "p99" : ".p99");
}

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void floors(const group *groups, int count, const char *isa, int threads, bench_op op, double *ratios) {
	int have = 0;
	for (int g = 0; g < count; g++) {
		const result *x = groups[g].ours;
		if (x && x->c.op == op && large(&x->c) && x->threads == threads && !strcmp(x->isa, isa))
			ratios[have++] = x->median / fmax(x->arithmetic, x->bytes);
	}
	if (!have)
		return;
	qsort(ratios, (size_t)have, sizeof *ratios, ascending);
	mean m = {log(have % 2 ? ratios[have / 2] : 0.5 * (ratios[have / 2 - 1] + ratios[have / 2])), 1};
	mean_print(&m, "floor%s.%s.%s", isa, threads, op_names[op], "median");
}

/* A dense library that is slow is no baseline: seen against dnnl_sgemm over the large cases. */
static void dense_share(const group *groups, int count, const char *isa, int threads, const char *name) {
	mean m = {0};
	for (int g = 0; g < count; g++)
		for (int k = 0; k < groups[g].count && groups[g].sgemm; k++) {
			const result *x = groups[g].all[k];
			if (!strcmp(x->contender, name) && large(&x->c) && x->threads == threads && !strcmp(x->isa, isa))
				mean_add(&m, groups[g].sgemm->median / x->median);
		}
	mean_print(&m, "dense%s.%s.%s", isa, threads, name, "of_dnnl_sgemm");
	if (m.count && exp(m.sum / m.count) < 0.7)
		printf("# %s is below 70 %% of dnnl_sgemm here: no peer\n", name);
}

/* The different values of a field, in order of appearance. */
static int distinct(const results *r, const char *role, const char **names) {
	int count = 0;
	for (int i = 0; i < r->count; i++) {
		int k = 0;
		if (strcmp(r->list[i].role, role))
			continue;
		while (k < count && strcmp(names[k], r->list[i].contender))
			k++;
		if (k == count && count < 32)
			names[count++] = r->list[i].contender;
	}
	return count;
}

void results_summary(const results *r, const char *isa, int threads) {
	group *groups = calloc((size_t)r->count + 1, sizeof *groups);
	double *ratios = calloc((size_t)r->count + 1, sizeof *ratios);
	const char *sparse[32], *dense[32];
	bench_need(groups && ratios, "memory", "too little for the summary");
	int count = grouped(r, groups), sparses = distinct(r, "sparse", sparse), denses = distinct(r, "dense", dense);
	for (bench_op op = FORWARD; op < OPS; op = (bench_op)(op + 1)) {
		efficiencies(groups, count, isa, threads, op);
		floors(groups, count, isa, threads, op, ratios);
		for (int p = 0; p < sparses; p++)
			peers(groups, count, isa, threads, op, sparse[p]);
	}
	for (bench_op op = FORWARD; op <= OPS; op = (bench_op)(op + 1))
		plans(groups, count, isa, threads, op, ratios);
	for (int d = 0; d < denses; d++)
		dense_share(groups, count, isa, threads, dense[d]);
	free(groups), free(ratios);
}
