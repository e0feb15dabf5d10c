/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A training step (forward, backward, update) of a layer of sparse inputs: batches of 256 samples with 100 of 10^6
 * features each into 256 units, beside PyTorch's EmbeddingBag and TensorFlow, whose programs (peers/sparse_input.py)
 * run as children and take turns with it on the same batches. A ratio is taken within each round; its median is the
 * result. Then the memory of a step for 10^5 and 10^6 features, without the weights and their moments. Usage:
 * bench-sparse-input sgd|adam [ROUNDS [THREADS [PYTHON]]]
 */
#define _GNU_SOURCE
#include <sparselayer/sparselayer.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "contender.h"

enum {
	FEATURES = 1000000,
	SAMPLES = 256,
	EACH = 100,
	UNITS = 256,
	BATCHES = 16,
	STEPS = 16,
	MOST_ROUNDS = 200,
	PEERS = 3
};

static void must(sl_context *context, sl_status status) {
	bench_need(status == SL_OK, sl_status_text(status), context ? sl_context_message(context) : "");
}

/* The same batches as the peers make: features from a 64-bit congruential generator. */
typedef struct data {
	int64_t offsets[SAMPLES + 1];
	int32_t columns[BATCHES][SAMPLES * EACH];
	float values[BATCHES][SAMPLES * EACH], gradient[SAMPLES * UNITS];
} data;

static void fill(data *d, int64_t features) {
	uint64_t state = 1;
	for (int i = 0; i <= SAMPLES; i++)
		d->offsets[i] = (int64_t)i * EACH;
	for (int b = 0; b < BATCHES; b++)
		for (int i = 0; i < SAMPLES * EACH; i++) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			d->columns[b][i] = (int32_t)((state >> 33) % (uint64_t)features);
			d->values[b][i] = (float)((double)(state >> 40) * 0x1p-24 + 0.5);
		}
	for (int i = 0; i < SAMPLES * UNITS; i++)
		d->gradient[i] = (float)(i % 17 - 8) / 1024;
}

typedef struct ours {
	sl_context *context;
	sl_layer *layer;
	sl_saved *saved;
	sl_optimizer *optimizer;
	float outputs[SAMPLES * UNITS];
} ours;

static void open_ours(ours *o, int64_t features, bool adam, int threads) {
	must(NULL, sl_context_create(&o->context, &(sl_context_options){SL_CONTEXT_DEFAULTS, .device = SL_DEVICE_CPU,
																	.threads = threads}));
	must(o->context,
		 sl_linear_create(&o->layer, o->context,
						  &(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = features, .out_features = UNITS,
											   .dense = true, .init = SL_INIT_ZERO, .sparse_inputs = true}));
	must(o->context, sl_optimizer_create(&o->optimizer, o->context,
										 &(sl_optimizer_options){SL_OPTIMIZER_DEFAULTS, .kind = adam ? SL_ADAM : SL_SGD,
																 .learning_rate = 0.001, .lazy = true}));
	must(o->context, sl_optimizer_add(o->context, o->optimizer, o->layer));
	must(o->context, sl_layer_prepare(o->context, o->layer, SAMPLES, SL_MODE_TRAINING));
	must(o->context, sl_saved_create(&o->saved, o->context, o->layer, SAMPLES));
}

static void close_ours(ours *o) {
	sl_saved_destroy(o->saved);
	sl_optimizer_destroy(o->optimizer);
	sl_layer_destroy(o->layer);
	sl_context_destroy(o->context);
}

/* Seconds of forward, backward and update. */
static void run_ours(ours *o, const data *d, int64_t features, int steps, double parts[3]) {
	memset(parts, 0, 3 * sizeof *parts);
	sl_dense Y = sl_dense_view(o->outputs, SL_F32, SAMPLES, UNITS),
			 dY = sl_dense_view(d->gradient, SL_F32, SAMPLES, UNITS);
	for (int i = 0; i < steps; i++) {
		sl_sparse X = {.rows = SAMPLES,
					   .cols = features,
					   .nnz = SAMPLES * EACH,
					   .offsets = d->offsets,
					   .offset_dtype = SL_I64,
					   .col_indices = d->columns[i % BATCHES],
					   .index_dtype = SL_I32,
					   .values = d->values[i % BATCHES],
					   .dtype = SL_F32};
		double t0 = bench_seconds();
		must(o->context, sl_layer_forward_sparse(o->context, o->layer, &X, &Y, o->saved));
		double t1 = bench_seconds();
		must(o->context, sl_layer_backward(o->context, o->layer, o->saved, &dY, NULL, SL_OVERWRITE));
		double t2 = bench_seconds();
		must(o->context, sl_optimizer_step(o->context, o->optimizer));
		double t3 = bench_seconds();
		parts[0] += (t1 - t0) / steps;
		parts[1] += (t2 - t1) / steps;
		parts[2] += (t3 - t2) / steps;
	}
}

/* A program that answers each line "STEPS" with the seconds of one step. */
typedef struct peer {
	const char *name;
	pid_t process;
	FILE *to, *from;
	double seconds[MOST_ROUNDS], ratio[MOST_ROUNDS];
} peer;

