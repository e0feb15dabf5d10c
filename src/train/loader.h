/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SL_TRAIN_LOADER_H
#define SL_TRAIN_LOADER_H

#include <sparselayer/loader.h>

#include "sparse/view.h"

/* Arguments are checked by the caller. */
sl_status sli_loader_create(sl_loader **loader, sl_context *context, const sl_sparse *inputs,
							const sl_loader_options *options);
void sli_loader_next(sl_loader *loader, sl_batch *batch);
void sli_loader_seek(sl_loader *loader, int64_t epoch, int64_t first);
int64_t sli_loader_batch(const sl_loader *loader);
int64_t sli_loader_samples(const sl_loader *loader);

#endif
