/* SPDX-License-Identifier: Apache-2.0 */
/* A linear layer whose arrays are the caller's. Views are [features, batch]. */
#ifndef SL_LAYERS_FUNCTION_H
#define SL_LAYERS_FUNCTION_H

#include "layers/linear.h"

/* Panels of 8, 16, 32 and 64: batches of one width share plans. */
enum { SL_FUNCTION_WIDTHS = 4 };

/* Over sparse inputs, made by the first such call: a layer over the pattern's transpose. */
typedef struct sl_function_input {
	sl_layer layer;   /* its gradient has rows, and room that grows */
	sl_csr weights;   /* no pattern: not made yet */
	const void *from; /* of each of its entries, the number in the function's pattern, which owns these */
	sl_dtype from_dtype;
} sl_function_input;

struct sl_function {
	sl_heap *heap; /* owns this struct; retained */
	sl_function_input input;
	/* Each has the pattern and the plans of one panel width; arrays are put in for a call. The first is also
	 * the description. */
	sl_layer layers[SL_FUNCTION_WIDTHS];
	sl_csr weights[SL_FUNCTION_WIDTHS];
};

/* A call's arrays, checked, with X, Y and their gradients turned. `x` or `y` without data: in `kept`. */
typedef struct sl_function_call {
	const void *values, *bias;
	sl_dense x, y, dy;
	sl_dense *dx;
	void *kept, *value_gradient, *bias_gradient;
	sl_write write;
} sl_function_call;

/* Bytes of the input's and the output's panels of a batch. False on overflow. */
bool sli_function_kept(sl_context *context, const sl_function *function, int64_t batch, size_t *input, size_t *output);
sl_status sli_function_forward(sl_context *context, sl_function *function, sl_function_call *call);
sl_status sli_function_backward(sl_context *context, sl_function *function, sl_function_call *call);
/* The same of sparse inputs, checked; y and dy of the call are [batch, out] here. */
sl_status sli_function_forward_sparse(sl_context *context, sl_function *function, sl_function_call *call,
									  const sl_sparse *x);
sl_status sli_function_backward_sparse(sl_context *context, sl_function *function, sl_function_call *call,
									   const sl_sparse *x);
void sli_function_drop_input(sl_function *function);

#endif
