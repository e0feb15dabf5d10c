/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Neurons without outgoing connections are nobody's inputs; those without incoming ones are constants, which the next
 * layer's bias takes over. Both go, and what was connected to them alone goes in the next round. All is built before
 * anything is changed.
 */
#include "train/compact.h"

#include "core/checked.h"
#include "core/half.h"
#include "sparse/edit.h"
#include "sparse/random.h"
#include "train/sparsity.h"
#include "train/visit.h"

/* A layer on its way. Masks are of its inputs and outputs; the neighbours share them. */
typedef struct shrinking {
	sl_layer *layer;
	sl_optimizer_entry *entry;
	uint8_t *keep_in, *keep_out;
	int64_t *of_output, *of_input; /* connections whose other end stays */
	int64_t in, out;               /* what stays of the features */
	void *bias;                    /* with what was folded into it; NULL: none */
	/* What replaces the layer's own. */
	int64_t *map, *output_map, nnz;
	sl_csr *weights;
	sl_buffer dense, gradient, new_bias, bias_gradient, state[SL_MAX_PARAMETERS][SL_MAX_STATES];
} shrinking;

/* The stored matrix: W, or its transpose where inputs are sparse; without offsets all cells are there. */
typedef struct stored {
	sl_pattern_arrays a;
	const void *values;
	bool full, transposed;
} stored;

static stored stored_of(const sl_layer *layer) {
	stored s = {.full = layer->dense, .transposed = layer->sparse_inputs};
	if (layer->dense) {
		s.a.rows = s.transposed ? layer->in_features : layer->out_features;
		s.a.cols = s.transposed ? layer->out_features : layer->in_features;
		s.a.nnz = s.a.rows * s.a.cols;
		s.values = layer->dense_weights.data;
	} else {
		s.a = sli_pattern_arrays(layer->weights->pattern);
		s.values = layer->weights->values;
	}
	return s;
}

static int64_t row_begin(const stored *s, int64_t row) {
	return s->full ? row * s->a.cols : sli_index(s->a.row_offsets, s->a.offset_dtype, row);
}

static int64_t column_of(const stored *s, int64_t row, int64_t k) {
	return s->full ? k - row * s->a.cols : s->a.col_indices[k];
}

static void count_connections(shrinking *l) {
	stored s = stored_of(l->layer);
	memset(l->of_output, 0, (size_t)l->layer->out_features * sizeof *l->of_output);
	memset(l->of_input, 0, (size_t)l->layer->in_features * sizeof *l->of_input);
	for (int64_t r = 0; r < s.a.rows; r++)
		for (int64_t k = row_begin(&s, r); k < row_begin(&s, r + 1); k++) {
			int64_t c = column_of(&s, r, k), output = s.transposed ? c : r, input = s.transposed ? r : c;
			l->of_output[output] += l->keep_in[input];
			l->of_input[input] += l->keep_out[output];
		}
}

/* What neurons without inputs put out, from the bias as it stands: act(bias), in the layer's dtype. */
static sl_status constants(sl_context *context, const shrinking *l, void *values) {
	const sl_layer *layer = l->layer;
	int64_t n = layer->out_features;
	if (l->bias)
		memcpy(values, l->bias, (size_t)n * sl_dtype_size(layer->dtype));
	else
		memset(values, 0, (size_t)n * sl_dtype_size(layer->dtype));
	sl_dense view = sl_dense_view(values, layer->dtype, n, 1);
	sl_op_desc desc = {.kind = SL_OP_ACTIVATION,
					   .a = sli_desc(&view),
					   .c = sli_desc(&view),
					   .activation = layer->activation,
					   .activation_parameter = layer->activation_parameter};
	sl_op_args args = {.a = view, .c = view};
	return sli_run(context, &desc, &args);
}

/* bias += W c over the inputs that `folds` marks. */
static void fold(shrinking *l, const uint8_t *folds, const void *values) {
	stored s = stored_of(l->layer);
	sl_dtype dtype = l->layer->dtype;
	for (int64_t r = 0; r < s.a.rows; r++)
		for (int64_t k = row_begin(&s, r); k < row_begin(&s, r + 1); k++) {
			int64_t c = column_of(&s, r, k), output = s.transposed ? c : r, input = s.transposed ? r : c;
			if (folds[input] && l->keep_out[output])
				sli_store(l->bias, dtype, output,
						  sli_load(l->bias, dtype, output) +
							  sli_load(s.values, dtype, k) * sli_load(values, dtype, input));
		}
}

