/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/io.h"

static sl_status io_error(sl_context *context, const char *path, const char *what, int error) {
	bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
	return sli_fail(context, full ? SL_ERR_NO_SPACE : SL_ERR_IO, "%s: %s failed: %s", path, what, strerror(error));
}

static sl_status copy_text(sl_context *context, const char *text, size_t more, char **copy, size_t *bytes) {
	*bytes = strlen(text) + more + 1;
	SL_TRY(sli_allocate(context, *bytes, "a file's name", (void **)copy));
	strcpy(*copy, text);
	return SL_OK;
}

static void free_writer(sl_writer *w) {
	sl_heap *heap = sli_heap(w->context);
	sli_heap_free(heap, w->path, w->path_bytes);
	sli_heap_free(heap, w->temporary, w->temporary_bytes);
	sli_heap_free(heap, w, sizeof *w);
}

/* The file a link leads to, so that the link survives; the old file's permissions. */
static sl_status look_at_target(sl_writer *w, const char *path) {
	char resolved[PATH_MAX];
	struct stat info;
	bool exists = stat(path, &info) == 0;
	if (exists && !S_ISREG(info.st_mode))
		return sli_fail(w->context, SL_ERR_IO, "%s: not a regular file; it would be replaced", path);
	w->mode = exists ? (int)(info.st_mode & 07777) : -1;
	return copy_text(w->context, exists && realpath(path, resolved) ? resolved : path, 0, &w->path, &w->path_bytes);
}

static sl_status open_temporary(sl_writer *w) {
	enum { SUFFIX = 32 };
	SL_TRY(copy_text(w->context, w->path, SUFFIX, &w->temporary, &w->temporary_bytes));
	for (int attempt = 0; attempt < 1000; attempt++) {
		snprintf(w->temporary, w->temporary_bytes, "%s.%ld-%d.tmp", w->path, (long)getpid(), attempt);
		w->fd = open(w->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (w->fd >= 0)
			return SL_OK;
		if (errno != EEXIST)
			break;
	}
	return errno == ENOENT ? sli_fail(w->context, SL_ERR_NOT_FOUND, "%s: the folder does not exist", w->path)
						   : io_error(w->context, w->temporary, "creating the file", errno);
}

sl_status sli_writer_open(sl_writer **writer, sl_context *context, const char *path) {
	void *memory;
	*writer = NULL;
	SL_TRY(sli_allocate_zeroed(context, sizeof(sl_writer), "writing a file", &memory));
	sl_writer *w = memory;
	w->context = context;
	w->fd = -1;
	sl_status status = look_at_target(w, path);
	if (status == SL_OK)
		status = open_temporary(w);
	if (status != SL_OK) {
		free_writer(w);
		return status;
	}
	if (w->mode >= 0)
		(void)!fchmod(w->fd, (mode_t)w->mode);
	*writer = w;
	return SL_OK;
}

sl_status sli_writer_reopen(sl_writer *w) {
	close(w->fd);
	w->fd = open(w->temporary, O_RDWR | O_CLOEXEC);
	if (w->fd < 0)
		return io_error(w->context, w->temporary, "opening the file again", errno);
	if (w->mode >= 0)
		(void)!fchmod(w->fd, (mode_t)w->mode);
	return SL_OK;
}

static void write_out(sl_writer *w, const char *data, size_t bytes) {
	while (bytes && w->status == SL_OK) {
		ssize_t put = write(w->fd, data, bytes < (size_t)1 << 30 ? bytes : (size_t)1 << 30);
		if (put < 0 && errno != EINTR)
			w->status = io_error(w->context, w->path, "writing", errno);
		if (put > 0) {
			data += put;
			bytes -= (size_t)put;
		}
	}
}

static void flush(sl_writer *w) {
	write_out(w, w->buffer, w->used);
	w->used = 0;
}

void sli_write(sl_writer *w, const void *data, size_t bytes) {
	if (!bytes)
		return;
	if (bytes > sizeof w->buffer - w->used)
		flush(w);
	if (bytes > sizeof w->buffer) {
		write_out(w, data, bytes);
		return;
	}
	memcpy(w->buffer + w->used, data, bytes);
	w->used += bytes;
}

void sli_print(sl_writer *w, const char *format, ...) {
	char text[512];
	va_list list;
	va_start(list, format);
	int n = vsnprintf(text, sizeof text, format, list);
	va_end(list);
	sli_write(w, text, n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

/* A rename is on disk once its folder is. Not every file system can sync a folder. */
static void sync_folder(const char *path) {
	char copy[PATH_MAX];
	if (strlen(path) >= sizeof copy)
		return;
	int fd = open(dirname(strcpy(copy, path)), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		(void)fsync(fd);
		close(fd);
	}
}

sl_status sli_writer_close(sl_writer *w, sl_status status) {
	if (!w)
		return status;
	if (status == SL_OK) {
		flush(w);
		status = w->status;
	}
	if (status == SL_OK && fsync(w->fd))
		status = io_error(w->context, w->path, "syncing", errno);
	if (w->fd >= 0 && close(w->fd) && status == SL_OK)
		status = io_error(w->context, w->path, "closing", errno);
	if (status == SL_OK && rename(w->temporary, w->path))
		status = io_error(w->context, w->path, "renaming the new file into place", errno);
	if (status == SL_OK)
		sync_folder(w->path);
	else
		unlink(w->temporary);
	free_writer(w);
	return status;
}
