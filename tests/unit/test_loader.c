/* SPDX-License-Identifier: Apache-2.0 */
/* The loader: each sample once an epoch, views of the rows they claim to be, the same batches with and without a
 * thread, after a seek and in a forked child; and that a loop over it is sl_model_fit(). Splits and class weights. */
#include <sys/wait.h>
#include <unistd.h>

#include "support/check.h"

enum { ROWS = 103, COLS = 40, BATCH = 10 };

typedef struct set {
	sl_context *context;
	sl_pattern *pattern;
	sl_csr *csr;
	sl_sparse inputs;
	int32_t labels[ROWS];
} set;

static set make_set(uint64_t seed, int threads) {
	set s = {0};
	sl_context_options o = {SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = threads, .seed = seed};
	CHECK_EQ(sl_context_create(&s.context, &o), SL_OK);
	CHECK_OK(s.context, sl_pattern_random(&s.pattern, s.context, ROWS, COLS, 0.1, 7));
	CHECK_OK(s.context, sl_csr_create_pattern(&s.csr, s.context, s.pattern, SL_F32));
	s.inputs = sl_sparse_from_csr(s.csr);
	sl_test_fill(sl_csr_values(s.csr), SL_F32, s.inputs.nnz, 3);
	for (int i = 0; i < ROWS; i++)
		s.labels[i] = i % 7 < 4 ? 0 : i % 3;
	return s;
}

static void drop_set(set *s) {
	sl_csr_destroy(s->csr);
	sl_pattern_release(s->pattern);
	sl_context_destroy(s->context);
}

static sl_batch next(const set *s, sl_loader *l) {
	sl_batch b = {.struct_size = sizeof b};
	CHECK_OK(s->context, sl_loader_next(s->context, l, &b));
	return b;
}

/* The views are the rows that the batch names. */
static void check_batch(const set *s, const sl_batch *b) {
	const int32_t *offsets = s->inputs.offsets;
	CHECK_OK(s->context, sl_sparse_check(s->context, &b->inputs));
	CHECK_EQ(b->inputs.rows, b->count);
	CHECK(b->inputs.col_indices == s->inputs.col_indices && b->inputs.values == s->inputs.values);
	for (int64_t i = 0; i < b->count; i++) {
		int64_t row = b->rows[i];
		CHECK_EQ(((const int64_t *)b->inputs.offsets)[i], offsets[row]);
		CHECK_EQ(((const int64_t *)b->inputs.ends)[i], offsets[row + 1]);
		CHECK(!b->labels || b->labels[i] == s->labels[row]);
	}
}

/* The samples of an epoch in their order. */
static int64_t take_epoch(const set *s, sl_loader *l, int64_t *order, int64_t epoch) {
	int64_t n = 0;
	for (;;) {
		sl_batch b = next(s, l);
		if (!b.count)
			return n;
		CHECK_EQ(b.epoch, epoch);
		CHECK_EQ(b.first, n);
		check_batch(s, &b);
		for (int64_t i = 0; i < b.count; i++)
			order[n++] = b.rows[i];
	}
}

static void check_each_once(const int64_t *order, int64_t n, const int64_t *wanted, int64_t count) {
	int seen[ROWS] = {0};
	CHECK_EQ(n, count);
	for (int64_t i = 0; i < n; i++)
		seen[order[i]]++;
	for (int64_t i = 0; i < count; i++)
		CHECK_EQ(seen[wanted ? wanted[i] : i], 1);
}

SL_TEST(loader, each_sample_once_an_epoch_and_the_same_with_a_thread) {
	int64_t first[4][ROWS], order[ROWS];
	for (int prefetch = 0; prefetch <= 6; prefetch += 3) {
		set s = make_set(1, 2);
		sl_loader *l;
		sl_loader_options o = {SL_LOADER_DEFAULTS, .batch = BATCH, .labels = s.labels, .prefetch = prefetch};
		CHECK_OK(s.context, sl_loader_create(&l, s.context, &s.inputs, &o));
		sl_memory_usage before = {.struct_size = sizeof before}, after = before;
		CHECK_OK(s.context, sl_context_memory(s.context, &before));
		for (int epoch = 0; epoch < 4; epoch++) {
			check_each_once(order, take_epoch(&s, l, order, epoch), NULL, ROWS);
			if (prefetch == 0)
				memcpy(first[epoch], order, sizeof order);
			CHECK(!memcmp(first[epoch], order, sizeof order));
			CHECK(epoch == 0 || memcmp(first[epoch - 1], order, sizeof order));
		}
		CHECK_OK(s.context, sl_context_memory(s.context, &after));
		CHECK_EQ(before.allocations, after.allocations);
		sl_loader_destroy(l);
		/* Another stream, another order. */
		o.stream = 1;
		CHECK_OK(s.context, sl_loader_create(&l, s.context, &s.inputs, &o));
		take_epoch(&s, l, order, 0);
		CHECK(memcmp(first[0], order, sizeof order));
		sl_loader_destroy(l);
		drop_set(&s);
	}
}

