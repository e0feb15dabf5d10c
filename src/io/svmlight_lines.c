/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of svmlight text: label [qid:n] index:value ... [# comment]. */
#include "io/svmlight.h"
#include "sparse/sparse.h"

typedef sl_svmlight_reader reader;

static bool is_group(const char *at) {
	return at[0] == 'q' && at[1] == 'i' && at[2] == 'd' && at[3] == ':';
}

/* A line's labels end where its first word does, unless that is a feature already. */
static int64_t count_labels(const char *s) {
	int64_t commas = 0;
	if (sli_is_blank(*s) || *s == '\n' || *s == '#')
		return 0;
	for (; *s != '\n' && *s != '#' && !sli_is_blank(*s); s++) {
		if (*s == ':')
			return 0;
		commas += *s == ',';
	}
	return commas + 1;
}

void sli_svmlight_count(void *user, sl_line_block *b, const char *text, const char *end) {
	const reader *r = user;
	/* Only in these two cases a colon may belong to no entry. */
	bool plain = !memchr(text, '#', (size_t)(end - text)) && !memchr(text, 'q', (size_t)(end - text));
	for (const char *s = text, *next; s < end; s = next) {
		next = sli_next_line(s, end);
		b->lines++;
		const char *first = sli_skip_blanks(s), *stop = next;
		if (*first == '\n' || *first == '#')
			continue;
		b->counts[ROWS]++;
		if (r->o->labels == SL_LABELS_SETS)
			b->counts[LABELS] += count_labels(s);
		if (plain)
			continue;
		const char *comment = memchr(s, '#', (size_t)(next - s));
		stop = comment ? comment : next;
		b->counts[ENTRIES] += sli_count_byte(s, stop, ':');
		while (first < stop && !sli_is_blank(*first) && *first != ':')
			first++;
		first = sli_skip_blanks(first);
		bool group = is_group(first) || is_group(sli_skip_blanks(s));
		b->counts[ENTRIES] -= group;
		b->flag = b->flag || group;
	}
	if (plain)
		b->counts[ENTRIES] = sli_count_byte(text, end, ':');
}

/* The line being read. */
typedef struct place {
	sl_line_block *block;
	int64_t line, row, entry, label;
	const char *first;
} place;

#define FAIL(at, status, ...) sli_block_fail(p->block, status, p->line, p->first, at, __VA_ARGS__)

/* The second pass never goes beyond what the first one counted. */
static bool changed(place *p) {
	return FAIL(p->first, SL_ERR_IO, "the file changed while it was read");
}

static bool read_number(reader *r, place *p, const char **at, const char *what, double *value) {
	const char *s = *at;
	if (!sli_parse_number(at, r->c, value) || !(sli_is_blank(**at) || **at == '\n' || **at == '#'))
		return FAIL(s, SL_ERR_FORMAT, "%s is \"%.*s\"; a number is needed", what, sli_word_length(s), s);
	return true;
}

static bool read_whole(place *p, const char **at, const char *what, int64_t most, int64_t *value) {
	const char *s = *at, *first = s;
	uint64_t n = 0;
	for (; *s >= '0' && *s <= '9' && s - first < 18; s++)
		n = n * 10 + (uint64_t)(*s - '0');
	if (s == first)
		return FAIL(s, SL_ERR_FORMAT, "%s is \"%.*s\"; a whole number from 0 is needed", what, sli_word_length(s), s);
	if (n > (uint64_t)most || (*s >= '0' && *s <= '9'))
		return FAIL(first, SL_ERR_FORMAT, "%s is %.*s; the most is %lld", what, sli_word_length(first), first,
					(long long)most);
	*value = (int64_t)n;
	*at = s;
	return true;
}

/* Rows whose indices do not increase are sorted: Shell's sort with Ciura's gaps, in place. */
static void sort_row(int32_t *cols, void *values, sl_dtype dtype, int64_t n) {
	static const int64_t gaps[] = {17961, 7983, 3548, 1577, 701, 301, 132, 57, 23, 10, 4, 1};
	for (size_t g = 0; g < sizeof gaps / sizeof *gaps; g++)
		for (int64_t gap = gaps[g], i = gap; i < n; i++) {
			int32_t col = cols[i];
			double value = !values ? 0 : dtype == SL_F64 ? ((double *)values)[i] : (double)((float *)values)[i];
			int64_t j = i;
			for (; j >= gap && cols[j - gap] > col; j -= gap) {
				cols[j] = cols[j - gap];
				if (values && dtype == SL_F64)
					((double *)values)[j] = ((double *)values)[j - gap];
				else if (values)
					((float *)values)[j] = ((float *)values)[j - gap];
			}
			cols[j] = col;
			if (values && dtype == SL_F64)
				((double *)values)[j] = value;
			else if (values)
				((float *)values)[j] = (float)value;
		}
}

/* Where the second one of a number stands: `marks` end it. */
static const char *find_second(const char *s, int64_t wanted, const char *marks) {
	int seen = 0;
	while (*s != '\n' && *s != '#') {
		const char *word = s;
		int64_t n = 0;
		for (; *s >= '0' && *s <= '9' && n < INT32_MAX; s++)
			n = n * 10 + (*s - '0');
		if (s > word && n == wanted && strchr(marks, *s) && ++seen == 2)
			return word;
		while (*s != '\n' && *s != '#' && *s != ',' && !sli_is_blank(*s))
			s++;
		s += *s == ',' || sli_is_blank(*s);
	}
	return s;
}

static bool read_set(reader *r, place *p, const char **at) {
	const char *s = *at;
	int64_t first = p->label, last = -1, n = count_labels(s);
	bool sorted = true;
	for (int64_t i = 0; i < n; i++, s++) { /* over the comma */
		int64_t value;
		if (p->label == p->block[1].counts[LABELS])
			return changed(p);
		if (!read_whole(p, &s, "a label", r->classes ? r->classes - 1 : INT32_MAX - 1, &value))
			return false;
		if (*s != ',' && !sli_is_blank(*s) && *s != '\n' && *s != '#')
			return FAIL(s, SL_ERR_FORMAT, "\"%.*s\" behind a label", sli_word_length(s), s);
		r->label_cols[p->label++] = (int32_t)value;
		sorted = sorted && value > last;
		last = value;
		int64_t *largest = &p->block->kept[LARGEST_LABEL];
		*largest = value > *largest ? value : *largest;
	}
	if (!sorted)
		sort_row(r->label_cols + first, NULL, SL_F32, n);
	for (int64_t i = first + 1; !sorted && i < p->label; i++)
		if (r->label_cols[i] == r->label_cols[i - 1])
			return FAIL(find_second(*at, r->label_cols[i], ", \t\r\n#"), SL_ERR_STRUCTURE, "label %d is there twice",
						(int)r->label_cols[i]);
	*at = n ? s - 1 : s;
	return true;
}

static bool skip_label(const char **at) {
	const char *s = sli_skip_blanks(*at);
	while (*s != '\n' && *s != '#' && *s != ':' && !sli_is_blank(*s))
		s++;
	*at = *s == ':' ? *at : s; /* a feature: there is no label */
	return true;
}

static bool read_labels(reader *r, place *p, const char **at) {
	if ((int)r->o->labels == SLI_LABELS_SKIPPED)
		return skip_label(at);
	if (r->o->labels == SL_LABELS_SETS)
		return read_set(r, p, at);
	const char *s = *at = sli_skip_blanks(*at);
	double value;
	if (!sli_parse_number(at, r->c, &value) || value != value)
		return FAIL(s, SL_ERR_FORMAT, "the label is \"%.*s\"; a number is needed", sli_word_length(s), s);
	if (**at == ':')
		return FAIL(s, SL_ERR_FORMAT, "\"%.*s\" where the label should be", sli_word_length(s), s);
	if (**at == ',')
		return FAIL(*at, SL_ERR_FORMAT, "\"%.*s\" is a set of labels, and one label is asked for", sli_word_length(s),
					s);
	if (!sli_is_blank(**at) && **at != '\n' && **at != '#')
		return FAIL(s, SL_ERR_FORMAT, "the label is \"%.*s\"; a number is needed", sli_word_length(s), s);
	r->numbers[p->row] = value;
	return true;
}

static bool refuse_twice(reader *r, place *p, int64_t first, const char *at) {
	for (int64_t i = first + 1; i < p->entry; i++)
		if (r->cols[i] == r->cols[i - 1])
			return FAIL(find_second(at, r->cols[i] + INT64_C(1), ":"), SL_ERR_STRUCTURE, "index %lld is there twice",
						(long long)r->cols[i] + 1);
	return true;
}

/* index:value ... The hot loop: what goes wrong is looked into apart. */
static bool read_features(reader *r, place *p, const char **at) {
	const int64_t most = (r->features ? r->features : INT32_MAX) - (r->base == SL_INDEX_ZERO);
	const int64_t room = p->block[1].counts[ENTRIES];
	const int64_t least = r->base == SL_INDEX_ONE, begin = p->entry;
	const bool wide = r->o->dtype == SL_F64;
	const char *s = *at, *start = s;
	int64_t last = -1;
	bool sorted = true;
	for (;;) {
		s = sli_skip_blanks(s);
		if (*s == '\n' || *s == '#')
			break;
		const char *word = s;
		uint64_t index = 0;
		unsigned d;
		for (; (d = (unsigned)(unsigned char)*s - '0') < 10; s++)
			index = index * 10 + d;
		if (s == word || *s != ':')
			return FAIL(word, SL_ERR_FORMAT, "\"%.*s\" where index:value is needed", sli_word_length(word), word);
		if (s - word > 18 || (int64_t)index > most || (int64_t)index < least)
			return FAIL(word, r->features ? SL_ERR_SHAPE : SL_ERR_FORMAT,
						"index %.*s; it must be between %lld and %lld", (int)(s - word < 30 ? s - word : 30), word,
						(long long)least, (long long)most);
		if (p->entry == room)
			return changed(p);
		s++;
		double value;
		if (!read_number(r, p, &s, "a value", &value))
			return false;
		sorted = sorted && (int64_t)index > last;
		last = (int64_t)index;
		r->cols[p->entry] = (int32_t)(last - 1);
		if (wide)
			((double *)r->values)[p->entry] = value;
		else
			((float *)r->values)[p->entry] = (float)value;
		p->entry++;
	}
	*at = s;
	if (!sorted) {
		size_t size = sl_dtype_size(r->o->dtype);
		sort_row(r->cols + begin, (char *)r->values + (size_t)begin * size, r->o->dtype, p->entry - begin);
		if (!refuse_twice(r, p, begin, start))
			return false;
	}
	if (p->entry > begin) {
		int64_t low = r->cols[begin] + INT64_C(1), high = r->cols[p->entry - 1] + INT64_C(1);
		int64_t *kept = p->block->kept;
		kept[LOWEST] = low < kept[LOWEST] ? low : kept[LOWEST];
		kept[HIGHEST] = high > kept[HIGHEST] ? high : kept[HIGHEST];
	}
	return true;
}

static bool read_line(reader *r, place *p, const char *end, const char **next) {
	const char *s = p->first, *first = sli_skip_blanks(s);
	*next = s;
	if (*first == '\n' || *first == '#') {
		*next = sli_next_line(first, end);
		return true;
	}
	if (p->row == p->block[1].counts[ROWS])
		return changed(p);
	sli_index_set(r->offsets, r->offset_dtype, p->row, p->entry);
	if (r->label_offsets)
		sli_index_set(r->label_offsets, r->label_offset_dtype, p->row, p->label);
	if (!read_labels(r, p, &s))
		return false;
	s = sli_skip_blanks(s);
	if (is_group(s)) {
		s += 4;
		if (!read_whole(p, &s, "qid", INT64_MAX / 16, &r->groups[p->row]))
			return false;
		if (!sli_is_blank(*s) && *s != '\n' && *s != '#')
			return FAIL(s, SL_ERR_FORMAT, "\"%.*s\" behind qid", sli_word_length(s), s);
	}
	if (!read_features(r, p, &s))
		return false;
	p->row++;
	*next = *s == '\n' ? s + 1 : sli_next_line(s, end);
	return true;
}

void sli_svmlight_parse(void *user, sl_line_block *b, const char *text, const char *end) {
	reader *r = user;
	place p = {.block = b, .row = b->counts[ROWS], .entry = b->counts[ENTRIES], .label = b->counts[LABELS]};
	b->kept[LOWEST] = INT64_MAX;
	b->kept[HIGHEST] = b->kept[LARGEST_LABEL] = -1;
	for (const char *s = text, *next; s < end; s = next) {
		p.line++;
		p.first = s;
		if (!read_line(r, &p, end, &next))
			return;
	}
	if (p.row != b[1].counts[ROWS] || p.entry != b[1].counts[ENTRIES] || p.label != b[1].counts[LABELS])
		changed(&p);
}
