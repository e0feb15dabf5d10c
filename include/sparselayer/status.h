/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file status.h
 * Statuses. Every call that can fail returns one; the context keeps the sentence that says what
 * was wrong and where (sl_context_message()).
 */
#ifndef SPARSELAYER_STATUS_H
#define SPARSELAYER_STATUS_H

#include "base.h"

SL_BEGIN_DECLS

/** @cond list */
/* One line a status: name, pinned value (gaps are left for later), text. */
#define SL_STATUS_LIST(X)                                                                                              \
	X(SL_OK, 0, "success")                                                                                             \
	X(SL_ERR_ARGUMENT, 10, "an argument has a value that is not allowed")                                              \
	X(SL_ERR_NULL, 11, "a pointer that must not be null is null")                                                      \
	X(SL_ERR_SHAPE, 12, "shapes do not meet")                                                                          \
	X(SL_ERR_DTYPE, 13, "this combination of data types is not supported")                                             \
	X(SL_ERR_LAYOUT, 14, "a leading dimension or storage order is not usable")                                         \
	X(SL_ERR_ALIAS, 15, "an output overlaps memory that it must not")                                                  \
	X(SL_ERR_OVERFLOW, 16, "a size does not fit its type")                                                             \
	X(SL_ERR_STRUCTURE, 20, "the sparse structure is not valid")                                                       \
	X(SL_ERR_NONFINITE, 21, "a value is NaN or infinite")                                                              \
	X(SL_ERR_MEMORY, 30, "memory could not be allocated")                                                              \
	X(SL_ERR_BUDGET, 31, "the context's memory budget is too small")                                                   \
	X(SL_ERR_DEVICE, 40, "the device is not available")                                                                \
	X(SL_ERR_BACKEND, 41, "a library under this one failed")                                                           \
	X(SL_ERR_DEVICE_LOST, 42, "the device reported an error it cannot recover from")                                   \
	X(SL_ERR_UNSUPPORTED, 50, "not supported by this backend or build")                                                \
	X(SL_ERR_STATE, 51, "called in a state that does not allow it")                                                    \
	X(SL_ERR_FORKED, 52, "the context belongs to the parent process")                                                  \
	X(SL_ERR_IO, 60, "reading or writing failed")                                                                      \
	X(SL_ERR_NOT_FOUND, 61, "a file or name does not exist")                                                           \
	X(SL_ERR_FORMAT, 62, "the file's content is not valid")                                                            \
	X(SL_ERR_LIMIT, 63, "the file declares more than the limits allow")                                                \
	X(SL_ERR_NO_SPACE, 64, "no space is left on the device")                                                           \
	X(SL_ERR_CANCELLED, 70, "cancelled by the caller")                                                                 \
	X(SL_ERR_COMM, 80, "communication between ranks failed")                                                           \
	X(SL_ERR_DISAGREE, 81, "ranks that must agree do not")                                                             \
	X(SL_ERR_INTERNAL, 90, "an internal error; please report it")
/** @endcond */

/**
 * What a call returns. Besides what its own text names, any call may return #SL_ERR_NULL (a pointer that
 * is needed is NULL), #SL_ERR_ARGUMENT (an unknown enumerator, a struct_size that was not set), and, where
 * it allocates, #SL_ERR_MEMORY and #SL_ERR_BUDGET. On a GPU any call may also return #SL_ERR_BACKEND (with the text of the
 * CUDA library that failed), #SL_ERR_STATE (it would allocate, plan or wait while the stream captures a graph: prepare
 * first), #SL_ERR_FORKED (the process is a child of the one that made the context; CPU contexts survive a fork) and
 * #SL_ERR_DEVICE_LOST: the driver reported an error that nothing in the process recovers from. The context is lost then;
 * every later call says so, and destroying works.
 */
typedef enum sl_status {
/** @cond list */
#define SL_STATUS_ENUM(name, value, text) name = value,
	/** @endcond */
	SL_STATUS_LIST(SL_STATUS_ENUM)
#undef SL_STATUS_ENUM
} sl_status;

/** The status's own text, for instance "shapes do not meet". Static; never NULL. */
SL_API const char *sl_status_text(sl_status status);
/** The status's name, for instance "SL_ERR_SHAPE". Static; never NULL. */
SL_API const char *sl_status_name(sl_status status);

/** Return the status of `call` from the enclosing function unless it is #SL_OK. */
#define SL_TRY(call)                                                                                                   \
	do {                                                                                                               \
		sl_status sl_try_status_ = (call);                                                                             \
		if (sl_try_status_ != SL_OK)                                                                                   \
			return sl_try_status_;                                                                                     \
	} while (0)

SL_END_DECLS
#endif
