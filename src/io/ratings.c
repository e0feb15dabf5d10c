/* SPDX-License-Identifier: Apache-2.0 */
/* Ratings: lines of `user item rating`, as MovieLens has them (u.data with tabs, ratings.csv with a heading,
 * ratings.dat with "::"). What follows the rating, a time, is not read. */
#include "core/checked.h"
#include "io/dataset.h"
#include "io/lines.h"
#include "sparse/sparse.h"

enum { LINES }; /* what counts[] of a block is */

typedef struct triples {
	int64_t *users, *items;
	float *ratings;
	int64_t count, room;
} triples;

typedef struct reader {
	const sl_ratings_options *o;
	locale_t c;
	char separator; /* ' ': blanks */
	bool doubled;   /* "::" */
	bool heading;   /* the first line is none of ratings */
	triples t;
} reader;

static void count_block(void *user, sl_line_block *b, const char *text, const char *end) {
	const reader *r = user;
	for (const char *s = text, *next; s < end; s = next) {
		next = sli_next_line(s, end);
		b->lines++;
		b->counts[LINES] += *sli_skip_blanks(s) != '\n' && !(r->heading && b->begin == 0 && s == text);
	}
}

typedef struct place {
	sl_line_block *block;
	int64_t line;
	const char *first;
} place;

#define FAIL(at, ...) sli_block_fail(p->block, SL_ERR_FORMAT, p->line, p->first, at, __VA_ARGS__)

static bool is_end(const reader *r, const char *s) {
	return *s == '\n' || sli_is_blank(*s) || (*s == r->separator && (!r->doubled || s[1] == r->separator));
}

static bool step_over(const reader *r, place *p, const char **at, const char *what) {
	const char *s = sli_skip_blanks(*at);
	if (r->separator != ' ') {
		if (*s != r->separator || (r->doubled && s[1] != r->separator))
			return FAIL(s, "\"%.*s\" where %s and a \"%.2s\" before it are needed", sli_word_length(s), s, what,
						r->doubled ? "::" : (char[]){r->separator, 0});
		s = sli_skip_blanks(s + 1 + r->doubled);
	}
	*at = s;
	return true;
}

static bool read_id(const reader *r, place *p, const char **at, const char *what, int64_t *value) {
	const char *s = *at + (**at == '-'), *first = s;
	int64_t n = 0;
	for (; *s >= '0' && *s <= '9' && s - first < 18; s++)
		n = n * 10 + (*s - '0');
	if (s == first || !is_end(r, s))
		return FAIL(*at, "the %s is \"%.*s\"; a whole number of at most 18 digits is needed", what,
					sli_word_length(*at), *at);
	*value = **at == '-' ? -n : n;
	*at = s;
	return true;
}

static bool read_line(reader *r, place *p, int64_t place_in_all) {
	const char *s = sli_skip_blanks(p->first);
	double rating;
	if (!read_id(r, p, &s, "user", &r->t.users[place_in_all]) || !step_over(r, p, &s, "an item") ||
		!read_id(r, p, &s, "item", &r->t.items[place_in_all]) || !step_over(r, p, &s, "a rating"))
		return false;
	const char *word = s;
	if (!sli_parse_number(&s, r->c, &rating) || !is_end(r, s) || rating != rating)
		return FAIL(word, "the rating is \"%.*s\"; a number is needed", sli_word_length(word), word);
	r->t.ratings[place_in_all] = (float)rating;
	return true;
}

static void read_block(void *user, sl_line_block *b, const char *text, const char *end) {
	reader *r = user;
	place p = {.block = b};
	int64_t at = b->counts[LINES];
	for (const char *s = text, *next; s < end; s = next) {
		next = sli_next_line(s, end);
		p.line++;
		p.first = s;
		if (*sli_skip_blanks(s) == '\n' || (r->heading && b->begin == 0 && s == text))
			continue;
		if (at == b[1].counts[LINES]) {
			sli_block_fail(b, SL_ERR_IO, p.line, s, s, "the file changed while it was read");
			return;
		}
		if (!read_line(r, &p, at++))
			return;
	}
	if (at != b[1].counts[LINES])
		sli_block_fail(b, SL_ERR_IO, 0, NULL, NULL, "the file changed while it was read");
}

/* The separator and whether there is a heading, from the first line. */
static sl_status look(sl_lines *l, reader *r) {
	char text[257];
	size_t n = l->size < 256 ? (size_t)l->size : 256;
	SL_TRY(sli_read_at(l->context, l->fd, l->path, 0, text, n));
	text[n] = 0;
	char *end = strchr(text, '\n');
	if (end)
		*end = 0;
	const char *s = sli_skip_blanks(text);
	r->heading = *s && *s != '-' && (*s < '0' || *s > '9');
	r->doubled = strstr(text, "::") != NULL;
	r->separator = r->doubled ? ':' : strchr(text, ',') ? ',' : strchr(text, ';') ? ';' : ' ';
	return SL_OK;
}

/* Triples below the least rating go; whatever stays is 1 if that is asked for. */
static void filter(reader *r) {
	int64_t kept = 0;
	for (int64_t i = 0; i < r->t.count; i++) {
		if (r->o->min_rating != 0 && (double)r->t.ratings[i] < r->o->min_rating)
			continue;
		r->t.users[kept] = r->t.users[i];
		r->t.items[kept] = r->t.items[i];
		r->t.ratings[kept++] = r->o->implicit ? 1 : r->t.ratings[i];
	}
	r->t.count = kept;
}

