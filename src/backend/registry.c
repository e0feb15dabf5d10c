/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* dladdr */
#include "backend/registry.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>

extern const sl_backend sl_backend_cpu;

#ifndef SPARSELAYER_CUDA_MODULE_NAME
#define SPARSELAYER_CUDA_MODULE_NAME "libsparselayer_cuda.so"
#endif

/* The module is taken from the folder of this library's own file and from nowhere else. */
static bool module_path(char *path, size_t size) {
	Dl_info info;
	const char *own = dladdr((const void *)(uintptr_t)sli_backend_load, &info) ? info.dli_fname : NULL;
	const char *slash = own ? strrchr(own, '/') : NULL;
	if (!slash)
		return false;
	int n = snprintf(path, size, "%.*s/%s", (int)(slash - own), own, SPARSELAYER_CUDA_MODULE_NAME);
	return n > 0 && (size_t)n < size;
}

static const sl_backend *load_cuda(void **handle, char *why, size_t why_size) {
	char path[PATH_MAX];
	if (!module_path(path, sizeof path)) {
		snprintf(why, why_size, "the library's own folder is not known");
		return NULL;
	}
	void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!module) {
		const char *reason = dlerror();
		snprintf(why, why_size, "the module could not be loaded: %s", reason ? reason : path);
		return NULL;
	}
	sl_backend_module_fn entry;
	void *symbol = dlsym(module, SL_BACKEND_MODULE_SYMBOL);
	memcpy(&entry, &symbol, sizeof entry);
	const sl_backend *backend = entry ? entry(SL_BACKEND_ABI) : NULL;
	if (!backend || backend->abi != SL_BACKEND_ABI) {
		snprintf(why, why_size, "%s belongs to another version of this library", path);
		dlclose(module);
		return NULL;
	}
	*handle = module;
	return backend;
}

const sl_backend *sli_backend_load(sl_device device, void **handle, char *why, size_t why_size) {
	*handle = NULL;
	if (device == SL_DEVICE_CPU)
		return &sl_backend_cpu;
	return load_cuda(handle, why, why_size);
}

void sli_backend_unload(void *handle) {
	if (handle)
		dlclose(handle);
}
