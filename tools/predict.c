/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "command.h"

typedef struct options {
	common common;
	const char *model, *input;
	int64_t batch;
	bool scores;
} options;

static error_t parse(int key, char *text, struct argp_state *state) {
	options *o = state->input;
	const char **slots[] = {&o->model, &o->input};
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		return 0;
	case 'b':
		o->batch = integer_option(state, "batch", text, 1, 1 << 24);
		return 0;
	case 's':
		o->scores = true;
		return 0;
	case ARGP_KEY_ARG:
		return take_argument(state, text, slots, 2);
	case ARGP_KEY_END:
		if (!o->input)
			argp_error(state, "%s is missing", o->model ? "INPUT" : "MODEL");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* Rows of a sparse matrix file, or of an IDX array, whose bytes are scaled to [0, 1] as in training. */
static sl_status read_inputs(sl_context *context, const options *o, float **values, sl_dense *inputs) {
	sl_csr *matrix;
	sl_idx array = {.struct_size = sizeof array};
	sl_pattern_arrays a;
	if (sl_idx_read(context, o->input, NULL, &array) == SL_OK) {
		int64_t rows = array.dimensions > 1 ? array.shape[0] : 1;
		*values = malloc((size_t)array.count * sizeof **values + 1);
		for (int64_t i = 0; *values && i < array.count; i++)
			(*values)[i] = array.values[i] / 255.0f;
		*inputs = sl_dense_view(*values, SL_F32, rows, rows ? array.count / rows : 0);
		sl_idx_free(context, &array);
		return *values ? SL_OK : SL_ERR_MEMORY;
	}
	SL_TRY(sl_csr_read(&matrix, context, o->input, SL_FORMAT_AUTO, NULL));
	sl_status status = sl_pattern_get(context, sl_csr_pattern(matrix), &a);
	/* The largest array that has an address. */
	if (status == SL_OK && a.cols && a.rows > (int64_t)(PTRDIFF_MAX / 4) / a.cols)
		status = SL_ERR_OVERFLOW;
	if (status == SL_OK) {
		*values = malloc((size_t)(a.rows * a.cols) * sizeof **values + 1);
		*inputs = sl_dense_view(*values, SL_F32, a.rows, a.cols);
		status = *values ? sl_csr_to_dense(context, matrix, inputs) : SL_ERR_MEMORY;
	}
	sl_csr_destroy(matrix);
	return status;
}

static void print_row(const float *row, int64_t count, bool scores) {
	int64_t best = 0;
	for (int64_t i = 0; i < count; i++) {
		if (scores)
			printf("%s%.9g", i ? "\t" : "", row[i]);
		if (row[i] > row[best])
			best = i;
	}
	if (!scores)
		printf("%lld", (long long)best);
	printf("\n");
}

/* A network of sparse inputs: rows are read as they are, and may have fewer features than it knows. */
static sl_status predict_sparse(sl_context *context, const options *o, sl_model *model, const sl_model_info *info,
								float **out) {
	sl_csr *matrix;
	SL_TRY(sl_csr_read(&matrix, context, o->input, SL_FORMAT_AUTO, NULL));
	sl_sparse rows = sl_sparse_from_csr(matrix);
	rows.cols = rows.cols < info->in_features ? info->in_features : rows.cols;
	*out = calloc((size_t)(rows.rows * info->out_features) + 1, sizeof **out);
	sl_dense outputs = sl_dense_view(*out, SL_F32, rows.rows, info->out_features);
	sl_status status = *out ? sl_model_predict_sparse(context, model, &rows, &outputs, o->batch) : SL_ERR_MEMORY;
	for (int64_t i = 0; status == SL_OK && i < rows.rows; i++)
		print_row(*out + i * info->out_features, info->out_features, o->scores);
	sl_csr_destroy(matrix);
	return status;
}

static sl_status predict(sl_context *context, const options *o, sl_model **model, float **in, float **out) {
	sl_dense inputs;
	sl_model_info info = {.struct_size = sizeof info};
	SL_TRY(load_model(model, NULL, context, &o->common, o->model));
	SL_TRY(sl_model_get_info(context, *model, NULL, &info));
	sl_layer_info first = {.struct_size = sizeof first};
	SL_TRY(sl_layer_get_info(context, sl_model_layer(*model, 0), &first));
	if (first.sparse_inputs)
		return predict_sparse(context, o, *model, &info, out);
	SL_TRY(read_inputs(context, o, in, &inputs));
	*out = calloc((size_t)(inputs.rows * info.out_features) + 1, sizeof **out);
	if (!*out)
		return SL_ERR_MEMORY;
	sl_dense outputs = sl_dense_view(*out, SL_F32, inputs.rows, info.out_features);
	SL_TRY(sl_model_predict(context, *model, &inputs, &outputs, o->batch));
	for (int64_t i = 0; i < inputs.rows; i++)
		print_row(*out + i * info.out_features, info.out_features, o->scores);
	return SL_OK;
}

int command_predict(int argc, char **argv) {
	static const struct argp_option list[] = {
		{"scores", 's', NULL, 0, "Print all outputs of a row, tab-separated, and not the largest one's number", 0},
		{"batch", 'b', "N", 0, "Rows at once (default 256)", 0},
		{0}};
	static const struct argp_child children[] = {{&common_argp, 0, "Running", 90}, {0}};
	static const struct argp argp = {
		list,
		parse,
		"MODEL INPUT",
		"Run a saved network on each row of INPUT, an IDX file of pictures (gzip or not) or a "
		"sparse matrix in any format that is read, and print a line a row.",
		children,
		NULL,
		NULL};
	options o = {.batch = 256};
	sl_context *context = NULL;
	sl_model *model = NULL;
	float *in = NULL, *out = NULL;
	argp_parse(&argp, argc, argv, 0, NULL, &o);
	int code = open_context(&context, &o.common, 0, false);
	if (code != EXIT_OK)
		return code;
	sl_context_set_log(context, NULL, SL_LOG_ERROR, NULL);
	sl_status status = predict(context, &o, &model, &in, &out);
	if (status != SL_OK)
		code = fail(context, status);
	else if (fflush(stdout) || ferror(stdout))
		code = EXIT_FAILED;
	free(in);
	free(out);
	sl_model_destroy(model);
	sl_context_destroy(context);
	return code;
}
