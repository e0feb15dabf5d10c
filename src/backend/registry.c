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

/* A module is taken from the folder of this library's own file and from nowhere else. */
static bool module_path(const char *name, char *path, size_t size) {
	Dl_info info;
	const char *own = dladdr((const void *)(uintptr_t)sli_backend_load, &info) ? info.dli_fname : NULL;
	const char *slash = own ? strrchr(own, '/') : NULL;
	if (!slash)
		return false;
	int n = snprintf(path, size, "%.*s/%s", (int)(slash - own), own, name);
	return n > 0 && (size_t)n < size;
}

/* A module and its entry; what the entry gives is its affair. */
static void *open_module(const char *name, const char *symbol_name, void **symbol, char *path, char *why,
						 size_t why_size) {
	if (!module_path(name, path, PATH_MAX)) {
		snprintf(why, why_size, "the library's own folder is not known");
		return NULL;
	}
	/* MPI cannot be initialised twice, and would forget that it was, were it unloaded. */
	bool stays = !strcmp(symbol_name, SL_CARRIER_SYMBOL);
	void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL | (stays ? RTLD_NODELETE : 0));
	if (!module) {
		const char *reason = dlerror();
		snprintf(why, why_size, "the module could not be loaded: %s", reason ? reason : path);
		return NULL;
	}
	*symbol = dlsym(module, symbol_name);
	return module;
}

static const void *other_version(void *module, const char *path, char *why, size_t why_size) {
	snprintf(why, why_size, "%s belongs to another version of this library", path);
	dlclose(module);
	return NULL;
}

static const sl_backend *load_cuda(void **handle, char *why, size_t why_size) {
	char path[PATH_MAX];
	void *symbol,
		*module = open_module(SPARSELAYER_CUDA_MODULE_NAME, SL_BACKEND_MODULE_SYMBOL, &symbol, path, why, why_size);
	if (!module)
		return NULL;
	sl_backend_module_fn entry;
	memcpy(&entry, &symbol, sizeof entry);
	const sl_backend *backend = entry ? entry(SL_BACKEND_ABI) : NULL;
	if (!backend || backend->abi != SL_BACKEND_ABI)
		return other_version(module, path, why, why_size);
	*handle = module;
	return backend;
}

const sl_carrier *sli_carrier_load(sl_comm_kind kind, void **handle, char *why, size_t why_size) {
	char path[PATH_MAX];
	void *symbol, *module = open_module(kind == SL_COMM_MPI ? "libsparselayer_mpi.so" : "libsparselayer_nccl.so",
										SL_CARRIER_SYMBOL, &symbol, path, why, why_size);
	if (!module)
		return NULL;
	sl_carrier_fn entry;
	memcpy(&entry, &symbol, sizeof entry);
	const sl_carrier *carrier = entry ? entry(SL_CARRIER_ABI) : NULL;
	if (!carrier || carrier->abi != SL_CARRIER_ABI)
		return other_version(module, path, why, why_size);
	*handle = module;
	return carrier;
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
