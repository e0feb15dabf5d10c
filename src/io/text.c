/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <errno.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/io.h"

locale_t sli_locale_enter(void) {
	locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	return plain ? uselocale(plain) : (locale_t)0;
}

void sli_locale_leave(locale_t before) {
	if (before)
		freelocale(uselocale(before));
}

sl_status sli_text_open(sl_text **result, sl_context *context, const char *path) {
	void *memory;
	*result = NULL;
	SL_TRY(sli_allocate_zeroed(context, sizeof(sl_text), "reading a file", &memory));
	sl_text *t = memory;
	t->context = context;
	t->path = path;
	t->line = 1;
	t->fd = -1;
	sl_status status = sli_open_read(context, path, &t->fd, &t->size);
	if (status != SL_OK) {
		sli_heap_free(sli_heap(context), t, sizeof *t);
		return status;
	}
	t->number_locale = sli_locale_enter();
	*result = t;
	return SL_OK;
}

void sli_text_close(sl_text *t) {
	if (!t)
		return;
	close(t->fd);
	sli_locale_leave(t->number_locale);
	sli_heap_free(sli_heap(t->context), t, sizeof *t);
}

sl_status sli_text_fail(sl_text *t, sl_status status, const char *format, ...) {
	char text[256];
	va_list list;
	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	return sli_fail(t->context, status, "%s, line %lld: %s", t->path, (long long)t->line, text);
}

int sli_text_next(sl_text *t, bool take) {
	if (t->at == t->filled) {
		ssize_t got;
		do
			got = read(t->fd, t->buffer, sizeof t->buffer);
		while (got < 0 && errno == EINTR);
		t->failed = t->failed || got < 0;
		t->passed += (int64_t)t->filled;
		t->at = 0;
		t->filled = got > 0 ? (size_t)got : 0;
		if (got <= 0)
			return -1;
	}
	int c = (unsigned char)t->buffer[t->at];
	if (take) {
		t->at++;
		t->line += c == '\n';
	}
	return c;
}

static bool is_space(int c) {
	return c == ' ' || c == '\t' || c == '\r' || c == ',';
}

sl_status sli_text_token(sl_text *t, bool lines) {
	size_t used = 0;
	int c;
	while (is_space(c = sli_text_next(t, false)) || (lines && c == '\n'))
		sli_text_next(t, true);
	while (c >= 0 && c != '\n' && !is_space(c)) {
		if (used + 1 == sizeof t->token)
			return sli_text_fail(t, SL_ERR_FORMAT, "a word of more than %zu characters", sizeof t->token - 1);
		t->token[used++] = (char)sli_text_next(t, true);
		c = sli_text_next(t, false);
	}
	t->token[used] = 0;
	if (t->failed)
		return sli_fail(t->context, SL_ERR_IO, "%s: reading failed", t->path);
	return SL_OK;
}

sl_status sli_text_integer(sl_text *t, bool lines, const char *what, int64_t least, int64_t most, int64_t *value) {
	SL_TRY(sli_text_token(t, lines));
	char *end;
	errno = 0;
	long long n = strtoll(t->token, &end, 10);
	if (!t->token[0] || *end || errno)
		return sli_text_fail(t, SL_ERR_FORMAT, "%s is \"%.40s\"; a whole number is needed", what, t->token);
	if (n < least || n > most)
		return sli_text_fail(t, SL_ERR_FORMAT, "%s is %lld; it must be between %lld and %lld", what, n,
							 (long long)least, (long long)most);
	*value = n;
	return SL_OK;
}

sl_status sli_text_number(sl_text *t, bool lines, const char *what, double *value) {
	char *end;
	SL_TRY(sli_text_token(t, lines));
	*value = strtod(t->token, &end);
	if (!t->token[0] || *end)
		return sli_text_fail(t, SL_ERR_FORMAT, "%s is \"%.40s\"; a number is needed", what, t->token);
	return SL_OK;
}

sl_status sli_text_line(sl_text *t, char *line, size_t size) {
	size_t used = 0;
	for (int c = sli_text_next(t, true); c >= 0 && c != '\n'; c = sli_text_next(t, true)) {
		if (used + 1 == size)
			return sli_text_fail(t, SL_ERR_FORMAT, "longer than %zu characters", size - 1);
		line[used++] = (char)c;
	}
	line[used] = 0;
	return SL_OK;
}
