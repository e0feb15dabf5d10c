/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>

#include "ranks.h"

sl_context *context;
sl_comm *comm;
int rank, size;

static int arguments;
static char **values;

void take_arguments(int argc, char **argv) {
	arguments = argc;
	values = argv;
}

const char *given(const char *name) {
	size_t length = strlen(name);
	for (int i = 0; i < arguments; i++)
		if (!strncmp(values[i], name, length) && values[i][length] == '=')
			return values[i] + length + 1;
	return NULL;
}

int64_t number(const char *name, int64_t fallback) {
	const char *text = given(name);
	return text ? atoll(text) : fallback;
}

/* Usage: ranks TEST TIMEOUT ARGUMENTS... */
int main(int argc, char **argv) {
	static const struct {
		const char *name;
		void (*run)(int argc, char **argv);
	} tests[] = {{"collectives", test_collectives},
				 {"train", test_train},
				 {"divided", test_divided},
				 {"share", test_share},
				 {"text", test_text}};
	char why[256] = "";
	if (argc < 3)
		return 2;
	sl_status status = sl_context_create(
		&context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = 1, .seed = 7,
										.deterministic = getenv("SL_DETERMINISTIC") != NULL, .error = why,
										.error_size = sizeof why});
	if (status != SL_OK) {
		fprintf(stderr, "no context: %s\n", why);
		return 1;
	}
	sl_memory_usage before = {.struct_size = sizeof before}, after = before;
	OK(sl_context_memory(context, &before));
	status = sl_comm_create(&comm, context, &(sl_comm_options){SL_COMM_DEFAULTS, .timeout = atof(argv[2])});
	if (status != SL_OK) {
		fprintf(stderr, "no communicator: %s\n", sl_context_message(context));
		return 1;
	}
	rank = sl_comm_rank(comm);
	size = sl_comm_size(comm);
	if (getenv("SL_PIDS")) { /* for whoever kills ranks */
		char path[512];
		snprintf(path, sizeof path, "%s/%d", getenv("SL_PIDS"), rank);
		FILE *file = fopen(path, "w");
		CHECK(file && fprintf(file, "%d", (int)getpid()) > 0 && !fclose(file));
	}
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		if (!strcmp(argv[1], tests[i].name)) {
			tests[i].run(argc - 3, argv + 3);
			sl_comm_destroy(comm);
			OK(sl_context_trim(context)); /* workspace */
			OK(sl_context_memory(context, &after));
			if (after.current > before.current) {
				fprintf(stderr, "rank %d: %zu bytes were not given back\n", rank, after.current - before.current);
				return 1;
			}
			sl_context_destroy(context);
			return 0;
		}
	fprintf(stderr, "there is no test %s\n", argv[1]);
	sl_comm_abort(comm, 2);
}
