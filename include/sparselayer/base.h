/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file base.h
 * What every other header needs: linkage, the version, data types and devices.
 */
#ifndef SPARSELAYER_BASE_H
#define SPARSELAYER_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SL_VERSION_MAJOR 0 /**< changes when programs must be changed */
#define SL_VERSION_MINOR 1 /**< changes with what is there; while major is 0 it may break programs */
#define SL_VERSION_PATCH 0 /**< changes with repairs */
/** The version these headers belong to, as major * 10000 + minor * 100 + patch. */
#define SL_VERSION (SL_VERSION_MAJOR * 10000 + SL_VERSION_MINOR * 100 + SL_VERSION_PATCH)

/** @cond linkage */
#if defined(SPARSELAYER_STATIC)
#define SL_API
#elif defined(__GNUC__)
#define SL_API __attribute__((visibility("default")))
#else
#define SL_API
#endif

#ifdef __cplusplus
#define SL_BEGIN_DECLS extern "C" {
#define SL_END_DECLS   }
#else
#define SL_BEGIN_DECLS
#define SL_END_DECLS
#endif
/** @endcond */

/**
 * Zero an options struct and set its `struct_size`, in C99 and in C++.
 * In every options struct of this library zero means "the default". In C the same is had by a
 * designated initializer that begins with the struct's `SL_..._DEFAULTS` macro.
 */
#define SL_OPTIONS_INIT(var) (memset(&(var), 0, sizeof(var)), (void)((var).struct_size = sizeof(var)))

SL_BEGIN_DECLS

/** Element types. `SL_I32` and `SL_I64` are index types, never values of a matrix. */
typedef enum sl_dtype {
	SL_F32 = 1,  /**< IEEE binary32; the default where a dtype may be left 0 */
	SL_F64 = 2,  /**< IEEE binary64; for checking */
	SL_BF16 = 3, /**< bfloat16 storage, accumulated in float32 */
	SL_F16 = 4,  /**< IEEE binary16 storage, accumulated in float32 */
	SL_I32 = 16, /**< int32, for offsets, indices and permutations */
	SL_I64 = 17  /**< int64, likewise */
} sl_dtype;

/** Where memory is and where an op runs. */
typedef enum sl_device {
	SL_DEVICE_AUTO = 0, /**< CUDA where all that the CPU does can run there, else the CPU: so far always the CPU */
	SL_DEVICE_CPU = 1,  /**< the host */
	SL_DEVICE_CUDA = 2  /**< an NVIDIA GPU, by the CUDA module: layers and models over dense inputs */
} sl_device;

/** Bytes of one element of `dtype`; 0 for a value that is no dtype. */
SL_API size_t sl_dtype_size(sl_dtype dtype);
/** The dtype's name: "f32", "f64", "bf16", "f16", "i32", "i64"; "unknown" otherwise. Static. */
SL_API const char *sl_dtype_name(sl_dtype dtype);
/** "cpu", "cuda", "auto"; "unknown" otherwise. Static. */
SL_API const char *sl_device_name(sl_device device);
/** The version of the library linked at run time, encoded as #SL_VERSION. */
SL_API int sl_version(void);
/** The same as text, "0.1.0". Static. */
SL_API const char *sl_version_string(void);

SL_END_DECLS
#endif
