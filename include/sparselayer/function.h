/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file function.h
 * A linear layer as a function of arrays that belong to somebody else: Y = activation(X Wᵀ + b) and its
 * gradients, for frameworks that keep parameters, gradients and activations in tensors of their own. A
 * function holds a pattern and plans, no parameter, and nothing of one call for the next.
 */
#ifndef SPARSELAYER_FUNCTION_H
#define SPARSELAYER_FUNCTION_H

#include "layer.h"

SL_BEGIN_DECLS

/** Opaque; made by sl_function_create(), freed by sl_function_destroy(). One thread at a time uses it. */
typedef struct sl_function sl_function;

/** What sl_function_create() makes. */
typedef struct sl_function_options {
	size_t struct_size;       /**< sizeof(sl_function_options) */
	sl_pattern *pattern;      /**< [out_features, in_features]; retained */
	bool bias;                /**< whether calls give a bias */
	sl_activation activation; /**< default #SL_IDENTITY; one whose gradient follows from its output, so not #SL_GELU */
	double activation_parameter; /**< as in #sl_linear_options */
	/** of all arrays: #SL_F32 (default), #SL_F64; or #SL_BF16 or #SL_F16 of X, Y and their gradients, the parameters
	 * and their gradients being f32: values are rounded for the products, whose sums are f32; dW is rounded once. */
	sl_dtype dtype;
} sl_function_options;
/** Begins an initializer of #sl_function_options. */
#define SL_FUNCTION_DEFAULTS .struct_size = sizeof(sl_function_options)

/**
 * Create a function. Plans are made by the first call of a batch size and kept for it and smaller ones.
 * @return #SL_ERR_UNSUPPORTED (#SL_GELU, halves not on the CPU, or an op that the device's backend lacks), and as
 * sl_linear_create()
 */
SL_API sl_status sl_function_create(sl_function **function, sl_context *context, const sl_function_options *options);
/** Destroy. NULL is allowed. */
SL_API void sl_function_destroy(sl_function *function);
/** The pattern, borrowed; NULL for NULL. */
SL_API sl_pattern *sl_function_pattern(const sl_function *function);
/**
 * Exchange the pattern, for one of the same shape, which is retained. Plans are dropped. What forwards kept stays
 * usable for the inputs in it, but gradients follow the new pattern.
 * @return #SL_ERR_SHAPE
 */
SL_API sl_status sl_function_set_pattern(sl_context *context, sl_function *function, sl_pattern *pattern);
/**
 * Bytes that a forward of `batch` rows keeps for its backward where it is asked to.
 * @return #SL_ERR_OVERFLOW, #SL_ERR_ARGUMENT (a negative batch)
 */
SL_API sl_status sl_function_kept_bytes(sl_context *context, const sl_function *function, int64_t batch, size_t *bytes);

/**
 * What lies where in it: X's panels at its beginning, Y's (where there is an activation) `input_bytes` behind it, both
 * #SL_ROW_PANELS of `width` rows.
 * @return as sl_function_kept_bytes()
 */
SL_API sl_status sl_function_kept_layout(sl_context *context, const sl_function *function, int64_t batch,
										 int64_t *width, size_t *input_bytes);

/**
 * Y = activation(X Wᵀ + b).
 * @param values nnz weights in the pattern's order
 * @param bias out_features elements; NULL where the function has none
 * @param X [batch, in_features], any order but #SL_COL_PANELS
 * @param Y [batch, out_features], likewise; written
 * @param kept NULL, or sl_function_kept_bytes() bytes on a boundary of 64: receives X and Y as backward wants them,
 *        which saves it their conversion, and leaves the caller free to change X and Y
 * @return as sl_layer_forward(), and #SL_ERR_NULL, #SL_ERR_LAYOUT (`kept` is not aligned), #SL_ERR_MEMORY,
 *         #SL_ERR_BUDGET
 */
SL_API sl_status sl_function_forward(sl_context *context, sl_function *function, const void *values, const void *bias,
									 const sl_dense *X, sl_dense *Y, void *kept);

/**
 * The same of sparse X, at the cost of its entries. The first such call makes the pattern's transpose.
 * @param X [batch, in_features]; CSR with int32 columns is read where it lies. Values of the function's dtype
 * @param Y [batch, out_features], any order but #SL_COL_PANELS
 * @return as sl_layer_forward_sparse(), and #SL_ERR_NULL, #SL_ERR_UNSUPPORTED (not on the CPU)
 */
SL_API sl_status sl_function_forward_sparse(sl_context *context, sl_function *function, const void *values,
											const void *bias, const sl_sparse *X, sl_dense *Y);

/** The gradients of one forward, and what they are made from. */
typedef struct sl_function_gradients {
	size_t struct_size;   /**< sizeof(sl_function_gradients) */
	const void *values;   /**< the weights, as in the forward */
	const sl_dense *X;    /**< the input of the forward; unread where `kept` is given */
	const sl_dense *Y;    /**< its output; unread where `kept` is given, and where there is no activation */
	const void *kept;     /**< what the forward kept, or NULL */
	const sl_dense *dY;   /**< [batch, out_features]; not changed */
	sl_dense *dX;         /**< [batch, in_features], overwritten; NULL: not wanted */
	void *value_gradient; /**< nnz elements, in the pattern's order; NULL: not wanted */
	void *bias_gradient;  /**< out_features elements; NULL: not wanted */
	sl_write write;       /**< what becomes of the old content of the two above; default #SL_OVERWRITE */
	/** The input of sl_function_forward_sparse(), instead of X; `kept` and `dX` must be NULL then, `values` is unread.
	 * `value_gradient` has all nnz elements, zero where the batch has no entry for the feature. */
	const sl_sparse *sparse_X;
} sl_function_gradients;
/** Begins an initializer of #sl_function_gradients. */
#define SL_FUNCTION_GRADIENTS .struct_size = sizeof(sl_function_gradients)

/**
 * dX = dZ W, dW = dZᵀ X on the pattern, db = sum of dZ over the batch, where dZ = dY * activation'.
 * @return as sl_layer_backward() and sl_function_forward()
 */
SL_API sl_status sl_function_backward(sl_context *context, sl_function *function, const sl_function_gradients *g);

SL_END_DECLS
#endif