/* The neurons between two layers. One stays in any case, for a layer without inputs or outputs is none. */
static sl_status look(sl_context *context, shrinking *before, shrinking *after, uint8_t *folds, void *values,
					  sl_compaction *done, bool *changed) {
	int64_t n = before->layer->out_features;
	bool any = false;
	SL_TRY(constants(context, before, values));
	memset(folds, 0, (size_t)n);
	for (int64_t j = 0; j < n; j++) {
		if (!before->keep_out[j] || before->out == 1)
			continue;
		bool dead = !after->of_input[j], constant = !before->of_output[j];
		bool zero = sli_load(values, before->layer->dtype, j) == 0;
		if (!dead && !(constant && (zero || after->bias)))
			continue;
		folds[j] = !dead && !zero;
		any |= folds[j];
		before->keep_out[j] = 0; /* which is keep_in of the next as well */
		before->out--;
		after->in--;
		done->dead += dead;
		done->constant += !dead;
		*changed = true;
	}
	if (any)
		fold(after, folds, values);
	return SL_OK;
}

static sl_status find(sl_context *context, shrinking *layers, int count, uint8_t *folds, void *values,
					  sl_compaction *done) {
	for (bool changed = true; changed;) {
		changed = false;
		for (int i = 0; i < count; i++)
			count_connections(&layers[i]);
		for (int i = 0; i + 1 < count; i++)
			SL_TRY(look(context, &layers[i], &layers[i + 1], folds, values, done, &changed));
	}
	return SL_OK;
}

static bool shrinks(const shrinking *l) {
	return l->in < l->layer->in_features || l->out < l->layer->out_features;
}

/* Which of the stored entries stay, in order, and the pattern of them. */
static sl_status build_pattern(sl_context *context, shrinking *l, sl_pattern **pattern) {
	stored s = stored_of(l->layer);
	const uint8_t *keep_row = s.transposed ? l->keep_in : l->keep_out,
				  *keep_col = s.transposed ? l->keep_out : l->keep_in;
	int64_t rows = s.transposed ? l->in : l->out, cols = s.transposed ? l->out : l->in, at = 0, row = 0, *place;
	void *memory, *offsets = NULL;
	int32_t *columns = NULL;
	SL_TRY(sli_arena_take(context, (size_t)s.a.nnz * sizeof *l->map, &memory));
	l->map = memory;
	for (int64_t r = 0; r < s.a.rows; r++)
		for (int64_t k = row_begin(&s, r); keep_row[r] && k < row_begin(&s, r + 1); k++)
			if (keep_col[column_of(&s, r, k)])
				l->map[at++] = k;
	l->nnz = at;
	*pattern = NULL;
	if (s.full)
		return SL_OK;
	SL_TRY(sli_arena_take(context, (size_t)s.a.cols * sizeof *place, &memory));
	place = memory;
	for (int64_t c = 0, next = 0; c < s.a.cols; c++)
		place[c] = next, next += keep_col[c];
	SL_TRY(sli_pattern_take(context, rows, at, &offsets, &columns));
	at = 0;
	for (int64_t r = 0; r < s.a.rows; r++) {
		if (!keep_row[r])
			continue;
		for (int64_t k = row_begin(&s, r); k < row_begin(&s, r + 1); k++)
			if (keep_col[column_of(&s, r, k)])
				columns[at++] = (int32_t)place[column_of(&s, r, k)];
		sli_index_set(offsets, sli_offset_dtype(l->nnz), ++row, at);
	}
	return sli_pattern_adopt(pattern, context, rows, cols, l->nnz, offsets, columns);
}

typedef struct gathering {
	const void *from;
	void *to;
	const int64_t *map;
	int64_t count;
	sl_dtype dtype;
} gathering;

enum { GATHERED = 16384 };

