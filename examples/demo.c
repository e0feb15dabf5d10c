/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `make demo` runs: networks of 784-1024-1024-10 learn to classify Fashion-MNIST, one dense
 * and three sparse, with the same samples, order and epochs. The 10-way layer is dense in all.
 * Usage: demo [EPOCHS [DATA_DIRECTORY]]
 */
#include <sparselayer/sparselayer.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BATCH = 256, HIDDEN = 1024 };

typedef struct outcome {
	const char *name, *key;
	double density, accuracy, epoch_seconds;
	sl_model_info info;
	size_t state_bytes; /* all that training holds, but activations */
} outcome;

typedef struct run {
	double epoch_seconds[64];
	int epochs;
} run;

static bool show(void *user, const sl_progress *p) {
	const char *name = user;
	if (!isatty(STDERR_FILENO) || p->epoch < 0 || p->total <= 0)
		return true;
	double done = ((double)p->epoch + (double)p->done / (double)p->total) / (double)p->epochs;
	char bar[31];
	for (int i = 0; i < 30; i++)
		bar[i] = i < done * 30 ? '#' : '.';
	bar[30] = 0;
	fprintf(stderr, "\r%-11s [%s] epoch %lld/%lld  loss %.4f  accuracy %.2f%% ", name, bar, (long long)p->epoch + 1,
			(long long)p->epochs, p->loss, 100 * p->accuracy);
	if (p->epoch + 1 == p->epochs && p->done == p->total)
		fprintf(stderr, "\n");
	return true;
}

static bool keep_time(void *user, const sl_epoch *epoch) {
	run *r = user;
	if (r->epochs < 64)
		r->epoch_seconds[r->epochs++] = epoch->seconds;
	if (!isatty(STDERR_FILENO))
		fprintf(stderr, "  epoch %lld: loss %.4f, accuracy %.2f%%, %.2f s\n", (long long)epoch->epoch + 1, epoch->loss,
				100 * epoch->accuracy, epoch->seconds);
	return true;
}

static sl_status add_layer(sl_context *context, sl_model *model, int64_t in, int64_t out, double density, bool relu,
						   uint64_t stream) {
	sl_layer *layer = NULL;
	sl_status status = sl_linear_create(
		&layer, context,
		&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = in, .out_features = out, .density = density,
							 .dense = density == 1, .init = SL_INIT_HE_UNIFORM, .bias = true,
							 .activation = relu ? SL_RELU : SL_IDENTITY, .stream = stream});
	if (status == SL_OK)
		status = sl_model_add(context, model, layer);
	if (status != SL_OK)
		sl_layer_destroy(layer);
	return status;
}

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static sl_status train(sl_context *context, sl_model *model, sl_optimizer **optimizer, const sl_samples *samples,
					   const sl_samples *test, int64_t epochs, outcome *o) {
	int64_t in = samples->inputs.cols, steps = (samples->inputs.rows + BATCH - 1) / BATCH * epochs;
	run r = {.epochs = 0};
	sl_memory_usage before = {.struct_size = sizeof before};
	SL_TRY(sl_context_memory(context, &before));
	SL_TRY(add_layer(context, model, in, HIDDEN, o->density, true, 1));
	SL_TRY(add_layer(context, model, HIDDEN, HIDDEN, o->density, true, 2));
	SL_TRY(add_layer(context, model, HIDDEN, 10, 1, false, 3));
	/* Adam steps by about the learning rate whatever a weight's size, and weights drawn for a neuron of
	 * few connections are larger: by 1 / sqrt(density). So is the rate. */
	double rate = 0.0014 / sqrt(o->density);
	SL_TRY(sl_optimizer_create(optimizer, context,
							   &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM, .learning_rate = rate,
													   .schedule = {.kind = SL_SCHEDULE_COSINE, .total = steps}}));
	SL_TRY(sl_model_add_to_optimizer(context, model, *optimizer));
	SL_TRY(sl_context_set_progress(context, show, (void *)o->name));
	SL_TRY(sl_model_fit(
		context, model, *optimizer, samples,
		&(sl_fit_options){SL_FIT_DEFAULTS, .epochs = epochs, .batch = BATCH, .on_epoch = keep_time, .user = &r}));
	SL_TRY(sl_context_set_progress(context, NULL, NULL));
	SL_TRY(sl_model_evaluate(context, model, SL_SOFTMAX_CROSS_ENTROPY, test, BATCH, NULL, &o->accuracy));
	qsort(r.epoch_seconds, (size_t)r.epochs, sizeof *r.epoch_seconds, ascending);
	o->epoch_seconds = r.epoch_seconds[r.epochs / 2];
	o->info.struct_size = sizeof o->info;
	SL_TRY(sl_model_get_info(context, model, *optimizer, &o->info));
	sl_memory_usage after = {.struct_size = sizeof after};
	SL_TRY(sl_context_memory(context, &after));
	o->state_bytes = after.current - before.current - o->info.activation_bytes;
	return SL_OK;
}

