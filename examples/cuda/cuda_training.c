/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A training program that owns its stream and its memory on the GPU, and calls a sparse layer between work of its own
 * (cuBLAS here). With the argument "graph" the whole step, the program's part included, is captured once in a CUDA
 * graph and replayed. Nothing in a step allocates or waits.
 */
#include <math.h>
#include <string.h>

#include "cuda.h"

enum { IN = 96, OUT = 48, BATCH = 128, STEPS = 80 };

typedef struct program {
	cudaStream_t stream;
	cublasHandle_t blas;
	sl_context *context;
	sl_layer *layer;
	sl_saved *saved;
	float *x, *wanted, *y, *dy;
	float rate;
} program;

/* c = alpha a + beta b */
static void add(program *p, float alpha, const float *a, float beta, const float *b, float *c, int64_t count) {
	BLAS(cublasSgeam_64(p->blas, CUBLAS_OP_N, CUBLAS_OP_N, count, 1, &alpha, a, count, &beta, b, count, c, count));
}

/* One step of gradient descent on the mean of (y - wanted)^2. */
static void step(program *p) {
	sl_dense X = on_gpu(0, p->x, BATCH, IN), Y = on_gpu(0, p->y, BATCH, OUT), dY = on_gpu(0, p->dy, BATCH, OUT);
	SL(p->context, sl_layer_forward(p->context, p->layer, &X, &Y, p->saved));
	add(p, 2.0f / BATCH, p->y, -2.0f / BATCH, p->wanted, p->dy, BATCH * OUT);
	SL(p->context, sl_layer_backward(p->context, p->layer, p->saved, &dY, NULL, SL_OVERWRITE));
	for (int i = 0; i < sl_layer_parameter_count(p->layer); i++) {
		sl_parameter w = {.struct_size = sizeof w};
		SL(p->context, sl_layer_parameter(p->context, p->layer, i, &w));
		add(p, 1, w.value, -p->rate, w.gradient, w.value, w.count);
	}
}

/* What is to be learned: a layer of the same pattern. */
static void make_targets(program *p) {
	sl_layer *teacher;
	sl_dense X = on_gpu(0, p->x, BATCH, IN), T = on_gpu(0, p->wanted, BATCH, OUT);
	SL(p->context,
	   sl_linear_create(&teacher, p->context,
						&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = IN, .out_features = OUT,
											 .pattern = sl_csr_pattern(sl_layer_weights(p->layer)), .stream = 7}));
	SL(p->context, sl_layer_forward(p->context, teacher, &X, &T, NULL));
	sl_layer_destroy(teacher);
}

static void open_program(program *p) {
	void *workspace;
	const size_t bytes = (size_t)4 << 20;
	CUDA(cudaStreamCreateWithFlags(&p->stream, cudaStreamNonBlocking));
	p->context = context_on(0, p->stream);
	BLAS(cublasCreate(&p->blas));
	BLAS(cublasSetStream(p->blas, p->stream));
	CUDA(cudaMalloc(&workspace, bytes)); /* so that cuBLAS needs none of its own in the capture */
	BLAS(cublasSetWorkspace(p->blas, workspace, bytes));
	p->x = gpu_floats(BATCH * IN);
	p->y = gpu_floats(BATCH * OUT);
	p->dy = gpu_floats(BATCH * OUT);
	p->wanted = gpu_floats(BATCH * OUT);
	fill_random(p->x, BATCH * IN, 3, p->stream);
	SL(p->context, sl_linear_create(&p->layer, p->context,
									&(sl_linear_options){SL_LINEAR_DEFAULTS, .in_features = IN, .out_features = OUT,
														 .density = 0.2, .bias = true}));
	/* All planning, measuring and allocating. */
	SL(p->context, sl_layer_prepare(p->context, p->layer, BATCH, SL_MODE_TRAINING));
	SL(p->context, sl_saved_create(&p->saved, p->context, p->layer, BATCH));
	make_targets(p);
	p->rate = 0.25f;
	step(p); /* gradients exist from here on */
}

static cudaGraphExec_t capture(program *p) {
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	CUDA(cudaStreamBeginCapture(p->stream, cudaStreamCaptureModeThreadLocal));
	step(p);
	CUDA(cudaStreamEndCapture(p->stream, &graph));
	CUDA(cudaGraphInstantiate(&exec, graph, 0));
	CUDA(cudaGraphDestroy(graph));
	return exec;
}

int main(int argc, char **argv) {
	program p = {0};
	need_gpus(1);
	open_program(&p);
	double before = mean_square(p.dy, BATCH * OUT, p.stream);
	if (argc > 1 && !strcmp(argv[1], "graph")) {
		cudaGraphExec_t exec = capture(&p);
		uint64_t generation = sl_layer_generation(p.context, p.layer);
		for (int i = 0; i < STEPS; i++) {
			if (sl_layer_generation(p.context, p.layer) != generation) /* after an edit of the pattern, say */
				return 1;
			CUDA(cudaGraphLaunch(exec, p.stream));
		}
		CUDA(cudaStreamSynchronize(p.stream));
		CUDA(cudaGraphExecDestroy(exec));
	} else {
		for (int i = 0; i < STEPS; i++)
			step(&p);
	}
	double after = mean_square(p.dy, BATCH * OUT, p.stream);
	printf("%d steps%s: gradient of the outputs %.3g -> %.3g\n", STEPS, argc > 1 ? " by a graph" : "", sqrt(before),
		   sqrt(after));
	sl_saved_destroy(p.saved);
	sl_layer_destroy(p.layer);
	sl_context_destroy(p.context);
	return after < before * 1e-2 ? 0 : 1;
}
