/* SPDX-License-Identifier: Apache-2.0 */
/* What scores are worth. Arguments are checked by the caller. */
#ifndef SL_TRAIN_METRICS_H
#define SL_TRAIN_METRICS_H

#include <sparselayer/metrics.h>

#include "sparse/view.h"

sl_status sli_metrics_classes(sl_context *context, const sl_dense *scores, bool logits, const int32_t *labels,
							  sl_class_metrics *metrics);
sl_status sli_metrics_ranking(sl_context *context, const sl_dense *scores, const sl_sparse *relevant,
							  const sl_sparse *known, int64_t k, sl_rank_metrics *metrics);
sl_status sli_metrics_auc(sl_context *context, const sl_dense *scores, const sl_sparse *relevant, sl_average average,
						  double *area);

/* Element of a row-major matrix of f32 or f64. */
static inline double sli_score(const sl_dense *m, int64_t row, int64_t col) {
	int64_t at = row * m->ld + col;
	return m->dtype == SL_F64 ? ((const double *)m->data)[at] : (double)((const float *)m->data)[at];
}
/* Entries of a row of a checked CSR view: [*begin, *end). */
static inline void sli_view_row(const sl_sparse *v, int64_t row, int64_t *begin, int64_t *end) {
	*begin = sli_index(v->offsets, v->offset_dtype, row);
	*end = v->ends ? sli_index(v->ends, v->offset_dtype, row) : sli_index(v->offsets, v->offset_dtype, row + 1);
}
static inline double sli_view_value(const sl_sparse *v, int64_t entry) {
	if (!v->values)
		return 1;
	return v->dtype == SL_F64 ? ((const double *)v->values)[entry] : (double)((const float *)v->values)[entry];
}
/* Rows are cut into blocks by their number alone: sums are folded in order. */
enum { SLI_METRIC_BLOCKS = 64 };
static inline int64_t sli_metric_block(int64_t rows) {
	return rows < 16 * SLI_METRIC_BLOCKS ? 16 : (rows + SLI_METRIC_BLOCKS - 1) / SLI_METRIC_BLOCKS;
}

#endif