static bool open_peer(peer *p, const char *python, const char *script, const char *kind, int threads) {
	int down[2], up[2];
	char count[16], what[64], line[256];
	snprintf(count, sizeof count, "%d", threads);
	snprintf(what, sizeof what, "%s", p->name);
	bench_need(pipe(down) == 0 && pipe(up) == 0, "pipe", "failed");
	p->process = fork();
	if (p->process == 0) {
		dup2(down[0], 0);
		dup2(up[1], 1);
		for (int i = 3; i < 64; i++)
			close(i);
		unsetenv("OPENBLAS_CORETYPE"); /* what slows a peer down is not the environment's to say */
		unsetenv("OPENBLAS_L2_SIZE");
		setenv("OMP_NUM_THREADS", count, 1);
		/* Huge pages, as this library asks for them: PyTorch's switch, and the C library's for the others. */
		setenv("THP_MEM_ALLOC_ENABLE", "1", 0);
		setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", 0);
		execlp(python, python, script, what, kind, count, (char *)NULL);
		_exit(127);
	}
	close(down[0]);
	close(up[1]);
	p->to = fdopen(down[1], "w");
	p->from = fdopen(up[0], "r");
	if (p->from && fgets(line, sizeof line, p->from) && !strncmp(line, "ready ", 6)) {
		printf("# %s: %s", p->name, line + 6);
		return true;
	}
	printf("# %s is not there: needs %s with it\n", p->name, python);
	kill(p->process, SIGKILL);
	waitpid(p->process, NULL, 0);
	p->process = 0;
	return false;
}

static double ask(peer *p, int steps) {
	char line[64];
	fprintf(p->to, "%d\n", steps);
	fflush(p->to);
	bench_need(fgets(line, sizeof line, p->from) != NULL, p->name, "ended");
	return atof(line);
}

static void close_peer(peer *p) {
	if (!p->process)
		return;
	fclose(p->to);
	fclose(p->from);
	waitpid(p->process, NULL, 0);
}

static void compare(const data *d, bool adam, int rounds, int threads, const char *python, const char *script) {
	static ours o;
	static peer peers[PEERS] = {{.name = "torch"}, {.name = "tf-embedding"}, {.name = "tf-matmul"}};
	static double whole[MOST_ROUNDS], part[3][MOST_ROUNDS];
	const char *kind = adam ? "adam" : "sgd";
	char name[96];
	for (int i = 0; i < PEERS; i++)
		open_peer(&peers[i], python, script, kind, threads);
	open_ours(&o, FEATURES, adam, threads);
	for (int r = -1; r < rounds; r++) {
		double parts[3];
		run_ours(&o, d, FEATURES, STEPS, parts);
		if (r >= 0) {
			whole[r] = parts[0] + parts[1] + parts[2];
			for (int i = 0; i < 3; i++)
				part[i][r] = parts[i];
		}
		for (int i = 0; i < PEERS; i++) {
			if (!peers[i].process)
				continue;
			usleep(2000);
			/* What takes a second a step is asked for one. */
			double seconds = ask(&peers[i], i == 2 ? 1 : STEPS);
			if (r >= 0) {
				peers[i].seconds[r] = seconds;
				peers[i].ratio[r] = seconds / whole[r];
			}
			usleep(300000); /* until its threads wait no more */
		}
	}
	static const char *const names[] = {"forward", "backward", "update"};
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof name, "sparse_input.%s.%s_ms", kind, names[i]);
		bench_result(name, 1e3 * bench_quantile(part[i], rounds, 0.5));
	}
	snprintf(name, sizeof name, "sparse_input.%s.step_ms", kind);
	bench_result(name, 1e3 * bench_quantile(whole, rounds, 0.5));
	for (int i = 0; i < PEERS; i++) {
		if (!peers[i].process)
			continue;
		snprintf(name, sizeof name, "sparse_input.%s.%s_ms", kind, peers[i].name);
		bench_result(name, 1e3 * bench_quantile(peers[i].seconds, rounds, 0.5));
		snprintf(name, sizeof name, "sparse_input.%s.%s_over_ours", kind, peers[i].name);
		bench_result(name, bench_quantile(peers[i].ratio, rounds, 0.5));
		close_peer(&peers[i]);
	}
	close_ours(&o);
}

/* Bytes a step holds besides weights and moments, at most. */
static double step_bytes(data *d, int64_t features, bool adam, int threads) {
	static ours o;
	double parts[3];
	fill(d, 100000); /* the same entries for each width */
	open_ours(&o, features, adam, threads);
	run_ours(&o, d, features, BATCHES, parts);
	sl_memory_usage usage = {.struct_size = sizeof usage};
	must(o.context, sl_context_memory(o.context, &usage));
	close_ours(&o);
	return (double)usage.peak - (double)features * UNITS * sizeof(float) * (adam ? 3 : 1);
}

int main(int argc, char **argv) {
	bool adam = argc > 1 && !strcmp(argv[1], "adam");
	int rounds = argc > 2 ? atoi(argv[2]) : 9, threads = argc > 3 ? atoi(argv[3]) : 2;
	char python[512];
	snprintf(python, sizeof python, "%s", argc > 4 ? argv[4] : "");
	if (argc <= 4)
		snprintf(python, sizeof python, "%s/bin/python", bench_venv());
	static data d;
	bench_need(rounds > 0 && rounds <= MOST_ROUNDS && threads > 0, "usage",
			   "bench-sparse-input sgd|adam [ROUNDS [THREADS [PYTHON]]]");
	signal(SIGPIPE, SIG_IGN);
	fill(&d, FEATURES);
	printf("# %d samples of %d entries, %d features, %d units, %s, %d threads, %d rounds of %d steps\n", SAMPLES, EACH,
		   FEATURES, UNITS, adam ? "lazy Adam" : "SGD", threads, rounds, STEPS);
	compare(&d, adam, rounds, threads, python, SL_BENCH_PEERS "/sparse_input.py");
	bench_result("sparse_input.step_mib.features_1e5", step_bytes(&d, 100000, adam, threads) / (1 << 20));
	bench_result("sparse_input.step_mib.features_1e6", step_bytes(&d, 1000000, adam, threads) / (1 << 20));
	return 0;
}
