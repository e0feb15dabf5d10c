/* SPDX-License-Identifier: Apache-2.0 */
#include "command.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

volatile sig_atomic_t interrupted;

static void on_signal(int number) {
	(void)number;
	interrupted = 1;
}

void catch_signals(void) {
	/* No SA_RESTART: a launcher that is ending the job reads no output any more, and a line that nobody reads must not
	 * keep a rank from saving. */
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	action.sa_flags = 0; /* a launcher forwards it, and may do so again */
	sigaction(SIGUSR1, &action, NULL);
}

static bool bar_is_open;

bool show_progress(void *user, const sl_progress *p) {
	bool quiet = *(const bool *)user;
	if (quiet || !isatty(STDERR_FILENO) || p->total <= 0)
		return !interrupted;
	char bar[31];
	int filled = (int)(30 * p->done / p->total);
	for (int i = 0; i < 30; i++)
		bar[i] = i < filled ? '#' : '.';
	bar[30] = 0;
	fprintf(stderr, "\r\033[K%s [%s] %3d%%", p->what, bar, (int)(100 * p->done / p->total));
	if (p->epochs > 0)
		fprintf(stderr, "  epoch %lld/%lld", (long long)p->epoch + 1, (long long)p->epochs);
	if (!isnan(p->loss))
		fprintf(stderr, "  loss %.4f", p->loss);
	if (!isnan(p->accuracy))
		fprintf(stderr, "  accuracy %.2f%%", 100 * p->accuracy);
	if (p->bytes_read > 0)
		fprintf(stderr, "  read %.1f GB, written %.1f GB", (double)p->bytes_read / 1e9, (double)p->bytes_written / 1e9);
	if (p->seconds_left >= 60)
		fprintf(stderr, "  %.0f min left", p->seconds_left / 60);
	else if (p->seconds_left >= 1)
		fprintf(stderr, "  %.0f s left", p->seconds_left);
	bar_is_open = true;
	return !interrupted;
}

void end_progress(void) {
	if (bar_is_open)
		fprintf(stderr, "\r\033[K");
	bar_is_open = false;
}

int fail(sl_context *context, sl_status status) {
	end_progress();
	const char *message = context ? sl_context_message(context) : "";
	fprintf(stderr, "sparselayer: %s%s%s\n", sl_status_text(status), *message ? ": " : "", message);
	switch (status) {
	case SL_ERR_CANCELLED:
		return EXIT_INTERRUPTED;
	case SL_ERR_DEVICE:
	case SL_ERR_DEVICE_LOST:
		return EXIT_DEVICE;
	case SL_ERR_NOT_FOUND:
	case SL_ERR_FORMAT:
	case SL_ERR_LIMIT:
	case SL_ERR_STRUCTURE:
		return EXIT_INPUT;
	default:
		return EXIT_FAILED;
	}
}

static void print_log(void *user, sl_log_level level, const char *line) {
	(void)user, (void)level;
	end_progress();
	fprintf(stderr, "sparselayer: %s\n", line);
}

int open_context(sl_context **context, const common *c, uint64_t seed, bool deterministic) {
	char error[256] = "";
	sl_context_options o = {SL_CONTEXT_DEFAULTS,
							.device = c->device,
							.threads = c->threads,
							.seed = seed,
							.deterministic = deterministic,
							.memory_budget = c->memory_budget,
							.log = print_log,
							.log_level = SL_LOG_WARNING,
							.error = error,
							.error_size = sizeof error};
	sl_status status = sl_context_create(context, &o);
	if (status == SL_OK)
		return EXIT_OK;
	fprintf(stderr, "sparselayer: %s: %s\n", sl_status_text(status), error);
	return status == SL_ERR_DEVICE ? EXIT_DEVICE : EXIT_FAILED;
}

sl_status load_model(sl_model **model, sl_checkpoint *checkpoint, sl_context *context, const common *c,
					 const char *path) {
	if (!c->memory_budget)
		return sl_model_load(model, NULL, checkpoint, context, path, NULL);
	/* A weight in memory takes some 16 bytes with its column and what is derived from the pattern. */
	return sl_model_load_streamed(model, checkpoint, context, path, (int64_t)(c->memory_budget / 64), NULL, NULL);
}

