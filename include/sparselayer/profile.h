/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file profile.h
 * Where the time goes: seconds and calls by kind of op, counted by a context that was asked to.
 */
#ifndef SPARSELAYER_PROFILE_H
#define SPARSELAYER_PROFILE_H

#include "context.h"

SL_BEGIN_DECLS

/** What one kind of op took. */
typedef struct sl_op_time {
	size_t struct_size; /**< sizeof(sl_op_time); set it before the call */
	const char *name;   /**< "spmm", "spmm transposed", "sddmm", "gemm", ...; "edit" for edits of patterns. Static */
	int64_t calls;      /**< since profiling began */
	double seconds;     /**< of wall time in them; planning is not in it */
} sl_op_time;

/** Begin to count, from zero, or stop. Off in a new context; on it costs two looks at the clock an op. */
SL_API sl_status sl_context_set_profiling(sl_context *context, bool on);
/** How many kinds there are: indices of sl_context_op_time(). */
SL_API int sl_context_op_time_count(void);
/**
 * What a kind of op took, used or not.
 * @param index from 0
 * @return #SL_ERR_ARGUMENT (index out of range), #SL_ERR_NULL
 */
SL_API sl_status sl_context_op_time(sl_context *context, int index, sl_op_time *time);

SL_END_DECLS
#endif
