/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/step.h"

double sl_schedule_factor(const sl_schedule *schedule, int64_t step) {
	return schedule ? sl_step_factor(schedule, step) : 1;
}
