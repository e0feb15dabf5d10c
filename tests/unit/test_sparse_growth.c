/* SPDX-License-Identifier: Apache-2.0 */
/* Growth by gradient in layers of sparse inputs, beside a dense gradient in double; schedules of it. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "support/check.h"

enum { BATCH = 40, EACH = 6 };

static double number(const void *data, sl_dtype dtype, int64_t i) {
	return dtype == SL_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

typedef struct one_layer {
	sl_context *context;
	sl_layer *layer;
	sl_optimizer *optimizer;
	sl_saved *saved;
	int64_t in, out;
	sl_dtype dtype;
	int64_t offsets[BATCH + 1];
	int32_t columns[BATCH * EACH];
	double values[BATCH * EACH]; /* of the dtype */
	void *y, *dy;
	sl_sparse X;
	sl_dense Y, dY;
} one_layer;

/* Features come twice in a row now and then, and the last rows are empty. */
static void fill_batch(one_layer *l) {
	uint64_t state = 7;
	for (int r = 0; r < BATCH; r++) {
		l->offsets[r] = r * EACH < (BATCH - 2) * EACH ? r * EACH : (BATCH - 2) * EACH;
		for (int i = 0; i < EACH; i++) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			l->columns[r * EACH + i] = (int32_t)((state >> 33) % (uint64_t)l->in);
		}
	}
	l->offsets[BATCH] = (BATCH - 2) * EACH;
	sl_test_fill(l->values, l->dtype, BATCH * EACH, 5);
}

static void make(one_layer *l, int64_t in, int64_t out, double density, sl_dtype dtype) {
	memset(l, 0, sizeof *l);
	l->context = sl_test_context();
	l->in = in;
	l->out = out;
	l->dtype = dtype;
	fill_batch(l);
	l->y = malloc((size_t)(BATCH * out) * sizeof(double));
	l->dy = malloc((size_t)(BATCH * out) * sizeof(double));
	sl_test_fill(l->dy, dtype, BATCH * out, 12);
	l->X = (sl_sparse){.format = SL_SPARSE_CSR,
					   .rows = BATCH,
					   .cols = in,
					   .nnz = (BATCH - 2) * EACH,
					   .offsets = l->offsets,
					   .offset_dtype = SL_I64,
					   .col_indices = l->columns,
					   .index_dtype = SL_I32,
					   .values = l->values,
					   .dtype = dtype};
	l->Y = sl_dense_view(l->y, dtype, BATCH, out);
	l->dY = sl_dense_view(l->dy, dtype, BATCH, out);
	CHECK_OK(l->context,
			 sl_linear_create(&l->layer, l->context,
							  &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = in, .out_features = out,
												   .density = density, .dtype = dtype, .bias = true,
												   .activation = SL_RELU, .sparse_inputs = true, .stream = 4}));
	CHECK_OK(l->context, sl_optimizer_create(&l->optimizer, l->context,
											 &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_MOMENTUM}));
	CHECK_OK(l->context, sl_optimizer_add(l->context, l->optimizer, l->layer));
	CHECK_OK(l->context, sl_saved_create(&l->saved, l->context, l->layer, BATCH));
	CHECK_OK(l->context, sl_layer_forward_sparse(l->context, l->layer, &l->X, &l->Y, l->saved));
	CHECK_OK(l->context, sl_layer_backward(l->context, l->layer, l->saved, &l->dY, NULL, SL_OVERWRITE));
}

static void destroy(one_layer *l) {
	sl_saved_destroy(l->saved);
	sl_optimizer_destroy(l->optimizer);
	sl_layer_destroy(l->layer);
	sl_context_destroy(l->context);
	free(l->y);
	free(l->dy);
}

/* [in, out], NaN where there is no weight. */
static double *take_copy(const one_layer *l) {
	sl_parameter p = {.struct_size = sizeof p};
	sl_pattern_arrays a;
	double *dense = malloc((size_t)(l->in * l->out) * sizeof *dense);
	CHECK_OK(l->context, sl_layer_parameter(l->context, l->layer, 0, &p));
	CHECK_OK(l->context, sl_pattern_get(l->context, p.pattern, &a));
	CHECK(a.rows == l->in && a.cols == l->out);
	for (int64_t i = 0; i < l->in * l->out; i++)
		dense[i] = NAN;
	for (int64_t r = 0; r < a.rows; r++)
		for (int64_t k = ((const int32_t *)a.row_offsets)[r]; k < ((const int32_t *)a.row_offsets)[r + 1]; k++)
			dense[r * a.cols + a.col_indices[k]] = number(p.value, p.dtype, k);
	return dense;
}

