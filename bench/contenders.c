/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "contender.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

const char *bench_venv(void) {
	const char *path = getenv("SL_BENCH_VENV");
	return path ? path : "build/bench-venv";
}

void *bench_library(const char *under, const char *const *names) {
	for (; *names; names++) {
		glob_t found;
		void *library = NULL;
		char pattern[512];
		if (!*under) {
			if ((library = dlopen(*names, RTLD_NOW | RTLD_LOCAL)))
				return library;
			continue;
		}
		snprintf(pattern, sizeof pattern, "%s/%s/%s", bench_venv(), under, *names);
		if (glob(pattern, 0, NULL, &found) == 0) {
			char *path = realpath(found.gl_pathv[0], NULL);
			library = path ? dlopen(path, RTLD_LAZY | RTLD_GLOBAL) : NULL;
			if (path && !library)
				fprintf(stderr, "# %s\n", dlerror());
			free(path);
			globfree(&found);
		}
		if (library)
			return library;
	}
	return NULL;
}

int contenders_open(contender *list, int threads, contender_choice choice) {
	static void (*const dense[])(contender *) = {contender_onednn, contender_onednn_matmul, contender_openblas_pypi,
												 contender_mkl_dense};
	static void (*const sparse[])(contender *) = {contender_openblas_debian, contender_mkl_sparse, contender_graphblas,
												  contender_xsmm};
	static const char *const python[] = {"scipy", "torch", "tensorflow", "jax"};
	int count = 0;
	contender_ours(&list[count++]);
	if (choice.planned) {
		contender_auto(&list[count++]);
		contender_tiles(&list[count++]);
	}
	for (size_t i = 0; choice.dense && i < sizeof dense / sizeof *dense; i++)
		dense[i](&list[count++]);
	for (size_t i = 0; choice.sparse && i < sizeof sparse / sizeof *sparse; i++)
		sparse[i](&list[count++]);
	for (size_t i = 0; choice.python && i < sizeof python / sizeof *python; i++)
		contender_python(&list[count++], python[i]);
	for (int i = 0; i < count; i++) {
		list[i].threads = threads;
		list[i].missing = !list[i].open(&list[i]);
	}
	return count;
}

void contenders_close(contender *list, int count) {
	for (int i = 0; i < count; i++)
		if (!list[i].missing && list[i].close)
			list[i].close(&list[i]);
}
