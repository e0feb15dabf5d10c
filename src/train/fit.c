/* SPDX-License-Identifier: Apache-2.0 */
/* fit, evaluate and predict. Batches are gathered straight into the model's panels. */
#include "train/fit.h"

#include <math.h>

#include <sparselayer/share.h>

#include "core/checked.h"
#include "core/profile.h"
#include "layers/divided.h"
#include "ops/ops.h"
#include "train/early.h"
#include "train/feed.h"
#include "train/order.h"
#include "train/parallel.h"
#include "train/sparsity.h"

enum { GATHER_COLUMNS = 16, GATHER_FEATURES = 256 };

/* Sixteen samples at a time: their rows are read along, sixteen neighbours in a panel are written. */
typedef struct gather {
	const sl_dense *from; /* [samples, features] row-major */
	const int64_t *order; /* which samples; NULL: `first` and on */
	int64_t first;
	sl_dense to; /* [features, batch] panels */
} gather;

static void gather_block(void *argument, size_t index) {
	const gather *g = argument;
	int64_t blocks = sli_ceil_div(g->from->cols, GATHER_FEATURES);
	int64_t c0 = (int64_t)index / blocks * GATHER_COLUMNS, f0 = (int64_t)index % blocks * GATHER_FEATURES;
	int64_t f1 = f0 + GATHER_FEATURES < g->from->cols ? f0 + GATHER_FEATURES : g->from->cols;
	int64_t ld = g->to.ld, n = g->to.cols - c0 < GATHER_COLUMNS ? g->to.cols - c0 : GATHER_COLUMNS;
	int64_t row[GATHER_COLUMNS], place[GATHER_COLUMNS];
	for (int64_t i = 0; i < n; i++) {
		row[i] = (g->order ? g->order[c0 + i] : g->first + c0 + i) * g->from->ld;
		place[i] = ((c0 + i) / ld) * g->to.rows * ld + (c0 + i) % ld;
	}
	if (g->from->dtype == SL_F32) {
		const float *from = g->from->data;
		float *to = g->to.data;
		for (int64_t f = f0; f < f1; f++)
			for (int64_t i = 0; i < n; i++)
				to[place[i] + f * ld] = from[row[i] + f];
	} else {
		const double *from = g->from->data;
		double *to = g->to.data;
		for (int64_t f = f0; f < f1; f++)
			for (int64_t i = 0; i < n; i++)
				to[place[i] + f * ld] = from[row[i] + f];
	}
}

/* The last panel may hold what a larger batch left behind it. */
static void clear_padding(const sl_dense *m) {
	int64_t used = m->cols % m->ld;
	size_t size = sl_dtype_size(m->dtype);
	if (!used)
		return;
	char *panel = (char *)m->data + (size_t)(m->cols / m->ld * m->rows * m->ld) * size;
	for (int64_t r = 0; r < m->rows; r++)
		memset(panel + (size_t)(r * m->ld + used) * size, 0, (size_t)(m->ld - used) * size);
}

/* Into panels `to` of the host's memory. */
static void gather_inputs(sl_context *context, const sl_dense *inputs, const int64_t *order, int64_t first,
						  int64_t batch, const sl_dense *to) {
	gather g = {inputs, order, first, *to};
	int64_t tasks = sli_ceil_div(batch, GATHER_COLUMNS) * sli_ceil_div(inputs->cols, GATHER_FEATURES);
	sli_parallel(context, (size_t)tasks, gather_block, &g);
	clear_padding(&g.to);
}

