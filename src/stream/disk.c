/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's files: direct I/O where it is to be had, else the page cache, which is told to drop what was read or
 * written. A file is never mapped: one that shrinks would end the process. */
#define _GNU_SOURCE /* O_DIRECT, fallocate */
#include "stream/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST = 1 << 30 }; /* Linux moves less than 2 GiB at once */

/* A descriptor and, where direct I/O works, another past the page cache. */
typedef struct real_file {
	int fd, direct;
} real_file;

static int real_open(void *user, const char *path, sl_open how, bool direct, void **file) {
	(void)user;
	int flags = (how == SL_OPEN_READ ? O_RDONLY : O_RDWR) | O_CLOEXEC | (how == SL_OPEN_CREATE ? O_CREAT | O_TRUNC : 0);
	struct stat info;
	real_file *f = malloc(sizeof *f);
	*file = NULL;
	if (!f)
		return ENOMEM;
	f->fd = open(path, flags, 0666);
	f->direct = -1;
	int error = f->fd < 0 || fstat(f->fd, &info) ? errno : S_ISREG(info.st_mode) ? 0 : EINVAL;
	if (error) {
		if (f->fd >= 0)
			close(f->fd);
		free(f);
		return error;
	}
	if (direct)
		f->direct = open(path, (flags & ~(O_CREAT | O_TRUNC)) | O_DIRECT);
	*file = f;
	return 0;
}

static void real_close(void *user, void *file) {
	(void)user;
	real_file *f = file;
	if (!f)
		return;
	if (f->direct >= 0)
		close(f->direct);
	close(f->fd);
	free(f);
}

static bool whole_blocks(const void *memory, size_t bytes, int64_t at) {
	return !(((uintptr_t)memory | bytes | (uint64_t)at) & (SL_BLOCK - 1));
}

static int real_read(void *user, void *file, void *to, size_t bytes, int64_t at, size_t *done) {
	(void)user;
	real_file *f = file;
	ssize_t got = -1;
	bytes = bytes < MOST ? bytes : MOST;
	bool direct = f->direct >= 0 && whole_blocks(to, bytes, at);
	if (direct)
		got = pread(f->direct, to, bytes, at);
	if (!direct || (got < 0 && errno == EINVAL)) { /* a file system may take O_DIRECT and then refuse to read by it */
		got = pread(f->fd, to, bytes, at);
		if (got > 0)
			(void)posix_fadvise(f->fd, at, got, POSIX_FADV_DONTNEED);
	}
	*done = got > 0 ? (size_t)got : 0;
	return got < 0 ? errno : 0;
}

static int real_write(void *user, void *file, const void *from, size_t bytes, int64_t at, size_t *done) {
	(void)user;
	real_file *f = file;
	ssize_t put = -1;
	bytes = bytes < MOST ? bytes : MOST;
	bool direct = f->direct >= 0 && whole_blocks(from, bytes, at);
	if (direct)
		put = pwrite(f->direct, from, bytes, at);
	if (!direct || (put < 0 && errno == EINVAL)) {
		put = pwrite(f->fd, from, bytes, at);
		if (put > 0)
			(void)sync_file_range(f->fd, at, put, SYNC_FILE_RANGE_WRITE);
	}
	*done = put > 0 ? (size_t)put : 0;
	return put < 0 ? errno : 0;
}

static int real_flush(void *user, void *file) {
	(void)user;
	real_file *f = file;
	int error = fdatasync(f->fd) ? errno : 0;
	if (f->direct < 0)
		(void)posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED);
	return error;
}

static int real_size(void *user, void *file, int64_t *bytes) {
	(void)user;
	struct stat info;
	if (fstat(((real_file *)file)->fd, &info))
		return errno;
	*bytes = info.st_size;
	return 0;
}

static int real_reserve(void *user, void *file, int64_t bytes) {
	(void)user;
	int fd = ((real_file *)file)->fd;
	if (ftruncate(fd, bytes))
		return errno;
	int error = bytes ? posix_fallocate(fd, 0, bytes) : 0;
	return error == EOPNOTSUPP || error == EINVAL ? 0 : error;
}

static int real_make_folder(void *user, const char *path) {
	(void)user;
	return mkdir(path, 0777) && errno != EEXIST ? errno : 0;
}

static int real_flush_folder(void *user, const char *path) {
	(void)user;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	(void)fsync(fd); /* not every file system can */
	close(fd);
	return 0;
}

static bool real_is_direct(void *user, void *file) {
	(void)user;
	return ((real_file *)file)->direct >= 0;
}

const sl_disk sli_disk = {
	.open = real_open,
	.close = real_close,
	.read = real_read,
	.write = real_write,
	.flush = real_flush,
	.size = real_size,
	.reserve = real_reserve,
	.make_folder = real_make_folder,
	.flush_folder = real_flush_folder,
	.is_direct = real_is_direct,
};

int sli_disk_read(const sl_disk *disk, void *file, void *to, size_t bytes, int64_t at, size_t *done) {
	*done = 0;
	while (*done < bytes) {
		size_t got;
		int error = disk->read(disk->user, file, (char *)to + *done, bytes - *done, at + (int64_t)*done, &got);
		if (error == EINTR)
			continue;
		if (error || !got)
			return error;
		*done += got;
	}
	return 0;
}

int sli_disk_write(const sl_disk *disk, void *file, const void *from, size_t bytes, int64_t at) {
	while (bytes) {
		size_t put;
		int error = disk->write(disk->user, file, from, bytes, at, &put);
		if (error == EINTR)
			continue;
		if (error || !put)
			return error ? error : ENOSPC;
		from = (const char *)from + put;
		at += (int64_t)put;
		bytes -= put;
	}
	return 0;
}

int sli_disk_read_blocks(const sl_disk *disk, void *file, void *buffer, size_t bytes, int64_t at, char **data,
						 size_t *missing) {
	int64_t from = sli_block_floor(at), to = sli_block_ceil(at + (int64_t)bytes);
	size_t done, wanted = (size_t)(at - from) + bytes;
	int error = bytes ? sli_disk_read(disk, file, buffer, (size_t)(to - from), from, &done) : 0;
	*data = (char *)buffer + (at - from);
	*missing = bytes && done < wanted ? wanted - done : 0;
	return error;
}
