/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/io.h"
#include "ops/ops.h"

sl_status sli_read_limits(sl_context *context, const sl_read_limits *given, sl_read_limits *limits) {
	memset(limits, 0, sizeof *limits);
	limits->struct_size = sizeof *limits;
	if (given)
		SL_TRY(sli_take_struct(context, limits, sizeof *limits, given, "limits"));
	if (limits->max_nonzeros < 0 || limits->max_bytes < 0 || limits->max_header < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "limits must not be negative");
	if (!limits->max_nonzeros)
		limits->max_nonzeros = (int64_t)1 << 33;
	if (!limits->max_bytes)
		limits->max_bytes = (int64_t)1 << 36;
	if (!limits->max_header)
		limits->max_header = (int64_t)1 << 24;
	return SL_OK;
}

sl_status sli_open_read(sl_context *context, const char *path, int *fd, int64_t *size) {
	struct stat info;
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	if (*fd < 0)
		return sli_fail(context, errno == ENOENT || errno == ENOTDIR ? SL_ERR_NOT_FOUND : SL_ERR_IO,
						"%s could not be opened: %s", path, strerror(errno));
	int error = fstat(*fd, &info) ? errno : 0;
	if (!error && S_ISREG(info.st_mode)) {
		*size = info.st_size;
		return SL_OK;
	}
	close(*fd);
	*fd = -1;
	return sli_fail(context, SL_ERR_IO, "%s: %s", path, error ? strerror(error) : "not a regular file");
}

sl_status sli_read_at(sl_context *context, int fd, const char *path, int64_t offset, void *to, size_t bytes) {
	while (bytes) {
		/* Linux reads less than 2 GiB at once. */
		ssize_t got = pread(fd, to, bytes < (size_t)1 << 30 ? bytes : (size_t)1 << 30, offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return sli_fail(context, SL_ERR_IO, "%s: reading at byte %lld failed: %s", path, (long long)offset,
							strerror(errno));
		if (got == 0)
			return sli_fail(context, SL_ERR_FORMAT, "%s: ends at byte %lld, %zu bytes early", path, (long long)offset,
							bytes);
		to = (char *)to + got;
		offset += got;
		bytes -= (size_t)got;
	}
	return SL_OK;
}

sl_status sli_check_nonzeros(sl_context *context, const char *path, const sl_read_limits *limits, int64_t nnz) {
	if (nnz > limits->max_nonzeros)
		return sli_fail(context, SL_ERR_LIMIT, "%s: declares %lld entries, more than max_nonzeros = %lld allows", path,
						(long long)nnz, (long long)limits->max_nonzeros);
	return SL_OK;
}
