/* SPDX-License-Identifier: Apache-2.0 */
/* Initial weights: Glorot and Bengio (2010), He et al. (2015), with the fans that each neuron and
 * input really have, so that a sparse layer starts with the variance a dense one would. */
#include "core/checked.h"
#include "core/half.h"
#include "layers/layer.h"

/* Draws of weights and of patterns do not share a sequence. */
#define INIT_STREAM UINT64_C(0x1000000000000000)

static double draw(sl_rng *rng, const sl_linear_options *options, int64_t fan_in, int64_t fan_out) {
	double in = (double)fan_in, both = (double)(fan_in + fan_out);
	switch (options->init) {
	case SL_INIT_GLOROT_UNIFORM:
		return (2 * sli_rng_uniform(rng) - 1) * __builtin_sqrt(6 / both);
	case SL_INIT_GLOROT_NORMAL:
		return sli_rng_normal(rng) * __builtin_sqrt(2 / both);
	case SL_INIT_HE_UNIFORM:
		return (2 * sli_rng_uniform(rng) - 1) * __builtin_sqrt(6 / in);
	case SL_INIT_HE_NORMAL:
		return sli_rng_normal(rng) * __builtin_sqrt(2 / in);
	case SL_INIT_UNIFORM:
		return (2 * sli_rng_uniform(rng) - 1) * (options->init_scale == 0 ? 0.05 : options->init_scale);
	default:
		return 0;
	}
}

static void init_dense(const sl_linear_options *options, sl_rng *rng, void *values) {
	int64_t count = options->in_features * options->out_features;
	for (int64_t i = 0; i < count; i++)
		sli_store(values, options->dtype, i, draw(rng, options, options->in_features, options->out_features));
}

/* Rows of a larger W: `fans` counts each input's connections in all of it. */
static void init_rows(const sl_linear_options *options, const sl_pattern *pattern, const int64_t *fans, sl_rng *rng,
					  void *values) {
	sl_pattern_arrays a = sli_pattern_arrays(pattern);
	for (int64_t row = 0; row < a.rows; row++) {
		int64_t begin = sli_index(a.row_offsets, a.offset_dtype, row);
		int64_t end = sli_index(a.row_offsets, a.offset_dtype, row + 1);
		for (int64_t i = begin; i < end; i++)
			sli_store(values, options->dtype, i, draw(rng, options, end - begin, fans[a.col_indices[i]]));
	}
}

void sli_layer_init_rows(sl_context *context, const sl_linear_options *options, const sl_pattern *pattern,
						 const int64_t *fans, void *values) {
	sl_rng rng = sli_rng(sli_seed(context), options->stream ^ INIT_STREAM);
	int64_t count = options->in_features * options->out_features;
	if (pattern)
		init_rows(options, pattern, fans, &rng, values);
	for (int64_t i = 0; !pattern && i < count; i++)
		sli_store(values, options->dtype, i, draw(&rng, options, options->in_features, fans[i % options->in_features]));
}

sl_init_run sli_init_run(sl_context *context, const sl_linear_options *options, const int32_t *others) {
	return (sl_init_run){sli_rng(sli_seed(context), options->stream ^ INIT_STREAM), options, others};
}

void sli_init_row(sl_init_run *run, const int32_t *columns, int64_t count, void *values) {
	const sl_linear_options *o = run->options;
	for (int64_t i = 0; i < count; i++)
		sli_store(values, o->dtype, i,
				  o->sparse_inputs ? draw(&run->rng, o, run->others[columns[i]], count)
								   : draw(&run->rng, o, count, run->others[columns[i]]));
}

sl_status sli_layer_init(sl_context *context, const sl_linear_options *options, sl_pattern *pattern, void *values) {
	sl_rng rng = sli_rng(sli_seed(context), options->stream ^ INIT_STREAM);
	if (!pattern) {
		init_dense(options, &rng, values);
		return SL_OK;
	}
	sl_pattern_arrays arrays = sli_pattern_arrays(pattern);
	size_t bytes;
	void *memory;
	if (!sli_bytes(arrays.cols, sizeof(int32_t), &bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld columns", (long long)arrays.cols);
	SL_TRY(sli_allocate_zeroed(context, bytes, "counts of connections", &memory));
	int32_t *others = memory; /* fan_out; where W is kept by feature, fan_in */
	for (int64_t i = 0; i < arrays.nnz; i++)
		others[arrays.col_indices[i]]++;
	sl_init_run run = {rng, options, others};
	for (int64_t row = 0; row < arrays.rows; row++) {
		int64_t begin = sli_index(arrays.row_offsets, arrays.offset_dtype, row);
		int64_t end = sli_index(arrays.row_offsets, arrays.offset_dtype, row + 1);
		sli_init_row(&run, arrays.col_indices + begin, end - begin,
					 (char *)values + (size_t)begin * sl_dtype_size(options->dtype));
	}
	sli_heap_free(sli_heap(context), memory, bytes);
	return SL_OK;
}
