/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "process.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "contender.h"

char *process_ask(process *p, const char *question, char *answer, size_t size) {
	fputs(question, p->to);
	if (fflush(p->to) || !fgets(answer, (int)size, p->from))
		return NULL;
	answer[strcspn(answer, "\n")] = 0;
	return answer;
}

static bool launch(process *p, const char *name, int threads) {
	int to[2], from[2];
	char python[512], script[96], count[16];
	snprintf(python, sizeof python, "%s/bin/python", bench_venv());
	snprintf(script, sizeof script, "bench/peers/peer_%s.py", name);
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

bool process_start(process *p, const char *name, int threads, char *detail, size_t size) {
	char answer[200] = "";
	*p = (process){.folder = "/dev/shm/sl-bench-XXXXXX"};
	bench_need(mkdtemp(p->folder) != NULL, p->folder, "cannot be made");
	if (launch(p, name, threads) && process_ask(p, "hello\n", answer, sizeof answer) && !strncmp(answer, "ready ", 6)) {
		snprintf(detail, size, "%s", answer + 6);
		return true;
	}
	snprintf(detail, size, "missing: %s", !strncmp(answer, "missing ", 8) ? answer + 8 : "bench/peers/install.sh");
	process_stop(p);
	return false;
}

void process_stop(process *p) {
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
	*p = (process){0};
}

int process_time(process *p, int variant, double budget, int most, double *seconds) {
	char question[128], answer[32768], *save;
	int count = 0;
	snprintf(question, sizeof question, "time %d %.6f %d\n", variant, budget, most);
	if (!process_ask(p, question, answer, sizeof answer))
		return 0;
	for (char *one = strtok_r(answer, " ", &save); one && count < most; one = strtok_r(NULL, " ", &save))
		seconds[count++] = atof(one);
	return count;
}