/* What a pass over samples needs besides the model: one block of the context's heap. */
typedef struct pass {
	sl_context *context;
	sl_model *model;
	const sl_samples *samples;
	sl_loss loss;
	int64_t batch, count;
	int64_t most;          /* rows that go through the model at once */
	sl_parallel *parallel; /* NULL: this process alone */
	int64_t *order;        /* count, or NULL; with a share the own ones, part by part */
	const sl_share *share; /* of the samples, of which `count` are everybody's; NULL: all are here */
	int64_t *chosen;       /* with a share: rows of a batch, `most` of them */
	int32_t *labels;       /* batch, or NULL */
	char *targets;         /* batch rows, or NULL */
	int64_t *ranges;       /* where a batch's rows of sparse inputs and targets begin and end, batch each; or NULL */
	sl_feed feed;          /* open where the device has memory of its own */
	int64_t read_before, written_before; /* by streamed layers, when the epoch or pass began */
	const double *class_weights;
	sl_sparse weighted; /* with class weights: a batch's labels as targets of one entry, the weight; its own arrays */
	size_t chosen_bytes, start_bytes, weight_bytes, range_bytes, order_bytes, label_bytes, target_bytes, row_bytes;
} pass;

static void close_pass(pass *p) {
	sl_heap *heap = sli_heap(p->context);
	sli_feed_close(&p->feed);
	sli_heap_free(heap, p->order, p->order_bytes);
	sli_heap_free(heap, p->chosen, p->chosen_bytes);
	sli_heap_free(heap, p->labels, p->label_bytes);
	sli_heap_free(heap, p->targets, p->target_bytes);
	sli_heap_free(heap, p->ranges, p->range_bytes);
	sli_heap_free(heap, (void *)(uintptr_t)p->weighted.offsets, p->start_bytes);
	sli_heap_free(heap, (void *)(uintptr_t)p->weighted.values, p->weight_bytes);
}

/* Room for the targets that class weights make of labels. */
static sl_status open_weighted(pass *p) {
	const sl_layer *last = p->model->layers[p->model->count - 1];
	int64_t classes = sli_model_features(p->model, sli_model_outputs(p->model));
	int64_t *starts;
	void *values;
	p->start_bytes = (size_t)(p->batch + 1) * sizeof *starts;
	p->weight_bytes = (size_t)p->batch * sl_dtype_size(last->dtype);
	SL_TRY(sli_allocate(p->context, p->start_bytes, "a batch's class weights", (void **)&starts));
	p->weighted = (sl_sparse){.format = SL_SPARSE_CSR,
							  .cols = classes,
							  .offsets = starts,
							  .offset_dtype = SL_I64,
							  .col_indices = p->labels,
							  .index_dtype = SL_I32,
							  .dtype = last->dtype};
	for (int64_t i = 0; i <= p->batch; i++)
		starts[i] = i;
	SL_TRY(sli_allocate(p->context, p->weight_bytes, "a batch's class weights", &values));
	p->weighted.values = values;
	return SL_OK;
}

/* The batch's labels are in place. */
static sl_status weigh(pass *p, int64_t batch) {
	void *values = (void *)(uintptr_t)p->weighted.values;
	for (int64_t i = 0; i < batch; i++) {
		if (p->labels[i] < 0 || p->labels[i] >= p->weighted.cols)
			return sli_fail(p->context, SL_ERR_ARGUMENT, "a label is %d; it must be in [0, %lld)", (int)p->labels[i],
							(long long)p->weighted.cols);
		double weight = p->class_weights[p->labels[i]];
		if (p->weighted.dtype == SL_F32)
			((float *)values)[i] = (float)weight;
		else
			((double *)values)[i] = weight;
	}
	p->weighted.rows = p->weighted.nnz = batch;
	return SL_OK;
}

static size_t value_bytes(const pass *p) {
	return sl_dtype_size(p->model->layers[0]->dtype);
}

/* Room for a batch of the largest size, on its way to a device. */
static sl_status open_feed(pass *p) {
	const sl_samples *s = p->samples;
	sl_dense x = sli_model_activation(p->context, p->model, 0, p->most);
	size_t bytes = 0;
	if (sli_on_host(sli_device(p->context)))
		return SL_OK;
	if (!sli_span(&x, &bytes))
		return sli_fail(p->context, SL_ERR_OVERFLOW, "a batch of %lld does not fit in memory", (long long)p->most);
	bytes = sli_feed_bytes(bytes) + sli_feed_bytes(p->label_bytes) + sli_feed_bytes(p->target_bytes);
	if (s->sparse_targets)
		bytes += sli_feed_sparse_bytes(s->sparse_targets, p->most, value_bytes(p));
	if (p->class_weights)
		bytes += sli_feed_bytes(p->start_bytes) + sli_feed_bytes(p->label_bytes) + sli_feed_bytes(p->weight_bytes);
	return sli_feed_open(&p->feed, p->context, bytes);
}

