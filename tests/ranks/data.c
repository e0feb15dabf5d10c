/* SPDX-License-Identifier: Apache-2.0 */
/* Files that ranks read by share, against the same files read whole; and training on sparse inputs. */
#include "ranks.h"

/* Bytes that this process has read so far, from files and caches. */
static long long bytes_read(void) {
	char line[128];
	long long n = -1;
	FILE *file = fopen("/proc/self/io", "r");
	while (file && fgets(line, sizeof line, file))
		if (!strncmp(line, "rchar:", 6))
			n = atoll(line + 6);
	if (file)
		fclose(file);
	return n;
}

static int64_t offset(const sl_pattern_arrays *a, int64_t row) {
	return a->offset_dtype == SL_I32 ? ((const int32_t *)a->row_offsets)[row] : ((const int64_t *)a->row_offsets)[row];
}

/* Row `row` of one is row `first + row` of the whole. */
static void compare_rows(const sl_csr *own, const sl_csr *whole, const sl_share *share) {
	sl_pattern_arrays a, b;
	OK(sl_pattern_get(context, sl_csr_pattern(own), &a));
	OK(sl_pattern_get(context, sl_csr_pattern(whole), &b));
	CHECK(a.rows == share->count && b.rows == share->total && a.cols == b.cols);
	size_t bytes = sl_dtype_size(sl_csr_dtype(whole));
	CHECK(sl_csr_dtype(own) == sl_csr_dtype(whole));
	const char *x = sl_csr_values(own), *y = sl_csr_values(whole);
	for (int64_t r = 0; r < a.rows; r++) {
		int64_t i = offset(&a, r), k = offset(&b, share->first + r), n = offset(&a, r + 1) - i;
		CHECK(n == offset(&b, share->first + r + 1) - k);
		CHECK(!n || !memcmp(a.col_indices + i, b.col_indices + k, (size_t)n * sizeof *a.col_indices));
		CHECK(!n || !memcmp(x + (size_t)i * bytes, y + (size_t)k * bytes, (size_t)n * bytes));
	}
}

static void compare_sets(const sl_dataset *own, const sl_dataset *whole, const sl_share *share) {
	sl_dataset_content a = {.struct_size = sizeof a}, b = a;
	OK(sl_dataset_get(context, own, &a));
	OK(sl_dataset_get(context, whole, &b));
	CHECK(a.samples == share->count && b.samples == share->total && a.features == b.features && a.classes == b.classes);
	size_t n = (size_t)a.samples;
	int64_t first = share->first;
	if (a.inputs)
		compare_rows(a.inputs, b.inputs, share);
	CHECK(!a.labels == !b.labels && !a.groups == !b.groups && !a.numbers == !b.numbers && !a.targets == !b.targets);
	if (a.targets)
		compare_rows(a.targets, b.targets, share);
	CHECK(!a.labels || !memcmp(a.labels, b.labels + first, n * sizeof *a.labels));
	CHECK(!a.numbers || !memcmp(a.numbers, b.numbers + first, n * sizeof *a.numbers));
	CHECK(!a.groups || !memcmp(a.groups, b.groups + first, n * sizeof *a.groups));
	CHECK(!a.class_values || !memcmp(a.class_values, b.class_values, (size_t)b.classes * sizeof *b.class_values));
	CHECK(!a.row_ids || !memcmp(a.row_ids, b.row_ids + first, n * sizeof *a.row_ids));
	CHECK(!a.col_ids || !memcmp(a.col_ids, b.col_ids, (size_t)b.features * sizeof *b.col_ids));
}

/* With `limit`: no rank reads more than so many times its part of the file's bytes, and a little. */
static void check_bytes(long long before, const char *path, double limit) {
	FILE *file = fopen(path, "rb");
	CHECK(file && !fseek(file, 0, SEEK_END));
	double size_of_file = (double)ftell(file), read = (double)(bytes_read() - before);
	fclose(file);
	if (before >= 0 && limit > 0 && read > limit * size_of_file / size + 40000) {
		fprintf(stderr, "rank %d of %d read %.0f bytes of %s, which has %.0f\n", rank, size, read, path, size_of_file);
		CHECK(!"by share");
	}
}

