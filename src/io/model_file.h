/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a model's file, for who puts a model together from several. */
#ifndef SL_IO_MODEL_FILE_H
#define SL_IO_MODEL_FILE_H

#include "io/safetensors.h"
#include "layers/model.h"

sl_status sli_model_file_layer(sl_safetensors *file, int index, const sl_read_limits *limits, sl_layer **layer);
/* The optimizer without moments yet; NULL where the file has none. The model is added to it. */
sl_status sli_model_file_optimizer(sl_safetensors *file, sl_model *model, sl_optimizer **optimizer);
/* Those of the file's layer `index`, into the optimizer's of `layer`. */
sl_status sli_model_file_moments(sl_safetensors *file, int index, const sl_layer *layer, sl_optimizer *optimizer);
sl_status sli_model_file_sparsity(sl_safetensors *file, sl_model *model);
sl_status sli_model_file_checkpoint(sl_safetensors *file, sl_checkpoint *checkpoint);

/* A divided model's files: one a rank, and a manifest that names them. Checked by the caller. */
sl_status sli_divided_save(sl_context *context, const sl_model *model, const sl_optimizer *optimizer,
						   const sl_checkpoint *checkpoint, const char *path);
sl_status sli_divided_load(sl_model **model, sl_optimizer **optimizer, sl_checkpoint *checkpoint, sl_context *context,
						   sl_comm *comm, const char *path, const sl_read_limits *limits);

#endif
