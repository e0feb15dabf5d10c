/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the linear layer share. Views are [features, batch]. */
#ifndef SL_LAYERS_LINEAR_H
#define SL_LAYERS_LINEAR_H

#include "layers/layer.h"

sl_dense sli_layer_dense_weights(sl_context *context, const sl_layer *layer);
void sli_layer_describe_forward(sl_context *context, const sl_layer *layer, const sl_dense *x, const sl_dense *y,
								bool pre_activation, sl_op_desc *desc);
void sli_layer_describe_dx(sl_context *context, const sl_layer *layer, const sl_dense *dz, const sl_dense *dx,
						   sl_op_desc *desc);
void sli_layer_describe_dw(sl_context *context, const sl_layer *layer, const sl_dense *dz, const sl_dense *x,
						   sl_op_desc *desc);
/* Checked by the caller. */
sl_status sli_layer_forward(sl_context *context, const sl_layer *layer, const sl_dense *x, sl_dense *y,
							sl_saved *saved);
/* Sparse inputs of a layer: whether it takes them, their content, dtype and width. */
sl_status sli_check_layer_input(sl_context *context, const sl_layer *layer, const sl_sparse *x, const char *name);
/* Checked by the caller, y and dy being [batch, out]. */
sl_status sli_layer_forward_sparse(sl_context *context, const sl_layer *layer, const sl_sparse *x, sl_dense *y,
								   sl_saved *saved);
sl_status sli_layer_backward_sparse(sl_context *context, sl_layer *layer, sl_saved *saved, const sl_dense *dy,
									sl_write write, const sl_gradient_watch *watch);
sl_status sli_layer_watch_sparse(sl_context *context, const sl_layer *layer, const sl_saved *saved, const sl_dense *dy,
								 const sl_gradient_watch *watch);
/* Make room in a layer's row-sparse gradient for these rows, and list them; values are left to the caller. `starts` has
 * one more. */
sl_status sli_layer_set_rows(sl_context *context, sl_layer *layer, int64_t count, const int32_t *columns,
							 const int64_t *starts);
void sli_layer_describe_input(sl_context *context, const sl_layer *layer, int64_t batch, sl_op_desc *desc);
sl_status sli_layer_backward(sl_context *context, sl_layer *layer, sl_saved *saved, const sl_dense *dy, sl_dense *dx,
							 sl_write write);
/* The same, shown to a watch (NULL: none). */
sl_status sli_layer_backward_watched(sl_context *context, sl_layer *layer, sl_saved *saved, const sl_dense *dy,
									 sl_dense *dx, sl_write write, const sl_gradient_watch *watch);
/* Show a watch what backward would show it, and no more. */
sl_status sli_layer_watch(sl_context *context, const sl_layer *layer, sl_saved *saved, const sl_dense *dy,
						  const sl_gradient_watch *watch);

#endif
