/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file dense.h
 * Dense matrices are views: they never own what they point at.
 */
#ifndef SPARSELAYER_DENSE_H
#define SPARSELAYER_DENSE_H

#include "context.h"

SL_BEGIN_DECLS

/** How the elements of a view follow one another. `ld` counts elements. */
typedef enum sl_order {
	SL_ROW_MAJOR = 0, /**< (r, c) at r * ld + c; ld >= cols */
	SL_COL_MAJOR = 1, /**< (r, c) at c * ld + r; ld >= rows */
	/**
	 * Panels of `ld` columns, each stored row by row: (r, c) at
	 * (c / ld) * rows * ld + r * ld + c % ld, divisions rounding down. What a [features, batch] activation is kept in.
	 * The last panel is padded to `ld` columns; the padding is zero.
	 */
	SL_COL_PANELS = 2,
	/** The transposed view of #SL_COL_PANELS: panels of `ld` rows. What a [batch, features] activation is kept in. */
	SL_ROW_PANELS = 3
} sl_order;

/** A borrowed dense matrix. An op says which views it reads and which it writes. */
typedef struct sl_dense {
	void *data;       /**< may be NULL when rows or cols is 0 */
	sl_dtype dtype;   /**< #SL_F32, #SL_F64, #SL_BF16 or #SL_F16 */
	sl_order order;   /**< where an element lies */
	sl_device device; /**< where `data` is; #SL_DEVICE_AUTO means the CPU */
	int device_index; /**< which GPU; unread on the CPU */
	int64_t rows;     /**< >= 0 */
	int64_t cols;     /**< >= 0 */
	int64_t ld;       /**< leading dimension in elements; for panels the width of one */
} sl_dense;

/** A row-major view of host memory with ld = cols. Checked by the op it is given to. */
SL_API sl_dense sl_dense_view(const void *data, sl_dtype dtype, int64_t rows, int64_t cols);
/** The same matrix seen transposed; nothing moves. */
SL_API sl_dense sl_dense_transposed(sl_dense view);
/**
 * Bytes the view spans, padding of panels included.
 * @return #SL_ERR_NULL, #SL_ERR_ARGUMENT, #SL_ERR_LAYOUT, #SL_ERR_OVERFLOW
 */
SL_API sl_status sl_dense_bytes(sl_context *context, const sl_dense *view, size_t *bytes);
/**
 * Check a view: dtype, order, nonnegative sizes, ld large enough, no overflow, data not NULL
 * unless empty. Ops do this themselves.
 */
SL_API sl_status sl_dense_check(sl_context *context, const sl_dense *view);

struct DLManagedTensor; /* dlpack.h */
/**
 * A view of a DLPack tensor (v0.6 to 0.8 ABI) of one or two dimensions; one dimension becomes one
 * row. Nothing is copied; `tensor` stays the caller's and must outlive the view.
 * @return #SL_ERR_DTYPE (not f32, f64, bf16, f16 with one lane), #SL_ERR_LAYOUT (strides that are
 *         neither row- nor column-major), #SL_ERR_SHAPE (more than two dimensions),
 *         #SL_ERR_DEVICE (neither CPU nor CUDA)
 */
SL_API sl_status sl_dense_from_dlpack(sl_context *context, const struct DLManagedTensor *tensor, sl_dense *view);
/**
 * Wrap a row- or column-major view as a DLPack tensor. The data stays where it is and must outlive
 * the tensor; call its `deleter` when done.
 */
SL_API sl_status sl_dense_to_dlpack(sl_context *context, const sl_dense *view, struct DLManagedTensor **tensor);

SL_END_DECLS
#endif
