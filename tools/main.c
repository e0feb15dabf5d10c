/* SPDX-License-Identifier: Apache-2.0 */
/* The command `sparselayer`: one subcommand a file. */
#include <stdio.h>

#include "command.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
} commands[] = {{"train", command_train, "train a network on pictures and save it"},
				{"eval", command_eval, "loss and accuracy of a saved network"},
				{"predict", command_predict, "classes or outputs for inputs"},
				{"info", command_info, "what a model or matrix file holds"},
				{"convert", command_convert, "turn a sparse matrix into another format"},
				{"devices", command_devices, "what computations could run on"},
				{"calibrate", command_calibrate, "measure what products cost on this machine"}};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void usage(FILE *to) {
	fprintf(to, "Usage: sparselayer COMMAND [OPTION...]\n\n");
	for (int i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].what);
	fprintf(to, "\n`sparselayer COMMAND --help` tells its options.\n\n"
				"Exit status: 0 success; 1 failure; 2 a wrong command line; 3 a file or data set that is missing\n"
				"or not valid; 4 the device is not available; 130 interrupted (train: after saving).\n");
}

int main(int argc, char **argv) {
	argp_err_exit_status = EXIT_USAGE;
	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))) {
		usage(stdout);
		return EXIT_OK;
	}
	if (argc > 1 && !strcmp(argv[1], "--version")) {
		printf("sparselayer %s\n", sl_version_string());
		return EXIT_OK;
	}
	for (int i = 0; argc > 1 && i < COMMANDS; i++)
		if (!strcmp(argv[1], commands[i].name)) {
			static char name[64];
			snprintf(name, sizeof name, "sparselayer %s", commands[i].name);
			argv[1] = name; /* what argp calls the program */
			return commands[i].run(argc - 1, argv + 1);
		}
	if (argc > 1)
		fprintf(stderr, "sparselayer: there is no command \"%s\"\n\n", argv[1]);
	usage(stderr);
	return EXIT_USAGE;
}
