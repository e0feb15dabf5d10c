/* SPDX-License-Identifier: Apache-2.0 */
/* The module's table. It trains whole models; it is taken unasked only when it has sparse inputs too. */
#include "device.h"

static int64_t panel_width(void *device, sl_dtype dtype, int64_t batch, bool sparse) {
	(void)device, (void)dtype, (void)sparse;
	/* One panel is a feature-major matrix, which cuSPARSE and cuBLAS take as it is. */
	return batch > 0 ? batch : 1;
}

static const sl_backend backend = {
	.abi = SL_BACKEND_ABI,
	.flags = SL_BACKEND_TRAINS | SL_BACKEND_MEASURES,
	.name = "cuda",
	.device = SL_DEVICE_CUDA,
	.devices = sli_cuda_devices,
	.open = sli_cuda_open,
	.close = sli_cuda_close,
	.describe = sli_cuda_describe,
	.panel_width = panel_width,
	.allocate = sli_cuda_allocate,
	.release = sli_cuda_release,
	.copy = sli_cuda_copy,
	.fill = sli_cuda_fill,
	.event_create = sli_cuda_event_create,
	.event_destroy = sli_cuda_event_destroy,
	.event_record = sli_cuda_event_record,
	.event_wait = sli_cuda_event_wait,
	.synchronize = sli_cuda_synchronize,
	.check = sli_cuda_check_pointer,
	.trim = sli_cuda_trim,
	.capturing = sli_cuda_capturing,
	.time = sli_cuda_time,
	.supports = sli_cuda_supports,
	.workspace = sli_cuda_workspace,
	.plan = sli_cuda_plan,
	.execute = sli_cuda_execute,
	.destroy = sli_cuda_destroy,
	.candidates = sli_cuda_candidates,
};

SL_API const sl_backend *sl_backend_module(uint32_t abi);
const sl_backend *sl_backend_module(uint32_t abi) {
	return abi == SL_BACKEND_ABI ? &backend : NULL;
}
