/* SPDX-License-Identifier: Apache-2.0 */
/* Edits of a pattern by the library's own, on a layer that is made for the edit from the caller's values. */
#include "inside.h"

/* For each entry of `to`, its number in `from`, or -1. Columns increase in both. */
static void map_entries(const sl_pattern_arrays *from, const sl_pattern_arrays *to, int64_t *map) {
	for (int64_t row = 0; row < to->rows; row++) {
		int64_t ends[4];
		for (int i = 0; i < 4; i++) {
			const sl_pattern_arrays *a = i < 2 ? from : to;
			int64_t at = row + i % 2;
			ends[i] = a->offset_dtype == SL_I64 ? ((const int64_t *)a->row_offsets)[at]
												: ((const int32_t *)a->row_offsets)[at];
		}
		for (int64_t k = ends[2], old = ends[0]; k < ends[3]; k++) {
			while (old < ends[1] && from->col_indices[old] < to->col_indices[k])
				old++;
			map[k] = old < ends[1] && from->col_indices[old] == to->col_indices[k] ? old : -1;
		}
	}
}

sl_status slb_map(slb_runtime *runtime, const sl_pattern *from, const sl_pattern *to, int64_t *map) {
	sl_pattern_arrays a, b;
	slb_lock(runtime);
	sl_status status = sl_pattern_get(runtime->context, from, &a);
	if (status == SL_OK)
		status = sl_pattern_get(runtime->context, to, &b);
	if (status == SL_OK)
		map_entries(&a, &b, map);
	else
		slb_fail(status, "%s", sl_context_message(runtime->context));
	slb_unlock(runtime);
	return status;
}

/* Grow where |dZ^T X| is largest: the layer has no activation, so dZ is the gradient of its output. */
static sl_status regrow_by_gradient(sl_context *context, sl_layer *layer, const slb_edit *edit,
									sl_regrow_options *options) {
	sl_dense y = *edit->dz;
	void *room = malloc((size_t)(y.rows * y.cols) * sl_dtype_size(y.dtype) + 1);
	if (!room)
		return SL_ERR_MEMORY;
	y.data = room;
	sl_status status = sl_saved_create(&options->saved, context, layer, edit->x->rows);
	if (status == SL_OK)
		status = sl_layer_forward(context, layer, edit->x, &y, options->saved);
	options->dY = edit->dz;
	if (status == SL_OK)
		status = sl_layer_regrow(context, layer, options, NULL, NULL);
	sl_saved_destroy(options->saved);
	free(room);
	return status;
}

static sl_status run(sl_context *context, sl_layer *layer, const slb_edit *edit, int64_t cells, int64_t nnz) {
	if (edit->keep >= 0)
		return sl_layer_prune(context, layer, cells ? (double)edit->keep / (double)cells : 0, NULL);
	if (!edit->exchange)
		return SL_OK;
	sl_regrow_options options = {SL_REGROW_DEFAULTS, .drop = (double)edit->exchange / (double)nnz,
								 .spread = edit->spread, .stream = edit->stream};
	return edit->x ? regrow_by_gradient(context, layer, edit, &options)
				   : sl_layer_regrow(context, layer, &options, NULL, NULL);
}

static sl_status edited(sl_context *context, sl_pattern *pattern, const slb_edit *edit, sl_pattern **result) {
	sl_pattern_arrays a;
	sl_csr *weights = NULL;
	sl_layer *layer = NULL;
	SL_TRY(sl_pattern_get(context, pattern, &a));
	SL_TRY(sl_csr_wrap(&weights, context, pattern, (void *)edit->values, edit->dtype, NULL, NULL));
	sl_status status =
		sl_linear_create(&layer, context,
						 &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = a.cols, .out_features = a.rows,
											  .weights = weights, .dtype = edit->dtype, .name = "pattern"});
	if (status == SL_OK)
		status = run(context, layer, edit, a.rows * a.cols, a.nnz);
	if (status == SL_OK)
		*result = sl_pattern_retain(sl_csr_pattern(sl_layer_weights(layer)));
	sl_layer_destroy(layer);
	sl_csr_destroy(weights);
	return status;
}

sl_status slb_pattern_edit(sl_pattern **result, slb_runtime *runtime, sl_pattern *pattern, const slb_edit *edit) {
	*result = NULL;
	slb_lock(runtime);
	sl_status status = edited(runtime->context, pattern, edit, result);
	if (status != SL_OK)
		slb_fail(status, "%s", sl_context_message(runtime->context));
	slb_unlock(runtime);
	return status;
}
