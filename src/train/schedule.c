/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include <sparselayer/optimizer.h>

double sl_schedule_factor(const sl_schedule *schedule, int64_t step) {
	if (!schedule)
		return 1;
	if (step < schedule->warmup)
		return (double)(step + 1) / (double)schedule->warmup;
	step -= schedule->warmup;
	switch (schedule->kind) {
	case SL_SCHEDULE_STEP:
		if (schedule->interval <= 0)
			return 1;
		return pow(schedule->gamma == 0 ? 0.1 : schedule->gamma, (double)(step / schedule->interval));
	case SL_SCHEDULE_COSINE: {
		double done = schedule->total > 0 && step < schedule->total ? (double)step / (double)schedule->total : 1;
		return schedule->final_ratio + (1 - schedule->final_ratio) * 0.5 * (1 + cos(3.14159265358979323846 * done));
	}
	case SL_SCHEDULE_CONSTANT:
		break;
	}
	return 1;
}
