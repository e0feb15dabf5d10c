/* SPDX-License-Identifier: Apache-2.0 */
/* N:M structure through pruning and edits: groups are counted, and what goes and comes is compared with sorted copies
 * in double. */
#include "support/check.h"

enum { IN = 37, OUT = 20, BATCH = 9, CELLS = IN * OUT };

typedef struct one {
	sl_context *context;
	sl_model *model;
	sl_layer *layer;
	sl_optimizer *optimizer;
	double x[BATCH * IN], dy[BATCH * OUT];
	int32_t labels[BATCH];
} one;

/* One layer of n:m (n 0: dense), f64, without an activation: its gradient is dYᵀ X. */
static void make(one *o, int n, int m) {
	sl_pattern *pattern = NULL;
	o->context = sl_test_context();
	sl_test_fill(o->x, SL_F64, BATCH * IN, 21);
	sl_test_fill(o->dy, SL_F64, BATCH * OUT, 22);
	for (int i = 0; i < BATCH; i++)
		o->labels[i] = i % OUT;
	if (n)
		CHECK_OK(o->context, sl_pattern_n_m(&pattern, o->context, OUT, IN, n, m, 5));
	CHECK_OK(o->context, sl_model_create(&o->model, o->context));
	CHECK_OK(o->context, sl_linear_create(&o->layer, o->context,
										  &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = IN,
															   .out_features = OUT, .pattern = pattern, .dense = !n,
															   .dtype = SL_F64, .bias = true, .stream = 3}));
	CHECK_OK(o->context, sl_model_add(o->context, o->model, o->layer));
	CHECK_OK(o->context, sl_optimizer_create(
							 &o->optimizer, o->context,
							 &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = 0.01}));
	CHECK_OK(o->context, sl_model_add_to_optimizer(o->context, o->model, o->optimizer));
	sl_pattern_release(pattern);
}

static void destroy(one *o) {
	sl_optimizer_destroy(o->optimizer);
	sl_model_destroy(o->model);
	sl_context_destroy(o->context);
}

/* The weights written out, NaN where there is none. */
static void copy_weights(const one *o, double *dense) {
	sl_parameter p = {.struct_size = sizeof p};
	sl_pattern_arrays a;
	CHECK_OK(o->context, sl_layer_parameter(o->context, o->layer, 0, &p));
	for (int i = 0; i < CELLS; i++)
		dense[i] = p.pattern ? NAN : ((const double *)p.value)[i];
	if (!p.pattern)
		return;
	CHECK_OK(o->context, sl_pattern_get(o->context, p.pattern, &a));
	for (int r = 0; r < OUT; r++)
		for (int64_t k = ((const int32_t *)a.row_offsets)[r]; k < ((const int32_t *)a.row_offsets)[r + 1]; k++)
			dense[r * IN + a.col_indices[k]] = ((const double *)p.value)[k];
}

static int width_at(int begin, int m) {
	return IN - begin < m ? IN - begin : m;
}

static int count_in(const double *dense, int row, int begin, int m) {
	int count = 0;
	for (int c = begin; c < begin + width_at(begin, m); c++)
		count += !isnan(dense[row * IN + c]);
	return count;
}

static void check_counts(const double *before, const double *after, int m) {
	for (int r = 0; r < OUT; r++)
		for (int begin = 0; begin < IN; begin += m)
			CHECK_EQ(count_in(after, r, begin, m), count_in(before, r, begin, m));
}

/* Whether a weight had to stay: a group gives no more than it has room for. */
static bool had_to_stay(const double *dense, int row, int begin, int m, int cell) {
	int width = width_at(begin, m), count = count_in(dense, row, begin, m), stay = 2 * count - width, larger = 0;
	for (int c = begin; c < begin + width; c++)
		larger += fabs(dense[row * IN + c]) > fabs(dense[cell]);
	return larger < stay;
}