SL_TEST(loader, goes_on_where_it_is_told_to) {
	for (int prefetch = 0; prefetch < 4; prefetch++) {
		set s = make_set(5, 1);
		sl_loader *l, *again;
		sl_loader_options o = {SL_LOADER_DEFAULTS, .batch = BATCH, .prefetch = prefetch};
		CHECK_OK(s.context, sl_loader_create(&l, s.context, &s.inputs, &o));
		for (int steps = 0; steps < 30; steps++) {
			sl_batch b = next(&s, l);
			int64_t epoch = b.epoch + (b.count == 0), at = b.count ? b.first + b.count : 0;
			CHECK_OK(s.context, sl_loader_create(&again, s.context, &s.inputs, &o));
			CHECK_OK(s.context, sl_loader_seek(s.context, again, epoch, at));
			int64_t rows[2][BATCH], counts[2];
			for (int i = 0; i < 2; i++) {
				sl_batch c = next(&s, again);
				counts[i] = c.count;
				if (c.count)
					memcpy(rows[i], c.rows, (size_t)c.count * sizeof *c.rows);
			}
			/* Back and forth in the loader itself. */
			CHECK_OK(s.context, sl_loader_seek(s.context, l, 0, 0));
			next(&s, l);
			CHECK_OK(s.context, sl_loader_seek(s.context, l, epoch, at));
			for (int i = 0; i < 2; i++) {
				b = next(&s, l);
				CHECK_EQ(b.count, counts[i]);
				CHECK(!b.count || !memcmp(b.rows, rows[i], (size_t)b.count * sizeof *b.rows));
			}
			sl_loader_destroy(again);
		}
		CHECK_EQ(sl_loader_seek(s.context, l, 0, 3), SL_ERR_ARGUMENT);
		CHECK_EQ(sl_loader_seek(s.context, l, -1, 0), SL_ERR_ARGUMENT);
		CHECK_EQ(sl_loader_seek(s.context, l, 0, ROWS + 7), SL_ERR_ARGUMENT);
		CHECK_OK(s.context, sl_loader_seek(s.context, l, 2, ROWS));
		CHECK_EQ(next(&s, l).count, 0);
		sl_loader_destroy(l);
		drop_set(&s);
	}
}

SL_TEST(loader, subsets_order_and_whole_batches) {
	set s = make_set(2, 1);
	int64_t subset[25], order[ROWS];
	for (int i = 0; i < 25; i++)
		subset[i] = (i * 37 + 5) % ROWS;
	sl_loader *l;
	sl_loader_options o = {SL_LOADER_DEFAULTS, .batch = BATCH, .subset = subset, .subset_count = 25, .prefetch = 2};
	CHECK_OK(s.context, sl_loader_create(&l, s.context, &s.inputs, &o));
	check_each_once(order, take_epoch(&s, l, order, 0), subset, 25);
	sl_loader_destroy(l);
	o.keep_order = o.drop_last = true;
	CHECK_OK(s.context, sl_loader_create(&l, s.context, &s.inputs, &o));
	for (int epoch = 0; epoch < 3; epoch++) {
		CHECK_EQ(take_epoch(&s, l, order, epoch), 20);
		CHECK(!memcmp(order, subset, 20 * sizeof *order));
	}
	sl_loader_destroy(l);
	o.batch = 26; /* never whole */
	CHECK_OK(s.context, sl_loader_create(&l, s.context, &s.inputs, &o));
	CHECK_EQ(next(&s, l).count, 0);
	sl_loader_destroy(l);
	o.drop_last = false;
	CHECK_OK(s.context, sl_loader_create(&l, s.context, &s.inputs, &o));
	CHECK_EQ(next(&s, l).count, 25);
	sl_loader_destroy(l);
	o.subset_count = 0; /* nothing */
	CHECK_OK(s.context, sl_loader_create(&l, s.context, &s.inputs, &o));
	CHECK_EQ(next(&s, l).count, 0);
	sl_loader_destroy(l);
	drop_set(&s);
}

