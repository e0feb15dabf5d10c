/* SPDX-License-Identifier: Apache-2.0 */
#include "layers/divided.h"

#include <sparselayer/divided.h>

#include "api/checks.h"
#include "core/checked.h"
#include "train/parallel.h"

static sl_status check_place(sl_context *context, const sl_model *model, const sl_comm *comm) {
	if (sl_context_device(context) != SL_DEVICE_CPU)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "divided layers run on the cpu so far");
	if (model->divided && model->divided->comm != comm)
		return sli_fail(context, SL_ERR_ARGUMENT, "comm is not the communicator of the model's other divided layers");
	if (model->sparsity)
		return sli_fail(context, SL_ERR_STATE, "the model has a schedule of patterns: add its layers before that");
	return SL_OK;
}

static sl_status check_own(sl_context *context, const sl_model *model, const sl_comm *comm, sl_layer *const *blocks,
						   int count) {
	SL_TRY(check_place(context, model, comm));
	if (count < 1)
		return sli_fail(context, SL_ERR_ARGUMENT, "count is %d; each rank has a block, which may have no rows", count);
	for (int i = 0; i < count; i++) {
		if (!blocks[i])
			return sli_fail(context, SL_ERR_NULL, "blocks[%d] is null", i);
		if (blocks[i]->sparse_inputs)
			return sli_fail(context, SL_ERR_UNSUPPORTED, "blocks[%d] takes sparse inputs: such layers are not divided",
							i);
		SL_TRY(sli_model_check_layer(context, model, blocks[i]));
		const sl_layer *a = blocks[0], *b = blocks[i];
		if (a->in_features != b->in_features || a->dtype != b->dtype || a->has_bias != b->has_bias ||
			a->activation != b->activation || a->activation_parameter != b->activation_parameter)
			return sli_fail(context, SL_ERR_ARGUMENT,
							"blocks[%d] has another shape, dtype, bias or activation than the first", i);
	}
	return SL_OK;
}

/* Checked; all ranks are here. */
static sl_status add(sl_context *context, sl_model *model, sl_comm *comm, sl_layer *const *blocks, int count) {
	sl_status status = sli_model_room_for(context, model, count);
	if (status == SL_OK)
		status = sli_divided_begin(context, model, comm);
	SL_TRY(sli_comm_settle(context, comm, status));
	sli_model_forget(model);
	int first = model->count;
	for (int i = 0; i < count; i++)
		model->layers[model->count++] = blocks[i];
	status = sli_divided_add(context, model, first, true);
	if (status != SL_OK)
		model->count = first;
	return status;
}

static sl_status check_nulls(sl_context *context, const sl_model *model, const sl_comm *comm, const void *what,
							 const char *name) {
	if (!context)
		return SL_ERR_NULL;
	if (!model || !comm || !what)
		return sli_fail(context, SL_ERR_NULL, "%s is null", !model ? "model" : !comm ? "comm" : name);
	return SL_OK;
}

sl_status sl_model_add_blocks(sl_context *context, sl_model *model, sl_comm *comm, sl_layer *const *blocks, int count) {
	SL_TRY(check_nulls(context, model, comm, blocks, "blocks"));
	SL_TRY(sli_comm_settle(context, comm, check_own(context, model, comm, blocks, count)));
	return add(context, model, comm, blocks, count);
}

/* This rank's blocks on the way to the model. */
typedef struct making {
	sl_context *context;
	sl_comm *comm;
	sl_linear_options options; /* of the whole layer */
	int64_t blocks, first, count;
	int64_t *starts; /* rows before each block */
	sl_layer **layers;
	int64_t *fans; /* connections of each input, in all blocks; NULL: not needed */
} making;

static const sl_pattern *pattern_of(const sl_linear_options *o) {
	return o->weights ? o->weights->pattern : o->pattern;
}

/* Rows [begin, end) of a pattern, whose entries begin with *entry. */
static sl_status slice(sl_context *context, const sl_pattern *whole, int64_t begin, int64_t end, sl_pattern **pattern,
					   int64_t *entry) {
	sl_pattern_arrays a = sli_pattern_arrays(whole);
	int64_t *offsets, rows = end - begin;
	size_t bytes = (size_t)(rows + 1) * sizeof *offsets;
	*entry = sli_index(a.row_offsets, a.offset_dtype, begin);
	SL_TRY(sli_allocate(context, bytes, "rows of a pattern", (void **)&offsets));
	for (int64_t r = 0; r <= rows; r++)
		offsets[r] = sli_index(a.row_offsets, a.offset_dtype, begin + r) - *entry;
	sl_status status = sl_pattern_create(pattern, context, rows, a.cols, offsets[rows], offsets, SL_I64,
										 a.col_indices + *entry, SL_I32);
	sli_heap_free(sli_heap(context), offsets, bytes);
	return status;
}

