/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file data.h
 * Sparse data sets: readers of svmlight text and of ratings, and splitting. Rows are samples, columns
 * features. A data set is what sl_dataset_destroy() frees.
 */
#ifndef SPARSELAYER_DATA_H
#define SPARSELAYER_DATA_H

#include "io.h"

SL_BEGIN_DECLS

/** Which number the first feature of an svmlight file has. */
typedef enum sl_index_base {
	SL_INDEX_AUTO = 0, /**< 0 if index 0 occurs in the file, else 1 */
	SL_INDEX_ZERO = 1, /**< 0 */
	SL_INDEX_ONE = 2   /**< 1, as libsvm and svmlight say */
} sl_index_base;

/** What stands before a row's features. */
typedef enum sl_label_kind {
	SL_LABELS_CLASSES = 0, /**< a number that names a class, such as -1, +1 or 7; classes are counted from 0 in
							  increasing order of these numbers */
	SL_LABELS_NUMBERS = 1, /**< a number to predict */
	SL_LABELS_SETS = 2     /**< class numbers from 0 with commas between, none or several: "3,17", or nothing */
} sl_label_kind;

/** Options of sl_dataset_read_svmlight(). Zero means the default that is named. */
typedef struct sl_svmlight_options {
	size_t struct_size;   /**< sizeof(sl_svmlight_options) */
	sl_label_kind labels; /**< default: classes */
	sl_index_base base;   /**< default: by the content */
	int64_t features;     /**< columns; default: as many as the largest index needs */
	int64_t classes;      /**< of sets: columns of the targets; default: as many as the largest needs */
	sl_dtype dtype;       /**< of the values: #SL_F32 (default) or #SL_F64 */
	/** Take base, features and classes from this data set, so that a test file agrees with its training file.
	 * A label or feature that it does not have is an error. */
	const sl_dataset *like;
} sl_svmlight_options;
/** Begins an initializer of #sl_svmlight_options. */
#define SL_SVMLIGHT_DEFAULTS .struct_size = sizeof(sl_svmlight_options)

/**
 * Read an svmlight (libsvm) file on all threads of the context: lines of
 * `label [qid:n] index:value ... [# comment]`. Blank lines and comments are skipped. Indices of a row may
 * come in any order, but not twice. 64-bit throughout; an index is at most 2^31 - 1.
 * @param options NULL: all defaults
 * @param limits NULL: defaults
 * @return #SL_ERR_FORMAT, #SL_ERR_STRUCTURE (an index twice): the message names line and column, counted
 *         from 1, in bytes; #SL_ERR_LIMIT, #SL_ERR_SHAPE (more features or classes than given),
 *         #SL_ERR_NOT_FOUND, #SL_ERR_IO, #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_dataset_read_svmlight(sl_dataset **dataset, sl_context *context, const char *path,
										  const sl_svmlight_options *options, const sl_read_limits *limits);

/** Options of sl_dataset_read_ratings(). Zero means the default that is named. */
typedef struct sl_ratings_options {
	size_t struct_size;       /**< sizeof(sl_ratings_options) */
	double min_rating;        /**< lower ratings are left out; default 0: all stay */
	bool implicit;            /**< every rating that stays becomes 1 */
	sl_duplicates duplicates; /**< of a user's ratings of one item; default: refuse */
	sl_dtype dtype;           /**< of the values: #SL_F32 (default) or #SL_F64 */
	const sl_dataset *like;   /**< ratings too: rows and columns are those of this data set */
	bool skip_unknown;        /**< leave out users and items that `like` does not have; default: an error */
} sl_ratings_options;
/** Begins an initializer of #sl_ratings_options. */
#define SL_RATINGS_DEFAULTS .struct_size = sizeof(sl_ratings_options)

/**
 * Read ratings, a line each: `user item rating`, whole numbers and a number, as MovieLens has them: between
 * blanks or tabs (u.data), commas or semicolons (ratings.csv) or "::" (ratings.dat), which the first line
 * tells. A first line that does not begin with a number is a heading. More fields are not read. The result
 * has a row for each user and a column for each item that occurs.
 * @param options NULL: all defaults
 * @param limits NULL: defaults
 * @return #SL_ERR_FORMAT: the message names line and column; #SL_ERR_STRUCTURE (one item rated twice),
 *         #SL_ERR_SHAPE (not in `like`), #SL_ERR_LIMIT, #SL_ERR_NOT_FOUND, #SL_ERR_IO, #SL_ERR_MEMORY,
 *         #SL_ERR_BUDGET
 */
SL_API sl_status sl_dataset_read_ratings(sl_dataset **dataset, sl_context *context, const char *path,
										 const sl_ratings_options *options, const sl_read_limits *limits);

/** What a data set holds. All pointers are borrowed and valid while it lives. */
typedef struct sl_dataset_content {
	size_t struct_size;         /**< sizeof(sl_dataset_content); set it before the call */
	int64_t samples;            /**< rows */
	int64_t features;           /**< columns of the inputs */
	const sl_csr *inputs;       /**< [samples, features]; NULL for pictures */
	const int32_t *labels;      /**< one class a sample, from 0; NULL where there are none */
	const sl_csr *targets;      /**< [samples, classes], ones: sets of classes; NULL where labels are no sets */
	const double *numbers;      /**< one a sample, as read; NULL where labels are sets or there are none */
	int64_t classes;            /**< of `labels` or `targets`; 0: neither */
	const double *class_values; /**< how the file names each class of `labels`; NULL: 0, 1, 2 ... */
	const int64_t *groups;      /**< the qid of each sample, 0 where it has none; NULL: none has */
	const int64_t *row_ids;     /**< of ratings: the user of each row, increasing; else NULL */
	const int64_t *col_ids;     /**< of ratings: the item of each column, increasing; else NULL */
} sl_dataset_content;
/** Fill in `content`. */
SL_API sl_status sl_dataset_get(sl_context *context, const sl_dataset *dataset, sl_dataset_content *content);

/**
 * Write samples as svmlight text, indices counted from 1, values with as many digits as reading them back
 * exactly takes.
 * @param inputs [samples, features], f32 or f64
 * @param labels one a sample; NULL: 0, or nothing where there are `targets`
 * @param targets [samples, classes]: the classes with entries are written as a set; NULL: none
 * @return #SL_ERR_SHAPE, #SL_ERR_DTYPE, and as sl_csr_write()
 */
SL_API sl_status sl_svmlight_write(sl_context *context, const sl_csr *inputs, const double *labels,
								   const sl_csr *targets, const char *path);

SL_END_DECLS
#endif