static void gather_piece(void *argument, size_t index) {
	const gathering *g = argument;
	int64_t begin = (int64_t)index * GATHERED, end = begin + GATHERED < g->count ? begin + GATHERED : g->count;
	for (int64_t i = begin; i < end; i++) {
		if (g->dtype == SL_F32)
			((float *)g->to)[i] = ((const float *)g->from)[g->map[i]];
		else
			((double *)g->to)[i] = ((const double *)g->from)[g->map[i]];
	}
}

/* to[i] = from[map[i]], f32 or f64. */
static void gather(sl_context *context, const void *from, void *to, sl_dtype dtype, const int64_t *map, int64_t count) {
	gathering g = {from, to, map, count, dtype};
	sli_parallel(context, (size_t)sli_ceil_div(count, GATHERED), gather_piece, &g);
}

static sl_status make(sl_context *context, sl_buffer *buffer, int64_t count, sl_dtype dtype, const void *from,
					  const int64_t *map) {
	SL_TRY(sli_buffer_create(buffer, context, (size_t)count * sl_dtype_size(dtype), false, "compacted parameters"));
	gather(context, from, buffer->data, dtype, map, count);
	return SL_OK;
}

static sl_status build_weights(sl_context *context, shrinking *l) {
	const sl_layer *layer = l->layer;
	sl_pattern *pattern;
	SL_TRY(build_pattern(context, l, &pattern));
	if (layer->dense) {
		SL_TRY(make(context, &l->dense, l->nnz, layer->dtype, layer->dense_weights.data, l->map));
	} else {
		sl_status status = sl_csr_create_pattern(&l->weights, context, pattern, layer->dtype);
		sl_pattern_release(pattern);
		SL_TRY(status);
		gather(context, layer->weights->values, l->weights->values, layer->dtype, l->map, l->nnz);
	}
	/* A row-sparse gradient is dropped: the next batch brings other rows. */
	if (layer->gradient.device && !layer->sparse_inputs)
		SL_TRY(make(context, &l->gradient, l->nnz, layer->dtype, layer->gradient.data, l->map));
	for (int s = 0; l->entry && s < SL_MAX_STATES; s++)
		if (l->entry->state[0][s].device)
			SL_TRY(make(context, &l->state[0][s], l->nnz, layer->dtype, l->entry->state[0][s].data, l->map));
	return SL_OK;
}

static sl_status build_bias(sl_context *context, shrinking *l) {
	const sl_layer *layer = l->layer;
	void *memory;
	SL_TRY(sli_arena_take(context, (size_t)l->out * sizeof *l->output_map, &memory));
	l->output_map = memory;
	for (int64_t j = 0, at = 0; j < layer->out_features; j++)
		if (l->keep_out[j])
			l->output_map[at++] = j;
	SL_TRY(make(context, &l->new_bias, l->out, layer->dtype, l->bias, l->output_map));
	if (layer->bias_gradient.device)
		SL_TRY(make(context, &l->bias_gradient, l->out, layer->dtype, layer->bias_gradient.data, l->output_map));
	for (int s = 0; l->entry && s < SL_MAX_STATES; s++)
		if (l->entry->state[1][s].device)
			SL_TRY(make(context, &l->state[1][s], l->out, layer->dtype, l->entry->state[1][s].data, l->output_map));
	return SL_OK;
}

static void swap(sl_buffer *a, sl_buffer *b) {
	sl_buffer other = *a;
	*a = *b;
	*b = other;
}

/* Cannot fail. What the layer had is left in `l`, to be freed. */
static void commit(shrinking *l) {
	sl_layer *layer = l->layer;
	bool dense = layer->dense;
	sl_buffer old = layer->dense_weights;
	if (dense)
		memset(&layer->dense_weights, 0, sizeof layer->dense_weights);
	sli_layer_replace_weights(layer, l->weights, l->gradient);
	if (dense) {
		layer->dense = true;
		layer->dense_weights = l->dense;
		l->dense = old;
	}
	l->weights = NULL;
	memset(&l->gradient, 0, sizeof l->gradient);
	if (l->bias) {
		swap(&layer->bias, &l->new_bias);
		swap(&layer->bias_gradient, &l->bias_gradient);
	}
	for (int p = 0; l->entry && p < SL_MAX_PARAMETERS; p++)
		for (int s = 0; s < SL_MAX_STATES; s++)
			if (l->state[p][s].device)
				swap(&l->entry->state[p][s], &l->state[p][s]);
	layer->in_features = l->in;
	layer->out_features = l->out;
	if (l->entry)
		l->entry->edition = layer->edition;
}

