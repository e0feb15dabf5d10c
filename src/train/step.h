/* SPDX-License-Identifier: Apache-2.0 */
/* Steps whose numbers are made and kept on the device, so that the host waits for nothing and a captured step,
 * replayed, is the next step. */
#ifndef SL_TRAIN_STEP_H
#define SL_TRAIN_STEP_H

#include "train/optimizer.h"

/* Where the optimizer stands, as the device knows it. Waits. */
sl_status sli_step_now(const sl_optimizer *optimizer, int64_t *steps, int64_t *skipped, double *norm);
/* Bring rules, and with `all` the count of steps, to the device. Does nothing where its memory is the host's. */
sl_status sli_step_upload(sl_context *context, sl_optimizer *optimizer, bool all);
/* Workspace that a step takes for a parameter. */
sl_status sli_step_reserve(sl_context *context, const sl_optimizer *optimizer, const sl_parameter *parameter);
/* Make the numbers of a step from the gradients' squares, and count it. Not finite: nothing will be updated, and the
 * status says so unless a capture records the step. */
sl_status sli_step_advance(sl_context *context, sl_optimizer *optimizer);

/* The step in the device's memory. */
static inline sl_step *sli_step_of(const sl_optimizer *optimizer) {
	return optimizer->step.data;
}

#endif
