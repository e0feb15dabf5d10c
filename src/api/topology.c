/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "api/checks.h"
#include "core/checked.h"
#include "train/edit.h"

sl_status sli_check_edit(sl_context *context, const sl_layer *layer, const sl_optimizer *optimizer) {
	int64_t all;
	if (!layer)
		return sli_fail(context, SL_ERR_NULL, "layer is null");
	SL_TRY(sli_layer_in_memory(context, layer, "an edit of its pattern"));
	if (optimizer && optimizer->sharded)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "the optimizer's moments are spread over ranks: none has all");
	if (!sli_mul(layer->in_features, layer->out_features, &all))
		return sli_fail(context, SL_ERR_OVERFLOW, "layer \"%s\" has more than 2^63 cells", layer->name);
	const sl_optimizer_entry *entry = optimizer ? sli_optimizer_find(optimizer, layer) : NULL;
	if (optimizer && !entry)
		return sli_fail(context, SL_ERR_ARGUMENT, "layer \"%s\" has not been added to this optimizer", layer->name);
	if (entry && entry->edition != layer->edition)
		return sli_fail(context, SL_ERR_STATE, "layer \"%s\" was edited without this optimizer", layer->name);
	return SL_OK;
}

sl_status sl_layer_prune(sl_context *context, sl_layer *layer, double density, sl_optimizer *optimizer) {
	if (!context)
		return SL_ERR_NULL;
	if (!(density >= 0 && density <= 1))
		return sli_fail(context, SL_ERR_ARGUMENT, "density is %g; it must be in [0, 1]", density);
	SL_TRY(sli_check_edit(context, layer, optimizer));
	int64_t all = layer->in_features * layer->out_features;
	int64_t have = layer->dense ? all : sli_pattern_arrays(layer->weights->pattern).nnz;
	int64_t keep = density == 1 ? all : (int64_t)llround(density * (double)all);
	if (keep > have)
		return sli_fail(context, SL_ERR_ARGUMENT, "density %g means %lld weights; layer \"%s\" has %lld", density,
						(long long)keep, layer->name, (long long)have);
	return sli_layer_prune(context, layer, keep, optimizer);
}

static sl_status check_gradient(sl_context *context, const sl_layer *layer, const sl_regrow_options *o, sl_dense *dy) {
	if (!o->dY)
		return sli_fail(context, SL_ERR_NULL, "dY is null: growth by gradient needs it with `saved`");
	if (o->saved->layer != layer)
		return sli_fail(context, SL_ERR_STATE, "saved holds no forward of layer \"%s\"", layer->name);
	if (o->saved->edition != layer->edition)
		return sli_fail(context, SL_ERR_STATE, "layer \"%s\" was edited since the forward that saved holds",
						layer->name);
	SL_TRY(sli_check_dense(context, o->dY, "dY"));
	if (o->dY->cols != layer->out_features || o->dY->rows != o->saved->x.cols)
		return sli_fail(context, SL_ERR_SHAPE, "dY is %lld x %lld; the forward's output was %lld x %lld",
						(long long)o->dY->rows, (long long)o->dY->cols, (long long)o->saved->x.cols,
						(long long)layer->out_features);
	if (o->dY->dtype != layer->dtype)
		return sli_fail(context, SL_ERR_DTYPE, "dY is %s; layer \"%s\" is %s", sl_dtype_name(o->dY->dtype), layer->name,
						sl_dtype_name(layer->dtype));
	if (o->dY->order == SL_COL_PANELS)
		return sli_fail(context, SL_ERR_LAYOUT, "dY is in column panels; [batch, features] panels are SL_ROW_PANELS");
	*dy = sl_dense_transposed(*o->dY);
	return SL_OK;
}

sl_status sl_layer_regrow(sl_context *context, sl_layer *layer, const sl_regrow_options *options,
						  sl_optimizer *optimizer, int64_t *moved) {
	sl_regrow_options o = {SL_REGROW_DEFAULTS};
	sl_dense dy = {0};
	if (!context)
		return SL_ERR_NULL;
	if (options)
		SL_TRY(sli_take_struct(context, &o, sizeof o, options, "options"));
	if (!(o.drop >= 0 && o.drop <= 1))
		return sli_fail(context, SL_ERR_ARGUMENT, "drop is %g; it must be in (0, 1]", o.drop);
	if (!(o.spread == 0 || o.spread >= 1))
		return sli_fail(context, SL_ERR_ARGUMENT, "spread is %g; it must be at least 1", o.spread);
	if (o.m < 0)
		return sli_fail(context, SL_ERR_ARGUMENT, "m is %d; it must be at least 1, or 0", o.m);
	SL_TRY(sli_check_edit(context, layer, optimizer));
	if (layer->dense)
		return sli_fail(context, SL_ERR_STATE, "layer \"%s\" is dense: there is nothing to grow", layer->name);
	if (layer->sparse_inputs && o.saved && o.m)
		return sli_fail(context, SL_ERR_UNSUPPORTED,
						"layer \"%s\" takes sparse inputs: its groups of features that the batch does not have cannot "
						"grow by gradients; give no `saved` or no m",
						layer->name);
	if (o.saved)
		SL_TRY(check_gradient(context, layer, &o, &dy));
	int64_t nnz = sli_pattern_arrays(layer->weights->pattern).nnz;
	int64_t missing = layer->in_features * layer->out_features - nnz;
	int64_t count = (int64_t)llround((o.drop != 0 ? o.drop : 0.3) * (double)nnz);
	count = count < missing ? count : missing;
	sl_regrowth growth = {o.saved, &dy, o.spread != 0 ? o.spread : 1, o.stream, o.m};
	if (count)
		SL_TRY(sli_layer_regrow(context, layer, &count, optimizer, &growth));
	if (moved)
		*moved = count;
	return SL_OK;
}
