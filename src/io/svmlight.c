/* SPDX-License-Identifier: Apache-2.0 */
/* svmlight text (Joachims 1999; libsvm's is the same without qid): blocks of lines on all threads, the
 * content put together. */
#include "io/svmlight.h"

#include "core/checked.h"
#include "sparse/sparse.h"

typedef sl_svmlight_reader reader;

/* Arrays of the sizes that the first pass found. */
static sl_status take_arrays(sl_context *context, reader *r, sl_dataset *d, const int64_t totals[3]) {
	const char *what = "an svmlight file's content";
	bool sets = r->o->labels == SL_LABELS_SETS, skipped = (int)r->o->labels == SLI_LABELS_SKIPPED;
	r->entries = totals[ENTRIES];
	r->label_entries = totals[LABELS];
	r->offset_dtype = sli_offset_dtype(r->entries);
	r->label_offset_dtype = sli_offset_dtype(r->label_entries);
	SL_TRY(sli_allocate(context, (size_t)(d->samples + 1) * sl_dtype_size(r->offset_dtype), what, &r->offsets));
	SL_TRY(sli_allocate(context, (size_t)r->entries * sizeof *r->cols, what, (void **)&r->cols));
	SL_TRY(sli_allocate(context, (size_t)r->entries * sl_dtype_size(r->o->dtype), what, &r->values));
	if (!sets && !skipped)
		SL_TRY(sli_allocate(context, (size_t)d->samples * sizeof *d->numbers, what, (void **)&d->numbers));
	if (r->has_groups)
		SL_TRY(sli_allocate_zeroed(context, (size_t)d->samples * sizeof *d->groups, what, (void **)&d->groups));
	r->numbers = d->numbers;
	r->groups = d->groups;
	if (!sets)
		return SL_OK;
	SL_TRY(sli_allocate(context, (size_t)(d->samples + 1) * sl_dtype_size(r->label_offset_dtype), what,
						&r->label_offsets));
	return sli_allocate(context, (size_t)r->label_entries * sizeof *r->label_cols, what, (void **)&r->label_cols);
}

/* What no matrix has taken over. */
static void give_arrays(sl_context *context, reader *r, const sl_dataset *d) {
	sl_heap *heap = sli_heap(context);
	sli_heap_free(heap, r->offsets, (size_t)(d->samples + 1) * sl_dtype_size(r->offset_dtype));
	sli_heap_free(heap, r->cols, (size_t)r->entries * sizeof *r->cols);
	sli_heap_free(heap, r->values, (size_t)r->entries * sl_dtype_size(r->o->dtype));
	sli_heap_free(heap, r->label_offsets, (size_t)(d->samples + 1) * sl_dtype_size(r->label_offset_dtype));
	sli_heap_free(heap, r->label_cols, (size_t)r->label_entries * sizeof *r->label_cols);
}

typedef struct shift {
	int32_t *cols;
	int64_t count;
} shift;

static void shift_part(void *argument, size_t index) {
	enum { PART = 1 << 20 };
	const shift *s = argument;
	int64_t end = ((int64_t)index + 1) * PART < s->count ? ((int64_t)index + 1) * PART : s->count;
	for (int64_t i = (int64_t)index * PART; i < end; i++)
		s->cols[i]++;
}

/* What occurred in all blocks, and on all ranks where the file is read by share. */
static sl_status look_over(const sl_lines *l, reader *r, sl_status mine) {
	int64_t most[] = {-INT64_MAX, -1, -1, r->has_groups};
	for (size_t k = 0; k < l->count && mine == SL_OK; k++) {
		const int64_t *kept = l->blocks[k].kept;
		most[0] = -kept[LOWEST] > most[0] ? -kept[LOWEST] : most[0];
		most[1] = kept[HIGHEST] > most[1] ? kept[HIGHEST] : most[1];
		most[2] = kept[LARGEST_LABEL] > most[2] ? kept[LARGEST_LABEL] : most[2];
	}
	if (r->share) {
		mine = sli_comm_settle(l->context, r->share->comm, mine);
		r->told = mine != SL_OK;
		if (mine == SL_OK)
			mine = sli_share_max(l->context, r->share->comm, most, 4);
	}
	r->lowest = -most[0];
	r->highest = most[1];
	r->largest_label = most[2];
	r->has_groups = most[3] != 0;
	return mine;
}

