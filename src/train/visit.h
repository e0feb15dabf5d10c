/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Edits of layers that are on a device: values, gradients and moments are copied to the host, edited there as on the
 * CPU, and copied back. What the device holds stays until all copies are there: an edit that fails leaves it as it was.
 */
#ifndef SL_TRAIN_VISIT_H
#define SL_TRAIN_VISIT_H

#include "core/host.h"
#include "train/optimizer.h"

typedef struct sl_visit {
	sl_context *context, *host; /* edits run in `host`, which on the CPU is the context itself */
	sl_layer *const *layers;
	int count;
	sl_optimizer *optimizer; /* may be NULL */
	struct sl_visited *of;   /* one a layer; NULL where nothing needs to travel */
} sl_visit;

sl_status sli_visit_begin(sl_visit *visit, sl_context *context, sl_layer *const *layers, int count,
						  sl_optimizer *optimizer);
/* Bring back what was edited, or, where `status` or that fails, what was there. */
sl_status sli_visit_end(sl_visit *visit, sl_status status);

#endif
