/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contenders that live in a process of their own: Python's libraries. The script is asked through a pipe, line by
 * line, and answers so (see peers/peer.py); matrices go through files in memory. While it waits it takes no core.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "contender.h"

typedef struct process {
	pid_t id;
	FILE *to, *from;
	char labels[MOST_VARIANTS][24], folder[64];
	const operands *o;
} process;

/* The answer to a line, without its newline; NULL: the process has ended. */
static char *ask(process *p, const char *question, char *answer, size_t size) {
	fputs(question, p->to);
	if (fflush(p->to) || !fgets(answer, (int)size, p->from))
		return NULL;
	answer[strcspn(answer, "\n")] = 0;
	return answer;
}

static bool start(process *p, const char *script, int threads) {
	int to[2], from[2];
	char python[512], count[16];
	snprintf(python, sizeof python, "%s/bin/python", bench_venv());
	snprintf(count, sizeof count, "%d", threads);
	if (access(python, X_OK) || pipe(to) || pipe(from))
		return false;
	signal(SIGPIPE, SIG_IGN);
	p->id = fork();
	if (p->id == 0) {
		dup2(to[0], 0), dup2(from[1], 1);
		for (int fd = 3; fd < 256; fd++)
			close(fd);
		execl(python, python, script, count, p->folder, (char *)NULL);
		_exit(127);
	}
	close(to[0]), close(from[1]);
	p->to = fdopen(to[1], "w"), p->from = fdopen(from[0], "r");
	return p->id > 0 && p->to && p->from;
}

static void stop(process *p) {
	if (p->to)
		fclose(p->to);
	if (p->from)
		fclose(p->from);
	if (p->id > 0)
		waitpid(p->id, NULL, 0);
	static const char *const files[] = {"offsets", "columns", "values", "x", "y", "result"};
	for (int i = 0; i < 6; i++) {
		char path[128];
		snprintf(path, sizeof path, "%s/%s", p->folder, files[i]);
		unlink(path);
	}
	rmdir(p->folder);
}

static bool process_open(contender *self) {
	char script[64], answer[200] = "";
	process *p = self->state = calloc(1, sizeof *p);
	bench_need(p != NULL, "memory", "too little");
	snprintf(p->folder, sizeof p->folder, "/dev/shm/sl-bench-XXXXXX");
	bench_need(mkdtemp(p->folder) != NULL, p->folder, "cannot be made");
	snprintf(script, sizeof script, "bench/peers/peer_%s.py", self->name); /* bench-ops runs in the repository's root */
	if (!start(p, script, self->threads) || !ask(p, "hello\n", answer, sizeof answer) || strncmp(answer, "ready ", 6)) {
		snprintf(self->detail, sizeof self->detail, "missing: %.200s",
				 p->from && !strncmp(answer, "missing ", 8) ? answer + 8 : "bench/peers/install.sh");
		stop(p);
		free(p);
		self->state = NULL;
		return false;
	}
	snprintf(self->detail, sizeof self->detail, "%s", answer + 6);
	return true;
}

static void hand_over(const process *p, const char *name, const void *data, int64_t count) {
	char path[128];
	snprintf(path, sizeof path, "%s/%s", p->folder, name);
	FILE *file = fopen(path, "wb");
	bench_need(file && fwrite(data, 4, (size_t)count, file) == (size_t)count && !fclose(file), path,
			   "cannot be written");
}

/* Whoever ends in the middle takes part no more. */
static void lost(contender *self) {
	self->missing = true;
	fprintf(stderr, "# %s: its process has ended\n", self->name);
}

static int process_prepare(contender *self, const operands *o) {
	process *p = self->state;
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
	if (!ask(p, question, answer, sizeof answer)) {
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

static void process_result(contender *self, int variant, float *result) {
	process *p = self->state;
	char text[128];
	size_t count = (size_t)operands_result(p->o);
	snprintf(text, sizeof text, "result %d\n", variant);
	char answer[64];
	if (!ask(p, text, answer, sizeof answer)) {
		lost(self);
		return;
	}
	snprintf(text, sizeof text, "%s/result", p->folder);
	FILE *file = fopen(text, "rb");
	if (!file || fread(result, sizeof *result, count, file) != count)
		fprintf(stderr, "# %s: no result: %s\n", self->name, answer);
	if (file)
		fclose(file);
}

static int process_time(contender *self, int variant, double budget, int most, double *seconds) {
	process *p = self->state;
	char question[128], answer[32768], *save;
	int count = 0;
	snprintf(question, sizeof question, "time %d %.6f %d\n", variant, budget, most);
	if (self->missing || !ask(p, question, answer, sizeof answer)) {
		lost(self);
		return 0;
	}
	for (char *one = strtok_r(answer, " ", &save); one && count < most; one = strtok_r(NULL, " ", &save))
		seconds[count++] = atof(one);
	return count;
}

static void process_finish(contender *self) {
	char answer[64];
	if (!self->missing)
		ask(self->state, "finish\n", answer, sizeof answer);
}

static void process_close(contender *self) {
	stop(self->state);
	free(self->state);
}

void contender_python(contender *c, const char *name) {
	*c = (contender){.name = name,
					 .role = SPARSE,
					 .open = process_open,
					 .prepare = process_prepare,
					 .time = process_time,
					 .result = process_result,
					 .finish = process_finish,
					 .close = process_close};
}
