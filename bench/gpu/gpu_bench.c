/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA module's products beside each other: every candidate of the module (own kernels, cuSPARSE's algorithms with
 * preprocessing, the matrix written out for cuBLAS) and a dense product of the same shape. Each is captured in a graph
 * over rotating operands that together do not fit the L2, and replayed; the median of the replays counts.
 *
 * Usage: gpu-bench [quick|full|challenge]. Prints a line a case, as it is done, and RESULT lines at the end.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime_api.h>

#include "backend/backend.h"
#include "challenge.h"

SL_API const sl_backend *sl_backend_module(uint32_t abi);

enum { SETS = 8, REPLAYS = 7, CANDIDATES = 16, CASES = 1024 };

static const sl_backend *module;
static void *device;
static cudaStream_t stream;
static char message[512];

static sl_status host_fail(void *user, sl_status status, const char *format, ...) {
	va_list list;
	(void)user;
	va_start(list, format);
	vsnprintf(message, sizeof message, format, list);
	va_end(list);
	return status;
}
static void host_log(void *user, sl_log_level level, const char *line) {
	(void)user, (void)level;
	fprintf(stderr, "# %s\n", line);
}
static void *host_allocate(void *user, size_t bytes) {
	(void)user;
	return aligned_alloc(64, (bytes + 64) / 64 * 64);
}
static void host_release(void *user, void *pointer, size_t bytes) {
	(void)user, (void)bytes;
	free(pointer);
}
static bool host_reserve(void *user, size_t bytes) {
	(void)user, (void)bytes;
	return true;
}
static void host_unreserve(void *user, size_t bytes) {
	(void)user, (void)bytes;
}
static sl_host host = {.abi = SL_BACKEND_ABI,
					   .fail = host_fail,
					   .log = host_log,
					   .allocate = host_allocate,
					   .release = host_release,
					   .reserve = host_reserve,
					   .unreserve = host_unreserve,
					   .threads = 1};

static void die(const char *what) {
	fprintf(stderr, "gpu-bench: %s: %s\n", what, message);
	exit(1);
}
static void good(sl_status status, const char *what) {
	if (status != SL_OK)
		die(what);
}
static void cuda(cudaError_t error, const char *what) {
	snprintf(message, sizeof message, "%s", error == cudaSuccess ? "" : cudaGetErrorString(error));
	if (error != cudaSuccess)
		die(what);
}

static void *on_device(size_t bytes, const void *from) {
	void *to;
	good(module->allocate(device, bytes ? bytes : 1, SL_MEMORY_DEVICE, &to), "memory");
	if (from)
		good(module->copy(device, to, SL_MEMORY_DEVICE, from, SL_MEMORY_HOST, bytes), "copy");
	else /* 0x3c3c...: a small number in every dtype */
		good(module->fill(device, to, 0x3c, bytes ? bytes : 1), "fill");
	return to;
}
static void give_back(void *pointer, size_t bytes) {
	module->release(device, pointer, bytes ? bytes : 1, SL_MEMORY_DEVICE);
}

/* Every cell is an entry with the same chance; rows are walked by geometric steps. */
typedef struct matrix {
	int64_t rows, cols, nnz;
	int32_t *offsets, *columns;
	void *gpu_offsets, *gpu_columns, *gpu_values;
	size_t size;
} matrix;

static double uniform(uint64_t *state) {
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return ((double)(*state >> 11) + 0.5) * 0x1p-53;
}

static matrix make_matrix(int64_t rows, int64_t cols, double density, size_t size) {
	matrix m = {.rows = rows, .cols = cols, .size = size};
	uint64_t state = 42;
	size_t room = (size_t)((double)rows * (double)cols * density * 1.1) + 4096;
	m.offsets = malloc((size_t)(rows + 1) * 4);
	m.columns = malloc(room * 4);
	if (!m.offsets || !m.columns)
		exit(1);
	m.offsets[0] = 0;
	for (int64_t r = 0; r < rows; r++) {
		for (int64_t c = -1; (size_t)m.nnz < room;) {
			c += 1 + (density >= 1 ? 0 : (int64_t)(log(uniform(&state)) / log1p(-density)));
			if (c >= cols)
				break;
			m.columns[m.nnz++] = (int32_t)c;
		}
		m.offsets[r + 1] = (int32_t)m.nnz;
	}
	m.gpu_offsets = on_device((size_t)(rows + 1) * 4, m.offsets);
	m.gpu_columns = on_device((size_t)m.nnz * 4, m.columns);
	m.gpu_values = on_device((size_t)m.nnz * size, NULL);
	good(module->synchronize(device), "upload");
	return m;
}

