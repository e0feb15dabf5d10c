/* SPDX-License-Identifier: Apache-2.0 */
/* Entries in the order of rows and columns. What does not fit in memory goes to a temporary file as it comes and is
 * dealt out there, by ranges of rows and within one row by ranges of columns, until each range fits. */
#define _GNU_SOURCE /* fallocate */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/checked.h"
#include "io/convert.h"

enum { RANGES = 1024, PARTS = 64, DIGIT = 11 };

/* A stretch of the temporary file that holds all entries of a range of rows, or of columns of one row. */
typedef struct part {
	int64_t begin, count; /* in entries */
	int64_t first_row, rows, first_col, cols;
} part;

sl_status sli_sorter_open(sl_sorter *s, sl_context *context, const char *path, size_t bytes) {
	*s = (sl_sorter){.context = context, .path = path, .fd = -1};
	s->capacity = (int64_t)((bytes < SL_SORTER_LEAST ? SL_SORTER_LEAST : bytes) / (2 * sizeof(sl_entry)));
	s->bytes = (size_t)s->capacity * 2 * sizeof(sl_entry);
	SL_TRY(sli_allocate(context, s->bytes, "sorting a matrix", (void **)&s->room));
	s->scratch = s->room + s->capacity;
	return SL_OK;
}

void sli_sorter_close(sl_sorter *s) {
	if (s->fd >= 0)
		close(s->fd);
	sli_heap_free(sli_heap(s->context), s->room, s->room ? s->bytes : 0);
	s->room = NULL;
	s->fd = -1;
}

static sl_status failed(const sl_sorter *s, const char *what) {
	bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
	return sli_fail(s->context, full ? SL_ERR_NO_SPACE : SL_ERR_IO,
					"%s: %s the temporary file in its folder failed: %s", s->path, what, strerror(errno));
}

/* Without a name, so that nothing is left whatever happens. */
static sl_status open_temporary(sl_sorter *s) {
	char copy[PATH_MAX], name[PATH_MAX + 32];
	if (s->fd >= 0)
		return SL_OK;
	if (strlen(s->path) >= sizeof copy)
		return sli_fail(s->context, SL_ERR_ARGUMENT, "%s: the path is too long", s->path);
	const char *folder = dirname(strcpy(copy, s->path));
	s->fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (s->fd >= 0)
		return SL_OK;
	snprintf(name, sizeof name, "%s/sparselayer-XXXXXX", folder);
	s->fd = mkostemp(name, O_CLOEXEC);
	if (s->fd < 0)
		return failed(s, "making");
	unlink(name);
	return SL_OK;
}

static sl_status write_at(sl_sorter *s, const sl_entry *entries, int64_t count, int64_t at) {
	const char *data = (const char *)entries;
	size_t bytes = (size_t)count * sizeof *entries;
	for (int64_t to = at * (int64_t)sizeof *entries; bytes;) {
		ssize_t put = pwrite(s->fd, data, bytes < (size_t)1 << 30 ? bytes : (size_t)1 << 30, to);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return failed(s, "writing");
		data += put;
		to += put;
		bytes -= (size_t)put;
		s->written += put;
	}
	return SL_OK;
}

static sl_status read_at(sl_sorter *s, sl_entry *entries, int64_t count, int64_t at) {
	return sli_read_at(s->context, s->fd, s->path, at * (int64_t)sizeof *entries, entries,
					   (size_t)count * sizeof *entries);
}

sl_status sli_sorter_add(sl_sorter *s, int64_t row, int64_t col, double value) {
	if (s->held == s->capacity) {
		SL_TRY(open_temporary(s));
		SL_TRY(write_at(s, s->room, s->held, s->filed));
		s->filed += s->held;
		s->held = 0;
	}
	s->room[s->held++] = (sl_entry){row, value, (int32_t)col, 0};
	return SL_OK;
}

static uint64_t key_of(const sl_entry *e, const part *p, bool by_row) {
	return by_row ? (uint64_t)(e->row - p->first_row) : (uint64_t)(e->col - p->first_col);
}

/* Stable: by columns first, then by rows, eleven bits at a time. What is sorted ends in `room`. */
static void sort_room(sl_sorter *s, int64_t count, const part *p) {
	sl_entry *from = s->room, *to = s->scratch;
	for (int side = 0; side < 2; side++) {
		uint64_t most = (uint64_t)(side ? p->rows : p->cols) - 1;
		for (int shift = 0; shift < 64 && most >> shift; shift += DIGIT) {
			int64_t begins[1 << DIGIT] = {0}, at = 0;
			for (int64_t i = 0; i < count; i++)
				begins[key_of(&from[i], p, side) >> shift & ((1 << DIGIT) - 1)]++;
			for (int i = 0; i < 1 << DIGIT; i++) {
				int64_t own = begins[i];
				begins[i] = at;
				at += own;
			}
			for (int64_t i = 0; i < count; i++)
				to[begins[key_of(&from[i], p, side) >> shift & ((1 << DIGIT) - 1)]++] = from[i];
			sl_entry *other = from;
			from = to;
			to = other;
		}
	}
	if (from != s->room)
		memcpy(s->room, from, (size_t)count * sizeof *from);
}

static sl_status give(const sl_entry *entries, int64_t count, sl_entry_sink put, void *user) {
	for (int64_t i = 0; i < count;) {
		sl_entry e = entries[i++];
		for (; i < count && entries[i].row == e.row && entries[i].col == e.col; i++)
			e.value += entries[i].value;
		SL_TRY(put(user, e.row, e.col, e.value));
	}
	return SL_OK;
}

