/* SPDX-License-Identifier: Apache-2.0 */
/* When patterns are edited, by how much, and what RigL must see before. */
#include "train/sparsity.h"

#include <math.h>

#include "core/checked.h"
#include "core/host.h"
#include "sparse/density.h"
#include "train/neighbours.h"

static sl_status refuse(sl_context *context, const char *name, double value, const char *range) {
	return sli_fail(context, SL_ERR_ARGUMENT, "%s is %g; it must be %s", name, value, range);
}

static bool prunes(sl_sparse_method method) {
	return method == SL_SPARSE_GMP || method == SL_SPARSE_L1;
}

sl_status sli_sparsity_resolve(sl_context *context, const sl_model *model, const sl_sparsity_options *given,
							   sl_sparsity_options *options) {
	sl_sparsity_options o = *given;
	if (o.method < SL_SPARSE_STATIC || o.method > SL_SPARSE_L1)
		return refuse(context, "method", o.method, "one of sl_sparse_method");
	if (o.budget < SL_BUDGET_LAYER || o.budget > SL_BUDGET_GLOBAL)
		return refuse(context, "budget", o.budget, "one of sl_budget");
	if (o.decay < SL_DECAY_COSINE || o.decay > SL_DECAY_LINEAR)
		return refuse(context, "decay", o.decay, "one of sl_drop_decay");
	if (o.distribution < SL_UNIFORM || o.distribution > SL_ERDOS_RENYI_KERNEL)
		return refuse(context, "distribution", o.distribution, "one of sl_distribution");
	if (o.interval < 0)
		return refuse(context, "interval", (double)o.interval, "positive");
	if (o.begin < 0)
		return refuse(context, "begin", (double)o.begin, "at least 0");
	if (o.method != SL_SPARSE_STATIC && o.end <= o.begin)
		return refuse(context, "end", (double)o.end, "beyond begin");
	if (!(o.drop >= 0 && o.drop <= 1))
		return refuse(context, "drop", o.drop, "in (0, 1]");
	if (!(o.spread == 0 || o.spread >= 1))
		return refuse(context, "spread", o.spread, "at least 1");
	if (!(o.density >= 0 && o.density <= 1))
		return refuse(context, "density", o.density, "in [0, 1]");
	SL_TRY(sli_n_m_check(context, o.n, o.m));
	if (o.n && (o.density != 0 || o.densities))
		return sli_fail(context, SL_ERR_ARGUMENT, "n:m %d:%d is a density: give no other", o.n, o.m);
	if ((o.density != 0 || o.densities) && !prunes(o.method))
		return sli_fail(context, SL_ERR_ARGUMENT, "method %s keeps the density that the layers have: give none",
						sl_sparse_method_name(o.method));
	for (int i = 0; o.densities && i < model->count; i++)
		if (!(o.densities[i] >= 0 && o.densities[i] <= 1))
			return refuse(context, "one of densities", o.densities[i], "in [0, 1]");
	o.interval = o.interval ? o.interval : 100;
	o.drop = o.drop != 0 ? o.drop : 0.3;
	o.spread = o.spread != 0 ? o.spread : 1;
	*options = o;
	return SL_OK;
}

static bool governs(const sl_model *model, const sl_sparsity_options *o, int i) {
	if (o->method == SL_SPARSE_STATIC)
		return false;
	if (model->layers[i]->streamed)
		return false;
	if (!prunes(o->method))
		/* Of the groups of features that a batch does not have its gradient says nothing. */
		return !model->layers[i]->dense &&
			   (o->method == SL_SPARSE_SET || !o->n || !model->layers[i]->sparse_inputs);
	if (o->keep_last && i == model->count - 1)
		return false;
	return !o->densities || o->densities[i] > 0;
}

/* The entries that pruning ends with. */
static void find_final(const sl_model *model, const sl_sparsity_options *o, sl_governed *layers, int count,
					   int64_t (*shapes)[2], double *densities) {
	for (int i = 0; i < count; i++) {
		const sl_layer *layer = model->layers[layers[i].index];
		shapes[i][0] = layer->out_features;
		shapes[i][1] = layer->in_features;
	}
	sli_density_distribute(o->distribution, o->density, count, (const int64_t(*)[2])shapes, NULL, densities);
	for (int i = 0; i < count; i++) {
		double density = o->densities ? o->densities[layers[i].index] : densities[i];
		layers[i].final = llround(density * (double)(shapes[i][0] * shapes[i][1]));
		if (o->n) {
			const sl_layer *layer = model->layers[layers[i].index];
			bool by_feature = layer->sparse_inputs;
			layers[i].final = sli_n_m_entries(shapes[i][by_feature], shapes[i][!by_feature], o->n, o->m);
		}
		layers[i].final = layers[i].final < layers[i].first ? layers[i].final : layers[i].first;
	}
}

static void destroy(sl_sparsity *s) {
	sl_heap *heap = s->heap;
	for (int i = 0; i < s->count; i++)
		sli_selection_free(&s->layers[i].selection);
	sli_heap_free(heap, s->layers, (size_t)s->count * sizeof *s->layers);
	sli_heap_free(heap, s, sizeof *s);
	sli_heap_release(heap);
}

