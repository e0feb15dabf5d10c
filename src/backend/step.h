/* SPDX-License-Identifier: Apache-2.0 */
/* What a step of an optimizer is made with, by its number: the same code for the host and for kernels. */
#ifndef SL_BACKEND_STEP_H
#define SL_BACKEND_STEP_H

#include <math.h>

#include "backend/backend.h"

#ifdef __CUDACC__
#define SL_STEP_FUNCTION static __host__ __device__ inline
#else
#define SL_STEP_FUNCTION static inline
#endif

SL_STEP_FUNCTION double sl_step_factor(const sl_schedule *schedule, int64_t step) {
	if (step < schedule->warmup)
		return (double)(step + 1) / (double)schedule->warmup;
	step -= schedule->warmup;
	if (schedule->kind == SL_SCHEDULE_STEP && schedule->interval > 0)
		return pow(schedule->gamma == 0 ? 0.1 : schedule->gamma, (double)(step / schedule->interval));
	if (schedule->kind != SL_SCHEDULE_COSINE)
		return 1;
	double done = schedule->total > 0 && step < schedule->total ? (double)step / (double)schedule->total : 1;
	return schedule->final_ratio + (1 - schedule->final_ratio) * 0.5 * (1 + cos(3.14159265358979323846 * done));
}

/* Of a step after `steps` others; clipping by norm is left out. */
SL_STEP_FUNCTION void sl_step_numbers(const sl_optimizer_options *o, int64_t steps, sl_update *numbers) {
	double t = (double)steps + 1;
	numbers->learning_rate = o->learning_rate * sl_step_factor(&o->schedule, steps);
	numbers->momentum = o->momentum;
	numbers->beta1 = o->beta1;
	numbers->beta2 = o->beta2;
	numbers->epsilon = o->epsilon;
	numbers->correction1 = 1 - pow(o->beta1, t);
	numbers->correction2 = 1 - pow(o->beta2, t);
	numbers->weight_decay = o->weight_decay > 0 ? o->weight_decay : 0;
	numbers->l1 = o->l1;
	numbers->l2 = o->l2;
	numbers->l1_proximal = o->l1_proximal;
	numbers->clip_value = o->clip_value;
	numbers->gradient_factor = 1;
	numbers->skip = 0;
}

/* A parameter that does not decay, as biases: the same without penalties. */
SL_STEP_FUNCTION void sl_step_without_decay(sl_update *numbers) {
	numbers->l1 = numbers->l2 = numbers->l1_proximal = numbers->weight_decay = 0;
}

/* SL_OP_ADVANCE. */
SL_STEP_FUNCTION void sl_step_advance(sl_step *s) {
	sl_step_numbers(&s->rules, s->steps, &s->numbers[0]);
	if (s->rules.clip_norm > 0) {
		s->norm = sqrt(s->squares);
		if (!(s->norm - s->norm == 0))
			s->numbers[0].skip = 1;
		else if (s->norm > s->rules.clip_norm)
			s->numbers[0].gradient_factor = s->rules.clip_norm / s->norm;
	}
	s->numbers[1] = s->numbers[0];
	sl_step_without_decay(&s->numbers[1]);
	if (s->numbers[0].skip != 0)
		s->skipped++;
	else
		s->steps++;
}

#endif
