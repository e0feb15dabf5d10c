/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A text file as blocks of whole lines that the context's threads work on. A reader goes through the file
 * twice: the first time it counts, the second time it writes each block's part of the result where the
 * counts before it say. What is wrong is kept in its block; the first of all is reported, whatever the
 * threads did.
 */
#ifndef SL_IO_LINES_H
#define SL_IO_LINES_H

#include <sparselayer/comm.h>

#include "io/dataset.h"

typedef struct sl_line_block {
	int64_t begin;        /* byte of its first line */
	int64_t lines;        /* in it; the counting task sets it */
	int64_t counts[3];    /* whatever the reader counts; after sli_lines_sum() what comes before the block */
	int64_t kept[3];      /* whatever the reader keeps of the second pass */
	bool flag;            /* likewise, of the first */
	sl_status status;     /* the first fault */
	int64_t line, column; /* its place from 1, the line within the block; 0: it has none */
	char what[136];
} sl_line_block;

typedef struct sl_lines {
	sl_context *context;
	const char *path;
	int fd;
	int64_t size;
	int64_t before; /* lines of the file before the first block */
	size_t count, bytes;
	sl_line_block *blocks; /* count + 1 of them; the last one begins where the file ends */
} sl_lines;

/* `text` up to `end` are whole lines; the last one ends in a line end even where the file's does not, and a
 * zero byte follows. */
typedef void (*sl_block_task)(void *user, sl_line_block *block, const char *text, const char *end);

sl_status sli_lines_open(sl_lines *lines, sl_context *context, const char *path, const sl_read_limits *limits);
/* The same of the lines from byte `from` to `to` (-1: the end), where lines begin. */
sl_status sli_lines_open_range(sl_lines *lines, sl_context *context, const char *path, const sl_read_limits *limits,
							   int64_t from, int64_t to);
/* Of the lines that begin in one of so many equal pieces of the file. */
sl_status sli_lines_open_piece(sl_lines *lines, sl_context *context, const char *path, const sl_read_limits *limits,
							   int piece, int pieces);
void sli_lines_close(sl_lines *lines);
/* After sli_lines_sum(): where the `row`-th of all that `task` counts in counts[which] begins, and how many lines of
 * the file come before it. */
sl_status sli_lines_find(sl_lines *lines, sl_block_task task, void *user, int which, int64_t row, int64_t *at,
						 int64_t *line);
/* Run a task on every block. The first fault ends it. */
sl_status sli_lines_run(sl_lines *lines, sl_block_task task, void *user);
/* The same of blocks [first, end). */
sl_status sli_lines_run_some(sl_lines *lines, size_t first, size_t end, sl_block_task task, void *user);
/* Counts of each block become the sums of those before it; the last block's are the totals. */
void sli_lines_sum(sl_lines *lines, int64_t totals[3]);
/* A data set from a file of lines: `read` fills it, with the locale that numbers are written in. */
typedef sl_status (*sl_lines_reader)(sl_lines *lines, locale_t c, void *reader, sl_dataset *dataset,
									 const sl_read_limits *limits);
/* From lines that `status` says were opened, and which are closed. With `comm` a collective call: `read` is made by all
 * or by none. */
sl_status sli_dataset_read_opened(sl_dataset **dataset, sl_lines *lines, sl_status status, const sl_read_limits *limits,
								  sl_lines_reader read, void *reader, sl_comm *comm);
sl_status sli_dataset_read_lines(sl_dataset **dataset, sl_context *context, const char *path,
								 const sl_read_limits *limits, sl_lines_reader read, void *reader);
/* `at` is where the fault is, in the line that begins at `first`; false. */
bool sli_block_fail(sl_line_block *block, sl_status status, int64_t line, const char *first, const char *at,
					const char *format, ...) __attribute__((format(printf, 6, 7)));
/* For a message: how much of a word to print, up to a blank, a line end or 30 characters. */
int sli_word_length(const char *word);
/* How often a byte occurs. */
int64_t sli_count_byte(const char *text, const char *end, char byte);
/* Just behind the line end that follows. There is one. */
static inline const char *sli_next_line(const char *text, const char *end) {
	const char *found = memchr(text, '\n', (size_t)(end - text));
	return found ? found + 1 : end;
}
static inline bool sli_is_blank(char c) {
	return c == ' ' || c == '\t' || c == '\r';
}
static inline const char *sli_skip_blanks(const char *text) {
	while (sli_is_blank(*text))
		text++;
	return text;
}

/* A number as strtod() reads it, hexadecimal ones excepted: by one exact division or product where the
 * digits allow it (Clinger 1990), else by strtod() in the locale `c`. Moves *at behind it; false: there is
 * none. The text must end in something that is no part of a number. */
bool sli_parse_slowly(const char **at, locale_t c, double *value);
extern const double sli_powers_of_ten[23];
static inline bool sli_parse_number(const char **at, locale_t c, double *value) {
	const char *s = *at + (**at == '-' || **at == '+');
	const char *first = s;
	uint64_t digits = 0;
	int exponent = 0;
	unsigned d;
	for (; (d = (unsigned)(unsigned char)*s - '0') < 10; s++)
		digits = digits * 10 + d;
	int64_t count = s - first;
	if (*s == '.') {
		const char *point = ++s;
		for (; (d = (unsigned)(unsigned char)*s - '0') < 10; s++)
			digits = digits * 10 + d;
		exponent = count > 19 || s - point > 22 ? 99 : -(int)(s - point);
		count += s - point;
	}
	/* Letters: an exponent, or no number of digits at all. */
	if (count == 0 || count > 19 || digits > (uint64_t)1 << 53 || (unsigned)(exponent + 22) > 44 || *s >= 'A')
		return sli_parse_slowly(at, c, value);
	double v = (double)digits;
	v = exponent ? v / sli_powers_of_ten[-exponent] : v;
	*value = **at == '-' ? -v : v;
	*at = s;
	return true;
}

#endif