static void svmlight(const char *path, sl_label_kind labels, int64_t parts, double limit) {
	sl_share share = {SL_SHARE_DEFAULTS, .comm = comm, .parts = parts};
	sl_dataset *own, *whole, *again;
	sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .labels = labels};
	long long before = bytes_read();
	OK(sl_dataset_read_svmlight_share(&own, context, path, &o, NULL, &share));
	check_bytes(before, path, limit);
	OK(sl_dataset_read_svmlight(&whole, context, path, &o, NULL));
	compare_sets(own, whole, &share);
	o.like = own;
	OK(sl_dataset_read_svmlight_share(&again, context, path, &o, NULL, &share));
	compare_sets(again, whole, &share);
	sl_dataset_destroy(again);
	sl_dataset_destroy(own);
	sl_dataset_destroy(whole);
}

static void ratings(const char *path, int64_t parts) {
	sl_share share = {SL_SHARE_DEFAULTS, .comm = comm, .parts = parts};
	sl_dataset *own, *whole;
	sl_ratings_options o = {SL_RATINGS_DEFAULTS, .min_rating = 2, .duplicates = SL_DUPLICATES_LAST};
	OK(sl_dataset_read_ratings_share(&own, context, path, &o, NULL, &share));
	OK(sl_dataset_read_ratings(&whole, context, path, &o, NULL));
	compare_sets(own, whole, &share);
	sl_dataset_destroy(own);
	o.like = whole;
	CHECK(sl_dataset_read_ratings_share(&own, context, path, &o, NULL, &share) == SL_ERR_UNSUPPORTED && !own);
	sl_dataset_destroy(whole);
}

static void pictures(const char *folder) {
	sl_share share = {SL_SHARE_DEFAULTS, .comm = comm};
	sl_dataset *own, *whole;
	sl_samples a = {SL_SAMPLES_DEFAULTS}, b = a;
	int classes, all;
	OK(sl_dataset_read_mnist_share(&own, context, folder, true, &share));
	OK(sl_dataset_read_mnist(&whole, context, folder, true));
	OK(sl_dataset_samples(context, own, &a, &classes));
	OK(sl_dataset_samples(context, whole, &b, &all));
	CHECK(classes == all && a.inputs.rows == share.count && b.inputs.rows == share.total);
	size_t row = (size_t)a.inputs.cols;
	CHECK(!memcmp(a.inputs.data, (float *)b.inputs.data + (size_t)share.first * row,
				  (size_t)share.count * row * sizeof(float)));
	CHECK(!memcmp(a.labels, b.labels + share.first, (size_t)share.count * sizeof *a.labels));
	sl_dataset_destroy(own);
	sl_dataset_destroy(whole);
}

static void matrix(const char *path, int64_t parts, double limit) {
	sl_share share = {SL_SHARE_DEFAULTS, .comm = comm, .parts = parts};
	sl_csr *own, *whole;
	long long before = bytes_read();
	OK(sl_csr_read_share(&own, context, path, SL_FORMAT_AUTO, NULL, &share));
	check_bytes(before, path, limit);
	OK(sl_csr_read(&whole, context, path, SL_FORMAT_AUTO, NULL));
	compare_rows(own, whole, &share);
	sl_csr_destroy(own);
	sl_csr_destroy(whole);
}

/* Rank 0 writes what all read. */
static void matrices(const char *folder) {
	static const char *const names[] = {"m.safetensors", "m.npz", "m.mtx"};
	char path[512];
	sl_pattern *pattern;
	sl_csr *m = NULL;
	OK(sl_pattern_random(&pattern, context, 1001, 300, 0.1, 5));
	sl_pattern_arrays a;
	OK(sl_pattern_get(context, pattern, &a));
	OK(sl_csr_create_pattern(&m, context, pattern, SL_F32));
	for (int64_t i = 0; i < a.nnz; i++)
		((float *)sl_csr_values(m))[i] = (float)signed_value(3, (uint64_t)i);
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		if (rank == 0)
			OK(sl_csr_write(context, m, path, SL_FORMAT_AUTO));
		OK(sl_comm_barrier(context, comm));
		sl_csr *none;
		sl_share share = {SL_SHARE_DEFAULTS, .comm = comm};
		if (i < 2)
			for (int64_t parts = 4; parts < 2000; parts *= 7)
				matrix(path, parts, i ? 0 : 1.1);
		else
			CHECK(sl_csr_read_share(&none, context, path, SL_FORMAT_AUTO, NULL, &share) == SL_ERR_UNSUPPORTED && !none);
	}
	sl_csr_destroy(m);
	sl_pattern_release(pattern);
}