/* The base and the number of features, from the indices that occurred. */
static sl_status settle_columns(const sl_lines *l, const reader *r, sl_dataset *d, int64_t *cols) {
	const int64_t lowest = r->lowest, highest = r->highest;
	d->base = r->base != SL_INDEX_AUTO ? r->base : lowest == 0 ? SL_INDEX_ZERO : SL_INDEX_ONE;
	int64_t needed = highest + (d->base == SL_INDEX_ZERO);
	needed = highest < 0 ? 0 : needed;
	if (needed > INT32_MAX)
		return sli_fail(l->context, SL_ERR_OVERFLOW, "%s: index %lld counted from 0 is more than a matrix has columns",
						l->path, (long long)highest);
	if (r->features && needed > r->features)
		return sli_fail(l->context, SL_ERR_SHAPE,
						"%s: index 0 occurs, so that index %lld is the last of %lld features; %lld are asked for",
						l->path, (long long)highest, (long long)needed, (long long)r->features);
	*cols = r->features ? r->features : needed;
	if (d->base == SL_INDEX_ZERO && r->entries) {
		shift all = {r->cols, r->entries};
		sli_parallel(l->context, (size_t)sli_ceil_div(r->entries, 1 << 20), shift_part, &all);
	}
	return SL_OK;
}

static sl_status make_inputs(const sl_lines *l, reader *r, sl_dataset *d) {
	sl_context *context = l->context;
	sl_pattern *pattern;
	int64_t cols = 0;
	SL_TRY(settle_columns(l, r, d, &cols));
	sli_index_set(r->offsets, r->offset_dtype, d->samples, r->entries);
	sl_status status = sli_pattern_adopt(&pattern, context, d->samples, cols, r->entries, r->offsets, r->cols);
	r->offsets = r->cols = NULL;
	SL_TRY(status);
	status = sli_csr_adopt(&d->inputs, context, pattern, r->values, r->o->dtype);
	r->values = NULL;
	return status;
}

static sl_status make_targets(const sl_lines *l, reader *r, sl_dataset *d) {
	sl_context *context = l->context;
	sl_pattern *pattern;
	d->classes = r->classes ? r->classes : r->largest_label + 1;
	sli_index_set(r->label_offsets, r->label_offset_dtype, d->samples, r->label_entries);
	sl_status status =
		sli_pattern_adopt(&pattern, context, d->samples, d->classes, r->label_entries, r->label_offsets, r->label_cols);
	r->label_offsets = r->label_cols = NULL;
	SL_TRY(status);
	status = sli_csr_create_host(&d->targets, context, pattern, r->o->dtype);
	sl_pattern_release(pattern);
	SL_TRY(status);
	for (int64_t i = 0; i < r->label_entries; i++)
		if (r->o->dtype == SL_F64)
			((double *)d->targets->values)[i] = 1;
		else
			((float *)d->targets->values)[i] = 1;
	return SL_OK;
}

/* The classes that there are: those of `like`, or of all rows, of all ranks. The heap's. */
static sl_status find_classes(sl_context *context, const reader *r, const sl_dataset *d, const uint64_t *keys,
							  uint64_t **classes, int64_t *count) {
	const sl_dataset *like = r->o->like;
	int64_t stranger;
	*count = 0;
	if (like) {
		SL_TRY(sli_allocate(context, (size_t)like->classes * sizeof **classes, "labels", (void **)classes));
		*count = like->classes;
		for (int64_t i = 0; i < *count; i++)
			(*classes)[i] = sli_key_of_double(like->class_values[i]);
		return SL_OK;
	}
	return sli_distinct(context, keys, d->samples, NULL, classes, count, d->labels, &stranger);
}

static sl_status number_classes(const sl_lines *l, const reader *r, sl_dataset *d, const uint64_t *keys,
								const uint64_t *classes, int64_t count) {
	int64_t stranger = -1;
	if (r->o->like || r->share) /* else they were numbered when they were found */
		SL_TRY(sli_distinct(l->context, keys, d->samples, classes, NULL, &count, d->labels, &stranger));
	if (stranger >= 0)
		return sli_fail(l->context, SL_ERR_SHAPE, "%s: sample %lld has label %g, which `like` does not have", l->path,
						(long long)stranger, d->numbers[stranger]);
	SL_TRY(sli_allocate(l->context, (size_t)count * sizeof *d->class_values, "labels", (void **)&d->class_values));
	d->classes = count;
	for (int64_t i = 0; i < count; i++)
		d->class_values[i] = sli_double_of_key(classes[i]);
	return SL_OK;
}

