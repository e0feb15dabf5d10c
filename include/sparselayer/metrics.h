/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file metrics.h
 * How good scores are. Definitions are scikit-learn's where it has them; `docs/guide.md` says which.
 * Sums are kept in double and folded in a fixed order: the thread count changes nothing. On the CPU.
 */
#ifndef SPARSELAYER_METRICS_H
#define SPARSELAYER_METRICS_H

#include "sparse.h"

SL_BEGIN_DECLS

/** What scores of classes are worth. Each call adds its rows to those counted before; begin with zeros. */
typedef struct sl_class_metrics {
	size_t struct_size; /**< sizeof(sl_class_metrics) */
	int64_t rows;       /**< counted so far */
	double accuracy;    /**< share of rows whose largest score is their label's; of equal scores the lowest class
						   counts (sklearn.metrics.accuracy_score of the argmax) */
	double log_loss;    /**< mean of -log p(label) (sklearn.metrics.log_loss) */
} sl_class_metrics;
/** Begins an initializer of #sl_class_metrics. */
#define SL_CLASS_METRICS_DEFAULTS .struct_size = sizeof(sl_class_metrics)

/**
 * Accuracy and log-loss of a batch, added to what `metrics` holds.
 * @param scores [batch, classes], f32 or f64, row-major
 * @param logits true: p is the softmax of the scores; false: scores are probabilities, each row is divided
 *        by its sum, and p is at least the smallest step of the scores' dtype
 * @param labels `batch` classes from 0
 * @return #SL_ERR_ARGUMENT (a label out of range), #SL_ERR_NONFINITE (a NaN score, which has no rank), #SL_ERR_LAYOUT,
 *         #SL_ERR_DTYPE; `metrics` is then as it was
 */
SL_API sl_status sl_metrics_classes(sl_context *context, const sl_dense *scores, bool logits, const int32_t *labels,
									sl_class_metrics *metrics);

/** What a ranking of columns by score is worth. Each call adds its rows to those counted before; begin with zeros. */
typedef struct sl_rank_metrics {
	size_t struct_size; /**< sizeof(sl_rank_metrics) */
	int64_t rows;       /**< counted so far: those with something to find */
	double precision;   /**< mean of: what was found among the first k, over k */
	double recall;      /**< mean of: what was found among the first k, over what there is to find */
	double ndcg;        /**< mean of: sum over the first k of relevance / log2(place + 1), over the largest possible sum
						   (Järvelin and Kekäläinen 2002; sklearn.metrics.ndcg_score with ignore_ties) */
	double hit_rate;    /**< share of rows with something found among the first k */
} sl_rank_metrics;
/** Begins an initializer of #sl_rank_metrics. */
#define SL_RANK_METRICS_DEFAULTS .struct_size = sizeof(sl_rank_metrics)

/**
 * precision@k, recall@k, nDCG@k and hit rate of a batch, added to what `metrics` holds. Of equal scores the
 * lower column comes first. Rows with nothing to find are not counted.
 * @param scores [batch, columns], f32 or f64, row-major
 * @param relevant [batch, columns] CSR: what is to be found, its values being the relevance in nDCG; entries of
 *        0 or less are none. Each column once a row
 * @param known [batch, columns] CSR: columns that are not ranked, such as what the input has already; NULL: none
 * @param k > 0
 * @return #SL_ERR_SHAPE, #SL_ERR_NONFINITE (a NaN score or relevance, which has no rank), #SL_ERR_LAYOUT (not CSR, not
 *         row-major), #SL_ERR_DTYPE; `metrics` is then as it was
 */
SL_API sl_status sl_metrics_ranking(sl_context *context, const sl_dense *scores, const sl_sparse *relevant,
									const sl_sparse *known, int64_t k, sl_rank_metrics *metrics);

/** Over what the area under the ROC curve is averaged. */
typedef enum sl_average {
	SL_AVERAGE_MICRO = 0,  /**< one curve over all elements */
	SL_AVERAGE_MACRO = 1,  /**< mean over the columns that have both kinds */
	SL_AVERAGE_SAMPLES = 2 /**< mean over the rows that have both kinds */
} sl_average;
/**
 * Area under the ROC curve: the chance that an element that is relevant scores higher than one that is not,
 * equal scores counting half (sklearn.metrics.roc_auc_score).
 * @param scores [rows, columns], f32 or f64, row-major; for two classes one column
 * @param relevant [rows, columns] CSR: entries above 0 are relevant
 * @param area NaN where there is no element of one kind
 * @return as sl_metrics_ranking(), and #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_metrics_auc(sl_context *context, const sl_dense *scores, const sl_sparse *relevant,
								sl_average average, double *area);

SL_END_DECLS
#endif
