/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file layer.h
 * A layer is parameters plus forward and backward: Y = activation(X Wᵀ + b) with X [batch,
 * in_features], Y [batch, out_features], W [out_features, in_features] sparse or dense.
 * Backward is dX = dZ W, dW = dZᵀ X on W's pattern, db = sum of dZ over the batch, where
 * dZ = dY * activation'. Forward does not change the layer, so contexts may share it.
 */
#ifndef SPARSELAYER_LAYER_H
#define SPARSELAYER_LAYER_H

#include "plan.h"
#include "sparse.h"

SL_BEGIN_DECLS

/** Opaque; made by sl_linear_create(), freed by sl_layer_destroy() or with its model. */
typedef struct sl_layer sl_layer;
/** What a forward keeps for its backward: one per forward in flight. Owned by the caller. */
typedef struct sl_saved sl_saved;

/** How weights begin. Glorot: Glorot and Bengio 2010; He: He et al. 2015. */
typedef enum sl_init {
	SL_INIT_GLOROT_UNIFORM = 0, /**< U(-a, a), a = sqrt(6 / (fan_in + fan_out)) */
	SL_INIT_GLOROT_NORMAL = 1,  /**< N(0, 2 / (fan_in + fan_out)) */
	SL_INIT_HE_UNIFORM = 2,     /**< U(-a, a), a = sqrt(6 / fan_in) */
	SL_INIT_HE_NORMAL = 3,      /**< N(0, 2 / fan_in) */
	SL_INIT_UNIFORM = 4,        /**< U(-init_scale, init_scale) */
	SL_INIT_ZERO = 5            /**< all zero */
} sl_init;

/** "glorot-uniform", "glorot-normal", "he-uniform", "he-normal", "uniform", "zero"; "unknown" otherwise. Static. */
SL_API const char *sl_init_name(sl_init init);

/**
 * Options of sl_linear_create(). fan_in is the number of connections the neuron actually has, and
 * fan_out that of the input it reads, not the layer's sizes. Biases start at zero.
 */
typedef struct sl_linear_options {
	size_t struct_size;          /**< sizeof(sl_linear_options) */
	int64_t in_features;         /**< inputs, at least 0 */
	int64_t out_features;        /**< neurons, at least 0 */
	double density;              /**< in (0, 1]; default (0) is 1. Ignored when `pattern` or `weights` is given */
	bool dense;                  /**< store W densely (density must then be 0 or 1) */
	sl_pattern *pattern;         /**< [out_features, in_features]; retained */
	const sl_csr *weights;       /**< copied: pattern shared, values copied */
	sl_init init;                /**< default #SL_INIT_GLOROT_UNIFORM; not used with `weights` */
	double init_scale;           /**< for #SL_INIT_UNIFORM; default 0.05 */
	bool bias;                   /**< whether there is a bias */
	sl_activation activation;    /**< default #SL_IDENTITY */
	double activation_parameter; /**< see #sl_activation; default 0.01 for leaky ReLU, 6 for clipped ReLU */
	sl_dtype dtype;              /**< #SL_F32 (default) or #SL_F64 */
	uint64_t stream;  /**< distinguishes the random draws of layers of one context: give each layer its own */
	const char *name; /**< copied; default "linear" */
	/** The layer takes sparse inputs (sl_layer_forward_sparse()) and no others. W is then kept by feature, so that an
	 * entry of X reads memory that lies together: `pattern`, `weights` and all that is said of W below are of its
	 * transpose, [in_features, out_features]. Its gradient is row-sparse, see #sl_parameter. CPU only. */
	bool sparse_inputs;
} sl_linear_options;
/** Begins an initializer of #sl_linear_options. */
#define SL_LINEAR_DEFAULTS .struct_size = sizeof(sl_linear_options)

