/* SPDX-License-Identifier: Apache-2.0 */
/* A manifest of a divided model, beside the real file of the one rank that saved it. */
#include "fuzz.h"

static char folder[64] = "/tmp/sparselayer-fuzz-XXXXXX", path[96];
static sl_context *context;
static sl_comm *comm;

static void make_files(void) {
	sl_context_options o;
	sl_model *model;
	sl_comm_options c;
	sl_linear_options l;
	SL_OPTIONS_INIT(o);
	SL_OPTIONS_INIT(c);
	SL_OPTIONS_INIT(l);
	o.device = SL_DEVICE_CPU;
	o.threads = 1;
	o.memory_budget = (size_t)1 << 30;
	c.kind = SL_COMM_SELF;
	l.in_features = l.out_features = 12;
	l.density = 0.4;
	l.bias = true;
	must(sl_context_create(&context, &o) == SL_OK && sl_comm_create(&comm, context, &c) == SL_OK, "no context");
	must(mkdtemp(folder) != NULL, "no folder");
	snprintf(path, sizeof path, "%s/saved", folder);
	must(sl_model_create(&model, context) == SL_OK, "no model");
	must(sl_model_add_divided(context, model, comm, &l, 3) == SL_OK, "no layer");
	must(sl_model_save_divided(context, model, NULL, NULL, path) == SL_OK, "no file");
	sl_model_destroy(model);
}

static void remove_files(void) {
	char name[128];
	snprintf(name, sizeof name, "%s.1.1-of-1", path);
	unlink(name);
	unlink(path);
	rmdir(folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	if (!context) {
		make_files();
		atexit(remove_files);
	}
	FILE *file = fopen(path, "wb");
	must(file && fwrite(data, 1, size, file) == size && fclose(file) == 0, "no manifest");
	sl_memory_usage before, after;
	SL_OPTIONS_INIT(before);
	SL_OPTIONS_INIT(after);
	sl_context_memory(context, &before);
	sl_model *model;
	sl_optimizer *optimizer;
	sl_status status = sl_model_load_divided(&model, &optimizer, NULL, context, comm, path, NULL);
	must((status == SL_OK) == (model != NULL), "a status that does not fit the model");
	must(status == SL_OK || sl_context_message(context)[0], "a failure without a message");
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
	sl_context_memory(context, &after);
	must(after.current == before.current, "memory that was not given back");
	return 0;
}
