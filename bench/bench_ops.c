/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three products of a sparse layer against the fastest dense library, case by case:
 *   forward Y = W X, dx dX = W^T dY, dw dW = dY X^T on W's pattern.
 * Each case is checked against double before it is timed. Sparse and each dense library take turns, some
 * repetitions at a time; activations are warm, as a preceding layer leaves them; the cold figure is beside.
 * Efficiency is density * dense time / sparse time: 1 is a nonzero as cheap as a dense weight.
 * Usage: bench-ops CASES [THREADS [SECONDS_A_CASE]]
 */
#include <sparselayer/sparselayer.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "dense_peers.h"

enum { MOST_REPS = 2000, ROUNDS = 5, MOST_PEERS = 4, MOST_CASES = 10000 };
typedef enum op { FORWARD, DX, DW, OPS } op;
static const char *const op_names[] = {"forward", "dx", "dw"};

typedef struct bench_case {
	op op;
	int64_t out, in, batch;
	double density;
	bool power; /* rows of very different length */
} bench_case;

typedef struct figures {
	double sparse, dense, cold; /* seconds */
	double gflops, efficiency, spread;
	const char *best;
} figures;

static sl_context *context;
static dense_peer peers[MOST_PEERS];
static int peer_count;
static double peak; /* the best dense rate of the run, GF/s */
static float *flush;
enum { FLUSH = 64 << 20 };

static void must(sl_status status) {
	bench_need(status == SL_OK, sl_status_text(status), sl_context_message(context));
}

static float *numbers(int64_t count, unsigned seed) {
	float *x = aligned_alloc(64, (size_t)(count * 4 + 63) / 64 * 64);
	bench_need(x != NULL, "memory", "too little for this case");
	for (int64_t i = 0; i < count; i++) {
		seed = seed * 1664525u + 1013904223u;
		x[i] = (float)(seed >> 8) / (float)(1 << 23) - 1;
	}
	return x;
}

/* Power law: row r has a share of the nonzeros that falls as 1 / sqrt(r + 1). */
static sl_pattern *power_pattern(const bench_case *c) {
	int64_t *offsets = calloc((size_t)c->out + 1, sizeof *offsets), nnz = 0;
	int32_t *columns = malloc((size_t)(c->out * c->in) * sizeof *columns + 1);
	double sum = 0;
	unsigned seed = 7;
	for (int64_t r = 0; r < c->out; r++)
		sum += 1 / sqrt((double)r + 1);
	for (int64_t r = 0; r < c->out; r++) {
		double p = c->density * (double)c->out / sqrt((double)r + 1) / sum;
		for (int64_t j = 0; j < c->in; j++) {
			seed = seed * 1664525u + 1013904223u;
			if ((seed >> 8) < p * (1 << 24))
				columns[nnz++] = (int32_t)j;
		}
		offsets[r + 1] = nnz;
	}
	sl_pattern *pattern;
	must(sl_pattern_create(&pattern, context, c->out, c->in, nnz, offsets, SL_I64, columns, SL_I32));
	free(offsets), free(columns);
	return pattern;
}

static int64_t width_of(int64_t batch) {
	return batch >= 33 ? 64 : batch >= 17 ? 32 : batch >= 9 ? 16 : 8;
}

static sl_dense panels(float *data, int64_t rows, int64_t batch) {
	sl_dense view = sl_dense_view(data, SL_F32, rows, batch);
	view.order = SL_COL_PANELS;
	view.ld = width_of(batch);
	return view;
}

static float at(const sl_dense *m, int64_t r, int64_t c) {
	return ((float *)m->data)[c / m->ld * m->rows * m->ld + r * m->ld + c % m->ld];
}

/* One case's matrices: in panels for the sparse side, whole for the dense. */
typedef struct room {
	const bench_case *c;
	sl_csr *w;
	sl_dense x, y; /* [in, batch], [out, batch] */
	float *dense_w, *dense_x, *dense_y;
	sl_plan *plan;
} room;