/* |dL/dW| in double, -1 for features that do not occur. */
static double *dense_gradient(const one_layer *l) {
	double *g = calloc((size_t)(l->in * l->out), sizeof *g);
	bool *occurs = calloc((size_t)l->in, sizeof *occurs);
	for (int64_t r = 0; r < BATCH; r++)
		for (int64_t i = l->offsets[r]; i < l->offsets[r + 1]; i++) {
			occurs[l->columns[i]] = true;
			for (int64_t o = 0; o < l->out; o++)
				if (number(l->y, l->dtype, r * l->out + o) > 0)
					g[l->columns[i] * l->out + o] +=
						number(l->values, l->dtype, i) * number(l->dy, l->dtype, r * l->out + o);
		}
	for (int64_t i = 0; i < l->in * l->out; i++)
		g[i] = occurs[i / l->out] ? fabs(g[i]) : -1;
	free(occurs);
	return g;
}

static int descending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x < y) - (x > y);
}

/* What may be grown where a neuron gains at most `limit`, best first; `least` receives the worst of each neuron. */
static int64_t best_missing(const one_layer *l, const double *before, const double *g, int64_t limit, double *best,
							double *least) {
	int64_t count = 0;
	for (int64_t o = 0; o < l->out; o++) {
		int64_t first = count;
		for (int64_t f = 0; f < l->in; f++)
			if (isnan(before[f * l->out + o]) && g[f * l->out + o] >= 0)
				best[count++] = g[f * l->out + o];
		qsort(best + first, (size_t)(count - first), sizeof *best, descending);
		count = count - first > limit ? first + limit : count;
		least[o] = count > first ? best[count - 1] : INFINITY;
	}
	qsort(best, (size_t)count, sizeof *best, descending);
	return count;
}

static void regrow_and_check(one_layer *l, double drop, double spread) {
	double *before = take_copy(l), *g = dense_gradient(l), *best = malloc((size_t)(l->in * l->out) * sizeof *best);
	double *least = malloc((size_t)l->out * sizeof *least);
	int64_t nnz = 0, moved, limit = l->in;
	for (int64_t i = 0; i < l->in * l->out; i++)
		nnz += !isnan(before[i]);
	int64_t wanted = llround(drop * (double)nnz), missing = l->in * l->out - nnz;
	wanted = wanted < missing ? wanted : missing;
	if (isfinite(spread))
		limit = (int64_t)ceil(spread * (double)wanted / (double)l->out);
	CHECK_OK(l->context, sl_layer_regrow(l->context, l->layer,
										 &(sl_regrow_options){SL_REGROW_DEFAULTS, .drop = drop, .saved = l->saved,
															  .dY = &l->dY, .spread = spread},
										 l->optimizer, &moved));
	double *after = take_copy(l);
	int64_t count = best_missing(l, before, g, limit, best, least), dropped = 0, grown = 0;
	CHECK_EQ(moved, wanted < count ? wanted : count);
	/* Sums of the library are within entries * eps * sum |x||dz| of the exact. */
	double bound = 2 * (double)(BATCH * EACH) * EACH * (l->dtype == SL_F32 ? 0x1p-24 : 0x1p-53);
	for (int64_t o = 0; o < l->out; o++) {
		int64_t gained = 0;
		for (int64_t i = o; i < l->in * l->out; i += l->out) {
			bool was = !isnan(before[i]), is = !isnan(after[i]);
			dropped += was && !is;
			if (was && is)
				CHECK(before[i] == after[i]);
			if (was || !is)
				continue;
			gained++;
			CHECK(after[i] == 0 && g[i] >= best[moved - 1] - bound && g[i] >= least[o] - bound);
		}
		CHECK(gained <= limit);
		grown += gained;
	}
	CHECK(dropped == moved && grown == moved);
	free(before);
	free(after);
	free(g);
	free(best);
	free(least);
	/* And it still trains, in its new pattern. */
	CHECK_OK(l->context, sl_layer_forward_sparse(l->context, l->layer, &l->X, &l->Y, l->saved));
	CHECK_OK(l->context, sl_layer_backward(l->context, l->layer, l->saved, &l->dY, NULL, SL_OVERWRITE));
	CHECK_OK(l->context, sl_optimizer_step(l->context, l->optimizer));
}

