/* SPDX-License-Identifier: Apache-2.0 */
#include "turns.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

enum { ROUNDS = 5, MOST_REPS = 400, COLD = 5, FLUSH = 48 << 20 };
static const double SHORTEST = 10e-6; /* products that take less are timed several at once */

typedef struct samples {
	double seconds[ROUNDS * MOST_REPS];
	int count;
} samples;

/* Warm-up first; a slow product is its own warm-up, and is not run more often than it must. */
static int time_here(contender *c, int variant, double budget, int most, double *seconds) {
	double once = INFINITY;
	for (int i = 0; i < 3 && (i == 0 || once < budget); i++) {
		double began = bench_seconds();
		c->run(c, variant);
		once = fmin(once, bench_seconds() - began);
	}
	int inner = once < SHORTEST ? (int)(SHORTEST / once) + 1 : 1, have = 0;
	if (once > 4 * budget) {
		seconds[0] = once;
		return 1;
	}
	double start = bench_seconds();
	while (have < most && (have == 0 || bench_seconds() - start < budget)) {
		double began = bench_seconds();
		for (int i = 0; i < inner; i++)
			c->run(c, variant);
		seconds[have++] = (bench_seconds() - began) / inner;
	}
	return have;
}

static void block(contender *c, int variant, double budget, samples *s) {
	bench_settle();
	double *to = s->seconds + s->count;
	s->count += c->time ? c->time(c, variant, budget, MOST_REPS, to) : time_here(c, variant, budget, MOST_REPS, to);
}

static double quantile(const samples *s, double q) {
	if (!s->count)
		return INFINITY;
	double sorted[ROUNDS * MOST_REPS];
	memcpy(sorted, s->seconds, (size_t)s->count * sizeof *sorted);
	return bench_quantile(sorted, s->count, q);
}

/* Every variant once, against double. */
static bool check(contender *c, int variants, const operands *o) {
	float *result = bench_floats(operands_result(o));
	bool right = true;
	for (int v = 0; v < variants && right; v++) {
		for (int64_t i = 0; i < operands_result(o); i++)
			result[i] = NAN;
		if (c->run)
			c->run(c, v);
		c->result(c, v, result);
		right = operands_check(o, result);
	}
	free(result);
	return right;
}

static double time_cold(contender *c, int variant, double median) {
	static volatile float *flush;
	double seconds[COLD];
	if (!c->run || median > 0.2)
		return 0;
	if (!flush)
		flush = bench_floats(FLUSH / 4);
	for (int i = 0; i < COLD; i++) {
		for (int k = 0; k < FLUSH / 4; k += 16)
			flush[k] = 1;
		double began = bench_seconds();
		c->run(c, variant);
		seconds[i] = bench_seconds() - began;
	}
	return bench_quantile(seconds, COLD, 0.5);
}

void turns_measure(contender *list, int count, const operands *o, double budget, timing *timings) {
	samples *s = calloc((size_t)count * MOST_VARIANTS, sizeof *s);
	int variants[MOST_CONTENDERS] = {0};
	bool in[MOST_CONTENDERS][MOST_VARIANTS] = {{false}};
	bench_need(s != NULL, "memory", "too little");
	for (int i = 0; i < count; i++) {
		timings[i] = (timing){0};
		if (list[i].missing || !(variants[i] = list[i].prepare(&list[i], o)))
			continue;
		timings[i].wrong = !check(&list[i], variants[i], o);
		for (int v = 0; v < variants[i]; v++)
			in[i][v] = !timings[i].wrong;
		bench_pin_new_threads(list[i].threads);
	}
	for (int round = 0; round < ROUNDS; round++) {
		double fastest = INFINITY;
		for (int i = 0; i < count; i++) {
			int taking = 0;
			double best = INFINITY, spent = 0;
			for (int v = 0; v < variants[i]; v++)
				taking += in[i][v];
			for (int v = 0; v < variants[i]; v++) {
				samples *mine = &s[i * MOST_VARIANTS + v];
				if (!in[i][v])
					continue;
				block(&list[i], v, budget / ROUNDS / taking, mine);
				best = fmin(best, quantile(mine, 0.5));
				for (int k = 0; k < mine->count; k++)
					spent += mine->seconds[k];
			}
			for (int v = 0; v < variants[i]; v++) {
				double median = in[i][v] ? quantile(&s[i * MOST_VARIANTS + v], 0.5) : 0;
				/* Two rounds will do for what takes long. */
				if ((round == 0 && median > 1.15 * best) || (round >= 1 && spent > budget))
					in[i][v] = false;
			}
			if (list[i].role == DENSE)
				fastest = fmin(fastest, best);
		}
		for (int i = 0; i < count && round == 0; i++)
			for (int v = 0; v < variants[i]; v++)
				if (list[i].role == DENSE && in[i][v] && quantile(&s[i * MOST_VARIANTS + v], 0.5) > 1.25 * fastest)
					in[i][v] = false;
	}
	int baseline = -1;
	for (int i = 0; i < count; i++) {
		timing *t = &timings[i];
		for (int v = 0; v < variants[i] && !t->wrong; v++) {
			samples *mine = &s[i * MOST_VARIANTS + v];
			double median = mine->count ? quantile(mine, 0.5) : INFINITY;
			if (!mine->count || (t->repetitions && median >= t->median))
				continue;
			*t = (timing){.variant = v,
						  .repetitions = mine->count,
						  .median = median,
						  .low = quantile(mine, 0.25),
						  .high = quantile(mine, 0.75)};
		}
		if (list[i].role == DENSE && t->repetitions && (baseline < 0 || t->median < timings[baseline].median))
			baseline = i;
	}
	for (int i = 0; i < count; i++)
		if (timings[i].repetitions && (list[i].role == OURS || i == baseline))
			timings[i].cold = time_cold(&list[i], timings[i].variant, timings[i].median);
	for (int i = 0; i < count; i++)
		if (variants[i])
			list[i].finish(&list[i]);
	free(s);
}