/* What went is the smallest of what may go; what came is 0 and, with a gradient, the best of its group. */
static void check_moves(const double *before, const double *after, const double *g, int m, int64_t moved) {
	double largest_gone = 0, smallest_kept = INFINITY;
	int64_t gone = 0, came = 0;
	for (int r = 0; r < OUT; r++)
		for (int begin = 0; begin < IN; begin += m) {
			double least_new = INFINITY, best_left = -1;
			for (int i = r * IN + begin; i < r * IN + begin + width_at(begin, m); i++) {
				bool was = !isnan(before[i]), is = !isnan(after[i]);
				if (was && is) {
					CHECK(after[i] == before[i]);
					if (!had_to_stay(before, r, begin, m, i))
						smallest_kept = fabs(before[i]) < smallest_kept ? fabs(before[i]) : smallest_kept;
				} else if (was) {
					gone++;
					largest_gone = fabs(before[i]) > largest_gone ? fabs(before[i]) : largest_gone;
				} else if (is) {
					came++;
					CHECK(after[i] == 0);
					least_new = g && fabs(g[i]) < least_new ? fabs(g[i]) : least_new;
				} else {
					best_left = g && fabs(g[i]) > best_left ? fabs(g[i]) : best_left;
				}
			}
			CHECK(!g || best_left <= least_new + 1e-12);
		}
	CHECK(largest_gone <= smallest_kept);
	CHECK_EQ(gone, moved);
	CHECK_EQ(came, moved);
}

static const int ratios[][2] = {{2, 4}, {1, 4}, {3, 4}, {4, 4}, {3, 8}, {1, 1}, {5, 37}, {4, 64}};
enum { RATIOS = sizeof ratios / sizeof *ratios };

SL_TEST(neighbours, regrow_keeps_the_number_of_each_group) {
	static double before[CELLS], after[CELLS], g[CELLS], y[BATCH * OUT];
	for (int i = 0; i < RATIOS; i++)
		for (int kind = 0; kind < 4; kind++) {
			one o;
			int n = ratios[i][0], m = ratios[i][1];
			int64_t moved;
			sl_saved *saved;
			make(&o, n, m);
			sl_dense X = sl_dense_view(o.x, SL_F64, BATCH, IN), dY = sl_dense_view(o.dy, SL_F64, BATCH, OUT);
			sl_dense Y = sl_dense_view(y, SL_F64, BATCH, OUT);
			CHECK_OK(o.context, sl_saved_create(&saved, o.context, o.layer, BATCH));
			CHECK_OK(o.context, sl_layer_forward(o.context, o.layer, &X, &Y, saved));
			for (int r = 0; r < OUT; r++)
				for (int c = 0; c < IN; c++) {
					g[r * IN + c] = 0;
					for (int b = 0; b < BATCH; b++)
						g[r * IN + c] += o.dy[b * OUT + r] * o.x[b * IN + c];
				}
			copy_weights(&o, before);
			bool gradient = kind % 2;
			sl_regrow_options options = {SL_REGROW_DEFAULTS, .drop = kind < 2 ? 0.3 : 1, .m = m, .stream = 8};
			if (gradient) {
				options.saved = saved;
				options.dY = &dY;
			}
			CHECK_OK(o.context, sl_layer_regrow(o.context, o.layer, &options, o.optimizer, &moved));
			copy_weights(&o, after);
			check_counts(before, after, m);
			check_moves(before, after, gradient ? g : NULL, m, moved);
			CHECK((moved > 0) == (n < m)); /* 4:64 and 5:37 have room at the end too */
			sl_saved_destroy(saved);
			destroy(&o);
		}
}

