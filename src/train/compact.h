/* SPDX-License-Identifier: Apache-2.0 */
/* Neurons that do nothing any more, removed from the layers on both sides. */
#ifndef SL_TRAIN_COMPACT_H
#define SL_TRAIN_COMPACT_H

#include <sparselayer/sparsity.h>

#include "layers/model.h"
#include "train/optimizer.h"

sl_status sli_model_compact(sl_context *context, sl_model *model, sl_optimizer *optimizer, sl_compaction *done);

#endif