static sl_status open_pass(pass *p, bool shuffled) {
	p->most = p->most ? p->most : p->batch;
	int64_t here = sli_sample_count(p->samples);
	p->share = p->samples->share;
	p->count = p->share ? p->share->total : here;
	p->range_bytes = (size_t)p->batch * 4 * sizeof *p->ranges;
	p->order_bytes = shuffled || p->share ? (size_t)here * sizeof *p->order : 0;
	p->chosen_bytes = p->share ? (size_t)p->most * sizeof *p->chosen : 0;
	p->label_bytes = (size_t)p->batch * sizeof *p->labels;
	sl_status status = SL_OK;
	if (shuffled || p->share)
		status = sli_allocate(p->context, p->order_bytes, "the order of samples", (void **)&p->order);
	if (status == SL_OK && p->share)
		status = sli_allocate(p->context, p->chosen_bytes, "a batch's samples", (void **)&p->chosen);
	for (int64_t i = 0; status == SL_OK && p->order && i < here; i++)
		p->order[i] = i;
	if (status == SL_OK && p->samples->labels)
		status = sli_allocate(p->context, p->label_bytes, "a batch's labels", (void **)&p->labels);
	if (status == SL_OK && p->samples->targets) {
		p->row_bytes = (size_t)p->samples->targets->cols * sl_dtype_size(p->samples->targets->dtype);
		p->target_bytes = (size_t)p->batch * p->row_bytes;
		status = sli_allocate(p->context, p->target_bytes, "a batch's targets", (void **)&p->targets);
	}
	if (status == SL_OK && (p->samples->sparse_inputs || p->samples->sparse_targets))
		status = sli_allocate(p->context, p->range_bytes, "a batch's sparse rows", (void **)&p->ranges);
	if (status == SL_OK && p->class_weights)
		status = open_weighted(p);
	if (status == SL_OK)
		status = open_feed(p);
	if (status != SL_OK)
		close_pass(p);
	return status;
}

/* Rows of a sparse matrix as below, where they lie. */
static sl_status take_sparse(const pass *p, const sl_sparse *from, const int64_t *order, int64_t first, int64_t batch,
							 int64_t *ranges, sl_sparse *rows) {
	if (order)
		return sl_sparse_select(p->context, from, order, batch, ranges, ranges + p->batch, rows);
	*rows = sl_sparse_slice(*from, first, batch);
	return SL_OK;
}

/* Inputs of samples order[0..batch), or from `first` on where order is NULL. */
static sl_status take_inputs(pass *p, const int64_t *order, int64_t first, int64_t batch) {
	const sl_samples *s = p->samples;
	if (!s->sparse_inputs) {
		sl_dense to = sli_model_activation(p->context, p->model, 0, batch);
		void *device = to.data;
		size_t bytes;
		if (p->feed.device && sli_span(&to, &bytes))
			to.data = sli_feed_room(&p->feed, bytes);
		gather_inputs(p->context, &s->inputs, order, first, batch, &to);
		return p->feed.device ? sli_feed_send(&p->feed, to.data, bytes, &device) : SL_OK;
	}
	return take_sparse(p, s->sparse_inputs, order, first, batch, p->ranges, &p->model->inputs);
}

