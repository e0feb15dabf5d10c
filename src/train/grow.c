/* SPDX-License-Identifier: Apache-2.0 */
/* Growth by the gradient of a global batch: each rank keeps its inputs and dZ, and the tiles of the dense gradient that
 * the ranks make from them are summed before they are offered. */
#include "core/checked.h"
#include "train/parallel.h"

static bool governed(const sl_parallel *p, const sl_layer *layer) {
	const sl_sparsity *s = p->model->sparsity;
	for (int i = 0; s && i < s->count; i++)
		if (p->model->layers[s->layers[i].index] == layer)
			return !layer->dense;
	return false;
}

sl_status sli_parallel_keep(void *self, sl_context *context, const sl_layer *layer, const sl_dense *dz,
							const sl_dense *x) {
	sl_parallel *p = self;
	size_t size = sl_dtype_size(p->dtype);
	int64_t both = dz->rows + x->rows, count;
	sl_kept k = {.layer = layer, .part = p->part, .batch = dz->cols};
	if (!governed(p, layer))
		return SL_OK;
	if (!sli_mul(both, dz->cols, &count) || !sli_bytes(count, size, &k.bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "%lld features of a batch of %lld do not fit in memory",
						(long long)both, (long long)dz->cols);
	SL_TRY(sli_grow(context, p->heap, (void **)&p->kept, &p->kept_capacity, p->kept_count + 1, sizeof *p->kept,
					"the list of what grows"));
	SL_TRY(sli_allocate(context, k.bytes, "what grows by its gradient", &k.dz));
	k.x = (char *)k.dz + (size_t)(dz->rows * dz->cols) * size;
	p->kept[p->kept_count++] = k;
	sl_dense to = sl_dense_view(k.dz, p->dtype, dz->rows, dz->cols);
	SL_TRY(sli_convert(context, dz, &to));
	to = sl_dense_view(k.x, p->dtype, x->rows, x->cols);
	return sli_convert(context, x, &to);
}

sl_status sli_parallel_keep_sparse(void *self, sl_context *context, const sl_layer *layer, const sl_dense *dz,
								   const sl_sparse_batch *x) {
	(void)dz, (void)x;
	return governed(self, layer) ? sli_fail(context, SL_ERR_UNSUPPORTED,
											"layer \"%s\" takes sparse inputs: growth by gradients is for one process",
											layer->name)
								 : SL_OK;
}

void sli_parallel_forget(sl_parallel *p) {
	for (int i = 0; i < p->kept_count; i++)
		sli_heap_free(p->heap, p->kept[i].dz, p->kept[i].bytes);
	p->kept_count = 0;
}

typedef struct scaling {
	char *to;
	int64_t count;
	double factor;
	sl_dtype dtype;
} scaling;

static void scale(const scaling *s) {
	for (int64_t i = 0; i < s->count; i++) {
		if (s->dtype == SL_F32)
			((float *)(void *)s->to)[i] *= (float)s->factor;
		else
			((double *)(void *)s->to)[i] *= s->factor;
	}
}

static const sl_kept *find(const sl_parallel *p, const sl_layer *layer, int64_t part) {
	for (int i = 0; i < p->kept_count; i++)
		if (p->kept[i].layer == layer && p->kept[i].part == part)
			return &p->kept[i];
	return NULL;
}

/* Rows of one part's dense gradient, weighted by its share of the batch. */
static sl_status part_tile(sl_context *context, const sl_parallel *p, const sl_layer *layer, int64_t part, int64_t row,
						   sl_dense *tile) {
	const sl_kept *k = find(p, layer, part);
	if (!k) {
		memset(tile->data, 0, (size_t)(tile->rows * tile->cols) * sl_dtype_size(p->dtype));
		return SL_OK;
	}
	sl_dense dz = sl_dense_view(k->dz, p->dtype, layer->out_features, k->batch);
	sl_dense x = sl_dense_view(k->x, p->dtype, layer->in_features, k->batch);
	SL_TRY(sli_gradient_tile(context, &dz, &x, row, tile));
	scaling s = {tile->data, tile->rows * tile->cols, (double)k->batch / (double)p->total, p->dtype};
	scale(&s);
	return SL_OK;
}

static sl_status summed(sl_context *context, sl_parallel *p, const sl_layer *layer, int64_t row, sl_dense *tile) {
	int64_t count = tile->rows * tile->cols;
	size_t bytes = (size_t)count * sl_dtype_size(p->dtype), tree_bytes;
	void *nodes[64], *memory;
	sl_tree_sum sum;
	int height = 0;
	nodes[0] = tile->data;
	for (int i = 1; i < p->depth; i++)
		SL_TRY(sli_arena_take(context, bytes, &nodes[i]));
	for (int64_t part = 0; part < p->tree.count; part++) {
		sl_dense one = *tile;
		one.data = nodes[height];
		SL_TRY(part_tile(context, p, layer, part, row, &one));
		int merges = sli_tree_merges(&p->tree, part);
		for (int m = 0; m < merges; m++)
			sli_add_vectors(context, nodes[height - m - 1], nodes[height - m], count, p->dtype);
		height += 1 - merges;
	}
	if (!p->fixed)
		return sli_comm_sum(context, p->comm, tile->data, count, p->dtype, NULL);
	if (!sli_tree_bytes(&p->tree, count, p->dtype, &tree_bytes))
		return sli_fail(context, SL_ERR_OVERFLOW, "a tile of %lld elements", (long long)count);
	SL_TRY(sli_arena_take(context, tree_bytes, &memory));
	SL_TRY(sli_tree_begin(context, p->comm, &p->tree, &sum, nodes, 0, count, p->dtype, memory));
	SL_TRY(sli_tree_gather(context, p->comm, &p->tree, &sum));
	return sli_tree_end(context, p->comm, &p->tree, &sum);
}

static sl_status make_tile(void *self, sl_context *context, const sl_layer *layer, int64_t row, sl_dense *tile) {
	sl_arena_mark mark = sli_arena_mark(context);
	sl_status status = summed(context, self, layer, row, tile);
	sli_arena_reset(context, mark);
	return status;
}

sl_status sli_parallel_offer(sl_context *context, sl_parallel *p) {
	sl_tiles tiles = {p, make_tile};
	for (int i = p->model->count - 1; i >= 0; i--)
		if (governed(p, p->model->layers[i]))
			SL_TRY(sli_sparsity_see(context, p->model->sparsity, p->model->layers[i], &tiles));
	return SL_OK;
}