double number_option(struct argp_state *state, const char *name, const char *text, double least, double most) {
	char *end;
	double value = strtod(text, &end);
	if (end == text || *end || !(value >= least && value <= most))
		argp_error(state, "--%s is \"%s\"; a number from %g to %g is needed", name, text, least, most);
	return value;
}

int64_t integer_option(struct argp_state *state, const char *name, const char *text, int64_t least, int64_t most) {
	char *end;
	errno = 0;
	long long value = strtoll(text, &end, 10);
	if (end == text || *end || errno || value < least || value > most)
		argp_error(state, "--%s is \"%s\"; a whole number from %lld to %lld is needed", name, text, (long long)least,
				   (long long)most);
	return value;
}

/* "256MiB", "4GB", "65536". */
static size_t bytes_option(struct argp_state *state, const char *name, const char *text) {
	static const struct {
		const char *unit;
		double bytes;
	} units[] = {{"", 1},        {"B", 1},         {"K", 1024}, {"KiB", 1024}, {"KB", 1e3},
				 {"M", 1048576}, {"MiB", 1048576}, {"MB", 1e6}, {"G", 0x1p30}, {"GiB", 0x1p30},
				 {"GB", 1e9},    {"TiB", 0x1p40},  {"TB", 1e12}};
	char *end;
	double value = strtod(text, &end);
	while (*end == ' ')
		end++;
	for (size_t i = 0; i < sizeof units / sizeof *units; i++)
		if (end != text && !strcasecmp(end, units[i].unit) && value * units[i].bytes >= 1 &&
			value * units[i].bytes < 0x1p62)
			return (size_t)(value * units[i].bytes);
	argp_error(state, "--%s is \"%s\"; a size is needed, as in 256MiB or 4GB", name, text);
	return 0;
}

int named_option(struct argp_state *state, const char *option, const char *text, const char *(*name)(int)) {
	char list[256] = "";
	for (int i = 0; strcmp(name(i), "unknown"); i++) {
		if (!strcmp(name(i), text))
			return i;
		snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", name(i));
	}
	argp_error(state, "--%s is \"%s\"; it is one of %s", option, text, list);
	return 0;
}

static const char *format_name(int i) {
	static const char *const names[] = {"auto", "safetensors", "npz", "mtx", "smtx", "idx", "svmlight"};
	return i < 7 ? names[i] : "unknown";
}

sl_format format_option(struct argp_state *state, const char *text) {
	return (sl_format)named_option(state, "format", text, format_name);
}

error_t take_argument(struct argp_state *state, const char *text, const char **slots[], int count) {
	if ((int)state->arg_num >= count)
		argp_error(state, "\"%s\" is one argument too many", text);
	else
		*slots[state->arg_num] = text;
	return 0;
}

static const char *device_name(int i) {
	return i <= SL_DEVICE_CUDA ? sl_device_name((sl_device)i) : "unknown";
}

static error_t parse_common(int key, char *text, struct argp_state *state) {
	common *c = state->input;
	switch (key) {
	case 'd' + 256:
		c->device = (sl_device)named_option(state, "device", text, device_name);
		return 0;
	case 't':
		c->threads = (int)integer_option(state, "threads", text, 1, 4096);
		return 0;
	case 'q':
		c->quiet = true;
		return 0;
	case 'm' + 256:
		c->memory_budget = bytes_option(state, "memory-budget", text);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_option common_options[] = {
	{"device", 'd' + 256, "NAME", 0, "auto (default), cpu or cuda", 90},
	{"threads", 't', "N", 0, "CPU threads (default: all cores)", 90},
	{"memory-budget", 'm' + 256, "SIZE", 0, "Most memory to use, as in 256MiB; what does not fit is read from disk",
	 90},
	{"quiet", 'q', NULL, 0, "No progress and no lines an epoch", 90},
	{0}};
const struct argp common_argp = {common_options, parse_common, NULL, NULL, NULL, NULL, NULL};
