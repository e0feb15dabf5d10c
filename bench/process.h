/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library that takes part in a process of its own: Python's. Its script is asked through a pipe, line by line, and
 * answers so (peers/peer.py says what); while it waits it takes no core.
 */
#ifndef SL_BENCH_PROCESS_H
#define SL_BENCH_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

typedef struct process {
	pid_t id;
	FILE *to, *from;
	char folder[64]; /* where files are handed over */
} process;

/* Starts bench/peers/peer_NAME.py (the current folder is the repository's root) with Python of the venv and asks for
 * its versions. false: it is missing. `detail` receives versions, or why. */
bool process_start(process *p, const char *name, int threads, char *detail, size_t size);
/* The answer to a line, without its newline; NULL: the process has ended. */
char *process_ask(process *p, const char *question, char *answer, size_t size);
/* Asks for a block of repetitions of a variant. Returns how many; 0: the process has ended. */
int process_time(process *p, int variant, double budget, int most, double *seconds);
void process_stop(process *p);

#endif
