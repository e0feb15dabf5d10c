/* SPDX-License-Identifier: Apache-2.0 */
#include "results.h"

#include <stdlib.h>
#include <string.h>

#include "bench.h"

static void keep(results *r, const result *one) {
	if (r->count == r->room) {
		r->room = r->room ? 2 * r->room : 256;
		r->list = realloc(r->list, (size_t)r->room * sizeof *r->list);
		bench_need(r->list != NULL, "memory", "too little for the results");
	}
	r->list[r->count++] = *one;
}

static bool parse(const char *line, result *x) {
	char op[16], pattern[16];
	long long out, in, batch, nnz;
	*x = (result){0};
	int got = sscanf(line, "%7s %d %15s %lldx%lld %lld %lf %15s %lld %23s %7s %23[^\t] %lf %lf %lf %d %lf %lf %lf",
					 x->isa, &x->threads, op, &out, &in, &batch, &x->c.density, pattern, &nnz, x->contender, x->role,
					 x->variant, &x->median, &x->low, &x->high, &x->repetitions, &x->cold, &x->arithmetic, &x->bytes);
	if (got != 19)
		return false;
	x->c.out = out, x->c.in = in, x->c.batch = batch, x->nnz = nnz;
	for (x->c.op = FORWARD; x->c.op < OPS && strcmp(op, op_names[x->c.op]);)
		x->c.op = (bench_op)(x->c.op + 1);
	for (x->c.pattern = UNIFORM; x->c.pattern < PATTERNS && strcmp(pattern, pattern_names[x->c.pattern]);)
		x->c.pattern = (bench_pattern)(x->c.pattern + 1);
	return x->c.op < OPS && x->c.pattern < PATTERNS;
}

void results_open(results *r, const char *path, const char *machine) {
	char line[1024], first[1024];
	*r = (results){0};
	if (!path)
		return;
	snprintf(first, sizeof first, "# %s\n", machine);
	FILE *old = fopen(path, "r");
	bool begun = old && fgets(line, sizeof line, old);
	if (begun) {
		bench_need(!strcmp(line, first), path, "was measured on another machine or version: give another file");
		result x;
		while (fgets(line, sizeof line, old))
			if (line[0] != '#' && strchr(line, '\n') && parse(line, &x)) /* a cut line was not finished */
				keep(r, &x);
	}
	if (old)
		fclose(old);
	r->file = fopen(path, "a");
	bench_need(r->file != NULL, path, "cannot be written");
	if (!begun)
		fprintf(r->file,
				"%s# isa threads op shape batch density pattern nnz contender role variant median_s low_s "
				"high_s repetitions cold_s arithmetic_floor_s byte_floor_s\n",
				first);
	else
		fputc('\n', r->file); /* ends a line that an interruption cut */
}

void results_add(results *r, const result *x) {
	keep(r, x);
	if (!r->file)
		return;
	fprintf(r->file, "%s\t%d\t%s\t%lldx%lld\t%lld\t%g\t%s\t%lld\t%s\t%s\t%s\t%.4g\t%.4g\t%.4g\t%d\t%.4g\t%.4g\t%.4g\n",
			x->isa, x->threads, op_names[x->c.op], (long long)x->c.out, (long long)x->c.in, (long long)x->c.batch,
			x->c.density, pattern_names[x->c.pattern], (long long)x->nnz, x->contender, x->role, x->variant, x->median,
			x->low, x->high, x->repetitions, x->cold, x->arithmetic, x->bytes);
	fflush(r->file);
}

static bool same(const bench_case *a, const bench_case *b) {
	return a->op == b->op && a->out == b->out && a->in == b->in && a->batch == b->batch && a->pattern == b->pattern &&
		   a->density == b->density;
}

bool results_have(const results *r, const char *isa, int threads, const bench_case *c, const char *contender) {
	for (int i = 0; i < r->count; i++) {
		const result *x = &r->list[i];
		if (x->threads == threads && same(&x->c, c) && !strcmp(x->isa, isa) && !strcmp(x->contender, contender))
			return true;
	}
	return false;
}

void results_close(results *r) {
	if (r->file)
		fclose(r->file);
	free(r->list);
}
