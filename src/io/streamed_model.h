/* SPDX-License-Identifier: Apache-2.0 */
/* What a model's file says of streamed layers. */
#ifndef SL_IO_STREAMED_MODEL_H
#define SL_IO_STREAMED_MODEL_H

#include "io/safetensors.h"
#include "layers/model.h"

/* A store by the name of its folder, which is beside the file, and the header that the file keeps for it. */
json_t *sli_store_record(const char *path, const sl_store_header *header);
/* Where a layer's JSON has a record, the store it names; else *streamed is NULL. */
sl_status sli_store_recorded(sl_safetensors *file, const json_t *layer, sl_streamed **streamed);
/* The weights of layer `index` where they lie in the file, if there are more than `above`; else *streamed is NULL. */
sl_status sli_weights_in_file(sl_safetensors *file, int index, const sl_linear_options *o, const sl_read_limits *limits,
							  const sl_model_reading *how, sl_streamed **streamed);

/* Names of stores that a file refers to: an array of texts, or NULL where there is no such file. */
json_t *sli_stores_of(sl_context *context, const char *path);
/* Remove those of `before` that a model does not have. */
void sli_remove_stores(const json_t *before, const sl_model *model, const char *path);

#endif