static void run_sparse(room *m) {
	sl_dense turned = sl_dense_transposed(m->x);
	if (m->c->op == FORWARD)
		must(sl_plan_run_spmm(context, m->plan, 1, m->w, &m->x, 0, &m->y, NULL));
	else if (m->c->op == DX)
		must(sl_plan_run_spmm(context, m->plan, 1, m->w, &m->y, 0, &m->x, NULL));
	else
		must(sl_plan_run_sddmm(context, m->plan, 1, &m->y, &turned, 0, m->w));
}

/* The layouts that suit the dense library: W turned ahead of time for dX costs it nothing here. */
static void run_dense(room *m, const dense_peer *p, int layout) {
	const bench_case *c = m->c;
	if (c->op == FORWARD)
		p->gemm(false, false, c->out, c->batch, c->in, m->dense_w, m->dense_x, m->dense_y);
	else if (c->op == DX)
		p->gemm(layout == 0, false, c->in, c->batch, c->out, m->dense_w, m->dense_y, m->dense_x);
	else
		p->gemm(false, true, c->out, c->in, c->batch, m->dense_y, m->dense_x, m->dense_w);
}

/* Some hundred entries against double; the bound is 8 eps times the sum of magnitudes, and count eps. */
static void check(room *m) {
	sl_pattern_arrays a;
	const bench_case *c = m->c;
	must(sl_pattern_get(context, sl_csr_pattern(m->w), &a));
	const int32_t *offsets = a.row_offsets;
	const float *values = sl_csr_values(m->w);
	unsigned seed = 3;
	for (int i = 0; i < 200 && a.nnz; i++) {
		seed = seed * 1664525u + 1013904223u;
		double sum = 0, size = 0, got;
		int64_t count = 0, j = (int64_t)(seed >> 8) % c->batch;
		if (c->op == DW) {
			int64_t k = (int64_t)(seed >> 4) % a.nnz, r = 0;
			while (offsets[r + 1] <= k)
				r++;
			for (j = 0; j < c->batch; j++, count++) {
				double p = (double)at(&m->y, r, j) * at(&m->x, a.col_indices[k], j);
				sum += p, size += fabs(p);
			}
			got = values[k];
		} else if (c->op == FORWARD) {
			int64_t r = (int64_t)(seed >> 4) % c->out;
			for (int64_t k = offsets[r]; k < offsets[r + 1]; k++, count++) {
				double p = (double)values[k] * at(&m->x, a.col_indices[k], j);
				sum += p, size += fabs(p);
			}
			got = at(&m->y, r, j);
		} else {
			int64_t col = (int64_t)(seed >> 4) % c->in;
			for (int64_t r = 0; r < c->out; r++)
				for (int64_t k = offsets[r]; k < offsets[r + 1]; k++)
					if (a.col_indices[k] == col) {
						double p = (double)values[k] * at(&m->y, r, j);
						sum += p, size += fabs(p), count++;
					}
			got = at(&m->x, col, j);
		}
		bench_need(fabs(got - sum) <= (8 + (double)count) * FLT_EPSILON * size, op_names[c->op], "a wrong result");
	}
}

static void open_room(room *m, const bench_case *c) {
	sl_pattern *pattern;
	*m = (room){.c = c};
	int64_t padded = (c->batch + width_of(c->batch) - 1) / width_of(c->batch) * width_of(c->batch);
	if (c->power)
		pattern = power_pattern(c);
	else
		must(sl_pattern_random(&pattern, context, c->out, c->in, c->density, 1));
	must(sl_csr_create_pattern(&m->w, context, pattern, SL_F32));
	sl_pattern_arrays a;
	must(sl_pattern_get(context, pattern, &a));
	sl_pattern_release(pattern);
	float *values = numbers(a.nnz, 1);
	if (a.nnz)
		memcpy(sl_csr_values(m->w), values, (size_t)a.nnz * sizeof *values);
	free(values);
	m->x = panels(numbers(c->in * padded, 2), c->in, c->batch);
	m->y = panels(numbers(c->out * padded, 3), c->out, c->batch);
	sl_dense zeros[2] = {m->x, m->y}; /* what the library leaves behind the batch */
	for (int s = 0; s < 2; s++)
		for (int64_t j = c->batch; j < padded; j++)
			for (int64_t r = 0; r < zeros[s].rows; r++)
				((float *)zeros[s]
					 .data)[j / zeros[s].ld * zeros[s].rows * zeros[s].ld + r * zeros[s].ld + j % zeros[s].ld] = 0;
	m->dense_w = numbers(c->out * c->in, 4);
	m->dense_x = numbers(c->in * c->batch, 5);
	m->dense_y = numbers(c->out * c->batch, 6);
	sl_dense turned = sl_dense_transposed(m->x);
	if (c->op == DW)
		must(sl_plan_sddmm(&m->plan, context, &m->y, &turned, m->w));
	else
		must(sl_plan_spmm(&m->plan, context, c->op == DX ? SL_TRANSPOSE : SL_NO_TRANSPOSE, m->w,
						  c->op == DX ? &m->y : &m->x, c->op == DX ? &m->x : &m->y, NULL));
}

