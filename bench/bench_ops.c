/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three products of a sparse layer against dense and sparse libraries, case by case.
 * Efficiency is density * fastest dense time / sparse time: 1 is a nonzero as cheap as a dense weight.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "ceilings.h"
#include "contender.h"
#include "results.h"
#include "turns.h"

#include <sparselayer/sparselayer.h>

static const char usage[] =
	"bench-ops [-p PEERS] [-o RESULTS] [-k EVERY] CASES [THREADS [SECONDS [FILTER]]]\n"
	"  -p  who takes part: dense (default), c (and sparse C libraries), all (and Python's), none\n"
	"  -o  append to this file, and skip what it has\n"
	"  -k  every how manyth case (default 1: all)\n"
	"  -s  only summarise the file of -o\n"
	"  SECONDS for each contender and case (default 0.25); FILTER: part of a case's line, such as \"dx 1024\"";
enum { MOST_CASES = 20000 };

/* Version and CPU; threads and instruction set are columns, so that runs share a file. */
static void machine_line(char *text, size_t size, const contender *ours) {
	const char *cpu = strstr(ours->detail, " threads, ");
	snprintf(text, size, "sparselayer %s, %s", sl_version_string(), cpu ? cpu + 10 : ours->detail);
	text[strcspn(text, ")")] = 0;
}

static void print_case(const bench_case *c, const contender *list, const timing *t, int count, const result *ours,
					   const result *dense) {
	char name[96];
	case_name(c, name, sizeof name);
	printf("%-34s", name);
	if (ours->repetitions) {
		double floor = fmax(ours->arithmetic, ours->bytes);
		printf(" %9.1f us %5.1f%% cold %9.1f  %7.1f GF/s  %4.2f floors (%s)", 1e6 * ours->median,
			   100 * (ours->high - ours->low) / ours->median, 1e6 * ours->cold,
			   2e-9 * (double)ours->nnz * (double)c->batch / ours->median, ours->median / floor,
			   ours->bytes > ours->arithmetic ? "bytes" : "flops");
		if (dense->repetitions)
			printf("  e %.3f  %.2fx %s %s", (double)ours->nnz / (double)(c->out * c->in) * dense->median / ours->median,
				   dense->median / ours->median, dense->contender, dense->variant);
	}
	for (int i = 0; i < count; i++) {
		if (t[i].wrong)
			printf("  WRONG: %s", list[i].name);
		else if (t[i].repetitions && (list[i].role == SPARSE || list[i].role == PLANNED))
			printf("  %s %.2f", list[i].name, t[i].median / ours->median);
	}
	printf("\n");
	fflush(stdout);
}

static bool done_already(const results *r, const char *isa, const bench_case *c, const contender *list, int count) {
	bool done = r->file != NULL;
	for (int i = 0; i < count; i++)
		done = done && (list[i].missing || results_have(r, isa, list[i].threads, c, list[i].name));
	return done;
}

/* The planner's choice once more, with who it is compared to, where it looks more than a tenth slower. */
static void retime_plan(contender *list, int count, const operands *o, double budget, timing *t) {
	enum { OURS_AT, AUTO_AT, TILES_AT, ONEDNN_AT, ALL };
	if (count < ALL || list[AUTO_AT].role != PLANNED || list[ONEDNN_AT].role != DENSE)
		return;
	for (int again = 0; again < 2; again++) {
		double best = t[OURS_AT].median;
		for (int i = TILES_AT; i < ALL; i++)
			best = t[i].repetitions ? fmin(best, t[i].median) : best;
		if (t[AUTO_AT].median <= 1.1 * best)
			return;
		turns_measure(list, ALL, o, 2 * budget, t);
	}
}