static void free_matrix(matrix *m) {
	give_back(m->gpu_offsets, (size_t)(m->rows + 1) * 4);
	give_back(m->gpu_columns, (size_t)m->nnz * 4);
	give_back(m->gpu_values, (size_t)m->nnz * m->size);
	free(m->offsets);
	free(m->columns);
}

/* One op over SETS of operands. */
typedef struct work {
	sl_op_desc desc;
	sl_op_args args[SETS];
} work;

typedef struct one {
	const sl_op_plan *plan;
	sl_op_args *args;
} one;

static sl_status run_one(void *argument) {
	one *o = argument;
	return module->execute(device, o->plan, o->args);
}

static int by_size(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static cudaGraphExec_t capture(work *w, const sl_op_plan *plan) {
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
	for (int i = 0; i < SETS; i++)
		good(module->execute(device, plan, &w->args[i]), "execute in a capture");
	cuda(cudaStreamEndCapture(stream, &graph), "capture");
	cuda(cudaGraphInstantiate(&exec, graph, 0), "graph");
	cuda(cudaGraphDestroy(graph), "graph");
	return exec;
}

static double replay(cudaGraphExec_t exec) {
	cudaEvent_t begin, end;
	double times[REPLAYS];
	cuda(cudaEventCreateWithFlags(&begin, 0), "event");
	cuda(cudaEventCreateWithFlags(&end, 0), "event");
	for (int i = -2; i < REPLAYS; i++) {
		float milliseconds = 0;
		cuda(cudaEventRecord(begin, stream), "event");
		cuda(cudaGraphLaunch(exec, stream), "launch");
		cuda(cudaEventRecord(end, stream), "event");
		cuda(cudaEventSynchronize(end), "wait");
		cuda(cudaEventElapsedTime(&milliseconds, begin, end), "time");
		if (i >= 0)
			times[i] = (double)milliseconds * 1e-3 / SETS;
	}
	cuda(cudaEventDestroy(begin), "event");
	cuda(cudaEventDestroy(end), "event");
	qsort(times, REPLAYS, sizeof *times, by_size);
	return times[REPLAYS / 2];
}

/* Seconds a run by graph, and (in *measured) as the planner would measure it. 0: it cannot run so. */
static double time_candidate(work *w, const char *candidate, double *measured) {
	sl_op_plan plan = {0};
	sl_op_desc desc = w->desc;
	void *workspace = NULL;
	desc.candidate = candidate;
	if (module->plan(device, &desc, &plan) != SL_OK)
		return 0;
	if (plan.workspace)
		workspace = on_device(plan.workspace, NULL);
	for (int i = 0; i < SETS; i++)
		w->args[i].workspace = workspace;
	one o = {&plan, &w->args[0]};
	good(run_one(&o), "execute");
	good(module->synchronize(device), "synchronize");
	*measured = INFINITY;
	for (int i = 0; i < 7; i++) {
		double seconds;
		good(module->time(device, run_one, &o, &seconds), "time");
		*measured = seconds < *measured ? seconds : *measured;
	}
	cudaGraphExec_t exec = capture(w, &plan);
	double seconds = replay(exec);
	cuda(cudaGraphExecDestroy(exec), "graph");
	module->destroy(device, &plan);
	if (workspace)
		give_back(workspace, plan.workspace);
	return seconds;
}

/* Ratios over all cases. */
static struct {
	double log_sum;
	int count;
} own_spmm, own_sddmm, own_tensor;
static double autos[CASES];
static int auto_count;

static const char *dtype_name(sl_dtype dtype) {
	return dtype == SL_F64 ? "f64" : dtype == SL_BF16 ? "bf16" : dtype == SL_F16 ? "f16" : "f32";
}

static bool is_vendor(const char *name) {
	return !strncmp(name, "cusparse", 8) || !strcmp(name, "default");
}

/* All candidates of one case; `dense` seconds of the dense product, 0: not timed. */
static void report(const char *op, const matrix *m, int64_t batch, double density, work *w, double dense) {
	sl_candidate list[CANDIDATES];
	int count = module->candidates(device, &w->desc, list, CANDIDATES);
	double vendor = INFINITY, own = INFINITY, tensor = INFINITY, best = INFINITY, chosen = INFINITY, least = INFINITY;
	double flops = 2.0 * (double)m->nnz * (double)batch;
	printf("%-6s %-4s %6lldx%-6lld d %.3g batch %5lld:", op, dtype_name(w->desc.b.dtype), (long long)m->rows,
		   (long long)m->cols, density, (long long)batch);
	for (int i = 0; i < count && i < CANDIDATES; i++) {
		double measured = 0, seconds = time_candidate(w, list[i].name, &measured);
		if (seconds <= 0) {
			printf("  %s -", list[i].name);
			continue;
		}
		printf("  %s %.1f us %.0f GF/s", list[i].name, seconds * 1e6, flops / seconds * 1e-9);
		bool cublas = !strcmp(list[i].name, "cublas");
		if (is_vendor(list[i].name))
			vendor = fmin(vendor, seconds);
		else if (!strcmp(list[i].name, "own-tensor"))
			tensor = fmin(tensor, seconds);
		else if (!cublas)
			own = fmin(own, seconds);
		best = fmin(best, seconds);
		if (measured < least) {
			least = measured;
			chosen = seconds;
		}
	}
	if (dense > 0)
		printf("  dense %.1f us", dense * 1e6);
	bool large = (double)m->nnz * (double)batch >= 2e8 || density <= 0;
	if (own < INFINITY && vendor < INFINITY) {
		printf("  own/cusparse %.2fx", vendor / own);
		if (large) {
			(w->desc.kind == SL_OP_SPMM ? &own_spmm : &own_sddmm)->log_sum += log(vendor / own);
			(w->desc.kind == SL_OP_SPMM ? &own_spmm : &own_sddmm)->count++;
		}
	}
	if (tensor < INFINITY && vendor < INFINITY) {
		printf("  tensor/cusparse %.2fx", vendor / tensor);
		if (dense > 0)
			printf("  tensor/dense %.2fx", dense / tensor);
		if (large) {
			own_tensor.log_sum += log(vendor / tensor);
			own_tensor.count++;
		}
	}
	if (dense > 0)
		best = fmin(best, dense);
	if (chosen < INFINITY && auto_count < CASES)
		autos[auto_count++] = chosen / best;
	printf("\n");
	fflush(stdout);
}

static sl_dense view(void *data, sl_dtype dtype, int64_t rows, int64_t cols) {
	return (sl_dense){.data = data, .dtype = dtype, .device = SL_DEVICE_CUDA, .rows = rows, .cols = cols, .ld = cols};
}
static sl_matrix_desc desc_of(const sl_dense *v) {
	return (sl_matrix_desc){v->rows, v->cols, v->ld, v->dtype, v->order};
}

static void bench_case(int64_t rows, int64_t cols, double density, int64_t batch, sl_dtype dtype) {
	size_t size = dtype == SL_F64 ? 8 : dtype == SL_F32 ? 4 : 2;
	matrix m = make_matrix(rows, cols, density, size);
	size_t x_bytes = (size_t)(cols * batch) * size, y_bytes = (size_t)(rows * batch) * size;
	void *x[SETS], *y[SETS];
	work spmm = {0}, sddmm = {0}, gemm = {0};
	double dense = 0, ignored;
	size_t w_bytes = (size_t)(rows * cols) * size;
	void *w = NULL;
	for (int i = 0; i < SETS; i++) {
		x[i] = on_device(x_bytes, NULL);
		y[i] = on_device(y_bytes, NULL);
		sl_dense X = view(x[i], dtype, cols, batch), Y = view(y[i], dtype, rows, batch), Xt = X;
		Xt.rows = batch, Xt.cols = cols, Xt.ld = batch, Xt.order = SL_COL_MAJOR;
		spmm.args[i] = (sl_op_args){.alpha = 1, .b = X, .c = Y, .values = m.gpu_values};
		sddmm.args[i] = (sl_op_args){.alpha = 1, .a = Y, .b = Xt, .values_out = m.gpu_values};
		gemm.args[i] = (sl_op_args){.alpha = 1, .b = X, .c = Y};
	}
	spmm.desc = (sl_op_desc){.kind = SL_OP_SPMM, .b = desc_of(&spmm.args[0].b), .c = desc_of(&spmm.args[0].c)};
	spmm.desc.a.dtype = dtype;
	spmm.desc.sparse.arrays = (sl_pattern_arrays){rows, cols, m.nnz, m.gpu_offsets, SL_I32, m.gpu_columns};
	spmm.desc.sparse.host = (sl_pattern_arrays){rows, cols, m.nnz, m.offsets, SL_I32, m.columns};
	sddmm.desc = (sl_op_desc){.kind = SL_OP_SDDMM, .a = desc_of(&sddmm.args[0].a), .b = desc_of(&sddmm.args[0].b)};
	sddmm.desc.c = (sl_matrix_desc){.rows = rows, .cols = cols, .dtype = dtype};
	sddmm.desc.sparse = spmm.desc.sparse;
	if (w_bytes < (size_t)8 << 30) {
		w = on_device(w_bytes, NULL);
		gemm.desc = (sl_op_desc){.kind = SL_OP_GEMM, .b = spmm.desc.b, .c = spmm.desc.c};
		for (int i = 0; i < SETS; i++)
			gemm.args[i].a = view(w, dtype, rows, cols);
		gemm.desc.a = desc_of(&gemm.args[0].a);
		dense = time_candidate(&gemm, NULL, &ignored);
		give_back(w, w_bytes);
	}
	report("spmm", &m, batch, density, &spmm, dense);
	report("sddmm", &m, batch, density, &sddmm, 0);
	for (int i = 0; i < SETS; i++) {
		give_back(x[i], x_bytes);
		give_back(y[i], y_bytes);
	}
	free_matrix(&m);
}

static void results(void) {
	/* A ratio that nothing was measured for is not printed. */
	if (own_spmm.count)
		printf("RESULT gpu.spmm.vs_cusparse %.3f\n", exp(own_spmm.log_sum / own_spmm.count));
	else
		printf("# no own kernels for spmm, or no case that counts: gpu.spmm.vs_cusparse is not there\n");
	if (own_sddmm.count)
		printf("RESULT gpu.sddmm.vs_cusparse %.3f\n", exp(own_sddmm.log_sum / own_sddmm.count));
	else
		printf("# no own kernels for sddmm, or no case that counts: gpu.sddmm.vs_cusparse is not there\n");
	if (own_tensor.count)
		printf("RESULT gpu.spmm.tensor_vs_cusparse %.3f\n", exp(own_tensor.log_sum / own_tensor.count));
	qsort(autos, (size_t)auto_count, sizeof *autos, by_size);
	if (auto_count)
		printf("RESULT gpu.auto.p95 %.3f\n", autos[(int)((auto_count - 1) * 0.95 + 0.5)]);
}

static void bench_all(bool full) {
	static const double densities[] = {0.3, 0.2, 0.1, 0.05, 0.02};
	static const int64_t sides[] = {1024, 2048, 4096}, batches[] = {256, 1024, 4096, 8192};
	static const sl_dtype dtypes[] = {SL_F32, SL_F16, SL_BF16};
	for (int t = 0; t < (full ? 3 : 1); t++)
		for (int s = 0; s < (full ? 3 : 2); s++)
			for (int b = 0; b < (full ? 4 : 2); b++)
				for (int d = 0; d < 5; d += full ? 1 : 2)
					bench_case(sides[s], sides[s], densities[d], batches[b], dtypes[t]);
	/* Where the tensor cores' kernels are to have their place. */
	for (int t = 0; t < 3; t++)
		for (int d = 0; d < (full ? 2 : 1); d++)
			bench_case(2048, 2048, d ? 0.7 : 0.5, 1024, dtypes[t]);
	for (int d = 2; d < 4 && full; d++)
		for (int64_t batch = 1; batch <= 8; batch *= 8)
			bench_case(16384, 16384, densities[d], batch, SL_F32);
}

/* Edges a second of the Graph Challenge, by own kernels and, as the peer, by a plain loop over cuSPARSE with the
 * module's bias and activation behind it. */
static void bench_challenge(int64_t neurons, int64_t layers, int64_t inputs, int64_t batch) {
	static const struct {
		const char *candidate, *name;
		int64_t every;
	} ways[] = {{"own", "teraedges", 0}, {"own", "compacted_teraedges", 8}, {"cusparse-alg2", "cusparse_teraedges", 0}};
	challenge net;
	challenge_result r, first = {0};
	char why[256];
	if (!challenge_make(&net, neurons, layers)) {
		printf("# graph challenge %lldx%lld: no memory\n", (long long)neurons, (long long)layers);
		return;
	}
	float *pictures = challenge_inputs(NULL, neurons, inputs, why, sizeof why);
	if (!pictures)
		printf("# graph challenge: skipped: %s\n", why);
	for (int i = 0; i < 3 && pictures; i++) {
		/* Once for what is made with the first launch. */
		good(challenge_run(&net, module, device, ways[i].candidate, pictures, batch, batch, ways[i].every, NULL, &r),
			 "graph challenge");
		good(challenge_run(&net, module, device, ways[i].candidate, pictures, inputs, batch, ways[i].every, NULL, &r),
			 "graph challenge");
		printf("RESULT gpu.graph_challenge.%lldx%lld.%s %.6g\n", (long long)neurons, (long long)layers, ways[i].name,
			   r.edges / r.seconds * 1e-12);
		if (ways[i].every)
			printf("RESULT gpu.graph_challenge.%lldx%lld.live_share %.4f\n", (long long)neurons, (long long)layers,
				   r.live);
		if (i == 0)
			first = r;
		if (i == 2)
			printf("RESULT gpu.graph_challenge.%lldx%lld.vs_cusparse %.4f\n", (long long)neurons, (long long)layers,
				   r.seconds / first.seconds);
		if (i && r.positive != first.positive)
			fprintf(stderr, "graph challenge: %s gave other categories\n", ways[i].name);
		fflush(stdout);
	}
	free(pictures);
	challenge_free(&net);
}

int main(int argc, char **argv) {
	char text[256];
	bool full = argc > 1 && !strcmp(argv[1], "full"), tiny = argc > 1 && !strcmp(argv[1], "tiny");
	int count = 0;
	if (cudaGetDeviceCount(&count) != cudaSuccess || !count) {
		fprintf(stderr, "gpu-bench: skipped: no GPU\n");
		return 77;
	}
	module = sl_backend_module(SL_BACKEND_ABI);
	cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
	host.stream = stream;
	good(module->open(&host, &device), "open");
	module->describe(device, text, sizeof text);
	printf("# %s\n", text);
	if (argc > 1 && !strcmp(argv[1], "challenge")) {
		bench_challenge(1024, 120, 60000, 4096);
		bench_challenge(4096, 120, 60000, 4096);
		bench_challenge(65536, 1920, 6000, 1024);
	} else if (tiny) { /* to see that it runs */
		bench_case(64, 48, 0.1, 16, SL_F32);
		bench_challenge(32, 3, 6, 4);
		results();
	} else {
		bench_all(full);
		results();
	}
	module->close(device);
	cuda(cudaStreamDestroy(stream), "stream");
	return 0;
}