/* A step with the count of its edit. */
static void step(one *o, sl_sparsity_edit *edit) {
	sl_dense X = sl_dense_view(o->x, SL_F64, BATCH, IN);
	sl_loss_result result;
	edit->struct_size = sizeof *edit;
	CHECK_OK(o->context, sl_model_train_batch(o->context, o->model, SL_SOFTMAX_CROSS_ENTROPY, &X,
											  &(sl_targets){.labels = o->labels}, SL_OVERWRITE, &result));
	CHECK_OK(o->context, sl_optimizer_step(o->context, o->optimizer));
	CHECK_OK(o->context, sl_model_sparsity_step(o->context, o->model, o->optimizer, edit));
}

SL_TEST(neighbours, schedules_move_weights_within_their_groups) {
	static double before[CELLS], after[CELLS], again[CELLS];
	for (int method = SL_SPARSE_SET; method <= SL_SPARSE_RIGL; method++)
		for (int budget = SL_BUDGET_LAYER; budget <= SL_BUDGET_GLOBAL; budget++) {
			for (int turn = 0; turn < 2; turn++) { /* the same each time */
				one o;
				sl_sparsity_edit edit;
				int64_t edits = 0;
				make(&o, 2, 4);
				CHECK_OK(o.context, sl_model_set_sparsity(
										o.context, o.model,
										&(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = (sl_sparse_method)method,
															   .budget = (sl_budget)budget, .interval = 3, .end = 30,
															   .n = 2, .m = 4}));
				copy_weights(&o, before);
				for (int s = 0; s < 12; s++) {
					step(&o, &edit);
					CHECK_EQ(edit.dropped, edit.grown);
					CHECK((edit.dropped > 0) == edit.edited);
					copy_weights(&o, after);
					check_counts(before, after, 4);
					edits += edit.edited;
				}
				CHECK_EQ(edits, 4);
				CHECK(!turn || !memcmp(after, again, sizeof after));
				memcpy(again, after, sizeof again);
				destroy(&o);
			}
		}
}

static int descending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x < y) - (x > y);
}

/* Of each group the n largest are left. */
static void check_pruned(const double *before, const double *after, int n, int m) {
	for (int r = 0; r < OUT; r++)
		for (int begin = 0; begin < IN; begin += m) {
			double sizes[IN];
			int width = width_at(begin, m);
			for (int c = 0; c < width; c++)
				sizes[c] = fabs(before[r * IN + begin + c]);
			qsort(sizes, (size_t)width, sizeof *sizes, descending);
			CHECK_EQ(count_in(after, r, begin, m), n < width ? n : width);
			for (int c = begin; c < begin + width; c++)
				if (!isnan(after[r * IN + c]))
					CHECK(after[r * IN + c] == before[r * IN + c] &&
						  fabs(after[r * IN + c]) >= sizes[(n < width ? n : width) - 1]);
		}
}

SL_TEST(neighbours, pruning_leaves_the_largest_of_each_group) {
	static double before[CELLS], after[CELLS];
	for (int i = 0; i < RATIOS; i++)
		for (int gradually = 0; gradually < 2; gradually++) {
			one o;
			sl_sparsity_edit edit;
			int n = ratios[i][0], m = ratios[i][1];
			make(&o, 0, 0);
			copy_weights(&o, before);
			if (gradually) {
				CHECK_OK(o.context,
						 sl_model_set_sparsity(o.context, o.model,
											   &(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = SL_SPARSE_GMP,
																	  .interval = 1, .end = 5, .n = n, .m = m}));
				edit.struct_size = sizeof edit;
				for (int s = 0; s < 5; s++) /* without steps between: weights stay what they were */
					CHECK_OK(o.context, sl_model_sparsity_step(o.context, o.model, o.optimizer, &edit));
			} else {
				CHECK_OK(o.context,
						 sl_model_prune(o.context, o.model, &(sl_prune_options){SL_PRUNE_DEFAULTS, .n = n, .m = m},
										o.optimizer, NULL));
			}
			copy_weights(&o, after);
			check_pruned(before, after, n, m);
			destroy(&o);
		}
}