static void measure(const bench_case *c, operands *o, contender *list, int count, const ceilings *ceil, double budget,
					const char *isa, results *r) {
	timing t[MOST_CONTENDERS];
	result ours = {0}, dense = {0};
	static const char *const roles[] = {"ours", "planned", "dense", "sparse"};
	if (!o->x || o->c.out != c->out || o->c.in != c->in || o->c.batch != c->batch || o->c.density != c->density ||
		o->c.pattern != c->pattern) {
		if (o->x)
			operands_free(o);
		operands_make(o, c);
	}
	o->c = *c;
	turns_measure(list, count, o, budget, t);
	retime_plan(list, count, o, budget, t);
	for (int i = count - 1; i >= 0; i--) {
		result x = {.threads = list[i].threads,
					.c = *c,
					.nnz = o->nnz,
					.repetitions = t[i].repetitions,
					.median = t[i].median,
					.low = t[i].low,
					.high = t[i].high,
					.cold = t[i].cold,
					.arithmetic = ceilings_arithmetic(ceil, o),
					.bytes = ceilings_bytes(ceil, o)};
		if (list[i].missing)
			continue;
		snprintf(x.isa, sizeof x.isa, "%s", isa);
		snprintf(x.contender, sizeof x.contender, "%s", list[i].name);
		snprintf(x.role, sizeof x.role, "%s", roles[list[i].role]);
		snprintf(x.variant, sizeof x.variant, "%s", x.repetitions ? list[i].labels[t[i].variant] : "-");
		results_add(r, &x);
		if (list[i].role == OURS)
			ours = x;
		if (list[i].role == DENSE && x.repetitions && (!dense.repetitions || x.median < dense.median))
			dense = x;
		bench_need(!t[i].wrong || list[i].role != OURS, x.contender, "a wrong result");
	}
	print_case(c, list, t, count, &ours, &dense);
}

int main(int argc, char **argv) {
	static bench_case cases[MOST_CASES];
	static contender list[MOST_CONTENDERS];
	contender_choice choice = {.planned = true, .dense = true};
	const char *file = NULL;
	int every = 1, only_summary = 0;
	for (int option; (option = getopt(argc, argv, "p:o:k:s")) != -1;) {
		if (option == 'p') {
			bool c = !strcmp(optarg, "c"), all = !strcmp(optarg, "all"), none = !strcmp(optarg, "none");
			bench_need(c || all || none || !strcmp(optarg, "dense"), "usage", usage);
			choice = (contender_choice){!none, !none, c || all, all};
		} else if (option == 'o') {
			file = optarg;
		} else if (option == 'k') {
			every = atoi(optarg);
		} else {
			bench_need(option == 's', "usage", usage);
			only_summary = 1;
		}
	}
	int threads = optind + 1 < argc ? atoi(argv[optind + 1]) : 1;
	double budget = optind + 2 < argc ? atof(argv[optind + 2]) : 0.25;
	const char *filter = optind + 3 < argc ? argv[optind + 3] : "",
			   *isa = bench_isa() == 2 && getenv("SPARSELAYER_CPU") ? "avx2" : "best";
	bench_need(optind < argc && threads > 0 && budget > 0 && every > 0, "usage", usage);
	bench_environment(argv, threads);
	int count = cases_read(argv[optind], cases, MOST_CASES), peers = contenders_open(list, threads, choice);
	char machine[512];
	results r;
	machine_line(machine, sizeof machine, &list[0]);
	results_open(&r, file, machine);
	printf("# %s; %d threads; flags %s\n", machine, threads, SL_BENCH_FLAGS);
	for (int i = 0; i < peers; i++)
		printf("# %s: %s\n", list[i].name, list[i].detail);
	if (!only_summary) {
		ceilings ceil;
		operands o = {0};
		ceilings_measure(&ceil, threads);
		printf("# ceilings, %d threads: %.0f GF/s; reading L1 %.0f, L2 %.0f, L3 %.0f, memory %.1f GB/s\n", threads,
			   1e-9 * ceil.flops, 1e-9 * ceil.l1, 1e-9 * ceil.l2, 1e-9 * ceil.l3, 1e-9 * ceil.memory);
		printf("# case; median, interquartile range, cold caches; rate; times the larger of two floors; efficiency and "
			   "speed-up over the fastest dense; peers' times over ours\n");
		for (int i = 0; i < count; i += every) {
			char name[96];
			case_name(&cases[i], name, sizeof name);
			if (strstr(name, filter) && !done_already(&r, isa, &cases[i], list, peers))
				measure(&cases[i], &o, list, peers, &ceil, budget, isa, &r);
		}
		if (o.x)
			operands_free(&o);
	}
	results_summary(&r, isa, threads);
	results_close(&r);
	contenders_close(list, peers);
	return 0;
}