/* The batch's targets, of the host's memory, sent to the device. */
static sl_status send_targets(pass *p, const sl_targets *targets, int64_t batch, sl_dense *dense,
							  sl_sparse_batch *sparse, sl_placed_targets *placed) {
	sl_feed *feed = &p->feed;
	void *to;
	*placed = (sl_placed_targets){.stored_only = targets->ignore_zeros};
	if (targets->labels) {
		SL_TRY(sli_feed_copy(feed, targets->labels, (size_t)batch * sizeof *targets->labels, &to));
		placed->labels = to;
	}
	if (targets->dense) {
		*dense = *targets->dense;
		SL_TRY(sli_feed_copy(feed, dense->data, (size_t)dense->rows * p->row_bytes, &dense->data));
		placed->dense = dense;
	}
	if (targets->sparse) {
		sl_sparse_batch rows;
		sli_sparse_targets(targets->sparse, &rows);
		SL_TRY(sli_feed_sparse(feed, &rows, value_bytes(p), sparse));
		placed->sparse = sparse;
	}
	return sli_feed_end(feed);
}

/* Forward and loss of samples order[0..batch), or from `first` on where order is NULL. */
static sl_status run_rows(pass *p, const int64_t *order, int64_t first, int64_t batch, bool training,
						  sl_loss_sums *sums) {
	const sl_samples *s = p->samples;
	sl_dense dense = {0};
	for (int64_t i = 0; i < batch; i++) {
		int64_t at = order ? order[i] : first + i;
		if (p->labels)
			p->labels[i] = s->labels[at];
		if (p->targets)
			memcpy(p->targets + (size_t)i * p->row_bytes,
				   (const char *)s->targets->data + (size_t)(at * s->targets->ld) * sl_dtype_size(s->targets->dtype),
				   p->row_bytes);
	}
	if (p->targets)
		dense = sl_dense_view(p->targets, s->targets->dtype, batch, s->targets->cols);
	sl_targets targets = {
		.labels = p->labels, .dense = p->targets ? &dense : NULL, .ignore_zeros = p->samples->ignore_zeros};
	sl_sparse rows;
	if (s->sparse_targets) {
		SL_TRY(take_sparse(p, s->sparse_targets, order, first, batch, p->ranges + 2 * p->batch, &rows));
		targets.sparse = &rows;
	}
	if (p->class_weights) {
		SL_TRY(weigh(p, batch));
		targets = (sl_targets){.sparse = &p->weighted};
	}
	if (p->feed.device)
		SL_TRY(sli_feed_begin(&p->feed));
	SL_TRY(take_inputs(p, order, first, batch));
	sl_mode mode = training ? SL_MODE_TRAINING : SL_MODE_INFERENCE;
	if (p->feed.device) {
		sl_placed_targets placed;
		sl_sparse_batch sparse;
		SL_TRY(send_targets(p, &targets, batch, &dense, &sparse, &placed));
		SL_TRY(sli_model_run(p->context, p->model, batch, mode));
		return sli_model_loss_at(p->context, p->model, p->loss, batch, &placed, training, sums);
	}
	SL_TRY(sli_model_run(p->context, p->model, batch, mode));
	return sli_model_loss(p->context, p->model, p->loss, batch, &targets, training, sums);
}

/* The same of samples [first, first + batch) in the pass's order. */
static sl_status run_batch(pass *p, int64_t first, int64_t batch, bool training, sl_loss_sums *sums) {
	return run_rows(p, p->order ? p->order + first : NULL, first, batch, training, sums);
}

static double mean_loss_of(const sl_loss_sums *sums) {
	return sums->rows ? sums->loss / (double)sums->rows : NAN;
}

static double accuracy_of(const sl_loss_sums *sums) {
	return sums->counted ? (double)sums->correct / (double)sums->counted : NAN;
}

static void shuffle(sl_context *context, int64_t *order, int64_t count, int64_t epoch) {
	for (int64_t i = 0; i < count; i++)
		order[i] = i;
	sli_shuffle(sli_seed(context), 0, epoch, order, count);
}

/* What the passes of streamed layers have moved so far. */
static void moved(const sl_model *model, int64_t *read, int64_t *written) {
	*read = *written = 0;
	for (int i = 0; i < model->count; i++)
		if (model->layers[i]->streamed) {
			*read += model->layers[i]->streamed->bytes_read;
			*written += model->layers[i]->streamed->bytes_written;
		}
}