SL_TEST(neighbours, l1_leaves_zeros_that_a_group_needs) {
	static double after[CELLS];
	one o;
	sl_sparsity_edit edit = {.struct_size = sizeof edit};
	sl_parameter p = {.struct_size = sizeof p};
	make(&o, 0, 0);
	CHECK_OK(o.context, sl_layer_parameter(o.context, o.layer, 0, &p));
	for (int i = 0; i < CELLS; i++) /* the first rows are all zero, of the others every third */
		if (i < 5 * IN || i % 3 == 0)
			((double *)p.value)[i] = 0;
	CHECK_OK(o.context, sl_model_set_sparsity(o.context, o.model,
											  &(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = SL_SPARSE_L1,
																	 .interval = 1, .end = 5, .n = 2, .m = 4}));
	CHECK_OK(o.context, sl_model_sparsity_step(o.context, o.model, o.optimizer, &edit));
	copy_weights(&o, after);
	for (int r = 0; r < OUT; r++)
		for (int begin = 0; begin < IN; begin += 4) {
			int width = width_at(begin, 4), numbers = 0;
			for (int i = r * IN + begin; i < r * IN + begin + width; i++)
				numbers += !(i < 5 * IN || i % 3 == 0);
			int stay = numbers > 2 ? numbers : 2;
			CHECK_EQ(count_in(after, r, begin, 4), stay < width ? stay : width);
		}
	destroy(&o);
}

SL_TEST(neighbours, refusals) {
	one o;
	int64_t moved;
	make(&o, 3, 4);
	sl_sparsity_options set = {SL_SPARSITY_DEFAULTS, .method = SL_SPARSE_SET, .end = 5, .n = 2, .m = 4};
	CHECK_STATUS(o.context, sl_model_set_sparsity(o.context, o.model, &set), SL_ERR_STATE,
				 "is not 2:4: row 0 has 3 weights in columns 0 to 3");
	set.n = 5;
	CHECK_STATUS(o.context, sl_model_set_sparsity(o.context, o.model, &set), SL_ERR_ARGUMENT, "n:m is 5:4");
	set.n = -1;
	CHECK_STATUS(o.context, sl_model_set_sparsity(o.context, o.model, &set), SL_ERR_ARGUMENT, "n:m is -1:4");
	set.n = 0;
	CHECK_STATUS(o.context, sl_model_set_sparsity(o.context, o.model, &set), SL_ERR_ARGUMENT, "n:m is 0:4");
	set =
		(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = SL_SPARSE_GMP, .end = 5, .n = 2, .m = 4, .density = 0.1};
	CHECK_STATUS(o.context, sl_model_set_sparsity(o.context, o.model, &set), SL_ERR_ARGUMENT, "is a density");
	CHECK_STATUS(
		o.context,
		sl_model_prune(o.context, o.model, &(sl_prune_options){SL_PRUNE_DEFAULTS, .n = 3, .m = 2}, o.optimizer, NULL),
		SL_ERR_ARGUMENT, "n:m is 3:2");
	CHECK_STATUS(o.context,
				 sl_model_prune(o.context, o.model,
								&(sl_prune_options){SL_PRUNE_DEFAULTS, .n = 1, .m = 2, .density = 0.5}, o.optimizer,
								NULL),
				 SL_ERR_ARGUMENT, "give no density");
	CHECK_STATUS(
		o.context,
		sl_layer_regrow(o.context, o.layer, &(sl_regrow_options){SL_REGROW_DEFAULTS, .m = -4}, o.optimizer, &moved),
		SL_ERR_ARGUMENT, "m is -4");
	/* A weight that is NaN has no rank, protected or not. */
	((double *)sl_csr_values(sl_layer_weights(o.layer)))[7] = NAN;
	CHECK_STATUS(
		o.context,
		sl_layer_regrow(o.context, o.layer, &(sl_regrow_options){SL_REGROW_DEFAULTS, .m = 4}, o.optimizer, &moved),
		SL_ERR_NONFINITE, "entry 7");
	destroy(&o);
}
