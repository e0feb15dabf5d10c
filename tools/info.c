/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "command.h"

typedef struct options {
	common common;
	const char *file;
} options;

static error_t parse(int key, char *text, struct argp_state *state) {
	options *o = state->input;
	const char **slots[] = {&o->file};
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		return 0;
	case ARGP_KEY_ARG:
		return take_argument(state, text, slots, 1);
	case ARGP_KEY_END:
		if (!o->file)
			argp_error(state, "FILE is missing");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static int64_t offset(const sl_pattern_arrays *a, int64_t row) {
	return a->offset_dtype == SL_I64 ? ((const int64_t *)a->row_offsets)[row] : ((const int32_t *)a->row_offsets)[row];
}

static double ratio(double a, double b) {
	return b > 0 ? a / b : 0;
}

static sl_status show_matrix(sl_context *context, const sl_csr *matrix) {
	sl_pattern_arrays a;
	int64_t empty = 0, longest = 0;
	SL_TRY(sl_pattern_get(context, sl_csr_pattern(matrix), &a));
	for (int64_t r = 0; r < a.rows; r++) {
		int64_t length = offset(&a, r + 1) - offset(&a, r);
		empty += !length;
		longest = length > longest ? length : longest;
	}
	size_t bytes = sl_pattern_bytes(sl_csr_pattern(matrix)) + (size_t)a.nnz * sl_dtype_size(sl_csr_dtype(matrix));
	printf("matrix %lld x %lld, %s\n", (long long)a.rows, (long long)a.cols, sl_dtype_name(sl_csr_dtype(matrix)));
	printf("nonzeros %lld, density %.6g, longest row %lld\n", (long long)a.nnz,
		   ratio((double)a.nnz, (double)a.rows * (double)a.cols), (long long)longest);
	printf("bytes %zu as CSR, %.0f as a dense matrix\n", bytes,
		   (double)a.rows * (double)a.cols * (double)sl_dtype_size(sl_csr_dtype(matrix)));
	printf("rows without nonzeros %lld\n", (long long)empty);
	return SL_OK;
}

static sl_status show_layers(sl_context *context, const sl_model *model) {
	printf("%-5s %-16s %9s %9s %7s %11s %9s %11s  %s\n", "layer", "name", "in", "out", "storage", "nonzeros", "density",
		   "empty rows", "activation");
	for (int i = 0; i < sl_model_layer_count(model); i++) {
		sl_layer_info info = {.struct_size = sizeof info};
		SL_TRY(sl_layer_get_info(context, sl_model_layer(model, i), &info));
		printf("%-5d %-16.16s %9lld %9lld %7s %11lld %9.6f %11lld  %s\n", i, info.name, (long long)info.in_features,
			   (long long)info.out_features, info.dense ? "dense" : "sparse", (long long)info.nnz, info.density,
			   (long long)info.empty_rows, sl_activation_name(info.activation));
	}
	return SL_OK;
}

/* Everything that is held once training is prepared, plans included, but activations, which follow the batch. */
static sl_status show_memory(sl_context *context, sl_model *model, sl_optimizer **optimizer, int64_t batch,
							 size_t before) {
	sl_model_info info = {.struct_size = sizeof info};
	sl_memory_usage usage = {.struct_size = sizeof usage};
	sl_optimizer_info training = {.struct_size = sizeof training};
	bool stored = *optimizer != NULL;
	if (!stored) {
		SL_TRY(
			sl_optimizer_create(optimizer, context, &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = SL_ADAM}));
		SL_TRY(sl_model_add_to_optimizer(context, model, *optimizer));
	}
	SL_TRY(sl_model_prepare(context, model, batch, SL_MODE_TRAINING));
	SL_TRY(sl_model_get_info(context, model, *optimizer, &info));
	SL_TRY(sl_optimizer_get_info(context, *optimizer, &training));
	SL_TRY(sl_context_memory(context, &usage));
	size_t held = usage.current - before - info.activation_bytes;
	printf("\nweights %lld of %lld (density %.6f), parameters %lld\n", (long long)info.nonzeros,
		   (long long)info.dense_weights, ratio((double)info.nonzeros, (double)info.dense_weights),
		   (long long)info.parameters);
	printf("training state with %s%s: %zu bytes (parameters %zu, structure %zu, gradients %zu, moments %zu, the rest "
		   "%zu)\n",
		   sl_optimizer_kind_name(training.kind), stored ? "" : " (not stored in the file)", held, info.parameter_bytes,
		   info.pattern_bytes, info.gradient_bytes, info.optimizer_bytes,
		   held - info.parameter_bytes - info.pattern_bytes - info.gradient_bytes - info.optimizer_bytes);
	printf("RESULT memory.bytes_per_nonzero %.3f\n", ratio((double)held, (double)info.nonzeros));
	return SL_OK;
}

static sl_status show(sl_context *context, const options *o, sl_model **model, sl_optimizer **optimizer,
					  sl_csr **matrix) {
	sl_memory_usage usage = {.struct_size = sizeof usage};
	sl_checkpoint checkpoint = {SL_CHECKPOINT_DEFAULTS};
	SL_TRY(sl_context_memory(context, &usage));
	sl_status status = sl_csr_read(matrix, context, o->file, SL_FORMAT_AUTO, NULL);
	if (status == SL_OK)
		return show_matrix(context, *matrix);
	/* What is no matrix may be a model; where it is neither, the first message stands. */
	char message[512];
	snprintf(message, sizeof message, "%s", sl_context_message(context));
	if (!strstr(message, "it is a model"))
		return status;
	SL_TRY(sl_model_load(model, optimizer, &checkpoint, context, o->file, NULL));
	printf("model, %d layers, trained for %lld epochs and %lld samples, seed %llu\n", sl_model_layer_count(*model),
		   (long long)checkpoint.epochs_done, (long long)checkpoint.samples_done, (unsigned long long)checkpoint.seed);
	SL_TRY(show_layers(context, *model));
	return show_memory(context, *model, optimizer, checkpoint.batch ? checkpoint.batch : 256, usage.current);
}

int command_info(int argc, char **argv) {
	static const struct argp_child children[] = {{&common_argp, 0, "Running", 90}, {0}};
	static const struct argp argp = {NULL,
									 parse,
									 "FILE",
									 "Tell what a model or matrix file holds: shapes, nonzeros, density, bytes, rows "
									 "without nonzeros; for a model also what training it takes.",
									 children,
									 NULL,
									 NULL};
	options o = {.common = {.device = SL_DEVICE_CPU}};
	sl_context *context = NULL;
	sl_model *model = NULL;
	sl_optimizer *optimizer = NULL;
	sl_csr *matrix = NULL;
	argp_parse(&argp, argc, argv, 0, NULL, &o);
	int code = open_context(&context, &o.common, 0, false);
	if (code != EXIT_OK)
		return code;
	sl_context_set_log(context, NULL, SL_LOG_ERROR, NULL);
	sl_status status = show(context, &o, &model, &optimizer, &matrix);
	if (status != SL_OK)
		code = fail(context, status);
	sl_csr_destroy(matrix);
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	sl_context_destroy(context);
	return code;
}