static bool report(const pass *p, const char *what, int64_t done, int64_t epoch, int64_t epochs,
				   const sl_loss_sums *sums, double began) {
	if (!sli_has_progress(p->context))
		return true;
	sl_progress progress = {.what = what,
							.done = done,
							.total = p->count,
							.epoch = epoch,
							.epochs = epochs,
							.loss = mean_loss_of(sums),
							.accuracy = accuracy_of(sums),
							.seconds = sli_seconds() - began};
	moved(p->model, &progress.bytes_read, &progress.bytes_written);
	progress.bytes_read -= p->read_before;
	progress.bytes_written -= p->written_before;
	return sli_progress(p->context, &progress);
}

static sl_status cancelled(sl_context *context, int64_t epoch) {
	return sli_fail(context, SL_ERR_CANCELLED, "cancelled in epoch %lld, after a whole step", (long long)epoch);
}

static sl_status update_after(pass *p, sl_optimizer *optimizer, int64_t gathered) {
	sl_sparsity_edit edit = {.edited = false};
	if (gathered > 1)
		SL_TRY(sli_optimizer_scale(p->context, optimizer, 1.0 / (double)gathered));
	if (p->parallel) {
		SL_TRY(sli_parallel_step(p->context, p->parallel, &edit));
	} else {
		SL_TRY(sli_optimizer_step(p->context, optimizer));
		if (p->model->sparsity)
			SL_TRY(sli_sparsity_step(p->context, p->model, optimizer, &edit));
	}
	return edit.edited ? sli_model_prepare(p->context, p->model, p->most, SL_MODE_TRAINING) : SL_OK;
}

/* A part of a global batch that begins with sample `from` of the pass. */
typedef struct part_of {
	pass *p;
	int64_t from;
} part_of;

/* A leaf's rows of a batch whose samples each rank has its share of. */
static sl_status run_share(pass *p, int64_t from, int64_t count, sl_loss_sums *sums) {
	int64_t part, parts;
	sli_parallel_parts(p->parallel, p->parallel->tree.first + p->parallel->part, &part, &parts);
	sli_share_batch(p->share, part, parts, from, p->parallel->total, p->order, p->chosen);
	return run_rows(p, p->chosen, 0, count, true, sums);
}

static sl_status run_part(void *self, int64_t first, int64_t count, sl_loss_sums *sums) {
	const part_of *part = self;
	if (part->p->share)
		return run_share(part->p, part->from, count, sums);
	return run_batch(part->p, part->from + first, count, true, sums);
}

/* Forward, loss and backward of samples [first, first + batch), by all ranks where there are some. *stop: in and out,
 * see sli_parallel_batch(). */
static sl_status learn_batch(pass *p, int64_t first, int64_t batch, int64_t epoch, sl_write write, sl_loss_sums *one,
							 bool *stop) {
	part_of part = {p, first};
	SL_TRY(p->parallel ? sli_parallel_batch(p->context, p->parallel, batch, run_part, &part, write, one, stop)
					   : run_batch(p, first, batch, true, one));
	if (!isfinite(one->loss))
		return sli_fail(p->context, SL_ERR_NONFINITE,
						"the loss is not finite in epoch %lld, batch %lld: look for NaN in the inputs or lower the "
						"learning rate",
						(long long)epoch, (long long)(first / p->batch));
	return p->parallel ? SL_OK : sli_model_back(p->context, p->model, NULL, write);
}

/* Whether any rank's flag is set. */
static sl_status ask_all(const pass *p, bool *flag) {
	if (p->model->divided)
		SL_TRY(sli_comm_vote(p->context, p->model->divided->comm, flag));
	return p->parallel ? sli_comm_vote(p->context, p->parallel->comm, flag) : SL_OK;
}