/* What one rank finds wrong all hear of. */
static void refusals(const char *folder) {
	char path[512], text[64];
	sl_dataset *d;
	sl_share share = {SL_SHARE_DEFAULTS, .comm = comm};
	snprintf(path, sizeof path, "%s/bad.svm", folder);
	CHECK(sl_dataset_read_svmlight_share(&d, context, path, NULL, NULL, &share) == SL_ERR_FORMAT && !d);
	/* Its last line is the last rank's affair. */
	snprintf(text, sizeof text, "rank %d of %d", size - 1, size);
	CHECK(size == 1 || strstr(sl_context_message(context), text));
	CHECK(rank < size - 1 || strstr(sl_context_message(context), "line 401, column 5"));
	share.parts = size - 1;
	if (size > 1)
		CHECK(sl_dataset_read_svmlight_share(&d, context, path, NULL, NULL, &share) == SL_ERR_ARGUMENT);
	share.parts = rank + 8;
	if (size > 1)
		CHECK(sl_dataset_read_svmlight_share(&d, context, path, NULL, NULL, &share) == SL_ERR_DISAGREE);
	share = (sl_share){SL_SHARE_DEFAULTS, .comm = comm};
	snprintf(path, sizeof path, "%s/none.svm", folder);
	CHECK(sl_dataset_read_svmlight_share(&d, context, path, NULL, NULL, &share) == SL_ERR_NOT_FOUND);
	share.comm = NULL;
	CHECK(sl_dataset_read_svmlight_share(&d, context, path, NULL, NULL, &share) == SL_ERR_NULL);
	CHECK(sl_dataset_read_svmlight_share(&d, context, path, NULL, NULL, NULL) == SL_ERR_NULL);
}

void test_share(int argc, char **argv) {
	char path[512];
	CHECK(argc == 1);
	const char *folder = argv[0];
	for (int64_t parts = 4; parts <= 32; parts *= 2) {
		snprintf(path, sizeof path, "%s/classes.svm", folder);
		svmlight(path, SL_LABELS_CLASSES, parts, 4.2);
		svmlight(path, SL_LABELS_NUMBERS, parts, 4.2);
		matrix(path, parts, 4.2);
		snprintf(path, sizeof path, "%s/sets.svm", folder);
		svmlight(path, SL_LABELS_SETS, parts, 0);
		snprintf(path, sizeof path, "%s/few.svm", folder);
		svmlight(path, SL_LABELS_CLASSES, parts, 0);
		snprintf(path, sizeof path, "%s/empty.svm", folder);
		svmlight(path, SL_LABELS_CLASSES, parts, 0);
		snprintf(path, sizeof path, "%s/ratings.csv", folder);
		ratings(path, parts);
	}
	pictures(folder);
	snprintf(path, sizeof path, "%s/train-images-idx3-ubyte", folder);
	matrix(path, 8, 0);
	matrices(folder);
	refusals(folder);
}

/* Training on svmlight text, as the arguments say (name=value), printing what train.c prints. */
typedef struct text {
	sl_dataset *set;
	sl_dataset_content content;
	sl_sparse inputs;
	sl_share share;
	sl_samples samples;
} text;

static void read_text(text *t, const char *path, const sl_dataset *like) {
	sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .like = like};
	*t = (text){.content = {.struct_size = sizeof t->content},
				.share = {SL_SHARE_DEFAULTS, .comm = comm, .parts = number("parts", 8)},
				.samples = {SL_SAMPLES_DEFAULTS}};
	if (number("share", 0))
		OK(sl_dataset_read_svmlight_share(&t->set, context, path, &o, NULL, &t->share));
	else
		OK(sl_dataset_read_svmlight(&t->set, context, path, &o, NULL));
	OK(sl_dataset_get(context, t->set, &t->content));
	t->inputs = sl_sparse_from_csr(t->content.inputs);
	t->samples.sparse_inputs = &t->inputs;
	t->samples.labels = t->content.labels;
	t->samples.share = number("share", 0) ? &t->share : NULL;
}

static void add_layers(sl_model *model, int64_t in, int64_t out) {
	enum { HIDDEN = 24 };
	for (int i = 0; i < 2; i++) {
		sl_layer *layer;
		bool dense = i ? true : number("dense", 0) != 0;
		OK(sl_linear_create(&layer, context,
							&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = i ? HIDDEN : in,
												 .out_features = i ? out : HIDDEN, .density = dense ? 1 : 0.3,
												 .dense = dense, .bias = true, .sparse_inputs = i == 0,
												 .activation = i ? SL_IDENTITY : SL_RELU, .stream = (uint64_t)i + 1}));
		OK(sl_model_add(context, model, layer));
	}
	if (given("method"))
		OK(sl_model_set_sparsity(
			context, model,
			&(sl_sparsity_options){
				.struct_size = sizeof(sl_sparsity_options), .method = SL_SPARSE_SET, .interval = 2, .end = 1000}));
}

