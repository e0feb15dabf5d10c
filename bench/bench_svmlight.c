/* SPDX-License-Identifier: Apache-2.0 */
/* bench-svmlight FILE THREADS TIMES: read a file so often, and print each time's seconds and what was read. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <sparselayer/sparselayer.h>

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static sl_status read_once(sl_context *context, const char *path) {
	sl_dataset *data;
	sl_dataset_content c = {.struct_size = sizeof c};
	/* Labels as numbers and values in double, as scikit-learn reads them. */
	sl_svmlight_options o = {SL_SVMLIGHT_DEFAULTS, .labels = SL_LABELS_NUMBERS, .dtype = SL_F64};
	double began = now();
	SL_TRY(sl_dataset_read_svmlight(&data, context, path, &o, NULL));
	double seconds = now() - began;
	SL_TRY(sl_dataset_get(context, data, &c));
	sl_pattern_arrays a;
	SL_TRY(sl_pattern_get(context, sl_csr_pattern(c.inputs), &a));
	printf("%.6f %lld %lld %lld\n", seconds, (long long)a.rows, (long long)a.cols, (long long)a.nnz);
	sl_dataset_destroy(data);
	return SL_OK;
}

int main(int argc, char **argv) {
	sl_context *context = NULL;
	if (argc != 4) {
		fprintf(stderr, "usage: bench-svmlight FILE THREADS TIMES\n");
		return 2;
	}
	sl_context_options o = {SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = atoi(argv[2])};
	sl_status status = sl_context_create(&context, &o);
	for (int i = 0; i < atoi(argv[3]) && status == SL_OK; i++)
		status = read_once(context, argv[1]);
	if (status != SL_OK)
		fprintf(stderr, "%s: %s\n", sl_status_text(status), context ? sl_context_message(context) : "");
	sl_context_destroy(context);
	return status != SL_OK;
}
