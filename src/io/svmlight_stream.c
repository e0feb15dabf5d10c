/* SPDX-License-Identifier: Apache-2.0 */
/* The features of svmlight text entry by entry: a few blocks of lines at a time, on all threads. */
#include "core/checked.h"
#include "core/half.h"
#include "io/convert.h"
#include "io/svmlight.h"
#include "sparse/sparse.h"

enum { BLOCKS_A_THREAD = 2 };

/* Blocks of lines, and the entries of those that are in memory. */
typedef struct stretch {
	sl_context *context;
	sl_lines *lines;
	sl_svmlight_reader reader;
	int64_t most_rows, most_entries; /* of any stretch */
	size_t blocks;                   /* of a stretch */
	int64_t *offsets, *groups;       /* groups are read, and forgotten */
	int32_t *columns;
	float *values;
	int64_t highest;
	bool from_zero; /* an index 0 was seen */
} stretch;

static void find_most(stretch *s) {
	const sl_lines *l = s->lines;
	for (size_t k = 0; k < l->count; k += s->blocks) {
		size_t end = k + s->blocks < l->count ? k + s->blocks : l->count;
		int64_t rows = l->blocks[end].counts[ROWS] - l->blocks[k].counts[ROWS];
		int64_t entries = l->blocks[end].counts[ENTRIES] - l->blocks[k].counts[ENTRIES];
		s->most_rows = rows > s->most_rows ? rows : s->most_rows;
		s->most_entries = entries > s->most_entries ? entries : s->most_entries;
	}
}

static void give_room(stretch *s) {
	sl_heap *heap = sli_heap(s->context);
	sli_heap_free(heap, s->offsets, (size_t)(s->most_rows + 1) * sizeof *s->offsets);
	sli_heap_free(heap, s->groups, (size_t)s->most_rows * sizeof *s->groups);
	sli_heap_free(heap, s->columns, (size_t)s->most_entries * sizeof *s->columns);
	sli_heap_free(heap, s->values, (size_t)s->most_entries * sizeof *s->values);
}

static sl_status take_room(stretch *s) {
	const char *what = "reading a file";
	SL_TRY(sli_allocate(s->context, (size_t)(s->most_rows + 1) * sizeof *s->offsets, what, (void **)&s->offsets));
	SL_TRY(sli_allocate(s->context, (size_t)s->most_rows * sizeof *s->groups, what, (void **)&s->groups));
	SL_TRY(sli_allocate(s->context, (size_t)s->most_entries * sizeof *s->columns, what, (void **)&s->columns));
	SL_TRY(sli_allocate(s->context, (size_t)s->most_entries * sizeof *s->values, what, (void **)&s->values));
	s->reader.offsets = s->offsets;
	s->reader.offset_dtype = SL_I64;
	s->reader.groups = s->groups;
	s->reader.cols = s->columns;
	s->reader.values = s->values;
	return SL_OK;
}

/* What blocks count is told from where the stretch begins, or back again. */
static void shift_counts(sl_lines *l, size_t first, size_t end, const int64_t by[3], int sign) {
	for (size_t k = first; k <= end; k++)
		for (int i = 0; i < 3; i++)
			l->blocks[k].counts[i] += sign * by[i];
}

static sl_status read_stretch(stretch *s, size_t first, size_t end) {
	sl_lines *l = s->lines;
	int64_t base[3];
	memcpy(base, l->blocks[first].counts, sizeof base);
	shift_counts(l, first, end, base, -1);
	s->offsets[l->blocks[end].counts[ROWS]] = l->blocks[end].counts[ENTRIES];
	sl_status status = sli_lines_run_some(l, first, end, sli_svmlight_parse, &s->reader);
	for (size_t k = first; k < end && status == SL_OK; k++) {
		const int64_t *kept = l->blocks[k].kept;
		s->from_zero |= kept[LOWEST] == 0;
		s->highest = kept[HIGHEST] > s->highest ? kept[HIGHEST] : s->highest;
	}
	shift_counts(l, first, end, base, 1);
	return status;
}

/* The reader tells columns from 1; `shift` is added. */
static sl_status give_stretch(stretch *s, size_t first, size_t end, int shift, sl_entry_reading *to) {
	const sl_line_block *b = s->lines->blocks;
	int64_t rows = b[end].counts[ROWS] - b[first].counts[ROWS];
	for (int64_t r = 0; r < rows; r++)
		for (int64_t k = s->offsets[r]; k < s->offsets[r + 1]; k++)
			SL_TRY(to->put(to->user, b[first].counts[ROWS] + r, s->columns[k] + shift, (double)s->values[k]));
	return SL_OK;
}

/* An index 0 may stand anywhere: then all that was given counts from 0, and is given once more. */
static sl_status give_all(stretch *s, bool from_zero, sl_entry_reading *to, bool *again) {
	sl_lines *l = s->lines;
	*again = false;
	SL_TRY(to->begin(to->user, &(sl_matrix_outline){.rows = l->blocks[l->count].counts[ROWS],
													.cols = -1,
													.most = l->blocks[l->count].counts[ENTRIES],
													.dtype = SL_F32}));
	for (size_t k = 0; k < l->count; k += s->blocks) {
		size_t end = k + s->blocks < l->count ? k + s->blocks : l->count;
		SL_TRY(read_stretch(s, k, end));
		if (s->from_zero && !from_zero) {
			*again = true;
			return SL_OK;
		}
		SL_TRY(give_stretch(s, k, end, from_zero ? 1 : 0, to));
		if (!to->progress(to->user, l->blocks[end].begin, l->size))
			return SL_ERR_CANCELLED;
	}
	return SL_OK;
}

static sl_status stream(stretch *s, const sl_read_limits *limits, sl_entry_reading *to) {
	sl_lines *l = s->lines;
	int64_t totals[3];
	bool again;
	SL_TRY(sli_svmlight_refuse_compressed(l));
	SL_TRY(sli_lines_run(l, sli_svmlight_count, &s->reader));
	sli_lines_sum(l, totals);
	SL_TRY(sli_check_nonzeros(l->context, l->path, limits, totals[ENTRIES]));
	s->blocks = (size_t)sl_context_threads(s->context) * BLOCKS_A_THREAD;
	find_most(s);
	SL_TRY(take_room(s));
	sl_status status = give_all(s, s->from_zero, to, &again);
	if (status == SL_OK && again)
		status = give_all(s, true, to, &again);
	to->cols = s->highest < 0 ? 0 : s->highest + s->from_zero;
	if (status == SL_OK && to->cols > INT32_MAX)
		status =
			sli_fail(l->context, SL_ERR_OVERFLOW, "%s: index %lld counted from 0 is more than a matrix has columns",
					 l->path, (long long)s->highest);
	return status;
}

sl_status sli_svmlight_stream(sl_context *context, const char *path, const sl_read_limits *limits,
							  sl_entry_reading *to) {
	sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .labels = (sl_label_kind)SLI_LABELS_SKIPPED, .dtype = SL_F32};
	sl_lines lines;
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (!c)
		return sli_fail_memory(context, 0, "a locale");
	sl_status status = sli_lines_open(&lines, context, path, limits);
	if (status == SL_OK) {
		stretch s = {.context = context, .lines = &lines, .reader = {.o = &o, .c = c}, .highest = -1};
		status = stream(&s, limits, to);
		give_room(&s);
		sli_lines_close(&lines);
	}
	freelocale(c);
	return status;
}