SL_TEST(sparse_growth, takes_the_largest) {
	static const struct {
		int64_t in, out;
		double density;
	} shapes[] = {{1, 1, 1}, {9, 1, 0.5}, {5, 40, 0.3}, {300, 33, 0.1}, {3000, 65, 0.02}, {20, 20, 0.95}};
	static const double spreads[] = {1, 1.5, INFINITY}, drops[] = {0.3, 1};
	one_layer l;
	for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
		for (int dtype = SL_F32; dtype <= SL_F64; dtype++)
			for (int k = 0; k < 6; k++) {
				make(&l, shapes[s].in, shapes[s].out, shapes[s].density, (sl_dtype)dtype);
				regrow_and_check(&l, drops[k / 3], spreads[k % 3]);
				destroy(&l);
			}
}

SL_TEST(sparse_growth, refuses) {
	one_layer l;
	make(&l, 30, 8, 0.25, SL_F32);
	sl_regrow_options o = {SL_REGROW_DEFAULTS, .saved = l.saved, .dY = &l.dY, .m = 4};
	CHECK_STATUS(l.context, sl_layer_regrow(l.context, l.layer, &o, NULL, NULL), SL_ERR_UNSUPPORTED, "no m");
	for (int i = 0; i < 8; i++) /* of all outputs of the first sample, some of which are above 0 */
		((float *)l.dy)[i] = NAN;
	o.m = 0;
	o.drop = 1;
	CHECK_STATUS(l.context, sl_layer_regrow(l.context, l.layer, &o, NULL, NULL), SL_ERR_NONFINITE, "NaN");
	destroy(&l);
}

/* ---- Schedules ---- */

enum { FEATURES = 200, HIDDEN = 24, CLASSES = 3, SAMPLES = 90 };

typedef struct net {
	sl_context *context;
	sl_model *model;
	sl_optimizer *optimizer;
} net;

static int64_t starts[SAMPLES + 1];
static int32_t words[SAMPLES * EACH], classes[SAMPLES];

static sl_samples samples(sl_sparse *inputs) {
	uint64_t state = 3;
	for (int i = 0; i < SAMPLES; i++) {
		starts[i] = i * EACH;
		classes[i] = i % CLASSES;
		for (int k = 0; k < EACH; k++) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			int32_t word = (int32_t)((state >> 33) % FEATURES);
			words[i * EACH + k] = k % 2 ? word : word / CLASSES * CLASSES % (FEATURES - CLASSES) + classes[i];
		}
	}
	starts[SAMPLES] = SAMPLES * EACH;
	*inputs = (sl_sparse){.format = SL_SPARSE_CSR,
						  .rows = SAMPLES,
						  .cols = FEATURES,
						  .nnz = SAMPLES * EACH,
						  .offsets = starts,
						  .offset_dtype = SL_I64,
						  .col_indices = words,
						  .index_dtype = SL_I32};
	return (sl_samples){SL_SAMPLES_DEFAULTS, .sparse_inputs = inputs, .labels = classes};
}

static net make_net(int threads, sl_budget budget, int n_of_4) {
	net n;
	const int64_t sizes[] = {FEATURES, HIDDEN, HIDDEN, CLASSES};
	CHECK(sl_context_create(&n.context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .seed = 9,
															  .threads = threads}) == SL_OK);
	CHECK_OK(n.context, sl_model_create(&n.model, n.context));
	for (int i = 0; i < 3; i++) {
		sl_layer *layer;
		sl_pattern *pattern = NULL;
		bool by_feature = i == 0;
		if (n_of_4 && i < 2)
			CHECK_OK(n.context, sl_pattern_n_m(&pattern, n.context, sizes[by_feature ? i : i + 1],
											   sizes[by_feature ? i + 1 : i], n_of_4, 4, (uint64_t)i));
		CHECK_OK(n.context,
				 sl_linear_create(&layer, n.context,
								  &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = sizes[i],
													   .out_features = sizes[i + 1], .dense = i == 2,
													   .density = i == 2 || pattern ? 1 : 0.2, .pattern = pattern,
													   .bias = true, .activation = i < 2 ? SL_RELU : SL_IDENTITY,
													   .sparse_inputs = i == 0, .stream = (uint64_t)i + 1}));
		sl_pattern_release(pattern);
		CHECK_OK(n.context, sl_model_add(n.context, n.model, layer));
	}
	CHECK_OK(n.context, sl_optimizer_create(&n.optimizer, n.context,
											&(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM,
																	.learning_rate = 0.01, .lazy = true}));
	CHECK_OK(n.context, sl_model_add_to_optimizer(n.context, n.model, n.optimizer));
	CHECK_OK(n.context, sl_model_set_sparsity(n.context, n.model,
											  &(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = SL_SPARSE_RIGL,
																	 .interval = 4, .end = 40, .budget = budget,
																	 .n = n_of_4, .m = n_of_4 ? 4 : 0}));
	return n;
}

