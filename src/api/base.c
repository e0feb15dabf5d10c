/* SPDX-License-Identifier: Apache-2.0 */
#include <sparselayer/base.h>

size_t sl_dtype_size(sl_dtype dtype) {
	switch (dtype) {
	case SL_F64:
	case SL_I64:
		return 8;
	case SL_F32:
	case SL_I32:
		return 4;
	case SL_BF16:
	case SL_F16:
		return 2;
	}
	return 0;
}

const char *sl_dtype_name(sl_dtype dtype) {
	switch (dtype) {
	case SL_F32:
		return "f32";
	case SL_F64:
		return "f64";
	case SL_BF16:
		return "bf16";
	case SL_F16:
		return "f16";
	case SL_I32:
		return "i32";
	case SL_I64:
		return "i64";
	}
	return "unknown";
}

const char *sl_device_name(sl_device device) {
	switch (device) {
	case SL_DEVICE_AUTO:
		return "auto";
	case SL_DEVICE_CPU:
		return "cpu";
	case SL_DEVICE_CUDA:
		return "cuda";
	}
	return "unknown";
}

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

int sl_version(void) {
	return SL_VERSION;
}

const char *sl_version_string(void) {
	return TEXT(SL_VERSION_MAJOR) "." TEXT(SL_VERSION_MINOR) "." TEXT(SL_VERSION_PATCH);
}