/* Classes of the numbers before the rows. */
static sl_status make_classes(const sl_lines *l, reader *r, sl_dataset *d, sl_status mine) {
	sl_context *context = l->context;
	sl_heap *heap = sli_heap(context);
	size_t bytes = (size_t)d->samples * sizeof(uint64_t);
	uint64_t *keys = NULL, *classes = NULL;
	int64_t count = 0;
	sl_status status = mine;
	if (status == SL_OK)
		status = sli_allocate(context, (size_t)d->samples * sizeof *d->labels, "labels", (void **)&d->labels);
	if (status == SL_OK)
		status = sli_allocate(context, bytes, "labels", (void **)&keys);
	for (int64_t i = 0; status == SL_OK && i < d->samples; i++)
		keys[i] = sli_key_of_double(d->numbers[i]);
	if (status == SL_OK)
		status = find_classes(context, r, d, keys, &classes, &count);
	if (r->share && !r->o->like) {
		status = sli_share_keys(context, r->share->comm, status, &classes, &count);
		r->told = status != SL_OK;
	}
	if (status == SL_OK)
		status = number_classes(l, r, d, keys, classes, count);
	sli_heap_free(heap, keys, keys ? bytes : 0);
	sli_heap_free(heap, classes, classes ? (size_t)count * sizeof *classes : 0);
	return status;
}

sl_status sli_svmlight_refuse_compressed(const sl_lines *l) {
	unsigned char magic[2] = {0};
	if (l->size >= 2)
		SL_TRY(sli_read_at(l->context, l->fd, l->path, 0, magic, 2));
	if (magic[0] == 0x1f && magic[1] == 0x8b)
		return sli_fail(l->context, SL_ERR_FORMAT, "%s: is compressed; gunzip it first", l->path);
	return SL_OK;
}

static sl_status read_rows(sl_lines *l, reader *r, sl_dataset *d, const sl_read_limits *limits) {
	int64_t totals[3];
	SL_TRY(sli_svmlight_refuse_compressed(l));
	SL_TRY(sli_lines_run(l, sli_svmlight_count, r));
	sli_lines_sum(l, totals);
	d->samples = totals[ROWS];
	for (size_t k = 0; k < l->count; k++)
		r->has_groups = r->has_groups || l->blocks[k].flag;
	SL_TRY(sli_check_nonzeros(l->context, l->path, limits, totals[ENTRIES]));
	SL_TRY(sli_check_nonzeros(l->context, l->path, limits, totals[LABELS]));
	SL_TRY(take_arrays(l->context, r, d, totals));
	return sli_lines_run(l, sli_svmlight_parse, r);
}

static sl_status make_all(const sl_lines *l, reader *r, sl_dataset *d) {
	if (r->has_groups && !d->groups) /* other ranks' rows have some */
		SL_TRY(sli_allocate_zeroed(l->context, (size_t)d->samples * sizeof *d->groups, "groups", (void **)&d->groups));
	SL_TRY(make_inputs(l, r, d));
	return r->o->labels == SL_LABELS_SETS ? make_targets(l, r, d) : SL_OK;
}

static sl_status read_all(sl_lines *l, locale_t c, void *of, sl_dataset *d, const sl_read_limits *limits) {
	reader *r = of;
	r->c = c;
	l->before = r->before;
	sl_status status = look_over(l, r, read_rows(l, r, d, limits));
	if (status == SL_OK)
		status = make_all(l, r, d);
	if (r->o->labels == SL_LABELS_CLASSES && (status == SL_OK || r->share) && !r->told)
		status = make_classes(l, r, d, status);
	give_arrays(l->context, r, d);
	return r->share && !r->told ? sli_comm_settle(l->context, r->share->comm, status) : status;
}

static reader reader_for(const sl_svmlight_options *o) {
	reader r = {.o = o, .base = o->base, .features = o->features, .classes = o->classes};
	if (o->like) {
		r.base = o->like->base;
		r.features = sli_pattern_arrays(o->like->inputs->pattern).cols;
		r.classes = o->labels == SL_LABELS_SETS ? o->like->classes : 0;
	}
	return r;
}

sl_status sli_svmlight_read(sl_dataset **dataset, sl_context *context, const char *path, const sl_svmlight_options *o,
							const sl_read_limits *limits) {
	reader r = reader_for(o);
	return sli_dataset_read_lines(dataset, context, path, limits, read_all, &r);
}

sl_status sli_svmlight_read_share(sl_dataset **dataset, sl_context *context, const char *path,
								  const sl_svmlight_options *o, const sl_read_limits *limits, sl_share *share) {
	reader r = reader_for(o);
	int64_t range[2];
	*dataset = NULL;
	r.share = share;
	SL_TRY(sli_share_lines(context, path, limits, share, sli_svmlight_count, &r, ROWS, range, &r.before));
	sl_lines lines;
	sl_status status = sli_lines_open_range(&lines, context, path, limits, range[0], range[1]);
	return sli_dataset_read_opened(dataset, &lines, status, limits, read_all, &r, share->comm);
}
