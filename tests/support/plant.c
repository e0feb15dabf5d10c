/* SPDX-License-Identifier: Apache-2.0 */
/* Faults on purpose, one a word: what scripts/sanitize.sh must see caught. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static int shared;

static void *racer(void *argument) {
	for (int i = 0; i < 100000; i++)
		shared++;
	return argument;
}

int main(int argc, char **argv) {
	const char *fault = argc > 1 ? argv[1] : "";
	if (!strcmp(fault, "leak")) {
		char *volatile lost = malloc(100);
		lost = NULL;
		return lost != NULL;
	}
	if (!strcmp(fault, "overflow")) {
		volatile char *block = malloc(10);
		block[10 + (argc > 5)] = 1;
		free((void *)block);
	}
	if (!strcmp(fault, "shift")) {
		volatile int by = 40;
		return (1 << by) == 3;
	}
	if (!strcmp(fault, "race")) {
		pthread_t thread;
		pthread_create(&thread, NULL, racer, NULL);
		racer(NULL);
		pthread_join(thread, NULL);
	}
	return 0;
}
