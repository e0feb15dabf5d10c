/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a model. Activations are panels of one width, one buffer a boundary. */
#ifndef SL_LAYERS_MODEL_H
#define SL_LAYERS_MODEL_H

#include "core/host.h"
#include "layers/layer.h"

/* What sl_model_prepare() makes. */
typedef struct sl_model_room {
	sl_device_state *device; /* retained; NULL: not prepared */
	int64_t max_batch, width;
	bool training;
	sl_buffer *activations; /* boundaries + 1 */
	sl_saved **saved;       /* layers; NULL entries without training */
	sl_buffer gradient[2];
	sl_buffer sums;  /* two sl_loss_sums: of a batch, and added up until they are taken */
	sl_staging read; /* of a device: where the host reads it */
	int layers, boundaries;
} sl_model_room;

struct sl_model {
	sl_heap *heap; /* owns this struct and the arrays; retained */
	sl_layer **layers;
	int count, capacity;
	sl_model_room room;
	uint64_t rooms; /* bumped with each room that is made */
	int64_t batch;  /* of the last training forward; -1: none */
	/* Of a model whose first layer takes sparse inputs: those of the next run; borrowed until its backward. */
	sl_sparse inputs;
	/* The schedule of the patterns, which src/train has put there; NULL: none. */
	struct sl_sparsity *sparsity;
	void (*sparsity_destroy)(struct sl_sparsity *sparsity);
	sl_gradient_watch watch; /* `see` NULL: nobody looks */
	/* Called after each layer's backward, with its number; NULL: nobody waits for gradients. */
	sl_status (*done)(void *self, sl_context *context, int layer);
	void *done_self;
	/* Layers divided over ranks (src/layers/divided.h): then `layers` are this rank's blocks, and no chain by
	 * themselves. NULL: none is. */
	struct sl_divided *divided;
};

sl_status sli_model_prepare(sl_context *context, sl_model *model, int64_t max_batch, sl_mode mode);
/* Whether the first layer takes sparse inputs. */
static inline bool sli_model_sparse(const sl_model *model) {
	return model->count && model->layers[0]->sparse_inputs;
}
/* The boundary of the outputs, and how many features there are at one. */
int sli_model_outputs(const sl_model *model);
int64_t sli_model_features(const sl_model *model, int boundary);
void sli_model_forget(sl_model *model); /* drop what was prepared */
/* Activations at a boundary: 0 the input, sli_model_outputs() the output. [features, batch]. */
sl_dense sli_model_activation(sl_context *context, const sl_model *model, int boundary, int64_t batch);
/* From the input activations to the output's. */
sl_status sli_model_run(sl_context *context, sl_model *model, int64_t batch, sl_mode mode);
/* From the gradient of the outputs, in gradient buffer 0 as panels, to the parameters' gradients.
 * `dx` (may be NULL) is [in, batch], any order. */
sl_status sli_model_back(sl_context *context, sl_model *model, sl_dense *dx, sl_write write);
/* One layer of it, from and to activations in panels. */
sl_status sli_model_run_layer(sl_context *context, sl_model *model, int layer, int boundary, int64_t batch,
							  bool training);
sl_status sli_model_back_layer(sl_context *context, sl_model *model, int layer, const sl_dense *dy, sl_dense *dx,
							   sl_write write);
sl_dense sli_model_gradient(sl_context *context, const sl_model *model, int which, int64_t features, int64_t batch);
/* Targets of a batch where the device reads them: one of the three. */
typedef struct sl_placed_targets {
	const int32_t *labels;
	const sl_dense *dense; /* [batch, out] */
	const sl_sparse_batch *sparse;
	bool stored_only;
} sl_placed_targets;
/* `sums` NULL: added to those that are taken later, and nothing waits. */
sl_status sli_model_loss_at(sl_context *context, sl_model *model, sl_loss loss, int64_t batch,
							const sl_placed_targets *targets, bool gradient, sl_loss_sums *sums);
/* What was added up since the last time, which begins anew. Waits. */
sl_status sli_model_take_loss(sl_context *context, sl_model *model, sl_loss_sums *sums);
/* Loss of the output activations added into *sums; with `gradient` also its gradient in gradient
 * buffer 0. Targets are of the batch, checked. */
sl_status sli_model_loss(sl_context *context, sl_model *model, sl_loss loss, int64_t batch, const sl_targets *targets,
						 bool gradient, sl_loss_sums *sums);

#endif