static sl_status train_epoch(pass *p, sl_optimizer *optimizer, const sl_fit_options *o, int64_t epoch, double began,
							 sl_loss_sums *sums) {
	int64_t gathered = 0;
	const bool together = p->parallel || p->model->divided;
	moved(p->model, &p->read_before, &p->written_before);
	bool stop = false, wish = false; /* with ranks: this one's alone, until all have heard of it */
	if (p->share && !o->keep_order)
		sli_shuffle_share(sli_seed(p->context), 0, epoch, p->share, p->order);
	else if (p->order && !p->share)
		shuffle(p->context, p->order, p->count, epoch);
	for (int64_t first = epoch == o->first_epoch ? o->first_sample : 0; first < p->count; first += p->batch) {
		int64_t batch = p->count - first < p->batch ? p->count - first : p->batch;
		sl_loss_sums one = {.bad_row = -1};
		stop = stop || wish;
		if (p->model->divided)
			SL_TRY(sli_comm_vote(p->context, p->model->divided->comm, &stop));
		SL_TRY(learn_batch(p, first, batch, epoch, gathered ? SL_ACCUMULATE : SL_OVERWRITE, &one, &stop));
		sums->loss += one.loss;
		sums->rows += one.rows;
		sums->correct += one.correct;
		sums->counted += one.counted;
		gathered++;
		if (gathered == o->accumulate || first + batch == p->count) {
			SL_TRY(update_after(p, optimizer, gathered));
			gathered = 0;
		}
		/* Asked to stop between two updates, the next update is waited for. */
		wish = !report(p, "train", first + batch, epoch, o->epochs, sums, began);
		stop = stop || (wish && !together);
		if (stop && gathered == 0)
			return cancelled(p->context, epoch);
	}
	SL_TRY(ask_all(p, &wish)); /* the last report's wish */
	return wish && together ? cancelled(p->context, epoch) : SL_OK;
}

/* Batch i is rank i % size's affair; what each came to is added up in order, as one process does it. */
static sl_status evaluate_batches(pass *p, double *figures, sl_loss_sums *sums) {
	double began = sli_seconds();
	int64_t index = 0;
	moved(p->model, &p->read_before, &p->written_before);
	for (int64_t first = 0; first < p->count; first += p->batch, index++) {
		int64_t n = p->count - first < p->batch ? p->count - first : p->batch;
		sl_loss_sums one = {.bad_row = -1};
		if (p->parallel && index % p->parallel->tree.size != p->parallel->tree.rank)
			continue;
		SL_TRY(run_batch(p, first, n, false, &one));
		sums->loss += one.loss;
		sums->rows += one.rows;
		sums->correct += one.correct;
		sums->counted += one.counted;
		if (figures)
			memcpy(figures + 4 * index,
				   (double[]){one.loss, (double)one.rows, (double)one.correct, (double)one.counted},
				   4 * sizeof *figures);
		/* The other ranks of a divided layer would wait. */
		if (!report(p, "evaluate", first + n, -1, 0, sums, began) && !p->model->divided)
			return sli_fail(p->context, SL_ERR_CANCELLED, "cancelled while evaluating");
	}
	return SL_OK;
}

/* Of samples by share: each part's batches, by the rank that has it. */
static sl_status evaluate_share(pass *p, double *figures) {
	const sl_share *share = p->share;
	double began = sli_seconds();
	int64_t index = 0, first, count, done = 0;
	for (int64_t part = 0; part < share->parts; part++, index += sli_ceil_div(count, p->batch)) {
		sl_comm_share(share->total, (int)part, (int)share->parts, &first, &count);
		if (first < share->first || first >= share->first + share->count)
			continue;
		for (int64_t at = 0, k = index; at < count; at += p->batch, k++) {
			int64_t n = count - at < p->batch ? count - at : p->batch;
			sl_loss_sums one = {.bad_row = -1};
			SL_TRY(run_rows(p, NULL, first - share->first + at, n, false, &one));
			memcpy(figures + 4 * k, (double[]){one.loss, (double)one.rows, (double)one.correct, (double)one.counted},
				   4 * sizeof *figures);
			if (!report(p, "evaluate", done += n, -1, 0, &one, began))
				return sli_fail(p->context, SL_ERR_CANCELLED, "cancelled while evaluating");
		}
	}
	return SL_OK;
}

