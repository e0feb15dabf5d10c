/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/lines.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "comm/comm.h"
#include "core/checked.h"

/* A block's text stays in the second-level cache between counting and parsing of its neighbours. */
enum { BLOCK = 1 << 19, ROOM = 2 * BLOCK, PIECE = 1 << 12, LONGEST = 1 << 30 };

const double sli_powers_of_ten[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
									  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

bool sli_parse_slowly(const char **at, locale_t c, double *value) {
	const char *s = *at + (**at == '-' || **at == '+');
	bool digit = *s >= '0' && *s <= '9';
	/* strtod() would skip blanks and read hexadecimal. */
	if ((!digit && *s != '.' && (*s | 32) != 'i' && (*s | 32) != 'n') || (*s == '0' && (s[1] | 32) == 'x'))
		return false;
	char *end;
	*value = strtod_l(*at, &end, c);
	if (end == *at)
		return false;
	*at = end;
	return true;
}

int64_t sli_count_byte(const char *text, const char *end, char byte) {
	typedef unsigned char lanes __attribute__((vector_size(16)));
	const lanes wanted = (lanes){} + (unsigned char)byte;
	int64_t count = 0;
	while (end - text >= 16) {
		lanes sums = {0};
		for (int i = 0; i < 255 && end - text >= 16; i++, text += 16) {
			lanes now;
			memcpy(&now, text, sizeof now);
			sums -= (lanes)(now == wanted);
		}
		for (int i = 0; i < 16; i++)
			count += sums[i];
	}
	for (; text < end; text++)
		count += *text == byte;
	return count;
}

int sli_word_length(const char *word) {
	int n = 0;
	while (n < 30 && word[n] && word[n] != '\n' && !sli_is_blank(word[n]))
		n++;
	return n;
}

bool sli_block_fail(sl_line_block *block, sl_status status, int64_t line, const char *first, const char *at,
					const char *format, ...) {
	va_list list;
	va_start(list, format);
	vsnprintf(block->what, sizeof block->what, format, list);
	va_end(list);
	block->status = status;
	block->line = line;
	block->column = line ? at - first + 1 : 0;
	return false;
}

/* As many bytes as asked for, or fewer where the file ends; -1: errno says why. */
static ssize_t read_some(int fd, char *to, size_t bytes, int64_t offset) {
	size_t got = 0;
	while (got < bytes) {
		ssize_t n = pread(fd, to + got, bytes - got, offset + (int64_t)got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

/* Where the first line begins that begins at `from` or later. */
static sl_status find_line(sl_lines *l, int64_t from, int64_t *begin) {
	char piece[PIECE];
	for (int64_t at = from - 1; at < l->size; at += PIECE) {
		ssize_t got = read_some(l->fd, piece, sizeof piece, at);
		if (got < 0)
			return sli_fail(l->context, SL_ERR_IO, "%s: reading at byte %lld failed: %s", l->path, (long long)at,
							strerror(errno));
		char *found = memchr(piece, '\n', (size_t)got);
		if (found) {
			*begin = at + (found - piece) + 1;
			return SL_OK;
		}
		if (got < PIECE)
			break;
	}
	*begin = l->size;
	return SL_OK;
}

/* Blocks of the lines from byte `from` to `to`, where lines begin. */
static sl_status cut(sl_lines *l, int64_t from, int64_t to) {
	size_t count = (size_t)sli_ceil_div(to - from, BLOCK);
	l->bytes = (count + 1) * sizeof *l->blocks;
	SL_TRY(sli_allocate_zeroed(l->context, l->bytes, "reading a file", (void **)&l->blocks));
	l->blocks[0].begin = from;
	for (size_t k = 1; k < count; k++) {
		/* A line longer than a block is looked through once. */
		int64_t at = from + (int64_t)k * BLOCK;
		l->blocks[k].begin = l->blocks[k - 1].begin;
		if (l->blocks[k].begin < at)
			SL_TRY(find_line(l, at, &l->blocks[k].begin));
	}
	l->count = count;
	l->blocks[count].begin = to;
	return SL_OK;
}

static sl_status open_file(sl_lines *l, sl_context *context, const char *path, const sl_read_limits *limits) {
	memset(l, 0, sizeof *l);
	l->context = context;
	l->path = path;
	l->fd = -1;
	SL_TRY(sli_open_read(context, path, &l->fd, &l->size));
	if (l->size > limits->max_bytes)
		return sli_fail(context, SL_ERR_LIMIT, "%s: has %lld bytes, more than max_bytes = %lld allows", path,
						(long long)l->size, (long long)limits->max_bytes);
	return SL_OK;
}

sl_status sli_lines_open_range(sl_lines *l, sl_context *context, const char *path, const sl_read_limits *limits,
							   int64_t from, int64_t to) {
	sl_status status = open_file(l, context, path, limits);
	to = to < 0 ? l->size : to;
	if (status == SL_OK && to > l->size)
		status = sli_fail(context, SL_ERR_IO, "%s: ends at byte %lld: it was cut while it was read", path,
						  (long long)l->size);
	if (status == SL_OK)
		status = cut(l, from, to);
	if (status != SL_OK)
		sli_lines_close(l);
	return status;
}

sl_status sli_lines_open(sl_lines *l, sl_context *context, const char *path, const sl_read_limits *limits) {
	return sli_lines_open_range(l, context, path, limits, 0, -1);
}

sl_status sli_lines_open_piece(sl_lines *l, sl_context *context, const char *path, const sl_read_limits *limits,
							   int piece, int pieces) {
	int64_t edge[2] = {0, 0};
	sl_status status = open_file(l, context, path, limits);
	for (int i = 0; i < 2 && status == SL_OK; i++) {
		int64_t n;
		sl_comm_share(l->size, piece + i, pieces, &edge[i], &n);
		edge[i] = piece + i == pieces ? l->size : edge[i];
		if (edge[i] > 0 && edge[i] < l->size)
			status = find_line(l, edge[i], &edge[i]);
	}
	if (status == SL_OK)
		status = cut(l, edge[0], edge[1]);
	if (status != SL_OK)
		sli_lines_close(l);
	return status;
}

/* In a block's text: where the `row`-th line is of those that the task counts in counts[which], and how many are
 * before. */
static int64_t find_in(const char *text, const char *end, sl_block_task task, void *user, int which, int64_t row,
					   int64_t *line) {
	const char *s = text;
	*line = 0;
	for (const char *next; s < end; s = next, ++*line) {
		sl_line_block one = {0};
		next = sli_next_line(s, end);
		task(user, &one, s, next);
		if (one.counts[which] && row-- == 0)
			break;
	}
	return s - text;
}

sl_status sli_lines_find(sl_lines *l, sl_block_task task, void *user, int which, int64_t row, int64_t *at,
						 int64_t *line) {
	size_t k = 0;
	*line = l->before;
	while (k + 1 < l->count && l->blocks[k + 1].counts[which] <= row)
		*line += l->blocks[k++].lines;
	const sl_line_block *b = &l->blocks[k];
	size_t bytes = (size_t)(b[1].begin - b->begin);
	char *text;
	SL_TRY(sli_allocate(l->context, bytes + 2, "reading a file", (void **)&text));
	sl_status status = sli_read_at(l->context, l->fd, l->path, b->begin, text, bytes);
	if (status == SL_OK) {
		int64_t inside;
		text[bytes] = '\n'; /* where the file's last line has no end */
		text[bytes + 1] = 0;
		char *end = text + bytes + (bytes && text[bytes - 1] != '\n');
		*at = b->begin + find_in(text, end, task, user, which, row - b->counts[which], &inside);
		*line += inside;
	}
	sli_heap_free(sli_heap(l->context), text, bytes + 2);
	return status;
}

void sli_lines_close(sl_lines *l) {
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	sli_heap_free(sli_heap(l->context), l->blocks, l->blocks ? l->bytes : 0);
	l->blocks = NULL;
}

typedef struct pass {
	sl_lines *lines;
	sl_block_task task;
	void *user;
	char *buffers;              /* one of ROOM bytes a thread: enough for all but blocks with very long lines */
	size_t end;
	atomic_size_t next, failed; /* blocks behind a failed one need no more work */
} pass;

static bool run_block(pass *p, size_t k, char *text) {
	sl_lines *l = p->lines;
	sl_line_block *b = &l->blocks[k];
	size_t bytes = (size_t)(b[1].begin - b->begin);
	ssize_t got = read_some(l->fd, text, bytes, b->begin);
	if (got < 0)
		return sli_block_fail(b, SL_ERR_IO, 0, NULL, NULL, "reading at byte %lld failed: %s", (long long)b->begin,
							  strerror(errno));
	if ((size_t)got < bytes)
		return sli_block_fail(b, SL_ERR_IO, 0, NULL, NULL, "ends at byte %lld: it was cut while it was read",
							  (long long)b->begin + got);
	if (bytes && text[bytes - 1] != '\n')
		text[bytes++] = '\n';
	text[bytes] = 0;
	p->task(p->user, b, text, text + bytes);
	return b->status == SL_OK;
}

static bool run_with_room(pass *p, size_t k, char *buffer) {
	sl_line_block *b = &p->lines->blocks[k];
	sl_heap *heap = sli_heap(p->lines->context);
	size_t bytes = (size_t)(b[1].begin - b->begin) + 2;
	if (bytes <= ROOM)
		return run_block(p, k, buffer);
	if (bytes - 2 > LONGEST)
		return sli_block_fail(b, SL_ERR_LIMIT, 0, NULL, NULL, "a line of more than 2^30 bytes behind byte %lld",
							  (long long)b->begin);
	char *larger = sli_heap_allocate(heap, bytes);
	if (!larger)
		return sli_block_fail(b, SL_ERR_MEMORY, 0, NULL, NULL, "no memory");
	bool ok = run_block(p, k, larger);
	sli_heap_free(heap, larger, bytes);
	return ok;
}

static void run_blocks(void *argument, size_t index) {
	pass *p = argument;
	char *buffer = p->buffers + index * ROOM;
	for (size_t k; (k = atomic_fetch_add(&p->next, 1)) < p->end;)
		if (k < atomic_load(&p->failed) && !run_with_room(p, k, buffer)) {
			size_t before = atomic_load(&p->failed);
			while (k < before && !atomic_compare_exchange_weak(&p->failed, &before, k)) {
			}
		}
}

sl_status sli_lines_run(sl_lines *l, sl_block_task task, void *user) {
	return sli_lines_run_some(l, 0, l->count, task, user);
}

sl_status sli_lines_run_some(sl_lines *l, size_t first, size_t end, sl_block_task task, void *user) {
	pass p = {.lines = l, .task = task, .user = user, .end = end};
	atomic_init(&p.failed, SIZE_MAX);
	atomic_init(&p.next, first);
	size_t threads = (size_t)sl_context_threads(l->context);
	threads = threads < end - first ? threads : end - first;
	SL_TRY(sli_allocate(l->context, threads * ROOM, "reading a file", (void **)&p.buffers));
	sli_parallel(l->context, threads, run_blocks, &p);
	sli_heap_free(sli_heap(l->context), p.buffers, threads * ROOM);
	size_t failed = atomic_load(&p.failed);
	if (failed == SIZE_MAX)
		return SL_OK;
	const sl_line_block *b = &l->blocks[failed];
	if (b->status == SL_ERR_MEMORY)
		return sli_fail_memory(l->context, (size_t)(b[1].begin - b->begin), "reading a file");
	if (!b->line)
		return sli_fail(l->context, b->status, "%s: %s", l->path, b->what);
	int64_t line = b->line + l->before;
	for (size_t k = 0; k < failed; k++)
		line += l->blocks[k].lines;
	return sli_fail(l->context, b->status, "%s, line %lld, column %lld: %s", l->path, (long long)line,
					(long long)b->column, b->what);
}

void sli_lines_sum(sl_lines *l, int64_t totals[3]) {
	memset(totals, 0, 3 * sizeof *totals);
	for (size_t k = 0; k < l->count; k++)
		for (int i = 0; i < 3; i++) {
			int64_t own = l->blocks[k].counts[i];
			l->blocks[k].counts[i] = totals[i];
			totals[i] += own; /* at most the file's size */
		}
	memcpy(l->blocks[l->count].counts, totals, 3 * sizeof *totals);
}

sl_status sli_dataset_read_opened(sl_dataset **dataset, sl_lines *lines, sl_status status, const sl_read_limits *limits,
								  sl_lines_reader read, void *reader, sl_comm *comm) {
	sl_context *context = lines->context;
	sl_dataset *d = NULL;
	locale_t c = (locale_t)0;
	bool open = status == SL_OK;
	if (status == SL_OK)
		status = sli_dataset_new(&d, context);
	if (status == SL_OK && !(c = newlocale(LC_ALL_MASK, "C", (locale_t)0)))
		status = sli_fail_memory(context, 0, "a locale");
	if (comm)
		status = sli_comm_settle(context, comm, status);
	if (status == SL_OK)
		status = read(lines, c, reader, d, limits);
	if (c)
		freelocale(c);
	if (open)
		sli_lines_close(lines);
	if (status == SL_OK) {
		*dataset = d;
	} else {
		sl_dataset_destroy(d);
		*dataset = NULL;
	}
	return status;
}

sl_status sli_dataset_read_lines(sl_dataset **dataset, sl_context *context, const char *path,
								 const sl_read_limits *limits, sl_lines_reader read, void *reader) {
	sl_lines lines;
	sl_status status = sli_lines_open(&lines, context, path, limits);
	return sli_dataset_read_opened(dataset, &lines, status, limits, read, reader, NULL);
}
