/* SPDX-License-Identifier: Apache-2.0 */
/* What the module's tests take from the library, where only the module is built. */
#include <sparselayer/sparselayer.h>

sl_status sl_context_create(sl_context **context, const sl_context_options *options) {
	(void)options;
	*context = NULL;
	return SL_ERR_UNSUPPORTED;
}

void sl_context_destroy(sl_context *context) {
	(void)context;
}

const char *sl_context_message(const sl_context *context) {
	(void)context;
	return "";
}

sl_dense sl_dense_view(const void *data, sl_dtype dtype, int64_t rows, int64_t cols) {
	return (sl_dense){.data = (void *)(uintptr_t)data,
					  .dtype = dtype,
					  .device = SL_DEVICE_CPU,
					  .rows = rows,
					  .cols = cols,
					  .ld = cols > 0 ? cols : 1};
}
