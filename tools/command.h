/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands share. */
#ifndef SL_TOOLS_COMMAND_H
#define SL_TOOLS_COMMAND_H

#include <argp.h>
#include <signal.h>

#include <sparselayer/sparselayer.h>

/* Documented in `sparselayer --help`. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INPUT = 3, EXIT_DEVICE = 4, EXIT_INTERRUPTED = 130 };

/* Options that every subcommand which computes has. */
typedef struct common {
	sl_device device;
	int threads;
	bool quiet;
	size_t memory_budget; /* bytes; 0: no limit */
} common;
extern const struct argp common_argp;

/* Print why a call failed, and turn its status into an exit code. `context` may be NULL. */
int fail(sl_context *context, sl_status status);
int open_context(sl_context **context, const common *c, uint64_t seed, bool deterministic);

/* Set by SIGINT and SIGTERM once catch_signals() was called, of which a second one kills, and by SIGUSR1. */
extern volatile sig_atomic_t interrupted;
void catch_signals(void);
/* A progress callback: a bar on a terminal; false once interrupted. */
bool show_progress(void *user, const sl_progress *progress);
void end_progress(void);

/* Numbers of options; a wrong one ends the program with a usage message. */
double number_option(struct argp_state *state, const char *name, const char *text, double least, double most);
int64_t integer_option(struct argp_state *state, const char *name, const char *text, int64_t least, int64_t most);
/* The value whose name(value) is `text`. */
int named_option(struct argp_state *state, const char *option, const char *text, const char *(*name)(int));
/* A model for inference: with a memory budget large layers stay in the file. */
sl_status load_model(sl_model **model, sl_checkpoint *checkpoint, sl_context *context, const common *c,
					 const char *path);
sl_format format_option(struct argp_state *state, const char *text);
/* Take the one positional argument into *slot. */
error_t take_argument(struct argp_state *state, const char *text, const char **slots[], int count);

int command_train(int argc, char **argv);
int command_eval(int argc, char **argv);
int command_predict(int argc, char **argv);
int command_info(int argc, char **argv);
int command_convert(int argc, char **argv);
int command_devices(int argc, char **argv);
int command_calibrate(int argc, char **argv);

#endif
