/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzz targets share: bytes become a file, the file is read. */
#ifndef SL_TESTS_FUZZ_H
#define SL_TESTS_FUZZ_H

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <sparselayer/sparselayer.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok, const char *what) {
	if (!ok) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
}

/* A model is what safetensors may hold besides; it must read as that or give a status. */
static void read_model(sl_context *context, const char *path, const sl_read_limits *limits) {
	sl_model *model;
	sl_optimizer *optimizer;
	sl_status status = sl_model_load(&model, &optimizer, NULL, context, path, limits);
	must((status == SL_OK) == (model != NULL), "a status that does not fit the model");
	sl_optimizer_destroy(optimizer);
	sl_model_destroy(model);
}

/* The same bytes as data sets: every kind of labels, and ratings. */
static void read_datasets(sl_context *context, const char *path, const sl_read_limits *limits, bool ratings) {
	for (int kind = 0; kind < 3; kind++) {
		sl_dataset *d, *again = NULL;
		sl_svmlight_options s;
		sl_ratings_options r;
		SL_OPTIONS_INIT(s);
		SL_OPTIONS_INIT(r);
		s.labels = (sl_label_kind)kind;
		r.min_rating = kind;
		r.duplicates = (sl_duplicates)kind;
		sl_status status = ratings ? sl_dataset_read_ratings(&d, context, path, &r, limits)
								   : sl_dataset_read_svmlight(&d, context, path, &s, limits);
		must((status == SL_OK) == (d != NULL), "a status that does not fit the data set");
		must(status == SL_OK || sl_context_message(context)[0], "a failure without a message");
		/* What was read reads again as what it was. */
		s.like = r.like = d;
		if (d)
			status = ratings ? sl_dataset_read_ratings(&again, context, path, &r, limits)
							 : sl_dataset_read_svmlight(&again, context, path, &s, limits);
		must(!d || (s.labels == SL_LABELS_NUMBERS && status != SL_OK) || again, "a file that is not like itself");
		sl_dataset_destroy(again);
		sl_dataset_destroy(d);
	}
}

/* A matrix that was read must be whole: it transposes, and is freed to the last byte. */
static int fuzz_read(const uint8_t *data, size_t size, sl_format format) {
	static sl_context *context;
	static int fd = -1;
	static char path[64];
	if (!context) {
		sl_context_options o;
		SL_OPTIONS_INIT(o);
		o.device = SL_DEVICE_CPU;
		o.threads = 1;
		o.memory_budget = (size_t)1 << 30;
		must(sl_context_create(&context, &o) == SL_OK, "no context");
		fd = memfd_create("fuzz", 0);
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	}
	must(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size, "no file");
	sl_memory_usage before, after;
	SL_OPTIONS_INIT(before);
	SL_OPTIONS_INIT(after);
	sl_context_memory(context, &before);
	sl_read_limits limits;
	SL_OPTIONS_INIT(limits);
	limits.max_nonzeros = 1 << 20;
	limits.max_bytes = 1 << 26;
	sl_csr *matrix, *turned = NULL;
	sl_status status = sl_csr_read(&matrix, context, path, format, &limits);
	must((status == SL_OK) == (matrix != NULL), "a status that does not fit the matrix");
	must(status == SL_OK || sl_context_message(context)[0], "a failure without a message");
	if (matrix) {
		sl_pattern_arrays a;
		must(sl_pattern_get(context, sl_csr_pattern(matrix), &a) == SL_OK, "no pattern");
		if (a.rows < 1 << 20 && a.cols < 1 << 20)
			must(sl_csr_transpose(&turned, context, matrix) == SL_OK, "a matrix that does not transpose");
	}
	sl_csr_destroy(turned);
	sl_csr_destroy(matrix);
	if (format == SL_FORMAT_SVMLIGHT) {
		read_datasets(context, path, &limits, false);
		read_datasets(context, path, &limits, true);
	}
	if (format == SL_FORMAT_SAFETENSORS)
		read_model(context, path, &limits);
	sl_context_memory(context, &after);
	must(after.current == before.current, "memory that was not given back");
	return 0;
}

#endif
