/* SPDX-License-Identifier: Apache-2.0 */
/* Ratings: lines of `user item rating`, as MovieLens has them (u.data with tabs, ratings.csv with a heading,
 * ratings.dat with "::"). What follows the rating, a time, is not read. */
#include "core/checked.h"
#include "io/dataset.h"
#include "io/lines.h"
#include "io/share.h"
#include "sparse/sparse.h"

enum { LINES }; /* what counts[] of a block is */

typedef struct triples {
	int64_t *users, *items;
	float *ratings;
	int32_t *rows, *cols;
	int64_t count, room;
} triples;

typedef struct reader {
	const sl_ratings_options *o;
	locale_t c;
	char separator; /* ' ': blanks */
	bool doubled;   /* "::" */
	bool heading;   /* the first line is none of ratings */
	triples t;
	sl_share *share; /* NULL: the whole file */
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

/* Count the ratings, and take room for them: *memory of *bytes. */
static sl_status count_all(sl_lines *l, reader *r, const sl_read_limits *limits, void **memory, size_t *bytes) {
	int64_t totals[3];
	SL_TRY(look(l, r));
	SL_TRY(sli_lines_run(l, count_block, r));
	sli_lines_sum(l, totals);
	r->t.room = r->t.count = totals[LINES];
	SL_TRY(sli_check_nonzeros(l->context, l->path, limits, r->t.room));
	*bytes = (size_t)r->t.room * (2 * sizeof(int64_t) + sizeof(float) + 2 * sizeof(int32_t));
	SL_TRY(sli_allocate(l->context, *bytes, "ratings", memory));
	r->t.users = *memory;
	r->t.items = r->t.users + r->t.room;
	r->t.ratings = (float *)(r->t.items + r->t.room);
	r->t.rows = (int32_t *)(r->t.ratings + r->t.room);
	r->t.cols = r->t.rows + r->t.room;
	return SL_OK;
}

static sl_status read_all(sl_lines *l, locale_t c, void *of, sl_dataset *d, const sl_read_limits *limits) {
	reader *r = of;
	void *memory = NULL;
	size_t bytes = 0;
	r->c = c;
	sl_status status = count_all(l, r, limits, &memory, &bytes);
	if (status == SL_OK)
		status = sli_lines_run(l, read_block, r);
	if (status == SL_OK) {
		filter(r);
		status = make_matrix(l, r, d, r->t.rows, r->t.cols);
	}
	sli_heap_free(sli_heap(l->context), memory, memory ? bytes : 0);
	return status;
}

sl_status sli_ratings_read(sl_dataset **dataset, sl_context *context, const char *path, const sl_ratings_options *o,
						   const sl_read_limits *limits) {
	reader r = {.o = o};
	return sli_dataset_read_lines(dataset, context, path, limits, read_all, &r);
}

/* By share. */

/* Number ids by those of all ranks: increasing keys, *count of them, the heap's. Collective. */
static sl_status number_together(sl_context *context, sl_comm *comm, int64_t *ids, int64_t n, uint64_t **keys,
								 int64_t *count, int32_t *index) {
	int64_t stranger;
	for (int64_t i = 0; i < n; i++)
		ids[i] = (int64_t)sli_key_of_integer(ids[i]);
	sl_status status = sli_distinct(context, (const uint64_t *)ids, n, NULL, keys, count, index, &stranger);
	SL_TRY(sli_share_keys(context, comm, status, keys, count));
	status = sli_distinct(context, (const uint64_t *)ids, n, *keys, NULL, count, index, &stranger);
	return sli_comm_settle(context, comm, status);
}

/* The part that element `at` of `total` is in; the reverse of sl_comm_share(). */
static int64_t part_of(int64_t total, int64_t parts, int64_t at) {
	int64_t each = total / parts, more = total % parts, larger = more * (each + 1);
	return at < larger ? at / (each + 1) : more + (at - larger) / each;
}

static int64_t owner(const sl_share *share, int64_t row) {
	return part_of(share->parts, sl_comm_size(share->comm), part_of(share->total, share->parts, row));
}

/* What goes to a rank, or came from one: how many, then rows, columns and ratings, three words each. */
typedef struct routes {
	int32_t *sent, *received;
	int64_t most, block; /* ratings, and words, of any rank to any other */
	size_t bytes;        /* of both */
} routes;

static void pack(const reader *r, routes *w) {
	int size = sl_comm_size(r->share->comm);
	int64_t *counts = r->share->comm->board;
	memset(counts, 0, (size_t)size * sizeof *counts);
	for (int64_t i = 0; i < r->t.count; i++) {
		int64_t to = owner(r->share, r->t.rows[i]);
		int32_t *words = w->sent + to * w->block + 2 + 3 * counts[to]++;
		words[0] = r->t.rows[i];
		words[1] = r->t.cols[i];
		memcpy(&words[2], &r->t.ratings[i], sizeof words[2]);
	}
	for (int to = 0; to < size; to++)
		memcpy(w->sent + to * w->block, &counts[to], sizeof counts[to]);
}

/* Ratings that came, in the file's order: back into the arrays, which are taken anew where they are too short. */
static sl_status unpack(sl_context *context, reader *r, const routes *w, void **memory, size_t *bytes) {
	int size = sl_comm_size(r->share->comm);
	int64_t total = 0, n, at = 0;
	for (int from = 0; from < size; from++) {
		memcpy(&n, w->received + from * w->block, sizeof n);
		total += n;
	}
	sli_heap_free(sli_heap(context), *memory, *bytes);
	*memory = NULL;
	*bytes = (size_t)total * (2 * sizeof(int32_t) + sizeof(float));
	SL_TRY(sli_allocate(context, *bytes, "ratings", memory));
	r->t = (triples){.rows = *memory, .count = total};
	r->t.cols = r->t.rows + total;
	r->t.ratings = (float *)(r->t.cols + total);
	for (int from = 0; from < size; from++) {
		const int32_t *words = w->received + from * w->block;
		memcpy(&n, words, sizeof n);
		for (words += 2; n > 0; n--, words += 3, at++) {
			r->t.rows[at] = words[0] - (int32_t)r->share->first;
			r->t.cols[at] = words[1];
			memcpy(&r->t.ratings[at], &words[2], sizeof words[2]);
		}
	}
	return SL_OK;
}

/* Each rating to the rank that has its user's row. Collective. */
static sl_status route(sl_context *context, reader *r, void **memory, size_t *bytes) {
	sl_comm *comm = r->share->comm;
	int size = sl_comm_size(comm);
	routes w = {.most = 0};
	memset(comm->board, 0, (size_t)size * sizeof *comm->board);
	for (int64_t i = 0; i < r->t.count; i++) {
		int64_t n = ++comm->board[owner(r->share, r->t.rows[i])];
		w.most = n > w.most ? n : w.most;
	}
	SL_TRY(sli_share_max(context, comm, &w.most, 1));
	w.block = 2 + 3 * w.most;
	int64_t words;
	sl_status status = SL_OK;
	if (!sli_mul(w.block, 2 * (int64_t)size, &words) || !sli_bytes(words, sizeof *w.sent, &w.bytes))
		status = sli_fail(context, SL_ERR_OVERFLOW, "%lld ratings of one rank for another do not fit in memory",
						  (long long)w.most);
	if (status == SL_OK)
		status = sli_allocate_zeroed(context, w.bytes, "ratings on their way", (void **)&w.sent);
	status = sli_comm_settle(context, comm, status);
	if (status == SL_OK) {
		w.received = w.sent + size * w.block;
		pack(r, &w);
		sl_comm_call call = {.kind = SL_CALL_ALL_TO_ALL,
							 .send = w.sent,
							 .recv = w.received,
							 .count = w.block,
							 .dtype = SL_I32,
							 .on_host = true};
		status = sli_comm_call(context, comm, &call, NULL);
	}
	if (status == SL_OK)
		status = sli_comm_settle(context, comm, unpack(context, r, &w, memory, bytes));
	sli_heap_free(sli_heap(context), w.sent, w.sent ? w.bytes : 0);
	return status;
}

/* Rows of the share, and the ids that rows and columns stand for. */
static sl_status make_share(const sl_lines *l, const reader *r, sl_dataset *d, const uint64_t *users,
							const uint64_t *items, int64_t item_count, const sl_read_limits *limits) {
	sl_context *context = l->context;
	int64_t *col_ids = NULL;
	SL_TRY(sli_check_nonzeros(context, l->path, limits, r->t.count));
	SL_TRY(sli_allocate(context, (size_t)r->share->count * sizeof *d->row_ids, "ids", (void **)&d->row_ids));
	d->samples = r->share->count;
	for (int64_t i = 0; i < d->samples; i++)
		d->row_ids[i] = (int64_t)sli_key_of_integer((int64_t)users[r->share->first + i]);
	SL_TRY(sli_allocate(context, (size_t)item_count * sizeof *col_ids, "ids", (void **)&col_ids));
	for (int64_t i = 0; i < item_count; i++)
		col_ids[i] = (int64_t)sli_key_of_integer((int64_t)items[i]);
	sl_status status = sl_csr_create_coo(
		&d->inputs, context, d->samples, item_count, r->t.count, r->t.rows, r->t.cols, SL_I32, r->t.ratings, SL_F32,
		&(sl_build_options){SL_BUILD_DEFAULTS, .duplicates = r->o->duplicates, .dtype = r->o->dtype});
	if (status == SL_OK)
		d->col_ids = col_ids;
	else
		sli_heap_free(sli_heap(context), col_ids, (size_t)item_count * sizeof *col_ids);
	return status;
}

/* Collective from count to matrix, see share.h. */
static sl_status read_counted(sl_lines *l, reader *r, sl_dataset *d, const sl_read_limits *limits, void **memory,
							  size_t *bytes) {
	sl_context *context = l->context;
	sl_comm *comm = r->share->comm;
	uint64_t *users = NULL, *items = NULL;
	int64_t user_count = 0, item_count = 0, lines = 0;
	for (size_t k = 0; k < l->count; k++)
		lines += l->blocks[k].lines;
	SL_TRY(sli_comm_gather(context, comm, &lines, comm->board, 1, SL_I64));
	for (int q = 0; q < sl_comm_rank(comm); q++)
		l->before += comm->board[q];
	SL_TRY(sli_comm_settle(context, comm, sli_lines_run(l, read_block, r)));
	filter(r);
	sl_status status = number_together(context, comm, r->t.users, r->t.count, &users, &user_count, r->t.rows);
	if (status == SL_OK)
		status = number_together(context, comm, r->t.items, r->t.count, &items, &item_count, r->t.cols);
	if (status == SL_OK) {
		sli_share_take(r->share, user_count);
		status = route(context, r, memory, bytes);
	}
	if (status == SL_OK)
		status = sli_comm_settle(context, comm, make_share(l, r, d, users, items, item_count, limits));
	sli_heap_free(sli_heap(context), users, users ? (size_t)user_count * sizeof *users : 0);
	sli_heap_free(sli_heap(context), items, items ? (size_t)item_count * sizeof *items : 0);
	return status;
}

static sl_status read_share(sl_lines *l, locale_t c, void *of, sl_dataset *d, const sl_read_limits *limits) {
	reader *r = of;
	void *memory = NULL;
	size_t bytes = 0;
	r->c = c;
	sl_status status = count_all(l, r, limits, &memory, &bytes);
	status = sli_comm_settle(l->context, r->share->comm, status);
	if (status == SL_OK)
		status = sli_comm_agree(l->context, r->share->comm, "the size of the file", (uint64_t)l->size);
	if (status == SL_OK)
		status = read_counted(l, r, d, limits, &memory, &bytes);
	sli_heap_free(sli_heap(l->context), memory, memory ? bytes : 0);
	return status;
}

sl_status sli_ratings_read_share(sl_dataset **dataset, sl_context *context, const char *path,
								 const sl_ratings_options *o, const sl_read_limits *limits, sl_share *share) {
	reader r = {.o = o, .share = share};
	sl_lines lines;
	sl_status status =
		sli_lines_open_piece(&lines, context, path, limits, sl_comm_rank(share->comm), sl_comm_size(share->comm));
	return sli_dataset_read_opened(dataset, &lines, status, limits, read_share, &r, share->comm);
}
