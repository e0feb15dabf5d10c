/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file io.h
 * Files. Readers check everything before they allocate and refuse what exceeds the limits; writers
 * write to a temporary file beside the target, sync it and rename it, so that a failure leaves the
 * old file whole. Messages name the byte or line.
 */
#ifndef SPARSELAYER_IO_H
#define SPARSELAYER_IO_H

#include "model.h"

SL_BEGIN_DECLS

/** Bounds on what a file may make a reader allocate. Zero means the default that is named. */
typedef struct sl_read_limits {
	size_t struct_size;   /**< sizeof(sl_read_limits) */
	int64_t max_nonzeros; /**< default 2^33 */
	int64_t max_bytes;    /**< decompressed bytes in all; default 2^36 */
	int64_t max_header;   /**< bytes of a JSON or text header; default 2^24 */
} sl_read_limits;
/** Begins an initializer of #sl_read_limits. */
#define SL_READ_LIMITS_DEFAULTS .struct_size = sizeof(sl_read_limits)

/** File formats. */
typedef enum sl_format {
	SL_FORMAT_AUTO = 0,          /**< by content, then by name */
	SL_FORMAT_SAFETENSORS = 1,   /**< .safetensors */
	SL_FORMAT_NPZ = 2,           /**< SciPy's scipy.sparse.save_npz: csr, csc, coo */
	SL_FORMAT_MATRIX_MARKET = 3, /**< .mtx */
	SL_FORMAT_SMTX = 4,          /**< .smtx, the DLMC benchmark's: structure only, values read as 1 */
	SL_FORMAT_IDX = 5,           /**< MNIST's arrays, gzip or not; read only */
	SL_FORMAT_SVMLIGHT = 6       /**< .svm, .svmlight, .libsvm: the features alone; see data.h for the labels */
} sl_format;

/**
 * Read one sparse matrix.
 * @param format #SL_FORMAT_AUTO to detect
 * @param limits NULL: defaults
 * @return #SL_ERR_NOT_FOUND, #SL_ERR_IO, #SL_ERR_FORMAT, #SL_ERR_LIMIT, #SL_ERR_STRUCTURE,
 *         #SL_ERR_DTYPE, #SL_ERR_UNSUPPORTED, #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_csr_read(sl_csr **matrix, sl_context *context, const char *path, sl_format format,
							 const sl_read_limits *limits);
/** Write one sparse matrix; the format by the name's ending where #SL_FORMAT_AUTO. @return also #SL_ERR_NO_SPACE */
SL_API sl_status sl_csr_write(sl_context *context, const sl_csr *matrix, const char *path, sl_format format);

/** Where a training run stands: what is kept beside a model and its optimizer. */
typedef struct sl_checkpoint {
	size_t struct_size;   /**< sizeof(sl_checkpoint) */
	int64_t epochs_done;  /**< whole epochs: sl_fit_options.first_epoch of the run that goes on */
	int64_t samples_done; /**< of the epoch after them: its first_sample */
	int64_t batch;        /**< sl_fit_options.batch; 0: not kept */
	int64_t accumulate;   /**< sl_fit_options.accumulate; 0: not kept */
	sl_loss loss;         /**< that was trained with */
	uint64_t seed;        /**< of the context; out only: a run goes on bit for bit in a context of this seed */
} sl_checkpoint;
/** Begins an initializer of #sl_checkpoint. */
#define SL_CHECKPOINT_DEFAULTS .struct_size = sizeof(sl_checkpoint)

/**
 * Save a model with its schedule of patterns and, unless NULL, the training state beside it, as safetensors. A layer's tensors are
 * `layers.<index>.weight.row_offsets`, `.col_indices` and `.values` (dense: `layers.<index>.weight`),
 * `layers.<index>.bias` (of a layer of sparse inputs the weights are [in, out], as it keeps them), and its moments `layers.<index>.weight.m` (momentum or first moment), `.v`
 * (second moment), `layers.<index>.bias.m` and `.v`.
 * @param optimizer NULL: the model alone
 * @param checkpoint may be NULL
 * @return #SL_ERR_IO, #SL_ERR_NOT_FOUND (the folder), #SL_ERR_NO_SPACE, #SL_ERR_MEMORY; the old file
 *         is then whole
 */
SL_API sl_status sl_model_save(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
							   const sl_checkpoint *checkpoint, const char *path);
/**
 * Load a model and, where `optimizer` is not NULL, the training state, ready to go on bit for bit.
 * @param optimizer receives a new optimizer, or NULL if the file holds none; may be NULL
 * @param checkpoint filled in; may be NULL
 * @param limits NULL: defaults
 * @return as sl_csr_read()
 */
SL_API sl_status sl_model_load(sl_model **model, sl_optimizer **optimizer, sl_checkpoint *checkpoint,
							   sl_context *context, const char *path, const sl_read_limits *limits);

/** An array of an IDX file (LeCun's format), gzip or not. */
typedef struct sl_idx {
	size_t struct_size; /**< sizeof(sl_idx); set it before the call */
	int dimensions;     /**< 1 to 4 */
	int64_t shape[4];   /**< `dimensions` sizes, slowest first */
	int64_t count;      /**< product of the shape */
	float *values;      /**< as stored, converted to float; owned, see sl_idx_free() */
} sl_idx;
/**
 * Read an array whole.
 * @param limits NULL: defaults
 * @return #SL_ERR_NOT_FOUND, #SL_ERR_IO, #SL_ERR_FORMAT, #SL_ERR_LIMIT, #SL_ERR_UNSUPPORTED (more than four
 *         dimensions), #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_idx_read(sl_context *context, const char *path, const sl_read_limits *limits, sl_idx *array);
/** Free what sl_idx_read() filled in, through the same context, and zero it. NULL is allowed. */
SL_API void sl_idx_free(sl_context *context, sl_idx *array);

/** A data set of pictures or feature vectors with one class label each. */
typedef struct sl_dataset sl_dataset;
/**
 * Read a directory in MNIST's form (`train-images-idx3-ubyte[.gz]` and so on). Pixels are scaled
 * to [0, 1].
 * @param directory NULL: where Debian's package dataset-fashion-mnist puts it
 * @param train true: the training samples; false: the test samples
 * @return #SL_ERR_NOT_FOUND, naming the package that has the data; #SL_ERR_FORMAT; #SL_ERR_SHAPE
 */
SL_API sl_status sl_dataset_read_mnist(sl_dataset **dataset, sl_context *context, const char *directory, bool train);
/**
 * Views of the samples, valid while the data set lives: inputs [samples, pixels] of f32, and labels.
 * @param samples struct_size set; filled in
 * @param classes receives the largest label + 1; may be NULL
 */
SL_API sl_status sl_dataset_samples(sl_context *context, const sl_dataset *dataset, sl_samples *samples, int *classes);
/** Destroy. NULL is allowed. */
SL_API void sl_dataset_destroy(sl_dataset *dataset);

SL_END_DECLS
#endif
