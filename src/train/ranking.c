/* SPDX-License-Identifier: Apache-2.0 */
/* precision@k, recall@k, nDCG@k: the k best columns of each row by a heap whose top is the worst of them. */
#include <math.h>

#include "core/checked.h"
#include "train/metrics.h"

typedef struct ranked {
	double score;
	int64_t col;
} ranked;

/* Of equal scores the lower column comes first. */
static inline bool worse(ranked a, ranked b) {
	return a.score < b.score || (a.score == b.score && a.col > b.col);
}

static void sift(ranked *heap, int64_t count, int64_t at) {
	ranked moved = heap[at];
	for (int64_t child; (child = 2 * at + 1) < count; at = child) {
		child += child + 1 < count && worse(heap[child + 1], heap[child]);
		if (!worse(heap[child], moved))
			break;
		heap[at] = heap[child];
	}
	heap[at] = moved;
}

static inline void offer(ranked *heap, int64_t *count, int64_t k, ranked next) {
	if (*count == k) {
		if (worse(heap[0], next)) {
			heap[0] = next;
			sift(heap, k, 0);
		}
		return;
	}
	int64_t at = (*count)++;
	for (int64_t up; at > 0 && worse(next, heap[up = (at - 1) / 2]); at = up)
		heap[at] = heap[up];
	heap[at] = next;
}

/* The heap's content, best first. */
static void sort_down(ranked *heap, int64_t count) {
	while (count > 1) {
		ranked worst = heap[0];
		heap[0] = heap[--count];
		sift(heap, count, 0);
		heap[count] = worst;
	}
}

typedef struct part {
	double precision, recall, ndcg, hits;
	int64_t rows, bad_row;
} part;

typedef struct pass {
	const sl_dense *scores;
	const sl_sparse *relevant, *known;
	int64_t k;
	part *parts;
	ranked *heaps;   /* k a block */
	uint64_t *marks; /* a bit a column, a block: known columns of the row at hand */
	size_t words;
} pass;

static void mark_known(const pass *p, int64_t row, uint64_t *marks, bool on) {
	int64_t begin, end;
	sli_view_row(p->known, row, &begin, &end);
	for (int64_t i = begin; i < end; i++) {
		int64_t col = sli_index(p->known->col_indices, p->known->index_dtype, i);
		if (on)
			marks[col / 64] |= UINT64_C(1) << col % 64;
		else
			marks[col / 64] = 0;
	}
}

static inline bool marked(const uint64_t *marks, int64_t col) {
	return marks[col / 64] >> col % 64 & 1;
}

/* What there is to find, and the largest sum of discounted relevance; false: a NaN. */
static bool look_at_relevant(const pass *p, int64_t row, const uint64_t *marks, ranked *heap, int64_t *wanted,
							 double *ideal) {
	int64_t begin, end, count = 0;
	const sl_sparse *v = p->relevant;
	*wanted = 0;
	*ideal = 0;
	sli_view_row(v, row, &begin, &end);
	for (int64_t i = begin; i < end; i++) {
		double value = sli_view_value(v, i);
		int64_t col = sli_index(v->col_indices, v->index_dtype, i);
		if (value != value)
			return false;
		if (value <= 0 || marked(marks, col))
			continue;
		++*wanted;
		offer(heap, &count, p->k, (ranked){value, col});
	}
	sort_down(heap, count);
	for (int64_t i = 0; i < count; i++)
		*ideal += heap[i].score / log2((double)i + 2);
	return true;
}

static bool take_best(const pass *p, int64_t row, const uint64_t *marks, ranked *heap, int64_t *count) {
	const sl_dense *m = p->scores;
	*count = 0;
	for (int64_t c = 0; c < m->cols; c++) {
		double score = sli_score(m, row, c);
		if (score != score)
			return false;
		if (!marked(marks, c))
			offer(heap, count, p->k, (ranked){score, c});
	}
	sort_down(heap, *count);
	return true;
}

