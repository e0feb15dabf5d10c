/* SPDX-License-Identifier: Apache-2.0 */
/* What a program sees where CUDA cannot be used: a clear status when it insists, the CPU when it
 * does not. Where a GPU is usable the same calls must succeed. */
#include "support/check.h"

static int gpus(void) {
	sl_device_info infos[16];
	int count = 16, usable = 0;
	for (int i = 0; i < 16; i++)
		SL_OPTIONS_INIT(infos[i]);
	CHECK(sl_devices(infos, &count) == SL_OK);
	CHECK(count >= 1);
	CHECK_EQ(infos[0].device, SL_DEVICE_CPU);
	CHECK(infos[0].usable);
	for (int i = 1; i < count && i < 16; i++) {
		CHECK_EQ(infos[i].device, SL_DEVICE_CUDA);
		CHECK(infos[i].usable || infos[i].detail[0]);
		usable += infos[i].usable;
	}
	return usable;
}

SL_TEST(cuda_fallback, insisting_gives_a_status_or_a_gpu) {
	sl_context *context = NULL;
	char error[256] = "";
	sl_context_options options;
	SL_OPTIONS_INIT(options);
	options.device = SL_DEVICE_CUDA;
	options.error = error;
	options.error_size = sizeof error;
	sl_status status = sl_context_create(&context, &options);
	if (status == SL_OK) {
		CHECK(gpus() > 0);
		CHECK_EQ(sl_context_device(context), SL_DEVICE_CUDA);
	} else {
		CHECK_EQ(status, SL_ERR_DEVICE);
		CHECK(!context);
		CHECK(error[0]);
	}
	sl_context_destroy(context);
}

static int lines;

static void count_line(void *user, sl_log_level level, const char *line) {
	(void)user;
	if (level == SL_LOG_INFO && strstr(line, "cuda"))
		lines++;
}

SL_TEST(cuda_fallback, auto_takes_the_cpu_with_one_line) {
	sl_context *context = NULL;
	sl_context_options options;
	SL_OPTIONS_INIT(options);
	options.log = count_line;
	lines = 0;
	CHECK(sl_context_create(&context, &options) == SL_OK);
	if (sl_context_device(context) == SL_DEVICE_CPU)
		CHECK_EQ(lines, 1);
	sl_context_destroy(context);
}