static void end(shrinking *l) {
	sl_csr_destroy(l->weights);
	sl_buffer *buffers[] = {&l->dense, &l->gradient, &l->new_bias, &l->bias_gradient};
	for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
		sli_buffer_destroy(buffers[i]);
	for (int p = 0; p < SL_MAX_PARAMETERS; p++)
		for (int s = 0; s < SL_MAX_STATES; s++)
			sli_buffer_destroy(&l->state[p][s]);
}

/* Masks, counts and a copy of each bias, from the arena. */
static sl_status begin(sl_context *context, const sl_model *model, sl_optimizer *optimizer, shrinking *layers) {
	void *memory;
	for (int i = 0; i < model->count; i++) {
		sl_layer *layer = model->layers[i];
		shrinking *l = &layers[i];
		size_t in = (size_t)layer->in_features, out = (size_t)layer->out_features;
		*l = (shrinking){.layer = layer, .in = layer->in_features, .out = layer->out_features};
		l->entry = optimizer ? sli_optimizer_find(optimizer, layer) : NULL;
		SL_TRY(sli_arena_take(context, (in + out) * sizeof *l->of_output, &memory));
		l->of_output = memory;
		l->of_input = l->of_output + out;
		SL_TRY(sli_arena_take(context, out, &memory));
		l->keep_out = memset(memory, 1, out);
		if (i) {
			l->keep_in = layers[i - 1].keep_out;
		} else {
			SL_TRY(sli_arena_take(context, in, &memory));
			l->keep_in = memset(memory, 1, in);
		}
		if (!layer->has_bias)
			continue;
		SL_TRY(sli_arena_take(context, out * sl_dtype_size(layer->dtype), &l->bias));
		memcpy(l->bias, layer->bias.data, out * sl_dtype_size(layer->dtype));
	}
	return SL_OK;
}

static sl_status compact(sl_context *context, sl_model *model, sl_optimizer *optimizer, shrinking *layers,
						 sl_compaction *done) {
	size_t widest = 0;
	void *folds, *values;
	for (int i = 0; i < model->count; i++)
		if ((size_t)model->layers[i]->out_features > widest)
			widest = (size_t)model->layers[i]->out_features;
	SL_TRY(begin(context, model, optimizer, layers));
	SL_TRY(sli_arena_take(context, widest, &folds));
	SL_TRY(sli_arena_take(context, widest * sizeof(double), &values));
	SL_TRY(find(context, layers, model->count, folds, values, done));
	for (int i = 0; i < model->count; i++)
		if (shrinks(&layers[i])) {
			SL_TRY(build_weights(context, &layers[i]));
			if (layers[i].bias)
				SL_TRY(build_bias(context, &layers[i]));
		}
	if (!done->dead && !done->constant)
		return SL_OK;
	for (int i = 0; i < model->count; i++)
		if (shrinks(&layers[i])) {
			done->weights += sli_layer_nnz(layers[i].layer) - layers[i].nnz;
			commit(&layers[i]);
		}
	sli_model_forget(model);
	if (model->sparsity)
		sli_sparsity_reshaped(model->sparsity);
	return SL_OK;
}

static sl_status compact_model(sl_context *context, sl_model *model, sl_optimizer *optimizer, sl_compaction *done) {
	void *memory;
	sl_arena_mark mark = sli_arena_mark(context);
	size_t bytes = (size_t)model->count * sizeof(shrinking);
	SL_TRY(sli_arena_take(context, bytes, &memory));
	shrinking *layers = memset(memory, 0, bytes);
	sl_status status = compact(context, model, optimizer, layers, done);
	for (int i = 0; i < model->count; i++)
		end(&layers[i]);
	sli_arena_reset(context, mark);
	return status;
}

sl_status sli_model_compact(sl_context *context, sl_model *model, sl_optimizer *optimizer, sl_compaction *done) {
	sl_visit v;
	SL_TRY(sli_visit_begin(&v, context, model->layers, model->count, optimizer));
	return sli_visit_end(&v, compact_model(v.host, model, optimizer, done));
}