static void destroy_net(net *n) {
	sl_optimizer_destroy(n->optimizer);
	sl_model_destroy(n->model);
	sl_context_destroy(n->context);
}

static void fit(net *n, int64_t first, int64_t epochs) {
	sl_sparse inputs;
	sl_samples s = samples(&inputs);
	CHECK_OK(n->context,
			 sl_model_fit(n->context, n->model, n->optimizer, &s,
						  &(sl_fit_options){SL_FIT_DEFAULTS, .epochs = epochs, .first_epoch = first, .batch = 10}));
}

static uint64_t fingerprint(const net *n) {
	uint64_t sum = 0;
	for (int i = 0; i < sl_model_layer_count(n->model); i++) {
		sl_parameter w = {.struct_size = sizeof w};
		uint64_t hash = 1;
		CHECK_OK(n->context, sl_layer_parameter(n->context, sl_model_layer(n->model, i), 0, &w));
		if (w.pattern)
			CHECK_OK(n->context, sl_pattern_hash(n->context, w.pattern, &hash));
		for (int64_t k = 0; k < w.count; k++)
			hash = (hash ^ ((const uint32_t *)w.value)[k]) * 0x100000001b3u;
		sum = sum * 31 + hash;
	}
	return sum;
}

SL_TEST(sparse_growth, schedules_go_on_as_they_were) {
	for (int budget = SL_BUDGET_LAYER; budget <= SL_BUDGET_GLOBAL; budget++) {
		uint64_t whole = 0;
		char path[] = "/tmp/sl-sparse-growth-XXXXXX";
		int file = mkstemp(path);
		CHECK(file >= 0);
		for (int threads = 1; threads <= 3; threads++) {
			net n = make_net(threads, (sl_budget)budget, 0);
			sl_sparsity_info info = {.struct_size = sizeof info};
			CHECK_OK(n.context, sl_model_get_sparsity(n.context, n.model, &info));
			CHECK_EQ(info.layers, 2);
			int64_t before = info.nonzeros;
			uint64_t at_first = fingerprint(&n);
			fit(&n, 0, 2);
			CHECK_OK(n.context, sl_model_save(n.context, n.model, n.optimizer, NULL, path));
			fit(&n, 2, 5);
			CHECK_OK(n.context, sl_model_get_sparsity(n.context, n.model, &info));
			CHECK(info.edits == 10 && info.nonzeros == before);
			CHECK(fingerprint(&n) != at_first);
			CHECK(!whole || whole == fingerprint(&n));
			whole = fingerprint(&n);
			/* From the file, in the middle between two edits. */
			net again = {n.context, NULL, NULL};
			CHECK_OK(n.context, sl_model_load(&again.model, &again.optimizer, NULL, n.context, path, NULL));
			fit(&again, 2, 5);
			CHECK(whole == fingerprint(&again));
			sl_optimizer_destroy(again.optimizer);
			sl_model_destroy(again.model);
			destroy_net(&n);
		}
		close(file);
		remove(path);
	}
	/* N:M structure: growth by gradients is for the layer of dense inputs alone. */
	net n = make_net(1, SL_BUDGET_LAYER, 1);
	sl_sparsity_info info = {.struct_size = sizeof info};
	CHECK_OK(n.context, sl_model_get_sparsity(n.context, n.model, &info));
	CHECK_EQ(info.layers, 1);
	fit(&n, 0, 2);
	destroy_net(&n);
}