void sli_sparsity_drop(sl_model *model) {
	if (model->sparsity)
		model->sparsity_destroy(model->sparsity);
	model->sparsity = NULL;
	model->watch = (sl_gradient_watch){0};
}

static sl_status count_governed(sl_context *context, const sl_model *model, const sl_sparsity_options *o, int *count) {
	int64_t cells = 0, here;
	*count = 0;
	for (int i = 0; i < model->count; i++) {
		const sl_layer *layer = model->layers[i];
		if (!governs(model, o, i))
			continue;
		++*count;
		if (!sli_mul(layer->in_features, layer->out_features, &here) || !sli_add(cells, here, &cells))
			return sli_fail(context, SL_ERR_OVERFLOW, "the layers up to \"%s\" have more than 2^63 cells", layer->name);
	}
	if (!*count && o->method != SL_SPARSE_STATIC)
		return sli_fail(context, SL_ERR_STATE, "the model has no layer that method %s can govern",
						sl_sparse_method_name(o->method));
	return SL_OK;
}

/* Backward comes from the end: bases rise the way it goes. */
void sli_sparsity_reshaped(sl_sparsity *s) {
	int64_t base = 0;
	for (int i = s->count - 1; i >= 0; i--) {
		const sl_layer *layer = s->model->layers[s->layers[i].index];
		s->layers[i].base = base;
		base += layer->in_features * layer->out_features;
	}
}

sl_status sli_sparsity_adopt(sl_context *context, sl_model *model, const sl_sparsity_options *o,
							 const sl_governed *layers, int count, int64_t steps, int64_t edits) {
	sl_sparsity *s;
	void *memory, *own = NULL;
	SL_TRY(sli_allocate_zeroed(context, sizeof *s, "a schedule of patterns", &memory));
	s = memory;
	if (count) {
		sl_status status = sli_allocate(context, (size_t)count * sizeof *layers, "a schedule of patterns", &own);
		if (status != SL_OK) {
			sli_heap_free(sli_heap(context), s, sizeof *s);
			return status;
		}
		memcpy(own, layers, (size_t)count * sizeof *layers);
	}
	*s = (sl_sparsity){.heap = sli_heap_retain(sli_heap(context)),
					   .model = model,
					   .options = *o,
					   .steps = steps,
					   .edits = edits,
					   .layers = own,
					   .count = count};
	s->options.densities = NULL;
	sli_sparsity_reshaped(s);
	sli_sparsity_drop(model);
	model->sparsity = s;
	model->sparsity_destroy = destroy;
	sli_sparsity_arm(model);
	return SL_OK;
}

/* SET and RigL keep what the patterns have. */
static sl_status check_groups(sl_context *context, const sl_model *model, const sl_sparsity_options *o) {
	for (int i = 0; i < model->count; i++) {
		const sl_layer *layer = model->layers[i];
		if (!governs(model, o, i))
			continue;
		int64_t count = 0;
		sl_pattern_arrays a = sli_pattern_arrays(layer->weights->pattern);
		int64_t group = sli_n_m_excess(&a, o->n, o->m, &count), groups = sli_ceil_div(a.cols, o->m);
		if (group >= 0)
			return sli_fail(context, SL_ERR_STATE,
							"layer \"%s\" is not %d:%d: row %lld has %lld weights in columns %lld to %lld", layer->name,
							o->n, o->m, (long long)(group / groups), (long long)count,
							(long long)(group % groups * o->m), (long long)((group % groups + 1) * o->m - 1));
	}
	return SL_OK;
}

sl_status sli_sparsity_set(sl_context *context, sl_model *model, const sl_sparsity_options *o) {
	int count;
	void *memory;
	SL_TRY(count_governed(context, model, o, &count));
	if (o->n && (o->method == SL_SPARSE_SET || o->method == SL_SPARSE_RIGL))
		SL_TRY(check_groups(context, model, o));
	size_t n = (size_t)count;
	SL_TRY(sli_host_context(context, &context));
	sl_arena_mark mark = sli_arena_mark(context);
	SL_TRY(sli_arena_take(context, n * (sizeof(sl_governed) + sizeof(int64_t[2]) + sizeof(double)), &memory));
	sl_governed *layers = memory;
	int64_t(*shapes)[2] = (int64_t(*)[2])(layers + n);
	for (int i = 0, at = 0; i < model->count; i++)
		if (governs(model, o, i))
			layers[at++] = (sl_governed){.index = i, .first = sli_layer_nnz(model->layers[i]), .seen = -1};
	if (prunes(o->method))
		find_final(model, o, layers, count, shapes, (double *)(shapes + n));
	sl_status status = sli_sparsity_adopt(context, model, o, layers, count, 0, 0);
	sli_arena_reset(context, mark);
	return status;
}

bool sli_sparsity_due(const sl_sparsity *s, int64_t step) {
	const sl_sparsity_options *o = &s->options;
	return o->method != SL_SPARSE_STATIC && step > o->begin && step <= o->end && (step - o->begin) % o->interval == 0;
}