static sl_status make_block(const making *m, int64_t i) {
	sl_context *context = m->context;
	sl_linear_options o = m->options;
	int64_t block = m->first + i, begin = m->starts[block], end = m->starts[block + 1], entry = 0;
	sl_pattern *pattern = NULL;
	o.out_features = end - begin;
	o.weights = NULL;
	o.pattern = NULL;
	o.init = SL_INIT_ZERO; /* drawn when the fans are known */
	o.stream ^= (uint64_t)(block + 1) << 36;
	if (pattern_of(&m->options))
		SL_TRY(slice(context, pattern_of(&m->options), begin, end, &pattern, &entry));
	o.pattern = pattern;
	sl_status status = sl_linear_create(&m->layers[i], context, &o);
	sl_pattern_release(pattern);
	if (status != SL_OK || !m->options.weights)
		return status;
	const sl_csr *from = m->options.weights;
	sl_csr part = {.pattern = m->layers[i]->weights->pattern,
				   .dtype = from->dtype,
				   .values = (char *)from->values + (size_t)entry * sl_dtype_size(from->dtype)};
	sl_csr *converted = NULL;
	part.heap = from->heap;
	part.device = from->device;
	SL_TRY(sl_csr_convert(&converted, context, &part, m->layers[i]->dtype));
	sl_csr_destroy(m->layers[i]->weights);
	m->layers[i]->weights = converted;
	return SL_OK;
}

static void count_fans(const making *m) {
	for (int64_t i = 0; i < m->count; i++) {
		const sl_layer *layer = m->layers[i];
		if (layer->dense) {
			for (int64_t c = 0; c < layer->in_features; c++)
				m->fans[c] += layer->out_features;
			continue;
		}
		sl_pattern_arrays a = sli_pattern_arrays(layer->weights->pattern);
		for (int64_t k = 0; k < a.nnz; k++)
			m->fans[a.col_indices[k]]++;
	}
}

static void init_blocks(const making *m) {
	for (int64_t i = 0; i < m->count; i++) {
		sl_layer *layer = m->layers[i];
		sl_linear_options o = m->options;
		o.out_features = layer->out_features;
		o.dtype = layer->dtype;
		o.stream ^= (uint64_t)(m->first + i + 1) << 36;
		sli_layer_init_rows(m->context, &o, layer->dense ? NULL : layer->weights->pattern, m->fans,
							layer->dense ? layer->dense_weights.data : layer->weights->values);
	}
}

static sl_status resolve(sl_context *context, const sl_model *model, const sl_linear_options *given, making *m) {
	SL_TRY(sli_take_struct(context, &m->options, sizeof m->options, given, "options"));
	const sl_linear_options *o = &m->options;
	SL_TRY(check_place(context, model, m->comm));
	if (o->sparse_inputs)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "layers of sparse inputs are not divided");
	int size = m->comm->info.size;
	if (!m->blocks)
		m->blocks = sli_deterministic(context) && size <= 8 ? 8 : size;
	if (m->blocks < size || m->blocks > 1 << 20)
		return sli_fail(context, SL_ERR_ARGUMENT, "blocks is %lld; it must be in [%d, 2^20]: each of %d ranks has one",
						(long long)m->blocks, size, size);
	if (o->in_features < 0 || o->out_features < 0 || o->in_features > INT32_MAX)
		return sli_fail(context, SL_ERR_ARGUMENT, "in_features is %lld and out_features %lld; none may be negative",
						(long long)o->in_features, (long long)o->out_features);
	if ((int)o->init < 0 || o->init > SL_INIT_ZERO)
		return sli_fail(context, SL_ERR_ARGUMENT, "init %d is unknown", (int)o->init);
	const sl_pattern *pattern = pattern_of(o);
	sl_pattern_arrays a =
		pattern ? sli_pattern_arrays(pattern) : (sl_pattern_arrays){.rows = o->out_features, .cols = o->in_features};
	if (pattern)
		SL_TRY(sli_pattern_make_host(context, pattern));
	if (a.rows != o->out_features || a.cols != o->in_features)
		return sli_fail(context, SL_ERR_SHAPE, "%s is %lldx%lld; the layer needs %lldx%lld",
						o->weights ? "weights" : "pattern", (long long)a.rows, (long long)a.cols,
						(long long)o->out_features, (long long)o->in_features);
	sl_comm_share(m->blocks, m->comm->info.rank, size, &m->first, &m->count);
	SL_TRY(sli_allocate(context, (size_t)(m->blocks + 1) * sizeof *m->starts, "rows of blocks", (void **)&m->starts));
	SL_TRY(sli_allocate_zeroed(context, (size_t)m->count * sizeof *m->layers, "blocks", (void **)&m->layers));
	if (!o->weights && o->init != SL_INIT_ZERO)
		SL_TRY(sli_allocate_zeroed(context, (size_t)(o->in_features + 1) * sizeof *m->fans, "counts of connections",
								   (void **)&m->fans));
	sli_divide_rows(a.row_offsets, a.offset_dtype, o->out_features, m->blocks, m->starts);
	return SL_OK;
}

