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

/* The base and the number of features, from the indices that occurred. */
static sl_status settle_columns(const sl_lines *l, reader *r, sl_dataset *d, int64_t *cols) {
	int64_t lowest = INT64_MAX, highest = -1;
	for (size_t k = 0; k < l->count; k++) {
		lowest = l->blocks[k].kept[LOWEST] < lowest ? l->blocks[k].kept[LOWEST] : lowest;
		highest = l->blocks[k].kept[HIGHEST] > highest ? l->blocks[k].kept[HIGHEST] : highest;
	}
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
	d->classes = r->classes;
	for (size_t k = 0; k < l->count && !r->classes; k++)
		d->classes = l->blocks[k].kept[LARGEST_LABEL] >= d->classes ? l->blocks[k].kept[LARGEST_LABEL] + 1 : d->classes;
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

/* Classes of the numbers before the rows. */
static sl_status make_classes(const sl_lines *l, const reader *r, sl_dataset *d) {
	sl_context *context = l->context;
	const sl_dataset *like = r->o->like;
	sl_heap *heap = sli_heap(context);
	size_t bytes = (size_t)d->samples * sizeof(uint64_t), known_bytes = 0;
	uint64_t *keys = NULL, *found = NULL, *known = NULL;
	int64_t stranger = -1;
	SL_TRY(sli_allocate(context, (size_t)d->samples * sizeof *d->labels, "labels", (void **)&d->labels));
	sl_status status = sli_allocate(context, bytes, "labels", (void **)&keys);
	if (status == SL_OK && like) {
		d->classes = like->classes;
		known_bytes = (size_t)like->classes * sizeof *known;
		status = sli_allocate(context, known_bytes, "labels", (void **)&known);
		for (int64_t i = 0; status == SL_OK && i < like->classes; i++)
			known[i] = sli_key_of_double(like->class_values[i]);
	}
	for (int64_t i = 0; status == SL_OK && i < d->samples; i++)
		keys[i] = sli_key_of_double(d->numbers[i]);
	if (status == SL_OK)
		status = sli_distinct(context, keys, d->samples, known, &found, &d->classes, d->labels, &stranger);
	if (status == SL_OK && stranger >= 0)
		status = sli_fail(context, SL_ERR_SHAPE, "%s: sample %lld has label %g, which `like` does not have", l->path,
						  (long long)stranger, d->numbers[stranger]);
	int64_t classes = d->classes;
	if (status != SL_OK)
		d->classes = 0;
	else if ((status = sli_allocate(context, (size_t)classes * sizeof *d->class_values, "labels",
									(void **)&d->class_values)) != SL_OK)
		d->classes = 0;
	for (int64_t i = 0; status == SL_OK && i < classes; i++)
		d->class_values[i] = sli_double_of_key(known ? known[i] : found[i]);
	sli_heap_free(heap, keys, bytes);
	sli_heap_free(heap, known, known_bytes);
	sli_heap_free(heap, found, found ? (size_t)classes * sizeof *found : 0);
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

static sl_status read_all(sl_lines *l, locale_t c, void *of, sl_dataset *d, const sl_read_limits *limits) {
	reader *r = of;
	int64_t totals[3];
	r->c = c;
	SL_TRY(sli_svmlight_refuse_compressed(l));
	SL_TRY(sli_lines_run(l, sli_svmlight_count, r));
	sli_lines_sum(l, totals);
	d->samples = totals[ROWS];
	for (size_t k = 0; k < l->count; k++)
		r->has_groups = r->has_groups || l->blocks[k].flag;
	SL_TRY(sli_check_nonzeros(l->context, l->path, limits, totals[ENTRIES]));
	SL_TRY(sli_check_nonzeros(l->context, l->path, limits, totals[LABELS]));
	sl_status status = take_arrays(l->context, r, d, totals);
	if (status == SL_OK)
		status = sli_lines_run(l, sli_svmlight_parse, r);
	if (status == SL_OK)
		status = make_inputs(l, r, d);
	if (status == SL_OK && r->o->labels == SL_LABELS_SETS)
		status = make_targets(l, r, d);
	if (status == SL_OK && r->o->labels == SL_LABELS_CLASSES)
		status = make_classes(l, r, d);
	give_arrays(l->context, r, d);
	return status;
}

sl_status sli_svmlight_read(sl_dataset **dataset, sl_context *context, const char *path, const sl_svmlight_options *o,
							const sl_read_limits *limits) {
	reader r = {.o = o, .base = o->base, .features = o->features, .classes = o->classes};
	if (o->like) {
		r.base = o->like->base;
		r.features = sli_pattern_arrays(o->like->inputs->pattern).cols;
		r.classes = o->labels == SL_LABELS_SETS ? o->like->classes : 0;
	}
	return sli_dataset_read_lines(dataset, context, path, limits, read_all, &r);
}
