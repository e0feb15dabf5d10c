/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "command.h"

typedef struct options {
	common common;
	const char *input, *output;
	sl_format from, to;
	sl_dtype dtype;
	bool transpose;
} options;

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
	case ARGP_KEY_ARG:
		return take_argument(state, text, slots, 2);
	case ARGP_KEY_END:
		if (!o->output)
			argp_error(state, "%s is missing", o->input ? "OUTPUT" : "INPUT");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static sl_status convert(sl_context *context, const options *o, sl_csr **matrix, sl_csr **other) {
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
		{0}};
	static const struct argp_child children[] = {{&common_argp, 0, "Running", 90}, {0}};
	static const struct argp argp = {list,
									 parse,
									 "INPUT OUTPUT",
									 "Read a sparse matrix and write it in another format.\v.smtx holds the structure "
									 "alone: values are lost in it.",
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
	sl_status status = convert(context, &o, &matrix, &other);
	if (status != SL_OK)
		code = fail(context, status);
	sl_csr_destroy(matrix);
	sl_csr_destroy(other);
	sl_context_destroy(context);
	return code;
}