/**
 * Create a linear layer.
 * @return #SL_ERR_ARGUMENT, #SL_ERR_SHAPE (pattern or weights of another shape), #SL_ERR_DTYPE,
 *         #SL_ERR_UNSUPPORTED (an op of the layer that the device's backend lacks), #SL_ERR_OVERFLOW,
 *         #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_linear_create(sl_layer **layer, sl_context *context, const sl_linear_options *options);
/** Destroy a layer. NULL is allowed. */
SL_API void sl_layer_destroy(sl_layer *layer);

/** What kind of layer, its sizes and costs. */
typedef struct sl_layer_info {
	size_t struct_size;          /**< sizeof(sl_layer_info); set it before the call */
	const char *name;            /**< valid while the layer lives */
	int64_t in_features;         /**< inputs */
	int64_t out_features;        /**< neurons */
	bool dense;                  /**< whether W is stored densely */
	int64_t nnz;                 /**< weights stored */
	double density;              /**< nnz / (in * out); 0 for an empty layer */
	int64_t parameters;          /**< nnz + biases */
	int64_t empty_rows;          /**< neurons without any connection; -1 where weights are streamed */
	sl_activation activation;    /**< after the product */
	double activation_parameter; /**< as resolved, defaults filled in */
	bool bias;                   /**< whether there is one */
	sl_dtype dtype;              /**< of weights, bias and activations */
	bool sparse_inputs;          /**< as in #sl_linear_options; then `empty_rows` counts features without a weight */
	bool streamed;               /**< the weights are on disk: see streamed.h */
} sl_layer_info;
/** Fill in `info`. */
SL_API sl_status sl_layer_get_info(sl_context *context, const sl_layer *layer, sl_layer_info *info);

/** One trainable array. Borrowed pointers, valid until the layer is destroyed or its pattern is edited. */
typedef struct sl_parameter {
	size_t struct_size;  /**< sizeof(sl_parameter); set it before the call */
	const char *name;    /**< "weight" or "bias" */
	sl_dtype dtype;      /**< of `value` and `gradient` */
	sl_device device;    /**< where both are */
	int64_t count;       /**< elements of `value` and `gradient` */
	void *value;         /**< writable: sparse, in the pattern's order; dense, row-major */
	void *gradient;      /**< NULL until a backward or sl_layer_prepare() for training made it */
	sl_pattern *pattern; /**< NULL: dense */
	int64_t rows;        /**< logical shape; bias: [out_features, 1] */
	int64_t cols;        /**< see `rows` */
	bool decays;         /**< whether L1, L2 and weight decay apply (weights yes, biases no) */
	bool transposed;     /**< W is kept as its transpose, which `rows`, `cols` and `pattern` are of: layers of sparse
							inputs */
	/** A row-sparse gradient, of layers of sparse inputs: row gradient_rows[i] of W has its gradient at
	 * gradient[gradient_starts[i]] up to gradient_starts[i + 1]; the rows that are not listed have none. NULL:
	 * `gradient` is of all elements. Listed rows increase. Valid until the next backward. */
	const int32_t *gradient_rows;
	const int64_t *gradient_starts; /**< gradient_row_count + 1 */
	int64_t gradient_row_count;     /**< rows listed; 0 before the first backward */
	int64_t gradient_count;         /**< elements of `gradient` */
	bool streamed; /**< the weights are on disk (streamed.h): `value`, `gradient` and `pattern` are NULL */
} sl_parameter;
/** How many parameters a layer has. 0 for NULL. */
SL_API int sl_layer_parameter_count(const sl_layer *layer);
/**
 * Fill in `parameter`: 0 is the weights, 1 the bias where there is one.
 * @return #SL_ERR_ARGUMENT for an index out of range
 */
SL_API sl_status sl_layer_parameter(sl_context *context, const sl_layer *layer, int index, sl_parameter *parameter);
/** The weights as a CSR matrix, borrowed; NULL for a dense or streamed layer. */
SL_API sl_csr *sl_layer_weights(const sl_layer *layer);

