/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

typedef struct options {
	common common;
	const char *input, *output;
	sl_format from, to;
	sl_dtype dtype;
	bool transpose;
	bool store;
	sl_optimizer_kind optimizer;
} options;

enum { KEY_STORE = 256 };

static const char *kind_name(int i) {
	return i <= SL_ADAMW ? sl_optimizer_kind_name((sl_optimizer_kind)i) : "unknown";
}

static const char *dtype_name(int i) {
	return sl_dtype_name((sl_dtype)(i + SL_F32 > SL_F16 ? 0 : i + SL_F32));
}

static error_t parse(int key, char *text, struct argp_state *state) {
	options *o = state->input;
	const char **slots[] = {&o->input, &o->output};
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		return 0;
	case 'f':
		o->from = format_option(state, text);
		return 0;
	case 'o':
		o->to = format_option(state, text);
		return 0;
	case 'y':
		o->dtype = (sl_dtype)(named_option(state, "dtype", text, dtype_name) + SL_F32);
		return 0;
	case 'T':
		o->transpose = true;
		return 0;
	case KEY_STORE:
		o->store = true;
		o->optimizer = (sl_optimizer_kind)named_option(state, "store", text, kind_name);
		return 0;
	case ARGP_KEY_ARG:
		return take_argument(state, text, slots, 2);
	case ARGP_KEY_END:
		if (!o->output)
			argp_error(state, "%s is missing", o->input ? "OUTPUT" : "INPUT");
		if (o->store && (o->transpose || o->to))
			argp_error(state, "--store makes a folder to train in; --%s does not go with it",
					   o->transpose ? "transpose" : "to");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static bool ends_with(const char *text, const char *ending) {
	size_t n = strlen(text), m = strlen(ending);
	return n >= m && !strcmp(text + n - m, ending);
}

/* A piece at a time. */
static sl_status convert_file(sl_context *context, const options *o, const char *to) {
	return sl_convert_file(context, o->input, to,
						   &(sl_convert_options){SL_CONVERT_DEFAULTS, .format = o->from, .dtype = o->dtype});
}

/* A folder that sl_store_step() trains in, by way of a file beside it unless the matrix is in one that will do. */
static sl_status make_store(sl_context *context, const options *o) {
	char path[4096];
	sl_source *source;
	int moments = o->optimizer == SL_SGD ? 0 : o->optimizer < SL_ADAM ? 1 : 2;
	bool there = ends_with(o->input, ".safetensors") && !o->dtype;
	if (snprintf(path, sizeof path, "%s.matrix.safetensors", o->output) >= (int)sizeof path)
		return SL_ERR_ARGUMENT;
	if (!there)
		SL_TRY(convert_file(context, o, path));
	sl_status status = sl_source_open(&source, context, there ? o->input : path, NULL);
	if (status == SL_OK) {
		status = sl_store_create(context, o->output, source, moments);
		sl_source_destroy(source);
	}
	if (!there)
		unlink(path);
	return status;
}

static sl_status convert(sl_context *context, const options *o, sl_csr **matrix, sl_csr **other) {
	bool half = o->dtype == SL_BF16 || o->dtype == SL_F16;
	bool safetensors = o->to == SL_FORMAT_SAFETENSORS || (!o->to && ends_with(o->output, ".safetensors"));
	if (o->store)
		return make_store(context, o);
	if (o->common.memory_budget && safetensors && !o->transpose && !half)
		return convert_file(context, o, o->output);
	SL_TRY(sl_csr_read(matrix, context, o->input, o->from, NULL));
	if (o->transpose) {
		SL_TRY(sl_csr_transpose(other, context, *matrix));
		sl_csr_destroy(*matrix);
		*matrix = *other;
		*other = NULL;
	}
	if (o->dtype && o->dtype != sl_csr_dtype(*matrix)) {
		SL_TRY(sl_csr_convert(other, context, *matrix, o->dtype));
		sl_csr_destroy(*matrix);
		*matrix = *other;
		*other = NULL;
	}
	return sl_csr_write(context, *matrix, o->output, o->to);
}

int command_convert(int argc, char **argv) {
	static const struct argp_option list[] = {
		{"from", 'f', "FORMAT", 0, "safetensors, npz, mtx, smtx, idx or svmlight (default: by content)", 0},
		{"to", 'o', "FORMAT", 0, "safetensors, npz, mtx, smtx or svmlight (default: by OUTPUT's ending)", 0},
		{"dtype", 'y', "TYPE", 0, "Values of f32, f64, bf16 or f16 (default: as they are)", 0},
		{"transpose", 'T', NULL, 0, "Write the transpose", 0},
		{"store", KEY_STORE, "OPTIMIZER", 0,
		 "Make OUTPUT a folder in which the matrix is trained on disk, with room for this optimizer's moments: sgd, "
		 "momentum, nesterov, adam or adamw",
		 0},
		{0}};
	static const struct argp_child children[] = {{&common_argp, 0, "Running", 90}, {0}};
	static const struct argp argp = {list,
									 parse,
									 "INPUT OUTPUT",
									 "Read a sparse matrix and write it in another format.\v.smtx holds the structure "
									 "alone: values are lost in it. With --memory-budget a .npz, .mtx or svmlight "
									 "file may be larger than the memory; OUTPUT is safetensors then.",
									 children,
									 NULL,
									 NULL};
	options o = {.common = {.device = SL_DEVICE_CPU}};
	sl_context *context = NULL;
	sl_csr *matrix = NULL, *other = NULL;
	argp_parse(&argp, argc, argv, 0, NULL, &o);
	int code = open_context(&context, &o.common, 0, false);
	if (code != EXIT_OK)
		return code;
	catch_signals();
	(void)sl_context_set_progress(context, show_progress, &o.common.quiet);
	sl_status status = convert(context, &o, &matrix, &other);
	end_progress();
	if (status != SL_OK)
		code = fail(context, status);
	sl_csr_destroy(matrix);
	sl_csr_destroy(other);
	sl_context_destroy(context);
	return code;
}