static void close_room(room *m) {
	sl_plan_destroy(m->plan);
	sl_csr_destroy(m->w);
	free(m->x.data), free(m->y.data);
	free(m->dense_w), free(m->dense_x), free(m->dense_y);
}

static double time_of(room *m, const dense_peer *peer, int layout) {
	double began = bench_seconds();
	if (peer)
		run_dense(m, peer, layout);
	else
		run_sparse(m);
	return bench_seconds() - began;
}

/* Some repetitions in a row, warm, after the threads of the library before have stopped waiting for work:
 * on as many cores as threads they would share them. */
static int time_block(room *m, const dense_peer *peer, int layout, double budget, double *seconds, int have) {
	struct timespec pause = {0, 60000000};
	if (sl_context_threads(context) > 1)
		nanosleep(&pause, NULL);
	time_of(m, peer, layout);
	time_of(m, peer, layout);
	double began = bench_seconds();
	for (int i = 0; have < MOST_REPS && (i < 2 || bench_seconds() - began < budget); i++)
		seconds[have++] = time_of(m, peer, layout);
	return have;
}

static figures measure(const bench_case *c, double budget) {
	static double sparse[MOST_REPS], dense[MOST_PEERS][2][MOST_REPS], cold[5];
	room m;
	figures f = {0};
	open_room(&m, c);
	run_sparse(&m);
	check(&m);
	int reps = 0, layouts = c->op == DX ? 2 : 1, turns = 1 + peer_count * layouts;
	int dense_reps[MOST_PEERS][2] = {{0}};
	for (int round = 0; round < ROUNDS; round++) {
		double share = budget / ROUNDS / turns;
		reps = time_block(&m, NULL, 0, share, sparse, reps);
		for (int p = 0; p < peer_count; p++)
			for (int l = 0; l < layouts && peers[p].gemm; l++)
				dense_reps[p][l] = time_block(&m, &peers[p], l, share, dense[p][l], dense_reps[p][l]);
	}
	for (int i = 0; i < 5; i++) {
		for (int k = 0; k < FLUSH / 4; k += 16)
			flush[k] += 1;
		cold[i] = time_of(&m, NULL, 0);
	}
	f.sparse = bench_quantile(sparse, reps, 0.5);
	f.spread = (bench_quantile(sparse, reps, 0.75) - bench_quantile(sparse, reps, 0.25)) / f.sparse;
	f.cold = bench_quantile(cold, 5, 0.5);
	f.dense = INFINITY;
	for (int p = 0; p < peer_count; p++)
		for (int l = 0; l < layouts && peers[p].gemm; l++) {
			double t = bench_quantile(dense[p][l], dense_reps[p][l], 0.5);
			if (t < f.dense) {
				f.dense = t;
				f.best = peers[p].name;
			}
		}
	sl_pattern_arrays a;
	must(sl_pattern_get(context, sl_csr_pattern(m.w), &a));
	double real = (double)a.nnz / ((double)c->out * (double)c->in), flops = 2.0 * (double)a.nnz * (double)c->batch;
	double rate = 2.0 * (double)c->out * (double)c->in * (double)c->batch / f.dense / 1e9;
	peak = rate > peak ? rate : peak;
	f.gflops = flops / f.sparse / 1e9;
	f.efficiency = real * f.dense / f.sparse;
	close_room(&m);
	return f;
}

