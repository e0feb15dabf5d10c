/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measured constants of a backend's cost model, kept in a file of the user's: text, checked against version, machine
 * and checksum, written beside and renamed. Nothing about it is fatal: without the file it is measured anew, and
 * without room to measure the built-in constants serve.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ops/ops.h"

enum { MOST_CONSTANTS = 2048, MOST_BYTES = 64 << 10, MOST_PATH = 4096 };
static const char head[] = "sparselayer calibration 1\n";

/* FNV-1a, 64 bits (Fowler, Noll, Vo): no change of a single byte keeps it. */
static uint64_t fnv(const char *text, size_t size) {
	uint64_t hash = 0xcbf29ce484222325u;
	for (size_t i = 0; i < size; i++)
		hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
	return hash;
}

static void machine(sl_context *context, char *text, size_t size) {
	sl_device_state *state = sli_device(context);
	char name[200];
	state->backend->machine(state->device, name, sizeof name);
	for (char *p = name; *p; p++)
		if (*p == '\n')
			*p = ' ';
	snprintf(text, size, "%s", name);
}

static bool off(const char *option) {
	return option && !strcmp(option, "off");
}

/* Where the file is. False: nowhere; `*forbidden`: because nothing is to be measured. */
static bool file_path(sl_context *context, char *path, size_t size, bool *forbidden) {
	const char *option = sli_calibration_option(context);
	if (!option) {
		option = secure_getenv("SPARSELAYER_CALIBRATION");
		if (option && !*option)
			option = NULL;
	}
	*forbidden = off(option);
	if (*forbidden)
		return false;
	if (option)
		return (size_t)snprintf(path, size, "%s", option) < size;
	/* XDG Base Directory Specification: a relative path is to be ignored. */
	const char *cache = secure_getenv("XDG_CACHE_HOME"), *home = secure_getenv("HOME");
	char name[256];
	machine(context, name, sizeof name);
	unsigned long long which = fnv(name, strlen(name));
	int n;
	if (cache && *cache == '/')
		n = snprintf(path, size, "%s/sparselayer/costs-%016llx", cache, which);
	else if (home && *home == '/')
		n = snprintf(path, size, "%s/.cache/sparselayer/costs-%016llx", home, which);
	else
		return false;
	return n > 0 && (size_t)n < size;
}