static sl_status make_blocks(sl_context *context, const sl_model *model, const sl_linear_options *options, making *m) {
	SL_TRY(resolve(context, model, options, m));
	for (int64_t i = 0; i < m->count; i++)
		SL_TRY(make_block(m, i));
	if (m->fans)
		count_fans(m);
	return check_own(context, model, m->comm, m->layers, (int)m->count);
}

sl_status sl_model_add_divided(sl_context *context, sl_model *model, sl_comm *comm, const sl_linear_options *options,
							   int64_t blocks) {
	making m = {.context = context, .comm = comm, .blocks = blocks};
	SL_TRY(check_nulls(context, model, comm, options, "options"));
	sl_status status = sli_comm_settle(context, comm, make_blocks(context, model, options, &m));
	if (status == SL_OK)
		status =
			sli_comm_agree(context, comm, "the sizes of a divided layer",
						   ((uint64_t)m.options.out_features << 32) ^ (uint64_t)m.options.in_features ^
							   (uint64_t)m.blocks << 48 ^ (uint64_t)m.options.init << 60 ^ (uint64_t)m.options.dense);
	if (status == SL_OK && m.fans) {
		status = sli_comm_sum(context, comm, m.fans, m.options.in_features, SL_I64, NULL);
		if (status == SL_OK)
			init_blocks(&m);
	}
	if (status == SL_OK)
		status = add(context, model, comm, m.layers, (int)m.count);
	sl_heap *heap = sli_heap(context);
	for (int64_t i = 0; m.layers && i < m.count && status != SL_OK; i++)
		sl_layer_destroy(m.layers[i]);
	sli_heap_free(heap, m.fans, m.fans ? (size_t)(m.options.in_features + 1) * sizeof *m.fans : 0);
	sli_heap_free(heap, m.layers, m.layers ? (size_t)m.count * sizeof *m.layers : 0);
	sli_heap_free(heap, m.starts, m.starts ? (size_t)(m.blocks + 1) * sizeof *m.starts : 0);
	return status;
}

sl_status sl_model_get_block(sl_context *context, const sl_model *model, int index, sl_block_info *info) {
	SL_TRY(sli_check_model(context, model));
	if (!info)
		return sli_fail(context, SL_ERR_NULL, "info is null");
	if (index < 0 || index >= model->count)
		return sli_fail(context, SL_ERR_ARGUMENT, "index is %d; the model has %d layers here", index, model->count);
	sl_block_info own = {.layer = index, .layers = model->count, .out_features = model->layers[index]->out_features};
	const struct sl_divided *d = model->divided;
	for (int i = 0; d && i < d->count; i++) {
		const sl_stage *s = &d->stages[i];
		if (index < s->first || index >= s->first + s->count)
			continue;
		own.layer = i;
		own.layers = d->count;
		own.out_features = s->out_features;
		if (s->divided) {
			own.block = s->tree.first + index - s->first;
			own.blocks = s->tree.leaves;
			own.first_row = s->rows[own.block];
		}
	}
	return sli_give_struct(context, info, &own, sizeof own, "info");
}

sl_status sl_model_verify_divided(sl_context *context, const sl_model *model, const sl_optimizer *optimizer) {
	SL_TRY(sli_check_model(context, model));
	if (!model->divided)
		return sli_fail(context, SL_ERR_STATE, "the model is not divided");
	return sli_divided_verify(context, model, optimizer);
}
