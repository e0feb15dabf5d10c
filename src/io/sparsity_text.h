/* SPDX-License-Identifier: Apache-2.0 */
/* A model's schedule of patterns as JSON of its file's metadata. */
#ifndef SL_IO_SPARSITY_TEXT_H
#define SL_IO_SPARSITY_TEXT_H

#include <jansson.h>

#include "train/sparsity.h"

/* NULL without memory. */
json_t *sli_sparsity_describe(const sl_sparsity *sparsity);
/* SL_ERR_FORMAT, naming `path`, for what is no schedule of the model. */
sl_status sli_sparsity_parse(sl_context *context, const char *path, const json_t *json, sl_model *model);

#endif
