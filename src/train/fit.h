/* SPDX-License-Identifier: Apache-2.0 */
/* Loops over samples. Arguments are checked by the caller. */
#ifndef SL_TRAIN_FIT_H
#define SL_TRAIN_FIT_H

#include "layers/model.h"
#include "train/optimizer.h"

sl_status sli_model_fit(sl_context *context, sl_model *model, sl_optimizer *optimizer, const sl_samples *samples,
						const sl_fit_options *options);
sl_status sli_model_evaluate(sl_context *context, sl_model *model, sl_loss loss, const sl_samples *samples,
							 int64_t batch, double *mean_loss, double *accuracy);
/* Of the samples the inputs alone. */
sl_status sli_model_predict(sl_context *context, sl_model *model, const sl_samples *samples, sl_dense *outputs,
							int64_t batch);
static inline int64_t sli_sample_count(const sl_samples *samples) {
	return samples->sparse_inputs ? samples->sparse_inputs->rows : samples->inputs.rows;
}

#endif
