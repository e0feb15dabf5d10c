/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "contender.h"
#include "process.h"

/* Python's libraries as contenders; matrices go over in files that lie in memory. */
typedef struct python {
	process process;
	char labels[MOST_VARIANTS][24];
	const operands *o;
} python;

static bool python_open(contender *self) {
	python *p = self->state = calloc(1, sizeof *p);
	bench_need(p != NULL, "memory", "too little");
	if (process_start(&p->process, self->name, self->threads, self->detail, sizeof self->detail))
		return true;
	free(p);
	return false;
}

static void hand_over(const python *p, const char *name, const void *data, int64_t count) {
	char path[128];
	snprintf(path, sizeof path, "%s/%s", p->process.folder, name);
	FILE *file = fopen(path, "wb");
	bench_need(file && fwrite(data, 4, (size_t)count, file) == (size_t)count && !fclose(file), path,
			   "cannot be written");
}

/* Who ends in the middle takes part no more. */
static void lost(contender *self) {
	self->missing = true;
	fprintf(stderr, "# %s: its process has ended\n", self->name);
}

static int python_prepare(contender *self, const operands *o) {
	python *p = self->state;
	const bench_case *c = &o->c;
	char question[160], answer[512], *save;
	int count = 0;
	p->o = o;
	hand_over(p, "offsets", o->offsets, c->out + 1);
	hand_over(p, "columns", o->columns, o->nnz);
	hand_over(p, "values", o->values, o->nnz);
	hand_over(p, "x", o->x, c->in * c->batch);
	hand_over(p, "y", o->y, c->out * c->batch);
	snprintf(question, sizeof question, "case %s %lld %lld %lld\n", op_names[c->op], (long long)c->out,
			 (long long)c->in, (long long)c->batch);
	if (!process_ask(&p->process, question, answer, sizeof answer)) {
		lost(self);
		return 0;
	}
	for (char *label = strtok_r(answer, " ", &save); label && count < MOST_VARIANTS;
		 label = strtok_r(NULL, " ", &save)) {
		snprintf(p->labels[count], sizeof p->labels[count], "%s", label);
		self->labels[count] = p->labels[count];
		count++;
	}
	return count;
}

static void python_result(contender *self, int variant, float *result) {
	python *p = self->state;
	char text[128], answer[64];
	size_t count = (size_t)operands_result(p->o);
	snprintf(text, sizeof text, "result %d\n", variant);
	if (self->missing || !process_ask(&p->process, text, answer, sizeof answer)) {
		lost(self);
		return;
	}
	snprintf(text, sizeof text, "%s/result", p->process.folder);
	FILE *file = fopen(text, "rb");
	if (!file || fread(result, sizeof *result, count, file) != count)
		fprintf(stderr, "# %s: no result: %s\n", self->name, answer);
	if (file)
		fclose(file);
}

static int python_time(contender *self, int variant, double budget, int most, double *seconds) {
	python *p = self->state;
	int count = self->missing ? 0 : process_time(&p->process, variant, budget, most, seconds);
	if (!count)
		lost(self);
	return count;
}

static void python_finish(contender *self) {
	char answer[64];
	if (!self->missing)
		process_ask(&((python *)self->state)->process, "finish\n", answer, sizeof answer);
}

static void python_close(contender *self) {
	process_stop(&((python *)self->state)->process);
	free(self->state);
}

void contender_python(contender *c, const char *name) {
	*c = (contender){.name = name,
					 .role = SPARSE,
					 .open = python_open,
					 .prepare = python_prepare,
					 .time = python_time,
					 .result = python_result,
					 .finish = python_finish,
					 .close = python_close};
}
