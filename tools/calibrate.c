/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "command.h"

static error_t parse(int key, char *text, struct argp_state *state) {
	const char **file = state->input;
	(void)text;
	switch (key) {
	case 'f':
		*file = text;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "there is no argument \"%s\"", text);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static void print_line(void *user, sl_log_level level, const char *line) {
	(void)user, (void)level;
	printf("%s\n", line);
}

int command_calibrate(int argc, char **argv) {
	static const struct argp_option list[] = {
		{"file", 'f', "FILE", 0, "Keep them there (default: SPARSELAYER_CALIBRATION, else the user's cache folder)", 0},
		{0}};
	static const struct argp argp = {
		list, parse, "",  "Measure what products cost here, for plans of later runs. Best on an idle machine.",
		NULL, NULL,  NULL};
	const char *file = NULL;
	char error[256] = "";
	sl_context *context = NULL;
	argp_parse(&argp, argc, argv, 0, NULL, &file);
	sl_context_options o = {SL_CONTEXT_DEFAULTS,       .device = SL_DEVICE_CPU, .threads = 1,
							.calibration = file,       .log = print_line,       .error = error,
							.error_size = sizeof error};
	sl_status status = sl_context_create(&context, &o);
	if (status != SL_OK) {
		fprintf(stderr, "sparselayer: %s: %s\n", sl_status_text(status), error);
		return EXIT_FAILED;
	}
	status = sl_calibrate(context);
	int code = status == SL_OK ? EXIT_OK : fail(context, status);
	sl_context_destroy(context);
	return code;
}