static bool print_epoch(void *user, const sl_epoch *e) {
	(void)user;
	if (rank == 0)
		printf("%lld %a %a %a %a\n", (long long)e->epoch, e->loss, e->accuracy, e->validation_loss,
			   e->validation_accuracy);
	return true;
}

/* Batches of a loader, or, with split=1, of samples that all have, cut by hand. */
static void own_loop(sl_parallel *parallel, const text *t, int64_t batch, int64_t epochs) {
	sl_loader *loader;
	OK(sl_loader_create(&loader, context, &t->inputs,
						&(sl_loader_options){SL_LOADER_DEFAULTS, .batch = batch, .labels = t->content.labels,
											 .share = t->samples.share, .prefetch = number("prefetch", 0)}));
	for (int64_t e = 0; e < epochs; e++) {
		double sum = 0;
		int64_t rows = 0;
		for (;;) {
			sl_batch b = {.struct_size = sizeof b};
			sl_loss_result result;
			int64_t first, count;
			OK(sl_loader_next(context, loader, &b));
			if (!b.total)
				break;
			sl_parallel_share(parallel, b.total, &first, &count);
			sl_sparse mine = t->samples.share ? b.inputs : sl_sparse_slice(b.inputs, first, count);
			sl_targets targets = {.labels = b.labels + (t->samples.share ? 0 : first)};
			CHECK(mine.rows == count);
			OK(sl_parallel_train_batch_sparse(context, parallel, SL_SOFTMAX_CROSS_ENTROPY, b.total, &mine, &targets,
											  SL_OVERWRITE, &result));
			OK(sl_parallel_step(context, parallel, NULL));
			sum += result.loss * (double)b.total;
			rows += b.total;
		}
		if (rank == 0)
			printf("%lld %a\n", (long long)e, sum / (double)rows);
	}
	sl_loader_destroy(loader);
}

static void print_weights(const sl_model *model) {
	for (int i = 0; i < sl_model_parameter_count(model) && rank == 0; i++) {
		sl_parameter parameter = {.struct_size = sizeof parameter};
		double sum = 0;
		OK(sl_model_parameter(context, model, i, NULL, &parameter));
		for (int64_t k = 0; k < parameter.count; k++)
			sum += (double)((const float *)parameter.value)[k] * (double)(k % 97 + 1);
		printf("sum %d %a\n", i, sum);
	}
}

void test_text(int argc, char **argv) {
	text train, held;
	sl_model *model;
	sl_optimizer *optimizer;
	sl_parallel *parallel = NULL;
	take_arguments(argc, argv);
	read_text(&train, given("file"), NULL);
	read_text(&held, given("held"), train.set);
	OK(sl_model_create(&model, context));
	add_layers(model, train.content.features, train.content.classes);
	OK(sl_optimizer_create(&optimizer, context,
						   &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS,
												   .kind = (sl_optimizer_kind)number("optimizer", SL_ADAM),
												   .learning_rate = 0.01, .lazy = number("lazy", 0) != 0,
												   .clip_norm = (double)number("clip", 0) / 100}));
	OK(sl_model_add_to_optimizer(context, model, optimizer));
	if (!number("plain", 0))
		OK(sl_parallel_create(&parallel, context, comm, model, optimizer,
							  &(sl_parallel_options){SL_PARALLEL_DEFAULTS, .bucket_bytes = 1000,
													 .shards = number("shards", 0),
													 .parts = number("share", 0) ? number("parts", 8) : 0}));
	int64_t batch = number("batch", 40), epochs = number("epochs", 3);
	if (number("own", 0))
		own_loop(parallel, &train, batch, epochs);
	else
		OK(sl_model_fit(context, model, optimizer, &train.samples,
						&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = epochs, .batch = batch,
										  .accumulate = number("accumulate", 1), .validation = &held.samples,
										  .keep_order = number("order", 0) != 0, .on_epoch = print_epoch,
										  .parallel = parallel}));
	if (parallel) {
		sl_parallel_info info = {.struct_size = sizeof info};
		OK(sl_parallel_verify(context, parallel));
		OK(sl_parallel_get_info(context, parallel, &info));
		CHECK(info.rows > 0 && info.rows <= train.content.features && info.row_elements > 0);
	}
	print_weights(model);
	sl_parallel_destroy(parallel);
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	sl_dataset_destroy(held.set);
	sl_dataset_destroy(train.set);
}
