/* SPDX-License-Identifier: Apache-2.0 */
/* A model's schedule of patterns as JSON of its file's metadata. */
#ifndef SL_IO_SPARSITY_TEXT_H
#define SL_IO_SPARSITY_TEXT_H

#include <jansson.h>

#include "train/sparsity.h"

/* NULL without memory. */
json_t *sli_sparsity_describe(const sl_sparsity *sparsity);
/* The schedule of SET or RigL governs the model's layers as they are. */
sl_status sli_sparsity_govern(sl_context *context, json_t *json, const sl_model *model);
/* SL_ERR_FORMAT, naming `path`, for what is no schedule of the model. */
sl_status sli_sparsity_parse(sl_context *context, const char *path, const json_t *json, sl_model *model);

#endif
