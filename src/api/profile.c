/* SPDX-License-Identifier: Apache-2.0 */
#include "core/profile.h"
#include "ops/ops.h"

sl_status sl_context_set_profiling(sl_context *context, bool on) {
	if (!context)
		return SL_ERR_NULL;
	*sli_profile(context) = (sl_profile){.on = on};
	return SL_OK;
}

int sl_context_op_time_count(void) {
	return SL_PROFILE_COUNT;
}

sl_status sl_context_op_time(sl_context *context, int index, sl_op_time *time) {
	if (!context)
		return SL_ERR_NULL;
	if (index < 0 || index >= SL_PROFILE_COUNT)
		return sli_fail(context, SL_ERR_ARGUMENT, "index is %d; there are %d kinds of ops", index, SL_PROFILE_COUNT);
	const sl_profile *p = sli_profile(context);
	sl_op_time full = {sizeof full, sli_profile_name(index), p->calls[index], p->seconds[index]};
	return sli_give_struct(context, time, &full, sizeof full, "time");
}
