/* SPDX-License-Identifier: Apache-2.0 */
/* Early stopping (Prechelt 1998): the best epoch's parameters are kept aside. */
#ifndef SL_TRAIN_EARLY_H
#define SL_TRAIN_EARLY_H

#include "layers/model.h"

typedef struct sl_early {
	sl_context *context;
	sl_model *model;
	const sl_fit_options *o;
	double best; /* larger is better: a loss with its sign turned */
	int64_t waited;
	bool any; /* whether there is a best epoch */
	char *copy;
	size_t bytes;
	sl_pattern **patterns; /* one a parameter, retained; NULL: dense */
	int parameters;
} sl_early;

/* Nothing happens unless o->patience is above 0. */
sl_status sli_early_open(sl_early *early, sl_context *context, sl_model *model, const sl_fit_options *o);
/* After an epoch: keep its parameters where it is the best so far. *stop: it is time to. */
sl_status sli_early_note(sl_early *early, const sl_epoch *epoch, bool *stop);
/* Put the best parameters back, where `status` is SL_OK and they are wanted, and free. */
sl_status sli_early_close(sl_early *early, sl_status status);

#endif
