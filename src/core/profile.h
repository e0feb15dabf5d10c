/* SPDX-License-Identifier: Apache-2.0 */
/* Time by kind of op. */
#ifndef SL_CORE_PROFILE_H
#define SL_CORE_PROFILE_H

#include "core/context.h"

/* Rows: the kinds of ops, and what has no kind in the seam. */
enum { SL_PROFILE_TRANSPOSED = SL_OP_COUNT, SL_PROFILE_EDIT, SL_PROFILE_COUNT };

typedef struct sl_profile {
	bool on;
	int64_t calls[SL_PROFILE_COUNT];
	double seconds[SL_PROFILE_COUNT];
} sl_profile;

/* A clock that only goes forward. */
double sli_seconds(void);
/* It, or 0 where nothing is counted. */
double sli_profile_begin(const sl_context *context);
void sli_profile_end(sl_context *context, int row, double began);
sl_profile *sli_profile(sl_context *context);
const char *sli_profile_name(int row);

#endif