SL_TEST(loader, class_weights_are_targets) {
	set s = make_set(2, 1);
	double weights[3], sum = 0;
	CHECK_OK(s.context, sl_class_weights(s.context, s.labels, ROWS, 3, weights));
	int counts[3] = {0};
	for (int i = 0; i < ROWS; i++) {
		counts[s.labels[i]]++;
		sum += weights[s.labels[i]];
	}
	CHECK_NEAR(sum, ROWS, 1e-12 * ROWS);
	for (int c = 0; c < 3; c++)
		CHECK_NEAR(weights[c] * counts[c], ROWS / 3.0, 1e-12 * ROWS);
	sl_loader *l;
	sl_loader_options o = {SL_LOADER_DEFAULTS, .batch = BATCH, .labels = s.labels, .class_weights = weights,
						   .classes = 3};
	CHECK_OK(s.context, sl_loader_create(&l, s.context, &s.inputs, &o));
	for (;;) {
		sl_batch b = next(&s, l);
		if (!b.count)
			break;
		CHECK_OK(s.context, sl_sparse_check(s.context, &b.targets));
		CHECK(b.targets.rows == b.count && b.targets.cols == 3);
		for (int64_t i = 0; i < b.count; i++) {
			int64_t at = ((const int64_t *)b.targets.offsets)[i];
			CHECK_EQ(((const int64_t *)b.targets.ends)[i], at + 1);
			CHECK_EQ(((const int32_t *)b.targets.col_indices)[at], s.labels[b.rows[i]]);
			CHECK(((const float *)b.targets.values)[at] == (float)weights[s.labels[b.rows[i]]]);
		}
	}
	sl_loader_destroy(l);
	s.labels[9] = 3;
	CHECK_EQ(sl_loader_create(&l, s.context, &s.inputs, &o), SL_ERR_ARGUMENT);
	CHECK(!l && strstr(sl_context_message(s.context), "labels[9] is 3"));
	CHECK_EQ(sl_class_weights(s.context, s.labels, ROWS, 3, weights), SL_ERR_ARGUMENT);
	/* A class that does not occur. */
	const int32_t few[] = {0, 0, 2, 2};
	CHECK_OK(s.context, sl_class_weights(s.context, few, 4, 3, weights));
	CHECK(weights[0] == 1 && weights[1] == 0 && weights[2] == 1);
	drop_set(&s);
}

/* A batch's targets make softmax cross-entropy the mean of each row's loss times its class's weight. */
SL_TEST(loader, class_weights_weigh_the_loss) {
	set s = make_set(6, 2);
	const double weights[3] = {0.5, 3, 1.25};
	sl_loader *l;
	sl_loader_options o = {SL_LOADER_DEFAULTS, .batch = BATCH, .labels = s.labels, .class_weights = weights,
						   .classes = 3};
	CHECK_OK(s.context, sl_loader_create(&l, s.context, &s.inputs, &o));
	for (sl_batch b = next(&s, l); b.count; b = next(&s, l)) {
		float scores[BATCH * 3], gradient[BATCH * 3];
		sl_test_fill(scores, SL_F32, b.count * 3, (uint64_t)b.first + 1);
		sl_dense outputs = sl_dense_view(scores, SL_F32, b.count, 3), dx = sl_dense_view(gradient, SL_F32, b.count, 3);
		sl_loss_result result;
		CHECK_OK(s.context, sl_loss_evaluate(s.context, SL_SOFTMAX_CROSS_ENTROPY, &outputs,
											 &(sl_targets){.sparse = &b.targets}, &dx, &result));
		double wanted = 0;
		for (int64_t i = 0; i < b.count; i++) {
			double sum = 0, w = weights[b.labels[i]];
			for (int c = 0; c < 3; c++)
				sum += exp((double)scores[i * 3 + c]);
			wanted += w * (log(sum) - (double)scores[i * 3 + b.labels[i]]) / (double)b.count;
			for (int c = 0; c < 3; c++)
				CHECK_NEAR(gradient[i * 3 + c],
						   w * (exp((double)scores[i * 3 + c]) / sum - (c == b.labels[i])) / (double)b.count, 1e-6);
		}
		CHECK_NEAR(result.loss, wanted, 1e-5);
	}
	sl_loader_destroy(l);
	drop_set(&s);
}

