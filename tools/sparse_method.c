/* SPDX-License-Identifier: Apache-2.0 */
#include "sparse_method.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { KEY_METHOD = 500, KEY_BUDGET, KEY_DECAY, KEY_EVERY, KEY_DROP, KEY_UNTIL, KEY_N_M };

static const struct argp_option list[] = {
	{NULL, 0, NULL, 0, "Sparsity while training", 4},
	{"sparse-method", KEY_METHOD, "NAME", 0,
	 "static (default); set: drop the smallest weights, grow at random; rigl: grow where gradients are largest; gmp: "
	 "begin dense and prune gradually; l1: begin dense and drop what --l1-proximal made zero",
	 4},
	{"budget", KEY_BUDGET, "NAME", 0,
	 "Keep the number of weights in each layer (layer, default) or in all together (global)", 4},
	{"edit-interval", KEY_EVERY, "N", 0, "Steps between edits of the patterns (default 100)", 4},
	{"edit-until", KEY_UNTIL, "X", 0, "Share of the training that edits go on for (default 0.75)", 4},
	{"drop", KEY_DROP, "X", 0, "Share of the weights that set and rigl drop at first (default 0.3)", 4},
	{"drop-decay", KEY_DECAY, "NAME", 0, "How that share falls: cosine (default), constant or linear", 4},
	{"n-m", KEY_N_M, "N:M", 0,
	 "Of each M neighbours N have weights, instead of --density: random ones at first, which set and rigl "
	 "move within their neighbours; gmp and l1 end so",
	 4},
	{0}};

static const char *method_name(int i) {
	return sl_sparse_method_name((sl_sparse_method)i);
}
static const char *budget_name(int i) {
	static const char *const names[] = {"layer", "global"};
	return i < 2 ? names[i] : "unknown";
}
static const char *decay_name(int i) {
	static const char *const names[] = {"cosine", "constant", "linear"};
	return i < 3 ? names[i] : "unknown";
}

static error_t parse(int key, char *text, struct argp_state *state) {
	sparse_method *s = state->input;
	char end;
	switch (key) {
	case KEY_METHOD:
		s->method = (sl_sparse_method)named_option(state, "sparse-method", text, method_name);
		return 0;
	case KEY_BUDGET:
		s->budget = (sl_budget)named_option(state, "budget", text, budget_name);
		return 0;
	case KEY_DECAY:
		s->decay = (sl_drop_decay)named_option(state, "drop-decay", text, decay_name);
		return 0;
	case KEY_EVERY:
		s->interval = integer_option(state, "edit-interval", text, 1, INT64_C(1) << 40);
		return 0;
	case KEY_DROP:
		s->drop = number_option(state, "drop", text, 1e-9, 1);
		return 0;
	case KEY_UNTIL:
		s->until = number_option(state, "edit-until", text, 1e-9, 1);
		return 0;
	case KEY_N_M:
		if (sscanf(text, "%d:%d%c", &s->n, &s->m, &end) != 2 || s->n < 1 || s->m < s->n)
			argp_error(state, "--n-m is \"%s\"; two numbers are needed, the first at most the second, as in 2:4", text);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

const struct argp sparse_method_argp = {list, parse, NULL, NULL, NULL, NULL, NULL};

bool begins_dense(const sparse_method *s) {
	return s->method == SL_SPARSE_GMP || s->method == SL_SPARSE_L1;
}

sl_status set_sparse_method(sl_context *context, sl_model *model, const sparse_method *s, double density,
							sl_distribution distribution, bool keep_last, int64_t steps) {
	int64_t end = (int64_t)llround(s->until * (double)steps);
	if (s->method == SL_SPARSE_STATIC)
		return SL_OK;
	return sl_model_set_sparsity(
		context, model,
		&(sl_sparsity_options){SL_SPARSITY_DEFAULTS, .method = s->method, .budget = s->budget, .interval = s->interval,
							   .end = end > 0 ? end : 1, .drop = s->drop, .decay = s->decay,
							   .density = begins_dense(s) && !s->n ? density : 0, .n = s->n, .m = s->m,
							   .distribution = distribution, .keep_last = keep_last});
}