static int64_t batches_of(const pass *p) {
	int64_t batches = 0, first, count;
	for (int64_t part = 0; p->share && part < p->share->parts; part++) {
		sl_comm_share(p->share->total, (int)part, (int)p->share->parts, &first, &count);
		batches += sli_ceil_div(count, p->batch);
	}
	return p->share ? batches : sli_ceil_div(p->count, p->batch);
}

static sl_status evaluate_by_ranks(pass *p, sl_loss_sums *sums) {
	int64_t batches = batches_of(p);
	size_t bytes = (size_t)batches * 4 * sizeof(double);
	void *memory = NULL;
	sl_status status = sli_allocate_zeroed(p->context, bytes, "figures of batches", &memory);
	if (status == SL_OK)
		status = p->share ? evaluate_share(p, memory) : evaluate_batches(p, memory, sums);
	status = sli_comm_settle(p->context, p->parallel->comm, status);
	if (status == SL_OK)
		status = sli_comm_sum(p->context, p->parallel->comm, memory, 4 * batches, SL_F64, NULL);
	*sums = (sl_loss_sums){.bad_row = -1};
	for (int64_t i = 0; i < batches && status == SL_OK; i++) {
		const double *f = (const double *)memory + 4 * i;
		sums->loss += f[0];
		sums->rows += (int64_t)f[1];
		sums->correct += (int64_t)f[2];
		sums->counted += (int64_t)f[3];
	}
	sli_heap_free(sli_heap(p->context), memory, bytes);
	return status;
}

static sl_status evaluate(sl_context *context, sl_model *model, sl_loss loss, const sl_samples *samples, int64_t batch,
						  sl_parallel *parallel, double *mean_loss, double *accuracy) {
	pass p = {
		.context = context, .model = model, .samples = samples, .loss = loss, .batch = batch, .parallel = parallel};
	SL_TRY(sli_model_prepare(context, model, batch, SL_MODE_INFERENCE));
	SL_TRY(open_pass(&p, false));
	sl_loss_sums sums = {.bad_row = -1};
	sl_status status = parallel ? evaluate_by_ranks(&p, &sums) : evaluate_batches(&p, NULL, &sums);
	close_pass(&p);
	if (mean_loss)
		*mean_loss = mean_loss_of(&sums);
	if (accuracy)
		*accuracy = accuracy_of(&sums);
	return status;
}

sl_status sli_model_evaluate(sl_context *context, sl_model *model, sl_loss loss, const sl_samples *samples,
							 int64_t batch, double *mean_loss, double *accuracy) {
	return evaluate(context, model, loss, samples, batch, NULL, mean_loss, accuracy);
}

static sl_status end_epoch(pass *p, const sl_optimizer *optimizer, const sl_fit_options *o, sl_epoch *figures) {
	figures->validation_loss = figures->validation_accuracy = NAN;
	if (o->validation)
		SL_TRY(evaluate(p->context, p->model, o->loss, o->validation, p->most, p->parallel, &figures->validation_loss,
						&figures->validation_accuracy));
	figures->learning_rate = sli_optimizer_rate(optimizer, optimizer->steps ? optimizer->steps - 1 : 0);
	bool stop = o->on_epoch && !o->on_epoch(o->user, figures);
	SL_TRY(ask_all(p, &stop));
	if (p->parallel)
		SL_TRY(sli_parallel_verify(p->context, p->parallel, true));
	if (stop)
		return cancelled(p->context, figures->epoch);
	return SL_OK;
}

