/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>

#include "command.h"
#include "samples.h"

typedef struct options {
	common common;
	const char *model, *data, *like;
	int64_t batch;
	bool train_split;
} options;

static error_t parse(int key, char *text, struct argp_state *state) {
	options *o = state->input;
	const char **slots[] = {&o->model};
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		return 0;
	case 'D':
		o->data = text;
		return 0;
	case 'L':
		o->like = text;
		return 0;
	case 'b':
		o->batch = integer_option(state, "batch", text, 1, 1 << 24);
		return 0;
	case 'S':
		o->train_split = true;
		return 0;
	case ARGP_KEY_ARG:
		return take_argument(state, text, slots, 1);
	case ARGP_KEY_END:
		if (!o->model)
			argp_error(state, "MODEL is missing");
		if (o->like && !is_svmlight(o->data))
			argp_error(state, "--like goes with --data FILE.svm");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* What is evaluated: a folder of pictures, or text. */
typedef struct evaluated {
	sl_dataset *data, *like;
	sl_samples samples;
	sl_sparse rows;
} evaluated;

/* Text with as many features as the model takes; base and classes as in the file it is like, where one is given. */
static sl_status read_text(sl_context *context, const options *o, const sl_model *model, evaluated *e) {
	sl_model_info info = {.struct_size = sizeof info};
	sl_dataset_content content = {.struct_size = sizeof content};
	SL_TRY(sl_model_get_info(context, model, NULL, &info));
	sl_svmlight_options text = {SL_SVMLIGHT_DEFAULTS, .features = info.in_features};
	if (o->like)
		SL_TRY(sl_dataset_read_svmlight(&e->like, context, o->like, &text, NULL));
	text.like = e->like;
	SL_TRY(sl_dataset_read_svmlight(&e->data, context, o->data, &text, NULL));
	SL_TRY(sl_dataset_get(context, e->data, &content));
	e->rows = sl_sparse_from_csr(content.inputs);
	e->samples.sparse_inputs = &e->rows;
	e->samples.labels = content.labels;
	return SL_OK;
}

static sl_status evaluate(sl_context *context, const options *o, sl_model **model, evaluated *e, double *loss,
						  double *accuracy) {
	sl_checkpoint checkpoint = {SL_CHECKPOINT_DEFAULTS};
	e->samples = (sl_samples){SL_SAMPLES_DEFAULTS};
	SL_TRY(load_model(model, &checkpoint, context, &o->common, o->model));
	if (is_svmlight(o->data)) {
		SL_TRY(read_text(context, o, *model, e));
	} else {
		SL_TRY(sl_dataset_read_mnist(&e->data, context, o->data, o->train_split));
		SL_TRY(sl_dataset_samples(context, e->data, &e->samples, NULL));
	}
	SL_TRY(sl_context_set_progress(context, show_progress, (void *)&o->common.quiet));
	return sl_model_evaluate(context, *model, checkpoint.loss, &e->samples, o->batch, loss, accuracy);
}

int command_eval(int argc, char **argv) {
	static const struct argp_option list[] = {
		{"data", 'D', "DIR|FILE", 0,
		 "Folder of IDX files (default: the package dataset-fashion-mnist's), or svmlight text (.svm, .svmlight, "
		 ".libsvm)",
		 0},
		{"like", 'L', "FILE", 0,
		 "Text that the network was trained on: indices begin where they do there, and other classes are errors", 0},
		{"batch", 'b', "N", 0, "Samples at once (default 256)", 0},
		{"training-samples", 'S', NULL, 0, "Use the training samples, not the test samples", 0},
		{0}};
	static const struct argp_child children[] = {{&common_argp, 0, "Running", 90}, {0}};
	static const struct argp argp = {list,     parse, "MODEL", "Loss and accuracy of a saved network.",
									 children, NULL,  NULL};
	options o = {.batch = 256};
	sl_context *context = NULL;
	sl_model *model = NULL;
	evaluated e = {.data = NULL};
	double loss = NAN, accuracy = NAN;
	argp_parse(&argp, argc, argv, 0, NULL, &o);
	int code = open_context(&context, &o.common, 0, false);
	if (code != EXIT_OK)
		return code;
	sl_context_set_log(context, NULL, SL_LOG_ERROR, NULL); /* a seed does not matter here */
	catch_signals();
	sl_status status = evaluate(context, &o, &model, &e, &loss, &accuracy);
	end_progress();
	if (status == SL_OK)
		printf("loss %.6f  accuracy %.2f%%\n", loss, 100 * accuracy);
	else
		code = fail(context, status);
	sl_dataset_destroy(e.data);
	sl_dataset_destroy(e.like);
	sl_model_destroy(model);
	sl_context_destroy(context);
	return code;
}