int64_t sli_sparsity_last(const sl_sparsity *s) {
	const sl_sparsity_options *o = &s->options;
	return o->begin + (o->end - o->begin) / o->interval * o->interval;
}

double sli_sparsity_fraction(const sl_sparsity *s, int64_t step) {
	double done = (double)step / (double)s->options.end;
	switch (s->options.decay) {
	case SL_DECAY_COSINE:
		return s->options.drop * 0.5 * (1 + cos(3.14159265358979323846 * done));
	case SL_DECAY_LINEAR:
		return s->options.drop * (1 - done);
	default:
		return s->options.drop;
	}
}

int64_t sli_sparsity_moves(const sl_sparsity *s, const sl_layer *layer, int64_t step) {
	int64_t have = 0, all = 0;
	for (int i = 0; i < s->count; i++) {
		const sl_layer *one = s->model->layers[s->layers[i].index];
		if (layer && one != layer)
			continue;
		have += sli_layer_nnz(one);
		all += one->in_features * one->out_features;
	}
	int64_t moves = llround(sli_sparsity_fraction(s, step) * (double)have);
	return moves < all - have ? moves : all - have;
}

static sl_governed *find(sl_sparsity *s, const sl_layer *layer) {
	for (int i = 0; i < s->count; i++)
		if (s->model->layers[s->layers[i].index] == layer)
			return &s->layers[i];
	return NULL;
}

/* For the candidates of a layer, or (NULL) of all together. */
static sl_status begin_selection(sl_sparsity *s, sl_context *context, sl_selection *selection, const sl_layer *layer) {
	int64_t widest = 0, neurons = 0, groups = 0, moves = sli_sparsity_moves(s, layer, s->steps + 1);
	const sl_layer *any = NULL;
	for (int i = 0; i < s->count; i++) {
		const sl_layer *one = s->model->layers[s->layers[i].index];
		if (layer && one != layer)
			continue;
		int64_t cols = one->sparse_inputs ? one->out_features : one->in_features;
		widest = cols > widest ? cols : widest;
		neurons += one->out_features;
		if (s->options.n)
			groups += one->out_features * sli_ceil_div(one->in_features, s->options.m);
		any = one;
	}
	SL_TRY(sli_host_context(context, &context));
	if (s->options.n) {
		int64_t keep = sli_n_m_candidates(s->options.n, s->options.m);
		return sli_selection_begin_groups(context, selection, groups * keep, s->options.m, keep, any->dtype);
	}
	int64_t limit = sli_growth_limit(s->options.spread, moves, neurons);
	return sli_selection_begin(context, selection, moves, limit, widest, any->dtype);
}

/* What a layer's gradient comes from: tiles, or dZ and X of one of the two kinds. */
typedef struct gradient {
	const sl_dense *dz, *x;
	const sl_sparse_batch *batch;
	const sl_tiles *tiles;
} gradient;

static sl_status offer(sl_sparsity *s, sl_context *context, const sl_layer *layer, const gradient *from) {
	sl_governed *g = find(s, layer), *last = &s->layers[s->count - 1];
	bool together = s->options.budget == SL_BUDGET_GLOBAL;
	sl_governed *holder = together ? last : g;
	if (!g || layer->dense)
		return SL_OK;
	if (holder == g)
		SL_TRY(begin_selection(s, context, &g->selection, together ? NULL : layer));
	g->seen = -1;
	int64_t base = together ? g->base : 0;
	if (from->tiles)
		SL_TRY(sli_offer_tiles(context, layer, from->tiles, &holder->selection, base));
	else if (from->batch)
		SL_TRY(sli_offer_sparse_gradient(context, layer, from->dz, from->batch, &holder->selection, base));
	else
		SL_TRY(sli_offer_gradient(context, layer, from->dz, from->x, &holder->selection, base));
	g->seen = s->steps;
	g->edition = layer->edition;
	return SL_OK;
}

/* A layer's gradient on its way. Layers of one budget share the last layer's selection, which comes first. */
static sl_status see(void *self, sl_context *context, const sl_layer *layer, const sl_dense *dz, const sl_dense *x) {
	return offer(self, context, layer, &(gradient){.dz = dz, .x = x});
}

static sl_status see_sparse(void *self, sl_context *context, const sl_layer *layer, const sl_dense *dz,
							const sl_sparse_batch *batch) {
	return offer(self, context, layer, &(gradient){.dz = dz, .batch = batch});
}

sl_status sli_sparsity_see(sl_context *context, sl_sparsity *s, const sl_layer *layer, const sl_tiles *tiles) {
	return offer(s, context, layer, &(gradient){.tiles = tiles});
}

void sli_sparsity_arm(sl_model *model) {
	sl_sparsity *s = model->sparsity;
	bool look = s->options.method == SL_SPARSE_RIGL && sli_sparsity_due(s, s->steps + 1);
	model->watch = look ? (sl_gradient_watch){see, s, see_sparse} : (sl_gradient_watch){0};
}