SL_TEST(loader, targets_follow_their_rows) {
	set s = make_set(2, 1);
	sl_loader *l;
	sl_loader_options o = {SL_LOADER_DEFAULTS, .batch = BATCH, .targets = &s.inputs, .prefetch = 2};
	CHECK_OK(s.context, sl_loader_create(&l, s.context, &s.inputs, &o));
	for (sl_batch b = next(&s, l); b.count; b = next(&s, l))
		CHECK(!memcmp(b.targets.offsets, b.inputs.offsets, (size_t)b.count * 8) &&
			  !memcmp(b.targets.ends, b.inputs.ends, (size_t)b.count * 8));
	sl_loader_destroy(l);
	drop_set(&s);
}

SL_TEST(loader, a_forked_child_goes_on) {
	set s = make_set(3, 1);
	sl_loader *l, *alone;
	sl_loader_options o = {SL_LOADER_DEFAULTS, .batch = BATCH, .prefetch = 4};
	CHECK_OK(s.context, sl_loader_create(&l, s.context, &s.inputs, &o));
	o.prefetch = 0;
	CHECK_OK(s.context, sl_loader_create(&alone, s.context, &s.inputs, &o));
	for (int i = 0; i < 7; i++) {
		next(&s, l);
		next(&s, alone);
	}
	pid_t child = fork();
	if (child == 0) {
		bool same = true;
		for (int i = 0; i < 20; i++) {
			sl_batch a = {.struct_size = sizeof a}, b = a;
			same = same && !sl_loader_next(s.context, l, &a) && !sl_loader_next(s.context, alone, &b);
			same = same && a.count == b.count && a.first == b.first &&
				   (!a.count || !memcmp(a.rows, b.rows, (size_t)a.count * 8));
		}
		_exit(same ? 0 : 1);
	}
	int status;
	CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	sl_loader_destroy(l);
	sl_loader_destroy(alone);
	drop_set(&s);
}

static sl_model *make_model(const set *s, sl_optimizer **optimizer) {
	sl_model *model;
	sl_layer *layer;
	CHECK_OK(s->context, sl_model_create(&model, s->context));
	for (int i = 0; i < 2; i++) {
		sl_linear_options o = {SL_LINEAR_DEFAULTS,
							   .in_features = i ? 16 : COLS,
							   .out_features = i ? 3 : 16,
							   .dense = true,
							   .bias = true,
							   .activation = i ? SL_IDENTITY : SL_TANH,
							   .sparse_inputs = !i,
							   .stream = (uint64_t)i};
		CHECK_OK(s->context, sl_linear_create(&layer, s->context, &o));
		CHECK_OK(s->context, sl_model_add(s->context, model, layer));
	}
	CHECK_OK(s->context, sl_optimizer_create(optimizer, s->context,
											 &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM}));
	CHECK_OK(s->context, sl_model_add_to_optimizer(s->context, model, *optimizer));
	return model;
}

SL_TEST(loader, a_loop_over_it_is_fit) {
	set s = make_set(8, 2);
	sl_optimizer *one, *two;
	sl_model *fitted = make_model(&s, &one), *looped = make_model(&s, &two);
	sl_samples samples = {SL_SAMPLES_DEFAULTS, .labels = s.labels, .sparse_inputs = &s.inputs};
	CHECK_OK(s.context, sl_model_fit(s.context, fitted, one, &samples,
									 &(sl_fit_options){SL_FIT_DEFAULTS, .epochs = 3, .batch = BATCH}));
	sl_loader *l;
	sl_loader_options o = {SL_LOADER_DEFAULTS, .batch = BATCH, .labels = s.labels, .prefetch = 2};
	CHECK_OK(s.context, sl_loader_create(&l, s.context, &s.inputs, &o));
	for (;;) {
		sl_batch b = next(&s, l);
		if (b.epoch == 3)
			break;
		if (!b.count)
			continue;
		sl_loss_result result;
		CHECK_OK(s.context, sl_model_train_batch_sparse(s.context, looped, SL_SOFTMAX_CROSS_ENTROPY, &b.inputs,
														&(sl_targets){.labels = b.labels}, SL_OVERWRITE, &result));
		CHECK_OK(s.context, sl_optimizer_step(s.context, two));
	}
	for (int i = 0; i < sl_model_parameter_count(fitted); i++) {
		sl_parameter a = {.struct_size = sizeof a}, b = a;
		CHECK_OK(s.context, sl_model_parameter(s.context, fitted, i, NULL, &a));
		CHECK_OK(s.context, sl_model_parameter(s.context, looped, i, NULL, &b));
		CHECK(a.count == b.count && !memcmp(a.value, b.value, (size_t)a.count * sizeof(float)));
	}
	sl_loader_destroy(l);
	sl_optimizer_destroy(one);
	sl_optimizer_destroy(two);
	sl_model_destroy(fitted);
	sl_model_destroy(looped);
	drop_set(&s);
}

