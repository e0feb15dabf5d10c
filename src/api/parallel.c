/* SPDX-License-Identifier: Apache-2.0 */
#include "train/parallel.h"

#include "api/checks.h"
#include "layers/divided.h"

static sl_status need(sl_context *context, const sl_parallel *parallel) {
	if (!context)
		return SL_ERR_NULL;
	return parallel ? SL_OK : sli_fail(context, SL_ERR_NULL, "parallel is null");
}

static sl_status check_sparse(sl_context *context, const sl_model *model, const sl_parallel_options *o) {
	if (!sli_model_sparse(model) || !o->shard_state)
		return SL_OK;
	return sli_fail(context, SL_ERR_UNSUPPORTED,
					"shard_state: layer \"%s\" takes sparse inputs, whose moments are updated row by row on every rank",
					model->layers[0]->name);
}

static sl_status check_divided(sl_context *context, const sl_model *model, const sl_comm *comm) {
	if (!model->divided)
		return SL_OK;
	if (model->divided->comm == comm)
		return sli_fail(context, SL_ERR_ARGUMENT,
						"comm's ranks hold the model together: the ranks that hold the same blocks are wanted, see "
						"sl_comm_split()");
	return SL_OK;
}

static sl_status check_model(sl_context *context, const sl_model *model, const sl_optimizer *optimizer) {
	if (!model->count)
		return sli_fail(context, SL_ERR_STATE, "the model has no layers");
	if (sl_context_device(context) != SL_DEVICE_CPU)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "training runs on the CPU so far");
	for (int i = 0; i < model->count; i++)
		SL_TRY(sli_layer_in_memory(context, model->layers[i], "training by ranks"));
	for (int i = 0; i < model->count; i++)
		if (!sli_optimizer_find(optimizer, model->layers[i]))
			return sli_fail(context, SL_ERR_ARGUMENT,
							"layer \"%s\" has not been added to the optimizer: see sl_model_add_to_optimizer()",
							model->layers[i]->name);
	if (optimizer->count != model->count)
		return sli_fail(context, SL_ERR_ARGUMENT, "the optimizer has %d layers, the model %d", optimizer->count,
						model->count);
	return SL_OK;
}

sl_status sl_parallel_create(sl_parallel **parallel, sl_context *context, sl_comm *comm, sl_model *model,
							 sl_optimizer *optimizer, const sl_parallel_options *options) {
	sl_parallel_options o = {SL_PARALLEL_DEFAULTS};
	if (parallel)
		*parallel = NULL;
	if (!context)
		return SL_ERR_NULL;
	if (!parallel || !comm || !model || !optimizer)
		return sli_fail(context, SL_ERR_NULL, "%s is null",
						!parallel ? "parallel"
						: !comm   ? "comm"
						: !model  ? "model"
								  : "optimizer");
	/* What a rank finds wrong by itself it tells the others: they are here as well. */
	sl_status status = options ? sli_take_struct(context, &o, sizeof o, options, "options") : SL_OK;
	if (status == SL_OK)
		status = sli_parallel_resolve(context, comm, &o);
	if (status == SL_OK)
		status = check_model(context, model, optimizer);
	if (status == SL_OK)
		status = check_divided(context, model, comm);
	if (status == SL_OK)
		status = check_sparse(context, model, &o);
	SL_TRY(sli_comm_settle(context, comm, status));
	return sli_parallel_open(parallel, context, comm, model, optimizer, &o);
}

void sl_parallel_share(const sl_parallel *parallel, int64_t total, int64_t *first, int64_t *count) {
	int64_t last_first, last_count;
	const sl_tree *t = &parallel->tree;
	sli_parallel_rows(parallel, t->first, total, first, count);
	sli_parallel_rows(parallel, t->first + t->count - 1, total, &last_first, &last_count);
	*count = last_first + last_count - *first;
}

/* This rank's rows of a global batch. */
typedef struct given {
	sl_context *context;
	sl_model *model;
	sl_loss loss;
	const sl_dense *inputs; /* or: */
	const sl_sparse *sparse;
	const sl_targets *targets;
	int64_t first;    /* of the global batch */
	sl_status status; /* of the arguments */
} given;

static sl_dense rows_of(const sl_dense *m, int64_t first, int64_t count) {
	sl_dense rows = *m;
	rows.rows = count;
	rows.data = (char *)m->data + (size_t)(first * (m->order == SL_ROW_MAJOR ? m->ld : 1)) * sl_dtype_size(m->dtype);
	return rows;
}

static sl_status run_part(void *self, int64_t first, int64_t count, sl_loss_sums *sums) {
	const given *g = self;
	int64_t at = first - g->first;
	SL_TRY(g->status);
	SL_TRY(sli_model_prepare(g->context, g->model, count, SL_MODE_TRAINING));
	sl_dense dense;
	sl_targets targets = {.labels = g->targets->labels ? g->targets->labels + at : NULL};
	sl_sparse sparse;
	if (g->targets->dense) {
		dense = rows_of(g->targets->dense, at, count);
		targets.dense = &dense;
	}
	if (g->targets->sparse) {
		sparse = sl_sparse_slice(*g->targets->sparse, at, count);
		targets.sparse = &sparse;
	}
	if (g->sparse) {
		g->model->inputs = sl_sparse_slice(*g->sparse, at, count);
	} else {
		sl_dense rows = rows_of(g->inputs, at, count), from = sl_dense_transposed(rows);
		sl_dense to = sli_model_activation(g->context, g->model, 0, count);
		SL_TRY(sli_convert(g->context, &from, &to));
	}
	SL_TRY(sli_model_run(g->context, g->model, count, SL_MODE_TRAINING));
	return sli_model_loss(g->context, g->model, g->loss, count, &targets, true, sums);
}