static bool rank_row(const pass *p, int64_t row, uint64_t *marks, ranked *heap, part *sums) {
	int64_t wanted, count, found = 0, begin, end;
	double ideal, gain = 0;
	const sl_sparse *v = p->relevant;
	if (!look_at_relevant(p, row, marks, heap, &wanted, &ideal))
		return false;
	if (!take_best(p, row, marks, heap, &count))
		return false;
	if (!wanted)
		return true;
	sli_view_row(v, row, &begin, &end);
	for (int64_t i = 0; i < count; i++)
		for (int64_t j = begin; j < end; j++)
			if (sli_index(v->col_indices, v->index_dtype, j) == heap[i].col && sli_view_value(v, j) > 0) {
				found++;
				gain += sli_view_value(v, j) / log2((double)i + 2);
			}
	sums->rows++;
	sums->precision += (double)found / (double)p->k;
	sums->recall += (double)found / (double)wanted;
	sums->ndcg += gain / ideal;
	sums->hits += found > 0;
	return true;
}

static void rank_block(void *argument, size_t index) {
	const pass *p = argument;
	int64_t rows = p->scores->rows, block = sli_metric_block(rows), first = (int64_t)index * block;
	int64_t end = first + block < rows ? first + block : rows;
	uint64_t *marks = p->marks + index * p->words;
	part sums = {.bad_row = -1};
	memset(marks, 0, p->words * sizeof *marks);
	for (int64_t row = first; row < end && sums.bad_row < 0; row++) {
		if (p->known)
			mark_known(p, row, marks, true);
		if (!rank_row(p, row, marks, p->heaps + (int64_t)index * p->k, &sums))
			sums.bad_row = row;
		if (p->known)
			mark_known(p, row, marks, false);
	}
	p->parts[index] = sums;
}

/* The running mean of `before` rows and a sum over others. */
static void join(double *mean, int64_t before, double sum, int64_t rows) {
	*mean = (*mean * (double)before + sum) / (double)(before + rows);
}

sl_status sli_metrics_ranking(sl_context *context, const sl_dense *scores, const sl_sparse *relevant,
							  const sl_sparse *known, int64_t k, sl_rank_metrics *metrics) {
	int64_t kept = k < scores->cols ? k : scores->cols, heaps;
	size_t count = (size_t)sli_ceil_div(scores->rows, sli_metric_block(scores->rows)), bytes;
	pass p = {.scores = scores, .relevant = relevant, .known = known, .k = k};
	p.words = (size_t)sli_ceil_div(scores->cols, 64);
	if (!sli_mul((int64_t)count, kept, &heaps) || !sli_bytes(heaps, sizeof *p.heaps, &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "k is %lld, which is too much memory", (long long)k);
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = sli_arena_take(context, count * sizeof *p.parts, (void **)&p.parts);
	if (status == SL_OK)
		status = sli_arena_take(context, bytes, (void **)&p.heaps);
	if (status == SL_OK)
		status = sli_arena_take(context, count * p.words * sizeof *p.marks, (void **)&p.marks);
	if (status != SL_OK) {
		sli_arena_reset(context, mark);
		return status;
	}
	p.k = kept;
	sli_parallel(context, count, rank_block, &p);
	part all = {.bad_row = -1};
	for (size_t i = 0; i < count && all.bad_row < 0; i++) {
		/* Over k, also where there are fewer columns. */
		all.precision += p.parts[i].precision * (double)kept / (double)k;
		all.recall += p.parts[i].recall;
		all.ndcg += p.parts[i].ndcg;
		all.hits += p.parts[i].hits;
		all.rows += p.parts[i].rows;
		all.bad_row = p.parts[i].bad_row;
	}
	sli_arena_reset(context, mark);
	if (all.bad_row >= 0)
		return sli_fail(context, SL_ERR_NONFINITE, "row %lld has a NaN score or relevance, which has no rank",
						(long long)all.bad_row);
	if (all.rows) {
		join(&metrics->precision, metrics->rows, all.precision, all.rows);
		join(&metrics->recall, metrics->rows, all.recall, all.rows);
		join(&metrics->ndcg, metrics->rows, all.ndcg, all.rows);
		join(&metrics->hit_rate, metrics->rows, all.hits, all.rows);
		metrics->rows += all.rows;
	}
	return SL_OK;
}