/* More entries of one place than fit: only their sum is wanted. */
static sl_status give_sum(sl_sorter *s, const part *p, sl_entry_sink put, void *user) {
	double sum = 0;
	for (int64_t done = 0; done < p->count;) {
		int64_t n = p->count - done < s->capacity ? p->count - done : s->capacity;
		SL_TRY(read_at(s, s->room, n, p->begin + done));
		for (int64_t i = 0; i < n; i++)
			sum = done || i ? sum + s->room[i].value : s->room[i].value;
		done += n;
	}
	return put(user, p->first_row, p->first_col, sum);
}

/* Ranges of equal width, put together into parts of at most `capacity` entries where they are that small. Two parts
 * that meet hold more than `most`, so that there are fewer than PARTS. */
static int make_parts(const sl_sorter *s, const part *p, const int64_t *counts, int64_t width, bool by_row,
					  part *parts) {
	int64_t fit = p->count / (PARTS / 2 - 1) + 1, most = s->capacity > fit ? s->capacity : fit, at = s->end;
	int64_t first = by_row ? p->first_row : p->first_col, all = by_row ? p->rows : p->cols;
	int used = 0;
	for (int64_t i = 0; i < RANGES && i * width < all; i++) {
		part *now = used ? &parts[used - 1] : NULL;
		if (!now || now->count + counts[i] > most) {
			now = &parts[used++];
			*now = *p;
			now->begin = at;
			now->count = 0;
			*(by_row ? &now->first_row : &now->first_col) = first + i * width;
			*(by_row ? &now->rows : &now->cols) = 0;
		}
		int64_t *span = by_row ? &now->rows : &now->cols, left = all - i * width;
		*span += width < left ? width : left;
		now->count += counts[i];
		at += counts[i];
	}
	return used;
}

/* Write each entry to its part, behind all that is in the file, in the order they have. */
static sl_status deal_out(sl_sorter *s, const part *p, const part *parts, int count, const unsigned char *part_of,
						  int64_t width, bool by_row) {
	int64_t share = s->capacity / count, cursor[PARTS], used[PARTS] = {0};
	sl_status status = SL_OK;
	for (int i = 0; i < count; i++)
		cursor[i] = parts[i].begin;
	for (int64_t done = 0; done < p->count && status == SL_OK;) {
		int64_t n = p->count - done < s->capacity ? p->count - done : s->capacity;
		SL_TRY(read_at(s, s->room, n, p->begin + done));
		for (int64_t i = 0; i < n && status == SL_OK; i++) {
			int to = part_of[key_of(&s->room[i], p, by_row) / (uint64_t)width];
			s->scratch[to * share + used[to]++] = s->room[i];
			if (used[to] == share) {
				status = write_at(s, s->scratch + to * share, share, cursor[to]);
				cursor[to] += share;
				used[to] = 0;
			}
		}
		done += n;
	}
	for (int i = 0; i < count && status == SL_OK; i++)
		if (used[i])
			status = write_at(s, s->scratch + i * share, used[i], cursor[i]);
	return status;
}

static void forget(const sl_sorter *s, const part *p) {
	/* Its room on the disk is wanted again; not every file system can give it. */
	(void)!fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, p->begin * (int64_t)sizeof(sl_entry),
					 p->count * (int64_t)sizeof(sl_entry));
}

/* A range that fits is sorted; another is dealt out into ranges that are smaller, which takes a few levels at most. */
static sl_status give_part(sl_sorter *s, const part *p, sl_entry_sink put, void *user) {
	if (p->count <= s->capacity) {
		SL_TRY(read_at(s, s->room, p->count, p->begin));
		sort_room(s, p->count, p);
		return give(s->room, p->count, put, user);
	}
	if (p->rows == 1 && p->cols == 1)
		return give_sum(s, p, put, user);
	bool by_row = p->rows > 1;
	int64_t width = sli_ceil_div(by_row ? p->rows : p->cols, RANGES), counts[RANGES] = {0};
	unsigned char part_of[RANGES];
	part parts[PARTS];
	for (int64_t done = 0; done < p->count;) {
		int64_t n = p->count - done < s->capacity ? p->count - done : s->capacity;
		SL_TRY(read_at(s, s->room, n, p->begin + done));
		for (int64_t i = 0; i < n; i++)
			counts[key_of(&s->room[i], p, by_row) / (uint64_t)width]++;
		done += n;
	}
	int count = make_parts(s, p, counts, width, by_row, parts);
	for (int i = 0, at = 0; i < RANGES; i++) {
		int64_t first = (by_row ? p->first_row : p->first_col) + i * width;
		while (at + 1 < count && first >= (by_row ? parts[at + 1].first_row : parts[at + 1].first_col))
			at++;
		part_of[i] = (unsigned char)at;
	}
	SL_TRY(deal_out(s, p, parts, count, part_of, width, by_row));
	s->end += p->count;
	forget(s, p);
	for (int i = 0; i < count; i++) {
		SL_TRY(give_part(s, &parts[i], put, user));
		forget(s, &parts[i]);
	}
	return SL_OK;
}

sl_status sli_sorter_give(sl_sorter *s, int64_t rows, int64_t cols, sl_entry_sink put, void *user) {
	part all = {.count = s->filed + s->held, .rows = rows > 0 ? rows : 1, .cols = cols > 0 ? cols : 1};
	if (s->fd < 0) {
		sort_room(s, s->held, &all);
		return give(s->room, s->held, put, user);
	}
	SL_TRY(write_at(s, s->room, s->held, s->filed));
	s->end = all.count;
	return give_part(s, &all, put, user);
}