sl_status sli_model_fit(sl_context *context, sl_model *model, sl_optimizer *optimizer, const sl_samples *samples,
						const sl_fit_options *o) {
	pass p = {.context = context,
			  .model = model,
			  .samples = samples,
			  .loss = o->loss,
			  .batch = o->batch,
			  .class_weights = o->class_weights};
	int64_t count = samples->share ? samples->share->total : sli_sample_count(samples);
	if (p.batch > count && count)
		p.batch = count;
	p.parallel = o->parallel;
	if (p.parallel)
		p.parallel->parts = samples->share              ? samples->share->parts
							: p.parallel->options.parts ? p.parallel->options.parts
														: p.parallel->tree.leaves;
	p.most = p.parallel ? sli_parallel_most_rows(p.parallel, p.batch) : p.batch;
	SL_TRY(sli_model_prepare(context, model, p.most, SL_MODE_TRAINING));
	SL_TRY(open_pass(&p, !o->keep_order));
	sl_early early;
	bool stop = false;
	sl_status status = sli_early_open(&early, context, model, o);
	for (int64_t epoch = o->first_epoch; epoch < o->epochs && status == SL_OK && !stop; epoch++) {
		sl_loss_sums sums = {.bad_row = -1};
		double began = sli_seconds();
		/* Costs nothing unless a callback edited a pattern. */
		status = sli_model_prepare(context, model, p.most, SL_MODE_TRAINING);
		if (status == SL_OK)
			status = train_epoch(&p, optimizer, o, epoch, began, &sums);
		sl_epoch figures = {.epoch = epoch,
							.loss = mean_loss_of(&sums),
							.accuracy = accuracy_of(&sums),
							.seconds = sli_seconds() - began};
		if (status == SL_OK)
			status = end_epoch(&p, optimizer, o, &figures);
		if (status == SL_OK)
			status = sli_early_note(&early, &figures, &stop);
	}
	status = sli_early_close(&early, status);
	close_pass(&p);
	return status;
}

/* The outputs of a batch into rows of the host's memory. */
static sl_status give_outputs(pass *p, int64_t batch, const sl_dense *rows, sl_staging *stage) {
	sl_dense from = sl_dense_transposed(sli_model_activation(p->context, p->model, sli_model_outputs(p->model), batch)),
			 to = *rows;
	if (!p->feed.device)
		return sli_convert(p->context, &from, &to);
	size_t line = (size_t)rows->cols * sl_dtype_size(rows->dtype);
	sl_arena_mark mark = sli_arena_mark(p->context);
	to.ld = rows->cols;
	to.device = from.device;
	to.device_index = from.device_index;
	sl_status status = sli_arena_take(p->context, (size_t)batch * line, &to.data);
	if (status == SL_OK)
		status = sli_convert(p->context, &from, &to);
	if (status == SL_OK)
		status = sli_stage_fetch(stage, to.data, (size_t)batch * line);
	sli_arena_reset(p->context, mark);
	for (int64_t i = 0; i < batch && status == SL_OK; i++)
		memcpy((char *)rows->data + (size_t)(i * rows->ld) * sl_dtype_size(rows->dtype),
			   (const char *)stage->data + (size_t)i * line, line);
	return status;
}

static sl_status predict(pass *p, sl_dense *outputs, sl_staging *stage) {
	for (int64_t first = 0; first < p->count; first += p->batch) {
		int64_t n = p->count - first < p->batch ? p->count - first : p->batch;
		if (p->feed.device)
			SL_TRY(sli_feed_begin(&p->feed));
		SL_TRY(take_inputs(p, NULL, first, n));
		if (p->feed.device)
			SL_TRY(sli_feed_end(&p->feed));
		SL_TRY(sli_model_run(p->context, p->model, n, SL_MODE_INFERENCE));
		sl_dense to = *outputs;
		to.rows = n;
		to.data = (char *)to.data + (size_t)(first * to.ld) * sl_dtype_size(to.dtype);
		SL_TRY(give_outputs(p, n, &to, stage));
	}
	return SL_OK;
}

sl_status sli_model_predict(sl_context *context, sl_model *model, const sl_samples *samples, sl_dense *outputs,
							int64_t batch) {
	pass p = {.context = context, .model = model, .samples = samples, .batch = batch};
	sl_staging stage = {0};
	SL_TRY(sli_model_prepare(context, model, batch, SL_MODE_INFERENCE));
	SL_TRY(open_pass(&p, false));
	sl_status status = SL_OK;
	if (p.feed.device)
		status = sli_stage_open(&stage, p.feed.device, (size_t)(batch * outputs->cols) * sl_dtype_size(outputs->dtype));
	if (status == SL_OK)
		status = predict(&p, outputs, &stage);
	sli_stage_close(&stage);
	close_pass(&p);
	return status;
}