/** What a call is to be ready for. */
typedef enum sl_mode {
	SL_MODE_INFERENCE = 0, /**< forward alone */
	SL_MODE_TRAINING = 1   /**< forward and backward */
} sl_mode;

/**
 * Do all planning and allocation for calls of up to `max_batch` rows now, so that they do neither.
 * @param max_batch > 0
 * @return #SL_ERR_UNSUPPORTED, #SL_ERR_OVERFLOW, #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_layer_prepare(sl_context *context, sl_layer *layer, int64_t max_batch, sl_mode mode);
/**
 * A number that changes when the layer was planned anew, its pattern was edited, or the context's workspace moved: what
 * a CUDA graph has recorded of it is stale then and must be captured again. 0 for NULL.
 */
SL_API uint64_t sl_layer_generation(const sl_context *context, const sl_layer *layer);
/** Create what one forward of up to `max_batch` rows keeps. @return #SL_ERR_ARGUMENT, #SL_ERR_OVERFLOW, #SL_ERR_MEMORY,
 * #SL_ERR_BUDGET */
SL_API sl_status sl_saved_create(sl_saved **saved, sl_context *context, const sl_layer *layer, int64_t max_batch);
/** Destroy. NULL is allowed. */
SL_API void sl_saved_destroy(sl_saved *saved);

/**
 * Y = activation(X Wᵀ + b).
 * @param X [batch, in_features], any order but #SL_COL_PANELS; of the layer's dtype. Panels are used
 *          where they lie and then borrowed until the backward; other orders are packed once
 * @param Y [batch, out_features], likewise; written
 * @param saved NULL for inference; else as large as the batch, of sl_saved_create()
 * @return #SL_ERR_SHAPE, #SL_ERR_DTYPE, #SL_ERR_LAYOUT, #SL_ERR_ALIAS (Y overlaps X), #SL_ERR_DEVICE
 */
SL_API sl_status sl_layer_forward(sl_context *context, const sl_layer *layer, const sl_dense *X, sl_dense *Y,
								  sl_saved *saved);

/**
 * The same for sparse X, of a layer made with `sparse_inputs`. Bias and activation are applied in the same pass.
 * @param X [batch, in_features]; its values of the layer's dtype. With `saved` its arrays are borrowed until the
 * backward where they can be read as they lie (CSR with int32 columns), else copied
 * @param Y [batch, out_features], any order but #SL_COL_PANELS; row-major is written without a copy
 * @param saved NULL for inference
 * @return #SL_ERR_STATE (the layer takes dense inputs), #SL_ERR_STRUCTURE (offsets or indices of X that are not valid),
 *         #SL_ERR_SHAPE, #SL_ERR_DTYPE, #SL_ERR_LAYOUT, #SL_ERR_MEMORY, #SL_ERR_BUDGET
 */
SL_API sl_status sl_layer_forward_sparse(sl_context *context, const sl_layer *layer, const sl_sparse *X, sl_dense *Y,
										 sl_saved *saved);

/** What becomes of gradients that are there already. */
typedef enum sl_write {
	SL_OVERWRITE = 0, /**< replaced */
	SL_ACCUMULATE = 1 /**< added to */
} sl_write;

/**
 * Gradients of a forward. Parameter gradients are overwritten or added to as `write` says. A row-sparse gradient that
 * is added to lists the rows of both.
 * @param dY [batch, out_features]; not changed
 * @param dX [batch, in_features], overwritten; NULL: not wanted. Sparse inputs have none: it must be NULL
 * @return #SL_ERR_STATE when `saved` holds no forward of this layer or the layer was edited since;
 *         #SL_ERR_SHAPE, #SL_ERR_DTYPE, #SL_ERR_LAYOUT, #SL_ERR_ALIAS (dX overlaps dY)
 */
SL_API sl_status sl_layer_backward(sl_context *context, sl_layer *layer, sl_saved *saved, const sl_dense *dY,
								   sl_dense *dX, sl_write write);

SL_END_DECLS
#endif
