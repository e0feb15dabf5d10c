/* SPDX-License-Identifier: Apache-2.0 */
/* For suites linked with --wrap=sli_backend_load: contexts on SL_DEVICE_CUDA run on the fake GPU. */
#include "backend/registry.h"
#include "support/check.h"

SL_API const sl_backend *sl_backend_module(uint32_t abi);
const sl_backend *__real_sli_backend_load(sl_device device, void **handle, char *why, size_t why_size);
const sl_backend *__wrap_sli_backend_load(sl_device device, void **handle, char *why, size_t why_size);

const sl_backend *__wrap_sli_backend_load(sl_device device, void **handle, char *why, size_t why_size) {
	if (device != SL_DEVICE_CUDA)
		return __real_sli_backend_load(device, handle, why, why_size);
	*handle = NULL;
	return sl_backend_module(SL_BACKEND_ABI);
}
