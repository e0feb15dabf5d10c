/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a linear layer. */
#ifndef SL_LAYERS_LAYER_H
#define SL_LAYERS_LAYER_H

#include "core/rng.h"
#include "ops/ops.h"
#include "stream/weights.h"

/* Which rows of W a row-sparse gradient has, and where each begins in it. */
typedef struct sl_row_gradient {
	int64_t count;
	sl_buffer columns, starts; /* int32; int64, one more */
} sl_row_gradient;

/* Forward, dX, dW. */
enum { SL_LAYER_PLANS = 3, SL_PINNED = 24 };

struct sl_layer {
	sl_heap *heap; /* owns this struct and `name`; retained */
	char *name;
	int64_t in_features, out_features;
	sl_dtype dtype;
	bool dense, has_bias;
	bool sparse_inputs; /* W is kept as its transpose, [in, out] */
	sl_activation activation;
	double activation_parameter;
	sl_csr *weights;         /* sparse layers; else NULL */
	sl_buffer dense_weights; /* dense layers: [out, in] row-major */
	sl_streamed *streamed;   /* the weights are not in memory; the two above are empty then, and `dense` is false */
	sl_buffer gradient;      /* of the weights' values; empty until wanted */
	sl_buffer bias, bias_gradient;
	sl_row_gradient rows;       /* of sparse inputs: what `gradient` holds */
	sl_row_gradient spare_rows; /* where a gradient that is added to is put together; then the two are swapped */
	sl_buffer spare_gradient;
	int64_t place;    /* its number, from 1, among the blocks of all ranks; 0: of a model that is not divided */
	uint64_t edition; /* bumped by every edit, so that stale saved forwards are noticed */
	/* Plans of sl_layer_prepare(); NULL until then. A call whose batch or orders they do not fit
	 * plans for itself. */
	sl_plan *forward_plan, *dx_plan, *dw_plan;
	int64_t planned_batch, planned_width; /* panels */
	uint64_t plannings;                   /* bumped when plans come or go */
	/* How a loaded layer was planned for training: names of candidates, "" for none. Training is planned so again,
	 * until the pattern is edited, so that a run goes on with the bits it would have had. */
	char pinned[SL_LAYER_PLANS][SL_PINNED];
};
/* The names of the candidates that a layer's training plans run by, or that it was loaded with. */
const char *sli_layer_candidate(const sl_layer *layer, int plan);

/* As sl_linear_create(), whose checks it makes; `streamed` (NULL: none) is taken over when it succeeds. */
sl_status sli_linear_create(sl_layer **layer, sl_context *context, const sl_linear_options *options,
							sl_streamed *streamed);
/* Weights that are stored. */
static inline int64_t sli_layer_nnz(const sl_layer *layer) {
	return layer->streamed ? layer->streamed->source->nnz
		   : layer->dense  ? layer->in_features * layer->out_features
						   : sli_pattern_arrays(layer->weights->pattern).nnz;
}
/* SL_ERR_UNSUPPORTED for a layer whose weights are streamed: what is named needs them in memory. */
sl_status sli_layer_in_memory(sl_context *context, const sl_layer *layer, const char *what);
/* Put other weights of the same shape and dtype into a layer, which takes `weights` over; a dense
 * layer becomes sparse. `gradient` (taken over) replaces the gradient's values, an empty buffer
 * drops it. Plans are dropped and the edition is bumped. Cannot fail. */
void sli_layer_replace_weights(sl_layer *layer, sl_csr *weights, sl_buffer gradient);
/* The same with a pattern of as many entries (retained), whose values and gradient are in place already. */
void sli_layer_replace_pattern(sl_layer *layer, sl_pattern *pattern);
/* sl_layer_prepare() for panels of a given width, which a model chooses for all its layers. Does
 * nothing when the layer is prepared for at least that. `dx`: the gradient of its inputs will be asked for. */
sl_status sli_layer_prepare_width(sl_context *context, sl_layer *layer, int64_t max_batch, int64_t width, sl_mode mode,
								  bool dx);
/* The width a layer alone would choose. */
int64_t sli_layer_width(sl_context *context, const sl_layer *layer, int64_t batch);
/* Draw initial weights into `values` (host memory): W's entries in order, from the context's seed. */
sl_status sli_layer_init(sl_context *context, const sl_linear_options *options, sl_pattern *pattern, void *values);
/* The same for rows of a larger W, `fans` being how many connections each input has in all of it. */
void sli_layer_init_rows(sl_context *context, const sl_linear_options *options, const sl_pattern *pattern,
						 const int64_t *fans, void *values);
/* The same a row at a time, in order. */
typedef struct sl_init_run {
	sl_rng rng;
	const sl_linear_options *options;
	const int32_t *others; /* how many entries each column has */
} sl_init_run;
sl_init_run sli_init_run(sl_context *context, const sl_linear_options *options, const int32_t *others);
void sli_init_row(sl_init_run *run, const int32_t *columns, int64_t count, void *values);
void sli_layer_drop_plans(sl_layer *layer);
void sli_layer_drop_rows(sl_layer *layer); /* a row-sparse gradient, `gradient` excepted */

/* What a forward leaves behind. Panels that the caller handed in are borrowed, others are own. */
struct sl_saved {
	sl_heap *heap; /* owns this struct; retained */
	int64_t max_batch;
	const sl_layer *layer; /* compared, never followed; NULL: holds no forward */
	uint64_t edition;
	sl_dense x;    /* [in, batch] in panels; of sparse inputs its shape alone */
	sl_dense kept; /* [out, batch] in panels: output or pre-activation; data NULL for the identity */
	sl_buffer input, output;
	sl_sparse_batch batch; /* of sparse inputs; borrowed, or in `input` */
};
/* As sl_saved_create(), for panels of a width. A side that will be handed over in panels of that
 * width needs no room: borrows_input, borrows_output. */
sl_status sli_saved_create_width(sl_saved **saved, sl_context *context, const sl_layer *layer, int64_t max_batch,
								 int64_t width, bool borrows_input, bool borrows_output);
/* Room for `bytes` in a buffer of a saved forward, which grows if it must. */
sl_status sli_saved_room(sl_context *context, sl_buffer *buffer, size_t bytes);

/* Sees dZ [out, batch] and X [in, batch], panels both, of a backward between activation and weight gradient; of a layer
 * of sparse inputs dZ [batch, out], row-major, and the batch. */
typedef struct sl_gradient_watch {
	sl_status (*see)(void *self, sl_context *context, const sl_layer *layer, const sl_dense *dz, const sl_dense *x);
	void *self;
	sl_status (*see_sparse)(void *self, sl_context *context, const sl_layer *layer, const sl_dense *dz,
							const sl_sparse_batch *x);
} sl_gradient_watch;

/* Allocate gradients if there are none. Zeroed. Row-sparse ones grow in backward. */
sl_status sli_layer_make_gradients(sl_context *context, sl_layer *layer);

#endif
