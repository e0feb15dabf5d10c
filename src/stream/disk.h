/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files as streaming sees them: a table, so that the tests can put a disk underneath that fails, tears and forgets.
 * Calls return 0 or an errno. They are made from I/O threads and know no context.
 */
#ifndef SL_STREAM_DISK_H
#define SL_STREAM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Direct I/O goes by whole blocks: of memory, of the file, and of bytes. 4096 suits every disk that is sold. */
enum { SL_BLOCK = 4096 };

typedef enum sl_open { SL_OPEN_READ = 0, SL_OPEN_WRITE = 1, SL_OPEN_CREATE = 2 } sl_open;

typedef struct sl_disk {
	void *user;
	/* SL_OPEN_CREATE: a new file, replacing what is there. `direct`: past the page cache where the file system can. */
	int (*open)(void *user, const char *path, sl_open how, bool direct, void **file);
	void (*close)(void *user, void *file);
	/* As pread and pwrite: `done` may be less than asked for; 0 at the end of the file. */
	int (*read)(void *user, void *file, void *to, size_t bytes, int64_t at, size_t *done);
	int (*write)(void *user, void *file, const void *from, size_t bytes, int64_t at, size_t *done);
	int (*flush)(void *user, void *file);
	int (*size)(void *user, void *file, int64_t *bytes);
	/* Make the file this long, its room taken from the disk now and not when it is written. */
	int (*reserve)(void *user, void *file, int64_t bytes);
	int (*make_folder)(void *user, const char *path);
	/* What was created or renamed in a folder is on disk afterwards. */
	int (*flush_folder)(void *user, const char *path);
	bool (*is_direct)(void *user, void *file);
} sl_disk;

/* The machine's own. */
extern const sl_disk sli_disk;

/* All of `bytes`, repeating short transfers. *done tells how far it came; reading ends early at the file's end. */
int sli_disk_read(const sl_disk *disk, void *file, void *to, size_t bytes, int64_t at, size_t *done);
int sli_disk_write(const sl_disk *disk, void *file, const void *from, size_t bytes, int64_t at);
/*
 * Bytes [at, at + bytes) into a buffer that begins at a block and has room for two more. Whole blocks are read; *data
 * points at the first byte that was asked for. *missing: bytes beyond the file's end.
 */
int sli_disk_read_blocks(const sl_disk *disk, void *file, void *buffer, size_t bytes, int64_t at, char **data,
						 size_t *missing);

static inline int64_t sli_block_floor(int64_t at) {
	return at & ~(int64_t)(SL_BLOCK - 1);
}
static inline int64_t sli_block_ceil(int64_t at) {
	return (at + SL_BLOCK - 1) & ~(int64_t)(SL_BLOCK - 1);
}
/* Room for `bytes` at any place of a file. */
static inline size_t sli_block_room(size_t bytes) {
	return (size_t)sli_block_ceil((int64_t)bytes) + SL_BLOCK;
}

#endif
