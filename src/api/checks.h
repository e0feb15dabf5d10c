/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of arguments that several public calls share. */
#ifndef SL_API_CHECKS_H
#define SL_API_CHECKS_H

#include "layers/model.h"
#include "train/optimizer.h"

/* Inputs (of one kind, the other NULL) and targets of a batch, as sl_model_train_batch() takes them. */
sl_status sli_check_train_batch(sl_context *context, const sl_model *model, sl_loss loss, const sl_dense *inputs,
								const sl_sparse *sparse, const sl_targets *targets);

/* Whether a layer may come next, and room for some more. */
sl_status sli_model_check_layer(sl_context *context, const sl_model *model, const sl_layer *layer);
sl_status sli_model_room_for(sl_context *context, sl_model *model, int more);

/* What is saved beside a model: *own is complete then. */
sl_status sli_check_save(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
						 const sl_checkpoint *checkpoint, const char *path, sl_checkpoint *own);

/* The last part of loading: tell the checkpoint (may be NULL), or destroy what was loaded. `optimizer` may be NULL. */
sl_status sli_give_loaded(sl_context *context, sl_model **model, sl_optimizer **optimizer, const sl_checkpoint *found,
						  sl_checkpoint *checkpoint);

/* A context, and a model that has layers. */
sl_status sli_check_model(sl_context *context, const sl_model *model);
/* A layer whose pattern can be edited, with the moments that `optimizer` (may be NULL) has of it. */
sl_status sli_check_edit(sl_context *context, const sl_layer *layer, const sl_optimizer *optimizer);

#endif