/* The place of each id among the distinct ones; -1 for those that `known` does not have. */
static sl_status number_ids(sl_context *context, int64_t *ids, int64_t n, const int64_t *known, int64_t known_count,
							int64_t **distinct, int64_t *count, int32_t *index, int64_t *stranger) {
	uint64_t *keys = NULL, *found = NULL;
	size_t bytes = (size_t)known_count * sizeof *keys;
	*count = known_count;
	if (known)
		SL_TRY(sli_allocate(context, bytes, "ids", (void **)&keys));
	for (int64_t i = 0; i < known_count; i++)
		keys[i] = sli_key_of_integer(known[i]);
	/* In place, and back: the order of keys is that of integers. */
	for (int64_t i = 0; i < n; i++)
		ids[i] = (int64_t)sli_key_of_integer(ids[i]);
	sl_status status = sli_distinct(context, (const uint64_t *)ids, n, keys, &found, count, index, stranger);
	for (int64_t i = 0; i < n; i++)
		ids[i] = (int64_t)sli_key_of_integer(ids[i]);
	if (status == SL_OK && known) {
		status = sli_allocate(context, bytes, "ids", (void **)distinct);
		if (status == SL_OK && bytes)
			memcpy(*distinct, known, bytes);
	} else if (status == SL_OK) {
		for (int64_t i = 0; i < *count; i++)
			found[i] = (uint64_t)sli_key_of_integer((int64_t)found[i]);
		*distinct = (int64_t *)found;
	}
	sli_heap_free(sli_heap(context), keys, keys ? bytes : 0);
	return status;
}

static sl_status refuse_stranger(const sl_lines *l, const char *what, int64_t id) {
	return sli_fail(l->context, SL_ERR_SHAPE, "%s: %s %lld is not in `like`; see skip_unknown", l->path, what,
					(long long)id);
}

static sl_status make_matrix(const sl_lines *l, reader *r, sl_dataset *d, int32_t *rows, int32_t *cols) {
	const sl_dataset *like = r->o->like;
	triples *t = &r->t;
	int64_t users = 0, items = 0, stranger;
	int64_t like_items = like ? sli_pattern_arrays(like->inputs->pattern).cols : 0;
	sl_status status = number_ids(l->context, t->users, t->count, like ? like->row_ids : NULL, like ? like->samples : 0,
								  &d->row_ids, &users, rows, &stranger);
	d->samples = d->row_ids ? users : 0;
	SL_TRY(status);
	if (stranger >= 0 && !r->o->skip_unknown)
		return refuse_stranger(l, "user", t->users[stranger]);
	int64_t *col_ids = NULL;
	SL_TRY(number_ids(l->context, t->items, t->count, like ? like->col_ids : NULL, like_items, &col_ids, &items, cols,
					  &stranger));
	if (stranger >= 0 && !r->o->skip_unknown) {
		status = refuse_stranger(l, "item", t->items[stranger]);
	} else {
		int64_t kept = 0;
		for (int64_t i = 0; i < t->count; i++)
			if (rows[i] >= 0 && cols[i] >= 0) {
				rows[kept] = rows[i];
				cols[kept] = cols[i];
				t->ratings[kept++] = t->ratings[i];
			}
		status = sl_csr_create_coo(
			&d->inputs, l->context, users, items, kept, rows, cols, SL_I32, t->ratings, SL_F32,
			&(sl_build_options){SL_BUILD_DEFAULTS, .duplicates = r->o->duplicates, .dtype = r->o->dtype});
	}
	if (status == SL_OK)
		d->col_ids = col_ids;
	else
		sli_heap_free(sli_heap(l->context), col_ids, (size_t)items * sizeof *col_ids);
	return status;
}

static sl_status read_all(sl_lines *l, locale_t c, void *of, sl_dataset *d, const sl_read_limits *limits) {
	reader *r = of;
	int64_t totals[3];
	void *memory = NULL;
	r->c = c;
	SL_TRY(look(l, r));
	SL_TRY(sli_lines_run(l, count_block, r));
	sli_lines_sum(l, totals);
	r->t.room = r->t.count = totals[LINES];
	SL_TRY(sli_check_nonzeros(l->context, l->path, limits, r->t.room));
	size_t bytes = (size_t)r->t.room * (2 * sizeof(int64_t) + sizeof(float) + 2 * sizeof(int32_t));
	SL_TRY(sli_allocate(l->context, bytes, "ratings", &memory));
	r->t.users = memory;
	r->t.items = r->t.users + r->t.room;
	r->t.ratings = (float *)(r->t.items + r->t.room);
	int32_t *rows = (int32_t *)(r->t.ratings + r->t.room);
	sl_status status = sli_lines_run(l, read_block, r);
	if (status == SL_OK) {
		filter(r);
		status = make_matrix(l, r, d, rows, rows + r->t.room);
	}
	sli_heap_free(sli_heap(l->context), memory, bytes);
	return status;
}

sl_status sli_ratings_read(sl_dataset **dataset, sl_context *context, const char *path, const sl_ratings_options *o,
						   const sl_read_limits *limits) {
	reader r = {.o = o};
	return sli_dataset_read_lines(dataset, context, path, limits, read_all, &r);
}