SL_TEST(loader, splits_are_whole_and_keep_proportions) {
	set s = make_set(4, 1);
	int64_t rows[ROWS], again[ROWS], first, count;
	int totals[3] = {0};
	for (int i = 0; i < ROWS; i++)
		totals[s.labels[i]]++;
	for (int step = 0; step <= 10; step++)
		for (int by_class = 0; by_class < 2; by_class++) {
			double fraction = step / 10.0;
			const int32_t *labels = by_class ? s.labels : NULL;
			CHECK_OK(s.context, sl_split(s.context, ROWS, labels, fraction, 1, rows, &first));
			CHECK_EQ(ROWS - first, llround(fraction * ROWS));
			check_each_once(rows, ROWS, NULL, ROWS);
			int second[3] = {0};
			for (int64_t i = 0; i < ROWS; i++) {
				CHECK(i == 0 || i == first || rows[i] > rows[i - 1]);
				second[s.labels[rows[i]]] += i >= first;
			}
			for (int c = 0; c < 3 && by_class; c++)
				CHECK(fabs(second[c] - fraction * totals[c]) < 1);
			CHECK_OK(s.context, sl_split(s.context, ROWS, labels, fraction, 1, again, &count));
			CHECK(count == first && !memcmp(rows, again, sizeof rows));
			CHECK_OK(s.context, sl_split(s.context, ROWS, labels, fraction, 2, again, &count));
			CHECK(step == 0 || step == 10 || memcmp(rows, again, sizeof rows));
		}
	CHECK_EQ(sl_split(s.context, ROWS, NULL, 1.1, 1, rows, &first), SL_ERR_ARGUMENT);
	CHECK_EQ(sl_split(s.context, ROWS, NULL, NAN, 1, rows, &first), SL_ERR_ARGUMENT);
	CHECK_OK(s.context, sl_split(s.context, 0, NULL, 0.5, 1, NULL, &first));
	CHECK_EQ(first, 0);
	drop_set(&s);
}

SL_TEST(loader, what_it_refuses) {
	set s = make_set(1, 1);
	sl_loader *l;
	const int64_t bad[] = {0, ROWS};
	sl_sparse csc = s.inputs, fewer = sl_sparse_slice(s.inputs, 0, 5);
	csc.format = SL_SPARSE_CSC;
	CHECK(sl_loader_create(&l, s.context, &csc, NULL) != SL_OK && !l);
	sl_loader_options o = {SL_LOADER_DEFAULTS, .batch = -1};
	CHECK_EQ(sl_loader_create(&l, s.context, &s.inputs, &o), SL_ERR_ARGUMENT);
	o = (sl_loader_options){SL_LOADER_DEFAULTS, .subset = bad, .subset_count = 2};
	CHECK_EQ(sl_loader_create(&l, s.context, &s.inputs, &o), SL_ERR_ARGUMENT);
	CHECK(strstr(sl_context_message(s.context), "subset[1] is 103"));
	o = (sl_loader_options){SL_LOADER_DEFAULTS, .targets = &fewer};
	CHECK_EQ(sl_loader_create(&l, s.context, &s.inputs, &o), SL_ERR_SHAPE);
	o = (sl_loader_options){SL_LOADER_DEFAULTS, .class_weights = (double[]){1, 1, 1}, .classes = 3};
	CHECK_EQ(sl_loader_create(&l, s.context, &s.inputs, &o), SL_ERR_ARGUMENT);
	CHECK_EQ(sl_loader_create(&l, s.context, NULL, NULL), SL_ERR_NULL);
	CHECK_EQ(sl_loader_create(NULL, s.context, &s.inputs, NULL), SL_ERR_NULL);
	drop_set(&s);
}