static int read_cases(const char *path, bench_case *cases) {
	FILE *file = fopen(path, "r");
	char line[256], name[16], pattern[16];
	int count = 0, number = 0;
	bench_need(file != NULL, path, "cannot be opened");
	while (fgets(line, sizeof line, file)) {
		bench_case c = {0};
		long long out, in, batch;
		number++;
		if (line[0] == '#' || line[0] == '\n')
			continue;
		int got = sscanf(line, "%15s %lld %lld %lld %lf %15s", name, &out, &in, &batch, &c.density, pattern);
		for (c.op = FORWARD; c.op < OPS && strcmp(name, op_names[c.op]);)
			c.op = (op)(c.op + 1);
		bench_need(got == 6 && c.op < OPS && out > 0 && in > 0 && batch > 0 && c.density > 0 && c.density <= 1 &&
					   count < MOST_CASES,
				   path, line);
		c.out = out, c.in = in, c.batch = batch;
		c.power = !strcmp(pattern, "power");
		cases[count++] = c;
	}
	fclose(file);
	return count;
}

/* Geometric means over cases of 512 and more on both sides and batches of 64 and more. */
static void print_means(const bench_case *cases, const figures *f, int count) {
	for (op o = FORWARD; o < OPS; o = (op)(o + 1))
		for (int d = 99; d > 0; d--) {
			double sum = 0;
			int n = 0;
			for (int i = 0; i < count; i++)
				if (cases[i].op == o && lround(100 * cases[i].density) == d && cases[i].out >= 512 &&
					cases[i].in >= 512 && cases[i].batch >= 64) {
					sum += log(f[i].efficiency);
					n++;
				}
			char name[64];
			snprintf(name, sizeof name, "efficiency.%s.d%02d", op_names[o], d);
			if (n)
				bench_result(name, exp(sum / n));
		}
}

int main(int argc, char **argv) {
	static bench_case cases[MOST_CASES];
	static figures f[MOST_CASES];
	char error[256] = "";
	int threads = argc > 2 ? atoi(argv[2]) : 0;
	double budget = argc > 3 ? atof(argv[3]) : 1;
	/* OpenMP's threads are told to sleep between products; it reads that once, when it is loaded. */
	if (!getenv("OMP_WAIT_POLICY")) {
		setenv("OMP_WAIT_POLICY", "passive", 1);
		execv("/proc/self/exe", argv);
	}
	bench_need(argc > 1 && threads >= 0 && budget > 0, "usage", "bench-ops CASES [THREADS [SECONDS_A_CASE]]");
	int count = read_cases(argv[1], cases);
	sl_context_options o = {SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU, .threads = threads,
							.seed = 1,           .error = error,          .error_size = sizeof error};
	sl_status status = sl_context_create(&context, &o);
	bench_need(status == SL_OK, sl_status_text(status), error);
	flush = calloc(1, FLUSH);
	bench_need(flush != NULL, "memory", "too little");
	peer_count = dense_peers_open(peers, MOST_PEERS, sl_context_threads(context));
	printf("# %s, sparselayer %s, %d cases\n", sl_context_describe(context), sl_version_string(), count);
	for (int p = 0; p < peer_count; p++)
		printf("# dense: %s: %s\n", peers[p].name, peers[p].detail);
	printf("%-8s %5s %5s %5s %6s %-8s %9s %9s %9s %7s %10s %6s  %s\n", "# op", "out", "in", "batch", "dens", "pattern",
		   "sparse/us", "dense/us", "cold/us", "GF/s", "efficiency", "IQR", "dense");
	for (int i = 0; i < count; i++) {
		const bench_case *c = &cases[i];
		f[i] = measure(c, budget);
		printf("%-8s %5lld %5lld %5lld %6.3f %-8s %9.1f %9.1f %9.1f %7.1f %10.3f %5.1f%%  %s\n", op_names[c->op],
			   (long long)c->out, (long long)c->in, (long long)c->batch, c->density, c->power ? "power" : "uniform",
			   1e6 * f[i].sparse, 1e6 * f[i].dense, 1e6 * f[i].cold, f[i].gflops, f[i].efficiency, 100 * f[i].spread,
			   f[i].best ? f[i].best : "none");
		fflush(stdout);
	}
	printf("# best dense rate of the run: %.1f GF/s\n", peak);
	print_means(cases, f, count);
	free(flush);
	sl_context_destroy(context);
	return 0;
}