/* The whole of a file that is the user's own and no other's to write. NULL: text or, where it is missing, "". */
static const char *read_private(const char *path, char *text, size_t size, size_t *bytes) {
	struct stat info;
	*bytes = 0;
	int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (file < 0)
		return errno == ENOENT || errno == ENOTDIR ? "" : strerror(errno);
	const char *why = NULL;
	if (fstat(file, &info) != 0)
		why = "it cannot be looked at";
	else if (!S_ISREG(info.st_mode))
		why = "it is not an ordinary file";
	else if (info.st_uid != geteuid() || info.st_mode & (S_IWGRP | S_IWOTH))
		why = "others may write it";
	else if (info.st_size >= (off_t)size)
		why = "it is too long";
	while (!why && *bytes < size) {
		ssize_t n = read(file, text + *bytes, size - *bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			why = "it cannot be read";
		if (n <= 0)
			break;
		*bytes += (size_t)n;
	}
	close(file);
	if (!why && *bytes == size)
		why = "it is too long";
	return why;
}

/* The file's text for constants. 0: no room. */
static size_t compose(sl_context *context, const double *constants, int count, char *text, size_t size) {
	char name[256];
	machine(context, name, sizeof name);
	size_t at = (size_t)snprintf(text, size, "%s%s\n%d\n", head, name, count);
	for (int i = 0; i < count && at < size; i++) { /* as bits: a locale has its own decimal point */
		uint64_t bits;
		memcpy(&bits, &constants[i], sizeof bits);
		at += (size_t)snprintf(text + at, size - at, "%016llx\n", (unsigned long long)bits);
	}
	if (at < size)
		at += (size_t)snprintf(text + at, size - at, "checksum %016llx\n", (unsigned long long)fnv(text, at));
	return at < size ? at : 0;
}

/* Why a text is not one that compose() wrote for this machine; NULL: it is. */
static const char *parse(sl_context *context, char *text, size_t bytes, double *constants, int count) {
	char name[256], last[40];
	enum { TAIL = sizeof "checksum 0123456789abcdef\n" - 1 };
	if (bytes < sizeof head - 1 + TAIL || memcmp(text, head, sizeof head - 1) != 0)
		return "it is of another version, or no calibration";
	snprintf(last, sizeof last, "checksum %016llx\n", (unsigned long long)fnv(text, bytes - TAIL));
	if (memcmp(text + bytes - TAIL, last, TAIL) != 0)
		return "its checksum does not fit: it is damaged";
	machine(context, name, sizeof name);
	const char *at = text + sizeof head - 1;
	size_t length = strlen(name);
	text[bytes - TAIL] = 0;
	if (strncmp(at, name, length) != 0 || at[length] != '\n')
		return "it is of another machine";
	char *end = NULL;
	at += length + 1;
	if (strtol(at, &end, 10) != count || *end != '\n')
		return "it has another number of constants";
	for (int i = 0; i < count; i++) {
		at = end + 1;
		uint64_t bits = strtoull(at, &end, 16);
		memcpy(&constants[i], &bits, sizeof bits);
		if (end != at + 16 || *end != '\n')
			return "a constant is not a number";
	}
	return end[1] ? "there is more in it than there should be" : NULL;
}

/* mkdir -p for the folder of a path, private. */
static void make_folder(const char *path) {
	char folder[MOST_PATH];
	snprintf(folder, sizeof folder, "%s", path);
	for (char *p = folder + 1; (p = strchr(p, '/')); p++) {
		*p = 0;
		mkdir(folder, 0700);
		*p = '/';
	}
}

static bool write_all(int file, const char *text, size_t bytes) {
	while (bytes) {
		ssize_t n = write(file, text, bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		text += n;
		bytes -= (size_t)n;
	}
	return true;
}

/* Beside and renamed, 0600 as mkstemp makes it, so that a reader sees all of it or none. */
static bool keep(const char *path, const char *text, size_t bytes) {
	char beside[MOST_PATH + 8];
	make_folder(path);
	if ((size_t)snprintf(beside, sizeof beside, "%s.XXXXXX", path) >= sizeof beside)
		return false;
	int file = mkostemp(beside, O_CLOEXEC);
	if (file < 0)
		return false;
	bool done = write_all(file, text, bytes);
	done = close(file) == 0 && done;
	done = done && rename(beside, path) == 0;
	if (!done)
		unlink(beside);
	return done;
}

static bool predicts(sl_context *context) {
	const sl_backend *backend = sli_device(context)->backend;
	return backend->constants > 0 && backend->constants <= MOST_CONSTANTS && backend->calibrate && backend->adopt;
}

static bool load(sl_context *context, const char *path, char *text, double *constants) {
	sl_device_state *state = sli_device(context);
	size_t bytes;
	const char *why = read_private(path, text, MOST_BYTES, &bytes);
	if (!why)
		why = parse(context, text, bytes, constants, state->backend->constants);
	if (!why && !state->backend->adopt(state->device, constants))
		why = "its constants cannot be";
	if (why && *why)
		sli_log(context, SL_LOG_WARNING, "calibration %s is not used: %s", path, why);
	return !why;
}

static sl_status measure_and_keep(sl_context *context, const char *path, char *text, double *constants) {
	sl_device_state *state = sli_device(context);
	int count = state->backend->constants;
	SL_TRY(state->backend->calibrate(state->device, constants));
	if (!state->backend->adopt(state->device, constants))
		return sli_fail(context, SL_ERR_INTERNAL, "what the calibration measured cannot be");
	if (!path)
		return SL_OK;
	size_t bytes = compose(context, constants, count, text, MOST_BYTES);
	if (bytes && keep(path, text, bytes))
		sli_log(context, SL_LOG_INFO, "measured the costs of products, kept in %s", path);
	else
		sli_log(context, SL_LOG_INFO, "measured the costs of products; they cannot be kept in %s", path);
	return SL_OK;
}

/* Room for the constants and the text; from the heap, as threads may have small stacks. */
typedef struct room {
	double constants[MOST_CONSTANTS];
	char text[MOST_BYTES];
} room;

static sl_status with_room(sl_context *context, const char *path, bool look) {
	void *memory;
	SL_TRY(sli_allocate(context, sizeof(room), "a calibration", &memory));
	room *r = memory;
	sl_status status = SL_OK;
	if (!look || !path || !load(context, path, r->text, r->constants))
		status = measure_and_keep(context, path, r->text, r->constants);
	sli_heap_free(sli_heap(context), memory, sizeof *r);
	return status;
}

bool sli_calibration_load(sl_context *context, const char *path) {
	void *memory;
	if (sli_allocate(context, sizeof(room), "a calibration", &memory) != SL_OK)
		return false;
	room *r = memory;
	bool good = load(context, path, r->text, r->constants);
	sli_heap_free(sli_heap(context), memory, sizeof *r);
	return good;
}

void sli_calibrate_once(sl_context *context) {
	char path[MOST_PATH];
	bool *tried = sli_calibration_tried(context), forbidden;
	if (*tried || sli_deterministic(context) || !predicts(context))
		return;
	bool somewhere = file_path(context, path, sizeof path, &forbidden);
	*tried = true;
	if (forbidden)
		return;
	if (with_room(context, somewhere ? path : NULL, true) != SL_OK)
		sli_log(context, SL_LOG_WARNING, "costs are not measured, built-in ones serve: %s",
				sl_context_message(context));
}

sl_status sli_calibrate(sl_context *context) {
	char path[MOST_PATH];
	bool forbidden;
	if (sli_deterministic(context))
		return sli_fail(context, SL_ERR_STATE, "the context is deterministic, so it plans from built-in costs");
	if (!predicts(context))
		return sli_fail(context, SL_ERR_UNSUPPORTED, "the %s backend does not predict costs",
						sli_device(context)->backend->name);
	bool somewhere = file_path(context, path, sizeof path, &forbidden);
	if (forbidden)
		return sli_fail(context, SL_ERR_STATE, "calibration is \"off\" for this context");
	*sli_calibration_tried(context) = true;
	return with_room(context, somewhere ? path : NULL, false);
}