static void print_table(const outcome *o, int count) {
	printf("\n%-12s %9s %10s %9s %11s %15s\n", "network", "accuracy", "s/epoch", "speed-up", "parameters",
		   "training state");
	for (int i = 0; i < count; i++)
		printf("%-12s %8.2f%% %10.3f %8.2fx %11lld %11.2f MiB\n", o[i].name, 100 * o[i].accuracy, o[i].epoch_seconds,
			   o[0].epoch_seconds / o[i].epoch_seconds, (long long)o[i].info.parameters,
			   (double)o[i].state_bytes / 1048576);
	printf("\n");
	for (int i = 0; i < count; i++)
		printf("RESULT demo.accuracy.%s %.4f\n", o[i].key, o[i].accuracy);
	for (int i = 1; i < count; i++)
		printf("RESULT demo.epoch_speedup.%s %.3f\n", o[i].key, o[0].epoch_seconds / o[i].epoch_seconds);
}

static sl_status open_context(sl_context **context, char *error, size_t size) {
	return sl_context_create(context,
							 &(sl_context_options){SL_CONTEXT_DEFAULTS, .seed = 1, .error = error, .error_size = size});
}

int main(int argc, char **argv) {
	outcome o[] = {{.name = "dense", .key = "dense", .density = 1},
				   {.name = "90% sparse", .key = "d10", .density = 0.10},
				   {.name = "95% sparse", .key = "d05", .density = 0.05},
				   {.name = "98% sparse", .key = "d02", .density = 0.02}};
	int count = (int)(sizeof o / sizeof *o);
	int64_t epochs = argc > 1 ? strtoll(argv[1], NULL, 10) : 10;
	const char *directory = argc > 2 ? argv[2] : NULL;
	char error[256] = "";
	sl_context *context = NULL;
	sl_dataset *train_set = NULL, *test_set = NULL;
	sl_samples samples = {SL_SAMPLES_DEFAULTS}, test = {SL_SAMPLES_DEFAULTS};
	sl_status status = epochs > 0 && epochs <= 64 ? SL_OK : SL_ERR_ARGUMENT;
	if (status == SL_OK)
		status = open_context(&context, error, sizeof error);
	if (status == SL_OK)
		status = sl_dataset_read_mnist(&train_set, context, directory, true);
	if (status == SL_OK)
		status = sl_dataset_read_mnist(&test_set, context, directory, false);
	if (status == SL_OK)
		status = sl_dataset_samples(context, train_set, &samples, NULL);
	if (status == SL_OK)
		status = sl_dataset_samples(context, test_set, &test, NULL);
	if (status == SL_OK)
		printf("sparselayer %s on %s: %lld pictures, %lld epochs of batches of %d\n", sl_version_string(),
			   sl_context_describe(context), (long long)samples.inputs.rows, (long long)epochs, BATCH);
	for (int i = 0; i < count && status == SL_OK; i++) {
		/* A context of its own, so that what it holds is this network's. */
		sl_context *own = NULL;
		sl_model *model = NULL;
		sl_optimizer *optimizer = NULL;
		if (!isatty(STDERR_FILENO))
			fprintf(stderr, "%s\n", o[i].name);
		status = open_context(&own, error, sizeof error);
		if (status == SL_OK)
			status = sl_model_create(&model, own);
		if (status == SL_OK)
			status = train(own, model, &optimizer, &samples, &test, epochs, &o[i]);
		if (status != SL_OK && own)
			snprintf(error, sizeof error, "%s", sl_context_message(own));
		sl_optimizer_destroy(optimizer);
		sl_model_destroy(model);
		sl_context_destroy(own);
	}
	if (status == SL_OK)
		print_table(o, count);
	else
		fprintf(stderr, "%s: %s\n", sl_status_text(status), *error || !context ? error : sl_context_message(context));
	sl_dataset_destroy(test_set);
	sl_dataset_destroy(train_set);
	sl_context_destroy(context);
	return status != SL_OK;
}