static sl_status check_batch(sl_context *context, const sl_parallel *p, sl_loss loss, int64_t count,
							 const sl_dense *inputs, const sl_sparse *sparse, const sl_targets *targets,
							 sl_write write) {
	if ((!inputs && !sparse) || !targets)
		return sli_fail(context, SL_ERR_NULL, "%s is null", targets ? "inputs" : "targets");
	if (targets->ignore_zeros)
		return sli_fail(context, SL_ERR_UNSUPPORTED,
						"ignore_zeros: how many entries count is known to each rank alone");
	if (write == SL_ACCUMULATE && p->options.shard_state)
		return sli_fail(context, SL_ERR_UNSUPPORTED, "gradients cannot be accumulated where moments are spread");
	int64_t rows = sparse ? sparse->rows : inputs->rows;
	if (rows != count)
		return sli_fail(context, SL_ERR_SHAPE, "inputs has %lld rows; this rank's share of the batch is %lld",
						(long long)rows, (long long)count);
	if (sparse && sparse->format != SL_SPARSE_CSR)
		return sli_fail(context, SL_ERR_LAYOUT, "inputs must be CSR, so that parts of the batch can be cut from them");
	if (!sparse && inputs->order != SL_ROW_MAJOR && inputs->order != SL_COL_MAJOR)
		return sli_fail(context, SL_ERR_LAYOUT, "inputs must be row-major or column-major");
	return sli_check_train_batch(context, p->model, loss, inputs, sparse, targets);
}

static sl_status train_batch(sl_context *context, sl_parallel *parallel, sl_loss loss, int64_t total,
							 const sl_dense *inputs, const sl_sparse *sparse, const sl_targets *targets, sl_write write,
							 sl_loss_result *result) {
	int64_t first, count;
	bool stop = false;
	sl_loss_sums sums = {.bad_row = -1};
	SL_TRY(need(context, parallel));
	if (!result)
		return sli_fail(context, SL_ERR_NULL, "result is null");
	if (total < 1)
		return sli_fail(context, SL_ERR_ARGUMENT, "total is %lld; it must be positive", (long long)total);
	sl_parallel_share(parallel, total, &first, &count);
	given g = {
		context, parallel->model, loss,  inputs,
		sparse,  targets,         first, check_batch(context, parallel, loss, count, inputs, sparse, targets, write)};
	SL_TRY(sli_parallel_batch(context, parallel, total, run_part, &g, write, &sums, &stop));
	*result = (sl_loss_result){sums.loss / (double)sums.rows, sums.correct, sums.counted};
	return SL_OK;
}

sl_status sl_parallel_train_batch(sl_context *context, sl_parallel *parallel, sl_loss loss, int64_t total,
								  const sl_dense *inputs, const sl_targets *targets, sl_write write,
								  sl_loss_result *result) {
	return train_batch(context, parallel, loss, total, inputs, NULL, targets, write, result);
}

sl_status sl_parallel_train_batch_sparse(sl_context *context, sl_parallel *parallel, sl_loss loss, int64_t total,
										 const sl_sparse *inputs, const sl_targets *targets, sl_write write,
										 sl_loss_result *result) {
	return train_batch(context, parallel, loss, total, NULL, inputs, targets, write, result);
}

sl_status sl_parallel_step(sl_context *context, sl_parallel *parallel, sl_sparsity_edit *edit) {
	SL_TRY(need(context, parallel));
	return sli_parallel_step(context, parallel, edit);
}

sl_status sl_parallel_verify(sl_context *context, sl_parallel *parallel) {
	SL_TRY(need(context, parallel));
	return sli_parallel_verify(context, parallel, true);
}

sl_status sl_parallel_save(sl_context *context, sl_parallel *parallel, const sl_checkpoint *checkpoint,
						   const char *path) {
	sl_status status = SL_OK;
	SL_TRY(need(context, parallel));
	bool sharded = parallel->options.shard_state;
	if (sharded)
		SL_TRY(sli_shard_gather(context, parallel));
	if (parallel->tree.rank == 0)
		status = parallel->model->divided
					 ? sl_model_save_divided(context, parallel->model, parallel->optimizer, checkpoint, path)
					 : sl_model_save(context, parallel->model, parallel->optimizer, checkpoint, path);
	status = sli_comm_settle(context, parallel->comm, status);
	if (sharded && status != SL_ERR_COMM) {
		sl_status again = sli_comm_settle(context, parallel->comm, sli_shard_take(context, parallel));
		status = status == SL_OK ? again : status;
	}
	return status;
}

sl_status sl_parallel_get_info(sl_context *context, const sl_parallel *parallel, sl_parallel_info *info) {
	SL_TRY(need(context, parallel));
	const sl_parallel *p = parallel;
	sl_parallel_info full = {.struct_size = sizeof full,
							 .elements = p->elements,
							 .buckets = p->bucket_count,
							 .shards = p->tree.leaves,
							 .bytes = sizeof *p + (size_t)p->depth * p->node_bytes + p->room_bytes + p->board_bytes,
							 .state_bytes = p->state_bytes * (size_t)sli_optimizer_states(p->optimizer->options.kind),
							 .rows = p->rows ? p->rows->all.count : 0,
							 .row_elements = p->rows ? p->rows->elements : 0,
							 .communication = p->ended - p->began,
							 .waited = p->waited};
	return sli_give_struct(context, info, &full, sizeof full, "info");
}
